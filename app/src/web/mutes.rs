//! What keeps a monitor's incidents from being told now: silences that last and maintenance windows that are open.
//!
//! Only shown. Who is told is decided at delivery, by the same matchers and windows.

use super::types::{Mute, Time};
use crate::store::{MonitorView, Mutes};
use watchkeeper_core::Micros;
use watchkeeper_core::matcher::{Matcher, Subject};

/// The mutes of a tenant that are in force.
pub(super) struct Open(Vec<(Matcher, Mute)>);

impl Open {
    /// Those of the store that are in force. A window that this version cannot read mutes nothing here and is named in the log.
    pub(super) fn at(mutes: Mutes, now: Micros) -> Self {
        let Mutes { silences, maintenance: _ } = mutes;
        let silences = silences.into_iter().filter(|s| s.starts_at <= now && now < s.ends_at).map(|silence| {
            let mute = Mute {
                by: "silence".to_owned(),
                id: silence.uid,
                until: Time(silence.ends_at),
                author: Some(silence.author),
                comment: Some(silence.comment),
            };
            (silence.matcher, mute)
        });
        Self(silences.collect())
    }

    /// Those that mute the whole monitor; mutes of single rules are not among them.
    pub(super) fn of(&self, monitor: &MonitorView) -> Vec<Mute> {
        let subject = Subject { monitor: &monitor.name, labels: &monitor.labels, kind: &monitor.kind, rule: None, severity: None };
        self.0.iter().filter(|(matcher, _)| matcher.matches(&subject)).map(|(_, mute)| mute.clone()).collect()
    }
}
