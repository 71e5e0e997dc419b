//! What the API answers: types of its own, apart from the core's and the store's, so that neither can change the API unseen.
//!
//! Times are RFC 3339 in UTC with microseconds, lengths of time are whole microseconds with `_us` in the name or seconds with
//! `seconds`. A list is never null. Field order and names are held by the snapshots below.

use crate::probe::Attempt;
use crate::store::{self, BeatRow, LiveRow, MonitorView};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;
use watchkeeper_core::Micros;

mod alerting;
mod incident;
mod pages;
mod people;
#[cfg(test)]
pub(crate) mod schemas;

pub use alerting::{
    AlertChannel, AlertRule, ChannelFailing, ChannelNotice, ChannelTested, DeadLetter, Difference, Document, Done, Fall, Imported,
    ImportedItem, MadeObject, Maintenance, Match, Mute, NewAlertRule, NewComment, NewSilence, Order, Recurs, RuleTested, Silence,
};
pub use incident::{Entry, Incident, MonitorRef, Notice};
pub use pages::{PublicMessage, PublicMonitor, PublicPage, PublicUpdate, Subscriber};
pub use people::{
    Audited, Code, Login, MadeToken, Me, NewMember, NewPassword, NewToken, NewUser, OwnPassword, Recovery, SecondFactor, SetUp, SignIn,
    SignedIn, Tenant, TenantInfo, TenantLimits, Token, User, UserPatch,
};

/// An instant as the API writes it: `2026-01-31T12:00:00.123456Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Micros);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0.0) {
            Ok(time) => write!(f, "{time:.6}"),
            // Beyond the year 9999: the number says more than an error.
            Err(_) => write!(f, "{}", self.0.0),
        }
    }
}

impl std::str::FromStr for Time {
    type Err = jiff::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>().map(|time| Self(Micros(time.as_microsecond())))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| de::Error::custom("expected a time such as 2026-01-31T12:00:00Z"))
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time", "description": "An instant, RFC 3339." })
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "{T}Page"))]
pub struct Page<T> {
    /// The items; empty, never null.
    pub items: Vec<T>,
    /// What to send as `after` (monitors) or `before` (the others) for the next page; null on the last one.
    pub next: Option<String>,
}

/// A monitor with what is true of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Monitor {
    /// Public id.
    pub uid: String,
    /// Unique in the tenant.
    pub name: String,
    /// `http`, `tcp`, …
    pub kind: String,
    /// What is watched, without credentials.
    pub target: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Not watched for now; `health` is what was last true.
    pub paused: bool,
    /// `up`, `degraded`, `pending`, `down`, `unknown`.
    #[cfg_attr(test, schemars(schema_with = "schemas::health"))]
    pub health: String,
    /// Since when.
    pub since: Option<Time>,
    /// Why, while failing or blind: `dns_nxdomain`, …
    pub why: Option<String>,
    /// Rules that flap: their incident goes on until they have been clear for their whole `flap_window`.
    #[serde(default)]
    pub flapping: Vec<String>,
    /// The newest heartbeat.
    pub last: Option<Heartbeat>,
    /// What keeps its incidents from being told now.
    pub mutes: Vec<Mute>,
    /// Where it was defined: `file:line`, or `api`.
    pub origin: String,
    /// When it was first seen.
    pub created_at: Time,
    /// Its configuration with secrets replaced by `***`; only when one monitor is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Value>,
    /// What opens a push monitor; only when one is asked for by somebody who may act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_token: Option<String>,
    /// What is known of it beside that, if it was made over the API; only when one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeObject>,
}

