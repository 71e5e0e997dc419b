//! Migrations: numbered, checked by their SHA-256, applied once and in order, never undone.
//!
//! A database that a newer program has migrated is refused: an older program would write rows that the newer one's schema no
//! longer allows, or miss what it must write. The same goes for a migration whose text is not the one that was applied.

use super::error::refused;
use super::rows::Sql;
use sha2::{Digest, Sha256};

/// One step of the schema.
pub(super) struct Migration {
    pub version: i64,
    pub name: &'static str,
    pub sql: &'static str,
}

/// The schema of SQLite.
pub(super) const SQLITE: &[Migration] = &[
    Migration { version: 1, name: "first", sql: include_str!("migrations/sqlite/0001_first.sql") },
    Migration { version: 2, name: "alerting", sql: include_str!("migrations/sqlite/0002_alerting.sql") },
    Migration { version: 3, name: "together", sql: include_str!("migrations/sqlite/0003_together.sql") },
    Migration { version: 4, name: "nodes", sql: include_str!("migrations/sqlite/0004_nodes.sql") },
    Migration { version: 5, name: "words", sql: include_str!("migrations/sqlite/0005_words.sql") },
    Migration { version: 6, name: "users", sql: include_str!("migrations/sqlite/0006_users.sql") },
    Migration { version: 7, name: "documents", sql: include_str!("migrations/sqlite/0007_documents.sql") },
    Migration { version: 8, name: "subscribers", sql: include_str!("migrations/sqlite/0008_subscribers.sql") },
];

/// The schema of PostgreSQL.
pub(super) const POSTGRES: &[Migration] = &[
    Migration { version: 1, name: "first", sql: include_str!("migrations/postgres/0001_first.sql") },
    Migration { version: 2, name: "alerting", sql: include_str!("migrations/postgres/0002_alerting.sql") },
    Migration { version: 3, name: "together", sql: include_str!("migrations/postgres/0003_together.sql") },
    Migration { version: 4, name: "nodes", sql: include_str!("migrations/postgres/0004_nodes.sql") },
    Migration { version: 5, name: "words", sql: include_str!("migrations/postgres/0005_words.sql") },
    Migration { version: 6, name: "users", sql: include_str!("migrations/postgres/0006_users.sql") },
    Migration { version: 7, name: "documents", sql: include_str!("migrations/postgres/0007_documents.sql") },
    Migration { version: 8, name: "subscribers", sql: include_str!("migrations/postgres/0008_subscribers.sql") },
];

/// The table that says which were applied; the same text on both stores.
pub(super) const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS wk_migration (version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)";

impl Migration {
    /// The SHA-256 of its text in hex.
    pub(super) fn checksum(&self) -> String {
        crate::hex(&Sha256::digest(self.sql))
    }
}

/// Which of `ours` must still be applied to a database where these (version, checksum) were, in order of version.
pub(super) fn pending<'a>(ours: &'a [Migration], applied: &[(i64, String)]) -> Sql<&'a [Migration]> {
    for (place, (version, checksum)) in applied.iter().enumerate() {
        match ours.get(place) {
            Some(known) if known.version == *version && known.checksum() == *checksum => {}
            Some(known) if known.version == *version => {
                return Err(refused(format!(
                    "migration {version} ({}) of the database is not the one this program knows: it belongs to another build",
                    known.name
                )));
            }
            Some(_) | None => {
                return Err(refused(format!(
                    "the database has migration {version}, this program knows up to {}: use the newer program that migrated it",
                    ours.last().map_or(0, |known| known.version)
                )));
            }
        }
    }
    Ok(&ours[applied.len()..])
}

/// Refuses a database that is not exactly of the newest schema, for whoever only reads it.
pub(super) fn check_newest(ours: &[Migration], applied: &[(i64, String)]) -> Sql<()> {
    if applied.is_empty() {
        return Err(refused("there is no installation of Watchkeeper in the store that is to be copied"));
    }
    let missing = pending(ours, applied)?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(refused(format!("its schema is {} steps behind this program: start this program on it once, stop it, then copy", missing.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applies_what_is_missing_and_refuses_what_is_foreign() {
        let first = SQLITE[0].checksum();
        assert_eq!(pending(SQLITE, &[]).map(<[_]>::len).ok(), Some(SQLITE.len()));
        assert_eq!(pending(&SQLITE[..1], &[(1, first.clone())]).map(<[_]>::len).ok(), Some(0));
        assert!(pending(SQLITE, &[(1, "another".into())]).is_err());
        assert!(pending(&SQLITE[..1], &[(1, first.clone()), (2, "newer".into())]).is_err());
        assert!(check_newest(&SQLITE[..1], &[(1, first.clone())]).is_ok());
        assert!(check_newest(SQLITE, &[(1, first)]).is_err() && check_newest(SQLITE, &[]).is_err());
    }
}
