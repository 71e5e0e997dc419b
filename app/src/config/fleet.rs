//! What belongs to tenants: channels, defaults, monitors; and the checks across them.
//!
//! Everything at the top of a file belongs to the tenant `default`; `tenants:` adds more. A tenant may be spread over
//! files. No name reaches across tenants.

use super::decode::{self, Fields, Key, Node, Pos, Problem, Problems, Value, nearest};
use super::monitor::{self, MonitorConfig, Shared};
use super::{canonical, tagged};
use crate::channel::{self, ChannelKind};
use std::collections::HashMap;

/// Keys of one of `tenants`.
pub const TENANT: &[Key] = &[
    Key { name: "name", form: "1 to 63 letters, digits, dots, dashes and underscores", default: "", doc: "The tenant's short name." },
    Key { name: "channels", form: "a list of channels", default: "", doc: "As at the top of the file." },
    Key { name: "defaults", form: "a mapping", default: "", doc: "As at the top of the file." },
    Key { name: "monitors", form: "a list of monitors", default: "", doc: "As at the top of the file." },
];

const TENANT_LATER: &[&str] = &["discover", "quotas"];

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
    tenants
}

fn tenant(part: Parts<'_>, problems: &mut Problems) -> TenantConfig {
    let mut names = Names::default();
    let mut channels = Vec::new();
    for node in items(&part.sections, "channels", problems) {
        let Some(tagged) = channel::FAMILY.open(node, problems) else {
            // Its name still counts as known: else every `notify` that names it would be a second problem.
            names.remember(node);
            continue;
        };
        let name = tagged.common.require("name", problems).and_then(|n| monitor::name(n, problems));
        names.add("channel", name.as_deref(), node, problems);
        if let (Some(name), Some(kind)) = (name, tagged.kind) {
            channels.push(ChannelConfig { name, at: node.at.clone(), kind });
        }
    }
    let defaults_node = super::merged(&part.sections, "defaults", problems);
    let defaults = defaults_node.as_ref().and_then(|node| {
        tagged::refuse_later(node, monitor::LATER, problems);
        Fields::open_beside(node, monitor::DEFAULTS, monitor::LATER, problems).map(|fields| Shared::decode(&fields, problems))
    });
    let defaults = defaults.unwrap_or_default();
    let mut monitors = Vec::new();
    let mut monitor_names = Names::default();
    for node in items(&part.sections, "monitors", problems) {
        let name = name_of(node);
        monitor_names.add("monitor", name, node, problems);
        monitors.extend(MonitorConfig::decode(node, &defaults, defaults_node.as_ref(), problems));
    }
    former_names(&monitors, &monitor_names, problems);
    let heirs = items(&part.sections, "monitors", &mut Problems::default());
    known_channels(&names, defaults_node.iter().chain(heirs), problems);
    for monitor in &mut monitors {
        route(monitor, &channels);
    }
    TenantConfig { slug: part.slug, channels, monitors }
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
fn name_of(node: &Node) -> Option<&str> {
    match &child(node, "name")?.value {
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
    let mut known: Vec<&str> = names.0.keys().map(String::as_str).collect();
    known.sort_unstable();
    let accepted = if known.is_empty() { "channels of this tenant; it has none".to_owned() } else { known.join(", ") };
    for node in nodes {
        let rules = child(node, "alerts").map(listed).unwrap_or_default();
        for notify in std::iter::once(node).chain(rules).filter_map(|n| child(n, "notify")).flat_map(listed) {
            let Value::Scalar { text, .. } = &notify.value else { continue };
            if !names.0.contains_key(text) {
                problems.0.push(Problem {
                    at: notify.at.clone(),
                    found: format!("unknown channel {}", decode::describe(notify)),
                    accepted: Some(accepted.clone()),
                    nearest: nearest(text, known.iter().copied()),
                });
            }
        }
    }
}

/// The value of a key, if the node is a mapping that has it.
fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(name, _, _)| name == key).map(|(_, _, value)| value)
}

/// A list's items; anything else stands for a list of one.
fn listed(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::Seq(items) => items.iter().collect(),
        Value::Null | Value::Broken | Value::Scalar { .. } | Value::Map(_) => vec![node],
    }
}

/// Gives every rule its channels: its own, else the monitor's, else all of the tenant.
fn route(monitor: &mut MonitorConfig, channels: &[ChannelConfig]) {
    let usual: Vec<(String, Pos)> =
        monitor.notify.clone().unwrap_or_else(|| channels.iter().map(|c| (c.name.clone(), monitor.at.clone())).collect());
    let mut routes = Vec::new();
    for rule in &mut monitor.alerts {
        let notify = rule.notify.get_or_insert_with(|| usual.clone());
        let mut seen = std::collections::HashSet::new();
        notify.retain(|(name, _)| seen.insert(name.clone()));
        routes.push(notify.iter().map(|(name, _)| name.clone()).collect());
    }
    monitor.hash = canonical::with_route(monitor.hash, &routes);
}
