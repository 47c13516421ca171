//! What every part of the core works with: time, randomness, the tables that
//! lead from a message to whom it concerns, and the queue of outputs.

use std::collections::VecDeque;
use std::sync::Arc;

use landline_region::{AccountSid, DataClass, Entropy, Now, Token, UserSid};
use landline_sip::{
    ByteStr, ClientKey, Destination, Flow, FlowId, HeaderName, Host, Request, Response, ServerKey,
    StatusCode, Transport,
};
use rustc_hash::FxHashMap;

use crate::call::Letter;
use crate::calls::CallKey;
use crate::config::CoreConfig;
use crate::counters::Counters;
use crate::directory::Directory;
use crate::edge::ForwardKey;
use crate::gruu::Gruus;
use crate::io::{JournalToken, Log, Output};
use crate::pager::PageKey;
use crate::registrar::Registrar;
use crate::relays::Relays;
use crate::subscriptions::{SubscriptionKey, Subscriptions};
use crate::tenants::Tenants;
use crate::timers::Timers;

pub(crate) struct Context {
    pub config: CoreConfig,
    /// Of the input that is being handled.
    pub now: Now,
    pub entropy: Entropy,
    pub out: VecDeque<Output>,
    pub counters: Counters,
    pub tenants: Arc<Tenants>,
    pub directory: Arc<Directory>,
    pub relays: Relays,
    pub registrar: Registrar,
    pub gruus: Gruus,
    /// Calls that wait for a device of these users to wake up.
    pub sleepers: FxHashMap<UserSid, Vec<CallKey>>,
    /// Of these, who has registered since.
    pub woken: Vec<UserSid>,
    pub subscriptions: Subscriptions,
    pub timers: Timers,
    /// What clients have proven to speak for, while their connections last.
    pub proven: FxHashMap<FlowId, Vec<String>>,
    pub clients: FxHashMap<ClientKey, ClientUse>,
    pub servers: FxHashMap<ServerKey, ServerUse>,
    /// By our own tag, which is random and so names the leg alone.
    pub dialogs: FxHashMap<u64, (CallKey, usize)>,
    pub journal: FxHashMap<JournalToken, CallKey>,
    /// Restored calls whose callers may not have got the 200, by the Call-ID of
    /// the INVITE.
    pub unheard: FxHashMap<ByteStr, CallKey>,
    /// What calls have to say to each other.
    pub letters: VecDeque<Letter>,
    pub usage: Usage,
    pub closing: bool,
    /// Every host and port by which a URI can mean us.
    own: Vec<(Host, u16)>,
    last_client: u64,
    last_token: u64,
}

/// What a client transaction of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientUse {
    /// The INVITE of a branch.
    Branch {
        call: CallKey,
        leg: usize,
    },
    Bye {
        call: CallKey,
        leg: usize,
    },
    /// A re-INVITE or UPDATE towards this leg.
    Modify {
        call: CallKey,
        leg: usize,
    },
    /// A re-INVITE of ours towards this leg, to another relay.
    Move {
        call: CallKey,
        leg: usize,
    },
    /// A re-INVITE of ours towards this leg, which came from another call.
    Guest {
        call: CallKey,
        leg: usize,
    },
    /// An INFO or the like passed on to this leg.
    Pass {
        call: CallKey,
        leg: usize,
    },
    /// An acknowledgement of a provisional response: nothing follows from it.
    Prack,
    /// An UPDATE of ours without an offer towards this leg.
    Refresh {
        call: CallKey,
        leg: usize,
    },
    Forward(ForwardKey),
    /// A message to one place.
    Page(PageKey),
    /// What a watcher is told.
    Notify(SubscriptionKey),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerUse {
    /// The caller's INVITE.
    Invite(CallKey),
    /// A re-INVITE that came from this leg.
    Modify {
        call: CallKey,
        leg: usize,
    },
    /// The INVITE of who takes a call that rings elsewhere.
    PickUp {
        call: CallKey,
        leg: usize,
    },
    Forward(ForwardKey),
}

/// How many calls are open, and whose.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pub total: usize,
    pub accounts: FxHashMap<AccountSid, usize>,
    /// By the sid of the calling user or trunk.
    pub callers: FxHashMap<u128, usize>,
}

impl Usage {
    pub(crate) fn add(&mut self, account: AccountSid, caller: u128) {
        self.total += 1;
        *self.accounts.entry(account).or_default() += 1;
        *self.callers.entry(caller).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, account: AccountSid, caller: u128) {
        self.total = self.total.saturating_sub(1);
        release(&mut self.accounts, account);
        release(&mut self.callers, caller);
    }
}

fn release<K: std::hash::Hash + Eq>(table: &mut FxHashMap<K, usize>, key: K) {
    if let Some(count) = table.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            table.remove(&key);
        }
    }
}

