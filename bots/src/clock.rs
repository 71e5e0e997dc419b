//! The one place that reads the wall clock. Waits and ages go by the monotonic clock, which everybody may read.

use jiff::Timestamp;

/// Now, in UTC.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// RFC 3339 with whole seconds: `2025-10-14T12:30:45Z`.
pub fn rfc3339(at: Timestamp) -> String {
    // Whole seconds of a timestamp are one.
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
