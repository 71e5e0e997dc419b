//! What a bot is made of on Kubernetes, and that the manager makes it so whatever happens on the way.

use crate::support::cluster::{Cluster, NAMESPACE, rights};
use crate::support::{bot, token};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use watchkeeper_bots::manager::bot::{Bot, Bounds, Phase, Places};
use watchkeeper_bots::manager::registry::{Registry, RegistryError};
use watchkeeper_bots::manager::runtime::kubernetes::objects::{self, Plan};
use watchkeeper_bots::manager::runtime::kubernetes::{Kubernetes, Secrets};
use watchkeeper_bots::manager::runtime::{Removed, Runtime, RuntimeError};

fn plan() -> Plan {
    Plan {
        namespace: NAMESPACE.to_owned(),
        sidecar_image: "your-registry/watchkeeper-sidecar:1".to_owned(),
        places: Places { brokers: "kafka:9092".to_owned(), bot_api: None },
        grace: Duration::from_secs(30),
    }
}

fn echo_bot(id: &str) -> Bot {
    Bot {
        id: bot(id),
        name: "echo_bot".to_owned(),
        token: token(),
        image: "your-registry/echo-bot:1".to_owned(),
        bounds: Bounds { min: 0, max: 5 },
        env: BTreeMap::from([("GREETING".to_owned(), "hé".to_owned())]),
        created: "2025-10-14T12:30:45Z".parse().expect("a time"),
        phase: Phase::Creating,
        problem: None,
    }
}

fn owner() -> k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
    serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Secret", "name": "bot-abc123def456-secrets", "uid": "uid-1" }))
        .expect("an owner")
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(&serde_json::to_value(value).expect("JSON")).expect("JSON")
}

#[test]
fn the_objects_are_as_they_were_reviewed() {
    let bot = echo_bot("abc123def456");
    insta::assert_snapshot!("deployment", pretty(&objects::deployment(&plan(), &bot, owner(), None)));
    insta::assert_snapshot!("scaled_object", pretty(&objects::scaled_object(&plan(), &bot, owner())));
    insta::assert_snapshot!("secret", pretty(&objects::secret(&plan(), &bot, BTreeMap::new())));
}

/// The first and the second thing of a bot's life: its Secret, and everything else.
async fn made(cluster: &Cluster, bot: &Bot) -> (Secrets, Kubernetes) {
    let (secrets, runtime) = (Secrets::new(cluster.client(), &plan()), Kubernetes::new(cluster.client(), plan()));
    secrets.add(bot).await.expect("added");
    runtime.apply(bot, 0).await.expect("applied");
    (secrets, runtime)
}

