//! Who decided what, and who held what meanwhile: written down by triggers in the database of a proof.
//!
//! Every node connects as a role of its own, so a trigger knows who writes. A decision is written down with the holder and the epoch that
//! its scope had for the transaction that made it; the times are those of commits, as the server keeps them. So it is the database that is
//! asked whether anybody decided without holding, not the program.

use anyhow::{Context, Result};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use std::collections::BTreeMap;
use watchkeeper_core::Micros;

/// What the server must be started with: it then knows when each transaction was committed.
pub const SETTING: &str = "track_commit_timestamp=on";

/// Sights, verdicts, beginnings and ends of incidents, and attempts to deliver are decisions. Entries on a timeline are not: anybody may
/// add one. Nor is an incident of the past that a node which was cut off brings: its timeline
/// says so in the second entry, which is looked for when the transaction ends.
const TRIGGERS: &str = "
    CREATE TABLE proof_decision (nth bigserial PRIMARY KEY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
        node text NOT NULL DEFAULT session_user, what text NOT NULL, scope text NOT NULL, epoch int8, holder text);
    CREATE TABLE proof_lease (nth bigserial PRIMARY KEY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
        scope text NOT NULL, epoch int8 NOT NULL, holder text NOT NULL);

    CREATE FUNCTION proof_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO proof_lease (scope, epoch, holder) VALUES (new.scope, new.epoch, new.holder);
        RETURN NULL;
    END $$;
    CREATE TRIGGER proof_taken AFTER INSERT ON wk_lease FOR EACH ROW EXECUTE FUNCTION proof_lease();
    CREATE TRIGGER proof_changed AFTER UPDATE ON wk_lease FOR EACH ROW
        WHEN (old.holder <> new.holder OR old.epoch <> new.epoch) EXECUTE FUNCTION proof_lease();

    CREATE FUNCTION proof_decision() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO proof_decision (what, scope, epoch, holder)
            SELECT tg_table_name, x.scope, l.epoch, l.holder
            FROM (SELECT tg_argv[0] || (new.monitor_id % 16)::text) AS x (scope) LEFT JOIN wk_lease l ON l.scope = x.scope;
        RETURN NULL;
    END $$;
    CREATE TRIGGER proof_sight AFTER INSERT OR UPDATE ON wk_sight FOR EACH ROW EXECUTE FUNCTION proof_decision('site/local/');
    CREATE TRIGGER proof_verdict AFTER INSERT OR UPDATE ON wk_verdict FOR EACH ROW EXECUTE FUNCTION proof_decision('verdict/');
    CREATE FUNCTION proof_opened() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO proof_decision (what, scope, epoch, holder)
            SELECT tg_table_name, x.scope, l.epoch, l.holder
            FROM (SELECT 'verdict/' || (new.monitor_id % 16)::text) AS x (scope) LEFT JOIN wk_lease l ON l.scope = x.scope
            WHERE new.resolved_at IS NULL
               OR NOT EXISTS (SELECT 1 FROM wk_incident_event e WHERE e.incident_id = new.id AND e.nth = 1 AND e.kind = 'cut_off');
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER proof_opened AFTER INSERT ON wk_incident DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION proof_opened();
    CREATE TRIGGER proof_resolved AFTER UPDATE ON wk_incident FOR EACH ROW
        WHEN (old.status <> new.status) EXECUTE FUNCTION proof_decision('verdict/');

    CREATE FUNCTION proof_attempt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO proof_decision (what, scope, epoch, holder)
            SELECT tg_table_name, new.begun_scope, new.begun_epoch, l.holder
            FROM (SELECT 1) AS x LEFT JOIN wk_lease l ON l.scope = new.begun_scope AND l.epoch = new.begun_epoch;
        RETURN NULL;
    END $$;
    CREATE TRIGGER proof_attempt AFTER UPDATE ON wk_notice FOR EACH ROW
        WHEN (new.state = 'sending' AND old.state <> 'sending') EXECUTE FUNCTION proof_attempt();
";

/// A lease that changed hands.
#[derive(Clone, Debug)]
pub struct Taken {
    /// When that was committed.
    pub at: Micros,
    /// Under which epoch.
    pub epoch: i64,
    /// Whose it is, as `name#life`; nobody's if empty.
    pub holder: String,
}

