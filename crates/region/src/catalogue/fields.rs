//! The fields themselves, by what they are about.

use super::{Field, LegalBasis, Purpose, Retention};
use crate::DataClass;
use crate::egress::{Flow, Form};

/// What a call or registration needs in the region that takes part in it.
const SIGNALLING: &[(Flow, Form)] = &[(Flow::InterRegionSip, Form::Bare)];
const NOWHERE: &[(Flow, Form)] = &[];

pub static FIELDS: &[&Field] = &[
    &ACCOUNT_NAME,
    &ACCOUNT_DOMAIN,
    &SID,
    &JOIN_TOKEN,
    &USER_NAME,
    &NUMBER,
    &USER_FORWARDING,
    &TRUNK_ADDRESS,
    &USER_DIGEST,
    &TRUNK_CREDENTIALS,
    &DIGEST_RESPONSE,
    &ACCOUNT_KEY,
    &CALL_KEY,
    &CONTACT_URI,
    &CONTACT_PATH,
    &DEVICE_ADDRESS,
    &DEVICE_INSTANCE,
    &PUSH_TOKEN,
    &USER_AGENT,
    &REGISTRATION_CALL_ID,
    &REGISTRATION_TIME,
    &DISPLAY_NAME,
    &MEDIA_ADDRESS,
    &CALL_STATE,
    &KEY_PRESSES,
    &MESSAGE_TEXT,
    &USER_PRESENCE,
    &MESSAGES_WAITING,
    &CALL_AUDIO,
    &SIP_UNDECLARED,
    &CALLER,
    &CALLEE,
    &SIP_CALL_ID,
    &CALL_TIME,
    &CALL_OUTCOME,
    &CALL_QUALITY,
    &CONSENT,
    &AUDIO,
    &RECORDING_TIME,
    &VOICEMAIL,
    &SOUND,
    &API_KEY_NAME,
    &API_KEY_SECRET,
    &API_ANSWER,
    &AUDIT_ACT,
    &AUDIT_SOURCE,
    &WEBHOOK_URL,
    &WEBHOOK_SECRET,
];

pub static ACCOUNT_NAME: Field = Field {
    name: "account.name",
    class: DataClass::Identity,
    what: "The customer's name",
    purpose: Purpose::Administration,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &["Account.name", "NewAccount.name", "AccountVerb.name"],
    carried: NOWHERE,
};

pub static ACCOUNT_DOMAIN: Field = Field {
    name: "account.domain",
    class: DataClass::Identity,
    what: "The account's SIP domain, by which every region finds its home",
    purpose: Purpose::Administration,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &["Account.domain"],
    carried: &[
        (Flow::Directory, Form::Bare),
        (Flow::InterRegionSip, Form::Bare),
        (Flow::Logs, Form::Pseudonym),
    ],
};

pub static SID: Field = Field {
    name: "sid",
    class: DataClass::Identity,
    what: "Random identifiers of accounts, users, trunks, calls, legs and recordings",
    purpose: Purpose::Administration,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::Contract),
    held: &["Account.sid", "User.sid"],
    carried: &[
        (Flow::Directory, Form::Bare),
        (Flow::InterRegionSip, Form::Bare),
        (Flow::Logs, Form::Bare),
        (Flow::Webhook, Form::Bare),
        (Flow::Push, Form::Bare),
    ],
};

pub static JOIN_TOKEN: Field = Field {
    name: "call.join_token",
    class: DataClass::Traffic,
    what: "The random token that joins the two records of a call between accounts",
    purpose: Purpose::Records,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::Contract),
    held: &[],
    carried: SIGNALLING,
};

pub static USER_NAME: Field = Field {
    name: "user.name",
    class: DataClass::Identity,
    what: "The user part of a user's SIP address, which is the sign-in name",
    purpose: Purpose::Administration,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &[
        "User.name",
        "NewUser.name",
        "Identity.user",
        "NumberNew.user",
        "UserView.user",
        "UserNew.user",
        "UserVerb.user",
        "VoicemailVerb.user",
    ],
    carried: &[(Flow::InterRegionSip, Form::Bare), (Flow::Logs, Form::Pseudonym)],
};

