//! Documents: single objects beside those of the files, made over the API in the same form.
//!
//! They are decoded and cross-checked by the same code, in one tree with the files, so that there is one way to describe a monitor and one
//! set of errors. A document has no lines: its places are the paths of its fields (`probe.http.url`), which every problem of it comes with.
//!
//! Whoever writes one is an administrator of a tenant and not of the machine: nothing in a document is replaced by a variable, and nothing
//! in it names a file of the server. The files stand on their own, and come first where both say something: a document that cannot be
//! taken beside them is left out with what is wrong, and changes nothing about the rest.

mod bodies;
mod secrets;

pub use super::addresses::forbidden;
use super::decode::{Node, Pos, Problem, Problems, Value, shown};
use super::fleet::DEFAULT_TENANT;
use super::tree::{self, DEPTH_MAX, Env, SCALAR_MAX};
use super::{BadConfig, Config};
pub use bodies::{json_of, of_v_insight, of_yaml, patched};
pub use secrets::{escaped, kept_for_another, path_of, secrets_of, with_given, with_secrets, without_secrets};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// A mapping with its values, as a document's body.
pub type Body = Map<String, Json>;

/// What a document is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentKind {
    /// One of `monitors`.
    Monitor,
    /// One of `channels`.
    Channel,
    /// One of `maintenance`.
    Maintenance,
    /// One of `status_pages`.
    StatusPage,
}

impl DocumentKind {
    /// Every kind, in the order of a file.
    pub const ALL: [Self; 4] = [Self::Channel, Self::Monitor, Self::Maintenance, Self::StatusPage];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Channel => "channel",
            Self::Maintenance => "maintenance",
            Self::StatusPage => "status_page",
        }
    }

    /// Reads the stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The section of a file that holds such things.
    pub const fn section(self) -> &'static str {
        match self {
            Self::Monitor => "monitors",
            Self::Channel => "channels",
            Self::Maintenance => "maintenance",
            Self::StatusPage => "status_pages",
        }
    }

    /// In words.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Channel => "alert channel",
            Self::Maintenance => "maintenance window",
            Self::StatusPage => "status page",
        }
    }
}

/// One document.
#[derive(Clone, PartialEq)]
pub struct Document {
    /// Owner.
    pub tenant: String,
    /// What it is about.
    pub kind: DocumentKind,
    /// Public id, which a monitor has too.
    pub uid: String,
    /// As one item of its section.
    pub body: Body,
}

/// Without the body, which may hold secrets.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, kind, uid, body: _ } = self;
        f.debug_struct("Document").field("tenant", tenant).field("kind", kind).field("uid", uid).finish_non_exhaustive()
    }
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fault {
    /// Which field: `probe.http.url`; empty for the whole.
    pub path: String,
    /// What was found.
    pub found: String,
    /// What is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
    /// The nearest known word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.found)?;
        if let Some(accepted) = &self.accepted {
            write!(f, "; accepted: {accepted}")?;
        }
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        Ok(())
    }
}

impl Fault {
    /// Of a field.
    pub fn new(path: impl Into<String>, found: impl Into<String>, accepted: impl Into<Option<String>>) -> Self {
        Self { path: path.into(), found: found.into(), accepted: accepted.into(), nearest: None }
    }
}

/// Documents that are left out, by their uid, with what is wrong with each.
pub type LeftOut = BTreeMap<String, Vec<Fault>>;

