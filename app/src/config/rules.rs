//! One alert rule of a monitor at a time, in V-Insight's form.
//!
//! Rules stand in the `alerts` of their monitor and nowhere else: what is here makes another list of them, which is then put into the
//! monitor's document like any other change of it. A rule can say more than that form has room for (reminders, escalation, a phase); what
//! it has no room for stays as it is.

use super::alert::FAMILY;
use super::decode::{Problems, shown};
use super::documents::{Fault, json_of};
use super::export::parts;
use super::{named, tree};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;

/// A rule as it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct AskedRule<'a> {
    /// Which kind.
    pub trigger: &'a str,
    /// Its threshold, in the kind's own unit.
    pub threshold: Option<i64>,
    /// Its name, if it is to have one.
    pub name: Option<&'a str>,
    /// How bad, if that is said.
    pub severity: Option<&'a str>,
    /// Who is told, if that is said.
    pub channels: Option<&'a [String]>,
}

/// A rule as it is written, and what its monitor is to say beside it.
#[derive(Debug, PartialEq, Eq)]
pub struct WrittenRule {
    /// One item of `alerts`.
    pub item: Json,
    /// After how many failures in a row the monitor is down; it counts them, whatever rules it has.
    pub down_after: Option<i64>,
}

/// The identity of a rule in its monitor, as it is written; nothing if it is none.
pub fn key(item: &Json) -> Option<String> {
    item.get("name").and_then(Json::as_str).map(str::to_owned).or_else(|| usual_key(item))
}

/// What it is without a name.
fn usual_key(item: &Json) -> Option<String> {
    let kind = FAMILY.kinds.iter().find(|kind| item.get(kind.name).is_some())?.name;
    let phase = item[kind].get("phase").and_then(Json::as_str).unwrap_or("total");
    Some(if kind == "slow_response" { format!("{kind}/{phase}") } else { kind.to_owned() })
}

/// The rules that a monitor without `alerts` has, as it would have to write them itself: those of the `defaults` of its tenant's files, or the
/// usual ones. `keys` are those that it really has. Nothing if they cannot be told exactly, where a file uses variables in them, say.
pub fn inherited(files: &[(String, Vec<u8>)], tenant: &str, keys: &BTreeSet<String>) -> Option<Vec<Json>> {
    let roots = files.iter().filter_map(|(name, text)| tree::parse_literally(name, text, &mut Problems::default()));
    let written = roots.into_iter().find_map(|root| {
        let of_tenant = parts(&root, tenant);
        of_tenant.into_iter().find_map(|part| named::child(named::child(part, "defaults")?, "alerts").map(json_of))
    });
    let mut items = match written {
        None => vec![json!({ "down": {} })],
        Some(Json::Array(items)) if !Json::from(items.clone()).to_string().contains('$') => items,
        Some(_) => return None,
    };
    let has = |items: &[Json], wanted: &str| items.iter().any(|item| key(item).as_deref() == Some(wanted));
    if keys.contains("missed_push") && !has(&items, "missed_push") {
        // Whoever is pushed to goes down by silence too, and is told alike.
        let down = items.iter().find(|item| item.get("down").is_some())?;
        let mut pushed = down.as_object()?.clone();
        pushed.retain(|key, _| key != "down" && key != "name");
        pushed.insert("missed_push".to_owned(), json!({}));
        items.push(Json::Object(pushed));
    }
    items.retain(|item| key(item).is_some_and(|key| keys.contains(&key)));
    (items.iter().filter_map(key).collect::<BTreeSet<_>>() == *keys).then_some(items)
}

