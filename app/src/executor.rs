//! The executor: limits, timing and the span around one attempt of one probe, and the confirmation of a failing one.
//!
//! It owns the number of attempts under way, the deadline and the catching of panics; the probe owns the protocol.
//! A silent attempt is held until it is known that this node's own network is there (`vantage`). A failure that would decide is
//! looked at once more over a second path, if there is one: if that is well, so is the target, and the evidence says
//! which path failed. Nothing else is ever tried again here; it never decides about health, and hands every attempt to the
//! engine exactly once.

use crate::clock::Clock;
use crate::lateness::Lateness;
use crate::net::{Avoid, Net, Path};
use crate::probe::{Attempt, ProbeContext};
use crate::spec::{MonitorSpec, Source};
use crate::telemetry::{ResultLabel, SharedMetrics};
use crate::vantage::Vantage;
use futures_util::FutureExt;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use watchkeeper_core::{Blind, Micros, MonitorId, Outcome, Reason};

/// So many attempts run at once at the most. More sockets than the process may open would make every further attempt
/// `Unknown(no_resource)`; fewer would let a fleet of hanging targets delay the healthy ones.
pub const ATTEMPTS_MAX: usize = 16_384;

/// Descriptors that are kept for the store, the API and deliveries.
const DESCRIPTORS_KEPT: u64 = 256;

/// A probe that has not returned so long after its deadline is cut off as our own fault.
const OVERRUN: Duration = Duration::from_secs(1);

/// Attempts that wait for the engine. When the engine is behind by so many, attempts hold their finished work and their next window coalesces.
pub const OBSERVED_MAX: usize = 4_096;

/// One attempt on its way to the engine.
pub struct Observed {
    /// Of which monitor, under which configuration.
    pub spec: Arc<MonitorSpec>,
    /// When it was due.
    pub scheduled: Micros,
    /// When it began.
    pub at: Micros,
    /// What it found.
    pub attempt: Attempt,
}

/// Which attempt is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// When it is due.
    pub scheduled: Micros,
    /// Whether to keep what is only stored when asked.
    pub detail: bool,
    /// Whether a failure of it may make the monitor down.
    pub deciding: bool,
}

/// Starts attempts.
pub struct Executor {
    net: Arc<Net>,
    vantage: Arc<Vantage>,
    clock: Clock,
    metrics: SharedMetrics,
    lateness: Lateness,
    permits: Arc<Semaphore>,
    out: mpsc::Sender<Observed>,
}

