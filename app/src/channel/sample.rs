//! One message of each kind: templates are tried with them, and tests use them.

use super::content::{Content, Digest, Message, NodeEvent, NodeWord, Report, ReportLine, TestWord};
use std::collections::BTreeMap;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{Dur, Micros, Severity};

/// 22 Nov 2026, 03:12:07 UTC and a little.
pub(in crate::channel) const OPENED_AT: Micros = Micros(1_795_317_127_123_456);
/// When the samples are told.
pub(in crate::channel) const NOW: Micros = Micros(1_795_317_127_123_456 + 192_400_000);

/// The shop went down at 03:12:07.
pub(in crate::channel) fn opened() -> Message {
    Message {
        event: NoticeEvent::Opened,
        incident: "019aa2b4-7e0c-7d3a-9c55-0d1f6c1b2a3e".to_owned(),
        tenant: "default".to_owned(),
        monitor_uid: "019aa2b4-0000-7000-8000-000000000001".to_owned(),
        monitor: "shop".to_owned(),
        kind: "http".to_owned(),
        target: "https://shop.example.org/health".to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        rule: "down".to_owned(),
        severity: Severity::Critical,
        reason: Some("http_status".to_owned()),
        summary: "HTTP status 503 instead of 200-299".to_owned(),
        detail: Some("HTTP status 503 instead of 200-299".to_owned()),
        opened_at: OPENED_AT,
        resolved_at: None,
        resolved_why: None,
        flapping: false,
        cut_off: None,
        actor: None,
        comment: None,
        seen_by: BTreeMap::from([("local".to_owned(), "down".to_owned())]),
    }
}

/// … and came back 3m12s later.
pub(in crate::channel) fn resolved() -> Message {
    Message {
        event: NoticeEvent::Resolved,
        summary: "over after 3m12s".to_owned(),
        resolved_at: Some(NOW),
        resolved_why: Some("recovered".to_owned()),
        seen_by: BTreeMap::from([("local".to_owned(), "up".to_owned())]),
        ..opened()
    }
}

/// Alice took it on.
pub(in crate::channel) fn acknowledged() -> Message {
    let (actor, comment) = (Some("alice".to_owned()), Some("the disk is full".to_owned()));
    Message { event: NoticeEvent::Acknowledged, actor, comment, ..opened() }
}

/// … and gave it back.
pub(in crate::channel) fn unacknowledged() -> Message {
    Message { event: NoticeEvent::Unacknowledged, actor: Some("alice".to_owned()), ..opened() }
}

/// It lasts.
pub(in crate::channel) fn reminded() -> Message {
    Message { event: NoticeEvent::Reminded, ..opened() }
}

/// It lasts, and others are told.
pub(in crate::channel) fn escalated() -> Message {
    Message { event: NoticeEvent::Escalated, ..opened() }
}

/// A storm of three.
pub(in crate::channel) fn digest() -> Digest {
    let other = Message { monitor: "db".to_owned(), rule: "slow_response/connect".to_owned(), severity: Severity::Warning, ..opened() };
    Digest { tenant: "default".to_owned(), words: vec![opened(), other, resolved()], open: 12, resolved: 1, more: 10, at: NOW }
}

/// Two monitors, one of them down.
pub(in crate::channel) fn report() -> Report {
    let line = |monitor: &str, health, why: Option<&str>, uptime_mpct| ReportLine {
        monitor: monitor.to_owned(),
        kind: "http".to_owned(),
        health,
        why: why.map(str::to_owned),
        uptime_mpct,
    };
    Report {
        name: "daily".to_owned(),
        tenant: "default".to_owned(),
        from: OPENED_AT - Dur::secs(21_600),
        to: OPENED_AT,
        counts: vec![(Health::Up, 2), (Health::Down, 1)],
        paused: 1,
        lines: vec![
            line("shop", Health::Down, Some("HTTP status 503 instead of 200-299"), Some(99_120)),
            line("blog", Health::Up, None, Some(100_000)),
            line("new", Health::Up, None, None),
        ],
        more: 0,
        opened: 3,
        open: 1,
    }
}

/// Something about a node.
pub(in crate::channel) fn node(event: NodeEvent) -> NodeWord {
    NodeWord {
        event,
        node: "east-1".to_owned(),
        datacenter: "local".to_owned(),
        severity: Severity::Info,
        at: OPENED_AT,
        until: (event == NodeEvent::CutOff).then_some(NOW),
        summary: "what the node says".to_owned(),
    }
}

/// A test.
pub(in crate::channel) fn test() -> TestWord {
    TestWord { channel: "ops".to_owned(), kind: "telegram".to_owned(), at: Micros(1_795_317_127_000_000) }
}

/// One of each, with a word for it.
pub(in crate::channel) fn all() -> Vec<(&'static str, Content)> {
    let flapping = Message { flapping: true, ..opened() };
    let flapped = Message { flapping: true, ..resolved() };
    let ended = Message { resolved_why: Some("operator".to_owned()), actor: Some("alice".to_owned()), ..resolved() };
    vec![
        ("opened", Content::Incident(opened())),
        ("opened, flapping", Content::Incident(flapping)),
        ("opened, cut off", Content::Incident(Message { cut_off: Some("va-2".to_owned()), ..opened() })),
        ("reminded", Content::Incident(reminded())),
        ("escalated", Content::Incident(escalated())),
        ("acknowledged", Content::Incident(acknowledged())),
        ("unacknowledged", Content::Incident(unacknowledged())),
        ("resolved", Content::Incident(resolved())),
        ("resolved, flapping", Content::Incident(flapped)),
        ("resolved by a person", Content::Incident(ended)),
        ("digest", Content::Digest(digest())),
        ("report", Content::Report(report())),
        ("started", Content::Node(node(NodeEvent::Started))),
        ("stopped", Content::Node(node(NodeEvent::Stopped))),
        ("failed", Content::Node(node(NodeEvent::Failed))),
        ("cut off", Content::Node(node(NodeEvent::CutOff))),
        ("channels failed", Content::Node(node(NodeEvent::ChannelsFailed))),
        ("test", Content::Test(test())),
    ]
}
