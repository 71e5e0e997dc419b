//! Subscribers of public status pages.

use super::super::error::failed;
use super::super::rows::{self, Columns, Sql};
use super::super::subscribers::{
    ASKED_MAX, ASKED_WITHIN, CONFIRM_WITHIN, GIVEN_UP_AFTER, IN_HAND, KEPT_WITHOUT_PAGE, LEAVE_WITHIN, LinkPurpose, NewSubscriber,
    PENDING_MAX, PageParcel, PageWord, ParcelEnd, REFUSALS_MAX, SUBSCRIBERS_MAX, Subscribed, SubscriberKind, SubscriberView, Subscribers,
    WEBHOOKS_MAX, WORDS_KEPT,
};
use super::super::{PAGE_MAX, Result, TenantScope};
use super::{GIVE_UP, PostgresStore, query, reading, within, writing};
use async_trait::async_trait;
use sqlx::{Connection as _, PgConnection};
use watchkeeper_core::{Micros, TenantId};

#[async_trait]
impl Subscribers for PostgresStore {
    async fn subscribe(&self, scope: TenantScope, page: &str, new: &NewSubscriber, now: Micros) -> Result<Subscribed> {
        writing!(self, "noting a subscription", |tx| subscribe(tx, scope, page, new, now))
    }

    async fn link(&self, scope: TenantScope, page: &str, hash: &[u8; 32], now: Micros) -> Result<Option<LinkPurpose>> {
        let found = reading!(self, "looking up a subscriber's link", |tx| link(tx, scope, page, hash, now))?;
        Ok(found.map(|(_, purpose)| purpose))
    }

    async fn follow(&self, scope: TenantScope, page: &str, hash: &[u8; 32], now: Micros) -> Result<Option<LinkPurpose>> {
        writing!(self, "following a subscriber's link", |tx| follow(tx, scope, page, hash, now))
    }

    async fn subscribers(&self, scope: TenantScope, page: &str, after: Option<i64>, limit: i64) -> Result<Vec<SubscriberView>> {
        reading!(self, "listing subscribers", |tx| subscribers(tx, scope, page, after, limit))
    }

    async fn remove_subscriber(&self, scope: TenantScope, page: &str, uid: &str) -> Result<bool> {
        writing!(self, "removing a subscriber", |tx| remove_subscriber(tx, scope, page, uid))
    }

    async fn forget_page(&self, scope: TenantScope, page: &str) -> Result<()> {
        writing!(self, "forgetting a page's subscribers", |tx| forget_page(tx, scope, page))
    }

    async fn page_words(&self, scope: TenantScope, page: &str) -> Result<Vec<PageWord>> {
        reading!(self, "reading what a page told", |tx| page_words(tx, scope, page))
    }

    async fn tell_page(&self, scope: TenantScope, page: &str, word: &PageWord, untold: bool, now: Micros) -> Result<bool> {
        writing!(self, "telling a page's subscribers", |tx| tell_page(tx, scope, page, word, untold, now))
    }

    async fn pages_due(&self, now: Micros, limit: i64) -> Result<Vec<(TenantId, String, SubscriberKind)>> {
        reading!(self, "looking for what subscribers are to be told", |tx| pages_due(tx, now, limit))
    }

    async fn take_parcels(
        &self,
        scope: TenantScope,
        page: &str,
        kind: SubscriberKind,
        links: &[[u8; 32]],
        now: Micros,
    ) -> Result<Vec<PageParcel>> {
        writing!(self, "taking what subscribers are to be told", |tx| take_parcels(tx, scope, page, kind, links, now))
    }

    async fn end_parcel(&self, scope: TenantScope, parcel: i64, end: ParcelEnd) -> Result<()> {
        writing!(self, "noting how a subscriber was told", |tx| end_parcel(tx, scope, parcel, end))
    }

    async fn keep_page(&self, scope: TenantScope, page: &str, now: Micros) -> Result<()> {
        writing!(self, "keeping a page's subscribers", |tx| keep_page(tx, scope, page, now))
    }

    async fn expire_subscribers(&self, now: Micros) -> Result<u64> {
        writing!(self, "removing subscriptions that nobody confirmed", |tx| expire_subscribers(tx, now))
    }
}

