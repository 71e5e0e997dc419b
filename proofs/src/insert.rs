//! `./prove insert`: heartbeats through the store's own commit, against a bare COPY of the same rows into a bare table on the same
//! server, alternating; and how many bytes a heartbeat takes on disk in each store.

use crate::Setup;
use crate::postgres::Postgres;
use crate::report::Section;
use anyhow::{Context, Result};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row, SqliteConnection};
use std::path::Path;
use std::time::{Duration, Instant};
use watchkeeper::clock::Clock;
use watchkeeper::store::{self, Batch, BeatRow, Joined, Retention, Store};
use watchkeeper_core::{Dur, Micros, MonitorId, Outcome};

/// The fleet: so many monitors, each checked every ten seconds.
const MONITORS: i64 = 10_000;
const EVERY_US: i64 = 10_000_000;
/// Before anything is measured so many heartbeats are there, so that the index is as deep as that of a day's beginning.
const BEFORE: i64 = 500_000;
/// Bytes are measured with so many heartbeats: more than a hundred for each monitor.
const VOLUME: i64 = 1_500_000;
/// What is measured: rows in a batch, batches in a round.
const BATCHES: [(i64, i64); 4] = [(1, 300), (100, 100), (1_000, 40), (8_192, 12)];
const ROUNDS: u32 = 5;
/// The aim, for batches of these sizes: so much of the bare COPY's rate.
const AIM: f64 = 0.6;
const AIMED: [i64; 2] = [1_000, 8_192];

/// The columns of a heartbeat and their sizes in COPY's binary form.
const COLUMNS: [(&str, usize); 17] = [
    ("monitor_id", 8),
    ("datacenter_id", 8),
    ("at", 8),
    ("agent_id", 8),
    ("outcome", 2),
    ("reason", 2),
    ("lag_us", 8),
    ("dns_us", 8),
    ("connect_us", 8),
    ("tls_us", 8),
    ("first_byte_us", 8),
    ("transfer_us", 8),
    ("total_us", 8),
    ("code", 4),
    ("size", 8),
    ("value", 8),
    ("flags", 4),
];

/// A node that commits what a fleet yields, one second after the other.
struct Node {
    me: Joined,
    /// The number of the next batch.
    number: u64,
    /// The number of the next heartbeat.
    next: i64,
    begun: Micros,
}

impl Node {
    async fn join(store: &dyn Store, name: &str, begun: Micros) -> Result<Self> {
        let me = store.join(name, "local", "boot", begun).await?;
        Ok(Self { number: me.last_batch + 1, me, next: 0, begun })
    }

    /// The next heartbeats: monitors in an order that is not that of their ids, as a schedule has them.
    fn beats(&mut self, count: i64) -> Vec<BeatRow> {
        let from = self.next;
        self.next += count;
        (from..from + count).map(|n| self.beat(n)).collect()
    }

    fn beat(&self, n: i64) -> BeatRow {
        let noise = n.wrapping_mul(2_654_435_761).rem_euclid(1_000);
        BeatRow {
            monitor: MonitorId(1 + n * 7_919 % MONITORS),
            datacenter: self.me.datacenter,
            at: Micros(self.begun.0 + n * (EVERY_US / MONITORS)),
            agent: self.me.agent,
            outcome: Outcome::Up,
            lag_us: 100 + noise,
            dns_us: 900 + noise,
            connect_us: 2_000 + noise,
            tls_us: 3_000 + noise,
            first_byte_us: 40_000 + noise,
            transfer_us: 500,
            total_us: 46_500 + 4 * noise,
            code: 200,
            size: 1_234,
            value: -1,
            flags: 0,
        }
    }

    async fn commit(&mut self, store: &dyn Store, beats: Vec<BeatRow>) -> Result<()> {
        let batch = Batch { agent: self.me.agent, boot: self.me.boot.clone(), number: self.number, beats, ..Batch::default() };
        self.number += 1;
        store.commit(&batch).await?;
        Ok(())
    }
}

