//! What one tenant may have: so that none of several takes everything, by a slip or by a program that makes things.
//!
//! They hold for what files say and for what is made over the API alike: the operator's own files are where a wrong loop is cheapest to stop.
//! What goes beyond is refused and named; nothing that was there before is taken away by what is refused.

use super::decode::{self, Fields, Key, Node, Problems, show_duration};
use super::documents::DocumentKind;
use crate::schedule::{Cadence, Plan};
use crate::store::TOKENS_MAX;
use watchkeeper_core::{Dur, Micros};

/// Keys of `limits`.
pub const LIMITS: &[Key] = &[
    Key { name: "monitors", form: "a whole number from 1 to 1000000", default: "100000", doc: "Monitors, paused ones too." },
    Key { name: "channels", form: "a whole number from 1 to 1000000", default: "10000", doc: "Channels." },
    Key { name: "status_pages", form: "a whole number from 1 to 100", default: "100", doc: "Public status pages." },
    Key { name: "tokens", form: "a whole number from 1 to 1000", default: "1000", doc: "API tokens." },
    Key {
        name: "interval_min",
        form: "a duration from 1s to 1d",
        default: "1s",
        doc: "No monitor is looked at more often; `recheck` is lengthened to it.",
    },
];

/// Monitors of a tenant that says nothing. More than any fleet that was measured; a loop that makes them ends before the disk is full.
const MONITORS: i64 = 100_000;
/// Its channels. Each is a task of its own, on every node.
const CHANNELS: i64 = 10_000;
/// Its status pages: as many as there may be at all.
const STATUS_PAGES: i64 = super::status_pages::PAGES_MAX as i64;
/// The most that anybody may set for a list in a file.
const MOST: i64 = 1_000_000;

/// So many falls of a `cron` are looked at for the shortest pause between two. Fewer would miss one that is only within certain hours.
const FALLS: usize = 64;

/// What one tenant may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Monitors.
    pub monitors: i64,
    /// Channels.
    pub channels: i64,
    /// Status pages.
    pub status_pages: i64,
    /// API tokens.
    pub tokens: i64,
    /// The shortest pause between two attempts.
    pub interval_min: Dur,
}

impl Default for Limits {
    fn default() -> Self {
        Self { monitors: MONITORS, channels: CHANNELS, status_pages: STATUS_PAGES, tokens: TOKENS_MAX, interval_min: Dur::secs(1) }
    }
}

impl Limits {
    /// Reads them.
    pub(super) fn decode(node: Option<&Node>, problems: &mut Problems) -> Self {
        let usual = Self::default();
        let Some(fields) = node.and_then(|node| Fields::open(node, LIMITS, problems)) else { return usual };
        let mut number = |key, most: i64, default| fields.get(key).and_then(|n| decode::integer(n, 1..=most, problems)).unwrap_or(default);
        let (monitors, channels) = (number("monitors", MOST, usual.monitors), number("channels", MOST, usual.channels));
        let (status_pages, tokens) = (number("status_pages", STATUS_PAGES, usual.status_pages), number("tokens", TOKENS_MAX, usual.tokens));
        let range = Dur::secs(1)..=Dur::secs(86_400);
        let interval_min = fields.get("interval_min").and_then(|n| decode::duration(n, range, problems)).unwrap_or(usual.interval_min);
        Self { monitors, channels, status_pages, tokens, interval_min }
    }

    /// How many of a kind there may be, with the key that says so; `None` for what is not limited here.
    pub const fn of(&self, kind: DocumentKind) -> Option<(i64, &'static str)> {
        match kind {
            DocumentKind::Monitor => Some((self.monitors, "limits.monitors")),
            DocumentKind::Channel => Some((self.channels, "limits.channels")),
            DocumentKind::StatusPage => Some((self.status_pages, "limits.status_pages")),
            DocumentKind::Maintenance => None,
        }
    }

    /// Notes every item beyond a limit.
    pub(super) fn count(tenant: &str, nodes: &[&Node], what: &str, (most, key): (i64, &str), problems: &mut Problems) {
        for node in nodes.iter().skip(most as usize) {
            let found = format!("{} {what} of the tenant {}", nodes.len(), decode::shown(tenant));
            problems.add(&node.at, found, format!("at most {most}, as `{key}` says"));
        }
    }

