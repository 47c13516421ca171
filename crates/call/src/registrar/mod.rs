//! Who can be reached where: the contacts of the region's users (RFC 3261 §10).

mod register;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use landline_region::{RegionCode, UnixMillis, UserSid};
use landline_sip::{
    Destination, Flow, FlowId, Host, NameAddr, Response, ServerKey, Transport, Uri,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::binding::{Binding, BindingChange, FlowTransport};
use crate::context::Context;
use crate::io::{BindingsToken, Log, Output};
use crate::tenancy::MediaPolicy;
use crate::timers::Timer;

pub(crate) use register::{FLOW_TIMER, OUTBOUND, register};

#[derive(Default)]
pub(crate) struct Registrar {
    users: FxHashMap<UserSid, Contacts>,
    count: usize,
    /// Whose contacts lose their flow when a connection ends.
    flows: FxHashMap<FlowId, SmallVec<[UserSid; 1]>>,
    /// Who registered by which connection before we were started.
    former: FxHashMap<u64, SmallVec<[UserSid; 1]>>,
    /// Answers that wait until the store has the change.
    pending: FxHashMap<BindingsToken, Option<Box<(ServerKey, Response)>>>,
}

/// The contacts of one user, in the order they were first registered.
#[derive(Default)]
struct Contacts {
    list: Vec<Contact>,
    /// When the sweep of this user's contacts is due.
    sweep: Option<Instant>,
}

impl Contacts {
    /// Nearly everyone has one contact, and a vector that grows by itself takes
    /// room for four.
    fn add(&mut self, contact: Contact) {
        self.list.reserve_exact(1);
        self.list.push(contact);
    }
}

/// There are hundreds of thousands of them, and most are not called for hours:
/// their URI is parsed when it is needed.
pub(crate) struct Contact {
    pub binding: Binding,
    /// While the connection it registered by lives.
    pub flow: Option<Flow>,
    /// An edge said that its flow there is gone (RFC 5626 §5.3.1); until it
    /// registers again.
    pub failed: bool,
}

/// Of one device.
pub(crate) type Flows<'a> = SmallVec<[&'a Contact; 2]>;

impl Contact {
    /// Checked when it was registered or restored.
    pub(crate) fn uri(&self) -> Option<Uri> {
        Uri::parse(self.binding.contact_uri.expose()).ok()
    }

    /// Whether its URI is `text`, which is `uri` as it was written (RFC 3261
    /// §10.3 step 7).
    fn is_at(&self, text: &str, uri: &Uri) -> bool {
        self.binding.contact_uri.expose() == text
            || self.uri().is_some_and(|known| known.matches(uri))
    }

    /// Its URI, where that names the same user at the same host as `target`.
    fn uri_towards(&self, target: &Uri) -> Option<Uri> {
        self.uri().filter(|uri| uri.user == target.user && uri.host == target.host)
    }

    pub(crate) fn is_instance(&self, instance: &str) -> bool {
        let own = self.binding.instance.as_ref();
        own.is_some_and(|own| own.expose().eq_ignore_ascii_case(instance))
    }

    fn is_of_device_of(&self, other: &Self) -> bool {
        self.binding.instance.is_some() && self.binding.instance == other.binding.instance
    }

