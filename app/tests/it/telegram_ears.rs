//! Buttons and commands of Telegram on the real program, against a stand-in that hands out updates as the Bot API does.

use super::support::app::{TestApp, get, until};
use super::support::postgres;
use super::support::servers::Server;
use super::support::store::TestStore;
use super::support::telegram::TOKEN;
use super::support::telegram_bot::{Bot, NAME};
use serde_json::{Value, json};
use std::time::Duration;
use watchkeeper::store::{self, IncidentFilter, IncidentView};
use watchkeeper_core::Micros;

const CHAT: i64 = -100_123;
const ELSEWHERE: i64 = -100_999;

/// `my shop` is down from the beginning; the bot obeys in [`CHAT`] in English, or with `more` in one topic of it in Russian.
fn config(bot: &Bot, target: &str, more: &str) -> String {
    let language = if more.is_empty() { "en" } else { "ru" };
    format!(
        "channels:\n  - name: ops\n    language: {language}\n    telegram: {{ bot_token: '{TOKEN}', chat_id: '{CHAT}', api_url: '{}', commands: true{more} }}\n\
         monitors:\n  - name: my shop\n    probe: {{ http: {{ url: '{target}' }} }}\n    every: 1s\n    recheck: 1s\n    timeout: 900ms\n    down_after: 1\n",
        bot.url
    )
}

