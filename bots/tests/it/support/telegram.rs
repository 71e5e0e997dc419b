//! A stand-in for Telegram: the Bot API, as strict as the real one and a little stricter, and the webhook calls that it makes.
//! Sources: <https://core.telegram.org/bots/api#sendmessage>, `#answercallbackquery`, `#setwebhook`.

use super::{LONG, TOKEN, secret, until};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use watchkeeper_bots::client::Client;
use watchkeeper_bots::names::BotId;

/// A call of the right form.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    pub method: String,
    pub params: Map<String, Value>,
    /// What it was answered.
    pub status: u16,
}

impl Call {
    pub fn text(&self) -> &str {
        self.params["text"].as_str().expect("a text")
    }

    pub fn chat(&self) -> i64 {
        self.params["chat_id"].as_i64().expect("a chat")
    }
}

/// What it answers instead of taking a call: status, words, parameters.
pub type Refusal = (u16, &'static str, Value);
type Script = Box<dyn FnMut(&str, &Map<String, Value>) -> Option<Refusal> + Send>;

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    faults: Vec<String>,
    script: Option<Script>,
    webhook: Value,
}

/// A running stand-in that knows only the bot [`TOKEN`]; it ends when dropped.
pub struct Telegram {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    inner: Arc<Mutex<Inner>>,
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Telegram {
    fn drop(&mut self) {
        self.task.abort();
        // Each test ends with this: a call that Telegram would not understand is a fault, whatever became of it.
        if !std::thread::panicking() {
            let faults = std::mem::take(&mut self.inner.lock().expect("no panic").faults);
            assert!(faults.is_empty(), "calls that Telegram would not understand: {faults:#?}");
        }
    }
}

impl Telegram {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let inner = Arc::new(Mutex::new(Inner { webhook: json!({ "url": "" }), ..Inner::default() }));
        let router = Router::new().fallback(answer).with_state(inner.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("the stand-in serves") });
        Self { url, inner, client: Client::new().expect("a client"), task }
    }

    /// Asked about every call of the right form.
    pub fn script(&self, script: impl FnMut(&str, &Map<String, Value>) -> Option<Refusal> + Send + 'static) {
        self.inner.lock().expect("no panic").script = Some(Box::new(script));
    }

    /// Calls of the right form, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        self.inner.lock().expect("no panic").calls.clone()
    }

    /// Those that were taken.
    pub fn taken(&self, method: &str) -> Vec<Call> {
        let calls = self.calls();
        calls.into_iter().filter(|call| call.status == 200 && call.method == method).collect()
    }

    pub async fn wait_for(&self, method: &str, count: usize) -> Vec<Call> {
        until(&format!("{count} calls of {method}"), async || Some(self.taken(method)).filter(|calls| calls.len() >= count)).await
    }

    /// What `setWebhook` was told last.
    pub fn webhook(&self) -> Value {
        self.inner.lock().expect("no panic").webhook.clone()
    }

    /// One call of the bot's webhook.
    pub async fn post(&self, gateway: &str, bot: &BotId, secret: Option<&str>, body: Vec<u8>) -> Option<(u16, String)> {
        let mut request = http::Request::post(format!("{gateway}/webhook/{bot}")).header("content-type", "application/json");
        if let Some(secret) = secret {
            request = request.header("X-Telegram-Bot-Api-Secret-Token", secret);
        }
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let answered = self.client.send(request, Duration::from_secs(20), 1024).await.ok()?;
        Some((answered.status().as_u16(), String::from_utf8_lossy(answered.body()).into_owned()))
    }

    /// Sends an update until it is taken, as Telegram does. How many attempts that took.
    pub async fn deliver(&self, gateway: &str, bot: &BotId, update: &Value) -> usize {
        let (secret, body, began) = (secret(bot), update.to_string().into_bytes(), Instant::now());
        for attempt in 1.. {
            if self.post(gateway, bot, Some(&secret), body.clone()).await.is_some_and(|(status, _)| status == 200) {
                return attempt;
            }
            assert!(began.elapsed() < LONG, "never taken: {update}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("it tries until it is taken, or panics")
    }
}

/// A text that somebody wrote into a chat.
pub fn message(update: i64, chat: i64, text: &str) -> Value {
    json!({
        "update_id": update,
        "message": {
            "message_id": update, "date": 1_760_000_000, "text": text,
            "chat": { "id": chat, "type": if chat < 0 { "supergroup" } else { "private" } },
            "from": { "id": 7, "is_bot": false, "first_name": "Ann" },
        }
    })
}

fn refusal(status: u16, description: &str, parameters: &Value) -> (StatusCode, String) {
    let body = json!({ "ok": false, "error_code": status, "description": description, "parameters": parameters });
    (StatusCode::from_u16(status).expect("a status"), body.to_string())
}

async fn answer(State(inner): State<Arc<Mutex<Inner>>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let mut inner = inner.lock().expect("no panic");
    let (name, params) = match read(&method, &uri, &headers, &body) {
        Ok(read) => read,
        Err((status, fault)) => {
            inner.faults.push(format!("{method} {uri}: {fault}"));
            return refusal(status, &fault, &json!({}));
        }
    };
    let refused = inner.script.as_mut().and_then(|script| script(&name, &params));
    let (status, body) = match refused {
        Some((status, words, parameters)) => refusal(status, words, &parameters),
        None => (StatusCode::OK, json!({ "ok": true, "result": result(&name, &params, &mut inner) }).to_string()),
    };
    inner.calls.push(Call { at: Instant::now(), method: name, params, status: status.as_u16() });
    (status, body)
}

fn result(name: &str, params: &Map<String, Value>, inner: &mut Inner) -> Value {
    match name {
        "sendMessage" => {
            json!({ "message_id": inner.calls.len() + 1, "date": 1, "chat": { "id": params["chat_id"] }, "text": params["text"] })
        }
        "getMe" => json!({ "id": 123_456, "is_bot": true, "first_name": "Echo", "username": "echo_bot" }),
        "answerCallbackQuery" => Value::Bool(true),
        "setWebhook" => {
            inner.webhook = Value::Object(params.clone());
            Value::Bool(true)
        }
        "deleteWebhook" => {
            inner.webhook = json!({ "url": "" });
            Value::Bool(true)
        }
        "getWebhookInfo" => json!({ "url": inner.webhook["url"], "has_custom_certificate": false, "pending_update_count": 0 }),
        other => unreachable!("{other} is not known"),
    }
}

/// Method and parameters; or what Telegram would say is wrong.
fn read(method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<(String, Map<String, Value>), (u16, String)> {
    let bad = |what: &str| (400, format!("Bad Request: {what}"));
    let name = uri.path().strip_prefix(&format!("/bot{TOKEN}/")).ok_or((401, "Unauthorized".to_owned()))?.to_owned();
    if method != Method::POST || uri.query().is_some() {
        return Err(bad("only POST of a body is used"));
    }
    if headers.get("content-type").is_none_or(|value| value != "application/json") {
        return Err(bad("content-type is not application/json"));
    }
    let Ok(Value::Object(params)) = serde_json::from_slice(body) else { return Err(bad("body is not a JSON object")) };
    let known: &[&str] = match name.as_str() {
        "sendMessage" => &["chat_id", "text", "reply_to_message_id"],
        "answerCallbackQuery" => &["callback_query_id", "text"],
        "setWebhook" => &["url", "secret_token"],
        "getMe" | "getWebhookInfo" | "deleteWebhook" => &[],
        _ => return Err((404, "Not Found".to_owned())),
    };
    if let Some(unknown) = params.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(bad(&format!("unknown parameter {unknown}")));
    }
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    match name.as_str() {
        "sendMessage" => {
            if params.get("chat_id").and_then(Value::as_i64).is_none_or(|id| id == 0) {
                return Err(bad("chat_id is empty"));
            }
            if !(1..=4_096).contains(&text("text").map_or(0, |text| text.encode_utf16().count())) {
                return Err(bad("message text is empty, or too long"));
            }
            if params.get("reply_to_message_id").is_some_and(|id| id.as_i64().is_none_or(|id| id <= 0)) {
                return Err(bad("message to be replied not found"));
            }
        }
        "answerCallbackQuery" if text("callback_query_id").is_none_or(str::is_empty) => return Err(bad("query ID is invalid")),
        "answerCallbackQuery" if text("text").is_some_and(|text| text.chars().count() > 200) => return Err(bad("MESSAGE_TOO_LONG")),
        "setWebhook" => {
            let secret = text("secret_token").unwrap_or_default();
            let letters = secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            if !letters || !(1..=256).contains(&secret.len()) || text("url").is_none_or(str::is_empty) {
                return Err(bad("secret token contains unallowed characters, or the URL is missing"));
            }
        }
        _ => {}
    }
    Ok((name, params))
}
