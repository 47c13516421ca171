-- Where accounts want to be told of events.
CREATE TABLE webhook (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (sid),
    url BYTEA NOT NULL,
    secret BYTEA NOT NULL,
    events TEXT NOT NULL,
    country TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    dropped BIGINT NOT NULL
);
CREATE INDEX webhook_account ON webhook (account);

-- What is to be told: a row goes in with the change it tells of, in one
-- transaction, and out when it was received. What was given up has no next_at
-- and stays for a while. No reference to the webhook: one that is removed just
-- then must not hold up the ledger.
CREATE TABLE webhook_delivery (
    sid TEXT PRIMARY KEY,
    webhook TEXT NOT NULL,
    account TEXT NOT NULL,
    event TEXT NOT NULL,
    call TEXT NOT NULL,
    recording TEXT,
    created_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT,
    given_up_at BIGINT,
    failure TEXT
);
CREATE INDEX webhook_delivery_next ON webhook_delivery (next_at);
CREATE INDEX webhook_delivery_webhook ON webhook_delivery (webhook, created_at);
