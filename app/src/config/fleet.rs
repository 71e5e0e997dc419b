//! What belongs to tenants: channels, defaults, monitors, routes, maintenance, status pages; and the checks across them.
//!
//! Everything at the top of a file belongs to the tenant `default`; `tenants:` adds more. A tenant may be spread over
//! files. No name reaches across tenants.

use super::alert::AlertConfig;
use super::decode::{self, Fields, Key, Node, Pos, Problems, Value};
use super::limits::Limits;
use super::maintenance::{self, MaintenanceConfig};
use super::monitor::{self, MonitorConfig, Shared};
use super::reports::{REPORTS_MAX, ReportConfig};
use super::routes::{self, Chosen, Route, Usual};
use super::status_pages::{self, StatusPageConfig};
use super::{canonical, named, parents, tagged};
use crate::channel::{self, ChannelKind};
use std::collections::{BTreeMap, HashMap};
use watchkeeper_core::Severity;
use watchkeeper_core::matcher::Subject;

/// Keys of one of `tenants`.
pub const TENANT: &[Key] = &[
    Key { name: "name", form: "1 to 63 letters, digits, dots, dashes and underscores", default: "", doc: "The tenant's short name." },
    Key { name: "channels", form: "a list of channels", default: "", doc: "As at the top of the file." },
    Key { name: "defaults", form: "a mapping", default: "", doc: "As at the top of the file." },
    Key { name: "monitors", form: "a list of monitors", default: "", doc: "As at the top of the file." },
    Key { name: "routes", form: "a list of routes", default: "", doc: "As at the top of the file." },
    Key { name: "maintenance", form: "a list of maintenance windows", default: "", doc: "As at the top of the file." },
    Key { name: "reports", form: "a list of reports", default: "", doc: "As at the top of the file." },
    Key { name: "status_pages", form: "a list of status pages", default: "", doc: "As at the top of the file." },
    Key { name: "limits", form: "a mapping", default: "", doc: "As at the top of the file." },
];

const TENANT_LATER: &[&str] = &["discover"];

/// The tenant of everything that stands under no other.
pub const DEFAULT_TENANT: &str = "default";

/// One tenant's objects.
#[derive(Clone, Debug)]
pub struct TenantConfig {
    /// Its short name.
    pub slug: String,
    /// Where messages go.
    pub channels: Vec<ChannelConfig>,
    /// What is watched.
    pub monitors: Vec<MonitorConfig>,
    /// Whom rules tell that do not say it.
    pub(super) routes: Vec<Route>,
    /// Whom those tell that no route is about.
    pub(super) usual: Usual,
    /// When words are held because work was announced.
    pub maintenance: Vec<MaintenanceConfig>,
    /// Reports that are made of it.
    pub reports: Vec<ReportConfig>,
    /// What strangers may see of it.
    pub status_pages: Vec<StatusPageConfig>,
    /// Names of the channels that are told of the node itself; those of the tenant `default` alone.
    pub announce: Vec<String>,
    /// What there may be of it at most.
    pub limits: Limits,
}

/// One channel.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// Unique in the tenant.
    pub name: String,
    /// Where it begins in the file.
    pub at: Pos,
    /// Where to, and with which credentials.
    pub kind: ChannelKind,
    /// Its words, its caps, whether it is the last resort.
    pub common: channel::Common,
}

/// The nodes of one tenant, from all files.
struct Parts<'a> {
    slug: String,
    sections: Vec<Fields<'a>>,
}

