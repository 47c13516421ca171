use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;
use smallvec::SmallVec;

use super::{FINGERPRINT_XOR, HEADER, MAGIC, TransactionId, attribute};

/// Attributes of one message. Connectivity checks carry fewer than ten.
const MAX_ATTRIBUTES: usize = 32;

const INTEGRITY: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    #[error("it is not a STUN message")]
    NotStun,
    #[error("the STUN length does not fit the datagram")]
    Length,
    #[error("a STUN attribute runs over the message's end or has a wrong length")]
    Attribute,
    #[error("the STUN message has more than {MAX_ATTRIBUTES} attributes")]
    TooManyAttributes,
    #[error("the STUN fingerprint is wrong or not at the end")]
    Fingerprint,
}

/// A parsed message, borrowing its datagram.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    bytes: &'a [u8],
    pub class: Class,
    pub method: u16,
    pub transaction: TransactionId,
    pub username: Option<&'a [u8]>,
    pub priority: Option<u32>,
    pub use_candidate: bool,
    /// The sender's tie-breaker, when it claims this role.
    pub ice_controlled: Option<u64>,
    pub ice_controlling: Option<u64>,
    /// XOR-MAPPED-ADDRESS of a success response.
    pub mapped: Option<SocketAddr>,
    pub error_code: Option<u16>,
    /// It ends in a FINGERPRINT, which was found right.
    pub fingerprinted: bool,
    /// Comprehension-required attributes that mean nothing to us.
    pub unknown: SmallVec<[u16; 4]>,
    /// Where MESSAGE-INTEGRITY begins.
    integrity: Option<usize>,
}

