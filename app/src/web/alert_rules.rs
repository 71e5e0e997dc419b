//! The rules of all monitors, side by side. They stand with their monitors, in a file or made over the API, and are changed there; so they are
//! only read here.

use super::Web;
use super::api::{Params, Segment};
use super::auth::Caller;
use super::channels::NoQuery;
use super::error::ApiError;
use super::types::{AlertRule, Page};
use crate::spec::MonitorSpec;
use axum::extract::State;
use axum::{Extension, Json};
use std::collections::HashMap;
use watchkeeper_core::ChannelId;

/// `GET /api/v1/alert-rules`: of every monitor that this node watches, by the monitor's name and in its order.
pub(super) async fn rules(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Json<Page<AlertRule>> {
    Json(Page { items: all(&web, &caller), next: None })
}

/// `GET /api/v1/alert-rules/{id}`: one.
pub(super) async fn rule(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Json<AlertRule>, ApiError> {
    all(&web, &caller).into_iter().find(|rule| rule.id == id).map(Json).ok_or_else(|| ApiError::not_found("alert rule"))
}

fn all(web: &Web, caller: &Caller) -> Vec<AlertRule> {
    let (fleet, channels) = (web.fleet.borrow().clone(), web.channels.borrow().clone());
    let own = channels.0.iter().filter(|channel| channel.tenant == caller.scope.0);
    let names: HashMap<ChannelId, &str> = own.map(|channel| (channel.id, channel.config.name.as_str())).collect();
    let mut monitors: Vec<&MonitorSpec> = fleet.0.values().map(|spec| &**spec).filter(|spec| spec.tenant == caller.scope.0).collect();
    monitors.sort_by(|a, b| a.name.cmp(&b.name));
    let names = &names;
    monitors.into_iter().flat_map(|monitor| monitor.policy.rules.iter().map(move |rule| AlertRule::of(monitor, rule, names))).collect()
}
