//! Measured history put together from rollups and raw heartbeats; the same for both stores.
//!
//! A closed hour that is not dirty is answered from its rollup, a closed day from its own when whole days are wanted; everything
//! else, above all the running hour, from raw heartbeats. So an answer never depends on when housekeeping last ran.

use super::error::unreadable;
use super::flat::{DAY, HOUR};
use super::rows::{self, Columns, Sql};
use super::{BeatRow, MetricBucket, MonitorDays, PAGE_MAX, StateTimes, Stats};
use crate::sketch::Sketch;
use std::collections::{BTreeMap, BTreeSet};
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{Dur, Micros, Outcome};

/// Counts of some attempts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub up: i64,
    pub down: i64,
    pub unknown: i64,
    pub codes: BTreeMap<i32, i64>,
    pub sketch: Sketch,
}

impl Tally {
    fn add(&mut self, outcome: i64, total_us: i64, code: i64) {
        match outcome {
            0 => {
                self.up += 1;
                self.sketch.add(total_us.max(0) as u64);
            }
            1 => self.down += 1,
            _ => self.unknown += 1,
        }
        if code >= 0 {
            *self.codes.entry(code as i32).or_insert(0) += 1;
        }
    }

    /// Adds what another one counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.up += other.up;
        self.down += other.down;
        self.unknown += other.unknown;
        for (code, n) in &other.codes {
            *self.codes.entry(*code).or_insert(0) += n;
        }
        self.sketch.merge(&other.sketch);
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.up + self.down + self.unknown == 0
    }

    /// From: up, down, unknown, codes, sketch, beginning at `from`.
    pub(super) fn read(row: &impl Columns, from: usize) -> Sql<Self> {
        let codes: BTreeMap<i32, i64> = rows::json(&row.text(from + 3)?, "a rollup's codes are not readable")?;
        let sketch = Sketch::from_bytes(&row.bytes(from + 4)?).ok_or_else(|| unreadable("a rollup's sketch is not readable"))?;
        Ok(Self { up: row.int(from)?, down: row.int(from + 1)?, unknown: row.int(from + 2)?, codes, sketch })
    }

    /// The codes as they are stored.
    pub(super) fn codes_json(&self) -> String {
        serde_json::to_string(&self.codes).expect("a map of numbers is JSON")
    }
}

/// Counts raw heartbeats that come sorted by (datacenter, at, agent); one that comes twice is counted once.
#[derive(Default)]
pub(super) struct RawCount {
    last: Option<(i64, i64, i64)>,
    /// By the beginning of the bucket.
    pub buckets: BTreeMap<i64, Tally>,
}

impl RawCount {
    /// Counts one from: datacenter, at, agent, outcome, total_us, code.
    pub(super) fn add(&mut self, row: &impl Columns, span: i64) -> Sql<()> {
        let (datacenter, at, agent) = (row.int(0)?, row.int(1)?, row.int(2)?);
        if self.last == Some((datacenter, at, agent)) {
            return Ok(());
        }
        self.last = Some((datacenter, at, agent));
        self.buckets.entry(floor(at, span)).or_default().add(row.int(3)?, row.int(4)?, row.int(5)?);
        Ok(())
    }
}

/// A stored rollup of one datacenter.
pub(super) struct Rollup {
    pub span: i64,
    pub start: i64,
    pub tally: Tally,
}

impl Rollup {
    /// From: span, start, up, down, unknown, codes, sketch.
    pub(super) fn read(row: &impl Columns) -> Sql<Self> {
        Ok(Self { span: row.int(0)?, start: row.int(1)?, tally: Tally::read(row, 2)? })
    }
}

/// What was asked for, and what of it rollups answer.
pub(super) struct Cover {
    from: i64,
    to: i64,
    span: i64,
    /// Clean hours and days, over all datacenters.
    hours: BTreeMap<i64, Tally>,
    days: BTreeMap<i64, Tally>,
}

impl Cover {
    /// Sorts the stored rollups within [from, to); `dirty` are the (span, start) that are to be computed again.
    pub(super) fn new(from: Micros, to: Micros, span: Dur, stored: Vec<Rollup>, dirty: &BTreeSet<(i64, i64)>) -> Self {
        let mut cover = Self { from: from.0, to: to.0, span: span.0.max(1), hours: BTreeMap::new(), days: BTreeMap::new() };
        for rollup in stored {
            if rollup.start < cover.from || rollup.start + rollup.span > cover.to || dirty.contains(&(rollup.span, rollup.start)) {
                continue;
            }
            let place = if rollup.span == DAY { &mut cover.days } else { &mut cover.hours };
            place.entry(rollup.start).or_default().merge(&rollup.tally);
        }
        let unsure: BTreeSet<i64> = dirty.iter().map(|(_, start)| floor(*start, DAY)).collect();
        cover.days.retain(|day, _| !unsure.contains(day));
        // A rollup answers only where whole ones fit into the wanted span; a day answers for its hours.
        if cover.span % HOUR != 0 {
            cover.hours.clear();
        }
        if cover.span % DAY != 0 {
            cover.days.clear();
        }
        let days = &cover.days;
        cover.hours.retain(|hour, _| !days.contains_key(&floor(*hour, DAY)));
        cover
    }

