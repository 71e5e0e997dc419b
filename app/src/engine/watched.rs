//! One monitor as the engine holds it: the folds that this node owns of it, and the steps that turn an event into a [`Decision`].
//!
//! A node may own what its datacenter sees (fold 1), what is true (fold 2), or both; then both are one decision. No I/O and no
//! waiting: the state here runs ahead of the store by at most the batches on their way.

use super::roles::Roles;
use super::step::{Cause, Step};
use super::votes::Lapse;
use super::words::Subject;
use crate::probe::Attempt;
use crate::spec::MonitorSpec;
use crate::store::{Act, ActionRow, Decision, OpenIncident, SightRow, StoredState};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::sight::{self, Pace, Sight, Vote};
use watchkeeper_core::verdict::{Event, Judged, Policy, RuleState, Standing, Verdict, judge};
use watchkeeper_core::{DatacenterId, Dur, Heartbeat, Measure, Micros, Outcome};

/// The codes of all datacenters that are known here.
pub type Codes = HashMap<DatacenterId, String>;

/// Where and when a step takes place.
pub struct Place<'a> {
    /// Now.
    pub now: Micros,
    /// How the datacenters are called.
    pub codes: &'a Codes,
}

/// The state of one monitor.
pub struct Watched {
    /// Its configuration.
    pub spec: Arc<MonitorSpec>,
    /// What of it is ours, and under which leases.
    pub roles: Roles,
    /// The datacenter whose sight this node folds, if it folds one.
    pub home: DatacenterId,
    /// Fold 1.
    pub sight: Sight,
    /// The newest vote of that sight.
    pub vote: Option<Vote>,
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
    /// When the next vote of another place runs out.
    pub lapses: Lapse,
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
        roles: Roles,
        state: StoredState,
        here: DatacenterId,
        place: &Place<'_>,
        ids: &mut IdBlock,
    ) -> (Self, Option<Decision>) {
        // Pushes come to no place in particular: what was seen of them goes on where it began.
        let home = if spec.is_push() { state.sights.first().map_or(here, |(place, ..)| *place) } else { here };
        let mut votes: SmallVec<[(DatacenterId, Vote); 1]> = SmallVec::new();
        let mut sight = Sight::default();
        for (datacenter, stored, mut vote) in state.sights {
            // Steady votes are not written again with each attempt: the attempt is on record, so the vote counts from there.
            let beat = state.last_beats.iter().find(|(place, _)| *place == datacenter).map(|(_, at)| *at);
            vote.good_until = vote.good_until.max(beat.map_or(Micros(0), |at| at + spec.sight.vote_lasts));
            if roles.sees() && datacenter == home {
                sight = sight::reconfigure(&stored, &spec.sight, &spec.policy.rules);
                vote = sight::vote(&sight, &spec.sight, vote.good_until - spec.sight.vote_lasts);
            }
            votes.push((datacenter, vote));
        }
        let vote = votes.iter().find(|(place, _)| roles.sees() && *place == home).map(|(_, vote)| vote.clone());
        let mut this = Self {
            home,
            sight,
            vote,
            verdict: Verdict::default(),
            last_at: state.last_beats.iter().find(|(place, _)| *place == home).map(|(_, at)| *at).unwrap_or_default(),
            last_word: (-1, 0, 0),
            evidence_at: Micros(0),
            open: state.open.into(),
            wake: None,
            push_due: None,
            push_started: None,
            lapses: Lapse::default(),
            queued: None,
            spec,
            roles,
        };
        if !this.roles.judges() {
            return (this, None);
        }
        this.verdict = state.verdict.unwrap_or_else(|| rebuilt(&this.spec.policy, &this.open));
        let Some(good_until) = votes.iter().map(|(_, vote)| vote.good_until).max() else { return (this, None) };
        let before = this.verdict.clone();
        this.verdict.votes = votes;
        let judged = judge(&this.verdict, &this.spec.policy, Event::Wake, place.now.min(good_until + Dur(1)), ids);
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
        let vote = (sight_changed && self.last_at.0 > 0).then(|| sight::vote(&self.sight, &self.spec.sight, self.last_at));
        if let Some(vote) = &vote {
            self.vote = Some(vote.clone());
        }
        if !self.roles.judges() {
            return vote.is_some().then(|| self.seen());
        }
        if self.verdict == Verdict::default() {
            // Nothing was ever found out, and nothing is open: there is nothing to decide yet, least of all since when.
            return None;
        }
        let before = self.verdict.clone();
        let event = vote.map_or(Event::Reconfigured, |vote| Event::Vote(self.home, vote));
        let judged = judge(&self.verdict, &self.spec.policy, event, place.now, ids);
        let changed = sight_changed || judged.verdict != before || !judged.incidents.is_empty();
        let decision = self.decide(judged, place, Cause::Time, sight_changed);
        changed.then_some(decision)
    }

    /// Folds one attempt made here. `None` when nothing but the heartbeat itself needs to be written.
    pub fn observe(&mut self, at: Micros, attempt: &Attempt, place: &Place<'_>, ids: &mut IdBlock) -> (Option<Decision>, Option<Pace>) {
        if at <= self.last_at {
            return (None, None);
        }
        self.last_at = at;
        let beat = heartbeat(at, attempt);
        let old_pace = self.pace();
        let seen = sight::see(&self.sight, &self.spec.sight, &self.spec.policy.rules, &beat);
        let lapsed = self.vote.as_ref().is_none_or(|vote| vote.good_until < place.now);
        if seen.sight == self.sight && !lapsed {
            // Nothing new: the vote only counts for longer.
            if let Some((_, vote)) = self.verdict.votes.iter_mut().find(|(datacenter, _)| *datacenter == self.home) {
                (vote.at, vote.good_until) = (seen.vote.at, seen.vote.good_until);
            }
            self.vote = Some(seen.vote);
            return (None, None);
        }
        self.sight = seen.sight;
        self.vote = Some(seen.vote.clone());
        let decision = if self.roles.judges() {
            let judged = judge(&self.verdict, &self.spec.policy, Event::Vote(self.home, seen.vote), place.now, ids);
            self.decide(judged, place, Cause::Attempt(at, attempt), true)
        } else {
            self.seen()
        };
        let pace = self.pace();
        (Some(decision), (pace != old_pace).then_some(pace))
    }

    /// Folds the vote of a datacenter that another node sees for, with the attempt behind it if that is known. `None` if it says
    /// nothing new.
    pub fn hear(
        &mut self,
        datacenter: DatacenterId,
        vote: Vote,
        attempt: Option<&Attempt>,
        place: &Place<'_>,
        ids: &mut IdBlock,
    ) -> Option<Decision> {
        if self.roles.sees() && datacenter == self.home {
            return None;
        }
        if let Some((_, known)) = self.verdict.votes.iter_mut().find(|(place, _)| *place == datacenter) {
            if vote.at < known.at {
                return None;
            }
            if vote.says_as(known) && known.good_until >= place.now {
                (known.at, known.good_until) = (vote.at, vote.good_until.max(known.good_until));
                return None;
            }
        }
        let before = self.verdict.clone();
        let at = vote.at;
        let judged = judge(&self.verdict, &self.spec.policy, Event::Vote(datacenter, vote), place.now, ids);
        let changed = judged.verdict != before || !judged.incidents.is_empty();
        let cause = attempt.map_or(Cause::Time, |attempt| Cause::Attempt(at, attempt));
        let decision = self.decide(judged, place, cause, false);
        changed.then_some(decision)
    }

    /// Lets the votes of other places count for longer where `alive` says that somebody sees for them: a vote that stays the same is
    /// written once. Two of the three intervals that a vote lasts, as the attempt behind it may be one interval old.
    pub fn renew(&mut self, now: Micros, alive: impl Fn(DatacenterId) -> bool) {
        let until = now + Dur(self.spec.sight.vote_lasts.0 / 3 * 2);
        let own = self.roles.sees().then_some(self.home);
        for (datacenter, vote) in &mut self.verdict.votes {
            if Some(*datacenter) != own && vote.good_until < until && alive(*datacenter) {
                vote.good_until = until;
            }
        }
    }

    /// When the next vote of another place runs out, unless it is renewed.
    pub fn lapse(&self, now: Micros) -> Option<Micros> {
        self.others().filter(|vote| vote.good_until >= now).map(|vote| vote.good_until + Dur(1)).min()
    }

    /// Whether a vote of another place has run out.
    pub fn has_lapsed(&self, now: Micros) -> bool {
        self.others().any(|vote| vote.good_until < now)
    }

    /// The votes that other nodes see for, where what is true is decided here.
    fn others(&self) -> impl Iterator<Item = &Vote> {
        let own = self.roles.sees().then_some(self.home);
        let votes = self.verdict.votes.iter().filter(move |(datacenter, _)| Some(*datacenter) != own);
        votes.map(|(_, vote)| vote).filter(|_| self.roles.judges())
    }

    /// How soon to look again: as the sight says, but a degraded monitor has an interval of its own.
    pub fn pace(&self) -> Pace {
        match self.sight.pace(&self.spec.sight) {
            Pace::Steady(Health::Up) if self.verdict.health == Health::Degraded => Pace::Steady(Health::Degraded),
            pace @ (Pace::Steady(_) | Pace::Recheck) => pace,
        }
    }

    /// What is true, or what is seen from here where another node says what is true.
    pub fn health(&self) -> Health {
        if self.roles.judges() { self.verdict.health } else { self.sight.health() }
    }

    /// Folds what a person did about an incident. `None` if that changes nothing any more.
    pub fn operate(&mut self, done: &ActionRow, place: &Place<'_>, ids: &mut IdBlock) -> Option<Decision> {
        let before = self.verdict.clone();
        let (event, cause) = match done.act {
            Act::Person(action) => (Event::Operator(done.incident, action), Cause::Person(&done.actor, done.comment.as_deref())),
            Act::SeenOver => (Event::SeenOver(done.incident), Cause::Time),
        };
        let judged = judge(&self.verdict, &self.spec.policy, event, place.now, ids);
        let changed = judged.verdict != before || !judged.incidents.is_empty();
        let mut decision = self.decide(judged, place, cause, false);
        decision.action = Some(done.id);
        changed.then_some(decision)
    }

    /// The time that the fold asked for has come, or a vote has run out.
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
            fences: self.roles.fences(),
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
            decision.sight = self.sight_row();
        }
        decision
    }

    /// The decision of a node that sees, where another says what is true.
    fn seen(&self) -> Decision {
        Decision {
            fences: self.roles.fences(),
            monitor: self.spec.id,
            tenant: self.spec.tenant,
            sight: self.sight_row(),
            verdict: None,
            interval: None,
            incidents: SmallVec::new(),
            notices: SmallVec::new(),
            live: SmallVec::new(),
            action: None,
        }
    }

    fn sight_row(&self) -> Option<SightRow> {
        let vote = self.vote.clone().filter(|_| self.roles.sees())?;
        Some(SightRow { datacenter: self.home, sight: self.sight.clone(), vote })
    }
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
