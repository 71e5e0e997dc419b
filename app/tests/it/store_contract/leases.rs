//! Leases: who decides for what.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::store::*;

async fn row(store: &dyn Store, scope: &str) -> LeaseRow {
    store.leases().await.unwrap().into_iter().find(|row| row.scope == scope).expect("the lease has a row")
}

fn fence(scope: &str, epoch: i64) -> Fence {
    Fence { scope: scope.into(), epoch }
}

#[tokio::test]
async fn a_scope_is_taken_once_and_each_holder_has_a_higher_epoch() {
    each_store(|mut t| async move {
        let first = t.store.take_lease("verdict/0", None, "a#1", T0).await.unwrap().expect("nobody has it");
        assert_eq!(t.store.take_lease("verdict/0", None, "b#1", T0).await.unwrap(), None, "it has a row by now");
        let seen = row(&*t.store, "verdict/0").await;
        assert_eq!(seen, LeaseRow { scope: "verdict/0".into(), holder: "a#1".into(), epoch: first, beat: 0 });
        let second = t.store.take_lease("verdict/0", Some(&seen), "b#1", T0).await.unwrap();
        assert_eq!(second, Some(first + 1));
        assert_eq!(t.store.take_lease("verdict/0", Some(&seen), "c#1", T0).await.unwrap(), None, "it no longer stands as seen");
        t.reopen().await;
        assert_eq!(row(&*t.store, "verdict/0").await, LeaseRow { holder: "b#1".into(), epoch: first + 1, ..seen });
    })
    .await;
}

#[tokio::test]
async fn a_beat_in_between_spoils_the_taking() {
    each_store(|t| async move {
        let epoch = t.store.take_lease("verdict/0", None, "a#1", T0).await.unwrap().unwrap();
        let seen = row(&*t.store, "verdict/0").await;
        assert_eq!(t.store.beat_leases("a#1", &[fence("verdict/0", epoch)]).await.unwrap(), ["verdict/0".into()]);
        assert_eq!(row(&*t.store, "verdict/0").await.beat, seen.beat + 1);
        assert_eq!(t.store.take_lease("verdict/0", Some(&seen), "b#1", T0).await.unwrap(), None, "the holder lives");
    })
    .await;
}

#[tokio::test]
async fn of_many_that_take_one_wins() {
    each_store(|t| async move {
        let other = t.as_another_node().await;
        t.store.take_lease("verdict/0", None, "a#1", T0).await.unwrap().unwrap();
        for round in 0..10 {
            let seen = row(&*t.store, "verdict/0").await;
            let (one, two) = tokio::join!(
                t.store.take_lease("verdict/0", Some(&seen), "b#1", T0),
                other.take_lease("verdict/0", Some(&seen), "c#1", T0)
            );
            let (one, two) = (one.unwrap(), two.unwrap());
            assert!(one.is_some() != two.is_some(), "round {round}: {one:?} and {two:?}");
            let fresh = format!("new/{round}");
            let (one, two) = tokio::join!(t.store.take_lease(&fresh, None, "b#1", T0), other.take_lease(&fresh, None, "c#1", T0));
            assert!(one.unwrap().is_some() != two.unwrap().is_some(), "round {round}: of a scope without a row");
        }
    })
    .await;
}

#[tokio::test]
async fn only_what_is_still_held_beats() {
    each_store(|t| async move {
        let mut held = Vec::new();
        for scope in ["a", "b", "c"] {
            held.push(fence(scope, t.store.take_lease(scope, None, "me#1", T0).await.unwrap().unwrap()));
        }
        let lost = row(&*t.store, "b").await;
        t.store.take_lease("b", Some(&lost), "you#1", T0).await.unwrap().unwrap();
        let mut beating = t.store.beat_leases("me#1", &held).await.unwrap();
        beating.sort();
        assert_eq!(beating, ["a".into(), "c".into()]);
        assert_eq!((row(&*t.store, "a").await.beat, row(&*t.store, "b").await.beat), (1, 0));
        assert!(t.store.beat_leases("you#1", &[held[0].clone()]).await.unwrap().is_empty(), "another's lease does not beat");
        assert!(t.store.beat_leases("me#1", &[]).await.unwrap().is_empty());
        assert_eq!(row(&*t.store, "a").await.beat, 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_given_back_can_be_taken_and_only_by_its_holder_given() {
    each_store(|t| async move {
        let epoch = t.store.take_lease("verdict/0", None, "a#1", T0).await.unwrap().unwrap();
        t.store.release_leases("b#1", &[fence("verdict/0", epoch)]).await.unwrap();
        t.store.release_leases("a#1", &[fence("verdict/0", epoch - 1), fence("nowhere", 1)]).await.unwrap();
        assert_eq!(row(&*t.store, "verdict/0").await.holder, "a#1", "neither another node nor another epoch gives it back");
        t.store.release_leases("a#1", &[fence("verdict/0", epoch)]).await.unwrap();
        let free = row(&*t.store, "verdict/0").await;
        assert_eq!(free.holder, "");
        assert!(t.store.beat_leases("a#1", &[fence("verdict/0", epoch)]).await.unwrap().is_empty());
        assert!(t.store.take_lease("verdict/0", Some(&free), "b#1", T0).await.unwrap().unwrap() > epoch);
    })
    .await;
}
