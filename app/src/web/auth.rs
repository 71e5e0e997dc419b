//! Who may ask what: tokens, sessions, and their roles; and that every change is noted before it is made.
//!
//! A token is `wk_` and 32 random bytes in base64url. The store keeps its SHA-256 only. Looking a token up by that hash
//! is safe against timing: whoever can choose the text cannot choose the bytes of its hash, so how far a comparison ran
//! says nothing about the next guess; and 256 random bits need no slow hash.
//!
//! Every token and every session belongs to one tenant. Whatever belongs to another one is answered as if it did not exist. What a user
//! may do is looked up with each request, so that a role that is taken away is gone at once.
//!
//! [`require`] is the one place that decides who passes: who it is, whether the role reaches, whether a change comes from our own page,
//! whether it is too much; and it has the deed in the audit log before the handler runs. What cannot be noted is not done.

pub(super) mod limits;
pub mod oidc;
pub mod password;
pub mod proxy;
pub(super) mod session;
pub(super) mod totp;

use super::error::ApiError;
use super::serve::Peer;
use super::sign_in::login_of;
use super::types::Me;
use super::{Web, audit, incidents};
use crate::config::StoreUrl;
use crate::foreign::steers;
use crate::store::{NewToken, Store, StoreError, TOKENS_MAX, TenantScope, UserId};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use watchkeeper_core::{Dur, Micros, TenantId};

/// What every token begins with, so that a leaked one is recognised by scanners and people.
pub const TOKEN_PREFIX: &str = "wk_";

/// Random bytes of a token. Fewer than 16 could be guessed in the long run; more make it unwieldy.
const TOKEN_BYTES: usize = 32;

/// So much of a token's text is kept readable, to tell tokens apart in a list; the rest still has 220 unknown bits.
const SHOWN_CHARS: usize = TOKEN_PREFIX.len() + 6;

/// The header that says which person acts with a token that several share.
pub const PERSON_HEADER: &str = "x-watchkeeper-as";

/// A person's name has at most so many characters: it stands in the first line of messages. Fewer would cut full names.
const PERSON_MAX: usize = 60;

/// A longer header is refused before it is hashed: no token is that long, and hashing megabytes for strangers costs.
const HEADER_MAX: usize = 256;

/// That a session is in use is written down this often. More often would be a write for each request; less often would end sessions early.
const SEEN_EVERY: Dur = Dur::secs(60);

/// What somebody may do; each includes the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Acts on what there is: acknowledges, silences.
    Operator,
    /// Changes what there is.
    Admin,
}

impl Role {
    /// Every role, the weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Reads the stored word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == word)
    }
}

/// Who asks; put into every request that passed [`require`].
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant whose rows may be seen.
    pub scope: TenantScope,
    /// What may be done.
    pub role: Role,
    /// The author of what is done: a user's name; or a token's, and before it a person's, where one is named.
    pub name: String,
    /// How that was shown.
    pub shown: Shown,
}

/// How a request showed who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// By a token.
    Token {
        /// What the store knows it by.
        hash: [u8; 32],
        /// So much of it is shown.
        prefix: String,
    },
    /// By a session.
    Session {
        /// What the store knows it by.
        hash: [u8; 32],
        /// Whose it is.
        user: UserId,
        /// That user's public id.
        uid: String,
        /// Whether the user has a second factor.
        totp: bool,
    },
    /// By the word of a trusted proxy.
    Proxy {
        /// Whom it named.
        user: UserId,
    },
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes for a token: {0}")]
    Random(getrandom::Error),
    /// It could not be stored.
    #[error("the token could not be stored")]
    Store(#[from] StoreError),
    /// Its file could not be written.
    #[error("the token file {} could not be written", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Makes a token and stores its hash. What is returned is shown once and cannot be had again.
pub async fn create_token(store: &dyn Store, scope: TenantScope, name: &str, role: Role, now: Micros) -> Result<SecretString, TokenError> {
    issue_token(store, scope, name, role, None, None, TOKENS_MAX, now).await
}

/// The same, by somebody, with an end, and only if the tenant has fewer than so many.
pub async fn issue_token(
    store: &dyn Store,
    scope: TenantScope,
    name: &str,
    role: Role,
    made_by: Option<&str>,
    expires: Option<Micros>,
    most: i64,
    now: Micros,
) -> Result<SecretString, TokenError> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
    let text = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hash_of(&text);
    let token = NewToken { name, role: role.as_str(), hash: &hash, prefix: &text[..SHOWN_CHARS], made_by, expires, most };
    store.accounts().create_token(scope, &token, now).await?;
    Ok(SecretString::from(text))
}

