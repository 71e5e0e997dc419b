//! What a response must be like to count as up.
//!
//! Patterns and paths are compiled when the configuration is read. A path is a small subset of JSONPath
//! (RFC 9535): `$`, then any number of `.name`, `["name"]` and `[0]`.

use crate::config::decode::{self, Fields, Key, Node, Problems, Value, entries, list, parsed, text, wrong};
use crate::net::Fault;
use http::response::Parts;
use http::{HeaderName, HeaderValue};
use regex::bytes::Regex;
use serde_json::Value as Json;
use std::ops::RangeInclusive;
use watchkeeper_core::Reason;

/// Expectations of one kind per monitor. More belong into a test suite.
const ITEMS_MAX: usize = 32;

/// Keys of `expect:`.
pub const EXPECT_KEYS: &[Key] = &[
    Key {
        name: "status",
        form: "a status such as 200, a range such as 200-299 or 2xx, or a list of them",
        default: "[200-299]",
        doc: "Which statuses count as up.",
    },
    Key { name: "body_contains", form: "a text or a list of texts", default: "[]", doc: "Every one of these must stand in the body." },
    Key { name: "body_not_contains", form: "a text or a list of texts", default: "[]", doc: "None of these may stand in the body." },
    Key {
        name: "body_matches",
        form: "a regular expression or a list of them",
        default: "[]",
        doc: "Every one of these must match somewhere in the body.",
    },
    Key {
        name: "json",
        form: "a mapping of paths such as $.a.b[0] to values",
        default: "{}",
        doc: "The body must be JSON with these values at these paths.",
    },
    Key {
        name: "headers",
        form: "a mapping of header names to values or /patterns/",
        default: "{}",
        doc: "These headers must be there with this value, or one that the pattern between slashes matches.",
    },
];

/// A text or pattern to look for, and how it was written.
#[derive(Clone, Debug)]
struct Look {
    written: String,
    pattern: Regex,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

/// A value at a place in JSON.
#[derive(Clone, Debug)]
struct JsonLook {
    written: String,
    path: Vec<Step>,
    value: Json,
}

/// What a header must be.
#[derive(Clone, Debug)]
enum HeaderLook {
    Is(String),
    Matches(Look),
}

/// Everything a response must be like.
#[derive(Clone, Debug)]
pub struct Expect {
    status: Vec<RangeInclusive<u16>>,
    contains: Vec<Look>,
    not_contains: Vec<Look>,
    matches: Vec<Look>,
    json: Vec<JsonLook>,
    headers: Vec<(HeaderName, HeaderLook)>,
}

impl Default for Expect {
    fn default() -> Self {
        Self {
            status: vec![200..=299],
            contains: Vec::new(),
            not_contains: Vec::new(),
            matches: Vec::new(),
            json: Vec::new(),
            headers: Vec::new(),
        }
    }
}

impl Expect {
    /// Reads the section; `None` after a problem was noted.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.told();
        let fields = Fields::open(node, EXPECT_KEYS, problems)?;
        let mut expect = Self::default();
        if let Some(ranges) = fields.get("status").and_then(|n| bounded(n, problems, status_range)) {
            expect.status = ranges;
        }
        let literal = |n: &Node, p: &mut Problems| text(n, p).and_then(|t| Look::text(&t, n, p));
        let pattern = |n: &Node, p: &mut Problems| text(n, p).and_then(|t| Look::pattern(&t, n, p));
        let mut looks = |key, item: &dyn Fn(&Node, &mut Problems) -> Option<Look>| {
            fields.get(key).and_then(|n| bounded(n, problems, item)).unwrap_or_default()
        };
        expect.contains = looks("body_contains", &literal);
        expect.not_contains = looks("body_not_contains", &literal);
        expect.matches = looks("body_matches", &pattern);
        if let Some(node) = fields.get("json") {
            expect.json = json_looks(node, problems);
        }
        if let Some(node) = fields.get("headers") {
            expect.headers = header_looks(node, problems);
        }
        (problems.told() == before).then_some(expect)
    }

    /// Whether the body itself is looked at, so that all of it must be kept.
    pub fn needs_body(&self) -> bool {
        !(self.contains.is_empty() && self.not_contains.is_empty() && self.matches.is_empty() && self.json.is_empty())
    }

