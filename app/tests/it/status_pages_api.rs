//! Public status pages that are made over the API: by administrators, spoken on by operators, and seen by strangers.

use crate::support::app::{TestApp, until};
use crate::support::caller::{Caller, etag, problems};
use crate::support::store::TestStore;
use crate::support::web::{Answer, call, get_at};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use watchkeeper::web::auth::Role;

const HEAD: &str = "server: { listen: 127.0.0.1:0 }\nagent: { name: test }\n";
const PAGES: &str = "/api/v1/status-pages";

/// What whoever has no account is answered.
async fn seen(app: &TestApp, path: &str) -> Answer {
    call(app.address, Method::GET, path, None, &[], Bytes::new()).await
}

async fn makes(caller: &Caller, path: &str, body: Value) -> Answer {
    let made = caller.post(path, body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    made
}

fn job() -> Value {
    json!({ "name": "job", "probe": { "push": { "expect_every": "1h" } } })
}

#[tokio::test]
async fn a_page_is_made_shown_to_strangers_changed_and_removed() {
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let bob = Caller::of(&app, "default", Role::Operator).await;
    let job_uid = makes(&ann, "/api/v1/monitors", job()).await.json()["uid"].clone();
    assert_eq!(seen(&app, "/status/public").await.status, StatusCode::NOT_FOUND);
    let page = json!({
        "name": "public", "title": "Example & Co", "domain": "Status.example.org", "password": "correct horse",
        "groups": [{ "name": "Nights", "monitors": ["job"], "titles": { "job": "Backups", "password": "x" } }],
    });
    assert_eq!(problems(&ann.post(PAGES, page.clone()).await)[0].0, "groups[0].titles.password", "there is no such monitor");
    let mut page = page;
    page["groups"][0]["titles"] = json!({ "job": "Backups" });

    // What it would look like is drawn, with all that is to be said, and nothing is made of it.
    let drawn = ann.post(&format!("{PAGES}/public/preview"), page.clone()).await;
    assert_eq!((drawn.status, drawn.headers["content-type"].to_str().unwrap()), (StatusCode::OK, "text/html; charset=utf-8"));
    assert!(drawn.body.contains("Example &amp; Co") && drawn.body.contains("Backups"), "{}", drawn.body);
    assert!(drawn.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    assert_eq!(ann.get(PAGES).await.json()["items"], json!([]));
    assert_eq!(problems(&ann.post(&format!("{PAGES}/x/preview"), json!({ "name": "X" })).await)[0].0, "name");

    let made = makes(&ann, PAGES, page.clone()).await;
    let told = made.json();
    assert_eq!(told["monitors"], json!([{ "uid": job_uid, "title": "Backups" }]));
    assert_eq!(
        (&told["name"], &told["domain"], &told["closed"], &told["origin"], &told["made"]["body"]["password"]),
        (&json!("public"), &json!("status.example.org"), &json!(true), &json!("api"), &json!("***"))
    );
    assert!(!made.body.contains("correct horse"));
    let one = bob.get(&format!("{PAGES}/public")).await;
    assert_eq!((one.json(), etag(&one)), (told.clone(), etag(&made)));
    assert_eq!(bob.get(PAGES).await.json()["items"], json!([told]));

    // A stranger needs the password; whoever changes the page need not know it.
    assert_eq!(seen(&app, "/status/public").await.status, StatusCode::UNAUTHORIZED);
    let basic = [("authorization", "Basic eDpjb3JyZWN0IGhvcnNl")];
    let opened = call(app.address, Method::GET, "/status/public", None, &basic, Bytes::new()).await;
    assert!(opened.status == StatusCode::OK && opened.body.contains("Backups"), "{}", opened.body);
    let mut masked = told["made"]["body"].clone();
    masked["title"] = json!("Second");
    let path = format!("{PAGES}/public");
    let stale = [("if-match", "\"999\"")];
    let outdated = ann.call(Method::PUT, &path, &stale, masked.to_string()).await;
    assert_eq!((outdated.status, outdated.error_code().as_str()), (StatusCode::PRECONDITION_FAILED, "changed_meanwhile"));
    let changed = ann.call(Method::PUT, &path, &[("if-match", &etag(&made))], masked.to_string()).await;
    assert_eq!((changed.status, &changed.json()["title"]), (StatusCode::OK, &json!("Second")), "{}", changed.body);
    let opened = call(app.address, Method::GET, "/status/public", None, &basic, Bytes::new()).await;
    assert!(opened.status == StatusCode::OK && opened.body.contains("Second"), "{}", opened.body);

    // Without it, it is open; and a monitor that it shows cannot go before it.
    let open = json!({ "title": "Open", "domain": "status.example.org", "groups": [{ "monitors": ["job"] }] });
    assert_eq!(ann.put(&path, open).await.json()["closed"], json!(false));
    assert!(get_at(app.address, "status.example.org", "/").await.body.contains("Open"), "at the root of its domain");
    let needed = ann.delete("/api/v1/monitors/job").await;
    assert_eq!((needed.status, needed.error_code().as_str()), (StatusCode::CONFLICT, "in_use"));
    assert!(needed.body.contains("status_page public"), "{}", needed.body);
    for answer in [bob.post(PAGES, json!({ "name": "b" })).await, bob.put(&path, json!({})).await, bob.delete(&path).await] {
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "what strangers see is an administrator's to say");
    }
    assert_eq!(ann.delete(&path).await.status, StatusCode::OK);
    assert_eq!(seen(&app, "/status/public").await.status, StatusCode::NOT_FOUND);
    assert_eq!(ann.get(&path).await.status, StatusCode::NOT_FOUND);
    let log = ann.get("/api/v1/audit").await.body;
    assert!(log.contains("status_page public, version") && !log.contains("correct horse"), "{log}");
    app.stop().await;
}

#[tokio::test]
async fn an_operator_says_what_is_wrong_what_is_new_and_that_it_is_over() {
    let store = TestStore::sqlite().await;
    let app = TestApp::start_whole(HEAD, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let bob = Caller::of(&app, "default", Role::Operator).await;
    makes(&ann, "/api/v1/monitors", job()).await;
    makes(&ann, PAGES, json!({ "name": "public", "groups": [{ "monitors": ["job"] }] })).await;
    let path = format!("{PAGES}/public/messages");
    let first = makes(&bob, &path, json!({ "title": "Backups are late", "text": "We are looking into it." })).await.json();
    assert_eq!(first["messages"][0]["title"], "Backups are late", "what has no time is of now, and there at once");
    let page = seen(&app, "/status/public").await.body;
    assert!(page.contains("Backups are late") && page.contains("We are looking into it."), "{page}");
    makes(&bob, &path, json!({ "title": "Second", "text": "Something else.", "at": "2026-01-01 10:00", "zone": "Europe/Berlin" })).await;

    // An update, and an end; all that is said is changed at once, on what was seen.
    let now = bob.get(&format!("{PAGES}/public")).await;
    let mut messages = now.json()["made"]["body"]["messages"].clone();
    assert_eq!(messages.as_array().unwrap().iter().map(|one| &one["title"]).collect::<Vec<_>>(), ["Second", "Backups are late"]);
    messages[1]["updates"] = json!([{ "text": "The disk is full." }]);
    messages[0]["updates"] = json!([{ "text": "Later.", "at": "2026-01-01 11:00" }, { "text": "Never yet.", "at": "2199-01-01 11:00" }]);
    messages[0]["until"] = json!("2026-01-01 12:00");
    let seen_first = [("if-match", etag(&now))];
    let headers: Vec<(&str, &str)> = seen_first.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let told = bob.call(Method::PUT, &path, &headers, json!({ "messages": messages }).to_string()).await;
    assert_eq!(told.status, StatusCode::OK, "{}", told.body);
    let told = told.json();
    let second = &told["messages"][1];
    assert_eq!((&second["title"], &second["nth"]), (&json!("Second"), &json!(0)), "by its place as they are written");
    assert_eq!(
        (&second["until"], &second["updates"][0]["at"], &second["updates"][1]),
        (
            &json!("2026-01-01T11:00:00.000000Z"),
            &json!("2199-01-01T10:00:00.000000Z"),
            &json!({ "at": "2026-01-01T10:00:00.000000Z", "text": "Later." })
        ),
        "by the clock of its zone, newest first"
    );
    let again = bob.call(Method::PUT, &path, &headers, json!({ "messages": [] }).to_string()).await;
    assert_eq!(again.error_code(), "changed_meanwhile");
    let page = seen(&app, "/status/public").await.body;
    let places: Vec<Option<usize>> = ["The disk is full.", "We are looking into it."].iter().map(|text| page.find(text)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "the newest first: {page}");
    assert!(!page.contains("Never yet.") && !page.contains("Something else."), "what is to come, and what was over long ago: {page}");
    let feed = seen(&app, "/status/public/atom").await.body;
    assert!(feed.contains("The disk is full.") && feed.contains("We are looking into it."), "an update is an entry of its own: {feed}");
    let json = seen(&app, "/status/public.json").await.json();
    assert_eq!(json["messages"][0]["updates"][0]["text"], "The disk is full.");
    let kuma = seen(&app, "/api/status-page/public").await.json();
    assert_eq!(kuma["incident"]["content"], "The disk is full.\n\nWe are looking into it.");

    // What is wrong is said by its place, and changes nothing.
    assert_eq!(problems(&bob.post(&path, json!({ "title": "No text" })).await)[0].0, "messages[0].text");
    let early =
        json!([{ "title": "T", "text": "t", "at": "2026-01-02 10:00", "updates": [{ "at": "2026-01-01 10:00", "text": "before" }] }]);
    let early = problems(&bob.put(&path, json!({ "messages": early })).await);
    assert_eq!(early, [("messages[0].updates[0].at".to_owned(), "an update before its message".to_owned())]);
    let other = problems(&bob.put(&path, json!({ "messages": [], "password": "opened by bob" })).await);
    assert_eq!(other[0].0, "password", "an operator changes nothing else");
    assert_eq!(problems(&bob.put(&path, json!({})).await)[0].0, "messages");
    assert_eq!(bob.get(&format!("{PAGES}/public")).await.json()["messages"], told["messages"]);
    assert_eq!(bob.post(&format!("{PAGES}/nobody/messages"), json!({})).await.status, StatusCode::NOT_FOUND);
    let cara = Caller::of(&app, "default", Role::Viewer).await;
    assert_eq!(cara.post(&path, json!({ "title": "T", "text": "t" })).await.status, StatusCode::FORBIDDEN);
    app.stop().await;
}

#[tokio::test]
async fn a_place_and_a_domain_are_one_pages_of_all_tenants_and_nobody_learns_whose() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wk.yaml");
    let text =
        format!("{HEAD}status_pages: [ {{ name: of-a-file, domain: file.example.org }} ]\ntenants: [ {{ name: secret-customer }} ]\n");
    std::fs::write(&file, &text).unwrap();
    let store = TestStore::sqlite().await;
    let app = TestApp::start_on(&file, store.store.clone()).await;
    let ann = Caller::of(&app, "default", Role::Admin).await;
    let eve = Caller::of(&app, "secret-customer", Role::Admin).await;
    makes(&eve, PAGES, json!({ "name": "theirs", "domain": "theirs.example.org" })).await;
    makes(&ann, PAGES, json!({ "name": "ours" })).await;
    for (answer, what) in [
        (ann.post(PAGES, json!({ "name": "theirs" })).await, "the name `theirs`"),
        (ann.put(&format!("{PAGES}/ours"), json!({ "name": "theirs" })).await, "the name `theirs`"),
        (ann.post(PAGES, json!({ "name": "third", "domain": "THEIRS.example.org" })).await, "the domain `theirs.example.org`"),
        (eve.post(PAGES, json!({ "name": "of-a-file" })).await, "the name `of-a-file`"),
        (eve.post(PAGES, json!({ "name": "fourth", "domain": "file.example.org" })).await, "the domain `file.example.org`"),
    ] {
        assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::CONFLICT, "name_taken"), "{}", answer.body);
        assert!(answer.body.contains(&format!("{what} is taken by another status page of this installation")), "{}", answer.body);
        assert!(!answer.body.contains("secret-customer") && !answer.body.contains("wk.yaml"), "{}", answer.body);
    }
    // To its own tenant a file's page is read-only, and says where it stands.
    assert_eq!(ann.get(PAGES).await.json()["items"][0]["origin"].as_str().unwrap().rsplit('/').next(), Some("wk.yaml:3"));
    for answer in [
        ann.put(&format!("{PAGES}/of-a-file"), json!({})).await,
        ann.delete(&format!("{PAGES}/of-a-file")).await,
        ann.post(&format!("{PAGES}/of-a-file/messages"), json!({ "title": "T", "text": "t" })).await,
    ] {
        assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::CONFLICT, "from_a_file"), "{}", answer.body);
        assert!(answer.body.contains("wk.yaml:3"), "{}", answer.body);
    }
    // One tenant reaches nothing of another.
    for path in [format!("{PAGES}/theirs"), format!("{PAGES}/of-a-file")] {
        let caller = if path.ends_with("theirs") { &ann } else { &eve };
        for answer in [
            caller.get(&path).await,
            caller.put(&path, json!({})).await,
            caller.delete(&path).await,
            caller.post(&format!("{path}/messages"), json!({ "title": "T", "text": "t" })).await,
        ] {
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.body);
        }
    }
    assert!(get_at(app.address, "theirs.example.org", "/").await.body.contains("<h1><bdi>theirs"));
    // A file that takes the place later wins, in whichever tenant; what was made is left out alone, and its owner is not told of whom.
    std::fs::write(&file, text.replace("name: of-a-file", "name: theirs")).unwrap();
    assert_eq!(ann.call(Method::POST, "/-/reload", &[], "").await.status, StatusCode::OK);
    assert!(!get_at(app.address, "theirs.example.org", "/").await.body.contains("<h1><bdi>theirs"), "nothing of it is shown");
    let left = until("the page is left out", async || {
        let left = eve.get("/api/v1/documents").await.json()["items"][0].clone();
        (left["problems"] != json!([])).then_some(left)
    })
    .await;
    assert_eq!(left["problems"][0]["found"], "a second status page named `theirs`");
    assert_eq!(ann.get("/api/v1/documents").await.json()["items"][0]["problems"], json!([]));
    assert_eq!(seen(&app, "/status/ours").await.status, StatusCode::OK);
    assert_eq!(seen(&app, "/status/theirs").await.status, StatusCode::OK, "the file's");
    app.stop().await;
}
