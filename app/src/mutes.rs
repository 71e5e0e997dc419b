//! Which silences and maintenance windows are in force, and what each of them is about: read here, and nowhere else.
//!
//! Deliveries ask for one word, the API for a monitor as a whole. What a mute means for a notice is decided by the plan. A matcher or
//! a window that cannot be read silences nothing, and the log names it: telling fails open.

use crate::calendar::Window;
use crate::store::{MaintenanceObject, Mutes, Silence};
use watchkeeper_core::matcher::{Matcher, Subject};
use watchkeeper_core::{Dur, Micros};

/// One that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InForce {
    /// Somebody asked for quiet.
    Silence(Silence),
    /// Work was announced.
    Maintenance {
        /// The window's name.
        name: String,
        /// About what.
        matcher: Matcher,
        /// Until when it is open.
        until: Micros,
    },
}

impl InForce {
    /// Those of a tenant's mutes that hold now.
    pub fn of(mutes: Mutes, now: Micros) -> Vec<Self> {
        let Mutes { silences, maintenance } = mutes;
        let lasts = |silence: &Silence| silence.starts_at <= now && now < silence.ends_at;
        let mut held: Vec<Self> = silences.into_iter().filter(lasts).map(Self::Silence).collect();
        for object in maintenance {
            if let Some((matcher, window)) = read(&object) {
                held.extend(window.open_until(now).map(|until| Self::Maintenance { name: object.name, matcher, until }));
            }
        }
        held
    }

    /// Whether it is about this.
    pub fn is_about(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Silence(silence) => silence.matcher.matches(subject),
            Self::Maintenance { matcher, .. } => matcher.matches(subject),
        }
    }
}

/// What a maintenance window is about, and when it is.
fn read(object: &MaintenanceObject) -> Option<(Matcher, Window)> {
    match (serde_json::from_str(&object.matcher), serde_json::from_str(&object.window)) {
        (Ok(matcher), Ok(window)) => Some((matcher, window)),
        (Err(error), _) | (_, Err(error)) => {
            let (name, origin) = (&object.name, &object.origin);
            tracing::warn!(maintenance = %name, %error, "the maintenance window {name} ({origin}) cannot be read; it silences nothing");
            None
        }
    }
}

/// Work that was announced and has not begun.
#[derive(Clone, Debug, PartialEq)]
pub struct Announced {
    /// About what.
    pub matcher: Matcher,
    /// From when.
    pub from: Micros,
    /// Until when.
    pub until: Micros,
}

impl Announced {
    /// The next of each window that begins within so long, soonest first.
    pub fn of(windows: &[MaintenanceObject], now: Micros, within: Dur) -> Vec<Self> {
        let next = |object: &MaintenanceObject| {
            let (matcher, window) = read(object)?;
            let (from, until) = window.next(now)?;
            (from <= now + within).then_some(Self { matcher, from, until })
        };
        let mut found: Vec<Self> = windows.iter().filter_map(next).collect();
        found.sort_by_key(|announced| announced.from);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MaintenanceObject;
    use std::collections::BTreeMap;

    const NOW: Micros = Micros(1_795_317_127_000_000);

    fn silence(uid: &str, from: i64, to: i64) -> Silence {
        Silence {
            uid: uid.to_owned(),
            matcher: Matcher { rules: vec!["down".to_owned()], ..Matcher::default() },
            starts_at: NOW + Dur::secs(from),
            ends_at: NOW + Dur::secs(to),
            author: "ann".to_owned(),
            comment: String::new(),
        }
    }

    fn maintenance(name: &str, window: &str) -> MaintenanceObject {
        MaintenanceObject { name: name.to_owned(), matcher: "{}".to_owned(), window: window.to_owned(), origin: "wk.yaml:1".to_owned() }
    }

    fn found() -> Vec<InForce> {
        let once = |from, to| serde_json::to_string(&Window::Once { from: NOW + Dur::secs(from), to: NOW + Dur::secs(to) }).unwrap();
        let mutes = Mutes {
            silences: vec![silence("past", -9, 0), silence("now", 0, 9), silence("later", 1, 9)],
            maintenance: vec![
                maintenance("past", &once(-9, 0)),
                maintenance("now", &once(0, 9)),
                maintenance("later", &once(1, 9)),
                maintenance("of a newer version", "{\"lunar\":{}}"),
                MaintenanceObject { matcher: "{\"planets\":[]}".to_owned(), ..maintenance("about nothing known", &once(0, 9)) },
            ],
        };
        InForce::of(mutes, NOW)
    }

    #[test]
    fn only_what_holds_now_silences_and_what_cannot_be_read_does_not() {
        let window = InForce::Maintenance { name: "now".to_owned(), matcher: Matcher::default(), until: NOW + Dur::secs(9) };
        assert_eq!(found(), [InForce::Silence(silence("now", 0, 9)), window]);
    }

    #[test]
    fn work_is_announced_soonest_first_and_not_too_early() {
        let once = |from, to| serde_json::to_string(&Window::Once { from: NOW + Dur::secs(from), to: NOW + Dur::secs(to) }).unwrap();
        let weekly = serde_json::to_string(&Window::every("0 3 * * SUN", "UTC", Dur::secs(60)).unwrap()).unwrap();
        let windows = [("far", once(101, 109)), ("soon", once(60, 70)), ("now", once(0, 9)), ("weekly", weekly), ("first", once(50, 99))];
        let windows = windows.map(|(name, window)| maintenance(name, &window));
        let found = Announced::of(&windows, NOW, Dur::secs(100));
        let times: Vec<(i64, i64)> = found.iter().map(|one| ((one.from - NOW).0 / 1_000_000, (one.until - NOW).0 / 1_000_000)).collect();
        assert_eq!(times, [(50, 99), (60, 70)]);
        let week = Announced::of(&windows, NOW, Dur::secs(7 * 86_400));
        assert_eq!(week.len(), 4);
        assert_eq!(week[3].until - week[3].from, Dur::secs(60));
    }

    #[test]
    fn a_mute_of_one_rule_is_not_about_the_monitor_as_a_whole() {
        let whole = Subject { monitor: "shop", labels: &BTreeMap::new(), kind: "http", rule: None, severity: None };
        let about = |subject: Subject<'_>| found().iter().map(|held| held.is_about(&subject)).collect::<Vec<_>>();
        assert_eq!(about(whole), [false, true]);
        assert_eq!(about(Subject { rule: Some("down"), ..whole }), [true, true]);
    }
}
