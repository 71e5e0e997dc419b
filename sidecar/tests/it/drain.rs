//! Stopping: nothing is cut that would have ended within the grace, and the grace ends what would not.

use crate::pod::{call, drain_round, pause};
use crate::{binary, sidecar};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn no_request_is_cut_that_would_have_ended_within_the_grace() {
    const GRACE: Duration = Duration::from_millis(2_500);
    let folder = tempfile::tempdir().expect("a folder");
    let rounds: Vec<_> = (1..=8)
        .map(|seed| {
            let folder = folder.path().to_owned();
            std::thread::spawn(move || (seed, drain_round(binary, &folder, GRACE, seed)))
        })
        .collect();
    let mut taken = 0;
    for round in rounds {
        let (seed, round) = round.join().expect("a round ends");
        taken += round.taken;
        assert!(round.forced || round.cut == 0, "seed {seed}: it ended in peace and cut something: {round:?}");
        assert_eq!(round.after_last.is_some(), !round.forced && round.taken > 0, "seed {seed}: {round:?}");
        assert!(round.faults.is_empty(), "seed {seed}: {round:?}");
        assert!(!round.forced || round.lasted >= GRACE, "seed {seed}: it was forced before the grace had passed: {round:?}");
    }
    assert!(taken > 0, "no worker took a message in any round");
}

#[test]
fn it_is_not_ready_at_once_counts_on_and_ends_when_the_last_request_has() {
    let (mut sidecar, _folder) = sidecar(&[("GRACE_PERIOD_SECONDS", "300")]);
    sidecar.post("/start-request?id=slow");
    sidecar.signal("TERM");
    let until = Instant::now() + LIMIT;
    while sidecar.get("/ready").status != 503 {
        assert!(Instant::now() < until, "it is still ready");
    }
    assert_eq!(sidecar.get("/ready").body, "draining");
    assert_eq!(sidecar.get("/health").status, 200);
    assert!((sidecar.series("draining") - 1.0).abs() < 0.5);
    assert_eq!(sidecar.post("/start-request?id=late").status, 200);
    assert_eq!(sidecar.post("/end-request?id=slow&duration=1s").status, 200);
    // Longer than the quiet time: what is in flight keeps it.
    pause(Duration::from_millis(1_500));
    assert!(sidecar.get("/status").body.starts_with("{\"state\":\"draining\""));
    sidecar.post("/end-request?id=late&duration=1s");
    assert_eq!(sidecar.ended().code(), Some(0));
    let log = sidecar.log();
    assert!(log.contains("SIGTERM: not ready from now on; waiting up to 300.0 s for 1 request in flight: slow since 20"), "{log}");
    assert!(log.contains("drained after"), "{log}");
}

#[test]
fn an_idle_one_ends_without_waiting_for_the_grace() {
    for signal in ["TERM", "INT"] {
        let (mut sidecar, _folder) = sidecar(&[("GRACE_PERIOD_SECONDS", "300")]);
        let began = Instant::now();
        sidecar.signal(signal);
        assert_eq!(sidecar.ended().code(), Some(0));
        assert!(began.elapsed() < LIMIT);
        assert!(sidecar.log().contains(&format!("SIG{signal}: not ready from now on; nothing is in flight")), "{}", sidecar.log());
    }
}

#[test]
fn a_start_that_is_on_its_way_when_the_signal_comes_is_waited_for() {
    let (mut sidecar, _folder) = sidecar(&[("GRACE_PERIOD_SECONDS", "300")]);
    sidecar.signal("TERM");
    let until = Instant::now() + LIMIT;
    while !sidecar.log().contains("SIGTERM") {
        assert!(Instant::now() < until, "the signal is not heard");
        pause(Duration::from_millis(1));
    }
    pause(Duration::from_millis(100));
    assert_eq!(sidecar.post("/start-request?id=late").status, 200);
    pause(Duration::from_millis(1_500));
    assert_eq!(sidecar.post("/end-request?id=late&duration=1s").status, 200);
    assert_eq!(sidecar.ended().code(), Some(0));
}

#[test]
fn a_stuck_request_is_named_and_the_grace_ends_it() {
    let (mut sidecar, _folder) = sidecar(&[("GRACE_PERIOD_SECONDS", "6")]);
    sidecar.post("/start-request?id=stuck");
    sidecar.post("/start-request");
    let began = Instant::now();
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended().code(), Some(1));
    assert!(began.elapsed() >= Duration::from_secs(6));
    let log = sidecar.log();
    assert!(log.contains("draining: waiting up to "), "progress is told: {log}");
    let last = log.lines().last().expect("a line");
    assert!(last.contains("ERROR the grace of 6.0 s has passed and 2 requests are still in flight: stuck since 20"), "{last}");
    assert!(last.contains("; one without an id since 20") && last.ends_with("raise GRACE_PERIOD_SECONDS"), "{last}");
}

#[test]
fn drain_blocks_until_idle_and_what_was_only_asked_for_is_forgotten() {
    let (sidecar, _folder) = sidecar(&[("GRACE_PERIOD_SECONDS", "5")]);
    sidecar.post("/start-request");
    let port = sidecar.port;
    let waiting = std::thread::spawn(move || call(port, "GET", "/drain", LIMIT).expect("answered"));
    let until = Instant::now() + LIMIT;
    while sidecar.get("/ready").status != 503 {
        assert!(Instant::now() < until, "it is still ready");
    }
    assert!(!waiting.is_finished());
    sidecar.post("/end-request?duration=1s");
    let answer = waiting.join().expect("it ends");
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\"active_requests\":0"), "{}", answer.body);
    // Whoever asked now ends the worker. If instead it was restarted alone, the sidecar is ready again.
    assert_eq!(sidecar.get("/ready").status, 503);
    while sidecar.get("/ready").status != 200 {
        assert!(Instant::now() < until, "it is never ready again");
        pause(Duration::from_millis(50));
    }
}

#[test]
fn a_drain_that_was_asked_for_ends_with_the_grace_and_says_what_is_stuck() {
    let (sidecar, _folder) = sidecar(&[("GRACE_PERIOD_SECONDS", "1.5")]);
    sidecar.post("/start-request?id=stuck");
    let began = Instant::now();
    let answer = sidecar.get("/drain");
    assert!(began.elapsed() >= Duration::from_millis(1_500));
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("\"in_flight\":[{\"id\":\"stuck\",\"count\":1,\"since\":\"20"), "{}", answer.body);
    assert_eq!(call(sidecar.port, "HEAD", "/drain", LIMIT).expect("answered").status, 200);
}

#[test]
fn who_waits_at_drain_is_answered_before_the_process_ends() {
    let (mut sidecar, _folder) = sidecar(&[("GRACE_PERIOD_SECONDS", "2")]);
    sidecar.post("/start-request?id=stuck");
    sidecar.signal("TERM");
    pause(Duration::from_secs(1));
    // Its own grace would last for longer than the process does.
    let answer = sidecar.get("/drain");
    assert_eq!(answer.status, 503);
    assert_eq!(sidecar.ended().code(), Some(1));
}
