//! `./prove crash`: the shipped binary is killed (SIGKILL) at random moments while targets go down and come back. After
//! every kill the store opens and passes its integrity check; at the end every time a target was down is exactly one
//! incident, and each was told, to each provider, that it began and that it ended.

use crate::Setup;
use crate::child::{Guard, free_port, on_core, pause, until};
use crate::postgres::Postgres;
use crate::report::Section;
use crate::standin::{Call, Provider, StandIn};
use crate::stats::{Random, percentile};
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use watchkeeper::clock::Clock;
use watchkeeper::store::{self, IncidentFilter, PAGE_MAX, TenantScope};

const ROUNDS: u32 = 200;
/// So many targets go down and come back, each at its own pace.
const TARGETS: usize = 6;
/// The process lives at most so long before it is killed: from its first instruction to the middle of its work.
const LIFE_MAX_MS: u64 = 2_500;
/// A change that was not told within this, over several kills, is lost.
const TOLD_LIMIT: Duration = Duration::from_mins(2);

/// A target that can be switched.
struct Target {
    port: u16,
    down: Arc<AtomicBool>,
    /// How often it was taken down.
    downs: AtomicU64,
}

impl Target {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let down = Arc::new(AtomicBool::new(false));
        let shared = down.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let status = if shared.load(Ordering::Relaxed) { "503 Service Unavailable" } else { "200 OK" };
                // A prober that was killed does not read its answer.
                let _ = stream.read(&mut [0; 2_048]);
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
            }
        });
        Ok(Self { port, down, downs: AtomicU64::new(0) })
    }
}

/// Runs the rounds on both stores.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS);
    let what = format!(
        "`watchkeeper serve` is killed (SIGKILL) after a random time of up to {LIFE_MAX_MS} ms and started again, while {TARGETS} targets go down and \
         come back. After each kill the store is opened and its integrity check run."
    );
    let head = ["store", "kills", "times down", "incidents", "told twice", "open + check p50", "p99"];
    let mut section = Section::new("crash", what, rounds, &head);
    let dir = tempfile::tempdir()?;
    let sqlite = format!("sqlite://{}", dir.path().join("watchkeeper.db").display());
    on_store(&mut section, setup, "SQLite", &sqlite, rounds, &dir.path().join("sqlite"))?;
    match Postgres::start(dir.path()) {
        Ok(postgres) => {
            let url = postgres.database("crash")?;
            on_store(&mut section, setup, "PostgreSQL", &url, rounds, &dir.path().join("pg"))?;
        }
        Err(error) => section.aim(false, &format!("PostgreSQL was not proved: {error:#}")),
    }
    Ok(section)
}