pub static NUMBER: Field = Field {
    name: "number",
    class: DataClass::Number,
    what: "An E.164 number and whom it leads to",
    purpose: Purpose::Administration,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &[
        "User.number",
        "NewUser.number",
        "UserChange.number",
        "Number.e164",
        "NewNumber.e164",
        "Identity.number",
        "NumberView.phone_number",
        "NumberNew.phone_number",
        "UserView.number",
        "UserNew.number",
        "UserUpdate.number",
        "UserArgs.number",
        "NumberVerb.number",
    ],
    carried: &[
        (Flow::Directory, Form::Pseudonym),
        (Flow::InterRegionSip, Form::Bare),
        (Flow::Logs, Form::Pseudonym),
    ],
};

pub static USER_FORWARDING: Field = Field {
    name: "user.forwarding",
    class: DataClass::Number,
    what: "The names and numbers that a user's calls are sent on to",
    purpose: Purpose::Administration,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &[
        "Forwarding.always",
        "Forwarding.busy",
        "Forwarding.no_answer",
        "Forwarding.unreachable",
        "ForwardingChange.always",
        "ForwardingChange.busy",
        "ForwardingChange.no_answer",
        "ForwardingChange.unreachable",
        "Stead.callee",
        "UserView.forward_always",
        "UserView.forward_busy",
        "UserView.forward_no_answer",
        "UserView.forward_unreachable",
        "UserUpdate.forward_always",
        "UserUpdate.forward_busy",
        "UserUpdate.forward_no_answer",
        "UserUpdate.forward_unreachable",
        "UserChanges.forward_always",
        "UserChanges.forward_busy",
        "UserChanges.forward_no_answer",
        "UserChanges.forward_unreachable",
    ],
    carried: NOWHERE,
};
pub static TRUNK_ADDRESS: Field = Field {
    name: "trunk.address",
    class: DataClass::Address,
    what: "A trunk's name, where its calls are sent and whence they are taken",
    purpose: Purpose::Administration,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &["Trunk.name", "Trunk.send_to", "Trunk.accept_from", "NewTrunk.name", "TrunkVerb.name"],
    carried: NOWHERE,
};

pub static USER_DIGEST: Field = Field {
    name: "user.digest",
    class: DataClass::Credential,
    what: "H(user:realm:password), with SHA-256 and MD5; the password is not kept",
    purpose: Purpose::Security,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &[
        "DigestSecrets.md5",
        "DigestSecrets.sha256",
        "Authenticator.nobody",
        "Proofs.nobody",
        "UserView.password",
        "UserNew.password",
        "UserUpdate.password",
        "UserArgs.password",
        "UserChanges.password",
    ],
    carried: NOWHERE,
};

pub static TRUNK_CREDENTIALS: Field = Field {
    name: "trunk.credentials",
    class: DataClass::Credential,
    what: "User name and password for a carrier's digest challenge",
    purpose: Purpose::Security,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &[
        "TrunkCredentials.username",
        "TrunkCredentials.password",
        "TrunkView.username",
        "TrunkNew.username",
        "TrunkNew.password",
        "TrunkArgs.username",
        "TrunkArgs.password",
    ],
    carried: NOWHERE,
};

pub static DIGEST_RESPONSE: Field = Field {
    name: "digest.response",
    class: DataClass::Credential,
    what: "The answer to one challenge; only the home region can check it",
    purpose: Purpose::Security,
    retention: Retention::InTransit,
    basis: Some(LegalBasis::Contract),
    held: &["Credentials.response"],
    carried: SIGNALLING,
};

pub static ACCOUNT_KEY: Field = Field {
    name: "account.key",
    class: DataClass::Credential,
    what: "The key that an account's values are sealed with, wrapped by the region's",
    purpose: Purpose::Security,
    retention: Retention::UntilRemoved,
    basis: None,
    held: &[],
    carried: NOWHERE,
};

pub static CALL_KEY: Field = Field {
    name: "call.key",
    class: DataClass::Credential,
    what: "The key of one call or recording, wrapped by its account's",
    purpose: Purpose::Security,
    retention: Retention::AsConfigured,
    basis: None,
    held: &[],
    carried: NOWHERE,
};

pub static CONTACT_URI: Field = Field {
    name: "contact.uri",
    class: DataClass::Address,
    what: "Where a device registered from, as it wrote it",
    purpose: Purpose::Registration,
    retention: Retention::UntilExpired,
    basis: Some(LegalBasis::Contract),
    held: &["Binding.contact_uri", "BindingChange.contact", "SealedBinding.contact_uri"],
    carried: SIGNALLING,
};

