-- Mailboxes: off or on for an account's users, and for one user where it is not as
-- the account says; what callers hear there; and how many messages a user has, new
-- and heard, so that the proxies see it with the user.
ALTER TABLE account ADD COLUMN voicemail TEXT NOT NULL DEFAULT 'off';
ALTER TABLE account ADD COLUMN greeting TEXT;
ALTER TABLE account_user ADD COLUMN voicemail TEXT;
ALTER TABLE account_user ADD COLUMN greeting TEXT;
ALTER TABLE account_user ADD COLUMN messages_new BIGINT NOT NULL DEFAULT 0;
ALTER TABLE account_user ADD COLUMN messages_old BIGINT NOT NULL DEFAULT 0;

-- A message in a mailbox: what was said is a recording of its call, and who said it
-- stands in the call's record. Without a duration it is being left. One that was
-- removed is nobody's any more; its row goes with what was recorded.
CREATE TABLE voicemail (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (sid),
    user_sid TEXT NOT NULL,
    call TEXT NOT NULL,
    recording TEXT NOT NULL,
    left_at BIGINT NOT NULL,
    duration_ms BIGINT,
    cut_short BIGINT NOT NULL DEFAULT 0,
    heard_at BIGINT,
    removed_at BIGINT
);
CREATE INDEX voicemail_user ON voicemail (user_sid, left_at);
CREATE INDEX voicemail_call ON voicemail (call);
CREATE INDEX voicemail_recording ON voicemail (recording);
