//! Forms of incidents: what is wrong, what happened, what was told to whom.

use super::Time;
use crate::store::{IncidentView, NoticeView, TimelineEntry};
use crate::timeline;
use serde::{Deserialize, Serialize};

/// A monitor, named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MonitorRef {
    /// Public id.
    pub uid: String,
    /// Name.
    pub name: String,
}

/// One open or past breach of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Incident {
    /// Public id.
    pub uid: String,
    /// Of which monitor.
    pub monitor: MonitorRef,
    /// Which rule: `down`, `slow_response/first_byte`, …
    pub rule: String,
    /// `open`, `acknowledged`, `resolved`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::status"))]
    pub status: String,
    /// `info`, `warning`, `critical`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::severity"))]
    pub severity: String,
    /// One sentence.
    pub summary: String,
    /// Why it began: `tcp_refused`, …
    pub reason: Option<String>,
    /// The deciding value.
    pub value: Option<i64>,
    /// When it began.
    pub opened_at: Time,
    /// When it ended.
    pub resolved_at: Option<Time>,
    /// Why it ended: `recovered`, `rule_removed`, `retired`, `operator`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::resolved_why"))]
    pub resolved_why: Option<String>,
    /// Who took it on, if somebody has: the name of a token, with that of a person before it if one was given, or a person in a chat.
    pub acknowledged_by: Option<String>,
    /// When they did.
    pub acknowledged_at: Option<Time>,
    /// What chose whom to tell, in words: a `notify`, routes, or nothing; null for incidents of earlier versions.
    #[serde(default)]
    pub routed_by: Option<String>,
    /// What happened, oldest first; only when one incident is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Vec<Entry>>,
    /// What was told to whom; only when one incident is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notices: Option<Vec<Notice>>,
}

impl Incident {
    /// Of a row; timeline and notices only if they are wanted.
    pub fn of(view: IncidentView, whole: bool) -> Self {
        let IncidentView {
            uid,
            id: _,
            monitor_uid,
            monitor,
            rule,
            status,
            severity,
            opened_at,
            resolved_at,
            resolved_why,
            reason,
            summary,
            value,
            acknowledged_by,
            acknowledged_at,
            routed_by,
            timeline,
            notices,
        } = view;
        Self {
            uid,
            monitor: MonitorRef { uid: monitor_uid, name: monitor },
            rule,
            status,
            severity: severity.as_str().to_owned(),
            summary,
            reason,
            value,
            opened_at: Time(opened_at),
            resolved_at: resolved_at.map(Time),
            resolved_why,
            acknowledged_by,
            acknowledged_at: acknowledged_at.map(Time),
            routed_by,
            timeline: whole.then(|| timeline.into_iter().map(Entry::of).collect()),
            notices: whole.then(|| notices.into_iter().map(Notice::of).collect()),
        }
    }
}

/// One entry of an incident's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Entry {
    /// Place, from 0.
    pub nth: i32,
    /// When.
    pub at: Time,
    /// `opened`, `reminded`, `escalated`, `acknowledged`, `unacknowledged`, `resolved`; `told`, `held`, `not_told`,
    /// `channels_failed`; `comment`.
    pub kind: String,
    /// Who, if a person.
    pub actor: Option<String>,
    /// What, for a person.
    pub text: String,
    /// What the text says, for whoever says it in words of their own: `told`, `held_by_silence`, `over`, …; null for what a person or a probe
    /// says, and for what this version does not know.
    #[serde(default)]
    pub code: Option<String>,
    /// What stands in it, in its order: names, counts, lengths of time, reasons.
    #[serde(default)]
    pub values: Vec<String>,
    /// What was seen.
    pub evidence: Option<serde_json::Value>,
}

impl Entry {
    fn of(entry: TimelineEntry) -> Self {
        let TimelineEntry { nth, at, kind, actor, text, evidence } = entry;
        let (code, values) = timeline::read(&kind, &text).map(|(form, values)| (form.code().to_owned(), values)).unzip();
        Self { nth, at: Time(at), kind, actor, text, code, values: values.unwrap_or_default(), evidence }
    }
}

/// What became of one notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Notice {
    /// The channel's name.
    pub channel: String,
    /// `opened`, `reminded`, `escalated`, `acknowledged`, `unacknowledged`, `resolved`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::event"))]
    pub event: String,
    /// `due`, `held`, `sending`, `sent`, `dead`, `suppressed`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::notice_state"))]
    pub state: String,
    /// Attempts begun.
    pub attempts: u32,
    /// The newest error.
    pub last_error: Option<String>,
    /// Why it is or was held, or was never told.
    pub why: Option<String>,
    /// When it is looked at again, while it waits.
    pub next_at: Option<Time>,
    /// When it was decided.
    pub created_at: Time,
    /// When the provider took it.
    pub sent_at: Option<Time>,
}

impl Notice {
    fn of(notice: NoticeView) -> Self {
        let NoticeView { channel, event, state, attempts, last_error, why, next_at, created_at, sent_at } = notice;
        Self {
            channel,
            event,
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