async fn subscribe(tx: &mut PgConnection, scope: TenantScope, page: &str, new: &NewSubscriber, now: Micros) -> Sql<Subscribed> {
    // One after another on a page, so that the limits hold.
    query("SELECT pg_advisory_xact_lock(hashtextextended($1, $2))").bind(page).bind(scope.0.0).execute(&mut *tx).await?;
    // Before the address is looked at: the answer must not tell whether it is known.
    let counts = query(
        "SELECT count(confirmed_at), count(*) - count(confirmed_at), count(CASE WHEN kind = 'webhook' THEN 1 END) FROM wk_subscriber
         WHERE tenant_id = $1 AND page = $2",
    )
    .bind(scope.0.0)
    .bind(page)
    .fetch_one(&mut *tx)
    .await?;
    let many = new.kind == SubscriberKind::Webhook && counts.int(2)? >= WEBHOOKS_MAX;
    if many || counts.int(0)? >= SUBSCRIBERS_MAX || counts.int(1)? >= PENDING_MAX {
        return Ok(Subscribed::Full);
    }
    // One that was not confirmed may be asked for again.
    let row = query(
        "INSERT INTO wk_subscriber (uid, tenant_id, page, kind, address, created_at, kept_until) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (tenant_id, page, kind, address) DO UPDATE SET kept_until = $7 WHERE wk_subscriber.confirmed_at IS NULL
         RETURNING id",
    )
    .bind(&new.uid)
    .bind(scope.0.0)
    .bind(page)
    .bind(new.kind.as_str())
    .bind(&new.address)
    .bind(now.0)
    .bind((now + CONFIRM_WITHIN).0)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(Subscribed::Noted) };
    let id = row.int(0)?;
    query(
        "INSERT INTO wk_page_parcel (tenant_id, page, subscriber_id, word_id, created_at, due_at)
         SELECT $1, $2, $3, NULL, $4::bigint, $4
         WHERE NOT EXISTS (SELECT 1 FROM wk_page_parcel WHERE subscriber_id = $3)
           AND (SELECT count(*) FROM wk_subscriber_link WHERE subscriber_id = $3 AND made_at > $5) < $6",
    )
    .bind(scope.0.0)
    .bind(page)
    .bind(id)
    .bind(now.0)
    .bind((now - ASKED_WITHIN).0)
    .bind(ASKED_MAX)
    .execute(&mut *tx)
    .await?;
    Ok(Subscribed::Noted)
}

/// The subscriber and what the link does.
async fn link(tx: &mut PgConnection, scope: TenantScope, page: &str, hash: &[u8; 32], now: Micros) -> Sql<Option<(i64, LinkPurpose)>> {
    let row = query(
        "SELECT s.id, l.purpose FROM wk_subscriber_link l JOIN wk_subscriber s ON s.id = l.subscriber_id
         WHERE l.hash = $1 AND l.good_until > $2 AND s.kept_until > $2 AND s.tenant_id = $3 AND s.page = $4",
    )
    .bind(hash.as_slice())
    .bind(now.0)
    .bind(scope.0.0)
    .bind(page)
    .fetch_optional(&mut *tx)
    .await?;
    row.map(|row| Ok((row.int(0)?, rows::link_purpose(&row.text(1)?)?))).transpose()
}

async fn follow(tx: &mut PgConnection, scope: TenantScope, page: &str, hash: &[u8; 32], now: Micros) -> Sql<Option<LinkPurpose>> {
    let Some((id, purpose)) = link(tx, scope, page, hash, now).await? else { return Ok(None) };
    match purpose {
        LinkPurpose::Confirm => {
            query("UPDATE wk_subscriber SET confirmed_at = $1, kept_until = $2 WHERE id = $3 AND confirmed_at IS NULL")
                .bind(now.0)
                .bind((now + KEPT_WITHOUT_PAGE).0)
                .bind(id)
                .execute(&mut *tx)
                .await?;
            query("DELETE FROM wk_subscriber_link WHERE subscriber_id = $1 AND purpose = 'confirm'").bind(id).execute(&mut *tx).await?;
            query("DELETE FROM wk_page_parcel WHERE subscriber_id = $1 AND word_id IS NULL").bind(id).execute(&mut *tx).await?;
        }
        LinkPurpose::Leave => {
            query("DELETE FROM wk_subscriber WHERE id = $1").bind(id).execute(&mut *tx).await?;
        }
    }
    Ok(Some(purpose))
}

