//! What the API answers for the page alone.

use crate::store_contract::world;
use crate::support::web::{TestWeb, call};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use watchkeeper::store::{IntervalRow, Mandate, TenantObjects, TenantScope};
use watchkeeper::web::auth::{Role, create_token};
use watchkeeper_core::Dur;
use watchkeeper_core::quorum::Health;

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
async fn a_token_says_whose_it_is_and_nodes_are_the_installations() {
    let web = TestWeb::start().await;
    assert_eq!(web.get("/api/v1/me").await.json(), json!({"name": "viewer", "role": "viewer", "tenant": "acme"}));
    assert_eq!(web.get_as("/api/v1/me", &web.foreign).await.json()["tenant"], "zenith");
    assert_eq!(web.get("/api/v1/nodes").await.status, StatusCode::FORBIDDEN);

    let objects = TenantObjects { tenant: "default".into(), ..TenantObjects::default() };
    let applied = web.world.store().apply("own", "hash-own", &[objects], Mandate::Alone, world::T0).await.unwrap();
    let owner = TenantScope(applied.tenants[0].tenant);
    let token = create_token(web.world.store(), owner, "owner", Role::Viewer, web.clock.now()).await.unwrap();
    web.world.store().take_lease("verdict/9", None, "node-7#boot", web.clock.now()).await.unwrap();
    let token = secrecy::ExposeSecret::expose_secret(&token).to_owned();
    let answer = call(web.address, Method::GET, "/api/v1/nodes", Some(&token), &[], Bytes::new()).await.json();
    let node = answer["items"].as_array().unwrap().iter().find(|node| node["name"] == "node-7").unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(node["scopes"], json!([{"scope": "verdict/9", "epoch": 1}]));
    web.stop().await;
}
