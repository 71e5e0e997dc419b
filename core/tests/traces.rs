//! Both folds over traces: a word per attempt in, what was decided out.

use proptest::prelude::*;
use smallvec::smallvec;
use std::collections::BTreeMap;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::quorum::{Health, Quorum};
use watchkeeper_core::rule::Step;
use watchkeeper_core::sight::{Sight, SightPolicy, see};
use watchkeeper_core::verdict::{Action, Event, IncidentChange, NoticeEvent, Policy, RuleState, Verdict, judge};
use watchkeeper_core::{
    Blind, ChannelId, DatacenterId, Dur, Heartbeat, Measure, Micros, Outcome, Reason, Rule, RuleKey, Severity, Trigger,
};

const STEP: Dur = Dur::secs(10);

fn rule(key: &str, trigger: Trigger, hold: Dur) -> Rule {
    Rule {
        key: RuleKey::new(key),
        trigger,
        severity: Severity::Critical,
        hold,
        channels: smallvec![ChannelId(1)],
        remind: None,
        escalate: Vec::new(),
        flap_window: Dur::ZERO,
        cooldown: Dur::ZERO,
    }
}

fn rules() -> Vec<Rule> {
    vec![
        rule("down", Trigger::Down, Dur::ZERO),
        rule("missed_push", Trigger::MissedPush, Dur::ZERO),
        rule("slow", Trigger::Above { what: Measure::Total, limit: 100_000, n: 2, of: 3 }, Dur::ZERO),
        rule("cert", Trigger::AtMost { what: Measure::CertDaysLeft, limit: 14 }, Dur::ZERO),
        rule("blind", Trigger::Blind { hold: Dur::secs(25) }, Dur::ZERO),
    ]
}

/// The two folds of one monitor in one datacenter, driven like the engine drives them.
struct Machine {
    sight: Sight,
    verdict: Verdict,
    at: Micros,
    sight_policy: SightPolicy,
    policy: Policy,
    ids: IdBlock,
    said: Vec<String>,
    told: Vec<(i64, NoticeEvent)>,
    /// Every notice: when, to whom, about which incident, which word, its place.
    notices: Vec<(Micros, i64, i64, NoticeEvent, u32)>,
}

impl Machine {
    fn new(rules: Vec<Rule>, up_after: u16) -> Self {
        Self {
            sight: Sight::default(),
            verdict: Verdict::default(),
            at: Micros(1_000_000_000),
            sight_policy: SightPolicy { down_after: 3, up_after, vote_lasts: Dur::secs(30) },
            policy: Policy { quorum: Quorum::Majority, rules },
            ids: IdBlock::new(1, 1_000_000),
            said: Vec::new(),
            told: Vec::new(),
            notices: Vec::new(),
        }
    }

    fn step(&mut self, word: &str) {
        self.at = self.at + STEP;
        let (outcome, measures) = match word {
            "u" => (Outcome::Up, vec![(Measure::Total, 5_000)]),
            "s" => (Outcome::Up, vec![(Measure::Total, 500_000)]),
            "d" => (Outcome::Down(Reason::TcpRefused), vec![(Measure::Total, 900_000)]),
            "m" => (Outcome::Down(Reason::PushMissed), vec![]),
            "?" => (Outcome::Unknown(Blind::NoRoute), vec![]),
            "c" => (Outcome::Up, vec![(Measure::CertDaysLeft, 14)]),
            "C" => (Outcome::Up, vec![(Measure::CertDaysLeft, 90)]),
            "e" => (Outcome::Down(Reason::TlsExpired), vec![(Measure::CertDaysLeft, -2)]),
            "-" => return self.wake(),
            "a" => return self.act(Action::Acknowledge),
            "A" => return self.act(Action::Unacknowledge),
            "r" => return self.act(Action::Resolve),
            "o" => return self.over_elsewhere(),
            other => panic!("no such word: {other}"),
        };
        let beat = Heartbeat { at: self.at, outcome, measures: measures.into() };
        let seen = see(&self.sight, &self.sight_policy, &self.policy.rules, &beat);
        self.sight = seen.sight;
        self.event(Event::Vote(DatacenterId(1), seen.vote));
    }

    fn wake(&mut self) {
        self.event(Event::Wake);
    }

    /// A person acts on everything that is open.
    fn act(&mut self, action: Action) {
        let open: Vec<_> = self.verdict.rules.iter().filter_map(|(_, state)| open_incident(state)).collect();
        for incident in open {
            self.event(Event::Operator(incident, action));
        }
    }

