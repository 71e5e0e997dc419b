//! The executor: limits, timing and the span around one attempt of one probe.
//!
//! It owns the number of attempts under way, the deadline and the catching of panics; the probe owns the protocol.
//! It never retries, never decides, and hands every attempt to the engine exactly once.

use crate::clock::Clock;
use crate::lateness::Lateness;
use crate::net::{Guard, Net};
use crate::probe::{Attempt, ProbeContext};
use crate::spec::{MonitorSpec, Source};
use crate::telemetry::{ResultLabel, SharedMetrics};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use watchkeeper_core::{Blind, Micros, MonitorId, Outcome};

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

/// Starts attempts.
pub struct Executor {
    net: Arc<Net>,
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
        clock: Clock,
        metrics: SharedMetrics,
        lateness: Lateness,
        descriptors: u64,
        out: mpsc::Sender<Observed>,
    ) -> Arc<Self> {
        let room = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_KEPT)).unwrap_or(ATTEMPTS_MAX);
        let permits = Arc::new(Semaphore::new(room.clamp(16, ATTEMPTS_MAX)));
        Arc::new(Self { net, clock, metrics, lateness, permits, out })
    }

    /// Starts one attempt as a task of `tasks`, which ends with the monitor's id once the engine has the result.
    pub fn start(self: &Arc<Self>, tasks: &mut JoinSet<MonitorId>, spec: Arc<MonitorSpec>, scheduled: Micros, want_detail: bool) {
        let this = self.clone();
        tasks.spawn(async move {
            let id = spec.id;
            // The semaphore is never closed while tasks run.
            let permit = this.permits.acquire().await.ok();
            let at = this.clock.now();
            this.metrics.check_lag.observe((at - scheduled).0.max(0) as f64 / 1e6);
            this.metrics.checks_in_flight.inc();
            let attempt = this.attempt(&spec, want_detail).await;
            this.metrics.checks_in_flight.dec();
            drop(permit);
            this.report(Observed { spec, scheduled, at, attempt }).await;
            id
        });
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

    async fn attempt(&self, spec: &MonitorSpec, want_detail: bool) -> Attempt {
        let Source::Probe(probe) = &spec.source else {
            return Attempt::ended(Outcome::Unknown(Blind::Internal), Some("this kind has no probe".to_owned()));
        };
        let began = Instant::now();
        let deadline = began + spec.timeout.to_std();
        // Every monitor comes from a file, and so from whoever runs this node.
        let cx = ProbeContext { net: self.net.clone(), deadline, want_detail, guard: Guard::Open };
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
