//! A stand-in for Docker: the part of its Engine API that the manager uses, stricter than the real one, on a Unix socket. A container is a
//! process of this machine with the container's environment and nothing else; what an image runs says the test.
//! Source: <https://docs.docker.com/reference/api/engine/version/v1.47/>.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::task::JoinHandle;
use watchkeeper_bots::clock;

/// A container, as tests look at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub id: String,
    pub name: String,
    pub spec: Value,
    pub pid: Option<u32>,
}

struct Container {
    id: String,
    name: String,
    spec: Value,
    child: Option<Child>,
    created: Timestamp,
    started: Timestamp,
    /// When, and with which code.
    ended: Option<(Timestamp, i32)>,
}

impl Container {
    fn look(&mut self) -> &'static str {
        if let (None, Some(child)) = (self.ended, &mut self.child)
            && let Some(status) = child.try_wait().expect("its state")
        {
            let code = status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).expect("a signal"));
            self.ended = Some((clock::now(), code));
        }
        match (&self.child, self.ended) {
            (None, _) => "created",
            (Some(_), None) => "running",
            (Some(_), Some(_)) => "exited",
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[derive(Default)]
struct Inner {
    images: BTreeMap<String, Vec<String>>,
    /// What a registry has.
    elsewhere: BTreeMap<String, Vec<String>>,
    networks: BTreeSet<String>,
    containers: Vec<Container>,
    made: u64,
    pulled: Vec<String>,
    faults: Vec<String>,
}

/// A running stand-in; it ends when dropped, and its containers with it.
pub struct Engine {
    inner: Arc<Mutex<Inner>>,
    task: JoinHandle<()>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.abort();
        if !std::thread::panicking() {
            let faults = std::mem::take(&mut self.lock().faults);
            assert!(faults.is_empty(), "what Docker is not asked for: {faults:#?}");
        }
    }
}

