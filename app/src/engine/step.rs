//! From what a fold judged to the [`Decision`] that is written: incidents with their evidence, notices, live events.

use super::roles::Fences;
use super::watched::Place;
use super::words::{self, Subject, Told};
use crate::channel::content::Content;
use crate::probe::Attempt;
use crate::spec::MonitorSpec;
use crate::store::{Decision, IncidentWrite, IntervalRow, NoticeWrite, OpenIncident, VerdictRow};
use smallvec::SmallVec;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::quorum::{Health, Quorum};
use watchkeeper_core::verdict::{Event, IncidentChange, Judged, Notice, NoticeEvent, Policy, Verdict, judge};
use watchkeeper_core::{Dur, IncidentId, Micros, MonitorId, TenantId};

/// What brought a step about.
#[derive(Clone, Copy)]
pub(super) enum Cause<'a> {
    /// An attempt here or elsewhere, and when it began.
    Attempt(Micros, &'a Attempt),
    /// A person, by name, and what was said with it.
    Person(&'a str, Option<&'a str>),
    /// The clock, or a new configuration.
    Time,
}

pub(super) struct Step<'a> {
    pub(super) monitor: MonitorId,
    pub(super) tenant: TenantId,
    pub(super) fences: Fences,
    pub(super) subject: &'a Subject,
    pub(super) policy: &'a Policy,
    /// `None` once it is no longer watched.
    pub(super) spec: Option<&'a MonitorSpec>,
    pub(super) place: &'a Place<'a>,
    pub(super) cause: Cause<'a>,
}

impl Step<'_> {
    pub(super) fn decision(
        self,
        judged: Judged,
        before: Health,
        verdict: &mut Verdict,
        open: &mut SmallVec<[OpenIncident; 1]>,
    ) -> Decision {
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
            Cause::Person(..) | Cause::Time => None,
        }
    }

    /// Who is behind it, and what was said with it.
    fn person(&self) -> (Option<String>, Option<String>) {
        match self.cause {
            Cause::Person(name, comment) => (Some(name.to_owned()), comment.map(str::to_owned)),
            Cause::Attempt(..) | Cause::Time => (None, None),
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
                    routed_by: self.spec.and_then(|spec| spec.chosen.get(&known.rule).cloned()),
                    evidence: self.attempt().and_then(|(_, a)| super::evidence_json(a)),
                });
                open.push(known);
            }
            IncidentChange::Acknowledged { id, rule: _, severity, at, on } => {
                let (actor, comment) = self.person();
                let Some(known) = open.iter_mut().find(|o| o.id == id) else { return };
                known.acknowledged_by = actor.clone().filter(|_| on);
                let event = if on { NoticeEvent::Acknowledged } else { NoticeEvent::Unacknowledged };
                let summary = words::acknowledged(on);
                let told = Told { actor: actor.clone(), comment, ..Told::about(known, event, severity, known.summary.clone()) };
                self.tell(id, at, &told, said, verdict, decision);
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
                let (actor, comment) = self.person();
                let summary = words::resolved(why, at - known.opened_at, actor.as_deref());
                let told = Told {
                    detail: Some(known.summary.clone()),
                    resolved_at: Some(at),
                    resolved_why: Some(why),
                    actor: actor.clone(),
                    comment,
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
                cause: NoticeWrite::cause_of(told.incident, told.event, notice.nth),
                incident: id,
                event: notice.event,
                nth: notice.nth,
                channel: notice.channel,
                severity: notice.severity,
                content: Content::Incident(words::message(self.subject, verdict, self.place.codes, told.clone())),
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

/// Ends what is open for a monitor that is no longer watched.
pub fn retire(
    id: MonitorId,
    tenant: TenantId,
    fences: Fences,
    subject: &Subject,
    mut verdict: Verdict,
    mut open: SmallVec<[OpenIncident; 1]>,
    place: &Place<'_>,
) -> Decision {
    let policy = Policy { quorum: Quorum::default(), rules: Vec::new() };
    let judged = judge(&verdict, &policy, Event::Retired, place.now, &mut IdBlock::default());
    let before = verdict.health;
    Step { monitor: id, tenant, fences, subject, policy: &policy, spec: None, place, cause: Cause::Time }.decision(
        judged,
        before,
        &mut verdict,
        &mut open,
    )
}