    /// Notes a monitor that would be looked at too often.
    pub(super) fn pace(&self, cadence: &mut Cadence, monitor: &Node, problems: &mut Problems) {
        let shortest = shortest(&cadence.plan);
        if shortest < self.interval_min {
            let written = ["every", "cron"].iter().find_map(|key| super::named::child(monitor, key));
            let accepted = format!("at least {}, as `limits.interval_min` says", show_duration(self.interval_min));
            let found = format!("an attempt every {}", show_duration(shortest));
            problems.add(written.map_or(&monitor.at, |node| &node.at), found, accepted);
        }
        // It is what follows from `every`, unless it was written: then it was meant for the usual limit.
        cadence.recheck = cadence.recheck.max(self.interval_min);
    }
}

/// The shortest pause that a plan makes.
fn shortest(plan: &Plan) -> Dur {
    match plan {
        Plan::Every(every) => [every.up, every.degraded, every.down, every.unknown].into_iter().flatten().fold(every.default, Dur::min),
        Plan::Cron(cron) => {
            let falls = std::iter::successors(cron.next(Micros(0)), |fall| cron.next(*fall)).take(FALLS).collect::<Vec<_>>();
            falls.windows(2).map(|two| two[1] - two[0]).min().unwrap_or(Dur(i64::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, load_texts};

    fn load(text: &str) -> Result<Config, String> {
        load_texts(&[("wk.yaml".to_owned(), text.as_bytes().to_vec())], &|_| None).map_err(|bad| bad.to_string())
    }

    const PUSH: &str = "probe: { push: { expect_every: 1h } }";

    #[test]
    fn what_goes_beyond_a_limit_is_named_with_the_limit_and_how_many_there_are() {
        let monitors = |n: usize| (0..n).map(|nth| format!("{{ name: m{nth}, {PUSH} }}")).collect::<Vec<_>>().join(", ");
        let of = |limit: &str, n| load(&format!("tenants: [ {{ name: acme, limits: {{ {limit} }}, monitors: [ {} ] }} ]\n", monitors(n)));
        assert!(of("monitors: 2", 2).is_ok());
        let said = of("monitors: 2", 3).unwrap_err();
        assert!(said.contains("3 monitors of the tenant acme; accepted: at most 2, as `limits.monitors` says"), "{said}");
        let own = load(&format!("limits: {{ monitors: 1 }}\nmonitors: [ {} ]\n", monitors(2))).unwrap_err();
        assert!(own.contains("2 monitors of the tenant default; accepted: at most 1"), "{own}");
        let hook = |name: &str| format!("{{ name: {name}, webhook: {{ url: 'http://127.0.0.1:9/' }} }}");
        let channels = load(&format!("limits: {{ channels: 1 }}\nchannels: [ {}, {} ]\n", hook("a"), hook("b"))).unwrap_err();
        assert!(channels.contains("2 channels of the tenant default; accepted: at most 1, as `limits.channels` says"), "{channels}");
        let pages = "limits: { status_pages: 1 }\nstatus_pages: [ { name: a, groups: [ { all: true } ] }, { name: b, groups: [ { all: true } ] } ]\n";
        let pages = load(pages).unwrap_err();
        assert!(pages.contains("2 status pages of the tenant default; accepted: at most 1, as `limits.status_pages` says"), "{pages}");
    }

    #[test]
    fn no_monitor_is_looked_at_more_often_than_its_tenant_may() {
        let of = |more: &str| {
            load(&format!("limits: {{ interval_min: 2m }}\nmonitors: [ {{ name: a, probe: {{ icmp: {{ host: h }} }}, {more} }} ]\n"))
        };
        for good in ["every: 2m", "every: 1h", "cron: '*/2 * * * *'", "cron: '0 3 * * *'"] {
            let config = of(good).unwrap_or_else(|said| panic!("{good}: {said}"));
            assert!(config.tenants[0].monitors[0].cadence.recheck >= watchkeeper_core::Dur::secs(120), "{good}");
        }
        for (bad, shortest) in [
            ("every: 1m", "1m"),
            ("every: { default: 1h, down: 30s }", "30s"),
            ("cron: '* * * * *'", "1m"),
            ("cron: '0,1 3 * * *'", "1m"),
            ("paused: true", "1m"),
        ] {
            let said = of(bad).unwrap_err();
            assert!(
                said.contains(&format!("an attempt every {shortest}; accepted: at least 2m, as `limits.interval_min` says")),
                "{bad}: {said}"
            );
        }
    }
}
