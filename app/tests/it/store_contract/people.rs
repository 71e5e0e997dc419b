//! What people do: silences, maintenance as configured, actions on incidents, comments.

use super::world::*;
use crate::support::store::each_store;
use std::collections::BTreeMap;
use watchkeeper::channel::text::iso;
use watchkeeper::store::*;
use watchkeeper_core::matcher::Matcher;
use watchkeeper_core::verdict::Action;
use watchkeeper_core::{IncidentId, Micros};

fn silence(uid: &str, from: i64, to: i64) -> Silence {
    Silence {
        uid: uid.into(),
        matcher: Matcher {
            monitors: vec!["shop*".into()],
            labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
            ..Matcher::default()
        },
        starts_at: sec(from),
        ends_at: sec(to),
        author: "ann".into(),
        comment: "we move — „ütf-8“".into(),
    }
}

fn window(name: &str, matcher: &str) -> MaintenanceObject {
    MaintenanceObject { name: name.into(), matcher: matcher.into(), window: r#"{"from":1}"#.into(), origin: "wk.yaml:30".into() }
}

/// An incident whose only notice is held for long by a mute. Its id and public id.
async fn held_incident(w: &mut World, rule: &str) -> (IncidentId, String) {
    let (opened, id, uid) = w.opens(w.shop, rule, sec(1));
    w.commit_decisions(vec![opened]).await;
    for notice in due(w, w.hook, sec(1)).await {
        let hold = Deferred::Held { until: LATER, why: "silence".into(), mute: true };
        w.store().defer(&[(notice.id, hold)], &w.hook_lease, sec(1)).await.unwrap();
    }
    assert_eq!(due(w, w.hook, sec(9)).await, []);
    (id, uid)
}

async fn names(w: &World, now: Micros) -> Vec<String> {
    w.store().mutes(w.acme, now).await.unwrap().silences.into_iter().map(|silence| silence.uid).collect()
}

#[tokio::test]
async fn a_silence_holds_from_its_beginning_to_its_end() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let created = w.store().create_silence(w.acme(), &silence("s-1", 10, 20)).await.unwrap().unwrap();
        assert_eq!(w.store().create_silence(w.acme(), &silence("s-1", 10, 20)).await.unwrap(), None, "it is there");
        w.store().create_silence(w.zenith(), &silence("s-z", 0, 90)).await.unwrap();
        w.t.reopen().await;
        assert_eq!(
            w.store().live_after(w.acme(), 0, 10).await.unwrap(),
            (vec![created.clone()], created.id),
            "once, and only its tenant's"
        );
        assert_eq!((created.event.kind.as_str(), created.event.at), ("silence_created", sec(10)));
        let said = serde_json::json!({
            "silence": "s-1", "match": {"monitors": ["shop*"], "labels": {"team": "web"}}, "starts_at": iso(sec(10)),
            "ends_at": iso(sec(20)), "author": "ann", "comment": "we move — „ütf-8“", "actor": "ann",
        });
        assert_eq!(created.event.data, said);
        assert_eq!(names(&w, sec(9)).await, [""; 0]);
        assert_eq!(w.store().mutes(w.acme, sec(10)).await.unwrap(), Mutes { silences: vec![silence("s-1", 10, 20)], maintenance: vec![] });
        assert_eq!(names(&w, sec(20)).await, [""; 0], "its end is not part of it");

        w.store().create_silence(w.acme(), &silence("s-2", 12, 30)).await.unwrap();
        assert_eq!(names(&w, sec(15)).await, ["s-1", "s-2"]);
        let listed = |silences: Vec<Silence>| silences.into_iter().map(|silence| silence.uid).collect::<Vec<_>>();
        assert_eq!(listed(w.store().silences(w.acme(), T0, 10).await.unwrap()), ["s-2", "s-1"], "newest first");
        assert_eq!(listed(w.store().silences(w.acme(), T0, 1).await.unwrap()), ["s-2"]);
        assert_eq!(listed(w.store().silences(w.acme(), sec(21), 10).await.unwrap()), ["s-2"], "the other has ended");
        assert_eq!(listed(w.store().silences(w.zenith(), T0, 10).await.unwrap()), ["s-z"]);
    })
    .await;
}

