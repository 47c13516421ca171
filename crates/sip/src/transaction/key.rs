//! Keys by which incoming requests find their transactions.
//!
//! What RFC 3261 matches by (branch, sent-by, method; dialog and CSeq) is chosen
//! by whoever sends to us, so the keys are 128-bit SipHash-1-3 values under a
//! secret of this endpoint: nobody can make two requests collide, and a key
//! costs 16 bytes whatever the message says.

use crate::{ByteStr, CSeq, HeaderError, HeaderName, Host, NameAddr, Request, Response, Transport};

pub(crate) type Key = u128;

#[derive(Clone, Copy)]
pub(crate) struct KeyedHash {
    k0: u64,
    k1: u64,
}

impl KeyedHash {
    pub fn new(k0: u64, k1: u64) -> Self {
        Self { k0, k1 }
    }

    /// RFC 3261 §17.2.3: the branch, the sent-by and the method, where an ACK
    /// and a CANCEL look for their INVITE.
    pub fn branch(&self, branch: &str, host: &Host, port: Option<u16>, method: &str) -> Key {
        let mut hasher = self.start(1);
        hasher.field(branch.as_bytes());
        hasher.host(host);
        hasher.field(&port.unwrap_or(0).to_be_bytes());
        hasher.field(method.as_bytes());
        hasher.finish()
    }

    /// The same for senders without the magic cookie (RFC 2543).
    pub fn rfc2543(&self, parts: &Rfc2543<'_>) -> Key {
        let mut hasher = self.start(2);
        hasher.field(parts.method.as_bytes());
        hasher.field(parts.uri.as_bytes());
        hasher.field(parts.to_tag.as_bytes());
        hasher.field(parts.from_tag.as_bytes());
        hasher.field(parts.call_id);
        hasher.field(&parts.cseq.to_be_bytes());
        hasher.field(parts.via_transport.as_str().as_bytes());
        hasher.host(parts.via_host);
        hasher.field(&parts.via_port.unwrap_or(0).to_be_bytes());
        hasher.field(parts.via_branch.as_bytes());
        hasher.finish()
    }

    /// RFC 3261 §8.2.2.2: what two copies of one request have in common when
    /// they come by different ways. The RFC has a single user agent in mind; we
    /// answer for many users, and a request forked to two of them is no merged
    /// one, so whom it is for counts too.
    pub fn merge(&self, request: &Request, from_tag: &str, cseq: u32) -> Key {
        let bytes = |text: Option<&ByteStr>| text.cloned().unwrap_or_default();
        let mut hasher = self.start(3);
        hasher.field(bytes(request.headers.get(&HeaderName::CallId)).as_bytes());
        hasher.field(from_tag.as_bytes());
        hasher.field(&cseq.to_be_bytes());
        hasher.field(request.method.as_str().as_bytes());
        hasher.field(bytes(request.uri.user.as_ref()).as_bytes());
        hasher.host(&request.uri.host);
        hasher.finish()
    }

    /// A 2xx to an INVITE and its ACK: the dialog and the CSeq number.
    pub fn ack(&self, call_id: &[u8], from_tag: &str, to_tag: &str, cseq: u32) -> Key {
        let mut hasher = self.start(4);
        hasher.field(call_id);
        hasher.field(from_tag.as_bytes());
        hasher.field(to_tag.as_bytes());
        hasher.field(&cseq.to_be_bytes());
        hasher.finish()
    }

    fn start(&self, domain: u64) -> SipHasher {
        SipHasher::new(self.k0, self.k1 ^ domain.rotate_right(8))
    }
}

/// What RFC 3261 §17.2.3 compares when the branch means nothing. The To tag is
/// left out for INVITE, ACK and CANCEL: an ACK has the tag of our response.
pub(crate) struct Rfc2543<'a> {
    pub method: &'a str,
    pub uri: &'a str,
    pub to_tag: &'a str,
    pub from_tag: &'a str,
    pub call_id: &'a [u8],
    pub cseq: u32,
    pub via_transport: Transport,
    pub via_host: &'a Host,
    pub via_port: Option<u16>,
    pub via_branch: &'a str,
}

/// The key of an ACK to a 2xx; `None` for one without its headers.
pub(crate) fn ack_key(hash: &KeyedHash, ack: &Request) -> Option<Key> {
    dialog_key(hash, ack.call_id(), ack.from(), ack.to(), ack.cseq()).ok()
}

/// The key the ACK to this 2xx will have.
pub(crate) fn success_key(hash: &KeyedHash, response: &Response) -> Option<Key> {
    dialog_key(hash, response.call_id(), response.from(), response.to(), response.cseq()).ok()
}