    /// Nothing is known that would keep a request from it.
    fn is_up(&self) -> bool {
        match self.binding.edge_region {
            Some(_) => !self.failed,
            None => self.flow.is_some(),
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        match self.binding.received.transport {
            FlowTransport::Udp => Transport::Udp,
            FlowTransport::Tcp => Transport::Tcp,
            FlowTransport::Tls => Transport::Tls,
            FlowTransport::Ws => Transport::Ws,
            FlowTransport::Wss => Transport::Wss,
        }
    }

    pub(crate) fn remote_ip(&self) -> IpAddr {
        self.binding.received.remote.expose().ip()
    }

    pub(crate) fn path(&self) -> Vec<NameAddr> {
        let values = self.binding.path.iter();
        values.filter_map(|value| NameAddr::parse(value.expose()).ok()).collect()
    }

    /// How the contact is reached: through the region it registered at, over
    /// the flow it registered by, or, that being gone, where it came from.
    pub(crate) fn destination(&self) -> Option<Destination> {
        if self.failed {
            return None;
        }
        if let Some(region) = self.binding.edge_region {
            return region_destination(region, self.path().first()?);
        }
        let uri = self.uri()?;
        let remote = self.address(&uri);
        if let Some(flow) = &self.flow {
            return Some(Destination::Flow(Flow { remote, ..flow.clone() }));
        }
        match self.transport() {
            Transport::Udp => Some(Destination::Address {
                transport: Transport::Udp,
                addr: remote,
                server_name: None,
            }),
            // A client that keeps flows is reached by them alone (RFC 5626 §6).
            _ if self.binding.reg_id.is_some() => None,
            // Only to the machine that registered: a contact is no way to make
            // us connect to whatever it names.
            Transport::Tcp | Transport::Tls if uri.host == Host::from(remote.ip()) => {
                Some(Destination::Uri(uri))
            }
            _ => None,
        }
    }

    /// Where datagrams reach the client: behind a NAT where its registration
    /// came from; else, and that shows in a Contact with the same address, the
    /// port it names there, which need not be the one it sends from.
    fn address(&self, uri: &Uri) -> SocketAddr {
        let remote = *self.binding.received.remote.expose();
        let port = uri.port_or_default();
        match self.transport() {
            Transport::Udp if uri.host == Host::from(remote.ip()) && port != 0 => {
                SocketAddr::new(remote.ip(), port)
            }
            _ => remote,
        }
    }
}

/// The proxy of another region that a Path or route names.
pub(crate) fn region_destination(region: RegionCode, route: &NameAddr) -> Option<Destination> {
    let host = match route.uri.host.ip() {
        Some(ip) => ip.to_string(),
        None => route.uri.host.name()?.to_owned(),
    };
    let port = route.uri.port.unwrap_or(5061);
    Some(Destination::Region { region: region.as_str().into(), host, port })
}

impl Registrar {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The user's live contacts.
    pub(crate) fn contacts(
        &self,
        user: UserSid,
        now: UnixMillis,
    ) -> impl Iterator<Item = &Contact> {
        let contacts = self.users.get(&user).map_or(&[][..], |it| it.list.as_slice());
        contacts.iter().filter(move |contact| contact.binding.expires_at > now)
    }

