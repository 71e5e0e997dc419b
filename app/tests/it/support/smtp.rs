//! Mail servers: a real one (aiosmtpd) with TLS and authentication, and one that answers as a test says.

use super::pki::Identity;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

/// Who may send, by the real server.
pub const USER: &str = "alerts";
/// With which password; it contains what the suites look for in errors.
pub const PASSWORD: &str = "hunter2-of-the-mailbox";

/// A real mail server; it ends when dropped.
pub struct MailServer {
    pub port: u16,
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
    _files: TempDir,
}

impl MailServer {
    /// Starts one: `starttls`, `implicit` or `none`. `None`, after saying so, when there is none on this machine.
    pub async fn start(mode: &str, identity: &Identity) -> Option<Self> {
        let Some(python) = python().await else {
            assert!(std::env::var_os("WATCHKEEPER_REQUIRE_ALL").is_none(), "aiosmtpd is required here");
            println!("SKIPPED: no aiosmtpd (Debian package python3-aiosmtpd)");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/mail_server.py");
        let (files, cert, key) = identity.files();
        let mut process = Command::new(python)
            .args([script.as_os_str(), mode.as_ref(), cert.as_os_str(), key.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("the mail server starts").parse().unwrap();
        Some(Self { port, lines, _process: process, _files: files })
    }

    /// The next message that it took.
    pub async fn taken(&mut self) -> Value {
        let line = tokio::time::timeout(super::provider::LIMIT, self.lines.next_line()).await.expect("a message comes");
        serde_json::from_str(&line.unwrap().unwrap()).unwrap()
    }
}

/// A Python that has aiosmtpd.
async fn python() -> Option<&'static str> {
    for python in ["/usr/bin/python3", "python3"] {
        let mut command = Command::new(python);
        command.args(["-c", "import aiosmtpd.smtp"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().await.is_ok_and(|status| status.success()) {
            return Some(python);
        }
    }
    None
}

/// A server that answers each command with the next of these replies, the greeting first, and then hangs up. `None` in
/// place of a reply: silence.
pub struct Scripted {
    pub port: u16,
    task: JoinHandle<Vec<String>>,
}

impl Scripted {
    pub async fn start(replies: Vec<Option<String>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // An end in the middle is what some of the tests want.
            converse(stream, replies).await
        });
        Self { port, task }
    }

    /// What it heard, when the conversation is over.
    pub async fn heard(self) -> Vec<String> {
        self.task.await.unwrap()
    }
}

async fn converse(mut stream: TcpStream, replies: Vec<Option<String>>) -> Vec<String> {
    let mut heard = Vec::new();
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    for reply in replies {
        let Some(reply) = reply else { std::future::pending().await };
        if writer.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() {
            break;
        }
        // A go-ahead for the message is followed by all of it.
        let until = if reply.starts_with("354") { Some(".") } else { None };
        loop {
            match lines.next_line().await {
                Ok(Some(line)) => {
                    let done = until.is_none_or(|end| line == end);
                    heard.push(line);
                    if done {
                        break;
                    }
                }
                Ok(None) | Err(_) => return heard,
            }
        }
    }
    heard
}
