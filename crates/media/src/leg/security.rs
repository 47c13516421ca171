use landline_control::{LegSpec, Protocol, Remote, SdesKey, SdesPair};
use landline_region::Entropy;

use super::{DropCause, RemoteError};
use crate::packet::PacketBuf;
use crate::rtp::RtpInfo;
use crate::srtp::{Context, SrtpError};

/// How a leg's packets are protected, and with which keys.
pub struct Security {
    protocol: Protocol,
    /// Our SDES keys, one for each suite of the specification.
    offered: Vec<SdesKey>,
    sdes: Option<SdesPair>,
    send: Option<Box<Context>>,
    receive: Option<Box<Context>>,
}

impl Security {
    pub fn new(spec: &LegSpec, entropy: &mut Entropy) -> Self {
        let suites = spec.suites.iter().filter(|_| spec.protocol == Protocol::Sdes);
        let offered = suites.zip(1..).map(|(suite, tag)| {
            let octets = entropy.bytes::<30>();
            let key_and_salt = octets[..suite.key_and_salt_len()].to_vec();
            SdesKey { tag, suite: *suite, key_and_salt }
        });
        Self {
            protocol: spec.protocol,
            offered: offered.collect(),
            sdes: None,
            send: None,
            receive: None,
        }
    }

    pub fn is_plain(&self) -> bool {
        self.protocol == Protocol::Rtp
    }

    pub fn offered(&self) -> &[SdesKey] {
        &self.offered
    }

    pub fn set_remote(&mut self, remote: &Remote) -> Result<(), RemoteError> {
        match self.protocol {
            Protocol::Sdes => self.set_sdes(remote.sdes.as_ref().ok_or(RemoteError::NoSdesKeys)?),
            Protocol::Rtp | Protocol::Dtls => Ok(()),
        }
    }

    fn set_sdes(&mut self, pair: &SdesPair) -> Result<(), RemoteError> {
        if !self.offered.iter().any(|ours| same_key(ours, &pair.send)) {
            return Err(RemoteError::ForeignSendKey);
        }
        // Under a key that stays, the rollover counters must go on: a context
        // made anew would repeat the keystream.
        let before = self.sdes.as_ref();
        let send = before.filter(|old| same_key(&old.send, &pair.send));
        let receive = before.filter(|old| same_key(&old.receive, &pair.receive));
        let new_send = if send.is_none() { Some(context(&pair.send)?) } else { None };
        let new_receive = if receive.is_none() { Some(context(&pair.receive)?) } else { None };
        self.send = new_send.or(self.send.take());
        self.receive = new_receive.or(self.receive.take());
        self.sdes = Some(pair.clone());
        Ok(())
    }

    pub fn protect_rtp(&mut self, packet: &mut PacketBuf) -> Result<(), DropCause> {
        match &mut self.send {
            Some(context) => context.protect_rtp(packet).map_err(cause),
            None if self.protocol == Protocol::Rtp => Ok(()),
            None => Err(DropCause::NoKeys),
        }
    }

    pub fn protect_rtcp(&mut self, packet: &mut PacketBuf) -> Result<(), DropCause> {
        match &mut self.send {
            Some(context) => context.protect_rtcp(packet).map_err(cause),
            None if self.protocol == Protocol::Rtp => Ok(()),
            None => Err(DropCause::NoKeys),
        }
    }

    pub fn unprotect_rtp(&mut self, packet: &mut PacketBuf) -> Result<RtpInfo, DropCause> {
        let context = self.receive.as_mut().ok_or(DropCause::NoKeys)?;
        context.unprotect_rtp(packet).map_err(cause)
    }

    pub fn unprotect_rtcp(&mut self, packet: &mut PacketBuf) -> Result<(), DropCause> {
        let context = self.receive.as_mut().ok_or(DropCause::NoKeys)?;
        context.unprotect_rtcp(packet).map_err(|error| match error {
            SrtpError::Malformed => DropCause::MalformedRtcp,
            error => cause(error),
        })
    }
}

/// The tag may change when an answer takes up an offer's.
fn same_key(left: &SdesKey, right: &SdesKey) -> bool {
    left.suite == right.suite && left.key_and_salt == right.key_and_salt
}

fn context(key: &SdesKey) -> Result<Box<Context>, RemoteError> {
    let context = Context::new(key.suite, &key.key_and_salt);
    context.map(Box::new).map_err(|_| RemoteError::SdesKeyLength)
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
