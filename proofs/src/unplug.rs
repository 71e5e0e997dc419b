//! `./prove unplug`: the node's own network is cut again and again, in three ways at random moments. Is it never said that a
//! target is down, and exactly once that the node was cut off? And is a target that really falls silent told all the same?

use crate::Setup;
use crate::child::{Guard, pause, until};
use crate::netns::{Cut, GATEWAY, NAME_SERVER, Wires, host};
use crate::report::Section;
use crate::stats::{Random, percentile};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use watchkeeper::store::{self, IncidentFilter, TenantScope};
use watchkeeper_core::{Micros, Outcome};

const ROUNDS: u32 = 30;
const HOSTS: u8 = 20;
const PORT: u16 = 8_470;
const HOOK_PORT: u16 = 9_000;
/// A state that takes longer to come is not coming.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs all rounds.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS).max(1);
    let what = format!(
        "The binary watches {HOSTS} hosts over HTTP, TCP and ICMP from a network namespace, every second, down after 2 failures. Its way out is cut \
         at random moments for 1 to 6 s: default route deleted, link down, or packets vanishing. At the end one host is taken away for good."
    );
    let mut section = Section::new("unplug", what, rounds, &["time", "p50", "p99", "max"]);
    let wires = Wires::lay(HOSTS).map_err(anyhow::Error::msg).context("making network namespaces; this proof needs root and iproute2")?;
    let messages = Arc::new(Mutex::new(Vec::new()));
    serve_all(&wires, &messages);
    let said = || messages.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let dir = tempfile::tempdir()?;
    let node = start(setup, &wires, dir.path())?;
    pause(Duration::from_secs(4));

    let mut random = Random::new(setup.seed);
    let (mut noticed, mut regained, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let how = [Cut::NoRoute, Cut::LinkDown, Cut::Silence][random.below(3) as usize];
        pause(Duration::from_millis(random.below(1_500)));
        let before = said().len();
        wires.cut(how).map_err(anyhow::Error::msg)?;
        let began = Instant::now();
        until(LIMIT, &format!("noticing the cut of round {round} ({how:?})"), || (vantage(&wires)? >= 2.0).then_some(()))?;
        noticed.push(began.elapsed().as_secs_f64());
        pause(Duration::from_millis(1_000 + random.below(5_000)));
        wires.mend(how).map_err(anyhow::Error::msg)?;
        let began = Instant::now();
        until(LIMIT, &format!("having the network back in round {round} ({how:?})"), || (vantage(&wires)? < 1.0).then_some(()))?;
        regained.push(began.elapsed().as_secs_f64());
        until(LIMIT, &format!("telling of round {round} ({how:?})"), || (said().len() > before).then_some(()))?;
        told.push(began.elapsed().as_secs_f64());
    }
    let about_node = said();
    wires.remove(HOSTS).map_err(anyhow::Error::msg)?;
    let gone = Instant::now();
    until(LIMIT, "telling of the host that is gone", || (said().len() > about_node.len()).then_some(()))?;
    let dead_told = gone.elapsed().as_secs_f64();
    node.stop(Duration::from_secs(20))?;

    for (name, values) in [("cut to noticed", &noticed), ("mended to network known to be back", &regained), ("mended to told", &told)] {
        let cell = |p: f64| format!("{:.3} s", percentile(values, p));
        section.row(vec![name.to_owned(), cell(50.0), cell(99.0), cell(100.0)]);
    }
    let wrong: Vec<String> = about_node.iter().filter(|text| !text.contains("cut_off")).cloned().collect();
    section.none(&wrong, "messages about anything but the node itself, while only its own network failed");
    section.aim(about_node.len() == rounds as usize, &format!("{} messages about {rounds} cuts", about_node.len()));
    section.aim(dead_told < 10.0, &format!("a host that really fell silent was told after {dead_told:.1} s"));
    let (down, unknown, incidents) = counted(dir.path(), &format!("host{HOSTS}"))?;
    section
        .aim(down == 0 && unknown > 0, &format!("{down} heartbeats down and {unknown} unknown at the hosts that were there all the time"));
    section.aim(incidents == 1, &format!("{incidents} incident, about the host that was taken away"));
    Ok(section)
}

