//! `./prove outage`: the database is away for ten minutes while 500 checks a second go on. What begins and ends meanwhile is told
//! meanwhile, every heartbeat arrives afterwards, and the node's memory does not grow with the outage: what it finds waits in files.

use crate::Setup;
use crate::child::{Serve, free_port, pause, until};
use crate::killing::{Target, check, incidents};
use crate::postgres::Postgres;
use crate::report::Section;
use crate::standin::StandIn;
use crate::stats::{rss_anon_mib, series_sum};
use anyhow::{Context, Result};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, Row};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use watchkeeper::clock::Clock;
use watchkeeper::store::IncidentView;

/// Every one of them is checked once a second.
const MONITORS: usize = 500;
/// The work before the outage, to compare the memory with.
const CALM: Duration = Duration::from_secs(30);
/// A round of the outage, and how many rounds it lasts: in each something goes down, is told, comes back and is told.
const ROUND: Duration = Duration::from_mins(1);
const ROUNDS: u32 = 10;
/// A change is told within this, though the node first has to find that its database is gone, and is lost if not within the second.
const TOLD_AIM: Duration = Duration::from_secs(10);
const TOLD_LIMIT: Duration = Duration::from_secs(60);
/// Everything must have come back within this.
const BACK_LIMIT: Duration = Duration::from_mins(3);
/// So much the memory may grow while the database is away.
const GROWTH_MAX_MIB: f64 = 16.0;
/// What is told of: goes down and comes back in each round, and stays down from the middle of the outage until after it.
const RESTLESS: &str = "restless";
const LASTING: &str = "lasting";

/// What is watched, by whom, and who is told.
struct Scene<'a> {
    serve: &'a Serve,
    told: &'a StandIn,
    clock: &'a Clock,
}

/// Runs it.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS).max(1);
    let what = format!(
        "{MONITORS} HTTP monitors, each every second, on PostgreSQL, which is killed (SIGKILL) and stays away for a round of {} s after the \
         other. In each round one more monitor goes down, is told, comes back and is told; another goes down in the first and comes back \
         after the last.",
        ROUND.as_secs()
    );
    let head = ["", "RssAnon at most", "waiting in the journal"];
    let mut section = Section::new("outage", what, rounds, &head);
    let dir = tempfile::tempdir()?;
    let mut postgres = Postgres::start(dir.path())?;
    let url = postgres.database("outage")?;
    let clock = Clock::system();
    let told = StandIn::start(clock.clone())?;
    let [many, restless, lasting] = [Target::start()?, Target::start()?, Target::start()?];
    let serve = start(setup, &url, &told, [&many, &restless, &lasting], dir.path())?;
    let scene = Scene { serve: &serve, told: &told, clock: &clock };

    let calm = scene.watch(CALM)?;
    section.row(vec!["before".into(), format!("{calm:.1} MiB"), "0 MB".into()]);
    postgres.down("KILL")?;
    let (mut largest, mut slowest) = (0.0_f64, Duration::ZERO);
    for round in 1..=rounds {
        let began = Instant::now();
        if round == 1 {
            slowest = slowest.max(scene.change(&lasting, LASTING, true)?);
        }
        for down in [true, false] {
            slowest = slowest.max(scene.change(&restless, RESTLESS, down)?);
        }
        let memory = scene.watch(ROUND.saturating_sub(began.elapsed()))?;
        largest = largest.max(memory);
        let waits = series_sum(&serve.metrics()?, "watchkeeper_journal_bytes") / 1e6;
        section.row(vec![format!("away, {} min", round), format!("{memory:.1} MiB"), format!("{waits:.1} MB")]);
    }
    postgres.up()?;
    let began = Instant::now();
    until(BACK_LIMIT, "giving the journal back", || {
        let metrics = serve.metrics().ok()?;
        (series_sum(&metrics, "watchkeeper_journal_bytes") == 0.0).then_some(())
    })?;
    let back = began.elapsed();
    let memory = scene.watch(Duration::from_secs(10))?;
    largest = largest.max(memory);
    section.row(vec!["back".into(), format!("{memory:.1} MiB"), "0 MB".into()]);
    slowest = slowest.max(scene.change(&lasting, LASTING, false)?);
    let dropped = series_sum(&serve.metrics()?, "watchkeeper_heartbeats_dropped_total");
    anyhow::ensure!(serve.guard.stop(Duration::from_secs(30))?, "watchkeeper did not end well");

    section.aim(
        largest - calm < GROWTH_MAX_MIB,
        &format!("{:.1} MiB more than before at most, aim under {GROWTH_MAX_MIB} MiB", largest - calm),
    );
    section.aim(
        slowest <= TOLD_AIM,
        &format!(
            "every beginning and end told within {:.1} s, also while the database was away, aim {} s",
            slowest.as_secs_f64(),
            TOLD_AIM.as_secs()
        ),
    );
    section.notes.push(format!("Everything had come back {:.1} s after the database.", back.as_secs_f64()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(judge(&mut section, &url, rounds, dropped))?;
    section.none(&twice(&runtime.block_on(incidents(&url))?, &told), "messages that were told twice or of no incident");
    section.none(&told.malformed(), "calls with a wrong form");
    Ok(section)
}

fn start(setup: &Setup, url: &str, told: &StandIn, [many, restless, lasting]: [&Target; 3], dir: &Path) -> Result<Serve> {
    let port = free_port()?;
    let mut config = format!(
        "server: {{ listen: \"127.0.0.1:{port}\" }}\nstore: {{ url: \"{url}\" }}\nchannels:\n{}\
         defaults: {{ every: 1s, timeout: 1s, recheck: 1s, down_after: 2, flap_window: 0s, notify: [hook] }}\nmonitors:\n",
        told.hook("hook")
    );
    let bulk = (0..MONITORS).map(|n| (format!("m{n}"), many));
    for (name, target) in bulk.chain([(RESTLESS.to_owned(), restless), (LASTING.to_owned(), lasting)]) {
        config.push_str(&format!("  - {{ name: {name}, probe: {{ http: {{ url: \"{}\" }} }} }}\n", target.url()));
    }
    let file = dir.join("watchkeeper.yaml");
    std::fs::write(&file, config)?;
    Serve::start(&setup.binary, &file, port, None, Duration::from_mins(1))
}

impl Scene<'_> {
    /// The most memory within that time, looked at every half second, in MiB.
    fn watch(&self, time: Duration) -> Result<f64> {
        let end = Instant::now() + time;
        let mut most = rss_anon_mib(self.serve.guard.pid())?;
        while Instant::now() < end {
            pause(Duration::from_millis(500));
            most = most.max(rss_anon_mib(self.serve.guard.pid())?);
        }
        Ok(most)
    }

    /// Takes a target down or up, and waits until that was told; how long it took.
    fn change(&self, target: &Target, name: &str, down: bool) -> Result<Duration> {
        let (since, began) = (self.clock.now(), Instant::now());
        target.down.store(down, Ordering::Relaxed);
        let what = format!("telling that {name} is {}", if down { "down" } else { "up" });
        until(TOLD_LIMIT, &what, || {
            self.told.heard(|call, word| word.monitor == name && word.opened == down && call.at >= since).then_some(())
        })?;
        Ok(began.elapsed())
    }
}

