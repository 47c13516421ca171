//! What a SIP message says when it crosses from region to region: the egress
//! gate judges it by its header fields and its body, and an edge leaves off what
//! nobody declared, so that a client's own header fields do not stop its calls.

use bytes::Bytes;
use landline_region::egress::Carried;
use landline_region::egress::signalling::{MESSAGE, UNDECLARED, body, header};
use landline_sip::{HeaderName, Headers, Limits, Message, Method, Request, Response, parse};

/// The declared fields in a message as it is sent. What cannot be read as SIP
/// is undeclared, but for keep-alives (RFC 5626 §3.5.1), which say nothing.
pub fn carried(message: &Bytes) -> Vec<Carried> {
    if message.iter().all(|octet| matches!(octet, b'\r' | b'\n')) {
        return Vec::new();
    }
    match parse(message, &Limits::default()) {
        Ok(Message::Request(Request { method, headers, body, .. })) => {
            fields(Some(&method), &headers, &body)
        }
        Ok(Message::Response(Response { headers, body, .. })) => fields(None, &headers, &body),
        Err(_) => UNDECLARED.to_vec(),
    }
}

fn fields(method: Option<&Method>, headers: &Headers, content: &Bytes) -> Vec<Carried> {
    let mut found: Vec<Carried> = Vec::with_capacity(16);
    let said = headers.iter().flat_map(|(name, _)| header(name.as_str()));
    for field in said.chain(of_body(method, headers, content)) {
        if !found.contains(field) {
            found.push(*field);
        }
    }
    found
}

/// Of a request with this method, or of a response.
fn of_body(method: Option<&Method>, headers: &Headers, content: &Bytes) -> &'static [Carried] {
    match method {
        _ if content.is_empty() => &[],
        // Whatever its Content-Type: what somebody writes to somebody.
        Some(Method::Message) => MESSAGE,
        _ => body(&headers.get(&HeaderName::ContentType).map_or("".into(), |it| it.to_str_lossy())),
    }
}

/// Whether a body may cross.
pub(crate) fn has_declared_body(
    method: Option<&Method>,
    headers: &Headers,
    content: &Bytes,
) -> bool {
    of_body(method, headers, content) != UNDECLARED
}

/// Takes off the header fields that may not cross; how many there were.
pub(crate) fn withhold(headers: &mut Headers) -> u64 {
    headers.retain(|name| header(name.as_str()) != UNDECLARED) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use landline_region::catalogue::fields::{CALLER, MEDIA_ADDRESS, MESSAGE_TEXT, SIP_UNDECLARED};

    fn names(message: &str) -> Vec<&'static str> {
        carried(&Bytes::from(message.replace('\n', "\r\n"))).iter().map(|it| it.0.name).collect()
    }

    const START: &str = "INFO sip:a@b.test SIP/2.0\nVia: SIP/2.0/TLS h;branch=z9hG4bKx\n\
        From: <sip:c@b.test>;tag=1\nTo: <sip:a@b.test>\nCall-ID: x\nCSeq: 1 INFO\nMax-Forwards: 70\n";

    #[test]
    fn a_message_is_known_by_what_it_says() {
        let plain = names(&format!("{START}\n"));
        assert!(plain.contains(&CALLER.name), "{plain:?}");
        assert!(!plain.contains(&SIP_UNDECLARED.name) && !plain.contains(&MEDIA_ADDRESS.name));
        let sdp = format!("{START}Content-Type: application/sdp\nContent-Length: 5\n\nv=0\n");
        assert!(names(&sdp).contains(&MEDIA_ADDRESS.name));
        assert!(names("\n\n").is_empty());
        let text = format!("{START}Content-Type: text/plain\nContent-Length: 4\n\nhi\n");
        let page = text.replacen("INFO", "MESSAGE", 1).replace("1 INFO", "1 MESSAGE");
        assert!(names(&page).contains(&MESSAGE_TEXT.name), "{:?}", names(&page));
        assert!(!names(&page).contains(&SIP_UNDECLARED.name));
        for undeclared in [
            format!("{START}X-Customer: 7\n\n"),
            format!("{START}s: Your results\n\n"),
            format!("{START}Content-Type: text/plain\nContent-Length: 4\n\nhi\n"),
            "no SIP".to_owned(),
        ] {
            assert!(names(&undeclared).contains(&SIP_UNDECLARED.name), "{undeclared}");
        }
    }
}
