//! Messages between users, each on its own (RFC 3428): one comes in, and one of
//! our own goes to every phone of whom it is for. The first that takes it
//! answers for all. Nothing is kept: where no phone is registered the sender is
//! told so (ADR 026).
//!
//! To another account a message goes as a call does ([`crate::between`]): to the
//! home region of that account, which alone knows its phones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use landline_region::RegionCode;
use landline_region::catalogue::fields::{
    ACCOUNT_DOMAIN, CALLEE, CALLER, DEVICE_INSTANCE, JOIN_TOKEN, MESSAGE_TEXT, SIP_CALL_ID,
};
use landline_region::egress::{self, Carried, Form};
use landline_sip::{
    ClientKey, Destination, FailureCause, HeaderName, Method, Request, Response, ServerKey,
    StatusCode, Transport,
};
use rustc_hash::FxHashMap;

use crate::between::join_header;
use crate::call::{Identity, push_warning, tag_text};
use crate::context::{ClientUse, Context};
use crate::core::Core;
use crate::crossing;
use crate::io::Log;
use crate::record::{CallDirection, Cause};
use crate::route::{NOT_FOUND, Reach, Refusal, Route, Side, Target};
use crate::tenancy::{Account, is_e164};
use crate::timers::Timer;

/// Names a message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PageKey(u64);

/// RFC 3428 §8: larger ones go by ways that know congestion alone.
const MAX_DATAGRAM: usize = 1300;
/// What our Via takes of it.
const VIA: usize = 120;

/// How long phones may take, so that the sender hears of it before its own
/// transaction is over (RFC 3261 §17.1.2.2: 32 s), and another region's before
/// us.
const PHONES: Duration = Duration::from_secs(20);
const REGION: Duration = Duration::from_secs(25);

/// What goes with the text wherever it goes.
const CONTENT: [HeaderName; 7] = [
    HeaderName::ContentType,
    HeaderName::ContentEncoding,
    HeaderName::ContentDisposition,
    HeaderName::ContentLanguage,
    HeaderName::MimeVersion,
    HeaderName::Date,
    HeaderName::Expires,
];
/// What colleagues may say beside it.
const ASIDE: [HeaderName; 3] = [HeaderName::Subject, HeaderName::Priority, HeaderName::InReplyTo];

/// What a message says of persons on its way to another region.
const CARRIED: &[Carried] = &[
    (&CALLER, Form::Bare),
    (&CALLEE, Form::Bare),
    (&ACCOUNT_DOMAIN, Form::Bare),
    (&DEVICE_INSTANCE, Form::Bare),
    (&JOIN_TOKEN, Form::Bare),
    (&SIP_CALL_ID, Form::Bare),
    (&MESSAGE_TEXT, Form::Bare),
];

const NOBODY_THERE: Failure = (
    StatusCode::TEMPORARILY_UNAVAILABLE,
    Some("no phone is registered, and messages are not kept"),
);
const NO_ANSWER: Failure =
    (StatusCode::TEMPORARILY_UNAVAILABLE, Some("nobody has answered; it may have arrived"));
const NO_MESSAGES: Failure =
    (StatusCode::TEMPORARILY_UNAVAILABLE, Some("the phones there take no messages"));