fn dialog_key(
    hash: &KeyedHash,
    call_id: Result<ByteStr, HeaderError>,
    from: Result<NameAddr, HeaderError>,
    to: Result<NameAddr, HeaderError>,
    cseq: Result<CSeq, HeaderError>,
) -> Result<Key, HeaderError> {
    let (from, to) = (from?, to?);
    let tags = (from.tag().unwrap_or_default(), to.tag().unwrap_or_default());
    Ok(hash.ack(call_id?.as_bytes(), tags.0, tags.1, cseq?.number))
}

/// SipHash-1-3 with the 128-bit finish of the reference implementation.
struct SipHasher {
    v: [u64; 4],
    tail: u64,
    filled: u32,
    length: u64,
}

impl SipHasher {
    fn new(k0: u64, k1: u64) -> Self {
        let v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        Self { v, tail: 0, filled: 0, length: 0 }
    }

    /// Bytes preceded by their length, so that no two lists of fields agree.
    fn field(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64, 4);
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut eight = [0; 8];
            eight.copy_from_slice(chunk);
            self.word(u64::from_le_bytes(eight), 8);
        }
        for byte in chunks.remainder() {
            self.word(u64::from(*byte), 1);
        }
    }

    /// Names ignore letter case.
    fn host(&mut self, host: &Host) {
        match host {
            Host::Name(name) => self.field(&name.as_bytes().to_ascii_lowercase()),
            Host::V4(ip) => self.field(&ip.octets()),
            Host::V6(ip) => self.field(&ip.octets()),
        }
    }

    /// The low `size` bytes of `word`.
    fn word(&mut self, word: u64, size: u32) {
        self.length += u64::from(size);
        self.tail |= word << (8 * self.filled);
        let filled = self.filled + size;
        if filled < 8 {
            self.filled = filled;
            return;
        }
        self.compress(self.tail);
        let used = 8 - self.filled;
        self.filled = filled - 8;
        self.tail = if used == 8 { 0 } else { word >> (8 * used) };
    }

    fn compress(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
    }

    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.v;
        *v0 = v0.wrapping_add(*v1);
        *v2 = v2.wrapping_add(*v3);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v1);
        *v0 = v0.wrapping_add(*v3);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.rotate_left(32);
    }

    fn finish(mut self) -> u128 {
        self.compress((self.length << 56) | self.tail);
        self.v[2] ^= 0xee;
        let low = self.finish_half();
        self.v[1] ^= 0xdd;
        let high = self.finish_half();
        u128::from(low) | (u128::from(high) << 64)
    }

    fn finish_half(&mut self) -> u64 {
        for _ in 0..3 {
            self.round();
        }
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standard library's hasher is SipHash-1-3 under a key of zeros, with
    /// 64 bits of result: the same rounds, without the marks of the long form.
    #[test]
    fn the_rounds_are_those_of_siphash() {
        use std::hash::Hasher;
        for length in 0..40 {
            let bytes: Vec<u8> = (0..length).map(|i: u8| i.wrapping_mul(7)).collect();
            let mut oracle = std::hash::DefaultHasher::new();
            oracle.write(&u32::from(length).to_le_bytes());
            oracle.write(&bytes);
            let mut ours = SipHasher::new(0, 0);
            ours.v[1] ^= 0xee;
            ours.field(&bytes);
            ours.compress((ours.length << 56) | ours.tail);
            ours.v[2] ^= 0xff;
            assert_eq!(ours.finish_half(), oracle.finish(), "{length} bytes");
        }
    }

    #[test]
    fn keys_depend_on_every_part_and_on_the_secret() {
        let hash = KeyedHash::new(7, 8);
        let host = |name: &str| Host::Name(name.into());
        let key = hash.branch("z9hG4bKa", &host("h"), Some(5060), "INVITE");
        assert_eq!(key, hash.branch("z9hG4bKa", &host("H"), Some(5060), "INVITE"));
        let others = [
            hash.branch("z9hG4bKb", &host("h"), Some(5060), "INVITE"),
            hash.branch("z9hG4bKa", &host("i"), Some(5060), "INVITE"),
            hash.branch("z9hG4bKa", &host("h"), None, "INVITE"),
            hash.branch("z9hG4bKa", &host("h"), Some(5060), "BYE"),
            hash.branch("z9hG4bKah", &host(""), Some(5060), "INVITE"),
            KeyedHash::new(7, 9).branch("z9hG4bKa", &host("h"), Some(5060), "INVITE"),
        ];
        assert!(others.iter().all(|other| *other != key));
    }
}
