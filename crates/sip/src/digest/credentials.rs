use std::fmt;

use super::pairs::{self, Pairs};
use super::{Algorithm, Challenge, DigestError, ha1, response};
use crate::byte_str::ByteStr;
use crate::method::Method;

/// What an Authorization or Proxy-Authorization holds (RFC 7616 §3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub realm: String,
    pub nonce: String,
    pub uri: String,
    /// Hexadecimal.
    pub response: String,
    pub algorithm: Algorithm,
    /// Whether `qop=auth` was given; `nc` and `cnonce` are there then.
    pub qop: bool,
    /// Eight hexadecimal digits as sent: they go into the hash as they are.
    pub nc: Option<String>,
    pub cnonce: Option<String>,
    pub opaque: Option<String>,
}

impl Credentials {
    pub fn parse(value: &ByteStr) -> Result<Self, DigestError> {
        let mut pairs = Pairs::parse(value)?;
        let algorithm = pairs.take("algorithm");
        let qop = pairs.take("qop");
        if qop.as_deref().is_some_and(|qop| !qop.eq_ignore_ascii_case("auth")) {
            return Err(DigestError::UnknownQop);
        }
        let credentials = Self {
            username: pairs.require("username")?,
            realm: pairs.require("realm")?,
            nonce: pairs.require("nonce")?,
            uri: pairs.require("uri")?,
            response: pairs.require("response")?,
            algorithm: algorithm.as_deref().map_or(Ok(Algorithm::Md5), Algorithm::parse)?,
            qop: qop.is_some(),
            nc: pairs.take("nc"),
            cnonce: pairs.take("cnonce"),
            opaque: pairs.take("opaque"),
        };
        match (credentials.qop, credentials.nonce_count(), &credentials.cnonce) {
            (true, None, _) => Err(DigestError::Missing("nc")),
            (true, _, None) => Err(DigestError::Missing("cnonce")),
            _ => Ok(credentials),
        }
    }

    /// How often this nonce has been used, this time included.
    pub fn nonce_count(&self) -> Option<u32> {
        let nc = self.nc.as_deref()?;
        if nc.len() != 8 || !nc.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(nc, 16).ok()
    }
}

/// The client's answer to the strongest of the challenges; `None` when none of
/// them can be answered. `cnonce` must be new and unpredictable, `nc` counts
/// the uses of this nonce from 1.
pub fn answer(
    challenges: &[Challenge],
    method: &Method,
    uri: &str,
    username: &str,
    password: &str,
    nc: u32,
    cnonce: &str,
) -> Option<Credentials> {
    // The first of equals: the server lists what it prefers first.
    let strongest = challenges.iter().map(|challenge| challenge.algorithm).max()?;
    let challenge = challenges.iter().find(|challenge| challenge.algorithm == strongest)?;
    let secret = ha1(challenge.algorithm, username, &challenge.realm, password);
    let count = format!("{nc:08x}");
    let qop = challenge.qop.then_some((count.as_str(), cnonce));
    Some(Credentials {
        username: username.to_owned(),
        realm: challenge.realm.clone(),
        nonce: challenge.nonce.clone(),
        uri: uri.to_owned(),
        response: response(challenge.algorithm, &secret, method, uri, &challenge.nonce, qop),
        algorithm: challenge.algorithm,
        qop: challenge.qop,
        cnonce: challenge.qop.then(|| cnonce.to_owned()),
        nc: challenge.qop.then_some(count),
        opaque: challenge.opaque.clone(),
    })
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::with_capacity(320);
        pairs::write_quoted(&mut out, "username", &self.username);
        pairs::write_quoted(&mut out, "realm", &self.realm);
        pairs::write_quoted(&mut out, "nonce", &self.nonce);
        pairs::write_quoted(&mut out, "uri", &self.uri);
        pairs::write_quoted(&mut out, "response", &self.response);
        pairs::write_plain(&mut out, "algorithm", self.algorithm.as_str());
        if let (true, Some(nc), Some(cnonce)) = (self.qop, self.nonce_count(), &self.cnonce) {
            pairs::write_plain(&mut out, "qop", "auth");
            pairs::write_plain(&mut out, "nc", &format!("{nc:08x}"));
            pairs::write_quoted(&mut out, "cnonce", cnonce);
        }
        if let Some(opaque) = &self.opaque {
            pairs::write_quoted(&mut out, "opaque", opaque);
        }
        f.write_str(&out)
    }
}

