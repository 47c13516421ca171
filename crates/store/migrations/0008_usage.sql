-- What the calls had used whose records are deleted, by the day of their opening
-- (days since 1970, UTC): a bill outlives the record of who called whom.
CREATE TABLE usage_of_deleted (
    account TEXT NOT NULL,
    day BIGINT NOT NULL,
    direction TEXT NOT NULL,
    calls BIGINT NOT NULL,
    answered BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    minutes_begun BIGINT NOT NULL,
    PRIMARY KEY (account, day, direction)
);
