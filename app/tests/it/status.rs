//! `watchkeeper status`, `healthcheck` and `token create` against a real server.

use crate::store_contract::world;
use crate::support::servers::Closed;
use crate::support::web::TestWeb;
use std::net::SocketAddr;
use watchkeeper::cli::client::Client;
use watchkeeper::cli::status::{healthcheck, status, token_create};
use watchkeeper::cli::term::Term;
use watchkeeper::clock::Clock;
use watchkeeper_core::{Outcome, Reason};

const PLAIN: Term = Term::plain(100);

/// Asks with the token that a file holds.
fn client(address: SocketAddr, token: &str) -> Client {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("watchkeeper.db.token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    // The first place has none.
    Client::with_token(address, &[dir.path().join("elsewhere"), file], Clock::system()).unwrap()
}

#[tokio::test]
async fn the_table_shows_incidents_first_and_json_shows_everything() {
    let mut web = TestWeb::start().await;
    let beat = web.world.beat(web.world.shop, world::sec(1), Outcome::Down(Reason::TcpRefused));
    web.world.commit_beats(vec![beat]).await;
    let (opened, ..) = web.world.opens(web.world.shop, "down", world::T0);
    web.world.commit_decisions(vec![opened]).await;
    web.ready.send_modify(|ready| ready.dead_letters = 2);
    let asks = client(web.address, &web.viewer);
    let text = status(&asks, false, PLAIN, &web.clock).await.unwrap();
    let begins = "! warning: 2 notices could not be delivered; see watchkeeper dead-letters\n3 monitors: 3 unknown; 1 open incident\n";
    assert!(text.starts_with(begins), "{text}");
    let incident = text.find("shop · down: shop is down: the connection was refused").unwrap_or_else(|| panic!("{text}"));
    assert!(incident < text.find("https://shop.example.org/").unwrap_or_else(|| panic!("{text}")), "{text}");
    assert!(text.contains("46.5 ms"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&status(&asks, true, PLAIN, &web.clock).await.unwrap()).unwrap();
    assert_eq!((&json["summary"]["monitors"], &json["summary"]["unknown"]), (&3.into(), &3.into()));
    assert_eq!(json["incidents"][0]["monitor"]["name"], "shop");
    assert_eq!(json["monitors"][2]["last"]["why"], "tcp_refused");
    web.stop().await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_said() {
    let web = TestWeb::start().await;
    let asks = |address| client(address, "wk_wrong");
    let refused = status(&asks(web.address), false, PLAIN, &web.clock).await.unwrap_err().to_string();
    assert!(refused.contains("401") && refused.contains("send a valid token"), "{refused}");
    assert!(!refused.contains("wk_wrong") && refused.contains("(the token is that of /"), "{refused}");
    let closed = Closed::port();
    let nobody = closed.address;
    for error in [status(&asks(nobody), false, PLAIN, &web.clock).await.unwrap_err(), healthcheck(nobody, &web.clock).await.unwrap_err()] {
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
    let token = token_create(web.world.store(), "acme", "grafana", "viewer", 10, now).await.unwrap();
    let token = secrecy::ExposeSecret::expose_secret(&token).to_owned();
    assert_eq!(web.get_as("/api/v1/monitors", &token).await.status, 200);
    let role = token_create(web.world.store(), "acme", "x", "root", 10, now).await.unwrap_err().to_string();
    assert!(role.contains("viewer, operator, admin"), "{role}");
    let tenant = token_create(web.world.store(), "acne", "x", "viewer", 10, now).await.unwrap_err().to_string();
    assert!(tenant.contains("acme, zenith"), "{tenant}");
    web.stop().await;
}
