//! The connections to the file: one writer, a few readers, and none that is stuck in a transaction.
//!
//! When the disk is full or fails, SQLite may end a transaction by itself. The driver does not hear of that: its own ROLLBACK then
//! fails, it counts the transaction as open for ever, and the connection can begin no other. Such a connection is not kept.

use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnection, SqlitePoolOptions};
use sqlx::{Connection, Sqlite};
use std::time::Duration;

/// How long a use case waits for its connection before it is [`crate::store::StoreError::Unavailable`]. Well under the watchdog's ten
/// seconds: a slow disk must not look like a stalled loop; shorter would give up behind one long commit.
const ACQUIRE: Duration = Duration::from_secs(5);

/// A pool of so many connections, which live as long as the store unless they are stuck.
pub(super) fn options(size: u32) -> PoolOptions<Sqlite> {
    SqlitePoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_release(|connection, _| Box::pin(is_free(connection)))
}

/// Whether the connection is in no transaction, so that the next one can begin; if not, the pool closes it and opens another.
async fn is_free(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    if connection.is_in_transaction() {
        // The rollback of what was given up is on its way to the connection's thread; the answer to this comes after it.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use crate::store::{PushKind, PushRow, Store, StoreError};
    use sqlx::{AssertSqlSafe, query};
    use watchkeeper_core::{Micros, MonitorId};

    const fn push(body: String) -> PushRow {
        PushRow { id: 0, monitor: MonitorId(1), kind: PushKind::Ok, exit: None, ping_us: None, body, at: Micros(1) }
    }

    #[tokio::test]
    async fn a_full_disk_passes_and_leaves_no_connection_stuck() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path().join("wk.db").to_str().unwrap()).await.unwrap();
        // As if the disk had no room for more than what is there.
        let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count").fetch_one(&store.writer).await.unwrap();
        query(AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"))).execute(&store.writer).await.unwrap();
        let large = push("x".repeat(9_000));
        let error = store.insert_push(&large).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "it can pass: {}", crate::chain(&error));
        assert!(crate::chain(&error).contains("full"), "{}", crate::chain(&error));
        // The limit was the stuck connection's, and went with it.
        for _ in 0..3 {
            store.insert_push(&large).await.unwrap();
        }
        store.ping().await.unwrap();
        let (rows,): (i64,) = sqlx::query_as("SELECT count(*) FROM wk_push").fetch_one(&store.readers).await.unwrap();
        assert_eq!(rows, 3, "what failed has left nothing behind");
        store.close().await;
    }
}
