//! The manager over its API, with workers as real processes, on the mock broker.
//!
//! That broker makes no topics when asked over the wire, so this one way out has a stand-in here; lag is measured as in production.

use crate::support::broker::Broker;
use crate::support::process::{Gateway, gateway};
use crate::support::telegram::{Telegram, message};
use crate::support::{KEY, SESSION, TOKEN, bot, until};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchkeeper_bots::client::Client;
use watchkeeper_bots::manager::bot::Bot;
use watchkeeper_bots::manager::run_with;
use watchkeeper_bots::manager::topics::{Lags, Topics, TopicsError};
use watchkeeper_bots::names::BotId;
use watchkeeper_bots::settings;

/// Makes topics in the mock broker.
struct MockTopics {
    broker: Arc<Broker>,
    made: Mutex<BTreeSet<(String, u32)>>,
    lags: Lags,
}

#[async_trait::async_trait]
impl Topics for MockTopics {
    async fn ensure(&self, bot: &Bot) -> Result<(), TopicsError> {
        for (name, partitions) in [(bot.id.incoming(), bot.partitions()), (bot.id.outgoing(), bot.partitions()), (bot.id.parked(), 1)] {
            if self.made.lock().expect("no panic").insert((name.clone(), partitions)) {
                self.broker.create(name, partitions as i32);
            }
        }
        Ok(())
    }

    async fn remove(&self, bot: &BotId) -> Result<(), TopicsError> {
        self.made.lock().expect("no panic").retain(|(name, _)| !name.starts_with(&format!("bot_{bot}_")));
        Ok(())
    }

    async fn lag(&self, bot: &BotId) -> Result<u64, TopicsError> {
        self.lags.of(bot).await
    }
}

pub struct Manager {
    url: String,
    client: Client,
    topics: Arc<MockTopics>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Manager {
    /// On a state file of that folder, with a cooldown of a second.
    pub async fn start(broker: &Arc<Broker>, telegram: &Telegram, gateway: &str, folder: &Path, more: &[(&str, &str)]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port().to_string();
        let state = folder.join("bots.db").to_string_lossy().into_owned();
        let mut variables = vec![
            ("PORT", port.as_str()),
            ("METRICS_PORT", "0"),
            ("LISTEN_ADDRESS", "127.0.0.1"),
            ("KAFKA_BROKERS", broker.brokers.list.as_str()),
            ("KAFKA_SESSION_TIMEOUT_SECONDS", SESSION),
            ("WEBHOOK_KEY", KEY),
            ("BOT_API_URL", telegram.url.as_str()),
            ("GATEWAY_URL", gateway),
            ("STATE_FILE", state.as_str()),
            ("SCALE_COOLDOWN_SECONDS", "1"),
            ("GRACE_PERIOD_SECONDS", "10"),
        ];
        variables.extend(more);
        let read = |name: &str| variables.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let settings = settings::Manager::read(read, Path::new(env!("CARGO_BIN_EXE_watchkeeper-bots"))).expect("good settings");
        let (topics, stop) = (
            Arc::new(MockTopics { broker: broker.clone(), made: Mutex::default(), lags: Lags::new(&broker.brokers) }),
            CancellationToken::new(),
        );
        let task = tokio::spawn(run_with(settings, topics.clone(), stop.clone()));
        let manager = Self { url: format!("http://127.0.0.1:{port}"), client: Client::new().expect("a client"), topics, stop, task };
        until("the manager answers", async || manager.ask("GET", "/ready", None, None).await.filter(|(status, _)| *status == 200)).await;
        manager
    }

    async fn ask(&self, method: &str, path: &str, body: Option<&str>, bearer: Option<&str>) -> Option<(u16, Value)> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default().to_owned()))).expect("a request");
        let answered = self.client.send(request, Duration::from_secs(20), 1_000_000).await.ok()?;
        let text = String::from_utf8_lossy(answered.body()).into_owned();
        assert!(!text.contains(TOKEN), "the token is in an answer: {text}");
        Some((answered.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { None } else { Some(body.to_string()) };
        self.ask(method, path, body.as_deref(), None).await.expect("answered")
    }

    async fn get(&self, id: &str) -> Value {
        self.call("GET", &format!("/bots/{id}"), &Value::Null).await.1
    }

    /// Waits until the bot is so.
    pub async fn is(&self, id: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{id} is {what}"), async || Some(self.get(id).await).filter(&so)).await
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a good end");
    }

    /// Removes a bot, and waits until nothing of it is left.
    pub async fn delete(&self, id: &str) {
        assert_eq!(self.call("DELETE", &format!("/bots/{id}"), &Value::Null).await, (200, json!({ "message": "bot deleted" })));
        until(&format!("{id} is gone"), async || (self.call("GET", &format!("/bots/{id}"), &Value::Null).await.0 == 404).then_some(()))
            .await;
        assert_eq!(workers_of(id), Vec::<u32>::new());
    }
}

