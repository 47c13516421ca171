-- Who had a message removed, and why, until what was recorded of it is deleted and
-- the log states both. Nobody did, where it was none.
ALTER TABLE voicemail ADD COLUMN removed_by TEXT;
ALTER TABLE voicemail ADD COLUMN removed_for TEXT;
