//! Where a dialled address leads. What nothing leads to is refused.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use landline_control::IpFamily;
use landline_region::{Personal, RegionCode, UserSid};
use landline_sip::{Destination, Dialog, Flow, Host, NameAddr, Scheme, Transport, Uri};

use crate::context::Context;
use crate::diversion::{Diversion, Stead};
use crate::negotiate::{
    Profiles, accepts_plain_trunk, accepts_plain_user, trunk_profiles, user_profiles,
};
use crate::push::Sleeper;
use crate::record::{CallDirection, Cause, Party};
use crate::registrar::{Contact, Flows, region_destination};
use crate::tenancy::{Account, NumberTarget, Trunk, TrunkTransport, User, is_e164};

/// Who is at the other end of a leg.
#[derive(Debug, Clone)]
pub(crate) enum Side {
    User(Arc<User>),
    Trunk(Arc<Trunk>),
    /// Somebody of another account, behind the home proxy of that account.
    Region(RegionCode),
}

impl Side {
    pub(crate) fn party(&self) -> Party {
        match self {
            Self::User(user) => Party::User(user.sid),
            Self::Trunk(trunk) => Party::Trunk(trunk.sid),
            Self::Region(region) => Party::Region(*region),
        }
    }

    pub(crate) fn sid(&self) -> u128 {
        match self {
            Self::User(user) => user.sid.as_u128(),
            Self::Trunk(trunk) => trunk.sid.as_u128(),
            // Sids are random: a small number is none.
            Self::Region(region) => {
                region.as_str().bytes().fold(0, |number, byte| number << 8 | u128::from(byte))
            }
        }
    }

    pub(crate) fn is_trunk(&self) -> bool {
        matches!(self, Self::Trunk(_))
    }

    pub(crate) fn is_region(&self) -> bool {
        matches!(self, Self::Region(_))
    }

    /// Whether media may go unencrypted on a leg of theirs.
    pub(crate) fn accepts_plain(&self, account: &Account) -> bool {
        match self {
            Self::User(user) => accepts_plain_user(user.media, account.encryption),
            Self::Trunk(trunk) => accepts_plain_trunk(trunk.media, trunk.send_to.transport),
            Self::Region(_) => false,
        }
    }
}

/// How requests reach the peer of a leg.
#[derive(Debug, Clone)]
pub(crate) enum Reach {
    Flow(Flow),
    /// A phone that registered by UDP before we were started.
    Address(SocketAddr),
    /// By another region's proxy.
    Region(RegionCode, Destination),
    /// As the dialog's route set and target say (RFC 3261 §12.2.1.1).
    Uri,
}

impl Reach {
    /// Back to where a request came from.
    pub(crate) fn back(flow: &Flow, is_trunk: bool) -> Self {
        let region = flow.peer.as_deref().and_then(|peer| peer.parse().ok());
        match region {
            Some(region) => Self::Region(region, Destination::Flow(flow.clone())),
            None if is_trunk && !flow.transport.is_reliable() => Self::Uri,
            None => Self::Flow(flow.clone()),
        }
    }

    /// Where a request within a dialog with such a side goes.
    pub(crate) fn destination(
        &self,
        cx: &Context,
        dialog: Option<&Dialog>,
        side: Option<&Side>,
    ) -> Option<Destination> {
        match self {
            Self::Flow(flow) => Some(Destination::Flow(flow.clone())),
            Self::Address(addr) => Some(Destination::Address {
                transport: Transport::Udp,
                addr: *addr,
                server_name: None,
            }),
            Self::Region(region, destination) => {
                let first = dialog.and_then(|it| it.route_set().first().cloned());
                // Of a call between accounts the far home proxy is the peer itself.
                let contact = dialog
                    .filter(|_| side.is_some_and(Side::is_region))
                    .map(|it| NameAddr::new(it.remote_target().clone()));
                let named = first.or(contact).and_then(|it| region_destination(*region, &it));
                // The route set went through the phone's hands.
                let named = named.filter(|it| cx.directory.has_proxy(*region, it));
                Some(named.unwrap_or_else(|| destination.clone()))
            }
            Self::Uri => {
                let hop = dialog?.next_hop();
                // A carrier's Contact names nobody's device here.
                let device = match side {
                    Some(Side::User(user)) => cx.way_to_gruu(user, hop),
                    _ => None,
                };
                Some(device.unwrap_or_else(|| Destination::Uri(hop.clone())))
            }
        }
    }

