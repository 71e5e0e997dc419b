//! The gateway as the Bot API in front of bots that were not written for it: a plain HTTP client that knows nothing of Kafka.

use crate::support::broker::Broker;
use crate::support::process::{Gateway, gateway};
use crate::support::telegram::{Telegram, message};
use crate::support::{Dice, KEY, TOKEN, bot, token, until};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use watchkeeper_bots::client::Client;
use watchkeeper_bots::names::BotId;
use watchkeeper_bots::secret::Key;

/// The gateway, and where bots find their Bot API.
async fn front(broker: &Broker, telegram: &Telegram, folder: &Path, port: u16, more: &[(&str, &str)]) -> (Gateway, String) {
    let mut variables = vec![("BOT_API_PORT", "0")];
    variables.extend(more);
    let gateway = gateway(broker, telegram, folder, port, &variables).await;
    let said = until("it says where", async || {
        let log = gateway.process.log();
        let (address, _) = log.split_once("the Bot API for bots is on ")?.1.split_once('\n')?;
        Some(address.trim().to_owned())
    });
    let url = format!("http://{}", said.await);
    (gateway, url)
}

fn seal(bot: &BotId) -> String {
    Key::new(KEY).expect("a key").seal(bot, &token())
}

/// A bot that was written for Telegram.
#[derive(Clone)]
struct Plain {
    client: Client,
    base: String,
}

/// An update as it is read here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    number: i64,
    chat: i64,
    text: String,
}

impl Plain {
    fn new(front: &str, bot: &BotId) -> Self {
        Self { client: Client::new().expect("a client"), base: format!("{front}/{bot}/{}/bot{TOKEN}", seal(bot)) }
    }

    async fn ask(&self, method: &str, target: &str, kind: Option<&str>, body: &str) -> Option<(u16, Value)> {
        let mut request = http::Request::builder().method(method).uri(format!("{}/{target}", self.base));
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        let answered = self.client.send(request, Duration::from_secs(60), 10_000_000).await.ok()?;
        assert_eq!(answered.headers()["content-type"], "application/json");
        Some((answered.status().as_u16(), serde_json::from_slice(answered.body()).expect("JSON")))
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        self.ask("GET", target, None, "").await.expect("answered")
    }

    /// The updates; nothing if there was no answer or a fault, as a bot sees it that tries on.
    async fn updates(&self, query: &str) -> Vec<Got> {
        let Some((200, answered)) = self.ask("GET", &format!("getUpdates?{query}"), None, "").await else { return Vec::new() };
        let of = |update: &Value| Got {
            number: update["update_id"].as_i64().expect("a number"),
            chat: update["message"]["chat"]["id"].as_i64().expect("a chat"),
            text: update["message"]["text"].as_str().expect("a text").to_owned(),
        };
        let got: Vec<Got> = answered["result"].as_array().expect("updates").iter().map(of).collect();
        assert!(got.is_sorted_by(|one, next| one.number < next.number), "{got:?}");
        got
    }
}

