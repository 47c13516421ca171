//! The peers' SDP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use landline_control::{
    Direction, Fingerprint, HashFunction, IceCredentials, IpFamily, Protocol, SdesKey, SrtpSuite,
};
use landline_sip::Limits;
use landline_sip::sdp::{self, Media, SessionDescription};
use serde::{Deserialize, Serialize};

use super::Mismatch;
use super::codec::Codec;
use super::video::Video;

pub(crate) use landline_sip::sdp::Setup;

/// What a peer's description says of the one audio stream we take, typed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Description {
    pub proto: String,
    pub protocol: Protocol,
    pub rtp: SocketAddr,
    pub rtcp: SocketAddr,
    pub family: IpFamily,
    pub mux: bool,
    pub ice: Option<IceCredentials>,
    pub fingerprints: Vec<Fingerprint>,
    /// Means something while the description is new; not kept.
    #[serde(skip)]
    pub setup: Option<Setup>,
    /// Those of suites that we have, in the peer's order.
    pub crypto: Vec<SdesKey>,
    /// As the description has it: what the peer wants to do.
    pub direction: Direction,
    pub codecs: Vec<Codec>,
    pub ptime: Option<String>,
    pub maxptime: Option<String>,
    pub lines: Vec<Line>,
    /// Which of the lines is the audio stream.
    pub audio: usize,
    /// The audio stream is in a BUNDLE group (RFC 9143).
    pub bundle: bool,
    /// What is in it beside the audio; a peer offers or answers it anew.
    #[serde(skip)]
    pub video: Option<Video>,
}

/// One `m=` line, as far as an answer has to repeat it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub kind: String,
    pub proto: String,
    pub formats: Vec<String>,
    pub mid: Option<String>,
}

/// Longest list of formats taken from one line; there are 128 payload types.
const MAX_FORMATS: usize = 128;
const MAX_KEYS: usize = 16;

impl Description {
    pub(crate) fn read(body: &[u8], limits: &Limits) -> Result<Self, Mismatch> {
        let session = sdp::parse(body, limits).map_err(|_| Mismatch::Unreadable)?;
        let mut problem = Mismatch::NoAudio;
        for (index, media) in session.media.iter().enumerate() {
            if media.kind != "audio" || media.is_disabled() {
                continue;
            }
            match Self::audio(&session, media, index) {
                Ok(description) => return Ok(description),
                // What is wrong with the first one is what is told.
                Err(found) if problem == Mismatch::NoAudio => problem = found,
                Err(_) => {}
            }
        }
        Err(problem)
    }

    fn audio(session: &SessionDescription, media: &Media, index: usize) -> Result<Self, Mismatch> {
        let crypto: Vec<_> = media.cryptos().iter().filter_map(key).take(MAX_KEYS).collect();
        let fingerprints: Vec<_> =
            session.fingerprints(media).iter().filter_map(fingerprint).take(MAX_KEYS).collect();
        let protocol = protocol(&media.protocol, !crypto.is_empty(), !fingerprints.is_empty())
            .ok_or(Mismatch::Transport)?;
        let ice = ice(session, media);
        let (rtp, rtcp, family) = addresses(session, media, ice.is_some())?;
        let codecs = codecs(media);
        if !codecs.iter().any(Codec::is_speech) {
            return Err(Mismatch::Codec);
        }
        let video = Video::read(session, media, &codecs).filter(|_| protocol == Protocol::Dtls);
        let mid = media.mid();
        let bundle = session.attribute_values("group").any(|group| {
            let mut words = group.split_ascii_whitespace();
            words.next() == Some("BUNDLE") && words.any(|word| Some(word) == mid)
        });
        Ok(Self {
            proto: media.protocol.clone(),
            protocol,
            rtp,
            rtcp,
            family,
            mux: media.rtcp_mux(),
            ice,
            fingerprints,
            setup: session.setup(media),
            crypto,
            direction: direction(session, media, rtp),
            codecs,
            ptime: media.ptime().map(|it| it.to_string()),
            maxptime: media.maxptime().map(|it| it.to_string()),
            lines: session.media.iter().map(line).collect(),
            audio: index,
            bundle,
            video,
        })
    }
}

/// What the protocol of an `m=` line and the keys beside it come to. RTP/AVP
/// with keys is how phones offer encryption "if you can"; RTP/SAVP with a
/// fingerprint alone is how browsers once offered DTLS.
fn protocol(name: &str, crypto: bool, fingerprint: bool) -> Option<Protocol> {
    let name = name.to_ascii_uppercase();
    match name.as_str() {
        "RTP/AVP" | "RTP/AVPF" if crypto => Some(Protocol::Sdes),
        "RTP/AVP" | "RTP/AVPF" => Some(Protocol::Rtp),
        "RTP/SAVP" | "RTP/SAVPF" if fingerprint && !crypto => Some(Protocol::Dtls),
        "RTP/SAVP" | "RTP/SAVPF" => Some(Protocol::Sdes),
        "UDP/TLS/RTP/SAVP" | "UDP/TLS/RTP/SAVPF" => Some(Protocol::Dtls),
        _ => None,
    }
}

