//! `./prove crash`: the shipped binary is killed (SIGKILL) at random moments while targets go down and come back. After
//! every kill the store opens and passes its integrity check; at the end every time a target was down is exactly one
//! incident, and each was told, to both webhooks, that it began and that it ended.

use crate::Setup;
use crate::killing::{HOOKS, Killing, Target, check, incidents};
use crate::postgres::Postgres;
use crate::report::Section;
use crate::standin::{Call, StandIn, Word};
use crate::stats::percentile;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::{Duration, Instant};
use watchkeeper::clock::Clock;
use watchkeeper::store::IncidentView;

const ROUNDS: u32 = 200;
/// So many targets go down and come back, each at its own pace.
const TARGETS: usize = 6;
const LIFE_MAX: Duration = Duration::from_millis(2_500);
const TOLD_LIMIT: Duration = Duration::from_mins(2);

/// Runs the rounds on both stores.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS);
    let what = format!(
        "`watchkeeper serve` is killed (SIGKILL) after a random time of up to {} ms and started again, while {TARGETS} targets go down and \
         come back. After each kill the store is opened and its integrity check run.",
        LIFE_MAX.as_millis()
    );
    let head = ["store", "kills", "times down", "incidents", "told twice", "open + check p50", "p99"];
    let mut section = Section::new("crash", what, rounds, &head);
    let dir = tempfile::tempdir()?;
    let sqlite = format!("sqlite://{}", dir.path().join("watchkeeper.db").display());
    on_store(&mut section, setup, "SQLite", &sqlite, rounds, &dir.path().join("sqlite"))?;
    match Postgres::start(dir.path()) {
        Ok(postgres) => {
            let url = postgres.database("crash")?;
            on_store(&mut section, setup, "PostgreSQL", &url, rounds, &dir.path().join("pg"))?;
        }
        Err(error) => section.aim(false, &format!("PostgreSQL was not proved: {error:#}")),
    }
    Ok(section)
}

fn on_store(section: &mut Section, setup: &Setup, name: &str, url: &str, rounds: u32, dir: &Path) -> Result<()> {
    let clock = Clock::system();
    let told = StandIn::start(clock.clone())?;
    let targets: Vec<Target> = (0..TARGETS).map(|_| Target::start()).collect::<Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut checks, mut broken) = (Vec::new(), Vec::new());
    let killing = Killing {
        setup,
        url,
        dir,
        told: &told,
        clock: &clock,
        targets: &targets,
        kills: rounds,
        life_max: LIFE_MAX,
        told_limit: TOLD_LIMIT,
        seed: setup.seed,
    };
    killing.run(|nth| {
        let began = Instant::now();
        let found = runtime.block_on(check(url)).with_context(|| format!("opening the store after kill {nth}"))?;
        checks.push(began.elapsed().as_secs_f64());
        broken.extend(found.into_iter().map(|problem| format!("after kill {nth}: {problem}")));
        Ok(())
    })?;
    broken.extend(runtime.block_on(check(url))?);
    let incidents = runtime.block_on(incidents(url))?;
    let downs: u64 = targets.iter().map(Target::downs).sum();
    let (missing, twice) = judge(&incidents, &told);
    let cell = |p: f64| format!("{:.0} ms", percentile(&checks, p) * 1e3);
    section.row(vec![
        name.to_owned(),
        rounds.to_string(),
        downs.to_string(),
        incidents.len().to_string(),
        twice.to_string(),
        cell(50.0),
        cell(99.0),
    ]);
    section.none(&broken, &format!("{name}: faults in the integrity check after each of {rounds} kills"));
    let each = targets.iter().enumerate().all(|(n, t)| {
        let name = format!("t{n}");
        incidents.iter().filter(|incident| incident.monitor == name).count() as u64 == t.downs()
    });
    section.aim(each, &format!("{name}: every time down is exactly one incident ({downs} times, {} incidents)", incidents.len()));
    section.none(&missing, &format!("{name}: messages to either webhook, of a beginning or an end, that were never sent"));
    section.notes.push(format!(
        "{name}: {twice} messages were told twice (a kill between the provider's acceptance and its record; at least once is the promise)."
    ));
    Ok(())
}

/// What was never told, and how many words came more than once.
fn judge(incidents: &[IncidentView], told: &StandIn) -> (Vec<String>, usize) {
    let words = told.words(|_, _| true);
    let (mut missing, mut twice) = (Vec::new(), 0);
    for incident in incidents {
        for hook in HOOKS {
            for opened in [true, false] {
                let same = |(c, word): &&(Call, Word)| word.incident == incident.uid && c.channel == hook && word.opened == opened;
                match words.iter().filter(same).count() {
                    0 => {
                        let event = if opened { "opened" } else { "resolved" };
                        missing.push(format!("{} {} {hook} {event}", incident.monitor, incident.uid));
                    }
                    n => twice += n - 1,
                }
            }
        }
    }
    (missing, twice)
}
