//! What has been seen of the lease table, and since when each row stands as it does. By this node's clock alone.

use crate::clock::BootTime;
use crate::store::LeaseRow;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The rows of the table with the moment at which each was first seen as it is now.
pub(super) struct Seen {
    rows: BTreeMap<String, Sighting>,
    take_over: Duration,
    /// The table could not be read since it was read last: nobody could show life.
    blind: bool,
}

struct Sighting {
    row: LeaseRow,
    since: BootTime,
    /// How often its beat has been seen to grow under this holder. Once may be the last beat of a process that was killed while it was on
    /// its way; twice is a living one.
    moves: u32,
}

impl Seen {
    pub(super) const fn new(take_over: Duration) -> Self {
        Self { rows: BTreeMap::new(), take_over, blind: false }
    }

    /// The table could not be read.
    pub(super) const fn missed(&mut self) {
        self.blind = true;
    }

    /// Takes note of the table as it was read at `now`. What stood still while it could not be read has its whole time again.
    pub(super) fn note(&mut self, table: Vec<LeaseRow>, now: BootTime) {
        let blind = std::mem::take(&mut self.blind);
        let mut before = std::mem::take(&mut self.rows);
        for row in table {
            let sighting = match before.remove(&row.scope) {
                Some(known) if known.row == row => Sighting { since: if blind { now } else { known.since }, ..known },
                Some(known) => {
                    let same = known.row.holder == row.holder && known.row.epoch == row.epoch;
                    Sighting { moves: if same { known.moves.saturating_add(1) } else { 0 }, row, since: now }
                }
                None => Sighting { row, since: now, moves: 0 },
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

    /// Since when a scope's row stands as it does.
    pub(super) fn since(&self, scope: &str) -> Option<BootTime> {
        self.rows.get(scope).map(|sighting| sighting.since)
    }

    /// Who else lives on a scope that can only be ours.
    pub(super) fn rival(&self, scope: &str, holder: &str) -> Option<&str> {
        let sighting = self.rows.get(scope)?;
        (sighting.moves > 1 && !sighting.row.holder.is_empty() && sighting.row.holder != holder).then_some(&*sighting.row.holder)
    }
}
