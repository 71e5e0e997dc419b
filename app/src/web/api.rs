//! Reading monitors and heartbeats, and what all lists share. Every query goes through the caller's tenant.

use super::Web;
use super::auth::{Caller, Role};
use super::channels::NoQuery;
use super::documents::{etag, made_object};
use super::error::ApiError;
use super::packed::ShowsASecret;
use super::types::{Heartbeat, Monitor, MonitorBrief, Mute, Overview, Page, Time};
use crate::config::documents::DocumentKind;
use crate::mutes::InForce;
use crate::spec::MADE_OVER_THE_API;
use crate::store::MonitorView;
use axum::Extension;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use watchkeeper_core::Micros;
use watchkeeper_core::matcher::Subject;

/// Items of a page when nobody says how many.
const LIMIT_DEFAULT: i64 = 100;

/// Items of a page at most: half of what the store gives at once, because one more is read to see whether a page follows.
pub const LIMIT_MAX: i64 = 500;

/// The query of a request; a key that is not known, or a value that is not accepted, is an error with its name.
pub(super) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|rejected| ApiError::bad_request(rejected.body_text()))
    }
}

/// One part of the path, as text.
pub(super) struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(text)| Self(text)).map_err(|_| ApiError::bad_request("the path is not valid UTF-8"))
    }
}

/// Checks how many items are wanted.
pub(super) fn limited(limit: Option<i64>) -> Result<i64, ApiError> {
    match limit {
        None => Ok(LIMIT_DEFAULT),
        Some(n) if (1..=LIMIT_MAX).contains(&n) => Ok(n),
        Some(n) => Err(ApiError::bad_request(format!("`limit` is {n}; accepted are 1 to {LIMIT_MAX}"))),
    }
}

/// Cuts a list that was read one longer than wanted; says whether it was.
pub(super) fn cut<T>(items: &mut Vec<T>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    more
}

/// The monitor of the path, if it is the caller's.
pub(super) async fn own_monitor(web: &Web, caller: &Caller, id: &str) -> Result<MonitorView, ApiError> {
    web.store.monitor(caller.scope, without_nul(id)?).await?.ok_or_else(|| ApiError::not_found("monitor"))
}

