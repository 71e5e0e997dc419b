//! Incidents: reading them, and what people do about them.
//!
//! What a person does is recorded as a fact, like a push; the node that decides for the monitor folds it within a moment. So
//! an order is answered with 202: it is safe, and not yet done. Nothing is decided here.

use super::Web;
use super::api::{Params, Segment, cut, limited, own_monitor, shortened, without_nul};
use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::types::{Done, Incident, NewComment, Order, Page, Time};
use crate::store::IncidentFilter;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use serde::Deserialize;
use std::num::NonZeroU32;
use watchkeeper_core::verdict::Action;
use watchkeeper_core::{IncidentId, Micros, TenantId};

/// A comment may have so many characters: a page of text. Longer ones belong where documents are; shorter would cut a pasted
/// error message.
pub const COMMENT_MAX: usize = 4_000;

/// What the people of one tenant do per second, in the long run, and at once. A team in a large outage does a few; more would let
/// one loop gone wild fill timelines and tables.
const ACTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("10 is not zero");
const ACTS_AT_ONCE: NonZeroU32 = NonZeroU32::new(200).expect("200 is not zero");

/// The limit over what people do about incidents and silences, by tenant.
pub(super) struct ActLimits(DefaultKeyedRateLimiter<TenantId>);

impl Default for ActLimits {
    fn default() -> Self {
        Self(RateLimiter::keyed(Quota::per_second(ACTS_PER_SECOND).allow_burst(ACTS_AT_ONCE)))
    }
}

