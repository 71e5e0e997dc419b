//! Fold 2: what is true of a monitor, which incidents open and end, and who must be told.
//!
//! Everything a decision causes comes out of the same call, so that it can be one transaction.
//! At most one incident is open per (monitor, rule); every end follows a beginning; a verdict of
//! `Unknown` neither opens nor ends an incident about the target.

use crate::ids::{ChannelId, DatacenterId, IdBlock, IncidentId};
use crate::outcome::{Blind, Reason};
use crate::quorum::{self, Health, Quorum};
use crate::rule::{Rule, RuleKey, Severity, Trigger};
use crate::sight::Vote;
use crate::time::Micros;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Where one rule of one monitor stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleState {
    /// Breached, but not yet for as long as its hold.
    Waiting {
        /// Since when.
        since: Micros,
    },
    /// An incident is open.
    Open {
        /// Which.
        incident: IncidentId,
        /// Who was told that it opened, and so will be told that it ended.
        told: SmallVec<[ChannelId; 2]>,
    },
}

/// What is true of one monitor. Serialised whole as the stored fold; a quiet rule has no entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is true.
    pub health: Health,
    /// Since when.
    pub since: Micros,
    /// Why, while failing.
    pub reason: Option<Reason>,
    /// Why, while nobody can look.
    pub blind: Option<Blind>,
    /// Since when nobody can look; kept while unknown.
    pub blind_since: Option<Micros>,
    /// Since when the quorum's count has been what it is (`health` may add `Degraded`).
    pub votes: SmallVec<[(DatacenterId, Vote); 1]>,
    /// Rules that are not quiet.
    pub rules: SmallVec<[(RuleKey, RuleState); 1]>,
}

/// What the fold needs to know of the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many datacenters it takes.
    pub quorum: Quorum,
    /// The monitor's rules.
    pub rules: Vec<Rule>,
}

/// Everything that can change a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A datacenter voted.
    Vote(DatacenterId, Vote),
    /// A time that the last call asked for has come.
    Wake,
    /// The monitor's configuration changed.
    Reconfigured,
    /// The monitor is no longer watched.
    Retired,
}

/// Why an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedWhy {
    /// The rule is no longer breached.
    Recovered,
    /// The rule was taken out of the configuration.
    RuleRemoved,
    /// The monitor is no longer watched.
    Retired,
}

impl ResolvedWhy {
    /// The word in API and store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::RuleRemoved => "rule_removed",
            Self::Retired => "retired",
        }
    }
}

/// One change to one incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncidentChange {
    /// It began.
    Opened {
        /// Its id, drawn from the block.
        id: IncidentId,
        /// Which rule.
        rule: RuleKey,
        /// How bad.
        severity: Severity,
        /// When the deciding attempt began, or the hold ran out.
        at: Micros,
        /// Why, for rules on health.
        reason: Option<Reason>,
        /// Why nobody could look, for `blind`.
        blind: Option<Blind>,
        /// The deciding value, for rules on a measure.
        value: Option<i64>,
    },
    /// It ended.
    Resolved {
        /// Which.
        id: IncidentId,
        /// Which rule.
        rule: RuleKey,
        /// How bad it was.
        severity: Severity,
        /// When.
        at: Micros,
        /// Why.
        why: ResolvedWhy,
    },
}

/// What kind of word about an incident a notice carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeEvent {
    /// It began.
    Opened,
    /// It ended.
    Resolved,
}

impl NoticeEvent {
    /// The word in API, payloads and notice keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Resolved => "resolved",
        }
    }
}

/// What must be told, once per (incident, event, channel).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// About which incident.
    pub incident: IncidentId,
    /// What happened to it.
    pub event: NoticeEvent,
    /// Its place among the incident's notices to this channel: 0 opened, 1 resolved.
    pub nth: u16,
    /// Where to.
    pub channel: ChannelId,
    /// How urgent.
    pub severity: Severity,
}

