//! Life signs of the real program: started, stopped, failed; and the dead-man's ping, which stops when the node is not well.

use super::support::app::{TestApp, get, until};
use super::support::process::{Program, configured};
use super::support::provider::{Act, Call, Provider};
use super::support::store::TestStore;
use super::support::webhook;
use axum::http::StatusCode;
use std::collections::BTreeSet;

fn announced(hook: &Provider) -> String {
    format!("channels:\n  - name: hook\n    webhook: {{ url: '{}/hook' }}\nannounce: [hook]\n", hook.url)
}

/// What was told, in order; what a killed process had in hand comes once more under the same key and is the same word.
fn events(calls: &[Call]) -> Vec<String> {
    let mut keys = BTreeSet::new();
    let new = calls.iter().map(Call::json).filter(|body| keys.insert(body["key"].to_string()));
    new.map(|body| body["node"]["event"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until so many different words were told.
async fn told(hook: &Provider, count: usize) -> Vec<String> {
    until(&format!("{count} words"), async || Some(events(&hook.calls())).filter(|told| told.len() >= count)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_that_it_starts_and_stops_and_the_next_start_says_that_it_was_killed() {
    let hook = webhook::start(false).await;
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), &announced(&hook));

    let program = Program::serve(&config);
    hook.wait_for(1).await;
    let status = program.stop().await;
    assert!(status.success(), "{status}");
    assert_eq!(events(&hook.calls()), ["started", "stopped"], "the last word leaves before the process ends");

    let program = Program::serve(&config);
    told(&hook, 3).await;
    program.kill();
    let program = Program::serve(&config);
    assert_eq!(told(&hook, 4).await, ["started", "stopped", "started", "failed"]);
    let word = hook.calls().iter().map(Call::json).find(|body| body["node"]["event"] == "failed").unwrap();
    assert_eq!(word["node"]["name"], "test", "{word}");
    assert!(word["text"].as_str().unwrap().contains("without stopping"), "{word}");

    // Killed again and again within ten minutes: nothing more is told until it stops in good order.
    program.kill();
    for nth in 2..4 {
        let program = Program::serve(&config);
        failures(&config, nth).await;
        program.kill();
    }
    let program = Program::serve(&config);
    failures(&config, 4).await;
    assert!(program.stop().await.success());
    assert_eq!(told(&hook, 5).await, ["started", "stopped", "started", "failed", "stopped"]);
    hook.finish();
}

/// Waits until so many runs have noted that the one before them failed.
async fn failures(config: &std::path::Path, count: usize) {
    let log = config.with_extension("log");
    let noted = || std::fs::read_to_string(&log).unwrap().matches("the run before this one ended").count();
    until(&format!("{count} failures are noted"), async || (noted() == count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_the_node_unless_announce_says_so() {
    let hook = webhook::start(false).await;
    let yaml = format!("channels:\n  - name: hook\n    webhook: {{ url: '{}/hook' }}\n", hook.url);
    let kept = TestStore::sqlite().await;
    let app = TestApp::start(&yaml, kept.store.clone()).await;
    let mark = until("the run is marked", async || kept.store.mark("node/test/run").await.unwrap()).await;
    assert!(mark.contains("\"ended\":false"), "{mark}");
    app.stop().await;
    assert!(hook.finish().is_empty());
}

/// A program with a dead-man's watcher; the store is closed behind its back by tests.
async fn pinging(watcher: &Provider, kept: &TestStore) -> TestApp {
    let yaml = format!(
        "server: {{ listen: 127.0.0.1:0, dead_man: {{ url: '{}/ping/s3cretpath', every: 1s, timeout: 1s, method: POST }} }}\n\
         agent: {{ name: test, lease: {{ beat: 100ms, valid: 300ms, take_over: 500ms }} }}\n",
        watcher.url
    );
    TestApp::start_whole(&yaml, kept.store.clone()).await
}

async fn watcher() -> Provider {
    let check = |call: &Call| {
        let good = call.path == "/ping/s3cretpath" && call.method == axum::http::Method::POST && call.body.is_empty();
        if good { Ok(()) } else { Err((StatusCode::NOT_FOUND, format!("{} {}", call.method, call.path))) }
    };
    Provider::start(check, |_, _| (StatusCode::OK, String::new())).await
}

/// How often a ping was due while the node was not well.
async fn withheld(app: &TestApp) -> u64 {
    let metrics = get(app.address, "/metrics").await;
    let count = metrics.lines().find_map(|line| line.strip_prefix("watchkeeper_dead_man_pings_total{result=\"withheld\"} "));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_mans_ping_stops_when_the_store_is_out_of_reach() {
    let (watcher, kept) = (watcher().await, TestStore::sqlite().await);
    let app = pinging(&watcher, &kept).await;
    watcher.wait_for(2).await;
    let before = withheld(&app).await;
    kept.store.close().await;
    until("the ping is withheld", async || (withheld(&app).await > before).then_some(())).await;
    let ready = get(app.address, "/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    let made = watcher.calls().len();
    // Two more would have come.
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    assert_eq!(watcher.calls().len(), made);
    watcher.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_that_does_not_come_through_is_a_warning_that_shows_no_url() {
    let (watcher, kept) = (watcher().await, TestStore::sqlite().await);
    watcher.then(Act::Answer(StatusCode::INTERNAL_SERVER_ERROR, vec![], "no /ping/s3cretpath".to_owned()));
    let app = pinging(&watcher, &kept).await;
    let warned = until("the warning", async || Some(get(app.address, "/ready").await).filter(|body| body.contains("dead_man"))).await;
    assert!(warned.contains("HTTP status 500") && warned.contains("\"ready\":true"), "{warned}");
    assert!(!warned.contains("s3cret") && !warned.contains("127.0.0.1"), "{warned}");
    until("the end of the warning", async || (!get(app.address, "/ready").await.contains("dead_man")).then_some(())).await;
    let metrics = get(app.address, "/metrics").await;
    assert!(metrics.contains("watchkeeper_dead_man_pings_total{result=\"failed\"} 1\n"), "{metrics}");
    assert!(!metrics.contains("s3cret"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_ends_nothing() {
    for log in ["full", "closed"] {
        let hook = webhook::start(false).await;
        let folder = tempfile::tempdir().unwrap();
        let config = configured(folder.path(), &announced(&hook));
        let program = if log == "full" {
            Program::serve_logging_to(&config, std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        } else {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            Program::serve_logging_to(&config, writer)
        };
        hook.wait_for(1).await;
        let status = program.stop().await;
        assert!(status.success(), "{log}: {status}");
        assert_eq!(events(&hook.finish()), ["started", "stopped"], "{log}");
    }
}
