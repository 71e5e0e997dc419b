//! Receivers of pushes, in the forms that scripts in the world already use: Uptime Kuma's and Healthchecks'.
//!
//! A push is a fact: it is recorded as a row and the engine is woken; nothing is decided here. There is no bearer token:
//! the path holds one of 128 random bits. It is written as 32 hex digits or as a UUID, so that one token serves both forms;
//! the monitor's public id is not accepted in its place, because whoever may read the API knows that.
//!
//! What is sent is for people and may be anything: it is read leniently, cut, and never refused for its content.

use super::Web;
use super::api::Segment;
use super::error::ApiError;
use crate::store::{PUSH_BODY_MAX, PushKind, PushRow};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use http_body_util::BodyExt as _;
use serde::Serialize;
use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use url::form_urlencoded;
use uuid::Uuid;
use watchkeeper_core::MonitorId;

/// Pushes of one monitor per second, in the long run. A job that reports start and end each second needs 2; more would let
/// one loop gone wild fill the table.
pub const PUSHES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).expect("5 is not zero");

/// Pushes of one monitor at once, after a pause: a queue that was held up is let through.
pub const PUSH_BURST: NonZeroU32 = NonZeroU32::new(60).expect("60 is not zero");

/// Calls of all push routes per second with tokens that have opened a monitor before, and as many with others: each is a query. A
/// store does several thousand; the rest is for heartbeats. Fewer would refuse large fleets at the full hour, when all their jobs report.
pub const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(2_000).expect("2 000 is not zero");

/// The body beyond what is kept is read up to this and thrown away, so that the sender sees the answer and not a reset.
const DRAIN_MAX: usize = 1024 * 1024;

/// A body must have come within this; a sender that is slower has said enough.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A reported round trip beyond this is taken for nonsense and left out.
const PING_MAX_MS: f64 = 86_400_000.0;

/// So many tokens are remembered. Fewer than there are jobs makes some of them strangers at each call; more would only take memory.
const KNOWN_MAX: usize = 100_000;

/// The limits over all pushes. Whoever has no token must not use up what is for those who have one.
pub(super) struct PushLimits {
    /// Tokens that have opened a monitor since the start.
    tokens: Mutex<HashSet<String>>,
    known: DefaultDirectRateLimiter,
    strangers: DefaultDirectRateLimiter,
    /// Keyed by monitor, not by what was sent: unknown tokens must not make it grow.
    each: DefaultKeyedRateLimiter<MonitorId>,
}

impl Default for PushLimits {
    fn default() -> Self {
        Self {
            tokens: Mutex::default(),
            known: RateLimiter::direct(Quota::per_second(CALLS_PER_SECOND)),
            strangers: RateLimiter::direct(Quota::per_second(CALLS_PER_SECOND)),
            each: RateLimiter::keyed(Quota::per_second(PUSHES_PER_SECOND).allow_burst(PUSH_BURST)),
        }
    }
}

impl PushLimits {
    fn tokens(&self) -> MutexGuard<'_, HashSet<String>> {
        match self.tokens.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Before the store is asked for this token.
    fn admit(&self, token: &str) -> Result<(), ApiError> {
        let limit = if self.tokens().contains(token) { &self.known } else { &self.strangers };
        limit.check().map_err(|_| ApiError::too_many("too many pushes at once; try again in a second"))
    }

    /// What the store said of it.
    fn learn(&self, token: &str, opens: bool) {
        let mut tokens = self.tokens();
        if !opens {
            tokens.remove(token);
        } else if tokens.len() < KNOWN_MAX {
            tokens.insert(token.to_owned());
        }
    }
}

/// A new push token: 128 random bits as 32 hex digits.
pub fn new_push_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(Uuid::from_bytes(bytes).simple().to_string())
}

/// The token as it is stored, without a UUID's hyphens; `None` for a text in no form that we give out. Public ids are stored
/// with their hyphens, or are words of the user's own: neither works as a token.
fn stored_form(token: &str) -> Option<String> {
    let given_out = matches!(token.len(), 32 | 36);
    Uuid::try_parse(token).ok().filter(|_| given_out).map(|uuid| uuid.simple().to_string())
}

/// What a push says.
struct Said {
    kind: PushKind,
    exit: Option<i32>,
    ping_us: Option<i64>,
    body: String,
}

/// Records one push.
async fn record(web: &Web, token: &str, said: Said) -> Result<(), ApiError> {
    let unknown = || ApiError::not_found("push token");
    let token = stored_form(token).ok_or_else(unknown)?;
    web.0.push_limits.admit(&token)?;
    let monitor = web.store.push_target(&token).await?;
    web.0.push_limits.learn(&token, monitor.is_some());
    let monitor = monitor.ok_or_else(unknown)?;
    if web.0.push_limits.each.check_key(&monitor).is_err() {
        return Err(ApiError::too_many(format!("a monitor may push {PUSHES_PER_SECOND} times a second")));
    }
    let Said { kind, exit, ping_us, body } = said;
    web.store.insert_push(&PushRow { id: 0, monitor, kind, exit, ping_us, body, at: web.clock.now() }).await?;
    web.control.wake_pushes.notify_one();
    Ok(())
}