/// A NUL is in no name, and PostgreSQL takes none in a text.
pub(super) fn without_nul(text: &str) -> Result<&str, ApiError> {
    if text.contains('\0') { Err(ApiError::bad_request("a NUL character is in no name")) } else { Ok(text) }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct MonitorsQuery {
    /// Those after this name.
    after: Option<String>,
    /// How many, 1 to 500; 100 if not given.
    limit: Option<i64>,
}

/// `GET /api/v1/monitors`: by name.
pub(super) async fn monitors(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<MonitorsQuery>,
) -> Result<Json<Page<Monitor>>, ApiError> {
    let limit = limited(query.limit)?;
    let after = query.after.as_deref().map(without_nul).transpose()?;
    let mut views = web.store.monitors(caller.scope, after, limit + 1).await?;
    let more = cut(&mut views, limit);
    let next = views.last().filter(|_| more).map(|last| last.name.clone());
    let held = in_force(&web, &caller).await?;
    let items = views.into_iter().map(|view| {
        let mutes = mutes_of(&view.name, &view.labels, &view.kind, &held);
        Monitor::of(view, mutes, false)
    });
    Ok(Json(Page { items: items.collect(), next }))
}

/// `GET /api/v1/overview`: all of them in brief, in one answer.
pub(super) async fn overview(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Json<Overview>, ApiError> {
    let (briefs, held) = (web.store.briefs(caller.scope).await?, in_force(&web, &caller).await?);
    let items = briefs.into_iter().map(|brief| {
        let mutes = mutes_of(&brief.name, &brief.labels, &brief.kind, &held);
        MonitorBrief::of(brief, mutes)
    });
    Ok(Json(Overview { items: items.collect() }))
}

/// `GET /api/v1/monitors/{id}`: one, by public id or name.
pub(super) async fn monitor(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    let monitor = whole_monitor(&web, &caller, &id).await?;
    // One that is left out may have lost its monitor to a file.
    let of_the_api = monitor.origin == MADE_OVER_THE_API;
    let made = web.made.borrow().find(caller.scope.0, DocumentKind::Monitor, &monitor.uid).filter(|_| of_the_api).cloned();
    let secret = monitor.push_token.is_some();
    let mut response = match made {
        None => Json(monitor).into_response(),
        Some(row) => {
            let mut response = Json(Monitor { made: Some(made_object(&row)), ..monitor }).into_response();
            response.headers_mut().insert(header::ETAG, etag(row.version));
            response
        }
    };
    if secret {
        response.extensions_mut().insert(ShowsASecret);
    }
    Ok(response)
}

/// One monitor with what is only answered when one is asked for.
pub(super) async fn whole_monitor(web: &Web, caller: &Caller, id: &str) -> Result<Monitor, ApiError> {
    let view = own_monitor(web, caller, id).await?;
    // Whoever only reads must not be able to report in a job's name.
    let push_token = if caller.role >= Role::Operator { web.store.push_token(caller.scope, view.id).await? } else { None };
    let mutes = mutes_of(&view.name, &view.labels, &view.kind, &in_force(web, caller).await?);
    Ok(Monitor { push_token, ..Monitor::of(view, mutes, true) })
}

/// The caller's mutes that are in force.
async fn in_force(web: &Web, caller: &Caller) -> Result<Vec<InForce>, ApiError> {
    let now = web.clock.now();
    Ok(InForce::of(web.store.mutes(caller.scope.0, now).await?, now))
}

/// Those that mute the whole monitor; mutes of single rules are not among them.
fn mutes_of(monitor: &str, labels: &BTreeMap<String, String>, kind: &str, held: &[InForce]) -> Vec<Mute> {
    let subject = Subject { monitor, labels, kind, rule: None, severity: None };
    held.iter().filter(|held| held.is_about(&subject)).map(Mute::of).collect()
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct HeartbeatsQuery {
    /// Those before this time.
    before: Option<Time>,
    /// How many, 1 to 500; 100 if not given.
    limit: Option<i64>,
}

/// `GET /api/v1/monitors/{id}/heartbeats`: newest first.
pub(super) async fn heartbeats(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    Params(query): Params<HeartbeatsQuery>,
) -> Result<Json<Page<Heartbeat>>, ApiError> {
    let limit = limited(query.limit)?;
    let monitor = own_monitor(&web, &caller, &id).await?;
    let before = query.before.map_or(Micros(i64::MAX), |time| time.0);
    let mut beats = web.store.heartbeats(caller.scope, monitor.id, before, limit + 1).await?;
    let mut next = None;
    if let Some(following) = beats.get(usize::try_from(limit).unwrap_or(usize::MAX)).map(|(beat, _)| beat.at) {
        cut(&mut beats, limit);
        // Two datacenters may begin an attempt in the same microsecond: such a pair is never torn by the end of a page,
        // unless it alone is longer than one.
        if beats.first().is_some_and(|(first, _)| first.at != following) {
            beats.retain(|(beat, _)| beat.at != following);
        }
        next = beats.last().map(|(last, _)| Time(last.at).to_string());
    }
    let items = beats.iter().map(|(beat, detail)| Heartbeat::of(beat, detail.as_deref())).collect();
    Ok(Json(Page { items, next }))
}

/// So much of what was sent is repeated in an error.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_outside_its_range_is_refused_not_bent() {
        assert_eq!(limited(None).unwrap(), LIMIT_DEFAULT);
        assert_eq!(limited(Some(LIMIT_MAX)).unwrap(), LIMIT_MAX);
        for bad in [i64::MIN, -1, 0, LIMIT_MAX + 1, i64::MAX] {
            assert!(limited(Some(bad)).is_err(), "{bad}");
        }
    }
}
