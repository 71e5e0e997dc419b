//! The body as Alertmanager's webhooks have it, version 4: what receives those receives ours.
//!
//! An incident is an alert: it fires until it is over. A digest is a group of them. A report, a word about a node and a test are
//! alerts of their own, so that a receiver that only knows alerts is told of them too.
//! Source: <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>.

use crate::channel::content::{Content, Message, NodeEvent};
use crate::channel::text::{Text, iso};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use watchkeeper_core::Micros;
use watchkeeper_core::verdict::NoticeEvent;

/// How Alertmanager writes that there is no end yet.
const NO_END: &str = "0001-01-01T00:00:00Z";

type Labels = BTreeMap<String, String>;

struct Alert {
    labels: Labels,
    annotations: Labels,
    from: Micros,
    until: Option<Micros>,
}

/// The whole body.
pub(super) fn body(content: &Content, told: &Text, receiver: &str, now: Micros) -> Value {
    let (alerts, truncated) = match content {
        Content::Incident(message) => (vec![of_incident(message)], 0),
        Content::Digest(digest) => (digest.words.iter().map(of_incident).collect(), digest.more),
        Content::Report(_) | Content::Node(_) | Content::Test(_) => (vec![of_word(content, told, now)], 0),
    };
    let group: Labels = match content {
        Content::Digest(_) => Labels::new(),
        Content::Incident(_) | Content::Report(_) | Content::Node(_) | Content::Test(_) => {
            let named = |l: &&str| alerts.first().and_then(|a| a.labels.get(*l)).cloned();
            ["alertname", "monitor"].iter().filter_map(|l| named(l).map(|v| ((*l).to_owned(), v))).collect()
        }
    };
    let firing = alerts.iter().any(|alert| alert.until.is_none());
    json!({
        "version": "4",
        "groupKey": group_key(&group),
        "truncatedAlerts": truncated,
        "status": status(firing),
        "receiver": receiver,
        "groupLabels": group,
        "commonLabels": common(alerts.iter().map(|a| &a.labels)),
        "commonAnnotations": common(alerts.iter().map(|a| &a.annotations)),
        "externalURL": "",
        "alerts": alerts.iter().map(shown).collect::<Vec<_>>(),
    })
}

const fn status(firing: bool) -> &'static str {
    if firing { "firing" } else { "resolved" }
}

fn shown(alert: &Alert) -> Value {
    json!({
        "status": status(alert.until.is_none()),
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": iso(alert.from),
        "endsAt": alert.until.map_or_else(|| NO_END.to_owned(), iso),
        "generatorURL": "",
        "fingerprint": fingerprint(&alert.labels),
    })
}

/// The monitor's labels, and ours, which win: routes depend on them.
fn of_incident(message: &Message) -> Alert {
    let mut labels: Labels = message.labels.iter().map(|(k, v)| (label_name(k), v.clone())).collect();
    let own = [
        ("alertname", message.rule.as_str()),
        ("monitor", &message.monitor),
        ("kind", &message.kind),
        ("instance", &message.target),
        ("severity", message.severity.as_str()),
        ("tenant", &message.tenant),
    ];
    labels.extend(own.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k.to_owned(), v.to_owned())));
    let mut annotations = Labels::new();
    let mut note = |key: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            annotations.insert(key.to_owned(), value.to_owned());
        }
    };
    note("summary", Some(&message.summary));
    note("description", message.detail.as_deref());
    note("reason", message.reason.as_deref());
    note("incident", Some(&message.incident));
    let (acknowledged, resolved) = match message.event {
        NoticeEvent::Acknowledged => (true, false),
        NoticeEvent::Resolved => (false, true),
        NoticeEvent::Opened | NoticeEvent::Reminded | NoticeEvent::Escalated | NoticeEvent::Unacknowledged => (false, false),
    };
    note("acknowledged_by", message.actor.as_deref().filter(|_| acknowledged));
    note("comment", message.comment.as_deref());
    note("resolved_why", message.resolved_why.as_deref());
    let until = resolved.then(|| message.resolved_at.unwrap_or(message.opened_at));
    Alert { labels, annotations, from: message.opened_at, until }
}

fn of_word(content: &Content, told: &Text, now: Micros) -> Alert {
    let (name, severity, from, until) = match content {
        Content::Node(word) => {
            // Only being cut off and mute lasts; the other words are over when they are said.
            let lasts = matches!(word.event, NodeEvent::CutOff | NodeEvent::ChannelsFailed);
            ("WatchkeeperNode", word.severity.as_str(), word.at, word.until.or_else(|| (!lasts).then_some(word.at)))
        }
        Content::Report(report) => ("WatchkeeperReport", "info", report.from, Some(report.to)),
        Content::Incident(_) | Content::Digest(_) | Content::Test(_) => ("WatchkeeperTest", "info", now, None),
    };
    let labels = [("alertname", name), ("severity", severity)];
    let mut labels: Labels = labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    if let Content::Node(word) = content {
        labels.insert("instance".to_owned(), word.node.clone());
        labels.insert("event".to_owned(), word.event.as_str().to_owned());
    }
    let annotations = [("summary".to_owned(), told.title()), ("description".to_owned(), told.rest())].into();
    Alert { labels, annotations, from, until }
}

/// Letters, digits and underscores, not beginning with a digit, are what every receiver takes for a label's name.
fn label_name(name: &str) -> String {
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

/// What all have alike.
fn common<'a>(mut all: impl Iterator<Item = &'a Labels>) -> Map<String, Value> {
    let Some(mut alike) = all.next().cloned() else { return Map::new() };
    for other in all {
        alike.retain(|k, v| other.get(k) == Some(v));
    }
    alike.into_iter().map(|(k, v)| (k, Value::from(v))).collect()
}

/// `{}:{alertname="down", monitor="shop"}`: the route, which we have none of, and the group's labels.
fn group_key(group: &Labels) -> String {
    let parts: Vec<String> = group.iter().map(|(k, v)| format!("{k}={}", Value::from(v.as_str()))).collect();
    format!("{{}}:{{{}}}", parts.join(", "))
}

/// The same for every word about an alert with these labels, of the form that Alertmanager's have: 16 hex digits.
fn fingerprint(labels: &Labels) -> String {
    let mut hash = Sha256::new();
    for (key, value) in labels {
        hash.update(key);
        hash.update([0xff]);
        hash.update(value);
        hash.update([0xff]);
    }
    crate::hex(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::text::text;
    use crate::channel::{Style, sample};

    #[test]
    fn every_content_is_alerts_of_version_4() {
        let mut all = String::new();
        for (what, content) in sample::all() {
            let told = text(&content, Style::default(), sample::NOW);
            all.push_str(&format!("── {what}\n{:#}\n", body(&content, &told, "ops", sample::NOW)));
        }
        insta::assert_snapshot!("alertmanager", all);
    }

    #[test]
    fn labels_are_names_that_every_receiver_takes() {
        assert_eq!(label_name("team"), "team");
        assert_eq!(label_name("app.kubernetes.io/name"), "app_kubernetes_io_name");
        assert_eq!(label_name("1st"), "_1st");
        let own = Message { labels: [("severity".to_owned(), "mine".to_owned())].into(), ..sample::opened() };
        assert_eq!(of_incident(&own).labels["severity"], "critical", "ours win");
        assert_eq!(fingerprint(&of_incident(&sample::opened()).labels), fingerprint(&of_incident(&sample::resolved()).labels));
    }
}
