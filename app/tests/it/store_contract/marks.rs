//! Marks: what a part of the program notes for its next life.

use crate::support::store::each_store;

#[tokio::test]
async fn a_mark_is_what_was_noted_last_also_after_a_restart() {
    each_store(|mut t| async move {
        assert_eq!(t.store.mark("report/default/status").await.unwrap(), None);
        t.store.set_mark("report/default/status", "1").await.unwrap();
        t.store.set_mark("report/default/status", "2").await.unwrap();
        t.store.set_mark("node/one/run", r#"{"ended":false}"#).await.unwrap();
        t.reopen().await;
        assert_eq!(t.store.mark("report/default/status").await.unwrap().as_deref(), Some("2"));
        assert_eq!(t.store.mark("node/one/run").await.unwrap().as_deref(), Some(r#"{"ended":false}"#));
        assert_eq!(t.store.mark("node/two/run").await.unwrap(), None);
    })
    .await;
}
