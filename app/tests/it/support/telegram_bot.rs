//! A stand-in for the listening half of Telegram's Bot API: `getMe`, `getUpdates`, `answerCallbackQuery`, and `sendMessage` as in
//! [`super::telegram`]. As strict as the real one and a little stricter: what it would merely tolerate is a fault here.
//! Sources: <https://core.telegram.org/bots/api#getupdates>, <https://core.telegram.org/bots/api#answercallbackquery>.

use super::app::until;
use super::provider::Call;
use super::telegram::{self, TOKEN};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The bot's name.
pub const NAME: &str = "watch_bot";

#[derive(Default)]
struct Inner {
    updates: Vec<Value>,
    next: i64,
    /// The poll that is held now, by number.
    held: Option<u64>,
    polls: u64,
    conflicts: u64,
    /// Presses that have not been answered.
    pressed: Vec<String>,
    script: VecDeque<(StatusCode, String)>,
    calls: Vec<Call>,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Notify,
}

/// A running stand-in that knows only the bot [`TOKEN`]; it ends when dropped.
pub struct Bot {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bot {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let shared = Arc::new(Shared::default());
        shared.inner.lock().unwrap().next = 500;
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("the stand-in serves") });
        Self { url, shared, task }
    }

    fn update(&self, what: &str, value: &Value) -> i64 {
        let mut inner = self.shared.inner.lock().unwrap();
        inner.next += 1;
        let id = inner.next;
        inner.updates.push(json!({ "update_id": id, what: value }));
        drop(inner);
        self.shared.changed.notify_waiters();
        id
    }

    /// Somebody writes into a chat, or a topic of one. Its update's number.
    pub fn write(&self, chat: i64, topic: Option<i64>, text: &str) -> i64 {
        let now = watchkeeper::clock::Clock::system().now().0 / 1_000_000;
        let mut message =
            json!({ "message_id": 1, "date": now, "chat": { "id": chat, "type": "supergroup" }, "from": ann(), "text": text });
        if let Some(topic) = topic {
            message["message_thread_id"] = Value::from(topic);
            message["is_topic_message"] = Value::from(true);
        }
        self.update("message", &message)
    }

    /// An update that was handed out before, as if it had not been confirmed.
    pub fn again(&self, update: i64, chat: i64, text: &str) {
        let later = std::mem::replace(&mut self.shared.inner.lock().unwrap().next, update - 1);
        self.write(chat, None, text);
        self.shared.inner.lock().unwrap().next = later;
    }

    /// Somebody presses a button below a message of a chat. The query's id.
    pub fn press(&self, chat: i64, data: &str) -> String {
        let query = {
            let mut inner = self.shared.inner.lock().unwrap();
            let query = format!("query-{}", inner.next);
            inner.pressed.push(query.clone());
            query
        };
        let message = json!({ "message_id": 1, "date": 1_795_317_127, "chat": { "id": chat, "type": "supergroup" }, "text": "x" });
        self.update("callback_query", &json!({ "id": query, "from": ann(), "message": message, "chat_instance": "1", "data": data }));
        query
    }

    /// The next `getUpdates` is answered so.
    pub fn then(&self, status: u16, description: &str, parameters: &Value) {
        let body = json!({ "ok": false, "error_code": status, "description": description, "parameters": parameters }).to_string();
        self.shared.inner.lock().unwrap().script.push_back((StatusCode::from_u16(status).unwrap(), body));
        self.shared.changed.notify_waiters();
    }

    /// Calls of a method so far.
    pub fn calls(&self, method: &str) -> Vec<Call> {
        let end = format!("/{method}");
        self.shared.inner.lock().unwrap().calls.iter().filter(|call| call.path.ends_with(&end)).cloned().collect()
    }

    /// Waits until a method has been called so often.
    pub async fn wait_for(&self, method: &str, count: usize) -> Vec<Call> {
        until(&format!("{count} calls of {method}"), async || Some(self.calls(method)).filter(|calls| calls.len() >= count)).await
    }

    /// Waits until an update is confirmed.
    pub async fn confirmed(&self, update: i64) {
        let waits = || self.shared.inner.lock().unwrap().updates.iter().any(|u| u["update_id"].as_i64() <= Some(update));
        until(&format!("update {update} is confirmed"), async || (!waits()).then_some(())).await;
    }

    /// How often a poll was broken off because another one came.
    pub fn conflicts(&self) -> u64 {
        self.shared.inner.lock().unwrap().conflicts
    }

    /// Panics if any call had a fault in its form.
    pub fn finish(&self) {
        let inner = self.shared.inner.lock().unwrap();
        let faults: Vec<&String> = inner.calls.iter().filter_map(|c| c.fault.as_ref()).collect();
        assert!(faults.is_empty(), "calls that the provider would refuse: {faults:#?}");
    }
}

fn ann() -> Value {
    json!({ "id": 7, "is_bot": false, "first_name": "Ann\n", "username": "ann_b" })
}

type Refusal = (StatusCode, String);

fn bad(text: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, json!({ "ok": false, "error_code": 400, "description": format!("Bad Request: {text}") }).to_string())
}

