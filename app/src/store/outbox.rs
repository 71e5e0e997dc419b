//! What the outbox's two implementations share: how a due notice's circumstances are put together, and what the end of a delivery
//! writes on an incident's timeline.

use super::course::{EntryOut, channels_failed};
use super::rows::{self, Columns, Sql};
use super::{Attempted, Deferred, DueNotice, LiveWrite};
use crate::channel::content::Content;
use crate::timeline::Form;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{Dur, Micros, TenantId};

/// So many words of a channel that takes nothing are passed on in one transaction. More would hold up those who want to write.
pub(super) const PASSED_ON_AT_ONCE: i64 = 1_000;

/// A due notice, and what its circumstances are looked up by.
pub(super) struct DueRow {
    pub notice: DueNotice,
    pub nth: i64,
    /// Monitor and rule of its incident.
    pub about: Option<(i64, String)>,
}

impl DueRow {
    /// From: id, cause, channel, tenant, incident, event, severity, payload, attempts, created_at, held, cooldown, resolved_at, nth,
    /// monitor, rule, begun_with.
    pub(super) fn read(row: &impl Columns) -> Sql<Self> {
        Ok(Self { notice: rows::due(row)?, nth: row.int(13)?, about: row.maybe_int(14)?.zip(row.maybe_text(15)?) })
    }
}

/// What became of one word about an incident on a channel.
pub(super) struct Word {
    incident: i64,
    nth: i64,
    sent_at: Option<i64>,
    suppressed: bool,
    /// The provider's id of its message, if that was about nothing else.
    provider_id: Option<String>,
}

impl Word {
    /// From: incident, nth, state, sent_at, provider_id, digest. Only words that were sent, given up or suppressed.
    pub(super) fn read(row: &impl Columns) -> Sql<Self> {
        let state = row.text(2)?;
        let digest = row.maybe_int(5)?.is_some_and(|digest| digest != 0);
        Ok(Self {
            incident: row.int(0)?,
            nth: row.int(1)?,
            sent_at: row.maybe_int(3)?.filter(|_| state == "sent"),
            suppressed: state == "suppressed",
            provider_id: row.maybe_text(4)?.filter(|_| !digest),
        })
    }
}

/// What due notices are judged by, besides themselves.
#[derive(Default)]
pub(super) struct Circumstances {
    /// Words about their incidents that have left, been given up or been suppressed on this channel.
    pub words: Vec<Word>,
    /// When the channel last took a word about (monitor, rule).
    pub rules: BTreeMap<(i64, String), i64>,
    /// What each monitor depends on.
    pub parents: BTreeMap<i64, Vec<(String, Health)>>,
}

/// The incidents, the monitors, and the longest cooldown of these notices: what their circumstances are asked for by.
pub(super) fn asked_for(due: &[DueRow]) -> (Vec<i64>, Vec<i64>, Dur) {
    let incidents: BTreeSet<i64> = due.iter().filter_map(|row| row.notice.incident).map(|id| id.0).collect();
    let monitors: BTreeSet<i64> = due.iter().filter_map(|row| row.about.as_ref()).map(|(monitor, _)| *monitor).collect();
    let cooldown = due.iter().map(|row| row.notice.cooldown).max().unwrap_or(Dur::ZERO);
    (incidents.into_iter().collect(), monitors.into_iter().collect(), cooldown)
}

/// Due notices with their circumstances.
pub(super) fn judge(due: Vec<DueRow>, known: &Circumstances) -> Vec<DueNotice> {
    let mut words: BTreeMap<i64, Vec<&Word>> = BTreeMap::new();
    for word in &known.words {
        words.entry(word.incident).or_default().push(word);
    }
    due.into_iter()
        .map(|DueRow { mut notice, nth, about }| {
            let words = notice.incident.and_then(|id| words.get(&id.0)).map_or(&[][..], Vec::as_slice);
            notice.told = told(words);
            notice.unheard = unheard(words, nth);
            if let Some((monitor, rule)) = about {
                notice.parents = known.parents.get(&monitor).cloned().unwrap_or_default();
                notice.last_about_rule = known.rules.get(&(monitor, rule)).map(|at| Micros(*at));
            }
            notice
        })
        .collect()
}