pub static CONTACT_PATH: Field = Field {
    name: "contact.path",
    class: DataClass::Address,
    what: "The proxies between a device and its home (RFC 3327)",
    purpose: Purpose::Registration,
    retention: Retention::UntilExpired,
    basis: Some(LegalBasis::Contract),
    held: &["Binding.path", "SealedBinding.path"],
    carried: SIGNALLING,
};

pub static DEVICE_ADDRESS: Field = Field {
    name: "device.address",
    class: DataClass::Address,
    what: "The network address a device signals from",
    purpose: Purpose::Registration,
    retention: Retention::UntilExpired,
    basis: Some(LegalBasis::Contract),
    held: &["Received.remote", "SealedBinding.remote"],
    carried: &[(Flow::InterRegionSip, Form::Bare), (Flow::Logs, Form::Pseudonym)],
};

pub static DEVICE_INSTANCE: Field = Field {
    name: "device.instance",
    class: DataClass::Identity,
    what: "A device's own lasting identifier (RFC 5626)",
    purpose: Purpose::Registration,
    retention: Retention::UntilExpired,
    basis: Some(LegalBasis::Contract),
    held: &["Binding.instance", "SealedBinding.instance", "Wish.instance", "Device.instance"],
    carried: SIGNALLING,
};

pub static PUSH_TOKEN: Field = Field {
    name: "device.push_token",
    class: DataClass::Identity,
    what: "By what a push service knows a device (RFC 8599)",
    purpose: Purpose::Registration,
    retention: Retention::UntilExpired,
    basis: Some(LegalBasis::Contract),
    held: &["PushTarget.prid", "PushTarget.param"],
    carried: &[(Flow::InterRegionSip, Form::Bare), (Flow::Push, Form::Bare)],
};

pub static USER_AGENT: Field = Field {
    name: "device.user_agent",
    class: DataClass::Identity,
    what: "Make and version of a device's software",
    purpose: Purpose::Registration,
    retention: Retention::UntilExpired,
    basis: Some(LegalBasis::LegitimateInterest),
    held: &["Binding.user_agent", "SealedBinding.user_agent"],
    carried: SIGNALLING,
};

pub static REGISTRATION_CALL_ID: Field = Field {
    name: "registration.call_id",
    class: DataClass::Traffic,
    what: "The Call-ID that a device registers with",
    purpose: Purpose::Registration,
    retention: Retention::UntilExpired,
    basis: Some(LegalBasis::Contract),
    held: &["Binding.call_id", "SealedBinding.call_id", "Ground.call_id"],
    carried: SIGNALLING,
};

pub static REGISTRATION_TIME: Field = Field {
    name: "registration.time",
    class: DataClass::Traffic,
    what: "When a device registered and until when",
    purpose: Purpose::Registration,
    retention: Retention::UntilExpired,
    basis: Some(LegalBasis::Contract),
    held: &["Binding.expires_at", "Binding.updated_at"],
    carried: SIGNALLING,
};

pub static DISPLAY_NAME: Field = Field {
    name: "call.display_name",
    class: DataClass::Identity,
    what: "The name that a caller shows",
    purpose: Purpose::Carriage,
    retention: Retention::InTransit,
    basis: Some(LegalBasis::Contract),
    held: &["Identity.display"],
    carried: SIGNALLING,
};

pub static KEY_PRESSES: Field = Field {
    name: "call.key_presses",
    class: DataClass::Content,
    what: "Keys pressed while talking, where a client sends them by INFO (RFC 6086)",
    purpose: Purpose::Carriage,
    retention: Retention::InTransit,
    basis: Some(LegalBasis::Contract),
    held: &[],
    carried: SIGNALLING,
};

pub static MESSAGE_TEXT: Field = Field {
    name: "message.text",
    class: DataClass::Content,
    what: "What users write to each other (RFC 3428), in a call or outside",
    purpose: Purpose::Carriage,
    retention: Retention::InTransit,
    basis: Some(LegalBasis::Contract),
    held: &[],
    carried: SIGNALLING,
};

pub static USER_PRESENCE: Field = Field {
    name: "user.presence",
    class: DataClass::Traffic,
    what: "Whether a user's phone is registered, rings or is in a call, as colleagues who watch are told",
    purpose: Purpose::Carriage,
    retention: Retention::InTransit,
    basis: Some(LegalBasis::Contract),
    held: &[],
    carried: SIGNALLING,
};

