//! One pass over the buffer: start line, headers, body.
//!
//! A message that parses has been checked as far as every element relies on
//! it: each of Via, From, To, Call-ID and CSeq is there and follows its
//! grammar, what may stand once stands once, and the body's length is beyond
//! doubt. Other headers are read when they are asked for ([`crate::typed`]).

use bytes::Bytes;

use crate::byte_str::ByteStr;
use crate::error::{ParseError, ParseErrorKind};
use crate::header_name::HeaderName;
use crate::headers::Headers;
use crate::limits::Limits;
use crate::message::{Message, Request, Response};
use crate::method::Method;
use crate::name_addr;
use crate::salvage;
use crate::scan;
use crate::status::StatusCode;
use crate::typed;
use crate::uri::Uri;
use crate::via;

/// Reads one datagram, or one message that [`crate::Framer`] cut out of a
/// stream. Bytes behind the Content-Length are ignored, and without one the
/// body is the rest (RFC 3261 §18.3).
pub fn parse(bytes: &Bytes, limits: &Limits) -> Result<Message, ParseError> {
    parse_checked(bytes, limits).map_err(|fault| ParseError {
        kind: fault.kind,
        reply: salvage::salvage(bytes, limits, &fault),
        detail: fault.detail(),
    })
}

/// Why a message is refused, before it is known whether it can be answered.
pub(crate) struct Fault {
    pub(crate) kind: ParseErrorKind,
    pub(crate) header: Option<HeaderName>,
    pub(crate) problem: &'static str,
    pub(crate) status: StatusCode,
}

impl Fault {
    pub(crate) fn new(kind: ParseErrorKind, problem: &'static str) -> Self {
        Self { kind, header: None, problem, status: StatusCode::BAD_REQUEST }
    }

    fn at(kind: ParseErrorKind, header: HeaderName, problem: &'static str) -> Self {
        Self { kind, header: Some(header), problem, status: StatusCode::BAD_REQUEST }
    }

    fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    fn detail(&self) -> String {
        match &self.header {
            Some(header) => format!("{header}: {}", self.problem),
            None => self.problem.to_owned(),
        }
    }
}

fn parse_checked(bytes: &Bytes, limits: &Limits) -> Result<Message, Fault> {
    use ParseErrorKind as Kind;
    let text = skip_line_ends(bytes);
    if text.is_empty() {
        return Err(Fault::new(Kind::Empty, "the message holds nothing but line ends"));
    }
    if text.len() > limits.max_message {
        return Err(Fault::new(Kind::TooLarge, "the message is larger than we take")
            .status(StatusCode::MESSAGE_TOO_LARGE));
    }
    let whole = ByteStr::from(bytes.clone());
    let (line, rest) = line(text)?;
    let start = StartLine::read(&whole, line, limits)?;
    let mut reader = HeaderReader::new(&whole, limits, &start);
    let body = reader.read_all(rest)?;
    let body = reader.body(body)?;
    let body = bytes.slice_ref(body);
    let headers = reader.finish()?;
    Ok(match start {
        StartLine::Request { method, uri } => {
            Message::Request(Request { method, uri, headers, body })
        }
        StartLine::Response { status, reason } => {
            Message::Response(Response { status, reason, headers, body })
        }
    })
}

/// RFC 3261 §7.5: line ends in front of a message are read over.
pub(crate) fn skip_line_ends(mut text: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = text {
        text = rest;
    }
    text
}

#[allow(clippy::large_enum_variant, reason = "lives for one parse, on the stack")]
enum StartLine {
    Request { method: Method, uri: Uri },
    Response { status: StatusCode, reason: ByteStr },
}

impl StartLine {
    fn read(whole: &ByteStr, line: &[u8], limits: &Limits) -> Result<Self, Fault> {
        match line.get(..4) {
            Some(b"SIP/") => Self::read_status_line(whole, line),
            _ => Self::read_request_line(whole, line, limits),
        }
    }

    /// Exactly one space between the three parts (§7.1), none inside the URI.
    fn read_request_line(whole: &ByteStr, line: &[u8], limits: &Limits) -> Result<Self, Fault> {
        let fault = |problem| Fault::new(ParseErrorKind::StartLine, problem);
        let malformed = || fault("the request line is not method, URI and version");
        let (method, rest) = split_at_space(line).ok_or_else(malformed)?;
        let version_at = memchr::memrchr(b' ', rest).ok_or_else(malformed)?;
        let (uri, version) = rest.split_at_checked(version_at).ok_or_else(malformed)?;
        check_version(version.get(1..).unwrap_or_default())?;
        let method = Method::from_text(&whole.part(method))
            .ok_or_else(|| fault("the method is no token"))?;
        if uri.len() > limits.max_uri {
            return Err(fault("the Request-URI is longer than we take")
                .status(StatusCode::REQUEST_URI_TOO_LONG));
        }
        let uri =
            Uri::from_text(&whole.part(uri)).map_err(|_| fault("the Request-URI is malformed"))?;
        // §19.1.1: headers are not allowed here; taking them would let a URI
        // write into our requests.
        if uri.is_sip() && uri.headers.is_some() {
            return Err(fault("the Request-URI holds headers"));
        }
        Ok(Self::Request { method, uri })
    }

