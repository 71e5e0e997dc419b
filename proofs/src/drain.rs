//! `./prove drain`: workers under random load, and SIGTERM to their pods at random moments. No request is cut that would have ended
//! within the grace, a forced end comes when the grace has passed and not later, and the next sidecar finds the same figures.

use crate::Setup;
use crate::pod::{Dice, Round, drain_round};
use crate::report::Section;
use crate::sidecar::static_binary;
use crate::stats::percentile;
use anyhow::Result;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

const ROUNDS: u32 = 500;
const GRACE: Duration = Duration::from_secs(3);
/// How far from the grace a forced end may be.
const FORCED_WITHIN: Duration = Duration::from_millis(250);
/// So many pods at once. More would measure how the threads of their workers wait for each other.
const PODS: u32 = 6;

/// Runs the rounds.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS);
    let what = format!(
        "A worker of 1 to 4 slots takes messages (most take up to 0.2 s, some up to twice the grace, some never end; half of the workers with \
         ids) beside the static `watchkeeper-sidecar`, {PODS} pods at once. At a random moment the sidecar gets SIGTERM, half of the pods a \
         `preStop` with `GET /drain`, and the worker takes its last message up to 60 ms later. When the sidecar has ended, what the \
         worker has in flight is cut. Grace {} s.",
        GRACE.as_secs()
    );
    let mut section = Section::new("drain", what, rounds, &["time", "rounds", "p50", "p99", "max"]);
    let binary = static_binary()?;
    let folder = tempfile::tempdir()?;
    let seeds = Mutex::new(Dice::new(setup.seed));
    let left = Mutex::new(rounds);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PODS {
            scope.spawn(|| {
                while take(&left) {
                    let seed = seeds.lock().expect("no round panicked").below(u64::MAX);
                    let round = drain_round(|| Command::new(&binary), folder.path(), GRACE, seed);
                    let mut done = done.lock().expect("no round panicked");
                    done.push((seed, round));
                    if done.len() % 50 == 0 {
                        println!("drain: {} of {rounds} rounds", done.len());
                    }
                }
            });
        }
    });
    judge(&mut section, &done.into_inner().expect("no round panicked"));
    Ok(section)
}

fn take(left: &Mutex<u32>) -> bool {
    let mut left = left.lock().expect("no round panicked");
    let more = *left > 0;
    *left = left.saturating_sub(1);
    more
}

fn judge(section: &mut Section, rounds: &[(u64, Round)]) {
    let forced: Vec<f64> = rounds.iter().filter(|(_, r)| r.forced).map(|(_, r)| r.lasted.as_secs_f64() - GRACE.as_secs_f64()).collect();
    let drained: Vec<f64> = rounds.iter().filter_map(|(_, r)| r.after_last).map(|after| after.as_secs_f64()).collect();
    for (name, times) in [("forced end after the grace had passed", &forced), ("end after the last request had ended", &drained)] {
        let cell = |p: f64| format!("{:.3} s", percentile(times, p));
        section.row(vec![name.to_owned(), times.len().to_string(), cell(50.0), cell(99.0), cell(100.0)]);
    }
    let taken: usize = rounds.iter().map(|(_, r)| r.taken).sum();
    let cut: usize = rounds.iter().map(|(_, r)| r.cut).sum();
    let faults: Vec<String> =
        rounds.iter().flat_map(|(seed, r)| r.faults.iter().map(move |fault| format!("round with seed {seed}: {fault}"))).collect();
    section.none(
        &faults,
        &format!("requests cut that would have ended within the grace, stuck ones not named, figures not found again, of {taken} requests"),
    );
    let in_peace: Vec<String> =
        rounds.iter().filter(|(_, r)| !r.forced && r.cut > 0).map(|(seed, _)| format!("round with seed {seed}")).collect();
    section.none(&in_peace, "rounds without a forced end that cut anything");
    let late = forced.iter().filter(|after| after.abs() > FORCED_WITHIN.as_secs_f64()).count();
    section.aim(
        late == 0 && !forced.is_empty(),
        &format!("{} of {} forced ends at the grace ± {} ms", forced.len() - late, forced.len(), FORCED_WITHIN.as_millis()),
    );
    section.notes.push(format!("{cut} requests were cut because they would not have ended within the grace."));
}
