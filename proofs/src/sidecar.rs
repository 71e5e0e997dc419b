//! `./prove sidecar`: how small and how fast the sidecar is: its static binary, its memory, and the calls it answers on one core.
//!
//! The sidecar has the first core for itself, the clients the second. A client makes one call at a time and reads its answer.

use crate::Setup;
use crate::child::on_core;
use crate::pod::Sidecar;
use crate::report::Section;
use crate::stats::cpu_seconds;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The promises.
const BINARY_MAX_BYTES: f64 = 4e6;
const MEMORY_MAX_BYTES: f64 = 8e6;
const RATE_MIN: f64 = 20_000.0;

const CLIENTS: usize = 32;
const MEASURED: Duration = Duration::from_secs(10);
const FRESH_MEASURED: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(10);

/// Builds the binary that is shipped.
pub fn static_binary() -> Result<PathBuf> {
    let built = Command::new("deploy/build-static")
        .arg("watchkeeper-sidecar")
        .stdout(Stdio::null())
        .status()
        .context("running deploy/build-static")?;
    anyhow::ensure!(built.success(), "deploy/build-static watchkeeper-sidecar failed");
    Path::new("deploy/watchkeeper-sidecar").canonicalize().context("finding deploy/watchkeeper-sidecar")
}

/// Measures.
pub fn prove(_: &Setup) -> Result<Section> {
    let what = format!(
        "`deploy/build-static watchkeeper-sidecar`, alone on one core, with `STATE_FILE`: every event is written down before it is answered. \
         {CLIENTS} clients on the other core, each starting and ending requests in turn over one connection, for {} s; then each call \
         over a connection of its own; then nearly as many \
         connections with long heads, and more requests with ids of 128 bytes, than it takes.",
        MEASURED.as_secs()
    );
    let mut section = Section::new("sidecar", what, 1, &["what", "measured"]);
    let binary = static_binary()?;
    let size = std::fs::metadata(&binary)?.len() as f64;
    section.row(vec!["static binary".into(), format!("{:.2} MB", size / 1e6)]);
    section.aim(size < BINARY_MAX_BYTES, "static binary under 4 MB");

    let folder = tempfile::tempdir()?;
    let state = folder.path().join("counts").display().to_string();
    let sidecar = Sidecar::start(on_core(Some(0), &binary), folder.path(), &[("STATE_FILE", &state), ("PATH", "/usr/bin:/bin")]);
    section.row(vec!["memory at start (RSS)".into(), format!("{:.2} MB", memory(&sidecar, "VmRSS")? / 1e6)]);

    let kept = load(&sidecar, MEASURED, true)?;
    section.row(vec!["calls over open connections".into(), kept.show()]);
    let fresh = load(&sidecar, FRESH_MEASURED, false)?;
    section.row(vec!["calls over a new connection each".into(), fresh.show()]);
    section.row(vec!["memory after both (RSS)".into(), format!("{:.2} MB", memory(&sidecar, "VmRSS")? / 1e6)]);
    section.aim(kept.rate() > RATE_MIN, &format!("{:.0} calls/s on one core, aim over 20 000", kept.rate()));
    let counted = (sidecar.series("requests_total"), sidecar.series("request_duration_seconds_count"), sidecar.series("active_requests"));
    let wanted = ((kept.starts + fresh.starts) as f64, (kept.ends + fresh.ends) as f64, 0.0);
    section.aim(counted == wanted, &format!("every one of {} starts and {} ends counted", wanted.0, wanted.1));

    crowd(&sidecar)?;
    let most = memory(&sidecar, "VmHWM")?;
    section.row(vec!["memory at its most (RSS)".into(), format!("{:.2} MB", most / 1e6)]);
    section.aim(most < MEMORY_MAX_BYTES, "memory under 8 MB at all times");
    Ok(section)
}

/// What a load came to.
struct Load {
    starts: u64,
    ends: u64,
    seconds: f64,
    cpu: f64,
}

impl Load {
    fn calls(&self) -> f64 {
        (self.starts + self.ends) as f64
    }

    fn rate(&self) -> f64 {
        self.calls() / self.seconds
    }

    fn show(&self) -> String {
        let (rate, cost) = (self.rate(), self.cpu / self.calls());
        format!("{rate:.0}/s; {:.1} µs of CPU each, which is {:.0}/s of a whole core", cost * 1e6, 1.0 / cost)
    }
}

fn load(sidecar: &Sidecar, time: Duration, keep: bool) -> Result<Load> {
    let stop = AtomicBool::new(false);
    let (cpu, began) = (cpu_seconds(sidecar.pid())?, Instant::now());
    let results: Vec<Result<u64>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| client(sidecar.port, &stop, keep))).collect();
        crate::child::pause(time);
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))).collect()
    });
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(sidecar.pid())? - cpu);
    let pairs = results.into_iter().sum::<Result<u64>>()?;
    Ok(Load { starts: pairs, ends: pairs, seconds, cpu })
}

/// Starts and ends requests until it is told to stop; how many.
fn client(port: u16, stop: &AtomicBool, keep: bool) -> Result<u64> {
    let mut core = rustix::thread::CpuSet::new();
    core.set(1);
    // On a machine with one core they share it.
    let _ = rustix::thread::sched_setaffinity(None, &core);
    let ask = |path: &str, close: &str| format!("POST {path} HTTP/1.1\r\nHost: localhost:8081\r\nContent-Length: 0\r\n{close}\r\n");
    let close = if keep { "" } else { "Connection: close\r\n" };
    let calls = [ask("/start-request", close), ask("/end-request?duration=0.0123s", close)];
    let connect = || -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(stream)
    };
    let mut stream = if keep { Some(connect()?) } else { None };
    let mut buffer = [0; 512];
    let mut pairs = 0;
    while !stop.load(Ordering::Relaxed) {
        for bytes in &calls {
            let mut fresh = None;
            let stream = match stream.as_mut() {
                Some(stream) => stream,
                None => fresh.insert(connect()?),
            };
            stream.write_all(bytes.as_bytes())?;
            let read = stream.read(&mut buffer)?;
            // The answer has no body and is one small packet.
            anyhow::ensure!(
                buffer[..read].starts_with(b"HTTP/1.1 200") && buffer[..read].ends_with(b"\r\n\r\n"),
                "an answer of {read} bytes"
            );
        }
        pairs += 1;
    }
    Ok(pairs)
}

/// The most that clients can make it hold: every connection and every id it takes.
fn crowd(sidecar: &Sidecar) -> Result<()> {
    let mut open = Vec::new();
    // Nearly all of its places, each with nearly the longest head; a few are left for the calls below.
    for (port, path, count) in [(sidecar.port, "/status", 250), (sidecar.metrics_port, "/metrics", 15)] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(7_800));
        for _ in 0..count {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(head.as_bytes())?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer)?;
            anyhow::ensure!(answer == *b"HTTP/1.1 200", "{path} answered {}", answer.escape_ascii());
            open.push(stream);
        }
    }
    for n in 0..5_000 {
        for path in [&format!("/start-request?id={n:0>128}"), "/start-request"] {
            let answer = sidecar.post(path);
            anyhow::ensure!(answer.status == 200, "{path} answered {}", answer.status);
        }
    }
    let answer = sidecar.get("/status");
    anyhow::ensure!(answer.head.contains("application/json"), "/status answered {}", answer.head);
    Ok(())
}

fn memory(sidecar: &Sidecar, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid()))?;
    let kib = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("/proc/PID/status has no {field}"))? * 1024.0)
}
