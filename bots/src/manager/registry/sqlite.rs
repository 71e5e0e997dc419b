//! The bots in SQLite, for the runtimes that keep nothing themselves.

use super::{BOTS_MAX, Registry, RegistryError};
use crate::manager::bot::{Bot, Bounds, Phase};
use crate::names::BotId;
use crate::secret::BotToken;
use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row as _, SqliteConnection};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Another process that writes is waited for so long.
const BUSY: Duration = Duration::from_secs(5);

/// Every version of the schema, in order. One that was ever in use is never changed.
const SCHEMA: [&str; 1] = ["create table wk_bots (
        id text primary key, telegram_user text not null unique, name text not null, token text not null, image text not null,
        min_replicas integer not null, max_replicas integer not null, env text not null, created_us integer not null,
        phase text not null, problem text
    );
    create table wk_bots_installation (id text not null);"];

/// The bots in a file.
pub struct Sqlite {
    pool: SqlitePool,
    installation: String,
}

impl Sqlite {
    /// Opens the file, or makes it.
    pub async fn open(path: &Path) -> Result<Self, RegistryError> {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).busy_timeout(BUSY);
        let options = options.synchronous(SqliteSynchronous::Full);
        // There are tokens in it.
        let made = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        made.and_then(|file| file.set_permissions(only_ours)).map_err(sqlx::Error::Io)?;
        // One connection: writes are rare, and then nothing has to be retried.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        let mut connection = pool.acquire().await?;
        upgrade(&mut connection).await?;
        let found: Option<String> = sqlx::query_scalar("select id from wk_bots_installation").fetch_optional(&mut *connection).await?;
        let installation = if let Some(id) = found {
            id
        } else {
            let id = BotId::new().map_err(|error| RegistryError::Broken(error.to_string()))?.to_string();
            sqlx::query("insert into wk_bots_installation (id) values ($1)").bind(&id).execute(&mut *connection).await?;
            id
        };
        drop(connection);
        Ok(Self { pool, installation })
    }

    /// What this installation is called: its workers are known by it.
    pub fn installation(&self) -> &str {
        &self.installation
    }
}

#[async_trait::async_trait]
impl Registry for Sqlite {
    async fn all(&self) -> Result<Vec<Bot>, RegistryError> {
        let rows = sqlx::query("select * from wk_bots order by created_us, id").fetch_all(&self.pool).await?;
        rows.iter().map(bot).collect()
    }

    async fn get(&self, id: &BotId) -> Result<Option<Bot>, RegistryError> {
        let row = sqlx::query("select * from wk_bots where id = $1").bind(id.as_str()).fetch_optional(&self.pool).await?;
        row.as_ref().map(bot).transpose()
    }

    async fn add(&self, bot: &Bot) -> Result<(), RegistryError> {
        let added = sqlx::query(
            "insert into wk_bots (id, telegram_user, name, token, image, min_replicas, max_replicas, env, created_us, phase, problem)
             select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 where (select count(*) from wk_bots) < $12",
        )
        .bind(bot.id.as_str())
        .bind(bot.token.user())
        .bind(&bot.name)
        .bind(bot.token.expose())
        .bind(&bot.image)
        .bind(bot.bounds.min)
        .bind(bot.bounds.max)
        .bind(serde_json::json!(bot.env).to_string())
        .bind(bot.created.as_microsecond())
        .bind(bot.phase.as_str())
        .bind(&bot.problem)
        .bind(BOTS_MAX as i64)
        .execute(&self.pool)
        .await;
        match added {
            Ok(done) if done.rows_affected() == 1 => Ok(()),
            Ok(_) => Err(RegistryError::Full),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(RegistryError::Taken),
            Err(error) => Err(error.into()),
        }
    }

    async fn set_phase(&self, id: &BotId, phase: Phase, problem: Option<&str>) -> Result<(), RegistryError> {
        sqlx::query("update wk_bots set phase = $1, problem = $2 where id = $3 and (phase <> 'deleting' or $1 = 'deleting')")
            .bind(phase.as_str())
            .bind(problem)
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn set_bounds(&self, id: &BotId, bounds: Bounds) -> Result<(), RegistryError> {
        sqlx::query("update wk_bots set min_replicas = $1, max_replicas = $2 where id = $3")
            .bind(bounds.min)
            .bind(bounds.max)
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn remove(&self, id: &BotId) -> Result<(), RegistryError> {
        sqlx::query("delete from wk_bots where id = $1").bind(id.as_str()).execute(&self.pool).await?;
        Ok(())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

async fn upgrade(connection: &mut SqliteConnection) -> Result<(), RegistryError> {
    let version: i64 = sqlx::query_scalar("pragma user_version").fetch_one(&mut *connection).await?;
    let known = usize::try_from(version).ok().and_then(|version| SCHEMA.get(version..));
    let Some(missing) = known else {
        return Err(RegistryError::Broken(format!("it was written by a later version ({version})")));
    };
    for (nth, step) in missing.iter().enumerate() {
        // The number and what it stands for, or neither.
        let version = version as usize + nth + 1;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("begin immediate; {step} pragma user_version = {version}; commit;")))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn bot(row: &SqliteRow) -> Result<Bot, RegistryError> {
    let id: String = row.try_get("id")?;
    let broken = |what: &str| RegistryError::Broken(format!("{id}: {what}"));
    let phase: String = row.try_get("phase")?;
    let env: String = row.try_get("env")?;
    let env: BTreeMap<String, String> = serde_json::from_str(&env).map_err(|_| broken("env"))?;
    Ok(Bot {
        name: row.try_get("name")?,
        token: BotToken::new(row.try_get("token")?).map_err(|_| broken("token"))?,
        image: row.try_get("image")?,
        bounds: Bounds::new(row.try_get("min_replicas")?, row.try_get("max_replicas")?).map_err(|why| broken(&why))?,
        env,
        created: Timestamp::from_microsecond(row.try_get("created_us")?).map_err(|_| broken("created_us"))?,
        phase: Phase::read(&phase).ok_or_else(|| broken("phase"))?,
        problem: row.try_get("problem")?,
        id: BotId::try_from(id.clone()).map_err(|_| broken("id"))?,
    })
}