impl Monitor {
    /// Of a row and what mutes it; `config` only if it is wanted.
    pub fn of(view: MonitorView, mutes: Vec<Mute>, with_config: bool) -> Self {
        let MonitorView { id: _, uid, name, kind, target, labels, paused, origin, config, health, since, why, flapping, created_at, last } =
            view;
        Self {
            uid,
            name,
            kind,
            target,
            labels,
            paused,
            health: health.as_str().to_owned(),
            since: since.map(Time),
            why,
            flapping,
            last: last.map(|beat| Heartbeat::of(&beat, None)),
            mutes,
            origin,
            created_at: Time(created_at),
            config: with_config.then_some(config),
            push_token: None,
            made: None,
        }
    }
}

/// Every monitor, in brief.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Overview {
    /// By name; empty, never null.
    pub items: Vec<MonitorBrief>,
}

/// A monitor with no more than a list of all of them needs. What is not there is empty, false, or not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MonitorBrief {
    /// Public id.
    pub uid: String,
    /// Unique in the tenant.
    pub name: String,
    /// `http`, `tcp`, …
    pub kind: String,
    /// What is watched, without credentials.
    pub target: String,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Not watched for now; `health` is what was last true.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// `up`, `degraded`, `pending`, `down`, `unknown`.
    #[cfg_attr(test, schemars(schema_with = "schemas::health"))]
    pub health: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Why, while failing or blind: `dns_nxdomain`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Rules that flap: their incident goes on until they have been clear for their whole `flap_window`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flapping: Vec<String>,
    /// What keeps its incidents from being told now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mutes: Vec<Mute>,
}

impl MonitorBrief {
    /// Of a row and what mutes it.
    pub fn of(brief: store::MonitorBrief, mutes: Vec<Mute>) -> Self {
        let store::MonitorBrief { uid, name, kind, target, labels, paused, health, since, why, flapping } = brief;
        Self { uid, name, kind, target, labels, paused, health: health.as_str().to_owned(), since: since.map(Time), why, flapping, mutes }
    }
}

/// What one attempt or push found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Heartbeat {
    /// When the attempt began.
    pub at: Time,
    /// The datacenter it was made from.
    pub datacenter_id: i64,
    /// The node that made it.
    pub agent_id: i64,
    /// `up`, `down`, `unknown`.
    #[cfg_attr(test, schemars(schema_with = "schemas::outcome"))]
    pub outcome: String,
    /// Why it is not up.
    pub why: Option<String>,
    /// How much later than scheduled it began.
    pub lag_us: i64,
    /// Name resolution, over all hops.
    pub dns_us: i64,
    /// TCP connect, over all hops.
    pub connect_us: i64,
    /// TLS handshake, over all hops.
    pub tls_us: i64,
    /// Request to first byte, over all hops.
    pub first_byte_us: i64,
    /// First to last byte, over all hops.
    pub transfer_us: i64,
    /// The whole attempt.
    pub total_us: i64,
    /// HTTP status or DNS response code.
    pub code: Option<i32>,
    /// Body bytes.
    pub size: Option<i64>,
    /// The kind's own number: certificate days left for http and tls, loss in thousandths for icmp, exit code for push,
    /// requests in flight for worker.
    pub value: Option<i64>,
    /// Whether it was pushed to us.
    pub pushed: bool,
    /// The whole attempt, where it was kept: hops, headers, certificate chain. The same type as `probe --json` prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Attempt>,
}

impl Heartbeat {
    /// Of a row and its stored evidence. Evidence that this version cannot read is left out.
    pub fn of(beat: &BeatRow, detail: Option<&str>) -> Self {
        /// Bit 0 of a beat's flags.
        const PUSHED: i32 = 1;
        Self {
            at: Time(beat.at),
            datacenter_id: beat.datacenter.0,
            agent_id: beat.agent.0,
            outcome: beat.outcome.word().to_owned(),
            why: beat.outcome.why().map(str::to_owned),
            lag_us: beat.lag_us,
            dns_us: beat.dns_us,
            connect_us: beat.connect_us,
            tls_us: beat.tls_us,
            first_byte_us: beat.first_byte_us,
            transfer_us: beat.transfer_us,
            total_us: beat.total_us,
            code: (beat.code >= 0).then_some(beat.code),
            size: (beat.size >= 0).then_some(beat.size),
            // -1 stands for absent; a certificate that expired yesterday reads the same and is named by `why`.
            value: (beat.value != -1).then_some(beat.value),
            pushed: beat.flags & PUSHED != 0,
            detail: detail.and_then(|json| serde_json::from_str(json).ok()),
        }
    }
}

