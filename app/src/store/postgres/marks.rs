//! What parts of the program note for their next life.

use super::super::rows::{Columns, Sql};
use super::{clean, query};
use sqlx::PgConnection;

pub(super) async fn mark(tx: &mut PgConnection, name: &str) -> Sql<Option<String>> {
    let row = query("SELECT text FROM wk_mark WHERE name = $1").bind(clean(name)).fetch_optional(&mut *tx).await?;
    row.map(|row| row.text(0)).transpose()
}

pub(super) async fn set_mark(tx: &mut PgConnection, name: &str, text: &str) -> Sql<()> {
    query("INSERT INTO wk_mark (name, text) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET text = excluded.text")
        .bind(clean(name))
        .bind(clean(text))
        .execute(&mut *tx)
        .await?;
    Ok(())
}
