//! What goes wrong around UptimeOAgent's installations: rows that cannot be used, tables that are gone, a database that is away.

use crate::support::app::until;
use crate::support::servers::free_address;
use crate::support::uptime_o::{Installation, Target, Way};
use serde_json::json;
use std::process::Command;

/// The repair that UptimeOAgent's document gives.
const SETVAL: &str = "SELECT setval('api_heartbeats_id_seq', (SELECT COALESCE(MAX(id), 0) + 1 FROM api_heartbeats));";

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_told_and_left_out() {
    let Some(seed) = Installation::new().await else { return };
    let target = Target::answering("text/plain", b"ok").await;
    seed.watch(1, "good", "HTTP", &target.server.url("/good"), 1).await;
    seed.watch(2, "no schedule", "HTTP", &target.server.url("/2"), 1).await;
    seed.execute("UPDATE api_monitors SET schedule_id = NULL WHERE id = 2").await;
    seed.watch(3, "no url", "HTTP", "not a url", 1).await;
    seed.watch(4, "no type", "GOPHER", &target.server.url("/4"), 1).await;
    let quiet = seed.agent("quiet", &[("LOG_LEVEL", "WARNING")]);
    quiet.says("api_monitors 4 (type)").await;
    assert!(quiet.lines().iter().all(|line| line["level"] != "info"), "{:?}", quiet.lines());
    assert!(quiet.program.stop().await.success());
    let agent = seed.agent("va", &[("CONFIG_RELOAD_INTERVAL", "1s")]);
    for (id, told) in [(2, "api_monitors 2 (schedule_id): found nothing"), (3, "api_monitors 3 (url)"), (4, "api_monitors 4 (type)")] {
        let line = agent.says(told).await;
        assert_eq!((&line["level"], &line["table"], &line["id"]), (&json!("warning"), &json!("api_monitors"), &json!(id)), "{line}");
    }
    seed.heartbeats(1, 2).await;
    // Mended and spoilt while it runs.
    seed.execute("UPDATE api_monitors SET schedule_id = 1 WHERE id = 2; UPDATE api_monitors SET headers = '[]' WHERE id = 1").await;
    seed.heartbeats(2, 1).await;
    agent.says("api_monitors 1 (headers): found no object").await;
    agent.says("api_monitors 2 is good now, or gone").await;
    assert_eq!(agent.lines().iter().filter(|line| line["id"] == json!(3)).count(), 1, "what is still wrong is told once");
    assert!(agent.program.stop().await.success());
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_that_cannot_be_saved_are_told_and_saved_later() {
    let Some(seed) = Installation::new().await else { return };
    let target = Target::answering("text/plain", b"ok").await;
    seed.watch(1, "shop", "HTTP", &target.server.url("/"), 1).await;
    // Rows with numbers of their own leave the sequence behind, as after a restored dump.
    seed.execute(
        "INSERT INTO api_heartbeats (id, monitor_id, agent_id, executed_at) VALUES (1, 1, 11, '2025-10-24'), (2, 1, 11, '2025-10-24')",
    )
    .await;
    seed.execute("ALTER TABLE api_heartbeats RENAME TO api_heartbeats_away").await;
    seed.execute(
        "CREATE TABLE api_heartbeats (LIKE api_heartbeats_away INCLUDING ALL); ALTER TABLE api_heartbeats ADD CHECK (success IS NULL)",
    )
    .await;
    let agent = seed.agent("va", &[]);
    let line = agent.says("Failed to save heartbeat").await;
    assert_eq!(line["level"], json!("error"));
    until("it is checked all the same", async || (target.server.accepted() >= 3).then_some(())).await;
    seed.execute("DROP TABLE api_heartbeats; ALTER TABLE api_heartbeats_away RENAME TO api_heartbeats").await;
    // Drawing numbers passes over those that are taken, one attempt each; the document's repair does it at once.
    seed.rows(SETVAL).await;
    seed.heartbeats(1, 5).await;
    assert!(agent.program.stop().await.success());
    seed.all_is_saved().await;
    assert_eq!(seed.number("SELECT count(*) - count(DISTINCT executed_at) FROM api_heartbeats WHERE id > 2").await, 0);
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_it_is_checked_and_saved_later() {
    let Some(seed) = Installation::new().await else { return };
    let target = Target::answering("text/plain", b"ok").await;
    seed.watch(1, "shop", "HTTP", &target.server.url("/"), 1).await;
    let way = Way::to(&seed.database.url).await;
    let mut agent = seed.agent("va", &[("DB_CONN_STRING", &way.connection(&seed.connection()))]);
    seed.heartbeats(1, 2).await;
    way.open.send_replace(false);
    agent.says("Failed to save heartbeat").await;
    agent.says("the tables cannot be read, so what was read before stays in force").await;
    let (asked, saved) = (target.server.accepted(), seed.heartbeats(1, 2).await.len());
    // Longer than any lease.
    until("it is checked all the same", async || (target.server.accepted() >= asked + 8).then_some(())).await;
    assert!(!agent.program.has_ended());
    assert!(seed.heartbeats(1, saved).await.len() <= saved + 1, "one may have been on its way");
    way.open.send_replace(true);
    seed.heartbeats(1, saved + 10).await;
    agent.says("the tables can be read again").await;
    assert!(!agent.said("Another instance is active"), "there is none");
    assert!(agent.program.stop().await.success());
    seed.all_is_saved().await;
    seed.nothing_is_doubled().await;
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_goes_away_while_it_runs_is_told_once_and_missed_until_it_is_back() {
    let Some(seed) = Installation::new().await else { return };
    let target = Target::answering("text/plain", b"ok").await;
    seed.watch(1, "shop", "HTTP", &target.server.url("/"), 1).await;
    let agent = seed.agent("va", &[("CONFIG_RELOAD_INTERVAL", "1s")]);
    seed.heartbeats(1, 1).await;
    seed.execute("ALTER TABLE schedules RENAME TO schedules_away").await;
    let line = agent.says("the tables cannot be read").await;
    assert!(line["level"] == "warning" && line.to_string().contains("schedules"), "{line}");
    let asked = target.server.accepted();
    until("it is checked all the same", async || (target.server.accepted() >= asked + 4).then_some(())).await;
    seed.execute("ALTER TABLE schedules_away RENAME TO schedules").await;
    agent.says("the tables can be read again").await;
    let told = agent.lines().iter().filter(|line| line["msg"].as_str().unwrap().contains("the tables cannot be read")).count();
    assert_eq!(told, 1);
    let saved = seed.heartbeats(1, 1).await.len();
    seed.heartbeats(1, saved + 2).await;
    assert!(agent.program.stop().await.success());
    seed.all_is_saved().await;
    seed.nothing_is_doubled().await;
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_find_what_the_variables_started() {
    let Some(seed) = Installation::new().await else { return };
    let target = Target::answering("text/plain", b"ok").await;
    seed.watch(1, "shop of the tables", "HTTP", &target.server.url("/"), 1).await;
    let listen = free_address().await;
    let file = seed.folder.path().join("beside.yaml");
    std::fs::write(
        &file,
        format!(
            "server: {{ listen: '{listen}' }}
agent: {{ name: va-1 }}
"
        ),
    )
    .unwrap();
    let agent = seed.agent("va", &[("WATCHKEEPER_CONFIG", file.to_str().unwrap())]);
    agent.says("is up on").await;
    seed.heartbeats(1, 1).await;
    let command = async |args: &[&str], wanted: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchkeeper"));
        command.args(args).env("DB_CONN_STRING", seed.connection()).env("DATACENTER_ID", "1").env("WATCHKEEPER_CONFIG", &file);
        command.current_dir(seed.folder.path());
        // A busy machine may make it unwell for a moment, which is said.
        until(&format!("{args:?} says {wanted}"), async || {
            let done = command.output().unwrap();
            (done.status.success() && String::from_utf8_lossy(&done.stdout).starts_with(wanted)).then_some(done)
        })
        .await
    };
    let status = command(&["status"], "1 monitor: 1 up").await;
    assert!(String::from_utf8_lossy(&status.stdout).contains("shop of the tables"), "{status:?}");
    command(&["token", "create", "reader"], "wk_").await;
    command(&["healthcheck"], "ok\n").await;
    assert!(!seed.folder.path().join("watchkeeper.db").exists(), "no other store is made");
    assert!(agent.program.stop().await.success());
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_answered_on_its_port() {
    let Some(seed) = Installation::new().await else { return };
    let way = Way::to(&seed.database.url).await;
    let connection = way.connection(&seed.connection());
    let agent = seed.agent("va", &[("HEALTH_PORT", "0"), ("DB_CONN_STRING", &connection)]);
    let is = |status, body: &str| (status, body.to_owned());
    agent.says("is up on").await;
    assert_eq!(agent.health("/healthz").await, is(200, "ok"));
    assert_eq!(agent.health("/readyz").await, is(200, "ready"));
    way.open.send_replace(false);
    until("the database is missed", async || (agent.health("/readyz").await == is(503, "database unavailable")).then_some(())).await;
    assert_eq!(agent.health("/healthz").await, is(200, "ok"));
    way.open.send_replace(true);
    until("it is back", async || (agent.health("/readyz").await == is(200, "ready")).then_some(())).await;
    assert!(agent.program.stop().await.success());
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_at_the_start_is_said_and_ends_it() {
    let Some(seed) = Installation::new().await else { return };
    let cases = [
        ("DATACENTER_ID", "3", "datacenters has no row 3"),
        ("DB_CONN_STRING", "postgres://watchkeeper:hunter2@127.0.0.1:9/nothing", "the database"),
    ];
    for (nth, (name, value, said)) in cases.into_iter().enumerate() {
        let mut agent = seed.agent(&format!("case-{nth}"), &[(name, value)]);
        assert_eq!(agent.program.ended().await.code(), Some(1), "{said}");
        let line = agent.says(said).await;
        assert!(line["level"] == "error" && !line.to_string().contains("hunter2"), "{line}");
    }
    seed.execute("DELETE FROM agents").await;
    let mut agent = seed.agent("no-agent", &[]);
    assert_eq!(agent.program.ended().await.code(), Some(1));
    agent.says("No agents found for DATACENTER_ID:1").await;
    seed.execute("DROP TABLE api_heartbeats").await;
    let mut agent = seed.agent("no-table", &[]);
    assert_eq!(agent.program.ended().await.code(), Some(1));
    agent.says("no table api_heartbeats; `watchkeeper seed-schema uptime-o` makes what is missing").await;
    seed.database.drop_it().await;
}
