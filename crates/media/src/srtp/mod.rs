//! SRTP and SRTCP, one context per direction (RFC 3711, RFC 7714), in place
//! and without allocation once a stream is known.
//!
//! State for a stream is made only once a packet of it authenticated, so that
//! forged SSRCs cost nothing. SRTCP is accepted only encrypted: both suites
//! are negotiated without UNENCRYPTED_SRTCP.

mod counter_mode;
mod gcm;
mod keys;
mod replay;
mod search;

use landline_control::SrtpSuite;
use smallvec::SmallVec;

use self::counter_mode::CounterMode;
use self::gcm::Gcm;
use self::keys::MasterKey;
use self::replay::ReplayWindow;
use self::search::Search;
pub use self::search::Tries;
use crate::packet::PacketBuf;
use crate::rtcp;
use crate::rtp::RtpInfo;

/// Streams of one direction. A leg has one or two at a time; each re-INVITE of
/// some phones starts another.
pub const MAX_STREAMS: usize = 64;

/// The SRTCP index with the E flag in front (RFC 3711 §3.4).
const SRTCP_TRAILER: usize = 4;
const ENCRYPTED: u32 = 1 << 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    #[error("the SRTP master key or salt has a wrong length")]
    KeyLength,
    #[error("the packet is malformed")]
    Malformed,
    #[error("the packet does not authenticate")]
    Authentication,
    #[error("the packet was seen before or is too old")]
    Replay,
    #[error("the SRTCP packet is not encrypted")]
    Unencrypted,
    #[error("more than {MAX_STREAMS} streams use one key")]
    TooManyStreams,
    #[error("the packet is too long to protect")]
    TooLong,
    #[error("the key is used up")]
    KeySpent,
    #[error("the stream was sent under this key by another relay")]
    StreamSpent,
}

/// One direction's keys and streams.
pub struct Context {
    suite: SrtpSuite,
    transform: Transform,
    rtp: Streams<ReplayWindow>,
    rtcp: Streams<RtcpStream>,
    /// Of the context that this one took the place of.
    former: SmallVec<[(u32, ReplayWindow); 2]>,
    search: Search,
    /// Streams that another context has sent under this key.
    spent: Vec<u32>,
    /// A stream began since this was asked last.
    has_begun: bool,
}

/// What a receiver takes a stream's rollover counter to be under new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rollover {
    /// Whatever authenticates: 0, as it was under the former key, or another.
    #[default]
    Found,
    /// As it was, and nothing else (RFC 3711 §3.3.1; libsrtp's `srtp_update`).
    Kept,
    /// 0, and nothing else (RFC 4568 §7.1.4; baresip).
    Zero,
}

impl Context {
    /// `key_and_salt` as in `inline:`; lengths by [`SrtpSuite::key_and_salt_len`].
    pub fn new(suite: SrtpSuite, key_and_salt: &[u8]) -> Result<Self, SrtpError> {
        let master = MasterKey::new(suite, key_and_salt)?;
        let transform = match suite {
            SrtpSuite::AesCm128HmacSha1_80 => Transform::CounterMode {
                rtp: CounterMode::new(&master.rtp())?,
                rtcp: CounterMode::new(&master.rtcp())?,
            },
            SrtpSuite::AeadAes128Gcm | SrtpSuite::AeadAes256Gcm => {
                Transform::Gcm { rtp: Gcm::new(&master.rtp())?, rtcp: Gcm::new(&master.rtcp())? }
            }
        };
        Ok(Self {
            suite,
            transform,
            rtp: Streams::default(),
            rtcp: Streams::default(),
            former: SmallVec::new(),
            search: Search::default(),
            spent: Vec::new(),
            has_begun: false,
        })
    }

    /// These streams were sent under this key by somebody else, nobody knows how
    /// far: none of them is sent again, or keystream would be used twice.
    pub fn without(mut self, spent: &[u32]) -> Self {
        self.spent = spent.to_vec();
        self
    }

