//! `./prove alerts`: the shipped binary is killed (SIGKILL) at random moments while alerts are on their way to webhooks that
//! take a message, answer 429 or 500, hang, or cut the connection. Nothing is lost, a kill makes at most one message per webhook
//! come twice, and nobody hears of an end before its beginning.

use crate::Setup;
use crate::killing::{HOOKS, Killing, Target, check, incidents};
use crate::postgres::Postgres;
use crate::report::Section;
use crate::standin::{Call, Mood, StandIn};
use crate::stats::Random;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use watchkeeper::clock::Clock;
use watchkeeper::store::IncidentView;
use watchkeeper_core::{Dur, Micros};

/// So many kills on each store.
const ROUNDS: u32 = 1_000;
/// So many installations are killed side by side, each with a store and webhooks of its own: a thousand kills then take minutes.
const LANES: u32 = 8;
/// So many targets of each go down and come back.
const TARGETS: usize = 4;
const LIFE_MAX: Duration = Duration::from_secs(2);
/// A message that is refused, hung up on and killed several times in a row waits minutes for its next attempt.
const TOLD_LIMIT: Duration = Duration::from_mins(15);
/// Of a hundred messages so many meet each mood; the others are taken.
const TOO_MANY: u64 = 8;
const FAILS: u64 = 8;
const CUTS: u64 = 8;
const HANGS: u64 = 6;
/// What a killed process had sent is read by the webhook within this.
const IN_FLIGHT: Dur = Dur::millis(100);

/// What one lane found.
#[derive(Default)]
struct Found {
    kills: u64,
    downs: u64,
    incidents: u64,
    taken: u64,
    digests: u64,
    refused: u64,
    twice: u64,
    /// In the integrity check.
    unsound: Vec<String>,
    /// Neither taken, nor given up in sight, nor suppressed with a reason.
    lost: Vec<String>,
    /// Taken twice without a kill between, or more than once for one kill.
    unexplained: Vec<String>,
    /// Ends before beginnings.
    disorder: Vec<String>,
}

/// Runs the rounds on both stores.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS).max(1);
    let what = format!(
        "`watchkeeper serve` is killed (SIGKILL) after a random time of up to {} s and started again, {LANES} installations side by side, while {TARGETS} \
         targets of each go down and come back. Of a hundred messages, two webhooks each answer {TOO_MANY} with 429, {FAILS} with 500, cut {CUTS} off, \
         let {HANGS} hang, and take the others.",
        LIFE_MAX.as_secs()
    );
    let head = ["store", "kills", "times down", "incidents", "messages taken", "of them digests", "refused, cut or hung", "taken twice"];
    let mut section = Section::new("alerts", what, rounds, &head);
    let dir = tempfile::tempdir()?;
    let lanes = LANES.min(rounds);
    let sqlite = (0..lanes).map(|n| format!("sqlite://{}", dir.path().join(format!("alerts-{n}.db")).display())).collect::<Vec<_>>();
    on_store(&mut section, setup, "SQLite", &sqlite, rounds, &dir.path().join("sqlite"))?;
    match Postgres::start(dir.path()) {
        Ok(postgres) => {
            let urls = (0..lanes).map(|n| postgres.database(&format!("alerts_{n}"))).collect::<Result<Vec<_>>>()?;
            on_store(&mut section, setup, "PostgreSQL", &urls, rounds, &dir.path().join("pg"))?;
        }
        Err(error) => section.aim(false, &format!("PostgreSQL was not proved: {error:#}")),
    }
    Ok(section)
}

fn on_store(section: &mut Section, setup: &Setup, name: &str, urls: &[String], rounds: u32, dir: &Path) -> Result<()> {
    let lanes = urls.len() as u32;
    let found: Vec<Result<Found>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0_u32..)
            .zip(urls)
            .map(|(n, url)| {
                let kills = rounds / lanes + u32::from(n < rounds % lanes);
                let (dir, seed) = (dir.join(format!("lane-{n}")), setup.seed.wrapping_add(u64::from(n) << 32));
                scope.spawn(move || lane(setup, url, &dir, kills, seed))
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a lane panicked")))).collect()
    });
    let mut all = Found::default();
    for lane in found {
        let lane = lane?;
        all.kills += lane.kills;
        all.downs += lane.downs;
        all.incidents += lane.incidents;
        all.taken += lane.taken;
        all.digests += lane.digests;
        all.refused += lane.refused;
        all.twice += lane.twice;
        all.unsound.extend(lane.unsound);
        all.lost.extend(lane.lost);
        all.unexplained.extend(lane.unexplained);
        all.disorder.extend(lane.disorder);
    }
    let numbers = [all.kills, all.downs, all.incidents, all.taken, all.digests, all.refused, all.twice];
    section.row(std::iter::once(name.to_owned()).chain(numbers.iter().map(u64::to_string)).collect());
    section.none(&all.lost, &format!("{name}: words that were lost, of {} incidents over {} kills", all.incidents, all.kills));
    section.none(&all.unexplained, &format!("{name}: messages taken twice beyond one per kill and webhook"));
    section.none(&all.disorder, &format!("{name}: ends told before their beginning"));
    section.none(&all.unsound, &format!("{name}: faults in the integrity check at the end"));
    section.aim(
        all.downs == all.incidents,
        &format!("{name}: every time down is exactly one incident ({} times, {} incidents)", all.downs, all.incidents),
    );
    Ok(())
}

