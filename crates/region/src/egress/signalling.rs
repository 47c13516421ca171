//! What each part of a SIP message to another region says of people
//! (RFC 3261 §20, RFC 8866).

use super::{Carried, Form};
use crate::catalogue::fields::{
    ACCOUNT_DOMAIN, CALLEE, CALLER, CONTACT_PATH, CONTACT_URI, DEVICE_ADDRESS, DEVICE_INSTANCE,
    DIGEST_RESPONSE, DISPLAY_NAME, JOIN_TOKEN, KEY_PRESSES, MEDIA_ADDRESS, MESSAGE_TEXT,
    MESSAGES_WAITING, PUSH_TOKEN, REGISTRATION_CALL_ID, SIP_CALL_ID, SIP_UNDECLARED, USER_AGENT,
    USER_NAME, USER_PRESENCE,
};

/// What no declaration names: the gate refuses it.
pub const UNDECLARED: &[Carried] = &[(&SIP_UNDECLARED, Form::Bare)];

/// The body of a MESSAGE request (RFC 3428), whatever its Content-Type.
pub const MESSAGE: &[Carried] = &[(&MESSAGE_TEXT, Form::Bare)];

const NOBODY: &[Carried] = &[];
const PARTIES: &[Carried] = &[
    (&CALLER, Form::Bare),
    (&CALLEE, Form::Bare),
    (&ACCOUNT_DOMAIN, Form::Bare),
    (&DISPLAY_NAME, Form::Bare),
];
const CONTACT: &[Carried] = &[
    (&CONTACT_URI, Form::Bare),
    (&DEVICE_ADDRESS, Form::Bare),
    (&DEVICE_INSTANCE, Form::Bare),
    (&PUSH_TOKEN, Form::Bare),
    (&USER_NAME, Form::Bare),
];
const SDP: &[Carried] = &[(&MEDIA_ADDRESS, Form::Bare)];
const KEYS: &[Carried] = &[(&KEY_PRESSES, Form::Bare)];
/// What colleagues who travel are told of each other's calls.
const WATCHED: &[Carried] = &[
    (&USER_PRESENCE, Form::Bare),
    (&USER_NAME, Form::Bare),
    (&ACCOUNT_DOMAIN, Form::Bare),
    (&SIP_CALL_ID, Form::Bare),
];
const MAILBOX: &[Carried] =
    &[(&MESSAGES_WAITING, Form::Bare), (&USER_NAME, Form::Bare), (&ACCOUNT_DOMAIN, Form::Bare)];
const DIALOG: &[Carried] = &[(&SIP_CALL_ID, Form::Bare), (&REGISTRATION_CALL_ID, Form::Bare)];

/// By the names of RFC 3261 §20 and its extensions, in order.
const HEADERS: &[(&str, &[Carried])] = &[
    ("accept", NOBODY),
    ("accept-encoding", NOBODY),
    ("accept-language", NOBODY),
    ("allow", NOBODY),
    ("allow-events", NOBODY),
    ("authentication-info", &[(&DIGEST_RESPONSE, Form::Bare)]),
    ("authorization", &[(&DIGEST_RESPONSE, Form::Bare), (&USER_NAME, Form::Bare)]),
    ("call-id", DIALOG),
    ("contact", CONTACT),
    ("content-disposition", NOBODY),
    ("content-encoding", NOBODY),
    ("content-language", NOBODY),
    ("content-length", NOBODY),
    ("content-type", NOBODY),
    ("cseq", NOBODY),
    ("date", NOBODY),
    ("event", NOBODY),
    ("expires", NOBODY),
    ("feature-caps", NOBODY),
    ("flow-timer", NOBODY),
    ("from", PARTIES),
    ("info-package", NOBODY),
    ("landline-join", &[(&JOIN_TOKEN, Form::Bare)]),
    ("max-forwards", NOBODY),
    ("mime-version", NOBODY),
    ("min-expires", NOBODY),
    ("min-se", NOBODY),
    ("p-asserted-identity", PARTIES),
    ("p-preferred-identity", PARTIES),
    ("path", &[(&CONTACT_PATH, Form::Bare)]),
    ("privacy", NOBODY),
    ("proxy-authenticate", NOBODY),
    ("proxy-authorization", &[(&DIGEST_RESPONSE, Form::Bare), (&USER_NAME, Form::Bare)]),
    ("proxy-require", NOBODY),
    ("rack", NOBODY),
    ("reason", NOBODY),
    ("record-route", &[(&CONTACT_PATH, Form::Bare)]),
    ("recv-info", NOBODY),
    ("refer-sub", NOBODY),
    ("refer-to", PARTIES),
    ("referred-by", PARTIES),
    ("replaces", DIALOG),
    ("require", NOBODY),
    ("retry-after", NOBODY),
    ("route", &[(&CONTACT_PATH, Form::Bare)]),
    ("rseq", NOBODY),
    ("server", &[(&USER_AGENT, Form::Bare)]),
    ("service-route", &[(&CONTACT_PATH, Form::Bare)]),
    ("session-expires", NOBODY),
    ("subscription-state", NOBODY),
    ("supported", NOBODY),
    ("timestamp", NOBODY),
    ("to", PARTIES),
    ("unsupported", NOBODY),
    ("user-agent", &[(&USER_AGENT, Form::Bare)]),
    ("via", &[(&DEVICE_ADDRESS, Form::Bare)]),
    ("warning", NOBODY),
    ("www-authenticate", NOBODY),
];

