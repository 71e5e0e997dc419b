//! Heartbeats of ours on their way into `api_heartbeats`.
//!
//! A monitor of the tables is found in our own by its public id, which holds its number (`crate::uptime_o::uid_of`). Times there are
//! UTC without a zone; they are computed from microseconds, so that no session's zone has a say.

use super::{Added, Columns, Fence, Sql, query};
use crate::store::rows;
use crate::uptime_o::UID_PREFIX;
use sqlx::PgConnection;
use watchkeeper_core::{DatacenterId, Micros, Outcome};

/// Rows of `api_heartbeats` that are read at once.
const PAGE: i64 = 5_000;

/// A heartbeat of ours that is not in `api_heartbeats` yet.
#[derive(Clone, Debug)]
pub struct Unmirrored {
    /// The monitor's number in the tables.
    pub monitor: i64,
    /// The monitor's name in the tables.
    pub name: String,
    /// When the attempt began.
    pub at: Micros,
    /// What was found.
    pub outcome: Outcome,
    /// Phases in µs.
    pub dns_us: i64,
    /// TCP connect.
    pub connect_us: i64,
    /// TLS handshake.
    pub tls_us: i64,
    /// Request to first byte.
    pub first_byte_us: i64,
    /// First to last byte.
    pub transfer_us: i64,
    /// Everything.
    pub total_us: i64,
    /// HTTP status; -1 if there is none.
    pub code: i64,
    /// Body bytes; -1 if there is no body.
    pub size: i64,
    /// The attempt as JSON.
    pub detail: Option<String>,
    /// Thresholds of its schedule, in milliseconds.
    pub warning: Option<i64>,
    /// In milliseconds.
    pub critical: Option<i64>,
    /// Whether the body belongs into the row.
    pub include_response_body: bool,
}

/// Heartbeats of ours that are to be added, and by whom.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The first agent that the datacenter has now, if it has any.
    pub agent: Option<i64>,
    /// The heartbeats, oldest first.
    pub beats: Vec<Unmirrored>,
}

/// A row of `api_heartbeats` without its number. Every value is one that its column takes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the columns")]
pub struct ApiHeartbeat {
    pub monitor_id: i64,
    pub agent_id: i64,
    pub executed_at: Micros,
    pub success: bool,
    pub response_time_ms: i32,
    pub response_size_bytes: i32,
    pub response_status_code: i32,
    pub response_content_type: Option<String>,
    pub response_server: Option<String>,
    pub response_cache_status: Option<String>,
    pub dns_lookup_ms: i32,
    pub tcp_connect_ms: i32,
    pub tls_handshake_ms: i32,
    pub time_to_first_byte_ms: i32,
    pub warning_threshold_ms: i32,
    pub critical_threshold_ms: i32,
    pub error_type: Option<String>,
    pub error_message: Option<String>,
    pub raw_request_headers: Option<String>,
    pub raw_response_headers: Option<String>,
    pub raw_response_body: Option<String>,
}

/// Two columns of keys.
fn columns(keys: &[(i64, Micros)]) -> (Vec<i64>, Vec<i64>) {
    keys.iter().map(|(monitor, at)| (*monitor, at.0)).unzip()
}

fn key(row: &impl Columns) -> Sql<(i64, Micros)> {
    Ok((row.int(0)?, Micros(row.int(1)?)))
}

pub(super) async fn noted(tx: &mut PgConnection, mark: &str) -> Sql<Option<Micros>> {
    let row = query("SELECT text FROM wk_mark WHERE name = $1").bind(mark).fetch_optional(&mut *tx).await?;
    let text = row.map(|row| row.text(0)).transpose()?;
    // A mark that is no number is none: what is there already is then looked for from now on only.
    Ok(text.and_then(|text| text.parse().ok()).map(Micros))
}

