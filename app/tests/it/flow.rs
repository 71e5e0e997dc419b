//! The whole flow in one process: a target fails, is told once, comes back, is told once.

use super::support::app::{TestApp, until};
use super::support::nginx::Nginx;
use super::support::postgres;
use super::support::provider::{Call, Provider};
use super::support::scripted::{Script, ScriptedStore};
use super::support::{switch, telegram, webhook};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;
use watchkeeper::store::{self, IncidentFilter, Store};

async fn sqlite(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    store::open(&format!("sqlite://{}", folder.path().join("wk.db").display())).await.unwrap()
}

fn config(url: &str, hook: &Provider) -> String {
    format!(
        "channels:\n  - name: hook\n    webhook: {{ url: '{}/hook' }}\n\
         defaults: {{ every: 1s, recheck: 1s, timeout: 900ms, down_after: 2, notify: [hook] }}\n\
         monitors:\n  - name: shop\n    probe: {{ http: {{ url: '{url}' }} }}\n",
        hook.url
    )
}

fn events(calls: &[Call]) -> Vec<(String, String)> {
    let word = |call: &Call, key: &str| call.json()[key].as_str().unwrap_or_default().to_owned();
    calls.iter().map(|call| (word(call, "event"), call.json()["incident"]["id"].to_string())).collect()
}

