//! Crash points: the program is stopped at every await of the one flow, and started anew on the same store.
//!
//! The flow: a service fails, an incident opens, a webhook is told; the service is well again, the incident is resolved,
//! the webhook is told; the webhook takes a message at once, or only after it has refused it, hung or cut the connection.
//! First the flow runs undisturbed, and every call to the store, the service and the webhook is counted. Then it runs once for
//! each of these calls, stopped just before it or just after it took effect: the program is dropped as `kill -9` would drop it,
//! and a second life must end the flow as if nothing had happened.

use crate::support::outside::{Act, Outside, Told};
use crate::support::postgres::{self, Database};
use crate::support::scripted::{Moment, Script, ScriptedStore, Side};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use watchkeeper::app::{App, Given};
use watchkeeper::config;
use watchkeeper::reload::Source;
use watchkeeper::store::{self, IncidentFilter, IncidentView, Store, TenantScope};

/// A life needs about three seconds, or a dozen with a webhook that hangs; on a busy machine many times that.
const LIFE_LIMIT: Duration = Duration::from_mins(2);
/// Lives that run at the same time. They mostly wait.
const AT_ONCE: usize = 32;
/// Calls that time repeats are stopped at their first few only: the others come at the same states of the flow.
const REPEATED_MAX: u32 = 5;
/// Calls that change nothing: before and after are one, and one is as good as another.
const READS: [&str; 10] = [
    "due_notices",
    "next_due",
    "mutes",
    "recent_messages",
    "unfolded_pushes",
    "unfolded_actions",
    "outbox_depth",
    "leases",
    "load",
    "ping",
];
const READS_MAX: u32 = 2;
/// From the failing check to the decision.
const DECIDING: &[&str] = &["target", "commit", "due_notices", "next_due", "mutes", "recent_messages"];
/// From the decision to the webhook's answer, and its record.
const TELLING: &[&str] = &["begin_attempt", "provider", "end_attempt", "defer"];

/// What the flow runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum On {
    Sqlite,
    Postgres,
}

/// One flow whose every moment is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scene {
    on: On,
    /// What the webhook does before it takes a message.
    acts: &'static [(&'static str, Act)],
    /// At these calls only; at every call if there are none.
    calls: &'static [&'static str],
}

impl Scene {
    /// The moments of such a call that are tried.
    fn moments(self, call: &'static str, count: u32) -> Vec<(Self, Option<Moment>)> {
        if !self.calls.is_empty() && !self.calls.contains(&call) {
            return Vec::new();
        }
        let (most, sides) =
            if READS.contains(&call) { (READS_MAX, &[Side::After][..]) } else { (REPEATED_MAX, &[Side::Before, Side::After][..]) };
        let nths = 1..=count.min(most);
        nths.flat_map(|nth| sides.iter().map(move |&side| (self, Some(Moment { call, nth, side })))).collect()
    }
}

const WELL: &[(&str, Act)] = &[];
const REFUSES: &[(&str, Act)] = &[("opened", Act::TooMany), ("opened", Act::Cuts), ("resolved", Act::Fails)];
const HANGS: &[(&str, Act)] = &[("resolved", Act::Hangs)];

#[test]
fn no_crash_point_loses_or_doubles_an_incident() {
    let telling = |on| [REFUSES, HANGS].map(|acts| Scene { on, acts, calls: TELLING });
    let mut scenes = vec![Scene { on: On::Sqlite, acts: WELL, calls: &[] }];
    scenes.extend(telling(On::Sqlite));
    if Place::new(On::Postgres).is_some_and(|place| place.gone().is_ok()) {
        scenes.push(Scene { on: On::Postgres, acts: WELL, calls: DECIDING });
        scenes.extend(telling(On::Postgres));
    }
    let (mut moments, problems) = (BTreeSet::new(), Mutex::new(Vec::new()));
    for (scene, ran) in all_of(&scenes.iter().map(|scene| (*scene, None)).collect::<Vec<_>>(), &problems) {
        println!("{:?} {:?} calls {:?}", scene.on, scene.acts, ran.calls);
        moments.extend(ran.calls.into_iter().flat_map(|(call, count)| scene.moments(call, count)));
    }
    for call in ["commit", "begin_attempt", "end_attempt", "provider", "target", "take_lease", "apply", "join", "reserve_ids", "close"] {
        assert!(moments.iter().any(|(_, moment)| moment.is_some_and(|m| m.call == call)), "the flow never came by {call}");
    }
    let count = moments.len();
    let ran = all_of(&moments.into_iter().collect::<Vec<_>>(), &problems);
    let stopped = ran.iter().filter(|(_, ran)| ran.stopped).count();
    println!("{count} crash points, {stopped} of them reached");
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{} crash points fail:\n{}", problems.len(), problems.join("\n"));
    // Time may bring a call less in one run than in another, but not many.
    assert!(stopped * 10 >= count * 9, "of {count} crash points only {stopped} were reached");
}

