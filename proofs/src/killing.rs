//! A process that is killed again and again while targets go down and come back: what `crash` and `alerts` have in common.

use crate::Setup;
use crate::child::{Guard, on_core, pause, until};
use crate::standin::StandIn;
use crate::stats::Random;
use anyhow::Result;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use watchkeeper::clock::Clock;
use watchkeeper::store::{self, IncidentFilter, IncidentView, PAGE_MAX, Store, TenantScope};
use watchkeeper_core::Micros;

/// Both webhooks are told of everything.
pub const HOOKS: [&str; 2] = ["hook", "other"];
/// A target stays as it is for up to so long after everybody was told; then it changes again.
const STEADY_MAX_MS: u64 = 1_500;

/// A target that can be switched.
pub struct Target {
    port: u16,
    /// Whether it answers 503.
    pub down: Arc<AtomicBool>,
    /// How often it was taken down.
    downs: AtomicU64,
}

impl Target {
    /// One that is up.
    pub fn start() -> Result<Self> {
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

    /// What is probed.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// How often it was taken down.
    pub fn downs(&self) -> u64 {
        self.downs.load(Ordering::Relaxed)
    }
}

/// One store, one process after the other on it.
pub struct Killing<'a> {
    /// The binary.
    pub setup: &'a Setup,
    /// The store.
    pub url: &'a str,
    /// A folder of its own.
    pub dir: &'a Path,
    /// Who is told.
    pub told: &'a StandIn,
    /// The clock of the stand-in.
    pub clock: &'a Clock,
    /// What is watched, as `t0`, `t1`, …
    pub targets: &'a [Target],
    /// So many processes are killed.
    pub kills: u32,
    /// Each lives at most so long: from its first instruction to the middle of its work.
    pub life_max: Duration,
    /// A change that was not told within this, over several kills, is lost.
    pub told_limit: Duration,
    /// Where random moments come from.
    pub seed: u64,
}

impl Killing<'_> {
    /// Kills, and calls `after` after each kill; at the end one process lives until every target is up and that was told, and is
    /// stopped in good order. Says when it killed.
    pub fn run(&self, mut after: impl FnMut(u32) -> Result<()>) -> Result<Vec<Micros>> {
        std::fs::create_dir_all(self.dir)?;
        let file = self.dir.join("watchkeeper.yaml");
        std::fs::write(&file, self.config())?;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0_u64..)
                .zip(self.targets)
                .map(|(n, target)| {
                    let random = Random::new(self.seed.wrapping_add(n + 1));
                    let over = &over;
                    scope.spawn(move || self.toggle(target, &format!("t{n}"), random, over))
                })
                .collect();
            let mut random = Random::new(self.seed);
            let killing = (|| {
                let mut kills = Vec::new();
                for nth in 0..self.kills {
                    let mut process = self.spawn(&file)?;
                    pause(Duration::from_millis(random.below(self.life_max.as_millis() as u64)));
                    anyhow::ensure!(process.0.try_wait()?.is_none(), "process {nth} ended by itself: see {}/serve.log", self.dir.display());
                    drop(process);
                    kills.push(self.clock.now());
                    after(nth)?;
                }
                Ok((self.spawn(&file)?, kills))
            })();
            over.store(true, Ordering::Relaxed);
            // The last process lives until every target is up and its end was told.
            let ends: Vec<Result<()>> =
                handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a target's thread panicked")))).collect();
            let (last, kills) = killing?;
            ends.into_iter().collect::<Result<Vec<()>>>()?;
            anyhow::ensure!(last.stop(Duration::from_secs(30))?, "the last process did not end well");
            Ok(kills)
        })
    }

    /// Targets change at a pace that would be flapping elsewhere: here each time down is an incident.
    fn config(&self) -> String {
        let mut config = format!(
            "server: {{ listen: \"127.0.0.1:0\" }}\nstore: {{ url: \"{}\" }}\n\
             agent: {{ lease: {{ beat: 100ms, valid: 400ms, take_over: 600ms }} }}\nchannels:\n{}{}\
             defaults: {{ every: 1s, timeout: 1s, recheck: 1s, down_after: 1, flap_window: 0s, notify: [{}] }}\nmonitors:\n",
            self.url,
            self.told.hook(HOOKS[0]),
            self.told.hook(HOOKS[1]),
            HOOKS.join(", ")
        );
        for (n, target) in self.targets.iter().enumerate() {
            config.push_str(&format!("  - {{ name: t{n}, probe: {{ http: {{ url: \"{}\" }} }} }}\n", target.url()));
        }
        config
    }

    fn spawn(&self, file: &Path) -> Result<Guard> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("serve.log"))?;
        let child = on_core(None, &self.setup.binary)
            .args(["serve", "--config"])
            .arg(file)
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Guard(child))
    }

    /// Takes one target down and up for as long as there are kills; each change lasts until both webhooks were told.
    fn toggle(&self, target: &Target, name: &str, mut random: Random, over: &AtomicBool) -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            for down in [true, false] {
                pause(Duration::from_millis(random.below(STEADY_MAX_MS)));
                let since = self.clock.now();
                target.down.store(down, Ordering::Relaxed);
                target.downs.fetch_add(u64::from(down), Ordering::Relaxed);
                let told = |hook: &&str| {
                    self.told.heard(|c, word| c.channel == **hook && word.monitor == name && word.opened == down && c.at >= since)
                };
                let what = format!("telling that {name} is {}", if down { "down" } else { "up" });
                until(self.told_limit, &what, || HOOKS.iter().all(told).then_some(()))?;
            }
        }
        Ok(())
    }
}

/// What the integrity check finds.
pub async fn check(url: &str) -> Result<Vec<String>> {
    let store = store::open(url).await?;
    let found = store.verify().await?;
    store.close().await;
    Ok(found)
}

/// Every incident, with its timeline and its notices.
pub async fn incidents(url: &str) -> Result<Vec<IncidentView>> {
    let store = store::open(url).await?;
    let mut all = Vec::new();
    for (tenant, _) in store.tenants().await? {
        let scope = TenantScope(tenant);
        let mut filter = IncidentFilter { limit: PAGE_MAX, ..IncidentFilter::default() };
        loop {
            let page = store.incidents(scope, &filter).await?;
            let Some(last) = page.last() else { break };
            filter.before = Some((last.opened_at, last.id));
            all.extend(whole(&*store, scope, &page).await?);
        }
    }
    store.close().await;
    Ok(all)
}

async fn whole(store: &dyn Store, scope: TenantScope, page: &[IncidentView]) -> Result<Vec<IncidentView>> {
    let mut all = Vec::new();
    for listed in page {
        all.extend(store.incident(scope, &listed.uid).await?);
    }
    Ok(all)
}
