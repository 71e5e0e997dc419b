//! Counts over a restart, and over `kill -9` at random moments.

use crate::binary;
use crate::pod::{Dice, Sidecar, call, pause};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What clients know to be counted, and what may be.
#[derive(Debug, Default)]
struct Known {
    started: u64,
    ended: u64,
    /// Calls without an answer: the kill came between.
    unsure_starts: u64,
    unsure_ends: u64,
}

/// Starts and ends requests until it is told to stop; ends only what was started, so that all ends match.
fn client(port: u16, stop: &AtomicBool, known: &Mutex<Known>, name: &str, dice: &mut Dice) {
    let limit = Duration::from_secs(5);
    let mut open = Vec::new();
    for nth in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        if open.is_empty() || dice.below(2) == 0 {
            let query = if dice.below(2) == 0 { format!("?id={name}/{nth}") } else { "?".to_owned() };
            let told = call(port, "POST", &format!("/start-request{query}"), limit).is_ok();
            let mut known = known.lock().expect("no client panicked");
            if !told {
                known.unsure_starts += 1;
                return;
            }
            known.started += 1;
            open.push(query);
        } else {
            let query = open.swap_remove(dice.below(open.len() as u64) as usize);
            let told = call(port, "POST", &format!("/end-request{query}&duration=3ms"), limit).is_ok();
            let mut known = known.lock().expect("no client panicked");
            if !told {
                known.unsure_ends += 1;
                return;
            }
            known.ended += 1;
        }
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("counts");
    let variables = [("STATE_FILE", state.to_str().expect("a plain path"))];
    let known = Arc::new(Mutex::new(Known::default()));
    let mut dice = Dice::new(42);
    for round in 0..12 {
        let mut sidecar = Sidecar::start(binary(), folder.path(), &variables);
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..4)
            .map(|nth| {
                let (port, stop, known) = (sidecar.port, stop.clone(), known.clone());
                let mut dice = Dice::new(round * 100 + nth);
                std::thread::spawn(move || client(port, &stop, &known, &format!("{round}-{nth}"), &mut dice))
            })
            .collect();
        pause(Duration::from_millis(20 + dice.below(200)));
        sidecar.signal("KILL");
        sidecar.ended();
        stop.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().expect("a client ends");
        }
        let again = Sidecar::start(binary(), folder.path(), &variables);
        let known = known.lock().expect("no client panicked");
        let (total, active) = (again.series("requests_total") as u64, again.series("active_requests") as u64);
        let timed = again.series("request_duration_seconds_count") as u64;
        assert!((known.started..=known.started + known.unsure_starts).contains(&total), "round {round}: {total} of {known:?}");
        assert!((known.ended..=known.ended + known.unsure_ends).contains(&timed), "round {round}: {timed} of {known:?}");
        assert_eq!(active, total - timed, "round {round}: {known:?}");
        assert!(again.series("unmatched_ends_total") < 0.5);
        assert!(again.log().contains(&format!("{total} requests since 20")), "{}", again.log());
    }
    assert!(known.lock().expect("no client panicked").ended > 0, "nothing was ended in any round");
}

#[test]
fn a_stop_in_good_order_keeps_them_too_and_says_since_when_it_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("counts");
    let variables = [("STATE_FILE", state.to_str().expect("a plain path")), ("GRACE_PERIOD_SECONDS", "0")];
    let mut sidecar = Sidecar::start(binary(), folder.path(), &variables);
    sidecar.post("/start-request?id=a");
    let before: serde_json::Value = serde_json::from_str(&sidecar.get("/metrics").body).expect("JSON");
    sidecar.signal("TERM");
    sidecar.ended();
    let again = Sidecar::start(binary(), folder.path(), &variables);
    let after: serde_json::Value = serde_json::from_str(&again.get("/metrics").body).expect("JSON");
    assert_eq!(after, before);
    again.post("/end-request?id=a&duration=1s");
    let status: serde_json::Value = serde_json::from_str(&again.get("/status").body).expect("JSON");
    assert_eq!((&status["active_requests"], &status["restarts"], &status["unmatched_ends"]), (&0.into(), &1.into(), &0.into()));
}

#[test]
fn without_a_file_nothing_is_kept_and_that_is_said() {
    let (sidecar, _folder) = crate::sidecar(&[]);
    assert!(sidecar.log().contains("counts are not kept over a restart (STATE_FILE is not set)"), "{}", sidecar.log());
}
