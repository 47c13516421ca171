//! The media of one call: sends the phone's tone every 20 ms, listens.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_control::{LegLocal, LegSpec, LegStats, MediaFault, Remote};
use landline_media::audio::{AudioError, Decoder, Encoder, ToneGenerator};
use landline_media::{
    Component, Identity, Leg, LegConfig, LegOutput, PacketBuf, Received, Rollover, RtpInfo, rtcp,
    rtp,
};
use landline_region::Seed;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::description::payload_type;
use crate::ear::Ear;
use crate::ice::Ice;
use crate::{Codec, PhoneError};

/// One RTP packet's worth of audio.
const FRAME: Duration = Duration::from_millis(20);
/// How often a sender report goes out; RFC 3550 would say five seconds, tests
/// have less time.
const REPORTS: Duration = Duration::from_secs(1);
/// RFC 4733 telephone-event, in our descriptions.
pub(crate) const DTMF: u8 = 101;

pub(crate) enum Command {
    /// The other side's description, as what our leg needs of it.
    Remote(Box<Remote>, oneshot::Sender<Result<(), PhoneError>>),
    /// The payload type that the other side takes our codec as.
    Digit(char),
    Stats(oneshot::Sender<LegStats>),
}

/// A running session; it ends when this is dropped.
pub(crate) struct Session {
    pub commands: mpsc::Sender<Command>,
    pub local: LegLocal,
    pub ear: Arc<Ear>,
    pub faults: watch::Receiver<Option<MediaFault>>,
    /// The ICE candidates of a webrtc session, as `a=candidate` values.
    pub candidates: Vec<String>,
}

pub(crate) struct Setup {
    pub spec: LegSpec,
    pub identity: Option<Arc<Identity>>,
    pub bind: std::net::IpAddr,
    pub codec: Codec,
    pub tone: u32,
    pub first_sequence: Option<u16>,
    pub rollover: Rollover,
    pub seed: Seed,
    /// Run a full ICE agent, the controlling one if `Some(true)`.
    pub ice: Option<bool>,
}

impl Session {
    pub async fn start(setup: Setup) -> Result<Self, PhoneError> {
        let rtp = bind(setup.bind).await?;
        let rtcp = bind(setup.bind).await?;
        let rtp_address = rtp.local_addr().map_err(PhoneError::Socket)?;
        let rtcp_address = rtcp.local_addr().map_err(PhoneError::Socket)?;
        let mut random = ChaCha12Rng::from_seed(setup.seed);
        let mut seed = Seed::default();
        random.fill_bytes(&mut seed);

        let mut config = LegConfig::new(setup.spec, setup.identity, seed);
        config.rollover = setup.rollover;
        let leg = Leg::new(config, Instant::now());
        let mut local = leg.local(rtp_address, rtcp_address);
        let ice = setup.ice.map(|controlling| Ice::new(rtp_address, controlling, Instant::now()));
        let mut candidates = Vec::new();
        if let Some(ice) = &ice {
            local.ice = Some(ice.credentials());
            candidates = ice.candidates();
        }
        let (commands, queue) = mpsc::channel(16);
        let (fault, faults) = watch::channel(None);
        let rate = setup.codec.sample_rate();
        let codec = |error: AudioError| PhoneError::Media(error.to_string());
        let ear = Arc::new(Ear::new(rate));
        let runner = Runner {
            leg,
            ice,
            rtp,
            rtcp,
            ear: ear.clone(),
            fault,
            decoder: Decoder::new(setup.codec).map_err(codec)?,
            encoder: Encoder::new(setup.codec).map_err(codec)?,
            tone: ToneGenerator::new(f64::from(setup.tone), rate),
            rate,
            codec: setup.codec,
            remote: None,
            // In the lower half, so that it does not wrap before who receives it
            // knows the stream (RFC 3711 §3.3.1).
            sequence: setup.first_sequence.unwrap_or(random.next_u32() as u16 & 0x7fff),
            timestamp: random.next_u32(),
            ssrc: random.next_u32(),
            sent: (0, 0),
            digit: None,
        };
        tokio::spawn(runner.run(queue));
        Ok(Self { commands, local, ear, faults, candidates })
    }
}

