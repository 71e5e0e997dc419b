//! `examples/echo-bot`: its files are what those who take them can read, their variables are known to the program, and what they say of the
//! manager's objects is what the manager makes.

use crate::support::bot;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use watchkeeper_bots::manager::bot::{Bot, Bounds, Phase};
use watchkeeper_bots::manager::runtime::kubernetes::objects;
use watchkeeper_bots::secret::BotToken;
use watchkeeper_bots::settings::{self, HELP, Runtime};

/// What an operator sets, and no file holds.
const SET: [(&str, &str); 3] = [
    ("WEBHOOK_KEY", "0123456789abcdef0123456789abcdef"),
    ("MANAGER_TOKEN", "0123456789abcdef"),
    ("GATEWAY_URL", "https://bots.example.com"),
];

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/echo-bot").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents(name: &str) -> Vec<Value> {
    parsed(name, &text(name))
}

fn parsed(name: &str, text: &str) -> Vec<Value> {
    let parts = text.split("\n---\n").filter(|part| part.lines().any(|line| !line.starts_with('#') && !line.trim().is_empty()));
    parts.map(|part| serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{name}: {error}"))).collect()
}

/// Whether it is a good object of that type, and every field of it is one that the type knows.
fn is<T: DeserializeOwned + Serialize>(document: &Value) {
    let typed: T = serde_json::from_value(document.clone()).expect("an object of its kind");
    let mut known = serde_json::to_value(&typed).expect("JSON");
    let mut said = document.clone();
    // An empty volume is written as nothing.
    for value in [&mut known, &mut said] {
        prune(value);
    }
    assert_eq!(known, said);
}

fn prune(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(prune);
        fields.retain(|_, field| *field != Value::Null);
    } else if let Value::Array(items) = value {
        items.iter_mut().for_each(prune);
    }
}

/// The names of all variables that `--help` tells of.
fn known() -> BTreeSet<&'static str> {
    let words = HELP.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.len() > 3).collect()
}

fn variables(object: &Value) -> BTreeMap<String, String> {
    let found = object.as_object().expect("a mapping").iter();
    found.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_else(|| panic!("{name} is no text")).to_owned())).collect()
}

/// The variables are known, and the role takes them.
fn takes(role: &str, variables: &BTreeMap<String, String>) -> Option<Runtime> {
    let known = known();
    // What Kubernetes sets in every pod nobody has to know.
    let set = variables.keys().filter(|name| name.as_str() != "KUBERNETES_SERVICE_HOST");
    let unknown: Vec<&String> = set.filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "{role} knows nothing of {unknown:?}");
    let read = |name: &str| variables.get(name).map(Into::into);
    match role {
        "gateway" => settings::Gateway::read(read).map(|_| None),
        "manager" => settings::Manager::read(read, Path::new("watchkeeper-bots")).map(|manager| Some(manager.runtime)),
        other => panic!("{other} is no role"),
    }
    .unwrap_or_else(|problems| panic!("{role}: {problems:?}"))
}

