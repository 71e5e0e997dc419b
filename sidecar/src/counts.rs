//! What is in flight, and what has been: the fold that decides every figure.
//!
//! Pure: an event and its instant come in, the counts and what became of the event come out. What is written down between two
//! lives of the sidecar is these events, so replaying them gives the same counts.
//!
//! A request without an id is only a number, and its start. Which of several has ended is then read from how long it took, which
//! matters for nothing but telling since when the others are in flight. A request with an id is known: a second start or end of it
//! changes no count. `active` is never below zero, and no event is ever refused.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use watchkeeper_core::{Dur, Micros};

/// So many requests with ids are known at once; then the one in flight for longest is taken for lost. Less would forget requests of
/// a busy worker; more would take memory for ids that a client never ends (each up to [`ID_MAX`] bytes).
pub const NAMED_MAX: usize = 2_048;

/// So many starts of requests without ids are remembered; a further one is remembered as having started with the newest. Less
/// would tell wrong ages of a busy worker's requests; more would take memory for starts that are never ended.
pub const UNNAMED_STARTS_MAX: usize = 4_096;

/// Ids are at most so long. Shorter would refuse composed ones (a topic, a partition, an offset, a UUID); longer would take memory.
pub const ID_MAX: usize = 128;

/// How far a request's start may lie from where its duration puts it, for the two to be taken for one. Clients measure with calls
/// on both sides that take some milliseconds; more would confuse requests that overlap, less would miss slow calls.
const MATCH_WITHIN: Dur = Dur::millis(250);

/// The name a client gives a request: printable ASCII without blanks, so that it can stand in a log line and in a file of lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Id(Arc<str>);

/// Why a text cannot be an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// It is empty.
    #[error("the id is empty")]
    Empty,
    /// It is too long.
    #[error("the id is longer than {ID_MAX} bytes")]
    Long,
    /// It has a character that an id may not have.
    #[error("the id has something other than printable ASCII without blanks")]
    Characters,
}

impl Id {
    /// Checks the text.
    pub fn new(text: &str) -> Result<Self, BadId> {
        if text.is_empty() {
            return Err(BadId::Empty);
        }
        if text.len() > ID_MAX {
            return Err(BadId::Long);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BadId::Characters);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = BadId;
    fn try_from(text: String) -> Result<Self, BadId> {
        Self::new(&text)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request began.
    Start(Option<Id>),
    /// A request ended, and took so long.
    End(Option<Id>, Option<Dur>),
    /// Whatever began before that instant will not be heard of again.
    Lost(Micros),
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It was counted.
    Counted,
    /// A start of what was in flight already: its former end was lost, or the start was said twice. In flight once, from now on.
    StartedAgain,
    /// An end of nothing in flight: said twice, or its start was lost. Nothing in flight has changed.
    Unmatched,
    /// So many requests were taken for lost.
    Lost(u64),
}

/// How long requests took, in buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many took at most [`Histogram::BOUNDS_MS`], each in the first bucket that holds it; the last is for all above.
    pub buckets: [u64; 15],
    /// The sum, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// The upper bounds in milliseconds: from a cached answer to a model that thinks for minutes.
    pub const BOUNDS_MS: [i64; 14] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

    fn record(&mut self, took: Dur) {
        let bucket = Self::BOUNDS_MS.iter().position(|ms| took <= Dur::millis(*ms)).unwrap_or(Self::BOUNDS_MS.len());
        self.buckets[bucket] += 1;
        self.sum_us = self.sum_us.saturating_add(took.0.unsigned_abs());
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Everything that is counted. `total = ended + lost + active` at all times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Since when it is counted; a restart that finds its counts again does not change it.
    pub since: Micros,
    /// How often the counts were found again by a new process.
    pub restarts: u64,
    /// Requests begun.
    pub total: u64,
    /// Requests ended.
    pub ended: u64,
    /// Requests whose end was not heard of.
    pub lost: u64,
    /// Starts of what was in flight already.
    pub started_again: u64,
    /// Ends of nothing in flight.
    pub unmatched_ends: u64,
    /// When the newest request began.
    pub last_start: Option<Micros>,
    /// When the newest event was.
    pub last_activity: Micros,
    /// How long requests took.
    pub took: Histogram,
    /// Requests without an id: how many began at an instant.
    unnamed: BTreeMap<Micros, u64>,
    /// Requests with an id, and when each began.
    named: BTreeMap<Id, Micros>,
}

/// Requests in flight that began together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The name, if the client gave one.
    pub id: Option<Id>,
    /// When it began.
    pub since: Micros,
    /// How many, without an id, began at that instant.
    pub count: u64,
}

impl Counts {
    /// Nothing yet.
    pub const fn new(now: Micros) -> Self {
        Self {
            since: now,
            restarts: 0,
            total: 0,
            ended: 0,
            lost: 0,
            started_again: 0,
            unmatched_ends: 0,
            last_start: None,
            last_activity: now,
            took: Histogram { buckets: [0; 15], sum_us: 0 },
            unnamed: BTreeMap::new(),
            named: BTreeMap::new(),
        }
    }

