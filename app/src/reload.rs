//! Reading the configuration again: on SIGHUP, on `POST /-/reload`, and when a file changes.
//!
//! A bad configuration changes nothing and is shown in `/ready`, in a metric and in the log. A good one is applied as a
//! whole; monitors that did not change keep their very objects, so nothing about them moves.

use crate::app::{channel_specs, wanted_scopes};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::deliver::{self, Deliverers};
use crate::engine::FleetUpdate;
use crate::spec::{self, Channels, Fleet};
use crate::store::{Joined, Store};
use crate::talk::{self, Talk};
use crate::telemetry::SharedMetrics;
use crate::web::ReloadRequest;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at. Kubernetes and editors replace files rather than write them; looking finds every way of it.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the configuration came from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file or a folder of files.
    Path(PathBuf),
    /// The program itself (no file was found, the demonstration, tests): there is nothing to read again.
    Fixed,
}

impl Source {
    /// The name under which its objects are kept apart from those of other sources.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Path(_) | Self::Fixed => "files",
        }
    }
}

/// The task that reloads.
pub struct Reloader {
    /// Where to read.
    pub source: Source,
    /// What is in force.
    pub current: Config,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Clock,
    /// Metrics about ourselves.
    pub metrics: SharedMetrics,
    /// Who we are.
    pub joined: Joined,
    /// Requests from the API.
    pub requests: mpsc::Receiver<ReloadRequest>,
    /// To the engine.
    pub fleets: mpsc::Sender<FleetUpdate>,
    /// To everybody else.
    pub fleet: watch::Sender<Fleet>,
    /// The channels, to the web.
    pub channels: watch::Sender<Channels>,
    /// To those who say other things than incidents, and who listen.
    pub talk: watch::Sender<Talk>,
    /// The scopes that the lease loop wants.
    pub wanted: watch::Sender<BTreeSet<String>>,
    /// The deliverers.
    pub deliverers: Arc<Deliverers>,
    /// What is wrong with the newest configuration, for `/ready`.
    pub problem: watch::Sender<Option<String>>,
}

impl Reloader {
    /// Waits for reasons to reload until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut hangup = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
            Ok(signal) => Some(signal),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP cannot be received; use POST /-/reload");
                None
            }
        };
        let mut seen = self.fingerprint();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Some(request) = self.requests.recv() => {
                    seen = self.fingerprint();
                    let result = self.reload().await;
                    // Whoever asked may have gone away.
                    let _ = request.send(result);
                }
                Some(()) = hung_up => {
                    seen = self.fingerprint();
                    let _logged = self.reload().await;
                }
                _ = look.tick() => {
                    let now = self.fingerprint();
                    if now != seen {
                        seen = now;
                        let _logged = self.reload().await;
                    }
                }
            }
        }
    }

    /// Reads and applies. The answer says what changed, or every problem.
    async fn reload(&mut self) -> Result<String, Vec<String>> {
        let result = self.try_reload().await;
        match &result {
            Ok(text) => {
                self.metrics.reload_ok.set(1);
                self.metrics.reload_at.set(self.clock.now().0 as f64 / 1e6);
                self.problem.send_replace(None);
                tracing::info!("configuration reloaded: {text}");
            }
            Err(problems) => {
                self.metrics.reload_ok.set(0);
                self.problem.send_replace(Some("the newest configuration was refused; see the log".to_owned()));
                tracing::error!(problems = problems.len(), "the configuration was refused and changes nothing");
                for problem in problems {
                    tracing::error!("{problem}");
                }
            }
        }
        result
    }

    async fn try_reload(&mut self) -> Result<String, Vec<String>> {
        let Source::Path(path) = &self.source else {
            return Err(vec!["there is no configuration file to read again".to_owned()]);
        };
        let path = path.clone();
        let env = |name: &str| std::env::var(name).ok();
        let config = config::load(Some(&path), &env).map_err(|bad| bad.told())?;
        let mut notes = Vec::new();
        if config.node_differs(&self.current) {
            notes.push("server, store and agent take effect at the next start".to_owned());
        }
        if config.hash == self.current.hash {
            self.current = config;
            notes.insert(0, "nothing changed".to_owned());
            return Ok(notes.join("; "));
        }
        let objects = spec::objects(&config).map_err(|error| vec![error.to_string()])?;
        let applied = self
            .store
            .apply(self.source.name(), &crate::hex(&config.hash), &objects, self.clock.now())
            .await
            .map_err(|error| vec![crate::chain(&error)])?;
        let old = self.fleet.borrow().clone();
        let fleet = spec::build(&config, &applied, &old, self.joined.shards, self.clock.now());
        let channels = channel_specs(&config, &applied);
        let talk = talk::of(&config, &applied);
        let scopes = wanted_scopes(&self.joined, channels.iter().map(|c| deliver::scope(&c.budget_key)));
        let kept = fleet.0.iter().filter(|(id, spec)| old.0.get(id).is_some_and(|o| Arc::ptr_eq(o, spec))).count();
        let new = fleet.0.keys().filter(|id| !old.0.contains_key(id)).count();
        let gone = old.0.keys().filter(|id| !fleet.0.contains_key(id)).count();
        notes.insert(
            0,
            format!("{} unchanged, {} changed, {new} new, {gone} gone", crate::counted(kept, "monitor"), fleet.0.len() - kept - new),
        );
        self.channels.send_replace(Channels::of(&config, &applied));
        self.deliverers.apply(channels);
        self.talk.send_replace(talk);
        self.wanted.send_replace(scopes);
        self.fleet.send_replace(fleet.clone());
        if self.fleets.send(FleetUpdate { fleet, retired: applied.retired }).await.is_err() {
            return Err(vec!["the engine has ended".to_owned()]);
        }
        self.current = config;
        Ok(notes.join("; "))
    }

    /// What the files look like from outside; equal means that nobody touched them.
    fn fingerprint(&self) -> u64 {
        let Source::Path(path) = &self.source else { return 0 };
        let mut hasher = std::hash::DefaultHasher::new();
        let mut files = vec![path.clone()];
        if let Ok(entries) = std::fs::read_dir(path) {
            files.extend(entries.flatten().take(config::FILES_MAX).map(|e| e.path()));
        }
        files.sort();
        for file in files {
            touch(&file, &mut hasher);
        }
        hasher.finish()
    }
}

fn touch(file: &Path, hasher: &mut impl Hasher) {
    file.hash(hasher);
    // A file that cannot be looked at now counts as one without size or time; the reload then says what is wrong.
    let meta = std::fs::metadata(file).ok();
    meta.as_ref().map(std::fs::Metadata::len).hash(hasher);
    meta.and_then(|m| m.modified().ok()).hash(hasher);
}
