//! The one place that reads the clock: the wall clock at start, and the monotonic time since. A step of the wall clock makes no
//! request older and no grace shorter.

use std::time::{Instant, SystemTime, UNIX_EPOCH};
use watchkeeper_core::{Dur, Micros};

/// A clock that never steps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Micros,
    mono: Instant,
}

impl Clock {
    /// The system's.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
    pub fn system() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Micros(Dur::from_std(since_1970).0), mono: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Micros {
        self.wall + Dur::from_std(self.mono.elapsed())
    }
}

/// RFC 3339 with whole seconds, as `/metrics` promises: `2025-10-14T12:30:45Z`.
pub fn rfc3339(at: Micros) -> String {
    // A year beyond 9999 can only come from a file that something else has written.
    jiff::Timestamp::from_second(at.0.div_euclid(1_000_000)).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_in_whole_seconds() {
        assert_eq!(rfc3339(Micros(1_760_445_045_999_999)), "2025-10-14T12:30:45Z");
        assert_eq!(rfc3339(Micros(i64::MAX)), "1970-01-01T00:00:00Z");
    }
}
