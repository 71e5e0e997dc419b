//! Types of the store's contract around alerting: what waits to be told, what mutes it, what people do about incidents.

use super::state::Fence;
use super::view::NoticeView;
use crate::channel::content::Content;
use serde::{Deserialize, Serialize};
use watchkeeper_core::matcher::Matcher;
use watchkeeper_core::plan::Waiting;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::verdict::{Action, NoticeEvent};
use watchkeeper_core::{ChannelId, Dur, IncidentId, Micros, MonitorId, Severity, TenantId};

/// A notice that is to be delivered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueNotice {
    /// Row id.
    pub id: i64,
    /// Its key: unique with the channel.
    pub cause: String,
    /// Where to.
    pub channel: ChannelId,
    /// Whose.
    pub tenant: TenantId,
    /// About which incident; `None` for reports and words about nodes.
    pub incident: Option<IncidentId>,
    /// Which word about it.
    pub event: Option<NoticeEvent>,
    /// How urgent.
    pub severity: Severity,
    /// What it says.
    pub content: Content,
    /// Attempts begun before this one.
    pub attempts: u32,
    /// The message that it was last begun in: the same for all that were begun in it together.
    pub with: Option<i64>,
    /// When it was decided.
    pub created_at: Micros,
    /// It has been held back by a mute before.
    pub held: bool,
    /// The rule's cooldown.
    pub cooldown: Dur,
    /// A word about the incident was accepted by this channel: when the newest was, and the provider's id of the first message that was
    /// about this incident alone.
    pub told: Option<(Micros, Option<String>)>,
    /// Every earlier word about the incident was suppressed on this channel, its beginning too: nobody there knows of it.
    pub unheard: bool,
    /// When the incident ended, if it has.
    pub over: Option<Micros>,
    /// When this channel last took a word about the same rule of the same monitor, if that was within its cooldown.
    pub last_about_rule: Option<Micros>,
    /// What the monitor depends on, as it stands: name and health.
    pub parents: Vec<(String, Health)>,
}

impl DueNotice {
    /// As the plan sees it; what mutes it is added by the caller, who knows the time.
    pub fn waiting(&self) -> Waiting {
        Waiting {
            id: self.id,
            incident: self.incident,
            event: self.event,
            severity: self.severity,
            at: self.created_at,
            held: self.held,
            begun: self.attempts > 0,
            with: self.with,
            told: self.told.is_some(),
            unheard: self.unheard,
            over: self.over,
            last_word: self.told.as_ref().map(|(at, _)| *at),
            last_about_rule: self.last_about_rule,
            cooldown: self.cooldown,
            mutes: smallvec::SmallVec::new(),
        }
    }
}

/// What was decided about a notice that is not sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deferred {
    /// To be looked at again then.
    Held {
        /// When.
        until: Micros,
        /// Why, for a person.
        why: String,
        /// Whether a mute holds it, so that it is void if the incident ends meanwhile.
        mute: bool,
    },
    /// Never to be told.
    Suppressed {
        /// Why, for a person.
        why: String,
    },
}

/// A notice that no incident caused: a report, a word about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordWrite {
    /// The same again means the same notice: `report/<tenant>/<name>/<period>`, `node/<name>/<event>/<at>`.
    pub cause: String,
    /// Whose.
    pub tenant: TenantId,
    /// Where to.
    pub channels: Vec<ChannelId>,
    /// How urgent.
    pub severity: Severity,
    /// What it says.
    pub content: Content,
    /// When it was decided.
    pub at: Micros,
}

/// A silence: nobody is told of what it matches until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Public id (UUID text).
    pub uid: String,
    /// About what.
    pub matcher: Matcher,
    /// From when.
    pub starts_at: Micros,
    /// Until when.
    pub ends_at: Micros,
    /// Who asked for it.
    pub author: String,
    /// Why.
    pub comment: String,
}

/// A tenant has at most so many silences that have not ended. More makes every look at the outbox long; fewer refuses what a person
/// wants during a large outage.
pub const SILENCES_MAX: i64 = 1_000;

/// A maintenance window as configured; `calendar.rs` says when it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceObject {
    /// Unique in the tenant.
    pub name: String,
    /// About what, as JSON of a [`Matcher`].
    pub matcher: String,
    /// When, as JSON of a [`crate::calendar::Window`].
    pub window: String,
    /// `file:line`.
    pub origin: String,
}

/// Everything that may mute a tenant's notices now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutes {
    /// Silences that have begun and not ended.
    pub silences: Vec<Silence>,
    /// Every live maintenance window, whether open or not: name, matcher, window (JSON).
    pub maintenance: Vec<MaintenanceObject>,
}

/// What was done about an incident from outside its fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// By a person.
    Person(Action),
    /// A node that was cut off saw it end, and told so.
    SeenOver,
}

impl Act {
    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person(action) => action.as_str(),
            Self::SeenOver => "seen_over",
        }
    }

    /// Reads that word.
    pub fn parse(word: &str) -> Option<Self> {
        if word == Self::SeenOver.as_str() { Some(Self::SeenOver) } else { Action::parse(word).map(Self::Person) }
    }
}

/// What a person, or a node that was cut off, did about an incident; a fact, folded by whoever decides for its monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionRow {
    /// Row id.
    pub id: i64,
    /// About which incident.
    pub incident: IncidentId,
    /// Of which monitor.
    pub monitor: MonitorId,
    /// What.
    pub act: Act,
    /// Who.
    pub actor: String,
    /// What was said with it.
    pub comment: Option<String>,
    /// When.
    pub at: Micros,
}

/// A notice that will not be tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Row id; the id for trying again.
    pub id: i64,
    /// The channel's name.
    pub channel: String,
    /// The incident's public id, if it is about one.
    pub incident_uid: Option<String>,
    /// `opened`, …; `report` or `node` if it is about no incident.
    pub event: String,
    /// What it says.
    pub content: Content,
    /// Attempts made.
    pub attempts: u32,
    /// The last error.
    pub last_error: Option<String>,
    /// When it was decided.
    pub created_at: Micros,
}

/// What a channel got lately, or is still to get.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelNotice {
    /// What became of it.
    pub notice: NoticeView,
    /// The incident's public id, if it is about one.
    pub incident_uid: Option<String>,
    /// What it says.
    pub content: Content,
}

/// A message that a channel took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentMessage {
    /// When.
    pub at: Micros,
    /// Whether it was a digest.
    pub digest: bool,
}

/// How an attempt for one or more notices ended.
#[derive(Clone, Debug)]
pub struct AttemptEnd<'a> {
    /// The notices that it was for: one, or all of a digest.
    pub notices: &'a [i64],
    /// The lease it was begun under.
    pub fence: &'a Fence,
    /// How it ended.
    pub attempted: &'a Attempted,
    /// The message's key: the same again is the same message.
    pub key: &'a str,
    /// Whether it was a digest.
    pub digest: bool,
    /// When.
    pub at: Micros,
}

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
