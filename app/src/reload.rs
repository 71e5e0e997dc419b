//! Reading the configuration again: on SIGHUP, on `POST /-/reload`, and when a file changes, or a table that is its source.
//!
//! A bad configuration changes nothing and is shown in `/ready`, in a metric and in the log. A good one is applied as a
//! whole; monitors that did not change keep their very objects, so nothing about them moves.
//!
//! Nodes that share the work have one configuration, and the holder of its lease says which one is in force. A node that has read
//! another changes nothing, says so in `/ready`, and puts it into force when it may or when the two are the same.
//!
//! Beside the files there are the documents that were made over the API ([`crate::documents`]). They are in the store and so the same for
//! all: every node may put them into force beside the files that are, and does when it sees that they changed.

use crate::app::{channel_specs, wanted};
use crate::clock::Clock;
use crate::config::{self, BadConfig, Config, MonitorConfig, StatusPageConfig};
use crate::deliver::Deliverers;
use crate::documents::{self, Asked, Change, Made, NotChanged};
use crate::engine::FleetUpdate;
use crate::lease::{Leases, SOURCE, Wanted};
use crate::sealed;
use crate::spec::{self, Channels, Fleet, Pages};
use crate::store::{Applied, Beside, DocumentRow, DocumentWrite, Documents, Fence, Joined, Mandate, Store, StoreError};
use crate::talk::{self, Talk};
use crate::telemetry::SharedMetrics;
use crate::uptime_o;
use crate::web::ReloadRequest;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at. Kubernetes and editors replace files rather than write them; looking finds every way of it.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Documents that others change at the same time are read anew so often. Fewer would fail where trying again helps; more would keep somebody
/// waiting whom nothing can help.
pub const TRIES_MAX: u32 = 8;

/// Where the configuration came from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file or a folder of files.
    Path(PathBuf),
    /// The tables of UptimeOAgent, and perhaps files beside them.
    UptimeO(Arc<uptime_o::Source>),
    /// The program itself (no file was found, the demonstration, tests): there is nothing to read again.
    Fixed,
}

impl Source {
    /// The name under which its objects are kept apart from those of other sources.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Path(_) | Self::Fixed => "files",
            Self::UptimeO(_) => uptime_o::SOURCE,
        }
    }

    /// A socket for the API that it came with.
    pub fn listener(&self) -> Option<std::net::TcpListener> {
        match self {
            Self::Path(_) | Self::Fixed => None,
            Self::UptimeO(tables) => tables.listener(),
        }
    }

    /// The words for a reload that came through, as whoever reads the log knows them.
    const fn reloaded(&self) -> &'static str {
        match self {
            Self::Path(_) | Self::Fixed => "configuration reloaded",
            Self::UptimeO(_) => "Config reloaded",
        }
    }

    /// For how long a node that has read what is not in force goes on with what was.
    const fn patience(&self) -> Duration {
        match self {
            Self::Path(_) | Self::Fixed => Duration::ZERO,
            Self::UptimeO(_) => uptime_o::source::PATIENCE,
        }
    }

    /// The lease scope that only nodes with this source want, one of each datacenter.
    pub fn scope(&self) -> Option<String> {
        match self {
            Self::Path(_) | Self::Fixed => None,
            Self::UptimeO(tables) => Some(tables.scope()),
        }
    }

    /// What it says now.
    async fn load(&self) -> Result<Config, Vec<String>> {
        let env = |name: &str| std::env::var(name).ok();
        match self {
            Self::Path(path) => config::load(Some(path), &env).map_err(|bad| bad.told()),
            Self::UptimeO(tables) => tables.load().await,
            Self::Fixed => Err(vec!["there is no configuration file to read again".to_owned()]),
        }
    }

    /// A configuration of this source with the documents beside it. Documents that do not open here are no reason to end what they
    /// describe: without a word to the contrary there is no configuration then.
    pub fn with(&self, files: &Config, mut documents: Documents) -> Result<(Config, Made), BadConfig> {
        let keys = files.server.keys.clone();
        let locked = sealed::open_all(&mut documents.rows, keys.as_ref());
        if !files.server.leave_out_sealed {
            sealed::all_opened(&locked)?;
        }
        let (readable, unread) = documents::read(&documents.rows);
        let own = |name: &str| std::env::var(name).ok();
        let (whole, mut left_out) = match self {
            Self::Path(_) | Self::Fixed => files.with(&readable, &own)?,
            Self::UptimeO(tables) => tables.with(files, &readable)?,
        };
        left_out.extend(unread);
        left_out.extend(locked);
        let in_clear = if keys.is_none() { sealed::in_clear(&documents.rows) } else { 0 };
        let (reach, texts, in_files) = (files.server.api_targets, files.texts.clone(), Arc::new(documents::named(files)));
        let limits = Arc::new(files.tenants.iter().map(|tenant| (tenant.slug.clone(), tenant.limits)).collect());
        Ok((whole, Made { documents, left_out, reach, keys, in_clear, files: texts, limits, in_files }))
    }

    /// What it looked like from outside when it was read at the start.
    fn at_start(&self) -> u64 {
        match self {
            Self::Path(path) => of_files(path),
            Self::UptimeO(tables) => tables.last_fingerprint(of_files),
            Self::Fixed => 0,
        }
    }

    /// What it looks like from outside; equal means that nobody touched it.
    async fn fingerprint(&self) -> u64 {
        match self {
            Self::Path(path) => of_files(path),
            Self::UptimeO(tables) => tables.fingerprint(of_files).await,
            Self::Fixed => 0,
        }
    }
}

