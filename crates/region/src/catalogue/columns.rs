//! Where each field lies: every column of a region's database, and every file
//! beside it. A test of the store holds this against the migrations.

use super::Field;
use super::fields::{
    ACCOUNT_DOMAIN, AUDIO, AUDIT_ACT, CALL_KEY, CALL_OUTCOME, CALL_QUALITY, CALL_STATE, CALL_TIME,
    CALLEE, CALLER, CONSENT, JOIN_TOKEN, RECORDING_TIME, REGISTRATION_TIME, SID, SIP_CALL_ID,
    TRUNK_ADDRESS, VOICEMAIL,
};
use super::sealed::{
    INDEX_API_ANSWER, INDEX_API_KEY, INDEX_CONTACT, INDEX_NUMBER, INDEX_PARTY, INDEX_USER, Index,
    SEALED_ACCOUNT_KEY, SEALED_ACCOUNT_NAME, SEALED_API_ANSWER, SEALED_API_KEY_NAME,
    SEALED_AUDIT_SOURCE, SEALED_BINDING, SEALED_CALL_KEY, SEALED_CALLEE, SEALED_CALLER,
    SEALED_CHUNK, SEALED_NUMBER, SEALED_SIP_CALL_ID, SEALED_SOUND, SEALED_TRUNK_CREDENTIALS,
    SEALED_USER_DIGEST, SEALED_USER_FORWARDING, SEALED_USER_NAME, SEALED_WEBHOOK_SECRET,
    SEALED_WEBHOOK_URL, Sealed,
};

/// A column with personal data.
#[derive(Debug)]
pub struct Column {
    pub table: &'static str,
    pub name: &'static str,
    pub form: Stored,
    pub holds: &'static [&'static Field],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// AES-256-GCM under the account's or the call's key.
    Sealed,
    /// HMAC-SHA-256 under the region's key.
    Index,
    Plain,
}

impl Stored {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Index => "keyed index",
            Self::Plain => "plain",
        }
    }
}

/// A file of the region's processes outside the database.
#[derive(Debug)]
pub struct StoredFile {
    /// Relative to `data_dir`.
    pub path: &'static str,
    pub form: Stored,
    pub holds: &'static [&'static Field],
}

const fn sealed(table: &'static str, name: &'static str, what: &'static Sealed) -> Column {
    Column { table, name, form: Stored::Sealed, holds: what.holds() }
}

const fn index(table: &'static str, name: &'static str, what: &'static Index) -> Column {
    Column { table, name, form: Stored::Index, holds: what.holds() }
}

const fn plain(
    table: &'static str,
    name: &'static str,
    holds: &'static [&'static Field],
) -> Column {
    Column { table, name, form: Stored::Plain, holds }
}

