//! What becomes of the notices that wait on one channel: sent now, sent together, held, or suppressed; and why.
//!
//! The fold decides what is true and who is concerned; this decides, at the moment of delivery, who is disturbed by it. It is
//! pure, so that "why was I (not) told?" has one answer, which is written on the notice. It never drops a notice without a
//! reason, and a notice that was held is judged anew when its time comes: what is still true afterwards is told.

use crate::ids::IncidentId;
use crate::rule::Severity;
use crate::time::{Dur, Micros};
use crate::verdict::NoticeEvent;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// So many messages of one channel within [`STORM_WINDOW`] are a storm: from then on they are told together.
pub const STORM_AT: usize = 10;
/// The window in which messages are counted for a storm.
pub const STORM_WINDOW: Dur = Dur::secs(5);
/// While a storm lasts, its digests are so far apart. Longer tells later; shorter tells the same people more often than they can read.
pub const DIGEST_EVERY: Dur = Dur::secs(15);
/// A digest covers at most so many notices. More makes one transaction long; fewer makes a storm many messages.
pub const DIGEST_MAX: usize = 1_000;
/// A cap over so short a window only keeps messages apart: what is over it leaves one by one, a little later. Longer would make the
/// last of a few wait; shorter would gather two alerts of the same second, which then have no message of their own to follow.
pub const SPACING_MAX: Dur = Dur::secs(2);
/// A reminder or an escalation that follows another word about the same incident on the same channel sooner is the same word twice.
pub const DUPLICATE_WINDOW: Dur = Dur::secs(30);
/// A notice that waits for a parent is looked at again after so long, if nothing wakes its channel before.
pub const PARENT_LOOK: Dur = Dur::secs(15);

/// What silences a notice at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mute {
    /// Somebody asked for quiet.
    Silence {
        /// Its public id.
        id: String,
        /// Until when.
        until: Micros,
    },
    /// Work on the target was announced.
    Maintenance {
        /// Its name.
        name: String,
        /// Until when.
        until: Micros,
    },
    /// Something that the target depends on is down, or about to be: the fault is there.
    Parent {
        /// The parent's name.
        name: String,
        /// Not yet known to be down, but failing.
        suspect: bool,
    },
}

/// One notice that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Row id.
    pub id: i64,
    /// About which incident; `None` for reports and words about nodes, which nothing holds back but the budget.
    pub incident: Option<IncidentId>,
    /// Which word; `None` as above.
    pub event: Option<NoticeEvent>,
    /// How urgent.
    pub severity: Severity,
    /// When it was decided.
    pub at: Micros,
    /// It has been held back before (silence, maintenance, parent, hours), not merely been late.
    pub held: bool,
    /// An attempt has begun before: the provider may have it, so it is only ever repeated under the same key.
    pub begun: bool,
    /// The message that it was last begun in, the same for all that were begun in it together; `None` if that is not known.
    pub with: Option<i64>,
    /// A word about this incident has been accepted by this channel.
    pub told: bool,
    /// The incident's beginning was suppressed on this channel.
    pub unheard: bool,
    /// When the incident ended, if it has.
    pub over: Option<Micros>,
    /// When this channel last took a word about the same incident.
    pub last_word: Option<Micros>,
    /// When this channel last took a word about the same rule of the same monitor.
    pub last_about_rule: Option<Micros>,
    /// The rule's cooldown.
    pub cooldown: Dur,
    /// What silences it now.
    pub mutes: SmallVec<[Mute; 1]>,
}

/// A channel's recent past and its caps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// When its last messages left, oldest first; at least those of the longest window.
    pub sent: Vec<Micros>,
    /// When its last digest left.
    pub digest_at: Option<Micros>,
    /// Caps: at most so many messages within so long. All hold.
    pub caps: SmallVec<[(u32, Dur); 3]>,
}

/// Why a notice will never be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppressed {
    /// The incident was over before what held the notice back was.
    OverWhileHeld,
    /// Its beginning was not told here, so its end is no news.
    Unheard,
    /// The same word was told within the rule's cooldown.
    Cooldown,
    /// Another word about the incident has just been told.
    Duplicate,
}