/// Runs it.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS);
    let what = format!(
        "Heartbeats of {MONITORS} monitors through the store's own commit (keyed, partitioned table, duplicates ignored, hours marked for their \
         rollup, batch number) against a bare binary COPY of the same rows into a table with the same columns, no key and nothing else, each \
         batch a transaction on disk, on the same PostgreSQL, alternating. `keyed COPY` is the same COPY into a copy of our table with its key: \
         what the key alone costs. Both go by the server's socket, so that no wait of TCP's slows them; our commit goes over TCP. The median \
         round of each counts."
    );
    let head = ["rows in a batch", "bare COPY, rows/s", "keyed COPY", "our commit", "of bare", "of keyed", "SQLite commit"];
    let mut section = Section::new("insert", what, rounds, &head);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let dir = tempfile::tempdir()?;
    let postgres = Postgres::start(dir.path())?;
    let url = postgres.database("beats")?;
    let now = Clock::system().now();
    // Midnight, so that all of it is in one day's partition, as it is on most of a day.
    let begun = Micros(now.0.div_euclid(86_400_000_000) * 86_400_000_000);
    runtime.block_on(rates(&mut section, (&url, &postgres.by_socket("beats")), dir.path(), rounds, begun))?;
    runtime.block_on(bytes(&mut section, &postgres.database("volume")?, dir.path(), begun))?;
    Ok(section)
}

