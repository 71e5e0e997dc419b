//! Reports of a tenant: what each is called, when its periods end, who gets it.

use super::alert::channel_names;
use super::decode::{self, Fields, Key, Node, Pos, Problems};
use super::monitor;
use crate::report::Period;
use crate::schedule::Cron;
use watchkeeper_core::Dur;

/// Keys of one of `reports`.
pub const REPORT: &[Key] = &[
    Key { name: "name", form: "a name of 1 to 128 characters", default: "", doc: "What it is called; unique in the tenant." },
    Key {
        name: "every",
        form: "a duration from 1m to 31d",
        default: "6h",
        doc: "How long its periods are. They end at multiples of it in UTC: those of 6h at 0, 6, 12 and 18 o'clock.",
    },
    Key { name: "cron", form: "5 fields, or 6 with seconds first", default: "", doc: "When its periods end, instead of `every`." },
    Key { name: "zone", form: "an IANA time zone", default: "", doc: "In which zone `cron` is meant; UTC if not given." },
    Key { name: "notify", form: "a list of channels", default: "", doc: "Who gets it: every channel of the tenant if not given." },
];

/// More reports of one tenant are refused: each reads all of its monitors at every period's end.
pub(super) const REPORTS_MAX: usize = 20;

/// How long a period is when nobody says.
const USUAL: Dur = Dur::secs(6 * 3_600);

/// One report as configured.
#[derive(Clone, Debug)]
pub struct ReportConfig {
    /// Unique in the tenant.
    pub name: String,
    /// Where it begins in the file.
    pub at: Pos,
    /// When its periods end.
    pub period: Period,
    /// What `period` was made of: equal means unchanged.
    pub pace: String,
    /// Names of channels.
    pub notify: Vec<String>,
}

impl ReportConfig {
    /// Reads one report; without `notify` it goes to all of `channels`.
    pub(super) fn decode(node: &Node, channels: &[&str], problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, REPORT, problems)?;
        let name = fields.require("name", problems).and_then(|n| monitor::name(n, problems));
        let period = period(&fields, problems);
        let notify = match fields.get("notify") {
            Some(node) => channel_names(node, problems).map(|named| named.into_iter().map(|(name, _)| name).collect::<Vec<_>>()),
            None => Some(channels.iter().map(|name| (*name).to_owned()).collect()),
        };
        let (mut notify, (period, pace), name) = (notify?, period?, name?);
        if notify.is_empty() {
            let at = fields.get("notify").map_or(fields.at, |n| &n.at);
            problems.add(at, "a report that nobody gets", "at least one channel".to_owned());
            return None;
        }
        let mut seen = std::collections::HashSet::new();
        notify.retain(|name| seen.insert(name.clone()));
        Some(Self { name, at: node.at.clone(), period, pace, notify })
    }
}

fn period(fields: &Fields<'_>, problems: &mut Problems) -> Option<(Period, String)> {
    let zone = fields.get("zone").map_or(Some("UTC".to_owned()), |n| decode::text(n, problems));
    match (fields.get("every"), fields.get("cron")) {
        (Some(_), Some(_)) => {
            problems.add(fields.place("cron"), "both `every` and `cron`", "one of them".to_owned());
            None
        }
        (every, None) => {
            if let Some(zone) = fields.get("zone") {
                problems.add(&zone.at, "`zone` without `cron`", "`zone` beside `cron`; `every` counts in UTC".to_owned());
            }
            let range = Dur::secs(60)..=Dur::secs(31 * 86_400);
            let length = every.map_or(Some(USUAL), |n| decode::duration(n, range, problems))?;
            Some((Period::Every(length), format!("every {}", length.0)))
        }
        (None, Some(node)) => {
            let (text, zone) = (decode::text(node, problems)?, zone?);
            match Cron::parse(&text, &zone) {
                Ok(cron) => Some((Period::Cron(Box::new(cron)), format!("cron {text} in {zone}"))),
                Err(fault) => {
                    problems.add(&node.at, fault, None);
                    None
                }
            }
        }
    }
}