impl Executor {
    /// `descriptors` is how many the process may open.
    pub fn new(
        net: Arc<Net>,
        vantage: Arc<Vantage>,
        clock: Clock,
        metrics: SharedMetrics,
        lateness: Lateness,
        descriptors: u64,
        out: mpsc::Sender<Observed>,
    ) -> Arc<Self> {
        let room = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_KEPT)).unwrap_or(ATTEMPTS_MAX);
        let permits = Arc::new(Semaphore::new(room.clamp(16, ATTEMPTS_MAX)));
        Arc::new(Self { net, vantage, clock, metrics, lateness, permits, out })
    }

    /// Starts one attempt as a task of `tasks`, which ends with the monitor's id once the engine has the result.
    pub fn start(self: &Arc<Self>, tasks: &mut JoinSet<MonitorId>, spec: Arc<MonitorSpec>, turn: Turn) {
        let this = self.clone();
        tasks.spawn(async move {
            let id = spec.id;
            let (at, mut attempt) = this.make(&spec, &turn).await;
            this.vantage.settle(&spec, at, &mut attempt).await;
            if turn.deciding && spec.confirm && matches!(attempt.outcome, Outcome::Down(_)) {
                // Boxed: hardly any attempt comes here, and every one would carry its size.
                attempt = Box::pin(this.confirmed(&spec, attempt)).await;
            }
            this.report(Observed { spec, scheduled: turn.scheduled, at, attempt }).await;
            id
        });
    }

    async fn make(&self, spec: &MonitorSpec, turn: &Turn) -> (Micros, Attempt) {
        // The semaphore is never closed while tasks run.
        let _permit = self.permits.acquire().await.ok();
        let at = self.clock.now();
        self.metrics.check_lag.observe((at - turn.scheduled).0.max(0) as f64 / 1e6);
        self.metrics.checks_in_flight.inc();
        let attempt = self.attempt(spec, turn.detail, Path::First).await;
        self.metrics.checks_in_flight.dec();
        (at, attempt)
    }

    /// A failed attempt together with what a second path finds, if there is one; both have the same time.
    async fn confirmed(&self, spec: &MonitorSpec, first: Attempt) -> Attempt {
        let Some(avoid) = avoid(&first, self.net.name_servers().len()) else { return first };
        let _permit = self.permits.acquire().await.ok();
        let began = self.clock.now();
        let second = self.attempt(spec, true, Path::Second(avoid)).await;
        let (attempt, result) = merged(first, second);
        self.metrics.second_paths.get_or_create(&ResultLabel { result }).inc();
        if result == "up" {
            let mut up = attempt;
            self.vantage.settle(spec, began, &mut up).await;
            return up;
        }
        attempt
    }

    /// Records a window that this node reached too late.
    pub fn report_late(self: &Arc<Self>, tasks: &mut JoinSet<MonitorId>, spec: Arc<MonitorSpec>, scheduled: Micros) {
        let this = self.clone();
        tasks.spawn(async move {
            let id = spec.id;
            let attempt = Attempt::ended(Outcome::Unknown(Blind::Late), None);
            this.report(Observed { spec, scheduled, at: scheduled, attempt }).await;
            id
        });
    }

    async fn attempt(&self, spec: &MonitorSpec, want_detail: bool, path: Path) -> Attempt {
        let Source::Probe(probe) = &spec.source else {
            return Attempt::ended(Outcome::Unknown(Blind::Internal), Some("this kind has no probe".to_owned()));
        };
        let began = Instant::now();
        let deadline = began + spec.timeout.to_std();
        let cx = ProbeContext { net: self.net.clone(), deadline, want_detail, guard: spec.guard, path };
        let guarded = AssertUnwindSafe(probe.attempt(&cx)).catch_unwind();
        match tokio::time::timeout_at((deadline + OVERRUN).into(), guarded).await {
            Ok(Ok(attempt)) => self.unless_late(attempt, spec.timeout.to_std(), began),
            Ok(Err(_panic)) => {
                tracing::error!(monitor.name = %spec.name, kind = spec.kind, "the probe of {} panicked", spec.name);
                Attempt::ended(Outcome::Unknown(Blind::Internal), Some("the probe panicked".to_owned()))
            }
            Err(_elapsed) => {
                tracing::error!(monitor.name = %spec.name, kind = spec.kind, "the probe of {} did not obey its deadline", spec.name);
                Attempt::ended(Outcome::Unknown(Blind::Internal), Some("the probe did not obey its deadline".to_owned()))
            }
        }
    }

    /// A deadline that passed while this node ran everything late says nothing about the target.
    fn unless_late(&self, attempt: Attempt, timeout: Duration, began: Instant) -> Attempt {
        let Outcome::Down(reason) = attempt.outcome else { return attempt };
        if !reason.is_timeout() {
            return attempt;
        }
        let Some(late) = self.lateness.spoils(timeout, began, Instant::now()) else { return attempt };
        let seen = attempt.error.as_deref().unwrap_or(reason.sentence());
        let error = format!("this node ran its own tasks up to {} ms late, so that this says nothing: {seen}", late.as_millis());
        Attempt { outcome: Outcome::Unknown(Blind::Late), error: Some(error), ..attempt }
    }

    async fn report(&self, observed: Observed) {
        self.metrics.checks.get_or_create(&ResultLabel { result: observed.attempt.outcome.word() }).inc();
        tracing::debug!(monitor.name = %observed.spec.name, outcome = observed.attempt.outcome.word(), "attempt");
        // The engine is gone only when the process ends; the attempt is then lost like any in flight.
        let _ = self.out.send(observed).await;
    }
}

