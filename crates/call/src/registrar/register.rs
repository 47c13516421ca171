//! One REGISTER (RFC 3261 §10.3): checked whole, then carried out whole.

use std::sync::Arc;
use std::time::Duration;

use landline_region::Personal;
use landline_sip::{
    ContactValue, Contacts as ContactHeader, Flow, HeaderName, NameAddr, Request, Response,
    ServerKey, StatusCode, Transport,
};

use super::Contact;
use crate::binding::{Binding, BindingChange, FlowTransport, Received};
use crate::context::Context;
use crate::io::Log;
use crate::tenancy::{Account, MediaPolicy, User};

/// The option tag of RFC 5626.
pub(crate) const OUTBOUND: &str = "outbound";
/// The option tag of RFC 5627.
const GRUU: &str = "gruu";
/// Proxies between a client and us.
const MAX_PATH: usize = 4;
/// In seconds, between two keep-alives of a client on a connection
/// (RFC 5626 §4.4): more often than what lies between forgets it.
pub(crate) const FLOW_TIMER: &str = "120";

/// Why a REGISTER is refused.
struct Refused {
    status: StatusCode,
    min_expires: Option<u64>,
}

impl From<StatusCode> for Refused {
    fn from(status: StatusCode) -> Self {
        Self { status, min_expires: None }
    }
}

/// Carries out the REGISTER of an authenticated user.
pub(crate) fn register(
    cx: &mut Context,
    account: &Account,
    user: &Arc<User>,
    key: ServerKey,
    flow: &Flow,
    request: &Request,
) {
    match changes(cx, account, user, flow, request) {
        Ok(changes) => {
            cx.counters.registrations += 1;
            let response = accepted(cx, account, user, flow, request);
            if cx.sleepers.contains_key(&user.sid) && !cx.woken.contains(&user.sid) {
                cx.woken.push(user.sid);
            }
            if !changes.is_empty() {
                cx.drop_empty(user.sid);
                cx.plan_sweep(user.sid);
                cx.subscriptions.touch(user.sid);
            }
            cx.store(changes, Some(Box::new((key, response))));
        }
        Err(refused) => {
            cx.counters.registrations_refused += 1;
            let mut response = cx.response(request, refused.status);
            if let Some(seconds) = refused.min_expires {
                response.headers.push(HeaderName::MinExpires, seconds.to_string());
            }
            cx.respond(key, response);
        }
    }
}

fn changes(
    cx: &mut Context,
    account: &Account,
    user: &Arc<User>,
    flow: &Flow,
    request: &Request,
) -> Result<Vec<BindingChange>, Refused> {
    let header = |_| StatusCode::BAD_REQUEST;
    let call_id = request.call_id().map_err(header)?.to_str_lossy().into_owned();
    let cseq = request.cseq().map_err(header)?.number;
    match request.contacts().map_err(header)? {
        ContactHeader::Star => {
            if request.expires().map_err(header)? != Some(0) {
                return Err(StatusCode::BAD_REQUEST.into());
            }
            in_order(cx, user, &call_id, cseq, |_| true)?;
            Ok(remove(cx, user, |_| true))
        }
        ContactHeader::List(list) if list.is_empty() => Ok(Vec::new()),
        ContactHeader::List(list) => {
            let wishes = wishes(cx, flow, request, &list)?;
            in_order(cx, user, &call_id, cseq, |contact| {
                wishes.iter().any(|wish| wish.is_for(contact))
            })?;
            bounded(cx, user, &wishes)?;
            let ground = Ground { account, user, flow, request, call_id, cseq };
            Ok(wishes.into_iter().flat_map(|wish| carry_out(cx, &ground, wish)).collect())
        }
    }
}

/// A contact of the request and how long it wants to be kept.
struct Wish {
    contact: ContactValue,
    /// Its URI as it was written.
    uri: String,
    /// `None` to be removed.
    lifetime: Option<Duration>,
    instance: Option<String>,
    /// Never without an instance.
    reg_id: Option<u32>,
}