/// Whether everything is there: a heartbeat for each second of each monitor, and an incident for each time something was down.
async fn judge(section: &mut Section, url: &str, rounds: u32, dropped: f64) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let row = connection
        .fetch_one(
            "SELECT count(*)::int8, count(*) FILTER (WHERE gap > 2000000)::int8 FROM
             (SELECT at - lag(at) OVER (PARTITION BY monitor_id ORDER BY at) AS gap FROM wk_beat) AS b",
        )
        .await
        .context("counting heartbeats")?;
    let (beats, holes): (i64, i64) = (row.get(0), row.get(1));
    connection.close().await?;
    let least = MONITORS as i64 * i64::from(rounds) * ROUND.as_secs() as i64;
    section.aim(
        beats >= least && dropped == 0.0,
        &format!("{beats} heartbeats are there, at least {least} were due; {dropped} were dropped, aim none"),
    );
    section.aim(holes == 0, &format!("{holes} times a monitor was not looked at for two seconds, aim never"));
    let all = incidents(url).await?;
    let of = |name: &str| all.iter().filter(|incident| incident.monitor == name && incident.resolved_at.is_some()).count();
    section.aim(
        all.len() == rounds as usize + 1 && of(RESTLESS) == rounds as usize && of(LASTING) == 1,
        &format!("{} times down, {} incidents, all of them over", rounds + 1, all.len()),
    );
    section.none(&check(url).await?, "faults in the integrity check");
    Ok(())
}

/// Words that came more than once, or of an incident that is not in the store.
fn twice(incidents: &[IncidentView], told: &StandIn) -> Vec<String> {
    let words = told.words(|_, _| true);
    let strangers = words.iter().filter(|(_, word)| !incidents.iter().any(|incident| incident.uid == word.incident));
    let mut wrong: Vec<String> = strangers.map(|(_, word)| format!("{} of unknown {}", word.monitor, word.incident)).collect();
    for incident in incidents {
        for opened in [true, false] {
            let count = words.iter().filter(|(_, word)| word.incident == incident.uid && word.opened == opened).count();
            if count != 1 {
                wrong.push(format!("{} {} {}: {count} times", incident.monitor, incident.uid, if opened { "opened" } else { "resolved" }));
            }
        }
    }
    wrong
}
