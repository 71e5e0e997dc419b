//! Who is disturbed, over random histories: targets that fail and recover, silences and maintenance that begin and end, parents,
//! people, providers that refuse and nodes that die, driven through both folds and the delivery plan.
//!
//! The outbox between them is a model of the store's: a notice waits for the earlier ones of its story, what a mute held back is
//! looked at when its time comes, when the mute ends early, or when its incident is over.

use proptest::prelude::*;
use smallvec::{SmallVec, smallvec};
use std::collections::{BTreeMap, BTreeSet};
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::matcher::{Matcher, Subject};
use watchkeeper_core::plan::{HeldBy, Mute, Pace, Plan, Suppressed, Waiting, delivery_plan};
use watchkeeper_core::quorum::{Health, Quorum};
use watchkeeper_core::rule::Step;
use watchkeeper_core::sight::{Sight, SightPolicy, see};
use watchkeeper_core::verdict::{Action, Event, IncidentChange, Notice, NoticeEvent, Policy, RuleState, Verdict, judge};
use watchkeeper_core::{
    ChannelId, DatacenterId, Dur, Heartbeat, IncidentId, Measure, Micros, Outcome, Reason, Rule, RuleKey, Severity, Trigger,
};

/// Targets are looked at so often.
const STEP: Dur = Dur::secs(10);
/// A deliverer looks at its channel so often at the least.
const POLL: Dur = Dur::secs(5);
/// So long after the last mute, with a provider that takes everything, no old word may wait any more.
const SETTLED: Dur = Dur::secs(180);
const CHANNELS: [ChannelId; 2] = [ChannelId(1), ChannelId(2)];
const SHOP: usize = 0;
const ROUTER: usize = 1;
const NAMES: [&str; 2] = ["shop", "router"];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Deed {
    /// Both targets are looked at: what `shop` and `router` answer.
    Look(Answer, Answer),
    /// Somebody asks for quiet, for so many seconds.
    Silence(About, i64),
    /// Somebody ends the oldest silence that lasts.
    EndSilence,
    /// The configuration gets a window: in so many seconds, for so many.
    Window(About, i64, i64),
    /// The oldest window is taken out of the configuration.
    DropWindow,
    /// A person acts on every open incident of `shop`.
    Act(Action),
    /// The provider's mood, from now on.
    Provider(Mood),
    /// The rule `down` of `shop` tells others from now on.
    Reroute(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Well,
    Slow,
    Fails,
}

/// What a mute is about.
#[derive(Clone, Copy, Debug)]
enum About {
    All,
    Shop,
    Router,
    Slow,
}

impl About {
    fn matcher(self) -> Matcher {
        match self {
            Self::All => Matcher::default(),
            Self::Shop => Matcher { monitors: vec!["sh*".to_owned()], ..Matcher::default() },
            Self::Router => Matcher { monitors: vec!["router".to_owned()], ..Matcher::default() },
            Self::Slow => Matcher { rules: vec!["slow".to_owned()], ..Matcher::default() },
        }
    }
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// The provider takes it.
    Takes,
    /// It refuses it for now.
    Refuses,
    /// It will never take it.
    GivesUp,
    /// The node dies while it waits; the provider has it, or not. The next attempt is taken.
    Crash(bool),
}

/// What became of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It waits.
    Due,
    /// It waits, and this holds it.
    Held(String),
    Sent(Micros),
    Suppressed(Suppressed),
    Dead,
}

/// A notice in the outbox.
#[derive(Clone, Debug)]
struct Row {
    id: i64,
    monitor: usize,
    rule: RuleKey,
    notice: Notice,
    at: Micros,
    cooldown: Dur,
    fate: Fate,
    next_at: Micros,
    /// A mute has held it back.
    held: bool,
    attempts: u32,
    /// The message that it was last begun in, by its first notice.
    with: Option<i64>,
    /// How often the provider took it, and how often a node died before it could write that down.
    taken: u32,
    forgotten: u32,
}

impl Row {
    const fn waits(&self) -> bool {
        matches!(self.fate, Fate::Due | Fate::Held(_))
    }

    fn same_story(&self, other: &Self) -> bool {
        self.notice.channel == other.notice.channel && self.notice.incident == other.notice.incident
    }
}

struct Watched {
    sight: Sight,
    verdict: Verdict,
    policy: Policy,
    /// When it wants to be woken.
    wake: Option<Micros>,
}

