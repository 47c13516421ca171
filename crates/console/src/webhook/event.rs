//! What an event says, and its signature.

use aws_lc_rs::hmac;
use landline_region::RegionCode;
use landline_region::catalogue::fields::{CALL_OUTCOME, CALLEE, CALLER, SID};
use landline_region::egress::{Carried, Form};
use landline_store::{Delivery, Told};
use schemars::JsonSchema;
use serde::Serialize;

use crate::resources::account_uri;

/// The body of an event. No time, no number, no name: whoever may see those
/// asks the API of the region for the call.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventBody {
    /// The same however often the event is sent.
    pub id: String,
    pub event: &'static str,
    pub region: String,
    pub account_sid: String,
    pub call_sid: String,
    pub recording_sid: Option<String>,
    /// `inbound`, `outbound-dial` or `internal`.
    pub direction: &'static str,
    /// Stand for the parties: equal for the same party of the same account, and
    /// nothing else can be told from them.
    pub from_token: Option<String>,
    pub to_token: Option<String>,
    /// With `call.ended` alone.
    pub cause: Option<&'static str>,
    pub sip_status: Option<u16>,
    pub call_uri: String,
}

/// What the egress gate is asked for: the fields above, as they are declared.
pub const CARRIED: &[Carried] = &[
    (&SID, Form::Bare),
    (&CALLER, Form::Pseudonym),
    (&CALLEE, Form::Pseudonym),
    (&CALL_OUTCOME, Form::Bare),
];

impl EventBody {
    pub fn new(region: RegionCode, delivery: &Delivery, told: &Told) -> Self {
        Self {
            id: delivery.sid.to_string(),
            event: delivery.event.name(),
            region: region.to_string(),
            account_sid: delivery.account.to_string(),
            call_sid: delivery.call.to_string(),
            recording_sid: delivery.recording.map(|sid| sid.to_string()),
            direction: crate::resources::calls::direction(told.direction),
            from_token: told.from.map(|token| token.to_string()),
            to_token: told.to.map(|token| token.to_string()),
            cause: told.cause.map(|cause| cause.name()),
            sip_status: told.sip_status,
            call_uri: format!("{}/Calls/{}.json", account_uri(delivery.account), delivery.call),
        }
    }
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA-256 over the seconds since 1970, a dot, and
/// the body. A receiver refuses what is too old and what it has seen.
pub fn signature(secret: &str, seconds: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    format!("t={seconds},v1={}", hex::encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_over_time_and_body() {
        // printf '1700000000.{"id":"WE1"}' | openssl dgst -sha256 -hmac whsec_test
        let openssl = "0d8796c2b47343995acf4234053918f5b29123d1dd6870514271086bd4e837a0";
        let signed = signature("whsec_test", 1_700_000_000, "{\"id\":\"WE1\"}");
        assert_eq!(signed, format!("t=1700000000,v1={openssl}"));
        assert_ne!(signed, signature("whsec_test", 1_700_000_001, "{\"id\":\"WE1\"}"));
    }
}
