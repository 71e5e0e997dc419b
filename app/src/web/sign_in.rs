//! Signing in and out, and how the first user comes to be.
//!
//! An unknown name and a wrong password are answered with the same words and after the same work: a password is hashed in any case. Only
//! after the right password anything else is said: that a code is missing, that a tenant is not the user's. Every attempt is counted
//! before anything is looked up ([`super::auth::limits`]).
//!
//! Nobody on the network can make themselves the first user: that takes a code that the start prints where its operator reads, is good for
//! a day, and only as long as there is no user.

use super::Web;
use super::audit::{self, address_of};
use super::auth::session;
use super::auth::{Caller, Role, Shown, hash_of, own_or_first, totp};
use super::body::Body;
use super::error::ApiError;
use super::health::OWNER_TENANT;
use super::types::{Done, Login, SetUp, SignIn, SignedIn};
use super::users::{accepted_name, accepted_password};
use crate::store::{Account, NewSession, NewUser, TenantScope, UserId};
use crate::web::auth::password::Hidden;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use axum::{Extension, Json};
use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;
use watchkeeper_core::TenantId;

/// A longer name is nobody's: it is not looked up.
pub(super) const NAME_MAX: usize = 100;

/// `GET /api/v1/auth`: what signing in takes here.
pub(super) async fn about(State(web): State<Web>) -> Result<Json<SignIn>, ApiError> {
    let accounts = web.store.accounts();
    let (setup, password) = (accounts.setup_offered(web.clock.now()).await?, accounts.has_users().await?);
    Ok(Json(SignIn { setup, password, oidc: web.oidc.as_ref().map(|oidc| oidc.label.clone()) }))
}

/// What is known of a request that is not anybody's yet.
struct Stranger {
    address: IpAddr,
    headers: HeaderMap,
}

impl Stranger {
    /// Counts the attempt, and reads what was sent.
    async fn admitted<T: serde::de::DeserializeOwned>(web: &Web, request: Request) -> Result<(Self, T), ApiError> {
        // Without a connection there is no address; then all are one.
        let (parts, body) = request.into_parts();
        let address = address_of(web, &parts).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        web.0.sign_in_limits.admit_address(address)?;
        let headers = parts.headers.clone();
        let Body(asked) = Body::from_request(Request::from_parts(parts, body), &()).await?;
        Ok((Self { address, headers }, asked))
    }
}

/// The one answer to a name and a password that do not belong together.
fn wrong() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "wrong_password", "the name or the password is not right")
}

/// `POST /api/v1/auth/login`: begins a session. To the page it gives a cookie, to any other client a bearer token.
pub(super) async fn login(State(web): State<Web>, request: Request) -> Result<Response, ApiError> {
    let (stranger, asked) = Stranger::admitted::<Login>(&web, request).await?;
    let login = login_of(&asked.name);
    web.0.sign_in_limits.admit_account(&login)?;
    let account = if login.chars().count() > NAME_MAX { None } else { web.store.accounts().account(&login).await? };
    let stored = account.as_ref().and_then(|account| account.password.clone());
    let right = web.0.hashing.matches(stored, asked.password.clone()).await?;
    let Some(account) = account else { return Err(wrong()) };
    if !right {
        failed(&web, &account, &stranger, "a wrong password");
        return Err(wrong());
    }
    if let Some(factor) = account.totp.as_ref().filter(|factor| factor.on) {
        let Some(code) = &asked.code else {
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "code_needed", "the second factor's code is needed too: `code`"));
        };
        if !totp::spend(&web, &account, factor, code).await? {
            failed(&web, &account, &stranger, "a wrong code");
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "wrong_code", "the code is not right, or was used already"));
        }
    }
    let memberships = web.store.accounts().memberships(account.id).await?;
    let chosen = match &asked.tenant {
        Some(slug) => memberships.into_iter().find(|(_, known, _)| known == slug),
        None => own_or_first(memberships, account.tenant),
    };
    let (tenant, slug, role) = chosen.ok_or_else(|| ApiError::forbidden("this account is not a member of that tenant"))?;
    let Account { id, name, password, tenant: _, totp: _ } = account;
    open(&web, &stranger, (id, name), (tenant, slug, role), password.as_deref(), "signed in").await
}

/// An attempt that failed on an account that there is goes to its tenant's audit log; afterwards, so that it does not take longer than one
/// on an account that there is not. Names that nobody has are not written down: people type passwords there.
fn failed(web: &Web, account: &Account, stranger: &Stranger, what: &'static str) {
    let (web, scope, name, address) = (web.clone(), TenantScope(account.tenant), account.name.clone(), stranger.address);
    tracing::warn!(%address, user.name = %name, "somebody at {address} tried to sign in as {name} with {what}");
    tokio::spawn(async move {
        let action = format!("tried to sign in with {what}");
        // The store's failure is logged where it becomes an answer, which nobody waits for here.
        let _ = audit::note(&web, scope, &name, address, &action, StatusCode::UNAUTHORIZED.as_u16()).await;
    });
}

