//! The schedule: starts attempts when they are due.
//!
//! One task holds every monitor's next window. It never waits for an attempt: a monitor whose last attempt still
//! runs has its window *coalesced* (counted, no heartbeat); a window that this node reached too late is recorded as
//! `Unknown(late)`, never invented as up or down. It decides nothing about health; the engine sets the pace.

mod cadence;

pub use cadence::{Cadence, Cron, Every, Plan, spread_of};

use crate::clock::Clock;
use crate::executor::{Executor, Turn};
use crate::spec::{MonitorSpec, Source};
use crate::telemetry::{ReasonLabel, SharedMetrics};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::sight::Pace;
use watchkeeper_core::{Dur, Micros, MonitorId};

/// What the engine tells the schedule.
pub enum Command {
    /// Watch these from now on (or with a new configuration), at this pace. Of what is new here: when it was looked at last, by whomever.
    Watch(Vec<(Arc<MonitorSpec>, Pace, Option<Micros>)>),
    /// Do not start further attempts of these.
    Unwatch(Vec<MonitorId>),
    /// The pace of these changed.
    Pace(Vec<(MonitorId, Pace)>),
}

/// The engine waits when so many commands are unread. The schedule reads them at once, so any small number does.
pub const COMMANDS_MAX: usize = 64;

/// A window is called missed when its start is later than this and later than one interval: shorter delays are only lag.
const LATE_AFTER: Dur = Dur::secs(1);

struct Entry {
    spec: Arc<MonitorSpec>,
    pace: Pace,
    spread: u64,
    last: Option<Micros>,
    due: Micros,
    running: bool,
    /// Attempts since the pace became that of a streak.
    rechecks: u16,
}

impl Entry {
    /// Whether a failure of the next attempt may make the monitor down. A streak that began before this schedule knew of it may
    /// have any length.
    fn deciding(&self) -> bool {
        let down_after = self.spec.sight.down_after;
        match self.pace {
            Pace::Recheck => self.rechecks.saturating_add(2) >= down_after,
            Pace::Steady(Health::Down) => false,
            Pace::Steady(Health::Up | Health::Degraded | Health::Pending | Health::Unknown) => down_after <= 1,
        }
    }
}

/// The task's state.
pub struct Scheduler {
    executor: Arc<Executor>,
    clock: Clock,
    metrics: SharedMetrics,
    entries: HashMap<MonitorId, Entry>,
    queue: BinaryHeap<Reverse<(Micros, MonitorId)>>,
    attempts: JoinSet<MonitorId>,
    lag: Arc<AtomicI64>,
}

impl Scheduler {
    /// A schedule without monitors. `lag` is kept at how late the newest start was, in µs.
    pub fn new(executor: Arc<Executor>, clock: Clock, metrics: SharedMetrics, lag: Arc<AtomicI64>) -> Self {
        Self { executor, clock, metrics, entries: HashMap::new(), queue: BinaryHeap::new(), attempts: JoinSet::new(), lag }
    }

    /// Runs until `stop`, then waits up to `grace` for the attempts in hand.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken, grace: Duration) {
        loop {
            let next = self.queue.peek().map_or(self.clock.now() + Dur::secs(3_600), |Reverse((due, _))| *due);
            tokio::select! {
                () = stop.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                Some(done) = self.attempts.join_next() => {
                    // An attempt catches its own panics; a cancelled one has nothing to reschedule.
                    if let Ok(id) = done {
                        self.finished(id);
                    }
                }
                () = tokio::time::sleep_until(self.clock.instant_of(next).into()) => self.start_due(),
            }
        }
        let drained = tokio::time::timeout(grace, async { while self.attempts.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!(attempts = self.attempts.len(), "attempts were still running at the end of the grace; they are lost");
            self.attempts.shutdown().await;
        }
    }

