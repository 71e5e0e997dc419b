//! What of a topic is in hand: a fold without a clock, without Kafka, and without knowing what the work is.
//!
//! Messages of one lane (a chat) are worked off one after the other, those of different lanes beside each other. A partition's offset
//! may be committed up to the first message that is not done, and never beyond: so a killed process repeats work and loses none.
//! A lane never holds messages of two partitions, and nothing that was begun under one assignment counts under a later one.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub number: i32,
}

/// Which message is meant, under which assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket<L> {
    /// Where it came from.
    pub part: Part,
    /// Its offset there.
    pub offset: i64,
    lane: L,
    generation: u64,
}

/// How working on a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It need not be seen again.
    Done,
    /// It was left for whoever has the partition next.
    Abandoned,
}

struct Held<L, J> {
    generation: u64,
    /// Taken and not done.
    open: BTreeSet<i64>,
    /// Behind the last one that was taken.
    next: i64,
    committed: Option<i64>,
    /// Being worked on now.
    running: usize,
    /// Waiting for the one before, by lane. A lane is here while one of its messages is being worked on.
    lanes: HashMap<L, VecDeque<(i64, J)>>,
}

impl<L, J> Held<L, J> {
    /// Up to where everything is done.
    fn done_to(&self) -> i64 {
        self.open.first().copied().unwrap_or(self.next)
    }
}

/// Everything in hand.
pub struct Lanes<L, J> {
    parts: HashMap<Part, Held<L, J>>,
    closed: HashSet<Part>,
    generations: u64,
    open: usize,
}

impl<L, J> Default for Lanes<L, J> {
    fn default() -> Self {
        Self { parts: HashMap::new(), closed: HashSet::new(), generations: 0, open: 0 }
    }
}

impl<L: Clone + Eq + Hash, J> Lanes<L, J> {
    /// How many messages are in hand.
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Takes a message in. Says what to begin now, if its lane is free.
    pub fn take(&mut self, part: &Part, offset: i64, lane: L, job: J) -> Option<(Ticket<L>, J)> {
        if self.closed.contains(part) {
            return None;
        }
        let held = self.parts.entry(part.clone()).or_insert_with(|| {
            self.generations += 1;
            Held { generation: self.generations, open: BTreeSet::new(), next: offset, committed: None, running: 0, lanes: HashMap::new() }
        });
        held.next = offset + 1;
        if !held.open.insert(offset) {
            // It is in hand already.
            return None;
        }
        self.open += 1;
        if let Some(waiting) = held.lanes.get_mut(&lane) {
            waiting.push_back((offset, job));
            return None;
        }
        held.lanes.insert(lane.clone(), VecDeque::new());
        held.running += 1;
        Some((Ticket { part: part.clone(), offset, lane, generation: held.generation }, job))
    }

    /// A message's work ended. Says what of the same lane to begin now.
    pub fn ended(&mut self, ticket: Ticket<L>, done: Done) -> Option<(Ticket<L>, J)> {
        let held = self.parts.get_mut(&ticket.part).filter(|held| held.generation == ticket.generation)?;
        held.running -= 1;
        match done {
            Done::Done => {
                held.open.remove(&ticket.offset);
                self.open -= 1;
            }
            // It stays open, so that no commit passes it; and what waits behind it in its lane must not pass it either.
            Done::Abandoned => return None,
        }
        let Some((offset, job)) = held.lanes.get_mut(&ticket.lane).and_then(VecDeque::pop_front) else {
            held.lanes.remove(&ticket.lane);
            return None;
        };
        held.running += 1;
        Some((Ticket { offset, ..ticket }, job))
    }

    /// What can be committed and has not been.
    pub fn to_commit(&self) -> Vec<(Part, i64)> {
        let moved = self.parts.iter().filter(|(_, held)| held.committed != Some(held.done_to()) && held.done_to() > 0);
        moved.map(|(part, held)| (part.clone(), held.done_to())).collect()
    }

    /// That was committed.
    pub fn committed(&mut self, part: &Part, offset: i64) {
        if let Some(held) = self.parts.get_mut(part) {
            held.committed = Some(offset);
        }
    }

    /// The partition is being given back: nothing of it is begun or taken in any more.
    pub fn close(&mut self, part: &Part) {
        self.closed.insert(part.clone());
        if let Some(held) = self.parts.get_mut(part) {
            held.lanes.values_mut().for_each(VecDeque::clear);
        }
    }

    /// How many messages of a partition are being worked on.
    pub fn running(&self, part: &Part) -> usize {
        self.parts.get(part).map_or(0, |held| held.running)
    }

    /// All partitions of which something was taken.
    pub fn parts(&self) -> Vec<Part> {
        self.parts.keys().cloned().collect()
    }

