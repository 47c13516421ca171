//! What a region is, and the types that keep an account's data in it.
//!
//! Pure: no clock, no randomness, no socket. Identifiers are made by an
//! [`Entropy`] that the shell seeds.

mod api_key;
pub mod catalogue;
mod code;
pub mod egress;
mod entropy;
mod id;
pub mod merkle;
mod number_token;
mod personal;
mod pseudonym;
pub mod receipt;
mod time;

pub use api_key::{ApiKeySid, InvalidApiKeySid};
pub use code::{InvalidRegion, Jurisdiction, RegionCode};
pub use entropy::{Entropy, Seed};
pub use id::{
    AccountSid, CallSid, EventSid, InvalidSid, JoinToken, LegSid, RecordingSid, SoundSid, TrunkSid,
    UserSid, VoicemailSid, WebhookSid,
};
pub use number_token::{InvalidNumberToken, NumberKey, NumberToken};
pub use personal::{DataClass, Personal, Secret};
pub use pseudonym::{PseudonymKey, Token};
pub use time::{InvalidTime, Now, UnixMillis};
