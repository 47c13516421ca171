use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

/// Makes nonces that carry their own proof: when they were made and that we
/// made them, so that a flood of unanswered challenges costs no memory.
///
/// A nonce is base64url of time (8 bytes) ‖ random (8) ‖ HMAC-SHA-256 over
/// both and the realm, cut to 16 bytes.
pub struct NonceIssuer {
    key: hmac::Key,
    random: ChaCha12Rng,
    lifetime_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceStatus {
    Fresh,
    /// Ours and too old, or made by a clock ahead of this one: challenge again
    /// with `stale=true`.
    Stale,
    /// Not ours, or ours for another realm.
    Forged,
}

const TIME: usize = 8;
const BODY: usize = 16;
const PROOF: usize = 16;
/// How far the clock of another proxy of the region, with the same key, may
/// run ahead.
const CLOCK_SKEW_MS: i64 = 5_000;

impl NonceIssuer {
    /// Proxies that share `key` take each other's nonces; `seed` must be each
    /// one's own.
    pub fn new(key: &[u8; 32], seed: [u8; 32], lifetime_ms: i64) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            random: ChaCha12Rng::from_seed(seed),
            lifetime_ms,
        }
    }

    pub fn issue(&mut self, now_unix_ms: i64, realm: &str) -> String {
        let mut nonce = [0; BODY + PROOF];
        let (body, proof) = nonce.split_at_mut(BODY);
        let (time, random) = body.split_at_mut(TIME);
        time.copy_from_slice(&now_unix_ms.to_be_bytes());
        self.random.fill_bytes(random);
        proof.copy_from_slice(&self.proof(body, realm));
        URL_SAFE_NO_PAD.encode(nonce)
    }

    pub fn check(&self, nonce: &str, realm: &str, now_unix_ms: i64) -> NonceStatus {
        let Some((body, proof)) = decode(nonce) else { return NonceStatus::Forged };
        let expected = self.proof(&body, realm);
        if aws_lc_rs::constant_time::verify_slices_are_equal(&proof, &expected).is_err() {
            return NonceStatus::Forged;
        }
        let age = now_unix_ms.saturating_sub(issued_at(&body));
        if (-CLOCK_SKEW_MS..=self.lifetime_ms).contains(&age) {
            NonceStatus::Fresh
        } else {
            NonceStatus::Stale
        }
    }

    /// Nonces issued before this time, in Unix milliseconds, are too old by now.
    pub fn oldest(&self, now_unix_ms: i64) -> i64 {
        now_unix_ms.saturating_sub(self.lifetime_ms)
    }

    fn proof(&self, body: &[u8], realm: &str) -> [u8; PROOF] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(body);
        context.update(realm.as_bytes());
        let tag = context.sign();
        let mut proof = [0; PROOF];
        proof.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        proof
    }
}

impl fmt::Debug for NonceIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceIssuer")
            .field("lifetime_ms", &self.lifetime_ms)
            .finish_non_exhaustive()
    }
}

/// The bytes of a nonce of ours before its proof; unproven.
pub(super) fn decode(nonce: &str) -> Option<([u8; BODY], [u8; PROOF])> {
    let bytes: [u8; BODY + PROOF] = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
    let (body, proof) = bytes.split_at_checked(BODY)?;
    Some((body.try_into().ok()?, proof.try_into().ok()?))
}

/// Unix milliseconds.
pub(super) fn issued_at(body: &[u8; BODY]) -> i64 {
    body.first_chunk::<TIME>().map_or(i64::MIN, |time| i64::from_be_bytes(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn issuer(key: u8) -> NonceIssuer {
        NonceIssuer::new(&[key; 32], [9; 32], 300_000)
    }

    #[test]
    fn a_nonce_is_fresh_for_its_lifetime_and_stale_after() {
        let mut issuer = issuer(1);
        let nonce = issuer.issue(NOW, "acme.test");
        assert_eq!(issuer.check(&nonce, "acme.test", NOW), NonceStatus::Fresh);
        assert_eq!(issuer.check(&nonce, "acme.test", NOW + 300_000), NonceStatus::Fresh);
        assert_eq!(issuer.check(&nonce, "acme.test", NOW + 300_001), NonceStatus::Stale);
        assert_eq!(issuer.check(&nonce, "acme.test", NOW - 60_000), NonceStatus::Stale);
        assert_ne!(nonce, issuer.issue(NOW, "acme.test"));
    }

    #[test]
    fn nonces_of_others_and_of_other_realms_are_forged() {
        let nonce = issuer(1).issue(NOW, "acme.test");
        assert_eq!(issuer(1).check(&nonce, "globex.test", NOW), NonceStatus::Forged);
        assert_eq!(issuer(2).check(&nonce, "acme.test", NOW), NonceStatus::Forged);
        for bad in ["", "x", "äöü", &nonce[1..], &format!("{nonce}A")] {
            assert_eq!(issuer(1).check(bad, "acme.test", NOW), NonceStatus::Forged);
        }
        for at in 0..nonce.len() - 1 {
            let mut bytes = nonce.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(issuer(1).check(&changed, "acme.test", NOW), NonceStatus::Forged, "{at}");
        }
    }
}