impl<'a> Message<'a> {
    /// Parses one datagram. A FINGERPRINT, if there, must be right.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, StunError> {
        let header = bytes.first_chunk::<HEADER>().ok_or(StunError::NotStun)?;
        let [t0, t1, l0, l1, m0, m1, m2, m3, transaction @ ..] = *header;
        if t0 > 3 || [m0, m1, m2, m3] != MAGIC {
            return Err(StunError::NotStun);
        }
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if length % 4 != 0 || HEADER + length != bytes.len() {
            return Err(StunError::Length);
        }
        let (class, method) = split_type(u16::from_be_bytes([t0, t1]));
        let mut message = Self {
            bytes,
            class,
            method,
            transaction,
            username: None,
            priority: None,
            use_candidate: false,
            ice_controlled: None,
            ice_controlling: None,
            mapped: None,
            error_code: None,
            fingerprinted: false,
            unknown: SmallVec::new(),
            integrity: None,
        };
        message.read_attributes()?;
        Ok(message)
    }

    fn read_attributes(&mut self) -> Result<(), StunError> {
        let mut at = HEADER;
        let mut count = 0;
        while at < self.bytes.len() {
            count += 1;
            if count > MAX_ATTRIBUTES {
                return Err(StunError::TooManyAttributes);
            }
            if self.fingerprinted {
                return Err(StunError::Fingerprint);
            }
            let head = self.bytes.get(at..).and_then(<[u8]>::first_chunk::<4>);
            let [k0, k1, l0, l1] = *head.ok_or(StunError::Attribute)?;
            let kind = u16::from_be_bytes([k0, k1]);
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let value = self.bytes.get(at + 4..at + 4 + length).ok_or(StunError::Attribute)?;
            // What follows the integrity is not covered by it (RFC 8489 §14.5).
            if kind == attribute::FINGERPRINT || self.integrity.is_none() {
                self.read_attribute(at, kind, value)?;
            }
            at += 4 + length.next_multiple_of(4);
        }
        Ok(())
    }

    fn read_attribute(&mut self, at: usize, kind: u16, value: &'a [u8]) -> Result<(), StunError> {
        match kind {
            attribute::USERNAME => self.username = Some(value),
            attribute::PRIORITY => self.priority = Some(u32::from_be_bytes(exactly(value)?)),
            attribute::USE_CANDIDATE => self.use_candidate = true,
            attribute::ICE_CONTROLLED => {
                self.ice_controlled = Some(u64::from_be_bytes(exactly(value)?));
            }
            attribute::ICE_CONTROLLING => {
                self.ice_controlling = Some(u64::from_be_bytes(exactly(value)?));
            }
            attribute::MESSAGE_INTEGRITY => {
                exactly::<INTEGRITY>(value)?;
                self.integrity = Some(at);
            }
            attribute::FINGERPRINT => {
                let expected = crc32fast::hash(&self.bytes[..at]) ^ FINGERPRINT_XOR;
                if u32::from_be_bytes(exactly(value)?) != expected {
                    return Err(StunError::Fingerprint);
                }
                self.fingerprinted = true;
            }
            attribute::XOR_MAPPED_ADDRESS => self.mapped = Some(self.unmask(value)?),
            attribute::ERROR_CODE => {
                let [_, _, class, number] = *value.first_chunk().ok_or(StunError::Attribute)?;
                self.error_code = Some(u16::from(class & 7) * 100 + u16::from(number % 100));
            }
            attribute::MAPPED_ADDRESS
            | attribute::UNKNOWN_ATTRIBUTES
            | attribute::REALM
            | attribute::NONCE
            | attribute::MESSAGE_INTEGRITY_SHA256 => {}
            unknown if unknown < 0x8000 => self.unknown.push(unknown),
            _ => {}
        }
        Ok(())
    }

    /// RFC 8489 §14.2.
    fn unmask(&self, value: &[u8]) -> Result<SocketAddr, StunError> {
        let ([_, family, p0, p1], address) =
            value.split_first_chunk().ok_or(StunError::Attribute)?;
        let port = u16::from_be_bytes([p0 ^ MAGIC[0], p1 ^ MAGIC[1]]);
        let mut mask = [0; 16];
        mask[..4].copy_from_slice(&MAGIC);
        mask[4..].copy_from_slice(&self.transaction);
        let ip: IpAddr = match family {
            1 => {
                let octets: [u8; 4] = exactly(address)?;
                Ipv4Addr::from(std::array::from_fn(|n| octets[n] ^ mask[n])).into()
            }
            2 => {
                let octets: [u8; 16] = exactly(address)?;
                Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|n| octets[n] ^ mask[n])).into()
            }
            _ => return Err(StunError::Attribute),
        };
        Ok(SocketAddr::new(ip, port))
    }

    pub fn has_integrity(&self) -> bool {
        self.integrity.is_some()
    }

    /// Whether MESSAGE-INTEGRITY is there and right under the short-term
    /// credential (RFC 8489 §9.1.1, §14.5).
    pub fn is_authentic(&self, password: &str) -> bool {
        let Some(at) = self.integrity else { return false };
        let tag = self.bytes.get(at + 4..at + 4 + INTEGRITY);
        let (Some(tag), Ok(mut mac)) = (tag, Hmac::<Sha1>::new_from_slice(password.as_bytes()))
        else {
            return false;
        };
        // The length field as it was when the message ended with this attribute.
        let length = (at + 4 + INTEGRITY - HEADER) as u16;
        mac.update(&self.bytes[..2]);
        mac.update(&length.to_be_bytes());
        mac.update(&self.bytes[4..at]);
        mac.verify_slice(tag).is_ok()
    }
}

fn exactly<const N: usize>(value: &[u8]) -> Result<[u8; N], StunError> {
    value.try_into().map_err(|_| StunError::Attribute)
}

/// RFC 8489 §5: the class bits lie between the method's.
fn split_type(kind: u16) -> (Class, u16) {
    let class = match (kind >> 8 & 1, kind >> 4 & 1) {
        (0, 0) => Class::Request,
        (0, _) => Class::Indication,
        (_, 0) => Class::Success,
        _ => Class::Error,
    };
    (class, kind & 0xf | kind >> 1 & 0x70 | kind >> 2 & 0xf80)
}
