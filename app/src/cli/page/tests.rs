//! The page, held as it is printed.

use super::*;
use crate::probe::Hop;
use crate::web::types::{MonitorRef, Mute, Time};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use watchkeeper_core::{Micros, Outcome, Reason};

/// 2026-11-22 03:20:00 UTC.
pub(crate) const NOW: Micros = Micros(1_795_317_600_000_000);

pub(crate) fn plain() -> View {
    View { term: Term::plain(100), zone: TimeZone::UTC, now: NOW }
}

fn ago(seconds: i64) -> Time {
    Time(NOW - Dur::secs(seconds))
}

fn entry(nth: i32, at: Time, kind: &str, actor: Option<&str>, text: &str) -> Entry {
    Entry { nth, at, kind: kind.into(), actor: actor.map(str::to_owned), text: text.into(), code: None, values: Vec::new(), evidence: None }
}

fn notice(channel: &str, event: &str, state: &str, at: Time) -> Notice {
    Notice {
        channel: channel.into(),
        event: event.into(),
        state: state.into(),
        attempts: 0,
        last_error: None,
        why: None,
        next_at: None,
        created_at: at,
        sent_at: None,
    }
}

/// The shop went down 473 s ago.
pub(crate) fn incident() -> Incident {
    Incident {
        uid: "019aa2b4-7e0c-7d3a-9c55-0d1f6c1b2a3e".into(),
        monitor: MonitorRef { uid: "m".into(), name: "shop".into() },
        rule: "down".into(),
        status: "open".into(),
        severity: "critical".into(),
        summary: "HTTP status 503 instead of 200-299".into(),
        reason: Some("http_status".into()),
        value: None,
        opened_at: ago(473),
        resolved_at: None,
        resolved_why: None,
        acknowledged_by: None,
        acknowledged_at: None,
        routed_by: None,
        timeline: None,
        notices: None,
    }
}

fn monitor() -> Monitor {
    Monitor {
        uid: "m".into(),
        name: "shop".into(),
        kind: "http".into(),
        target: "https://shop.example.org/health".into(),
        labels: BTreeMap::from([("room".to_owned(), "b2".to_owned()), ("team".to_owned(), "web".to_owned())]),
        paused: false,
        health: "down".into(),
        since: Some(ago(483)),
        why: Some("http_status".into()),
        flapping: vec!["down".into()],
        last: None,
        mutes: vec![],
        origin: "wk.yaml:1".into(),
        created_at: ago(1_000_000),
        config: None,
        push_token: None,
        made: None,
    }
}

fn attempt() -> Attempt {
    let mut attempt = Attempt::ended(Outcome::Down(Reason::HttpStatus), Some("HTTP status 503 instead of 200-299".into()));
    attempt.hops = vec![Hop {
        url: "https://shop.example.org/health".into(),
        address: Some("192.0.2.7:443".into()),
        resolved: None,
        dns_us: 2_000,
        connect_us: 8_000,
        tls_us: 20_000,
        first_byte_us: 60_000,
        transfer_us: 1_000,
        status: Some(503),
    }];
    attempt.total_us = 91_000;
    attempt
}

