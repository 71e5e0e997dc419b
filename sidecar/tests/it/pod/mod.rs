//! A pod of one worker and the real sidecar, as a platform makes and ends it. Used by the tests, and by `./prove drain` and
//! `./prove sidecar`, which include this file.
//!
//! The worker is a few threads of this process. Like the seed's worker it does not know how a drain works: it takes messages until it
//! is told to end, says when each begins and ends, and is cut when the pod is gone, which is when the sidecar has ended.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The sidecar listens within so long of its start.
const START_MAX: Duration = Duration::from_secs(30);

/// As clients do: a call is given up after so long, and errors are ignored.
const CALL_MAX: Duration = Duration::from_secs(1);

/// A running sidecar; killed when dropped.
pub struct Sidecar {
    child: Child,
    log: PathBuf,
    /// Where clients call.
    pub port: u16,
    /// Where Prometheus reads.
    pub metrics_port: u16,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sidecar {
    /// Starts it with these variables and nothing else set, on ports that are free; its log is a new file in the folder.
    pub fn start(command: Command, folder: &Path, variables: &[(&str, &str)]) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let log = folder.join(format!("sidecar-{}.log", STARTED.fetch_add(1, Ordering::Relaxed)));
        let mut command = command;
        command.env_clear().envs([("PORT", "0"), ("METRICS_PORT", "0"), ("LISTEN_ADDRESS", "127.0.0.1")]).envs(variables.iter().copied());
        let file = std::fs::File::create(&log).expect("a log file");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().expect("the sidecar starts");
        let until = Instant::now() + START_MAX;
        loop {
            let text = std::fs::read_to_string(&log).expect("the log");
            if let Some((port, metrics_port)) = ports(&text) {
                return Self { child, log, port, metrics_port };
            }
            let ended = child.try_wait().expect("its state");
            assert!(ended.is_none() && Instant::now() < until, "the sidecar did not begin to listen ({ended:?}): {text}");
            pause(Duration::from_millis(2));
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    /// Sends it a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().expect("kill runs").success());
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().expect("waited for")
    }

    /// GET on the main port.
    pub fn get(&self, path: &str) -> Answer {
        call(self.port, "GET", path, Duration::from_secs(60)).expect("answered")
    }

    /// POST on the main port.
    pub fn post(&self, path: &str) -> Answer {
        call(self.port, "POST", path, Duration::from_secs(60)).expect("answered")
    }

    /// The value of one of its series without labels.
    pub fn series(&self, name: &str) -> f64 {
        let text = call(self.metrics_port, "GET", "/metrics", Duration::from_secs(60)).expect("answered").body;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("watchkeeper_sidecar_{name} ")))
            .unwrap_or_else(|| panic!("no {name}: {text}"));
        line.parse().expect("a number")
    }
}

