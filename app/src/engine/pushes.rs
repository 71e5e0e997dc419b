//! Pushes: rows that any node may insert, folded by the node that decides for the monitor; and the deadline that silence misses.

use super::{Engine, Fetched, queue_wakes};
use crate::probe::Attempt;
use crate::spec::{MonitorSpec, Source};
use crate::store::{PushKind, PushRow};
use crate::telemetry::ReasonLabel;
use watchkeeper_core::{Blind, Micros, MonitorId, Outcome, Reason};

/// Pushes read at once.
pub(super) const PUSHES_MAX: i64 = 1_000;

impl Engine {
    pub(super) fn fetch_pushes(&mut self) {
        if self.fetching_pushes || self.push_monitors == 0 {
            return;
        }
        self.fetching_pushes = true;
        let (store, out) = (self.w.store.clone(), self.results.0.clone());
        tokio::spawn(async move {
            let fetched = match store.unfolded_pushes(PUSHES_MAX).await {
                Ok(rows) => Fetched::Pushes(rows),
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "pushes could not be read; trying again");
                    Fetched::PushesFailed
                }
            };
            let _ = out.send(fetched).await;
        });
    }

    pub(super) fn fold_push(&mut self, row: &PushRow) {
        // A push of a monitor that another node owns is that node's to fold; one on its way to the store is folded already.
        let Some(watched) = self.watched.get_mut(&row.monitor) else { return };
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
        queue_wakes(&mut self.wakes, watched);
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

    /// A push did not come in time. If nobody was there to receive it, that is our fault.
    pub(super) fn push_overdue(&mut self, id: MonitorId, now: Micros) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        let Source::Push { expect_every, grace } = watched.spec.source else { return };
        let due = watched.push_due.unwrap_or(now);
        let spec = watched.spec.clone();
        watched.push_due = Some(due.max(now - expect_every) + expect_every);
        queue_wakes(&mut self.wakes, watched);
        let expected_at = due - grace;
        let outcome =
            if self.receiving_since > expected_at { Outcome::Unknown(Blind::NoReceiver) } else { Outcome::Down(Reason::PushMissed) };
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
