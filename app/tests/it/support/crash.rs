//! One installation whose life is ended at one moment of its flow, and which is started anew on the same store.
//!
//! The program is dropped as `kill -9` would drop it, and a second life must end the flow as if nothing had happened.

use super::outside::{Outside, Play, Told, service_name};
use super::postgres::{self, Database};
use super::scripted::{Moment, Script, ScriptedStore, Side};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use watchkeeper::app::{App, Given};
use watchkeeper::config;
use watchkeeper::reload::Source;
use watchkeeper::store::{self, IncidentFilter, IncidentView, Store, TenantScope};

/// A life needs about three seconds, half a minute with a provider that hangs or digests that wait for each other; on a busy
/// machine, or while its disk still writes what was just compiled, many times that.
const LIFE_LIMIT: Duration = Duration::from_mins(5);
/// Lives that run at the same time. More keep two cores from everything else; fewer only wait.
const AT_ONCE: usize = 12;
/// One test of many crashes at a time, for the same reason.
static TURN: Mutex<()> = Mutex::new(());
/// Calls that change nothing: before and after are one, and one is as good as another.
const READS: [&str; 14] = [
    "due_notices",
    "next_due",
    "mutes",
    "recent_messages",
    "unfolded_pushes",
    "unfolded_actions",
    "outbox_depth",
    "leases",
    "in_force",
    "datacenters",
    "votes_since",
    "newest_event",
    "load",
    "ping",
];
const READS_MAX: u32 = 2;

/// What the flow runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    Sqlite,
    Postgres,
}

/// Which of the calls that time repeats are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tried {
    /// The first few: the others come at the same states of the flow.
    First(u32),
    /// So many from the whole flow.
    Spread(u32),
}

impl Tried {
    /// The numbers of the calls, of so many.
    fn of(self, count: u32) -> Vec<u32> {
        match self {
            Self::First(most) => (1..=count.min(most)).collect(),
            Self::Spread(most) if count <= most => (1..=count).collect(),
            // Not up to the very last, which another run may not come to.
            Self::Spread(most) => (0..most).map(|place| 1 + place * (count * 3 / 4 - 1) / (most - 1).max(1)).collect(),
        }
    }

    const fn at_most(self, reads: u32) -> Self {
        match self {
            Self::First(_) => Self::First(reads),
            Self::Spread(_) => Self::Spread(2 * reads),
        }
    }
}

/// One flow whose every moment is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scene {
    pub on: On,
    /// What lies outside, and how it behaves.
    pub play: Play,
    /// The channel's own cap; none if empty.
    pub budget: &'static str,
    /// At these calls only; at every call if there are none.
    pub calls: &'static [&'static str],
    /// How many of each.
    pub tried: Tried,
}

impl Scene {
    /// The moments of such a call that are tried.
    pub fn moments(self, call: &'static str, count: u32) -> Vec<(Self, Option<Moment>)> {
        if !self.calls.is_empty() && !self.calls.contains(&call) {
            return Vec::new();
        }
        let (tried, sides) = if READS.contains(&call) {
            (self.tried.at_most(READS_MAX), &[Side::After][..])
        } else {
            (self.tried, &[Side::Before, Side::After][..])
        };
        tried.of(count).into_iter().flat_map(|nth| sides.iter().map(move |&side| (self, Some(Moment { call, nth, side })))).collect()
    }

    fn config(self, outside: &str) -> String {
        // A second failing attempt only where every call counts.
        let down_after = 1 + u32::from(self.calls.is_empty());
        // Many services are looked at less often: on a busy machine an attempt takes its time.
        let every = if self.play.services > 1 { "3s" } else { "1s" };
        let budget = if self.budget.is_empty() { String::new() } else { format!(", budget: {}", self.budget) };
        let mut text = format!(
            "server: {{ listen: 127.0.0.1:0 }}
agent: {{ name: crash, lease: {{ beat: 200ms, valid: 1s, take_over: 1500ms }} }}
channels: [ {{ name: hook, webhook: {{ url: 'http://{outside}/hook' }}{budget} }} ]
defaults: {{ every: {every}, recheck: {every}, down_after: {down_after}, notify: [hook] }}
monitors:
"
        );
        for nth in 0..self.play.services {
            let name = service_name(nth);
            let _ = writeln!(text, "  - {{ name: {name}, probe: {{ http: {{ url: 'http://{outside}/health/{nth}' }} }} }}");
        }
        text
    }
}

/// What one run came by.
pub struct Ran {
    pub calls: BTreeMap<&'static str, u32>,
    pub stopped: bool,
    /// What had reached the provider at the end.
    pub told: Vec<Told>,
}

/// What must be true at the end of a run: of the incidents, of what was told, and whether there was a crash.
pub type Check = fn(Scene, &[IncidentView], &[Told], bool) -> Result<(), String>;

/// Whether a PostgreSQL can be had.
pub fn has_postgres() -> bool {
    Place::new(On::Postgres).is_some_and(|place| place.gone().is_ok())
}

