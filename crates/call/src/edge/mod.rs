//! Requests for accounts whose home is another region: sent there over mutual
//! TLS, and what comes back sent to the client it is for. The edge is a
//! transaction-stateful proxy (RFC 3261 §16); beyond the transaction it keeps
//! nothing, and nothing of it is logged.

mod through;
mod token;

use landline_region::RegionCode;
use landline_sip::{
    ClientKey, Destination, FailureCause, Flow, HeaderName, Headers, Host, Method, Request,
    Response, ServerKey, StatusCode, Transport,
};
use rustc_hash::FxHashMap;

use crate::context::{ClientUse, Context, ServerUse};
use crate::core::Core;
use crate::crossing;
use crate::directory::AccountEntry;
use crate::io::{Log, Output};
use crate::registrar::{FLOW_TIMER, OUTBOUND};
use crate::tenancy::EdgePolicy;
use crate::timers::Timer;
use token::{FlowToken, Signer};
pub(crate) use token::{hex, unhex};

/// Names a request on its way through us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ForwardKey(u64);

pub(crate) struct Edge {
    signer: Signer,
    forwards: FxHashMap<ForwardKey, Forward>,
    last: u64,
}

struct Forward {
    server: ServerKey,
    client: ClientKey,
    /// As it is sent on; for the next proxy when one does not answer.
    request: Request,
    others: Vec<Destination>,
    home: Option<(landline_region::AccountSid, RegionCode)>,
    /// Of a registration: what the client is told of its way through us.
    told: Option<Told>,
    /// It goes to a client, over the flow of a token.
    is_to_client: bool,
    is_cancelled: bool,
    has_provisional: bool,
}

/// What an edge adds to the 200 that a registration gets through it.
#[derive(Default)]
struct Told {
    /// By which the client's requests are to come here again (RFC 3608 §6.3).
    service_route: Option<String>,
    /// Its connection ends here, so it is here that it is kept open.
    is_connection: bool,
}

impl Edge {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { signer: Signer::new(key), forwards: FxHashMap::default(), last: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.forwards.len()
    }
}

impl Core {
    /// A client's request for an account that is at home elsewhere.
    pub(crate) fn send_home(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        request: Request,
        account: &AccountEntry,
    ) {
        match account.edge_policy {
            _ if flow.peer.is_some() => self.refuse_peer(key, flow, &request, "not homed here"),
            EdgePolicy::Forward => self.forward_home(key, flow, request, account),
            EdgePolicy::Redirect => {
                self.cx.counters.redirected += 1;
                let region = self.cx.directory.regions.get(&account.home_region);
                let contact = region.and_then(|it| it.public_uri.clone());
                let Some(contact) = contact else {
                    return self.cx.reply(key, &request, StatusCode::TEMPORARILY_UNAVAILABLE);
                };
                let mut response = self.cx.response(&request, StatusCode::MOVED_TEMPORARILY);
                response.headers.push(HeaderName::Contact, format!("<{contact}>"));
                self.cx.respond(key, response);
            }
            EdgePolicy::Refuse => {
                self.cx.counters.edge_refused += 1;
                self.cx.reply(key, &request, StatusCode::FORBIDDEN);
            }
        }
    }

    pub(crate) fn refuse_peer(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        request: &Request,
        problem: &'static str,
    ) {
        self.cx.counters.peer_violations += 1;
        let peer = flow.peer.as_deref().unwrap_or_default().to_owned();
        self.cx.log(Log::PeerRefused { peer, problem });
        self.cx.reply(key, request, StatusCode::FORBIDDEN);
    }

    fn forward_home(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        mut request: Request,
        account: &AccountEntry,
    ) {
        let home = account.home_region;
        if let Err(status) = self.hop(&mut request) {
            return self.cx.reply(key, &request, status);
        }
        let mut destinations = self.cx.home_destinations(home);
        let Some(inter_region) = self.cx.config.inter_region.clone() else {
            return self.cx.reply(key, &request, StatusCode::SERVICE_UNAVAILABLE);
        };
        if destinations.is_empty() {
            self.cx.log(Log::HomeUnreachable { account: account.sid, home });
            return self.cx.reply(key, &request, StatusCode::SERVICE_UNAVAILABLE);
        }
        // What only a region may say is not for a client to say through us.
        request.headers.remove_all(&crate::between::join_header());
        let user = self.edge.signer.write(&FlowToken { flow: flow.clone(), home });
        let (host, port) = inter_region;
        let inner = format!("<sip:{user}@{}:{port};transport=tls;lr", bracketed(&host));
        match request.method {
            Method::Register => {
                request.headers.insert_before(HeaderName::Path, inner + ";ob>");
            }
            Method::Invite | Method::Subscribe => {
                let outer = self.cx.outer_route(flow, &user);
                request.headers.insert_before(HeaderName::RecordRoute, outer);
                request.headers.insert_before(HeaderName::RecordRoute, inner + ">");
            }
            _ => {}
        }
        let told = (request.method == Method::Register).then(|| self.cx.told(flow));
        let first = destinations.remove(0);
        let home = Some((account.sid, home));
        if let Some(forward) = self.forward(key, request, first, destinations, home) {
            forward.told = told;
        }
    }

