//! What is read from the sidecar: the JSON of the contract, a fuller one, and Prometheus' text.
//!
//! `/metrics` on the main port has exactly the fields that the seed's platform reads, `idle_duration_seconds` as a whole number so that
//! programs that expect an integer can read it. What is more is under `/status`.

use crate::clock::rfc3339;
use crate::counts::{Counts, Histogram};
use crate::sidecar::State;
use serde::Serialize;
use std::fmt::Write as _;
use watchkeeper_core::{Dur, Micros};

/// So many requests in flight are listed; the rest is counted. More would make answers that take longer than a worker's calls may.
const LISTED_MAX: usize = 100;

#[derive(Serialize)]
struct Activity {
    active_requests: u64,
    total_requests: u64,
    last_request_time: Option<String>,
    start_time: String,
    is_processing: bool,
    idle_duration_seconds: i64,
}

#[derive(Serialize)]
struct Status {
    state: &'static str,
    draining_since: Option<String>,
    /// The same by this clock, so that nobody needs to compare it with another.
    draining_for_seconds: Option<f64>,
    grace_period_seconds: f64,
    #[serde(flatten)]
    activity: Activity,
    /// The longest first.
    in_flight: Vec<Listed>,
    in_flight_left_out: u64,
    lost_requests: u64,
    started_again: u64,
    unmatched_ends: u64,
    bad_ids: u64,
    bad_durations: u64,
    restarts: u64,
}

#[derive(Serialize)]
struct Listed {
    id: Option<String>,
    count: u64,
    since: String,
    seconds: f64,
}

fn activity(counts: &Counts, now: Micros) -> Activity {
    let active = counts.active();
    Activity {
        active_requests: active,
        total_requests: counts.total,
        last_request_time: counts.last_start.map(rfc3339),
        start_time: rfc3339(counts.since),
        is_processing: active > 0,
        idle_duration_seconds: counts.idle_since().map_or(0, |since| (now - since).0.max(0) / 1_000_000),
    }
}

fn listed(counts: &Counts, now: Micros) -> (Vec<Listed>, u64) {
    let (shown, left_out) = counts.in_flight(LISTED_MAX);
    let list = shown.into_iter().map(|f| Listed {
        id: f.id.map(|id| id.as_str().to_owned()),
        count: f.count,
        since: rfc3339(f.since),
        seconds: seconds(now - f.since),
    });
    (list.collect(), left_out)
}

/// `GET /metrics` on the main port.
pub fn metrics(state: &State, now: Micros) -> String {
    json(&activity(&state.counts, now))
}

/// `GET /status`.
pub fn status(state: &State, draining_since: Option<Micros>, grace: Dur, now: Micros) -> String {
    let (in_flight, in_flight_left_out) = listed(&state.counts, now);
    json(&Status {
        state: if draining_since.is_some() { "draining" } else { "serving" },
        draining_since: draining_since.map(rfc3339),
        draining_for_seconds: draining_since.map(|since| seconds(now - since)),
        grace_period_seconds: seconds(grace),
        activity: activity(&state.counts, now),
        in_flight,
        in_flight_left_out,
        lost_requests: state.counts.lost,
        started_again: state.counts.started_again,
        unmatched_ends: state.counts.unmatched_ends,
        bad_ids: state.bad_ids.count,
        bad_durations: state.bad_durations.count,
        restarts: state.counts.restarts,
    })
}

/// Prometheus' text form, version 0.0.4.
pub fn prometheus(state: &State, draining: bool, now: Micros) -> String {
    let counts = &state.counts;
    let mut out = String::with_capacity(4_096);
    let mut one = |name: &str, kind: &str, help: &str, value: f64| {
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "# HELP watchkeeper_sidecar_{name} {help}\n# TYPE watchkeeper_sidecar_{name} {kind}\nwatchkeeper_sidecar_{name} {value}\n"
        );
    };
    one("active_requests", "gauge", "Requests in flight.", counts.active() as f64);
    one("requests_total", "counter", "Requests begun.", counts.total as f64);
    one("lost_requests_total", "counter", "Requests whose end was never heard of.", counts.lost as f64);
    one("started_again_total", "counter", "Starts of an id that was in flight already.", counts.started_again as f64);
    one("unmatched_ends_total", "counter", "Ends of nothing in flight.", counts.unmatched_ends as f64);
    one("bad_ids_total", "counter", "Calls whose id could not be one; they were counted without it.", state.bad_ids.count as f64);
    one(
        "bad_durations_total",
        "counter",
        "Ends whose duration was none; they were counted and not timed.",
        state.bad_durations.count as f64,
    );
    one("state_write_failures_total", "counter", "Times that STATE_FILE could not be written.", state.unwritten as f64);
    one("restarts_total", "counter", "Times that a new process found the counts again.", counts.restarts as f64);
    let oldest = counts.oldest().map_or(0.0, |since| seconds(now - since));
    one("oldest_request_seconds", "gauge", "For how long the longest request has been in flight; 0 if none is.", oldest);
    one("draining", "gauge", "1 while draining, else 0.", f64::from(u8::from(draining)));
    if let Some(last) = counts.last_start {
        one("last_request_timestamp_seconds", "gauge", "When the newest request began.", last.0 as f64 / 1e6);
    }
    one("start_timestamp_seconds", "gauge", "Since when it is counted.", counts.since.0 as f64 / 1e6);
    histogram(&mut out, &counts.took);
    let _ = write!(
        out,
        "# HELP watchkeeper_sidecar_build_info 1, with the version as label.\n# TYPE watchkeeper_sidecar_build_info gauge\n\
         watchkeeper_sidecar_build_info{{version=\"{}\"}} 1\n",
        env!("CARGO_PKG_VERSION")
    );
    out
}

fn histogram(out: &mut String, took: &Histogram) {
    let name = "watchkeeper_sidecar_request_duration_seconds";
    let _ = write!(out, "# HELP {name} How long requests took, as the worker measured it.\n# TYPE {name} histogram\n");
    let mut below = 0;
    for (ms, count) in Histogram::BOUNDS_MS.iter().zip(took.buckets) {
        below += count;
        let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", *ms as f64 / 1e3);
    }
    let count = took.count();
    let _ = write!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {}\n{name}_count {count}\n", took.sum_us as f64 / 1e6);
}

fn seconds(d: Dur) -> f64 {
    d.0.max(0) as f64 / 1e6
}

fn json(value: &impl Serialize) -> String {
    // Plain structs of numbers and strings: no value of theirs can fail to be written.
    serde_json::to_string(value).unwrap_or_default()
}
