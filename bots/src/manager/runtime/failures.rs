//! Bots whose workers fail to start: each further worker is started after a pause that grows, so that a broken program does not keep the
//! machine busy. It knows nothing of what a worker is, and starts none.

use super::RuntimeError;
use crate::names::BotId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A worker that ends within so long of its start has failed to start.
pub const STARTED: Duration = Duration::from_secs(5);

/// The pauses before a worker is started again that failed to start: each twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(2);

struct Failing {
    times: u32,
    not_before: Instant,
    how: String,
}

/// Those that fail now.
#[derive(Default)]
pub struct Failures(HashMap<BotId, Failing>);

impl Failures {
    /// A worker has lived for so long, and lives.
    pub fn lives(&mut self, bot: &BotId, lived: Duration) {
        if lived >= STARTED {
            self.0.remove(bot);
        }
    }

    /// A worker has ended that nobody told to.
    pub fn ended(&mut self, bot: &BotId, lived: Duration, how: &str) {
        self.lives(bot, lived);
        if lived < STARTED {
            let times = self.0.get(bot).map_or(0, |failing| failing.times);
            let pause = PAUSE_FIRST.saturating_mul(1 << times.min(16)).min(PAUSE_MAX);
            let failing = Failing { times: times + 1, not_before: Instant::now() + pause, how: how.to_owned() };
            self.0.insert(bot.clone(), failing);
        }
    }

    /// Whether another one may be started now; or what is in the way.
    pub fn check(&self, bot: &BotId) -> Result<(), RuntimeError> {
        match self.0.get(bot) {
            Some(Failing { times, not_before, how }) if Instant::now() < *not_before => {
                Err(RuntimeError::Again(format!("its workers end at once ({how}), {times} times in a row")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The bot is gone.
    pub fn forget(&mut self, bot: &BotId) {
        self.0.remove(bot);
    }
}
