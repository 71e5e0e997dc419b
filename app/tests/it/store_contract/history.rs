//! History: heartbeats in whichever table they are, rollups that equal the raw, exact state times.

use super::world::*;
use crate::support::store::each_store;
use std::collections::BTreeMap;
use watchkeeper::sketch::RELATIVE_ERROR;
use watchkeeper::store::*;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{Blind, Dur, Micros, Outcome, Reason};

const HOUR: Dur = Dur::secs(3_600);
const DAY: Dur = Dur::secs(86_400);

/// An attempt every ten seconds, with times between 5 and 400 ms, some failures and some blindness.
fn beats(w: &World, from: i64, to: i64) -> Vec<BeatRow> {
    (from..to)
        .step_by(10)
        .map(|second| {
            let n = second / 10;
            let (outcome, code) = match n % 20 {
                7 => (Outcome::Down(Reason::HttpStatus), 503),
                13 => (Outcome::Unknown(Blind::NoRoute), -1),
                _ => (Outcome::Up, if n % 3 == 0 { 204 } else { 200 }),
            };
            let total_us = if outcome == Outcome::Up { 5_000 + n * 7_919 % 395_000 } else { 9_999_999 };
            BeatRow { total_us, code, ..w.beat(w.shop, sec(second), outcome) }
        })
        .collect()
}

/// What the buckets have to say, counted by hand.
#[derive(Debug, Default, PartialEq)]
struct Want {
    up: i64,
    down: i64,
    unknown: i64,
    codes: BTreeMap<i32, i64>,
    times: Vec<i64>,
}

fn count(beats: &[BeatRow], span: Dur) -> BTreeMap<Micros, Want> {
    let mut out: BTreeMap<Micros, Want> = BTreeMap::new();
    for beat in beats {
        let want = out.entry(Micros(beat.at.0 - beat.at.0 % span.0)).or_default();
        match beat.outcome {
            Outcome::Up => {
                want.up += 1;
                want.times.push(beat.total_us);
            }
            Outcome::Down(_) => want.down += 1,
            Outcome::Unknown(_) => want.unknown += 1,
        }
        if beat.code >= 0 {
            *want.codes.entry(beat.code).or_default() += 1;
        }
    }
    out
}

async fn assert_counts(w: &World, span: Dur, from: Micros, to: Micros, beats: &[BeatRow], when: &str) {
    let got = w.store().metrics(w.acme(), w.shop, None, from, to, span).await.unwrap();
    let inside: Vec<BeatRow> = beats.iter().filter(|b| b.at >= from && b.at < to).cloned().collect();
    let mut wanted = count(&inside, span);
    assert!(got.windows(2).all(|pair| pair[0].start < pair[1].start), "{when}: in order, each once");
    for bucket in got.iter().filter(|b| b.up + b.down + b.unknown > 0) {
        let mut want = wanted.remove(&bucket.start).unwrap_or_else(|| panic!("{when}: nothing was seen at {:?}", bucket.start));
        assert_eq!(bucket.span, span, "{when}");
        assert_eq!((bucket.up, bucket.down, bucket.unknown), (want.up, want.down, want.unknown), "{when}: at {:?}", bucket.start);
        assert_eq!(bucket.codes, want.codes, "{when}");
        assert_eq!(bucket.sketch.count(), want.times.len() as u64, "{when}: successful attempts only");
        want.times.sort_unstable();
        for q in [0.5, 0.9, 0.99] {
            let exact = want.times[(q * (want.times.len() - 1) as f64) as usize] as f64;
            let found = bucket.sketch.quantile(q).unwrap() as f64;
            assert!((found - exact).abs() <= exact * RELATIVE_ERROR + 0.5, "{when}: p{q} is {found} instead of {exact}");
        }
    }
    assert!(wanted.is_empty(), "{when}: missing {:?}", wanted.keys());
}

