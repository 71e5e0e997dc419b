//! A batch flattened into rows, the same for both stores: the newest sight and verdict of each monitor, chains of intervals,
//! incidents in the state they leave the batch in, with the entries of their timelines.
//!
//! Both stores then write each kind of row with bulk statements. Nothing here decides; what is dropped is dropped because its
//! fence was found stale.

use super::course::{Course, EntryOut, incident_of};
use super::error::refused;
use super::rows::{self, Sql};
use super::{Batch, Committed, Decision, Fence, IncidentWrite, LiveWrite, NoticeWrite, Scope, fold};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use watchkeeper_core::{Blind, Micros, MonitorId, Reason, TenantId};

/// A sight to upsert: (monitor, datacenter) is unique here.
pub(super) struct SightOut {
    pub monitor: i64,
    pub datacenter: i64,
    pub health: i64,
    pub fold: String,
}

/// A verdict to upsert: the monitor is unique here.
pub(super) struct VerdictOut {
    pub monitor: i64,
    pub tenant: i64,
    pub health: i64,
    pub since: i64,
    pub why: Option<&'static str>,
    pub fold: String,
    pub wake: Option<i64>,
}

/// An incident to insert, as it is at the end of the batch.
pub(super) struct IncidentOut<'a> {
    pub id: i64,
    pub uid: &'a str,
    pub tenant: i64,
    pub monitor: i64,
    pub rule: &'a str,
    pub severity: i64,
    pub opened_at: i64,
    pub deciding_at: i64,
    pub reason: Option<&'a str>,
    pub value: Option<i64>,
    pub summary: &'a str,
    pub routed_by: Option<&'a str>,
    pub course: Course,
}

/// Everything a batch decides, without what stale fences forbid.
#[derive(Default)]
pub(super) struct Flat<'a> {
    pub stale: Vec<Scope>,
    /// Monitors of which a decision was dropped: their pushes must be folded by whoever decides now.
    pub dropped: HashSet<MonitorId>,
    pub sights: Vec<SightOut>,
    pub verdicts: Vec<VerdictOut>,
    /// Per monitor, in order.
    pub intervals: BTreeMap<i64, Vec<(i64, i64)>>,
    pub opened: Vec<IncidentOut<'a>>,
    /// Entries of incidents that this batch opens.
    pub entries: Vec<EntryOut<'a>>,
    /// Writes about incidents of earlier batches, in order.
    pub changes: Vec<&'a IncidentWrite>,
    /// Actions of people that were folded.
    pub actions: Vec<i64>,
    pub notices: Vec<(TenantId, &'a NoticeWrite)>,
    pub live: Vec<(TenantId, &'a LiveWrite)>,
}

/// Whether another node decides by now.
pub(super) fn stale(decision: &Decision, scopes: &[Scope]) -> bool {
    decision.fences.iter().any(|fence| scopes.contains(&fence.scope))
}

/// Every fence of the batch, once, ordered by scope: the order in which leases are locked.
pub(super) fn fences(batch: &Batch) -> BTreeSet<&Fence> {
    batch.decisions.iter().flat_map(|decision| &decision.fences).collect()
}

/// Flattens what is left of the batch when these fences are stale.
pub(super) fn flatten<'a>(batch: &'a Batch, stale: &HashSet<Fence>) -> Flat<'a> {
    let mut flat = Flat { stale: stale.iter().map(|fence| fence.scope.clone()).collect(), ..Flat::default() };
    flat.stale.sort();
    flat.stale.dedup();
    let mut sights: HashMap<(i64, i64), &super::SightRow> = HashMap::new();
    let mut verdicts: HashMap<i64, (i64, &super::VerdictRow)> = HashMap::new();
    let mut opened: HashMap<i64, usize> = HashMap::new();
    for decision in &batch.decisions {
        if decision.fences.iter().any(|fence| stale.contains(fence)) {
            flat.dropped.insert(decision.monitor);
            continue;
        }
        let monitor = decision.monitor.0;
        if let Some(row) = &decision.sight {
            sights.insert((monitor, row.datacenter.0), row);
        }
        if let Some(row) = &decision.verdict {
            verdicts.insert(monitor, (decision.tenant.0, row));
        }
        if let Some(row) = &decision.interval {
            flat.intervals.entry(monitor).or_default().push((row.start.0, i64::from(row.health.code())));
        }
        for write in &decision.incidents {
            incident(&mut flat, &mut opened, decision, write);
        }
        flat.actions.extend(decision.action);
        flat.notices.extend(decision.notices.iter().map(|notice| (decision.tenant, notice)));
        flat.live.extend(decision.live.iter().map(|live| (decision.tenant, live)));
    }
    flat.sights = sights.into_iter().map(|(key, row)| sight(key, row)).collect();
    flat.sights.sort_by_key(|row| (row.monitor, row.datacenter));
    flat.verdicts = verdicts.into_iter().map(|(monitor, (tenant, row))| verdict(monitor, tenant, row)).collect();
    flat.verdicts.sort_by_key(|row| row.monitor);
    flat
}

fn sight((monitor, datacenter): (i64, i64), row: &super::SightRow) -> SightOut {
    SightOut { monitor, datacenter, health: i64::from(row.vote.health.code()), fold: fold::of_sight(&row.sight, &row.vote) }
}

fn verdict(monitor: i64, tenant: i64, row: &super::VerdictRow) -> VerdictOut {
    let verdict = &row.verdict;
    VerdictOut {
        monitor,
        tenant,
        health: i64::from(verdict.health.code()),
        since: verdict.since.0,
        why: verdict.reason.map(Reason::as_str).or_else(|| verdict.blind.map(Blind::as_str)),
        fold: fold::of_verdict(verdict),
        wake: row.wake.map(|at| at.0),
    }
}

