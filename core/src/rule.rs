//! What makes an alert: a trigger, a threshold, a severity and a route.

use crate::heartbeat::Measure;
use crate::ids::ChannelId;
use crate::time::Dur;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// The identity of a rule within its monitor: its kind (plus phase for `slow_response`), or its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct RuleKey(Arc<str>);

impl RuleKey {
    /// A key from its text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for RuleKey {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<RuleKey> for String {
    fn from(key: RuleKey) -> Self {
        key.0.as_ref().to_owned()
    }
}

impl fmt::Display for RuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How bad it is; also the order in which messages leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look today.
    Warning,
    /// Worth waking up for.
    Critical,
}

impl Severity {
    /// The word in configuration and API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The stored number.
    pub const fn code(self) -> i16 {
        match self {
            Self::Info => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }

    /// Reads the stored number.
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Info),
            1 => Some(Self::Warning),
            2 => Some(Self::Critical),
            _ => None,
        }
    }
}

/// When a rule is breached. Thresholds are compiled: the core never parses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The verdict is down (for any reason but a missed push).
    Down,
    /// The verdict is down because the expected push did not come.
    MissedPush,
    /// A measure was above `limit` in at least `n` of the last `of` attempts that took it (`of` ≤ 64).
    Above {
        /// What is compared.
        what: Measure,
        /// The largest value that is still fine.
        limit: i64,
        /// So many breaches …
        n: u8,
        /// … among so many attempts.
        of: u8,
    },
    /// The newest value of a measure is at or below `limit`.
    AtMost {
        /// What is compared.
        what: Measure,
        /// The largest value that is a breach.
        limit: i64,
    },
    /// We have not been able to look for so long.
    Blind {
        /// How long the verdict must have been unknown.
        hold: Dur,
    },
}

/// One rule of one monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its identity.
    pub key: RuleKey,
    /// When it is breached.
    pub trigger: Trigger,
    /// How bad that is.
    pub severity: Severity,
    /// How long it must stay breached before the incident opens; zero for at once.
    pub hold: Dur,
    /// Who is told.
    pub channels: SmallVec<[ChannelId; 2]>,
    /// While it lasts and nobody has acknowledged it, it is told again after so long.
    pub remind: Option<Dur>,
    /// Who else is told when nobody acknowledges it, by how long after its beginning; in that order.
    pub escalate: Vec<Step>,
    /// Breached again within so long after its end, the rule *flaps*: its incident then ends only after it has been clear for so
    /// long. Zero: it never does.
    pub flap_window: Dur,
    /// So long after a word about it, the same word is not repeated; a change always is told.
    pub cooldown: Dur,
}

/// One step of an escalation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long after the beginning.
    pub after: Dur,
    /// Who is told then.
    pub channels: SmallVec<[ChannelId; 2]>,
}