    /// The streams that were sent under this key, here or elsewhere.
    pub fn sent(&self) -> impl Iterator<Item = u32> + '_ {
        let rtcp = self.rtcp.0.iter().map(|(ssrc, _)| *ssrc);
        self.rtp.0.iter().map(|(ssrc, _)| *ssrc).chain(rtcp).chain(self.spent.iter().copied())
    }

    /// Whether a stream began to be sent since this was asked last.
    pub fn take_begun(&mut self) -> bool {
        std::mem::take(&mut self.has_begun)
    }

    fn begin_sending(&mut self, ssrc: u32) -> Result<(), SrtpError> {
        if self.spent.contains(&ssrc) {
            return Err(SrtpError::StreamSpent);
        }
        self.has_begun |= !self.rtp.has(ssrc) && !self.rtcp.has(ssrc);
        Ok(())
    }

    /// Takes the place of a context with another key.
    pub fn after(mut self, former: &Self, rollover: Rollover) -> Self {
        match rollover {
            Rollover::Zero => {}
            Rollover::Kept => {
                self.rtp = former.rtp.clone();
                self.rtcp = former.rtcp.clone();
            }
            Rollover::Found => {
                let unheard = |it: &&(u32, ReplayWindow)| !former.rtp.has(it.0);
                let before = former.former.iter().filter(unheard);
                let of = former.rtp.0.iter().chain(before).take(MAX_STREAMS);
                self.former = of.cloned().collect();
            }
        }
        self
    }

    pub fn suite(&self) -> SrtpSuite {
        self.suite
    }

    /// Encrypts and authenticates. A sequence number that was sent already is
    /// refused: under it the keystream would repeat (RFC 3711 §9.1).
    pub fn protect_rtp(&mut self, packet: &mut PacketBuf) -> Result<(), SrtpError> {
        let info = RtpInfo::parse(packet.as_slice()).map_err(|_| SrtpError::Malformed)?;
        if !self.rtp.has(info.ssrc) {
            self.begin_sending(info.ssrc)?;
        }
        let stream = self.rtp.ensure(info.ssrc)?;
        let index = stream.guess(info.sequence).ok_or(SrtpError::Replay)?;
        if !stream.is_fresh(index) {
            return Err(SrtpError::Replay);
        }
        let (header, payload) = packet.as_mut_slice().split_at_mut(info.header_len);
        let appended = match &self.transform {
            Transform::CounterMode { rtp, .. } => {
                rtp.apply(info.ssrc, index, payload);
                let tag = rtp.tag(packet.as_slice(), &rollover(index));
                packet.append(&tag)
            }
            Transform::Gcm { rtp, .. } => {
                let tag = rtp.seal(info.ssrc, index, header, payload)?;
                packet.append(&tag)
            }
        };
        stream.record(index);
        if appended { Ok(()) } else { Err(SrtpError::TooLong) }
    }

    /// As [`Self::unprotect_rtp_within`], with no tries.
    pub fn unprotect_rtp(&mut self, packet: &mut PacketBuf) -> Result<RtpInfo, SrtpError> {
        self.unprotect_rtp_within(packet, || false)
    }

    /// Checks and decrypts. On an error the packet's contents are undefined. A
    /// stream that is new may have begun anywhere; `may_try` is asked before
    /// each rollover counter that is tried for it.
    pub fn unprotect_rtp_within(
        &mut self,
        packet: &mut PacketBuf,
        may_try: impl FnMut() -> bool,
    ) -> Result<RtpInfo, SrtpError> {
        let info = RtpInfo::parse(packet.as_slice()).map_err(|_| SrtpError::Malformed)?;
        let end = packet.len().checked_sub(self.transform.tag_len());
        let end = end.filter(|end| *end >= info.header_len).ok_or(SrtpError::Malformed)?;
        let known = self.rtp.find(info.ssrc);
        let index = match known {
            Some(stream) => {
                let index = stream.guess(info.sequence).ok_or(SrtpError::Replay)?;
                if !stream.is_fresh(index) {
                    return Err(SrtpError::Replay);
                }
                index
            }
            None => self.begin(packet.as_slice(), &info, end, may_try)?,
        };
        match &self.transform {
            Transform::CounterMode { rtp, .. } => {
                let (covered, tag) = packet.as_mut_slice().split_at_mut(end);
                rtp.check(covered, &rollover(index), tag)?;
                rtp.apply(info.ssrc, index, &mut covered[info.header_len..]);
            }
            Transform::Gcm { rtp, .. } => {
                let (header, payload) = packet.as_mut_slice().split_at_mut(info.header_len);
                rtp.open(info.ssrc, index, header, payload)?;
            }
        }
        packet.truncate(end);
        self.rtp.ensure(info.ssrc)?.record(index);
        Ok(info)
    }

    /// The index of the first packet of a stream: what it authenticates with.
    fn begin(
        &mut self,
        packet: &[u8],
        info: &RtpInfo,
        end: usize,
        may_try: impl FnMut() -> bool,
    ) -> Result<u64, SrtpError> {
        let transform = &self.transform;
        let index = |counter: u32| u64::from(counter) << 16 | u64::from(info.sequence);
        let right = |index: u64| transform.authenticates(packet, info, end, index);
        if right(index(0)) {
            return Ok(index(0));
        }
        let former = self.former.iter().find(|(ssrc, _)| *ssrc == info.ssrc);
        let kept = former.and_then(|(_, window)| window.guess(info.sequence));
        if let Some(kept) = kept.filter(|kept| right(*kept)) {
            return Ok(kept);
        }
        let found = self.search.find(may_try, |counter| right(index(counter)));
        found.map(index).ok_or(SrtpError::Authentication)
    }

    /// Encrypts and authenticates a compound RTCP packet.
    pub fn protect_rtcp(&mut self, packet: &mut PacketBuf) -> Result<(), SrtpError> {
        let ssrc = rtcp::sender(packet.as_slice()).map_err(|_| SrtpError::Malformed)?;
        if !self.rtcp.has(ssrc) {
            self.begin_sending(ssrc)?;
        }
        let stream = self.rtcp.ensure(ssrc)?;
        let index = stream.next;
        if index & ENCRYPTED != 0 {
            return Err(SrtpError::KeySpent);
        }
        let trailer = (index | ENCRYPTED).to_be_bytes();
        let (header, payload) = packet.as_mut_slice().split_at_mut(rtcp::HEADER);
        let appended = match &self.transform {
            Transform::CounterMode { rtcp, .. } => {
                rtcp.apply(ssrc, u64::from(index), payload);
                let tag = rtcp.tag(packet.as_slice(), &trailer);
                packet.append(&trailer) && packet.append(&tag)
            }
            Transform::Gcm { rtcp, .. } => {
                let clear = rtcp_clear(header, trailer);
                let tag = rtcp.seal(ssrc, u64::from(index), &clear, payload)?;
                packet.append(&tag) && packet.append(&trailer)
            }
        };
        stream.next += 1;
        if appended { Ok(()) } else { Err(SrtpError::TooLong) }
    }

    /// Checks and decrypts. On an error the packet's contents are undefined.
    pub fn unprotect_rtcp(&mut self, packet: &mut PacketBuf) -> Result<(), SrtpError> {
        let ssrc = rtcp::sender(packet.as_slice()).map_err(|_| SrtpError::Malformed)?;
        let overhead = self.transform.tag_len() + SRTCP_TRAILER;
        let end = packet.len().checked_sub(overhead);
        let end = end.filter(|end| *end >= rtcp::HEADER).ok_or(SrtpError::Malformed)?;
        let at = self.transform.trailer_offset(packet.len());
        let trailer = packet.as_slice().get(at..).and_then(<[u8]>::first_chunk::<4>);
        let trailer = *trailer.ok_or(SrtpError::Malformed)?;
        let word = u32::from_be_bytes(trailer);
        if word & ENCRYPTED == 0 {
            return Err(SrtpError::Unencrypted);
        }
        let index = u64::from(word & !ENCRYPTED);
        if self.rtcp.find(ssrc).is_some_and(|stream| !stream.window.is_fresh(index)) {
            return Err(SrtpError::Replay);
        }
        match &self.transform {
            Transform::CounterMode { rtcp, .. } => {
                let (covered, tag) = packet.as_mut_slice().split_at_mut(at + SRTCP_TRAILER);
                rtcp.check(covered, &[], tag)?;
                rtcp.apply(ssrc, index, &mut covered[rtcp::HEADER..end]);
            }
            Transform::Gcm { rtcp, .. } => {
                let (header, payload) = packet.as_mut_slice()[..at].split_at_mut(rtcp::HEADER);
                rtcp.open(ssrc, index, &rtcp_clear(header, trailer), payload)?;
            }
        }
        packet.truncate(end);
        self.rtcp.ensure(ssrc)?.window.record(index);
        Ok(())
    }
}

