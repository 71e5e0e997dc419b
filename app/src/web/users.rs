//! Users: a tenant's members and what they may do, and everybody's own password.
//!
//! Administrators look after the accounts of their own tenant. Whoever is only a member here has an account elsewhere, and its password
//! is not theirs to set. Nobody changes or removes the own account here: so no tenant can be left without an administrator by a slip.

use super::Web;
use super::api::Params;
use super::api::{Segment, without_nul};
use super::audit::Detail;
use super::auth::password::{self, Hidden};
use super::auth::{Caller, Role, Shown};
use super::body::Body;
use super::channels::NoQuery;
use super::error::ApiError;
use super::sign_in::{NAME_MAX, login_of};
use super::types::{Done, NewMember, NewPassword, NewUser, Page, User, UserPatch};
use crate::foreign::steers;
use crate::store::{self, Account, StoreError, UserChange, UserView};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use uuid::Uuid;

/// `GET /api/v1/users`: the tenant's members, by name.
pub(super) async fn users(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Params(NoQuery {}): Params<NoQuery>,
) -> Result<Json<Page<User>>, ApiError> {
    let found = web.store.accounts().users(caller.scope).await?;
    Ok(Json(Page { items: found.into_iter().map(User::of).collect(), next: None }))
}

/// `POST /api/v1/users`: makes one.
pub(super) async fn create(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<NewUser>,
) -> Result<(StatusCode, Extension<Detail>, Json<User>), ApiError> {
    let name = accepted_name(&asked.name)?;
    let role = accepted_role(&asked.role)?;
    accepted_password(&asked.password, &name)?;
    let password = web.0.hashing.hash(asked.password).await?;
    let (uid, login, now) = (Uuid::new_v4().to_string(), login_of(&name), web.clock.now());
    let user = store::NewUser { uid: uid.clone(), name: name.clone(), login, password: Some(password), role: role.as_str().to_owned() };
    if !web.store.accounts().create_user(caller.scope, &user, now).await.map_err(full)? {
        return Err(ApiError::conflict("name_taken", "there is a user of that name in this installation already"));
    }
    tracing::info!(user.uid = %uid, actor = %caller.name, "{} makes the user {name}, {}", caller.name, role.as_str());
    let detail = Detail(format!("{name}, {}, {uid}", role.as_str()));
    Ok((StatusCode::CREATED, Extension(detail), Json(User::of(member(&web, &caller, &uid).await?))))
}

/// More than there may be is no fault of ours.
pub(super) fn full(error: StoreError) -> ApiError {
    match error {
        StoreError::Refused(why) => ApiError::conflict("too_many", why),
        StoreError::Unavailable { .. } | StoreError::Broken { .. } | StoreError::NotYet | StoreError::NotInForce | StoreError::Outdated => {
            error.into()
        }
    }
}

/// `POST /api/v1/members`: makes somebody a member who has an account in another tenant. Nothing else is told of that account.
pub(super) async fn admit(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<NewMember>,
) -> Result<(StatusCode, Extension<Detail>, Json<User>), ApiError> {
    let name = accepted_name(&asked.name)?;
    let (login, role) = (login_of(&name), accepted_role(&asked.role)?);
    let accounts = web.store.accounts();
    let found = async || accounts.users(caller.scope).await.map(|all| all.into_iter().find(|user| login_of(&user.name) == login));
    // Whoever is one already is changed by that name: else a slip would make somebody less than before.
    if found().await?.is_some() {
        return Err(ApiError::conflict("is_member", "somebody of that name is a member already"));
    }
    if !accounts.admit_user(caller.scope, &login, role.as_str()).await.map_err(full)? {
        return Err(ApiError::not_found("user"));
    }
    let user = found().await?.ok_or_else(|| ApiError::not_found("user"))?;
    tracing::info!(user.uid = %user.uid, actor = %caller.name, "{} makes {} a member, {}", caller.name, user.name, role.as_str());
    let detail = Detail(format!("{}, {}, {}", user.name, role.as_str(), user.uid));
    Ok((StatusCode::CREATED, Extension(detail), Json(User::of(user))))
}

/// `PATCH /api/v1/users/{id}`: changes one.
pub(super) async fn change(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(uid): Segment,
    Body(asked): Body<UserPatch>,
) -> Result<(Extension<Detail>, Json<User>), ApiError> {
    let UserPatch { role, password, second_factor } = asked;
    let user = another(&web, &caller, &uid).await?;
    let role = role.as_deref().map(accepted_role).transpose()?;
    if second_factor == Some(true) {
        return Err(ApiError::bad_request("`second_factor` is true; accepted is false: users begin it themselves"));
    }
    let without_totp = second_factor == Some(false);
    if !user.home && (password.is_some() || without_totp) {
        return Err(ApiError::forbidden(
            "the account belongs to another tenant, whose administrators look after its password and second factor",
        ));
    }
    let mut said = vec![user.name.clone()];
    said.extend(role.map(|role| format!("role {} instead of {}", role.as_str(), user.role)));
    said.extend(password.as_ref().map(|_| "another password".to_owned()));
    said.extend(without_totp.then(|| "no second factor".to_owned()));
    let password = match password {
        Some(password) => {
            accepted_password(&password, &user.name)?;
            Some(web.0.hashing.hash(password).await?)
        }
        None => None,
    };
    let change = UserChange { role: role.map(|role| role.as_str().to_owned()), password, without_totp };
    if !web.store.accounts().change_user(caller.scope, &user.uid, &change).await? {
        return Err(ApiError::not_found("user"));
    }
    tracing::info!(user.uid = %user.uid, actor = %caller.name, "{} changes the user {}", caller.name, said.join(", "));
    Ok((Extension(Detail(said.join(", "))), Json(User::of(member(&web, &caller, &user.uid).await?))))
}

