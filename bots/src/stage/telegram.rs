//! A stand-in for Telegram: the Bot API, as strict as the real one and a little stricter, and the webhook calls that it makes.
//! Sources: <https://core.telegram.org/bots/api#sendmessage>, `#answercallbackquery`, `#setwebhook`.
//!
//! A call that Telegram would not understand is answered as Telegram would, and kept as a fault: whatever became of it, a play in which
//! there was one has not gone well.

use crate::client::Client;
use crate::secret::BotToken;
use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// So many calls are remembered. More is memory; the longest play makes fewer, so one beyond is a fault.
const CALLS_MAX: usize = 1_000_000;

/// So many faults are kept in their words; further ones would say the same.
const FAULTS_MAX: usize = 100;

/// A call of the webhook is answered within this, or has failed and is made again.
const WEBHOOK_WITHIN: Duration = Duration::from_secs(20);

/// What the webhook answers is a word.
const WEBHOOK_ANSWER_MAX: usize = 1024;

/// A webhook call that was not taken is made again after so long, then after twice as long, and so on. Telegram itself waits longer; here
/// somebody is watching.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(1);

/// A call of the right form.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it came.
    pub at: Instant,
    /// `sendMessage`, …
    pub method: String,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// What it was answered.
    pub status: u16,
}

impl Call {
    /// The text that it sends.
    pub fn text(&self) -> Option<&str> {
        self.params.get("text")?.as_str()
    }

    /// The chat that it writes into.
    pub fn chat(&self) -> Option<i64> {
        self.params.get("chat_id")?.as_i64()
    }

    /// Whether it is a message that was taken.
    pub fn is_message_taken(&self) -> bool {
        self.status == 200 && self.method == "sendMessage"
    }
}

/// What it answers instead of taking a call: status, words, parameters.
pub type Refusal = (u16, &'static str, Value);
type Script = Box<dyn FnMut(&str, &Map<String, Value>) -> Option<Refusal> + Send>;

/// Where updates are delivered, and what is said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The address.
    pub url: String,
    /// Goes with every call.
    pub secret: String,
}

struct Inner {
    /// The bot that it knows, as it stands in a path: `/bot123:AA/`.
    path: String,
    calls: Vec<Call>,
    faults: Vec<String>,
    script: Option<Script>,
    webhook: Value,
    /// Which messages there are in which chat: what people wrote, and what the bot did.
    messages: HashMap<i64, HashSet<i64>>,
}

/// A running stand-in that knows one bot; it ends when dropped.
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
    }
}

