//! The Bot API in front of bots that were not written for this platform: `/ID/SEAL/botTOKEN/METHOD`.
//!
//! `getUpdates` is answered from the bot's topic (`session`, `queue`). What is about the webhook is answered here, because the webhook is
//! the gateway's and no bot's. Everything else returns something that the bot needs, so it goes to Telegram at once and comes back with
//! Telegram's answer (`through`); nothing of it goes through Kafka. A bot is known by its address and its token together: the seal says
//! that they belong to each other, so that nobody with a bot of his own can read another's updates, and nobody keeps a list.

mod queue;
mod request;
mod session;
mod through;

use super::metrics::{BotCall, Metrics};
use crate::kafka::Brokers;
use crate::manager::topics::Lags;
use crate::secret::Key;
use axum::Router;
use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use queue::Allowed;
use request::{Address, NotAnAddress, Params};
use serde_json::{Value, json};
use session::{NoUpdates, Sessions, Wanted};
use std::sync::Arc;
use std::time::Duration;
use through::{NoAnswer, Sent};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use through::Through;

/// A request line with headers may have so many bytes: pyTelegramBotAPI writes whole messages into it. More is memory, and more than a URI
/// holds.
pub const HEADER_MAX: usize = 64 * 1024;

/// The largest call: a file of the 50 MB that Telegram takes from bots, and what is around it.
const BODY_MAX: usize = 51 * 1024 * 1024;

/// The bodies of all calls at once, in kilobytes; further ones wait. More is memory, less would let files wait for each other.
const BODIES_KBYTES_MAX: u32 = 128 * 1024;

/// A body is there within this, also a large one on a slow line. Longer would let a stuck one keep its place.
const BODY_WITHIN: Duration = Duration::from_secs(60);

/// An answer has so many updates, if nothing is said; and never more (the Bot API's own bounds).
const UPDATES_MAX: i64 = 100;

/// Nobody waits longer for one: what the public Bot API holds a call for.
const WAIT_MAX: i64 = 50;

/// What the handlers share.
pub struct Front {
    key: Key,
    sessions: Sessions,
    through: Through,
    lags: Lags,
    bodies: Semaphore,
    metrics: Arc<Metrics>,
}

impl Front {
    /// Reads from these brokers until `stop`.
    pub fn new(key: Key, brokers: &Brokers, through: Through, metrics: Arc<Metrics>, stop: CancellationToken) -> Self {
        let sessions = Sessions::new(brokers, stop, metrics.sessions.clone());
        let bodies = Semaphore::new(BODIES_KBYTES_MAX as usize);
        Self { key, sessions, through, lags: Lags::new(brokers), bodies, metrics }
    }

    /// Waits until nothing is read any more, after `stop`.
    pub async fn ended(&self) {
        self.sessions.ended().await;
    }
}

/// The routes: all of them are the bots'.
pub fn router(front: Arc<Front>) -> Router {
    Router::new().fallback(answer).with_state(front)
}

/// What is answered instead of a result, in Telegram's form.
struct Refusal {
    status: StatusCode,
    words: String,
    again_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Self { status, words: words.into(), again_after: None }
    }

    fn bad(words: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("Bad Request: {words}"))
    }

    fn too_many(again_after: Duration) -> Self {
        let words = format!("Too Many Requests: retry after {}", again_after.as_secs());
        Self { status: StatusCode::TOO_MANY_REQUESTS, words, again_after: Some(again_after) }
    }

    fn fault(words: &str) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, format!("Bad Gateway: {words}"))
    }

    fn answer(self) -> Response {
        let mut body = json!({ "ok": false, "error_code": self.status.as_u16(), "description": self.words });
        if let Some(after) = self.again_after {
            body["parameters"] = json!({ "retry_after": after.as_secs() });
        }
        written(self.status, body.to_string())
    }
}

impl From<NotAnAddress> for Refusal {
    fn from(error: NotAnAddress) -> Self {
        match error {
            NotAnAddress::NotFound => Self::new(StatusCode::NOT_FOUND, "Not Found: a bot's methods are below its BOT_API_URL"),
            NotAnAddress::Unauthorized => Self::new(StatusCode::UNAUTHORIZED, "Unauthorized"),
        }
    }
}

impl From<NoUpdates> for Refusal {
    fn from(error: NoUpdates) -> Self {
        match error {
            NoUpdates::Conflict => Self::new(
                StatusCode::CONFLICT,
                "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
            ),
            NoUpdates::NoBot => Self::new(StatusCode::UNAUTHORIZED, "Unauthorized"),
            NoUpdates::Full => Self::too_many(Duration::from_secs(30)),
            NoUpdates::Kafka(_) => Self::fault(&error.to_string()),
        }
    }
}

fn written(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into()).into_response()
}

fn result(result: &Value, words: Option<&str>) -> Response {
    let mut body = json!({ "ok": true, "result": result });
    if let Some(words) = words {
        body["description"] = words.into();
    }
    written(StatusCode::OK, body.to_string())
}

async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    let answered = respond(&front, request).await;
    let counted = match &answered {
        Ok(_) => BotCall::Answered,
        Err(refusal) if refusal.status.is_server_error() => BotCall::Failed,
        Err(_) => BotCall::Refused,
    };
    front.metrics.bot_call(counted);
    answered.unwrap_or_else(Refusal::answer)
}

