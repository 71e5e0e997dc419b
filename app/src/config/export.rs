//! A tenant's whole configuration as one file: what its files say and what was made over the API, in the same words.
//!
//! It is made of the texts as they are written, so that `${NAME}` stays what it is. A secret that is written out becomes a variable of its
//! own, `${NAME}`, by where it stands; whoever loads the file sets it. Comments and layout are not kept.

use super::canonical::cover;
use super::decode::{Node, Problems};
use super::documents::{Document, DocumentKind, json_of};
use super::fleet::DEFAULT_TENANT;
use super::{named, tree};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is printed of a tenant, in the order of a file, with how secrets are recognised in it.
const SECTIONS: [(&str, DocumentKind); 8] = [
    ("channels", DocumentKind::Channel),
    ("defaults", DocumentKind::Monitor),
    ("monitors", DocumentKind::Monitor),
    ("routes", DocumentKind::Monitor),
    ("maintenance", DocumentKind::Maintenance),
    ("reports", DocumentKind::Monitor),
    ("announce", DocumentKind::Monitor),
    ("status_pages", DocumentKind::StatusPage),
];

/// Prints it. `files` are the texts of the files, `documents` those of all tenants that are in force.
pub fn export(files: &[(String, Vec<u8>)], documents: &[Document], tenant: &str) -> String {
    let mut whole: BTreeMap<&str, Json> = BTreeMap::new();
    let mut variables = Variables::default();
    for (name, text) in files {
        // They are in force, so they have none.
        let Some(root) = tree::parse_literally(name, text, &mut Problems::default()) else { continue };
        for of_tenant in parts(&root, tenant) {
            for (section, kind) in SECTIONS {
                if let Some(node) = named::child(of_tenant, section) {
                    let said = variables.hidden(kind, section, &json_of(node));
                    add(whole.entry(section).or_insert(Json::Null), said);
                }
            }
        }
    }
    for document in documents.iter().filter(|document| document.tenant == tenant) {
        let section = document.kind.section();
        let said = variables.hidden(document.kind, section, &literal(&Json::Array(vec![Json::Object(document.body.clone())])));
        add(whole.entry(section).or_insert(Json::Null), said);
    }
    let mut out = format!("# The configuration of the tenant {tenant}.\n");
    if !variables.names.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# Secrets are not in it; set these variables: {}", variables.names.join(", "));
    }
    for (section, _) in SECTIONS {
        if let Some(value) = whole.remove(section) {
            out.push_str(&yaml(&Json::Object(Map::from_iter([(section.to_owned(), value)]))));
        }
    }
    out
}

/// The mappings of a file that hold something of a tenant.
pub(super) fn parts<'n>(root: &'n Node, tenant: &str) -> Vec<&'n Node> {
    let own = |node: &&Node| named::child(node, "name").map(json_of).as_ref().and_then(Json::as_str) == Some(tenant);
    let listed = named::child(root, "tenants").map(named::listed).unwrap_or_default();
    let whole = (tenant == DEFAULT_TENANT).then_some(root);
    whole.into_iter().chain(listed.into_iter().filter(own)).collect()
}

/// Lists are joined, mappings too.
fn add(whole: &mut Json, more: Json) {
    match (whole, more) {
        (Json::Array(all), Json::Array(more)) => all.extend(more),
        (Json::Array(all), Json::Null) if all.is_empty() => {}
        (Json::Array(all), one) => all.push(one),
        (Json::Object(all), Json::Object(more)) => all.extend(more),
        (whole, more) => *whole = more,
    }
}

/// What means itself in a document, as it means itself in a file: there `$$` stands for `$`.
fn literal(value: &Json) -> Json {
    match value {
        Json::String(text) => Json::from(text.replace("$$", "$$$$")),
        Json::Array(items) => Json::Array(items.iter().map(literal).collect()),
        Json::Object(map) => Json::Object(map.iter().map(|(key, value)| (key.clone(), literal(value))).collect()),
        Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
    }
}

