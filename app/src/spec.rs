//! The compiled monitor: configuration joined with the ids that the store gave it.
//!
//! Built once per (re)load, immutable, shared. A reload keeps the very same `Arc` for a monitor that did not change.

use crate::probe::Probe;
use crate::schedule::Cadence;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use watchkeeper_core::sight::SightPolicy;
use watchkeeper_core::verdict::Policy;
use watchkeeper_core::{Dur, Micros, MonitorId, TenantId};

/// How facts about this monitor come to be.
pub enum Source {
    /// An attempt is made when it is due.
    Probe(Box<dyn Probe>),
    /// Facts are pushed to us; silence for longer than `expect_every + grace` is a miss.
    Push {
        /// A push is expected at least so often.
        expect_every: Dur,
        /// It may be late by so much.
        grace: Dur,
    },
}

/// One monitor, ready to be watched.
pub struct MonitorSpec {
    /// Row id.
    pub id: MonitorId,
    /// Public id (UUID text).
    pub uid: String,
    /// Owner.
    pub tenant: TenantId,
    /// The owner's slug.
    pub tenant_slug: String,
    /// Name, unique in the tenant.
    pub name: String,
    /// `http`, `tcp`, …
    pub kind: &'static str,
    /// What is watched, without credentials.
    pub target: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When attempts are due.
    pub cadence: Cadence,
    /// An attempt is ended after so long.
    pub timeout: Dur,
    /// What makes the facts.
    pub source: Source,
    /// Thresholds of fold 1.
    pub sight: SightPolicy,
    /// Quorum and rules of fold 2.
    pub policy: Policy,
    /// Which lease shard decides for it.
    pub shard: u16,
    /// Not watched for now; its state stays.
    pub paused: bool,
    /// When the store first saw it.
    pub created_at: Micros,
    /// SHA-256 of its canonical configuration: equal means unchanged.
    pub hash: [u8; 32],
}

/// Everything that is watched, by id.
#[derive(Clone, Default)]
pub struct Fleet(pub Arc<HashMap<MonitorId, Arc<MonitorSpec>>>);
