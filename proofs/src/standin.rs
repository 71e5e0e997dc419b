//! Webhooks and a Telegram Bot API that write down every message with its time, and check its form.

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

/// One message that was taken.
#[derive(Clone, Debug)]
pub struct Call {
    /// When its last byte was read.
    pub at: Micros,
    /// To whom.
    pub provider: Provider,
    /// Which of its channels: the path of a webhook, the number of a chat.
    pub channel: String,
    /// What it said; at most twenty words of a digest.
    pub words: Vec<Word>,
    /// How many incidents it was about, also those that a digest only counts.
    pub incidents: u64,
}

/// One word about one incident.
#[derive(Clone, Debug)]
pub struct Word {
    /// Whether something began or ended.
    pub opened: bool,
    /// The incident's public id; empty in a digest in a chat, which names monitors only.
    pub incident: String,
    /// The monitor's name.
    pub monitor: String,
}

/// What a stand-in does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes it.
    Takes,
    /// 429, at once again.
    TooMany,
    /// 500.
    Fails,
    /// No answer until the caller is gone.
    Hangs,
    /// The connection ends in the middle of the answer's first line.
    Cuts,
}

/// Chooses the mood for the next message.
pub type Moods = Box<dyn FnMut() -> Mood + Send>;

#[derive(Default)]
struct Seen {
    calls: Vec<Call>,
    malformed: Vec<String>,
    refused: u64,
}

/// The running stand-in; its thread ends with the process.
#[derive(Clone)]
pub struct StandIn {
    /// Where it listens.
    pub port: u16,
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
    moods: Arc<Mutex<Moods>>,
}

impl StandIn {
    /// Starts one that takes every message.
    pub fn start(clock: Clock) -> Result<Self> {
        Self::moody(clock, Box::new(|| Mood::Takes))
    }

