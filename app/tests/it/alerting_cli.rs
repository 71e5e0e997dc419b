//! The commands of alerting against a real server: `incident`, `silence`, `dead-letters`.

use crate::alerting_api::{dead_letter, owned_hook};
use crate::store_contract::world;
use crate::support::app::{TestApp, until};
use crate::support::servers::Closed;
use crate::support::store::TestStore;
use crate::support::web::TestWeb;
use jiff::tz::TimeZone;
use secrecy::ExposeSecret as _;
use std::net::SocketAddr;
use std::sync::Arc;
use watchkeeper::cli::client::Client;
use watchkeeper::cli::term::{Term, View};
use watchkeeper::cli::{dead_letters, incident, silence};
use watchkeeper::clock::Clock;
use watchkeeper::spec::Channels;
use watchkeeper::store::IncidentFilter;
use watchkeeper::web::auth::{Role, create_token};
use watchkeeper::web::types::{Match, NewSilence};
use watchkeeper_core::verdict::Action;

fn client(address: SocketAddr, token: &str) -> Client {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wk.db.token");
    std::fs::write(&file, token).unwrap();
    Client::with_token(address, &[file], Clock::system()).unwrap()
}

/// 100 columns without colour, a minute after the world began.
fn view() -> View {
    View { term: Term::plain(100), zone: TimeZone::UTC, now: world::sec(60) }
}

#[tokio::test]
async fn one_page_answers_everything_about_an_incident_found_by_a_part_of_its_id() {
    let mut web = TestWeb::start().await;
    let (decision, id, uid) = web.world.opens(web.world.shop, "down", world::sec(2));
    web.world.commit_decisions(vec![decision]).await;
    let (other, ..) = web.world.opens(web.world.api, "down", world::sec(3));
    web.world.commit_decisions(vec![other]).await;
    web.world.store().comment(web.world.acme(), &uid, "ann", "looking", world::sec(20)).await.unwrap();
    let resolved = web.world.resolves(web.world.shop, id, &uid, world::sec(30));
    web.world.commit_decisions(vec![resolved]).await;
    let asks = client(web.address, &web.viewer);

    let part = &uid[uid.len() - 12..];
    let page = incident::show(&asks, part, false, &view()).await.unwrap();
    assert_eq!(page, incident::show(&asks, &uid, false, &view()).await.unwrap());
    insta::assert_snapshot!(page.replace(&uid, "00000000-0000-7000-8000-000000000000"));
    let json: serde_json::Value = serde_json::from_str(&incident::show(&asks, part, true, &view()).await.unwrap()).unwrap();
    assert_eq!((&json["uid"], &json["notices"][0]["channel"]), (&uid.as_str().into(), &"hook".into()));

    let open = incident::list(&asks, false, false, &view()).await.unwrap();
    assert!(open.contains("api · down") && !open.contains("shop · down"), "{open}");
    let all = incident::list(&asks, true, false, &view()).await.unwrap();
    assert!(all.contains("api · down") && all.contains("resolved"), "{all}");
    let several = incident::show(&asks, "00000000-0000", false, &view()).await.unwrap_err().to_string();
    assert!(several.contains("fits 2 ids") && several.contains(&uid), "{several}");
    let over = incident::act(&asks, part, Action::Acknowledge, None).await.unwrap_err().to_string();
    assert!(over.contains("no open incident"), "{over}");
    let none = incident::show(&asks, "ffffffff-0000-7000-8000-000000000000", false, &view()).await.unwrap_err().to_string();
    assert!(none.contains("there is no incident"), "{none}");
    web.stop().await;
}

#[tokio::test]
async fn a_viewer_may_look_and_is_told_why_not_more() {
    let mut web = TestWeb::start().await;
    let (decision, _, uid) = web.world.opens(web.world.shop, "down", world::sec(2));
    web.world.commit_decisions(vec![decision]).await;
    let refused = incident::act(&client(web.address, &web.viewer), &uid, Action::Resolve, None).await.unwrap_err().to_string();
    assert!(refused.contains("needs the role operator") && refused.contains("403"), "{refused}");
    // Nobody folds here: what is recorded is not yet done, and that is what is said.
    let recorded = incident::act(&client(web.address, &web.operator), &uid, Action::Resolve, None).await.unwrap();
    assert!(recorded.starts_with("recorded, but shop · down is not changed yet"), "{recorded}");
    web.stop().await;
}

#[tokio::test]
async fn silences_are_made_listed_and_ended() {
    let web = TestWeb::start().await;
    let asks = client(web.address, &web.operator);
    let view = View { now: web.clock.now(), ..view() };
    let asked = NewSilence {
        about: Match { monitors: vec!["shop*".into()], ..Match::default() },
        all: false,
        lasts: Some("1h".into()),
        until: None,
        comment: "deploy".into(),
    };
    let made = silence::add(&asks, &asked, false, &view).await.unwrap();
    assert!(made.contains("shop*, about no monitor that is watched now: check the spelling"), "{made}");
    let misspelt = NewSilence { about: Match { monitors: vec!["shpo".into()], ..Match::default() }, ..asked.clone() };
    let said = silence::add(&asks, &misspelt, false, &view).await.unwrap();
    assert!(said.contains("shpo, about no monitor that is watched now; did you mean shop?"), "{said}");
    silence::end(&asks, said.split_whitespace().nth(1).unwrap()).await.unwrap();
    let id = made.split_whitespace().nth(1).unwrap().to_owned();
    let listed = silence::list(&asks, false, &view).await.unwrap();
    assert!(listed.contains(&id) && listed.contains("shop*, by operator: deploy"), "{listed}");
    let json: serde_json::Value = serde_json::from_str(&silence::list(&asks, true, &view).await.unwrap()).unwrap();
    assert!(json["items"][0]["uid"].as_str().unwrap().ends_with(&id));
    let ended = silence::end(&asks, &id).await.unwrap();
    assert!(ended.contains("ended"), "{ended}");
    assert_eq!(silence::list(&asks, false, &view).await.unwrap(), "Nothing is silenced.\n");
    let empty = NewSilence { about: Match::default(), ..asked };
    let refused = silence::add(&asks, &empty, false, &view).await.unwrap_err().to_string();
    assert!(refused.contains("`match` is empty"), "{refused}");
    web.stop().await;
}