    /// Whether what came by this flow came the way the peer is reached.
    pub(crate) fn is_way_of(&self, flow: &Flow) -> bool {
        // The port its Contact names need not be the one it sends from.
        let is_datagram_of =
            |peer: &SocketAddr| flow.transport == Transport::Udp && flow.remote.ip() == peer.ip();
        match self {
            Self::Flow(own) if own.transport.is_reliable() => own.id == flow.id,
            Self::Flow(own) => is_datagram_of(&own.remote),
            // The same phone as above, registered before we were started.
            Self::Address(peer) => is_datagram_of(peer),
            Self::Region(region, _) => flow.peer.as_deref() == Some(region.as_str()),
            Self::Uri => false,
        }
    }
}

/// One place to send an INVITE to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub side: Side,
    pub uri: Uri,
    /// The preloaded route (RFC 3327 §5.4).
    pub routes: Vec<NameAddr>,
    pub destination: Destination,
    pub reach: Reach,
    pub transport: Transport,
    pub family: IpFamily,
    pub profiles: Profiles,
    /// Rung for somebody who sent the call on.
    pub stead: Option<Arc<Stead>>,
    /// The same device by its other flows, each for when the one before failed
    /// (RFC 5626 §6).
    pub others: Vec<Target>,
}

#[derive(Debug)]
pub(crate) struct Route {
    pub direction: CallDirection,
    /// Tried one group after the other; within one all ring at once.
    pub groups: VecDeque<Vec<Target>>,
    /// Devices that ring once they are awake.
    pub sleepers: Vec<Sleeper>,
    /// The callee as the To of our INVITEs names it.
    pub to_user: Personal<String>,
    pub callee: Side,
    /// Where nobody is rung, or none of those takes it: whose mailbox does.
    pub mailbox: Option<Mailed>,
}

/// Whose mailbox takes a call that rings nowhere.
#[derive(Debug, Clone)]
pub(crate) struct Mailed {
    pub user: Arc<User>,
    /// What the caller hears where it does not take it.
    pub refusal: Refusal,
}

impl Route {
    /// The part of it that leads to another account's home region.
    pub(crate) fn away(&self) -> Option<&Side> {
        self.groups.iter().flatten().map(|target| &target.side).find(|side| side.is_region())
    }

    /// Somebody is rung, or woken for it.
    pub(crate) fn rings(&self) -> bool {
        !self.groups.is_empty() || !self.sleepers.is_empty()
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away().is_some()
    }
}

/// Why a call goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: u16,
    pub cause: Cause,
    pub warning: Option<(u16, &'static str)>,
}

impl Refusal {
    pub(crate) const fn new(status: u16, cause: Cause) -> Self {
        Self { status, cause, warning: None }
    }
}

pub(crate) const NOT_FOUND: Refusal = Refusal::new(404, Cause::NotFound);

/// What was dialled, as a number with `+` or as a user's name.
pub(crate) fn dialled(uri: &Uri) -> Option<String> {
    let user = uri.user_decoded()?;
    // RFC 3261 §19.1.6: parameters of a telephone number stand in the user part.
    let user = user.split(';').next().unwrap_or_default();
    let is_number = uri.scheme == Scheme::Tel || user.starts_with('+');
    Some(match is_number {
        true => user.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect(),
        false => user.to_owned(),
    })
}

impl Context {
    /// An address of the account's own, and not in another domain.
    pub(crate) fn is_own_address(&self, account: &Account, uri: &Uri) -> bool {
        let host = &uri.host;
        !uri.is_sip()
            || host.name().is_some_and(|it| it.eq_ignore_ascii_case(&account.domain))
            || self.is_ours(host, uri.port)
    }

    /// Where a call of a user of `account` leads.
    pub(crate) fn route_from_user(
        &self,
        account: &Account,
        dialled: &str,
    ) -> Result<Route, Refusal> {
        self.lead(account, dialled, &[])
    }

