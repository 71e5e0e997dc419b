//! Pushes: rows that any node may insert, folded by the node that decides for the monitor; and the deadline that silence misses.

use super::{Engine, Fetched, queue_wakes};
use crate::probe::Attempt;
use crate::spec::{MonitorSpec, Source};
use crate::store::{PushKind, PushRow, StoreError};
use crate::telemetry::ReasonLabel;
use watchkeeper_core::{Blind, Dur, Micros, MonitorId, Outcome, Reason};

/// Pushes read at once.
pub(super) const PUSHES_MAX: i64 = 1_000;
/// The engine's rounds follow each other within about a second. After a longer gap the node is taken to have stood still, and to have
/// received nothing meanwhile. Shorter makes a busy moment look like that; longer calls a push missed that nobody here could take.
const ROUND_GAP: Dur = Dur::secs(5);

impl Engine {
    pub(super) fn fetch_pushes(&mut self) {
        if self.fetching_pushes || self.push_monitors == 0 {
            return;
        }
        self.fetching_pushes = true;
        let began = self.w.clock.now();
        let (store, out) = (self.w.store.clone(), self.results.0.clone());
        tokio::spawn(async move {
            let fetched = match store.unfolded_pushes(PUSHES_MAX).await {
                Ok(rows) => Fetched::Pushes(rows, began),
                Err(error) => Fetched::PushesFailed(error),
            };
            let _ = out.send(fetched).await;
        });
    }

    pub(super) fn fold_push(&mut self, row: &PushRow) {
        // A push of a monitor that another node owns is that node's to fold; one on its way to the store is folded already.
        let Some(watched) = self.watched.get_mut(&row.monitor).filter(|watched| watched.roles.sees()) else { return };
        if !self.folding.insert(row.id) {
            return;
        }
        let spec = watched.spec.clone();
        let outcome = match row.kind {
            PushKind::Ok => Outcome::Up,
            PushKind::Fail => Outcome::Down(Reason::PushFailed),
            PushKind::Start | PushKind::Log => {
                if row.kind == PushKind::Start {
                    watched.push_started = Some(row.at);
                }
                self.stream.forming.push_only(row.id);
                return;
            }
        };
        let started = watched.push_started.take();
        watched.push_due = push_due(&spec, row.at);
        queue_wakes(&mut self.wakes, watched, self.w.clock.now());
        let error = match outcome {
            Outcome::Up => None,
            Outcome::Down(_) | Outcome::Unknown(_) => Some(if row.body.is_empty() {
                row.exit.map_or_else(|| "the push reported a failure".to_owned(), |code| format!("the job ended with exit code {code}"))
            } else {
                format!("the push reported a failure: {}", row.body.chars().take(300).collect::<String>())
            }),
        };
        let mut attempt = Attempt::ended(outcome, error);
        // What the sender measured, else the time since it said that it began.
        let took = row.ping_us.or(started.map(|began| (row.at - began).0));
        attempt.total_us = took.and_then(|us| u64::try_from(us).ok()).unwrap_or(0);
        let mut beat = self.beat_row(&spec, row.at, row.at, &attempt);
        beat.value = row.exit.map_or(-1, i64::from);
        beat.flags = 1;
        self.fold(row.monitor, beat, &attempt, Some(row.id));
    }

    /// Whether this node ran at all since the last round: while it did not, it took no pushes.
    pub(super) fn note_round(&mut self) {
        let now = self.w.clock.now();
        if now - self.round_at > ROUND_GAP {
            self.receiving_since = now;
        }
        self.round_at = now;
    }

    /// Pushes could not be read: as little could they be recorded. Said once per outage.
    pub(super) fn pushes_failed(&mut self, error: &StoreError) {
        self.fetching_pushes = false;
        if !std::mem::replace(&mut self.store_was_away, true) {
            tracing::warn!(error = %crate::chain(error), "pushes could not be read; trying again");
        }
    }

    /// All pushes that were recorded before `began` have been folded: only now can it be said which did not come.
    pub(super) fn pushes_folded(&mut self, began: Micros) {
        if std::mem::take(&mut self.store_was_away) {
            self.receiving_since = self.receiving_since.max(began);
        }
        let now = self.w.clock.now();
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.overdue).into_iter().partition(|(due, _)| *due <= began);
        self.overdue = later;
        for (due, id) in due {
            self.push_missed(id, due, now);
        }
        if !self.overdue.is_empty() {
            self.fetch_pushes();
        }
    }

    /// No push was folded in time. It may be recorded all the same, by us or by another node, or nobody may have been able to record
    /// it: what is true is said when the pushes have been read once more.
    pub(super) fn push_overdue(&mut self, id: MonitorId) {
        let Some(due) = self.watched.get_mut(&id).and_then(|watched| watched.push_due.take()) else { return };
        self.overdue.push((due, id));
        self.fetch_pushes();
    }

    /// A push did not come in time. If nobody was there to receive it, that is our fault, and the next one has its whole time again.
    fn push_missed(&mut self, id: MonitorId, due: Micros, now: Micros) {
        // A deadline that stands again was set by a push that came, or by a changed configuration.
        let Some(watched) = self.watched.get_mut(&id).filter(|w| w.push_due.is_none() && !w.spec.paused) else { return };
        let Source::Push { expect_every, grace } = watched.spec.source else { return };
        let spec = watched.spec.clone();
        let next = due.max(now - expect_every) + expect_every;
        let (outcome, next) = if self.receiving_since > due - grace {
            (Outcome::Unknown(Blind::NoReceiver), next.max(self.receiving_since + expect_every + grace))
        } else {
            (Outcome::Down(Reason::PushMissed), next)
        };
        watched.push_due = Some(next);
        queue_wakes(&mut self.wakes, watched, now);
        self.w.metrics.missed_windows.get_or_create(&ReasonLabel { reason: "push" }).inc();
        let every = crate::config::decode::show_duration(expect_every + grace);
        let attempt = Attempt::ended(outcome, Some(format!("no push came for {every}")));
        let mut beat = self.beat_row(&spec, due, now, &attempt);
        beat.flags = 1;
        self.fold(id, beat, &attempt, None);
    }
}

/// When the next push is overdue.
pub(super) fn push_due(spec: &MonitorSpec, last: Micros) -> Option<Micros> {
    match spec.source {
        Source::Push { expect_every, grace } if !spec.paused => Some(last.max(spec.created_at) + expect_every + grace),
        Source::Push { .. } | Source::Probe(_) => None,
    }
}
