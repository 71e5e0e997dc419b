//! The contract: every path, what it answers, and that no call loses a count.

use crate::pod::{Answer, Sidecar, call, pause, send};
use crate::sidecar;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

fn metrics(sidecar: &Sidecar) -> serde_json::Value {
    serde_json::from_str(&sidecar.get("/metrics").body).expect("JSON")
}

/// Active and total.
fn figures(sidecar: &Sidecar) -> (u64, u64) {
    let json = metrics(sidecar);
    (json["active_requests"].as_u64().expect("a number"), json["total_requests"].as_u64().expect("a number"))
}

fn note(answer: &Answer) -> Option<&str> {
    answer.head.lines().find_map(|line| line.strip_prefix("sidecar-note: "))
}

#[test]
fn the_json_has_exactly_the_fields_of_the_contract() {
    let (sidecar, _folder) = sidecar(&[]);
    let before = sidecar.get("/metrics");
    assert!(before.head.contains("content-type: application/json"));
    let json = metrics(&sidecar);
    let mut keys: Vec<&String> = json.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["active_requests", "idle_duration_seconds", "is_processing", "last_request_time", "start_time", "total_requests"]);
    assert_eq!((&json["last_request_time"], &json["is_processing"]), (&serde_json::Value::Null, &false.into()));
    assert!(json["idle_duration_seconds"].is_u64());

    sidecar.post("/start-request");
    let json = metrics(&sidecar);
    assert_eq!((&json["is_processing"], &json["idle_duration_seconds"]), (&true.into(), &0.into()));
    for field in ["last_request_time", "start_time"] {
        let text = json[field].as_str().expect("a time");
        assert!(text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text}");
        assert!(text.parse::<jiff::Timestamp>().is_ok(), "{text}");
    }

    sidecar.post("/end-request?duration=1s");
    let until = Instant::now() + LIMIT;
    while metrics(&sidecar)["idle_duration_seconds"] == 0 {
        assert!(Instant::now() < until, "it never becomes idle");
        pause(Duration::from_millis(100));
    }
    assert_eq!(metrics(&sidecar)["is_processing"], false);
}