    /// What must be counted from raw heartbeats, as ranges [from, to) in order.
    pub(super) fn raw(&self) -> Vec<(i64, i64)> {
        let days = self.days.keys().map(|day| (*day, day + DAY));
        let mut answered: Vec<(i64, i64)> = self.hours.keys().map(|hour| (*hour, hour + HOUR)).chain(days).collect();
        answered.sort_unstable();
        let (mut ranges, mut at) = (Vec::new(), self.from);
        for (start, end) in answered {
            if at < start {
                ranges.push((at, start));
            }
            at = end;
        }
        if at < self.to {
            ranges.push((at, self.to));
        }
        ranges
    }

    /// The span by which raw heartbeats are counted.
    pub(super) const fn span(&self) -> i64 {
        self.span
    }

    /// Puts everything together: newest [`PAGE_MAX`] lines in order of time, without empty ones.
    pub(super) fn finish(self, raw: RawCount) -> Vec<MetricBucket> {
        let mut lines = raw.buckets;
        for (start, tally) in self.hours.iter().chain(&self.days) {
            lines.entry(floor(*start, self.span)).or_default().merge(tally);
        }
        let skip = lines.len().saturating_sub(PAGE_MAX as usize);
        let lines = lines.into_iter().filter(|(_, tally)| !tally.is_empty());
        lines.skip(skip).map(|(start, tally)| bucket(start, self.span, tally)).collect()
    }
}

fn bucket(start: i64, span: i64, tally: Tally) -> MetricBucket {
    let Tally { up, down, unknown, codes, sketch } = tally;
    MetricBucket { start: Micros(start), span: Dur(span), up, down, unknown, sketch, codes }
}

/// The beginning of the bucket of that span, counted from 1970.
pub(super) const fn floor(at: i64, span: i64) -> i64 {
    at.div_euclid(span) * span
}

/// Adds up state intervals, given as (start, end, state) in order, within [from, to). What no interval covers is unknown.
/// `Pending` counts as what it was before, because nothing else is proven yet: a target that was never up was never up. So the
/// intervals begin one before the one that `from` lies in.
pub(super) fn state_times(from: Micros, to: Micros, intervals: impl Iterator<Item = (i64, Option<i64>, i64)>) -> StateTimes {
    let (mut up, mut down) = (0, 0);
    let mut before = Health::Unknown;
    for (start, end, state) in intervals {
        let length = (end.unwrap_or(to.0).min(to.0) - start.max(from.0)).max(0);
        before = proven(state, before);
        match before {
            Health::Up | Health::Degraded => up += length,
            Health::Down => down += length,
            Health::Unknown | Health::Pending => {}
        }
    }
    StateTimes { up: Dur(up), down: Dur(down), unknown: Dur(((to - from).0 - up - down).max(0)) }
}

/// What a stored state says, after what was proven before it.
fn proven(state: i64, before: Health) -> Health {
    match Health::from_code(state as i16).unwrap_or_default() {
        Health::Pending => before,
        known @ (Health::Up | Health::Degraded | Health::Down | Health::Unknown) => known,
    }
}

/// A tenant in numbers, from how its monitors are, its open incidents and its newest heartbeats.
pub(super) fn stats(healths: impl Iterator<Item = Health>, open_incidents: i64, newest: impl Iterator<Item = BeatRow>) -> Stats {
    let mut stats = Stats { open_incidents, ..Stats::default() };
    for health in healths {
        stats.monitors += 1;
        match health {
            Health::Up | Health::Degraded => stats.up += 1,
            Health::Down => stats.down += 1,
            Health::Unknown | Health::Pending => {}
        }
    }
    let well: Vec<i64> = newest.filter(|beat| beat.outcome == Outcome::Up).map(|beat| beat.total_us).collect();
    stats.response_us = (!well.is_empty()).then(|| well.iter().sum::<i64>() as f64 / well.len() as f64);
    stats
}

