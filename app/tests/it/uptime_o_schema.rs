//! `watchkeeper seed-schema uptime-o` makes exactly the tables that UptimeOAgent's users have.

use crate::support::uptime_o::Installation;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use std::collections::BTreeMap;

/// Each table with its columns as information_schema shows them: name, type, whether it may be NULL.
const CONTRACT: [(&str, &str); 7] = [
    ("agents", "id integer no, name character varying(50) no, datacenter_id integer yes"),
    (
        "api_heartbeats",
        "id bigint no, monitor_id integer yes, agent_id integer yes, executed_at timestamp without time zone no, success boolean yes, \
         response_time_ms integer yes, response_size_bytes integer yes, response_status_code integer yes, \
         response_content_type character varying(50) yes, response_server character varying(50) yes, \
         response_cache_status character varying(50) yes, dns_lookup_ms integer yes, tcp_connect_ms integer yes, \
         tls_handshake_ms integer yes, time_to_first_byte_ms integer yes, warning_threshold_ms integer yes, \
         critical_threshold_ms integer yes, error_type character varying(50) yes, error_message text yes, \
         raw_request_headers jsonb yes, raw_response_headers jsonb yes, raw_response_body jsonb yes",
    ),
    (
        "api_monitors",
        "id integer no, name character varying(100) no, method character varying(10) no, type character varying(10) no, url text no, \
         schedule_id integer yes, headers jsonb yes, body jsonb yes",
    ),
    ("datacenter_monitors", "datacenter_id integer no, monitor_id integer no"),
    ("datacenters", "id integer no, code character varying(10) no, name character varying(50) no, region_id integer yes"),
    (
        "regions",
        "id integer no, name character varying(50) no, region_code character varying(20) yes, group_name character varying(20) yes",
    ),
    (
        "schedules",
        "id integer no, name character varying(50) no, interval integer no, include_response_body boolean yes, \
         thresholds_warning integer yes, thresholds_critical integer yes",
    ),
];

/// Defaults, primary and foreign keys.
const RULES: [&str; 20] = [
    "agents: FOREIGN KEY (datacenter_id) REFERENCES datacenters(id)",
    "agents: PRIMARY KEY (id)",
    "agents: id DEFAULT nextval('agents_id_seq'::regclass)",
    "api_heartbeats: FOREIGN KEY (agent_id) REFERENCES agents(id)",
    "api_heartbeats: FOREIGN KEY (monitor_id) REFERENCES api_monitors(id)",
    "api_heartbeats: PRIMARY KEY (id)",
    "api_heartbeats: id DEFAULT nextval('api_heartbeats_id_seq'::regclass)",
    "api_monitors: FOREIGN KEY (schedule_id) REFERENCES schedules(id)",
    "api_monitors: PRIMARY KEY (id)",
    "api_monitors: id DEFAULT nextval('api_monitors_id_seq'::regclass)",
    "datacenter_monitors: FOREIGN KEY (datacenter_id) REFERENCES datacenters(id) ON DELETE CASCADE",
    "datacenter_monitors: FOREIGN KEY (monitor_id) REFERENCES api_monitors(id) ON DELETE CASCADE",
    "datacenter_monitors: PRIMARY KEY (datacenter_id, monitor_id)",
    "datacenters: FOREIGN KEY (region_id) REFERENCES regions(id)",
    "datacenters: PRIMARY KEY (id)",
    "datacenters: id DEFAULT nextval('datacenters_id_seq'::regclass)",
    "regions: PRIMARY KEY (id)",
    "regions: id DEFAULT nextval('regions_id_seq'::regclass)",
    "schedules: PRIMARY KEY (id)",
    "schedules: id DEFAULT nextval('schedules_id_seq'::regclass)",
];

async fn texts(url: &str, sql: &'static str) -> Vec<Vec<String>> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows = connection.fetch_all(sql).await.unwrap();
    connection.close().await.unwrap();
    rows.iter().map(|row| (0..row.len()).map(|at| row.get(at)).collect()).collect()
}

