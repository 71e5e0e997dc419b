//! Many nodes on one PostgreSQL: shares, take-over, hand-over, quorum, and configurations that differ.
//!
//! Where a node dies or freezes it is the shipped program as a process of its own; the others run inside the test. Lease times
//! are short, so that a take-over takes one to two seconds.

use crate::support::app::{TestApp, get, until};
use crate::support::postgres::{self, Database};
use crate::support::process::Program;
use crate::support::provider::Provider;
use crate::support::servers::{NameServer, Say, Server, drain, read_head};
use crate::support::webhook;
use hickory_server::proto::op::ResponseCode;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use watchkeeper::clock::Clock;
use watchkeeper::net::Net;
use watchkeeper::store::{self, IncidentFilter, IncidentView, Store, TenantScope};
use watchkeeper_core::Micros;

pub const LEASE: &str = "lease: { beat: 400ms, valid: 1200ms, take_over: 2s }";
pub const MONITORS: usize = 24;

/// A web service that is well or not, as the test says.
pub async fn service() -> (Server, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let says = well.clone();
    let server = Server::tcp(move |mut stream| {
        let words = if says.load(Ordering::SeqCst) { "200 OK" } else { "500 Broken" };
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(format!("HTTP/1.1 {words}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await;
            let _ = stream.shutdown().await;
            drain(&mut stream).await;
        }
    })
    .await;
    (server, well)
}

/// What all nodes have in common: so many monitors of one service, and a webhook.
pub fn fleet(service: &Server, hook: &Provider, monitors: usize) -> String {
    let mut yaml = format!(
        "channels: [ {{ name: hook, webhook: {{ url: '{}/hook' }} }} ]\n\
         defaults: {{ every: 1s, recheck: 1s, timeout: 900ms, down_after: 2, confirm: false }}\nmonitors:\n",
        hook.url
    );
    for n in 0..monitors {
        yaml.push_str(&format!("  - {{ name: m{n}, probe: {{ http: {{ url: '{}' }} }} }}\n", service.url("/")));
    }
    yaml
}

/// The head of one node's file.
pub fn head(database: &Database, name: &str, datacenter: &str) -> String {
    format!(
        "server: {{ listen: 127.0.0.1:0 }}\nstore: {{ url: '{}', journal: '{}' }}\nagent: {{ name: {name}, datacenter: {datacenter}, {LEASE} }}\n",
        database.url,
        database.journal.path().display()
    )
}

/// The program as a process, on a file of its own.
fn process(folder: &tempfile::TempDir, database: &Database, name: &str, fleet: &str) -> Program {
    let home = folder.path().join(name);
    std::fs::create_dir_all(&home).unwrap();
    let file = home.join("watchkeeper.yaml");
    std::fs::write(&file, format!("{}{fleet}", head(database, name, "local"))).unwrap();
    Program::serve(&file)
}

/// A node inside the test, with a store of its own.
async fn node(database: &Database, name: &str, datacenter: &str, fleet: &str) -> TestApp {
    let store = store::open(&database.url).await.unwrap();
    TestApp::start_whole(&format!("{}{fleet}", head(database, name, datacenter)), store).await
}

/// Who holds which shard, of those that somebody holds.
async fn shards(store: &dyn Store) -> BTreeMap<String, String> {
    let rows = store.leases().await.unwrap().into_iter();
    let shards = rows.filter(|row| !row.holder.is_empty() && (row.scope.starts_with("site/") || row.scope.starts_with("verdict/")));
    shards.map(|row| (row.scope, row.holder.split('#').next().unwrap().to_owned())).collect()
}

/// Waits until all shards of one datacenter are held by exactly these nodes.
pub async fn held_by(store: &dyn Store, nodes: &[&str]) -> BTreeMap<String, String> {
    let wanted: BTreeSet<&str> = nodes.iter().copied().collect();
    until(&format!("{nodes:?} hold everything"), async || {
        let held = shards(store).await;
        let holders: BTreeSet<&str> = held.values().map(String::as_str).collect();
        (held.len() == 32 && holders == wanted).then_some(held)
    })
    .await
}

pub async fn scope(store: &dyn Store) -> TenantScope {
    TenantScope(until("the tenant", async || store.tenants().await.unwrap().first().map(|tenant| tenant.0)).await)
}

/// Waits until every monitor has a heartbeat that began after `since`.
pub async fn all_seen_since(store: &dyn Store, since: Micros) {
    let scope = scope(store).await;
    until("a heartbeat of every monitor", async || {
        let all = store.monitors(scope, None, 100).await.unwrap();
        (all.len() == MONITORS && all.iter().all(|monitor| monitor.last.as_ref().is_some_and(|beat| beat.at > since))).then_some(())
    })
    .await;
}

pub async fn incidents(store: &dyn Store) -> Vec<IncidentView> {
    store.incidents(scope(store).await, &IncidentFilter { limit: 100, ..IncidentFilter::default() }).await.unwrap()
}

/// Waits until every incident's word of this kind was taken by its channel.
pub async fn all_told(store: &dyn Store, event: &str) {
    let scope = scope(store).await;
    until(&format!("every {event} told"), async || {
        let mut told = 0;
        for incident in incidents(store).await {
            let whole = store.incident(scope, &incident.uid).await.unwrap().unwrap();
            told += usize::from(whole.notices.iter().any(|notice| notice.event == event && notice.state == "sent"));
        }
        (told == MONITORS).then_some(())
    })
    .await;
}

/// No message came twice.
pub fn told_once(hook: &Provider) {
    let keys: Vec<String> = hook.finish().iter().map(|call| call.json()["key"].as_str().unwrap_or_default().to_owned()).collect();
    let different: BTreeSet<&String> = keys.iter().collect();
    assert_eq!(different.len(), keys.len(), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_share_the_work_and_one_that_is_killed_leaves_no_hole() {
    let Some(database) = postgres::fresh_database().await else { return };
    let (folder, (service, _well), hook) = (tempfile::tempdir().unwrap(), service().await, webhook::start(false).await);
    let fleet = fleet(&service, &hook, MONITORS);
    let [a, b, c] = ["a", "b", "c"].map(|name| process(&folder, &database, name, &fleet));
    let store = store::open(&database.url).await.unwrap();
    until("one node does both for each shard", async || {
        let held = held_by(&*store, &["a", "b", "c"]).await;
        (0..16).all(|shard| held[&format!("site/local/{shard}")] == held[&format!("verdict/{shard}")]).then_some(())
    })
    .await;
    let clock = Clock::system();
    all_seen_since(&*store, clock.now()).await;
    a.kill();
    held_by(&*store, &["b", "c"]).await;
    all_seen_since(&*store, clock.now()).await;
    // One that is told to stop hands over, and the last one has it all.
    assert!(b.stop().await.success());
    held_by(&*store, &["c"]).await;
    all_seen_since(&*store, clock.now()).await;
    assert_eq!(incidents(&*store).await.len(), 0, "nothing was ever wrong");
    // One that comes back gets its share back.
    let again = process(&folder, &database, "b", &fleet);
    held_by(&*store, &["b", "c"]).await;
    all_seen_since(&*store, clock.now()).await;
    for program in [again, c] {
        assert!(program.stop().await.success());
    }
    assert_eq!(shards(&*store).await.len(), 0, "everything was given back");
    assert_eq!(hook.finish().len(), 0);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_frozen_decides_nothing_and_tells_nothing_twice() {
    let Some(database) = postgres::fresh_database().await else { return };
    let (folder, (service, well), hook) = (tempfile::tempdir().unwrap(), service().await, webhook::start(false).await);
    let fleet = fleet(&service, &hook, MONITORS);
    let [a, b] = ["a", "b"].map(|name| process(&folder, &database, name, &fleet));
    let store = store::open(&database.url).await.unwrap();
    held_by(&*store, &["a", "b"]).await;
    all_seen_since(&*store, Clock::system().now()).await;
    a.signal("STOP");
    held_by(&*store, &["b"]).await;
    well.store(false, Ordering::SeqCst);
    until("an incident for each", async || (incidents(&*store).await.len() == MONITORS).then_some(())).await;
    all_told(&*store, "opened").await;
    a.signal("CONT");
    held_by(&*store, &["a", "b"]).await;
    well.store(true, Ordering::SeqCst);
    all_told(&*store, "resolved").await;
    for program in [a, b] {
        assert!(program.stop().await.success());
    }
    let all = incidents(&*store).await;
    assert_eq!(all.len(), MONITORS, "one incident for each");
    assert!(all.iter().all(|incident| incident.resolved_at.is_some()));
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
    told_once(&hook);
    store.close().await;
}

/// Two datacenters that look a name up with name servers of their own: for one of them it does not exist.
async fn two_places(database: &Database, quorum: &str, hook: &Provider) -> ([TestApp; 2], Server, [NameServer; 2]) {
    let (service, _well) = service().await;
    let yaml = format!(
        "channels: [ {{ name: hook, webhook: {{ url: '{}/hook' }} }} ]\n\
         defaults: {{ every: 1s, recheck: 1s, timeout: 900ms, down_after: 2, confirm: false, quorum: {quorum} }}\n\
         monitors: [ {{ name: shop, probe: {{ http: {{ url: 'http://shop.test:{}/' }} }} }} ]\n",
        hook.url,
        service.address.port()
    );
    let says = [Say::Addresses(vec![Ipv4Addr::LOCALHOST]), Say::Code(ResponseCode::NXDomain)];
    let mut names = Vec::new();
    let mut apps = Vec::new();
    for (say, (name, datacenter)) in says.into_iter().zip([("a", "va"), ("b", "ny")]) {
        let server = NameServer::start(say, Duration::ZERO).await;
        let net = Net::with_name_servers(Clock::system(), vec![server.address]);
        let store = store::open(&database.url).await.unwrap();
        apps.push(TestApp::start_in(&format!("{}{yaml}", head(database, name, datacenter)), store, net).await);
        names.push(server);
    }
    let Ok(apps) = <[TestApp; 2]>::try_from(apps) else { panic!("two apps") };
    let Ok(names) = <[NameServer; 2]>::try_from(names) else { panic!("two name servers") };
    (apps, service, names)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_any_as_the_quorum_one_datacenter_is_enough_and_the_message_says_who_saw_what() {
    let Some(database) = postgres::fresh_database().await else { return };
    let hook = webhook::start(false).await;
    let ([a, b], _service, _names) = two_places(&database, "any", &hook).await;
    a.until_health("shop", "down").await;
    let call = hook.wait_for(1).await.remove(0).json();
    assert_eq!((&call["event"], &call["seen_by"]["ny"]), (&"opened".into(), &"down".into()));
    let all = incidents(&*a.store).await;
    assert_eq!((all.len(), all[0].reason.as_deref()), (1, Some("dns_nxdomain")));
    let whole = a.store.incident(scope(&*a.store).await, &all[0].uid).await.unwrap().unwrap();
    let evidence = whole.timeline.iter().find_map(|entry| entry.evidence.clone()).expect("the evidence comes from where it was seen");
    assert!(evidence.to_string().contains("nxdomain") || evidence.to_string().contains("does not exist"), "{evidence}");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_one_of_two_datacenters_sees_is_pending_and_told_to_nobody() {
    let Some(database) = postgres::fresh_database().await else { return };
    let hook = webhook::start(false).await;
    let ([a, b], _service, _names) = two_places(&database, "majority", &hook).await;
    a.until_health("shop", "pending").await;
    // The one that sees it well is gone: the other is the majority of those that can see, when the last vote has run out.
    a.stop().await;
    b.until_health("shop", "down").await;
    let call = hook.wait_for(1).await.remove(0).json();
    assert_eq!(call["seen_by"]["ny"], "down");
    b.stop().await;
    assert_eq!(hook.finish().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_configuration_changes_nothing_says_so_and_takes_part_when_it_is_the_same() {
    let Some(database) = postgres::fresh_database().await else { return };
    let (folder, (service, _well), hook) = (tempfile::tempdir().unwrap(), service().await, webhook::start(false).await);
    let (old, new) = (fleet(&service, &hook, MONITORS), fleet(&service, &hook, 3));
    let a = node(&database, "a", "local", &old).await;
    held_by(&*a.store, &["a"]).await;
    let file = folder.path().join("b.yaml");
    std::fs::write(&file, format!("{}{new}", head(&database, "b", "local"))).unwrap();
    let b = TestApp::start_on(&file, store::open(&database.url).await.unwrap()).await;
    until("the word in /ready", async || get(b.address, "/ready").await.contains("another configuration is in force").then_some(())).await;
    all_seen_since(&*a.store, Clock::system().now()).await;
    held_by(&*a.store, &["a"]).await;
    std::fs::write(&file, format!("{}{old}", head(&database, "b", "local"))).unwrap();
    held_by(&*a.store, &["a", "b"]).await;
    until("the word is gone", async || (!get(b.address, "/ready").await.contains("another configuration")).then_some(())).await;
    // Whoever says what is in force is gone: the other says it now, and what it reads next is in force.
    a.stop().await;
    held_by(&*b.store, &["b"]).await;
    std::fs::write(&file, format!("{}{new}", head(&database, "b", "local"))).unwrap();
    let scope = scope(&*b.store).await;
    until("three monitors", async || (b.store.monitors(scope, None, 100).await.unwrap().len() == 3).then_some(())).await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_exclusive_datacenter_one_node_is_active_until_it_dies() {
    let Some(database) = postgres::fresh_database().await else { return };
    let (folder, (service, _well), hook) = (tempfile::tempdir().unwrap(), service().await, webhook::start(false).await);
    let fleet = format!("datacenters: [ {{ code: local, exclusive: true }} ]\n{}", fleet(&service, &hook, MONITORS));
    let first = process(&folder, &database, "z", &fleet);
    let store = store::open(&database.url).await.unwrap();
    held_by(&*store, &["z"]).await;
    let others = ["a", "b"].map(|name| process(&folder, &database, name, &fleet));
    // They are there, and stay out of it.
    until("three members", async || {
        let rows = store.leases().await.unwrap();
        (rows.iter().filter(|row| row.scope.starts_with("member/") && !row.holder.is_empty()).count() == 3).then_some(())
    })
    .await;
    all_seen_since(&*store, Clock::system().now()).await;
    held_by(&*store, &["z"]).await;
    first.kill();
    until("one of the others has it all", async || {
        let held = shards(&*store).await;
        let holders: BTreeSet<&String> = held.values().collect();
        (held.len() == 32 && holders.len() == 1 && !holders.contains(&"z".to_owned())).then_some(())
    })
    .await;
    all_seen_since(&*store, Clock::system().now()).await;
    for program in others {
        assert!(program.stop().await.success());
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_under_the_same_name_ends_itself_and_says_why() {
    let Some(database) = postgres::fresh_database().await else { return };
    let (folder, (service, _well), hook) = (tempfile::tempdir().unwrap(), service().await, webhook::start(false).await);
    let fleet = fleet(&service, &hook, 3);
    let mut first = process(&folder, &database, "twin", &fleet);
    let store = store::open(&database.url).await.unwrap();
    held_by(&*store, &["twin"]).await;
    let mut second = process(&folder, &database, "twin", &fleet);
    until("the second has ended", async || second.has_ended().then_some(())).await;
    let said = std::fs::read_to_string(folder.path().join("twin").join("watchkeeper.log")).unwrap();
    assert!(said.contains("give one of them another agent.name"), "{said}");
    // The first goes on, and can still commit.
    let scope = scope(&*store).await;
    let since = Clock::system().now();
    until("a later heartbeat of every monitor", async || {
        let all = store.monitors(scope, None, 100).await.unwrap();
        (all.len() == 3 && all.iter().all(|monitor| monitor.last.as_ref().is_some_and(|beat| beat.at > since))).then_some(())
    })
    .await;
    assert!(!first.has_ended());
    assert!(first.stop().await.success());
    store.close().await;
}
