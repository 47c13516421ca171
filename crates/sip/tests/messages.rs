//! Reading whole messages: what is refused, what is forgiven, and what an
//! answer to a refused one holds.

use bytes::Bytes;
use landline_sip::{
    HeaderName, Limits, Message, ParseError, ParseErrorKind as Kind, Request, parse,
};

const HEAD: &str = "OPTIONS sip:bob@acme.test SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
From: <sip:alice@acme.test>;tag=1\r\n\
To: <sip:bob@acme.test>\r\n\
Call-ID: c1\r\n\
CSeq: 1 OPTIONS\r\n";

#[test]
fn two_of_what_may_stand_once_are_refused() {
    for (name, line) in [
        ("Content-Length", "Content-Length: 0\r\nl: 0"),
        ("From", "f: <sip:mallory@acme.test>;tag=1"),
        ("To", "To: <sip:bob@acme.test>"),
        ("Call-ID", "i: c1"),
        ("CSeq", "cseq: 1 OPTIONS"),
        ("Max-Forwards", "Max-Forwards: 70\r\nMAX-FORWARDS: 70"),
        ("Content-Type", "Content-Type: application/sdp\r\nc: text/plain"),
    ] {
        let error = refused(&format!("{HEAD}{line}\r\n\r\n"));
        assert_eq!(error.kind, Kind::DuplicateHeader, "{name}");
        assert!(error.detail.starts_with(name), "{name}: {}", error.detail);
        assert_eq!(status(&error), Some(400));
    }
}

#[test]
fn a_length_in_doubt_is_refused() {
    for length in ["-1", "+1", "1, 1", "1 1", "0x1", "", "99999999999999999999", "6"] {
        let error = refused(&format!("{HEAD}Content-Length: {length}\r\n\r\nhello"));
        assert_eq!((error.kind, status(&error)), (Kind::ContentLength, Some(400)), "{length:?}");
    }
}

#[test]
fn the_body_is_what_the_length_says_or_the_rest() {
    let body = |text: &str| taken(text).body;
    assert_eq!(body(&format!("{HEAD}Content-Length: 2\r\n\r\nhello")), "he");
    assert_eq!(body(&format!("{HEAD}Content-Length: 5\r\n\r\nhello")), "hello");
    assert_eq!(body(&format!("{HEAD}\r\nhello")), "hello");
}

/// Elements disagree on whether these end a line, so one of them could be
/// shown a header that the other does not see.
#[test]
fn bare_line_ends_are_refused() {
    for line in ["X: a\nY: b\r\n", "X: a\rY: b\r\n", "X: a\r\r\n", "X: a\n b\r\n"] {
        let error = refused(&format!("{HEAD}{line}\r\n"));
        assert_eq!((error.kind, status(&error)), (Kind::HeaderSyntax, Some(400)), "{line:?}");
    }
    assert_eq!(refused(&HEAD.replace("\r\n", "\n")).kind, Kind::HeaderSyntax);
}

#[test]
fn lines_that_are_no_headers_are_refused() {
    for line in ["no colon", ": no name", "two words: x", "b\u{e4}d: x", " : x", "\"q\": x"] {
        let text = format!("OPTIONS sip:b@a SIP/2.0\r\n{line}\r\n{}\r\n", &HEAD[35..]);
        assert_eq!(refused(&text).kind, Kind::HeaderSyntax, "{line:?}");
    }
}

#[test]
fn line_ends_in_front_of_a_message_are_read_over() {
    assert_eq!(taken(&format!("\r\n\r\n\r\n{HEAD}\r\n")).method.as_str(), "OPTIONS");
}

#[test]
fn noise_is_not_answered() {
    for noise in ["", "\r\n", "\r\n\r\n", "\0", "x", "hello\r\n\r\n", "\u{16}\u{3}\u{1}\0"] {
        let error = refused(noise);
        assert!(error.reply.is_none(), "{noise:?}");
    }
    assert_eq!(refused("\r\n\r\n").kind, Kind::Empty);
    assert_eq!(refused(&HEAD[..100]).kind, Kind::Truncated);
}

/// RFC 3261 §17.1.1.3 and §8.1.3: an ACK and a response get no response.
#[test]
fn a_bad_ack_or_response_is_not_answered() {
    let bad = format!("{HEAD}Content-Length: -1\r\n\r\n");
    assert!(refused(&bad).reply.is_some());
    assert!(refused(&bad.replace("OPTIONS", "ACK")).reply.is_none());
    let response = bad.replace("OPTIONS sip:bob@acme.test SIP/2.0", "SIP/2.0 200 OK");
    assert!(refused(&response).reply.is_none());
}

#[test]
fn an_answer_carries_back_what_the_request_brought() {
    let text = HEAD
        .replace("CSeq: 1 OPTIONS", "CSeq: 1\r\n  INVITE")
        .replace("From: ", "Via: SIP/2.0/TCP b;branch=z2, SIP/2.0/TCP c\r\nf : ");
    let error = refused(&format!("{text}\r\n"));
    let answer = error.reply.unwrap().response().to_bytes();
    assert_eq!(
        std::str::from_utf8(&answer).unwrap(),
        "SIP/2.0 400 Bad CSeq header field\r\n\
         Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
         Via: SIP/2.0/TCP b;branch=z2, SIP/2.0/TCP c\r\n\
         From: <sip:alice@acme.test>;tag=1\r\n\
         To: <sip:bob@acme.test>\r\n\
         Call-ID: c1\r\n\
         CSeq: 1 INVITE\r\n\
         Content-Length: 0\r\n\r\n"
    );
}

