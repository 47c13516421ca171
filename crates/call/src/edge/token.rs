//! Flow tokens (RFC 5626 §5.2): in the user part of our Path and Record-Route
//! URIs stands the client's flow, signed, so that an edge keeps nothing of the
//! accounts it forwards for.

use std::net::{IpAddr, SocketAddr};

use landline_region::{DataClass, PseudonymKey, RegionCode};
use landline_sip::{Flow, FlowId, Transport};

/// The way back to a client, and which region may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlowToken {
    pub flow: Flow,
    pub home: RegionCode,
}

pub(crate) struct Signer(PseudonymKey);

const VERSION: u8 = 1;
const PROOF: usize = 16;
/// Version, transport, flow, two addresses, region, proof; in hexadecimal.
const LONGEST: usize = 2 * (2 + 8 + 2 * 19 + 4 + PROOF);

impl Signer {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(PseudonymKey::new(key))
    }

    pub(crate) fn write(&self, token: &FlowToken) -> String {
        let mut body = vec![VERSION];
        let FlowToken { flow, home } = token;
        let transport = Transport::ALL.iter().position(|it| *it == flow.transport);
        body.push(transport.unwrap_or_default() as u8);
        body.extend(flow.id.0.to_be_bytes());
        for address in [flow.local, flow.remote] {
            match address.ip() {
                IpAddr::V4(ip) => {
                    body.push(4);
                    body.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    body.push(6);
                    body.extend(ip.octets());
                }
            }
            body.extend(address.port().to_be_bytes());
        }
        body.extend(home.as_str().as_bytes());
        let text = hex(&body);
        let proof = self.0.token(DataClass::Address, &text);
        text + &hex(proof.as_bytes())
    }

    /// `None` for what is not a token of ours.
    pub(crate) fn read(&self, text: &str) -> Option<FlowToken> {
        if text.len() > LONGEST || text.len() < 2 * PROOF || !text.is_ascii() {
            return None;
        }
        let (body, proof) = text.split_at_checked(text.len() - 2 * PROOF)?;
        let expected = hex(self.0.token(DataClass::Address, body).as_bytes());
        // Every octet is compared, whatever the first ones say.
        let differing = expected.bytes().zip(proof.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        if differing != 0 {
            return None;
        }
        read_body(&unhex(body)?)
    }
}

fn read_body(body: &[u8]) -> Option<FlowToken> {
    let (&version, rest) = body.split_first()?;
    let (&transport, rest) = rest.split_first()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (local, rest) = address(rest)?;
    let (remote, rest) = address(rest)?;
    let home = std::str::from_utf8(rest).ok()?.parse().ok()?;
    let transport = *Transport::ALL.get(usize::from(transport))?;
    let flow = Flow { id: FlowId(u64::from_be_bytes(*id)), transport, local, remote, peer: None };
    (version == VERSION).then_some(FlowToken { flow, home })
}

fn address(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (&family, rest) = bytes.split_first()?;
    let (ip, rest) = match family {
        4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
        6 => rest.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), rest))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|b| [b >> 4, b & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> FlowToken {
        let flow = Flow {
            id: FlowId(7),
            transport: Transport::Wss,
            local: "[2001:db8::1]:443".parse().unwrap(),
            remote: "192.0.2.7:40000".parse().unwrap(),
            peer: None,
        };
        FlowToken { flow, home: "ie1".parse().unwrap() }
    }

    #[test]
    fn a_token_reads_back_under_its_own_key_only() {
        let signer = Signer::new(&[1; 32]);
        let text = signer.write(&token());
        assert!(text.len() <= LONGEST);
        assert_eq!(signer.read(&text), Some(token()));
        assert_eq!(Signer::new(&[2; 32]).read(&text), None);
    }

    #[test]
    fn a_changed_or_cut_token_is_none_of_ours() {
        let signer = Signer::new(&[1; 32]);
        let text = signer.write(&token());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(signer.read(&String::from_utf8(changed).unwrap()), None, "{at}");
            assert_eq!(signer.read(&text[..at]), None, "{at}");
        }
        assert_eq!(signer.read("ä"), None);
    }
}