/// Runs all of them, many at a time; what failed is written down.
fn all_of(runs: &[(Scene, Option<Moment>)], problems: &Mutex<Vec<String>>) -> Vec<(Scene, Ran)> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((scene, moment)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match run(*scene, *moment) {
                        Ok(ran) => done.lock().unwrap().push((*scene, ran)),
                        Err(problem) => problems.lock().unwrap().push(format!("{scene:?} {moment:?}: {problem}")),
                    }
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// What one run came by.
struct Ran {
    calls: BTreeMap<&'static str, u32>,
    stopped: bool,
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
fn run(scene: Scene, crash: Option<Moment>) -> Result<Ran, String> {
    let place = Place::new(scene.on).ok_or("no store")?;
    let outside = Outside::start(scene.acts);
    let script = Script::new(crash);
    let stopped = !live(scene, &place, &outside, &script)?;
    if stopped && !live(scene, &place, &outside, &Script::new(None))? {
        return Err("the second life was stopped, which its script does not say".into());
    }
    check(&place, &outside.told(), stopped)?;
    place.gone()?;
    Ok(Ran { calls: script.counts(), stopped })
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
            () = tokio::time::sleep(LIFE_LIMIT) => Err(format!("the flow is not complete after {} s; calls: {:?}, told: {:?}",
                LIFE_LIMIT.as_secs(), script.counts(), outside.told())),
        }
    });
    // Every task is dropped at the await where it stands.
    runtime.shutdown_timeout(Duration::from_secs(10));
    lived
}

/// Builds, runs until the flow is complete, and stops.
async fn one_life(scene: Scene, scripted: Arc<dyn Store>, inner: Arc<dyn Store>, outside: String) -> Result<(), String> {
    // A second failing attempt only where every call counts.
    let down_after = 1 + u32::from(scene.calls.is_empty());
    let text = format!(
        "server: {{ listen: 127.0.0.1:0 }}
agent: {{ name: crash, lease: {{ beat: 200ms, valid: 1s, take_over: 1500ms }} }}
channels: [ {{ name: hook, webhook: {{ url: 'http://{outside}/hook' }} }} ]
monitors:
  - name: shop
    probe: {{ http: {{ url: 'http://{outside}/health' }} }}
    every: 1s
    recheck: 1s
    down_after: {down_after}
    notify: [hook]
"
    );
    let config = config::load_texts(&[("crash.yaml".to_owned(), text.into_bytes())], &|_| None).map_err(|e| e.to_string())?;
    let given = Given { store: Some(scripted), net: None };
    let app = App::build(config, Source::Fixed, given).await.map_err(|e| format!("{e:#}"))?;
    let stop = CancellationToken::new();
    let running = tokio::spawn(app.run(stop.clone()));
    while !complete(&*inner).await? {
        if running.is_finished() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    running.await.map_err(|e| e.to_string())?.map_err(|e| format!("{e:#}"))
}

async fn incidents(store: &dyn Store) -> Result<Vec<IncidentView>, String> {
    let mut all = Vec::new();
    for (tenant, _) in store.tenants().await.map_err(|e| e.to_string())? {
        let scope = TenantScope(tenant);
        let filter = IncidentFilter { limit: 100, ..IncidentFilter::default() };
        for listed in store.incidents(scope, &filter).await.map_err(|e| e.to_string())? {
            all.extend(store.incident(scope, &listed.uid).await.map_err(|e| e.to_string())?);
        }
    }
    Ok(all)
}

/// Resolved, and all is told.
async fn complete(store: &dyn Store) -> Result<bool, String> {
    let all = incidents(store).await?;
    Ok(all.iter().any(|i| i.status == "resolved" && i.notices.len() == 2 && i.notices.iter().all(|n| n.state == "sent")))
}

/// What must be true at the end, whatever happened.
fn check(place: &Place, told: &[Told], crashed: bool) -> Result<(), String> {
    let (found, all) = small_runtime()?.block_on(async {
        let store = store::open(&place.url).await.map_err(|e| format!("the store does not open: {e}"))?;
        let found = store.verify().await.map_err(|e| e.to_string())?;
        let all = incidents(&*store).await?;
        store.close().await;
        Ok::<_, String>((found, all))
    })?;
    let say = |what: &str| Err(format!("{what}; told: {told:?}; incidents: {all:?}"));
    if !found.is_empty() {
        return Err(format!("the store is not sound: {found:?}"));
    }
    let [incident] = &all[..] else { return say("there is not exactly one incident") };
    let story: Vec<&str> = incident.timeline.iter().map(|e| e.kind.as_str()).filter(|kind| ["opened", "resolved"].contains(kind)).collect();
    if incident.status != "resolved" || story != ["opened", "resolved"] {
        return say("the incident was not opened once and resolved once");
    }
    let taken: Vec<&str> = told.iter().filter(|t| t.taken).map(|t| t.event.as_str()).collect();
    let of = |event: &str| taken.iter().filter(|e| **e == event).count();
    let (opened, resolved) = (of("opened"), of("resolved"));
    if opened + resolved != taken.len() || opened == 0 || resolved == 0 {
        return say("not both were told, or something else");
    }
    if taken.len() > 2 + usize::from(crashed) {
        return say("more was told again than one crash explains");
    }
    // Also what was not taken: nobody hears of the end before the beginning.
    let first_end = told.iter().position(|t| t.event == "resolved").unwrap_or(told.len());
    if told[first_end..].iter().any(|t| t.event != "resolved") || !told[..first_end].iter().any(|t| t.taken) {
        return say("the end was told before the beginning");
    }
    let keys: BTreeSet<&str> = told.iter().map(|t| t.key.as_str()).collect();
    if keys.len() != 2 || told[..first_end].iter().any(|t| t.key != told[0].key) {
        return say("a repetition has another key");
    }
    Ok(())
}
