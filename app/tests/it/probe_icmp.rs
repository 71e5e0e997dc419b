//! The icmp probe against this machine's own addresses.

use crate::support::probing::{PATIENT, attempt, attempt_guarded, config, probe};
use std::io::Write as _;
use std::sync::Arc;
use watchkeeper::clock::Clock;
use watchkeeper::net::{Guard, Net};
use watchkeeper::probe::Attempt;
use watchkeeper_core::{Blind, Outcome, Reason};

/// An attempt, or `None`, said aloud, where no ICMP socket may be opened.
async fn permitted(section: &str) -> Option<Attempt> {
    let attempt = attempt(probe(section).as_ref(), PATIENT).await;
    if attempt.outcome != Outcome::Unknown(Blind::Permission) {
        return Some(attempt);
    }
    assert!(attempt.error.as_ref().is_some_and(|e| e.contains("ping_group_range")), "{attempt:?}");
    // Not eprintln!: the harness would swallow it, and a skipped test must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED: no ICMP socket may be opened here: {section}");
    None
}

#[tokio::test]
async fn this_machine_answers() {
    for host in ["127.0.0.1", "localhost"] {
        let Some(attempt) = permitted(&format!("icmp: {{ host: {host}, count: 3, interval: 10ms }}")).await else { return };
        assert_eq!(attempt.outcome, Outcome::Up, "{attempt:?}");
        let facts = attempt.icmp.unwrap();
        assert_eq!((facts.sent, facts.received, facts.loss_permille), (3, 3, 0));
        assert!(["datagram", "raw"].contains(&facts.socket.as_str()));
        assert!(facts.rtt_us > 0 && facts.rtt_us == attempt.hops[0].first_byte_us, "{facts:?}");
        assert!(attempt.total_us < 20_000_000, "the pauses between requests are not the target's time");
    }
}

#[tokio::test]
async fn ipv6_answers_where_there_is_any() {
    if tokio::net::UdpSocket::bind("[::1]:0").await.is_err() {
        return println!("SKIPPED: this machine has no IPv6");
    }
    let Some(attempt) = permitted("icmp: { host: \"::1\", count: 2, interval: 10ms }").await else { return };
    assert_eq!(attempt.outcome, Outcome::Up, "{attempt:?}");
    assert_eq!(attempt.icmp.unwrap().received, 2);
}

#[tokio::test]
async fn every_size_comes_back() {
    for size in [8, 56, 1_400, 20_000] {
        let Some(attempt) = permitted(&format!("icmp: {{ host: 127.0.0.1, size: {size} }}")).await else { return };
        assert_eq!(attempt.outcome, Outcome::Up, "{size}: {attempt:?}");
    }
}

#[tokio::test]
async fn many_attempts_at_once_take_nobody_else_s_replies() {
    let section = "icmp: { host: 127.0.0.1, count: 5, interval: 10ms, max_loss: 0 }";
    if permitted(section).await.is_none() {
        return;
    }
    let probe = probe(section);
    let attempts = futures_util::future::join_all((0..20).map(|_| attempt(probe.as_ref(), PATIENT))).await;
    for attempt in attempts {
        assert_eq!(attempt.outcome, Outcome::Up, "{attempt:?}");
        assert_eq!(attempt.icmp.unwrap().received, 5);
    }
}

#[tokio::test]
async fn jitter_beyond_the_allowed_is_down() {
    // Round trips of loopback differ by more than a microsecond within a hundred requests, or the machine is dreaming.
    let Some(attempt) = permitted("icmp: { host: 127.0.0.1, count: 100, interval: 10ms, max_jitter: 1us }").await else { return };
    let facts = attempt.icmp.unwrap();
    let wanted = if facts.jitter_us > 1 { Outcome::Down(Reason::IcmpJitter) } else { Outcome::Up };
    assert_eq!(attempt.outcome, wanted, "{facts:?}");
    assert_eq!((facts.sent, facts.received), (100, 100));
}

