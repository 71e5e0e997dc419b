//! Types of the store's contract around the commit stream: facts, decisions, and what became of them.

use super::Scope;
use super::course::incident_of;
use super::state::Fence;
use crate::channel::content::Content;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use smallvec::SmallVec;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::{RuleKey, Severity};
use watchkeeper_core::sight::{Sight, Vote};
use watchkeeper_core::verdict::{NoticeEvent, Verdict};
use watchkeeper_core::{AgentId, ChannelId, DatacenterId, Dur, IncidentId, Micros, MonitorId, Outcome, TenantId};

/// One commit of one node. Everything in it lands together, except decisions whose fence is stale: those are dropped and named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Whose.
    pub agent: AgentId,
    /// Of which life of that agent.
    pub boot: String,
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
    /// It comes late, from the journal of a node that was cut off: what else is to be known about it.
    #[serde(skip)]
    pub late: Option<Late>,
}

/// What goes with a batch that was decided while its node was cut off from the store. Of decisions that another node has overtaken,
/// beginnings and ends that this node saw too become entries on the timelines of its incidents; an outage that only the node that was cut
/// off has seen is an incident of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// Which node, for a person.
    pub node: String,
    /// Which of its notices were told meanwhile.
    pub told: Vec<Told>,
    /// How the incidents end that begin in this batch.
    pub ends: Vec<LateEnd>,
    /// Whether to wait ([`super::StoreError::NotYet`]) until another node has looked at what this one left open.
    pub wait: bool,
}

/// How an incident ends that began while its node was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateEnd {
    /// A [`IncidentWrite::Resolve`]: that of a later batch, or one that was made up because nobody knows the true one.
    pub write: IncidentWrite,
    /// The words of an end that was made up; those of a true one come with its decision.
    pub notices: Option<Vec<NoticeWrite>>,
}

impl LateEnd {
    /// Of which incident.
    pub const fn incident(&self) -> IncidentId {
        incident_of(&self.write)
    }

    /// When.
    pub const fn at(&self) -> Micros {
        match &self.write {
            IncidentWrite::Open { at, .. }
            | IncidentWrite::Resolve { at, .. }
            | IncidentWrite::Acknowledge { at, .. }
            | IncidentWrite::Note { at, .. } => *at,
        }
    }
}

/// A notice that a channel took while its node was cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The notice's key, with the channel.
    pub cause: String,
    /// Where to.
    pub channel: ChannelId,
    /// The message's key.
    pub key: String,
    /// Whether it was told with others.
    pub digest: bool,
    /// The provider's id of the message.
    pub provider_id: Option<String>,
    /// When.
    pub at: Micros,
}

impl Told {
    /// Whether that is what was told.
    pub fn is(&self, word: &NoticeWrite) -> bool {
        self.cause == word.cause && self.channel == word.channel
    }
}

/// A heartbeat as it is stored. Times of phases in µs; -1 in `code`, `size` and `value` stands for absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "BeatLine", try_from = "BeatLine")]
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
    /// The kind's own number: certificate days left for http and tls, loss in thousandths for icmp, exit code for push,
    /// requests in flight for worker.
    pub value: i64,
    /// Bit 0: it came by push. Others: zero.
    pub flags: i32,
}

/// A heartbeat in the journal: its columns in their order, as there may be hundreds of thousands.
#[derive(Serialize, Deserialize)]
struct BeatLine(MonitorId, DatacenterId, Micros, AgentId, [i16; 2], i64, [i64; 6], i32, i64, i64, i32);

impl From<BeatRow> for BeatLine {
    fn from(row: BeatRow) -> Self {
        let (outcome, why) = row.outcome.codes();
        let phases = [row.dns_us, row.connect_us, row.tls_us, row.first_byte_us, row.transfer_us, row.total_us];
        Self(row.monitor, row.datacenter, row.at, row.agent, [outcome, why], row.lag_us, phases, row.code, row.size, row.value, row.flags)
    }
}

impl TryFrom<BeatLine> for BeatRow {
    type Error = &'static str;

    fn try_from(line: BeatLine) -> Result<Self, Self::Error> {
        let BeatLine(monitor, datacenter, at, agent, [outcome, why], lag_us, phases, code, size, value, flags) = line;
        let outcome = Outcome::from_codes(outcome, why).ok_or("an outcome of another version")?;
        let [dns_us, connect_us, tls_us, first_byte_us, transfer_us, total_us] = phases;
        Ok(Self {
            monitor,
            datacenter,
            at,
            agent,
            outcome,
            lag_us,
            dns_us,
            connect_us,
            tls_us,
            first_byte_us,
            transfer_us,
            total_us,
            code,
            size,
            value,
            flags,
        })
    }
}

/// Evidence of one beat: an [`crate::probe::Attempt`] as JSON, at most [`DETAIL_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SightRow {
    /// Seen from where.
    pub datacenter: DatacenterId,
    /// The fold, stored whole (versioned JSON in `fold`).
    pub sight: Sight,
    /// Its vote.
    pub vote: Vote,
}

/// A verdict and when its fold wants to be called again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRow {
    /// The fold, stored whole (versioned JSON in `fold`).
    pub verdict: Verdict,
    /// Durable wake-up.
    pub wake: Option<Micros>,
}

/// The beginning of a state; ends the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalRow {
    /// When it began.
    pub start: Micros,
    /// What it is.
    pub health: Health,
}

/// A change to the incident table with its entry on the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
        /// What chose whom to tell.
        routed_by: Option<String>,
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
        #[serde(deserialize_with = "word")]
        why: Word,
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
        #[serde(deserialize_with = "word")]
        kind: Word,
        /// One sentence.
        summary: String,
    },
}

/// A word of ours. (Under its plain name the journal could only be read from text that never goes.)
pub type Word = &'static str;

/// Reads one of the words above back.
fn word<'de, D: Deserializer<'de>>(from: D) -> Result<Word, D::Error> {
    const WORDS: [&str; 6] = ["recovered", "rule_removed", "retired", "operator", "reminded", "escalated"];
    let text = String::deserialize(from)?;
    WORDS.into_iter().find(|word| *word == text).ok_or_else(|| D::Error::custom("a word of another version"))
}

/// A notice to be told; unique by (cause, channel). Inserted as `due`, ignored when it is there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeWrite {
    /// [`NoticeWrite::cause_of`].
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

impl NoticeWrite {
    /// The key of a word about an incident: the same again means the same notice.
    pub fn cause_of(incident: &str, event: NoticeEvent, nth: u32) -> String {
        format!("incident/{incident}/{}/{nth}", event.as_str())
    }
}

/// One line of the live stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveWrite {
    /// When.
    pub at: Micros,
    /// `monitor_state`, `incident_opened`, …; `channels_failed`, `silence_created` and `silence_ended` are written by the store itself.
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