    /// A node that was cut off saw everything end that is open.
    fn over_elsewhere(&mut self) {
        let open: Vec<_> = self.verdict.rules.iter().filter_map(|(_, state)| open_incident(state)).collect();
        for incident in open {
            self.event(Event::SeenOver(incident));
        }
    }

    fn event(&mut self, event: Event) {
        let before = self.verdict.health;
        let judged = judge(&self.verdict, &self.policy, event, self.at, &mut self.ids);
        self.verdict = judged.verdict;
        if self.verdict.health != before {
            self.said.push(self.verdict.health.as_str().to_owned());
        }
        for change in &judged.incidents {
            self.said.push(match change {
                IncidentChange::Opened { rule, .. } => format!("+{rule}"),
                IncidentChange::Acknowledged { rule, on, .. } => format!("{}{rule}", if *on { "ack:" } else { "unack:" }),
                IncidentChange::Lasts { rule, event, settled, .. } => {
                    format!("{}{}:{rule}", event.as_str(), if *settled { ":settled" } else { "" })
                }
                IncidentChange::Resolved { rule, .. } => format!("-{rule}"),
            });
        }
        let at = self.at;
        self.notices.extend(judged.notices.iter().map(|n| (at, n.channel.0, n.incident.0, n.event, n.nth)));
        self.told.extend(judged.notices.iter().map(|n| (n.incident.0, n.event)));
    }
}

fn open_incident(state: &RuleState) -> Option<watchkeeper_core::IncidentId> {
    match state {
        RuleState::Open(standing) => Some(standing.incident),
        RuleState::Waiting { .. } | RuleState::Dismissed { .. } | RuleState::Ended { .. } => None,
    }
}

fn check_with(up_after: u16, trace: &str, expect: &str) {
    let mut machine = Machine::new(rules(), up_after);
    for word in trace.split_whitespace() {
        machine.step(word);
    }
    assert_eq!(machine.said.join(" "), expect, "trace: {trace}");
}

fn check(trace: &str, expect: &str) {
    check_with(1, trace, expect);
}

#[test]
fn three_failures_in_a_row_open_one_incident_and_a_success_ends_it() {
    check("u u u", "up");
    check("u d d u", "up pending up");
    check("u d d d d d u u", "up pending down +down up -down");
    check("d d d", "pending down +down");
    check("u d d d u d d d", "up pending down +down up -down pending down +down");
}

#[test]
fn recovery_may_ask_for_several_successes() {
    check_with(3, "d d d u u d u u u", "pending down +down up -down");
}

#[test]
fn unknown_neither_adds_to_nor_resets_a_streak() {
    check("u d ? d ? d u", "up pending unknown pending unknown down +down up -down");
    check("u ? u", "up unknown up");
    // An open incident stays open while nobody can look; the blindness is told apart once it has lasted.
    check("d d d ? ? ? u", "pending down +down unknown up -down");
    check("d d d ? ? ? ? u", "pending down +down unknown +blind up -down -blind");
}

#[test]
fn slowness_counts_n_of_m_successes_and_degrades() {
    check("u s u u s", "up");
    check("u s s", "up degraded +slow");
    check("s u s u u u", "up degraded +slow up -slow");
    // A failed attempt's time says nothing of slowness.
    check("u s d s", "up pending degraded +slow");
}

#[test]
fn certificates_alert_near_and_after_their_end() {
    check("C c C", "up degraded +cert up -cert");
    check("e e e", "pending +cert down +down");
}

#[test]
fn a_missed_push_is_its_own_rule() {
    check("u m m m u", "up pending down +missed_push up -missed_push");
    // Silence after a reported failure, or a reported failure after silence, is no recovery.
    check("u d d d m", "up pending down +down +missed_push");
    check("u d d d m m u", "up pending down +down +missed_push up -down -missed_push");
    check("m m m d u", "pending down +missed_push +down up -down -missed_push");
    // Nor does it undo that a person ended the incident.
    check("d d d r m d", "pending down +down -down +missed_push");
}

#[test]
fn a_hold_waits_for_the_wake_up_it_asked_for() {
    let mut machine = Machine::new(vec![rule("down", Trigger::Down, Dur::secs(15))], 1);
    for word in ["d", "d", "d", "-", "-", "u"] {
        machine.step(word);
    }
    assert_eq!(machine.said.join(" "), "pending down +down up -down");
    let mut machine = Machine::new(vec![rule("down", Trigger::Down, Dur::secs(15))], 1);
    for word in ["d", "d", "d", "u", "-"] {
        machine.step(word);
    }
    assert_eq!(machine.said.join(" "), "pending down up", "over before its hold: nothing opens");
}