impl Engine {
    /// On that socket, with a network of the name `bots`.
    pub fn start(socket: &Path) -> Self {
        let inner = Arc::new(Mutex::new(Inner { networks: BTreeSet::from(["bots".to_owned()]), ..Inner::default() }));
        let listener = tokio::net::UnixListener::bind(socket).expect("a socket");
        let router = Router::new().fallback(answer).with_state(inner.clone());
        Self { inner, task: tokio::spawn(async move { axum::serve(listener, router).await.expect("the stand-in serves") }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic")
    }

    /// An image that is here, or that a registry has.
    pub fn image(&self, here: bool, name: &str, command: &[&str]) {
        let mut inner = self.lock();
        let images = if here { &mut inner.images } else { &mut inner.elsewhere };
        images.insert(name.to_owned(), command.iter().map(|&word| word.to_owned()).collect());
    }

    /// All containers.
    pub fn containers(&self) -> Vec<Seen> {
        let of = |container: &mut Container| Seen {
            id: container.id.clone(),
            name: container.name.clone(),
            spec: container.spec.clone(),
            pid: (container.look() == "running").then(|| container.child.as_ref().expect("it runs").id()),
        };
        self.lock().containers.iter_mut().map(of).collect()
    }

    /// The images that were fetched.
    pub fn pulled(&self) -> Vec<String> {
        self.lock().pulled.clone()
    }
}

type Answer = (StatusCode, String);

fn no(status: u16, message: &str) -> Answer {
    (StatusCode::from_u16(status).expect("a status"), json!({ "message": message }).to_string())
}

async fn answer(State(inner): State<Arc<Mutex<Inner>>>, method: Method, uri: Uri, body: Bytes) -> Answer {
    let mut inner = inner.lock().expect("no panic");
    let query: BTreeMap<String, String> = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    match respond(&mut inner, &method, uri.path(), &query, &body) {
        Ok(answer) => answer,
        Err(fault) => {
            inner.faults.push(format!("{method} {uri}: {fault}"));
            no(400, &fault)
        }
    }
}

fn exactly(query: &BTreeMap<String, String>, names: &[&str]) -> Result<(), String> {
    let given: Vec<&str> = query.keys().map(String::as_str).collect();
    if given == names { Ok(()) } else { Err(format!("it has {given:?}, and {names:?} were expected")) }
}

fn respond(inner: &mut Inner, method: &Method, path: &str, query: &BTreeMap<String, String>, body: &[u8]) -> Result<Answer, String> {
    if let Some(image) = path.strip_prefix("/images/").and_then(|rest| rest.strip_suffix("/json")) {
        exactly(query, &[])?;
        let known = inner.images.contains_key(image) && method == Method::GET;
        return Ok(if known {
            (StatusCode::OK, json!({ "Id": "sha256:00" }).to_string())
        } else {
            no(404, &format!("No such image: {image}"))
        });
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method.as_str(), &parts[..]) {
        ("POST", ["images", "create"]) => {
            exactly(query, &["fromImage"])?;
            let image = &query["fromImage"];
            let tagged = image.rsplit('/').next().is_some_and(|last| last.contains(':'));
            if !tagged {
                return Err("all tags of an image would be pulled".to_owned());
            }
            inner.pulled.push(image.clone());
            let Some(command) = inner.elsewhere.get(image).cloned() else {
                return Ok(no(404, &format!("pull access denied for {image}, repository does not exist or may require 'docker login'")));
            };
            if command.is_empty() {
                // It is found out only on the way.
                return Ok((
                    StatusCode::OK,
                    "{\"status\":\"Pulling\"}\r\n{\"errorDetail\":{\"message\":\"no space left\"},\"error\":\"no space left\"}\r\n"
                        .to_owned(),
                ));
            }
            inner.images.insert(image.clone(), command);
            Ok((StatusCode::OK, "{\"status\":\"Pulling\"}\r\n{\"status\":\"Download complete\",\"id\":\"00\"}\r\n".to_owned()))
        }
        ("GET", ["containers", "json"]) => {
            exactly(query, &["all", "filters"])?;
            let filters: BTreeMap<String, Vec<String>> = serde_json::from_str(&query["filters"]).map_err(|error| error.to_string())?;
            if filters.keys().collect::<Vec<_>>() != ["label"] || query["all"] != "true" {
                return Err("other filters than labels, or not all".to_owned());
            }
            let has = |container: &Container| {
                filters["label"].iter().all(|label| {
                    let (name, value) = label.split_once('=').expect("a label with its value");
                    container.spec["Labels"][name] == value
                })
            };
            let listed = inner.containers.iter_mut().filter(|container| has(container)).map(|container| {
                json!({
                    "Id": container.id, "Names": [format!("/{}", container.name)], "Image": container.spec["Image"],
                    "Created": container.created.as_second(), "State": container.look(), "Labels": container.spec["Labels"],
                })
            });
            Ok((StatusCode::OK, Value::Array(listed.collect()).to_string()))
        }
        ("POST", ["containers", "create"]) => {
            exactly(query, &["name"])?;
            create(inner, &query["name"], body)
        }
        ("POST", ["containers", id, "start"]) => {
            exactly(query, &[])?;
            Ok(start(inner, id))
        }
        (_, ["containers", id, rest @ ..]) => {
            let Some(at) = inner.containers.iter().position(|container| container.id == *id) else {
                return Ok(no(404, &format!("No such container: {id}")));
            };
            match (method.as_str(), rest) {
                ("DELETE", []) => {
                    exactly(query, &["force", "v"])?;
                    inner.containers.remove(at);
                    Ok((StatusCode::NO_CONTENT, String::new()))
                }
                ("GET", ["json"]) => {
                    exactly(query, &[])?;
                    let container = &mut inner.containers[at];
                    let status = container.look();
                    let (finished, code) = container.ended.unwrap_or_default();
                    let state = json!({
                        "Status": status, "ExitCode": code, "OOMKilled": false, "Error": "",
                        "StartedAt": container.started.to_string(), "FinishedAt": finished.to_string(),
                    });
                    let whole = json!({ "Id": id, "Config": { "Env": container.spec["Env"] }, "State": state });
                    Ok((StatusCode::OK, whole.to_string()))
                }
                ("POST", ["kill"]) => {
                    exactly(query, &["signal"])?;
                    let container = &mut inner.containers[at];
                    if container.look() != "running" {
                        return Ok(no(409, &format!("cannot kill container: {id}: container {id} is not running")));
                    }
                    let signal = match query["signal"].as_str() {
                        "SIGTERM" => "-TERM",
                        "SIGKILL" => "-KILL",
                        other => return Err(format!("{other} is not expected")),
                    };
                    let pid = container.child.as_ref().expect("it runs").id().to_string();
                    assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
                    Ok((StatusCode::NO_CONTENT, String::new()))
                }
                _ => Err("nothing is there".to_owned()),
            }
        }
        _ => Err("nothing is there".to_owned()),
    }
}

fn only(object: &Value, known: &[&str]) -> Result<Map<String, Value>, String> {
    let fields = object.as_object().ok_or("it is no object")?;
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(fields.clone()),
        Some(unknown) => Err(format!("{unknown} is not known")),
    }
}

fn create(inner: &mut Inner, name: &str, body: &[u8]) -> Result<Answer, String> {
    let spec: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    only(&spec, &["Image", "Env", "Labels", "HostConfig"])?;
    let host = only(&spec["HostConfig"], &["NetworkMode", "Memory"])?;
    let image = spec["Image"].as_str().ok_or("no image")?;
    if !spec["Env"].as_array().is_some_and(|all| all.iter().all(|one| one.as_str().is_some_and(|one| one.contains('=')))) {
        return Err("Env is no list of NAME=VALUE".to_owned());
    }
    if !spec["Labels"].as_object().is_some_and(|all| all.values().all(Value::is_string)) {
        return Err("Labels are not texts".to_owned());
    }
    if !host.get("NetworkMode").is_some_and(Value::is_string) || !host.get("Memory").is_none_or(Value::is_u64) {
        return Err("HostConfig has other types".to_owned());
    }
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if !letters || name.len() < 2 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(format!("Invalid container name ({name})"));
    }
    if !inner.images.contains_key(image) {
        return Ok(no(404, &format!("No such image: {image}")));
    }
    if let Some(other) = inner.containers.iter().find(|container| container.name == name) {
        return Ok(no(409, &format!("Conflict. The container name \"/{name}\" is already in use by container {}", other.id)));
    }
    inner.made += 1;
    let (id, now) = (format!("{:064x}", inner.made), clock::now());
    inner.containers.push(Container { id: id.clone(), name: name.to_owned(), spec, child: None, created: now, started: now, ended: None });
    Ok((StatusCode::CREATED, json!({ "Id": id, "Warnings": [] }).to_string()))
}

