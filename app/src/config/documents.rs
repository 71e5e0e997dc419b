//! Documents: single objects beside those of the files, made over the API in the same form.
//!
//! They are decoded and cross-checked by the same code, in one tree with the files, so that there is one way to describe a monitor and one
//! set of errors. A document has no lines: its places are the paths of its fields (`probe.http.url`), which every problem of it comes with.
//!
//! Whoever writes one is an administrator of a tenant and not of the machine: nothing in a document is replaced by a variable, and nothing
//! in it names a file of the server. The files stand on their own, and come first where both say something: a document that cannot be
//! taken beside them is left out with what is wrong, and changes nothing about the rest.

use super::addresses;
pub use super::addresses::forbidden;
use super::canonical::cover;
use super::decode::{Node, Pos, Problem, Problems, Value, shown};
use super::fleet::DEFAULT_TENANT;
use super::tree::{self, DEPTH_MAX, Env, SCALAR_MAX};
use super::{BadConfig, Config};
use crate::channel::MASK;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
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

/// A body as it may be shown: without its secrets.
pub fn without_secrets(kind: DocumentKind, body: &Body) -> Body {
    fn shown(kind: DocumentKind, parent: &str, key: &str, value: &Json) -> Json {
        match value {
            Json::Array(items) => Json::Array(items.iter().map(|item| shown(kind, parent, key, item)).collect()),
            Json::Object(map) => Json::Object(map.iter().map(|(name, value)| (name.clone(), shown(kind, key, name, value))).collect()),
            leaf @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => cover(kind, parent, key, leaf),
        }
    }
    body.iter().map(|(name, value)| (name.clone(), shown(kind, "", name, value))).collect()
}

/// Takes the secrets out of a body, each with its place as a JSON pointer; nothing is left there.
pub fn secrets_of(kind: DocumentKind, body: &mut Body) -> Vec<(String, Json)> {
    fn take(kind: DocumentKind, parent: &str, key: &str, at: &str, value: &mut Json, found: &mut Vec<(String, Json)>) {
        match value {
            Json::Array(items) => {
                items.iter_mut().enumerate().for_each(|(nth, item)| take(kind, parent, key, &format!("{at}/{nth}"), item, found));
            }
            Json::Object(map) => {
                map.iter_mut().for_each(|(name, value)| take(kind, key, name, &format!("{at}/{}", escaped(name)), value, found));
            }
            leaf @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => {
                if cover(kind, parent, key, leaf) != *leaf {
                    found.push((at.to_owned(), std::mem::take(leaf)));
                }
            }
        }
    }
    let mut found = Vec::new();
    body.iter_mut().for_each(|(name, value)| take(kind, "", name, &format!("/{}", escaped(name)), value, &mut found));
    found
}

/// A key as a part of a JSON pointer.
pub fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A JSON pointer as faults name a field.
pub fn path_of(pointer: &str) -> String {
    let parts = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    parts.fold(String::new(), |path, part| match part.parse::<usize>() {
        Ok(nth) => format!("{path}[{nth}]"),
        Err(_) => below(&path, &part),
    })
}

/// Secrets that a change of `stored` into `whole` would keep although it changes where they are sent: those that `sent` does not give.
pub fn kept_for_another(kind: DocumentKind, sent: &Body, stored: &Body, whole: &Body) -> Vec<Fault> {
    elsewhere(kind, sent, stored, whole, None)
}

fn elsewhere(kind: DocumentKind, sent: &Body, stored: &Body, whole: &Body, given: Option<&BTreeMap<String, String>>) -> Vec<Fault> {
    let secrets = secrets_of(kind, &mut whole.clone());
    let sent = Json::Object(sent.clone());
    let is_given = |pointer: &str, secret: &Json| match (sent.pointer(pointer), given) {
        (Some(Json::String(text)), Some(given)) => {
            tree::replaced(text, &|name| given.get(name).cloned()).is_ok_and(|text| Some(text.as_str()) == secret.as_str())
        }
        (Some(value), _) => value == secret,
        (None, _) => false,
    };
    addresses::kept_for_another(kind, stored, whole, &secrets, is_given)
}

