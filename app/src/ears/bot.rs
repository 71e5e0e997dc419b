//! Calls of Telegram's Bot API that listen and answer.
//!
//! One call is one attempt, made by the channel's own caller, which keeps the token out of every text.
//! Source: <https://core.telegram.org/bots/api>.

use crate::channel::answer::ANSWER_MAX;
use crate::channel::telegram::{Api, Meant};
use crate::channel::{Refused, RefusedClass, Retry};
use crate::net::Net;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use watchkeeper_core::Dur;

/// How long the server holds `getUpdates` while there is nothing. Longer is cut by proxies in between; shorter asks more often.
pub(super) const HELD: Duration = Duration::from_secs(25);
/// A held call may take so much longer than it is held.
const HELD_MARGIN: Duration = Duration::from_secs(10);
/// Any other call is ended after so long.
const CALL_MAX: Duration = Duration::from_secs(10);
/// So many updates are asked for at once: with the longest texts and quoted messages they stay well under [`UPDATES_MAX`].
pub(super) const UPDATES_AT_ONCE: usize = 20;
/// A larger answer is refused. The longest update has some 100 KiB; more would only fill the memory.
const UPDATES_MAX: usize = 4 * 1024 * 1024;

/// A bot that listens and answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bot(pub Api);

/// Why a call did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What to do about it.
    pub kind: TroubleKind,
    /// For the operator; holds no secret.
    pub text: String,
}

/// What a failed call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TroubleKind {
    /// Somebody else listens to this bot, or a webhook is set.
    Conflict,
    /// The token is not accepted.
    Auth,
    /// Not before so long.
    Asked(Dur),
    /// The call itself is not accepted: the same again would fail again.
    Call,
    /// It may pass.
    Passing,
}

/// An update as it comes; what is not asked for is not read.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Update {
    pub message: Option<Message>,
    pub callback_query: Option<CallbackQuery>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Message {
    /// Seconds since 1970; 0 for one that is no longer accessible.
    #[serde(default)]
    pub date: i64,
    pub chat: Chat,
    pub from: Option<User>,
    #[serde(rename = "message_thread_id")]
    pub thread: Option<i64>,
    #[serde(default, rename = "is_topic_message")]
    pub in_topic: bool,
    pub text: Option<String>,
}

impl Message {
    /// The topic, if it stands in one: threads of replies have numbers too, but are none.
    pub(super) fn topic(&self) -> Option<i64> {
        self.thread.filter(|_| self.in_topic)
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Chat {
    pub id: i64,
    pub username: Option<String>,
    #[serde(default, rename = "type")]
    pub kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct User {
    #[serde(default)]
    pub first_name: String,
    pub username: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct CallbackQuery {
    pub id: String,
    pub from: User,
    pub message: Option<Message>,
    pub data: Option<String>,
}

impl Bot {
    /// The bot's name, without `@`.
    pub(super) async fn name(&self, net: &Arc<Net>) -> Result<String, Trouble> {
        let me: User = self.call(net, "getMe", &json!({}), CALL_MAX, ANSWER_MAX).await?;
        Ok(me.username.unwrap_or_default())
    }

    /// Updates from `offset` on, each as JSON with its `update_id`; all before it are confirmed. Held by the server for `held`
    /// while there are none.
    pub(super) async fn updates(&self, net: &Arc<Net>, offset: Option<i64>, held: Duration) -> Result<Vec<Value>, Trouble> {
        let mut body = json!({
            "timeout": held.as_secs(),
            "limit": UPDATES_AT_ONCE,
            "allowed_updates": ["message", "callback_query"],
        });
        if let Some(offset) = offset {
            body["offset"] = Value::from(offset);
        }
        self.call(net, "getUpdates", &body, held + HELD_MARGIN, UPDATES_MAX).await
    }

    /// Writes a message in Telegram's HTML.
    pub(super) async fn write(&self, net: &Arc<Net>, chat: i64, topic: Option<i64>, html: &str) -> Result<(), Trouble> {
        let mut body = json!({
            "chat_id": chat,
            "text": html,
            "parse_mode": "HTML",
            "link_preview_options": { "is_disabled": true },
        });
        if let Some(topic) = topic {
            body["message_thread_id"] = Value::from(topic);
        }
        self.call::<Value>(net, "sendMessage", &body, CALL_MAX, ANSWER_MAX).await.map(drop)
    }

    /// Says to the person who pressed a button what came of it.
    pub(super) async fn answer(&self, net: &Arc<Net>, query: &str, text: &str) -> Result<(), Trouble> {
        let body = json!({ "callback_query_id": query, "text": text });
        self.call::<Value>(net, "answerCallbackQuery", &body, CALL_MAX, ANSWER_MAX).await.map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        net: &Arc<Net>,
        method: &str,
        body: &Value,
        within: Duration,
        max: usize,
    ) -> Result<T, Trouble> {
        let trouble = |kind, text: &str| Trouble { kind, text: format!("{method}: {text}") };
        let meant = self
            .0
            .call(net, method, body, Instant::now() + within, max)
            .await
            .map_err(|refused| trouble(kind_of(&refused), &refused.text))?;
        match meant {
            Meant::Done(result) => serde_json::from_value(result)
                .map_err(|_| trouble(TroubleKind::Passing, "Telegram's answer was cut off or is of another kind")),
            Meant::Conflict(refused) => Err(trouble(TroubleKind::Conflict, &refused.text)),
            Meant::Refused(refused) => Err(trouble(kind_of(&refused), &refused.text)),
            Meant::Moved(id) => Err(trouble(TroubleKind::Call, &format!("the group has become a supergroup: set chat_id to {id}"))),
            Meant::BadEntities | Meant::NotEditable | Meant::Unchanged => {
                Err(trouble(TroubleKind::Call, "Telegram does not take the text"))
            }
        }
    }
}

const fn kind_of(refused: &Refused) -> TroubleKind {
    match (refused.class, refused.retry) {
        (RefusedClass::Auth, _) => TroubleKind::Auth,
        (_, Retry::After(asked)) => TroubleKind::Asked(asked),
        (_, Retry::Soon) => TroubleKind::Passing,
        (_, Retry::Never) => TroubleKind::Call,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_replies_is_no_topic() {
        let message = |json: &str| serde_json::from_str::<Message>(json).unwrap();
        assert_eq!(message(r#"{"chat":{"id":1},"message_thread_id":5}"#).topic(), None);
        assert_eq!(message(r#"{"chat":{"id":1},"message_thread_id":5,"is_topic_message":true}"#).topic(), Some(5));
    }
}
