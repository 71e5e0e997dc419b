//! Out to the Bot API: what is waited for, what is tried again, what is parked; and each chat in order.

use crate::support::broker::Broker;
use crate::support::process::gateway;
use crate::support::telegram::Telegram;
use crate::support::{bot, token, until};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use watchkeeper_bots::command::Command;
use watchkeeper_bots::kafka::Producer;
use watchkeeper_bots::names::BotId;

/// Writes a message into a chat, as a worker does.
async fn write(producer: &Producer, bot: &BotId, chat: i64, text: &str) {
    let command = Command::wire(&token(), "sendMessage", &json!({ "chat_id": chat, "text": text })).expect("JSON");
    producer.write(&bot.outgoing(), chat.to_string().as_bytes(), command.as_bytes(), None).await.expect("written");
}

fn texts(telegram: &Telegram, chat: i64) -> Vec<String> {
    telegram.taken("sendMessage").iter().filter(|call| call.chat() == Some(chat)).filter_map(|call| Some(call.text()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_waits_and_is_tried_again_in_order_while_others_go_on() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let producer = broker.brokers.producer().expect("a producer");
    let mut seen: HashMap<String, usize> = HashMap::new();
    telegram.script(move |_, params| {
        let nth = seen.entry(format!("{} {}", params["chat_id"], params["text"])).or_default();
        *nth += 1;
        match (params["chat_id"].as_i64(), params["text"].as_str(), *nth) {
            (Some(1), Some("first"), 1) => Some((429, "Too Many Requests: retry after 2", json!({ "retry_after": 2 }))),
            (Some(2), Some("first"), 1 | 2) => Some((502, "Bad Gateway", json!({}))),
            (Some(-5), _, _) => Some((400, "Bad Request: group chat was upgraded", json!({ "migrate_to_chat_id": -1_005 }))),
            _ => None,
        }
    });
    for text in ["first", "second", "third"] {
        for chat in [1, 2, 3] {
            write(&producer, &bot, chat, text).await;
        }
    }
    write(&producer, &bot, -5, "moved").await;
    let gateway = gateway(&broker, &telegram, folder.path(), 0, &[]).await;
    telegram.wait_for("sendMessage", 10).await;
    for chat in [1, 2, 3] {
        assert_eq!(texts(&telegram, chat), ["first", "second", "third"], "chat {chat}");
    }
    assert_eq!(texts(&telegram, -1_005), ["moved"]);
    let calls = telegram.calls();
    let of = |chat: i64| calls.iter().filter(move |call| call.chat() == Some(chat)).collect::<Vec<_>>();
    assert_eq!(of(1).iter().map(|call| call.status).collect::<Vec<_>>(), [429, 200, 200, 200]);
    assert!(of(1)[1].at - of(1)[0].at >= Duration::from_secs(2), "it did not wait");
    assert_eq!(of(2).iter().map(|call| call.status).collect::<Vec<_>>(), [502, 502, 200, 200, 200]);
    // Nobody waited for the one that waited.
    assert!(of(3)[2].at < of(1)[1].at);
    broker.idle("tg-gateway-outgoing", &bot.outgoing()).await;
    assert!(broker.read(&bot.parked()).is_empty());
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_never_be_taken_is_parked_with_the_reason_and_holds_up_nobody() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let producer = broker.brokers.producer().expect("a producer");
    telegram.script(|_, params| match params["text"].as_str() {
        Some("blocked") => Some((403, "Forbidden: bot was blocked by the user", json!({}))),
        Some("bad") => Some((400, "Bad Request: chat not found", json!({}))),
        Some("broken") => Some((500, "Internal Server Error", json!({}))),
        _ => None,
    });
    for text in ["blocked", "bad", "broken", "good"] {
        write(&producer, &bot, 1, text).await;
    }
    for (key, value) in [("2", "no JSON"), ("3", r#"{"bot_token":"1:x/../2:y","method":"getMe"}"#)] {
        producer.write(&bot.outgoing(), key.as_bytes(), value.as_bytes(), None).await.expect("written");
    }
    let gateway = gateway(&broker, &telegram, folder.path(), 0, &[("GIVE_UP_SECONDS", "1")]).await;
    telegram.wait_for("sendMessage", 1).await;
    assert_eq!(texts(&telegram, 1), ["good"]);
    let parked = until("all are parked", async || Some(broker.read(&bot.parked())).filter(|parked| parked.len() == 5)).await;
    broker.idle("tg-gateway-outgoing", &bot.outgoing()).await;
    let reason = |found: &crate::support::broker::Found| found.headers["parked-reason"].clone();
    let of_chat: Vec<String> = parked.iter().filter(|found| found.key == "1").map(reason).collect();
    assert_eq!(of_chat[..2], ["403: Forbidden: bot was blocked by the user", "400: Bad Request: chat not found"]);
    assert!(of_chat[2].starts_with("given up after 1 s: 500: Internal Server Error"), "{of_chat:?}");
    // As it was written, so that it can be put back.
    let broken: Value = serde_json::from_str(&parked.iter().filter(|found| found.key == "1").nth(2).expect("three").value).expect("JSON");
    assert_eq!(broken["params"], json!({ "chat_id": 1, "text": "broken" }));
    let others: Vec<(String, String)> =
        parked.iter().filter(|found| found.key != "1").map(|found| (found.value.clone(), reason(found))).collect();
    assert!(others.contains(&("no JSON".to_owned(), "not a JSON object with bot_token, method and params".to_owned())), "{others:?}");
    assert!(others.iter().any(|(_, reason)| reason == "bot_token is not a bot's token"), "{others:?}");
    assert!(
        parked
            .iter()
            .all(|found| found.headers["parked-from"].starts_with("bot_a1_outgoing/") && found.headers["parked-at"].ends_with('Z'))
    );
    let metrics = watchkeeper_bots::client::Client::new()
        .expect("a client")
        .send(
            http::Request::get(format!("http://127.0.0.1:{}/metrics", gateway.metrics_port))
                .body(http_body_util::Full::default())
                .expect("good"),
            Duration::from_secs(10),
            100_000,
        )
        .await
        .expect("answered");
    let metrics = String::from_utf8_lossy(metrics.body()).into_owned();
    assert!(metrics.contains("watchkeeper_gateway_bot_api_attempts_total{result=\"Parked\"} 5"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_chat_and_no_bot_is_written_to_faster_than_its_budget() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let producer = broker.brokers.producer().expect("a producer");
    for nth in 0..8 {
        write(&producer, &bot, 1, &format!("{nth}")).await;
    }
    for chat in 100..120 {
        write(&producer, &bot, chat, "x").await;
    }
    let gateway = gateway(&broker, &telegram, folder.path(), 0, &[("CHAT_PER_SECOND", "2"), ("BOT_PER_SECOND", "10")]).await;
    let calls = telegram.wait_for("sendMessage", 28).await;
    let lasted = |times: &[std::time::Instant]| *times.last().expect("some") - times[0];
    let chat: Vec<_> = calls.iter().filter(|call| call.chat() == Some(1)).map(|call| call.at).collect();
    // A burst of three, then two a second: the other five take 2.5 s. On a busy machine the first may arrive late,
    // which makes it less; without a budget all arrive within a moment.
    assert!(lasted(&chat) >= Duration::from_millis(1_200), "{:?}", lasted(&chat));
    let all: Vec<_> = calls.iter().map(|call| call.at).collect();
    // A burst of ten, then ten a second: the other 18 take 1.8 s.
    assert!(lasted(&all) >= Duration::from_millis(900), "{:?}", lasted(&all));
    assert_eq!(texts(&telegram, 1), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_stopped_leaves_to_the_next_what_it_waits_with() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let producer = broker.brokers.producer().expect("a producer");
    telegram.script(|_, _| Some((429, "Too Many Requests: retry after 600", json!({ "retry_after": 600 }))));
    write(&producer, &bot, 1, "first").await;
    write(&producer, &bot, 1, "second").await;
    let mut stopped = gateway(&broker, &telegram, folder.path(), 0, &[]).await;
    until("it has tried", async || (!telegram.calls().is_empty()).then_some(())).await;
    stopped.process.signal("TERM");
    assert_eq!(stopped.process.ended().await.code(), Some(0), "{}", stopped.process.log());
    assert_eq!(broker.lag("tg-gateway-outgoing", &bot.outgoing()), 2);
    telegram.script(|_, _| None);
    let next = gateway(&broker, &telegram, folder.path(), 0, &[]).await;
    telegram.wait_for("sendMessage", 2).await;
    assert_eq!(texts(&telegram, 1), ["first", "second"]);
    drop(next);
}
