//! A user's own second factor: begun, confirmed with a first code, and taken away again. Each begins with the password, so that a session that
//! somebody else has got hold of is not enough.

use super::Web;
use super::auth::password::Hidden;
use super::auth::{Caller, hash_of, totp};
use super::body::Body;
use super::error::ApiError;
use super::sign_in::{new_code, plain_code};
use super::types::{Code, Done, OwnPassword, Recovery, SecondFactor};
use super::users::own_account;
use crate::sealed;
use crate::store::TOTP_BYTES;
use axum::extract::State;
use axum::{Extension, Json};
use url::Url;

/// Codes for when the device is lost.
const RECOVERY_CODES: usize = 8;

/// Groups of 4 letters in each: 80 random bits, because the store keeps a fast hash of them.
const RECOVERY_GROUPS: usize = 4;

/// `POST /api/v1/me/second-factor`: a secret for the device. Nothing is asked for before its first code has come.
pub(super) async fn begin(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<OwnPassword>,
) -> Result<Json<SecondFactor>, ApiError> {
    let account = own_account(&web, &caller, asked.password).await?;
    let mut secret = [0_u8; TOTP_BYTES];
    getrandom::fill(&mut secret).map_err(no_randomness)?;
    let keys = web.made.borrow().keys.clone();
    let sealed = sealed::factor(account.tenant, account.id, &secret, keys.as_ref())?;
    if !web.store.accounts().begin_totp(account.id, &sealed).await? {
        return Err(ApiError::conflict("has_second_factor", "there is a second factor already: remove it first"));
    }
    let secret = totp::base32(&secret);
    let mut uri = Url::parse("otpauth://totp/").map_err(|_| ApiError::internal())?;
    uri.set_path(&format!("Watchkeeper:{}", account.name));
    uri.query_pairs_mut().append_pair("secret", &secret).append_pair("issuer", "Watchkeeper");
    Ok(Json(SecondFactor { secret: Hidden(secret), uri: Hidden(uri.into()) }))
}

/// `PUT /api/v1/me/second-factor`: the device's first code. From now on one is asked for; the answer has those for when it is lost.
pub(super) async fn confirm(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<Code>,
) -> Result<Json<Recovery>, ApiError> {
    let account = super::users::account_of(&web, &caller).await?;
    web.0.sign_in_limits.admit_account(&super::sign_in::login_of(&account.name))?;
    let begun = account.totp.clone().filter(|factor| !factor.on);
    let begun = begun.ok_or_else(|| ApiError::conflict("not_begun", "no second factor waits for its first code"))?;
    let step = totp::step_of(&totp::opened(&web, &account, &begun)?, &asked.code, web.clock.now());
    let step = step.ok_or_else(|| ApiError::bad_request("`code` is not the code of now; see whether the device's clock is right"))?;
    let codes = (0..RECOVERY_CODES).map(|_| new_code(RECOVERY_GROUPS)).collect::<Result<Vec<_>, _>>().map_err(no_randomness)?;
    let hashes: Vec<[u8; 32]> = codes.iter().map(|code| hash_of(&plain_code(code))).collect();
    if !web.store.accounts().confirm_totp(account.id, &begun.secret, step, &hashes).await? {
        return Err(ApiError::conflict("not_begun", "it was begun anew, or confirmed, meanwhile"));
    }
    Ok(Json(Recovery { recovery: codes }))
}

/// `POST /api/v1/me/second-factor/remove`: it is asked for no longer.
pub(super) async fn remove(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<OwnPassword>,
) -> Result<Json<Done>, ApiError> {
    let account = own_account(&web, &caller, asked.password).await?;
    web.store.accounts().end_totp(account.id).await?;
    Ok(Json(Done { message: "from now on the password alone is asked for".to_owned() }))
}

fn no_randomness(error: getrandom::Error) -> ApiError {
    tracing::error!(%error, "the operating system gave no random bytes for a second factor");
    ApiError::internal()
}
