CREATE TABLE api_key (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (sid),
    name BYTEA NOT NULL,
    role TEXT NOT NULL,
    digest BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX api_key_account ON api_key (account);

CREATE TABLE audit (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (sid),
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    operation TEXT NOT NULL,
    subject TEXT,
    source BYTEA NOT NULL,
    status BIGINT
);
CREATE INDEX audit_account_at ON audit (account, at);

CREATE TABLE api_answer (
    api_key TEXT NOT NULL REFERENCES api_key (sid),
    request_index BYTEA NOT NULL,
    fingerprint BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    status BIGINT,
    answer BYTEA,
    PRIMARY KEY (api_key, request_index)
);
CREATE INDEX api_answer_created ON api_answer (created_at);

ALTER TABLE recording ADD COLUMN deleted_at BIGINT;
