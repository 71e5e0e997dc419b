//! Types of the store's contract around pushes.

use watchkeeper_core::{Micros, MonitorId};

/// What kind of push came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// The job began.
    Start,
    /// It ended well.
    Ok,
    /// It failed.
    Fail,
    /// Only a word for the log.
    Log,
}

impl PushKind {
    /// The stored number.
    pub const fn code(self) -> i16 {
        match self {
            Self::Start => 0,
            Self::Ok => 1,
            Self::Fail => 2,
            Self::Log => 3,
        }
    }

    /// Reads the stored number.
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Start),
            1 => Some(Self::Ok),
            2 => Some(Self::Fail),
            3 => Some(Self::Log),
            _ => None,
        }
    }
}

/// One push, a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRow {
    /// 0 when it is to be inserted.
    pub id: i64,
    /// For which monitor.
    pub monitor: MonitorId,
    /// What kind.
    pub kind: PushKind,
    /// Exit code, if the sender gave one.
    pub exit: Option<i32>,
    /// Round trip the sender reported, in µs.
    pub ping_us: Option<i64>,
    /// What the sender said, at most [`PUSH_BODY_MAX`] bytes.
    pub body: String,
    /// When it came in.
    pub at: Micros,
}

/// So much of a push's body is kept, as Healthchecks does (10 KiB); more is cut, not refused.
pub const PUSH_BODY_MAX: usize = 10 * 1024;
