//! The phone's session descriptions (RFC 8866, 3264), and what it reads out of
//! the other side's.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use landline_control::{
    Direction, DtlsParameters, DtlsRole, Fingerprint, HashFunction, IceCredentials, IpFamily,
    LegLocal, LegSpec, PayloadType, Protocol, Remote, SdesKey, SdesPair, SrtpSuite,
};
use landline_sip::Limits;
use landline_sip::sdp::{self, Media, SessionDescription, Setup};

use crate::session::DTMF;
use crate::{Codec, MediaMode, PhoneError};

impl MediaMode {
    /// What a leg of this kind is made from.
    pub fn spec(self, bind: IpAddr) -> LegSpec {
        LegSpec {
            protocol: match self {
                Self::Rtp => Protocol::Rtp,
                Self::Sdes => Protocol::Sdes,
                Self::Dtls | Self::Webrtc => Protocol::Dtls,
            },
            // A webrtc phone's full agent stands in front of the leg.
            ice: false,
            rtcp_mux: matches!(self, Self::Dtls | Self::Webrtc),
            family: if bind.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 },
            suites: match self {
                Self::Sdes => vec![SrtpSuite::AeadAes128Gcm, SrtpSuite::AesCm128HmacSha1_80],
                _ => Vec::new(),
            },
        }
    }

    const fn profile(self) -> &'static str {
        match self {
            Self::Rtp => "RTP/AVP",
            Self::Sdes => "RTP/SAVP",
            Self::Dtls => "UDP/TLS/RTP/SAVP",
            Self::Webrtc => "UDP/TLS/RTP/SAVPF",
        }
    }
}

/// The payload type our descriptions give a codec.
pub(crate) fn payload_type(codec: Codec) -> u8 {
    codec.payload_type().unwrap_or(96)
}

fn rtpmap(codec: Codec) -> String {
    // Opus says two channels, whatever is in it (RFC 7587 §7).
    let channels = if codec == Codec::Opus { "/2" } else { "" };
    format!("{}/{}{channels}", codec.encoding(), codec.clock_rate())
}

/// What is said of one side of a call.
pub struct Own<'a> {
    pub local: &'a LegLocal,
    pub mode: MediaMode,
    pub codec: Codec,
    pub candidates: &'a [String],
    pub direction: Direction,
    pub version: u64,
    /// In an answer: the profile of the offer, our DTLS role, the SDES key that
    /// the offer's was taken with.
    pub answer: Option<Answered>,
}

#[derive(Clone)]
pub struct Answered {
    pub profile: String,
    pub role: DtlsRole,
    pub key: Option<SdesKey>,
    pub rtcp_mux: bool,
}

/// Writes an offer or an answer.
pub fn write(own: &Own) -> String {
    let LegLocal { rtp, rtcp, .. } = own.local;
    let family = if rtp.is_ipv4() { "IP4" } else { "IP6" };
    let profile = own.answer.as_ref().map_or(own.mode.profile(), |answer| &answer.profile);
    let payload = payload_type(own.codec);
    let mut sdp = format!(
        "v=0\r\no=- 1 {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} {profile} {payload} {DTMF}\r\n\
         a=rtpmap:{payload} {rtpmap}\r\na=rtpmap:{DTMF} telephone-event/8000\r\n\
         a=fmtp:{DTMF} 0-15\r\na=ptime:20\r\na={direction}\r\n",
        version = own.version,
        ip = rtp.ip(),
        port = rtp.port(),
        rtpmap = rtpmap(own.codec),
        direction = direction_name(own.direction),
    );
    let mux =
        own.answer.as_ref().map_or(own.mode.spec(rtp.ip()).rtcp_mux, |answer| answer.rtcp_mux);
    if mux {
        sdp.push_str("a=rtcp-mux\r\n");
    }
    if !mux || own.answer.is_none() {
        let _ = write!(sdp, "a=rtcp:{} IN {family} {}\r\n", rtcp.port(), rtcp.ip());
    }
    write_keys(&mut sdp, own);
    if let Some(IceCredentials { ufrag, pwd }) = &own.local.ice {
        let _ = write!(sdp, "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n");
        for candidate in own.candidates {
            let _ = write!(sdp, "a=candidate:{candidate}\r\n");
        }
    }
    sdp
}

fn write_keys(sdp: &mut String, own: &Own) {
    let keys = match &own.answer {
        Some(answer) => answer.key.as_slice(),
        None => &own.local.sdes,
    };
    for SdesKey { tag, suite, key_and_salt } in keys {
        let _ = write!(
            sdp,
            "a=crypto:{tag} {} inline:{}\r\n",
            suite.name(),
            STANDARD.encode(key_and_salt)
        );
    }
    if let Some(Fingerprint { hash, digest }) = &own.local.fingerprint {
        let digest: Vec<_> = digest.iter().map(|octet| format!("{octet:02X}")).collect();
        let setup = match own.answer.as_ref().map(|answer| answer.role) {
            None => "actpass",
            Some(DtlsRole::Client) => "active",
            Some(DtlsRole::Server) => "passive",
        };
        let _ = write!(
            sdp,
            "a=fingerprint:{} {}\r\na=setup:{setup}\r\n",
            hash.name(),
            digest.join(":")
        );
    }
}

