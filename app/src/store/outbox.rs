//! What the end of a delivery writes on an incident's timeline; the same for both stores.

use super::Attempted;

/// An entry of a timeline.
pub(super) struct Entry {
    pub kind: &'static str,
    pub text: String,
}

/// The entry of one attempt. An attempt that will be repeated has none: a provider that is down for a day would fill the timeline;
/// its error stands on the notice.
pub(super) fn entry(attempted: &Attempted, channel: &str) -> Option<Entry> {
    match attempted {
        Attempted::Sent { .. } => Some(Entry { kind: "told", text: format!("told {channel}") }),
        Attempted::Dead { error } => Some(Entry { kind: "not_told", text: format!("gave up telling {channel}: {error}") }),
        Attempted::Again { .. } => None,
    }
}
