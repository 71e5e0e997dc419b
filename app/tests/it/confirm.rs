//! A failure that would decide is looked at once more over a second path: another address of the host, or another name server.

use crate::support::app::{TestApp, until};
use crate::support::servers::{NameServer, Say, drain, read_head};
use hickory_resolver::proto::op::ResponseCode;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use watchkeeper::store::{self, BeatRow, IncidentFilter, IncidentView, Store};
use watchkeeper_core::{Micros, Outcome, Reason};

const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// One host with two addresses, each of which answers with a status of its own on the same port.
struct Host {
    port: u16,
    asked: [Arc<AtomicUsize>; 2],
    _servers: JoinSet<()>,
}

impl Host {
    async fn start(statuses: [&'static str; 2]) -> Self {
        let (one, two) = loop {
            let one = TcpListener::bind((FIRST, 0)).await.unwrap();
            // Free on the first address is most likely, but not surely, free on the second.
            if let Ok(two) = TcpListener::bind((SECOND, one.local_addr().unwrap().port())).await {
                break (one, two);
            }
        };
        let port = one.local_addr().unwrap().port();
        let asked = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
        let mut servers = JoinSet::new();
        for ((listener, status), count) in [one, two].into_iter().zip(statuses).zip(&asked) {
            servers.spawn(serve(listener, status, Arc::clone(count)));
        }
        Self { port, asked, _servers: servers }
    }

    fn asked(&self, which: usize) -> usize {
        self.asked[which].load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, status: &'static str, count: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        count.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            read_head(&mut stream).await;
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwords");
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            drain(&mut stream).await;
        });
    }
}

async fn sqlite(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    store::open(&format!("sqlite://{}", folder.path().join("wk.db").display())).await.unwrap()
}

fn yaml(down_after: u8, probe: &str) -> String {
    format!(
        "defaults: {{ every: 1s, recheck: 1s, timeout: 900ms, down_after: {down_after} }}\nmonitors: [ {{ name: shop, probe: {probe} }} ]\n"
    )
}

async fn beats(app: &TestApp) -> Vec<(BeatRow, Option<String>)> {
    let scope = app.scope().await;
    let Some(monitor) = app.store.monitor(scope, "shop").await.unwrap() else { return Vec::new() };
    app.store.heartbeats(scope, monitor.id, Micros(i64::MAX), 100).await.unwrap()
}

async fn incidents(app: &TestApp) -> Vec<IncidentView> {
    app.store.incidents(app.scope().await, &IncidentFilter { limit: 10, ..IncidentFilter::default() }).await.unwrap()
}

/// Waits until so many heartbeats are stored.
async fn until_beats(app: &TestApp, count: usize) -> Vec<(BeatRow, Option<String>)> {
    until("heartbeats are stored", async || Some(beats(app).await).filter(|beats| beats.len() >= count)).await
}

/// The evidence of the newest success.
fn evidence_of_success(beats: &[(BeatRow, Option<String>)]) -> serde_json::Value {
    let detail = beats.iter().find_map(|(row, detail)| detail.as_ref().filter(|_| row.outcome == Outcome::Up));
    serde_json::from_str(detail.expect("a success after a failure keeps its evidence")).unwrap()
}