/// What the fold returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// The verdict after the event.
    pub verdict: Verdict,
    /// Incidents that began or ended.
    pub incidents: SmallVec<[IncidentChange; 1]>,
    /// What must be told.
    pub notices: SmallVec<[Notice; 2]>,
    /// When the fold wants to be called again with [`Event::Wake`], if nothing else happens.
    pub wake: Option<Micros>,
}

/// Folds one event. `ids` must hold at least as many ids as the policy has rules.
pub fn judge(verdict: &Verdict, policy: &Policy, event: Event, now: Micros, ids: &mut IdBlock) -> Judged {
    let mut out = Judged { verdict: verdict.clone(), ..Judged::default() };
    match event {
        Event::Vote(datacenter, vote) => {
            let votes = &mut out.verdict.votes;
            match votes.iter_mut().find(|(d, _)| *d == datacenter) {
                Some(place) => place.1 = vote,
                None => votes.push((datacenter, vote)),
            }
        }
        Event::Wake | Event::Reconfigured => {}
        Event::Retired => {
            let open = std::mem::take(&mut out.verdict.rules);
            for (key, state) in open {
                resolve(&mut out, policy, &key, state, now, ResolvedWhy::Retired);
            }
            return out;
        }
    }
    drop_removed_rules(&mut out, policy, now);
    let ballots: SmallVec<[quorum::Ballot; 4]> = out.verdict.votes.iter().map(|(_, v)| v.ballot()).collect();
    let count = quorum::count(ballots.iter(), policy.quorum, now);
    if count.health == Health::Unknown {
        out.verdict.blind_since.get_or_insert(now);
    } else {
        out.verdict.blind_since = None;
    }
    out.verdict.reason = count.reason;
    out.verdict.blind = count.blind;
    for rule in &policy.rules {
        judge_rule(&mut out, policy, rule, count.health, now, ids);
    }
    let degraded = count.health == Health::Up
        && out.verdict.rules.iter().any(|(key, state)| {
            matches!(state, RuleState::Open { .. })
                && policy.rules.iter().any(|r| r.key == *key && !matches!(r.trigger, Trigger::Blind { .. }))
        });
    let health = if degraded { Health::Degraded } else { count.health };
    if health != out.verdict.health {
        out.verdict.health = health;
        out.verdict.since = now;
    }
    out
}

/// Whether the rule is breached; `None` when that cannot be said now, which changes nothing.
fn breached(verdict: &Verdict, policy: &Policy, rule: &Rule, health: Health, now: Micros) -> Option<(bool, Option<i64>)> {
    match rule.trigger {
        Trigger::Down | Trigger::MissedPush => {
            let missed = verdict.reason == Some(Reason::PushMissed);
            let mine = missed == matches!(rule.trigger, Trigger::MissedPush);
            match health {
                Health::Down => Some((mine, None)),
                Health::Up | Health::Degraded => Some((false, None)),
                // Not known, failing again below the threshold, or not by enough datacenters: an open incident
                // stays open until they agree that it is up; a quiet one stays quiet.
                Health::Unknown | Health::Pending => None,
            }
        }
        Trigger::Above { .. } | Trigger::AtMost { .. } => {
            let mut value = None;
            let ballots: SmallVec<[quorum::Ballot; 4]> = verdict
                .votes
                .iter()
                .filter(|(_, v)| v.good_until >= now)
                .map(|(_, vote)| {
                    let found = vote.breached.iter().find(|(k, _)| *k == rule.key);
                    value = value.or(found.map(|(_, v)| *v));
                    let mut ballot = vote.ballot();
                    if ballot.health != Health::Unknown {
                        ballot.health = if found.is_some() { Health::Down } else { Health::Up };
                    }
                    ballot
                })
                .collect();
            match quorum::count(ballots.iter(), policy.quorum, now).health {
                Health::Unknown | Health::Pending => None,
                Health::Down => Some((true, value)),
                Health::Up | Health::Degraded => Some((false, None)),
            }
        }
        Trigger::Blind { hold } => match verdict.blind_since {
            Some(since) => Some((now >= since + hold, None)),
            None => Some((false, None)),
        },
    }
}

