//! What a delivery says: a word about an incident, many of them at once, a report, a word about a node, or a test.
//!
//! Fixed when it was decided and stored with its notice: a later change of the configuration does not change it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{Micros, Severity};

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are incidents, and none is kept for long")]
pub enum Content {
    /// One word about one incident.
    Incident(Message),
    /// Many words at once: a storm, or more than the channel may send one by one.
    Digest(Digest),
    /// The state of everything, at a fixed pace.
    Report(Report),
    /// About this node itself.
    Node(NodeWord),
    /// `channel test`.
    Test(TestWord),
}

/// One word about one incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Which word about it.
    pub event: NoticeEvent,
    /// The incident's public id (UUID text).
    pub incident: String,
    /// The tenant's slug.
    pub tenant: String,
    /// The monitor's public id (UUID text).
    pub monitor_uid: String,
    /// The monitor's name.
    pub monitor: String,
    /// `http`, `tcp`, …
    pub kind: String,
    /// What is watched, without credentials.
    pub target: String,
    /// Labels of the monitor.
    pub labels: BTreeMap<String, String>,
    /// The rule's key: `down`, `slow_response/first_byte`, …
    pub rule: String,
    /// How bad.
    pub severity: Severity,
    /// `dns_nxdomain`, `no_route`, …, for rules on health.
    pub reason: Option<String>,
    /// One sentence for a person: what is wrong, or what was.
    pub summary: String,
    /// The probe's own words about the deciding attempt, if it had any.
    pub detail: Option<String>,
    /// When the incident began.
    pub opened_at: Micros,
    /// When it ended.
    pub resolved_at: Option<Micros>,
    /// Why it ended: `recovered`, `rule_removed`, `retired`, `operator`. Only the first means that things are well again.
    #[serde(default)]
    pub resolved_why: Option<String>,
    /// It began soon after its last end: the rule flaps, and its end will be told once things have stayed well.
    #[serde(default)]
    pub flapping: bool,
    /// Who acknowledged it, gave it back or ended it, if a person did.
    #[serde(default)]
    pub actor: Option<String>,
    /// What that person said with it.
    #[serde(default)]
    pub comment: Option<String>,
    /// The node that tells it while it is cut off from the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_off: Option<String>,
    /// Who saw it: code of each datacenter with what it sees.
    pub seen_by: BTreeMap<String, String>,
}

/// Many words at once. Made when it is sent, out of the notices that it covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The tenant's slug.
    pub tenant: String,
    /// Its words, most urgent first, at most [`DIGEST_SHOWN`]; the newest word of each incident stands for the earlier ones.
    pub words: Vec<Message>,
    /// How many incidents of it have begun, or last.
    pub open: u32,
    /// How many of it have ended.
    pub resolved: u32,
    /// How many incidents are not among `words`.
    pub more: u32,
    /// When it was made.
    pub at: Micros,
}

/// A digest names so many incidents. More fits no chat message; fewer tells less than it could.
pub const DIGEST_SHOWN: usize = 20;

/// A periodic report of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its configured name.
    pub name: String,
    /// The tenant's slug.
    pub tenant: String,
    /// When the period it covers began.
    pub from: Micros,
    /// When it ended.
    pub to: Micros,
    /// Monitors by what is true of them, all of them counted.
    pub counts: Vec<(Health, u32)>,
    /// Monitors that are paused.
    pub paused: u32,
    /// Lines for monitors, worst first, at most [`REPORT_SHOWN`].
    pub lines: Vec<ReportLine>,
    /// How many monitors are not among `lines`.
    pub more: u32,
    /// Incidents that began in the period.
    pub opened: u32,
    /// Incidents that are open at its end.
    pub open: u32,
}

/// A report names so many monitors. More fits no chat message; fewer leaves small fleets incomplete.
pub const REPORT_SHOWN: usize = 50;

/// One monitor in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLine {
    /// Its name.
    pub monitor: String,
    /// `http`, …
    pub kind: String,
    /// What is true of it.
    pub health: Health,
    /// Why, while it is not up.
    pub why: Option<String>,
    /// Thousandths of a percent of the period in which it was up, of the time in which it was known; `None` if it never was.
    pub uptime_mpct: Option<u32>,
}

/// Something about a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWord {
    /// What happened.
    pub event: NodeEvent,
    /// Which node.
    pub node: String,
    /// In which datacenter.
    pub datacenter: String,
    /// How bad.
    pub severity: Severity,
    /// When it began.
    pub at: Micros,
    /// When it was over, if it is.
    pub until: Option<Micros>,
    /// One sentence for a person.
    pub summary: String,
}

/// What can happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeEvent {
    /// It began to watch.
    Started,
    /// It stopped in good order.
    Stopped,
    /// It had to end because of a fault of its own, seen at the next start.
    Failed,
    /// Its own network was gone; nothing was said of the targets meanwhile.
    CutOff,
    /// All channels of an alert have failed.
    ChannelsFailed,
}

impl NodeEvent {
    /// The word in payloads.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::CutOff => "cut_off",
            Self::ChannelsFailed => "channels_failed",
        }
    }
}

/// The message of `channel test`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestWord {
    /// The channel's name.
    pub channel: String,
    /// Its kind.
    pub kind: String,
    /// When it was asked for.
    pub at: Micros,
}

impl Content {
    /// The node that tells it while it is cut off from the store, if one does.
    pub fn cut_off(&self) -> Option<&str> {
        match self {
            Self::Incident(message) => message.cut_off.as_deref(),
            Self::Digest(digest) => digest.words.iter().find_map(|message| message.cut_off.as_deref()),
            Self::Report(_) | Self::Node(_) | Self::Test(_) => None,
        }
    }

    /// The incident's message, if it is about one.
    pub const fn incident(&self) -> Option<&Message> {
        match self {
            Self::Incident(message) => Some(message),
            Self::Digest(_) | Self::Report(_) | Self::Node(_) | Self::Test(_) => None,
        }
    }

    /// Reads a stored payload. What was stored before there was anything but incidents is a bare message.
    pub fn parse(json: &str) -> serde_json::Result<Self> {
        serde_json::from_str(json).or_else(|error| serde_json::from_str::<Message>(json).map(Self::Incident).map_err(|_| error))
    }
}