async fn respond(front: &Front, request: Request) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let to = Address::read(head.uri.path(), &front.key)?;
    if head.method != Method::GET && head.method != Method::POST {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed: it must be GET or POST"));
    }
    let content_type = head.headers.get(CONTENT_TYPE).cloned();
    let (body, _room) = read(front, body).await?;
    let kind = content_type.as_ref().and_then(|kind| kind.to_str().ok());
    let params = Params::read(head.uri.query(), kind, &body);
    match to.method.to_ascii_lowercase().as_str() {
        "getupdates" => {
            let wanted = wanted(&params.map_err(|_| Refusal::bad("can't parse the parameters"))?)?;
            let updates = front.sessions.updates(&to.bot, wanted).await.inspect_err(|error| {
                tracing::debug!("bot {}: getUpdates: {error}", to.bot);
            })?;
            Ok(written(StatusCode::OK, format!("{{\"ok\":true,\"result\":[{}]}}", updates.join(","))))
        }
        "getwebhookinfo" => {
            let waiting = front.lags.of(&to.bot).await.map_err(|error| Refusal::fault(&error.to_string()))?;
            Ok(result(&json!({ "url": "", "has_custom_certificate": false, "pending_update_count": waiting }), None))
        }
        // The updates that wait are why the bot runs: none is dropped.
        "deletewebhook" => Ok(result(&Value::Bool(true), Some("Webhook is already deleted"))),
        "setwebhook" if params.as_ref().is_ok_and(|params| params.text("url").is_none()) => {
            Ok(result(&Value::Bool(true), Some("Webhook is already deleted")))
        }
        "setwebhook" => Err(Refusal::bad("the webhook belongs to the gateway; use getUpdates")),
        "logout" | "close" => Err(Refusal::bad("the bot belongs to the gateway, which goes on for it")),
        _ => {
            let query = head.uri.query().map(str::to_owned);
            let sent = Sent { method: head.method, query, content_type, body };
            // What cannot be read here Telegram says what is wrong with.
            let answered = front.through.pass(&to, &params.unwrap_or_default(), sent).await.map_err(|error| {
                tracing::debug!("bot {}: {}: {error}", to.bot, to.method);
                match error {
                    NoAnswer::TooMany(after) => Refusal::too_many(after),
                    NoAnswer::Fault(words) => Refusal::fault(&words),
                }
            })?;
            Ok(written(answered.status(), answered.into_body()))
        }
    }
}

/// The body, and its place among all bodies.
async fn read(front: &Front, body: Body) -> Result<(Bytes, tokio::sync::SemaphorePermit<'_>), Refusal> {
    let too_large = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
    // Without a length it may be the largest.
    let most = body.size_hint().upper().map_or(BODY_MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    if most > BODY_MAX {
        return Err(too_large());
    }
    let late = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "Request Timeout");
    tokio::time::timeout(BODY_WITHIN, async {
        // Never closed; and what one body may have is less than what all may.
        let room = front.bodies.acquire_many(most.div_ceil(1024) as u32).await.map_err(|_| too_large())?;
        Ok((to_bytes(body, most).await.map_err(|_| too_large())?, room))
    })
    .await
    .map_err(late)?
}

fn wanted(params: &Params) -> Result<Wanted, Refusal> {
    let number = |name| params.number(name).map_err(|name| Refusal::bad(&format!("{name} must be a whole number")));
    let allowed = match params.text("allowed_updates") {
        None => None,
        Some(text) => {
            let kinds: Vec<String> = serde_json::from_str(text).map_err(|_| Refusal::bad("can't parse allowed updates JSON array"))?;
            Some(if kinds.is_empty() { Allowed::Usual } else { Allowed::Only(kinds) })
        }
    };
    let wait = number("timeout")?.unwrap_or(0).clamp(0, WAIT_MAX);
    Ok(Wanted {
        // The last ones are asked for to forget the others. None is forgotten, so it is as if nothing was said.
        offset: number("offset")?.filter(|offset| *offset > 0),
        count: number("limit")?.unwrap_or(UPDATES_MAX).clamp(1, UPDATES_MAX) as usize,
        wait: Duration::from_secs(wait as u64),
        allowed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Wanted, String> {
        wanted(&Params::read(Some(query), None, b"").expect("parameters")).map_err(|refusal| refusal.words)
    }

    #[test]
    fn what_is_not_said_and_what_is_too_much_is_as_the_bot_api_has_it() {
        let usual = Wanted { offset: None, count: 100, wait: Duration::ZERO, allowed: None };
        assert_eq!(asked(""), Ok(usual.clone()));
        assert_eq!(asked("offset=-1&limit=1000&timeout=-3"), Ok(usual.clone()));
        let some = asked("offset=7&limit=0&timeout=900&allowed_updates=%5B%22message%22%5D");
        let allowed = Some(Allowed::Only(vec!["message".to_owned()]));
        assert_eq!(some, Ok(Wanted { offset: Some(7), count: 1, wait: Duration::from_secs(50), allowed }));
        assert_eq!(asked("allowed_updates=[]"), Ok(Wanted { allowed: Some(Allowed::Usual), ..usual }));
        assert_eq!(asked("limit=x"), Err("Bad Request: limit must be a whole number".to_owned()));
        assert_eq!(asked("allowed_updates=message"), Err("Bad Request: can't parse allowed updates JSON array".to_owned()));
    }
}
