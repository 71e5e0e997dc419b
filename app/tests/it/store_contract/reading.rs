//! Reading: a tenant sees its own and nothing else, page by page.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::store::*;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::{RuleKey, Severity};
use watchkeeper_core::verdict::{Flap, RuleState, Standing, Verdict};
use watchkeeper_core::{Dur, IncidentId, Outcome, Reason};

#[tokio::test]
async fn the_wrong_tenant_sees_nothing() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut decision, _, uid) = w.opens(w.shop, "down", sec(7_000));
        decision.interval = Some(IntervalRow { start: sec(1), health: Health::Down });
        let batch = Batch { beats: vec![w.beat(w.shop, sec(1), Outcome::Up)], decisions: vec![decision], ..w.batch() };
        w.store().commit(&batch).await.unwrap();
        w.housekeep(sec(7_200)).await;
        w.commit_beats(vec![w.beat(w.shop, sec(7_201), Outcome::Up)]).await;
        let s = w.store();
        let shop = s.monitor(w.acme(), "shop").await.unwrap().unwrap();

        // Each question has an answer for the owner …
        assert_eq!(s.heartbeats(w.acme(), w.shop, LATER, 10).await.unwrap().len(), 2);
        assert!(!s.metrics(w.acme(), w.shop, None, T0, sec(9_000), Dur::secs(3_600)).await.unwrap().is_empty());
        assert_ne!(s.state_times(w.acme(), w.shop, T0, sec(60)).await.unwrap().down, Dur::ZERO);
        assert_eq!(s.days(w.acme(), Some(w.shop), T0, sec(60)).await.unwrap().len(), 1);
        assert!(s.briefs(w.acme()).await.unwrap().iter().any(|m| m.uid == shop.uid));
        assert!(s.monitor(w.acme(), &shop.uid).await.unwrap().is_some());
        let all = IncidentFilter { limit: 10, ..IncidentFilter::default() };
        let of_shop = IncidentFilter { monitor_uid: Some(shop.uid.clone()), ..all.clone() };
        assert_eq!(s.incidents(w.acme(), &all).await.unwrap().len(), 1);
        assert_eq!(s.incidents(w.acme(), &of_shop).await.unwrap().len(), 1);
        for (status, count) in [("open", 1), ("acknowledged", 0), ("resolved", 0), ("unresolved", 1)] {
            let filter = IncidentFilter { status: Some(status.to_owned()), ..all.clone() };
            assert_eq!(s.incidents(w.acme(), &filter).await.unwrap().len(), count, "{status}");
        }
        assert!(s.incident(w.acme(), &uid).await.unwrap().is_some());
        assert_eq!(s.live_after(w.acme(), 0, 10).await.unwrap().0.len(), 1);

        // … and none for anybody else, not even for one who knows the ids.
        for scope in [w.zenith(), TenantScope(watchkeeper_core::TenantId(987_654))] {
            assert!(s.monitors(scope, None, 10).await.unwrap().iter().all(|m| m.id != w.shop && m.name != "api"));
            assert!(s.briefs(scope).await.unwrap().iter().all(|m| m.uid != shop.uid && m.name != "api"));
            assert!(s.days(scope, None, T0, sec(60)).await.unwrap().is_empty());
            assert!(s.days(scope, Some(w.shop), T0, sec(60)).await.unwrap().is_empty());
            assert_eq!(s.monitor(scope, &shop.uid).await.unwrap(), None);
            assert!(s.monitor(scope, "shop").await.unwrap().is_none_or(|m| m.id == w.other_shop));
            assert_eq!(s.monitor(scope, "api").await.unwrap(), None);
            assert_eq!(s.heartbeats(scope, w.shop, LATER, 10).await.unwrap(), []);
            let counted = s.metrics(scope, w.shop, None, T0, sec(9_000), Dur::secs(3_600)).await.unwrap();
            assert!(counted.iter().all(|bucket| bucket.up + bucket.down + bucket.unknown == 0), "{counted:?}");
            let times = s.state_times(scope, w.shop, T0, sec(60)).await.unwrap();
            assert_eq!((times.up, times.down), (Dur::ZERO, Dur::ZERO));
            assert_eq!(s.incidents(scope, &all).await.unwrap(), []);
            assert_eq!(s.incidents(scope, &of_shop).await.unwrap(), []);
            assert_eq!(s.incident(scope, &uid).await.unwrap(), None);
            assert_eq!(s.live_after(scope, 0, 10).await.unwrap().0, []);
        }
    })
    .await;
}

