//! `./prove nodes`: three processes on a PostgreSQL with the lease times of an installation, while nodes are killed, frozen, cut off and
//! stopped, and the database is killed and stopped, at random. Every scope is soon held again, nobody decides what is another's, every
//! time a target was down is exactly one incident, and everything is told, hardly ever twice.

use crate::Setup;
use crate::audit::{self, Audit};
use crate::child::{pause, until};
use crate::fleet::{Fault, Fleet, Struck};
use crate::killing::{HOOKS, Target, incidents};
use crate::report::Section;
use crate::standin::StandIn;
use crate::stats::{Random, percentile};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use watchkeeper::clock::Clock;
use watchkeeper::store::IncidentView;
use watchkeeper_core::Micros;

const ROUNDS: u32 = 200;
/// So many installations are struck side by side, each with a database, nodes and targets of its own: most of a round is waiting.
const LANES: u32 = 4;
/// So many targets of each go down and come back, each at its own pace. More would be a storm, which is told in digests.
const TARGETS: usize = 5;
/// A target stays as it is for up to so long after everybody was told; then it changes again.
const STEADY_MAX_MS: u64 = 6_000;
/// Between two rounds nothing happens for up to so long.
const CALM_MAX_MS: u64 = 1_000;
/// What was not told within this, over several faults, is lost.
const TOLD_LIMIT: Duration = Duration::from_mins(2);
/// The aims: a killed node's scopes are held again (p99), and those of one that hands over (all).
const AGAIN_AIM: f64 = 10.0;
const HAND_OVER_AIM: f64 = 1.0;
/// A monitor in a scope that was taken over is looked at within this (p99): every one of them has had a window meanwhile.
const LOOK_AIM: f64 = 1.0;

/// A target that went down and came back.
struct Outage {
    monitor: String,
    down: Micros,
    up: Micros,
}

/// What is said of a fault's rounds.
#[derive(Default)]
struct OfFault {
    rounds: u64,
    /// How long each scope was nobody's, from the fault on, in seconds.
    again: Vec<f64>,
    /// Messages taken twice, and the most after one fault at one webhook.
    twice: u64,
    most: u64,
    /// The longest time from a change of a target until both webhooks knew, in seconds.
    told_after: f64,
}

/// What one lane, or all of them, found.
#[derive(Default)]
struct Found {
    of: BTreeMap<Fault, OfFault>,
    outages: u64,
    incidents: u64,
    decisions: u64,
    /// From a change of a target until both webhooks knew, in seconds.
    told_after: Vec<f64>,
    /// From taking a scope over to the first look at each monitor in it, in seconds.
    looked_after: Vec<f64>,
    /// Processes that ended by themselves.
    fallen: Vec<String>,
    /// In the integrity check, or in the form of messages.
    unsound: Vec<String>,
    /// Decisions of whoever did not hold the scope.
    unfounded: Vec<String>,
    /// Scopes that nobody held any more.
    unheld: Vec<String>,
    /// Monitors with more or fewer incidents than outages.
    miscounted: Vec<String>,
    /// Beginnings and ends that a webhook never heard of.
    untold: Vec<String>,
    /// Words that came again without a fault, or more than once more after one.
    unexplained: Vec<String>,
}

/// Runs the rounds.
pub fn prove(setup: &Setup) -> Result<Section> {
    let rounds = setup.rounds.unwrap_or(ROUNDS).max(1);
    let what = format!(
        "Three processes on a PostgreSQL of their own, with the default lease times, {LANES} such installations side by side; {TARGETS} targets of each \
         go down and come back all the while. Each round one thing happens at random, lasts a random time of up to 12 s, and is over when every node \
         holds its share again and nothing waits to be told. A scope is held again when that is committed, counted from the fault."
    );
    let head = [
        "what happens",
        "rounds",
        "scopes taken by others",
        "held again p50",
        "p99",
        "max",
        "messages taken twice",
        "most after one",
        "a change told after",
    ];
    let mut section = Section::new("nodes", what, rounds, &head);
    let dir = tempfile::tempdir()?;
    let lanes = LANES.min(rounds);
    let found: Vec<Result<Found>> = std::thread::scope(|scope| {
        let lane = |n: u32| {
            let (rounds, dir) = (rounds / lanes + u32::from(n < rounds % lanes), dir.path().join(format!("lane-{n}")));
            let seed = setup.seed.wrapping_add(u64::from(n) << 32);
            scope.spawn(move || lane(setup, &dir, rounds, seed))
        };
        let handles: Vec<_> = (0..lanes).map(lane).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a lane panicked")))).collect()
    });
    let mut all = Found::default();
    for lane in found {
        all.add(lane?);
    }
    all.show(&mut section, rounds);
    if !section.good {
        println!("what the nodes said is in {}", dir.keep().display());
    }
    Ok(section)
}