pub static COLUMNS: &[Column] = &[
    plain("account", "sid", &[&SID]),
    sealed("account", "name", &SEALED_ACCOUNT_NAME),
    plain("account", "domain", &[&ACCOUNT_DOMAIN]),
    plain("account", "hold_sound", &[&SID]),
    plain("account", "greeting", &[&SID]),
    plain("account_key", "account", &[&SID]),
    sealed("account_key", "wrapped", &SEALED_ACCOUNT_KEY),
    plain("account_user", "sid", &[&SID]),
    plain("account_user", "account", &[&SID]),
    sealed("account_user", "name", &SEALED_USER_NAME),
    index("account_user", "name_index", &INDEX_USER),
    sealed("account_user", "digest", &SEALED_USER_DIGEST),
    sealed("account_user", "forwarding", &SEALED_USER_FORWARDING),
    plain("account_user", "greeting", &[&SID]),
    plain("account_user", "messages_new", &[&VOICEMAIL]),
    plain("account_user", "messages_old", &[&VOICEMAIL]),
    plain("trunk", "sid", &[&SID]),
    plain("trunk", "account", &[&SID]),
    plain("trunk", "name", &[&TRUNK_ADDRESS]),
    plain("trunk", "send_to", &[&TRUNK_ADDRESS]),
    plain("trunk", "accept_from", &[&TRUNK_ADDRESS]),
    sealed("trunk", "credentials", &SEALED_TRUNK_CREDENTIALS),
    index("number", "number_index", &INDEX_NUMBER),
    sealed("number", "number", &SEALED_NUMBER),
    plain("number", "account", &[&SID]),
    plain("number", "target_user", &[&SID]),
    plain("number", "target_trunk", &[&SID]),
    plain("sound", "sid", &[&SID]),
    plain("sound", "account", &[&SID]),
    plain("sound", "kind", &[&SID]),
    sealed("sound", "sealed", &SEALED_SOUND),
    plain("binding", "user_sid", &[&SID]),
    index("binding", "contact_index", &INDEX_CONTACT),
    plain("binding", "account", &[&SID]),
    plain("binding", "expires_at", &[&REGISTRATION_TIME]),
    plain("binding", "updated_at", &[&REGISTRATION_TIME]),
    sealed("binding", "sealed", &SEALED_BINDING),
    plain("call_key", "call", &[&SID]),
    plain("call_key", "account", &[&SID]),
    sealed("call_key", "wrapped", &SEALED_CALL_KEY),
    plain("call_key", "created_at", &[&CALL_TIME]),
    plain("call", "sid", &[&SID]),
    plain("call", "account", &[&SID]),
    plain("call", "direction", &[&CALL_OUTCOME]),
    sealed("call", "party_from", &SEALED_CALLER),
    sealed("call", "party_to", &SEALED_CALLEE),
    index("call", "from_index", &INDEX_PARTY),
    index("call", "to_index", &INDEX_PARTY),
    plain("call", "opened_at", &[&CALL_TIME]),
    plain("call", "ringing_at", &[&CALL_TIME]),
    plain("call", "answered_at", &[&CALL_TIME]),
    plain("call", "answered_leg", &[&SID]),
    plain("call", "closed_at", &[&CALL_TIME]),
    plain("call", "last_at", &[&CALL_TIME]),
    plain("call", "sip_status", &[&CALL_OUTCOME]),
    plain("call", "cause", &[&CALL_OUTCOME]),
    plain("call", "hung_up_by", &[&CALL_OUTCOME]),
    plain("call", "recording", &[&SID]),
    plain("call", "consent_by_policy", &[&CONSENT]),
    plain("call", "consent_granted_at", &[&CONSENT]),
    plain("call", "retention_until", &[&CALL_TIME]),
    plain("call", "join_token", &[&JOIN_TOKEN]),
    plain("call_leg", "sid", &[&SID]),
    plain("call_leg", "call", &[&SID]),
    plain("call_leg", "account", &[&SID]),
    plain("call_leg", "role", &[&CALL_OUTCOME]),
    plain("call_leg", "party_user", &[&SID, &CALL_OUTCOME]),
    plain("call_leg", "diverted", &[&SID, &CALL_OUTCOME]),
    plain("call_leg", "party_trunk", &[&SID, &CALL_OUTCOME]),
    sealed("call_leg", "sip_call_id", &SEALED_SIP_CALL_ID),
    plain("call_leg", "media", &[&CALL_QUALITY]),
    plain("call_leg", "opened_at", &[&CALL_TIME]),
    plain("call_leg", "closed_at", &[&CALL_TIME]),
    plain("call_leg", "sip_status", &[&CALL_OUTCOME]),
    plain("call_leg", "codec", &[&CALL_QUALITY]),
    plain("call_leg", "mos_x100", &[&CALL_QUALITY]),
    plain("call_leg", "received_packets", &[&CALL_QUALITY]),
    plain("call_leg", "received_lost", &[&CALL_QUALITY]),
    plain("call_leg", "received_jitter_us", &[&CALL_QUALITY]),
    plain("call_leg", "sent_packets", &[&CALL_QUALITY]),
    plain("call_leg", "sent_lost", &[&CALL_QUALITY]),
    plain("call_leg", "sent_jitter_us", &[&CALL_QUALITY]),
    plain("call_leg", "stats", &[&CALL_QUALITY]),
    plain("recording", "sid", &[&SID]),
    plain("recording", "call", &[&SID]),
    plain("recording", "whole", &[&SID]),
    plain("recording", "account", &[&SID]),
    plain("recording", "consent_by_policy", &[&CONSENT]),
    plain("recording", "consent_granted_at", &[&CONSENT]),
    plain("recording", "started_at", &[&RECORDING_TIME]),
    plain("recording", "finished_at", &[&RECORDING_TIME]),
    plain("recording", "expected_packets", &[&RECORDING_TIME]),
    plain("recording", "stored_packets", &[&RECORDING_TIME]),
    plain("recording", "duration_ms", &[&RECORDING_TIME]),
    plain("voicemail", "sid", &[&SID]),
    plain("voicemail", "account", &[&SID]),
    plain("voicemail", "user_sid", &[&SID]),
    plain("voicemail", "call", &[&SID]),
    plain("voicemail", "recording", &[&SID]),
    plain("voicemail", "left_at", &[&RECORDING_TIME]),
    plain("voicemail", "duration_ms", &[&RECORDING_TIME]),
    plain("voicemail", "cut_short", &[&VOICEMAIL]),
    plain("voicemail", "heard_at", &[&VOICEMAIL]),
    plain("voicemail", "removed_at", &[&VOICEMAIL]),
    plain("voicemail", "removed_by", &[&SID]),
    plain("voicemail", "removed_for", &[&VOICEMAIL]),
    plain("recording_chunk", "recording", &[&SID]),
    plain("recording_chunk", "first_ms", &[&RECORDING_TIME]),
    plain("recording_chunk", "last_ms", &[&RECORDING_TIME]),
    plain("recording_chunk", "packets", &[&RECORDING_TIME]),
    plain("recording_chunk", "dropped", &[&RECORDING_TIME]),
    sealed("recording_chunk", "sealed", &SEALED_CHUNK),
    plain("receipt_pending", "call", &[&SID]),
    plain("receipt_pending", "closed_at", &[&CALL_TIME]),
    plain("receipt", "call", &[&SID]),
    plain("receipt", "account", &[&SID]),
    plain("receipt", "opened_at", &[&CALL_TIME]),
    plain("receipt", "body", &[&SID, &CALL_TIME, &CONSENT, &RECORDING_TIME]),
    plain("usage_of_deleted", "account", &[&SID]),
    plain("log_statement", "account", &[&SID]),
    plain("log_statement", "call", &[&SID]),
    plain("log_statement", "body", &[&SID]),
    plain("recording", "deleted_at", &[&RECORDING_TIME]),
    plain("api_key", "sid", &[&SID]),
    plain("api_key", "account", &[&SID]),
    sealed("api_key", "name", &SEALED_API_KEY_NAME),
    index("api_key", "digest", &INDEX_API_KEY),
    plain("api_key", "last_used_at", &[&AUDIT_ACT]),
    plain("audit", "account", &[&SID]),
    plain("audit", "at", &[&AUDIT_ACT]),
    plain("audit", "actor", &[&SID, &AUDIT_ACT]),
    plain("audit", "operation", &[&AUDIT_ACT]),
    plain("audit", "subject", &[&SID, &AUDIT_ACT]),
    sealed("audit", "source", &SEALED_AUDIT_SOURCE),
    plain("audit", "status", &[&AUDIT_ACT]),
    plain("api_answer", "api_key", &[&SID]),
    index("api_answer", "request_index", &INDEX_API_ANSWER),
    sealed("api_answer", "answer", &SEALED_API_ANSWER),
    plain("webhook", "sid", &[&SID]),
    plain("webhook", "account", &[&SID]),
    sealed("webhook", "url", &SEALED_WEBHOOK_URL),
    sealed("webhook", "secret", &SEALED_WEBHOOK_SECRET),
    plain("webhook_delivery", "sid", &[&SID]),
    plain("webhook_delivery", "webhook", &[&SID]),
    plain("webhook_delivery", "account", &[&SID]),
    plain("webhook_delivery", "event", &[&CALL_OUTCOME]),
    plain("webhook_delivery", "call", &[&SID]),
    plain("webhook_delivery", "recording", &[&SID]),
    plain("webhook_delivery", "created_at", &[&CALL_TIME]),
];

