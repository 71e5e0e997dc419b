//! The store: one contract, two implementations side by side (`sqlite.rs`, `postgres.rs`).
//!
//! About thirty use cases, not tables. Facts (heartbeats, pushes) are append-only and unfenced: anyone may insert them,
//! duplicates are ignored. Decisions (state, incidents, notices) are written only under the current epoch of their scopes,
//! checked inside the transaction. Times are UTC microseconds. Every query for a tenant goes through [`TenantScope`].
//! Only this module knows SQL. It never decides anything.

pub mod alerting;
mod apply;
mod error;
mod flat;
mod fold;
mod history;
mod keep;
mod migrate;
mod outbox;
mod postgres;
mod rows;
mod sqlite;

pub use alerting::{
    ActionRow, AttemptEnd, DeadLetter, Deferred, DueNotice, MaintenanceObject, Mutes, SentMessage, Silence, WordWrite,
};

use crate::channel::content::Content;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::{RuleKey, Severity};
use watchkeeper_core::sight::{Sight, Vote};
use watchkeeper_core::verdict::{NoticeEvent, Verdict};
use watchkeeper_core::{AgentId, ChannelId, DatacenterId, Dur, IncidentId, Micros, MonitorId, Outcome, TenantId};

/// Why the store did not do it. `Display` says what was tried; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Out of reach, busy, or cut off in the middle: trying again can help, and it may have landed.
    #[error("the store could not be reached while {doing}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// It answered with something that another attempt cannot mend: a damaged or foreign database, a broken query.
    #[error("the store failed while {doing}: {detail}")]
    Broken {
        /// What was being done.
        doing: &'static str,
        /// What came back.
        detail: String,
    },
    /// Another process uses the file, or the file is newer than this program.
    #[error("the store was refused: {0}")]
    Refused(String),
}

/// Opens the store that the URL names and brings its schema up to date: `sqlite://PATH` (one node, the file is made if it is
/// not there) or `postgres://USER:PASSWORD@HOST/DATABASE`. No error holds the URL: it may hold a password.
pub async fn open(url: &str) -> Result<std::sync::Arc<dyn Store>> {
    match url.split_once("://") {
        Some(("sqlite", path)) if !path.is_empty() => Ok(std::sync::Arc::new(sqlite::open(path).await?)),
        Some(("postgres" | "postgresql", _)) => Ok(std::sync::Arc::new(postgres::open(url).await?)),
        Some(_) | None => Err(StoreError::Refused(
            "store.url is of no kind that is known: accepted are sqlite://PATH and postgres://USER:PASSWORD@HOST/DATABASE".into(),
        )),
    }
}

/// All results of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The right to read and write one tenant's rows; the only way to name a tenant in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantScope(pub TenantId);

/// A scope of decisions: `site/<datacenter>/<shard>`, `verdict/<shard>`, `channel/<budget>`, `housekeeping`, …
pub type Scope = std::sync::Arc<str>;

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
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence {
    /// Of what.
    pub scope: Scope,
    /// The epoch under which it was decided.
    pub epoch: i64,
}

/// One commit of one node. Everything in it lands together, except decisions whose fence is stale: those are dropped and named.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Whose.
    pub agent: AgentId,
    /// Grows by one with each batch of this agent; written in the same transaction, so that after an unclear failure it can be seen whether it landed.
    pub number: u64,
    /// Facts.
    pub beats: Vec<BeatRow>,
    /// Evidence of some of the beats.
    pub details: Vec<DetailRow>,
    /// Pushes that these beats came from.
    pub folded_pushes: Vec<i64>,
    /// Actions of people that changed nothing any more, because their incident was over.
    pub folded_actions: Vec<i64>,
    /// Decisions in the order in which they were made.
    pub decisions: Vec<Decision>,
}