/// `DELETE /api/v1/users/{id}`: removes one; its sessions end at once.
pub(super) async fn remove(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Segment(uid): Segment,
) -> Result<(Extension<Detail>, Json<Done>), ApiError> {
    let user = another(&web, &caller, &uid).await?;
    if !web.store.accounts().remove_user(caller.scope, &user.uid).await? {
        return Err(ApiError::not_found("user"));
    }
    tracing::info!(user.uid = %user.uid, actor = %caller.name, "{} removes the user {}", caller.name, user.name);
    let message = if user.home { "the account is gone" } else { "no member of this tenant any more" };
    Ok((Extension(Detail(user.name)), Json(Done { message: message.to_owned() })))
}

/// `PUT /api/v1/me/password`: sets the own password; every other session of the account ends.
pub(super) async fn own_password(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<NewPassword>,
) -> Result<Json<Done>, ApiError> {
    let NewPassword { old, new } = asked;
    let account = own_account(&web, &caller, old).await?;
    accepted_password(&new, &account.name)?;
    let password = web.0.hashing.hash(new).await?;
    let keep = match &caller.shown {
        Shown::Session { hash, .. } => Some(hash),
        Shown::Token { .. } | Shown::Proxy { .. } => None,
    };
    web.store.accounts().set_password(account.id, &password, keep).await?;
    tracing::info!(user.name = %account.name, "{} has set another password", account.name);
    Ok(Json(Done { message: "set; every other session of yours has ended".to_owned() }))
}

/// The caller's account; tokens have none.
pub(super) async fn account_of(web: &Web, caller: &Caller) -> Result<Account, ApiError> {
    let (Shown::Session { user, .. } | Shown::Proxy { user }) = &caller.shown else {
        return Err(ApiError::forbidden("a token has no account: sign in as a user"));
    };
    let account = web.store.accounts().account(&login_of(&caller.name)).await?;
    account.filter(|account| account.id == *user).ok_or_else(ApiError::unauthorized)
}

/// The caller's account, if that is its password. Guesses are limited like those of whoever signs in.
pub(super) async fn own_account(web: &Web, caller: &Caller, password: Hidden) -> Result<Account, ApiError> {
    let account = account_of(web, caller).await?;
    web.0.sign_in_limits.admit_account(&login_of(&account.name))?;
    if !web.0.hashing.matches(account.password.clone(), password).await? {
        return Err(ApiError::forbidden("this is not the password of now"));
    }
    Ok(account)
}

/// A member of the caller's tenant.
async fn member(web: &Web, caller: &Caller, uid: &str) -> Result<UserView, ApiError> {
    let uid = without_nul(uid)?;
    let found = web.store.accounts().users(caller.scope).await?;
    found.into_iter().find(|user| user.uid == uid).ok_or_else(|| ApiError::not_found("user"))
}

/// A member who is not the caller.
async fn another(web: &Web, caller: &Caller, uid: &str) -> Result<UserView, ApiError> {
    let user = member(web, caller, uid).await?;
    let own = match &caller.shown {
        Shown::Session { .. } | Shown::Proxy { .. } => login_of(&caller.name) == login_of(&user.name),
        Shown::Token { .. } => false,
    };
    if own {
        return Err(ApiError::conflict("own_account", "this is your own account: another administrator can change it"));
    }
    Ok(user)
}

/// A name to sign in with, as it is shown.
pub fn accepted_name(name: &str) -> Result<String, ApiError> {
    let name = name.trim();
    let length = name.chars().count();
    if !(1..=NAME_MAX).contains(&length) || name.contains(steers) {
        return Err(ApiError::bad_request(format!("`name` is not accepted: 1 to {NAME_MAX} characters, none of them invisible")));
    }
    Ok(name.to_owned())
}

/// A password that is not guessed at once.
pub(super) fn accepted_password(password: &Hidden, name: &str) -> Result<(), ApiError> {
    password::fault_of(password, name).map_or(Ok(()), |fault| Err(ApiError::bad_request(format!("`password`: {fault}"))))
}

/// A role by its word.
pub(super) fn accepted_role(word: &str) -> Result<Role, ApiError> {
    Role::from_word(word).ok_or_else(|| {
        let known = Role::ALL.map(Role::as_str).join(", ");
        ApiError::bad_request(format!("`role` is `{}`; accepted are {known}", super::api::shortened(word)))
    })
}
