//! Calls between accounts: two calls, each the matter of its own account's home
//! region, which relays, records and writes it down. Between the two home
//! proxies goes an INVITE over mutual TLS with what the call itself needs and a
//! token that joins both records.
//!
//! The caller's home asks the directory where the callee lives, the callee's
//! home decides whether it may be called. Neither uses a trunk or a relay of
//! the other's: a call that cannot be brought there fails.

use std::collections::VecDeque;
use std::sync::Arc;

use landline_control::IpFamily;
use landline_region::catalogue::fields::{
    ACCOUNT_DOMAIN, CALLEE, CALLER, DEVICE_INSTANCE, JOIN_TOKEN, MEDIA_ADDRESS, SIP_CALL_ID,
};
use landline_region::egress::{self, Carried, Flow, Form, Refused};
use landline_region::{CallSid, JoinToken, Personal, RegionCode};
use landline_sip::{
    Destination, HeaderName, Host, Method, Request, ServerKey, StatusCode, Transport, Uri,
};

use crate::call::Attempt;
use crate::context::Context;
use crate::core::Core;
use crate::directory::AccountEntry;
use crate::io::Log;
use crate::negotiate::region_profiles;
use crate::pager::PageAttempt;
use crate::record::{CallDirection, Cause};
use crate::route::{NOT_FOUND, Reach, Refusal, Route, Side, Target, dialled};
use crate::tenancy::Account;

/// Carries the [`JoinToken`]. Read from other regions' proxies alone.
pub(crate) fn join_header() -> HeaderName {
    HeaderName::parse("Landline-Join")
}

/// What the INVITE and the rest of the call's signalling say of persons. The
/// addresses of media and the Call-ID are our own, made for this call.
const CARRIED: &[Carried] = &[
    (&CALLER, Form::Bare),
    (&CALLEE, Form::Bare),
    (&ACCOUNT_DOMAIN, Form::Bare),
    (&DEVICE_INSTANCE, Form::Bare),
    (&JOIN_TOKEN, Form::Bare),
    (&SIP_CALL_ID, Form::Bare),
    (&MEDIA_ADDRESS, Form::Bare),
];

/// Longest user part of a caller's address.
const MAX_CALLER: usize = 64;

impl Core {
    /// Whether an account's home region sends a call or message for an account of ours,
    /// and not an edge the request of a client.
    pub(crate) fn is_region_call(&self, flow: &landline_sip::Flow, request: &Request) -> bool {
        flow.peer.is_some()
            && matches!(request.method, Method::Invite | Method::Message)
            && request.headers.contains(&join_header())
    }

    pub(crate) fn region_call(
        &mut self,
        key: ServerKey,
        flow: &landline_sip::Flow,
        mut request: Request,
    ) {
        let (peer, join) = match self.region_caller(flow, &request) {
            Ok(found) => found,
            Err(problem) => return self.refuse_peer(key, flow, &request, problem),
        };
        if let Err(status) = self.fewer_hops(&mut request) {
            return self.refuse(key, &request, status);
        }
        if !self.understood(key, &request) || !self.takes_nothing(key, &request) {
            return;
        }
        let domain = request.uri.host.to_string().to_ascii_lowercase();
        let Some(account) = self.cx.tenants.by_domain(&domain).cloned() else {
            return self.not_here(key, &request, &domain);
        };
        if !account.calls_from.allows(peer, self.cx.config.region) {
            self.cx.counters.region_calls_refused += 1;
            return self.refuse(key, &request, StatusCode::FORBIDDEN);
        }
        let Some(dialled) = dialled(&request.uri) else {
            return self.refuse(key, &request, StatusCode::ADDRESS_INCOMPLETE);
        };
        if request.method == Method::Message {
            return self.region_message(key, request, account, peer, dialled);
        }
        let gruu = self.cx.route_to_gruu(&account, &request.uri, CallDirection::Inbound);
        let (route, dialled) =
            gruu.unwrap_or_else(|| (self.cx.route_from_region(&account, &dialled), dialled));
        self.cx.counters.region_calls_in += 1;
        self.cx.counters.region_calls_refused += u64::from(route.is_err());
        self.open(Attempt {
            key,
            flow: flow.clone(),
            request,
            account,
            caller: Side::Region(peer),
            dialled,
            route,
            join: Some(join),
        });
    }

    fn region_message(
        &mut self,
        key: ServerKey,
        request: Request,
        account: Arc<Account>,
        peer: RegionCode,
        dialled: String,
    ) {
        if self.cx.is_too_large(Transport::Tls, &request) {
            return self.refuse(key, &request, StatusCode::REQUEST_ENTITY_TOO_LARGE);
        }
        let route = self.cx.page_within(&account, &request.uri, &dialled, CallDirection::Inbound);
        self.cx.counters.messages_in += 1;
        let sender = Side::Region(peer);
        self.page(PageAttempt { key, request, account, sender, dialled, route });
    }

