//! A webhook and a Telegram Bot API that write down every call with its time, and check its form.

use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use watchkeeper::clock::Clock;
use watchkeeper_core::Micros;

/// A larger body is not read: no message is near it.
const BODY_MAX: usize = 1024 * 1024;

/// Which provider was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// The webhook.
    Webhook,
    /// The Bot API.
    Telegram,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// When its last byte was read.
    pub at: Micros,
    /// To whom.
    pub provider: Provider,
    /// Whether something began or ended.
    pub opened: bool,
    /// The incident's public id.
    pub incident: String,
    /// The monitor's name.
    pub monitor: String,
}

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    malformed: Vec<String>,
}

/// The running stand-in; its thread ends with the process.
#[derive(Clone)]
pub struct StandIn {
    /// Where it listens.
    pub port: u16,
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
}

impl StandIn {
    /// Starts it.
    pub fn start(clock: Clock) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("opening a port for the stand-in")?;
        let this = Self { port: listener.local_addr()?.port(), clock, seen: Arc::default() };
        let shared = this.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || shared.talk(stream));
            }
        });
        Ok(this)
    }

    /// The two channels as they stand in a configuration.
    pub fn channels(&self) -> String {
        let port = self.port;
        format!(
            "channels:\n  - {{ name: hook, webhook: {{ url: \"http://127.0.0.1:{port}/hook\" }} }}\n  \
             - {{ name: chat, telegram: {{ bot_token: \"1:proof\", chat_id: \"-100\", api_url: \"http://127.0.0.1:{port}\" }} }}\n"
        )
    }

    /// Every call so far that `wanted` takes.
    pub fn calls(&self, wanted: impl Fn(&Call) -> bool) -> Vec<Call> {
        self.lock().calls.iter().filter(|call| wanted(call)).cloned().collect()
    }

    /// What was wrong with the form of calls.
    pub fn malformed(&self) -> Vec<String> {
        self.lock().malformed.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::needless_pass_by_value, reason = "the connection ends here")]
    fn talk(&self, stream: TcpStream) {
        let Some((path, body)) = read_request(&stream) else { return };
        let at = self.clock.now();
        match understood(&path, &body, at) {
            Ok(call) => self.lock().calls.push(call),
            Err(problem) => self.lock().malformed.push(problem),
        }
        let answer = r#"{"ok":true,"result":{"message_id":1}}"#;
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
        // A caller that was killed while it waited does not read it.
        let _ = (&stream).write_all(format!("{head}{answer}").as_bytes());
    }
}

fn read_request(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let (mut path, mut length) = (String::new(), 0_usize);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if path.is_empty() {
            line.strip_prefix("POST ")?.split(' ').next()?.clone_into(&mut path);
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length.min(BODY_MAX)];
    reader.read_exact(&mut body).ok()?;
    Some((path, body))
}

/// The call, or what is wrong with its form.
fn understood(path: &str, body: &[u8], at: Micros) -> Result<Call, String> {
    let body: Value = serde_json::from_slice(body).map_err(|error| format!("{path}: not JSON: {error}"))?;
    let text = |pointer: &str| {
        let found = body.pointer(pointer).and_then(Value::as_str).filter(|t| !t.is_empty());
        found.map(str::to_owned).ok_or_else(|| format!("{path}: {pointer} is missing"))
    };
    if path == "/hook" {
        let event = text("/event")?;
        text("/key")?;
        let opened = match event.as_str() {
            "opened" => true,
            "resolved" => false,
            other => return Err(format!("{path}: unknown event {other}")),
        };
        return Ok(Call { at, provider: Provider::Webhook, opened, incident: text("/incident/id")?, monitor: text("/monitor/name")? });
    }
    if path != "/bot1:proof/sendMessage" {
        return Err(format!("{path}: unknown path"));
    }
    if body.get("chat_id").and_then(Value::as_i64) != Some(-100) {
        return Err(format!("{path}: chat_id is not the configured one"));
    }
    let message = text("/text")?;
    if message.encode_utf16().count() > 4_096 {
        return Err(format!("{path}: the text is longer than Telegram takes"));
    }
    let title = message.lines().next().unwrap_or_default().replace("<b>", "").replace("</b>", "");
    let monitor = title.split(' ').nth(1).unwrap_or_default().to_owned();
    let incident = message.rsplit("Incident ").next().unwrap_or_default().trim().to_owned();
    Ok(Call { at, provider: Provider::Telegram, opened: !title.starts_with('🟢'), incident, monitor })
}
