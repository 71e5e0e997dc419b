//! The rows of an installation as SQL text, and back: for fixtures that later programs must be able to open.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};
use std::fmt::Write as _;

/// Every row of every `wk_` table, table by table, as statements for the same schema with foreign keys off; on PostgreSQL also what
/// makes the partitions, and where the identities go on.
pub async fn rows(url: &str) -> String {
    if url.starts_with("sqlite") { of_sqlite(url).await } else { of_postgres(url).await }
}

async fn of_sqlite(url: &str) -> String {
    let mut db = SqliteConnection::connect(url).await.unwrap();
    let tables =
        texts(&mut db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'wk\\_%' ESCAPE '\\' ORDER BY name").await;
    let mut out = String::new();
    for table in tables {
        let columns = texts(&mut db, &format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid")).await;
        let values: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        let sql = format!("SELECT {} FROM {table} ORDER BY 1", values.join(" || ', ' || "));
        insert(&mut out, &table, &columns, "", &texts(&mut db, &sql).await);
    }
    db.close().await.unwrap();
    out
}

async fn of_postgres(url: &str) -> String {
    let mut db = PgConnection::connect(url).await.unwrap();
    let mut out = String::new();
    let partitions =
        "SELECT format('CREATE TABLE %s PARTITION OF %s %s;', c.relname, i.inhparent::regclass, pg_get_expr(c.relpartbound, c.oid))
         FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
         WHERE c.relkind = 'r' AND c.relname LIKE 'wk\\_%' AND c.relname NOT LIKE '%\\_default' ORDER BY c.relname";
    for statement in texts(&mut db, partitions).await {
        let _ = writeln!(out, "{statement}");
    }
    let tables =
        "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND relname LIKE 'wk\\_%' ORDER BY 1";
    for table in texts(&mut db, tables).await {
        let columns = format!(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        );
        let columns = texts(&mut db, &columns).await;
        let values: Vec<String> = columns.iter().map(|column| format!("quote_nullable({column})")).collect();
        let sql = format!("SELECT concat_ws(', ', {}) FROM {table} ORDER BY 1", values.join(", "));
        // An identity that is always drawn takes what it is given only when told to.
        insert(&mut out, &table, &columns, " OVERRIDING SYSTEM VALUE", &texts(&mut db, &sql).await);
    }
    let identities = "SELECT format('SELECT setval(pg_get_serial_sequence(%L, %L), %s, FALSE);', attrelid::regclass, attname, nextval(pg_get_serial_sequence(attrelid::regclass::text, attname)))
         FROM pg_attribute WHERE attidentity <> '' AND attrelid::regclass::text LIKE 'wk\\_%' ORDER BY 1";
    for statement in texts(&mut db, identities).await {
        let _ = writeln!(out, "{statement}");
    }
    db.close().await.unwrap();
    out
}

fn insert(out: &mut String, table: &str, columns: &[String], how: &str, rows: &[String]) {
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "INSERT INTO {table} ({}){how} VALUES ({row});", columns.join(", "));
    }
}

async fn texts<C, D>(db: &mut C, sql: &str) -> Vec<String>
where
    D: sqlx::Database,
    for<'c> &'c mut C: Executor<'c, Database = D>,
    for<'r> String: sqlx::Decode<'r, D> + sqlx::Type<D>,
    usize: sqlx::ColumnIndex<D::Row>,
{
    let rows = db.fetch_all(AssertSqlSafe(sql)).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