pub static MESSAGES_WAITING: Field = Field {
    name: "voicemail.waiting",
    class: DataClass::Traffic,
    what: "How many messages wait in a user's mailbox, as its owner's phones are told",
    purpose: Purpose::Carriage,
    retention: Retention::InTransit,
    basis: Some(LegalBasis::Contract),
    held: &[],
    carried: SIGNALLING,
};

pub static CALL_AUDIO: Field = Field {
    name: "call.audio",
    class: DataClass::Content,
    what: "What is said while a call lasts, as packets to and from its parties",
    purpose: Purpose::Carriage,
    retention: Retention::InTransit,
    basis: Some(LegalBasis::Contract),
    held: &[],
    carried: NOWHERE,
};

pub static SIP_UNDECLARED: Field = Field {
    name: "sip.undeclared",
    class: DataClass::Content,
    what: "Header fields and bodies of SIP messages that no declaration names",
    purpose: Purpose::Carriage,
    retention: Retention::InTransit,
    basis: Some(LegalBasis::Contract),
    held: &[],
    carried: NOWHERE,
};

pub static MEDIA_ADDRESS: Field = Field {
    name: "call.media_address",
    class: DataClass::Address,
    what: "The network address a device sends media from",
    purpose: Purpose::Carriage,
    retention: Retention::InTransit,
    basis: Some(LegalBasis::Contract),
    held: &["Remote.rtp", "Remote.rtcp"],
    carried: SIGNALLING,
};

pub static CALL_STATE: Field = Field {
    name: "call.state",
    class: DataClass::Address,
    what: "An answered or parked call as its next proxy goes on with it: parties, addresses, descriptions, media keys; gone with the call",
    purpose: Purpose::Carriage,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &[
        "Snapshot.state",
        "WrittenIdentity.user",
        "WrittenIdentity.number",
        "WrittenIdentity.callee",
        "WrittenIdentity.display",
    ],
    carried: NOWHERE,
};

pub static CALLER: Field = Field {
    name: "call.from",
    class: DataClass::Traffic,
    what: "Who called: a user part or a number",
    purpose: Purpose::Records,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::Contract),
    held: &[
        "CallNew.from",
        "Opened.from",
        "CallRecord.from",
        "CallQuery.from",
        "CallView.from",
        "WrittenStep.from",
        "VoicemailRecord.from",
        "VoicemailView.from",
        "MessageView.from",
    ],
    carried: &[(Flow::InterRegionSip, Form::Bare), (Flow::Webhook, Form::Pseudonym)],
};

pub static CALLEE: Field = Field {
    name: "call.to",
    class: DataClass::Traffic,
    what: "Who was called: a user part or a number",
    purpose: Purpose::Records,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::Contract),
    held: &[
        "CallNew.to",
        "StartCall.to",
        "Started.dialled",
        "Opened.to",
        "CallRecord.to",
        "Identity.callee",
        "Route.to_user",
        "CallQuery.to",
        "CallView.to",
        "WrittenStep.to",
    ],
    carried: &[(Flow::InterRegionSip, Form::Bare), (Flow::Webhook, Form::Pseudonym)],
};

pub static SIP_CALL_ID: Field = Field {
    name: "call.sip_call_id",
    class: DataClass::Traffic,
    what: "The Call-ID of one leg, by which a peer knows the same call",
    purpose: Purpose::Records,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::LegitimateInterest),
    held: &[
        "DialogSeen.call_id",
        "LegOpened.sip_call_id",
        "LegRecord.sip_call_id",
        "Branch.call_id",
        "DialogName.call_id",
        "WrittenStep.sip_call_id",
    ],
    carried: SIGNALLING,
};

pub static CALL_TIME: Field = Field {
    name: "call.time",
    class: DataClass::Traffic,
    what: "When a call and its legs began, rang, were answered and ended: time of day, duration, minutes",
    purpose: Purpose::Records,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::Contract),
    held: &["CallRecord.opened_at", "CallRecord.closed_at"],
    carried: NOWHERE,
};

