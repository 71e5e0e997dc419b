//! The commit stream: what lands, what is dropped, and that it lands once.

use super::world::*;
use crate::support::store::each_store;
use smallvec::smallvec;
use watchkeeper::channel::content::Content;
use watchkeeper::store::*;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::RuleKey;
use watchkeeper_core::sight::{BitRing, Settled, Sight, Vote};
use watchkeeper_core::verdict::{RuleState, Standing, Verdict};
use watchkeeper_core::{Blind, Micros, MonitorId, Outcome, Reason};

fn full_sight(at: Micros) -> SightRow {
    let key = RuleKey::new("slow_response/first_byte");
    let sight = Sight {
        settled: Settled::Down,
        since: at,
        fails: 3,
        oks: 0,
        reason: Some(Reason::TlsExpired),
        blind: Some(Blind::NoRoute),
        windows: smallvec![(key.clone(), BitRing(u64::MAX))],
        breached: smallvec![(key.clone(), i64::MIN)],
    };
    let vote = Vote {
        health: Health::Unknown,
        reason: Some(Reason::TlsExpired),
        blind: Some(Blind::NoRoute),
        breached: smallvec![(key, i64::MIN)],
        at,
        good_until: at + watchkeeper_core::Dur::secs(90),
    };
    SightRow { datacenter: watchkeeper_core::DatacenterId(0), sight, vote }
}

async fn stored(w: &World, monitor: MonitorId) -> StoredState {
    let mut all = w.store().load(&[w.api, monitor]).await.unwrap();
    all.retain(|state| state.monitor == monitor);
    all.pop().expect("every monitor that was asked for is answered")
}

async fn beats(w: &World, monitor: MonitorId) -> Vec<(BeatRow, Option<String>)> {
    w.store().heartbeats(w.acme(), monitor, LATER, PAGE_MAX).await.unwrap()
}

#[tokio::test]
async fn what_is_committed_is_loaded_again() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let other = w.store().join("node-b", "elsewhere", "b", T0).await.unwrap();
        let (mut decision, id, uid) = w.opens(w.shop, "down", sec(1));
        let here = SightRow { datacenter: w.me.datacenter, ..full_sight(sec(1)) };
        let verdict = Verdict {
            health: Health::Down,
            since: sec(1),
            reason: Some(Reason::TlsExpired),
            blind: None,
            blind_since: Some(sec(2)),
            votes: smallvec![(w.me.datacenter, here.vote.clone())],
            rules: smallvec![
                (
                    RuleKey::new("down"),
                    RuleState::Open(Standing { incident: id, told: smallvec![w.hook], opened_at: sec(1), words: 1, ..Standing::default() })
                ),
                (RuleKey::new("ssl_expiry"), RuleState::Waiting { since: sec(3) })
            ],
        };
        decision.sight = Some(here.clone());
        decision.verdict = Some(VerdictRow { verdict: verdict.clone(), wake: Some(sec(99)) });
        decision.interval = Some(IntervalRow { start: sec(1), health: Health::Down });
        let there = SightRow { datacenter: other.datacenter, sight: Sight::default(), ..here.clone() };
        let second = Decision { sight: Some(there.clone()), ..w.decision(w.shop) };
        assert_eq!(w.commit_decisions(vec![decision, second]).await.stale, []);
        w.t.reopen().await;

        let state = stored(&w, w.shop).await;
        assert_eq!(state.verdict, Some(verdict));
        let mut sights = state.sights;
        sights.sort_by_key(|(datacenter, _, _)| *datacenter);
        let mut want: Vec<_> = [here, there].map(|row| (row.datacenter, row.sight, row.vote)).into();
        want.sort_by_key(|(datacenter, _, _)| *datacenter);
        assert_eq!(sights, want);
        let open = OpenIncident {
            id,
            uid,
            rule: RuleKey::new("down"),
            opened_at: sec(1),
            summary: "shop is down: the connection was refused".into(),
            reason: Some("tcp_refused".into()),
            acknowledged_by: None,
        };
        assert_eq!(state.open, [open]);
        assert_eq!(stored(&w, w.other_shop).await, StoredState { monitor: w.other_shop, ..StoredState::default() });

        assert_eq!(state.last_beats, []);
        w.commit_beats(vec![w.beat(w.shop, sec(8), Outcome::Up), w.beat(w.shop, sec(4), Outcome::Up)]).await;
        assert_eq!(stored(&w, w.shop).await.last_beats, [(w.me.datacenter, sec(8))]);
        w.housekeep(sec(9)).await;
        assert_eq!(stored(&w, w.shop).await.last_beats, [(w.me.datacenter, sec(8))], "wherever it is kept");

        let seen = w.store().monitor(w.acme(), "shop").await.unwrap().unwrap();
        assert_eq!((seen.health, seen.since), (Health::Down, Some(sec(1))));
    })
    .await;
}

