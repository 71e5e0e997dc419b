//! Watchkeeper's decisions.
//!
//! Everything here is a pure function of its arguments: no clock (`now` is passed in), no randomness
//! (ids are passed in), no I/O, no logging. The crate does not know which kinds of probes, channels or
//! remedies exist; its `Cargo.toml` keeps it that way. The same inputs always give the same decision,
//! so every decision can be replayed from what was recorded.
//!
//! Read in this order: [`heartbeat`] (the fact), [`sight`] (fold 1: what one datacenter sees),
//! [`verdict`] (fold 2: what is true of the monitor, and what must be told), [`quorum`], [`plan`] (who is disturbed by it).
//! Apart from the folds stand [`vantage`] (whether this node can look at all) and [`share`] (which node should hold what).

pub mod heartbeat;
pub mod ids;
pub mod matcher;
pub mod outcome;
pub mod plan;
pub mod quorum;
pub mod retry;
pub mod rule;
pub mod share;
pub mod sight;
pub mod time;
pub mod vantage;
pub mod verdict;

pub use heartbeat::{Heartbeat, Measure};
pub use ids::{AgentId, ChannelId, DatacenterId, IncidentId, MonitorId, TenantId};
pub use outcome::{Blind, Outcome, Reason};
pub use rule::{Rule, RuleKey, Severity, Trigger};
pub use time::{Dur, Micros};
