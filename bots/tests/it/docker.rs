//! Workers as containers, over a stand-in for Docker's Engine API; and, where `WATCHKEEPER_DOCKER` names the socket of an engine that may be
//! used for tests, over that one.

use crate::manager::{Manager, echo_bot, world};
use crate::support::engine::Engine;
use crate::support::telegram::message;
use crate::support::{KEY, TOKEN, bot, token, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use watchkeeper_bots::manager::bot::{Bot, Bounds, Phase, Places};
use watchkeeper_bots::manager::runtime::docker::{self, Docker, Plan};
use watchkeeper_bots::manager::runtime::{Removed, Runtime as _, RuntimeError};
use watchkeeper_bots::names::BotId;
use watchkeeper_bots::secret::Key;

/// What ends when it is told to, as the sidecar does when nothing is in flight.
const SIDECAR: [&str; 2] = ["/bin/sleep", "600"];

fn engine(folder: &Path) -> (Engine, String) {
    let socket = folder.join("docker.sock");
    let engine = Engine::start(&socket);
    engine.image(true, "registry.example:5000/bots/echo:latest", &[env!("CARGO_BIN_EXE_watchkeeper-bots"), "echo"]);
    (engine, format!("unix://{}", socket.display()))
}

/// A bot of that image.
fn asked(image: &str, min: u32, max: u32) -> Value {
    let mut asked = echo_bot(min, max);
    asked["worker_image"] = image.into();
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_in_containers_wakes_grows_sleeps_and_outlives_its_manager() {
    let folder = tempfile::tempdir().expect("a folder");
    let (broker, telegram, gateway) = world(folder.path()).await;
    let (engine, host) = engine(folder.path());
    engine.image(false, "watchkeeper-sidecar:latest", &SIDECAR);
    let more = [
        ("RUNTIME", "docker"),
        ("DOCKER_HOST", host.as_str()),
        ("DOCKER_NETWORK", "bots"),
        ("GATEWAY_BOT_API_URL", "http://tg-gateway:8082/"),
    ];
    let manager = Manager::start(&broker, &telegram, &gateway.url, folder.path(), &more).await;
    let (status, made) = manager.call("POST", "/bots", &asked("registry.example:5000/bots/echo", 0, 3)).await;
    assert_eq!(status, 201, "{made}");
    let id = made["bot_id"].as_str().expect("an id").to_owned();
    manager.is(&id, "running", |bot| bot["status"] == "running" && bot["replicas"]["current"] == 0).await;
    assert!(engine.containers().is_empty() && engine.pulled().is_empty());

    // One update wakes one worker, which has a sidecar; the image of that is fetched.
    telegram.deliver(&gateway.url, &bot(&id), &message(1, 7, "wake up")).await;
    let pair =
        until("a worker", async || Some(engine.containers()).filter(|all| all.iter().filter(|one| one.pid.is_some()).count() == 2)).await;
    assert_eq!(engine.pulled(), ["watchkeeper-sidecar:latest"]);
    assert_eq!([&pair[0].name, &pair[1].name], [&format!("bot-{id}-0"), &format!("bot-{id}-0-sidecar")]);
    assert_eq!(pair[0].spec["HostConfig"], json!({ "NetworkMode": "bots" }));
    assert_eq!(pair[1].spec["HostConfig"], json!({ "NetworkMode": format!("container:{}", pair[0].id), "Memory": 67_108_864 }));
    for one in &pair {
        assert_eq!((&one.spec["Labels"]["app"], &one.spec["Labels"]["bot-id"]), (&json!("telegram-bot"), &json!(id)));
    }
    let environment = pair[0].spec["Env"].as_array().expect("a list");
    let has = |line: String| environment.contains(&json!(line));
    assert!(
        has(format!("BOT_TOKEN={TOKEN}"))
            && has("SIDECAR_URL=http://localhost:8081".to_owned())
            && has("GRACE_PERIOD_SECONDS=10".to_owned())
    );
    let seal = Key::new(KEY).expect("a key").seal(&bot(&id), &token());
    assert!(has(format!("BOT_API_URL=http://tg-gateway:8082/{id}/{seal}")));
    assert!(has(format!("KAFKA_CONSUMER_GROUP=bot_{id}_workers")) && !pair[1].spec.to_string().contains(TOKEN));
    telegram.wait_for("sendMessage", 1).await;
    manager.is(&id, "asleep again", |bot| bot["replicas"]["current"] == 0 && bot["kafka_lag"] == 0).await;
    until("no container is left", async || engine.containers().is_empty().then_some(())).await;

    // Many need as many workers as there may be; none of them repeats anything when it goes.
    for nth in 0..40 {
        telegram.deliver(&gateway.url, &bot(&id), &message(10 + nth, 100 + nth, "many")).await;
    }
    manager.is(&id, "at its most", |bot| bot["replicas"]["current"] == 3).await;
    telegram.wait_for("sendMessage", 41).await;
    manager.is(&id, "asleep at last", |bot| bot["replicas"]["current"] == 0 && bot["kafka_lag"] == 0).await;
    until("no container is left", async || engine.containers().is_empty().then_some(())).await;
    assert_eq!(telegram.taken("sendMessage").len(), 41);

    // Two that always run are found by the next manager, and what ends of them is started again.
    manager.call("PATCH", &format!("/bots/{id}/replicas"), &json!({ "min_replicas": 2 })).await;
    manager.is(&id, "awake", |bot| bot["replicas"]["current"] == 2).await;
    let before =
        until("all run", async || Some(engine.containers()).filter(|all| all.iter().filter(|one| one.pid.is_some()).count() == 4)).await;
    manager.end().await;
    let manager = Manager::start(&broker, &telegram, &gateway.url, folder.path(), &more).await;
    manager.is(&id, "found again", |bot| bot["replicas"]["current"] == 2).await;
    assert_eq!(engine.containers(), before, "none is started twice");
    let kill = |pid: Option<u32>| {
        let status = std::process::Command::new("kill").args(["-KILL", &pid.expect("it runs").to_string()]).status();
        assert!(status.expect("kill runs").success());
    };
    let find = |name: &str| engine.containers().into_iter().find(|one| one.name == name);
    let (worker, sidecar) = (format!("bot-{id}-0"), format!("bot-{id}-1-sidecar"));
    let (old, old_sidecar) = (find(&worker).expect("there"), find(&sidecar).expect("there"));
    kill(old.pid);
    until("another worker runs", async || find(&worker).filter(|new| new.id != old.id && new.pid.is_some())).await;
    kill(old_sidecar.pid);
    until("the sidecar runs again", async || find(&sidecar).filter(|new| new.pid.is_some() && new.pid != old_sidecar.pid)).await;
    assert_eq!(find(&sidecar).map(|new| new.id), Some(old_sidecar.id));
    manager.delete(&id).await;
    assert!(engine.containers().is_empty());
    manager.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_in_a_container_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (broker, telegram, gateway) = world(folder.path()).await;
    let (engine, host) = engine(folder.path());
    engine.image(true, "watchkeeper-sidecar:latest", &SIDECAR);
    engine.image(true, "broken:1", &["/bin/false"]);
    engine.image(true, "nothing:1", &["/no/such/program"]);
    engine.image(false, "full:1", &[]);
    let deaf = format!("trap '' TERM; : > {}; while :; do sleep 0.1; done", folder.path().join("deaf").display());
    engine.image(true, "deaf:1", &["/bin/sh", "-c", &deaf]);
    let more = [("RUNTIME", "docker"), ("DOCKER_HOST", host.as_str()), ("DOCKER_NETWORK", "bots"), ("GRACE_PERIOD_SECONDS", "0")];
    let manager = Manager::start(&broker, &telegram, &gateway.url, folder.path(), &more).await;
    let (status, words) = manager.call("POST", "/bots", &asked("../../secrets", 1, 1)).await;
    assert_eq!((status, words), (400, json!({ "error": "worker_image must be the name of an image" })));
    for (image, status, problem) in [
        (
            "missing:1",
            "failed",
            "image missing:1: pull access denied for missing:1, repository does not exist or may require 'docker login'",
        ),
        ("full:1", "creating", "image full:1: Docker refuses: 500: no space left"),
        ("broken:1", "creating", "its workers end at once (exit code 1), "),
        ("nothing:1", "creating", "Docker refuses: 400: failed to create task for container: exec: no such file or directory"),
    ] {
        let id = manager.call("POST", "/bots", &asked(image, 1, 1)).await.1["bot_id"].as_str().expect("an id").to_owned();
        let told = |bot: &Value| bot["problem"].as_str().is_some_and(|words| words.starts_with(problem));
        let told = manager.is(&id, problem, told).await;
        assert!(told["status"] == status || (image == "broken:1" && told["status"] == "running"), "{told}");
        manager.delete(&id).await;
        assert!(engine.containers().is_empty());
    }
    // Who does not hear is killed, when its grace and more have passed.
    let id = manager.call("POST", "/bots", &asked("deaf:1", 1, 1)).await.1["bot_id"].as_str().expect("an id").to_owned();
    until("it is deaf", async || folder.path().join("deaf").exists().then_some(())).await;
    manager.delete(&id).await;
    assert!(engine.containers().is_empty());
    // Without an engine nothing is begun.
    drop(engine);
    let id = manager.call("POST", "/bots", &asked("echo:1", 1, 1)).await.1["bot_id"].as_str().expect("an id").to_owned();
    manager.is(&id, "told why", |bot| bot["problem"].as_str().is_some_and(|words| words.starts_with("Docker does not answer: "))).await;
    manager.end().await;
}

/// The image of the sidecar is bot and sidecar here: it runs until it is told to go, and needs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_engine_does_what_the_stand_in_does() {
    let (Ok(socket), Ok(image)) = (std::env::var("WATCHKEEPER_DOCKER"), std::env::var("WATCHKEEPER_DOCKER_SIDECAR")) else {
        println!("skipped: WATCHKEEPER_DOCKER and WATCHKEEPER_DOCKER_SIDECAR are not set");
        return;
    };
    let plan = Plan {
        network: std::env::var("WATCHKEEPER_DOCKER_NETWORK").unwrap_or_else(|_| "bridge".to_owned()),
        sidecar_image: image.clone(),
        places: Places { brokers: "127.0.0.1:9".to_owned(), bot_api: None },
        grace: Duration::from_secs(3),
    };
    let installation = BotId::new().expect("random").to_string();
    let runtime = || Docker::new(&installation, docker::Engine::new(Path::new(&socket)), plan.clone());
    let made = Bot {
        id: BotId::new().expect("random"),
        name: "x".to_owned(),
        token: token(),
        image,
        bounds: Bounds { min: 0, max: 2 },
        env: BTreeMap::from([("PORT".to_owned(), "8082".to_owned()), ("METRICS_PORT".to_owned(), "9092".to_owned())]),
        created: "2025-10-14T12:30:45Z".parse().expect("a time"),
        phase: Phase::Creating,
        problem: None,
    };
    let first = runtime();
    first.apply(&made, 2).await.expect("made");
    assert_eq!(first.ready(&made.id).await.expect("asked"), 2);
    // Another manager finds them, starts none, and lets one go.
    let second = runtime();
    second.apply(&made, 2).await.expect("nothing to do");
    assert_eq!(second.ready(&made.id).await.expect("asked"), 2);
    until("one is left", async || {
        second.apply(&made, 1).await.expect("applied");
        (second.ready(&made.id).await.expect("asked") == 1).then_some(())
    })
    .await;
    until("nothing is left", async || (second.remove(&made.id).await.expect("removed") == Removed::Gone).then_some(())).await;
    // An image that nobody has.
    let nobody = Bot { image: "watchkeeper.invalid/nobody/nothing:1".to_owned(), ..made };
    let refused = until("it is refused", async || match second.apply(&nobody, 1).await {
        Err(RuntimeError::Again(words)) if words.ends_with("is being pulled") => None,
        other => Some(other),
    })
    .await;
    println!("an image that nobody has: {refused:?}");
    assert!(refused.is_err());
}
