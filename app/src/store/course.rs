//! The course of an incident: what the writes of a batch make of it, with the entries of its timeline; the same for both stores.
//!
//! Nothing follows the end of an incident: what comes later changes nothing and has no entry.

use super::rows::{Columns, Sql};
use super::{IncidentWrite, LiveWrite, Silence};
use crate::channel::text::iso;
use std::borrow::Cow;
use std::collections::BTreeMap;
use watchkeeper_core::{IncidentId, Micros};

/// An entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryOut<'a> {
    pub incident: i64,
    /// Its place; drawn by the store for entries that no batch brings.
    pub nth: i64,
    pub at: i64,
    pub kind: &'static str,
    pub actor: Option<&'a str>,
    pub text: Cow<'a, str>,
    pub evidence: Option<&'a str>,
}

impl<'a> EntryOut<'a> {
    /// An entry of which only this is known yet.
    pub(super) const fn new(incident: i64, at: Micros, kind: &'static str, text: Cow<'a, str>) -> Self {
        Self { incident, nth: 0, at: at.0, kind, actor: None, text, evidence: None }
    }
}

/// What of an incident changes while it lasts and when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Course {
    /// When and why it ended.
    pub resolved: Option<(i64, String)>,
    /// Who took it on, and when.
    pub acknowledged: Option<(String, i64)>,
    /// How many entries its timeline has.
    pub rev: i64,
}

impl Course {
    /// From: resolved_at, resolved_why, acknowledged_by, acknowledged_at, rev, beginning at `from`.
    pub(super) fn read(row: &impl Columns, from: usize) -> Sql<Self> {
        Ok(Self {
            resolved: row.maybe_int(from)?.zip(row.maybe_text(from + 1)?),
            acknowledged: row.maybe_text(from + 2)?.zip(row.maybe_int(from + 3)?),
            rev: row.int(from + 4)?,
        })
    }

    /// The stored word.
    pub(super) const fn status(&self) -> &'static str {
        match (&self.resolved, &self.acknowledged) {
            (Some(_), _) => "resolved",
            (None, Some(_)) => "acknowledged",
            (None, None) => "open",
        }
    }

    /// Takes the write in, and says what the timeline gets; nothing once the incident is over.
    pub(super) fn follow<'a>(&mut self, write: &'a IncidentWrite) -> Option<EntryOut<'a>> {
        if self.resolved.is_some() {
            return None;
        }
        let mut entry = match write {
            IncidentWrite::Open { id, at, summary, evidence, .. } => {
                EntryOut { evidence: evidence.as_deref(), ..EntryOut::new(id.0, *at, "opened", summary.into()) }
            }
            IncidentWrite::Resolve { id, at, why, actor, summary } => {
                self.resolved = Some((at.0, (*why).to_owned()));
                EntryOut { actor: actor.as_deref(), ..EntryOut::new(id.0, *at, "resolved", summary.into()) }
            }
            IncidentWrite::Acknowledge { id, at, on, actor, summary } => {
                self.acknowledged = on.then(|| (actor.clone().unwrap_or_default(), at.0));
                let kind = if *on { "acknowledged" } else { "unacknowledged" };
                EntryOut { actor: actor.as_deref(), ..EntryOut::new(id.0, *at, kind, summary.into()) }
            }
            IncidentWrite::Note { id, at, kind, summary } => EntryOut::new(id.0, *at, kind, summary.into()),
        };
        entry.nth = self.rev;
        self.rev += 1;
        Some(entry)
    }
}

/// Which incident a write is about.
pub(super) const fn incident_of(write: &IncidentWrite) -> IncidentId {
    match write {
        IncidentWrite::Open { id, .. }
        | IncidentWrite::Resolve { id, .. }
        | IncidentWrite::Acknowledge { id, .. }
        | IncidentWrite::Note { id, .. } => *id,
    }
}

/// Takes writes about stored incidents in, in their order: the entries of their timelines, and the incidents that changed. An
/// incident that is not stored (its opening was dropped with a stale fence) is passed over.
pub(super) fn follow<'a>(writes: &[&'a IncidentWrite], mut stored: BTreeMap<i64, Course>) -> (Vec<EntryOut<'a>>, Vec<(i64, Course)>) {
    let before: BTreeMap<i64, i64> = stored.iter().map(|(id, course)| (*id, course.rev)).collect();
    let follow = |write: &&'a IncidentWrite| stored.get_mut(&incident_of(write).0)?.follow(write);
    let entries = writes.iter().filter_map(follow).collect();
    let changed = stored.into_iter().filter(|(id, course)| before.get(id) != Some(&course.rev)).collect();
    (entries, changed)
}

