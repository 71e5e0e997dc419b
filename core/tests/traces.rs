//! Both folds over traces: a word per attempt in, what was decided out.

use proptest::prelude::*;
use smallvec::smallvec;
use std::collections::BTreeMap;
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::quorum::{Health, Quorum};
use watchkeeper_core::sight::{Sight, SightPolicy, see};
use watchkeeper_core::verdict::{Event, IncidentChange, NoticeEvent, Policy, Verdict, judge};
use watchkeeper_core::{
    Blind, ChannelId, DatacenterId, Dur, Heartbeat, Measure, Micros, Outcome, Reason, Rule, RuleKey, Severity, Trigger,
};

const STEP: Dur = Dur::secs(10);

fn rule(key: &str, trigger: Trigger, hold: Dur) -> Rule {
    Rule { key: RuleKey::new(key), trigger, severity: Severity::Critical, hold, channels: smallvec![ChannelId(1)] }
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
                IncidentChange::Resolved { rule, .. } => format!("-{rule}"),
            });
        }
        self.told.extend(judged.notices.iter().map(|n| (n.incident.0, n.event)));
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
    check("u d d d m", "up pending down +down -down +missed_push");
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
