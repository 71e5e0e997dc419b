//! Accounts: who may ask, and who changed what. Users with their roles and sessions, API tokens, the first user's codes, and the
//! audit log; what both stores promise about them.
//!
//! No secret is stored that opens something by itself: of tokens, sessions and codes the SHA-256, of passwords what argon2id makes of
//! them. The one exception is a second factor's secret, which must be read to be compared; where there is a key it lies sealed
//! ([`crate::sealed`]), else whoever has the database has that too.
//!
//! An account belongs to one tenant, whose administrators look after it, and may be a member of others. Administrators of those see
//! that it is a member there, and can end that; its password and its second factor are beyond their reach, because with them they
//! would reach into the account's other tenants.

use super::{Result, TenantScope};
use async_trait::async_trait;
use watchkeeper_core::{Dur, Micros, TenantId};

/// A session ends after so long without a request. The page's live stream comes back each hour, so one that is open keeps it. Longer
/// would leave forgotten ones lying about; shorter would ask for a password each morning after a short night.
pub const SESSION_IDLE: Dur = Dur::secs(12 * 3_600);

/// A session ends after so long in any case. Longer would let a stolen one live on; shorter would put out a screen on the wall more often.
pub const SESSION_LIFE: Dur = Dur::secs(7 * 86_400);

/// Sessions of one user at a time; a further one ends the one that was longest not used. Fewer would sign people out of their devices.
pub const SESSIONS_MAX: i64 = 20;

/// Users of one tenant, and tokens of one tenant: both are listed whole. More belong to a directory that signs them in.
pub const USERS_MAX: i64 = 1_000;
/// See [`USERS_MAX`].
pub const TOKENS_MAX: i64 = 1_000;

/// Bytes of a second factor's secret: those of the hash, as RFC 4226 recommends. Whatever is sealed is longer.
pub const TOTP_BYTES: usize = 20;

/// A code for the first user is good for so long after the start that printed it. Longer would leave it in logs that others read by then.
pub const SETUP_AGE: Dur = Dur::secs(24 * 3_600);

/// Entries of the audit log are kept for so long: the yearly look at them finds everything.
pub const AUDIT_AGE: Dur = Dur::secs(400 * 86_400);

/// And no more of one tenant: its people could fill the disk otherwise. At their limit of deeds that takes more than a day.
pub const AUDIT_MAX: i64 = 1_000_000;

/// A user's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserId(pub i64);

/// A user who is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// Public id.
    pub uid: String,
    /// As it is shown.
    pub name: String,
    /// As it is compared: no two are the same in an installation.
    pub login: String,
    /// In PHC's form.
    pub password: Option<String>,
    /// `viewer`, `operator`, `admin`: in the tenant that it is made in.
    pub role: String,
}

/// A user as a tenant's administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserView {
    /// Public id.
    pub uid: String,
    /// Name.
    pub name: String,
    /// In this tenant.
    pub role: String,
    /// Whether the account belongs to this tenant.
    pub home: bool,
    /// Whether there is a password.
    pub password: bool,
    /// Whether a second factor is asked for.
    pub totp: bool,
    /// Since when.
    pub created_at: Micros,
    /// The newest request of a session in this tenant.
    pub seen_at: Option<Micros>,
}

/// What is changed of a user; what is not given stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    /// In this tenant.
    pub role: Option<String>,
    /// In PHC's form; ends every session of the user.
    pub password: Option<String>,
    /// The second factor is forgotten.
    pub without_totp: bool,
}

/// An account as it is needed to sign somebody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: UserId,
    /// Name.
    pub name: String,
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// In PHC's form.
    pub password: Option<String>,
    /// The second factor, if it was begun.
    pub totp: Option<Totp>,
}

/// A second factor.
#[derive(Clone, PartialEq, Eq)]
pub struct Totp {
    /// The shared secret, as it lies in the store.
    pub secret: Vec<u8>,
    /// Whether a code has shown that it arrived.
    pub on: bool,
    /// The newest step that was taken.
    pub step: i64,
}

