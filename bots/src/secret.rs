//! What nobody may read: bots' tokens, and the key that webhooks are known by. As types that print nothing of it.
//!
//! The secret of a bot's webhook is made from the key and the bot's id, the seal of its address at the gateway's Bot API from the key, the id
//! and the token. So the gateway knows every bot without asking anybody and without keeping a list, and a secret that leaks opens one bot only.

use crate::names::{BotId, hex};
use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// A shorter key could be guessed.
const KEY_MIN: usize = 32;

/// Longer ones are no token of Telegram's, and would make URLs that no server takes.
const TOKEN_MAX: usize = 128;

/// A bot's token at Telegram: `123456:AA…`. It can stand in a URL as it is.
#[derive(Clone, Debug)]
pub struct BotToken(SecretString);

/// The text is no bot's token. It is not quoted: it may be one with a typing mistake.
#[derive(Debug, thiserror::Error)]
#[error("a bot's token is digits, a colon and letters, digits, - or _")]
pub struct NotAToken;

impl BotToken {
    /// Takes what has a token's form.
    pub fn new(text: &str) -> Result<Self, NotAToken> {
        let (user, secret) = text.split_once(':').ok_or(NotAToken)?;
        let user_good = !user.is_empty() && user.bytes().all(|b| b.is_ascii_digit());
        let secret_good = !secret.is_empty() && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if user_good && secret_good && text.len() <= TOKEN_MAX { Ok(Self(text.into())) } else { Err(NotAToken) }
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The bot's number at Telegram, which is no secret.
    pub fn user(&self) -> &str {
        self.expose().split(':').next().unwrap_or_default()
    }

    /// A text from outside, without this token.
    pub fn redact(&self, text: &str) -> String {
        text.replace(self.expose(), "***")
    }
}

/// The key that manager and gateways share.
#[derive(Clone, Debug)]
pub struct Key(SecretString);

impl Key {
    /// Takes a key that cannot be guessed.
    pub fn new(text: &str) -> Option<Self> {
        (text.len() >= KEY_MIN).then(|| Self(text.into()))
    }

    /// The secret of a bot's webhook: 64 hexadecimal digits.
    pub fn secret(&self, bot: &BotId) -> SecretString {
        self.mac(&["webhook ", bot.as_str()]).into()
    }

    /// Whether that is the bot's secret. Takes as long for a nearly right one as for a wrong one.
    pub fn is_secret(&self, bot: &BotId, given: &[u8]) -> bool {
        self.secret(bot).expose_secret().as_bytes().ct_eq(given).into()
    }

    /// What says that this token is the bot's, in the address that the bot finds the gateway's Bot API at: 64 hexadecimal digits. It opens
    /// nothing without the token, so it is no secret.
    pub fn seal(&self, bot: &BotId, token: &BotToken) -> String {
        self.mac(&["bot api ", bot.as_str(), " ", token.expose()])
    }

    /// Whether that is the seal of the bot and the token. Takes as long for a nearly right one as for a wrong one.
    pub fn is_seal(&self, bot: &BotId, token: &BotToken, given: &[u8]) -> bool {
        self.seal(bot, token).as_bytes().ct_eq(given).into()
    }

    /// The first word says what it is for, so that nothing made for one use is good for another.
    fn mac(&self, words: &[&str]) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose_secret().as_bytes()) else {
            unreachable!("HMAC takes a key of any length")
        };
        for word in words {
            mac.update(word.as_bytes());
        }
        hex(&mac.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_by_its_form_and_never_printed() {
        let token = BotToken::new("123456:AA-bb_cc").expect("a token");
        assert_eq!(token.user(), "123456");
        assert!(!format!("{token:?}").contains("AA-bb"), "{token:?}");
        assert_eq!(token.redact("GET /bot123456:AA-bb_cc/getMe"), "GET /bot***/getMe");
        for bad in ["", "123", ":x", "1:", "a:b", "1:a/b", "1:a b", "1:a?b", &format!("1:{}", "a".repeat(TOKEN_MAX))] {
            assert!(BotToken::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_opens_one_bot() {
        let key = Key::new("0123456789abcdef0123456789abcdef").expect("a key");
        let (one, other): (BotId, BotId) = ("a1".to_owned().try_into().expect("an id"), "a2".to_owned().try_into().expect("an id"));
        let secret = key.secret(&one);
        let bytes = secret.expose_secret().as_bytes();
        assert_eq!(bytes.len(), 64);
        assert!(key.is_secret(&one, bytes));
        assert!(!key.is_secret(&other, bytes));
        assert!(!key.is_secret(&one, &bytes[..63]));
        assert!(!key.is_secret(&one, b""));
        assert!(!Key::new("0123456789abcdef0123456789abcdeX").expect("a key").is_secret(&one, bytes));
        let (token, another) = (BotToken::new("1:x").expect("a token"), BotToken::new("1:y").expect("a token"));
        let seal = key.seal(&one, &token);
        assert!(seal.len() == 64 && key.is_seal(&one, &token, seal.as_bytes()));
        assert!(!key.is_seal(&other, &token, seal.as_bytes()) && !key.is_seal(&one, &another, seal.as_bytes()));
        assert!(!key.is_seal(&one, &token, bytes), "the secret of the webhook is no seal");
        assert!(Key::new("short").is_none());
        assert!(!format!("{key:?}").contains("0123"));
    }
}