/// Reads all tenants; `default` is always there and first.
pub(super) fn decode(tops: &[Fields<'_>], problems: &mut Problems) -> Vec<TenantConfig> {
    let mut parts = vec![Parts { slug: DEFAULT_TENANT.to_owned(), sections: tops.to_vec() }];
    for node in tops.iter().filter_map(|top| top.get("tenants")) {
        let Value::Seq(tenants) = &node.value else {
            decode::wrong(node, "a list of tenants", problems);
            continue;
        };
        for tenant in tenants {
            let Some(fields) = Fields::open_beside(tenant, TENANT, TENANT_LATER, problems) else { continue };
            tagged::refuse_later(tenant, TENANT_LATER, problems);
            // A tenant without a usable name is read on under its place, for the problems within it.
            let slug = fields.require("name", problems).and_then(|n| super::sections::code(n, problems));
            let slug = slug.unwrap_or_else(|| tenant.at.to_string());
            match parts.iter_mut().find(|p| p.slug == slug) {
                Some(known) => known.sections.push(fields),
                None => parts.push(Parts { slug, sections: vec![fields] }),
            }
        }
    }
    let tenants: Vec<TenantConfig> = parts.into_iter().map(|part| tenant(part, problems)).collect();
    unique_ids(&tenants, problems);
    let pages = tenants.iter().flat_map(|tenant| tenant.status_pages.iter().map(|page| (page, tenant.monitors.as_slice())));
    status_pages::check(pages, problems);
    tenants
}

fn tenant(part: Parts<'_>, problems: &mut Problems) -> TenantConfig {
    let limits = Limits::decode(super::merged(&part.sections, "limits", problems).as_ref(), problems);
    let (channels, names) = channels(&part, &limits, problems);
    let defaults_node = super::merged(&part.sections, "defaults", problems);
    let defaults = defaults_node.as_ref().and_then(|node| {
        tagged::refuse_later(node, monitor::LATER, problems);
        Fields::open_beside(node, monitor::DEFAULTS, monitor::LATER, problems).map(|fields| Shared::decode(&fields, problems))
    });
    let defaults = defaults.unwrap_or_default();
    let mut monitors = Vec::new();
    let mut monitor_names = Names::default();
    let heirs = items(&part.sections, "monitors", problems);
    Limits::count(&part.slug, &heirs, "monitors", (limits.monitors, "limits.monitors"), problems);
    for node in &heirs {
        monitor_names.add("monitor", name_of(node), node, problems);
        if let Some(mut monitor) = MonitorConfig::decode(node, &defaults, defaults_node.as_ref(), problems) {
            limits.pace(&mut monitor.cadence, node, problems);
            monitors.push(monitor);
        }
    }
    former_names(&monitors, &monitor_names, problems);
    parents::check(&heirs, &monitor_names.sorted(), problems);
    let routes_nodes = items(&part.sections, "routes", problems);
    at_most(&routes_nodes, "routes", routes::ROUTES_MAX, problems);
    let routes: Vec<Route> = routes_nodes.iter().filter_map(|node| Route::decode(node, problems)).collect();
    let maintenance = maintenance(&part.sections, problems);
    let named: Vec<&Node> = defaults_node.iter().chain(heirs.iter().copied()).collect();
    known_matches(&part.sections, &monitor_names, &named, problems);
    known_channels(&names, named.into_iter().chain(routes_nodes), problems);
    let usual = match defaults.notify {
        Some(notify) => Usual { notify, chosen: Chosen::Defaults },
        None => Usual { notify: channels.iter().map(|c| (c.name.clone(), c.at.clone())).collect(), chosen: Chosen::All },
    };
    for monitor in &mut monitors {
        route(monitor, &routes, &usual);
    }
    let reports = reports(&part.sections, &names, &channels, problems);
    let status_pages = status_pages(&part, &limits, &monitor_names, problems);
    status_pages::check_channels(&status_pages, &channels, &names.sorted(), problems);
    let announce = if part.slug == DEFAULT_TENANT { announced(&part.sections, &names, problems) } else { Vec::new() };
    TenantConfig { slug: part.slug, channels, monitors, routes, usual, maintenance, reports, status_pages, announce, limits }
}

fn channels(part: &Parts<'_>, limits: &Limits, problems: &mut Problems) -> (Vec<ChannelConfig>, Names) {
    let mut names = Names::default();
    let mut channels = Vec::new();
    let nodes = items(&part.sections, "channels", problems);
    Limits::count(&part.slug, &nodes, "channels", (limits.channels, "limits.channels"), problems);
    for node in nodes {
        let Some(tagged) = channel::FAMILY.open(node, problems) else {
            // Its name still counts as known: else every `notify` that names it would be a second problem.
            names.remember(node);
            continue;
        };
        let name = tagged.common.require("name", problems).and_then(|n| monitor::name(n, problems));
        names.add("channel", name.as_deref(), node, problems);
        let common = channel::Common::decode(&tagged.common, problems);
        if let (Some(name), Some(kind)) = (name, tagged.kind) {
            channels.push(ChannelConfig { name, at: node.at.clone(), kind, common });
        }
    }
    (channels, names)
}

fn maintenance(sections: &[Fields<'_>], problems: &mut Problems) -> Vec<MaintenanceConfig> {
    let nodes = items(sections, "maintenance", problems);
    at_most(&nodes, "maintenance windows", maintenance::WINDOWS_MAX, problems);
    let mut names = Names::default();
    let mut windows = Vec::new();
    for node in nodes {
        names.add("maintenance window", name_of(node), node, problems);
        windows.extend(MaintenanceConfig::decode(node, problems));
    }
    windows
}

/// Notes the first item beyond a limit.
fn at_most(nodes: &[&Node], what: &str, most: usize, problems: &mut Problems) {
    if let Some(first) = nodes.get(most) {
        problems.add(&first.at, format!("{} {what}", nodes.len()), format!("at most {most}"));
    }
}

fn reports(sections: &[Fields<'_>], names: &Names, channels: &[ChannelConfig], problems: &mut Problems) -> Vec<ReportConfig> {
    let nodes = items(sections, "reports", problems);
    at_most(&nodes, "reports", REPORTS_MAX, problems);
    let all: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
    let (mut known, mut reports) = (Names::default(), Vec::new());
    for node in &nodes {
        known.add("report", name_of(node), node, problems);
        reports.extend(ReportConfig::decode(node, &all, problems));
    }
    known_channels(names, nodes.into_iter(), problems);
    reports
}

fn status_pages(part: &Parts<'_>, limits: &Limits, monitors: &Names, problems: &mut Problems) -> Vec<StatusPageConfig> {
    let nodes = items(&part.sections, "status_pages", problems);
    Limits::count(&part.slug, &nodes, "status pages", (limits.status_pages, "limits.status_pages"), problems);
    status_pages::known_monitors(&nodes, &monitors.sorted(), problems);
    nodes.into_iter().filter_map(|node| StatusPageConfig::decode(node, problems)).collect()
}

/// The channels of `announce`, which stands at the top of a file only: the node belongs to no other tenant.
fn announced(sections: &[Fields<'_>], names: &Names, problems: &mut Problems) -> Vec<String> {
    let known = names.sorted();
    let mut all = Vec::new();
    for node in sections.iter().filter_map(|section| section.get("announce")) {
        for channel in named::listed(node) {
            named::known(channel, "channel", &known, |_| false, problems);
        }
        all.extend(super::alert::channel_names(node, problems).unwrap_or_default().into_iter().map(|(name, _)| name));
    }
    all
}

/// The items of a list that several files may each hold a part of.
fn items<'a>(sections: &[Fields<'a>], key: &'static str, problems: &mut Problems) -> Vec<&'a Node> {
    let mut all = Vec::new();
    for node in sections.iter().filter_map(|s| s.get(key)) {
        match &node.value {
            Value::Seq(items) => all.extend(items),
            Value::Null | Value::Broken | Value::Scalar { .. } | Value::Map(_) => {
                decode::wrong(node, &format!("a list of {key}"), problems);
            }
        }
    }
    all
}

/// The `name` of an item as it is written.
pub(super) fn name_of(node: &Node) -> Option<&str> {
    match &named::child(node, "name")?.value {
        Value::Scalar { text, .. } => Some(text.as_str()),
        Value::Null | Value::Broken | Value::Seq(_) | Value::Map(_) => None,
    }
}

/// Names of one kind of object in one tenant, with their places.
#[derive(Default)]
struct Names(HashMap<String, Pos>);

impl Names {
    fn add(&mut self, what: &str, name: Option<&str>, node: &Node, problems: &mut Problems) {
        let Some(name) = name else { return };
        if let Some(first) = self.0.get(name) {
            problems.add(
                &node.at,
                format!("a second {what} named `{}`; the first is at {first}", decode::shown(name)),
                format!("every {what} a name of its own"),
            );
        } else {
            self.0.insert(name.to_owned(), node.at.clone());
        }
    }

    fn sorted(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn remember(&mut self, node: &Node) {
        if let Some(name) = name_of(node) {
            self.0.entry(name.to_owned()).or_insert_with(|| node.at.clone());
        }
    }
}

/// An id is public and so unique over all tenants.
fn unique_ids(tenants: &[TenantConfig], problems: &mut Problems) {
    let mut ids: HashMap<&str, &Pos> = HashMap::new();
    for monitor in tenants.iter().flat_map(|t| &t.monitors) {
        if let Some(uid) = &monitor.uid
            && let Some(first) = ids.insert(uid, &monitor.at)
        {
            problems.add(
                &monitor.at,
                format!("the id `{uid}` again; it is already at {first}"),
                "every monitor an id of its own".to_owned(),
            );
        }
    }
}

/// A former name is nobody's present one, nor claimed twice.
fn former_names(monitors: &[MonitorConfig], names: &Names, problems: &mut Problems) {
    let mut former: HashMap<&str, &Pos> = HashMap::new();
    for monitor in monitors {
        let Some(was) = &monitor.was else { continue };
        let shown = decode::shown(was);
        if let Some(present) = names.0.get(was) {
            problems.add(
                &monitor.at,
                format!("`was: {shown}`, but a monitor of that name is at {present}"),
                "a name that is no longer used".to_owned(),
            );
        }
        if let Some(first) = former.insert(was, &monitor.at) {
            problems.add(&monitor.at, format!("`was: {shown}` again; it is already at {first}"), "every former name once".to_owned());
        }
    }
}

/// Every channel that is named exists in the tenant. It looks at the tree, so that a monitor with other problems is told of these too.
fn known_channels<'n>(names: &Names, nodes: impl Iterator<Item = &'n Node>, problems: &mut Problems) {
    let known = names.sorted();
    let under = |node: &'n Node, key: &str| named::child(node, key).map(named::listed).unwrap_or_default();
    for node in nodes {
        for place in std::iter::once(node).chain(under(node, "alerts")) {
            for told in std::iter::once(place).chain(under(place, "escalate")) {
                for named in under(told, "notify") {
                    named::known(named, "channel", &known, |_| false, problems);
                }
            }
        }
    }
}

/// What `match` may name: the tenant's monitors, and their rules.
fn known_matches(sections: &[Fields<'_>], monitors: &Names, heirs: &[&Node], problems: &mut Problems) {
    let mut rules = routes::usual_rules();
    for rule in heirs.iter().filter_map(|node| named::child(node, "alerts")).flat_map(named::listed) {
        rules.extend(name_of(rule).map(str::to_owned));
    }
    let silent = &mut Problems::default();
    let matches: Vec<&Node> = ["routes", "maintenance"].into_iter().flat_map(|key| items(sections, key, silent)).collect();
    let monitors = monitors.0.keys().map(String::as_str).collect();
    routes::known_names(matches.into_iter().filter_map(|node| named::child(node, "match")), &monitors, &rules, problems);
}

/// Gives every rule its channels: its own, else the monitor's, else those of the routes, else those of `defaults`, else all.
fn route(monitor: &mut MonitorConfig, routes: &[Route], usual: &Usual) {
    for rule in &mut monitor.alerts {
        if rule.notify.is_some() {
            rule.chosen = Chosen::Rule;
        } else if monitor.notify.is_some() {
            rule.notify.clone_from(&monitor.notify);
            rule.chosen = Chosen::Monitor;
        } else {
            by_routes(&monitor.name, &monitor.labels, monitor.probe.kind(), routes, usual, rule);
        }
        each_once(rule);
    }
    monitor.hash = canonical::with_routes(monitor.hash, &monitor.alerts);
}

fn by_routes(name: &str, labels: &BTreeMap<String, String>, kind: &str, routes: &[Route], usual: &Usual, rule: &mut AlertConfig) {
    let key = rule.key();
    let subject = Subject { monitor: name, labels, kind, rule: Some(&key), severity: Some(rule.severity) };
    routes::resolve(routes, usual, &subject, rule);
}

impl TenantConfig {
    /// A rule of one of its monitors as it would be told if it were of that severity.
    pub fn told_at(&self, monitor: &MonitorConfig, rule: &AlertConfig, severity: Severity) -> AlertConfig {
        let mut rule = AlertConfig { severity, ..rule.clone() };
        match rule.chosen {
            Chosen::Rule | Chosen::Monitor => {}
            Chosen::Routes(_) | Chosen::Defaults | Chosen::All => {
                by_routes(&monitor.name, &monitor.labels, monitor.probe.kind(), &self.routes, &self.usual, &mut rule);
                each_once(&mut rule);
            }
        }
        rule
    }
}

/// Several routes may name one channel.
fn each_once(rule: &mut AlertConfig) {
    let mut seen = std::collections::HashSet::new();
    rule.notify.get_or_insert_default().retain(|(name, _)| seen.insert(name.clone()));
}