#[expect(clippy::large_enum_variant, reason = "key schedules are used for every packet")]
enum Transform {
    CounterMode { rtp: CounterMode, rtcp: CounterMode },
    Gcm { rtp: Gcm, rtcp: Gcm },
}

impl Transform {
    const fn tag_len(&self) -> usize {
        match self {
            Self::CounterMode { .. } => counter_mode::TAG,
            Self::Gcm { .. } => gcm::TAG,
        }
    }

    /// Whether an RTP packet is authentic under this index; its tag begins at
    /// `end`.
    fn authenticates(&self, packet: &[u8], info: &RtpInfo, end: usize, index: u64) -> bool {
        let (covered, tag) = packet.split_at(end);
        match self {
            Self::CounterMode { rtp, .. } => rtp.check(covered, &rollover(index), tag).is_ok(),
            Self::Gcm { rtp, .. } => {
                let (header, payload) = covered.split_at(info.header_len);
                rtp.authenticates(info.ssrc, index, header, payload, tag)
            }
        }
    }

    /// Where the SRTCP index stands: before the tag, or with GCM behind it.
    /// The caller has checked that the packet is long enough for both.
    const fn trailer_offset(&self, packet_len: usize) -> usize {
        match self {
            Self::CounterMode { .. } => packet_len - counter_mode::TAG - SRTCP_TRAILER,
            Self::Gcm { .. } => packet_len - SRTCP_TRAILER,
        }
    }
}

