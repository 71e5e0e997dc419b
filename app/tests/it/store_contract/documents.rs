//! Documents: what was made over the API, changed only together with what is made of it.

use super::world::*;
use crate::support::store::each_store;
use watchkeeper::store::*;
use watchkeeper_core::TenantId;

fn put(tenant: TenantId, uid: &str, name: &str, body: &str, by: &str) -> DocumentWrite {
    let (kind, at) = ("monitor".into(), sec(if by == "bob" { 2 } else { 1 }));
    DocumentWrite::Put { tenant, uid: uid.into(), kind, name: name.into(), body: body.into(), by: by.into(), at }
}

fn gone(tenant: TenantId, uid: &str) -> DocumentWrite {
    DocumentWrite::Remove { tenant, uid: uid.into() }
}

async fn change(store: &dyn Store, seen: i64, writes: &[DocumentWrite], objects: &[TenantObjects], at: i64) -> Result<Applied> {
    store.apply("files", "hash-1", objects, Mandate::None, Beside { seen, writes }, sec(at)).await
}

async fn told(store: &dyn Store) -> (i64, Vec<(String, String, i64)>) {
    let found = store.documents().await.unwrap();
    assert_eq!(store.documents_version().await.unwrap(), found.version);
    (found.version, found.rows.into_iter().map(|row| (row.name, row.body, row.version)).collect())
}

fn row(name: &str, body: &str, version: i64) -> (String, String, i64) {
    (name.into(), body.into(), version)
}

#[tokio::test]
async fn documents_are_made_changed_renamed_and_removed_and_every_change_makes_a_version() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        assert_eq!(told(w.store()).await, (0, vec![]));
        let all = objects();
        let both = [put(w.acme, "u1", "new", "{\"a\":\"✓\"}", "ann"), put(w.zenith, "u2", "new", "{}", "eve")];
        let made = change(w.store(), 0, &both, &all, 1).await.unwrap();
        assert_eq!(made.documents, 1, "one change, however much is in it");
        assert_eq!(told(w.store()).await, (1, vec![row("new", "{\"a\":\"✓\"}", 1), row("new", "{}", 1)]));
        assert_eq!(change(w.store(), 1, &[put(w.acme, "u1", "other", "{\"b\":1}", "bob")], &all, 2).await.unwrap().documents, 2);
        let found = w.store().documents().await.unwrap().rows.remove(0);
        assert_eq!((found.uid.as_str(), found.tenant, found.tenant_slug.as_str(), found.kind.as_str()), ("u1", w.acme, "acme", "monitor"));
        assert_eq!((found.made_by.as_str(), found.made_at, found.changed_by.as_str(), found.changed_at), ("ann", sec(1), "bob", sec(2)));
        assert_eq!((found.name.as_str(), found.version), ("other", 2));
        w.t.reopen().await;
        assert_eq!(told(w.store()).await, (2, vec![row("other", "{\"b\":1}", 2), row("new", "{}", 1)]));
        change(w.store(), 2, &[gone(w.acme, "u1")], &all, 3).await.unwrap();
        assert_eq!(told(w.store()).await, (3, vec![row("new", "{}", 1)]), "also what is removed makes a version");
        assert_eq!(change(w.store(), 3, &[], &all, 4).await.unwrap().documents, 3, "no change makes none");
    })
    .await;
}

#[tokio::test]
async fn what_lies_in_another_form_is_still_the_same_document() {
    each_store(|t| async move {
        let w = World::new(t).await;
        change(w.store(), 0, &[put(w.acme, "u1", "new", "{}", "ann")], &objects(), 1).await.unwrap();
        let reseal = |tenant, body: &str| DocumentWrite::Reseal { tenant, uid: "u1".into(), body: body.into() };
        assert_eq!(
            change(w.store(), 1, &[reseal(w.acme, "{\"sealed\":1}")], &objects(), 2).await.unwrap().documents,
            2,
            "others take it up"
        );
        let found = w.store().documents().await.unwrap().rows.remove(0);
        assert_eq!((found.body.as_str(), found.version), ("{\"sealed\":1}", 1), "whoever has seen it may still change it");
        assert_eq!((found.changed_by.as_str(), found.changed_at), ("ann", sec(1)));
        change(w.store(), 2, &[reseal(w.zenith, "stolen")], &objects(), 3).await.unwrap();
        assert_eq!(told(w.store()).await.1, [row("new", "{\"sealed\":1}", 1)], "another tenant's");
    })
    .await;
}