/// Whether the log has said already why this configuration is not in force.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Somebody has just asked for it, or changed the file.
    Never,
    /// It is only tried again: said once more if the reason is another one.
    OnceAlready,
}

/// The task that reloads.
pub struct Reloader {
    /// Where to read.
    pub source: Source,
    /// What the files say that are in force, or were before another configuration was put into force.
    pub current: Config,
    /// The hash of all that is in force, documents and all.
    pub whole: [u8; 32],
    /// The documents, as they were taken up last.
    pub made: watch::Sender<Arc<Made>>,
    /// What was read and is not in force yet, because that is another node's to say.
    pub pending: Option<Config>,
    /// Since when what was read here has waited for another node to put it into force.
    pub waits_since: Option<Instant>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// What this node holds: whether it says which configuration is in force.
    pub leases: Leases,
    /// The clock.
    pub clock: Clock,
    /// Metrics about ourselves.
    pub metrics: SharedMetrics,
    /// Who we are.
    pub joined: Joined,
    /// Requests from the API.
    pub requests: mpsc::Receiver<ReloadRequest>,
    /// Changes of documents that the API asks for.
    pub changes: mpsc::Receiver<Asked>,
    /// To the engine.
    pub fleets: mpsc::Sender<FleetUpdate>,
    /// To everybody else.
    pub fleet: watch::Sender<Fleet>,
    /// The channels, to the web.
    pub channels: watch::Sender<Channels>,
    /// The public status pages, to the web.
    pub pages: watch::Sender<Pages>,
    /// To those who say other things than incidents, and who listen.
    pub talk: watch::Sender<Talk>,
    /// What the lease loop would hold.
    pub wanted: watch::Sender<Wanted>,
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
        let mut seen = self.source.at_start();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut held = self.leases.watch();
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
                    seen = self.source.fingerprint().await;
                    let result = self.reload().await;
                    // Whoever asked may have gone away.
                    let _ = request.send(result);
                }
                Some(asked) = self.changes.recv() => self.answer(asked).await,
                Some(()) = hung_up => {
                    seen = self.source.fingerprint().await;
                    let _logged = self.reload().await;
                }
                _ = look.tick() => {
                    let now = self.source.fingerprint().await;
                    if now != seen {
                        seen = now;
                        let _logged = self.reload().await;
                    }
                    self.stay_in_force().await;
                }
                // The right to say what is in force may have come to us.
                Ok(()) = held.changed(), if self.pending.is_some() => {
                    if self.fence().is_some() {
                        let _logged = self.settle(Told::OnceAlready).await;
                    }
                }
            }
        }
    }

    /// Reads and applies. The answer says what changed, or every problem.
    async fn reload(&mut self) -> Result<String, Vec<String>> {
        if matches!(self.source, Source::Fixed) {
            return self.source.load().await.map(|_| String::new());
        }
        match self.source.load().await {
            Ok(config) => {
                self.pending = Some(config);
                self.settle(Told::Never).await
            }
            Err(problems) => {
                // What was read before is no longer what the file says; a node that stands by goes on waiting with what it had.
                self.pending = (!self.wanted.borrow().takes_part).then(|| self.current.clone());
                self.refused("the newest configuration was refused; see the log", problems, Told::Never)
            }
        }
    }

    /// Puts what was read into force, if that is ours to say.
    async fn settle(&mut self, told: Told) -> Result<String, Vec<String>> {
        let Some(config) = self.pending.clone() else { return Ok("nothing changed".to_owned()) };
        match self.apply(&config).await {
            Ok(text) => {
                (self.pending, self.waits_since) = (None, None);
                self.metrics.reload_ok.set(1);
                self.metrics.reload_at.set(self.clock.now().0 as f64 / 1e6);
                self.problem.send_replace(None);
                tracing::info!("{}: {text}", self.source.reloaded());
                Ok(text)
            }
            Err(StoreError::NotInForce) => {
                let text = "another configuration is in force, as another node says; this node changes nothing until it has the same";
                if self.is_patient() {
                    return Err(vec![text.to_owned()]);
                }
                self.refused(text, vec![text.to_owned()], told)
            }
            // The store may take it the next time.
            Err(error) => self.refused("the newest configuration could not be stored; trying again", vec![crate::chain(&error)], told),
        }
    }

    fn refused(&mut self, why: &str, problems: Vec<String>, told: Told) -> Result<String, Vec<String>> {
        self.metrics.reload_ok.set(0);
        let known = self.problem.send_replace(Some(why.to_owned())).as_deref() == Some(why);
        if told == Told::Never || !known {
            tracing::error!(problems = problems.len(), "the configuration changes nothing");
            for problem in &problems {
                tracing::error!("{problem}");
            }
        }
        Err(problems)
    }

    /// By what right this node may change what is in force.
    fn fence(&self) -> Option<Fence> {
        self.leases.fence(SOURCE)
    }

    /// Makes sure that what runs here is what is in force; tries again what is not yet.
    async fn stay_in_force(&mut self) {
        if !self.store.exclusive() && self.wanted.borrow().takes_part {
            // An outage is told by those who need the store.
            let Ok(Some(in_force)) = self.store.in_force(self.source.name()).await else { return };
            if in_force != crate::hex(&self.current.content) {
                if self.pending.is_none() {
                    // What is in force may be what is read here by now.
                    self.pending = Some(self.source.load().await.unwrap_or_else(|_| self.current.clone()));
                }
                let agrees = self.pending.as_ref().is_some_and(|pending| crate::hex(&pending.content) == in_force);
                if !agrees && self.fence().is_none() {
                    if self.is_patient() {
                        // Read anew at the next look.
                        self.pending = None;
                        return;
                    }
                    self.stand_by().await;
                }
            }
        }
        if self.pending.is_none() && self.has_new_documents().await {
            self.pending = Some(self.current.clone());
        }
        if self.pending.is_some() {
            let _logged = self.settle(Told::OnceAlready).await;
        } else {
            self.waits_since = None;
        }
    }

    /// Whether another node has put documents into force that this one has not taken up.
    async fn has_new_documents(&self) -> bool {
        if self.store.exclusive() || !self.wanted.borrow().takes_part {
            return false;
        }
        let taken_up = self.made.borrow().documents.version;
        // An outage is told by those who need the store.
        self.store.documents_version().await.is_ok_and(|version| version != taken_up)
    }

    /// Does what the API asks for.
    async fn answer(&mut self, asked: Asked) {
        match asked {
            Asked::Change(change, answer) => {
                let result = self.change(&change).await;
                // Whoever asked may have gone away.
                let _ = answer.send(result);
            }
            Asked::Judge(change, answer) => {
                let result = self.planned(&change).await;
                let _ = answer.send(result.map(|_| ()));
            }
            Asked::Describe(change, answer) => {
                let result = self.describe(&change).await;
                let _ = answer.send(result.map(Box::new));
            }
            Asked::Preview(change, answer) => {
                let result = self.preview(&change).await;
                let _ = answer.send(result.map(Box::new));
            }
        }
    }

    /// The documents of now, and what the configuration would be with a change of them.
    async fn planned(&self, change: &Change) -> Result<(Config, Made, documents::Planned), NotChanged> {
        if !self.wanted.borrow().takes_part {
            return Err(NotChanged::StandsBy);
        }
        let files = |bad: BadConfig| NotChanged::Files(bad.told());
        let documents = self.store.documents().await?;
        let mut now = self.made.borrow().clone();
        if now.documents.version != documents.version {
            now = Arc::new(self.source.with(&self.current, documents).map_err(files)?.1);
        }
        let planned = documents::plan(change, &now, &self.current, self.clock.now())?;
        let then = Documents { version: now.documents.version, rows: planned.rows.clone() };
        let (whole, then) = self.source.with(&self.current, then).map_err(files)?;
        planned.judge(&then.left_out, &now.left_out)?;
        Ok((whole, then, planned))
    }

    /// Changes documents and puts the change into force, in one transaction of the store.
    async fn change(&mut self, change: &Change) -> Result<Vec<DocumentRow>, NotChanged> {
        for _ in 0..TRIES_MAX {
            let (whole, made, planned) = self.planned(change).await?;
            let files = self.current.clone();
            match self.put_into_force(&files, &whole, made, &planned.writes).await {
                Ok(text) => {
                    tracing::info!("{} changed what was made over the API: {text}", change.by);
                    let made = self.made.borrow().clone();
                    let row = |uid: &String| made.documents.rows.iter().find(|row| row.uid == *uid).cloned();
                    return Ok(planned.touched.iter().filter_map(row).collect());
                }
                Err(StoreError::Outdated) => {}
                Err(error) => {
                    // It may have landed all the same: the next look takes up what there is.
                    self.pending.get_or_insert(files);
                    return Err(error.into());
                }
            }
        }
        Err(NotChanged::Busy)
    }

    /// The one monitor that a change would leave.
    async fn describe(&self, change: &Change) -> Result<MonitorConfig, NotChanged> {
        let (whole, _, planned) = self.planned(change).await?;
        let mut monitors = whole.tenants.into_iter().flat_map(|tenant| tenant.monitors);
        monitors.find(|monitor| monitor.uid == planned.touched.first().cloned()).ok_or(NotChanged::Busy)
    }

    /// The one status page that a change would leave.
    async fn preview(&self, change: &Change) -> Result<StatusPageConfig, NotChanged> {
        let (whole, _, planned) = self.planned(change).await?;
        let name = planned.rows.iter().find(|row| planned.touched.first() == Some(&row.uid)).map(|row| row.name.as_str());
        let mut pages = whole.tenants.into_iter().flat_map(|tenant| tenant.status_pages);
        // Its name is its own in the whole installation.
        pages.find(|page| Some(page.slug.as_str()) == name).ok_or(NotChanged::Busy)
    }

    /// Whether what was read here and is not in force may yet come into force by itself.
    fn is_patient(&mut self) -> bool {
        self.waits_since.get_or_insert_with(Instant::now).elapsed() < self.source.patience()
    }

    /// Another configuration has been put into force: nothing is watched under ours any more.
    async fn stand_by(&mut self) {
        tracing::warn!("another configuration was put into force by another node; this one stands by");
        let fleet = Fleet::default();
        self.wanted.send_modify(|wanted| wanted.takes_part = false);
        self.pages.send_replace(Pages::default());
        self.fleet.send_replace(fleet.clone());
        // The engine ends only with the process.
        let _ = self.fleets.send(FleetUpdate { fleet, retired: Vec::new() }).await;
    }

    async fn apply(&mut self, config: &Config) -> Result<String, StoreError> {
        let mut notes = Vec::new();
        if config.node_differs(&self.current) {
            notes.push("server, store and agent take effect at the next start".to_owned());
        }
        for _ in 0..TRIES_MAX {
            let documents = self.store.documents().await?;
            let anew = sealed::anew(&documents.rows, config.server.keys.as_ref())?;
            let (whole, made) = self.source.with(config, documents).map_err(|bad| StoreError::Refused(bad.to_string()))?;
            match self.put_into_force(config, &whole, made, &anew).await {
                Ok(text) => {
                    sealed::told(&*self.store, config.server.keys.as_ref(), anew.len()).await?;
                    notes.insert(0, text);
                    return Ok(notes.join("; "));
                }
                Err(StoreError::Outdated) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Outdated)
    }

    /// Puts the configuration of the files together with the documents into force, and writes what is to be changed of these.
    async fn put_into_force(&mut self, files: &Config, whole: &Config, made: Made, writes: &[DocumentWrite]) -> Result<String, StoreError> {
        let takes_part = self.wanted.borrow().takes_part;
        let same = whole.hash == self.whole
            && files.content == self.current.content
            && files.server.api_targets == self.current.server.api_targets
            && files.tenants.iter().map(|t| (&t.slug, t.limits)).eq(self.current.tenants.iter().map(|t| (&t.slug, t.limits)));
        if takes_part && same && writes.is_empty() {
            self.current = files.clone();
            let version = made.documents.version;
            self.take_up(made, version);
            return Ok("nothing changed".to_owned());
        }
        let broken = |error: getrandom::Error| StoreError::Broken { doing: "drawing push tokens", detail: error.to_string() };
        let objects = spec::objects(whole).map_err(broken)?;
        let fence = self.fence();
        let mandate = match &fence {
            _ if self.store.exclusive() => Mandate::Alone,
            Some(fence) => Mandate::Lease(fence),
            None => Mandate::None,
        };
        let writes = sealed::writes(writes, made.keys.as_ref())?;
        let beside = Beside { seen: made.documents.version, writes: &writes };
        let (hash, now) = (crate::hex(&files.content), self.clock.now());
        let applied = self.store.apply(self.source.name(), &hash, &objects, mandate, beside, now).await?;
        Ok(self.applied(files, whole, made, applied).await)
    }

    /// Hands on what is in force now.
    async fn applied(&mut self, files: &Config, whole: &Config, made: Made, applied: Applied) -> String {
        let old = self.fleet.borrow().clone();
        let fleet = spec::build(whole, &applied, &old, self.joined.shards, self.clock.now());
        let channels = channel_specs(whole, &applied);
        let talk = talk::of(whole, &applied);
        let mut wanted = wanted(&self.joined, whole, &channels, true);
        wanted.of_datacenter.extend(self.source.scope());
        let kept = fleet.0.iter().filter(|(id, spec)| old.0.get(id).is_some_and(|o| Arc::ptr_eq(o, spec))).count();
        let new = fleet.0.keys().filter(|id| !old.0.contains_key(id)).count();
        let gone = old.0.keys().filter(|id| !fleet.0.contains_key(id)).count();
        let changed = fleet.0.len() - kept - new;
        self.channels.send_replace(Channels::of(whole, &applied));
        self.pages.send_replace(Pages::of(whole, &applied));
        self.deliverers.apply(channels);
        self.talk.send_replace(talk);
        self.wanted.send_replace(wanted);
        self.fleet.send_replace(fleet.clone());
        // The engine ends only with the process.
        let _ = self.fleets.send(FleetUpdate { fleet, retired: applied.retired }).await;
        let same_files = self.current.hash == files.hash;
        (self.current, self.whole) = (files.clone(), whole.hash);
        self.take_up(made, applied.documents);
        match self.source {
            Source::Path(_) if !same_files => {
                for warning in config::warnings(files, self.clock.now()) {
                    tracing::warn!("{warning}");
                }
            }
            // Tables name no channels, and change all the time.
            Source::Path(_) | Source::UptimeO(_) | Source::Fixed => {}
        }
        format!("{} unchanged, {changed} changed, {new} new, {gone} gone", crate::counted(kept, "monitor"))
    }

    /// Shows the documents that are in force, and says once which are not.
    fn take_up(&self, made: Made, version: i64) {
        let before = self.made.borrow().clone();
        let made = made.written(version);
        made.tell(&before);
        self.made.send_replace(Arc::new(made));
    }
}

/// What the files of a path look like from outside; equal means that nobody touched them.
fn of_files(path: &Path) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    let mut files = vec![path.to_owned()];
    if let Ok(entries) = std::fs::read_dir(path) {
        files.extend(entries.flatten().take(config::FILES_MAX).map(|e| e.path()));
    }
    files.sort();
    for file in files {
        touch(&file, &mut hasher);
    }
    hasher.finish()
}

fn touch(file: &Path, hasher: &mut impl Hasher) {
    file.hash(hasher);
    // A file that cannot be looked at now counts as one without size or time; the reload then says what is wrong.
    let meta = std::fs::metadata(file).ok();
    meta.as_ref().map(std::fs::Metadata::len).hash(hasher);
    meta.and_then(|m| m.modified().ok()).hash(hasher);
}