impl Config {
    /// Itself with these documents; what cannot be taken is left out. An error only if the files themselves can no longer be read: a file
    /// that they name is gone, say.
    pub fn with(&self, documents: &[Document], env: Env<'_>) -> Result<(Self, LeftOut), BadConfig> {
        let mut left_out = LeftOut::new();
        let mut trees = Vec::new();
        for document in documents {
            match Tree::of(document).and_then(|tree| self.room_for(document).map(|()| tree)) {
                Ok(tree) => trees.push(tree),
                Err(faults) => _ = left_out.insert(document.uid.clone(), faults),
            }
        }
        while !trees.is_empty() {
            let mut problems = Problems::default();
            let mut roots: Vec<Node> = self.texts.iter().filter_map(|(name, text)| tree::parse(name, text, env, &mut problems)).collect();
            roots.extend(trees.iter().map(|tree| tree.root.clone()));
            let config = super::from_roots(&roots, &mut problems);
            if let Some(config) = config.filter(|_| problems.is_empty()) {
                let (empty, first, texts) = (self.empty.clone(), self.first.clone(), self.texts.clone());
                return Ok((Self { empty, first, texts, content: self.content, ..config }, left_out));
            }
            let by_file: HashMap<&str, &Tree> = trees.iter().map(|tree| (&*tree.file, tree)).collect();
            let mut found = LeftOut::new();
            for problem in problems.kept() {
                if let Some(tree) = by_file.get(&*problem.at.file).filter(|_| problem.at.in_document()) {
                    found.entry(tree.uid.clone()).or_default().push(tree.fault(problem));
                }
            }
            if found.is_empty() {
                // The files are to blame, or every document is: none of the rules across them should come here.
                super::load_texts(&self.texts, env)?;
                let why = problems.kept().first().map(ToString::to_string).unwrap_or_default();
                found =
                    trees.iter().map(|tree| (tree.uid.clone(), vec![Fault::new("", format!("beside the files: {why}"), None)])).collect();
            }
            trees.retain(|tree| !found.contains_key(&tree.uid));
            left_out.extend(found);
        }
        Ok((self.clone(), left_out))
    }

    /// Whether the files leave a document its name.
    fn room_for(&self, document: &Document) -> Result<(), Vec<Fault>> {
        let Some(tenant) = self.tenants.iter().find(|tenant| tenant.slug == document.tenant) else { return Ok(()) };
        let name = document.body.get("name").and_then(Json::as_str).unwrap_or_default();
        let taken = match document.kind {
            DocumentKind::Monitor => {
                let same = |monitor: &&super::MonitorConfig| {
                    monitor.name == name || monitor.was.as_deref() == Some(name) || monitor.uid.as_deref() == Some(&document.uid)
                };
                tenant.monitors.iter().find(same).map(|monitor| &monitor.at)
            }
            DocumentKind::Channel => tenant.channels.iter().find(|channel| channel.name == name).map(|channel| &channel.at),
            DocumentKind::Maintenance => tenant.maintenance.iter().find(|window| window.name == name).map(|window| &window.at),
            DocumentKind::StatusPage => tenant.status_pages.iter().find(|page| page.slug == name).map(|page| &page.at),
        };
        match taken {
            None => Ok(()),
            Some(at) => Err(vec![Fault::new(
                "name",
                format!("the {} `{}` is in the configuration file, at {at}", document.kind.what(), shown(name)),
                "a name of its own".to_owned(),
            )]),
        }
    }
}

/// Where a file has the thing of that name, if one has.
pub fn place_in_files(config: &Config, tenant: &str, kind: DocumentKind, name: &str) -> Option<Pos> {
    let tenant = config.tenants.iter().find(|known| known.slug == tenant)?;
    let at = match kind {
        DocumentKind::Monitor => tenant.monitors.iter().find(|monitor| monitor.name == name).map(|monitor| &monitor.at),
        DocumentKind::Channel => tenant.channels.iter().find(|channel| channel.name == name).map(|channel| &channel.at),
        DocumentKind::Maintenance => tenant.maintenance.iter().find(|window| window.name == name).map(|window| &window.at),
        DocumentKind::StatusPage => tenant.status_pages.iter().find(|page| page.slug == name).map(|page| &page.at),
    };
    at.filter(|at| !at.in_document()).cloned()
}

/// A document as the tree of a file that holds nothing else.
struct Tree {
    uid: String,
    file: Arc<str>,
    root: Node,
    /// The path of each place, by its line.
    paths: Vec<String>,
}

/// Keys whose value is a mapping with free keys: what stands below is no key of ours.
const FREE: [&str; 5] = ["headers", "json", "labels", "resolve", "titles"];