/// A heartbeat as it is stored. Times of phases in µs; -1 in `code`, `size` and `value` stands for absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatRow {
    /// Of which monitor.
    pub monitor: MonitorId,
    /// Seen from where.
    pub datacenter: DatacenterId,
    /// When the attempt began; with monitor and datacenter the key.
    pub at: Micros,
    /// By which node.
    pub agent: AgentId,
    /// What was found.
    pub outcome: Outcome,
    /// How much later than scheduled it began.
    pub lag_us: i64,
    /// Phases, summed over hops.
    pub dns_us: i64,
    /// TCP connect.
    pub connect_us: i64,
    /// TLS handshake.
    pub tls_us: i64,
    /// Request to first byte.
    pub first_byte_us: i64,
    /// First to last byte.
    pub transfer_us: i64,
    /// Everything.
    pub total_us: i64,
    /// HTTP status or DNS response code.
    pub code: i32,
    /// Body bytes.
    pub size: i64,
    /// The kind's own number: certificate days left for http and tls, loss in thousandths for icmp, exit code for push.
    pub value: i64,
    /// Bit 0: it came by push. Others: zero.
    pub flags: i32,
}

/// Evidence of one beat: an [`crate::probe::Attempt`] as JSON, at most [`DETAIL_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetailRow {
    /// Of which monitor.
    pub monitor: MonitorId,
    /// Seen from where.
    pub datacenter: DatacenterId,
    /// Of the beat at that time.
    pub at: Micros,
    /// The attempt as JSON.
    pub json: String,
}

/// Longer evidence is cut by its maker. Larger rows would make a storm of failures fill the disk; smaller ones cut certificate chains.
pub const DETAIL_MAX: usize = 64 * 1024;

/// What one fold step decided about one monitor.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What must still be ours.
    pub fences: SmallVec<[Fence; 2]>,
    /// About which monitor.
    pub monitor: MonitorId,
    /// Its owner.
    pub tenant: TenantId,
    /// The sight to store, if it changed.
    pub sight: Option<SightRow>,
    /// The verdict to store, if it changed.
    pub verdict: Option<VerdictRow>,
    /// A new state interval begins (and the last one ends), if the health changed.
    pub interval: Option<IntervalRow>,
    /// Incidents that began or ended.
    pub incidents: SmallVec<[IncidentWrite; 1]>,
    /// What must be told.
    pub notices: SmallVec<[NoticeWrite; 1]>,
    /// What the live stream shows. The store adds the id.
    pub live: SmallVec<[LiveWrite; 1]>,
    /// The person's action that this decision folded.
    pub action: Option<i64>,
}

/// A sight and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SightRow {
    /// Seen from where.
    pub datacenter: DatacenterId,
    /// The fold, stored whole (versioned JSON in `fold`).
    pub sight: Sight,
    /// Its vote.
    pub vote: Vote,
}

/// A verdict and when its fold wants to be called again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictRow {
    /// The fold, stored whole (versioned JSON in `fold`).
    pub verdict: Verdict,
    /// Durable wake-up.
    pub wake: Option<Micros>,
}

/// The beginning of a state; ends the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntervalRow {
    /// When it began.
    pub start: Micros,
    /// What it is.
    pub health: Health,
}

/// A change to the incident table with its entry on the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncidentWrite {
    /// It began.
    Open {
        /// Drawn from the id block.
        id: IncidentId,
        /// UUID text.
        uid: String,
        /// Which rule.
        rule: RuleKey,
        /// How bad.
        severity: Severity,
        /// When.
        at: Micros,
        /// The beat that decided.
        deciding_at: Micros,
        /// `dns_nxdomain`, …
        reason: Option<String>,
        /// The deciding value.
        value: Option<i64>,
        /// One sentence.
        summary: String,
        /// JSON: an [`crate::probe::Attempt`] and the votes; what was seen.
        evidence: Option<String>,
    },
    /// It ended.
    Resolve {
        /// Which.
        id: IncidentId,
        /// When.
        at: Micros,
        /// `recovered`, `rule_removed`, `retired`, `operator`.
        why: &'static str,
        /// Who, if a person.
        actor: Option<String>,
        /// One sentence.
        summary: String,
    },
    /// Somebody took it on, or gave it back.
    Acknowledge {
        /// Which.
        id: IncidentId,
        /// When.
        at: Micros,
        /// Whether it is taken on now.
        on: bool,
        /// Who.
        actor: Option<String>,
        /// One sentence.
        summary: String,
    },
    /// An entry of the timeline that changes nothing else: `reminded`, `escalated`.
    Note {
        /// Which.
        id: IncidentId,
        /// When.
        at: Micros,
        /// What kind of entry.
        kind: &'static str,
        /// One sentence.
        summary: String,
    },
}