fn lane(setup: &Setup, url: &str, dir: &Path, kills: u32, seed: u64) -> Result<Found> {
    let clock = Clock::system();
    let mut random = Random::new(!seed);
    let mood = move || match random.below(100) {
        n if n < TOO_MANY => Mood::TooMany,
        n if n < TOO_MANY + FAILS => Mood::Fails,
        n if n < TOO_MANY + FAILS + CUTS => Mood::Cuts,
        n if n < TOO_MANY + FAILS + CUTS + HANGS => Mood::Hangs,
        _ => Mood::Takes,
    };
    let told = StandIn::moody(clock.clone(), Box::new(mood))?;
    let targets: Vec<Target> = (0..TARGETS).map(|_| Target::start()).collect::<Result<_>>()?;
    let killing =
        Killing { setup, url, dir, told: &told, clock: &clock, targets: &targets, kills, life_max: LIFE_MAX, told_limit: TOLD_LIMIT, seed };
    let killed = killing.run(|_| Ok(()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let unsound = runtime.block_on(check(url))?;
    let incidents = runtime.block_on(incidents(url))?;
    let mut found = Found {
        kills: killed.len() as u64,
        downs: targets.iter().map(Target::downs).sum(),
        incidents: incidents.len() as u64,
        refused: told.refused(),
        unsound: unsound.into_iter().chain(told.malformed()).collect(),
        ..Found::default()
    };
    for hook in HOOKS {
        let calls = told.calls(|call| call.channel == hook);
        found.taken += calls.len() as u64;
        found.digests += calls.iter().filter(|call| call.words.len() > 1).count() as u64;
        found.lost.extend(incidents.iter().flat_map(|incident| lost(incident, hook, &calls)));
        found.disorder.extend(disorder(hook, &calls));
        let (twice, unexplained) = repeated(hook, &calls, &killed);
        found.twice += twice;
        found.unexplained.extend(unexplained);
    }
    Ok(found)
}

/// The words about an incident of which nobody can say what became of them.
fn lost(incident: &IncidentView, hook: &str, calls: &[Call]) -> Vec<String> {
    let words = [("opened", true), ("resolved", false)].into_iter().filter(|(event, opened)| {
        let taken = calls.iter().any(|call| call.words.iter().any(|word| word.incident == incident.uid && word.opened == *opened));
        let notice = incident.notices.iter().find(|notice| notice.channel == hook && notice.event == *event);
        let accounted = notice.is_some_and(|notice| match notice.state.as_str() {
            "dead" => notice.last_error.is_some(),
            "suppressed" => notice.why.is_some(),
            _ => false,
        });
        !taken && !accounted
    });
    words.map(|(event, _)| format!("{event} of {} {} to {hook}: {:?}", incident.monitor, incident.uid, incident.notices)).collect()
}

/// Words that came after the end of their incident.
fn disorder(hook: &str, calls: &[Call]) -> Vec<String> {
    let mut over = BTreeSet::new();
    let mut begun = BTreeSet::new();
    let mut found = Vec::new();
    for word in calls.iter().flat_map(|call| &call.words) {
        if word.opened {
            begun.insert(&word.incident);
        } else {
            over.insert(&word.incident);
        }
        if (word.opened && over.contains(&word.incident)) || !begun.contains(&word.incident) {
            found.push(format!("{} {} to {hook}", word.monitor, word.incident));
        }
    }
    found
}

/// How many messages were taken twice, and those of them that no kill explains.
fn repeated(hook: &str, calls: &[Call], kills: &[Micros]) -> (u64, Vec<String>) {
    let mut newest: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    let mut pairs = BTreeSet::new();
    for (nth, call) in calls.iter().enumerate() {
        for word in &call.words {
            pairs.extend(newest.insert((&word.incident, word.opened), nth).map(|before| (before, nth)));
        }
    }
    let mut of_kill: BTreeMap<Micros, usize> = BTreeMap::new();
    let mut unexplained = Vec::new();
    for (before, after) in &pairs {
        let kill = kills.iter().find(|kill| **kill + IN_FLIGHT > calls[*before].at && **kill < calls[*after].at);
        let times = kill.map_or(usize::MAX, |kill| {
            let times = of_kill.entry(*kill).or_default();
            *times += 1;
            *times
        });
        if times > 1 {
            unexplained.push(format!("{hook}: {:?} and again {:?}", calls[*before], calls[*after]));
        }
    }
    (pairs.len() as u64, unexplained)
}
