//! One monitor as the engine holds it, and the steps that turn an event into a [`Decision`].
//!
//! No I/O and no waiting: the state here runs ahead of the store by at most the batches on their way.

use super::words::{self, Subject, Told};
use crate::channel::content::Content;
use crate::probe::Attempt;
use crate::spec::MonitorSpec;
use crate::store::{
    ActionRow, Decision, Fence, IncidentWrite, IntervalRow, LiveWrite, NoticeWrite, OpenIncident, SightRow, StoredState, VerdictRow,
};
use smallvec::SmallVec;
use std::sync::Arc;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::sight::{self, Pace, Sight};
use watchkeeper_core::verdict::{Event, IncidentChange, Judged, Notice, NoticeEvent, Policy, RuleState, Standing, Verdict, judge};
use watchkeeper_core::{DatacenterId, Dur, Heartbeat, IncidentId, Measure, Micros, MonitorId, Outcome, TenantId};

/// Where a step takes place.
pub struct Place<'a> {
    /// Our datacenter.
    pub datacenter: DatacenterId,
    /// Its code.
    pub code: &'a str,
    /// Now.
    pub now: Micros,
}

/// The state of one monitor.
pub struct Watched {
    /// Its configuration.
    pub spec: Arc<MonitorSpec>,
    /// Under which its decisions are written.
    pub fences: SmallVec<[Fence; 2]>,
    /// Fold 1.
    pub sight: Sight,
    /// Fold 2.
    pub verdict: Verdict,
    /// When the newest folded attempt began.
    pub last_at: Micros,
    /// Outcome codes and status of the newest attempt: a change makes its evidence worth keeping.
    pub last_word: (i16, i16, i32),
    /// When evidence was last kept.
    pub evidence_at: Micros,
    /// Open incidents with their public ids.
    pub open: SmallVec<[OpenIncident; 1]>,
    /// When the verdict's fold wants to be called again.
    pub wake: Option<Micros>,
    /// When the next push is overdue; for push monitors.
    pub push_due: Option<Micros>,
    /// When the run that is under way said that it began; forgotten by a restart, which then gives that run no duration.
    pub push_started: Option<Micros>,
    /// The earliest wake-up that is queued for it.
    pub queued: Option<Micros>,
}

/// The heartbeat of an attempt as the folds see it.
pub fn heartbeat(at: Micros, attempt: &Attempt) -> Heartbeat {
    let mut measures = SmallVec::new();
    if !attempt.hops.is_empty() {
        for what in [Measure::Total, Measure::Dns, Measure::Connect, Measure::Tls, Measure::FirstByte, Measure::Transfer] {
            measures.push((what, attempt.phase(what) as i64));
        }
    }
    if let Some(certificate) = attempt.certificate.as_ref().filter(|c| !c.chain.is_empty()) {
        measures.push((Measure::CertDaysLeft, certificate.days_left));
    }
    if let Some(icmp) = &attempt.icmp {
        measures.push((Measure::LossPermille, i64::from(icmp.loss_permille)));
        measures.push((Measure::Jitter, icmp.jitter_us as i64));
    }
    Heartbeat { at, outcome: attempt.outcome, measures }
}

