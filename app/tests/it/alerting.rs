//! Alerting in the whole program: what people do about incidents, flapping and silences, up to the webhook.

use super::support::app::{TestApp, until};
use super::support::provider::{Call, Provider};
use super::support::servers::Server;
use super::support::{switch, webhook};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use watchkeeper::store::{self, IncidentFilter, IncidentView, Silence, Store};
use watchkeeper_core::matcher::Matcher;
use watchkeeper_core::verdict::Action;
use watchkeeper_core::{Dur, Micros};

async fn sqlite(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    store::open(&format!("sqlite://{}", folder.path().join("wk.db").display())).await.unwrap()
}

fn config(hook: &Provider, flap_window: &str, monitors: &[(&str, &Server)]) -> String {
    let mut yaml = format!(
        "channels:\n  - name: hook\n    webhook: {{ url: '{}/hook' }}\n\
         defaults: {{ every: 1s, recheck: 1s, timeout: 900ms, down_after: 1, flap_window: {flap_window} }}\nmonitors:\n",
        hook.url
    );
    for (name, server) in monitors {
        yaml.push_str(&format!("  - {{ name: {name}, probe: {{ http: {{ url: '{}' }} }} }}\n", server.url("/")));
    }
    yaml
}

fn words(calls: &[Call]) -> Vec<String> {
    calls
        .iter()
        .map(|call| {
            let json = call.json();
            format!("{} {}", json["monitor"]["name"].as_str().unwrap_or_default(), json["event"].as_str().unwrap_or_default())
        })
        .collect()
}

/// The newest incident of a monitor.
async fn incident(app: &TestApp, monitor: &str) -> Option<IncidentView> {
    let scope = app.scope().await;
    let all = app.store.incidents(scope, &IncidentFilter { limit: 50, ..IncidentFilter::default() }).await.unwrap();
    let newest = all.into_iter().find(|i| i.monitor == monitor)?;
    app.store.incident(scope, &newest.uid).await.unwrap()
}

async fn until_incident(app: &TestApp, monitor: &str, what: &str, good: impl Fn(&IncidentView) -> bool) -> IncidentView {
    until(&format!("{monitor}: {what}"), async || incident(app, monitor).await.filter(&good)).await
}

