//! Types of the store's contract around configuration: the objects of a source, and what the store made of them.

use super::alerting::MaintenanceObject;
use std::collections::BTreeMap;
use watchkeeper_core::{ChannelId, Micros, MonitorId, TenantId};

/// A monitor as a source (a file) says it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorObject {
    /// Unique in the tenant.
    pub name: String,
    /// Its identity if the file gives one (`id:`); else (tenant, name) is.
    pub uid: Option<String>,
    /// The name it had before (`was:`): history is kept.
    pub was: Option<String>,
    /// `http`, …
    pub kind: String,
    /// What is watched, without credentials.
    pub target: String,
    /// Canonical configuration as JSON, secrets replaced by `***`.
    pub config: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Not watched for now.
    pub paused: bool,
    /// `file:line`.
    pub origin: String,
    /// SHA-256 of the canonical configuration with secrets; a change raises `rev`.
    pub hash: [u8; 32],
    /// The token of a push monitor (kept if it already has one).
    pub push_token: Option<String>,
    /// Names of the monitors that it depends on, in the same tenant.
    pub depends_on: Vec<String>,
}

/// A channel as a source says it should be. Secrets stay in the file and in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelObject {
    /// Unique in the tenant.
    pub name: String,
    /// `webhook`, …
    pub kind: String,
    /// Canonical configuration as JSON, secrets replaced by `***`.
    pub config: String,
    /// Which lease and budget its deliveries share: one per bot token or host.
    pub budget: String,
    /// It is told what no other channel of an alert could be.
    pub last_resort: bool,
    /// `file:line`.
    pub origin: String,
}

/// All objects of one tenant in one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantObjects {
    /// The tenant's slug.
    pub tenant: String,
    /// Its channels.
    pub channels: Vec<ChannelObject>,
    /// Its monitors.
    pub monitors: Vec<MonitorObject>,
    /// Its maintenance windows.
    pub maintenance: Vec<MaintenanceObject>,
}

/// What the store made of a source, in the order of the objects given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The version of the documents among the objects.
    pub documents: i64,
    /// Per tenant: its id, the ids of its channels, and (id, uid, created_at, push token) of its monitors.
    pub tenants: Vec<AppliedTenant>,
    /// Monitors of this source that are no longer in it: retired now, or retired before with an incident still open.
    /// The caller resolves what is open; until it has, they are named again at every `apply`.
    pub retired: Vec<RetiredMonitor>,
}

/// A monitor that is no longer watched, with what its last words need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetiredMonitor {
    /// Row id.
    pub id: MonitorId,
    /// Public id.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// `http`, …
    pub kind: String,
    /// What was watched.
    pub target: String,
    /// Owner.
    pub tenant: TenantId,
    /// The owner's slug.
    pub tenant_slug: String,
}

/// The ids of one tenant's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedTenant {
    /// The tenant.
    pub tenant: TenantId,
    /// Of the channels, in order.
    pub channels: Vec<ChannelId>,
    /// Of the monitors, in order.
    pub monitors: Vec<AppliedMonitor>,
}

/// The identity of one monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedMonitor {
    /// Row id.
    pub id: MonitorId,
    /// Public id.
    pub uid: String,
    /// When the store first saw it.
    pub created_at: Micros,
    /// Its push token, if it is a push monitor.
    pub push_token: Option<String>,
}
