//! Forms of alerting: what people ask for, silences, dead letters, channels.

use super::Time;
use crate::calendar::Window;
use crate::channel::content::Content;
use crate::config::ChannelConfig;
use crate::config::decode::show_duration;
use crate::config::documents::Fault;
use crate::mutes::InForce;
use crate::spec::{MonitorSpec, origin};
use crate::store;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use watchkeeper_core::matcher::Matcher;
use watchkeeper_core::rule::Trigger;
use watchkeeper_core::{ChannelId, Micros, Rule, Severity};

/// What was done, where there is nothing else to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Done {
    /// For people.
    pub message: String,
}

/// What a person does about an incident; the path says what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Goes to the incident's timeline too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A person's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewComment {
    /// What is said.
    pub text: String,
}

/// What a silence is about: everything that is given must match, and in names `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// Any of these names of monitors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub monitors: Vec<String>,
    /// Every one of these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Any of these kinds of monitors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Any of these rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Any of `info`, `warning`, `critical`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(schema_with = "super::schemas::severities"))]
    pub severities: Vec<String>,
}

impl Match {
    fn of(matcher: Matcher) -> Self {
        let Matcher { monitors, labels, kinds, rules, severities } = matcher;
        let severities = severities.into_iter().map(|severity: Severity| severity.as_str().to_owned()).collect();
        Self { monitors, labels, kinds, rules, severities }
    }
}

/// A silence as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// About what.
    #[serde(rename = "match", default)]
    pub about: Match,
    /// About everything: must be said when nothing is named.
    #[serde(default)]
    pub all: bool,
    /// For how long from now: `1h`. This or `until`.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Until when. This or `for`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// Why.
    pub comment: String,
}

/// A silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Silence {
    /// Public id.
    pub uid: String,
    /// About what; empty means everything.
    #[serde(rename = "match")]
    pub about: Match,
    /// From when.
    pub starts_at: Time,
    /// Until when.
    pub ends_at: Time,
    /// The name of the token it was asked for with.
    pub author: String,
    /// Why.
    pub comment: String,
    /// How many monitors it is about, whatever the rule; only when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitors: Option<u64>,
}

impl Silence {
    /// Of a row.
    pub fn of(silence: store::Silence) -> Self {
        let store::Silence { uid, matcher, starts_at, ends_at, author, comment } = silence;
        Self { uid, about: Match::of(matcher), starts_at: Time(starts_at), ends_at: Time(ends_at), author, comment, monitors: None }
    }
}

/// What keeps a monitor's incidents from being told now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Mute {
    /// `silence` or `maintenance`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::mute"))]
    pub by: String,
    /// The silence's public id, or the maintenance window's name.
    pub id: String,
    /// Until when.
    pub until: Time,
    /// Who asked for it; null for maintenance.
    pub author: Option<String>,
    /// Why; null for maintenance.
    pub comment: Option<String>,
}

impl Mute {
    /// Of one that is in force.
    pub fn of(held: &InForce) -> Self {
        match held {
            InForce::Silence(silence) => Self {
                by: "silence".to_owned(),
                id: silence.uid.clone(),
                until: Time(silence.ends_at),
                author: Some(silence.author.clone()),
                comment: Some(silence.comment.clone()),
            },
            InForce::Maintenance { name, until, .. } => {
                Self { by: "maintenance".to_owned(), id: name.clone(), until: Time(*until), author: None, comment: None }
            }
        }
    }
}

/// A notice that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeadLetter {
    /// Its number; `retry` takes it.
    pub id: i64,
    /// The channel's name.
    pub channel: String,
    /// `opened`, `reminded`, `escalated`, `acknowledged`, `unacknowledged`, `resolved`; `report` or `node` if it is about no incident.
    pub event: String,
    /// The incident's public id, if it is about one.
    pub incident: Option<String>,
    /// What it says, in one line.
    pub summary: String,
    /// Attempts made.
    pub attempts: u32,
    /// The last error.
    pub last_error: Option<String>,
    /// When it was decided.
    pub created_at: Time,
}

impl DeadLetter {
    /// Of a row.
    pub fn of(letter: store::DeadLetter) -> Self {
        let store::DeadLetter { id, channel, incident_uid, event, content, attempts, last_error, created_at } = letter;
        let summary = summary(&content);
        Self { id, channel, event, incident: incident_uid, summary, attempts, last_error, created_at: Time(created_at) }
    }
}

/// What a channel got lately, or is still to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChannelNotice {
    /// `opened`, `reminded`, `escalated`, `acknowledged`, `unacknowledged`, `resolved`; `report` or `node` if it is about no incident.
    pub event: String,
    /// The incident's public id, if it is about one.
    pub incident: Option<String>,
    /// What it says, in one line.
    pub summary: String,
    /// `sent`, `due`, `held`, `dead`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::notice_state"))]
    pub state: String,
    /// Attempts begun.
    pub attempts: u32,
    /// The newest error.
    pub last_error: Option<String>,
    /// Why it is or was held.
    pub why: Option<String>,
    /// When it is looked at again, while it waits.
    pub next_at: Option<Time>,
    /// When it was decided.
    pub created_at: Time,
    /// When the provider took it.
    pub sent_at: Option<Time>,
}

