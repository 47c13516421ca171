use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_control::{DtlsParameters, DtlsRole, LegLocal, Protocol, Remote, SdesPair};
use landline_media::{
    Component, DtlsBackend, Identity, Leg, LegConfig, LegOutput, PacketBuf, Received,
};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{PATIENCE, remote, spec};

/// The far end of a leg: two sockets, and a media leg of its own that protects
/// and unprotects.
pub struct Phone {
    leg: Leg,
    protocol: Protocol,
    identity: Option<Arc<Identity>>,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    mux: bool,
}

/// What a phone heard, where it came from, and by which socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub packet: Vec<u8>,
    pub from: SocketAddr,
    pub by: Component,
}

impl Phone {
    pub async fn new(protocol: Protocol) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), protocol, false).await
    }

    pub async fn at(address: IpAddr, protocol: Protocol, mux: bool) -> Self {
        // The relay uses the other one: two implementations meet.
        Self::shaking_hands_by(DtlsBackend::Dimpl, address, protocol, mux).await
    }

    pub async fn shaking_hands_by(
        backend: DtlsBackend,
        address: IpAddr,
        protocol: Protocol,
        mux: bool,
    ) -> Self {
        let rtp = UdpSocket::bind((address, 0)).await.unwrap();
        let rtcp = UdpSocket::bind((address, 0)).await.unwrap();
        let identity =
            (protocol == Protocol::Dtls).then(|| Arc::new(Identity::generate().unwrap()));
        let mut spec = spec(protocol);
        spec.rtcp_mux = mux;
        let seed = rand_seed(rtp.local_addr().unwrap().port());
        let mut config = LegConfig::new(spec, identity.clone(), seed);
        config.dtls_backend = backend;
        let leg = Leg::new(config, Instant::now());
        Self { leg, protocol, identity, rtp, rtcp, mux }
    }

    pub fn address(&self) -> SocketAddr {
        self.rtp.local_addr().unwrap()
    }

    pub fn rtcp_address(&self) -> SocketAddr {
        if self.mux { self.address() } else { self.rtcp.local_addr().unwrap() }
    }

    /// What this phone's description tells the relay, in answer to `offer`.
    /// `role` is the relay's in the DTLS handshake.
    pub fn describe(&self, offer: &LegLocal, role: DtlsRole) -> Remote {
        let mut remote = remote(self.address(), self.rtcp_address());
        remote.rtcp_mux = self.mux;
        let ours = self.leg.local(self.address(), self.rtcp_address());
        match self.protocol {
            Protocol::Rtp => {}
            Protocol::Sdes => {
                let send = offer.sdes.first().unwrap().clone();
                let mut receive =
                    ours.sdes.iter().find(|key| key.suite == send.suite).unwrap().clone();
                receive.tag = send.tag;
                remote.sdes = Some(SdesPair { send, receive });
            }
            Protocol::Dtls => {
                let fingerprints = vec![self.identity.as_ref().unwrap().fingerprint()];
                remote.dtls = Some(DtlsParameters { fingerprints, role });
            }
        }
        remote
    }

    /// Takes the relay's description.
    pub async fn learn(&mut self, local: &LegLocal, relay_role: DtlsRole) {
        let mut relay = remote(local.rtp, local.rtcp);
        relay.rtcp_mux = self.mux;
        match self.protocol {
            Protocol::Rtp => {}
            Protocol::Sdes => {
                let receive = local.sdes.first().unwrap().clone();
                let ours = self.leg.local(self.address(), self.rtcp_address());
                let send = ours.sdes.iter().find(|key| key.suite == receive.suite).unwrap();
                relay.sdes = Some(SdesPair { send: send.clone(), receive });
            }
            Protocol::Dtls => {
                let role = match relay_role {
                    DtlsRole::Client => DtlsRole::Server,
                    DtlsRole::Server => DtlsRole::Client,
                };
                let fingerprints = vec![local.fingerprint.clone().unwrap()];
                relay.dtls = Some(DtlsParameters { fingerprints, role });
            }
        }
        self.leg.set_remote(Instant::now(), &relay).unwrap();
        self.drain().await;
    }

    /// Sends a plain packet, protected as the leg is. False when the keys are
    /// not there yet.
    pub async fn say(&mut self, component: Component, packet: &[u8]) -> bool {
        let mut buffer = PacketBuf::from_slice(packet).unwrap();
        let Some((by, to)) = self.leg.send(Instant::now(), component, &mut buffer) else {
            return false;
        };
        self.socket(by).send_to(buffer.as_slice(), to).await.unwrap();
        true
    }

    /// Has a connectivity check answered from where it sends.
    pub async fn prove(&self, relay: SocketAddr, check: &[u8]) {
        self.rtp.send_to(check, relay).await.unwrap();
        let mut buffer = [0; 2048];
        let answer = timeout(PATIENCE, self.rtp.recv_from(&mut buffer)).await;
        assert_eq!(answer.expect("an answer to the check").unwrap().1, relay);
    }

    /// The next RTP or RTCP packet, in the clear; handshakes go on meanwhile.
    pub async fn hear(&mut self) -> Heard {
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "nothing was heard");
            if let Some(heard) = self.listen(Duration::from_millis(50)).await {
                return heard;
            }
        }
    }

    /// Whether nothing comes for a while.
    pub async fn hears_nothing(&mut self) -> bool {
        self.listen(Duration::from_millis(100)).await.is_none()
    }

    /// Runs the handshake until packets can be sent.
    pub async fn connect(&mut self) {
        let end = Instant::now() + PATIENCE;
        let mut probe = PacketBuf::from_slice(&super::rtp(1, 0)).unwrap();
        while self.leg.send(Instant::now(), Component::Rtp, &mut probe).is_none() {
            assert!(Instant::now() < end, "the handshake never ended");
            self.listen(Duration::from_millis(5)).await;
            probe = PacketBuf::from_slice(&super::rtp(1, 0)).unwrap();
        }
    }

    async fn listen(&mut self, patience: Duration) -> Option<Heard> {
        let (mut rtp, mut rtcp) = ([0; 2048], [0; 2048]);
        let (by, length, from) = timeout(patience, async {
            tokio::select! {
                got = self.rtp.recv_from(&mut rtp) => got.map(|(n, from)| (Component::Rtp, n, from)),
                got = self.rtcp.recv_from(&mut rtcp) => got.map(|(n, from)| (Component::Rtcp, n, from)),
            }
        })
        .await
        .ok()?
        .unwrap();
        let octets = if by == Component::Rtp { &rtp[..length] } else { &rtcp[..length] };
        let mut packet = PacketBuf::from_slice(octets).unwrap();
        let received = self.leg.receive(Instant::now(), by, from, &mut packet);
        self.drain().await;
        match received {
            Received::Rtp(_) | Received::Video(_) | Received::Rtcp => {
                Some(Heard { packet: packet.as_slice().to_vec(), from, by })
            }
            Received::Handled => None,
            Received::Dropped(cause) => panic!("the phone dropped a packet: {cause:?}"),
        }
    }

    async fn drain(&mut self) {
        let now = Instant::now();
        if self.leg.poll_timeout().is_some_and(|at| at <= now) {
            self.leg.handle_timeout(now);
        }
        while let Some(output) = self.leg.poll_output() {
            if let LegOutput::Transmit { component, to, bytes } = output {
                self.socket(component).send_to(bytes.as_slice(), to).await.unwrap();
            }
        }
    }

    fn socket(&self, component: Component) -> &UdpSocket {
        match component {
            Component::Rtp | Component::Stream => &self.rtp,
            Component::Rtcp => &self.rtcp,
        }
    }
}

fn rand_seed(port: u16) -> [u8; 32] {
    let mut seed = [9; 32];
    seed[..2].copy_from_slice(&port.to_be_bytes());
    seed
}
