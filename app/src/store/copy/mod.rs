//! `store copy`: an installation moves from one store into another, empty one, as a whole or not at all.
//!
//! The source is read at one moment and nothing in it is changed; the target is written in one transaction, which also makes the
//! schema. Tables and columns are found in the databases themselves, so that no future one can be forgotten here; both must have
//! the newest schema. Rows stream through in chunks. At the end the target is read again and every table compared by the number of
//! its rows and a checksum over them. Ids stay what they are, and whatever draws ids goes on after them.
//!
//! What means something only to its own database is not taken along: nobody holds a lease in the target, though epochs stay, so that a
//! decision of before is as stale there as in the source; and no vote says in which transaction it was written.

mod row;

pub(super) use row::{Checksum, Column, Kind, Row, Table, Value};

use super::rows::Sql;
use super::{Result, StoreError, postgres, sqlite};
use async_trait::async_trait;
use row::{check_alike, in_order};
use std::time::Duration;

/// Rows go from one store to the other in chunks of at most so many. Larger ones are memory, smaller ones round trips.
pub(super) const CHUNK_ROWS: usize = 4_096;
/// And of at most so many bytes, give or take one row: evidence is up to 64 KiB a row.
pub(super) const CHUNK_BYTES: usize = 2 * 1024 * 1024;
/// One chunk that has not gone through after so long never will: the server is gone.
pub(super) const CHUNK_LIMIT: Duration = Duration::from_mins(2);

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Where from, without user and password.
    pub from: String,
    /// Where to, likewise.
    pub to: String,
    /// Every table, in the order of the copy.
    pub tables: Vec<CopiedTable>,
}