#[tokio::test]
async fn monitors_come_in_pages() {
    each_store(|t| async move {
        let monitors = (0..PAGE_MAX + 5).map(|n| monitor(&format!("m-{n:05}"))).collect();
        let objects = TenantObjects { tenant: "acme".into(), monitors, ..TenantObjects::default() };
        let scope =
            TenantScope(t.store.apply("files", "h", &[objects], Mandate::Alone, Beside::default(), T0).await.unwrap().tenants[0].tenant);
        let page = |after: Option<&'static str>, limit| {
            let store = t.store.clone();
            async move { store.monitors(scope, after, limit).await.unwrap().into_iter().map(|m| m.name).collect::<Vec<_>>() }
        };
        assert_eq!(page(None, 2).await, ["m-00000", "m-00001"]);
        assert_eq!(page(Some("m-00001"), 2).await, ["m-00002", "m-00003"]);
        assert_eq!(page(Some("m-01003"), 2).await, ["m-01004"]);
        assert_eq!(page(Some("m-01004"), 2).await, [""; 0]);
        assert_eq!(page(None, i64::MAX).await.len(), PAGE_MAX as usize, "one request holds the reader only for so long");
        assert_eq!(page(None, -1).await, [""; 0], "no limit is no way to get all");
    })
    .await;
}

#[tokio::test]
async fn a_monitor_shows_its_newest_heartbeat_and_its_verdict() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let newest = w.beat(w.shop, sec(20), Outcome::Down(Reason::DnsNxdomain));
        w.commit_beats(vec![newest.clone(), w.beat(w.shop, sec(10), Outcome::Up)]).await;
        let verdict = Verdict { health: Health::Down, since: sec(20), reason: Some(Reason::DnsNxdomain), ..Verdict::default() };
        let decision = Decision { verdict: Some(VerdictRow { verdict, wake: None }), ..w.decision(w.shop) };
        w.commit_decisions(vec![decision]).await;
        for moved in [false, true] {
            if moved {
                w.housekeep(sec(30)).await;
            }
            let shop = w.store().monitor(w.acme(), "shop").await.unwrap().unwrap();
            assert_eq!(shop.last.as_ref(), Some(&newest));
            assert_eq!((shop.health, shop.since, shop.why.as_deref()), (Health::Down, Some(sec(20)), Some("dns_nxdomain")));
            let listed = w.store().monitors(w.acme(), None, 10).await.unwrap();
            assert_eq!(listed.iter().find(|m| m.name == "shop"), Some(&shop), "lists show the same");
            let briefs: Vec<MonitorBrief> = listed.into_iter().map(in_brief).collect();
            assert_eq!(w.store().briefs(w.acme()).await.unwrap(), briefs, "and in brief no less of it");
            assert_eq!(w.store().monitor(w.acme(), &shop.uid).await.unwrap(), Some(shop));
        }
    })
    .await;
}

/// What there is in brief of a monitor of a list.
fn in_brief(view: MonitorView) -> MonitorBrief {
    let MonitorView {
        id: _,
        uid,
        name,
        kind,
        target,
        labels,
        paused,
        origin: _,
        config: _,
        health,
        since,
        why,
        flapping,
        created_at: _,
        last: _,
    } = view;
    MonitorBrief { uid, name, kind, target, labels, paused, health, since, why, flapping }
}

