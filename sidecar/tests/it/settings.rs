//! What is said about wrong settings, and the other commands.

use crate::{binary, sidecar};
use std::process::Output;

fn run(args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        binary().args(args).env_clear().env("LISTEN_ADDRESS", "127.0.0.1").envs(variables.iter().copied()).output().expect("it runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn every_wrong_setting_is_named_and_nothing_begins() {
    let (code, _, told) = run(&[], &[("PORT", "eighty"), ("GRACE_PERIOD_SECONDS", "-1")]);
    assert_eq!(code, Some(2));
    assert!(
        told.contains("PORT is \"eighty\": it must be a port") && told.contains("GRACE_PERIOD_SECONDS is \"-1\": it must be seconds"),
        "{told}"
    );
}

#[test]
fn a_port_in_use_and_a_file_that_cannot_be_written_are_named() {
    let (sidecar, folder) = sidecar(&[]);
    let port = sidecar.port.to_string();
    let (code, _, told) = run(&[], &[("PORT", &port), ("METRICS_PORT", "0")]);
    assert_eq!(code, Some(1));
    assert!(told.contains(&format!("listening on PORT {port}: Address already in use")), "{told}");
    let missing = folder.path().join("no/such/folder/counts");
    let (code, _, told) = run(&[], &[("PORT", "0"), ("METRICS_PORT", "0"), ("STATE_FILE", missing.to_str().expect("a plain path"))]);
    assert_eq!(code, Some(1));
    assert!(told.contains("STATE_FILE") && told.contains("no/such/folder") && told.contains("No such file or directory"), "{told}");
}

#[test]
fn a_container_can_ask_for_its_health() {
    let (mut sidecar, _folder) = sidecar(&[]);
    let port = sidecar.port.to_string();
    assert_eq!(run(&["healthcheck"], &[("PORT", &port)]), (Some(0), String::new(), String::new()));
    sidecar.signal("KILL");
    sidecar.ended();
    let (code, _, told) = run(&["healthcheck"], &[("PORT", &port)]);
    assert_eq!(code, Some(1));
    assert!(told.contains(&format!("asking http://127.0.0.1:{port}/health")), "{told}");
}

#[test]
fn help_and_version_are_there_and_anything_else_is_named() {
    let (code, told, _) = run(&["--help"], &[]);
    assert_eq!(code, Some(0));
    assert!(told.contains("GRACE_PERIOD_SECONDS=30"), "{told}");
    assert_eq!(run(&["--version"], &[]).1, format!("watchkeeper-sidecar {}\n", env!("CARGO_PKG_VERSION")));
    let (code, _, told) = run(&["serve"], &[]);
    assert_eq!(code, Some(2));
    assert!(told.contains("serve is not understood"), "{told}");
}

#[test]
fn the_documentation_names_every_variable_and_path() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sidecar.md")).expect("the page");
    let (_, help, _) = run(&["--help"], &[]);
    let variables = help.lines().filter_map(|line| line.strip_prefix("  ")?.split_once('=')).map(|(name, _)| name);
    let named = variables.inspect(|name| assert!(page.contains(&format!("\n| `{name}` |")), "{name}")).count();
    assert_eq!(named, 7);
    for path in ["/start-request", "/end-request", "/metrics", "/status", "/health", "/ready", "/drain"] {
        assert!(page.contains(path), "{path}");
    }
}