#[tokio::test]
async fn another_tenants_document_is_neither_changed_nor_removed() {
    each_store(|t| async move {
        let w = World::new(t).await;
        change(w.store(), 0, &[put(w.acme, "u1", "new", "{}", "ann")], &objects(), 1).await.unwrap();
        let tried = [put(w.zenith, "u1", "stolen", "{\"x\":1}", "eve"), gone(w.zenith, "u1")];
        change(w.store(), 1, &tried, &objects(), 2).await.unwrap();
        assert_eq!(told(w.store()).await.1, [row("new", "{}", 1)]);
    })
    .await;
}

#[tokio::test]
async fn what_was_made_of_older_documents_is_never_put_over_newer_ones() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let mut all = objects();
        all[0].monitors.push(monitor("extra"));
        change(w.store(), 0, &[put(w.acme, "u1", "extra", "{}", "ann")], &all, 1).await.unwrap();
        let names = async || {
            let views = w.store().monitors(w.acme(), None, 10).await.unwrap();
            views.into_iter().map(|view| view.name).collect::<Vec<_>>()
        };
        assert_eq!(names().await, ["api", "extra", "shop"]);
        for (seen, writes) in [(0, vec![]), (0, vec![put(w.acme, "u2", "late", "{}", "bob")]), (2, vec![])] {
            let late = change(w.store(), seen, &writes, &objects(), 2).await;
            assert!(matches!(late, Err(StoreError::Outdated)), "{late:?}");
        }
        assert_eq!(names().await, ["api", "extra", "shop"], "it would have been taken out");
        assert_eq!(told(w.store()).await, (1, vec![row("extra", "{}", 1)]));
    })
    .await;
}

#[tokio::test]
async fn a_change_that_cannot_come_into_force_is_not_written() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let write = [put(w.acme, "u1", "new", "{}", "ann")];
        let other = w.store().apply("files", "another-hash", &objects(), Mandate::None, Beside { seen: 0, writes: &write }, sec(1)).await;
        assert!(matches!(other, Err(StoreError::NotInForce)), "{other:?}");
        // Two monitors that mean one stored monitor are refused.
        let uid = w.store().monitor(w.acme(), "shop").await.unwrap().unwrap().uid;
        let mut all = objects();
        all[0].monitors.push(MonitorObject { uid: Some(uid), ..monitor("twin") });
        let refused = change(w.store(), 0, &write, &all, 2).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
        assert_eq!(told(w.store()).await, (0, vec![]));
    })
    .await;
}

#[tokio::test]
async fn of_many_nodes_that_change_something_at_once_each_does_it_once() {
    each_store(|t| async move {
        let w = World::new(t).await;
        let others = [w.t.as_another_node().await, w.t.as_another_node().await, w.t.as_another_node().await];
        let all = objects();
        let (acme, all) = (w.acme, &all);
        let one = async |store: &dyn Store, who: &str| {
            for nth in 0..5 {
                loop {
                    let seen = store.documents_version().await.unwrap();
                    let write = [put(acme, &format!("{who}{nth}"), &format!("{who}{nth}"), "{}", who)];
                    match change(store, seen, &write, all, 1).await {
                        Ok(_) => break,
                        Err(StoreError::Outdated | StoreError::Unavailable { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        };
        tokio::join!(one(&*others[0], "a"), one(&*others[1], "b"), one(&*others[2], "c"));
        let (version, rows) = told(w.store()).await;
        let mut versions: Vec<i64> = rows.iter().map(|row| row.2).collect();
        versions.sort_unstable();
        assert_eq!((version, versions), (15, (1..=15).collect::<Vec<_>>()), "no change was lost, and none shares its version");
        for other in others {
            if !other.exclusive() {
                other.close().await;
            }
        }
    })
    .await;
}
