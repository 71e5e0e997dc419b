//! Fold 2: what is true of a monitor, which incidents open and end, and who must be told.
//!
//! Everything a decision causes comes out of the same call, so that it can be one transaction.
//! At most one incident is open per (monitor, rule); every end follows a beginning; a verdict of
//! `Unknown` neither opens nor ends an incident about the target. A rule that is breached again soon after its end flaps:
//! that is told once, and its incident ends only when things have stayed well. Who is *not* told (silence, maintenance, a dead
//! parent) is not decided here, but when a notice is delivered: the truth does not depend on who listens.

use crate::ids::{ChannelId, DatacenterId, IdBlock, IncidentId};
use crate::outcome::{Blind, Reason};
use crate::quorum::{self, Health, Quorum};
use crate::rule::{Rule, RuleKey, Severity, Trigger};
use crate::sight::Vote;
use crate::time::{Dur, Micros};
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
    Open(Standing),
    /// A person ended the incident while the rule was still breached: nothing opens before it has been clear once.
    Dismissed {
        /// Since when.
        since: Micros,
    },
    /// It ended so recently that a new breach means it flaps.
    Ended {
        /// When.
        at: Micros,
    },
}

/// Where an open incident stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Which.
    pub incident: IncidentId,
    /// Who was told of it, and so will be told that it ended.
    pub told: SmallVec<[ChannelId; 2]>,
    /// When it began.
    #[serde(default)]
    pub opened_at: Micros,
    /// How many words have been said about it: the next one's place in the order.
    #[serde(default = "one")]
    pub words: u32,
    /// Somebody has taken it on: no reminder, no escalation.
    #[serde(default)]
    pub acknowledged: bool,
    /// Steps of the escalation that have been taken.
    #[serde(default)]
    pub step: u16,
    /// When it is told again.
    #[serde(default)]
    pub remind_at: Option<Micros>,
    /// Set while the rule flaps.
    #[serde(default)]
    pub flap: Option<Flap>,
}

/// Every stored standing has had its first word.
const fn one() -> u32 {
    1
}

/// What a flapping rule does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flap {
    /// Breached without a break since then.
    Breached(Micros),
    /// Clear without a break since then.
    Clear(Micros),
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
    /// A person acted on an incident.
    Operator(IncidentId, Action),
    /// Another node, which could not reach the store, saw an incident end and told so: what is breached all the same is a new one.
    SeenOver(IncidentId),
    /// The monitor's configuration changed.
    Reconfigured,
    /// The monitor is no longer watched.
    Retired,
}

/// What a person can do with an open incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// "I am on it": reminders and escalation stop.
    Acknowledge,
    /// "I am not": they go on.
    Unacknowledge,
    /// "It is over": it ends now, and does not open again before it has been clear once.
    Resolve,
}

impl Action {
    /// The word in API and store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Unacknowledge => "unacknowledge",
            Self::Resolve => "resolve",
        }
    }

    /// Reads that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Acknowledge, Self::Unacknowledge, Self::Resolve].into_iter().find(|action| action.as_str() == word)
    }
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
    /// A person said so.
    Operator,
}

impl ResolvedWhy {
    /// The word in API and store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::RuleRemoved => "rule_removed",
            Self::Retired => "retired",
            Self::Operator => "operator",
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
        /// It ended only recently: the rule flaps.
        flapping: bool,
    },
    /// Somebody took it on, or gave it back.
    Acknowledged {
        /// Which.
        id: IncidentId,
        /// Which rule.
        rule: RuleKey,
        /// How bad.
        severity: Severity,
        /// When.
        at: Micros,
        /// Whether it is taken on now.
        on: bool,
    },
    /// It lasts, and those concerned are told so.
    Lasts {
        /// Which.
        id: IncidentId,
        /// Which rule.
        rule: RuleKey,
        /// How bad.
        severity: Severity,
        /// When.
        at: Micros,
        /// Which word about it.
        event: NoticeEvent,
        /// It flapped, and has now been breached without a break.
        settled: bool,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeEvent {
    /// It began.
    Opened,
    /// It lasts, and nobody has acknowledged it.
    Reminded,
    /// It lasts, and further people are told.
    Escalated,
    /// Somebody is on it.
    Acknowledged,
    /// Whoever was on it gave it back.
    Unacknowledged,
    /// It ended.
    Resolved,
}

impl NoticeEvent {
    /// Every one of them.
    pub const ALL: [Self; 6] = [Self::Opened, Self::Reminded, Self::Escalated, Self::Acknowledged, Self::Unacknowledged, Self::Resolved];

    /// The word in API, payloads and notice keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Reminded => "reminded",
            Self::Escalated => "escalated",
            Self::Acknowledged => "acknowledged",
            Self::Unacknowledged => "unacknowledged",
            Self::Resolved => "resolved",
        }
    }

    /// Reads that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == word)
    }
}