/// A body that was sent with what stands for a secret replaced by what is stored at the same place.
pub fn with_secrets(kind: DocumentKind, sent: &Body, stored: Option<&Body>) -> Result<Body, Vec<Fault>> {
    filled(kind, sent, stored, None)
}

/// The same for a body that stands in a file: `${NAME}` is replaced by what is given for it or, in the place of a secret, by the stored one.
pub fn with_given(kind: DocumentKind, sent: &Body, stored: Option<&Body>, given: &BTreeMap<String, String>) -> Result<Body, Vec<Fault>> {
    filled(kind, sent, stored, Some(given))
}

fn filled(kind: DocumentKind, sent: &Body, stored: Option<&Body>, given: Option<&BTreeMap<String, String>>) -> Result<Body, Vec<Fault>> {
    let mut faults = Vec::new();
    let body: Body = sent
        .iter()
        .map(|(name, value)| {
            let at = Place { kind, given, parent: "", key: name, path: name.clone() };
            (name.clone(), at.filled(value, stored.and_then(|stored| stored.get(name)), &mut faults))
        })
        .collect();
    if let Some(stored) = stored {
        faults.extend(elsewhere(kind, sent, stored, &body, given));
    }
    if faults.is_empty() { Ok(body) } else { Err(faults) }
}

/// A place of a body.
struct Place<'a> {
    kind: DocumentKind,
    /// What is put for variables, where there are any.
    given: Option<&'a BTreeMap<String, String>>,
    parent: &'a str,
    key: &'a str,
    path: String,
}

impl Place<'_> {
    fn filled(&self, sent: &Json, stored: Option<&Json>, faults: &mut Vec<Fault>) -> Json {
        let Self { kind, given, parent, key, path } = self;
        match sent {
            Json::Array(items) => {
                let one = |(nth, item): (usize, &Json)| {
                    let at = Place { kind: *kind, given: *given, parent, key, path: format!("{path}[{nth}]") };
                    at.filled(item, stored.and_then(|stored| stored.get(nth)), faults)
                };
                Json::Array(items.iter().enumerate().map(one).collect())
            }
            Json::Object(map) => {
                let one = |(name, value): (&String, &Json)| {
                    let at = Place { kind: *kind, given: *given, parent: key, key: name, path: below(path, name) };
                    (name.clone(), at.filled(value, stored.and_then(|stored| stored.get(name)), faults))
                };
                Json::Object(map.iter().map(one).collect())
            }
            leaf @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_)) => {
                if let (Some(given), Some(text)) = (given, leaf.as_str()) {
                    return self.replaced(text, given, stored, faults);
                }
                if let Some(stored) = stored
                    && cover(*kind, parent, key, stored) == *leaf
                {
                    return stored.clone();
                }
                if stands_for_a_secret(*kind, parent, key, leaf) {
                    let found = format!("`{MASK}`, which stands for a secret that is stored, and here none is");
                    faults.push(Fault::new(path.clone(), found, "the secret itself".to_owned()));
                }
                leaf.clone()
            }
        }
    }
}

impl Place<'_> {
    /// A text of a file with its variables replaced.
    fn replaced(&self, text: &str, given: &BTreeMap<String, String>, stored: Option<&Json>, faults: &mut Vec<Fault>) -> Json {
        let Self { kind, given: _, parent, key, path } = self;
        let alone = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        if let (Some(name), Some(stored)) = (alone, stored)
            && !given.contains_key(name)
            && cover(*kind, parent, key, stored) != *stored
        {
            return stored.clone();
        }
        match tree::replaced(text, &|name| given.get(name).cloned()) {
            Ok(text) => Json::from(text),
            Err((found, _)) => {
                faults.push(Fault::new(
                    path.clone(),
                    found,
                    "`secrets: { NAME: value }` beside the sections, or the value itself".to_owned(),
                ));
                Json::Null
            }
        }
    }
}

/// Whether a value is what is shown in place of a secret.
fn stands_for_a_secret(kind: DocumentKind, parent: &str, key: &str, leaf: &Json) -> bool {
    let Some(text) = leaf.as_str().filter(|text| text.contains(MASK)) else { return false };
    let always = cover(kind, parent, key, &json!("x")) == MASK;
    if always { text == MASK } else { text.contains("://") && cover(kind, parent, key, leaf) == *leaf }
}

