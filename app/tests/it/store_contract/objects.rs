//! Belonging, ids, and making the objects of a source be what it says.

use super::world::*;
use crate::support::store::each_store;
use smallvec::smallvec;
use std::collections::HashSet;
use watchkeeper::store::*;
use watchkeeper_core::MonitorId;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::sight::Vote;

fn ids(retired: &[RetiredMonitor]) -> Vec<MonitorId> {
    retired.iter().map(|gone| gone.id).collect()
}

/// One tenant with these monitors, from one source.
async fn apply(store: &dyn Store, source: &str, monitors: Vec<MonitorObject>, at: i64) -> (Vec<AppliedMonitor>, Vec<MonitorId>) {
    let objects = TenantObjects { tenant: "acme".into(), channels: vec![channel("hook")], monitors, maintenance: vec![] };
    let mut applied = store.apply(source, &format!("hash-{at}"), &[objects], Mandate::Alone, Beside::default(), sec(at)).await.unwrap();
    (applied.tenants.remove(0).monitors, ids(&applied.retired))
}

async fn names(store: &dyn Store, tenant: &str) -> Vec<String> {
    let tenants = store.tenants().await.unwrap();
    let (id, _) = tenants.iter().find(|(_, slug)| slug == tenant).expect("the tenant is there");
    store.monitors(TenantScope(*id), None, PAGE_MAX).await.unwrap().into_iter().map(|m| m.name).collect()
}

#[tokio::test]
async fn a_node_keeps_its_identity_and_shares_its_datacenter() {
    each_store(|mut t| async move {
        let a = t.store.join("a", "fra", "boot-1", T0).await.unwrap();
        let b = t.store.join("b", "fra", "boot-1", T0).await.unwrap();
        let c = t.store.join("c", "ams", "boot-1", T0).await.unwrap();
        assert_ne!(a.agent, b.agent);
        assert_eq!(a.datacenter, b.datacenter);
        assert_ne!(a.datacenter, c.datacenter);
        assert_eq!((a.agent_name.as_str(), a.datacenter_code.as_str(), a.last_batch), ("a", "fra", 0));
        assert!(a.shards > 0 && a.shards == b.shards);
        t.reopen().await;
        assert_eq!(t.store.join("a", "fra", "boot-2", T0).await.unwrap(), Joined { boot: "boot-2".into(), ..a });
    })
    .await;
}

#[tokio::test]
async fn reserved_ids_are_never_given_twice() {
    each_store(|mut t| async move {
        let other = t.as_another_node().await;
        let mut seen = HashSet::new();
        for round in 0..5 {
            let (one, two) = tokio::join!(t.store.reserve_ids(40), other.reserve_ids(7));
            for (mut block, count) in [(one.unwrap(), 40), (two.unwrap(), 7)] {
                assert_eq!(block.left(), count);
                while let Some(id) = block.draw() {
                    assert!(id > 0, "0 means none in places");
                    assert!(seen.insert(id), "{id} was reserved twice, in round {round}");
                }
            }
        }
        t.reopen().await;
        let after = t.store.reserve_ids(1).await.unwrap().draw().unwrap();
        assert!(seen.insert(after), "{after} was reserved again after a restart");
    })
    .await;
}