#[tokio::test]
async fn the_newest_decision_stands() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut first, id, uid) = w.opens(w.shop, "down", sec(1));
        let row = |since| VerdictRow { verdict: Verdict { since, health: Health::Down, ..Verdict::default() }, wake: None };
        first.verdict = Some(row(sec(1)));
        let mut second = w.decision(w.shop);
        second.verdict = Some(row(sec(2)));
        w.commit_decisions(vec![first, second]).await;
        assert_eq!(stored(&w, w.shop).await.verdict.map(|v| v.since), Some(sec(2)), "within one batch");
        let mut third = w.resolves(w.shop, id, &uid, sec(3));
        third.verdict = Some(row(sec(3)));
        w.commit_decisions(vec![third]).await;
        let state = stored(&w, w.shop).await;
        assert_eq!(state.verdict.map(|v| v.since), Some(sec(3)));
        assert_eq!(state.open, [], "what ended is no longer open");
        let incident = w.incident(&uid).await;
        assert_eq!((incident.status.as_str(), incident.resolved_at), ("resolved", Some(sec(3))));
        assert_eq!(incident.resolved_why.as_deref(), Some("recovered"));
        // The same rule may be breached again.
        let (again, _, uid) = w.opens(w.shop, "down", sec(4));
        w.commit_decisions(vec![again]).await;
        assert_eq!(w.incident(&uid).await.status, "open");
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_batch_lands_once() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (mut decision, _, uid) = w.opens(w.shop, "down", sec(1));
        decision.interval = Some(IntervalRow { start: sec(1), health: Health::Down });
        let batch =
            Batch { beats: vec![w.beat(w.shop, sec(1), Outcome::Down(Reason::TcpRefused))], decisions: vec![decision], ..w.batch() };
        let first = w.store().commit(&batch).await.unwrap();
        assert_eq!(first.live_ids.len(), 1);
        assert_eq!(w.store().commit(&batch).await.unwrap(), first, "and says the same of it");
        w.t.reopen().await;
        assert_eq!(w.store().commit(&batch).await.unwrap(), first);
        let joined = w.store().join("node-a", "local", "boot-2", sec(2)).await.unwrap();
        assert_eq!(joined.last_batch, batch.number, "a node can see that it landed");
        // Nor does a number that has passed bring anything new.
        let late = Batch { beats: vec![w.beat(w.shop, sec(9), Outcome::Up)], boot: joined.boot, ..batch.clone() };
        w.store().commit(&late).await.unwrap();
        // And what a former life of the node had not committed is no number of this one's.
        let former = Batch { number: batch.number + 1, ..batch.clone() };
        assert!(matches!(w.store().commit(&former).await, Err(StoreError::Refused(why)) if why.contains("agent.name")));

        assert_eq!(beats(&w, w.shop).await.len(), 1);
        assert_eq!(w.store().live_after(w.acme(), 0, 10).await.unwrap().0.len(), 1);
        let incident = w.incident(&uid).await;
        assert_eq!((incident.timeline.len(), incident.notices.len()), (1, 1));
        assert_eq!(w.store().outbox_depth().await.unwrap().waiting, 1);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn numbers_are_each_nodes_own() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let b = w.store().join("node-b", "local", "b", T0).await.unwrap();
        w.commit_beats(vec![w.beat(w.shop, sec(1), Outcome::Up)]).await;
        let theirs =
            Batch { agent: b.agent, boot: b.boot.clone(), number: 1, beats: vec![w.beat(w.shop, sec(2), Outcome::Up)], ..Batch::default() };
        w.store().commit(&theirs).await.unwrap();
        assert_eq!(beats(&w, w.shop).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_fact_that_is_there_already_is_ignored_and_the_others_are_kept() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let first = w.beat(w.shop, sec(1), Outcome::Up);
        w.commit_beats(vec![first.clone()]).await;
        let contrary = BeatRow { outcome: Outcome::Down(Reason::HttpStatus), ..first.clone() };
        let detail = |at, text: &str| DetailRow { monitor: w.shop, datacenter: w.me.datacenter, at, json: format!(r#"{{"n":"{text}"}}"#) };
        let new = w.beat(w.shop, sec(2), Outcome::Unknown(Blind::Late));
        let details = vec![detail(sec(2), "one"), detail(sec(2), "two")];
        let batch = Batch { beats: vec![contrary, new.clone(), new.clone()], details, ..w.batch() };
        w.store().commit(&batch).await.unwrap();
        let got = beats(&w, w.shop).await;
        assert_eq!(got.iter().map(|(beat, _)| beat).collect::<Vec<_>>(), [&new, &first]);
        assert_eq!(got[0].1.as_deref(), Some(r#"{"n":"one"}"#), "the first stands");
    })
    .await;
}

#[tokio::test]
async fn every_outcome_and_number_is_read_back_as_it_was() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let outcomes: Vec<Outcome> = std::iter::once(Outcome::Up)
            .chain(Reason::ALL.iter().map(|r| Outcome::Down(*r)))
            .chain(Blind::ALL.iter().map(|b| Outcome::Unknown(*b)))
            .collect();
        let rows: Vec<BeatRow> = outcomes
            .iter()
            .zip(1..)
            .map(|(outcome, n)| BeatRow {
                lag_us: n,
                dns_us: n * 3,
                connect_us: n * 5,
                tls_us: n * 7,
                first_byte_us: n * 11,
                transfer_us: i64::from(u32::MAX) * n,
                total_us: n << 40,
                code: -1,
                size: 1 << 50,
                value: -n,
                flags: 1,
                ..w.beat(w.shop, sec(n), *outcome)
            })
            .collect();
        w.commit_beats(rows.clone()).await;
        let got: Vec<BeatRow> = beats(&w, w.shop).await.into_iter().map(|(beat, _)| beat).rev().collect();
        assert_eq!(got, rows);
    })
    .await;
}

