use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{Class, FINGERPRINT_XOR, HEADER, MAGIC, TransactionId, attribute};

/// Writes one message, attribute by attribute.
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new(class: Class, method: u16, transaction: TransactionId) -> Self {
        let class = match class {
            Class::Request => 0x000,
            Class::Indication => 0x010,
            Class::Success => 0x100,
            Class::Error => 0x110,
        };
        let kind = class | method & 0xf | (method & 0x70) << 1 | (method & 0xf80) << 2;
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&transaction);
        Self { bytes }
    }

    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value);
        self
    }

    /// RFC 8489 §14.2.
    pub fn xor_mapped_address(self, address: SocketAddr) -> Self {
        let mut value = vec![0, 1];
        value.extend_from_slice(&address.port().to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => value.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => {
                value[1] = 2;
                value.extend_from_slice(&ip.octets());
            }
        }
        for (octet, mask) in value[2..4].iter_mut().zip(MAGIC) {
            *octet ^= mask;
        }
        // Magic cookie and transaction identifier stand side by side.
        for (octet, mask) in value[4..].iter_mut().zip(&self.bytes[4..HEADER]) {
            *octet ^= mask;
        }
        self.attribute(attribute::XOR_MAPPED_ADDRESS, &value)
    }

    /// RFC 8489 §14.8.
    pub fn error_code(self, code: u16, reason: &str) -> Self {
        let mut value = vec![0, 0, (code / 100) as u8, (code % 100) as u8];
        value.extend_from_slice(reason.as_bytes());
        self.attribute(attribute::ERROR_CODE, &value)
    }

    /// MESSAGE-INTEGRITY under a short-term credential (RFC 8489 §14.5).
    pub fn integrity(mut self, password: &str) -> Self {
        self.set_length(4 + 20);
        if let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(password.as_bytes()) {
            mac.update(&self.bytes);
            let tag = mac.finalize().into_bytes();
            self.push(attribute::MESSAGE_INTEGRITY, &tag);
        }
        self
    }

    /// Ends the message with a FINGERPRINT (RFC 8489 §14.7).
    pub fn finish(mut self) -> Vec<u8> {
        self.set_length(4 + 4);
        let crc = crc32fast::hash(&self.bytes) ^ FINGERPRINT_XOR;
        self.push(attribute::FINGERPRINT, &crc.to_be_bytes());
        self.bytes
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.set_length(0);
    }

    /// Sets the length field to what is there and what is still to come.
    fn set_length(&mut self, coming: usize) {
        let length = (self.bytes.len() - HEADER + coming) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }
}