/// One table that was copied and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedTable {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Over all of its rows in any order, in hexadecimal digits; the same in both stores.
    pub checksum: String,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Both stores are being opened, and the source watched for a node that uses it.
    Opening,
    /// How many rows this table has is being found out.
    Counting(&'a str),
    /// Rows go into the target.
    Copying(Rows<'a>),
    /// The target is being read again.
    Comparing(Rows<'a>),
    /// What draws ids is being set, statistics are being made, and all of it is being committed.
    Finishing,
}

/// How many rows have gone by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows<'a> {
    /// The table in hand.
    pub table: &'a str,
    /// Of all tables so far.
    pub rows: u64,
    /// How many there are to be, about.
    pub all: u64,
}

/// A store that is read at one moment.
#[async_trait]
pub(super) trait Source: Send {
    /// Every table of ours.
    async fn tables(&mut self) -> Sql<Vec<Table>>;
    /// About how many rows it has.
    async fn count(&mut self, table: &Table) -> Sql<u64>;
    /// Hands on its rows.
    async fn scan(&mut self, table: &Table, sink: &mut dyn Sink) -> Sql<()>;
    /// Lets go of it. A target that is not finished is as it was before.
    async fn close(self: Box<Self>);
}

/// An empty store that is being filled, in one transaction.
#[async_trait]
pub(super) trait Target: Source {
    /// Makes the schema, and finds whether anything is stored already: the name of a table with rows.
    async fn prepare(&mut self) -> Sql<Option<String>>;
    /// Adds rows.
    async fn put(&mut self, table: &Table, rows: &[Row]) -> Sql<()>;
    /// Lets whatever draws ids go on after those that were copied, and commits.
    async fn finish(self: Box<Self>) -> Sql<()>;
}

/// Takes rows.
#[async_trait]
pub(super) trait Sink: Send {
    /// Takes the next ones.
    async fn put(&mut self, rows: Vec<Row>) -> Sql<()>;
}

/// Copies everything from one store to another that is empty. Fails and changes nothing if it is not, or if the source is in use.
pub async fn copy(from: &str, to: &str, progress: &mut (dyn FnMut(Progress<'_>) + Send)) -> Result<Copied> {
    if from == to {
        return Err(StoreError::Refused("the store cannot be copied onto itself".into()));
    }
    progress(Progress::Opening);
    let (source_name, mut source) = source(from).await?;
    let (target_name, mut target) = match target(to).await {
        Ok(target) => target,
        Err(error) => {
            source.close().await;
            return Err(error);
        }
    };
    let copied = run(&mut *source, &mut *target, progress).await;
    source.close().await;
    let failed = super::error::failed("copying the store (the target is as it was before)");
    match copied {
        Ok(Ok(tables)) => {
            progress(Progress::Finishing);
            let unsure =
                super::error::failed("finishing the copy (the target has all of it, or is as it was before: another attempt says which)");
            target.finish().await.map_err(unsure)?;
            Ok(Copied { from: source_name, to: target_name, tables })
        }
        Ok(Err(why)) => {
            target.close().await;
            Err(StoreError::Refused(format!("{target_name} {why}")))
        }
        Err(error) => {
            target.close().await;
            Err(failed(error))
        }
    }
}

async fn source(url: &str) -> Result<(String, Box<dyn Source>)> {
    match url.split_once("://") {
        Some(("sqlite", path)) if !path.is_empty() => sqlite::copy::source(path).await,
        Some(("postgres" | "postgresql", _)) => postgres::copy::source(url).await,
        Some(_) | None => Err(unknown("first")),
    }
}

async fn target(url: &str) -> Result<(String, Box<dyn Target>)> {
    match url.split_once("://") {
        Some(("sqlite", path)) if !path.is_empty() => sqlite::copy::target(path).await,
        Some(("postgres" | "postgresql", _)) => postgres::copy::target(url).await,
        Some(_) | None => Err(unknown("second")),
    }
}

fn unknown(which: &str) -> StoreError {
    StoreError::Refused(format!(
        "the {which} store is of no kind that is known: accepted are sqlite://PATH and postgres://USER:PASSWORD@HOST/DATABASE"
    ))
}

/// Fills the target and compares. The inner error says why the target cannot be used.
async fn run(
    source: &mut dyn Source,
    target: &mut dyn Target,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Sql<std::result::Result<Vec<CopiedTable>, String>> {
    if let Some(table) = target.prepare().await? {
        return Ok(Err(format!("is not empty ({table} has rows): only an empty store can be copied into")));
    }
    let mut tables = in_order(target.tables().await?);
    for table in &mut tables {
        // Stores differ in the order of columns; checksums must not.
        table.columns.sort_by(|one, two| one.name.cmp(&two.name));
    }
    let there = source.tables().await?;
    check_alike(&there, &tables)?;
    let mut pairs = Vec::with_capacity(tables.len());
    let mut all = 0;
    for table in tables {
        let from = there.iter().find(|other| other.name == table.name).map(|from| from.arranged_as(&table));
        let Some(from) = from else { continue };
        progress(Progress::Counting(&table.name));
        all += source.count(&from).await?;
        pairs.push((from, table));
    }
    let mut written = Vec::with_capacity(pairs.len());
    let mut rows = 0;
    for (from, into) in &pairs {
        let mut filling =
            Filling { target: &mut *target, table: into, sum: Checksum::default(), rows: &mut rows, all, progress: &mut *progress };
        source.scan(from, &mut filling).await?;
        written.push(filling.sum);
    }
    let mut copied = Vec::with_capacity(pairs.len());
    rows = 0;
    for ((_, table), written) in pairs.iter().zip(written) {
        let mut comparing = Comparing { table, sum: Checksum::default(), rows: &mut rows, all, progress: &mut *progress };
        target.scan(table, &mut comparing).await?;
        let read = comparing.sum;
        if read != written {
            return Ok(Err(format!("{} came out as {read} where {written} was written", table.name)));
        }
        copied.push(CopiedTable { name: table.name.clone(), rows: read.rows, checksum: read.digits() });
    }
    Ok(Ok(copied))
}

/// Fills one table of the target.
struct Filling<'a> {
    target: &'a mut dyn Target,
    table: &'a Table,
    sum: Checksum,
    rows: &'a mut u64,
    all: u64,
    progress: &'a mut (dyn FnMut(Progress<'_>) + Send),
}

#[async_trait]
impl Sink for Filling<'_> {
    async fn put(&mut self, mut rows: Vec<Row>) -> Sql<()> {
        for row in &mut rows {
            self.table.amend(row);
            self.sum.add(self.table, row);
        }
        *self.rows += rows.len() as u64;
        (self.progress)(Progress::Copying(Rows { table: &self.table.name, rows: *self.rows, all: self.all }));
        let put = tokio::time::timeout(CHUNK_LIMIT, self.target.put(self.table, &rows));
        put.await.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
    }
}

/// Reads one table of the target again.
struct Comparing<'a> {
    table: &'a Table,
    sum: Checksum,
    rows: &'a mut u64,
    all: u64,
    progress: &'a mut (dyn FnMut(Progress<'_>) + Send),
}

#[async_trait]
impl Sink for Comparing<'_> {
    async fn put(&mut self, rows: Vec<Row>) -> Sql<()> {
        for row in &rows {
            self.sum.add(self.table, row);
        }
        *self.rows += rows.len() as u64;
        (self.progress)(Progress::Comparing(Rows { table: &self.table.name, rows: *self.rows, all: self.all }));
        Ok(())
    }
}

/// Gathers rows into chunks.
#[derive(Default)]
pub(super) struct Chunk {
    rows: Vec<Row>,
    bytes: usize,
}

impl Chunk {
    /// Adds a row; a chunk that is full by now.
    pub(super) fn add(&mut self, row: Row) -> Option<Vec<Row>> {
        self.bytes += row.iter().map(Value::size).sum::<usize>();
        self.rows.push(row);
        (self.rows.len() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES).then(|| self.take())
    }

    /// What is left.
    pub(super) fn take(&mut self) -> Vec<Row> {
        self.bytes = 0;
        std::mem::take(&mut self.rows)
    }
}
