//! The schema: every former one is brought up to date with its rows, by many nodes at once, and also when the last attempt was cut
//! off in the middle.

use super::past;
use super::world::*;
use crate::support::store::{TestStore, each_store, sqlite_alone};
use crate::support::{dump, postgres};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqliteConnection};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use watchkeeper::store::{self, *};

/// A migration of a few rows takes less than a second.
const LIMIT: Duration = Duration::from_mins(1);

/// One migration as it stands in the repository.
struct Step {
    version: i64,
    name: String,
    sql: String,
}

fn of_the_source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Those of one kind of store, in order.
fn steps(kind: &str) -> Vec<Step> {
    let folder = of_the_source("src/store/migrations").join(kind);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let step = |file: PathBuf| {
        let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let (version, name) = stem.split_once('_').expect("it is called NNNN_name.sql");
        Step { version: version.parse().unwrap(), name: name.to_owned(), sql: std::fs::read_to_string(&file).unwrap() }
    };
    files.into_iter().map(step).collect()
}

fn fixture(kind: &str, version: i64) -> PathBuf {
    of_the_source("tests/it/schemas").join(kind).join(format!("{version:04}.sql"))
}

const fn kind_of(t: &TestStore) -> &'static str {
    if t.file.is_some() { "sqlite" } else { "postgres" }
}

/// Makes the store, which is closed, an empty database again.
async fn emptied(t: &TestStore) {
    if let Some(file) = &t.file {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", file.display()));
        }
        std::fs::write(file, "").unwrap();
    } else {
        t.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    }
}

/// Makes the store, which is closed, an installation with an older schema.
async fn aged(t: &TestStore, version: i64) {
    emptied(t).await;
    let schema: Vec<String> = steps(kind_of(t)).into_iter().filter(|step| step.version <= version).map(|step| step.sql).collect();
    let rows = std::fs::read_to_string(fixture(kind_of(t), version)).unwrap();
    let table = "CREATE TABLE wk_migration (version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)";
    // What the migrations wrote themselves is among the rows.
    t.execute(&format!("{table}; {}; DELETE FROM wk_id_block; {rows}", schema.join(";"))).await;
}

#[test]
fn both_stores_have_the_same_steps_and_each_former_schema_has_a_fixture() {
    let named = |kind| steps(kind).into_iter().map(|step| (step.version, step.name)).collect::<Vec<_>>();
    assert_eq!(named("sqlite"), named("postgres"));
    for kind in ["sqlite", "postgres"] {
        let steps = steps(kind);
        for (place, step) in steps.iter().enumerate() {
            assert_eq!(step.version, place as i64 + 1, "migrations are numbered without a gap");
        }
        for step in &steps[..steps.len() - 1] {
            assert!(
                fixture(kind, step.version).exists(),
                "schema {} of {kind} has no fixture: on the commit before the next migration, run \
                 `cargo test --test it store_contract::upgrade::write_the_fixture -- --ignored` and keep what it wrote",
                step.version
            );
        }
    }
}

#[tokio::test]
#[ignore = "writes the fixture of the newest schema into the source"]
async fn write_the_fixture() {
    each_store(|t| async move {
        let (url, kind) = (t.direct.clone(), kind_of(&t));
        let version = steps(kind).last().unwrap().version;
        let mut w = World::new(t).await;
        past::write(&mut w).await;
        past::write_alerting(&w).await;
        past::write_accounts(&w).await;
        past::write_subscribers(&w).await;
        w.store().close().await;
        let head = format!("-- Rows of an installation with schema {version}, written by the program of that time.\n");
        std::fs::write(fixture(kind, version), head + &dump::rows(&url).await).unwrap();
    })
    .await;
}

