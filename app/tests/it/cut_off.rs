//! Cut-off mode: a node whose database is out of reach goes on, tells what begins and ends, and gives everything back.

use crate::nodes::{LEASE, all_seen_since, all_told, fleet, head, held_by, incidents, scope, service, told_once};
use crate::support::app::{TestApp, get, until};
use crate::support::link::Link;
use crate::support::postgres;
use crate::support::process::Program;
use crate::support::provider::Provider;
use crate::support::scripted::{Script, ScriptedStore};
use crate::support::webhook;
use sqlx::Connection as _;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use watchkeeper::clock::Clock;
use watchkeeper::cut_off;
use watchkeeper::journal::{Journal, Record};
use watchkeeper::store::{self, Batch, BeatRow, Store};
use watchkeeper_core::{Micros, MonitorId, Outcome};

/// Few enough that each is told alone.
const FEW: usize = 3;

/// Waits until the webhook has taken this word about so many incidents; what each said about who is cut off.
async fn heard(hook: &Provider, event: &str, count: usize) -> Vec<serde_json::Value> {
    until(&format!("{count} {event}"), async || {
        let all: Vec<serde_json::Value> = hook.calls().iter().map(crate::support::provider::Call::json).collect();
        let of: Vec<serde_json::Value> =
            all.into_iter().filter(|call| call["event"] == event).map(|call| call["incident"]["cut_off"].clone()).collect();
        (of.len() >= count).then_some(of)
    })
    .await
}

async fn is_ready(app: &TestApp) {
    until("ready again", async || get(app.address, "/ready").await.starts_with("HTTP/1.1 200").then_some(())).await;
}