    /// The partition is given back: what is still being worked on counts no more, and it may be assigned again.
    pub fn forget(&mut self, part: &Part) {
        self.closed.remove(part);
        if let Some(held) = self.parts.remove(part) {
            self.open -= held.open.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Chats = Lanes<u8, ()>;

    fn part(number: i32) -> Part {
        Part { topic: "t".into(), number }
    }

    fn commit(lanes: &Chats) -> Vec<i64> {
        lanes.to_commit().into_iter().map(|(_, offset)| offset).collect()
    }

    #[test]
    fn a_lane_goes_one_by_one_and_lanes_go_beside_each_other() {
        let mut lanes = Chats::default();
        let (first, ()) = lanes.take(&part(0), 10, 1, ()).expect("a free lane");
        assert!(lanes.take(&part(0), 11, 1, ()).is_none());
        let (other, ()) = lanes.take(&part(0), 12, 2, ()).expect("another lane");
        assert_eq!(commit(&lanes), [10]);
        // The later one is done first: nothing moves.
        assert!(lanes.ended(other, Done::Done).is_none());
        assert_eq!(commit(&lanes), [10]);
        let (second, ()) = lanes.ended(first, Done::Done).expect("the next of its lane");
        assert_eq!((second.offset, commit(&lanes)), (11, vec![11]));
        assert!(lanes.ended(second, Done::Done).is_none());
        assert_eq!((commit(&lanes), lanes.open()), (vec![13], 0));
        lanes.committed(&part(0), 13);
        assert!(commit(&lanes).is_empty());
    }

    #[test]
    fn what_is_abandoned_holds_its_offset_and_its_lane() {
        let mut lanes = Chats::default();
        let (first, ()) = lanes.take(&part(0), 10, 1, ()).expect("a free lane");
        assert!(lanes.take(&part(0), 11, 1, ()).is_none());
        assert!(lanes.ended(first, Done::Abandoned).is_none());
        assert_eq!(commit(&lanes), [10]);
    }

    #[test]
    fn a_partition_that_was_given_back_takes_nothing_of_its_former_life() {
        let mut lanes = Chats::default();
        let (old, ()) = lanes.take(&part(0), 10, 1, ()).expect("a free lane");
        assert!(lanes.take(&part(0), 11, 1, ()).is_none());
        lanes.close(&part(0));
        assert!(lanes.take(&part(0), 12, 2, ()).is_none(), "it is closed");
        assert_eq!(lanes.running(&part(0)), 1);
        lanes.forget(&part(0));
        assert_eq!((lanes.open(), lanes.running(&part(0))), (0, 0));
        let (new, ()) = lanes.take(&part(0), 10, 1, ()).expect("assigned again");
        // The end of the former life's work says nothing about this one.
        assert!(lanes.ended(old, Done::Done).is_none());
        assert_eq!(commit(&lanes), [10]);
        assert!(lanes.ended(new, Done::Done).is_none());
        assert_eq!(commit(&lanes), [11]);
    }

    proptest! {
        /// Whatever order work ends in: a commit never passes a message that is not done, and a chat's messages are begun in order.
        #[test]
        fn no_commit_passes_open_work_and_no_chat_is_reordered(
            chats in prop::collection::vec(0..4_u8, 1..40),
            picks in prop::collection::vec((0..40_usize, 0..10_u8), 0..120),
        ) {
            let mut lanes = Lanes::<u8, ()>::default();
            let (mut running, mut done, mut begun): (Vec<Ticket<u8>>, BTreeSet<i64>, HashMap<u8, i64>) = Default::default();
            let mut chats = chats.into_iter().zip(0_i64..);
            let mut abandoned = 0;
            for (pick, what) in picks {
                let started = if what < 5 {
                    chats.next().and_then(|(chat, offset)| lanes.take(&part(0), offset, chat, ()))
                } else if running.is_empty() {
                    None
                } else {
                    let ticket = running.swap_remove(pick % running.len());
                    let end = if what == 9 { Done::Abandoned } else { Done::Done };
                    match end { Done::Done => { done.insert(ticket.offset); } Done::Abandoned => abandoned += 1 }
                    lanes.ended(ticket, end)
                };
                if let Some((ticket, ())) = started {
                    prop_assert!(begun.insert(ticket.lane, ticket.offset).is_none_or(|before| before < ticket.offset));
                    running.push(ticket);
                }
                for (_, offset) in lanes.to_commit() {
                    prop_assert!((0..offset).all(|earlier| done.contains(&earlier)));
                }
                prop_assert_eq!(lanes.running(&part(0)), running.len());
                prop_assert!(lanes.open() >= running.len() + abandoned);
            }
        }
    }
}