    /// The user's devices with the flows of each, the best one first: a device
    /// is rung by one of them alone (RFC 5626 §6). What says nothing of its
    /// device is one for itself.
    pub(crate) fn devices(&self, user: UserSid, now: UnixMillis) -> Vec<Flows<'_>> {
        let mut devices: Vec<Flows<'_>> = Vec::new();
        for contact in self.contacts(user, now) {
            let is_same = |flows: &&mut Flows<'_>| {
                flows.first().is_some_and(|it| it.is_of_device_of(contact))
            };
            match devices.iter_mut().find(is_same) {
                Some(flows) => flows.push(contact),
                None => devices.push(SmallVec::from_slice(&[contact])),
            }
        }
        for flows in &mut devices {
            flows.sort_by_key(|it| std::cmp::Reverse((it.is_up(), it.binding.updated_at)));
        }
        devices
    }

    /// Remembers how a contact of the user speaks its media.
    pub(crate) fn learn(
        &mut self,
        user: UserSid,
        target: &Uri,
        instance: Option<&str>,
        media: MediaPolicy,
    ) {
        let Some(contacts) = self.users.get_mut(&user) else { return };
        for contact in &mut contacts.list {
            if contact.uri_towards(target).is_some_and(|uri| uri.port == target.port)
                || instance.is_some_and(|it| contact.is_instance(it))
            {
                contact.binding.media = media;
            }
        }
    }

    /// A flow that reaches the user's device at this target, other than `but`.
    /// `instance` is the device that the target itself names.
    pub(crate) fn other_flow(
        &self,
        user: UserSid,
        target: &Uri,
        instance: Option<&str>,
        but: &Flow,
    ) -> Option<Flow> {
        let contacts = &self.users.get(&user)?.list;
        let at_target = |contact: &&Contact| contact.uri_towards(target).is_some();
        let known = contacts.iter().find(at_target).and_then(|it| it.binding.instance.as_ref());
        let instance = instance.or(known.map(|it| it.expose().as_str()));
        let of_device = |contact: &&Contact| instance.is_some_and(|it| contact.is_instance(it));
        let flows = contacts.iter().filter(|it| at_target(it) || of_device(it));
        flows.filter_map(|contact| contact.flow.clone()).find(|flow| flow != but)
    }

    /// The edge on this path has no flow to the client any more.
    pub(crate) fn flow_failed(&mut self, user: UserSid, path: &[NameAddr]) {
        let Some(contacts) = self.users.get_mut(&user) else { return };
        for contact in &mut contacts.list {
            contact.failed |= !path.is_empty() && contact.path() == path;
        }
    }

    pub(crate) fn flow_kept(&mut self, flow: &Flow) {
        for user in self.former.remove(&flow.id.0).unwrap_or_default() {
            let Some(contacts) = self.users.get_mut(&user) else { continue };
            for contact in &mut contacts.list {
                let received = &contact.binding.received;
                if received.flow == flow.id.0 && *received.remote.expose() == flow.remote {
                    contact.flow = Some(flow.clone());
                }
            }
            self.watch(user, flow);
        }
    }

    pub(crate) fn flow_closed(&mut self, id: FlowId) {
        for user in self.flows.remove(&id).unwrap_or_default() {
            let Some(contacts) = self.users.get_mut(&user) else { continue };
            for contact in &mut contacts.list {
                if contact.flow.as_ref().is_some_and(|flow| flow.id == id) {
                    contact.flow = None;
                }
            }
        }
    }

    /// A connection's end has to be noticed; a UDP listener has none.
    fn watch(&mut self, user: UserSid, flow: &Flow) {
        if flow.transport.is_reliable() && flow.peer.is_none() {
            let users = self.flows.entry(flow.id).or_default();
            if !users.contains(&user) {
                users.push(user);
            }
        }
    }
}

impl Context {
    /// Takes over what the store kept.
    pub(crate) fn restore_bindings(&mut self, bindings: Vec<Binding>) {
        let mut expired = Vec::new();
        for binding in bindings {
            let user = binding.user;
            if Uri::parse(binding.contact_uri.expose()).is_err() {
                self.counters.bindings_unreadable += 1;
                continue;
            }
            if binding.expires_at <= self.now.unix {
                expired.push(BindingChange::Remove { user, contact: binding.key() });
                continue;
            }
            let contacts = self.registrar.users.entry(user).or_default();
            if contacts.list.iter().any(|it| it.binding.key() == binding.key()) {
                continue;
            }
            if binding.received.transport != FlowTransport::Udp && binding.edge_region.is_none() {
                self.registrar.former.entry(binding.received.flow).or_default().push(user);
            }
            contacts.add(Contact { binding, flow: None, failed: false });
            self.registrar.count += 1;
            self.plan_sweep(user);
        }
        self.counters.bindings_expired += expired.len() as u64;
        self.store(expired, None);
    }

    /// Has the store keep changes; the answer is sent once it has.
    fn store(&mut self, changes: Vec<BindingChange>, answer: Option<Box<(ServerKey, Response)>>) {
        if changes.is_empty() {
            if let Some(answer) = answer {
                self.respond(answer.0, answer.1);
            }
            return;
        }
        let token = BindingsToken(self.next_token());
        self.registrar.pending.insert(token, answer);
        self.timers
            .set(self.now.instant + self.config.timers.bindings, Timer::BindingsStored(token));
        self.out.push_back(Output::StoreBindings { token, changes });
    }

