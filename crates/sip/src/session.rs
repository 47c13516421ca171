//! What the header fields of session timers (RFC 4028) and of reliable
//! provisional responses (RFC 3262) say.

use std::fmt;

use crate::byte_str::ByteStr;
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::headers::Headers;
use crate::params::{self, Params};
use crate::scan;
use crate::typed::CSeq;

/// RFC 4028 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires {
    pub seconds: u32,
    pub refresher: Option<Refresher>,
}

/// Who refreshes, by the roles in the transaction that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    Uac,
    Uas,
}

/// Which provisional response a PRACK acknowledges (RFC 3262 §7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RAck {
    pub rseq: u32,
    /// Of the request that the response is to.
    pub cseq: CSeq,
}

impl SessionExpires {
    fn from_text(text: &ByteStr) -> Result<Self, &'static str> {
        let bytes = text.as_bytes();
        let end = memchr::memchr(b';', bytes).unwrap_or(bytes.len());
        let (seconds, parameters) = bytes.split_at_checked(end).unwrap_or_default();
        params::check(parameters).map_or(Ok(()), Err)?;
        let seconds = scan::number(scan::trim(seconds)).ok_or("it is not a number of seconds")?;
        let parameters = Params::from_checked(text.part(parameters));
        let refresher = match parameters.get("refresher") {
            Some(role) if role.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            Some(role) if role.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            _ => None,
        };
        Ok(Self { seconds, refresher })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seconds)?;
        match self.refresher {
            Some(Refresher::Uac) => f.write_str(";refresher=uac"),
            Some(Refresher::Uas) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

impl RAck {
    fn from_text(text: &ByteStr) -> Result<Self, &'static str> {
        let bytes = text.as_bytes();
        let end = bytes.iter().position(|byte| scan::is_space(*byte));
        let (rseq, cseq) = bytes.split_at_checked(end.unwrap_or(0)).unwrap_or_default();
        let rseq = scan::number(rseq).ok_or("its number is not within 32 bits")?;
        let cseq = CSeq::from_text(&text.part(scan::trim(cseq)))?;
        Ok(Self { rseq, cseq })
    }
}

impl fmt::Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rseq, self.cseq)
    }
}

impl Headers {
    pub fn session_expires(&self) -> Result<Option<SessionExpires>, HeaderError> {
        let header = HeaderName::SessionExpires;
        let value = self.get(&header).map(SessionExpires::from_text);
        value.transpose().map_err(|problem| HeaderError { header, problem })
    }

    /// Seconds (RFC 4028 §5); its parameters mean nothing.
    pub fn min_se(&self) -> Result<Option<u32>, HeaderError> {
        let header = HeaderName::MinSe;
        let value = self.get(&header).map(SessionExpires::from_text).transpose();
        value
            .map(|value| value.map(|value| value.seconds))
            .map_err(|problem| HeaderError { header, problem })
    }

    /// Of a reliable provisional response (RFC 3262 §7.1).
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.number(HeaderName::RSeq)
    }

    pub fn rack(&self) -> Result<RAck, HeaderError> {
        let header = HeaderName::RAck;
        let value = self.get(&header).ok_or("it is missing").and_then(RAck::from_text);
        value.map_err(|problem| HeaderError { header, problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Method;

    fn with(name: HeaderName, value: &str) -> Headers {
        let mut headers = Headers::new();
        headers.push(name, value);
        headers
    }

    #[test]
    fn an_interval_is_read_with_who_refreshes() {
        for (text, seconds, refresher) in [
            ("1800", 1800, None),
            ("90 ; refresher=UAS", 90, Some(Refresher::Uas)),
            ("4000;x=y;refresher=uac", 4000, Some(Refresher::Uac)),
            ("120;refresher=who", 120, None),
        ] {
            let read = with(HeaderName::SessionExpires, text).session_expires().unwrap().unwrap();
            assert_eq!(read, SessionExpires { seconds, refresher }, "{text}");
        }
        for bad in ["", "-1", "9999999999", "90;;", "ninety"] {
            assert!(with(HeaderName::SessionExpires, bad).session_expires().is_err(), "{bad}");
        }
        assert_eq!(Headers::new().session_expires(), Ok(None));
        assert_eq!(with(HeaderName::MinSe, "120;lr").min_se(), Ok(Some(120)));
    }

    #[test]
    fn an_acknowledgement_names_the_response_and_its_request() {
        let read = with(HeaderName::RAck, "776656 1 INVITE").rack().unwrap();
        assert_eq!(read.to_string(), "776656 1 INVITE");
        assert_eq!((read.rseq, read.cseq.number, read.cseq.method), (776_656, 1, Method::Invite));
        for bad in ["", "1", "1 1", "x 1 INVITE", "1 x INVITE", "4294967296 1 INVITE"] {
            assert!(with(HeaderName::RAck, bad).rack().is_err(), "{bad}");
        }
        assert!(Headers::new().rack().is_err());
        assert_eq!(with(HeaderName::RSeq, "988789").rseq(), Ok(Some(988_789)));
        assert!(with(HeaderName::RSeq, "988789 1").rseq().is_err());
    }
}