impl<'a> IncidentOut<'a> {
    /// What begins with that write, if one begins.
    pub(super) fn of(decision: &Decision, write: &'a IncidentWrite) -> Option<Self> {
        let IncidentWrite::Open { id, uid, rule, severity, at, deciding_at, reason, value, summary, routed_by, evidence: _ } = write else {
            return None;
        };
        Some(Self {
            id: id.0,
            uid,
            tenant: decision.tenant.0,
            monitor: decision.monitor.0,
            rule: rule.as_str(),
            severity: i64::from(severity.code()),
            opened_at: at.0,
            deciding_at: deciding_at.0,
            reason: reason.as_deref(),
            value: *value,
            summary,
            routed_by: routed_by.as_deref(),
            course: Course::default(),
        })
    }
}

fn incident<'a>(flat: &mut Flat<'a>, opened: &mut HashMap<i64, usize>, decision: &Decision, write: &'a IncidentWrite) {
    if let Some(begun) = IncidentOut::of(decision, write) {
        opened.insert(begun.id, flat.opened.len());
        flat.opened.push(begun);
    }
    match opened.get(&incident_of(write).0) {
        None => flat.changes.push(write),
        Some(place) => flat.entries.extend(flat.opened[*place].course.follow(write)),
    }
}

/// A state interval: start, end, state.
pub(super) type Interval = (i64, Option<i64>, i64);

/// How a monitor's chain of intervals continues: when the open one ends, and the rows after it as (start, end, state).
///
/// Starts never go back, whatever clocks said: one before its predecessor's is moved to it. Of two that start together the later wins.
pub(super) fn chain(open: Option<i64>, begins: &[(i64, i64)]) -> (Option<i64>, Vec<Interval>) {
    let mut rows: Vec<Interval> = Vec::with_capacity(begins.len());
    let mut newest = open.unwrap_or(i64::MIN);
    for (start, state) in begins {
        newest = newest.max(*start);
        match rows.last_mut() {
            Some(last) if last.0 == newest => last.2 = *state,
            Some(last) => {
                last.1 = Some(newest);
                rows.push((newest, None, *state));
            }
            None => rows.push((newest, None, *state)),
        }
    }
    (open.and(rows.first().map(|row| row.0)), rows)
}

/// Numbers the live events: the ids in the order of the batch, given the newest id of each tenant after it took its share.
pub(super) fn live_ids(live: &[(TenantId, &LiveWrite)], newest: &BTreeMap<i64, i64>) -> Vec<i64> {
    let mut next: HashMap<i64, i64> = live_counts(live).into_iter().map(|(tenant, n)| (tenant, newest[&tenant] - n)).collect();
    live.iter()
        .map(|(tenant, _)| {
            let id = next.get_mut(&tenant.0).expect("every tenant of the list was counted");
            *id += 1;
            *id
        })
        .collect()
}

/// How many live events each tenant gets, ordered by tenant: the order in which their counters are locked.
pub(super) fn live_counts(live: &[(TenantId, &LiveWrite)]) -> BTreeMap<i64, i64> {
    let mut counts = BTreeMap::new();
    for (tenant, _) in live {
        *counts.entry(tenant.0).or_insert(0) += 1;
    }
    counts
}

/// Refuses a batch of another life of this agent: its numbers are not this one's.
pub(super) fn same_life(boot: &str, batch: &Batch) -> Sql<()> {
    if boot == batch.boot {
        Ok(())
    } else {
        Err(refused("another process runs under this node's name: give one of them another agent.name"))
    }
}

/// What became of a batch, stored beside its number for whoever asks again; `None` when there is nothing worth telling.
pub(super) fn write_result(committed: &Committed) -> Option<String> {
    let Committed { stale, live_ids } = committed;
    (!stale.is_empty() || !live_ids.is_empty()).then(|| {
        let stale: Vec<&str> = stale.iter().map(|scope| &**scope).collect();
        serde_json::to_string(&(stale, live_ids)).expect("lists of texts and numbers are JSON")
    })
}

/// Reads that back.
pub(super) fn read_result(text: Option<&str>) -> Sql<Committed> {
    let Some(text) = text else { return Ok(Committed::default()) };
    let (stale, live_ids): (Vec<String>, Vec<i64>) = rows::json(text, "the result of the last batch is not readable")?;
    Ok(Committed { stale: stale.into_iter().map(Scope::from).collect(), live_ids })
}

/// The length of an hour in µs.
pub(super) const HOUR: i64 = 3_600_000_000;
/// The length of a day in µs.
pub(super) const DAY: i64 = 24 * HOUR;

/// When the hour around this time began.
pub(super) const fn hour_of(at: Micros) -> i64 {
    at.0.div_euclid(HOUR) * HOUR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_chain_without_gap_or_overlap() {
        assert_eq!(chain(None, &[(10, 1)]), (None, vec![(10, None, 1)]));
        assert_eq!(chain(Some(5), &[(10, 3), (20, 4)]), (Some(10), vec![(10, Some(20), 3), (20, None, 4)]));
        // A start before the open one's is moved to it; equal starts keep the later state.
        assert_eq!(chain(Some(15), &[(10, 3), (12, 4)]), (Some(15), vec![(15, None, 4)]));
        assert_eq!(chain(Some(5), &[]), (None, vec![]));
    }
}
