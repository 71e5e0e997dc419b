//! Which instants are a monitor's windows.
//!
//! A monitor's windows lie on a grid of its own: multiples of its interval, moved by a phase that its id
//! decides. So a start makes no burst, nothing drifts, and every node and every restart computes the same grid.
//! While a streak is running, the next attempt follows the last one by `recheck` instead.
//! Cron windows are what the pattern says, to the second, without a phase.

use std::str::FromStr;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::sight::Pace;
use watchkeeper_core::{Dur, Micros};

/// When attempts of one monitor are due.
#[derive(Clone, Debug)]
pub struct Cadence {
    /// The regular windows.
    pub plan: Plan,
    /// How long after the last attempt's beginning the next one follows while a streak is running.
    pub recheck: Dur,
}

/// The regular windows.
#[derive(Clone, Debug)]
pub enum Plan {
    /// At a fixed interval, by health.
    Every(Every),
    /// As a cron pattern says.
    Cron(Box<Cron>),
}

/// Intervals by health; what is not set uses the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    /// For every health without its own.
    pub default: Dur,
    /// While up.
    pub up: Option<Dur>,
    /// While degraded.
    pub degraded: Option<Dur>,
    /// While down.
    pub down: Option<Dur>,
    /// While we cannot look.
    pub unknown: Option<Dur>,
}

impl Every {
    /// The same interval whatever the health.
    pub const fn fixed(default: Dur) -> Self {
        Self { default, up: None, degraded: None, down: None, unknown: None }
    }

    /// Between two windows at that pace.
    const fn at(&self, pace: Pace) -> Dur {
        match pace {
            Pace::Steady(health) => self.of(health),
            Pace::Recheck => self.default,
        }
    }

    const fn of(&self, health: Health) -> Dur {
        let own = match health {
            Health::Up => self.up,
            Health::Degraded => self.degraded,
            Health::Down => self.down,
            Health::Unknown => self.unknown,
            // Pending is paced by `recheck`; a steady pace never asks for it.
            Health::Pending => None,
        };
        match own {
            Some(d) => d,
            None => self.default,
        }
    }
}

/// Where it is looked whether a pattern ever comes true: the start of 2026. A fixed instant, so that a pattern that was good stays good.
const ASKED_FROM: Micros = Micros(1_767_225_600_000_000);

/// A pattern must come true within 8 years: the 29th of February does even around a century, the 30th never does.
const COMES_WITHIN: Dur = Dur::secs(8 * 366 * 86_400);

/// A cron pattern with 5 or 6 fields (seconds first) in a time zone.
///
/// Daylight saving, as Vixie cron and the Open Cron Pattern Specification have it: a fixed time that a
/// forward change skips runs once at the end of the gap; a fixed time that a backward change doubles runs once,
/// the first time. Patterns with a `*` or a step in minute or hour follow elapsed time instead.
#[derive(Clone, Debug)]
pub struct Cron {
    pattern: croner::Cron,
    zone: jiff::tz::TimeZone,
}

impl Cron {
    /// Parses a pattern and a zone's IANA name; the error says what is accepted. A pattern that never comes true is one.
    pub fn parse(pattern: &str, zone: &str) -> Result<Self, String> {
        let bad = |fault: &str| {
            let shown = crate::config::decode::shown(pattern);
            format!("`{shown}` is no cron pattern: {fault}; accepted are 5 fields (minute hour day month weekday) or 6 (second first)")
        };
        let fields = pattern.split_whitespace().count();
        if !(5..=6).contains(&fields) {
            return Err(bad(&if fields == 1 { "1 field".to_owned() } else { format!("{fields} fields") }));
        }
        let compiled = croner::Cron::from_str(pattern).map_err(|e| bad(e.to_string().trim_end_matches('.')))?;
        let zone = jiff::tz::TimeZone::get(zone)
            .map_err(|_| format!("`{zone}` is no time zone; accepted are IANA names such as Europe/Berlin or UTC"))?;
        let cron = Self { pattern: compiled, zone };
        let first = cron.next(ASKED_FROM);
        if first.is_none_or(|first| first - ASKED_FROM > COMES_WITHIN) {
            return Err(bad("it does not come true within 8 years"));
        }
        Ok(cron)
    }

    /// The first window after `after`; `None` if there is none within the pattern's years.
    pub fn next(&self, after: Micros) -> Option<Micros> {
        let at = jiff::Timestamp::from_microsecond(after.0).ok()?.to_zoned(self.zone.clone());
        let next = self.pattern.find_next_occurrence(&at, false).ok()?;
        Some(Micros(next.timestamp().as_microsecond()))
    }

