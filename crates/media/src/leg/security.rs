use std::time::Instant;

use landline_control::{
    KeyAndSalt, KeyPair, LegKeys, LegSpec, Protocol, SdesKey, SdesPair, SrtpSuite,
};
use landline_region::Entropy;

use super::{Component, DropCause, RemoteError};
use crate::dtls::Established;
use crate::packet::PacketBuf;
use crate::rtp::RtpInfo;
use crate::srtp::{Context, Rollover, SrtpError, Tries};

/// Streams of relays before that a resumed leg keeps apart from its own. Whoever
/// has had more gets new keys.
const MAX_SENT: usize = 128;

/// How a leg's packets are protected, and with which keys.
pub struct Security {
    protocol: Protocol,
    /// Our SDES keys, one for each suite of the specification.
    offered: Vec<SdesKey>,
    sdes: Option<SdesPair>,
    /// By component. SDES has one pair of keys for both, DTLS a handshake on
    /// each socket.
    pairs: [Option<Box<Pair>>; 2],
    /// Which of them are another relay's, from which nothing newer came yet.
    resumed: [bool; 2],
    /// The keys, or what was sent under them, are others than was told last.
    is_news: bool,
    rollover: Rollover,
    /// Of the source that was signalled, and of all others: who forges from
    /// anywhere takes none of the peer's.
    tries: [Tries; 2],
}

struct Pair {
    send: Context,
    receive: Context,
    /// What both are made from.
    keys: KeyPair,
}

impl Pair {
    fn new(keys: KeyPair) -> Result<Self, SrtpError> {
        let send = Context::new(keys.suite, keys.send.expose())?;
        let receive = Context::new(keys.suite, keys.receive.expose())?;
        Ok(Self { send, receive, keys })
    }
}

impl Security {
    pub fn new(spec: &LegSpec, rollover: Rollover, entropy: &mut Entropy) -> Self {
        let suites = spec.suites.iter().filter(|_| spec.protocol == Protocol::Sdes);
        let offered = suites.zip(1..).map(|(suite, tag)| {
            let octets = entropy.bytes::<44>();
            let key_and_salt = octets[..suite.key_and_salt_len()].to_vec();
            SdesKey { tag, suite: *suite, key_and_salt }
        });
        let offered = offered.collect();
        Self {
            protocol: spec.protocol,
            offered,
            sdes: None,
            pairs: [None, None],
            resumed: [false; 2],
            is_news: false,
            rollover,
            tries: Default::default(),
        }
    }

    /// Goes on with the keys that another relay had with the peer, if they can
    /// be this leg's. With SDES our key is offered as it was before, and no
    /// other: the peer may take no new one (see ADR 018).
    pub fn resume(&mut self, keys: &LegKeys) {
        if keys.protocol != self.protocol || keys.sent.len() > MAX_SENT {
            return;
        }
        let pair = |of: &Option<KeyPair>| match of {
            None => Ok(None),
            Some(keys_of) => Pair::new(keys_of.clone()).map(|mut pair| {
                pair.send = pair.send.without(&keys.sent);
                Some(Box::new(pair))
            }),
        };
        let (Ok(rtp), Ok(rtcp)) = (pair(&keys.rtp), pair(&keys.rtcp)) else { return };
        let Some(rtp) = rtp else { return };
        if self.protocol == Protocol::Sdes {
            let suite = rtp.keys.suite;
            let key =
                |of: &KeyAndSalt| SdesKey { tag: 1, suite, key_and_salt: of.expose().to_vec() };
            if !self.offered.iter().any(|offered| offered.suite == suite) {
                return;
            }
            let (send, receive) = (key(&rtp.keys.send), key(&rtp.keys.receive));
            self.offered = vec![send.clone()];
            self.sdes = Some(SdesPair { send, receive });
        }
        self.resumed = [true, rtcp.is_some()];
        self.pairs = [Some(rtp), rtcp];
        self.is_news = true;
    }

    /// RTP is protected with what another relay agreed on with the peer.
    pub fn is_resumed(&self) -> bool {
        self.resumed[Component::Rtp.index()]
    }

    /// The keys and what was sent under them, if that is others than before.
    pub fn take_news(&mut self) -> Option<LegKeys> {
        std::mem::take(&mut self.is_news).then(|| self.keys())?
    }

    pub fn has_news(&self) -> bool {
        self.is_news
    }

    /// Has the keys told again.
    pub fn tell_again(&mut self) {
        self.is_news = self.pairs.iter().any(Option::is_some);
    }

    fn keys(&self) -> Option<LegKeys> {
        let [rtp, rtcp] = &self.pairs;
        let keys = |pair: &Option<Box<Pair>>| pair.as_ref().map(|pair| pair.keys.clone());
        let (rtp, rtcp) = (keys(rtp), keys(rtcp));
        (rtp.is_some() || rtcp.is_some()).then(|| {
            let mut keys = LegKeys { protocol: self.protocol, rtp, rtcp, sent: Vec::new() };
            keys.add_sent(&self.sent());
            keys
        })
    }

