//! Votes of other nodes: read from the store where this node says what is true of a monitor that others see.
//!
//! A vote is written when it changes, not with every attempt. That a steady one still counts is told by the lease of whoever sees:
//! while it shows life, attempts are made.

use super::watched::{Codes, Place, Watched};
use super::{Engine, Fetched, agent_scope, log_health, queue_wakes, site_scope};
use crate::lease::Leases;
use crate::probe::Attempt;
use crate::store::HeardVote;
use std::time::Duration;
use watchkeeper_core::Micros;

/// Votes are read so often: what a distant datacenter sees must be decided and handed over within a second. A read that finds nothing
/// is one look into an index.
pub(super) const LISTEN_EVERY: Duration = Duration::from_millis(250);

impl Engine {
    pub(super) fn fetch_votes(&mut self) {
        if self.fetching_votes {
            return;
        }
        self.fetching_votes = true;
        let (store, out, heard) = (self.w.store.clone(), self.results.0.clone(), self.heard);
        tokio::spawn(async move {
            let fetched = match store.votes_since(heard).await {
                Ok((votes, heard)) => Fetched::Votes(votes, heard),
                Err(error) => {
                    tracing::debug!(error = %crate::chain(&error), "votes of other nodes could not be read; trying again");
                    Fetched::VotesFailed
                }
            };
            // The engine is gone only at the end of the process.
            let _ = out.send(fetched).await;
        });
    }

    pub(super) fn hear(&mut self, votes: Vec<HeardVote>, heard: i64) {
        self.fetching_votes = false;
        self.heard = Some(heard);
        let now = self.w.clock.now();
        for heard in votes {
            let HeardVote { monitor, datacenter, code, vote, evidence } = heard;
            self.codes.entry(datacenter).or_insert(code);
            let Some(watched) = self.watched.get_mut(&monitor).filter(|watched| watched.roles.judges()) else { continue };
            let attempt: Option<Attempt> = evidence.and_then(|json| serde_json::from_str(&json).ok());
            let before = watched.health();
            let decision = watched.hear(datacenter, vote, attempt.as_ref(), &Place { now, codes: &self.codes }, &mut self.ids);
            queue_wakes(&mut self.wakes, watched, now);
            if watched.health() != before {
                log_health(watched, attempt.as_ref().and_then(|attempt| attempt.error.as_deref()));
            }
            if let Some(decision) = decision {
                self.stream.forming.decide(decision);
            }
        }
        self.load_missing();
    }
}

/// Lets the votes of places where somebody still looks count for longer.
pub(super) fn renew(watched: &mut Watched, codes: &Codes, leases: &Leases, now: Micros) {
    let spec = watched.spec.clone();
    watched.renew(now, |datacenter| {
        codes.get(&datacenter).is_some_and(|code| match &spec.agent {
            Some(agent) => leases.alive(&agent_scope(agent)),
            None => spec.seen_from(code) && leases.alive(&site_scope(code, spec.shard)),
        })
    });
}

/// When the next vote of another place runs out.
#[derive(Default)]
pub(super) struct Lapse(Option<Micros>);

impl Lapse {
    /// The moment, if there is one.
    pub(super) const fn at(&self) -> Option<Micros> {
        self.0
    }

    /// Takes note of what a fold has made the next moment. One that has come stays until it is taken: an attempt may be folded in between,
    /// and a vote that has run out has no next moment.
    pub(super) fn note(&mut self, next: Option<Micros>, now: Micros) {
        if self.0.is_none_or(|at| at > now) {
            self.0 = next;
        }
    }

    /// Whether it has come; then it is taken.
    pub(super) fn take(&mut self, now: Micros) -> bool {
        self.0.take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_that_has_come_outlives_a_fold_and_is_taken_once() {
        let mut lapse = Lapse::default();
        lapse.note(Some(Micros(10)), Micros(1));
        lapse.note(Some(Micros(8)), Micros(2));
        assert_eq!((lapse.at(), lapse.take(Micros(7))), (Some(Micros(8)), false));
        // The vote has run out: an attempt that is folded now knows of no next moment.
        lapse.note(None, Micros(8));
        assert_eq!((lapse.take(Micros(9)), lapse.take(Micros(9))), (true, false));
        lapse.note(Some(Micros(20)), Micros(9));
        assert_eq!(lapse.at(), Some(Micros(20)));
    }
}