    /// One hop less, and no loop (RFC 3261 §16.3).
    pub(crate) fn hop(&mut self, request: &mut Request) -> Result<(), StatusCode> {
        self.fewer_hops(request)?;
        if self.cx.has_been_here(request) {
            self.cx.counters.loops += 1;
            return Err(StatusCode::LOOP_DETECTED);
        }
        Ok(())
    }

    /// One hop less. Between user agents this alone ends a call that is sent in
    /// a circle: each makes new Vias.
    pub(crate) fn fewer_hops(&mut self, request: &mut Request) -> Result<(), StatusCode> {
        let hops = request.max_forwards().map_err(|_| StatusCode::BAD_REQUEST)?.unwrap_or(70);
        if hops == 0 {
            self.cx.counters.hops_exhausted += 1;
            return Err(StatusCode::TOO_MANY_HOPS);
        }
        request.headers.set(HeaderName::MaxForwards, (hops - 1).to_string());
        Ok(())
    }

    /// Sends a request on and waits for what comes back.
    fn forward(
        &mut self,
        server: ServerKey,
        mut request: Request,
        destination: Destination,
        others: Vec<Destination>,
        home: Option<(landline_region::AccountSid, RegionCode)>,
    ) -> Option<&mut Forward> {
        if !crossing::has_declared_body(Some(&request.method), &request.headers, &request.body) {
            self.unreadable(server, &request);
            return None;
        }
        self.cx.counters.headers_withheld += crossing::withhold(&mut request.headers);
        if self.edge.forwards.len() >= self.cx.config.limits.forwards {
            self.cx.counters.forwards_over_limit += 1;
            self.cx.reply(server, &request, StatusCode::SERVICE_UNAVAILABLE);
            return None;
        }
        self.edge.last += 1;
        let key = ForwardKey(self.edge.last);
        let is_to_client = matches!(destination, Destination::Flow(_));
        self.cx.counters.forwarded += 1;
        let client = self.cx.send(ClientUse::Forward(key), request.clone(), destination);
        if request.method == Method::Invite {
            self.cx.servers.insert(server, ServerUse::Forward(key));
            let at = self.cx.now.instant + TIMER_C;
            self.cx.timers.set(at, Timer::Forward(key));
        }
        let forward = Forward {
            server,
            client,
            request,
            others,
            home,
            told: None,
            is_to_client,
            is_cancelled: false,
            has_provisional: false,
        };
        Some(self.edge.forwards.entry(key).insert_entry(forward).into_mut())
    }

    pub(crate) fn forward_response(&mut self, key: ForwardKey, mut response: Response) {
        let Some(forward) = self.edge.forwards.get_mut(&key) else { return };
        if response.status == StatusCode::TRYING {
            return;
        }
        let server = forward.server;
        let told = forward.told.take_if(|_| response.status.is_success());
        let vias: Vec<_> = forward.request.headers.all(&HeaderName::Via).cloned().collect();
        if response.status.is_provisional() {
            forward.has_provisional = true;
        } else {
            self.cx.counters.forwards_answered += 1;
            self.drop_forward(key);
        }
        // Back the way that the request came, whatever became of its Vias on the
        // way (RFC 3261 §8.2.6.2).
        response.headers.remove_all(&HeaderName::Via);
        for via in vias.into_iter().rev() {
            response.headers.push_front(HeaderName::Via, via);
        }
        self.cx.counters.headers_withheld += crossing::withhold(&mut response.headers);
        if let Some(told) = told {
            told.tell(&mut response.headers);
        }
        if !crossing::has_declared_body(None, &response.headers, &response.body) {
            response.headers.remove_all(&HeaderName::ContentType);
            response.headers.set(HeaderName::ContentLength, "0");
            response.body = bytes::Bytes::new();
        }
        self.cx.out.push_back(Output::Sip(landline_sip::Input::Respond { key: server, response }));
    }