/// Keys that a document may not have, and why: beside all that name a file of the server.
const NOT_HERE: [(DocumentKind, &str, &str); 4] = [
    (DocumentKind::Monitor, "id", "no `id`: the server gives one, which stays"),
    (DocumentKind::Monitor, "was", "no `was`: another `name` renames it"),
    // Whoever listens to a bot would ask any address for what it says.
    (DocumentKind::Channel, "telegram.api_url", "Telegram's own server; another one stands in a configuration file"),
    // Its limits end a mistake; they were not made to contain an enemy.
    (DocumentKind::Channel, "webhook.body", "one of `format`; a template of one's own stands in a configuration file"),
];

impl Tree {
    fn of(document: &Document) -> Result<Self, Vec<Fault>> {
        let name = document.body.get("name").and_then(Json::as_str).unwrap_or_default();
        let file: Arc<str> = format!("api:{}/{}/{name}", document.tenant, document.kind.section()).into();
        let mut builder = Builder { kind: document.kind, file: file.clone(), paths: Vec::new(), faults: Vec::new() };
        let mut body = builder.map("", &document.body, false, 0);
        let at = body.at.clone();
        let text = |text: &str| Node { at: at.clone(), value: Value::Scalar { text: text.to_owned(), quoted: true, written: None } };
        if let (DocumentKind::Monitor, Value::Map(entries)) = (document.kind, &mut body.value) {
            entries.push(("id".to_owned(), at.clone(), text(&document.uid)));
        }
        if !builder.faults.is_empty() {
            return Err(builder.faults);
        }
        let node = |value| Node { at: at.clone(), value };
        let entry = |key: &str, value| (key.to_owned(), at.clone(), value);
        let items = node(Value::Seq(vec![body]));
        let section = entry(document.kind.section(), items);
        let root = if document.tenant == DEFAULT_TENANT {
            node(Value::Map(vec![section]))
        } else {
            let tenant = node(Value::Map(vec![entry("name", text(&document.tenant)), section]));
            node(Value::Map(vec![entry("tenants", node(Value::Seq(vec![tenant])))]))
        };
        Ok(Self { uid: document.uid.clone(), file, root, paths: builder.paths })
    }