#[tokio::test]
async fn a_silence_that_is_ended_lets_what_it_held_be_looked_at() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        held_incident(&mut w, "down").await;
        w.store().create_silence(w.acme(), &silence("s-1", 0, 1_000)).await.unwrap();
        w.store().create_silence(w.acme(), &silence("later", 500, 1_000)).await.unwrap();
        assert!(w.store().end_silence(w.zenith(), "s-1", "bob", sec(10)).await.unwrap().is_none(), "another tenant's");
        assert!(w.store().end_silence(w.acme(), "none", "bob", sec(10)).await.unwrap().is_none());
        assert_eq!(due(&w, w.hook, sec(10)).await, []);
        let ended = w.store().end_silence(w.acme(), "s-1", "bob", sec(10)).await.unwrap().unwrap();
        assert_eq!((ended.event.kind.as_str(), ended.event.at), ("silence_ended", sec(10)));
        let data = &ended.event.data;
        assert_eq!((&data["silence"], &data["author"], &data["actor"]), (&"s-1".into(), &"ann".into(), &"bob".into()));
        assert_eq!(data["ends_at"], iso(sec(10)), "when it did, not when it would have");
        assert!(w.store().end_silence(w.acme(), "s-1", "bob", sec(11)).await.unwrap().is_none(), "it has ended");
        assert_eq!(names(&w, sec(10)).await, [""; 0]);
        let again = due(&w, w.hook, sec(10)).await;
        assert_eq!((again.len(), again[0].held), (1, true));
        assert_eq!(w.store().next_due(w.hook).await.unwrap(), Some(sec(10)));
        // One that has not begun never does.
        assert!(w.store().end_silence(w.acme(), "later", "bob", sec(12)).await.unwrap().is_some());
        let kinds: Vec<String> = w.store().live_after(w.acme(), 0, 10).await.unwrap().0.into_iter().map(|row| row.event.kind).collect();
        assert_eq!(kinds[1..], ["silence_created", "silence_created", "silence_ended", "silence_ended"]);
        assert_eq!(names(&w, sec(600)).await, [""; 0]);
        assert_eq!(w.store().silences(w.acme(), sec(13), 10).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn silences_are_not_without_number() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let tenant = w.acme.0;
        let ends = sec(100).0;
        let many = format!(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {SILENCES_MAX})
             INSERT INTO wk_silence (uid, tenant_id, matcher, starts_at, ends_at, author, comment)
             SELECT 'many-' || n, {tenant}, '{{}}', 0, {ends}, 'ann', '' FROM n",
        );
        w.t.behind_its_back(&many).await;
        let refused = w.store().create_silence(w.acme(), &silence("s-1", 10, 20)).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
        w.store().create_silence(w.acme(), &silence("s-2", 101, 110)).await.unwrap();
        w.store().create_silence(w.zenith(), &silence("s-3", 10, 20)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn maintenance_is_what_the_source_says() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let mut wanted = objects();
        wanted[0].maintenance = vec![window("move", r#"{"monitors":["shop"]}"#), window("patch", "{}")];
        wanted[1].maintenance = vec![window("move", "{}")];
        w.store().apply("files", "h2", &wanted, Mandate::Alone, Beside::default(), sec(1)).await.unwrap();
        w.t.reopen().await;
        let stored = |mutes: Mutes| mutes.maintenance;
        assert_eq!(stored(w.store().mutes(w.acme, sec(1)).await.unwrap()), wanted[0].maintenance, "by name");
        assert_eq!(stored(w.store().mutes(w.zenith, sec(1)).await.unwrap()), wanted[1].maintenance);

        held_incident(&mut w, "down").await;
        w.store().apply("files", "h2", &wanted, Mandate::Alone, Beside::default(), sec(10)).await.unwrap();
        wanted[0].maintenance[0].origin = "wk.yaml:31".into();
        wanted[1].maintenance[0].matcher = r#"{"kinds":["tcp"]}"#.into();
        w.store().apply("files", "h3", &wanted, Mandate::Alone, Beside::default(), sec(11)).await.unwrap();
        assert_eq!(due(&w, w.hook, sec(12)).await, [], "nothing is muted otherwise in acme");
        assert_eq!(stored(w.store().mutes(w.acme, sec(1)).await.unwrap()), wanted[0].maintenance);

        let gone = wanted[0].maintenance.remove(0);
        w.store().apply("files", "h4", &wanted, Mandate::Alone, Beside::default(), sec(13)).await.unwrap();
        assert_eq!(stored(w.store().mutes(w.acme, sec(1)).await.unwrap()), wanted[0].maintenance, "what is missing is no more");
        assert_eq!(due(&w, w.hook, sec(13)).await.len(), 1, "what it held is looked at");

        // Another source takes a name over, and a source that is empty has none.
        let other = TenantObjects { tenant: "acme".into(), maintenance: vec![gone.clone()], ..TenantObjects::default() };
        w.store().apply("page", "p1", &[other], Mandate::Alone, Beside::default(), sec(14)).await.unwrap();
        assert_eq!(stored(w.store().mutes(w.acme, sec(1)).await.unwrap()), [gone, wanted[0].maintenance[0].clone()]);
        w.store().apply("page", "p2", &[], Mandate::Alone, Beside::default(), sec(15)).await.unwrap();
        assert_eq!(stored(w.store().mutes(w.acme, sec(1)).await.unwrap()), wanted[0].maintenance);
    })
    .await;
}

