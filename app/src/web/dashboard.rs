//! Everything in six numbers, for screens that show no more.

use super::Web;
use super::api::Params;
use super::auth::Caller;
use super::channels::NoQuery;
use super::error::ApiError;
use super::periods::uptime_percent;
use super::types::DashboardStats;
use crate::store::{StateTimes, Stats};
use axum::extract::State;
use axum::{Extension, Json};
use watchkeeper_core::Dur;

/// Uptime is of so long.
const SPAN: Dur = Dur::secs(86_400);

/// `GET /api/v1/dashboard/stats`.
pub(super) async fn stats(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Json<DashboardStats>, ApiError> {
    let now = web.clock.now();
    let Stats { monitors, up, down, open_incidents, response_us } = web.store.stats(caller.scope).await?;
    let mut times = StateTimes::default();
    for monitor in web.store.days(caller.scope, None, now - SPAN, now).await? {
        times.up.0 += monitor.times.up.0;
        times.down.0 += monitor.times.down.0;
    }
    Ok(Json(DashboardStats {
        total_monitors: monitors,
        up_count: up,
        down_count: down,
        open_incidents,
        average_response_time: response_us.map(|us| us / 1e3),
        overall_uptime: uptime_percent(&times),
    }))
}