async fn rates(section: &mut Section, (url, socket): (&str, &str), dir: &Path, rounds: u32, begun: Micros) -> Result<()> {
    let store = store::open(url).await?;
    let file = store::open(&format!("sqlite://{}", dir.join("rates.db").display())).await?;
    let mut node = Node::join(&*store, "node", begun).await?;
    let mut on_file = Node::join(&*file, "node", begun).await?;
    let mut bare = PgConnection::connect(socket).await?;
    bare.execute(
        "CREATE TABLE bare AS SELECT * FROM wk_beat LIMIT 0;
         CREATE TABLE keyed (LIKE wk_beat INCLUDING ALL) PARTITION BY RANGE (at); CREATE TABLE keyed_day PARTITION OF keyed DEFAULT",
    )
    .await?;
    while node.next < BEFORE {
        let beats = node.beats(8_192);
        for table in ["bare", "keyed"] {
            copy(&mut bare, table, &beats).await?;
        }
        on_file.commit(&*file, beats.clone()).await?;
        node.commit(&*store, beats).await?;
    }
    for (rows, batches) in BATCHES {
        let mut seconds = [const { Vec::new() }; 4];
        for _ in 0..rounds {
            let all: Vec<Vec<BeatRow>> = (0..batches).map(|_| node.beats(rows)).collect();
            let again = all.clone();
            for (which, table) in ["bare", "keyed"].into_iter().enumerate() {
                let began = Instant::now();
                for beats in &all {
                    copy(&mut bare, table, beats).await?;
                }
                seconds[which].push(began.elapsed());
            }
            let began = Instant::now();
            for beats in all {
                node.commit(&*store, beats).await?;
            }
            seconds[2].push(began.elapsed());
            let began = Instant::now();
            for beats in again {
                on_file.commit(&*file, beats).await?;
            }
            seconds[3].push(began.elapsed());
        }
        let [bare, keyed, ours, sqlite] = seconds.map(|times| (rows * batches) as f64 / median(times).as_secs_f64());
        section.row(vec![
            rows.to_string(),
            format!("{bare:.0}"),
            format!("{keyed:.0}"),
            format!("{ours:.0}"),
            format!("{:.0} %", ours / bare * 100.0),
            format!("{:.0} %", ours / keyed * 100.0),
            format!("{sqlite:.0}"),
        ]);
        if AIMED.contains(&rows) {
            for (share, what) in
                [(ours / keyed, "a bare COPY into a table with the same key"), (ours / bare, "one into a table without a key")]
            {
                section
                    .aim(share >= AIM, &format!("batches of {rows}: {:.0} % of {what}, aim at least {:.0} %", share * 100.0, AIM * 100.0));
            }
        }
    }
    bare.close().await?;
    let there = number(url, "SELECT count(*) FROM wk_beat").await?;
    section.aim(there == node.next, &format!("{there} heartbeats are there, {} were committed", node.next));
    store.close().await;
    file.close().await;
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// One COPY in a transaction of its own.
async fn copy(connection: &mut PgConnection, table: &str, beats: &[BeatRow]) -> Result<()> {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let mut copy = connection.copy_in_raw(&format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", names.join(", "))).await?;
    copy.send(binary(beats)).await?;
    copy.finish().await?;
    Ok(())
}

fn binary(beats: &[BeatRow]) -> Vec<u8> {
    let mut out = Vec::with_capacity(21 + beats.len() * 192);
    out.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for beat in beats {
        let (outcome, reason) = beat.outcome.codes();
        let values = [
            beat.monitor.0,
            beat.datacenter.0,
            beat.at.0,
            beat.agent.0,
            outcome.into(),
            reason.into(),
            beat.lag_us,
            beat.dns_us,
            beat.connect_us,
            beat.tls_us,
            beat.first_byte_us,
            beat.transfer_us,
            beat.total_us,
            beat.code.into(),
            beat.size,
            beat.value,
            beat.flags.into(),
        ];
        out.extend_from_slice(&(COLUMNS.len() as i16).to_be_bytes());
        for (value, (_, size)) in values.into_iter().zip(COLUMNS) {
            out.extend_from_slice(&(size as i32).to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes()[8 - size..]);
        }
    }
    out.extend_from_slice(&(-1_i16).to_be_bytes());
    out
}

/// Fills both stores and looks at their size.
async fn bytes(section: &mut Section, url: &str, dir: &Path, begun: Micros) -> Result<()> {
    let store = store::open(url).await?;
    let written = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8";
    let before = number(url, written).await?;
    fill(&*store, begun).await?;
    let log = (number(url, written).await? - before) as f64 / VOLUME as f64;
    let sizes = "SELECT sum(pg_relation_size(c.oid))::int8, sum(pg_indexes_size(c.oid))::int8 FROM pg_class c
         WHERE c.relkind = 'r' AND c.relname LIKE 'wk\\_beat\\_2%'";
    let mut connection = PgConnection::connect(url).await?;
    let row = connection.fetch_one(sizes).await?;
    let (rows, keys) = (row.get::<i64, _>(0) as f64 / VOLUME as f64, row.get::<i64, _>(1) as f64 / VOLUME as f64);
    connection.close().await?;
    let on_server = keep_house(&*store, begun).await?;
    store.close().await;

    let file = dir.join("volume.db");
    let store = store::open(&format!("sqlite://{}", file.display())).await?;
    let empty = used(&store, &file).await?;
    let store = store::open(&format!("sqlite://{}", file.display())).await?;
    fill(&*store, begun).await?;
    let on_file = keep_house(&*store, begun).await?;
    let clustered = (used(&store, &file).await? - empty) as f64 / VOLUME as f64;
    section.notes.push(format!(
        "Bytes per heartbeat on disk, {VOLUME} of them ({} for each monitor) in commits of 1000: PostgreSQL {:.0} (row {rows:.0}, key {keys:.0}), \
         and {log:.0} once into its write-ahead log; SQLite {clustered:.0}, moved to the table clustered by monitor, whole file with its marks and rollups.",
        VOLUME / MONITORS,
        rows + keys,
    ));
    section.notes.push(format!(
        "Closed hours computed from them, one for each of {MONITORS} monitors, by one node: {on_server:.0} a second on PostgreSQL, \
         {on_file:.0} on SQLite, there with the move of all heartbeats."
    ));
    Ok(())
}

/// When the hour is over everything is moved (SQLite) and its rollups computed; how many of them a second.
async fn keep_house(store: &dyn Store, begun: Micros) -> Result<f64> {
    let kept = Retention { raw: Dur::secs(7 * 86_400), hours: Dur::secs(90 * 86_400), incidents: Dur::secs(400 * 86_400) };
    let began = Instant::now();
    let mut hours = 0;
    loop {
        let done = store.housekeep(kept, begun + Dur::secs(2 * 3_600)).await?;
        hours += done.hours;
        if !done.more {
            return Ok(hours as f64 / began.elapsed().as_secs_f64());
        }
    }
}

async fn fill(store: &dyn Store, begun: Micros) -> Result<()> {
    let mut node = Node::join(store, "node", begun).await?;
    while node.next < VOLUME {
        let beats = node.beats(1_000);
        node.commit(store, beats).await?;
    }
    Ok(())
}

/// Bytes of a SQLite file that are in use, once it is closed.
async fn used(store: &std::sync::Arc<dyn Store>, file: &Path) -> Result<i64> {
    store.close().await;
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await?;
    let mut pragma = async |name: &str| -> Result<i64> {
        let row = connection.fetch_one(AssertSqlSafe(format!("PRAGMA {name}"))).await.context("asking SQLite for its pages")?;
        Ok(row.get(0))
    };
    let bytes = (pragma("page_count").await? - pragma("freelist_count").await?) * pragma("page_size").await?;
    connection.close().await?;
    Ok(bytes)
}

async fn number(url: &str, sql: &'static str) -> Result<i64> {
    let mut connection = PgConnection::connect(url).await?;
    let row = connection.fetch_one(sql).await?;
    connection.close().await?;
    Ok(row.get(0))
}
