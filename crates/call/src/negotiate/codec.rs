use landline_control::PayloadType;
use serde::{Deserialize, Serialize};

/// One payload type of a description with what belongs to it, as it was
/// written: codecs pass through, known to us or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Codec {
    pub number: u8,
    /// `opus/48000/2`; static payload types may go without.
    pub rtpmap: Option<String>,
    pub fmtp: Vec<String>,
}

/// RFC 3551 §6, audio: what a number means without an `a=rtpmap`.
const STATIC: [(u8, &str, u32, u8); 17] = [
    (0, "PCMU", 8000, 1),
    (3, "GSM", 8000, 1),
    (4, "G723", 8000, 1),
    (5, "DVI4", 8000, 1),
    (6, "DVI4", 16000, 1),
    (7, "LPC", 8000, 1),
    (8, "PCMA", 8000, 1),
    (9, "G722", 8000, 1),
    (10, "L16", 44100, 2),
    (11, "L16", 44100, 1),
    (12, "QCELP", 8000, 1),
    (13, "CN", 8000, 1),
    (14, "MPA", 90000, 1),
    (15, "G728", 8000, 1),
    (16, "DVI4", 11025, 1),
    (17, "DVI4", 22050, 1),
    (18, "G729", 8000, 1),
];

impl Codec {
    pub(crate) fn new(number: u8, rtpmap: &str, fmtp: &[&str]) -> Self {
        Self {
            number,
            rtpmap: Some(rtpmap.to_owned()),
            fmtp: fmtp.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    /// What we offer where nobody offered yet: a caller that leaves the offer
    /// to the callee (RFC 3261 §13.2.1). Names as RFC 7587 §7 and the registry
    /// have them.
    pub(crate) fn ours() -> Vec<Self> {
        vec![
            Self::new(96, "opus/48000/2", &["useinbandfec=1"]),
            Self::new(9, "G722/8000", &[]),
            Self::new(0, "PCMU/8000", &[]),
            Self::new(8, "PCMA/8000", &[]),
            Self::new(101, "telephone-event/8000", &["0-16"]),
        ]
    }

    pub(crate) fn payload_type(&self) -> PayloadType {
        let (encoding, clock_rate, channels) = match &self.rtpmap {
            Some(rtpmap) => {
                let mut parts = rtpmap.split('/');
                let encoding = parts.next().unwrap_or_default().to_ascii_uppercase();
                let clock_rate = parts.next().and_then(|it| it.parse().ok()).unwrap_or(8000);
                let channels = parts.next().and_then(|it| it.parse().ok()).unwrap_or(1);
                (encoding, clock_rate, channels)
            }
            None => match STATIC.iter().find(|known| known.0 == self.number) {
                Some(known) => (known.1.to_owned(), known.2, known.3),
                None => ("UNKNOWN".to_owned(), 8000, 1),
            },
        };
        PayloadType { number: self.number, encoding, clock_rate, channels }
    }

    /// Carries speech, and not events or comfort noise alone.
    pub(crate) fn is_speech(&self) -> bool {
        Self::carries_speech(&self.payload_type())
    }

    pub(super) fn carries_speech(kind: &PayloadType) -> bool {
        !matches!(kind.encoding.as_str(), "TELEPHONE-EVENT" | "CN" | "RED" | "TONE")
    }

    /// The same format, whatever its number.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.payload_type().is_same_format(&other.payload_type())
    }
}

/// What of an answer was offered, in the answer's order and with the answer's
/// numbers, which say how its author wants to be sent to (RFC 3264 §6.1).
/// `None` when no speech is left.
pub(crate) fn common(offered: &[Codec], answered: &[Codec]) -> Option<Vec<Codec>> {
    let kept: Vec<_> = answered
        .iter()
        .filter(|answer| offered.iter().any(|offer| offer.is_same(answer)))
        .cloned()
        .collect();
    kept.iter().any(Codec::is_speech).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_number_needs_no_map_and_opus_is_opus() {
        let bare = Codec { number: 0, rtpmap: None, fmtp: Vec::new() };
        assert!(bare.is_same(&Codec::new(0, "pcmu/8000/1", &[])));
        assert!(Codec::new(96, "opus/48000/2", &[]).is_same(&Codec::new(107, "OPUS/48000/1", &[])));
        assert!(!Codec::new(0, "PCMU/8000", &[]).is_same(&Codec::new(8, "PCMA/8000", &[])));
    }

    #[test]
    fn events_alone_are_no_conversation() {
        let events = Codec::new(101, "telephone-event/8000", &[]);
        let offered = [Codec::new(0, "PCMU/8000", &[]), events.clone()];
        assert_eq!(common(&offered, std::slice::from_ref(&events)), None);
        let answered =
            [events.clone(), Codec::new(0, "PCMU/8000", &[]), Codec::new(18, "G729/8000", &[])];
        assert_eq!(common(&offered, &answered).unwrap().len(), 2);
    }
}