#[test]
fn every_size_has_its_limit_and_its_answer() {
    let limits = Limits {
        max_message: 4096,
        max_headers: 10,
        max_header_len: 512,
        max_uri: 64,
        max_body: 1000,
        ..Limits::default()
    };
    let long = "x".repeat(600);
    for (text, expected) in [
        (format!("{HEAD}\r\n{}", "b".repeat(4096)), 513),
        (format!("{HEAD}\r\n{}", "b".repeat(1001)), 413),
        (format!("{HEAD}X: {long}\r\n\r\n"), 400),
        (format!("{HEAD}X: {}\r\n\r\n", "a\r\n b".repeat(120)), 400),
        (format!("{HEAD}{}\r\n", "X: y\r\n".repeat(6)), 400),
        (format!("{}\r\n", HEAD.replace("sip:bob@", &format!("sip:{}@", "b".repeat(64)))), 414),
    ] {
        let error = parse(&Bytes::from(text), &limits).unwrap_err();
        assert_eq!(status(&error), Some(expected), "{error}");
    }
    assert!(
        parse(&Bytes::from(format!("{HEAD}X: y\r\n\r\n{}", "b".repeat(1000))), &limits).is_ok()
    );
}

#[test]
fn other_versions_and_broken_start_lines_are_told_apart() {
    for (line, expected) in [
        ("OPTIONS sip:b@a SIP/3.0", 505),
        ("OPTIONS sip:b@a SIP/2.1", 505),
        ("OPTIONS sip:b@a SIP/x", 400),
        ("OPTIONS sip:b@a HTTP/1.1", 400),
        ("OPTIONS sip:b@a", 400),
        ("OPTIONS  SIP/2.0", 400),
        ("OPT(IONS sip:b@a SIP/2.0", 400),
        (" OPTIONS sip:b@a SIP/2.0", 400),
    ] {
        let error = refused(&format!("{line}\r\n{}\r\n", &HEAD[35..]));
        assert_eq!(status(&error), Some(expected), "{line}");
    }
    assert!(taken(&format!("{HEAD}\r\n").replace("SIP/2.0\r\n", "sip/2.0\r\n")).uri.is_sip());
}

#[test]
fn status_codes_stay_within_their_range() {
    let response = |line: &str| {
        parse(&Bytes::from(format!("{line}\r\n{}\r\n", &HEAD[35..])), &Limits::default())
    };
    for bad in
        ["SIP/2.0 099 x", "SIP/2.0 700 x", "SIP/2.0 1000 x", "SIP/2.0 -20 x", "SIP/2.0  200 x"]
    {
        assert!(response(bad).is_err(), "{bad}");
    }
    for good in ["SIP/2.0 200 ", "SIP/2.0 200", "SIP/2.0 699 anything: at all"] {
        assert!(response(good).is_ok(), "{good}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_cost_nothing_but_themselves() {
    let mut bytes = HEAD.as_bytes().to_vec();
    bytes.extend_from_slice(b"Subject: caf\xe9\r\nX-\x41fter: here\r\n\r\n");
    let Ok(Message::Request(request)) = parse(&Bytes::from(bytes), &Limits::default()) else {
        panic!("refused")
    };
    assert_eq!(request.headers.get(&HeaderName::Subject).unwrap().as_bytes(), b"caf\xe9");
    assert!(request.headers.contains(&HeaderName::parse("X-After")));
    assert!(request.to_bytes().windows(15).any(|part| part == b"Subject: caf\xe9\r\n"));
}

#[test]
fn unknown_headers_keep_their_place_and_name() {
    let request = taken(&format!("{HEAD}X-First: 1\r\nk: timer\r\nx-second:2\r\n\r\n"));
    let text = String::from_utf8(request.to_bytes().to_vec()).unwrap();
    assert!(
        text.ends_with(
            "X-First: 1\r\nSupported: timer\r\nx-second: 2\r\nContent-Length: 0\r\n\r\n"
        )
    );
}

#[test]
fn header_values_are_slices_of_the_datagram() {
    let bytes = Bytes::from(format!("{HEAD}\r\nbody"));
    let Ok(Message::Request(request)) = parse(&bytes, &Limits::default()) else { panic!() };
    let inside = |part: &[u8]| bytes.as_ptr_range().contains(&part.as_ptr());
    assert!(request.headers.iter().all(|(_, value)| inside(value.as_bytes())));
    assert!(inside(&request.body));
}

fn taken(text: &str) -> Request {
    match parse(&Bytes::copy_from_slice(text.as_bytes()), &Limits::default()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn refused(text: &str) -> ParseError {
    match parse(&Bytes::copy_from_slice(text.as_bytes()), &Limits::default()) {
        Ok(_) => panic!("{text:?} was taken"),
        Err(error) => error,
    }
}

fn status(error: &ParseError) -> Option<u16> {
    error.reply.as_ref().map(|reply| reply.status.code())
}
