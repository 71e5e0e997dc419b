//! A stand-in for the API server of Kubernetes over HTTP: Secrets, Deployments and ScaledObjects of one namespace; create, read, list,
//! server-side apply, merge patch, delete in the foreground, owners. What it is sent must be of the published form: the typed values of
//! k8s-openapi are generated from Kubernetes' own, and the fields of a ScaledObject are those of KEDA's definition. And whoever asks has the
//! rights that the example's Role gives, and no others.
//! Sources: <https://kubernetes.io/docs/reference/using-api/server-side-apply/>, `keda.sh_scaledobjects.yaml` of kedacore/keda.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

pub const NAMESPACE: &str = "telegram-serverless";

/// What it answers instead of doing what it is asked for: status and reason.
pub type Refusal = (u16, &'static str);
type Script = Box<dyn FnMut(&str, &str) -> Option<Refusal> + Send>;

#[derive(Default)]
struct Inner {
    /// By kind and name: `deployments/bot-a1`.
    objects: BTreeMap<String, Value>,
    /// What each manager has applied, by kind, name and manager.
    applied: BTreeMap<(String, String), Value>,
    versions: u64,
    script: Option<Script>,
    faults: Vec<String>,
    calls: Vec<String>,
    /// The rights that were used: `get secrets`.
    used: BTreeSet<String>,
}

/// The rights of the Role in `examples/echo-bot/kubernetes.yaml`: `get secrets`.
pub fn rights() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/echo-bot/kubernetes.yaml");
    let text = std::fs::read_to_string(path).expect("the example");
    let role = text.split("\n---\n").find(|part| part.contains("\nkind: Role\n")).expect("a Role");
    let role: Value = serde_saphyr::from_str(role).expect("YAML");
    let texts =
        |value: &Value| value.as_array().expect("a list").iter().map(|one| one.as_str().expect("a text").to_owned()).collect::<Vec<_>>();
    let rules = role["rules"].as_array().expect("rules");
    rules
        .iter()
        .flat_map(|rule| {
            let (verbs, resources) = (texts(&rule["verbs"]), texts(&rule["resources"]));
            resources.into_iter().flat_map(move |kind| verbs.clone().into_iter().map(move |verb| format!("{verb} {kind}")))
        })
        .collect()
}

/// What Kubernetes asks of whoever makes such a request; an apply may make the object.
fn needed(method: &Method, kind: &str, name: &str, headers: &HeaderMap) -> Vec<String> {
    let verbs: &[&str] = match method.as_str() {
        "GET" if name.is_empty() => &["list"],
        "GET" => &["get"],
        "POST" => &["create"],
        "PATCH" if headers.get("content-type").is_some_and(|kind| kind == "application/apply-patch+yaml") => &["patch", "create"],
        "PATCH" => &["patch"],
        "DELETE" => &["delete"],
        other => return vec![other.to_owned()],
    };
    verbs.iter().map(|verb| format!("{verb} {kind}")).collect()
}

/// A running stand-in; it ends when dropped.
pub struct Cluster {
    pub url: String,
    inner: Arc<Mutex<Inner>>,
    task: JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.task.abort();
        let faults = std::mem::take(&mut self.inner.lock().expect("no panic").faults);
        if !std::thread::panicking() {
            assert!(faults.is_empty(), "requests that Kubernetes would not understand: {faults:#?}");
        }
    }
}

impl Cluster {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let inner = Arc::new(Mutex::new(Inner::default()));
        let router = Router::new().fallback(answer).with_state(inner.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("the stand-in serves") });
        Self { url, inner, task }
    }

    pub fn client(&self) -> kube::Client {
        kube::Client::try_from(kube::Config::new(self.url.parse().expect("a URL"))).expect("a client")
    }

    /// Asked about every request: method, and kind with name.
    pub fn script(&self, script: impl FnMut(&str, &str) -> Option<Refusal> + Send + 'static) {
        self.inner.lock().expect("no panic").script = Some(Box::new(script));
    }

    pub fn get(&self, object: &str) -> Option<Value> {
        self.inner.lock().expect("no panic").objects.get(object).cloned()
    }

    pub fn names(&self) -> Vec<String> {
        self.inner.lock().expect("no panic").objects.keys().cloned().collect()
    }

    pub fn calls(&self) -> Vec<String> {
        self.inner.lock().expect("no panic").calls.clone()
    }

    /// The rights that were used.
    pub fn used(&self) -> BTreeSet<String> {
        self.inner.lock().expect("no panic").used.clone()
    }

    /// Somebody else changes an object.
    pub fn change(&self, object: &str, change: impl FnOnce(&mut Value)) {
        let mut inner = self.inner.lock().expect("no panic");
        change(inner.objects.get_mut(object).expect("it is there"));
        inner.versions += 1;
        let version = inner.versions.to_string();
        inner.objects.get_mut(object).expect("it is there")["metadata"]["resourceVersion"] = Value::from(version);
    }

    /// Somebody removes an object; what belongs to it goes too.
    pub fn remove(&self, object: &str) {
        self.inner.lock().expect("no panic").remove(object);
    }

    /// The last pods of what is being deleted are gone.
    pub fn pods_end(&self) {
        let mut inner = self.inner.lock().expect("no panic");
        let going: Vec<String> = inner
            .objects
            .iter()
            .filter(|(_, object)| !object["metadata"]["deletionTimestamp"].is_null())
            .map(|(name, _)| name.clone())
            .collect();
        for name in going {
            inner.remove(&name);
        }
    }
}

