//! The little STUN that a SIP listener speaks on UDP: a client keeps its flow
//! open by asking where it is seen, and knows from another answer that the flow
//! is a new one (RFC 5626 §4.4.2, §8). No credentials, no other method.

use std::net::{IpAddr, SocketAddr};

const MAGIC: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
const HEADER: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// Those that have to be understood (RFC 8489 §18.3) and change nothing here:
/// MAPPED-ADDRESS, USERNAME, MESSAGE-INTEGRITY and its successor.
const UNDERSTOOD: [u16; 4] = [0x0001, 0x0006, 0x0008, 0x001C];
/// Named in an answer.
const MAX_UNKNOWN: usize = 8;

/// Whether a datagram is STUN and not SIP, whose first octet is a letter
/// (RFC 5626 §8).
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4) && datagram.get(4..8) == Some(&MAGIC)
}

/// The answer to a Binding request from this address; `None` for anything else,
/// which is not to be answered.
pub fn answer(datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let (header, attributes) = datagram.split_at_checked(HEADER)?;
    let length = usize::from(u16::from_be_bytes([*header.get(2)?, *header.get(3)?]));
    let kind = u16::from_be_bytes([*header.first()?, *header.get(1)?]);
    if !is_stun(datagram) || kind != BINDING_REQUEST || length != attributes.len() {
        return None;
    }
    let unknown = unknown(attributes)?;
    // Magic cookie and transaction.
    let transaction = header.get(4..)?;
    let mut body = Vec::with_capacity(24);
    let kind = match unknown.is_empty() {
        true => {
            mapped(&mut body, from, transaction);
            BINDING_SUCCESS
        }
        false => {
            attribute(&mut body, ERROR_CODE, &[0, 0, 4, 20]);
            let named: Vec<u8> = unknown.iter().flat_map(|it| it.to_be_bytes()).collect();
            attribute(&mut body, UNKNOWN_ATTRIBUTES, &named);
            BINDING_ERROR
        }
    };
    let mut answer = Vec::with_capacity(HEADER + body.len());
    answer.extend(kind.to_be_bytes());
    answer.extend(u16::try_from(body.len()).ok()?.to_be_bytes());
    answer.extend(transaction);
    answer.extend(body);
    Some(answer)
}

/// The attributes that would have to be understood and are not; `None` where
/// they are cut short.
fn unknown(mut attributes: &[u8]) -> Option<Vec<u16>> {
    let mut unknown = Vec::new();
    while !attributes.is_empty() {
        let (head, rest) = attributes.split_first_chunk::<4>()?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        attributes = rest.get(length.next_multiple_of(4)..)?;
        if kind < 0x8000 && !UNDERSTOOD.contains(&kind) && unknown.len() < MAX_UNKNOWN {
            unknown.push(kind);
        }
    }
    Some(unknown)
}

/// RFC 8489 §14.2: the address is XORed, since some NATs rewrite what looks
/// like theirs.
fn mapped(body: &mut Vec<u8>, from: SocketAddr, mask: &[u8]) {
    let port = from.port() ^ u16::from_be_bytes([MAGIC[0], MAGIC[1]]);
    let (family, octets) = match from.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut value = vec![0, family];
    value.extend(port.to_be_bytes());
    value.extend(octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
    attribute(body, XOR_MAPPED_ADDRESS, &value);
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(kind.to_be_bytes());
    body.extend((value.len() as u16).to_be_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; 20] =
        *b"\x00\x01\x00\x00\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

    fn request(attributes: &[u8]) -> Vec<u8> {
        let mut request = REQUEST.to_vec();
        request[3] = attributes.len() as u8;
        request.extend(attributes);
        request
    }

    /// The examples of RFC 5769 §2.2 and §2.3.
    #[test]
    fn a_client_learns_where_it_is_seen() {
        let v4 = answer(&REQUEST, "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(v4[..4], [1, 1, 0, 12]);
        assert_eq!(v4[4..20], REQUEST[4..]);
        assert_eq!(v4[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let from = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let v6 = answer(&REQUEST, from).unwrap();
        let mapped = b"\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
        assert_eq!(v6[28..], *mapped);
    }

    #[test]
    fn what_has_to_be_understood_and_is_not_is_named() {
        let from = "192.0.2.1:1".parse().unwrap();
        let refused = answer(&request(b"\x00\x24\x00\x04\x6e\x00\x01\xff"), from).unwrap();
        assert_eq!(refused[..4], [1, 0x11, 0, 16]);
        assert_eq!(refused[20..], [0, 9, 0, 4, 0, 0, 4, 20, 0, 10, 0, 2, 0, 0x24, 0, 0]);
        let software = answer(&request(b"\x80\x22\x00\x03abc\x00"), from).unwrap();
        assert_eq!(software[..2], [1, 1]);
    }

    #[test]
    fn nothing_else_is_answered() {
        let from = "192.0.2.1:1".parse().unwrap();
        for length in 0..REQUEST.len() {
            assert_eq!(answer(&REQUEST[..length], from), None, "{length}");
        }
        let mut other = REQUEST;
        // A response, an indication, another method, another cookie, a wrong length.
        for (at, octet) in [(0, 1), (1, 0x11), (1, 3), (4, 0), (3, 4)] {
            let before = std::mem::replace(&mut other[at], octet);
            assert_eq!(answer(&other, from), None, "{at}");
            other[at] = before;
        }
        assert_eq!(answer(&request(b"\x80\x22\x00\x09abc\x00"), from), None);
        assert!(!is_stun(b"INVITE sip:a SIP/2.0"));
    }
}
