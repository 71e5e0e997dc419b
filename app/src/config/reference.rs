//! What can be configured, written out of the very lists that the decoders check against: as a file that loads
//! (`config default`) and as a page (`docs/configuration.md`). Nothing is listed here a second time.

use super::decode::Key;
use super::tagged::{Family, Kind};
use super::{alert, datacenters, fleet, limits, maintenance, monitor, pace, reports, routes, sections, status_pages, telling};
use crate::{channel, probe};
use std::fmt::Write as _;

/// A section about the node or the fleet, with its nested sections.
struct Section {
    name: &'static str,
    keys: &'static [Key],
    /// The key that holds each, and its own keys. One with examples has keys that must be given: `config default` shows it behind `#`.
    nested: &'static [(&'static str, &'static [Key], Examples)],
}

/// What `config default` shows for keys without a default.
type Examples = &'static [(&'static str, &'static str)];

const SECTIONS: &[Section] = &[
    Section {
        name: "server",
        keys: sections::SERVER,
        nested: &[
            (
                "oidc",
                sections::OIDC,
                &[("issuer", "https://login.example.org/realms/main"), ("client_id", "watchkeeper"), ("url", "https://watch.example.org")],
            ),
            ("dead_man", sections::DEAD_MAN, &[("url", "https://example.org/ping/node-1")]),
        ],
    },
    Section { name: "store", keys: sections::STORE, nested: &[("retention", sections::RETENTION, &[])] },
    Section { name: "agent", keys: sections::AGENT, nested: &[("lease", sections::LEASE, &[])] },
    Section { name: "defaults", keys: monitor::DEFAULTS, nested: &[] },
    Section { name: "limits", keys: limits::LIMITS, nested: &[] },
];

/// A list of a tenant whose items are no tagged things.
struct List {
    name: &'static str,
    keys: &'static [Key],
    /// Nested mappings: the key that holds each, its own keys, and whether `config default` shows it without a second `#`.
    nested: &'static [(&'static str, &'static [Key], bool)],
    examples: Examples,
}

const LISTS: &[List] = &[
    List {
        name: "routes",
        keys: routes::ROUTE,
        nested: &[("match", routes::MATCH, false), ("hours", routes::HOURS, false)],
        examples: &[("notify", "[webhook-example]"), ("severity", "[info, warning, critical]")],
    },
    List {
        name: "maintenance",
        keys: maintenance::MAINTENANCE,
        nested: &[("match", routes::MATCH, false), ("once", maintenance::ONCE, false), ("every", maintenance::EVERY, true)],
        examples: &[("name", "maintenance-example"), ("cron", "0 3 * * SUN"), ("for", "2h")],
    },
    List {
        name: "status_pages",
        keys: status_pages::STATUS_PAGE,
        nested: &[
            ("subscribers", status_pages::SUBSCRIBERS, false),
            ("groups", status_pages::GROUP, false),
            ("messages", status_pages::MESSAGE, false),
            ("messages.updates", status_pages::UPDATE, false),
        ],
        examples: &[("name", "status-example")],
    },
    List { name: "datacenters", keys: datacenters::DATACENTER, nested: &[], examples: &[("code", "local")] },
    List { name: "reports", keys: reports::REPORT, nested: &[], examples: &[("name", "report-example"), ("notify", "[webhook-example]")] },
];

/// The indent of one level.
const STEP: &str = "  ";

