//! What lies outside the program in a crash test, and outlives it: services that are watched and a webhook that is told.

use super::scripted::{Script, Side};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
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

/// The services, and how the provider behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Play {
    /// So many services. Of several the provider takes its time with the first message, until all that fail have been seen to.
    pub services: usize,
    /// So many of them, the last, are well until a digest has reached the provider, or all others have been told of.
    pub late: usize,
    /// What is done with the next messages of an event (`opened`, `digest of opened`, `digest of both`, …) before one is taken.
    pub acts: &'static [(&'static str, Act)],
}

/// One message that reached the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `Idempotency-Key`.
    pub key: String,
    /// The body's `event`; of a digest with that of its words.
    pub event: String,
    /// Its words: which service, which event.
    pub words: Vec<(usize, String)>,
    /// How many incidents it is about beside these.
    pub more: u64,
    /// Whether the provider took it.
    pub taken: bool,
}

/// A name for the n-th service's monitor.
pub fn service_name(nth: usize) -> String {
    format!("shop-{nth}")
}

/// What lies outside the program and outlives it: services that are watched (`/health/0`, …) and a webhook (`/hook`).
///
/// A service answers well once, then fails until somebody has been told of it, then is well again. All follow the script as
/// the calls `target` and `provider`: stopped before, the call has been read and is never answered; stopped after, the
/// answer is on its way when the program dies.
pub struct Outside {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy, Default)]
struct Service {
    probes: u32,
    /// Failing answers in this life of the program.
    failed: u32,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    script: Script,
    /// Which life of the program this is.
    life: u32,
    play: Play,
    services: Vec<Service>,
    told: Vec<Told>,
    /// What is left of the play's acts.
    acts: Vec<(&'static str, Act)>,
}

impl Outside {
    /// Plays so.
    pub fn start(play: Play) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let services = vec![Service::default(); play.services];
        let state = State { script: Script::new(None), life: 0, play, services, told: Vec::new(), acts: play.acts.to_vec() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_all = Arc::clone(&shared);
        // Ends with the process: a listener of this test's own disturbs nobody.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&of_all);
                std::thread::spawn(move || receive(&stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// Follows this script from now on: the program lives anew, and nobody of its last life is answered any more.
    pub fn follow(&self, script: &Script) {
        let mut state = self.shared.state.lock().unwrap();
        state.script = script.clone();
        state.life += 1;
        state.services.iter_mut().for_each(|service| service.failed = 0);
        drop(state);
        self.shared.changed.notify_all();
    }

    /// What has reached the webhook, in order.
    pub fn told(&self) -> Vec<Told> {
        self.shared.state.lock().unwrap().told.clone()
    }
}

/// What is written back to a caller.
enum Answer {
    /// Nothing, until the program gives up or is gone.
    Silence,
    /// This, and the end of the connection.
    Bytes(String),
}

/// The provider takes its time with a first message for so long at the most: less than the program waits for it.
const FIRST_TAKES: Duration = Duration::from_secs(6);

/// So many further looks at services that fail leave time enough for the commit of the ones before.
const JUST: u32 = 4;

impl Shared {
    fn answer(&self, request: &Request) -> (Answer, u32) {
        let told = matches!(request.what, What::Hook).then(|| told(request));
        let mut state = self.state.lock().unwrap();
        let nth = state.script.count(request.what.call());
        let answer = match request.what {
            What::Service(service) => {
                let stopped = state.script.stops("target", nth, Side::Before);
                let answer = if stopped { Answer::Silence } else { state.health(service) };
                drop(state);
                self.changed.notify_all();
                answer
            }
            What::Hook => {
                let at = state.told.len();
                state.told.extend(told);
                if state.script.stops("provider", nth, Side::Before) { Answer::Silence } else { self.take(state, at) }
            }
        };
        (answer, nth)
    }

    /// What becomes of the message at that place.
    fn take(&self, state: MutexGuard<'_, State>, at: usize) -> Answer {
        let life = state.life;
        let waits = |state: &mut State| state.life == life && !state.told[at].event.starts_with("digest") && state.begins();
        let (mut state, _) = self.changed.wait_timeout_while(state, FIRST_TAKES, waits).unwrap();
        if state.life != life || state.script.is_stopped() {
            return Answer::Silence;
        }
        let event = state.told[at].event.clone();
        let act = state.acts.iter().position(|(of, _)| *of == event).map(|place| state.acts.remove(place).1);
        match act {
            None => {
                state.told[at].taken = true;
                whole("200 OK")
            }
            Some(Act::TooMany) => whole("429 Too Many Requests\r\nRetry-After: 0"),
            Some(Act::Fails) => whole("500 Internal Server Error"),
            Some(Act::Hangs) => Answer::Silence,
            Some(Act::Cuts) => Answer::Bytes("HTTP/1.1 20".to_owned()),
        }
    }
}

impl State {
    fn health(&mut self, at: usize) -> Answer {
        self.services[at].probes += 1;
        let early = self.play.services - self.play.late;
        let digested = self.told.iter().any(|told| told.event.starts_with("digest"));
        let later = at >= early && !digested && !(0..early).all(|at| self.heard(at));
        if self.services[at].probes == 1 || later || self.heard(at) {
            return whole("200 OK");
        }
        self.services[at].failed += 1;
        whole("503 Service Unavailable")
    }

    /// Whether somebody has been told of that service.
    fn heard(&self, service: usize) -> bool {
        self.told.iter().any(|told| told.taken && told.words.iter().any(|(of, _)| *of == service))
    }

    /// Whether one of several services that fail has not been seen to, or only just: then not all of that is decided yet.
    fn begins(&self) -> bool {
        let early = 0..self.play.services - self.play.late;
        let untold = early.filter(|at| !self.heard(*at)).map(|at| self.services[at].failed);
        let (least, sum) = (untold.clone().min().unwrap_or(1), untold.clone().sum::<u32>());
        self.play.services > 1 && untold.count() > 0 && (least == 0 || sum < self.play.services as u32 + JUST)
    }
}

fn whole(status: &str) -> Answer {
    Answer::Bytes(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"))
}

/// The message as it arrived.
fn told(request: &Request) -> Told {
    let body: serde_json::Value = serde_json::from_slice(&request.body).expect("a webhook's body is JSON");
    let text = |of: &serde_json::Value| of["event"].as_str().unwrap_or_default().to_owned();
    let word = |of: &serde_json::Value| {
        let name = of["monitor"]["name"].as_str().and_then(|name| name.strip_prefix("shop-")).and_then(|nth| nth.parse().ok());
        (name.expect("a word is about a service of the test"), text(of))
    };
    let words: Vec<_> = match body["digest"]["words"].as_array() {
        Some(words) => words.iter().map(word).collect(),
        None => vec![word(&body)],
    };
    let event = match words.iter().map(|(_, event)| event.as_str()).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()[..] {
        _ if body["digest"].is_null() => text(&body),
        [only] => format!("digest of {only}"),
        _ => "digest of both".to_owned(),
    };
    Told { key: request.key.clone(), event, words, more: body["digest"]["more"].as_u64().unwrap_or_default(), taken: false }
}

#[derive(Clone, Copy)]
enum What {
    Service(usize),
    Hook,
}

impl What {
    const fn call(self) -> &'static str {
        match self {
            Self::Service(_) => "target",
            Self::Hook => "provider",
        }
    }
}

struct Request {
    what: What,
    key: String,
    body: Vec<u8>,
}

/// One request per connection: the program opens a fresh one for each.
fn receive(stream: &TcpStream, shared: &Shared) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(stream);
    let Some(request) = read(&mut reader) else { return };
    let (answer, nth) = shared.answer(&request);
    match answer {
        Answer::Silence => {
            let _ = reader.read(&mut [0]);
        }
        Answer::Bytes(bytes) => {
            let mut stream = stream;
            let _ = stream.write_all(bytes.as_bytes());
            shared.state.lock().unwrap().script.stops(request.what.call(), nth, Side::After);
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
    let path = first.split(' ').nth(1)?;
    let what = match path.strip_prefix("/health/") {
        Some(nth) => What::Service(nth.parse().ok()?),
        None if path == "/hook" => What::Hook,
        None => return None,
    };
    Some(Request { what, key, body })
}
