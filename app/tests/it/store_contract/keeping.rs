//! Keeping: the integrity check finds faults, and a file has one owner.

use super::world::*;
use crate::support::store::{TestStore, each_store};
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::Command;
use watchkeeper::store::{self, *};
use watchkeeper_core::Outcome;

/// Where the second process finds the first one's file.
const FILE: &str = "WATCHKEEPER_TEST_FILE";

async fn with_an_incident(t: TestStore) -> (World, String) {
    let mut w = World::new(t).await;
    let (decision, id, uid) = w.opens(w.shop, "down", sec(1));
    w.commit_decisions(vec![decision]).await;
    w.commit_decisions(vec![w.resolves(w.shop, id, &uid, sec(2))]).await;
    let (second, _, _) = w.opens(w.shop, "down", sec(3));
    w.commit_decisions(vec![second]).await;
    assert_eq!(w.store().verify().await.unwrap(), [""; 0], "it is clean before the fault");
    (w, uid)
}

#[tokio::test]
async fn an_answering_store_is_reached_and_clean() {
    each_store(|t| async move {
        t.store.ping().await.unwrap();
        assert_eq!(t.store.exclusive(), t.file.is_some(), "a file has one process, a server many");
        assert_eq!(t.store.verify().await.unwrap(), [""; 0], "an empty store is clean");
    })
    .await;
}

#[tokio::test]
async fn verify_finds_a_notice_without_its_incident() {
    each_store(|t| async move {
        let (mut w, uid) = with_an_incident(t).await;
        let sql = format!("DELETE FROM wk_incident WHERE uid = '{uid}'");
        w.t.behind_its_back(&sql).await;
        let found = w.store().verify().await.unwrap();
        assert!(!found.is_empty(), "two notices are about nothing");
    })
    .await;
}

#[tokio::test]
async fn verify_finds_two_open_incidents_of_one_rule() {
    each_store(|t| async move {
        let (mut w, uid) = with_an_incident(t).await;
        // The unique index forbids it, so it has to go, as in a damaged or hand-made database.
        let reopen = format!("UPDATE wk_incident SET status = 'open', resolved_at = NULL, resolved_why = NULL WHERE uid = '{uid}'");
        w.t.behind_its_back(&format!("DROP INDEX wk_incident_open; {reopen}")).await;
        let found = w.store().verify().await.unwrap();
        assert!(!found.is_empty(), "two incidents of one rule are open");
    })
    .await;
}

#[tokio::test]
async fn verify_or_opening_finds_a_damaged_file() {
    let t = TestStore::sqlite().await;
    let file = t.file.clone().expect("it is a file");
    let mut w = World::new(t).await;
    for n in 0..2_000 {
        if n % 500 == 0 {
            let beats = (n..n + 500).map(|second| w.beat(w.shop, watchkeeper_core::Micros(T0.0 + second), Outcome::Up)).collect();
            w.commit_beats(beats).await;
        }
    }
    w.housekeep(sec(3 * 3_600)).await;
    w.store().close().await;
    // Half of the file's pages, beyond the schema, are filled with another page's content.
    let mut handle = std::fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    let length = handle.metadata().unwrap().len();
    let mut page = vec![0; 4_096];
    handle.seek(SeekFrom::Start(length - 4_096)).unwrap();
    handle.read_exact(&mut page).unwrap();
    page.rotate_left(1_000);
    for at in (length / 8_192 * 4_096..length - 4_096).step_by(4_096) {
        handle.seek(SeekFrom::Start(at)).unwrap();
        handle.write_all(&page).unwrap();
    }
    drop(handle);
    match store::open(&w.t.url).await {
        Ok(store) => match store.verify().await {
            Ok(found) => assert!(!found.is_empty(), "a file full of rubbish is not clean"),
            Err(error) => assert!(matches!(error, StoreError::Broken { .. }), "{error:?}"),
        },
        Err(error) => assert!(!matches!(error, StoreError::Unavailable { .. }), "trying again will not mend it: {error:?}"),
    }
}

#[tokio::test]
async fn a_second_process_is_refused_the_file() {
    let t = TestStore::sqlite().await;
    let as_another_process = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store_contract::keeping::as_the_second_process", "--ignored", "--nocapture"])
            .env(FILE, &t.url)
            .output()
            .unwrap()
    };
    let refused = as_another_process();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("the store was refused"), "{said}");
    t.store.ping().await.unwrap();
    t.store.close().await;
    let welcome = as_another_process();
    assert!(welcome.status.success(), "once closed it is free: {}", String::from_utf8_lossy(&welcome.stdout));
}

#[tokio::test]
#[ignore = "run by a_second_process_is_refused_the_file, as another process"]
async fn as_the_second_process() {
    let url = std::env::var(FILE).expect("the first process says which file");
    if let Err(error) = store::open(&url).await {
        panic!("{error}");
    }
}

#[tokio::test]
async fn a_store_of_a_newer_program_is_refused() {
    each_store(|t| async move {
        t.store.close().await;
        let sql = "INSERT INTO wk_migration (version, name, checksum) VALUES (9999, 'newer', 'of a newer program')";
        t.execute(sql).await;
        match store::open(&t.url).await {
            Err(StoreError::Refused(_)) => {}
            Err(error) => panic!("it is refused, not {error:?}"),
            Ok(_) => panic!("it may not be opened: what it holds is not understood"),
        }
    })
    .await;
}