    /// The last window before `before`, or at it if `inclusive`; `None` if there is none within the pattern's years.
    pub fn previous(&self, before: Micros, inclusive: bool) -> Option<Micros> {
        let at = jiff::Timestamp::from_microsecond(before.0).ok()?.to_zoned(self.zone.clone());
        let previous = self.pattern.find_previous_occurrence(&at, inclusive).ok()?;
        Some(Micros(previous.timestamp().as_microsecond()))
    }
}

impl Cadence {
    /// A fixed interval with the given recheck.
    pub const fn every(interval: Dur, recheck: Dur) -> Self {
        Self { plan: Plan::Every(Every::fixed(interval)), recheck }
    }

    /// The interval at a health; for cron the longest gap among the windows that follow `now`.
    pub fn interval(&self, health: Health, now: Micros) -> Dur {
        match &self.plan {
            Plan::Every(every) => every.of(health),
            Plan::Cron(cron) => {
                let mut longest = Dur::secs(1);
                let mut at = now;
                for _ in 0..CRON_GAPS_LOOKED_AT {
                    let Some(next) = cron.next(at) else { break };
                    longest = longest.max(next - at);
                    at = next;
                }
                longest
            }
        }
    }

    /// The fixed interval at a health; zero for cron, whose gaps vary.
    pub const fn interval_quick(&self, health: Health) -> Dur {
        match &self.plan {
            Plan::Every(every) => every.of(health),
            Plan::Cron(_) => Dur::ZERO,
        }
    }

    /// When the next attempt is due. `spread` moves the grid (from the monitor's id); `last` is when the last attempt began.
    /// Never before `now`.
    pub fn next(&self, spread: u64, pace: Pace, last: Option<Micros>, now: Micros) -> Micros {
        let steady = match &self.plan {
            Plan::Every(every) => grid(every.at(pace), spread, now),
            // A pattern without any further window: look again in a day, which costs nothing.
            Plan::Cron(cron) => cron.next(now).unwrap_or(now + Dur::secs(86_400)),
        };
        match pace {
            Pace::Steady(_) => steady,
            Pace::Recheck => last.map_or(now, |last| (last + self.recheck).max(now)).min(steady),
        }
    }

    /// The newest window between an attempt that began at `last` and `now`, in which nobody looked, with how many went by before it. What
    /// was run a moment before its window has had it.
    pub fn overdue(&self, spread: u64, pace: Pace, last: Micros, now: Micros) -> Option<(Micros, u64)> {
        let (window, before) = match &self.plan {
            Plan::Every(every) => {
                let step = every.at(pace);
                let window = grid(step, spread, now) - step;
                (window, (window - last).0.saturating_sub(1) / step.0.max(1))
            }
            // Windows of a pattern are not counted one by one.
            Plan::Cron(cron) => (cron.previous(now, true)?, 0),
        };
        (window > last).then_some((window, before.max(0) as u64))
    }
}

/// How many gaps of a cron pattern are compared to find its longest: enough for a week of a daily pattern.
const CRON_GAPS_LOOKED_AT: usize = 8;

/// The first point of the grid after `now`.
fn grid(interval: Dur, spread: u64, now: Micros) -> Micros {
    let interval = interval.0.max(1);
    let phase = (spread % interval as u64) as i64;
    Micros((now.0 - phase).div_euclid(interval) * interval + interval + phase)
}

