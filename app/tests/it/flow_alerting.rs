//! Who is told, and when, through the whole program: maintenance, hours and parents hold words back, and a change of the
//! configuration takes effect without losing what is known.

use super::support::app::{TestApp, until};
use super::support::provider::{Call, Provider};
use super::support::{switch, webhook};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use watchkeeper::clock::Clock;
use watchkeeper::store::{self, IncidentFilter, IncidentView, Store};

async fn sqlite(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    store::open(&format!("sqlite://{}", folder.path().join("wk.db").display())).await.unwrap()
}

const HEAD: &str = "server: { listen: 127.0.0.1:0 }\nagent: { name: test }\n\
    defaults: { every: 1s, recheck: 1s, timeout: 900ms, down_after: 2, flap_window: 0s }\n";

fn channels(of: &[(&str, &Provider)]) -> String {
    let each = |(name, hook): &(&str, &Provider)| format!("  - {{ name: {name}, webhook: {{ url: '{}/hook' }} }}\n", hook.url);
    format!("channels:\n{}", of.iter().map(each).collect::<String>())
}

fn told(calls: &[Call]) -> Vec<(String, String)> {
    let word = |text: &serde_json::Value| text.as_str().unwrap_or_default().to_owned();
    calls.iter().map(Call::json).map(|c| (word(&c["event"]), word(&c["monitor"]["name"]))).collect()
}