/// How many entries each incident gets, in order of its id: the order in which incidents are locked.
pub(super) fn counts(entries: &[EntryOut<'_>]) -> BTreeMap<i64, i64> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        *counts.entry(entry.incident).or_insert(0) += 1;
    }
    counts
}

/// Gives entries their places, in their order, when each incident's count already includes them; those of incidents that are not
/// there are dropped.
pub(super) fn place<'a>(entries: Vec<EntryOut<'a>>, mut revs: BTreeMap<i64, i64>) -> Vec<EntryOut<'a>> {
    for (incident, count) in counts(&entries) {
        revs.entry(incident).and_modify(|rev| *rev -= count);
    }
    let mut place = |entry: EntryOut<'a>| {
        let next = revs.get_mut(&entry.incident)?;
        let placed = EntryOut { nth: *next, ..entry };
        *next += 1;
        Some(placed)
    };
    entries.into_iter().filter_map(&mut place).collect()
}

/// The live event that tells of a cause of which every channel has failed.
pub(super) fn channels_failed(at: Micros, incident: Option<&str>, event: &str, failed: &[String], instead: &[String]) -> LiveWrite {
    let data = serde_json::json!({ "incident": incident, "event": event, "channels": failed, "last_resort": instead });
    LiveWrite { at, kind: "channels_failed".to_owned(), data }
}

/// The live event of a silence that was asked for.
pub(super) fn silence_created(silence: &Silence) -> LiveWrite {
    of_silence("silence_created", silence, &silence.author, silence.starts_at)
}

/// The live event of a silence that a person has ended. That one has run out is no event: its end was told with its beginning.
pub(super) fn silence_ended(silence: &Silence, actor: &str) -> LiveWrite {
    of_silence("silence_ended", silence, actor, silence.ends_at)
}

fn of_silence(kind: &str, silence: &Silence, actor: &str, at: Micros) -> LiveWrite {
    let Silence { uid, matcher, starts_at, ends_at, author, comment } = silence;
    let data = serde_json::json!({
        "silence": uid, "match": matcher, "starts_at": iso(*starts_at), "ends_at": iso(*ends_at), "author": author,
        "comment": comment, "actor": actor,
    });
    LiveWrite { at, kind: kind.to_owned(), data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(id: i64) -> IncidentWrite {
        IncidentWrite::Note { id: IncidentId(id), at: Micros(5), kind: "reminded", summary: "it lasts".into() }
    }

    fn acknowledge(id: i64, on: bool) -> IncidentWrite {
        IncidentWrite::Acknowledge { id: IncidentId(id), at: Micros(6), on, actor: Some("ann".into()), summary: "ann is on it".into() }
    }

    fn resolve(id: i64) -> IncidentWrite {
        IncidentWrite::Resolve { id: IncidentId(id), at: Micros(7), why: "operator", actor: Some("ann".into()), summary: "over".into() }
    }

    #[test]
    fn an_incident_is_taken_on_given_back_and_ended_and_then_nothing_follows() {
        let stored = BTreeMap::from([(1, Course { rev: 3, ..Course::default() }), (2, Course { rev: 1, ..Course::default() })]);
        let writes = [note(1), acknowledge(1, true), acknowledge(1, false), acknowledge(1, true), resolve(1), note(1), resolve(1), note(9)];
        let (entries, changed) = follow(&writes.iter().collect::<Vec<_>>(), stored);
        let seen: Vec<_> = entries.iter().map(|entry| (entry.nth, entry.kind)).collect();
        assert_eq!(seen, [(3, "reminded"), (4, "acknowledged"), (5, "unacknowledged"), (6, "acknowledged"), (7, "resolved")]);
        assert_eq!(changed.len(), 1, "what nothing happened to is not written");
        let course = &changed[0].1;
        assert_eq!((course.status(), course.rev), ("resolved", 8));
        assert_eq!(course.acknowledged, Some(("ann".to_owned(), 6)), "who had it stays known");
    }

    #[test]
    fn entries_get_the_places_that_were_drawn_for_them() {
        let entry = |incident, text| EntryOut::new(incident, Micros(1), "told", Cow::Borrowed(text));
        let placed = place(vec![entry(1, "a"), entry(2, "b"), entry(1, "c"), entry(3, "d")], BTreeMap::from([(1, 7), (2, 2)]));
        let seen: Vec<_> = placed.iter().map(|entry| (entry.incident, entry.nth, &*entry.text)).collect();
        assert_eq!(seen, [(1, 5, "a"), (2, 1, "b"), (1, 6, "c")]);
    }
}