impl Found {
    fn add(&mut self, lane: Self) {
        let Self {
            of,
            outages,
            incidents,
            decisions,
            told_after,
            looked_after,
            fallen,
            unsound,
            unfounded,
            unheld,
            miscounted,
            untold,
            unexplained,
        } = lane;
        for (fault, more) in of {
            let sum = self.of.entry(fault).or_default();
            sum.rounds += more.rounds;
            sum.again.extend(more.again);
            sum.twice += more.twice;
            sum.most = sum.most.max(more.most);
            sum.told_after = sum.told_after.max(more.told_after);
        }
        self.outages += outages;
        self.incidents += incidents;
        self.decisions += decisions;
        self.told_after.extend(told_after);
        self.looked_after.extend(looked_after);
        self.fallen.extend(fallen);
        self.unsound.extend(unsound);
        self.unfounded.extend(unfounded);
        self.unheld.extend(unheld);
        self.miscounted.extend(miscounted);
        self.untold.extend(untold);
        self.unexplained.extend(unexplained);
    }

    fn show(mut self, section: &mut Section, rounds: u32) {
        let seconds = |value: f64| format!("{value:.2} s");
        for fault in Fault::ALL {
            let OfFault { rounds, again, twice, most, told_after } = self.of.entry(fault).or_default();
            let times = [50.0, 99.0, 100.0].map(|p| if again.is_empty() { String::new() } else { seconds(percentile(again, p)) });
            let counts = [rounds.to_string(), again.len().to_string()];
            let told = [twice.to_string(), most.to_string(), format!("{told_after:.1} s")];
            section.row([fault.name().to_owned()].into_iter().chain(counts).chain(times).chain(told).collect());
        }
        // None would be no proof.
        let again = |fault, p| percentile(&self.of[&fault].again, p);
        let killed = again(Fault::Killed, 99.0);
        section
            .aim(killed > 0.0 && killed <= AGAIN_AIM, &format!("held again after a kill: p99 {killed:.2} s, aim at most {AGAIN_AIM:.0} s"));
        let stopped = again(Fault::Stopped, 100.0);
        section.aim(
            stopped > 0.0 && stopped <= HAND_OVER_AIM,
            &format!("handed over after SIGTERM: max {stopped:.2} s, aim at most {HAND_OVER_AIM:.0} s"),
        );
        let [half, most] = [50.0, 99.0].map(|p| percentile(&self.looked_after, p));
        section.aim(
            most > 0.0 && most <= LOOK_AIM,
            &format!(
                "the window that fell into the gap is run after the taking of its scope: p50 {half:.2} s, p99 {most:.2} s of {}, aim at most {LOOK_AIM:.0} s",
                self.looked_after.len()
            ),
        );
        section.none(&self.unheld, "scopes of a killed or stopped node that nobody took");
        section.none(
            &self.unfounded,
            &format!("decisions, of {}, under a scope that their maker did not hold when they were committed", self.decisions),
        );
        section.none(
            &self.miscounted,
            &format!("monitors with more or fewer incidents than times down ({} times, {} incidents)", self.outages, self.incidents),
        );
        section.none(&self.untold, "beginnings and ends that one of the webhooks never heard of");
        section.none(&self.unexplained, "words that came again without a fault before, or more than once more after one");
        let (cut, others): (Vec<_>, Vec<_>) = self.of.iter().partition(|(fault, _)| matches!(fault, Fault::CutOff | Fault::Silenced));
        for (of, what) in [(others, "a kill, a stop, a freeze or a fault of the database"), (cut, "a cut, of which either side may tell")] {
            let most = of.into_iter().map(|(_, of)| of.most).max().unwrap_or_default();
            section.aim(most <= 1, &format!("messages that came again at one webhook after {what}: {most} at most, aim at most 1"));
        }
        section.none(&self.fallen, &format!("processes that ended otherwise than they were made to, over {rounds} rounds"));
        section.none(&self.unsound, "faults in the integrity check and in the form of messages");
        let [p50, p99, max] = [50.0, 99.0, 100.0].map(|p| percentile(&self.told_after, p));
        section.notes.push(format!(
            "Whatever happened meanwhile, both webhooks knew of a change of a target after {p50:.1} s (p50), {p99:.1} s (p99), {max:.1} s (max)."
        ));
    }
}