fn judge_rule(out: &mut Judged, policy: &Policy, rule: &Rule, health: Health, now: Micros, ids: &mut IdBlock) {
    if let (Trigger::Blind { hold }, Some(since)) = (rule.trigger, out.verdict.blind_since)
        && now < since + hold
    {
        wake_at(out, since + hold);
    }
    let Some((breach, value)) = breached(&out.verdict, policy, rule, health, now) else { return };
    let at = out.verdict.rules.iter().position(|(key, _)| *key == rule.key);
    match (breach, at) {
        (false, None) => {}
        (false, Some(at)) => {
            let (key, state) = out.verdict.rules.remove(at);
            resolve(out, policy, &key, state, now, ResolvedWhy::Recovered);
        }
        (true, at) => {
            let since = match at.map(|i| &out.verdict.rules[i].1) {
                Some(RuleState::Open { .. }) => return,
                Some(RuleState::Waiting { since }) => *since,
                None => now,
            };
            if now < since + rule.hold {
                if at.is_none() {
                    out.verdict.rules.push((rule.key.clone(), RuleState::Waiting { since }));
                }
                wake_at(out, since + rule.hold);
                return;
            }
            // The caller keeps the block filled; without an id the rule waits for the next event.
            let Some(id) = ids.draw().map(IncidentId) else { return };
            open(out, rule, id, at, now, value);
        }
    }
}

fn open(out: &mut Judged, rule: &Rule, id: IncidentId, at: Option<usize>, now: Micros, value: Option<i64>) {
    let state = RuleState::Open { incident: id, told: rule.channels.clone() };
    match at {
        Some(i) => out.verdict.rules[i].1 = state,
        None => out.verdict.rules.push((rule.key.clone(), state)),
    }
    let on_health = matches!(rule.trigger, Trigger::Down | Trigger::MissedPush);
    out.incidents.push(IncidentChange::Opened {
        id,
        rule: rule.key.clone(),
        severity: rule.severity,
        at: now,
        reason: out.verdict.reason.filter(|_| on_health),
        blind: out.verdict.blind.filter(|_| matches!(rule.trigger, Trigger::Blind { .. })),
        value,
    });
    for channel in &rule.channels {
        out.notices.push(Notice { incident: id, event: NoticeEvent::Opened, nth: 0, channel: *channel, severity: rule.severity });
    }
}

fn resolve(out: &mut Judged, policy: &Policy, key: &RuleKey, state: RuleState, now: Micros, why: ResolvedWhy) {
    let RuleState::Open { incident, told } = state else { return };
    let severity = policy.rules.iter().find(|r| r.key == *key).map_or(Severity::Warning, |r| r.severity);
    out.incidents.push(IncidentChange::Resolved { id: incident, rule: key.clone(), severity, at: now, why });
    for channel in told {
        out.notices.push(Notice { incident, event: NoticeEvent::Resolved, nth: 1, channel, severity });
    }
}

fn drop_removed_rules(out: &mut Judged, policy: &Policy, now: Micros) {
    let (kept, gone): (SmallVec<[_; 1]>, SmallVec<[_; 1]>) =
        std::mem::take(&mut out.verdict.rules).into_iter().partition(|(key, _)| policy.rules.iter().any(|r| r.key == *key));
    out.verdict.rules = kept;
    for (key, state) in gone {
        resolve(out, policy, &key, state, now, ResolvedWhy::RuleRemoved);
    }
}

fn wake_at(out: &mut Judged, at: Micros) {
    out.wake = Some(out.wake.map_or(at, |w| w.min(at)));
}