#[tokio::test]
async fn what_was_decided_under_a_lost_lease_is_dropped_and_named() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let lost = take(&w.t.store, "site/local/0", &w.holder).await;
        take(&w.t.store, "site/local/0", "node-b#1").await;
        let (good, _, good_uid) = w.opens(w.api, "down", sec(1));
        let (mut bad, _, bad_uid) = w.opens(w.shop, "down", sec(1));
        bad.fences.push(lost.clone());
        bad.verdict = Some(VerdictRow { verdict: Verdict::default(), wake: None });
        bad.interval = Some(IntervalRow { start: sec(1), health: Health::Down });
        let mut also_bad = w.decision(w.shop);
        also_bad.fences = smallvec![lost];
        also_bad.live.push(live("monitor_state", sec(1), "x"));
        let mut unknown = w.decision(w.shop);
        unknown.fences = smallvec![Fence { scope: "never/taken".into(), epoch: 1 }];
        let beat = w.beat(w.shop, sec(1), Outcome::Up);
        let batch = Batch { beats: vec![beat], decisions: vec![bad, good, also_bad, unknown], ..w.batch() };
        let mut committed = w.store().commit(&batch).await.unwrap();

        committed.stale.sort();
        assert_eq!(committed.stale, ["never/taken".into(), "site/local/0".into()], "each once, and only what was lost");
        assert_eq!(committed.live_ids.len(), 1, "only what was written has an id");
        assert_eq!(beats(&w, w.shop).await.len(), 1, "facts are not fenced");
        assert_eq!(w.incident(&good_uid).await.status, "open");
        assert_eq!(w.store().incident(w.acme(), &bad_uid).await.unwrap(), None);
        assert_eq!(stored(&w, w.shop).await.verdict, None);
        assert_eq!(w.store().outbox_depth().await.unwrap().waiting, 1);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn one_incident_is_open_per_rule() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (first, _, uid) = w.opens(w.shop, "down", sec(1));
        w.commit_decisions(vec![first]).await;
        let (second, _, _) = w.opens(w.shop, "down", sec(2));
        let batch = Batch { decisions: vec![second], ..w.batch() };
        // Whether it is refused or ignored: a second one is never open.
        let _ = w.store().commit(&batch).await;
        let open = IncidentFilter { status: Some("open".into()), limit: 10, ..IncidentFilter::default() };
        let listed = w.store().incidents(w.acme(), &open).await.unwrap();
        assert_eq!(listed.iter().map(|i| &i.uid).collect::<Vec<_>>(), [&uid]);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
        // Another rule, and another monitor, are others.
        let decisions = vec![w.opens(w.shop, "slow_response", sec(3)).0, w.opens(w.api, "down", sec(3)).0];
        let batch = Batch { number: batch.number + 1, boot: w.me.boot.clone(), decisions, agent: w.me.agent, ..Batch::default() };
        w.store().commit(&batch).await.unwrap();
        assert_eq!(w.store().incidents(w.acme(), &open).await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn live_ids_rise_with_the_order_of_the_batch() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let mut told = Vec::new();
        for round in 0..3 {
            let mut mine = w.decision(w.shop);
            mine.live = smallvec![live("monitor_state", sec(round), "a"), live("monitor_state", sec(round), "b")];
            let mut theirs = w.decision(w.other_shop);
            theirs.live = smallvec![live("monitor_state", sec(round), "c")];
            let ids = w.commit_decisions(vec![mine, theirs]).await.live_ids;
            assert_eq!(ids.len(), 3, "one per event, in the order of the batch");
            told.extend_from_slice(&ids[..2]);
        }
        let (rows, newest) = w.store().live_after(w.acme(), 0, 100).await.unwrap();
        let uids: Vec<_> = rows.iter().map(|row| row.event.data["incident"].as_str().unwrap()).collect();
        assert_eq!(uids, ["a", "b", "a", "b", "a", "b"], "oldest first, and the other tenant's are not among them");
        assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), told, "what commit says is what readers see");
        assert!(told.windows(2).all(|pair| pair[0] < pair[1]) && told[0] > 0, "{told:?}");
        assert!(newest >= told[5]);
        let (tail, _) = w.store().live_after(w.acme(), rows[3].id, 1).await.unwrap();
        assert_eq!(tail, [rows[4].clone()]);
        assert_eq!(rows[0].event, live("monitor_state", sec(0), "a"));
    })
    .await;
}