#[test]
fn the_page_answers_what_is_asked_at_three_in_the_morning() {
    let mut opened = entry(0, ago(473), "opened", None, "HTTP status 503 instead of 200-299");
    opened.evidence = Some(serde_json::to_value(attempt()).unwrap());
    let timeline = vec![
        opened,
        entry(1, ago(472), "told", None, "ops was told that it opened"),
        entry(2, ago(300), "acknowledged", Some("ann"), "taken on"),
        entry(3, ago(299), "comment", Some("ann"), "the database is full;\ncalling Boris"),
        entry(4, ago(60), "not_told", None, "pager was given up after 5 attempts"),
    ];
    let notices = vec![
        Notice { sent_at: Some(Time(NOW - Dur::secs(473) + Dur(1_234_000))), attempts: 1, ..notice("ops", "opened", "sent", ago(473)) },
        Notice {
            why: Some("silence 3f2a (deploy)".into()),
            next_at: Some(Time(NOW + Dur::secs(2_400))),
            ..notice("mail", "opened", "held", ago(473))
        },
        Notice { why: Some("told before, within the rule's cooldown".into()), ..notice("ops", "reminded", "suppressed", ago(170)) },
        Notice {
            attempts: 5,
            last_error: Some("the provider answered 403 Forbidden: the token is not valid for this chat, or the bot was removed".into()),
            ..notice("pager", "opened", "dead", ago(473))
        },
        Notice {
            attempts: 3,
            last_error: Some("HTTP 500".into()),
            next_at: Some(Time(NOW + Dur::secs(9))),
            ..notice("hook", "opened", "due", ago(473))
        },
        notice("hook", "acknowledged", "due", ago(300)),
        Notice { why: Some("the night's hours".into()), sent_at: Some(ago(60)), attempts: 1, ..notice("day", "opened", "sent", ago(473)) },
    ];
    let taken =
        Incident { status: "acknowledged".into(), acknowledged_by: Some("ann".into()), acknowledged_at: Some(ago(300)), ..incident() };
    let shown = Incident { timeline: Some(timeline), notices: Some(notices), ..taken };
    let mute = Mute {
        by: "silence".into(),
        id: "77777777-7777-4777-8777-0000deadbeef".into(),
        until: Time(NOW + Dur::secs(2_400)),
        author: Some("ann".into()),
        comment: Some("deploy".into()),
    };
    let monitor = Monitor { mutes: vec![mute], ..monitor() };
    insta::assert_snapshot!(draw(&shown, Some(&monitor), &plain()), @"
    ◐ shop · down  critical, for 7m 53s, acknowledged by ann
      HTTP status 503 instead of 200-299 (http_status)

      incident    019aa2b4-7e0c-7d3a-9c55-0d1f6c1b2a3e
      monitor     shop http https://shop.example.org/health
      labels      room=b2 team=web
      now         down for 8m 3s (http_status), flapping (down); silence deadbeef until 04:00:00
                  (deploy)
      began       2026-11-22 03:12:07 UTC, 7m 53s ago
      taken on    by ann at 2026-11-22 03:15:00 UTC

    What was seen
    ✘ down  https://shop.example.org/health  91.0 ms
      the status is not an expected one (http_status)
      HTTP status 503 instead of 200-299

      https://shop.example.org/health  192.0.2.7:443  503 Service Unavailable
        dns         2.00 ms  █▋
        connect     8.00 ms   ███████▏
        tls         20.0 ms          ████████████████▌
        first byte  60.0 ms                          ██████████████████████████████████████████████████
        transfer    1.00 ms                                                                            ▊

    What happened
      03:12:07  opened          HTTP status 503 instead of 200-299
      03:12:08  told            ops was told that it opened
      03:15:00  acknowledged    ann: taken on
      03:15:01  comment         ann: the database is full;
                                calling Boris
      03:19:00  not told        pager was given up after 5 attempts

    Who was told, who was not, and why
      ✔ ops    opened          told at 03:12:08, 1.23 s after it was decided
      ‖ mail   opened          held: silence 3f2a (deploy); looked at again at 04:00:00
      – ops    reminded        not told: told before, within the rule's cooldown
      ✖ pager  opened          given up after 5 attempts: the provider answered 403 Forbidden: the token
                               is not valid for this chat, or the bot was removed; see watchkeeper
                               dead-letters
      … hook   opened          waits after 3 attempts, next at 03:20:09: HTTP 500
      … hook   acknowledged    waits for its turn
      ✔ day    opened          told at 03:19:00, 6m 53s after it was decided; held before: the night's
                               hours

      watchkeeper incident resolve 6c1b2a3e    or give it back: watchkeeper incident unack 6c1b2a3e
    ");
}

#[test]
fn what_is_over_says_how_it_ended_and_asks_for_nothing() {
    let shown = Incident {
        status: "resolved".into(),
        resolved_at: Some(ago(100)),
        resolved_why: Some("recovered".into()),
        timeline: Some(vec![
            entry(0, ago(473), "opened", None, "HTTP status 503 instead of 200-299"),
            entry(1, ago(100), "resolved", None, "over after 6m13s"),
        ]),
        notices: Some(vec![]),
        routed_by: Some("`notify` of the monitor".into()),
        ..incident()
    };
    insta::assert_snapshot!(draw(&shown, None, &plain()), @"
    ✔ shop · down  critical, over after 6m 13s
      HTTP status 503 instead of 200-299 (http_status)

      incident    019aa2b4-7e0c-7d3a-9c55-0d1f6c1b2a3e
      monitor     shop, which is no longer watched
      began       2026-11-22 03:12:07 UTC, 7m 53s ago
      ended       2026-11-22 03:18:20 UTC: it recovered

    What happened
      03:12:07  opened          HTTP status 503 instead of 200-299
      03:18:20  resolved        over after 6m13s

    Who was told, who was not, and why
      whom to tell: `notify` of the monitor
      nobody: that is no channel at all
    ");
}

#[test]
fn nothing_from_outside_moves_the_cursor_or_leaves_the_page() {
    let wild = format!("{}\x1b[2J\nb", "x ".repeat(300));
    let timeline = vec![entry(0, ago(1), "comment", Some("a\x1b[2J"), &wild)];
    let notices = vec![Notice { why: Some(wild.clone()), last_error: Some(wild.clone()), ..notice(&wild, "opened", "dead", ago(1)) }];
    let shown = Incident { summary: wild.clone(), rule: "down".into(), timeline: Some(timeline), notices: Some(notices), ..incident() };
    let monitor = Monitor { target: wild, ..monitor() };
    let page = draw(&shown, Some(&monitor), &plain());
    assert!(!page.contains('\x1b'), "{page}");
    for line in page.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
}