#[test]
fn a_vote_that_ran_out_is_unknown_and_retiring_ends_what_is_open() {
    let mut machine = Machine::new(rules(), 1);
    for word in ["d", "d", "d", "-", "-", "-", "-"] {
        machine.step(word);
    }
    assert_eq!(machine.said.join(" "), "pending down +down unknown", "three intervals after the last vote");
    machine.event(Event::Retired);
    assert_eq!(machine.said.last().map(String::as_str), Some("-down"));
    assert!(machine.verdict.rules.is_empty());
}

#[test]
fn a_rule_that_is_taken_out_ends_its_incident_and_those_who_were_told_hear_it() {
    let mut machine = Machine::new(rules(), 1);
    for word in ["d", "d", "d"] {
        machine.step(word);
    }
    machine.policy.rules.retain(|r| r.key.as_str() != "down");
    machine.event(Event::Reconfigured);
    assert_eq!(machine.said.join(" "), "pending down +down -down");
    assert_eq!(machine.told, [(1, NoticeEvent::Opened), (1, NoticeEvent::Resolved)]);
}

#[test]
fn who_replaces_a_channel_that_was_told_hears_that_it_lasts_once() {
    let mut machine = machine(|_| ());
    machine.step("d");
    let heard = |machine: &Machine| machine.notices.iter().map(|n| (n.1, n.3)).collect::<Vec<_>>();
    // Another channel beside the one that was told: nobody is gone, nothing is said anew.
    machine.policy.rules[0].channels = smallvec![ChannelId(1), ChannelId(2)];
    machine.event(Event::Reconfigured);
    assert_eq!(heard(&machine), [(1, NoticeEvent::Opened)]);
    // The one that was told is gone.
    machine.policy.rules[0].channels = smallvec![ChannelId(2), ChannelId(3)];
    machine.event(Event::Reconfigured);
    machine.event(Event::Reconfigured);
    machine.step("-");
    let told = [(1, NoticeEvent::Opened), (2, NoticeEvent::Reminded), (3, NoticeEvent::Reminded)];
    assert_eq!(heard(&machine), told);
    assert_eq!(machine.said.join(" "), "down +down reminded:down");
    machine.step("u");
    assert_eq!(heard(&machine)[3..], [1, 2, 3].map(|channel| (channel, NoticeEvent::Resolved)));
    assert_eq!(machine.notices.last().unwrap().4, 2, "the words are numbered on");
}

/// Only `down`, with these settings, fast: each step is 10 s.
fn machine(change: impl FnOnce(&mut Rule)) -> Machine {
    let mut down = rule("down", Trigger::Down, Dur::ZERO);
    change(&mut down);
    let mut machine = Machine::new(vec![down], 1);
    machine.sight_policy.down_after = 1;
    machine.sight_policy.vote_lasts = Dur::secs(3_600);
    machine
}

fn said(mut machine: Machine, trace: &str) -> String {
    for word in trace.split_whitespace() {
        machine.step(word);
    }
    machine.said.join(" ")
}

#[test]
fn reminders_go_on_until_somebody_is_on_it() {
    let every_20 = |r: &mut Rule| r.remind = Some(Dur::secs(20));
    let expect = "down +down reminded:down reminded:down up -down";
    assert_eq!(said(machine(every_20), "d - - - - u"), expect);
    assert_eq!(said(machine(every_20), "d - - a - - - u"), "down +down reminded:down ack:down up -down");
    // Given back, they begin anew.
    assert_eq!(said(machine(every_20), "d a - - A - - u"), "down +down ack:down unack:down reminded:down up -down");
}

#[test]
fn whoever_heard_that_somebody_is_on_it_hears_that_nobody_is_any_more() {
    use NoticeEvent::{Acknowledged, Opened, Resolved, Unacknowledged};
    let mut machine = machine(|r| r.channels = smallvec![ChannelId(1), ChannelId(2)]);
    for word in "d a A a u".split_whitespace() {
        machine.step(word);
    }
    let of = |channel: i64| machine.notices.iter().filter(|n| n.1 == channel).map(|n| n.3).collect::<Vec<_>>();
    let words = [Opened, Acknowledged, Unacknowledged, Acknowledged, Resolved];
    assert_eq!((of(1), of(2)), (words.to_vec(), words.to_vec()));
}

