//! What becomes of decisions that another node has overtaken while their node was cut off; the same for both stores.
//!
//! Nothing of them is decided any more: whoever holds the scope decides. But a person was told of them, and what happened did happen. So:
//!
//! - A beginning or an end that the other node saw too becomes an entry on the timeline of that node's incident.
//! - What began after the cut-off node had seen that incident end is another outage, even if the other node, which did not see the end, has
//!   let its incident go on.
//! - An outage that only the cut-off node has seen, between the last look of the one holder and the first of the next, is an incident of
//!   the past, with its words: those that were told, and those that are still to be told. It is never open: the holder says what is.
//! - An end that was told, of what is open for the holder, is passed on to the holder as an act. It ends the incident; if things are bad
//!   all the same, it opens another one, so that whoever was told "over" last hears of it.

use super::course::EntryOut;
use super::flat::{Flat, IncidentOut, stale};
use super::{Act, Batch, Decision, IncidentWrite, Late, LateEnd, NoticeWrite};
use crate::timeline::Form;
use std::collections::BTreeSet;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{ChannelId, Micros};

/// The kind of an entry about what a node has seen while it was cut off; its actor is the node.
pub(super) const CUT_OFF: &str = "cut_off";

/// What it says where others have found it too.
const FOUND_TOO: [Form; 3] = [Form::TooUntold, Form::TooToldOne, Form::TooTold];

/// A beginning or an end that a node decided while it was cut off, when another node decides by now.
pub(super) struct Overtaken<'a> {
    decision: &'a Decision,
    write: &'a IncidentWrite,
    pub monitor: i64,
    /// The incident of the cut-off node.
    pub incident: i64,
    /// An incident of this rule that lasted in some of the time from `from` to `until` is the same to a person.
    pub rule: &'a str,
    pub from: Micros,
    pub until: Micros,
    /// How what begins here ends.
    end: Option<&'a LateEnd>,
}

/// The incident in the store that is the same to a person.
pub(super) struct Found {
    pub id: i64,
    pub resolved: bool,
    /// Channels for which its end is in the outbox, told or not.
    pub ends: BTreeSet<ChannelId>,
}

/// What a node that was cut off did about an incident of another one.
pub(super) struct ActOut {
    pub incident: i64,
    pub act: Act,
    pub actor: String,
    pub at: i64,
}

/// What is written when everything else of the batch is.
#[derive(Default)]
pub(super) struct Afterwards<'a> {
    pub entries: Vec<EntryOut<'a>>,
    pub acts: Vec<ActOut>,
}

/// The beginnings and ends in what was dropped of a late batch, in their order.
pub(super) fn overtaken<'a>(batch: &'a Batch, late: &'a Late, flat: &Flat<'_>) -> Vec<Overtaken<'a>> {
    let mut all = Vec::new();
    for decision in batch.decisions.iter().filter(|decision| stale(decision, &flat.stale)) {
        for write in &decision.incidents {
            match write {
                IncidentWrite::Open { id, rule, at, .. } => {
                    let end = late.ends.iter().find(|end| end.incident() == *id);
                    let until = end.filter(|end| end.notices.is_none()).map_or(Micros(i64::MAX), LateEnd::at);
                    let (monitor, incident, rule) = (decision.monitor.0, id.0, rule.as_str());
                    all.push(Overtaken { decision, write, monitor, incident, rule, from: *at, until, end });
                }
                IncidentWrite::Resolve { id, at, .. } => {
                    let rule = decision.notices.iter().find(|word| word.incident == *id).map_or("", |word| word.rule.as_str());
                    let (monitor, incident) = (decision.monitor.0, id.0);
                    all.push(Overtaken { decision, write, monitor, incident, rule, from: *at, until: *at, end: None });
                }
                IncidentWrite::Acknowledge { .. } | IncidentWrite::Note { .. } => {}
            }
        }
    }
    all
}

impl<'a> Overtaken<'a> {
    /// Whether something begins here.
    pub const fn begins(&self) -> bool {
        matches!(self.write, IncidentWrite::Open { .. })
    }

    /// Incidents that are not the same as what begins here, because this batch says that the cut-off node knew them before. Of earlier
    /// batches the store knows it, from their entries.
    pub fn others(&self, after: &Afterwards<'_>) -> Vec<i64> {
        let before = |entry: &&EntryOut<'_>| self.begins() && entry.at < self.from.0;
        after.entries.iter().filter(before).map(|entry| entry.incident).collect()
    }