/// What the header field of this name says; [`UNDECLARED`] where nobody said.
/// The long name, in any letter case.
pub fn header(name: &str) -> &'static [Carried] {
    // Longer than any of ours: not worth the search.
    if name.len() > 32 {
        return UNDECLARED;
    }
    let name = name.to_ascii_lowercase();
    let found = HEADERS.binary_search_by(|(known, _)| (*known).cmp(&name));
    found.ok().and_then(|index| HEADERS.get(index)).map_or(UNDECLARED, |(_, fields)| fields)
}

/// What a body of this Content-Type says; [`UNDECLARED`] where nobody said.
pub fn body(content_type: &str) -> &'static [Carried] {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let is = |known: &&str| media_type.eq_ignore_ascii_case(known);
    match media_type {
        _ if is(&"application/sdp") => SDP,
        _ if ["application/dtmf-relay", "application/dtmf"].iter().any(is) => KEYS,
        // How a transfer goes on (RFC 3420): it may hold any header field.
        _ if is(&"message/sipfrag") => PARTIES,
        _ if ["application/dialog-info+xml", "application/pidf+xml"].iter().any(is) => WATCHED,
        _ if is(&"application/simple-message-summary") => MAILBOX,
        _ => UNDECLARED,
    }
}

/// Whether messages may say this of people.
#[cfg(test)]
pub(crate) fn says(field: &crate::catalogue::Field) -> bool {
    let headers = HEADERS.iter().flat_map(|(_, fields)| fields.iter());
    let all = headers
        .chain(SDP)
        .chain(KEYS)
        .chain(MESSAGE)
        .chain(WATCHED)
        .chain(MAILBOX)
        .chain(UNDECLARED);
    all.into_iter().any(|(said, _)| *said == field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Flow;

    #[test]
    fn every_declared_header_is_found_and_may_pass() {
        assert!(HEADERS.is_sorted_by_key(|(name, _)| *name));
        for (name, fields) in HEADERS {
            assert_eq!(header(&name.to_uppercase()), *fields);
            for (field, form) in *fields {
                assert_eq!(field.form_in(Flow::InterRegionSip), Some(*form), "{name}");
            }
        }
    }

    #[test]
    fn what_nobody_declared_may_not_pass() {
        assert_eq!(SIP_UNDECLARED.form_in(Flow::InterRegionSip), None);
        for name in ["Subject", "X-Secret", "Call-Info", "Geolocation", "", &"x".repeat(400)] {
            assert_eq!(header(name), UNDECLARED, "{name}");
        }
        assert_eq!(body("text/plain"), UNDECLARED);
        assert_ne!(body("Application/SDP;charset=utf-8"), UNDECLARED);
        assert_ne!(body("message/sipfrag;version=2.0"), UNDECLARED);
    }
}
