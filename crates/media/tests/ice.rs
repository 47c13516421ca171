//! An ICE-lite leg and a full agent of another make.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{Side, address, config, remote, rtp_packet, spec};
use is::stun::{StunMessage, StunPacket};
use is::{Candidate, IceAgent, IceAgentEvent, IceCreds};
use landline_control::{DtlsRole, IceCredentials, Protocol};
use landline_media::stun::{BINDING, Class, Message, Writer, attribute};
use landline_media::{Component, DropCause, LegOutput, PacketBuf, Received};

struct Peers {
    side: Side,
    agent: IceAgent,
    /// Where the agent is, and from where its packets are seen.
    host: SocketAddr,
    seen_as: SocketAddr,
    now: Instant,
    nominated: Option<SocketAddr>,
}

impl Peers {
    fn new() -> Self {
        let now = Instant::now();
        let mut lite = spec(Protocol::Rtp);
        lite.ice = true;
        let side = Side::new(config(lite, 5), 1, now);
        let mut agent = IceAgent::new(IceCreds::new());
        agent.set_controlling(true);
        let host = address(9, 7000);
        let mut peers = Self { side, agent, host, seen_as: host, now, nominated: None };
        peers.agent.add_local_candidate(Candidate::host(host, "udp").unwrap());
        peers.exchange();
        peers
    }

    fn exchange(&mut self) {
        let ours = self.side.local();
        let ice = ours.ice.clone().unwrap();
        self.agent.set_remote_credentials(IceCreds { ufrag: ice.ufrag, pass: ice.pwd });
        self.agent.add_remote_candidate(Candidate::host(ours.rtp, "udp").unwrap());
        let theirs = self.agent.local_credentials();
        let mut described = remote(&ours, DtlsRole::Server);
        described.rtp = address(9, 9);
        described.ice =
            Some(IceCredentials { ufrag: theirs.ufrag.clone(), pwd: theirs.pass.clone() });
        self.side.leg.set_remote(self.now, &described).unwrap();
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.agent.handle_timeout(self.now);
            while let Some(transmit) = self.agent.poll_transmit() {
                let bytes: Vec<u8> = transmit.contents.into();
                let mut packet = PacketBuf::from_slice(&bytes).unwrap();
                self.side.leg.receive(self.now, Component::Rtp, self.seen_as, &mut packet);
                self.answer();
            }
            while let Some(event) = self.agent.poll_event() {
                if let IceAgentEvent::NominatedSend { destination, .. } = event {
                    self.nominated = Some(destination);
                }
            }
            self.now += Duration::from_millis(20);
        }
    }

    fn answer(&mut self) {
        while let Some(output) = self.side.leg.poll_output() {
            let LegOutput::Transmit { to, bytes, .. } = output else { continue };
            assert_eq!(to, self.seen_as);
            let message = StunMessage::parse(&bytes).unwrap();
            let source = self.side.rtp;
            let packet =
                StunPacket { proto: is::Protocol::Udp, source, destination: self.host, message };
            self.agent.handle_packet(self.now, packet);
        }
    }

    fn hears_from(&mut self, sequence: u16, from: SocketAddr) -> Received {
        let mut packet = PacketBuf::from_slice(&rtp_packet(sequence, b"hello")).unwrap();
        self.side.leg.receive(self.now, Component::Rtp, from, &mut packet)
    }

    fn sends_to(&mut self, sequence: u16) -> Option<SocketAddr> {
        let mut packet = PacketBuf::from_slice(&rtp_packet(sequence, b"hello")).unwrap();
        self.side.leg.send(self.now, Component::Rtp, &mut packet).map(|(_, to)| to)
    }
}

#[test]
fn a_full_agent_connects_nominates_and_is_heard() {
    let mut peers = Peers::new();
    assert_eq!(peers.hears_from(1, peers.host), Received::Dropped(DropCause::UnprovenSource));
    assert_eq!(peers.sends_to(1), None);
    peers.run(Duration::from_secs(3));
    assert!(peers.agent.state().is_connected(), "{:?}", peers.agent.state());
    assert_eq!(peers.nominated, Some(peers.side.rtp));
    assert!(matches!(peers.hears_from(2, peers.host), Received::Rtp(_)));
    assert_eq!(peers.sends_to(2), Some(peers.host));
    let stranger = address(66, 6);
    assert_eq!(peers.hears_from(3, stranger), Received::Dropped(DropCause::UnprovenSource));
}

