//! Push: the watched job tells us; we only notice when it does not.
//!
//! There is no attempt and so no `Probe`: pushes come in by the web, are rows in the store, and are folded by the engine.
//! Silence for longer than `expect_every` + `grace` is `Down(push_missed)`.

use super::ProbeConfig;
use crate::config::decode::{Fields, Key, Node, Problems, duration};
use crate::config::tagged::Kind;
use watchkeeper_core::Dur;

/// Keys of `push:`.
pub const KEYS: &[Key] = &[
    Key { name: "expect_every", form: "a duration from 1s to 366d", default: "", doc: "A push is expected at least so often." },
    Key { name: "grace", form: "a duration from 0s to 366d", default: "1m", doc: "It may be late by so much before it counts as missed." },
];

/// The line of the list of kinds.
pub const KIND: Kind<ProbeConfig> = Kind {
    name: "push",
    doc: "The job reports to us: /api/push/TOKEN or /ping/UUID.",
    keys: KEYS,
    sections: &[],
    examples: &[("expect_every", "24h")],
    address: &[],
    decode: |node, problems| Config::decode(node, problems).map(ProbeConfig::Push),
};

/// Longer waits are refused: they are mistakes of unit, and a job that runs once in years is not watched by this.
const WAIT_MAX: Dur = Dur::secs(366 * 86_400);

/// What `push:` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// A push is expected at least so often.
    pub expect_every: Dur,
    /// It may be late by so much.
    pub grace: Dur,
}

impl Config {
    /// Reads the section; `None` after a problem was noted.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, KEYS, problems)?;
        let expect_every = fields.require("expect_every", problems).and_then(|n| duration(n, Dur::secs(1)..=WAIT_MAX, problems));
        let grace = fields.get("grace").map_or(Some(Dur::secs(60)), |n| duration(n, Dur::ZERO..=WAIT_MAX, problems));
        Some(Self { expect_every: expect_every?, grace: grace? })
    }
}