/// When the channel took its newest word about the incident, and the provider's id of the first message that was about it alone.
fn told(words: &[&Word]) -> Option<(Micros, Option<String>)> {
    let newest = words.iter().filter_map(|word| word.sent_at).max()?;
    let sent = words.iter().filter(|word| word.sent_at.is_some() && word.provider_id.is_some());
    let first = sent.min_by_key(|word| (word.sent_at, word.nth)).and_then(|word| word.provider_id.clone());
    Some((Micros(newest), first))
}

/// Whether the reader knows nothing of the incident, because its earlier words were suppressed. A word that was given up may have
/// arrived nevertheless, so it counts as heard.
fn unheard(words: &[&Word], nth: i64) -> bool {
    let mut earlier = words.iter().filter(|word| word.nth < nth).peekable();
    earlier.peek().is_some() && earlier.all(|word| word.suppressed) && words.iter().all(|word| word.sent_at.is_none())
}

/// A notice whose state has just changed.
pub(super) struct Changed {
    pub id: i64,
    pub cause: String,
    pub incident: Option<i64>,
    pub channel: i64,
    pub tenant: TenantId,
    pub event: String,
}

impl Changed {
    /// From: id, cause, incident, channel, tenant, event.
    pub(super) fn read(row: &impl Columns) -> Sql<Self> {
        Ok(Self {
            id: row.int(0)?,
            cause: row.text(1)?,
            incident: row.maybe_int(2)?,
            channel: row.int(3)?,
            tenant: TenantId(row.int(4)?),
            event: row.text(5)?,
        })
    }
}

/// The entries of one attempt for these notices. An attempt that will be repeated has none: a provider that is down for a day would
/// fill the timeline; its error stands on the notice.
pub(super) fn entries(attempted: &Attempted, notices: &[Changed], channel: &str, at: Micros) -> Vec<EntryOut<'static>> {
    let (kind, text) = match attempted {
        Attempted::Sent { .. } => ("told", was_told(channel, notices.len() - 1)),
        Attempted::Dead { error } => ("not_told", Form::GaveUp.say(&[channel, error])),
        Attempted::Again { .. } => return Vec::new(),
    };
    let incidents: BTreeSet<i64> = notices.iter().filter_map(|notice| notice.incident).collect();
    incidents.into_iter().map(|incident| EntryOut::new(incident, at, kind, text.clone().into())).collect()
}

fn was_told(channel: &str, others: usize) -> String {
    match others {
        0 => Form::Told.say(&[channel]),
        1 => Form::ToldWithOne.say(&[channel]),
        n => Form::ToldWith.say(&[channel, &n.to_string()]),
    }
}

/// What a deferral writes on the timeline. That a channel is busy is no event of the incident: it stands on the notice.
pub(super) fn deferral(deferred: &Deferred, channel: &str) -> Option<(&'static str, String)> {
    match deferred {
        Deferred::Held { why, mute: true, .. } => Some(("held", Form::Held.say(&[channel, why]))),
        Deferred::Held { mute: false, .. } => None,
        Deferred::Suppressed { why } => Some(("not_told", Form::NotTold.say(&[channel, why]))),
    }
}

/// A channel that has been gone for so long finishes no attempt any more. Shorter overtakes one that is under way; longer leaves
/// open for longer what became of one that was cut off.
pub(super) const SENDING_MAX: Dur = Dur::secs(600);

/// A notice that waited for a channel that is no more.
pub(super) struct Forsaken {
    incident: Option<i64>,
    channel: String,
    event: String,
}

impl Forsaken {
    /// From: incident, channel's name, event.
    pub(super) fn read(row: &impl Columns) -> Sql<Self> {
        Ok(Self { incident: row.maybe_int(0)?, channel: row.text(1)?, event: row.text(2)? })
    }
}

/// What the timelines say of it. It is also logged as an error: whoever changed the configuration must see what that cost.
pub(super) fn forsaken_entries(forsaken: &[Forsaken], at: Micros) -> Vec<EntryOut<'static>> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for notice in forsaken {
        *counts.entry(&notice.channel).or_default() += 1;
    }
    for (channel, count) in counts {
        tracing::error!(
            channel,
            count,
            "{count} words that waited for the channel {channel} will not be told: it is gone from the configuration"
        );
    }
    let entry = |notice: &Forsaken| {
        let text = Form::Gone.say(&[&notice.channel, &notice.event]);
        Some(EntryOut::new(notice.incident?, at, "not_told", text.into()))
    };
    forsaken.iter().filter_map(entry).collect()
}