#[test]
fn consent_goes_on_being_answered() {
    let mut peers = Peers::new();
    peers.run(Duration::from_secs(90));
    assert!(peers.agent.state().is_connected());
    assert_eq!(peers.side.leg.drops().total(), 0);
}

#[test]
fn media_goes_on_through_a_restart_and_moves_when_the_new_pair_is_nominated() {
    let mut peers = Peers::new();
    peers.run(Duration::from_secs(3));
    let before = peers.side.local().ice.unwrap();
    peers.side.leg.restart(peers.now);
    assert_ne!(before, peers.side.local().ice.unwrap());

    // The peer does not know yet: its checks and its media are still good.
    let checks = peers.side.leg.drops().total();
    peers.run(Duration::from_secs(20));
    assert!(peers.agent.state().is_connected());
    assert_eq!(peers.side.leg.drops().total(), checks);
    assert!(matches!(peers.hears_from(10, peers.host), Received::Rtp(_)));
    assert_eq!(peers.sends_to(10), Some(peers.host));

    // Now it restarts as well, from another address.
    peers.agent.ice_restart(IceCreds::new(), true);
    peers.exchange();
    let moved = address(10, 7001);
    peers.seen_as = moved;
    peers.run(Duration::from_secs(5));
    assert!(peers.agent.state().is_connected());
    assert_eq!(peers.sends_to(11), Some(moved));
    assert!(matches!(peers.hears_from(11, moved), Received::Rtp(_)));
}

/// Checks written by hand, to see each answer.
struct Checks {
    side: Side,
    now: Instant,
}

impl Checks {
    fn new() -> Self {
        let peers = Peers::new();
        Self { side: peers.side, now: peers.now }
    }

    fn ice(&self) -> IceCredentials {
        self.side.local().ice.unwrap()
    }

    fn username(&self) -> Vec<u8> {
        format!("{}:", self.ice().ufrag).into_bytes()
    }

    fn ask(&mut self, check: &[u8]) -> (Received, Option<Vec<u8>>) {
        let mut packet = PacketBuf::from_slice(check).unwrap();
        let received = self.side.leg.receive(self.now, Component::Rtp, address(3, 3), &mut packet);
        let answer = self.side.leg.poll_output().and_then(|output| match output {
            LegOutput::Transmit { bytes, .. } => Some(bytes),
            _ => None,
        });
        (received, answer)
    }

    fn code(&mut self, check: &[u8]) -> Option<u16> {
        let (received, answer) = self.ask(check);
        assert!(matches!(received, Received::Dropped(_)));
        Message::parse(&answer.unwrap()).unwrap().error_code
    }
}

fn check() -> Writer {
    Writer::new(Class::Request, BINDING, [3; 12]).attribute(attribute::PRIORITY, &[0, 0, 1, 0])
}

#[test]
fn bad_checks_get_the_code_that_the_rfc_names_and_prove_nothing() {
    let mut lite = spec(Protocol::Rtp);
    lite.ice = true;
    let now = Instant::now();
    let mut checks = Checks { side: Side::new(config(lite, 6), 1, now), now };
    let (username, pwd) = (checks.username(), checks.ice().pwd);
    let named = || check().attribute(attribute::USERNAME, &username);

    assert_eq!(checks.code(&check().finish()), Some(400), "no credentials");
    assert_eq!(checks.code(&named().finish()), Some(400), "no integrity");
    assert_eq!(checks.code(&named().integrity("guess").finish()), Some(401));
    let other = check().attribute(attribute::USERNAME, b"nobody:x").integrity(&pwd).finish();
    assert_eq!(checks.code(&other), Some(401), "not our fragment");
    let unknown = named().attribute(0x7777, &[1]).integrity(&pwd).finish();
    assert_eq!(checks.code(&unknown), Some(420));
    let controlled = named().attribute(attribute::ICE_CONTROLLED, &[0; 8]).integrity(&pwd).finish();
    assert_eq!(checks.code(&controlled), Some(487));
    assert_eq!(checks.side.leg.drops().of(DropCause::StunIntegrity), 4);
    assert_eq!(checks.side.leg.drops().of(DropCause::StunUnexpected), 2);

    let mut packet = PacketBuf::from_slice(&rtp_packet(1, b"x")).unwrap();
    let received = checks.side.leg.receive(now, Component::Rtp, address(3, 3), &mut packet);
    assert_eq!(received, Received::Dropped(DropCause::UnprovenSource));
}

