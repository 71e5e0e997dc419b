//! The two ends of `store copy` on PostgreSQL.

use super::super::copy::{CHUNK_LIMIT, CHUNK_ROWS, Chunk, Column, Kind, Row, Sink, Source, Table, Target, Value};
use super::super::error::{failed, unreadable};
use super::super::flat::DAY;
use super::super::history::floor;
use super::super::rows::{Columns, Sql};
use super::super::{Result, StoreError, migrate};
use super::keep::{PARTITIONED, make, partition};
use super::open::{self, MIGRATE};
use super::query;
use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row as _, raw_sql};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The one moment at which everything is read.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 600000; \
                          SET LOCAL idle_in_transaction_session_timeout = 600000";
/// While the other store is counted, or slow, this one waits.
const PATIENT: &str = "SET LOCAL idle_in_transaction_session_timeout = 600000";
/// Heartbeats of more days than this go into the default partition: a partition costs every query a little.
const DAYS_MAX: usize = 400;
/// A node adds to its leases at least once a minute, whatever `agent.lease.beat` says: one that has not for so long is not there. Nodes
/// that were stopped hold none, so this is waited for only after one that was killed.
const SILENCE: Duration = Duration::from_secs(65);
const LOOK: Duration = Duration::from_millis(500);

/// One connection in one transaction.
struct Copy {
    connection: PgConnection,
    /// The days of each table that have a partition by now.
    days: BTreeSet<(String, i64)>,
}

/// Opens a store to read it.
pub(in super::super) async fn source(url: &str) -> Result<(String, Box<dyn Source>)> {
    let options = open::options(url)?;
    let mut connection = open::connect(&options).await?;
    let doing = "reading the store that is to be copied";
    if let Some(holder) = in_use(&mut connection).await.map_err(failed(doing))? {
        return Err(StoreError::Refused(format!("{} is in use by {holder}: stop every node first", open::place(&options))));
    }
    begin(&mut connection).await.map_err(failed(doing))?;
    Ok((open::place(&options), Box::new(Copy { connection, days: BTreeSet::new() })))
}

/// Opens a store to fill it.
pub(in super::super) async fn target(url: &str) -> Result<(String, Box<dyn Target>)> {
    let options = open::options(url)?;
    let connection = open::connect(&options).await?;
    Ok((open::place(&options), Box::new(Copy { connection, days: BTreeSet::new() })))
}

async fn begin(connection: &mut PgConnection) -> Sql<()> {
    raw_sql(BEGIN_READ).execute(&mut *connection).await?;
    open::enter_schema(&mut *connection).await?;
    let known = query("SELECT 1 WHERE to_regclass('wk_migration') IS NOT NULL").fetch_optional(&mut *connection).await?;
    let applied = if known.is_some() { open::applied(&mut *connection).await? } else { Vec::new() };
    migrate::check_newest(migrate::POSTGRES, &applied)
}

/// Who keeps a lease alive, if anybody does.
async fn in_use(connection: &mut PgConnection) -> Sql<Option<String>> {
    let Some(first) = beats(connection).await? else { return Ok(None) };
    let until = Instant::now() + SILENCE;
    while !first.is_empty() && Instant::now() < until {
        sleep(LOOK).await;
        let now = beats(connection).await?.unwrap_or_default();
        let changed = now.iter().find(|(scope, state)| first.get(*scope) != Some(state));
        if let Some((_, (holder, _, _))) = changed {
            return Ok(Some(holder.clone()));
        }
    }
    Ok(None)
}

/// A lease that is held: its holder, epoch and beat.
type Held = (String, i64, i64);

async fn beats(connection: &mut PgConnection) -> Sql<Option<BTreeMap<String, Held>>> {
    let mut tx = connection.begin_with(BEGIN_READ).await?;
    open::enter_schema(&mut tx).await?;
    let known = query("SELECT 1 WHERE to_regclass('wk_lease') IS NOT NULL").fetch_optional(&mut *tx).await?;
    if known.is_none() {
        return Ok(None);
    }
    let rows = query("SELECT scope, holder, epoch, beat FROM wk_lease WHERE holder <> ''").fetch_all(&mut *tx).await?;
    tx.commit().await?;
    rows.iter().map(|row| Ok((row.text(0)?, (row.text(1)?, row.int(2)?, row.int(3)?)))).collect::<Sql<_>>().map(Some)
}

/// How a value is asked for, so that it comes as one of four types.
fn selected(column: &Column) -> String {
    let cast = match column.kind {
        Kind::Int => "::int8",
        Kind::Bool => "::int::int8",
        Kind::Text | Kind::Bytes => "",
    };
    format!("{}{cast}", column.name)
}