    /// Judges a complete response; the first expectation that is not met is told.
    pub fn judge(&self, head: &Parts, body: &[u8]) -> Result<(), Fault> {
        let status = head.status.as_u16();
        if !self.status.iter().any(|range| range.contains(&status)) {
            return Err(Fault::down(Reason::HttpStatus, format!("status {status}, expected {}", self.shown_status())));
        }
        for (name, look) in &self.headers {
            look.judge(name, head)?;
        }
        for look in &self.contains {
            if !look.pattern.is_match(body) {
                return Err(Fault::down(Reason::HttpTextMissing, format!("the body does not contain `{}`", look.written)));
            }
        }
        for look in &self.not_contains {
            if look.pattern.is_match(body) {
                return Err(Fault::down(Reason::HttpTextPresent, format!("the body contains `{}`", look.written)));
            }
        }
        for look in &self.matches {
            if !look.pattern.is_match(body) {
                return Err(Fault::down(Reason::HttpPatternMissing, format!("nothing in the body matches /{}/", look.written)));
            }
        }
        self.judge_json(body)
    }

    fn judge_json(&self, body: &[u8]) -> Result<(), Fault> {
        if self.json.is_empty() {
            return Ok(());
        }
        let document: Json =
            serde_json::from_slice(body).map_err(|e| Fault::down(Reason::HttpJson, format!("the body is not JSON: {e}")))?;
        for look in &self.json {
            let found = look.path.iter().try_fold(&document, |at, step| match step {
                Step::Name(name) => at.get(name),
                Step::Index(index) => at.get(index),
            });
            match found {
                Some(found) if same(found, &look.value) => {}
                Some(found) => {
                    let text = format!("{} is {}, expected {}", look.written, decode::shown(&found.to_string()), look.value);
                    return Err(Fault::down(Reason::HttpJson, text));
                }
                None => {
                    return Err(Fault::down(
                        Reason::HttpJson,
                        format!("there is no {} in the body, expected {}", look.written, look.value),
                    ));
                }
            }
        }
        Ok(())
    }

    fn shown_status(&self) -> String {
        let range =
            |r: &RangeInclusive<u16>| if r.start() == r.end() { r.start().to_string() } else { format!("{}-{}", r.start(), r.end()) };
        self.status.iter().map(range).collect::<Vec<_>>().join(", ")
    }
}

impl Look {
    fn text(written: &str, node: &Node, problems: &mut Problems) -> Option<Self> {
        if written.is_empty() {
            wrong(node, "a text that is not empty", problems);
            return None;
        }
        Self::compile(written, &regex::escape(written), node, problems)
    }

    fn pattern(written: &str, node: &Node, problems: &mut Problems) -> Option<Self> {
        Self::compile(written, written, node, problems)
    }

    fn compile(written: &str, pattern: &str, node: &Node, problems: &mut Problems) -> Option<Self> {
        match Regex::new(pattern) {
            Ok(pattern) => Some(Self { written: decode::shown(written), pattern }),
            Err(error) => {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                problems.add(
                    &node.at,
                    format!("`{}` is not a regular expression: {why}", decode::shown(written)),
                    "the syntax of the regex crate".to_owned(),
                );
                None
            }
        }
    }
}

impl HeaderLook {
    fn judge(&self, name: &HeaderName, head: &Parts) -> Result<(), Fault> {
        let fits = |value: &HeaderValue| match self {
            Self::Is(wanted) => value.as_bytes() == wanted.as_bytes(),
            Self::Matches(look) => look.pattern.is_match(value.as_bytes()),
        };
        if head.headers.get_all(name).iter().any(fits) {
            return Ok(());
        }
        let wanted = match self {
            Self::Is(wanted) => format!("`{}`", decode::shown(wanted)),
            Self::Matches(look) => format!("/{}/", look.written),
        };
        let text = match head.headers.get(name) {
            Some(_) if super::secret::is_secret_name(name.as_str()) => format!("the header {name} is not {wanted}"),
            Some(found) => {
                format!("the header {name} is `{}`, expected {wanted}", decode::shown(&String::from_utf8_lossy(found.as_bytes())))
            }
            None => format!("there is no header {name}, expected {wanted}"),
        };
        Err(Fault::down(Reason::HttpHeader, text))
    }
}

/// Equal as JSON; numbers by value, so that 1 and 1.0 are the same.
fn same(a: &Json, b: &Json) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(x), Some(y)) => a == b || (x - y).abs() < f64::EPSILON * x.abs().max(1.0),
        (None, _) | (_, None) => a == b,
    }
}

