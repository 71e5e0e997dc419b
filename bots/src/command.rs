//! A call to the Bot API as workers write it into an outgoing topic: `{"bot_token", "method", "params"}`.

use crate::secret::BotToken;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The longest method of the Bot API has 35 letters; more is none.
const METHOD_MAX: usize = 64;

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    bot_token: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct WireOut<'a, P> {
    bot_token: &'a str,
    method: &'a str,
    params: &'a P,
}

/// Where a call goes, as far as budgets and order are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chat(pub String);

impl Chat {
    /// Groups and channels have negative numbers, and public ones a name; they are allowed less.
    pub fn is_group(&self) -> bool {
        self.0.starts_with('-') || self.0.starts_with('@')
    }
}

#[derive(Deserialize)]
struct WithChat<'a> {
    #[serde(borrow)]
    chat_id: Option<&'a RawValue>,
}

/// A call to the Bot API.
#[derive(Debug)]
pub struct Command {
    /// Whose.
    pub token: BotToken,
    /// `sendMessage`, …
    pub method: String,
    /// A JSON object, as the worker wrote it.
    pub params: String,
    /// The chat that it writes into, if it is about one.
    pub chat: Option<Chat>,
}

/// Why something is no call. It is never quoted: there is a token in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACommand {
    /// Not JSON, or fields are missing.
    #[error("not a JSON object with bot_token, method and params")]
    Json,
    /// `bot_token` is none.
    #[error("bot_token is not a bot's token")]
    Token,
    /// `method` is none.
    #[error("method is not the name of a method")]
    Method,
    /// `params` is not an object.
    #[error("params is not a JSON object")]
    Params,
}

impl Command {
    /// Reads what a worker wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, NotACommand> {
        let wire: Wire<'_> = serde_json::from_slice(bytes).map_err(|_| NotACommand::Json)?;
        let token = BotToken::new(&wire.bot_token).map_err(|_| NotACommand::Token)?;
        let letters = wire.method.bytes().all(|b| b.is_ascii_alphabetic());
        if !letters || !(1..=METHOD_MAX).contains(&wire.method.len()) {
            return Err(NotACommand::Method);
        }
        let params = wire.params.map_or("{}", RawValue::get);
        if !params.starts_with('{') {
            return Err(NotACommand::Params);
        }
        let WithChat { chat_id } = serde_json::from_str(params).map_err(|_| NotACommand::Params)?;
        let chat = chat_id.map(|id| Chat(id.get().trim_matches('"').to_owned()));
        Ok(Self { token, method: wire.method.into_owned(), params: params.to_owned(), chat })
    }

    /// As it stands in an outgoing topic.
    pub fn wire(token: &BotToken, method: &str, params: &impl Serialize) -> serde_json::Result<String> {
        serde_json::to_string(&WireOut { bot_token: token.expose(), method, params })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let token = BotToken::new("1:x").expect("a token");
        let params = json!({"chat_id": -100, "text": "é\n"});
        let wire = Command::wire(&token, "sendMessage", &params).expect("JSON");
        let read = Command::read(wire.as_bytes()).expect("a call");
        assert_eq!((read.token.expose(), read.method.as_str()), ("1:x", "sendMessage"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&read.params).expect("JSON"), params);
        assert_eq!(read.chat, Some(Chat("-100".into())));
        assert!(Chat("-100".into()).is_group() && Chat("@news".into()).is_group() && !Chat("7".into()).is_group());
        assert!(!format!("{read:?}").contains("1:x"));
    }

    #[test]
    fn what_could_reach_something_else_is_refused() {
        let read = |text: &str| Command::read(text.as_bytes()).map(|command| command.method);
        assert_eq!(read(r#"{"bot_token":"1:x","method":"getMe"}"#), Ok("getMe".into()));
        assert_eq!(read(r#"{"bot_token":"1:x/../2:y","method":"getMe"}"#), Err(NotACommand::Token));
        assert_eq!(read(r#"{"bot_token":"1:x","method":"get/Me"}"#), Err(NotACommand::Method));
        assert_eq!(read(r#"{"bot_token":"1:x","method":""}"#), Err(NotACommand::Method));
        assert_eq!(read(r#"{"bot_token":"1:x","method":"getMe","params":[]}"#), Err(NotACommand::Params));
        assert_eq!(read(r#"{"method":"getMe"}"#), Err(NotACommand::Json));
        assert_eq!(read("x"), Err(NotACommand::Json));
    }
}