/// The days of many monitors, from their intervals as for [`state_times`].
pub(super) struct Days {
    from: Micros,
    to: Micros,
    done: Vec<MonitorDays>,
}

impl Days {
    pub(super) fn new(from: Micros, to: Micros) -> Self {
        Self { from, to, done: Vec::new() }
    }

    /// Reads one from: uid, name, and its intervals as one text. Many short rows would cost more than all else: thousands of monitors have a
    /// hundred thousand intervals.
    pub(super) fn read(&mut self, row: &impl Columns) -> Sql<()> {
        let Some(text) = row.maybe_text(2)? else { return Ok(()) };
        let mut intervals = intervals(&text).ok_or_else(|| unreadable("a monitor's intervals are not numbers"))?;
        intervals.sort_unstable();
        self.add(row.text(0)?, row.text(1)?, &intervals);
        Ok(())
    }

    /// Adds a monitor with its intervals, in order.
    fn add(&mut self, uid: String, name: String, intervals: &[(i64, Option<i64>, i64)]) {
        let mut monitor = MonitorDays { uid, name, known_since: None, times: StateTimes::default(), troubled: BTreeMap::new() };
        let mut before = Health::Unknown;
        for (start, end, state) in intervals {
            before = proven(*state, before);
            let (start, end) = (self.from.0.max(*start), end.unwrap_or(self.to.0).min(self.to.0));
            if start < end {
                self.count(&mut monitor, before, start, end);
            }
        }
        // Nothing is shown of one that was never seen.
        if monitor.known_since.is_some() {
            self.done.push(monitor);
        }
    }

    fn count(&self, monitor: &mut MonitorDays, health: Health, start: i64, end: i64) {
        let down = match health {
            Health::Up | Health::Degraded => {
                monitor.times.up.0 += end - start;
                monitor.known_since.get_or_insert(Micros(start));
                return;
            }
            Health::Down => true,
            // Before anything was known there is nothing to show.
            Health::Unknown | Health::Pending if monitor.known_since.is_none() => return,
            Health::Unknown | Health::Pending => false,
        };
        monitor.known_since.get_or_insert(Micros(start));
        let mut begin = start;
        while begin < end {
            let nth = (begin - self.from.0).div_euclid(DAY);
            let until = end.min(self.from.0 + (nth + 1) * DAY);
            let day = monitor.troubled.entry(nth).or_default();
            let (day, all) = if down { (&mut day.down, &mut monitor.times.down) } else { (&mut day.unknown, &mut monitor.times.unknown) };
            day.0 += until - begin;
            all.0 += until - begin;
            begin = until;
        }
    }

    /// Every monitor that has anything to show, by name.
    pub(super) fn finish(mut self) -> Vec<MonitorDays> {
        self.done.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.done
    }
}