#[test]
fn what_nobody_acknowledges_climbs_and_all_who_were_told_hear_the_end() {
    let steps = |r: &mut Rule| {
        r.escalate = vec![
            Step { after: Dur::secs(20), channels: smallvec![ChannelId(2)] },
            Step { after: Dur::secs(40), channels: smallvec![ChannelId(3), ChannelId(1)] },
        ];
    };
    let mut climbed = machine(steps);
    for word in "d - - - - - u".split_whitespace() {
        climbed.step(word);
    }
    assert_eq!(climbed.said.join(" "), "down +down escalated:down escalated:down up -down");
    let ended: Vec<i64> = climbed.notices.iter().filter(|n| n.3 == NoticeEvent::Resolved).map(|n| n.1).collect();
    assert_eq!(ended, [1, 2, 3]);
    assert_eq!(said(machine(steps), "d - - a - - - u"), "down +down escalated:down ack:down up -down");
    // Nobody was there to take the steps in time: they are taken together, none is forgotten.
    let mut late = machine(steps);
    late.step("d");
    late.at = late.at + Dur::secs(600);
    late.step("-");
    assert_eq!(late.notices.iter().filter(|n| n.3 == NoticeEvent::Escalated).map(|n| n.1).collect::<Vec<_>>(), [2, 3, 1]);
}

#[test]
fn a_person_may_end_it_and_it_does_not_come_back_before_it_was_well() {
    assert_eq!(said(machine(|_| ()), "d r d d u d"), "down +down -down up down +down");
}

#[test]
fn what_another_node_saw_end_ends_and_what_is_bad_all_the_same_begins_anew() {
    assert_eq!(said(machine(|_| ()), "d o d u"), "down +down -down +down up -down");
    // Nobody can look: it ends, and what begins waits for a look.
    assert_eq!(said(machine(|_| ()), "d ? o d u"), "down +down unknown -down down +down up -down");
    // What is over here is over.
    assert_eq!(said(machine(|_| ()), "d u o"), "down +down up -down");
}

#[test]
fn a_rule_that_comes_back_at_once_flaps_and_ends_when_it_stays_well() {
    let window = |r: &mut Rule| r.flap_window = Dur::secs(30);
    // The second time is told as flapping; then nothing until it has been well for the window.
    assert_eq!(
        said(machine(window), "d u d u d u d u u u u"),
        "down +down up -down down +down degraded down degraded down degraded up -down"
    );
    // Or until it has stayed down for the window: that is told, and its end then at once.
    assert_eq!(said(machine(window), "d u d u d d d d d u"), "down +down up -down down +down degraded down reminded:settled:down up -down");
    // Long after its end it does not flap.
    assert_eq!(said(machine(window), "d u u u u d u"), "down +down up -down down +down up -down");
}

fn alerting_trace() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["u", "u", "d", "d", "d", "?", "-", "-", "a", "A", "r", "o"]), 0..200)
}

proptest! {
    #[test]
    fn words_about_an_incident_are_numbered_in_their_order_and_end_with_its_end(trace in alerting_trace(), window in 0_i64..80) {
        let mut machine = machine(|r| {
            r.remind = Some(Dur::secs(30));
            r.escalate = vec![Step { after: Dur::secs(25), channels: smallvec![ChannelId(2)] }];
            r.flap_window = Dur::secs(window);
        });
        for word in &trace {
            machine.step(word);
        }
        let mut by_place: BTreeMap<(i64, i64), Vec<(NoticeEvent, u32)>> = BTreeMap::new();
        for (_, channel, incident, event, nth) in &machine.notices {
            by_place.entry((*incident, *channel)).or_default().push((*event, *nth));
        }
        for ((_, channel), words) in &by_place {
            prop_assert!(words.windows(2).all(|w| w[0].1 < w[1].1), "{:?}", words);
            let ends = words.iter().filter(|w| w.0 == NoticeEvent::Resolved).count();
            prop_assert!(ends <= 1 && (ends == 0 || words.last().unwrap().0 == NoticeEvent::Resolved), "{:?}", words);
            let first = if *channel == 1 { NoticeEvent::Opened } else { NoticeEvent::Escalated };
            prop_assert_eq!(words[0].0, first, "nobody hears of an end or a reminder without the beginning");
        }
        // Nothing is said about an incident of which nothing is open, and what is open is the newest.
        let open = machine.verdict.rules.iter().find_map(|(_, state)| open_incident(state));
        let newest = machine.notices.iter().map(|n| n.2).max();
        let ended = machine.notices.iter().filter(|n| n.3 == NoticeEvent::Resolved).map(|n| n.2).max();
        prop_assert_eq!(open.map(|id| id.0), newest.filter(|id| Some(*id) != ended));
    }

    #[test]
    fn from_when_a_target_is_seen_to_flap_at_most_two_words_leave_per_window(trace in prop::collection::vec(prop::sample::select(vec!["u", "d", "-", "?"]), 0..300), window in 20_i64..100) {
        let window = Dur::secs(window);
        let mut machine = machine(|r| r.flap_window = window);
        for word in &trace {
            machine.step(word);
        }
        // An incident that began within a window of the last end flaps: from its beginning on.
        let mut last_end: Option<Micros> = None;
        let mut flapping_since = Vec::new();
        for (at, _, _, event, _) in &machine.notices {
            match event {
                NoticeEvent::Opened if last_end.is_some_and(|end| *at < end + window) => flapping_since.push(*at),
                NoticeEvent::Resolved => last_end = Some(*at),
                NoticeEvent::Opened
                | NoticeEvent::Reminded
                | NoticeEvent::Escalated
                | NoticeEvent::Acknowledged
                | NoticeEvent::Unacknowledged => {}
            }
        }
        for from in flapping_since {
            let words = machine.notices.iter().filter(|n| n.0 >= from && n.0 < from + window).count();
            prop_assert!(words <= 2, "{} words within {:?} of {:?}: {:?}", words, window, from, machine.notices);
        }
        // And it ends with the truth: whatever is told last agrees with what is, once it has been so for a window.
        let last = machine.verdict.health;
        for _ in 0..12 {
            machine.step(if last == Health::Down { "d" } else { "u" });
        }
        let told_down = machine.notices.last().is_some_and(|n| n.3 != NoticeEvent::Resolved);
        prop_assert_eq!(told_down, last == Health::Down);
    }
}