#[test]
fn a_counted_call_is_answered_with_200_and_nothing_to_read() {
    let (sidecar, _folder) = sidecar(&[]);
    for path in ["/start-request", "/end-request?duration=1s", "/end-request", "/end-request?duration=soon"] {
        let answer = sidecar.post(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
        assert!(answer.head.contains("\r\ncontent-length: 0"), "{path}: {}", answer.head);
    }
}

#[test]
fn every_duration_is_counted_and_the_readable_ones_are_timed() {
    let (sidecar, _folder) = sidecar(&[]);
    let timed = [
        ("1.2s", 1.2),
        ("850µs", 0.000_85),
        ("850μs", 0.000_85),
        ("850%C2%B5s", 0.000_85),
        ("850%CE%BCs", 0.000_85),
        ("850us", 0.000_85),
        ("1m2.5s", 62.5),
        ("350ms", 0.35),
        ("1h", 3_600.0),
        ("9.5e-05s", 0.000_095),
        ("1e+1s", 10.0),
        ("1e%2B1s", 10.0),
        ("731.5ns", 0.000_001),
        ("2", 2.0),
    ];
    let untimed = ["", "NaNs", "undefineds", "-1s", "%FF", "%", "1e400s", "99999h", "1s%00", "a&duration=1s"];
    let missing = ["/end-request", "/end-request?", "/end-request?took=1s", "/end-request?Duration=1s", "/end-request?duration"];
    let all = timed.len() + untimed.len() + missing.len();
    for _ in 0..all {
        sidecar.post("/start-request");
    }
    assert_eq!(figures(&sidecar), (all as u64, all as u64));
    for (text, _) in timed {
        assert_eq!(note(&sidecar.post(&format!("/end-request?duration={text}"))), None, "{text}");
    }
    for text in untimed {
        let answer = sidecar.post(&format!("/end-request?duration={text}"));
        assert_eq!((answer.status, note(&answer).is_some()), (200, !text.is_empty()), "{text}: {}", answer.head);
    }
    for path in missing {
        assert_eq!(note(&sidecar.post(path)), None, "{path}");
    }
    assert_eq!(figures(&sidecar), (0, all as u64));
    assert!((sidecar.series("request_duration_seconds_count") - timed.len() as f64).abs() < 0.5);
    let sum: f64 = timed.iter().map(|(_, seconds)| seconds).sum();
    let found = sidecar.series("request_duration_seconds_sum");
    assert!((found - sum).abs() < 1e-6, "{found} instead of {sum}");
    assert!((sidecar.series("bad_durations_total") - (untimed.len() - 1) as f64).abs() < 0.5);
}

#[test]
fn an_extra_end_never_makes_it_negative() {
    let (sidecar, _folder) = sidecar(&[]);
    for _ in 0..3 {
        let answer = sidecar.post("/end-request?duration=1s");
        assert_eq!((answer.status, note(&answer)), (200, Some("nothing like it was in flight: no request was taken away")));
    }
    sidecar.post("/start-request");
    assert_eq!(figures(&sidecar), (1, 1));
    assert!((sidecar.series("unmatched_ends_total") - 3.0).abs() < 0.5);
}

#[test]
fn ids_make_repeated_and_lost_calls_harmless() {
    let (sidecar, _folder) = sidecar(&[]);
    sidecar.post("/start-request?id=update-1");
    let again = sidecar.post("/start-request?id=update-1");
    assert_eq!(note(&again), Some("this id was in flight already: it is counted once"));
    sidecar.post("/start-request?id=update-2");
    sidecar.post("/start-request");
    assert_eq!(figures(&sidecar), (3, 3));
    sidecar.post("/end-request?id=update-1&duration=1s");
    sidecar.post("/end-request?duration=1s&id=update-1");
    assert_eq!(figures(&sidecar), (2, 3));
    let status: serde_json::Value = serde_json::from_str(&sidecar.get("/status").body).expect("JSON");
    let ids: Vec<&serde_json::Value> = status["in_flight"].as_array().expect("a list").iter().map(|f| &f["id"]).collect();
    assert_eq!(ids, [&serde_json::Value::from("update-2"), &serde_json::Value::Null]);
    assert_eq!((&status["started_again"], &status["unmatched_ends"], &status["state"]), (&1.into(), &1.into(), &"serving".into()));
    // An id that cannot be one is named, and the request is counted without it, at its start and at its end.
    let long = "x".repeat(129);
    for bad in ["", "a%20b", "%C3%A9", "a%0Ab", long.as_str()] {
        for path in ["/start-request", "/end-request"] {
            let answer = sidecar.post(&format!("{path}?id={bad}"));
            assert_eq!(answer.status, 200);
            assert!(note(&answer).is_some_and(|note| note.contains("id ")), "{bad}: {}", answer.head);
        }
    }
    assert_eq!(figures(&sidecar), (2, 8));
    assert!((sidecar.series("bad_ids_total") - 10.0).abs() < 0.5);
    assert_eq!(sidecar.log().matches("the id ").count(), 1, "a worker that errs with every call does not fill the log: {}", sidecar.log());
}

#[test]
fn other_paths_and_methods_are_told_what_there_is() {
    let (sidecar, _folder) = sidecar(&[]);
    for (path, body) in [("/health", "ok"), ("/ready", "ready")] {
        let answer = sidecar.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, body));
        assert_eq!(call(sidecar.port, "HEAD", path, LIMIT).expect("answered").body, "");
    }
    let answer = sidecar.get("/start_request");
    assert_eq!(answer.status, 404);
    assert!(answer.body.starts_with("there is no /start_request here; there is: POST /start-request,"), "{}", answer.body);
    let answer = sidecar.get("/start-request");
    assert_eq!((answer.status, answer.body.as_str()), (405, "/start-request takes POST, not GET\n"));
    assert!(answer.head.contains("\r\nallow: post"));
    assert_eq!(sidecar.post("/metrics").status, 405);
    assert_eq!(call(sidecar.metrics_port, "POST", "/start-request", LIMIT).expect("answered").status, 404);
    assert_eq!(figures(&sidecar), (0, 0));
}

