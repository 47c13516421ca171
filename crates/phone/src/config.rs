use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use landline_media::Rollover;
use landline_media::audio::Codec;
use landline_sip::Transport;
use rustls::pki_types::CertificateDer;

/// Who a phone is and how it behaves.
#[derive(Clone)]
pub struct PhoneConfig {
    pub user: String,
    pub domain: String,
    /// Shown to whoever is called.
    pub display_name: Option<String>,
    pub password: String,
    /// Where everything is sent: the proxy, or for direct calls the other phone.
    pub server: SocketAddr,
    /// `Udp`, `Tcp` or `Tls`.
    pub transport: Transport,
    /// What the server's certificate must name.
    pub server_name: String,
    /// Whom the phone trusts to sign it.
    pub authorities: Vec<CertificateDer<'static>>,
    /// The phone's own address, for signalling and media.
    pub bind: IpAddr,
    pub media: MediaMode,
    pub codec: Codec,
    /// What it sends all the time, in Hz.
    pub tone: u32,
    /// What its first RTP packet is numbered; in the lower half when left out.
    pub first_sequence: Option<u16>,
    /// How it understands a stream that goes on under a new SDES key.
    pub rollover: Rollover,
    pub on_call: OnCall,
    pub expires: Duration,
}

/// How the phone protects its media, and so what it offers and takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MediaMode {
    Rtp,
    Sdes,
    #[default]
    Dtls,
    /// DTLS-SRTP with full ICE, rtcp-mux and AVPF, as a browser.
    Webrtc,
}

/// What happens when the phone is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCall {
    /// Rings, then answers.
    Answer { after: Duration },
    /// Rings until [`crate::Call::answer`] or [`crate::Call::decline`].
    Ring,
    /// A final response at once, as 486.
    Reject(u16),
}

impl PhoneConfig {
    /// A phone at `server` over UDP, with DTLS-SRTP, answering at once.
    pub fn new(user: &str, domain: &str, password: &str, server: SocketAddr) -> Self {
        Self {
            user: user.to_owned(),
            domain: domain.to_owned(),
            display_name: None,
            password: password.to_owned(),
            server,
            transport: Transport::Udp,
            server_name: server.ip().to_string(),
            authorities: Vec::new(),
            bind: server.ip(),
            media: MediaMode::default(),
            codec: Codec::Pcmu,
            tone: 440,
            first_sequence: None,
            rollover: Rollover::default(),
            on_call: OnCall::Answer { after: Duration::ZERO },
            expires: Duration::from_secs(300),
        }
    }
}
