//! Who may ask what: bearer tokens and their roles.
//!
//! A token is `wk_` and 32 random bytes in base64url. The store keeps its SHA-256 only. Looking a token up by that hash
//! is safe against timing: whoever can choose the text cannot choose the bytes of its hash, so how far a comparison ran
//! says nothing about the next guess; and 256 random bits need no slow hash.
//!
//! Every token belongs to one tenant. Whatever belongs to another one is answered as if it did not exist.

use super::Web;
use super::error::ApiError;
use super::types::Me;
use crate::config::StoreUrl;
use crate::foreign::steers;
use crate::store::{Store, StoreError, TenantScope};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
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
use watchkeeper_core::Micros;

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

/// What a token's holder may do; each includes the one before.
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
    /// The author of what is done: the token's name, and before it the person's, where one is named.
    pub name: String,
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
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
    let text = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    store.create_token(scope, name, role.as_str(), &hash_of(&text), &text[..SHOWN_CHARS], now, None).await?;
    Ok(SecretString::from(text))
}

/// At the first start, when no token exists: makes an administrator's token for `scope` and writes it to `file` (mode 0600),
/// where `status` and `channel test` find it. `None` if there are tokens already. The caller prints it, once.
///
/// A file that cannot be written is only worth a warning: the printed token works without it (a read-only container has no
/// place for a file). Two nodes that start first at the same time make one token each, and both work.
pub async fn first_token(store: &dyn Store, scope: TenantScope, file: &Path, now: Micros) -> Result<Option<SecretString>, TokenError> {
    if store.has_tokens().await? {
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

fn hash_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The token of a request, if it carries one in the form that is accepted.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && value.len() <= HEADER_MAX).then(|| token.trim())
}

/// Finds the caller of a request.
async fn authenticate(web: &Web, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let token = bearer(headers).filter(|t| t.starts_with(TOKEN_PREFIX)).ok_or_else(ApiError::unauthorized)?;
    let row = web.store.token(&hash_of(token)).await?.ok_or_else(ApiError::unauthorized)?;
    if row.expires_at.is_some_and(|end| end <= web.clock.now()) {
        return Err(ApiError::unauthorized());
    }
    let Some(role) = Role::from_word(&row.role) else {
        tracing::warn!(token.name = %row.name, role = %row.role, "a token has a role that this version does not know");
        return Err(ApiError::unauthorized());
    };
    Ok(Caller { scope: TenantScope(row.tenant), role, name: author(&row.name, headers)? })
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

/// Lets a request pass that carries a token of at least `least`, and tells the handler whose it is.
pub(super) async fn require(State((web, least)): State<(Web, Role)>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let caller = authenticate(&web, request.headers()).await?;
    if caller.role < least {
        return Err(ApiError::forbidden(format!("this needs the role {}; the token has {}", least.as_str(), caller.role.as_str())));
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// `GET /api/v1/me`: whose token this is, and what it may do.
pub(super) async fn me(State(web): State<Web>, Extension(caller): Extension<Caller>) -> Result<Json<Me>, ApiError> {
    let tenants = web.store.tenants().await?;
    let tenant = tenants.into_iter().find(|(id, _)| *id == caller.scope.0).map(|(_, slug)| slug).unwrap_or_default();
    Ok(Json(Me { name: caller.name, role: caller.role.as_str().to_owned(), tenant }))
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
