//! What can be saved of a request that does not parse, to answer it without
//! state (RFC 3261 §8.2.6, §16.3). Read leniently: this text goes nowhere but
//! back to its sender.

use bytes::Bytes;

use crate::byte_str::ByteStr;
use crate::error::{BadRequest, ParseErrorKind};
use crate::header_name::HeaderName;
use crate::limits::Limits;
use crate::parse::{self, Fault};
use crate::scan;

/// More hops than that no request has; more would be an answer larger than
/// the question.
const MAX_VIAS: usize = 70;

#[cold]
pub(crate) fn salvage(bytes: &Bytes, limits: &Limits, fault: &Fault) -> Option<Box<BadRequest>> {
    if matches!(fault.kind, ParseErrorKind::Empty) {
        return None;
    }
    let text = parse::skip_line_ends(bytes);
    let text = text.get(..limits.max_message).unwrap_or(text);
    let mut lines = Lines(text);
    let start = lines.next()?;
    // A response is never answered, nor is an ACK (§17.1.1.3).
    if is_prefix(start, b"SIP/") || is_prefix(start, b"ACK ") || !start.contains(&b' ') {
        return None;
    }
    let mut saved = BadRequest {
        status: fault.status,
        reason: reason(fault),
        via: Vec::new(),
        from: None,
        to: None,
        call_id: None,
        cseq: None,
    };
    for line in lines.take(limits.max_headers).take_while(|line| !line.is_empty()) {
        save(&mut saved, line);
    }
    // The topmost Via may be the very thing that is wrong, so its grammar is
    // not asked for: the answer can still go back the way the request came.
    (!saved.via.is_empty()).then(|| Box::new(saved))
}

fn save(saved: &mut BadRequest, line: &[u8]) {
    let Some((name, value)) =
        memchr::memchr(b':', line).and_then(|colon| line.split_at_checked(colon))
    else {
        return;
    };
    let Some(name) = HeaderName::known(scan::trim(name)) else { return };
    let value = ByteStr::from(parse::unfold(value.get(1..).unwrap_or_default()));
    let slot = match name {
        HeaderName::Via if saved.via.len() < MAX_VIAS => return saved.via.push(value),
        HeaderName::From => &mut saved.from,
        HeaderName::To => &mut saved.to,
        HeaderName::CallId => &mut saved.call_id,
        HeaderName::CSeq => &mut saved.cseq,
        _ => return,
    };
    slot.get_or_insert(value);
}

fn is_prefix(line: &[u8], prefix: &[u8]) -> bool {
    line.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// RFC 3261 §21.4.1: the phrase should say what is wrong.
fn reason(fault: &Fault) -> &'static str {
    use ParseErrorKind as Kind;
    if fault.status != crate::StatusCode::BAD_REQUEST {
        return fault.status.reason();
    }
    match (&fault.kind, &fault.header) {
        (Kind::MissingHeader, Some(HeaderName::CallId)) => "Missing Call-ID header field",
        (Kind::MissingHeader, Some(HeaderName::From)) => "Missing From header field",
        (Kind::MissingHeader, Some(HeaderName::To)) => "Missing To header field",
        (Kind::MissingHeader, Some(HeaderName::CSeq)) => "Missing CSeq header field",
        (Kind::DuplicateHeader, Some(HeaderName::ReferTo)) => "More than one Refer-To",
        (Kind::DuplicateHeader, _) => "Repeated header field",
        (Kind::ContentLength, _) => "Bad Content-Length header field",
        (Kind::StartLine, _) => "Bad request line",
        (Kind::Truncated, _) => "Truncated request",
        (Kind::HeaderSyntax, _) => "Bad header line",
        (Kind::TooLarge, _) => "Too much header",
        (_, Some(HeaderName::CSeq)) => "Bad CSeq header field",
        (_, Some(HeaderName::From)) => "Bad From header field",
        (_, Some(HeaderName::To)) => "Bad To header field",
        (_, Some(HeaderName::Via)) => "Bad Via header field",
        (_, Some(HeaderName::Contact)) => "Bad Contact header field",
        (_, Some(HeaderName::CallId)) => "Bad Call-ID header field",
        (_, Some(HeaderName::MaxForwards)) => "Bad Max-Forwards header field",
        (_, Some(HeaderName::Date)) => "Bad Date header field",
        _ => "Bad Request",
    }
}

/// Logical lines: continuations belong to the line they continue; any line
/// end counts.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let mut end = 0;
        loop {
            let rest = self.0.get(end..).unwrap_or_default();
            let Some(newline) = memchr::memchr(b'\n', rest) else {
                return Some(std::mem::take(&mut self.0));
            };
            end += newline + 1;
            // An empty line ends the headers whatever follows it.
            let empty = matches!(self.0.get(..end), Some([b'\n'] | [b'\r', b'\n']));
            if empty || !self.0.get(end).is_some_and(|byte| scan::is_space(*byte)) {
                break;
            }
        }
        let (line, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}
