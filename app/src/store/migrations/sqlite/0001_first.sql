-- The first schema on SQLite. Times are UTC microseconds, public ids are UUID text, row ids come from wk_id_block.
-- The same tables stand in ../postgres/0001_first.sql; where the two differ, a comment says why.

CREATE TABLE wk_id_block (
    name TEXT PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO wk_id_block (name, next) VALUES ('row', 1);

-- last_event is the newest id in the tenant's live log: it grows in the commit, so that the order of ids is the order of commits.
CREATE TABLE wk_tenant (
    id INTEGER PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    last_event INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    retired_at INTEGER
) STRICT;

CREATE TABLE wk_region (
    id INTEGER PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    group_name TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE wk_datacenter (
    id INTEGER PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    region_id INTEGER REFERENCES wk_region (id),
    shards INTEGER NOT NULL DEFAULT 16,
    exclusive INTEGER NOT NULL DEFAULT 0
) STRICT;

-- batch is the last commit of this node that landed, batch_result what became of it (NULL: nothing worth telling).
CREATE TABLE wk_agent (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    datacenter_id INTEGER NOT NULL REFERENCES wk_datacenter (id),
    boot_id TEXT NOT NULL,
    joined_at INTEGER NOT NULL,
    batch INTEGER NOT NULL DEFAULT 0,
    batch_result TEXT
) STRICT;

CREATE TABLE wk_lease (
    scope TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    beat INTEGER NOT NULL,
    taken_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE wk_source (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    hash TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE wk_monitor (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    config TEXT NOT NULL,
    labels TEXT NOT NULL,
    paused INTEGER NOT NULL,
    source_id INTEGER NOT NULL REFERENCES wk_source (id),
    origin TEXT NOT NULL,
    hash BLOB NOT NULL,
    push_token TEXT UNIQUE,
    rev INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    retired_at INTEGER
) STRICT;
CREATE UNIQUE INDEX wk_monitor_name ON wk_monitor (tenant_id, name) WHERE retired_at IS NULL;
CREATE INDEX wk_monitor_source ON wk_monitor (source_id);

CREATE TABLE wk_channel (
    id INTEGER PRIMARY KEY,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    config TEXT NOT NULL,
    budget_key TEXT NOT NULL,
    source_id INTEGER NOT NULL REFERENCES wk_source (id),
    origin TEXT NOT NULL,
    rev INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    retired_at INTEGER
) STRICT;
CREATE UNIQUE INDEX wk_channel_name ON wk_channel (tenant_id, name) WHERE retired_at IS NULL;

-- Heartbeats are appended here first: a plain append costs a quarter of an insert into the clustered table.
-- Housekeeping moves them, sorted. A beat that came twice stands here twice; the readers and the move ignore the second.
CREATE TABLE wk_beat_new (
    seq INTEGER PRIMARY KEY,
    monitor_id INTEGER NOT NULL,
    datacenter_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    agent_id INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    lag_us INTEGER NOT NULL,
    dns_us INTEGER NOT NULL,
    connect_us INTEGER NOT NULL,
    tls_us INTEGER NOT NULL,
    first_byte_us INTEGER NOT NULL,
    transfer_us INTEGER NOT NULL,
    total_us INTEGER NOT NULL,
    code INTEGER NOT NULL,
    size INTEGER NOT NULL,
    value INTEGER NOT NULL,
    flags INTEGER NOT NULL
) STRICT;

CREATE TABLE wk_beat (
    monitor_id INTEGER NOT NULL,
    datacenter_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    agent_id INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    lag_us INTEGER NOT NULL,
    dns_us INTEGER NOT NULL,
    connect_us INTEGER NOT NULL,
    tls_us INTEGER NOT NULL,
    first_byte_us INTEGER NOT NULL,
    transfer_us INTEGER NOT NULL,
    total_us INTEGER NOT NULL,
    code INTEGER NOT NULL,
    size INTEGER NOT NULL,
    value INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    PRIMARY KEY (monitor_id, datacenter_id, at, agent_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE wk_beat_detail (
    monitor_id INTEGER NOT NULL,
    datacenter_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (monitor_id, datacenter_id, at)
) STRICT;

-- span is the length in µs: an hour or a day. codes is a JSON object from code to count, sketch the bytes of a DDSketch.
CREATE TABLE wk_rollup (
    monitor_id INTEGER NOT NULL,
    datacenter_id INTEGER NOT NULL,
    span INTEGER NOT NULL,
    start INTEGER NOT NULL,
    up INTEGER NOT NULL,
    down INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    codes TEXT NOT NULL,
    sketch BLOB NOT NULL,
    PRIMARY KEY (monitor_id, datacenter_id, span, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX wk_rollup_age ON wk_rollup (span, start);

-- What must be computed (again): hours and days into which a heartbeat fell since they were last computed.
CREATE TABLE wk_rollup_dirty (
    span INTEGER NOT NULL,
    start INTEGER NOT NULL,
    monitor_id INTEGER NOT NULL,
    datacenter_id INTEGER NOT NULL,
    PRIMARY KEY (span, start, monitor_id, datacenter_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX wk_rollup_dirty_monitor ON wk_rollup_dirty (monitor_id, span, start);

-- fold is versioned JSON; the columns beside it repeat only what is queried.
CREATE TABLE wk_sight (
    monitor_id INTEGER NOT NULL,
    datacenter_id INTEGER NOT NULL,
    health INTEGER NOT NULL,
    fold TEXT NOT NULL,
    PRIMARY KEY (monitor_id, datacenter_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE wk_verdict (
    monitor_id INTEGER PRIMARY KEY,
    tenant_id INTEGER NOT NULL,
    health INTEGER NOT NULL,
    since INTEGER NOT NULL,
    why TEXT,
    fold TEXT NOT NULL,
    wake_at INTEGER,
    rev INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX wk_verdict_wake ON wk_verdict (wake_at) WHERE wake_at IS NOT NULL;

CREATE TABLE wk_interval (
    monitor_id INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end_at INTEGER,
    state INTEGER NOT NULL,
    PRIMARY KEY (monitor_id, start)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX wk_interval_open ON wk_interval (monitor_id) WHERE end_at IS NULL;

CREATE TABLE wk_push (
    id INTEGER PRIMARY KEY,
    monitor_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    exit INTEGER,
    ping_us INTEGER,
    body TEXT NOT NULL,
    at INTEGER NOT NULL,
    folded INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX wk_push_monitor ON wk_push (monitor_id, at);
CREATE INDEX wk_push_unfolded ON wk_push (at, id) WHERE folded = 0;

-- rev counts the entries of the timeline: the next entry's nth is drawn from it under the row's lock.
CREATE TABLE wk_incident (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    monitor_id INTEGER NOT NULL,
    rule_key TEXT NOT NULL,
    status TEXT NOT NULL,
    severity INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    deciding_at INTEGER NOT NULL,
    resolved_at INTEGER,
    resolved_why TEXT,
    reason TEXT,
    trigger_value INTEGER,
    summary TEXT NOT NULL,
    rev INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE UNIQUE INDEX wk_incident_open ON wk_incident (monitor_id, rule_key) WHERE resolved_at IS NULL;
CREATE INDEX wk_incident_page ON wk_incident (tenant_id, opened_at, id);
CREATE INDEX wk_incident_monitor ON wk_incident (monitor_id, opened_at);

CREATE TABLE wk_incident_event (
    incident_id INTEGER NOT NULL REFERENCES wk_incident (id),
    nth INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT,
    text TEXT NOT NULL,
    evidence TEXT,
    PRIMARY KEY (incident_id, nth)
) STRICT;

CREATE TABLE wk_message (
    id INTEGER PRIMARY KEY,
    channel_id INTEGER NOT NULL,
    incident_id INTEGER,
    provider_id TEXT,
    key TEXT NOT NULL UNIQUE,
    sent_at INTEGER NOT NULL
) STRICT;

-- state: due, held, sending, sent, dead, suppressed. begun_scope and begun_epoch name the lease under which the attempt
-- in hand was begun: whoever takes that scope anew makes the notice due again.
CREATE TABLE wk_notice (
    id INTEGER PRIMARY KEY,
    cause TEXT NOT NULL,
    channel_id INTEGER NOT NULL REFERENCES wk_channel (id),
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    incident_id INTEGER NOT NULL REFERENCES wk_incident (id),
    event TEXT NOT NULL,
    nth INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    why TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    last_error TEXT,
    begun_scope TEXT,
    begun_epoch INTEGER,
    message_id INTEGER REFERENCES wk_message (id),
    created_at INTEGER NOT NULL,
    sent_at INTEGER,
    UNIQUE (cause, channel_id)
) STRICT;
CREATE INDEX wk_notice_due ON wk_notice (channel_id, next_at) WHERE state IN ('due', 'held');
CREATE INDEX wk_notice_waiting ON wk_notice (created_at) WHERE state IN ('due', 'held', 'sending');
CREATE INDEX wk_notice_sending ON wk_notice (begun_scope) WHERE state = 'sending';
CREATE INDEX wk_notice_dead ON wk_notice (id) WHERE state = 'dead';
CREATE INDEX wk_notice_incident ON wk_notice (incident_id, channel_id, nth);

CREATE TABLE wk_token (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE TABLE wk_event (
    tenant_id INTEGER NOT NULL,
    id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;
