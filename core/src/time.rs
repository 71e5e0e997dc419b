//! Instants and durations, both in microseconds.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};

/// An instant: UTC microseconds since 1970. Only instants of one clock may be subtracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Micros(pub i64);

/// A length of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dur(pub i64);

impl Dur {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// So many milliseconds.
    pub const fn millis(ms: i64) -> Self {
        Self(ms * 1_000)
    }

    /// So many seconds.
    pub const fn secs(seconds: i64) -> Self {
        Self(seconds * 1_000_000)
    }

    /// So many times as long; saturates.
    #[must_use]
    pub const fn times(self, factor: i64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    /// The same length for the standard library; a negative one is zero.
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_micros(if self.0 < 0 { 0 } else { self.0 as u64 })
    }

    /// From the standard library's duration; saturates.
    pub fn from_std(d: std::time::Duration) -> Self {
        Self(i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
    }
}

impl Add for Dur {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Add<Dur> for Micros {
    type Output = Self;
    fn add(self, d: Dur) -> Self {
        Self(self.0.saturating_add(d.0))
    }
}

impl Sub<Dur> for Micros {
    type Output = Self;
    fn sub(self, d: Dur) -> Self {
        Self(self.0.saturating_sub(d.0))
    }
}

impl Sub for Micros {
    type Output = Dur;
    fn sub(self, earlier: Self) -> Dur {
        Dur(self.0.saturating_sub(earlier.0))
    }
}