impl Watched {
    /// Takes up a monitor where the store left it. A decision comes out when the truth has changed since: the time without
    /// a node is unknown from the moment the last vote ran out, and a new configuration may end incidents.
    pub fn take_up(
        spec: Arc<MonitorSpec>,
        fences: SmallVec<[Fence; 2]>,
        state: StoredState,
        place: &Place<'_>,
        ids: &mut IdBlock,
    ) -> (Self, Option<Decision>) {
        let stored = state.sights.into_iter().find(|(dc, _, _)| *dc == place.datacenter);
        let (old_sight, vote_good) = stored.map_or((Sight::default(), None), |(_, sight, vote)| (sight, Some(vote.good_until)));
        let verdict = state.verdict.unwrap_or_else(|| rebuilt(&spec.policy, &state.open));
        let sight = sight::reconfigure(&old_sight, &spec.sight, &spec.policy.rules);
        let last_at = state.last_beat.unwrap_or_default();
        let mut this = Self {
            spec,
            fences,
            sight,
            verdict,
            last_at,
            last_word: (-1, 0, 0),
            evidence_at: Micros(0),
            open: state.open.into(),
            wake: None,
            push_due: None,
            push_started: None,
            queued: None,
        };
        let good_until = vote_good.max(state.last_beat.map(|at| at + this.spec.sight.vote_lasts));
        let Some(good_until) = good_until else { return (this, None) };
        let vote = sight::vote(&this.sight, &this.spec.sight, good_until - this.spec.sight.vote_lasts);
        let at = place.now.min(good_until + Dur(1));
        let before = this.verdict.clone();
        let judged = judge(&this.verdict, &this.spec.policy, Event::Vote(place.datacenter, vote), at, ids);
        let changed = judged.verdict.health != before.health || !judged.incidents.is_empty() || judged.verdict.rules != before.rules;
        let decision = this.decide(judged, place, Cause::Time, false);
        // Nothing may be said of blindness before the first attempt had its chance.
        let patience = this.spec.cadence.interval(Health::Unknown, place.now) + this.spec.timeout;
        this.wake = this.wake.map(|w| w.max(place.now + patience));
        (this, changed.then_some(decision))
    }

    /// Puts a changed configuration into force.
    pub fn reconfigure(&mut self, spec: Arc<MonitorSpec>, place: &Place<'_>, ids: &mut IdBlock) -> Option<Decision> {
        self.spec = spec;
        let sight = sight::reconfigure(&self.sight, &self.spec.sight, &self.spec.policy.rules);
        let sight_changed = sight != self.sight;
        self.sight = sight;
        if self.verdict == Verdict::default() {
            // Nothing was ever found out, and nothing is open: there is nothing to decide yet, least of all since when.
            return None;
        }
        let before = self.verdict.clone();
        let judged = if sight_changed && self.last_at.0 > 0 {
            let vote = sight::vote(&self.sight, &self.spec.sight, self.last_at);
            judge(&self.verdict, &self.spec.policy, Event::Vote(place.datacenter, vote), place.now, ids)
        } else {
            judge(&self.verdict, &self.spec.policy, Event::Reconfigured, place.now, ids)
        };
        let changed = sight_changed || judged.verdict != before || !judged.incidents.is_empty();
        let decision = self.decide(judged, place, Cause::Time, sight_changed);
        changed.then_some(decision)
    }

    /// Folds one attempt. `None` when nothing but the heartbeat itself needs to be written.
    pub fn observe(&mut self, at: Micros, attempt: &Attempt, place: &Place<'_>, ids: &mut IdBlock) -> (Option<Decision>, Option<Pace>) {
        if at <= self.last_at {
            return (None, None);
        }
        self.last_at = at;
        let beat = heartbeat(at, attempt);
        let old_pace = self.pace();
        let seen = sight::see(&self.sight, &self.spec.sight, &self.spec.policy.rules, &beat);
        let sight_changed = seen.sight != self.sight;
        let place_of_vote = self.verdict.votes.iter_mut().find(|(dc, _)| *dc == place.datacenter);
        if !sight_changed
            && let Some((_, vote)) = place_of_vote
            && vote.good_until >= place.now
        {
            vote.at = seen.vote.at;
            vote.good_until = seen.vote.good_until;
            return (None, None);
        }
        self.sight = seen.sight;
        let judged = judge(&self.verdict, &self.spec.policy, Event::Vote(place.datacenter, seen.vote), place.now, ids);
        let decision = self.decide(judged, place, Cause::Attempt(at, attempt), true);
        let pace = self.pace();
        (Some(decision), (pace != old_pace).then_some(pace))
    }

