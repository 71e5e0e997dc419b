//! The days of all monitors in one answer: what a list with bars needs. From exact state intervals, like all uptime.

use super::Web;
use super::api::Params;
use super::auth::Caller;
use super::error::ApiError;
use super::periods::uptime_percent;
use super::types::{Time, TroubledDay, Uptime, UptimeDays};
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

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct UptimeQuery {
    /// How many, 1 to 366; 90 if not given.
    days: Option<i64>,
}

/// `GET /api/v1/uptime?days=`: of every monitor that was seen in so many days, today included.
pub(super) async fn uptime(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<UptimeQuery>,
) -> Result<Json<Uptime>, ApiError> {
    let days = query.days.unwrap_or(DAYS_DEFAULT);
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(ApiError::bad_request(format!("`days` is {days}; accepted are 1 to {DAYS_MAX}")));
    }
    let to = web.clock.now();
    let from = first_day(to, days);
    let found = web.store.days(caller.scope, from, to).await?;
    Ok(Json(Uptime { from: Time(from), to: Time(to), days, items: found.into_iter().map(of).collect() }))
}

/// The beginning of the first of so many days in UTC, of which `now` lies in the last.
pub(super) fn first_day(now: Micros, days: i64) -> Micros {
    Micros(now.0 - now.0.rem_euclid(DAY.0)) - Dur(DAY.0 * (days - 1))
}

fn of(monitor: MonitorDays) -> UptimeDays {
    let MonitorDays { uid, known_since, times, troubled } = monitor;
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
