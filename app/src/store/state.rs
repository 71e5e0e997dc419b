//! Types of the store's contract around belonging: nodes, leases, and the state that a node takes over.

use super::Scope;
use serde::{Deserialize, Serialize};
use watchkeeper_core::rule::RuleKey;
use watchkeeper_core::sight::{Sight, Vote};
use watchkeeper_core::verdict::Verdict;
use watchkeeper_core::{AgentId, DatacenterId, IncidentId, Micros, MonitorId};

/// Who we are, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// This node.
    pub agent: AgentId,
    /// The name it joined under; the holder of leases is `<name>#<boot>`.
    pub agent_name: String,
    /// Where it stands.
    pub datacenter: DatacenterId,
    /// The datacenter's code.
    pub datacenter_code: String,
    /// Over how many shards the decisions are spread.
    pub shards: u16,
    /// The number of the last batch of this agent that landed; 0 if none.
    pub last_batch: u64,
    /// Of this life of the process: a batch of another is refused.
    pub boot: String,
}

/// The lease of one scope as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// Of what.
    pub scope: String,
    /// Who holds it; empty after a release.
    pub holder: String,
    /// Grows by one with each holder.
    pub epoch: i64,
    /// Grows by one with each sign of life.
    pub beat: i64,
}

/// What a decision must find unchanged when it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fence {
    /// Of what.
    pub scope: Scope,
    /// The epoch under which it was decided.
    pub epoch: i64,
}

/// The stored state of one monitor, for a node that takes its scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredState {
    /// Of which monitor.
    pub monitor: MonitorId,
    /// What each datacenter saw. A fold of an unknown version is absent: it is rebuilt by the next attempts.
    pub sights: Vec<(DatacenterId, Sight, Vote)>,
    /// What was true.
    pub verdict: Option<Verdict>,
    /// Its open incidents: (id, uid, rule, opened at, summary). They are the truth if the fold was lost.
    pub open: Vec<OpenIncident>,
    /// When the newest heartbeat from each datacenter began that has one.
    pub last_beats: Vec<(DatacenterId, Micros)>,
    /// The newest push, for push monitors.
    pub last_push: Option<Micros>,
}

/// A datacenter's vote as it was written last.
#[derive(Clone, Debug, PartialEq)]
pub struct HeardVote {
    /// About which monitor.
    pub monitor: MonitorId,
    /// Seen from where.
    pub datacenter: DatacenterId,
    /// How that place is called.
    pub code: String,
    /// What it says.
    pub vote: Vote,
    /// The attempt behind it as JSON, if it was kept.
    pub evidence: Option<String>,
}

/// By what right a source's objects are changed.
#[derive(Clone, Copy, Debug)]
pub enum Mandate<'a> {
    /// The store is this process's alone, or it is one command of a person.
    Alone,
    /// The lease of the source.
    Lease(&'a Fence),
    /// None: only what is in force already may be applied, or the first of all.
    None,
}

/// An incident that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIncident {
    /// Row id.
    pub id: IncidentId,
    /// Public id.
    pub uid: String,
    /// Which rule.
    pub rule: RuleKey,
    /// When it began.
    pub opened_at: Micros,
    /// What it said.
    pub summary: String,
    /// Why.
    pub reason: Option<String>,
    /// Whether somebody has taken it on, and who.
    pub acknowledged_by: Option<String>,
}