    /// Takes an event in. An instant before the newest one (the clock was set back between two lives) counts as the newest one.
    pub fn apply(&mut self, at: Micros, event: Event) -> Became {
        let at = at.max(self.last_activity);
        match event {
            Event::Start(id) => {
                self.last_activity = at;
                self.last_start = Some(at);
                match id {
                    None => self.start_unnamed(at),
                    Some(id) => self.start_named(at, id),
                }
            }
            Event::End(id, took) => {
                self.last_activity = at;
                match id {
                    None => self.end_unnamed(at, took),
                    Some(id) => self.end_named(&id, took),
                }
            }
            Event::Lost(before) => Became::Lost(self.lose(before)),
        }
    }

    /// Requests in flight.
    pub const fn active(&self) -> u64 {
        // Held by every arm of `apply`; saturating, because a file that was tampered with may say otherwise.
        self.total.saturating_sub(self.ended).saturating_sub(self.lost)
    }

    /// Since when nothing is in flight, if nothing is.
    pub fn idle_since(&self) -> Option<Micros> {
        (self.active() == 0).then_some(self.last_activity)
    }

    /// When what is in flight for longest began.
    pub fn oldest(&self) -> Option<Micros> {
        let unnamed = self.unnamed.first_key_value().map(|(since, _)| *since);
        unnamed.into_iter().chain(self.named.values().copied()).min()
    }

    /// What is in flight, longest first, and how many requests are left out beyond `limit` entries.
    pub fn in_flight(&self, limit: usize) -> (Vec<InFlight>, u64) {
        let unnamed = self.unnamed.iter().map(|(since, count)| InFlight { id: None, since: *since, count: *count });
        let named = self.named.iter().map(|(id, since)| InFlight { id: Some(id.clone()), since: *since, count: 1 });
        let mut all: Vec<InFlight> = unnamed.chain(named).collect();
        all.sort_by(|a, b| (a.since, &a.id).cmp(&(b.since, &b.id)));
        let left_out = all.iter().skip(limit).map(|f| f.count).sum();
        all.truncate(limit);
        (all, left_out)
    }

    /// Whether the parts agree with each other; false of a file that something else has written to.
    pub fn agree(&self) -> bool {
        let listed = self.unnamed.values().try_fold(self.named.len() as u64, |sum, count| sum.checked_add(*count));
        let parts = self.ended.checked_add(self.lost).zip(listed).and_then(|(past, listed)| past.checked_add(listed));
        parts == Some(self.total) && self.named.len() <= NAMED_MAX && self.unnamed.len() <= UNNAMED_STARTS_MAX
    }

    fn start_unnamed(&mut self, at: Micros) -> Became {
        self.total += 1;
        let newest = self.unnamed.last_key_value().map(|(since, _)| *since);
        let since = newest.filter(|_| self.unnamed.len() >= UNNAMED_STARTS_MAX).unwrap_or(at);
        *self.unnamed.entry(since).or_default() += 1;
        Became::Counted
    }

    fn start_named(&mut self, at: Micros, id: Id) -> Became {
        if let Some(since) = self.named.get_mut(&id) {
            *since = at;
            self.started_again += 1;
            return Became::StartedAgain;
        }
        if self.named.len() >= NAMED_MAX
            && let Some(oldest) = self.named.iter().min_by_key(|(_, since)| **since).map(|(id, _)| id.clone())
        {
            self.named.remove(&oldest);
            self.lost += 1;
        }
        self.total += 1;
        self.named.insert(id, at);
        Became::Counted
    }

