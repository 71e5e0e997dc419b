//! From the votes of the datacenters to one health.

use crate::outcome::{Blind, Reason};
use crate::time::Micros;
use serde::{Deserialize, Serialize};

/// What one datacenter, or the whole installation, holds to be true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nobody could look, or nobody has looked yet.
    #[default]
    Unknown,
    /// Fine.
    Up,
    /// Reachable, but a rule other than `down` is breached.
    Degraded,
    /// Failing, not yet often enough.
    Pending,
    /// Failing.
    Down,
}

impl Health {
    /// The word in API, metrics and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Pending => "pending",
            Self::Down => "down",
        }
    }

    /// The stored number.
    pub const fn code(self) -> i16 {
        match self {
            Self::Unknown => 0,
            Self::Up => 1,
            Self::Degraded => 2,
            Self::Pending => 3,
            Self::Down => 4,
        }
    }

    /// Reads the stored number; `None` for one this version does not know.
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Unknown),
            1 => Some(Self::Up),
            2 => Some(Self::Degraded),
            3 => Some(Self::Pending),
            4 => Some(Self::Down),
            _ => None,
        }
    }
}

/// How many datacenters must see a monitor down before it is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quorum {
    /// One is enough.
    Any,
    /// More than half of those that can see.
    #[default]
    Majority,
    /// Every one that can see.
    All,
    /// At least so many.
    AtLeast(u16),
}

/// One datacenter's vote, as far as health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// What it sees.
    pub health: Health,
    /// Why it is down or pending.
    pub reason: Option<Reason>,
    /// Why it could not look.
    pub blind: Option<Blind>,
    /// Until when the vote counts.
    pub good_until: Micros,
}

/// The outcome of the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// What is true.
    pub health: Health,
    /// The reason given by the first datacenter that is on the deciding side.
    pub reason: Option<Reason>,
    /// Why nobody could look, when health is unknown.
    pub blind: Option<Blind>,
}

/// Counts the votes. Unknown and stale ones do not count; when none counts, the health is unknown.
pub fn count<'a>(ballots: impl Iterator<Item = &'a Ballot> + Clone, need: Quorum, now: Micros) -> Count {
    let (mut seeing, mut down, mut failing) = (0_u32, 0_u32, 0_u32);
    let mut reason = None;
    let mut blind = None;
    for ballot in ballots {
        if ballot.good_until < now {
            continue;
        }
        match ballot.health {
            Health::Unknown => {
                blind = blind.or(ballot.blind);
                continue;
            }
            Health::Up | Health::Degraded => {}
            Health::Pending => {
                failing += 1;
                reason = reason.or(ballot.reason);
            }
            Health::Down => {
                down += 1;
                failing += 1;
                reason = ballot.reason.or(reason);
            }
        }
        seeing += 1;
    }
    let enough = match need {
        Quorum::Any => 1,
        Quorum::Majority => seeing / 2 + 1,
        Quorum::All => seeing.max(1),
        Quorum::AtLeast(n) => u32::from(n.max(1)),
    };
    let health = if seeing == 0 {
        Health::Unknown
    } else if down >= enough {
        Health::Down
    } else if failing > 0 {
        Health::Pending
    } else {
        Health::Up
    };
    Count { health, reason: if failing > 0 { reason } else { None }, blind: if health == Health::Unknown { blind } else { None } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(votes: &str, need: Quorum) -> Health {
        let ballots: Vec<Ballot> = votes
            .chars()
            .map(|c| {
                let (health, good_until) = match c {
                    'u' => (Health::Up, 10),
                    'p' => (Health::Pending, 10),
                    'd' => (Health::Down, 10),
                    'D' => (Health::Down, 1),
                    _ => (Health::Unknown, 10),
                };
                Ballot { health, reason: None, blind: None, good_until: Micros(good_until) }
            })
            .collect();
        count(ballots.iter(), need, Micros(5)).health
    }

    #[test]
    fn table() {
        let cases = [
            ("", Quorum::Any, Health::Unknown),
            ("?", Quorum::Majority, Health::Unknown),
            ("D", Quorum::Any, Health::Unknown), // stale
            ("u", Quorum::Majority, Health::Up),
            ("d", Quorum::Majority, Health::Down),
            ("p", Quorum::Any, Health::Pending),
            ("du", Quorum::Majority, Health::Pending),
            ("du", Quorum::Any, Health::Down),
            ("ddu", Quorum::Majority, Health::Down),
            ("dd?", Quorum::All, Health::Down),
            ("ddu", Quorum::All, Health::Pending),
            ("d??", Quorum::AtLeast(2), Health::Pending),
            ("dd?", Quorum::AtLeast(2), Health::Down),
        ];
        for (votes, need, want) in cases {
            assert_eq!(of(votes, need), want, "{votes} {need:?}");
        }
    }
}
