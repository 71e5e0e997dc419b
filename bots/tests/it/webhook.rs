//! From Telegram's call to Telegram's answer, and what is refused on the way.

use crate::support::broker::{Broker, PARTITIONS};
use crate::support::process::{echo, gateway};
use crate::support::telegram::{Telegram, message};
use crate::support::{bot, secret, until};
use axum::Router;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_update_goes_through_kafka_and_comes_back_as_an_answer() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let gateway = gateway(&broker, &telegram, folder.path(), 0, &[]).await;
    // The worker's sidecar: hears of every update that begins and ends.
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (listener, hearing) = (tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port"), heard.clone());
    let sidecar = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(move |uri: Uri| {
        hearing.lock().expect("no panic").push(uri.to_string());
        async { StatusCode::OK }
    });
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut worker = echo(&broker, &bot, folder.path(), &[("SIDECAR_URL", &sidecar)]).await;

    telegram.deliver(&gateway.url, &bot, &message(1, 77, "hé <b>")).await;
    let press = json!({"update_id": 2, "callback_query": {"id": "9", "from": {"id": 7}, "message": {"chat": {"id": 77}}, "data": "yes"}});
    telegram.deliver(&gateway.url, &bot, &press).await;
    telegram.deliver(&gateway.url, &bot, &json!({"update_id": 3, "poll": {"id": "1"}})).await;

    let sent = telegram.wait_for("sendMessage", 1).await;
    assert_eq!(Value::Object(sent[0].params.clone()), json!({"chat_id": 77, "text": "Echo: hé <b>", "reply_to_message_id": 1}));
    let answered = telegram.wait_for("answerCallbackQuery", 1).await;
    assert_eq!(Value::Object(answered[0].params.clone()), json!({"callback_query_id": "9", "text": "Received: yes"}));
    broker.idle(&bot.group(), &bot.incoming()).await;
    broker.idle("tg-gateway-outgoing", &bot.outgoing()).await;
    // Commits follow soon, the later ones too.
    telegram.deliver(&gateway.url, &bot, &json!({"update_id": 4, "poll": {"id": "2"}})).await;
    let delivered = std::time::Instant::now();
    broker.idle(&bot.group(), &bot.incoming()).await;
    assert!(delivered.elapsed() < Duration::from_secs(5), "{:?}", delivered.elapsed());

    // The update travels as it came, by its chat; also what nobody answers.
    let incoming = broker.read(&bot.incoming());
    assert_eq!(incoming.len(), 4);
    let first = incoming.iter().find(|found| found.value.contains("\"update_id\":1")).expect("the first");
    assert_eq!(first.value, format!("{{\"bot_id\":\"a1\",\"update\":{}}}", message(1, 77, "hé <b>")));
    let of_chat: Vec<_> = incoming.iter().filter(|found| found.key == "77").collect();
    assert!(of_chat.len() == 2 && of_chat[0].partition == of_chat[1].partition, "{incoming:?}");

    // TERM: it says goodbye, and has told the sidecar of every end.
    worker.signal("TERM");
    assert_eq!(worker.ended().await.code(), Some(0), "{}", worker.log());
    assert!(worker.log().contains("nothing is in hand any more"));
    let heard = heard.lock().expect("no panic").clone();
    let count = |what: &str| heard.iter().filter(|call| call.starts_with(what)).count();
    assert_eq!((count("/start-request?id=bot_a1_incoming%2F"), count("/end-request?id=bot_a1_incoming%2F")), (4, 4), "{heard:?}");
    assert!(heard.iter().filter(|call| call.starts_with("/end")).all(|call| call.contains("&duration=0.")), "{heard:?}");
    for log in [worker.log(), gateway.process.log()] {
        assert!(!log.contains(crate::support::TOKEN), "the token is in the log: {log}");
    }
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_telegram_s_or_no_update_is_refused() {
    let (broker, telegram, folder) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"));
    let (known, other) = (bot("a1"), bot("b2"));
    broker.create(known.incoming(), PARTITIONS);
    let gateway = gateway(&broker, &telegram, folder.path(), 0, &[]).await;
    let good = message(1, 77, "x").to_string().into_bytes();
    let post =
        async |bot, secret: Option<&str>, body: &[u8]| telegram.post(&gateway.url, bot, secret, body.to_vec()).await.expect("answered");
    let wrong = (401, "the secret token is missing or wrong".to_owned());
    assert_eq!(post(&known, None, &good).await, wrong);
    assert_eq!(post(&known, Some(""), &good).await, wrong);
    assert_eq!(post(&known, Some(&secret(&other)), &good).await, wrong);
    assert_eq!(post(&known, Some(&secret(&known)[1..]), &good).await, wrong);
    assert_eq!(post(&known, Some(&secret(&known)), b"{").await, (400, "invalid json".to_owned()));
    assert_eq!(post(&known, Some(&secret(&known)), b"{}").await, (400, "invalid json".to_owned()));
    // Its secret is right, but nobody made it.
    assert_eq!(post(&other, Some(&secret(&other)), &good).await, (404, "bot not found".to_owned()));
    let large = message(1, 77, &"x".repeat(600_000)).to_string().into_bytes();
    assert_eq!(post(&known, Some(&secret(&known)), &large).await.0, 413);
    assert!(broker.read(&known.incoming()).is_empty());
    assert_eq!(post(&known, Some(&secret(&known)), &good).await, (200, "ok".to_owned()));
    assert_eq!(broker.read(&known.incoming()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_acknowledged_only_when_kafka_has_it() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let gateway = gateway(&broker, &telegram, folder.path(), 0, &[]).await;
    telegram.deliver(&gateway.url, &bot, &message(1, 77, "before")).await;
    broker.down(true);
    let answered = telegram.post(&gateway.url, &bot, Some(&secret(&bot)), message(2, 77, "meanwhile").to_string().into_bytes()).await;
    assert_eq!(answered, Some((503, "kafka did not take the update".to_owned())), "{}", gateway.process.log());
    broker.down(false);
    // Telegram sends it again, and goes on when it is taken.
    telegram.deliver(&gateway.url, &bot, &message(2, 77, "meanwhile")).await;
    telegram.deliver(&gateway.url, &bot, &message(3, 77, "after")).await;
    let worker = echo(&broker, &bot, folder.path(), &[]).await;
    let texts = until("all three answers", async || {
        let taken = telegram.taken("sendMessage");
        let texts: Vec<String> = taken.iter().filter_map(|call| Some(call.text()?.to_owned())).collect();
        texts.contains(&"Echo: after".to_owned()).then_some(texts)
    })
    .await;
    assert_eq!(texts, ["Echo: before", "Echo: meanwhile", "Echo: after"]);
    drop(worker);
}