/// Intervals from a text of their starts, ends and states, `1,2 2, 0,1`; the newest has no end. They come in no order, but all three in the same.
fn intervals(text: &str) -> Option<Vec<(i64, Option<i64>, i64)>> {
    let mut lists = text.split(' ').map(|list| list.split(','));
    let (mut starts, mut ends, mut states) = (lists.next()?, lists.next()?, lists.next()?);
    let mut found = Vec::new();
    loop {
        let (start, end, state) = match (starts.next(), ends.next(), states.next()) {
            (None, None, None) => return Some(found),
            (start, end, state) => (start?, end?, state?),
        };
        let end = if end.is_empty() { None } else { Some(end.parse().ok()?) };
        found.push((start.parse().ok()?, end, state.parse().ok()?));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollup(span: i64, start: i64, up: i64) -> Rollup {
        Rollup { span, start, tally: Tally { up, ..Tally::default() } }
    }

    fn cover(from: i64, to: i64, span: i64, stored: Vec<Rollup>, dirty: &[(i64, i64)]) -> Cover {
        Cover::new(Micros(from), Micros(to), Dur(span), stored, &dirty.iter().copied().collect())
    }

    #[test]
    fn raw_fills_what_clean_rollups_leave() {
        let hours = || vec![rollup(HOUR, 0, 1), rollup(HOUR, HOUR, 2), rollup(HOUR, 2 * HOUR, 4)];
        let c = cover(0, 3 * HOUR + 5, HOUR, hours(), &[(HOUR, HOUR)]);
        assert_eq!(c.raw(), vec![(HOUR, 2 * HOUR), (3 * HOUR, 3 * HOUR + 5)]);
        // An hour that is only partly wanted is counted from raw.
        assert_eq!(cover(5, 3 * HOUR, HOUR, hours(), &[]).raw(), vec![(5, HOUR)]);
        // A finer span needs raw everywhere.
        assert_eq!(cover(0, 3 * HOUR, HOUR / 4, hours(), &[]).raw(), vec![(0, 3 * HOUR)]);
    }

    #[test]
    fn days_answer_where_whole_days_are_wanted() {
        let stored = || vec![rollup(DAY, 0, 7), rollup(HOUR, HOUR, 3), rollup(DAY, DAY, 9)];
        let lines = |span| {
            let c = cover(0, 2 * DAY, span, stored(), &[]);
            c.finish(RawCount::default()).iter().map(|b| (b.start.0, b.span.0, b.up)).collect::<Vec<_>>()
        };
        assert_eq!(lines(DAY), [(0, DAY, 7), (DAY, DAY, 9)]);
        assert_eq!(lines(HOUR), [(HOUR, HOUR, 3)]);
        // A dirty hour makes its day unsure.
        let c = cover(0, 2 * DAY, DAY, stored(), &[(HOUR, 5 * HOUR)]);
        assert_eq!(c.raw(), vec![(0, HOUR), (2 * HOUR, DAY)]);
    }

    #[test]
    fn only_days_with_trouble_are_named_and_nothing_before_the_first_state() {
        let code = |health: Health| i64::from(health.code());
        let (up, pending, down, unknown) = (code(Health::Up), code(Health::Pending), code(Health::Down), code(Health::Unknown));
        let mut days = Days::new(Micros(0), Micros(5 * DAY));
        let a = [
            (-20, Some(-10), up),
            (-10, Some(10), pending),
            (10, Some(DAY - 5), up),
            (DAY - 5, Some(2 * DAY + 7), down),
            (2 * DAY + 7, Some(4 * DAY), up),
            (4 * DAY, Some(4 * DAY + 3), unknown),
            (4 * DAY + 3, None, up),
        ];
        let (b, c) = ([(0, Some(DAY), unknown), (DAY, None, pending)], [(DAY, Some(DAY + 1), unknown), (3 * DAY, None, down)]);
        for (name, intervals) in [("a", &a[..]), ("b", &b), ("c", &c)] {
            days.add(name.to_owned(), name.to_uppercase(), intervals);
        }
        let days = days.finish();
        let times = |up, down, unknown| StateTimes { up: Dur(up), down: Dur(down), unknown: Dur(unknown) };
        assert_eq!(days.iter().map(|monitor| monitor.uid.as_str()).collect::<Vec<_>>(), ["a", "c"], "b was never seen");
        assert_eq!((days[0].known_since, days[1].known_since), (Some(Micros(0)), Some(Micros(3 * DAY))));
        let a = [(0, times(0, 5, 0)), (1, times(0, DAY, 0)), (2, times(0, 7, 0)), (4, times(0, 0, 3))];
        assert_eq!(days[0].troubled, BTreeMap::from(a));
        assert_eq!(days[0].times, times(4 * DAY - 15, DAY + 12, 3));
        assert_eq!(days[1].troubled, BTreeMap::from([(3, times(0, DAY, 0)), (4, times(0, DAY, 0))]));
    }

    #[test]
    fn intervals_are_read_from_their_text() {
        assert_eq!(intervals("7,-5 ,7 2,1"), Some(vec![(7, None, 2), (-5, Some(7), 1)]));
        for bad in ["", "1", "1 2", "1,2 2 0", "1 2,3 0", "1 2 0,1", "x 2 0", "1 x 0", "1 2 x", "1 2 "] {
            assert_eq!(intervals(bad), None, "{bad}");
        }
    }

    #[test]
    fn state_times_are_clipped_and_the_rest_is_unknown() {
        let times = state_times(Micros(10), Micros(100), [(0, Some(20), 1), (20, Some(30), 4), (50, None, 3)].into_iter());
        assert_eq!(times, StateTimes { up: Dur(10), down: Dur(60), unknown: Dur(20) }, "pending after down");
        let code = |health: Health| i64::from(health.code());
        let (up, pending, down) = (code(Health::Up), code(Health::Pending), code(Health::Down));
        let times = state_times(Micros(10), Micros(40), [(0, Some(20), pending), (20, None, down)].into_iter());
        assert_eq!(times, StateTimes { up: Dur(0), down: Dur(20), unknown: Dur(10) }, "pending before anything was known");
        let times = state_times(Micros(10), Micros(40), [(0, Some(5), up), (5, Some(20), pending), (20, None, down)].into_iter());
        assert_eq!(times, StateTimes { up: Dur(10), down: Dur(20), unknown: Dur(0) }, "pending after up, across the beginning");
    }
}
