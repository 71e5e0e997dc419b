//! The forms of the API, held.

use super::*;
use crate::store::{self, IncidentView, LiveWrite, NoticeView, TimelineEntry};
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{AgentId, DatacenterId, IncidentId, MonitorId, Outcome, Reason, Severity};

const AT: Micros = Micros(1_770_000_000_123_456);

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

fn beat() -> BeatRow {
    BeatRow {
        monitor: MonitorId(7),
        datacenter: DatacenterId(1),
        at: AT,
        agent: AgentId(2),
        outcome: Outcome::Down(Reason::HttpStatus),
        lag_us: 12,
        dns_us: 1,
        connect_us: 2,
        tls_us: 3,
        first_byte_us: 4,
        transfer_us: 5,
        total_us: 15,
        code: 503,
        size: -1,
        value: -1,
        flags: 1,
    }
}

#[test]
fn a_time_has_microseconds_and_reads_back() {
    assert_eq!(Time(AT).to_string(), "2026-02-02T02:40:00.123456Z");
    assert_eq!(Time(Micros(0)).to_string(), "1970-01-01T00:00:00.000000Z");
    assert_eq!("2026-02-02T02:40:00.123456Z".parse::<Time>().unwrap(), Time(AT));
    assert_eq!("2026-02-02T04:40:00.123456+02:00".parse::<Time>().unwrap(), Time(AT));
    assert!("2026-02-02".parse::<Time>().is_err());
}

