//! Streams to a peer that has heard them before, under other keys.
//!
//! What the peer takes their rollover counters to be by then cannot be known
//! (see [`crate::srtp::Rollover`]). A stream with a new SSRC begins at 0 with
//! everybody (RFC 3711 §3.2.3), and so do its SRTCP index and replay windows;
//! sequence numbers begin in the lower half, so that nobody meets a wrap first.
//! Timestamps stay. Reports about these streams are brought back to the
//! source's own numbers.

use landline_region::Entropy;
use smallvec::SmallVec;

use crate::rtcp::sources::{self, Original};
use crate::rtp::RtpInfo;

/// Sources of one peer's streams. Who has more starts the oldest anew.
const MAX_SOURCES: usize = 8;

/// Where sequence numbers begin: above this, so that what was overtaken by the
/// first packet has one too, and with a quarter of their range until the half.
const FIRST: u16 = 0x1000;
const SPAN: u64 = 0x4000;

pub fn first_sequence(entropy: &mut Entropy) -> u16 {
    FIRST + (entropy.u64() % SPAN) as u16
}

#[derive(Debug, Clone, Default)]
pub struct Renewal {
    sources: SmallVec<[Source; 2]>,
    /// SSRCs that the peer was sent packets of before.
    used: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Source {
    /// As the source says, and as the peer hears.
    ours: u32,
    theirs: u32,
    /// Of the first packet, likewise; not known before it.
    first: Option<(u16, u16)>,
}

impl Renewal {
    /// Gives no stream one of these names.
    pub fn avoiding(used: Vec<u32>) -> Self {
        Self { sources: SmallVec::new(), used }
    }

    /// Renews an RTP packet's SSRC and sequence number.
    pub fn rtp(&mut self, entropy: &mut Entropy, info: &RtpInfo, packet: &mut [u8]) {
        let source = self.source(entropy, info.ssrc);
        let begin = || (info.sequence, first_sequence(entropy));
        let (ours, theirs) = *source.first.get_or_insert_with(begin);
        let sequence = info.sequence.wrapping_sub(ours).wrapping_add(theirs);
        if let Some(field) = packet.get_mut(2..4) {
            field.copy_from_slice(&sequence.to_be_bytes());
        }
        if let Some(field) = packet.get_mut(8..12) {
            field.copy_from_slice(&source.theirs.to_be_bytes());
        }
    }

    /// The number under which a source's packet was sent.
    pub fn renewed(&self, ssrc: u32, sequence: u16) -> u16 {
        let source = self.sources.iter().find(|it| it.ours == ssrc);
        let (ours, theirs) = source.and_then(|it| it.first).unwrap_or_default();
        sequence.wrapping_sub(ours).wrapping_add(theirs)
    }

    /// Renews the SSRCs by which a compound's packets speak of their sender.
    pub fn rtcp(&mut self, entropy: &mut Entropy, compound: &mut [u8]) {
        sources::for_each(compound, |packet| {
            sources::replace_own(packet, |ssrc| self.source(entropy, ssrc).theirs);
        });
    }

    /// Brings what the peer reports of these streams back to the sources' own
    /// numbers. What it says of others stays.
    pub fn restore_rtcp(&self, compound: &mut [u8]) {
        sources::for_each(compound, |packet| {
            sources::restore_reported(packet, |ssrc| {
                let source = self.sources.iter().find(|it| it.theirs == ssrc)?;
                let sequence = source.first.unwrap_or_default();
                Some(Original { ssrc: source.ours, sequence })
            });
        });
    }

    fn source(&mut self, entropy: &mut Entropy, ssrc: u32) -> &mut Source {
        let known = self.sources.iter().position(|it| it.ours == ssrc);
        let at = known.unwrap_or_else(|| {
            if self.sources.len() == MAX_SOURCES {
                self.sources.remove(0);
            }
            let theirs = self.unused(entropy, ssrc);
            self.sources.push(Source { ours: ssrc, theirs, first: None });
            self.sources.len() - 1
        });
        &mut self.sources[at]
    }

    fn unused(&self, entropy: &mut Entropy, not: u32) -> u32 {
        loop {
            let ssrc = entropy.u64() as u32;
            let is_ours = self.sources.iter().any(|it| it.theirs == ssrc);
            if ssrc != not && !is_ours && !self.used.contains(&ssrc) {
                return ssrc;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::write_header;

    fn renewed(renewal: &mut Renewal, sequence: u16, ssrc: u32) -> RtpInfo {
        let mut entropy = Entropy::new([ssrc as u8 + sequence as u8 % 4; 32]);
        let mut packet = write_header(false, 0, sequence, 160, ssrc);
        let info = RtpInfo::parse(&packet).unwrap();
        renewal.rtp(&mut entropy, &info, &mut packet);
        RtpInfo::parse(&packet).unwrap()
    }

    #[test]
    fn a_stream_goes_on_under_another_name_in_the_lower_half() {
        let mut renewal = Renewal::default();
        let first = renewed(&mut renewal, 65_530, 7);
        assert!(first.ssrc != 7 && (0x1000..0x5000).contains(&first.sequence));
        assert_eq!(first.timestamp, 160);
        for n in 1..100u16 {
            let next = renewed(&mut renewal, 65_530u16.wrapping_add(n), 7);
            assert_eq!((next.ssrc, next.sequence), (first.ssrc, first.sequence + n));
        }
        let late = renewed(&mut renewal, 65_529, 7);
        assert_eq!((late.ssrc, late.sequence), (first.ssrc, first.sequence - 1));
    }

    #[test]
    fn no_stream_gets_a_name_that_was_used_before() {
        let fresh = |used: Vec<u32>| {
            let mut renewal = Renewal::avoiding(used);
            renewed(&mut renewal, 1, 7).ssrc
        };
        let first = fresh(Vec::new());
        assert_eq!(fresh(vec![1, 2]), first, "the test draws the same again");
        assert_ne!(fresh(vec![1, first, 2]), first);
    }

    #[test]
    fn sources_are_told_apart_and_there_are_only_so_many() {
        let mut renewal = Renewal::default();
        let names: Vec<_> = (0..20).map(|ssrc| renewed(&mut renewal, 1, ssrc).ssrc).collect();
        assert_eq!(renewal.sources.len(), MAX_SOURCES);
        assert_eq!(renewed(&mut renewal, 2, 19).ssrc, names[19]);
        assert_ne!(renewed(&mut renewal, 2, 0).ssrc, names[0]);
    }
}