impl From<&Credentials> for ByteStr {
    fn from(credentials: &Credentials) -> Self {
        ByteStr::from(credentials.to_string())
    }
}

/// The answer can be attacked offline, and the user name is personal.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, ..)", self.algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::super::verify;
    use super::*;

    fn challenge(algorithm: Algorithm) -> Challenge {
        Challenge {
            realm: "acme.test".into(),
            nonce: "nonce".into(),
            algorithm,
            qop: true,
            stale: false,
            opaque: None,
        }
    }

    fn answered(challenges: &[Challenge]) -> Credentials {
        answer(challenges, &Method::Register, "sip:acme.test", "ali\"ce", "secret", 10, "c")
            .unwrap()
    }

    #[test]
    fn the_client_answers_sha_256_before_md5() {
        let both = [challenge(Algorithm::Md5), challenge(Algorithm::Sha256)];
        assert_eq!(answered(&both).algorithm, Algorithm::Sha256);
        assert_eq!(answered(&both[..1]).algorithm, Algorithm::Md5);
        assert!(answer(&[], &Method::Register, "sip:a", "u", "p", 1, "c").is_none());
    }

    #[test]
    fn an_answer_is_verified_after_its_way_over_the_wire() {
        for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
            let sent = answered(&[challenge(algorithm)]);
            let got = Credentials::parse(&ByteStr::from(&sent)).unwrap();
            assert!(got == sent);
            assert_eq!(got.nonce_count(), Some(10));
            let secret = ha1(algorithm, "ali\"ce", "acme.test", "secret");
            assert!(verify(&got, &secret, &Method::Register));
            assert!(!verify(&got, &secret, &Method::Invite));
            assert!(!verify(&got, &ha1(algorithm, "ali\"ce", "acme.test", "x"), &Method::Register));
            let upper = Credentials { response: got.response.to_uppercase(), ..got.clone() };
            assert!(verify(&upper, &secret, &Method::Register));
            let cut = Credentials { response: String::new(), ..got };
            assert!(!verify(&cut, &secret, &Method::Register));
        }
    }

    #[test]
    fn the_counter_goes_into_the_hash_as_it_was_written() {
        let secret = ha1(Algorithm::Md5, "u", "r", "p");
        let qop = Some(("0000000A", "c"));
        let hash = response(Algorithm::Md5, &secret, &Method::Invite, "sip:a", "n", qop);
        let text = format!(
            "Digest username=\"u\",realm=\"r\",nonce=\"n\",uri=\"sip:a\",response=\"{hash}\",\
             qop=auth,nc=0000000A,cnonce=\"c\""
        );
        let got = Credentials::parse(&text.as_str().into()).unwrap();
        assert!(verify(&got, &secret, &Method::Invite));
    }

    #[test]
    fn incomplete_credentials_are_refused() {
        let base = "Digest username=\"u\",realm=\"r\",nonce=\"n\",uri=\"x\",response=\"0\"";
        let parse = |tail: &str| Credentials::parse(&format!("{base}{tail}").into());
        assert!(parse("").is_ok());
        assert_eq!(parse(",qop=auth,cnonce=\"c\""), Err(DigestError::Missing("nc")));
        assert_eq!(parse(",qop=auth,nc=1,cnonce=\"c\""), Err(DigestError::Missing("nc")));
        assert_eq!(parse(",qop=auth,nc=+0000001,cnonce=\"c\""), Err(DigestError::Missing("nc")));
        assert_eq!(parse(",qop=auth,nc=00000001"), Err(DigestError::Missing("cnonce")));
        assert_eq!(parse(",qop=auth-int"), Err(DigestError::UnknownQop));
    }

    #[test]
    fn debug_shows_neither_user_nor_answer() {
        let text = format!("{:?}", answered(&[challenge(Algorithm::Md5)]));
        assert!(!text.contains("ali") && !text.contains("acme"));
    }
}
