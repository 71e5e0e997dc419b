//! What a configuration means: what monitors inherit, what counts as a change, what is never shown, and that no input breaks it.

use proptest::prelude::*;
use std::fmt::Write as _;
use std::sync::Arc;
use watchkeeper::config::{self, Config, MonitorConfig};
use watchkeeper::spec::{self, Fleet};
use watchkeeper::store::{Applied, AppliedMonitor, AppliedTenant};
use watchkeeper_core::{ChannelId, Dur, Micros, MonitorId, TenantId, Trigger};

const SECRET: &str = "s3cr3t-w0rd";

fn env(name: &str) -> Option<String> {
    match name {
        "HIDDEN" => Some(SECRET.to_owned()),
        _ => None,
    }
}

fn load(text: &str) -> Result<Config, String> {
    config::load_texts(&[("f.yaml".to_owned(), text.as_bytes().to_vec())], &env).map_err(|bad| bad.to_string())
}

fn monitor(text: &str) -> MonitorConfig {
    load(text).unwrap_or_else(|problems| panic!("{problems}\n{text}")).tenants[0].monitors[0].clone()
}

const PUSH: &str = "probe: { push: { expect_every: 1h } }";
const HTTP: &str = "probe: { http: { url: 'http://127.0.0.1:1/' } }";

#[test]
fn what_a_monitor_says_wins_over_defaults_and_those_over_the_program() {
    let m = monitor(&format!("monitors: [ {{ name: m, {HTTP} }} ]"));
    assert_eq!((m.timeout, m.down_after, m.up_after, m.cadence.recheck), (Dur::secs(10), 3, 1, Dur::secs(5)));
    let defaults = "defaults: { every: 30s, timeout: 20s, down_after: 5, recheck: 10s }\n";
    let m = monitor(&format!("{defaults}monitors: [ {{ name: m, {HTTP}, down_after: 2 }} ]"));
    assert_eq!((m.timeout, m.down_after, m.cadence.recheck), (Dur::secs(20), 2, Dur::secs(10)));
    // What is inherited is shortened to `every`; so a fast monitor needs not repeat it.
    let m = monitor(&format!("{defaults}monitors: [ {{ name: m, {HTTP}, every: 3s }} ]"));
    assert_eq!((m.timeout, m.cadence.recheck), (Dur::secs(3), Dur::secs(3)));
}

#[test]
fn alerts_are_inherited_as_far_as_they_fit() {
    let keys = |m: &MonitorConfig| m.alerts.iter().map(config::AlertConfig::key).collect::<Vec<_>>();
    assert_eq!(keys(&monitor(&format!("monitors: [ {{ name: m, {HTTP} }} ]"))), ["down"]);
    assert_eq!(keys(&monitor(&format!("monitors: [ {{ name: m, {PUSH} }} ]"))), ["down", "missed_push"]);
    let defaults = "defaults: { alerts: [ { down: {} }, { ssl_expiry: {} }, { slow_response: { above: 1s, phase: first_byte } } ] }\n";
    let m = monitor(&format!("{defaults}monitors: [ {{ name: m, {HTTP} }} ]"));
    assert_eq!(keys(&m), ["down", "ssl_expiry", "slow_response/first_byte"]);
    assert!(matches!(m.alerts[2].kind.trigger(), Trigger::Above { limit: 1_000_000, n: 3, of: 5, .. }));
    assert_eq!(keys(&monitor(&format!("{defaults}monitors: [ {{ name: m, {PUSH} }} ]"))), ["down", "missed_push"]);
    assert_eq!(keys(&monitor(&format!("{defaults}monitors: [ {{ name: m, {HTTP}, alerts: [ {{ blind: {{}} }} ] }} ]"))), ["blind"]);
}

const CHANNELS: &str =
    "channels: [ { name: a, webhook: { url: 'http://127.0.0.1:1/' } }, { name: b, webhook: { url: 'http://127.0.0.1:2/' } } ]\n";

