//! People: the first user, signing in and out, what a session may do and where it ends, users and tokens over the API, the audit log.

use crate::support::web::{Answer, LONG, TestWeb, open};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use watchkeeper::store::{Beside, Mandate, NewSession, NewUser, TenantObjects, TenantScope, UserChange};
use watchkeeper::web::auth::password::{self, Hidden};
use watchkeeper::web::auth::{Role, create_token, hash_of};
use watchkeeper::web::sign_in::plain_code;

pub const PASSWORD: &str = "four plain words here";

/// Makes a user behind the API's back.
pub async fn made(web: &TestWeb, scope: TenantScope, name: &str, role: Role) {
    static STORED: OnceLock<String> = OnceLock::new();
    let password = STORED.get_or_init(|| password::hash(&Hidden(PASSWORD.to_owned())).unwrap());
    let user = NewUser {
        uid: format!("uid-{name}"),
        name: name.to_owned(),
        login: name.to_lowercase(),
        password: Some(password.clone()),
        role: role.as_str().to_owned(),
    };
    assert!(web.world.store().accounts().create_user(scope, &user, web.clock.now()).await.unwrap(), "{name} is new");
}

/// Who calls from the page: the cookie of a session.
#[derive(Clone, Debug)]
pub struct Page {
    pub cookie: String,
}

impl Page {
    pub async fn call(&self, web: &TestWeb, method: Method, path: &str, body: Value) -> Answer {
        let headers = [("cookie", self.cookie.as_str()), ("x-watchkeeper-page", "1")];
        web.call(method, path, None, &headers, Bytes::from(if body.is_null() { String::new() } else { body.to_string() })).await
    }

    pub async fn get(&self, web: &TestWeb, path: &str) -> Answer {
        self.call(web, Method::GET, path, Value::Null).await
    }
}

/// A POST of somebody whom nobody knows yet, from the page.
async fn stranger(web: &TestWeb, path: &str, body: &Value) -> Answer {
    web.call(Method::POST, path, None, &[("x-watchkeeper-page", "1")], Bytes::from(body.to_string())).await
}

/// The cookie that an answer sets, as a browser sends it back.
fn cookie_of(answer: &Answer) -> String {
    let set = answer.headers["set-cookie"].to_str().unwrap();
    set.split(';').next().unwrap().to_owned()
}