/// Reads the table from its newest numbers backwards: there is no index on its times, and years of rows may be older.
pub(super) async fn added(tx: &mut PgConnection, datacenter: i64, since: Micros) -> Sql<Vec<(i64, Micros)>> {
    let (mut found, mut before) = (Vec::new(), i64::MAX);
    loop {
        let rows = query(
            "SELECT h.id, coalesce(h.monitor_id, 0)::int8, (extract(epoch FROM h.executed_at) * 1000000)::int8,
                 coalesce(h.agent_id IN (SELECT id FROM agents WHERE datacenter_id = $1), FALSE)::int::int8
             FROM (SELECT id, monitor_id, agent_id, executed_at FROM api_heartbeats WHERE id < $2 ORDER BY id DESC LIMIT $3) h
             WHERE isfinite(h.executed_at) ORDER BY h.id DESC",
        )
        .bind(datacenter)
        .bind(before)
        .bind(PAGE)
        .fetch_all(&mut *tx)
        .await?;
        let mut young = false;
        for row in &rows {
            before = row.int(0)?;
            let at = Micros(row.int(2)?);
            if at > since {
                young = true;
                if row.int(3)? != 0 {
                    found.push((row.int(1)?, at));
                }
            }
        }
        // Numbers are drawn when rows are added, so behind a whole page of older ones there is nothing younger.
        if !young {
            return Ok(found);
        }
    }
}

pub(super) async fn beats(tx: &mut PgConnection, datacenter: DatacenterId, since: Micros, limit: i64) -> Sql<Vec<(i64, Micros)>> {
    let rows = query(
        "SELECT m.id::int8, b.at FROM api_monitors m
         JOIN wk_monitor w ON w.uid = $1 || lpad(to_hex(m.id), 12, '0')
         CROSS JOIN LATERAL (SELECT y.at FROM wk_beat y WHERE y.monitor_id = w.id AND y.datacenter_id = $2
                             AND y.at > $3 ORDER BY y.at LIMIT $4) b
         ORDER BY b.at LIMIT $4",
    )
    .bind(UID_PREFIX)
    .bind(datacenter.0)
    .bind(since.0)
    .bind(limit)
    .fetch_all(&mut *tx)
    .await?;
    rows.iter().map(key).collect()
}

/// `place` is the datacenter's number in the tables.
pub(super) async fn waiting(tx: &mut PgConnection, place: i64, datacenter: DatacenterId, keys: &[(i64, Micros)]) -> Sql<Waiting> {
    let agent = query("SELECT min(id)::int8 FROM agents WHERE datacenter_id = $1").bind(place).fetch_one(&mut *tx).await?;
    let agent = agent.maybe_int(0)?;
    let (monitors, times) = columns(keys);
    let rows = query(
        "SELECT m.id::int8, m.name, b.at, b.outcome::int8, b.reason::int8, b.dns_us, b.connect_us, b.tls_us, b.first_byte_us,
             b.transfer_us, b.total_us, b.code::int8, b.size, d.json, s.thresholds_warning::int8, s.thresholds_critical::int8,
             coalesce(s.include_response_body, FALSE)::int::int8
         FROM unnest($3::int8[], $4::int8[]) AS x (monitor_id, at)
         JOIN api_monitors m ON m.id = x.monitor_id
         LEFT JOIN schedules s ON s.id = m.schedule_id
         JOIN wk_monitor w ON w.uid = $1 || lpad(to_hex(m.id), 12, '0')
         CROSS JOIN LATERAL (SELECT * FROM wk_beat y WHERE y.monitor_id = w.id AND y.datacenter_id = $2 AND y.at = x.at
                             ORDER BY y.agent_id LIMIT 1) b
         LEFT JOIN wk_beat_detail d ON d.monitor_id = b.monitor_id AND d.datacenter_id = b.datacenter_id AND d.at = b.at
         ORDER BY b.at, m.id",
    )
    .bind(UID_PREFIX)
    .bind(datacenter.0)
    .bind(monitors)
    .bind(times)
    .fetch_all(&mut *tx)
    .await?;
    let beats = rows
        .iter()
        .map(|row| {
            Ok(Unmirrored {
                monitor: row.int(0)?,
                name: row.text(1)?,
                at: Micros(row.int(2)?),
                outcome: rows::outcome(row.int(3)?, row.int(4)?)?,
                dns_us: row.int(5)?,
                connect_us: row.int(6)?,
                tls_us: row.int(7)?,
                first_byte_us: row.int(8)?,
                transfer_us: row.int(9)?,
                total_us: row.int(10)?,
                code: row.int(11)?,
                size: row.int(12)?,
                detail: row.maybe_text(13)?,
                warning: row.maybe_int(14)?,
                critical: row.maybe_int(15)?,
                include_response_body: row.int(16)? != 0,
            })
        })
        .collect::<Sql<_>>()?;
    Ok(Waiting { agent, beats })
}

