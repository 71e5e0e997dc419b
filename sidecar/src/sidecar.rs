//! The one owner of the counts and of the drain: takes in what the sockets hear, writes it down, and wakes who waits.
//!
//! It decides nothing: that is done by the folds `counts` and `drain`. Everything happens under one lock on one thread, and nothing is
//! awaited while it is held, so a call is counted and written down before it is answered.

use crate::clock::{Clock, rfc3339};
use crate::counts::{Became, Counts, Event, InFlight};
use crate::drain::{self, Next, Wanted};
use crate::journal::Journal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use watchkeeper_core::{Dur, Micros};

/// How often a drain says in the log what it waits for. More often would fill the log of a long grace, less often would leave whoever
/// watches a pod that does not go without a word.
const PROGRESS_EVERY: Dur = Dur::secs(5);

/// So many requests are named in one line of the log; the rest is counted. More would make lines that no log takes.
const NAMED_IN_LOG: usize = 10;

/// How often it is looked whether a request is to be taken for lost. Less often would tell it late, more often would look for nothing.
const LOST_LOOK_EVERY: Dur = Dur::secs(1);

/// One mistake of the worker's is told in the log at most so often; every one is counted. More often would let a worker that makes it
/// with every call fill the log, and wait for it.
const COMPLAIN_EVERY: Dur = Dur::secs(60);

/// What was understood of a call in part only. The request is counted all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// The id cannot be one: counted without it.
    Id,
    /// The duration is none: counted without it.
    Duration,
}

/// How often each slip was seen, and when it was last told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slips {
    /// How often.
    pub count: u64,
    told: Option<Micros>,
}

/// What is behind the lock.
pub struct State {
    /// All figures.
    pub counts: Counts,
    /// Calls whose id could not be one.
    pub bad_ids: Slips,
    /// Calls whose duration was none.
    pub bad_durations: Slips,
    /// How often the file could not be written.
    pub unwritten: u64,
    wanted: Wanted,
    journal: Option<Journal>,
    lost_look_at: Micros,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing is in flight.
    Drained,
    /// The grace passed first.
    Forced,
}

/// The sidecar without its sockets.
pub struct Sidecar {
    /// The clock.
    pub clock: Clock,
    /// How long a drain waits.
    pub grace: Dur,
    lost_after: Option<Dur>,
    state: Mutex<State>,
    changed: Notify,
    /// Set when the process ends, for those who wait at `/drain`.
    ended: watch::Sender<Option<Ended>>,
}

impl Sidecar {
    /// With the counts to go on with, and the file they are kept in.
    pub fn new(clock: Clock, grace: Dur, lost_after: Option<Dur>, counts: Counts, journal: Option<Journal>) -> Self {
        let state = State {
            counts,
            bad_ids: Slips::default(),
            bad_durations: Slips::default(),
            unwritten: 0,
            wanted: Wanted::default(),
            journal,
            lost_look_at: clock.now(),
        };
        Self { clock, grace, lost_after, state: Mutex::new(state), changed: Notify::new(), ended: watch::Sender::new(None) }
    }

    /// Takes an event in.
    pub fn take(&self, event: Event) -> Became {
        let now = self.clock.now();
        let mut state = self.state();
        self.look_for_lost(&mut state, now);
        let became = state.apply(now, event);
        drop(state);
        self.changed.notify_waiters();
        became
    }

    /// Counts a slip, and tells it if it was not told lately.
    pub fn slipped(&self, slip: Slip, what: &str) {
        let now = self.clock.now();
        let mut state = self.state();
        let slips = match slip {
            Slip::Id => &mut state.bad_ids,
            Slip::Duration => &mut state.bad_durations,
        };
        slips.count += 1;
        if slips.told.is_none_or(|told| now - told >= COMPLAIN_EVERY) {
            slips.told = Some(now);
            tracing::warn!("a call was counted, but {what} ({} such so far; told at most once a minute)", slips.count);
        }
    }

    /// Everything as it is now.
    pub fn now(&self) -> (Micros, MutexGuard<'_, State>) {
        let now = self.clock.now();
        let mut state = self.state();
        self.look_for_lost(&mut state, now);
        (now, state)
    }

    /// Since when it is draining, if it is.
    pub fn draining_since(&self) -> Option<Micros> {
        self.state().wanted.since(self.grace, self.clock.now())
    }

    /// `GET /drain`: not ready from now on, and over when nothing is in flight, when the grace has passed, or when the process ends.
    pub async fn drain_asked(&self) -> Ended {
        let began = self.clock.now();
        {
            let mut state = self.state();
            if state.wanted.since(self.grace, began).is_none() {
                tracing::info!("drain asked for: not ready from now on; {}", self.waiting_for(&state, began, began));
            }
            state.wanted.ask(began);
        }
        let mut process = self.ended.subscribe();
        tokio::select! {
            ended = self.over(began) => ended,
            ended = process.wait_for(Option::is_some) => ended.ok().and_then(|ended| *ended).unwrap_or(Ended::Drained),
        }
    }

