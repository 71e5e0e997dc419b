//! What the suites of all channels share: a configured channel, a message, one attempt, the table of statuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watchkeeper::channel::content::Content;
use watchkeeper::channel::{Accepted, Channel, ChannelKind, Common, Delivery, Message, Refused, RefusedClass, Retry};
use watchkeeper::clock::Clock;
use watchkeeper::config;
use watchkeeper::net::Net;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{Dur, Micros, Severity};

/// 22 Nov 2026, 03:12:10 UTC.
pub const NOW: Micros = Micros(1_795_317_130_000_000);
/// In headers, URLs and passwords of the suites; must never be seen.
pub const HEADER_SECRET: &str = "Bearer hunter2-hunter2";
pub const PATH_SECRET: &str = "T0pS3cretPath";

/// Problems of a file with one channel.
pub fn problems(channel: &str) -> String {
    let yaml = format!("channels:\n  - {channel}\n");
    match config::load_texts(&[("test.yaml".to_owned(), yaml.into_bytes())], &|_| None) {
        Ok(_) => String::new(),
        Err(bad) => bad.to_string(),
    }
}

/// A channel as a file configures it.
pub fn configured(channel: &str) -> (String, ChannelKind, Common) {
    let yaml = format!("channels:\n  - {channel}\n");
    let config = config::load_texts(&[("test.yaml".to_owned(), yaml.into_bytes())], &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
    let found = &config.tenants[0].channels[0];
    (found.name.clone(), found.kind.clone(), found.common.clone())
}

/// Its kind alone.
pub fn one(channel: &str) -> ChannelKind {
    configured(channel).1
}

/// Ready to be told.
pub fn built(channel: &str) -> Arc<dyn Channel> {
    let (name, kind, common) = configured(channel);
    kind.build(&name, common.style)
}

/// Word about an incident whose names and texts have what markup is made of.
pub fn word(event: NoticeEvent) -> Message {
    let over = event == NoticeEvent::Resolved;
    Message {
        event,
        incident: "019aa2b4-7e0c-7d3a-9c55-0d1f6c1b2a3e".to_owned(),
        tenant: "default".to_owned(),
        monitor_uid: "019aa2b4-0000-7000-8000-000000000001".to_owned(),
        monitor: "shop <b>&".to_owned(),
        kind: "http".to_owned(),
        target: "https://shop.example.org/?a=1&b=2".to_owned(),
        labels: BTreeMap::new(),
        rule: "down".to_owned(),
        severity: Severity::Critical,
        reason: Some("http_status".to_owned()),
        summary: "HTTP status 503 instead of 200-299".to_owned(),
        detail: None,
        opened_at: NOW,
        resolved_at: over.then(|| NOW + Dur::secs(60)),
        resolved_why: over.then(|| "recovered".to_owned()),
        flapping: false,
        actor: matches!(event, NoticeEvent::Acknowledged | NoticeEvent::Unacknowledged).then(|| "alice".to_owned()),
        comment: (event == NoticeEvent::Acknowledged).then(|| "the <disk> is full".to_owned()),
        cut_off: None,
        seen_by: BTreeMap::from([("local".to_owned(), "down".to_owned())]),
    }
}

/// One delivery of it.
pub fn delivery(content: Content, thread: Option<&str>, within: Duration) -> Delivery {
    let key = "incident/x/opened/0/1".to_owned();
    Delivery { content, key, deadline: Instant::now() + within, now: NOW, thread: thread.map(str::to_owned) }
}

/// One attempt to tell of the beginning.
pub async fn tell(channel: &dyn Channel) -> Result<Accepted, Refused> {
    tell_within(channel, Duration::from_secs(10)).await
}

/// The same, ended earlier.
pub async fn tell_within(channel: &dyn Channel, within: Duration) -> Result<Accepted, Refused> {
    attempt(channel, delivery(Content::Incident(word(NoticeEvent::Opened)), None, within)).await
}

/// One attempt to tell of something about an incident whose first message has this id.
pub async fn tell_of(channel: &dyn Channel, event: NoticeEvent, thread: Option<&str>) -> Result<Accepted, Refused> {
    attempt(channel, delivery(Content::Incident(word(event)), thread, Duration::from_secs(10))).await
}

/// One attempt; no refusal may show a secret.
pub async fn attempt(channel: &dyn Channel, delivery: Delivery) -> Result<Accepted, Refused> {
    let result = channel.deliver(&Arc::new(Net::system(Clock::system())), &delivery).await;
    if let Err(refused) = &result {
        no_secret(&format!("{refused} {refused:?}"));
    }
    result
}

/// None of the suites' secrets is in a text.
pub fn no_secret(text: &str) {
    let key = super::telegram::TOKEN.split_once(':').unwrap().1;
    for secret in [key, PATH_SECRET, HEADER_SECRET, "hunter2", super::webhook::SECRET, super::discord::TOKEN] {
        assert!(!text.contains(secret), "{secret} is shown: {text}");
    }
}

/// Status and `Retry-After` against class and retry: the same table for all channels over HTTP, but where one differs.
pub const MATRIX: &[(u16, Option<&str>, RefusedClass, Retry)] = &[
    (301, None, RefusedClass::Client, Retry::Never),
    (400, None, RefusedClass::Client, Retry::Never),
    (401, None, RefusedClass::Auth, Retry::Never),
    (403, None, RefusedClass::Auth, Retry::Never),
    (404, None, RefusedClass::Client, Retry::Never),
    (405, None, RefusedClass::Client, Retry::Never),
    (408, None, RefusedClass::Timeout, Retry::Soon),
    (409, None, RefusedClass::Client, Retry::Never),
    (410, None, RefusedClass::Client, Retry::Never),
    (413, None, RefusedClass::Client, Retry::Never),
    (422, None, RefusedClass::Client, Retry::Never),
    (425, None, RefusedClass::Server, Retry::Soon),
    (429, None, RefusedClass::RateLimited, Retry::Soon),
    (429, Some("17"), RefusedClass::RateLimited, Retry::After(Dur::secs(17))),
    (429, Some("999999"), RefusedClass::RateLimited, Retry::After(Dur::secs(3_600))),
    (429, Some("Sun, 22 Nov 2026 03:13:10 GMT"), RefusedClass::RateLimited, Retry::After(Dur::secs(60))),
    (429, Some("Sun, 22 Nov 2026 01:00:00 GMT"), RefusedClass::RateLimited, Retry::After(Dur::ZERO)),
    (429, Some("soon"), RefusedClass::RateLimited, Retry::Soon),
    (500, None, RefusedClass::Server, Retry::Soon),
    (501, None, RefusedClass::Server, Retry::Soon),
    (502, None, RefusedClass::Server, Retry::Soon),
    (503, Some("5"), RefusedClass::Server, Retry::After(Dur::secs(5))),
    (504, None, RefusedClass::Server, Retry::Soon),
    (599, None, RefusedClass::Server, Retry::Soon),
];
