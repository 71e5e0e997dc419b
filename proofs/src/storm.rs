//! `./prove storm`: a thousand monitors go down at once, and come back at once. Each channel gets a handful of messages within
//! its provider's limits, every incident is told, and checks start as punctually as before.

use crate::Setup;
use crate::child::{Serve, free_port, pause, until};
use crate::killing::{Target, check, incidents};
use crate::report::Section;
use crate::standin::{Call, StandIn};
use crate::stats::{histogram_percentile, series_sum};
use anyhow::Result;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use watchkeeper::clock::Clock;
use watchkeeper::store::IncidentView;
use watchkeeper_core::{Dur, Micros};

const MONITORS: u32 = 1_000;
const EVERY: Duration = Duration::from_secs(10);
/// Checks are watched for so long when all is well, to compare with.
const CALM: Duration = Duration::from_secs(30);
/// A storm that is not told within this is lost.
const LIMIT: Duration = Duration::from_mins(5);
/// A handful: more would be what a storm must not be.
const MESSAGES_MAX: usize = 30;
/// Checks start late for other reasons too; below this nobody minds.
const LAG_MAX: f64 = 0.1;
/// Telegram's limits for a group: so many within so long.
const GROUP_LIMITS: [(usize, Dur); 2] = [(1, Dur::secs(1)), (20, Dur::secs(60))];
/// What our clock and theirs, and the network between, may move a message by.
const LEEWAY: Dur = Dur::millis(50);

/// One change of everything at once.
struct Storm {
    name: &'static str,
    /// From the change to the last message.
    took: f64,
    /// Upper bound of the start lag's 99th percentile, in seconds.
    lag: f64,
    hook: Vec<Call>,
    group: Vec<Call>,
}

/// Runs the storm.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(1).max(1);
    let what = format!(
        "{MONITORS} HTTP monitors every {} s on SQLite; their common target fails at once and comes back at once. Told are a webhook and a \
         Telegram group (1/s, 20/min).",
        EVERY.as_secs()
    );
    let head =
        ["", "start lag p99 at most", "told after", "messages to the webhook", "messages to the group", "incidents told to the webhook"];
    let mut section = Section::new("storm", what, rounds, &head);
    for round in 0..rounds {
        let dir = tempfile::tempdir()?;
        storm(&mut section, setup, dir.path(), round)?;
    }
    Ok(section)
}

fn storm(section: &mut Section, setup: &Setup, dir: &Path, round: u32) -> Result<()> {
    let clock = Clock::system();
    let told = StandIn::start(clock.clone())?;
    let target = Target::start()?;
    let serve = start(setup, &told, &target, dir)?;
    // Every monitor has been checked, and nothing is done for the first time.
    pause(EVERY + Duration::from_secs(2));
    let before = serve.metrics()?;
    pause(CALM);
    let after = serve.metrics()?;
    let (calm, checks) = histogram_percentile(&before, &after, "watchkeeper_check_lag_seconds", 99.0);
    let late = |lag: f64| format!("{:.0} ms", lag * 1e3);
    section.row(vec![format!("calm ({checks:.0} checks)"), late(calm), String::new(), String::new(), String::new(), String::new()]);
    for (name, down) in [("all down", true), ("all up again", false)] {
        let storm = change(&serve, &told, &target, &clock, name, down)?;
        let incidents: u64 = storm.hook.iter().map(|call| call.incidents).sum();
        section.row(vec![
            name.to_owned(),
            late(storm.lag),
            format!("{:.0} s", storm.took),
            storm.hook.len().to_string(),
            storm.group.len().to_string(),
            incidents.to_string(),
        ]);
        judge(section, &storm, calm, incidents);
    }
    let missed = series_sum(&serve.metrics()?, "watchkeeper_missed_windows_total");
    section.aim(missed == 0.0, &format!("round {round}: {missed:.0} windows missed, aim none"));
    anyhow::ensure!(serve.guard.stop(Duration::from_secs(30))?, "watchkeeper did not end well");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = format!("sqlite://{}", dir.join("watchkeeper.db").display());
    section.none(&runtime.block_on(check(&url))?, "faults in the integrity check");
    let untold: Vec<String> = runtime.block_on(incidents(&url))?.iter().flat_map(untold).collect();
    section.none(&untold, &format!("notices of {MONITORS} incidents that no channel took"));
    section.none(&told.malformed(), "calls with a wrong form");
    Ok(())
}