impl Inner {
    fn remove(&mut self, name: &str) {
        let Some(gone) = self.objects.remove(name) else { return };
        self.applied.retain(|(object, _), _| object != name);
        let uid = gone["metadata"]["uid"].clone();
        let belongs =
            |object: &Value| object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.iter().any(|o| o["uid"] == uid));
        let orphans: Vec<String> = self.objects.iter().filter(|(_, object)| belongs(object)).map(|(name, _)| name.clone()).collect();
        for name in orphans {
            self.remove(&name);
        }
    }

    fn store(&mut self, name: &str, mut object: Value) -> Value {
        self.versions += 1;
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        metadata.entry("uid").or_insert_with(|| Value::from(format!("uid-{}", self.versions)));
        metadata.insert("resourceVersion".to_owned(), Value::from(self.versions.to_string()));
        self.objects.insert(name.to_owned(), object.clone());
        object
    }
}

type Answer = (StatusCode, [(&'static str, &'static str); 1], String);

fn good(status: u16, object: &Value) -> Answer {
    (StatusCode::from_u16(status).expect("a status"), [("content-type", "application/json")], object.to_string())
}

fn bad(status: u16, reason: &str, message: &str) -> Answer {
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason, "message": message });
    good(status, &body)
}

async fn answer(State(inner): State<Arc<Mutex<Inner>>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Answer {
    let mut inner = inner.lock().expect("no panic");
    let query: BTreeMap<String, String> = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let core = format!("/api/v1/namespaces/{NAMESPACE}/");
    let (apps, keda) = (format!("/apis/apps/v1/namespaces/{NAMESPACE}/"), format!("/apis/keda.sh/v1alpha1/namespaces/{NAMESPACE}/"));
    let known = [(core, "secrets"), (apps, "deployments"), (keda, "scaledobjects")];
    let found = known.iter().find_map(|(prefix, kind)| Some((*kind, uri.path().strip_prefix(prefix.as_str())?.strip_prefix(kind)?)));
    let Some((kind, name)) = found else {
        inner.faults.push(format!("{method} {uri}"));
        return bad(404, "NotFound", "there is no such path");
    };
    let object = format!("{kind}{name}");
    inner.calls.push(format!("{method} {object}"));
    for right in needed(&method, kind, name, &headers) {
        if !rights().contains(&right) {
            inner.faults.push(format!("{method} {uri}: the example's Role does not allow `{right}`"));
            return bad(403, "Forbidden", &right);
        }
        inner.used.insert(right);
    }
    if let Some((status, reason)) = inner.script.as_mut().and_then(|script| script(method.as_str(), &object)) {
        return bad(status, reason, "as the test asked for");
    }
    match handle(&mut inner, &method, kind, &object, &query, &headers, &body) {
        Ok(answer) => answer,
        Err(fault) => {
            inner.faults.push(format!("{method} {uri}: {fault}"));
            bad(422, "Invalid", &fault)
        }
    }
}

fn handle(
    inner: &mut Inner,
    method: &Method,
    kind: &str,
    object: &str,
    query: &BTreeMap<String, String>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Answer, String> {
    let sent = || serde_json::from_slice::<Value>(body).map_err(|error| error.to_string());
    let manager = query.get("fieldManager").cloned().unwrap_or_default();
    let of_type = |wanted: &str| headers.get("content-type").is_some_and(|kind| kind == wanted);
    match method.as_str() {
        "GET" if object == kind => {
            let wanted: Vec<(String, String)> = query
                .get("labelSelector")
                .into_iter()
                .flat_map(|selector| selector.split(','))
                .filter_map(|one| one.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
                .collect();
            let fits = |found: &Value| wanted.iter().all(|(name, value)| found["metadata"]["labels"][name] == **value);
            let items: Vec<&Value> = inner
                .objects
                .iter()
                .filter(|(name, found)| name.starts_with(&format!("{kind}/")) && fits(found))
                .map(|(_, found)| found)
                .collect();
            Ok(good(200, &json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": items })))
        }
        "GET" => Ok(inner.objects.get(object).map_or_else(|| bad(404, "NotFound", "not found"), |found| good(200, found))),
        "POST" => {
            let sent = sent()?;
            check(kind, &sent)?;
            let name = format!("{kind}/{}", sent["metadata"]["name"].as_str().ok_or("it has no name")?);
            if inner.objects.contains_key(&name) {
                return Ok(bad(409, "AlreadyExists", "it is there already"));
            }
            Ok(good(201, &inner.store(&name, sent)))
        }
        "PATCH" if of_type("application/apply-patch+yaml") => {
            let sent = sent()?;
            check(kind, &sent)?;
            if manager.is_empty() || query.get("force").is_none_or(|force| force != "true") {
                return Err("an apply without its manager, or without force".to_owned());
            }
            let (mut now, was_there) = (inner.objects.get(object).cloned().unwrap_or(json!({})), inner.objects.contains_key(object));
            // What the manager applied before and does not any more goes, unless another has it too.
            if let Some(before) = inner.applied.insert((object.to_owned(), manager), sent.clone()) {
                let others: Vec<&Value> = inner.applied.iter().filter(|((name, _), _)| name == object).map(|(_, value)| value).collect();
                drop_left_out(&mut now, &before, &sent, &others);
            }
            merge(&mut now, &sent);
            Ok(good(if was_there { 200 } else { 201 }, &inner.store(object, now)))
        }
        "PATCH" if of_type("application/merge-patch+json") => {
            let sent = sent()?;
            let Some(mut now) = inner.objects.get(object).cloned() else { return Ok(bad(404, "NotFound", "not found")) };
            if let Some(version) = sent["metadata"]["resourceVersion"].as_str()
                && now["metadata"]["resourceVersion"] != version
            {
                return Ok(bad(409, "Conflict", "the object has been modified"));
            }
            merge(&mut now, &sent);
            Ok(good(200, &inner.store(object, now)))
        }
        "DELETE" => {
            let Some(found) = inner.objects.get_mut(object) else { return Ok(bad(404, "NotFound", "not found")) };
            let foreground = serde_json::from_slice::<Value>(body).is_ok_and(|options| options["propagationPolicy"] == "Foreground");
            if foreground {
                found["metadata"]["deletionTimestamp"] = Value::from("2026-01-01T00:00:00Z");
                return Ok(good(200, &found.clone()));
            }
            inner.remove(object);
            Ok(good(200, &json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {} })))
        }
        _ => Err(format!("content type {:?}", headers.get("content-type"))),
    }
}

/// Objects are united, everything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                if value.is_null() {
                    into.remove(name);
                } else {
                    merge(into.entry(name).or_insert(Value::Object(Map::new())), value);
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn drop_left_out(now: &mut Value, before: &Value, sent: &Value, others: &[&Value]) {
    let (Value::Object(now), Value::Object(before)) = (now, before) else { return };
    for (name, earlier) in before {
        let others: Vec<&Value> = others.iter().filter_map(|other| other.get(name)).collect();
        match sent.get(name) {
            Some(sent) => drop_left_out(now.get_mut(name).unwrap_or(&mut Value::Null), earlier, sent, &others),
            None if others.is_empty() => drop(now.remove(name)),
            None => {}
        }
    }
}

/// Of the published form, with nothing that it does not know.
fn check(kind: &str, sent: &Value) -> Result<(), String> {
    match kind {
        "secrets" => typed::<Secret>(sent),
        "deployments" => typed::<Deployment>(sent),
        _ => scaled_object(sent),
    }
}

fn typed<T: DeserializeOwned + Serialize>(sent: &Value) -> Result<(), String> {
    let read: T = serde_json::from_value(sent.clone()).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(read).map_err(|error| error.to_string())?;
    if again == *sent { Ok(()) } else { Err(format!("it has fields that are not known: {sent}")) }
}

fn scaled_object(sent: &Value) -> Result<(), String> {
    let only = |value: &Value, known: &[&str]| match value.as_object() {
        Some(fields) => {
            fields.keys().find(|name| !known.contains(&name.as_str())).map_or(Ok(()), |name| Err(format!("unknown field {name}")))
        }
        None => Err(format!("no object: {value}")),
    };
    only(sent, &["apiVersion", "kind", "metadata", "spec"])?;
    let spec = &sent["spec"];
    let known = [
        "advanced",
        "cooldownPeriod",
        "idleReplicaCount",
        "maxReplicaCount",
        "minReplicaCount",
        "pollingInterval",
        "scaleTargetRef",
        "triggers",
    ];
    only(spec, &known)?;
    only(&spec["scaleTargetRef"], &["apiVersion", "kind", "name", "envSourceContainerName"])?;
    for number in ["cooldownPeriod", "maxReplicaCount", "minReplicaCount", "pollingInterval"] {
        if spec.get(number).is_some_and(|value| value.as_i64().is_none_or(|value| i32::try_from(value).is_err())) {
            return Err(format!("{number} is no int32"));
        }
    }
    let triggers =
        spec["triggers"].as_array().filter(|_| spec["scaleTargetRef"]["name"].is_string()).ok_or("a required field is missing")?;
    for trigger in triggers {
        only(trigger, &["type", "name", "metadata", "authenticationRef", "useCachedMetrics", "metricType"])?;
        let texts = trigger["metadata"].as_object().is_some_and(|metadata| metadata.values().all(Value::is_string));
        if !texts || !trigger["type"].is_string() {
            return Err("a trigger's metadata must be texts".to_owned());
        }
    }
    if sent["apiVersion"] != "keda.sh/v1alpha1" || sent["kind"] != "ScaledObject" {
        return Err("it is no ScaledObject".to_owned());
    }
    Ok(())
}