impl std::fmt::Debug for Totp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Totp").field("on", &self.on).finish_non_exhaustive()
    }
}

/// A session that is to begin.
#[derive(Clone, Debug)]
pub struct NewSession<'a> {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// Whose.
    pub user: UserId,
    /// In which tenant.
    pub tenant: TenantId,
    /// From where.
    pub address: &'a str,
    /// The stored password that was found right: if it is another by now, no session begins.
    pub password: Option<&'a str>,
}

/// A session that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Whose.
    pub user: UserId,
    /// The user's public id.
    pub uid: String,
    /// The user's name.
    pub name: String,
    /// In which tenant.
    pub tenant: TenantId,
    /// The user's role there, now.
    pub role: String,
    /// The newest request that was noted.
    pub seen_at: Micros,
    /// Whether the user has a second factor.
    pub totp: bool,
}

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    /// Its name.
    pub name: &'a str,
    /// `viewer`, `operator`, `admin`.
    pub role: &'a str,
    /// SHA-256 of its text.
    pub hash: &'a [u8; 32],
    /// So much of its text is shown.
    pub prefix: &'a str,
    /// Who made it.
    pub made_by: Option<&'a str>,
    /// When it ends.
    pub expires: Option<Micros>,
    /// So many the tenant may have.
    pub most: i64,
}

/// An API token as it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Whose.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    pub role: String,
    /// So much of its text is shown.
    pub prefix: String,
    /// When it ends.
    pub expires_at: Option<Micros>,
}

/// An API token as a tenant's administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView {
    /// Its number.
    pub id: i64,
    /// The token.
    pub token: TokenRow,
    /// Who made it, if that is known.
    pub made_by: Option<String>,
    /// Since when.
    pub created_at: Micros,
}

/// Something that somebody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Who: a user's or a token's name.
    pub actor: String,
    /// With what: `session`, `token wk_abc123`, `command line`, …
    pub via: String,
    /// From where: an address; empty for the command line.
    pub address: String,
    /// What: `DELETE /api/v1/silences/…`.
    pub action: String,
    /// What the action does not say already, without secrets.
    pub detail: String,
    /// What was answered, if it was already.
    pub status: Option<u16>,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number; grows.
    pub id: i64,
    /// When.
    pub at: Micros,
    /// What.
    pub deed: Deed,
}

/// The contract about accounts. Methods are use cases; each is one transaction.
#[async_trait]
pub trait Accounts: Send + Sync {
    // --- the first user

    /// Whether there is any user.
    async fn has_users(&self) -> Result<bool>;
    /// Offers a code to become the first user with, in place of this node's former one. False if there is a user.
    async fn offer_setup(&self, node: &str, code: &[u8; 32], now: Micros) -> Result<bool>;
    /// Whether there is no user, but a code that is still good.
    async fn setup_offered(&self, now: Micros) -> Result<bool>;
    /// Makes the first user with such a code; all codes are void then. `None` if the code is not good, or there is a user.
    async fn set_up(&self, code: &[u8; 32], scope: TenantScope, user: &NewUser, now: Micros) -> Result<Option<UserId>>;

    // --- users

    /// Makes a user that belongs to this tenant; every code for the first user is void then. False if there is one of that login.
    /// [`super::StoreError::Refused`] beyond [`USERS_MAX`].
    async fn create_user(&self, scope: TenantScope, user: &NewUser, now: Micros) -> Result<bool>;
    /// The tenant's members, by name.
    async fn users(&self, scope: TenantScope) -> Result<Vec<UserView>>;
    /// Changes a member; what belongs to the account only if that is this tenant's. False if there is no such member, or not so.
    async fn change_user(&self, scope: TenantScope, uid: &str, change: &UserChange) -> Result<bool>;
    /// Removes a member: the account with all that hangs on it if it is this tenant's, else the membership. False if there is none.
    async fn remove_user(&self, scope: TenantScope, uid: &str) -> Result<bool>;
    /// Makes an account a member of this tenant with that role. False if there is no such account.
    async fn admit_user(&self, scope: TenantScope, login: &str, role: &str) -> Result<bool>;