impl Suppressed {
    /// For a person.
    pub const fn sentence(&self) -> &'static str {
        match self {
            Self::OverWhileHeld => "over before it could be told",
            Self::Unheard => "its beginning was not told here",
            Self::Cooldown => "told before, within the rule's cooldown",
            Self::Duplicate => "another word about the incident had just been told",
        }
    }
}

/// What holds a notice back for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// A mute.
    Mute(Mute),
    /// The channel has sent as much as it may.
    Budget,
    /// Many at once: they are gathered for one message.
    Storm,
}

impl HeldBy {
    /// For a person.
    pub fn sentence(&self) -> String {
        match self {
            Self::Mute(Mute::Silence { id, .. }) => format!("silence {id}"),
            Self::Mute(Mute::Maintenance { name, .. }) => format!("maintenance {name}"),
            Self::Mute(Mute::Parent { name, suspect: false }) => format!("{name}, which it depends on, is down"),
            Self::Mute(Mute::Parent { name, suspect: true }) => format!("{name}, which it depends on, is failing"),
            Self::Budget => "the channel has sent as much as it may for now".to_owned(),
            Self::Storm => "many at once: gathered for one message".to_owned(),
        }
    }

    /// Whether the target's owner asked for it, as opposed to us being busy.
    pub const fn is_mute(&self) -> bool {
        match self {
            Self::Mute(_) => true,
            Self::Budget | Self::Storm => false,
        }
    }
}

/// What to do with one notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Tell it now, alone.
    Send,
    /// Tell it now, with the others that say so: all of them are one message.
    Digest,
    /// Look again once what leaves now has left.
    Next,
    /// Look again then.
    Hold(Micros, HeldBy),
    /// Never tell it.
    Suppress(Suppressed),
}

/// Plans for everything that is due on one channel, in the order given (most urgent first). What was begun as one message for many is
/// repeated as it was, before all else: only so is its key the same. Else, when the channel is near its caps, or a storm lasts, words
/// about incidents leave together; what is no such word fits no digest, and goes alone while there is room.
pub fn delivery_plan(due: &[Waiting], pace: &Pace, now: Micros) -> Vec<(i64, Plan)> {
    let mut plans: Vec<(i64, Plan)> = due.iter().map(|notice| (notice.id, alone(notice, now))).collect();
    let mut leaving: Vec<(&mut Plan, &Waiting)> =
        plans.iter_mut().zip(due).filter(|((_, plan), _)| *plan == Plan::Send).map(|((_, plan), notice)| (plan, notice)).collect();
    let wanted = leaving.len();
    if wanted == 0 {
        return plans;
    }
    let mut free = match room(pace, now, Dur::ZERO) {
        Ok(free) => free as usize,
        Err(until) => {
            for (plan, _) in &mut leaving {
                **plan = Plan::Hold(until, HeldBy::Budget);
            }
            return plans;
        }
    };
    if let Some(message) = begun_together(&leaving) {
        for (plan, notice) in leaving {
            *plan = if notice.digest_begun() == Some(message) { Plan::Digest } else { Plan::Next };
        }
        return plans;
    }
    let words = leaving.iter().filter(|(_, notice)| notice.event.is_some()).count();
    let recent = pace.sent.iter().filter(|at| **at + STORM_WINDOW > now).count();
    // The first digest of a storm leaves at once; later ones gather.
    let gathering = pace.digest_at.map(|at| at + DIGEST_EVERY).filter(|until| now < *until);
    let storm = gathering.is_some() || (words > 1 && (words >= STORM_AT || recent + words > STORM_AT));
    // A provider that answers at once is never found with two words waiting: the one over the limit waits for those that follow it.
    let crowded = pace.sent.len().checked_sub(STORM_AT).and_then(|nth| pace.sent.get(nth)).map(|at| *at + STORM_WINDOW);
    if let Some(until) = crowded.filter(|until| words == 1 && !storm && now < *until) {
        for (plan, _) in leaving.iter_mut().filter(|(_, notice)| notice.event.is_some() && !notice.begun) {
            **plan = Plan::Hold(until, HeldBy::Storm);
        }
        leaving.retain(|(plan, _)| **plan == Plan::Send);
    }
    if !storm && wanted <= room(pace, now, SPACING_MAX).map_or(0, |lasting| lasting as usize) {
        let apart = pace.caps.iter().map(|(_, window)| *window).min().unwrap_or(Dur::ZERO);
        for (plan, _) in leaving.iter_mut().skip(free) {
            **plan = Plan::Hold(now + apart, HeldBy::Budget);
        }
        return plans;
    }
    // The digest takes one place; more than may leave one by one is one message too.
    free -= usize::from(words > 0 && gathering.is_none());
    let repeats = leaving.iter().any(|(_, notice)| notice.event.is_some() && notice.begun);
    let mut taken = 0;
    for (plan, notice) in leaving {
        if notice.event.is_some() {
            *plan = match gathering {
                Some(until) => Plan::Hold(until, HeldBy::Storm),
                // What was begun is not mixed with what came since.
                None if repeats && !notice.begun => Plan::Next,
                None if taken < DIGEST_MAX => {
                    taken += 1;
                    Plan::Digest
                }
                None => Plan::Hold(now + DIGEST_EVERY, HeldBy::Storm),
            };
        } else if free > 0 {
            free -= 1;
        } else {
            *plan = Plan::Hold(now + STORM_WINDOW, HeldBy::Budget);
        }
    }
    plans
}

