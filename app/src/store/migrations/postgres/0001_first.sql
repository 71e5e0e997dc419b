-- The first schema on PostgreSQL. Times are UTC microseconds, public ids are UUID text, row ids come from wk_id_block.
-- The same tables stand in ../sqlite/0001_first.sql; where the two differ, a comment says why.

CREATE TABLE wk_id_block (
    name TEXT PRIMARY KEY,
    next BIGINT NOT NULL
);
INSERT INTO wk_id_block (name, next) VALUES ('row', 1);

-- last_event is the newest id in the tenant's live log: it grows in the commit, so that the order of ids is the order of commits.
CREATE TABLE wk_tenant (
    id BIGINT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    last_event BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);

CREATE TABLE wk_region (
    id BIGINT PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    group_name TEXT NOT NULL DEFAULT ''
);

CREATE TABLE wk_datacenter (
    id BIGINT PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    region_id BIGINT REFERENCES wk_region (id),
    shards INTEGER NOT NULL DEFAULT 16,
    exclusive BOOLEAN NOT NULL DEFAULT FALSE
);

-- batch is the last commit of this node that landed, batch_result what became of it (NULL: nothing worth telling).
CREATE TABLE wk_agent (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    datacenter_id BIGINT NOT NULL REFERENCES wk_datacenter (id),
    boot_id TEXT NOT NULL,
    joined_at BIGINT NOT NULL,
    batch BIGINT NOT NULL DEFAULT 0,
    batch_result TEXT
);

CREATE TABLE wk_lease (
    scope TEXT COLLATE "C" PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    beat BIGINT NOT NULL,
    taken_at BIGINT NOT NULL
);

CREATE TABLE wk_source (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    hash TEXT NOT NULL,
    applied_at BIGINT NOT NULL
);

CREATE TABLE wk_monitor (
    id BIGINT PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    tenant_id BIGINT NOT NULL REFERENCES wk_tenant (id),
    name TEXT COLLATE "C" NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    config TEXT NOT NULL,
    labels TEXT NOT NULL,
    paused BOOLEAN NOT NULL,
    source_id BIGINT NOT NULL REFERENCES wk_source (id),
    origin TEXT NOT NULL,
    hash BYTEA NOT NULL,
    push_token TEXT UNIQUE,
    rev BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    retired_at BIGINT
);
CREATE UNIQUE INDEX wk_monitor_name ON wk_monitor (tenant_id, name) WHERE retired_at IS NULL;
CREATE INDEX wk_monitor_source ON wk_monitor (source_id);

