//! The stand-in for Telegram as the tests use it: it knows the tests' token and speaks for bots that no manager made, waits are bounded,
//! and what Telegram would not understand fails the test.

use super::{LONG, secret, token, until};
use serde_json::Value;
use std::ops::Deref;
use watchkeeper_bots::names::BotId;
pub use watchkeeper_bots::stage::telegram::{Call, message};
use watchkeeper_bots::stage::telegram::{Hook, Telegram as Standin};

/// A running stand-in; it ends when dropped.
pub struct Telegram(Standin);

impl Deref for Telegram {
    type Target = Standin;

    fn deref(&self) -> &Standin {
        &self.0
    }
}

impl Drop for Telegram {
    fn drop(&mut self) {
        // Each test ends with this: a call that Telegram would not understand is a fault, whatever became of it.
        if !std::thread::panicking() {
            let faults = self.faults();
            assert!(faults.is_empty(), "calls that Telegram would not understand: {faults:#?}");
        }
    }
}

/// Where a gateway takes the updates of a bot.
pub fn hook(gateway: &str, bot: &BotId) -> Hook {
    Hook { url: format!("{gateway}/webhook/{bot}"), secret: secret(bot) }
}

impl Telegram {
    pub async fn start() -> Self {
        Self(Standin::start(&token()).await.expect("the stand-in starts"))
    }

    /// Calls of the right form, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        self.calls_after(0)
    }

    /// Those that were taken.
    pub fn taken(&self, method: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.status == 200 && call.method == method).collect()
    }

    pub async fn wait_for(&self, method: &str, count: usize) -> Vec<Call> {
        until(&format!("{count} calls of {method}"), async || Some(self.taken(method)).filter(|calls| calls.len() >= count)).await
    }

    /// One call of the bot's webhook.
    pub async fn post(&self, gateway: &str, bot: &BotId, secret: Option<&str>, body: Vec<u8>) -> Option<(u16, String)> {
        self.0.post(&hook(gateway, bot).url, secret, body).await
    }

    /// Sends an update until it is taken, as Telegram does. How many attempts that took.
    pub async fn deliver(&self, gateway: &str, bot: &BotId, update: &Value) -> u64 {
        self.0.deliver(&hook(gateway, bot), update, LONG).await.unwrap_or_else(|| panic!("never taken: {update}"))
    }
}
