//! The days of all monitors in one answer: what a list with bars needs, exactly or as a letter for each day. From exact state intervals, like
//! all uptime.

use super::Web;
use super::api::{Params, own_monitor};
use super::auth::Caller;
use super::error::ApiError;
use super::periods::uptime_percent;
use super::types::{Bars, MonitorBars, Time, TroubledDay, Uptime, UptimeDays};
use crate::store::MonitorDays;
use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use watchkeeper_core::{Dur, Micros};

/// Days when nobody says how many.
const DAYS_DEFAULT: i64 = 90;

/// Days at most. More would let one request read the whole history of every monitor.
const DAYS_MAX: i64 = 366;

const DAY: Dur = Dur::secs(86_400);

/// Down for more than this part of a day, and the day was bad.
const BAD: f64 = 0.02;

/// What a day was like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Day {
    None,
    Unknown,
    Up,
    Short,
    Down,
}

impl Day {
    /// As [`Bars`] has it.
    const fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Unknown => 'x',
            Self::Up => 'u',
            Self::Short => 's',
            Self::Down => 'd',
        }
    }
}

/// What a day was like, as far as it was watched: neither before the first known state, nor what is still to come.
pub(super) fn day(known: &MonitorDays, nth: i64, from: Micros, now: Micros) -> Day {
    let Some(since) = known.known_since else { return Day::None };
    let start = from + Dur(DAY.0 * nth);
    let watched = ((start + DAY).min(now) - start.max(since)).0;
    if watched <= 0 {
        return Day::None;
    }
    let Some(times) = known.troubled.get(&nth) else { return Day::Up };
    let part = |length: Dur| length.0 as f64 / watched as f64;
    if part(times.down) > BAD {
        Day::Down
    } else if times.down > Dur::ZERO {
        Day::Short
    } else if part(times.unknown) > 0.5 {
        Day::Unknown
    } else {
        Day::Up
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct UptimeQuery {
    /// How many, 1 to 366; 90 if not given.
    days: Option<i64>,
    /// Of one alone, by public id or name.
    monitor: Option<String>,
}

/// `GET /api/v1/uptime?days=&monitor=`: of every monitor that was seen in so many days, today included; or of one.
pub(super) async fn uptime(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<UptimeQuery>,
) -> Result<Json<Uptime>, ApiError> {
    let (days, from, to) = window(&web, query.days)?;
    let only = match query.monitor {
        Some(id) => Some(own_monitor(&web, &caller, &id).await?.id),
        None => None,
    };
    let found = web.store.days(caller.scope, only, from, to).await?;
    Ok(Json(Uptime { from: Time(from), to: Time(to), days, items: found.into_iter().map(of).collect() }))
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct BarsQuery {
    /// How many, 1 to 366; 90 if not given.
    days: Option<i64>,
}

/// `GET /api/v1/bars?days=`: of every monitor, as small as it can be drawn from.
pub(super) async fn bars(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<BarsQuery>,
) -> Result<Json<Bars>, ApiError> {
    let (days, from, to) = window(&web, query.days)?;
    let found = web.store.days(caller.scope, None, from, to).await?;
    let items = found.into_iter().map(|monitor| MonitorBars {
        uptime_percent: uptime_percent(&monitor.times),
        days: (0..days).map(|nth| day(&monitor, nth, from, to).letter()).collect(),
        name: monitor.name,
    });
    Ok(Json(Bars { from: Time(from), to: Time(to), days, items: items.collect() }))
}

/// How many days are wanted, the beginning of the first, and now.
fn window(web: &Web, days: Option<i64>) -> Result<(i64, Micros, Micros), ApiError> {
    let days = days.unwrap_or(DAYS_DEFAULT);
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(ApiError::bad_request(format!("`days` is {days}; accepted are 1 to {DAYS_MAX}")));
    }
    let to = web.clock.now();
    Ok((days, first_day(to, days), to))
}

/// The beginning of the first of so many days in UTC, of which `now` lies in the last.
pub(super) fn first_day(now: Micros, days: i64) -> Micros {
    Micros(now.0 - now.0.rem_euclid(DAY.0)) - Dur(DAY.0 * (days - 1))
}

fn of(monitor: MonitorDays) -> UptimeDays {
    let MonitorDays { uid, name: _, known_since, times, troubled } = monitor;
    let seconds = |d: Dur| d.0 as f64 / 1e6;
    let troubled = troubled
        .into_iter()
        .map(|(nth, times)| TroubledDay { nth, down_seconds: seconds(times.down), unknown_seconds: seconds(times.unknown) })
        .collect();
    UptimeDays { uid, uptime_percent: uptime_percent(&times), known_since: known_since.map(Time), troubled }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_day_is_today() {
        let now = Micros(1_770_000_123_456_789);
        let midnight = Micros(1_769_990_400_000_000);
        assert_eq!(first_day(now, 1), midnight);
        assert_eq!(first_day(midnight, 1), midnight);
        assert_eq!(first_day(now, 90), midnight - Dur::secs(89 * 86_400));
    }
}
