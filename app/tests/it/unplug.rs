//! All targets fail because the node's own network is gone: nothing is said of them, and one thing is said of the node.
//!
//! The real binary runs in a network namespace of its own and watches web servers, a name server and hosts in another.

use crate::support::app::until;
use crate::support::netns::{Cut, Wires, host};
use crate::support::world::{HOOK_PORT, World};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use watchkeeper::store::{self, IncidentFilter, TenantScope};
use watchkeeper_core::{Blind, Micros, Outcome};

const HOSTS: u8 = 6;
const PORT: u16 = 8_470;
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// The namespaces; `None`, after saying so, where they cannot be made.
fn wires() -> Option<Wires> {
    match Wires::lay(HOSTS) {
        Ok(wires) => Some(wires),
        Err(why) => {
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            let test = std::thread::current().name().unwrap_or("?").to_owned();
            // Whether a kernel lets us make namespaces is no question of packages, so nothing can require it.
            // Not eprintln!: the harness would swallow it, and a skipped test must be seen.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no network namespaces ({why}): {test} ({count} so far)");
            None
        }
    }
}

/// The running binary; killed if the test fails.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is watched: by name and by address, of several kinds, near and far, and this node itself.
fn config() -> String {
    let mut text = format!(
        "server: {{ listen: \"127.0.0.1:{PORT}\" }}\nagent: {{ name: outpost }}\nstore: {{ url: \"sqlite://wk.db\" }}\n\
         channels:\n  - {{ name: hook, webhook: {{ url: \"http://{}:{HOOK_PORT}/hook\" }} }}\n\
         defaults: {{ every: 1s, recheck: 1s, timeout: 500ms, down_after: 2 }}\nmonitors:\n",
        crate::support::netns::GATEWAY
    );
    for n in 1..=4 {
        text.push_str(&format!("  - {{ name: named{n}, probe: {{ http: {{ url: \"http://t{n}.test/\" }} }} }}\n"));
    }
    text.push_str(&format!("  - {{ name: hasty, down_after: 1, probe: {{ http: {{ url: \"http://{}/\" }} }} }}\n", host(5)));
    text.push_str(&format!("  - {{ name: port, probe: {{ tcp: {{ address: \"{}:80\" }} }} }}\n", host(6)));
    text.push_str(&format!("  - {{ name: echo, probe: {{ icmp: {{ host: \"{}\", wait: 400ms }} }} }}\n", host(6)));
    text.push_str("  - { name: zone, probe: { dns: { name: t1.test } } }\n");
    text.push_str(&format!("  - {{ name: itself, probe: {{ tcp: {{ address: \"127.0.0.1:{PORT}\" }} }} }}\n"));
    text
}

/// What `itself` is not among.
const OUTSIDE: [&str; 8] = ["named1", "named2", "named3", "named4", "hasty", "port", "echo", "zone"];

