//! How late this node runs its own tasks, so that its own slowness is never taken for a target's.
//!
//! A task sleeps for short times and notes how much later it woke. An attempt consists of a handful of such waits; when its
//! deadline passes while every wait is that late, nobody can say whether the target would have been in time: the attempt is
//! `Unknown(late)`. A target that answers, however late we were, is judged by its answer.

use crate::clock::next_beat;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often the task wakes. More often costs an idle node; more rarely misses short stalls.
const TICK: Duration = Duration::from_millis(250);
/// So many ticks are remembered: two minutes, longer than any attempt may take.
const SLOTS: usize = 512;
/// An attempt waits about so many times (name, connect, two flights of TLS, request, first byte, body, its task's own turn): if
/// each wait is late by this part of the time-out, half of it is ours.
const WAITS: u32 = 16;

/// What the last ticks have shown. Cheap to clone.
#[derive(Clone)]
pub struct Lateness(Arc<Ticks>);

struct Ticks {
    origin: Instant,
    /// The number of the tick in the upper half, how late it was in µs in the lower.
    slots: Vec<AtomicU64>,
}

impl Default for Lateness {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Ticks { origin: Instant::now(), slots }))
    }
}

impl Lateness {
    /// Notes lateness until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let due = next_beat(TICK);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(due.into()) => self.note(Instant::now(), Instant::now().saturating_duration_since(due)),
            }
        }
    }

    fn note(&self, at: Instant, late: Duration) {
        let tick = self.tick(at);
        let late_us = u32::try_from(late.as_micros()).unwrap_or(u32::MAX);
        // Ticks that were slept through are as late as the one that ended the sleep.
        let asleep = u64::try_from(late.as_millis() / TICK.as_millis()).unwrap_or(0).min(SLOTS as u64 - 1);
        for number in tick.saturating_sub(asleep)..=tick {
            self.0.slots[number as usize % SLOTS].store(number << 32 | u64::from(late_us), Ordering::Relaxed);
        }
    }

    fn tick(&self, at: Instant) -> u64 {
        (at.saturating_duration_since(self.0.origin).as_millis() / TICK.as_millis()) as u64
    }

    /// The worst lateness between two instants; what lies further back than is remembered does not count.
    pub fn worst(&self, from: Instant, to: Instant) -> Duration {
        let (first, last) = (self.tick(from), self.tick(to));
        let worst = (first.max(last.saturating_sub(SLOTS as u64 - 1))..=last)
            .map(|number| self.0.slots[number as usize % SLOTS].load(Ordering::Relaxed))
            .filter(|slot| (first..=last).contains(&(slot >> 32)))
            .map(|slot| slot & u64::from(u32::MAX))
            .max();
        Duration::from_micros(worst.unwrap_or(0))
    }

    /// Whether a deadline of `timeout` that passed at `to` says something about us rather than about the target.
    pub fn spoils(&self, timeout: Duration, from: Instant, to: Instant) -> Option<Duration> {
        let worst = self.worst(from, to);
        (worst * WAITS >= timeout).then_some(worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lateness_within_the_attempt_and_in_proportion_to_it_counts() {
        let lateness = Lateness::default();
        let at = |ms: u64| lateness.0.origin + Duration::from_millis(ms);
        for tick in 1..400 {
            lateness.note(at(tick * 250), Duration::from_micros(if tick == 100 { 70_000 } else { 200 }));
        }
        let spoilt = |timeout: u64, from: u64, to: u64| lateness.spoils(Duration::from_millis(timeout), at(from), at(to)).is_some();
        assert!(spoilt(1_000, 24_500, 25_500), "70 ms at each of several waits is half of a second");
        assert!(!spoilt(10_000, 20_000, 30_000), "but not of ten");
        assert!(!spoilt(1_000, 30_000, 31_000), "that was before");
        assert_eq!(lateness.worst(at(90_000), at(99_000)), Duration::from_micros(200));
        // A stall of a second covers the attempts within it.
        lateness.note(at(120_000), Duration::from_millis(1_000));
        assert!(spoilt(1_000, 119_200, 119_600));
        assert!(!spoilt(1_000, 117_000, 118_000));
    }
}
