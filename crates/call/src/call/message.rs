//! The messages we write towards either side, and what they may take over
//! from the other.

use landline_region::Personal;
use landline_sip::{ByteStr, HeaderName, Method, NameAddr, Reason, Request, Response, Uri};

use super::leg::tag_text;
use super::{Call, Identity, Leg};
use crate::between::join_header;
use crate::context::Context;
use crate::crossing;
use crate::diversion::Stead;
use crate::route::{Reach, Side, Target};
use crate::tenancy::is_e164;

pub(crate) fn allow_header() -> ByteStr {
    ByteStr::from_static(
        "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, MESSAGE, SUBSCRIBE, REFER, \
         REGISTER",
    )
}

pub(crate) fn accept_header() -> ByteStr {
    ByteStr::from_static("application/sdp")
}

pub(crate) const SDP: &str = "application/sdp";

/// Extensions that a callee may use with us.
const OFFERED: &str = "timer, 100rel, replaces";

/// What a caller may say to a callee beside the call itself.
const PASSED: [HeaderName; 2] = [HeaderName::Subject, HeaderName::Priority];

/// A Reason header value (RFC 3326).
pub(crate) fn reason(cause: u16, text: &str) -> String {
    ByteStr::from(Reason::new("SIP", cause, text)).to_str_lossy().into_owned()
}

/// Reasons that say why in terms of SIP or ISUP; others may say anything.
pub(super) fn reasons(headers: &landline_sip::Headers) -> Vec<ByteStr> {
    let known = |value: &ByteStr| {
        let bytes = value.as_bytes();
        let protocol = bytes.split(|b| matches!(b, b';' | b' ')).next().unwrap_or_default();
        value.len() <= 128
            && (protocol.eq_ignore_ascii_case(b"SIP") || protocol.eq_ignore_ascii_case(b"Q.850"))
    };
    headers.values(&HeaderName::Reason).filter(known).take(2).collect()
}

/// As this side may be told it.
pub(super) fn reason_for(side: &Side, reason: &ByteStr) -> ByteStr {
    match side.is_region() {
        true => bare(&reason.to_str_lossy()).into(),
        false => reason.clone(),
    }
}

/// A Reason without its text, which may be a person's words: what crosses into
/// another region.
pub(super) fn bare(reason: &str) -> String {
    let mut parts = reason.split(';').map(str::trim);
    let protocol = parts.next().unwrap_or_default();
    let is_cause = |part: &&str| {
        let number = part.strip_prefix("cause=");
        number.is_some_and(|it| it.len() <= 3 && it.bytes().all(|b| b.is_ascii_digit()))
    };
    match parts.find(is_cause) {
        Some(cause) => format!("{protocol};{cause}"),
        None => protocol.to_owned(),
    }
}

/// `code agent "text"` (RFC 3261 §20.43).
pub(crate) fn push_warning(cx: &Context, response: &mut Response, code: u16, text: &str) {
    let agent = &cx.config.proxy;
    response.headers.push(HeaderName::Warning, format!("{code} {agent} \"{text}\""));
}

/// Our Contact towards a peer that reaches us at this host and port.
pub(crate) fn contact(cx: &Context, leg: &ContactFor<'_>) -> NameAddr {
    let (host, port, transport) = match leg {
        ContactFor::Flow(flow) => {
            let (host, port) = cx.address_for(flow);
            (host, port, flow.transport)
        }
        ContactFor::Target(target) => {
            let (host, port) = match &target.reach {
                Reach::Flow(flow) => cx.address_for(flow),
                Reach::Region(..) => cx.config.inter_region.clone().unwrap_or_default(),
                _ => {
                    cx.address_by(target.transport, target.family == landline_control::IpFamily::V6)
                }
            };
            let transport = match target.reach {
                Reach::Region(..) => landline_sip::Transport::Tls,
                _ => target.transport,
            };
            (host, port, transport)
        }
    };
    let uri = own_uri(None, &host).with_port(port);
    NameAddr::new(match transport {
        landline_sip::Transport::Udp => uri,
        other => uri.with_param("transport", Some(other.uri_param())),
    })
}