const ALL: [&str; 3] = ["deployments/bot-a1", "scaledobjects/bot-a1-scaler", "secrets/bot-a1-secrets"];

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_is_made_applied_again_and_removed() {
    let (cluster, bot) = (Cluster::start().await, echo_bot("a1"));
    let (secrets, runtime) = made(&cluster, &bot).await;
    assert_eq!(cluster.names(), ALL);
    let deployment = cluster.get(ALL[0]).expect("there");
    assert_eq!(deployment["spec"]["replicas"], 0);
    let secret = cluster.get(ALL[2]).expect("there");
    assert_eq!(deployment["metadata"]["ownerReferences"][0]["uid"], secret["metadata"]["uid"]);
    // The token is in the Secret and nowhere else.
    assert!(!deployment.to_string().contains(token().expose()) && !secret["metadata"].to_string().contains(token().expose()));
    let containers: Vec<&Value> =
        deployment["spec"]["template"]["spec"]["containers"].as_array().expect("some").iter().map(|c| &c["name"]).collect();
    assert_eq!(containers, ["bot", "sidecar"]);

    // What is kept is what was asked for, variables too.
    let kept = secrets.get(&bot.id).await.expect("answered").expect("there");
    assert_eq!(
        (kept.name, kept.image, kept.bounds, kept.env, kept.created),
        (bot.name.clone(), bot.image.clone(), bot.bounds, bot.env.clone(), bot.created)
    );
    assert_eq!(kept.token.expose(), token().expose());

    // KEDA scales; applying again changes nothing of that.
    cluster.change(ALL[0], |d| {
        d["spec"]["replicas"] = json!(3);
        d["status"] = json!({ "readyReplicas": 2 });
    });
    runtime.apply(&bot, 0).await.expect("applied");
    assert_eq!(cluster.get(ALL[0]).expect("there")["spec"]["replicas"], 3);
    assert_eq!(runtime.ready(&bot.id).await.expect("answered"), 2);

    // Other bounds reach KEDA.
    secrets.set_bounds(&bot.id, Bounds { min: 1, max: 9 }).await.expect("written");
    let changed = secrets.get(&bot.id).await.expect("answered").expect("there");
    runtime.apply(&changed, 1).await.expect("applied");
    let scaler = cluster.get(ALL[1]).expect("there");
    assert_eq!((&scaler["spec"]["minReplicaCount"], &scaler["spec"]["maxReplicaCount"]), (&json!(1), &json!(9)));

    // Its pods end what they have in hand; then it is gone, and its Secret last.
    assert_eq!(runtime.remove(&bot.id).await.expect("answered"), Removed::Going);
    assert_eq!(runtime.remove(&bot.id).await.expect("answered"), Removed::Going);
    assert_eq!(cluster.names(), [ALL[0], ALL[2]]);
    cluster.pods_end();
    assert_eq!(runtime.remove(&bot.id).await.expect("answered"), Removed::Gone);
    secrets.remove(&bot.id).await.expect("removed");
    secrets.remove(&bot.id).await.expect("removed again");
    assert!(cluster.names().is_empty());
    assert_eq!(runtime.ready(&bot.id).await.expect("answered"), 0);
    // A whole life needs every right that the example's Role gives.
    assert_eq!(cluster.used(), rights());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_changed_or_removed_is_mended() {
    let (cluster, bot) = (Cluster::start().await, echo_bot("a1"));
    let (_, runtime) = made(&cluster, &bot).await;
    let (deployment, scaler) = (cluster.get(ALL[0]).expect("there"), cluster.get(ALL[1]).expect("there"));
    cluster.change(ALL[0], |d| {
        d["spec"]["template"]["spec"]["containers"] = json!([]);
        d["metadata"]["labels"]["app"] = json!("another");
        d["metadata"]["labels"]["team"] = json!("theirs");
    });
    cluster.remove(ALL[1]);
    runtime.apply(&bot, 0).await.expect("applied");
    let mended = cluster.get(ALL[0]).expect("there");
    assert_eq!(mended["spec"], deployment["spec"]);
    assert_eq!(mended["metadata"]["labels"]["app"], "telegram-bot");
    assert_eq!(mended["metadata"]["labels"]["team"], "theirs", "what others own is left alone");
    assert_eq!(cluster.get(ALL[1]).expect("made again")["spec"], scaler["spec"]);
    // The Deployment too.
    cluster.remove(ALL[0]);
    runtime.apply(&bot, 2).await.expect("applied");
    assert_eq!(cluster.get(ALL[0]).expect("made again")["spec"]["replicas"], 2);
    // Without its Secret a bot is no more, and Kubernetes removes what belonged to it.
    cluster.remove(ALL[2]);
    assert!(cluster.names().is_empty());
    assert!(matches!(runtime.apply(&bot, 0).await, Err(RuntimeError::Again(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_the_middle_is_gone_on_with() {
    let (cluster, bot) = (Cluster::start().await, echo_bot("a1"));
    let (secrets, runtime) = (Secrets::new(cluster.client(), &plan()), Kubernetes::new(cluster.client(), plan()));
    secrets.add(&bot).await.expect("added");
    // KEDA is not installed, or its webhook is away: everything before it is there.
    cluster.script(|method, object| (method == "PATCH" && object.starts_with("scaledobjects")).then_some((500, "InternalError")));
    let failed = runtime.apply(&bot, 0).await.expect_err("it fails");
    assert!(matches!(&failed, RuntimeError::Again(words) if words == "applying the ScaledObject: 500 as the test asked for"), "{failed}");
    assert_eq!(cluster.names(), [ALL[0], ALL[2]]);
    cluster.script(|_, _| None);
    runtime.apply(&bot, 0).await.expect("applied");
    assert_eq!(cluster.names(), ALL);
    assert_eq!(cluster.calls().iter().filter(|call| *call == "POST deployments").count(), 1);

    // What can never be is told as such, rights are not.
    cluster.script(|method, _| (method == "PATCH").then_some((422, "Invalid")));
    assert!(matches!(runtime.apply(&bot, 0).await, Err(RuntimeError::Never(_))));
    cluster.script(|method, _| (method == "PATCH").then_some((403, "Forbidden")));
    assert!(matches!(runtime.apply(&bot, 0).await, Err(RuntimeError::Again(_))));
    // Removing goes on where it was.
    cluster.script(|method, object| (method == "DELETE" && object.starts_with("deployments")).then_some((500, "InternalError")));
    assert!(matches!(runtime.remove(&bot.id).await, Err(RuntimeError::Again(_))));
    cluster.script(|_, _| None);
    assert_eq!(runtime.remove(&bot.id).await.expect("answered"), Removed::Going);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_write_at_once_do_not_undo_each_other() {
    let (cluster, bot) = (Cluster::start().await, echo_bot("a1"));
    let secrets = Secrets::new(cluster.client(), &plan());
    secrets.add(&bot).await.expect("added");
    assert!(matches!(secrets.add(&bot).await, Err(RegistryError::Taken)));
    assert!(matches!(secrets.add(&echo_bot("b2")).await, Err(RegistryError::Taken)), "one bot of Telegram's under two ids");

    // Somebody deletes it while another one writes how far it is.
    let mut conflicts = 2;
    cluster.script(move |method, _| {
        let conflict = method == "PATCH" && conflicts > 0;
        conflicts -= i32::from(conflict);
        conflict.then_some((409, "Conflict"))
    });
    secrets.set_phase(&bot.id, Phase::Deleting, None).await.expect("written in the end");
    secrets.set_phase(&bot.id, Phase::Running, None).await.expect("written");
    let kept = secrets.get(&bot.id).await.expect("answered").expect("there");
    assert_eq!(kept.phase, Phase::Deleting);
    cluster.script(|method, _| (method == "PATCH").then_some((409, "Conflict")));
    assert!(matches!(secrets.set_bounds(&bot.id, bot.bounds).await, Err(RegistryError::Broken(_))));

    // A Secret that somebody has broken leaves the others alone.
    cluster.script(|_, _| None);
    cluster.change(ALL[2], |secret| secret["data"]["BOT_TOKEN"] = json!("eA=="));
    assert!(secrets.all().await.expect("answered").is_empty());
}