    fn read_status_line(whole: &ByteStr, line: &[u8]) -> Result<Self, Fault> {
        let malformed = || {
            Fault::new(ParseErrorKind::StartLine, "the status line is not version, code and reason")
        };
        let (version, rest) = split_at_space(line).ok_or_else(malformed)?;
        check_version(version)?;
        let (code, reason) = split_at_space(rest).unwrap_or((rest, &[]));
        let status = scan::number(code)
            .filter(|_| code.len() == 3)
            .and_then(StatusCode::new)
            .ok_or_else(malformed)?;
        Ok(Self::Response { status, reason: whole.part(reason) })
    }
}

fn split_at_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (word, rest) = text.split_at_checked(memchr::memchr(b' ', text)?)?;
    Some((word, rest.get(1..)?))
}

fn check_version(version: &[u8]) -> Result<(), Fault> {
    if version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Ok(());
    }
    let is_digit = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let is_sip = version.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"SIP/"));
    let mut numbers = version.get(4..).unwrap_or_default().splitn(2, |byte| *byte == b'.');
    if is_sip && numbers.next().is_some_and(is_digit) && numbers.next().is_some_and(is_digit) {
        return Err(Fault::new(ParseErrorKind::Version, "the SIP version is not 2.0")
            .status(StatusCode::VERSION_NOT_SUPPORTED));
    }
    Err(Fault::new(ParseErrorKind::StartLine, "the start line does not name a SIP version"))
}

/// The line at the start of `text` without its CR LF, and what follows. A bare
/// LF or a CR inside is refused: elements disagree on whether it ends a line,
/// and one could be shown a header that the other does not see.
fn line(text: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = memchr::memchr(b'\n', text)
        .ok_or(Fault::new(ParseErrorKind::Truncated, "the header section does not end"))?;
    let (line, rest) = text.split_at_checked(end).unwrap_or_default();
    match line {
        [line @ .., b'\r'] if memchr::memchr(b'\r', line).is_none() => {
            Ok((line, rest.get(1..).unwrap_or_default()))
        }
        _ => Err(Fault::new(ParseErrorKind::HeaderSyntax, "a line does not end in CR LF")),
    }
}

struct HeaderReader<'a> {
    whole: &'a ByteStr,
    limits: &'a Limits,
    method: Option<&'a Method>,
    headers: Headers,
    seen: u32,
    content_length: Option<usize>,
}

impl<'a> HeaderReader<'a> {
    fn new(whole: &'a ByteStr, limits: &'a Limits, start: &'a StartLine) -> Self {
        let method = match start {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => None,
        };
        let headers = Headers::with_capacity(24.min(limits.max_headers));
        Self { whole, limits, method, headers, seen: 0, content_length: None }
    }

