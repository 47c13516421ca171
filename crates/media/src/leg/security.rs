use std::time::Instant;

use landline_control::{LegSpec, Protocol, SdesKey, SdesPair, SrtpSuite};
use landline_region::Entropy;

use super::{Component, DropCause, RemoteError};
use crate::dtls::Established;
use crate::packet::PacketBuf;
use crate::rtp::RtpInfo;
use crate::srtp::{Context, Rollover, SrtpError, Tries};

/// How a leg's packets are protected, and with which keys.
pub struct Security {
    protocol: Protocol,
    /// Our SDES keys, one for each suite of the specification.
    offered: Vec<SdesKey>,
    sdes: Option<SdesPair>,
    /// By component. SDES has one pair of keys for both, DTLS a handshake on
    /// each socket.
    pairs: [Option<Box<Pair>>; 2],
    rollover: Rollover,
    /// Of the source that was signalled, and of all others: who forges from
    /// anywhere takes none of the peer's.
    tries: [Tries; 2],
}

struct Pair {
    send: Context,
    receive: Context,
}

impl Security {
    pub fn new(spec: &LegSpec, rollover: Rollover, entropy: &mut Entropy) -> Self {
        let suites = spec.suites.iter().filter(|_| spec.protocol == Protocol::Sdes);
        let offered = suites.zip(1..).map(|(suite, tag)| {
            let octets = entropy.bytes::<30>();
            let key_and_salt = octets[..suite.key_and_salt_len()].to_vec();
            SdesKey { tag, suite: *suite, key_and_salt }
        });
        let offered = offered.collect();
        Self {
            protocol: spec.protocol,
            offered,
            sdes: None,
            pairs: [None, None],
            rollover,
            tries: Default::default(),
        }
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
            }
            empty => {
                let pair =
                    Pair { send: context(&agreed.send)?, receive: context(&agreed.receive)? };
                *empty = Some(Box::new(pair));
            }
        }
        self.sdes = Some(agreed.clone());
        Ok(())
    }

    /// Takes the keys of a component's handshake.
    pub fn install(
        &mut self,
        component: Component,
        established: &Established,
    ) -> Result<(), SrtpError> {
        let suite = established.suite;
        let send = Context::new(suite, &established.send())?;
        let receive = Context::new(suite, &established.receive())?;
        self.pairs[component as usize] = Some(Box::new(Pair { send, receive }));
        Ok(())
    }

    pub fn forget(&mut self) {
        self.pairs = [None, None];
    }

    /// The suite in use.
    pub fn suite(&self) -> Option<SrtpSuite> {
        self.pairs[0].as_ref().map(|pair| pair.send.suite())
    }

    fn pair(&mut self, component: Component) -> Result<&mut Pair, DropCause> {
        let shared = self.protocol == Protocol::Sdes;
        let slot = if shared { 0 } else { component as usize };
        self.pairs[slot].as_deref_mut().ok_or(DropCause::NoKeys)
    }

    pub fn protect_rtp(&mut self, packet: &mut PacketBuf) -> Result<(), DropCause> {
        if self.protocol == Protocol::Rtp {
            return Ok(());
        }
        self.pair(Component::Rtp)?.send.protect_rtp(packet).map_err(cause)
    }

    pub fn protect_rtcp(
        &mut self,
        component: Component,
        packet: &mut PacketBuf,
    ) -> Result<(), DropCause> {
        if self.protocol == Protocol::Rtp {
            return Ok(());
        }
        self.pair(component)?.send.protect_rtcp(packet).map_err(rtcp_cause)
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
        SrtpError::Replay => DropCause::SrtpReplay,
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
