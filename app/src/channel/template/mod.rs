//! How the words of a message are arranged: our own way, and three that people are used to from other systems.
//!
//! A template answers only for what it has words for; everything else is told natively, so that nothing is left untold.

pub(super) mod native;
pub(super) mod stardust;
pub(super) mod v_insight;
pub(super) mod watchdog;

use super::content::Message;
use super::words::{States, Words, fill};

/// Rules by what they mean to a reader; a rule with a name of its own is called by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning<'a> {
    Down,
    Slow(Option<&'a str>),
    SslExpiry,
    MissedPush,
    Blind,
    Named(&'a str),
}

impl<'a> Meaning<'a> {
    fn of(rule: &'a str) -> Self {
        match rule.split_once('/').map_or((rule, None), |(kind, phase)| (kind, Some(phase))) {
            ("down", None) => Self::Down,
            ("slow_response", phase) => Self::Slow(phase.filter(|p| *p != "total")),
            ("ssl_expiry", None) => Self::SslExpiry,
            ("missed_push", None) => Self::MissedPush,
            ("blind", None) => Self::Blind,
            _ => Self::Named(rule),
        }
    }

    const fn states(self, words: &Words) -> &States {
        match self {
            Self::Down => &words.down,
            Self::Slow(None) => &words.slow,
            Self::Slow(Some(_)) => &words.slow_phase,
            Self::SslExpiry => &words.ssl_expiry,
            Self::MissedPush => &words.missed_push,
            Self::Blind => &words.blind,
            Self::Named(_) => &words.named,
        }
    }

    /// One of its patterns about this monitor.
    fn say(self, pattern: &str, name: &str) -> String {
        let phase = match self {
            Self::Slow(Some(phase)) => phase.replace('_', " "),
            Self::Down | Self::Slow(None) | Self::SslExpiry | Self::MissedPush | Self::Blind | Self::Named(_) => String::new(),
        };
        let rule = match self {
            Self::Named(rule) => rule,
            Self::Down | Self::Slow(_) | Self::SslExpiry | Self::MissedPush | Self::Blind => "",
        };
        fill(pattern, &[("name", name), ("phase", &phase), ("rule", rule)])
    }
}

/// Whether it ended because things are well, and not because nobody looks any more or a person said so.
fn recovered(message: &Message) -> bool {
    !matches!(message.resolved_why.as_deref(), Some("retired" | "rule_removed" | "operator"))
}
