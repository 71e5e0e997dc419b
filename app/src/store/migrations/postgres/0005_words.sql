-- What a person says with an action belongs to the word about it; and an incident knows what chose whom to tell.
ALTER TABLE wk_action ADD COLUMN comment TEXT;
ALTER TABLE wk_incident ADD COLUMN routed_by TEXT;