/// What counter mode authenticates beside an RTP packet (RFC 3711 §4.2).
fn rollover(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// What GCM authenticates of an encrypted SRTCP packet (RFC 7714 §9.2).
fn rtcp_clear(header: &[u8], trailer: [u8; 4]) -> [u8; rtcp::HEADER + SRTCP_TRAILER] {
    let mut clear = [0; rtcp::HEADER + SRTCP_TRAILER];
    clear[..rtcp::HEADER].copy_from_slice(header);
    clear[rtcp::HEADER..].copy_from_slice(&trailer);
    clear
}

#[derive(Clone, Default)]
struct RtcpStream {
    /// Of what arrives.
    window: ReplayWindow,
    /// Of what is sent.
    next: u32,
}

/// State by SSRC: a short list with the last one used in front.
#[derive(Clone)]
struct Streams<S>(SmallVec<[(u32, S); 2]>);

impl<S> Default for Streams<S> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<S: Default> Streams<S> {
    fn has(&self, ssrc: u32) -> bool {
        self.0.iter().any(|(known, _)| *known == ssrc)
    }

    fn find(&mut self, ssrc: u32) -> Option<&S> {
        let at = self.0.iter().position(|(known, _)| *known == ssrc)?;
        self.0.swap(0, at);
        self.0.first().map(|(_, stream)| stream)
    }

    fn ensure(&mut self, ssrc: u32) -> Result<&mut S, SrtpError> {
        if self.find(ssrc).is_none() {
            if self.0.len() == MAX_STREAMS {
                return Err(SrtpError::TooManyStreams);
            }
            self.0.insert(0, (ssrc, S::default()));
        }
        self.0.first_mut().map(|(_, stream)| stream).ok_or(SrtpError::TooManyStreams)
    }
}
