//! `watchkeeper status`, `healthcheck` and `token create` against a real server.

use crate::store_contract::world;
use crate::support::web::TestWeb;
use std::path::PathBuf;
use tokio::net::TcpListener;
use watchkeeper::cli::status::{healthcheck, status, token_create};
use watchkeeper::cli::term::Term;
use watchkeeper_core::{Outcome, Reason};

const PLAIN: Term = Term { columns: 100, colour: false };

/// A file that holds a token.
fn token_file(token: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("watchkeeper.db.token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    (dir, file)
}

#[tokio::test]
async fn the_table_shows_incidents_first_and_json_shows_everything() {
    let mut web = TestWeb::start().await;
    let beat = web.world.beat(web.world.shop, world::sec(1), Outcome::Down(Reason::TcpRefused));
    web.world.commit_beats(vec![beat]).await;
    let (opened, ..) = web.world.opens(web.world.shop, "down", world::T0);
    web.world.commit_decisions(vec![opened]).await;
    let (_dir, file) = token_file(&web.viewer);
    let text = status(web.address, &file, false, PLAIN, &web.clock).await.unwrap();
    assert!(text.starts_with("3 monitors: 3 unknown; 1 open incident\n"), "{text}");
    let incident = text.find("shop · down: shop is down: the connection was refused").unwrap_or_else(|| panic!("{text}"));
    assert!(incident < text.find("https://shop.example.org/").unwrap_or_else(|| panic!("{text}")), "{text}");
    assert!(text.contains("46.5 ms"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&status(web.address, &file, true, PLAIN, &web.clock).await.unwrap()).unwrap();
    assert_eq!((&json["summary"]["monitors"], &json["summary"]["unknown"]), (&3.into(), &3.into()));
    assert_eq!(json["incidents"][0]["monitor"]["name"], "shop");
    assert_eq!(json["monitors"][2]["last"]["why"], "tcp_refused");
    web.stop().await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_said() {
    let web = TestWeb::start().await;
    let (_dir, file) = token_file("wk_wrong");
    let refused = status(web.address, &file, false, PLAIN, &web.clock).await.unwrap_err().to_string();
    assert!(refused.contains("401") && refused.contains("a valid token is needed"), "{refused}");
    assert!(!refused.contains("wk_wrong"), "{refused}");
    let missing = status(web.address, &file.with_extension("gone"), false, PLAIN, &web.clock).await.unwrap_err().to_string();
    assert!(missing.contains("does not exist"), "{missing}");
    // A port that was free a moment ago.
    let nobody = { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    for error in [status(nobody, &file, false, PLAIN, &web.clock).await.unwrap_err(), healthcheck(nobody, &web.clock).await.unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains(&nobody.to_string()) && text.contains("is `watchkeeper serve` running?"), "{text}");
    }
    assert_eq!(healthcheck(web.address, &web.clock).await.unwrap(), "ok\n");
    web.stop().await;
}

#[tokio::test]
async fn a_created_token_works_and_wrong_words_are_named() {
    let web = TestWeb::start().await;
    let now = web.clock.now();
    let token = token_create(web.world.store(), "acme", "grafana", "viewer", now).await.unwrap();
    let token = secrecy::ExposeSecret::expose_secret(&token).to_owned();
    assert_eq!(web.get_as("/api/v1/monitors", &token).await.status, 200);
    let role = token_create(web.world.store(), "acme", "x", "root", now).await.unwrap_err().to_string();
    assert!(role.contains("viewer, operator, admin"), "{role}");
    let tenant = token_create(web.world.store(), "acne", "x", "viewer", now).await.unwrap_err().to_string();
    assert!(tenant.contains("acme, zenith"), "{tenant}");
    web.stop().await;
}