/// Variables that stand for secrets.
#[derive(Default)]
struct Variables {
    names: Vec<String>,
}

impl Variables {
    /// A section without its secrets.
    fn hidden(&mut self, kind: DocumentKind, section: &str, value: &Json) -> Json {
        match value {
            Json::Array(items) => {
                let one = |item: &Json| {
                    let name = item.get("name").and_then(Json::as_str).unwrap_or_default();
                    self.without(kind, &[section, name], ("", ""), item)
                };
                Json::Array(items.iter().map(one).collect())
            }
            other @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_)) => {
                self.without(kind, &[section], ("", ""), other)
            }
        }
    }

    fn without(&mut self, kind: DocumentKind, path: &[&str], (parent, key): (&str, &str), value: &Json) -> Json {
        match value {
            Json::Array(items) => Json::Array(items.iter().map(|item| self.without(kind, path, (parent, key), item)).collect()),
            Json::Object(map) => {
                let mut whole = Map::new();
                for (name, value) in map {
                    let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
                    whole.insert(name.clone(), self.without(kind, &path, (key, name), value));
                }
                Json::Object(whole)
            }
            leaf @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => {
                let written = leaf.as_str().is_some_and(|text| text.contains("${"));
                if written || cover(kind, parent, key, leaf) == *leaf {
                    return leaf.clone();
                }
                Json::from(format!("${{{}}}", self.name(path)))
            }
        }
    }

    /// A name that no other secret has.
    fn name(&mut self, path: &[&str]) -> String {
        let words = path.iter().filter(|part| !["monitors", "channels", "probe"].contains(part));
        let plain = words.copied().collect::<Vec<_>>().join("_").to_ascii_uppercase();
        let plain: String = plain.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let plain = if plain.starts_with(|c: char| c.is_ascii_digit()) { format!("_{plain}") } else { plain };
        let mut name = plain.clone();
        for nth in 2.. {
            if !self.names.contains(&name) {
                break;
            }
            name = format!("{plain}_{nth}");
        }
        self.names.push(name.clone());
        name
    }
}

/// The first keys of an object, in this order; then the others by name.
const FIRST: [&str; 5] = ["name", "match", "labels", "probe", "every"];

/// A value as YAML, in blocks; lists of single values on one line.
pub fn yaml(value: &Json) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Json, indent: usize, out: &mut String) {
    let space = " ".repeat(indent);
    match value {
        Json::Object(map) if !map.is_empty() => {
            let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
            let mut entries: Vec<(&String, &Json)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| rank(key));
            for (key, value) in entries {
                let key = scalar(&Json::from(key.as_str()));
                // Writing to a String cannot fail.
                if let Some(text) = short(value) {
                    let _ = writeln!(out, "{space}{key}: {text}");
                } else {
                    let _ = writeln!(out, "{space}{key}:");
                    block(value, indent + 2, out);
                }
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for item in items {
                if let Some(text) = short(item) {
                    let _ = writeln!(out, "{space}- {text}");
                } else {
                    // The first line of an item stands behind its dash.
                    let mut inner = String::new();
                    block(item, indent + 2, &mut inner);
                    let _ = write!(out, "{space}- {}", inner.trim_start());
                }
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) | Json::Object(_) => {
            let _ = writeln!(out, "{space}{}", short(value).unwrap_or_default());
        }
    }
}

/// What fits on the line of its key.
fn short(value: &Json) -> Option<String> {
    match value {
        Json::Object(map) if map.is_empty() => Some("{}".to_owned()),
        Json::Object(_) => None,
        Json::Array(items) => {
            let single = |item: &Json| !matches!(item, Json::Object(_) | Json::Array(_));
            let texts = || items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), |text| Json::from(text).to_string()));
            items.iter().all(single).then(|| format!("[{}]", texts().collect::<Vec<_>>().join(", ")))
        }
        leaf @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => Some(scalar(leaf)),
    }
}

