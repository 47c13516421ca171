use super::{Carried, Form};
use crate::catalogue::fields::{
    ACCOUNT_DOMAIN, CALLEE, CALLER, CONTACT_PATH, CONTACT_URI, DEVICE_ADDRESS, DEVICE_INSTANCE,
    DIGEST_RESPONSE, DISPLAY_NAME, MEDIA_ADDRESS, NUMBER, REGISTRATION_CALL_ID, SIP_CALL_ID,
    USER_AGENT, USER_NAME,
};

/// What a SIP message can say of people (RFC 3261 §20, RFC 8866): what a
/// message of unknown kind between regions is judged by.
pub const SIGNALLING: &[Carried] = &[
    (&ACCOUNT_DOMAIN, Form::Bare),
    (&USER_NAME, Form::Bare),
    (&NUMBER, Form::Bare),
    (&DISPLAY_NAME, Form::Bare),
    (&CALLER, Form::Bare),
    (&CALLEE, Form::Bare),
    (&SIP_CALL_ID, Form::Bare),
    (&REGISTRATION_CALL_ID, Form::Bare),
    (&CONTACT_URI, Form::Bare),
    (&CONTACT_PATH, Form::Bare),
    (&DEVICE_ADDRESS, Form::Bare),
    (&DEVICE_INSTANCE, Form::Bare),
    (&USER_AGENT, Form::Bare),
    (&MEDIA_ADDRESS, Form::Bare),
    (&DIGEST_RESPONSE, Form::Bare),
];
