-- Many nodes: a vote can be found by when it was written. changed is the id of the transaction that wrote it.
ALTER TABLE wk_sight ADD COLUMN changed BIGINT NOT NULL DEFAULT 0;
CREATE INDEX wk_sight_changed ON wk_sight (changed);
