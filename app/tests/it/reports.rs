//! Reports on the real program: one for each period whatever restarts, none before a whole period, only the latest made up for.

use super::support::app::{TestApp, until};
use super::support::postgres;
use super::support::provider::{Call, Provider};
use super::support::servers::Server;
use super::support::store::TestStore;
use super::support::webhook;
use std::collections::BTreeSet;
use watchkeeper::report;
use watchkeeper::store;
use watchkeeper_core::Micros;
use watchkeeper_core::quorum::Health;

/// Every two seconds a period ends.
const PERIOD: i64 = 2_000_000;

fn config(hook: &Provider, target: &str) -> String {
    format!(
        "channels:\n  - name: hook\n    webhook: {{ url: '{}/hook' }}\n\
         reports: [ {{ name: status, cron: '*/2 * * * * *', notify: [hook] }} ]\n\
         monitors:\n  - name: shop\n    probe: {{ http: {{ url: '{target}' }} }}\n    every: 1s\n    timeout: 900ms\n    notify: []\n\
         \x20 - name: paused one\n    probe: {{ http: {{ url: '{target}' }} }}\n    paused: true\n",
        hook.url
    )
}

/// The end of the period that each call is about, in the order of arrival.
fn periods(calls: &[Call]) -> Vec<i64> {
    let end = |call: &Call| {
        let key = call.json()["key"].as_str().unwrap_or_default().to_owned();
        let rest = key.strip_prefix("report/default/status/").unwrap_or_else(|| panic!("{key}"));
        rest.split('/').next().unwrap().parse().unwrap()
    };
    calls.iter().map(end).collect()
}

fn now() -> i64 {
    watchkeeper::clock::Clock::system().now().0
}

#[tokio::test(flavor = "multi_thread")]
async fn one_report_for_each_period_across_restarts_and_only_the_latest_is_made_up_for() {
    let hook = webhook::start(false).await;
    let target = Server::http("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let yaml = config(&hook, &target.url("/"));
    let mut kept = TestStore::sqlite().await;
    let began = now();
    let app = TestApp::start(&yaml, kept.store.clone()).await;
    let calls = hook.wait_for(2).await;
    app.stop().await;
    assert!(periods(&calls)[0] >= began + PERIOD, "the first report follows a whole period");
    let report = &calls[1].json()["report"];
    assert_eq!(report["name"], "status");
    assert!(calls[1].json()["text"].as_str().unwrap().contains("shop"), "{}", calls[1].json());

    // While nobody runs three periods end.
    let before = periods(&hook.calls()).len();
    let stopped = now();
    until("three periods", async || (now() > stopped + 3 * PERIOD).then_some(())).await;
    kept.reopen().await;
    let started = now();
    let app = TestApp::start(&yaml, kept.store.clone()).await;
    hook.wait_for(before + 2).await;
    app.stop().await;
    let all = periods(&hook.finish());
    assert!(all[before] >= started - PERIOD, "only the latest period is made up for: {all:?}, started at {started}");
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "each period once, in order: {all:?}");
    assert!(all.iter().all(|end| end % PERIOD == 0), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_make_each_report_once() {
    let Some(database) = postgres::fresh_database().await else { return };
    let hook = webhook::start(false).await;
    let target = Server::http("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let yaml = |name: &str| {
        format!(
            "server: {{ listen: 127.0.0.1:0 }}\nagent: {{ name: {name}, lease: {{ beat: 100ms, valid: 300ms, take_over: 500ms }} }}\n{}",
            config(&hook, &target.url("/"))
        )
    };
    let one = TestApp::start_whole(&yaml("one"), store::open(&database.url).await.unwrap()).await;
    let two = TestApp::start_whole(&yaml("two"), store::open(&database.url).await.unwrap()).await;
    hook.wait_for(2).await;
    one.stop().await;
    let before = hook.calls().len();
    hook.wait_for(before + 1).await;
    two.stop().await;
    let all = periods(&hook.finish());
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "each period once: {all:?}");
    database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_counts_what_is_watched_and_says_how_long_it_was_up() {
    let hook = webhook::start(false).await;
    let target = Server::http("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let kept = TestStore::sqlite().await;
    let app = TestApp::start(&config(&hook, &target.url("/")), kept.store.clone()).await;
    app.until_health("shop", "up").await;
    let scope = app.scope().await;
    let from = Micros(now() - 3_600_000_000);
    let made = report::compute(&*app.store, scope, "default", "status", from, Micros(now() + 1)).await.unwrap();
    assert_eq!(made.counts.iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [&(Health::Up, 1)]);
    assert_eq!((made.paused, made.more, made.opened, made.open), (1, 0, 0, 0));
    assert_eq!(made.lines.len(), 1);
    assert_eq!((made.lines[0].monitor.as_str(), made.lines[0].uptime_mpct), ("shop", Some(100_000)), "what is unknown does not count");
    let empty = report::compute(&*app.store, scope, "default", "status", Micros(0), Micros(1)).await.unwrap();
    assert_eq!(empty.lines[0].uptime_mpct, None, "nothing is known of the time before it was watched");
    app.stop().await;
}
