//! `./prove phases`: what the http probe measures against servers that delay each phase by a random amount and note their
//! own instants: over redirects, with a late accept, and when the attempt fails half-way.
//!
//! Probe and servers share a process and its monotonic clock, so that both sides can be compared; the probe is the code
//! of the shipped binary.

use crate::Setup;
use crate::report::Section;
use crate::stats::{Random, percentile};
use anyhow::{Context, Result};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use watchkeeper::clock::Clock;
use watchkeeper::config;
use watchkeeper::net::{self, Guard, Net};
use watchkeeper::probe::{Attempt, Hop, ProbeContext};
use watchkeeper::spec::Source;

const ROUNDS: u32 = 40;
/// Each phase is delayed by a random time up to this, in ms.
const DELAY_MAX_MS: u64 = 300;
/// Redirects in front of the last response.
const REDIRECTS: usize = 2;
/// Enough for every delay; a probe that hangs is ended by it.
const PLENTY: Duration = Duration::from_secs(20);
/// The attempt that fails half-way hangs before its first byte until this.
const SCARCE: Duration = Duration::from_millis(1_500);

/// What is delayed before each step, in ms.
#[derive(Clone, Copy, Debug, Default)]
struct Delays {
    dns: u64,
    hello: u64,
    first_byte: u64,
    body: u64,
}

/// The instants of one connection as the server saw them.
#[derive(Clone, Copy, Debug)]
struct Noted {
    accepted: Instant,
    greeted: Instant,
    /// First and last byte of the response; absent if it never answered.
    answered: Option<(Instant, Instant)>,
}

/// What both sides share.
#[derive(Default)]
struct Shared {
    delays: Mutex<Delays>,
    noted: Mutex<Vec<Noted>>,
    asked: Mutex<Vec<Duration>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Errors of one phase, in ms, with what was to be measured.
#[derive(Default)]
struct Errors {
    of: Vec<(f64, f64)>,
}

impl Errors {
    fn add(&mut self, measured_us: u64, real: Duration) {
        self.of.push((measured_us as f64 / 1e3 - real.as_secs_f64() * 1e3, real.as_secs_f64() * 1e3));
    }