fn start(wires: &Wires, folder: &Path) -> Node {
    std::fs::write(folder.join("watchkeeper.yaml"), config()).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let child = wires
        .command(Path::new(env!("CARGO_BIN_EXE_watchkeeper")))
        .args(["serve", "--config", "watchkeeper.yaml"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Node(child)
}

/// The body of an answer of the node, whatever its status; `None` while it does not answer.
fn get(wires: &Wires, path: &str) -> Option<String> {
    let mut stream = wires.connect(PORT).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// One value of `/metrics`.
fn metric(wires: &Wires, series: &str) -> Option<f64> {
    get(wires, "/metrics")?.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

/// Waits until every host has answered so often more.
async fn all_answer(world: &World, times: usize) {
    let before = world.counts();
    until("every host answers", async || world.counts().iter().zip(&before).all(|(now, then)| *now >= then + times).then_some(())).await;
}

async fn stop(mut node: Node) {
    let pid = node.0.id().to_string();
    assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
    until("the node stops", async || node.0.try_wait().unwrap()).await;
}

async fn cut_and_mended(how: Cut) {
    let Some(wires) = wires() else { return };
    let world = World::start(&wires, HOSTS);
    let folder = tempfile::tempdir().unwrap();
    let node = start(&wires, folder.path());
    all_answer(&world, 3).await;

    wires.cut(how).unwrap();
    until("the node knows that it is cut off", async || (metric(&wires, "watchkeeper_vantage ") == Some(2.0)).then_some(())).await;
    let unknown = || metric(&wires, "watchkeeper_checks_total{result=\"unknown\"}").unwrap_or_default();
    let before = unknown();
    until("every monitor has been looked at several times", async || (unknown() >= before + 32.0).then_some(())).await;
    let ready = get(&wires, "/ready").unwrap();
    assert!(ready.contains("network: this node has had none of its own since"), "{ready}");

    wires.mend(how).unwrap();
    until("the node says that it was cut off", async || (!world.messages().is_empty()).then_some(())).await;
    all_answer(&world, 3).await;
    assert_eq!(metric(&wires, "watchkeeper_vantage "), Some(0.0));
    stop(node).await;

    let messages = world.messages();
    assert_eq!(messages.len(), 1, "{messages:#?}");
    let text = messages[0].to_string();
    assert!(text.contains("cut_off") && text.contains("outpost"), "{text}");
    found_unknown_and_never_down(folder.path()).await;
}

async fn found_unknown_and_never_down(folder: &Path) {
    let store = store::open(&format!("sqlite://{}", folder.join("wk.db").display())).await.unwrap();
    let scope = TenantScope(store.tenants().await.unwrap()[0].0);
    let incidents = store.incidents(scope, &IncidentFilter { limit: 10, ..IncidentFilter::default() }).await.unwrap();
    assert!(incidents.is_empty(), "{incidents:#?}");
    for name in OUTSIDE.iter().chain(&["itself"]) {
        let monitor = store.monitor(scope, name).await.unwrap().unwrap();
        let beats = store.heartbeats(scope, monitor.id, Micros(i64::MAX), 1_000).await.unwrap();
        let down: Vec<_> = beats.iter().filter(|(row, _)| matches!(row.outcome, Outcome::Down(_))).collect();
        assert!(down.is_empty(), "{name}: {down:#?}");
        let blind = |row: &store::BeatRow| matches!(row.outcome, Outcome::Unknown(Blind::NoNetwork | Blind::NoRoute));
        let lost = beats.iter().filter(|(row, _)| blind(row)).count();
        assert_eq!(lost > 0, *name != "itself", "{name}: {lost} of {}", beats.len());
        assert_eq!(beats[0].0.outcome, Outcome::Up, "{name} is well in the end");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_route_is_told_of_the_node_and_of_no_target() {
    cut_and_mended(Cut::NoRoute).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_down_is_told_of_the_node_and_of_no_target() {
    cut_and_mended(Cut::LinkDown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_vanish_are_told_of_the_node_and_of_no_target() {
    cut_and_mended(Cut::Silence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_falls_silent_among_healthy_ones_is_told_in_time() {
    let Some(wires) = wires() else { return };
    let world = World::start(&wires, HOSTS);
    let folder = tempfile::tempdir().unwrap();
    let node = start(&wires, folder.path());
    all_answer(&world, 3).await;
    let gone = Instant::now();
    wires.remove(3).unwrap();
    let told = until("the silent host is told of", async || world.messages().into_iter().next()).await;
    // Two attempts of half a second, one second apart, and all the rest; a busy machine is given more.
    assert!(gone.elapsed() < Duration::from_secs(15), "{:?}", gone.elapsed());
    assert!(told.to_string().contains("named3"), "{told}");
    assert_ne!(metric(&wires, "watchkeeper_vantage "), Some(2.0));
    stop(node).await;
    assert_eq!(world.messages().len(), 1, "{:#?}", world.messages());
}