/// What the triggers wrote down.
pub struct Audit {
    /// Every change of hands, by scope, in their order.
    pub leases: BTreeMap<String, Vec<Taken>>,
    /// How many decisions there were.
    pub decisions: u64,
    /// Those of them that somebody made who did not hold the scope.
    pub unfounded: Vec<String>,
}

/// Makes the roles and the triggers, in a database that has its tables.
pub async fn begin(url: &str, roles: &[&str]) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    for role in roles {
        connection.execute(AssertSqlSafe(format!("CREATE ROLE {role} SUPERUSER LOGIN"))).await?;
    }
    connection.execute(TRIGGERS).await.context("making the triggers")?;
    Ok(connection.close().await?)
}

/// Reads what was written down, and judges it.
pub async fn read(url: &str) -> Result<Audit> {
    let mut connection = PgConnection::connect(url).await?;
    let at = "(extract(epoch FROM pg_xact_commit_timestamp(xid::xid)) * 1000000)::int8";
    let rows = connection.fetch_all(AssertSqlSafe(format!("SELECT scope, epoch, holder, {at} FROM proof_lease ORDER BY nth"))).await?;
    let mut leases: BTreeMap<String, Vec<Taken>> = BTreeMap::new();
    for row in rows {
        let taken = Taken { at: Micros(row.try_get(3)?), epoch: row.try_get(1)?, holder: row.try_get(2)? };
        leases.entry(row.try_get(0)?).or_default().push(taken);
    }
    let rows = connection
        .fetch_all(AssertSqlSafe(format!("SELECT node, what, scope, epoch, coalesce(holder, ''), {at} FROM proof_decision ORDER BY nth")))
        .await?;
    let mut audit = Audit { leases, decisions: rows.len() as u64, unfounded: Vec::new() };
    for row in rows {
        let (node, what, scope): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (epoch, holder, at): (Option<i64>, String, Micros) = (row.try_get(3)?, row.try_get(4)?, Micros(row.try_get(5)?));
        if !founded(audit.leases.get(&scope).map_or(&[], Vec::as_slice), &node, epoch, &holder, at) {
            audit.unfounded.push(format!("{node} wrote {what} at {} while {scope} was {holder:?}'s under epoch {epoch:?}", at.0));
        }
    }
    connection.close().await?;
    Ok(audit)
}

/// When each node looked at a monitor, by the monitor's number and in order: (node, when).
pub async fn looks(url: &str) -> Result<BTreeMap<i64, Vec<(String, Micros)>>> {
    let mut connection = PgConnection::connect(url).await?;
    let rows = connection
        .fetch_all("SELECT b.monitor_id, a.name, b.at FROM wk_beat b JOIN wk_agent a ON a.id = b.agent_id ORDER BY b.monitor_id, b.at")
        .await?;
    let mut looks: BTreeMap<i64, Vec<(String, Micros)>> = BTreeMap::new();
    for row in rows {
        looks.entry(row.try_get(0)?).or_default().push((row.try_get(1)?, Micros(row.try_get(2)?)));
    }
    connection.close().await?;
    Ok(looks)
}

/// Whether a scope was the node's, under that epoch, from before the decision was committed until after.
fn founded(taken: &[Taken], node: &str, epoch: Option<i64>, holder: &str, at: Micros) -> bool {
    let Some(nth) = taken.iter().position(|taken| Some(taken.epoch) == epoch && taken.holder == holder) else { return false };
    let ours = holder.split('#').next() == Some(node);
    ours && taken[nth].at <= at && taken.get(nth + 1).is_none_or(|next| at <= next.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_founded_while_its_scope_is_held_by_its_maker() {
        let taken = |at, epoch, holder: &str| Taken { at: Micros(at), epoch, holder: holder.to_owned() };
        let all = [taken(10, 1, "a#1"), taken(20, 1, ""), taken(30, 2, "b#1")];
        assert!(founded(&all, "a", Some(1), "a#1", Micros(15)));
        assert!(founded(&all, "b", Some(2), "b#1", Micros(99)));
        for (node, epoch, holder, at) in [
            ("b", Some(1), "a#1", 15),
            ("a", Some(1), "a#1", 25),
            ("a", Some(1), "a#1", 5),
            ("a", Some(2), "a#1", 15),
            ("a", Some(1), "", 20),
            ("a", None, "", 15),
        ] {
            assert!(!founded(&all, node, epoch, holder, Micros(at)), "{node} {epoch:?} {holder:?} {at}");
        }
    }
}