fn ports(log: &str) -> Option<(u16, u16)> {
    let line = log.lines().find(|line| line.contains(" listening on ") && line.contains("; grace"))?;
    let mut ports = line.split([' ', ',', ';']).filter_map(|word| word.rsplit_once(':').and_then(|(_, port)| port.parse().ok()));
    // The time of day has colons too, but ends in a letter.
    Some((ports.next()?, ports.next()?))
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// 200, …
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

/// One call over a connection of its own.
pub fn call(port: u16, method: &str, path: &str, limit: Duration) -> std::io::Result<Answer> {
    send(port, format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(), limit)
}

/// Sends these bytes and reads until the connection is closed.
pub fn send(port: u16, bytes: &[u8], limit: Duration) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(bytes)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    // An interim answer (100 Continue) comes before the one that counts.
    let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// Waits; these are blocking scripts around a process.
#[expect(clippy::disallowed_methods, reason = "a test of a process is a blocking script around it")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Random numbers from a seed (SplitMix64), so that a round can be repeated.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `limit` - 1.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// One message that the worker took.
#[derive(Clone, Debug)]
struct Taken {
    id: Option<String>,
    /// Whether the sidecar answered its start.
    told: bool,
    /// When its work is done.
    done_at: Instant,
    /// Whether it was worked on until then, and its end was then told and answered.
    end_told: bool,
}

/// What a round showed.
#[derive(Debug)]
pub struct Round {
    /// Messages taken.
    pub taken: usize,
    /// Requests cut, whether or not they would have ended in time.
    pub cut: usize,
    /// What must not be: a request cut that would have ended within the grace, a figure that disagrees, a stuck one that was not named.
    pub faults: Vec<String>,
    /// From the signal to the sidecar's end.
    pub lasted: Duration,
    /// Whether the sidecar says that it ended by force.
    pub forced: bool,
    /// From the end of the last request to the sidecar's end, where nothing was forced.
    pub after_last: Option<Duration>,
}

/// A worker under random load, and SIGTERM to its pod at a random moment.
///
/// `command` makes the sidecar's command. All random numbers come from `seed`.
pub fn drain_round(command: impl Fn() -> Command, folder: &Path, grace: Duration, seed: u64) -> Round {
    let mut dice = Dice::new(seed);
    let state_file = folder.join(format!("counts-{seed}"));
    let variables = [
        ("GRACE_PERIOD_SECONDS", format!("{}", grace.as_secs_f64())),
        ("STATE_FILE", state_file.to_str().expect("a plain path").to_owned()),
    ];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut sidecar = Sidecar::start(command(), folder, &variables);
    let worker = Worker {
        port: sidecar.port,
        grace,
        with_ids: dice.below(2) == 0,
        stop_taking: AtomicBool::new(false),
        gone: AtomicBool::new(false),
        taken: Mutex::new(Vec::new()),
    };
    let worker = Arc::new(worker);
    let slots: Vec<_> = (0..=dice.below(4))
        .map(|slot| {
            let (worker, mut dice) = (worker.clone(), Dice::new(seed.wrapping_mul(31).wrapping_add(slot)));
            std::thread::spawn(move || worker.slot(slot, &mut dice))
        })
        .collect();
    pause(Duration::from_millis(50 + dice.below(900)));

    // The platform ends the pod: `preStop`, and SIGTERM to the sidecar; the worker hears of it a moment later.
    let pre_stop = (dice.below(2) == 0).then(|| {
        let port = sidecar.port;
        std::thread::spawn(move || call(port, "GET", "/drain", grace + Duration::from_secs(60)))
    });
    let signalled = Instant::now();
    sidecar.signal("TERM");
    pause(Duration::from_millis(dice.below(60)));
    worker.stop_taking.store(true, Ordering::SeqCst);
    let status = sidecar.ended();
    let ended = Instant::now();
    worker.gone.store(true, Ordering::SeqCst);
    for slot in slots {
        slot.join().expect("a slot ends");
    }

    let forced = !status.success();
    let taken = worker.taken.lock().expect("no slot panicked").clone();
    let cut: Vec<&Taken> = taken.iter().filter(|t| t.done_at > ended).collect();
    let mut faults = Vec::new();
    for t in cut.iter().filter(|t| t.done_at <= signalled + grace) {
        faults.push(format!(
            "a request was cut that would have ended {:?} after the signal, and the grace is {grace:?}",
            t.done_at - signalled
        ));
    }
    let log = sidecar.log();
    for id in cut.iter().filter(|t| t.told).filter_map(|t| t.id.as_ref()) {
        if !log.contains(&format!("{id} since 20")) {
            faults.push(format!("the stuck request {id} is not named: {log}"));
        }
    }
    if forced != log.contains("still in flight:") {
        faults.push(format!("exit {status} and the log disagree: {log}"));
    }
    if let Some(pre_stop) = pre_stop {
        let wanted = if forced { 503 } else { 200 };
        match pre_stop.join().expect("preStop ends") {
            Ok(answer) if answer.status == wanted => {}
            // An idle pod's sidecar may be gone before its preStop begins.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            other => faults.push(format!("preStop was answered {other:?} instead of {wanted}")),
        }
    }
    // The next sidecar finds the same figures.
    let told = taken.iter().filter(|t| t.told).count() as f64;
    let ends = taken.iter().filter(|t| t.end_told).count() as f64;
    let again = Sidecar::start(command(), folder, &variables);
    let found = (again.series("requests_total"), again.series("active_requests"), again.series("unmatched_ends_total"));
    // A call that was cut by the end of the sidecar may have been counted without an answer.
    let unanswered = taken.iter().filter(|t| !t.told || (t.done_at <= ended && !t.end_told)).count() as f64;
    if (found.0 - told).abs() > unanswered || (found.1 - (told - ends)).abs() > unanswered || found.2 > unanswered {
        faults.push(format!("told {told} starts and {ends} ends, {unanswered} unanswered, and found again {found:?}"));
    }
    let last = taken.iter().map(|t| t.done_at).max();
    Round {
        taken: taken.len(),
        cut: cut.len(),
        faults,
        lasted: ended - signalled,
        forced,
        after_last: last.filter(|_| !forced).map(|last| ended.saturating_duration_since(last.max(signalled))),
    }
}

struct Worker {
    port: u16,
    grace: Duration,
    with_ids: bool,
    stop_taking: AtomicBool,
    gone: AtomicBool,
    taken: Mutex<Vec<Taken>>,
}

impl Worker {
    /// Takes messages one after the other.
    fn slot(&self, slot: u64, dice: &mut Dice) {
        for nth in 0.. {
            pause(Duration::from_millis(dice.below(120)));
            if self.stop_taking.load(Ordering::SeqCst) || self.gone.load(Ordering::SeqCst) {
                return;
            }
            self.message(format!("slot-{slot}/message-{nth}"), dice);
        }
    }

    fn message(&self, name: String, dice: &mut Dice) {
        // Most take a moment, some nearly the grace, a few longer than the grace or for ever.
        let grace_ms = u64::try_from(self.grace.as_millis()).expect("a short grace");
        let work = match dice.below(20) {
            0 => Duration::from_hours(1),
            1 | 2 => Duration::from_millis(dice.below(grace_ms * 2)),
            _ => Duration::from_millis(dice.below(200)),
        };
        let began = Instant::now();
        let id = self.with_ids.then_some(name);
        let query = id.as_ref().map(|id| format!("id={id}&")).unwrap_or_default();
        let done_at = began + work;
        let index = {
            let mut taken = self.taken.lock().expect("no slot panicked");
            taken.push(Taken { id, told: false, done_at, end_told: false });
            taken.len() - 1
        };
        let told = call(self.port, "POST", &format!("/start-request?{query}"), CALL_MAX).is_ok();
        self.taken.lock().expect("no slot panicked")[index].told = told;
        while Instant::now() < done_at {
            if self.gone.load(Ordering::SeqCst) {
                return;
            }
            pause(done_at.saturating_duration_since(Instant::now()).min(Duration::from_millis(5)));
        }
        let took = began.elapsed().as_secs_f64();
        let end_told = call(self.port, "POST", &format!("/end-request?{query}duration={took}s"), CALL_MAX).is_ok();
        self.taken.lock().expect("no slot panicked")[index].end_told = end_told;
    }
}