impl Wish {
    /// The same URI (§10.3 step 7), or the same flow of the same device: one
    /// that came back by another address is still one (RFC 5626 §6).
    fn is_for(&self, known: &Contact) -> bool {
        let instance = known.binding.instance.as_ref().map(Personal::expose);
        let same_flow = self.instance.is_some()
            && self.instance.as_ref() == instance
            && self.reg_id == known.binding.reg_id;
        // Two flows of a device may well have one URI.
        let are_flows = self.reg_id.is_some() && known.binding.reg_id.is_some();
        same_flow || !are_flows && known.is_at(&self.uri, &self.contact.uri)
    }
}

fn wishes(
    cx: &Context,
    flow: &Flow,
    request: &Request,
    list: &[ContactValue],
) -> Result<Vec<Wish>, Refused> {
    if list.len() > cx.config.limits.bindings_per_user.saturating_mul(2) {
        return Err(StatusCode::FORBIDDEN.into());
    }
    let timers = &cx.config.timers;
    let general = request.expires().ok().flatten();
    let mut wishes = Vec::with_capacity(list.len());
    for contact in list {
        let uri = contact.uri.to_string();
        if !contact.uri.is_sip() || uri.len() > cx.config.limits.contact_length {
            return Err(StatusCode::BAD_REQUEST.into());
        }
        let seconds = contact.expires().or(general).map(u64::from);
        let seconds = seconds.unwrap_or(timers.default_expiry.as_secs());
        if seconds > 0 && seconds < timers.min_expiry.as_secs() {
            let min_expires = Some(timers.min_expiry.as_secs());
            return Err(Refused { status: StatusCode::INTERVAL_TOO_BRIEF, min_expires });
        }
        let lifetime = (seconds > 0).then(|| Duration::from_secs(seconds).min(timers.max_expiry));
        if lifetime.is_some() {
            cx.check_push(&contact.uri)?;
        }
        let instance = instance_of(contact);
        let reg_id = reg_id_of(contact).filter(|_| instance.is_some());
        wishes.push(Wish { contact: contact.clone(), uri, lifetime, instance, reg_id });
    }
    // RFC 5626 §6: each flow is registered by itself.
    if wishes.iter().filter(|it| it.reg_id.is_some() && it.lifetime.is_some()).count() > 1 {
        return Err(StatusCode::BAD_REQUEST.into());
    }
    let keeps_flow = wishes.iter().any(|it| it.reg_id.is_some());
    if keeps_flow && !is_first_hop(flow, request) {
        // Who stands before us would have to keep the flow.
        if request.headers.supports(OUTBOUND) {
            return Err(StatusCode::FIRST_HOP_LACKS_OUTBOUND_SUPPORT.into());
        }
        wishes.iter_mut().for_each(|it| it.reg_id = None);
    }
    Ok(wishes)
}

fn instance_of(contact: &ContactValue) -> Option<String> {
    let instance = contact.params.get_unquoted("+sip.instance")?;
    (!instance.is_empty() && instance.len() <= 256).then(|| instance.into_owned())
}

/// From 1 to 2³¹−1 (RFC 5626 §4.2.1).
fn reg_id_of(contact: &ContactValue) -> Option<u32> {
    let number = contact.params.get("reg-id")?.parse().ok()?;
    (1..=i32::MAX as u32).contains(&number).then_some(number)
}

/// Whether the client's own flow ends at one of us: here, or at another
/// region's proxy, which says so in its Path (RFC 5626 §6).
fn is_first_hop(flow: &Flow, request: &Request) -> bool {
    match flow.peer {
        None => request.headers.values(&HeaderName::Via).nth(1).is_none(),
        Some(_) => {
            let first = request.headers.values(&HeaderName::Path).take(MAX_PATH).last();
            let first = first.and_then(|it| NameAddr::parse(&it.to_str_lossy()).ok());
            first.is_some_and(|it| it.uri.params.contains("ob"))
        }
    }
}

