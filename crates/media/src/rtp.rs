//! RTP headers (RFC 3550 §5.1) as a relay needs them: read in place.

/// The fixed header's length, without CSRCs and extension.
pub const FIXED_HEADER: usize = 12;

/// What an RTP header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpInfo {
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    /// In units of the payload type's clock rate.
    pub timestamp: u32,
    pub ssrc: u32,
    /// Octets before the payload: fixed header, CSRCs and header extension.
    pub header_len: usize,
    /// The last octet tells how many to ignore at the payload's end.
    pub padded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    #[error("the packet is shorter than its RTP header")]
    Short,
    #[error("the RTP version is not 2")]
    Version,
    #[error("the RTP padding is longer than the payload")]
    Padding,
}

impl RtpInfo {
    /// Reads the header. The payload, and with it the padding's length, may
    /// still be encrypted.
    pub fn parse(packet: &[u8]) -> Result<Self, RtpError> {
        let (fixed, rest) = packet.split_first_chunk::<FIXED_HEADER>().ok_or(RtpError::Short)?;
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if first >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let csrcs = usize::from(first & 0x0f) * 4;
        let mut header_len = FIXED_HEADER + csrcs;
        if first & 0x10 != 0 {
            let extension = rest.get(csrcs..).and_then(<[u8]>::first_chunk::<4>);
            let [_, _, high, low] = *extension.ok_or(RtpError::Short)?;
            header_len += 4 + usize::from(u16::from_be_bytes([high, low])) * 4;
        }
        if header_len > packet.len() {
            return Err(RtpError::Short);
        }
        Ok(Self {
            payload_type: second & 0x7f,
            marker: second & 0x80 != 0,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            header_len,
            padded: first & 0x20 != 0,
        })
    }

    /// The payload of the plain packet this was read from, without padding.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> Result<&'a [u8], RtpError> {
        let payload = packet.get(self.header_len..).ok_or(RtpError::Short)?;
        if !self.padded {
            return Ok(payload);
        }
        let padding = usize::from(*payload.last().ok_or(RtpError::Padding)?);
        match payload.len().checked_sub(padding) {
            Some(length) if padding > 0 => Ok(&payload[..length]),
            _ => Err(RtpError::Padding),
        }
    }
}

/// Appends a header without CSRCs or extension.
pub fn write_header(
    marker: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
) -> [u8; FIXED_HEADER] {
    let mut header = [0; FIXED_HEADER];
    header[0] = 0x80;
    header[1] = (u8::from(marker) << 7) | (payload_type & 0x7f);
    header[2..4].copy_from_slice(&sequence.to_be_bytes());
    header[4..8].copy_from_slice(&timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&ssrc.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_everything() -> Vec<u8> {
        let mut packet = write_header(true, 111, 7, 960, 0xdead_beef).to_vec();
        packet[0] = 0x80 | 0x20 | 0x10 | 2;
        packet.extend_from_slice(&[1; 8]);
        packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
        packet.extend_from_slice(&[5, 5, 5, 0, 0, 3]);
        packet
    }

    #[test]
    fn csrcs_extension_and_padding_are_not_payload() {
        let packet = with_everything();
        let info = RtpInfo::parse(&packet).unwrap();
        assert_eq!((info.payload_type, info.marker, info.sequence), (111, true, 7));
        assert_eq!((info.timestamp, info.ssrc, info.header_len), (960, 0xdead_beef, 28));
        assert_eq!(info.payload(&packet).unwrap(), [5, 5, 5]);
    }

    #[test]
    fn a_header_cut_anywhere_is_an_error() {
        let packet = with_everything();
        for length in 0..28 {
            assert_eq!(RtpInfo::parse(&packet[..length]), Err(RtpError::Short), "{length}");
        }
    }

    #[test]
    fn padding_beyond_the_payload_is_an_error() {
        for padding in [0, 7, 255] {
            let mut packet = with_everything();
            *packet.last_mut().unwrap() = padding;
            let info = RtpInfo::parse(&packet).unwrap();
            assert_eq!(info.payload(&packet), Err(RtpError::Padding));
        }
    }
}