/// A notice to be told; unique by (cause, channel). Inserted as `due`, ignored when it is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeWrite {
    /// `incident/<uid>/<event>/<nth>`: the same again means the same notice.
    pub cause: String,
    /// About which incident.
    pub incident: IncidentId,
    /// What happened.
    pub event: NoticeEvent,
    /// Its place in the order of (channel, incident).
    pub nth: u32,
    /// Where to.
    pub channel: ChannelId,
    /// How urgent.
    pub severity: Severity,
    /// What it says.
    pub content: Content,
    /// When it was decided.
    pub at: Micros,
    /// Of which rule, for its cooldown.
    pub rule: RuleKey,
    /// The rule's cooldown.
    pub cooldown: Dur,
    /// Not to be told before then, and why: the route's hours.
    pub not_before: Option<(Micros, String)>,
}

/// One line of the live stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveWrite {
    /// When.
    pub at: Micros,
    /// `monitor_state`, `incident_opened`, `incident_resolved`.
    pub kind: String,
    /// The event's data as the API sends it.
    pub data: serde_json::Value,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Scopes whose epoch was no longer ours: decisions under them were not written.
    pub stale: Vec<Scope>,
    /// Ids of the live events that were written, in order of the batch.
    pub live_ids: Vec<i64>,
}

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
    /// When the newest heartbeat from any datacenter began.
    pub last_beat: Option<Micros>,
    /// The newest push, for push monitors.
    pub last_push: Option<Micros>,
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

/// What kind of push came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushKind {
    /// The job began.
    Start,
    /// It ended well.
    Ok,
    /// It failed.
    Fail,
    /// Only a word for the log.
    Log,
}

impl PushKind {
    /// The stored number.
    pub const fn code(self) -> i16 {
        match self {
            Self::Start => 0,
            Self::Ok => 1,
            Self::Fail => 2,
            Self::Log => 3,
        }
    }

    /// Reads the stored number.
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Start),
            1 => Some(Self::Ok),
            2 => Some(Self::Fail),
            3 => Some(Self::Log),
            _ => None,
        }
    }
}

/// One push, a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushRow {
    /// 0 when it is to be inserted.
    pub id: i64,
    /// For which monitor.
    pub monitor: MonitorId,
    /// What kind.
    pub kind: PushKind,
    /// Exit code, if the sender gave one.
    pub exit: Option<i32>,
    /// Round trip the sender reported, in µs.
    pub ping_us: Option<i64>,
    /// What the sender said, at most [`PUSH_BODY_MAX`] bytes.
    pub body: String,
    /// When it came in.
    pub at: Micros,
}

/// So much of a push's body is kept, as Healthchecks does (10 KiB); more is cut, not refused.
pub const PUSH_BODY_MAX: usize = 10 * 1024;

/// How one attempt to deliver ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempted {
    /// The provider took it.
    Sent {
        /// The provider's id of the message.
        provider_id: Option<String>,
    },
    /// Not yet; again at that time.
    Again {
        /// When.
        next_at: Micros,
        /// The error; holds no secret.
        error: String,
    },
    /// Given up: a dead letter.
    Dead {
        /// The error; holds no secret.
        error: String,
    },
}

/// How full the outbox is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    /// Notices neither sent, dead nor suppressed.
    pub waiting: i64,
    /// Dead letters.
    pub dead: i64,
    /// When the oldest waiting notice was decided.
    pub oldest: Option<Micros>,
}

/// A monitor as the API lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct MonitorView {
    /// Row id.
    pub id: MonitorId,
    /// Public id.
    pub uid: String,
    /// Name.
    pub name: String,
    /// `http`, …
    pub kind: String,
    /// What is watched.
    pub target: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Not watched for now.
    pub paused: bool,
    /// `file:line`.
    pub origin: String,
    /// Canonical configuration, secrets replaced.
    pub config: serde_json::Value,
    /// What is true.
    pub health: Health,
    /// Since when.
    pub since: Option<Micros>,
    /// Why, while failing or blind.
    pub why: Option<String>,
    /// When the store first saw it.
    pub created_at: Micros,
    /// Its newest heartbeat.
    pub last: Option<BeatRow>,
}