async fn is_the_contract(url: &str) {
    let columns = texts(
        url,
        "SELECT table_name::text, column_name::text || ' ' || data_type ||
             coalesce('(' || character_maximum_length || ')', '') || ' ' || lower(is_nullable)
         FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
    )
    .await;
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in columns {
        tables.entry(row[0].clone()).or_default().push(row[1].clone());
    }
    let found: Vec<(String, String)> = tables.into_iter().map(|(name, columns)| (name, columns.join(", "))).collect();
    let want: Vec<(String, String)> = CONTRACT.iter().map(|(name, columns)| ((*name).to_owned(), (*columns).to_owned())).collect();
    assert_eq!(found, want);
    let mut rules: Vec<String> = texts(
        url,
        "SELECT conrelid::regclass::text || ': ' || pg_get_constraintdef(oid) FROM pg_constraint
         WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'f')
         UNION ALL
         SELECT table_name || ': ' || column_name || ' DEFAULT ' || column_default FROM information_schema.columns
         WHERE table_schema = 'public' AND column_name = 'id'",
    )
    .await
    .into_iter()
    .flatten()
    .collect();
    rules.sort();
    assert_eq!(rules, RULES);
    let default =
        texts(url, "SELECT column_default::text FROM information_schema.columns WHERE column_name = 'include_response_body'").await;
    assert_eq!(default, [["false"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_are_made_once_and_exactly() {
    let Some(seed) = Installation::empty().await else { return };
    is_the_contract(&seed.database.url).await;
    let again = seed.seed_schema(&[]);
    assert_eq!((again.status.code(), String::from_utf8_lossy(&again.stdout).as_ref()), (Some(0), "every table is there already\n"));
    seed.execute("DROP TABLE api_heartbeats").await;
    let one = seed.seed_schema(&[]);
    assert_eq!((one.status.code(), String::from_utf8_lossy(&one.stdout).as_ref()), (Some(0), "made api_heartbeats\n"));
    is_the_contract(&seed.database.url).await;
    seed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_makes_the_same() {
    let (Some(seed), Some(printed)) = (Installation::empty().await, Installation::as_printed().await) else { return };
    is_the_contract(&printed.database.url).await;
    assert_eq!(printed.number("SELECT count(*) FROM schedules").await, 3);
    assert!(seed.seed_schema(&["--print", "--data"]).status.success());
    assert_eq!(seed.number("SELECT count(*) FROM schedules").await, 0, "printing changes nothing");
    seed.database.drop_it().await;
    printed.database.drop_it().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_rows_are_for_empty_tables() {
    let Some(seed) = Installation::empty().await else { return };
    let made = seed.seed_schema(&["--data"]);
    assert!(made.status.success(), "{made:?}");
    let counts = seed
        .rows(
            "SELECT (SELECT count(*) FROM datacenters) AS datacenters, (SELECT count(*) FROM agents) AS agents,
                 (SELECT count(*) FROM schedules) AS schedules, (SELECT count(*) FROM api_monitors) AS monitors,
                 (SELECT count(*) FROM datacenter_monitors) AS assigned, (SELECT string_agg(code, ' ' ORDER BY id) FROM datacenters) AS codes,
                 (SELECT string_agg(format('%s %s/%s', interval, thresholds_warning, thresholds_critical), ', ' ORDER BY id) FROM schedules)
                     AS paces, (SELECT name FROM agents WHERE datacenter_id = 1) AS first",
        )
        .await;
    let want = serde_json::json!({
        "datacenters": 9, "agents": 9, "schedules": 3, "monitors": 4, "assigned": 36, "codes": "va ny rdn chi sf lon dam sto syd",
        "paces": "60 300/800, 120 500/1000, 200 700/1500", "first": "VA Agent",
    });
    assert_eq!(counts, [want]);
    let again = seed.seed_schema(&["--data"]);
    let said = String::from_utf8_lossy(&again.stdout);
    assert_eq!(
        (again.status.code(), said.as_ref()),
        (Some(0), "every table is there already; schedules has rows already, so the sample rows were left out\n")
    );
    // The next row of one's own does not collide.
    seed.execute("INSERT INTO api_monitors (name, method, type, url) VALUES ('mine', 'GET', 'HTTP', 'http://h/')").await;
    assert_eq!(seed.number("SELECT max(id) FROM api_monitors").await, 5);
    seed.database.drop_it().await;
}
