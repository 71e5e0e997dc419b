-- What was made over the API: each row is one object in the form of the configuration file, as JSON.
CREATE TABLE wk_document (
    uid TEXT PRIMARY KEY,
    tenant_id BIGINT NOT NULL REFERENCES wk_tenant (id),
    -- monitor, channel, maintenance
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    -- That of all documents after it was written: grows with every change of any.
    version BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    UNIQUE (tenant_id, kind, name)
);