async fn down() -> Server {
    Server::http("HTTP/1.1 503 Out of Order\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await
}

async fn incidents(app: &TestApp) -> Vec<IncidentView> {
    let scope = app.scope().await;
    app.store.incidents(scope, &IncidentFilter { limit: 10, ..IncidentFilter::default() }).await.unwrap()
}

/// The incident about `my shop`, once it has begun and been told.
async fn open_incident(app: &TestApp, bot: &Bot) -> IncidentView {
    bot.wait_for("sendMessage", 1).await;
    until("an incident", async || incidents(app).await.into_iter().find(|i| i.status == "open")).await
}

/// Texts that were written into chats, in order.
fn texts(bot: &Bot) -> Vec<String> {
    bot.calls("sendMessage").iter().map(|call| call.json()["text"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until a text that begins so was written.
async fn written(bot: &Bot, begin: &str) -> String {
    until(&format!("{begin:?} is written"), async || texts(bot).into_iter().find(|text| text.starts_with(begin))).await
}

fn answers(bot: &Bot) -> Vec<String> {
    bot.calls("answerCallbackQuery").iter().map(|call| call.json()["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_acknowledges_and_another_silences_and_each_says_what_came_of_it() {
    let (bot, target) = (Bot::start().await, down().await);
    let kept = TestStore::sqlite().await;
    let app = TestApp::start(&config(&bot, &target.url("/"), ""), kept.store.clone()).await;
    let incident = open_incident(&app, &bot).await;
    bot.press(CHAT, &format!("ack:{}", incident.uid));
    let taken = until("it is acknowledged", async || incidents(&app).await.into_iter().find(|i| i.status == "acknowledged")).await;
    assert_eq!(taken.acknowledged_by.as_deref(), Some("Telegram: Ann (@ann_b)"));
    bot.press(CHAT, &format!("silence:{}", incident.uid));
    bot.press(CHAT, &format!("ack:{}", incident.uid));
    bot.press(CHAT, "ack:no-such-incident");
    bot.press(CHAT, "explode");
    bot.wait_for("answerCallbackQuery", 5).await;
    let said = answers(&bot);
    assert!(said[0].starts_with("✅ You take on the incident of my shop"), "{said:?}");
    assert!(said[1].starts_with("🔕 my shop (down) is silenced until"), "{said:?}");
    assert!(said[2].starts_with("Somebody has taken on"), "{said:?}");
    assert_eq!(said[3..], ["That incident is over", "This button is not understood any more"]);
    let silences = app.store.silences(app.scope().await, Micros(0), 10).await.unwrap();
    assert_eq!(silences.len(), 1);
    assert_eq!(
        (silences[0].matcher.monitors.as_slice(), silences[0].matcher.rules.as_slice()),
        (["my shop".to_owned()].as_slice(), ["down".to_owned()].as_slice())
    );
    assert_eq!((silences[0].ends_at - silences[0].starts_at).to_std().as_secs().div_ceil(60), 60);
    app.stop().await;
    bot.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_say_how_things_stand_acknowledge_and_silence() {
    let (bot, target) = (Bot::start().await, down().await);
    let kept = TestStore::sqlite().await;
    let app = TestApp::start(&config(&bot, &target.url("/"), ""), kept.store.clone()).await;
    let incident = open_incident(&app, &bot).await;
    bot.write(CHAT, None, &format!("/status@{}", NAME.to_uppercase()));
    let status = written(&bot, "<b>🔴 1 open incidents</b>").await;
    assert!(status.contains("down: 1") && status.contains("my shop"), "{status}");
    bot.write(CHAT, None, "/incidents");
    let short = &incident.uid[incident.uid.len() - 8..];
    until("the list", async || texts(&bot).into_iter().filter(|text| text.contains(short)).nth(1)).await;
    bot.write(CHAT, None, "/ack");
    written(&bot, "<b>Write /ack").await;
    bot.write(CHAT, None, "/ack ffffffff");
    written(&bot, "<b>No open incident's id begins or ends with ffffffff").await;
    bot.write(CHAT, None, &format!("/ack {}", short.to_uppercase()));
    written(&bot, "<b>✅ You take on the incident of my shop").await;
    until("it is acknowledged", async || incidents(&app).await.into_iter().find(|i| i.status == "acknowledged")).await;
    bot.write(CHAT, None, &format!("/ack {}", &incident.uid[..13]));
    written(&bot, "<b>Somebody has taken on the incident of my shop before").await;
    bot.write(CHAT, None, "/silence my shpo 2h");
    written(&bot, "<b>There is no monitor and no open incident named my shpo 2h; did you mean my shop?").await;
    bot.write(CHAT, None, "/silence my shop 2h moving <it>");
    written(&bot, "<b>🔕 my shop is silenced until").await;
    bot.write(CHAT, None, "/silence my shop 9999d");
    written(&bot, "<b>9999d is no length").await;
    let last = bot.write(CHAT, None, "/help");
    written(&bot, "<b>What I understand").await;
    bot.confirmed(last).await;
    let silences = app.store.silences(app.scope().await, Micros(0), 10).await.unwrap();
    assert_eq!(silences.len(), 1);
    assert_eq!((silences[0].comment.as_str(), silences[0].author.as_str()), ("moving <it>", "Telegram: Ann (@ann_b)"));
    let length = (silences[0].ends_at - silences[0].starts_at).to_std();
    assert!(length > Duration::from_secs(7_100) && length <= Duration::from_secs(7_200), "{length:?}");
    app.stop().await;
    bot.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_configured_chat_and_topic_is_obeyed_or_answered() {
    let (bot, target) = (Bot::start().await, down().await);
    let yaml = config(&bot, &target.url("/"), ", topic_id: 7");
    let kept = TestStore::sqlite().await;
    let app = TestApp::start(&yaml, kept.store.clone()).await;
    let incident = open_incident(&app, &bot).await;
    let told = texts(&bot).len();
    bot.press(ELSEWHERE, &format!("ack:{}", incident.uid));
    bot.press(CHAT, &format!("ack:{}", incident.uid));
    bot.write(ELSEWHERE, None, "/status");
    bot.write(ELSEWHERE, Some(7), &format!("/ack {}", incident.uid));
    bot.write(CHAT, None, "/status");
    bot.write(CHAT, Some(8), "/silence my shop");
    let foreign = bot.write(CHAT, Some(7), "/status@other_bot");
    bot.confirmed(foreign).await;
    bot.write(CHAT, Some(7), "/status");
    let status = written(&bot, "<b>🔴 Открытых инцидентов: 1").await;
    assert!(status.contains("не работает: 1"), "{status}");
    let calls = bot.calls("sendMessage");
    assert_eq!(calls.len(), told + 1, "one answer, to the one that was asked where it may be");
    let answer = calls.last().unwrap().json();
    assert_eq!((&answer["chat_id"], &answer["message_thread_id"]), (&Value::from(CHAT), &Value::from(7)));
    assert!(bot.calls("answerCallbackQuery").is_empty());
    assert_eq!(incidents(&app).await[0].status, "open");
    assert!(app.store.silences(app.scope().await, Micros(0), 10).await.unwrap().is_empty());
    let metrics = get(app.address, "/metrics").await;
    assert!(metrics.contains("watchkeeper_chat_updates_total{result=\"ignored\"} 7\n"), "{metrics}");
    app.stop().await;
    bot.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_comes_again_has_the_same_effect_and_what_was_asked_while_nobody_ran_is_done() {
    let (bot, target) = (Bot::start().await, down().await);
    let mut kept = TestStore::sqlite().await;
    let yaml = config(&bot, &target.url("/"), "");
    let app = TestApp::start(&yaml, kept.store.clone()).await;
    open_incident(&app, &bot).await;
    let silence = bot.write(CHAT, None, "/silence my shop 1h");
    written(&bot, "<b>🔕 my shop").await;
    bot.confirmed(silence).await;
    app.stop().await;
    // As after a crash before the confirmation, and a command that nobody heard.
    bot.again(silence, CHAT, "/silence my shop 1h");
    bot.write(CHAT, None, "/help");
    kept.reopen().await;
    let app = TestApp::start(&yaml, kept.store.clone()).await;
    written(&bot, "<b>What I understand").await;
    assert_eq!(app.store.silences(app.scope().await, Micros(0), 10).await.unwrap().len(), 1);
    app.stop().await;
    bot.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_and_a_conflict_are_obeyed_and_survived() {
    let (bot, target) = (Bot::start().await, down().await);
    bot.then(429, "Too Many Requests: retry after 1", &json!({ "retry_after": 1 }));
    bot.then(500, "Internal Server Error", &json!({}));
    let kept = TestStore::sqlite().await;
    let app = TestApp::start(&config(&bot, &target.url("/"), ""), kept.store.clone()).await;
    let asked = std::time::Instant::now();
    bot.wait_for("getUpdates", 2).await;
    assert!(asked.elapsed() >= Duration::from_secs(1), "the pause that was asked for");
    bot.write(CHAT, None, "/help");
    written(&bot, "<b>What I understand").await;
    bot.then(409, "Conflict: terminated by other getUpdates request", &json!({}));
    bot.write(CHAT, None, "/incidents");
    let polls = bot.calls("getUpdates").len();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(bot.calls("getUpdates").len() <= polls + 1, "whoever listens is left alone");
    app.stop().await;
    bot.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_one_listens_and_the_other_takes_over() {
    let Some(database) = postgres::fresh_database().await else { return };
    let (bot, target) = (Bot::start().await, down().await);
    let yaml = |name: &str| {
        format!(
            "server: {{ listen: 127.0.0.1:0 }}\nagent: {{ name: {name}, lease: {{ beat: 400ms, valid: 1s, take_over: 1500ms }} }}\n{}",
            config(&bot, &target.url("/"), "")
        )
    };
    let one = TestApp::start_whole(&yaml("one"), store::open(&database.url).await.unwrap()).await;
    bot.wait_for("getUpdates", 1).await;
    let two = TestApp::start_whole(&yaml("two"), store::open(&database.url).await.unwrap()).await;
    two.until_health("my shop", "down").await;
    for _ in 0..3 {
        let update = bot.write(CHAT, None, "/help");
        bot.confirmed(update).await;
    }
    one.stop().await;
    let update = bot.write(CHAT, None, "/status");
    bot.confirmed(update).await;
    two.stop().await;
    assert_eq!(bot.conflicts(), 0, "no two polls at a time");
    assert_eq!(texts(&bot).iter().filter(|text| text.starts_with("<b>What I understand")).count(), 3, "each asked once, answered once");
    database.drop_it().await;
    bot.finish();
}
