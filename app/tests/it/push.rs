//! Pushes: both forms, what is kept of them, and their limits.

use crate::support::web::{Answer, LONG, TestWeb, call};
use bytes::Bytes;
use http::{Method, StatusCode};
use uuid::Uuid;
use watchkeeper::store::{PUSH_BODY_MAX, PushKind, PushRow};

/// What was recorded since the beginning, oldest first, without ids and times.
async fn recorded(web: &TestWeb) -> Vec<PushRow> {
    web.world.store().unfolded_pushes(1_000).await.unwrap()
}

async fn push(web: &TestWeb, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
    let path = path.replace("TOKEN", &web.push_token).replace("UUID", &uuid_of(web));
    web.call(method, &path, None, &[], body.into()).await
}

/// The token in its other spelling.
fn uuid_of(web: &TestWeb) -> String {
    Uuid::try_parse(&web.push_token).unwrap().hyphenated().to_string()
}

#[tokio::test]
async fn each_form_records_what_it_says_and_wakes_the_engine() {
    let web = TestWeb::start().await;
    let cases = [
        (Method::GET, "/api/push/TOKEN", "", PushKind::Ok, None, None, ""),
        (Method::GET, "/api/push/UUID?status=up&msg=OK&ping=", "", PushKind::Ok, None, None, "OK"),
        (
            Method::POST,
            "/api/push/TOKEN?status=down&msg=disk%20full&ping=12.345",
            "ignored",
            PushKind::Fail,
            None,
            Some(12_345),
            "disk full",
        ),
        (Method::GET, "/api/push/TOKEN?status=broken", "", PushKind::Fail, None, None, ""),
        (Method::GET, "/ping/UUID", "", PushKind::Ok, None, None, ""),
        (Method::HEAD, "/ping/TOKEN", "", PushKind::Ok, None, None, ""),
        (Method::POST, "/ping/UUID", "it went well", PushKind::Ok, None, None, "it went well"),
        (Method::GET, "/ping/UUID/start", "", PushKind::Start, None, None, ""),
        (Method::POST, "/ping/UUID/fail", "no space left", PushKind::Fail, None, None, "no space left"),
        (Method::POST, "/ping/UUID/log", "half way", PushKind::Log, None, None, "half way"),
        (Method::GET, "/ping/UUID/0", "", PushKind::Ok, Some(0), None, ""),
        (Method::GET, "/ping/UUID/137?rid=1", "", PushKind::Fail, Some(137), None, ""),
    ];
    let before = web.clock.now();
    for (method, path, body, kind, exit, ping_us, kept) in cases {
        let woken = web.wake_pushes.notified();
        let answer = push(&web, method.clone(), path, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}");
        let want = match (path.starts_with("/api"), &method) {
            (_, &Method::HEAD) => "",
            (true, _) => r#"{"ok":true}"#,
            (false, _) => "OK",
        };
        assert_eq!(answer.body, want, "{method} {path}");
        tokio::time::timeout(LONG, woken).await.unwrap_or_else(|_| panic!("{method} {path} woke nobody"));
        let rows = recorded(&web).await;
        let row = rows.last().unwrap();
        let got = (row.monitor, row.kind, row.exit, row.ping_us, row.body.as_str());
        assert_eq!(got, (web.job, kind, exit, ping_us, kept), "{method} {path}");
        assert!(row.at >= before && row.at <= web.clock.now(), "{method} {path} is of now");
    }
    assert_eq!(recorded(&web).await.len(), 12, "each was recorded once");
    web.stop().await;
}

#[tokio::test]
async fn whoever_may_act_is_shown_the_token_and_whoever_reads_is_not() {
    let web = TestWeb::start().await;
    for (token, want) in [(&web.admin, Some(&web.push_token)), (&web.operator, Some(&web.push_token)), (&web.viewer, None)] {
        let job = web.get_as("/api/v1/monitors/job", token).await.json();
        assert_eq!(job.get("push_token").and_then(|t| t.as_str()), want.map(String::as_str));
        let listed = web.get_as("/api/v1/monitors", token).await;
        assert!(!listed.body.contains(&web.push_token), "a list shows none");
    }
    assert!(web.get_as("/api/v1/monitors/shop", &web.admin).await.json().get("push_token").is_none(), "it takes no pushes");
    web.stop().await;
}