pub static FILES: &[StoredFile] = &[
    StoredFile {
        path: "ledger/",
        form: Stored::Sealed,
        holds: &[
            &SID,
            &CALLER,
            &CALLEE,
            &SIP_CALL_ID,
            &CALL_TIME,
            &CALL_OUTCOME,
            &CALL_QUALITY,
            &CALL_STATE,
            &CONSENT,
        ],
    },
    StoredFile {
        path: "spool/",
        form: Stored::Sealed,
        holds: &[&SID, &AUDIO, &CALL_KEY, &RECORDING_TIME, &CONSENT],
    },
];

/// Columns that say nothing of a person: table, columns, and why.
pub static NOT_PERSONAL: &[(&str, &[&str], &str)] = &[
    ("schema_version", &["version"], "which migrations ran"),
    ("region_stamp", &["id", "region", "key_ring", "created_at"], "whose database it is"),
    ("revision", &["id", "value"], "a counter of changes"),
    ("proxy", &["name", "alive_at"], "when a process last gave a sign of life"),
    (
        "account",
        &[
            "home_region",
            "edge_policy",
            "recording",
            "encryption",
            "contracting_entity",
            "calls_from",
            "hold_music",
            "voicemail",
            "created_at",
            "revision",
        ],
        "the account's settings",
    ),
    ("sound", &["duration_ms", "created_at"], "the sound's length, and since when it is there"),
    ("account_key", &["created_at"], "when the account was made"),
    (
        "account_user",
        &["media", "recording", "voicemail", "created_at", "revision"],
        "the user's settings",
    ),
    ("trunk", &["prefixes", "media", "asserted", "created_at", "revision"], "the trunk's settings"),
    ("number", &["of_user", "created_at", "revision"], "the number's settings"),
    ("call_key", &["key_id"], "a random name of a key"),
    (
        "call",
        &[
            "next_sequence",
            "home_region",
            "signalling_region",
            "media_region",
            "storage_region",
            "relay_id",
            "moves",
            "proxy",
            "key_id",
            "contracting_entity",
            "chain_position",
            "previous_hash",
            "hash",
            "hash_version",
        ],
        "which of the platform's parts took part, and the chain",
    ),
    ("call_leg", &["party_region", "edge_regions"], "which of the platform's regions took part"),
    ("call_chain", &["id", "position", "head"], "the chain's head"),
    (
        "recording",
        &["home_region", "storage_region", "key_id", "chunks", "head", "segment"],
        "which of the platform's parts took part, and the chain",
    ),
    ("relay_drain", &["relay", "asked_at", "sessions", "reported_at"], "relays to be emptied"),
    ("recording_chunk", &["sequence", "hash"], "the chain"),
    ("receipt_pending", &["chain_position", "refused_at"], "which receipts are to be issued"),
    ("receipt", &["log_index", "key_id", "signature"], "the receipt's place and its signature"),
    ("receipt_node", &["position", "hash"], "the log's tree"),
    ("receipt_log", &["id", "size", "key_generation"], "the log's size, and who signs it"),
    (
        "log_statement",
        &["log_index", "kind", "subject", "chain_position", "key_id", "signature"],
        "what was deleted, by its sid, and the statement's signature",
    ),
    (
        "signing_key",
        &["generation", "ed25519", "salt", "created_at"],
        "which keys the region signs with",
    ),
    (
        "tree_head",
        &["tree_size", "root", "previous_size", "signed_at", "key_id", "signature"],
        "what the log was at a time",
    ),
    (
        "usage_of_deleted",
        &["day", "direction", "calls", "answered", "duration_ms", "minutes_begun"],
        "sums over an account's calls of a day",
    ),
    ("api_key", &["role", "created_at", "revoked_at"], "the key's settings"),
    ("audit", &["sid", "role"], "a random name, and the key's role"),
    ("api_answer", &["fingerprint", "created_at", "status"], "which request was answered"),
    (
        "webhook",
        &["events", "country", "created_at", "delivered", "dropped"],
        "the webhook's settings and counts",
    ),
    (
        "webhook_delivery",
        &["attempts", "next_at", "given_up_at", "failure"],
        "how the sending goes: a cause from a closed set",
    ),
    (
        "egress",
        &["flow", "destination", "verdict", "hour", "count", "first_at", "last_at"],
        "what the egress gate decided; an account's own address is not named",
    ),
];
