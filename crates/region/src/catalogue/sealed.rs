//! What the store seals and what it finds by keyed index. Only these can be:
//! its sealing and indexing take one of these statics, and none can be made
//! anywhere else.

use super::Field;
use super::fields::{
    ACCOUNT_KEY, ACCOUNT_NAME, API_ANSWER, API_KEY_NAME, API_KEY_SECRET, AUDIO, AUDIT_SOURCE,
    CALL_KEY, CALLEE, CALLER, CONTACT_PATH, CONTACT_URI, DEVICE_ADDRESS, DEVICE_INSTANCE, NUMBER,
    PUSH_TOKEN, REGISTRATION_CALL_ID, SIP_CALL_ID, SOUND, TRUNK_CREDENTIALS, USER_AGENT,
    USER_DIGEST, USER_FORWARDING, USER_NAME, WEBHOOK_SECRET, WEBHOOK_URL,
};

/// Values that are encrypted with a key of their account or call.
#[derive(Debug)]
pub struct Sealed {
    context: &'static str,
    holds: &'static [&'static Field],
}

impl Sealed {
    /// Declares what `context` holds. For the declarations below alone.
    const fn new(context: &'static str, holds: &'static [&'static Field]) -> Self {
        Self { context, holds }
    }

    /// Stands in the associated data of every value: changing it makes sealed
    /// values unreadable.
    pub const fn context(&self) -> &'static str {
        self.context
    }

    pub const fn holds(&self) -> &'static [&'static Field] {
        self.holds
    }
}

/// Values that are found by a keyed hash.
#[derive(Debug)]
pub struct Index {
    context: &'static str,
    holds: &'static [&'static Field],
}

impl Index {
    const fn new(context: &'static str, holds: &'static [&'static Field]) -> Self {
        Self { context, holds }
    }

    /// Goes into every hash: changing it makes the indexed unfindable.
    pub const fn context(&self) -> &'static str {
        self.context
    }

    pub const fn holds(&self) -> &'static [&'static Field] {
        self.holds
    }
}

pub static SEALED_ACCOUNT_NAME: Sealed = Sealed::new("account.name", &[&ACCOUNT_NAME]);
pub static SEALED_ACCOUNT_KEY: Sealed = Sealed::new("account_key", &[&ACCOUNT_KEY]);
pub static SEALED_USER_NAME: Sealed = Sealed::new("user.name", &[&USER_NAME]);
pub static SEALED_USER_DIGEST: Sealed = Sealed::new("user.digest", &[&USER_DIGEST]);
pub static SEALED_USER_FORWARDING: Sealed = Sealed::new("user.forwarding", &[&USER_FORWARDING]);
pub static SEALED_NUMBER: Sealed = Sealed::new("number", &[&NUMBER]);
pub static SEALED_TRUNK_CREDENTIALS: Sealed =
    Sealed::new("trunk.credentials", &[&TRUNK_CREDENTIALS]);
pub static SEALED_BINDING: Sealed = Sealed::new(
    "binding",
    &[
        &CONTACT_URI,
        &CONTACT_PATH,
        &DEVICE_ADDRESS,
        &DEVICE_INSTANCE,
        &PUSH_TOKEN,
        &USER_AGENT,
        &REGISTRATION_CALL_ID,
    ],
);
pub static SEALED_CALL_KEY: Sealed = Sealed::new("call_key", &[&CALL_KEY]);
pub static SEALED_CALLER: Sealed = Sealed::new("call.from", &[&CALLER]);
pub static SEALED_CALLEE: Sealed = Sealed::new("call.to", &[&CALLEE]);
pub static SEALED_SIP_CALL_ID: Sealed = Sealed::new("leg.sip_call_id", &[&SIP_CALL_ID]);
pub static SEALED_CHUNK: Sealed = Sealed::new("chunk", &[&AUDIO]);
pub static SEALED_SOUND: Sealed = Sealed::new("sound", &[&SOUND]);
pub static SEALED_API_KEY_NAME: Sealed = Sealed::new("api_key.name", &[&API_KEY_NAME]);
pub static SEALED_API_ANSWER: Sealed = Sealed::new("api_answer", &[&API_ANSWER]);
pub static SEALED_AUDIT_SOURCE: Sealed = Sealed::new("audit.source", &[&AUDIT_SOURCE]);
pub static SEALED_WEBHOOK_URL: Sealed = Sealed::new("webhook.url", &[&WEBHOOK_URL]);
pub static SEALED_WEBHOOK_SECRET: Sealed = Sealed::new("webhook.secret", &[&WEBHOOK_SECRET]);

pub static INDEX_USER: Index = Index::new("user", &[&USER_NAME]);
pub static INDEX_NUMBER: Index = Index::new("number", &[&NUMBER]);
pub static INDEX_CONTACT: Index = Index::new("binding", &[&CONTACT_URI]);
pub static INDEX_PARTY: Index = Index::new("party", &[&CALLER, &CALLEE]);
pub static INDEX_API_KEY: Index = Index::new("api_key", &[&API_KEY_SECRET]);
pub static INDEX_API_ANSWER: Index = Index::new("api_answer", &[&API_ANSWER]);