#[tokio::test]
async fn an_action_is_a_fact_until_a_batch_has_folded_it() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, id, uid) = w.opens(w.shop, "down", sec(1));
        let (other, api, api_uid) = w.opens(w.api, "down", sec(1));
        w.commit_decisions(vec![opened, other]).await;
        let act = |uid: String, action, who: &'static str, at| (uid, action, who, sec(at));
        for (uid, action, who, at) in [
            act(uid.clone(), Action::Unacknowledge, "ann", 3),
            act(uid.clone(), Action::Acknowledge, "bob", 2),
            act(api_uid.clone(), Action::Resolve, "\0ann", 4),
        ] {
            let comment = (who == "bob").then_some("the disk\0 is full");
            assert!(w.store().insert_action(w.acme(), &uid, action, who, comment, at).await.unwrap());
        }
        assert!(!w.store().insert_action(w.zenith(), &uid, Action::Resolve, "eve", None, sec(5)).await.unwrap(), "another tenant's");
        assert!(!w.store().insert_action(w.acme(), "none", Action::Resolve, "ann", None, sec(5)).await.unwrap());
        w.t.reopen().await;
        let waiting = w.store().unfolded_actions(10).await.unwrap();
        let seen: Vec<_> = waiting.iter().map(|row| (row.incident, row.monitor, row.act, row.at)).collect();
        let want = [
            (id, w.shop, Act::Person(Action::Acknowledge), sec(2)),
            (id, w.shop, Act::Person(Action::Unacknowledge), sec(3)),
            (api, w.api, Act::Person(Action::Resolve), sec(4)),
        ];
        assert_eq!(seen, want, "oldest first");
        assert_eq!(waiting[0].actor, "bob");
        assert!(waiting[0].comment.as_deref().is_some_and(|text| text.ends_with(" is full")), "{waiting:?}");
        assert_eq!((waiting[1].comment.as_deref(), waiting[2].comment.as_deref()), (None, None));
        assert_eq!(w.store().unfolded_actions(1).await.unwrap(), waiting[..1]);

        // A decision under a lost lease folds nothing, nor does its batch for that monitor.
        let nobodys = Fence { scope: "never/taken".into(), epoch: 1 };
        let stale = Decision { action: Some(waiting[0].id), fences: smallvec::smallvec![nobodys], ..w.decision(w.shop) };
        let batch = Batch { decisions: vec![stale], folded_actions: vec![waiting[1].id, waiting[2].id], ..w.batch() };
        w.store().commit(&batch).await.unwrap();
        assert_eq!(w.store().unfolded_actions(10).await.unwrap(), waiting[..2], "but the other monitor's is folded");
        let folds = Decision { action: Some(waiting[0].id), ..w.decision(w.shop) };
        w.commit_decisions(vec![folds]).await;
        assert_eq!(w.store().unfolded_actions(10).await.unwrap(), waiting[1..2]);
        let batch = Batch { folded_actions: vec![waiting[1].id], ..w.batch() };
        w.store().commit(&batch).await.unwrap();
        assert_eq!(w.store().unfolded_actions(10).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn nothing_can_be_done_about_an_incident_that_is_over() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, id, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        assert!(w.store().insert_action(w.acme(), &uid, Action::Acknowledge, "ann", None, sec(2)).await.unwrap());
        w.commit_decisions(vec![w.resolves(w.shop, id, &uid, sec(3))]).await;
        assert!(!w.store().insert_action(w.acme(), &uid, Action::Acknowledge, "ann", None, sec(4)).await.unwrap());
        assert_eq!(w.store().unfolded_actions(10).await.unwrap().len(), 1, "whoever decides may still see it");
        w.housekeep(sec(3_600)).await;
        assert_eq!(w.store().unfolded_actions(10).await.unwrap(), [], "and if nobody does, it is void");
    })
    .await;
}

#[tokio::test]
async fn a_comment_is_part_of_the_story() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (opened, id, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![opened]).await;
        assert!(w.store().comment(w.acme(), &uid, "ann", "the cable was cut — „ütf-8“ \0", sec(2)).await.unwrap());
        w.commit_decisions(vec![w.resolves(w.shop, id, &uid, sec(3))]).await;
        assert!(w.store().comment(w.acme(), &uid, "bob", "mended", sec(4)).await.unwrap(), "also afterwards");
        assert!(!w.store().comment(w.zenith(), &uid, "eve", "mine", sec(5)).await.unwrap(), "another tenant's");
        assert!(!w.store().comment(w.acme(), "none", "ann", "lost", sec(5)).await.unwrap());
        let view = w.incident(&uid).await;
        let seen: Vec<_> = view.timeline.iter().map(|entry| (entry.nth, entry.kind.as_str(), entry.actor.as_deref(), entry.at)).collect();
        let want = [
            (0, "opened", None, sec(1)),
            (1, "comment", Some("ann"), sec(2)),
            (2, "resolved", None, sec(3)),
            (3, "comment", Some("bob"), sec(4)),
        ];
        assert_eq!(seen, want);
        assert!(view.timeline[1].text.starts_with("the cable was cut — „ütf-8“ "));
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}
