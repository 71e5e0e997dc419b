//! The fact that the folds work on: what one attempt found, reduced to numbers.
//!
//! Bytes (headers, bodies, certificates) live outside the core; a heartbeat only has measures.

use crate::outcome::Outcome;
use crate::time::Micros;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// What can be measured in one attempt. Times in µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The whole attempt.
    Total,
    /// Name resolution, over all hops.
    Dns,
    /// TCP connect, over all hops.
    Connect,
    /// TLS handshake, over all hops.
    Tls,
    /// From the request written to the first byte of the response, over all hops.
    FirstByte,
    /// From the first byte of the response to its last, over all hops.
    Transfer,
    /// Whole days until the first certificate of the chain expires; negative when it has.
    CertDaysLeft,
    /// Lost packets in thousandths.
    LossPermille,
    /// Mean deviation of the round trip.
    Jitter,
}

impl Measure {
    /// The word in configuration, API and rule keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::FirstByte => "first_byte",
            Self::Transfer => "transfer",
            Self::CertDaysLeft => "cert_days_left",
            Self::LossPermille => "loss_permille",
            Self::Jitter => "jitter",
        }
    }
}

/// One attempt as the folds see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// When the attempt began; also its sequence: a fold refuses what is not newer.
    pub at: Micros,
    /// What it found.
    pub outcome: Outcome,
    /// What it measured; a measure that was not taken is absent, never zero.
    pub measures: SmallVec<[(Measure, i64); 7]>,
}

impl Heartbeat {
    /// The value of one measure, if it was taken.
    pub fn measure(&self, what: Measure) -> Option<i64> {
        self.measures.iter().find(|(m, _)| *m == what).map(|(_, v)| *v)
    }
}
