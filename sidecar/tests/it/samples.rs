//! The sample clients of the seed's document, unmodified, each in its own language.
//!
//! `samples/process_message.*` are printed in that document, which its users wrote; not a letter of them is changed. What they leave out
//! (their imports, the bot's logic) is put around them by `samples/drive.*`. Each holds three requests open at once, ends them,
//! runs twenty short ones one after the other, and one whose logic fails.
//!
//! A language that is not installed is skipped, which is said; `WATCHKEEPER_SAMPLES` names those that must run.

use crate::pod::{Sidecar, pause};
use crate::sidecar;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A client's part is done within so long, also on a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(120);
const HELD: u64 = 3;
const SHORT: u64 = 20;
/// How long the three are held at least, in seconds.
const HELD_SECONDS: f64 = 0.4;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/samples")
}

fn skip(language: &str, why: &str) {
    let required = std::env::var("WATCHKEEPER_SAMPLES").unwrap_or_default();
    assert!(!required.split(' ').any(|one| one == language), "WATCHKEEPER_SAMPLES names {language}, but {why}");
    // Not eprintln!: the harness would swallow it, and a skipped test must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED: the seed's {language} client of the sidecar: {why}");
}

/// Whether the command runs and ends well.
fn runs(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs the client and compares every figure with what it did. `timed` says whether its durations are those of its work.
fn agrees(mut client: Command, timed: bool) {
    let (sidecar, _folder) = sidecar(&[]);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        client.env_remove(proxy);
    }
    let mut client = client
        .env("SIDECAR_URL", format!("http://localhost:{}", sidecar.port))
        .stdin(Stdio::piped())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the client starts");
    wait_for(&sidecar, &mut client, HELD);
    let json: serde_json::Value = serde_json::from_str(&sidecar.get("/metrics").body).expect("JSON");
    assert_eq!((&json["total_requests"], &json["is_processing"], &json["idle_duration_seconds"]), (&HELD.into(), &true.into(), &0.into()));
    pause(Duration::from_secs_f64(HELD_SECONDS));
    // Its standard input ends: it goes on.
    drop(client.stdin.take());
    let status = client.wait().expect("the client ends");
    assert!(status.success(), "the client ended with {status}");

    let all = HELD + SHORT + 1;
    let json: serde_json::Value = serde_json::from_str(&sidecar.get("/metrics").body).expect("JSON");
    assert_eq!((&json["active_requests"], &json["total_requests"], &json["is_processing"]), (&0.into(), &all.into(), &false.into()));
    for (series, wanted) in [
        ("requests_total", all),
        ("active_requests", 0),
        ("request_duration_seconds_count", all),
        ("bad_durations_total", 0),
        ("unmatched_ends_total", 0),
    ] {
        assert!((sidecar.series(series) - wanted as f64).abs() < 0.5, "{series} is {}, not {wanted}", sidecar.series(series));
    }
    let sum = sidecar.series("request_duration_seconds_sum");
    assert!(sum > 0.0 && (!timed || sum >= HELD as f64 * HELD_SECONDS), "all requests together took {sum} s");
}

fn wait_for(sidecar: &Sidecar, client: &mut Child, active: u64) {
    let until = Instant::now() + LIMIT;
    while (sidecar.series("active_requests") - active as f64).abs() > 0.5 {
        let ended = client.try_wait().expect("its state");
        assert!(ended.is_none() && Instant::now() < until, "{active} requests were never in flight ({ended:?})");
        pause(Duration::from_millis(10));
    }
}

#[test]
fn the_python_sample_agrees() {
    // Debian's own interpreter has Debian's packages, another one on the path may have others.
    let python = ["python3", "/usr/bin/python3"].into_iter().find(|python| runs(Command::new(python).args(["-c", "import requests"])));
    let Some(python) = python else { return skip("python", "there is no python3 with the package requests") };
    let mut client = Command::new(python);
    client.arg(samples().join("drive.py")).arg(samples().join("process_message.py"));
    agrees(client, true);
}

#[test]
fn the_go_sample_agrees() {
    if !runs(Command::new("go").arg("version")) {
        return skip("go", "there is no go");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = folder.join("go-sample");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).args([samples().join("process_message.go"), samples().join("drive.go")]);
    let built = build.env("GO111MODULE", "off").env("GOCACHE", folder.join("go-cache")).status().expect("go runs");
    assert!(built.success(), "the sample does not compile");
    // It evaluates time.Since when the request begins, so its durations are those of its first call.
    agrees(Command::new(program), false);
}

#[test]
fn the_node_sample_agrees() {
    // Where Debian's node-axios is.
    let node = || {
        let mut node = Command::new("node");
        node.env("NODE_PATH", "/usr/share/nodejs");
        node
    };
    if !runs(node().args(["-e", "require('axios')"])) {
        return skip("node", "there is no node with the package axios");
    }
    let mut client = node();
    client.arg(samples().join("drive.js")).arg(samples().join("process_message.js"));
    agrees(client, true);
}
