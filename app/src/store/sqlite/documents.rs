//! Documents: what was made over the API.

use super::super::error::outdated;
use super::super::rows::{self, Sql};
use super::super::{Beside, DocumentWrite, Documents};
use super::marks::{mark, set_mark};
use sqlx::{SqliteConnection, query};

/// Where the version of all documents is noted.
const VERSION: &str = "documents";

pub(super) async fn documents(tx: &mut SqliteConnection) -> Sql<Documents> {
    let version = version(tx).await?;
    let rows = query(
        "SELECT d.uid, d.tenant_id, t.slug, d.kind, d.name, d.body, d.version, d.made_by, d.made_at, d.changed_by, d.changed_at
         FROM wk_document d JOIN wk_tenant t ON t.id = d.tenant_id ORDER BY d.tenant_id, d.kind, d.name",
    )
    .fetch_all(&mut *tx)
    .await?;
    Ok(Documents { version, rows: rows.iter().map(rows::document).collect::<Sql<_>>()? })
}

pub(super) async fn version(tx: &mut SqliteConnection) -> Sql<i64> {
    Ok(mark(tx, VERSION).await?.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// Makes sure that the documents are still those that were seen, and changes them. Their version from now on.
pub(super) async fn change(tx: &mut SqliteConnection, beside: Beside<'_>) -> Sql<i64> {
    let version = version(tx).await?;
    if version != beside.seen {
        return Err(outdated());
    }
    if beside.writes.is_empty() {
        return Ok(version);
    }
    let version = version + 1;
    set_mark(tx, VERSION, &version.to_string()).await?;
    for write in beside.writes {
        match write {
            DocumentWrite::Put { tenant, uid, kind, name, body, by, at } => {
                query(
                    "INSERT INTO wk_document (uid, tenant_id, kind, name, body, version, made_by, made_at, changed_by, changed_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, $8)
                     ON CONFLICT (uid) DO UPDATE SET name = excluded.name, body = excluded.body, version = excluded.version,
                         changed_by = excluded.changed_by, changed_at = excluded.changed_at
                     WHERE wk_document.tenant_id = excluded.tenant_id AND wk_document.kind = excluded.kind",
                )
                .bind(uid)
                .bind(tenant.0)
                .bind(kind)
                .bind(name)
                .bind(body)
                .bind(version)
                .bind(by)
                .bind(at.0)
                .execute(&mut *tx)
                .await?;
            }
            DocumentWrite::Reseal { tenant, uid, body } => {
                query("UPDATE wk_document SET body = $3 WHERE uid = $1 AND tenant_id = $2")
                    .bind(uid)
                    .bind(tenant.0)
                    .bind(body)
                    .execute(&mut *tx)
                    .await?;
            }
            DocumentWrite::Remove { tenant, uid } => {
                query("DELETE FROM wk_document WHERE uid = $1 AND tenant_id = $2").bind(uid).bind(tenant.0).execute(&mut *tx).await?;
            }
        }
    }
    Ok(version)
}
