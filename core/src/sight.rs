//! Fold 1: what one datacenter sees of one monitor, and so its vote.
//!
//! A sight only changes when something was learnt: counters stop at their thresholds, so that a monitor
//! that stays up has a sight that stays equal, and nothing needs to be written for it. `Unknown` neither
//! adds to nor resets a streak; what was settled before it stays beneath it.

use crate::heartbeat::Heartbeat;
use crate::outcome::{Blind, Outcome, Reason};
use crate::quorum::{Ballot, Health};
use crate::rule::{Rule, RuleKey, Trigger};
use crate::time::{Dur, Micros};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Beneath any blindness: what the last attempts that could look agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// No attempt has been able to look yet.
    #[default]
    Never,
    /// Fine.
    Up,
    /// Failing, below the threshold.
    Pending,
    /// Failing.
    Down,
}

/// The last attempts of one rule, newest in the lowest bit; a set bit is a breach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BitRing(pub u64);

impl BitRing {
    /// The ring after one more attempt, cut to the last `of`.
    #[must_use]
    pub const fn push(self, breach: bool, of: u8) -> Self {
        let kept = if of >= 64 { u64::MAX } else { (1 << of) - 1 };
        Self(((self.0 << 1) | breach as u64) & kept)
    }

    /// How many of the last attempts were breaches.
    pub const fn breaches(self) -> u32 {
        self.0.count_ones()
    }
}

/// What one datacenter sees. Serialised whole as the stored fold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// What the attempts that could look agreed on.
    pub settled: Settled,
    /// Since when.
    pub since: Micros,
    /// Failures in a row, counted up to the threshold.
    pub fails: u16,
    /// Successes in a row, counted up to the threshold.
    pub oks: u16,
    /// The newest failure's reason, while failing.
    pub reason: Option<Reason>,
    /// Set while we cannot look.
    pub blind: Option<Blind>,
    /// Windows of the n-of-m rules.
    pub windows: SmallVec<[(RuleKey, BitRing); 1]>,
    /// Measure rules that are breached, with the value that decided.
    pub breached: SmallVec<[(RuleKey, i64); 1]>,
}

/// What the fold needs to know of the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SightPolicy {
    /// Failures in a row that make it down, from 1.
    pub down_after: u16,
    /// Successes in a row that make it up again, from 1.
    pub up_after: u16,
    /// How long a vote counts: three intervals.
    pub vote_lasts: Dur,
}

/// What one datacenter says to the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// What it sees; never `Degraded`, which only the verdict knows.
    pub health: Health,
    /// Why, while failing.
    pub reason: Option<Reason>,
    /// Why, while blind.
    pub blind: Option<Blind>,
    /// Measure rules that are breached here, with the deciding value.
    pub breached: SmallVec<[(RuleKey, i64); 1]>,
    /// When the attempt behind it began.
    pub at: Micros,
    /// Until when it counts.
    pub good_until: Micros,
}

impl Vote {
    /// Whether it says the same as another, whenever each was cast.
    pub fn says_as(&self, other: &Self) -> bool {
        let Self { health, reason, blind, breached, at: _, good_until: _ } = self;
        (health, reason, blind, breached) == (&other.health, &other.reason, &other.blind, &other.breached)
    }

    /// The part that the quorum counts.
    pub fn ballot(&self) -> Ballot {
        Ballot { health: self.health, reason: self.reason, blind: self.blind, good_until: self.good_until }
    }
}

/// How soon the next attempt is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The interval of this health.
    Steady(Health),
    /// A streak is running in either direction: look again soon.
    Recheck,
}

/// What the fold returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The sight after the event.
    pub sight: Sight,
    /// The vote after the event.
    pub vote: Vote,
    /// How soon to look again.
    pub pace: Pace,
}

impl Sight {
    /// The health that this sight votes for.
    pub const fn health(&self) -> Health {
        if self.blind.is_some() {
            return Health::Unknown;
        }
        match self.settled {
            Settled::Never => Health::Unknown,
            Settled::Up => Health::Up,
            Settled::Pending => Health::Pending,
            Settled::Down => Health::Down,
        }
    }

    /// How soon the next attempt is wanted.
    pub const fn pace(&self, policy: &SightPolicy) -> Pace {
        match self.settled {
            Settled::Pending => Pace::Recheck,
            Settled::Down if self.oks > 0 && self.oks < policy.up_after => Pace::Recheck,
            Settled::Never | Settled::Up | Settled::Down => Pace::Steady(self.health()),
        }
    }
}

