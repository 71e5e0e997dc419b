//! `store copy`: an installation moves, and work goes on in its new store where it stopped in the old one.

use crate::store_contract::past;
use crate::store_contract::world::*;
use crate::support::app::until;
use crate::support::process::{Program, configured_on};
use crate::support::provider::Call;
use crate::support::store::TestStore;
use crate::support::{dump, postgres, switch, webhook};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use watchkeeper::store::copy::{Copied, Progress, Rows, copy};
use watchkeeper::store::{self, *};
use watchkeeper_core::{Micros, MonitorId, Outcome};

async fn copied(from: &TestStore, to: &str) -> Copied {
    copy(&from.url, to, &mut |_| {}).await.unwrap()
}

fn rows(copied: &Copied, table: &str) -> u64 {
    copied.tables.iter().find(|copied| copied.name == table).map_or(0, |table| table.rows)
}

/// What a refusal says.
async fn refused(from: &str, to: &str) -> String {
    match copy(from, to, &mut |_| {}).await {
        Err(StoreError::Refused(why)) => why,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it was not refused"),
    }
}

async fn tables(url: &str) -> i64 {
    let mut db = PgConnection::connect(url).await.unwrap();
    let row = db.fetch_one("SELECT count(*) FROM pg_class WHERE relname LIKE 'wk\\_%'").await.unwrap();
    db.close().await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn an_installation_moves_there_and_back_with_all_it_remembers() {
    let Some(database) = postgres::empty_database().await else { return };
    let t = TestStore::sqlite().await;
    let mut w = World::new(t.shared()).await;
    past::write(&mut w).await;
    past::write_alerting(&w).await;
    past::write_subscribers(&w).await;
    // Some heartbeats wait in the second table, one of them twice, as after a move that a crash cut off.
    let twice = w.beat(w.api, sec(7_380), Outcome::Up);
    w.commit_beats(vec![twice]).await;
    let odd =
        PushRow {
            id: 0, monitor: MonitorId(9), kind: PushKind::Log, exit: None, ping_us: None, body: "a\0b\t\\N\n„ü“".into(), at: sec(1)
        };
    w.store().insert_push(&odd).await.unwrap();
    let old = w.store().leases().await.unwrap();
    assert!(refused(&t.url, &database.url).await.contains("in use by another process"));
    w.store().close().await;

    let there = copied(&t, &database.url).await;
    assert_eq!((rows(&there, "wk_beat"), rows(&there, "wk_incident"), rows(&there, "wk_push")), (37, 4, 2));
    let on_postgres = TestStore::on(&database).await;
    let store = &on_postgres.store;
    past::check(&**store).await;
    past::check_alerting(&**store).await;
    past::check_subscribers(&**store).await;
    let new = store.leases().await.unwrap();
    assert!(new.iter().all(|row| row.holder.is_empty()), "nobody holds them");
    assert_eq!(
        new.iter().map(|row| (&row.scope, row.epoch)).collect::<Vec<_>>(),
        old.iter().map(|row| (&row.scope, row.epoch)).collect::<Vec<_>>()
    );

    // Back into a file: the same rows, by the same checksums.
    store.close().await;
    let folder = tempfile::tempdir().unwrap();
    let back = format!("sqlite://{}", folder.path().join("back.db").display());
    let home = copy(&database.url, &back, &mut |_| {}).await.unwrap();
    assert_eq!(home.tables, there.tables);
    let again = store::open(&back).await.unwrap();
    past::check(&*again).await;
    past::check_alerting(&*again).await;
    again.close().await;

    let mut on_postgres = TestStore::on(&database).await;
    past::goes_on(&on_postgres).await;
    let partitions = "SELECT count(*) FROM pg_class WHERE relname LIKE 'wk\\_beat\\_2%'";
    assert!(on_postgres.number(partitions).await > 0, "heartbeats are in the partitions of their days");
    assert_eq!(on_postgres.number("SELECT count(*) FROM wk_beat_default").await, 0);
    on_postgres.store.close().await;
    database.drop_it().await;
}

/// Statements after which no table of the file is empty, and no column without a value that an omission could not also have.
async fn fill_every_column(url: &str) -> String {
    let mut db = SqliteConnection::connect(url).await.unwrap();
    let mut read = async |sql: String| db.fetch_all(AssertSqlSafe(sql)).await.unwrap();
    let (mut rows, mut values) = (String::new(), String::new());
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'wk\\_%' ESCAPE '\\'
                  AND name NOT IN ('wk_migration', 'wk_beat_new')";
    for table in read(tables.to_owned()).await {
        let table: String = table.get(0);
        let sql = format!(
            "SELECT c.name, c.type, f.\"table\", f.\"to\" FROM pragma_table_info('{table}') c
             LEFT JOIN pragma_foreign_key_list('{table}') f ON f.\"from\" = c.name ORDER BY c.cid"
        );
        let column = |row: &SqliteRow| {
            let value = match (row.get(1), row.get::<Option<&str>, _>(2)) {
                (_, Some(other)) => format!("(SELECT min({}) FROM {other})", row.get::<&str, _>(3)),
                ("INTEGER", None) => "1".to_owned(),
                ("TEXT", None) => "'x'".to_owned(),
                ("BLOB", None) => "x'01'".to_owned(),
                (kind, None) => panic!("{table} has a column of type {kind}"),
            };
            (row.get::<String, _>(0), value)
        };
        let columns: Vec<(String, String)> = read(sql).await.iter().map(column).collect();
        let (names, all): (Vec<&str>, Vec<&str>) = columns.iter().map(|(name, value)| (name.as_str(), value.as_str())).unzip();
        let (names, all, first) = (names.join(", "), all.join(", "), names[0]);
        let _ = writeln!(rows, "INSERT INTO {table} ({names}) SELECT {all} WHERE NOT EXISTS (SELECT 1 FROM {table});");
        for (column, value) in &columns {
            let _ = writeln!(
                values,
                "UPDATE {table} SET {column} = {value} WHERE {first} = (SELECT min({first}) FROM {table})
                 AND NOT EXISTS (SELECT 1 FROM {table} WHERE {column} IS NOT NULL AND {column} NOT IN (0, '', x''));"
            );
        }
    }
    db.close().await.unwrap();
    rows + &values
}

#[tokio::test]
async fn no_table_and_no_column_is_forgotten() {
    let Some(database) = postgres::empty_database().await else { return };
    let t = TestStore::sqlite().await;
    let mut w = World::new(t.shared()).await;
    past::write(&mut w).await;
    past::write_alerting(&w).await;
    w.store().close().await;
    // Whatever a later schema adds is filled without anybody thinking of this test.
    t.execute(&fill_every_column(&t.url).await).await;
    // Through a pooler, if there is one.
    let url = database.pooled().await.unwrap_or_else(|| database.url.clone());
    copied(&t, &url).await;
    let folder = tempfile::tempdir().unwrap();
    let back = format!("sqlite://{}", folder.path().join("back.db").display());
    copy(&url, &back, &mut |_| {}).await.unwrap();

    // What is not copied as it is, on purpose.
    t.execute(
        "UPDATE wk_lease SET holder = ''; UPDATE wk_sight SET changed = 0;
         INSERT INTO wk_beat SELECT monitor_id, datacenter_id, at, agent_id, outcome, reason, lag_us, dns_us, connect_us, tls_us,
             first_byte_us, transfer_us, total_us, code, size, value, flags FROM wk_beat_new;
         DELETE FROM wk_beat_new",
    )
    .await;
    let sorted = |dump: String| dump.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (here, there) = (sorted(dump::rows(&t.url).await), sorted(dump::rows(&back).await));
    let differs: Vec<&String> = here.symmetric_difference(&there).collect();
    assert!(here.len() > 80 && differs.is_empty(), "{differs:#?}");
    database.drop_it().await;
}

#[tokio::test]
async fn a_store_that_is_used_or_foreign_or_not_empty_is_refused_and_stays_as_it_is() {
    let Some(database) = postgres::empty_database().await else { return };
    let t = TestStore::sqlite().await;
    let mut w = World::new(t.shared()).await;
    past::write(&mut w).await;
    w.store().close().await;
    let nowhere = t.url.replace("watchkeeper.db", "nowhere.db");
    assert!(refused(&nowhere, &database.url).await.contains("there is no database"));
    assert!(!t.file.as_ref().unwrap().with_file_name("nowhere.db").exists());
    assert!(refused(&t.url, &t.url).await.contains("onto itself"));
    assert!(refused("mysql://x", &t.url).await.contains("accepted are"));
    assert_eq!(tables(&database.url).await, 0, "not even the schema was left");

    // A node works on PostgreSQL: it can be neither source nor target.
    let live = TestStore::on(&database).await;
    let node = World::new(live.shared()).await;
    assert!(refused(&t.url, &database.url).await.contains("is not empty (wk_"));
    let beating = tokio::spawn({
        let (store, holder, fence) = (live.store.clone(), node.holder.clone(), node.verdict.clone());
        async move {
            loop {
                store.beat_leases(&holder, std::slice::from_ref(&fence)).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.db");
    let to = format!("sqlite://{}", file.display());
    assert!(refused(&database.url, &to).await.contains("in use by node-a#boot-1"));
    beating.abort();
    assert!(!file.exists());
    live.store.close().await;

    // An older schema is left to the program's start.
    let mut db = PgConnection::connect(&database.url).await.unwrap();
    db.execute("UPDATE wk_lease SET holder = ''; DELETE FROM wk_migration WHERE version > 1").await.unwrap();
    assert!(refused(&database.url, &to).await.contains("behind this program"));
    db.close().await.unwrap();
    assert!(!file.exists());
    database.drop_it().await;
}

#[tokio::test]
async fn a_copy_that_fails_in_the_middle_leaves_nothing() {
    let Some(database) = postgres::empty_database().await else { return };
    let t = TestStore::sqlite().await;
    let mut w = World::new(t.shared()).await;
    past::write(&mut w).await;
    w.store().close().await;
    // PostgreSQL has no place for such a number: it is found when most tables are there already.
    t.execute("INSERT INTO wk_push (monitor_id, kind, body, at) VALUES (1, 99999, '', 1)").await;
    let mut seen = Vec::new();
    let mut see = |progress: Progress<'_>| {
        if let Progress::Copying(Rows { table, rows, all }) = progress {
            seen.push((table.to_owned(), rows, all));
        }
    };
    let failed = copy(&t.url, &database.url, &mut see).await;
    let error = failed.unwrap_err();
    assert!(watchkeeper::chain(&error).contains("out of range"), "{}", watchkeeper::chain(&error));
    assert!(seen.iter().any(|(table, rows, all)| table == "wk_beat" && *rows > 30 && all >= rows), "{seen:?}");
    assert_eq!(tables(&database.url).await, 0);

    // The same with the connection ended from outside.
    t.execute("DELETE FROM wk_push WHERE kind = 99999").await;
    let mut killer = PgConnection::connect(&database.url).await.unwrap();
    let (told, hears) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let copying = std::thread::spawn({
        let (from, to) = (t.url.clone(), database.url.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(copy(&from, &to, &mut move |progress| {
                if matches!(progress, Progress::Copying(Rows { table: "wk_beat", .. })) {
                    told.send(()).unwrap();
                    // It may go on when its connection is gone.
                    let _ = goes.recv();
                }
            }))
        }
    });
    tokio::task::spawn_blocking(move || hears.recv().unwrap()).await.unwrap();
    let kill =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'watchkeeper' AND datname = current_database()";
    assert_eq!(killer.fetch_all(kill).await.unwrap().len(), 1);
    drop(go);
    let error = tokio::task::spawn_blocking(move || copying.join().unwrap()).await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    killer.close().await.unwrap();
    assert_eq!(tables(&database.url).await, 0);
    copied(&t, &database.url).await;
    database.drop_it().await;
}

async fn a_hundred_thousand_heartbeats() -> TestStore {
    let t = TestStore::sqlite().await;
    let mut w = World::new(t.shared()).await;
    for batch in 0..20 {
        let beats = (0..5_000).map(|n| w.beat(MonitorId(n % 500), Micros(T0.0 + (batch * 5_000 + n) * 1_000_000), Outcome::Up)).collect();
        w.commit_beats(beats).await;
    }
    w.housekeep(sec(3_600)).await;
    w.store().close().await;
    t
}

#[tokio::test]
async fn a_copy_into_a_file_that_was_killed_is_begun_anew() {
    let t = a_hundred_thousand_heartbeats().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.db");
    let to = format!("sqlite://{}", file.display());
    let program = env!("CARGO_BIN_EXE_watchkeeper");
    let mut copying = Command::new(program).args(["store", "copy", &t.url, &to]).stdout(Stdio::null()).spawn().unwrap();
    let log = format!("{}-wal", file.display());
    until("rows of an unfinished transaction on disk", async || {
        assert!(copying.try_wait().unwrap().is_none(), "it ended before anything of it was seen");
        std::fs::metadata(&log).is_ok_and(|log| log.len() > 1_000_000).then_some(())
    })
    .await;
    copying.kill().unwrap();
    copying.wait().unwrap();
    assert!(std::fs::metadata(&log).unwrap().len() > 1_000_000);
    let copied = copied(&t, &to).await;
    assert_eq!(rows(&copied, "wk_beat"), 100_000);
    // That one is whole, so it is not written into once more.
    assert!(refused(&t.url, &to).await.contains("is not empty"));
}

#[tokio::test]
async fn a_hundred_thousand_heartbeats_stream_through() {
    let Some(database) = postgres::empty_database().await else { return };
    let t = a_hundred_thousand_heartbeats().await;
    let mut most = 0;
    let mut before = 0;
    let mut look = |progress: Progress<'_>| {
        let (Progress::Copying(Rows { rows, .. }) | Progress::Comparing(Rows { rows, .. })) = progress else { return };
        most = most.max(rows.saturating_sub(before));
        before = rows;
    };
    let copied = copy(&t.url, &database.url, &mut look).await.unwrap();
    assert_eq!(rows(&copied, "wk_beat"), 100_000);
    assert!(most <= 4_096, "{most} rows were in memory at once");
    database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_tells_nothing_twice_after_a_move() {
    let Some(database) = postgres::empty_database().await else { return };
    let hook = webhook::start(false).await;
    let (server, well) = switch::http(false).await;
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "channels: [ {{ name: hook, webhook: {{ url: '{}/hook' }} }} ]
defaults: {{ every: 1s, recheck: 1s, timeout: 900ms, down_after: 1 }}
monitors: [ {{ name: shop, probe: {{ http: {{ url: '{}' }} }} }} ]
",
        hook.url,
        server.url("/")
    );
    let on_sqlite = format!("sqlite://{}", folder.path().join("wk.db").display());
    let program = Program::serve(&configured_on(folder.path(), &on_sqlite, &yaml));
    hook.wait_for(1).await;
    assert!(program.stop().await.success());

    let output =
        Command::new(env!("CARGO_BIN_EXE_watchkeeper")).args(["store", "copy", &on_sqlite, &database.url, "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let table = |name: &str| said["tables"].as_array().unwrap().iter().find(|table| table["name"] == name).unwrap()["rows"].clone();
    assert_eq!((table("wk_incident"), table("wk_notice")), (1.into(), 1.into()));

    let before = server.accepted();
    let program = Program::serve(&configured_on(folder.path(), &database.url, &yaml));
    until("three attempts from the new store", async || (server.accepted() >= before + 3).then_some(())).await;
    assert_eq!(hook.calls().len(), 1, "it is down still, and everybody knows");
    well.store(true, Ordering::SeqCst);
    hook.wait_for(2).await;
    assert!(program.stop().await.success());
    let words: Vec<_> =
        hook.finish().iter().map(Call::json).map(|body| (body["event"].to_string(), body["incident"]["id"].clone())).collect();
    assert_eq!(words.iter().map(|(event, _)| event.as_str()).collect::<Vec<_>>(), ["\"opened\"", "\"resolved\""]);
    assert!(words[0].1.is_string() && words[0].1 == words[1].1, "the same incident: {words:?}");
    database.drop_it().await;
}
