//! What people do through the API: they take incidents on, silence, have dead letters sent again, try channels.

use crate::store_contract::world;
use crate::support::provider::{Act, Provider};
use crate::support::web::{LONG, TestWeb};
use crate::support::webhook;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use watchkeeper::config;
use watchkeeper::schedule::{Cadence, Every, Plan};
use watchkeeper::spec::{Channels, Fleet, MonitorSpec, OwnedChannel, Source};
use watchkeeper::store::{self, AttemptEnd, Attempted, Silence};
use watchkeeper::web::Readiness;
use watchkeeper_core::heartbeat::Measure;
use watchkeeper_core::matcher::Matcher;
use watchkeeper_core::quorum::Quorum;
use watchkeeper_core::rule::{Rule, RuleKey, Severity, Trigger};
use watchkeeper_core::sight::SightPolicy;
use watchkeeper_core::verdict::{Action, Policy};
use watchkeeper_core::{Dur, MonitorId, TenantId};

/// A notice about a rule of acme's shop is given up. Its number.
pub async fn dead_letter(web: &mut TestWeb, rule: &str) -> i64 {
    let rule = format!("{rule}-{}", web.world.id().0);
    let (decision, ..) = web.world.opens(web.world.shop, &rule, web.clock.now());
    web.world.commit_decisions(vec![decision]).await;
    let (store, now) = (web.world.t.store.clone(), web.clock.now());
    let due = store.due_notices(web.world.hook, now, 1_000).await.unwrap();
    let notice = due.iter().find(|notice| notice.content.incident().is_some() && notice.attempts == 0).expect("it waits").id;
    assert_eq!(store.begin_attempt(&[notice], &web.world.hook_lease, now).await.unwrap(), [notice]);
    let attempted = Attempted::Dead { error: "the provider answered 403".into() };
    let end = AttemptEnd { notices: &[notice], fence: &web.world.hook_lease, attempted: &attempted, key: &rule, digest: false, at: now };
    store.end_attempt(&end).await.unwrap();
    notice
}

/// A silence of acme's. Its id.
pub async fn silenced(web: &TestWeb) -> String {
    let (uid, now) = (uuid::Uuid::new_v4().to_string(), web.clock.now());
    let matcher = Matcher { monitors: vec!["sh*".into()], ..Matcher::default() };
    let silence = Silence {
        uid: uid.clone(),
        matcher,
        starts_at: now,
        ends_at: now + Dur::secs(3_600),
        author: "ann".into(),
        comment: "deploy".into(),
    };
    web.world.store().create_silence(web.world.acme(), &silence).await.unwrap();
    uid
}