fn start(setup: &Setup, told: &StandIn, target: &Target, dir: &Path) -> Result<Serve> {
    let port = free_port()?;
    let mut config = format!(
        "server: {{ listen: 127.0.0.1:{port} }}\nstore: {{ url: sqlite://watchkeeper.db }}\nchannels:\n{}{}\
         defaults: {{ every: {}s, timeout: 5s, down_after: 1, notify: [hook, group] }}\nmonitors:\n",
        told.hook("hook"),
        told.chat("group", -100),
        EVERY.as_secs()
    );
    for nth in 0..MONITORS {
        config.push_str(&format!("  - {{ name: m{nth}, probe: {{ http: {{ url: \"{}\" }} }} }}\n", target.url()));
    }
    let file = dir.join("watchkeeper.yaml");
    std::fs::write(&file, config)?;
    Serve::start(&setup.binary, &file, port, None, Duration::from_mins(1))
}

/// Switches the target, and waits until every incident has changed and nothing waits to be told.
fn change(serve: &Serve, told: &StandIn, target: &Target, clock: &Clock, name: &'static str, down: bool) -> Result<Storm> {
    let (since, before) = (clock.now(), serve.metrics()?);
    target.down.store(down, Ordering::Relaxed);
    let open = f64::from(if down { MONITORS } else { 0 });
    let mut after = String::new();
    until(LIMIT, &format!("telling that {name}"), || {
        // The outbox's gauge is a few seconds old: it must have been brought up to date since the last incident.
        pause(Duration::from_secs(1));
        after = serve.metrics().ok()?;
        let steady = (series_sum(&after, "watchkeeper_incidents_open") - open).abs() < 0.5;
        let counted: u64 = told.calls(|call| call.channel == "hook" && call.at >= since).iter().map(|call| call.incidents).sum();
        (steady && counted >= u64::from(MONITORS) && series_sum(&after, "watchkeeper_outbox_depth") == 0.0).then_some(())
    })?;
    let of = |channel: &str| told.calls(|call| call.channel == channel && call.at >= since);
    let (hook, group) = (of("hook"), of("-100"));
    let last = hook.iter().chain(&group).map(|call| call.at).max().unwrap_or(since);
    let (lag, _) = histogram_percentile(&before, &after, "watchkeeper_check_lag_seconds", 99.0);
    Ok(Storm { name, took: (last - since).0 as f64 / 1e6, lag, hook, group })
}

fn judge(section: &mut Section, storm: &Storm, calm: f64, incidents: u64) {
    let name = storm.name;
    for (channel, calls) in [("webhook", &storm.hook), ("group", &storm.group)] {
        section.aim(
            calls.len() <= MESSAGES_MAX,
            &format!("{name}: {} messages to the {channel} for {MONITORS} incidents, aim at most {MESSAGES_MAX}", calls.len()),
        );
    }
    let at: Vec<Micros> = storm.group.iter().map(|call| call.at).collect();
    for (most, window) in GROUP_LIMITS {
        let crowded = at.windows(most + 1).filter(|few| few[most] - few[0] + LEEWAY < window).count();
        section.aim(
            crowded == 0,
            &format!("{name}: the group got more than {most} messages within {} s {crowded} times, aim never", window.0 / 1_000_000),
        );
    }
    section.aim(incidents == u64::from(MONITORS), &format!("{name}: {incidents} of {MONITORS} incidents told to the webhook"));
    section.aim(
        storm.lag <= calm.max(LAG_MAX),
        &format!("{name}: start lag p99 within the {:.0} ms bucket, {:.0} ms in the calm before", storm.lag * 1e3, calm * 1e3),
    );
}

/// Notices that no channel took, with what became of them.
fn untold(incident: &IncidentView) -> Vec<String> {
    let untold = incident.notices.iter().filter(|notice| notice.state != "sent");
    untold.map(|notice| format!("{} {} to {}: {} {:?}", incident.monitor, notice.event, notice.channel, notice.state, notice.why)).collect()
}
