//! What parts of the program note for their next life.

use super::super::rows::{Columns, Sql};
use sqlx::{SqliteConnection, query};

pub(super) async fn mark(tx: &mut SqliteConnection, name: &str) -> Sql<Option<String>> {
    let row = query("SELECT text FROM wk_mark WHERE name = $1").bind(name).fetch_optional(&mut *tx).await?;
    row.map(|row| row.text(0)).transpose()
}

pub(super) async fn set_mark(tx: &mut SqliteConnection, name: &str, text: &str) -> Sql<()> {
    query("INSERT INTO wk_mark (name, text) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET text = excluded.text")
        .bind(name)
        .bind(text)
        .execute(&mut *tx)
        .await?;
    Ok(())
}
