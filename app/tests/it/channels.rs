//! Channels against stand-ins that check the form of every call: what each answer means for the next attempt, that no
//! secret is ever shown, and that a message is told once where it can be.

use crate::support::provider::{Act, Provider};
use crate::support::{telegram, webhook};
use axum::http::StatusCode;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watchkeeper::channel::{self, Accepted, Channel, ChannelKind, Delivery, Message, Refused, RefusedClass, Retry};
use watchkeeper::clock::Clock;
use watchkeeper::config::{self, Config};
use watchkeeper::net::Net;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{Dur, Micros, Severity};

const NOW: Micros = Micros(1_795_317_130_000_000);
const HEADER_SECRET: &str = "Bearer hunter2-hunter2";
const PATH_SECRET: &str = "T0pS3cretPath";

fn load(yaml: &str) -> Config {
    config::load_texts(&[("test.yaml".to_owned(), yaml.as_bytes().to_vec())], &|_| None).unwrap_or_else(|bad| panic!("{bad}"))
}

/// Problems of a file with one channel.
fn problems(channel: &str) -> String {
    let yaml = format!("channels:\n  - {channel}\n");
    match config::load_texts(&[("test.yaml".to_owned(), yaml.into_bytes())], &|_| None) {
        Ok(_) => String::new(),
        Err(bad) => bad.to_string(),
    }
}

fn one(channel: &str) -> ChannelKind {
    load(&format!("channels:\n  - {channel}\n")).tenants[0].channels[0].kind.clone()
}