const CHATS: i64 = 8;
const PER_CHAT: i64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_bot_that_is_killed_in_the_middle_loses_nothing_and_each_chat_stays_in_order() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let (mut gate, mut url) = front(&broker, &telegram, folder.path(), 0, &[]).await;
    let (telegram, webhook, taken) = (Arc::new(telegram), gate.url.clone(), Arc::new(AtomicUsize::new(0)));
    let people: Vec<_> = (1..=CHATS)
        .map(|chat| {
            let (telegram, webhook, bot, taken) = (telegram.clone(), webhook.clone(), bot.clone(), taken.clone());
            tokio::spawn(async move {
                for nth in 0..PER_CHAT {
                    telegram.deliver(&webhook, &bot, &message(chat * 1_000 + nth, chat, &nth.to_string())).await;
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    // The bot reads a few and asks for more; now and then its connection breaks, or it is killed and begins anew, knowing nothing. Once the
    // gateway is killed, while the bot goes on.
    let seed = 20_261_201;
    let (mut dice, mut plain, mut offset) = (Dice(seed), Plain::new(&url, &bot), None);
    let mut seen: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let (mut killed, mut broken, mut gates, mut got_all) = (0, 0, 0, 0);
    until("every update is seen", async || {
        let asked =
            format!("timeout=1&limit={}{}", dice.below(12) + 1, offset.map_or_else(String::new, |offset| format!("&offset={offset}")));
        if dice.below(6) == 0 {
            // Whether the gateway has answered by then nobody knows.
            let _ = tokio::time::timeout(Duration::from_millis(dice.below(8)), plain.updates(&asked)).await;
            broken += 1;
        }
        let got = plain.updates(&asked).await;
        got_all += got.len();
        for Got { chat, text, .. } in &got {
            seen.entry(*chat).or_default().push(text.parse().expect("one of ours"));
        }
        if let Some(last) = got.last() {
            assert!(offset.is_none_or(|offset| last.number >= offset), "numbers go on: {offset:?} {last:?}");
            offset = Some(last.number + 1);
        }
        if dice.below(6) == 0 {
            offset = None;
            killed += 1;
        }
        if gates == 0 && taken.load(Ordering::Relaxed) >= 150 {
            gate.process.signal("KILL");
            gate.process.ended().await;
            (gate, url) = front(&broker, &telegram, folder.path(), gate.port, &[]).await;
            plain = Plain::new(&url, &bot);
            gates = 1;
        }
        let whole = |nths: &Vec<i64>| (0..PER_CHAT).all(|nth| nths.contains(&nth));
        (seen.len() as i64 == CHATS && seen.values().all(whole)).then_some(())
    })
    .await;
    for person in people {
        person.await.expect("everybody is heard");
    }
    for (chat, nths) in &seen {
        let mut newest = -1;
        for nth in nths {
            assert!(*nth <= newest + 1, "chat {chat}: {nth} came before {}", newest + 1);
            newest = newest.max(*nth);
        }
    }
    // What is confirmed does not return, and Kafka knows.
    let last = until("nothing is left", async || {
        let got = plain.updates(&format!("offset={}", offset.unwrap_or(0))).await;
        offset = got.last().map(|last| last.number + 1).or(offset);
        got.is_empty().then_some(offset)
    })
    .await;
    assert!(last.is_some() && plain.updates("timeout=0").await.is_empty());
    broker.idle(&bot.group(), &bot.incoming()).await;
    println!(
        "seed {seed}: {got_all} for {} updates; {killed} times killed, {broken} calls broken off, {gates} gateway killed",
        CHATS * PER_CHAT
    );
    gate.process.signal("TERM");
    assert_eq!(gate.process.ended().await.code(), Some(0), "{}", gate.process.log());
    assert!(!gate.process.log().contains(TOKEN), "the token is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_given_out_as_telegram_does_and_strangers_are_refused() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let (mut gate, url) = front(&broker, &telegram, folder.path(), 0, &[]).await;
    let plain = Plain::new(&url, &bot);
    // It waits for what has not come yet.
    let (waiting, wanted) = (plain.clone(), json!({ "timeout": 50, "allowed_updates": ["message", "edited_message"] }).to_string());
    let waiting =
        tokio::spawn(async move { waiting.ask("POST", "GETUPDATES", Some("application/json"), &wanted).await.expect("answered") });
    telegram.deliver(&gate.url, &bot, &json!({ "update_id": 5, "poll": { "id": "1" } })).await;
    telegram.deliver(&gate.url, &bot, &message(6, 7, "one")).await;
    let (status, first) = waiting.await.expect("no panic");
    assert_eq!((status, &first["ok"]), (200, &json!(true)));
    let first = &first["result"];
    assert_eq!((first.as_array().expect("updates").len(), &first[0]["message"]), (1, &message(6, 7, "one")["message"]));
    let number = first[0]["update_id"].as_i64().expect("a number");
    // It comes until it is confirmed, and with it what follows; a limit holds.
    telegram.deliver(&gate.url, &bot, &message(7, 7, "two")).await;
    let both = until("both", async || Some(plain.updates(&format!("offset={number}")).await).filter(|got| got.len() == 2)).await;
    assert_eq!(both.iter().map(|got| got.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(plain.updates("limit=1&offset=-1").await, both[..1]);
    let form = plain.ask("POST", "getUpdates", Some("application/x-www-form-urlencoded"), &format!("offset={}", number + 1)).await;
    assert_eq!(form.expect("answered").1["result"][0]["update_id"], both[1].number);
    assert_eq!(plain.updates("").await, both[1..]);
    assert_eq!(
        plain.get("getWebhookInfo").await.1["result"],
        json!({ "url": "", "has_custom_certificate": false, "pending_update_count": 1 })
    );

    // A later call takes over.
    assert!(plain.updates(&format!("offset={}", both[1].number + 1)).await.is_empty());
    let waiting = plain.clone();
    let waiting = tokio::spawn(async move { waiting.get("getUpdates?timeout=50").await });
    let conflict = until("one takes over", async || {
        plain.updates("").await;
        waiting.is_finished().then_some(())
    });
    conflict.await;
    let words = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
    assert_eq!(waiting.await.expect("no panic"), (409, json!({ "ok": false, "error_code": 409, "description": words })));

    // The webhook is the gateway's.
    assert_eq!(plain.get("deleteWebhook?drop_pending_updates=true").await.1["result"], true);
    assert_eq!(plain.get("setWebhook?url=").await.1["result"], true);
    for (target, status) in [("setWebhook?url=https://x.example", 400), ("logOut", 400), ("getUpdates?limit=x", 400), ("get-me", 404)] {
        let (answered, body) = plain.get(target).await;
        assert_eq!((answered, &body["ok"], body["error_code"].as_u64()), (status, &json!(false), Some(u64::from(status))), "{target}");
    }
    assert!(telegram.calls().is_empty(), "Telegram hears nothing of all that");

    // Another token, another bot, another seal; and a bot that nobody made, though everything fits.
    let unauthorized = (401, json!({ "ok": false, "error_code": 401, "description": "Unauthorized" }));
    for (bot, seal, token) in [
        ("a1", seal(&bot), "123456:TEST-another"),
        ("b2", seal(&bot), TOKEN),
        ("a1", seal(&crate::support::bot("b2")), TOKEN),
        ("b2", seal(&crate::support::bot("b2")), TOKEN),
    ] {
        let stranger = Plain { client: plain.client.clone(), base: format!("{url}/{bot}/{seal}/bot{token}") };
        assert_eq!(stranger.get("getUpdates").await, unauthorized, "{bot}");
    }
    assert_eq!(Plain { base: format!("{url}/bot{TOKEN}"), ..plain.clone() }.get("getMe").await.0, 404);

    // While Kafka is away nothing is confirmed, and nobody is kept from ending.
    telegram.deliver(&gate.url, &bot, &message(8, 7, "three")).await;
    let third = until("the third", async || plain.updates("").await.pop()).await;
    broker.down(true);
    let (status, answered) = plain.get(&format!("getUpdates?offset={}", third.number + 1)).await;
    // Its partitions may be lost before that is found out: then there is nothing to give out, and nothing to confirm.
    assert!((status, &answered["error_code"]) == (502, &json!(502)) || answered["result"] == json!([]), "{answered}");
    gate.process.signal("TERM");
    assert_eq!(gate.process.ended().await.code(), Some(0), "{}", gate.process.log());
    broker.down(false);
    assert_eq!(broker.lag(&bot.group(), &bot.incoming()), 1, "what could not be confirmed is not");
    assert!(!gate.process.log().contains(TOKEN), "the token is in the log");
}

/// A call that Telegram got.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// `GET sendMessage?…`
    what: String,
    kind: Option<String>,
    body: Bytes,
}

#[derive(Default)]
struct Inner {
    seen: Mutex<Vec<Seen>>,
    /// A call whose body has `slow` is answered after that.
    go: Notify,
}

/// The Bot API, as far as it matters that calls come as they were sent.
struct Upstream {
    url: String,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (url, inner) = (format!("http://{}", listener.local_addr().expect("an address")), Arc::<Inner>::default());
        let router = Router::new().fallback(upstream).with_state(inner.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, inner, task }
    }

    fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().expect("no panic").clone()
    }

    fn last(&self) -> Seen {
        self.seen().pop().expect("a call")
    }
}

async fn upstream(State(inner): State<Arc<Inner>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let target = uri.path_and_query().expect("a path").as_str();
    let target = target.strip_prefix(&format!("/bot{TOKEN}/")).expect("the bot's");
    let kind = headers.get("content-type").map(|kind| kind.to_str().expect("text").to_owned());
    let nth = {
        let mut seen = inner.seen.lock().expect("no panic");
        seen.push(Seen { what: format!("{method} {target}"), kind, body: body.clone() });
        seen.len()
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    if text.contains("slow") {
        inner.go.notified().await;
    }
    if text.contains("blocked") {
        let words = json!({ "ok": false, "error_code": 403, "description": "Forbidden: bot was blocked by the user" });
        return (StatusCode::FORBIDDEN, words.to_string());
    }
    if text.contains("page") {
        return (StatusCode::OK, "<html>".to_owned());
    }
    // A message, and who the bot is.
    let result = json!({
        "message_id": nth, "date": 1_760_000_000, "chat": { "id": 7, "type": "private" }, "text": "x",
        "id": 123_456, "is_bot": true, "first_name": "Echo", "username": "echo_bot",
    });
    (StatusCode::OK, json!({ "ok": true, "result": result }).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_reach_telegram_as_they_are_within_the_budgets_and_each_chat_in_order() {
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let upstream = Upstream::start().await;
    let more = [("BOT_API_URL", upstream.url.as_str()), ("GROUP_PER_MINUTE", "1")];
    let (gate, url) = front(&broker, &telegram, folder.path(), 0, &more).await;
    let plain = Plain::new(&url, &bot);
    let call = |method: &str, target: &str, kind: Option<&str>, body: &str| {
        let (plain, method, target, kind, body) =
            (plain.clone(), method.to_owned(), target.to_owned(), kind.map(str::to_owned), body.to_owned());
        async move { plain.ask(&method, &target, kind.as_deref(), &body).await.expect("answered") }
    };
    let (json_kind, form) = (Some("application/json"), Some("application/x-www-form-urlencoded"));
    let files = Some("multipart/form-data; boundary=B");
    let photo = "--B\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n7\r\n--B\r\nContent-Disposition: form-data; name=\"photo\"; \
                 filename=\"a\"\r\n\r\n\0\u{1}\r\n--B--\r\n";
    // pyTelegramBotAPI writes whole messages into the URL.
    let long = format!("sendMessage?chat_id=7&text={}", "%F0%9F%98%80".repeat(2_048));
    for (method, target, kind, body) in [
        ("GET", "getMe", None, ""),
        ("GET", long.as_str(), None, ""),
        ("POST", "sendMessage", form, "chat_id=7&text=%C3%A9"),
        ("POST", "SENDMESSAGE", json_kind, r#"{"chat_id": 7, "text":"x"}"#),
        ("POST", "sendPhoto", files, photo),
        ("POST", "inventedLater?a=b", None, ""),
    ] {
        let (status, answered) = call(method, target, kind, body).await;
        assert_eq!((status, &answered["ok"], &answered["result"]["message_id"]), (200, &json!(true), &json!(upstream.seen().len())));
        let expected = Seen { what: format!("{method} {target}"), kind: kind.map(str::to_owned), body: body.to_owned().into() };
        assert_eq!(upstream.last(), expected);
    }
    // What Telegram refuses the bot hears; what is no answer of Telegram's it does not.
    let refused = call("POST", "sendMessage", form, "chat_id=8&text=blocked").await;
    assert_eq!((refused.0, &refused.1["description"]), (403, &json!("Forbidden: bot was blocked by the user")));
    assert_eq!(call("POST", "sendMessage", form, "chat_id=8&text=page").await.0, 502);

    // A chat's next call begins when the one before was answered; others go on.
    let begun = upstream.seen().len();
    let slow = tokio::spawn(call("POST", "sendMessage", form, "chat_id=9&text=slow"));
    until("the first is there", async || (upstream.seen().len() == begun + 1).then_some(())).await;
    let next = tokio::spawn(call("POST", "sendMessage", form, "chat_id=9&text=next"));
    for _ in 0..3 {
        call("POST", "sendMessage", form, "chat_id=10&text=other").await;
    }
    assert!(upstream.seen()[begun..].iter().all(|seen| !seen.body.ends_with(b"next")), "it did not wait");
    upstream.inner.go.notify_one();
    assert_eq!((slow.await.expect("no panic").0, next.await.expect("no panic").0), (200, 200));
    assert!(upstream.last().body.ends_with(b"next"));

    // A group has one message in a minute here: who would have to wait long is told so.
    assert_eq!(call("POST", "sendMessage", json_kind, r#"{"chat_id":-7,"text":"x"}"#).await.0, 200);
    let (status, answered) = call("GET", "sendMessage?chat_id=-7&text=x", None, "").await;
    let after = answered["parameters"]["retry_after"].as_u64().expect("seconds");
    assert!(status == 429 && (1..=60).contains(&after), "{answered}");
    assert_eq!(answered["description"], format!("Too Many Requests: retry after {after}"));
    assert_eq!(call("GET", "sendChatAction?chat_id=-7&action=typing", None, "").await.0, 200, "that is no message");

    // What is too large is refused before it is sent.
    let mut stream = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.expect("connected");
    let head = format!("POST {}/sendVideo HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n", &plain.base[url.len()..]);
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answered = vec![0; 12];
    stream.read_exact(&mut answered).await.expect("answered");
    assert_eq!(answered, b"HTTP/1.1 413");
    assert!(!gate.process.log().contains(TOKEN), "the token is in the log");
}

/// `WATCHKEEPER_PLAIN_BOT` is a command that runs a bot of some library, which answers every text with `Echo: ` and the text.
#[tokio::test(flavor = "multi_thread")]
async fn a_bot_of_a_real_library_answers_everything_though_it_is_killed() {
    let Ok(command) = std::env::var("WATCHKEEPER_PLAIN_BOT") else {
        println!("skipped: WATCHKEEPER_PLAIN_BOT is not set");
        return;
    };
    let (broker, telegram, folder, bot) = (Broker::start(), Telegram::start().await, tempfile::tempdir().expect("a folder"), bot("a1"));
    broker.create_for(&bot);
    let upstream = Upstream::start().await;
    let (gate, url) = front(&broker, &telegram, folder.path(), 0, &[("BOT_API_URL", upstream.url.as_str())]).await;
    let start = || {
        let mut words = command.split_whitespace();
        let mut command = tokio::process::Command::new(words.next().expect("a program"));
        command.args(words).env("BOT_TOKEN", TOKEN).env("BOT_API_URL", format!("{url}/{bot}/{}", seal(&bot)));
        command.kill_on_drop(true).spawn().expect("it starts")
    };
    let answered = |from: i64, to: i64| {
        let seen = upstream.seen();
        let has = |nth: i64| {
            seen.iter().any(|call| format!("{}{}", call.what, String::from_utf8_lossy(&call.body)).contains(&format!("nth-{nth}-")))
        };
        (from..to).all(has).then_some(())
    };
    let mut plain = start();
    for nth in 0..30 {
        telegram.deliver(&gate.url, &bot, &message(nth + 1, nth % 4 + 1, &format!("nth-{nth}-"))).await;
    }
    until("half of it is answered", async || answered(0, 15)).await;
    plain.kill().await.expect("killed");
    for nth in 30..60 {
        telegram.deliver(&gate.url, &bot, &message(nth + 1, nth % 4 + 1, &format!("nth-{nth}-"))).await;
    }
    let plain = start();
    until("everything that it had not confirmed is answered", async || answered(30, 60)).await;
    broker.idle(&bot.group(), &bot.incoming()).await;
    let calls = upstream.seen().len();
    println!("{calls} calls; the last: {:?}", upstream.last());
    println!(
        "not answered, because it had confirmed them before it was killed: {:?}",
        (0..30).filter(|nth| answered(*nth, nth + 1).is_none()).collect::<Vec<_>>()
    );
    drop(plain);
}
