//! Monitors, channels and maintenance windows that are made over the API: over the whole program, as whoever uses it sees it.

use crate::support::app::{TestApp, until};
use crate::support::caller::{Caller, etag, problems};
use crate::support::postgres;
use crate::support::servers::Server;
use crate::support::store::{TestStore, each_store};
use crate::support::web::{Answer, open};
use crate::support::webhook;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use watchkeeper::store::{self, Beside, DocumentWrite, Mandate, Store, TenantObjects};
use watchkeeper::web::auth::Role;
use watchkeeper_core::Micros;

/// What is made over the API may reach this machine, and is looked at often.
const HEAD: &str = "server: { listen: 127.0.0.1:0, api_targets: private }\nagent: { name: test }\ndefaults: { every: 1s, recheck: 1s }\n";
const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

fn http(name: &str, url: &str) -> Value {
    json!({ "name": name, "probe": { "http": { "url": url } } })
}

/// Waits until `/ready` says how many objects are left out.
async fn warned(caller: &Caller, left_out: usize) {
    let objects = if left_out == 1 {
        "1 object that was made over the API is".to_owned()
    } else {
        format!("{left_out} objects that were made over the API are")
    };
    let warning = json!([format!("{objects} left out; GET /api/v1/documents says why")]);
    until(&format!("{warning}"), async || (caller.get("/ready").await.json()["warnings"] == warning).then_some(())).await;
}

fn problems_of(answer: &Answer) -> Vec<String> {
    problems(answer).into_iter().map(|(path, found)| format!("{path}: {found}")).collect()
}

#[tokio::test]
async fn a_monitor_is_made_watched_changed_renamed_paused_and_removed() {
    let target = Server::http(WELL).await;
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;

    let asked = json!({
        "name": "shop", "labels": { "team": "web", "log_file": "a label" },
        "probe": { "http": { "url": target.url("/health?token=t0p"), "bearer_token": "s3cret", "headers": { "X-Team": "web", "X-Api-Key": "k3y" } } },
    });
    let made = ann.post("/api/v1/monitors", asked).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let monitor = made.json();
    assert_eq!((&monitor["name"], &monitor["origin"], &monitor["made"]["made_by"]), (&json!("shop"), &json!("api"), &json!("admin")));
    let shown = json!({
        "name": "shop", "labels": { "team": "web", "log_file": "a label" },
        "probe": { "http": { "url": target.url("/health?token=***"), "bearer_token": "***", "headers": { "X-Team": "web", "X-Api-Key": "***" } } },
    });
    assert_eq!(monitor["made"]["body"], shown);
    for secret in ["s3cret", "k3y", "t0p"] {
        assert!(!made.body.contains(secret), "{}", made.body);
    }
    app.until_health("shop", "up").await;
    let uid = monitor["uid"].as_str().unwrap();

    // What was not seen is not overwritten; what is shown may be sent back.
    let read = ann.get("/api/v1/monitors/shop").await;
    assert_eq!((etag(&read), &read.json()["made"]), (etag(&made), &monitor["made"]));
    let mut body = read.json()["made"]["body"].clone();
    body["every"] = json!("2s");
    let path = format!("/api/v1/monitors/{uid}");
    let changed = ann.call(Method::PUT, &path, &[("if-match", &etag(&read))], body.to_string()).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    assert_ne!(etag(&changed), etag(&read));
    // The same version, named as whoever has read it in gzip's form knows it.
    let seen = open(ann.address, Method::GET, &path, Some(&ann.token), &[("accept-encoding", "gzip")], Bytes::new()).await;
    let packed = seen.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(seen.headers()["content-encoding"], "gzip");
    assert_eq!(packed, format!("\"{}-gzip\"", etag(&changed).trim_matches('"')));
    let outdated = packed.replace(etag(&changed).trim_matches('"'), etag(&read).trim_matches('"'));
    let late = ann.call(Method::PUT, &path, &[("if-match", &outdated)], body.to_string()).await;
    assert_eq!((late.status, late.error_code().as_str()), (StatusCode::PRECONDITION_FAILED, "changed_meanwhile"));
    let again = ann.call(Method::PUT, &path, &[("if-match", &packed)], body.to_string()).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.body);
    let late = ann.call(Method::PUT, &path, &[("if-match", &etag(&read))], body.to_string()).await;
    assert_eq!((late.status, late.error_code().as_str()), (StatusCode::PRECONDITION_FAILED, "changed_meanwhile"));
    let stored = app.store.documents().await.unwrap().rows.remove(0);
    let kept: Value = serde_json::from_str(&stored.body).unwrap();
    assert_eq!((&kept["probe"]["http"]["bearer_token"], &kept["every"]), (&json!("s3cret"), &json!("2s")));
    assert_eq!(kept["probe"]["http"]["url"], target.url("/health?token=t0p"));

    // Another name, the same monitor.
    let renamed = ann.patch(&path, json!({ "name": "store", "labels": { "team": null, "tier": "1" } })).await;
    assert_eq!(renamed.status, StatusCode::OK, "{}", renamed.body);
    assert_eq!((&renamed.json()["uid"], &renamed.json()["labels"]), (&json!(uid), &json!({ "tier": "1", "log_file": "a label" })));
    assert_eq!(renamed.json()["created_at"], monitor["created_at"]);
    assert_eq!(ann.get("/api/v1/monitors/shop").await.status, StatusCode::NOT_FOUND);
    assert!(!ann.get(&format!("{path}/heartbeats")).await.json()["items"].as_array().unwrap().is_empty(), "its history stays");

    // Whoever acts may pause, and nothing else.
    let bob = Caller::of(&app, "default", Role::Operator).await;
    let paused = bob.call(Method::POST, &format!("{path}/pause"), &[], "").await;
    assert_eq!((paused.status, &paused.json()["paused"]), (StatusCode::OK, &json!(true)), "{}", paused.body);
    let resumed = bob.call(Method::POST, &format!("{path}/resume"), &[], "").await;
    assert_eq!((&resumed.json()["paused"], &resumed.json()["made"]["body"]["paused"]), (&json!(false), &Value::Null));
    for refused in
        [bob.post("/api/v1/monitors", http("x", "http://127.0.0.1/")).await, bob.patch(&path, json!({})).await, bob.delete(&path).await]
    {
        assert_eq!((refused.status, refused.error_code().as_str()), (StatusCode::FORBIDDEN, "forbidden"));
    }

    // A restart keeps it.
    app.stop().await;
    let mut store = store;
    store.store = store::open(&store.url).await.unwrap();
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller { address: app.address, ..ann };
    app.until_health("store", "up").await;
    assert_eq!(ann.get(&path).await.json()["made"]["changed_by"], "operator");

    let gone = ann.delete(&path).await;
    assert_eq!(gone.status, StatusCode::OK, "{}", gone.body);
    assert_eq!(ann.get("/api/v1/monitors").await.json()["items"], json!([]));
    assert_eq!(ann.delete(&path).await.error_code(), "not_found");
    // Everything is in the audit log, and no secret is.
    let log = ann.get("/api/v1/audit").await;
    let deeds: Vec<String> = log.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|deed| format!("{} {}", deed["action"].as_str().unwrap(), deed["status"]))
        .collect();
    assert_eq!(deeds[0], format!("DELETE {path} 404"));
    assert_eq!(deeds.last().unwrap(), "POST /api/v1/monitors 201");
    assert_eq!(log.json()["items"].as_array().unwrap().last().unwrap()["detail"], "monitor shop, version 1");
    assert!(!log.body.contains("s3cret"));
    app.stop().await;
}

