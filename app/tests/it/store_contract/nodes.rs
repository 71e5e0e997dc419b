//! What nodes that share a store need of it: votes of others, one configuration in force, and one life of each node.

use super::world::{T0, World, objects, sec, take};
use crate::support::store::each_store;
use smallvec::smallvec;
use std::collections::BTreeSet;
use watchkeeper::store::*;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::sight::{Sight, Vote};
use watchkeeper_core::{MonitorId, Reason};

fn sight(w: &World, health: Health, at: i64) -> SightRow {
    let reason = (health == Health::Down).then_some(Reason::TcpRefused);
    let vote = Vote { health, reason, blind: None, breached: smallvec![], at: sec(at), good_until: sec(at + 30) };
    SightRow { datacenter: w.me.datacenter, sight: Sight::default(), vote }
}

async fn cast(w: &mut World, monitor: MonitorId, row: SightRow) {
    let decision = Decision { sight: Some(row), ..w.decision(monitor) };
    assert_eq!(w.commit_decisions(vec![decision]).await.stale, []);
}

#[tokio::test]
async fn every_vote_since_is_heard_with_the_evidence_behind_it() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let (shop, api) = (w.shop, w.api);
        let before = sight(&w, Health::Up, 1);
        cast(&mut w, shop, before).await;
        let (none, from) = w.store().votes_since(None).await.unwrap();
        assert_eq!(none, [], "without a beginning only the place is said");
        let down = sight(&w, Health::Down, 5);
        let detail = |at, json: &str| DetailRow { monitor: shop, datacenter: w.me.datacenter, at: sec(at), json: json.to_owned() };
        let details = vec![detail(2, r#"{"error":"an old one"}"#), detail(4, r#"{"error":"refused"}"#), detail(6, r#"{"error":"later"}"#)];
        let decision = Decision { sight: Some(down.clone()), ..w.decision(shop) };
        let batch = Batch { details, decisions: vec![decision], ..w.batch() };
        w.store().commit(&batch).await.unwrap();
        let up = sight(&w, Health::Up, 6);
        cast(&mut w, api, up.clone()).await;
        w.t.reopen().await;

        let (mut heard, next) = w.store().votes_since(Some(from)).await.unwrap();
        heard.sort_by_key(|vote| vote.monitor);
        let of = |monitor, row: &SightRow, evidence: Option<&str>| HeardVote {
            monitor,
            datacenter: w.me.datacenter,
            code: "local".to_owned(),
            vote: row.vote.clone(),
            evidence: evidence.map(str::to_owned),
        };
        let mut want = vec![of(shop, &down, Some(r#"{"error":"refused"}"#)), of(api, &up, None)];
        want.sort_by_key(|vote| vote.monitor);
        assert_eq!(heard, want, "the newest evidence up to the vote");
        assert!(next >= from);
        assert_eq!(w.store().datacenters().await.unwrap(), [(w.me.datacenter, "local".to_owned())]);
    })
    .await;
}

#[tokio::test]
async fn no_vote_is_missed_while_many_are_cast_at_once() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let mut voters = Vec::new();
        for n in 0..4_i64 {
            let me = w.store().join(&format!("voter-{n}"), &format!("place-{n}"), "b", T0).await.unwrap();
            let (store, row, decision) = (w.t.store.clone(), sight(&w, Health::Up, 0), w.decision(w.shop));
            voters.push(tokio::spawn(async move {
                for round in 1..=25_i64 {
                    let mut row = SightRow { datacenter: me.datacenter, ..row.clone() };
                    row.vote.at = sec(round);
                    let decisions = vec![Decision { sight: Some(row), ..decision.clone() }];
                    let batch = Batch { agent: me.agent, boot: me.boot.clone(), number: round as u64, decisions, ..Batch::default() };
                    store.commit(&batch).await.unwrap();
                }
            }));
        }
        let mut from = w.store().votes_since(None).await.unwrap().1;
        let mut newest = std::collections::BTreeMap::new();
        loop {
            let over = voters.iter().all(tokio::task::JoinHandle::is_finished);
            let (heard, next) = w.store().votes_since(Some(from)).await.unwrap();
            from = next;
            newest.extend(heard.into_iter().map(|vote| (vote.datacenter, vote.vote.at)));
            if over {
                break;
            }
        }
        for voter in voters {
            voter.await.unwrap();
        }
        // The last word of each was heard, although it may have been committed after words that were begun later.
        let last: BTreeSet<_> = newest.values().copied().collect();
        assert_eq!((newest.len(), last), (4, BTreeSet::from([sec(25)])));
    })
    .await;
}

#[tokio::test]
async fn one_configuration_is_in_force_and_only_the_holder_of_its_lease_changes_it() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let apply = async |hash: &str, objects: &[TenantObjects], mandate: Mandate<'_>| {
            w.store().apply("files", hash, objects, mandate, Beside::default(), sec(1)).await
        };
        let all = objects();
        assert_eq!(w.store().in_force("files").await.unwrap().as_deref(), Some("hash-1"));
        assert_eq!(w.store().in_force("others").await.unwrap(), None);
        let same = apply("hash-1", &all, Mandate::None).await.unwrap();
        assert_eq!(same.retired, []);
        // Another one is refused, and changes nothing.
        assert!(matches!(apply("hash-2", &all[..1], Mandate::None).await, Err(StoreError::NotInForce)));
        assert_eq!(w.store().monitors(w.zenith(), None, 10).await.unwrap().len(), 1);
        let fence = take(&w.t.store, "source/files", &w.holder).await;
        let stale = Fence { epoch: fence.epoch - 1, ..fence.clone() };
        assert!(matches!(apply("hash-2", &all[..1], Mandate::Lease(&stale)).await, Err(StoreError::NotInForce)));
        apply("hash-2", &all[..1], Mandate::Lease(&fence)).await.unwrap();
        assert_eq!(w.store().in_force("files").await.unwrap().as_deref(), Some("hash-2"));
        assert_eq!(w.store().monitors(w.zenith(), None, 10).await.unwrap().len(), 0);
    })
    .await;
}