#[test]
fn prometheus_reads_it_and_the_figures_are_those_of_the_json() {
    let (sidecar, _folder) = sidecar(&[]);
    for path in ["/start-request", "/start-request", "/end-request?duration=30ms"] {
        sidecar.post(path);
    }
    let answer = call(sidecar.metrics_port, "GET", "/metrics", LIMIT).expect("answered");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    for line in [
        "watchkeeper_sidecar_active_requests 1",
        "watchkeeper_sidecar_requests_total 2",
        "watchkeeper_sidecar_draining 0",
        "watchkeeper_sidecar_request_duration_seconds_bucket{le=\"0.025\"} 0",
        "watchkeeper_sidecar_request_duration_seconds_bucket{le=\"0.05\"} 1",
        "watchkeeper_sidecar_request_duration_seconds_bucket{le=\"+Inf\"} 1",
        "watchkeeper_sidecar_request_duration_seconds_sum 0.03",
    ] {
        assert!(answer.body.lines().any(|l| l == line), "{line} is not in {}", answer.body);
    }
    assert!(sidecar.series("oldest_request_seconds") > 0.0);
    let checker =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut checker) = checker else {
        assert!(std::env::var_os("WATCHKEEPER_REQUIRE_ALL").is_none_or(|v| v != "1"), "WATCHKEEPER_REQUIRE_ALL=1, but no promtool");
        let _ = writeln!(std::io::stderr(), "SKIPPED: no promtool: the sidecar's metrics were not checked by it");
        return;
    };
    checker.stdin.take().expect("piped").write_all(answer.body.as_bytes()).expect("written");
    let found = checker.wait_with_output().expect("it ends");
    assert!(found.status.success() && found.stdout.is_empty() && found.stderr.is_empty(), "{found:?}");
}

#[test]
fn whatever_is_sent_along_is_thrown_away_and_the_call_is_counted() {
    let (sidecar, _folder) = sidecar(&[]);
    let start = "POST /start-request HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let small = "x".repeat(60_000);
    let answers = [
        send(sidecar.port, format!("{start}Content-Length: 60000\r\n\r\n{small}").as_bytes(), LIMIT),
        send(sidecar.port, format!("{start}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").as_bytes(), LIMIT),
        // Nothing of it is read, and the answer does not wait for it.
        send(sidecar.port, format!("{start}Content-Length: 1000000000\r\n\r\n").as_bytes(), LIMIT),
        // It never comes: after a second the call is answered all the same.
        send(sidecar.port, format!("{start}Content-Length: 10\r\n\r\nhalf").as_bytes(), LIMIT),
        send(sidecar.port, b"POST /start-request HTTP/1.0\r\n\r\n", LIMIT),
    ];
    let all = answers.len() as u64;
    for answer in answers {
        assert_eq!(answer.expect("answered").status, 200);
    }
    assert_eq!(figures(&sidecar), (all, all));
}

#[test]
fn nonsense_and_clients_that_only_wait_leave_it_well() {
    let (sidecar, _folder) = sidecar(&[]);
    let waiting: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(("127.0.0.1", sidecar.port)).expect("connected")).collect();
    for bytes in [&b"\x16\x03\x01\x02\x00\x01"[..], b"hello\r\n\r\n", b"POST /start-request HTTP/9.9\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n"]
    {
        // Refused or closed, as it comes.
        let _ = send(sidecar.port, bytes, LIMIT);
    }
    let huge = format!("POST /start-request?id={} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000));
    // The answer may be lost when the connection is closed while we still write.
    if let Ok(answer) = send(sidecar.port, huge.as_bytes(), LIMIT) {
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
    assert_eq!(sidecar.get("/health").status, 200);
    assert_eq!(figures(&sidecar), (0, 0));
    drop(waiting);
}

#[test]
fn what_is_in_flight_for_too_long_is_taken_for_lost() {
    let (sidecar, _folder) = sidecar(&[("LOST_AFTER_SECONDS", "0.5")]);
    sidecar.post("/start-request?id=gone");
    sidecar.post("/start-request");
    let until = Instant::now() + LIMIT;
    while figures(&sidecar) != (0, 2) {
        assert!(Instant::now() < until, "it is still in flight");
        pause(Duration::from_millis(50));
    }
    assert!((sidecar.series("lost_requests_total") - 2.0).abs() < 0.5);
    assert!(sidecar.log().contains("taken for lost, first gone since 20"), "{}", sidecar.log());
    assert!(note(&sidecar.post("/end-request?id=gone")).is_some_and(|note| note.starts_with("nothing like it")));
}

#[test]
fn both_families_of_addresses_are_heard_where_no_address_is_set() {
    let (sidecar, _folder) = sidecar(&[("LISTEN_ADDRESS", "")]);
    assert_eq!(sidecar.get("/health").status, 200);
    // A machine without IPv6 has no ::1 to ask.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        assert!(TcpStream::connect(("::1", sidecar.port)).is_ok());
    }
}
