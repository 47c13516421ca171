CREATE TABLE region_stamp (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    region TEXT NOT NULL,
    key_ring TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE revision (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    value BIGINT NOT NULL
);
INSERT INTO revision (id, value) VALUES (1, 0);

CREATE TABLE account (
    sid TEXT PRIMARY KEY,
    name BYTEA NOT NULL,
    domain TEXT NOT NULL UNIQUE,
    home_region TEXT NOT NULL,
    edge_policy TEXT NOT NULL,
    recording TEXT NOT NULL,
    encryption TEXT NOT NULL,
    contracting_entity TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL
);

CREATE TABLE account_key (
    account TEXT PRIMARY KEY REFERENCES account (sid),
    wrapped BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE account_user (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (sid),
    name BYTEA NOT NULL,
    name_index BYTEA NOT NULL,
    digest BYTEA NOT NULL,
    media TEXT NOT NULL,
    recording TEXT,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    UNIQUE (account, name_index)
);

CREATE TABLE trunk (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (sid),
    name TEXT NOT NULL,
    send_to TEXT NOT NULL,
    accept_from TEXT NOT NULL,
    media TEXT NOT NULL,
    credentials BYTEA,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    UNIQUE (account, name)
);

CREATE TABLE number (
    number_index BYTEA PRIMARY KEY,
    number BYTEA NOT NULL,
    account TEXT NOT NULL REFERENCES account (sid),
    target_user TEXT REFERENCES account_user (sid),
    target_trunk TEXT REFERENCES trunk (sid),
    of_user BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    CHECK ((target_user IS NULL) <> (target_trunk IS NULL))
);
CREATE INDEX number_account ON number (account);
CREATE INDEX number_target_user ON number (target_user);
CREATE INDEX number_target_trunk ON number (target_trunk);

CREATE TABLE binding (
    user_sid TEXT NOT NULL,
    contact_index BYTEA NOT NULL,
    account TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    PRIMARY KEY (user_sid, contact_index)
);

CREATE TABLE call_key (
    key_id TEXT PRIMARY KEY,
    call TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES account (sid),
    wrapped BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX call_key_call ON call_key (call);

CREATE TABLE call (
    sid TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (sid),
    direction TEXT NOT NULL,
    party_from BYTEA NOT NULL,
    party_to BYTEA NOT NULL,
    from_index BYTEA NOT NULL,
    to_index BYTEA NOT NULL,
    opened_at BIGINT NOT NULL,
    ringing_at BIGINT,
    answered_at BIGINT,
    answered_leg TEXT,
    closed_at BIGINT,
    last_at BIGINT NOT NULL,
    next_sequence BIGINT NOT NULL,
    sip_status BIGINT,
    cause TEXT,
    hung_up_by TEXT,
    home_region TEXT NOT NULL,
    signalling_region TEXT NOT NULL,
    media_region TEXT,
    storage_region TEXT NOT NULL,
    relay_id TEXT,
    proxy TEXT NOT NULL,
    key_id TEXT NOT NULL,
    contracting_entity TEXT NOT NULL,
    recording TEXT,
    consent_by_policy BIGINT,
    consent_granted_at BIGINT,
    retention_until BIGINT,
    chain_position BIGINT UNIQUE,
    previous_hash BYTEA,
    hash BYTEA
);
CREATE INDEX call_account_opened ON call (account, opened_at);
CREATE INDEX call_opened ON call (opened_at);
CREATE INDEX call_open ON call (proxy) WHERE closed_at IS NULL;
CREATE INDEX call_from ON call (account, from_index);
CREATE INDEX call_to ON call (account, to_index);

CREATE TABLE call_leg (
    sid TEXT PRIMARY KEY,
    call TEXT NOT NULL REFERENCES call (sid),
    account TEXT NOT NULL,
    role TEXT NOT NULL,
    party_user TEXT,
    party_trunk TEXT,
    sip_call_id BYTEA NOT NULL,
    media TEXT,
    opened_at BIGINT NOT NULL,
    closed_at BIGINT,
    sip_status BIGINT,
    codec TEXT,
    mos_x100 BIGINT,
    received_packets BIGINT,
    received_lost BIGINT,
    received_jitter_us BIGINT,
    sent_packets BIGINT,
    sent_lost BIGINT,
    sent_jitter_us BIGINT,
    stats BYTEA
);
CREATE INDEX call_leg_call ON call_leg (call);

CREATE TABLE call_chain (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    position BIGINT NOT NULL,
    head BYTEA NOT NULL
);

CREATE TABLE recording (
    sid TEXT PRIMARY KEY,
    call TEXT NOT NULL,
    account TEXT NOT NULL REFERENCES account (sid),
    home_region TEXT NOT NULL,
    storage_region TEXT NOT NULL,
    key_id TEXT NOT NULL REFERENCES call_key (key_id),
    consent_by_policy BIGINT NOT NULL,
    consent_granted_at BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    expected_packets BIGINT NOT NULL,
    stored_packets BIGINT NOT NULL,
    chunks BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    head BYTEA
);
CREATE INDEX recording_call ON recording (call);
CREATE INDEX recording_account_started ON recording (account, started_at);

CREATE TABLE recording_chunk (
    recording TEXT NOT NULL REFERENCES recording (sid),
    sequence BIGINT NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    packets BIGINT NOT NULL,
    dropped BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (recording, sequence)
);
