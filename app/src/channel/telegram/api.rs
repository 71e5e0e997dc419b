//! One call of the Bot API, and what its answer means.
//!
//! The token is part of the URL, so no URL is ever shown, and what Telegram says is scrubbed of it.
//! Source: <https://core.telegram.org/bots/api#making-requests>.

use crate::channel::{Refused, RefusedClass, Retry, USER_AGENT, answer};
use crate::net::{Net, Request};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;
use url::Url;
use watchkeeper_core::Dur;

/// A bot at a server of the Bot API.
#[derive(Clone, Debug)]
pub struct Api {
    token: SecretString,
    /// Without a slash at its end.
    url: String,
}

/// An answer of the Bot API.
#[derive(Debug, Deserialize)]
struct Envelope {
    ok: bool,
    #[serde(default)]
    description: String,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Debug, Default, Deserialize)]
struct Parameters {
    retry_after: Option<u32>,
    migrate_to_chat_id: Option<i64>,
}

/// What one answer means.
#[derive(Debug, PartialEq)]
pub enum Meant {
    /// It was done; the `result` as it came, `null` if the answer was cut off behind its yes.
    Done(Value),
    /// The group has this id now.
    Moved(i64),
    /// Telegram could not read the text's markup.
    BadEntities,
    /// The message to edit is gone, or is not to be edited.
    NotEditable,
    /// It says already what it was to say.
    Unchanged,
    /// Somebody else listens to this bot, or a webhook is set.
    Conflict(Refused),
    /// Anything else.
    Refused(Refused),
}

/// Two bots are the same if they are called the same way.
impl PartialEq for Api {
    fn eq(&self, other: &Self) -> bool {
        self.token() == other.token() && self.url == other.url
    }
}

impl Api {
    /// A bot by its token.
    pub const fn new(token: SecretString, url: String) -> Self {
        Self { token, url }
    }

    /// The bot's number, which is no secret.
    pub fn number(&self) -> &str {
        self.token.expose_secret().split(':').next().unwrap_or_default()
    }

    /// Where its server is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token itself, for the hash of the configuration.
    pub(super) fn token(&self) -> &str {
        self.token.expose_secret()
    }

    /// Calls one method with JSON parameters, ended by the deadline; at most `most` bytes of the answer are read.
    ///
    /// # Errors
    /// A server that was not reached or did not answer; an answer that refuses is [`Meant::Refused`].
    pub async fn call(&self, net: &Arc<Net>, method: &str, parameters: &Value, deadline: Instant, most: usize) -> Result<Meant, Refused> {
        let token = self.token.expose_secret();
        let url = Url::parse(&format!("{}/bot{token}/{method}", self.url))
            .map_err(|_| answer::refused(RefusedClass::Client, Retry::Never, "api_url and bot_token make no URL"))?;
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let request = Request { method: Method::POST, url, headers, body: parameters.to_string().into() };
        let secrets = self.secrets();
        let answer = net.send(&request, deadline, most).await.map_err(|fault| answer::unreached(&fault, &secrets))?;
        Ok(understand(answer.status, &answer.body, &secrets))
    }

    /// Whole and without the bot's number, which alone is no secret.
    fn secrets(&self) -> [&str; 2] {
        let token = self.token.expose_secret();
        [token, token.split_once(':').map_or(token, |(_, key)| key)]
    }
}

fn understand(status: StatusCode, body: &[u8], secrets: &[&str]) -> Meant {
    let Ok(answer) = serde_json::from_slice::<Envelope>(body) else {
        if status.is_success() && body.starts_with(br#"{"ok":true"#) {
            // The answer was cut off, but the message is in the chat: another attempt would write it twice.
            return Meant::Done(Value::Null);
        }
        let (class, retry) = answer::classify(status, None);
        let (class, retry) = if status.is_success() { (RefusedClass::Server, Retry::Soon) } else { (class, retry) };
        let text = format!("Telegram answered {status} with something other than the Bot API's JSON: {}", answer::excerpt(body, secrets));
        return Meant::Refused(answer::refused(class, retry, text));
    };
    if answer.ok && status.is_success() {
        return Meant::Done(answer.result);
    }
    if let Some(id) = answer.parameters.migrate_to_chat_id {
        return Meant::Moved(id);
    }
    if status == StatusCode::BAD_REQUEST {
        // The Bot API has no codes for these; its sentences have been the same for years.
        let said = |words: &str| answer.description.contains(words);
        if said("can't parse entities") {
            return Meant::BadEntities;
        }
        if said("message is not modified") {
            return Meant::Unchanged;
        }
        if said("message to edit not found") || said("message can't be edited") || said("MESSAGE_ID_INVALID") {
            return Meant::NotEditable;
        }
    }
    let asked = answer.parameters.retry_after.map(|s| Dur::secs(i64::from(s)));
    let (class, retry) = match status {
        // The path holds the token: a token that Telegram does not know is a page that is not found.
        StatusCode::NOT_FOUND => (RefusedClass::Auth, Retry::Never),
        other => answer::classify(other, asked),
    };
    let said = answer::excerpt(answer.description.as_bytes(), secrets);
    let refused = answer::refused(class, retry, format!("Telegram answered {}: {said}", status.as_u16()));
    if status == StatusCode::CONFLICT { Meant::Conflict(refused) } else { Meant::Refused(refused) }
}
