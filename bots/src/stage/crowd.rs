//! People who write to a bot, each in a chat of their own, one message after the other; and the book that is kept of what they get.

use super::ledger::{Heard, Ledger, Totals};
use super::telegram::{Call, Hook, Telegram, message};
use anyhow::{Context as _, Result};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An update that nobody takes for so long is given up.
const TAKEN_WITHIN: Duration = Duration::from_secs(90);

#[derive(Default)]
struct Book {
    ledger: Ledger,
    /// So many of Telegram's calls are in it.
    heard: usize,
}

/// The book, and what all people share.
#[derive(Default)]
pub struct Crowd {
    book: Mutex<Book>,
    updates: AtomicI64,
    calls: AtomicU64,
    taken: AtomicU64,
}

impl Crowd {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Each change is one call of the fold.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody writes the next message into a chat. It returns when the webhook has taken it: until then nobody writes into that chat.
    pub async fn write(&self, telegram: &Telegram, hook: &Hook, chat: i64) -> Result<()> {
        let number = self.book().ledger.write(chat);
        let update = self.updates.fetch_add(1, Ordering::Relaxed) + 1;
        let calls = telegram.deliver(hook, &message(update, chat, &number.to_string()), TAKEN_WITHIN).await;
        let calls = calls.with_context(|| format!("an update was not taken within {} s", TAKEN_WITHIN.as_secs()))?;
        self.calls.fetch_add(calls, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Enters the answers that have come since the last time, and returns them.
    pub fn hear(&self, telegram: &Telegram) -> Vec<(Heard, Call)> {
        let mut book = self.book();
        let calls = telegram.calls_after(book.heard);
        book.heard += calls.len();
        calls.into_iter().filter(Call::is_message_taken).map(|call| (book.ledger.hear(&call), call)).collect()
    }

    /// How many of each so far.
    pub fn totals(&self) -> Totals {
        self.book().ledger.totals()
    }

    /// The chats that are owed an answer, each with the number of the first one.
    pub fn owed(&self) -> Vec<(i64, u64)> {
        self.book().ledger.owed().collect()
    }

    /// So many updates were taken by the webhook.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// So many calls of the webhook that took: more than updates where one had to be made again.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}
