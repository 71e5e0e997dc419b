-- Notices that were begun as one message are repeated as one message, so that its key is the same again.
-- The same stands in ../postgres/0003_together.sql.

-- begun_with: the first notice of the message that this one was last begun in.
ALTER TABLE wk_notice ADD COLUMN begun_with INTEGER;