#[tokio::test]
async fn pushes_wait_until_a_batch_has_folded_them() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let push = |at, kind| PushRow { id: 0, monitor: w.shop, kind, exit: Some(-1), ping_us: Some(5), body: "out of däsk".into(), at };
        for (at, kind) in [(sec(3), PushKind::Fail), (sec(1), PushKind::Start), (sec(2), PushKind::Log), (sec(4), PushKind::Ok)] {
            w.store().insert_push(&push(at, kind)).await.unwrap();
        }
        w.t.reopen().await;
        let waiting = w.store().unfolded_pushes(10).await.unwrap();
        assert_eq!(waiting.iter().map(|p| p.at).collect::<Vec<_>>(), [sec(1), sec(2), sec(3), sec(4)], "oldest first");
        assert_eq!(PushRow { id: 0, ..waiting[2].clone() }, push(sec(3), PushKind::Fail));
        assert_eq!(w.store().unfolded_pushes(2).await.unwrap(), waiting[..2]);
        assert_eq!(stored(&w, w.shop).await.last_push, Some(sec(4)));
        let batch = Batch { folded_pushes: vec![waiting[0].id, waiting[2].id], ..w.batch() };
        w.store().commit(&batch).await.unwrap();
        let left = w.store().unfolded_pushes(10).await.unwrap();
        assert_eq!(left, [waiting[1].clone(), waiting[3].clone()]);
    })
    .await;
}

#[tokio::test]
async fn text_from_outside_cannot_stop_the_stream() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let odd = "nul \0 and \u{1f600} and ' \" \\ and \u{202e}";
        let (mut decision, _, uid) = w.opens(w.shop, "down", sec(1));
        if let IncidentWrite::Open { summary, reason, evidence, .. } = &mut decision.incidents[0] {
            *summary = odd.into();
            *reason = Some(odd.into());
            *evidence = Some(serde_json::json!({ "said": odd }).to_string());
        }
        if let Content::Incident(message) = &mut decision.notices[0].content {
            message.summary = odd.into();
            message.detail = Some(odd.into());
        }
        decision.notices[0].not_before = Some((sec(1), odd.into()));
        decision.live[0].data = serde_json::json!({ "said": odd });
        let json = serde_json::json!({ "said": odd }).to_string();
        let detail = DetailRow { monitor: w.shop, datacenter: w.me.datacenter, at: sec(1), json };
        let found = vec![w.beat(w.shop, sec(1), Outcome::Down(Reason::HttpTextMissing))];
        let batch = Batch { beats: found, details: vec![detail], decisions: vec![decision], ..w.batch() };
        w.store().commit(&batch).await.unwrap();
        let push = PushRow { id: 0, monitor: w.shop, kind: PushKind::Fail, exit: None, ping_us: None, body: odd.into(), at: sec(2) };
        w.store().insert_push(&push).await.unwrap();
        assert_eq!(w.store().push_target(odd).await.unwrap(), None);

        let tail = "and \u{1f600} and ' \" \\ and \u{202e}";
        assert!(w.incident(&uid).await.summary.ends_with(tail));
        assert!(w.store().due_notices(w.hook, sec(1), 1).await.unwrap()[0].content.incident().unwrap().summary.ends_with(tail));
        assert!(w.store().unfolded_pushes(1).await.unwrap()[0].body.ends_with(tail));
        let live = w.store().live_after(w.acme(), 0, 1).await.unwrap().0;
        assert!(live[0].event.data["said"].as_str().unwrap().ends_with(tail));
        let detail = beats(&w, w.shop).await.remove(0).1.unwrap();
        let said: serde_json::Value = serde_json::from_str(&detail).unwrap();
        assert!(said["said"].as_str().unwrap().ends_with(tail));
    })
    .await;
}