/// A cause of which every channel has failed.
pub(super) struct Failure<'a> {
    notice: &'a Changed,
    uid: Option<String>,
    failed: Vec<String>,
    instead: Vec<String>,
    /// Some of the channels that failed are still tried.
    trying: bool,
}

impl<'a> Failure<'a> {
    /// One for each cause, from rows of every notice of these causes: row id, cause, state, channel's name, incident's public id. Those
    /// in `instead` have just been put in the outbox of the last-resort channels.
    pub(super) fn gather(notices: &'a [Changed], instead: &HashSet<i64>, rows: &[impl Columns]) -> Sql<Vec<Self>> {
        let mut failures: BTreeMap<&str, Self> = BTreeMap::new();
        for notice in notices {
            let none = Self { notice, uid: None, failed: Vec::new(), instead: Vec::new(), trying: false };
            failures.entry(&notice.cause).or_insert(none);
        }
        for row in rows {
            let Some(failure) = failures.get_mut(row.text(1)?.as_str()) else { continue };
            failure.uid = row.maybe_text(4)?;
            if instead.contains(&row.int(0)?) {
                failure.instead.push(row.text(3)?);
                continue;
            }
            match row.text(2)?.as_str() {
                "dead" => failure.failed.push(row.text(3)?),
                // Nobody was to be told on that channel.
                "suppressed" => {}
                _ => {
                    failure.failed.push(row.text(3)?);
                    failure.trying = true;
                }
            }
        }
        Ok(failures.into_values().collect())
    }

    /// What its incident's timeline says of it.
    pub(super) fn entry(&self, at: Micros) -> Option<EntryOut<'static>> {
        let failed = self.failed.join(", ");
        let text = match (self.instead.join(", "), self.trying) {
            (none, _) if none.is_empty() => Form::AllFailed.say(&[&failed]),
            (instead, false) => Form::LastResort.say(&[&failed, &instead]),
            (instead, true) => Form::LastResortToo.say(&[&failed, &instead]),
        };
        Some(EntryOut::new(self.notice.incident?, at, "channels_failed", text.into()))
    }

    /// What the live stream says of it.
    pub(super) fn live(&self, at: Micros) -> (TenantId, LiveWrite) {
        (self.notice.tenant, channels_failed(at, self.uid.as_deref(), &self.notice.event, &self.failed, &self.instead))
    }
}

/// A notice's content as it is stored.
pub(super) fn payload(content: &Content) -> String {
    serde_json::to_string(content).expect("contents have text keys only, so they are JSON")
}

/// What a notice that no incident caused is called in the column `event`.
pub(super) const fn word_event(content: &Content) -> &'static str {
    match content {
        Content::Incident(message) => message.event.as_str(),
        Content::Digest(_) => "digest",
        Content::Report(_) => "report",
        Content::Node(_) => "node",
        Content::Test(_) => "test",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn word(nth: i64, sent_at: Option<i64>, suppressed: bool) -> Word {
        Word { incident: 1, nth, sent_at, suppressed, provider_id: None }
    }

    #[test]
    fn a_reader_who_was_told_nothing_has_heard_nothing() {
        let (opened, told, dead) = (word(0, None, true), word(0, Some(5), false), word(0, None, false));
        assert!(unheard(&[&opened], 1));
        assert!(unheard(&[&opened, &word(1, None, true)], 2));
        assert!(!unheard(&[], 0), "a beginning has nothing before it");
        assert!(!unheard(&[&told], 1));
        assert!(!unheard(&[&dead], 1), "it may have arrived");
        assert!(!unheard(&[&opened, &word(1, Some(9), false)], 2), "a reminder was told");
    }

    #[test]
    fn what_a_thread_hangs_on_is_the_first_message_about_the_incident_alone() {
        let sent = |nth, at, id: Option<&str>| Word { provider_id: id.map(str::to_owned), ..word(nth, Some(at), false) };
        assert_eq!(told(&[&word(0, None, true)]), None);
        // A digest's id is not kept: editing it would take the other words away.
        let words = [sent(0, 10, None), sent(2, 30, Some("m3")), sent(1, 20, Some("m2"))];
        assert_eq!(told(&words.iter().collect::<Vec<_>>()), Some((Micros(30), Some("m2".to_owned()))));
    }
}