async fn subscribers(tx: &mut PgConnection, scope: TenantScope, page: &str, after: Option<i64>, limit: i64) -> Sql<Vec<SubscriberView>> {
    let rows = query(
        "SELECT id, uid, kind, address, created_at, confirmed_at FROM wk_subscriber
         WHERE tenant_id = $1 AND page = $2 AND id > $3 ORDER BY id LIMIT $4",
    )
    .bind(scope.0.0)
    .bind(page)
    .bind(after.unwrap_or(i64::MIN))
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(rows::subscriber).collect()
}

async fn remove_subscriber(tx: &mut PgConnection, scope: TenantScope, page: &str, uid: &str) -> Sql<bool> {
    let gone = query("DELETE FROM wk_subscriber WHERE tenant_id = $1 AND page = $2 AND uid = $3")
        .bind(scope.0.0)
        .bind(page)
        .bind(uid)
        .execute(&mut *tx)
        .await?;
    Ok(gone.rows_affected() > 0)
}

async fn forget_page(tx: &mut PgConnection, scope: TenantScope, page: &str) -> Sql<()> {
    for statement in
        ["DELETE FROM wk_subscriber WHERE tenant_id = $1 AND page = $2", "DELETE FROM wk_page_word WHERE tenant_id = $1 AND page = $2"]
    {
        query(statement).bind(scope.0.0).bind(page).execute(&mut *tx).await?;
    }
    Ok(())
}

async fn page_words(tx: &mut PgConnection, scope: TenantScope, page: &str) -> Sql<Vec<PageWord>> {
    let rows = query("SELECT key, body FROM wk_page_word WHERE tenant_id = $1 AND page = $2 ORDER BY id")
        .bind(scope.0.0)
        .bind(page)
        .fetch_all(&mut *tx)
        .await?;
    rows.iter().map(|row| Ok(PageWord { key: row.text(0)?, body: row.text(1)? })).collect()
}

async fn tell_page(tx: &mut PgConnection, scope: TenantScope, page: &str, word: &PageWord, untold: bool, now: Micros) -> Sql<bool> {
    let row = query(
        "INSERT INTO wk_page_word (tenant_id, page, key, body, at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id, page, key) DO NOTHING RETURNING id",
    )
    .bind(scope.0.0)
    .bind(page)
    .bind(&word.key)
    .bind(&word.body)
    .bind(now.0)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(false) };
    if !untold {
        query(
            "INSERT INTO wk_page_parcel (tenant_id, page, subscriber_id, word_id, created_at, due_at)
             SELECT tenant_id, page, id, $3, $4, $4 FROM wk_subscriber
             WHERE tenant_id = $1 AND page = $2 AND confirmed_at IS NOT NULL ORDER BY id",
        )
        .bind(scope.0.0)
        .bind(page)
        .bind(row.int(0)?)
        .bind(now.0)
        .execute(&mut *tx)
        .await?;
    }
    Ok(true)
}

async fn pages_due(tx: &mut PgConnection, now: Micros, limit: i64) -> Sql<Vec<(TenantId, String, SubscriberKind)>> {
    let rows = query(
        "SELECT p.tenant_id, p.page, s.kind FROM wk_page_parcel p JOIN wk_subscriber s ON s.id = p.subscriber_id
         WHERE p.due_at <= $1 GROUP BY p.tenant_id, p.page, s.kind ORDER BY min(p.due_at) LIMIT $2",
    )
    .bind(now.0)
    .bind(limit.clamp(0, PAGE_MAX))
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(|row| Ok((TenantId(row.int(0)?), row.text(1)?, rows::subscriber_kind(&row.text(2)?)?))).collect()
}

