//! A full ICE agent (RFC 8445) for a phone that speaks as a browser does.

use std::net::SocketAddr;
use std::time::Instant;

use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds, Protocol};
use landline_control::{IceCredentials, Remote};

pub(crate) struct Ice {
    agent: IceAgent,
    local: SocketAddr,
    nominated: Option<SocketAddr>,
    /// The nominated address changed since it was last polled.
    fresh: bool,
}

impl Ice {
    /// An agent with one host candidate: the session's RTP socket.
    pub fn new(local: SocketAddr, controlling: bool, now: Instant) -> Self {
        let mut agent = IceAgent::new(IceCreds::new());
        agent.set_controlling(controlling);
        if let Ok(candidate) = Candidate::host(local, Protocol::Udp) {
            agent.add_local_candidate(candidate);
        }
        agent.handle_timeout(now);
        Self { agent, local, nominated: None, fresh: false }
    }

    pub fn credentials(&self) -> IceCredentials {
        let IceCreds { ufrag, pass } = self.agent.local_credentials().clone();
        IceCredentials { ufrag, pwd: pass }
    }

    /// The values of our `a=candidate` lines.
    pub fn candidates(&self) -> Vec<String> {
        self.agent
            .local_candidates()
            .map(|candidate| {
                let line = candidate.to_sdp_string();
                line.trim_start_matches("a=").trim_start_matches("candidate:").trim().to_owned()
            })
            .collect()
    }

    /// The other side's credentials; its default address is its candidate.
    pub fn set_remote(&mut self, remote: &Remote, now: Instant) {
        if let Some(IceCredentials { ufrag, pwd }) = remote.ice.clone() {
            self.agent.set_remote_credentials(IceCreds { ufrag, pass: pwd });
        }
        if let Ok(candidate) = Candidate::host(remote.rtp, Protocol::Udp) {
            self.agent.add_remote_candidate(candidate);
        }
        self.handle_timeout(now);
    }

    pub fn nominated(&self) -> Option<SocketAddr> {
        self.nominated
    }

    pub fn receive(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) {
        if let Ok(message) = StunMessage::parse(bytes) {
            let packet =
                StunPacket { proto: Protocol::Udp, source: from, destination: self.local, message };
            self.agent.handle_packet(now, packet);
            self.handle_timeout(now);
        }
    }

    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
        while let Some(event) = self.agent.poll_event() {
            if let IceAgentEvent::NominatedSend { destination, .. } = event {
                self.fresh |= self.nominated != Some(destination);
                self.nominated = Some(destination);
            }
        }
    }

    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.agent.poll_transmit().map(|packet| (packet.destination, packet.contents.to_vec()))
    }

    /// The address media goes to from now on, when it changed.
    pub fn poll_nominated(&mut self) -> Option<SocketAddr> {
        std::mem::take(&mut self.fresh).then_some(self.nominated).flatten()
    }
}
