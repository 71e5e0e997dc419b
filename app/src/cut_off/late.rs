//! What is said beside a batch that is given back: what was told of it, and how what began in it ended.
//!
//! The true end of an incident may stand in a later batch, so the whole journal is looked through before the first one is given back. Where
//! it has none, because the store came back first or the process died, an end is made up for the case that another node has overtaken this
//! one and finds nothing wrong: whoever was told of the beginning must hear that it is over.

use crate::channel::content::Content;
use crate::engine::words;
use crate::journal::Meanwhile;
use crate::store::{Batch, Decision, IncidentWrite, Late, LateEnd, NoticeWrite};
use watchkeeper_core::verdict::{NoticeEvent, ResolvedWhy};
use watchkeeper_core::{IncidentId, Micros};

/// All of it. `now` is when an incident ends of which nobody knows better.
pub(super) fn late(node: &str, batch: &Batch, meanwhile: &Meanwhile, now: Micros, wait: bool) -> Late {
    let words = || batch.decisions.iter().flat_map(|decision| &decision.notices);
    let told = if words().next().is_none() {
        Vec::new()
    } else {
        meanwhile.told.iter().filter(|told| words().any(|word| told.is(word))).cloned().collect()
    };
    let mut ends = Vec::new();
    for decision in &batch.decisions {
        for write in &decision.incidents {
            match write {
                IncidentWrite::Open { id, at, .. } => {
                    let known = meanwhile.ends.get(id).map(|write| LateEnd { write: write.clone(), notices: None });
                    ends.push(known.unwrap_or_else(|| made_up(decision, *id, *at, now)));
                }
                IncidentWrite::Resolve { .. } | IncidentWrite::Acknowledge { .. } | IncidentWrite::Note { .. } => {}
            }
        }
    }
    Late { node: node.to_owned(), told, ends, wait }
}

fn made_up(decision: &Decision, id: IncidentId, began: Micros, now: Micros) -> LateEnd {
    let (at, why) = (now.max(began), ResolvedWhy::Recovered);
    let summary = words::resolved(why, at - began, None);
    let end = |word: &NoticeWrite| {
        let Content::Incident(message) = &word.content else { return None };
        let mut message = message.clone();
        let was = std::mem::replace(&mut message.summary, summary.clone());
        (message.event, message.detail) = (NoticeEvent::Resolved, Some(was));
        (message.resolved_at, message.resolved_why) = (Some(at), Some(why.as_str().to_owned()));
        let nth = word.nth + 1;
        let cause = NoticeWrite::cause_of(&message.incident, message.event, nth);
        Some(NoticeWrite { cause, event: message.event, nth, content: Content::Incident(message), at, not_before: None, ..word.clone() })
    };
    let opened = decision.notices.iter().filter(|word| word.incident == id && word.event == NoticeEvent::Opened);
    let notices = opened.filter_map(end).collect();
    LateEnd { write: IncidentWrite::Resolve { id, at, why: why.as_str(), actor: None, summary: summary.clone() }, notices: Some(notices) }
}