/// What a second path would have to avoid: the address that the attempt failed at, or the first name server if no address was
/// found. `None` if it failed before any way was taken, or there is no other.
fn avoid(first: &Attempt, name_servers: usize) -> Option<Avoid> {
    let address = first.hops.last().and_then(|hop| hop.address.as_deref());
    match (address, first.outcome) {
        (Some(address), _) => address
            .parse::<SocketAddr>()
            .map(|a| Avoid::Address(a.ip(), Some(a.port())))
            .or_else(|_| address.parse::<IpAddr>().map(|ip| Avoid::Address(ip, None)))
            .ok(),
        (None, Outcome::Down(reason)) => (name_servers > 1 && of_names(reason)).then_some(Avoid::NameServer),
        (None, Outcome::Up | Outcome::Unknown(_)) => None,
    }
}

/// Whether another name server may know better.
const fn of_names(reason: Reason) -> bool {
    // The codes of 1 to 19 are those of names.
    reason.code() < 20
}

/// What two paths amount to: up if the second is, else down with both told. A second path that we could not take is none.
fn merged(first: Attempt, second: Attempt) -> (Attempt, &'static str) {
    let of = |attempt: &Attempt| {
        let address = attempt.hops.last().and_then(|hop| hop.address.as_ref()).map(|address| format!(" ({address})")).unwrap_or_default();
        let error = attempt.error.as_deref().or(attempt.outcome.why()).unwrap_or_default();
        format!("path{address}: {error}")
    };
    let how = format!("first {}", of(&first));
    match second.outcome {
        Outcome::Up => (Attempt { first_path: Some(how), ..second }, "up"),
        Outcome::Down(_) => {
            let error = format!("{}; second {}", first.error.as_deref().unwrap_or_default(), of(&second));
            (Attempt { first_path: Some(how), error: Some(error), ..first }, "down")
        }
        Outcome::Unknown(_) => (first, "none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Hop;

    fn attempt(outcome: Outcome, address: Option<&str>, error: &str) -> Attempt {
        let hop = Hop { address: address.map(str::to_owned), ..Hop::default() };
        let error = (outcome != Outcome::Up).then(|| error.to_owned());
        Attempt { hops: vec![hop], ..Attempt::ended(outcome, error) }
    }

    const REFUSED: Outcome = Outcome::Down(Reason::TcpRefused);

    #[test]
    fn what_is_avoided_is_where_it_failed() {
        let at = |address| avoid(&attempt(REFUSED, Some(address), "no"), 1);
        assert_eq!(at("192.0.2.1:80"), Some(Avoid::Address("192.0.2.1".parse().unwrap(), Some(80))));
        assert_eq!(at("2001:db8::1"), Some(Avoid::Address("2001:db8::1".parse().unwrap(), None)));
        let names = attempt(Outcome::Down(Reason::DnsTimeout), None, "no");
        assert_eq!((avoid(&names, 2), avoid(&names, 1)), (Some(Avoid::NameServer), None));
        assert_eq!(avoid(&attempt(Outcome::Down(Reason::HttpBadRedirect), None, "no"), 2), None);
        for reason in Reason::ALL {
            assert_eq!(of_names(*reason), reason.as_str().starts_with("dns_"), "{reason:?}");
        }
    }

    #[test]
    fn a_second_path_decides_only_if_it_could_be_taken() {
        let first = || attempt(REFUSED, Some("192.0.2.1:80"), "connecting: refused");
        let (up, _) = merged(first(), attempt(Outcome::Up, Some("192.0.2.2:80"), ""));
        assert_eq!((up.outcome, up.error), (Outcome::Up, None));
        assert_eq!(up.first_path.as_deref(), Some("first path (192.0.2.1:80): connecting: refused"));
        let (down, _) = merged(first(), attempt(Outcome::Down(Reason::HttpStatus), Some("192.0.2.2:80"), "status 500"));
        assert_eq!(down.outcome, REFUSED);
        assert_eq!(down.error.as_deref(), Some("connecting: refused; second path (192.0.2.2:80): status 500"));
        let (none, _) = merged(first(), attempt(Outcome::Unknown(Blind::NoRoute), None, "no route"));
        assert_eq!(none, first());
    }
}
