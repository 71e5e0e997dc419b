//! Metrics about ourselves: every series is declared here, once.
//!
//! Labels come from closed enums and configured names only, so that the number of series is bounded.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// `{result="up"}` and the like.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// From a closed enum.
    pub result: &'static str,
}

/// `{reason="late"}` and the like.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// From a closed enum.
    pub reason: &'static str,
}

/// `{channel="ops", result="sent"}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChannelLabel {
    /// The channel's configured name.
    pub channel: String,
    /// From a closed enum.
    pub result: &'static str,
}

/// `{channel="ops"}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChannelOnly {
    /// The channel's configured name.
    pub channel: String,
}

/// `{version="…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VersionLabel {
    /// The program's version.
    pub version: &'static str,
}

/// A gauge of seconds.
pub type SecondsGauge = Gauge<f64, AtomicU64>;

/// Every series of our own.
pub struct Metrics {
    registry: Registry,
    /// Attempts by what they found.
    pub checks: Family<ResultLabel, Counter>,
    /// How much later than scheduled an attempt began.
    pub check_lag: Histogram,
    /// Attempts under way.
    pub checks_in_flight: Gauge,
    /// Windows without an attempt, by why: `late`, `coalesced`.
    pub missed_windows: Family<ReasonLabel, Counter>,
    /// How long a commit took.
    pub store_commit: Histogram,
    /// Commits that failed and were tried again.
    pub store_failures: Counter,
    /// Heartbeats that were dropped because the store could not take them.
    pub beats_dropped: Counter,
    /// Size of the journal of a node that is cut off.
    pub journal_bytes: Gauge,
    /// Notices told while cut off that another node may have told too.
    pub told_twice: Counter,
    /// Notices neither sent nor given up.
    pub outbox_depth: Gauge,
    /// Age of the oldest of them.
    pub outbox_oldest: SecondsGauge,
    /// Dead letters.
    pub outbox_dead: Gauge,
    /// Deliveries by channel and result: `sent`, `retried`, `dead`.
    pub notifications: Family<ChannelLabel, Counter>,
    /// From the decision to the provider's acceptance.
    pub notification_delay: Histogram,
    /// Attempts to send many notices as one message.
    pub digests: Family<ChannelOnly, Counter>,
    /// How often a notice was held back, by why: `silence`, `maintenance`, `parent`, `budget`, `storm`.
    pub notices_held: Family<ReasonLabel, Counter>,
    /// Notices that will never be told, by why: `over_while_held`, `unheard`, `cooldown`, `duplicate`.
    pub notices_suppressed: Family<ReasonLabel, Counter>,
    /// Open incidents that this node decides for.
    pub incidents_open: Gauge,
    /// Monitors that are watched.
    pub monitors: Gauge,
    /// Nodes that share the work.
    pub nodes: Gauge,
    /// Scopes held.
    pub leases_held: Gauge,
    /// Scopes lost without giving them back.
    pub leases_lost: Counter,
    /// Updates of chats by what became of them: `obeyed`, `ignored`, `failed`.
    pub chat_updates: Family<ResultLabel, Counter>,
    /// Dead-man's pings: `sent`, `failed`, `withheld`.
    pub dead_man_pings: Family<ResultLabel, Counter>,
    /// 1 if the newest reload was good.
    pub reload_ok: Gauge,
    /// When it was.
    pub reload_at: SecondsGauge,
    /// 0 while this node's own network is there, 1 while that is doubted, 2 while it is gone.
    pub vantage: Gauge,
    /// Attempts over a second path, by what they found: `up`, `down`, `none`.
    pub second_paths: Family<ResultLabel, Counter>,
}