impl Telegram {
    /// Starts it on a port that is free.
    pub async fn start(token: &BotToken) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("listening on loopback")?;
        let url = format!("http://{}", listener.local_addr()?);
        let inner = Arc::new(Mutex::new(Inner {
            path: format!("/bot{}/", token.expose()),
            calls: Vec::new(),
            faults: Vec::new(),
            script: None,
            webhook: json!({ "url": "" }),
            messages: HashMap::new(),
        }));
        let router = Router::new().fallback(answer).with_state(inner.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!("the stand-in for Telegram has ended: {error}");
            }
        });
        Ok(Self { url, inner, client: Client::new().context("making the HTTP client")?, task })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }

    /// Asked about every call of the right form.
    pub fn script(&self, script: impl FnMut(&str, &Map<String, Value>) -> Option<Refusal> + Send + 'static) {
        self.inner().script = Some(Box::new(script));
    }

    /// Calls of the right form, in the order in which they came, without the first ones.
    pub fn calls_after(&self, seen: usize) -> Vec<Call> {
        self.inner().calls.get(seen..).unwrap_or_default().to_vec()
    }

    /// Calls that Telegram would not have understood.
    pub fn faults(&self) -> Vec<String> {
        self.inner().faults.clone()
    }

    /// What `setWebhook` was told last.
    pub fn webhook(&self) -> Value {
        self.inner().webhook.clone()
    }

    /// The same as an address, if one is set.
    pub fn hook(&self) -> Option<Hook> {
        let webhook = self.webhook();
        let text = |name: &str| webhook.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Hook { url: text("url"), secret: text("secret_token") }).filter(|hook| !hook.url.is_empty())
    }

    /// One call of a webhook: status and words of the answer, if there was one.
    pub async fn post(&self, url: &str, secret: Option<&str>, body: Vec<u8>) -> Option<(u16, String)> {
        let mut request = http::Request::post(url).header("content-type", "application/json");
        if let Some(secret) = secret {
            request = request.header("X-Telegram-Bot-Api-Secret-Token", secret);
        }
        let request = request.body(Full::new(Bytes::from(body))).ok()?;
        let answered = self.client.send(request, WEBHOOK_WITHIN, WEBHOOK_ANSWER_MAX).await.ok()?;
        Some((answered.status().as_u16(), String::from_utf8_lossy(answered.body()).into_owned()))
    }

    /// Sends an update until it is taken, as Telegram does, but at most for so long. How many attempts that took.
    pub async fn deliver(&self, hook: &Hook, update: &Value, within: Duration) -> Option<u64> {
        self.wrote(update);
        let (body, began) = (update.to_string().into_bytes(), Instant::now());
        let (mut attempts, mut pause) = (0, AGAIN_AFTER);
        while began.elapsed() < within {
            attempts += 1;
            if self.post(&hook.url, Some(&hook.secret), body.clone()).await.is_some_and(|(status, _)| status == 200) {
                return Some(attempts);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AFTER_MAX);
        }
        None
    }

    /// Somebody wrote that; whoever delivers it in another way says so here, because there is no answer to a message that is not there.
    pub fn wrote(&self, update: &Value) {
        let message = &update["message"];
        if let (Some(chat), Some(id)) = (message["chat"]["id"].as_i64(), message["message_id"].as_i64()) {
            self.inner().messages.entry(chat).or_default().insert(id);
        }
    }
}

fn locked(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    // Each change is whole before anything could panic.
    inner.lock().unwrap_or_else(PoisonError::into_inner)
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
    (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body.to_string())
}

async fn answer(State(inner): State<Arc<Mutex<Inner>>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let mut inner = locked(&inner);
    let read = match inner.calls.len() {
        0..CALLS_MAX => read(&method, &uri, &headers, &body, &inner),
        _ => Err((500, format!("more than {CALLS_MAX} calls are not remembered"))),
    };
    let (name, params) = match read {
        Ok(read) => read,
        Err((status, fault)) => {
            if inner.faults.len() < FAULTS_MAX {
                inner.faults.push(format!("{method} {uri}: {fault}"));
            }
            return refusal(status, &fault, &json!({}));
        }
    };
    let refused = inner.script.as_mut().and_then(|script| script(name.as_str(), &params));
    let (status, body) = match refused {
        Some((status, words, parameters)) => refusal(status, words, &parameters),
        None => (StatusCode::OK, json!({ "ok": true, "result": result(name, &params, &mut inner) }).to_string()),
    };
    inner.calls.push(Call { at: Instant::now(), method: name.as_str().to_owned(), params, status: status.as_u16() });
    (status, body)
}

/// The methods that are used here.
#[derive(Clone, Copy)]
enum Name {
    SendMessage,
    AnswerCallbackQuery,
    SetWebhook,
    DeleteWebhook,
    GetWebhookInfo,
    GetMe,
}

impl Name {
    const ALL: [Self; 6] =
        [Self::SendMessage, Self::AnswerCallbackQuery, Self::SetWebhook, Self::DeleteWebhook, Self::GetWebhookInfo, Self::GetMe];