/// At the first start, when neither a token nor a user exists: makes an administrator's token for `scope` and writes it to `file` (mode 0600),
/// where `status` and `channel test` find it. `None` if there are some already. The caller prints it, once.
///
/// A file that cannot be written is only worth a warning: the printed token works without it (a read-only container has no
/// place for a file). Two nodes that start first at the same time make one token each, and both work.
pub async fn first_token(store: &dyn Store, scope: TenantScope, file: &Path, now: Micros) -> Result<Option<SecretString>, TokenError> {
    if store.accounts().has_tokens().await? || store.accounts().has_users().await? {
        return Ok(None);
    }
    let token = create_token(store, scope, "first start", Role::Admin, now).await?;
    if let Err(error) = write_token_file(file, &token) {
        tracing::warn!(path = %file.display(), error = %error, "the first token could not be written to its file; keep the printed one");
    }
    Ok(Some(token))
}

/// Where the token of the first start lies: beside the database file (`watchkeeper.db.token`) with SQLite; with PostgreSQL
/// `watchkeeper.token` in `$STATE_DIRECTORY` (as systemd sets it), else in the working directory.
pub fn token_file(store: &StoreUrl, state_directory: Option<&Path>) -> PathBuf {
    match store {
        StoreUrl::Sqlite(file) => {
            let mut name = file.clone().into_os_string();
            name.push(".token");
            PathBuf::from(name)
        }
        StoreUrl::Postgres(_) => state_directory.unwrap_or(Path::new("")).join("watchkeeper.token"),
    }
}

/// Writes a token so that only its owner can read it. A file of an earlier database at that place is replaced.
fn write_token_file(path: &Path, token: &SecretString) -> Result<(), TokenError> {
    let failed = |source| TokenError::File { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    // `create_new` follows no link that somebody put there first.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{}", token.expose_secret()).map_err(failed)
}

/// What the store knows a token, a session or a code by.
pub fn hash_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The token of a request, if it carries one in the form that is accepted.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && value.len() <= HEADER_MAX).then(|| token.trim())
}

/// The tenant that a request is meant for, by its name; without it, that of the token or the session, or the account's own.
pub const TENANT_HEADER: &str = "x-tenant-id";

/// Finds the caller of a request, in the tenant that it is meant for.
async fn authenticate(web: &Web, parts: &Parts) -> Result<Caller, ApiError> {
    let caller = identified(web, parts).await?;
    let Some(named) = parts.headers.get(TENANT_HEADER) else { return Ok(caller) };
    within(web, caller, |_, slug| slug.as_bytes() == named.as_bytes()).await
}

/// The same caller in another tenant, with the role there. Whoever is no member is answered alike, whether there is such a tenant or not.
async fn within(web: &Web, caller: Caller, is_meant: impl Fn(TenantId, &str) -> bool) -> Result<Caller, ApiError> {
    let found = tenants_of(web, &caller).await?.into_iter().find(|(id, slug, _)| is_meant(*id, slug));
    let (tenant, _, role) = found.ok_or_else(|| ApiError::forbidden("`X-Tenant-ID` names no tenant that you may act in"))?;
    Ok(Caller { scope: TenantScope(tenant), role: known_role(&role, &caller.name)?, ..caller })
}

/// Where somebody may act: tenant, name, role. A person wherever membership was given; a token in its own tenant alone.
pub(super) async fn tenants_of(web: &Web, caller: &Caller) -> Result<Vec<(TenantId, String, String)>, ApiError> {
    match &caller.shown {
        Shown::Session { user, .. } | Shown::Proxy { user } => Ok(web.store.accounts().memberships(*user).await?),
        Shown::Token { .. } => {
            let own = web.store.tenants().await?.into_iter().find(|(id, _)| *id == caller.scope.0);
            Ok(own.into_iter().map(|(id, slug)| (id, slug, caller.role.as_str().to_owned())).collect())
        }
    }
}

