//! Accounts: users, sessions, tokens, the first user's codes, the audit log.

use super::super::accounts::{
    AUDIT_AGE, AUDIT_MAX, Account, Accounts, AuditRow, Deed, NewSession, NewToken, NewUser, SESSION_IDLE, SESSION_LIFE, SESSIONS_MAX,
    SETUP_AGE, SessionRow, TOKENS_MAX, TokenRow, TokenView, USERS_MAX, UserChange, UserId, UserView,
};
use super::super::error::{failed, refused};
use super::super::rows::{self, Columns, Sql};
use super::super::{PAGE_MAX, Result, TenantScope};
use super::{GIVE_UP, PostgresStore, query, reading, within, writing};
use async_trait::async_trait;
use sqlx::{Connection as _, PgConnection};
use watchkeeper_core::{Micros, TenantId};

#[async_trait]
impl Accounts for PostgresStore {
    async fn has_users(&self) -> Result<bool> {
        reading!(self, "looking for users", |tx| has_users(tx))
    }

    async fn offer_setup(&self, node: &str, code: &[u8; 32], now: Micros) -> Result<bool> {
        writing!(self, "offering a code for the first user", |tx| offer_setup(tx, node, code, now))
    }

    async fn setup_offered(&self, now: Micros) -> Result<bool> {
        reading!(self, "looking for a code for the first user", |tx| setup_offered(tx, now))
    }

    async fn set_up(&self, code: &[u8; 32], scope: TenantScope, user: &NewUser, now: Micros) -> Result<Option<UserId>> {
        writing!(self, "making the first user", |tx| set_up(tx, code, scope, user, now))
    }

    async fn create_user(&self, scope: TenantScope, user: &NewUser, now: Micros) -> Result<bool> {
        writing!(self, "making a user", |tx| create_user(tx, scope, user, now))
    }

    async fn users(&self, scope: TenantScope) -> Result<Vec<UserView>> {
        reading!(self, "listing users", |tx| users(tx, scope))
    }

    async fn change_user(&self, scope: TenantScope, uid: &str, change: &UserChange) -> Result<bool> {
        writing!(self, "changing a user", |tx| change_user(tx, scope, uid, change))
    }

    async fn remove_user(&self, scope: TenantScope, uid: &str) -> Result<bool> {
        writing!(self, "removing a user", |tx| remove_user(tx, scope, uid))
    }

    async fn admit_user(&self, scope: TenantScope, login: &str, role: &str) -> Result<bool> {
        writing!(self, "making a user a member", |tx| admit_user(tx, scope, login, role))
    }

    async fn account(&self, login: &str) -> Result<Option<Account>> {
        reading!(self, "looking up a user", |tx| account(tx, login))
    }

    async fn memberships(&self, user: UserId) -> Result<Vec<(TenantId, String, String)>> {
        reading!(self, "looking up a user's tenants", |tx| memberships(tx, user))
    }

    async fn set_password(&self, user: UserId, password: &str, keep: Option<&[u8; 32]>) -> Result<()> {
        writing!(self, "changing a password", |tx| set_password(tx, user, password, keep))
    }

    async fn open_session(&self, session: &NewSession<'_>, now: Micros) -> Result<bool> {
        writing!(self, "beginning a session", |tx| open_session(tx, session, now))
    }

    async fn session(&self, hash: &[u8; 32], now: Micros) -> Result<Option<SessionRow>> {
        reading!(self, "checking a session", |tx| session(tx, hash, now))
    }

    async fn touch_session(&self, hash: &[u8; 32], now: Micros) -> Result<()> {
        writing!(self, "noting that a session was used", |tx| touch_session(tx, hash, now))
    }

    async fn end_session(&self, hash: &[u8; 32]) -> Result<()> {
        writing!(self, "ending a session", |tx| end_session(tx, hash))
    }

    async fn begin_totp(&self, user: UserId, secret: &[u8]) -> Result<bool> {
        writing!(self, "beginning a second factor", |tx| begin_totp(tx, user, secret))
    }

    async fn confirm_totp(&self, user: UserId, secret: &[u8], step: i64, recovery: &[[u8; 32]]) -> Result<bool> {
        writing!(self, "confirming a second factor", |tx| confirm_totp(tx, user, secret, step, recovery))
    }

    async fn spend_totp(&self, user: UserId, step: i64) -> Result<bool> {
        writing!(self, "using up a code", |tx| spend_totp(tx, user, step))
    }

