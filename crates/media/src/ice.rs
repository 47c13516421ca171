//! An ICE-lite agent (RFC 8445 §2.5): answers connectivity checks, knows which
//! peer addresses they validated, and which one was nominated.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use landline_control::IceCredentials;
use landline_region::Entropy;
use smallvec::SmallVec;

use crate::leg::{Component, DropCause};
use crate::stun::{BINDING, Class, Message, Writer, attribute};

/// Validated peer addresses of one leg: its hosts, NAT bindings and relays.
const MAX_PAIRS: usize = 16;

/// Refusals that a leg answers within a second. They go to whoever is said to
/// have asked, who may be somebody else.
const MAX_REFUSALS: u32 = 20;

pub struct IceLite {
    local: IceCredentials,
    /// Before a restart. Checks with them are answered until the first with the
    /// new ones comes, so that media does not stop meanwhile.
    previous: Option<IceCredentials>,
    remote_ufrag: Option<String>,
    pairs: SmallVec<[Pair; 4]>,
    selected: [Option<Target>; 2],
    /// The selected addresses were nominated under the present credentials.
    nominated: [bool; 2],
    checks: u64,
    /// Since when, and how many.
    refusals: Option<(Instant, u32)>,
}

/// By which of our sockets, and to where.
pub type Target = (Component, SocketAddr);

#[derive(Debug, Clone, Copy)]
struct Pair {
    target: Target,
    seen: Instant,
}

/// What became of a STUN message.
pub struct Answer {
    pub reply: Option<Vec<u8>>,
    /// Why the message was not honoured.
    pub refused: Option<DropCause>,
}

impl IceLite {
    pub fn new(entropy: &mut Entropy) -> Self {
        Self {
            local: credentials(entropy),
            previous: None,
            remote_ufrag: None,
            pairs: SmallVec::new(),
            selected: [None; 2],
            nominated: [false; 2],
            checks: 0,
            refusals: None,
        }
    }

    /// Authentic ones, so far.
    pub fn checks(&self) -> u64 {
        self.checks
    }

    pub fn local(&self) -> &IceCredentials {
        &self.local
    }

    /// The user fragments of the credentials that it answers to.
    pub fn fragments(&self) -> impl Iterator<Item = &str> {
        [Some(&self.local), self.previous.as_ref()].into_iter().flatten().map(|it| &*it.ufrag)
    }

    /// The peer's description. Checks must name its user fragment from now on.
    pub fn set_remote(&mut self, remote: &IceCredentials) {
        self.remote_ufrag = Some(remote.ufrag.clone());
    }

    /// New credentials (RFC 8445 §9); the selected pair stays until another is
    /// nominated.
    pub fn restart(&mut self, entropy: &mut Entropy) {
        let former = std::mem::replace(&mut self.local, credentials(entropy));
        self.previous.get_or_insert(former);
        self.remote_ufrag = None;
        self.nominated = [false; 2];
    }

    /// Where the component's packets go.
    pub fn target(&self, component: Component) -> Option<Target> {
        self.selected[component.index()]
    }

    /// A connection is over, or an address is another's by now: until the peer
    /// nominates another pair, the one that it validated last serves.
    pub fn lose(&mut self, lost: Target) {
        self.pairs.retain(|pair| pair.target != lost);
        let slot = lost.0.index();
        if self.selected[slot] == Some(lost) {
            let same = self.pairs.iter().filter(|pair| pair.target.0.index() == slot);
            self.selected[slot] = same.max_by_key(|pair| pair.seen).map(|pair| pair.target);
            self.nominated[slot] = false;
        }
    }

    /// Whether a check from this address was valid.
    pub fn is_validated(&self, component: Component, from: SocketAddr) -> bool {
        let target = Some((component, from));
        self.selected[component.index()] == target
            || self.pairs.iter().any(|pair| Some(pair.target) == target)
    }

    pub fn handle(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
        packet: &[u8],
    ) -> Answer {
        let Ok(message) = Message::parse(packet) else {
            return Answer::refused(DropCause::MalformedStun);
        };
        match message.class {
            // RFC 8445 §7.1.1: a check carries a FINGERPRINT.
            Class::Request if message.fingerprinted && message.method == BINDING => {
                self.handle_check(now, component, from, &message)
            }
            // A keep-alive (RFC 8445 §11).
            Class::Indication if message.method == BINDING => Answer { reply: None, refused: None },
            _ => Answer::refused(DropCause::StunUnexpected),
        }
    }

    /// The order of RFC 8489 §6.3 and §9.1.3, then RFC 8445 §7.3.
    fn handle_check(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
        message: &Message<'_>,
    ) -> Answer {
        let (Some(username), true) = (message.username, message.has_integrity()) else {
            return self.refuse(now, message, 400, "Bad Request");
        };
        let Some(current) = self.credentials_of(username, message) else {
            return self.refuse(now, message, 401, "Unauthenticated");
        };
        let password = if current {
            &self.local.pwd
        } else {
            self.previous.as_ref().map_or(&self.local.pwd, |previous| &previous.pwd)
        };
        if !message.unknown.is_empty() {
            return Answer::unknown_attributes(message, password);
        }
        // We are never controlling (RFC 8445 §6.1.1): who says the same of
        // itself has to change.
        if message.ice_controlled.is_some() {
            let cause = DropCause::StunUnexpected;
            return Answer::error(message, Some(password), 487, "Role Conflict", cause);
        }
        let reply = Writer::new(Class::Success, BINDING, message.transaction)
            .xor_mapped_address(from)
            .integrity(password)
            .finish();
        self.validate(now, component, from, message.use_candidate, current);
        Answer { reply: Some(reply), refused: None }
    }