/// Signs in as the page does.
pub async fn signed_in(web: &TestWeb, name: &str) -> Page {
    let answer = stranger(web, "/api/v1/auth/login", &json!({ "name": name, "password": PASSWORD })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    Page { cookie: cookie_of(&answer) }
}

/// The cookie of a session that was begun behind the API's back: signing in has limits.
pub async fn session_of(web: &TestWeb, scope: TenantScope, name: &str) -> String {
    let account = web.world.store().accounts().account(&name.to_lowercase()).await.unwrap().unwrap();
    let secret = format!("wks_{name}").replace(' ', "_");
    let password = account.password.as_deref();
    let begun = NewSession { hash: hash_of(&secret), user: account.id, tenant: scope.0, address: "127.0.0.1", password };
    assert!(web.world.store().accounts().open_session(&begun, web.clock.now()).await.unwrap());
    format!("watchkeeper={secret}")
}

#[tokio::test]
async fn the_first_user_needs_the_code_and_is_an_administrator_of_the_installation() {
    let web = TestWeb::start().await;
    let store = web.world.store();
    let objects = TenantObjects { tenant: "default".into(), channels: vec![], monitors: vec![], maintenance: vec![] };
    store.apply("own", "h", &[objects], Mandate::Alone, Beside::default(), web.clock.now()).await.unwrap();
    let about = async || web.call(Method::GET, "/api/v1/auth", None, &[], Bytes::new()).await.json();
    assert_eq!(about().await, json!({ "setup": false, "password": false, "oidc": null }), "no start has printed a code");
    let code = Hidden("ABCD-EFGH-JKLM-NPQR".to_owned());
    store.accounts().offer_setup("here", &hash_of(&plain_code(&code)), web.clock.now()).await.unwrap();
    assert_eq!(about().await["setup"], true);

    let asked = |code: &str, password: &str| json!({ "code": code, "name": "Ann", "password": password });
    let refused = stranger(&web, "/api/v1/auth/setup", &asked("ABCD-EFGH-JKLM-NPQQ", PASSWORD)).await;
    assert_eq!((refused.status, refused.error_code().as_str()), (StatusCode::UNAUTHORIZED, "wrong_code"));
    assert!(!refused.headers.contains_key("set-cookie"));
    let weak = stranger(&web, "/api/v1/auth/setup", &asked(&code.0, "short")).await;
    assert_eq!(weak.status, StatusCode::BAD_REQUEST);
    assert!(!store.accounts().has_users().await.unwrap());

    let first = stranger(&web, "/api/v1/auth/setup", &asked("abcd efgh jklm npqr", PASSWORD)).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.body);
    assert_eq!(first.json(), json!({ "name": "Ann", "role": "admin", "tenant": "default" }), "the secret is in the cookie alone");
    let ann = Page { cookie: cookie_of(&first) };
    let me = ann.get(&web, "/api/v1/me").await.json();
    assert_eq!((me["name"].as_str(), me["role"].as_str(), me["tenant"].as_str()), (Some("Ann"), Some("admin"), Some("default")));

    assert_eq!(about().await["setup"], false);
    let second = stranger(&web, "/api/v1/auth/setup", &json!({ "code": code.0, "name": "Eve", "password": PASSWORD })).await;
    assert_eq!((second.status, second.error_code().as_str()), (StatusCode::CONFLICT, "already_set_up"));
    let log = ann.get(&web, "/api/v1/audit").await.json();
    assert_eq!((&log["items"][0]["actor"], &log["items"][0]["action"]), (&json!("Ann"), &json!("became the first administrator")));
    assert_eq!(log["items"][0]["address"], "127.0.0.1");
    web.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_are_answered_alike_and_after_the_same_work() {
    let web = TestWeb::start().await;
    made(&web, web.world.acme(), "Ann", Role::Operator).await;
    let ask = async |name: &str| {
        let begun = Instant::now();
        let answer = stranger(&web, "/api/v1/auth/login", &json!({ "name": name, "password": "another password" })).await;
        (answer, begun.elapsed())
    };
    let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
    for nth in 0..4 {
        let (wrong, took) = ask("ann").await;
        known = known.min(took);
        let (nobody, took) = ask(&format!("nobody {nth}")).await;
        unknown = unknown.min(took);
        assert_eq!((wrong.status, wrong.error_code().as_str()), (StatusCode::UNAUTHORIZED, "wrong_password"));
        assert_eq!((wrong.status, &wrong.body), (nobody.status, &nobody.body));
        assert!(!wrong.headers.contains_key("set-cookie"));
    }
    // Hashing takes nearly all of it: without it, the answer would come in a tenth of the time.
    assert!(unknown * 2 > known && known * 2 > unknown, "{known:?} for a known name, {unknown:?} for an unknown one");
    for far_too_long in ["x".repeat(20_000), String::new()] {
        assert_eq!(ask(&far_too_long).await.0.error_code(), "wrong_password");
    }
    let right = signed_in(&web, " ANN ").await;
    assert_eq!(right.get(&web, "/api/v1/me").await.json()["name"], "Ann");
    web.stop().await;
}

#[tokio::test]
async fn attempts_are_limited_by_account_and_by_address_and_what_is_signed_in_goes_on() {
    let web = TestWeb::start().await;
    made(&web, web.world.acme(), "ann", Role::Operator).await;
    let ann = signed_in(&web, "ann").await;
    let attempt = async |name: String| stranger(&web, "/api/v1/auth/login", &json!({ "name": name, "password": "another password" })).await;
    let mut refused = None;
    for nth in 1..=10 {
        let answer = attempt("ann".to_owned()).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some((nth, answer));
            break;
        }
    }
    let (nth, answer) = refused.expect("there is a limit");
    assert_eq!((nth, answer.headers["retry-after"].to_str().unwrap()), (10, "30"), "one was used to sign in");
    assert_eq!(ann.get(&web, "/api/v1/me").await.status, StatusCode::OK);
    let mut others = 0;
    while attempt(format!("guess {others}")).await.status == StatusCode::UNAUTHORIZED {
        others += 1;
        assert!(others < 30, "the address has a limit too");
    }
    assert!(others >= 5, "{others}");
    assert_eq!(ann.get(&web, "/api/v1/me").await.status, StatusCode::OK);
    web.stop().await;
}

#[tokio::test]
async fn a_session_in_a_cookie_acts_only_from_the_page_and_ends_when_it_is_told_to() {
    let web = TestWeb::start().await;
    made(&web, web.world.acme(), "ann", Role::Operator).await;
    let ann = signed_in(&web, "ann").await;
    assert_eq!(ann.get(&web, "/api/v1/monitors/shop").await.status, StatusCode::OK);
    let silence = json!({ "all": true, "for": "1h", "comment": "x" });
    let cookie = ("cookie", ann.cookie.as_str());
    for foreign in [
        vec![cookie],
        vec![cookie, ("origin", "https://evil.example.org")],
        vec![cookie, ("x-watchkeeper-page", "1"), ("sec-fetch-site", "cross-site")],
        vec![cookie, ("x-watchkeeper-page", "1"), ("sec-fetch-site", "same-site")],
    ] {
        let answer = web.call(Method::POST, "/api/v1/silences", None, &foreign, Bytes::from(silence.to_string())).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::FORBIDDEN, "not_from_the_page"), "{foreign:?}");
    }
    // A browser asks before a script of another origin may set our header; the answer allows nothing.
    let asked = [cookie, ("origin", "https://evil.example.org"), ("access-control-request-headers", "x-watchkeeper-page")];
    let preflight = web.call(Method::OPTIONS, "/api/v1/silences", None, &asked, Bytes::new()).await;
    assert!(!preflight.status.is_success() && preflight.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
    assert_eq!(ann.get(&web, "/api/v1/silences").await.json()["items"], json!([]), "nothing was begun");

    let begun = ann.call(&web, Method::POST, "/api/v1/silences", silence).await;
    assert_eq!((begun.status, &begun.json()["author"]), (StatusCode::CREATED, &json!("ann")));
    let out = ann.call(&web, Method::POST, "/api/v1/auth/logout", Value::Null).await;
    assert_eq!(out.status, StatusCode::OK);
    assert!(out.headers.get_all("set-cookie").iter().all(|cookie| cookie.to_str().unwrap().contains("Max-Age=0")));
    assert_eq!(ann.get(&web, "/api/v1/me").await.status, StatusCode::UNAUTHORIZED, "the secret is worth nothing now");
    web.stop().await;
}

