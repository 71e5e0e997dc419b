//! The store: one contract, two implementations side by side (`sqlite/`, `postgres/`).
//!
//! About fifty use cases, not tables. Facts (heartbeats, pushes) are append-only and unfenced: anyone may insert them,
//! duplicates are ignored. Decisions (state, incidents, notices) are written only under the current epoch of their scopes,
//! checked inside the transaction. Times are UTC microseconds. Every query for a tenant goes through [`TenantScope`].
//! Only this module knows SQL. It never decides anything.

pub mod accounts;
pub mod alerting;
mod apply;
mod contract;
pub mod copy;
mod course;
mod decision;
mod document;
mod error;
mod flat;
mod fold;
mod history;
mod keep;
mod late;
mod marked;
mod migrate;
mod object;
mod outbox;
mod postgres;
mod push;
mod rows;
mod sqlite;
mod state;
pub mod subscribers;
pub mod uptime_o;
mod view;

pub use accounts::{
    Account, Accounts, AuditRow, Deed, NewSession, NewToken, NewUser, SessionRow, TOKENS_MAX, TOTP_BYTES, TokenRow, TokenView, Totp,
    UserChange, UserId, UserView,
};
pub use alerting::{
    Act, ActionRow, AttemptEnd, Attempted, ChannelNotice, DeadLetter, Deferred, DueNotice, MaintenanceObject, Mutes, OutboxDepth,
    SILENCES_MAX, SentMessage, Silence, WordWrite,
};
pub use apply::new_uid;
pub use contract::Store;
pub use decision::{
    Batch, BeatRow, Committed, DETAIL_MAX, Decision, DetailRow, IncidentWrite, IntervalRow, Late, LateEnd, LiveWrite, NoticeWrite,
    SightRow, Told, VerdictRow,
};
pub use document::{Beside, DOCUMENTS_MAX, DocumentRow, DocumentWrite, Documents};
pub use keep::{Housekept, Retention};
pub use object::{Applied, AppliedMonitor, AppliedTenant, ChannelObject, MonitorObject, RetiredMonitor, TenantObjects};
pub use push::{PUSH_BODY_MAX, PushKind, PushRow};
pub use state::{Fence, HeardVote, Joined, LeaseRow, Mandate, OpenIncident, StoredState};
pub use subscribers::{
    LinkPurpose, NewSubscriber, PageParcel, PageWord, ParcelEnd, Subscribed, SubscriberKind, SubscriberView, Subscribers,
};
pub use view::{
    Glance, GlanceSpan, IncidentFilter, IncidentView, LiveRow, MetricBucket, MonitorBrief, MonitorDays, MonitorView, NoticeView, PAGE_MAX,
    StateTimes, Stats, TimelineEntry,
};

use watchkeeper_core::TenantId;

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
    /// A batch from a journal decided what is another node's by now, and that node has not looked at it yet: try again.
    #[error("another node has taken over and has not looked yet")]
    NotYet,
    /// Another configuration is in force, and whether it stays so is another node's to say.
    #[error("another configuration is in force")]
    NotInForce,
    /// What was made over the API is no longer what was seen of it: read it again.
    #[error("what was made over the API has changed meanwhile")]
    Outdated,
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
