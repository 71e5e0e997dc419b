//! Crash points: the program is stopped at every await of the one flow, and started anew on the same file.
//!
//! The flow: a service fails, an incident opens, a webhook is told; the service is well again, the incident is resolved,
//! the webhook is told. First it runs undisturbed, and every call to the store, the service and the webhook is counted.
//! Then it runs once for each of these calls, stopped just before it or just after it took effect: the program is dropped
//! as `kill -9` would drop it, and a second life must end the flow as if nothing had happened.

use crate::support::scripted::{Moment, Outside, Script, ScriptedStore, Side, Told};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use watchkeeper::app::{App, Given};
use watchkeeper::config;
use watchkeeper::reload::Source;
use watchkeeper::store::{self, IncidentFilter, IncidentView, Store, TenantScope};

/// A life needs about three seconds, on a busy machine many times that.
const LIFE_LIMIT: Duration = Duration::from_mins(1);
/// Lives that run at the same time. They mostly wait.
const AT_ONCE: usize = 12;
/// Calls that time repeats are stopped at their first few only: the others come at the same states of the flow.
const REPEATED_MAX: u32 = 12;

#[test]
fn no_crash_point_loses_or_doubles_an_incident() {
    let undisturbed = run(None).unwrap_or_else(|problem| panic!("without any crash: {problem}"));
    println!("the flow calls {:?}", undisturbed.calls);
    let mut moments = BTreeSet::new();
    for (call, count) in undisturbed.calls {
        for nth in 1..=count.min(REPEATED_MAX) {
            moments.extend([Side::Before, Side::After].map(|side| Moment { call, nth, side }));
        }
    }
    for call in ["commit", "begin_attempt", "end_attempt", "provider", "target", "take_lease", "apply", "join", "reserve_ids", "close"] {
        assert!(moments.iter().any(|moment| moment.call == call), "the flow never came by {call}");
    }
    let count = moments.len();
    let (left, problems, stopped) = (Mutex::new(moments.into_iter()), Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(moment) = next else { return };
                    match run(Some(moment)) {
                        Ok(ran) => stopped.fetch_add(usize::from(ran.stopped), Ordering::Relaxed),
                        Err(problem) => {
                            problems.lock().unwrap().push(format!("{moment:?}: {problem}"));
                            0
                        }
                    };
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap();
    let stopped = stopped.into_inner();
    println!("{count} crash points, {stopped} of them reached");
    assert!(problems.is_empty(), "{} crash points fail:\n{}", problems.len(), problems.join("\n"));
    // Time may bring a call less in one run than in another, but not many.
    assert!(stopped * 10 >= count * 9, "of {count} crash points only {stopped} were reached");
}

/// What one run came by.
struct Ran {
    calls: BTreeMap<&'static str, u32>,
    stopped: bool,
}

/// One installation, with at most one crash.
fn run(crash: Option<Moment>) -> Result<Ran, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = dir.path().join("watchkeeper.db");
    let outside = Outside::start();
    let script = Script::new(crash);
    let stopped = !live(&file, &outside, &script)?;
    if stopped && !live(&file, &outside, &Script::new(None))? {
        return Err("the second life was stopped, which its script does not say".into());
    }
    check(&file, &outside.told(), stopped)?;
    Ok(Ran { calls: script.counts(), stopped })
}

/// One life of the program. True: the flow is complete and it ended in good order; false: it was stopped.
fn live(file: &Path, outside: &Outside, script: &Script) -> Result<bool, String> {
    outside.follow(script);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|e| e.to_string())?;
    let lived = runtime.block_on(async {
        let inner = store::open(&url(file)).await.map_err(|e| format!("the store does not open: {e}"))?;
        let scripted: Arc<dyn Store> = Arc::new(ScriptedStore { inner: inner.clone(), script: script.clone() });
        let life = async {
            let life = tokio::spawn(one_life(scripted, inner.clone(), outside.address.to_string()));
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
async fn one_life(scripted: Arc<dyn Store>, inner: Arc<dyn Store>, outside: String) -> Result<(), String> {
    let text = format!(
        "server: {{ listen: 127.0.0.1:0 }}
agent: {{ name: crash }}
channels: [ {{ name: hook, webhook: {{ url: 'http://{outside}/hook' }} }} ]
monitors:
  - name: shop
    probe: {{ http: {{ url: 'http://{outside}/health' }} }}
    every: 1s
    recheck: 1s
    down_after: 2
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

fn url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

/// What must be true at the end, whatever happened.
fn check(file: &Path, told: &[Told], crashed: bool) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let (found, all) = runtime.block_on(async {
        let store = store::open(&url(file)).await.map_err(|e| format!("the store does not open: {e}"))?;
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
    let opened = told.iter().filter(|t| t.event == "opened").count();
    let resolved = told.iter().filter(|t| t.event == "resolved").count();
    if opened + resolved != told.len() || opened == 0 || resolved == 0 {
        return say("not both were told, or something else");
    }
    if told.len() > if crashed { 3 } else { 2 } {
        return say("more was told again than one crash explains");
    }
    if told[..opened].iter().any(|t| t.event != "opened") {
        return say("the end was told before the beginning");
    }
    let keys: BTreeSet<&str> = told.iter().map(|t| t.key.as_str()).collect();
    if keys.len() != 2 || told[..opened].iter().any(|t| t.key != told[0].key) {
        return say("a repetition has another key");
    }
    Ok(())
}