async fn nginx_dies_and_comes_back(store: Arc<dyn Store>) {
    let Some(mut nginx) = Nginx::start() else { return };
    let (hook, bot) = (webhook::start(false).await, telegram::start().await);
    let yaml = format!(
        "channels:\n  - name: hook\n    webhook: {{ url: '{}/hook' }}\n  - name: bot\n    telegram: {{ bot_token: '{}', chat_id: '-100123', api_url: '{}' }}\n\
         defaults: {{ every: 1s, recheck: 1s, timeout: 900ms, down_after: 3, notify: [hook, bot] }}\n\
         monitors:\n  - name: shop\n    probe: {{ http: {{ url: 'http://{}/' }} }}\n",
        hook.url,
        telegram::TOKEN,
        bot.url,
        nginx.address
    );
    let app = TestApp::start(&yaml, store).await;
    app.until_health("shop", "up").await;
    nginx.kill();
    hook.wait_for(1).await;
    bot.wait_for(1).await;
    nginx.revive();
    hook.wait_for(2).await;
    // The resolved message, and the first one edited to its end.
    bot.wait_for(3).await;
    app.until_health("shop", "up").await;
    app.stop().await;
    let told = events(&hook.finish());
    assert_eq!(told.iter().map(|(event, _)| event.as_str()).collect::<Vec<_>>(), ["opened", "resolved"]);
    assert_eq!(told[0].1, told[1].1, "both are about one incident");
    let calls = bot.finish();
    let sent = calls.iter().filter(|call| call.path.ends_with("/sendMessage"));
    let texts: Vec<String> = sent.map(|c| c.json()["text"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!((texts.len(), calls.len()), (2, 3), "two messages and one edit: {calls:?}");
    assert!(texts[0].contains("shop is down") && texts[1].contains("shop is up again"), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_nginx_that_is_killed_is_told_once_and_so_is_its_return_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    nginx_dies_and_comes_back(sqlite(&folder).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_nginx_that_is_killed_is_told_once_and_so_is_its_return_on_postgres() {
    let Some(database) = postgres::fresh_database().await else { return };
    nginx_dies_and_comes_back(store::open(&database.url).await.unwrap()).await;
    database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_repeats_nothing_and_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hook = webhook::start(false).await;
    let (server, well) = switch::http(true).await;
    let yaml = config(&server.url("/"), &hook);

    let app = TestApp::start(&yaml, sqlite(&folder).await).await;
    app.until_health("shop", "up").await;
    well.store(false, Ordering::SeqCst);
    hook.wait_for(1).await;
    app.stop().await;

    // Still down after the restart: attempts go on, nothing is told again.
    let app = TestApp::start(&yaml, sqlite(&folder).await).await;
    let scope = app.scope().await;
    let monitor = app.store.monitor(scope, "shop").await.unwrap().unwrap();
    assert_eq!(monitor.health.as_str(), "down", "the state survived");
    let before = server.accepted();
    until("three more attempts", async || (server.accepted() >= before + 3).then_some(())).await;
    app.stop().await;
    assert_eq!(hook.calls().len(), 1);

    // It comes back while nobody watches; the next start tells it.
    well.store(true, Ordering::SeqCst);
    let app = TestApp::start(&yaml, sqlite(&folder).await).await;
    hook.wait_for(2).await;
    app.until_health("shop", "up").await;
    let scope = app.scope().await;
    let incidents = app.store.incidents(scope, &IncidentFilter { limit: 10, ..IncidentFilter::default() }).await.unwrap();
    assert_eq!(incidents.iter().map(|i| i.status.as_str()).collect::<Vec<_>>(), ["resolved"]);
    app.stop().await;
    let told = events(&hook.finish());
    assert_eq!(told.iter().map(|(event, _)| event.as_str()).collect::<Vec<_>>(), ["opened", "resolved"]);
    assert_eq!(told[0].1, told[1].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_is_taken_out_ends_its_incident_even_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let hook = webhook::start(false).await;
    let (server, well) = switch::http(true).await;
    well.store(false, Ordering::SeqCst);
    let yaml = config(&server.url("/"), &hook);
    let app = TestApp::start(&yaml, sqlite(&folder).await).await;
    hook.wait_for(1).await;
    app.stop().await;
    let app = TestApp::start(&yaml.replace("name: shop", "name: other"), sqlite(&folder).await).await;
    let calls = hook.wait_for(2).await;
    app.stop().await;
    let gone = calls.iter().map(Call::json).find(|c| c["event"] == "resolved").expect("the end is told");
    assert_eq!(gone["monitor"]["name"], "shop");
    hook.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_applies_what_changed_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hook = webhook::start(false).await;
    let (first, _) = switch::http(true).await;
    let (second, _) = switch::http(true).await;
    let path = folder.path().join("watchkeeper.yaml");
    let head = "server: { listen: 127.0.0.1:0 }\nagent: { name: test }\n";
    let one = format!("{head}{}", config(&first.url("/"), &hook));
    std::fs::write(&path, &one).unwrap();
    let app = TestApp::start_on(&path, sqlite(&folder).await).await;
    app.until_health("shop", "up").await;
    let scope = app.scope().await;
    let shop = app.store.monitor(scope, "shop").await.unwrap().unwrap();

    std::fs::write(&path, format!("{one}  - name: extra\n    probe: {{ http: {{ url: '{}' }} }}\n", second.url("/"))).unwrap();
    app.until_health("extra", "up").await;
    let same = app.store.monitor(scope, "shop").await.unwrap().unwrap();
    assert_eq!((same.id, same.since), (shop.id, shop.since), "what did not change was not touched");

    std::fs::write(&path, format!("{one}  - name: broken\n    probe: {{ htpt: {{}} }}\n")).unwrap();
    let body = until("the bad file is shown", async || {
        let body = get(&app, "/ready").await;
        body.contains("refused").then_some(body)
    })
    .await;
    assert!(body.contains("\"ready\":true"), "{body}");
    assert!(app.store.monitor(scope, "extra").await.unwrap().is_some(), "the last good configuration stays in force");

    std::fs::write(&path, &one).unwrap();
    until("extra is gone", async || app.store.monitor(scope, "extra").await.unwrap().is_none().then_some(())).await;
    app.stop().await;
    assert!(hook.finish().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_our_own_fault_is_unknown_and_only_blindness_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let hook = webhook::start(false).await;
    let (server, _) = switch::http(true).await;
    let yaml = format!(
        "channels:\n  - name: hook\n    webhook: {{ url: '{}/hook' }}\n\
         defaults: {{ every: 1s, recheck: 1s, timeout: 900ms, down_after: 1, notify: [hook] }}\n\
         monitors:\n  - name: shop\n    probe: {{ http: {{ url: 'https://{}/', ca_file: '{}/missing.pem' }} }}\n    alerts: [ {{ down: {{}} }}, {{ blind: {{ for: 2s }} }} ]\n",
        hook.url,
        server.address,
        folder.path().display()
    );
    let app = TestApp::start(&yaml, sqlite(&folder).await).await;
    let calls = hook.wait_for(1).await;
    app.until_health("shop", "unknown").await;
    app.stop().await;
    assert_eq!(calls[0].json()["incident"]["rule"], "blind", "{:?}", calls[0].json());
    assert_eq!(hook.finish().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_stops_reporting_is_missed_and_one_that_fails_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let hook = webhook::start(false).await;
    let yaml = format!(
        "channels:\n  - name: hook\n    webhook: {{ url: '{}/hook' }}\n\
         defaults: {{ notify: [hook] }}\n\
         monitors:\n  - name: backup\n    id: 0190a0c4-0000-4000-8000-000000000001\n    probe: {{ push: {{ expect_every: 6s, grace: 1s }} }}\n",
        hook.url
    );
    let store = sqlite(&folder).await;
    let app = TestApp::start(&yaml, store.clone()).await;
    let scope = app.scope().await;
    let view = app.store.monitor(scope, "backup").await.unwrap().unwrap();
    let token = app.store.push_token(scope, view.id).await.unwrap().expect("a push monitor has a token");
    let answer = get(&app, &format!("/api/push/{token}?status=up&msg=OK&ping=12")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    app.until_health("backup", "up").await;
    // It stops reporting.
    hook.wait_for(1).await;
    get(&app, &format!("/ping/{token}")).await;
    hook.wait_for(2).await;
    get(&app, &format!("/ping/{token}/3")).await;
    hook.wait_for(3).await;
    get(&app, &format!("/ping/{token}")).await;
    hook.wait_for(4).await;
    app.stop().await;
    let told: Vec<(String, String)> = hook.finish()[..4]
        .iter()
        .map(|c| {
            (
                c.json()["event"].as_str().unwrap_or_default().to_owned(),
                c.json()["incident"]["rule"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    let told: Vec<(&str, &str)> = told.iter().map(|(e, r)| (e.as_str(), r.as_str())).collect();
    assert_eq!(told, [("opened", "missed_push"), ("resolved", "missed_push"), ("opened", "down"), ("resolved", "down")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_that_nobody_here_could_record_are_not_called_missed() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script::new(None);
    let store: Arc<dyn Store> = Arc::new(ScriptedStore { inner: sqlite(&folder).await, script: script.clone() });
    let yaml = "monitors:\n  - name: backup\n    id: 0190a0c4-0000-4000-8000-000000000001\n    \
                probe: { push: { expect_every: 4s, grace: 1s } }\n";
    let app = TestApp::start(yaml, store).await;
    let scope = app.scope().await;
    let view = app.store.monitor(scope, "backup").await.unwrap().unwrap();
    let token = app.store.push_token(scope, view.id).await.unwrap().expect("a push monitor has a token");
    get(&app, &format!("/ping/{token}")).await;
    app.until_health("backup", "up").await;
    script.set_away(true);
    let refused = get(&app, &format!("/ping/{token}")).await;
    assert!(refused.starts_with("HTTP/1.1 5"), "{refused}");
    // The outage lasts beyond the time at which the next push is overdue.
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    script.set_away(false);
    app.until_health("backup", "unknown").await;
    // What was not said by then will not be said: the next push comes in time.
    get(&app, &format!("/ping/{token}")).await;
    app.until_health("backup", "up").await;
    let incidents = app.store.incidents(scope, &IncidentFilter::default()).await.unwrap();
    assert!(incidents.is_empty(), "{incidents:?}");
    // From then on silence counts again.
    app.until_health("backup", "down").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_says_nothing_of_a_monitor_that_was_never_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watchkeeper.yaml");
    let text = |timeout: &str| {
        format!(
            "server: {{ listen: 127.0.0.1:0 }}\nagent: {{ name: test }}\n\
             monitors:\n  - name: yearly\n    cron: '0 0 29 2 *'\n    timeout: {timeout}\n    \
             probe: {{ http: {{ url: 'http://127.0.0.1:9/' }} }}\n"
        )
    };
    std::fs::write(&path, text("5s")).unwrap();
    let app = TestApp::start_on(&path, sqlite(&folder).await).await;
    let scope = app.scope().await;
    let first = app.store.monitor(scope, "yearly").await.unwrap().unwrap();
    assert_eq!(first.since, None);
    std::fs::write(&path, text("6s")).unwrap();
    until("the new configuration is in force", async || {
        let now = app.store.monitor(scope, "yearly").await.unwrap()?;
        (now.config != first.config).then_some(())
    })
    .await;
    // A stop in good order commits what the engine decided about it.
    let store = app.store.clone();
    app.stop().await;
    drop(store);
    let store = sqlite(&folder).await;
    assert_eq!(store.monitor(scope, "yearly").await.unwrap().unwrap().since, None);
}

async fn get(app: &TestApp, path: &str) -> String {
    use tokio::io::AsyncReadExt;
    let mut stream = tokio::net::TcpStream::connect(app.address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