/// The processes of this bot's workers, ended ones left out.
fn workers_of(id: &str) -> Vec<u32> {
    watchkeeper_bots::stage::role::workers(&bot(id))
}

pub fn echo_bot(min: u32, max: u32) -> Value {
    json!({ "bot_token": TOKEN, "bot_name": "echo_bot", "worker_image": "echo", "min_replicas": min, "max_replicas": max })
}

pub async fn world(folder: &Path) -> (Arc<Broker>, Telegram, Gateway) {
    let (broker, telegram) = (Arc::new(Broker::start()), Telegram::start().await);
    let gateway = gateway(&broker, &telegram, folder, 0, &[]).await;
    (broker, telegram, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_sleeps_wakes_for_an_update_grows_and_sleeps_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (broker, telegram, gateway) = world(folder.path()).await;
    let manager = Manager::start(&broker, &telegram, &gateway.url, folder.path(), &[]).await;
    let (status, made) = manager.call("POST", "/bots", &echo_bot(0, 3)).await;
    assert_eq!(status, 201, "{made}");
    let id = made["bot_id"].as_str().expect("an id").to_owned();
    let expected = json!({
        "bot_id": id, "status": "created", "webhook_url": format!("{}/webhook/{id}", gateway.url),
        "kafka_topics": { "incoming": format!("bot_{id}_incoming"), "outgoing": format!("bot_{id}_outgoing") },
    });
    assert_eq!(made, expected);
    let running = manager.is(&id, "running", |bot| bot["status"] == "running").await;
    assert_eq!(running["replicas"], json!({ "current": 0, "min": 0, "max": 3 }));
    assert_eq!((&running["kafka_lag"], &running["bot_name"]), (&json!(0), &json!("echo_bot")));
    assert_eq!(telegram.webhook(), json!({ "url": made["webhook_url"], "secret_token": crate::support::secret(&bot(&id)) }));
    assert_eq!(workers_of(&id), Vec::<u32>::new());

    // One update wakes one worker; it is answered.
    telegram.deliver(&gateway.url, &bot(&id), &message(1, 7, "wake up")).await;
    let sent = telegram.wait_for("sendMessage", 1).await;
    assert_eq!(sent[0].text(), Some("Echo: wake up"));
    manager.is(&id, "asleep again", |bot| bot["replicas"]["current"] == 0 && bot["kafka_lag"] == 0).await;

    // Many need as many workers as there may be. Nobody reads until they have begun, so the lag is what was written.
    for nth in 0..40 {
        telegram.deliver(&gateway.url, &bot(&id), &message(10 + nth, 100 + nth, "many")).await;
    }
    manager.is(&id, "at its most", |bot| bot["replicas"]["current"] == 3).await;
    telegram.wait_for("sendMessage", 41).await;
    let asleep = manager.is(&id, "asleep at last", |bot| bot["replicas"]["current"] == 0 && bot["kafka_lag"] == 0).await;
    assert_eq!(asleep["status"], "running");
    until("no process is left", async || workers_of(&id).is_empty().then_some(())).await;
    assert_eq!(telegram.taken("sendMessage").len(), 41, "workers that were stopped in good order repeat nothing");

    // Asked for, there is always one.
    let changed = manager.call("PATCH", &format!("/bots/{id}/replicas"), &json!({ "min_replicas": 1 })).await;
    assert_eq!(changed, (200, json!({ "message": "replicas updated" })));
    manager.is(&id, "awake", |bot| bot["replicas"] == json!({ "current": 1, "min": 1, "max": 3 })).await;
    assert_eq!(manager.topics.made.lock().expect("no panic").len(), 3);
    manager.delete(&id).await;
    assert_eq!(telegram.webhook()["url"], "");
    assert!(manager.topics.made.lock().expect("no panic").is_empty());
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_starts_again_finds_its_workers_and_mends_what_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (broker, telegram, gateway) = world(folder.path()).await;
    let manager = Manager::start(&broker, &telegram, &gateway.url, folder.path(), &[]).await;
    let id = manager.call("POST", "/bots", &echo_bot(2, 2)).await.1["bot_id"].as_str().expect("an id").to_owned();
    manager.is(&id, "running", |bot| bot["status"] == "running" && bot["replicas"]["current"] == 2).await;
    let before = workers_of(&id);
    manager.end().await;
    assert_eq!(workers_of(&id), before, "workers outlive the manager");

    let manager = Manager::start(&broker, &telegram, &gateway.url, folder.path(), &[]).await;
    manager.is(&id, "found again", |bot| bot["replicas"]["current"] == 2).await;
    assert_eq!(workers_of(&id), before, "none is started twice");
    // Somebody kills one: another takes its place.
    let kill = std::process::Command::new("kill").args(["-KILL", &before[0].to_string()]).status().expect("kill runs");
    assert!(kill.success());
    until("another one runs", async || {
        let now = workers_of(&id);
        (now.len() == 2 && !now.contains(&before[0]) && now.contains(&before[1])).then_some(())
    })
    .await;
    manager.delete(&id).await;
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_and_what_can_never_be_made_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let (broker, telegram, gateway) = world(folder.path()).await;
    let more = [("MANAGER_TOKEN", "a-token-of-sixteen"), ("WORKERS", "broken=/bin/false")];
    let manager = Manager::start(&broker, &telegram, &gateway.url, folder.path(), &more).await;
    let ask = async |method: &str, path: &str, body: &str| {
        manager.ask(method, path, Some(body), Some("a-token-of-sixteen")).await.expect("answered")
    };
    for bearer in [None, Some("another-token-1234"), Some("")] {
        assert_eq!(manager.ask("GET", "/bots", None, bearer).await.expect("answered").0, 401);
    }
    assert_eq!(manager.ask("GET", "/health", None, None).await, Some((200, json!("ok"))));
    let error = |text: &str| json!({ "error": text });
    for body in ["", "{", "[]", "{\"bot_token\":\"1:x\"}", &format!("{{\"x\":1,{}", &echo_bot(0, 1).to_string()[1..])] {
        assert_eq!(ask("POST", "/bots", body).await, (400, error("invalid request body")), "{body}");
    }
    let with = |field: &str, value: Value| {
        let mut asked = echo_bot(0, 1);
        asked[field] = value;
        asked.to_string()
    };
    for (field, value, words) in [
        ("bot_token", json!(""), "bot_token: a bot's token is digits, a colon and letters, digits, - or _"),
        ("bot_name", json!(" "), "bot_name must be a text of 1 to 255 bytes in one line"),
        ("worker_image", json!("rm"), "worker_image must be a program of WORKERS: broken, echo"),
        ("min_replicas", json!(2), "min_replicas (2) must not be more than max_replicas (1)"),
        ("max_replicas", json!(0), "max_replicas must be at least 1"),
        ("max_replicas", json!(101), "max_replicas must be at most 100"),
        ("env_vars", json!({ "BOT_TOKEN": "x" }), "env_vars: BOT_TOKEN is set by the manager"),
        ("env_vars", json!({ "A B": "x" }), "env_vars: A B is no variable's name, or its value cannot be one"),
    ] {
        assert_eq!(ask("POST", "/bots", &with(field, value)).await, (400, error(words)));
    }
    assert_eq!(ask("GET", "/bots/abc", "").await, (404, error("bot not found")));
    assert_eq!(ask("DELETE", "/bots/..", "").await.0, 404);
    assert_eq!(ask("GET", "/bots", "").await, (200, json!([])));

    // Telegram does not know the token: it can never be.
    telegram.script(|method, _| (method == "setWebhook").then(|| (401, "Unauthorized", json!({}))));
    let (status, made) = ask("POST", "/bots", &echo_bot(1, 1).to_string()).await;
    assert_eq!(status, 201);
    let id = made["bot_id"].as_str().expect("an id").to_owned();
    assert_eq!(ask("POST", "/bots", &echo_bot(1, 1).to_string()).await, (409, error("this bot is registered already")));
    let path = format!("/bots/{id}");
    let failed = until("it has failed", async || Some(ask("GET", &path, "").await.1).filter(|bot| bot["status"] == "failed")).await;
    assert_eq!(failed["problem"], "Telegram refuses: 401: Unauthorized");
    assert!(workers_of(&id).is_empty() && manager.topics.made.lock().expect("no panic").is_empty());
    assert_eq!(ask("DELETE", &path, "").await.0, 200);
    until("it is gone", async || (ask("GET", &path, "").await.0 == 404).then_some(())).await;
    telegram.script(|_, _| None);

    // A worker that ends at once: told, and not started all the time.
    let (_, made) = ask("POST", "/bots", &with("worker_image", json!("broken")).replace("\"min_replicas\":0", "\"min_replicas\":1")).await;
    let path = format!("/bots/{}", made["bot_id"].as_str().expect("an id"));
    let words = until("its trouble is told", async || {
        ask("GET", &path, "").await.1["problem"].as_str().filter(|problem| problem.contains("end at once")).map(str::to_owned)
    })
    .await;
    assert!(words.starts_with("its workers end at once (exit status: 1), "), "{words}");
    assert_eq!(ask("DELETE", &path, "").await.0, 200);
    until("it is gone", async || (ask("GET", &path, "").await.0 == 404).then_some(())).await;
    manager.end().await;
}

/// Answers what the tour asks of a cluster, from the gateway and the manager that run here; anything else is a fault.
const KUBECTL: &str = r#"#!/usr/bin/env bash
set -euo pipefail
printf '%s\n' "$*" >>"$CALLS"
case "$*" in
  '--namespace telegram-serverless rollout status deployment/manager --timeout 300s') ;;
  '--namespace telegram-serverless rollout status deployment/tg-gateway --timeout 300s') ;;
  '--namespace telegram-serverless get secret watchkeeper-bots --output jsonpath={.data.MANAGER_TOKEN}') printf %s "$MANAGER_TOKEN" | base64 -w0 ;;
  '--namespace telegram-serverless get secret watchkeeper-bots --output jsonpath={.data.WEBHOOK_KEY}') printf %s "$WEBHOOK_KEY" | base64 -w0 ;;
  '--namespace telegram-serverless port-forward service/manager :8080') echo "Forwarding from 127.0.0.1:$MANAGER_PORT -> 8080"; exec sleep 600 ;;
  '--namespace telegram-serverless port-forward service/tg-gateway :8080') echo "Forwarding from 127.0.0.1:$GATEWAY_PORT -> 8080"; exec sleep 600 ;;
  '--namespace telegram-serverless get pods --selector app=tg-gateway --output jsonpath={.items[*].metadata.name}')
    if [[ -n $NO_PODS ]]; then echo 'no rights' >&2; exit 1; fi
    printf tg-gateway-1 ;;
  'get --raw /api/v1/namespaces/telegram-serverless/pods/tg-gateway-1:9090/proxy/metrics') curl -sS "http://127.0.0.1:$METRICS_PORT/metrics" ;;
  '--namespace telegram-serverless get deployment bot-'*' --output jsonpath={.status.readyReplicas}')
    id=${5#bot-}
    [[ $id =~ ^[0-9a-f]+$ && $6 == --output ]]
    curl -sS -H "Authorization: Bearer $MANAGER_TOKEN" "http://127.0.0.1:$MANAGER_PORT/bots/$id" | sed 's/.*"current":\([0-9]*\).*/\1/' ;;
  *) echo "kubectl is not asked for this: $*" >&2; exit 1 ;;