    /// Whether nobody can say yet what became of it: no end of it is known, and nobody else has it open.
    pub fn hangs(&self, late: &Late, found: Option<&Found>) -> bool {
        late.wait && found.is_none() && self.end.is_some_and(|end| end.notices.is_some())
    }

    /// Adds what is to be written of it to the rest of the batch, and to what comes after it.
    pub fn settle(&self, found: Option<&Found>, late: &'a Late, flat: &mut Flat<'a>, after: &mut Afterwards<'a>) {
        match self.write {
            IncidentWrite::Open { .. } => self.begun(found, late, flat, after),
            IncidentWrite::Resolve { at, .. } => self.ended(*at, found, late, flat, after),
            IncidentWrite::Acknowledge { .. } | IncidentWrite::Note { .. } => {}
        }
    }

    fn begun(&self, found: Option<&Found>, late: &'a Late, flat: &mut Flat<'a>, after: &mut Afterwards<'a>) {
        if let Some(found) = found {
            // A batch that is given back once more, by a later life, finds its own.
            if found.id != self.incident {
                after.entries.push(self.entry(found.id, late, FOUND_TOO));
            }
            return;
        }
        // Without an end it cannot be of the past.
        let Some((end, mut past)) = self.end.zip(IncidentOut::of(self.decision, self.write)) else { return };
        let tenant = self.decision.tenant;
        flat.entries.extend(past.course.follow(self.write));
        flat.entries.push(EntryOut {
            nth: past.course.rev,
            ..self.entry(self.incident, late, [Form::AloneUntold, Form::AloneToldOne, Form::AloneTold])
        });
        past.course.rev += 1;
        flat.entries.extend(past.course.follow(&end.write));
        flat.opened.push(past);
        flat.notices.extend(self.words(NoticeEvent::Opened).chain(end.notices.iter().flatten()).map(|word| (tenant, word)));
    }

    fn ended(&self, at: Micros, found: Option<&Found>, late: &'a Late, flat: &mut Flat<'a>, after: &mut Afterwards<'a>) {
        let tenant = self.decision.tenant;
        let told = |word: &NoticeWrite| late.told.iter().any(|told| told.is(word));
        if flat.opened.iter().any(|opened| opened.id == self.incident) {
            // Of the past, since a moment ago: its end is there, its words are not.
            flat.notices.extend(self.words(NoticeEvent::Resolved).map(|word| (tenant, word)));
            return;
        }
        let Some(found) = found else { return };
        let own = found.id == self.incident;
        if own {
            let known = |word: &NoticeWrite| !found.resolved || found.ends.contains(&word.channel);
            flat.notices.extend(self.words(NoticeEvent::Resolved).filter(|word| told(word) || !known(word)).map(|word| (tenant, word)));
        }
        if found.resolved && own && found.ends.is_empty() {
            return;
        }
        after.entries.push(self.entry(found.id, late, FOUND_TOO));
        if !found.resolved && self.words(NoticeEvent::Resolved).any(told) {
            after.acts.push(ActOut { incident: found.id, act: Act::SeenOver, actor: late.node.clone(), at: at.0 });
        }
    }

    fn words(&self, event: NoticeEvent) -> impl Iterator<Item = &'a NoticeWrite> + use<'a> {
        let incident = self.incident;
        self.decision.notices.iter().filter(move |word| word.incident.0 == incident && word.event == event)
    }

    /// That the node that was cut off has seen it, and how many it told: nobody, one, or some.
    fn entry(&self, incident: i64, late: &'a Late, forms: [Form; 3]) -> EntryOut<'a> {
        let (at, summary, event) = match self.write {
            IncidentWrite::Open { at, summary, .. } => (*at, summary, NoticeEvent::Opened),
            IncidentWrite::Resolve { at, summary, .. }
            | IncidentWrite::Acknowledge { at, summary, .. }
            | IncidentWrite::Note { at, summary, .. } => (*at, summary, NoticeEvent::Resolved),
        };
        let told = late.told.iter().filter(|told| self.words(event).any(|word| told.is(word)));
        let [nobody, one, some] = forms;
        let text = match told.count() {
            0 => nobody.say(&[summary]),
            1 => one.say(&[summary]),
            told => some.say(&[&told.to_string(), summary]),
        };
        EntryOut { actor: Some(&late.node), ..EntryOut::new(incident, at, CUT_OFF, text.into()) }
    }
}