const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::SendReceive => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::ReceiveOnly => "recvonly",
        Direction::Inactive => "inactive",
    }
}

/// The other side's description, read.
pub struct Theirs {
    pub remote: Remote,
    /// What an answer to it says.
    pub answered: Answered,
}

/// Reads an offer, or (`is_answer`) the answer to ours.
pub fn read(body: &[u8], local: &LegLocal, is_answer: bool) -> Result<Theirs, PhoneError> {
    let unfit = |problem: &str| PhoneError::Media(problem.to_owned());
    let sdp = sdp::parse(body, &Limits::default())
        .map_err(|error| PhoneError::Media(error.to_string()))?;
    let audio = sdp.audio().ok_or_else(|| unfit("it has no audio"))?;
    let ip = sdp.media_ip(audio).ok_or_else(|| unfit("it has no address"))?;
    let rtp = SocketAddr::new(ip, audio.port);
    let rtcp_mux = audio.rtcp_mux();
    let rtcp = match audio.rtcp() {
        _ if rtcp_mux => rtp,
        Some(rtcp) => SocketAddr::new(ip, rtcp.port),
        None => SocketAddr::new(ip, audio.port.saturating_add(1)),
    };
    let sdes = keys(audio, local, is_answer)?;
    let role = role(sdp.setup(audio), is_answer);
    let fingerprints = fingerprints(&sdp, audio);
    let remote = Remote {
        rtp,
        rtcp,
        rtcp_mux,
        ice: sdp
            .ice_ufrag(audio)
            .zip(sdp.ice_pwd(audio))
            .map(|(ufrag, pwd)| IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() }),
        dtls: (!fingerprints.is_empty()).then_some(DtlsParameters { fingerprints, role }),
        sdes: sdes.clone(),
        direction: direction(sdp.direction(audio)),
        payload_types: payload_types(audio),
    };
    let profile = audio.protocol.clone();
    let key = sdes.map(|pair| pair.send);
    Ok(Theirs { remote, answered: Answered { profile, role, key, rtcp_mux } })
}

/// What we may do, where this is what they say they do.
const fn direction(theirs: sdp::Direction) -> Direction {
    match theirs {
        sdp::Direction::SendRecv => Direction::SendReceive,
        sdp::Direction::SendOnly => Direction::ReceiveOnly,
        sdp::Direction::RecvOnly => Direction::SendOnly,
        sdp::Direction::Inactive => Direction::Inactive,
    }
}

/// Our role (RFC 5763 §5): an answerer of `actpass` is active.
const fn role(setup: Option<Setup>, is_answer: bool) -> DtlsRole {
    match setup {
        Some(Setup::Active) => DtlsRole::Server,
        Some(Setup::Passive) => DtlsRole::Client,
        _ if is_answer => DtlsRole::Server,
        _ => DtlsRole::Client,
    }
}

fn fingerprints(sdp: &SessionDescription, audio: &Media) -> Vec<Fingerprint> {
    sdp.fingerprints(audio)
        .into_iter()
        .filter_map(|fingerprint| {
            let hash = HashFunction::from_name(&fingerprint.hash)?;
            Some(Fingerprint { hash, digest: fingerprint.digest })
        })
        .collect()
}

/// The first of their keys whose suite we have; an answer names the tag of the
/// one of ours that it takes (RFC 4568 §5.1.2).
fn keys(audio: &Media, local: &LegLocal, is_answer: bool) -> Result<Option<SdesPair>, PhoneError> {
    let cryptos = audio.cryptos();
    if cryptos.is_empty() || local.sdes.is_empty() {
        return Ok(None);
    }
    let pairs = cryptos.iter().filter_map(|crypto| {
        let suite = SrtpSuite::from_name(&crypto.suite)?;
        let own = local
            .sdes
            .iter()
            .find(|own| own.suite == suite && (!is_answer || own.tag == crypto.tag))?;
        let key_and_salt = STANDARD.decode(&crypto.key).ok()?;
        let mut send = own.clone();
        send.tag = crypto.tag;
        Some(SdesPair { send, receive: SdesKey { tag: crypto.tag, suite, key_and_salt } })
    });
    match pairs.into_iter().next() {
        Some(pair) => Ok(Some(pair)),
        None => Err(PhoneError::Media("none of its keys is for a suite of ours".to_owned())),
    }
}

fn payload_types(audio: &Media) -> Vec<PayloadType> {
    audio
        .formats
        .iter()
        .filter_map(|format| audio.rtpmap(format.parse().ok()?))
        .map(|map| PayloadType {
            number: map.payload_type,
            encoding: map.encoding.to_ascii_uppercase(),
            clock_rate: map.clock_rate,
            channels: map.channels.and_then(|channels| channels.try_into().ok()).unwrap_or(1),
        })
        .collect()
}