#[test]
fn what_is_applied_to_kubernetes_can_be() {
    let all = documents("kubernetes.yaml");
    let mut runtimes = Vec::new();
    let config = all.iter().find(|found| found["kind"] == "ConfigMap").expect("one");
    for object in &all {
        assert_eq!(object["metadata"]["namespace"], "telegram-serverless");
        match object["kind"].as_str().expect("a kind") {
            "ConfigMap" => is::<ConfigMap>(object),
            "ServiceAccount" => is::<ServiceAccount>(object),
            "Role" => is::<Role>(object),
            "RoleBinding" => is::<RoleBinding>(object),
            "Service" => is::<Service>(object),
            "Deployment" => {
                is::<Deployment>(object);
                let container = &object["spec"]["template"]["spec"]["containers"][0];
                let mut set = variables(&config["data"]);
                set.extend(SET[..2].iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
                set.insert("KUBERNETES_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned());
                runtimes.extend(takes(container["args"][0].as_str().expect("a role"), &set));
            }
            other => panic!("{other} is not expected"),
        }
    }
    assert_eq!(all.len(), 8);
    // And what the manager then makes of the README's request is what the example says.
    let [Runtime::Kubernetes(plan)] = &runtimes[..] else { panic!("one manager, in a cluster: {runtimes:?}") };
    let made = Bot {
        id: bot("abc123def456"),
        name: "echo_bot".to_owned(),
        token: BotToken::new("123456:YOUR-BOT-TOKEN").expect("a token"),
        image: "your-registry/echo-bot:latest".to_owned(),
        bounds: Bounds { min: 0, max: 5 },
        env: BTreeMap::new(),
        created: "2025-10-14T12:30:45Z".parse().expect("a time"),
        phase: Phase::Creating,
        problem: None,
    };
    let owner = serde_json::json!({ "apiVersion": "v1", "kind": "Secret", "name": "bot-abc123def456-secrets", "uid": "of-the-secret" });
    let owner: k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference = serde_json::from_value(owner).expect("an owner");
    let expected = [
        serde_json::to_value(objects::secret(plan, &made, BTreeMap::new())).expect("JSON"),
        serde_json::to_value(objects::deployment(plan, &made, owner.clone(), None)).expect("JSON"),
        serde_json::to_value(objects::scaled_object(plan, &made, owner)).expect("JSON"),
    ];
    assert_eq!(documents("bot.yaml"), expected);
    is::<Secret>(&expected[0]);
    let asked = text("README.md");
    for words in [made.image.as_str(), made.token.expose(), "\"min_replicas\": 0", "\"max_replicas\": 5", "\"bot_name\": \"echo_bot\""] {
        assert!(asked.contains(words), "{words}");
    }
}

/// A template of which every action is the name of a value, as Helm fills it in.
fn filled_in(template: &str, values: &BTreeMap<String, Value>, namespace: &str) -> String {
    let mut used = BTreeSet::new();
    let mut parts = template.split("{{");
    let mut text = parts.next().expect("a first").to_owned();
    for part in parts {
        let (action, rest) = part.split_once("}}").expect("an action ends");
        match action.trim() {
            ".Release.Namespace" => text.push_str(namespace),
            value => {
                let name = value.strip_prefix(".Values.").unwrap_or_else(|| panic!("{value} is more than a value"));
                used.insert(name.to_owned());
                let value = values.get(name).unwrap_or_else(|| panic!("{name} is not in values.yaml"));
                text.push_str(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        }
        text.push_str(rest);
    }
    assert_eq!(used, values.keys().cloned().collect(), "every value is used");
    text
}

#[test]
fn the_chart_makes_of_its_values_what_is_applied_without_it() {
    let values: BTreeMap<String, Value> = serde_saphyr::from_str(&text("chart/values.yaml")).expect("values");
    let made = parsed("the chart", &filled_in(&text("chart/templates/bots.yaml"), &values, "telegram-serverless"));
    assert_eq!(made, documents("kubernetes.yaml"));
    // Another value makes another object.
    for name in values.keys() {
        let mut changed = values.clone();
        changed.insert(name.clone(), if name == "gatewayReplicas" { 7.into() } else { "another".into() });
        let made = parsed("the chart", &filled_in(&text("chart/templates/bots.yaml"), &changed, "telegram-serverless"));
        assert_ne!(made, documents("kubernetes.yaml"), "{name}");
    }
    let chart: BTreeMap<String, String> = serde_saphyr::from_str(&text("chart/Chart.yaml")).expect("a chart");
    assert_eq!((chart["apiVersion"].as_str(), chart["name"].as_str(), chart["type"].as_str()), ("v2", "watchkeeper-bots", "application"));
    assert!(chart["version"].split('.').count() == 3);
}

#[test]
fn what_compose_starts_is_what_there_is() {
    let [compose] = &documents("compose.yaml")[..] else { panic!("one document") };
    let services = compose["services"].as_object().expect("services");
    assert_eq!(services.keys().collect::<Vec<_>>(), ["gateway", "kafka", "manager"]);
    for role in ["gateway", "manager"] {
        let service = &services[role];
        assert_eq!((&service["image"], &service["command"][0]), (&Value::from("watchkeeper-bots:latest"), &Value::from(role)));
        let mut set = variables(&service["environment"]);
        for (name, value) in &mut set {
            // What compose takes from the operator: ${NAME:?why}.
            if let Some(rest) = value.strip_prefix("${") {
                assert!(rest.starts_with(&format!("{name}:?")) && rest.ends_with('}'), "{name}: {value}");
                *value = SET.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name} is not set")).1.to_owned();
            }
        }
        let runtime = takes(role, &set);
        assert!(matches!((role, runtime), ("gateway", None) | ("manager", Some(Runtime::Process { .. }))));
    }
    let context = services["gateway"]["build"]["context"].as_str().expect("a folder");
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/echo-bot").join(context).join("Cargo.lock").exists());
    for mounted in ["kafka", "bots"] {
        assert!(compose["volumes"].get(mounted).is_some());
    }
    let image = text("Dockerfile");
    assert!(image.contains("--package watchkeeper-bots") && image.contains(" AS echo\n") && image.ends_with("FROM bots\n"));
}
