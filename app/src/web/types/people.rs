//! Forms of people and programs that ask: signing in, users, tokens, the audit log.

use super::Time;
use crate::store::{AuditRow, Deed, TokenRow, TokenView, UserView};
use crate::web::auth::password::Hidden;
use serde::{Deserialize, Serialize};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Me {
    /// The user's name, or the token's.
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::role"))]
    pub role: String,
    /// The tenant.
    pub tenant: String,
    /// The user's public id; null for a token.
    #[serde(default)]
    pub user: Option<String>,
    /// Whether the user has a second factor.
    #[serde(default)]
    pub second_factor: bool,
}

/// What signing in takes here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SignIn {
    /// There is no user yet: whoever has the code that the start printed can become the first.
    pub setup: bool,
    /// There are users, who sign in by name and password; if not, there are tokens alone.
    pub password: bool,
    /// What the issuer is called at which people can sign in too, with `GET /api/v1/auth/oidc`; null if there is none.
    #[serde(default)]
    pub oidc: Option<String>,
}

/// A user who signs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user's name.
    #[serde(alias = "email")]
    pub name: String,
    /// The password.
    pub password: Hidden,
    /// The second factor, where there is one: a code of 6 digits, or one of those for when the device is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Hidden>,
    /// In which tenant, for whoever is a member of several; the account's own if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// The first user, an administrator of the tenant `default`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetUp {
    /// The code that the start printed.
    pub code: Hidden,
    /// The user's name.
    pub name: String,
    /// The password.
    pub password: Hidden,
}

/// A session that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SignedIn {
    /// Who signed in.
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::role"))]
    pub role: String,
    /// The tenant.
    pub tenant: String,
    /// The session's secret, to be sent as a bearer token; not for the page, which has a cookie instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Hidden>,
}

/// A new password of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The one until now.
    pub old: Hidden,
    /// The one from now on.
    pub new: Hidden,
}

/// One's own password, for what a session alone is not enough for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OwnPassword {
    /// It.
    pub password: Hidden,
}

/// A second factor that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SecondFactor {
    /// What the device needs, to be typed.
    pub secret: Hidden,
    /// The same as an address that devices open, or read as a picture.
    pub uri: Hidden,
}

/// A code of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// 6 digits.
    pub code: Hidden,
}

/// Codes for when the device is lost: each is taken once, in place of the device's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Recovery {
    /// They, shown this once.
    pub recovery: Vec<Hidden>,
}

/// A member of the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct User {
    /// Public id.
    pub uid: String,
    /// Name.
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::role"))]
    pub role: String,
    /// Whether the account belongs to this tenant; if not, its password and second factor are another's to look after.
    pub own: bool,
    /// Whether there is a password; null for an account of another tenant.
    pub password: Option<bool>,
    /// Whether there is a second factor; null for an account of another tenant.
    pub second_factor: Option<bool>,
    /// Since when; null for an account of another tenant.
    pub created_at: Option<Time>,
    /// The newest request in this tenant, to the minute, of a session that lasts.
    pub seen_at: Option<Time>,
}

impl User {
    /// Of a row.
    pub fn of(user: UserView) -> Self {
        let UserView { uid, name, role, home, password, totp, created_at, seen_at } = user;
        // What an account elsewhere is like is its own tenant's to know.
        let (password, second_factor) = (home.then_some(password), home.then_some(totp));
        let (created_at, seen_at) = (home.then_some(Time(created_at)), seen_at.map(Time));
        Self { uid, name, role, own: home, password, second_factor, created_at, seen_at }
    }
}

/// A user who is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name to sign in with; case does not matter.
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::role"))]
    pub role: String,
    /// The first password, to be changed by the user.
    pub password: Hidden,
}

/// Somebody with an account in another tenant who is to be a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    /// The name to sign in with; case does not matter.
    pub name: String,
    /// `viewer`, `operator`, `admin`: in this tenant.
    pub role: String,
}

/// A tenant that the caller may act in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tenant {
    /// Its name, as the header `X-Tenant-ID` takes it.
    pub id: String,
    /// `viewer`, `operator`, `admin`: the caller's there.
    pub role: String,
    /// Whether this request was meant for it.
    pub current: bool,
}

/// The tenant that a request was meant for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TenantInfo {
    /// Its name, as the header `X-Tenant-ID` takes it.
    pub id: String,
    /// `viewer`, `operator`, `admin`: the caller's.
    pub role: String,
    /// Monitors that are watched or paused.
    pub monitors: i64,
    /// People who belong to it.
    pub members: i64,
    /// What it may have at most.
    pub limits: TenantLimits,
}

/// What a tenant may have at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TenantLimits {
    /// Monitors.
    pub monitors: i64,
    /// Channels.
    pub channels: i64,
    /// Public status pages.
    pub status_pages: i64,
    /// API tokens.
    pub tokens: i64,
    /// The shortest pause between two attempts of a monitor, in microseconds.
    pub interval_min_us: i64,
}

/// What is to be changed of a user; what is not given stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UserPatch {
    /// `viewer`, `operator`, `admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "super::schemas::role_or_null"))]
    pub role: Option<String>,
    /// Another password; ends all of the user's sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Hidden>,
    /// `false` takes the second factor away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_factor: Option<bool>,
}

/// A token of the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Token {
    /// Its number.
    pub id: i64,
    /// What it is for.
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::role"))]
    pub role: String,
    /// Its first characters.
    pub prefix: String,
    /// Who made it, if that is known.
    pub made_by: Option<String>,
    /// Since when.
    pub created_at: Time,
    /// Until when; null for ever.
    pub expires_at: Option<Time>,
}

impl Token {
    /// Of a row.
    pub fn of(view: TokenView) -> Self {
        let TokenView { id, token, made_by, created_at } = view;
        let TokenRow { tenant: _, name, role, prefix, expires_at } = token;
        Self { id, name, role, prefix, made_by, created_at: Time(created_at), expires_at: expires_at.map(Time) }
    }
}

/// A token that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::role"))]
    pub role: String,
    /// For how long from now: `90d`. For ever if not given.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
}

/// A token that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MadeToken {
    /// Its text, shown this once.
    pub token: Hidden,
    /// What it is for.
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::role"))]
    pub role: String,
    /// Until when; null for ever.
    pub expires_at: Option<Time>,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Audited {
    /// Its number; grows.
    pub id: i64,
    /// When.
    pub at: Time,
    /// Who.
    pub actor: String,
    /// With what: `session`, `token wk_abc123`, `password`, `command line`.
    pub via: String,
    /// From which address; empty for the command line.
    pub address: String,
    /// What: a method and a path, or a command.
    pub action: String,
    /// What that does not say.
    pub detail: String,
    /// What was answered; null if it was cut off before its end, and may have been done.
    pub status: Option<u16>,
}

impl Audited {
    /// Of a row.
    pub fn of(row: AuditRow) -> Self {
        let AuditRow { id, at, deed: Deed { actor, via, address, action, detail, status } } = row;
        Self { id, at: Time(at), actor, via, address, action, detail, status }
    }
}
