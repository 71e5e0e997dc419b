//! Row ids as types of their own, so that a monitor can never be taken for a channel.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta] $name:ident),+ $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);
    )+};
}

id! {
    /// Owner of everything else.
    TenantId,
    /// What is watched.
    MonitorId,
    /// Where probes run from.
    DatacenterId,
    /// One running node.
    AgentId,
    /// Where messages go.
    ChannelId,
    /// One open breach of one rule on one monitor.
    IncidentId,
}

/// A reserved block of ids: pure code draws from it, the caller refills it from the store.
#[derive(Clone, Debug, Default)]
pub struct IdBlock {
    next: i64,
    end: i64,
}

impl IdBlock {
    /// The ids `start..end`.
    pub const fn new(start: i64, end: i64) -> Self {
        Self { next: start, end }
    }

    /// How many are left.
    pub const fn left(&self) -> i64 {
        self.end - self.next
    }

    /// The next id, or `None` when the block is used up: the caller keeps it filled.
    pub const fn draw(&mut self) -> Option<i64> {
        if self.next < self.end {
            let id = self.next;
            self.next += 1;
            Some(id)
        } else {
            None
        }
    }
}
