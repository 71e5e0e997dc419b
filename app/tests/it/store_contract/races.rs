//! Several nodes at once: what is decided under a lost lease never lands after the taking, and nobody waits for ever.

use super::world::*;
use crate::support::store::each_store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use watchkeeper::store::*;
use watchkeeper_core::Outcome;

#[tokio::test]
async fn nothing_lands_under_an_epoch_after_it_was_taken() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let other = w.t.as_another_node().await;
        for round in 0..5 {
            let mut batches = Vec::new();
            for n in 0..40 {
                let (decision, _, _) = w.opens(w.shop, &format!("rule-{round}-{n}"), sec(round));
                batches.push(Batch { decisions: vec![decision], ..w.batch() });
            }
            let open = IncidentFilter { limit: PAGE_MAX, ..IncidentFilter::default() };
            let before = other.incidents(w.acme(), &open).await.unwrap().len();
            let begun = tokio::sync::Notify::new();
            let frozen = async {
                let mut landed = 0;
                for (n, batch) in batches.iter().enumerate() {
                    let stale = w.store().commit(batch).await.unwrap().stale;
                    landed += usize::from(stale.is_empty());
                    if n == 5 {
                        begun.notify_one();
                    }
                }
                landed
            };
            let taker = async {
                begun.notified().await;
                let fence = take(&other, "verdict/0", "node-b#1").await;
                (fence, other.incidents(w.acme(), &open).await.unwrap().len() - before)
            };
            let (landed, (fence, visible)) = tokio::join!(frozen, taker);
            assert_eq!(landed, visible, "round {round}: what landed was there when the scope was taken, and nothing came after");
            assert!(landed > 5);
            w.verdict = fence;
        }
    })
    .await;
}

#[tokio::test]
async fn nodes_that_bring_the_same_facts_do_not_stop_each_other() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let other = w.t.as_another_node().await;
        let b = other.join("node-b", "local", "b", T0).await.unwrap();
        for round in 0..10_i64 {
            let mine: Vec<BeatRow> =
                (0..200).map(|n| w.beat(if n % 2 == 0 { w.shop } else { w.api }, sec(round * 10_000 + n * 40), Outcome::Up)).collect();
            let mut theirs = mine.clone();
            theirs.reverse();
            let (one, two) = (
                Batch { beats: mine, ..w.batch() },
                Batch { agent: b.agent, boot: b.boot.clone(), number: round as u64 + 1, beats: theirs, ..Batch::default() },
            );
            let (one, two) = tokio::join!(w.store().commit(&one), other.commit(&two));
            one.unwrap();
            two.unwrap();
        }
        for monitor in [w.shop, w.api] {
            let stored = w.store().heartbeats(w.acme(), monitor, LATER, PAGE_MAX).await.unwrap();
            assert_eq!(stored.len(), 1_000, "each fact once");
        }
    })
    .await;
}

#[tokio::test]
async fn nodes_that_apply_their_configuration_at_once_do_not_wait_in_a_circle() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let (b, c) = (w.t.as_another_node().await, w.t.as_another_node().await);
        let fence = take(&w.t.store, "source/files", &w.holder).await;
        let all = objects();
        for round in 0..12 {
            // Of a source that nobody has applied before, and of one that its holder changes meanwhile.
            for (source, mandate) in [(format!("new-{round}"), Mandate::None), ("files".to_owned(), Mandate::Lease(&fence))] {
                let one = w.store().apply(&source, "hash-1", &all, mandate, Beside::default(), T0);
                let (one, two, three) = tokio::join!(
                    one,
                    b.apply(&source, "hash-1", &all, Mandate::None, Beside::default(), T0),
                    c.apply(&source, "hash-1", &all, Mandate::None, Beside::default(), T0)
                );
                for applied in [one, two, three] {
                    assert_eq!(applied.unwrap().tenants[0].tenant, w.acme, "round {round}");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn readers_and_housekeeping_do_not_disturb_the_commit_stream() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let batches: Vec<Batch> = (0..40_i64)
            .map(|round| {
                let beats = (0..100).map(|n| w.beat(w.shop, sec(round * 3_600 + n * 36), Outcome::Up)).collect();
                Batch { beats, ..w.batch() }
            })
            .collect();
        let over = Arc::new(AtomicBool::new(false));
        let writer = async {
            for batch in &batches {
                w.store().commit(batch).await.unwrap();
            }
            over.store(true, Ordering::Relaxed);
        };
        let reader = async {
            let mut last = 0;
            while !over.load(Ordering::Relaxed) {
                w.housekeep(sec(40 * 3_600)).await;
                let page = w.store().heartbeats(w.acme(), w.shop, LATER, PAGE_MAX).await.unwrap();
                assert!(page.len() >= last, "what is being moved is seen in one place or the other");
                last = page.len();
            }
        };
        tokio::join!(writer, reader);
        w.housekeep(sec(41 * 3_600)).await;
        let hours = w.store().metrics(w.acme(), w.shop, None, T0, sec(40 * 3_600), watchkeeper_core::Dur::secs(3_600)).await.unwrap();
        assert!(hours.iter().all(|hour| hour.up == 100), "no mark was used up without its heartbeats");
        assert_eq!(hours.len(), 40);
    })
    .await;
}

#[tokio::test]
async fn a_mark_that_another_node_used_up_is_made_again() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let other = w.t.as_another_node().await;
        let kept = Retention {
            raw: watchkeeper_core::Dur::secs(7 * 86_400),
            hours: watchkeeper_core::Dur::secs(90 * 86_400),
            incidents: watchkeeper_core::Dur::secs(400 * 86_400),
        };
        // One hour, over for long: every heartbeat comes late, while another node computes the hour again and again.
        let batches: Vec<Batch> =
            (0..300_i64).map(|n| Batch { beats: vec![w.beat(w.shop, sec(n * 12), Outcome::Up)], ..w.batch() }).collect();
        let over = AtomicBool::new(false);
        let writer = async {
            for batch in &batches {
                w.store().commit(batch).await.unwrap();
                tokio::task::yield_now().await;
            }
            over.store(true, Ordering::Relaxed);
        };
        let computed = async {
            let mut hours = 0;
            while !over.load(Ordering::Relaxed) {
                hours += other.housekeep(kept, sec(3 * 3_600)).await.unwrap().hours;
            }
            hours
        };
        let ((), computed) = tokio::join!(writer, computed);
        assert!(w.t.file.is_some() || computed > 1, "the hour was computed while heartbeats came");
        while other.housekeep(kept, sec(3 * 3_600)).await.unwrap().more {}
        let hours = w.store().metrics(w.acme(), w.shop, None, T0, sec(3_600), watchkeeper_core::Dur::secs(3_600)).await.unwrap();
        assert_eq!(hours.iter().map(|hour| hour.up).collect::<Vec<_>>(), [300]);
    })
    .await;
}
