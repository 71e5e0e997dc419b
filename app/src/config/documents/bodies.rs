//! Bodies of documents as they are sent: changes put into a whole one, YAML, and V-Insight's flat form.

use super::super::decode::{Node, Problem, Problems, Value, shown};
use super::super::tree;
use super::{Body, Fault};
use serde_json::{Value as Json, json};

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

    fn body(value: Json) -> Body {
        let Json::Object(body) = value else { panic!("{value} is no mapping") };
        body
    }

    #[test]
    fn a_patch_is_merged_as_rfc_7396_has_it() {
        let whole = body(json!({ "a": "b", "c": { "d": "e", "f": "g" }, "l": [1, 2] }));
        let patch = body(json!({ "a": "z", "c": { "f": null, "n": { "x": null, "y": 1 } }, "l": [3], "none": null }));
        assert_eq!(Json::Object(patched(&whole, &patch)), json!({ "a": "z", "c": { "d": "e", "n": { "y": 1 } }, "l": [3] }));
    }
}
