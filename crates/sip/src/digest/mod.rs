//! Digest access authentication (RFC 7616, RFC 8760) for both sides.

mod challenge;
mod credentials;
mod nonce;
mod pairs;
mod replay;

pub use challenge::Challenge;
pub use credentials::{Credentials, answer};
pub use nonce::{NonceIssuer, NonceStatus};
pub use replay::ReplayWindow;

use std::fmt;

use md5::{Digest as _, Md5};

use crate::method::Method;

/// RFC 8760 §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Md5,
    Sha256,
}

/// Why a challenge or credentials cannot be used. Never repeats their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("the authentication scheme is not Digest")]
    NotDigest,
    #[error("the digest parameters are malformed")]
    Malformed,
    #[error("the digest lacks its {0}")]
    Missing(&'static str),
    #[error("the digest algorithm is neither MD5 nor SHA-256")]
    UnknownAlgorithm,
    #[error("the digest quality of protection is not auth")]
    UnknownQop,
}

impl Algorithm {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    fn parse(text: &str) -> Result<Self, DigestError> {
        [Self::Md5, Self::Sha256]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(text))
            .ok_or(DigestError::UnknownAlgorithm)
    }

    /// Lower-case hexadecimal.
    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex::encode(Md5::digest(text.as_bytes())),
            Self::Sha256 => {
                hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()))
            }
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What stands in for the password (RFC 7616 §3.4.2), in hexadecimal. As
/// secret as the password itself, within its realm.
pub fn ha1(algorithm: Algorithm, username: &str, realm: &str, password: &str) -> String {
    algorithm.hash(&format!("{username}:{realm}:{password}"))
}

/// RFC 7616 §3.4.1; without `qop` the form of RFC 2069. `qop` is `nc` as sent
/// (eight hexadecimal digits) and `cnonce`.
pub fn response(
    algorithm: Algorithm,
    ha1: &str,
    method: &Method,
    uri: &str,
    nonce: &str,
    qop: Option<(&str, &str)>,
) -> String {
    let ha2 = algorithm.hash(&format!("{method}:{uri}"));
    match qop {
        Some((nc, cnonce)) => algorithm.hash(&format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}")),
        None => algorithm.hash(&format!("{ha1}:{nonce}:{ha2}")),
    }
}

/// Whether the answer was made with the secret behind `ha1`; compared in
/// constant time. Whether the nonce is ours and fresh is
/// [`NonceIssuer::check`]'s question, and whether this is the first time
/// [`ReplayWindow`]'s.
pub fn verify(credentials: &Credentials, ha1: &str, method: &Method) -> bool {
    let qop = credentials.nc.as_deref().zip(credentials.cnonce.as_deref());
    let expected = response(
        credentials.algorithm,
        ha1,
        method,
        &credentials.uri,
        &credentials.nonce,
        qop.filter(|_| credentials.qop),
    );
    let given = credentials.response.to_ascii_lowercase();
    aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), given.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1, both algorithms.
    #[test]
    fn responses_are_those_of_the_rfc() {
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        for (algorithm, expected) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let ha1 = ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life");
            let get = Method::parse("GET").unwrap();
            let qop = Some(("00000001", cnonce));
            assert_eq!(response(algorithm, &ha1, &get, "/dir/index.html", nonce, qop), expected);
        }
    }
}
