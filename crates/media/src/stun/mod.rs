//! STUN (RFC 8489) as connectivity checks use it (RFC 8445 §7).

mod message;
mod receiver;
mod writer;

pub use message::{Class, Message, StunError};
pub use receiver::receiver;
pub use writer::Writer;

/// The only method of connectivity checks (RFC 8489 §18.2).
pub const BINDING: u16 = 0x001;

/// A transaction's identifier.
pub type TransactionId = [u8; 12];

const MAGIC: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
const HEADER: usize = 20;
/// XORed to the CRC-32 (RFC 8489 §14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// Attribute types (RFC 8489 §18.3, RFC 8445 §16.1).
pub mod attribute {
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    pub const ICE_CONTROLLING: u16 = 0x802A;
}
