//! The API: who may ask, what is answered, and what is refused with a reason.

use crate::alerting_api::{dead_letter, owned_hook, silenced, watches_with_rules};
use crate::store_contract::world;
use crate::support::web::{LONG, TestWeb, call};
use crate::support::webhook;
use crate::users;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use watchkeeper::net::Guard;
use watchkeeper::spec::{Channels, OwnedPage, Pages};
use watchkeeper::store::{Beside, Decision, DetailRow, Mandate, NewSubscriber, SubscriberKind};
use watchkeeper::web::auth::{Role, create_token};
use watchkeeper::web::{self, Readiness, ServeError};
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{Dur, Micros, Outcome, Reason};

/// The OpenAPI document, as it is committed; that it is what the program does is a test beside the routes.
fn document() -> Value {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// One operation of the document.
struct Operation {
    method: Method,
    path: String,
    /// The role that is needed; `None` where none is.
    least: Option<Role>,
    /// What may be answered.
    declared: BTreeSet<u16>,
}

impl Operation {
    fn is(&self, method: &Method, path: &str) -> bool {
        self.method == *method && self.path == path
    }

    fn declares(&self, status: StatusCode, what: &str) {
        assert!(self.declared.contains(&status.as_u16()), "{} {} {what}: {status} is not in the document", self.method, self.path);
    }
}

fn operations() -> Vec<Operation> {
    let document = document();
    let mut found = vec![];
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let least = Role::from_word(operation["x-access"].as_str().unwrap());
            assert_eq!(least.is_some(), operation["security"].as_array().unwrap().iter().any(|one| one.get("token").is_some()), "{path}");
            let declared = operation["responses"].as_object().unwrap().keys().map(|status| status.parse().unwrap()).collect();
            found.push(Operation { method: method.to_uppercase().parse().unwrap(), path: path.clone(), least, declared });
        }
    }
    found
}