    /// Returns what follows the empty line.
    fn read_all(&mut self, mut rest: &'a [u8]) -> Result<&'a [u8], Fault> {
        loop {
            let start = rest;
            let (first, mut next) = line(rest)?;
            if first.is_empty() {
                return Ok(next);
            }
            if first.first().is_some_and(|byte| scan::is_space(*byte)) {
                return Err(syntax("the first header line is a continuation"));
            }
            // §7.3.1: a line that begins with white space continues the one
            // before it.
            let mut last = first;
            while next.first().is_some_and(|byte| scan::is_space(*byte)) {
                (last, next) = line(next)?;
            }
            let folded = last.as_ptr() != first.as_ptr();
            let length = start.len() - next.len() - 2;
            if length > self.limits.max_header_len || self.headers.len() == self.limits.max_headers
            {
                return Err(Fault::new(
                    ParseErrorKind::TooLarge,
                    "a header is too long, or they are too many",
                ));
            }
            let logical = start.get(..length).unwrap_or_default();
            self.read(logical, folded)?;
            rest = next;
        }
    }

    fn read(&mut self, logical: &[u8], folded: bool) -> Result<(), Fault> {
        let colon = memchr::memchr(b':', logical).ok_or(syntax("a line has no colon"))?;
        let (name, value) = logical.split_at_checked(colon).unwrap_or_default();
        let name = scan::trim_end(name);
        let value = value.get(1..).unwrap_or_default();
        let name = match HeaderName::known(name) {
            Some(known) => known,
            None if scan::is_token(name) => HeaderName::Other(self.whole.part(name)),
            None => return Err(syntax("a header's name is no token")),
        };
        let value = match folded {
            false => self.whole.part(scan::trim(value)),
            true => ByteStr::from(unfold(value)),
        };
        self.check(&name, value.as_bytes())?;
        self.headers.push(name, value);
        Ok(())
    }

    fn check(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Fault> {
        let bad = |problem| Fault::at(ParseErrorKind::HeaderValue, name.clone(), problem);
        if let Some(bit) = single(name) {
            if self.seen & bit != 0 {
                return Err(Fault::at(
                    ParseErrorKind::DuplicateHeader,
                    name.clone(),
                    "it stands twice",
                ));
            }
            self.seen |= bit;
        }
        match name {
            HeaderName::Via => {
                self.seen |= VIA;
                each_value(value, via::check).map_err(bad)
            }
            HeaderName::From | HeaderName::To => name_addr::check(value).map_err(bad),
            HeaderName::Contact => match value {
                b"" | b"*" => Ok(()),
                list => each_value(list, name_addr::check).map_err(bad),
            },
            HeaderName::CallId => match value.iter().any(|byte| scan::is_space(*byte)) {
                false if !value.is_empty() => Ok(()),
                _ => Err(bad("it is empty or holds white space")),
            },
            HeaderName::CSeq => self.check_cseq(value).map_err(bad),
            HeaderName::MaxForwards => match scan::number::<u8>(value) {
                Some(_) => Ok(()),
                None => Err(bad("it is not a number up to 255")),
            },
            HeaderName::ContentLength => match scan::number::<usize>(value) {
                Some(length) => {
                    self.content_length = Some(length);
                    Ok(())
                }
                None => Err(Fault::at(
                    ParseErrorKind::ContentLength,
                    name.clone(),
                    "it is not a number",
                )),
            },
            // §20.17: the only time zone is GMT (RFC 4475 §3.1.2.12).
            HeaderName::Date if !value.ends_with(b" GMT") => Err(bad("its time zone is not GMT")),
            _ => Ok(()),
        }
    }

    fn check_cseq(&self, value: &[u8]) -> Result<(), &'static str> {
        let (_, method) = typed::split_cseq(value)?;
        if !scan::is_token(method) {
            return Err("its method is no token");
        }
        match self.method {
            Some(expected) if expected.as_str().as_bytes() != method => {
                Err("its method is not the request's")
            }
            _ => Ok(()),
        }
    }

    /// RFC 3261 §18.3.
    fn body(&self, rest: &'a [u8]) -> Result<&'a [u8], Fault> {
        let body = match self.content_length {
            None => rest,
            Some(length) => rest.get(..length).ok_or(Fault::at(
                ParseErrorKind::ContentLength,
                HeaderName::ContentLength,
                "the body is shorter",
            ))?,
        };
        if body.len() > self.limits.max_body {
            return Err(Fault::new(ParseErrorKind::TooLarge, "the body is larger than we take")
                .status(StatusCode::REQUEST_ENTITY_TOO_LARGE));
        }
        Ok(body)
    }

    /// §8.1.1 has every request hold these; a missing Max-Forwards is forgiven
    /// for RFC 2543's sake (RFC 4475 §3.1.1.13 is such a message).
    fn finish(self) -> Result<Headers, Fault> {
        for name in [
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::CSeq,
            HeaderName::Via,
        ] {
            let bit = single(&name).unwrap_or(VIA);
            if self.seen & bit == 0 {
                return Err(Fault::at(ParseErrorKind::MissingHeader, name, "it is missing"));
            }
        }
        Ok(self.headers)
    }
}

const VIA: u32 = 1 << 31;

/// A bit for each header that may stand once. The message is refused when it
/// stands twice: whoever reads the other one reads another message.
fn single(name: &HeaderName) -> Option<u32> {
    Some(match name {
        HeaderName::From => 1,
        HeaderName::To => 1 << 1,
        HeaderName::CallId => 1 << 2,
        HeaderName::CSeq => 1 << 3,
        HeaderName::MaxForwards => 1 << 4,
        HeaderName::ContentLength => 1 << 5,
        HeaderName::ContentType => 1 << 6,
        HeaderName::Expires => 1 << 7,
        HeaderName::Event => 1 << 8,
        HeaderName::ReferTo => 1 << 9,
        HeaderName::Replaces => 1 << 10,
        HeaderName::SessionExpires => 1 << 11,
        HeaderName::MinSe => 1 << 12,
        HeaderName::RSeq => 1 << 13,
        HeaderName::RAck => 1 << 14,
        HeaderName::Date => 1 << 15,
        HeaderName::MinExpires => 1 << 16,
        _ => return None,
    })
}

fn syntax(problem: &'static str) -> Fault {
    Fault::new(ParseErrorKind::HeaderSyntax, problem)
}

fn each_value(
    list: &[u8],
    check: impl Fn(&[u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let mut rest = Some(list);
    while let Some(current) = rest {
        let (value, next) = scan::split_first(current, b',');
        check(scan::trim(value))?;
        rest = next;
    }
    Ok(())
}

/// Each line end with the white space around it becomes one space (§7.3.1).
pub(crate) fn unfold(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for line in value.split(|byte| *byte == b'\n') {
        let line = scan::trim(line.strip_suffix(b"\r").unwrap_or(line));
        if !out.is_empty() && !line.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(line);
    }
    out
}