    /// A signal: not ready from now on; tells what it waits for until it is over.
    pub async fn drain_signalled(&self, signal: &str) -> Ended {
        let began = self.clock.now();
        {
            let mut state = self.state();
            state.wanted.signal(began);
            tracing::info!("{signal}: not ready from now on; {}", self.waiting_for(&state, began, began));
        }
        let progress = async {
            loop {
                tokio::time::sleep(PROGRESS_EVERY.to_std()).await;
                let (now, state) = self.now();
                tracing::info!("draining: {}", self.waiting_for(&state, began, now));
            }
        };
        let ended = tokio::select! {
            ended = self.over(began) => ended,
            () = progress => unreachable!("it loops until it is dropped"),
        };
        let (now, state) = self.now();
        match ended {
            Ended::Drained => tracing::info!("drained after {}: nothing is in flight", seconds(now - began)),
            Ended::Forced => tracing::error!(
                "the grace of {} has passed and {} still in flight: {}. If they only needed longer, raise GRACE_PERIOD_SECONDS",
                seconds(self.grace),
                requests(state.counts.active()),
                listed(&state.counts, now)
            ),
        }
        drop(state);
        self.ended.send_replace(Some(ended));
        ended
    }

    async fn over(&self, began: Micros) -> Ended {
        loop {
            // Registered before looking, so that nothing that happens in between is missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (now, next) = self.next(began);
            match next {
                Next::Drained => return Ended::Drained,
                Next::Forced => return Ended::Forced,
                Next::Look(then) => {
                    // Also often enough to notice what is lost meanwhile.
                    let pause = if self.lost_after.is_some() { (then - now).min(LOST_LOOK_EVERY) } else { then - now };
                    // A timer counts in whole milliseconds: rounded up, it does not end a moment before its time.
                    let pause = pause.to_std() + Duration::from_micros(999);
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    fn next(&self, began: Micros) -> (Micros, Next) {
        let (now, state) = self.now();
        (now, drain::next(began, self.grace, state.counts.idle_since(), now))
    }

    fn waiting_for(&self, state: &State, began: Micros, now: Micros) -> String {
        if state.counts.active() == 0 {
            return "nothing is in flight".to_owned();
        }
        let left = (began + self.grace - now).max(Dur::ZERO);
        format!("waiting up to {} for {} in flight: {}", seconds(left), requests_only(state.counts.active()), listed(&state.counts, now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it is held cannot leave it half changed: each event is one call of the fold.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_for_lost(&self, state: &mut State, now: Micros) {
        let Some(lost_after) = self.lost_after.filter(|_| now >= state.lost_look_at) else { return };
        state.lost_look_at = now + LOST_LOOK_EVERY;
        let before = now - lost_after;
        if state.counts.oldest().is_none_or(|oldest| oldest >= before) {
            return;
        }
        let (oldest, _) = state.counts.in_flight(1);
        if let Became::Lost(lost) = state.apply(now, Event::Lost(before)) {
            let first = oldest.first().map(|f| described(f, now)).unwrap_or_default();
            tracing::warn!("LOST_AFTER_SECONDS: {} taken for lost, first {first}", requests(lost));
        }
    }
}

impl State {
    fn apply(&mut self, now: Micros, event: Event) -> Became {
        let Some(journal) = &mut self.journal else { return self.counts.apply(now, event) };
        let became = self.counts.apply(now, event.clone());
        if let Err(error) = journal.append(now, &event, &self.counts) {
            self.unwritten += 1;
            tracing::warn!("{error:#}; counting goes on, and the file is written anew as soon as it can be");
        }
        became
    }
}

/// `1 request is`, `3 requests are`.
fn requests(count: u64) -> String {
    if count == 1 { "1 request is".to_owned() } else { format!("{count} requests are") }
}

fn requests_only(count: u64) -> String {
    if count == 1 { "1 request".to_owned() } else { format!("{count} requests") }
}

fn seconds(d: Dur) -> String {
    format!("{:.1} s", d.0 as f64 / 1e6)
}

fn described(f: &InFlight, now: Micros) -> String {
    let who = match (&f.id, f.count) {
        (Some(id), _) => id.as_str().to_owned(),
        (None, 1) => "one without an id".to_owned(),
        (None, count) => format!("{count} without ids"),
    };
    format!("{who} since {} ({})", rfc3339(f.since), seconds(now - f.since))
}

/// What is in flight, the longest first.
fn listed(counts: &Counts, now: Micros) -> String {
    let (shown, left_out) = counts.in_flight(NAMED_IN_LOG);
    let mut parts: Vec<String> = shown.iter().map(|f| described(f, now)).collect();
    if left_out > 0 {
        parts.push(format!("{left_out} more"));
    }
    parts.join("; ")
}