/// Before anything is done.
pub(super) fn admit(web: &Web, caller: &Caller) -> Result<(), ApiError> {
    let refused = |_| ApiError::too_many(format!("more than {ACTS_PER_SECOND} deeds a second; try again in a second"));
    web.0.act_limits.0.check_key(&caller.scope.0).map_err(refused)
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct IncidentsQuery {
    /// `open`, `acknowledged` or `resolved`.
    status: Option<String>,
    /// Those of the monitor of this public id or name.
    monitor: Option<String>,
    /// Those before this time, or this `next`.
    before: Option<String>,
    /// How many, 1 to 500; 100 if not given.
    limit: Option<i64>,
}

/// `GET /api/v1/incidents`: newest first.
pub(super) async fn incidents(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<IncidentsQuery>,
) -> Result<Json<Page<Incident>>, ApiError> {
    const STATUSES: [&str; 4] = ["open", "acknowledged", "resolved", "unresolved"];
    let limit = limited(query.limit)?;
    if let Some(status) = query.status.as_deref().filter(|s| !STATUSES.contains(s)) {
        return Err(ApiError::bad_request(format!("`status` is `{}`; accepted are {}", shortened(status), STATUSES.join(", "))));
    }
    let before = query.before.as_deref().map(read_cursor).transpose()?;
    let monitor_uid = match query.monitor {
        Some(id) => Some(own_monitor(&web, &caller, &id).await?.uid),
        None => None,
    };
    let filter = IncidentFilter { status: query.status, monitor_uid, before, limit: limit + 1 };
    let mut views = web.store.incidents(caller.scope, &filter).await?;
    let more = cut(&mut views, limit);
    let next = views.last().filter(|_| more).map(|last| format!("{}_{}", Time(last.opened_at), last.id.0));
    Ok(Json(Page { items: views.into_iter().map(|view| Incident::of(view, false)).collect(), next }))
}

/// Reads where a page of incidents begins: a time, or a time and a number as `next` gives them.
fn read_cursor(text: &str) -> Result<(Micros, IncidentId), ApiError> {
    let read = match text.split_once('_') {
        Some((time, id)) => time.parse::<Time>().ok().zip(id.parse().ok()),
        // Before a time alone: no incident of that very microsecond is left out by its number.
        None => text.parse::<Time>().ok().map(|time| (time, 0)),
    };
    read.map(|(time, id)| (time.0, IncidentId(id))).ok_or_else(|| {
        ApiError::bad_request(format!(
            "`before` is `{}`; accepted is a time such as 2026-01-31T12:00:00Z, or the `next` of a page",
            shortened(text)
        ))
    })
}

/// `GET /api/v1/incidents/{id}`: one, with its timeline and what was told to whom.
pub(super) async fn incident(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Json<Incident>, ApiError> {
    let view = web.store.incident(caller.scope, without_nul(&id)?).await?.ok_or_else(|| ApiError::not_found("incident"))?;
    Ok(Json(Incident::of(view, true)))
}

/// `POST /api/v1/incidents/{id}/acknowledge`: "I am on it"; reminders and escalation stop.
pub(super) async fn acknowledge(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Body(order): Body<Order>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    act(&web, &caller, &id, Action::Acknowledge, order).await
}

/// `POST /api/v1/incidents/{id}/unacknowledge`: "I am not"; they go on.
pub(super) async fn unacknowledge(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Body(order): Body<Order>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    act(&web, &caller, &id, Action::Unacknowledge, order).await
}

/// `POST /api/v1/incidents/{id}/resolve`: "it is over"; it does not open again before it has been well once.
pub(super) async fn resolve(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Body(order): Body<Order>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    act(&web, &caller, &id, Action::Resolve, order).await
}

/// Records what a person does about an open incident, and wakes whoever folds it.
async fn act(web: &Web, caller: &Caller, id: &str, action: Action, order: Order) -> Result<(StatusCode, Json<Done>), ApiError> {
    let id = without_nul(id)?;
    let comment = order.comment.as_deref().map(|text| written(text, "comment")).transpose()?;
    if !web.store.insert_action(caller.scope, id, action, &caller.name, comment, web.clock.now()).await? {
        let view = web.store.incident(caller.scope, id).await?.ok_or_else(|| ApiError::not_found("incident"))?;
        let ended = view.resolved_at.map_or_else(String::new, |at| format!(" since {}", Time(at)));
        return Err(ApiError::conflict("already_resolved", format!("the incident is over{ended}: {}", view.summary)));
    }
    web.control.wake_actions.notify_one();
    if let Some(text) = comment {
        web.store.comment(caller.scope, id, &caller.name, text, web.clock.now()).await?;
    }
    tracing::info!(incident.id = %id, action = action.as_str(), actor = %caller.name, "{} asks to {} incident {id}", caller.name, action.as_str());
    let message = format!("recorded for {}: the incident's status follows within a moment", caller.name);
    Ok((StatusCode::ACCEPTED, Json(Done { message })))
}

/// `POST /api/v1/incidents/{id}/comments`: a person's words on the timeline, also after its end.
pub(super) async fn comment(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Body(comment): Body<NewComment>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let text = written(&comment.text, "text")?;
    if !web.store.comment(caller.scope, without_nul(&id)?, &caller.name, text, web.clock.now()).await? {
        return Err(ApiError::not_found("incident"));
    }
    Ok((StatusCode::CREATED, Json(Done { message: "on the timeline".to_owned() })))
}

/// A person's words: some, and not too many.
pub(super) fn written<'t>(text: &'t str, key: &str) -> Result<&'t str, ApiError> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 {
        return Err(ApiError::bad_request(format!("`{key}` is empty; accepted are 1 to {COMMENT_MAX} characters")));
    }
    if length > COMMENT_MAX {
        return Err(ApiError::bad_request(format!("`{key}` has {length} characters; accepted are 1 to {COMMENT_MAX}")));
    }
    // PostgreSQL takes no NUL in a text.
    if text.contains('\0') {
        return Err(ApiError::bad_request(format!("`{key}` holds a NUL character, which is not accepted")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_of_incidents_reads_back_and_nonsense_is_refused() {
        let at = Micros(1_770_000_000_123_456);
        assert_eq!(read_cursor(&format!("{}_17", Time(at))).unwrap(), (at, IncidentId(17)));
        assert_eq!(read_cursor("2026-02-02T02:40:00.123456Z").unwrap(), (at, IncidentId(0)));
        for bad in ["", "17", "_", "2026-02-02T02:40:00Z_", "2026-02-02T02:40:00Z_x", "yesterday"] {
            assert!(read_cursor(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn words_have_a_length() {
        assert_eq!(written("  on it \n", "text").unwrap(), "on it");
        assert!(written(&"ü".repeat(COMMENT_MAX), "text").is_ok());
        for bad in [" \n ".to_owned(), "x".repeat(COMMENT_MAX + 1), "a\0b".to_owned()] {
            assert!(written(&bad, "text").unwrap_err().message.contains("`text`"), "{bad:?}");
        }
    }
}