/// An incident as the API lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentView {
    /// Public id.
    pub uid: String,
    /// Row id.
    pub id: IncidentId,
    /// The monitor's public id.
    pub monitor_uid: String,
    /// The monitor's name.
    pub monitor: String,
    /// Which rule.
    pub rule: String,
    /// `open`, `acknowledged`, `resolved`.
    pub status: String,
    /// How bad.
    pub severity: Severity,
    /// When it began.
    pub opened_at: Micros,
    /// When it ended.
    pub resolved_at: Option<Micros>,
    /// Why it ended.
    pub resolved_why: Option<String>,
    /// Why it began.
    pub reason: Option<String>,
    /// One sentence.
    pub summary: String,
    /// The deciding value.
    pub value: Option<i64>,
    /// Its timeline; empty in lists.
    pub timeline: Vec<TimelineEntry>,
    /// What was told to whom; empty in lists.
    pub notices: Vec<NoticeView>,
}

/// One entry of an incident's timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelineEntry {
    /// Place, from 0.
    pub nth: i32,
    /// When.
    pub at: Micros,
    /// `opened`, `resolved`, `told`, `not_told`.
    pub kind: String,
    /// Who, if a person.
    pub actor: Option<String>,
    /// What, for a person.
    pub text: String,
    /// What was seen.
    pub evidence: Option<serde_json::Value>,
}

/// What became of one notice.
#[derive(Clone, Debug, PartialEq)]
pub struct NoticeView {
    /// The channel's name.
    pub channel: String,
    /// `opened`, `resolved`.
    pub event: String,
    /// `due`, `held`, `sending`, `sent`, `dead`, `suppressed`.
    pub state: String,
    /// Attempts begun.
    pub attempts: u32,
    /// The newest error.
    pub last_error: Option<String>,
    /// Why it is held or was suppressed.
    pub why: Option<String>,
    /// When it is looked at again, while it waits.
    pub next_at: Option<Micros>,
    /// When it was decided.
    pub created_at: Micros,
    /// When the provider took it.
    pub sent_at: Option<Micros>,
}

/// Which incidents are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    /// `open`, `acknowledged`, `resolved`.
    pub status: Option<String>,
    /// Of one monitor (public id).
    pub monitor_uid: Option<String>,
    /// Opened before that time: the cursor, with the row id for equal times.
    pub before: Option<(Micros, IncidentId)>,
    /// At most so many, up to [`PAGE_MAX`].
    pub limit: i64,
}

/// No list answers with more rows than this. More would let one request hold the reader; less makes clients turn too many pages.
pub const PAGE_MAX: i64 = 1_000;

/// One line of a monitor's measured history: an hour, a day, or a part of an hour from raw beats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricBucket {
    /// When it begins.
    pub start: Micros,
    /// How long it is.
    pub span: Dur,
    /// Attempts that found it up.
    pub up: i64,
    /// Attempts that found it down.
    pub down: i64,
    /// Attempts that could not look.
    pub unknown: i64,
    /// Total times of successful attempts, all quantiles within 2 %.
    pub sketch: crate::sketch::Sketch,
    /// Attempts by HTTP status or DNS code.
    pub codes: BTreeMap<i32, i64>,
}

/// How long the monitor was in which state within a window, from exact state intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateTimes {
    /// Up or degraded, or failing below the threshold.
    pub up: Dur,
    /// Down.
    pub down: Dur,
    /// We could not look, or nothing was known.
    pub unknown: Dur,
}

/// An API token as it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Whose.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    pub role: String,
    /// When it ends.
    pub expires_at: Option<Micros>,
}

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Raw heartbeats and their evidence.
    pub raw: Dur,
    /// Hourly rollups. Days are kept for ever.
    pub hours: Dur,
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

/// One live event as it is read back.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveRow {
    /// Its place in the stream; the SSE id.
    pub id: i64,
    /// What.
    pub event: LiveWrite,
}

/// The contract. Methods are use cases; each is one transaction.
#[async_trait]
pub trait Store: Send + Sync {
    // --- belonging

    /// Registers this node in its datacenter (made if new) and finds its last batch. `boot` is new at every start.
    async fn join(&self, agent: &str, datacenter: &str, boot: &str, now: Micros) -> Result<Joined>;
    /// Reserves `count` ids for this node alone.
    async fn reserve_ids(&self, count: i64) -> Result<watchkeeper_core::ids::IdBlock>;
    /// Makes the objects of `source` be what is given: new ones are made, changed ones changed (`rev` + 1), missing ones retired. One transaction.
    /// A retired monitor that comes back under its id or name is the same monitor again, with its history.
    async fn apply(&self, source: &str, hash: &str, tenants: &[TenantObjects], now: Micros) -> Result<Applied>;
    /// The stored state of these monitors: one entry each, empty if nothing is stored.
    async fn load(&self, monitors: &[MonitorId]) -> Result<Vec<StoredState>>;