/// Where RTP and RTCP go. A name where an address belongs is no use to a
/// relay; with ICE the candidates' checks bring the address.
fn addresses(
    session: &SessionDescription,
    media: &Media,
    ice: bool,
) -> Result<(SocketAddr, SocketAddr, IpFamily), Mismatch> {
    let ip = match session.media_ip(media) {
        Some(ip) => ip.to_canonical(),
        None if ice => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        None => return Err(Mismatch::Address),
    };
    if ip.is_multicast() {
        return Err(Mismatch::Address);
    }
    // Chrome writes 0.0.0.0 port 9 before it has candidates; then these say
    // which family the peer has.
    let candidate = media.candidates().iter().find_map(sdp::Candidate::ip);
    let family = match if ip.is_unspecified() { candidate.unwrap_or(ip) } else { ip } {
        IpAddr::V4(_) => IpFamily::V4,
        IpAddr::V6(_) => IpFamily::V6,
    };
    let ip = match (ip.is_unspecified(), family) {
        (false, _) => ip,
        (true, IpFamily::V4) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (true, IpFamily::V6) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let rtp = SocketAddr::new(ip, media.port);
    let rtcp = match media.rtcp() {
        Some(rtcp) => SocketAddr::new(rtcp.address.unwrap_or(ip), rtcp.port),
        None => SocketAddr::new(ip, media.port.saturating_add(1)),
    };
    Ok((rtp, rtcp, family))
}

pub(super) fn wanted(session: &SessionDescription, media: &Media) -> Direction {
    match session.direction(media) {
        sdp::Direction::SendRecv => Direction::SendReceive,
        sdp::Direction::SendOnly => Direction::SendOnly,
        sdp::Direction::RecvOnly => Direction::ReceiveOnly,
        sdp::Direction::Inactive => Direction::Inactive,
    }
}

/// The unspecified address is the old way to put on hold (RFC 3264 §8.4).
fn direction(session: &SessionDescription, media: &Media, rtp: SocketAddr) -> Direction {
    let said = wanted(session, media);
    let held = rtp.ip().is_unspecified() && session.ice_ufrag(media).is_none();
    match (held, said) {
        (true, Direction::SendReceive) => Direction::SendOnly,
        (true, Direction::ReceiveOnly) => Direction::Inactive,
        (_, said) => said,
    }
}

pub(super) fn codecs(media: &Media) -> Vec<Codec> {
    let maps = media.rtpmaps();
    let parameters = media.fmtps();
    let numbers = media.formats.iter().filter_map(|it| it.parse::<u8>().ok());
    let codec = |number: u8| Codec {
        number,
        rtpmap: maps.iter().find(|map| map.payload_type == number).map(|map| {
            let channels = map.channels.map(|it| format!("/{it}")).unwrap_or_default();
            format!("{}/{}{channels}", map.encoding, map.clock_rate)
        }),
        fmtp: parameters
            .iter()
            .filter(|fmtp| fmtp.payload_type == number)
            .map(|fmtp| fmtp.params.clone())
            .collect(),
    };
    numbers.filter(|number| *number < 128).take(MAX_FORMATS).map(codec).collect()
}

fn ice(session: &SessionDescription, media: &Media) -> Option<IceCredentials> {
    let (ufrag, pwd) = (session.ice_ufrag(media)?, session.ice_pwd(media)?);
    // RFC 8839 §5.4.
    let sound = (4..=256).contains(&ufrag.len()) && (22..=256).contains(&pwd.len());
    sound.then(|| IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
}

fn fingerprint(said: &sdp::Fingerprint) -> Option<Fingerprint> {
    let hash = HashFunction::from_name(&said.hash)?;
    let length = match hash {
        HashFunction::Sha256 => 32,
        HashFunction::Sha384 => 48,
        HashFunction::Sha512 => 64,
    };
    (said.digest.len() == length).then(|| Fingerprint { hash, digest: said.digest.clone() })
}

/// A key of a suite that we have, without session parameters, which would ask
/// for a behaviour that we lack (RFC 4568 §6.3), and without a key identifier,
/// which would change the packets (§6.1).
fn key(said: &sdp::Crypto) -> Option<SdesKey> {
    let suite = SrtpSuite::from_name(&said.suite)?;
    if !said.session_params.is_empty() || said.mki.is_some() {
        return None;
    }
    let key_and_salt = unbase64(&said.key)?;
    (key_and_salt.len() == suite.key_and_salt_len()).then_some(SdesKey {
        tag: said.tag,
        suite,
        key_and_salt,
    })
}

/// With or without padding.
fn unbase64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.chunks(4) {
        let mut word = 0u32;
        for digit in chunk {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(value);
        }
        word <<= 6 * (4 - chunk.len());
        bytes.extend(word.to_be_bytes().iter().skip(1).take(chunk.len() * 6 / 8));
    }
    Some(bytes)
}

fn line(media: &Media) -> Line {
    Line {
        kind: media.kind.clone(),
        proto: media.protocol.clone(),
        formats: media.formats.clone(),
        mid: media.mid().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negotiate::LegMedia;
    use landline_control::LegLocal;
    use landline_region::Entropy;

    const BROWSER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n\
        a=group:BUNDLE 0 1\r\na=fingerprint:sha-256 \
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:\
        00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 0 110\r\nc=IN IP4 0.0.0.0\r\n\
        a=candidate:1 1 udp 1 2001:db8::7 5000 typ host\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=mid:0\r\n\
        a=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\n\
        a=rtpmap:110 telephone-event/48000\r\na=sendonly\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n";

    const PHONE: &str = "v=0\r\no=x 1 1 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\n\
        t=0 0\r\nm=audio 4000 RTP/SAVP 8 0\r\na=rtcp:4007\r\na=crypto:3 AEAD_AES_128_GCM \
        inline:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYg==\r\na=crypto:4 AES_CM_128_HMAC_SHA1_80 \
        inline:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNk|1:4\r\n";

    fn read(text: &str) -> Result<Description, Mismatch> {
        Description::read(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn a_browsers_offer_is_read() {
        let offer = read(BROWSER).unwrap();
        assert_eq!((offer.protocol, offer.family), (Protocol::Dtls, IpFamily::V6));
        assert_eq!((offer.mux, offer.bundle, offer.audio), (true, true, 0));
        assert_eq!(offer.direction, Direction::SendOnly);
        assert_eq!(offer.codecs.len(), 3);
        assert_eq!(offer.codecs[1].rtpmap, None);
        assert_eq!(offer.lines.len(), 2);
    }

    #[test]
    fn keys_that_would_change_the_packets_are_passed_over() {
        let offer = read(PHONE).unwrap();
        assert_eq!(offer.rtcp.port(), 4007);
        let keys: Vec<_> = offer.crypto.iter().map(|key| (key.tag, key.suite)).collect();
        assert_eq!(keys, [(3, SrtpSuite::AeadAes128Gcm)]);
        // Without its padding it is the same key.
        assert_eq!(read(&PHONE.replace("==\r\n", "\r\n")).unwrap().crypto, offer.crypto);
    }

    #[test]
    fn the_unspecified_address_is_a_hold() {
        let held = PHONE.replace("2001:db8::1\r\nt", "::\r\nt");
        assert_eq!(read(&held).unwrap().direction, Direction::SendOnly);
    }

    #[test]
    fn no_description_makes_us_write_one_that_cannot_be_read() {
        let mut entropy = Entropy::new([5; 32]);
        let mut answered = 0;
        for round in 0..20_000 {
            let mut bytes = if round % 2 == 0 { BROWSER } else { PHONE }.as_bytes().to_vec();
            for _ in 0..1 + entropy.u64() % 3 {
                let at = (entropy.u64() % bytes.len() as u64) as usize;
                match entropy.u64() % 4 {
                    0 => bytes[at] = entropy.u64() as u8,
                    1 => bytes.truncate(at.max(9)),
                    2 if bytes.len() > 9 => {
                        bytes.remove(at);
                    }
                    _ => bytes.insert(at, b"019 /:=\r\n"[(entropy.u64() % 9) as usize]),
                }
            }
            let Ok(offer) = Description::read(&bytes, &Limits::default()) else { continue };
            answered += u32::from(answer_is_readable(&offer));
        }
        assert!(answered > 5_000, "{answered}");
    }

    fn answer_is_readable(offer: &Description) -> bool {
        let Ok(mut media) = LegMedia::answering(offer, 7) else { return false };
        let keys = media.spec.suites.iter().map(|suite| SdesKey {
            tag: 1,
            suite: *suite,
            key_and_salt: vec![1; suite.key_and_salt_len()],
        });
        media.local = Some(LegLocal {
            rtp: "192.0.2.9:4000".parse().unwrap(),
            rtcp: "192.0.2.9:4001".parse().unwrap(),
            ice: offer.ice.clone(),
            fingerprint: offer.fingerprints.first().cloned(),
            sdes: keys.collect(),
        });
        let body = media.answer(offer, LegMedia::terms_of(offer));
        let answer = Description::read(&body.expect("an answer"), &Limits::default());
        let answer = answer.expect("a readable answer");
        assert_eq!((answer.lines.len(), answer.audio), (offer.lines.len(), offer.audio));
        assert!(media.remote().is_some());
        true
    }
}
