//! Messages back to bytes. Nothing a value holds can end its line: what a
//! caller put there came from somewhere, and a CR LF in it would be a header
//! of that somebody's choice.

use bytes::Bytes;

use crate::byte_str::ByteStr;
use crate::header_name::HeaderName;
use crate::headers::Headers;
use crate::message::{Message, Request, Response};
use crate::method::Method;
use crate::scan;

impl Request {
    /// Content-Length is always the body's own.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(estimate(&self.headers, &self.body) + 128);
        match &self.method {
            Method::Other(name) => {
                out.extend(name.as_bytes().iter().filter(|byte| scan::is_token_byte(**byte)));
            }
            known => out.extend_from_slice(known.as_str().as_bytes()),
        }
        out.push(b' ');
        self.uri.write_to(&mut out);
        out.extend_from_slice(b" SIP/2.0\r\n");
        finish(out, &self.headers, &self.body)
    }
}

impl Response {
    /// Content-Length is always the body's own.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(estimate(&self.headers, &self.body) + 64);
        out.extend_from_slice(b"SIP/2.0 ");
        write_number(&mut out, usize::from(self.status.code()));
        out.push(b' ');
        write_value(&mut out, self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        finish(out, &self.headers, &self.body)
    }
}

impl Message {
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

fn finish(mut out: Vec<u8>, headers: &Headers, body: &Bytes) -> Bytes {
    for (name, value) in headers.iter() {
        match name {
            HeaderName::ContentLength => continue,
            HeaderName::Other(name) if !scan::is_token(name.as_bytes()) => continue,
            HeaderName::Other(name) => out.extend_from_slice(name.as_bytes()),
            known => out.extend_from_slice(known.as_str().as_bytes()),
        }
        out.extend_from_slice(b": ");
        write_value(&mut out, value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Content-Length: ");
    write_number(&mut out, body.len());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
    Bytes::from(out)
}

fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        out.extend_from_slice(value);
        return;
    }
    out.extend(value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
}

fn write_number(out: &mut Vec<u8>, number: usize) {
    use std::io::Write;
    // Writing to a Vec does not fail.
    let _ = write!(out, "{number}");
}

fn estimate(headers: &Headers, body: &Bytes) -> usize {
    let headers: usize = headers
        .iter()
        .map(|(name, value): (&HeaderName, &ByteStr)| name.as_str().len() + value.len() + 4)
        .sum();
    headers + body.len() + 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::StatusCode;
    use crate::uri::Uri;

    #[test]
    fn no_value_can_add_a_header_or_end_the_message() {
        let evil = "x\r\nEvil: 1\r\n\r\nbody";
        let uri = Uri::parse("sip:a@b").unwrap();
        let mut request = Request::new(Method::Other("OP TIONS\r\nEvil: 1".into()), uri)
            .with_header(HeaderName::Subject, evil)
            .with_header(HeaderName::Other("X-A\r\nEvil: 1".into()), "1")
            .with_header(HeaderName::ContentLength, "99");
        request.uri.user = Some("a\r\nEvil: 1".into());
        let text = String::from_utf8(request.to_bytes().to_vec()).unwrap();
        assert_eq!(
            text,
            "OPTIONSEvil1 sip:a%0D%0AEvil:%201@b SIP/2.0\r\n\
             Subject: x  Evil: 1    body\r\nContent-Length: 0\r\n\r\n"
        );
        let response = Response::new(StatusCode::OK).with_reason(evil);
        assert!(
            response.to_bytes().starts_with(b"SIP/2.0 200 x  Evil: 1    body\r\nContent-Length")
        );
    }

    #[test]
    fn the_length_is_the_bodys_own() {
        let response = Response::new(StatusCode::OK).with_body("text/plain", "hello");
        let bytes = response.to_bytes();
        assert!(bytes.ends_with(b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"));
    }
}