fn start(inner: &mut Inner, id: &str) -> Answer {
    let states: BTreeMap<String, &str> = inner.containers.iter_mut().map(|container| (container.id.clone(), container.look())).collect();
    let Some(container) = inner.containers.iter_mut().find(|container| container.id == id) else {
        return no(404, &format!("No such container: {id}"));
    };
    if states[id] == "running" {
        return (StatusCode::NOT_MODIFIED, String::new());
    }
    let network = container.spec["HostConfig"]["NetworkMode"].as_str().expect("a network");
    match network.strip_prefix("container:") {
        Some(of) if states.get(of) != Some(&"running") => {
            return no(409, &format!("cannot join network of a non running container: {of}"));
        }
        None if !inner.networks.contains(network) => return no(404, &format!("network {network} not found")),
        Some(_) | None => {}
    }
    let command = &inner.images[container.spec["Image"].as_str().expect("an image")];
    let environment = container.spec["Env"].as_array().expect("a list").iter().map(|one| one.as_str().expect("a text").split_once('='));
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]).env_clear().envs(environment.map(|one| one.expect("NAME=VALUE")));
    let spawned = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let Ok(child) = spawned else {
        return no(400, "failed to create task for container: exec: no such file or directory");
    };
    (container.child, container.started, container.ended) = (Some(child), clock::now(), None);
    (StatusCode::NO_CONTENT, String::new())
}
