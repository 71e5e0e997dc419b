//! What keeps a monitor's incidents from being told now: silences that last and maintenance windows that are open.
//!
//! Only shown. Who is told is decided at delivery, by the same matchers and windows.

use super::types::{Mute, Time};
use crate::calendar::Window;
use crate::store::{MonitorView, Mutes};
use watchkeeper_core::Micros;
use watchkeeper_core::matcher::{Matcher, Subject};

/// The mutes of a tenant that are in force.
pub(super) struct Open(Vec<(Matcher, Mute)>);

impl Open {
    /// Those of the store that are in force. A window that this version cannot read mutes nothing here and is named in the log.
    pub(super) fn at(mutes: Mutes, now: Micros) -> Self {
        let Mutes { silences, maintenance } = mutes;
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
        let windows = maintenance.into_iter().filter_map(|window| {
            let read =
                serde_json::from_str::<Matcher>(&window.matcher).and_then(|m| Ok((m, serde_json::from_str::<Window>(&window.window)?)));
            let (matcher, when) = match read {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(%error, "the stored maintenance window {} cannot be read", window.name);
                    return None;
                }
            };
            let until = Time(when.open_until(now)?);
            Some((matcher, Mute { by: "maintenance".to_owned(), id: window.name, until, author: None, comment: None }))
        });
        Self(silences.chain(windows).collect())
    }

    /// Those that mute the whole monitor; mutes of single rules are not among them.
    pub(super) fn of(&self, monitor: &MonitorView) -> Vec<Mute> {
        let subject = Subject { monitor: &monitor.name, labels: &monitor.labels, kind: &monitor.kind, rule: None, severity: None };
        self.0.iter().filter(|(matcher, _)| matcher.matches(&subject)).map(|(_, mute)| mute.clone()).collect()
    }
}