    /// The next of the home region's proxies, or an answer of our own.
    pub(crate) fn forward_failed(&mut self, key: ForwardKey, cause: FailureCause) {
        let Some(forward) = self.edge.forwards.get_mut(&key) else { return };
        let retriable = cause != FailureCause::Cancelled
            && !forward.is_cancelled
            && !forward.has_provisional
            && !forward.others.is_empty();
        if retriable {
            let next = forward.others.remove(0);
            let request = forward.request.clone();
            forward.client = self.cx.send(ClientUse::Forward(key), request, next);
            return;
        }
        let Some(forward) = self.drop_forward(key) else { return };
        self.cx.counters.forwards_failed += 1;
        // RFC 4320 §4.2: by then nobody waits for it.
        if cause == FailureCause::Timeout && forward.request.method != Method::Invite {
            return;
        }
        let status = match (cause, forward.home) {
            _ if forward.is_cancelled => StatusCode::REQUEST_TERMINATED,
            (FailureCause::Timeout, _) => StatusCode::REQUEST_TIMEOUT,
            (_, Some((account, home))) => {
                self.cx.log(Log::HomeUnreachable { account, home });
                StatusCode::SERVICE_UNAVAILABLE
            }
            // The client's connection is gone (RFC 5626 §5.3.1).
            (_, None) if forward.is_to_client => {
                self.cx.counters.flows_failed += 1;
                StatusCode::FLOW_FAILED
            }
            (_, None) => StatusCode::SERVICE_UNAVAILABLE,
        };
        self.cx.reply(forward.server, &forward.request, status);
    }

    pub(crate) fn forward_cancelled(&mut self, key: ForwardKey) {
        if let Some(forward) = self.edge.forwards.get_mut(&key) {
            forward.is_cancelled = true;
            self.cx.cancel(forward.client, None);
        }
    }

    /// Nobody answers finally and nobody cancels (RFC 3261 §16.8).
    pub(crate) fn forward_expired(&mut self, key: ForwardKey) {
        self.forward_cancelled(key);
    }

    fn drop_forward(&mut self, key: ForwardKey) -> Option<Forward> {
        let forward = self.edge.forwards.remove(&key)?;
        self.cx.servers.remove(&forward.server);
        Some(forward)
    }
}

impl Told {
    fn tell(self, headers: &mut Headers) {
        if let Some(route) = self.service_route {
            headers.remove_all(&HeaderName::ServiceRoute);
            headers.push(HeaderName::ServiceRoute, route);
        }
        let required = headers.tokens(&HeaderName::Require);
        if self.is_connection && required.iter().any(|it| it.eq_ignore_ascii_case(OUTBOUND)) {
            headers.set(HeaderName::FlowTimer, FLOW_TIMER);
        }
    }
}

/// RFC 3261 §16.6 step 11: more than three minutes.
const TIMER_C: std::time::Duration = std::time::Duration::from_secs(185);

fn bracketed(host: &str) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

impl Context {
    /// The proxies of a region, in the directory's order.
    pub(crate) fn home_destinations(&self, region: RegionCode) -> Vec<Destination> {
        let proxies = self.directory.regions.get(&region).map_or(&[][..], |it| &it.proxies);
        let destination = |proxy: &crate::directory::InterRegionAddress| Destination::Region {
            region: region.as_str().into(),
            host: proxy.host.clone(),
            port: proxy.port,
        };
        proxies.iter().take(4).map(destination).collect()
    }

    /// Our Record-Route URI towards the client (RFC 5658 §3: one for each side
    /// we route between).
    fn outer_route(&self, flow: &Flow, user: &str) -> String {
        let (host, port) = self.address_for(flow);
        let transport = flow.transport.uri_param();
        format!("<sip:{user}@{}:{port};transport={transport};lr>", bracketed(&host))
    }

    /// Whoever came by this flow is to come by it again, since an account's
    /// clients may be let in by one region's proxy and not by another's. To a
    /// name alone where a certificate is checked, and not to browsers, which
    /// have their one connection.
    fn told(&self, flow: &Flow) -> Told {
        let (name, port) = self.address_for(flow);
        let is_name = matches!(crate::context::host(&name), Host::Name(_));
        let is_reached = match flow.transport {
            Transport::Udp | Transport::Tcp => true,
            Transport::Tls => is_name,
            Transport::Ws | Transport::Wss => false,
        };
        let transport = flow.transport.uri_param();
        let route = || format!("<sip:{}:{port};transport={transport};lr>", bracketed(&name));
        Told {
            service_route: is_reached.then(route),
            is_connection: matches!(flow.transport, Transport::Tcp | Transport::Tls),
        }
    }

    /// One of the Vias below the top one is ours.
    fn has_been_here(&self, request: &Request) -> bool {
        request.headers.values(&HeaderName::Via).take(70).any(|via| {
            let via = landline_sip::Via::parse(&via.to_str_lossy());
            via.is_ok_and(|via| via.port.is_some() && self.is_ours(&via.host, via.port))
        })
    }
}