    async fn spend_recovery(&self, user: UserId, hash: &[u8; 32]) -> Result<bool> {
        writing!(self, "using up a code of recovery", |tx| spend_recovery(tx, user, hash))
    }

    async fn end_totp(&self, user: UserId) -> Result<()> {
        writing!(self, "forgetting a second factor", |tx| end_totp(tx, user))
    }

    async fn second_factors(&self, after: UserId, limit: i64) -> Result<Vec<(UserId, TenantId, Vec<u8>)>> {
        reading!(self, "reading second factors", |tx| second_factors(tx, after, limit))
    }

    async fn reseal_second_factor(&self, user: UserId, old: &[u8], new: &[u8]) -> Result<bool> {
        writing!(self, "sealing a second factor", |tx| reseal_second_factor(tx, user, old, new))
    }

    async fn create_token(&self, scope: TenantScope, token: &NewToken<'_>, now: Micros) -> Result<()> {
        writing!(self, "storing a token", |tx| create_token(tx, scope, token, now))
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>> {
        reading!(self, "checking a token", |tx| token(tx, hash))
    }

    async fn has_tokens(&self) -> Result<bool> {
        reading!(self, "looking for tokens", |tx| has_tokens(tx))
    }

    async fn tokens(&self, scope: TenantScope) -> Result<Vec<TokenView>> {
        reading!(self, "listing tokens", |tx| tokens(tx, scope))
    }

    async fn revoke_token(&self, scope: TenantScope, id: i64) -> Result<Option<String>> {
        writing!(self, "ending a token", |tx| revoke_token(tx, scope, id))
    }

    async fn audit(&self, scope: TenantScope, deed: &Deed, now: Micros) -> Result<i64> {
        writing!(self, "noting who does what", |tx| audit(tx, scope, deed, now))
    }

    async fn audited(&self, scope: TenantScope, id: i64, status: u16, detail: &str) -> Result<()> {
        writing!(self, "noting how it ended", |tx| audited(tx, scope, id, status, detail))
    }

    async fn audit_log(&self, scope: TenantScope, before: Option<i64>, limit: i64) -> Result<Vec<AuditRow>> {
        reading!(self, "reading the audit log", |tx| audit_log(tx, scope, before, limit))
    }
}

async fn has_users(tx: &mut PgConnection) -> Sql<bool> {
    Ok(query("SELECT 1 FROM wk_user LIMIT 1").fetch_optional(&mut *tx).await?.is_some())
}

/// Two nodes must not both find that nobody is there yet.
async fn alone(tx: &mut PgConnection) -> Sql<()> {
    query("LOCK TABLE wk_user IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await?;
    Ok(())
}

async fn offer_setup(tx: &mut PgConnection, node: &str, code: &[u8; 32], now: Micros) -> Sql<bool> {
    alone(tx).await?;
    if has_users(tx).await? {
        return Ok(false);
    }
    query("INSERT INTO wk_setup (node, hash, at) VALUES ($1, $2, $3) ON CONFLICT (node) DO UPDATE SET hash = $2, at = $3")
        .bind(node)
        .bind(code.as_slice())
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
    Ok(true)
}

async fn setup_offered(tx: &mut PgConnection, now: Micros) -> Sql<bool> {
    let sql = "SELECT 1 FROM wk_setup WHERE at > $1 AND NOT EXISTS (SELECT 1 FROM wk_user) LIMIT 1";
    Ok(query(sql).bind((now - SETUP_AGE).0).fetch_optional(&mut *tx).await?.is_some())
}

async fn set_up(tx: &mut PgConnection, code: &[u8; 32], scope: TenantScope, user: &NewUser, now: Micros) -> Sql<Option<UserId>> {
    alone(tx).await?;
    let good = query("SELECT 1 FROM wk_setup WHERE hash = $1 AND at > $2")
        .bind(code.as_slice())
        .bind((now - SETUP_AGE).0)
        .fetch_optional(&mut *tx)
        .await?;
    if good.is_none() || has_users(tx).await? {
        return Ok(None);
    }
    insert_user(tx, scope, user, now).await
}

/// `None` if there is one of that login.
async fn insert_user(tx: &mut PgConnection, scope: TenantScope, user: &NewUser, now: Micros) -> Sql<Option<UserId>> {
    let row = query(
        "INSERT INTO wk_user (uid, tenant_id, name, login, password, created_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (login) DO NOTHING RETURNING id",
    )
    .bind(&user.uid)
    .bind(scope.0.0)
    .bind(&user.name)
    .bind(&user.login)
    .bind(&user.password)
    .bind(now.0)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id = UserId(row.int(0)?);
    put_member(tx, scope, id, &user.role).await?;
    query("DELETE FROM wk_setup").execute(&mut *tx).await?;
    Ok(Some(id))
}

async fn put_member(tx: &mut PgConnection, scope: TenantScope, user: UserId, role: &str) -> Sql<()> {
    query(
        "INSERT INTO wk_membership (tenant_id, user_id, role) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = $3",
    )
    .bind(scope.0.0)
    .bind(user.0)
    .bind(role)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn create_user(tx: &mut PgConnection, scope: TenantScope, user: &NewUser, now: Micros) -> Sql<bool> {
    alone(tx).await?;
    room_for_member(tx, scope).await?;
    Ok(insert_user(tx, scope, user, now).await?.is_some())
}

async fn room_for_member(tx: &mut PgConnection, scope: TenantScope) -> Sql<()> {
    let members = query("SELECT count(*) FROM wk_membership WHERE tenant_id = $1").bind(scope.0.0).fetch_one(&mut *tx).await?;
    if members.int(0)? >= USERS_MAX {
        return Err(refused(format!("there are {USERS_MAX} users already: remove some of them first")));
    }
    Ok(())
}

async fn users(tx: &mut PgConnection, scope: TenantScope) -> Sql<Vec<UserView>> {
    let rows = query(
        "SELECT u.uid, u.name, m.role, CAST(CASE WHEN u.tenant_id = $1 THEN 1 ELSE 0 END AS BIGINT),
                CAST(CASE WHEN u.password IS NULL THEN 0 ELSE 1 END AS BIGINT), u.totp_on, u.created_at,
                (SELECT max(s.seen_at) FROM wk_session s WHERE s.user_id = u.id AND s.tenant_id = $1)
         FROM wk_membership m JOIN wk_user u ON u.id = m.user_id WHERE m.tenant_id = $1 ORDER BY u.login LIMIT $2",
    )
    .bind(scope.0.0)
    .bind(USERS_MAX)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::user).collect()
}

/// A member's number.
async fn member(tx: &mut PgConnection, scope: TenantScope, uid: &str) -> Sql<Option<UserId>> {
    let row = query("SELECT u.id FROM wk_user u JOIN wk_membership m ON m.user_id = u.id WHERE m.tenant_id = $1 AND u.uid = $2")
        .bind(scope.0.0)
        .bind(uid)
        .fetch_optional(&mut *tx)
        .await?;
    row.map(|row| row.int(0).map(UserId)).transpose()
}

async fn change_user(tx: &mut PgConnection, scope: TenantScope, uid: &str, change: &UserChange) -> Sql<bool> {
    let UserChange { role, password, without_totp } = change;
    let Some(user) = member(tx, scope, uid).await? else { return Ok(false) };
    if password.is_some() || *without_totp {
        let own = query("SELECT 1 FROM wk_user WHERE id = $1 AND tenant_id = $2").bind(user.0).bind(scope.0.0);
        if own.fetch_optional(&mut *tx).await?.is_none() {
            return Ok(false);
        }
    }
    if let Some(role) = role {
        put_member(tx, scope, user, role).await?;
    }
    if let Some(password) = password {
        set_password(tx, user, password, None).await?;
    }
    if *without_totp {
        end_totp(tx, user).await?;
    }
    Ok(true)
}

async fn remove_user(tx: &mut PgConnection, scope: TenantScope, uid: &str) -> Sql<bool> {
    let Some(user) = member(tx, scope, uid).await? else { return Ok(false) };
    query("DELETE FROM wk_session WHERE tenant_id = $1 AND user_id = $2").bind(scope.0.0).bind(user.0).execute(&mut *tx).await?;
    query("DELETE FROM wk_membership WHERE tenant_id = $1 AND user_id = $2").bind(scope.0.0).bind(user.0).execute(&mut *tx).await?;
    query("DELETE FROM wk_user WHERE id = $1 AND tenant_id = $2").bind(user.0).bind(scope.0.0).execute(&mut *tx).await?;
    Ok(true)
}

async fn admit_user(tx: &mut PgConnection, scope: TenantScope, login: &str, role: &str) -> Sql<bool> {
    let row = query("SELECT id FROM wk_user WHERE login = $1").bind(login).fetch_optional(&mut *tx).await?;
    let Some(row) = row else { return Ok(false) };
    room_for_member(tx, scope).await?;
    put_member(tx, scope, UserId(row.int(0)?), role).await?;
    Ok(true)
}

async fn account(tx: &mut PgConnection, login: &str) -> Sql<Option<Account>> {
    if login.contains('\0') {
        return Ok(None);
    }
    let row = query("SELECT id, name, tenant_id, password, totp_on, totp_step, totp_secret FROM wk_user WHERE login = $1")
        .bind(login)
        .fetch_optional(&mut *tx)
        .await?;
    row.as_ref().map(rows::account).transpose()
}

async fn memberships(tx: &mut PgConnection, user: UserId) -> Sql<Vec<(TenantId, String, String)>> {
    let rows = query(
        "SELECT m.tenant_id, t.slug, m.role FROM wk_membership m JOIN wk_tenant t ON t.id = m.tenant_id
         WHERE m.user_id = $1 ORDER BY t.slug LIMIT $2",
    )
    .bind(user.0)
    .bind(PAGE_MAX)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(|row| Ok((TenantId(row.int(0)?), row.text(1)?, row.text(2)?))).collect()
}

async fn set_password(tx: &mut PgConnection, user: UserId, password: &str, keep: Option<&[u8; 32]>) -> Sql<()> {
    query("UPDATE wk_user SET password = $2 WHERE id = $1").bind(user.0).bind(password).execute(&mut *tx).await?;
    query("DELETE FROM wk_session WHERE user_id = $1 AND hash <> $2")
        .bind(user.0)
        .bind(keep.map_or(&[][..], <[u8; 32]>::as_slice))
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn open_session(tx: &mut PgConnection, session: &NewSession<'_>, now: Micros) -> Sql<bool> {
    let NewSession { hash, user, tenant, address, password } = session;
    let begun = query(
        "INSERT INTO wk_session (hash, user_id, tenant_id, address, created_at, seen_at)
         SELECT $1, u.id, m.tenant_id, $4, $5, $5 FROM wk_user u JOIN wk_membership m ON m.user_id = u.id
         WHERE u.id = $2 AND m.tenant_id = $3 AND coalesce(u.password, '') = $6",
    )
    .bind(hash.as_slice())
    .bind(user.0)
    .bind(tenant.0)
    .bind(*address)
    .bind(now.0)
    .bind(password.unwrap_or_default())
    .execute(&mut *tx)
    .await?;
    query(
        "DELETE FROM wk_session WHERE user_id = $1
           AND hash NOT IN (SELECT hash FROM wk_session WHERE user_id = $1 ORDER BY seen_at DESC, created_at DESC LIMIT $2)",
    )
    .bind(user.0)
    .bind(SESSIONS_MAX)
    .execute(&mut *tx)
    .await?;
    Ok(begun.rows_affected() > 0)
}

async fn session(tx: &mut PgConnection, hash: &[u8; 32], now: Micros) -> Sql<Option<SessionRow>> {
    let row = query(
        "SELECT u.id, u.uid, u.name, s.tenant_id, m.role, s.seen_at, u.totp_on FROM wk_session s JOIN wk_user u ON u.id = s.user_id
         JOIN wk_membership m ON m.user_id = s.user_id AND m.tenant_id = s.tenant_id
         WHERE s.hash = $1 AND s.seen_at > $2 AND s.created_at > $3",
    )
    .bind(hash.as_slice())
    .bind((now - SESSION_IDLE).0)
    .bind((now - SESSION_LIFE).0)
    .fetch_optional(&mut *tx)
    .await?;
    row.as_ref().map(rows::session).transpose()
}

async fn touch_session(tx: &mut PgConnection, hash: &[u8; 32], now: Micros) -> Sql<()> {
    query("UPDATE wk_session SET seen_at = $2 WHERE hash = $1 AND seen_at < $2")
        .bind(hash.as_slice())
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn end_session(tx: &mut PgConnection, hash: &[u8; 32]) -> Sql<()> {
    query("DELETE FROM wk_session WHERE hash = $1").bind(hash.as_slice()).execute(&mut *tx).await?;
    Ok(())
}

async fn begin_totp(tx: &mut PgConnection, user: UserId, secret: &[u8]) -> Sql<bool> {
    let done = query("UPDATE wk_user SET totp_secret = $2 WHERE id = $1 AND totp_on = 0").bind(user.0).bind(secret);
    Ok(done.execute(&mut *tx).await?.rows_affected() > 0)
}

async fn confirm_totp(tx: &mut PgConnection, user: UserId, secret: &[u8], step: i64, recovery: &[[u8; 32]]) -> Sql<bool> {
    let done = query("UPDATE wk_user SET totp_on = 1, totp_step = $3 WHERE id = $1 AND totp_on = 0 AND totp_secret = $2")
        .bind(user.0)
        .bind(secret)
        .bind(step)
        .execute(&mut *tx)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    query("DELETE FROM wk_recovery WHERE user_id = $1").bind(user.0).execute(&mut *tx).await?;
    for hash in recovery {
        query("INSERT INTO wk_recovery (user_id, hash) VALUES ($1, $2)").bind(user.0).bind(hash.as_slice()).execute(&mut *tx).await?;
    }
    Ok(true)
}

async fn second_factors(tx: &mut PgConnection, after: UserId, limit: i64) -> Sql<Vec<(UserId, TenantId, Vec<u8>)>> {
    let rows = query("SELECT id, tenant_id, totp_secret FROM wk_user WHERE id > $1 AND totp_secret IS NOT NULL ORDER BY id LIMIT $2")
        .bind(after.0)
        .bind(limit.clamp(0, PAGE_MAX))
        .fetch_all(&mut *tx)
        .await?;
    rows.iter().map(|row| Ok((UserId(row.int(0)?), TenantId(row.int(1)?), row.bytes(2)?))).collect()
}

async fn reseal_second_factor(tx: &mut PgConnection, user: UserId, old: &[u8], new: &[u8]) -> Sql<bool> {
    let done = query("UPDATE wk_user SET totp_secret = $3 WHERE id = $1 AND totp_secret = $2").bind(user.0).bind(old).bind(new);
    Ok(done.execute(&mut *tx).await?.rows_affected() > 0)
}

async fn spend_totp(tx: &mut PgConnection, user: UserId, step: i64) -> Sql<bool> {
    let done = query("UPDATE wk_user SET totp_step = $2 WHERE id = $1 AND totp_on = 1 AND totp_step < $2").bind(user.0).bind(step);
    Ok(done.execute(&mut *tx).await?.rows_affected() > 0)
}

async fn spend_recovery(tx: &mut PgConnection, user: UserId, hash: &[u8; 32]) -> Sql<bool> {
    let done = query("DELETE FROM wk_recovery WHERE user_id = $1 AND hash = $2").bind(user.0).bind(hash.as_slice());
    Ok(done.execute(&mut *tx).await?.rows_affected() > 0)
}

async fn end_totp(tx: &mut PgConnection, user: UserId) -> Sql<()> {
    query("UPDATE wk_user SET totp_secret = NULL, totp_on = 0 WHERE id = $1").bind(user.0).execute(&mut *tx).await?;
    query("DELETE FROM wk_recovery WHERE user_id = $1").bind(user.0).execute(&mut *tx).await?;
    Ok(())
}

async fn create_token(tx: &mut PgConnection, scope: TenantScope, token: &NewToken<'_>, now: Micros) -> Sql<()> {
    let NewToken { name, role, hash, prefix, made_by, expires, most } = token;
    let there = query("SELECT count(*) FROM wk_token WHERE tenant_id = $1").bind(scope.0.0).fetch_one(&mut *tx).await?;
    let (there, most) = (there.int(0)?, TOKENS_MAX.min(*most));
    if there >= most {
        return Err(refused(format!("there are {there} tokens already, and the limit is {most}: end some of them first")));
    }
    query(
        "INSERT INTO wk_token (tenant_id, name, role, hash, prefix, created_at, expires_at, made_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(scope.0.0)
    .bind(*name)
    .bind(*role)
    .bind(hash.as_slice())
    .bind(*prefix)
    .bind(now.0)
    .bind(expires.map(|at| at.0))
    .bind(*made_by)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn token(tx: &mut PgConnection, hash: &[u8; 32]) -> Sql<Option<TokenRow>> {
    let row = query("SELECT tenant_id, name, role, prefix, expires_at FROM wk_token WHERE hash = $1")
        .bind(hash.as_slice())
        .fetch_optional(&mut *tx)
        .await?;
    row.as_ref().map(|row| rows::token(row, 0)).transpose()
}

async fn has_tokens(tx: &mut PgConnection) -> Sql<bool> {
    Ok(query("SELECT 1 FROM wk_token LIMIT 1").fetch_optional(&mut *tx).await?.is_some())
}

async fn tokens(tx: &mut PgConnection, scope: TenantScope) -> Sql<Vec<TokenView>> {
    let rows = query(
        "SELECT id, created_at, made_by, tenant_id, name, role, prefix, expires_at FROM wk_token WHERE tenant_id = $1
         ORDER BY id LIMIT $2",
    )
    .bind(scope.0.0)
    .bind(TOKENS_MAX)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::token_view).collect()
}

async fn revoke_token(tx: &mut PgConnection, scope: TenantScope, id: i64) -> Sql<Option<String>> {
    let row = query("DELETE FROM wk_token WHERE tenant_id = $1 AND id = $2 RETURNING name")
        .bind(scope.0.0)
        .bind(id)
        .fetch_optional(&mut *tx)
        .await?;
    row.map(|row| row.text(0)).transpose()
}

async fn audit(tx: &mut PgConnection, scope: TenantScope, deed: &Deed, now: Micros) -> Sql<i64> {
    let Deed { actor, via, address, action, detail, status } = deed;
    let row = query(
        "INSERT INTO wk_audit (tenant_id, at, actor, via, address, action, detail, status) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         RETURNING id",
    )
    .bind(scope.0.0)
    .bind(now.0)
    .bind(actor)
    .bind(via)
    .bind(address)
    .bind(action)
    .bind(detail)
    .bind(status.map(i64::from))
    .fetch_one(&mut *tx)
    .await?;
    row.int(0)
}

async fn audited(tx: &mut PgConnection, scope: TenantScope, id: i64, status: u16, detail: &str) -> Sql<()> {
    query("UPDATE wk_audit SET status = $3, detail = $4 WHERE tenant_id = $1 AND id = $2")
        .bind(scope.0.0)
        .bind(id)
        .bind(i64::from(status))
        .bind(detail)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn audit_log(tx: &mut PgConnection, scope: TenantScope, before: Option<i64>, limit: i64) -> Sql<Vec<AuditRow>> {
    let rows = query(
        "SELECT id, at, actor, via, address, action, detail, status FROM wk_audit WHERE tenant_id = $1 AND id < $2
         ORDER BY id DESC LIMIT $3",
    )
    .bind(scope.0.0)
    .bind(before.unwrap_or(i64::MAX))
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::audit).collect()
}

/// Sessions that have ended, codes that are void, and at most `most` old entries of the audit log; how many rows went.
pub(super) async fn expire_accounts(tx: &mut PgConnection, now: Micros, most: i64) -> Sql<u64> {
    let sessions = query("DELETE FROM wk_session WHERE seen_at <= $1 OR created_at <= $2")
        .bind((now - SESSION_IDLE).0)
        .bind((now - SESSION_LIFE).0)
        .execute(&mut *tx)
        .await?;
    let codes = query("DELETE FROM wk_setup WHERE at <= $1").bind((now - SETUP_AGE).0).execute(&mut *tx).await?;
    let mut gone = sessions.rows_affected() + codes.rows_affected();
    let old = query("DELETE FROM wk_audit WHERE id = ANY (ARRAY (SELECT id FROM wk_audit WHERE at < $1 ORDER BY at LIMIT $2))")
        .bind((now - AUDIT_AGE).0)
        .bind(most);
    gone += old.execute(&mut *tx).await?.rows_affected();
    for tenant in query("SELECT id FROM wk_tenant").fetch_all(&mut *tx).await? {
        let beyond = query(
            "DELETE FROM wk_audit WHERE id = ANY (ARRAY (SELECT id FROM wk_audit WHERE tenant_id = $1
               AND id <= (SELECT id FROM wk_audit WHERE tenant_id = $1 ORDER BY id DESC LIMIT 1 OFFSET $2) ORDER BY id LIMIT $3))",
        );
        gone += beyond.bind(TenantId(tenant.int(0)?).0).bind(AUDIT_MAX).bind(most).execute(&mut *tx).await?.rows_affected();
    }
    Ok(gone)
}
