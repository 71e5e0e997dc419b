//! What silences a notice at the moment: the mutes that are in force, and parents that are down.
//!
//! Only looked up here; what a mute means for a notice is decided by the plan.

use crate::channel::content::Content;
use crate::mutes::InForce;
use crate::store::{DueNotice, Mutes};
use smallvec::SmallVec;
use watchkeeper_core::Micros;
use watchkeeper_core::matcher::Subject;
use watchkeeper_core::plan::Mute;
use watchkeeper_core::quorum::Health;

/// The mutes of one tenant that hold now.
#[derive(Debug, Default)]
pub(super) struct Quiet(Vec<InForce>);

impl Quiet {
    /// Those of the tenant's mutes that hold now.
    pub(super) fn at(mutes: Mutes, now: Micros) -> Self {
        Self(InForce::of(mutes, now))
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
        let asked_for = self.0.iter().filter(|held| held.is_about(&subject)).map(asked_for);
        asked_for.chain(notice.parents.iter().filter_map(|(name, health)| parent(name, *health))).collect()
    }
}

/// As the plan knows it.
fn asked_for(held: &InForce) -> Mute {
    match held {
        InForce::Silence(silence) => Mute::Silence { id: silence.uid.clone(), until: silence.ends_at },
        InForce::Maintenance { name, until, .. } => Mute::Maintenance { name: name.clone(), until: *until },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_silences_only_when_it_is_known_to_fail() {
        let suspect = |health| parent("router", health).map(|mute| mute == Mute::Parent { name: "router".to_owned(), suspect: true });
        assert_eq!((suspect(Health::Down), suspect(Health::Pending)), (Some(false), Some(true)));
        assert_eq!((suspect(Health::Up), suspect(Health::Degraded), suspect(Health::Unknown)), (None, None, None));
    }
}