    /// Which region calls, and the token it made. A region speaks for the
    /// accounts that the directory has at home there, and for no others.
    fn region_caller(
        &self,
        flow: &landline_sip::Flow,
        request: &Request,
    ) -> Result<(RegionCode, JoinToken), &'static str> {
        let peer: Option<RegionCode> = flow.peer.as_deref().and_then(|peer| peer.parse().ok());
        let peer = peer.ok_or("a peer without a region")?;
        let join = request.headers.get(&join_header()).and_then(|it| it.as_str()?.parse().ok());
        let join = join.ok_or("a call whose join token cannot be read")?;
        let from = request.from().map_err(|_| "a call without a caller")?;
        let user = from.uri.user_decoded().unwrap_or_default();
        if user.is_empty() || user.len() > MAX_CALLER {
            return Err("a call without a caller");
        }
        let caller = self.cx.directory.account(&from.uri.host.to_string());
        match caller.is_some_and(|caller| caller.home_region == peer) {
            true => Ok((peer, join)),
            false => Err("a caller who is not at home there"),
        }
    }

    /// The sender's directory is older or newer than ours.
    fn not_here(&mut self, key: ServerKey, request: &Request, domain: &str) {
        self.cx.counters.region_calls_refused += 1;
        let ours = self.cx.directory.account(domain);
        let is_coming = ours.is_some_and(|entry| entry.home_region == self.cx.config.region);
        let status = match is_coming {
            true => StatusCode::SERVICE_UNAVAILABLE,
            // Not where it went: that is for the directory alone to say.
            false => StatusCode::GONE,
        };
        self.refuse(key, request, status);
    }
}

impl Context {
    /// Where a call to another account's address leads.
    pub(crate) fn route_to_domain(
        &self,
        account: &Account,
        domain: &str,
        user: &str,
    ) -> Result<Route, Refusal> {
        let entry = self.directory.account(domain).filter(|entry| entry.sid != account.sid);
        let entry = entry.ok_or(NOT_FOUND)?;
        match entry.calls_from.allows(self.config.region, entry.home_region) {
            true => self.to_region(entry, domain, user),
            false => Err(Refusal::new(403, Cause::Forbidden)),
        }
    }

    /// The same, of one device's address too.
    pub(crate) fn route_away(
        &self,
        account: &Account,
        uri: &Uri,
        dialled: &str,
    ) -> Result<Route, Refusal> {
        let domain = uri.host.to_string().to_ascii_lowercase();
        let mut route = self.route_to_domain(account, &domain, dialled)?;
        if let Some(gr) = uri.param("gr") {
            // The account's home knows what device that is.
            let gr = (!gr.is_empty()).then_some(gr);
            for target in route.groups.iter_mut().flatten() {
                target.uri.params.set("gr", gr);
            }
        }
        Ok(route)
    }

    /// Where a number leads that the directory knows; `None` leaves it to the
    /// account's trunks, as for numbers whose owners take no such calls.
    pub(crate) fn route_to_number(
        &self,
        account: &Account,
        number: &str,
    ) -> Option<Result<Route, Refusal>> {
        let token = self.config.number_key.as_ref()?.token(number);
        let (domain, entry) = self.directory.number(token)?;
        let is_open = entry.sid != account.sid
            && entry.calls_from.allows(self.config.region, entry.home_region);
        is_open.then(|| self.to_region(entry, domain, number))
    }

    /// The proxies of the callee's home, one after the other.
    fn to_region(&self, entry: &AccountEntry, domain: &str, user: &str) -> Result<Route, Refusal> {
        let home = entry.home_region;
        let destinations = match self.config.inter_region {
            Some(_) => self.home_destinations(home),
            None => Vec::new(),
        };
        if destinations.is_empty() {
            return Err(Refusal::new(503, Cause::Unreachable));
        }
        let host = Host::parse(domain).ok_or(NOT_FOUND)?;
        let uri = Uri::sip(Some(user), host, None);
        let targets = destinations.into_iter().map(|destination| {
            vec![Target {
                side: Side::Region(home),
                uri: uri.clone(),
                routes: Vec::new(),
                family: family(&destination),
                reach: Reach::Region(home, destination.clone()),
                destination,
                transport: Transport::Tls,
                profiles: region_profiles(),
                stead: None,
                others: Vec::new(),
            }]
        });
        Ok(Route {
            direction: CallDirection::Outbound,
            groups: targets.collect::<VecDeque<_>>(),
            sleepers: Vec::new(),
            to_user: Personal::new(user.to_owned()),
            callee: Side::Region(home),
            mailbox: None,
        })
    }

    /// Asks the egress gate for every INVITE to another account's home. What
    /// stays within the region does not leave it.
    pub(crate) fn call_leaves(&mut self, call: CallSid, to: RegionCode) -> Result<(), Refused> {
        if to != self.config.region
            && let Some(gate) = &self.config.egress
        {
            gate.decide_ahead(Flow::InterRegionSip, &egress::Destination::Region(to), CARRIED)?;
        }
        self.counters.region_calls_out += 1;
        self.log(Log::CallLeaves { call, to });
        Ok(())
    }
}

/// Relays talk as their regions' proxies do.
fn family(destination: &Destination) -> IpFamily {
    let is_v6 = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
    match destination {
        Destination::Region { host, .. } if is_v6(host) => IpFamily::V6,
        _ => IpFamily::V4,
    }
}