#[tokio::test]
async fn what_is_applied_is_read_back() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let listed = w.store().monitors(w.acme(), None, 10).await.unwrap();
        assert_eq!(listed.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["api", "shop"], "by name");
        let (shop, want) = (&listed[1], monitor("shop"));
        assert_eq!((shop.id, &shop.kind, &shop.target, &shop.labels), (w.shop, &want.kind, &want.target, &want.labels));
        assert_eq!((shop.paused, &shop.origin, shop.created_at), (false, &want.origin, T0));
        assert_eq!(shop.config, serde_json::from_str::<serde_json::Value>(&want.config).unwrap());
        assert_eq!((shop.health, shop.since, shop.last.clone()), (watchkeeper_core::quorum::Health::Unknown, None, None));
        let mut slugs = w.store().tenants().await.unwrap();
        slugs.sort();
        let mut expected = vec![(w.acme, "acme".to_owned()), (w.zenith, "zenith".to_owned())];
        expected.sort();
        slugs.retain(|(_, slug)| slug != "default");
        assert_eq!(slugs, expected);
    })
    .await;
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing() {
    each_store(|mut t| async move {
        let first = t.store.apply("files", "h", &objects(), Mandate::Alone, Beside::default(), T0).await.unwrap();
        t.reopen().await;
        let again = t.store.apply("files", "h", &objects(), Mandate::Alone, Beside::default(), sec(3_600)).await.unwrap();
        assert_eq!(first, again);
        assert!(first.retired.is_empty());
        assert_eq!(t.number("SELECT max(rev) - min(rev) FROM wk_monitor").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_change_keeps_the_identity_and_raises_the_revision() {
    each_store(|mut t| async move {
        let (before, _) = apply(&*t.store, "files", vec![monitor("shop"), monitor("api")], 0).await;
        let rev_before = t.number("SELECT rev FROM wk_monitor WHERE name = 'shop'").await;
        let changed = MonitorObject { hash: [2; 32], target: "https://new.example.org/".into(), paused: true, ..monitor("shop") };
        let (after, retired) = apply(&*t.store, "files", vec![changed, monitor("api")], 5).await;
        assert_eq!(before, after);
        assert!(retired.is_empty());
        assert_eq!(t.number("SELECT rev FROM wk_monitor WHERE name = 'shop'").await, rev_before + 1);
        assert_eq!(t.number("SELECT rev FROM wk_monitor WHERE name = 'api'").await, rev_before, "the other one did not change");
        let tenant = t.store.tenants().await.unwrap().iter().find(|(_, slug)| slug == "acme").unwrap().0;
        let shop = t.store.monitor(TenantScope(tenant), "shop").await.unwrap().unwrap();
        assert_eq!((shop.target.as_str(), shop.paused), ("https://new.example.org/", true));
    })
    .await;
}

#[tokio::test]
async fn what_a_source_no_longer_has_is_retired() {
    each_store(|t| async move {
        let (made, _) = apply(&*t.store, "files", vec![monitor("shop"), monitor("api")], 0).await;
        let (_, retired) = apply(&*t.store, "page", vec![monitor("by-hand")], 1).await;
        assert!(retired.is_empty(), "a source retires only its own");
        let (_, retired) = apply(&*t.store, "files", vec![monitor("api")], 2).await;
        assert_eq!(retired, [made[0].id]);
        assert_eq!(names(&*t.store, "acme").await, ["api", "by-hand"]);
        let (_, retired) = apply(&*t.store, "files", vec![monitor("api")], 3).await;
        assert!(retired.is_empty(), "retired once is retired");
        let gone = t.store.apply("files", "empty", &[], Mandate::Alone, Beside::default(), sec(4)).await.unwrap();
        assert_eq!(ids(&gone.retired), [made[1].id], "a tenant that is no longer in the source loses its monitors of that source");
        assert_eq!(names(&*t.store, "acme").await, ["by-hand"]);
    })
    .await;
}

#[tokio::test]
async fn a_retired_monitor_is_named_until_its_incident_is_resolved() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, id, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        let mut left = objects();
        left[0].monitors.remove(0);
        for attempt in 0..2 {
            let retired =
                w.store().apply("files", &format!("h{attempt}"), &left, Mandate::Alone, Beside::default(), sec(2)).await.unwrap().retired;
            assert_eq!(ids(&retired), [w.shop], "a crash between apply and resolve must not forget it");
            w.t.reopen().await;
        }
        let state = w.store().load(&[w.shop]).await.unwrap();
        assert_eq!(state[0].open.iter().map(|open| open.id).collect::<Vec<_>>(), [id]);
        w.commit_decisions(vec![w.resolves(w.shop, id, &uid, sec(3))]).await;
        assert_eq!(w.store().apply("files", "h3", &left, Mandate::Alone, Beside::default(), sec(4)).await.unwrap().retired, []);
        assert_eq!(w.incident(&uid).await.status, "resolved", "history can still be read");
    })
    .await;
}

#[tokio::test]
async fn a_monitor_that_comes_back_has_its_history() {
    each_store(|t| async move {
        let (made, _) = apply(&*t.store, "files", vec![monitor("shop"), monitor("api")], 0).await;
        apply(&*t.store, "files", vec![monitor("api")], 1).await;
        let (back, retired) = apply(&*t.store, "files", vec![monitor("shop"), monitor("api")], 2).await;
        assert_eq!(back, made, "commenting a monitor out for a while forgets nothing");
        assert!(retired.is_empty());
        assert_eq!(names(&*t.store, "acme").await, ["api", "shop"]);
    })
    .await;
}

#[tokio::test]
async fn a_monitor_that_comes_back_is_seen_afresh() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let seen = |w: &World, monitor| {
            let vote = Vote { health: Health::Down, reason: None, blind: None, breached: smallvec![], at: sec(0), good_until: sec(60) };
            let sight = SightRow { datacenter: w.me.datacenter, sight: watchkeeper_core::sight::Sight::default(), vote };
            let verdict = watchkeeper_core::verdict::Verdict { health: Health::Down, ..Default::default() };
            Decision { sight: Some(sight), verdict: Some(VerdictRow { verdict, wake: None }), ..w.decision(monitor) }
        };
        let (opened, id, uid) = w.opens(w.api, "down", sec(1));
        let (shop, api) = (seen(&w, w.shop), seen(&w, w.api));
        w.commit_decisions(vec![shop, api, opened]).await;
        // Put back at once, and unchanged: nothing is forgotten.
        w.store().apply("files", "h1", &objects(), Mandate::Alone, Beside::default(), sec(2)).await.unwrap();
        assert!(w.store().load(&[w.shop]).await.unwrap()[0].verdict.is_some());
        let mut left = objects();
        left[0].monitors.clear();
        w.store().apply("files", "h2", &left, Mandate::Alone, Beside::default(), sec(3)).await.unwrap();
        w.store().apply("files", "h3", &objects(), Mandate::Alone, Beside::default(), sec(4)).await.unwrap();
        let states = w.store().load(&[w.shop, w.api]).await.unwrap();
        assert_eq!((states[0].sights.len(), states[0].verdict.clone()), (0, None));
        assert_eq!(states[1].sights.len(), 0);
        assert!(states[1].verdict.is_some(), "its incident has not been ended yet");
        assert_eq!(states[1].open.iter().map(|open| open.id).collect::<Vec<_>>(), [id]);
        assert_eq!(w.incident(&uid).await.status, "open");
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_a_channel_that_is_taken_out_says_so() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, _, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        let mut left = objects();
        left[0].channels.remove(0);
        w.store().apply("files", "h2", &left, Mandate::Alone, Beside::default(), sec(2)).await.unwrap();
        let incident = w.incident(&uid).await;
        assert_eq!(states(&incident), [("hook", "opened", "suppressed")]);
        assert_eq!(incident.notices[0].why.as_deref(), Some("its channel hook is gone from the configuration"));
        let not_told = ("not_told", "not told hook: the channel is gone from the configuration (opened)");
        assert_eq!(story(&incident).last(), Some(&not_told));
        w.store().apply("files", "h3", &left, Mandate::Alone, Beside::default(), sec(3)).await.unwrap();
        assert_eq!(story(&w.incident(&uid).await).iter().filter(|entry| **entry == not_told).count(), 1, "said once");
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn renaming_with_was_or_id_keeps_the_history() {
    each_store(|t| async move {
        let mine = MonitorObject { uid: Some("0190-my-own".into()), ..monitor("fixed") };
        let (made, _) = apply(&*t.store, "files", vec![monitor("shop"), mine.clone()], 0).await;
        assert_eq!(made[1].uid, "0190-my-own");
        let renamed = MonitorObject { was: Some("shop".into()), ..monitor("store") };
        let moved = MonitorObject { name: "moved".into(), ..mine };
        let (after, retired) = apply(&*t.store, "files", vec![renamed.clone(), moved.clone()], 1).await;
        assert_eq!(after, made);
        assert!(retired.is_empty());
        assert_eq!(names(&*t.store, "acme").await, ["moved", "store"]);
        let (again, _) = apply(&*t.store, "files", vec![renamed, moved], 2).await;
        assert_eq!(again, made, "a `was` that is left in the file does no harm");
    })
    .await;
}

#[tokio::test]
async fn two_monitors_can_exchange_their_names() {
    each_store(|t| async move {
        let (made, _) = apply(&*t.store, "files", vec![monitor("one"), monitor("two")], 0).await;
        let one = MonitorObject { was: Some("two".into()), ..monitor("one") };
        let two = MonitorObject { was: Some("one".into()), ..monitor("two") };
        let (after, retired) = apply(&*t.store, "files", vec![one, two], 1).await;
        assert!(retired.is_empty());
        assert_eq!(
            after.iter().map(|m| m.id).collect::<HashSet<_>>(),
            made.iter().map(|m| m.id).collect::<HashSet<_>>(),
            "none is made and none is lost"
        );
        assert_eq!(names(&*t.store, "acme").await, ["one", "two"]);
    })
    .await;
}

#[tokio::test]
async fn the_same_name_in_two_tenants_is_two_monitors() {
    each_store(|t| async move {
        let w = World::new(t).await;
        assert_ne!(w.shop, w.other_shop);
        let mine = w.store().monitor(w.acme(), "shop").await.unwrap().unwrap();
        let theirs = w.store().monitor(w.zenith(), "shop").await.unwrap().unwrap();
        assert_eq!((mine.id, theirs.id), (w.shop, w.other_shop));
        assert_ne!(mine.uid, theirs.uid);
        // One tenant's going does not touch the other's.
        let retired = w.store().apply("files", "h2", &objects()[..1], Mandate::Alone, Beside::default(), sec(1)).await.unwrap().retired;
        let shop = monitor("shop");
        let zenith = ("zenith".to_owned(), w.zenith);
        let want = RetiredMonitor {
            id: w.other_shop,
            uid: theirs.uid,
            name: shop.name,
            kind: shop.kind,
            target: shop.target,
            tenant: zenith.1,
            tenant_slug: zenith.0,
        };
        assert_eq!(retired, [want], "with what its last words need");
        assert!(w.store().monitor(w.acme(), "shop").await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn a_push_token_is_kept_and_found() {
    each_store(|t| async move {
        let push = |token: &str| MonitorObject { kind: "push".into(), push_token: Some(token.into()), ..monitor("job") };
        let (made, _) = apply(&*t.store, "files", vec![push("first-token"), monitor("shop")], 0).await;
        assert_eq!(made[0].push_token.as_deref(), Some("first-token"));
        assert_eq!(made[1].push_token, None);
        let changed = MonitorObject { hash: [9; 32], ..push("second-token") };
        let (after, _) = apply(&*t.store, "files", vec![changed, monitor("shop")], 1).await;
        assert_eq!(after, made, "the token in use goes on working");
        assert_eq!(t.store.push_target("first-token").await.unwrap(), Some(made[0].id));
        for nobody in ["second-token", "", "first-toke", &made[0].uid, &made[1].uid] {
            assert_eq!(t.store.push_target(nobody).await.unwrap(), None, "{nobody:?} is no push token");
        }
        let tenants = t.store.tenants().await.unwrap();
        let scope = TenantScope(tenants[0].0);
        assert_eq!(t.store.push_token(scope, made[0].id).await.unwrap().as_deref(), Some("first-token"));
        assert_eq!(t.store.push_token(scope, made[1].id).await.unwrap(), None, "it is no push monitor");
        assert_eq!(
            t.store.push_token(TenantScope(watchkeeper_core::TenantId(scope.0.0 + 1)), made[0].id).await.unwrap(),
            None,
            "it is another tenant's"
        );
        apply(&*t.store, "files", vec![monitor("shop")], 2).await;
        assert_eq!(t.store.push_target("first-token").await.unwrap(), None, "a retired monitor takes no pushes");
    })
    .await;
}