/// Acme's channel `hook`, with a secret.
pub fn owned_hook(web: &TestWeb, url: &str) -> OwnedChannel {
    let yaml = format!("channels: [ {{ name: hook, webhook: {{ url: '{url}/hook?key=hunter2' }} }} ]\n");
    let mut config = config::load_texts(&[("wk.yaml".to_owned(), yaml.into_bytes())], &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
    OwnedChannel { id: web.world.hook, tenant: web.world.acme, config: config.tenants[0].channels.remove(0) }
}

/// An incident of acme's shop. Its id.
async fn open_incident(web: &mut TestWeb, rule: &str) -> String {
    let (decision, _, uid) = web.world.opens(web.world.shop, rule, web.clock.now());
    web.world.commit_decisions(vec![decision]).await;
    uid
}

/// A rule with the world's channel.
fn ruled(web: &TestWeb, key: &str, trigger: Trigger) -> Rule {
    Rule {
        key: RuleKey::new(key),
        trigger,
        severity: Severity::Warning,
        hold: Dur::ZERO,
        channels: [web.world.hook].into_iter().collect(),
        remind: None,
        escalate: Vec::new(),
        flap_window: Dur::ZERO,
        cooldown: Dur::ZERO,
    }
}

/// This node watches one monitor of acme's, `ruled`, with two rules.
pub fn watches_with_rules(web: &TestWeb) {
    let (id, spec) = watched(987_654, web.world.acme, "ruled");
    let mut spec = Arc::into_inner(spec).unwrap();
    let slow = Trigger::Above { what: Measure::Total, limit: 800_000, n: 3, of: 5 };
    spec.policy.rules = vec![ruled(web, "down", Trigger::Down), ruled(web, "slow_response/total", slow)];
    web.fleet.send_replace(Fleet(Arc::new(HashMap::from([(id, Arc::new(spec))]))));
}

#[tokio::test]
async fn the_rules_of_all_monitors_stand_side_by_side() {
    let web = TestWeb::start().await;
    watches_with_rules(&web);
    web.channels.send_replace(Channels(Arc::new(vec![owned_hook(&web, "http://127.0.0.1:1")])));
    let answer = web.get("/api/v1/alert-rules").await.json();
    let down = json!({
        "id": "uid-987654:down", "monitor_id": "uid-987654", "monitor_name": "ruled", "name": "down", "trigger_type": "down",
        "threshold_value": 3, "enabled": true, "severity": "warning", "channel_ids": ["hook"],
    });
    assert_eq!((answer["items"].as_array().unwrap().len(), &answer["items"][0]), (2, &down));
    let slow = web.get("/api/v1/alert-rules/uid-987654:slow_response%2Ftotal").await.json();
    assert_eq!((&slow["trigger_type"], &slow["threshold_value"]), (&json!("slow_response"), &json!(800)));
    assert_eq!(slow, answer["items"][1]);
    assert_eq!(web.get("/api/v1/alert-rules/uid-987654:none").await.status, StatusCode::NOT_FOUND);
    assert_eq!(web.get_as("/api/v1/alert-rules", &web.foreign).await.json()["items"], json!([]));
    assert_eq!(web.get_as("/api/v1/alert-rules/uid-987654:down", &web.foreign).await.status, StatusCode::NOT_FOUND);
    web.stop().await;
}

/// A monitor that this node watches.
fn watched(id: i64, tenant: TenantId, name: &str) -> (MonitorId, Arc<MonitorSpec>) {
    let spec = MonitorSpec {
        id: MonitorId(id),
        uid: format!("uid-{id}"),
        tenant,
        tenant_slug: "acme".into(),
        name: name.into(),
        kind: "http",
        target: String::new(),
        labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        cadence: Cadence { plan: Plan::Every(Every::fixed(Dur::secs(10))), recheck: Dur::secs(5) },
        timeout: Dur::secs(10),
        source: Source::Push { expect_every: Dur::secs(10), grace: Dur::ZERO },
        sight: SightPolicy { down_after: 3, up_after: 1, vote_lasts: Dur::secs(30) },
        policy: Policy { quorum: Quorum::Majority, rules: vec![] },
        shard: 0,
        datacenters: Vec::new(),
        agent: None,
        confirm: true,
        keep_every_detail: false,
        guard: watchkeeper::net::Guard::Open,
        paused: false,
        created_at: world::T0,
        hash: [0; 32],
        hours: watchkeeper::spec::RouteHours::default(),
        chosen: HashMap::new(),
    };
    (spec.id, Arc::new(spec))
}

#[tokio::test]
async fn what_a_person_does_is_recorded_in_their_name_and_wakes_the_engine() {
    let mut web = TestWeb::start().await;
    let uid = open_incident(&mut web, "down").await;
    for (word, body) in [("acknowledge", r#"{"comment":" the disk is full "}"#), ("unacknowledge", ""), ("resolve", "{}")] {
        let answer = web.post_as(&format!("/api/v1/incidents/{uid}/{word}"), &web.operator, body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        assert!(answer.json()["message"].as_str().unwrap().contains("operator"), "{}", answer.body);
        tokio::time::timeout(LONG, web.wake_actions.notified()).await.expect("the engine is woken");
    }
    let actions = web.world.store().unfolded_actions(10).await.unwrap();
    let seen: Vec<(store::Act, &str)> = actions.iter().map(|row| (row.act, row.actor.as_str())).collect();
    assert_eq!(seen, [Action::Acknowledge, Action::Unacknowledge, Action::Resolve].map(|action| (store::Act::Person(action), "operator")));
    assert_eq!(actions.iter().map(|row| row.comment.as_deref()).collect::<Vec<_>>(), [Some("the disk is full"), None, None]);
    let answer = web.post_as(&format!("/api/v1/incidents/{uid}/comments"), &web.admin, r#"{"text":"it was\nthe cat"}"#).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let shown = web.get(&format!("/api/v1/incidents/{uid}")).await.json();
    let words: Vec<(&str, &str)> = shown["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["kind"] == "comment")
        .map(|entry| (entry["actor"].as_str().unwrap(), entry["text"].as_str().unwrap()))
        .collect();
    assert_eq!(words, [("operator", "the disk is full"), ("admin", "it was\nthe cat")]);
    web.stop().await;
}

#[tokio::test]
async fn an_incident_that_is_over_is_not_acted_on_but_spoken_about() {
    let mut web = TestWeb::start().await;
    let (opened, id, uid) = web.world.opens(web.world.shop, "down", world::T0);
    web.world.commit_decisions(vec![opened]).await;
    let resolved = web.world.resolves(web.world.shop, id, &uid, world::sec(30));
    web.world.commit_decisions(vec![resolved]).await;
    for word in ["acknowledge", "unacknowledge", "resolve"] {
        let answer = web.post_as(&format!("/api/v1/incidents/{uid}/{word}"), &web.operator, r#"{"comment":"x"}"#).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::CONFLICT, "already_resolved"));
        assert!(answer.body.contains("since 2026-11-01T00:00:30"), "{}", answer.body);
    }
    assert!(web.world.store().unfolded_actions(10).await.unwrap().is_empty());
    assert!(!web.world.incident(&uid).await.timeline.iter().any(|entry| entry.kind == "comment"), "no word without its deed");
    let answer = web.post_as(&format!("/api/v1/incidents/{uid}/comments"), &web.operator, r#"{"text":"why it was"}"#).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    web.stop().await;
}

#[tokio::test]
async fn bodies_that_are_not_accepted_are_named_and_change_nothing() {
    let mut web = TestWeb::start().await;
    let uid = open_incident(&mut web, "down").await;
    let (ack, comments) = (format!("/api/v1/incidents/{uid}/acknowledge"), format!("/api/v1/incidents/{uid}/comments"));
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(4_001));
    let cases = [
        (ack.as_str(), r#"{"coment":"x"}"#, "`coment`"),
        (&ack, r#"{"comment":" "}"#, "`comment` is empty"),
        (&ack, "[]", "JSON object"),
        (&ack, "comment=x", "JSON object"),
        (&ack, "{", "line 1"),
        (&comments, "", "`text`"),
        (&comments, r#"{"text":""}"#, "`text` is empty"),
        (&comments, r#"{"text":"a\u0000b"}"#, "NUL"),
        (&comments, &long, "4001 characters; accepted are 1 to 4000"),
        ("/api/v1/silences", "", "`comment`"),
        ("/api/v1/silences", r#"{"match":{"monitor":["shop"]},"for":"1h","comment":"c"}"#, "`monitor`"),
        ("/api/v1/silences", r#"{"match":{},"for":"1h","comment":"c"}"#, "\\\"all\\\": true"),
        ("/api/v1/silences", r#"{"all":true,"for":"1h","comment":"c","author":"root"}"#, "`author`"),
        ("/api/v1/silences", r#"{"all":true,"until":"tomorrow","comment":"c"}"#, "2026-01-31T12:00:00Z"),
        ("/api/v1/silences", r#"{"all":true,"for":"365d","comment":"c"}"#, "90d"),
    ];
    for (path, body, named) in cases {
        let answer = web.post_as(path, &web.operator, body.to_owned()).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (StatusCode::BAD_REQUEST, "bad_request"),
            "{path} {body}: {}",
            answer.body
        );
        assert!(answer.body.contains(named), "{path} {body} should name {named}: {}", answer.body);
    }
    let large = vec![b' '; watchkeeper::web::BODY_MAX as usize + 1];
    assert_eq!(web.post_as(&ack, &web.operator, large).await.error_code(), "too_large");
    for absent in ["/api/v1/incidents/nothing/resolve", "/api/v1/incidents/%F0%9F%92%A5/acknowledge", "/api/v1/dead-letters/x/retry"] {
        assert_eq!(web.post_as(absent, &web.operator, "").await.error_code(), "not_found", "{absent}");
    }
    assert!(web.world.store().unfolded_actions(10).await.unwrap().is_empty());
    assert_eq!(web.get("/api/v1/silences").await.json()["items"], json!([]));
    assert_eq!(web.channel_wakes.load(Ordering::SeqCst), 0);
    web.stop().await;
}

#[tokio::test]
async fn a_silence_begins_is_shown_on_its_monitors_and_ends() {
    let web = TestWeb::start().await;
    let fleet = [watched(1, web.world.acme, "shop"), watched(2, web.world.acme, "shop-eu"), watched(3, web.world.zenith, "shop")];
    web.fleet.send_replace(Fleet(Arc::new(HashMap::from(fleet))));
    let asked = json!({"match": {"monitors": ["shop*"], "labels": {"team": "w*"}}, "for": "90m", "comment": "deploy"});
    let answer = web.post_as("/api/v1/silences", &web.operator, asked.to_string()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let made = answer.json();
    assert_eq!((&made["author"], &made["comment"], &made["monitors"]), (&json!("operator"), &json!("deploy"), &json!(2)));
    let rule = json!({"match": {"monitors": ["shop"], "rules": ["down"]}, "until": made["ends_at"], "comment": "known"});
    let rule = web.post_as("/api/v1/silences", &web.admin, rule.to_string()).await.json();
    assert_eq!(web.channel_wakes.load(Ordering::SeqCst), 2, "the channels look at what they hold");

    let listed = web.get("/api/v1/silences").await.json();
    let ids: Vec<&Value> = listed["items"].as_array().unwrap().iter().map(|item| &item["uid"]).collect();
    assert_eq!(ids, [&rule["uid"], &made["uid"]], "newest first");
    assert_eq!(web.get_as("/api/v1/silences", &web.foreign).await.json()["items"], json!([]));
    let shop = web.get("/api/v1/monitors/shop").await.json();
    let mute = json!({"by": "silence", "id": made["uid"], "until": made["ends_at"], "author": "operator", "comment": "deploy"});
    assert_eq!(shop["mutes"], json!([mute]), "a silence of one rule does not mute the monitor");
    let all = web.get("/api/v1/monitors").await.json();
    let muted: Vec<usize> = all["items"].as_array().unwrap().iter().map(|m| m["mutes"].as_array().unwrap().len()).collect();
    assert_eq!(muted, [0, 0, 1], "api, job, shop");
    let foreign = web.get_as("/api/v1/monitors/shop", &web.foreign).await.json();
    assert_eq!(foreign["mutes"], json!([]));

    let path = format!("/api/v1/silences/{}", made["uid"].as_str().unwrap());
    let delete = |token: &str| {
        let (path, token) = (path.clone(), token.to_owned());
        let web = &web;
        async move { web.call(Method::DELETE, &path, Some(&token), &[], Bytes::new()).await }
    };
    assert_eq!(delete(&web.foreign).await.error_code(), "not_found");
    assert_eq!(delete(&web.operator).await.status, StatusCode::OK);
    assert_eq!(delete(&web.operator).await.error_code(), "not_found", "it ends once");
    assert_eq!(web.channel_wakes.load(Ordering::SeqCst), 3);
    assert_eq!(web.get("/api/v1/monitors/shop").await.json()["mutes"], json!([]));
    assert_eq!(web.get("/api/v1/silences").await.json()["items"].as_array().unwrap().len(), 1);
    let since = web.get("/api/v1/silences?since=2020-01-01T00:00:00Z").await.json();
    assert_eq!(since["items"].as_array().unwrap().len(), 2, "also what is over");
    web.stop().await;
}

#[tokio::test]
async fn dead_letters_are_paged_and_sent_again() {
    let mut web = TestWeb::start().await;
    let mut numbers = vec![];
    for n in 0..5 {
        numbers.push(dead_letter(&mut web, &format!("rule{n}")).await);
    }
    numbers.reverse();
    let (mut listed, mut path) = (vec![], "/api/v1/dead-letters?limit=2".to_owned());
    loop {
        let page = web.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        assert_eq!(items[0]["last_error"], "the provider answered 403");
        assert_eq!((&items[0]["channel"], &items[0]["event"], &items[0]["attempts"]), (&json!("hook"), &json!("opened"), &json!(1)));
        assert!(items[0]["summary"].as_str().unwrap().contains("shop"), "{page}");
        listed.extend(items.iter().map(|item| item["id"].as_i64().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/dead-letters?limit=2&before={next}");
        assert!(listed.len() <= 10, "the pages never end");
    }
    assert_eq!(listed, numbers);
    assert_eq!(web.get_as("/api/v1/dead-letters", &web.foreign).await.json()["items"], json!([]));

    let retry = format!("/api/v1/dead-letters/{}/retry", numbers[2]);
    assert_eq!(web.post_as(&retry, &web.foreign, "").await.error_code(), "not_found");
    assert_eq!(web.channel_wakes.load(Ordering::SeqCst), 0);
    assert_eq!(web.post_as(&retry, &web.operator, "").await.status, StatusCode::ACCEPTED);
    assert_eq!(web.channel_wakes.load(Ordering::SeqCst), 1);
    assert_eq!(web.post_as(&retry, &web.operator, "").await.error_code(), "not_found", "it is dead no more");
    assert_eq!(web.get("/api/v1/dead-letters").await.json()["items"].as_array().unwrap().len(), 4);
    let due = web.world.store().due_notices(web.world.hook, web.clock.now(), 100).await.unwrap();
    assert!(due.iter().any(|notice| notice.id == numbers[2] && notice.attempts == 0), "it is due, counted anew");
    for (query, named) in [("limit=0", "1 to 500"), ("before=x", "before"), ("after=1", "after")] {
        let answer = web.get(&format!("/api/v1/dead-letters?{query}")).await;
        assert!(answer.status == StatusCode::BAD_REQUEST && answer.body.contains(named), "{query}: {}", answer.body);
    }
    web.stop().await;
}

#[tokio::test]
async fn a_channel_says_what_it_got_and_what_it_did_not_take() {
    let mut web = TestWeb::start().await;
    let hook: Provider = webhook::start(false).await;
    web.channels.send_replace(Channels(Arc::new(vec![owned_hook(&web, &hook.url)])));
    let path = "/api/v1/alert-channels/hook/notices";
    assert_eq!(web.get(path).await.json()["items"], json!([]));
    let dead = dead_letter(&mut web, "rule0").await;
    let (decision, _, incident) = web.world.opens(web.world.shop, "slow_response", world::T0);
    web.world.commit_decisions(vec![decision]).await;
    let items = web.get(path).await.json()["items"].clone();
    let of = |state: &str| items.as_array().unwrap().iter().find(|item| item["state"] == state).cloned().unwrap_or_default();
    assert_eq!((&of("dead")["last_error"], &of("dead")["next_at"]), (&json!("the provider answered 403"), &Value::Null), "{dead}: {items}");
    assert_eq!((&of("due")["incident"], &of("due")["event"]), (&json!(incident), &json!("opened")), "{items}");
    assert_eq!(web.get(&format!("{path}?limit=1")).await.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(web.get_as(path, &web.foreign).await.error_code(), "not_found");
    web.stop().await;
}

#[tokio::test]
async fn ready_warns_of_what_could_not_be_delivered_and_stays_ready() {
    let web = TestWeb::start().await;
    let works = web.ready.borrow().clone();
    web.ready.send_replace(Readiness { dead_letters: 3, ..works });
    let answer = web.call(Method::GET, "/ready", None, &[], Bytes::new()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["warnings"], json!(["3 notices could not be delivered; see watchkeeper dead-letters"]));
    web.stop().await;
}

#[tokio::test]
async fn a_channel_is_shown_without_its_secrets_and_tried() {
    let web = TestWeb::start().await;
    let hook: Provider = webhook::start(false).await;
    web.channels.send_replace(Channels(Arc::new(vec![owned_hook(&web, &hook.url)])));
    let listed = web.get("/api/v1/alert-channels").await;
    assert!(!listed.body.contains("hunter2"), "{}", listed.body);
    let items = &listed.json()["items"];
    assert_eq!((&items[0]["name"], &items[0]["kind"], &items[0]["origin"]), (&json!("hook"), &json!("webhook"), &json!("wk.yaml:1")));
    assert_eq!(web.get_as("/api/v1/alert-channels", &web.foreign).await.json()["items"], json!([]));

    let test = "/api/v1/alert-channels/hook/test";
    assert_eq!(web.post_as(test, &web.foreign, "").await.error_code(), "not_found");
    let answer = web.post_as(test, &web.operator, "").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(hook.finish().len(), 1);
    let mended = || web.mended.lock().unwrap().clone();
    assert_eq!(mended(), [web.world.hook], "what waits for it is tried");
    hook.then(Act::Answer(StatusCode::FORBIDDEN, vec![], "no".into()));
    let refused = web.post_as(test, &web.operator, "").await;
    assert_eq!((refused.status, refused.error_code().as_str()), (StatusCode::BAD_GATEWAY, "channel_refused"));
    assert!(refused.body.contains("403") && !refused.body.contains("hunter2"), "{}", refused.body);
    assert_eq!(mended().len(), 1, "it was not seen to work");
    web.post_as(test, &web.operator, "").await;
    let many = web.post_as(test, &web.operator, "").await;
    assert_eq!((many.status, hook.finish().len()), (StatusCode::TOO_MANY_REQUESTS, 3), "tests leave beside the channel's budget");
    web.stop().await;
}

#[tokio::test]
async fn a_loop_gone_wild_is_held_back_and_others_are_not() {
    let mut web = TestWeb::start().await;
    let uid = open_incident(&mut web, "down").await;
    let path = format!("/api/v1/incidents/{uid}/comments");
    let mut held_back = false;
    for _ in 0..2_000 {
        let answer = web.post_as(&path, &web.operator, r#"{"text":"x"}"#).await;
        held_back = answer.status == StatusCode::TOO_MANY_REQUESTS;
        if held_back {
            assert_eq!(answer.error_code(), "too_many_requests");
            assert!(answer.headers.contains_key("retry-after"));
            break;
        }
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    }
    assert!(held_back, "it is never held back");
    let asked = json!({"all": true, "for": "1h", "comment": "x"}).to_string();
    assert_eq!(web.post_as("/api/v1/silences", &web.foreign, asked).await.status, StatusCode::CREATED, "another tenant's people");
    web.stop().await;
}
