//! One call to Telegram's Bot API, and what its answer means. It never waits, retries or counts: that is the sender's.
//! Source: <https://core.telegram.org/bots/api#making-requests>.

use crate::client::{Client, Fault};
use crate::secret::BotToken;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// A call is answered within this, or has failed. Shorter would repeat what Telegram was about to take, longer would hold up a chat.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The longest answer: what is sent back of a message. More is memory.
const ANSWER_MAX: usize = 1024 * 1024;

/// So much of a refusal's words is kept.
const WORDS_MAX: usize = 200;

/// Why a call was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Too many: not before that time has passed.
    TooMany(Duration),
    /// It will never be taken as it is.
    Refused {
        /// 400, 403, …
        status: u16,
        /// Telegram's words, without the token.
        words: String,
        /// The group has another number now.
        migrated_to: Option<i64>,
    },
    /// Nobody knows: no answer, or a fault of Telegram's.
    Fault(String),
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    result: Option<Value>,
    description: Option<String>,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
struct Parameters {
    retry_after: Option<u64>,
    migrate_to_chat_id: Option<i64>,
}

/// The Bot API at one address.
#[derive(Clone)]
pub struct BotApi {
    client: Client,
    base: String,
}

impl BotApi {
    /// The one at that URL.
    pub fn new(client: Client, base: &Url) -> Self {
        Self { client, base: base.as_str().trim_end_matches('/').to_owned() }
    }

    /// Hands on a call of somebody else's as it is, and what it is answered. `target` is the method, with its query if there is one.
    pub async fn hand_on(
        &self,
        token: &BotToken,
        target: &str,
        mut request: Request<Full<Bytes>>,
        within: Duration,
        answer_max: usize,
    ) -> Result<http::Response<Bytes>, Fault> {
        let url = format!("{}/bot{}/{target}", self.base, token.expose());
        *request.uri_mut() = url.parse().map_err(|_| Fault::Connection("it has no address that can be called".to_owned()))?;
        self.client.send(request, within, answer_max).await
    }

    /// Makes a call with a JSON object of parameters.
    pub async fn call(&self, token: &BotToken, method: &str, params: String) -> Result<Value, CallError> {
        let mut request = Request::new(Full::new(Bytes::from(params)));
        *request.method_mut() = Method::POST;
        let url = format!("{}/bot{}/{method}", self.base, token.expose());
        // A token and a method are of letters that a URL takes.
        *request.uri_mut() = url.parse().map_err(|_| CallError::Fault("BOT_API_URL cannot be called".to_owned()))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answered = self.client.send(request, ANSWER_WITHIN, ANSWER_MAX).await;
        read(token, answered)
    }
}

fn read(token: &BotToken, answered: Result<http::Response<Bytes>, Fault>) -> Result<Value, CallError> {
    let answered = answered.map_err(|fault| CallError::Fault(token.redact(&fault.to_string())))?;
    let status = answered.status();
    let answer = serde_json::from_slice::<Answer>(answered.body());
    let words = |answer: Option<&Answer>| {
        let words = answer.and_then(|answer| answer.description.as_deref()).or(status.canonical_reason()).unwrap_or_default();
        token.redact(words).chars().take(WORDS_MAX).collect::<String>()
    };
    match answer {
        Ok(answer) if status.is_success() && answer.ok => Ok(answer.result.unwrap_or_default()),
        Ok(answer) if status == StatusCode::TOO_MANY_REQUESTS => {
            Err(CallError::TooMany(Duration::from_secs(answer.parameters.retry_after.unwrap_or(1))))
        }
        Err(_) if status == StatusCode::TOO_MANY_REQUESTS => Err(CallError::TooMany(Duration::from_secs(1))),
        Ok(answer) if status.is_client_error() => Err(CallError::Refused {
            status: status.as_u16(),
            words: words(Some(&answer)),
            migrated_to: answer.parameters.migrate_to_chat_id,
        }),
        Ok(answer) => Err(CallError::Fault(format!("{}: {}", status.as_u16(), words(Some(&answer))))),
        // A proxy's page, or an answer that was cut: whatever its status says, Telegram did not say it.
        Err(_) => Err(CallError::Fault(format!("{} with something that is no answer of the Bot API", status.as_u16()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Value, CallError> {
        let token = BotToken::new("1:secret").expect("a token");
        let response = http::Response::builder().status(status).body(Bytes::from(body.to_owned())).expect("a response");
        read(&token, Ok(response))
    }

    #[test]
    fn an_answer_means_what_telegram_says() {
        assert_eq!(answer(200, r#"{"ok":true,"result":7}"#), Ok(Value::from(7)));
        let body = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 7","parameters":{"retry_after":7}}"#;
        assert_eq!(answer(429, body), Err(CallError::TooMany(Duration::from_secs(7))));
        assert_eq!(answer(429, "slow down"), Err(CallError::TooMany(Duration::from_secs(1))));
        let refused = answer(403, r#"{"ok":false,"description":"Forbidden: bot 1:secret was blocked"}"#);
        assert_eq!(refused, Err(CallError::Refused { status: 403, words: "Forbidden: bot *** was blocked".into(), migrated_to: None }));
        let moved = answer(400, r#"{"ok":false,"description":"x","parameters":{"migrate_to_chat_id":-1009}}"#);
        assert_eq!(moved, Err(CallError::Refused { status: 400, words: "x".into(), migrated_to: Some(-1009) }));
        assert_eq!(answer(502, r#"{"ok":false,"description":"Bad Gateway"}"#), Err(CallError::Fault("502: Bad Gateway".into())));
    }

    #[test]
    fn what_telegram_did_not_say_is_no_answer() {
        for (status, body) in [(200, "<html>"), (404, "<html>"), (200, r#"{"ok":tr"#), (403, "")] {
            assert!(matches!(answer(status, body), Err(CallError::Fault(_))), "{status} {body}");
        }
        assert!(matches!(answer(200, r#"{"ok":false}"#), Err(CallError::Fault(_))));
    }
}