/// Every option with its default and a comment; loads as it stands.
pub fn default_text() -> String {
    let mut out = String::from(
        "# Watchkeeper's configuration: every option, its default, and what it does.\n\
         #\n\
         # What stands here without `#` is in force even if it is left out. To use an option that stands behind `#`,\n\
         # take the `#` away; a `#` with one space behind it begins a comment. Values may hold ${NAME} and\n\
         # ${NAME:-default}; $$ stands for $. Durations: 850ms, 10s, 1m30s, 14d, or plain seconds.\n",
    );
    for section in SECTIONS {
        out.push('\n');
        comment(&mut out, "", top_doc(section.name));
        let _ = writeln!(out, "{}:", section.name);
        for key in section.keys {
            match section.nested.iter().find(|(name, _, _)| *name == key.name) {
                Some((_, nested, examples)) => {
                    let indent = if examples.is_empty() { "  " } else { "  #" };
                    comment(&mut out, STEP, key.doc);
                    let _ = writeln!(out, "{indent}{}:", key.name);
                    nested.iter().for_each(|inner| option(&mut out, &format!("{indent}  "), inner, examples));
                }
                None if key.name == "alerts" => alerts(&mut out, key),
                None => option(&mut out, STEP, key, &[]),
            }
        }
    }
    out.push('\n');
    comment(&mut out, "", top_doc("channels"));
    out.push_str("#channels:\n");
    for (nth, kind) in channel::FAMILY.kinds.iter().enumerate() {
        item_head(&mut out, kind);
        if nth == 0 {
            for key in channel::FAMILY.common.iter().filter(|k| k.name != "name") {
                option(&mut out, "#    ", key, &[]);
            }
        }
        let _ = writeln!(out, "#    {}:", kind.name);
        kind_keys(&mut out, "#      ", kind);
    }
    out.push('\n');
    comment(&mut out, "", top_doc("monitors"));
    out.push_str("#monitors:\n");
    for (nth, kind) in probe::FAMILY.kinds.iter().enumerate() {
        item_head(&mut out, kind);
        if nth == 0 {
            for key in monitor::OWN.iter().filter(|k| !matches!(k.name, "name" | "probe")) {
                option(&mut out, "#    ", key, &[]);
            }
            comment(&mut out, "#    ", "A monitor may also say, for itself, whatever `defaults` say.");
        }
        let _ = writeln!(out, "#    probe:\n#      {}:", kind.name);
        kind_keys(&mut out, "#        ", kind);
    }
    for each in LISTS {
        list(&mut out, each);
    }
    for key in super::TOP.iter().filter(|key| !key.default.is_empty()) {
        out.push('\n');
        option(&mut out, "", key, &[]);
    }
    out.push('\n');
    comment(&mut out, "", top_doc("tenants"));
    out.push_str("#tenants:\n");
    for (nth, key) in fleet::TENANT.iter().enumerate() {
        let (dash, value) = if nth == 0 { ("- ", "acme") } else { ("  ", if key.form == "a mapping" { "{}" } else { "[]" }) };
        let _ = writeln!(out, "#  {dash}{}: {value}", key.name);
    }
    out
}

/// A list with one item, as a block that is commented out.
fn list(out: &mut String, list: &List) {
    out.push('\n');
    comment(out, "", top_doc(list.name));
    let _ = writeln!(out, "#{}:\n#  -", list.name);
    for key in list.keys {
        let Some((_, nested, open)) = list.nested.iter().find(|(name, _, _)| *name == key.name) else {
            option(out, "#    ", key, list.examples);
            continue;
        };
        let indent = if *open { "#    " } else { "#    #" };
        comment(out, "#    ", key.doc);
        let _ = writeln!(out, "{indent}{}:", key.name);
        for inner in *nested {
            comment(out, &format!("{indent}  "), &format!("{} ({})", inner.doc, inner.form));
            let example = list.examples.iter().find(|(name, _)| *name == inner.name).map_or(inner.default, |(_, value)| *value);
            let _ = writeln!(out, "{indent}  {}:{}{example}", inner.name, if example.is_empty() { "" } else { " " });
        }
    }
}

/// Comments are broken before this column, so that they can be read in a terminal and in a diff.
const WIDTH: usize = 110;

