//! What a commit costs. Ignored in the ordinary run: times depend on the machine. Run it with
//! `cargo test --release --test it store_contract::speed -- --ignored --nocapture`.

use super::world::*;
use crate::support::store::each_store;
use smallvec::smallvec;
use std::time::Instant;
use watchkeeper::store::*;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::Severity;
use watchkeeper_core::sight::{Sight, Vote};
use watchkeeper_core::verdict::{NoticeEvent, Verdict};
use watchkeeper_core::{Micros, MonitorId, Outcome};

const MONITORS: i64 = 10_000;
const BATCH: i64 = 1_000;
const BATCHES: i64 = 300;
const STORM: i64 = 5_000;

#[tokio::test]
#[ignore = "a measurement"]
async fn quiet_beats_and_a_storm() {
    each_store(|t| async move {
        let kind = if t.file.is_some() { "sqlite" } else { "postgres" };
        let mut w = World::new(t).await;
        let mut slowest = std::time::Duration::ZERO;
        let begun = Instant::now();
        for batch in 0..BATCHES {
            let beats = (0..BATCH)
                .map(|n| {
                    let n = batch * BATCH + n;
                    w.beat(MonitorId(1_000_000 + n * 7_919 % MONITORS), Micros(T0.0 + n * 1_000), Outcome::Up)
                })
                .collect();
            let one = Instant::now();
            w.commit_beats(beats).await;
            slowest = slowest.max(one.elapsed());
        }
        let per_beat = begun.elapsed().as_secs_f64() * 1e6 / (BATCH * BATCHES) as f64;
        println!("{kind}: {per_beat:.2} µs per quiet beat in batches of {BATCH}, slowest batch {slowest:?}");

        let storm: Vec<Decision> = (0..STORM).map(|n| failing(&w, n)).collect();
        let begun = Instant::now();
        w.commit_decisions(storm).await;
        println!("{kind}: {STORM} decisions that each open an incident in {:?}", begun.elapsed());

        let begun = Instant::now();
        let did = w.housekeep(sec(2 * 3_600)).await;
        println!("{kind}: housekeeping {did:?} in {:?}", begun.elapsed());
    })
    .await;
}

/// Everything that a monitor's going down writes.
fn failing(w: &World, n: i64) -> Decision {
    let (at, id) = (sec(400), watchkeeper_core::IncidentId(10_000_000 + n));
    let uid = format!("00000000-0000-7000-9000-{n:012}");
    let vote = Vote { health: Health::Down, reason: None, blind: None, breached: smallvec![], at, good_until: sec(500) };
    Decision {
        monitor: MonitorId(1_000_000 + n),
        sight: Some(SightRow { datacenter: w.me.datacenter, sight: Sight::default(), vote: vote.clone() }),
        verdict: Some(VerdictRow { verdict: Verdict { votes: smallvec![(w.me.datacenter, vote)], ..Verdict::default() }, wake: None }),
        interval: Some(IntervalRow { start: at, health: Health::Down }),
        incidents: smallvec![begins(id, &uid, "down", at)],
        notices: smallvec![notice(w.hook, id, &uid, NoticeEvent::Opened, Severity::Critical, at)],
        live: smallvec![live("incident_opened", at, &uid)],
        ..w.decision(w.shop)
    }
}