    // --- leases

    /// Whether no other process can use this store while we do (SQLite's lock file): a lease found in it is that of a dead process.
    fn exclusive(&self) -> bool;
    /// Every lease there is.
    async fn leases(&self) -> Result<Vec<LeaseRow>>;
    /// Takes a scope if it still stands as seen (`None`: no row yet): epoch + 1, beat 0. The new epoch, or `None` if somebody was quicker.
    async fn take_lease(&self, scope: &str, seen: Option<&LeaseRow>, holder: &str, now: Micros) -> Result<Option<i64>>;
    /// Adds 1 to `beat` of every scope that is still held under that epoch, and returns those scopes.
    async fn beat_leases(&self, holder: &str, held: &[Fence]) -> Result<Vec<Scope>>;
    /// Gives scopes back, so that another node may take them at once.
    async fn release_leases(&self, holder: &str, held: &[Fence]) -> Result<()>;

    // --- the commit stream

    /// Writes one batch in one transaction. Writing a batch number that has landed before changes nothing and succeeds; for the
    /// newest number it says what it said the first time.
    async fn commit(&self, batch: &Batch) -> Result<Committed>;

    // --- pushes

    /// The live monitor that a push token opens. A public id opens none: whoever reads the API knows it.
    async fn push_target(&self, token: &str) -> Result<Option<MonitorId>>;
    /// The token that opens a push monitor; for whoever may hand it out.
    async fn push_token(&self, scope: TenantScope, monitor: MonitorId) -> Result<Option<String>>;
    /// Records a push.
    async fn insert_push(&self, push: &PushRow) -> Result<()>;
    /// Pushes that no batch has folded yet, oldest first, at most `limit`. Here and below, no `limit` goes beyond [`PAGE_MAX`], and a
    /// negative one is zero.
    async fn unfolded_pushes(&self, limit: i64) -> Result<Vec<PushRow>>;

    // --- outbox