    /// How soon to look again: as the sight says, but a degraded monitor has an interval of its own.
    pub fn pace(&self) -> Pace {
        match self.sight.pace(&self.spec.sight) {
            Pace::Steady(Health::Up) if self.verdict.health == Health::Degraded => Pace::Steady(Health::Degraded),
            pace @ (Pace::Steady(_) | Pace::Recheck) => pace,
        }
    }

    /// Folds what a person did about an incident. `None` if that changes nothing any more.
    pub fn operate(&mut self, done: &ActionRow, place: &Place<'_>, ids: &mut IdBlock) -> Option<Decision> {
        let before = self.verdict.clone();
        let judged = judge(&self.verdict, &self.spec.policy, Event::Operator(done.incident, done.action), place.now, ids);
        let changed = judged.verdict != before || !judged.incidents.is_empty();
        let mut decision = self.decide(judged, place, Cause::Person(&done.actor), false);
        decision.action = Some(done.id);
        changed.then_some(decision)
    }

    /// The time that the fold asked for has come.
    pub fn wake(&mut self, place: &Place<'_>, ids: &mut IdBlock) -> Option<Decision> {
        self.wake = None;
        let before = self.verdict.clone();
        let judged = judge(&self.verdict, &self.spec.policy, Event::Wake, place.now, ids);
        let changed = judged.verdict != before || !judged.incidents.is_empty();
        let decision = self.decide(judged, place, Cause::Time, false);
        changed.then_some(decision)
    }

    fn decide(&mut self, judged: Judged, place: &Place<'_>, cause: Cause<'_>, sight_changed: bool) -> Decision {
        let subject = Subject::from(&*self.spec);
        let step = Step {
            monitor: self.spec.id,
            tenant: self.spec.tenant,
            fences: self.fences.clone(),
            subject: &subject,
            policy: &self.spec.policy,
            spec: Some(&self.spec),
            place,
            cause,
        };
        let before = self.verdict.health;
        self.wake = judged.wake;
        let mut decision = step.decision(judged, before, &mut self.verdict, &mut self.open);
        if sight_changed {
            let vote = self.verdict.votes.iter().find(|(dc, _)| *dc == place.datacenter).map(|(_, v)| v.clone());
            decision.sight = vote.map(|vote| SightRow { datacenter: place.datacenter, sight: self.sight.clone(), vote });
        }
        decision
    }
}

/// Ends what is open for a monitor that is no longer watched.
pub fn retire(
    id: MonitorId,
    tenant: TenantId,
    fences: SmallVec<[Fence; 2]>,
    subject: &Subject,
    mut verdict: Verdict,
    mut open: SmallVec<[OpenIncident; 1]>,
    place: &Place<'_>,
) -> Decision {
    let policy = Policy { quorum: watchkeeper_core::quorum::Quorum::default(), rules: Vec::new() };
    let judged = judge(&verdict, &policy, Event::Retired, place.now, &mut IdBlock::default());
    let before = verdict.health;
    Step { monitor: id, tenant, fences, subject, policy: &policy, spec: None, place, cause: Cause::Time }.decision(
        judged,
        before,
        &mut verdict,
        &mut open,
    )
}

/// The verdict of a monitor whose stored fold could not be read: open incidents are the truth.
pub fn rebuilt(policy: &Policy, open: &[OpenIncident]) -> Verdict {
    let mut verdict = Verdict::default();
    for incident in open {
        let told = policy.rules.iter().find(|r| r.key == incident.rule).map(|r| r.channels.clone()).unwrap_or_default();
        let standing = Standing {
            incident: incident.id,
            told,
            opened_at: incident.opened_at,
            // Every word that may have been said has a smaller number.
            words: WORDS_BEFORE_LOSS,
            acknowledged: incident.acknowledged_by.is_some(),
            ..Standing::default()
        };
        verdict.rules.push((incident.rule.clone(), RuleState::Open(standing)));
    }
    verdict
}

/// Where the words of an incident are numbered on from when its fold was lost: beyond any that reminders can have reached.
const WORDS_BEFORE_LOSS: u32 = 1 << 20;