/// Begins a session of somebody who has shown who it is.
async fn open(
    web: &Web,
    stranger: &Stranger,
    (user, name): (UserId, String),
    (tenant, slug, role): (TenantId, String, String),
    password: Option<&str>,
    action: &str,
) -> Result<Response, ApiError> {
    let secret = begin_session(web, stranger.address, (user, &name), tenant, password, action).await?;
    let of_page = session::of_our_page(&stranger.headers);
    let token = (!of_page).then(|| Hidden(secret.clone()));
    let answer = Json(SignedIn { name, role, tenant: slug, token });
    if !of_page {
        return Ok(answer.into_response());
    }
    Ok(([(header::SET_COOKIE, session::set(&secret, &stranger.headers)?)], answer).into_response())
}

/// Begins a session, notes it, and returns its secret.
pub(super) async fn begin_session(
    web: &Web,
    from: IpAddr,
    (user, name): (UserId, &str),
    tenant: TenantId,
    password: Option<&str>,
    action: &str,
) -> Result<String, ApiError> {
    let (secret, hash) = session::new_secret()?;
    let address = from.to_string();
    let begun = NewSession { hash, user, tenant, address: &address, password };
    if !web.store.accounts().open_session(&begun, web.clock.now()).await? {
        // The password was changed, or the membership ended, while it was being looked at.
        return Err(wrong());
    }
    audit::note(web, TenantScope(tenant), name, from, action, StatusCode::OK.as_u16()).await?;
    tracing::info!(%address, user.name = %name, "{name} {action} from {address}");
    Ok(secret)
}

/// `POST /api/v1/auth/setup`: makes the first user, an administrator of the installation, and signs in.
pub(super) async fn set_up(State(web): State<Web>, request: Request) -> Result<Response, ApiError> {
    let (stranger, asked) = Stranger::admitted::<SetUp>(&web, request).await?;
    if web.store.accounts().has_users().await? {
        return Err(ApiError::conflict("already_set_up", "there are users already: sign in"));
    }
    let name = accepted_name(&asked.name)?;
    accepted_password(&asked.password, &name)?;
    let tenants = web.store.tenants().await?;
    let (tenant, slug) = tenants.into_iter().find(|(_, slug)| slug == OWNER_TENANT).ok_or_else(|| ApiError::not_found("tenant"))?;
    let password = web.0.hashing.hash(asked.password).await?;
    let role = Role::Admin.as_str().to_owned();
    let (uid, login) = (Uuid::new_v4().to_string(), login_of(&name));
    let first = NewUser { uid, name, login, password: Some(password.clone()), role: role.clone() };
    let code = hash_of(&plain_code(&asked.code));
    let made = web.store.accounts().set_up(&code, TenantScope(tenant), &first, web.clock.now()).await?;
    let Some(id) = made else {
        tracing::warn!(address = %stranger.address, "somebody at {} tried to become the first user with a wrong code", stranger.address);
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "wrong_code",
            "the code is not right; each start prints another, good for a day",
        ));
    };
    open(&web, &stranger, (id, first.name), (tenant, slug, role), Some(&password), "became the first administrator").await
}

/// `POST /api/v1/auth/logout`: ends the session that asks.
pub(super) async fn logout(State(web): State<Web>, Extension(caller): Extension<Caller>) -> Result<Response, ApiError> {
    let message = match caller.shown {
        Shown::Session { hash, .. } => {
            web.store.accounts().end_session(&hash).await?;
            "signed out"
        }
        Shown::Token { .. } => "a token has no session: nothing was ended",
        Shown::Proxy { .. } => "it was the proxy that signed you in: sign out there",
    };
    Ok((AppendHeaders(session::unset()), Json(Done { message: message.to_owned() })).into_response())
}

/// A name as it is compared.
pub fn login_of(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Letters of codes for people: none looks like another.
const CODE_LETTERS: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

/// A new code of `groups` times 4 letters with 5 random bits each, as people read it.
pub fn new_code(groups: usize) -> Result<Hidden, getrandom::Error> {
    let mut bytes = vec![0_u8; groups * 4];
    getrandom::fill(&mut bytes)?;
    let letters: Vec<char> = bytes.iter().map(|byte| char::from(CODE_LETTERS[usize::from(byte % 32)])).collect();
    Ok(Hidden(letters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-")))
}

/// A code as it is hashed: however it was typed.
pub fn plain_code(code: &Hidden) -> String {
    code.0.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_same_however_it_is_typed() {
        let code = new_code(4).unwrap();
        assert_eq!((code.0.len(), code.0.matches('-').count()), (19, 3), "{}", code.0);
        let typed = Hidden(format!(" {} ", code.0.to_lowercase().replace('-', " ")));
        assert_eq!(plain_code(&typed), plain_code(&code));
        assert_eq!(plain_code(&code).len(), 16);
        assert_ne!(new_code(4).unwrap(), code);
        let letters: std::collections::BTreeSet<&u8> = CODE_LETTERS.iter().collect();
        assert_eq!(letters.len(), 32, "5 bits a letter");
    }

    #[test]
    fn names_are_compared_without_case_and_blanks_around_them() {
        assert_eq!(login_of(" Анна@Example.org "), "анна@example.org");
    }
}