#[test]
fn who_is_told() {
    let told = |rest: &str| {
        let m = monitor(&format!("{CHANNELS}{rest}"));
        m.alerts[0].notify.iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(told(&format!("monitors: [ {{ name: m, {HTTP} }} ]")), "a b");
    assert_eq!(told(&format!("monitors: [ {{ name: m, {HTTP}, notify: [] }} ]")), "");
    assert_eq!(told(&format!("defaults: {{ notify: b }}\nmonitors: [ {{ name: m, {HTTP} }} ]")), "b");
    assert_eq!(told(&format!("defaults: {{ notify: b }}\nmonitors: [ {{ name: m, {HTTP}, notify: [a, a] }} ]")), "a");
    let own = "alerts: [ { down: {}, notify: [b] } ]";
    assert_eq!(told(&format!("monitors: [ {{ name: m, {HTTP}, notify: [a], {own} }} ]")), "b");
}

#[test]
fn only_what_changes_a_monitor_changes_its_hash() {
    let base = format!("monitors: [ {{ name: m, {HTTP}, every: 30s }} ]");
    let hash = |text: &str| monitor(text).hash;
    let same = [
        format!("# a comment\n\n{base}"),
        format!("monitors:\n- every: 30s\n  name: m\n  {HTTP}\n"),
        format!("defaults: {{ cron: '* * * * *' }}\n{base}"),
        format!("{base}\nserver: {{ listen: 127.0.0.1:1 }}"),
    ];
    for text in same {
        assert_eq!(hash(&text), hash(&base), "{text}");
    }
    let other = [
        format!("defaults: {{ down_after: 2 }}\n{base}"),
        format!("{CHANNELS}{base}"),
        base.replace("30s", "31s"),
        base.replace("name: m", "name: m, paused: true"),
        base.replace("127.0.0.1:1/", "127.0.0.1:1/x"),
    ];
    for text in other {
        assert_ne!(hash(&text), hash(&base), "{text}");
    }
}

#[test]
fn a_new_secret_in_a_file_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let (file, secret) = (folder.path().join("f.yaml"), folder.path().join("word"));
    std::fs::write(&file, "monitors: [ { name: m, probe: { http: { url: 'http://127.0.0.1:1/', bearer_token_file: word } } } ]").unwrap();
    std::fs::write(&secret, "one\n").unwrap();
    let first = config::load(Some(&file), &env).unwrap();
    std::fs::write(&secret, "two\n").unwrap();
    let second = config::load(Some(&file), &env).unwrap();
    assert_ne!(first.hash, second.hash);
    assert_ne!(first.tenants[0].monitors[0].hash, second.tenants[0].monitors[0].hash);
}