#[tokio::test]
async fn over_tls_the_cookie_never_goes_without() {
    let web = TestWeb::start().await;
    made(&web, web.world.acme(), "ann", Role::Viewer).await;
    let asked = json!({ "name": "ann", "password": PASSWORD }).to_string();
    let headers = [("x-watchkeeper-page", "1"), ("origin", "https://wk.example.org"), ("sec-fetch-site", "same-origin")];
    let answer = web.call(Method::POST, "/api/v1/auth/login", None, &headers, Bytes::from(asked)).await;
    let set = answer.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(set.starts_with("__Host-watchkeeper=wks_") && set.contains("; Secure") && set.contains("; HttpOnly"), "{set}");
    assert!(set.contains("; SameSite=Strict") && set.contains("; Path=/"), "{set}");
    let page = Page { cookie: format!("watchkeeper=wks_planted; {}", cookie_of(&answer)) };
    assert_eq!(page.get(&web, "/api/v1/me").await.json()["name"], "ann", "a planted one does not win");
    web.stop().await;
}

#[tokio::test]
async fn who_is_no_page_gets_a_bearer_token_and_no_cookie() {
    let web = TestWeb::start().await;
    made(&web, web.world.acme(), "ann@example.org", Role::Operator).await;
    let asked = json!({ "email": "ann@example.org", "password": PASSWORD }).to_string();
    let answer = web.call(Method::POST, "/api/v1/auth/login", None, &[], Bytes::from(asked)).await;
    assert!(!answer.headers.contains_key("set-cookie"));
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("wks_"), "{token}");
    assert_eq!(web.get_as("/api/v1/me", &token).await.json()["role"], "operator");
    assert_eq!(web.post_as("/api/v1/silences", &token, r#"{"all":true,"for":"1h","comment":"x"}"#).await.status, StatusCode::CREATED);
    assert_eq!(web.post_as("/api/v1/auth/logout", &token, "").await.status, StatusCode::OK);
    assert_eq!(web.get_as("/api/v1/me", &token).await.status, StatusCode::UNAUTHORIZED);
    web.stop().await;
}

#[tokio::test]
async fn the_live_stream_is_read_with_a_cookie_too() {
    let mut web = TestWeb::start().await;
    made(&web, web.world.acme(), "ann", Role::Viewer).await;
    let ann = signed_in(&web, "ann").await;
    let headers = [("cookie", ann.cookie.as_str())];
    let mut stream = open(web.address, Method::GET, "/api/v1/stream/events", None, &headers, Bytes::new()).await;
    assert_eq!(stream.status(), StatusCode::OK);
    web.happens(web.world.shop, 1..2).await;
    let mut read = String::new();
    while !read.contains("event: monitor_state") {
        let frame = tokio::time::timeout(LONG, stream.body_mut().frame()).await.expect("an event in time");
        read.push_str(&String::from_utf8_lossy(frame.expect("the stream goes on").unwrap().data_ref().unwrap()));
    }
    assert!(read.starts_with("event: connected"), "{read}");
    drop(stream);
    web.stop().await;
}

#[tokio::test]
async fn administrators_make_change_and_remove_users_of_their_tenant() {
    let web = TestWeb::start().await;
    made(&web, web.world.acme(), "ann", Role::Admin).await;
    made(&web, web.world.zenith(), "zoe", Role::Admin).await;
    let ann = signed_in(&web, "ann").await;
    let new = json!({ "name": "Bob", "role": "viewer", "password": PASSWORD });
    let bob = ann.call(&web, Method::POST, "/api/v1/users", new.clone()).await;
    assert_eq!(bob.status, StatusCode::CREATED, "{}", bob.body);
    assert!(!bob.body.contains("argon2") && !bob.body.contains("plain words"), "{}", bob.body);
    let path = format!("/api/v1/users/{}", bob.json()["uid"].as_str().unwrap());
    for (bad, code) in [
        (new.clone(), "name_taken"),
        (json!({ "name": "ZOE", "role": "viewer", "password": PASSWORD }), "name_taken"),
        (json!({ "name": "carl", "role": "emperor", "password": PASSWORD }), "bad_request"),
        (json!({ "name": "carl", "role": "viewer", "password": "short" }), "bad_request"),
        (json!({ "name": "c\u{202e}arl", "role": "viewer", "password": PASSWORD }), "bad_request"),
        (json!({ "name": " ", "role": "viewer", "password": PASSWORD }), "bad_request"),
    ] {
        let refused = ann.call(&web, Method::POST, "/api/v1/users", bad.clone()).await;
        assert_eq!(refused.error_code(), code, "{bad}");
        assert!(!refused.body.contains("plain words"), "{}", refused.body);
    }
    let names = ann.get(&web, "/api/v1/users").await.json();
    let names: Vec<&str> = names["items"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ann", "Bob"], "zoe is another tenant's");

    let theirs = signed_in(&web, "bob").await;
    assert_eq!(theirs.get(&web, "/api/v1/users").await.status, StatusCode::FORBIDDEN);
    let changed = ann.call(&web, Method::PATCH, &path, json!({ "role": "admin" })).await;
    assert_eq!((changed.status, &changed.json()["role"]), (StatusCode::OK, &json!("admin")));
    assert_eq!(theirs.get(&web, "/api/v1/users").await.status, StatusCode::OK, "at once, also for a session that was there");
    let own = format!("/api/v1/users/{}", "uid-ann");
    for (method, body) in [(Method::PATCH, json!({ "role": "viewer" })), (Method::DELETE, Value::Null)] {
        assert_eq!(ann.call(&web, method, &own, body).await.error_code(), "own_account");
    }
    for method in [Method::PATCH, Method::DELETE] {
        assert_eq!(ann.call(&web, method, "/api/v1/users/uid-zoe", json!({})).await.error_code(), "not_found", "another tenant's");
    }
    let reset = ann.call(&web, Method::PATCH, &path, json!({ "password": "another four words" })).await;
    assert_eq!(reset.status, StatusCode::OK, "{}", reset.body);
    assert_eq!(theirs.get(&web, "/api/v1/me").await.status, StatusCode::UNAUTHORIZED, "a reset ends the sessions");
    assert_eq!(ann.call(&web, Method::DELETE, &path, Value::Null).await.status, StatusCode::OK);
    assert_eq!(ann.call(&web, Method::DELETE, &path, Value::Null).await.status, StatusCode::NOT_FOUND);

    let log = ann.get(&web, "/api/v1/audit?limit=500").await;
    assert!(!log.body.contains("words") && !log.body.contains("argon2"), "no secret: {}", log.body);
    let log = log.json();
    let log: Vec<(&str, i64, &str)> = log["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["action"].as_str().unwrap(), entry["status"].as_i64().unwrap(), entry["detail"].as_str().unwrap()))
        .collect();
    let gone = format!("DELETE {path}");
    assert_eq!(log[..2], [(gone.as_str(), 404, ""), (gone.as_str(), 200, "Bob")]);
    assert!(log.contains(&(format!("PATCH {path}").as_str(), 200, "Bob, role admin instead of viewer")), "{log:?}");
    assert!(log.contains(&("POST /api/v1/users", 409, "")), "{log:?}");
    assert!(log.contains(&("signed in", 200, "")), "{log:?}");
    let foreign = web.get_as("/api/v1/audit", &web.foreign).await.json();
    assert_eq!(foreign["items"], json!([]), "another tenant's log is its own");
    web.stop().await;
}

#[tokio::test]
async fn an_account_of_another_tenant_is_a_member_and_no_more() {
    let web = TestWeb::start().await;
    made(&web, web.world.zenith(), "zoe", Role::Admin).await;
    web.world.store().accounts().admit_user(web.world.acme(), "zoe", "viewer").await.unwrap();
    let patch =
        async |body: Value| web.call(Method::PATCH, "/api/v1/users/uid-zoe", Some(&web.admin), &[], Bytes::from(body.to_string())).await;
    for beyond in [json!({ "password": "another four words" }), json!({ "second_factor": false })] {
        assert_eq!(patch(beyond.clone()).await.error_code(), "forbidden", "{beyond}");
    }
    assert_eq!(patch(json!({ "role": "operator" })).await.json()["role"], "operator");
    let at_home = signed_in(&web, "zoe").await;
    assert_eq!(at_home.get(&web, "/api/v1/me").await.json()["tenant"], "zenith");
    let asked = json!({ "name": "zoe", "password": PASSWORD, "tenant": "acme" });
    let here = stranger(&web, "/api/v1/auth/login", &asked).await;
    assert_eq!((&here.json()["tenant"], &here.json()["role"]), (&json!("acme"), &json!("operator")));
    let nowhere = json!({ "name": "zoe", "password": PASSWORD, "tenant": "elsewhere" });
    assert_eq!(stranger(&web, "/api/v1/auth/login", &nowhere).await.error_code(), "forbidden");
    let here = Page { cookie: cookie_of(&here) };
    let gone = web.call(Method::DELETE, "/api/v1/users/uid-zoe", Some(&web.admin), &[], Bytes::new()).await;
    assert_eq!(gone.status, StatusCode::OK);
    assert_eq!(here.get(&web, "/api/v1/me").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(at_home.get(&web, "/api/v1/me").await.status, StatusCode::OK, "the account is not acme's to remove");
    web.stop().await;
}

/// What a person with several tenants asks for in one of them.
async fn in_tenant(web: &TestWeb, page: &Page, tenant: &str, method: Method, path: &str, body: Value) -> Answer {
    let headers = [("cookie", page.cookie.as_str()), ("x-watchkeeper-page", "1"), ("x-tenant-id", tenant)];
    web.call(method, path, None, &headers, Bytes::from(if body.is_null() { String::new() } else { body.to_string() })).await
}

#[tokio::test]
async fn whoever_belongs_to_several_tenants_says_which_one_is_meant() {
    let mut web = TestWeb::start().await;
    made(&web, web.world.zenith(), "zoe", Role::Admin).await;
    made(&web, web.world.zenith(), "carl", Role::Admin).await;
    let admit = async |name: &str| {
        let body = json!({ "name": name, "role": "operator" }).to_string();
        web.call(Method::POST, "/api/v1/members", Some(&web.admin), &[], Bytes::from(body)).await
    };
    let zoe = signed_in(&web, "zoe").await;
    let tenants = async || zoe.get(&web, "/api/v1/tenants").await.json()["items"].clone();
    let at_home = json!({ "id": "zenith", "role": "admin", "current": true });
    assert_eq!(tenants().await, json!([at_home]));
    let before = in_tenant(&web, &zoe, "acme", Method::GET, "/api/v1/me", Value::Null).await;
    assert_eq!((before.status, before.error_code().as_str()), (StatusCode::FORBIDDEN, "forbidden"));

    // The other tenant's administrator learns that there is an account of that name, and nothing else of it.
    let admitted = admit("ZOE").await;
    assert_eq!(admitted.status, StatusCode::CREATED, "{}", admitted.body);
    let told = json!({ "uid": "uid-zoe", "name": "zoe", "role": "operator", "own": false, "password": null, "second_factor": null,
        "created_at": null, "seen_at": null });
    assert_eq!(admitted.json(), told);
    assert_eq!(admit("zoe").await.error_code(), "is_member", "the role that is there stays");
    assert_eq!(admit("nobody").await.error_code(), "not_found");
    assert_eq!(tenants().await, json!([{ "id": "acme", "role": "operator", "current": false }, at_home]));

    // What is asked for in one is of that one alone, with the role there.
    let me = in_tenant(&web, &zoe, "acme", Method::GET, "/api/v1/me", Value::Null).await.json();
    assert_eq!((&me["tenant"], &me["role"], &me["user"]), (&json!("acme"), &json!("operator"), &json!("uid-zoe")));
    let info = in_tenant(&web, &zoe, "acme", Method::GET, "/api/v1/tenant/info", Value::Null).await.json();
    assert_eq!((&info["id"], &info["role"], &info["members"]), (&json!("acme"), &json!("operator"), &json!(1)));
    assert_eq!(zoe.get(&web, "/api/v1/tenant/info").await.json()["members"], 2);
    assert_eq!(
        in_tenant(&web, &zoe, "acme", Method::GET, "/api/v1/users", Value::Null).await.status,
        StatusCode::FORBIDDEN,
        "no admin here"
    );
    let silence = json!({ "all": true, "for": "1h", "comment": "x" });
    let begun = in_tenant(&web, &zoe, "acme", Method::POST, "/api/v1/silences", silence).await;
    assert_eq!((begun.status, &begun.json()["author"]), (StatusCode::CREATED, &json!("zoe")));
    let silences =
        async |tenant: &str| in_tenant(&web, &zoe, tenant, Method::GET, "/api/v1/silences", Value::Null).await.json()["items"].clone();
    assert_eq!((silences("acme").await.as_array().unwrap().len(), silences("zenith").await), (1, json!([])));
    let log = web.get_as("/api/v1/audit", &web.admin).await.json();
    assert_eq!((&log["items"][0]["action"], &log["items"][0]["actor"]), (&json!("POST /api/v1/silences"), &json!("zoe")));

    // The stream is that tenant's, and another's events are not in it.
    let headers = [("cookie", zoe.cookie.as_str()), ("x-tenant-id", "acme")];
    let mut stream = open(web.address, Method::GET, "/api/v1/stream/events", None, &headers, Bytes::new()).await;
    assert_eq!(stream.status(), StatusCode::OK);
    let here = open(web.address, Method::GET, "/api/v1/stream/events", None, &headers[..1], Bytes::new()).await;
    web.happens(web.world.shop, 1..2).await;
    let mut read = String::new();
    while !read.contains("event: monitor_state") {
        let frame = tokio::time::timeout(LONG, stream.body_mut().frame()).await.expect("an event in time");
        read.push_str(&String::from_utf8_lossy(frame.expect("the stream goes on").unwrap().data_ref().unwrap()));
    }
    let mut here = here.into_body();
    let mut other = String::new();
    while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_secs(3), here.frame()).await {
        other.push_str(&String::from_utf8_lossy(frame.unwrap().data_ref().unwrap()));
    }
    assert!(other.starts_with("event: connected") && !other.contains("monitor_state"), "{other}");
    drop((stream, here));

    // A token has one tenant; and whoever is a member no more is nobody there at once.
    let by_token =
        async |tenant: &str| web.call(Method::GET, "/api/v1/me", Some(&web.viewer), &[("x-tenant-id", tenant)], Bytes::new()).await.status;
    assert_eq!((by_token("acme").await, by_token("zenith").await), (StatusCode::OK, StatusCode::FORBIDDEN));
    let gone = web.call(Method::DELETE, "/api/v1/users/uid-zoe", Some(&web.admin), &[], Bytes::new()).await;
    assert_eq!(gone.status, StatusCode::OK);
    assert_eq!(in_tenant(&web, &zoe, "acme", Method::GET, "/api/v1/me", Value::Null).await.status, StatusCode::FORBIDDEN);
    assert_eq!(zoe.get(&web, "/api/v1/me").await.status, StatusCode::OK);
    web.stop().await;
}

#[tokio::test]
async fn ones_own_password_needs_the_old_one_and_ends_the_other_sessions() {
    let web = TestWeb::start().await;
    made(&web, web.world.acme(), "ann", Role::Viewer).await;
    let (here, there) = (signed_in(&web, "ann").await, signed_in(&web, "ann").await);
    let put = async |old: &str, new: &str| here.call(&web, Method::PUT, "/api/v1/me/password", json!({ "old": old, "new": new })).await;
    assert_eq!(put("not the old one", "another four words").await.error_code(), "forbidden");
    assert_eq!(put(PASSWORD, "short").await.error_code(), "bad_request");
    assert_eq!(there.get(&web, "/api/v1/me").await.status, StatusCode::OK);
    assert_eq!(put(PASSWORD, "another four words").await.status, StatusCode::OK);
    assert_eq!(here.get(&web, "/api/v1/me").await.status, StatusCode::OK);
    assert_eq!(there.get(&web, "/api/v1/me").await.status, StatusCode::UNAUTHORIZED);
    let old = stranger(&web, "/api/v1/auth/login", &json!({ "name": "ann", "password": PASSWORD })).await;
    assert_eq!(old.error_code(), "wrong_password");
    let token = web.call(Method::PUT, "/api/v1/me/password", Some(&web.admin), &[], Bytes::from(r#"{"old":"a","new":"b"}"#)).await;
    assert_eq!(token.error_code(), "forbidden", "a token has no password");
    web.stop().await;
}

#[tokio::test]
async fn tokens_are_made_shown_once_listed_and_ended() {
    let web = TestWeb::start().await;
    made(&web, web.world.acme(), "ann", Role::Admin).await;
    let ann = signed_in(&web, "ann").await;
    let made = ann.call(&web, Method::POST, "/api/v1/tokens", json!({ "name": "grafana", "role": "viewer", "for": "90d" })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let secret = made.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(web.get_as("/api/v1/me", &secret).await.json()["name"], "grafana");
    let listed = ann.get(&web, "/api/v1/tokens").await;
    assert!(!listed.body.contains(&secret), "shown once");
    let listed = listed.json();
    let grafana = listed["items"].as_array().unwrap().iter().find(|token| token["name"] == "grafana").unwrap();
    assert_eq!((&grafana["made_by"], grafana["prefix"].as_str().unwrap()), (&json!("ann"), &secret[..9]));
    assert!(grafana["expires_at"].is_string());
    for bad in [
        json!({ "name": "x", "role": "viewer", "for": "0s" }),
        json!({ "name": "", "role": "viewer" }),
        json!({ "name": "x", "role": "x" }),
    ] {
        assert_eq!(ann.call(&web, Method::POST, "/api/v1/tokens", bad.clone()).await.error_code(), "bad_request", "{bad}");
    }
    let path = format!("/api/v1/tokens/{}", grafana["id"]);
    let foreign = web.call(Method::DELETE, &path, Some(&web.foreign), &[], Bytes::new()).await;
    assert_eq!(foreign.error_code(), "not_found");
    assert_eq!(ann.call(&web, Method::DELETE, &path, Value::Null).await.status, StatusCode::OK);
    assert_eq!(web.get_as("/api/v1/me", &secret).await.status, StatusCode::UNAUTHORIZED, "at once");
    let log = ann.get(&web, "/api/v1/audit").await;
    assert!(!log.body.contains(&secret[9..]), "{}", log.body);
    web.stop().await;
}

#[tokio::test]
async fn every_change_is_in_the_log_with_who_and_from_where_also_one_by_a_token() {
    let web = TestWeb::start().await;
    let begun = web.post_as("/api/v1/silences", &web.operator, r#"{"all":true,"for":"1h","comment":"my secret words"}"#).await;
    let uid = begun.json()["uid"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/silences/{uid}");
    let as_ann = [("x-watchkeeper-as", "ann")];
    assert_eq!(web.call(Method::DELETE, &path, Some(&web.operator), &as_ann, Bytes::new()).await.status, StatusCode::OK);
    assert_eq!(web.call(Method::DELETE, &path, Some(&web.viewer), &[], Bytes::new()).await.status, StatusCode::FORBIDDEN);
    web.get("/api/v1/monitors").await;
    let log = web.get_as("/api/v1/audit", &web.admin).await;
    assert!(!log.body.contains("secret words"), "{}", log.body);
    let log = log.json();
    let entries = log["items"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "what was read, or refused for its role, changes nothing: {entries:?}");
    assert_eq!((&entries[0]["actor"], &entries[0]["action"]), (&json!("ann (operator)"), &json!(format!("DELETE {path}"))));
    assert_eq!((&entries[1]["actor"], &entries[1]["address"]), (&json!("operator"), &json!("127.0.0.1")));
    assert_eq!(entries[1]["via"], format!("token {}", &web.operator[..9]));
    assert_eq!((&entries[1]["status"], &entries[1]["detail"]), (&json!(201), &json!(uid)));
    web.stop().await;
}

#[tokio::test]
async fn a_second_factor_is_begun_confirmed_asked_for_and_taken_away() {
    let web = TestWeb::start().await;
    made(&web, web.world.acme(), "ann", Role::Operator).await;
    let ann = signed_in(&web, "ann").await;
    let path = "/api/v1/me/second-factor";
    let refused = ann.call(&web, Method::POST, path, json!({ "password": "not the password" })).await;
    assert_eq!(refused.error_code(), "forbidden");
    let begun = ann.call(&web, Method::POST, path, json!({ "password": PASSWORD })).await.json();
    let secret = begun["secret"].as_str().unwrap().to_owned();
    assert_eq!(begun["uri"], format!("otpauth://totp/Watchkeeper:ann?secret={secret}&issuer=Watchkeeper"));
    let stored = web.world.store().accounts().account("ann").await.unwrap().unwrap().totp.unwrap();
    let code_at = |ago: i64| code(&stored.secret, web.clock.now().0 / 30_000_000 - ago);
    assert_eq!(ann.call(&web, Method::PUT, path, json!({ "code": "000000x" })).await.error_code(), "bad_request");
    let first = code_at(1);
    let confirmed = ann.call(&web, Method::PUT, path, json!({ "code": first })).await;
    assert_eq!(confirmed.status, StatusCode::OK, "{}", confirmed.body);
    let recovery = confirmed.json()["recovery"].as_array().unwrap().clone();
    assert_eq!(recovery.len(), 8);
    assert_eq!(ann.get(&web, "/api/v1/me").await.json()["second_factor"], true);

    let sign_in = async |code: Option<&str>| {
        let mut asked = json!({ "name": "ann", "password": PASSWORD });
        if let Some(code) = code {
            asked["code"] = code.into();
        }
        stranger(&web, "/api/v1/auth/login", &asked).await
    };
    assert_eq!(sign_in(None).await.error_code(), "code_needed");
    assert_eq!(sign_in(Some(&first)).await.error_code(), "wrong_code", "the one that confirmed it was used up");
    let now = code_at(0);
    assert_eq!(sign_in(Some(&now)).await.status, StatusCode::OK);
    assert_eq!(sign_in(Some(&now)).await.error_code(), "wrong_code", "no code is taken twice");
    let lost = recovery[0].as_str().unwrap();
    assert_eq!(sign_in(Some(&lost.to_lowercase())).await.status, StatusCode::OK, "the device is lost");

    let off = UserChange { without_totp: true, ..UserChange::default() };
    assert!(web.world.store().accounts().change_user(web.world.acme(), "uid-ann", &off).await.unwrap());
    assert_eq!(ann.get(&web, "/api/v1/me").await.json()["second_factor"], false);
    web.stop().await;
}

/// With a key its secret lies sealed; a node without that key lets nobody in on the password alone, and says why.
#[tokio::test]
async fn a_second_factor_lies_sealed_where_there_is_a_key() {
    use watchkeeper::documents::Made;
    use watchkeeper::seal::Keys;
    let (made_tx, made_rx) = tokio::sync::watch::channel(std::sync::Arc::default());
    let holds = |key: Option<u8>| {
        let keys = key.map(|key| Keys::read(&[key; 32]).unwrap());
        made_tx.send_replace(std::sync::Arc::new(Made { keys, ..Made::default() }));
    };
    holds(Some(0xa1));
    let web = TestWeb::start_with(|state| state.made = made_rx).await;
    made(&web, web.world.acme(), "ann", Role::Operator).await;
    let ann = signed_in(&web, "ann").await;
    let path = "/api/v1/me/second-factor";
    let begun = ann.call(&web, Method::POST, path, json!({ "password": PASSWORD })).await.json();
    let secret = unbase32(begun["secret"].as_str().unwrap());
    let stored = web.world.store().accounts().account("ann").await.unwrap().unwrap().totp.unwrap().secret;
    assert!(stored.starts_with(b"wk1:") && !stored.windows(20).any(|part| part == secret), "{stored:?}");
    let code_at = |ago: i64| code(&secret, web.clock.now().0 / 30_000_000 - ago);
    let confirmed = ann.call(&web, Method::PUT, path, json!({ "code": code_at(1) })).await;
    assert_eq!(confirmed.status, StatusCode::OK, "{}", confirmed.body);
    let sign_in = async || {
        let asked = json!({ "name": "ann", "password": PASSWORD, "code": code_at(0) });
        stranger(&web, "/api/v1/auth/login", &asked).await
    };
    for key in [None, Some(0xb2)] {
        holds(key);
        let refused = sign_in().await;
        assert_eq!((refused.status, refused.error_code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "second_factor_sealed"));
    }
    holds(Some(0xa1));
    assert_eq!(sign_in().await.status, StatusCode::OK);
    web.stop().await;
}

/// RFC 4648, the other way round.
fn unbase32(text: &str) -> Vec<u8> {
    let values =
        text.bytes().map(|byte| u64::try_from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|l| *l == byte).unwrap()).unwrap());
    let values: Vec<u64> = values.collect();
    values.chunks(8).flat_map(|eight| eight.iter().fold(0_u64, |sum, five| sum << 5 | five).to_be_bytes()[3..].to_vec()).collect()
}

#[tokio::test]
async fn a_second_factor_is_nothing_without_the_password_and_a_code_of_recovery_works_once() {
    let web = TestWeb::start().await;
    made(&web, web.world.acme(), "bob", Role::Operator).await;
    let accounts = web.world.store().accounts();
    let bob = accounts.account("bob").await.unwrap().unwrap().id;
    let code = "ABCD-EFGH-JKLM-NPQR";
    assert!(accounts.begin_totp(bob, b"12345678901234567890").await.unwrap());
    let hash = hash_of(&plain_code(&Hidden(code.to_owned())));
    assert!(accounts.confirm_totp(bob, b"12345678901234567890", 1, &[hash]).await.unwrap());
    let sign_in = async |password: &str, code: &str| {
        stranger(&web, "/api/v1/auth/login", &json!({ "name": "bob", "password": password, "code": code })).await
    };
    assert_eq!(sign_in("not the password", code).await.error_code(), "wrong_password", "nothing is said of the second before the first");
    assert_eq!(sign_in(PASSWORD, "ABCD-EFGH-JKLM-NPQQ").await.error_code(), "wrong_code");
    assert_eq!(sign_in(PASSWORD, code).await.status, StatusCode::OK);
    assert_eq!(sign_in(PASSWORD, code).await.error_code(), "wrong_code");
    web.stop().await;
}

/// The code of a step, worked out anew from RFC 6238.
fn code(secret: &[u8], step: i64) -> String {
    use hmac::{Hmac, Mac as _};
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(secret).unwrap();
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[19] & 0xf);
    let number = u32::from_be_bytes(hash[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

#[tokio::test]
async fn a_trusted_proxy_says_who_it_is_and_nobody_else_does() {
    use watchkeeper::web::auth::proxy::Trust;
    let trust = |network: &str| {
        let trust = Trust { proxies: vec![network.parse().unwrap()], user_header: Some("x-remote-user".parse().unwrap()) };
        std::sync::Arc::new(trust)
    };
    let web = TestWeb::start_with(|state| state.trust = trust("127.0.0.0/8")).await;
    made(&web, web.world.acme(), "ann", Role::Operator).await;
    let ann = ("x-remote-user", "Ann");
    let call =
        async |method, path, headers: &[(&str, &str)], body: &'static str| web.call(method, path, None, headers, Bytes::from(body)).await;
    assert_eq!(call(Method::GET, "/api/v1/me", &[ann], "").await.json()["role"], "operator");
    let unknown = call(Method::GET, "/api/v1/me", &[("x-remote-user", "eve")], "").await;
    assert_eq!((unknown.status, unknown.error_code().as_str()), (StatusCode::UNAUTHORIZED, "unknown_user"));
    let silence = r#"{"all":true,"for":"1h","comment":"x"}"#;
    assert_eq!(call(Method::POST, "/api/v1/silences", &[ann], silence).await.error_code(), "not_from_the_page");
    let from = ("x-forwarded-for", "198.51.100.7");
    let begun = call(Method::POST, "/api/v1/silences", &[ann, from, ("x-watchkeeper-page", "1")], silence).await;
    assert_eq!((begun.status, &begun.json()["author"]), (StatusCode::CREATED, &json!("ann")));
    let entry = web.get_as("/api/v1/audit", &web.admin).await.json()["items"][0].clone();
    assert_eq!((&entry["via"], &entry["address"]), (&json!("proxy"), &json!("198.51.100.7")));
    let token = web.call(Method::GET, "/api/v1/me", Some(&web.viewer), &[ann], Bytes::new()).await;
    assert_eq!(token.json()["name"], "viewer", "a token is more than a proxy's word");
    web.stop().await;

    let web = TestWeb::start_with(|state| state.trust = trust("192.0.2.0/24")).await;
    made(&web, web.world.acme(), "ann", Role::Operator).await;
    let refused = web.call(Method::GET, "/api/v1/me", None, &[ann, from], Bytes::new()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "this connection comes from no proxy");
    web.stop().await;
}

#[tokio::test]
async fn a_start_makes_no_token_where_there_is_a_user() {
    let web = TestWeb::start().await;
    let owner = TenantScope(web.world.acme);
    create_token(web.world.store(), owner, "more", Role::Admin, web.clock.now()).await.unwrap();
    made(&web, owner, "ann", Role::Admin).await;
    for token in web.world.store().accounts().tokens(owner).await.unwrap() {
        web.world.store().accounts().revoke_token(owner, token.id).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.token");
    let again = watchkeeper::web::auth::first_token(web.world.store(), owner, &file, web.clock.now()).await.unwrap();
    assert!(again.is_none() && !file.exists(), "with a user there, no start makes an administrator's token by itself");
    web.stop().await;
}