/// What must be told, once per (incident, event, channel).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// About which incident.
    pub incident: IncidentId,
    /// What happened to it.
    pub event: NoticeEvent,
    /// Its place among the words about the incident: 0 opened, the highest resolved.
    pub nth: u32,
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
        Event::Operator(incident, action) => operate(&mut out, policy, incident, action, now),
        Event::SeenOver(incident) => seen_over(&mut out, policy, incident, now),
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
        tell_successors(&mut out, rule, now);
        judge_rule(&mut out, policy, rule, count.health, now, ids);
        go_on(&mut out, rule, now);
    }
    let degraded = count.health == Health::Up
        && out.verdict.rules.iter().any(|(key, state)| {
            matches!(state, RuleState::Open(_)) && policy.rules.iter().any(|r| r.key == *key && !matches!(r.trigger, Trigger::Blind { .. }))
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
                Health::Down if mine => Some((true, None)),
                // It fails in the other way now, which is no recovery: what is open ends when things are well.
                Health::Down if stands(verdict, rule) => None,
                Health::Down | Health::Up | Health::Degraded => Some((false, None)),
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

/// Whether an incident of the rule is open, or was ended by a person while the rule was breached.
fn stands(verdict: &Verdict, rule: &Rule) -> bool {
    verdict.rules.iter().any(|(key, state)| *key == rule.key && matches!(state, RuleState::Open(_) | RuleState::Dismissed { .. }))
}

fn judge_rule(out: &mut Judged, policy: &Policy, rule: &Rule, health: Health, now: Micros, ids: &mut IdBlock) {
    if let (Trigger::Blind { hold }, Some(since)) = (rule.trigger, out.verdict.blind_since)
        && now < since + hold
    {
        wake_at(out, since + hold);
    }
    let Some((breach, value)) = breached(&out.verdict, policy, rule, health, now) else { return };
    let at = out.verdict.rules.iter().position(|(key, _)| *key == rule.key);
    let state = at.map(|i| out.verdict.rules[i].1.clone());
    match (breach, state) {
        (false, None) | (true, Some(RuleState::Dismissed { .. })) => {}
        (false, Some(RuleState::Open(standing))) => clear(out, policy, rule, standing, now),
        (false, Some(RuleState::Ended { at })) if now < at + rule.flap_window => wake_at(out, at + rule.flap_window),
        (false, Some(RuleState::Waiting { .. } | RuleState::Dismissed { .. } | RuleState::Ended { .. })) => {
            out.verdict.rules.retain(|(key, _)| *key != rule.key);
        }
        (true, Some(RuleState::Open(standing))) => {
            if let Some(Flap::Clear(_)) = standing.flap {
                put(out, rule, RuleState::Open(Standing { flap: Some(Flap::Breached(now)), ..standing }));
            }
        }
        (true, state) => {
            let since = if let Some(RuleState::Waiting { since }) = state { since } else { now };
            let ended = if let Some(RuleState::Ended { at }) = state { Some(at) } else { None };
            if now < since + rule.hold {
                // A rule with a hold has its own protection against flapping; its end need not be remembered beside it.
                put(out, rule, RuleState::Waiting { since });
                wake_at(out, since + rule.hold);
                return;
            }
            // The caller keeps the block filled; without an id the rule waits for the next event.
            let Some(id) = ids.draw().map(IncidentId) else { return };
            let flapping = ended.is_some_and(|at| now < at + rule.flap_window);
            open(out, rule, id, now, value, flapping);
        }
    }
}

/// The rule is clear again: the incident ends, unless it flaps and has not been clear for long enough.
fn clear(out: &mut Judged, policy: &Policy, rule: &Rule, standing: Standing, now: Micros) {
    let since = match standing.flap {
        // A shorter window may have been configured since.
        Some(Flap::Clear(since)) if now < since + rule.flap_window => since,
        Some(Flap::Breached(_)) if rule.flap_window > Dur::ZERO => {
            put(out, rule, RuleState::Open(Standing { flap: Some(Flap::Clear(now)), ..standing }));
            now
        }
        Some(Flap::Clear(_) | Flap::Breached(_)) | None => return recover(out, policy, rule, standing, now),
    };
    wake_at(out, since + rule.flap_window);
}

/// The incident ends because things are well; for a while it is remembered that it did.
fn recover(out: &mut Judged, policy: &Policy, rule: &Rule, standing: Standing, now: Micros) {
    resolve(out, policy, &rule.key, RuleState::Open(standing), now, ResolvedWhy::Recovered);
    if rule.flap_window == Dur::ZERO {
        out.verdict.rules.retain(|(key, _)| *key != rule.key);
    } else {
        put(out, rule, RuleState::Ended { at: now });
        wake_at(out, now + rule.flap_window);
    }
}

/// An incident that is still open here was over elsewhere, and those concerned were told: it ends. Whether things are well is judged next.
fn seen_over(out: &mut Judged, policy: &Policy, incident: IncidentId, now: Micros) {
    let found = out.verdict.rules.iter().find_map(|(key, state)| match state {
        RuleState::Open(standing) if standing.incident == incident => Some((key.clone(), standing.clone())),
        RuleState::Open(_) | RuleState::Waiting { .. } | RuleState::Dismissed { .. } | RuleState::Ended { .. } => None,
    });
    let Some((key, standing)) = found else { return };
    // One whose rule was taken out of the configuration ends for that.
    if let Some(rule) = policy.rules.iter().find(|rule| rule.key == key) {
        recover(out, policy, rule, standing, now);
    }
}

/// What an incident that lasts asks for: the next step of the escalation, a reminder, the end of its flapping.
fn go_on(out: &mut Judged, rule: &Rule, now: Micros) {
    let Some((_, RuleState::Open(standing))) = out.verdict.rules.iter().find(|(key, _)| *key == rule.key) else { return };
    let mut standing = standing.clone();
    if let Some(Flap::Clear(_)) = standing.flap {
        return;
    }
    let all_channels = standing.told.clone();
    if let Some(Flap::Breached(since)) = standing.flap {
        if now >= since + rule.flap_window {
            standing.flap = None;
            let told = standing.told.clone();
            lasts(out, rule, &mut standing, now, NoticeEvent::Reminded, &told, true);
        } else {
            wake_at(out, since + rule.flap_window);
        }
    }
    if !standing.acknowledged {
        while let Some(step) = rule.escalate.get(usize::from(standing.step)) {
            let due = standing.opened_at + step.after;
            if now < due {
                wake_at(out, due);
                break;
            }
            standing.step += 1;
            lasts(out, rule, &mut standing, now, NoticeEvent::Escalated, &step.channels, false);
            for channel in &step.channels {
                if !standing.told.contains(channel) {
                    standing.told.push(*channel);
                }
            }
        }
        if let Some(pause) = rule.remind {
            let due = *standing.remind_at.get_or_insert(now + pause);
            if now >= due {
                // Reminders that no node was there to give are not made up for.
                standing.remind_at = Some(now + pause);
                lasts(out, rule, &mut standing, now, NoticeEvent::Reminded, &all_channels, false);
            }
            wake_at(out, standing.remind_at.unwrap_or(now + pause));
        } else {
            standing.remind_at = None;
        }
    }
    put(out, rule, RuleState::Open(standing));
}

/// When somebody who was told is no longer among the rule's channels, those who are there now take over: an incident that lasts is
/// told to each of them that has not had a word about it. Those from before stay on the list, so that they hear its end if they
/// still can; that a channel is gone altogether is the store's to say.
fn tell_successors(out: &mut Judged, rule: &Rule, now: Micros) {
    let Some((_, RuleState::Open(standing))) = out.verdict.rules.iter().find(|(key, _)| *key == rule.key) else { return };
    let known = |channel: &ChannelId| rule.channels.contains(channel) || rule.escalate.iter().any(|step| step.channels.contains(channel));
    if standing.told.iter().all(known) {
        return;
    }
    let new: SmallVec<[ChannelId; 2]> = rule.channels.iter().copied().filter(|channel| !standing.told.contains(channel)).collect();
    if new.is_empty() {
        return;
    }
    let mut standing = standing.clone();
    standing.told.extend_from_slice(&new);
    lasts(out, rule, &mut standing, now, NoticeEvent::Reminded, &new, false);
    put(out, rule, RuleState::Open(standing));
}

/// One more word about an incident that lasts.
fn lasts(out: &mut Judged, rule: &Rule, standing: &mut Standing, now: Micros, event: NoticeEvent, to: &[ChannelId], settled: bool) {
    out.incidents.push(IncidentChange::Lasts {
        id: standing.incident,
        rule: rule.key.clone(),
        severity: rule.severity,
        at: now,
        event,
        settled,
    });
    say(out, standing, event, rule.severity, to);
}

/// Puts a word about an incident in the outbox of each channel.
fn say(out: &mut Judged, standing: &mut Standing, event: NoticeEvent, severity: Severity, to: &[ChannelId]) {
    for channel in to {
        out.notices.push(Notice { incident: standing.incident, event, nth: standing.words, channel: *channel, severity });
    }
    standing.words = standing.words.saturating_add(1);
}

fn open(out: &mut Judged, rule: &Rule, id: IncidentId, now: Micros, value: Option<i64>, flapping: bool) {
    let mut standing = Standing {
        incident: id,
        told: rule.channels.clone(),
        opened_at: now,
        words: 0,
        remind_at: rule.remind.map(|pause| now + pause),
        flap: flapping.then_some(Flap::Breached(now)),
        ..Standing::default()
    };
    let on_health = matches!(rule.trigger, Trigger::Down | Trigger::MissedPush);
    out.incidents.push(IncidentChange::Opened {
        id,
        rule: rule.key.clone(),
        severity: rule.severity,
        at: now,
        reason: out.verdict.reason.filter(|_| on_health),
        blind: out.verdict.blind.filter(|_| matches!(rule.trigger, Trigger::Blind { .. })),
        value,
        flapping,
    });
    say(out, &mut standing, NoticeEvent::Opened, rule.severity, &rule.channels);
    put(out, rule, RuleState::Open(standing));
}

fn resolve(out: &mut Judged, policy: &Policy, key: &RuleKey, state: RuleState, now: Micros, why: ResolvedWhy) {
    let RuleState::Open(mut standing) = state else { return };
    let severity = policy.rules.iter().find(|r| r.key == *key).map_or(Severity::Warning, |r| r.severity);
    out.incidents.push(IncidentChange::Resolved { id: standing.incident, rule: key.clone(), severity, at: now, why });
    let told = std::mem::take(&mut standing.told);
    say(out, &mut standing, NoticeEvent::Resolved, severity, &told);
}

/// A person's action on an incident that is still open; on any other it changes nothing.
fn operate(out: &mut Judged, policy: &Policy, incident: IncidentId, action: Action, now: Micros) {
    let found = out.verdict.rules.iter().position(|(_, state)| matches!(state, RuleState::Open(s) if s.incident == incident));
    let Some(at) = found else { return };
    let (key, state) = out.verdict.rules[at].clone();
    let RuleState::Open(mut standing) = state else { return };
    let rule = policy.rules.iter().find(|r| r.key == key);
    let severity = rule.map_or(Severity::Warning, |r| r.severity);
    match action {
        Action::Resolve => {
            resolve(out, policy, &key, RuleState::Open(standing), now, ResolvedWhy::Operator);
            out.verdict.rules[at].1 = RuleState::Dismissed { since: now };
        }
        Action::Acknowledge | Action::Unacknowledge => {
            let on = action == Action::Acknowledge;
            if standing.acknowledged == on {
                return;
            }
            standing.acknowledged = on;
            standing.remind_at = rule.and_then(|r| r.remind).filter(|_| !on).map(|pause| now + pause);
            out.incidents.push(IncidentChange::Acknowledged { id: incident, rule: key, severity, at: now, on });
            let told = standing.told.clone();
            let event = if on { NoticeEvent::Acknowledged } else { NoticeEvent::Unacknowledged };
            say(out, &mut standing, event, severity, &told);
            out.verdict.rules[at].1 = RuleState::Open(standing);
        }
    }
}

fn put(out: &mut Judged, rule: &Rule, state: RuleState) {
    match out.verdict.rules.iter_mut().find(|(key, _)| *key == rule.key) {
        Some(place) => place.1 = state,
        None => out.verdict.rules.push((rule.key.clone(), state)),
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
