//! What lies outside the program in a crash test, and outlives it: a service that is watched and a webhook that is told.

use super::scripted::{Script, Side};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the provider does with a message before it takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// 429, at once again.
    TooMany,
    /// 500.
    Fails,
    /// No answer, for as long as the program waits.
    Hangs,
    /// The connection ends in the middle of the answer's first line.
    Cuts,
}

/// One message that reached the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `Idempotency-Key`.
    pub key: String,
    /// The body's `event`.
    pub event: String,
    /// Whether the provider took it.
    pub taken: bool,
}

/// What lies outside the program and outlives it: a service that is watched (`/health`) and a webhook (`/hook`).
///
/// The service answers well once, then fails until somebody has been told, then is well again. Both follow the script as
/// the calls `target` and `provider`: stopped before, the call has been read and is never answered; stopped after, the
/// answer is on its way when the program dies.
pub struct Outside {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    script: Script,
    probes: u32,
    told: Vec<Told>,
    /// What is done with the next messages of an event before one is taken.
    acts: Vec<(&'static str, Act)>,
}

impl Outside {
    /// A provider that treats the first messages of each event so.
    pub fn start(acts: &[(&'static str, Act)]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { script: Script::new(None), probes: 0, told: Vec::new(), acts: acts.to_vec() }));
        let shared = Arc::clone(&state);
        // Ends with the process: a listener of this test's own disturbs nobody.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || receive(&stream, &state));
            }
        });
        Self { address, state }
    }

    /// Follows this script from now on.
    pub fn follow(&self, script: &Script) {
        self.state.lock().unwrap().script = script.clone();
    }

    /// What has reached the webhook, in order.
    pub fn told(&self) -> Vec<Told> {
        self.state.lock().unwrap().told.clone()
    }
}

/// What is written back to a caller.
enum Answer {
    /// Nothing, until the program gives up or is gone.
    Silence,
    /// This, and the end of the connection.
    Bytes(String),
}

impl State {
    fn answer(&mut self, request: &Request) -> (Answer, u32) {
        let call = if request.hook { "provider" } else { "target" };
        let nth = self.script.count(call);
        if request.hook {
            let body: serde_json::Value = serde_json::from_slice(&request.body).expect("a webhook's body is JSON");
            let event = body["event"].as_str().unwrap_or_default().to_owned();
            self.told.push(Told { key: request.key.clone(), event, taken: false });
        }
        if self.script.stops(call, nth, Side::Before) {
            return (Answer::Silence, nth);
        }
        let whole = |status: &str| Answer::Bytes(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"));
        if !request.hook {
            self.probes += 1;
            let heard = self.told.iter().any(|told| told.taken);
            return (whole(if self.probes == 1 || heard { "200 OK" } else { "503 Service Unavailable" }), nth);
        }
        let told = self.told.last_mut().expect("it has just been written down");
        let act = self.acts.iter().position(|(event, _)| *event == told.event).map(|at| self.acts.remove(at).1);
        let answer = match act {
            None => {
                told.taken = true;
                whole("200 OK")
            }
            Some(Act::TooMany) => whole("429 Too Many Requests\r\nRetry-After: 0"),
            Some(Act::Fails) => whole("500 Internal Server Error"),
            Some(Act::Hangs) => Answer::Silence,
            Some(Act::Cuts) => Answer::Bytes("HTTP/1.1 20".to_owned()),
        };
        (answer, nth)
    }
}

struct Request {
    hook: bool,
    key: String,
    body: Vec<u8>,
}

/// One request per connection: the program opens a fresh one for each.
fn receive(stream: &TcpStream, state: &Mutex<State>) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(stream);
    let Some(request) = read(&mut reader) else { return };
    let (answer, nth) = state.lock().unwrap().answer(&request);
    match answer {
        Answer::Silence => {
            let _ = reader.read(&mut [0]);
        }
        Answer::Bytes(bytes) => {
            let mut stream = stream;
            let _ = stream.write_all(bytes.as_bytes());
            state.lock().unwrap().script.stops(if request.hook { "provider" } else { "target" }, nth, Side::After);
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let (mut length, mut key) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "idempotency-key" => value.trim().clone_into(&mut key),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { hook: first.starts_with("POST /hook "), key, body })
}
