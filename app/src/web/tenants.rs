//! Tenants: which ones a caller may act in, and what one of them is.
//!
//! Whoever belongs to several says with each request which one is meant ([`super::auth::TENANT_HEADER`]); these answers are where the names
//! for that come from. Nothing is said of tenants that the caller is no member of, not even that they are there.

use super::Web;
use super::api::Params;
use super::auth::{self, Caller};
use super::channels::NoQuery;
use super::error::ApiError;
use super::types::{Page, Tenant, TenantInfo, TenantLimits};
use crate::config::limits::Limits;
use axum::extract::State;
use axum::{Extension, Json};

/// `GET /api/v1/tenants`: those of the caller, by name.
pub(super) async fn tenants(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Json<Page<Tenant>>, ApiError> {
    let own = auth::tenants_of(&web, &caller).await?;
    let one = |(id, slug, role)| Tenant { id: slug, role, current: id == caller.scope.0 };
    Ok(Json(Page { items: own.into_iter().map(one).collect(), next: None }))
}

/// `GET /api/v1/tenant/info`: the one that is meant.
pub(super) async fn info(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Json<TenantInfo>, ApiError> {
    let id = super::documents::slug_of(&web, &caller).await?;
    let monitors = web.store.stats(caller.scope).await?.monitors;
    let members = web.store.accounts().users(caller.scope).await?.len() as i64;
    let role = caller.role.as_str().to_owned();
    let Limits { monitors: most, channels, status_pages, tokens, interval_min } = web.made.borrow().limits_of(&id);
    let limits = TenantLimits { monitors: most, channels, status_pages, tokens, interval_min_us: interval_min.0 };
    Ok(Json(TenantInfo { id, role, monitors, members, limits }))
}