#[test]
fn the_form_of_a_monitor_does_not_change_unseen() {
    let view = MonitorView {
        id: MonitorId(7),
        uid: "01970000-0000-7000-8000-000000000007".into(),
        name: "shop".into(),
        kind: "http".into(),
        target: "https://shop.example.org/".into(),
        labels: [("team".to_owned(), "web".to_owned())].into(),
        paused: false,
        origin: "watchkeeper.yaml:12".into(),
        config: serde_json::json!({"name": "shop"}),
        health: Health::Down,
        since: Some(AT),
        why: Some("http_status".into()),
        flapping: vec!["down".into()],
        created_at: AT,
        last: Some(beat()),
    };
    insta::assert_snapshot!(json(&Monitor::of(view.clone(), vec![], true)), @r#"
    {
      "uid": "01970000-0000-7000-8000-000000000007",
      "name": "shop",
      "kind": "http",
      "target": "https://shop.example.org/",
      "labels": {
        "team": "web"
      },
      "paused": false,
      "health": "down",
      "since": "2026-02-02T02:40:00.123456Z",
      "why": "http_status",
      "flapping": [
        "down"
      ],
      "last": {
        "at": "2026-02-02T02:40:00.123456Z",
        "datacenter_id": 1,
        "agent_id": 2,
        "outcome": "down",
        "why": "http_status",
        "lag_us": 12,
        "dns_us": 1,
        "connect_us": 2,
        "tls_us": 3,
        "first_byte_us": 4,
        "transfer_us": 5,
        "total_us": 15,
        "code": 503,
        "size": null,
        "value": null,
        "pushed": true
      },
      "mutes": [],
      "origin": "watchkeeper.yaml:12",
      "created_at": "2026-02-02T02:40:00.123456Z",
      "config": {
        "name": "shop"
      }
    }
    "#);
    assert!(!json(&Monitor::of(view, vec![], false)).contains("config"), "a list has no configurations");
}

#[test]
fn the_form_of_an_incident_does_not_change_unseen() {
    let view = IncidentView {
        uid: "01970000-0000-7000-8000-000000000009".into(),
        id: IncidentId(9),
        monitor_uid: "01970000-0000-7000-8000-000000000007".into(),
        monitor: "shop".into(),
        rule: "down".into(),
        status: "resolved".into(),
        severity: Severity::Critical,
        opened_at: AT,
        resolved_at: Some(AT),
        resolved_why: Some("recovered".into()),
        acknowledged_at: Some(AT),
        acknowledged_by: Some("ann".into()),
        routed_by: Some("`notify` of the rule".into()),
        reason: Some("http_status".into()),
        summary: "shop is down".into(),
        value: None,
        timeline: vec![TimelineEntry { nth: 0, at: AT, kind: "opened".into(), actor: None, text: "it began".into(), evidence: None }],
        notices: vec![NoticeView {
            channel: "ops".into(),
            event: "opened".into(),
            state: "sent".into(),
            attempts: 1,
            last_error: None,
            why: None,
            next_at: None,
            created_at: AT,
            sent_at: Some(AT),
        }],
    };
    insta::assert_snapshot!(json(&Incident::of(view.clone(), true)), @r#"
    {
      "uid": "01970000-0000-7000-8000-000000000009",
      "monitor": {
        "uid": "01970000-0000-7000-8000-000000000007",
        "name": "shop"
      },
      "rule": "down",
      "status": "resolved",
      "severity": "critical",
      "summary": "shop is down",
      "reason": "http_status",
      "value": null,
      "opened_at": "2026-02-02T02:40:00.123456Z",
      "resolved_at": "2026-02-02T02:40:00.123456Z",
      "resolved_why": "recovered",
      "acknowledged_by": "ann",
      "acknowledged_at": "2026-02-02T02:40:00.123456Z",
      "routed_by": "`notify` of the rule",
      "timeline": [
        {
          "nth": 0,
          "at": "2026-02-02T02:40:00.123456Z",
          "kind": "opened",
          "actor": null,
          "text": "it began",
          "code": null,
          "values": [],
          "evidence": null
        }
      ],
      "notices": [
        {
          "channel": "ops",
          "event": "opened",
          "state": "sent",
          "attempts": 1,
          "last_error": null,
          "why": null,
          "next_at": null,
          "created_at": "2026-02-02T02:40:00.123456Z",
          "sent_at": "2026-02-02T02:40:00.123456Z"
        }
      ]
    }
    "#);
    let listed = json(&Incident::of(view, false));
    assert!(!listed.contains("timeline") && !listed.contains("notices"), "a list has neither timelines nor notices");
}

#[test]
fn absent_numbers_are_null_and_unreadable_evidence_is_left_out() {
    let shown = Heartbeat::of(&beat(), Some("not an attempt"));
    assert_eq!((shown.code, shown.size, shown.value, shown.pushed, shown.detail), (Some(503), None, None, true, None));
    let attempt = Attempt::ended(Outcome::Up, None);
    let shown = Heartbeat::of(&beat(), Some(&serde_json::to_string(&attempt).unwrap()));
    assert_eq!(shown.detail, Some(attempt));
}

#[test]
fn the_small_forms_do_not_change_unseen() {
    let row = LiveRow { id: 3, event: LiveWrite { at: AT, kind: "monitor_state".into(), data: serde_json::json!({"health": "down"}) } };
    let metrics = MonitorMetrics {
        period: "1h".into(),
        from: Time(AT),
        to: Time(AT),
        uptime_percent: Some(99.9876),
        seconds: Seconds { up: 1.5, down: 0.000_001, unknown: 0.0 },
        attempts: Counts { up: 1, down: 2, unknown: 3 },
        total_us: Quantiles { p50: Some(1), p95: None, p99: None },
        codes: [(200, 1), (503, 2)].into(),
        bucket_seconds: 60,
        buckets: vec![Bucket { start: Time(AT), attempts: Counts::default(), total_us: Quantiles::default() }],
        datacenters: vec![SeenFrom {
            datacenter: "va".into(),
            availability_percent: Some(33.3333),
            attempts: Counts { up: 1, down: 2, unknown: 3 },
            total_us: Quantiles::default(),
            buckets: vec![],
        }],
    };
    let all = [
        json(&LiveEvent::of(&row)),
        json(&metrics),
        json(&Page::<Monitor> { items: vec![], next: None }),
        json(&StreamPosition { after: 3, message: "m".into() }),
        json(&HealthBody { status: "ok".into(), version: "1.2.3".into() }),
        json(&ReadyBody {
            ready: false,
            problems: vec!["store: gone".into()],
            warnings: vec![],
            notes: vec![ReadyNote { code: "store".into(), values: vec!["gone".into()], text: "store: gone".into() }],
        }),
        json(&Reloaded { message: "m".into() }),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    {
      "at": "2026-02-02T02:40:00.123456Z",
      "data": {
        "health": "down"
      }
    }
    {
      "period": "1h",
      "from": "2026-02-02T02:40:00.123456Z",
      "to": "2026-02-02T02:40:00.123456Z",
      "uptime_percent": 99.9876,
      "seconds": {
        "up": 1.5,
        "down": 1e-6,
        "unknown": 0.0
      },
      "attempts": {
        "up": 1,
        "down": 2,
        "unknown": 3
      },
      "total_us": {
        "p50": 1,
        "p95": null,
        "p99": null
      },
      "codes": {
        "200": 1,
        "503": 2
      },
      "bucket_seconds": 60,
      "buckets": [
        {
          "start": "2026-02-02T02:40:00.123456Z",
          "attempts": {
            "up": 0,
            "down": 0,
            "unknown": 0
          },
          "total_us": {
            "p50": null,
            "p95": null,
            "p99": null
          }
        }
      ],
      "datacenters": [
        {
          "datacenter": "va",
          "availability_percent": 33.3333,
          "attempts": {
            "up": 1,
            "down": 2,
            "unknown": 3
          },
          "total_us": {
            "p50": null,
            "p95": null,
            "p99": null
          },
          "buckets": []
        }
      ]
    }
    {
      "items": [],
      "next": null
    }
    {
      "after": 3,
      "message": "m"
    }
    {
      "status": "ok",
      "version": "1.2.3"
    }
    {
      "ready": false,
      "problems": [
        "store: gone"
      ],
      "warnings": [],
      "notes": [
        {
          "code": "store",
          "values": [
            "gone"
          ],
          "text": "store: gone"
        }
      ]
    }
    {
      "message": "m"
    }
    "#);
}

#[test]
fn the_forms_of_alerting_do_not_change_unseen() {
    use crate::channel::content::{Content, TestWord};
    use watchkeeper_core::matcher::Matcher;
    let silence = store::Silence {
        uid: "s".into(),
        matcher: Matcher { monitors: vec!["shop*".into()], severities: vec![Severity::Info], ..Matcher::default() },
        starts_at: AT,
        ends_at: AT,
        author: "ann".into(),
        comment: "deploy".into(),
    };
    let letter = store::DeadLetter {
        id: 7,
        channel: "ops".into(),
        incident_uid: Some("i".into()),
        event: "opened".into(),
        content: Content::Test(TestWord { channel: "ops".into(), kind: "webhook".into(), at: AT }),
        attempts: 3,
        last_error: Some("HTTP 500".into()),
        created_at: AT,
    };
    let mute = Mute { by: "maintenance".into(), id: "nightly".into(), until: Time(AT), author: None, comment: None };
    let all = [
        json(&Silence { monitors: Some(2), ..Silence::of(silence.clone()) }),
        json(&Silence::of(store::Silence { matcher: Matcher::default(), ..silence })),
        json(&DeadLetter::of(letter)),
        json(&mute),
        json(&ChannelTested { channel: "ops".into(), provider_id: None }),
        json(&Done { message: "m".into() }),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    {
      "uid": "s",
      "match": {
        "monitors": [
          "shop*"
        ],
        "severities": [
          "info"
        ]
      },
      "starts_at": "2026-02-02T02:40:00.123456Z",
      "ends_at": "2026-02-02T02:40:00.123456Z",
      "author": "ann",
      "comment": "deploy",
      "monitors": 2
    }
    {
      "uid": "s",
      "match": {},
      "starts_at": "2026-02-02T02:40:00.123456Z",
      "ends_at": "2026-02-02T02:40:00.123456Z",
      "author": "ann",
      "comment": "deploy"
    }
    {
      "id": 7,
      "channel": "ops",
      "event": "opened",
      "incident": "i",
      "summary": "test of ops",
      "attempts": 3,
      "last_error": "HTTP 500",
      "created_at": "2026-02-02T02:40:00.123456Z"
    }
    {
      "by": "maintenance",
      "id": "nightly",
      "until": "2026-02-02T02:40:00.123456Z",
      "author": null,
      "comment": null
    }
    {
      "channel": "ops",
      "provider_id": null
    }
    {
      "message": "m"
    }
    "#);
}