#[tokio::test]
async fn a_bad_body_changes_nothing_and_every_problem_names_its_field() {
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let cases = [
        (json!({}), vec![("name", "`name` is missing"), ("probe", "`probe` is missing")]),
        (json!({ "name": "a", "probe": { "http": {} } }), vec![("probe.http.url", "`url` is missing")]),
        (
            json!({ "name": "a", "probe": { "http": { "url": "ftp://x/", "methd": "GET", "expect": { "status": [200, "often"] } } }, "every": "soon", "down_after": 0 }),
            vec![
                ("down_after", "found `0`"),
                ("every", "found `soon`"),
                ("probe.http.expect.status[1]", "found `often`"),
                ("probe.http.methd", "unknown key `methd`"),
                ("probe.http.url", "found `ftp://x/`"),
            ],
        ),
        (
            json!({ "name": "a", "probe": { "icmp": { "host": "h" } }, "notify": ["nobody"] }),
            vec![("notify[0]", "unknown channel `nobody`")],
        ),
        (json!({ "name": "a", "probe": { "icmp": { "host": "h" } }, "depends_on": ["b"] }), vec![("depends_on[0]", "unknown monitor `b`")]),
        // What only the machine's own administrator may say.
        (
            json!({ "name": "a", "id": "0190c1d8-6d2f-7c3a-9d3e-0d6f5a1b2c3d", "was": "b", "probe": { "http": { "url": "https://x/${HOME}", "ca_file": "/etc/shadow" } } }),
            vec![("id", "`id`"), ("probe.http.ca_file", "`ca_file`"), ("probe.http.url", "`${…}`"), ("was", "`was`")],
        ),
        (
            json!({ "name": "a", "probe": { "http": { "url": "https://x/", "bearer_token": "***" } } }),
            vec![("probe.http.bearer_token", "`***`, which stands for a secret that is stored, and here none is")],
        ),
        (json!({ "url": "https://x/", "chek_ssl": true }), vec![("chek_ssl", "unknown key `chek_ssl`")]),
    ];
    for (body, wanted) in cases {
        let answer = ann.post("/api/v1/monitors", body.clone()).await;
        let mut found = problems(&answer);
        found.sort();
        let wanted: Vec<(String, String)> = wanted.into_iter().map(|(path, found)| (path.to_owned(), found.to_owned())).collect();
        assert_eq!(found, wanted, "{body}");
        assert!(answer.json()["problems"].as_array().unwrap().iter().all(|problem| problem["accepted"].is_string()), "{}", answer.body);
    }
    let near = ann.post("/api/v1/monitors", json!({ "name": "a", "prob": {}, "probe": { "icmp": { "host": "h" } } })).await;
    assert_eq!(near.json()["problems"][0]["nearest"], "probe");
    for (body, code) in [("[]", "bad_request"), ("{", "bad_request"), ("", "bad_object")] {
        assert_eq!(ann.call(Method::POST, "/api/v1/monitors", &[], body).await.error_code(), code);
    }
    let deep = format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60));
    let answer = ann.call(Method::POST, "/api/v1/monitors", &[], deep).await;
    assert!(problems(&answer).iter().any(|(_, found)| found == "deeper nesting"), "{}", answer.body);
    let large = json!({ "name": "a", "labels": { "x": "y".repeat(70_000) } });
    assert_eq!(ann.post("/api/v1/monitors", large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let bad_match = ann.call(Method::DELETE, "/api/v1/monitors/x", &[("if-match", "17")], "").await;
    assert_eq!(bad_match.error_code(), "bad_request");
    assert_eq!(app.store.documents().await.unwrap(), store::Documents::default(), "nothing was written");
    app.stop().await;
}

/// The rules of a monitor, in its order.
async fn rules_of(caller: &Caller, monitor: &str) -> Vec<Value> {
    let all = caller.get("/api/v1/alert-rules").await.json();
    let own = all["items"].as_array().unwrap().iter().filter(|rule| rule["monitor_name"] == monitor);
    own.cloned().collect()
}

#[tokio::test]
async fn a_rule_is_made_changed_and_removed_with_its_monitor() {
    let target = Server::http(WELL).await;
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    ann.post("/api/v1/alert-channels", json!({ "name": "ops", "webhook": { "url": target.url("/hook") } })).await;
    let made = ann.post("/api/v1/monitors", http("shop", &target.url("/"))).await;
    let uid = made.json()["uid"].as_str().unwrap().to_owned();

    // The rules that it had inherited stay beside the new one. It is in the form that V-Insight's clients send.
    let asked = json!({ "monitor_id": uid, "name": "too slow", "trigger_type": "slow_response", "threshold_value": 800, "enabled": true, "channel_ids": ["ops"] });
    let slow = ann.post("/api/v1/alert-rules", asked).await;
    assert_eq!(slow.status, StatusCode::CREATED, "{}", slow.body);
    let expected = json!({
        "id": format!("{uid}:too slow"), "monitor_id": uid, "monitor_name": "shop", "name": "too slow", "trigger_type": "slow_response",
        "threshold_value": 800, "enabled": true, "severity": "warning", "channel_ids": ["ops"],
    });
    assert_eq!(slow.json(), expected);
    let down = rules_of(&ann, "shop").await.remove(0);
    assert_eq!((&down["trigger_type"], &down["threshold_value"], &down["channel_ids"]), (&json!("down"), &json!(3), &json!(["ops"])));
    let monitor = ann.get("/api/v1/monitors/shop").await;
    assert_eq!(etag(&monitor), etag(&slow), "it is a version of the monitor");
    let alerts = json!([{ "down": {} }, { "slow_response": { "above": "800ms", "for": "1 of 1" }, "notify": ["ops"], "name": "too slow" }]);
    assert_eq!(monitor.json()["made"]["body"]["alerts"], alerts);

    // Whether it would be told.
    let tested = ann.post(&format!("/api/v1/alert-rules/{uid}:too%20slow/test"), json!({})).await.json();
    assert_eq!((&tested["valid"], &tested["issues"]), (&json!(true), &json!([])));
    let silent = ann.put(&format!("/api/v1/alert-rules/{uid}:down"), json!({ "trigger_type": "down", "channel_ids": [] })).await;
    assert_eq!((silent.status, &silent.json()["channel_ids"]), (StatusCode::OK, &json!([])), "{}", silent.body);
    let tested = ann.post(&format!("/api/v1/alert-rules/{uid}:down/test"), json!({})).await.json();
    assert_eq!((&tested["valid"], tested["issues"].as_array().unwrap().len()), (&json!(false), 1), "{tested}");

    // What is not given of it stays, and so does what this form has no room for.
    let mut more = alerts.clone();
    more[1]["remind"] = json!("1h");
    ann.patch("/api/v1/monitors/shop", json!({ "alerts": more })).await;
    let path = format!("/api/v1/alert-rules/{uid}:too%20slow");
    let changed = ann.put(&path, json!({ "trigger_type": "slow_response", "threshold_value": 500, "severity": "critical" })).await;
    assert_eq!((changed.status, &changed.json()["threshold_value"]), (StatusCode::OK, &json!(500)), "{}", changed.body);
    more[1]["slow_response"]["above"] = json!("500ms");
    more[1]["severity"] = json!("critical");
    assert_eq!(ann.get("/api/v1/monitors/shop").await.json()["made"]["body"]["alerts"], more);
    // Failures are counted by the monitor.
    let twice = ann.put(&format!("/api/v1/alert-rules/{uid}:down"), json!({ "trigger_type": "down", "threshold_value": 2 })).await;
    assert_eq!(
        (&twice.json()["threshold_value"], &ann.get("/api/v1/monitors/shop").await.json()["made"]["body"]["down_after"]),
        (&json!(2), &json!(2))
    );

    // Over what somebody else has made of it nothing is written.
    let seen = [("if-match", etag(&changed))];
    let late = ann.call(Method::DELETE, &path, &[(seen[0].0, &seen[0].1)], "").await;
    assert_eq!((late.status, late.error_code().as_str()), (StatusCode::PRECONDITION_FAILED, "changed_meanwhile"));
    assert_eq!(ann.delete(&path).await.status, StatusCode::OK);
    assert_eq!(ann.delete(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(rules_of(&ann, "shop").await.len(), 1);
    let audited = ann.get("/api/v1/audit").await.json()["items"].to_string();
    assert!(audited.contains("POST /api/v1/alert-rules") && audited.contains("monitor shop, version"), "{audited}");
    app.stop().await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_changes_nothing_and_says_why() {
    let target = Server::http(WELL).await;
    let store = TestStore::sqlite().await;
    let file = format!("{HEAD}monitors:\n  - name: filed\n    probe: {{ http: {{ url: \"{}\" }} }}\n", target.url("/"));
    let app = TestApp::start_whole(&file, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let uid = ann.post("/api/v1/monitors", http("shop", &target.url("/"))).await.json()["uid"].as_str().unwrap().to_owned();
    let before = ann.get("/api/v1/monitors/shop").await.json()["made"].clone();
    for (rule, path) in [
        (json!({ "monitor_id": uid, "trigger_type": "docker", "threshold_value": 1 }), "trigger_type"),
        (json!({ "monitor_id": uid, "trigger_type": "down" }), "trigger_type"),
        (json!({ "monitor_id": uid, "trigger_type": "slow_response" }), "threshold_value"),
        (json!({ "monitor_id": uid, "trigger_type": "slow_response", "threshold_value": 0 }), "threshold_value"),
        (json!({ "monitor_id": uid, "trigger_type": "ssl_expiry", "threshold_value": 9000 }), "threshold_value"),
        (json!({ "monitor_id": uid, "name": " x", "trigger_type": "blind", "threshold_value": 60 }), "name"),
        (json!({ "monitor_id": uid, "trigger_type": "blind", "severity": "grave" }), "severity"),
        (json!({ "monitor_id": uid, "trigger_type": "blind", "channel_ids": ["nobody"] }), "channel_ids[0]"),
        (json!({ "monitor_id": uid, "trigger_type": "blind", "enabled": false }), "enabled"),
        (json!({ "trigger_type": "blind" }), "monitor_id"),
    ] {
        let answer = ann.post("/api/v1/alert-rules", rule.clone()).await;
        assert_eq!(problems(&answer)[0].0, path, "{rule}: {}", answer.body);
    }
    let misspelt = ann.post("/api/v1/alert-rules", json!({ "monitor_id": uid, "trigger_type": "blind", "treshold": 1 })).await;
    assert_eq!((misspelt.status, misspelt.error_code().as_str()), (StatusCode::BAD_REQUEST, "bad_request"));
    let moved = ann.put(&format!("/api/v1/alert-rules/{uid}:down"), json!({ "monitor_id": "filed", "trigger_type": "down" })).await;
    assert_eq!(problems(&moved)[0].0, "monitor_id");
    assert_eq!(ann.get("/api/v1/monitors/shop").await.json()["made"], before);

    // Those of a monitor in a file are changed there.
    let of_file = ann.post("/api/v1/alert-rules", json!({ "monitor_id": "filed", "trigger_type": "blind" })).await;
    assert_eq!((of_file.status, of_file.error_code().as_str()), (StatusCode::CONFLICT, "from_a_file"));
    assert!(of_file.body.contains("test.yaml:5"), "{}", of_file.body);
    assert_eq!(ann.delete("/api/v1/alert-rules/filed:down").await.error_code(), "from_a_file");
    assert_eq!(
        ann.post("/api/v1/alert-rules", json!({ "monitor_id": "none", "trigger_type": "blind" })).await.status,
        StatusCode::NOT_FOUND
    );
    app.stop().await;
}

#[tokio::test]
async fn rules_of_the_files_defaults_become_a_monitors_own_when_one_is_added() {
    let target = Server::http(WELL).await;
    let store = TestStore::sqlite().await;
    let head = HEAD.replace("recheck: 1s }", "recheck: 1s, alerts: [ { down: { }, severity: warning }, { blind: { for: 5m } } ] }");
    let app = TestApp::start_whole(&head, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let uid = ann.post("/api/v1/monitors", http("shop", &target.url("/"))).await.json()["uid"].as_str().unwrap().to_owned();
    let before = rules_of(&ann, "shop").await;
    let added =
        ann.post("/api/v1/alert-rules", json!({ "monitor_id": uid, "trigger_type": "slow_response", "threshold_value": 900 })).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.body);
    assert_eq!((&rules_of(&ann, "shop").await[..2], before.len()), (&before[..], 2));
    app.stop().await;
}

#[tokio::test]
async fn yaml_and_v_insights_flat_form_are_taken_too() {
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let yaml = "# a comment\nname: shop\nprobe: { tcp: { address: '127.0.0.1:9' } }\ndown_after: 5\nlabels: { price: $5 }\n";
    let made = ann.call(Method::POST, "/api/v1/monitors", &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let body = json!({ "name": "shop", "probe": { "tcp": { "address": "127.0.0.1:9" } }, "down_after": 5, "labels": { "price": "$5" } });
    assert_eq!(made.json()["made"]["body"], body);
    let bad = ann.call(Method::POST, "/api/v1/monitors", &[("content-type", "text/yaml; charset=utf-8")], "name: [").await;
    assert!(problems(&bad)[0].1.contains("this is not YAML"), "{}", bad.body);
    let alias = ann.call(Method::POST, "/api/v1/monitors", &[("content-type", "application/yaml")], "a: &x 1\nb: *x\n").await;
    assert_eq!(problems(&alias).len(), 2);

    let flat = json!({ "name": "old", "url": "https://example.org/", "check_interval": 120, "timeout": 20, "enabled": false, "ssl_alert_days": 21 });
    let made = ann.post("/api/v1/monitors", flat).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let body = json!({
        "name": "old", "probe": { "http": { "url": "https://example.org/" } }, "every": "120s", "timeout": "20s", "paused": true,
        "alerts": [{ "down": {} }, { "ssl_expiry": { "within": "21d" } }],
    });
    assert_eq!((&made.json()["made"]["body"], &made.json()["paused"]), (&body, &json!(true)));
    app.stop().await;
}

#[tokio::test]
async fn what_is_in_a_file_is_changed_there_and_keeps_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wk.yaml");
    let text = format!(
        "{HEAD}channels:\n  - {{ name: ops, webhook: {{ url: 'http://127.0.0.1:9/' }} }}\nmonitors:\n  - {{ name: shop, probe: {{ push: {{ expect_every: 1h }} }} }}\n\
         maintenance: [ {{ name: move, every: {{ cron: '0 3 * * SUN', for: 2h }} }} ]\n"
    );
    std::fs::write(&file, &text).unwrap();
    let store = TestStore::sqlite().await;
    let app = TestApp::start_on(&file, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let push = |name: &str| json!({ "name": name, "probe": { "push": { "expect_every": "1h" } } });
    for (answer, place) in [
        (ann.put("/api/v1/monitors/shop", push("shop")).await, "wk.yaml:7"),
        (ann.patch("/api/v1/monitors/shop", json!({ "paused": true })).await, "wk.yaml:7"),
        (ann.delete("/api/v1/monitors/shop").await, "wk.yaml:7"),
        (ann.call(Method::POST, "/api/v1/monitors/shop/pause", &[], "").await, "wk.yaml:7"),
        (ann.delete("/api/v1/alert-channels/ops").await, "wk.yaml:5"),
        (ann.delete("/api/v1/maintenance/move").await, "wk.yaml:8"),
    ] {
        assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::CONFLICT, "from_a_file"), "{}", answer.body);
        assert!(answer.body.contains(place), "{}", answer.body);
    }
    for (path, body) in [
        ("/api/v1/monitors", push("shop")),
        ("/api/v1/alert-channels", json!({ "name": "ops", "webhook": { "url": "http://127.0.0.1:9/" } })),
        ("/api/v1/maintenance", json!({ "name": "move", "every": { "cron": "0 4 * * *", "for": "1h" } })),
    ] {
        let answer = ann.post(path, body).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::CONFLICT, "name_taken"), "{}", answer.body);
        assert!(answer.body.contains("wk.yaml"), "{}", answer.body);
    }
    assert_eq!(ann.post("/api/v1/monitors", push("job")).await.status, StatusCode::CREATED);
    assert_eq!(ann.post("/api/v1/monitors", push("job")).await.error_code(), "name_taken");
    assert_eq!(ann.patch("/api/v1/monitors/job", json!({ "name": "shop" })).await.error_code(), "name_taken");

    // A file that takes the name later wins; what was made is left out, says so, and is back under another name.
    let uid = ann.get("/api/v1/monitors/job").await.json()["uid"].clone();
    std::fs::write(&file, text.replace("monitors:", "monitors:\n  - { name: job, probe: { push: { expect_every: 2h } } }")).unwrap();
    assert_eq!(ann.call(Method::POST, "/-/reload", &[], "").await.status, StatusCode::OK);
    let taken = ann.get("/api/v1/monitors/job").await.json();
    assert_eq!((&taken["uid"], taken["origin"].as_str().unwrap().ends_with("wk.yaml:7")), (&uid, true), "with its history: {taken}");
    warned(&ann, 1).await;
    let left = ann.get("/api/v1/documents").await.json()["items"][0].clone();
    assert_eq!((&left["name"], &left["problems"][0]["path"]), (&json!("job"), &json!("name")));
    let renamed = ann.put(&format!("/api/v1/monitors/{}", left["uid"].as_str().unwrap()), push("other job")).await;
    assert_eq!(renamed.status, StatusCode::OK, "{}", renamed.body);
    assert_ne!(renamed.json()["uid"], uid);
    assert_eq!(ann.get("/api/v1/monitors/job").await.json()["uid"], uid);
    app.stop().await;
}

#[tokio::test]
async fn a_change_uses_the_files_in_force_and_a_broken_file_does_not_hinder_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wk.yaml");
    std::fs::write(&file, HEAD).unwrap();
    let store = TestStore::sqlite().await;
    let app = TestApp::start_on(&file, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    std::fs::write(&file, "monitors: [ { name: broken } ]\n").unwrap();
    let made = ann.post("/api/v1/monitors", json!({ "name": "job", "probe": { "push": { "expect_every": "1h" } } })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert!(made.json()["push_token"].is_string(), "what its job needs is answered at once");
    app.stop().await;
}

#[tokio::test]
async fn what_others_need_stays_as_it_is() {
    let hook = webhook::start(true).await;
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let channel = json!({ "name": "ops", "webhook": { "url": format!("{}/hook?x=s3cret", hook.url), "secret": webhook::SECRET } });
    let made = ann.post("/api/v1/alert-channels", channel).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert!(!made.body.contains("s3cret"), "{}", made.body);
    assert_eq!(made.json()["made"]["body"]["webhook"], json!({ "url": format!("{}/***", hook.url), "secret": "***" }));
    let push = |more: Value| {
        let mut body = json!({ "name": "job", "probe": { "push": { "expect_every": "1h" } } });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(ann.post("/api/v1/monitors", push(json!({ "notify": ["ops"] }))).await.status, StatusCode::CREATED);
    let needed = ann.delete("/api/v1/alert-channels/ops").await;
    assert_eq!((needed.status, needed.error_code().as_str()), (StatusCode::CONFLICT, "in_use"), "{}", needed.body);
    assert!(needed.body.contains("monitor job: notify[0]: unknown channel `ops`"), "{}", needed.body);
    let renamed = ann.put("/api/v1/alert-channels/ops", json!({ "name": "dev", "webhook": { "url": "http://127.0.0.1:9/" } })).await;
    assert_eq!(renamed.error_code(), "in_use");

    // A test message goes out over it, and a changed body that was shown keeps its secrets.
    let mut body = made.json()["made"]["body"].clone();
    body["language"] = json!("ru");
    let changed = ann.put("/api/v1/alert-channels/ops", body).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    let tested = ann.call(Method::POST, "/api/v1/alert-channels/ops/test", &[], "").await;
    assert_eq!(tested.status, StatusCode::OK, "{}", tested.body);
    assert_eq!(hook.wait_for(1).await[0].path, "/hook?x=s3cret");

    assert_eq!(ann.delete("/api/v1/monitors/job").await.status, StatusCode::OK);
    assert_eq!(ann.delete("/api/v1/alert-channels/ops").await.status, StatusCode::OK);
    assert_eq!(ann.get("/api/v1/alert-channels").await.json()["items"], json!([]));
    app.stop().await;
}

#[tokio::test]
async fn work_is_announced_and_called_off() {
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let bob = Caller::of(&app, "default", Role::Operator).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    assert_eq!(
        ann.post("/api/v1/monitors", json!({ "name": "job", "probe": { "push": { "expect_every": "1h" } } })).await.status,
        StatusCode::CREATED
    );
    let window =
        json!({ "name": "move", "match": { "monitors": ["job"] }, "once": { "from": "2020-01-01 00:00", "to": "2199-01-01 00:00" } });
    let made = bob.post("/api/v1/maintenance", window).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert_eq!(
        (&made.json()["ends_at"], &made.json()["open_until"]),
        (&json!("2199-01-01T00:00:00.000000Z"), &json!("2199-01-01T00:00:00.000000Z"))
    );
    assert_eq!(ann.get("/api/v1/monitors/job").await.json()["mutes"][0]["id"], "move");
    let bad = bob
        .post(
            "/api/v1/maintenance",
            json!({ "name": "x", "match": { "monitors": ["jbo"] }, "once": { "from": "soon", "to": "2020-01-01 00:00" } }),
        )
        .await;
    let mut found: Vec<String> = problems(&bad).into_iter().map(|(path, _)| path).collect();
    found.sort();
    assert_eq!(found, ["match.monitors[0]", "once.from"]);
    let later = bob.put("/api/v1/maintenance/move", json!({ "once": { "from": "2198-01-01 00:00", "to": "2199-01-01 00:00" } })).await;
    assert_eq!((later.status, &later.json()["open_until"]), (StatusCode::OK, &Value::Null), "{}", later.body);
    let weekly = json!({ "name": "sunday", "every": { "cron": "0 3 * * SUN", "for": "2h", "zone": "Europe/Berlin" } });
    let made = bob.post("/api/v1/maintenance", weekly).await.json();
    assert_eq!(made["every"], json!({ "cron": "0 3 * * SUN", "for": "2h", "zone": "Europe/Berlin" }));
    let calendar = bob.get("/api/v1/maintenance?from=2026-10-18T00:00:00Z&to=2026-10-26T00:00:00Z").await.json();
    let fall =
        |from: &str, to: &str| json!({ "starts_at": format!("2026-10-{from}:00.000000Z"), "ends_at": format!("2026-10-{to}:00.000000Z") });
    assert_eq!(calendar["items"][0]["falls"], json!([]), "it is announced for another century");
    assert_eq!(
        calendar["items"][1]["falls"],
        json!([fall("18T01:00", "18T03:00"), fall("25T02:00", "25T04:00")]),
        "by the clock on the wall"
    );
    for bad in [
        "from=2026-10-18T00:00:00Z",
        "from=2026-10-18T00:00:00Z&to=2026-10-18T00:00:00Z",
        "from=2026-01-01T00:00:00Z&to=2027-01-01T00:00:00Z",
    ] {
        assert_eq!(bob.get(&format!("/api/v1/maintenance?{bad}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(bob.delete("/api/v1/maintenance/sunday").await.status, StatusCode::OK);
    let list = bob.get("/api/v1/maintenance").await.json();
    assert_eq!(
        (&list["items"][0]["name"], &list["items"][0]["origin"], &list["items"][0]["made"]["made_by"]),
        (&json!("move"), &json!("api"), &json!("operator"))
    );
    assert_eq!(bob.delete("/api/v1/maintenance/move").await.status, StatusCode::OK);
    assert_eq!(bob.get("/api/v1/maintenance").await.json()["items"], json!([]));
    app.stop().await;
}

#[tokio::test]
async fn a_tenant_reaches_nothing_of_another_and_may_have_the_same_names() {
    let store = TestStore::sqlite().await;
    let yaml = format!("{HEAD}tenants: [ {{ name: acme }} ]\n");
    let app = TestApp::start_whole(&yaml, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let eve = Caller::of(&app, "acme", Role::Admin).await;
    let hook = json!({ "name": "ops", "webhook": { "url": "http://127.0.0.1:9/" } });
    assert_eq!(ann.post("/api/v1/alert-channels", hook.clone()).await.status, StatusCode::CREATED);
    let job = json!({ "name": "job", "probe": { "push": { "expect_every": "1h" } }, "notify": ["ops"] });
    let made = ann.post("/api/v1/monitors", job.clone()).await.json();
    let uid = made["uid"].as_str().unwrap();
    for id in ["job", uid] {
        let path = format!("/api/v1/monitors/{id}");
        for answer in [
            eve.get(&path).await,
            eve.put(&path, job.clone()).await,
            eve.patch(&path, json!({ "paused": true })).await,
            eve.delete(&path).await,
            eve.call(Method::POST, &format!("{path}/pause"), &[], "").await,
            eve.call(Method::POST, &format!("{path}/test"), &[], "").await,
            eve.delete("/api/v1/alert-channels/ops").await,
        ] {
            assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::NOT_FOUND, "not_found"), "{}", answer.body);
        }
    }
    assert_eq!(problems(&eve.post("/api/v1/monitors", job.clone()).await), [("notify[0]".to_owned(), "unknown channel `ops`".to_owned())]);
    assert_eq!(eve.get("/api/v1/documents").await.json()["items"], json!([]));
    assert_eq!(eve.post("/api/v1/alert-channels", hook).await.status, StatusCode::CREATED);
    let own = eve.post("/api/v1/monitors", job).await;
    assert_eq!(own.status, StatusCode::CREATED, "{}", own.body);
    assert_ne!(own.json()["uid"], made["uid"]);
    assert_eq!(eve.delete("/api/v1/monitors/job").await.status, StatusCode::OK);
    assert_eq!(ann.get("/api/v1/monitors/job").await.json()["uid"], made["uid"]);
    app.stop().await;
}

#[tokio::test]
async fn what_is_tried_now_is_answered_and_not_stored() {
    let target = Server::http(WELL).await;
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let tried = ann.post("/api/v1/monitors/test", http("", &target.url("/"))).await;
    assert_eq!(tried.status, StatusCode::OK, "{}", tried.body);
    let attempt = tried.json();
    assert_eq!(
        (&attempt["outcome"], attempt["hops"].as_array().unwrap().len(), &attempt["hops"][0]["status"]),
        (&json!("up"), 1, &json!(200))
    );
    assert!(attempt["total_us"].as_u64().unwrap() > 0);
    let mut picky = http("x", &target.url("/"));
    picky["probe"]["http"]["expect"] = json!({ "body_contains": "better" });
    assert_eq!(ann.post("/api/v1/monitors/test", picky.clone()).await.json()["outcome"], "down");
    assert_eq!(problems(&ann.post("/api/v1/monitors/test", json!({ "probe": { "http": {} } })).await)[0].0, "probe.http.url");
    let push = json!({ "probe": { "push": { "expect_every": "1h" } } });
    assert_eq!(ann.post("/api/v1/monitors/test", push).await.error_code(), "not_probed");
    assert_eq!(ann.post("/api/v1/monitors/x", http("x", &target.url("/"))).await.error_code(), "not_found");
    assert_eq!(app.store.documents().await.unwrap().rows, []);

    // Of one that is there: as it is, and as it would be, with the secrets that it has.
    picky["name"] = json!("test");
    picky["probe"]["http"]["bearer_token"] = json!("s3cret");
    assert_eq!(ann.post("/api/v1/monitors", picky).await.status, StatusCode::CREATED);
    let read = ann.get("/api/v1/monitors/test").await;
    assert_eq!(read.json()["name"], "test", "a monitor may be called so");
    assert_eq!(ann.call(Method::POST, "/api/v1/monitors/test/test", &[], "").await.json()["outcome"], "down");
    let mut body = read.json()["made"]["body"].clone();
    body["probe"]["http"]["expect"] = Value::Null;
    assert_eq!(ann.post("/api/v1/monitors/test/test", body).await.json()["outcome"], "up");
    assert_eq!(etag(&ann.get("/api/v1/monitors/test").await), etag(&read), "nothing changed");
    let mut refused = 0;
    for _ in 0..20 {
        refused += u32::from(ann.post("/api/v1/monitors/test", http("", &target.url("/"))).await.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused > 0, "there is a limit");
    app.stop().await;
}

#[tokio::test]
async fn what_is_made_over_the_api_reaches_no_private_address_unless_the_configuration_says_so() {
    let target = Server::http(WELL).await;
    let hook = webhook::start(false).await;
    let store = TestStore::sqlite().await;
    let yaml = format!(
        "server: {{ listen: 127.0.0.1:0 }}\nagent: {{ name: test }}\ndefaults: {{ every: 1s }}\nmonitors: [ {{ name: own, probe: {{ http: {{ url: '{}' }} }} }} ]\n",
        target.url("/")
    );
    let app = TestApp::start_whole(&yaml, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    app.until_health("own", "up").await;
    let before = target.accepted();
    let forbidden = |answer: &Answer| {
        let attempt = answer.json();
        assert_eq!((&attempt["outcome"], &attempt["error_kind"]), (&json!("unknown"), &json!("forbidden_address")), "{}", answer.body);
    };
    // An address is refused when it is written.
    let probed = |probe: Value| json!({ "name": "x", "probe": probe });
    for (probe, path) in [
        (json!({ "http": { "url": target.url("/") } }), "probe.http.url"),
        (json!({ "http": { "url": "http://169.254.169.254/latest/meta-data" } }), "probe.http.url"),
        (json!({ "http": { "url": "http://[::1]:8080/" } }), "probe.http.url"),
        (json!({ "http": { "url": "http://2130706433/" } }), "probe.http.url"),
        (
            json!({ "http": { "url": "http://example.org/", "resolve": { "example.org": "169.254.169.254" } } }),
            "probe.http.resolve.example.org",
        ),
        (json!({ "http": { "url": "http://example.org/", "proxy": target.url("/") } }), "probe.http.proxy"),
        (json!({ "dns": { "name": "example.org", "server": "127.0.0.1:53" } }), "probe.dns.server"),
        (json!({ "tcp": { "address": "10.0.0.1:22" } }), "probe.tcp.address"),
    ] {
        for way in ["/api/v1/monitors", "/api/v1/monitors/test"] {
            let refused = ann.post(way, probed(probe.clone())).await;
            assert_eq!(problems(&refused)[0].0, path, "{way} {probe}");
            assert!(refused.body.contains("`server.api_targets: private`"), "{}", refused.body);
        }
    }
    let hooked = json!({ "name": "x", "webhook": { "url": format!("{}/hook", hook.url) } });
    assert_eq!(problems(&ann.post("/api/v1/alert-channels", hooked).await)[0].0, "webhook.url");
    // What a name leads to is judged where it connects.
    let by_name = |url: &str| url.replace("127.0.0.1", "localhost");
    forbidden(&ann.post("/api/v1/monitors/test", http("", &by_name(&target.url("/")))).await);
    let proxied = json!({ "probe": { "http": { "url": "http://example.org/", "proxy": by_name(&target.url("/")) } } });
    forbidden(&ann.post("/api/v1/monitors/test", proxied).await);
    assert_eq!(ann.post("/api/v1/monitors", http("shop", &by_name(&target.url("/")))).await.status, StatusCode::CREATED);
    app.until_health("shop", "unknown").await;
    until("an attempt was made", async || {
        let beats = ann.get("/api/v1/monitors/shop/heartbeats").await.json();
        beats["items"].as_array().unwrap().iter().any(|beat| beat["why"] == "forbidden_address").then_some(())
    })
    .await;
    let channel = json!({ "name": "ops", "webhook": { "url": by_name(&format!("{}/hook", hook.url)) } });
    assert_eq!(ann.post("/api/v1/alert-channels", channel).await.status, StatusCode::CREATED);
    let tested = ann.call(Method::POST, "/api/v1/alert-channels/ops/test", &[], "").await;
    assert_eq!((tested.status, tested.error_code().as_str()), (StatusCode::BAD_GATEWAY, "channel_not_reached"), "{}", tested.body);
    assert!(hook.calls().is_empty());
    let bot = json!({ "name": "bot", "telegram": { "bot_token": "1:A", "chat_id": "-1", "api_url": "http://169.254.169.254/", "commands": true } });
    assert_eq!(problems(&ann.post("/api/v1/alert-channels", bot).await)[0].0, "telegram.api_url");
    let template = json!({ "name": "own", "webhook": { "url": "https://example.org/", "body": "{{ 'x'|indent(1000000000) }}" } });
    assert_eq!(problems(&ann.post("/api/v1/alert-channels", template).await)[0].0, "webhook.body");
    // What the file says goes on.
    until("the file's monitor is looked at again", async || (target.accepted() > before).then_some(())).await;
    app.stop().await;
}

/// Writes documents behind the API's back, as another version of the program would.
async fn written(store: &dyn Store, writes: &[DocumentWrite]) {
    let tenants = TenantObjects { tenant: "default".into(), ..TenantObjects::default() };
    let seen = store.documents_version().await.unwrap();
    store.apply("elsewhere", "h", &[tenants], Mandate::Alone, Beside { seen, writes }, Micros(1)).await.unwrap();
}

#[tokio::test]
async fn a_document_that_this_program_cannot_read_does_not_stop_the_start() {
    let store = TestStore::sqlite().await;
    written(&*store.store, &[]).await;
    let tenant = store.store.tenants().await.unwrap()[0].0;
    let put = |uid: &str, kind: &str, name: &str, body: &str| {
        let (uid, kind, name, body) = (uid.into(), kind.into(), name.into(), body.into());
        DocumentWrite::Put { tenant, uid, kind, name, body, by: "ann".into(), at: Micros(1) }
    };
    let uid = |nth: u32| format!("0190c1d8-6d2f-7c3a-9d3e-00000000000{nth}");
    let writes = [
        put(&uid(1), "monitor", "good", r#"{"name":"good","probe":{"push":{"expect_every":"1h"}}}"#),
        put(&uid(2), "monitor", "newer", r#"{"name":"newer","probe":{"quantum":{}}}"#),
        put(&uid(3), "orbit", "moon", "{}"),
        put(&uid(4), "monitor", "torn", "{"),
        put(&uid(5), "monitor", "needs newer", r#"{"name":"needs newer","depends_on":["newer"],"probe":{"push":{"expect_every":"1h"}}}"#),
    ];
    written(&*store.store, &writes).await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let names = async || {
        let list = ann.get("/api/v1/monitors").await.json();
        list["items"].as_array().unwrap().iter().map(|monitor| monitor["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["good"]);
    warned(&ann, 4).await;
    let list = ann.get("/api/v1/documents").await.json();
    let told: Vec<(String, String)> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let found = item["problems"][0]["found"].as_str().unwrap_or("in force");
            (item["name"].as_str().unwrap().to_owned(), found.to_owned())
        })
        .collect();
    let said = |name: &str, found: &str| (name.to_owned(), found.to_owned());
    assert_eq!(
        told,
        [
            said("good", "in force"),
            said("needs newer", "unknown monitor `newer`"),
            said("newer", "unknown kind of probe or key, `quantum`"),
            said("torn", "a text that this version cannot read"),
            said("moon", "a kind of object that this version does not know"),
        ]
    );
    // Changes of others go on, and what is left out can be mended or removed.
    assert_eq!(ann.patch("/api/v1/monitors/good", json!({ "labels": { "a": "b" } })).await.status, StatusCode::OK);
    let mended = ann.put("/api/v1/monitors/newer", json!({ "probe": { "push": { "expect_every": "1h" } } })).await;
    assert_eq!(mended.status, StatusCode::OK, "{}", mended.body);
    assert_eq!(names().await, ["good", "needs newer", "newer"]);
    assert_eq!(ann.delete("/api/v1/monitors/torn").await.status, StatusCode::OK);
    warned(&ann, 1).await;
    app.stop().await;
}

/// A key file with these keys, the first in front.
fn key_file(folder: &Path, keys: &[u8]) -> PathBuf {
    let file = folder.join("wk.key");
    let lines: Vec<String> = keys.iter().map(|key| format!("{key:02x}").repeat(32)).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// Waits until a node has put its configuration into force: with another key it is another one, which beside others takes a lease.
async fn takes_part(caller: &Caller) {
    until("the configuration is in force", async || {
        (caller.post("/api/v1/import?dry_run=true", json!({})).await.status == StatusCode::OK).then_some(())
    })
    .await;
}

/// Secrets never lie in the store as they are once there is a key, come back with it, and stay what they are without it.
#[tokio::test]
async fn secrets_are_sealed_in_the_store_and_open_with_a_key_of_the_file_alone() {
    each_store(|mut t| async move {
        let folder = tempfile::tempdir().unwrap();
        let file = key_file(folder.path(), &[0xa1]);
        let sealed = HEAD.replace("api_targets", &format!("secret_key_file: {}, api_targets", file.display()));
        let hook = webhook::start(true).await;
        let is_clear = |text: &str| text.contains("s3cret") || text.contains(webhook::SECRET);
        let texts =
            async |store: &dyn Store| -> Vec<String> { store.documents().await.unwrap().rows.into_iter().map(|row| row.body).collect() };

        // What was made before there was a key is sealed at the first start with one.
        let app = TestApp::start_whole(HEAD, t.store.clone()).await;
        let ann = Caller::of(&app, "default", Role::Admin).await;
        let channel = json!({ "name": "ops", "webhook": { "url": format!("{}/hook", hook.url), "secret": webhook::SECRET } });
        assert_eq!(ann.post("/api/v1/alert-channels", channel).await.status, StatusCode::CREATED);
        let versions = async |ann: &Caller| ann.get("/api/v1/documents").await.json()["items"][0]["made"]["version"].clone();
        let version = versions(&ann).await;
        let warning = "1 object that was made over the API has its secrets in the store as they are; set server.secret_key_file";
        until("it is said that they lie there in clear", async || {
            (ann.get("/ready").await.json()["warnings"] == json!([warning])).then_some(())
        })
        .await;
        assert!(is_clear(&texts(&*app.store).await[0]));
        app.stop().await;

        t.reopen().await;
        let app = TestApp::start_whole(&sealed, t.store.clone()).await;
        let ann = Caller { address: app.address, ..ann };
        takes_part(&ann).await;
        assert!(!is_clear(&texts(&*app.store).await[0]));
        assert_eq!(versions(&ann).await, version, "nobody changed it");
        let monitor =
            json!({ "name": "shop", "notify": ["ops"], "probe": { "http": { "url": "http://192.0.2.1/", "bearer_token": "s3cret" } } });
        let made = ann.post("/api/v1/monitors", monitor).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        assert_eq!(made.json()["made"]["body"]["probe"]["http"]["bearer_token"], "***");
        let all = texts(&*app.store).await;
        assert!(all.len() == 2 && !all.iter().any(|text| is_clear(text)), "{all:?}");
        // It is what it was: the stand-in checks the signature.
        let tested = ann.call(Method::POST, "/api/v1/alert-channels/ops/test", &[], "").await;
        assert_eq!(tested.status, StatusCode::OK, "{}", tested.body);
        until("nothing is in clear", async || (ann.get("/ready").await.json()["warnings"] == json!([])).then_some(())).await;
        let first = texts(&*app.store).await;
        app.stop().await;

        // Without its key, and with another, there is no start. If the key is lost, what cannot be opened is left out with the reason, and
        // lies as it lay.
        for (yaml, why) in [(HEAD, "and this node has no `server.secret_key_file`"), (&sealed, "which is not in this node's")] {
            key_file(folder.path(), &[0xb2]);
            t.reopen().await;
            let refused = TestApp::not_started(yaml, t.store.clone()).await;
            assert!(refused.contains("2 objects that were made over the API cannot be opened") && refused.contains(why), "{refused}");
            assert_eq!(texts(&*t.store).await, first, "nothing was touched");
            t.reopen().await;
            let yaml = &yaml.replace("api_targets", "leave_out_sealed: true, api_targets");
            let app = TestApp::start_whole(yaml, t.store.clone()).await;
            let ann = Caller { address: app.address, ..ann.clone() };
            takes_part(&ann).await;
            warned(&ann, 2).await;
            let list = ann.get("/api/v1/documents").await;
            let problems: Vec<Value> = list.json()["items"].as_array().unwrap().iter().map(|item| item["problems"][0].clone()).collect();
            assert!(problems.iter().all(|problem| problem["found"].as_str().unwrap().contains(why)), "{why}: {problems:?}");
            assert_eq!(problems[1]["path"], "probe.http.bearer_token");
            assert_eq!(ann.get("/api/v1/alert-channels").await.json()["items"], json!([]), "no channel is better than a wrong one");
            let patched = ann.patch("/api/v1/monitors/shop", json!({ "labels": { "a": "b" } })).await;
            assert!(problems_of(&patched)[0].contains("cannot read"), "{}", patched.body);
            assert_eq!(texts(&*app.store).await, first, "nothing was touched");
            app.stop().await;
        }

        // Another key in front, the old one behind: everything is sealed anew, and the old one is needed no more.
        for keys in [&[0xb2, 0xa1][..], &[0xb2]] {
            key_file(folder.path(), keys);
            t.reopen().await;
            let app = TestApp::start_whole(&sealed, t.store.clone()).await;
            let ann = Caller { address: app.address, ..ann.clone() };
            takes_part(&ann).await;
            let tested = ann.call(Method::POST, "/api/v1/alert-channels/ops/test", &[], "").await;
            assert_eq!(tested.status, StatusCode::OK, "{keys:?}: {}", tested.body);
            let now = texts(&*app.store).await;
            assert!(now.iter().zip(&first).all(|(now, first)| now != first && !is_clear(now)), "{now:?}");
            app.stop().await;
        }
    })
    .await;
}

/// What is sealed is bound to its place, and a move to another store keeps all places.
#[tokio::test]
async fn what_is_sealed_moves_to_another_store_as_it_is_and_opens_there() {
    let Some(database) = postgres::empty_database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = key_file(folder.path(), &[0xa1]);
    let yaml = HEAD.replace("api_targets", &format!("secret_key_file: {}, api_targets", file.display()));
    let hook = webhook::start(true).await;
    let from = TestStore::sqlite().await;
    let app = TestApp::start_whole(&yaml, from.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let channel = json!({ "name": "ops", "webhook": { "url": format!("{}/hook", hook.url), "secret": webhook::SECRET } });
    assert_eq!(ann.post("/api/v1/alert-channels", channel).await.status, StatusCode::CREATED);
    let before = app.store.documents().await.unwrap().rows;
    app.stop().await;
    store::copy::copy(&from.url, &database.url, &mut |_| {}).await.unwrap();
    let app = TestApp::start_whole(&yaml, store::open(&database.url).await.unwrap()).await;
    let ann = Caller { address: app.address, ..ann };
    takes_part(&ann).await;
    assert_eq!(app.store.documents().await.unwrap().rows, before);
    let tested = ann.call(Method::POST, "/api/v1/alert-channels/ops/test", &[], "").await;
    assert_eq!(tested.status, StatusCode::OK, "{}", tested.body);
    app.stop().await;
    database.drop_it().await;
}

/// A node with another key file cannot read what the others made, and says so in the place of working beside them.
#[tokio::test]
async fn a_node_with_another_key_does_not_start_beside_the_others() {
    let Some(database) = postgres::fresh_database().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let yaml = |name: &str, key: u8| {
        let own = folder.path().join(name);
        std::fs::create_dir(&own).unwrap();
        let file = key_file(&own, &[key]);
        HEAD.replace("name: test", &format!("name: {name}"))
            .replace("api_targets", &format!("secret_key_file: {}, api_targets", file.display()))
    };
    let a = TestApp::start_whole(&yaml("a", 0xa1), store::open(&database.url).await.unwrap()).await;
    let ann = Caller::of(&a, "default", Role::Admin).await;
    let channel = json!({ "name": "ops", "webhook": { "url": "http://127.0.0.1:9/s3cret" } });
    assert_eq!(ann.post("/api/v1/alert-channels", channel).await.status, StatusCode::CREATED);
    let refused = TestApp::not_started(&yaml("b", 0xb2), store::open(&database.url).await.unwrap()).await;
    assert!(refused.contains("1 object that was made over the API cannot be opened"), "{refused}");
    assert_eq!(ann.get("/api/v1/alert-channels").await.json()["items"].as_array().unwrap().len(), 1);
    a.stop().await;
    database.drop_it().await;
}

/// A wrong key file ends nothing: what ran goes on, and with the key the reload comes through.
#[tokio::test]
async fn a_reload_with_another_key_is_refused_and_changes_nothing() {
    each_store(|t| async move {
        let folder = tempfile::tempdir().unwrap();
        let file = key_file(folder.path(), &[0xa1]);
        let path = folder.path().join("wk.yaml");
        std::fs::write(&path, HEAD.replace("api_targets", &format!("secret_key_file: {}, api_targets", file.display()))).unwrap();
        let app = TestApp::start_on(&path, t.store.clone()).await;
        let ann = Caller::of(&app, "default", Role::Admin).await;
        let monitor = json!({ "name": "shop", "probe": { "http": { "url": "http://192.0.2.1/", "bearer_token": "s3cret" } } });
        assert_eq!(ann.post("/api/v1/monitors", monitor).await.status, StatusCode::CREATED);
        key_file(folder.path(), &[0xb2]);
        let refused = ann.post("/-/reload", json!({})).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
        assert!(refused.body.contains("leave_out_sealed"), "{}", refused.body);
        let there = ann.get("/api/v1/monitors/shop").await;
        assert_eq!((there.status, there.json()["made"]["body"]["probe"]["http"]["bearer_token"].as_str()), (StatusCode::OK, Some("***")));
        key_file(folder.path(), &[0xa1]);
        assert_eq!(ann.post("/-/reload", json!({})).await.status, StatusCode::OK);
        app.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_stored_secret_is_asked_for_anew_when_its_address_changes() {
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let monitor = json!({ "name": "shop", "probe": { "http": {
        "url": "https://shop.example.org/health?token=t0p", "bearer_token": "s3cret", "headers": { "X-Key": "k3y", "X-Team": "web" } } } });
    assert_eq!(ann.post("/api/v1/monitors", monitor).await.status, StatusCode::CREATED);
    let email = json!({ "name": "mail", "email": {
        "host": "smtp.example.org", "username": "u", "password": "s3cret", "from": "a@example.org", "to": "b@example.org" } });
    assert_eq!(ann.post("/api/v1/alert-channels", email).await.status, StatusCode::CREATED);
    let hook =
        json!({ "name": "hook", "webhook": { "url": "https://hooks.example.org/T0", "secret": "s3cret", "headers": { "X-A": "k3y" } } });
    assert_eq!(ann.post("/api/v1/alert-channels", hook).await.status, StatusCode::CREATED);
    let paths = |answer: &Answer| problems(answer).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    let (shop, mail, hook) = ("/api/v1/monitors/shop", "/api/v1/alert-channels/mail", "/api/v1/alert-channels/hook");
    let http = |value: Value| json!({ "probe": { "http": value } });

    // Another host, port or scheme; also by a proxy, or by an address in place of what DNS says.
    let of_shop = ["probe.http.bearer_token", "probe.http.headers.X-Key"];
    for moved in [
        json!({ "url": "https://evil.example.org/" }),
        json!({ "url": "https://shop.example.org:8443/" }),
        json!({ "url": "http://shop.example.org/" }),
    ] {
        assert_eq!(paths(&ann.patch(shop, http(moved.clone())).await), of_shop, "{moved}");
    }
    for moved in [json!({ "proxy": "http://evil.example.org:3128" }), json!({ "resolve": { "shop.example.org": "192.0.2.66" } })] {
        let mut wanted = of_shop.to_vec();
        wanted.push("probe.http.url");
        assert_eq!(paths(&ann.patch(shop, http(moved.clone())).await), wanted, "{moved}");
    }
    let mut sent = ann.get(shop).await.json()["made"]["body"].clone();
    sent["probe"]["http"]["url"] = json!("https://evil.example.org/");
    let refused = ann.put(shop, sent.clone()).await;
    assert_eq!(paths(&refused), of_shop);
    assert!(refused.body.contains("given for another address than `probe.http.url` names now") && !refused.body.contains("s3cret"));
    // Nor is it sent there to try it, or by a file in which a variable stands for it.
    assert_eq!(paths(&ann.post(&format!("{shop}/test"), sent.clone()).await), of_shop);
    sent["probe"]["http"]["bearer_token"] = json!("${TOKEN}");
    let file = json!({ "monitors": [sent] });
    let taken = ann.post("/api/v1/import", file).await;
    assert_eq!(paths(&taken), ["monitors[0].probe.http.bearer_token"]);
    let body_of = async |name: &str| {
        let list = ann.get("/api/v1/documents").await.json();
        list["items"].as_array().unwrap().iter().find(|item| item["name"] == name).unwrap()["made"]["body"].clone()
    };
    let (mail_body, hook_body) = (body_of("mail").await, body_of("hook").await);
    for (path, body, field, value, wanted) in [
        (mail, &mail_body, "/email/host", json!("smtp.evil.example.org"), vec!["email.password"]),
        (mail, &mail_body, "/email/port", json!(25), vec!["email.password"]),
        (mail, &mail_body, "/email/tls", json!("none"), vec!["email.password"]),
        (hook, &hook_body, "/webhook/url", json!("https://evil.example.org/T0"), vec!["webhook.headers.X-A", "webhook.secret"]),
    ] {
        let (section, key) = field.rsplit_once('/').unwrap();
        let mut moved = body.clone();
        moved.pointer_mut(section).unwrap()[key] = value;
        assert_eq!(paths(&ann.put(path, moved).await), wanted, "{field}");
    }

    // Everything else may change, and so may the address where the secrets are given again or taken out.
    for harmless in [http(json!({ "url": "https://SHOP.example.org:443/other" })), json!({ "every": "2s" })] {
        let changed = ann.patch(shop, harmless.clone()).await;
        assert_eq!(changed.status, StatusCode::OK, "{harmless}: {}", changed.body);
    }
    let given = json!({ "url": "https://new.example.org/", "bearer_token": "n3w", "headers": { "X-Key": null } });
    let changed = ann.patch(shop, http(given)).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    let mut given = mail_body;
    (given["email"]["host"], given["email"]["password"]) = (json!("smtp2.example.org"), json!("s3cret"));
    let changed = ann.put(mail, given).await;
    assert_eq!(changed.status, StatusCode::OK, "the same secret, by who knows it: {}", changed.body);
    app.stop().await;
}

#[tokio::test]
async fn a_tenant_has_no_more_than_its_limits_say() {
    let store = TestStore::sqlite().await;
    let push = |name: &str| json!({ "name": name, "probe": { "push": { "expect_every": "1h" } } });
    let yaml = "server: { listen: 127.0.0.1:0, api_targets: private }\nagent: { name: test }\n\
        tenants:\n  - name: acme\n    limits: { monitors: 2, channels: 1, tokens: 2, interval_min: 30s }\n    \
        monitors: [ { name: filed, probe: { push: { expect_every: 1h } } } ]\n";
    let app = TestApp::start_whole(yaml, store.store.clone()).await;
    let ann = Caller::of(&app, "acme", Role::Admin).await;
    let other = Caller::of(&app, "default", Role::Admin).await;
    let too_many = |answer: &Answer, why: &str| {
        assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::CONFLICT, "too_many"), "{}", answer.body);
        assert!(answer.body.contains(why), "{}", answer.body);
    };

    // What files have counts too.
    assert_eq!(ann.post("/api/v1/monitors", push("one")).await.status, StatusCode::CREATED);
    let monitors = "the tenant acme has 2 monitors; its limit is 2 (`limits.monitors` in the configuration)";
    too_many(&ann.post("/api/v1/monitors", push("a name before the others")).await, monitors);
    too_many(&ann.post("/api/v1/import", json!({ "monitors": [push("two")] })).await, monitors);
    assert_eq!(other.post("/api/v1/monitors", push("two")).await.status, StatusCode::CREATED, "another tenant has its own");
    assert_eq!(ann.delete("/api/v1/monitors/one").await.status, StatusCode::OK);
    assert_eq!(ann.post("/api/v1/monitors", push("two")).await.status, StatusCode::CREATED, "there is room again");

    let hook = |name: &str| json!({ "name": name, "webhook": { "url": "http://127.0.0.1:9/" } });
    assert_eq!(ann.post("/api/v1/alert-channels", hook("a")).await.status, StatusCode::CREATED);
    too_many(&ann.post("/api/v1/alert-channels", hook("b")).await, "(`limits.channels` in the configuration)");

    let often = ann.patch("/api/v1/monitors/two", json!({ "every": "29s" })).await;
    assert_eq!(problems(&often), [("every".to_owned(), "an attempt every 29s".to_owned())]);
    assert!(often.body.contains("at least 30s, as `limits.interval_min` says"), "{}", often.body);
    assert_eq!(ann.patch("/api/v1/monitors/two", json!({ "every": "30s" })).await.status, StatusCode::OK);

    // One token is that of whoever asks.
    let token = |name: &str| json!({ "name": name, "role": "viewer" });
    assert_eq!(ann.post("/api/v1/tokens", token("a")).await.status, StatusCode::CREATED);
    too_many(&ann.post("/api/v1/tokens", token("b")).await, "the limit is 2");

    let info = ann.get("/api/v1/tenant/info").await.json();
    let limits = json!({ "monitors": 2, "channels": 1, "status_pages": 100, "tokens": 2, "interval_min_us": 30_000_000 });
    assert_eq!((&info["id"], &info["monitors"], &info["limits"]), (&json!("acme"), &json!(2), &limits));
    app.stop().await;

    // Fewer than there are: what files say is refused as a whole, what was made is left out by name until there is room.
    let mut store = store;
    store.reopen().await;
    let app = TestApp::start_whole(&yaml.replace("monitors: 2", "monitors: 1"), store.store.clone()).await;
    let ann = Caller { address: app.address, ..ann };
    let left: Vec<Value> = ann.get("/api/v1/documents").await.json()["items"].as_array().unwrap().clone();
    let two = left.iter().find(|item| item["name"] == "two").unwrap();
    assert_eq!(two["problems"][0]["accepted"], "at most 1, as `limits.monitors` says", "{two}");
    assert_eq!(ann.get("/api/v1/monitors").await.json()["items"][0]["name"], "filed");
    app.stop().await;
}

#[tokio::test]
async fn every_node_takes_a_change_up() {
    let Some(database) = postgres::fresh_database().await else { return };
    let node = async |name: &str| {
        let yaml = HEAD.replace("name: test", &format!("name: {name}"));
        TestApp::start_whole(&yaml, store::open(&database.url).await.unwrap()).await
    };
    let (a, b) = (node("a").await, node("b").await);
    let ann = Caller::of(&a, "default", Role::Admin).await;
    let at_b = Caller { address: b.address, ..ann.clone() };
    let push = |name: &str| json!({ "name": name, "probe": { "push": { "expect_every": "1h" } } });
    let made = ann.post("/api/v1/monitors", push("one")).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    // The other node has not read it yet, and may change something all the same.
    let second = at_b.post("/api/v1/monitors", push("two")).await;
    assert_eq!(second.status, StatusCode::CREATED, "{}", second.body);
    let patched = at_b.patch("/api/v1/monitors/one", json!({ "labels": { "a": "b" } })).await;
    assert_eq!(patched.status, StatusCode::OK, "{}", patched.body);
    until("both nodes know all of it", async || {
        let (at_a, at_b) = (ann.get("/api/v1/documents").await.json(), at_b.get("/api/v1/documents").await.json());
        (at_a == at_b && at_a["items"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    assert_eq!(ann.delete("/api/v1/monitors/one").await.status, StatusCode::OK);
    until("the other node has let it go", async || {
        (at_b.get("/api/v1/documents").await.json()["items"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    let list = at_b.get("/api/v1/monitors").await.json();
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]["name"]), (1, &json!("two")));
    b.stop().await;
    a.stop().await;
    database.drop_it().await;
}

#[tokio::test]
async fn people_who_change_things_at_once_lose_nothing() {
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let push = |name: String| json!({ "name": name, "probe": { "push": { "expect_every": "1h" } } });
    let all = (0..20).map(|nth| {
        let ann = ann.clone();
        async move { ann.post("/api/v1/monitors", push(format!("m{nth:02}"))).await.status }
    });
    assert!(futures_util::future::join_all(all).await.into_iter().all(|status| status == StatusCode::CREATED));
    assert_eq!(ann.get("/api/v1/monitors").await.json()["items"].as_array().unwrap().len(), 20);
    // Of many who change the same one that they have all seen, one does.
    let seen = etag(&ann.get("/api/v1/monitors/m00").await);
    let all = (0..10).map(|nth| {
        let (ann, seen) = (ann.clone(), seen.clone());
        async move {
            let body = json!({ "labels": { "nth": nth.to_string() } }).to_string();
            ann.call(Method::PATCH, "/api/v1/monitors/m00", &[("if-match", &seen)], body).await.status
        }
    });
    let done = futures_util::future::join_all(all).await;
    assert_eq!(done.iter().filter(|status| **status == StatusCode::OK).count(), 1, "{done:?}");
    assert_eq!(done.iter().filter(|status| **status == StatusCode::PRECONDITION_FAILED).count(), 9, "{done:?}");
    app.stop().await;
}

#[tokio::test]
async fn a_whole_configuration_is_given_out_and_taken_in() {
    let store = TestStore::sqlite().await;
    let yaml = format!(
        "{HEAD}channels: [ {{ name: ops, webhook: {{ url: 'https://hooks.example.org/s3cret' }} }} ]\ntenants: [ {{ name: acme }} ]\n"
    );
    let app = TestApp::start_whole(&yaml, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let eve = Caller::of(&app, "acme", Role::Admin).await;
    let asked = json!({ "name": "job", "labels": { "price": "$$" }, "probe": { "http": { "url": "https://example.org/", "bearer_token": "t0ken" } }, "notify": ["ops"], "paused": true });
    assert_eq!(ann.post("/api/v1/monitors", asked).await.status, StatusCode::CREATED);
    let page = json!({ "name": "public", "password": "pa55word", "groups": [{ "monitors": ["job"], "titles": { "job": "Nightly" } }] });
    assert_eq!(ann.post("/api/v1/status-pages", page).await.status, StatusCode::CREATED);
    let given = ann.get("/api/v1/export").await;
    assert_eq!((given.status, given.headers["content-type"].to_str().unwrap()), (StatusCode::OK, "application/yaml"));
    assert!(!given.body.contains("s3cret") && !given.body.contains("t0ken") && !given.body.contains("pa55word"), "{}", given.body);
    let file = given.body;

    // The same again changes nothing, with the secrets that are there.
    let yaml = [("content-type", "application/yaml")];
    let again = ann.call(Method::POST, "/api/v1/import", &yaml, file.clone()).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.body);
    let item = |kind: &str, name: &str, change: &str| json!({ "kind": kind, "name": name, "change": change });
    let wanted = json!({ "applied": false, "items": [item("channel", "ops", "from_a_file"), item("monitor", "job", "unchanged"), item("status_page", "public", "unchanged")], "left": ["defaults"] });
    assert_eq!(again.json(), wanted);

    // Elsewhere its secrets must be given; a trial says what would be, and changes nothing.
    let lacking = eve.call(Method::POST, "/api/v1/import", &yaml, file.clone()).await;
    let mut paths: Vec<String> = problems(&lacking).into_iter().map(|(path, _)| path).collect();
    paths.sort();
    assert_eq!(paths, ["channels[0].webhook.url", "monitors[0].probe.http.bearer_token", "status_pages[0].password"]);
    let secrets =
        "OPS_WEBHOOK_URL: 'https://hooks.example.org/other', JOB_HTTP_BEARER_TOKEN: other, STATUS_PAGES_PUBLIC_PASSWORD: another one";
    let whole = format!("{file}secrets: {{ {secrets} }}\n");
    // The place of a page is one in the whole installation.
    let taken = eve.call(Method::POST, "/api/v1/import?dry_run=true", &yaml, whole.clone()).await;
    assert_eq!((taken.status, taken.error_code().as_str()), (StatusCode::CONFLICT, "name_taken"), "{}", taken.body);
    let whole = whole.replace("name: public", "name: ours");
    let tried = eve.call(Method::POST, "/api/v1/import?dry_run=true", &yaml, whole.clone()).await;
    let made = json!([item("channel", "ops", "made"), item("monitor", "job", "made"), item("status_page", "ours", "made")]);
    assert_eq!((&tried.json()["applied"], &tried.json()["items"]), (&json!(false), &made), "{}", tried.body);
    assert_eq!(eve.get("/api/v1/documents").await.json()["items"], json!([]));
    let done = eve.call(Method::POST, "/api/v1/import", &yaml, whole.clone()).await;
    assert_eq!((&done.json()["applied"], &done.json()["items"]), (&json!(true), &made), "{}", done.body);
    let rows = store.store.documents().await.unwrap().rows;
    let stored: Value =
        serde_json::from_str(&rows.iter().find(|row| row.tenant_slug == "acme" && row.name == "job").unwrap().body).unwrap();
    assert_eq!((&stored["probe"]["http"]["bearer_token"], &stored["labels"]["price"]), (&json!("other"), &json!("$$")));
    let changed = whole.replace("paused: true", "paused: false").replace("hooks.example.org/other", "hooks.example.org/third");
    let changed = eve.call(Method::POST, "/api/v1/import?dry_run=true", &yaml, changed).await;
    let mut wanted =
        json!([item("channel", "ops", "changed"), item("monitor", "job", "changed"), item("status_page", "ours", "unchanged")]);
    let url = json!("https://hooks.example.org/***");
    wanted[0]["differences"] = json!([{ "path": "webhook.url", "before": url, "after": url }]);
    wanted[1]["differences"] = json!([{ "path": "paused", "before": true, "after": false }]);
    assert_eq!(changed.json()["items"], wanted, "{}", changed.body);

    // All of it or nothing.
    let broken = json!({ "monitors": [{ "name": "one", "probe": { "push": { "expect_every": "1h" } } }, { "name": "two", "probe": {} }], "routes": [], "monitor": [] });
    let unknown = eve.post("/api/v1/import", broken.clone()).await;
    assert_eq!(problems(&unknown)[0].0, "monitor");
    let mut broken = broken;
    broken.as_object_mut().unwrap().remove("monitor");
    let refused = eve.post("/api/v1/import", broken).await;
    assert_eq!(problems(&refused)[0].0, "monitor two: probe");
    assert_eq!(eve.get("/api/v1/monitors").await.json()["items"].as_array().unwrap().len(), 1);
    for role in [Role::Viewer, Role::Operator] {
        let other = Caller::of(&app, "acme", role).await;
        assert_eq!(other.get("/api/v1/export").await.status, StatusCode::FORBIDDEN);
    }
    app.stop().await;
}
