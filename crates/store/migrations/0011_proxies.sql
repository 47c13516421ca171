-- When each proxy of the region last told the database that it lives: calls
-- that a dead one left open are closed by another, at the last proven time.
CREATE TABLE proxy (
    name TEXT PRIMARY KEY,
    alive_at BIGINT NOT NULL
);