/// Every word of every incident with its state.
async fn words(store: &dyn Store) -> Vec<(String, String)> {
    let scope = scope(store).await;
    let mut all = Vec::new();
    for incident in incidents(store).await {
        let whole = store.incident(scope, &incident.uid).await.unwrap().unwrap();
        all.extend(whole.notices.into_iter().map(|notice| (notice.event, notice.state)));
    }
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_and_ends_while_the_database_is_away_is_told_at_once_and_once() {
    let Some(database) = postgres::fresh_database().await else { return };
    let ((service, well), hook) = (service().await, webhook::start(false).await);
    let script = Script::new(None);
    let inner = store::open(&database.url).await.unwrap();
    let yaml = format!("{}{}", head(&database, "a", "local"), fleet(&service, &hook, FEW));
    let a = TestApp::start_whole(&yaml, Arc::new(ScriptedStore { inner: inner.clone(), script: script.clone() })).await;
    for n in 0..FEW {
        a.until_health(&format!("m{n}"), "up").await;
    }
    let away = Clock::system().now();
    script.set_away(true);
    well.store(false, Ordering::SeqCst);
    let said = heard(&hook, "opened", FEW).await;
    assert!(said.iter().all(|node| node == "a"), "the message says who is cut off: {said:?}");
    until("the word in /ready", async || get(a.address, "/ready").await.contains("this node is cut off").then_some(())).await;
    well.store(true, Ordering::SeqCst);
    heard(&hook, "resolved", FEW).await;
    script.set_away(false);
    is_ready(&a).await;
    let all = incidents(&*inner).await;
    assert_eq!(all.len(), FEW);
    assert!(all.iter().all(|incident| incident.resolved_at.is_some() && incident.opened_at > away), "as they happened: {all:?}");
    let told = |event: &str| (event.to_owned(), "sent".to_owned());
    assert_eq!(words(&*inner).await, [vec![told("opened"); FEW], vec![told("resolved"); FEW]].concat());
    // Nothing is told again: the next word is about something new.
    well.store(false, Ordering::SeqCst);
    heard(&hook, "opened", 2 * FEW).await;
    a.stop().await;
    told_once(&hook);
    let inner = store::open(&database.url).await.unwrap();
    assert_eq!(inner.verify().await.unwrap(), [""; 0]);
    let scope = scope(&*inner).await;
    for monitor in inner.monitors(scope, None, 100).await.unwrap() {
        let beats = inner.heartbeats(scope, monitor.id, Clock::system().now(), 1_000).await.unwrap();
        let at: Vec<_> = beats.iter().map(|(beat, _)| beat.at).collect();
        assert!(at.windows(2).all(|pair| (pair[0] - pair[1]).0 < 2_500_000), "no hole in the heartbeats: {at:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_decided_meanwhile_stands_and_gets_an_entry_from_the_one_that_was_cut_off() {
    let Some(database) = postgres::fresh_database().await else { return };
    let ((service, well), hook) = (service().await, webhook::start(false).await);
    let script = Script::new(None);
    let inner = store::open(&database.url).await.unwrap();
    let yaml = fleet(&service, &hook, FEW);
    let a = format!("{}{yaml}", head(&database, "a", "local"));
    let a = TestApp::start_whole(&a, Arc::new(ScriptedStore { inner: inner.clone(), script: script.clone() })).await;
    held_by(&*inner, &["a"]).await;
    for n in 0..FEW {
        a.until_health(&format!("m{n}"), "up").await;
    }
    script.set_away(true);
    let b = format!("{}{yaml}", head(&database, "b", "local"));
    let b = TestApp::start_whole(&b, store::open(&database.url).await.unwrap()).await;
    held_by(&*inner, &["b"]).await;
    well.store(false, Ordering::SeqCst);
    let said = heard(&hook, "opened", 2 * FEW).await;
    assert_eq!(said.iter().filter(|node| *node == "a").count(), FEW, "each told once by each: {said:?}");
    script.set_away(false);
    is_ready(&a).await;
    held_by(&*inner, &["a", "b"]).await;
    let all = incidents(&*inner).await;
    assert_eq!(all.len(), FEW, "one incident each, of the node that decides");
    let scope = scope(&*inner).await;
    for incident in &all {
        let whole = inner.incident(scope, &incident.uid).await.unwrap().unwrap();
        let entries: Vec<&str> = whole.timeline.iter().filter(|entry| entry.kind == "cut_off").map(|entry| entry.text.as_str()).collect();
        assert_eq!(entries.len(), 1, "{:?}", whole.timeline);
        assert!(entries[0].starts_with("found this too, cut off from the store (told 1 channel): "), "{entries:?}");
    }
    let metrics = get(a.address, "/metrics").await;
    assert!(
        metrics.contains(&format!("watchkeeper_told_twice_total {FEW}")),
        "{}",
        metrics.lines().filter(|l| l.contains("twice")).collect::<String>()
    );
    well.store(true, Ordering::SeqCst);
    heard(&hook, "resolved", FEW).await;
    assert_eq!(inner.verify().await.unwrap(), [""; 0]);
    a.stop().await;
    b.stop().await;
    let ends = hook.finish().iter().filter(|call| call.json()["event"] == "resolved").count();
    assert_eq!(ends, FEW, "the end is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_while_it_is_cut_off_gives_everything_back_when_it_starts_again() {
    let Some(database) = postgres::fresh_database().await else { return };
    let (folder, (service, well), hook) = (tempfile::tempdir().unwrap(), service().await, webhook::start(false).await);
    let (link, url) = Link::to_database(&database.url).await;
    let file = folder.path().join("watchkeeper.yaml");
    let journal = folder.path().join("journal");
    let head = format!(
        "server: {{ listen: 127.0.0.1:0 }}\nstore: {{ url: '{url}', journal: '{}' }}\nagent: {{ name: a, {LEASE} }}\n",
        journal.display()
    );
    std::fs::write(&file, format!("{head}{}", fleet(&service, &hook, FEW))).unwrap();
    let program = Program::serve(&file);
    let store = store::open(&database.url).await.unwrap();
    let seen = async |since| {
        let scope = scope(&*store).await;
        until("a heartbeat of each", async || {
            let all = store.monitors(scope, None, 100).await.unwrap();
            (all.len() == FEW && all.iter().all(|monitor| monitor.last.as_ref().is_some_and(|beat| beat.at > since))).then_some(())
        })
        .await;
    };
    seen(Clock::system().now()).await;
    link.cut();
    well.store(false, Ordering::SeqCst);
    heard(&hook, "opened", FEW).await;
    program.kill();
    assert!(std::fs::read_dir(journal.join("a")).unwrap().count() > 1, "there is a journal");
    link.mend();
    let since = Clock::system().now();
    let program = Program::serve(&file);
    seen(since).await;
    let told = vec![("opened".to_owned(), "sent".to_owned()); FEW];
    until("that all of it is told", async || (words(&*store).await == told).then_some(())).await;
    well.store(true, Ordering::SeqCst);
    heard(&hook, "resolved", FEW).await;
    assert!(program.stop().await.success());
    assert_eq!(incidents(&*store).await.iter().filter(|incident| incident.resolved_at.is_some()).count(), FEW);
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
    let keys: Vec<String> = hook.finish().iter().map(|call| call.json()["key"].as_str().unwrap_or_default().to_owned()).collect();
    // The one that was taken when the node was killed may not have been written down.
    let again = keys.len() - keys.iter().collect::<BTreeSet<_>>().len();
    assert!(again <= 1, "{keys:?}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_is_shorter_than_a_lease_changes_nothing() {
    let Some(database) = postgres::fresh_database().await else { return };
    let ((service, well), hook) = (service().await, webhook::start(false).await);
    let (link, url) = Link::to_database(&database.url).await;
    let yaml = format!("{}{}", head(&database, "a", "local"), fleet(&service, &hook, crate::nodes::MONITORS));
    let a = TestApp::start_whole(&yaml, store::open(&url).await.unwrap()).await;
    let store = store::open(&database.url).await.unwrap();
    all_seen_since(&*store, Clock::system().now()).await;
    for _ in 0..5 {
        link.cut();
        link.mend();
        all_seen_since(&*store, Clock::system().now()).await;
    }
    well.store(false, Ordering::SeqCst);
    all_told(&*store, "opened").await;
    a.stop().await;
    assert_eq!(hook.finish().iter().filter(|call| !call.json()["incident"]["cut_off"].is_null()).count(), 0);
    store.close().await;
}

/// Ten minutes of 500 checks a second.
#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_thousand_heartbeats_come_back_from_the_journal_all_of_them_and_once() {
    const BATCHES: u64 = 600;
    const EACH: i64 = 500;
    let Some(database) = postgres::fresh_database().await else { return };
    let store = store::open(&database.url).await.unwrap();
    let now = Clock::system().now();
    let joined = store.join("a", "local", "boot-1", now).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path(), 256 << 20).unwrap();
    let journal = Arc::new(Mutex::new(journal));
    let mut largest = 0;
    for number in 1..=BATCHES {
        let beats = (0..EACH).map(|n| BeatRow {
            monitor: MonitorId(1 + n),
            datacenter: joined.datacenter,
            at: Micros(now.0 + number as i64 * 1_000_000),
            agent: joined.agent,
            outcome: Outcome::Up,
            lag_us: 300,
            dns_us: 900,
            connect_us: 12_000,
            tls_us: 31_000,
            first_byte_us: 45_000,
            transfer_us: 700,
            total_us: 90_000,
            code: 200,
            size: 5_120,
            value: 61,
            flags: 0,
        });
        let batch = Batch { agent: joined.agent, boot: joined.boot.clone(), number, beats: beats.collect(), ..Batch::default() };
        let mut journal = journal.lock().unwrap();
        assert_eq!(journal.append(&Record::Batch(batch)).unwrap(), 0, "nothing had to go");
        largest = largest.max(journal.bytes());
    }
    assert!(largest < 64 << 20, "{largest} bytes for ten minutes");
    // A crash in the middle of giving back: the first file is given back twice.
    let oldest = journal.lock().unwrap().oldest().unwrap();
    for batch in oldest {
        store.commit(&batch).await.unwrap();
    }
    assert!(cut_off::recover("a", &journal, &*store, &Clock::system()).await.unwrap());
    assert!(journal.lock().unwrap().is_empty());
    let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
    let (beats,): (i64,) = sqlx::query_as("SELECT count(*) FROM wk_beat").fetch_one(&mut connection).await.unwrap();
    assert_eq!(beats, BATCHES as i64 * EACH);
    store.close().await;
}
