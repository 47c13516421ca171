//! Video beside the sound: passed on, and kept out of the sound's figures.

use landline_control::{Direction, VideoType};

use super::Leg;
use super::renewal::Renewal;
use crate::rtp::RtpInfo;

/// Payload types of a leg's video, which way it goes, and its last stream.
#[derive(Debug, Clone, Default)]
pub struct Video {
    types: Vec<VideoType>,
    pub direction: Direction,
    source: Option<u32>,
}

impl Video {
    fn kind(&self, info: &RtpInfo) -> Option<VideoType> {
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
    /// What the peer sends and takes beside sound, from now on. It goes its own
    /// way: a browser without a microphone may have a camera.
    pub fn set_video(&mut self, direction: Direction, types: Vec<VideoType>) {
        self.video = Video { types, direction, source: None };
    }

    /// The packet is no sound to this peer.
    pub fn has_as_video(&self, info: &RtpInfo) -> bool {
        self.video_kind(info).is_some()
    }

    /// A number that means sound means sound, whatever it is said to mean besides.
    pub(super) fn video_kind(&self, info: &RtpInfo) -> Option<VideoType> {
        let sound = self.remote.as_ref().and_then(|it| it.kind(info.payload_type));
        self.video.kind(info).filter(|_| sound.is_none())
    }
}