async fn bind(ip: std::net::IpAddr) -> Result<UdpSocket, PhoneError> {
    UdpSocket::bind((ip, 0)).await.map_err(PhoneError::Socket)
}

struct Runner {
    leg: Leg,
    ice: Option<Ice>,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    ear: Arc<Ear>,
    fault: watch::Sender<Option<MediaFault>>,
    decoder: Decoder,
    encoder: Encoder,
    tone: ToneGenerator,
    rate: u32,
    codec: Codec,
    remote: Option<Remote>,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    /// Packets and octets, for sender reports.
    sent: (u32, u32),
    digit: Option<Digit>,
}

/// A telephone-event being sent.
struct Digit {
    event: u8,
    started: u32,
    packets_left: u8,
}

impl Runner {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut reports = interval(REPORTS);
        let mut rtp_packet = PacketBuf::new();
        let mut rtcp_packet = PacketBuf::new();
        loop {
            self.flush().await;
            let timeout = self.next_timeout();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                received = self.rtp.recv_from(rtp_packet.receive_area()) => {
                    self.received(received, Component::Rtp, &mut rtp_packet);
                }
                received = self.rtcp.recv_from(rtcp_packet.receive_area()) => {
                    self.received(received, Component::Rtcp, &mut rtcp_packet);
                }
                _ = frames.tick() => self.send_frame().await,
                _ = reports.tick() => self.send_report().await,
                () = sleep_until(timeout.into()) => self.timeout(),
            }
        }
    }

    fn next_timeout(&mut self) -> Instant {
        let far = Instant::now() + Duration::from_secs(60);
        let ice = self.ice.as_mut().and_then(Ice::poll_timeout);
        [self.leg.poll_timeout(), ice].into_iter().flatten().min().unwrap_or(far)
    }

    fn timeout(&mut self) {
        let now = Instant::now();
        self.leg.handle_timeout(now);
        if let Some(ice) = &mut self.ice {
            ice.handle_timeout(now);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Remote(remote, done) => {
                // Nobody may wait for the answer any more.
                let _ = done.send(self.set_remote(*remote));
            }
            Command::Digit(digit) => {
                self.digit = event_code(digit).map(|event| Digit {
                    event,
                    started: self.timestamp,
                    packets_left: 8,
                });
            }
            Command::Stats(answer) => {
                let _ = answer.send(self.leg.stats(Instant::now()));
            }
        }
    }

    fn set_remote(&mut self, mut remote: Remote) -> Result<(), PhoneError> {
        let now = Instant::now();
        if let Some(ice) = &mut self.ice {
            ice.set_remote(&remote, now);
            // The agent decides where media goes; the leg itself sees no ICE.
            if let Some(nominated) = ice.nominated() {
                remote.rtp = nominated;
                remote.rtcp = nominated;
            }
            remote.ice = None;
        }
        self.leg.set_remote(now, &remote).map_err(|error| PhoneError::Media(error.to_string()))?;
        self.remote = Some(remote);
        Ok(())
    }

    fn received(
        &mut self,
        received: io::Result<(usize, SocketAddr)>,
        component: Component,
        packet: &mut PacketBuf,
    ) {
        // An ICMP refusal of something sent earlier shows up here: no matter.
        let Ok((length, from)) = received else { return };
        packet.set_len(length);
        let now = Instant::now();
        if let Some(ice) = &mut self.ice
            && matches!(packet.as_slice().first(), Some(0..=3))
        {
            ice.receive(from, packet.as_slice(), now);
            return;
        }
        if let Received::Rtp(info) = self.leg.receive(now, component, from, packet) {
            self.listen(from, &info, packet.as_slice());
        }
    }

    fn move_to(&mut self, nominated: SocketAddr, now: Instant) {
        if let Some(remote) = &mut self.remote
            && remote.rtp != nominated
        {
            remote.rtp = nominated;
            remote.rtcp = nominated;
            let moved = remote.clone();
            // It was taken before; only the address differs.
            let _ = self.leg.set_remote(now, &moved);
        }
    }

    fn listen(&mut self, from: SocketAddr, info: &RtpInfo, packet: &[u8]) {
        let mut samples = Vec::new();
        if info.payload_type == payload_type(self.codec)
            && let Ok(payload) = info.payload(packet)
            && self.decoder.decode(payload, &mut samples).is_ok()
        {
            self.ear.take(from, &samples);
        }
    }

    async fn send_frame(&mut self) {
        let mut samples = vec![0; (self.rate / 50) as usize];
        self.tone.fill(&mut samples);
        let mut payload = Vec::new();
        if self.encoder.encode(&samples, &mut payload).is_err() {
            return;
        }
        let (payload_type, marker, timestamp, payload) = match self.digit.take() {
            Some(digit) => self.digit_frame(digit),
            None => (payload_type(self.codec), false, self.timestamp, payload),
        };
        let header = rtp::write_header(marker, payload_type, self.sequence, timestamp, self.ssrc);
        let clock = self.codec.clock_rate();
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(clock / 50);
        let mut packet = PacketBuf::new();
        if packet.append(&header) && packet.append(&payload) {
            self.sent =
                (self.sent.0.wrapping_add(1), self.sent.1.wrapping_add(payload.len() as u32));
            self.protect_and_send(Component::Rtp, packet).await;
        }
    }

    /// RFC 4733 §2.5: updates while the key is down, the end three times.
    fn digit_frame(&mut self, digit: Digit) -> (u8, bool, u32, Vec<u8>) {
        let ended = digit.packets_left <= 3;
        let first = digit.packets_left == 8;
        let duration =
            self.timestamp.wrapping_sub(digit.started).wrapping_add(self.codec.clock_rate() / 50)
                as u16;
        let [high, low] = duration.to_be_bytes();
        let payload = vec![digit.event, u8::from(ended) << 7 | 10, high, low];
        let started = digit.started;
        if digit.packets_left > 1 {
            self.digit = Some(Digit { packets_left: digit.packets_left - 1, ..digit });
        }
        (DTMF, first, started, payload)
    }

    async fn send_report(&mut self) {
        if self.sent.0 == 0 {
            return;
        }
        let report = rtcp::write_sender_report(self.ssrc, self.timestamp, self.sent.0, self.sent.1);
        if let Some(packet) = PacketBuf::from_slice(&report) {
            self.protect_and_send(Component::Rtcp, packet).await;
        }
    }

    async fn protect_and_send(&mut self, component: Component, mut packet: PacketBuf) {
        if let Some((component, to)) = self.leg.send(Instant::now(), component, &mut packet) {
            self.transmit(component, to, packet.as_slice()).await;
        }
    }

    async fn flush(&mut self) {
        while let Some(output) = self.leg.poll_output() {
            match output {
                LegOutput::Transmit { component, to, bytes } => {
                    self.transmit(component, to, bytes.as_slice()).await;
                }
                LegOutput::Started | LegOutput::Keyed(_) => {}
                LegOutput::Fault(fault) => {
                    self.fault.send_replace(Some(fault));
                }
            }
        }
        while let Some((to, bytes)) = self.ice.as_mut().and_then(Ice::poll_transmit) {
            self.transmit(Component::Rtp, to, &bytes).await;
        }
        if let Some(nominated) = self.ice.as_mut().and_then(Ice::poll_nominated) {
            self.move_to(nominated, Instant::now());
        }
    }

    async fn transmit(&mut self, component: Component, to: SocketAddr, bytes: &[u8]) {
        let socket = match component {
            // Its connections are none: it takes UDP.
            Component::Rtp | Component::Stream => &self.rtp,
            Component::Rtcp => &self.rtcp,
        };
        // The network may lose a packet; so may this.
        let _ = socket.send_to(bytes, to).await;
    }
}

fn event_code(digit: char) -> Option<u8> {
    match digit {
        '0'..='9' => Some(digit as u8 - b'0'),
        '*' => Some(10),
        '#' => Some(11),
        'A'..='D' => Some(digit as u8 - b'A' + 12),
        _ => None,
    }
}
