//! The canonical form of a monitor: its tree with what it inherits, keys in order, comments and layout gone.
//!
//! It exists in two forms. The shown one replaces secrets by `***` and keeps `${NAME}` as written: it is stored, returned by
//! the API and exported. The hashed one has every value, and the contents of the files it names, and is never kept: equal
//! hashes mean that nothing about the monitor changed.

use super::alert::AlertConfig;
use super::decode::{Node, Value, beside, read_regular};
use super::documents::DocumentKind;
use super::fleet::TenantConfig;
use super::status_pages::StatusPageConfig;
use crate::channel::MASK;
use crate::seal::Keys;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Values of these keys are never shown, wherever they stand. `body` and `send` often hold a password in plain sight.
const SECRET_KEYS: &[&str] = &["password", "bearer_token", "bot_token", "token", "secret", "body", "send"];

/// A header or query parameter whose name contains one of these is never shown.
const SECRET_WORDS: &[&str] = &["auth", "cookie", "key", "pass", "secret", "session", "sig", "token"];

/// At most so much of a named file goes into the hash: more than any key or chain, and no way to read a disk.
const HASHED_FILE_MAX: u64 = 1024 * 1024;

/// The shown form.
pub(super) fn shown(node: &Node, defaults: Option<&Node>, inherited: &[&str], kind: &str) -> String {
    let mut map = effective(node, defaults, inherited).into_iter().map(|(k, n)| (k.to_owned(), show(k, n))).collect::<Map<_, _>>();
    map.insert("kind".to_owned(), Json::from(kind));
    Json::Object(map).to_string()
}

/// SHA-256 over the hashed form.
pub(super) fn hash(node: &Node, defaults: Option<&Node>, inherited: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut entries = effective(node, defaults, inherited);
    entries.sort_by_key(|(key, _)| *key);
    for (key, value) in entries {
        feed(key, value, &mut hash);
    }
    hash.finalize().into()
}

/// The hash of everything that all nodes must agree on. `places` adds where it stands in which file, which does not change anything
/// but is stored with it, and may differ from node to node.
pub(super) fn fleet_hash(tenants: &[TenantConfig], exclusive: &BTreeSet<String>, keys: Option<&Keys>, places: bool) -> [u8; 32] {
    let mut hash = Sha256::new();
    for code in exclusive {
        put(&mut hash, 'x', code.as_bytes());
    }
    // A node with other keys would leave out what this one seals.
    for id in keys.into_iter().flat_map(Keys::ids) {
        put(&mut hash, 'y', id.as_bytes());
    }
    for tenant in tenants {
        put(&mut hash, 't', tenant.slug.as_bytes());
        for channel in &tenant.channels {
            put(&mut hash, 'c', channel.name.as_bytes());
            hash.update(channel.kind.hash(&channel.common));
        }
        for monitor in &tenant.monitors {
            hash.update(monitor.hash);
            for rule in &monitor.alerts {
                put(&mut hash, 'z', rule.chosen.words().as_bytes());
            }
            if places {
                put(&mut hash, 'o', monitor.at.to_string().as_bytes());
            }
        }
        for window in &tenant.maintenance {
            let (matcher, when) = window.stored();
            for text in [&window.name, &matcher, &when] {
                put(&mut hash, 'w', text.as_bytes());
            }
            if places {
                put(&mut hash, 'o', window.at.to_string().as_bytes());
            }
        }
        for report in &tenant.reports {
            for text in [&report.name, &report.pace].into_iter().chain(&report.notify) {
                put(&mut hash, 'p', text.as_bytes());
            }
        }
        for piece in tenant.status_pages.iter().flat_map(StatusPageConfig::pieces) {
            put(&mut hash, 's', piece.as_bytes());
        }
        for name in &tenant.announce {
            put(&mut hash, 'a', name.as_bytes());
        }
    }
    hash.finalize().into()
}

/// Adds what a monitor's rules resolved to: who is told, and when, depends on channels and routes that the monitor need not name.
pub(super) fn with_routes(hash: [u8; 32], rules: &[AlertConfig]) -> [u8; 32] {
    let mut whole = Sha256::new();
    whole.update(hash);
    for rule in rules {
        let channels: Vec<&str> = rule.notify.iter().flatten().map(|(name, _)| name.as_str()).collect();
        put(&mut whole, 'r', &(channels.len() as u64).to_be_bytes());
        for name in channels {
            put(&mut whole, 'n', name.as_bytes());
            for hours in rule.hours.get(name).into_iter().flatten() {
                put(&mut whole, 'h', hours.canonical().as_bytes());
            }
        }
    }
    whole.finalize().into()
}

