//! SDP of our own.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use landline_control::{Direction, LegLocal, SdesKey};
use serde::{Deserialize, Serialize};

use super::codec::Codec;
use super::read::Line;
use super::video::VideoCodec;

/// Our `o=` line: its version grows by one whenever the description changes
/// (RFC 3264 §8), and never otherwise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Origin {
    session: u64,
    version: u64,
    #[serde(skip)]
    last: String,
}

/// Descriptions that may have been sent since a call was last kept.
const SKIPPED: u64 = 64;

impl Origin {
    /// `session` unpredictable; kept to 62 bits, as some read it signed.
    pub(crate) fn new(session: u64) -> Self {
        Self { session: session >> 2, version: 0, last: String::new() }
    }

    /// Past every version that a former process may have used.
    pub(crate) fn skip_ahead(&mut self) {
        self.version = self.version.saturating_add(SKIPPED);
        self.last.clear();
    }
}

/// Everything one of our descriptions says.
pub(crate) struct Ours<'a> {
    pub local: &'a LegLocal,
    pub proto: &'a str,
    pub codecs: &'a [Codec],
    pub direction: Direction,
    pub ptime: Option<&'a str>,
    pub maxptime: Option<&'a str>,
    pub mux: bool,
    /// Both sides have agreed to it: there is no port for RTCP.
    pub is_muxed: bool,
    /// There is none to begin with, so the peer cannot but agree (RFC 8858 §4.2).
    pub is_only_muxed: bool,
    pub ice: bool,
    /// Where a peer may connect that cannot send by UDP.
    pub stream: Option<SocketAddr>,
    /// `actpass`, `active` or `passive`.
    pub setup: Option<&'static str>,
    pub crypto: &'a [SdesKey],
    /// All `m=` lines; those of audio and video are written out, others refused.
    pub lines: &'a [Line],
    pub audio: usize,
    pub bundle: bool,
    pub video: Option<OurVideo<'a>>,
}

/// A stream beside the audio, in its bundle.
pub(crate) struct OurVideo<'a> {
    pub line: usize,
    pub codecs: &'a [VideoCodec],
    pub direction: Direction,
    /// The peer has agreed to it: before, it is only offered as a part of the
    /// bundle (RFC 9143 §7.2.1).
    pub is_known: bool,
}