    /// Notices due on this channel, most urgent first, oldest first; never one that must wait for an earlier notice of the same (channel, incident).
    /// Notices left in `sending` by a dead process are due again.
    async fn due_notices(&self, channel: ChannelId, now: Micros, limit: i64) -> Result<Vec<DueNotice>>;
    /// When the next notice of this channel becomes due, if any waits; one that must wait for an earlier notice does not count.
    async fn next_due(&self, channel: ChannelId) -> Result<Option<Micros>>;
    /// Marks an attempt as begun for these notices, under the channel's lease, and says for which: not for those that no longer
    /// wait; for none if the lease is no longer ours.
    async fn begin_attempt(&self, notices: &[i64], fence: &Fence, now: Micros) -> Result<Vec<i64>>;
    /// Records how it ended, with an entry on each incident's timeline. That the provider took it is a fact, recorded whoever holds
    /// the lease by now; anything else is a decision, ignored once the attempt is no longer ours. When the last notice of a cause is
    /// given up, the tenant's last-resort channels get it.
    async fn end_attempt(&self, end: &AttemptEnd<'_>) -> Result<()>;
    /// Records that notices are held or will never be told, with the reason on the notice (and on the timeline when it is suppressed),
    /// under the channel's lease. Those that no longer wait are left alone.
    async fn defer(&self, deferred: &[(i64, Deferred)], fence: &Fence, now: Micros) -> Result<()>;
    /// Puts words that no incident caused in the outbox; those that are there already are left alone.
    async fn tell(&self, words: &[WordWrite]) -> Result<()>;
    /// What this channel took since then, oldest first, at most [`PAGE_MAX`].
    async fn recent_messages(&self, channel: ChannelId, since: Micros) -> Result<Vec<SentMessage>>;
    /// Notices that were given up, newest first, before a row id.
    async fn dead_letters(&self, scope: TenantScope, before: Option<i64>, limit: i64) -> Result<Vec<DeadLetter>>;
    /// Makes a dead notice due again, with its attempts counted anew. Its channel, or `None` if there is no such dead notice.
    async fn retry_dead(&self, scope: TenantScope, notice: i64, now: Micros) -> Result<Option<ChannelId>>;

    // --- people

    /// What may mute this tenant's notices now.
    async fn mutes(&self, tenant: TenantId, now: Micros) -> Result<Mutes>;
    /// Adds a silence.
    async fn create_silence(&self, scope: TenantScope, silence: &Silence) -> Result<()>;
    /// Silences that have not ended before `since`, newest first, at most `limit`.
    async fn silences(&self, scope: TenantScope, since: Micros, limit: i64) -> Result<Vec<Silence>>;
    /// Ends a silence now; what it held is looked at again at once. False if there is none that lasts.
    async fn end_silence(&self, scope: TenantScope, uid: &str, now: Micros) -> Result<bool>;
    /// Records what a person did about an open incident. False if there is no such open incident.
    async fn insert_action(
        &self,
        scope: TenantScope,
        incident_uid: &str,
        action: watchkeeper_core::verdict::Action,
        actor: &str,
        now: Micros,
    ) -> Result<bool>;
    /// Adds a person's words to an incident's timeline. False if there is no such incident.
    async fn comment(&self, scope: TenantScope, incident_uid: &str, actor: &str, text: &str, now: Micros) -> Result<bool>;
    /// Actions that no batch has folded yet, oldest first.
    async fn unfolded_actions(&self, limit: i64) -> Result<Vec<ActionRow>>;

    /// How full the outbox is.
    async fn outbox_depth(&self) -> Result<OutboxDepth>;

    // --- reading, by tenant

    /// Every tenant: id and slug.
    async fn tenants(&self) -> Result<Vec<(TenantId, String)>>;
    /// Live monitors by name, after the given name, at most `limit`.
    async fn monitors(&self, scope: TenantScope, after: Option<&str>, limit: i64) -> Result<Vec<MonitorView>>;
    /// One monitor by its public id or, failing that, its name.
    async fn monitor(&self, scope: TenantScope, uid_or_name: &str) -> Result<Option<MonitorView>>;
    /// Its heartbeats before a time, newest first, with evidence where there is some.
    async fn heartbeats(
        &self,
        scope: TenantScope,
        monitor: MonitorId,
        before: Micros,
        limit: i64,
    ) -> Result<Vec<(BeatRow, Option<String>)>>;
    /// Its history in buckets of `span` over [from, to): from rollups for closed hours and days, from raw for what is younger or finer.
    async fn metrics(&self, scope: TenantScope, monitor: MonitorId, from: Micros, to: Micros, span: Dur) -> Result<Vec<MetricBucket>>;
    /// How long it was in which state within [from, to); before its first state it was unknown.
    async fn state_times(&self, scope: TenantScope, monitor: MonitorId, from: Micros, to: Micros) -> Result<StateTimes>;
    /// Incidents, newest first.
    async fn incidents(&self, scope: TenantScope, filter: &IncidentFilter) -> Result<Vec<IncidentView>>;
    /// One incident with its timeline and notices.
    async fn incident(&self, scope: TenantScope, uid: &str) -> Result<Option<IncidentView>>;
    /// Live events after an id, oldest first; and the newest id there is.
    async fn live_after(&self, scope: TenantScope, after: i64, limit: i64) -> Result<(Vec<LiveRow>, i64)>;

    // --- tokens

    /// Stores a token by the SHA-256 of its text.
    async fn create_token(
        &self,
        scope: TenantScope,
        name: &str,
        role: &str,
        hash: &[u8; 32],
        prefix: &str,
        now: Micros,
        expires: Option<Micros>,
    ) -> Result<()>;
    /// Finds a token by that hash.
    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>>;
    /// Whether any token exists.
    async fn has_tokens(&self) -> Result<bool>;

    // --- keeping

    /// One bounded slice of housekeeping: moves beats, computes closed hours and days that are dirty, deletes what is too old, makes partitions ahead.
    /// Heartbeats that come after their hour's raw ones were deleted never make the rollup smaller.
    async fn housekeep(&self, retention: Retention, now: Micros) -> Result<Housekept>;
    /// Answers if the store is reached; used by `/ready`.
    async fn ping(&self) -> Result<()>;
    /// What an integrity check found wrong; empty is good. Includes the schema's own rules (one open incident per rule, every notice with its incident).
    async fn verify(&self) -> Result<Vec<String>>;
    /// Closes it, so that everything is on disk and another process may open it.
    async fn close(&self);
}