fn on_store(section: &mut Section, setup: &Setup, name: &str, url: &str, rounds: u32, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let clock = Clock::system();
    let told = StandIn::start(clock.clone())?;
    let targets: Vec<Target> = (0..TARGETS).map(|_| Target::start()).collect::<Result<_>>()?;
    let file = dir.join("watchkeeper.yaml");
    std::fs::write(&file, config(url, &told, &targets)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let over = AtomicBool::new(false);
    let mut checks = Vec::new();
    let mut broken = Vec::new();
    let togglers = std::thread::scope(|scope| -> Result<()> {
        let handles: Vec<_> = targets
            .iter()
            .enumerate()
            .map(|(n, target)| {
                let random = Random::new(setup.seed.wrapping_add(n as u64 + 1));
                let (told, clock, over) = (&told, &clock, &over);
                scope.spawn(move || toggle(target, &format!("t{n}"), random, told, clock, over))
            })
            .collect();
        let mut random = Random::new(setup.seed);
        let killing = (|| -> Result<Guard> {
            for nth in 0..rounds {
                let process = spawn(setup, &file, dir)?;
                pause(Duration::from_millis(random.below(LIFE_MAX_MS)));
                drop(process);
                let began = Instant::now();
                let found = runtime.block_on(check(url)).with_context(|| format!("opening the store after kill {nth}"))?;
                checks.push(began.elapsed().as_secs_f64());
                broken.extend(found.into_iter().map(|problem| format!("after kill {nth}: {problem}")));
            }
            spawn(setup, &file, dir)
        })();
        over.store(true, Ordering::Relaxed);
        // The last process lives until every target is up and its end was told.
        let ends: Vec<Result<()>> =
            handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a target's thread panicked")))).collect();
        let last = killing?;
        ends.into_iter().collect::<Result<Vec<()>>>()?;
        anyhow::ensure!(last.stop(Duration::from_secs(30))?, "the last process did not end well");
        Ok(())
    });
    togglers?;
    broken.extend(runtime.block_on(check(url))?);
    let incidents = runtime.block_on(incidents(url))?;
    let downs: u64 = targets.iter().map(|t| t.downs.load(Ordering::Relaxed)).sum();
    let (missing, twice) = judge(&incidents, &told);
    let cell = |p: f64| format!("{:.0} ms", percentile(&checks, p) * 1e3);
    section.row(vec![
        name.to_owned(),
        rounds.to_string(),
        downs.to_string(),
        incidents.len().to_string(),
        twice.to_string(),
        cell(50.0),
        cell(99.0),
    ]);
    section.none(&broken, &format!("{name}: faults in the integrity check after each of {rounds} kills"));
    let each = targets.iter().enumerate().all(|(n, t)| {
        let name = format!("t{n}");
        incidents.iter().filter(|(monitor, _)| *monitor == name).count() as u64 == t.downs.load(Ordering::Relaxed)
    });
    section.aim(each, &format!("{name}: every time down is exactly one incident ({downs} times, {} incidents)", incidents.len()));
    section.none(&missing, &format!("{name}: messages to either provider, of a beginning or an end, that were never sent"));
    section.notes.push(format!(
        "{name}: {twice} messages were told twice (a kill between the provider's acceptance and its record; at least once is the promise)."
    ));
    Ok(())
}

fn config(url: &str, told: &StandIn, targets: &[Target]) -> Result<String> {
    let mut config = format!(
        "server: {{ listen: 127.0.0.1:{} }}\nstore: {{ url: \"{url}\" }}\nagent: {{ lease: {{ beat: 100ms, valid: 400ms, take_over: 600ms }} }}\n{}\
         defaults: {{ every: 1s, timeout: 1s, recheck: 1s, down_after: 1, notify: [hook, chat] }}\nmonitors:\n",
        free_port()?,
        told.channels()
    );
    for (n, target) in targets.iter().enumerate() {
        config.push_str(&format!("  - {{ name: t{n}, probe: {{ http: {{ url: \"http://127.0.0.1:{}/\" }} }} }}\n", target.port));
    }
    Ok(config)
}

fn spawn(setup: &Setup, file: &Path, dir: &Path) -> Result<Guard> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("serve.log"))?;
    let child = on_core(None, &setup.binary)
        .args(["serve", "--config"])
        .arg(file)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(Guard(child))
}

/// Takes one target down and up for as long as there are kills; each change lasts until it was told.
fn toggle(target: &Target, name: &str, mut random: Random, told: &StandIn, clock: &Clock, over: &AtomicBool) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        for down in [true, false] {
            pause(Duration::from_millis(random.below(1_500)));
            let since = clock.now();
            target.down.store(down, Ordering::Relaxed);
            target.downs.fetch_add(u64::from(down), Ordering::Relaxed);
            let both = || {
                let has =
                    |p: Provider| !told.calls(|c| c.provider == p && c.monitor == name && c.opened == down && c.at >= since).is_empty();
                (has(Provider::Webhook) && has(Provider::Telegram)).then_some(())
            };
            until(TOLD_LIMIT, &format!("telling that {name} is {}", if down { "down" } else { "up" }), both)?;
        }
    }
    Ok(())
}

/// What the integrity check finds.
async fn check(url: &str) -> Result<Vec<String>> {
    let store = store::open(url).await?;
    let found = store.verify().await?;
    store.close().await;
    Ok(found)
}

/// Every incident: its monitor and its public id.
async fn incidents(url: &str) -> Result<Vec<(String, String)>> {
    let store = store::open(url).await?;
    let (tenant, _) = store.tenants().await?.into_iter().next().context("the store has no tenant")?;
    let mut all = Vec::new();
    let mut filter = IncidentFilter { limit: PAGE_MAX, ..IncidentFilter::default() };
    loop {
        let page = store.incidents(TenantScope(tenant), &filter).await?;
        let Some(last) = page.last() else { break };
        filter.before = Some((last.opened_at, last.id));
        all.extend(page.into_iter().map(|i| (i.monitor, i.uid)));
    }
    store.close().await;
    Ok(all)
}

/// What was never told, and how many messages came more than once.
fn judge(incidents: &[(String, String)], told: &StandIn) -> (Vec<String>, usize) {
    let calls = told.calls(|_| true);
    let (mut missing, mut twice) = (Vec::new(), 0);
    for (monitor, incident) in incidents {
        for provider in [Provider::Webhook, Provider::Telegram] {
            for opened in [true, false] {
                let same = |c: &&Call| c.incident == *incident && c.provider == provider && c.opened == opened;
                match calls.iter().filter(same).count() {
                    0 => missing.push(format!("{monitor} {incident} {provider:?} {}", if opened { "opened" } else { "resolved" })),
                    n => twice += n - 1,
                }
            }
        }
    }
    (missing, twice)
}
