//! Secrets in bodies: covered when they are shown, taken out to be sealed, put back where somebody sends what stands for one.
//!
//! What is a secret says [`cover`], by kind and key. A stored secret is never sent where it was not sent before: whoever changes an address
//! gives it anew.

use super::super::canonical::cover;
use super::super::{addresses, tree};
use super::{Body, DocumentKind, Fault, below};
use crate::channel::MASK;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn body(value: Json) -> Body {
        let Json::Object(body) = value else { panic!("{value} is no mapping") };
        body
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
}