#[tokio::test]
async fn every_former_schema_is_brought_up_to_date_with_its_rows() {
    each_store(|mut t| async move {
        t.store.close().await;
        let kind = kind_of(&t);
        let steps = steps(kind);
        for step in steps.iter().filter(|step| fixture(kind, step.version).exists()) {
            println!("{kind} from schema {}", step.version);
            aged(&t, step.version).await;
            t.store = store::open(&t.url).await.unwrap();
            past::check(&*t.store).await;
            if step.version >= 2 {
                past::check_alerting(&*t.store).await;
            }
            if step.version >= 6 {
                past::check_accounts(&*t.store).await;
            }
            if step.version >= 8 {
                past::check_subscribers(&*t.store).await;
            }
            let rows = t.number("SELECT count(*) FROM wk_migration").await;
            assert_eq!(rows, steps.len() as i64);
            // What later schemas know of the notice in hand and of the votes.
            let together = t.number("SELECT count(*) FROM wk_notice WHERE state = 'sending' AND begun_with = id").await;
            let changed = t.number("SELECT count(*) FROM wk_sight WHERE changed > 0").await;
            assert_eq!((together, changed), (i64::from(step.version >= 3), i64::from(step.version >= 4)));
            past::goes_on(&t).await;
            t.store.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn many_nodes_that_open_one_database_at_once_migrate_it_once() {
    let Some(database) = postgres::empty_database().await else { return };
    let t = TestStore::on(&database).await;
    let steps = steps("postgres").len() as i64;
    for version in [0, 1] {
        t.store.close().await;
        if version == 0 {
            emptied(&t).await;
        } else {
            aged(&t, version).await;
        }
        let opened = futures_util::future::join_all((0..8).map(|_| store::open(&t.url))).await;
        for store in opened {
            let store = store.unwrap();
            assert_eq!(store.verify().await.unwrap(), [""; 0]);
            store.close().await;
        }
        let mut db = PgConnection::connect(&t.url).await.unwrap();
        let rows: i64 = db.fetch_one("SELECT count(*) FROM wk_migration").await.unwrap().get(0);
        assert_eq!(rows, steps, "each step once, from schema {version}");
    }
    database.drop_it().await;
}

/// Where a process of its own finds the database.
const URL: &str = "WATCHKEEPER_TEST_URL";

#[tokio::test]
async fn many_processes_that_open_one_old_database_at_once_all_find_it_up_to_date() {
    each_store(|t| async move {
        t.store.close().await;
        aged(&t, 1).await;
        let start = |_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "store_contract::upgrade::as_a_process_that_opens", "--ignored", "--nocapture"])
                .env(URL, &t.url)
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        };
        let processes: Vec<_> = (0..4).map(start).collect();
        let ended: Vec<_> = processes.into_iter().map(|process| process.wait_with_output().unwrap()).collect();
        let good = ended.iter().filter(|output| output.status.success()).count();
        for output in ended.iter().filter(|output| !output.status.success()) {
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(t.file.is_some() && said.contains("one process per file"), "{said}");
        }
        assert!(good >= 1 && (t.file.is_some() || good == 4), "{good} of 4 opened it");
        let store = store::open(&t.url).await.unwrap();
        past::check(&*store).await;
        store.close().await;
    })
    .await;
}

#[tokio::test]
#[ignore = "run by many_processes_that_open_one_old_database_at_once_all_find_it_up_to_date, as other processes"]
async fn as_a_process_that_opens() {
    let url = std::env::var(URL).expect("the first process says which");
    match store::open(&url).await {
        Ok(store) => {
            past::check(&*store).await;
            store.close().await;
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_migration_whose_connection_is_ended_in_the_middle_is_finished_at_the_next_start() {
    let Some(database) = postgres::empty_database().await else { return };
    let t = TestStore::on(&database).await;
    t.store.close().await;
    aged(&t, 1).await;
    // Somebody reads a table that the second step changes after others: the step stands still in its middle.
    let mut reader = PgConnection::connect(&t.url).await.unwrap();
    let mut reading = reader.begin().await.unwrap();
    reading.execute("LOCK TABLE wk_notice IN ACCESS SHARE MODE").await.unwrap();
    let mut killer = PgConnection::connect(&t.url).await.unwrap();
    let opening = tokio::spawn({
        let url = t.url.clone();
        async move { store::open(&url).await.map(|_| ()) }
    });
    let ended = async {
        let kill = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE NOT l.granted AND l.relation = 'wk_notice'::regclass";
        while killer.fetch_all(kill).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("the migration waits for the reader");
    let error = opening.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "another start can help: {error:?}");
    let half: bool = killer.fetch_one("SELECT to_regclass('wk_mark') IS NOT NULL").await.unwrap().get(0);
    assert!(!half, "nothing of the step is left");
    reading.rollback().await.unwrap();
    let store = store::open(&t.url).await.unwrap();
    past::check(&*store).await;
    store.close().await;
    database.drop_it().await;
}

#[tokio::test]
async fn a_reader_only_delays_a_migration() {
    let Some(database) = postgres::empty_database().await else { return };
    let t = TestStore::on(&database).await;
    t.store.close().await;
    aged(&t, 1).await;
    let mut reader = PgConnection::connect(&t.url).await.unwrap();
    let mut reading = reader.begin().await.unwrap();
    reading.execute("LOCK TABLE wk_notice IN ACCESS SHARE MODE").await.unwrap();
    let mut watcher = PgConnection::connect(&t.url).await.unwrap();
    let opening = tokio::spawn({
        let url = t.url.clone();
        async move { store::open(&url).await }
    });
    // Its first attempt has waited and given way, and the next one waits: others had their turn in between.
    let waiting = "SELECT virtualtransaction FROM pg_locks WHERE NOT granted AND relation = 'wk_notice'::regclass";
    let mut seen = std::collections::BTreeSet::new();
    let again = async {
        while seen.len() < 2 {
            seen.extend(watcher.fetch_all(waiting).await.unwrap().iter().map(|row| row.get::<String, _>(0)));
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, again).await.expect("it tries again");
    reading.rollback().await.unwrap();
    let store = opening.await.unwrap().unwrap();
    past::check(&*store).await;
    store.close().await;
    database.drop_it().await;
}

#[tokio::test]
async fn a_copy_of_the_file_taken_in_the_middle_of_a_migration_is_migrated_at_the_next_start() {
    sqlite_alone(|t| async move {
        t.store.close().await;
        let file = t.file.clone().unwrap();
        let step = steps("sqlite").into_iter().find(|step| step.version == 2).unwrap();
        // As the program does it, statement by statement; after each one, the disk is copied as a crash would leave it.
        let statements: Vec<&str> = step.sql.split_inclusive(";\n").collect();
        for done in 0..=statements.len() {
            aged(&t, 1).await;
            let mut db = SqliteConnection::connect(&t.url).await.unwrap();
            // Pages of an open transaction reach the write-ahead log when memory is short.
            db.execute("PRAGMA journal_mode = WAL; PRAGMA cache_size = 1; BEGIN IMMEDIATE").await.unwrap();
            for statement in &statements[..done] {
                db.execute(AssertSqlSafe(*statement)).await.unwrap();
            }
            if done == statements.len() {
                let checksum = Sha256::digest(&step.sql).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
                let mark = format!("INSERT INTO wk_migration VALUES (2, '{}', '{checksum}')", step.name);
                db.execute(AssertSqlSafe(mark)).await.unwrap();
            }
            let folder = tempfile::tempdir().unwrap();
            let copy = folder.path().join("watchkeeper.db");
            std::fs::copy(&file, &copy).unwrap();
            let log = format!("{}-wal", file.display());
            let logged = std::fs::copy(&log, format!("{}-wal", copy.display())).unwrap_or(0);
            assert!(done < statements.len() || logged > 0, "what was written so far is in the copy's log");
            db.execute("ROLLBACK").await.unwrap();
            db.close().await.unwrap();
            let store = store::open(&format!("sqlite://{}", copy.display())).await.unwrap();
            past::check(&*store).await;
            store.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn tables_in_a_schema_of_their_own_are_found_and_stay_together() {
    let Some(database) = postgres::empty_database().await else { return };
    let mut db = PgConnection::connect(&database.url).await.unwrap();
    db.execute("CREATE SCHEMA \"wk\"\"1\"; CREATE SCHEMA watchkeeper").await.unwrap();
    let name: String = db.fetch_one("SELECT current_database()::text").await.unwrap().get(0);
    db.execute(AssertSqlSafe(format!("ALTER DATABASE {name} SET search_path = \"wk\"\"1\", public"))).await.unwrap();
    let t = TestStore::on(&database).await;
    let mut w = World::new(t).await;
    past::write(&mut w).await;
    w.store().close().await;
    // The path changes: a schema that is named like the user now comes first.
    db.execute(AssertSqlSafe(format!("ALTER DATABASE {name} SET search_path = \"$user\", \"wk\"\"1\", public"))).await.unwrap();
    let t = TestStore::on(&database).await;
    past::check(&*t.store).await;
    t.store.join("node-b", "local", "boot-1", sec(30 * 86_400)).await.unwrap();
    past::goes_on(&t).await;
    let elsewhere = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE c.relname LIKE 'wk\\_%' AND n.nspname <> 'wk\"1'";
    let elsewhere: i64 = db.fetch_one(elsewhere).await.unwrap().get(0);
    assert_eq!(elsewhere, 0, "also partitions that are made later");
    t.store.close().await;
    db.close().await.unwrap();
    database.drop_it().await;
}

#[tokio::test]
async fn a_server_that_refuses_is_quoted_without_the_password() {
    let Some(database) = postgres::empty_database().await else { return };
    let at = |user: &str, name: &str| {
        let rest = database.url.split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
        format!("postgres://{user}:s3cret@{rest}/{name}")
    };
    for (url, said) in [
        (at("watchkeeper", "nowhere"), "database \"nowhere\" does not exist"),
        (at("nobody", "postgres"), "role \"nobody\" does not exist"),
    ] {
        match store::open(&url).await {
            Err(StoreError::Refused(text)) => {
                assert!(text.contains(said) && text.contains("127.0.0.1") && !text.contains("s3cret"), "{text}");
            }
            Err(error) => panic!("{error:?}"),
            Ok(_) => panic!("{said}"),
        }
    }
    let mut db = PgConnection::connect(&database.url).await.unwrap();
    db.execute("CREATE ROLE guest LOGIN; REVOKE CREATE ON SCHEMA public FROM public").await.unwrap();
    let name: String = db.fetch_one("SELECT current_database()::text").await.unwrap().get(0);
    let error = store::open(&at("guest", &name)).await.err().map(|error| watchkeeper::chain(&error)).unwrap_or_default();
    assert!(error.contains("permission denied for schema public"), "{error}");
    db.close().await.unwrap();
    let closed = crate::support::servers::Closed::port();
    let error = store::open(&format!("postgres://watchkeeper:s3cret@127.0.0.1:{}/x", closed.address.port())).await.err().unwrap();
    let said = watchkeeper::chain(&error);
    assert!(matches!(error, StoreError::Unavailable { .. }) && said.contains("refused") && !said.contains("s3cret"), "{said}");
    database.drop_it().await;
}