impl Waiting {
    /// The message that it was begun in, if that may have been for others too.
    fn digest_begun(&self) -> Option<i64> {
        self.with.filter(|_| self.begun && self.event.is_some())
    }
}

/// The first message that was begun for several of these.
fn begun_together(leaving: &[(&mut Plan, &Waiting)]) -> Option<i64> {
    let mut seen = BTreeSet::new();
    leaving.iter().filter_map(|(_, notice)| notice.digest_begun()).find(|message| !seen.insert(*message))
}

/// How many messages the caps over more than `beyond` let leave now (at least one), or when the next one may.
fn room(pace: &Pace, now: Micros, beyond: Dur) -> Result<u32, Micros> {
    let mut free = u32::MAX;
    let mut until = None;
    for (most, window) in pace.caps.iter().filter(|(_, window)| *window > beyond) {
        let inside: SmallVec<[Micros; 32]> = pace.sent.iter().copied().filter(|at| *at + *window > now).collect();
        let left = most.saturating_sub(inside.len() as u32);
        if left == 0 {
            // When enough of the oldest have left the window.
            let leaves = inside.len().saturating_sub(*most as usize);
            let at = inside.get(leaves).map_or(now + *window, |at| *at + *window);
            until = Some(until.map_or(at, |u: Micros| u.max(at)));
        }
        free = free.min(left);
    }
    until.map_or(Ok(free), Err)
}