pub static CALL_OUTCOME: Field = Field {
    name: "call.outcome",
    class: DataClass::Traffic,
    what: "Direction, who took part (by sid), cause of the end, who hung up",
    purpose: Purpose::Records,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::Contract),
    held: &["Closed.cause", "LegOpened.party"],
    carried: &[(Flow::Webhook, Form::Bare)],
};

pub static CALL_QUALITY: Field = Field {
    name: "call.quality",
    class: DataClass::Traffic,
    what: "Codec, packets, loss, jitter, quality score of each leg",
    purpose: Purpose::Records,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::LegitimateInterest),
    held: &["LegClosed.stats"],
    carried: NOWHERE,
};

pub static CONSENT: Field = Field {
    name: "recording.consent",
    class: DataClass::Traffic,
    what: "On what ground a call was recorded, and since when",
    purpose: Purpose::Recording,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::LegalObligation),
    held: &["Opened.recording"],
    carried: NOWHERE,
};

pub static AUDIO: Field = Field {
    name: "recording.audio",
    class: DataClass::Content,
    what: "What was said, as packets",
    purpose: Purpose::Recording,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::Consent),
    held: &[],
    carried: NOWHERE,
};

pub static RECORDING_TIME: Field = Field {
    name: "recording.time",
    class: DataClass::Traffic,
    what: "When a recording began and ended, and how much of it there is",
    purpose: Purpose::Recording,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::Consent),
    held: &["RecordingRecord.started_at"],
    carried: NOWHERE,
};

pub static VOICEMAIL: Field = Field {
    name: "voicemail",
    class: DataClass::Traffic,
    what: "Whose mailbox a message is in, whether it was heard, and how many there are",
    purpose: Purpose::Recording,
    retention: Retention::AsConfigured,
    basis: Some(LegalBasis::Consent),
    held: &["VoicemailRecord.heard_at"],
    carried: NOWHERE,
};

pub static SOUND: Field = Field {
    name: "account.sound",
    class: DataClass::Content,
    what: "Music on hold and greetings that an account has put to be played to its callers",
    purpose: Purpose::Administration,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &[],
    carried: NOWHERE,
};

pub static API_KEY_NAME: Field = Field {
    name: "api_key.name",
    class: DataClass::Identity,
    what: "What a key of the API is called: often a person or a machine",
    purpose: Purpose::Security,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &["ApiKey.name", "KeyVerb.name"],
    carried: NOWHERE,
};

pub static API_KEY_SECRET: Field = Field {
    name: "api_key.secret",
    class: DataClass::Credential,
    what: "What proves a key of the API, as an HMAC",
    purpose: Purpose::Security,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &["Credentials.secret", "KeyView.secret"],
    carried: NOWHERE,
};

pub static API_ANSWER: Field = Field {
    name: "api.answer",
    class: DataClass::Identity,
    what: "What the API answered under an idempotency key, to answer it again",
    purpose: Purpose::Administration,
    retention: Retention::OneDay,
    basis: Some(LegalBasis::Contract),
    held: &[],
    carried: NOWHERE,
};

pub static AUDIT_ACT: Field = Field {
    name: "audit.act",
    class: DataClass::Traffic,
    what: "Which key did what with the account by the API, and when",
    purpose: Purpose::Security,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::LegalObligation),
    held: &[],
    carried: NOWHERE,
};

pub static AUDIT_SOURCE: Field = Field {
    name: "audit.source",
    class: DataClass::Address,
    what: "From which address it was done",
    purpose: Purpose::Security,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::LegalObligation),
    held: &["NewAudit.source", "AuditRecord.source"],
    carried: NOWHERE,
};

pub static WEBHOOK_URL: Field = Field {
    name: "webhook.url",
    class: DataClass::Address,
    what: "Where an account wants to be told of events, by an address of its own",
    purpose: Purpose::Administration,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &["NewWebhook.url", "Webhook.url"],
    carried: NOWHERE,
};

pub static WEBHOOK_SECRET: Field = Field {
    name: "webhook.secret",
    class: DataClass::Credential,
    what: "What events are signed with, shared with the account",
    purpose: Purpose::Security,
    retention: Retention::UntilRemoved,
    basis: Some(LegalBasis::Contract),
    held: &[
        "NewWebhook.secret",
        "Webhook.secret",
        "WebhookNew.secret",
        "WebhookView.secret",
        "PushGateway.secret",
        "PushSender.secret",
    ],
    carried: NOWHERE,
};