fn now() -> Micros {
    watchkeeper::clock::Clock::system().now()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_takes_an_incident_on_and_ends_it_and_it_stays_ended_while_the_fault_lasts() {
    let folder = tempfile::tempdir().unwrap();
    let hook = webhook::start(false).await;
    let (server, well) = switch::http(true).await;
    well.store(false, Ordering::SeqCst);
    let app = TestApp::start(&config(&hook, "0s", &[("shop", &server)]), sqlite(&folder).await).await;
    hook.wait_for(1).await;
    let open = until_incident(&app, "shop", "open", |i| i.status == "open").await;
    let scope = app.scope().await;
    assert!(app.store.insert_action(scope, &open.uid, Action::Acknowledge, "ann", Some("the disk is full"), now()).await.unwrap());
    hook.wait_for(2).await;
    let taken = until_incident(&app, "shop", "acknowledged", |i| i.status == "acknowledged").await;
    assert!(taken.timeline.iter().any(|e| e.kind == "acknowledged" && e.actor.as_deref() == Some("ann")), "{:?}", taken.timeline);
    // Done twice, it is told once.
    assert!(app.store.insert_action(scope, &open.uid, Action::Acknowledge, "bob", None, now()).await.unwrap());
    assert!(app.store.insert_action(scope, &open.uid, Action::Unacknowledge, "bob", None, now()).await.unwrap());
    hook.wait_for(3).await;
    assert!(app.store.insert_action(scope, &open.uid, Action::Resolve, "ann", Some("it was the cat"), now()).await.unwrap());
    hook.wait_for(4).await;
    let ended = until_incident(&app, "shop", "resolved", |i| i.status == "resolved").await;
    assert_eq!((ended.uid.as_str(), ended.resolved_why.as_deref()), (open.uid.as_str(), Some("operator")));
    assert!(!app.store.insert_action(scope, &open.uid, Action::Acknowledge, "ann", None, now()).await.unwrap(), "it is over");
    // The fault lasts; nothing opens before the target has been well once.
    let before = server.accepted();
    until("three more attempts", async || (server.accepted() >= before + 3).then_some(())).await;
    assert_eq!(incident(&app, "shop").await.unwrap().uid, open.uid);
    well.store(true, Ordering::SeqCst);
    app.until_health("shop", "up").await;
    well.store(false, Ordering::SeqCst);
    hook.wait_for(5).await;
    app.stop().await;
    let calls = hook.finish();
    assert_eq!(words(&calls), ["shop opened", "shop acknowledged", "shop unacknowledged", "shop resolved", "shop opened"]);
    // Each word says what is wrong, who acted, and what was said with it.
    let about = |nth: usize| calls[nth].json()["incident"].clone();
    assert_eq!((&about(1)["summary"], &about(2)["summary"]), (&about(0)["summary"], &about(0)["summary"]));
    let people: Vec<_> = (1..4).map(|nth| (about(nth)["actor"].clone(), about(nth)["comment"].clone())).collect();
    assert_eq!(people[0], ("ann".into(), "the disk is full".into()));
    assert_eq!(people[1], ("bob".into(), serde_json::Value::Null));
    assert_eq!(people[2], ("ann".into(), "it was the cat".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flapping_target_is_told_as_such_once_and_its_end_when_it_has_stayed_well() {
    let folder = tempfile::tempdir().unwrap();
    let hook = webhook::start(false).await;
    let (server, well) = switch::http(true).await;
    let app = TestApp::start(&config(&hook, "4s", &[("shop", &server)]), sqlite(&folder).await).await;
    app.until_health("shop", "up").await;
    let mut flapping = Vec::new();
    for _ in 0..3 {
        well.store(false, Ordering::SeqCst);
        app.until_health("shop", "down").await;
        well.store(true, Ordering::SeqCst);
        flapping = until("well again", async || {
            let view = app.store.monitor(app.scope().await, "shop").await.unwrap()?;
            (view.health.as_str() != "down").then_some(view.flapping)
        })
        .await;
    }
    assert_eq!(flapping, ["down"], "it says why it is not simply well");
    let calls = hook.wait_for(4).await;
    app.until_health("shop", "up").await;
    app.stop().await;
    assert_eq!(words(&hook.finish()), ["shop opened", "shop resolved", "shop opened", "shop resolved"]);
    assert_eq!(calls[2].json()["incident"]["flapping"], true, "{}", calls[2].json());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_holds_back_and_its_end_tells_what_is_still_true() {
    let folder = tempfile::tempdir().unwrap();
    let hook = webhook::start(false).await;
    let ((lasting, lasting_well), (brief, brief_well)) = (switch::http(true).await, switch::http(true).await);
    let app = TestApp::start(&config(&hook, "0s", &[("lasting", &lasting), ("brief", &brief)]), sqlite(&folder).await).await;
    app.until_health("lasting", "up").await;
    app.until_health("brief", "up").await;
    let scope = app.scope().await;
    let silence = Silence {
        uid: "0b0c8f8e-0000-7000-8000-000000000001".to_owned(),
        matcher: Matcher::default(),
        starts_at: now(),
        ends_at: now() + Dur::secs(3_600),
        author: "ann".to_owned(),
        comment: "a deployment".to_owned(),
    };
    app.store.create_silence(scope, &silence).await.unwrap();
    lasting_well.store(false, Ordering::SeqCst);
    brief_well.store(false, Ordering::SeqCst);
    let held = |i: &IncidentView| i.notices.iter().any(|n| n.state == "held" && n.why.as_deref().is_some_and(|w| w.contains("silence")));
    until_incident(&app, "lasting", "held", held).await;
    until_incident(&app, "brief", "held", held).await;
    brief_well.store(true, Ordering::SeqCst);
    let over = |i: &IncidentView| i.notices.len() == 2 && i.notices.iter().all(|n| n.state == "suppressed" && n.why.is_some());
    until_incident(&app, "brief", "suppressed, with the reason", over).await;
    assert!(hook.calls().is_empty(), "nothing was told in silence");
    assert!(app.store.end_silence(scope, &silence.uid, "ann", now()).await.unwrap().is_some());
    hook.wait_for(1).await;
    app.stop().await;
    assert_eq!(words(&hook.finish()), ["lasting opened"]);
}
