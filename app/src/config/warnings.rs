//! What is allowed in a configuration, and probably not meant: it loads, and says so.
//!
//! Nothing here changes what a configuration means. What can only be a mistake is a problem and refused where it is read; here is
//! what a person would want to be asked about.

use super::Config;
use super::decode::{Pos, nearest};
use super::fleet::TenantConfig;
use crate::calendar::Window;
use std::fmt;
use watchkeeper_core::Micros;
use watchkeeper_core::matcher::{Matcher, glob};

/// One of them, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub at: Pos,
    /// What, in one sentence.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}

/// Everything that is worth asking about, in the order of the files.
pub fn warnings(config: &Config, now: Micros) -> Vec<Warning> {
    let mut found: Vec<Warning> = config.empty.iter().map(|at| warning(at, "the file is empty")).collect();
    let nothing = config.tenants.iter().all(|tenant| tenant.monitors.is_empty());
    found.extend(config.first.iter().filter(|_| nothing).map(|at| warning(at, "there is no monitor: nothing is watched")));
    for tenant in &config.tenants {
        unreached_routes(tenant, &mut found);
        unknown_labels(tenant, &mut found);
        past_windows(tenant, now, &mut found);
        empty_pages(tenant, &mut found);
        told_to_nobody(tenant, &mut found);
    }
    found
}

fn warning(at: &Pos, text: impl Into<String>) -> Warning {
    Warning { at: at.clone(), text: text.into() }
}

/// Routes behind one that takes everything.
fn unreached_routes(tenant: &TenantConfig, found: &mut Vec<Warning>) {
    let Some(place) = tenant.routes.iter().position(|route| route.matcher == Matcher::default() && !route.goes_on) else { return };
    let first = &tenant.routes[place].at;
    found.extend(tenant.routes[place + 1..].iter().map(|route| {
        warning(
            &route.at,
            format!("this route is never reached: the one at {first} takes everything; say `continue: true` there, or put it last"),
        )
    }));
}

/// What a `match` asks for and no monitor has.
fn unknown_labels(tenant: &TenantConfig, found: &mut Vec<Warning>) {
    let routes = tenant.routes.iter().map(|route| (&route.at, &route.matcher));
    for (at, matcher) in routes.chain(tenant.maintenance.iter().map(|window| (&window.at, &window.matcher))) {
        for (name, pattern) in &matcher.labels {
            let values = || tenant.monitors.iter().filter_map(|monitor| monitor.labels.get(name)).map(String::as_str);
            if values().any(|value| glob(pattern, value)) {
                continue;
            }
            let near = nearest(pattern, values()).map(|value| format!("; did you mean {name}={value}?")).unwrap_or_default();
            found.push(warning(at, format!("no monitor has the label {name}={pattern}{near}")));
        }
    }
}

/// Announced work that is over.
fn past_windows(tenant: &TenantConfig, now: Micros, found: &mut Vec<Warning>) {
    for announced in &tenant.maintenance {
        let over = match &announced.window {
            Window::Once { to, .. } => *to <= now,
            Window::Every(_) => false,
        };
        if over {
            found.push(warning(&announced.at, format!("the maintenance window {} is over and has no effect any more", announced.name)));
        }
    }
}

/// Groups of a status page that nothing belongs to.
fn empty_pages(tenant: &TenantConfig, found: &mut Vec<Warning>) {
    for page in &tenant.status_pages {
        let members = |group: &super::PageGroup| group.members(&tenant.monitors, |m| (&*m.name, &m.labels)).len();
        if page.groups.iter().all(|group| members(group) == 0) {
            found.push(warning(&page.at, format!("the status page {} shows no monitor", page.slug)));
            continue;
        }
        for group in page.groups.iter().filter(|group| members(group) == 0) {
            let name = group.name.as_deref().unwrap_or("without a name");
            found.push(warning(&page.at, format!("the group {name} of the status page {} has no monitor", page.slug)));
        }
    }
}