/// Folds one heartbeat. The caller has made sure that it is newer than the last.
pub fn see(sight: &Sight, policy: &SightPolicy, rules: &[Rule], beat: &Heartbeat) -> Seen {
    let mut next = sight.clone();
    match beat.outcome {
        Outcome::Up => {
            next.blind = None;
            next.fails = 0;
            next.oks = sight.oks.saturating_add(1).min(policy.up_after);
            let up = match sight.settled {
                Settled::Never | Settled::Up | Settled::Pending => true,
                Settled::Down => next.oks >= policy.up_after,
            };
            if up {
                next.reason = None;
                settle(&mut next, Settled::Up, beat.at);
            }
        }
        Outcome::Down(reason) => {
            next.blind = None;
            next.oks = 0;
            next.fails = sight.fails.saturating_add(1).min(policy.down_after);
            next.reason = Some(reason);
            let down = sight.settled == Settled::Down || next.fails >= policy.down_after;
            settle(&mut next, if down { Settled::Down } else { Settled::Pending }, beat.at);
        }
        Outcome::Unknown(blind) => next.blind = Some(blind),
    }
    measure_rules(&mut next, rules, beat);
    let vote = vote(&next, policy, beat.at);
    let pace = next.pace(policy);
    Seen { sight: next, vote, pace }
}

/// The vote of a sight that was loaded or re-configured, without a new heartbeat.
pub fn vote(sight: &Sight, policy: &SightPolicy, at: Micros) -> Vote {
    Vote {
        health: sight.health(),
        reason: sight.reason,
        blind: sight.blind,
        breached: sight.breached.clone(),
        at,
        good_until: at + policy.vote_lasts,
    }
}

/// Fits a sight to a changed configuration: windows and breaches of rules that are gone are forgotten,
/// windows are cut to their new length, and a streak that already reaches a lowered threshold counts.
pub fn reconfigure(sight: &Sight, policy: &SightPolicy, rules: &[Rule]) -> Sight {
    let mut next = sight.clone();
    next.breached.retain(|(key, _)| rules.iter().any(|r| r.key == *key));
    next.windows.retain(|(key, _)| rules.iter().any(|r| r.key == *key));
    for (key, ring) in &mut next.windows {
        for rule in rules.iter().filter(|r| r.key == *key) {
            if let Trigger::Above { of, .. } = rule.trigger {
                ring.0 &= if of >= 64 { u64::MAX } else { (1 << of) - 1 };
            }
        }
    }
    next.fails = next.fails.min(policy.down_after);
    next.oks = next.oks.min(policy.up_after);
    if next.settled == Settled::Pending && next.fails >= policy.down_after {
        next.settled = Settled::Down;
    }
    next
}

fn settle(sight: &mut Sight, settled: Settled, at: Micros) {
    if sight.settled != settled {
        sight.settled = settled;
        sight.since = at;
    }
}

fn measure_rules(sight: &mut Sight, rules: &[Rule], beat: &Heartbeat) {
    for rule in rules {
        let (breach, value) = match rule.trigger {
            Trigger::Above { what, limit, n, of } => {
                // A failed attempt's time says nothing of slowness; only successes are measured.
                let (Outcome::Up, Some(value)) = (beat.outcome, beat.measure(what)) else { continue };
                let old = sight.windows.iter().find(|(k, _)| *k == rule.key).map_or(BitRing(0), |(_, r)| *r);
                let ring = old.push(value > limit, of);
                sight.windows.retain(|(k, _)| *k != rule.key);
                if ring.0 != 0 {
                    sight.windows.push((rule.key.clone(), ring));
                }
                (ring.breaches() >= u32::from(n), value)
            }
            Trigger::AtMost { what, limit } => {
                let Some(value) = beat.measure(what) else { continue };
                (value <= limit, value)
            }
            Trigger::Down | Trigger::MissedPush | Trigger::Blind { .. } => continue,
        };
        let known = sight.breached.iter().any(|(k, _)| *k == rule.key);
        if breach && !known {
            sight.breached.push((rule.key.clone(), value));
        } else if !breach && known {
            sight.breached.retain(|(k, _)| *k != rule.key);
        }
    }
}
