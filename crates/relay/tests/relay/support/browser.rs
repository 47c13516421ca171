use std::net::SocketAddr;
use std::time::Duration;

use landline_control::{IceCredentials, LegLocal, Remote};
use landline_media::stun::{BINDING, Class, Message, Writer, attribute};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{PATIENCE, remote};

/// A browser's own fragment.
pub const THEIRS: &str = "brow";

/// What a browser's description says.
pub fn described() -> Remote {
    let nowhere = "0.0.0.0:9".parse().unwrap();
    let mut described = remote(nowhere, nowhere);
    described.ice = Some(credentials());
    described
}

pub fn credentials() -> IceCredentials {
    IceCredentials { ufrag: THEIRS.into(), pwd: "p".repeat(24) }
}

/// A connectivity check with nomination.
pub fn check(ours: &IceCredentials, theirs: &str) -> Vec<u8> {
    Writer::new(Class::Request, BINDING, [7; 12])
        .attribute(attribute::USERNAME, format!("{}:{theirs}", ours.ufrag).as_bytes())
        .attribute(attribute::PRIORITY, &1_u32.to_be_bytes())
        .attribute(attribute::ICE_CONTROLLING, &[1; 8])
        .attribute(attribute::USE_CANDIDATE, &[])
        .integrity(&ours.pwd)
        .finish()
}

/// One socket of a full ICE agent.
pub struct Browser(UdpSocket);

impl Browser {
    pub async fn new() -> Self {
        Self::at("127.0.0.1:0").await
    }

    pub async fn at(address: &str) -> Self {
        Self(UdpSocket::bind(address).await.unwrap())
    }

    pub async fn say(&self, to: SocketAddr, octets: &[u8]) {
        self.0.send_to(octets, to).await.unwrap();
    }

    /// Its check is answered.
    pub async fn prove(&self, at: &LegLocal) {
        let ours = at.ice.as_ref().unwrap();
        self.say(at.rtp, &check(ours, THEIRS)).await;
        let (answer, from) = self.hear().await;
        assert_eq!(from, at.rtp);
        let answer = Message::parse(&answer).unwrap();
        assert!(answer.class == Class::Success && answer.is_authentic(&ours.pwd));
        assert_eq!(answer.mapped, Some(self.0.local_addr().unwrap()));
    }

    /// The next datagram, and whence it came.
    pub async fn hear(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2048];
        let heard = timeout(PATIENCE, self.0.recv_from(&mut buffer)).await;
        let (length, from) = heard.expect("something to hear").unwrap();
        (buffer[..length].to_vec(), from)
    }

    /// Whether nothing comes for a while.
    pub async fn hears_nothing(&self) -> bool {
        let mut buffer = [0; 2048];
        timeout(Duration::from_millis(100), self.0.recv_from(&mut buffer)).await.is_err()
    }
}
