//! What silences a notice at the moment: silences, maintenance windows that are open, parents that are down.
//!
//! Only looked up here; what a mute means for a notice is decided by the plan. A matcher or a window that cannot be read silences
//! nothing: telling fails open.

use crate::calendar::Window;
use crate::channel::content::Content;
use crate::store::{DueNotice, Mutes};
use smallvec::SmallVec;
use watchkeeper_core::Micros;
use watchkeeper_core::matcher::{Matcher, Subject};
use watchkeeper_core::plan::Mute;
use watchkeeper_core::quorum::Health;

/// The mutes of one tenant that hold now, each with what it is about.
#[derive(Debug, Default)]
pub(super) struct Quiet(Vec<(Matcher, Mute)>);

impl Quiet {
    /// Those of the tenant's mutes that hold now.
    pub(super) fn at(mutes: Mutes, now: Micros) -> Self {
        let mut quiet = Self::default();
        for silence in mutes.silences {
            if silence.starts_at <= now && now < silence.ends_at {
                quiet.0.push((silence.matcher, Mute::Silence { id: silence.uid, until: silence.ends_at }));
            }
        }
        for maintenance in mutes.maintenance {
            let (name, origin) = (maintenance.name, maintenance.origin);
            match (serde_json::from_str::<Matcher>(&maintenance.matcher), serde_json::from_str::<Window>(&maintenance.window)) {
                (Ok(matcher), Ok(window)) => {
                    if let Some(until) = window.open_until(now) {
                        quiet.0.push((matcher, Mute::Maintenance { name, until }));
                    }
                }
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(maintenance = %name, %error, "the maintenance window {name} ({origin}) cannot be read; it silences nothing");
                }
            }
        }
        quiet
    }

    /// What silences this notice.
    pub(super) fn of(&self, notice: &DueNotice) -> SmallVec<[Mute; 1]> {
        let (Some(_), Content::Incident(message)) = (notice.incident, &notice.content) else { return SmallVec::new() };
        let subject = Subject {
            monitor: &message.monitor,
            labels: &message.labels,
            kind: &message.kind,
            rule: Some(&message.rule),
            severity: Some(notice.severity),
        };
        let asked_for = self.0.iter().filter(|(matcher, _)| matcher.matches(&subject)).map(|(_, mute)| mute.clone());
        asked_for.chain(notice.parents.iter().filter_map(|(name, health)| parent(name, *health))).collect()
    }
}

/// A parent of which nothing is known silences nobody: then the child's word is all there is.
fn parent(name: &str, health: Health) -> Option<Mute> {
    let suspect = match health {
        Health::Down => false,
        Health::Pending => true,
        Health::Up | Health::Degraded | Health::Unknown => return None,
    };
    Some(Mute::Parent { name: name.to_owned(), suspect })
}
