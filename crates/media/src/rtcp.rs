//! RTCP framing (RFC 3550 §6.1): enough to tell it from RTP and to refuse
//! what is not a chain of RTCP packets. Contents pass through, but for the
//! names of streams that were renewed.

pub(crate) mod sources;

/// Common header and sender's SSRC.
pub const HEADER: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    #[error("the packet is shorter than an RTCP header")]
    Short,
    #[error("the RTCP version is not 2")]
    Version,
    #[error("an RTCP packet's length field does not fit its datagram")]
    Length,
}

/// Whether a packet of RTP's version is RTCP by its second octet (RFC 5761 §4).
pub const fn is_rtcp(second: u8) -> bool {
    second >= 192 && second <= 223
}

/// Whether a datagram of RTP's version range carries RTCP.
pub fn looks_like_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|second| is_rtcp(*second))
}

/// The sender's SSRC of the first packet; the rest may be encrypted.
pub fn sender(packet: &[u8]) -> Result<u32, RtcpError> {
    let header = packet.first_chunk::<HEADER>().ok_or(RtcpError::Short)?;
    if header[0] >> 6 != 2 {
        return Err(RtcpError::Version);
    }
    Ok(u32::from_be_bytes([header[4], header[5], header[6], header[7]]))
}

/// Checks the lengths of a plain compound packet. Reduced-size packets
/// (RFC 5506) pass: the first one need not be a report.
pub fn check(packet: &[u8]) -> Result<(), RtcpError> {
    sender(packet)?;
    let mut rest = packet;
    while !rest.is_empty() {
        let [first, _, high, low] = *rest.first_chunk::<4>().ok_or(RtcpError::Length)?;
        if first >> 6 != 2 {
            return Err(RtcpError::Version);
        }
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        rest = rest.get(length..).ok_or(RtcpError::Length)?;
    }
    Ok(())
}

/// A sender report without report blocks (RFC 3550 §6.4.1) and the CNAME that
/// must follow it. The wall clock is left at zero, which says there is none.
pub fn write_sender_report(ssrc: u32, timestamp: u32, packets: u32, octets: u32) -> Vec<u8> {
    const CNAME: &[u8] = b"landline";
    let mut report = vec![0x80, 200, 0, 6];
    for word in [ssrc, 0, 0, timestamp, packets, octets] {
        report.extend_from_slice(&word.to_be_bytes());
    }
    report.extend_from_slice(&[0x81, 202, 0, 4]);
    report.extend_from_slice(&ssrc.to_be_bytes());
    report.extend_from_slice(&[1, CNAME.len() as u8]);
    report.extend_from_slice(CNAME);
    // The item list ends with zeros up to the next word.
    report.resize(48, 0);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_report_is_a_compound_that_passes() {
        let report = write_sender_report(0xfeed, 160, 1, 160);
        assert!(looks_like_rtcp(&report));
        assert_eq!(check(&report), Ok(()));
        assert_eq!(sender(&report), Ok(0xfeed));
    }

    #[test]
    fn a_compound_packet_must_add_up() {
        let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
        let bye = [0x81, 203, 0, 1, 0, 0, 0, 9];
        let compound = [report, bye].concat();
        assert_eq!(check(&compound), Ok(()));
        assert_eq!(sender(&compound), Ok(9));
        assert_eq!(check(&compound[..12]), Err(RtcpError::Length));
        assert_eq!(check(&compound[..7]), Err(RtcpError::Short));
        assert_eq!(check(&[&report[..], &[0, 0, 0, 0]].concat()), Err(RtcpError::Version));
    }
}
