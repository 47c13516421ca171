use std::fmt;

use crate::byte_str::ByteStr;
use crate::header_name::HeaderName;
use crate::headers::Headers;
use crate::message::Response;
use crate::status::StatusCode;

/// Why [`crate::parse`] refused a message. Its text names the place, and never
/// repeats what the sender wrote there: that may be personal data.
#[derive(Debug, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct ParseError {
    pub kind: ParseErrorKind,
    pub detail: String,
    /// What is needed to answer without state; `None` for a response, for an
    /// ACK, and when no Via says where to.
    pub reply: Option<Box<BadRequest>>,
}

/// For counters: one name per kind, whatever the sender does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParseErrorKind {
    /// Nothing but line ends: a keep-alive, or noise.
    Empty,
    /// No line end, or the header section does not end.
    Truncated,
    StartLine,
    Version,
    /// A line without a colon, a name that is no token, a stray CR or LF.
    HeaderSyntax,
    /// A header that every message has is not there.
    MissingHeader,
    /// A header that may stand once stands twice: peers that pick different
    /// ones can be played against each other.
    DuplicateHeader,
    /// A header every element must understand does not follow its grammar.
    HeaderValue,
    ContentLength,
    TooLarge,
}

impl ParseErrorKind {
    pub const ALL: [Self; 10] = [
        Self::Empty,
        Self::Truncated,
        Self::StartLine,
        Self::Version,
        Self::HeaderSyntax,
        Self::MissingHeader,
        Self::DuplicateHeader,
        Self::HeaderValue,
        Self::ContentLength,
        Self::TooLarge,
    ];

    /// For a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::StartLine => "start_line",
            Self::Version => "version",
            Self::HeaderSyntax => "header_syntax",
            Self::MissingHeader => "missing_header",
            Self::DuplicateHeader => "duplicate_header",
            Self::HeaderValue => "header_value",
            Self::ContentLength => "content_length",
            Self::TooLarge => "too_large",
        }
    }
}

impl fmt::Display for ParseErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What could be saved of a malformed request, to answer it without state.
#[derive(Clone, Debug)]
pub struct BadRequest {
    pub status: StatusCode,
    /// A reason phrase that names the culprit header, as RFC 3261 §21.4.1 asks.
    pub reason: &'static str,
    /// Via values, topmost first; never empty. The topmost one may not parse.
    pub via: Vec<ByteStr>,
    pub from: Option<ByteStr>,
    pub to: Option<ByteStr>,
    pub call_id: Option<ByteStr>,
    pub cseq: Option<ByteStr>,
}

impl BadRequest {
    /// The answer, without a To tag of ours: the request may have had none
    /// that can be read.
    pub fn response(&self) -> Response {
        let mut headers = Headers::with_capacity(self.via.len() + 5);
        for via in &self.via {
            headers.push(HeaderName::Via, via.clone());
        }
        let saved = [
            (HeaderName::From, &self.from),
            (HeaderName::To, &self.to),
            (HeaderName::CallId, &self.call_id),
            (HeaderName::CSeq, &self.cseq),
        ];
        for (name, value) in saved {
            if let Some(value) = value {
                headers.push(name, value.clone());
            }
        }
        Response {
            status: self.status,
            reason: ByteStr::from_static(self.reason),
            headers,
            body: bytes::Bytes::new(),
        }
    }
}

/// A header that is missing or does not follow its grammar, found when it was
/// asked for.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{header}: {problem}")]
pub struct HeaderError {
    pub header: HeaderName,
    pub problem: &'static str,
}

impl fmt::Debug for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