/// Quantiles of the total time of successful attempts, within 2 %; null without any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Quantiles {
    /// Median.
    pub p50: Option<u64>,
    /// Slower than 95 of 100.
    pub p95: Option<u64>,
    /// Slower than 99 of 100.
    pub p99: Option<u64>,
}

/// Attempts by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counts {
    /// Found up.
    pub up: i64,
    /// Found down.
    pub down: i64,
    /// Could not look.
    pub unknown: i64,
}

/// How long a monitor was in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Seconds {
    /// Up, degraded, or failing below the threshold.
    pub up: f64,
    /// Down.
    pub down: f64,
    /// Nobody could look; not counted in uptime.
    pub unknown: f64,
}

/// A monitor's history over a period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MonitorMetrics {
    /// `1h`, `6h`, `24h`, `7d`, `30d`, `90d`; `between` if times of its own were asked for.
    pub period: String,
    /// Its beginning, moved back to the beginning of a bucket.
    pub from: Time,
    /// Its end: now.
    pub to: Time,
    /// Up among up and down, in per cent, cut (not rounded) to 4 decimals; null if neither is known.
    pub uptime_percent: Option<f64>,
    /// The exact times behind it.
    pub seconds: Seconds,
    /// Attempts.
    pub attempts: Counts,
    /// Their total times.
    pub total_us: Quantiles,
    /// Attempts by HTTP status or DNS response code.
    pub codes: BTreeMap<i32, i64>,
    /// The length of a bucket.
    pub bucket_seconds: i64,
    /// The buckets that have attempts, oldest first.
    pub buckets: Vec<Bucket>,
    /// The same by datacenter, in the order of their codes; empty while there is only one.
    pub datacenters: Vec<SeenFrom>,
}

/// What one datacenter saw of a monitor in a period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SeenFrom {
    /// Its code.
    pub datacenter: String,
    /// Attempts that found it up among those that found it up or down, in per cent, cut to 4 decimals; null if there are none.
    pub availability_percent: Option<f64>,
    /// Attempts.
    pub attempts: Counts,
    /// Their total times.
    pub total_us: Quantiles,
    /// The buckets that have attempts, oldest first.
    pub buckets: Vec<Bucket>,
}

/// One part of a monitor's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bucket {
    /// When it begins.
    pub start: Time,
    /// Attempts.
    pub attempts: Counts,
    /// Their total times.
    pub total_us: Quantiles,
}

/// The days of all monitors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Uptime {
    /// The beginning of the first day, in UTC.
    pub from: Time,
    /// Now: the last day is not over.
    pub to: Time,
    /// How many days.
    pub days: i64,
    /// Every monitor that was seen within them.
    pub items: Vec<UptimeDays>,
}

/// The days of one monitor. On a day that is not among `troubled`, and not before `known_since`, it was up all the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UptimeDays {
    /// The monitor's public id.
    pub uid: String,
    /// Up among up and down, in per cent, cut to 4 decimals; null if neither is known.
    pub uptime_percent: Option<f64>,
    /// The first time within these days at which its state was known.
    pub known_since: Option<Time>,
    /// The days on which it was down, or nobody could look, oldest first.
    pub troubled: Vec<TroubledDay>,
}

/// A day on which a monitor was not up all the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TroubledDay {
    /// Its place, from 0.
    pub nth: i64,
    /// Down for so long.
    pub down_seconds: f64,
    /// Nobody could look for so long.
    pub unknown_seconds: f64,
}