    /// Beyond max(1 ms, 2 %).
    fn wrong(&self) -> usize {
        self.of.iter().filter(|(error, real)| error.abs() > (real * 0.02).max(1.0)).count()
    }
}

/// Runs all rounds.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS);
    let what = format!(
        "The http probe against servers that delay each phase by up to {DELAY_MAX_MS} ms and note their own instants: HTTPS over {REDIRECTS} redirects \
         with a slow name server, a late accept, and an attempt that runs out of time before its first byte."
    );
    let mut section = Section::new("phases", what, rounds, &["phase", "measured", "error p50", "p99", "max", "beyond max(1 ms, 2 %)"]);
    let dir = tempfile::tempdir()?;
    let shared = Arc::new(Shared::default());
    let (tls, ca) = identity(dir.path())?;
    let server = serve(shared.clone(), tls)?;
    let names = serve_names(shared.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let net = Arc::new(Net::with_name_servers(Clock::system(), vec![names]));
    let mut random = Random::new(setup.seed);
    let mut errors: [(&str, Errors); 6] =
        ["dns", "connect (late accept)", "tls", "first byte", "transfer", "first byte, cut short"].map(|name| (name, Errors::default()));
    for nth in 0..rounds {
        let mut delay = || 1 + random.below(DELAY_MAX_MS);
        *locked(&shared.delays) = Delays { dns: delay(), hello: delay(), first_byte: delay(), body: delay() };
        let late = Duration::from_millis(delay());
        let url = |path: &str| format!("url: \"https://shop.test:{}{path}\", ca_file: {}, ip_version: 4", server.port(), ca.display());
        redirected(&shared, &runtime, &net, &url(&format!("/{REDIRECTS}")), &mut errors).with_context(|| format!("round {nth}"))?;
        cut_short(&shared, &runtime, &net, &url("/hang"), &mut errors[5].1).with_context(|| format!("round {nth}"))?;
        late_accept(&runtime, &net, late, &mut errors[1].1).with_context(|| format!("round {nth}"))?;
    }
    for (name, errors) in &errors {
        let all: Vec<f64> = errors.of.iter().map(|(error, _)| error.abs()).collect();
        let cell = |p: f64| format!("{:.2} ms", percentile(&all, p));
        section.row(vec![(*name).to_owned(), all.len().to_string(), cell(50.0), cell(99.0), cell(100.0), errors.wrong().to_string()]);
    }
    let wrong: usize = errors.iter().map(|(_, e)| e.wrong()).sum();
    section.aim(wrong == 0, &format!("every phase right within max(1 ms, 2 %): {wrong} were not"));
    Ok(section)
}

fn attempt(runtime: &tokio::runtime::Runtime, net: &Arc<Net>, http: &str, limit: Duration) -> Result<(Attempt, Instant)> {
    let text = format!("monitors: [ {{ name: m, probe: {{ http: {{ {http} }} }} }} ]");
    let config = config::load_texts(&[("proof.yaml".to_owned(), text.into_bytes())], &|_| None).map_err(|bad| anyhow::anyhow!("{bad}"))?;
    let Source::Probe(probe) = config.tenants[0].monitors[0].probe.build() else { anyhow::bail!("http is a probe") };
    let began = Instant::now();
    let cx = ProbeContext { net: net.clone(), deadline: began + limit, want_detail: false, guard: Guard::Open, path: net::Path::First };
    let attempt = runtime.block_on(probe.attempt(&cx));
    let sum: u64 = attempt.hops.iter().map(Hop::sum_us).sum();
    anyhow::ensure!(sum == attempt.total_us, "the phases add up to {sum} µs, the total is {} µs", attempt.total_us);
    Ok((attempt, began))
}

fn redirected(
    shared: &Shared,
    runtime: &tokio::runtime::Runtime,
    net: &Arc<Net>,
    http: &str,
    errors: &mut [(&str, Errors); 6],
) -> Result<()> {
    locked(&shared.noted).clear();
    locked(&shared.asked).clear();
    let (attempt, _) = attempt(runtime, net, http, PLENTY)?;
    anyhow::ensure!(attempt.hops.len() == REDIRECTS + 1, "{attempt:?}");
    let noted = wait_for_notes(shared, REDIRECTS + 1)?;
    let asked = locked(&shared.asked).clone();
    anyhow::ensure!(asked.len() == attempt.hops.len(), "{} questions for {} hops", asked.len(), attempt.hops.len());
    for ((hop, noted), asked) in attempt.hops.iter().zip(noted).zip(asked) {
        let (first, last) = noted.answered.context("the server did not answer")?;
        errors[0].1.add(hop.dns_us, asked);
        errors[2].1.add(hop.tls_us, noted.greeted - noted.accepted);
        errors[3].1.add(hop.first_byte_us, first - noted.greeted);
        errors[4].1.add(hop.transfer_us, last - first);
    }
    Ok(())
}

fn cut_short(shared: &Shared, runtime: &tokio::runtime::Runtime, net: &Arc<Net>, http: &str, errors: &mut Errors) -> Result<()> {
    locked(&shared.noted).clear();
    let (attempt, began) = attempt(runtime, net, http, SCARCE)?;
    let noted = wait_for_notes(shared, 1)?;
    let hop = attempt.hops.first().context("an attempt without a hop")?;
    anyhow::ensure!(hop.first_byte_us > 0 && hop.transfer_us == 0, "{attempt:?}");
    errors.add(hop.first_byte_us, (began + SCARCE) - noted[0].greeted);
    Ok(())
}

/// The listener's queue is full until the accept: the kernel drops the SYN, and the prober's kernel sends it again.
fn late_accept(runtime: &tokio::runtime::Runtime, net: &Arc<Net>, late: Duration, errors: &mut Errors) -> Result<()> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    listener.listen(0)?;
    let address = listener.local_addr()?.as_socket().context("an address")?;
    let mut fillers = Vec::new();
    loop {
        anyhow::ensure!(fillers.len() < 16, "the queue of a listener with backlog 0 does not fill");
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let answered = filler.connect_timeout(&address.into(), Duration::from_millis(100)).is_ok();
        fillers.push(filler);
        if !answered {
            break;
        }
    }
    let ours = fillers.len() - 1;
    let accepting = std::thread::spawn(move || -> Result<Instant> {
        crate::child::pause(late);
        let listener: TcpListener = listener.into();
        drop(fillers);
        // Those that filled the queue come first.
        for _ in 0..ours {
            listener.accept()?;
        }
        loop {
            let (mut stream, _) = listener.accept()?;
            let accepted = Instant::now();
            // A filler whose SYN was sent again closes at once; the probe sends its request.
            if stream.read(&mut [0; 1_024])? > 0 {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                return Ok(accepted);
            }
        }
    });
    let (attempt, began) = attempt(runtime, net, &format!("url: \"http://{address}/\""), PLENTY)?;
    let accepted = accepting.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    let hop = attempt.hops.first().context("an attempt without a hop")?;
    // An address is resolved in no time; what lies before the connect is the probe's own beginning.
    errors.add(hop.connect_us, accepted - began);
    Ok(())
}