async fn both_addresses() -> NameServer {
    NameServer::start(Say::Addresses(vec![FIRST, SECOND]), Duration::ZERO).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_other_address_is_well_is_up_and_the_evidence_says_which_path_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (host, names) = (Host::start(["500 Broken", "200 OK"]).await, both_addresses().await);
    let yaml = yaml(2, &format!("{{ http: {{ url: 'http://shop.test:{}/' }} }}", host.port));
    let app = TestApp::start_asking(&yaml, sqlite(&folder).await, &[names.address]).await;
    let found = until_beats(&app, 6).await;
    // Every second failure would decide, and is looked at again.
    assert!(found.iter().any(|(row, _)| row.outcome == Outcome::Down(Reason::HttpStatus)), "{found:#?}");
    assert!(host.asked(1) >= 1 && host.asked(1) <= host.asked(0), "{} of {}", host.asked(1), host.asked(0));
    assert!(incidents(&app).await.is_empty());
    let evidence = evidence_of_success(&found);
    let first = evidence["first_path"].as_str().unwrap_or_default();
    assert!(first.starts_with(&format!("first path (127.0.0.1:{}): ", host.port)) && first.contains("500"), "{evidence:#}");
    assert_eq!(evidence["hops"][0]["address"], format!("127.0.0.2:{}", host.port));
    let resolved = &evidence["hops"][0]["resolved"];
    assert_eq!((&resolved["server"], &resolved["addresses"][0]), (&names.address.to_string().into(), &"127.0.0.2".into()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_fails_on_both_addresses_is_down_with_both_in_the_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let (host, names) = (Host::start(["500 Broken", "503 Tired"]).await, both_addresses().await);
    let yaml = yaml(1, &format!("{{ http: {{ url: 'http://shop.test:{}/' }} }}", host.port));
    let app = TestApp::start_asking(&yaml, sqlite(&folder).await, &[names.address]).await;
    app.until_health("shop", "down").await;
    let all = incidents(&app).await;
    assert_eq!(all.len(), 1);
    let (one, two) = (format!("127.0.0.1:{}", host.port), format!("127.0.0.2:{}", host.port));
    assert!(all[0].summary.contains(&format!("; second path ({two}): ")) && all[0].summary.contains("503"), "{}", all[0].summary);
    let shown = app.store.incident(app.scope().await, &all[0].uid).await.unwrap().unwrap();
    let evidence: serde_json::Value = shown.timeline.iter().find_map(|entry| entry.evidence.clone()).expect("an incident has evidence");
    assert_eq!(evidence["hops"][0]["address"], one);
    assert_eq!(evidence["hops"][0]["resolved"]["addresses"], serde_json::json!(["127.0.0.1", "127.0.0.2"]));
    assert_eq!((&evidence["http"]["status"], &evidence["http"]["body_head"]), (&500.into(), &"words".into()));
    assert!(evidence["first_path"].as_str().is_some_and(|text| text.contains(&one) && text.contains("500")), "{evidence:#}");
    // Once it is down nothing is left to decide.
    let (tried, before) = (host.asked(1), beats(&app).await.len());
    until_beats(&app, before + 2).await;
    assert_eq!(host.asked(1), tried);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_second_path_nothing_is_tried_again() {
    let names = both_addresses().await;
    for probe in [
        "{ http: { url: 'http://127.0.0.1:PORT/' } }",
        "{ http: { url: 'http://shop.test:PORT/', resolve: { shop.test: 127.0.0.1 } } }",
        "{ tcp: { address: '127.0.0.1:PORT', expect: { contains: pong }, send: \"\\r\\n\\r\\n\" } }",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::start(["500 Broken", "200 OK"]).await;
        let yaml = yaml(1, &probe.replace("PORT", &host.port.to_string()));
        let app = TestApp::start_asking(&yaml, sqlite(&folder).await, &[names.address]).await;
        app.until_health("shop", "down").await;
        let tried = host.asked(0);
        assert_eq!(host.asked(1), 0, "{probe}");
        let made = beats(&app).await.len();
        assert!(tried <= made + 1, "{probe}: {tried} connections for {made} attempts");
        assert!(!incidents(&app).await[0].summary.contains("second path"), "{probe}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_without_confirmation_is_down_by_its_first_path_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (host, names) = (Host::start(["500 Broken", "200 OK"]).await, both_addresses().await);
    let yaml = yaml(1, &format!("{{ http: {{ url: 'http://shop.test:{}/' }} }}, confirm: false", host.port));
    let app = TestApp::start_asking(&yaml, sqlite(&folder).await, &[names.address]).await;
    app.until_health("shop", "down").await;
    assert_eq!(host.asked(1), 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_server_may_know_what_the_first_does_not() {
    let wrong = NameServer::start(Say::Code(ResponseCode::NXDomain), Duration::ZERO).await;
    let right = NameServer::start(Say::Addresses(vec![FIRST]), Duration::ZERO).await;
    let host = Host::start(["200 OK", "200 OK"]).await;
    let servers: [SocketAddr; 2] = [wrong.address, right.address];
    for (probe, said) in [
        (format!("{{ http: {{ url: 'http://shop.test:{}/' }} }}", host.port), "first path: "),
        (format!("{{ tcp: {{ address: 'shop.test:{}' }} }}", host.port), "first path: "),
        ("{ dns: { name: shop.test } }".to_owned(), "first path ("),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let app = TestApp::start_asking(&yaml(2, &probe), sqlite(&folder).await, &servers).await;
        let found = until_beats(&app, 4).await;
        let evidence = evidence_of_success(&found);
        let first = evidence["first_path"].as_str().unwrap_or_default();
        assert!(first.starts_with(said) && first.contains(&wrong.address.to_string()), "{probe}: {evidence:#}");
        assert!(incidents(&app).await.is_empty(), "{probe}");
        app.stop().await;
    }
}