/// Uptime Kuma's answer: `{"ok":true}` or `{"ok":false,"msg":"…"}`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct KumaAnswer {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg: Option<String>,
}

/// What its query is read for; leniently, so by hand.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "for the document alone")]
pub(super) struct KumaQuery {
    /// `up`, or any other word for a failure; `up` if not given.
    status: Option<String>,
    /// A message.
    msg: Option<String>,
    /// Milliseconds.
    ping: Option<f64>,
}

/// `GET|POST /api/push/{token}?status=up|down&msg=&ping=`: as in Uptime Kuma, no status is `up`, and any other word than `up`
/// is a failure.
pub(super) async fn kuma(State(web): State<Web>, token: Result<Segment, ApiError>, uri: Uri) -> Response {
    let result = match token {
        Ok(Segment(token)) => record(&web, &token, kuma_said(uri.query().unwrap_or_default())).await,
        Err(_) => Err(ApiError::not_found("push token")),
    };
    match result {
        Ok(()) => Json(KumaAnswer { ok: true, msg: None }).into_response(),
        Err(error) => (error.status, Json(KumaAnswer { ok: false, msg: Some(error.message) })).into_response(),
    }
}

fn kuma_said(query: &str) -> Said {
    let mut said = Said { kind: PushKind::Ok, exit: None, ping_us: None, body: String::new() };
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "status" => said.kind = if value.eq_ignore_ascii_case("up") { PushKind::Ok } else { PushKind::Fail },
            "msg" => said.body = kept(value.as_bytes()),
            "ping" => said.ping_us = ping_us(&value),
            // Others are Uptime Kuma's own to come; a script must not fail for them.
            _ => {}
        }
    }
    said
}

/// Milliseconds with a fraction, as Kuma's senders report them.
fn ping_us(text: &str) -> Option<i64> {
    let ms: f64 = text.trim().parse().ok()?;
    (0.0..=PING_MAX_MS).contains(&ms).then_some((ms * 1_000.0).round() as i64)
}

/// `GET|HEAD|POST /ping/{token}`: done well.
pub(super) async fn ping(State(web): State<Web>, token: Result<Segment, ApiError>, method: Method, body: Body) -> Response {
    match token {
        Ok(Segment(token)) => healthchecks(&web, &token, None, &method, body).await,
        Err(_) => text(StatusCode::NOT_FOUND, "not found"),
    }
}

/// `GET|HEAD|POST /ping/{token}/{action}`: `start`, `fail`, `log`, or an exit code from 0 to 255.
pub(super) async fn ping_action(
    State(web): State<Web>,
    path: Result<axum::extract::Path<(String, String)>, axum::extract::rejection::PathRejection>,
    method: Method,
    body: Body,
) -> Response {
    match path {
        Ok(axum::extract::Path((token, action))) => healthchecks(&web, &token, Some(&action), &method, body).await,
        Err(_) => text(StatusCode::NOT_FOUND, "not found"),
    }
}

async fn healthchecks(web: &Web, token: &str, action: Option<&str>, method: &Method, body: Body) -> Response {
    let Some((kind, exit)) = action_of(action) else {
        return text(StatusCode::BAD_REQUEST, "after the token comes nothing, start, fail, log, or an exit code from 0 to 255");
    };
    let body = if method == Method::POST { read_body(body).await } else { String::new() };
    match record(web, token, Said { kind, exit, ping_us: None, body }).await {
        Ok(()) => text(StatusCode::OK, "OK"),
        Err(error) => text(error.status, &error.message),
    }
}

/// What the last part of the path says.
fn action_of(action: Option<&str>) -> Option<(PushKind, Option<i32>)> {
    Some(match action {
        None => (PushKind::Ok, None),
        Some("start") => (PushKind::Start, None),
        Some("fail") => (PushKind::Fail, None),
        Some("log") => (PushKind::Log, None),
        Some(code) => {
            // `u8` also takes a plus sign; an exit code has only digits.
            let exit: u8 = code.parse().ok().filter(|_| code.bytes().all(|b| b.is_ascii_digit()))?;
            (if exit == 0 { PushKind::Ok } else { PushKind::Fail }, Some(i32::from(exit)))
        }
    })
}

