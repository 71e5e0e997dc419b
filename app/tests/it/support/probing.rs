//! Attempts against servers of the test's own: a probe is made from the words of a configuration file, as users make it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use watchkeeper::clock::Clock;
use watchkeeper::config::decode::Problems;
use watchkeeper::config::tree;
use watchkeeper::net::{Guard, Net, Path};
use watchkeeper::probe::{Attempt, FAMILY, Hop, Probe, ProbeConfig, ProbeContext};
use watchkeeper::spec::Source;
use watchkeeper_core::{Blind, Outcome, Reason};

/// Every fault of the zoo is shown so often and must be named rightly each time.
pub const ROUNDS: usize = 20;
/// Long enough for a busy machine: nothing that answers at all may run into it.
pub const PATIENT: Duration = Duration::from_secs(30);
/// For targets that never answer; all that comes before must fit in, also on a busy machine.
pub const SHORT: Duration = Duration::from_secs(2);
/// For targets that say a little and then nothing more: what they say must have come.
pub const LONGER: Duration = Duration::from_secs(5);

/// What a section such as `tls: { address: "…" }` says, or its problems, one per line.
pub fn config(section: &str) -> Result<ProbeConfig, String> {
    let mut problems = Problems::default();
    let node = tree::parse("test.yaml", section.as_bytes(), &|_| None, &mut problems);
    let config = node.and_then(|node| FAMILY.open(&node, &mut problems)?.kind);
    let lines: Vec<String> = problems.kept().iter().map(ToString::to_string).collect();
    if lines.is_empty() { config.ok_or_else(|| "nothing".to_owned()) } else { Err(lines.join("\n")) }
}

/// The probe of a section.
pub fn probe(section: &str) -> Box<dyn Probe> {
    match config(section).unwrap_or_else(|problems| panic!("{problems}")).build() {
        Source::Probe(probe) => probe,
        Source::Push { .. } => panic!("push has no attempts"),
    }
}

/// One attempt that must end within this time.
pub async fn attempt(probe: &dyn Probe, timeout: Duration) -> Attempt {
    attempt_with(&Arc::new(Net::system(Clock::system())), probe, timeout).await
}

/// The same with a resolver of the test's choice.
pub async fn attempt_with(net: &Arc<Net>, probe: &dyn Probe, timeout: Duration) -> Attempt {
    attempt_guarded(net, probe, timeout, Guard::Open).await
}

/// The same as if a tenant had typed the target.
pub async fn attempt_guarded(net: &Arc<Net>, probe: &dyn Probe, timeout: Duration, guard: Guard) -> Attempt {
    let deadline = Instant::now() + timeout;
    let attempt = probe.attempt(&ProbeContext { net: Arc::clone(net), guard, deadline, want_detail: true, path: Path::First }).await;
    let sum: u64 = attempt.hops.iter().map(Hop::sum_us).sum();
    assert_eq!(sum, attempt.total_us, "phases and total disagree: {attempt:?}");
    attempt
}

/// The same fault, every time.
pub async fn always_down(section: &str, timeout: Duration, reason: Reason) -> Attempt {
    always(section, timeout, Outcome::Down(reason)).await
}

/// The same excuse, every time.
pub async fn always_unknown(section: &str, timeout: Duration, blind: Blind) -> Attempt {
    always(section, timeout, Outcome::Unknown(blind)).await
}

/// Up, every time.
pub async fn always_up(section: &str) -> Attempt {
    always(section, PATIENT, Outcome::Up).await
}

async fn always(section: &str, timeout: Duration, wanted: Outcome) -> Attempt {
    let probe = probe(section);
    let net = Arc::new(Net::system(Clock::system()));
    let rounds = (0..ROUNDS).map(|_| attempt_with(&net, probe.as_ref(), timeout));
    let mut attempts = futures_util::future::join_all(rounds).await;
    for attempt in &attempts {
        assert_eq!(attempt.outcome, wanted, "{section}: {attempt:?}");
        assert_eq!(attempt.error.is_none(), wanted == Outcome::Up, "{attempt:?}");
    }
    attempts.remove(0)
}

/// Serves every connection with `talk` until the test's runtime ends.
pub async fn serve<F, Fut>(talk: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    address
}

/// Shakes hands and then reads until the client leaves.
pub async fn shake<S: AsyncRead + AsyncWrite + Unpin>(stream: S, config: Arc<rustls::ServerConfig>) {
    if let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// A TLS server.
pub async fn serve_tls(config: Arc<rustls::ServerConfig>) -> SocketAddr {
    serve(move |stream| shake(stream, Arc::clone(&config))).await
}

/// An address where nothing listens.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