/// Runs all of them, many at a time; what failed is written down.
pub fn all_of(runs: &[(Scene, Option<Moment>)], check: Check, problems: &Mutex<Vec<String>>) -> Vec<(Scene, Ran)> {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((scene, moment)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match run(*scene, *moment, check) {
                        Ok(ran) => done.lock().unwrap().push((*scene, ran)),
                        Err(problem) => problems.lock().unwrap().push(format!("{scene:?} {moment:?}: {problem}")),
                    }
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// A store of one run's own.
struct Place {
    url: String,
    _dir: Option<tempfile::TempDir>,
    database: Option<Database>,
}

impl Place {
    /// `None` when no PostgreSQL can be had.
    fn new(on: On) -> Option<Self> {
        match on {
            On::Sqlite => {
                let dir = tempfile::tempdir().unwrap();
                Some(Self { url: format!("sqlite://{}", dir.path().join("watchkeeper.db").display()), _dir: Some(dir), database: None })
            }
            On::Postgres => {
                let database = small_runtime().ok()?.block_on(postgres::fresh_database())?;
                Some(Self { url: database.url.clone(), _dir: None, database: Some(database) })
            }
        }
    }

    fn gone(self) -> Result<(), String> {
        if let Some(database) = self.database {
            small_runtime()?.block_on(database.drop_it());
        }
        Ok(())
    }
}

fn small_runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())
}

/// One installation, with at most one crash.
fn run(scene: Scene, crash: Option<Moment>, check: Check) -> Result<Ran, String> {
    let place = Place::new(scene.on).ok_or("no store")?;
    let outside = Outside::start(scene.play);
    let script = Script::new(crash);
    let stopped = !live(scene, &place, &outside, &script)?;
    if stopped && !live(scene, &place, &outside, &Script::new(None))? {
        return Err("the second life was stopped, which its script does not say".into());
    }
    let told = outside.told();
    let all = small_runtime()?.block_on(async {
        let store = store::open(&place.url).await.map_err(|e| format!("the store does not open: {e}"))?;
        let found = store.verify().await.map_err(|e| e.to_string())?;
        if !found.is_empty() {
            return Err(format!("the store is not sound: {found:?}"));
        }
        let all = with_notices(&*store).await;
        store.close().await;
        all
    })?;
    check(scene, &all, &told, stopped).map_err(|what| format!("{what}; told: {told:#?}; incidents: {all:?}"))?;
    place.gone()?;
    Ok(Ran { calls: script.counts(), stopped, told })
}

/// One life of the program. True: the flow is complete and it ended in good order; false: it was stopped.
fn live(scene: Scene, place: &Place, outside: &Outside, script: &Script) -> Result<bool, String> {
    outside.follow(script);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|e| e.to_string())?;
    let lived = runtime.block_on(async {
        let inner = store::open(&place.url).await.map_err(|e| format!("the store does not open: {e}"))?;
        let scripted: Arc<dyn Store> = Arc::new(ScriptedStore { inner: inner.clone(), script: script.clone() });
        let life = async {
            let life = tokio::spawn(one_life(scene, scripted, inner.clone(), outside.address.to_string()));
            life.await.map_err(|e| e.to_string())?
        };
        tokio::select! {
            biased;
            () = script.stopped() => Ok(false),
            ended = life => ended.map(|()| true),
            () = tokio::time::sleep(LIFE_LIMIT) => Err(format!("the flow is not complete after {} s; calls: {:?}, told: {:?}, incidents: {:?}",
                LIFE_LIMIT.as_secs(), script.counts(), outside.told(), with_notices(&*inner).await)),
        }
    });
    // Every task is dropped at the await where it stands; until the last one is, its store is locked for the next life.
    runtime.shutdown_timeout(LIFE_LIMIT);
    lived
}

/// Builds, runs until the flow is complete, and stops.
async fn one_life(scene: Scene, scripted: Arc<dyn Store>, inner: Arc<dyn Store>, outside: String) -> Result<(), String> {
    let text = scene.config(&outside);
    let mut config = config::load_texts(&[("crash.yaml".to_owned(), text.into_bytes())], &|_| None).map_err(|e| e.to_string())?;
    // No journal: a busy machine would now and then be cut off, and tell by that other way, which has tests of its own.
    config.store.journal = "/dev/null/none".into();
    let given = Given { store: Some(scripted), ..Given::default() };
    let app = App::build(config, Source::Fixed, given).await.map_err(|e| format!("{e:#}"))?;
    let stop = CancellationToken::new();
    let running = tokio::spawn(app.run(stop.clone()));
    while !complete(&*inner, scene.play.services).await? {
        if running.is_finished() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(if scene.play.services > 1 { 200 } else { 100 })).await;
    }
    stop.cancel();
    running.await.map_err(|e| e.to_string())?.map_err(|e| format!("{e:#}"))
}

/// Every service's incident is resolved, and nothing waits to be told.
async fn complete(store: &dyn Store, services: usize) -> Result<bool, String> {
    let all = incidents(store).await?;
    if all.len() > services {
        return Err(format!("more incidents than services: {all:?}"));
    }
    let resolved = all.len() == services && all.iter().all(|(_, incident)| incident.status == "resolved");
    Ok(resolved && store.outbox_depth().await.map_err(|e| e.to_string())?.waiting == 0)
}

async fn incidents(store: &dyn Store) -> Result<Vec<(TenantScope, IncidentView)>, String> {
    let mut all = Vec::new();
    for (tenant, _) in store.tenants().await.map_err(|e| e.to_string())? {
        let scope = TenantScope(tenant);
        let filter = IncidentFilter { limit: 100, ..IncidentFilter::default() };
        let listed = store.incidents(scope, &filter).await.map_err(|e| e.to_string())?;
        all.extend(listed.into_iter().map(|incident| (scope, incident)));
    }
    Ok(all)
}

/// All incidents with their timelines and notices.
async fn with_notices(store: &dyn Store) -> Result<Vec<IncidentView>, String> {
    let mut all = Vec::new();
    for (scope, listed) in incidents(store).await? {
        all.extend(store.incident(scope, &listed.uid).await.map_err(|e| e.to_string())?);
    }
    Ok(all)
}
