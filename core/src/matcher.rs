//! Which monitors and rules a silence, a maintenance window or a route is about.
//!
//! Everything that is given must match; what is not given matches all. Names may hold `*`, which stands for any text, and `\*`, which
//! stands for a star.

use crate::rule::Severity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is asked of a monitor and a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Matcher {
    /// The monitor's name; any of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub monitors: Vec<String>,
    /// Labels, every one of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The monitor's kind; any of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// The rule's key; any of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The rule's severity; any of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<Severity>,
}

/// What is matched.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The monitor's name.
    pub monitor: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its kind.
    pub kind: &'a str,
    /// The rule's key; `None` when the monitor as a whole is asked about, which a matcher for single rules never matches.
    pub rule: Option<&'a str>,
    /// The rule's severity, likewise.
    pub severity: Option<Severity>,
}

impl Matcher {
    /// Whether it asks for nothing, and so matches everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all that is asked for is there.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let any = |patterns: &[String], text: &str| patterns.is_empty() || patterns.iter().any(|p| glob(p, text));
        any(&self.monitors, subject.monitor)
            && any(&self.kinds, subject.kind)
            && self.labels.iter().all(|(name, pattern)| subject.labels.get(name).is_some_and(|value| glob(pattern, value)))
            && (self.rules.is_empty() || subject.rule.is_some_and(|rule| any(&self.rules, rule)))
            && (self.severities.is_empty() || subject.severity.is_some_and(|severity| self.severities.contains(&severity)))
    }
}

/// The pattern that matches this text alone.
pub fn literal(text: &str) -> String {
    text.replace('*', r"\*")
}

/// Whether the text fits the pattern, in which `*` stands for any text and `\*` for a star. Takes time in proportion to pattern times text
/// at the most.
pub fn glob(pattern: &str, text: &str) -> bool {
    // A star that stands for itself is hidden from the splitting as a character that no name holds.
    const STAR: char = '\0';
    let hidden = pattern.replace(r"\*", "\0");
    let shown = |part: &str| part.replace(STAR, "*");
    let Some((first, rest)) = hidden.split_once('*') else { return shown(&hidden) == text };
    let Some(mut left) = text.strip_prefix(&*shown(first)) else { return false };
    let mut parts = rest.split('*').map(shown).peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(&part);
        }
        let Some(at) = left.find(&part) else { return false };
        left = &left[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("shop", "shop", true),
            ("shop", "shops", false),
            ("shop*", "shop", true),
            ("*-db", "eu-db", true),
            ("*-db", "eu-db-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("*", "", true),
            ("**", "x", true),
            (r"p\*", "p*", true),
            (r"p\*", "p1", false),
            (r"*\**", "a*b", true),
            (r"*\**", "ab", false),
            (&literal("p*"), "p*", true),
            (&literal("p*"), "ps", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn everything_given_must_match() {
        let labels = BTreeMap::from([("team".to_owned(), "web".to_owned())]);
        let shop = Subject { monitor: "shop-eu", labels: &labels, kind: "http", rule: Some("down"), severity: Some(Severity::Critical) };
        let matcher = |text: &str| serde_json::from_str::<Matcher>(text).unwrap();
        for (text, fits) in [
            ("{}", true),
            (r#"{"monitors":["shop-*"]}"#, true),
            (r#"{"monitors":["db","shop-*"],"labels":{"team":"web"}}"#, true),
            (r#"{"labels":{"team":"db"}}"#, false),
            (r#"{"labels":{"room":"*"}}"#, false),
            (r#"{"kinds":["tcp"]}"#, false),
            (r#"{"rules":["slow_response/*"]}"#, false),
            (r#"{"rules":["down"],"severities":["critical"]}"#, true),
            (r#"{"severities":["info","warning"]}"#, false),
        ] {
            assert_eq!(matcher(text).matches(&shop), fits, "{text}");
        }
        let whole = Subject { rule: None, severity: None, ..shop };
        assert!(!matcher(r#"{"rules":["down"]}"#).matches(&whole));
        assert!(matcher("{}").matches(&whole));
    }
}