CREATE TABLE wk_channel (
    id BIGINT PRIMARY KEY,
    tenant_id BIGINT NOT NULL REFERENCES wk_tenant (id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    config TEXT NOT NULL,
    budget_key TEXT NOT NULL,
    source_id BIGINT NOT NULL REFERENCES wk_source (id),
    origin TEXT NOT NULL,
    rev BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);
CREATE UNIQUE INDEX wk_channel_name ON wk_channel (tenant_id, name) WHERE retired_at IS NULL;

-- One table for heartbeats, partitioned by day (SQLite: two, clustered by monitor).
CREATE TABLE wk_beat (
    monitor_id BIGINT NOT NULL,
    datacenter_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    agent_id BIGINT NOT NULL,
    outcome SMALLINT NOT NULL,
    reason SMALLINT NOT NULL,
    lag_us BIGINT NOT NULL,
    dns_us BIGINT NOT NULL,
    connect_us BIGINT NOT NULL,
    tls_us BIGINT NOT NULL,
    first_byte_us BIGINT NOT NULL,
    transfer_us BIGINT NOT NULL,
    total_us BIGINT NOT NULL,
    code INTEGER NOT NULL,
    size BIGINT NOT NULL,
    value BIGINT NOT NULL,
    flags INTEGER NOT NULL,
    PRIMARY KEY (monitor_id, datacenter_id, at, agent_id)
) PARTITION BY RANGE (at);
-- What no day's partition was made for. Partitions are made three days ahead and dropped when they are too old.
CREATE TABLE wk_beat_default PARTITION OF wk_beat DEFAULT;

CREATE TABLE wk_beat_detail (
    monitor_id BIGINT NOT NULL,
    datacenter_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (monitor_id, datacenter_id, at)
) PARTITION BY RANGE (at);
CREATE TABLE wk_beat_detail_default PARTITION OF wk_beat_detail DEFAULT;

-- span is the length in µs: an hour or a day. codes is a JSON object from code to count, sketch the bytes of a DDSketch.
CREATE TABLE wk_rollup (
    monitor_id BIGINT NOT NULL,
    datacenter_id BIGINT NOT NULL,
    span BIGINT NOT NULL,
    start BIGINT NOT NULL,
    up BIGINT NOT NULL,
    down BIGINT NOT NULL,
    unknown BIGINT NOT NULL,
    codes TEXT NOT NULL,
    sketch BYTEA NOT NULL,
    PRIMARY KEY (monitor_id, datacenter_id, span, start)
);
CREATE INDEX wk_rollup_age ON wk_rollup (span, start);

-- What must be computed (again): hours and days into which a heartbeat fell since they were last computed.
CREATE TABLE wk_rollup_dirty (
    span BIGINT NOT NULL,
    start BIGINT NOT NULL,
    monitor_id BIGINT NOT NULL,
    datacenter_id BIGINT NOT NULL,
    PRIMARY KEY (span, start, monitor_id, datacenter_id)
);
CREATE INDEX wk_rollup_dirty_monitor ON wk_rollup_dirty (monitor_id, span, start);

-- fold is versioned JSON; the columns beside it repeat only what is queried.
CREATE TABLE wk_sight (
    monitor_id BIGINT NOT NULL,
    datacenter_id BIGINT NOT NULL,
    health SMALLINT NOT NULL,
    fold TEXT NOT NULL,
    PRIMARY KEY (monitor_id, datacenter_id)
);

CREATE TABLE wk_verdict (
    monitor_id BIGINT PRIMARY KEY,
    tenant_id BIGINT NOT NULL,
    health SMALLINT NOT NULL,
    since BIGINT NOT NULL,
    why TEXT,
    fold TEXT NOT NULL,
    wake_at BIGINT,
    rev BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX wk_verdict_wake ON wk_verdict (wake_at) WHERE wake_at IS NOT NULL;

CREATE TABLE wk_interval (
    monitor_id BIGINT NOT NULL,
    start BIGINT NOT NULL,
    end_at BIGINT,
    state SMALLINT NOT NULL,
    PRIMARY KEY (monitor_id, start)
);
CREATE UNIQUE INDEX wk_interval_open ON wk_interval (monitor_id) WHERE end_at IS NULL;

CREATE TABLE wk_push (
    id BIGINT PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
    monitor_id BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    exit INTEGER,
    ping_us BIGINT,
    body TEXT NOT NULL,
    at BIGINT NOT NULL,
    folded BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX wk_push_monitor ON wk_push (monitor_id, at);
CREATE INDEX wk_push_unfolded ON wk_push (at, id) WHERE NOT folded;

-- rev counts the entries of the timeline: the next entry's nth is drawn from it under the row's lock.
CREATE TABLE wk_incident (
    id BIGINT PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    tenant_id BIGINT NOT NULL REFERENCES wk_tenant (id),
    monitor_id BIGINT NOT NULL,
    rule_key TEXT NOT NULL,
    status TEXT NOT NULL,
    severity SMALLINT NOT NULL,
    opened_at BIGINT NOT NULL,
    deciding_at BIGINT NOT NULL,
    resolved_at BIGINT,
    resolved_why TEXT,
    reason TEXT,
    trigger_value BIGINT,
    summary TEXT NOT NULL,
    rev BIGINT NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX wk_incident_open ON wk_incident (monitor_id, rule_key) WHERE resolved_at IS NULL;
CREATE INDEX wk_incident_page ON wk_incident (tenant_id, opened_at, id);
CREATE INDEX wk_incident_monitor ON wk_incident (monitor_id, opened_at);

CREATE TABLE wk_incident_event (
    incident_id BIGINT NOT NULL REFERENCES wk_incident (id),
    nth BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT,
    text TEXT NOT NULL,
    evidence TEXT,
    PRIMARY KEY (incident_id, nth)
);

CREATE TABLE wk_message (
    id BIGINT PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
    channel_id BIGINT NOT NULL,
    incident_id BIGINT,
    provider_id TEXT,
    key TEXT NOT NULL UNIQUE,
    sent_at BIGINT NOT NULL
);

-- state: due, held, sending, sent, dead, suppressed. begun_scope and begun_epoch name the lease under which the attempt
-- in hand was begun: whoever takes that scope anew makes the notice due again.
CREATE TABLE wk_notice (
    id BIGINT PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
    cause TEXT NOT NULL,
    channel_id BIGINT NOT NULL REFERENCES wk_channel (id),
    tenant_id BIGINT NOT NULL REFERENCES wk_tenant (id),
    incident_id BIGINT NOT NULL REFERENCES wk_incident (id),
    event TEXT NOT NULL,
    nth BIGINT NOT NULL,
    severity SMALLINT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    why TEXT,
    attempts BIGINT NOT NULL DEFAULT 0,
    next_at BIGINT NOT NULL,
    last_error TEXT,
    begun_scope TEXT,
    begun_epoch BIGINT,
    message_id BIGINT REFERENCES wk_message (id),
    created_at BIGINT NOT NULL,
    sent_at BIGINT,
    UNIQUE (cause, channel_id)
);
CREATE INDEX wk_notice_due ON wk_notice (channel_id, next_at) WHERE state IN ('due', 'held');
CREATE INDEX wk_notice_waiting ON wk_notice (created_at) WHERE state IN ('due', 'held', 'sending');
CREATE INDEX wk_notice_sending ON wk_notice (begun_scope) WHERE state = 'sending';
CREATE INDEX wk_notice_dead ON wk_notice (id) WHERE state = 'dead';
CREATE INDEX wk_notice_incident ON wk_notice (incident_id, channel_id, nth);

CREATE TABLE wk_token (
    id BIGINT PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
    hash BYTEA NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    tenant_id BIGINT NOT NULL REFERENCES wk_tenant (id),
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);

CREATE TABLE wk_event (
    tenant_id BIGINT NOT NULL,
    id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