pub(super) async fn add(tx: &mut PgConnection, rows: &[ApiHeartbeat], fence: &Fence, mark: &str, until: Micros) -> Sql<Added> {
    // Whoever wants to take the lease waits until this transaction has ended, and then sees its rows.
    let ours = query("SELECT 1 FROM wk_lease WHERE scope = $1 AND epoch = $2 AND holder <> '' FOR SHARE")
        .bind(fence.scope.to_string())
        .bind(fence.epoch)
        .fetch_optional(&mut *tx)
        .await?;
    if ours.is_none() {
        return Ok(Added::Stale);
    }
    insert(tx, rows).await?;
    query("INSERT INTO wk_mark (name, text) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET text = excluded.text")
        .bind(mark)
        .bind(until.0.to_string())
        .execute(&mut *tx)
        .await?;
    Ok(Added::All)
}

async fn insert(tx: &mut PgConnection, rows: &[ApiHeartbeat]) -> Sql<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let number = |of: fn(&ApiHeartbeat) -> i32| rows.iter().map(of).collect::<Vec<i32>>();
    let text = |of: fn(&ApiHeartbeat) -> &Option<String>| rows.iter().map(|row| of(row).clone()).collect::<Vec<Option<String>>>();
    query(
        "INSERT INTO api_heartbeats (monitor_id, agent_id, executed_at, success, response_time_ms, response_size_bytes,
             response_status_code, response_content_type, response_server, response_cache_status, dns_lookup_ms, tcp_connect_ms,
             tls_handshake_ms, time_to_first_byte_ms, warning_threshold_ms, critical_threshold_ms, error_type, error_message,
             raw_request_headers, raw_response_headers, raw_response_body)
         SELECT monitor_id, agent_id, timestamp 'epoch' + executed_at * interval '1 microsecond', success, response_time_ms,
             response_size_bytes, response_status_code, response_content_type, response_server, response_cache_status, dns_lookup_ms,
             tcp_connect_ms, tls_handshake_ms, time_to_first_byte_ms, warning_threshold_ms, critical_threshold_ms, error_type,
             error_message, raw_request_headers::jsonb, raw_response_headers::jsonb, raw_response_body::jsonb
         FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::bool[], $5::int4[], $6::int4[], $7::int4[], $8::text[], $9::text[],
             $10::text[], $11::int4[], $12::int4[], $13::int4[], $14::int4[], $15::int4[], $16::int4[], $17::text[], $18::text[],
             $19::text[], $20::text[], $21::text[])
             AS x (monitor_id, agent_id, executed_at, success, response_time_ms, response_size_bytes, response_status_code,
                 response_content_type, response_server, response_cache_status, dns_lookup_ms, tcp_connect_ms, tls_handshake_ms,
                 time_to_first_byte_ms, warning_threshold_ms, critical_threshold_ms, error_type, error_message, raw_request_headers,
                 raw_response_headers, raw_response_body)
         ORDER BY executed_at, monitor_id",
    )
    .bind(rows.iter().map(|row| row.monitor_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.agent_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.executed_at.0).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.success).collect::<Vec<_>>())
    .bind(number(|row| row.response_time_ms))
    .bind(number(|row| row.response_size_bytes))
    .bind(number(|row| row.response_status_code))
    .bind(text(|row| &row.response_content_type))
    .bind(text(|row| &row.response_server))
    .bind(text(|row| &row.response_cache_status))
    .bind(number(|row| row.dns_lookup_ms))
    .bind(number(|row| row.tcp_connect_ms))
    .bind(number(|row| row.tls_handshake_ms))
    .bind(number(|row| row.time_to_first_byte_ms))
    .bind(number(|row| row.warning_threshold_ms))
    .bind(number(|row| row.critical_threshold_ms))
    .bind(text(|row| &row.error_type))
    .bind(text(|row| &row.error_message))
    .bind(text(|row| &row.raw_request_headers))
    .bind(text(|row| &row.raw_response_headers))
    .bind(text(|row| &row.raw_response_body))
    .execute(&mut *tx)
    .await?;
    Ok(())
}
