//! Dead letters: notices that were given up. They stay in sight until somebody sends them again.

use super::Web;
use super::api::{Params, Segment, cut, limited};
use super::auth::Caller;
use super::error::ApiError;
use super::types::{DeadLetter, Done, Page};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLettersQuery {
    /// Those before this number.
    before: Option<i64>,
    /// How many, 1 to 500; 100 if not given.
    limit: Option<i64>,
}

/// `GET /api/v1/dead-letters`: newest first.
pub(super) async fn dead_letters(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<DeadLettersQuery>,
) -> Result<Json<Page<DeadLetter>>, ApiError> {
    let limit = limited(query.limit)?;
    let mut found = web.store.dead_letters(caller.scope, query.before, limit + 1).await?;
    let more = cut(&mut found, limit);
    let next = found.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Json(Page { items: found.into_iter().map(DeadLetter::of).collect(), next }))
}

/// `POST /api/v1/dead-letters/{id}/retry`: it is due again, with its attempts counted anew.
pub(super) async fn retry(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    let absent = || ApiError::not_found("dead letter");
    let id: i64 = id.parse().map_err(|_| absent())?;
    web.store.retry_dead(caller.scope, id, web.clock.now()).await?.ok_or_else(absent)?;
    (web.control.wake_channels)();
    tracing::info!(notice.id = id, actor = %caller.name, "{} has notice {id} sent again", caller.name);
    Ok((StatusCode::ACCEPTED, Json(Done { message: "due again: it is sent as soon as its channel may".to_owned() })))
}
