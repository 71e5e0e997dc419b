//! What a worker's sidecar says: read, and judged. Pure.
//!
//! The JSON of `/metrics` is the contract that every sidecar keeps; ours says more under `/status`: what is in flight and since
//! when, whether it drains and for how long. Ages are taken from what the sidecar says by its own clock, never from two clocks compared.

use crate::config::decode::{show_duration, shown};
use crate::net::Fault;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use watchkeeper_core::{Dur, Reason};

/// So many stuck requests are told of; the rest is counted. More would fill the evidence of a worker that hangs as a whole; fewer
/// would hide which messages it hangs on.
const STUCK_MAX: usize = 10;

/// No figure of seconds is taken for more: 3 000 years, so that sums stay far from overflow.
const SECONDS_MAX: f64 = 1e11;

/// What a worker's sidecar said. Ages are by the sidecar's own clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkerFacts {
    /// What the figures come to.
    pub state: WorkerState,
    /// Requests in flight.
    pub active: u64,
    /// Requests begun.
    pub total: u64,
    /// For how long nothing has been in flight; 0 while something is.
    pub idle_us: u64,
    /// For how long the longest request has been in flight; absent if none is, or if it is not known. From a sidecar that has no
    /// `/status`, at least so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_us: Option<u64>,
    /// For how long it has been draining, as far as it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining_us: Option<u64>,
    /// How long a drain may take, as far as it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_us: Option<u64>,
    /// Whether it is ready to take work.
    pub ready: bool,
    /// When the newest request began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request: Option<String>,
    /// Since when it counts.
    pub since: String,
    /// How many updates wait for the workers of its bot, where the monitor names who knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka_lag: Option<u64>,
    /// What has been in flight for longer than `stuck_after`, the longest first; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<StuckRequest>,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Nothing is in flight.
    Idle,
    /// Something is in flight.
    Active,
    /// Something has been in flight for too long.
    Stuck,
    /// It finishes what is in flight and takes nothing more.
    Draining,
    /// It is not ready, and does not say that it drains.
    NotReady,
}

impl WorkerState {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Stuck => "stuck",
            Self::Draining => "draining",
            Self::NotReady => "not_ready",
        }
    }
}

/// Requests of a worker that began together and do not end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StuckRequest {
    /// The name that the worker gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How many there are, without an id.
    pub count: u64,
    /// For how long it has been in flight.
    pub for_us: u64,
}

/// The contract's figures.
#[derive(Debug, Deserialize)]
pub(super) struct Activity {
    active_requests: u64,
    total_requests: u64,
    last_request_time: Option<Timestamp>,
    start_time: Timestamp,
    is_processing: bool,
    idle_duration_seconds: f64,
}

/// What the manager of its bot says: `null` where Kafka did not answer it.
#[derive(Debug, Deserialize)]
struct Waiting {
    kafka_lag: Option<u64>,
}

/// How many updates wait, of an answer's text; or what is wrong with it.
pub(super) fn waiting(body: &[u8]) -> Result<u64, String> {
    let Waiting { kafka_lag } = serde_json::from_slice(body).map_err(|error| shown(&error.to_string()))?;
    kafka_lag.ok_or_else(|| "kafka_lag is null: nobody knows how many updates wait".to_owned())
}

/// What our own sidecar says beside them.
#[derive(Debug, Deserialize)]
pub(super) struct More {
    state: Word,
    draining_for_seconds: Option<f64>,
    grace_period_seconds: f64,
    in_flight: Vec<InFlight>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Serving,
    Draining,
}

#[derive(Debug, Deserialize)]
struct InFlight {
    id: Option<String>,
    count: u64,
    seconds: f64,
}

impl Activity {
    /// Of a page's text; or what is wrong with it.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let activity: Self = serde_json::from_slice(body).map_err(|error| shown(&error.to_string()))?;
        if activity.is_processing != (activity.active_requests > 0) {
            let Self { is_processing, active_requests, .. } = activity;
            return Err(format!("is_processing is {is_processing} with {active_requests} active_requests"));
        }
        Ok(activity)
    }
}