fn good(result: &Value) -> (StatusCode, String) {
    (StatusCode::OK, json!({ "ok": true, "result": result }).to_string())
}

async fn answer(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let mut call = Call { method, path: path.clone(), headers, body, fault: None, answered: 0 };
    let answered = match path.strip_prefix(&format!("/bot{TOKEN}/")) {
        Some("getMe") => Ok(good(&json!({ "id": 123_456, "is_bot": true, "first_name": "Watch", "username": NAME }))),
        Some("getUpdates") => match polled(&call) {
            Ok((offset, limit, seconds)) => {
                note(&shared, &call);
                return held(&shared, offset, limit, seconds).await.into_response();
            }
            Err(refusal) => Err(refusal),
        },
        Some("answerCallbackQuery") => pressed(&shared, &call),
        _ => telegram::check(&call).map(|()| good(&json!({ "message_id": 1 }))),
    };
    call.fault = answered.as_ref().err().map(|(_, text)| text.clone());
    note(&shared, &call);
    answered.unwrap_or_else(|refusal| refusal).into_response()
}

fn note(shared: &Shared, call: &Call) {
    shared.inner.lock().unwrap().calls.push(call.clone());
}

fn parameters(call: &Call, known: &[&str]) -> Result<serde_json::Map<String, Value>, Refusal> {
    if call.method != Method::POST || call.headers.get("content-type").is_none_or(|v| v != "application/json") {
        return Err(bad("only POST of JSON is used"));
    }
    let Ok(Value::Object(sent)) = serde_json::from_slice::<Value>(&call.body) else { return Err(bad("body is not a JSON object")) };
    match sent.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(bad(&format!("unknown parameter {unknown}"))),
        None => Ok(sent),
    }
}

/// Offset, limit and timeout.
fn polled(call: &Call) -> Result<(Option<i64>, usize, u64), Refusal> {
    let sent = parameters(call, &["offset", "limit", "timeout", "allowed_updates"])?;
    let limit = sent.get("limit").and_then(Value::as_u64).filter(|limit| (1..=100).contains(limit)).ok_or_else(|| bad("limit"))?;
    let seconds = sent.get("timeout").and_then(Value::as_u64).filter(|seconds| *seconds <= 50).ok_or_else(|| bad("timeout"))?;
    if sent.get("allowed_updates") != Some(&json!(["message", "callback_query"])) {
        return Err(bad("allowed_updates"));
    }
    if sent.get("offset").is_some_and(|offset| offset.as_i64().is_none()) {
        return Err(bad("offset"));
    }
    Ok((sent.get("offset").and_then(Value::as_i64), limit as usize, seconds))
}

/// Holds a poll until there is something, its time is over, or another one breaks it off.
async fn held(shared: &Shared, offset: Option<i64>, limit: usize, seconds: u64) -> (StatusCode, String) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
    // That a client has hung up is seen a moment later; one that still waits after this is a second listener.
    let hung_up = async {
        while shared.inner.lock().unwrap().held.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(250), hung_up).await;
    let own = {
        let mut inner = shared.inner.lock().unwrap();
        inner.polls += 1;
        if inner.held.is_some() {
            inner.conflicts += 1;
        }
        inner.held = Some(inner.polls);
        if let Some(offset) = offset {
            inner.updates.retain(|update| update["update_id"].as_i64() >= Some(offset));
        }
        inner.polls
    };
    shared.changed.notify_waiters();
    // A client that goes away drops this future: its poll is held no longer.
    let _gone = Gone(shared, own);
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        {
            let mut inner = shared.inner.lock().unwrap();
            if inner.held != Some(own) {
                let description = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
                return (StatusCode::CONFLICT, json!({ "ok": false, "error_code": 409, "description": description }).to_string());
            }
            if let Some(scripted) = inner.script.pop_front() {
                return scripted;
            }
            let found: Vec<Value> = inner.updates.iter().take(limit).cloned().collect();
            if !found.is_empty() || tokio::time::Instant::now() >= deadline {
                return good(&Value::from(found));
            }
        }
        let _ = tokio::time::timeout_at(deadline, changed).await;
    }
}

struct Gone<'a>(&'a Shared, u64);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock().unwrap();
        if inner.held == Some(self.1) {
            inner.held = None;
        }
    }
}

fn pressed(shared: &Shared, call: &Call) -> Result<(StatusCode, String), Refusal> {
    let sent = parameters(call, &["callback_query_id", "text", "show_alert"])?;
    let text = sent.get("text").and_then(Value::as_str).unwrap_or_default();
    if text.chars().count() > 200 {
        return Err(bad("MESSAGE_TOO_LONG"));
    }
    let query = sent.get("callback_query_id").and_then(Value::as_str).unwrap_or_default();
    let mut inner = shared.inner.lock().unwrap();
    let before = inner.pressed.len();
    inner.pressed.retain(|known| known != query);
    if inner.pressed.len() == before {
        return Err(bad("query is too old and response timeout expired or query ID is invalid"));
    }
    Ok(good(&Value::Bool(true)))
}