#[tokio::test]
async fn only_the_token_opens_and_never_the_public_id() {
    let web = TestWeb::start().await;
    let job = web.get("/api/v1/monitors/job").await.json()["uid"].as_str().unwrap().to_owned();
    let shop = web.get("/api/v1/monitors/shop").await.json()["uid"].as_str().unwrap().to_owned();
    let guess = Uuid::from_u128(7).to_string();
    for token in [
        job.as_str(),
        &job.replace('-', ""),
        &shop,
        &guess,
        "job",
        "%00",
        "%ff",
        "..%2f",
        "%F0%9F%92%A5",
        &web.push_token[1..],
        &"a".repeat(4_000),
    ] {
        let kuma = web.call(Method::GET, &format!("/api/push/{token}"), None, &[], Bytes::new()).await;
        assert_eq!((kuma.status, &kuma.json()["ok"]), (StatusCode::NOT_FOUND, &false.into()), "{token}");
        assert!(kuma.json()["msg"].is_string(), "{}", kuma.body);
        for action in ["", "/fail", "/0"] {
            let ping = web.call(Method::GET, &format!("/ping/{token}{action}"), None, &[], Bytes::new()).await;
            assert_eq!(ping.status, StatusCode::NOT_FOUND, "{token}{action}");
        }
    }
    for action in ["256", "-1", "+1", "Start", "%ff", "success"] {
        let answer = push(&web, Method::GET, &format!("/ping/UUID/{action}"), "").await;
        assert!(answer.status.is_client_error(), "{action}: {}", answer.status);
    }
    assert_eq!(push(&web, Method::DELETE, "/ping/UUID", "").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(push(&web, Method::PUT, "/api/push/TOKEN", "").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(recorded(&web).await.is_empty(), "nothing of it was recorded");
    web.stop().await;
}

#[tokio::test]
async fn what_is_too_long_or_no_text_is_cut_and_mended_not_refused() {
    let web = TestWeb::start().await;
    let long = "é".repeat(300_000);
    let answer = push(&web, Method::POST, "/ping/UUID/log", long).await;
    assert_eq!((answer.status, answer.headers["ping-body-limit"].to_str().unwrap()), (StatusCode::OK, "10240"));
    push(&web, Method::POST, "/ping/UUID/log", &b"a\xff\0b"[..]).await;
    let message = format!("/api/push/TOKEN?msg={}", "%C3%A9".repeat(4_000));
    push(&web, Method::GET, &message, "").await;
    push(&web, Method::GET, "/api/push/TOKEN?msg=%FF%00&status=%FF", "").await;
    let bodies: Vec<String> = recorded(&web).await.into_iter().map(|row| row.body).collect();
    assert_eq!(bodies.len(), 4);
    assert_eq!(bodies[0].len(), PUSH_BODY_MAX);
    assert!(bodies[0].chars().all(|c| c == 'é'));
    assert_eq!(bodies[1], "a\u{fffd}\u{fffd}b");
    assert_eq!(bodies[2], "é".repeat(4_000));
    assert_eq!(bodies[3], "\u{fffd}\u{fffd}");
    web.stop().await;
}

#[tokio::test]
async fn one_monitor_gone_wild_is_slowed() {
    let web = TestWeb::start().await;
    let (ping, kuma) = (format!("/ping/{}/log", web.push_token), format!("/api/push/{}", web.push_token));
    let mut statuses: Vec<StatusCode> = Vec::new();
    // Far more than the burst and what grows back while they are sent.
    for round in 0..16 {
        let path = if round % 2 == 0 { &ping } else { &kuma };
        let calls = (0..50).map(|_| call(web.address, Method::GET, path, None, &[], Bytes::new()));
        for answer in futures_util::future::join_all(calls).await {
            if round % 2 == 1 {
                assert_eq!(answer.json()["ok"], answer.status == StatusCode::OK, "{}", answer.body);
            }
            statuses.push(answer.status);
        }
    }
    let slowed = statuses.iter().filter(|s| **s == StatusCode::TOO_MANY_REQUESTS).count();
    let taken = statuses.iter().filter(|s| **s == StatusCode::OK).count();
    // On a busy machine a store may be too slow to say whether it has taken one.
    let unsure = statuses.iter().filter(|s| **s == StatusCode::SERVICE_UNAVAILABLE).count();
    assert_eq!(slowed + taken + unsure, 800, "{statuses:?}");
    assert!(taken >= 60 && slowed >= 1, "{taken} taken, {slowed} slowed");
    let recorded = recorded(&web).await.len();
    assert!(
        (taken..=taken + unsure).contains(&recorded),
        "{recorded} recorded of {taken} taken and {unsure} unsure: what was refused was not"
    );
    web.stop().await;
}

#[tokio::test]
async fn a_push_that_was_not_recorded_is_never_called_ok() {
    let web = TestWeb::start().await;
    web.world.t.store.close().await;
    let kuma = push(&web, Method::GET, "/api/push/TOKEN", "").await;
    assert!(kuma.status.is_server_error() && kuma.json()["ok"] == false, "{}", kuma.body);
    let ping = push(&web, Method::GET, "/ping/UUID", "").await;
    assert!(ping.status.is_server_error() && ping.body != "OK", "{}", ping.body);
    web.stop().await;
}