    /// What proves nothing is told so, now and then.
    fn refuse(&mut self, now: Instant, message: &Message<'_>, code: u16, reason: &str) -> Answer {
        let lately = self.refusals.filter(|(since, _)| now < *since + Duration::from_secs(1));
        let (since, refused) = lately.unwrap_or((now, 0));
        self.refusals = Some((since, refused.saturating_add(1)));
        match refused < MAX_REFUSALS {
            true => Answer::error(message, None, code, reason, DropCause::StunIntegrity),
            false => Answer::refused(DropCause::StunIntegrity),
        }
    }

    /// Whether the check is authentic under the present credentials (true) or
    /// those before a restart (false).
    fn credentials_of(&self, username: &[u8], message: &Message<'_>) -> Option<bool> {
        let (ours, theirs) = split_username(username)?;
        if ours == self.local.ufrag.as_bytes() {
            let expected = self.remote_ufrag.as_ref();
            let named = expected.is_none_or(|ufrag| ufrag.as_bytes() == theirs);
            return (named && message.is_authentic(&self.local.pwd)).then_some(true);
        }
        let previous = self.previous.as_ref().filter(|it| it.ufrag.as_bytes() == ours)?;
        message.is_authentic(&previous.pwd).then_some(false)
    }

    fn validate(
        &mut self,
        now: Instant,
        component: Component,
        from: SocketAddr,
        nominated: bool,
        current: bool,
    ) {
        self.checks += 1;
        if current {
            self.previous = None;
        }
        let target = (component, from);
        match self.pairs.iter_mut().find(|pair| pair.target == target) {
            Some(pair) => pair.seen = now,
            None => self.add(Pair { target, seen: now }),
        }
        let slot = component.index();
        // A full agent may nominate another pair at any time when its network
        // changes: the last word counts. Before any nomination, the first
        // validated address is as good as any.
        if nominated && (current || !self.nominated[slot]) {
            self.selected[slot] = Some(target);
            self.nominated[slot] = true;
        } else if self.selected[slot].is_none() {
            self.selected[slot] = Some(target);
        }
    }

    fn add(&mut self, pair: Pair) {
        if self.pairs.len() == MAX_PAIRS {
            let selected = self.selected;
            let stale = |pair: &&(usize, Pair)| !selected.contains(&Some(pair.1.target));
            let pairs: SmallVec<[(usize, Pair); MAX_PAIRS]> =
                self.pairs.iter().copied().enumerate().collect();
            let oldest = pairs.iter().filter(stale).min_by_key(|(_, pair)| pair.seen);
            if let Some((at, _)) = oldest {
                self.pairs.swap_remove(*at);
            }
        }
        if self.pairs.len() < MAX_PAIRS {
            self.pairs.push(pair);
        }
    }
}

impl Answer {
    fn refused(cause: DropCause) -> Self {
        Self { reply: None, refused: Some(cause) }
    }

    fn error(
        message: &Message<'_>,
        password: Option<&str>,
        code: u16,
        reason: &str,
        cause: DropCause,
    ) -> Self {
        let writer = Writer::new(Class::Error, message.method, message.transaction);
        let writer = writer.error_code(code, reason);
        // 400 and 401 have no integrity (RFC 8489 §9.1.3).
        let writer = match password {
            Some(password) => writer.integrity(password),
            None => writer,
        };
        Self { reply: Some(writer.finish()), refused: Some(cause) }
    }

    fn unknown_attributes(message: &Message<'_>, password: &str) -> Self {
        let unknown: Vec<u8> = message.unknown.iter().flat_map(|it| it.to_be_bytes()).collect();
        let reply = Writer::new(Class::Error, message.method, message.transaction)
            .error_code(420, "Unknown Attribute")
            .attribute(attribute::UNKNOWN_ATTRIBUTES, &unknown)
            .integrity(password)
            .finish();
        Self { reply: Some(reply), refused: Some(DropCause::StunUnexpected) }
    }
}

/// `receiver's fragment:sender's fragment` (RFC 8445 §7.2.2).
fn split_username(username: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = username.iter().position(|octet| *octet == b':')?;
    Some((&username[..colon], &username[colon + 1..]))
}

/// More than the 24 and 128 bits of randomness that RFC 8445 §5.3 asks for: a
/// relay finds the leg of a connection by its fragment.
fn credentials(entropy: &mut Entropy) -> IceCredentials {
    IceCredentials { ufrag: entropy.hex::<8>(), pwd: entropy.hex::<16>() }
}
