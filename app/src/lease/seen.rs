//! What has been seen of the lease table, and since when each row stands as it does. By this node's clock alone.

use crate::clock::BootTime;
use crate::store::LeaseRow;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The rows of the table with the moment at which each was first seen as it is now.
pub(super) struct Seen {
    rows: BTreeMap<String, Sighting>,
    take_over: Duration,
}

struct Sighting {
    row: LeaseRow,
    since: BootTime,
    /// Its beat has been seen to grow under this holder: a living process is behind it.
    moved: bool,
}

impl Seen {
    pub(super) const fn new(take_over: Duration) -> Self {
        Self { rows: BTreeMap::new(), take_over }
    }

    /// Takes note of the table as it was read at `now`.
    pub(super) fn note(&mut self, table: Vec<LeaseRow>, now: BootTime) {
        let mut before = std::mem::take(&mut self.rows);
        for row in table {
            let sighting = match before.remove(&row.scope) {
                Some(known) if known.row == row => known,
                Some(known) => Sighting { moved: known.row.holder == row.holder && known.row.epoch == row.epoch, row, since: now },
                None => Sighting { row, since: now, moved: false },
            };
            self.rows.insert(sighting.row.scope.clone(), sighting);
        }
    }

    pub(super) fn row(&self, scope: &str) -> Option<&LeaseRow> {
        self.rows.get(scope).map(|sighting| &sighting.row)
    }

    /// Whether a row is nobody's: given back, or without a sign of life for as long as a take-over waits.
    pub(super) fn free(&self, row: &LeaseRow, now: BootTime) -> bool {
        row.holder.is_empty() || self.rows.get(&row.scope).is_none_or(|sighting| now.since(sighting.since) >= self.take_over)
    }

    /// Every scope that somebody shows life on, and until when that counts.
    pub(super) fn alive(&self, now: BootTime) -> HashMap<String, BootTime> {
        let held = self.rows.values().filter(|sighting| !self.free(&sighting.row, now));
        held.map(|sighting| (sighting.row.scope.clone(), sighting.since + self.take_over)).collect()
    }

    /// Rows under a prefix that somebody shows life on.
    pub(super) fn living<'s>(&'s self, prefix: &'s str, now: BootTime) -> impl Iterator<Item = &'s LeaseRow> {
        let under = self.rows.range(prefix.to_owned()..).take_while(move |(scope, _)| scope.starts_with(prefix));
        under.map(|(_, sighting)| &sighting.row).filter(move |row| !self.free(row, now))
    }

    /// Who else lives on a scope that can only be ours.
    pub(super) fn rival(&self, scope: &str, holder: &str) -> Option<&str> {
        let sighting = self.rows.get(scope)?;
        (sighting.moved && !sighting.row.holder.is_empty() && sighting.row.holder != holder).then_some(&*sighting.row.holder)
    }
}