impl Context {
    pub(crate) fn new(config: CoreConfig, mut entropy: Entropy, now: Now) -> Self {
        let gruus = Gruus::new(&config.signing_key);
        Self {
            own: own_addresses(&config),
            config,
            now,
            relays: Relays::new(entropy.u64()),
            entropy,
            out: VecDeque::new(),
            letters: VecDeque::new(),
            counters: Counters::default(),
            tenants: Arc::default(),
            directory: Arc::default(),
            registrar: Registrar::default(),
            gruus,
            sleepers: FxHashMap::default(),
            woken: Vec::new(),
            subscriptions: Subscriptions::default(),
            timers: Timers::default(),
            proven: FxHashMap::default(),
            clients: FxHashMap::default(),
            servers: FxHashMap::default(),
            dialogs: FxHashMap::default(),
            journal: FxHashMap::default(),
            unheard: FxHashMap::default(),
            usage: Usage::default(),
            closing: false,
            last_client: 0,
            last_token: 0,
        }
    }

    pub(crate) fn log(&mut self, log: Log) {
        self.out.push_back(Output::Log(log));
    }

    pub(crate) fn pseudonym(&self, class: DataClass, value: &str) -> Token {
        self.config.pseudonyms.token(class, value)
    }

    pub(crate) fn next_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    pub(crate) fn respond(&mut self, key: ServerKey, mut response: Response) {
        if let Some(product) = &self.config.product {
            response.headers.set(HeaderName::Server, product.as_str());
        }
        self.out.push_back(Output::Sip(landline_sip::Input::Respond { key, response }));
    }

    /// A final response of our own to a request outside any dialog of ours.
    pub(crate) fn response(&mut self, request: &Request, status: StatusCode) -> Response {
        let response = Response::for_request(request, status);
        match request.to().is_ok_and(|to| to.tag().is_none()) {
            true => response.with_to_tag(&self.entropy.hex::<8>()),
            false => response,
        }
    }

    pub(crate) fn reply(&mut self, key: ServerKey, request: &Request, status: StatusCode) {
        let response = self.response(request, status);
        self.respond(key, response);
    }

    pub(crate) fn send(
        &mut self,
        purpose: ClientUse,
        request: Request,
        destination: Destination,
    ) -> ClientKey {
        self.last_client += 1;
        let key = ClientKey(self.last_client);
        self.clients.insert(key, purpose);
        let input = landline_sip::Input::Request { key, request, destination };
        self.out.push_back(Output::Sip(input));
        key
    }

    /// The ACK to a 2xx, or one that passes through.
    pub(crate) fn send_ack(&mut self, request: Request, destination: Destination) {
        self.out.push_back(Output::Sip(landline_sip::Input::Forward { request, destination }));
    }

    pub(crate) fn cancel(&mut self, key: ClientKey, reason: Option<String>) {
        self.out.push_back(Output::Sip(landline_sip::Input::Cancel { key, reason }));
    }

    /// Host and port that the peer at the other end of this flow reaches us by.
    pub(crate) fn address_for(&self, flow: &Flow) -> (String, u16) {
        if flow.peer.is_some()
            && let Some(address) = &self.config.inter_region
        {
            return address.clone();
        }
        let same = self.config.addresses.iter().filter(|it| it.transport == flow.transport);
        let best = same.max_by_key(|it| {
            let port = it.local.port() == flow.local.port();
            let family = it.local.is_ipv4() == flow.local.is_ipv4();
            (family, port, it.local.ip() == flow.local.ip())
        });
        match best {
            Some(address) => (address.host.clone(), address.port),
            None => (flow.local.ip().to_string(), flow.local.port()),
        }
    }

    /// Host and port of ours towards a peer not yet heard from.
    pub(crate) fn address_by(&self, transport: Transport, v6: bool) -> (String, u16) {
        let same = self.config.addresses.iter().filter(|it| it.transport == transport);
        match same.max_by_key(|it| it.local.is_ipv6() == v6) {
            Some(address) => (address.host.clone(), address.port),
            None => match self.config.addresses.first() {
                Some(address) => (address.host.clone(), address.port),
                None => ("invalid".to_owned(), 0),
            },
        }
    }

    /// Whether host and port are one of ours.
    pub(crate) fn is_ours(&self, host: &Host, port: Option<u16>) -> bool {
        self.own
            .iter()
            .any(|(known, known_port)| known == host && port.is_none_or(|port| port == *known_port))
    }
}

fn own_addresses(config: &CoreConfig) -> Vec<(Host, u16)> {
    let advertised = config.addresses.iter().map(|it| (host(&it.host), it.port));
    let bound = config.addresses.iter().map(|it| (Host::from(it.local.ip()), it.local.port()));
    let inter_region = config.inter_region.iter().map(|(name, port)| (host(name), *port));
    let mut own: Vec<_> = advertised.chain(bound).chain(inter_region).collect();
    own.sort_by_key(|(host, port)| (host.to_string(), *port));
    own.dedup();
    own
}

/// A configured host as a URI names it; IPv6 with or without brackets.
pub(crate) fn host(text: &str) -> Host {
    let bracketed = match text.contains(':') && !text.starts_with('[') {
        true => format!("[{text}]"),
        false => text.to_owned(),
    };
    Host::parse(&bracketed).unwrap_or_else(|| Host::Name(ByteStr::from_static("invalid")))
}