fn lane(setup: &Setup, dir: &Path, rounds: u32, seed: u64) -> Result<Found> {
    let clock = Clock::system();
    std::fs::create_dir_all(dir)?;
    let told = StandIn::start(clock.clone())?;
    let targets: Vec<Target> = (0..TARGETS).map(|_| Target::start()).collect::<Result<_>>()?;
    let mut fleet = Fleet::start(setup, dir, &clock, &common(&told, &targets))?;
    let over = AtomicBool::new(false);
    let (struck, toggled) = std::thread::scope(|scope| {
        let handles: Vec<_> = (0_u64..)
            .zip(&targets)
            .map(|(n, target)| {
                let random = Random::new(seed.wrapping_add(n + 1));
                let (told, clock, over) = (&told, &clock, &over);
                scope.spawn(move || toggle(target, &format!("t{n}"), told, clock, random, over))
            })
            .collect();
        let mut random = Random::new(seed);
        let struck: Result<Vec<Struck>> = (0..rounds)
            .map(|_| {
                pause(Duration::from_millis(random.below(CALM_MAX_MS)));
                fleet.strike(&mut random)
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        // The nodes live until every target is up and its end was told.
        let toggled: Vec<Toggled> = handles.into_iter().filter_map(|handle| handle.join().ok()).collect();
        (struck, toggled)
    });
    let struck = struck?;
    anyhow::ensure!(toggled.len() == TARGETS, "a target's thread panicked");
    let unsound = fleet.stop()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let audit = runtime.block_on(audit::read(&fleet.url))?;
    let incidents = runtime.block_on(incidents(&fleet.url))?;
    let mut found = Found {
        incidents: incidents.len() as u64,
        decisions: audit.decisions,
        fallen: std::mem::take(&mut fleet.fallen),
        unsound: unsound.into_iter().chain(told.malformed()).collect(),
        ..Found::default()
    };
    let mut outages = Vec::new();
    for target in toggled {
        for (at, after) in &target.told_after {
            if let Some(round) = struck.iter().rfind(|round| round.begun <= *at) {
                let of = found.of.entry(round.fault).or_default();
                of.told_after = of.told_after.max(*after);
            }
        }
        found.told_after.extend(target.told_after.into_iter().map(|(_, after)| after));
        found.untold.extend(target.untold);
        outages.extend(target.outages);
    }
    found.outages = outages.len() as u64;
    for round in &struck {
        let of = found.of.entry(round.fault).or_default();
        of.rounds += 1;
        let (again, unheld) = taken_over(&audit, round);
        of.again.extend(again);
        found.unheld.extend(unheld);
    }
    found.looked_after = looked_after(&audit, &runtime.block_on(audit::looks(&fleet.url))?, &struck);
    found.unfounded = audit.unfounded;
    found.miscounted = miscounted(&outages, &incidents);
    found.untold.extend(incidents.iter().flat_map(|incident| unheard(incident, &told)));
    for hook in HOOKS {
        repeated(&mut found, hook, &told, &struck, &outages);
    }
    Ok(found)
}

/// What all nodes have in common. Targets change at a pace that would be flapping elsewhere: here each time down is an incident.
fn common(told: &StandIn, targets: &[Target]) -> String {
    let mut config = format!(
        "channels:\n{}{}defaults: {{ every: 1s, timeout: 1s, recheck: 1s, down_after: 1, flap_window: 0s, notify: [{}] }}\nmonitors:\n",
        told.hook(HOOKS[0]),
        told.hook(HOOKS[1]),
        HOOKS.join(", ")
    );
    for (n, target) in targets.iter().enumerate() {
        config.push_str(&format!("  - {{ name: t{n}, probe: {{ http: {{ url: \"{}\" }} }} }}\n", target.url()));
    }
    config
}

/// What one target went through.
#[derive(Default)]
struct Toggled {
    outages: Vec<Outage>,
    /// When both webhooks knew of a change, and how long after it, in seconds.
    told_after: Vec<(Micros, f64)>,
    untold: Vec<String>,
}

/// Takes one target down and up for as long as there are rounds; each change lasts until both webhooks were told.
fn toggle(target: &Target, name: &str, told: &StandIn, clock: &Clock, mut random: Random, over: &AtomicBool) -> Toggled {
    let mut all = Toggled::default();
    while !over.load(Ordering::Relaxed) {
        let [down, up] = [true, false].map(|down| {
            pause(Duration::from_millis(random.below(STEADY_MAX_MS)));
            let since = clock.now();
            target.down.store(down, Ordering::Relaxed);
            let heard =
                |hook: &&str| told.heard(|c, word| c.channel == **hook && word.monitor == name && word.opened == down && c.at >= since);
            let what = format!("telling that {name} is {} since {}", if down { "down" } else { "up" }, since.0);
            match until(TOLD_LIMIT, &what, || HOOKS.iter().all(heard).then_some(())) {
                Ok(()) => {
                    let now = clock.now();
                    all.told_after.push((now, (now - since).0 as f64 / 1e6));
                }
                Err(error) => all.untold.push(error.to_string()),
            }
            since
        });
        all.outages.push(Outage { monitor: name.to_owned(), down, up });
    }
    all
}

/// How long each scope that changed hands in a round had been without its former holder, and those of a node that is gone that nobody took.
fn taken_over(audit: &Audit, round: &Struck) -> (Vec<f64>, Vec<String>) {
    let (mut again, mut unheld) = (Vec::new(), Vec::new());
    // A node's own name and membership are nobody else's.
    for (scope, hands) in audit.leases.iter().filter(|(scope, _)| !scope.starts_with("agent/") && !scope.starts_with("member/")) {
        let before = hands.iter().rev().find(|taken| taken.at < round.begun);
        let Some(former) = before.map(|taken| taken.holder.as_str()).filter(|holder| !holder.is_empty()) else { continue };
        if round.node.is_some_and(|node| former.split('#').next() != Some(node)) {
            continue;
        }
        let next = hands.iter().find(|taken| taken.at >= round.begun && !taken.holder.is_empty() && taken.holder != former);
        match next.filter(|taken| taken.at <= round.settled) {
            Some(taken) => again.push((taken.at - round.begun).0 as f64 / 1e6),
            None if matches!(round.fault, Fault::Killed | Fault::Stopped) => {
                unheld.push(format!("{scope} of {former} after {}", round.begun.0));
            }
            // It came back in time, or kept what it held.
            None => {}
        }
    }
    (again, unheld)
}

/// How long after a scope was taken from a node that was killed its monitors were first looked at by the taker, if it kept the scope so long.
fn looked_after(audit: &Audit, looks: &BTreeMap<i64, Vec<(String, Micros)>>, struck: &[Struck]) -> Vec<f64> {
    let mut after = Vec::new();
    for (scope, hands) in audit.leases.iter().filter_map(|(scope, hands)| Some((scope.strip_prefix("site/local/")?, hands))) {
        for (taken, next) in hands.iter().zip(hands.iter().skip(1).map(Some).chain([None])) {
            let killed = struck.iter().any(|round| round.fault == Fault::Killed && round.begun <= taken.at && taken.at <= round.settled);
            let taker = taken.holder.split('#').next().unwrap_or_default();
            if !killed || taker.is_empty() {
                continue;
            }
            for looks in looks.iter().filter(|(monitor, _)| (**monitor % 16).to_string() == scope).map(|(_, looks)| looks) {
                let first = looks.iter().find(|(node, at)| node == taker && *at >= taken.at);
                after.extend(first.filter(|(_, at)| next.is_none_or(|next| *at < next.at)).map(|(_, at)| (*at - taken.at).0 as f64 / 1e6));
            }
        }
    }
    after
}

fn miscounted(outages: &[Outage], incidents: &[IncidentView]) -> Vec<String> {
    let monitors: BTreeSet<&str> = outages.iter().map(|outage| outage.monitor.as_str()).collect();
    let mut found = Vec::new();
    for monitor in monitors {
        let mine: Vec<&Outage> = outages.iter().filter(|outage| outage.monitor == monitor).collect();
        let theirs: Vec<Micros> =
            incidents.iter().filter(|incident| incident.monitor == monitor).map(|incident| incident.opened_at).collect();
        for (nth, outage) in mine.iter().enumerate() {
            let next = mine.get(nth + 1).map_or(Micros(i64::MAX), |next| next.down);
            let begun = theirs.iter().filter(|at| outage.down <= **at && **at < next).count();
            if begun != 1 {
                found.push(format!("{begun} for {monitor} down from {} to {}", outage.down.0, outage.up.0));
            }
        }
        let before = mine.first().map_or(0, |first| theirs.iter().filter(|at| **at < first.down).count());
        if before > 0 {
            found.push(format!("{before} of {monitor} before it was ever down"));
        }
    }
    found
}

/// The words about an incident that a webhook never heard, and of which nobody can say what became of them.
fn unheard(incident: &IncidentView, told: &StandIn) -> Vec<String> {
    let words = HOOKS.into_iter().flat_map(|hook| [(hook, "opened", true), (hook, "resolved", false)]);
    let never = words.filter(|(hook, _, opened)| {
        !told.heard(|call, word| call.channel == *hook && word.incident == incident.uid && word.opened == *opened)
    });
    never.map(|(hook, event, _)| format!("{event} of {} {} to {hook}: {:?}", incident.monitor, incident.uid, incident.notices)).collect()
}

/// Counts the messages that came again for each fault, and finds those that none explains. What two nodes told of one outage, each under an
/// incident of its own, came again too.
fn repeated(found: &mut Found, hook: &str, told: &StandIn, struck: &[Struck], outages: &[Outage]) {
    let calls = told.calls(|call| call.channel == hook);
    // By outage and kind of word: which messages had it.
    let mut carried: BTreeMap<(usize, bool), Vec<usize>> = BTreeMap::new();
    for (nth, call) in calls.iter().enumerate() {
        for word in &call.words {
            let of = |outage: &(usize, &Outage)| outage.1.monitor == word.monitor && outage.1.down <= call.at;
            match outages.iter().enumerate().filter(of).max_by_key(|(_, outage)| outage.down) {
                Some((outage, _)) => carried.entry((outage, word.opened)).or_default().push(nth),
                None => found.unexplained.push(format!("{hook} heard of {} before it was ever down", word.monitor)),
            }
        }
    }
    let mut of_fault: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for ((outage, opened), messages) in &carried {
        let mut explained = BTreeSet::new();
        for again in messages.iter().skip(1) {
            let fault = struck.iter().rposition(|round| round.begun <= calls[*again].at);
            if let Some(fault) = fault.filter(|fault| explained.insert(*fault)) {
                of_fault.entry(fault).or_default().insert(*again);
            } else {
                let event = if *opened { "opened" } else { "resolved" };
                found.unexplained.push(format!("{hook}: {event} of {} at {}", outages[*outage].monitor, calls[*again].at.0));
            }
        }
    }
    for (fault, messages) in of_fault {
        let of = found.of.entry(struck[fault].fault).or_default();
        of.twice += messages.len() as u64;
        of.most = of.most.max(messages.len() as u64);
    }
}
