//! `./prove detect`: a real nginx is killed; how long from the first failing attempt to the webhook and to Telegram, and
//! is each told exactly once that it went down and once that it came back?

use crate::Setup;
use crate::child::{Serve, free_port, get, pause, until};
use crate::nginx::Nginx;
use crate::report::Section;
use crate::standin::{Call, Provider, StandIn};
use crate::stats::{Random, percentile};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use watchkeeper::clock::Clock;
use watchkeeper_core::Micros;

const ROUNDS: u32 = 100;
/// So many nginx are killed side by side, each with its own monitor: the rounds do not touch each other.
const LANES: u32 = 10;
const RECHECK_S: u32 = 1;
const DOWN_AFTER: u32 = 3;
/// Beyond the checks themselves, the promise allows so much to decide, commit and hand over.
const ALLOWED: f64 = 1.0;
/// A round that takes longer has lost its message.
const ROUND_LIMIT: Duration = Duration::from_secs(30);

/// What one round measured, in seconds.
struct Round {
    /// From the first failing attempt to each provider.
    told: Vec<f64>,
    /// What the promise allows here: the re-checks, the attempts' own duration, and a second.
    allowed: f64,
    /// From the end of the deciding attempt to each provider.
    handed_over: Vec<f64>,
    /// From the start of nginx to the first word that it is back.
    resolved: f64,
}

