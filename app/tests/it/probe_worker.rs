//! The worker probe against the real sidecar, and against what is none.

#[path = "../../../sidecar/tests/it/pod/mod.rs"]
#[expect(dead_code, reason = "of a pod only its sidecar is needed here")]
mod pod;

use crate::support::probing::{LONGER, PATIENT, always_down, attempt, attempt_guarded, config, nobody, probe, serve};
use pod::Sidecar;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use watchkeeper::clock::Clock;
use watchkeeper::net::{Guard, Net};
use watchkeeper::probe::Attempt;
use watchkeeper::probe::worker::{WorkerFacts, WorkerState};
use watchkeeper_core::{Blind, Outcome, Reason};

/// The sidecar that was built beside the program under test.
fn sidecar(variables: &[(&str, &str)]) -> (Sidecar, TempDir) {
    let binary = Path::new(env!("CARGO_BIN_EXE_watchkeeper")).with_file_name("watchkeeper-sidecar");
    assert!(binary.exists(), "{} is not there: build the tests with --workspace", binary.display());
    let folder = tempfile::tempdir().unwrap();
    (Sidecar::start(Command::new(binary), folder.path(), variables), folder)
}

async fn seen(sidecar: &Sidecar, more: &str) -> Attempt {
    let section = format!("worker: {{ url: \"http://127.0.0.1:{}/\"{more} }}", sidecar.port);
    attempt(probe(&section).as_ref(), PATIENT).await
}

fn facts(attempt: &Attempt) -> &WorkerFacts {
    attempt.worker.as_ref().unwrap_or_else(|| panic!("no facts: {attempt:?}"))
}