/// What brought a step about.
#[derive(Clone, Copy)]
enum Cause<'a> {
    /// An attempt, and when it began.
    Attempt(Micros, &'a Attempt),
    /// A person, by name.
    Person(&'a str),
    /// The clock, or a new configuration.
    Time,
}

struct Step<'a> {
    monitor: MonitorId,
    tenant: TenantId,
    fences: SmallVec<[Fence; 2]>,
    subject: &'a Subject,
    policy: &'a Policy,
    /// `None` once it is no longer watched.
    spec: Option<&'a MonitorSpec>,
    place: &'a Place<'a>,
    cause: Cause<'a>,
}

impl Step<'_> {
    fn decision(self, judged: Judged, before: Health, verdict: &mut Verdict, open: &mut SmallVec<[OpenIncident; 1]>) -> Decision {
        *verdict = judged.verdict;
        let mut decision = Decision {
            fences: self.fences.clone(),
            monitor: self.monitor,
            tenant: self.tenant,
            sight: None,
            verdict: Some(VerdictRow { verdict: verdict.clone(), wake: judged.wake }),
            interval: None,
            incidents: SmallVec::new(),
            notices: SmallVec::new(),
            live: SmallVec::new(),
            action: None,
        };
        if verdict.health != before {
            decision.interval = Some(IntervalRow { start: verdict.since, health: verdict.health });
            let why = verdict.reason.map(watchkeeper_core::Reason::as_str).or(verdict.blind.map(watchkeeper_core::Blind::as_str));
            decision.live.push(words::live_state(self.subject, verdict.health, verdict.since, why));
        }
        // The words about an incident are in the order in which the fold said them.
        let mut said = judged.notices.as_slice();
        for change in judged.incidents {
            self.incident(change, &mut said, verdict, open, &mut decision);
        }
        decision
    }

    const fn attempt(&self) -> Option<(Micros, &Attempt)> {
        match self.cause {
            Cause::Attempt(at, attempt) => Some((at, attempt)),
            Cause::Person(_) | Cause::Time => None,
        }
    }

    fn actor(&self) -> Option<String> {
        match self.cause {
            Cause::Person(name) => Some(name.to_owned()),
            Cause::Attempt(..) | Cause::Time => None,
        }
    }

    fn incident(
        &self,
        change: IncidentChange,
        said: &mut &[Notice],
        verdict: &Verdict,
        open: &mut SmallVec<[OpenIncident; 1]>,
        decision: &mut Decision,
    ) {
        match change {
            IncidentChange::Opened { id, rule, severity, at, reason, blind, value, flapping } => {
                let detail = self.attempt().and_then(|(_, a)| a.error.clone());
                let summary = words::opened(self.policy, &rule, reason, blind, value, detail.as_deref());
                let known = OpenIncident {
                    id,
                    uid: uuid::Uuid::now_v7().to_string(),
                    rule: rule.clone(),
                    opened_at: at,
                    summary: summary.clone(),
                    reason: reason.map(|r| r.as_str().to_owned()).or_else(|| blind.map(|b| b.as_str().to_owned())),
                    acknowledged_by: None,
                };
                let told = Told { detail, flapping, ..Told::about(&known, NoticeEvent::Opened, severity, summary.clone()) };
                self.tell(id, at, &told, said, verdict, decision);
                decision.incidents.push(IncidentWrite::Open {
                    id,
                    uid: known.uid.clone(),
                    rule,
                    severity,
                    at,
                    deciding_at: self.attempt().map_or(at, |(began, _)| began),
                    reason: known.reason.clone(),
                    value,
                    summary,
                    evidence: self.attempt().and_then(|(_, a)| super::evidence_json(a)),
                });
                open.push(known);
            }
            IncidentChange::Acknowledged { id, rule: _, severity, at, on } => {
                let actor = self.actor();
                let Some(known) = open.iter_mut().find(|o| o.id == id) else { return };
                known.acknowledged_by = actor.clone().filter(|_| on);
                let summary = words::acknowledged(on, actor.as_deref());
                let told = Told { actor: actor.clone(), ..Told::about(known, NoticeEvent::Acknowledged, severity, summary.clone()) };
                if on {
                    self.tell(id, at, &told, said, verdict, decision);
                } else {
                    // Nobody is told of it, but pages that are open show it.
                    let kind = "incident_unacknowledged".to_owned();
                    decision.live.push(LiveWrite { kind, ..words::live_incident(self.subject, &told, at) });
                }
                decision.incidents.push(IncidentWrite::Acknowledge { id, at, on, actor, summary });
            }
            IncidentChange::Lasts { id, rule: _, severity, at, event, settled } => {
                let Some(known) = open.iter().find(|o| o.id == id) else { return };
                let summary = words::lasts(at - known.opened_at, settled, &known.summary);
                self.tell(id, at, &Told::about(known, event, severity, summary.clone()), said, verdict, decision);
                decision.incidents.push(IncidentWrite::Note { id, at, kind: event.as_str(), summary });
            }
            IncidentChange::Resolved { id, rule: _, severity, at, why } => {
                let Some(known) = open.iter().position(|o| o.id == id).map(|i| open.remove(i)) else { return };
                let actor = self.actor();
                let summary = words::resolved(why, at - known.opened_at, actor.as_deref());
                let told = Told {
                    detail: Some(known.summary.clone()),
                    resolved_at: Some(at),
                    resolved_why: Some(why),
                    actor: actor.clone(),
                    ..Told::about(&known, NoticeEvent::Resolved, severity, summary.clone())
                };
                self.tell(id, at, &told, said, verdict, decision);
                decision.incidents.push(IncidentWrite::Resolve { id, at, why: why.as_str(), actor, summary });
            }
        }
    }

    /// Takes the notices of one word off the front of what the fold said, and writes them.
    fn tell(&self, id: IncidentId, at: Micros, told: &Told<'_>, said: &mut &[Notice], verdict: &Verdict, decision: &mut Decision) {
        decision.live.push(words::live_incident(self.subject, told, at));
        while let Some((notice, rest)) = said.split_first()
            && notice.incident == id
            && notice.event == told.event
        {
            *said = rest;
            let rule = self.policy.rules.iter().find(|r| r.key == *told.rule);
            decision.notices.push(NoticeWrite {
                cause: format!("incident/{}/{}/{}", told.incident, told.event.as_str(), notice.nth),
                incident: id,
                event: notice.event,
                nth: notice.nth,
                channel: notice.channel,
                severity: notice.severity,
                content: Content::Incident(words::message(self.subject, verdict, (self.place.datacenter, self.place.code), told.clone())),
                at,
                rule: told.rule.clone(),
                cooldown: rule.map_or(Dur::ZERO, |r| r.cooldown),
                not_before: self.spec.and_then(|spec| spec.not_before(told.rule, notice.channel, at)),
            });
            // Two words of one kind may follow each other; their places tell them apart.
            if rest.first().is_none_or(|next| next.nth != notice.nth) {
                return;
            }
        }
    }
}

/// Whether an attempt's evidence is worth keeping: it differs from the last one, or it fails and the last evidence is old.
pub fn keep_evidence(watched: &mut Watched, at: Micros, outcome: Outcome, code: i32) -> bool {
    let (kind, why) = outcome.codes();
    let word = (kind, why, code);
    let failing = kind != 0;
    let keep = word != watched.last_word || (failing && at - watched.evidence_at >= EVIDENCE_EVERY);
    watched.last_word = word;
    if keep {
        watched.evidence_at = at;
    }
    keep
}

/// While the same failure lasts, its evidence is kept again after so long. More often fills the store in a long outage; more rarely hides that the failure changed its text.
const EVIDENCE_EVERY: Dur = Dur::secs(300);
