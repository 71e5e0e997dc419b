//! What the tests stand on: a broker, Telegram on both its sides, and the program's roles as processes.

pub mod broker;
pub mod cluster;
pub mod engine;
pub mod process;
pub mod telegram;

use std::time::{Duration, Instant};
use watchkeeper_bots::names::BotId;
use watchkeeper_bots::secret::{BotToken, Key};

/// Nothing here takes this long; a test that waits so long has failed.
pub const LONG: Duration = Duration::from_secs(90);

/// A token of the right form that belongs to nobody.
pub const TOKEN: &str = "123456:TEST-abcdefghijklmnopqrstuvwxyz_0123";

/// Seconds after which a silent member is taken for dead. The mock broker keeps the first member of a group waiting for three.
pub const SESSION: &str = "6";

/// The key of the tests' gateways and managers.
pub const KEY: &str = "a-key-of-the-tests-0123456789abcdef";

pub fn bot(id: &str) -> BotId {
    id.to_owned().try_into().expect("an id")
}

pub fn token() -> BotToken {
    BotToken::new(TOKEN).expect("a token")
}

/// What Telegram sends in its header with every update of that bot.
pub fn secret(bot: &BotId) -> String {
    use secrecy::ExposeSecret as _;
    Key::new(KEY).expect("a key").secret(bot).expose_secret().to_owned()
}

/// Waits until something is there, and says what was missing if it never is.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < LONG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Random numbers from a seed (SplitMix64), so that a round can be repeated.
pub struct Dice(pub u64);

impl Dice {
    /// A number from 0 to `limit` - 1.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}
