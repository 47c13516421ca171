//! Video between two browsers: one stream in the bundle of the sound (RFC 9143),
//! relayed as it is. Elsewhere it is declined.
//!
//! Header extensions are offered to neither side, so that no packet has any: two
//! legs need not agree on their numbers, nor on what their bundles are called.

use landline_control::{Direction, VideoType};
use landline_sip::sdp::{Media, SessionDescription};

use serde::{Deserialize, Serialize};

use super::codec::Codec;
use super::read::{self, Line};

/// The feedback that passes from one side to the other and means the same to
/// both (RFC 4585, RFC 5104). What goes by header extensions does not.
const FEEDBACK: [&str; 4] = ["nack", "nack pli", "ccm fir", "goog-remb"];

/// Formats that are about others; the rest can stand alone.
const REPEATS: &str = "RTX";
const REPAIRS: [&str; 2] = ["RED", "ULPFEC"];
/// Needs its streams named in the description.
const UNSERVED: &str = "FLEXFEC-03";

/// One side's video, or what it is offered of the other's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Video {
    pub codecs: Vec<VideoCodec>,
    /// What the peer that it came from wants to do.
    pub direction: Direction,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VideoCodec {
    pub codec: Codec,
    pub feedback: Vec<String>,
}

impl VideoCodec {
    fn encoding(&self) -> String {
        self.codec.payload_type().encoding
    }

    /// The format that this one repeats packets of (RFC 4588 §8.1).
    fn repeated(&self) -> Option<u8> {
        let mut parameters = self.codec.fmtp.iter().flat_map(|fmtp| fmtp.split(';'));
        parameters.find_map(|it| it.trim().strip_prefix("apt=")?.parse().ok())
    }

    fn is_picture(&self) -> bool {
        let encoding = self.encoding();
        encoding != REPEATS && !REPAIRS.contains(&encoding.as_str())
    }
}

impl Video {
    /// The first video stream in the bundle of the sound. A number of the sound's
    /// means sound.
    pub(super) fn read(
        session: &SessionDescription,
        audio: &Media,
        sound: &[Codec],
    ) -> Option<Self> {
        let bundled = |media: &Media| is_bundled_with(session, audio, media);
        let media = session.media.iter().find(|media| media.kind == "video")?;
        let is_on =
            !media.is_disabled() || media.attributes.iter().any(|it| it.name == "bundle-only");
        if !is_on || !bundled(media) || media.protocol != audio.protocol {
            return None;
        }
        let codecs = read::codecs(media).into_iter().map(|codec| {
            let feedback = feedback(media, codec.number);
            VideoCodec { codec, feedback }
        });
        let direction = read::wanted(session, media);
        let codecs = codecs.filter(|it| it.encoding() != UNSERVED).collect();
        Self { codecs, direction }.beside(sound)
    }

    /// Without the numbers that mean sound.
    pub(super) fn beside(mut self, sound: &[Codec]) -> Option<Self> {
        self.codecs.retain(|it| sound.iter().all(|sound| sound.number != it.codec.number));
        Self::of(self.codecs, self.direction)
    }

    /// `None` without a format that makes a picture. What repeats one that is
    /// not there goes.
    fn of(mut codecs: Vec<VideoCodec>, direction: Direction) -> Option<Self> {
        let pictures = codecs.iter().filter(|it| it.encoding() != REPEATS);
        let numbers: Vec<_> = pictures.map(|it| it.codec.number).collect();
        codecs.retain(|it| {
            it.encoding() != REPEATS || it.repeated().is_some_and(|it| numbers.contains(&it))
        });
        codecs.iter().any(VideoCodec::is_picture).then_some(Self { codecs, direction })
    }

    /// What of an answer was offered, by the same number: packets pass as they
    /// are.
    pub(super) fn common(offered: &Self, answered: &Self) -> Option<Self> {
        let is_offered = |answer: &&VideoCodec| {
            offered.codecs.iter().any(|offer| {
                offer.codec.number == answer.codec.number && offer.codec.is_same(&answer.codec)
            })
        };
        let codecs = answered.codecs.iter().filter(is_offered).cloned().collect();
        Self::of(codecs, answered.direction)
    }

    pub(super) fn has(&self, number: u8) -> bool {
        self.codecs.iter().any(|it| it.codec.number == number)
    }

    /// For the relay.
    pub(super) fn types(&self) -> Vec<VideoType> {
        let kind = |it: &VideoCodec| VideoType {
            number: it.codec.number,
            repeats: it.encoding() == REPEATS,
        };
        self.codecs.iter().map(kind).collect()
    }

    /// Whether the other tells a peer the same.
    pub(super) fn says_as(&self, other: &Self) -> bool {
        let ours = self.codecs.iter().map(|it| &it.codec);
        self.direction == other.direction && ours.eq(other.codecs.iter().map(|it| &it.codec))
    }
}

/// The line of the video stream, among those of a session.
pub(super) fn line(lines: &[Line]) -> Option<usize> {
    lines.iter().position(|line| line.kind == "video")
}

/// The transport is that of the first in the group, which has to be the sound.
fn is_bundled_with(session: &SessionDescription, audio: &Media, video: &Media) -> bool {
    let (Some(audio), Some(video)) = (audio.mid(), video.mid()) else { return false };
    session.attribute_values("group").any(|group| {
        let mut words = group.split_ascii_whitespace();
        let mids: Vec<_> = words.by_ref().collect();
        mids.starts_with(&["BUNDLE", audio]) && mids.contains(&video)
    })
}

fn feedback(media: &Media, number: u8) -> Vec<String> {
    let values = media.attributes.iter().filter(|it| it.name == "rtcp-fb");
    let said = values.filter_map(|it| it.value.as_deref()?.split_once(' '));
    let mine = said.filter(|(of, _)| *of == "*" || of.parse() == Ok(number));
    let known = mine.filter_map(|(_, what)| FEEDBACK.iter().find(|it| **it == what.trim()));
    known.map(|it| (*it).to_owned()).collect()
}