#[tokio::test]
async fn what_could_not_be_delivered_is_shown_and_sent_again() {
    let mut web = TestWeb::start().await;
    let (asks, view) = (client(web.address, &web.operator), view());
    assert_eq!(dead_letters::list(&asks, false, &view).await.unwrap(), "Everything was delivered.\n");
    let mut numbers = vec![];
    for n in 0..3 {
        numbers.push(dead_letter(&mut web, &format!("rule{n}")).await);
    }
    let listed = dead_letters::list(&asks, false, &view).await.unwrap();
    assert!(numbers.iter().all(|n| listed.contains(&format!("{n}  hook  opened"))), "{listed}");
    assert!(listed.contains("the provider answered 403"), "{listed}");
    assert!(dead_letters::retry(&asks, numbers[0]).await.unwrap().contains("due again"));
    assert!(dead_letters::retry(&asks, numbers[0]).await.unwrap_err().to_string().contains("no such dead letter"));
    assert_eq!(dead_letters::retry_all(&asks).await.unwrap(), "2 notices are due again\n");
    assert_eq!(dead_letters::list(&asks, true, &view).await.unwrap(), "{\n  \"items\": [],\n  \"next\": null\n}\n");
    web.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_channel_that_was_seen_to_work_is_tried_at_once() {
    let web = TestWeb::start().await;
    let named = |name: &str| {
        let mut channel = owned_hook(&web, "http://127.0.0.1:1");
        channel.config.name = name.to_owned();
        web.channels.send_replace(Channels(Arc::new(vec![channel])));
    };
    for name in ["hook", "Наши/ops? 100%#1"] {
        named(name);
        let said = dead_letters::retry_channel(&client(web.address, &web.operator), name).await.unwrap();
        assert_eq!(said, "what waits for it is tried at once\n");
    }
    assert_eq!(*web.mended.lock().unwrap(), [web.world.hook; 2]);
    for (token, name, why) in
        [(&web.operator, "hook", "no such"), (&web.foreign, "Наши/ops? 100%#1", "no such"), (&web.viewer, "hook", "403")]
    {
        let refused = dead_letters::retry_channel(&client(web.address, token), name).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(web.mended.lock().unwrap().len(), 2);
    web.stop().await;
}

#[tokio::test]
async fn an_incident_is_taken_on_given_back_and_ended_by_a_person() {
    let closed = Closed::port();
    let yaml = format!(
        "defaults: {{ every: 1s, recheck: 1s, timeout: 900ms, down_after: 2 }}\n\
         monitors:\n  - name: shop\n    probe: {{ tcp: {{ address: '{}' }} }}\n",
        closed.address
    );
    let store = TestStore::sqlite().await;
    let app = TestApp::start(&yaml, store.store.clone()).await;
    let scope = app.scope().await;
    let token = create_token(&*app.store, scope, "ann", Role::Operator, Clock::system().now()).await.unwrap();
    let asks = client(app.address, token.expose_secret()).acting_as(Some("Анна".to_owned()));
    let filter = IncidentFilter { limit: 1, ..IncidentFilter::default() };
    let uid = until("an incident", async || app.store.incidents(scope, &filter).await.unwrap().pop()).await.uid;
    let part = &uid[uid.len() - 8..];
    let comment = Some("on my way".to_owned());
    assert_eq!(incident::act(&asks, part, Action::Acknowledge, comment).await.unwrap(), "shop · down is acknowledged\n");
    let page = incident::show(&asks, part, false, &view()).await.unwrap();
    assert!(
        page.starts_with("◐ shop · down") && page.contains("acknowledged by Анна (ann)") && page.contains("Анна (ann): on my way"),
        "{page}"
    );
    assert!(page.contains("whom to tell: no `notify` or route says it, so every channel\n  nobody: that is no channel at all"), "{page}");
    assert_eq!(incident::act(&asks, part, Action::Unacknowledge, None).await.unwrap(), "shop · down is open\n");
    assert_eq!(incident::act(&asks, part, Action::Resolve, None).await.unwrap(), "shop · down is resolved\n");
    let page = incident::show(&asks, &uid, false, &view()).await.unwrap();
    assert!(page.contains("a person ended it"), "{page}");
    let (events, _) = app.store.live_after(scope, 0, 100).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|row| row.event.kind.as_str()).filter(|kind| kind.starts_with("incident")).collect();
    assert_eq!(kinds, ["incident_opened", "incident_acknowledged", "incident_unacknowledged", "incident_resolved"]);
    app.stop().await;
}
