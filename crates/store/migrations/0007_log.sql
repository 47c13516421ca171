-- Other regions whose proxies a leg's signalling went through: where the phone
-- of a user came in. Their codes, apart by spaces.
ALTER TABLE call_leg ADD COLUMN edge_regions TEXT;

-- The entries of the region's log that are no receipts: a deletion or a change
-- of the signing key, as its canonical octets (RFC 8785) and its signature.
CREATE TABLE log_statement (
    log_index BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    account TEXT,
    call TEXT,
    chain_position BIGINT UNIQUE,
    body TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature BYTEA NOT NULL,
    UNIQUE (kind, subject)
);
CREATE INDEX log_statement_call ON log_statement (call) WHERE call IS NOT NULL;

-- The signing keys after the first, which is derived from the key ring alone.
-- Each is derived from the key ring and its salt, and gone with its salt.
CREATE TABLE signing_key (
    generation BIGINT PRIMARY KEY,
    ed25519 TEXT NOT NULL,
    salt BYTEA,
    created_at BIGINT NOT NULL
);
ALTER TABLE receipt_log ADD COLUMN key_generation BIGINT NOT NULL DEFAULT 0;
