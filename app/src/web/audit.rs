//! The audit log: who changed what, when, from where, and what came of it.
//!
//! A deed is noted before it is done, and what was answered after it; an entry without an answer was cut off in the middle, and
//! may have been done. The action is the method and the path, which names what it is about; handlers add what the path cannot say
//! ([`Detail`]). Bodies are never noted: they hold passwords and people's words.

use super::Web;
use super::api::{Params, cut, limited};
use super::auth::{Caller, Shown};
use super::error::ApiError;
use super::serve::Peer;
use super::types::{Audited, Page};
use crate::store::{Deed, TenantScope};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::{Extension, Json};
use serde::Deserialize;
use std::net::IpAddr;

/// A path is noted up to so many characters. Ids and names are shorter; more would let one request write much.
const ACTION_MAX: usize = 300;

/// What a handler adds to its entry; never a secret.
#[derive(Clone, Debug, Default)]
pub(super) struct Detail(pub String);

/// Where a request comes from.
pub(super) fn address_of(web: &Web, parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Peer>().map(|Peer(peer)| web.trust.client(*peer, &parts.headers))
}

/// Notes what is about to be done.
pub(super) async fn begin(web: &Web, caller: &Caller, parts: &Parts) -> Result<i64, ApiError> {
    let via = match &caller.shown {
        Shown::Token { prefix, .. } => format!("token {prefix}"),
        Shown::Session { .. } => "session".to_owned(),
        Shown::Proxy { .. } => "proxy".to_owned(),
    };
    let action: String = format!("{} {}", parts.method, parts.uri.path()).chars().take(ACTION_MAX).collect();
    let address = address_of(web, parts).map(|address| address.to_string()).unwrap_or_default();
    let deed = Deed { actor: caller.name.clone(), via, address, action, detail: String::new(), status: None };
    Ok(web.store.accounts().audit(caller.scope, &deed, web.clock.now()).await?)
}

/// Notes what was answered.
pub(super) async fn end(web: &Web, caller: &Caller, noted: i64, status: StatusCode, detail: Option<Detail>) {
    let Detail(detail) = detail.unwrap_or_default();
    if let Err(error) = web.store.accounts().audited(caller.scope, noted, status.as_u16(), &detail).await {
        tracing::warn!(audit.id = noted, error = %crate::chain(&error), "how a deed ended could not be noted");
    }
}

/// Notes what a stranger became by signing in, or failed to become.
pub(super) async fn note(web: &Web, scope: TenantScope, actor: &str, address: IpAddr, action: &str, status: u16) -> Result<(), ApiError> {
    let deed = Deed {
        actor: actor.to_owned(),
        via: "password".to_owned(),
        address: address.to_string(),
        action: action.to_owned(),
        detail: String::new(),
        status: Some(status),
    };
    web.store.accounts().audit(scope, &deed, web.clock.now()).await?;
    Ok(())
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Those before this number.
    before: Option<i64>,
    /// How many, 1 to 500; 100 if not given.
    limit: Option<i64>,
}

/// `GET /api/v1/audit`: the tenant's log, newest first.
pub(super) async fn audit(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<AuditQuery>,
) -> Result<Json<Page<Audited>>, ApiError> {
    let limit = limited(query.limit)?;
    let mut found = web.store.accounts().audit_log(caller.scope, query.before, limit + 1).await?;
    let more = cut(&mut found, limit);
    let next = found.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Json(Page { items: found.into_iter().map(Audited::of).collect(), next }))
}
