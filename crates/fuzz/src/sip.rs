use bytes::Bytes;
use landline_sip::digest::{Challenge, Credentials};
use landline_sip::{
    ByteStr, Contacts, Frame, Framer, HeaderName, Headers, Limits, Message, NameAddr, Response,
    StatusCode, Uri, Via, parse,
};

/// A datagram: what parses prints, what is printed parses to the same, and
/// every typed reading of it either works or says why not.
pub fn sip_message(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let message = match parse(&bytes, &Limits::default()) {
        Ok(message) => message,
        Err(error) => {
            if let Some(reply) = error.reply {
                let answer = reply.response().to_bytes();
                assert!(answer.starts_with(b"SIP/2.0 "), "an answer that is no response");
                one_header_section(&answer);
            }
            return;
        }
    };
    let printed = message.to_bytes();
    one_header_section(&printed);
    let again = parse(&printed, &roomy()).expect("what we print parses");
    assert!(again.to_bytes() == printed, "printing is not stable");
    assert_eq!(again.body(), message.body());
    read_all(message.headers());
    if let Message::Request(request) = &message {
        same_uri(&request.uri);
        let answer = Response::for_request(request, StatusCode::RINGING).with_to_tag("ours");
        assert!(parse(&answer.to_bytes(), &roomy()).is_ok(), "an answer of ours does not parse");
    }
}

/// A byte stream: the first byte says how to cut it, and however it is cut,
/// the same messages come out.
pub fn sip_framer(input: &[u8]) {
    let Some((chunk, stream)) = input.split_first() else { return };
    let whole = frame([stream].into_iter());
    let cut = frame(stream.chunks(usize::from(*chunk).max(1)));
    assert!(whole == cut, "the cuts of the stream moved the borders of a message");
}

/// Printing may be longer than what was read: compact names are written out.
fn roomy() -> Limits {
    let limit = 1 << 20;
    Limits {
        max_message: limit,
        max_header_len: limit,
        max_uri: limit,
        max_body: limit,
        max_headers: 1024,
        ..Limits::default()
    }
}

/// A bare CR or LF in the head would let a value end its line.
fn one_header_section(printed: &[u8]) {
    let end = printed.windows(4).position(|four| four == b"\r\n\r\n").expect("an empty line");
    let text = printed[..end].split(|byte| *byte == b'\n').enumerate();
    for (index, line) in text {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.contains(&b'\r'), "line {index} holds a CR");
        assert!(!line.is_empty(), "line {index} is empty");
    }
}

fn read_all(headers: &Headers) {
    let via = headers.top_via().expect("parse checks the Vias");
    let printed = via.to_string();
    assert_eq!(Via::parse(&printed).expect("a Via of ours").to_string(), printed);
    let _ =
        (via.branch(), via.rfc3261_branch(), via.received(), via.rport(), via.port_or_default());
    same_addr(&headers.from().expect("parse checks the From"));
    same_addr(&headers.to().expect("parse checks the To"));
    headers.cseq().expect("parse checks the CSeq");
    headers.call_id().expect("parse checks the Call-ID");
    headers.max_forwards().expect("parse checks the Max-Forwards");
    if let Ok(Contacts::List(contacts)) = headers.contacts() {
        for contact in &contacts {
            same_addr(contact);
            let _ = (contact.q(), contact.expires());
        }
    }
    for list in [headers.routes(), headers.record_routes(), headers.path()].iter().flatten() {
        list.iter().for_each(same_addr);
    }
    let _ = (headers.expires(), headers.min_expires(), headers.content_type());
    let _ = (headers.reason_header(), headers.supports("timer"), headers.requires("100rel"));
    let _ = (headers.session_expires(), headers.min_se(), headers.rseq(), headers.rack());
    for (name, value) in headers.iter() {
        headers.values(name).for_each(drop);
        headers.tokens(name).into_iter().for_each(drop);
        read_digest(name, value);
    }
    let mut popped = headers.clone();
    while popped.remove_first_value(&HeaderName::Via).is_some() {}
    assert!(!popped.contains(&HeaderName::Via));
}

fn read_digest(name: &HeaderName, value: &ByteStr) {
    match name {
        HeaderName::Authorization | HeaderName::ProxyAuthorization => {
            if let Ok(credentials) = Credentials::parse(value) {
                let again = Credentials::parse(&ByteStr::from(&credentials));
                assert!(again.is_ok_and(|again| again.to_string() == credentials.to_string()));
            }
        }
        HeaderName::WwwAuthenticate | HeaderName::ProxyAuthenticate => {
            if let Ok(challenge) = Challenge::parse(value) {
                let again = Challenge::parse(&ByteStr::from(&challenge));
                assert!(again.is_ok_and(|again| again.to_string() == challenge.to_string()));
            }
        }
        _ => {}
    }
}

fn same_addr(addr: &NameAddr) {
    let printed = ByteStr::from(addr);
    let mut headers = Headers::new();
    headers.push(HeaderName::To, printed.clone());
    let mut again = headers.to().expect("an address of ours");
    assert!(ByteStr::from(&again) == printed, "an address changes when it is printed");
    again.set_tag("ours");
    assert_eq!(again.tag(), Some("ours"));
    same_uri(&addr.uri);
}

fn same_uri(uri: &Uri) {
    assert!(uri.matches(uri), "a URI does not match itself");
    let printed = uri.to_string();
    let again = Uri::parse(&printed).expect("a URI of ours");
    assert_eq!(again.to_string(), printed);
    let _ = (uri.user_decoded(), uri.transport(), uri.port_or_default(), uri.is_loose_router());
}

fn frame<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let mut framer = Framer::new(Limits::default());
    let mut messages = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        loop {
            match framer.next() {
                Ok(Some(Frame::Message(message))) => messages.push(message),
                // Whether two line ends are one ping or two pongs depends on
                // how they arrive.
                Ok(Some(Frame::KeepAlivePing | Frame::KeepAlivePong)) => {}
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
    }
    messages
}