impl ChannelNotice {
    /// Of a row.
    pub fn of(found: store::ChannelNotice) -> Self {
        let store::ChannelNotice { notice, incident_uid, content } = found;
        let store::NoticeView { channel: _, event, state, attempts, last_error, why, next_at, created_at, sent_at } = notice;
        Self {
            event,
            incident: incident_uid,
            summary: summary(&content),
            state,
            attempts,
            last_error,
            why,
            next_at: next_at.map(Time),
            created_at: Time(created_at),
            sent_at: sent_at.map(Time),
        }
    }
}

/// What a content says, in one line.
fn summary(content: &Content) -> String {
    match content {
        Content::Incident(message) => format!("{} · {}: {}", message.monitor, message.rule, message.summary),
        Content::Digest(digest) => format!("{} open, {} resolved", digest.open, digest.resolved),
        Content::Report(report) => format!("report {}", report.name),
        Content::Node(word) => format!("node {}: {}", word.node, word.summary),
        Content::Test(word) => format!("test of {}", word.channel),
    }
}

/// A channel of the configuration in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertChannel {
    /// Unique in the tenant.
    pub name: String,
    /// `telegram`, `webhook`, …
    pub kind: String,
    /// Its configuration with secrets replaced by `***`.
    pub config: serde_json::Value,
    /// Where it was defined: `file:line`, or `api`.
    pub origin: String,
    /// What is known of it beside that, if it was made over the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeObject>,
    /// Whether the node that answers has had nothing taken by it for long; absent while it takes what it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<ChannelFailing>,
}

/// A channel that takes nothing, and is tried again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChannelFailing {
    /// When the first of the attempts in a row that failed had ended.
    pub since: Time,
    /// What kind of failure the newest was: `client`, `auth`, `rate_limited`, `server`, `network` or `timeout`.
    pub class: String,
}

impl AlertChannel {
    /// Of the configuration.
    pub fn of(channel: &ChannelConfig) -> Self {
        Self {
            name: channel.name.clone(),
            kind: channel.kind.kind().to_owned(),
            config: channel.kind.canonical(&channel.common),
            origin: origin(&channel.at),
            made: None,
            failing: None,
        }
    }
}

/// What is known of an object that was made over the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MadeObject {
    /// Its version, as in the `ETag`: another after each change of it.
    pub version: i64,
    /// Who made it.
    pub made_by: String,
    /// When.
    pub made_at: Time,
    /// Who changed it last.
    pub changed_by: String,
    /// When.
    pub changed_at: Time,
    /// It, in the form of the configuration file, with secrets replaced by `***`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::object"))]
    pub body: serde_json::Value,
}

/// An object that was made over the API, whether it is in force or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document {
    /// Public id; a monitor has the same.
    pub uid: String,
    /// `monitor`, `channel`, `maintenance`, `status_page`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::document_kind"))]
    pub kind: String,
    /// Unique in the tenant among its kind.
    pub name: String,
    /// What is known of it.
    pub made: MadeObject,
    /// Why it is not in force; empty if it is.
    pub problems: Vec<Fault>,
}

/// What an import did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Imported {
    /// Whether something was changed.
    pub applied: bool,
    /// Every object of it.
    pub items: Vec<ImportedItem>,
    /// Sections that only files can have: nothing of them was taken.
    pub left: Vec<String>,
}

/// One object of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ImportedItem {
    /// `monitor`, `channel`, `maintenance`, `status_page`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::document_kind"))]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `made`, `changed`, `unchanged`; `from_a_file` if a file has it, which stays as it is.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::change"))]
    pub change: String,
    /// Which fields of one that is `changed` are different; a secret is `***` before and after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// One field that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Difference {
    /// Which: `probe.http.url`.
    pub path: String,
    /// What it is; null if it is not there.
    pub before: serde_json::Value,
    /// What it would be; null if it would not be there.
    pub after: serde_json::Value,
}

/// A maintenance window: announced work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Maintenance {
    /// Unique in the tenant.
    pub name: String,
    /// About what; empty means everything.
    #[serde(rename = "match")]
    pub about: Match,
    /// When it begins, if that is once.
    pub starts_at: Option<Time>,
    /// When it is over, if that is once.
    pub ends_at: Option<Time>,
    /// How it recurs, if it does.
    #[serde(default)]
    pub every: Option<Recurs>,
    /// Until when it is open, if it is now.
    pub open_until: Option<Time>,
    /// When it is between the times that were asked for, oldest first; only if some were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub falls: Option<Vec<Fall>>,
    /// Where it was defined: `file:line`, or `api`.
    pub origin: String,
    /// What is known of it beside that, if it was made over the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeObject>,
}

