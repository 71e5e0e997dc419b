//! Stores for tests: a SQLite file and a PostgreSQL database of their own for each.

use super::postgres;
use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use watchkeeper::store::{self, Store};

/// A store of the test's own.
pub struct TestStore {
    /// The store under test.
    pub store: Arc<dyn Store>,
    /// What it was opened with.
    pub url: String,
    /// The same database without a pooler in between, for what a test does behind the store's back.
    pub direct: String,
    /// The file, if it is SQLite.
    pub file: Option<PathBuf>,
    dir: Option<Arc<tempfile::TempDir>>,
}

impl TestStore {
    /// An empty SQLite store in a temporary directory, which goes with it.
    pub async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("watchkeeper.db");
        let url = format!("sqlite://{}", file.display());
        Self { store: open(&url).await, direct: url.clone(), url, file: Some(file), dir: Some(Arc::new(dir)) }
    }

    /// A store on a database of the test's own.
    pub async fn on(database: &postgres::Database) -> Self {
        Self::through(database, &database.url).await
    }

    async fn through(database: &postgres::Database, url: &str) -> Self {
        Self { store: open(url).await, url: url.to_owned(), direct: database.url.clone(), file: None, dir: None }
    }

    /// The store as another node has it: on PostgreSQL connections of its own; a SQLite file has one process only.
    pub async fn as_another_node(&self) -> Arc<dyn Store> {
        match self.file {
            Some(_) => self.store.clone(),
            None => open(&self.url).await,
        }
    }

    /// The same store once more, for a part of the test that keeps it.
    pub fn shared(&self) -> Self {
        Self {
            store: self.store.clone(),
            url: self.url.clone(),
            direct: self.direct.clone(),
            file: self.file.clone(),
            dir: self.dir.clone(),
        }
    }

    /// Closes it, and opens it again.
    pub async fn reopen(&mut self) {
        self.store.close().await;
        self.store = open(&self.url).await;
    }

    /// Runs statements behind the store's back, while it is closed, with foreign keys off.
    pub async fn behind_its_back(&mut self, sql: &str) {
        self.store.close().await;
        self.execute(sql).await;
        self.store = open(&self.url).await;
    }

    /// Runs statements without the store, with foreign keys off; on SQLite the store must be closed.
    pub async fn execute(&self, sql: &str) {
        if self.file.is_some() {
            let mut connection = SqliteConnection::connect(&self.direct).await.unwrap();
            connection.execute("PRAGMA foreign_keys = OFF").await.unwrap();
            connection.execute(AssertSqlSafe(sql)).await.unwrap();
            connection.close().await.unwrap();
        } else {
            let mut connection = PgConnection::connect(&self.direct).await.unwrap();
            connection.execute("SET session_replication_role = replica").await.unwrap();
            connection.execute(AssertSqlSafe(sql)).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    /// One number from the tables, read while the store is closed.
    pub async fn number(&mut self, sql: &str) -> i64 {
        self.store.close().await;
        let sql = AssertSqlSafe(format!("SELECT CAST(({sql}) AS BIGINT)"));
        let number = if self.file.is_some() {
            let mut connection = SqliteConnection::connect(&self.direct).await.unwrap();
            let row = connection.fetch_one(sql).await.unwrap();
            connection.close().await.unwrap();
            row.get(0)
        } else {
            let mut connection = PgConnection::connect(&self.direct).await.unwrap();
            let row = connection.fetch_one(sql).await.unwrap();
            connection.close().await.unwrap();
            row.get(0)
        };
        self.store = open(&self.url).await;
        number
    }
}

async fn open(url: &str) -> Arc<dyn Store> {
    store::open(url).await.expect("a store of the test's own opens")
}

/// Runs `body` over an empty store of each kind, also when another one failed; says which failed.
pub async fn each_store<F, Fut>(body: F)
where
    F: Fn(TestStore) -> Fut,
    Fut: Future<Output = ()>,
{
    let on_sqlite = AssertUnwindSafe(sqlite_alone(&body)).catch_unwind().await;
    let on_postgres = AssertUnwindSafe(async {
        if let Some(database) = postgres::fresh_database().await {
            body(TestStore::on(&database).await).await;
            database.drop_it().await;
        }
    })
    .catch_unwind()
    .await;
    let behind_a_pooler = AssertUnwindSafe(async {
        if let Some(database) = postgres::fresh_database().await {
            if let Some(url) = database.pooled().await {
                body(TestStore::through(&database, &url).await).await;
            }
            database.drop_it().await;
        }
    })
    .catch_unwind()
    .await;
    let lanes = [("SQLite", on_sqlite), ("PostgreSQL", on_postgres), ("PostgreSQL behind a transaction pooler", behind_a_pooler)];
    let failed: Vec<&str> = lanes.into_iter().filter(|(_, ended)| ended.is_err()).map(|(lane, _)| lane).collect();
    assert!(failed.is_empty(), "failed on {}", failed.join(" and "));
}

/// Runs `body` over an empty store in a SQLite file.
pub async fn sqlite_alone<F, Fut>(body: F)
where
    F: Fn(TestStore) -> Fut,
    Fut: Future<Output = ()>,
{
    let t = TestStore::sqlite().await;
    // Held here too: a body that only uses the store would let go of its directory.
    let dir = t.dir.clone();
    body(t).await;
    drop(dir);
}