/// What the notice's own circumstances ask for.
fn alone(notice: &Waiting, now: Micros) -> Plan {
    let Some(event) = notice.event else { return Plan::Send };
    // Once it may be in the provider's hands, nothing but its repetition makes its fate certain.
    if notice.begun {
        return Plan::Send;
    }
    let about_the_end = event == NoticeEvent::Resolved;
    if about_the_end && notice.unheard {
        return Plan::Suppress(Suppressed::Unheard);
    }
    if notice.over.is_some() && !about_the_end && (notice.held || !notice.mutes.is_empty()) {
        return Plan::Suppress(Suppressed::OverWhileHeld);
    }
    let repeats = matches!(event, NoticeEvent::Reminded | NoticeEvent::Escalated);
    // To a channel that has had no word about the incident, a reminder is news.
    if event == NoticeEvent::Reminded && notice.told && notice.last_about_rule.is_some_and(|at| now < at + notice.cooldown) {
        return Plan::Suppress(Suppressed::Cooldown);
    }
    if repeats && notice.last_word.is_some_and(|at| now < at + DUPLICATE_WINDOW) {
        return Plan::Suppress(Suppressed::Duplicate);
    }
    let mut hold: Option<(Micros, &Mute)> = None;
    for mute in &notice.mutes {
        let until = match mute {
            Mute::Silence { until, .. } | Mute::Maintenance { until, .. } => *until,
            // A child's recovery is told even while its parent is down.
            Mute::Parent { .. } if about_the_end => continue,
            Mute::Parent { .. } => now + PARENT_LOOK,
        };
        if until > now && hold.is_none_or(|(longest, _)| until > longest) {
            hold = Some((until, mute));
        }
    }
    hold.map_or(Plan::Send, |(until, mute)| Plan::Hold(until, HeldBy::Mute(mute.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    const NOW: Micros = Micros(1_000_000_000);

    fn opened(id: i64) -> Waiting {
        Waiting {
            id,
            incident: Some(IncidentId(id)),
            event: Some(NoticeEvent::Opened),
            severity: Severity::Critical,
            at: NOW,
            held: false,
            begun: false,
            with: None,
            told: false,
            unheard: false,
            over: None,
            last_word: None,
            last_about_rule: None,
            cooldown: Dur::ZERO,
            mutes: smallvec![],
        }
    }

    fn plan_of(notice: Waiting) -> Plan {
        delivery_plan(&[notice], &Pace::default(), NOW).remove(0).1
    }

    fn silence(seconds: i64) -> Mute {
        Mute::Silence { id: "s".to_owned(), until: NOW + Dur::secs(seconds) }
    }

    fn parent(suspect: bool) -> Mute {
        Mute::Parent { name: "router".to_owned(), suspect }
    }

    #[test]
    fn one_notice_alone() {
        let held = |until: i64, mute: Mute| Plan::Hold(NOW + Dur::secs(until), HeldBy::Mute(mute));
        assert_eq!(plan_of(opened(1)), Plan::Send);
        assert_eq!(plan_of(Waiting { mutes: smallvec![silence(60)], ..opened(1) }), held(60, silence(60)));
        assert_eq!(plan_of(Waiting { mutes: smallvec![silence(60), silence(90)], ..opened(1) }), held(90, silence(90)));
        assert_eq!(plan_of(Waiting { mutes: smallvec![silence(0)], ..opened(1) }), Plan::Send, "a silence that is over");
        assert_eq!(plan_of(Waiting { mutes: smallvec![parent(false)], ..opened(1) }), held(15, parent(false)));
        let resolved = || Waiting { event: Some(NoticeEvent::Resolved), over: Some(NOW), told: true, ..opened(1) };
        assert_eq!(plan_of(Waiting { mutes: smallvec![parent(false)], ..resolved() }), Plan::Send, "never its recovery");
        assert_eq!(plan_of(Waiting { mutes: smallvec![silence(60)], ..resolved() }), held(60, silence(60)));
        assert_eq!(plan_of(Waiting { unheard: true, ..resolved() }), Plan::Suppress(Suppressed::Unheard));
        assert_eq!(plan_of(Waiting { over: Some(NOW), held: true, ..opened(1) }), Plan::Suppress(Suppressed::OverWhileHeld));
        assert_eq!(plan_of(Waiting { over: Some(NOW), ..opened(1) }), Plan::Send, "late because of the provider: still told");
        assert_eq!(plan_of(Waiting { begun: true, mutes: smallvec![silence(60)], ..opened(1) }), Plan::Send);
        let report = Waiting { incident: None, event: None, mutes: smallvec![silence(60)], ..opened(1) };
        assert_eq!(plan_of(report), Plan::Send);
    }

    #[test]
    fn repeats_are_told_no_more_often_than_asked_for_and_changes_always() {
        let reminded = |last: i64| Waiting {
            event: Some(NoticeEvent::Reminded),
            told: true,
            last_word: Some(NOW - Dur::secs(last)),
            last_about_rule: Some(NOW - Dur::secs(last)),
            cooldown: Dur::secs(600),
            ..opened(1)
        };
        assert_eq!(plan_of(reminded(599)), Plan::Suppress(Suppressed::Cooldown));
        assert_eq!(plan_of(reminded(600)), Plan::Send);
        let first = Waiting { told: false, last_word: None, ..reminded(1) };
        assert_eq!(plan_of(first), Plan::Send, "its first word here, after one about an earlier incident");
        assert_eq!(plan_of(Waiting { event: Some(NoticeEvent::Opened), ..reminded(1) }), Plan::Send, "a change");
        let escalated = |last| Waiting { event: Some(NoticeEvent::Escalated), ..reminded(last) };
        assert_eq!(plan_of(escalated(29)), Plan::Suppress(Suppressed::Duplicate));
        assert_eq!(plan_of(escalated(30)), Plan::Send, "a cooldown does not hold an escalation back");
    }

    #[test]
    fn a_storm_becomes_a_digest_and_then_digests_far_apart() {
        let many: Vec<Waiting> = (0..1_200).map(opened).collect();
        let plans = delivery_plan(&many, &Pace::default(), NOW);
        assert_eq!(plans.iter().filter(|(_, p)| *p == Plan::Digest).count(), DIGEST_MAX);
        assert_eq!(plans.iter().filter(|(_, p)| *p == Plan::Hold(NOW + DIGEST_EVERY, HeldBy::Storm)).count(), 200);
        let few: Vec<Waiting> = (0..9).map(opened).collect();
        assert!(delivery_plan(&few, &Pace::default(), NOW).iter().all(|(_, p)| *p == Plan::Send));
        // A trickle: each comes alone, but ten have gone in the last seconds.
        let trickle = Pace { sent: vec![NOW - Dur::secs(1); 10], ..Pace::default() };
        let two: Vec<Waiting> = (0..2).map(opened).collect();
        assert!(delivery_plan(&two, &trickle, NOW).iter().all(|(_, p)| *p == Plan::Digest));
        // A provider that answers at once: one word at a time is all that ever waits.
        let room = NOW + Dur::secs(4);
        assert_eq!(delivery_plan(&two[..1], &trickle, NOW)[0].1, Plan::Hold(room, HeldBy::Storm), "for those that follow it");
        assert_eq!(delivery_plan(&two[..1], &trickle, room)[0].1, Plan::Send, "none followed");
        let nine = Pace { sent: vec![NOW - Dur::secs(1); 9], ..Pace::default() };
        assert_eq!(delivery_plan(&two[..1], &nine, NOW)[0].1, Plan::Send);
        let begun = Waiting { begun: true, ..opened(1) };
        let report = Waiting { incident: None, event: None, ..opened(2) };
        assert!(
            delivery_plan(&[begun, report], &trickle, NOW).iter().all(|(_, p)| *p == Plan::Send),
            "only words, and none that may be out"
        );
        let after = Pace { digest_at: Some(NOW - Dur::secs(5)), ..trickle };
        let until = NOW + Dur::secs(10);
        assert!(delivery_plan(&two, &after, NOW).iter().all(|(_, p)| *p == Plan::Hold(until, HeldBy::Storm)));
        assert!(
            delivery_plan(&two, &Pace { sent: vec![], ..after }, NOW + Dur::secs(10)).iter().all(|(_, p)| *p == Plan::Send),
            "calm again"
        );
    }

    #[test]
    fn what_was_begun_together_is_repeated_as_it_was_and_not_mixed_with_what_came_since() {
        let begun = |id, with| Waiting { begun: true, with: Some(with), ..opened(id) };
        let of = |due: &[Waiting], pace: &Pace| delivery_plan(due, pace, NOW).into_iter().map(|(_, plan)| plan).collect::<Vec<_>>();
        let calm = Pace::default();
        let two = [begun(5, 5), opened(1), begun(6, 5), begun(7, 7)];
        assert_eq!(of(&two, &calm), [Plan::Digest, Plan::Next, Plan::Digest, Plan::Next], "also when the storm is over");
        let gathering = Pace { digest_at: Some(NOW - Dur::secs(1)), ..Pace::default() };
        assert_eq!(of(&two[..3], &gathering), [Plan::Digest, Plan::Next, Plan::Digest], "also while the next one is gathered");
        let both = [begun(5, 5), begun(8, 8), begun(6, 5), begun(9, 8)];
        assert_eq!(of(&both, &calm), [Plan::Digest, Plan::Next, Plan::Digest, Plan::Next], "one message after the other");
        let full = Pace { sent: vec![NOW], caps: smallvec![(1, Dur::secs(60))], ..Pace::default() };
        assert!(of(&two, &full).iter().all(|plan| *plan == Plan::Hold(NOW + Dur::secs(60), HeldBy::Budget)), "when the channel may");
        // A report is no word, and one that the channel refused with the others is none any more.
        let apart = [begun(5, 5), Waiting { event: None, ..begun(6, 5) }];
        assert_eq!(of(&apart, &calm), [Plan::Send, Plan::Send]);
        let many: Vec<Waiting> = (0..12).map(opened).chain([begun(12, 12)]).collect();
        let plans = of(&many, &calm);
        assert!(plans[..12].iter().all(|plan| *plan == Plan::Next) && plans[12] == Plan::Digest, "{plans:?}");
    }

    #[test]
    fn what_is_no_word_about_an_incident_is_in_no_digest() {
        let report = |id| Waiting { incident: None, event: None, ..opened(id) };
        let many: Vec<Waiting> = (0..20).map(opened).chain([report(20), report(21)]).collect();
        let plans = delivery_plan(&many, &Pace::default(), NOW);
        assert!(plans[..20].iter().all(|(_, p)| *p == Plan::Digest) && plans[20..].iter().all(|(_, p)| *p == Plan::Send), "{plans:?}");
        let raging = Pace { digest_at: Some(NOW - Dur::secs(1)), ..Pace::default() };
        assert_eq!(delivery_plan(&many[19..21], &raging, NOW)[1].1, Plan::Send, "not held by the storm");
        let narrow = Pace { caps: smallvec![(2, Dur::secs(60))], ..Pace::default() };
        let plans = delivery_plan(&many, &narrow, NOW);
        assert_eq!((&plans[0].1, &plans[20].1), (&Plan::Digest, &Plan::Send), "two places");
        assert_eq!(plans[21].1, Plan::Hold(NOW + STORM_WINDOW, HeldBy::Budget));
    }

    #[test]
    fn a_few_messages_leave_one_by_one_where_a_cap_only_keeps_them_apart() {
        let pace = Pace { caps: smallvec![(1, Dur::secs(1)), (20, Dur::secs(60))], ..Pace::default() };
        let few: Vec<Waiting> = (0..9).map(opened).collect();
        let plans = delivery_plan(&few, &pace, NOW);
        let next = Plan::Hold(NOW + Dur::secs(1), HeldBy::Budget);
        assert!(plans[0].1 == Plan::Send && plans[1..].iter().all(|(_, p)| *p == next), "{plans:?}");
        // Where the longer cap would be broken too, they leave together.
        let late = Pace { sent: vec![NOW - Dur::secs(9); 15], ..pace };
        assert!(delivery_plan(&few, &late, NOW).iter().all(|(_, p)| *p == Plan::Digest));
        assert_eq!(delivery_plan(&few[..5], &late, NOW)[0].1, Plan::Send);
    }

    #[test]
    fn caps_hold_and_what_waits_leaves_together() {
        let pace = Pace { sent: vec![NOW - Dur::secs(50), NOW - Dur::secs(10)], digest_at: None, caps: smallvec![(2, Dur::secs(60))] };
        let one = [opened(1)];
        assert_eq!(delivery_plan(&one, &pace, NOW)[0].1, Plan::Hold(NOW + Dur::secs(10), HeldBy::Budget));
        let later = NOW + Dur::secs(10);
        let three: Vec<Waiting> = (0..3).map(opened).collect();
        assert!(delivery_plan(&three, &pace, later).iter().all(|(_, p)| *p == Plan::Digest), "one message is free, three wait");
        assert_eq!(delivery_plan(&one, &pace, later)[0].1, Plan::Send);
        let both = Pace { caps: smallvec![(2, Dur::secs(60)), (1, Dur::secs(30))], ..pace };
        assert_eq!(delivery_plan(&one, &both, later)[0].1, Plan::Hold(NOW + Dur::secs(20), HeldBy::Budget), "every cap holds");
    }
}
