//! The page: that its files are served as a browser needs them, and what the API answers for it alone.

use crate::alerting_api::silenced;
use crate::store_contract::world;
use crate::support::web::{TestWeb, call, open};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::json;
use std::io::Read as _;
use watchkeeper::store::{Beside, IntervalRow, Mandate, TenantObjects, TenantScope, VerdictRow};
use watchkeeper::web::auth::{Role, create_token};
use watchkeeper_core::quorum::Health;
use watchkeeper_core::verdict::Verdict;
use watchkeeper_core::{Dur, Outcome, Reason};

/// The values of an attribute that begin with `./`: the page's own files.
fn files<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
    html.split(&format!("{attribute}=\"./")).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn the_page_and_its_files_are_sent_small_safe_and_once() {
    let web = TestWeb::start().await;
    let page = web.call(Method::GET, "/", None, &[], Bytes::new()).await;
    assert_eq!((page.status, &page.headers[header::CONTENT_TYPE]), (StatusCode::OK, &"text/html; charset=utf-8".parse().unwrap()));
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    if page.body.contains("without its page") {
        eprintln!("skipped: this program was built without its page");
        return web.stop().await;
    }
    assert!(!page.body.contains("<style") && page.body.matches("<script").count() == 1, "nothing stands inline: {}", page.body);
    let tag = page.headers[header::ETAG].to_str().unwrap();
    let again = web.call(Method::GET, "/", None, &[("if-none-match", tag)], Bytes::new()).await;
    assert_eq!(
        (again.status, again.body.len(), &again.headers[header::CACHE_CONTROL]),
        (StatusCode::NOT_MODIFIED, 0, &"no-cache".parse().unwrap())
    );

    let (mut sent, names) = (page.body.len(), [files(&page.body, "src"), files(&page.body, "href")].concat());
    assert!(names.len() >= 2, "a script and a style: {}", page.body);
    for name in names {
        let path = format!("/{name}");
        let answer = open(web.address, Method::GET, &path, None, &[("accept-encoding", "gzip, br")], Bytes::new()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let headers = answer.headers().clone();
        assert_eq!(
            (&headers[header::CONTENT_ENCODING], &headers[header::VARY]),
            (&"gzip".parse().unwrap(), &"accept-encoding".parse().unwrap())
        );
        assert!(headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"), "{headers:?}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body[..2], [0x1f, 0x8b], "{path} is in gzip's form");
        sent += body.len();
        let known = web.call(Method::GET, &path, None, &[("if-none-match", headers[header::ETAG].to_str().unwrap())], Bytes::new()).await;
        assert_eq!(known.status, StatusCode::NOT_MODIFIED);
        let plain = web.call(Method::GET, &path, None, &[("accept-encoding", "identity")], Bytes::new()).await;
        let mut unpacked = String::new();
        GzDecoder::new(&*body).read_to_string(&mut unpacked).unwrap();
        assert!(plain.status == StatusCode::OK && plain.body == unpacked, "{path} is unpacked for whoever does not take it packed");
        assert_eq!(plain.headers.get(header::CONTENT_ENCODING), None);
        assert_ne!(plain.headers[header::ETAG], headers[header::ETAG], "{path}: another form has another tag");
    }
    assert!(sent < 100_000, "the first sight of the page costs {sent} bytes");
    for absent in ["/assets/x.js", "/assets/index.html", "/index.html", "/assets/..%2findex.html"] {
        let answer = web.call(Method::GET, absent, None, &[], Bytes::new()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{absent}");
    }
    web.stop().await;
}

#[tokio::test]
async fn the_days_of_all_monitors_come_in_one_answer() {
    let mut web = TestWeb::start().await;
    let now = web.clock.now();
    let shop = web.world.shop;
    for (ago, health) in [(200_000, Health::Up), (50, Health::Down), (20, Health::Up)] {
        let mut decision = web.world.decision(shop);
        decision.interval = Some(IntervalRow { start: now - Dur::secs(ago), health });
        web.world.commit_decisions(vec![decision]).await;
    }
    let uid = web.get("/api/v1/monitors/shop").await.json()["uid"].clone();
    let answer = web.get("/api/v1/uptime").await.json();
    assert_eq!((&answer["days"], answer["items"].as_array().unwrap().len()), (&json!(90), 1), "{answer}");
    let item = &answer["items"][0];
    assert_eq!(item["uid"], uid);
    let down: f64 = item["troubled"].as_array().unwrap().iter().map(|day| day["down_seconds"].as_f64().unwrap()).sum();
    assert!((down - 30.0).abs() < 0.001, "{item}");
    let percent = item["uptime_percent"].as_f64().unwrap();
    assert!((99.98..100.0).contains(&percent), "{item}");
    assert_eq!(web.get("/api/v1/uptime?days=1").await.json()["days"], 1);
    assert_eq!(web.get_as("/api/v1/uptime", &web.foreign).await.json()["items"], json!([]));
    for bad in ["days=0", "days=367", "days=x", "day=1"] {
        assert_eq!(web.get(&format!("/api/v1/uptime?{bad}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    web.stop().await;
}

#[tokio::test]
async fn the_past_of_all_monitors_is_a_letter_for_each_day() {
    let mut web = TestWeb::start().await;
    let now = web.clock.now();
    let today = now - Dur(now.0.rem_euclid(86_400_000_000));
    let (shop, api) = (web.world.shop, web.world.api);
    // Two days ago from noon on, down for a minute; the day before yesterday is the first.
    let noon = today - Dur::secs(43_200 + 86_400);
    for (start, health) in [(noon, Health::Up), (noon + Dur::secs(60), Health::Down), (noon + Dur::secs(120), Health::Up)] {
        let mut decision = web.world.decision(shop);
        decision.interval = Some(IntervalRow { start, health });
        web.world.commit_decisions(vec![decision]).await;
    }
    for (start, health) in [(noon, Health::Up), (today - Dur::secs(7_200), Health::Down), (today, Health::Unknown)] {
        let mut decision = web.world.decision(api);
        decision.interval = Some(IntervalRow { start, health });
        web.world.commit_decisions(vec![decision]).await;
    }
    let answer = web.get("/api/v1/bars?days=4").await.json();
    let bars = |name: &str| answer["items"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()["days"].clone();
    assert_eq!((bars("shop"), bars("api")), (json!("nsuu"), json!("nudx")), "{answer}");
    let exact = web.get("/api/v1/uptime?days=4&monitor=shop").await.json();
    assert_eq!(exact["items"].as_array().unwrap().len(), 1, "{exact}");
    assert_eq!(exact["items"][0]["troubled"], json!([{ "nth": 1, "down_seconds": 60.0, "unknown_seconds": 0.0 }]));
    let percent = answer["items"].as_array().unwrap().iter().find(|one| one["name"] == "shop").unwrap()["uptime_percent"].clone();
    assert_eq!(percent, exact["items"][0]["uptime_percent"]);
    assert_eq!(web.get("/api/v1/bars").await.json()["items"][0]["days"].as_str().unwrap().len(), 90);
    assert_eq!(web.get_as("/api/v1/bars", &web.foreign).await.json()["items"], json!([]));
    assert_eq!(web.get_as("/api/v1/uptime?monitor=api", &web.foreign).await.status, StatusCode::NOT_FOUND);
    for bad in ["days=0", "days=367", "days=x", "monitor=shop"] {
        assert_eq!(web.get(&format!("/api/v1/bars?{bad}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    web.stop().await;
}

#[tokio::test]
async fn all_monitors_come_in_brief_and_say_what_the_list_says() {
    let web = TestWeb::start().await;
    let many = (0..700).map(|nth| world::monitor(&format!("many-{nth:03}"))).collect();
    let objects = TenantObjects { tenant: "acme".into(), monitors: many, ..TenantObjects::default() };
    web.world.store().apply("many", "hash-many", &[objects], Mandate::Alone, Beside::default(), web.clock.now()).await.unwrap();
    silenced(&web).await;
    let mut listed = vec![];
    let mut next = String::new();
    loop {
        let page = web.get(&format!("/api/v1/monitors?limit=500{next}")).await.json();
        listed.extend(page["items"].as_array().unwrap().clone());
        let Some(after) = page["next"].as_str() else { break };
        next = format!("&after={after}");
    }
    let overview = web.get("/api/v1/overview").await.json();
    let briefs = overview["items"].as_array().unwrap();
    assert_eq!((briefs.len(), listed.len()), (703, 703));
    let mut muted = 0;
    for (brief, whole) in briefs.iter().zip(&listed) {
        for (key, value) in brief.as_object().unwrap() {
            assert_eq!(value, &whole[key], "{key} of {brief}");
        }
        // What is left out is empty, false, or not known.
        for key in ["labels", "paused", "since", "why", "flapping", "mutes", "health", "target"] {
            let nothing = [json!({}), json!(false), json!(null), json!([])];
            assert!(brief.get(key).is_some() || nothing.contains(&whole[key]), "{key} of {whole}");
        }
        muted += usize::from(brief.get("mutes").is_some());
    }
    assert!(muted > 0, "a silence is seen in brief");
    assert!(web.get_as("/api/v1/overview", &web.foreign).await.json()["items"].as_array().unwrap().len() < 5);
    web.stop().await;
}

#[tokio::test]
async fn everything_is_said_in_six_numbers() {
    let mut web = TestWeb::start().await;
    let none = web.get("/api/v1/dashboard/stats").await.json();
    let nothing = json!({
        "total_monitors": 3, "up_count": 0, "down_count": 0, "open_incidents": 0, "average_response_time": null, "overall_uptime": null,
    });
    assert_eq!(none, nothing, "api, job, shop: nothing is known of them");
    let (now, shop, api) = (web.clock.now(), web.world.shop, web.world.api);
    for (monitor, health, ago) in [(shop, Health::Up, 90_000), (api, Health::Up, 90_000), (api, Health::Down, 43_200)] {
        let verdict = Verdict { health, since: now - Dur::secs(ago), ..Verdict::default() };
        let mut decision = web.world.decision(monitor);
        decision.verdict = Some(VerdictRow { verdict, wake: None });
        decision.interval = Some(IntervalRow { start: now - Dur::secs(ago), health });
        web.world.commit_decisions(vec![decision]).await;
    }
    let (opens, ..) = web.world.opens(api, "down", now);
    web.world.commit_decisions(vec![opens]).await;
    let (well, bad) = (web.world.beat(shop, now, Outcome::Up), web.world.beat(api, now, Outcome::Down(Reason::TcpRefused)));
    let total_us = well.total_us;
    web.world.commit_beats(vec![well, bad]).await;
    let stats = web.get("/api/v1/dashboard/stats").await.json();
    assert_eq!((&stats["total_monitors"], &stats["up_count"], &stats["down_count"]), (&json!(3), &json!(1), &json!(1)), "{stats}");
    assert_eq!((&stats["open_incidents"], &stats["average_response_time"]), (&json!(1), &json!(total_us as f64 / 1e3)), "{stats}");
    // One was up all day, the other half of it.
    assert!((74.99..75.01).contains(&stats["overall_uptime"].as_f64().unwrap()), "{stats}");
    assert_eq!(web.get_as("/api/v1/dashboard/stats", &web.foreign).await.json()["down_count"], 0);
    web.stop().await;
}

#[tokio::test]
async fn a_token_says_whose_it_is_and_nodes_are_the_installations() {
    let web = TestWeb::start().await;
    assert_eq!(
        web.get("/api/v1/me").await.json(),
        json!({"name": "viewer", "role": "viewer", "tenant": "acme", "user": null, "second_factor": false })
    );
    assert_eq!(web.get_as("/api/v1/me", &web.foreign).await.json()["tenant"], "zenith");
    assert_eq!(web.get("/api/v1/nodes").await.status, StatusCode::FORBIDDEN);

    let objects = TenantObjects { tenant: "default".into(), ..TenantObjects::default() };
    let applied = web.world.store().apply("own", "hash-own", &[objects], Mandate::Alone, Beside::default(), world::T0).await.unwrap();
    let owner = TenantScope(applied.tenants[0].tenant);
    let token = create_token(web.world.store(), owner, "owner", Role::Viewer, web.clock.now()).await.unwrap();
    web.world.store().take_lease("verdict/9", None, "node-7#boot", web.clock.now()).await.unwrap();
    let token = secrecy::ExposeSecret::expose_secret(&token).to_owned();
    let answer = call(web.address, Method::GET, "/api/v1/nodes", Some(&token), &[], Bytes::new()).await.json();
    let node = answer["items"].as_array().unwrap().iter().find(|node| node["name"] == "node-7").unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(node["scopes"], json!([{"scope": "verdict/9", "epoch": 1}]));
    web.stop().await;
}