/// §10.3 steps 6 and 7: a request that another one of the same client has
/// overtaken changes nothing.
fn in_order(
    cx: &Context,
    user: &User,
    call_id: &str,
    cseq: u32,
    concerned: impl Fn(&Contact) -> bool,
) -> Result<(), Refused> {
    let mut contacts = cx.registrar.contacts(user.sid, cx.now.unix);
    let overtaken = contacts.any(|known| {
        known.binding.call_id.expose() == call_id && known.binding.cseq >= cseq && concerned(known)
    });
    match overtaken {
        true => Err(StatusCode::SERVER_INTERNAL_ERROR.into()),
        false => Ok(()),
    }
}

fn bounded(cx: &Context, user: &User, wishes: &[Wish]) -> Result<(), Refused> {
    let mut known = 0;
    let mut removed = 0;
    for contact in cx.registrar.contacts(user.sid, cx.now.unix) {
        known += 1;
        let wish = wishes.iter().find(|wish| wish.is_for(contact));
        removed += usize::from(wish.is_some_and(|wish| wish.lifetime.is_none()));
    }
    let added = wishes.iter().filter(|wish| {
        wish.lifetime.is_some()
            && !cx.registrar.contacts(user.sid, cx.now.unix).any(|known| wish.is_for(known))
    });
    let added = added.count();
    if known + added - removed > cx.config.limits.bindings_per_user {
        return Err(StatusCode::FORBIDDEN.into());
    }
    if cx.registrar.len() + added > cx.config.limits.bindings {
        return Err(StatusCode::SERVICE_UNAVAILABLE.into());
    }
    Ok(())
}

/// What all contacts of one REGISTER have in common.
struct Ground<'a> {
    account: &'a Account,
    user: &'a Arc<User>,
    flow: &'a Flow,
    request: &'a Request,
    call_id: String,
    cseq: u32,
}

fn carry_out(cx: &mut Context, ground: &Ground<'_>, wish: Wish) -> Vec<BindingChange> {
    let Some(lifetime) = wish.lifetime else {
        return remove(cx, ground.user, |known| wish.is_for(known));
    };
    let user = ground.user.sid;
    let binding = binding(cx, ground, &wish, lifetime);
    let mut fresh = Contact { binding, flow: Some(ground.flow.clone()), failed: false };
    cx.registrar.watch(user, ground.flow);
    let contacts = cx.registrar.users.entry(user).or_default();
    let key = fresh.binding.key();
    let mut changes = Vec::new();
    let (mut place, mut kept, before) = (None, 0, contacts.list.len());
    contacts.list.retain(|known| {
        let goes = wish.is_for(known);
        if goes {
            place.get_or_insert(kept);
            fresh.binding.media = known.binding.media;
            let contact = known.binding.key();
            if contact != key {
                changes.push(BindingChange::Remove { user, contact });
            }
        }
        kept += usize::from(!goes);
        !goes
    });
    changes.push(BindingChange::Put(Box::new(fresh.binding.clone())));
    match place {
        Some(place) => contacts.list.insert(place, fresh),
        None => contacts.add(fresh),
    }
    let now = contacts.list.len();
    cx.registrar.count = cx.registrar.count + now - before;
    if place.is_none() {
        cx.log(Log::Registered { user, contacts: now });
    }
    changes
}

fn binding(cx: &Context, ground: &Ground<'_>, wish: &Wish, lifetime: Duration) -> Binding {
    let Ground { account, user, flow, request, call_id, cseq } = ground;
    let edge_region = flow.peer.as_deref().and_then(|peer| peer.parse().ok());
    // A Path of anybody but another region's proxy would let a client send our
    // requests anywhere.
    let path = match edge_region {
        Some(_) => request.headers.values(&HeaderName::Path).take(MAX_PATH).collect(),
        None => Vec::new(),
    };
    let agent = request.headers.get(&HeaderName::UserAgent);
    Binding {
        user: user.sid,
        account: account.sid,
        contact_uri: Personal::new(wish.uri.clone()),
        call_id: Personal::new(call_id.clone()),
        cseq: *cseq,
        expires_at: cx.now.unix.plus(lifetime),
        q_x1000: wish.contact.q(),
        path: path.iter().map(|it| Personal::new(it.to_str_lossy().into_owned())).collect(),
        instance: wish.instance.clone().map(Personal::new),
        reg_id: wish.reg_id,
        user_agent: agent.map(|it| Personal::new(it.to_str_lossy().chars().take(128).collect())),
        received: Received {
            transport: flow_transport(flow.transport),
            flow: flow.id.0,
            local: flow.local,
            remote: Personal::new(flow.remote),
        },
        edge_region,
        media: MediaPolicy::Auto,
        updated_at: cx.now.unix,
    }
}

