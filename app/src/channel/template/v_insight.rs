//! Titles and named fields about monitors and alert rules, as text, as a document for webhooks and as a Discord embed.

use super::{Meaning, recovered};
use crate::channel::content::{Content, Message};
use crate::channel::text::{Line, Text, strftime};
use crate::channel::words::{VInsight, Words, fill};
use serde_json::{Value, json};
use watchkeeper_core::Micros;
use watchkeeper_core::verdict::NoticeEvent;

/// What all three forms say.
pub(in crate::channel) struct Parts {
    pub(in crate::channel) title: &'static str,
    /// `open`, `resolved` or `test`.
    pub(in crate::channel) status: &'static str,
    pub(in crate::channel) incident: String,
    pub(in crate::channel) monitor: String,
    pub(in crate::channel) url: String,
    pub(in crate::channel) rule: String,
    pub(in crate::channel) message: String,
    /// When the incident began.
    pub(in crate::channel) at: Micros,
}

/// The parts of what this form has words for: incidents that are open or over, and tests.
pub(in crate::channel) fn parts(content: &Content, words: &Words) -> Option<Parts> {
    let own = &words.v_insight;
    match content {
        Content::Incident(message) => incident(message, own),
        Content::Test(test) => Some(Parts {
            title: own.test,
            status: "test",
            incident: "test-incident-123".to_owned(),
            monitor: "Test Monitor".to_owned(),
            url: "https://example.com".to_owned(),
            rule: "Test Rule".to_owned(),
            message: own.test_message.to_owned(),
            at: test.at,
        }),
        Content::Digest(_) | Content::Report(_) | Content::Node(_) => None,
    }
}

fn incident(message: &Message, own: &VInsight) -> Option<Parts> {
    let over = match message.event {
        NoticeEvent::Opened | NoticeEvent::Reminded | NoticeEvent::Escalated => false,
        NoticeEvent::Resolved => true,
        NoticeEvent::Acknowledged | NoticeEvent::Unacknowledged => return None,
    };
    let meaning = Meaning::of(&message.rule);
    // What only stopped being watched is over, but not restored.
    let well = over && recovered(message);
    let title = match (meaning, over) {
        (Meaning::Down | Meaning::MissedPush, false) => own.down,
        (Meaning::Slow(_), false) => own.slow,
        (Meaning::SslExpiry, false) => own.ssl_expiry,
        (Meaning::Blind | Meaning::Named(_), false) => own.other,
        (Meaning::Down | Meaning::MissedPush, true) if well => own.down_over,
        (Meaning::Slow(_), true) if well => own.slow_over,
        (Meaning::SslExpiry, true) if well => own.ssl_expiry_over,
        (_, true) => own.other_over,
    };
    let what = message.detail.as_deref().filter(|d| over && !d.is_empty()).unwrap_or(&message.summary);
    let told = match meaning {
        Meaning::Down | Meaning::MissedPush => fill(own.is_down, &[("error", what)]),
        Meaning::Slow(_) | Meaning::SslExpiry | Meaning::Blind | Meaning::Named(_) => what.to_owned(),
    };
    Some(Parts {
        title,
        status: if over { "resolved" } else { "open" },
        incident: message.incident.clone(),
        monitor: message.monitor.clone(),
        url: message.target.clone(),
        rule: message.rule.clone(),
        message: told,
        at: message.opened_at,
    })
}

/// As text; `None` where it has no words.
pub(in crate::channel) fn text(content: &Content, words: &Words) -> Option<Text> {
    let parts = parts(content, words)?;
    let own = &words.v_insight;
    let line = |label: &str, value: &str| Line::plain_of(format!("{label}: {value}"));
    let lines = vec![
        Line::bold_of(parts.monitor.clone()),
        Line::default(),
        line(own.monitor, &parts.monitor),
        line(own.url, &parts.url),
        line(own.status, parts.status),
        line(own.message, &parts.message),
        line(own.alert_rule, &parts.rule),
        Line::default(),
        Line::plain_of(fill(own.incident, &[("id", &parts.incident)])),
    ];
    Some(Text::new(Line::bold_of(parts.title), lines))
}

/// As a webhook's body. What the form does not know is told with the text that a chat would get, so that nothing is left out.
pub(in crate::channel) fn document(content: &Content, words: &Words, told: &Text, key: &str) -> Value {
    let parts = parts(content, words).unwrap_or_else(|| other(content, told, key));
    json!({
        "incident_id": parts.incident,
        "monitor_name": parts.monitor,
        "monitor_url": parts.url,
        "status": parts.status,
        "message": parts.message,
        "timestamp": timestamp(parts.at),
    })
}

/// RFC 3339 to the second.
pub(in crate::channel) fn timestamp(at: Micros) -> String {
    strftime(at, "%Y-%m-%dT%H:%M:%SZ")
}

/// Who is on it is about an incident that is open; everything else is about several things at once.
fn other(content: &Content, told: &Text, key: &str) -> Parts {
    let (status, incident, url, at) = match content {
        Content::Incident(message) => ("open", message.incident.clone(), message.target.clone(), message.opened_at),
        Content::Digest(digest) => (if digest.open > 0 { "open" } else { "resolved" }, key.to_owned(), String::new(), digest.at),
        Content::Report(report) => ("report", key.to_owned(), String::new(), report.to),
        Content::Node(node) => (node.event.as_str(), key.to_owned(), String::new(), node.at),
        Content::Test(test) => ("test", key.to_owned(), String::new(), test.at),
    };
    let monitor = match content {
        Content::Incident(message) => message.monitor.clone(),
        Content::Digest(_) | Content::Report(_) | Content::Node(_) | Content::Test(_) => told.title(),
    };
    Parts { title: "", status, incident, monitor, url, rule: String::new(), message: told.plain(), at }
}