pub(crate) enum ContactFor<'a> {
    Flow(&'a landline_sip::Flow),
    Target(&'a Target),
}

pub(crate) fn own_uri(user: Option<&str>, host: &str) -> Uri {
    Uri::sip(user, crate::context::host(host), None)
}

impl Identity {
    /// Towards who is rung in the callee's stead: a caller whom a carrier brought
    /// is shown to the next one by number.
    fn instead(mut self, stead: &Stead) -> Self {
        self.callee = stead.callee.clone();
        if self.number.is_none() && is_e164(self.user.expose()) && !self.is_private {
            self.number = Some(self.user.clone());
        }
        self
    }

    /// The From towards the callee.
    pub(crate) fn shown_from(&self, callee: &Side, domain: &str) -> NameAddr {
        let domain = self.domain.as_deref().unwrap_or(domain);
        let user = match callee {
            Side::Region(_) => Some(self.shown_to_region()),
            // RFC 3323 §4.1.1.3.
            _ if self.is_private => None,
            Side::User(_) => Some(self.user.expose().as_str()),
            Side::Trunk(_) => self.number.as_ref().map(|number| number.expose().as_str()),
        };
        let Some(user) = user else {
            // A user's name is no business of a carrier (RFC 3323 §4.1.1.3).
            let uri = own_uri(Some("anonymous"), "anonymous.invalid");
            return NameAddr::new(uri).with_display("Anonymous");
        };
        let from = NameAddr::new(own_uri(Some(user), domain));
        match (&self.display, callee) {
            (Some(display), Side::User(_)) => from.with_display(display.expose().clone()),
            _ => from,
        }
    }

    /// As the caller presents itself: by name to who was called by name, by
    /// number to who was called by number.
    fn shown_to_region(&self) -> &str {
        match is_e164(self.callee.expose()) {
            _ if self.is_private => "anonymous",
            false => self.user.expose(),
            true => self.number.as_ref().map_or("anonymous", |number| number.expose().as_str()),
        }
    }

    /// The To towards the callee.
    pub(crate) fn shown_to(&self, target: &Target, domain: &str) -> NameAddr {
        match &target.side {
            Side::User(_) => NameAddr::new(own_uri(Some(self.callee.expose()), domain)),
            Side::Trunk(_) | Side::Region(_) => {
                let mut uri = target.uri.clone();
                uri.params = landline_sip::Params::new();
                NameAddr::new(uri)
            }
        }
    }
}

impl Call {
    /// Our INVITE to the place a leg stands for, without its body.
    pub(super) fn invite(&mut self, cx: &Context, leg: usize) -> Option<Request> {
        let caller = self.legs.first().and_then(Leg::incoming).map(|it| &it.request);
        let passed: Vec<_> = PASSED
            .into_iter()
            .filter_map(|name| Some((name.clone(), caller?.headers.get(&name)?.clone())))
            .collect();
        let hops = caller.and_then(|it| it.max_forwards().ok().flatten()).unwrap_or(70);
        let identity = match self.rings_first() {
            true => self.identity_for_first(),
            false => self.identity_towards(self.legs.get(leg).map(|it| &it.side)),
        };
        let domain = self.account.domain.clone();
        let it = self.legs.get_mut(leg)?;
        let identity = match it.stead() {
            Some(stead) => identity.instead(stead),
            None => identity,
        };
        let mut from = identity.shown_from(&it.side, &domain);
        from.set_tag(&tag_text(it.tag));
        let is_away = it.side.is_region();
        let timer = it.timer.clone();
        // The former one's early dialogs have ended with it.
        it.dialog = None;
        let branch = it.branch()?;
        branch.cseq = branch.cseq.max(branch.early.cseq()) + 1;
        branch.early.clear();
        let target = &branch.target;
        let contact = contact(cx, &ContactFor::Target(target));
        let crosses = matches!(target.reach, Reach::Region(..));
        let mut request = Request::new(Method::Invite, target.uri.clone());
        let headers = &mut request.headers;
        for route in &target.routes {
            headers.push(HeaderName::Route, route);
        }
        headers.push(HeaderName::MaxForwards, hops.saturating_sub(1).to_string());
        headers.push(HeaderName::From, &from);
        headers.push(HeaderName::To, identity.shown_to(target, &domain));
        headers.push(HeaderName::CallId, branch.call_id.as_str());
        headers.push(HeaderName::CSeq, format!("{} INVITE", branch.cseq));
        headers.push(HeaderName::Contact, &contact);
        headers.push(HeaderName::Allow, allow_header());
        headers.push(HeaderName::Accept, accept_header());
        headers.push(HeaderName::Supported, OFFERED);
        timer.ask(cx.config.session_policy(), headers);
        if let (Some(join), true) = (self.join, is_away) {
            headers.push(join_header(), join.to_string());
        }
        if is_away {
            // What the call itself needs, and nothing else of the caller's.
            return Some(request);
        }
        if let Some(product) = &cx.config.product {
            headers.push(HeaderName::UserAgent, product.as_str());
        }
        if let Some(stead) = &target.stead {
            stead.tell(&target.side, &domain, headers);
        }
        // Who sent the call on answers for it to the carrier.
        let own = target.stead.as_ref().map_or(identity.number.as_ref(), |it| it.number());
        let is_told = matches!(&target.side, Side::Trunk(trunk) if trunk.asserted.is_told());
        if let (true, Some(number)) = (is_told, own) {
            let asserted = NameAddr::new(own_uri(Some(number.expose()), &domain));
            headers.push(HeaderName::PAssertedIdentity, &asserted);
            if identity.is_private {
                // For the carrier alone (RFC 3325 §9.3).
                headers.push(HeaderName::Privacy, "id");
            }
        }
        for (name, value) in passed {
            headers.push(name, value);
        }
        self.push_referred_by(&mut request.headers, leg);
        if crosses {
            // The callee's phone is behind another region's proxy.
            crossing::withhold(&mut request.headers);
        }
        Some(request)
    }
}

/// What only the peer that sent it may know.
pub(super) fn display_of(from: &NameAddr) -> Option<Personal<ByteStr>> {
    from.display.clone().filter(|it| !it.is_empty() && it.len() <= 128).map(Personal::new)
}

impl Leg {
    /// Proves ourselves to a trunk that asked for it.
    pub(super) fn prove(&mut self, cx: &mut Context, request: &mut Request) {
        let Side::Trunk(trunk) = &self.side else { return };
        let Some(credentials) = &trunk.credentials else { return };
        let Some(asked) = &mut self.challenged else { return };
        asked.count += 1;
        let answer = landline_sip::digest::answer(
            &asked.challenges,
            &request.method,
            &request.uri.to_string(),
            credentials.username.expose(),
            credentials.password.expose(),
            asked.count,
            &cx.entropy.hex::<8>(),
        );
        if let Some(answer) = answer {
            request.headers.set(asked.header.clone(), answer.to_string());
        }
    }

    /// An ACK carries its INVITE's credentials (RFC 3261 §22.1).
    pub(super) fn prove_like_invite(&self, ack: &mut Request) {
        let invite = self.branch_ref().and_then(|branch| branch.request.as_ref());
        for name in [HeaderName::ProxyAuthorization, HeaderName::Authorization] {
            if let Some(proof) = invite.and_then(|invite| invite.headers.get(&name)) {
                ack.headers.push(name, proof.clone());
            }
        }
    }
}