/// Runs all rounds.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS).max(1);
    let what = format!(
        "A real nginx is killed (SIGKILL) at a random moment and started again; every 2 s, re-check every {RECHECK_S} s, down after {DOWN_AFTER} failures. \
         Webhook and Telegram stand-ins check the form of every call."
    );
    let mut section = Section::new("detect", what, rounds, &["time", "p50", "p99", "max"]);
    let dir = tempfile::tempdir()?;
    let clock = Clock::system();
    let told = StandIn::start(clock.clone())?;
    let lanes = LANES.min(rounds);
    let targets: Vec<Nginx> = (0..lanes).map(|n| Nginx::prepare(&dir.path().join(format!("nginx{n}")), None)).collect::<Result<_>>()?;
    let running: Vec<_> = targets.iter().map(Nginx::start).collect::<Result<_>>()?;
    let serve = start(setup, &targets, &told, dir.path())?;
    let token = std::fs::read_to_string(dir.path().join("watchkeeper.db.token")).context("reading the first token")?;
    let token = token.trim();
    // Every monitor has its first verdict.
    pause(Duration::from_secs(4));

    let results: Vec<Result<Vec<Round>>> = std::thread::scope(|scope| {
        let handles: Vec<_> = targets
            .iter()
            .zip(running)
            .zip(0_u32..)
            .map(|((nginx, guard), n)| {
                let share = rounds / lanes + u32::from(n < rounds % lanes);
                let random = Random::new(setup.seed.wrapping_add(u64::from(n)));
                let (told, clock, port) = (&told, &clock, serve.port);
                scope.spawn(move || lane(nginx, guard, &format!("nginx{n}"), share, random, told, clock, port, token))
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a lane panicked")))).collect()
    });
    let rounds: Vec<Round> = results.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    report(&mut section, &rounds, &told);
    serve.guard.stop(Duration::from_secs(20))?;
    Ok(section)
}

fn start(setup: &Setup, targets: &[Nginx], told: &StandIn, dir: &Path) -> Result<Serve> {
    let port = free_port()?;
    let mut config = format!(
        "server: {{ listen: 127.0.0.1:{port} }}\nstore: {{ url: \"sqlite://watchkeeper.db\" }}\n\
         defaults: {{ every: 2s, timeout: 1s, recheck: {RECHECK_S}s, down_after: {DOWN_AFTER}, flap_window: 0s }}\nchannels:\n"
    );
    // Channels of its own for each: what comes at once on one channel is told together, and what fails again soon flaps. Neither is
    // what is measured here.
    for n in 0..targets.len() {
        config.push_str(&told.hook(&format!("hook{n}")));
        config.push_str(&told.chat(&format!("chat{n}"), 100 + n as i64));
    }
    config.push_str("monitors:\n");
    for (n, nginx) in targets.iter().enumerate() {
        config.push_str(&format!(
            "  - {{ name: nginx{n}, notify: [hook{n}, chat{n}], probe: {{ http: {{ url: \"http://127.0.0.1:{}/\" }} }} }}\n",
            nginx.http
        ));
    }
    let file = dir.join("watchkeeper.yaml");
    std::fs::write(&file, config)?;
    Serve::start(&setup.binary, &file, port, None, Duration::from_secs(30))
}

#[expect(clippy::too_many_arguments, reason = "one lane is one straight script; a struct for its nine inputs would only rename them")]
fn lane(
    nginx: &Nginx,
    guard: crate::child::Guard,
    name: &str,
    rounds: u32,
    mut random: Random,
    told: &StandIn,
    clock: &Clock,
    port: u16,
    token: &str,
) -> Result<Vec<Round>> {
    let mut guard = Some(guard);
    let mut done = Vec::new();
    for nth in 0..rounds {
        pause(Duration::from_millis(random.below(2_500)));
        let killed = clock.now();
        drop(guard.take());
        let both = |opened: bool, since: Micros| {
            let calls: Vec<Call> =
                told.words(|c, word| word.monitor == name && word.opened == opened && c.at >= since).into_iter().map(|(c, _)| c).collect();
            let has = |p: Provider| calls.iter().any(|c| c.provider == p);
            (has(Provider::Webhook) && has(Provider::Telegram)).then_some(calls)
        };
        let opened = until(ROUND_LIMIT, &format!("telling that {name} is down (round {nth})"), || both(true, killed))?;
        // The heartbeats up to the decision are in the store: they were committed before anybody was told.
        let beats = get(port, &format!("/api/v1/monitors/{name}/heartbeats?limit=20"), Some(token))?;
        let failing = failing_since(&beats, killed)?;
        let back = clock.now();
        guard = Some(nginx.start()?);
        let resolved = until(ROUND_LIMIT, &format!("telling that {name} is back (round {nth})"), || both(false, back))?;
        let seconds = |from: Micros, to: Micros| (to - from).0 as f64 / 1e6;
        let durations: f64 = failing.iter().map(|(_, total)| *total as f64 / 1e6).sum();
        let (first, last) = (failing[0], failing[failing.len() - 1]);
        done.push(Round {
            told: opened.iter().map(|c| seconds(first.0, c.at)).collect(),
            allowed: f64::from((DOWN_AFTER - 1) * RECHECK_S) + durations + ALLOWED,
            handed_over: opened.iter().map(|c| seconds(Micros(last.0.0 + last.1), c.at)).collect(),
            resolved: resolved.iter().map(|c| seconds(back, c.at)).fold(f64::INFINITY, f64::min),
        });
        // Anything that is told twice is told within this.
        pause(Duration::from_secs(1));
        for opened in [true, false] {
            let calls = told.words(|c, word| word.monitor == name && word.opened == opened && c.at >= killed);
            anyhow::ensure!(
                calls.len() == 2,
                "{name}, round {nth}: {} calls instead of one webhook and one Telegram: {calls:?}",
                calls.len()
            );
        }
    }
    Ok(done)
}

/// Start and duration (µs) of the attempts that failed since then up to the one that decided, oldest first.
fn failing_since(beats: &str, since: Micros) -> Result<Vec<(Micros, i64)>> {
    let page: Value = serde_json::from_str(beats)?;
    let items = page["items"].as_array().context("the heartbeats have no items")?;
    let mut failing = Vec::new();
    for item in items.iter().filter(|i| i["outcome"] == "down") {
        let at: jiff::Timestamp = item["at"].as_str().context("a heartbeat without a time")?.parse()?;
        let total = item["total_us"].as_i64().context("a heartbeat without a duration")?;
        // An attempt under way at the kill fails too.
        if at.as_microsecond() + total >= since.0 {
            failing.push((Micros(at.as_microsecond()), total));
        }
    }
    failing.sort();
    failing.truncate(DOWN_AFTER as usize);
    anyhow::ensure!(
        failing.len() == DOWN_AFTER as usize,
        "{} failing heartbeats before the decision, expected {DOWN_AFTER}",
        failing.len()
    );
    Ok(failing)
}

fn report(section: &mut Section, rounds: &[Round], told: &StandIn) {
    let all = |f: fn(&Round) -> Vec<f64>| rounds.iter().flat_map(f).collect::<Vec<f64>>();
    let mut row = |name: &str, values: &[f64]| {
        let cell = |p: f64| format!("{:.3} s", percentile(values, p));
        section.row(vec![name.to_owned(), cell(50.0), cell(99.0), cell(100.0)]);
    };
    row("first failing attempt to being told down", &all(|r| r.told.clone()));
    row("end of the deciding attempt to being told down", &all(|r| r.handed_over.clone()));
    row("nginx started again to being told up", &all(|r| vec![r.resolved]));
    let late = rounds.iter().filter(|r| r.told.iter().any(|t| *t > r.allowed)).count();
    section.aim(
        late == 0,
        &format!(
            "{} of {} rounds told within ({DOWN_AFTER} − 1) × {RECHECK_S} s + the attempts' own duration + {ALLOWED} s",
            rounds.len() - late,
            rounds.len()
        ),
    );
    section.aim(true, "every round: exactly one webhook and one Telegram call when it went down, and one each when it came back");
    section.none(&told.malformed(), "calls with a wrong form");
}