#[tokio::test]
async fn heartbeats_come_newest_first_wherever_they_are() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let mut all = beats(&w, 0, 12_000);
        let details: Vec<DetailRow> = all
            .iter()
            .step_by(7)
            .map(|b| DetailRow { monitor: b.monitor, datacenter: b.datacenter, at: b.at, json: format!(r#"{{"at":{}}}"#, b.at.0) })
            .collect();
        let cut = all.len() / 2;
        let first = Batch { beats: all[..cut].to_vec(), details: details.clone(), ..w.batch() };
        w.store().commit(&first).await.unwrap();
        w.housekeep(sec(12_000)).await;
        // Again after they were moved, with one that is older than all.
        let early = w.beat(w.shop, sec(-5), Outcome::Up);
        w.commit_beats([&all[..3], std::slice::from_ref(&early), &all[cut..]].concat()).await;
        all.insert(0, early);
        all.reverse();

        let mut got = Vec::new();
        let mut before = LATER;
        loop {
            let page = w.store().heartbeats(w.acme(), w.shop, before, 100).await.unwrap();
            assert!(page.len() <= 100);
            let Some((last, _)) = page.last() else { break };
            before = last.at;
            got.extend(page);
        }
        assert_eq!(got.iter().map(|(beat, _)| beat).collect::<Vec<_>>(), all.iter().collect::<Vec<_>>());
        let with_detail: Vec<(Micros, &str)> = got.iter().filter_map(|(beat, d)| Some((beat.at, d.as_deref()?))).collect();
        let want: Vec<(Micros, &str)> = details.iter().rev().map(|d| (d.at, d.json.as_str())).collect();
        assert_eq!(with_detail, want, "evidence stays with its heartbeat");
        assert_eq!(w.store().heartbeats(w.acme(), w.shop, LATER, i64::MAX).await.unwrap().len(), PAGE_MAX as usize);
        assert_eq!(w.store().heartbeats(w.acme(), w.shop, LATER, -1).await.unwrap(), []);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn rollups_say_what_the_raw_heartbeats_say() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let mut all = beats(&w, 0, 4 * 3_600 - 1_800);
        w.commit_beats(all.clone()).await;
        let now = sec(4 * 3_600 - 1_800);
        assert_counts(&w, HOUR, T0, now, &all, "from raw").await;
        let did = w.housekeep(now).await;
        assert!(did.hours >= 3, "three hours are closed: {did:?}");
        assert_counts(&w, HOUR, T0, now, &all, "from rollups and the running hour").await;
        assert_counts(&w, Dur::secs(300), T0, now, &all, "finer than an hour").await;
        assert_counts(&w, HOUR, sec(3_600), sec(2 * 3_600), &all, "one hour only").await;
        assert_eq!(w.housekeep(now).await.hours, 0, "nothing is dirty any more");

        // Late data: an attempt of the first hour arrives now.
        let late = BeatRow { total_us: 399_000, ..w.beat(w.shop, sec(1_234), Outcome::Up) };
        w.commit_beats(vec![late.clone()]).await;
        all.push(late);
        assert!(w.housekeep(now).await.hours >= 1);
        assert_counts(&w, HOUR, T0, now, &all, "after late data").await;
    })
    .await;
}

#[tokio::test]
async fn datacenters_add_up() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let b = w.store().join("node-b", "elsewhere", "b", T0).await.unwrap();
        let mut all = beats(&w, 0, 3_600);
        all.extend(beats(&w, 0, 3_600).into_iter().map(|row| BeatRow { datacenter: b.datacenter, agent: b.agent, ..row }));
        w.commit_beats(all.clone()).await;
        assert_counts(&w, HOUR, T0, sec(3_600), &all, "from raw").await;
        w.housekeep(sec(7_300)).await;
        assert_counts(&w, HOUR, T0, sec(3_600), &all, "from rollups").await;
        assert_eq!(w.store().heartbeats(w.acme(), w.shop, LATER, PAGE_MAX).await.unwrap().len(), all.len());
    })
    .await;
}