fn start(setup: &Setup, wires: &Wires, dir: &Path) -> Result<Guard> {
    let mut config = format!(
        "server: {{ listen: \"127.0.0.1:{PORT}\" }}\nstore: {{ url: \"sqlite://wk.db\" }}\n\
         channels: [ {{ name: hook, webhook: {{ url: \"http://{GATEWAY}:{HOOK_PORT}/hook\" }} }} ]\n\
         defaults: {{ every: 1s, recheck: 1s, timeout: 500ms, down_after: 2 }}\nmonitors:\n"
    );
    for n in 1..=HOSTS {
        let at = host(n);
        let probe = match n % 3 {
            0 => format!("icmp: {{ host: \"{at}\", wait: 400ms }}"),
            1 => format!("http: {{ url: \"http://{at}/\" }}"),
            _ => format!("tcp: {{ address: \"{at}:80\" }}"),
        };
        config.push_str(&format!("  - {{ name: host{n}, probe: {{ {probe} }} }}\n"));
    }
    std::fs::write(dir.join("watchkeeper.yaml"), config)?;
    let log = std::fs::File::create(dir.join("serve.log"))?;
    let child = wires
        .command(&setup.binary)
        .args(["serve", "--config", "watchkeeper.yaml"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting watchkeeper in its namespace")?;
    let guard = Guard(child);
    until(LIMIT, "the start of watchkeeper", || vantage(wires))?;
    Ok(guard)
}

/// The node's own word about its network.
fn vantage(wires: &Wires) -> Option<f64> {
    let mut stream = wires.connect(PORT).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.lines().find_map(|line| line.strip_prefix("watchkeeper_vantage ")?.trim().parse().ok())
}

/// Web servers, a name server that answers everything with nothing, and a receiver of messages. They end with the process.
fn serve_all(wires: &Wires, messages: &Arc<Mutex<Vec<String>>>) {
    for n in 1..=HOSTS {
        let listener = wires.listen(host(n), 80);
        std::thread::spawn(move || serve(&listener, |_| {}));
    }
    let (listener, messages) = (wires.listen(GATEWAY, HOOK_PORT), Arc::clone(messages));
    std::thread::spawn(move || {
        serve(&listener, |body| messages.lock().unwrap_or_else(PoisonError::into_inner).push(body));
    });
    let socket = wires.datagrams(NAME_SERVER, 53);
    std::thread::spawn(move || names(&socket));
}

fn serve(listener: &TcpListener, mut taken: impl FnMut(String)) {
    for stream in listener.incoming().flatten() {
        // A caller that breaks off is its own affair.
        if let Ok(body) = serve_one(&stream) {
            taken(body);
        }
    }
}

fn serve_one(mut stream: &TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    Ok(body)
}

/// Turns every question into an answer without records (RFC 1035 section 4.1.1).
fn names(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if length >= 12 {
            buffer[2] |= 0x80;
            buffer[3] = 0x80;
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// Heartbeats down and unknown of all monitors but one, and all incidents.
fn counted(dir: &Path, but: &str) -> Result<(usize, usize, usize)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = store::open(&format!("sqlite://{}", dir.join("wk.db").display())).await?;
        let tenants = store.tenants().await?;
        let scope = TenantScope(tenants.first().context("there is a tenant")?.0);
        let (mut down, mut unknown) = (0, 0);
        for monitor in store.monitors(scope, None, i64::from(HOSTS)).await? {
            if monitor.name == but {
                continue;
            }
            for (beat, _) in store.heartbeats(scope, monitor.id, Micros(i64::MAX), 1_000).await? {
                match beat.outcome {
                    Outcome::Up => {}
                    Outcome::Down(_) => down += 1,
                    Outcome::Unknown(_) => unknown += 1,
                }
            }
        }
        let incidents = store.incidents(scope, &IncidentFilter { limit: 100, ..IncidentFilter::default() }).await?.len();
        store.close().await;
        Ok((down, unknown, incidents))
    })
}