/// The server may still be at its last byte when the probe has it.
fn wait_for_notes(shared: &Shared, count: usize) -> Result<Vec<Noted>> {
    crate::child::until(Duration::from_secs(10), "the server's notes", || {
        let noted = locked(&shared.noted);
        (noted.len() >= count).then(|| noted.clone())
    })
}

fn serve(shared: Arc<Shared>, tls: Arc<ServerConfig>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let accepted = Instant::now();
            let (shared, tls) = (shared.clone(), tls.clone());
            std::thread::spawn(move || {
                // A prober that ran out of time closes in the middle; what was noted by then counts.
                let _ = talk(stream, accepted, &tls, &shared);
            });
        }
    });
    Ok(address)
}

fn talk(mut tcp: TcpStream, accepted: Instant, tls: &Arc<ServerConfig>, shared: &Shared) -> Result<()> {
    let delays = *locked(&shared.delays);
    let wait = |ms: u64| crate::child::pause(Duration::from_millis(ms));
    tcp.set_nodelay(true)?;
    wait(delays.hello);
    let mut connection = ServerConnection::new(tls.clone())?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    let greeted = Instant::now();
    let mut stream = StreamOwned::new(connection, tcp);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if head.starts_with("GET /hang ") {
        locked(&shared.noted).push(Noted { accepted, greeted, answered: None });
        let _ = stream.read(&mut [0; 16]);
        return Ok(());
    }
    let left: u32 = head.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).unwrap_or(0);
    let status = if left == 0 { "200 OK".to_owned() } else { format!("302 Found\r\nLocation: /{}", left - 1) };
    wait(delays.first_byte);
    let first = Instant::now();
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nbe").as_bytes())?;
    stream.flush()?;
    wait(delays.body);
    let last = Instant::now();
    stream.write_all(b"en")?;
    stream.flush()?;
    locked(&shared.noted).push(Noted { accepted, greeted, answered: Some((first, last)) });
    Ok(())
}

/// A name server that knows one address, after a delay.
fn serve_names(shared: Arc<Shared>) -> Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut question) {
            let began = Instant::now();
            crate::child::pause(Duration::from_millis(locked(&shared.delays).dns));
            let Some(name_end) = question[12..len].iter().position(|b| *b == 0).map(|at| at + 12) else { continue };
            let mut answer = question[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend(&question[12..name_end + 5]);
            // No time to live: every attempt asks anew.
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
            locked(&shared.asked).push(began.elapsed());
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(address)
}

fn identity(dir: &Path) -> Result<(Arc<ServerConfig>, PathBuf)> {
    let authority = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, params.self_signed(&authority)?.pem())?;
    let issuer = rcgen::Issuer::new(params, authority);
    let key = rcgen::KeyPair::generate()?;
    let leaf = rcgen::CertificateParams::new(vec!["shop.test".to_owned()])?.signed_by(&key, &issuer)?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow::anyhow!("{error}"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    Ok((Arc::new(config), ca))
}
