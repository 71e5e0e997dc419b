-- Alerting: notices that are held and suppressed with a reason, messages for many notices, silences, maintenance, parents, actions.
-- The same tables stand in ../postgres/0002_alerting.sql; where the two differ, a comment says why.

ALTER TABLE wk_channel ADD COLUMN last_resort INTEGER NOT NULL DEFAULT 0;
CREATE INDEX wk_channel_last_resort ON wk_channel (tenant_id) WHERE last_resort = 1 AND retired_at IS NULL;

-- What parts of the program note for their next life: how far a report has come, whether a node ended in good order.
CREATE TABLE wk_mark (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE wk_incident ADD COLUMN acknowledged_by TEXT;
ALTER TABLE wk_incident ADD COLUMN acknowledged_at INTEGER;
CREATE INDEX wk_incident_over ON wk_incident (resolved_at) WHERE resolved_at IS NOT NULL;

-- digest: one message for many notices.
ALTER TABLE wk_message ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;
CREATE INDEX wk_message_recent ON wk_message (channel_id, sent_at);

-- A notice may be about no incident (reports, words about nodes), so its incident may be absent; the table is made anew, because
-- SQLite cannot drop a NOT NULL. held: a mute has held it back. why: why it is or was held, or was suppressed. not_before: the route's
-- hours allow it no sooner, whatever ends meanwhile.
CREATE TABLE wk_notice_2 (
    id INTEGER PRIMARY KEY,
    cause TEXT NOT NULL,
    channel_id INTEGER NOT NULL REFERENCES wk_channel (id),
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    incident_id INTEGER REFERENCES wk_incident (id),
    event TEXT NOT NULL,
    nth INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    payload TEXT NOT NULL,
    cooldown INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL,
    held INTEGER NOT NULL DEFAULT 0,
    why TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    not_before INTEGER,
    last_error TEXT,
    begun_scope TEXT,
    begun_epoch INTEGER,
    message_id INTEGER REFERENCES wk_message (id),
    created_at INTEGER NOT NULL,
    sent_at INTEGER,
    UNIQUE (cause, channel_id)
) STRICT;
INSERT INTO wk_notice_2 (id, cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, state, why, attempts, next_at,
    last_error, begun_scope, begun_epoch, message_id, created_at, sent_at)
SELECT id, cause, channel_id, tenant_id, incident_id, event, nth, severity, payload, state, why, attempts, next_at,
    last_error, begun_scope, begun_epoch, message_id, created_at, sent_at FROM wk_notice;
DROP TABLE wk_notice;
ALTER TABLE wk_notice_2 RENAME TO wk_notice;
CREATE INDEX wk_notice_due ON wk_notice (channel_id, next_at) WHERE state IN ('due', 'held');
CREATE INDEX wk_notice_waiting ON wk_notice (created_at) WHERE state IN ('due', 'held', 'sending');
CREATE INDEX wk_notice_sending ON wk_notice (begun_scope) WHERE state = 'sending';
CREATE INDEX wk_notice_dead ON wk_notice (tenant_id, id) WHERE state = 'dead';
CREATE INDEX wk_notice_incident ON wk_notice (incident_id, channel_id, nth);
CREATE INDEX wk_notice_sent ON wk_notice (channel_id, sent_at) WHERE state = 'sent';
CREATE INDEX wk_notice_message ON wk_notice (message_id);

CREATE TABLE wk_parent (
    monitor_id INTEGER NOT NULL,
    parent_id INTEGER NOT NULL,
    PRIMARY KEY (monitor_id, parent_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE wk_silence (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    matcher TEXT NOT NULL,
    starts_at INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    author TEXT NOT NULL,
    comment TEXT NOT NULL
) STRICT;
CREATE INDEX wk_silence_lasting ON wk_silence (tenant_id, ends_at);

CREATE TABLE wk_maintenance (
    id INTEGER PRIMARY KEY,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    name TEXT NOT NULL,
    matcher TEXT NOT NULL,
    open_when TEXT NOT NULL,
    source_id INTEGER NOT NULL REFERENCES wk_source (id),
    origin TEXT NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;

-- What people did about incidents: facts, folded by whoever decides for the monitor.
CREATE TABLE wk_action (
    id INTEGER PRIMARY KEY,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    incident_id INTEGER NOT NULL REFERENCES wk_incident (id),
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    at INTEGER NOT NULL,
    folded INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX wk_action_unfolded ON wk_action (at, id) WHERE folded = 0;
CREATE INDEX wk_action_incident ON wk_action (incident_id);
