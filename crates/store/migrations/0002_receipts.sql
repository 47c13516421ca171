-- How a closed call's row was hashed into the chain: 1 was all there was.
ALTER TABLE call ADD COLUMN hash_version BIGINT NOT NULL DEFAULT 1;

-- Closed calls whose receipt was not issued yet. A row goes in with the call's
-- end and out with its receipt, each in one transaction.
CREATE TABLE receipt_pending (
    call TEXT PRIMARY KEY,
    chain_position BIGINT NOT NULL,
    closed_at BIGINT NOT NULL,
    refused_at BIGINT
);
CREATE INDEX receipt_pending_position ON receipt_pending (chain_position);
INSERT INTO receipt_pending (call, chain_position, closed_at)
SELECT sid, chain_position, closed_at FROM call
WHERE chain_position IS NOT NULL AND closed_at IS NOT NULL;

-- The entries of the region's log: a statement's canonical octets (RFC 8785)
-- and its signature. No reference to the call: receipts outlive records.
CREATE TABLE receipt (
    log_index BIGINT PRIMARY KEY,
    call TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL,
    opened_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature BYTEA NOT NULL
);
CREATE INDEX receipt_account_opened ON receipt (account, opened_at);

-- The log's perfect subtrees by their place in an in-order walk (RFC 9162
-- section 2.1, RFC 9420 appendix C).
CREATE TABLE receipt_node (
    position BIGINT PRIMARY KEY,
    hash BYTEA NOT NULL
);

CREATE TABLE receipt_log (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    size BIGINT NOT NULL
);
INSERT INTO receipt_log (id, size) VALUES (1, 0);

CREATE TABLE tree_head (
    tree_size BIGINT PRIMARY KEY,
    root BYTEA NOT NULL,
    previous_size BIGINT NOT NULL,
    signed_at BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    signature BYTEA NOT NULL
);