    /// Starts one that has moods.
    pub fn moody(clock: Clock, moods: Moods) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("opening a port for the stand-in")?;
        let this = Self { port: listener.local_addr()?.port(), clock, seen: Arc::default(), moods: Arc::new(Mutex::new(moods)) };
        let shared = this.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || shared.talk(stream));
            }
        });
        Ok(this)
    }

    /// A webhook as it stands in a configuration; each path is one of its own.
    pub fn hook(&self, name: &str) -> String {
        format!("  - {{ name: {name}, webhook: {{ url: \"http://127.0.0.1:{}/{name}\" }} }}\n", self.port)
    }

    /// A Telegram chat as it stands in a configuration. Negative numbers are groups.
    pub fn chat(&self, name: &str, id: i64) -> String {
        let port = self.port;
        format!("  - {{ name: {name}, telegram: {{ bot_token: \"1:proof\", chat_id: \"{id}\", api_url: \"http://127.0.0.1:{port}\" }} }}\n")
    }

    /// Every message so far that `wanted` takes.
    pub fn calls(&self, wanted: impl Fn(&Call) -> bool) -> Vec<Call> {
        self.lock().calls.iter().filter(|call| wanted(call)).cloned().collect()
    }

    /// Every word so far that `wanted` takes, with its message.
    pub fn words(&self, wanted: impl Fn(&Call, &Word) -> bool) -> Vec<(Call, Word)> {
        let seen = self.lock();
        let all = seen.calls.iter().flat_map(|call| call.words.iter().map(move |word| (call, word)));
        all.filter(|(call, word)| wanted(call, word)).map(|(call, word)| (call.clone(), word.clone())).collect()
    }

    /// Whether there is such a word.
    pub fn heard(&self, wanted: impl Fn(&Call, &Word) -> bool) -> bool {
        self.lock().calls.iter().rev().any(|call| call.words.iter().any(|word| wanted(call, word)))
    }

    /// What was wrong with the form of calls.
    pub fn malformed(&self) -> Vec<String> {
        self.lock().malformed.clone()
    }

    /// How many messages were not taken.
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::needless_pass_by_value, reason = "the connection ends here")]
    fn talk(&self, stream: TcpStream) {
        let mut reader = BufReader::new(&stream);
        let Some((path, body)) = read_request(&mut reader) else { return };
        let at = self.clock.now();
        let mood = (self.moods.lock().unwrap_or_else(PoisonError::into_inner))();
        let (status, body) = match mood {
            Mood::Takes => {
                match understood(&path, &body, at) {
                    Ok(call) => self.lock().calls.extend(call),
                    Err(problem) => self.lock().malformed.push(problem),
                }
                ("200 OK", r#"{"ok":true,"result":{"message_id":1}}"#)
            }
            Mood::TooMany => ("429 Too Many Requests\r\nRetry-After: 0", r#"{"ok":false,"error_code":429,"parameters":{"retry_after":0}}"#),
            Mood::Fails => ("500 Internal Server Error", r#"{"ok":false,"error_code":500}"#),
            Mood::Hangs => {
                self.lock().refused += 1;
                // Until the caller has gone, or has given up.
                let _ = reader.read(&mut [0]);
                return;
            }
            Mood::Cuts => {
                self.lock().refused += 1;
                let _ = (&stream).write_all(b"HTTP/1.1 20");
                return;
            }
        };
        self.lock().refused += u64::from(mood != Mood::Takes);
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        // A caller that was killed while it waited does not read it.
        let _ = (&stream).write_all(format!("{head}{body}").as_bytes());
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
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

/// The message, or what is wrong with its form; nothing for a change of an earlier message.
fn understood(path: &str, body: &[u8], at: Micros) -> Result<Option<Call>, String> {
    let body: Value = serde_json::from_slice(body).map_err(|error| format!("{path}: not JSON: {error}"))?;
    match path {
        "/bot1:proof/sendMessage" => chat_message(&body, at).map(Some).map_err(|problem| format!("{path}: {problem}")),
        "/bot1:proof/editMessageText" => Ok(None),
        other if other.starts_with("/bot") => Err(format!("{path}: unknown path")),
        hook => hook_message(hook.trim_start_matches('/'), &body, at).map(Some).map_err(|problem| format!("{path}: {problem}")),
    }
}

fn hook_message(channel: &str, body: &Value, at: Micros) -> Result<Call, String> {
    let event = text(body, "/event")?;
    text(body, "/key")?;
    let (words, incidents) = if event == "digest" {
        let words = body["digest"]["words"].as_array().ok_or("/digest/words is missing")?;
        let count = |key: &str| body["digest"][key].as_u64().ok_or_else(|| format!("/digest/{key} is missing"));
        (words.iter().map(hook_word).collect::<Result<_, _>>()?, count("open")? + count("resolved")?)
    } else if body["incident"].is_null() {
        // A report, or a word about the node.
        (Vec::new(), 0)
    } else {
        (vec![hook_word(body)?], 1)
    };
    Ok(Call { at, provider: Provider::Webhook, channel: channel.to_owned(), words, incidents })
}

fn hook_word(body: &Value) -> Result<Word, String> {
    let opened = match text(body, "/event")?.as_str() {
        "opened" => true,
        "resolved" => false,
        other => return Err(format!("unknown event {other}")),
    };
    Ok(Word { opened, incident: text(body, "/incident/id")?, monitor: text(body, "/monitor/name")? })
}

fn chat_message(body: &Value, at: Micros) -> Result<Call, String> {
    let chat = body.get("chat_id").and_then(Value::as_i64).ok_or("chat_id is no number")?;
    let message = text(body, "/text")?;
    if message.encode_utf16().count() > 4_096 {
        return Err("the text is longer than Telegram takes".to_owned());
    }
    let plain = message.replace("<b>", "").replace("</b>", "");
    let mut lines = plain.lines();
    let title = lines.next().unwrap_or_default();
    let word = |line: &str, incident: &str| Word {
        opened: !line.starts_with('🟢'),
        incident: incident.to_owned(),
        monitor: line.split(' ').nth(1).unwrap_or_default().to_owned(),
    };
    let (words, incidents) = if let Some((_, incident)) = message.rsplit_once("Incident ") {
        (vec![word(title, incident.trim())], 1)
    } else {
        // A digest: one line for each incident, and its numbers in the title.
        let numbers = title.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok()).sum();
        (lines.map(|line| word(line, "")).collect(), numbers)
    };
    Ok(Call { at, provider: Provider::Telegram, channel: chat.to_string(), words, incidents })
}

fn text(body: &Value, pointer: &str) -> Result<String, String> {
    let found = body.pointer(pointer).and_then(Value::as_str).filter(|t| !t.is_empty());
    found.map(str::to_owned).ok_or_else(|| format!("{pointer} is missing"))
}