impl More {
    /// Of a page's text, if it is one of our sidecar.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

/// The `Date` of an answer (RFC 9110 section 5.6.7): when it was by the clock of whoever answered.
pub(super) fn date(header: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(header).ok()?;
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// Puts together what was said. `said_at` is the instant of it by the sidecar's clock.
pub(super) fn facts(
    activity: &Activity,
    more: Option<More>,
    said_at: Option<Timestamp>,
    ready: bool,
    stuck_after: Dur,
) -> Box<WorkerFacts> {
    let active = activity.active_requests;
    let (drains, draining_us, grace_us) = more.as_ref().map_or((false, None, None), |more| {
        (more.state == Word::Draining, more.draining_for_seconds.map(micros), Some(micros(more.grace_period_seconds)))
    });
    let mut in_flight: Vec<StuckRequest> = match more {
        Some(more) => more.in_flight.into_iter().map(|f| StuckRequest { id: f.id, count: f.count, for_us: micros(f.seconds) }).collect(),
        // Nothing that is in flight began after the newest request did.
        None => newest_age(activity, said_at).map(|for_us| StuckRequest { id: None, count: active, for_us }).into_iter().collect(),
    };
    if active == 0 {
        in_flight.clear();
    }
    let oldest_us = in_flight.iter().map(|one| one.for_us).max();
    in_flight.retain(|one| one.for_us > limit(stuck_after));
    in_flight.sort_by_key(|one| std::cmp::Reverse(one.for_us));
    in_flight.truncate(STUCK_MAX);
    let state = if drains && is_overdue(draining_us, grace_us) {
        WorkerState::Draining
    } else if !in_flight.is_empty() {
        WorkerState::Stuck
    } else if drains {
        WorkerState::Draining
    } else if !ready {
        WorkerState::NotReady
    } else if active > 0 {
        WorkerState::Active
    } else {
        WorkerState::Idle
    };
    Box::new(WorkerFacts {
        state,
        active,
        total: activity.total_requests,
        idle_us: micros(activity.idle_duration_seconds),
        oldest_us,
        draining_us,
        grace_us,
        ready,
        last_request: activity.last_request_time.map(|at| at.to_string()),
        since: activity.start_time.to_string(),
        kafka_lag: None,
        stuck: in_flight,
    })
}

/// Judges what was put together. A drain within its grace is what a worker is meant to do.
pub(super) fn judge(facts: &WorkerFacts, stuck_after: Dur, not_ready: &str) -> Result<(), Fault> {
    match facts.state {
        WorkerState::Draining if is_overdue(facts.draining_us, facts.grace_us) => {
            let (length, grace) = (age(facts.draining_us.unwrap_or(0)), age(facts.grace_us.unwrap_or(0)));
            let text = format!("it has been draining for {length}, its grace is {grace}; {} in flight", facts.active);
            Err(Fault::down(Reason::WorkerNotDraining, text))
        }
        WorkerState::Idle | WorkerState::Active | WorkerState::Draining => Ok(()),
        WorkerState::Stuck => {
            let first = facts.stuck.first();
            let id = first.and_then(|one| one.id.as_deref()).map(|id| format!(" ({})", shown(id))).unwrap_or_default();
            let longest = age(first.map_or(0, |one| one.for_us));
            let text = format!("{} in flight, the longest{id} for {longest}; {} is allowed", facts.active, show_duration(stuck_after));
            Err(Fault::down(Reason::WorkerStuck, text))
        }
        WorkerState::NotReady => Err(Fault::down(Reason::WorkerNotReady, not_ready)),
    }
}

fn is_overdue(draining_us: Option<u64>, grace_us: Option<u64>) -> bool {
    matches!((draining_us, grace_us), (Some(draining), Some(grace)) if draining > grace)
}

fn newest_age(activity: &Activity, said_at: Option<Timestamp>) -> Option<u64> {
    u64::try_from(said_at?.as_microsecond() - activity.last_request_time?.as_microsecond()).ok()
}

fn limit(stuck_after: Dur) -> u64 {
    u64::try_from(stuck_after.0).unwrap_or(0)
}

/// Seconds of another program as µs: neither below zero nor beyond all reason.
fn micros(seconds: f64) -> u64 {
    (seconds.clamp(0.0, SECONDS_MAX) * 1e6) as u64
}

/// For a person, who does not count parts of a second.
fn age(us: u64) -> String {
    show_duration(Dur::secs(i64::try_from(us / 1_000_000).unwrap_or(i64::MAX / 1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use watchkeeper_core::Outcome;

    const STUCK_AFTER: Dur = Dur::secs(300);

    fn activity(active: u64) -> Activity {
        let text = format!(
            r#"{{"active_requests":{active},"total_requests":9,"last_request_time":"2025-01-15T10:00:00Z","start_time":"2025-01-15T09:00:00Z",
               "is_processing":{},"idle_duration_seconds":0.5}}"#,
            active > 0
        );
        Activity::read(text.as_bytes()).unwrap()
    }

    fn more(state: &str, draining_for: Option<f64>, in_flight: &[f64]) -> Option<More> {
        let listed: Vec<_> = in_flight.iter().map(|seconds| serde_json::json!({ "id": "u-1", "count": 1, "seconds": seconds })).collect();
        let whole =
            serde_json::json!({ "state": state, "draining_for_seconds": draining_for, "grace_period_seconds": 30, "in_flight": listed });
        More::read(whole.to_string().as_bytes())
    }

    fn told(active: u64, more: Option<More>, ready: bool) -> (WorkerState, Option<(Reason, String)>) {
        let facts = facts(&activity(active), more, date(b"Wed, 15 Jan 2025 10:04:00 GMT"), ready, STUCK_AFTER);
        let fault = judge(&facts, STUCK_AFTER, "why").err().map(|fault| match fault.outcome {
            Outcome::Down(reason) => (reason, fault.text),
            other @ (Outcome::Up | Outcome::Unknown(_)) => panic!("{other:?}"),
        });
        (facts.state, fault)
    }

    #[test]
    fn what_it_does_follows_from_what_it_says() {
        use WorkerState::{Active, Draining, Idle, NotReady, Stuck};
        let down = |reason, text: &str| Some((reason, text.to_owned()));
        let stuck = |text: &str| down(Reason::WorkerStuck, text);
        for (active, more, ready, state, fault) in [
            (0, more("serving", None, &[]), true, Idle, None),
            (2, more("serving", None, &[300.0, 0.1]), true, Active, None),
            (2, more("serving", None, &[0.1, 363.7]), true, Stuck, stuck("2 in flight, the longest (u-1) for 6m3s; 5m is allowed")),
            (1, more("draining", Some(29.9), &[60.0]), false, Draining, None),
            (1, more("draining", Some(10.0), &[301.0]), false, Stuck, stuck("1 in flight, the longest (u-1) for 5m1s; 5m is allowed")),
            (
                1,
                more("draining", Some(45.0), &[301.0]),
                false,
                Draining,
                down(Reason::WorkerNotDraining, "it has been draining for 45s, its grace is 30s; 1 in flight"),
            ),
            // An older sidecar does not say for how long.
            (0, more("draining", None, &[]), false, Draining, None),
            (0, more("serving", None, &[]), false, NotReady, down(Reason::WorkerNotReady, "why")),
            // A sidecar with the contract's figures alone: the newest request is four minutes old, by its own clock.
            (1, None, true, Active, None),
            (0, None, false, NotReady, down(Reason::WorkerNotReady, "why")),
        ] {
            assert_eq!(told(active, more, ready), (state, fault), "{active} {state:?}");
        }
    }

    #[test]
    fn the_age_of_the_newest_request_is_the_least_age_of_all() {
        let at = |text: &[u8], active| facts(&activity(active), None, date(text), true, STUCK_AFTER);
        assert_eq!(at(b"Wed, 15 Jan 2025 10:05:00 GMT", 3).state, WorkerState::Active);
        let stuck = at(b"Wed, 15 Jan 2025 10:05:01 GMT", 3);
        assert_eq!((stuck.state, stuck.oldest_us), (WorkerState::Stuck, Some(301_000_000)));
        assert_eq!(stuck.stuck, [StuckRequest { id: None, count: 3, for_us: 301_000_000 }]);
        assert_eq!(at(b"Wed, 15 Jan 2025 10:05:01 GMT", 0).state, WorkerState::Idle);
        // Without a date, or with one from before, nothing is known of it.
        for text in [&b""[..], b"soon", b"\xff", b"Wed, 15 Jan 2025 09:00:00 GMT"] {
            assert_eq!(at(text, 3).oldest_us, None);
        }
    }

    #[test]
    fn what_is_not_of_the_contract_is_named() {
        let good = r#"{"active_requests":0,"total_requests":0,"last_request_time":null,"start_time":"2025-01-15T09:00:00Z","is_processing":false,"idle_duration_seconds":7}"#;
        assert_eq!(Activity::read(good.as_bytes()).unwrap().idle_duration_seconds as i64, 7);
        for (from, to, problem) in [
            ("\"total_requests\":0,", "", "missing field `total_requests`"),
            ("\"active_requests\":0", "\"active_requests\":-1", "expected u64"),
            ("\"active_requests\":0", "\"active_requests\":2", "is_processing is false with 2 active_requests"),
            ("2025-01-15T09:00:00Z", "yesterday", "start_time"),
            ("7}", "\"7\"}", "expected f64"),
            ("}", "", "EOF"),
        ] {
            let problem_found = Activity::read(good.replace(from, to).as_bytes()).unwrap_err();
            assert!(problem_found.contains(problem) || problem == "start_time", "{problem_found}");
        }
        assert!(More::read(good.as_bytes()).is_none(), "figures alone are not more");
    }

    proptest! {
        /// Whatever numbers come, there is a state and no panic; and what is told as stuck is older than allowed.
        #[test]
        fn any_figures_come_to_a_state(active in 0_u64..5, drains in any::<bool>(), ready in any::<bool>(), length in any::<f64>(), ages in proptest::collection::vec(any::<f64>(), 0..20)) {
            let finite = |n: f64| if n.is_finite() { n } else { 0.0 };
            let ages: Vec<f64> = ages.into_iter().map(finite).collect();
            let more = more(if drains { "draining" } else { "serving" }, Some(finite(length)), &ages);
            let facts = facts(&activity(active), more, None, ready, STUCK_AFTER);
            prop_assert!(facts.stuck.len() <= STUCK_MAX && facts.stuck.iter().all(|one| one.for_us > 300_000_000));
            prop_assert!(facts.stuck.is_empty() || active > 0);
            let fault = judge(&facts, STUCK_AFTER, "").is_err();
            prop_assert_eq!(fault, match facts.state {
                WorkerState::Idle | WorkerState::Active => false,
                WorkerState::Draining => finite(length) > 30.0,
                WorkerState::Stuck | WorkerState::NotReady => true,
            });
        }
    }
}
