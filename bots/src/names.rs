//! What a bot is called everywhere: its id, and the names that follow from it.
//!
//! Every name is made from the id alone, so that no part has to ask another what a bot's topics or objects are called.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An id has at most so many digits. Fewer could meet by chance; more would make names longer than Kubernetes takes.
const ID_MAX: usize = 32;

/// Half as many bytes are drawn for a new id as it has digits: 48 bits, so that two of a million bots meet once in 500 installations.
const ID_BYTES: usize = 6;

/// A bot, in this installation: lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct BotId(String);

/// The text is no bot's id.
#[derive(Debug, thiserror::Error)]
#[error("a bot's id is 1 to {ID_MAX} lower-case hexadecimal digits")]
pub struct NotAnId;

impl BotId {
    /// Draws a new one.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex(&bytes)))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic of its updates.
    pub fn incoming(&self) -> String {
        format!("bot_{self}_incoming")
    }

    /// The topic of its calls to the Bot API.
    pub fn outgoing(&self) -> String {
        format!("bot_{self}_outgoing")
    }

    /// The topic of the calls that the Bot API will never take.
    pub fn parked(&self) -> String {
        format!("bot_{self}_parked")
    }

    /// The consumer group of its workers.
    pub fn group(&self) -> String {
        format!("bot_{self}_workers")
    }

    /// The bot whose outgoing topic that is.
    pub fn of_outgoing(topic: &str) -> Option<Self> {
        topic.strip_prefix("bot_")?.strip_suffix("_outgoing")?.to_owned().try_into().ok()
    }
}

/// All outgoing topics, as a consumer subscribes to them.
pub const ALL_OUTGOING: &str = "^bot_[0-9a-f]+_outgoing$";

impl TryFrom<String> for BotId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if digits && (1..=ID_MAX).contains(&text.len()) { Ok(Self(text)) } else { Err(NotAnId) }
    }
}

impl fmt::Display for BotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Result<BotId, NotAnId> {
        text.to_owned().try_into()
    }

    #[test]
    fn every_name_follows_from_the_id() {
        let bot = id("abc123def456").expect("an id");
        assert_eq!((bot.incoming(), bot.outgoing()), ("bot_abc123def456_incoming".into(), "bot_abc123def456_outgoing".into()));
        assert_eq!((bot.group(), bot.parked()), ("bot_abc123def456_workers".into(), "bot_abc123def456_parked".into()));
        assert_eq!(BotId::of_outgoing(&bot.outgoing()), Some(bot.clone()));
        assert_eq!(BotId::of_outgoing(&bot.incoming()), None);
    }

    #[test]
    fn only_digits_are_an_id() {
        for bad in ["", "ABC", "abc-1", "a/b", "a.b", &"a".repeat(33), "bot_abc"] {
            assert!(id(bad).is_err(), "{bad}");
        }
        let (one, other) = (BotId::new().expect("random"), BotId::new().expect("random"));
        assert!(id(one.as_str()).is_ok_and(|id| id == one) && one != other && one.as_str().len() == 12);
    }
}