fn read(row: &PgRow, table: &Table) -> Sql<Row> {
    let value = |(at, column): (usize, &Column)| {
        Ok(match column.kind {
            Kind::Int | Kind::Bool => row.maybe_int(at)?.map_or(Value::Null, Value::Int),
            Kind::Text => row.maybe_text(at)?.map_or(Value::Null, Value::Text),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(at)?.map_or(Value::Null, Value::Bytes),
        })
    };
    table.columns.iter().enumerate().map(value).collect()
}

#[async_trait]
impl Source for Copy {
    async fn tables(&mut self) -> Sql<Vec<Table>> {
        let rows = query(
            "SELECT c.relname::text, a.attname::text, t.typname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                 JOIN pg_type t ON t.oid = a.atttypid
             WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
               AND c.relname LIKE 'wk\\_%' AND c.relname <> 'wk_migration' AND a.attnum > 0 AND NOT a.attisdropped
             ORDER BY c.relname, a.attnum",
        )
        .fetch_all(&mut self.connection)
        .await?;
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        for row in rows {
            let (name, kind) = (row.text(0)?, row.text(2)?);
            let kind = match kind.as_str() {
                "int2" | "int4" | "int8" => Kind::Int,
                "bool" => Kind::Bool,
                "text" => Kind::Text,
                "bytea" => Kind::Bytes,
                _ => return Err(unreadable("a column is of a type that is not known")),
            };
            let table = tables.entry(name.clone()).or_insert_with(|| Table { name, columns: Vec::new(), needs: BTreeSet::new() });
            table.columns.push(Column { name: row.text(1)?, kind });
        }
        let rows = query(
            "SELECT c.relname::text, f.relname::text FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
                 JOIN pg_class f ON f.oid = k.confrelid
             WHERE k.contype = 'f' AND c.relnamespace = current_schema()::regnamespace",
        )
        .fetch_all(&mut self.connection)
        .await?;
        for row in rows {
            if let Some(table) = tables.get_mut(&row.text(0)?) {
                table.needs.insert(row.text(1)?);
            }
        }
        Ok(tables.into_values().collect())
    }

    async fn count(&mut self, table: &Table) -> Sql<u64> {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        Ok(query(AssertSqlSafe(sql)).fetch_one(&mut self.connection).await?.int(0)? as u64)
    }

    async fn scan(&mut self, table: &Table, sink: &mut dyn Sink) -> Sql<()> {
        let columns: Vec<String> = table.columns.iter().map(selected).collect();
        // A cursor: whatever the size of the table, each statement is short.
        let declare = format!("DECLARE wk_copy NO SCROLL CURSOR FOR SELECT {} FROM {}", columns.join(", "), table.name);
        query(AssertSqlSafe(declare)).execute(&mut self.connection).await?;
        let fetch = format!("FETCH FORWARD {CHUNK_ROWS} FROM wk_copy");
        let mut chunk = Chunk::default();
        loop {
            let mut got = 0;
            let mut rows = query(AssertSqlSafe(fetch.clone())).fetch(&mut self.connection);
            let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
            while let Some(row) = timeout(CHUNK_LIMIT, rows.try_next()).await.map_err(late)?? {
                got += 1;
                if let Some(full) = chunk.add(read(&row, table)?) {
                    sink.put(full).await?;
                }
            }
            if got == 0 {
                break;
            }
        }
        sink.put(chunk.take()).await?;
        query("CLOSE wk_copy").execute(&mut self.connection).await?;
        Ok(())
    }

    async fn close(self: Box<Self>) {
        // The server ends a transaction whose connection is gone.
        let _ = self.connection.close().await;
    }
}

#[async_trait]
impl Target for Copy {
    async fn prepare(&mut self) -> Sql<Option<String>> {
        let connection = &mut self.connection;
        raw_sql(MIGRATE).execute(&mut *connection).await?;
        let (_, steps) = open::pending(connection).await?;
        for step in steps {
            open::apply(connection, step).await?;
        }
        raw_sql(PATIENT).execute(&mut *connection).await?;
        // A node that would begin to use it meanwhile waits here, and finds it used.
        raw_sql("LOCK TABLE wk_agent IN EXCLUSIVE MODE").execute(&mut *connection).await?;
        for table in self.tables().await?.into_iter().filter(|table| table.name != "wk_id_block") {
            let sql = format!("SELECT 1 FROM {} LIMIT 1", table.name);
            if query(AssertSqlSafe(sql)).fetch_optional(&mut self.connection).await?.is_some() {
                return Ok(Some(table.name));
            }
        }
        raw_sql("DELETE FROM wk_id_block").execute(&mut self.connection).await?;
        Ok(None)
    }