impl Ours<'_> {
    pub(crate) fn write(&self, origin: &mut Origin) -> Bytes {
        let mut text = String::with_capacity(768);
        // Writing to a string cannot fail.
        let _ = self.lines(&mut text);
        if text != origin.last {
            origin.version += 1;
            origin.last.clone_from(&text);
        }
        let address = address_type(&self.local.rtp);
        let head = format!(
            "v=0\r\no=- {} {} IN {address}\r\ns=-\r\nc=IN {address}\r\nt=0 0\r\n",
            origin.session, origin.version,
        );
        Bytes::from(head + &text)
    }

    fn lines(&self, text: &mut String) -> std::fmt::Result {
        if self.ice && self.local.ice.is_some() {
            text.push_str("a=ice-lite\r\n");
        }
        if self.bundle
            && let Some(mid) = self.lines.get(self.audio).and_then(|line| line.mid.as_deref())
        {
            write!(text, "a=group:BUNDLE {mid}")?;
            let video = self.video.as_ref().and_then(|video| self.lines.get(video.line));
            if let Some(mid) = video.and_then(|line| line.mid.as_deref()) {
                write!(text, " {mid}")?;
            }
            text.push_str("\r\n");
        }
        for (index, line) in self.lines.iter().enumerate() {
            match &self.video {
                _ if index == self.audio => self.audio(text, line)?,
                Some(video) if index == video.line => self.video(text, line, video)?,
                _ => refused(text, line)?,
            }
        }
        Ok(())
    }

    fn audio(&self, text: &mut String, line: &Line) -> std::fmt::Result {
        write!(text, "m=audio {} {}", self.local.rtp.port(), self.proto)?;
        for codec in self.codecs {
            write!(text, " {}", codec.number)?;
        }
        text.push_str("\r\n");
        for codec in self.codecs {
            codec_lines(text, codec)?;
        }
        for (name, value) in [("ptime", self.ptime), ("maxptime", self.maxptime)] {
            if let Some(value) = value {
                write!(text, "a={name}:{value}\r\n")?;
            }
        }
        if let Some(mid) = &line.mid {
            write!(text, "a=mid:{mid}\r\n")?;
        }
        write!(text, "a={}\r\n", direction_name(self.direction))?;
        self.rtcp(text)?;
        self.keys(text)?;
        self.candidates(text)
    }

    fn video(&self, text: &mut String, line: &Line, video: &OurVideo) -> std::fmt::Result {
        let port = if video.is_known { self.local.rtp.port() } else { 0 };
        write!(text, "m=video {port} {}", line.proto)?;
        for VideoCodec { codec, .. } in video.codecs {
            write!(text, " {}", codec.number)?;
        }
        text.push_str("\r\n");
        if !video.is_known {
            text.push_str("a=bundle-only\r\n");
        }
        for VideoCodec { codec, feedback } in video.codecs {
            codec_lines(text, codec)?;
            for feedback in feedback {
                write!(text, "a=rtcp-fb:{} {feedback}\r\n", codec.number)?;
            }
        }
        if let Some(mid) = &line.mid {
            write!(text, "a=mid:{mid}\r\n")?;
        }
        write!(text, "a={}\r\na=rtcp-mux\r\n", direction_name(video.direction))?;
        self.keys(text)?;
        if let Some(ice) = self.local.ice.as_ref().filter(|_| self.ice) {
            write!(text, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", ice.ufrag, ice.pwd)?;
        }
        Ok(())
    }

    fn rtcp_address(&self) -> SocketAddr {
        if self.is_muxed { self.local.rtp } else { self.local.rtcp }
    }

    /// RFC 3605, RFC 5761.
    fn rtcp(&self, text: &mut String) -> std::fmt::Result {
        let rtcp = &self.rtcp_address();
        write!(text, "a=rtcp:{} IN {}\r\n", rtcp.port(), address_type(rtcp))?;
        if self.mux {
            text.push_str("a=rtcp-mux\r\n");
        }
        if self.is_only_muxed {
            text.push_str("a=rtcp-mux-only\r\n");
        }
        Ok(())
    }

    fn keys(&self, text: &mut String) -> std::fmt::Result {
        for key in self.crypto {
            let inline = base64(&key.key_and_salt);
            write!(text, "a=crypto:{} {} inline:{inline}\r\n", key.tag, key.suite.name())?;
        }
        let Some(setup) = self.setup else { return Ok(()) };
        if let Some(fingerprint) = &self.local.fingerprint {
            write!(text, "a=fingerprint:{} ", fingerprint.hash.name())?;
            for (index, octet) in fingerprint.digest.iter().enumerate() {
                write!(text, "{}{octet:02X}", if index == 0 { "" } else { ":" })?;
            }
            text.push_str("\r\n");
        }
        write!(text, "a=setup:{setup}\r\n")
    }

    /// One host candidate a component, with the priorities of RFC 8445 §5.1.2,
    /// and below them a passive one (RFC 6544 §4.2).
    fn candidates(&self, text: &mut String) -> std::fmt::Result {
        let Some(ice) = self.local.ice.as_ref().filter(|_| self.ice) else { return Ok(()) };
        write!(text, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", ice.ufrag, ice.pwd)?;
        let (rtp, rtcp) = (self.local.rtp, self.rtcp_address());
        write!(text, "a=candidate:1 1 UDP 2130706431 {} {} typ host\r\n", rtp.ip(), rtp.port())?;
        if rtcp != rtp {
            let (ip, port) = (rtcp.ip(), rtcp.port());
            write!(text, "a=candidate:1 2 UDP 2130706430 {ip} {port} typ host\r\n")?;
        }
        if let Some(stream) = self.stream {
            let (ip, port) = (stream.ip(), stream.port());
            write!(
                text,
                "a=candidate:2 1 TCP 1520435199 {ip} {port} typ host tcptype passive\r\n"
            )?;
        }
        text.push_str("a=end-of-candidates\r\n");
        Ok(())
    }
}

fn codec_lines(text: &mut String, codec: &Codec) -> std::fmt::Result {
    if let Some(rtpmap) = &codec.rtpmap {
        write!(text, "a=rtpmap:{} {rtpmap}\r\n", codec.number)?;
    }
    for fmtp in &codec.fmtp {
        write!(text, "a=fmtp:{} {fmtp}\r\n", codec.number)?;
    }
    Ok(())
}

/// A line we do not serve is answered with port 0 (RFC 3264 §6).
fn refused(text: &mut String, line: &Line) -> std::fmt::Result {
    write!(text, "m={} 0 {}", line.kind, line.proto)?;
    for format in &line.formats {
        write!(text, " {format}")?;
    }
    text.push_str("\r\n");
    if let Some(mid) = &line.mid {
        write!(text, "a=mid:{mid}\r\n")?;
    }
    Ok(())
}

fn address_type(address: &SocketAddr) -> String {
    format!("{} {}", if address.is_ipv4() { "IP4" } else { "IP6" }, address.ip())
}

pub(crate) fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::SendReceive => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::ReceiveOnly => "recvonly",
        Direction::Inactive => "inactive",
    }
}

/// With padding: some phones misread a key without it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, octet| word << 8 | u32::from(*octet))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = word >> (18 - 6 * place) & 63;
            text.push(match place <= chunk.len() {
                true => ALPHABET[digit as usize] as char,
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_padded() {
        // RFC 4648 §10.
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
