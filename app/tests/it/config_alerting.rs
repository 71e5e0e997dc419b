//! What the configuration of alerting means: whom a rule tells, when, and how it goes on; what a change of it keeps.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use watchkeeper::calendar::Window;
use watchkeeper::config::{self, Config};
use watchkeeper::spec::{self, Fleet, MonitorSpec};
use watchkeeper::store::{Applied, AppliedMonitor, AppliedTenant};
use watchkeeper_core::matcher::{Matcher, Subject};
use watchkeeper_core::rule::{Rule, Step};
use watchkeeper_core::{ChannelId, Dur, Micros, MonitorId, RuleKey, TenantId};

fn load(text: &str) -> Result<Config, String> {
    config::load_texts(&[("f.yaml".to_owned(), text.as_bytes().to_vec())], &|_| None).map_err(|bad| bad.to_string())
}

/// What a store would answer: ids in order of the file, channels from 1.
fn applied(config: &Config) -> Applied {
    let tenants = config.tenants.iter().zip(1..).map(|(tenant, id)| AppliedTenant {
        tenant: TenantId(id),
        channels: (1..=tenant.channels.len() as i64).map(ChannelId).collect(),
        monitors: (1..=tenant.monitors.len() as i64)
            .map(|n| AppliedMonitor { id: MonitorId(id * 100_000 + n), uid: format!("{id}-{n}"), created_at: Micros(0), push_token: None })
            .collect(),
    });
    Applied { tenants: tenants.collect(), ..Applied::default() }
}

fn build(text: &str, previous: &Fleet) -> Fleet {
    let config = load(text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    spec::build(&config, &applied(&config), previous, 16, Micros(0))
}

fn monitor(text: &str, name: &str) -> Arc<MonitorSpec> {
    build(text, &Fleet::default()).0.values().find(|spec| spec.name == name).unwrap().clone()
}

fn rule<'s>(spec: &'s MonitorSpec, key: &str) -> &'s Rule {
    spec.policy.rules.iter().find(|rule| rule.key.as_str() == key).unwrap_or_else(|| panic!("no rule {key} on {}", spec.name))
}