/// A single value: plain where nobody could take it for something else. JSON's quotes are YAML's too.
fn scalar(value: &Json) -> String {
    let Some(text) = value.as_str() else { return value.to_string() };
    let begins = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let number = text.parse::<f64>().is_ok() || text.starts_with("0x") || text.starts_with("0o");
    let plain = text.starts_with(begins)
        && !number
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_ ./-".contains(c))
        && text.trim_end() == text
        && !["true", "false", "null"].contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, load_texts};
    use serde_json::json;

    fn loaded(text: &str) -> Config {
        let set = |name: &str| Some(format!("http://127.0.0.1:9/{name}"));
        load_texts(&[("wk.yaml".to_owned(), text.as_bytes().to_vec())], &set).unwrap_or_else(|bad| panic!("{text}\n{bad}"))
    }

    #[test]
    fn what_is_exported_loads_and_means_the_same_and_holds_no_secret() {
        let text = r#"
server: { metrics_token: not-of-a-tenant }
channels:
  - { name: ops, webhook: { url: "https://hooks.example.org/T0/s3cret", headers: { X-A: s3cret } } }
  - { name: two, webhook: { url: "${HOOK}" } }
defaults: { every: 30s, notify: [ops] }
monitors:
  - name: "shop: main"
    probe: { http: { url: "https://u:s3cret@shop.example.org/?a=b", expect: { status: [200-299, 304], json: { "$.a": "yes" } } } }
    labels: { price: "$$5", empty: "", number: "5", word: "true" }
  - { name: job, probe: { push: { expect_every: 1h } } }
routes: [ { match: { labels: { price: "$5" } }, severity: [critical], notify: [two] } ]
maintenance: [ { name: move, every: { cron: "0 3 * * SUN", for: 2h } } ]
tenants: [ { name: acme, monitors: [ { name: other, probe: { push: { expect_every: 2h } } } ] } ]
"#
        .to_owned();
        let body =
            json!({ "name": "made", "labels": { "price": "$$5" }, "probe": { "http": { "url": "https://x/", "bearer_token": "s3cret" } } });
        let document = |tenant: &str| Document {
            tenant: tenant.to_owned(),
            kind: DocumentKind::Monitor,
            uid: "u".to_owned(),
            body: body.as_object().unwrap().clone(),
        };
        let files = [("wk.yaml".to_owned(), text.clone().into_bytes())];
        let printed = export(&files, &[document("default"), document("acme")], "default");
        assert!(!printed.contains("s3cret") && !printed.contains("not-of-a-tenant") && !printed.contains("other"), "{printed}");
        assert!(
            printed.contains("variables: OPS_WEBHOOK_HEADERS_X_A, OPS_WEBHOOK_URL, SHOP__MAIN_HTTP_URL, MADE_HTTP_BEARER_TOKEN\n"),
            "{printed}"
        );
        assert!(printed.contains("url: \"${HOOK}\""), "{printed}");
        let (before, after) = (loaded(&text), loaded(&printed));
        let names = |config: &Config| config.tenants[0].monitors.iter().map(|monitor| monitor.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (names(&before), names(&after)),
            (vec!["shop: main".to_owned(), "job".to_owned()], vec!["shop: main".to_owned(), "job".to_owned(), "made".to_owned()])
        );
        let (was, is) = (&before.tenants[0].monitors[0], &after.tenants[0].monitors[0]);
        assert_eq!((&was.labels, is.labels["price"].as_str()), (&is.labels, "$5"));
        assert_eq!(after.tenants[0].monitors[2].labels["price"], "$$5");
        assert_eq!(before.tenants[0].monitors[1].canonical, after.tenants[0].monitors[1].canonical);
        assert_eq!(before.tenants[0].maintenance[0].stored(), after.tenants[0].maintenance[0].stored());
        let acme = export(&files, &[document("acme")], "acme");
        assert_eq!(loaded(&acme).tenants[0].monitors.len(), 2, "{acme}");
        assert!(!acme.contains("shop"), "{acme}");
    }
}
