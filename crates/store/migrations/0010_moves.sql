-- Calls that go over to another relay while they last.

-- When the media went from which relay to which: `MILLISECONDS FROM TO`, one
-- after the other, apart by semicolons.
ALTER TABLE call ADD COLUMN moves TEXT;

-- A relay that goes on with a recording writes a part of its own, with a key
-- and a chain of its own; `whole` is the sid of the recording that it belongs
-- to, and `segment` counts the parts from 1. The first has neither.
ALTER TABLE recording ADD COLUMN whole TEXT;
ALTER TABLE recording ADD COLUMN segment BIGINT NOT NULL DEFAULT 0;
CREATE INDEX recording_whole ON recording (whole) WHERE whole IS NOT NULL;

-- Relays that an administrator wants empty, and what they last said of it.
CREATE TABLE relay_drain (
    relay TEXT PRIMARY KEY,
    asked_at BIGINT NOT NULL,
    sessions BIGINT,
    reported_at BIGINT
);
