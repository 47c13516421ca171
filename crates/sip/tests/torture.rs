//! One message of our own for every case of RFC 4475, in
//! `testdata/sip/torture`, and what each must get. What a server then makes of
//! a request it can read (405, 415, 416, 420 …) is the business of the layers
//! above.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;
use landline_sip::{
    Contacts, HeaderName, Limits, Message, Method, ParseError, Request, Scheme, Transport, Uri,
    parse,
};

use Expected::{Answered, Dropped, Taken, Told};

enum Expected {
    /// Reads as a request of this method.
    Taken(&'static str),
    /// Reads as a response of this code; without a transaction it is dropped.
    Told(u16),
    /// Refused, with this status to answer.
    Answered(u16),
    /// Refused without an answer.
    Dropped,
}

/// Section of RFC 4475, file, what it must get.
const MESSAGES: [(&str, &str, Expected); 49] = [
    ("3.1.1.1", "odd-white-space", Taken("INVITE")),
    ("3.1.1.2", "wide-character-range", Taken("~aLL.of-the_TOKEN!chars*0123456789+`'%")),
    ("3.1.1.3", "percent-escapes", Taken("INVITE")),
    ("3.1.1.4", "escaped-null", Taken("REGISTER")),
    ("3.1.1.5", "percent-that-escapes-nothing", Taken("RE%47ISTER")),
    ("3.1.1.6", "no-space-after-display", Taken("OPTIONS")),
    ("3.1.1.7", "long-values", Taken("INVITE")),
    ("3.1.1.8", "trailing-octets", Taken("REGISTER")),
    ("3.1.1.9", "semicolon-in-user", Taken("OPTIONS")),
    ("3.1.1.10", "unknown-transports", Taken("OPTIONS")),
    ("3.1.1.11", "multipart-binary", Taken("MESSAGE")),
    ("3.1.1.12", "utf8-reason", Told(200)),
    ("3.1.1.13", "empty-reason", Told(100)),
    ("3.1.2.1", "extra-separators", Answered(400)),
    ("3.1.2.2", "length-too-large", Answered(400)),
    ("3.1.2.3", "negative-length", Answered(400)),
    ("3.1.2.4", "overlarge-scalars-request", Answered(400)),
    ("3.1.2.5", "overlarge-scalars-response", Dropped),
    ("3.1.2.6", "open-quote", Answered(400)),
    ("3.1.2.7", "brackets-around-uri", Answered(400)),
    ("3.1.2.8", "space-in-uri", Answered(400)),
    ("3.1.2.9", "spaces-in-start-line", Answered(400)),
    ("3.1.2.10", "trailing-space-start-line", Answered(400)),
    ("3.1.2.11", "headers-in-request-uri", Answered(400)),
    ("3.1.2.12", "date-not-gmt", Answered(400)),
    ("3.1.2.13", "bare-contact-with-headers", Answered(400)),
    ("3.1.2.14", "space-inside-brackets", Answered(400)),
    ("3.1.2.15", "unquoted-display", Answered(400)),
    ("3.1.2.16", "unknown-version", Answered(505)),
    ("3.1.2.17", "cseq-method-differs", Answered(400)),
    ("3.1.2.18", "cseq-method-differs-unknown", Answered(400)),
    ("3.1.2.19", "overlarge-status", Dropped),
    ("3.2.1", "bare-cookie-branch", Taken("OPTIONS")),
    ("3.3.1", "headers-missing", Answered(400)),
    ("3.3.2", "unknown-scheme-opaque", Taken("OPTIONS")),
    ("3.3.3", "unknown-scheme-hierarchical", Taken("OPTIONS")),
    ("3.3.4", "unknown-schemes-in-headers", Taken("REGISTER")),
    ("3.3.5", "unknown-extensions-required", Taken("OPTIONS")),
    ("3.3.6", "unknown-content-type", Taken("INVITE")),
    ("3.3.7", "unknown-auth-scheme", Taken("REGISTER")),
    ("3.3.8", "single-headers-repeated", Answered(400)),
    ("3.3.9", "two-lengths", Answered(400)),
    ("3.3.10", "broadcast-response", Told(200)),
    ("3.3.11", "zero-hops", Taken("OPTIONS")),
    ("3.3.12", "contact-header-param", Taken("REGISTER")),
    ("3.3.13", "contact-uri-param", Taken("REGISTER")),
    ("3.3.14", "contact-with-escaped-headers", Taken("REGISTER")),
    ("3.3.15", "accept-without-sdp", Taken("INVITE")),
    ("3.4.1", "rfc2543-invite", Taken("INVITE")),
];

#[test]
fn every_message_gets_what_the_rfc_asks_for() {
    for (section, name, expected) in &MESSAGES {
        match (read(name), expected) {
            (Ok(Message::Request(request)), Taken(method)) => {
                assert_eq!(request.method.as_str(), *method, "{section} {name}");
            }
            (Ok(Message::Response(response)), Told(code)) => {
                assert_eq!(response.status.code(), *code, "{section} {name}");
            }
            (Err(ParseError { reply: Some(reply), .. }), Answered(status)) => {
                assert_eq!(reply.status.code(), *status, "{section} {name}");
                let answer = reply.response().to_bytes();
                assert!(answer.starts_with(format!("SIP/2.0 {status} ").as_bytes()), "{name}");
            }
            (Err(ParseError { reply: None, .. }), Dropped) => {}
            (Ok(_), _) => panic!("{section} {name} was taken"),
            (Err(error), _) => panic!("{section} {name}: {error}, reply {:?}", error.reply),
        }
    }
}

#[test]
fn the_table_and_the_directory_hold_the_same_messages() {
    let listed: BTreeSet<String> = MESSAGES.iter().map(|row| format!("{}.sip", row.1)).collect();
    let stored: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(listed, stored);
}

#[test]
fn what_was_taken_is_the_same_after_printing() {
    for (_, name, _) in &MESSAGES {
        let Ok(message) = read(name) else { continue };
        let printed = message.to_bytes();
        let again = parse(&printed, &Limits::default()).unwrap();
        assert!(again.to_bytes() == printed, "{name}");
        assert_eq!(again.body(), message.body(), "{name}");
    }
}

/// A carrier or a phone that is told its mistake must not be told by us who
/// was calling whom in a log.
#[test]
fn refusals_never_repeat_the_message() {
    for (_, name, _) in &MESSAGES {
        if let Err(error) = read(name) {
            let text = format!("{error} {error:?}");
            for word in ["walter", "vera", "landline.example", "192.0.2.40", "TELEPORT"] {
                assert!(!text.contains(word), "{name}: {text}");
            }
        }
    }
}

#[test]
fn odd_white_space_is_read_over() {
    let invite = request("odd-white-space");
    let to = invite.to().unwrap();
    assert_eq!(to.tag(), Some("7Qr"));
    assert_eq!(to.uri.to_string(), "sip:walter@landline.example");
    let from = invite.from().unwrap();
    assert!(from.display.clone().unwrap() == r#"Vera \ "V.""#);
    assert_eq!(from.tag(), Some("v4"));
    assert_eq!(invite.max_forwards(), Ok(Some(41)));
    assert_eq!(invite.cseq().unwrap().to_string(), "17 INVITE");
    let vias: Vec<_> = invite.headers.values(&HeaderName::Via).collect();
    assert_eq!(vias.len(), 3);
    let top = invite.top_via().unwrap();
    assert_eq!(top.transport.known(), Some(Transport::Tcp));
    assert_eq!((top.branch(), top.rfc3261_branch()), (Some("older-than-the-cookie"), None));
    assert!(invite.headers.get(&HeaderName::Subject).unwrap().is_empty());
    let folded = invite.headers.get(&HeaderName::parse("x-new-thing")).unwrap();
    assert!(*folded == "first part second part");
    let Ok(Contacts::List(contacts)) = invite.contacts() else { panic!("no contact") };
    assert_eq!((contacts[0].q(), contacts[0].params.get("own")), (250, Some("thing")));
    assert!(invite.routes().unwrap()[0].uri.is_loose_router());
    assert!(landline_sip::sdp::parse(&invite.body, &Limits::default()).is_ok());
}

#[test]
fn every_character_the_grammar_allows_is_kept() {
    let request = request("wide-character-range");
    assert_eq!(
        request.uri.user_decoded().as_deref(),
        Some("we!rd~(user)'s_$part,with;every/allowed?char*")
    );
    assert!(request.uri.password.clone().unwrap() == "pass&word=1+2$3,4");
    let to = request.to().unwrap();
    assert!(to.display.clone().unwrap() == "bell \u{7} nul \0 del \u{7f}");
    let from = request.from().unwrap();
    assert_eq!(from.params.get_unquoted("own'~+*_!.-%").as_deref(), Some("Δοκιμή"));
    assert_eq!(request.cseq().unwrap().method, request.method);
}

#[test]
fn escapes_are_undone_where_they_mean_something_and_nowhere_else() {
    let invite = request("percent-escapes");
    assert_eq!(invite.uri.user_decoded().as_deref(), Some("sips:walter@landline.example"));
    let plain = Uri::parse("sip:walter@landline.example").unwrap();
    assert!(invite.to().unwrap().uri.matches(&plain));
    let Ok(Contacts::List(contacts)) = invite.contacts() else { panic!("no contact") };
    assert!(contacts[0].uri.is_loose_router());

    let other = request("percent-that-escapes-nothing");
    assert_ne!(other.method, Method::Register);
    assert!(other.to().unwrap().display.unwrap() == "%5Awei %22");
    assert!(!other.headers.contains(&HeaderName::Accept));

    let null = request("escaped-null").to().unwrap();
    assert_eq!(null.uri.user_decoded().as_deref(), Some("nul-\0-inside"));
}

#[test]
fn octets_behind_the_length_are_another_matter() {
    let register = request("trailing-octets");
    assert!(register.body.is_empty());
    assert_eq!(register.headers.all(&HeaderName::Via).count(), 1);
}

#[test]
fn binary_bodies_arrive_untouched() {
    let message = request("multipart-binary");
    let kind = message.content_type().unwrap().unwrap();
    assert!(kind.is("multipart", "mixed"));
    assert_eq!(kind.params.get_unquoted("boundary").as_deref(), Some("edge-of-part"));
    let all: Vec<u8> = (0..=255).collect();
    assert!(message.body.windows(256).any(|window| window == all));
    let via = message.top_via().unwrap();
    assert_eq!(via.rport(), Some(Some(40404)));
    assert_eq!(via.received(), Some("198.51.100.4".parse().unwrap()));
}

#[test]
fn foreign_schemes_can_be_told_from_ours() {
    assert!(matches!(request("unknown-scheme-opaque").uri.scheme, Scheme::Other(_)));
    assert!(matches!(request("unknown-scheme-hierarchical").uri.scheme, Scheme::Other(_)));
    let register = request("unknown-schemes-in-headers");
    assert!(!register.to().unwrap().uri.is_sip());
    assert_eq!(register.from().unwrap().tag(), Some("c"));
}

#[test]
fn parameters_belong_to_the_contact_or_to_its_uri() {
    let contact = |name| match request(name).contacts() {
        Ok(Contacts::List(mut list)) => list.remove(0),
        other => panic!("{other:?}"),
    };
    let header = contact("contact-header-param");
    assert_eq!(header.params.get_unquoted("made-up").as_deref(), Some("of whole; cloth"));
    assert_eq!(header.uri.param("made-up"), None);
    let uri = contact("contact-uri-param");
    assert_eq!((uri.params.get("made-up"), uri.uri.param("made-up")), (None, Some("")));
    assert!(contact("contact-with-escaped-headers").uri.headers.is_some());
}

#[test]
fn an_rfc_2543_request_has_neither_branch_nor_hops() {
    let invite = request("rfc2543-invite");
    assert_eq!(invite.top_via().unwrap().rfc3261_branch(), None);
    assert_eq!(invite.max_forwards(), Ok(None));
    assert_eq!(request("bare-cookie-branch").top_via().unwrap().rfc3261_branch(), None);
    assert_eq!(request("zero-hops").max_forwards(), Ok(Some(0)));
}

fn request(name: &str) -> Request {
    match read(name) {
        Ok(Message::Request(request)) => request,
        other => panic!("{name}: {other:?}"),
    }
}

fn read(name: &str) -> Result<Message, ParseError> {
    let path = directory().join(format!("{name}.sip"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&Bytes::from(bytes), &Limits::default())
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/sip/torture")
}