    /// The contact is registered here and now even if the store failed: calls
    /// reach it, and only a restart would forget it before its next refresh.
    pub(crate) fn bindings_stored(&mut self, token: BindingsToken, ok: bool) {
        let Some(answer) = self.registrar.pending.remove(&token) else { return };
        if !ok {
            self.counters.bindings_store_failed += 1;
            self.log(Log::BindingsNotStored { changes: 1 });
        }
        if let Some(answer) = answer {
            self.respond(answer.0, answer.1);
        }
    }

    /// One timer a user: it is set again when it fires, not at each refresh.
    fn plan_sweep(&mut self, user: UserSid) {
        let now = self.now;
        let Some(contacts) = self.registrar.users.get_mut(&user) else { return };
        let Some(first) = contacts.list.iter().map(|it| it.binding.expires_at).min() else {
            return;
        };
        let left = u64::try_from(first.0.saturating_sub(now.unix.0)).unwrap_or(0);
        let at = now.instant + Duration::from_millis(left);
        if contacts.sweep.is_none_or(|planned| at < planned) {
            contacts.sweep = Some(at);
            self.timers.set(at, Timer::Bindings(user));
        }
    }

    pub(crate) fn sweep_bindings(&mut self, user: UserSid) {
        let now = self.now;
        let Some(contacts) = self.registrar.users.get_mut(&user) else { return };
        if contacts.sweep.is_some_and(|planned| planned > now.instant) {
            return;
        }
        contacts.sweep = None;
        let mut removed = Vec::new();
        contacts.list.retain(|contact| {
            let live = contact.binding.expires_at > now.unix;
            if !live {
                removed.push(BindingChange::Remove { user, contact: contact.binding.key() });
            }
            live
        });
        self.registrar.count -= removed.len();
        self.counters.bindings_expired += removed.len() as u64;
        self.subscriptions.touch(user);
        self.drop_empty(user);
        self.plan_sweep(user);
        self.store(removed, None);
    }

    fn drop_empty(&mut self, user: UserSid) {
        if self.registrar.users.get(&user).is_some_and(|it| it.list.is_empty()) {
            self.registrar.users.remove(&user);
            self.log(Log::Unregistered { user });
        }
    }
}

#[cfg(test)]
mod tests {
    use landline_region::{AccountSid, Personal};

    use super::*;
    use crate::binding::Received;

    /// Where the INVITE goes for a contact that came from 192.0.2.1:6060.
    fn reached(uri: &str, transport: FlowTransport) -> SocketAddr {
        let contact = Contact {
            flow: None,
            failed: false,
            binding: Binding {
                user: UserSid::from_u128(1),
                account: AccountSid::from_u128(1),
                contact_uri: Personal::new(uri.to_owned()),
                call_id: Personal::new("call".to_owned()),
                cseq: 1,
                expires_at: UnixMillis(0),
                q_x1000: 1000,
                path: Vec::new(),
                instance: None,
                reg_id: None,
                user_agent: None,
                received: Received {
                    transport,
                    flow: 1,
                    local: "192.0.2.9:5060".parse().unwrap(),
                    remote: Personal::new("192.0.2.1:6060".parse().unwrap()),
                },
                edge_region: None,
                media: MediaPolicy::Auto,
                updated_at: UnixMillis(0),
            },
        };
        contact.address(&contact.uri().unwrap())
    }

    #[test]
    fn a_contact_is_rung_at_the_port_it_names_unless_a_nat_stands_before_it() {
        let udp = |uri| reached(uri, FlowTransport::Udp).to_string();
        assert_eq!(udp("sip:bob@192.0.2.1:6070"), "192.0.2.1:6070");
        assert_eq!(udp("sip:bob@192.0.2.1"), "192.0.2.1:5060");
        assert_eq!(udp("sip:bob@10.0.0.7:5060"), "192.0.2.1:6060");
        assert_eq!(udp("sip:bob@192.0.2.1:0"), "192.0.2.1:6060");
        // A connection has one other end.
        let tcp = reached("sip:bob@192.0.2.1:6070", FlowTransport::Tcp);
        assert_eq!(tcp.to_string(), "192.0.2.1:6060");
    }
}