struct Quiet {
    matcher: Matcher,
    from: Micros,
    until: Micros,
    silence: bool,
}

#[derive(Default)]
struct Pacing {
    pace: Pace,
    /// The provider is left alone until then.
    quiet: Option<Micros>,
}

struct World {
    now: Micros,
    ids: IdBlock,
    watched: [Watched; 2],
    quiets: Vec<Quiet>,
    over: BTreeMap<IncidentId, Micros>,
    outbox: Vec<Row>,
    pacing: BTreeMap<ChannelId, Pacing>,
    mood: Mood,
}

fn rule(key: &str, trigger: Trigger, channels: &[ChannelId]) -> Rule {
    Rule {
        key: RuleKey::new(key),
        trigger,
        severity: Severity::Critical,
        hold: Dur::ZERO,
        channels: channels.into(),
        remind: Some(Dur::secs(40)),
        escalate: Vec::new(),
        flap_window: Dur::ZERO,
        cooldown: Dur::ZERO,
    }
}

impl World {
    fn new(flap_window: i64, cooldown: i64) -> Self {
        let mut down = rule("down", Trigger::Down, &CHANNELS[..1]);
        down.escalate = vec![Step { after: Dur::secs(35), channels: smallvec![CHANNELS[1]] }];
        down.flap_window = Dur::secs(flap_window);
        down.cooldown = Dur::secs(cooldown);
        let slow = rule("slow", Trigger::Above { what: Measure::Total, limit: 100_000, n: 1, of: 1 }, &CHANNELS);
        let watched = |rules: Vec<Rule>| Watched {
            sight: Sight::default(),
            verdict: Verdict::default(),
            policy: Policy { quorum: Quorum::Majority, rules },
            wake: None,
        };
        let mut pacing: BTreeMap<ChannelId, Pacing> = CHANNELS.iter().map(|channel| (*channel, Pacing::default())).collect();
        // What is over this leaves together.
        pacing.get_mut(&CHANNELS[1]).expect("one of both").pace.caps = smallvec![(3, Dur::secs(60))];
        Self {
            now: Micros(1_000_000_000),
            ids: IdBlock::new(1, 1_000_000),
            watched: [watched(vec![down, slow]), watched(vec![rule("down", Trigger::Down, &CHANNELS[..1])])],
            quiets: Vec::new(),
            over: BTreeMap::new(),
            outbox: Vec::new(),
            pacing,
            mood: Mood::Takes,
        }
    }

    fn happens(&mut self, deed: &Deed) {
        let now = self.now;
        let lasts = |quiet: &Quiet| now < quiet.until;
        match deed {
            Deed::Look(shop, router) => {
                self.pass(STEP);
                self.look(SHOP, *shop);
                self.look(ROUTER, *router);
            }
            Deed::Silence(about, lasts) => {
                self.quiets.push(Quiet { matcher: about.matcher(), from: now, until: now + Dur::secs(*lasts), silence: true });
            }
            Deed::Window(about, from, lasts) => {
                let from = now + Dur::secs(*from);
                self.quiets.push(Quiet { matcher: about.matcher(), from, until: from + Dur::secs(*lasts), silence: false });
                self.look_again();
            }
            Deed::EndSilence => {
                if let Some(place) = self.quiets.iter().position(|quiet| quiet.silence && lasts(quiet)) {
                    self.quiets[place].until = now;
                    self.look_again();
                }
            }
            Deed::DropWindow => {
                if let Some(place) = self.quiets.iter().position(|quiet| !quiet.silence && lasts(quiet)) {
                    self.quiets.remove(place);
                    self.look_again();
                }
            }
            Deed::Act(action) => {
                for incident in self.open(SHOP) {
                    self.event(SHOP, Event::Operator(incident, *action));
                }
            }
            Deed::Provider(mood) => self.mood = *mood,
            Deed::Reroute(way) => {
                let channels: &[ChannelId] = [&CHANNELS[..1], &CHANNELS[1..], &CHANNELS[..]][*way];
                self.watched[SHOP].policy.rules[0].channels = channels.into();
                self.event(SHOP, Event::Reconfigured);
            }
        }
        self.deliver();
    }