/// What the sender is told, and a Warning's text.
type Failure = (StatusCode, Option<&'static str>);

/// A message of somebody we know, and where it leads.
pub(crate) struct PageAttempt {
    pub key: ServerKey,
    pub request: Request,
    pub account: Arc<Account>,
    pub sender: Side,
    pub dialled: String,
    pub route: Result<Route, Refusal>,
}

#[derive(Default)]
pub(crate) struct Pager {
    pages: FxHashMap<PageKey, Page>,
    /// How many of them are whose.
    senders: FxHashMap<u128, usize>,
    last: u64,
}

struct Page {
    server: ServerKey,
    request: Request,
    account: Arc<Account>,
    sender: u128,
    identity: Identity,
    /// The proxies of another region, one after the other.
    groups: VecDeque<Vec<Target>>,
    /// To another account's home.
    is_away: bool,
    /// Not answered yet, each with the same device's other flows.
    pending: Vec<(ClientKey, Vec<Target>)>,
    best: Option<Failure>,
    is_answered: bool,
}

impl Pager {
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    fn remove(&mut self, key: PageKey) {
        let Some(page) = self.pages.remove(&key) else { return };
        if let Some(count) = self.senders.get_mut(&page.sender) {
            *count -= 1;
            if *count == 0 {
                self.senders.remove(&page.sender);
            }
        }
    }
}

impl Core {
    /// A message of a user, or of another account's home region.
    pub(crate) fn page(&mut self, attempt: PageAttempt) {
        let PageAttempt { key, request, account, sender, dialled, route } = attempt;
        self.cx.counters.messages += 1;
        let identity = Identity::of(&sender, &request, &route, &dialled);
        let groups = match self.admit_page(&sender, &request).and(route.map_err(refusal)) {
            Ok(route) if route.callee.is_region() => route.groups,
            // All at once, whichever its owner wants to ring first.
            Ok(route) => VecDeque::from([route.groups.into_iter().flatten().collect()]),
            Err(failure) => return self.refuse_page(key, &request, failure),
        };
        let sender = sender.sid();
        let pager = &mut self.pager;
        pager.last += 1;
        let name = PageKey(pager.last);
        *pager.senders.entry(sender).or_default() += 1;
        let is_away = groups.iter().flatten().any(|target| target.side.is_region());
        let page = Page {
            server: key,
            request,
            account,
            sender,
            identity,
            groups,
            is_away,
            pending: Vec::new(),
            best: None,
            is_answered: false,
        };
        pager.pages.insert(name, page);
        let patience = if is_away { REGION } else { PHONES };
        self.cx.timers.set(self.cx.now.instant + patience, Timer::Page(name));
        self.page_next(name);
    }

    fn admit_page(&self, sender: &Side, request: &Request) -> Result<(), Failure> {
        let limits = &self.cx.config.limits;
        let own = self.pager.senders.get(&sender.sid()).copied().unwrap_or(0);
        let own_limit = match sender {
            Side::Region(_) => limits.messages,
            Side::User(_) | Side::Trunk(_) => limits.messages_per_user,
        };
        let kind = request.content_type();
        match () {
            () if self.cx.closing || self.pager.len() >= limits.messages || own >= own_limit => {
                Err((StatusCode::SERVICE_UNAVAILABLE, None))
            }
            () if request.body.is_empty() => Ok(()),
            () if !matches!(kind, Ok(Some(_))) => {
                Err((StatusCode::BAD_REQUEST, Some("text without a Content-Type")))
            }
            () => Ok(()),
        }
    }

    fn refuse_page(&mut self, key: ServerKey, request: &Request, (status, text): Failure) {
        self.cx.counters.messages_refused += 1;
        let response = self.cx.page_response(request, status, text);
        self.cx.respond(key, response);
    }

    /// Sends the message to the next group of places, or tells what came of it.
    fn page_next(&mut self, name: PageKey) {
        loop {
            let Some(page) = self.pager.pages.get_mut(&name) else { return };
            let Some(group) = page.groups.pop_front() else {
                return self.page_failed(name);
            };
            for target in group {
                self.cx.send_page(name, page, target);
            }
            if !page.pending.is_empty() {
                return;
            }
        }
    }

    pub(crate) fn page_response(&mut self, name: PageKey, client: ClientKey, response: &Response) {
        let status = response.status;
        if status.is_provisional() {
            return;
        }
        let Some(page) = self.pager.pages.get_mut(&name) else {
            self.cx.counters.stray_responses += 1;
            return;
        };
        let others = page.answered(client);
        match status.is_success() {
            _ if status == StatusCode::FLOW_FAILED && !others.is_empty() && !page.is_answered => {
                self.cx.send_page_by(name, page, others);
            }
            true if page.is_answered => self.cx.counters.messages_late += 1,
            true => {
                page.is_answered = true;
                page.groups.clear();
                self.cx.counters.messages_delivered += 1;
                let response = self.cx.response(&page.request, status);
                self.cx.respond(page.server, response);
            }
            false => {
                // A region's other proxies would say the same, but for this.
                if status != StatusCode::SERVICE_UNAVAILABLE {
                    page.groups.clear();
                }
                page.consider(upstream(status));
            }
        }
        self.page_goes_on(name);
    }

    pub(crate) fn page_lost(&mut self, name: PageKey, client: ClientKey, cause: FailureCause) {
        let Some(page) = self.pager.pages.get_mut(&name) else { return };
        let others = page.answered(client);
        if cause != FailureCause::Timeout && !others.is_empty() && !page.is_answered {
            self.cx.send_page_by(name, page, others);
            return self.page_goes_on(name);
        }
        page.consider(match cause {
            FailureCause::Timeout => NO_ANSWER,
            _ if page.is_away => (StatusCode::SERVICE_UNAVAILABLE, None),
            _ => NOBODY_THERE,
        });
        if cause == FailureCause::Timeout {
            // It may have arrived.
            page.groups.clear();
        }
        self.page_goes_on(name);
    }

    fn page_goes_on(&mut self, name: PageKey) {
        match self.pager.pages.get(&name) {
            Some(page) if !page.pending.is_empty() => {}
            Some(page) if page.is_answered => self.pager.remove(name),
            Some(_) => self.page_next(name),
            None => {}
        }
    }

    /// Who has not answered by now will not be waited for: the sender waits, too.
    pub(crate) fn page_overdue(&mut self, name: PageKey) {
        if let Some(page) = self.pager.pages.get_mut(&name).filter(|it| !it.is_answered) {
            page.groups.clear();
            page.consider(NO_ANSWER);
            self.page_failed(name);
        }
    }

    fn page_failed(&mut self, name: PageKey) {
        let Some(page) = self.pager.pages.get_mut(&name) else { return };
        page.is_answered = true;
        let (status, text) = page.best.unwrap_or(NOBODY_THERE);
        self.cx.counters.messages_failed += 1;
        let response = self.cx.page_response(&page.request, status, text);
        self.cx.respond(page.server, response);
        if page.pending.is_empty() {
            self.pager.remove(name);
        }
    }
}

impl Page {
    /// The flows that are left to the device that this was sent to.
    fn answered(&mut self, client: ClientKey) -> Vec<Target> {
        let at = self.pending.iter().position(|(known, _)| *known == client);
        at.map(|at| self.pending.swap_remove(at).1).unwrap_or_default()
    }

    /// Keeps the better of two failures (RFC 3261 §16.7 step 6).
    fn consider(&mut self, failure: Failure) {
        let rank = |(status, _): Failure| match status.class() {
            6 => 0,
            _ if status == StatusCode::TEMPORARILY_UNAVAILABLE => 2,
            4 => 1,
            _ => 3,
        };
        if self.best.is_none_or(|best| rank(failure) < rank(best)) {
            self.best = Some(failure);
        }
    }
}

impl Context {
    /// Where a message of a user leads: to users alone, of this account or of
    /// another. Forwarding is for calls.
    pub(crate) fn route_page(
        &self,
        account: &Account,
        uri: &landline_sip::Uri,
        dialled: &str,
    ) -> Result<Route, Refusal> {
        if !self.is_own_address(account, uri) {
            return self.route_away(account, uri, dialled);
        }
        match self.page_within(account, uri, dialled, CallDirection::Internal) {
            Err(NOT_FOUND) if is_e164(dialled) => {
                self.route_to_number(account, dialled).unwrap_or(Err(NOT_FOUND))
            }
            route => route,
        }
    }

    /// To a user of the account, by name or number, or to one device.
    pub(crate) fn page_within(
        &self,
        account: &Account,
        uri: &landline_sip::Uri,
        dialled: &str,
        direction: CallDirection,
    ) -> Result<Route, Refusal> {
        if let Some((route, _)) = self.route_to_gruu(account, uri, direction) {
            return route;
        }
        let user = self.tenants.user_dialled(account.sid, dialled);
        self.to_user(account, user.ok_or(NOT_FOUND)?, direction)
    }

    /// Larger than may be sent on by datagrams, or than is taken at all.
    pub(crate) fn is_too_large(&self, by: Transport, request: &Request) -> bool {
        match by {
            Transport::Udp => request.to_bytes().len() > MAX_DATAGRAM,
            _ => request.body.len() > self.config.limits.message,
        }
    }

    fn send_page(&mut self, name: PageKey, page: &mut Page, target: Target) {
        let request = self.page_to(page, &target);
        let may_go = match fits_not(&request, &target.destination, target.transport) {
            true => Err((StatusCode::REQUEST_ENTITY_TOO_LARGE, None)),
            false => match target.side {
                Side::Region(region) => self.page_leaves(page, region),
                Side::User(_) | Side::Trunk(_) => Ok(()),
            },
        };
        match may_go {
            Ok(()) => {
                let client = self.send(ClientUse::Page(name), request, target.destination);
                page.pending.push((client, target.others));
            }
            Err(failure) => page.consider(failure),
        }
    }

    /// By the next of a device's flows (RFC 5626 §6).
    fn send_page_by(&mut self, name: PageKey, page: &mut Page, mut others: Vec<Target>) {
        let next = others.remove(0);
        self.send_page(name, page, Target { others, ..next });
    }

    /// Asks the egress gate. What stays within the region does not leave it.
    fn page_leaves(&mut self, page: &Page, to: RegionCode) -> Result<(), Failure> {
        if to != self.config.region
            && let Some(gate) = &self.config.egress
        {
            let destination = egress::Destination::Region(to);
            let flow = egress::Flow::InterRegionSip;
            gate.decide_ahead(flow, &destination, CARRIED).map_err(|refused| {
                self.counters.messages_kept_in += 1;
                let account = page.account.sid;
                self.out.push_back(crate::Output::Log(Log::MessageKeptIn { account, refused }));
                (StatusCode::FORBIDDEN, None)
            })?;
        }
        self.counters.messages_out += 1;
        Ok(())
    }

    /// Our MESSAGE to one place: a request of its own, as each leg of a call is.
    fn page_to(&mut self, page: &Page, target: &Target) -> Request {
        let domain = &page.account.domain;
        let identity = &page.identity;
        let mut from = identity.shown_from(&target.side, domain);
        from.set_tag(&tag_text(self.entropy.u64()));
        let mut request = Request::new(Method::Message, target.uri.clone());
        let headers = &mut request.headers;
        for route in &target.routes {
            headers.push(HeaderName::Route, route);
        }
        let hops = page.request.max_forwards().ok().flatten().unwrap_or(70);
        headers.push(HeaderName::MaxForwards, hops.saturating_sub(1).to_string());
        headers.push(HeaderName::From, &from);
        headers.push(HeaderName::To, identity.shown_to(target, domain));
        headers.push(HeaderName::CallId, self.entropy.hex::<16>());
        headers.push(HeaderName::CSeq, "1 MESSAGE");
        copy(&CONTENT, &page.request, &mut request);
        request.body = page.request.body.clone();
        match target.side.is_region() {
            // No record is to be joined: it says that a home region speaks.
            true => {
                let join = landline_region::JoinToken::new(&mut self.entropy);
                request.headers.push(join_header(), join.to_string());
            }
            false => {
                copy(&ASIDE, &page.request, &mut request);
                if let Some(product) = &self.config.product {
                    request.headers.push(HeaderName::UserAgent, product.as_str());
                }
            }
        }
        if matches!(target.reach, Reach::Region(..)) {
            crossing::withhold(&mut request.headers);
        }
        request
    }

    fn page_response(
        &mut self,
        request: &Request,
        status: StatusCode,
        text: Option<&str>,
    ) -> Response {
        let mut response = self.response(request, status);
        if let Some(text) = text {
            push_warning(self, &mut response, 399, text);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = 2 + self.entropy.u64() % 9;
            response.headers.push(HeaderName::RetryAfter, seconds.to_string());
        }
        response
    }
}

/// What goes with a message's text from one request to the other.
pub(crate) fn copy_content(from: &Request, to: &mut Request) {
    copy(&CONTENT, from, to);
    to.body = from.body.clone();
}

fn copy(names: &[HeaderName], from: &Request, to: &mut Request) {
    for name in names {
        if let Some(value) = from.headers.get(name) {
            to.headers.push(name.clone(), value.clone());
        }
    }
}

/// A phone that is reached by datagrams, behind another region's proxy or not.
pub(crate) fn fits_not(request: &Request, to: &Destination, phone: Transport) -> bool {
    let by = match to {
        Destination::Flow(flow) if flow.peer.is_none() => flow.transport,
        Destination::Address { transport, .. } => *transport,
        Destination::Flow(_) | Destination::Region { .. } | Destination::Uri(_) => phone,
    };
    by == Transport::Udp && request.to_bytes().len() + VIA > MAX_DATAGRAM
}

fn refusal(refusal: Refusal) -> Failure {
    let status = StatusCode::new(refusal.status).unwrap_or(StatusCode::SERVER_INTERNAL_ERROR);
    match refusal.cause {
        Cause::Unreachable if refusal.status == 480 => NOBODY_THERE,
        _ => (status, None),
    }
}

/// What a phone's refusal comes to for the sender: challenges, redirections and
/// quarrels over transactions are between the phone and us.
fn upstream(status: StatusCode) -> Failure {
    match status.code() {
        403 | 404 | 406 | 410 | 413 | 415 | 480 | 486 | 488 | 493 | 503 => (status, None),
        600 | 603 | 604 | 606 => (status, None),
        401 | 407 => (StatusCode::FORBIDDEN, None),
        405 | 501 => NO_MESSAGES,
        500..600 => (StatusCode::SERVER_INTERNAL_ERROR, None),
        600.. => (StatusCode::DECLINE, None),
        _ => (StatusCode::TEMPORARILY_UNAVAILABLE, None),
    }
}