/// From 100 µs to 10 s, for lags and commits.
fn short() -> Histogram {
    Histogram::new([0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All series at zero.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            checks: Family::default(),
            check_lag: short(),
            checks_in_flight: Gauge::default(),
            missed_windows: Family::default(),
            store_commit: short(),
            store_failures: Counter::default(),
            beats_dropped: Counter::default(),
            journal_bytes: Gauge::default(),
            told_twice: Counter::default(),
            outbox_depth: Gauge::default(),
            outbox_oldest: Gauge::default(),
            outbox_dead: Gauge::default(),
            notifications: Family::default(),
            notification_delay: Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0, 3_600.0]),
            digests: Family::default(),
            notices_held: Family::default(),
            notices_suppressed: Family::default(),
            incidents_open: Gauge::default(),
            monitors: Gauge::default(),
            nodes: Gauge::default(),
            leases_held: Gauge::default(),
            leases_lost: Counter::default(),
            chat_updates: Family::default(),
            dead_man_pings: Family::default(),
            reload_ok: Gauge::default(),
            reload_at: Gauge::default(),
            vantage: Gauge::default(),
            second_paths: Family::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let build: Family<VersionLabel, Gauge> = Family::default();
        build.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        let r = self.registry.sub_registry_with_prefix("watchkeeper");
        r.register("build_info", "The running version", build);
        r.register("checks", "Attempts by what they found", self.checks.clone());
        r.register_with_unit("check_lag", "How much later than scheduled an attempt began", Unit::Seconds, self.check_lag.clone());
        r.register("checks_in_flight", "Attempts under way", self.checks_in_flight.clone());
        r.register("missed_windows", "Windows without an attempt", self.missed_windows.clone());
        r.register_with_unit("store_commit", "How long a commit took", Unit::Seconds, self.store_commit.clone());
        r.register("store_failures", "Commits that failed and were tried again", self.store_failures.clone());
        r.register("heartbeats_dropped", "Heartbeats the store could not take", self.beats_dropped.clone());
        r.register_with_unit("journal", "Size of the journal of a node that is cut off", Unit::Bytes, self.journal_bytes.clone());
        r.register("told_twice", "Notices told while cut off that another node may have told too", self.told_twice.clone());
        r.register("outbox_depth", "Notices neither sent nor given up", self.outbox_depth.clone());
        r.register_with_unit(
            "outbox_oldest",
            "Age of the oldest notice that is due and not told",
            Unit::Seconds,
            self.outbox_oldest.clone(),
        );
        r.register("outbox_dead", "Dead letters", self.outbox_dead.clone());
        r.register("notifications", "Deliveries by channel and result", self.notifications.clone());
        r.register_with_unit(
            "notification_delay",
            "From the decision to the provider's acceptance",
            Unit::Seconds,
            self.notification_delay.clone(),
        );
        r.register("digests", "Attempts to send many notices as one message", self.digests.clone());
        r.register("notices_held", "How often a notice was held back", self.notices_held.clone());
        r.register("notices_suppressed", "Notices that will never be told", self.notices_suppressed.clone());
        r.register("incidents_open", "Open incidents decided by this node", self.incidents_open.clone());
        r.register("monitors", "Monitors that are watched", self.monitors.clone());
        r.register("nodes", "Nodes that share the work, as this one sees it", self.nodes.clone());
        r.register("leases_held", "Scopes held by this node", self.leases_held.clone());
        r.register("leases_lost", "Scopes lost without giving them back", self.leases_lost.clone());
        r.register("chat_updates", "Buttons and messages of chats by what became of them", self.chat_updates.clone());
        r.register("dead_man_pings", "Dead-man's pings by result", self.dead_man_pings.clone());
        r.register("config_last_reload_successful", "1 if the newest reload was good", self.reload_ok.clone());
        r.register_with_unit("config_last_reload", "When the newest good reload was", Unit::Seconds, self.reload_at.clone());
        r.register("vantage", "0 if this node's own network is there, 1 if that is doubted, 2 if it is gone", self.vantage.clone());
        r.register("second_paths", "Attempts over a second path by what they found", self.second_paths.clone());
        self
    }

    /// The text form that Prometheus scrapes, with the end mark of OpenMetrics.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut out, &self.registry);
        out
    }
}

/// Shared by all parts.
pub type SharedMetrics = Arc<Metrics>;
