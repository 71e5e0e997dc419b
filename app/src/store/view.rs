//! Types of the store's contract around reading: what the API lists.

use super::decision::{BeatRow, LiveWrite};
use std::collections::BTreeMap;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::Severity;
use watchkeeper_core::{Dur, IncidentId, Micros, MonitorId};

/// A monitor as the API lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct MonitorView {
    /// Row id.
    pub id: MonitorId,
    /// Public id.
    pub uid: String,
    /// Name.
    pub name: String,
    /// `http`, …
    pub kind: String,
    /// What is watched.
    pub target: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Not watched for now.
    pub paused: bool,
    /// `file:line`.
    pub origin: String,
    /// Canonical configuration, secrets replaced.
    pub config: serde_json::Value,
    /// What is true.
    pub health: Health,
    /// Since when.
    pub since: Option<Micros>,
    /// Why, while failing or blind.
    pub why: Option<String>,
    /// Rules of it that flap.
    pub flapping: Vec<String>,
    /// When the store first saw it.
    pub created_at: Micros,
    /// Its newest heartbeat.
    pub last: Option<BeatRow>,
}

/// A monitor with no more than a list of all of them needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorBrief {
    /// Public id.
    pub uid: String,
    /// Name.
    pub name: String,
    /// `http`, …
    pub kind: String,
    /// What is watched.
    pub target: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Not watched for now.
    pub paused: bool,
    /// What is true.
    pub health: Health,
    /// Since when.
    pub since: Option<Micros>,
    /// Why, while failing or blind.
    pub why: Option<String>,
    /// Rules of it that flap.
    pub flapping: Vec<String>,
}

/// A tenant in numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Live monitors.
    pub monitors: i64,
    /// Of which so many are up or degraded.
    pub up: i64,
    /// And so many down.
    pub down: i64,
    /// Incidents that are not resolved.
    pub open_incidents: i64,
    /// The mean of the newest attempts of the monitors, as far as they were successful.
    pub response_us: Option<f64>,
}

/// An incident as the API lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentView {
    /// Public id.
    pub uid: String,
    /// Row id.
    pub id: IncidentId,
    /// The monitor's public id.
    pub monitor_uid: String,
    /// The monitor's name.
    pub monitor: String,
    /// Which rule.
    pub rule: String,
    /// `open`, `acknowledged`, `resolved`.
    pub status: String,
    /// How bad.
    pub severity: Severity,
    /// When it began.
    pub opened_at: Micros,
    /// When it ended.
    pub resolved_at: Option<Micros>,
    /// Why it ended.
    pub resolved_why: Option<String>,
    /// Why it began.
    pub reason: Option<String>,
    /// One sentence.
    pub summary: String,
    /// The deciding value.
    pub value: Option<i64>,
    /// Who took it on, if somebody has.
    pub acknowledged_by: Option<String>,
    /// When they did.
    pub acknowledged_at: Option<Micros>,
    /// What chose whom to tell, in words; not known of incidents of earlier versions.
    pub routed_by: Option<String>,
    /// Its timeline; empty in lists.
    pub timeline: Vec<TimelineEntry>,
    /// What was told to whom; empty in lists.
    pub notices: Vec<NoticeView>,
}

/// One entry of an incident's timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelineEntry {
    /// Place, from 0.
    pub nth: i32,
    /// When.
    pub at: Micros,
    /// `opened`, `reminded`, `escalated`, `acknowledged`, `unacknowledged`, `resolved`; `told`, `held`, `not_told`, `channels_failed`;
    /// `comment`.
    pub kind: String,
    /// Who, if a person.
    pub actor: Option<String>,
    /// What, for a person.
    pub text: String,
    /// What was seen.
    pub evidence: Option<serde_json::Value>,
}

/// What became of one notice.
#[derive(Clone, Debug, PartialEq)]
pub struct NoticeView {
    /// The channel's name.
    pub channel: String,
    /// `opened`, `reminded`, `escalated`, `acknowledged`, `unacknowledged`, `resolved`.
    pub event: String,
    /// `due`, `held`, `sending`, `sent`, `dead`, `suppressed`.
    pub state: String,
    /// Attempts begun.
    pub attempts: u32,
    /// The newest error.
    pub last_error: Option<String>,
    /// Why it is or was held, or was suppressed.
    pub why: Option<String>,
    /// When it is looked at again, while it waits.
    pub next_at: Option<Micros>,
    /// When it was decided.
    pub created_at: Micros,
    /// When the provider took it.
    pub sent_at: Option<Micros>,
}

/// Which incidents are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    /// `open`, `acknowledged`, `resolved`; `unresolved` are the first two in one answer, of one moment.
    pub status: Option<String>,
    /// Of one monitor (public id).
    pub monitor_uid: Option<String>,
    /// Opened before that time: the cursor, with the row id for equal times.
    pub before: Option<(Micros, IncidentId)>,
    /// At most so many, up to [`PAGE_MAX`].
    pub limit: i64,
}

/// No list answers with more rows than this. More would let one request hold the reader; less makes clients turn too many pages.
pub const PAGE_MAX: i64 = 1_000;

/// One line of a monitor's measured history: an hour, a day, or a part of an hour from raw beats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricBucket {
    /// When it begins.
    pub start: Micros,
    /// How long it is.
    pub span: Dur,
    /// Attempts that found it up.
    pub up: i64,
    /// Attempts that found it down.
    pub down: i64,
    /// Attempts that could not look.
    pub unknown: i64,
    /// Total times of successful attempts, all quantiles within 2 %.
    pub sketch: crate::sketch::Sketch,
    /// Attempts by HTTP status or DNS code.
    pub codes: BTreeMap<i32, i64>,
}

/// How long the monitor was in which state within a window, from exact state intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateTimes {
    /// Up or degraded, or failing below the threshold.
    pub up: Dur,
    /// Down.
    pub down: Dur,
    /// We could not look, or nothing was known.
    pub unknown: Dur,
}

/// A monitor's days: how long it was in which state, and the days on which it was not up all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorDays {
    /// Its public id.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its first known state in the window.
    pub known_since: Option<Micros>,
    /// Over the whole window; `unknown` since its first known state.
    pub times: StateTimes,
    /// By the day's place in the window, from 0; only `down` and `unknown` are given.
    pub troubled: BTreeMap<i64, StateTimes>,
}

/// What a public page is made from: some monitors of a tenant, all of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Glance {
    /// Those that are there, in no order.
    pub monitors: Vec<MonitorView>,
    /// Their days.
    pub days: Vec<MonitorDays>,
    /// Their last hours, as one window.
    pub recent: Vec<MonitorDays>,
    /// Their incidents, those that last first, newest first; at most [`PAGE_MAX`].
    pub incidents: Vec<IncidentView>,
}

/// How far back a [`Glance`] goes.
#[derive(Clone, Copy, Debug)]
pub struct GlanceSpan {
    /// The beginning of the first day.
    pub days_from: Micros,
    /// The beginning of the last hours.
    pub recent_from: Micros,
    /// Incidents that ended before this are left out.
    pub ended_after: Micros,
    /// The end of everything.
    pub to: Micros,
}

/// One live event as it is read back.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveRow {
    /// Its place in the stream; the SSE id.
    pub id: i64,
    /// What.
    pub event: LiveWrite,
}