fn bounded<T>(node: &Node, problems: &mut Problems, item: impl FnMut(&Node, &mut Problems) -> Option<T>) -> Option<Vec<T>> {
    let items = list(node, problems, item)?;
    if items.len() > ITEMS_MAX {
        problems.add(&node.at, format!("{} items", items.len()), format!("at most {ITEMS_MAX}"));
        return None;
    }
    Some(items)
}

fn status_range(node: &Node, problems: &mut Problems) -> Option<RangeInclusive<u16>> {
    parsed(node, "a status from 100 to 599, a range such as 200-299, or 2xx", problems, |t| {
        if let Some(class) = t.strip_suffix("xx") {
            let class: u16 = class.parse().ok().filter(|c| (1..=5).contains(c))?;
            return Some(class * 100..=class * 100 + 99);
        }
        let (from, to) = t.split_once('-').unwrap_or((t, t));
        let (from, to): (u16, u16) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (100 <= from && from <= to && to <= 599).then_some(from..=to)
    })
}

fn json_looks(node: &Node, problems: &mut Problems) -> Vec<JsonLook> {
    let given = entries(node, problems, |n, _| json_value(n).map(|v| (n.clone(), v))).unwrap_or_default();
    if given.len() > ITEMS_MAX {
        problems.add(&node.at, format!("{} paths", given.len()), format!("at most {ITEMS_MAX}"));
    }
    let mut looks = Vec::with_capacity(given.len());
    for (written, (at, value)) in given {
        match parse_path(&written) {
            Some(path) => looks.push(JsonLook { written, path, value }),
            None => problems.add(
                &at.at,
                format!("`{}` is not a path", decode::shown(&written)),
                "`$` and then .name, [\"name\"] or [0]".to_owned(),
            ),
        }
    }
    looks
}

fn header_looks(node: &Node, problems: &mut Problems) -> Vec<(HeaderName, HeaderLook)> {
    let given = entries(node, problems, |n, problems| text(n, problems).map(|t| (n.clone(), t))).unwrap_or_default();
    let mut looks = Vec::with_capacity(given.len());
    for (name, (at, wanted)) in given {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            problems.add(&at.at, format!("`{}` is not a header name", decode::shown(&name)), "a token (RFC 9110)".to_owned());
            continue;
        };
        let pattern = wanted.strip_prefix('/').and_then(|w| w.strip_suffix('/')).filter(|p| !p.is_empty());
        let look = match pattern {
            Some(pattern) => Look::pattern(pattern, &at, problems).map(HeaderLook::Matches),
            None => Some(HeaderLook::Is(wanted)),
        };
        looks.extend(look.map(|look| (name, look)));
    }
    looks
}

/// A value of the file as JSON: unquoted numbers, `true`, `false` and `null` are what they look like.
fn json_value(node: &Node) -> Option<Json> {
    match &node.value {
        Value::Null => Some(Json::Null),
        Value::Broken => None,
        Value::Scalar { text, quoted: true, .. } => Some(Json::String(text.clone())),
        Value::Scalar { text, quoted: false, .. } => {
            let plain = serde_json::from_str(text).ok().filter(|v: &Json| v.is_number() || v.is_boolean());
            Some(plain.unwrap_or_else(|| Json::String(text.clone())))
        }
        Value::Seq(items) => items.iter().map(json_value).collect::<Option<Vec<_>>>().map(Json::Array),
        Value::Map(items) => {
            let pairs = items.iter().map(|(k, _, n)| json_value(n).map(|v| (k.clone(), v)));
            pairs.collect::<Option<serde_json::Map<_, _>>>().map(Json::Object)
        }
    }
}

fn parse_path(written: &str) -> Option<Vec<Step>> {
    let mut rest = written.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, left) = after.split_at(end);
            steps.push(Step::Name(Some(name).filter(|n| !n.is_empty())?.to_owned()));
            rest = left;
        } else {
            let inside = rest.strip_prefix('[')?;
            let (step, left) = bracketed(inside)?;
            steps.push(step);
            rest = left;
        }
    }
    Some(steps)
}

fn bracketed(inside: &str) -> Option<(Step, &str)> {
    for quote in ['"', '\''] {
        if let Some(after) = inside.strip_prefix(quote) {
            let (name, left) = after.split_once(quote)?;
            return Some((Step::Name(name.to_owned()), left.strip_prefix(']')?));
        }
    }
    let (index, left) = inside.split_once(']')?;
    Some((Step::Index(index.parse().ok()?), left))
}
