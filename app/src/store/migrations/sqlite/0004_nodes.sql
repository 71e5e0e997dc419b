-- Many nodes: a vote can be found by when it was written. changed grows by one with each commit that writes a vote.
ALTER TABLE wk_sight ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX wk_sight_changed ON wk_sight (changed);
