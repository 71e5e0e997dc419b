//! A body of the operator's own: a template over the fields of our document.
//!
//! It is tried with one message of each kind when the configuration is read, so that a mistake in it is found then and not at
//! the first incident. It is the operator's own text: fuel and sizes end a mistake, they do not contain an enemy. Nothing can be
//! added up over the turns of a loop, so that what is kept in memory grows with the template and not with its fuel.

use super::document::document;
use crate::channel::{Style, sample, text};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::Value;
use std::fmt;
use std::io;

/// A template has at most so many bytes. More is a program; less would not hold a rich chat card.
pub(super) const SOURCE_MAX: usize = 16 * 1024;
/// What it makes has at most so many bytes. Receivers refuse larger bodies; less would cut a digest.
const BODY_MAX: usize = 256 * 1024;
/// So many steps of its machine are taken: a digest of twenty incidents takes a few hundred. More lets a mistake hold up a deliverer.
const FUEL: u64 = 50_000;

/// A loop that calls itself goes so deep. More lets it double a text beyond any memory; trees in our documents are not even this deep.
const RECURSION_MAX: usize = 12;

/// A template and what it makes.
#[derive(Clone)]
pub(super) struct Template {
    pub(super) source: String,
    pub(super) content_type: String,
}

/// Without the text, which may hold a credential.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("content_type", &self.content_type).finish_non_exhaustive()
    }
}

impl Template {
    /// The body for this document.
    ///
    /// # Errors
    /// What is wrong with the template, for its author; the text has one line.
    pub(super) fn render(&self, document: &Value) -> Result<Vec<u8>, String> {
        let mut env = Environment::new();
        env.set_auto_escape_callback(|_| AutoEscape::None);
        // Half of the document is null in any one message: what is not there is nothing, not a fault.
        env.set_undefined_behavior(UndefinedBehavior::Chainable);
        env.set_fuel(Some(FUEL));
        // What a loop adds up in one has no size that fuel would count: text that is doubled forty times fills any memory.
        env.remove_global("namespace");
        env.set_recursion_limit(RECURSION_MAX);
        let words = |error: minijinja::Error| one_line(&error);
        let template = env.template_from_named_str("body", &self.source).map_err(words)?;
        let mut out = Bounded(Vec::new());
        template.render_captured_to(Serde(document), &mut out).map_err(words)?;
        Ok(out.0)
    }

    /// Renders one message of each kind: the first fault, if there is one.
    pub(super) fn try_all(&self) -> Result<(), String> {
        let json = self.content_type.to_ascii_lowercase().contains("json");
        let is_json = |body: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(body);
        for (what, content) in sample::all() {
            let told = text::text(&content, Style::default(), sample::NOW);
            let mut document = document(&content, &told, "key", sample::NOW);
            let body = self.render(&document)?;
            if json {
                is_json(&body).map_err(|error| format!("what it makes of a message ({what}) is not JSON: {error}"))?;
                // Words of others hold quotes, and may do so on purpose.
                quote(&mut document);
                let advice = "write {{ value|tojson }} without quotes around it";
                is_json(&self.render(&document)?).map_err(|error| {
                    format!("what it makes of a message ({what}) whose texts hold quotes is not JSON: {error}; {advice}")
                })?;
            }
        }
        Ok(())
    }
}

/// Where a document holds words that are not ours: what a target, a job, a person or the configuration says.
const FOREIGN: [&str; 9] = ["text", "title", "summary", "detail", "name", "target", "actor", "comment", "error"];

/// Puts into every text that is not ours what ends a JSON string.
fn quote(document: &mut Value) {
    match document {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let Value::String(text) = value
                    && FOREIGN.contains(&key.as_str())
                {
                    text.push_str("\"\\\n");
                } else if let Value::Object(labels) = value
                    && key == "labels"
                {
                    labels.values_mut().for_each(|label| *label = Value::from("a \"label\""));
                } else {
                    quote(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(quote),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// minijinja's account of an error without its listing of the source.
fn one_line(error: &minijinja::Error) -> String {
    let place = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{}{place}{detail}", error.kind()).replace('\n', " ")
}

/// A buffer that refuses to grow beyond [`BODY_MAX`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > BODY_MAX {
            return Err(io::Error::other(format!("the body is larger than {BODY_MAX} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(source: &str, content_type: &str) -> Result<(), String> {
        Template { source: source.to_owned(), content_type: content_type.to_owned() }.try_all()
    }

    #[test]
    fn good_templates_pass_with_every_message() {
        assert_eq!(tried(r#"{"text": {{ text|tojson }}, "rule": {{ incident.rule|default("")|tojson }}}"#, "application/json"), Ok(()));
        assert_eq!(tried("{% for w in digest.words %}{{ w.monitor.name }}\n{% endfor %}{{ node.a.b.c }}", "text/plain"), Ok(()));
    }

    #[test]
    fn bad_templates_are_found_before_the_first_incident() {
        for (source, told) in [
            ("{% if %}", "syntax error in line 1"),
            ("{{ text|nothing }}", "unknown filter in line 1"),
            (r#"{"text": "{{ text }}"}"#, "is not JSON"),
            (r#"{"s": "{{ incident.summary }}"}"#, "whose texts hold quotes is not JSON"),
            (r#"{"s": "{{ monitor.name }}"}"#, "|tojson"),
            ("{% for a in range(9999) %}{% for b in range(9999) %}.{% endfor %}{% endfor %}", "fuel"),
            (r#"{{ "x" * 1000000 }}"#, ""),
            (r#"{% set n = namespace(s="x") %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s|length }}"#, "namespace"),
            (r#"{% for s in ["x"] recursive %}{{ loop([s ~ s]) }}{% endfor %}"#, "recursion"),
        ] {
            let fault = tried(source, "application/json").expect_err(source);
            assert!(fault.contains(told) && !fault.contains('\n'), "{source}: {fault}");
        }
    }

    #[test]
    fn what_a_loop_sets_is_gone_with_its_turn() {
        let source = r#"{% set s = "xy" %}{% for i in range(40) %}{% set s = s ~ s %}{{ s|length if i > 37 }}{% endfor %}{{ s }}"#;
        let template = Template { source: source.to_owned(), content_type: "text/plain".to_owned() };
        assert_eq!(template.render(&serde_json::json!({})).unwrap(), b"44xy");
    }

    #[test]
    fn nothing_is_escaped_but_by_request() {
        let template = Template { source: "<{{ text }}>".to_owned(), content_type: "text/html".to_owned() };
        assert_eq!(template.render(&serde_json::json!({ "text": "<b>&" })).unwrap(), b"<<b>&>");
    }
}