    /// The streams that the peer was sent under the keys in use.
    pub fn sent(&self) -> Vec<u32> {
        self.pairs.iter().flatten().flat_map(|pair| pair.send.sent()).collect()
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub fn offered(&self) -> &[SdesKey] {
        &self.offered
    }

    /// Takes the keys that offer and answer agreed on. Under a key that stays,
    /// the rollover counters must go on: a context made anew would repeat the
    /// keystream.
    pub fn set_sdes(&mut self, agreed: &SdesPair) -> Result<(), RemoteError> {
        if !self.offered.iter().any(|ours| same_key(ours, &agreed.send)) {
            return Err(RemoteError::ForeignSendKey);
        }
        let keeps = |of: fn(&SdesPair) -> &SdesKey| {
            self.sdes.as_ref().is_some_and(|before| same_key(of(before), of(agreed)))
        };
        let (keep_send, keep_receive) = (keeps(|it| &it.send), keeps(|it| &it.receive));
        let keys = KeyPair {
            suite: agreed.send.suite,
            send: KeyAndSalt::new(agreed.send.key_and_salt.clone()),
            receive: KeyAndSalt::new(agreed.receive.key_and_salt.clone()),
        };
        match &mut self.pairs[0] {
            Some(pair) => {
                // Both are made before one is replaced: an error changes nothing.
                let send = (!keep_send).then(|| context(&agreed.send)).transpose()?;
                let receive = (!keep_receive).then(|| context(&agreed.receive)).transpose()?;
                if let Some(context) = send {
                    pair.send = context;
                }
                if let Some(context) = receive {
                    pair.receive = context.after(&pair.receive, self.rollover);
                }
                pair.keys = keys;
            }
            empty => {
                let (send, receive) = (context(&agreed.send)?, context(&agreed.receive)?);
                *empty = Some(Box::new(Pair { send, receive, keys }));
            }
        }
        self.is_news |= !(keep_send && keep_receive);
        self.sdes = Some(agreed.clone());
        Ok(())
    }

    /// Takes the keys of a component's handshake.
    pub fn install(
        &mut self,
        component: Component,
        established: &Established,
    ) -> Result<(), SrtpError> {
        let pair = Pair::new(KeyPair {
            suite: established.suite,
            send: KeyAndSalt::new(established.send()),
            receive: KeyAndSalt::new(established.receive()),
        })?;
        self.pairs[component.index()] = Some(Box::new(pair));
        self.resumed[component.index()] = false;
        self.is_news = true;
        Ok(())
    }

    pub fn forget(&mut self) {
        self.pairs = [None, None];
        self.resumed = [false; 2];
    }

    /// The suite in use.
    pub fn suite(&self) -> Option<SrtpSuite> {
        self.pairs[0].as_ref().map(|pair| pair.send.suite())
    }

    fn pair(&mut self, component: Component) -> Result<&mut Pair, DropCause> {
        let shared = self.protocol == Protocol::Sdes;
        let slot = if shared { 0 } else { component.index() };
        self.pairs[slot].as_deref_mut().ok_or(DropCause::NoKeys)
    }

    pub fn protect_rtp(&mut self, packet: &mut PacketBuf) -> Result<(), DropCause> {
        if self.protocol == Protocol::Rtp {
            return Ok(());
        }
        let send = &mut self.pair(Component::Rtp)?.send;
        let protected = send.protect_rtp(packet).map_err(cause);
        self.is_news |= send.take_begun();
        protected
    }

    pub fn protect_rtcp(
        &mut self,
        component: Component,
        packet: &mut PacketBuf,
    ) -> Result<(), DropCause> {
        if self.protocol == Protocol::Rtp {
            return Ok(());
        }
        let send = &mut self.pair(component)?.send;
        let protected = send.protect_rtcp(packet).map_err(rtcp_cause);
        self.is_news |= send.take_begun();
        protected
    }

    /// `signalled`: it comes from where the peer said that it would be.
    pub fn unprotect_rtp(
        &mut self,
        now: Instant,
        signalled: bool,
        packet: &mut PacketBuf,
    ) -> Result<RtpInfo, DropCause> {
        let finds = self.rollover == Rollover::Found;
        let [theirs, others] = &mut self.tries;
        let tries = if signalled { theirs } else { others };
        let pair = self.pairs[0].as_deref_mut().ok_or(DropCause::NoKeys)?;
        let unprotected = pair.receive.unprotect_rtp_within(packet, || finds && tries.take(now));
        unprotected.map_err(cause)
    }

    pub fn unprotect_rtcp(
        &mut self,
        component: Component,
        packet: &mut PacketBuf,
    ) -> Result<(), DropCause> {
        self.pair(component)?.receive.unprotect_rtcp(packet).map_err(rtcp_cause)
    }
}

/// The tag may change when an answer takes up an offer's.
fn same_key(left: &SdesKey, right: &SdesKey) -> bool {
    left.suite == right.suite && left.key_and_salt == right.key_and_salt
}

fn context(key: &SdesKey) -> Result<Context, RemoteError> {
    Context::new(key.suite, &key.key_and_salt).map_err(|_| RemoteError::SdesKeyLength)
}

fn cause(error: SrtpError) -> DropCause {
    match error {
        SrtpError::Malformed | SrtpError::TooLong => DropCause::MalformedRtp,
        SrtpError::Authentication => DropCause::SrtpAuthentication,
        SrtpError::Replay | SrtpError::StreamSpent => DropCause::SrtpReplay,
        SrtpError::Unencrypted => DropCause::SrtcpUnencrypted,
        SrtpError::TooManyStreams => DropCause::SrtpStreams,
        SrtpError::KeyLength | SrtpError::KeySpent => DropCause::NoKeys,
    }
}

fn rtcp_cause(error: SrtpError) -> DropCause {
    match error {
        SrtpError::Malformed | SrtpError::TooLong => DropCause::MalformedRtcp,
        error => cause(error),
    }
}
