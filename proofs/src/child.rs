//! Processes that a proof starts: pinned to a core where that matters, ended with the proof however it ends.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that is killed when it goes out of scope.
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guard {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end (SIGTERM) and waits; kills it after `limit`.
    pub fn stop(self, limit: Duration) -> Result<bool> {
        Command::new("kill").arg(self.pid().to_string()).status().context("running kill")?;
        self.wait(limit)
    }

    /// Waits for its end and says whether it was a good one; kills it after `limit`.
    pub fn wait(mut self, limit: Duration) -> Result<bool> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.success());
            }
            pause(Duration::from_millis(20));
        }
        Ok(false)
    }
}

/// The command that runs `program` on one core (`taskset`), or anywhere.
pub fn on_core(core: Option<usize>, program: &Path) -> Command {
    match core {
        None => Command::new(program),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
    }
}

/// Waits; a proof has nothing else to do on this thread.
#[expect(clippy::disallowed_methods, reason = "a proof is one blocking script around the processes it measures")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until `ready` answers, at most `limit`.
pub fn until<T>(limit: Duration, what: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        anyhow::ensure!(Instant::now() < end, "{what} did not happen within {} s", limit.as_secs());
        pause(Duration::from_millis(20));
    }
}

/// GET over a plain local connection; the body of a 200, with an optional bearer token.
pub fn get(port: u16, path: &str, token: Option<&str>) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let auth = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{auth}\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    anyhow::ensure!(status == "200", "GET {path} answered {status}");
    Ok(body.to_owned())
}

/// A running `watchkeeper serve`.
pub struct Serve {
    /// The process.
    pub guard: Guard,
    /// Where its API listens.
    pub port: u16,
}

impl Serve {
    /// Starts the binary on a configuration and waits until `/ready` answers 200.
    pub fn start(binary: &Path, config: &Path, port: u16, core: Option<usize>, limit: Duration) -> Result<Self> {
        let dir = config.parent().context("the configuration has a folder")?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("serve.log"))?;
        let child = on_core(core, binary)
            .args(["serve", "--config"])
            .arg(config)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut guard = Guard(child);
        until(limit, "the start of watchkeeper", || {
            let ended = guard.0.try_wait().ok().flatten().map(Err);
            ended.or_else(|| get(port, "/ready", None).ok().map(Ok))
        })?
        .map_err(|status| {
            let log = std::fs::read_to_string(dir.join("serve.log")).unwrap_or_default();
            anyhow::anyhow!("watchkeeper ended at once with {status}: {}", log.lines().rev().take(5).collect::<Vec<_>>().join(" | "))
        })?;
        Ok(Self { guard, port })
    }

    /// Its metrics.
    pub fn metrics(&self) -> Result<String> {
        get(self.port, "/metrics", None)
    }
}