#[tokio::test]
async fn a_worker_is_idle_active_and_stuck() {
    let (sidecar, _folder) = sidecar(&[]);
    let idle = seen(&sidecar, "").await;
    assert_eq!((idle.outcome, facts(&idle).state, facts(&idle).total), (Outcome::Up, WorkerState::Idle, 0));
    assert_eq!((facts(&idle).last_request.as_deref(), facts(&idle).oldest_us, facts(&idle).grace_us), (None, None, Some(30_000_000)));
    let asked: Vec<&str> = idle.hops.iter().map(|hop| hop.url.rsplit('/').next().unwrap()).collect();
    assert_eq!(asked, ["status", "ready"], "{:?}", idle.hops);

    sidecar.post("/start-request?id=update-1");
    sidecar.post("/start-request");
    let active = seen(&sidecar, "").await;
    let told = facts(&active);
    assert_eq!((active.outcome, told.state, told.active, told.total), (Outcome::Up, WorkerState::Active, 2, 2));
    assert!(told.oldest_us.is_some_and(|us| us < 300_000_000) && told.last_request.is_some(), "{told:?}");

    let until = Instant::now() + PATIENT;
    let stuck = loop {
        let stuck = seen(&sidecar, ", stuck_after: 1s").await;
        if stuck.outcome != Outcome::Up {
            break stuck;
        }
        assert!(Instant::now() < until, "it is never stuck: {stuck:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((stuck.outcome, facts(&stuck).state), (Outcome::Down(Reason::WorkerStuck), WorkerState::Stuck));
    assert!(stuck.error.as_deref().unwrap().starts_with("2 in flight, the longest (update-1) for 1s; 1s is allowed"), "{stuck:?}");
    assert_eq!(facts(&stuck).stuck.first().and_then(|one| one.id.as_deref()), Some("update-1"));

    sidecar.post("/end-request?id=update-1&duration=1s");
    sidecar.post("/end-request?duration=1s");
    let over = seen(&sidecar, ", stuck_after: 1s").await;
    assert_eq!((over.outcome, facts(&over).state, facts(&over).total), (Outcome::Up, WorkerState::Idle, 2));
}

#[tokio::test]
async fn a_drain_within_its_grace_is_no_fault() {
    let (mut sidecar, _folder) = sidecar(&[("GRACE_PERIOD_SECONDS", "300")]);
    sidecar.post("/start-request?id=slow");
    sidecar.signal("TERM");
    let until = Instant::now() + PATIENT;
    while sidecar.get("/ready").status != 503 {
        assert!(Instant::now() < until, "it is still ready");
    }
    let draining = seen(&sidecar, "").await;
    let told = facts(&draining);
    assert_eq!((draining.outcome, told.state, told.active, told.ready), (Outcome::Up, WorkerState::Draining, 1, false));
    assert!(told.draining_us.is_some() && told.grace_us == Some(300_000_000), "{told:?}");
    assert_eq!(draining.hops.last().and_then(|hop| hop.status), Some(503), "the code of the heartbeat tells a drain");
    sidecar.post("/end-request?id=slow&duration=1s");
    sidecar.ended();
    assert_eq!(seen(&sidecar, "").await.outcome, Outcome::Down(Reason::TcpRefused));
}

/// Figures of the contract, of a worker that is idle.
const FIGURES: &str = r#""active_requests":0,"total_requests":7,"last_request_time":"2025-01-15T10:00:00Z","start_time":"2025-01-15T09:00:00Z","is_processing":false,"idle_duration_seconds":60"#;

/// A sidecar with these answers to `/status`, `/metrics` and `/ready`, each a status and a body, whose clock is at that time of day.
async fn other(status: (u16, &str), metrics: (u16, &str), ready: (u16, &str), time: &str) -> SocketAddr {
    let pages = [("/status", status), ("/metrics", metrics), ("/ready", ready)];
    let answers = pages.map(|(path, (status, body))| {
        let head = format!("HTTP/1.1 {status} x\r\nDate: Wed, 15 Jan 2025 {time} GMT\r\nContent-Length: {}\r\n\r\n", body.len());
        (format!("GET {path} "), format!("{head}{body}"))
    });
    serve(move |mut stream| {
        let answers = answers.clone();
        async move {
            let mut asked = [0; 4_096];
            let length = stream.read(&mut asked).await.unwrap_or(0);
            let asked = String::from_utf8_lossy(&asked[..length]);
            if let Some((_, answer)) = answers.iter().find(|(begins, _)| asked.starts_with(begins)) {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await
}

fn section(address: SocketAddr) -> String {
    format!("worker: {{ url: \"http://{address}\" }}")
}

#[tokio::test]
async fn a_sidecar_with_the_figures_of_the_contract_alone_is_enough() {
    let good = format!("{{{FIGURES}}}");
    let busy = good.replace("\"active_requests\":0", "\"active_requests\":3").replace("false", "true");
    let (absent, ready) = ((404, "what?"), (200, "ready"));
    for (metrics, ready, time, outcome, state) in [
        (good.as_str(), ready, "10:30:00", Outcome::Up, WorkerState::Idle),
        (&busy, ready, "10:04:59", Outcome::Up, WorkerState::Active),
        (&busy, ready, "10:05:01", Outcome::Down(Reason::WorkerStuck), WorkerState::Stuck),
        (&good, (503, "draining"), "10:30:00", Outcome::Down(Reason::WorkerNotReady), WorkerState::NotReady),
    ] {
        // A page of that name may be anything.
        for status in [absent, (200, "<html>"), (200, metrics), (500, "")] {
            let attempt = attempt(probe(&section(other(status, (200, metrics), ready, time).await)).as_ref(), PATIENT).await;
            assert_eq!((attempt.outcome, facts(&attempt).state), (outcome, state), "{attempt:?}");
            assert_eq!((attempt.hops.len(), facts(&attempt).grace_us), (3, None));
        }
    }
    let refused = attempt(probe(&section(other(absent, (200, &good), (503, "draining\n"), "10:30:00").await)).as_ref(), PATIENT).await;
    assert_eq!(refused.error.as_deref(), Some("/ready answers 503: draining\\n"));
}

#[tokio::test]
async fn a_drain_that_outlasts_its_grace_is_named() {
    let status = format!(
        r#"{{"state":"draining","draining_for_seconds":46.5,"grace_period_seconds":30.0,"in_flight":[{{"id":"a","count":1,"seconds":50}}],{FIGURES}}}"#
    )
    .replace("\"active_requests\":0", "\"active_requests\":1")
    .replace("false", "true");
    let address = other((200, &status), (404, ""), (503, "draining"), "10:30:00").await;
    let attempt = always_down(&section(address), PATIENT, Reason::WorkerNotDraining).await;
    assert_eq!(attempt.error.as_deref(), Some("it has been draining for 46s, its grace is 30s; 1 in flight"));
    assert_eq!(facts(&attempt).draining_us, Some(46_500_000));
}

#[tokio::test]
async fn what_is_no_sidecar_is_named() {
    let good = format!("{{{FIGURES}}}");
    for (metrics, reason, text) in [
        ((404, ""), Reason::HttpStatus, "/metrics answers 404"),
        ((200, "go_goroutines 7\n"), Reason::HttpJson, "what it says is not of a worker's sidecar: expected value at line 1 column 1"),
        ((200, "{}"), Reason::HttpJson, "missing field `active_requests`"),
        ((200, "[1,2]"), Reason::HttpJson, "what it says is not of a worker's sidecar"),
        ((200, &good[..good.len() - 2]), Reason::HttpJson, "EOF while parsing"),
        ((200, &good.replace("false", "true")), Reason::HttpJson, "is_processing is true with 0 active_requests"),
        ((200, &good.replace(":7", ":99999999999999999999")), Reason::HttpJson, "what it says is not of a worker's sidecar"),
    ] {
        let address = other((404, ""), metrics, (200, "ready"), "10:30:00").await;
        let attempt = always_down(&section(address), PATIENT, reason).await;
        assert!(attempt.error.as_deref().unwrap().contains(text), "{text}: {attempt:?}");
        assert!(attempt.worker.is_none() && attempt.http.is_some(), "what came is the evidence: {attempt:?}");
    }
}

#[tokio::test]
async fn slow_endless_and_huge_answers_are_named_and_held_within_bounds() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
    let silent = serve(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let attempt = always_down(&section(silent.await), LONGER, Reason::HttpFirstByteTimeout).await;
    assert!(attempt.error.as_deref().unwrap().starts_with("/status: "), "{attempt:?}");
    let trickling = serve(|mut stream| async move {
        let _ = stream.write_all(HEAD).await;
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    always_down(&section(trickling.await), LONGER, Reason::HttpBodyTimeout).await;
    let endless = serve(|mut stream| async move {
        let _ = stream.write_all(HEAD).await;
        while stream.write_all(&[b'['; 16_384]).await.is_ok() {}
    });
    let attempt = always_down(&section(endless.await), PATIENT, Reason::HttpBodyTooLarge).await;
    assert!(attempt.http.and_then(|http| http.body_head).is_some_and(|head| head.len() <= 2_048));
    // As deep as an answer may be: what is of no interest is passed over without going down into it.
    let deep = format!("{{\"x\":{}", "[".repeat(60_000));
    let attempt = always_down(&section(other((200, &deep), (200, &deep), (200, ""), "10:30:00").await), PATIENT, Reason::HttpJson).await;
    assert!(attempt.error.as_deref().unwrap().contains("EOF while parsing"), "{attempt:?}");
}

#[tokio::test]
async fn where_nobody_listens_and_what_is_forbidden_is_said() {
    always_down(&section(nobody().await), PATIENT, Reason::TcpRefused).await;
    let net = Arc::new(Net::system(Clock::system()));
    let attempt = attempt_guarded(&net, probe(&section(nobody().await)).as_ref(), PATIENT, Guard::PublicOnly).await;
    assert_eq!(attempt.outcome, Outcome::Unknown(Blind::ForbiddenAddress));
}

/// A manager that knows the bot `a1` and answers to a token.
async fn manager(status: u16, body: &'static str) -> SocketAddr {
    serve(move |mut stream| async move {
        let mut asked = [0; 4_096];
        let length = stream.read(&mut asked).await.unwrap_or(0);
        let asked = String::from_utf8_lossy(&asked[..length]).to_ascii_lowercase();
        let known = asked.starts_with("get /bots/a1 ") && asked.contains("\r\nauthorization: bearer s3cret\r\n");
        let (status, body) = if known { (status, body) } else { (404, "{}") };
        let _ = stream.write_all(format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    })
    .await
}

#[tokio::test]
async fn workers_that_are_behind_are_down_and_the_worker_s_own_trouble_comes_first() {
    let figures = format!("{{{FIGURES}}}");
    for (ready, status, body, outcome, lag, text) in [
        (200, 200, r#"{"bot_id":"a1","kafka_lag":10}"#, Outcome::Up, Some(10), None),
        (200, 200, r#"{"kafka_lag":11}"#, Outcome::Down(Reason::WorkerBehind), Some(11), Some("11 updates wait; 10 may")),
        (503, 200, r#"{"kafka_lag":11}"#, Outcome::Down(Reason::WorkerNotReady), Some(11), Some("/ready answers 503")),
        (200, 200, r#"{"kafka_lag":null}"#, Outcome::Down(Reason::HttpJson), None, Some("lag_url: kafka_lag is null")),
        (200, 401, r#"{"error":"x"}"#, Outcome::Down(Reason::HttpStatus), None, Some("lag_url answers 401")),
    ] {
        let sidecar = other((404, ""), (200, &figures), (ready, "x"), "10:05:00").await;
        let manager = manager(status, body).await;
        let section =
            format!("worker: {{ url: \"http://{sidecar}\", lag_url: \"http://{manager}/bots/a1\", lag_max: 10, bearer_token: s3cret }}");
        let seen = attempt(probe(&section).as_ref(), PATIENT).await;
        assert_eq!((seen.outcome, facts(&seen).kafka_lag), (outcome, lag), "{seen:?}");
        assert!(text.is_none_or(|text| seen.error.as_deref().is_some_and(|error| error.starts_with(text))), "{seen:?}");
        assert!(!format!("{seen:?} {:?}", config(&section)).contains("s3cret"));
    }
}

#[test]
fn what_cannot_be_is_told_with_its_place() {
    for (section, problem) in [
        ("worker: {}", "`url` is missing"),
        ("worker: { url: \"127.0.0.1:8081\" }", "accepted: an http:// or https:// URL without credentials and query"),
        ("worker: { url: \"http://u:p@h:1\" }", "accepted: an http:// or https:// URL without credentials and query"),
        ("worker: { url: \"http://h:1/?a=b\" }", "accepted: an http:// or https:// URL without credentials and query"),
        ("worker: { url: \"http://h:1\", stuck_after: 0s }", "found `0s`; accepted: a duration from 1s to 7d"),
        ("worker: { url: \"http://h:1\", stuck_aftr: 1s }", "did you mean `stuck_after`?"),
        ("worker: { url: \"http://h:1\", lag_max: many }", "accepted: a whole number from 0 to 1000000000"),
        ("worker: { url: \"http://h:1\", bearer_token: x }", "`bearer_token` without `lag_url`"),
        ("worker: { url: \"http://h:1\", lag_url: \"http://h:2\", lag_max: -1 }", "accepted: a whole number from 0 to 1000000000"),
        ("worker: { url: \"http://h:1\", lag_url: \"http://u:p@h:2\" }", "accepted: an http:// or https:// URL without credentials"),
    ] {
        let found = config(section).map(|_| ()).unwrap_err();
        assert!(found.contains(problem), "{section}: {found}");
    }
    assert_eq!(config("worker: { url: \"http://h:8081\" }").unwrap().target(), "http://h:8081/");
}
