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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MaintenanceObject, Silence};
    use watchkeeper_core::Dur;

    const NOW: Micros = Micros(1_795_317_127_000_000);

    fn silence(uid: &str, from: i64, to: i64) -> Silence {
        Silence {
            uid: uid.to_owned(),
            matcher: Matcher::default(),
            starts_at: NOW + Dur::secs(from),
            ends_at: NOW + Dur::secs(to),
            author: "ann".to_owned(),
            comment: String::new(),
        }
    }

    fn maintenance(name: &str, window: &str) -> MaintenanceObject {
        MaintenanceObject { name: name.to_owned(), matcher: "{}".to_owned(), window: window.to_owned(), origin: "wk.yaml:1".to_owned() }
    }

    #[test]
    fn only_what_holds_now_silences_and_what_cannot_be_read_does_not() {
        let once = |from, to| serde_json::to_string(&Window::Once { from: NOW + Dur::secs(from), to: NOW + Dur::secs(to) }).unwrap();
        let mutes = Mutes {
            silences: vec![silence("past", -9, 0), silence("now", 0, 9), silence("later", 1, 9)],
            maintenance: vec![
                maintenance("past", &once(-9, 0)),
                maintenance("now", &once(0, 9)),
                maintenance("later", &once(1, 9)),
                maintenance("of a newer version", "{\"lunar\":{}}"),
            ],
        };
        let quiet = Quiet::at(mutes, NOW);
        let until = NOW + Dur::secs(9);
        let found: Vec<Mute> = quiet.0.into_iter().map(|(_, mute)| mute).collect();
        assert_eq!(found, [Mute::Silence { id: "now".to_owned(), until }, Mute::Maintenance { name: "now".to_owned(), until }]);
    }

    #[test]
    fn a_parent_silences_only_when_it_is_known_to_fail() {
        let suspect = |health| parent("router", health).map(|mute| mute == Mute::Parent { name: "router".to_owned(), suspect: true });
        assert_eq!((suspect(Health::Down), suspect(Health::Pending)), (Some(false), Some(true)));
        assert_eq!((suspect(Health::Up), suspect(Health::Degraded), suspect(Health::Unknown)), (None, None, None));
    }
}
