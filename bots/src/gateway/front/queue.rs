//! What `getUpdates` has given out and what it has not: a fold without a clock and without Kafka.
//!
//! Kafka keeps updates in partitions, the Bot API in one row of rising numbers. So they get numbers of their own here, in the order in which
//! they came out of Kafka, as every Bot API server numbers its own row. An update is done when the bot asked for what is behind it, and a
//! partition's offset moves up to the first that is not done. A bot that asks for a number that was never given out here (it is of an
//! earlier session, or of another gateway) confirms nothing: it sees a few again, and misses none.

use crate::lanes::Part;
use crate::update::Waiting;
use std::collections::{HashMap, VecDeque};

/// The kinds that Telegram sends only to who names them. Source: <https://core.telegram.org/bots/api#getupdates>.
const ONLY_IF_NAMED: [&str; 3] = ["chat_member", "message_reaction", "message_reaction_count"];

/// Which kinds a bot wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allowed {
    /// All but those of [`ONLY_IF_NAMED`].
    #[default]
    Usual,
    /// These.
    Only(Vec<String>),
}

impl Allowed {
    fn has(&self, kind: &str) -> bool {
        match self {
            Self::Usual => !ONLY_IF_NAMED.contains(&kind),
            Self::Only(kinds) => kinds.iter().any(|allowed| allowed == kind),
        }
    }
}

struct Held {
    number: i64,
    part: Part,
    offset: i64,
    /// Nothing, if nobody wants it.
    update: Option<Waiting>,
}

/// One bot's row.
pub struct Queue {
    held: VecDeque<Held>,
    bytes: usize,
    first: i64,
    next: i64,
    /// Behind the last number that was given out.
    given: i64,
    allowed: Allowed,
    /// What is done of each partition and not committed: the offset behind it.
    done: HashMap<Part, i64>,
}

impl Queue {
    /// An empty one, which begins with that number.
    pub fn new(first: i64) -> Self {
        let (held, allowed, done) = Default::default();
        Self { held, bytes: 0, first, next: first, given: first, allowed, done }
    }

    /// How many updates are here, and how many bytes they have.
    pub fn size(&self) -> (usize, usize) {
        (self.held.len(), self.bytes)
    }

    /// What comes from now on is of these kinds only.
    pub fn allow(&mut self, allowed: Allowed) {
        self.allowed = allowed;
    }

    /// Takes in what came out of Kafka. What is no update is passed over like a kind that nobody wants.
    pub fn take(&mut self, part: Part, offset: i64, update: Option<Waiting>) {
        let update = update.filter(|update| self.allowed.has(&update.kind));
        self.bytes += update.as_ref().map_or(0, Waiting::size);
        self.held.push_back(Held { number: self.next, part, offset, update });
        self.next += 1;
        self.pass_over();
    }

    /// The bot asks for that number: everything before it is done, if it was given out.
    pub fn confirm(&mut self, number: i64) {
        if number > self.first && number <= self.given {
            while self.held.front().is_some_and(|held| held.number < number) {
                self.pop();
            }
            self.pass_over();
        }
    }

    /// The first that are not done, at most so many of so many bytes; but one, if there is one.
    pub fn give(&mut self, count: usize, bytes: usize) -> Vec<String> {
        let (mut given, mut left) = (Vec::new(), bytes);
        for held in &self.held {
            let Some(update) = &held.update else { continue };
            if given.len() == count || (!given.is_empty() && update.size() > left) {
                break;
            }
            left = left.saturating_sub(update.size());
            given.push(update.numbered(held.number));
            self.given = self.given.max(held.number + 1);
        }
        given
    }

    /// What can be committed.
    pub fn to_commit(&self) -> Vec<(Part, i64)> {
        self.done.iter().map(|(part, offset)| (part.clone(), *offset)).collect()
    }

    /// That was committed.
    pub fn committed(&mut self, part: &Part, offset: i64) {
        if self.done.get(part) == Some(&offset) {
            self.done.remove(part);
        }
    }

    /// The partition belongs to another member of the group: what is not done of it will be given out there.
    pub fn forget(&mut self, part: &Part) {
        self.held.retain(|held| held.part != *part);
        self.done.remove(part);
        self.bytes = self.held.iter().filter_map(|held| held.update.as_ref()).map(Waiting::size).sum();
    }

    fn pop(&mut self) {
        if let Some(held) = self.held.pop_front() {
            self.bytes -= held.update.as_ref().map_or(0, Waiting::size);
            self.done.insert(held.part, held.offset + 1);
        }
    }

