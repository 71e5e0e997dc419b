//! One message and the notices that it is for: a notice alone, or many of them together as a digest.

use crate::channel::Message;
use crate::channel::content::{Content, DIGEST_SHOWN, Digest};
use crate::store::DueNotice;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashSet};
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{ChannelId, Micros, Severity};

/// One message to be delivered.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    /// The rows that it is for.
    pub ids: Vec<i64>,
    /// What it says.
    pub content: Content,
    /// The same again is the same message.
    pub key: String,
    /// The provider's id of the first message about the same incident.
    pub thread: Option<String>,
    /// For many notices.
    pub digest: bool,
}

impl Parcel {
    /// For one notice: what it says.
    pub(super) fn single(notice: &DueNotice) -> Self {
        Self {
            ids: vec![notice.id],
            content: notice.content.clone(),
            key: format!("{}/{}", notice.cause, notice.channel.0),
            thread: notice.told.as_ref().and_then(|(_, first)| first.clone()),
            digest: false,
        }
    }

    /// For these notices together; one alone is told as such. `None` of none.
    pub(super) fn of(notices: &[&DueNotice], now: Micros) -> Option<Self> {
        let (first, more) = notices.split_first()?;
        if more.is_empty() {
            return Some(Self::single(first));
        }
        let ids: Vec<i64> = notices.iter().map(|notice| notice.id).collect();
        Some(Self { key: key(first.channel, &ids), ids, content: Content::Digest(digest(notices, now)), thread: None, digest: true })
    }

    /// In a few words, for a log.
    pub(super) fn title(&self) -> String {
        match &self.content {
            Content::Incident(message) => format!("{} {} {}", message.monitor, message.rule, message.event.as_str()),
            Content::Digest(digest) => format!("{} notices together, {} open, {} resolved", self.ids.len(), digest.open, digest.resolved),
            Content::Report(report) => format!("report {}", report.name),
            Content::Node(word) => format!("node {} {}", word.node, word.event.as_str()),
            Content::Test(_) => "test".to_owned(),
        }
    }
}

/// The key of a digest: the same notices again are the same message, so that a receiver recognises it after a crash.
fn key(channel: ChannelId, ids: &[i64]) -> String {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha256::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    let hash = crate::hex(hash.finalize().as_slice());
    format!("digest/{}/{}", channel.0, &hash[..32])
}

/// Many words as one: the newest of each incident, those that last before those that are over, the most urgent first.
fn digest(notices: &[&DueNotice], now: Micros) -> Digest {
    let mut newest: BTreeMap<&str, (&DueNotice, &Message)> = BTreeMap::new();
    for notice in notices {
        if let Content::Incident(message) = &notice.content {
            let place = newest.entry(&message.incident).or_insert((notice, message));
            if (notice.created_at, notice.id) > (place.0.created_at, place.0.id) {
                *place = (notice, message);
            }
        }
    }
    let over = |message: &Message| message.event == NoticeEvent::Resolved;
    let resolved = newest.values().filter(|(_, message)| over(message)).count();
    let open = newest.len() - resolved;
    let mut words: Vec<(&DueNotice, &Message)> = newest.into_values().collect();
    words.sort_by_key(|(notice, message)| {
        let urgency: std::cmp::Reverse<Severity> = std::cmp::Reverse(message.severity);
        (over(message), urgency, notice.created_at, notice.id)
    });
    let more = words.len().saturating_sub(DIGEST_SHOWN);
    let tenant = words.first().map(|(_, message)| message.tenant.clone()).unwrap_or_default();
    let words = words.into_iter().take(DIGEST_SHOWN).map(|(_, message)| message.clone()).collect();
    Digest { tenant, words, open: open as u32, resolved: resolved as u32, more: more as u32, at: now }
}

/// Of the notices that are to be told together, those of the next digest: what was begun before goes alone, so that a digest that a
/// crash has cut off is repeated as it was, under its key, and not mixed with what came since.
pub(super) fn together<'n>(chosen: &[&'n DueNotice]) -> Vec<&'n DueNotice> {
    let begun: Vec<&DueNotice> = chosen.iter().copied().filter(|notice| notice.attempts > 0).collect();
    if begun.is_empty() { chosen.to_vec() } else { begun }
}

/// Those of the notices whose id is among these.
pub(super) fn among<'n>(notices: &[&'n DueNotice], ids: &[i64]) -> Vec<&'n DueNotice> {
    let ids: HashSet<i64> = ids.iter().copied().collect();
    notices.iter().copied().filter(|notice| ids.contains(&notice.id)).collect()
}