/// Tells the test below, run again in a network namespace of its own, what to look for there.
const INSIDE: &str = "WATCHKEEPER_TEST_NETWORK";

/// What `prepare` makes of a fresh network with nothing but loopback, and what an attempt must find in it.
const NETWORKS: &[(&str, &str, &str, Outcome)] = &[
    ("raw", "true", "127.0.0.1", Outcome::Up),
    ("datagram", "sysctl -qw net.ipv4.ping_group_range='0 2147483647'", "127.0.0.1", Outcome::Up),
    ("silent", "sysctl -qw net.ipv4.icmp_echo_ignore_all=1", "127.0.0.1", Outcome::Down(Reason::IcmpTimeout)),
    ("no route", "true", "198.51.100.1", Outcome::Unknown(Blind::NoRoute)),
    ("route without a way", "ip route add unreachable 198.51.100.1", "198.51.100.1", Outcome::Unknown(Blind::NoRoute)),
    ("denied", "exec_with='setpriv --bounding-set=-net_raw --inh-caps=-net_raw'", "127.0.0.1", Outcome::Unknown(Blind::Permission)),
];

#[test]
fn networks_of_our_own_show_every_socket_and_silence() {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    for (name, prepare, _, _) in NETWORKS {
        let script =
            format!("ip link set lo up || exit 77\n{prepare} || exit 77\nexec $exec_with \"$0\" --exact probe_icmp::inside --nocapture");
        let run = std::process::Command::new("unshare")
            .args(["--net", "sh", "-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env(INSIDE, name)
            .output();
        let Some(output) = run.ok().filter(|o| o.status.code() != Some(77) && !o.stderr.starts_with(b"unshare:")) else {
            let _ = writeln!(std::io::stderr(), "SKIPPED: no network namespaces here: icmp, {name}");
            continue;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{name}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Does nothing unless the test above runs it.
#[tokio::test]
async fn inside() {
    let Ok(network) = std::env::var(INSIDE) else { return };
    let (name, _, host, wanted) = NETWORKS.iter().find(|(name, ..)| *name == network).unwrap();
    let attempt = attempt(probe(&format!("icmp: {{ host: {host}, count: 2, interval: 10ms, wait: 100ms }}")).as_ref(), PATIENT).await;
    assert_eq!(attempt.outcome, *wanted, "{attempt:?}");
    let facts = attempt.icmp;
    match *name {
        "raw" | "datagram" => assert_eq!(facts.unwrap().socket, *name),
        "silent" => assert_eq!(facts.map(|f| (f.sent, f.received, f.loss_permille)), Some((2, 0, 1_000))),
        _ => assert_eq!(facts, None),
    }
}

#[tokio::test]
async fn a_guarded_monitor_pings_no_forbidden_address() {
    let net = Arc::new(Net::system(Clock::system()));
    let attempt = attempt_guarded(&net, probe("icmp: { host: 127.0.0.1 }").as_ref(), PATIENT, Guard::PublicOnly).await;
    assert_eq!(attempt.outcome, Outcome::Unknown(Blind::ForbiddenAddress));
}

#[test]
fn a_wrong_section_names_its_place_and_what_is_accepted() {
    for (section, wanted) in [
        ("icmp: {}", "`host` is missing"),
        ("icmp: { host: 'a:1' }", "test.yaml:1:15: found `a:1`; accepted: a host name or an address"),
        ("icmp: { host: a, count: 0 }", "found `0`; accepted: a whole number from 1 to 100"),
        ("icmp: { host: a, size: 65508 }", "found `65508`; accepted: a whole number from 8 to 65507"),
        ("icmp: { host: a, max_loss: 100 }", "found `100`; accepted: a whole number from 0 to 99"),
        ("icmp: { host: a, interval: 1ms }", "found `1ms`; accepted: a duration from 10ms to 10s"),
        ("icmp: { host: a, max_jiter: 1ms }", "did you mean `max_jitter`?"),
    ] {
        let problems = config(section).map(|_| ()).unwrap_err();
        assert!(problems.contains(wanted), "{section}\n{problems}");
    }
}