async fn take_parcels(
    tx: &mut PgConnection,
    scope: TenantScope,
    page: &str,
    kind: SubscriberKind,
    links: &[[u8; 32]],
    now: Micros,
) -> Sql<Vec<PageParcel>> {
    query("DELETE FROM wk_page_parcel WHERE tenant_id = $1 AND page = $2 AND due_at <= $3 AND created_at <= $4")
        .bind(scope.0.0)
        .bind(page)
        .bind(now.0)
        .bind((now - GIVEN_UP_AFTER).0)
        .execute(&mut *tx)
        .await?;
    let rows = query(
        "SELECT p.id, s.uid, s.kind, s.address, w.key, w.body, p.created_at, p.attempts + 1, s.id
         FROM wk_page_parcel p JOIN wk_subscriber s ON s.id = p.subscriber_id LEFT JOIN wk_page_word w ON w.id = p.word_id
         WHERE p.tenant_id = $1 AND p.page = $2 AND p.due_at <= $3 AND s.kind = $5 ORDER BY p.due_at, p.id LIMIT $4 FOR UPDATE OF p SKIP LOCKED",
    )
    .bind(scope.0.0)
    .bind(page)
    .bind(now.0)
    .bind(links.len() as i64)
    .bind(kind.as_str())
    .fetch_all(&mut *tx)
    .await?;
    let mut taken = Vec::with_capacity(rows.len());
    for (row, hash) in rows.iter().zip(links) {
        let parcel = rows::page_parcel(row)?;
        query("UPDATE wk_page_parcel SET attempts = attempts + 1, due_at = $1 WHERE id = $2")
            .bind((now + IN_HAND).0)
            .bind(parcel.id)
            .execute(&mut *tx)
            .await?;
        let (purpose, lasts) =
            if parcel.word.is_some() { (LinkPurpose::Leave, LEAVE_WITHIN) } else { (LinkPurpose::Confirm, CONFIRM_WITHIN) };
        query("INSERT INTO wk_subscriber_link (hash, subscriber_id, purpose, made_at, good_until) VALUES ($1, $2, $3, $4, $5)")
            .bind(hash.as_slice())
            .bind(row.int(8)?)
            .bind(purpose.as_str())
            .bind(now.0)
            .bind((now + lasts).0)
            .execute(&mut *tx)
            .await?;
        taken.push(parcel);
    }
    Ok(taken)
}

async fn end_parcel(tx: &mut PgConnection, scope: TenantScope, parcel: i64, end: ParcelEnd) -> Sql<()> {
    if let ParcelEnd::Again(due) = end {
        let again = query("UPDATE wk_page_parcel SET due_at = $3 WHERE id = $1 AND tenant_id = $2");
        again.bind(parcel).bind(scope.0.0).bind(due.0).execute(&mut *tx).await?;
        return Ok(());
    }
    let row = query("DELETE FROM wk_page_parcel WHERE id = $1 AND tenant_id = $2 RETURNING subscriber_id")
        .bind(parcel)
        .bind(scope.0.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Ok(()) };
    let subscriber = row.int(0)?;
    match end {
        ParcelEnd::Taken => {
            query("UPDATE wk_subscriber SET refusals = 0 WHERE id = $1 AND refusals > 0").bind(subscriber).execute(&mut *tx).await?;
        }
        ParcelEnd::NoSuchAddress => {
            query("UPDATE wk_subscriber SET refusals = refusals + 1 WHERE id = $1").bind(subscriber).execute(&mut *tx).await?;
            query("DELETE FROM wk_subscriber WHERE id = $1 AND (refusals >= $2 OR confirmed_at IS NULL)")
                .bind(subscriber)
                .bind(REFUSALS_MAX)
                .execute(&mut *tx)
                .await?;
        }
        ParcelEnd::GivenUp | ParcelEnd::Again(_) => {}
    }
    Ok(())
}

async fn keep_page(tx: &mut PgConnection, scope: TenantScope, page: &str, now: Micros) -> Sql<()> {
    query("UPDATE wk_subscriber SET kept_until = $3 WHERE tenant_id = $1 AND page = $2 AND confirmed_at IS NOT NULL")
        .bind(scope.0.0)
        .bind(page)
        .bind((now + KEPT_WITHOUT_PAGE).0)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

async fn expire_subscribers(tx: &mut PgConnection, now: Micros) -> Sql<u64> {
    let mut gone = 0;
    for (statement, before) in [
        ("DELETE FROM wk_subscriber WHERE kept_until <= $1", now),
        ("DELETE FROM wk_subscriber_link WHERE good_until <= $1", now),
        ("DELETE FROM wk_page_parcel WHERE created_at <= $1", now - GIVEN_UP_AFTER),
        ("DELETE FROM wk_page_word WHERE at <= $1", now - WORDS_KEPT),
    ] {
        gone += query(statement).bind(before.0).execute(&mut *tx).await?.rows_affected();
    }
    Ok(gone)
}