    /// Time passes; nobody misses a wake-up by more than a look.
    fn pass(&mut self, span: Dur) {
        let end = self.now + span;
        while self.now < end {
            self.now = (self.now + POLL).min(end);
            for monitor in [SHOP, ROUTER] {
                if self.watched[monitor].wake.is_some_and(|at| at <= self.now) {
                    self.event(monitor, Event::Wake);
                }
            }
            self.deliver();
        }
    }

    fn look(&mut self, monitor: usize, answer: Answer) {
        let (outcome, total) = match answer {
            Answer::Well => (Outcome::Up, 5_000),
            Answer::Slow => (Outcome::Up, 500_000),
            Answer::Fails => (Outcome::Down(Reason::TcpRefused), 900_000),
        };
        let beat = Heartbeat { at: self.now, outcome, measures: vec![(Measure::Total, total)].into() };
        let one = &mut self.watched[monitor];
        let policy = SightPolicy { down_after: 2, up_after: 1, vote_lasts: Dur::secs(30) };
        let seen = see(&one.sight, &policy, &one.policy.rules, &beat);
        one.sight = seen.sight;
        self.event(monitor, Event::Vote(DatacenterId(1), seen.vote));
    }

    fn event(&mut self, monitor: usize, event: Event) {
        let one = &mut self.watched[monitor];
        let judged = judge(&one.verdict, &one.policy, event, self.now, &mut self.ids);
        (one.verdict, one.wake) = (judged.verdict, judged.wake);
        let mut rules: BTreeMap<IncidentId, RuleKey> = BTreeMap::new();
        for change in &judged.incidents {
            let (id, rule) = match change {
                IncidentChange::Opened { id, rule, .. }
                | IncidentChange::Acknowledged { id, rule, .. }
                | IncidentChange::Lasts { id, rule, .. } => (id, rule),
                IncidentChange::Resolved { id, rule, at, .. } => {
                    self.over.insert(*id, *at);
                    (id, rule)
                }
            };
            rules.insert(*id, rule.clone());
        }
        for notice in judged.notices {
            let rule = rules[&notice.incident].clone();
            let cooldown = self.watched[monitor].policy.rules.iter().find(|r| r.key == rule).map_or(Dur::ZERO, |r| r.cooldown);
            self.outbox.push(Row {
                id: self.outbox.len() as i64,
                monitor,
                rule,
                notice,
                at: self.now,
                cooldown,
                fate: Fate::Due,
                next_at: self.now,
                held: false,
                attempts: 0,
                with: None,
                taken: 0,
                forgotten: 0,
            });
        }
    }

    fn open(&self, monitor: usize) -> Vec<IncidentId> {
        let open = |state: &RuleState| match state {
            RuleState::Open(standing) => Some(standing.incident),
            RuleState::Waiting { .. } | RuleState::Dismissed { .. } | RuleState::Ended { .. } => None,
        };
        self.watched[monitor].verdict.rules.iter().filter_map(|(_, state)| open(state)).collect()
    }

    /// What a mute holds back is looked at now.
    fn look_again(&mut self) {
        let now = self.now;
        self.outbox.iter_mut().filter(|row| row.held && matches!(row.fate, Fate::Held(_))).for_each(|row| row.next_at = now);
    }

    /// Silences and windows that are in force and about this.
    fn asked_for(&self, row: &Row) -> SmallVec<[Mute; 1]> {
        let subject = Subject {
            monitor: NAMES[row.monitor],
            labels: &BTreeMap::new(),
            kind: "http",
            rule: Some(row.rule.as_str()),
            severity: Some(row.notice.severity),
        };
        let mute = |quiet: &Quiet| {
            if quiet.silence {
                Mute::Silence { id: "quiet".to_owned(), until: quiet.until }
            } else {
                Mute::Maintenance { name: "work".to_owned(), until: quiet.until }
            }
        };
        let holds = |quiet: &&Quiet| quiet.from <= self.now && self.now < quiet.until && quiet.matcher.matches(&subject);
        self.quiets.iter().filter(holds).map(mute).collect()
    }

    fn parent(&self, row: &Row) -> Option<Mute> {
        let suspect = match self.watched[ROUTER].verdict.health {
            Health::Down => false,
            Health::Pending => true,
            Health::Up | Health::Degraded | Health::Unknown => return None,
        };
        (row.monitor == SHOP).then(|| Mute::Parent { name: "router".to_owned(), suspect })
    }