#[tokio::test]
async fn what_flaps_is_named_in_brief_too() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        for (monitor, flap) in [(w.shop, Some(Flap::Clear(sec(8)))), (w.api, None)] {
            let standing = Standing {
                incident: IncidentId(1),
                told: Vec::new().into(),
                opened_at: sec(5),
                words: 1,
                acknowledged: false,
                step: 0,
                remind_at: None,
                flap,
            };
            let rules = [(RuleKey::new("down"), RuleState::Open(standing))].into_iter().collect();
            let verdict = Verdict { health: Health::Down, since: sec(5), rules, ..Verdict::default() };
            let decision = Decision { verdict: Some(VerdictRow { verdict, wake: None }), ..w.decision(monitor) };
            w.commit_decisions(vec![decision]).await;
        }
        let briefs = w.store().briefs(w.acme()).await.unwrap();
        let flapping: Vec<_> = briefs.iter().map(|brief| (brief.name.as_str(), brief.flapping.join(" "))).collect();
        assert_eq!(flapping, [("api", String::new()), ("shop", "down".to_owned())]);
    })
    .await;
}

#[tokio::test]
async fn incidents_come_newest_first_in_pages_and_by_status() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        // Three of one instant, so that a page can end between them.
        let mut uids = Vec::new();
        for (n, at) in [1, 5, 5, 5, 9].into_iter().enumerate() {
            let (decision, id, uid) = w.opens(if n == 0 { w.api } else { w.shop }, &format!("rule-{n}"), sec(at));
            w.commit_decisions(vec![decision]).await;
            uids.push((uid, id));
        }
        w.commit_decisions(vec![w.resolves(w.shop, uids[4].1, &uids[4].0, sec(10))]).await;
        let mut filter = IncidentFilter { limit: 2, ..IncidentFilter::default() };
        let mut seen = Vec::new();
        loop {
            let page = w.store().incidents(w.acme(), &filter).await.unwrap();
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            filter.before = Some((last.opened_at, last.id));
            seen.extend(page);
        }
        assert_eq!(seen.len(), 5, "none twice and none left out");
        assert!(seen.windows(2).all(|pair| (pair[0].opened_at, pair[0].id) > (pair[1].opened_at, pair[1].id)), "newest first");
        assert_eq!(seen[0].status, "resolved");
        assert!(seen[0].timeline.is_empty() && seen[0].notices.is_empty(), "lists are short");

        let by = |status: Option<&str>, monitor: Option<String>| IncidentFilter {
            status: status.map(str::to_owned),
            monitor_uid: monitor,
            before: None,
            limit: 100,
        };
        let api = w.store().monitor(w.acme(), "api").await.unwrap().unwrap().uid;
        for (filter, count) in [
            (by(Some("open"), None), 4),
            (by(Some("resolved"), None), 1),
            (by(Some("acknowledged"), None), 0),
            (by(None, Some(api.clone())), 1),
            (by(Some("resolved"), Some(api)), 0),
            (by(None, Some("nobody".into())), 0),
        ] {
            assert_eq!(w.store().incidents(w.acme(), &filter).await.unwrap().len(), count, "{filter:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_glance_is_of_its_monitors_alone_and_of_the_tenants() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let span = GlanceSpan { days_from: T0, recent_from: sec(80_000), ended_after: sec(500), to: sec(86_400) };
        let (first, old, old_uid) = w.opens(w.shop, "a", sec(100));
        let (second, over, over_uid) = w.opens(w.shop, "b", sec(200));
        let (third, _, lasts) = w.opens(w.shop, "c", sec(50));
        let (other, ..) = w.opens(w.api, "a", sec(300));
        let mut foreign = w.opens(w.other_shop, "a", sec(300)).0;
        foreign.notices.clear();
        w.commit_decisions(vec![first, second, third, other, foreign]).await;
        w.commit_decisions(vec![w.resolves(w.shop, old, &old_uid, sec(400)), w.resolves(w.shop, over, &over_uid, sec(600))]).await;
        w.commit_decisions(vec![w.interval(w.shop, sec(10), Health::Up), w.interval(w.api, sec(10), Health::Up)]).await;
        w.commit_decisions(vec![w.interval(w.shop, sec(85_000), Health::Down)]).await;
        let beat = w.beat(w.shop, sec(86_000), Outcome::Up);
        w.commit_beats(vec![beat.clone()]).await;

        let shop = w.store().monitor(w.acme(), "shop").await.unwrap().unwrap();
        let glance = w.store().glance(w.acme(), &[w.shop, w.other_shop, watchkeeper_core::MonitorId(987_654)], span).await.unwrap();
        assert_eq!(glance.monitors, std::slice::from_ref(&shop));
        assert_eq!(glance.monitors[0].last.as_ref(), Some(&beat));
        assert_eq!(glance.incidents.iter().map(|one| one.uid.as_str()).collect::<Vec<_>>(), [lasts.as_str(), over_uid.as_str()]);
        let all = w.store().days(w.acme(), None, span.days_from, span.to).await.unwrap();
        assert_eq!((all.len(), glance.days.len()), (2, 1));
        assert!(all.contains(&glance.days[0]) && glance.days[0].uid == shop.uid);
        assert_eq!((glance.recent[0].times.up, glance.recent[0].times.down), (Dur::secs(5_000), Dur::secs(1_400)));
        assert_eq!(w.store().glance(w.zenith(), &[w.shop, w.api], span).await.unwrap(), Glance::default());
        assert_eq!(w.store().glance(w.acme(), &[], span).await.unwrap(), Glance::default());
    })
    .await;
}