fn flow_transport(transport: Transport) -> FlowTransport {
    match transport {
        Transport::Udp => FlowTransport::Udp,
        Transport::Tcp => FlowTransport::Tcp,
        Transport::Tls => FlowTransport::Tls,
        Transport::Ws => FlowTransport::Ws,
        Transport::Wss => FlowTransport::Wss,
    }
}

fn remove(
    cx: &mut Context,
    user: &User,
    concerned: impl Fn(&Contact) -> bool,
) -> Vec<BindingChange> {
    let user = user.sid;
    let mut changes = Vec::new();
    if let Some(contacts) = cx.registrar.users.get_mut(&user) {
        contacts.list.retain(|known| {
            let goes = concerned(known);
            if goes {
                changes.push(BindingChange::Remove { user, contact: known.binding.key() });
            }
            !goes
        });
    }
    cx.registrar.count -= changes.len();
    changes
}

/// 200 with every contact there is (§10.3 step 8).
fn accepted(
    cx: &mut Context,
    account: &Account,
    user: &User,
    flow: &Flow,
    request: &Request,
) -> Response {
    let mut response = cx.response(request, StatusCode::OK);
    let by_flow = request_keeps_flow(flow, request);
    let takes_gruus = request.headers.supports(GRUU);
    let contacts = cx.registrar.contacts(user.sid, cx.now.unix);
    let bindings: Vec<Binding> = contacts.map(|it| it.binding.clone()).collect();
    for binding in &bindings {
        let left = binding.expires_at.0.saturating_sub(cx.now.unix.0) / 1000;
        let mut value = format!("<{}>;expires={left}", binding.contact_uri.expose());
        if binding.q_x1000 < 1000 {
            value.push_str(&format!(";q=0.{:03}", binding.q_x1000));
        }
        if let Some(instance) = &binding.instance {
            value.push_str(";+sip.instance=\"");
            value.extend(instance.expose().chars().filter(|c| !matches!(c, '"' | '\\')));
            value.push('"');
            if let Some(reg_id) = binding.reg_id {
                value.push_str(&format!(";reg-id={reg_id}"));
            }
            if takes_gruus {
                value.push_str(&cx.gruus_of(&account.domain, user, binding));
            }
        }
        response.headers.push(HeaderName::Contact, value);
    }
    // RFC 3327 §5.3.
    for path in request.headers.all(&HeaderName::Path) {
        response.headers.push(HeaderName::Path, path.clone());
    }
    cx.tell_push(request, &mut response.headers);
    response.headers.push(HeaderName::Supported, "path, outbound, gruu");
    if by_flow {
        // RFC 5626 §6.
        response.headers.push(HeaderName::Require, OUTBOUND);
        if matches!(flow.transport, Transport::Tcp | Transport::Tls) && flow.peer.is_none() {
            response.headers.push(HeaderName::FlowTimer, FLOW_TIMER);
        }
    }
    response
}

/// Whether a contact was registered as a flow (RFC 5626 §6).
fn request_keeps_flow(flow: &Flow, request: &Request) -> bool {
    let Ok(ContactHeader::List(list)) = request.contacts() else { return false };
    let has_flow = |it: &ContactValue| instance_of(it).is_some() && reg_id_of(it).is_some();
    list.iter().any(has_flow) && is_first_hop(flow, request)
}