/// Who a request comes from. What goes along by itself (a cookie, a proxy's word) does not show who began a change: that must be our
/// own page.
async fn identified(web: &Web, parts: &Parts) -> Result<Caller, ApiError> {
    let headers = &parts.headers;
    if let Some(secret) = bearer(headers) {
        return if secret.starts_with(TOKEN_PREFIX) {
            by_token(web, hash_of(secret), headers).await
        } else if secret.starts_with(session::SESSION_PREFIX) {
            by_session(web, hash_of(secret)).await
        } else {
            Err(ApiError::unauthorized())
        };
    }
    let peer = parts.extensions.get::<Peer>();
    let caller = match peer.and_then(|Peer(peer)| web.trust.user(*peer, headers)) {
        Some(name) => by_proxy(web, name).await?,
        None => by_session(web, hash_of(session::cookie(headers).ok_or_else(ApiError::unauthorized)?)).await?,
    };
    if !parts.method.is_safe() {
        session::require_our_page(headers)?;
    }
    Ok(caller)
}

/// Whether the caller of a long answer may still have it, by what was shown at its beginning.
pub(super) async fn still(web: &Web, caller: &Caller) -> Result<bool, ApiError> {
    let now = match &caller.shown {
        Shown::Token { hash, .. } => by_token(web, *hash, &HeaderMap::new()).await,
        Shown::Session { hash, .. } => by_session(web, *hash).await,
        Shown::Proxy { .. } => by_proxy(web, &caller.name).await,
    };
    let now = match now {
        Ok(now) if now.scope != caller.scope => within(web, now, |id, _| id == caller.scope.0).await,
        same_or_refused @ (Ok(_) | Err(_)) => same_or_refused,
    };
    match now {
        Ok(_) => Ok(true),
        Err(refused) if matches!(refused.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The account that a trusted proxy named; in its own tenant.
async fn by_proxy(web: &Web, name: &str) -> Result<Caller, ApiError> {
    let account = web.store.accounts().account(&login_of(name)).await?;
    let nobody = || ApiError::new(StatusCode::UNAUTHORIZED, "unknown_user", "the proxy names a user that nobody has made here");
    let account = account.ok_or_else(nobody)?;
    let memberships = web.store.accounts().memberships(account.id).await?;
    let (tenant, _, role) = own_or_first(memberships, account.tenant).ok_or_else(nobody)?;
    let role = known_role(&role, &account.name)?;
    Ok(Caller { scope: TenantScope(tenant), role, name: account.name, shown: Shown::Proxy { user: account.id } })
}

/// The membership that counts when nobody says which: that in the account's own tenant, if it is a member there.
pub(super) fn own_or_first(memberships: Vec<(TenantId, String, String)>, own: TenantId) -> Option<(TenantId, String, String)> {
    let nth = memberships.iter().position(|(id, ..)| *id == own).unwrap_or(0);
    memberships.into_iter().nth(nth)
}

async fn by_token(web: &Web, hash: [u8; 32], headers: &HeaderMap) -> Result<Caller, ApiError> {
    let row = web.store.accounts().token(&hash).await?.ok_or_else(ApiError::unauthorized)?;
    if row.expires_at.is_some_and(|end| end <= web.clock.now()) {
        return Err(ApiError::unauthorized());
    }
    let role = known_role(&row.role, &row.name)?;
    let shown = Shown::Token { hash, prefix: row.prefix };
    Ok(Caller { scope: TenantScope(row.tenant), role, name: author(&row.name, headers)?, shown })
}

async fn by_session(web: &Web, hash: [u8; 32]) -> Result<Caller, ApiError> {
    let now = web.clock.now();
    let row = web.store.accounts().session(&hash, now).await?.ok_or_else(ApiError::unauthorized)?;
    let role = known_role(&row.role, &row.name)?;
    if now - row.seen_at > SEEN_EVERY {
        web.store.accounts().touch_session(&hash, now).await?;
    }
    let shown = Shown::Session { hash, user: row.user, uid: row.uid, totp: row.totp };
    Ok(Caller { scope: TenantScope(row.tenant), role, name: row.name, shown })
}

fn known_role(word: &str, name: &str) -> Result<Role, ApiError> {
    Role::from_word(word).ok_or_else(|| {
        tracing::warn!(role = %word, "{name} has a role that this version does not know");
        ApiError::unauthorized()
    })
}

/// `ann (first start)`: a person may say who they are, and nobody has checked it; the token beside the name is what was checked.
fn author(token: &str, headers: &HeaderMap) -> Result<String, ApiError> {
    let Some(value) = headers.get(PERSON_HEADER) else { return Ok(token.to_owned()) };
    let name = std::str::from_utf8(value.as_bytes()).map(str::trim).unwrap_or_default();
    let good = (1..=PERSON_MAX).contains(&name.chars().count()) && !name.contains(steers);
    if !good {
        return Err(ApiError::bad_request(format!("`{PERSON_HEADER}` is not a name; accepted are 1 to {PERSON_MAX} characters in UTF-8")));
    }
    Ok(if name == token { name.to_owned() } else { format!("{name} ({token})") })
}

/// Lets a request pass that shows a caller of at least `least`, and tells the handler who it is.
pub(super) async fn require(State((web, least)): State<(Web, Role)>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let caller = authenticate(&web, &parts).await?;
    if caller.role < least {
        return Err(ApiError::forbidden(format!("this needs the role {}; {} has {}", least.as_str(), caller.name, caller.role.as_str())));
    }
    parts.extensions.insert(caller.clone());
    if parts.method.is_safe() {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    incidents::admit(&web, &caller)?;
    let noted = audit::begin(&web, &caller, &parts).await?;
    let response = next.run(Request::from_parts(parts, body)).await;
    let detail = response.extensions().get().cloned();
    audit::end(&web, &caller, noted, response.status(), detail).await;
    Ok(response)
}

/// `GET /api/v1/me`: who asks, and what may be done.
pub(super) async fn me(State(web): State<Web>, Extension(caller): Extension<Caller>) -> Result<Json<Me>, ApiError> {
    let tenants = web.store.tenants().await?;
    let tenant = tenants.into_iter().find(|(id, _)| *id == caller.scope.0).map(|(_, slug)| slug).unwrap_or_default();
    let (user, second_factor) = match caller.shown {
        Shown::Token { .. } | Shown::Proxy { .. } => (None, false),
        Shown::Session { uid, totp, .. } => (Some(uid), totp),
    };
    Ok(Json(Me { name: caller.name, role: caller.role.as_str().to_owned(), tenant, user, second_factor }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_token_file_lies_beside_the_database() {
        let postgres = || StoreUrl::Postgres(SecretString::from("postgres://u:p@host/db"));
        let cases = [
            (StoreUrl::Sqlite("watchkeeper.db".into()), None, "watchkeeper.db.token"),
            (StoreUrl::Sqlite("/var/lib/wk/wk.db".into()), Some("/elsewhere"), "/var/lib/wk/wk.db.token"),
            (postgres(), Some("/var/lib/watchkeeper"), "/var/lib/watchkeeper/watchkeeper.token"),
            (postgres(), None, "watchkeeper.token"),
        ];
        for (url, state, want) in cases {
            assert_eq!(token_file(&url, state.map(Path::new)), Path::new(want), "{url:?}");
        }
    }

    #[test]
    fn only_the_owner_reads_the_token_file_and_an_old_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wk.db.token");
        std::fs::write(&path, "old and readable by all, and longer than the new one").unwrap();
        write_token_file(&path, &SecretString::from("wk_new")).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "wk_new\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let nowhere = dir.path().join("missing").join("x.token");
        assert!(write_token_file(&nowhere, &SecretString::from("wk_new")).is_err());
    }

    #[test]
    fn only_the_bearer_scheme_is_a_token() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer wk_a").as_deref(), Some("wk_a"));
        assert_eq!(of("bearer  wk_a").as_deref(), Some("wk_a"));
        assert_eq!(of("Basic d2s6"), None);
        assert_eq!(of("Bearer"), None);
        assert_eq!(of(&format!("Bearer {}", "a".repeat(300))), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn a_person_is_named_beside_the_token_and_never_in_its_place() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(PERSON_HEADER, axum::http::HeaderValue::from_bytes(value).unwrap());
            author("first start", &headers).ok()
        };
        assert_eq!(author("first start", &HeaderMap::new()).unwrap(), "first start");
        assert_eq!(of(b" ann ").as_deref(), Some("ann (first start)"));
        assert_eq!(of("Анна К.".as_bytes()).as_deref(), Some("Анна К. (first start)"));
        assert_eq!(of(b"first start").as_deref(), Some("first start"));
        for bad in [&b" "[..], b"\xff", "a\u{202e}b".as_bytes(), &[b'x'; 61]] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn roles_include_the_weaker_ones_and_read_back() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(Role::from_word(role.as_str()), Some(role));
        }
        assert_eq!(Role::from_word("root"), None);
    }
}