    /// The same, of a call that the users of `past` sent on.
    pub(crate) fn lead(
        &self,
        account: &Account,
        dialled: &str,
        past: &[Diversion],
    ) -> Result<Route, Refusal> {
        let direction = CallDirection::Internal;
        if let Some(user) = self.tenants.user(account.sid, dialled) {
            return self.reach(account, user, direction, past);
        }
        if !is_e164(dialled) {
            return Err(NOT_FOUND);
        }
        match self.tenants.number(account.sid, dialled).map(|number| number.target) {
            Some(NumberTarget::User(sid)) => self.to_sid(account, sid, direction, past),
            Some(NumberTarget::Trunk(sid)) => {
                self.to_trunk(self.tenants.trunk(sid).ok_or(NOT_FOUND)?, dialled)
            }
            None => match self.route_to_number(account, dialled) {
                Some(route) => route,
                None => {
                    let trunk = self.tenants.trunk_for(account.sid, dialled);
                    self.to_trunk(trunk.ok_or(NOT_FOUND)?, dialled)
                }
            },
        }
    }

    /// Where a call that a trunk of `account` brings in leads: to users alone.
    pub(crate) fn route_from_trunk(
        &self,
        account: &Account,
        dialled: &str,
    ) -> Result<Route, Refusal> {
        let number = self.trunk_number(account, dialled).ok_or(NOT_FOUND)?;
        match number {
            NumberTarget::User(sid) => self.to_sid(account, sid, CallDirection::Inbound, &[]),
            NumberTarget::Trunk(_) => Err(NOT_FOUND),
        }
    }

    /// Where a call of another account leads: to users alone. Nobody calls out by
    /// a trunk of an account that is not his.
    pub(crate) fn route_from_region(
        &self,
        account: &Account,
        dialled: &str,
    ) -> Result<Route, Refusal> {
        if let Some(user) = self.tenants.user(account.sid, dialled) {
            return self.reach(account, user, CallDirection::Inbound, &[]);
        }
        match self.tenants.number(account.sid, dialled).map(|number| number.target) {
            Some(NumberTarget::User(sid)) => self.to_sid(account, sid, CallDirection::Inbound, &[]),
            Some(NumberTarget::Trunk(_)) | None => Err(NOT_FOUND),
        }
    }

    /// Carriers leave the `+` out, or write `00` for it.
    pub(crate) fn trunk_number(&self, account: &Account, dialled: &str) -> Option<NumberTarget> {
        let digits = dialled.strip_prefix('+').unwrap_or(dialled);
        let digits = digits.strip_prefix("00").unwrap_or(digits);
        let number = format!("+{digits}");
        let known = is_e164(&number).then(|| self.tenants.number(account.sid, &number))??;
        Some(known.target)
    }

    fn to_sid(
        &self,
        account: &Account,
        user: UserSid,
        direction: CallDirection,
        past: &[Diversion],
    ) -> Result<Route, Refusal> {
        self.reach(account, self.tenants.user_by_sid(user).ok_or(NOT_FOUND)?, direction, past)
    }

    /// To the phones of a user.
    pub(crate) fn to_user(
        &self,
        account: &Account,
        user: &Arc<User>,
        direction: CallDirection,
    ) -> Result<Route, Refusal> {
        let devices = self.registrar.devices(user.sid, self.now.unix);
        self.to_devices(account, user, &devices, direction)
            .ok_or(Refusal::new(480, Cause::Unreachable))
    }

    /// To the device of a user with this instance alone.
    pub(crate) fn to_device(
        &self,
        account: &Account,
        user: &Arc<User>,
        instance: &str,
        direction: CallDirection,
    ) -> Option<Route> {
        let devices = self.registrar.devices(user.sid, self.now.unix);
        let wanted =
            devices.iter().find(|it| it.first().is_some_and(|it| it.is_instance(instance)));
        self.to_devices(account, user, std::slice::from_ref(wanted?), direction)
    }