/// Secrets in every place that may hold one: neither the debug form of the whole, nor what is stored and shown, has them.
#[test]
fn secrets_are_shown_nowhere() {
    let text = format!(
        "server: {{ metrics_token: {SECRET}, dead_man: {{ url: 'http://127.0.0.1:1/{SECRET}' }} }}
store: {{ url: 'postgres://u:{SECRET}@h/d' }}
channels:
  - {{ name: t, telegram: {{ bot_token: '123456:AAAAAAAAAAAAAAAAAAAAAAAAAAA{SECRET}', chat_id: -100 }} }}
  - {{ name: w, webhook: {{ url: 'http://127.0.0.1:1/{SECRET}', headers: {{ X-A: {SECRET} }}, secret: '${{HIDDEN}}', body: '\"key={SECRET}\"' }} }}
  - {{ name: d, discord: {{ url: 'https://discord.com/api/webhooks/123/{SECRET}' }} }}
  - {{ name: e, email: {{ host: smtp.example.org, username: u, password: '${{HIDDEN}}', from: a@example.org, to: b@example.org }} }}
monitors:
  - name: m
    probe:
      http:
        url: 'https://u:{SECRET}@example.org/?api_key={SECRET}'
        headers: {{ Authorization: Basic {SECRET} , X-Env: '${{HIDDEN}}' }}
        body: 'password={SECRET}'
        proxy: 'http://u:{SECRET}@proxy.example.org:1'
  - {{ name: n, probe: {{ http: {{ url: 'http://127.0.0.1:1/', bearer_token: {SECRET} }} }} }}
  - {{ name: o, probe: {{ http: {{ url: 'http://127.0.0.1:1/', basic_auth: {{ username: u, password: '${{HIDDEN}}' }} }} }} }}
"
    );
    let config = load(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let objects = spec::objects(&config).unwrap();
    assert!(objects[0].monitors[0].config.contains("***"), "{}", objects[0].monitors[0].config);
    assert!(objects[0].monitors[0].config.contains("${HIDDEN}"), "{}", objects[0].monitors[0].config);
    for shown in [format!("{objects:?}"), format!("{config:?}")] {
        let at = shown.find(SECRET);
        assert!(at.is_none(), "{}", &shown[at.unwrap_or(0).saturating_sub(200)..at.unwrap_or(0) + 20]);
    }
}

#[test]
fn problems_never_show_what_a_variable_held() {
    let text = "server: { listen: '${HIDDEN}', metrics_token: { a: '${HIDDEN}' } }
store: { url: '${HIDDEN}' }
channels: [ { name: '${HIDDEN} ', telegram: { bot_token: '${HIDDEN}', chat_id: '${HIDDEN}' } }, { name: w, webhook: { url: '${HIDDEN}', timeout: '${HIDDEN}' } } ]
defaults: { every: '${HIDDEN}', notify: ['${HIDDEN}'], quorum: '${HIDDEN}', zone: '${HIDDEN}' }
monitors: [ { name: m, labels: { a: ['${HIDDEN}'] }, probe: { http: { url: '${HIDDEN}', basic_auth: '${HIDDEN}' } }, alerts: '${HIDDEN}' } ]
";
    let problems = load(text).unwrap_err();
    assert!(problems.lines().count() >= 14, "{problems}");
    assert!(!problems.contains(SECRET), "{problems}");
}

/// The ids that a store would give, in order.
fn applied(config: &Config) -> Applied {
    let mut next = 0;
    let mut id = || {
        next += 1;
        next
    };
    let tenants = config.tenants.iter().map(|tenant| AppliedTenant {
        tenant: TenantId(id()),
        channels: tenant.channels.iter().map(|_| ChannelId(id())).collect(),
        monitors: tenant
            .monitors
            .iter()
            .map(|m| AppliedMonitor { id: MonitorId(m.name.bytes().fold(1_000, |n, b| n * 7 + i64::from(b))), ..AppliedMonitor::default() })
            .collect(),
    });
    Applied { tenants: tenants.collect(), ..Applied::default() }
}

#[test]
fn a_reload_keeps_the_very_monitors_that_did_not_change() {
    let build = |text: &str, previous: &Fleet| {
        let config = load(text).unwrap();
        spec::build(&config, &applied(&config), previous, 16, Micros(0))
    };
    let rest = format!("{{ name: same, {HTTP}, cron: '*/5 * * * *' }}, {{ name: route, {HTTP}, notify: a }}");
    let before = build(&format!("{CHANNELS}monitors: [ {{ name: other, {HTTP} }}, {rest} ]"), &Fleet::default());
    let after = build(&format!("{CHANNELS}# moved\nmonitors: [ {rest}, {{ name: other, {HTTP}, every: 31s }} ]"), &before);
    for (id, spec) in after.0.iter() {
        assert_eq!(Arc::ptr_eq(spec, &before.0[id]), spec.name != "other", "{}", spec.name);
    }
    // The same name, but another channel: whom the rule tells has changed.
    let swapped = CHANNELS.replace("name: a,", "name: x,").replace("name: b,", "name: a,");
    let moved = build(&format!("{swapped}monitors: [ {{ name: other, {HTTP} }}, {rest} ]"), &before);
    let route = moved.0.values().find(|s| s.name == "route").unwrap();
    assert!(!Arc::ptr_eq(route, &before.0[&route.id]));
    assert!(before.0.values().all(|s| s.shard < 16 && s.sight.vote_lasts >= Dur::secs(180)));
}

#[test]
fn ten_thousand_monitors_load() {
    let mut text = String::from(CHANNELS);
    text.push_str("monitors:\n");
    for n in 0..10_000 {
        let _ = writeln!(text, "  - name: m{n}\n    labels: {{ team: web }}\n    every: 10s\n    {HTTP}");
    }
    assert_eq!(load(&text).unwrap().tenants[0].monitors.len(), 10_000);
}

/// Text that is near to a configuration: pieces of good ones, cut, doubled and mixed with what hurts parsers.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let good = include_str!("config/good/design.yaml").as_bytes().to_vec();
    let hurts: [&[u8]; 16] =
        [b"\t", b"\xff", b"&a ", b"*a", b"!!x ", b"---\n", b"${", b"}", b"[[[[", b"? ", b"- ", b": ", b"\0", b"\xef\xbb\xbf", b"|", b"\""];
    let edit = (any::<prop::sample::Index>(), 0..60_usize, prop::sample::select(hurts.to_vec()));
    prop::collection::vec(edit, 0..8).prop_map(move |edits| {
        let mut bytes = good.clone();
        for (at, cut, insert) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, insert.iter().copied());
        }
        bytes
    })
}

/// Either a configuration or at least one problem, each within the text.
fn either(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let lines = bytes.iter().filter(|b| matches!(b, b'\n' | b'\r')).count() as u32 + 2;
    if let Err(bad) = config::load_texts(&[("f.yaml".to_owned(), bytes)], &env) {
        prop_assert!(!bad.problems.is_empty());
        for problem in &bad.problems {
            prop_assert!(problem.at.line <= lines, "{problem}");
        }
        prop_assert!(!bad.pretty().is_empty() && bad.to_json()["problems"].is_array());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_a_configuration_or_problems(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        either(bytes)?;
    }

    #[test]
    fn any_yaml_like_text_gives_a_configuration_or_problems(text in "([ \\t\\n:\\-?\\[\\]{},&*!|>'\"%#@~$a]|\n  |\\$\\{A\\}){0,80}") {
        either(text.into_bytes())?;
    }

    #[test]
    fn a_damaged_file_gives_a_configuration_or_problems(bytes in mutated()) {
        either(bytes)?;
    }

    #[test]
    fn durations_are_read_back_as_they_are_shown(us in 0_i64..4_000_000_000_000_000) {
        prop_assert_eq!(config::decode::parse_duration(&config::decode::show_duration(Dur(us))), Some(Dur(us)));
    }
}