esac
"#;

const MANAGER_TOKEN: &str = "a-token-of-the-tests-0123456789";

/// Runs the example's tour with that `kubectl`.
async fn tour(folder: &Path, variables: &[(&str, String)]) -> Output {
    let (programs, calls) = (folder.join("programs"), folder.join("calls"));
    std::fs::create_dir_all(&programs).expect("a folder");
    let kubectl = programs.join("kubectl");
    std::fs::write(&kubectl, KUBECTL).expect("written");
    std::fs::set_permissions(&kubectl, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("may be run");
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/echo-bot/tour"));
    command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", programs.display())).env("CALLS", calls);
    command.env("MANAGER_TOKEN", MANAGER_TOKEN).env("WEBHOOK_KEY", KEY).envs(variables.iter().map(|(name, value)| (name, value)));
    tokio::task::spawn_blocking(move || command.output().expect("the tour runs")).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_of_the_example_goes_all_the_way_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (broker, telegram, gateway) = world(folder.path()).await;
    let manager = Manager::start(&broker, &telegram, &gateway.url, folder.path(), &[("MANAGER_TOKEN", MANAGER_TOKEN)]).await;
    let variables = |no_pods: &str| {
        [
            ("BOT_TOKEN", TOKEN.to_owned()),
            ("CHAT_ID", "7".to_owned()),
            ("BOT_IMAGE", "echo".to_owned()),
            ("BOT_API_URL", telegram.url.clone()),
            ("MANAGER_PORT", manager.url.rsplit(':').next().expect("a port").to_owned()),
            ("GATEWAY_PORT", gateway.port.to_string()),
            ("METRICS_PORT", gateway.metrics_port.to_string()),
            ("NO_PODS", no_pods.to_owned()),
        ]
    };
    let bots = async || manager.ask("GET", "/bots", None, Some(MANAGER_TOKEN)).await.expect("answered");

    let done = tour(folder.path(), &variables("")).await;
    let (said, complained) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}\n{complained}");
    let sent = telegram.taken("sendMessage");
    assert_eq!(sent.iter().filter_map(crate::support::telegram::Call::text).collect::<Vec<_>>(), ["The tour begins.", "Echo: the tour"]);
    for words in ["Telegram has taken it: look into the chat 7", "\"replicas\":{\"current\":1,\"min\":1,\"max\":3}", "That was all of it"] {
        assert!(said.contains(words), "{words}: {said}\n{complained}");
    }
    assert_eq!((bots().await, telegram.webhook()["url"].as_str()), ((200, json!([])), Some("")));
    for secret in [TOKEN, MANAGER_TOKEN, KEY] {
        assert!(!said.contains(secret) && !complained.contains(secret), "{said}\n{complained}");
    }
    let calls = std::fs::read_to_string(folder.path().join("calls")).expect("calls");
    assert!(
        ["rollout", "get secret", "port-forward", "get pods", "get --raw", "get deployment"].iter().all(|what| calls.contains(what)),
        "{calls}"
    );

    // Where it cannot go on, what it made is removed.
    let stopped = tour(folder.path(), &variables("yes")).await;
    let complained = String::from_utf8_lossy(&stopped.stderr);
    assert!(!stopped.status.success() && complained.contains("removing the bot"), "{complained}");
    until("the bot is gone", async || (bots().await == (200, json!([]))).then_some(())).await;

    // What is missing or cannot be is said before anything is asked.
    let calls = std::fs::read_to_string(folder.path().join("calls")).expect("calls");
    for (name, value, problem) in [
        ("BOT_TOKEN", "", "BOT_TOKEN is not set"),
        ("BOT_TOKEN", "12\"", "BOT_TOKEN must be as BotFather gives it"),
        ("CHAT_ID", "@ops", "CHAT_ID must be a number"),
        ("BOT_IMAGE", "a b", "BOT_IMAGE must be the name of an image"),
    ] {
        let mut variables = variables("");
        variables.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, set)| value.clone_into(set));
        let refused = tour(folder.path(), &variables).await;
        assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains(problem), "{problem}: {refused:?}");
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("calls")).expect("calls"), calls);
    manager.end().await;
}