    fn to_devices(
        &self,
        account: &Account,
        user: &Arc<User>,
        devices: &[Flows<'_>],
        direction: CallDirection,
    ) -> Option<Route> {
        let (mut targets, mut sleepers) = (Vec::new(), Vec::new());
        for flows in devices {
            match self.sleeper(user, flows) {
                Some(sleeper) => sleepers.push(sleeper),
                None => targets.extend(device_target(account, user, flows)),
            }
        }
        let is_there = !targets.is_empty() || !sleepers.is_empty();
        is_there.then(|| self.to_targets(user, targets, sleepers, direction))
    }

    fn to_targets(
        &self,
        user: &Arc<User>,
        mut targets: Vec<(u16, Target)>,
        sleepers: Vec<Sleeper>,
        direction: CallDirection,
    ) -> Route {
        targets.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
        let mut groups: VecDeque<Vec<Target>> = VecDeque::new();
        let mut last = None;
        for (q, target) in targets {
            match groups.back_mut() {
                Some(group) if last == Some(q) && group.len() < self.config.limits.branches => {
                    group.push(target);
                }
                _ => groups.push_back(vec![target]),
            }
            last = Some(q);
        }
        Route {
            direction,
            groups,
            sleepers,
            to_user: user.name.clone(),
            callee: Side::User(user.clone()),
            mailbox: None,
        }
    }

    fn to_trunk(&self, trunk: &Arc<Trunk>, number: &str) -> Result<Route, Refusal> {
        let address = &trunk.send_to;
        let bracketed = match address.host.contains(':') {
            true => format!("[{}]", address.host),
            false => address.host.clone(),
        };
        let host = Host::parse(&bracketed).ok_or(NOT_FOUND)?;
        let v6 = host.ip().is_some_and(|ip| ip.is_ipv6());
        let transport = match address.transport {
            TrunkTransport::Udp => Transport::Udp,
            TrunkTransport::Tcp => Transport::Tcp,
            TrunkTransport::Tls => Transport::Tls,
        };
        let uri = Uri::sip(Some(number), host, Some(address.port))
            .with_param("transport", Some(transport.uri_param()));
        let side = Side::Trunk(trunk.clone());
        let target = Target {
            side: side.clone(),
            destination: Destination::Uri(uri.clone()),
            uri,
            routes: Vec::new(),
            reach: Reach::Uri,
            transport,
            family: if v6 { IpFamily::V6 } else { IpFamily::V4 },
            profiles: trunk_profiles(trunk.media, address.transport),
            stead: None,
            others: Vec::new(),
        };
        Ok(Route {
            direction: CallDirection::Outbound,
            groups: VecDeque::from([vec![target]]),
            sleepers: Vec::new(),
            to_user: Personal::new(number.to_owned()),
            callee: side,
            mailbox: None,
        })
    }
}

/// A device by the best of its flows, and then by the others.
fn device_target(account: &Account, user: &Arc<User>, flows: &[&Contact]) -> Option<(u16, Target)> {
    let q = flows.iter().map(|it| it.binding.q_x1000).max()?;
    let mut targets = flows.iter().filter_map(|it| contact_target(account, user, it));
    let first = targets.next()?;
    // The media that is offered stays as it is.
    let others = targets.filter(|it| it.family == first.family).collect();
    Some((q, Target { others, ..first }))
}

pub(crate) fn contact_target(
    account: &Account,
    user: &Arc<User>,
    contact: &Contact,
) -> Option<Target> {
    let destination = contact.destination()?;
    let uri = contact.uri()?;
    let routes = contact.path();
    let reach = match (&destination, contact.binding.edge_region) {
        (_, Some(region)) => Reach::Region(region, region_destination(region, routes.first()?)?),
        (Destination::Flow(flow), None) => Reach::Flow(flow.clone()),
        (Destination::Address { addr, .. }, None) => Reach::Address(*addr),
        _ => Reach::Uri,
    };
    // Behind another region's proxy the media comes from wherever the client
    // is; what its Contact says of that is as good as anything.
    let ip = match contact.binding.edge_region {
        Some(_) => uri.host.ip().unwrap_or(contact.remote_ip()),
        None => contact.remote_ip(),
    };
    let transport = match contact.binding.edge_region {
        Some(_) => uri.transport().unwrap_or(Transport::Udp),
        None => contact.transport(),
    };
    Some(Target {
        side: Side::User(user.clone()),
        uri,
        routes,
        destination,
        reach,
        transport,
        family: if ip.to_canonical().is_ipv6() { IpFamily::V6 } else { IpFamily::V4 },
        profiles: user_profiles(user.media, transport, contact.binding.media, account.encryption),
        stead: None,
        others: Vec::new(),
    })
}