fn at(text: &str) -> Micros {
    Micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

const CHANNELS: &str = "channels: [ { name: a, webhook: { url: 'http://127.0.0.1:1/' } }, { name: b, webhook: { url: 'http://127.0.0.1:2/' } }, { name: c, webhook: { url: 'http://127.0.0.1:3/' } } ]\n";
const A: ChannelId = ChannelId(1);
const B: ChannelId = ChannelId(2);
const C: ChannelId = ChannelId(3);
const HTTP: &str = "probe: { http: { url: 'http://127.0.0.1:1/' } }";
const TWO_RULES: &str = "alerts: [ { down: {} }, { slow_response: { above: 1s } } ]";

#[test]
fn how_a_rule_goes_on_comes_from_the_nearest_place_that_says_it() {
    let says = |rule: &Rule| (rule.cooldown, rule.remind, rule.escalate.len(), rule.flap_window);
    let plain = monitor(&format!("{CHANNELS}monitors: [ {{ name: m, {HTTP} }} ]"), "m");
    assert_eq!(says(rule(&plain, "down")), (Dur::ZERO, None, 0, Dur::secs(600)));
    let spec = monitor(include_str!("config/good/alerting.yaml"), "db");
    assert_eq!(says(rule(&spec, "down")), (Dur::secs(300), Some(Dur::secs(3_600)), 2, Dur::secs(1_200)));
    let (ops, pager) = (ChannelId(1), ChannelId(2));
    let steps = [
        Step { after: Dur::secs(900), channels: [pager].into_iter().collect() },
        Step { after: Dur::secs(3_600), channels: [pager, ops].into_iter().collect() },
    ];
    assert_eq!(rule(&spec, "down").escalate, steps);
    let spec = monitor(include_str!("config/good/alerting.yaml"), "router");
    assert_eq!(says(rule(&spec, "down")), (Dur::secs(300), Some(Dur::secs(3_600)), 0, Dur::secs(1_200)), "an empty list is said too");
    let spec = monitor(include_str!("config/good/alerting.yaml"), "shop-eu");
    assert_eq!(says(rule(&spec, "down")), (Dur::ZERO, Some(Dur::secs(1_800)), 1, Dur::ZERO));
    assert_eq!(says(rule(&spec, "slowness")), (Dur::secs(300), None, 2, Dur::ZERO));
}

#[test]
fn the_first_route_that_matches_decides_unless_it_says_continue() {
    let rules = format!(", {TWO_RULES}");
    // What the file says above the monitor, what the monitor says, whom `down` tells, and whom `slow_response`.
    let cases: [(&str, &str, &str, &str); 17] = [
        ("", &rules, "abc", "abc"),
        ("defaults: { notify: c }", &rules, "c", "c"),
        ("routes: [ { notify: a }, { notify: b } ]\ndefaults: { notify: c }", &rules, "a", "a"),
        ("routes: [ { notify: a, continue: true }, { notify: [b, a] }, { notify: c } ]", &rules, "ab", "ab"),
        ("routes: [ { notify: a, continue: true } ]\ndefaults: { notify: c }", &rules, "a", "a"),
        ("routes: [ { notify: [] } ]\ndefaults: { notify: c }", &rules, "", ""),
        ("routes: [ { severity: critical, notify: a }, { notify: b } ]", &rules, "a", "b"),
        ("routes: [ { severity: [info], notify: a } ]\ndefaults: { notify: c }", &rules, "c", "c"),
        ("routes: [ { match: { monitors: [shop-*] }, notify: a } ]", &rules, "a", "a"),
        ("routes: [ { match: { monitors: [db-*, shop] }, notify: a }, { match: { monitors: shop-eu }, notify: b } ]", ", was: x", "b", ""),
        ("routes: [ { match: { labels: { team: web } }, notify: a } ]", &rules, "a", "a"),
        ("routes: [ { match: { labels: { team: 'd*' } }, notify: a } ]\ndefaults: { notify: c }", &rules, "c", "c"),
        ("routes: [ { match: { kinds: [tcp] }, notify: a }, { match: { kinds: [tcp, http] }, notify: b } ]", &rules, "b", "b"),
        ("routes: [ { match: { rules: slow_response/* }, notify: a } ]\ndefaults: { notify: c }", &rules, "c", "a"),
        ("routes: [ { notify: a } ]", ", notify: [b, b]", "b", ""),
        ("routes: [ { notify: a } ]", ", notify: []", "", ""),
        ("routes: [ { notify: a } ]", ", alerts: [ { down: {}, notify: c }, { slow_response: { above: 1s } } ]", "c", "a"),
    ];
    for (above, says, down, slow) in cases {
        let shop = format!("{{ name: shop, {HTTP} }}");
        let text = format!("{CHANNELS}{above}\nmonitors: [ {{ name: shop-eu, labels: {{ team: web }}, {HTTP}{says} }}, {shop} ]");
        let spec = monitor(&text, "shop-eu");
        for (key, want) in [("down", down), ("slow_response/total", slow)] {
            let found = spec.policy.rules.iter().find(|rule| rule.key.as_str() == key);
            let channels = found.map_or(&[][..], |rule| rule.channels.as_slice());
            let names: String = channels.iter().map(|id| ["a", "b", "c"][id.0 as usize - 1]).collect();
            assert_eq!(names, want, "{key} with {text}");
        }
    }
}

#[test]
fn what_comes_outside_the_hours_of_a_route_waits_for_them() {
    let down = RuleKey::new("down");
    let hours = "hours: { days: mon-fri, from: '09:00', to: '18:00', zone: Europe/Berlin }";
    let text = |routes: &str| format!("{CHANNELS}routes: [ {routes} ]\nmonitors: [ {{ name: m, {HTTP} }} ]");
    let (friday, saturday) = (at("2026-11-20T12:00:00Z"), at("2026-11-21T12:00:00Z"));
    let spec = monitor(&text(&format!("{{ {hours}, notify: [a, b], continue: true }}, {{ notify: c }}")), "m");
    assert_eq!(spec.not_before(&down, A, friday), None);
    let (until, why) = spec.not_before(&down, A, saturday).unwrap();
    assert_eq!(until, at("2026-11-23T08:00:00Z"));
    assert_eq!(why, "outside the hours of its route");
    assert_eq!(spec.not_before(&down, C, saturday), None, "its route has no hours");
    assert_eq!(spec.not_before(&RuleKey::new("blind"), A, saturday), None);
    // Two routes with hours: whichever begin first. One of two without: at any time.
    let weekend = "hours: { days: sun, from: '10:00', to: '11:00' }";
    let spec = monitor(&text(&format!("{{ {hours}, notify: [a], continue: true }}, {{ {weekend}, notify: a }}")), "m");
    assert_eq!(spec.not_before(&down, A, saturday).unwrap().0, at("2026-11-22T10:00:00Z"));
    assert_eq!(spec.not_before(&down, A, at("2026-11-22T10:30:00Z")), None);
    assert_eq!(rule(&spec, "down").channels.as_slice(), [A], "told once");
    let spec = monitor(&text(&format!("{{ {hours}, notify: [a], continue: true }}, {{ notify: [a, b] }}")), "m");
    assert_eq!((spec.not_before(&down, A, saturday), spec.not_before(&down, B, saturday)), (None, None));
}

#[test]
fn a_change_of_alerting_is_a_change_of_the_monitors_it_concerns() {
    let monitors =
        format!("monitors: [ {{ name: m, {HTTP}, every: 30s }}, {{ name: own, {HTTP}, notify: b, escalate: [], remind: none }} ]");
    let base = format!("{CHANNELS}{monitors}");
    let before = build(&base, &Fleet::default());
    let changed = |text: &str| {
        let after = build(text, &before);
        let mut names: Vec<String> =
            after.0.iter().filter(|(id, spec)| !Arc::ptr_eq(spec, &before.0[id])).map(|(_, spec)| spec.name.clone()).collect();
        names.sort_unstable();
        names.join(" ")
    };
    let night = "routes: [ { notify: [a, b, c], hours: { from: '22:00', to: '06:00' } } ]\n";
    let cases = [
        ("maintenance: [ { name: w, every: { cron: '0 3 * * SUN', for: 2h } } ]\n", ""),
        // The same channels; but what chose them is kept with an incident.
        ("routes: [ { notify: [a, b, c] } ]\n", "m"),
        ("routes: [ { match: { kinds: [tcp] }, notify: [a] } ]\n", ""),
        ("routes: [ { notify: [a] } ]\n", "m"),
        (night, "m"),
        ("defaults: { remind: 1h }\n", "m"),
        ("defaults: { escalate: [ { after: 1h, notify: c } ] }\n", "m"),
        ("defaults: { cooldown: 1m }\n", "m own"),
        ("defaults: { flap_window: 0s }\n", "m own"),
    ];
    for (more, want) in cases {
        assert_eq!(changed(&format!("{more}{base}")), want, "{more}");
        assert_ne!(load(&format!("{more}{base}")).unwrap().hash, load(&base).unwrap().hash, "a reload would not see {more}");
    }
    let parent = base.replace("every: 30s", "every: 30s, depends_on: own");
    assert_eq!(changed(&parent), "m");
    // Who a monitor is does not depend on whom it tells: its state is found again under the same id.
    assert_eq!(build(&parent, &before).0.keys().collect::<std::collections::BTreeSet<_>>(), before.0.keys().collect());
    let day = base.replace("channels:", "routes: [ { notify: [a, b, c], hours: { days: mon } } ]\nchannels:");
    let hours_only = build(&day.replace("mon ", "tue "), &build(&day, &Fleet::default()));
    assert!(hours_only.0.values().any(|s| s.not_before(&RuleKey::new("down"), A, at("2026-11-23T12:00:00Z")).is_some()), "other hours");
}

#[test]
fn parents_and_maintenance_go_to_the_store() {
    let config = load(include_str!("config/good/alerting.yaml")).unwrap();
    let objects = spec::objects(&config).unwrap();
    let parents: Vec<(&str, String)> = objects[0].monitors.iter().map(|m| (m.name.as_str(), m.depends_on.join(" "))).collect();
    assert_eq!(parents, [("router", String::new()), ("shop-eu", "db router".to_owned()), ("db", "router".to_owned())]);
    let [moved, weekly] = objects[0].maintenance.as_slice() else { panic!("{:?}", objects[0].maintenance) };
    assert_eq!((moved.name.as_str(), moved.origin.as_str()), ("move", "f.yaml:44"));
    let window: Window = serde_json::from_str(&moved.window).unwrap();
    assert_eq!(window.open_until(at("2026-12-01T01:30:00Z")), Some(at("2026-12-01T03:00:00Z")));
    let labels = BTreeMap::new();
    let about = |matcher: &str, monitor: &str| {
        let matcher: Matcher = serde_json::from_str(matcher).unwrap();
        matcher.matches(&Subject { monitor, labels: &labels, kind: "tcp", rule: Some("down"), severity: None })
    };
    assert!(about(&moved.matcher, "db") && !about(&moved.matcher, "router") && about(&weekly.matcher, "router"));
    let window: Window = serde_json::from_str(&weekly.window).unwrap();
    assert_eq!(window.open_until(at("2026-11-22T02:00:00Z")), Some(at("2026-11-22T04:00:00Z")));
    assert_eq!(objects[1].maintenance.len(), 1, "of the other tenant");
    assert_eq!(objects[1].maintenance[0].name, "weekly", "a name of its own in each tenant");
}

#[test]
fn dependencies_may_be_as_deep_as_the_fleet_but_not_circular() {
    let chain = |first: &str| {
        let mut text = String::from("monitors:\n");
        for n in 0..5_000 {
            let parent = if n == 0 { first.to_owned() } else { format!("m{}", n - 1) };
            let _ = writeln!(text, "  - {{ name: m{n}, depends_on: [{parent}], {HTTP} }}");
        }
        text
    };
    assert_eq!(load(&chain("")).unwrap().tenants[0].monitors.len(), 5_000);
    let problems = load(&chain("m4999")).unwrap_err();
    assert_eq!(problems.lines().count(), 1, "{problems}");
    assert!(problems.starts_with("f.yaml:"), "{problems}");
    assert!(problems.contains("a monitor that depends on itself: `m0` → `m4999` → ") && problems.contains(" → `m1` → `m0`"), "{problems}");
}
