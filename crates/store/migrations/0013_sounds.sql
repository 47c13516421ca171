-- What is played to people: music on hold and the like. Sealed with the
-- account's key: 16 bits at 16 kHz, one channel.
CREATE TABLE sound (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (sid),
    kind TEXT NOT NULL,
    duration_ms BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    sealed BYTEA NOT NULL
);
CREATE UNIQUE INDEX sound_account ON sound (account, kind);

-- What its callers hear on hold: off, built-in or own; and the sound of the last.
ALTER TABLE account ADD COLUMN hold_music TEXT NOT NULL DEFAULT 'built-in';
ALTER TABLE account ADD COLUMN hold_sound TEXT;