    async fn put(&mut self, table: &Table, rows: &[Row]) -> Sql<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if PARTITIONED.contains(&table.name.as_str()) {
            self.make_partitions(table, rows).await?;
        }
        let mut text = String::new();
        for row in rows {
            for (nth, (value, column)) in row.iter().zip(&table.columns).enumerate() {
                if nth > 0 {
                    text.push('\t');
                }
                write(&mut text, value, column.kind);
            }
            text.push('\n');
        }
        let mut copy = self.connection.copy_in_raw(&format!("COPY {} ({}) FROM STDIN", table.name, table.names())).await?;
        copy.send(text.as_bytes()).await?;
        copy.finish().await?;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Sql<()> {
        let connection = &mut self.connection;
        let rows = query(
            "SELECT c.relname::text, a.attname::text, pg_get_serial_sequence(c.oid::regclass::text, a.attname)
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relnamespace = current_schema()::regnamespace AND c.relname LIKE 'wk\\_%' AND a.attidentity <> ''",
        )
        .fetch_all(&mut *connection)
        .await?;
        for row in rows {
            let sql = format!("SELECT setval($1::regclass, (SELECT coalesce(max({}), 0) + 1 FROM {}), FALSE)", row.text(1)?, row.text(0)?);
            query(AssertSqlSafe(sql)).bind(row.text(2)?).execute(&mut *connection).await?;
        }
        let tables = self.tables().await?;
        for table in tables.iter().filter(|table| table.draws_ids()) {
            let sql = format!("UPDATE wk_id_block SET next = greatest(next, (SELECT coalesce(max(id), 0) + 1 FROM {}))", table.name);
            query(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
        }
        // Until the server has looked at the tables by itself it would plan as if they were empty.
        for table in &tables {
            raw_sql(AssertSqlSafe(format!("ANALYZE {}", table.name))).execute(&mut self.connection).await?;
        }
        raw_sql("COMMIT").execute(&mut self.connection).await?;
        // It is committed; whether the connection ends politely is of no importance.
        let _ = self.connection.close().await;
        Ok(())
    }
}

impl Copy {
    /// Makes the partitions of the days of these rows.
    async fn make_partitions(&mut self, table: &Table, rows: &[Row]) -> Sql<()> {
        let Some(at) = table.columns.iter().position(|column| column.name == "at") else { return Ok(()) };
        let day = |row: &Row| match row[at] {
            Value::Int(at) => Some((table.name.clone(), floor(at, DAY))),
            Value::Null | Value::Text(_) | Value::Bytes(_) => None,
        };
        let days: BTreeSet<_> = rows.iter().filter_map(day).collect();
        for (name, day) in days {
            if self.days.len() < DAYS_MAX * PARTITIONED.len() && self.days.insert((name.clone(), day)) {
                make(&mut self.connection, &name, day, &partition(&name, day)).await?;
            }
        }
        Ok(())
    }
}

/// One value in COPY's text form.
fn write(out: &mut String, value: &Value, kind: Kind) {
    match (value, kind) {
        (Value::Null, _) => out.push_str("\\N"),
        (Value::Int(number), Kind::Bool) => out.push(if *number == 0 { 'f' } else { 't' }),
        (Value::Int(number), Kind::Int | Kind::Text | Kind::Bytes) => out.push_str(&number.to_string()),
        (Value::Bytes(bytes), _) => {
            out.push_str("\\\\x");
            out.push_str(&crate::hex(bytes));
        }
        (Value::Text(text), _) => {
            for char in text.chars() {
                match char {
                    '\\' => out.push_str("\\\\"),
                    '\t' => out.push_str("\\t"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    other => out.push(other),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_copy_reads_them() {
        let written = |value: Value, kind| {
            let mut out = String::new();
            write(&mut out, &value, kind);
            out
        };
        assert_eq!(written(Value::Text("a\tb\\n\r\n„ü“".into()), Kind::Text), "a\\tb\\\\n\\r\\n„ü“");
        assert_eq!(written(Value::Text("\\N".into()), Kind::Text), "\\\\N", "not NULL");
        assert_eq!(written(Value::Null, Kind::Text), "\\N");
        assert_eq!(written(Value::Bytes(vec![0, 255]), Kind::Bytes), "\\\\x00ff");
        assert_eq!((written(Value::Int(1), Kind::Bool), written(Value::Int(-1), Kind::Int)), ("t".into(), "-1".into()));
    }
}
