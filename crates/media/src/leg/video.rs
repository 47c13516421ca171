//! Video beside the sound: passed on, and kept out of the sound's figures.

use landline_control::VideoType;

use super::Leg;
use super::renewal::Renewal;
use crate::rtp::RtpInfo;

/// Payload types of a leg's video, and its last stream.
#[derive(Debug, Clone, Default)]
pub struct Video {
    types: Vec<VideoType>,
    source: Option<u32>,
}

impl Video {
    pub fn kind(&self, info: &RtpInfo) -> Option<VideoType> {
        self.types.iter().find(|kind| kind.number == info.payload_type).copied()
    }

    /// Makes true what a retransmission says of the packet that it repeats, where
    /// that one was sent under other numbers (RFC 4588 §4).
    pub fn sent(&mut self, kind: VideoType, info: &RtpInfo, renewal: &Renewal, packet: &mut [u8]) {
        if !kind.repeats {
            self.source = Some(info.ssrc);
            return;
        }
        let field = packet.get_mut(info.header_len..).and_then(<[u8]>::first_chunk_mut::<2>);
        if let (Some(field), Some(source)) = (field, self.source) {
            *field = renewal.renewed(source, u16::from_be_bytes(*field)).to_be_bytes();
        }
    }
}

impl Leg {
    /// What the peer sends and takes beside sound, from now on.
    pub fn set_video(&mut self, types: Vec<VideoType>) {
        self.video = Video { types, source: None };
    }
}