/// The days of all monitors, to be drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bars {
    /// The beginning of the first day, in UTC.
    pub from: Time,
    /// Now: the last day is not over.
    pub to: Time,
    /// How many days.
    pub days: i64,
    /// Every monitor that was seen within them, by name.
    pub items: Vec<MonitorBars>,
}

/// The days of one monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MonitorBars {
    /// Unique in the tenant.
    pub name: String,
    /// Up among up and down, in per cent, cut to 4 decimals; null if neither is known.
    pub uptime_percent: Option<f64>,
    /// A letter for each day, of that part of it which was watched: `u` up, `s` down for up to 2 % of it, `d` down for longer, `x` nobody could
    /// look for more than half of it, `n` not watched yet.
    pub days: String,
}

/// Everything in six numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DashboardStats {
    /// Monitors.
    pub total_monitors: i64,
    /// Of which so many are up, or degraded.
    pub up_count: i64,
    /// And so many down. The others are pending or unknown.
    pub down_count: i64,
    /// Incidents that are not resolved.
    pub open_incidents: i64,
    /// The mean of the monitors' newest attempts, as far as they were successful, in milliseconds; null if none was.
    pub average_response_time: Option<f64>,
    /// Up among up and down over the last 24 hours and all monitors, in per cent, cut to 4 decimals; null if neither is known.
    pub overall_uptime: Option<f64>,
}

/// A node that holds something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its signs of life, counted over all that it holds: a node whose number stands still is gone.
    pub beats: i64,
    /// What it decides.
    pub scopes: Vec<HeldScope>,
}

/// One right to decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HeldScope {
    /// About what: `verdict/3`, `site/local/0`, `channel/…`.
    pub scope: String,
    /// Grows by one with each holder.
    pub epoch: i64,
}

/// The data of one event of the live stream; its kind and id are the event's own fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LiveEvent {
    /// When.
    pub at: Time,
    /// What.
    pub data: serde_json::Value,
}

impl LiveEvent {
    /// Of a row.
    pub fn of(row: &LiveRow) -> Self {
        Self { at: Time(row.event.at), data: row.event.data.clone() }
    }
}

/// The data of the stream's first event, and of a `resync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StreamPosition {
    /// Events after this one follow.
    pub after: i64,
    /// For people.
    pub message: String,
}

/// What `/health` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HealthBody {
    /// `ok`.
    pub status: String,
    /// The program's version.
    pub version: String,
}

/// What `/ready` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReadyBody {
    /// Whether the node does its work.
    pub ready: bool,
    /// What keeps it from that.
    pub problems: Vec<String>,
    /// What somebody should look at although it works.
    pub warnings: Vec<String>,
    /// The problems, then the warnings, for whoever says them in words of their own.
    #[serde(default)]
    pub notes: Vec<ReadyNote>,
}

/// One problem or warning of a node, before it is put into words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReadyNote {
    /// What it is about: `store`, `leases`, `late`, `cut_off`; `configuration`, `left_out`, `dead_letters`, `channels`, `dead_man`.
    pub code: String,
    /// What stands in its sentence, in its order: counts, names, times, reasons.
    pub values: Vec<String>,
    /// The sentence.
    pub text: String,
}

/// What this installation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Installation {
    /// The program's version.
    pub version: String,
    /// The node that answers.
    pub node: String,
    /// Where everything is kept: `sqlite` or `postgresql`.
    #[cfg_attr(test, schemars(schema_with = "schemas::store"))]
    pub store: String,
    /// What monitors and channels that were made over the API may reach: `public` or `private` addresses.
    #[cfg_attr(test, schemars(schema_with = "schemas::api_targets"))]
    pub api_targets: String,
}

/// What `POST /-/reload` answers when it was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reloaded {
    /// What changed, for people.
    pub message: String,
}

#[cfg(test)]
mod tests;