/// Writes a rule; `before` is what stands in its place.
pub fn written(asked: AskedRule<'_>, before: Option<&Json>) -> Result<WrittenRule, Fault> {
    let AskedRule { trigger, threshold, name, severity, channels } = asked;
    let kinds = FAMILY.kinds.iter().map(|kind| kind.name);
    let Some(kind) = kinds.clone().find(|kind| *kind == trigger) else {
        let accepted = kinds.collect::<Vec<_>>().join(", ");
        return Err(Fault::new("trigger_type", format!("found `{}`", shown(trigger)), accepted));
    };
    let unfit = |accepted: &str| Fault::new("threshold_value", threshold.map_or("none".to_owned(), |n| n.to_string()), accepted.to_owned());
    if threshold.is_some_and(|n| n < 0) {
        return Err(unfit("a whole number from 0"));
    }
    let mut item = before.and_then(Json::as_object).cloned().unwrap_or_default();
    let mut own = item.get(kind).and_then(Json::as_object).cloned().unwrap_or_default();
    let is_new = !item.contains_key(kind);
    item.retain(|key, _| !FAMILY.kinds.iter().any(|kind| kind.name == key));
    let mut say = |key: &str, value: String| _ = own.insert(key.to_owned(), Json::from(value));
    let mut down_after = None;
    match (kind, threshold) {
        // As V-Insight has it, none is one.
        ("down", threshold) => down_after = threshold.map(|n| n.max(1)),
        ("missed_push", None | Some(0)) => {}
        ("missed_push", Some(_)) => return Err(unfit("none: `expect_every` and `grace` of the monitor say when a push is missed")),
        ("slow_response", Some(n)) => {
            say("above", format!("{n}ms"));
            if is_new {
                // There it is the newest attempt that counts.
                say("for", "1 of 1".to_owned());
            }
        }
        ("slow_response", None) if is_new => return Err(unfit("milliseconds: longer is slow")),
        ("ssl_expiry", Some(n)) => say("within", format!("{n}d")),
        ("blind", Some(n)) => say("for", format!("{n}s")),
        (_, _) => {}
    }
    item.insert(kind.to_owned(), Json::Object(own));
    if let Some(severity) = severity {
        item.insert("severity".to_owned(), severity.into());
    }
    if let Some(channels) = channels {
        item.insert("notify".to_owned(), json!(channels));
    }
    if let Some(name) = name {
        item.remove("name");
        if usual_key(&Json::Object(item.clone())).as_deref() != Some(name) {
            item.insert("name".to_owned(), name.into());
        }
    }
    Ok(WrittenRule { item: Json::Object(Map::from_iter(item)), down_after })
}