/// A body with changes, as RFC 7396 has them: what is null goes away, what is not given stays.
pub fn patched(body: &Body, patch: &Body) -> Body {
    let mut whole = body.clone();
    for (key, change) in patch {
        match change {
            Json::Null => _ = whole.remove(key),
            Json::Object(inner) => {
                let old = whole.get(key).and_then(Json::as_object).cloned().unwrap_or_default();
                whole.insert(key.clone(), Json::Object(patched(&old, inner)));
            }
            value @ (Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_)) => _ = whole.insert(key.clone(), value.clone()),
        }
    }
    whole
}

/// A body that is written in YAML.
pub fn of_yaml(bytes: &[u8]) -> Result<Body, Vec<Fault>> {
    let mut problems = Problems::default();
    // A `${…}` stays as it is written, for whoever judges documents to find; `$$` stays too.
    let root = tree::parse_literally("the body", bytes, &mut problems);
    let faults: Vec<Fault> = problems
        .kept()
        .iter()
        .map(|problem| {
            let Problem { at, found, accepted, nearest } = problem;
            let found = format!("line {}, column {}: {found}", at.line, at.column);
            Fault { path: String::new(), found, accepted: accepted.clone(), nearest: nearest.clone() }
        })
        .collect();
    match root.map(|root| json_of(&root)) {
        _ if !faults.is_empty() => Err(faults),
        None => Ok(Body::new()),
        Some(Json::Object(body)) => Ok(body),
        Some(_) => Err(vec![Fault::new("", "a body that is not a mapping", "`key: value`".to_owned())]),
    }
}

/// A node's value: plain words that JSON has too become those, if they are written alike there.
pub fn json_of(node: &Node) -> Json {
    match &node.value {
        Value::Null | Value::Broken => Json::Null,
        Value::Scalar { text, quoted: false, .. } => match text.as_str() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            text => serde_json::from_str::<serde_json::Number>(text)
                .ok()
                .filter(|number| number.to_string() == text)
                .map_or_else(|| Json::from(text), Json::Number),
        },
        Value::Scalar { text, .. } => Json::from(text.as_str()),
        Value::Seq(items) => Json::Array(items.iter().map(json_of).collect()),
        Value::Map(entries) => Json::Object(entries.iter().map(|(key, _, value)| (key.clone(), json_of(value))).collect()),
    }
}

/// A monitor in V-Insight's flat form as a document; `None` if it is not in that form.
pub fn of_v_insight(sent: &Body) -> Option<Result<Body, Vec<Fault>>> {
    if !sent.contains_key("url") || sent.contains_key("probe") {
        return None;
    }
    Some(v_insight(sent))
}

