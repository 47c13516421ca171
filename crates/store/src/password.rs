//! Passwords of users: made here, kept only as what digest authentication needs.

use landline_call::tenancy::DigestSecrets;
use landline_region::Secret;
use landline_sip::digest::{self, Algorithm};

use crate::seal;

/// Without letters that are misread for each other.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const LENGTH: usize = 20;

/// A random password of 100 bits.
pub fn generate() -> String {
    let bytes = seal::random::<LENGTH>();
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

/// RFC 7616 §3.4.2 for both algorithms, with the account's domain as realm.
pub fn digest_secrets(user: &str, domain: &str, password: &str) -> DigestSecrets {
    let ha1 = |algorithm| Secret::new(digest::ha1(algorithm, user, domain, password));
    DigestSecrets { md5: ha1(Algorithm::Md5), sha256: ha1(Algorithm::Sha256) }
}