/// What is wrong with a rule, by the fields that it was asked for with; it is the one at that place of `alerts`.
pub fn asked_field(fault: Fault, place: usize) -> Fault {
    let Some(rest) = fault.path.strip_prefix(&format!("alerts[{place}]")) else {
        return if fault.path == "down_after" { Fault { path: "threshold_value".to_owned(), ..fault } } else { fault };
    };
    let path = match rest.trim_start_matches('.') {
        "slow_response.above" | "ssl_expiry.within" | "blind.for" => "threshold_value".to_owned(),
        "name" => "name".to_owned(),
        "severity" => "severity".to_owned(),
        rest if rest.starts_with("notify") => rest.replacen("notify", "channel_ids", 1),
        kind if kind.is_empty() || FAMILY.kinds.iter().any(|known| known.name == kind) => "trigger_type".to_owned(),
        _ => return fault,
    };
    Fault { path, ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(trigger: &str, threshold: impl Into<Option<i64>>) -> AskedRule<'_> {
        AskedRule { trigger, threshold: threshold.into(), name: None, severity: None, channels: None }
    }

    fn item(asked: AskedRule<'_>, before: Option<&Json>) -> Json {
        written(asked, before).unwrap().item
    }

    #[test]
    fn what_is_asked_for_becomes_a_rule() {
        let down = |n| WrittenRule { item: json!({ "down": {} }), down_after: n };
        assert_eq!(written(asked("down", 3), None), Ok(down(Some(3))));
        assert_eq!(written(asked("down", 0), None), Ok(down(Some(1))));
        assert_eq!(written(asked("down", None), None), Ok(down(None)));
        assert_eq!(item(asked("slow_response", 800), None), json!({ "slow_response": { "above": "800ms", "for": "1 of 1" } }));
        assert_eq!(item(asked("ssl_expiry", 30), None), json!({ "ssl_expiry": { "within": "30d" } }));
        assert_eq!(item(asked("blind", 60), None), json!({ "blind": { "for": "60s" } }));
        assert_eq!(item(asked("missed_push", 0), None), json!({ "missed_push": {} }));
    }

    #[test]
    fn what_the_form_has_no_room_for_stays() {
        let before = json!({ "slow_response": { "above": "1s", "phase": "tls", "for": "2 of 3" }, "remind": "1h", "notify": ["ops"] });
        let after = json!({ "slow_response": { "above": "5ms", "phase": "tls", "for": "2 of 3" }, "remind": "1h", "notify": ["ops"] });
        assert_eq!(item(asked("slow_response", 5), Some(&before)), after);
        let whom = ["pager".to_owned()];
        let other = AskedRule { name: Some("certificate"), severity: Some("info"), channels: Some(&whom), ..asked("ssl_expiry", 7) };
        let after =
            json!({ "ssl_expiry": { "within": "7d" }, "name": "certificate", "severity": "info", "remind": "1h", "notify": ["pager"] });
        assert_eq!(item(other, Some(&before)), after);
        // Its usual name need not be said, and takes another away.
        let usual = AskedRule { name: Some("ssl_expiry"), ..asked("ssl_expiry", None) };
        assert_eq!(item(usual, Some(&after))["name"], Json::Null);
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (asked, path) in [
            (asked("docker", 1), "trigger_type"),
            (asked("down", -1), "threshold_value"),
            (asked("missed_push", 5), "threshold_value"),
            (asked("slow_response", None), "threshold_value"),
        ] {
            assert_eq!(written(asked, None).unwrap_err().path, path);
        }
        for (found, path) in [
            ("alerts[1].slow_response.above", "threshold_value"),
            ("alerts[1].notify[0]", "channel_ids[0]"),
            ("alerts[1].down", "trigger_type"),
            ("alerts[1].name", "name"),
            ("alerts[1].remind", "alerts[1].remind"),
            ("alerts[0].name", "alerts[0].name"),
            ("down_after", "threshold_value"),
            ("probe.http.url", "probe.http.url"),
        ] {
            assert_eq!(asked_field(Fault::new(found, "x", None), 1).path, path);
        }
    }

    #[test]
    fn a_rule_is_known_by_its_name_or_its_kind() {
        for (item, found) in [
            (json!({ "down": {} }), Some("down")),
            (json!({ "slow_response": { "above": "1s" } }), Some("slow_response/total")),
            (json!({ "slow_response": { "above": "1s", "phase": "dns" } }), Some("slow_response/dns")),
            (json!({ "ssl_expiry": null, "name": "mine" }), Some("mine")),
            (json!("down"), None),
        ] {
            assert_eq!(key(&item).as_deref(), found, "{item}");
        }
    }

    #[test]
    fn inherited_rules_are_written_as_they_are_or_not_at_all() {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
        let file = |text: &str| [("wk.yaml".to_owned(), text.as_bytes().to_vec())];
        assert_eq!(inherited(&[], "default", &keys(&["down"])), Some(vec![json!({ "down": {} })]));
        let pushed = Some(vec![json!({ "down": {} }), json!({ "missed_push": {} })]);
        assert_eq!(inherited(&[], "default", &keys(&["down", "missed_push"])), pushed);
        let own = file("defaults: { alerts: [ { down: {}, severity: warning }, { ssl_expiry: { within: 7d } } ] }");
        let both = vec![json!({ "down": {}, "severity": "warning" }), json!({ "ssl_expiry": { "within": "7d" } })];
        assert_eq!(inherited(&own, "default", &keys(&["down", "ssl_expiry"])), Some(both.clone()));
        // Of those it has the ones that fit its kind.
        assert_eq!(inherited(&own, "default", &keys(&["down"])), Some(both[..1].to_vec()));
        assert_eq!(inherited(&own, "default", &keys(&["down", "blind"])), None);
        assert_eq!(inherited(&own, "acme", &keys(&["down"])), Some(vec![json!({ "down": {} })]));
        assert_eq!(inherited(&file("defaults: { alerts: [ { down: {}, notify: [\"${OPS}\"] } ] }"), "default", &keys(&["down"])), None);
    }
}
