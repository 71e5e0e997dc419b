//! The two ends of `store copy` on SQLite.

use super::super::copy::{Chunk, Column, Kind, Row, Sink, Source, Table, Target, Value};
use super::super::error::{failed, refused, unreadable};
use super::super::rows::{Columns, Sql};
use super::super::{Result, StoreError, migrate};
use super::lock::Lock;
use super::{BUSY, applied, apply_step, pending};
use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row as _, query, raw_sql};
use std::collections::BTreeSet;
use std::path::Path;

/// Values in one INSERT; SQLite takes 32 766. More gains nothing.
const VALUES: usize = 1_024;

/// A file that nobody else uses, and a transaction on it.
struct Copy {
    connection: SqliteConnection,
    lock: Lock,
    /// It was not there before: it goes again if nothing comes of it.
    made: bool,
}

/// Opens an existing file to read it.
pub(in super::super) async fn source(path: &str) -> Result<(String, Box<dyn Source>)> {
    if !Path::new(path).exists() {
        return Err(StoreError::Refused(format!("there is no database {path}")));
    }
    let mut copy = open(path, true).await?;
    let begun = async {
        raw_sql("BEGIN").execute(&mut copy.connection).await?;
        let known = query("SELECT 1 FROM sqlite_master WHERE name = 'wk_migration'").fetch_optional(&mut copy.connection).await?;
        let applied = if known.is_some() { applied(&mut copy.connection).await? } else { Vec::new() };
        migrate::check_newest(migrate::SQLITE, &applied)
    };
    match begun.await {
        Ok(()) => Ok((path.to_owned(), Box::new(copy))),
        Err(error) => {
            Box::new(copy).close().await;
            Err(failed("reading the store that is to be copied")(error))
        }
    }
}

/// Opens a file to fill it; it may be made.
pub(in super::super) async fn target(path: &str) -> Result<(String, Box<dyn Target>)> {
    Ok((path.to_owned(), Box::new(open(path, false).await?)))
}