/// Monitors of which no rule tells anybody.
fn told_to_nobody(tenant: &TenantConfig, found: &mut Vec<Warning>) {
    if let (true, Some(first)) = (tenant.channels.is_empty(), tenant.monitors.first()) {
        found.push(warning(&first.at, format!("there is no channel: nobody is told of anything of the tenant {}", tenant.slug)));
        return;
    }
    for monitor in &tenant.monitors {
        let silent = |rule: &super::AlertConfig| rule.notify.as_ref().is_none_or(Vec::is_empty) && rule.telling.escalate().is_empty();
        if !monitor.alerts.iter().all(silent) {
            continue;
        }
        let why = match monitor.alerts.first() {
            None => "it has no rules".to_owned(),
            Some(rule) => format!("{} names no channel", rule.chosen.with_places()),
        };
        found.push(warning(&monitor.at, format!("nobody is told of the monitor {}: {why}", monitor.name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_texts;

    const HTTP: &str = "probe: { http: { url: \"https://shop.example.org/\" } }";

    fn of(yaml: &str) -> Vec<String> {
        let texts = [("wk.yaml".to_owned(), yaml.as_bytes().to_vec())];
        let config = load_texts(&texts, &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
        // 2026-11-22.
        warnings(&config, Micros(1_795_317_600_000_000)).iter().map(Warning::to_string).collect()
    }

    fn with(more: &str) -> Vec<String> {
        let channels = "channels: [ { name: ops, webhook: { url: \"http://127.0.0.1:1/\" } } ]";
        of(&format!("{channels}\nmonitors: [ {{ name: shop, labels: {{ team: web }}, {HTTP} }} ]\n{more}"))
    }

    #[test]
    fn what_is_meant_as_it_stands_is_not_asked_about() {
        assert_eq!(with(""), [""; 0]);
        let good = "routes:\n  - { match: { labels: { team: w* } }, notify: [ops] }\n  - { notify: [ops], continue: true }\n  - { notify: [] }\n\
                    maintenance:\n  - { name: later, once: { from: \"2026-12-01 02:00\", to: \"2026-12-01 04:00\" } }\n";
        assert_eq!(with(good), [""; 0]);
    }

    #[test]
    fn a_route_behind_one_that_takes_everything_is_never_reached() {
        let routes = "routes:\n  - { notify: [ops] }\n  - { match: { kinds: [http] }, notify: [] }\n";
        let text =
            "wk.yaml:5:5: this route is never reached: the one at wk.yaml:4:5 takes everything; say `continue: true` there, or put it last";
        assert_eq!(with(routes), [text]);
    }

    #[test]
    fn a_label_that_nothing_has_is_named_with_the_one_that_was_meant() {
        let both = "routes: [ { match: { labels: { team: wbe } }, notify: [ops] } ]\n\
                    maintenance: [ { name: w, match: { labels: { room: b2 } }, every: { cron: \"0 3 * * SUN\", for: 2h } } ]\n";
        let want =
            ["wk.yaml:3:11: no monitor has the label team=wbe; did you mean team=web?", "wk.yaml:4:16: no monitor has the label room=b2"];
        assert_eq!(with(both), want);
    }

    #[test]
    fn work_that_is_over_has_no_effect() {
        let past = "maintenance: [ { name: move, once: { from: \"2026-01-01 02:00\", to: \"2026-01-01 04:00\" } } ]\n";
        assert_eq!(with(past), ["wk.yaml:3:16: the maintenance window move is over and has no effect any more"]);
    }

    #[test]
    fn a_status_page_that_shows_nothing_is_named() {
        let pages = "status_pages:\n  - { name: a, groups: [ { labels: { team: w* } }, { name: Old, labels: { team: gone } } ] }\n  - { name: b }\n";
        let want = ["wk.yaml:4:5: the group Old of the status page a has no monitor", "wk.yaml:5:5: the status page b shows no monitor"];
        assert_eq!(with(pages), want);
    }

    #[test]
    fn a_monitor_of_which_nobody_hears_is_named_with_what_decided_that() {
        assert_eq!(
            with("defaults: { notify: [] }\n"),
            ["wk.yaml:2:13: nobody is told of the monitor shop: `notify` of `defaults` names no channel"]
        );
        let route = "routes: [ { match: { kinds: [http] }, notify: [] } ]\n";
        let want = "wk.yaml:2:13: nobody is told of the monitor shop: the route at wk.yaml:3:11 about kind http names no channel";
        assert_eq!(with(route), [want]);
        assert_eq!(with("defaults: { notify: [], escalate: [ { after: 1h, notify: ops } ] }\n"), [""; 0], "somebody hears of it later");
        let want = "wk.yaml:1:13: there is no channel: nobody is told of anything of the tenant default";
        assert_eq!(of(&format!("monitors: [ {{ name: shop, {HTTP} }} ]\n")), [want]);
    }

    #[test]
    fn a_configuration_that_watches_nothing_says_so() {
        assert_eq!(of("# nothing\n"), ["wk.yaml: the file is empty"]);
        let nothing = ["wk.yaml: there is no monitor: nothing is watched"];
        assert_eq!(of("agent: { datacenter: here }\n"), nothing);
        assert_eq!(of("monitors: []\ntenants: [ { name: acme } ]\n"), nothing);
        let elsewhere = format!("tenants: [ {{ name: acme, monitors: [ {{ name: shop, {HTTP} }} ] }} ]\n");
        assert!(!of(&elsewhere).iter().any(|text| text.contains("nothing is watched")), "one tenant's is enough");
    }
}