/// A path of acme's for an operation, and a body that it takes. What it uses up is made anew each time.
async fn prepared(operation: &Operation, web: &mut TestWeb, incident: &str, nth: usize) -> (String, Bytes) {
    let path = operation.path.as_str();
    let fresh = |what: &str| format!("{what} {nth} {}", operation.method);
    let id = match path {
        path if path.contains("/silences/") => silenced(web).await,
        path if path.contains("/dead-letters/") => dead_letter(web, "down").await.to_string(),
        path if path.contains("/incidents/") => incident.to_owned(),
        "/api/v1/users/{id}" => {
            let name = fresh("user");
            users::made(web, web.world.acme(), &name, Role::Viewer).await;
            format!("uid-{name}").replace(' ', "%20")
        }
        "/api/v1/status-pages/{name}/subscribers/{id}" => {
            let (uid, kind) = (format!("subscriber-{nth}"), SubscriberKind::Email);
            let new = NewSubscriber { address: format!("{uid}@example.org"), uid, kind };
            web.world.store().subscribers().subscribe(web.world.acme(), "hook", &new, web.clock.now()).await.unwrap();
            new.uid
        }
        "/api/v1/tokens/{id}" => {
            let name = fresh("token");
            create_token(web.world.store(), web.world.acme(), &name, Role::Viewer, web.clock.now()).await.unwrap();
            let tokens = web.world.store().accounts().tokens(web.world.acme()).await.unwrap();
            tokens.iter().find(|token| token.token.name == name).unwrap().id.to_string()
        }
        _ if changes_a_rule(operation) => "shop:down".to_owned(),
        path if path.starts_with("/api/v1/alert-rules/{id}") => "uid-987654:down".to_owned(),
        _ if operation.is(&Method::POST, "/api/v1/monitors/{id}") => "test".to_owned(),
        _ => "shop".to_owned(),
    };
    let body = match (&operation.method, path) {
        (&Method::POST, path) if path.ends_with("/comments") => r#"{"text":"x"}"#.to_owned(),
        _ if changes_a_rule(operation) => r#"{"monitor_id":"shop","trigger_type":"down"}"#.to_owned(),
        (&Method::POST, "/api/v1/silences") => r#"{"all":true,"for":"1h","comment":"x"}"#.to_owned(),
        (&Method::POST, "/api/v1/users") => format!(r#"{{"name":"{}","role":"viewer","password":"{}"}}"#, fresh("new"), users::PASSWORD),
        (&Method::POST, "/api/v1/members") => {
            let name = fresh("member");
            users::made(web, web.world.zenith(), &name, Role::Viewer).await;
            format!(r#"{{"name":"{name}","role":"viewer"}}"#)
        }
        (&Method::POST, "/api/v1/tokens") => r#"{"name":"more","role":"viewer"}"#.to_owned(),
        (&Method::PATCH, _) => r#"{"role":"operator"}"#.to_owned(),
        (&Method::PUT, "/api/v1/status-pages/{name}/messages") => r#"{"messages":[]}"#.to_owned(),
        (&Method::PUT, "/api/v1/me/password") => format!(r#"{{"old":"{0}","new":"{0}"}}"#, users::PASSWORD),
        (&Method::PUT, "/api/v1/me/second-factor") => r#"{"code":"000000"}"#.to_owned(),
        (_, "/api/v1/me/second-factor" | "/api/v1/me/second-factor/remove") => format!(r#"{{"password":"{}"}}"#, users::PASSWORD),
        (_, "/api/v1/auth/login") => format!(r#"{{"name":"viewer 0","password":"{}"}}"#, users::PASSWORD),
        (_, "/api/v1/auth/setup") => format!(r#"{{"code":"x","name":"x","password":"{}"}}"#, users::PASSWORD),
        _ => String::new(),
    };
    let path = path.replace("{id}", &id).replace("{name}", "hook").replace("{token}", &web.push_token).replace("{action}", "log");
    // What is not there has no name.
    let path = path
        .replace("{page}", "no-page")
        .replace("{key}", "_none")
        .replace("{link}", "x")
        .replace("{measure}", "status")
        .replace("{window}", "24h");
    (path, body.into())
}

/// Whether an operation also asks for the tenant `default`, which is neither acme nor zenith.
fn of_the_installation(path: &str) -> bool {
    ["/-/reload", "/api/v1/nodes"].contains(&path)
}

/// Whether it shows a public status page, or something of one.
fn of_a_status_page(path: &str) -> bool {
    ["/status/", "/api/v2/", "/api/status-page/", "/api/badge/", "/api/v1/endpoints/"].iter().any(|begin| path.starts_with(begin))
}

/// Whether an operation changes what is in force, which here nobody does: whoever may is told so. What it does is shown over the whole
/// program, in `documents.rs`.
fn needs_the_whole_program(operation: &Operation) -> bool {
    let path = operation.path.as_str();
    let objects = ["/api/v1/monitors", "/api/v1/alert-channels", "/api/v1/maintenance", "/api/v1/status-pages", "/api/v1/import"];
    let of_channels =
        ["/api/v1/alert-channels/{name}/test", "/api/v1/alert-channels/{name}/retry", "/api/v1/status-pages/{name}/subscribers/{id}"];
    !operation.method.is_safe() && objects.iter().any(|objects| path.starts_with(objects)) && !of_channels.contains(&path)
}

/// Whether it changes a rule. Here the monitors of both tenants are in files, and so are their rules: whoever may is told so.
fn changes_a_rule(operation: &Operation) -> bool {
    !operation.method.is_safe() && operation.path.starts_with("/api/v1/alert-rules") && !operation.path.ends_with("/test")
}

/// Who calls.
#[derive(Clone, Debug)]
enum Who {
    Nobody,
    Token(String),
    Session(users::Page),
}

/// The status of a call whose answer may go on for ever.
async fn status_of(web: &TestWeb, method: &Method, path: &str, who: &Who, body: &Bytes) -> StatusCode {
    let (token, headers) = match who {
        Who::Nobody => (None, vec![]),
        Who::Token(token) => (Some(token.as_str()), vec![]),
        Who::Session(page) => (None, vec![("cookie", page.cookie.as_str()), ("x-watchkeeper-page", "1")]),
    };
    crate::support::web::open(web.address, method.clone(), path, token, &headers, body.clone()).await.status()
}

/// What a call that is meant for that tenant is answered.
async fn answered_in(web: &TestWeb, tenant: &str, method: &Method, path: &str, who: &Who, body: &Bytes) -> (StatusCode, String) {
    let (token, mut headers) = match who {
        Who::Nobody => (None, vec![]),
        Who::Token(token) => (Some(token.as_str()), vec![]),
        Who::Session(page) => (None, vec![("cookie", page.cookie.as_str()), ("x-watchkeeper-page", "1")]),
    };
    headers.push(("x-tenant-id", tenant));
    let answer = web.call(method.clone(), path, token, &headers, body.clone()).await;
    (answer.status, answer.body)
}

/// Gives acme a status page that is called `hook`, as its channel is.
fn shows_a_page(web: &TestWeb) {
    let texts = [("wk.yaml".to_owned(), b"status_pages: [ { name: hook } ]".to_vec())];
    let config = watchkeeper::config::load_texts(&texts, &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
    let page =
        OwnedPage { tenant: web.world.acme().0, config: config.tenants[0].status_pages[0].clone(), mail: None, hooks: Guard::PublicOnly };
    web.pages.send_replace(Pages(Some(Arc::new(vec![Arc::new(page)]))));
}

/// What each caller is answered, whoever asks by token or by session.
async fn walked(by_session: bool) {
    let mut web = TestWeb::start().await;
    let hook = webhook::start(false).await;
    web.channels.send_replace(Channels(Arc::new(vec![owned_hook(&web, &hook.url)])));
    watches_with_rules(&web);
    shows_a_page(&web);
    let (decision, _, incident) = web.world.opens(web.world.shop, "slow_response", world::T0);
    web.world.commit_decisions(vec![decision]).await;
    // A user of each role for each operation: an account has a limit of attempts, and some operations use theirs up.
    let opened = async |web: &TestWeb, scope, name: String, role: Role| {
        users::made(web, scope, &name, role).await;
        Who::Session(users::Page { cookie: users::session_of(web, scope, &name).await })
    };
    let nobody = format!("wk_{}", "A".repeat(43));
    let mut nth = 0;
    for operation in operations() {
        nth += 1;
        if operation.path == "/assets/{file}" {
            // What it has is shown in `page.rs`.
            assert_eq!(operation.least, None);
            continue;
        }
        let method = operation.method.clone();
        let (path, body) = prepared(&operation, &mut web, &incident, nth * 10).await;
        let open = status_of(&web, &method, &path, &Who::Nobody, &body).await;
        operation.declares(open, "as nobody");
        if of_a_status_page(&operation.path) || operation.path.starts_with("/api/v1/auth/oidc") {
            // There is none here; what they show is in `status_pages.rs` and `oidc.rs`.
            assert_eq!((operation.least, open), (None, StatusCode::NOT_FOUND), "{method} {path}");
            continue;
        }
        let Some(least) = operation.least else {
            // Strangers are not let in, but may try.
            let want = if operation.is(&Method::POST, "/api/v1/auth/login") { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
            let set_up = operation.is(&Method::POST, "/api/v1/auth/setup");
            assert!(open == want || set_up && open.is_client_error(), "{method} {path} is open: {open}");
            continue;
        };
        assert_eq!(open, StatusCode::UNAUTHORIZED, "{method} {path} as nobody");
        for bad in [nobody.as_str(), "wk_", "wks_", "x", &web.viewer[..20]] {
            let status = status_of(&web, &method, &path, &Who::Token(bad.to_owned()), &body).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path} with {bad}");
        }
        let who = if by_session {
            opened(&web, web.world.zenith(), format!("foreign {nth}"), Role::Admin).await
        } else {
            Who::Token(web.foreign.clone())
        };
        // Whoever names a tenant of others is told nothing, not even whether there is one.
        let mut told = BTreeSet::new();
        for elsewhere in ["acme", "nowhere", "", "1"] {
            let (status, body) = answered_in(&web, elsewhere, &method, &path, &who, &body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} in {elsewhere:?} by zenith's administrator: {body}");
            told.insert(body);
        }
        assert_eq!(told.len(), 1, "{method} {path}: {told:?}");
        let foreign = status_of(&web, &method, &path, &who, &body).await;
        operation.declares(foreign, "as another tenant's administrator");
        let own_things = !operation.path.contains('{') || operation.path.contains("/monitors");
        match operation.path.as_str() {
            path if of_the_installation(path) => assert_eq!(foreign, StatusCode::FORBIDDEN, "{method} {path}"),
            // A token has no account; and nothing is confirmed that was not begun.
            path if path.starts_with("/api/v1/me/") => {
                assert_eq!(foreign.is_success(), by_session && !operation.is(&Method::PUT, "/api/v1/me/second-factor"));
            }
            _ if needs_the_whole_program(&operation) => assert_eq!(foreign, StatusCode::SERVICE_UNAVAILABLE, "{method} {path}"),
            // It is that tenant's own account.
            "/api/v1/members" => assert_eq!(foreign, StatusCode::CONFLICT, "{method} {path}"),
            _ if changes_a_rule(&operation) => assert_eq!(foreign, StatusCode::CONFLICT, "{method} {path} of its own"),
            // Lists and things of its own; and zenith has a `shop` of its own.
            path if own_things => assert!(foreign.is_success(), "{method} {path} of another tenant: {foreign}"),
            path => assert_eq!(foreign, StatusCode::NOT_FOUND, "{method} {path} of another tenant"),
        }
        for role in Role::ALL {
            let place = nth * 10 + 1 + role as usize;
            let token = [&web.viewer, &web.operator, &web.admin][role as usize].clone();
            let who =
                if by_session { opened(&web, web.world.acme(), format!("{} {nth}", role.as_str()), role).await } else { Who::Token(token) };
            let (path, body) = prepared(&operation, &mut web, &incident, place).await;
            let status = status_of(&web, &method, &path, &who, &body).await;
            operation.declares(status, &format!("as {role:?}"));
            let own = operation.path.starts_with("/api/v1/me/");
            if role < least || of_the_installation(&operation.path) || own && !by_session {
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} as {role:?}");
            } else if needs_the_whole_program(&operation) {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{method} {path} as {role:?}");
            } else if changes_a_rule(&operation) {
                assert_eq!(status, StatusCode::CONFLICT, "{method} {path} as {role:?}");
            } else if operation.is(&Method::PUT, "/api/v1/me/second-factor") {
                assert!(status.is_client_error(), "nothing was begun: {status}");
            } else {
                assert!(status.is_success(), "{method} {path} as {role:?}: {status}");
            }
        }
    }
    web.stop().await;
}

#[tokio::test]
async fn every_operation_of_the_document_asks_a_token_for_what_it_says() {
    walked(false).await;
}

#[tokio::test]
async fn every_operation_of_the_document_asks_a_session_for_what_it_says() {
    walked(true).await;
}

#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let mut web = TestWeb::start().await;
    let (decision, _, incident) = web.world.opens(web.world.shop, "down", world::T0);
    web.world.commit_decisions(vec![decision]).await;
    let uid = web.get("/api/v1/monitors/shop").await.json()["uid"].as_str().unwrap().to_owned();
    for path in [
        format!("/api/v1/monitors/{uid}"),
        format!("/api/v1/monitors/{uid}/heartbeats"),
        format!("/api/v1/monitors/{uid}/metrics"),
        "/api/v1/monitors/api".to_owned(),
        format!("/api/v1/incidents/{incident}"),
        format!("/api/v1/incidents?monitor={uid}"),
    ] {
        assert_eq!(web.get(&path).await.status, StatusCode::OK, "{path} is acme's");
        let answer = web.get_as(&path, &web.foreign).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::NOT_FOUND, "not_found"), "{path}");
        let nothing = web.get_as("/api/v1/monitors/nothing", &web.foreign).await;
        if path.contains("monitors") {
            assert_eq!(answer.body, nothing.body, "foreign and absent look the same");
        }
    }
    let listed = web.get_as("/api/v1/monitors", &web.foreign).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_ne!(listed["items"][0]["uid"], uid.as_str());
    assert_eq!(web.get_as("/api/v1/incidents", &web.foreign).await.json(), serde_json::json!({"items": [], "next": null}));
    web.stop().await;
}

#[tokio::test]
async fn an_expired_token_and_one_of_an_unknown_role_are_not_known() {
    use sha2::{Digest as _, Sha256};
    let web = TestWeb::start().await;
    let now = web.clock.now();
    for (text, role, expires) in [("wk_expired", "admin", Some(now)), ("wk_role", "emperor", None)] {
        let hash = Sha256::digest(text.as_bytes()).into();
        web.world.store().accounts().create_token(web.world.acme(), &world::token(text, role, &hash, text, expires), now).await.unwrap();
        let answer = web.get_as("/api/v1/monitors", text).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{text}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    web.stop().await;
}

#[tokio::test]
async fn monitors_are_paged_by_name() {
    let web = TestWeb::start().await;
    let (mut names, mut path) = (vec![], "/api/v1/monitors?limit=1".to_owned());
    loop {
        let page = web.get(&path).await.json();
        names.extend(page["items"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/monitors?limit=1&after={next}");
        assert!(names.len() <= 10, "the pages never end: {names:?}");
    }
    assert_eq!(names, ["api", "job", "shop"]);
    let beyond = web.get("/api/v1/monitors?after=zzz").await;
    assert_eq!(beyond.body, r#"{"items":[],"next":null}"#);
    assert_eq!(beyond.headers["cache-control"], "no-store");
    web.stop().await;
}

#[tokio::test]
async fn one_monitor_is_found_by_name_and_by_id_with_its_configuration() {
    let mut web = TestWeb::start().await;
    let beat = web.world.beat(web.world.shop, world::sec(5), Outcome::Down(Reason::TcpRefused));
    web.world.commit_beats(vec![beat]).await;
    let by_name = web.get("/api/v1/monitors/shop").await.json();
    let by_id = web.get(&format!("/api/v1/monitors/{}", by_name["uid"].as_str().unwrap())).await.json();
    assert_eq!(by_name, by_id);
    assert_eq!(by_name["config"]["headers"]["Authorization"], "***");
    assert_eq!(by_name["last"]["why"], "tcp_refused");
    assert_eq!(by_name["last"]["at"], "2026-11-01T00:00:05.000000Z");
    assert_eq!(by_name["health"], "unknown", "nothing was decided yet");
    assert!(web.get("/api/v1/monitors").await.json()["items"][0].get("config").is_none(), "a list has none");
    web.stop().await;
}

#[tokio::test]
async fn heartbeats_are_paged_without_gaps_or_repetitions() {
    let mut web = TestWeb::start().await;
    let beats: Vec<_> = (0..25).map(|n| web.world.beat(web.world.shop, world::sec(n), Outcome::Up)).collect();
    let attempt = watchkeeper::probe::Attempt::ended(Outcome::Up, Some("evidence".into()));
    let detail = DetailRow {
        monitor: web.world.shop,
        datacenter: web.world.me.datacenter,
        at: world::sec(24),
        json: serde_json::to_string(&attempt).unwrap(),
    };
    let batch = watchkeeper::store::Batch { beats, details: vec![detail], ..web.world.batch() };
    web.world.store().commit(&batch).await.unwrap();
    let (mut times, mut path) = (vec![], "/api/v1/monitors/shop/heartbeats?limit=10".to_owned());
    let mut pages = 0;
    loop {
        let page = web.get(&path).await.json();
        if pages == 0 {
            assert_eq!(page["items"][0]["detail"]["error"], "evidence");
            assert!(page["items"][1].get("detail").is_none());
        }
        pages += 1;
        times.extend(page["items"].as_array().unwrap().iter().map(|b| b["at"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/monitors/shop/heartbeats?limit=10&before={next}");
        assert!(pages < 10, "the pages never end");
    }
    let want: Vec<String> = (0..25).rev().map(|n| web::types::Time(world::sec(n)).to_string()).collect();
    assert_eq!((pages, times), (3, want));
    web.stop().await;
}

#[tokio::test]
async fn metrics_are_exact_times_and_counts() {
    let mut web = TestWeb::start().await;
    let now = web.clock.now();
    let ago = |seconds: i64| Micros(now.0 - seconds * 1_000_000);
    let shop = web.world.shop;
    let states = [(7_200, Health::Up), (1_800, Health::Down), (900, Health::Up)];
    let decisions: Vec<Decision> = states.iter().map(|(at, health)| web.world.interval(shop, ago(*at), *health)).collect();
    for decision in decisions {
        web.world.commit_decisions(vec![decision]).await;
    }
    let mut down = web.world.beat(shop, ago(600), Outcome::Down(Reason::HttpStatus));
    down.code = 503;
    let beats = vec![web.world.beat(shop, ago(300), Outcome::Up), web.world.beat(shop, ago(200), Outcome::Up), down];
    web.world.commit_beats(beats).await;
    let metrics = web.get("/api/v1/monitors/shop/metrics?period=1h").await.json();
    let seconds = |state: &str| metrics["seconds"][state].as_f64().unwrap();
    assert!((seconds("down") - 900.0).abs() < 0.001, "{metrics}");
    assert!((2_700.0..2_900.0).contains(&seconds("up")), "{metrics}");
    assert!(seconds("unknown") < 0.001, "{metrics}");
    let percent = metrics["uptime_percent"].as_f64().unwrap();
    assert!((percent - 100.0 * seconds("up") / (seconds("up") + 900.0)).abs() < 0.0002, "{metrics}");
    assert_eq!(metrics["attempts"], serde_json::json!({"up": 2, "down": 1, "unknown": 0}));
    assert_eq!(metrics["codes"], serde_json::json!({"200": 2, "503": 1}));
    let p50 = metrics["total_us"]["p50"].as_f64().unwrap();
    assert!((p50 / 46_500.0 - 1.0).abs() <= 0.021, "{metrics}");
    let counted: i64 = metrics["buckets"].as_array().unwrap().iter().map(|b| b["attempts"]["up"].as_i64().unwrap()).sum();
    assert_eq!(counted, 2, "the buckets add up");
    for period in ["6h", "24h", "7d", "30d", "90d"] {
        let longer = web.get(&format!("/api/v1/monitors/shop/metrics?period={period}")).await.json();
        assert_eq!((&longer["period"], &longer["attempts"]["up"]), (&period.into(), &2.into()), "{longer}");
    }
    let never = web.get("/api/v1/monitors/api/metrics").await.json();
    assert_eq!((&never["uptime_percent"], &never["buckets"]), (&serde_json::Value::Null, &serde_json::json!([])));
    web.stop().await;
}

#[tokio::test]
async fn incidents_are_filtered_paged_and_shown_whole() {
    let mut web = TestWeb::start().await;
    let mut uids = vec![];
    for n in 0..5 {
        // Two of them in the same microsecond.
        let at = world::sec(n / 2 * 60);
        let (opened, id, uid) = web.world.opens(web.world.shop, &format!("rule-{n}"), at);
        web.world.commit_decisions(vec![opened]).await;
        if n == 0 {
            let resolved = web.world.resolves(web.world.shop, id, &uid, world::sec(30));
            web.world.commit_decisions(vec![resolved]).await;
        }
        uids.push(uid);
    }
    uids.reverse();
    let (mut listed, mut path) = (vec![], "/api/v1/incidents?limit=2".to_owned());
    loop {
        let page = web.get(&path).await.json();
        listed.extend(page["items"].as_array().unwrap().iter().map(|i| i["uid"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/incidents?limit=2&before={next}");
        assert!(listed.len() <= 10, "the pages never end");
    }
    assert_eq!(listed, uids);
    let count = |answer: serde_json::Value| answer["items"].as_array().unwrap().len();
    assert_eq!(count(web.get("/api/v1/incidents?status=open").await.json()), 4);
    assert_eq!(count(web.get("/api/v1/incidents?status=resolved&monitor=shop").await.json()), 1);
    assert_eq!(count(web.get("/api/v1/incidents?monitor=api").await.json()), 0);
    let whole = web.get(&format!("/api/v1/incidents/{}", uids[4])).await.json();
    let kinds: Vec<&str> = whole["timeline"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["opened", "resolved"]);
    assert_eq!(whole["notices"].as_array().unwrap().len(), 2);
    assert_eq!(whole["notices"][0]["channel"], "hook");
    assert_eq!(whole["monitor"]["name"], "shop");
    web.stop().await;
}

#[tokio::test]
async fn what_is_not_accepted_is_named() {
    let web = TestWeb::start().await;
    let cases = [
        ("/api/v1/monitors?limit=0", "1 to 500"),
        ("/api/v1/monitors?limit=501", "1 to 500"),
        ("/api/v1/monitors?limit=x", "limit"),
        ("/api/v1/monitors?limt=5", "limt"),
        ("/api/v1/monitors?after=%00", "NUL"),
        ("/api/v1/monitors/%ff", "UTF-8"),
        ("/api/v1/monitors/a%00b", "NUL"),
        ("/api/v1/monitors/shop/heartbeats?before=yesterday", "2026-01-31T12:00:00Z"),
        ("/api/v1/monitors/shop/metrics?period=2h", "1h, 6h, 24h, 7d, 30d, 90d"),
        ("/api/v1/incidents?status=broken", "open, acknowledged, resolved"),
        ("/api/v1/incidents?before=17", "2026-01-31T12:00:00Z"),
        ("/api/v1/incidents/%ff", "UTF-8"),
        ("/api/v1/stream/events?last_event_id=-1", "id of an event"),
        ("/api/v1/stream/events?last_event_id=new", "id of an event"),
    ];
    for (path, named) in cases {
        let answer = web.get(path).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::BAD_REQUEST, "bad_request"), "{path}");
        assert!(answer.body.contains(named), "{path} should name {named}: {}", answer.body);
    }
    for absent in
        ["/api/v1/monitors/nothing", "/api/v1/monitors/%F0%9F%92%A5", "/api/v1/incidents/nothing", "/api/v1/monitors/%27%20OR%201=1--"]
    {
        assert_eq!(web.get(absent).await.error_code(), "not_found", "{absent}");
    }
    for nowhere in ["/assets", "/api", "/api/v1", "/api/v2/monitors", "/metrics/", "/ping", "/api/v1/monitors/a/b"] {
        assert_eq!(web.get(nowhere).await.error_code(), "no_route", "{nowhere}");
    }
    web.stop().await;
}

#[tokio::test]
async fn methods_and_bodies_have_their_limits() {
    let web = TestWeb::start().await;
    for (method, path) in
        [(Method::DELETE, "/api/v1/monitors"), (Method::POST, "/api/v1/uptime"), (Method::GET, "/-/reload"), (Method::PUT, "/health")]
    {
        let answer = web.call(method.clone(), path, Some(&web.admin), &[], Bytes::new()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert_eq!(answer.error_code(), "method_not_allowed");
        assert!(answer.headers.contains_key("allow"), "{method} {path} says what is allowed");
    }
    let head = web.call(Method::HEAD, "/api/v1/monitors", Some(&web.viewer), &[], Bytes::new()).await;
    assert_eq!((head.status, head.body.as_str()), (StatusCode::OK, ""));
    let large = Bytes::from(vec![b'x'; web::BODY_MAX as usize + 1]);
    let answer = web.call(Method::POST, "/-/reload", Some(&web.admin), &[], large).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
    let long = format!("Bearer wk_{}", "a".repeat(10_000));
    let answer = web.call(Method::GET, "/api/v1/monitors", None, &[("authorization", &long)], Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    web.stop().await;
}

#[tokio::test]
async fn a_header_without_end_does_not_keep_a_connection_or_stop_others() {
    let web = TestWeb::start().await;
    let mut endless = TcpStream::connect(web.address).await.unwrap();
    endless.write_all(b"GET /health HTTP/1.1\r\n").await.unwrap();
    let line = format!("x-filler: {}\r\n", "a".repeat(1_000));
    let refused = async {
        // Beyond the limit the server answers 431 and closes; writing fails then, or reading ends.
        for _ in 0..200 {
            if endless.write_all(line.as_bytes()).await.is_err() {
                break;
            }
        }
        let mut answer = Vec::new();
        let _ = endless.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = tokio::time::timeout(LONG, refused).await.expect("the connection is ended");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(web.get("/health").await.status, StatusCode::OK);
    web.stop().await;
}

#[tokio::test]
async fn health_lives_and_ready_says_what_is_wrong() {
    let web = TestWeb::start().await;
    for path in ["/health", "/healthz"] {
        assert_eq!(web.call(Method::GET, path, None, &[], Bytes::new()).await.json()["status"], "ok");
    }
    let ready = |path| web.call(Method::GET, path, None, &[], Bytes::new());
    assert_eq!(ready("/ready").await.status, StatusCode::OK);
    let works = web.ready.borrow().clone();
    web.ready.send_replace(Readiness { store: Err("a batch could not be committed".into()), schedule_lag: Dur::secs(60), ..works.clone() });
    for path in ["/ready", "/readyz"] {
        let answer = ready(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.json()["problems"].as_array().unwrap().len(), 2, "{}", answer.body);
        assert!(answer.body.contains("store: a batch could not be committed"), "{}", answer.body);
    }
    web.ready.send_replace(Readiness { reload_problem: Some("wk.yaml:1:1".into()), ..works });
    let answer = ready("/ready").await;
    assert_eq!((answer.status, answer.json()["warnings"][0].as_str()), (StatusCode::OK, Some("configuration: wk.yaml:1:1")));
    web.stop().await;
}

#[tokio::test]
async fn a_reload_is_for_the_owners_administrators_and_answers_what_came_of_it() {
    let mut web = TestWeb::start().await;
    let objects = watchkeeper::store::TenantObjects { tenant: "default".into(), ..Default::default() };
    let applied = web.world.store().apply("own", "hash-own", &[objects], Mandate::Alone, Beside::default(), web.clock.now()).await.unwrap();
    let scope = watchkeeper::store::TenantScope(applied.tenants[0].tenant);
    let owner = web::auth::create_token(web.world.store(), scope, "owner", Role::Admin, web.clock.now()).await.unwrap();
    let owner = secrecy::ExposeSecret::expose_secret(&owner).to_owned();
    for (result, status) in [
        (Ok("2 monitors changed".to_owned()), StatusCode::OK),
        (Err(vec!["wk.yaml:1:1: no".to_owned(), "wk.yaml:2:1: no".to_owned()]), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let address = web.address;
        let asked = {
            let owner = owner.clone();
            tokio::spawn(async move { call(address, Method::POST, "/-/reload", Some(&owner), &[], Bytes::new()).await })
        };
        let request = tokio::time::timeout(LONG, web.reloads.recv()).await.unwrap().unwrap();
        request.send(result.clone()).unwrap();
        let answer = asked.await.unwrap();
        assert_eq!(answer.status, status);
        let words = result.unwrap_or_else(|problems| problems[1].clone());
        assert!(answer.body.contains(&words), "{}", answer.body);
    }
    let answer = web.call(Method::POST, "/-/reload", Some(&web.admin), &[], Bytes::new()).await;
    assert_eq!(answer.error_code(), "forbidden", "an administrator of another tenant may not");
    assert!(web.reloads.try_recv().is_err(), "and nobody was asked");
    web.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_is_said_without_its_words() {
    let web = TestWeb::start().await;
    web.world.t.store.close().await;
    let answer = web.get("/api/v1/monitors").await;
    assert!(answer.status.is_server_error(), "{}", answer.body);
    assert!(["store_unavailable", "internal"].contains(&answer.error_code().as_str()));
    for inner in ["sql", "SELECT", "pool", "wk_token"] {
        assert!(!answer.body.contains(inner), "{} says {inner}", answer.body);
    }
    web.stop().await;
}

#[tokio::test]
async fn others_are_not_served_while_there_is_no_token() {
    let store = crate::support::store::TestStore::sqlite().await;
    let web = TestWeb::start_with(|state| state.store = store.store.clone()).await;
    // The loopback server of the same store serves; one that others can reach is refused.
    assert_eq!(web.get("/health").await.status, StatusCode::OK);
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let (_fleet, fleet) = tokio::sync::watch::channel(watchkeeper::spec::Fleet::default());
    let (_ready, ready) = tokio::sync::watch::channel(Readiness::default());
    let state = web::WebState {
        store: store.store.clone(),
        live: web.live.clone(),
        fleet,
        channels: web.channels.subscribe(),
        pages: web.pages.subscribe(),
        made: tokio::sync::watch::channel(Arc::default()).1,
        net: Arc::new(watchkeeper::net::Net::system(web.clock.clone())),
        metrics: std::sync::Arc::new(watchkeeper::telemetry::Metrics::new()),
        clock: web.clock.clone(),
        control: web::Control {
            wake_pushes: web.wake_pushes.clone(),
            wake_actions: std::sync::Arc::default(),
            wake_channels: std::sync::Arc::new(|| {}),
            mended: std::sync::Arc::new(|_| {}),
            reload: tokio::sync::mpsc::channel(1).0,
            documents: tokio::sync::mpsc::channel(1).0,
            ready,
        },
        metrics_token: None,
        trust: Arc::default(),
        oidc: None,
        node: "test".to_owned(),
        store_kind: "sqlite",
    };
    let refused = web::serve(listener, state, CancellationToken::new()).await;
    assert!(matches!(refused, Err(ServeError::Unprotected(_))), "{refused:?}");
    web.stop().await;
}

#[tokio::test]
async fn the_first_start_makes_one_token_and_later_ones_none() {
    let web = TestWeb::start().await;
    let store = crate::support::store::TestStore::sqlite().await;
    let applied = store.store.apply("files", "h", &world::objects(), Mandate::Alone, Beside::default(), web.clock.now()).await.unwrap();
    let scope = watchkeeper::store::TenantScope(applied.tenants[0].tenant);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wk.db.token");
    let token = web::auth::first_token(&*store.store, scope, &file, web.clock.now()).await.unwrap().expect("the first start makes one");
    let token = secrecy::ExposeSecret::expose_secret(&token).to_owned();
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), token);
    assert!(token.starts_with("wk_") && token.len() == 46, "{} characters", token.len());
    assert!(web::auth::first_token(&*store.store, scope, &file, web.clock.now()).await.unwrap().is_none(), "the second start makes none");
    web.stop().await;
}

#[test]
fn every_route_is_documented() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md")).unwrap();
    for route in web::routes() {
        assert!(docs.contains(&format!("{}`", route.path)), "docs/api.md does not name {}", route.path);
        for method in route.methods {
            let said = docs.lines().any(|line| line.contains(&format!("{}`", route.path)) && line.contains(method.as_str()));
            assert!(said, "docs/api.md does not say that {} takes {method}", route.path);
        }
    }
}
