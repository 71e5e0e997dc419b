-- Alerting: notices that are held and suppressed with a reason, messages for many notices, silences, maintenance, parents, actions.
-- The same tables stand in ../sqlite/0002_alerting.sql; where the two differ, a comment says why.

ALTER TABLE wk_channel ADD COLUMN last_resort BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX wk_channel_last_resort ON wk_channel (tenant_id) WHERE last_resort AND retired_at IS NULL;

-- What parts of the program note for their next life: how far a report has come, whether a node ended in good order.
CREATE TABLE wk_mark (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL
);

ALTER TABLE wk_incident ADD COLUMN acknowledged_by TEXT;
ALTER TABLE wk_incident ADD COLUMN acknowledged_at BIGINT;
CREATE INDEX wk_incident_over ON wk_incident (resolved_at) WHERE resolved_at IS NOT NULL;

-- digest: one message for many notices.
ALTER TABLE wk_message ADD COLUMN digest BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX wk_message_recent ON wk_message (channel_id, sent_at);

-- A notice may be about no incident (reports, words about nodes). held: a mute has held it back. why: why it is or was held, or was
-- suppressed. not_before: the route's hours allow it no sooner, whatever ends meanwhile.
ALTER TABLE wk_notice ALTER COLUMN incident_id DROP NOT NULL;
ALTER TABLE wk_notice ADD COLUMN cooldown BIGINT NOT NULL DEFAULT 0;
ALTER TABLE wk_notice ADD COLUMN held BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE wk_notice ADD COLUMN not_before BIGINT;
DROP INDEX wk_notice_dead;
CREATE INDEX wk_notice_dead ON wk_notice (tenant_id, id) WHERE state = 'dead';
CREATE INDEX wk_notice_sent ON wk_notice (channel_id, sent_at) WHERE state = 'sent';
CREATE INDEX wk_notice_message ON wk_notice (message_id);

CREATE TABLE wk_parent (
    monitor_id BIGINT NOT NULL,
    parent_id BIGINT NOT NULL,
    PRIMARY KEY (monitor_id, parent_id)
);

CREATE TABLE wk_silence (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    tenant_id BIGINT NOT NULL REFERENCES wk_tenant (id),
    matcher TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    author TEXT NOT NULL,
    comment TEXT NOT NULL
);
CREATE INDEX wk_silence_lasting ON wk_silence (tenant_id, ends_at);

CREATE TABLE wk_maintenance (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id BIGINT NOT NULL REFERENCES wk_tenant (id),
    name TEXT NOT NULL,
    matcher TEXT NOT NULL,
    open_when TEXT NOT NULL,
    source_id BIGINT NOT NULL REFERENCES wk_source (id),
    origin TEXT NOT NULL,
    UNIQUE (tenant_id, name)
);

-- What people did about incidents: facts, folded by whoever decides for the monitor.
CREATE TABLE wk_action (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id BIGINT NOT NULL REFERENCES wk_tenant (id),
    incident_id BIGINT NOT NULL REFERENCES wk_incident (id),
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    at BIGINT NOT NULL,
    folded BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX wk_action_unfolded ON wk_action (at, id) WHERE NOT folded;
CREATE INDEX wk_action_incident ON wk_action (incident_id);