    // --- signing in

    /// The account of that login.
    async fn account(&self, login: &str) -> Result<Option<Account>>;
    /// Every tenant that a user is a member of: id, slug, role; by slug.
    async fn memberships(&self, user: UserId) -> Result<Vec<(TenantId, String, String)>>;
    /// Sets a user's own password, and ends the user's sessions but that one.
    async fn set_password(&self, user: UserId, password: &str, keep: Option<&[u8; 32]>) -> Result<()>;
    /// Begins a session. False if the password is another by now, or the user no member.
    async fn open_session(&self, session: &NewSession<'_>, now: Micros) -> Result<bool>;
    /// The session of that hash, if it lasts.
    async fn session(&self, hash: &[u8; 32], now: Micros) -> Result<Option<SessionRow>>;
    /// Notes that a session was used.
    async fn touch_session(&self, hash: &[u8; 32], now: Micros) -> Result<()>;
    /// Ends a session.
    async fn end_session(&self, hash: &[u8; 32]) -> Result<()>;

    // --- the second factor

    /// Notes a secret that is to become the second factor. False if there is one already.
    async fn begin_totp(&self, user: UserId, secret: &[u8]) -> Result<bool>;
    /// It arrived, as the code of that step showed: from now on it is asked for. The hashes are of codes for when it is lost.
    async fn confirm_totp(&self, user: UserId, secret: &[u8], step: i64, recovery: &[[u8; 32]]) -> Result<bool>;
    /// Uses up the code of a step; false if that one or a later one was used.
    async fn spend_totp(&self, user: UserId, step: i64) -> Result<bool>;
    /// Uses up a code of recovery; false if there is none such.
    async fn spend_recovery(&self, user: UserId, hash: &[u8; 32]) -> Result<bool>;
    /// Every second factor that was begun, as its secret lies there, by user after that one, at most `limit`.
    async fn second_factors(&self, after: UserId, limit: i64) -> Result<Vec<(UserId, TenantId, Vec<u8>)>>;
    /// Puts another form of the same secret in the place of one. False if it is another by now.
    async fn reseal_second_factor(&self, user: UserId, old: &[u8], new: &[u8]) -> Result<bool>;
    /// Forgets the second factor.
    async fn end_totp(&self, user: UserId) -> Result<()>;

    // --- tokens

    /// Stores a token by the SHA-256 of its text. [`super::StoreError::Refused`] beyond what the tenant may have, and beyond [`TOKENS_MAX`].
    async fn create_token(&self, scope: TenantScope, token: &NewToken<'_>, now: Micros) -> Result<()>;
    /// Finds a token by that hash.
    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>>;
    /// Whether any token exists.
    async fn has_tokens(&self) -> Result<bool>;
    /// The tenant's tokens, in the order of their making.
    async fn tokens(&self, scope: TenantScope) -> Result<Vec<TokenView>>;
    /// Ends a token. Its name, or `None` if there is none such.
    async fn revoke_token(&self, scope: TenantScope, id: i64) -> Result<Option<String>>;

    // --- the audit log

    /// Notes a deed; its number.
    async fn audit(&self, scope: TenantScope, deed: &Deed, now: Micros) -> Result<i64>;
    /// Adds how it ended.
    async fn audited(&self, scope: TenantScope, id: i64, status: u16, detail: &str) -> Result<()>;
    /// The tenant's log, newest first, before a number.
    async fn audit_log(&self, scope: TenantScope, before: Option<i64>, limit: i64) -> Result<Vec<AuditRow>>;
}
