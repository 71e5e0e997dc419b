//! The long proofs, run by `./prove`: they start the shipped binary as a child, measure it from outside, and write what
//! they found into `docs/PROOFS.md`. A proof that misses its aim says so there and ends with exit code 1.
//!
//! This package is apart from `app`, so that nothing it needs is in the shipped binary.

mod alerts;
mod audit;
mod bare;
mod bots;
mod child;
mod cost;
mod crash;
mod detect;
mod drain;
mod fleet;
mod image;
mod insert;
mod killing;
mod link;
// One pair of namespaces for tests and proofs.
#[path = "../../app/tests/it/support/netns.rs"]
mod netns;
mod nginx;
mod nodes;
mod outage;
mod page;
mod phases;
// One worker and its sidecar for tests and proofs.
#[path = "../../sidecar/tests/it/pod/mod.rs"]
mod pod;
mod postgres;
mod report;
mod schema;
mod sidecar;
mod standin;
mod stats;
mod storm;
// What is asked of a real broker, for tests and proofs.
#[path = "../../bots/tests/it/topics/mod.rs"]
mod topics;
mod unplug;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures what the documentation claims, and writes it into docs/PROOFS.md
#[derive(Debug, Parser)]
#[command(name = "prove")]
struct Args {
    /// Which proofs
    #[arg(required_unless_present = "bare")]
    proofs: Vec<Name>,
    /// The binary that is measured
    #[arg(long, default_value = "target/release/watchkeeper")]
    binary: PathBuf,
    /// Where the results are written
    #[arg(long, default_value = "docs/PROOFS.md")]
    out: PathBuf,
    /// Rounds, where a proof has rounds; each has its own default
    #[arg(long)]
    rounds: Option<u32>,
    /// Where random moments come from; drawn anew if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Be the yardstick of `cost`: URL, checks per second, seconds, PEM file of the one root that is trusted
    #[arg(long, num_args = 4, value_names = ["URL", "RATE", "SECONDS", "CA"], hide = true)]
    bare: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// All of the below, in this order
    All,
    /// CPU per check against a bare loop, start lag, missed windows and memory
    Cost,
    /// A real nginx killed and restarted: from the first failing attempt to webhook and Telegram
    Detect,
    /// SIGKILL at random moments on both stores: nothing is lost or doubled
    Crash,
    /// SIGKILL at random moments while alerts meet 429, 500, hanging and cutting webhooks, on both stores: none is lost
    Alerts,
    /// A thousand monitors down at once: messages per channel, and whether checks stay punctual
    Storm,
    /// The node's own network cut again and again: told of the node and of no target
    Unplug,
    /// Three nodes and their PostgreSQL killed, frozen, cut off and stopped: who holds what, who decides, and what is told
    Nodes,
    /// PostgreSQL away for ten minutes at 500 checks a second: what is told meanwhile, what comes back, and the memory it takes
    Outage,
    /// Heartbeats into PostgreSQL against a bare COPY, and bytes per heartbeat in both stores
    Insert,
    /// Injected delays against measured phases
    Phases,
    /// Five thousand monitors in a browser, and what five hundred open pages get to know
    Page,
    /// Every operation of the OpenAPI document, asked by schemathesis
    Schema,
    /// The container image: size, start, health check, stop
    Image,
    /// Workers under random load whose pods are ended at random moments: no request is cut that would have ended within the grace
    Drain,
    /// The sidecar's static binary, its memory, and the calls it answers on one core
    Sidecar,
    /// 50 000 updates through Kafka while workers, broker and gateway are killed: all answered, each chat in order; and a sleeping bot woken
    Bots,
}

/// What every proof is given.
pub struct Setup {
    /// The binary that is measured.
    pub binary: PathBuf,
    /// Rounds, if given.
    pub rounds: Option<u32>,
    /// Where random moments come from.
    pub seed: u64,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("prove: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run(args: Args) -> Result<bool> {
    if let Some(bare) = args.bare {
        bare::run(
            &bare[0],
            bare[1].parse().context("RATE is a number")?,
            bare[2].parse().context("SECONDS is a number")?,
            bare[3].as_ref(),
        )?;
        return Ok(true);
    }
    let seed = match args.seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(|error| anyhow::anyhow!("drawing a seed: {error}"))?,
    };
    let setup = Setup {
        binary: args.binary.canonicalize().with_context(|| format!("finding {}", args.binary.display()))?,
        rounds: args.rounds,
        seed,
    };
    let machine = report::machine();
    println!("{machine}\nseed {seed}");
    let every = [
        Name::Cost,
        Name::Detect,
        Name::Crash,
        Name::Alerts,
        Name::Storm,
        Name::Unplug,
        Name::Nodes,
        Name::Outage,
        Name::Insert,
        Name::Phases,
        Name::Page,
        Name::Schema,
        Name::Image,
        Name::Drain,
        Name::Sidecar,
        Name::Bots,
    ];
    let wanted: Vec<Name> = if args.proofs.contains(&Name::All) { every.to_vec() } else { args.proofs };
    let mut good = true;
    for name in wanted {
        let section = match name {
            Name::All => continue,
            Name::Cost => cost::prove(&setup)?,
            Name::Detect => detect::prove(&setup)?,
            Name::Crash => crash::prove(&setup)?,
            Name::Alerts => alerts::prove(&setup)?,
            Name::Storm => storm::prove(&setup)?,
            Name::Unplug => unplug::prove(&setup)?,
            Name::Nodes => nodes::prove(&setup)?,
            Name::Outage => outage::prove(&setup)?,
            Name::Insert => insert::prove(&setup)?,
            Name::Phases => phases::prove(&setup)?,
            Name::Page => page::prove(&setup)?,
            Name::Schema => schema::prove(&setup)?,
            Name::Image => image::prove(&setup)?,
            Name::Drain => drain::prove(&setup)?,
            Name::Sidecar => sidecar::prove(&setup)?,
            Name::Bots => bots::prove(&setup)?,
        };
        good &= section.good;
        print!("{}", section.show());
        section.write(&args.out, &machine, seed)?;
    }
    Ok(good)
}