fn v_insight(sent: &Body) -> Result<Body, Vec<Fault>> {
    const KEYS: [&str; 7] = ["check_interval", "check_ssl", "enabled", "name", "ssl_alert_days", "timeout", "url"];
    let mut faults = Vec::new();
    for key in sent.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        faults.push(Fault::new(
            key.clone(),
            format!("unknown key `{}`", shown(key)),
            format!("{}; or a monitor with `probe`", KEYS.join(", ")),
        ));
    }
    let mut number = |key: &str, default: i64| match sent.get(key) {
        None | Some(Json::Null) => default,
        Some(value) => value.as_i64().unwrap_or_else(|| {
            faults.push(Fault::new(key, format!("found `{value}`"), "a whole number".to_owned()));
            default
        }),
    };
    let (every, timeout, days) = (number("check_interval", 300), number("timeout", 30), number("ssl_alert_days", 30));
    let mut flag = |key: &str| match sent.get(key) {
        None | Some(Json::Null) => true,
        Some(value) => value.as_bool().unwrap_or_else(|| {
            faults.push(Fault::new(key, format!("found `{value}`"), "true or false".to_owned()));
            true
        }),
    };
    let (enabled, check_ssl) = (flag("enabled"), flag("check_ssl"));
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut alerts = vec![json!({ "down": {} })];
    let https = sent.get("url").and_then(Json::as_str).is_some_and(|url| url.starts_with("https://"));
    if check_ssl && https {
        alerts.push(json!({ "ssl_expiry": { "within": format!("{days}d") } }));
    }
    let mut body = Body::new();
    if let Some(name) = sent.get("name") {
        body.insert("name".to_owned(), name.clone());
    }
    body.insert("probe".to_owned(), json!({ "http": { "url": sent.get("url") } }));
    body.insert("every".to_owned(), json!(format!("{every}s")));
    // An attempt never lasts longer than the pause to the next.
    body.insert("timeout".to_owned(), json!(format!("{}s", timeout.min(every))));
    body.insert("alerts".to_owned(), Json::Array(alerts));
    if !enabled {
        body.insert("paused".to_owned(), json!(true));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::Key;
    use crate::config::load_texts;

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
    fn secrets_are_covered_and_filled_in_again() {
        let stored = body(json!({
            "name": "a", "probe": { "http": {
                "url": "https://u:p@x/?token=t&a=b", "bearer_token": "s", "headers": { "X-Key": "k", "X-Team": "web" }, "body": "{}",
                "basic_auth": { "username": "u", "password": "p" },
            } },
        }));
        let shown = without_secrets(DocumentKind::Monitor, &stored);
        assert_eq!(
            Json::Object(shown.clone()),
            json!({ "name": "a", "probe": { "http": {
                "url": "https://***@x/?token=***&a=b", "bearer_token": "***", "headers": { "X-Key": "***", "X-Team": "web" }, "body": "***",
                "basic_auth": { "username": "u", "password": "***" },
            } } })
        );
        assert_eq!(with_secrets(DocumentKind::Monitor, &shown, Some(&stored)).unwrap(), stored);
        let mut changed = shown.clone();
        changed["probe"]["http"]["bearer_token"] = json!("new");
        changed["probe"]["http"]["headers"] = json!({ "X-Key": "***", "X-Other-Key": "***" });
        changed["probe"]["http"]["url"] = json!("https://***@y/");
        let paths: Vec<String> =
            with_secrets(DocumentKind::Monitor, &changed, Some(&stored)).unwrap_err().into_iter().map(|fault| fault.path).collect();
        let nothing = ["probe.http.headers.X-Other-Key", "probe.http.url"];
        let elsewhere = ["probe.http.basic_auth.password", "probe.http.body", "probe.http.headers.X-Key"];
        assert_eq!(paths, [&nothing[..], &elsewhere].concat(), "what stands for nothing that is stored there, and what would go elsewhere");
        let channel = body(
            json!({ "name": "c", "webhook": { "url": "https://hooks.example.org/T0/B0?x=y", "headers": { "X-A": "1" }, "secret": "s" } }),
        );
        let shown = without_secrets(DocumentKind::Channel, &channel);
        assert_eq!(
            Json::Object(shown.clone()),
            json!({ "name": "c", "webhook": { "url": "https://hooks.example.org/***", "headers": { "X-A": "***" }, "secret": "***" } })
        );
        assert_eq!(with_secrets(DocumentKind::Channel, &shown, Some(&channel)).unwrap(), channel);
    }

    #[test]
    fn of_a_status_page_only_the_password_is_a_secret() {
        let stored = body(json!({
            "name": "public", "password": "correct horse", "groups": [{ "titles": { "password": "Passwords", "token": "Tokens" } }],
            "messages": [{ "title": "T", "text": "See https://u@example.org/?token=t", "at": "2026-12-01 02:00" }],
        }));
        let shown = without_secrets(DocumentKind::StatusPage, &stored);
        let mut wanted = stored.clone();
        wanted["password"] = json!("***");
        assert_eq!(Json::Object(shown.clone()), Json::Object(wanted));
        assert_eq!(with_secrets(DocumentKind::StatusPage, &shown, Some(&stored)).unwrap(), stored);
    }

    #[test]
    fn a_patch_is_merged_as_rfc_7396_has_it() {
        let whole = body(json!({ "a": "b", "c": { "d": "e", "f": "g" }, "l": [1, 2] }));
        let patch = body(json!({ "a": "z", "c": { "f": null, "n": { "x": null, "y": 1 } }, "l": [3], "none": null }));
        assert_eq!(Json::Object(patched(&whole, &patch)), json!({ "a": "z", "c": { "d": "e", "n": { "y": 1 } }, "l": [3] }));
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