    /// Earlier words of its story.
    fn earlier<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = &'a Row> {
        self.outbox.iter().filter(|other| other.same_story(row) && other.notice.nth < row.notice.nth)
    }

    fn due(&self, channel: ChannelId) -> Vec<&Row> {
        let void = |row: &Row| {
            let about_the_end = row.notice.event == NoticeEvent::Resolved;
            row.held
                && row.attempts == 0
                && !about_the_end
                && matches!(row.fate, Fate::Held(_))
                && self.over.contains_key(&row.notice.incident)
        };
        let due = |row: &&Row| {
            let its_time = row.next_at <= self.now || void(row);
            row.notice.channel == channel && row.waits() && its_time && !self.earlier(row).any(Row::waits)
        };
        let mut all: Vec<&Row> = self.outbox.iter().filter(due).collect();
        all.sort_by_key(|row| (std::cmp::Reverse(row.notice.severity), row.at, row.id));
        all
    }

    fn waiting(&self, row: &Row) -> Waiting {
        let sent_at = |row: &Row| match row.fate {
            Fate::Sent(at) => Some(at),
            Fate::Due | Fate::Held(_) | Fate::Suppressed(_) | Fate::Dead => None,
        };
        let words: Vec<&Row> = self.outbox.iter().filter(|other| other.same_story(row)).collect();
        let last_word = words.iter().filter_map(|word| sent_at(word)).max();
        let mut earlier = self.earlier(row).peekable();
        let unheard = earlier.peek().is_some() && earlier.all(|word| matches!(word.fate, Fate::Suppressed(_)));
        let of_rule = |other: &&Row| other.notice.channel == row.notice.channel && (other.monitor, &other.rule) == (row.monitor, &row.rule);
        Waiting {
            id: row.id,
            incident: Some(row.notice.incident),
            event: Some(row.notice.event),
            severity: row.notice.severity,
            at: row.at,
            held: row.held,
            begun: row.attempts > 0,
            with: row.with,
            told: last_word.is_some(),
            unheard: unheard && last_word.is_none(),
            over: self.over.get(&row.notice.incident).copied(),
            last_word,
            last_about_rule: self.outbox.iter().filter(of_rule).filter_map(sent_at).max(),
            cooldown: row.cooldown,
            mutes: self.asked_for(row).into_iter().chain(self.parent(row)).collect(),
        }
    }

    /// Every deliverer looks at its channel, until nothing leaves any more.
    fn deliver(&mut self) {
        for channel in CHANNELS {
            while self.round(channel) {}
        }
    }

    /// One look. Whether something left.
    fn round(&mut self, channel: ChannelId) -> bool {
        let now = self.now;
        if self.pacing[&channel].quiet.is_some_and(|until| now < until) {
            return false;
        }
        let due: Vec<Waiting> = self.due(channel).into_iter().map(|row| self.waiting(row)).collect();
        let plans = delivery_plan(&due, &self.pacing[&channel].pace, now);
        assert_eq!(plans.len(), due.len(), "every one of them has a plan");
        let (mut messages, mut together) = (Vec::new(), Vec::new());
        for (id, plan) in plans {
            self.may_wait(&self.outbox[id as usize], &plan);
            let row = &mut self.outbox[id as usize];
            match plan {
                Plan::Send => messages.push(vec![id]),
                Plan::Digest => together.push(id),
                Plan::Next => {}
                Plan::Hold(until, by) => {
                    row.held |= by.is_mute();
                    (row.fate, row.next_at) = (Fate::Held(by.sentence()), until);
                }
                Plan::Suppress(why) => row.fate = Fate::Suppressed(why),
            }
        }
        if !together.is_empty() {
            messages.insert(0, together);
        }
        let mut left = false;
        for message in messages {
            if self.pacing[&channel].quiet.is_none_or(|until| until <= now) {
                self.attempt(channel, &message);
                left = true;
            }
        }
        left
    }

    fn attempt(&mut self, channel: ChannelId, message: &[i64]) {
        for id in message {
            self.may_leave(&self.outbox[*id as usize]);
        }
        self.may_repeat(message);
        let now = self.now;
        let mood = self.mood;
        let pacing = self.pacing.get_mut(&channel).expect("one of both");
        match mood {
            Mood::Takes => {
                pacing.pace.sent.push(now);
                pacing.pace.digest_at = if message.len() > 1 { Some(now) } else { pacing.pace.digest_at };
            }
            Mood::Refuses => pacing.quiet = Some(now + Dur::secs(1)),
            Mood::GivesUp | Mood::Crash(_) => {}
        }
        for id in message {
            let row = &mut self.outbox[*id as usize];
            row.attempts += 1;
            row.with = message.iter().min().copied();
            match mood {
                Mood::Takes => {
                    row.fate = Fate::Sent(now);
                    row.taken += 1;
                }
                Mood::Refuses => (row.fate, row.next_at) = (Fate::Due, now + Dur::secs(1)),
                Mood::GivesUp => row.fate = Fate::Dead,
                Mood::Crash(taken) => {
                    row.fate = Fate::Due;
                    row.taken += u32::from(taken);
                    row.forgotten += u32::from(taken);
                }
            }
        }
        if matches!(mood, Mood::Crash(_)) {
            self.mood = Mood::Takes;
        }
    }

    /// What must be true of every notice that does not leave now.
    fn may_wait(&self, row: &Row, plan: &Plan) {
        let (event, begun) = (row.notice.event, row.attempts > 0);
        match plan {
            Plan::Send | Plan::Digest | Plan::Next => {}
            Plan::Hold(until, by) => {
                assert!(*until > self.now, "a notice that is held is not looked at without end: {row:?}");
                assert!(!begun || !by.is_mute(), "the provider may have it, and a mute holds it: {row:?}");
                let parent = matches!(by, HeldBy::Mute(Mute::Parent { .. }));
                assert!(!parent || event != NoticeEvent::Resolved, "a recovery waits for a parent: {row:?}");
            }
            Plan::Suppress(why) => {
                assert!(!begun, "the provider may have it, and it is suppressed: {row:?}");
                let told = || self.waiting(row).told;
                let fits = match why {
                    Suppressed::OverWhileHeld => event != NoticeEvent::Resolved && self.over.contains_key(&row.notice.incident),
                    Suppressed::Unheard => event == NoticeEvent::Resolved && !told(),
                    Suppressed::Cooldown => event == NoticeEvent::Reminded && told(),
                    Suppressed::Duplicate => matches!(event, NoticeEvent::Reminded | NoticeEvent::Escalated) && told(),
                };
                assert!(fits, "left out, because {why:?}: {row:?}");
            }
        }
    }

    /// What must be true of every notice at the moment in which it leaves.
    fn may_leave(&self, row: &Row) {
        // The provider may have it: only its repetition makes its fate certain.
        if row.attempts > 0 {
            return;
        }
        assert_eq!(self.asked_for(row).to_vec(), [], "told in spite of a mute that is in force: {row:?}");
        if row.notice.event == NoticeEvent::Resolved {
            let heard = self.earlier(row).any(|word| matches!(word.fate, Fate::Sent(_) | Fate::Dead));
            assert!(heard, "the end of something of which nobody was told: {row:?}");
        } else {
            assert_eq!(self.parent(row), None, "told while what it depends on is failing: {row:?}");
            let over = row.held && self.over.contains_key(&row.notice.incident);
            assert!(!over, "over while it was held, and told nevertheless: {row:?}");
        }
        let later = |other: &&Row| other.same_story(row) && other.notice.nth > row.notice.nth && other.taken > 0;
        assert_eq!(self.outbox.iter().find(later).map(|other| other.id), None, "a later word of its story was told before: {row:?}");
    }

    /// A message for many is repeated for the same ones: only then is its key the same, by which a receiver knows it again.
    fn may_repeat(&self, message: &[i64]) {
        let mut message = message.to_vec();
        message.sort_unstable();
        for row in message.iter().map(|id| &self.outbox[*id as usize]).filter(|row| row.attempts > 0) {
            let before: Vec<i64> =
                self.outbox.iter().filter(|other| other.waits() && other.with == row.with).map(|other| other.id).collect();
            assert!(before.len() == 1 || before == message, "begun as {before:?}, repeated as {message:?}");
        }
    }

    /// Mutes end by themselves, the router is well, and the provider takes everything: until what is true has been told.
    fn settle(&mut self, shop: Answer) {
        self.happens(&Deed::Provider(Mood::Takes));
        let last = self.quiets.iter().map(|quiet| quiet.until).max().unwrap_or(self.now).max(self.now);
        while self.now < last + SETTLED {
            self.happens(&Deed::Look(shop, Answer::Well));
        }
    }

    /// What must be true once all has settled.
    fn is_told(&self) {
        let old = |row: &&Row| row.at + SETTLED <= self.now;
        for row in self.outbox.iter().filter(old) {
            assert!(!row.waits(), "it waits for ever: {row:?}");
        }
        for row in &self.outbox {
            let fine = if matches!(row.fate, Fate::Sent(_)) { 1 + row.forgotten } else { row.forgotten };
            assert_eq!(row.taken, fine, "told again without need: {row:?}");
        }
        let open: BTreeSet<IncidentId> = [SHOP, ROUTER].into_iter().flat_map(|monitor| self.open(monitor)).collect();
        for row in self.outbox.iter().filter(|row| self.over.contains_key(&row.notice.incident)) {
            let ends = self.outbox.iter().filter(|other| other.same_story(row) && other.notice.event == NoticeEvent::Resolved);
            assert_eq!(ends.count(), 1, "whoever is told of it is told of its end, once: {row:?}");
        }
        for row in self.outbox.iter().filter(old) {
            let tried = matches!(row.fate, Fate::Sent(_) | Fate::Dead);
            let incident = row.notice.incident;
            let said = || self.earlier(row).chain([row]).any(|word| matches!(word.fate, Fate::Sent(_) | Fate::Dead));
            match (row.notice.event, self.over.get(&incident)) {
                (_, None) => {
                    assert!(open.contains(&incident), "neither open nor over");
                    assert!(said(), "it lasts, and was never told: {row:?}");
                    assert!(tried || row.notice.event != NoticeEvent::Opened, "it lasts, and its beginning was left out: {row:?}");
                }
                (NoticeEvent::Resolved, Some(_)) => {
                    let heard = self.earlier(row).any(|word| matches!(word.fate, Fate::Sent(_) | Fate::Dead));
                    assert_eq!(tried, heard, "whoever heard of it hears its end, and nobody else: {row:?}");
                    assert!(tried || row.fate == Fate::Suppressed(Suppressed::Unheard), "{row:?}");
                }
                (NoticeEvent::Opened, Some(_)) => {
                    assert!(tried || row.fate == Fate::Suppressed(Suppressed::OverWhileHeld), "{row:?}");
                }
                (NoticeEvent::Reminded | NoticeEvent::Escalated | NoticeEvent::Acknowledged | NoticeEvent::Unacknowledged, Some(_)) => {}
            }
        }
    }
}