    fn obey(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Watch(specs) => {
                self.entries.reserve(specs.len());
                for (spec, pace, looked) in specs {
                    self.watch(spec, pace, looked, now);
                }
            }
            Command::Unwatch(ids) => {
                for id in ids {
                    self.entries.remove(&id);
                }
            }
            Command::Pace(paces) => {
                for (id, pace) in paces {
                    if let Some(entry) = self.entries.get_mut(&id)
                        && entry.pace != pace
                    {
                        entry.pace = pace;
                        entry.rechecks = 0;
                        if !entry.running {
                            plan(entry, id, &mut self.queue, now);
                        }
                    }
                }
            }
        }
        self.metrics.monitors.set(self.entries.len() as i64);
    }

    fn watch(&mut self, spec: Arc<MonitorSpec>, pace: Pace, looked: Option<Micros>, now: Micros) {
        let id = spec.id;
        let looked = looked.filter(|_| !self.entries.contains_key(&id));
        let (last, running) = self.entries.get(&id).map_or((None, false), |old| (old.last, old.running));
        if spec.paused || matches!(spec.source, Source::Push { .. }) {
            self.entries.remove(&id);
            return;
        }
        let spread = spread_of(id.0);
        // A window that fell between two nodes, or two lives of one, is run now.
        let overdue = looked.and_then(|looked| spec.cadence.overdue(spread, pace, looked, now));
        let mut entry = Entry { spread, spec, pace, last: last.or(looked), due: Micros(i64::MAX), running, rechecks: u16::MAX };
        if let Some((window, before)) = overdue {
            self.metrics.missed_windows.get_or_create(&ReasonLabel { reason: "away" }).inc_by(before);
            // Where things are looked at more rarely while they are down, it is not too late yet.
            entry.due = window.max(now - entry.spec.cadence.interval(Health::Up, now));
            self.queue.push(Reverse((entry.due, id)));
        } else if !running {
            plan(&mut entry, id, &mut self.queue, now);
        }
        self.entries.insert(id, entry);
    }

    fn finished(&mut self, id: MonitorId) {
        let now = self.clock.now();
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.running = false;
            // Windows that went by while it ran.
            let step = match entry.pace {
                Pace::Recheck => entry.spec.cadence.recheck,
                Pace::Steady(health) => entry.spec.cadence.interval_quick(health),
            };
            if step > Dur::ZERO && now - entry.due >= step {
                self.metrics
                    .missed_windows
                    .get_or_create(&ReasonLabel { reason: "coalesced" })
                    .inc_by(((now - entry.due).0 / step.0) as u64);
            }
            plan(entry, id, &mut self.queue, now);
        }
    }

    fn start_due(&mut self) {
        let now = self.clock.now();
        let oldest = self.queue.peek().map_or(now, |Reverse((due, _))| *due);
        self.lag.store((now - oldest).0.max(0), Ordering::Relaxed);
        while let Some(Reverse((due, id))) = self.queue.peek().copied() {
            if due > now {
                break;
            }
            self.queue.pop();
            // A line in the queue may be older than the entry's plan: only the newest plan counts.
            let Some(entry) = self.entries.get_mut(&id).filter(|e| e.due == due && !e.running) else { continue };
            let lag = now - due;
            if lag > LATE_AFTER {
                let step = entry.spec.cadence.interval(Health::Up, now);
                if lag > step {
                    self.metrics.missed_windows.get_or_create(&ReasonLabel { reason: "late" }).inc_by((lag.0 / step.0.max(1)) as u64);
                    self.executor.report_late(&mut self.attempts, entry.spec.clone(), due);
                    entry.running = true;
                    continue;
                }
            }
            entry.running = true;
            entry.last = Some(now);
            let turn = Turn {
                scheduled: due,
                detail: entry.spec.keep_every_detail || entry.pace != Pace::Steady(Health::Up),
                deciding: entry.deciding(),
            };
            entry.rechecks = entry.rechecks.saturating_add(1);
            self.executor.start(&mut self.attempts, entry.spec.clone(), turn);
        }
    }
}

fn plan(entry: &mut Entry, id: MonitorId, queue: &mut BinaryHeap<Reverse<(Micros, MonitorId)>>, now: Micros) {
    entry.due = entry.spec.cadence.next(entry.spread, entry.pace, entry.last, now);
    queue.push(Reverse((entry.due, id)));
}