async fn open(path: &str, only_read: bool) -> Result<Copy> {
    let made = !Path::new(path).exists();
    let lock = Lock::take(Path::new(path))?;
    let options = SqliteConnectOptions::new()
        .filename(&lock.path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .pragma("query_only", if only_read { "ON" } else { "OFF" })
        .disable_statement_logging();
    let connection = SqliteConnection::connect_with(&options).await.map_err(failed("opening the database"))?;
    Ok(Copy { connection, lock, made })
}

impl Copy {
    async fn texts(&mut self, sql: String) -> Sql<Vec<String>> {
        query(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await?.iter().map(|row| row.text(0)).collect()
    }

    async fn send(&mut self, sql: String, table: &Table, sink: &mut dyn Sink) -> Sql<()> {
        let mut chunk = Chunk::default();
        let mut rows = query(AssertSqlSafe(sql)).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            if let Some(full) = chunk.add(read(&row, table)?) {
                sink.put(full).await?;
            }
        }
        sink.put(chunk.take()).await
    }

    /// Lets go of it; a file that was made for nothing goes.
    async fn end(self, keep: bool) {
        let Self { connection, lock, made } = self;
        let path = lock.path.clone();
        // What cannot be closed well is closed by the end of the process.
        let _ = connection.close().await;
        lock.release();
        if made && !keep {
            for end in ["", "-wal", "-shm", ".lock"] {
                let mut name = path.as_os_str().to_owned();
                name.push(end);
                // It may not be there.
                let _ = std::fs::remove_file(name);
            }
        }
    }
}

fn read(row: &SqliteRow, table: &Table) -> Sql<Row> {
    let value = |(at, column): (usize, &Column)| {
        Ok(match column.kind {
            Kind::Int | Kind::Bool => row.maybe_int(at)?.map_or(Value::Null, Value::Int),
            Kind::Text => row.maybe_text(at)?.map_or(Value::Null, Value::Text),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(at)?.map_or(Value::Null, Value::Bytes),
        })
    };
    table.columns.iter().enumerate().map(value).collect()
}

/// Heartbeats wait in a second table until they are moved; there is none of that name elsewhere.
const WAITING: &str = "wk_beat_new";

#[async_trait]
impl Source for Copy {
    async fn tables(&mut self) -> Sql<Vec<Table>> {
        let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'wk\\_%' ESCAPE '\\' AND name <> 'wk_migration'";
        let mut tables = Vec::new();
        for name in self.texts(names.into()).await?.into_iter().filter(|name| name != WAITING) {
            let sql = format!("SELECT name, type FROM pragma_table_info('{name}') ORDER BY cid");
            let rows = query(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await?;
            let column = |row: &SqliteRow| {
                let kind = match row.text(1)?.as_str() {
                    "INTEGER" => Kind::Int,
                    "TEXT" => Kind::Text,
                    "BLOB" => Kind::Bytes,
                    _ => return Err(unreadable("a column is of a type that is not known")),
                };
                Ok(Column { name: row.text(0)?, kind })
            };
            let columns = rows.iter().map(column).collect::<Sql<_>>()?;
            let needs = self.texts(format!("SELECT \"table\" FROM pragma_foreign_key_list('{name}')")).await?;
            tables.push(Table { name, columns, needs: needs.into_iter().collect::<BTreeSet<_>>() });
        }
        Ok(tables)
    }

    async fn count(&mut self, table: &Table) -> Sql<u64> {
        let waiting = if table.name == "wk_beat" { format!(" + (SELECT count(*) FROM {WAITING})") } else { String::new() };
        let sql = format!("SELECT (SELECT count(*) FROM {}){waiting}", table.name);
        Ok(query(AssertSqlSafe(sql)).fetch_one(&mut self.connection).await?.int(0)? as u64)
    }

    async fn scan(&mut self, table: &Table, sink: &mut dyn Sink) -> Sql<()> {
        self.send(format!("SELECT {} FROM {}", table.names(), table.name), table, sink).await?;
        if table.name == "wk_beat" {
            // Each once: a move that is under way leaves the originals until all are copied, and the first of two alike counts.
            let sql = format!(
                "SELECT {} FROM (SELECT *, min(seq) FROM {WAITING} GROUP BY monitor_id, datacenter_id, at, agent_id) n
                 WHERE NOT EXISTS (SELECT 1 FROM wk_beat b WHERE b.monitor_id = n.monitor_id AND b.datacenter_id = n.datacenter_id
                     AND b.at = n.at AND b.agent_id = n.agent_id)",
                table.names()
            );
            self.send(sql, table, sink).await?;
        }
        Ok(())
    }

    async fn close(self: Box<Self>) {
        self.end(false).await;
    }
}

#[async_trait]
impl Target for Copy {
    async fn prepare(&mut self) -> Sql<Option<String>> {
        raw_sql("BEGIN IMMEDIATE").execute(&mut self.connection).await?;
        for step in pending(&mut self.connection).await? {
            apply_step(&mut self.connection, step).await?;
        }
        let mut tables: Vec<String> = self.tables().await?.into_iter().map(|table| table.name).collect();
        tables.push(WAITING.to_owned());
        for table in tables.iter().filter(|table| *table != "wk_id_block") {
            if !self.texts(format!("SELECT 'x' FROM {table} LIMIT 1")).await?.is_empty() {
                return Ok(Some(table.clone()));
            }
        }
        raw_sql("DELETE FROM wk_id_block").execute(&mut self.connection).await?;
        Ok(None)
    }

    async fn put(&mut self, table: &Table, rows: &[Row]) -> Sql<()> {
        let width = table.columns.len();
        if width == 0 {
            return Err(refused(format!("{} has no columns", table.name)));
        }
        for rows in rows.chunks((VALUES / width).max(1)) {
            let places = vec![format!("({})", vec!["?"; width].join(",")); rows.len()].join(",");
            let sql = format!("INSERT INTO {} ({}) VALUES {places}", table.name, table.names());
            let insert = rows.iter().flatten().fold(query(AssertSqlSafe(sql)), |insert, value| match value {
                Value::Null => insert.bind(None::<i64>),
                Value::Int(number) => insert.bind(*number),
                Value::Text(text) => insert.bind(text.clone()),
                Value::Bytes(bytes) => insert.bind(bytes.clone()),
            });
            insert.execute(&mut self.connection).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Sql<()> {
        let done = async {
            for table in self.tables().await?.iter().filter(|table| table.draws_ids()) {
                let sql = format!("UPDATE wk_id_block SET next = max(next, (SELECT coalesce(max(id), 0) + 1 FROM {}))", table.name);
                query(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
            }
            raw_sql("COMMIT").execute(&mut self.connection).await?;
            Ok(())
        };
        let done = done.await;
        self.end(done.is_ok()).await;
        done
    }
}