fn telegram_at(url: &str) -> ChannelKind {
    one(&format!(r#"{{ name: ops, telegram: {{ bot_token: "{}", chat_id: -100123, topic_id: 7, api_url: "{url}" }} }}"#, telegram::TOKEN))
}

fn webhook_at(url: &str, signed: bool) -> ChannelKind {
    let secret = if signed { webhook::SECRET } else { "" };
    one(&format!(
        r#"{{ name: hook, webhook: {{ url: "{url}/hook?key={PATH_SECRET}", headers: {{ Authorization: "{HEADER_SECRET}", X-Team: sre }}, secret: "{secret}", timeout: 5s }} }}"#
    ))
}

fn opened() -> Message {
    Message {
        event: Some(NoticeEvent::Opened),
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
        resolved_at: None,
        resolved_why: None,
        seen_by: BTreeMap::from([("local".to_owned(), "down".to_owned())]),
    }
}

fn delivery(within: Duration) -> Delivery {
    Delivery { message: opened(), key: "incident/x/opened/0/1".to_owned(), deadline: Instant::now() + within, now: NOW }
}

async fn tell(channel: &dyn Channel) -> Result<Accepted, Refused> {
    tell_within(channel, Duration::from_secs(10)).await
}

async fn tell_within(channel: &dyn Channel, within: Duration) -> Result<Accepted, Refused> {
    let result = channel.deliver(&Arc::new(Net::system(Clock::system())), &delivery(within)).await;
    if let Err(refused) = &result {
        no_secret(&format!("{refused} {refused:?}"));
    }
    result
}

fn no_secret(text: &str) {
    let key = telegram::TOKEN.split_once(':').unwrap().1;
    for secret in [key, PATH_SECRET, HEADER_SECRET, "hunter2", webhook::SECRET] {
        assert!(!text.contains(secret), "{secret} is shown: {text}");
    }
}

/// Status and `Retry-After` against class and retry: the same table for both channels but where Telegram differs.
const MATRIX: &[(u16, Option<&str>, RefusedClass, Retry)] = &[
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

#[tokio::test]
async fn every_status_of_a_webhook_means_what_it_should() {
    let provider = webhook::start(true).await;
    let channel = webhook_at(&provider.url, true).build();
    for (status, asked, class, retry) in MATRIX {
        let headers = asked.map(|a| ("retry-after", a.to_owned())).into_iter().collect();
        // Servers echo what they were given: that must not get into the error text.
        let body = format!("no:\n {HEADER_SECRET} {PATH_SECRET} {}", webhook::SECRET);
        provider.then(Act::Answer(StatusCode::from_u16(*status).unwrap(), headers, body));
        let refused = tell(&*channel).await.expect_err("not 2xx");
        assert_eq!((refused.class, refused.retry), (*class, *retry), "{status} {asked:?}");
        assert!(refused.text.contains(&status.to_string()) && refused.text.contains(&provider.url), "{}", refused.text);
    }
    for status in [200, 201, 202, 204] {
        provider.then(Act::Answer(StatusCode::from_u16(status).unwrap(), vec![], String::new()));
        assert_eq!(tell(&*channel).await, Ok(Accepted::default()), "{status}");
    }
    assert_eq!(provider.finish().len(), MATRIX.len() + 4, "one call for one attempt");
}

#[tokio::test]
async fn every_status_of_telegram_means_what_it_should() {
    let provider = telegram::start().await;
    let channel = telegram_at(&provider.url).build();
    for (status, asked, class, retry) in MATRIX.iter().filter(|(_, asked, _, _)| asked.is_none()) {
        let (class, retry) = if *status == 404 { (RefusedClass::Auth, Retry::Never) } else { (*class, *retry) };
        assert!(asked.is_none());
        provider.then(telegram::error(*status, &format!("Something about bot{}", telegram::TOKEN)));
        let refused = tell(&*channel).await.expect_err("not ok");
        assert_eq!((refused.class, refused.retry), (class, retry), "{status}");
        assert!(refused.text.contains(&status.to_string()) && refused.text.contains("Something about"), "{}", refused.text);
    }
    for (asked, obeyed) in [(5, 5), (0, 0), (999_999, 3_600)] {
        provider.then(telegram::too_many(asked));
        let refused = tell(&*channel).await.expect_err("too many");
        assert_eq!((refused.class, refused.retry), (RefusedClass::RateLimited, Retry::After(Dur::secs(obeyed))));
    }
    let accepted = tell(&*channel).await.expect("a good message");
    assert!(accepted.provider_id.is_some_and(|id| id.parse::<i64>().is_ok()));
    provider.finish();
}

#[tokio::test]
async fn telegram_gets_the_chat_the_topic_and_the_words() {
    let provider = telegram::start().await;
    tell(&*telegram_at(&provider.url).build()).await.expect("a good message");
    let calls = provider.finish();
    let sent = calls[0].json();
    assert_eq!(sent["chat_id"], -100_123);
    assert_eq!(sent["message_thread_id"], 7);
    let shown = telegram::parse_html(sent["text"].as_str().unwrap()).unwrap();
    assert!(shown.starts_with("🔴 shop <b>& is down\nHTTP status 503 instead of 200-299\n"), "{shown}");
}

#[tokio::test]
async fn a_text_that_telegram_cannot_parse_is_sent_once_more_as_plain_text() {
    let provider = telegram::start().await;
    let channel = telegram_at(&provider.url).build();
    provider.then(telegram::bad_entities());
    tell(&*channel).await.expect("taken as plain text");
    let calls = provider.finish();
    assert_eq!(calls.len(), 2);
    assert!(calls[1].json().get("parse_mode").is_none());
    assert!(calls[1].json()["text"].as_str().unwrap().starts_with("🔴 shop <b>& is down\n"));
    provider.then(telegram::bad_entities()).then(telegram::bad_entities());
    let refused = tell(&*channel).await.expect_err("refused twice");
    assert_eq!((refused.class, refused.retry), (RefusedClass::Client, Retry::Never));
    assert_eq!(provider.calls().len(), 4, "never a third try in one attempt");
}

#[tokio::test]
async fn a_group_that_moved_is_told_under_its_new_id() {
    let provider = telegram::start().await;
    let channel = telegram_at(&provider.url).build();
    provider.then(telegram::migrated(-1_009_999));
    let refused = tell(&*channel).await.expect_err("the group has moved");
    assert_eq!(refused.retry, Retry::Soon);
    assert!(refused.text.contains("chat_id to -1009999"), "{}", refused.text);
    tell(&*channel).await.expect("told under the new id");
    let calls = provider.finish();
    assert_eq!((&calls[0].json()["chat_id"], &calls[1].json()["chat_id"]), (&(-100_123).into(), &(-1_009_999).into()));
}

#[tokio::test]
async fn what_is_not_the_bot_api_is_said_and_tried_again() {
    let provider = telegram::start().await;
    let channel = telegram_at(&provider.url).build();
    provider.then(Act::Answer(StatusCode::OK, vec![], "<html>Log in to the hotel's network</html>".to_owned()));
    let refused = tell(&*channel).await.expect_err("a captive portal took nothing");
    assert_eq!((refused.class, refused.retry), (RefusedClass::Server, Retry::Soon));
    assert!(refused.text.contains("hotel"), "{}", refused.text);
}

#[tokio::test]
async fn an_answer_that_breaks_off_after_it_said_yes_is_a_yes() {
    let chat = telegram::start().await;
    chat.then(Act::CutOff(StatusCode::OK, r#"{"ok":true,"result":{"message_id":17,"te"#));
    assert_eq!(tell(&*telegram_at(&chat.url).build()).await, Ok(Accepted::default()));
    let hook = webhook::start(false).await;
    hook.then(Act::CutOff(StatusCode::OK, "than"));
    assert_eq!(tell(&*webhook_at(&hook.url, false).build()).await, Ok(Accepted::default()));
    hook.then(Act::Answer(StatusCode::OK, vec![], "x".repeat(1_000_000)));
    assert_eq!(tell(&*webhook_at(&hook.url, false).build()).await, Ok(Accepted::default()), "a large answer is a yes too");
}

#[tokio::test]
async fn silence_and_closed_doors_are_tried_again() {
    let chat = telegram::start().await;
    let hook = webhook::start(false).await;
    chat.otherwise(Act::Hang);
    hook.otherwise(Act::Hang);
    for channel in [telegram_at(&chat.url), webhook_at(&hook.url, false)] {
        let refused = tell_within(&*channel.build(), Duration::from_millis(300)).await.expect_err("silence");
        assert_eq!((refused.class, refused.retry), (RefusedClass::Timeout, Retry::Soon), "{}", refused.text);
    }
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for channel in [telegram_at(&closed), webhook_at(&closed, true)] {
        let refused = tell(&*channel.build()).await.expect_err("nobody listens");
        assert_eq!((refused.class, refused.retry), (RefusedClass::Network, Retry::Soon), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_wrong_token_or_signature_is_refused_by_the_stand_ins() {
    // The stand-ins must be able to fail.
    let chat = telegram::start().await;
    let stranger = one(&format!(r#"{{ name: ops, telegram: {{ bot_token: "123456:wrong", chat_id: "@ops", api_url: "{}" }} }}"#, chat.url));
    assert_eq!(tell(&*stranger.build()).await.expect_err("401").class, RefusedClass::Auth);
    let hook = webhook::start(true).await;
    let unsigned = webhook_at(&hook.url, false).build();
    assert_eq!(tell(&*unsigned).await.expect_err("unsigned").class, RefusedClass::Client);
    for bad in ["<b>a", "<x>a</x>", "a & b", "a > b", "</b>", "<b><i>a</b></i>"] {
        assert!(telegram::parse_html(bad).is_err(), "{bad}");
    }
    let faults = |p: &Provider| p.calls().iter().filter(|c| c.fault.is_some()).count();
    assert_eq!((faults(&chat), faults(&hook)), (1, 1));
}

#[test]
fn nothing_shown_or_stored_holds_a_secret_but_the_hash_sees_it() {
    for channel in [telegram_at("http://127.0.0.1:1"), webhook_at("http://127.0.0.1:1", true)] {
        no_secret(&format!("{channel:?} {} {}", channel.canonical(), channel.budget_key()));
        assert_eq!(channel.hash(), channel.clone().hash());
    }
    let with = |token: &str| one(&format!(r#"{{ name: ops, telegram: {{ bot_token: "{token}", chat_id: -1 }} }}"#));
    assert_ne!(with("1:aaa").hash(), with("1:bbb").hash(), "a new token is a change");
    assert_eq!(with("1:aaa").budget_key(), with("1:bbb").budget_key(), "but the same bot");
    assert_eq!(with("1:aaa").budget_key(), "telegram/1");
    assert_eq!(webhook_at("https://hooks.example.org", true).budget_key(), "webhook/hooks.example.org");
}

#[test]
fn bad_channels_are_told_without_their_secrets() {
    for (channel, told) in [
        ("{ name: a, telegram: { chat_id: -1 } }", "`bot_token` is missing"),
        (r#"{ name: a, telegram: { bot_token: "", chat_id: -1 } }"#, "`bot_token` is empty"),
        (r#"{ name: a, telegram: { bot_token: "hunter2", chat_id: -1 } }"#, "not a bot token"),
        (r#"{ name: a, telegram: { bot_token: "1:a", chat_id: "" } }"#, "a chat's number"),
        (r#"{ name: a, telegram: { bot_token: "1:a", chat_id: ops } }"#, "a chat's number"),
        (r#"{ name: a, telegram: { bot_token: "1:a" } }"#, "`chat_id` is missing"),
        (r#"{ name: a, telegram: { bot_token: "1:a", chat_id: -1, topic_id: x } }"#, "a whole number from 1"),
        (r#"{ name: a, telegram: { bot_token: "1:a", chat_id: -1, api_url: "ftp://x" } }"#, "an http:// or https:// URL"),
        (r#"{ name: a, telegram: { bot_tokne: "1:a", chat_id: -1 } }"#, "bot_token"),
        ("{ name: a, webhook: {} }", "`url` is missing"),
        (r#"{ name: a, webhook: { url: "hunter2" } }"#, "not a URL"),
        (r#"{ name: a, webhook: { url: "http://u:hunter2@h/" } }"#, "a URL with credentials"),
        (r#"{ name: a, webhook: { url: "http://h/", headers: { "a b": c } } }"#, "not a header name"),
        (r#"{ name: a, webhook: { url: "http://h/", headers: { Host: c } } }"#, "set by Watchkeeper itself"),
        (r#"{ name: a, webhook: { url: "http://h/", timeout: 1h } }"#, "a duration from 1s to 10s"),
        ("{ name: a, discord: {} }", "`discord` is not built yet"),
        ("{ name: a, telegarm: {} }", "telegram"),
    ] {
        let problems = problems(channel);
        assert!(problems.contains(told), "{channel}: {problems:?}");
        assert!(!problems.lines().next().unwrap_or_default().contains("hunter2"), "{problems}");
    }
    assert_eq!(problems(r#"{ name: a, telegram: { bot_token: "1:a", chat_id: "@ops", topic_id: "" } }"#), "");
}

#[tokio::test]
async fn a_test_message_is_taken_or_the_refusal_is_told() {
    let chat = telegram::start().await;
    let hook = webhook::start(true).await;
    let clock = Clock::system();
    let net = Arc::new(Net::system(clock.clone()));
    let accepted = channel::send_test(&net, &clock, "ops", &telegram_at(&chat.url)).await.expect("the chat works");
    assert_eq!(accepted.provider_id.as_deref(), Some("1000"));
    assert!(chat.finish()[0].json()["text"].as_str().unwrap().contains("The channel ops works"));
    let signed = webhook_at(&hook.url, true);
    channel::send_test(&net, &clock, "hook", &signed).await.expect("the webhook works");
    assert_eq!(hook.finish()[0].json()["event"], "test");
    hook.then(Act::Answer(StatusCode::FORBIDDEN, vec![], "go away".to_owned()));
    let refused = channel::send_test(&net, &clock, "hook", &signed).await.expect_err("forbidden");
    assert_eq!(refused.to_string(), format!("{} answered 403: go away", hook.url));
}