    /// What nobody wants is done when everything before it is.
    fn pass_over(&mut self) {
        while self.held.front().is_some_and(|held| held.update.is_none()) {
            self.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn part(number: i32) -> Part {
        Part { topic: "t".into(), number }
    }

    fn update(kind: &str, text: &str) -> Option<Waiting> {
        Waiting::read(format!(r#"{{"bot_id":"a1","update":{{"update_id":1,"{kind}":"{text}"}}}}"#).as_bytes()).ok()
    }

    fn commits(queue: &Queue) -> BTreeMap<i32, i64> {
        queue.to_commit().into_iter().map(|(part, offset)| (part.number, offset)).collect()
    }

    /// Number and text.
    fn read(given: &[String]) -> Vec<(i64, String)> {
        let read = |text: &String| {
            let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
            (value["update_id"].as_i64().expect("a number"), value["message"].as_str().expect("a text").to_owned())
        };
        given.iter().map(read).collect()
    }

    #[test]
    fn what_the_bot_asked_behind_is_done_and_what_it_has_not_confirmed_comes_again() {
        let mut queue = Queue::new(100);
        for (offset, p) in [(5, 0), (8, 1), (6, 0)] {
            queue.take(part(p), offset, update("message", &format!("{p}/{offset}")));
        }
        let all = [(100, "0/5".to_owned()), (101, "1/8".to_owned()), (102, "0/6".to_owned())];
        assert_eq!(read(&queue.give(2, 1_000)), all[..2]);
        assert_eq!(read(&queue.give(100, 1_000)), all);
        assert!(commits(&queue).is_empty());
        queue.confirm(102);
        assert_eq!(commits(&queue), BTreeMap::from([(0, 6), (1, 9)]));
        assert_eq!(read(&queue.give(100, 1_000)), all[2..]);
        queue.committed(&part(0), 6);
        queue.committed(&part(1), 8);
        assert_eq!(commits(&queue), BTreeMap::from([(1, 9)]), "only what Kafka has");
        queue.confirm(103);
        assert_eq!((commits(&queue), queue.size()), (BTreeMap::from([(0, 7), (1, 9)]), (0, 0)));
    }

    #[test]
    fn a_number_that_was_not_given_out_here_confirms_nothing() {
        let mut queue = Queue::new(100);
        queue.take(part(0), 5, update("message", "x"));
        queue.take(part(0), 6, update("message", "y"));
        for number in [i64::MIN, -1, 0, 100, 101, 102, i64::MAX] {
            queue.confirm(number);
        }
        assert_eq!(queue.size().0, 2);
        queue.give(1, 1_000);
        queue.confirm(102);
        assert_eq!(queue.size().0, 2, "the second was not given out");
        queue.confirm(101);
        assert_eq!(queue.size().0, 1);
    }

    #[test]
    fn what_nobody_wants_is_passed_over_and_committed_in_its_turn() {
        let mut queue = Queue::new(1);
        queue.take(part(0), 0, update("chat_member", "x"));
        assert_eq!(commits(&queue), BTreeMap::from([(0, 1)]), "nothing is before it");
        queue.take(part(0), 1, update("message", "x"));
        queue.take(part(0), 2, None);
        queue.allow(Allowed::Only(vec!["chat_member".to_owned()]));
        queue.take(part(0), 3, update("message", "y"));
        assert_eq!(queue.give(100, 1_000).len(), 1, "what was there before the wish is given out");
        assert_eq!(commits(&queue), BTreeMap::from([(0, 1)]));
        queue.confirm(3);
        assert_eq!((commits(&queue), queue.size()), (BTreeMap::from([(0, 4)]), (0, 0)));
    }

    #[test]
    fn an_answer_has_no_more_bytes_than_it_may_but_always_one_update() {
        let mut queue = Queue::new(1);
        for offset in 0..3 {
            queue.take(part(0), offset, update("message", &"x".repeat(100)));
        }
        assert_eq!((queue.give(100, 0).len(), queue.give(100, 300).len()), (1, 2));
        queue.take(part(1), 9, update("message", "x"));
        queue.give(100, 1_000);
        queue.confirm(3);
        queue.forget(&part(0));
        assert_eq!((commits(&queue), queue.size().0), (BTreeMap::new(), 1));
    }

    proptest! {
        /// Whatever a bot asks for and whichever answers get lost: a commit never passes an update that the bot has not received.
        #[test]
        fn nothing_is_committed_that_the_bot_did_not_receive(
            steps in prop::collection::vec((0..4_u8, 0..3_i32, 1..5_usize, any::<bool>()), 1..80),
        ) {
            let mut queue = Queue::new(50);
            let mut offsets = [0_i64; 3];
            let (mut received, mut ask): (BTreeSet<String>, i64) = (BTreeSet::new(), 0);
            for (what, p, count, arrives) in steps {
                if matches!(what, 0 | 1) {
                    let offset = &mut offsets[p as usize];
                    queue.take(part(p), *offset, update("message", &format!("{p}/{offset}")));
                    *offset += 1;
                } else if what == 2 {
                    queue.confirm(ask);
                    let given = read(&queue.give(count, 1_000));
                    if arrives {
                        ask = given.last().map_or(ask, |(number, _)| number + 1);
                        received.extend(given.into_iter().map(|(_, text)| text));
                    }
                } else {
                    // Another bot process, which knows nothing.
                    ask = 0;
                }
                for (part, behind) in queue.to_commit() {
                    for offset in 0..behind {
                        let text = format!("{}/{offset}", part.number);
                        prop_assert!(received.contains(&text), "{} was committed", text);
                    }
                }
            }
        }
    }
}