#[tokio::test]
async fn an_incident_tells_its_whole_story() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (decision, id, uid) = w.opens(w.shop, "slow_response/first_byte", sec(1));
        w.commit_decisions(vec![decision]).await;
        w.commit_decisions(vec![w.resolves(w.shop, id, &uid, sec(9))]).await;
        let shop = w.store().monitor(w.acme(), "shop").await.unwrap().unwrap();
        let got = w.incident(&uid).await;
        assert_eq!((got.uid.as_str(), got.id, got.monitor_uid, got.monitor.as_str()), (uid.as_str(), id, shop.uid, "shop"));
        assert_eq!(RuleKey::new(&got.rule), RuleKey::new("slow_response/first_byte"));
        assert_eq!((got.severity, got.value, got.reason.as_deref()), (Severity::Critical, Some(-7), Some("tcp_refused")));
        assert_eq!((got.opened_at, got.resolved_at), (sec(1), Some(sec(9))));
        let story: Vec<_> = got.timeline.iter().map(|e| (e.nth, e.at, e.kind.as_str(), e.text.as_str())).collect();
        let opened = "shop is down: the connection was refused";
        assert_eq!(story, [(0, sec(1), "opened", opened), (1, sec(9), "resolved", "shop is up again")]);
        assert_eq!(got.timeline[0].evidence, Some(serde_json::json!({ "attempt": { "total_us": 1 } })));
        let notices: Vec<_> = got.notices.iter().map(|n| (n.channel.as_str(), n.event.as_str(), n.state.as_str())).collect();
        assert_eq!(notices, [("hook", "opened", "due"), ("hook", "resolved", "due")]);
        assert_eq!(w.store().incident(w.acme(), "no-such-uid").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn tokens_are_found_by_their_hash_only() {
    each_store(|mut t| async move {
        let tenant = t.store.apply("files", "h", &objects(), Mandate::Alone, Beside::default(), T0).await.unwrap().tenants[0].tenant;
        assert!(!t.store.accounts().has_tokens().await.unwrap());
        let scope = TenantScope(tenant);
        t.store.accounts().create_token(scope, &token("grafana", "viewer", &[7; 32], "wk_abc", Some(sec(86_400))), T0).await.unwrap();
        t.store.accounts().create_token(scope, &token("me", "admin", &[8; 32], "wk_def", None), T0).await.unwrap();
        t.reopen().await;
        assert!(t.store.accounts().has_tokens().await.unwrap());
        let want =
            TokenRow { tenant, name: "grafana".into(), role: "viewer".into(), prefix: "wk_abc".into(), expires_at: Some(sec(86_400)) };
        assert_eq!(t.store.accounts().token(&[7; 32]).await.unwrap(), Some(want));
        assert_eq!(
            t.store.accounts().token(&[8; 32]).await.unwrap().map(|token| (token.role, token.expires_at)),
            Some(("admin".into(), None))
        );
        assert_eq!(t.store.accounts().token(&[9; 32]).await.unwrap(), None);
    })
    .await;
}
