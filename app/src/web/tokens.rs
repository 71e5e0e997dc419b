//! Tokens of programs: made, listed, ended. What opens something is shown once, when it is made.

use super::Web;
use super::api::{Params, Segment, shortened};
use super::audit::Detail;
use super::auth::password::Hidden;
use super::auth::{Caller, TokenError, issue_token};
use super::body::Body;
use super::channels::NoQuery;
use super::documents::slug_of;
use super::error::ApiError;
use super::types::{Done, MadeToken, NewToken, Page, Time, Token};
use super::users::{accepted_name, accepted_role, full};
use crate::config::decode::parse_duration;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use secrecy::ExposeSecret as _;
use watchkeeper_core::{Dur, Micros};

/// A token that ends does so within so long; what is to last longer has no end.
const LASTS_MAX: Dur = Dur::secs(10 * 366 * 86_400);

/// `GET /api/v1/tokens`: the tenant's, in the order of their making; without what opens them.
pub(super) async fn tokens(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Json<Page<Token>>, ApiError> {
    let found = web.store.accounts().tokens(caller.scope).await?;
    Ok(Json(Page { items: found.into_iter().map(Token::of).collect(), next: None }))
}

/// `POST /api/v1/tokens`: makes one and shows it, this once.
pub(super) async fn create(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<NewToken>,
) -> Result<(StatusCode, Extension<Detail>, Json<MadeToken>), ApiError> {
    let name = accepted_name(&asked.name)?;
    let role = accepted_role(&asked.role)?;
    let now = web.clock.now();
    let expires = asked.lasts.as_deref().map(|text| end_of(text, now)).transpose()?;
    let slug = slug_of(&web, &caller).await?;
    let most = web.made.borrow().limits_of(&slug).tokens;
    let made = issue_token(&*web.store, caller.scope, &name, role, Some(&caller.name), expires, most, now).await;
    let token = made.map_err(|error| match error {
        TokenError::Store(error) => full(error),
        TokenError::Random(_) | TokenError::File { .. } => {
            tracing::error!(error = %crate::chain(&error), "a token could not be made");
            ApiError::internal()
        }
    })?;
    tracing::info!(token.name = %name, actor = %caller.name, "{} makes the token {name}, {}", caller.name, role.as_str());
    let detail = Detail(format!("{name}, {}", role.as_str()));
    let token = Hidden(token.expose_secret().to_owned());
    let made = MadeToken { token, name, role: role.as_str().to_owned(), expires_at: expires.map(Time) };
    Ok((StatusCode::CREATED, Extension(detail), Json(made)))
}

fn end_of(text: &str, now: Micros) -> Result<Micros, ApiError> {
    let lasts = parse_duration(text).filter(|lasts| lasts.0 > 0 && *lasts <= LASTS_MAX);
    lasts.map(|lasts| now + lasts).ok_or_else(|| {
        ApiError::bad_request(format!("`for` is `{}`; accepted is a duration such as 90d, up to ten years", shortened(text)))
    })
}

/// `DELETE /api/v1/tokens/{id}`: ends one; whoever has it is nobody from now on.
pub(super) async fn revoke(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
) -> Result<(Extension<Detail>, Json<Done>), ApiError> {
    let absent = || ApiError::not_found("token");
    let id: i64 = id.parse().map_err(|_| absent())?;
    let name = web.store.accounts().revoke_token(caller.scope, id).await?.ok_or_else(absent)?;
    tracing::info!(token.id = id, actor = %caller.name, "{} ends the token {name}", caller.name);
    Ok((Extension(Detail(name)), Json(Done { message: "ended: it opens nothing any more".to_owned() })))
}
