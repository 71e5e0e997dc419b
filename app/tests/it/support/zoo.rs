//! HTTP attempts as the executor makes them, with a resolver of the test's own, and what must hold for every attempt
//! whatever it met.

use super::probing::{ROUNDS, probe};
use std::sync::Arc;
use std::time::{Duration, Instant};
use watchkeeper::clock::Clock;
use watchkeeper::net::{Guard, Net, Path};
use watchkeeper::probe::{Attempt, Hop, ProbeContext};
use watchkeeper_core::Outcome;

/// Enough for everything that is not meant to run out of time, on a busy machine too.
pub const PLENTY: Duration = Duration::from_secs(30);

/// For what is meant to run out of time: everything before it must fit in on a busy machine.
pub const SCARCE: Duration = Duration::from_secs(3);

/// A node without name servers.
pub fn net() -> Arc<Net> {
    net_asking(&[])
}

/// A node that asks these name servers.
pub fn net_asking(servers: &[std::net::SocketAddr]) -> Arc<Net> {
    Arc::new(Net::with_name_servers(Clock::system(), servers.to_vec()))
}

/// One attempt of the probe that the YAML describes.
pub async fn attempt(yaml: &str, net: &Arc<Net>, limit: Duration) -> Attempt {
    attempt_guarded(yaml, net, limit, Guard::Open).await
}

/// The same under a guard.
pub async fn attempt_guarded(yaml: &str, net: &Arc<Net>, limit: Duration, guard: Guard) -> Attempt {
    let probe = probe(yaml);
    let began = Instant::now();
    let cx = ProbeContext { net: Arc::clone(net), deadline: began + limit, want_detail: false, guard, path: Path::First };
    let attempt = probe.attempt(&cx).await;
    let took = u64::try_from(began.elapsed().as_micros()).unwrap();
    check_sum(&attempt);
    assert!(attempt.total_us <= took, "{} µs measured in {took} µs: {attempt:?}", attempt.total_us);
    assert_eq!(attempt.outcome == Outcome::Up, attempt.error.is_none(), "{attempt:?}");
    attempt
}

/// The phases add up to the whole.
pub fn check_sum(attempt: &Attempt) {
    let sum: u64 = attempt.hops.iter().map(Hop::sum_us).sum();
    assert_eq!(sum, attempt.total_us, "{attempt:?}");
}

/// Every one of [`ROUNDS`] attempts at once finds this.
pub async fn always(yaml: &str, net: &Arc<Net>, limit: Duration, wanted: Outcome) -> Vec<Attempt> {
    let attempts = futures_util::future::join_all((0..ROUNDS).map(|_| attempt(yaml, net, limit))).await;
    for attempt in &attempts {
        assert_eq!(attempt.outcome, wanted, "{yaml}: {attempt:?}");
    }
    attempts
}
