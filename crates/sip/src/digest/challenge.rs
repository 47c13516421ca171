use std::fmt;

use super::pairs::{self, Pairs};
use super::{Algorithm, DigestError};
use crate::byte_str::ByteStr;

/// What a WWW-Authenticate or Proxy-Authenticate asks for (RFC 7616 §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub realm: String,
    pub nonce: String,
    pub algorithm: Algorithm,
    /// Whether `qop=auth` is offered; without it the older form without a
    /// counter is wanted.
    pub qop: bool,
    /// The nonce was too old and nothing else was wrong: answer again without
    /// asking the user.
    pub stale: bool,
    pub opaque: Option<String>,
}

impl Challenge {
    pub fn parse(value: &ByteStr) -> Result<Self, DigestError> {
        let mut pairs = Pairs::parse(value)?;
        let algorithm = pairs.take("algorithm");
        let qop = pairs.take("qop");
        let offers_auth =
            |list: &str| list.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth"));
        if qop.as_deref().is_some_and(|list| !offers_auth(list)) {
            return Err(DigestError::UnknownQop);
        }
        Ok(Self {
            realm: pairs.require("realm")?,
            nonce: pairs.require("nonce")?,
            algorithm: algorithm.as_deref().map_or(Ok(Algorithm::Md5), Algorithm::parse)?,
            qop: qop.is_some(),
            stale: pairs.take("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            opaque: pairs.take("opaque"),
        })
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(160);
        pairs::write_quoted(&mut out, "realm", &self.realm);
        pairs::write_quoted(&mut out, "nonce", &self.nonce);
        if let Some(opaque) = &self.opaque {
            pairs::write_quoted(&mut out, "opaque", opaque);
        }
        pairs::write_plain(&mut out, "algorithm", self.algorithm.as_str());
        if self.qop {
            pairs::write_quoted(&mut out, "qop", "auth");
        }
        if self.stale {
            pairs::write_plain(&mut out, "stale", "true");
        }
        f.write_str(&out)
    }
}

impl From<&Challenge> for ByteStr {
    fn from(challenge: &Challenge) -> Self {
        ByteStr::from(challenge.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_survives_printing() {
        let challenge = Challenge {
            realm: "a \"quoted\" \\ realm".into(),
            nonce: "n".into(),
            algorithm: Algorithm::Sha256,
            qop: true,
            stale: true,
            opaque: Some("o".into()),
        };
        assert_eq!(Challenge::parse(&ByteStr::from(&challenge)), Ok(challenge));
    }

    #[test]
    fn other_schemes_algorithms_and_doubled_parameters_are_refused() {
        let parse = |text: &str| Challenge::parse(&text.into());
        assert_eq!(parse("Basic realm=\"x\""), Err(DigestError::NotDigest));
        assert_eq!(
            parse("Digest realm=\"x\", nonce=\"n\", algorithm=SHA-512-256"),
            Err(DigestError::UnknownAlgorithm)
        );
        assert_eq!(
            parse("Digest realm=\"x\", nonce=\"n\", nonce=\"m\""),
            Err(DigestError::Malformed)
        );
        assert_eq!(parse("Digest realm=\"x"), Err(DigestError::Malformed));
        assert_eq!(parse("Digest realm=\"x\""), Err(DigestError::Missing("nonce")));
        assert_eq!(
            parse("Digest realm=\"x\", nonce=\"n\", qop=\"auth-int\""),
            Err(DigestError::UnknownQop)
        );
        assert!(parse("digest realm = \"x\" , nonce=n,,qop=\"auth-int, auth\"").unwrap().qop);
    }
}