/// Healthchecks' senders read plain text, and this header to know what is kept.
fn text(status: StatusCode, message: &str) -> Response {
    const LIMIT: HeaderName = HeaderName::from_static("ping-body-limit");
    let mut response = (status, message.to_owned()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(LIMIT, HeaderValue::from(PUSH_BODY_MAX));
    response
}

/// Reads what is kept of a body, and a little beyond. A body that breaks off keeps what came.
async fn read_body(mut body: Body) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        let mut seen = 0_usize;
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            seen += data.len();
            let room = PUSH_BODY_MAX.saturating_sub(bytes.len());
            bytes.extend_from_slice(&data[..data.len().min(room)]);
            if seen > DRAIN_MAX {
                break;
            }
        }
    };
    // Late is as good as cut.
    let _ = tokio::time::timeout(BODY_TIMEOUT, reading).await;
    kept(&bytes)
}

/// As text that both stores take: invalid UTF-8 and NUL replaced, cut to [`PUSH_BODY_MAX`] bytes at a character.
fn kept(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(PUSH_BODY_MAX)]).replace('\0', "\u{fffd}");
    let mut end = text.len().min(PUSH_BODY_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_the_same_token_without_its_hyphens() {
        let token = new_push_token().unwrap();
        assert_eq!(token.len(), 32);
        let hyphens = Uuid::try_parse(&token).unwrap().hyphenated().to_string();
        assert_eq!(stored_form(&hyphens).as_deref(), Some(token.as_str()));
        assert_eq!(stored_form(&hyphens.to_uppercase()).as_deref(), Some(token.as_str()));
        assert_eq!(stored_form(&token).as_deref(), Some(token.as_str()));
        for other in ["", "nightly", &format!("{{{hyphens}}}"), &format!("urn:uuid:{hyphens}"), &token[1..], "\0"] {
            assert_eq!(stored_form(other), None, "{other:?}");
        }
        assert_ne!(new_push_token().unwrap(), token);
    }

    #[test]
    fn strangers_use_up_nothing_that_is_for_those_who_have_a_token() {
        let limits = PushLimits::default();
        limits.admit("a job's").unwrap();
        limits.learn("a job's", true);
        let guesses = (0..10_000).map(|nth| format!("guess {nth}"));
        let refused = guesses.filter(|guess| limits.admit(guess).inspect(|()| limits.learn(guess, false)).is_err()).count();
        assert!(refused > 0, "guessing has a limit");
        limits.admit("a job's").expect("the job's push is admitted all the while");
        limits.learn("a job's", false);
        assert!(!limits.tokens().contains("a job's"), "a token that opens nothing any more is a stranger's");
    }

    #[test]
    fn actions_are_the_four_words_and_exit_codes() {
        let cases = [
            (None, Some((PushKind::Ok, None))),
            (Some("start"), Some((PushKind::Start, None))),
            (Some("fail"), Some((PushKind::Fail, None))),
            (Some("log"), Some((PushKind::Log, None))),
            (Some("0"), Some((PushKind::Ok, Some(0)))),
            (Some("255"), Some((PushKind::Fail, Some(255)))),
            (Some("256"), None),
            (Some("-1"), None),
            (Some("+1"), None),
            (Some(""), None),
            (Some("Start"), None),
        ];
        for (action, want) in cases {
            assert_eq!(action_of(action), want, "{action:?}");
        }
    }

    #[test]
    fn kumas_query_is_read_leniently() {
        let said = kuma_said("status=up&msg=all%20fine&ping=12.5&shape=round");
        assert_eq!((said.kind, said.body.as_str(), said.ping_us), (PushKind::Ok, "all fine", Some(12_500)));
        assert_eq!(kuma_said("").kind, PushKind::Ok);
        assert_eq!(kuma_said("status=UP").kind, PushKind::Ok);
        assert_eq!(kuma_said("status=down").kind, PushKind::Fail);
        assert_eq!(kuma_said("status=failed").kind, PushKind::Fail);
        for nonsense in ["", "NaN", "-1", "inf", "1e300", "soon"] {
            assert_eq!(kuma_said(&format!("ping={nonsense}")).ping_us, None, "{nonsense}");
        }
        assert_eq!(kuma_said("msg=%ff%00x").body, "\u{fffd}\u{fffd}x");
    }

    #[test]
    fn what_is_kept_is_cut_at_a_character() {
        let long = "é".repeat(PUSH_BODY_MAX);
        let text = kept(long.as_bytes());
        assert_eq!(text.len(), PUSH_BODY_MAX);
        assert!(text.chars().all(|c| c == 'é'));
        // One byte off, the last character does not fit; its half becomes no more than what fits.
        let text = kept(format!("a{long}").as_bytes());
        assert!(text.len() <= PUSH_BODY_MAX && text.starts_with("aé"));
        // Replacing makes it longer: still cut.
        assert!(kept(&vec![0xff; PUSH_BODY_MAX]).len() <= PUSH_BODY_MAX);
    }
}
