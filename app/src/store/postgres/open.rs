//! Opening: a server that refuses is quoted, our tables are found in whatever schema they are, and brought up to date.

use super::super::error::{failed, refused};
use super::super::rows::{Columns, Sql};
use super::super::{Result, StoreError, migrate};
use super::{ACQUIRE, LONG, query};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqlSafeStr, SqlStr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Nodes that start together migrate one after the other under this lock; the number is arbitrary and ours.
const MIGRATION_LOCK: i64 = 0x5743_4b31;
/// The oldest server that is accepted.
const SERVER: i64 = 150_000;
/// Between two attempts to connect to a server that is starting, or to alter a table that somebody reads.
const PAUSE: Duration = Duration::from_millis(250);
/// A step of the schema that cannot have its tables for so long is given up: somebody reads them without end.
const PATIENCE: Duration = Duration::from_mins(2);

/// How transactions begin: with time-outs, and with the schema of our tables. What a connection's search path is otherwise, nobody
/// knows: behind a transaction pooler it is what its last user left there.
pub(super) struct Begin {
    /// A writing one. A statement that takes longer is broken or lacks its index; a lock that is not had in 3 s is worth another
    /// try; a node that says nothing for 4 s in the middle of a transaction has lost its leases anyway.
    pub write: SqlStr,
    /// A reading one: everything it reads is of one moment.
    pub read: SqlStr,
    /// An integrity check may take long.
    pub long: SqlStr,
}

/// How a migration begins: it may take long, and waits for another node's. The schema is not known yet.
pub(super) const MIGRATE: &str = "BEGIN; SET LOCAL statement_timeout = 600000; SET LOCAL lock_timeout = 60000; \
                                  SET LOCAL idle_in_transaction_session_timeout = 60000";
/// While it waits for a table, everybody else waits behind it: for less long than they are willing to.
const ALTER_WAIT: &str = "SET LOCAL lock_timeout = 2000";

impl Begin {
    fn in_schema(schema: &str) -> Self {
        let begin = |how: &str, statement: u32, lock: u32, idle: u32| {
            let schema = schema.replace('"', "\"\"");
            let text = format!(
                "BEGIN{how}; SET LOCAL search_path = \"{schema}\"; SET LOCAL statement_timeout = {statement}; \
                 SET LOCAL lock_timeout = {lock}; SET LOCAL idle_in_transaction_session_timeout = {idle}"
            );
            AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
        };
        Self {
            write: begin("", 10_000, 3_000, 4_000),
            read: begin(" ISOLATION LEVEL REPEATABLE READ READ ONLY", 10_000, 3_000, 4_000),
            long: begin(" ISOLATION LEVEL REPEATABLE READ READ ONLY", 600_000, 60_000, 60_000),
        }
    }
}

/// What the URL means.
pub(super) fn options(url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url).map_err(|_| {
        StoreError::Refused("store.url is no PostgreSQL URL: postgres://USER:PASSWORD@HOST:PORT/DATABASE is accepted".into())
    })?;
    Ok(options.statement_cache_capacity(0).extra_float_digits(None).application_name("watchkeeper").disable_statement_logging())
}

/// Where the server is, without user and password.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

/// Connects. A server that is starting, or is not there, is tried again for a while; one that refuses is not.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    let until = Instant::now() + ACQUIRE;
    loop {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let error = match timeout(left, PgConnection::connect_with(options)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("{} did not answer within {} s", place(options), ACQUIRE.as_secs()),
            )),
        };
        if let Some(words) = refusal(&error) {
            return Err(StoreError::Refused(format!("{} says: {words}", place(options))));
        }
        let error = failed("connecting to the database")(error);
        if !matches!(error, StoreError::Unavailable { .. }) || Instant::now() + PAUSE >= until {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
}

/// What a server says that wants no such user, password or database: no other attempt mends it.
fn refusal(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    let code = error.code()?;
    (["28", "3D", "42"].contains(&code.get(..2)?)).then(|| error.message().to_owned())
}

/// Brings the schema up to date, step by step, and says how transactions in it begin.
pub(super) async fn migrate(connection: &mut PgConnection) -> Sql<Begin> {
    let until = Instant::now() + PATIENCE;
    loop {
        match timeout(LONG, step(connection)).await.map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))? {
            Ok((schema, 0)) => return Ok(Begin::in_schema(&schema)),
            Ok((_, _)) => {}
            // Somebody reads a table for long; meanwhile others get their turn at it.
            Err(error) if is_busy(&error) && Instant::now() < until => sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

/// A lock was not had in time.
fn is_busy(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "55P03")
}

/// One step of the schema in a transaction of its own; where the tables are, and how many steps are left.
async fn step(connection: &mut PgConnection) -> Sql<(String, usize)> {
    let mut tx = connection.begin_with(MIGRATE).await?;
    let (schema, steps) = pending(&mut tx).await?;
    if let Some(step) = steps.first() {
        apply(&mut tx, step).await?;
    }
    tx.commit().await?;
    Ok((schema, steps.len().saturating_sub(1)))
}

/// Waits until no other node migrates, and finds our schema and what it lacks. Nobody else migrates until the transaction ends.
pub(super) async fn pending(tx: &mut PgConnection) -> Sql<(String, &'static [migrate::Migration])> {
    let version = query("SELECT current_setting('server_version_num')::int8").fetch_one(&mut *tx).await?.int(0)?;
    if version < SERVER {
        return Err(refused(format!("the server is PostgreSQL {}: 15 or newer is needed", version / 10_000)));
    }
    query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *tx).await?;
    let schema = enter_schema(tx).await?;
    query(migrate::TABLE).execute(&mut *tx).await?;
    let applied = applied(tx).await?;
    Ok((schema, migrate::pending(migrate::POSTGRES, &applied)?))
}

/// Which migrations the database has had.
pub(super) async fn applied(tx: &mut PgConnection) -> Sql<Vec<(i64, String)>> {
    let rows = query("SELECT version, checksum FROM wk_migration ORDER BY version").fetch_all(&mut *tx).await?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?))).collect()
}

/// Applies one migration within the transaction.
pub(super) async fn apply(tx: &mut PgConnection, step: &migrate::Migration) -> Sql<()> {
    sqlx::raw_sql(ALTER_WAIT).execute(&mut *tx).await?;
    sqlx::raw_sql(step.sql).execute(&mut *tx).await?;
    query("INSERT INTO wk_migration (version, name, checksum) VALUES ($1, $2, $3)")
        .bind(step.version)
        .bind(step.name)
        .bind(step.checksum())
        .execute(&mut *tx)
        .await?;
    Ok(())
}

/// Finds the schema that holds our tables, by the search path that the user or the database has; a new installation gets the first
/// schema of that path. From here on the transaction sees this schema alone.
pub(super) async fn enter_schema(tx: &mut PgConnection) -> Sql<String> {
    let row = query(
        "SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                          WHERE c.oid = to_regclass('wk_migration')), current_schema())::text",
    )
    .fetch_one(&mut *tx)
    .await?;
    let Some(schema) = row.maybe_text(0)? else {
        return Err(refused("no schema of the user's search_path exists, so there is no place for the tables"));
    };
    query("SELECT set_config('search_path', quote_ident($1), TRUE)").bind(&schema).execute(&mut *tx).await?;
    Ok(schema)
}