#[test]
fn a_good_check_before_the_peer_s_answer_is_answered() {
    let mut lite = spec(Protocol::Rtp);
    lite.ice = true;
    let now = Instant::now();
    let mut checks = Checks { side: Side::new(config(lite, 6), 1, now), now };
    let (username, pwd) = (checks.username(), checks.ice().pwd);
    let good = check().attribute(attribute::USERNAME, &username).integrity(&pwd).finish();
    let (received, answer) = checks.ask(&good);
    assert_eq!(received, Received::Handled);
    let answer = answer.unwrap();
    let answer = Message::parse(&answer).unwrap();
    assert_eq!((answer.class, answer.mapped), (Class::Success, Some(address(3, 3))));
    assert!(answer.is_authentic(&pwd));
}

#[test]
fn checks_without_a_fingerprint_and_stray_responses_are_not_answered() {
    let mut checks = Checks::new();
    let pwd = checks.ice().pwd;
    let whole = check().attribute(attribute::USERNAME, b"x:y").integrity(&pwd).finish();
    let mut bare = whole[..whole.len() - 8].to_vec();
    bare[3] -= 8;
    for stray in [bare, Writer::new(Class::Success, BINDING, [1; 12]).finish()] {
        let (received, answer) = checks.ask(&stray);
        assert_eq!(received, Received::Dropped(DropCause::StunUnexpected));
        assert_eq!(answer, None);
    }
}

#[test]
fn the_check_must_name_the_fragment_that_the_peer_signalled() {
    let mut checks = Checks::new();
    let (ice, pwd) = (checks.ice(), checks.ice().pwd);
    let other = format!("{}:somebody", ice.ufrag);
    let bytes = check().attribute(attribute::USERNAME, other.as_bytes()).integrity(&pwd).finish();
    assert_eq!(checks.code(&bytes), Some(401));
}

/// Whoever has seen a fragment, and lies about where he is, has somebody else told
/// of it a few times a second, and no more.
#[test]
fn refusals_are_few_however_many_ask() {
    let mut lite = spec(Protocol::Rtp);
    lite.ice = true;
    let now = Instant::now();
    let mut checks = Checks { side: Side::new(config(lite, 6), 1, now), now };
    let (username, pwd) = (checks.username(), checks.ice().pwd);
    let named = || check().attribute(attribute::USERNAME, &username);
    let (guess, bare) = (named().integrity("guess").finish(), check().finish());
    let good = named().integrity(&pwd).finish();
    for second in 1..4 {
        let asked = [&guess, &bare].into_iter().cycle().take(500);
        let answered = asked.filter(|it| checks.ask(it).1.is_some()).count();
        assert_eq!(answered, 20);
        assert_eq!(checks.side.leg.drops().of(DropCause::StunIntegrity), second * 500);
        assert_eq!(checks.ask(&good).0, Received::Handled, "who proves himself is answered");
        checks.now += Duration::from_secs(1);
    }
}

/// A peer with many addresses cannot make the list of them grow for ever.
#[test]
fn many_validated_addresses_do_not_push_out_the_nominated_one() {
    let mut lite = spec(Protocol::Rtp);
    lite.ice = true;
    let now = Instant::now();
    let mut checks = Checks { side: Side::new(config(lite, 6), 1, now), now };
    let (username, pwd) = (checks.username(), checks.ice().pwd);
    let good = check().attribute(attribute::USERNAME, &username).integrity(&pwd).finish();
    let nominating = check()
        .attribute(attribute::USERNAME, &username)
        .attribute(attribute::USE_CANDIDATE, &[])
        .integrity(&pwd)
        .finish();
    let leg = &mut checks.side.leg;
    for port in 1..500 {
        let bytes = if port == 100 { &nominating } else { &good };
        let mut packet = PacketBuf::from_slice(bytes).unwrap();
        leg.receive(now, Component::Rtp, address(3, port), &mut packet);
        leg.poll_output();
    }
    let mut described = remote(&checks.side.local(), DtlsRole::Server);
    described.ice = Some(IceCredentials { ufrag: "peer".into(), pwd: "p".repeat(22) });
    checks.side.leg.set_remote(now, &described).unwrap();
    let mut packet = PacketBuf::from_slice(&rtp_packet(1, b"x")).unwrap();
    let sent = checks.side.leg.send(now, Component::Rtp, &mut packet);
    assert_eq!(sent, Some((Component::Rtp, address(3, 100))));
}
