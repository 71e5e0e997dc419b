//! What is configured in the tables, and how they are made.

use super::{Columns, Made, NAMES, SAMPLE, SCHEMA, Sql, query, refused};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection};

/// A table with more rows is refused. One node watches some ten thousand; a table of another kind under the same name must not fill
/// the memory.
const ROWS_MAX: usize = 50_000;
/// The same of `datacenter_monitors`, which has a row for each monitor and datacenter.
const ASSIGNMENTS_MAX: usize = 1_000_000;

/// A row of `schedules`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScheduleRow {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// In seconds.
    pub interval: i64,
    /// Whether bodies are kept with heartbeats.
    pub include_response_body: bool,
    /// In milliseconds.
    pub warning: Option<i64>,
    /// In milliseconds.
    pub critical: Option<i64>,
}

/// A row of `api_monitors`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MonitorRow {
    /// Its number.
    pub id: i64,
    /// Its name; not unique.
    pub name: String,
    /// `GET`, …
    pub method: String,
    /// `HTTPS`, `HTTP`, `TCP` or `PING`.
    pub kind: String,
    /// What is watched.
    pub url: String,
    /// Its schedule.
    pub schedule: Option<i64>,
    /// A JSON object.
    pub headers: Option<String>,
    /// JSON.
    pub body: Option<String>,
}

/// A row of `datacenters`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DatacenterRow {
    /// Its number.
    pub id: i64,
    /// Its short name; not unique.
    pub code: String,
    /// Its name.
    pub name: String,
    /// The name of its region.
    pub region: Option<String>,
}

/// A row of `agents`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentRow {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub datacenter: Option<i64>,
}

/// A row of `datacenter_monitors`: from where what is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Assignment {
    /// From there.
    pub datacenter: i64,
    /// What.
    pub monitor: i64,
}

/// Everything that is configured, each table in the order of its numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tables {
    /// When attempts are due.
    pub schedules: Vec<ScheduleRow>,
    /// What is watched.
    pub monitors: Vec<MonitorRow>,
    /// From where.
    pub datacenters: Vec<DatacenterRow>,
    /// By whom.
    pub agents: Vec<AgentRow>,
    /// What from where.
    pub assignments: Vec<Assignment>,
}

pub(super) async fn missing(tx: &mut PgConnection) -> Sql<Vec<String>> {
    let rows = query("SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS x (name, nth) WHERE to_regclass(name) IS NULL ORDER BY nth")
        .bind(NAMES.map(str::to_owned).to_vec())
        .fetch_all(&mut *tx)
        .await?;
    rows.iter().map(|row| row.text(0)).collect()
}

pub(super) async fn make(tx: &mut PgConnection, sample: bool) -> Sql<Made> {
    let mut made = Made { tables: missing(tx).await?, ..Made::default() };
    // Where nothing is missing, no right to make tables is needed.
    if !made.tables.is_empty() {
        sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
    }
    if !sample {
        return Ok(made);
    }
    for table in NAMES {
        let row = query(AssertSqlSafe(format!("SELECT 1 FROM {table} LIMIT 1"))).fetch_optional(&mut *tx).await?;
        if row.is_some() {
            made.filled = Some(table);
            return Ok(made);
        }
    }
    sqlx::raw_sql(SAMPLE).execute(&mut *tx).await?;
    made.sample = true;
    Ok(made)
}

/// All rows of a table, unless there are too many.
async fn rows(tx: &mut PgConnection, table: &str, most: usize, sql: &'static str) -> Sql<Vec<PgRow>> {
    let rows = query(sql).bind(most as i64 + 1).fetch_all(&mut *tx).await?;
    if rows.len() > most { Err(refused(format!("{table} has more than {most} rows"))) } else { Ok(rows) }
}

pub(super) async fn read(tx: &mut PgConnection) -> Sql<Tables> {
    let schedules = rows(
        tx,
        "schedules",
        ROWS_MAX,
        "SELECT id::int8, name, interval::int8, coalesce(include_response_body, FALSE)::int::int8, thresholds_warning::int8,
             thresholds_critical::int8 FROM schedules ORDER BY id LIMIT $1",
    )
    .await?;
    let monitors = rows(
        tx,
        "api_monitors",
        ROWS_MAX,
        "SELECT id::int8, name, method, type, url, schedule_id::int8, headers::text, body::text FROM api_monitors ORDER BY id LIMIT $1",
    )
    .await?;
    let datacenters = rows(
        tx,
        "datacenters",
        ROWS_MAX,
        "SELECT d.id::int8, d.code, d.name, r.name FROM datacenters d LEFT JOIN regions r ON r.id = d.region_id ORDER BY d.id LIMIT $1",
    )
    .await?;
    let agents = rows(tx, "agents", ROWS_MAX, "SELECT id::int8, name, datacenter_id::int8 FROM agents ORDER BY id LIMIT $1").await?;
    let assignments = rows(
        tx,
        "datacenter_monitors",
        ASSIGNMENTS_MAX,
        "SELECT datacenter_id::int8, monitor_id::int8 FROM datacenter_monitors ORDER BY monitor_id, datacenter_id LIMIT $1",
    )
    .await?;
    Ok(Tables {
        schedules: schedules.iter().map(schedule).collect::<Sql<_>>()?,
        monitors: monitors.iter().map(monitor).collect::<Sql<_>>()?,
        datacenters: datacenters.iter().map(datacenter).collect::<Sql<_>>()?,
        agents: agents.iter().map(agent).collect::<Sql<_>>()?,
        assignments: assignments.iter().map(assignment).collect::<Sql<_>>()?,
    })
}

pub(super) async fn ping(tx: &mut PgConnection) -> Sql<()> {
    query("SELECT 1").fetch_one(&mut *tx).await?;
    Ok(())
}

fn schedule(row: &impl Columns) -> Sql<ScheduleRow> {
    Ok(ScheduleRow {
        id: row.int(0)?,
        name: row.text(1)?,
        interval: row.int(2)?,
        include_response_body: row.int(3)? != 0,
        warning: row.maybe_int(4)?,
        critical: row.maybe_int(5)?,
    })
}

fn monitor(row: &impl Columns) -> Sql<MonitorRow> {
    Ok(MonitorRow {
        id: row.int(0)?,
        name: row.text(1)?,
        method: row.text(2)?,
        kind: row.text(3)?,
        url: row.text(4)?,
        schedule: row.maybe_int(5)?,
        headers: row.maybe_text(6)?,
        body: row.maybe_text(7)?,
    })
}

fn datacenter(row: &impl Columns) -> Sql<DatacenterRow> {
    Ok(DatacenterRow { id: row.int(0)?, code: row.text(1)?, name: row.text(2)?, region: row.maybe_text(3)? })
}

fn agent(row: &impl Columns) -> Sql<AgentRow> {
    Ok(AgentRow { id: row.int(0)?, name: row.text(1)?, datacenter: row.maybe_int(2)? })
}

fn assignment(row: &impl Columns) -> Sql<Assignment> {
    Ok(Assignment { datacenter: row.int(0)?, monitor: row.int(1)? })
}