    /// A problem of the decoders as one of the document.
    fn fault(&self, problem: &Problem) -> Fault {
        let Problem { at, found, accepted, nearest } = problem;
        let mut path = self.paths.get(at.line.saturating_sub(1) as usize).cloned().unwrap_or_default();
        // What is missing has no place; the mapping that lacks it has.
        if let Some(key) = found.strip_prefix('`').and_then(|rest| rest.strip_suffix("` is missing")) {
            path = below(&path, key);
        }
        Fault { path, found: found.clone(), accepted: accepted.clone(), nearest: nearest.clone() }
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Makes nodes of values, and notes what no document may say.
struct Builder {
    kind: DocumentKind,
    file: Arc<str>,
    paths: Vec<String>,
    faults: Vec<Fault>,
}

impl Builder {
    fn place(&mut self, path: &str) -> Pos {
        self.paths.push(path.to_owned());
        Pos::in_a_document(self.file.clone(), self.paths.len() as u32)
    }

    fn map(&mut self, path: &str, map: &Body, free: bool, depth: usize) -> Node {
        let at = self.place(path);
        if depth >= DEPTH_MAX {
            self.faults.push(Fault::new(path, "deeper nesting", format!("at most {DEPTH_MAX} levels")));
            return Node { at, value: Value::Broken };
        }
        let mut entries = Vec::with_capacity(map.len());
        for (key, value) in map {
            let path = below(path, key);
            if !free && key.ends_with("_file") {
                let accepted = "the value itself: files of the server are named in its configuration files alone";
                self.faults.push(Fault::new(path.clone(), format!("`{}`", shown(key)), accepted.to_owned()));
            } else if let Some((_, _, why)) = NOT_HERE.iter().find(|(kind, not, _)| *kind == self.kind && *not == path) {
                self.faults.push(Fault::new(path.clone(), format!("`{}`", shown(key)), (*why).to_owned()));
            } else if key.contains('\0') {
                self.faults.push(Fault::new(path.clone(), "a NUL character", "text without it".to_owned()));
            }
            let below_free = FREE.contains(&key.as_str()) && !free;
            let node = self.node(&path, value, below_free, depth + 1);
            entries.push((key.clone(), node.at.clone(), node));
        }
        Node { at, value: Value::Map(entries) }
    }

    fn node(&mut self, path: &str, value: &Json, free: bool, depth: usize) -> Node {
        let scalar = |text: String, quoted| Value::Scalar { text, quoted, written: None };
        let value = match value {
            Json::Object(map) => return self.map(path, map, free, depth),
            Json::Array(_) if depth >= DEPTH_MAX => {
                self.faults.push(Fault::new(path, "deeper nesting", format!("at most {DEPTH_MAX} levels")));
                Value::Broken
            }
            Json::Array(items) => {
                let at = self.place(path);
                let nodes = items.iter().enumerate().map(|(nth, item)| self.node(&format!("{path}[{nth}]"), item, false, depth + 1));
                let value = Value::Seq(nodes.collect());
                return Node { at, value };
            }
            Json::Null => Value::Null,
            Json::Bool(value) => scalar(value.to_string(), false),
            Json::Number(value) => scalar(value.to_string(), false),
            Json::String(text) => {
                self.judge(path, text);
                scalar(text.clone(), true)
            }
        };
        Node { at: self.place(path), value }
    }

    fn judge(&mut self, path: &str, text: &str) {
        if text.contains("${") {
            let accepted = "the value itself: variables are replaced in configuration files alone";
            self.faults.push(Fault::new(path, "`${…}`", accepted.to_owned()));
        }
        if text.contains('\0') {
            self.faults.push(Fault::new(path, "a NUL character", "text without it".to_owned()));
        }
        if text.len() > SCALAR_MAX {
            self.faults.push(Fault::new(path, format!("a text of {} bytes", text.len()), format!("at most {SCALAR_MAX} bytes")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::Key;
    use crate::config::load_texts;
    use serde_json::json;

    fn body(value: Json) -> Body {
        let Json::Object(body) = value else { panic!("{value} is no mapping") };
        body
    }

    fn document(kind: DocumentKind, value: Json) -> Document {
        Document { tenant: "acme".to_owned(), kind, uid: "0190c1d8-6d2f-7c3a-9d3e-0d6f5a1b2c3d".to_owned(), body: body(value) }
    }

    fn faults(kind: DocumentKind, value: Json) -> Vec<Fault> {
        let files = load_texts(&[], &|_| panic!("no variable is asked for")).unwrap();
        let (_, left_out) = files.with(&[document(kind, value)], &|_| None).unwrap();
        left_out.into_values().flatten().collect()
    }

    /// Every key that names a file of the server, wherever one of the kinds has it, is refused.
    #[test]
    fn no_key_that_names_a_file_is_taken() {
        let mut seen = 0;
        let mut tried = |kind: DocumentKind, of: &str, section: Option<&str>, keys: &[Key]| {
            for key in keys.iter().filter(|key| key.form == "a path" || key.form.contains("PEM")) {
                assert!(key.name.ends_with("_file"), "{of}.{} names a file, and is called otherwise", key.name);
                let mut inner = json!({ key.name: "/etc/hostname" });
                if let Some(section) = section {
                    inner = json!({ section: inner });
                }
                let value = match kind {
                    DocumentKind::Monitor => json!({ "name": "a", "probe": { of: inner } }),
                    DocumentKind::Channel | DocumentKind::Maintenance | DocumentKind::StatusPage => json!({ "name": "a", of: inner }),
                };
                let found = faults(kind, value);
                let path = [Some("probe").filter(|_| kind == DocumentKind::Monitor), Some(of), section, Some(key.name)];
                let path = path.into_iter().flatten().collect::<Vec<_>>().join(".");
                assert!(found.iter().any(|fault| fault.path == path && fault.found == format!("`{}`", key.name)), "{path}: {found:?}");
                seen += 1;
            }
        };
        for kind in crate::probe::FAMILY.kinds {
            tried(DocumentKind::Monitor, kind.name, None, kind.keys);
            for (section, keys) in kind.sections {
                tried(DocumentKind::Monitor, kind.name, Some(section), keys);
            }
        }
        for kind in crate::channel::FAMILY.kinds {
            tried(DocumentKind::Channel, kind.name, None, kind.keys);
        }
        assert!(seen >= 12, "{seen} keys were found");
        let page = faults(DocumentKind::StatusPage, json!({ "name": "a", "password_file": "/etc/hostname" }));
        assert_eq!(page.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), ["password_file"]);
    }

    #[test]
    fn nothing_of_a_document_is_replaced_and_dollars_stay() {
        let files = load_texts(&[], &|_| None).unwrap();
        let value = json!({ "name": "a", "labels": { "price": "$$5", "pattern": "x$" }, "probe": { "push": { "expect_every": "1h" } } });
        let (config, left_out) = files.with(&[document(DocumentKind::Monitor, value)], &|_| panic!("asked for")).unwrap();
        assert!(left_out.is_empty(), "{left_out:?}");
        let acme = config.tenants.iter().find(|tenant| tenant.slug == "acme").unwrap();
        assert_eq!(acme.monitors[0].labels["price"], "$$5");
        assert!(acme.monitors[0].at.in_document());
        assert_eq!(config.content, files.content, "nodes agree about files");
        assert_ne!(config.hash, files.hash);
        for hidden in ["${HOME}", "a${X:-y}b"] {
            let found =
                faults(DocumentKind::Channel, json!({ "name": "c", "webhook": { "url": "https://x/", "headers": { "X-A": hidden } } }));
            assert_eq!(found.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), ["webhook.headers.X-A"]);
        }
    }

    #[test]
    fn files_come_first_and_what_is_broken_beside_them_is_left_out_alone() {
        let text = "tenants: [ { name: acme, channels: [ { name: ops, webhook: { url: 'http://127.0.0.1:9/' } } ],
            monitors: [ { name: shop, was: store, probe: { push: { expect_every: 1h } } } ] } ]\n";
        let files = load_texts(&[("wk.yaml".to_owned(), text.as_bytes().to_vec())], &|_| None).unwrap();
        let push = |uid: &str, name: &str, more: Json| {
            let mut value = body(json!({ "name": name, "probe": { "push": { "expect_every": "1h" } } }));
            value.extend(body(more));
            Document {
                tenant: "acme".to_owned(),
                kind: DocumentKind::Monitor,
                uid: format!("0190c1d8-6d2f-7c3a-9d3e-0d6f5a1b2c{uid}"),
                body: value,
            }
        };
        let documents = [
            push("01", "shop", json!({})),
            push("02", "store", json!({})),
            push("03", "a", json!({ "depends_on": ["b"] })),
            push("04", "b", json!({ "depends_on": ["a"] })),
            push("05", "good", json!({ "depends_on": ["shop"], "notify": ["ops"] })),
            push("06", "late", json!({ "depends_on": ["a"] })),
            push("07", "wrong", json!({ "every": "soon" })),
        ];
        let (config, left_out) = files.with(&documents, &|_| None).unwrap();
        let acme = config.tenants.iter().find(|tenant| tenant.slug == "acme").unwrap();
        assert_eq!(acme.monitors.iter().map(|monitor| monitor.name.as_str()).collect::<Vec<_>>(), ["shop", "good"]);
        let told: Vec<(&str, &str)> = left_out.iter().map(|(uid, faults)| (&uid[uid.len() - 2..], faults[0].path.as_str())).collect();
        let parent = |uid| (uid, "depends_on[0]");
        assert_eq!(told, [("01", "name"), ("02", "name"), parent("03"), parent("04"), parent("06"), ("07", "every")]);
    }
}
