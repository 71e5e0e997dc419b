//! Channels against stand-ins that check the form of every call: what each answer means for the next attempt, that no
//! secret is ever shown, and that a message is told once where it can be.

use crate::support::provider::{Act, Call, Provider};
use crate::support::telling::{
    HEADER_SECRET, MATRIX, NOW, PATH_SECRET, built, configured, delivery, no_secret, one, problems, tell, tell_of, tell_within, word,
};
use crate::support::{telegram, telling, webhook};
use axum::http::StatusCode;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use watchkeeper::channel::content::{Content, NodeEvent, NodeWord};
use watchkeeper::channel::{self, Accepted, ChannelKind, Common, RefusedClass, Retry, Style};
use watchkeeper::clock::Clock;
use watchkeeper::net::Net;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{Dur, Severity};

fn telegram_at(url: &str) -> ChannelKind {
    one(&telegram_yaml(url, ""))
}

fn telegram_yaml(url: &str, keys: &str) -> String {
    format!(r#"{{ name: ops, telegram: {{ bot_token: "{}", chat_id: -100123, topic_id: 7, api_url: "{url}"{keys} }} }}"#, telegram::TOKEN)
}

fn webhook_at(url: &str, signed: bool) -> ChannelKind {
    let secret = if signed { webhook::SECRET } else { "" };
    one(&format!(
        r#"{{ name: hook, webhook: {{ url: "{url}/hook?key={PATH_SECRET}", headers: {{ Authorization: "{HEADER_SECRET}", X-Team: sre }}, secret: "{secret}", timeout: 5s }} }}"#
    ))
}

#[tokio::test]
async fn every_status_of_a_webhook_means_what_it_should() {
    let provider = webhook::start(true).await;
    let channel = webhook_at(&provider.url, true).build("ops", Style::default());
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
    let channel = telegram_at(&provider.url).build("ops", Style::default());
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
    tell(&*telegram_at(&provider.url).build("ops", Style::default())).await.expect("a good message");
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
    let channel = telegram_at(&provider.url).build("ops", Style::default());
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
    let channel = telegram_at(&provider.url).build("ops", Style::default());
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
    let channel = telegram_at(&provider.url).build("ops", Style::default());
    provider.then(Act::Answer(StatusCode::OK, vec![], "<html>Log in to the hotel's network</html>".to_owned()));
    let refused = tell(&*channel).await.expect_err("a captive portal took nothing");
    assert_eq!((refused.class, refused.retry), (RefusedClass::Server, Retry::Soon));
    assert!(refused.text.contains("hotel"), "{}", refused.text);
}

#[tokio::test]
async fn an_answer_that_breaks_off_after_it_said_yes_is_a_yes() {
    let chat = telegram::start().await;
    chat.then(Act::CutOff(StatusCode::OK, r#"{"ok":true,"result":{"message_id":17,"te"#));
    assert_eq!(tell(&*telegram_at(&chat.url).build("ops", Style::default())).await, Ok(Accepted::default()));
    let hook = webhook::start(false).await;
    hook.then(Act::CutOff(StatusCode::OK, "than"));
    assert_eq!(tell(&*webhook_at(&hook.url, false).build("ops", Style::default())).await, Ok(Accepted::default()));
    hook.then(Act::Answer(StatusCode::OK, vec![], "x".repeat(1_000_000)));
    assert_eq!(
        tell(&*webhook_at(&hook.url, false).build("ops", Style::default())).await,
        Ok(Accepted::default()),
        "a large answer is a yes too"
    );
}

#[tokio::test]
async fn silence_and_closed_doors_are_tried_again() {
    let chat = telegram::start().await;
    let hook = webhook::start(false).await;
    chat.otherwise(Act::Hang);
    hook.otherwise(Act::Hang);
    for channel in [telegram_at(&chat.url), webhook_at(&hook.url, false)] {
        let refused = tell_within(&*channel.build("ops", Style::default()), Duration::from_millis(300)).await.expect_err("silence");
        assert_eq!((refused.class, refused.retry), (RefusedClass::Timeout, Retry::Soon), "{}", refused.text);
    }
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for channel in [telegram_at(&closed), webhook_at(&closed, true)] {
        let refused = tell(&*channel.build("ops", Style::default())).await.expect_err("nobody listens");
        assert_eq!((refused.class, refused.retry), (RefusedClass::Network, Retry::Soon), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_wrong_token_or_signature_is_refused_by_the_stand_ins() {
    // The stand-ins must be able to fail.
    let chat = telegram::start().await;
    let stranger = one(&format!(r#"{{ name: ops, telegram: {{ bot_token: "123456:wrong", chat_id: "@ops", api_url: "{}" }} }}"#, chat.url));
    assert_eq!(tell(&*stranger.build("ops", Style::default())).await.expect_err("401").class, RefusedClass::Auth);
    let hook = webhook::start(true).await;
    let unsigned = webhook_at(&hook.url, false).build("ops", Style::default());
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
        no_secret(&format!("{channel:?} {} {}", channel.canonical(&Common::default()), channel.budget_key()));
        assert_eq!(channel.hash(&Common::default()), channel.clone().hash(&Common::default()));
    }
    let with = |token: &str| one(&format!(r#"{{ name: ops, telegram: {{ bot_token: "{token}", chat_id: -1 }} }}"#));
    assert_ne!(with("1:aaa").hash(&Common::default()), with("1:bbb").hash(&Common::default()), "a new token is a change");
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
        ("{ name: a, discord: {} }", "`url` is missing"),
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
    let accepted = channel::send_test(&net, &clock, "ops", &telegram_at(&chat.url), Style::default()).await.expect("the chat works");
    assert_eq!(accepted.provider_id.as_deref(), Some("1000"));
    assert!(chat.finish()[0].json()["text"].as_str().unwrap().contains("The channel ops works"));
    let signed = webhook_at(&hook.url, true);
    channel::send_test(&net, &clock, "hook", &signed, Style::default()).await.expect("the webhook works");
    assert_eq!(hook.finish()[0].json()["event"], "test");
    hook.then(Act::Answer(StatusCode::FORBIDDEN, vec![], "go away".to_owned()));
    let refused = channel::send_test(&net, &clock, "hook", &signed, Style::default()).await.expect_err("forbidden");
    assert_eq!(refused.to_string(), format!("{} answered 403: go away", hook.url));
}

#[tokio::test]
async fn words_about_an_incident_stay_in_its_thread() {
    let provider = telegram::start().await;
    let channel = built(&telegram_yaml(&provider.url, ", commands: true"));
    let first = tell(&*channel).await.unwrap().provider_id.expect("Telegram gives ids");
    for event in [NoticeEvent::Reminded, NoticeEvent::Escalated] {
        let accepted = tell_of(&*channel, event, Some(&first)).await.unwrap();
        assert_ne!(accepted.provider_id.as_ref(), Some(&first), "a message of its own");
    }
    let accepted = tell_of(&*channel, NoticeEvent::Acknowledged, Some(&first)).await.unwrap();
    assert_eq!(accepted.provider_id.as_ref(), Some(&first), "the first message was edited");
    for (event, why) in [(NoticeEvent::Unacknowledged, "nobody is on it any more"), (NoticeEvent::Resolved, "it is over")] {
        let accepted = tell_of(&*channel, event, Some(&first)).await.unwrap();
        assert_ne!(accepted.provider_id.as_ref(), Some(&first), "people are told that {why}");
    }
    let calls = provider.finish();
    let methods: Vec<&str> = calls.iter().map(|call| call.path.rsplit('/').next().unwrap()).collect();
    let (send, edit) = ("sendMessage", "editMessageText");
    assert_eq!(methods, [send, send, send, edit, send, edit, send, edit]);
    let sent: Vec<Value> = calls.iter().map(Call::json).collect();
    assert!(sent[0].get("reply_parameters").is_none());
    for answer in [&sent[1], &sent[2], &sent[4], &sent[6]] {
        assert_eq!(answer["reply_parameters"]["message_id"].to_string(), first);
    }
    let pressed = |sent: &Value| sent["reply_markup"].to_string().matches("callback_data").count();
    assert_eq!(sent.iter().map(pressed).collect::<Vec<_>>(), [2, 2, 2, 1, 2, 2, 0, 0], "what can be pressed while it lasts");
    let text = |nth: usize| sent[nth]["text"].as_str().unwrap();
    for edited in [&sent[3], &sent[5], &sent[7]] {
        assert_eq!(edited["message_id"].to_string(), first);
    }
    for part in ["alice is on it", "\nHTTP status 503 instead of 200-299\n", "\nalice: the &lt;disk&gt; is full\n"] {
        assert!(text(3).contains(part), "{}", text(3));
    }
    assert_eq!(text(4), text(5), "the first message waits for somebody again, as the answer says");
    assert!(text(5).contains("nobody is on it any more") && text(5).contains("Given back by alice"), "{}", text(5));
    assert!(!text(5).contains("alice is on it"), "{}", text(5));
    assert!(text(7).contains("is up again"), "{}", text(7));
}

#[tokio::test]
async fn a_first_message_that_cannot_be_edited_is_no_reason_to_be_silent() {
    let provider = telegram::start().await;
    let channel = built(&telegram_yaml(&provider.url, ""));
    for gone in ["message to edit not found", "message can't be edited"] {
        provider.then(telegram::error(400, &format!("Bad Request: {gone}")));
        let accepted = tell_of(&*channel, NoticeEvent::Acknowledged, Some("77")).await.expect("told anew");
        assert_ne!(accepted.provider_id.as_deref(), Some("77"));
    }
    provider.then(telegram::error(400, "Bad Request: message is not modified: specified new message content is exactly the same"));
    let accepted = tell_of(&*channel, NoticeEvent::Acknowledged, Some("77")).await.expect("it says so already");
    assert_eq!(accepted.provider_id.as_deref(), Some("77"), "a repetition after a crash");
    // An end that was told is told, whatever becomes of the edit.
    for answer in [telegram::too_many(30), telegram::error(500, "Internal Server Error"), Act::Hang] {
        provider.then(Act::Accept).then(answer);
        tell_of(&*channel, NoticeEvent::Resolved, Some("77")).await.expect("told");
    }
    // But one that Telegram asks to wait for is waited for.
    provider.then(telegram::too_many(3));
    let refused = tell_of(&*channel, NoticeEvent::Acknowledged, Some("77")).await.expect_err("too many");
    assert_eq!(refused.retry, Retry::After(Dur::secs(3)));
    // An id of another kind of channel is no id.
    tell_of(&*channel, NoticeEvent::Resolved, Some("<1@example.org>")).await.expect("told without a thread");
    let last = provider.finish().last().cloned().unwrap();
    assert!(last.path.ends_with("/sendMessage") && last.json().get("reply_parameters").is_none());
}

#[tokio::test]
async fn there_is_nothing_to_press_where_nobody_listens() {
    let provider = telegram::start().await;
    tell(&*built(&telegram_yaml(&provider.url, ""))).await.unwrap();
    assert!(provider.finish()[0].json().get("reply_markup").is_none());
}

#[test]
fn every_provider_says_what_it_allows() {
    let caps = |yaml: &str| built(yaml).caps();
    let group = caps(&telegram_yaml("http://127.0.0.1:1", ""));
    assert_eq!(group.own.as_slice(), [(1, Dur::secs(1)), (20, Dur::secs(60))]);
    assert_eq!(group.shared.as_slice(), [(30, Dur::secs(1))]);
    let person = caps(r#"{ name: a, telegram: { bot_token: "1:a", chat_id: 5 } }"#);
    assert_eq!(person.own.as_slice(), [(1, Dur::secs(1))], "only groups have a minute's limit");
    assert!(caps(r#"{ name: a, webhook: { url: "http://127.0.0.1:1" } }"#).own.is_empty());
}

#[tokio::test]
async fn a_webhook_speaks_in_the_form_that_its_receiver_knows() {
    let hook = Provider::start(|_| Ok(()), |_, _| (StatusCode::OK, String::new())).await;
    let told = |form: String| {
        let channel = built(&format!(r#"{{ name: alerts, webhook: {{ url: "{}/hook", secret: "s3cret-s3cret", {form} }} }}"#, hook.url));
        async move { tell(&*channel).await.expect("taken") }
    };
    told("format: alertmanager".to_owned()).await;
    told("format: v-insight".to_owned()).await;
    told(r#"body: "{{ title }}!", content_type: text/plain"#.to_owned()).await;
    told(r#"body: '{"text": {{ text|tojson }}, "at": {{ incident.opened_at|tojson }}}'"#.to_owned()).await;
    let calls = hook.finish();
    let alert = calls[0].json();
    assert_eq!((&alert["version"], &alert["status"], &alert["receiver"]), (&"4".into(), &"firing".into(), &"alerts".into()));
    assert_eq!(alert["alerts"][0]["labels"]["alertname"], "down");
    assert_eq!(alert["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    assert_eq!(calls[1].json()["status"], "open");
    assert_eq!(calls[1].json()["message"], "Monitor is down: HTTP status 503 instead of 200-299");
    assert_eq!(calls[2].body.as_ref(), "🔴 shop <b>& is down!".as_bytes());
    assert_eq!(calls[2].headers["content-type"], "text/plain");
    assert_eq!(calls[3].json()["at"], "2026-11-22T03:12:10.000000Z");
    assert!(calls.iter().all(|call| call.headers.contains_key("x-watchkeeper-signature") && call.headers.contains_key("idempotency-key")));
}

#[test]
fn templates_and_common_keys_are_checked_when_the_file_is_read() {
    for (keys, told) in [
        ("body: '{{ text|nothing }}'", "a template with a fault: unknown filter"),
        ("body: '{\"text\": {{ text }} }'", "is not JSON"),
        ("body: x, format: native", "both `format` and `body`"),
        ("content_type: text/plain", "`content_type` without `body`"),
        ("format: slack", "native, alertmanager, v-insight"),
    ] {
        let found = problems(&format!(r#"{{ name: a, webhook: {{ url: "http://127.0.0.1:1", {keys} }} }}"#));
        assert!(found.contains(told), "{keys}: {found}");
    }
    for (keys, told) in [
        ("language: de", "en, ru"),
        ("template: kuma", "native, watchdog, stardust, v-insight"),
        ("budget: 20/day", "20/min"),
        ("budget: [1/s, 2/s, 3/s, 4/s, 5/s]", "at most 4"),
        ("last_resort: maybe", "true or false"),
    ] {
        let found = problems(&format!(r#"{{ name: a, {keys}, webhook: {{ url: "http://127.0.0.1:1" }} }}"#));
        assert!(found.contains(told), "{keys}: {found}");
    }
    let (_, kind, common) = configured(
        r#"{ name: a, language: ru, template: stardust, budget: [1/s, 20/min], last_resort: true, webhook: { url: "http://127.0.0.1:1" } }"#,
    );
    assert_eq!((common.budget.len(), common.last_resort), (2, true));
    assert_ne!(kind.hash(&common), kind.hash(&Common::default()), "other words are a change");
    assert_eq!(kind.canonical(&common)["budget"], serde_json::json!(["1/1s", "20/1m"]));
}

#[tokio::test]
async fn the_words_are_those_of_the_channel() {
    let provider = telegram::start().await;
    for (keys, told) in [
        ("", "🔴 shop <b>& is down\n"),
        (", language: ru", "🔴 shop <b>& не работает\n"),
        (", template: watchdog", "🚨 СБОЙ: служба shop <b>& недоступна.\n\nСтатус: HTTP status 503"),
        (", template: stardust", "🔴 Service Stopped\n\nService: shop <b>&\nPrevious Status: 🟢 Running\n"),
        (", template: v-insight", "🔴 Monitor Down Alert\n"),
    ] {
        let token = telegram::TOKEN;
        let yaml = format!(r#"{{ name: ops{keys}, telegram: {{ bot_token: "{token}", chat_id: -100123, api_url: "{}" }} }}"#, provider.url);
        tell(&*built(&yaml)).await.unwrap();
        let text = provider.calls().last().unwrap().json()["text"].as_str().unwrap().to_owned();
        let shown = telegram::parse_html(&text).unwrap();
        assert!(shown.starts_with(told), "{keys}: {shown}");
    }
    provider.finish();
}

#[tokio::test]
async fn every_kind_of_content_is_taken_by_every_provider() {
    let (chat, hook) = (telegram::start().await, webhook::start(true).await);
    let node = NodeWord {
        event: NodeEvent::CutOff,
        node: "east <1>".to_owned(),
        datacenter: "local".to_owned(),
        severity: Severity::Critical,
        at: NOW,
        until: Some(NOW + Dur::secs(90)),
        summary: "no route to anything".to_owned(),
    };
    let mut all: Vec<Content> = NoticeEvent::ALL.into_iter().map(|event| Content::Incident(word(event))).collect();
    all.push(Content::Node(node));
    for channel in [telegram_at(&chat.url), webhook_at(&hook.url, true)] {
        let channel = channel.build("ops", Style::default());
        for content in &all {
            telling::attempt(&*channel, delivery(content.clone(), Some("1000"), Duration::from_secs(10))).await.expect("taken");
        }
    }
    chat.finish();
    assert_eq!(hook.finish().len(), all.len());
}