/// How a maintenance window recurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Recurs {
    /// When it begins, as a cron pattern.
    pub cron: String,
    /// How long it lasts.
    #[serde(rename = "for")]
    pub lasts: String,
    /// In which time zone the pattern is meant.
    pub zone: String,
}

/// One time that a maintenance window is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fall {
    /// From when.
    pub starts_at: Time,
    /// Until when.
    pub ends_at: Time,
}

impl Maintenance {
    /// Of a row. What this version cannot read of it is left out.
    pub fn of(
        window: store::MaintenanceObject,
        now: Micros,
        made: Option<MadeObject>,
        falls: impl FnOnce(&Window) -> Option<Vec<(Micros, Micros)>>,
    ) -> Self {
        let store::MaintenanceObject { name, matcher, window, origin } = window;
        let about = serde_json::from_str(&matcher).map(Match::of).unwrap_or_default();
        let window: Option<Window> = serde_json::from_str(&window).ok();
        let (starts_at, ends_at) = match &window {
            Some(Window::Once { from, to }) => (Some(Time(*from)), Some(Time(*to))),
            Some(Window::Every(_)) | None => (None, None),
        };
        let every = window.as_ref().and_then(Window::recurs).map(|(cron, zone, lasts)| Recurs {
            cron: cron.to_owned(),
            lasts: show_duration(lasts),
            zone: zone.to_owned(),
        });
        let open_until = window.as_ref().and_then(|window| window.open_until(now)).map(Time);
        let fall = |(from, to)| Fall { starts_at: Time(from), ends_at: Time(to) };
        let falls = window.as_ref().and_then(falls).map(|falls| falls.into_iter().map(fall).collect());
        Self { name, about, starts_at, ends_at, every, open_until, falls, origin, made }
    }
}

/// A test message that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChannelTested {
    /// The channel's name.
    pub channel: String,
    /// The provider's id of the message, if it gave one.
    pub provider_id: Option<String>,
}

/// A rule of a monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertRule {
    /// The monitor's public id and the rule's name, with a colon between them.
    pub id: String,
    /// The monitor's public id.
    pub monitor_id: String,
    /// The monitor's name.
    pub monitor_name: String,
    /// Unique in the monitor: its kind, or the name that it was given.
    pub name: String,
    /// `down`, `missed_push`, `slow_response`, `ssl_expiry` or `blind`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::trigger"))]
    pub trigger_type: String,
    /// Failed attempts in a row (`down`), milliseconds (`slow_response`), days (`ssl_expiry`) or seconds (`blind`); null where there is none.
    pub threshold_value: Option<i64>,
    /// Whether it is watched for now: not while its monitor is paused.
    pub enabled: bool,
    /// `info`, `warning`, `critical`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::severity"))]
    pub severity: String,
    /// The channels over which it is told first, by name.
    pub channel_ids: Vec<String>,
}

/// A rule as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewAlertRule {
    /// The public id or name of its monitor, which was made over the API; needed where one is made, and not changed after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor_id: Option<String>,
    /// Unique in the monitor; the kind if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `down`, `missed_push`, `slow_response`, `ssl_expiry` or `blind`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::trigger"))]
    pub trigger_type: String,
    /// Failed attempts in a row (`down`; it is the monitor that counts them), milliseconds (`slow_response`), days (`ssl_expiry`) or seconds
    /// (`blind`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_value: Option<i64>,
    /// Nothing but true: a rule that is there is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// `info`, `warning`, `critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "super::schemas::severity_or_null"))]
    pub severity: Option<String>,
    /// The names of the channels over which it is told; those of its monitor if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_ids: Option<Vec<String>>,
}

/// Whether a rule would be told to anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RuleTested {
    /// Whether it would.
    pub valid: bool,
    /// Why not; empty if it would.
    pub issues: Vec<String>,
    /// The same in one sentence.
    pub message: String,
}

impl AlertRule {
    /// Of a monitor's rule and the names of channels.
    pub fn of(monitor: &MonitorSpec, rule: &Rule, channels: &HashMap<ChannelId, &str>) -> Self {
        let (kind, threshold) = match rule.trigger {
            Trigger::Down => ("down", Some(i64::from(monitor.sight.down_after))),
            Trigger::MissedPush => ("missed_push", None),
            Trigger::Above { limit, .. } => ("slow_response", Some(limit / 1_000)),
            Trigger::AtMost { limit, .. } => ("ssl_expiry", Some(limit)),
            Trigger::Blind { hold } => ("blind", Some(hold.0 / 1_000_000)),
        };
        Self {
            id: format!("{}:{}", monitor.uid, rule.key),
            monitor_id: monitor.uid.clone(),
            monitor_name: monitor.name.clone(),
            name: rule.key.to_string(),
            trigger_type: kind.to_owned(),
            threshold_value: threshold,
            enabled: !monitor.paused,
            severity: rule.severity.as_str().to_owned(),
            channel_ids: rule.channels.iter().filter_map(|channel| channels.get(channel)).map(|name| (*name).to_owned()).collect(),
        }
    }
}
