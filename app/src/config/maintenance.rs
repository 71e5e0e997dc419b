//! Maintenance: work that was announced. What it is about goes on being checked; words about it are held until it is over.

use super::decode::{self, Fields, Key, Node, Pos, Problems};
use super::{monitor, routes};
use crate::calendar::{self, Window};
use watchkeeper_core::Dur;
use watchkeeper_core::matcher::Matcher;

/// Keys of a maintenance window.
pub(super) const MAINTENANCE: &[Key] = &[
    Key { name: "name", form: "a name", default: "", doc: "What it is called in messages; unique in the tenant." },
    Key { name: "match", form: "a mapping", default: "", doc: "What it is about, as for routes; everything of the tenant if not given." },
    Key { name: "once", form: "a mapping", default: "", doc: "From one time to another." },
    Key { name: "every", form: "a mapping", default: "", doc: "Again and again, in place of `once`." },
];

/// Keys of `once`.
pub(super) const ONCE: &[Key] = &[
    Key { name: "from", form: "a date and time such as 2026-12-01 02:00", default: "", doc: "When it begins." },
    Key { name: "to", form: "a date and time such as 2026-12-01 04:00", default: "", doc: "When it is over." },
    Key { name: "zone", form: "an IANA time zone", default: "UTC", doc: "In which zone both are meant." },
];

/// Keys of `every`.
pub(super) const EVERY: &[Key] = &[
    Key { name: "cron", form: "5 fields, or 6 with seconds first", default: "", doc: "When it begins." },
    Key { name: "for", form: "a duration from 1m to 30d", default: "", doc: "How long it lasts." },
    Key { name: "zone", form: "an IANA time zone", default: "UTC", doc: "In which zone `cron` is meant." },
];

/// More windows in a tenant are refused: every notice is held against every window.
pub(super) const WINDOWS_MAX: usize = 1_000;

/// One maintenance window.
#[derive(Clone, Debug)]
pub struct MaintenanceConfig {
    /// Unique in the tenant.
    pub name: String,
    /// Where it begins in the file.
    pub at: Pos,
    /// What it is about.
    pub matcher: Matcher,
    /// When it is.
    pub window: Window,
}

impl MaintenanceConfig {
    /// What it is about and when it is, as JSON.
    pub fn stored(&self) -> (String, String) {
        const WHY: &str = "matchers and windows have only text keys, so they are JSON";
        (serde_json::to_string(&self.matcher).expect(WHY), serde_json::to_string(&self.window).expect(WHY))
    }

    pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, MAINTENANCE, problems)?;
        let name = fields.require("name", problems).and_then(|n| monitor::name(n, problems));
        let matcher = fields.get("match").map_or(Some(Matcher::default()), |n| routes::matcher(n, problems));
        let window = match (fields.get("once"), fields.get("every")) {
            (Some(_), Some(_)) => {
                problems.add(fields.place("every"), "both `once` and `every`", "one of them".to_owned());
                None
            }
            (Some(node), None) => once(node, problems),
            (None, Some(node)) => every(node, problems),
            (None, None) => {
                problems.add(fields.at, "neither `once` nor `every`", "one of them".to_owned());
                None
            }
        };
        Some(Self { name: name?, at: node.at.clone(), matcher: matcher?, window: window? })
    }
}

fn once(node: &Node, problems: &mut Problems) -> Option<Window> {
    let fields = Fields::open(node, ONCE, problems)?;
    let mut time = |key| {
        let form = "a date and time such as 2026-12-01 02:00";
        fields.require(key, problems).and_then(|n| decode::parsed(n, form, problems, calendar::civil))
    };
    let (from, to) = (time("from"), time("to"));
    let zone = routes::zone(&fields, problems);
    let window = Window::once(from?, to?, &zone?);
    if window.is_none() {
        problems.add(fields.place("to"), "a window without a length", "a time after `from`, in that zone".to_owned());
    }
    window
}

fn every(node: &Node, problems: &mut Problems) -> Option<Window> {
    let fields = Fields::open(node, EVERY, problems)?;
    let cron = fields.require("cron", problems).and_then(|n| decode::text(n, problems).map(|text| (text, &n.at)));
    let lasts = fields.require("for", problems).and_then(|n| decode::duration(n, Dur::secs(60)..=Dur::secs(30 * 86_400), problems));
    let zone = routes::zone(&fields, problems);
    let (cron, at) = cron?;
    // A pattern is judged even beside other problems; any length will do for that.
    let found = Window::every(&cron, zone.as_ref().and_then(|z| z.iana_name()).unwrap_or("UTC"), lasts.unwrap_or(Dur::secs(60)));
    match found {
        Ok(window) => lasts.and(zone).map(|_| window),
        Err(fault) => {
            problems.add(at, fault, None);
            None
        }
    }
}