/// A comment of one or more lines; `indent` may begin with the `#` of a block that is commented out as a whole.
fn comment(out: &mut String, indent: &str, text: &str) {
    let mut line = format!("{indent}#");
    let empty = line.len();
    for word in text.split(' ') {
        if line.len() > empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            line.truncate(empty);
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

fn top_doc(name: &str) -> &'static str {
    super::TOP.iter().find(|k| k.name == name).map_or("", |k| k.doc)
}

/// One option with its comment.
fn option(out: &mut String, indent: &str, key: &Key, examples: &[(&str, &str)]) {
    comment(out, indent, &format!("{} ({})", key.doc, key.form));
    let example = examples.iter().find(|(name, _)| *name == key.name).map(|(_, value)| *value);
    let _ = match example.or(Some(key.default).filter(|d| !d.is_empty())) {
        Some(value) => writeln!(out, "{indent}{}: {}", key.name, quoted(value)),
        None => writeln!(out, "{indent}#{}:", key.name),
    };
}

/// A value as YAML: variables need quotes.
fn quoted(value: &str) -> String {
    if value.starts_with("${") { format!("\"{value}\"") } else { value.to_owned() }
}

/// The kinds of alerts, as a block that is commented out.
fn alerts(out: &mut String, key: &Key) {
    comment(out, STEP, key.doc);
    let _ = writeln!(out, "{STEP}#{}:", key.name);
    let beside = alert::FAMILY.common.iter().map(|k| format!("{} ({})", k.name, k.form)).collect::<Vec<_>>().join(", ");
    comment(out, "  #  ", &format!("Beside the kind each may have: {beside}."));
    for kind in alert::FAMILY.kinds {
        let keys: Vec<String> = kind
            .keys
            .iter()
            .map(|k| {
                let example = kind.examples.iter().find(|(name, _)| *name == k.name).map_or(k.default, |(_, value)| *value);
                format!("{}: {example}", k.name)
            })
            .collect();
        let value = if keys.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", keys.join(", ")) };
        comment(out, "  #  ", kind.doc);
        let _ = writeln!(out, "{STEP}#  - {}: {value}", kind.name);
    }
}

/// The first lines of one channel or monitor, in a block that is commented out.
fn item_head<T>(out: &mut String, kind: &Kind<T>) {
    comment(out, "#  ", kind.doc);
    let _ = writeln!(out, "#  - name: {}-example", kind.name);
}

/// The options of a kind; a nested section is commented out once more, because it may have keys that must be given.
fn kind_keys<T>(out: &mut String, indent: &str, kind: &Kind<T>) {
    for key in kind.keys {
        let Some((_, nested)) = kind.sections.iter().find(|(name, _)| *name == key.name) else {
            option(out, indent, key, kind.examples);
            continue;
        };
        comment(out, indent, key.doc);
        let _ = writeln!(out, "{indent}#{}:", key.name);
        for inner in *nested {
            let value = if inner.default.is_empty() { String::new() } else { format!(" {}", quoted(inner.default)) };
            comment(out, &format!("{indent}#  "), &format!("{} ({})", inner.doc, inner.form));
            let _ = writeln!(out, "{indent}#  {}:{value}", inner.name);
        }
    }
}

/// The reference as a page of documentation.
pub fn reference_text() -> String {
    let mut out = String::from(INTRO);
    table(&mut out, 2, "The file", super::TOP);
    for section in SECTIONS {
        table(&mut out, 2, &format!("`{}`", section.name), section.keys);
        for (name, keys, _) in section.nested {
            table(&mut out, 3, &format!("`{}.{name}`", section.name), keys);
        }
    }
    table(&mut out, 2, "`monitors`", monitor::MONITOR);
    table(&mut out, 3, "`every` by state", pace::EVERY);
    family(&mut out, "Probes", &probe::FAMILY);
    family(&mut out, "Alerts", &alert::FAMILY);
    table(&mut out, 3, "One step of `escalate`", telling::STEP);
    family(&mut out, "Channels", &channel::FAMILY);
    for list in LISTS {
        table(&mut out, 2, &format!("`{}`", list.name), list.keys);
        for (name, keys, _) in list.nested {
            table(&mut out, 3, &format!("`{}.{name}`", list.name), keys);
        }
    }
    table(&mut out, 2, "`tenants`", fleet::TENANT);
    out
}

fn family<T>(out: &mut String, title: &str, family: &Family<T>) {
    let _ = write!(
        out,
        "\n## {title}\n\nExactly one kind key in a mapping{}. Kinds: {}.",
        if family.common.is_empty() { "" } else { ", and common keys beside it" },
        family.kinds.iter().map(|k| format!("`{}`", k.name)).collect::<Vec<_>>().join(", "),
    );
    let later: Vec<String> = family.later_kinds.iter().chain(family.later_keys).map(|k| format!("`{k}`")).collect();
    if !later.is_empty() {
        let _ = write!(out, " Of later work, and answered so: {}.", later.join(", "));
    }
    out.push('\n');
    if !family.common.is_empty() {
        table(out, 3, "Common keys", family.common);
    }
    for kind in family.kinds {
        table(out, 3, &format!("`{}`", kind.name), &[]);
        let _ = writeln!(out, "\n{}", kind.doc);
        rows(out, kind.keys);
        for (name, keys) in kind.sections {
            table(out, 4, &format!("`{}.{name}`", kind.name), keys);
        }
    }
}

fn table(out: &mut String, level: usize, title: &str, keys: &[Key]) {
    let _ = writeln!(out, "\n{} {title}", "#".repeat(level));
    rows(out, keys);
}

fn rows(out: &mut String, keys: &[Key]) {
    if keys.is_empty() {
        return;
    }
    out.push_str("\n| key | accepted | default | what it does |\n|---|---|---|---|\n");
    for key in keys {
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", key.name, cell(key.form), cell(&default), cell(key.doc));
    }
}

const INTRO: &str = "# Configuration

Written out of the program (`watchkeeper config default` prints the same as a file); a test keeps both equal.

A configuration is one YAML file, or a directory whose `*.yaml` and `*.yml` files are merged in the order of their names.
It is looked for at `--config`, at the path in `WATCHKEEPER_CONFIG`, at `/etc/watchkeeper/config.yaml` and at
`./watchkeeper.yaml`; without any, Watchkeeper starts with an SQLite file in the working directory and nothing to watch.

- `watchkeeper config check [PATH]` tells every problem at once, each with file, line and column, what was found and what is
  accepted, and exits with 2 if there is one. A file that is loaded again while Watchkeeper runs changes nothing if it has any.
  What loads but is probably not meant is a `warning:`, there and in the log. `watchkeeper config routes MONITOR` shows who would be
  told of a monitor, when, and what says so.
- `${NAME}` and `${NAME:-default}` are replaced in values (not in keys) after the file was parsed, so a value is never read as
  YAML; `$$` stands for `$`. A variable that is not set and has no default is a problem. What a variable leaves empty counts
  as not given.
- Durations are Go-like (`850ms`, `10s`, `1m30s`, `14d`); a plain number is seconds.
- Secrets have a twin `…_file` that names a file; a relative path starts where the configuration file stands.
- Over several files, lists (`channels`, `monitors`, `routes`, `maintenance`, `reports`, `status_pages`, `tenants`) are joined; a key of a mapping
  stands in one file only; a name is used once.
- `defaults` hold for the monitors of their tenant; what a monitor says itself wins. `alerts` of a monitor replace the
  inherited ones; of inherited alerts it takes those that fit its kind. An inherited `timeout` or `recheck` is shortened to
  `every`; one that the monitor writes itself must not exceed it.
- Who is told: whom the rule names, else whom its monitor names, else whom the first matching of `routes` names, else whom
  `defaults` name, else every channel of the tenant. `cooldown`, `remind`, `escalate` and `flap_window` come each from the rule,
  else from the monitor, else from `defaults`. What it means is in [alerts](alerts.md).
- A monitor is (tenant, name), or its `id`. `was: OLD NAME` keeps the history of a renamed one. A rule is its kind (with the
  phase, for `slow_response`) within its monitor; a second one of the same kind needs a `name`.
- At most 16 MiB and a million values per file, 32 levels, 1 000 files; anchors, aliases and tags are not accepted.
";