fn answer() -> impl Strategy<Value = Answer> {
    prop::sample::select(vec![Answer::Well, Answer::Well, Answer::Slow, Answer::Fails, Answer::Fails, Answer::Fails])
}

fn deed() -> impl Strategy<Value = Deed> {
    let about = || prop::sample::select(vec![About::All, About::Shop, About::Shop, About::Router, About::Slow]);
    let router = prop::sample::select(vec![Answer::Well, Answer::Well, Answer::Well, Answer::Well, Answer::Fails]);
    let action = prop::sample::select(vec![Action::Acknowledge, Action::Unacknowledge, Action::Resolve]);
    let mood = prop::sample::select(vec![Mood::Takes, Mood::Takes, Mood::Refuses, Mood::GivesUp, Mood::Crash(true), Mood::Crash(false)]);
    prop_oneof![
        16 => (answer(), router).prop_map(|(shop, router)| Deed::Look(shop, router)),
        // An outage that lasts, so that reminders and steps of the escalation come due.
        4 => Just(Deed::Look(Answer::Fails, Answer::Well)),
        2 => (about(), 1_i64..150).prop_map(|(about, lasts)| Deed::Silence(about, lasts)),
        1 => Just(Deed::EndSilence),
        2 => (about(), 0_i64..60, 1_i64..100).prop_map(|(about, from, lasts)| Deed::Window(about, from, lasts)),
        1 => Just(Deed::DropWindow),
        1 => action.prop_map(Deed::Act),
        2 => mood.prop_map(Deed::Provider),
        1 => (0_usize..3).prop_map(Deed::Reroute),
    ]
}

proptest! {
    #[test]
    fn nobody_is_told_in_silence_and_what_is_still_true_is_told_afterwards(
        history in prop::collection::vec(deed(), 0..90),
        flap_window in prop::sample::select(vec![0_i64, 45]),
        cooldown in prop::sample::select(vec![0_i64, 100]),
        last in answer(),
    ) {
        let mut world = World::new(flap_window, cooldown);
        for deed in &history {
            world.happens(deed);
        }
        world.settle(last);
        world.is_told();
    }
}
