//! One round of each fault that many nodes must stand, with three real processes on a real PostgreSQL of the test's own.

use crate::nodes::{LEASE, MONITORS, all_seen_since, all_told, fleet, held_by, incidents, service, told_once};
use crate::support::app::{TestApp, until};
use crate::support::link::Link;
use crate::support::postgres::{self, OwnServer};
use crate::support::process::Program;
use crate::support::webhook;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use watchkeeper::clock::Clock;
use watchkeeper::store;
use watchkeeper_core::Micros;

/// Longer than a lease is good for, shorter than a test.
const OUTAGE: Duration = Duration::from_secs(3);

/// One node, with a link of its own to the database.
struct Node {
    file: PathBuf,
    link: Link,
}

impl Node {
    async fn new(folder: &tempfile::TempDir, name: &str, database: &str, fleet: &str) -> Self {
        let (link, url) = Link::to_database(database).await;
        let home = folder.path().join(name);
        std::fs::create_dir_all(&home).unwrap();
        let file = home.join("watchkeeper.yaml");
        let head = format!(
            "server: {{ listen: 127.0.0.1:0 }}\nstore: {{ url: '{url}', journal: '{}' }}\nagent: {{ name: {name}, {LEASE} }}\n",
            home.join("journal").display()
        );
        std::fs::write(&file, format!("{head}{fleet}")).unwrap();
        Self { file, link }
    }

    /// What it said, from its end.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.file.with_extension("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn serve(&self) -> Program {
        Program::serve(&self.file)
    }
}

/// Says what each node said, if the test fails.
struct LastWords<'a>(&'a [Node]);

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in self.0 {
                eprintln!("{}:\n{}", node.file.display(), node.log());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_stand_every_fault_and_say_nothing_that_is_not_true() {
    let Some((mut server, database)) = OwnServer::start().await else { return };
    let (folder, (service, well), hook) = (tempfile::tempdir().unwrap(), service().await, webhook::start(false).await);
    let yaml = fleet(&service, &hook, MONITORS);
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(Node::new(&folder, name, &database, &yaml).await);
    }
    let mut programs: Vec<Program> = nodes.iter().map(Node::serve).collect();
    let _said = LastWords(&nodes);
    let store = store::open(&database).await.unwrap();
    let (all, clock) = (["a", "b", "c"], Clock::system());
    held_by(&*store, &all).await;
    all_seen_since(&*store, clock.now()).await;

    // kill -9.
    programs.remove(0).kill();
    held_by(&*store, &["b", "c"]).await;
    all_seen_since(&*store, clock.now()).await;
    programs.insert(0, nodes[0].serve());
    held_by(&*store, &all).await;

    // Frozen for longer than a lease is good for.
    programs[1].signal("STOP");
    held_by(&*store, &["a", "c"]).await;
    all_seen_since(&*store, clock.now()).await;
    programs[1].signal("CONT");
    held_by(&*store, &all).await;

    // A link that is cut.
    nodes[2].link.cut();
    held_by(&*store, &["a", "b"]).await;
    all_seen_since(&*store, clock.now()).await;
    nodes[2].link.mend();
    held_by(&*store, &all).await;

    // The database killed, and stopped in good order; each for longer than a lease is good for.
    for signal in ["KILL", "INT"] {
        let since = clock.now();
        let before = service.accepted();
        server.down(signal).await;
        let began = Instant::now();
        until("checks go on", async || (began.elapsed() > OUTAGE && service.accepted() > before + MONITORS).then_some(())).await;
        server.up().await;
        held_by(&*store, &all).await;
        all_seen_since(&*store, since).await;
        all_seen_since(&*store, clock.now()).await;
    }

    // A stop in good order hands over.
    let ended = programs.remove(0).stop().await;
    assert!(ended.success(), "{ended}: {}", nodes[0].log());
    held_by(&*store, &["b", "c"]).await;
    all_seen_since(&*store, clock.now()).await;
    assert_eq!((incidents(&*store).await.len(), hook.calls().len()), (0, 0), "nothing was ever wrong");

    // And what is wrong is told, once.
    well.store(false, Ordering::SeqCst);
    all_told(&*store, "opened").await;
    well.store(true, Ordering::SeqCst);
    all_told(&*store, "resolved").await;
    for program in programs {
        assert!(program.stop().await.success());
    }
    assert_eq!(incidents(&*store).await.len(), MONITORS);
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
    told_once(&hook);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_steps_by_an_hour_is_no_news() {
    let Some(database) = postgres::fresh_database().await else { return };
    let ((service, well), hook) = (service().await, webhook::start(false).await);
    let yaml = fleet(&service, &hook, MONITORS);
    let step = Arc::new(AtomicI64::new(0));
    let stepped = step.clone();
    let wall = Clock::system();
    let clock = Clock::reading(move || Micros(wall.now().0 + stepped.load(Ordering::SeqCst)));
    // With the lease times that an installation has: what is lost here was lost to the clock.
    let head = |name| format!("server: {{ listen: 127.0.0.1:0 }}\nagent: {{ name: {name} }}\n");
    let a = TestApp::start_by(&format!("{}{yaml}", head("a")), store::open(&database.url).await.unwrap(), clock).await;
    let b = TestApp::start_whole(&format!("{}{yaml}", head("b")), store::open(&database.url).await.unwrap()).await;
    let held = until("a share for each", async || {
        let held = held_by(&*b.store, &["a", "b"]).await;
        (held.values().filter(|name| *name == "a").count() == 16).then_some(held)
    })
    .await;
    all_seen_since(&*b.store, Clock::system().now()).await;
    for hours in [1, -1, 0] {
        step.store(hours * 3_600_000_000, Ordering::SeqCst);
        let (before, began) = (service.accepted(), Instant::now());
        until("three rounds of checks", async || (began.elapsed() > Duration::from_secs(3)).then_some(())).await;
        let checks = service.accepted() - before;
        let rounds = began.elapsed().as_secs_f64();
        assert!(checks as f64 <= (rounds + 2.0) * MONITORS as f64, "no burst: {checks} checks in {rounds:.1} s");
        all_seen_since(&*b.store, Clock::system().now()).await;
        assert_eq!(held_by(&*b.store, &["a", "b"]).await, held, "no lease was lost");
    }
    assert_eq!((incidents(&*b.store).await.len(), hook.calls().len()), (0, 0));
    well.store(false, Ordering::SeqCst);
    all_told(&*b.store, "opened").await;
    a.stop().await;
    b.stop().await;
    told_once(&hook);
}

/// Nothing asks the database what time it is: a step of its clock is seen by nobody.
#[test]
fn no_statement_reads_the_clock_of_the_database() {
    fn look(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
            // The tables of another system are its own business.
            let foreign = path.components().any(|part| part.as_os_str() == "uptime_o");
            for word in ["now()", "current_timestamp", "clock_timestamp", "statement_timestamp", "localtimestamp", "strftime", "datetime("]
            {
                let rust = text.contains(&format!(".{word}")) || text.contains(&format!("::{word}"));
                if text.contains(word) && !rust && !foreign {
                    found.push(format!("{}: {word}", path.display()));
                }
            }
        }
    }
    let mut found = Vec::new();
    look(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store"), &mut found);
    assert_eq!(found, [""; 0]);
}
