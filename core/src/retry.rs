//! When to try a delivery again.
//!
//! Exponential with full spread below the cap, so that many failed messages do not return at once.
//! The number that spreads is an argument: this crate draws no random numbers.

use crate::time::Dur;

/// The first pause; short, because most provider failures pass within a second.
pub const FIRST: Dur = Dur::secs(1);
/// The longest pause. Longer would leave a person untold for longer after the provider is back;
/// shorter would hammer a provider that is down for hours.
pub const LONGEST: Dur = Dur::secs(300);
/// A delivery is given up as a dead letter after so many attempts: with the pauses above about eighteen hours.
pub const ATTEMPTS_MAX: u32 = 300;

/// A channel that has taken nothing for so long is no longer waited for: the last resort is told too. Longer would leave a night without
/// a word; shorter would call for it while a provider merely restarts.
pub const LAST_RESORT_AFTER: Dur = Dur::secs(300);

/// The pause after the `attempt`-th failed attempt (from 1). `spread` is any number: it moves the pause
/// within its upper half. A pause that the provider asked for wins if it is longer.
pub fn pause(attempt: u32, asked: Option<Dur>, spread: u64) -> Dur {
    let doubled = FIRST.0.saturating_mul(1_i64 << attempt.saturating_sub(1).min(20)).min(LONGEST.0);
    let half = doubled / 2;
    let spread = half + (spread % (half.max(1) as u64 + 1)) as i64;
    Dur(spread.max(asked.map_or(0, |d| d.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_obeys_the_provider() {
        assert_eq!(pause(1, None, 0), Dur::millis(500));
        assert!(pause(4, None, 12345) >= Dur::secs(4) && pause(4, None, 12345) <= Dur::secs(8));
        assert!(pause(99, None, u64::MAX) <= LONGEST);
        assert_eq!(pause(1, Some(Dur::secs(30)), 7), Dur::secs(30));
    }
}
