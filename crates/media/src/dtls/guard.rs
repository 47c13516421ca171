//! What of an unauthenticated peer's handshake is let through to a DTLS
//! implementation: enough for any honest one, too little to fill memory.

/// Handshake fragments of one attempt. An honest flight has about ten and is
/// repeated a few times.
const MAX_FRAGMENTS: u32 = 256;
/// Octets of one attempt. A chain of RSA certificates is about 6 kB.
const MAX_OCTETS: usize = 96 * 1024;
/// The longest handshake message, a certificate chain.
const MAX_MESSAGE: u32 = 16 * 1024;
/// Handshake messages have numbers up to about 8.
const MAX_SEQUENCE: u16 = 32;

const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
const HANDSHAKE: u8 = 22;
/// RFC 9147 §7.
const ACK: u8 = 26;

/// The first octet of records that DTLS 1.3 has encrypted, and its flags.
const UNIFIED: u8 = 0b0010_0000;
const UNIFIED_MASK: u8 = 0b1110_0000;
const WITH_IDENTIFIER: u8 = 0b0001_0000;
const WITH_LONG_NUMBER: u8 = 0b0000_1000;
const WITH_LENGTH: u8 = 0b0000_0100;

#[derive(Default)]
pub struct Guard {
    fragments: u32,
    octets: usize,
}

impl Guard {
    /// Whether the datagram is a sequence of whole records within the limits.
    pub fn admits(&mut self, datagram: &[u8]) -> bool {
        self.octets = self.octets.saturating_add(datagram.len());
        let records = Records::read(datagram, |fragment| {
            self.fragments = self.fragments.saturating_add(1);
            self.fragments <= MAX_FRAGMENTS
                && fragment.message_len <= MAX_MESSAGE
                && fragment.offset + fragment.length <= fragment.message_len
                && fragment.sequence <= MAX_SEQUENCE
        });
        self.octets <= MAX_OCTETS && !datagram.is_empty() && records.is_some()
    }
}

/// What follows a record with the unified header of DTLS 1.3 (RFC 9147 §4).
/// Connection identifiers were not agreed on; without a length it is the last.
fn after_unified(record: &[u8]) -> Option<&[u8]> {
    let (first, rest) = record.split_first()?;
    if first & WITH_IDENTIFIER != 0 {
        return None;
    }
    let rest = rest.get(if first & WITH_LONG_NUMBER != 0 { 2 } else { 1 }..)?;
    if first & WITH_LENGTH == 0 {
        return Some(&[]);
    }
    let (length, body) = rest.split_first_chunk::<2>()?;
    body.get(usize::from(u16::from_be_bytes(*length))..)
}

/// A part of a handshake message before encryption begins (RFC 6347 §4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    pub sequence: u16,
    message_len: u32,
    pub offset: u32,
    pub length: u32,
}

/// What a datagram is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Records {
    /// Handshake fragments in the clear.
    pub fragments: u32,
    /// Records of other kinds, and all that are encrypted.
    pub others: u32,
}

impl Records {
    /// `None` when the datagram is no sequence of whole records and fragments,
    /// or when a fragment is not `accepted`.
    pub fn read(mut rest: &[u8], mut accepted: impl FnMut(Fragment) -> bool) -> Option<Self> {
        let mut records = Self::default();
        while let Some(first) = rest.first() {
            if first & UNIFIED_MASK == UNIFIED {
                rest = after_unified(rest)?;
                records.others += 1;
                continue;
            }
            let (header, after) = rest.split_first_chunk::<RECORD_HEADER>()?;
            let [kind, major, _, e0, e1, .., l0, l1] = *header;
            // DTLS versions have a major number of 254 (RFC 6347 §4.1).
            if !(20..=ACK).contains(&kind) || major != 254 {
                return None;
            }
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let body = after.get(..length)?;
            if kind == HANDSHAKE && [e0, e1] == [0, 0] {
                records.fragments += Self::read_handshake(body, &mut accepted)?;
            } else {
                records.others += 1;
            }
            rest = &after[length..];
        }
        Some(records)
    }

    fn read_handshake(mut rest: &[u8], accepted: &mut impl FnMut(Fragment) -> bool) -> Option<u32> {
        let mut count = 0;
        while !rest.is_empty() {
            let (header, after) = rest.split_first_chunk::<HANDSHAKE_HEADER>()?;
            let [_, a, b, c, s0, s1, d, e, f, g, h, i] = *header;
            let [message_len, offset, length] =
                [[a, b, c], [d, e, f], [g, h, i]].map(|[x, y, z]| u32::from_be_bytes([0, x, y, z]));
            let sequence = u16::from_be_bytes([s0, s1]);
            if !accepted(Fragment { sequence, message_len, offset, length }) {
                return None;
            }
            rest = after.get(length as usize..)?;
            count += 1;
        }
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message_length: u32, offset: u32, fragment: &[u8]) -> Vec<u8> {
        let mut record = vec![HANDSHAKE, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend_from_slice(&((HANDSHAKE_HEADER + fragment.len()) as u16).to_be_bytes());
        record.push(1);
        record.extend_from_slice(&message_length.to_be_bytes()[1..]);
        record.extend_from_slice(&[0, 0]);
        record.extend_from_slice(&offset.to_be_bytes()[1..]);
        record.extend_from_slice(&(fragment.len() as u32).to_be_bytes()[1..]);
        record.extend_from_slice(fragment);
        record
    }

    #[test]
    fn whole_records_pass_and_broken_ones_do_not() {
        let whole = record(100, 20, &[0; 50]);
        assert!(Guard::default().admits(&whole));
        assert!(Guard::default().admits(&[whole.clone(), whole.clone()].concat()));
        for length in 0..whole.len() {
            assert!(!Guard::default().admits(&whole[..length]), "{length}");
        }
        assert!(!Guard::default().admits(&record(100, 60, &[0; 50])), "beyond its message");
        assert!(!Guard::default().admits(&record(1 << 20, 0, &[0; 50])), "too long a message");
    }

    #[test]
    fn records_of_dtls_1_3_pass_whole_and_not_cut() {
        let encrypted = [0b0010_1110, 0, 1, 0, 3, 9, 9, 9];
        let hello = record(100, 20, &[0; 50]);
        assert!(Guard::default().admits(&[&hello[..], &encrypted, &encrypted].concat()));
        for length in 1..encrypted.len() {
            assert!(!Guard::default().admits(&encrypted[..length]), "{length}");
        }
        let last = [0b0010_0010, 7, 9, 9, 9];
        assert!(Guard::default().admits(&[&encrypted[..], &last].concat()));
        let identified = [0b0011_1110, 5, 0, 1, 0, 1, 9];
        assert!(!Guard::default().admits(&identified), "no identifiers were agreed on");
    }

    #[test]
    fn a_flood_of_fragments_ends() {
        let mut guard = Guard::default();
        let admitted = (0..1000).filter(|n| guard.admits(&record(2000, *n, &[0]))).count();
        assert_eq!(admitted, MAX_FRAGMENTS as usize);
    }
}
