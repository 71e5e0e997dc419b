//! How fast calls may leave: the budgets that Telegram gives each bot and each chat, and the pauses that it asks for.
//!
//! It only says when; waiting is the sender's. Source: <https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this>.

use crate::command::Chat;
use crate::secret::BotToken;
use crate::settings::Rates;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::time::Duration;

/// A private chat may be sent so many at once before its pace counts: "short bursts that go over this limit" are allowed.
const CHAT_BURST: u32 = 3;

/// Budgets of chats that have been idle are forgotten when there are more than so many. More is memory, fewer would look all the time.
const CHATS_MAX: usize = 50_000;

/// A bot's number, or one and a chat.
type Key = String;

/// All budgets.
pub struct Pace {
    bots: DefaultKeyedRateLimiter<Key>,
    chats: DefaultKeyedRateLimiter<Key>,
    groups: DefaultKeyedRateLimiter<Key>,
    clock: DefaultClock,
}

impl Pace {
    /// With these rates.
    pub fn new(rates: Rates) -> Self {
        let chat = Quota::per_second(rates.chat_per_second);
        let burst = rates.chat_per_second.max(std::num::NonZeroU32::MIN.saturating_add(CHAT_BURST - 1));
        Self {
            bots: RateLimiter::keyed(Quota::per_second(rates.bot_per_second)),
            chats: RateLimiter::keyed(chat.allow_burst(burst)),
            groups: RateLimiter::keyed(Quota::per_minute(rates.group_per_minute)),
            clock: DefaultClock::default(),
        }
    }

    /// Takes a place in the budget of the chat that a call is about, if it makes a message there; or says how long there is none.
    pub fn chat(&self, token: &BotToken, method: &str, chat: Option<&Chat>) -> Result<(), Duration> {
        let Some(chat) = chat.filter(|_| makes_a_message(method)) else { return Ok(()) };
        let limiter = if chat.is_group() { &self.groups } else { &self.chats };
        if limiter.len() > CHATS_MAX {
            limiter.retain_recent();
        }
        self.take(limiter, &format!("{} {}", token.user(), chat.0))
    }

    /// Takes a place in the bot's budget; or says how long there is none.
    pub fn bot(&self, token: &BotToken) -> Result<(), Duration> {
        self.take(&self.bots, &token.user().to_owned())
    }

    fn take(&self, limiter: &DefaultKeyedRateLimiter<Key>, key: &Key) -> Result<(), Duration> {
        limiter.check_key(key).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

/// Whether a method makes a message, which is what a chat has a budget for.
pub fn makes_a_message(method: &str) -> bool {
    let method = method.to_ascii_lowercase();
    let makes = ["send", "copy", "forward", "editmessage"].iter().any(|start| method.starts_with(start));
    makes && method != "sendchataction"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn n(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).expect("not zero")
    }

    fn token(bot: u32) -> BotToken {
        BotToken::new(&format!("{bot}:x")).expect("a token")
    }

    #[test]
    fn each_chat_and_each_bot_has_its_own_budget() {
        let pace = Pace::new(Rates { bot_per_second: n(5), chat_per_second: n(1), group_per_minute: n(20) });
        let ask = |bot: u32, method: &str, chat: i64| pace.chat(&token(bot), method, Some(&Chat(chat.to_string())));
        let taken = |bot: u32, method: &str, chat: i64| (0..100).take_while(|_| ask(bot, method, chat).is_ok()).count();
        assert_eq!(taken(1, "sendMessage", 7), CHAT_BURST as usize);
        assert_eq!(taken(2, "sendMessage", 7), CHAT_BURST as usize, "another bot");
        assert_eq!(taken(1, "copyMessage", 8), CHAT_BURST as usize, "another chat");
        assert_eq!(taken(1, "sendMessage", -7), 20, "a group");
        assert_eq!(taken(1, "sendChatAction", 7), 100, "no message");
        let wait = ask(1, "sendMessage", 7).expect_err("the budget is spent");
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!((0..100).take_while(|_| pace.bot(&token(1)).is_ok()).count(), 5);
    }
}
