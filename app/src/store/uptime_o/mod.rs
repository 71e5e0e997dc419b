//! The tables of UptimeOAgent in the same PostgreSQL database: what its users configure by, and where they read results.
//!
//! They are not ours: nothing here changes a row of them but for adding to `api_heartbeats`, and nothing is ever added to their
//! definition. `schema.sql` and `data.sql` make them where there are none. It has connections of its own, so that a slow table of
//! somebody else's never holds up a commit of the engine. What the rows mean is decided in `crate::uptime_o`.

mod beats;
mod tables;

pub use beats::{ApiHeartbeat, Unmirrored, Waiting};
pub use tables::{AgentRow, Assignment, DatacenterRow, MonitorRow, ScheduleRow, Tables};

use super::error::{failed, refused};
use super::rows::{Columns, Sql};
use super::{Fence, Result, StoreError};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection as _, Postgres, SqlSafeStr};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use watchkeeper_core::{DatacenterId, Micros};

/// The statements that make the tables.
pub const SCHEMA: &str = include_str!("schema.sql");
/// The statements that insert the sample rows.
pub const SAMPLE: &str = include_str!("data.sql");

/// Every table that is read or written.
pub const NAMES: [&str; 7] = ["schedules", "api_monitors", "regions", "datacenters", "datacenter_monitors", "agents", "api_heartbeats"];

/// Connections of one node: reading the tables, adding heartbeats, answering whether the database is there. More wins nothing.
const CONNECTIONS: u32 = 3;
/// How long a use case waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(4);
/// A use case that has not ended after so long is given up, and its connection closed.
const GIVE_UP: Duration = Duration::from_secs(15);
/// A connection is renewed after so long, so that a moved server is found again.
const LIFETIME: Duration = Duration::from_mins(30);

const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = 10000; SET LOCAL lock_timeout = 3000; \
                     SET LOCAL idle_in_transaction_session_timeout = 4000";
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 10000; \
                          SET LOCAL idle_in_transaction_session_timeout = 4000";

/// The database that holds the tables.
#[derive(Clone)]
pub struct UptimeODatabase {
    pool: PgPool,
}

impl fmt::Debug for UptimeODatabase {
    /// Nothing of the connection: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UptimeODatabase")
    }
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// These tables.
    pub tables: Vec<String>,
    /// The sample rows.
    pub sample: bool,
    /// A table that had rows already, for which reason no sample rows were inserted.
    pub filled: Option<&'static str>,
}

/// What became of heartbeats that were to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// All of them are there.
    All,
    /// None: the lease is no longer ours.
    Stale,
}

/// A statement that is prepared, used and forgotten, as behind a transaction pooler it must be.
fn query<'q>(sql: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// Runs `$work` in one transaction that begins with `$begin`; one that takes too long is given up with its connection.
macro_rules! within {
    ($self:ident, $begin:expr, $doing:literal, |$tx:ident| $work:expr) => {{
        let all = async {
            let mut connection = $self.pool.acquire().await?;
            let work = async {
                let mut transaction = connection.begin_with($begin).await?;
                let $tx = &mut *transaction;
                let done = $work.await?;
                transaction.commit().await?;
                Sql::Ok(done)
            };
            match tokio::time::timeout(GIVE_UP, work).await {
                Ok(done) => done,
                Err(_) => {
                    drop(connection.detach());
                    Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
                }
            }
        };
        all.await.map_err(failed($doing))
    }};
}

impl UptimeODatabase {
    /// Connects. No error holds the URL: it may hold a password.
    pub async fn open(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| StoreError::Refused("it is no PostgreSQL URL: postgres://USER:PASSWORD@HOST:PORT/DATABASE is accepted".into()))?;
        let options =
            options.statement_cache_capacity(0).extra_float_digits(None).application_name("watchkeeper").disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE)
            .max_lifetime(LIFETIME)
            .connect_with(options)
            .await
            .map_err(failed("connecting to the database"))?;
        Ok(Self { pool })
    }

    /// The names of the tables that are not there.
    pub async fn missing(&self) -> Result<Vec<String>> {
        within!(self, BEGIN_READ, "looking for the tables", |tx| tables::missing(tx))
    }

    /// Makes the tables that are not there; with `sample`, fills empty ones with the sample rows.
    pub async fn make(&self, sample: bool) -> Result<Made> {
        within!(self, BEGIN, "making the tables", |tx| tables::make(tx, sample))
    }

    /// Everything that is configured in the tables, of one moment.
    pub async fn read(&self) -> Result<Tables> {
        within!(self, BEGIN_READ, "reading the tables", |tx| tables::read(tx))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        within!(self, BEGIN_READ, "asking for a sign of life", |tx| tables::ping(tx))
    }

    /// Up to when everything had been added when that was last noted.
    pub async fn noted(&self, mark: &str) -> Result<Option<Micros>> {
        within!(self, BEGIN_READ, "reading how far it has come", |tx| beats::noted(tx, mark))
    }

    /// Heartbeats of this datacenter (by its number in the tables) that are in `api_heartbeats`, younger than `since`: monitor and time.
    pub async fn added(&self, datacenter: i64, since: Micros) -> Result<Vec<(i64, Micros)>> {
        within!(self, BEGIN_READ, "reading what is there", |tx| beats::added(tx, datacenter, since))
    }

    /// Heartbeats of ours, oldest first, younger than `since`: monitor and time.
    pub async fn beats(&self, datacenter: DatacenterId, since: Micros, limit: i64) -> Result<Vec<(i64, Micros)>> {
        within!(self, BEGIN_READ, "looking for heartbeats", |tx| beats::beats(tx, datacenter, since, limit))
    }

    /// These heartbeats of ours with everything that is known of them, and the agent of their datacenter (`place` is its number in the
    /// tables), as both are now. One whose monitor is gone from the tables is left out.
    pub async fn waiting(&self, place: i64, datacenter: DatacenterId, keys: &[(i64, Micros)]) -> Result<Waiting> {
        within!(self, BEGIN_READ, "reading heartbeats", |tx| beats::waiting(tx, place, datacenter, keys))
    }

    /// Adds heartbeats under a lease, and notes up to when everything has been added: all of it, or nothing.
    pub async fn add(&self, rows: &[ApiHeartbeat], fence: &Fence, mark: &str, until: Micros) -> Result<Added> {
        within!(self, BEGIN, "adding heartbeats", |tx| beats::add(tx, rows, fence, mark, until))
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