/// The newest incident of a monitor, with its notices, once there is one.
async fn incident(app: &TestApp, monitor: &str) -> IncidentView {
    let scope = app.scope().await;
    until(&format!("{monitor} has an incident"), async || {
        let list = app.store.incidents(scope, &IncidentFilter { limit: 10, ..IncidentFilter::default() }).await.unwrap();
        let found = list.into_iter().find(|incident| incident.monitor == monitor)?;
        app.store.incident(scope, &found.uid).await.unwrap()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_holds_words_until_it_is_over_and_a_reload_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hook = webhook::start(false).await;
    let (server, well) = switch::http(false).await;
    let path = folder.path().join("watchkeeper.yaml");
    let monitors = |more: &str| format!("monitors:\n  - {{ name: shop, probe: {{ http: {{ url: '{}' }} }}{more} }}\n", server.url("/"));
    let base = format!("{HEAD}{}", channels(&[("hook", &hook)]));
    let always = "maintenance: [ { name: move, match: { monitors: [shop] }, every: { cron: '* * * * *', for: 1h } } ]\n";
    std::fs::write(&path, format!("{base}{always}{}", monitors(""))).unwrap();
    let app = TestApp::start_on(&path, sqlite(&folder).await).await;
    app.until_health("shop", "down").await;
    let held = until("the word is held", async || {
        let found = incident(&app, "shop").await;
        found.notices.iter().any(|n| n.state == "held" && n.why.as_deref() == Some("maintenance move")).then_some(found)
    })
    .await;
    // Other rules about telling, while the word waits: the incident is the same one.
    std::fs::write(&path, format!("{base}{always}{}", monitors(", remind: 1h, cooldown: 5m, escalate: [ { after: 1h, notify: hook } ]")))
        .unwrap();
    let scope = app.scope().await;
    until("the change is in force", async || {
        let view = app.store.monitor(scope, "shop").await.unwrap()?;
        view.config.to_string().contains("escalate").then_some(())
    })
    .await;
    let same = incident(&app, "shop").await;
    assert_eq!((&same.uid, same.opened_at, same.status.as_str()), (&held.uid, held.opened_at, "open"));
    assert_eq!(same.notices.len(), held.notices.len(), "nothing is decided anew");
    // The window is taken out of the file: what it held is told now.
    std::fs::write(&path, format!("{base}{}", monitors(""))).unwrap();
    hook.wait_for(1).await;
    well.store(true, Ordering::SeqCst);
    let calls = hook.wait_for(2).await;
    app.stop().await;
    assert_eq!(told(&calls), [("opened".to_owned(), "shop".to_owned()), ("resolved".to_owned(), "shop".to_owned())]);
    for call in &calls {
        assert_eq!(call.json()["incident"]["id"], held.uid.as_str());
    }
    assert_eq!(hook.finish().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_tells_one_channel_now_and_another_when_its_hours_begin() {
    let folder = tempfile::tempdir().unwrap();
    let (night, day) = (webhook::start(false).await, webhook::start(false).await);
    let (server, _) = switch::http(false).await;
    // Hours that begin half a day from now and last an hour.
    let later = jiff::Timestamp::from_microsecond(Clock::system().now().0).unwrap() + jiff::SignedDuration::from_hours(12);
    let later = later.to_zoned(jiff::tz::TimeZone::UTC);
    let (from, to) = (later.strftime("%H:%M").to_string(), (&later + jiff::SignedDuration::from_hours(1)).strftime("%H:%M").to_string());
    let yaml = format!(
        "{HEAD}{}routes:\n  - {{ match: {{ rules: [down] }}, severity: critical, hours: {{ from: '{from}', to: '{to}' }}, notify: day, continue: true }}\n  \
         - {{ match: {{ labels: {{ team: w* }} }}, notify: night }}\n  - {{ notify: [day] }}\n\
         monitors:\n  - {{ name: shop, labels: {{ team: web }}, probe: {{ http: {{ url: '{}' }} }} }}\n",
        channels(&[("night", &night), ("day", &day)]),
        server.url("/")
    );
    let path = folder.path().join("watchkeeper.yaml");
    std::fs::write(&path, yaml).unwrap();
    let app = TestApp::start_on(&path, sqlite(&folder).await).await;
    night.wait_for(1).await;
    let found = incident(&app, "shop").await;
    app.stop().await;
    let waits = found.notices.iter().find(|n| n.channel == "day").unwrap();
    assert_eq!(waits.state, "held");
    assert_eq!(waits.why.as_deref(), Some("outside the hours of its route"));
    assert!(waits.next_at.is_some_and(|at| at.0 >= later.timestamp().as_microsecond() - 60_000_000), "{waits:?}");
    assert_eq!(told(&night.finish()), [("opened".to_owned(), "shop".to_owned())]);
    assert!(day.finish().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_parent_speaks_for_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let hook = webhook::start(false).await;
    let ((router, router_well), (shop, shop_well)) = (switch::http(false).await, switch::http(false).await);
    let yaml = format!(
        "{HEAD}{}monitors:\n  - {{ name: router, probe: {{ http: {{ url: '{}' }} }} }}\n  \
         - {{ name: shop, depends_on: router, down_after: 4, probe: {{ http: {{ url: '{}' }} }} }}\n",
        channels(&[("hook", &hook)]),
        router.url("/"),
        shop.url("/")
    );
    let path = folder.path().join("watchkeeper.yaml");
    std::fs::write(&path, yaml).unwrap();
    let app = TestApp::start_on(&path, sqlite(&folder).await).await;
    hook.wait_for(1).await;
    let held = until("the child's word is held", async || {
        let found = incident(&app, "shop").await;
        found
            .notices
            .iter()
            .any(|n| n.state == "held" && n.why.as_deref().is_some_and(|why| why.starts_with("router, which it depends on")))
            .then_some(found)
    })
    .await;
    // Its checks go on: it is seen to recover, and as nobody heard of its fault, nobody hears of its end.
    shop_well.store(true, Ordering::SeqCst);
    app.until_health("shop", "up").await;
    let over = until("nothing of it waits", async || {
        let found = incident(&app, "shop").await;
        (found.notices.len() == 2 && found.notices.iter().all(|n| n.state == "suppressed")).then_some(found)
    })
    .await;
    assert_eq!((&over.uid, over.status.as_str()), (&held.uid, "resolved"));
    router_well.store(true, Ordering::SeqCst);
    hook.wait_for(2).await;
    app.stop().await;
    assert_eq!(told(&hook.finish()), [("opened".to_owned(), "router".to_owned()), ("resolved".to_owned(), "router".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_waits_for_a_channel_that_is_renamed_is_told_by_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens where the old channel points: its word waits.
    let (mut nobody, hook) = (webhook::start(false).await, webhook::start(false).await);
    nobody.url = "http://127.0.0.1:1".to_owned();
    let (server, well) = switch::http(false).await;
    let monitors = format!("monitors:\n  - {{ name: shop, probe: {{ http: {{ url: '{}' }} }} }}\n", server.url("/"));
    let path = folder.path().join("watchkeeper.yaml");
    std::fs::write(&path, format!("{HEAD}{}{monitors}", channels(&[("old", &nobody)]))).unwrap();
    let app = TestApp::start_on(&path, sqlite(&folder).await).await;
    let open = incident(&app, "shop").await;
    std::fs::write(&path, format!("{HEAD}{}{monitors}", channels(&[("new", &hook)]))).unwrap();
    hook.wait_for(1).await;
    well.store(true, Ordering::SeqCst);
    hook.wait_for(2).await;
    let over = incident(&app, "shop").await;
    app.stop().await;
    assert_eq!(over.uid, open.uid);
    let first = over.notices.iter().find(|n| n.channel == "old" && n.event == "opened").unwrap();
    assert_eq!((first.state.as_str(), first.why.as_deref()), ("suppressed", Some("its channel old is gone from the configuration")));
    assert!(over.timeline.iter().any(|entry| entry.kind == "not_told" && entry.text.starts_with("not told old: ")), "{:?}", over.timeline);
    let words = ["reminded", "resolved"].map(|event| (event.to_owned(), "shop".to_owned()));
    assert_eq!(told(&hook.finish()), words);
}
