//! When attempts are due, as configured: `every` or `cron`, `recheck`, and the `timeout` that must fit between.

use super::decode::{self, Fields, Key, Node, Problems, Value};
use super::monitor::{Placed, Shared};
use super::tagged;
use crate::schedule::{Cadence, Cron, Every, Plan};
use watchkeeper_core::Dur;

/// Either way of saying when; the zone may come from elsewhere.
#[derive(Clone, Debug)]
pub(super) enum RawPlan {
    Every(Every),
    Cron(Placed<String>),
}

/// What a mapping says about when; both ways at once are a problem.
pub(super) fn plan(fields: &Fields<'_>, problems: &mut Problems) -> Option<RawPlan> {
    match (fields.get("every"), fields.get("cron")) {
        (Some(_), Some(_)) => {
            problems.add(fields.place("cron"), "both `every` and `cron`", "one of them".to_owned());
            None
        }
        (Some(node), None) => every(node, problems).map(RawPlan::Every),
        (None, Some(node)) => {
            let text = decode::text(node, problems)?;
            match Cron::parse(&text, "UTC") {
                Ok(_) => Some(RawPlan::Cron((text, node.at.clone()))),
                Err(fault) => {
                    problems.add(&node.at, fault, None);
                    None
                }
            }
        }
        (None, None) => None,
    }
}

/// The states that may have a pace of their own. While pending, `recheck` is the pace.
pub(super) const EVERY: &[Key] = &[
    Key { name: "default", form: "a duration from 1s to 7d", default: "60s", doc: "For every state without its own." },
    Key { name: "up", form: "a duration from 1s to 7d", default: "", doc: "While up." },
    Key { name: "degraded", form: "a duration from 1s to 7d", default: "", doc: "While degraded." },
    Key { name: "down", form: "a duration from 1s to 7d", default: "", doc: "While down." },
    Key { name: "unknown", form: "a duration from 1s to 7d", default: "", doc: "While we cannot look." },
];

/// Statuses of kinds that are of later work.
const EVERY_LATER: &[&str] =
    &["provisioning", "running", "stopping", "stopped", "starting", "restarting", "updating", "error", "crashed", "deleting"];

fn every(node: &Node, problems: &mut Problems) -> Option<Every> {
    let range = Dur::secs(1)..=Dur::secs(7 * 86_400);
    if !matches!(node.value, Value::Map(_)) {
        return decode::duration(node, range, problems).map(Every::fixed);
    }
    let fields = Fields::open_beside(node, EVERY, EVERY_LATER, problems)?;
    tagged::refuse_later(node, EVERY_LATER, problems);
    let before = problems.told();
    let mut own = |key| fields.get(key).and_then(|n| decode::duration(n, range.clone(), problems));
    let default = own("default").unwrap_or(EVERY_DEFAULT);
    let every = Every { default, up: own("up"), degraded: own("degraded"), down: own("down"), unknown: own("unknown") };
    (problems.told() == before).then_some(every)
}

/// `every` when nobody says anything, as the peers have it.
const EVERY_DEFAULT: Dur = Dur::secs(60);

/// The plan and the recheck pace. A `recheck` that the monitor itself writes must not exceed its `every`; an inherited one is shortened.
pub(super) fn cadence(own: &Shared, defaults: &Shared, problems: &mut Problems) -> Option<Cadence> {
    let zone = own.zone.as_ref().or(defaults.zone.as_ref()).map_or("UTC", String::as_str);
    let plan = match own.plan.as_ref().or(defaults.plan.as_ref()) {
        None => Plan::Every(Every::fixed(EVERY_DEFAULT)),
        Some(RawPlan::Every(every)) => Plan::Every(*every),
        Some(RawPlan::Cron((text, at))) => match Cron::parse(text, zone) {
            Ok(cron) => Plan::Cron(Box::new(cron)),
            Err(fault) => {
                problems.add(at, fault, None);
                return None;
            }
        },
    };
    let longest = match &plan {
        Plan::Every(every) => every.default,
        Plan::Cron(_) => Dur(i64::MAX),
    };
    let recheck = match (&own.recheck, &defaults.recheck) {
        (Some((recheck, at)), _) if *recheck > longest => {
            let accepted = format!("at most `every`, which is {}", decode::show_duration(longest));
            problems.add(at, format!("`recheck` of {}", decode::show_duration(*recheck)), accepted);
            return None;
        }
        (Some((recheck, _)), _) | (None, Some((recheck, _))) => (*recheck).min(longest),
        (None, None) => Dur::secs(5).min(longest),
    };
    Some(Cadence { plan, recheck })
}

/// A `timeout` that the monitor itself writes must not exceed its `every`; an inherited one is shortened.
pub(super) fn timeout(own: &Shared, defaults: &Shared, cadence: Option<&Cadence>, problems: &mut Problems) -> Dur {
    let shortest = match cadence.map(|c| &c.plan) {
        Some(Plan::Every(e)) => [e.up, e.degraded, e.down, e.unknown].into_iter().flatten().fold(e.default, Dur::min),
        Some(Plan::Cron(_)) | None => Dur(i64::MAX),
    };
    match (&own.timeout, &defaults.timeout) {
        (Some((timeout, at)), _) => {
            if *timeout > shortest {
                let accepted = format!("at most the shortest `every`, which is {}", decode::show_duration(shortest));
                problems.add(at, format!("`timeout` of {}", decode::show_duration(*timeout)), accepted);
            }
            *timeout
        }
        (None, inherited) => inherited.as_ref().map_or(Dur::secs(10), |(d, _)| *d).min(shortest),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_zones_need_no_files_of_the_system() {
        let bundled = jiff::tz::TimeZoneDatabase::bundled();
        for zone in ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"] {
            assert!(bundled.get(zone).is_ok(), "{zone}");
        }
    }
}
