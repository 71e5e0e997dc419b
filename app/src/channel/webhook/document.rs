//! The body in our own form, version 1: `docs/channels.md` describes it field by field.
//!
//! A field is added without a new version, never changed or removed.

use crate::channel::content::{Content, Digest, Message, NodeWord, Report};
use crate::channel::text::{Text, iso};
use serde_json::{Value, json};
use watchkeeper_core::Micros;

/// The version of the body's format, in its field `version`.
pub const VERSION: u32 = 1;

/// The document. Templates see the same fields.
pub(super) fn document(content: &Content, told: &Text, key: &str, now: Micros) -> Value {
    let null = || Value::Null;
    let (event, parts) = match content {
        Content::Incident(message) => (message.event.as_str(), [incident(message), monitor(message), null(), null(), null()]),
        Content::Digest(of) => ("digest", [null(), null(), digest(of), null(), null()]),
        Content::Report(of) => ("report", [null(), null(), null(), report(of), null()]),
        Content::Node(of) => ("node", [null(), null(), null(), null(), node(of)]),
        Content::Test(_) => ("test", [null(), null(), null(), null(), null()]),
    };
    let tenant = match content {
        Content::Incident(message) => Value::from(message.tenant.as_str()),
        Content::Digest(of) => Value::from(of.tenant.as_str()),
        Content::Report(of) => Value::from(of.tenant.as_str()),
        Content::Node(_) | Content::Test(_) => Value::Null,
    };
    let seen_by = content.incident().map_or_else(|| json!({}), |message| json!(message.seen_by));
    let [incident, monitor, digest, report, node] = parts;
    json!({
        "version": VERSION,
        "key": key,
        "event": event,
        "sent_at": iso(now),
        "tenant": tenant,
        "incident": incident,
        "monitor": monitor,
        "seen_by": seen_by,
        "digest": digest,
        "report": report,
        "node": node,
        "title": told.title(),
        "text": told.plain(),
    })
}

fn incident(message: &Message) -> Value {
    let seconds = |from: Micros, to: Micros| (to - from).0.max(0) as f64 / 1e6;
    json!({
        "id": message.incident,
        "rule": message.rule,
        "severity": message.severity.as_str(),
        "reason": message.reason,
        "summary": message.summary,
        "detail": message.detail,
        "opened_at": iso(message.opened_at),
        "resolved_at": message.resolved_at.map(iso),
        "resolved_why": message.resolved_why,
        "duration_seconds": message.resolved_at.map(|end| seconds(message.opened_at, end)),
        "flapping": message.flapping,
        "cut_off": message.cut_off,
        "actor": message.actor,
        "comment": message.comment,
    })
}

fn monitor(message: &Message) -> Value {
    json!({
        "id": message.monitor_uid,
        "name": message.monitor,
        "kind": message.kind,
        "target": message.target,
        "labels": message.labels,
    })
}

fn digest(of: &Digest) -> Value {
    let words: Vec<Value> = of
        .words
        .iter()
        .map(|message| json!({ "event": message.event.as_str(), "incident": incident(message), "monitor": monitor(message), "seen_by": message.seen_by }))
        .collect();
    json!({ "open": of.open, "resolved": of.resolved, "more": of.more, "words": words })
}

fn report(of: &Report) -> Value {
    let counts: serde_json::Map<String, Value> =
        of.counts.iter().map(|(health, n)| (health.as_str().to_owned(), Value::from(*n))).collect();
    let lines: Vec<Value> = of
        .lines
        .iter()
        .map(|line| {
            json!({
                "monitor": line.monitor,
                "kind": line.kind,
                "health": line.health.as_str(),
                "why": line.why,
                "uptime_percent": line.uptime_mpct.map(|mpct| f64::from(mpct) / 1e3),
            })
        })
        .collect();
    json!({
        "name": of.name,
        "from": iso(of.from),
        "to": iso(of.to),
        "counts": counts,
        "paused": of.paused,
        "incidents_opened": of.opened,
        "incidents_open": of.open,
        "lines": lines,
        "more": of.more,
    })
}

fn node(of: &NodeWord) -> Value {
    json!({
        "event": of.event.as_str(),
        "name": of.node,
        "datacenter": of.datacenter,
        "severity": of.severity.as_str(),
        "at": iso(of.at),
        "until": of.until.map(iso),
        "summary": of.summary,
    })
}
