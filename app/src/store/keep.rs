//! Housekeeping: how long what is kept, its limits, and the schema's own rules; the same for both stores.

use super::flat::{DAY, HOUR};
use watchkeeper_core::{Dur, Micros};

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Raw heartbeats and their evidence.
    pub raw: Dur,
    /// Hourly rollups. Days are kept for ever.
    pub hours: Dur,
    /// Resolved incidents with their timelines, notices and messages; also silences that have ended. States are kept for ever.
    pub incidents: Dur,
}

/// What one round of housekeeping did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Housekept {
    /// Heartbeats moved to the clustered table (SQLite).
    pub moved: u64,
    /// Hours computed.
    pub hours: u64,
    /// Days computed.
    pub days: u64,
    /// Rows deleted, or partitions dropped.
    pub deleted: u64,
    /// More is waiting: call again soon.
    pub more: bool,
}

/// A move of heartbeats begins with so many rows waiting (or with [`MOVE_AGE`]) and takes no more at once. More makes every read and
/// every slice of the move scan a longer tail; fewer makes each page of the clustered table be written more often.
pub(super) const MOVE_ROWS: i64 = 100_000;
/// A move begins when the oldest heartbeat has waited for so long.
pub(super) const MOVE_AGE: Dur = Dur::secs(60);
/// Heartbeats copied in one transaction: about 50 ms. More delays commits; fewer scans the tail more often.
pub(super) const MOVE_SLICE: i64 = 5_000;
/// Slices copied in one call.
pub(super) const MOVES: usize = 8;

/// Rollups computed in one transaction: about 20 ms.
pub(super) const ROLLUP_SLICE: i64 = 64;
/// Such transactions in one call.
pub(super) const ROLLUPS: usize = 16;
/// How long after its end an hour is computed. Earlier would compute hours again for heartbeats that were on their way, and a
/// node whose clock is behind by more than this would have its last heartbeats missed until its next late one.
const SETTLE: i64 = 300_000_000;
/// An hour that began longer ago than this is closed.
pub(super) const HOUR_LATE: Dur = Dur(HOUR + SETTLE);
/// A day that began longer ago than this is closed.
pub(super) const DAY_LATE: Dur = Dur(DAY + SETTLE);

/// Rows of one monitor deleted in one transaction.
pub(super) const EXPIRE_SLICE: u64 = 5_000;
/// (monitor, datacenter) pairs looked at in one call.
pub(super) const PAIRS: usize = 256;
/// A pass over everything begins so often. More often finds nothing; less often lets the file grow by what has piled up.
pub(super) const EXPIRE_EVERY: Dur = Dur::secs(600);
/// Live events are for clients that reconnect: older ones are of no use to them.
pub(super) const EVENTS_AGE: Dur = Dur(HOUR);
/// No tenant's live log is longer: a storm must not fill the disk before the hour is over.
pub(super) const EVENTS_MAX: i64 = 100_000;

/// Incidents (with their notices, timelines and actions), messages and silences deleted in one transaction, each. More delays commits;
/// fewer makes more transactions.
pub(super) const INCIDENT_SLICE: i64 = 200;
/// Such transactions in one call.
pub(super) const INCIDENT_SLICES: usize = 16;

/// How far the deletion of old rows has come.
pub(super) enum Expiry {
    /// The last pass ended then.
    Done { at: Micros },
    /// A pass is under way, after this (monitor, datacenter).
    Under { after: (i64, i64) },
}

/// Ranges of keys with about `most` rows each, from (key, rows) in order of key.
pub(super) fn slices(counts: &[(i64, i64)], most: i64) -> Vec<(i64, i64)> {
    let (mut ranges, mut filled): (Vec<(i64, i64)>, i64) = (Vec::new(), most);
    for (key, rows) in counts {
        match ranges.last_mut() {
            Some(range) if filled + rows <= most => {
                range.1 = *key;
                filled += rows;
            }
            Some(_) | None => {
                ranges.push((*key, *key));
                filled = *rows;
            }
        }
    }
    ranges
}

/// Rules that the tables themselves cannot all enforce: a sentence, and a query that names each offender.
pub(super) const RULES: &[(&str, &str)] = &[
    (
        "more than one open incident of a rule",
        "SELECT 'monitor ' || monitor_id || ', rule ' || rule_key FROM wk_incident WHERE resolved_at IS NULL
         GROUP BY monitor_id, rule_key HAVING count(*) > 1",
    ),
    (
        "an incident whose status is not what its times say",
        "SELECT uid FROM wk_incident WHERE (status = 'resolved') <> (resolved_at IS NOT NULL)",
    ),
    (
        "an acknowledged incident that nobody has taken on",
        "SELECT uid FROM wk_incident WHERE status = 'acknowledged' AND acknowledged_by IS NULL
           OR status = 'open' AND acknowledged_by IS NOT NULL",
    ),
    (
        "a notice without its incident",
        "SELECT cause FROM wk_notice n
         WHERE n.incident_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM wk_incident i WHERE i.id = n.incident_id)",
    ),
    (
        "an incident without the beginning of its timeline",
        "SELECT uid FROM wk_incident i
         WHERE NOT EXISTS (SELECT 1 FROM wk_incident_event e WHERE e.incident_id = i.id AND e.kind = 'opened')",
    ),
    (
        "a resolved incident without the end of its timeline",
        "SELECT uid FROM wk_incident i WHERE i.resolved_at IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM wk_incident_event e WHERE e.incident_id = i.id AND e.kind = 'resolved')",
    ),
    (
        "a monitor with more than one open state interval",
        "SELECT 'monitor ' || monitor_id FROM wk_interval WHERE end_at IS NULL GROUP BY monitor_id HAVING count(*) > 1",
    ),
    (
        "a state interval that ends before it begins",
        "SELECT 'monitor ' || monitor_id || ', start ' || start FROM wk_interval WHERE end_at < start",
    ),
    ("a sent notice without its message", "SELECT cause FROM wk_notice WHERE state = 'sent' AND (message_id IS NULL OR sent_at IS NULL)"),
    ("a held or suppressed notice without a reason", "SELECT cause FROM wk_notice WHERE state IN ('held', 'suppressed') AND why IS NULL"),
    (
        "a timeline whose count is not that of its entries",
        "SELECT uid FROM wk_incident i WHERE rev <> (SELECT count(*) FROM wk_incident_event e WHERE e.incident_id = i.id)",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_hold_about_as_many_rows_as_wanted() {
        assert_eq!(slices(&[(1, 3), (2, 3), (4, 3), (7, 99), (9, 1)], 6), vec![(1, 2), (4, 4), (7, 7), (9, 9)]);
        assert_eq!(slices(&[], 6), vec![]);
    }
}