/// The monitor's entries, and those of `defaults` that it inherits.
fn effective<'n>(node: &'n Node, defaults: Option<&'n Node>, inherited: &[&str]) -> Vec<(&'n str, &'n Node)> {
    let entries = |node: &'n Node| match &node.value {
        Value::Map(entries) => entries.as_slice(),
        Value::Null | Value::Broken | Value::Scalar { .. } | Value::Seq(_) => &[],
    };
    let own: Vec<(&str, &Node)> =
        entries(node).iter().filter(|(_, _, n)| !matches!(n.value, Value::Null)).map(|(k, _, n)| (k.as_str(), n)).collect();
    let has = |key: &str| own.iter().any(|(k, _)| *k == key);
    // `every` and `cron` exclude one another.
    let paced = has("every") || has("cron");
    let more: Vec<(&str, &Node)> = defaults
        .map_or(&[][..], entries)
        .iter()
        .filter(|(k, _, _)| inherited.contains(&k.as_str()) && !has(k) && !(paced && (k == "every" || k == "cron")))
        .map(|(k, _, n)| (k.as_str(), n))
        .collect();
    own.into_iter().chain(more).collect()
}

fn is_secret_word(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

fn show(key: &str, node: &Node) -> Json {
    match &node.value {
        Value::Null | Value::Broken => Json::Null,
        Value::Scalar { .. } if SECRET_KEYS.contains(&key) => Json::from(MASK),
        Value::Scalar { written: Some(written), .. } => Json::from(without_credentials(written)),
        Value::Scalar { text, quoted: false, .. } => match text.as_str() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            text => text.parse::<i64>().map_or_else(|_| Json::from(without_credentials(text)), Json::from),
        },
        Value::Scalar { text, .. } => Json::from(without_credentials(text)),
        Value::Seq(items) => Json::Array(items.iter().map(|item| show(key, item)).collect()),
        Value::Map(entries) => {
            let masked = |name: &str, value: &Node| {
                if key == "headers" && is_secret_word(name) { Json::from(MASK) } else { show(name, value) }
            };
            Json::Object(entries.iter().map(|(name, _, value)| (name.clone(), masked(name, value))).collect())
        }
    }
}

/// One value of a document as it may be shown: `***` if it is a secret, by its key and by that of the mapping around it.
pub(super) fn cover(kind: DocumentKind, parent: &str, key: &str, leaf: &Json) -> Json {
    if leaf.is_null() {
        return Json::Null;
    }
    // All but its password is for strangers, whatever it looks like; a monitor in `titles` may have any name.
    if kind == DocumentKind::StatusPage {
        return if parent.is_empty() && key == "password" { Json::from(MASK) } else { leaf.clone() };
    }
    let header = parent == "headers" && (kind == DocumentKind::Channel || is_secret_word(key));
    if header || SECRET_KEYS.contains(&key) {
        return Json::from(MASK);
    }
    match leaf.as_str() {
        // The path of a hook is what opens it.
        Some(text) if kind == DocumentKind::Channel && key == "url" => Json::from(origin_alone(text)),
        Some(text) => Json::from(without_credentials(text)),
        None => leaf.clone(),
    }
}

/// A URL whose path is a secret.
fn origin_alone(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return MASK.to_owned() };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}/{MASK}")
}

/// A text in which the credentials and secret parameters of a URL are replaced.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority = authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, host)| format!("{MASK}@{host}"));
    let tail = match tail.split_once('?') {
        None => tail.to_owned(),
        Some((path, query)) => {
            let shown: Vec<String> = query
                .split('&')
                .map(|pair| match pair.split_once('=') {
                    Some((name, _)) if is_secret_word(name) => format!("{name}={MASK}"),
                    Some(_) | None => pair.to_owned(),
                })
                .collect();
            format!("{path}?{}", shown.join("&"))
        }
    };
    format!("{scheme}://{authority}{tail}")
}

/// One length-marked piece, so that no two trees feed the same bytes.
fn put(hash: &mut Sha256, what: char, bytes: &[u8]) {
    hash.update([what as u8]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

fn feed(key: &str, node: &Node, hash: &mut Sha256) {
    put(hash, 'k', key.as_bytes());
    match &node.value {
        Value::Null | Value::Broken => put(hash, '0', b""),
        Value::Scalar { text, quoted, .. } => {
            put(hash, if *quoted { 'q' } else { 'p' }, text.as_bytes());
            if key.ends_with("_file") && !node.at.in_document() {
                // A file that cannot be read is its decoder's problem; here it only has no content.
                let content = read_regular(&beside(&node.at, text), HASHED_FILE_MAX).unwrap_or_default();
                put(hash, 'f', &content);
            }
        }
        Value::Seq(items) => {
            put(hash, 's', &(items.len() as u64).to_be_bytes());
            for item in items {
                feed("", item, hash);
            }
        }
        Value::Map(entries) => {
            put(hash, 'm', &(entries.len() as u64).to_be_bytes());
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(name, _, _)| name);
            for (name, _, value) in sorted {
                feed(name, value, hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn credentials_of_urls_are_not_shown() {
        let cases = [
            ("https://user:pass@host/p?a=1&api_key=x#f", "https://***@host/p?a=1&api_key=***"),
            ("https://host/p@q", "https://host/p@q"),
            ("https://host?token=x", "https://host?token=***"),
            ("plain", "plain"),
        ];
        for (text, want) in cases {
            assert_eq!(without_credentials(text), want);
        }
    }
}