    const fn as_str(self) -> &'static str {
        match self {
            Self::SendMessage => "sendMessage",
            Self::AnswerCallbackQuery => "answerCallbackQuery",
            Self::SetWebhook => "setWebhook",
            Self::DeleteWebhook => "deleteWebhook",
            Self::GetWebhookInfo => "getWebhookInfo",
            Self::GetMe => "getMe",
        }
    }

    const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::SendMessage => &["chat_id", "text", "reply_to_message_id"],
            Self::AnswerCallbackQuery => &["callback_query_id", "text"],
            Self::SetWebhook => &["url", "secret_token"],
            Self::DeleteWebhook | Self::GetWebhookInfo | Self::GetMe => &[],
        }
    }
}

fn result(name: Name, params: &Map<String, Value>, inner: &mut Inner) -> Value {
    match name {
        Name::SendMessage => {
            // Far from the numbers of what people wrote.
            let id = 1_000_000_000 + inner.calls.len() as i64;
            if let Some(chat) = params["chat_id"].as_i64() {
                inner.messages.entry(chat).or_default().insert(id);
            }
            json!({ "message_id": id, "date": 1, "chat": { "id": params["chat_id"] }, "text": params["text"] })
        }
        Name::GetMe => json!({ "id": 123_456, "is_bot": true, "first_name": "Echo", "username": "echo_bot" }),
        Name::AnswerCallbackQuery => Value::Bool(true),
        Name::SetWebhook => {
            inner.webhook = Value::Object(params.clone());
            Value::Bool(true)
        }
        Name::DeleteWebhook => {
            inner.webhook = json!({ "url": "" });
            Value::Bool(true)
        }
        Name::GetWebhookInfo => json!({ "url": inner.webhook["url"], "has_custom_certificate": false, "pending_update_count": 0 }),
    }
}

/// Method and parameters; or what Telegram would say is wrong.
fn read(method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes, inner: &Inner) -> Result<(Name, Map<String, Value>), (u16, String)> {
    let bad = |what: &str| (400, format!("Bad Request: {what}"));
    let name = uri.path().strip_prefix(&inner.path).ok_or((401, "Unauthorized".to_owned()))?;
    if method != Method::POST || uri.query().is_some() {
        return Err(bad("only POST of a body is used"));
    }
    if headers.get("content-type").is_none_or(|value| value != "application/json") {
        return Err(bad("content-type is not application/json"));
    }
    let Ok(Value::Object(params)) = serde_json::from_slice(body) else { return Err(bad("body is not a JSON object")) };
    let name = Name::ALL.into_iter().find(|known| known.as_str() == name).ok_or((404, "Not Found".to_owned()))?;
    if let Some(unknown) = params.keys().find(|key| !name.parameters().contains(&key.as_str())) {
        return Err(bad(&format!("unknown parameter {unknown}")));
    }
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    match name {
        Name::SendMessage => {
            let chat = params.get("chat_id").and_then(Value::as_i64).filter(|id| *id != 0).ok_or_else(|| bad("chat_id is empty"))?;
            if !(1..=4_096).contains(&text("text").map_or(0, |text| text.encode_utf16().count())) {
                return Err(bad("message text is empty, or too long"));
            }
            let there = |id: &Value| id.as_i64().is_some_and(|id| inner.messages.get(&chat).is_some_and(|ids| ids.contains(&id)));
            if params.get("reply_to_message_id").is_some_and(|id| !there(id)) {
                return Err(bad("message to be replied not found"));
            }
        }
        Name::AnswerCallbackQuery => {
            if text("callback_query_id").is_none_or(str::is_empty) {
                return Err(bad("query ID is invalid"));
            }
            if text("text").is_some_and(|text| text.chars().count() > 200) {
                return Err(bad("MESSAGE_TOO_LONG"));
            }
        }
        Name::SetWebhook => {
            let secret = text("secret_token").unwrap_or_default();
            let letters = secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            if !letters || !(1..=256).contains(&secret.len()) || text("url").is_none_or(str::is_empty) {
                return Err(bad("secret token contains unallowed characters, or the URL is missing"));
            }
        }
        Name::DeleteWebhook | Name::GetWebhookInfo | Name::GetMe => {}
    }
    Ok((name, params))
}