fn trace() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["u", "u", "s", "d", "d", "m", "?", "c", "C", "e", "-"]), 0..120)
}

proptest! {
    #[test]
    fn every_end_follows_a_beginning_and_one_incident_is_open_per_rule(trace in trace(), up_after in 1_u16..4) {
        let mut machine = Machine::new(rules(), up_after);
        let mut open: BTreeMap<String, u32> = BTreeMap::new();
        for word in &trace {
            let from = machine.said.len();
            machine.step(word);
            for said in &machine.said[from..] {
                if let Some(rule) = said.strip_prefix('+') {
                    let n = open.entry(rule.to_owned()).or_default();
                    prop_assert_eq!(*n, 0, "{} opened twice", rule);
                    *n = 1;
                } else if let Some(rule) = said.strip_prefix('-') {
                    prop_assert_eq!(open.insert(rule.to_owned(), 0), Some(1), "{} ended without a beginning", rule);
                }
            }
        }
        // Whatever was told is opened once and resolved at most once, in that order.
        let mut seen: BTreeMap<i64, Vec<NoticeEvent>> = BTreeMap::new();
        for (id, event) in machine.told {
            seen.entry(id).or_default().push(event);
        }
        for events in seen.values() {
            prop_assert!(events == &[NoticeEvent::Opened] || events == &[NoticeEvent::Opened, NoticeEvent::Resolved]);
        }
    }

    #[test]
    fn blindness_alone_never_touches_a_rule_about_the_target(trace in trace(), blind in 1_usize..20) {
        let mut machine = Machine::new(rules(), 1);
        for word in &trace {
            machine.step(word);
        }
        let from = machine.said.len();
        for _ in 0..blind {
            machine.step("?");
        }
        for said in &machine.said[from..] {
            prop_assert!(said == "unknown" || said == "+blind", "{}", said);
        }
    }

    #[test]
    fn a_state_that_went_through_the_store_decides_the_same(trace in trace(), cut in 0_usize..120) {
        let mut whole = Machine::new(rules(), 2);
        let mut parted = Machine::new(rules(), 2);
        for (n, word) in trace.iter().enumerate() {
            if n == cut {
                parted.sight = serde_json::from_str(&serde_json::to_string(&parted.sight).unwrap()).unwrap();
                parted.verdict = serde_json::from_str(&serde_json::to_string(&parted.verdict).unwrap()).unwrap();
            }
            whole.step(word);
            parted.step(word);
        }
        prop_assert_eq!(whole.said, parted.said);
    }

    #[test]
    fn a_sight_that_stays_up_stays_equal(n in 3_usize..50) {
        let mut machine = Machine::new(rules(), 2);
        for _ in 0..3 {
            machine.step("u");
        }
        let settled = machine.sight.clone();
        for _ in 0..n {
            machine.step("u");
            prop_assert_eq!(&machine.sight, &settled);
        }
        prop_assert_eq!(machine.verdict.health, Health::Up);
    }
}
