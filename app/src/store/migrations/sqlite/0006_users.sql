-- People: who may sign in, what they may do, where they are signed in; and who changed what.
CREATE TABLE wk_user (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    -- Whose administrators look after the account.
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    name TEXT NOT NULL,
    -- The name as it is compared.
    login TEXT NOT NULL UNIQUE,
    -- argon2id in PHC's form; NULL for whoever has none.
    password TEXT,
    totp_secret BLOB,
    -- 1 once a code has shown that the secret arrived.
    totp_on INTEGER NOT NULL DEFAULT 0,
    -- The newest step of time whose code was taken: none is taken twice.
    totp_step INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX wk_user_tenant ON wk_user (tenant_id);

CREATE TABLE wk_membership (
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    user_id INTEGER NOT NULL REFERENCES wk_user (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX wk_membership_user ON wk_membership (user_id);

CREATE TABLE wk_recovery (
    user_id INTEGER NOT NULL REFERENCES wk_user (id) ON DELETE CASCADE,
    hash BLOB NOT NULL,
    PRIMARY KEY (user_id, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE wk_session (
    hash BLOB PRIMARY KEY NOT NULL,
    user_id INTEGER NOT NULL REFERENCES wk_user (id) ON DELETE CASCADE,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    address TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX wk_session_user ON wk_session (user_id, seen_at);
CREATE INDEX wk_session_seen ON wk_session (seen_at);

-- What makes somebody the first user: one code for each node, until there is one.
CREATE TABLE wk_setup (
    node TEXT PRIMARY KEY NOT NULL,
    hash BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;

CREATE TABLE wk_audit (
    id INTEGER PRIMARY KEY,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    via TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    -- What was answered; NULL until then.
    status INTEGER
) STRICT;
CREATE INDEX wk_audit_tenant ON wk_audit (tenant_id, id);
CREATE INDEX wk_audit_at ON wk_audit (at);

ALTER TABLE wk_token ADD COLUMN made_by TEXT;
CREATE INDEX wk_token_tenant ON wk_token (tenant_id, id);
