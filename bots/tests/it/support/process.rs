//! The program's roles as processes, with nothing set but what is said here.

use super::broker::Broker;
use super::telegram::Telegram;
use super::{KEY, SESSION, TOKEN, until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use watchkeeper_bots::names::BotId;

/// A running role; killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("── {}\n{}", self.log.display(), self.log());
        }
    }
}

impl Process {
    pub fn start(role: &str, folder: &Path, variables: &[(&str, &str)]) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let log = folder.join(format!("{role}-{}.log", STARTED.fetch_add(1, Ordering::Relaxed)));
        let file = std::fs::File::create(&log).expect("a log file");
        let child = Command::new(env!("CARGO_BIN_EXE_watchkeeper-bots"))
            .arg(role)
            .env_clear()
            .envs([("LISTEN_ADDRESS", "127.0.0.1"), ("LOG_LEVEL", "debug")])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Self { child, log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        until("the process ends", async || self.child.try_wait().expect("its state")).await
    }

    /// Waits until its log has this.
    pub async fn says(&mut self, text: &str) {
        until("it says so", async || {
            let log = self.log();
            assert!(self.child.try_wait().expect("its state").is_none(), "it has ended before it said {text:?}: {log}");
            log.contains(text).then_some(())
        })
        .await;
    }

    /// The ports that it says it listens on.
    pub async fn ports(&mut self) -> (u16, u16) {
        until("it listens", async || {
            let log = self.log();
            assert!(self.child.try_wait().expect("its state").is_none(), "it has ended: {log}");
            let line = log.lines().find(|line| line.contains(": listening on "))?.split_once(": listening on ")?.1.to_owned();
            let mut ports = line.split([' ', ',', ';']).filter_map(|word| word.rsplit_once(':')?.1.parse().ok());
            Some((ports.next()?, ports.next()?))
        })
        .await
    }
}

/// A gateway, and where it is.
pub struct Gateway {
    pub process: Process,
    pub url: String,
    pub port: u16,
    pub metrics_port: u16,
}

/// Starts a gateway on a port (0: any) with rates that nobody feels, unless said otherwise.
pub async fn gateway(broker: &Broker, telegram: &Telegram, folder: &Path, port: u16, more: &[(&str, &str)]) -> Gateway {
    let port = port.to_string();
    let mut variables = vec![
        ("PORT", port.as_str()),
        ("METRICS_PORT", "0"),
        ("KAFKA_BROKERS", &broker.brokers.list),
        ("KAFKA_SESSION_TIMEOUT_SECONDS", SESSION),
        ("WEBHOOK_KEY", KEY),
        ("BOT_API_URL", &telegram.url),
        ("BOT_PER_SECOND", "1000000"),
        ("CHAT_PER_SECOND", "1000000"),
        ("GROUP_PER_MINUTE", "1000000"),
    ];
    variables.extend(more);
    let mut process = Process::start("gateway", folder, &variables);
    let (port, metrics_port) = process.ports().await;
    Gateway { process, url: format!("http://127.0.0.1:{port}"), port, metrics_port }
}

/// Starts an echo worker of a bot, and waits until it says that it reads: before that a SIGTERM ends it like any other process.
pub async fn echo(broker: &Broker, bot: &BotId, folder: &Path, more: &[(&str, &str)]) -> Process {
    let mut variables = vec![
        ("BOT_ID", bot.as_str()),
        ("BOT_TOKEN", TOKEN),
        ("KAFKA_BROKERS", &broker.brokers.list),
        ("KAFKA_SESSION_TIMEOUT_SECONDS", SESSION),
    ];
    variables.extend(more);
    let mut process = Process::start("echo", folder, &variables);
    process.says(" reads ").await;
    process
}
