-- Subscribers of public status pages: who asked to be told, the links that confirm and end that, what was told, and what is still to be sent.
CREATE TABLE wk_subscriber (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    -- The page's name.
    page TEXT NOT NULL,
    -- email, webhook
    kind TEXT NOT NULL,
    address TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- NULL until whoever has the address has said that it is meant.
    confirmed_at INTEGER,
    -- Gone after this, unless somebody moves it.
    kept_until INTEGER NOT NULL,
    -- Refusals for good, one after another.
    refusals INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant_id, page, kind, address)
) STRICT;
CREATE INDEX wk_subscriber_kept ON wk_subscriber (kept_until);

-- What a link does for whoever has it.
CREATE TABLE wk_subscriber_link (
    hash BLOB PRIMARY KEY NOT NULL,
    subscriber_id INTEGER NOT NULL REFERENCES wk_subscriber (id) ON DELETE CASCADE,
    -- confirm, leave
    purpose TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    good_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX wk_subscriber_link_subscriber ON wk_subscriber_link (subscriber_id);
CREATE INDEX wk_subscriber_link_good ON wk_subscriber_link (good_until);

-- What was told, once each.
CREATE TABLE wk_page_word (
    id INTEGER PRIMARY KEY,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    page TEXT NOT NULL,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (tenant_id, page, key)
) STRICT;
CREATE INDEX wk_page_word_at ON wk_page_word (at);

-- What is still to be sent.
CREATE TABLE wk_page_parcel (
    id INTEGER PRIMARY KEY,
    tenant_id INTEGER NOT NULL REFERENCES wk_tenant (id),
    page TEXT NOT NULL,
    subscriber_id INTEGER NOT NULL REFERENCES wk_subscriber (id) ON DELETE CASCADE,
    -- NULL: that the subscription is to be confirmed.
    word_id INTEGER REFERENCES wk_page_word (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX wk_page_parcel_due ON wk_page_parcel (due_at);
CREATE INDEX wk_page_parcel_page ON wk_page_parcel (tenant_id, page, due_at);
CREATE INDEX wk_page_parcel_subscriber ON wk_page_parcel (subscriber_id);
CREATE INDEX wk_page_parcel_word ON wk_page_parcel (word_id);