#[tokio::test]
async fn retention_deletes_the_raw_then_the_hours_and_never_the_days() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let old = beats(&w, 0, 2 * 86_400);
        let details = vec![DetailRow { monitor: w.shop, datacenter: w.me.datacenter, at: T0, json: "{}".into() }];
        for part in old.chunks(5_000) {
            let batch = Batch { beats: part.to_vec(), details: details.clone(), ..w.batch() };
            w.store().commit(&batch).await.unwrap();
        }
        w.housekeep(sec(2 * 86_400 + 600)).await;
        let young = beats(&w, 10 * 86_400, 10 * 86_400 + 3_600);
        w.commit_beats(young.clone()).await;

        // Raw is kept seven days.
        let did = w.housekeep(sec(10 * 86_400 + 3_700)).await;
        assert!(did.deleted > 0, "{did:?}");
        let left = w.store().heartbeats(w.acme(), w.shop, LATER, PAGE_MAX).await.unwrap();
        assert_eq!(left.len(), young.len(), "only the young are left");
        let all = [old.clone(), young.clone()].concat();
        assert_counts(&w, HOUR, T0, sec(11 * 86_400), &all, "hours remain").await;
        assert_counts(&w, DAY, T0, sec(11 * 86_400), &all, "days too").await;

        // Hours are kept ninety days, days for ever; and nothing recomputes what has no raw any more.
        w.housekeep(sec(200 * 86_400)).await;
        assert_counts(&w, DAY, T0, sec(200 * 86_400), &all, "days remain").await;
        let hours = w.store().metrics(w.acme(), w.shop, None, T0, sec(11 * 86_400), HOUR).await.unwrap();
        assert!(hours.iter().all(|bucket| bucket.up + bucket.down + bucket.unknown == 0), "hours are gone");
        assert_eq!(w.store().heartbeats(w.acme(), w.shop, LATER, 10).await.unwrap(), []);
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn late_data_of_a_day_without_raw_does_not_wipe_its_rollup() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let old = beats(&w, 0, 3_600);
        w.commit_beats(old.clone()).await;
        w.housekeep(sec(2 * 86_400)).await;
        w.housekeep(sec(9 * 86_400)).await;
        // A node that was cut off for nine days brings one attempt of that hour.
        w.commit_beats(vec![w.beat(w.shop, sec(5), Outcome::Up)]).await;
        w.housekeep(sec(9 * 86_400 + 60)).await;
        let day = w.store().metrics(w.acme(), w.shop, None, T0, sec(86_400), DAY).await.unwrap();
        let seen: i64 = day.iter().map(|bucket| bucket.up + bucket.down + bucket.unknown).sum();
        assert!(seen >= old.len() as i64, "{seen} of {} are left", old.len());
    })
    .await;
}

#[tokio::test]
async fn state_times_are_exact() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let states = [(0, Health::Up), (100, Health::Pending), (110, Health::Down), (250, Health::Unknown), (300, Health::Degraded)];
        for (start, health) in states {
            w.commit_decisions(vec![w.interval(w.shop, sec(start), health)]).await;
        }
        w.t.reopen().await;
        let times = async |from, to| w.store().state_times(w.acme(), w.shop, sec(from), sec(to)).await.unwrap();
        let of = |up, down, unknown| StateTimes { up: Dur::secs(up), down: Dur::secs(down), unknown: Dur::secs(unknown) };
        assert_eq!(times(0, 400).await, of(100 + 10 + 100, 140, 50));
        assert_eq!(times(-100, 50).await, of(50, 0, 100), "before the first state nothing was known");
        assert_eq!(times(105, 120).await, of(5, 10, 0), "cut on both sides");
        assert_eq!(times(310, 320).await, of(10, 0, 0), "the running state goes on");
        assert_eq!(times(50, 50).await, StateTimes::default());
        assert_eq!(times(60, 50).await, StateTimes::default(), "a window that ends before it begins is empty");
        let never = w.store().state_times(w.acme(), w.api, T0, sec(10)).await.unwrap();
        assert_eq!(never, of(0, 0, 10));
    })
    .await;
}

