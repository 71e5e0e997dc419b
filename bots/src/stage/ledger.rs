//! Who is owed which answer: a fold over what people wrote and what Telegram took, without a clock.
//!
//! The updates of a chat are numbered from 0, and the text of each is its number; so an answer says what it answers. An answer may come
//! again, after it has been given: that is counted. An answer before one that was owed earlier is a chat out of order.

use super::telegram::Call;
use std::collections::{BTreeMap, BTreeSet};

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The next one that was owed.
    First,
    /// One that had been given.
    Again,
    /// One that was owed, before an earlier one.
    Early,
    /// One that nobody is owed.
    Stray,
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Updates that people wrote.
    pub written: u64,
    /// Of them, those that were answered at least once.
    pub answered: u64,
    /// Answers that came again.
    pub again: u64,
    /// Answers that came before an earlier one.
    pub early: u64,
    /// Answers that nobody is owed.
    pub stray: u64,
}

impl Totals {
    /// Updates without an answer.
    pub const fn owed(&self) -> u64 {
        self.written - self.answered
    }
}

#[derive(Default)]
struct Chat {
    written: u64,
    /// All before this one were answered.
    next: u64,
    /// Those beyond that were answered.
    early: BTreeSet<u64>,
}

/// What was written and what was answered.
#[derive(Default)]
pub struct Ledger {
    chats: BTreeMap<i64, Chat>,
    totals: Totals,
}

impl Ledger {
    /// Somebody writes into a chat: the number of that update.
    pub fn write(&mut self, chat: i64) -> u64 {
        let chat = self.chats.entry(chat).or_default();
        chat.written += 1;
        self.totals.written += 1;
        chat.written - 1
    }

    /// Telegram has taken an answer.
    pub fn hear(&mut self, answer: &Call) -> Heard {
        let number = answer.text().and_then(|text| text.strip_prefix("Echo: ")?.parse().ok());
        let heard = match (answer.chat(), number) {
            (Some(chat), Some(number)) => self.answer(chat, number),
            (None, _) | (_, None) => Heard::Stray,
        };
        let totals = &mut self.totals;
        match heard {
            Heard::First => totals.answered += 1,
            Heard::Again => totals.again += 1,
            Heard::Early => {
                totals.answered += 1;
                totals.early += 1;
            }
            Heard::Stray => totals.stray += 1,
        }
        heard
    }

    fn answer(&mut self, chat: i64, number: u64) -> Heard {
        let Some(chat) = self.chats.get_mut(&chat).filter(|chat| number < chat.written) else { return Heard::Stray };
        if number < chat.next || chat.early.contains(&number) {
            return Heard::Again;
        }
        if number > chat.next {
            chat.early.insert(number);
            return Heard::Early;
        }
        chat.next += 1;
        while chat.early.remove(&chat.next) {
            chat.next += 1;
        }
        Heard::First
    }

    /// How many of each so far.
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// The chats that are owed an answer, each with the number of the first one.
    pub fn owed(&self) -> impl Iterator<Item = (i64, u64)> {
        self.chats.iter().filter(|(_, chat)| chat.next < chat.written).map(|(id, chat)| (*id, chat.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::Instant;

    fn answer(chat: i64, text: &str) -> Call {
        let Value::Object(params) = json!({ "chat_id": chat, "text": text }) else { unreachable!("an object") };
        Call { at: Instant::now(), method: "sendMessage".to_owned(), params, status: 200 }
    }

    #[test]
    fn answers_may_come_again_and_never_early() {
        let mut ledger = Ledger::default();
        assert_eq!([ledger.write(1), ledger.write(1), ledger.write(1), ledger.write(2)], [0, 1, 2, 0]);
        let mut hear = |chat: i64, text: &str| ledger.hear(&answer(chat, text));
        assert_eq!(
            [hear(1, "Echo: 0"), hear(1, "Echo: 1"), hear(1, "Echo: 0"), hear(1, "Echo: 1")],
            [Heard::First, Heard::First, Heard::Again, Heard::Again]
        );
        assert_eq!([hear(1, "Echo: 3"), hear(3, "Echo: 0"), hear(1, "Echo: x"), hear(1, "2")], [Heard::Stray; 4]);
        assert_eq!(ledger.owed().collect::<Vec<_>>(), [(1, 2), (2, 0)]);
        assert_eq!(ledger.totals(), Totals { written: 4, answered: 2, again: 2, early: 0, stray: 4 });
        assert_eq!(ledger.totals().owed(), 2);
    }

    #[test]
    fn one_that_was_passed_over_is_seen_and_caught_up() {
        let mut ledger = Ledger::default();
        for _ in 0..4 {
            ledger.write(1);
        }
        let mut hear = |number: u64| ledger.hear(&answer(1, &format!("Echo: {number}")));
        assert_eq!(
            [hear(1), hear(2), hear(1), hear(0), hear(2), hear(3)],
            [Heard::Early, Heard::Early, Heard::Again, Heard::First, Heard::Again, Heard::First]
        );
        assert_eq!(ledger.owed().next(), None);
        assert_eq!(ledger.totals(), Totals { written: 4, answered: 4, again: 2, early: 2, stray: 0 });
    }
}
