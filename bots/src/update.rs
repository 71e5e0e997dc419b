//! An update of Telegram's: what is read of it, and how it travels. It is passed on as it came, byte for byte; only its number and the
//! chat that it is about are looked at.

use crate::names::BotId;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Why something is no update.
#[derive(Debug, thiserror::Error)]
pub enum NotAnUpdate {
    /// Not JSON, or no object.
    #[error("not a JSON object")]
    Json(#[from] serde_json::Error),
    /// `update_id` is missing, or no number.
    #[error("update_id is missing or no number")]
    NoId,
}

/// An update.
#[derive(Debug)]
pub struct Update<'a> {
    raw: &'a RawValue,
    /// Its number.
    pub id: i64,
    /// What must stay in order: the chat; where there is none, the person; else the update itself.
    pub key: String,
}

/// The places where the different kinds of updates say what they are about, best first.
#[derive(Debug, Default, Deserialize)]
struct About {
    chat: Option<WithId>,
    message: Option<WithChat>,
    voter_chat: Option<WithId>,
    from: Option<WithId>,
    user: Option<WithId>,
    user_chat_id: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct WithChat {
    chat: Option<WithId>,
}

#[derive(Debug, Deserialize)]
struct WithId {
    id: i64,
}

impl About {
    fn key(self) -> Option<i64> {
        let chat = self.chat.or_else(|| self.message.and_then(|message| message.chat));
        chat.or(self.voter_chat).or(self.from).or(self.user).map(|found| found.id).or(self.user_chat_id)
    }
}

impl<'a> Update<'a> {
    /// Reads what came.
    pub fn read(bytes: &'a [u8]) -> Result<Self, NotAnUpdate> {
        let raw: &RawValue = serde_json::from_slice(bytes)?;
        let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(raw.get())?;
        let id = fields.get("update_id").and_then(|id| id.get().parse().ok()).ok_or(NotAnUpdate::NoId)?;
        // An update holds one thing; of a kind that is not known yet, the same places are tried.
        let about = fields.iter().filter(|(name, _)| *name != "update_id").find_map(|(_, field)| {
            let about: About = serde_json::from_str(field.get()).ok()?;
            about.key()
        });
        Ok(Self { raw, id, key: about.unwrap_or(id).to_string() })
    }

    /// As a bot's worker reads it from Kafka: `{"bot_id": …, "update": …}`.
    pub fn envelope(&self, bot: &BotId) -> String {
        format!("{{\"bot_id\":\"{bot}\",\"update\":{}}}", self.raw.get())
    }
}

/// An update as it lies in an incoming topic, to be given out by `getUpdates` under a number of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `message`, `callback_query`, …
    pub kind: String,
    /// Everything behind the number, as it came: `,"message":{…}}`.
    rest: String,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    update: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl Waiting {
    /// Reads what [`Update::envelope`] wrote.
    pub fn read(envelope: &[u8]) -> Result<Self, NotAnUpdate> {
        let Envelope { update } = serde_json::from_slice(envelope)?;
        if !update.contains_key("update_id") {
            return Err(NotAnUpdate::NoId);
        }
        let (mut kind, mut rest) = (String::new(), String::new());
        for (name, value) in update.iter().filter(|(name, _)| *name != "update_id") {
            rest.push_str(&format!(",{}:{}", serde_json::to_string(name)?, value.get()));
            if kind.is_empty() {
                kind = name.to_string();
            }
        }
        rest.push('}');
        Ok(Self { kind, rest })
    }

    /// Under that number.
    pub fn numbered(&self, number: i64) -> String {
        format!("{{\"update_id\":{number}{}", self.rest)
    }

    /// How many bytes it has, about.
    pub const fn size(&self) -> usize {
        self.rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> String {
        Update::read(text.as_bytes()).expect("an update").key
    }

    #[test]
    fn the_key_is_the_chat_wherever_it_stands() {
        assert_eq!(key(r#"{"update_id":1,"message":{"message_id":3,"chat":{"id":-100},"from":{"id":7},"text":"x"}}"#), "-100");
        assert_eq!(key(r#"{"update_id":1,"edited_channel_post":{"chat":{"id":-5}}}"#), "-5");
        let query = r#"{"update_id":1,"callback_query":{"id":"9","from":{"id":7},"message":{"chat":{"id":-100}},"data":"x"}}"#;
        assert_eq!(key(query), "-100");
        assert_eq!(key(r#"{"update_id":1,"inline_query":{"id":"9","from":{"id":7},"query":""}}"#), "7");
        assert_eq!(key(r#"{"update_id":1,"poll_answer":{"poll_id":"9","voter_chat":{"id":-3},"user":{"id":7}}}"#), "-3");
        assert_eq!(key(r#"{"update_id":1,"business_connection":{"id":"x","user_chat_id":8}}"#), "8");
        assert_eq!(key(r#"{"update_id":12,"poll":{"id":"9"}}"#), "12");
        assert_eq!(key(r#"{"update_id":12,"invented_later":{"chat":{"id":4}}}"#), "4");
        assert_eq!(key(r#"{"update_id":12}"#), "12");
    }

    #[test]
    fn it_travels_as_it_came() {
        let sent = " {\"message\" : {\"photo\":[1.50, \"\\u0041\"], \"big\":12345678901234567890123},\"update_id\":7 }\n";
        let bot: BotId = "a1".to_owned().try_into().expect("an id");
        let travels = Update::read(sent.as_bytes()).expect("an update").envelope(&bot);
        assert_eq!(travels, format!("{{\"bot_id\":\"a1\",\"update\":{}}}", sent.trim()));
    }

    #[test]
    fn it_is_given_out_under_another_number_and_otherwise_as_it_came() {
        let sent = r#"{"message" : {"photo":[1.50, "\u0041"]},"update_id":7 }"#;
        let bot: BotId = "a1".to_owned().try_into().expect("an id");
        let travels = Update::read(sent.as_bytes()).expect("an update").envelope(&bot);
        let waiting = Waiting::read(travels.as_bytes()).expect("an update");
        assert_eq!(
            (waiting.kind.as_str(), waiting.numbered(900).as_str()),
            ("message", r#"{"update_id":900,"message":{"photo":[1.50, "\u0041"]}}"#)
        );
        assert_eq!(Waiting::read(br#"{"update":{"update_id":7}}"#).expect("an update").numbered(1), r#"{"update_id":1}"#);
        for bad in ["", "{}", r#"{"update":7}"#, r#"{"update":{"message":{}}}"#] {
            assert!(Waiting::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_update_is_named() {
        for bad in ["", "[]", "7", "{\"update_id\":1", "{\"update_id\":1} x", "\"x\""] {
            assert!(matches!(Update::read(bad.as_bytes()), Err(NotAnUpdate::Json(_))), "{bad}");
        }
        for bad in ["{}", r#"{"update_id":"1"}"#, r#"{"update_id":null}"#, r#"{"update_id":1.5}"#] {
            assert!(matches!(Update::read(bad.as_bytes()), Err(NotAnUpdate::NoId)), "{bad}");
        }
        assert!(Update::read(b"{\"update_id\":1,\"x\":\"\xff\"}").is_err());
    }
}
