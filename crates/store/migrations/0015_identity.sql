-- Between whom and us an asserted identity counts (RFC 3325): both, in, out or
-- none. Trunks that were there go on as they did.
ALTER TABLE trunk ADD COLUMN asserted TEXT NOT NULL DEFAULT 'both';