#[tokio::test]
async fn the_days_of_all_monitors_say_what_the_times_of_each_say() {
    each_store(|t| async move {
        const DAY_S: i64 = 86_400;
        let mut w = World::new(t).await;
        let states =
            [(-90, Health::Up), (-60, Health::Pending), (100, Health::Down), (2 * DAY_S + 9, Health::Up), (3 * DAY_S, Health::Unknown)];
        for (start, health) in states {
            w.commit_decisions(vec![w.interval(w.shop, sec(start), health)]).await;
        }
        w.commit_decisions(vec![w.interval(w.api, sec(-40), Health::Up)]).await;
        let (from, to) = (T0, sec(3 * DAY_S + 50));
        let uid = async |monitor: &str| w.store().monitor(w.acme(), monitor).await.unwrap().unwrap().uid;
        let (shop, api) = (uid("shop").await, uid("api").await);
        let days = w.store().days(w.acme(), None, from, to).await.unwrap();
        let of = |uid: &str| days.iter().find(|monitor| monitor.uid == uid).unwrap();
        let down = |seconds| StateTimes { down: Dur::secs(seconds), ..StateTimes::default() };
        let unknown = StateTimes { unknown: Dur::secs(50), ..StateTimes::default() };
        assert_eq!(of(&shop).troubled, [(0, down(DAY_S - 100)), (1, down(DAY_S)), (2, down(9)), (3, unknown)].into());
        assert_eq!((of(&api).known_since, of(&api).troubled.len()), (Some(from), 0));
        for (monitor, uid) in [(w.shop, &shop), (w.api, &api)] {
            assert_eq!(of(uid).times, w.store().state_times(w.acme(), monitor, from, to).await.unwrap());
        }
        assert_eq!(days.iter().map(|monitor| monitor.name.as_str()).collect::<Vec<_>>(), ["api", "shop"], "by name");
        let alone = w.store().days(w.acme(), Some(w.shop), from, to).await.unwrap();
        assert_eq!(alone, [of(&shop).clone()], "of one alone it is the same");
        assert_eq!(w.store().days(w.zenith(), None, from, to).await.unwrap(), [], "another tenant's are not among them");
    })
    .await;
}

#[tokio::test]
async fn pending_counts_as_what_it_was_before() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        for (start, health) in [(0, Health::Pending), (10, Health::Down), (50, Health::Up), (70, Health::Pending), (100, Health::Up)] {
            w.commit_decisions(vec![w.interval(w.shop, sec(start), health)]).await;
        }
        let times = async |from, to| w.store().state_times(w.acme(), w.shop, sec(from), sec(to)).await.unwrap();
        let of = |up, down, unknown| StateTimes { up: Dur::secs(up), down: Dur::secs(down), unknown: Dur::secs(unknown) };
        assert_eq!(times(0, 50).await, of(0, 40, 10), "never up until then");
        assert_eq!(times(80, 90).await, of(10, 0, 0), "pending all the time, and up before");
        assert_eq!(times(70, 110).await, of(40, 0, 0), "pending from its first moment on");
    })
    .await;
}

#[tokio::test]
async fn a_state_that_is_committed_twice_is_one_state() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        for _ in 0..2 {
            w.commit_decisions(vec![w.interval(w.shop, sec(0), Health::Down)]).await;
        }
        let times = w.store().state_times(w.acme(), w.shop, T0, sec(10)).await.unwrap();
        assert_eq!(times, StateTimes { down: Dur::secs(10), ..StateTimes::default() });
        assert_eq!(w.store().verify().await.unwrap(), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_each_datacenter_saw_stands_side_by_side() {
    each_store(|t| async move {
        let mut w = World::new(t).await;
        let there = w.store().join("far", "ny", "boot-ny", T0).await.unwrap();
        let here = beats(&w, 0, 9_000);
        let far: Vec<BeatRow> = here
            .iter()
            .map(|beat| BeatRow {
                datacenter: there.datacenter,
                agent: there.agent,
                outcome: Outcome::Down(Reason::HttpStatus),
                ..beat.clone()
            })
            .collect();
        w.commit_beats([here.clone(), far].concat()).await;
        // Partly from rollups, partly from raw.
        for kept in [false, true] {
            if kept {
                w.housekeep(sec(9_000)).await;
            }
            let count = async |seen_from| {
                let all = w.store().metrics(w.acme(), w.shop, seen_from, T0, sec(9_000), HOUR).await.unwrap();
                all.iter().fold((0, 0), |(up, down), bucket| (up + bucket.up, down + bucket.down))
            };
            let (up, down) = count(Some(here[0].datacenter)).await;
            assert!(up > 700 && down > 0 && up + down < 900, "{up} {down}");
            assert_eq!(count(Some(there.datacenter)).await, (0, 900));
            assert_eq!(count(None).await, (up, down + 900), "all of it, kept: {kept}");
            let strangers = w.store().metrics(TenantScope(w.zenith), w.shop, Some(there.datacenter), T0, sec(9_000), HOUR).await.unwrap();
            assert_eq!(strangers, [], "another tenant sees nothing");
        }
    })
    .await;
}