    fn end_unnamed(&mut self, at: Micros, took: Option<Dur>) -> Became {
        if let Some(took) = took {
            self.took.record(took);
        }
        let Some(since) = self.began(at, took) else {
            self.unmatched_ends += 1;
            return Became::Unmatched;
        };
        if let Some(count) = self.unnamed.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                self.unnamed.remove(&since);
            }
        }
        self.ended += 1;
        Became::Counted
    }

    fn end_named(&mut self, id: &Id, took: Option<Dur>) -> Became {
        if self.named.remove(id).is_none() {
            self.unmatched_ends += 1;
            return Became::Unmatched;
        }
        if let Some(took) = took {
            self.took.record(took);
        }
        self.ended += 1;
        Became::Counted
    }

    /// When the request without an id that now ends began: where its duration puts it, or the longest in flight.
    fn began(&self, at: Micros, took: Option<Dur>) -> Option<Micros> {
        let oldest = *self.unnamed.first_key_value()?.0;
        let Some(took) = took else { return Some(oldest) };
        let meant = at - took;
        let before = self.unnamed.range(..=meant).next_back();
        let after = self.unnamed.range(meant..).next();
        let distance = |since: Micros| (since - meant).0.abs();
        let nearest = before.into_iter().chain(after).map(|(since, _)| *since).min_by_key(|since| distance(*since));
        Some(nearest.filter(|since| distance(*since) <= MATCH_WITHIN.0).unwrap_or(oldest))
    }

    fn lose(&mut self, before: Micros) -> u64 {
        let kept = self.unnamed.split_off(&before);
        let unnamed: u64 = std::mem::replace(&mut self.unnamed, kept).values().sum();
        let known = self.named.len();
        self.named.retain(|_, since| *since >= before);
        let lost = unnamed + (known - self.named.len()) as u64;
        self.lost += lost;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> Id {
        Id::new(text).expect("an id")
    }

    fn at(seconds: i64) -> Micros {
        Micros(0) + Dur::secs(seconds)
    }

    #[test]
    fn starts_and_ends_are_counted_and_an_extra_end_takes_nothing() {
        let mut counts = Counts::new(at(0));
        assert_eq!(counts.idle_since(), Some(at(0)));
        counts.apply(at(1), Event::Start(None));
        counts.apply(at(2), Event::Start(None));
        assert_eq!((counts.active(), counts.total, counts.last_start, counts.idle_since()), (2, 2, Some(at(2)), None));
        for _ in 0..2 {
            assert_eq!(counts.apply(at(3), Event::End(None, Some(Dur::secs(1)))), Became::Counted);
        }
        assert_eq!(counts.apply(at(4), Event::End(None, Some(Dur::secs(1)))), Became::Unmatched);
        assert_eq!((counts.active(), counts.total, counts.unmatched_ends, counts.idle_since()), (0, 2, 1, Some(at(4))));
        // What an extra end says about time is a fact all the same.
        assert_eq!((counts.took.count(), counts.took.sum_us), (3, 3_000_000));
    }

    #[test]
    fn an_end_without_a_duration_is_counted_and_not_timed() {
        let mut counts = Counts::new(at(0));
        counts.apply(at(1), Event::Start(None));
        counts.apply(at(2), Event::End(None, None));
        assert_eq!((counts.active(), counts.ended, counts.took.count()), (0, 1, 0));
    }

    #[test]
    fn the_request_that_took_so_long_is_the_one_that_ended() {
        let mut counts = Counts::new(at(0));
        for second in [10, 20, 30] {
            counts.apply(at(second), Event::Start(None));
        }
        // The second one ends: it took ten seconds, and its calls some milliseconds.
        counts.apply(at(30) + Dur::millis(4), Event::End(None, Some(Dur::secs(10) + Dur::millis(9))));
        let since: Vec<Micros> = counts.in_flight(9).0.into_iter().map(|f| f.since).collect();
        assert_eq!(since, [at(10), at(30)]);
        // A duration that fits no start ends the oldest.
        counts.apply(at(31), Event::End(None, Some(Dur::secs(5))));
        assert_eq!(counts.oldest(), Some(at(30)));
    }

    #[test]
    fn a_second_start_or_end_of_an_id_changes_no_count() {
        let mut counts = Counts::new(at(0));
        assert_eq!(counts.apply(at(1), Event::Start(Some(id("a")))), Became::Counted);
        assert_eq!(counts.apply(at(5), Event::Start(Some(id("a")))), Became::StartedAgain);
        counts.apply(at(6), Event::Start(None));
        assert_eq!((counts.active(), counts.total, counts.oldest()), (2, 2, Some(at(5))));
        assert_eq!(counts.apply(at(7), Event::End(Some(id("a")), Some(Dur::secs(2)))), Became::Counted);
        assert_eq!(counts.apply(at(8), Event::End(Some(id("a")), Some(Dur::secs(2)))), Became::Unmatched);
        // The request without an id is still in flight, and the second end was not timed.
        assert_eq!((counts.active(), counts.took.count(), counts.unmatched_ends, counts.started_again), (1, 1, 1, 1));
    }

    #[test]
    fn an_end_without_an_id_leaves_requests_with_ids() {
        let mut counts = Counts::new(at(0));
        counts.apply(at(1), Event::Start(Some(id("a"))));
        assert_eq!(counts.apply(at(2), Event::End(None, None)), Became::Unmatched);
        assert_eq!(counts.active(), 1);
    }

    #[test]
    fn what_is_lost_is_no_longer_in_flight_and_is_told() {
        let mut counts = Counts::new(at(0));
        counts.apply(at(1), Event::Start(None));
        counts.apply(at(1), Event::Start(Some(id("a"))));
        counts.apply(at(9), Event::Start(Some(id("b"))));
        assert_eq!(counts.apply(at(10), Event::Lost(at(9))), Became::Lost(2));
        assert_eq!((counts.active(), counts.lost, counts.last_activity), (1, 2, at(9)));
        assert_eq!(counts.apply(at(11), Event::End(Some(id("a")), None)), Became::Unmatched);
        assert!(counts.agree());
    }

    #[test]
    fn starts_without_end_take_no_memory_without_end() {
        let mut counts = Counts::new(at(0));
        let many = (NAMED_MAX + UNNAMED_STARTS_MAX) as i64;
        for n in 0..many {
            counts.apply(at(n), Event::Start(None));
            counts.apply(at(n), Event::Start(Some(id(&n.to_string()))));
        }
        assert_eq!(counts.active(), many as u64 + NAMED_MAX as u64);
        assert_eq!((counts.lost, counts.oldest()), (UNNAMED_STARTS_MAX as u64, Some(at(0))));
        assert!(counts.agree());
        let (shown, left_out) = counts.in_flight(10);
        assert_eq!(shown.iter().map(|f| f.count).sum::<u64>() + left_out, counts.active());
        for _ in 0..many {
            assert_eq!(counts.apply(at(many), Event::End(None, None)), Became::Counted);
        }
        assert_eq!(counts.active(), NAMED_MAX as u64);
    }

    #[test]
    fn ids_are_short_and_printable() {
        assert!(Id::new("update-1/chat:7").is_ok());
        assert_eq!(Id::new(""), Err(BadId::Empty));
        assert_eq!(Id::new(&"x".repeat(ID_MAX + 1)), Err(BadId::Long));
        for bad in ["a b", "a\nb", "é", "\u{7f}"] {
            assert_eq!(Id::new(bad), Err(BadId::Characters));
        }
    }

    fn event() -> impl Strategy<Value = (i64, Event)> {
        let id = proptest::option::of((0..6_u8).prop_map(|n| id(&n.to_string())));
        let took = proptest::option::of((0..40_i64).prop_map(|n| Dur::millis(n * 100)));
        let event = prop_oneof![
            8 => id.clone().prop_map(Event::Start),
            8 => (id, took).prop_map(|(id, took)| Event::End(id, took)),
            1 => (0..200_i64).prop_map(|n| Event::Lost(Micros(0) + Dur::millis(n * 100))),
        ];
        // The clock may also be set back.
        (-2..10_i64, event)
    }

    proptest! {
        #[test]
        fn the_parts_always_agree_and_only_matching_ends_take_away(events in proptest::collection::vec(event(), 0..120)) {
            let mut counts = Counts::new(Micros(0));
            let mut now = Micros(0);
            for (step, event) in events {
                now = now + Dur::millis(step * 100);
                let (before, was_start) = (counts.clone(), matches!(event, Event::Start(_)));
                let became = counts.apply(now, event);
                prop_assert!(counts.agree());
                prop_assert!(counts.last_activity >= before.last_activity);
                let change = counts.active() as i64 - before.active() as i64;
                let wanted = match became {
                    Became::Counted => if was_start { 1 } else { -1 },
                    Became::StartedAgain | Became::Unmatched => 0,
                    Became::Lost(lost) => -(lost as i64),
                };
                prop_assert_eq!(change, wanted);
                prop_assert_eq!(counts.oldest().is_none(), counts.active() == 0);
                prop_assert_eq!(counts.in_flight(1_000).0.iter().map(|f| f.count).sum::<u64>(), counts.active());
            }
        }
    }
}
