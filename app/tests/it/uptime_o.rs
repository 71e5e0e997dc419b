//! UptimeOAgent's installations, run by the shipped program as their users run them: two variables, and tables.

use crate::support::app::until;
use crate::support::servers::Closed;
use crate::support::uptime_o::{Installation, Target};
use serde_json::{Value as Json, json};

/// The query that UptimeOAgent's document gives.
const NEWEST: &str = "SELECT * FROM api_heartbeats ORDER BY executed_at DESC LIMIT 10;";

#[tokio::test(flavor = "multi_thread")]
async fn two_variables_are_enough() {
    let Some(seed) = Installation::new().await else { return };
    let target = Target::answering("application/json", br#"{"ip": "192.0.2.1"}"#).await;
    seed.watch(1, "IPfy", "HTTP", &target.server.url("/ip?format=json"), 1).await;
    seed.execute(
        r#"UPDATE api_monitors SET method = 'POST', headers = '{"X-Team":"sre"}', body = '{"limit":200}' WHERE id = 1;
           INSERT INTO api_monitors (id, name, method, type, url, schedule_id) VALUES (9, 'elsewhere', 'GET', 'HTTP', 'http://127.0.0.1:1/', 1);
           INSERT INTO datacenter_monitors VALUES (2, 9)"#,
    )
    .await;
    let agent = seed.agent("va", &[]);
    seed.heartbeats(1, 2).await;

    let newest = seed.rows(NEWEST).await;
    let beat = &newest[0];
    assert_eq!((&beat["monitor_id"], &beat["agent_id"], &beat["success"]), (&json!(1), &json!(11), &json!(true)), "{beat}");
    assert_eq!((&beat["response_status_code"], &beat["response_size_bytes"]), (&json!(200), &json!(19)), "{beat}");
    assert_eq!((&beat["response_content_type"], &beat["response_server"]), (&json!("application/json"), &json!("nginx")), "{beat}");
    assert_eq!((&beat["warning_threshold_ms"], &beat["critical_threshold_ms"]), (&json!(250), &json!(800)), "{beat}");
    assert_eq!((&beat["error_type"], &beat["error_message"], &beat["response_cache_status"]), (&Json::Null, &Json::Null, &Json::Null));
    assert_eq!(
        (&beat["raw_response_body"]["ip"], &beat["raw_response_headers"]["Content-Type"]),
        (&json!("192.0.2.1"), &json!("application/json"))
    );
    assert_eq!(
        (&beat["raw_request_headers"]["User-Agent"], &beat["raw_request_headers"]["X-Team"]),
        (&json!("CustomMonitor/1.0"), &json!("sre"))
    );
    for phase in ["response_time_ms", "dns_lookup_ms", "tcp_connect_ms", "tls_handshake_ms", "time_to_first_byte_ms"] {
        assert!(beat[phase].as_i64().is_some_and(|ms| (0..1_000).contains(&ms)), "{phase}: {beat}");
    }
    let off = seed.number("SELECT max(abs(extract(epoch FROM executed_at - (now() AT TIME ZONE 'UTC')))) FROM api_heartbeats").await;
    assert!(off < 30, "executed_at is UTC without a zone: {off} s away");

    let asked = target.asked();
    let head = asked[0].to_ascii_lowercase();
    assert!(head.starts_with("post /ip?format=json http/1.1\r\n") && head.ends_with("\r\n\r\n{\"limit\":200}"), "{head}");
    assert!(head.contains("\r\nuser-agent: custommonitor/1.0\r\n") && head.contains("\r\nx-team: sre\r\n"), "{head}");

    for text in [
        "application started",
        "application postgres connection: successful",
        "application found the datacenterId: 1",
        "monitor 1 (IPfy): schedule 1 (every second), every 1 s, warning 250 ms, critical none",
        "Acquired lock for datacenter:1",
        "Heartbeat inserted for monitor 1 (IPfy)",
    ] {
        agent.says(text).await;
    }
    assert!(!agent.said("elsewhere"), "what is assigned to another datacenter is not watched here");
    assert!(agent.program.stop().await.success());
    let log = std::fs::read_to_string(seed.folder.path().join("va.log")).unwrap();
    for text in ["Shutdown signal received", "Released lock for datacenter:1", "Application shut down"] {
        assert!(log.contains(text), "{text}: {log}");
    }
    seed.all_is_saved().await;
    seed.nothing_is_doubled().await;
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_change_take_effect_without_a_restart() {
    let Some(seed) = Installation::new().await else { return };
    let (first, second) = (Target::answering("text/plain", b"one").await, Target::answering("text/plain", b"two").await);
    seed.watch(1, "stays", "HTTP", &first.server.url("/stays"), 1).await;
    seed.watch(2, "moves", "HTTP", &first.server.url("/moves"), 1).await;
    let agent = seed.agent("va", &[("CONFIG_RELOAD_INTERVAL", "1s")]);
    seed.heartbeats(2, 1).await;
    let revisions = "SELECT uid, id, rev FROM wk_monitor ORDER BY uid";
    let before = seed.rows(revisions).await;

    seed.execute(&format!("UPDATE api_monitors SET url = '{}', name = 'moved' WHERE id = 2", second.server.url("/moved"))).await;
    until("the new url is asked", async || second.asked().iter().any(|head| head.starts_with("GET /moved ")).then_some(())).await;
    seed.watch(3, "added", "HTTP", &second.server.url("/added"), 2).await;
    let added = seed.heartbeats(3, 1).await;
    assert_eq!((&added[0]["warning_threshold_ms"], &added[0]["critical_threshold_ms"]), (&json!(300), &json!(800)));
    assert_eq!(added[0]["raw_response_body"], Json::Null, "its schedule does not ask for bodies");
    agent.says("Heartbeat inserted for monitor 2 (moved)").await;
    agent.says("Config reloaded").await;
    let after = seed.rows(revisions).await;
    assert_eq!(after[0], before[0], "what did not change is not touched");
    assert_eq!(after[1]["id"], before[1]["id"], "a new name is not a new monitor");

    // A slower schedule: the beats of the next three seconds are fewer than three.
    seed.execute("UPDATE schedules SET interval = 3600 WHERE id = 2").await;
    until("the new pace is in force", async || {
        let config = seed.rows("SELECT config FROM wk_monitor WHERE uid LIKE '%-000000000003'").await;
        config[0]["config"].as_str().unwrap().contains("3600s").then_some(())
    })
    .await;
    let slow = seed.heartbeats(3, 1).await.len();
    let stays = seed.heartbeats(1, 1).await.len();
    seed.heartbeats(1, stays + 3).await;
    assert!(seed.heartbeats(3, 1).await.len() <= slow + 1, "one of its old pace may have been on its way");

    seed.execute("DELETE FROM datacenter_monitors WHERE monitor_id = 2").await;
    until("it is no longer watched", async || {
        (seed.number("SELECT count(*) FROM wk_monitor WHERE uid LIKE '%-000000000002' AND retired_at IS NULL").await == 0).then_some(())
    })
    .await;
    assert!(agent.program.stop().await.success());
    seed.all_is_saved().await;
    seed.nothing_is_doubled().await;
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_answered_has_its_row() {
    let Some(seed) = Installation::new().await else { return };
    let long = "x".repeat(51);
    let html = Target::answering(&long, b"<p>\0\xff \"not JSON\"").await;
    let nul = Target::answering("application/json", br#"{"a":"b\u0000c"}"#).await;
    seed.watch(1, "html", "HTTP", &html.server.url("/"), 1).await;
    seed.watch(2, "nul", "HTTP", &nul.server.url("/"), 1).await;
    let closed = Closed::port();
    seed.watch(3, "refuses", "HTTP", &format!("http://{}/", closed.address), 1).await;
    seed.watch(4, "port", "TCP", &html.server.address.to_string(), 1).await;
    seed.watch(5, "host", "PING", "127.0.0.1", 1).await;
    let agent = seed.agent("va", &[]);
    let html = seed.heartbeats(1, 1).await.remove(0);
    assert_eq!((&html["response_content_type"], &html["raw_response_body"]), (&json!("x".repeat(50)), &json!("<p>\u{fffd} \"not JSON\"")));
    assert_eq!(seed.heartbeats(2, 1).await[0]["raw_response_body"], json!({ "a": "bc" }));
    let refused = seed.heartbeats(3, 1).await.remove(0);
    assert_eq!(
        (&refused["success"], &refused["error_type"], &refused["response_status_code"]),
        (&json!(false), &json!("CONNECT_ERROR"), &json!(0))
    );
    assert!(refused["error_message"].as_str().is_some_and(|text| text.contains("refused")), "{refused}");
    agent.says("Monitor execution failed for monitor 3 (refuses)").await;
    agent.says("Failed heartbeat inserted for monitor 3 (refuses)").await;
    let port = seed.heartbeats(4, 1).await.remove(0);
    assert_eq!((&port["success"], &port["response_status_code"], &port["raw_response_headers"]), (&json!(true), &json!(0), &Json::Null));
    // Where this node may not ping it says so, and writes nothing that would not be true.
    until("the host is pinged, or that may not be", async || {
        let pinged = !seed.rows("SELECT 1 FROM api_heartbeats WHERE monitor_id = 5 AND success").await.is_empty();
        (pinged || agent.said("could not look (permission)")).then_some(())
    })
    .await;
    assert!(agent.program.stop().await.success());
    seed.all_is_saved().await;
    seed.nothing_is_doubled().await;
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agent_of_a_datacenter_is_active_and_the_next_takes_over() {
    let Some(seed) = Installation::new().await else { return };
    let target = Target::answering("text/plain", b"ok").await;
    seed.watch(1, "shop", "HTTP", &target.server.url("/"), 1).await;
    let one = seed.agent("one", &[]);
    one.says("Acquired lock for datacenter:1").await;
    seed.heartbeats(1, 1).await;
    let two = seed.agent("two", &[]);
    two.says("Another instance is active. Waiting...").await;
    assert!(!two.said("Acquired lock"));
    one.program.kill();
    two.says("Acquired lock for datacenter:1").await;
    let so_far = seed.heartbeats(1, 1).await.len();
    seed.heartbeats(1, so_far + 2).await;
    // And once more in good order: the third need not wait for a lease to run out.
    let three = seed.agent("three", &[]);
    three.says("Another instance is active. Waiting...").await;
    assert!(two.program.stop().await.success());
    three.says("Acquired lock for datacenter:1").await;
    let so_far = seed.heartbeats(1, 1).await.len();
    seed.heartbeats(1, so_far + 2).await;
    assert!(three.program.stop().await.success());
    seed.all_is_saved().await;
    seed.nothing_is_doubled().await;
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_datacenter_watches_what_it_is_assigned() {
    let Some(seed) = Installation::new().await else { return };
    let target = Target::answering("text/plain", b"ok").await;
    for (id, name) in [(1, "everywhere"), (2, "va only"), (3, "ny only")] {
        seed.watch(id, name, "HTTP", &target.server.url("/"), 1).await;
    }
    seed.execute("DELETE FROM datacenter_monitors WHERE monitor_id = 3; INSERT INTO datacenter_monitors VALUES (2, 1), (2, 3)").await;
    let va = seed.agent("va", &[]);
    let ny = seed.agent("ny", &[("DATACENTER_ID", "2")]);
    va.says("Acquired lock for datacenter:1").await;
    ny.says("Acquired lock for datacenter:2").await;
    let agents_of = async |monitor| {
        let rows = seed.rows(&format!("SELECT DISTINCT agent_id FROM api_heartbeats WHERE monitor_id = {monitor} ORDER BY agent_id")).await;
        rows.iter().map(|row| row["agent_id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    for (monitor, agents) in [(1, vec![11, 13]), (2, vec![11]), (3, vec![13])] {
        until(&format!("agents {agents:?} watch {monitor}"), async || (agents_of(monitor).await == agents).then_some(())).await;
    }
    // A change reaches both, whichever of them says what is in force.
    seed.watch(4, "new", "HTTP", &target.server.url("/new"), 1).await;
    seed.execute("INSERT INTO datacenter_monitors VALUES (2, 4)").await;
    until("both watch the new one", async || (agents_of(4).await == [11, 13]).then_some(())).await;
    for agent in [&va, &ny] {
        assert!(!agent.said("stands by"), "{:#?}", agent.lines());
    }
    assert!(va.program.stop().await.success() && ny.program.stop().await.success());
    assert_eq!((agents_of(2).await, agents_of(3).await), (vec![11], vec![13]));
    seed.all_is_saved().await;
    seed.nothing_is_doubled().await;
    seed.database.drop_it().await;
}