/// A well mixed number from an id: neighbouring ids land far apart on the grid (SplitMix64's finaliser).
pub const fn spread_of(id: i64) -> u64 {
    let mut z = (id as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_window_in_which_nobody_looked_is_found_and_those_before_it_are_counted() {
        let (minute, recheck) = (Dur::secs(60), Dur::secs(5));
        let cadence = Cadence::every(minute, recheck);
        let up = Pace::Steady(Health::Up);
        let first = cadence.next(7, up, None, at("2026-03-01T12:00:00Z"));
        let ran = first + Dur(3_000);
        // The next window is still to come; then it is a second past; then four are.
        assert_eq!(cadence.overdue(7, up, ran, first + minute - Dur(1)), None);
        assert_eq!(cadence.overdue(7, up, ran, first + minute + Dur::secs(1)), Some((first + minute, 0)));
        let fourth = first + minute + minute + minute + minute;
        assert_eq!(cadence.overdue(7, up, ran, fourth + Dur::secs(1)), Some((fourth, 3)));
        // A clock that was set back.
        assert_eq!(cadence.overdue(7, up, ran, first - minute), None);
        let nightly = Cadence { plan: Plan::Cron(Box::new(Cron::parse("0 3 * * *", "UTC").unwrap())), recheck };
        assert_eq!(
            nightly.overdue(7, up, at("2026-03-01T03:00:00.010Z"), at("2026-03-02T03:00:08Z")),
            Some((at("2026-03-02T03:00:00Z"), 0))
        );
        assert_eq!(nightly.overdue(7, up, at("2026-03-02T03:00:00.010Z"), at("2026-03-02T03:00:08Z")), None);
    }

    fn at(text: &str) -> Micros {
        Micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn windows(pattern: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
        let cron = Cron::parse(pattern, zone).unwrap();
        let mut now = at(from);
        (0..n)
            .map(|_| {
                now = cron.next(now).unwrap();
                jiff::Timestamp::from_microsecond(now.0).unwrap().to_string()
            })
            .collect()
    }

    #[test]
    fn cron_with_five_and_six_fields_in_a_zone() {
        assert_eq!(windows("*/5 * * * *", "UTC", "2026-01-01T00:01:00Z", 2), ["2026-01-01T00:05:00Z", "2026-01-01T00:10:00Z"]);
        assert_eq!(windows("*/30 * * * * *", "UTC", "2026-01-01T00:00:01Z", 2), ["2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"]);
        assert_eq!(windows("0 9 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", 1), ["2026-01-01T08:00:00Z"]);
        assert!(Cron::parse("every day", "UTC").unwrap_err().contains("5 fields"));
        assert!(Cron::parse("* * * * *", "Mars/Olympus").unwrap_err().contains("IANA"));
    }

    #[test]
    fn a_pattern_that_never_comes_true_or_has_other_fields_is_refused() {
        for good in ["0 0 29 2 *", "0 0 31 12 *", "59 59 23 * * *"] {
            assert!(Cron::parse(good, "UTC").is_ok(), "{good}");
        }
        for (bad, fault) in [
            ("0 0 30 2 *", "it does not come true within 8 years; accepted are"),
            ("0 0 0 31 4,6,9,11 *", "within 8 years; accepted are"),
            ("0 0 0 1 1 * 2030", "pattern: 7 fields; accepted are"),
            ("0 3 * *", "pattern: 4 fields; accepted are"),
            ("@daily", "pattern: 1 field; accepted are"),
            ("61 * * * *", "out of bounds; accepted are"),
        ] {
            let error = Cron::parse(bad, "Europe/Berlin").unwrap_err();
            assert!(error.contains(fault), "{bad}: {error}");
        }
    }

    #[test]
    fn a_skipped_fixed_time_runs_once_at_the_end_of_the_gap_and_a_doubled_one_once() {
        // Berlin skips 02:00–03:00 on 2026-03-29 and doubles 02:00–03:00 on 2026-10-25.
        assert_eq!(windows("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2), ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        assert_eq!(windows("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2), ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    proptest! {
        #[test]
        fn the_grid_neither_drifts_nor_bursts(id in 1_i64..1_000_000, every in 1_i64..3_600, now in 0_i64..2_000_000_000_000_000) {
            let cadence = Cadence::every(Dur::secs(every), Dur::secs(1));
            let pace = Pace::Steady(Health::Up);
            let first = cadence.next(spread_of(id), pace, None, Micros(now));
            prop_assert!(first.0 > now && first.0 <= now + every * 1_000_000);
            // Asked a little late, the next window is exactly one interval on.
            let second = cadence.next(spread_of(id), pace, Some(first), Micros(first.0 + 17));
            prop_assert_eq!(second - first, Dur::secs(every));
        }

        #[test]
        fn cron_windows_strictly_advance_through_daylight_saving(start in 1_700_000_000_i64..1_900_000_000, zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]), pattern in prop::sample::select(vec!["*/7 * * * *", "30 2 * * *", "0 0 1 * *", "15 */5 * * * *", "0 1 * * SUN"])) {
            let cron = Cron::parse(pattern, zone).unwrap();
            let mut now = Micros(start * 1_000_000);
            for _ in 0..20 {
                let next = cron.next(now).unwrap();
                prop_assert!(next > now);
                now = next;
            }
        }

        #[test]
        fn a_recheck_is_never_later_than_the_grid(id in 1_i64..1_000, last in 0_i64..100_000_000, waited in 0_i64..30_000_000) {
            let cadence = Cadence::every(Dur::secs(30), Dur::secs(5));
            let now = Micros(last + waited);
            let due = cadence.next(spread_of(id), Pace::Recheck, Some(Micros(last)), now);
            prop_assert!(due >= now && due <= Micros(last + 5_000_000).max(now));
        }
    }

    #[test]
    fn ids_spread_evenly_over_an_interval() {
        let mut slots = [0_u32; 100];
        for id in 1..=10_000 {
            slots[(spread_of(id) % 10_000_000 / 100_000) as usize] += 1;
        }
        assert!(slots.iter().all(|n| (50..160).contains(n)), "{slots:?}");
    }
}
