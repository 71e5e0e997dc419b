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

/// Those of the notices whose id is among these.
pub(super) fn among<'n>(notices: &[&'n DueNotice], ids: &[i64]) -> Vec<&'n DueNotice> {
    let ids: HashSet<i64> = ids.iter().copied().collect();
    notices.iter().copied().filter(|notice| ids.contains(&notice.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchkeeper_core::{Dur, IncidentId, TenantId};

    fn notice(id: i64, incident: &str, event: NoticeEvent, severity: Severity) -> DueNotice {
        let message = Message {
            event,
            incident: incident.to_owned(),
            tenant: "acme".to_owned(),
            monitor_uid: String::new(),
            monitor: format!("of {incident}"),
            kind: "http".to_owned(),
            target: String::new(),
            labels: BTreeMap::new(),
            rule: "down".to_owned(),
            severity,
            reason: None,
            summary: String::new(),
            detail: None,
            opened_at: Micros(0),
            resolved_at: None,
            resolved_why: None,
            flapping: false,
            cut_off: None,
            actor: None,
            comment: None,
            seen_by: BTreeMap::new(),
        };
        DueNotice {
            id,
            cause: format!("incident/{incident}/{id}"),
            channel: ChannelId(7),
            tenant: TenantId(1),
            incident: Some(IncidentId(id)),
            event: Some(event),
            severity,
            content: Content::Incident(message),
            attempts: 0,
            with: None,
            created_at: Micros(id),
            held: false,
            cooldown: Dur::ZERO,
            told: Some((Micros(0), Some("first".to_owned()))),
            unheard: false,
            over: None,
            last_about_rule: None,
            parents: Vec::new(),
        }
    }

    #[test]
    fn a_digest_shows_the_newest_word_of_each_incident_what_lasts_first_and_the_urgent_before_the_mild() {
        use NoticeEvent::{Opened, Reminded, Resolved};
        let all = [
            notice(1, "over", Resolved, Severity::Critical),
            notice(2, "mild", Opened, Severity::Warning),
            notice(3, "bad", Opened, Severity::Critical),
            notice(4, "mild", Reminded, Severity::Warning),
            notice(5, "worse", Opened, Severity::Critical),
        ];
        let parcel = Parcel::of(&all.iter().collect::<Vec<_>>(), Micros(9)).unwrap();
        let Content::Digest(digest) = &parcel.content else { panic!("{:?}", parcel.content) };
        let shown: Vec<(&str, NoticeEvent)> = digest.words.iter().map(|word| (word.incident.as_str(), word.event)).collect();
        assert_eq!(shown, [("bad", Opened), ("worse", Opened), ("mild", Reminded), ("over", Resolved)]);
        assert_eq!((digest.open, digest.resolved, digest.more, digest.tenant.as_str(), digest.at), (3, 1, 0, "acme", Micros(9)));
        assert_eq!((parcel.ids.len(), parcel.digest, parcel.thread), (5, true, None));
    }

    #[test]
    fn the_key_is_of_the_notices_whatever_their_order_and_one_alone_is_told_as_such() {
        let all: Vec<DueNotice> = (1..=3).map(|id| notice(id, &id.to_string(), NoticeEvent::Opened, Severity::Critical)).collect();
        let key = |ids: &[usize]| Parcel::of(&ids.iter().map(|id| &all[*id]).collect::<Vec<_>>(), Micros(0)).unwrap().key;
        assert_eq!(key(&[0, 1, 2]), key(&[2, 0, 1]));
        assert_ne!(key(&[0, 1]), key(&[0, 1, 2]));
        assert!(key(&[0, 1]).starts_with("digest/7/"), "{}", key(&[0, 1]));
        let alone = Parcel::of(&[&all[0]], Micros(0)).unwrap();
        assert_eq!((alone.key.as_str(), alone.thread.as_deref(), alone.digest), ("incident/1/1/7", Some("first"), false));
        assert!(Parcel::of(&[], Micros(0)).is_none());
    }
}
