//! Requests: who may ask what, and who answers (RFC 3261 §8.2, §16).

use std::sync::Arc;

use landline_region::UserSid;
use landline_sip::{Flow, HeaderName, Host, Method, Request, Scheme, ServerKey, StatusCode, Uri};

use crate::auth::{Verdict, source_of, strip_credentials};
use crate::call::{Attempt, Call, SDP, accept_header, allow_header, push_warning, tag_number};
use crate::calls::CallKey;
use crate::core::Core;
use crate::directory::AccountEntry;
use crate::pager::PageAttempt;
use crate::pickup::Taker;
use crate::record::CallDirection;
use crate::registrar::register;
use crate::route::{Refusal, Route, Side, dialled};
use crate::subscriptions::allow_events;
use crate::tenancy::{Account, Trunk, User};

/// Who serves a request.
enum Serves {
    Here(Arc<Account>),
    NotYet,
    Elsewhere(AccountEntry),
    Nobody,
}

/// Extensions that a request may require of us.
const SUPPORTED: [&str; 7] =
    ["path", "outbound", "gruu", "timer", "100rel", "norefersub", "replaces"];

impl Core {
    pub(crate) fn request(&mut self, key: ServerKey, flow: Flow, request: Request) {
        let Some(request) = self.routed(Some(key), &flow, request) else { return };
        match request.is_in_dialog() {
            true => self.in_dialog(key, &flow, request),
            false => self.out_of_dialog(key, &flow, request),
        }
    }

    fn out_of_dialog(&mut self, key: ServerKey, flow: &Flow, request: Request) {
        if !matches!(request.uri.scheme, Scheme::Sip | Scheme::Sips | Scheme::Tel) {
            return self.refuse(key, &request, StatusCode::UNSUPPORTED_URI_SCHEME);
        }
        if is_ping(&request) {
            return self.answer_options(key, &request);
        }
        if self.is_answered_already(key, flow, &request) {
            return;
        }
        if self.is_region_call(flow, &request) {
            return self.region_call(key, flow, request);
        }
        if let Some((account, trunk, number)) = self.trunk_of(flow, &request) {
            return self.trunk_request(key, flow, request, &account, trunk, number);
        }
        match self.account_of(&request) {
            Serves::Here(account) => self.user_request(key, flow, request, &account),
            Serves::NotYet => self.refuse(key, &request, StatusCode::SERVICE_UNAVAILABLE),
            Serves::Elsewhere(entry) => self.send_home(key, flow, request, &entry),
            Serves::Nobody => self.unknown_domain(key, &request),
        }
    }

    /// Whose account a request is a matter of: the caller's own, wherever it
    /// wants to go; for who registers, or calls from a domain that nobody has,
    /// the one the Request-URI names.
    fn account_of(&self, request: &Request) -> Serves {
        let uri = &request.uri;
        let named = uri.is_sip().then_some(&uri.host);
        let from = request.from().ok();
        let from = from.as_ref().map(|from| &from.uri.host);
        let domains = match request.method {
            Method::Register => [named, from],
            _ => [from, named],
        };
        let known = domains.into_iter().flatten().map(|host| self.serves(host));
        known.into_iter().find(|it| !matches!(it, Serves::Nobody)).unwrap_or(Serves::Nobody)
    }

    fn serves(&self, host: &Host) -> Serves {
        let Some(domain) = host.name() else { return Serves::Nobody };
        let domain = domain.to_ascii_lowercase();
        if let Some(account) = self.cx.tenants.by_domain(&domain) {
            return Serves::Here(account.clone());
        }
        match self.cx.directory.account(&domain) {
            // Ours by the directory, and not yet loaded.
            Some(entry) if entry.home_region == self.cx.config.region => Serves::NotYet,
            Some(entry) => Serves::Elsewhere(entry.clone()),
            None => Serves::Nobody,
        }
    }

    fn unknown_domain(&mut self, key: ServerKey, request: &Request) {
        self.cx.counters.unknown_domains += 1;
        let mut response = self.cx.response(request, StatusCode::NOT_FOUND);
        push_warning(&self.cx, &mut response, 399, "no account has this domain");
        self.cx.respond(key, response);
    }

    /// The trunk a request comes in by: told by its source, unless it claims
    /// to be of a user, who has to prove that wherever he is.
    fn trunk_of(
        &self,
        flow: &Flow,
        request: &Request,
    ) -> Option<(Arc<Account>, Arc<Trunk>, String)> {
        if flow.peer.is_some() || request.method != Method::Invite {
            return None;
        }
        let proven = self.cx.proven.get(&flow.id).into_iter().flatten();
        let proven = proven.flat_map(|domain| self.cx.tenants.trunks_of(domain));
        let mut trunks = proven.chain(self.cx.tenants.trunks_from(flow.remote.ip())).peekable();
        trunks.peek()?;
        if self.claims_user(request) {
            return None;
        }
        let to = request.to().ok().and_then(|to| dialled(&to.uri));
        let asked = dialled(&request.uri).or_else(|| to.clone())?;
        let mut first = None;
        for trunk in trunks {
            let Some(account) = self.cx.tenants.account(trunk.account) else { continue };
            for number in [Some(&asked), to.as_ref()].into_iter().flatten() {
                if self.cx.trunk_number(account, number).is_some() {
                    return Some((account.clone(), trunk.clone(), number.clone()));
                }
            }
            first.get_or_insert_with(|| (account.clone(), trunk.clone(), asked.clone()));
        }
        first
    }

    fn claims_user(&self, request: &Request) -> bool {
        if request.headers.contains(&HeaderName::ProxyAuthorization) {
            return true;
        }
        let Ok(from) = request.from() else { return false };
        let domain = from.uri.host.to_string().to_ascii_lowercase();
        let account = self.cx.tenants.by_domain(&domain);
        let user = from.uri.user_decoded();
        account
            .zip(user)
            .is_some_and(|(account, user)| self.cx.tenants.user(account.sid, &user).is_some())
    }

    fn trunk_request(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        mut request: Request,
        account: &Arc<Account>,
        trunk: Arc<Trunk>,
        number: String,
    ) {
        strip_credentials(&mut request);
        if !self.may_go_on(key, &mut request) || !self.takes_nothing(key, &request) {
            return;
        }
        let route = self.cx.route_from_trunk(account, &number);
        self.open(Attempt {
            key,
            flow: flow.clone(),
            request,
            account: account.clone(),
            caller: Side::Trunk(trunk),
            dialled: number,
            route,
            join: None,
        });
    }

    fn user_request(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        mut request: Request,
        account: &Arc<Account>,
    ) {
        let source = source_of(flow, &request);
        let user = match self.auth.judge(&mut self.cx, account, &request, source) {
            Verdict::Accepted(user) => user,
            Verdict::Challenge { stale } => {
                let response = self.auth.challenge(&mut self.cx, account, &request, stale);
                return self.cx.respond(key, response);
            }
            Verdict::ShutOut => return self.refuse(key, &request, StatusCode::FORBIDDEN),
        };
        strip_credentials(&mut request);
        if !speaks_for_itself(&request, account, &user) {
            return self.refuse(key, &request, StatusCode::FORBIDDEN);
        }
        match request.method {
            Method::Register => {
                if self.understood(key, &request) {
                    register(&mut self.cx, account, &user, key, flow, &request);
                }
            }
            Method::Invite => self.invite(key, flow, request, account, user),
            Method::Message => self.message(key, flow, request, account, user),
            Method::Subscribe => self.subscribe(key, flow, request, account, &user),
            Method::Options => self.answer_options(key, &request),
            Method::Refer => self.refuse_stray_refer(key, &request),
            Method::Bye | Method::Update | Method::Info | Method::Prack => {
                self.cx.counters.stray_dialog_requests += 1;
                self.cx.reply(key, &request, StatusCode::CALL_DOES_NOT_EXIST);
            }
            _ => self.not_allowed(key, &request),
        }
    }

    fn invite(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        mut request: Request,
        account: &Arc<Account>,
        user: Arc<User>,
    ) {
        if !self.may_go_on(key, &mut request) {
            return;
        }
        let replaces = match self.replaces(&request) {
            Ok(replaces) => replaces,
            Err(refused) => return self.refuse_taking(key, &request, refused),
        };
        if let Some(replaces) = replaces {
            let by = Taker { key, flow: flow.clone(), request, account: account.clone(), user };
            return self.take_place(by, &replaces);
        }
        let Some(dialled) = dialled(&request.uri) else {
            return self.refuse(key, &request, StatusCode::ADDRESS_INCOMPLETE);
        };
        let own = self.own_mailbox(account, &user, &request.uri, &dialled);
        let coded = match &own {
            Some(_) => None,
            None => self.coded(account, &user, &request.uri, &dialled),
        };
        let (route, dialled) = match coded {
            Some(Ok((call, instead))) => {
                let by = Taker { key, flow: flow.clone(), request, account: account.clone(), user };
                return self.pick_up(by, call, instead);
            }
            Some(Err(refusal)) => (Err(refusal), dialled),
            None => match own {
                Some(route) => (Ok(route), dialled),
                None => self.route_to_uri(account, &request.uri, dialled),
            },
        };
        self.open(Attempt {
            key,
            flow: flow.clone(),
            request,
            account: account.clone(),
            caller: Side::User(user),
            dialled,
            route,
            join: None,
        });
    }

    fn message(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        mut request: Request,
        account: &Arc<Account>,
        user: Arc<User>,
    ) {
        if !self.may_go_on(key, &mut request) {
            return;
        }
        if self.cx.is_too_large(flow.transport, &request) {
            self.cx.counters.messages_refused += 1;
            return self.refuse(key, &request, StatusCode::REQUEST_ENTITY_TOO_LARGE);
        }
        let Some(dialled) = dialled(&request.uri) else {
            return self.refuse(key, &request, StatusCode::ADDRESS_INCOMPLETE);
        };
        let route = self.cx.route_page(account, &request.uri, &dialled);
        let (account, sender) = (account.clone(), Side::User(user));
        self.page(PageAttempt { key, request, account, sender, dialled, route });
    }

    /// Where an address leads that a user of the account dialled, and how the
    /// record names it.
    pub(crate) fn route_to_uri(
        &self,
        account: &Account,
        uri: &Uri,
        dialled: String,
    ) -> (Result<Route, Refusal>, String) {
        // Nobody calls out of the account but by its trunks, and to accounts
        // that the directory knows.
        if self.cx.is_own_address(account, uri) {
            let gruu = self.cx.route_to_gruu(account, uri, CallDirection::Internal);
            return gruu.unwrap_or_else(|| (self.cx.route_from_user(account, &dialled), dialled));
        }
        let domain = uri.host.to_string().to_ascii_lowercase();
        (self.cx.route_away(account, uri, &dialled), format!("{dialled}@{domain}"))
    }

    pub(crate) fn open(&mut self, attempt: Attempt) {
        let key = self.calls.next_key();
        let call = Call::open(key, &mut self.cx, attempt);
        self.calls.insert(call);
        self.with(key, |_, _| {});
    }

    /// One hop less, and understood. Answers what may not go on.
    fn may_go_on(&mut self, key: ServerKey, request: &mut Request) -> bool {
        if let Err(status) = self.hop(request) {
            self.refuse(key, request, status);
            return false;
        }
        self.understood(key, request)
    }

    /// Extensions that are required and content that is sent
    /// (RFC 3261 §8.2.2.3, §8.2.3). Answers what is not understood.
    pub(crate) fn understood(&mut self, key: ServerKey, request: &Request) -> bool {
        let unknown: Vec<_> = [HeaderName::Require, HeaderName::ProxyRequire]
            .iter()
            .flat_map(|name| request.headers.tokens(name))
            .filter(|tag| !SUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(tag)))
            .take(16)
            .collect();
        if !unknown.is_empty() {
            self.cx.counters.unsupported_extensions += 1;
            let mut response = self.cx.response(request, StatusCode::BAD_EXTENSION);
            response.headers.push(HeaderName::Unsupported, unknown.join(", "));
            self.cx.respond(key, response);
            return false;
        }
        let makes_session = matches!(request.method, Method::Invite | Method::Update);
        let policy = self.cx.config.session_policy();
        if makes_session && policy.refuses(&request.headers) {
            self.interval_too_small(key, request, policy.least());
            return false;
        }
        if !is_readable(request) {
            self.unreadable(key, request);
            return false;
        }
        if makes_session && !request.headers.accepts(SDP) {
            self.refuse(key, request, StatusCode::NOT_ACCEPTABLE);
            return false;
        }
        true
    }

    /// RFC 4028 §9.
    fn interval_too_small(&mut self, key: ServerKey, request: &Request, least: u32) {
        self.cx.counters.session_intervals_refused += 1;
        let status = StatusCode::SESSION_INTERVAL_TOO_SMALL;
        let mut response = self.cx.response(request, status);
        response.headers.push(HeaderName::MinSe, least.to_string());
        self.cx.respond(key, response);
    }

    /// A body of a kind that is not taken (RFC 3261 §21.4.13).
    pub(crate) fn unreadable(&mut self, key: ServerKey, request: &Request) {
        self.cx.counters.requests_refused += 1;
        let mut response = self.cx.response(request, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        response.headers.push(HeaderName::Accept, accept_header());
        response.headers.push(HeaderName::AcceptEncoding, "identity");
        self.cx.respond(key, response);
    }

    fn answer_options(&mut self, key: ServerKey, request: &Request) {
        if !self.understood(key, request) {
            return;
        }
        let mut response = self.cx.response(request, StatusCode::OK);
        response.headers.push(HeaderName::Allow, allow_header());
        response.headers.push(HeaderName::Accept, accept_header());
        response.headers.push(HeaderName::Supported, SUPPORTED.join(", "));
        response.headers.push(HeaderName::AllowEvents, allow_events());
        self.cx.respond(key, response);
    }

    fn not_allowed(&mut self, key: ServerKey, request: &Request) {
        self.cx.counters.unsupported_methods += 1;
        let mut response = self.cx.response(request, StatusCode::METHOD_NOT_ALLOWED);
        response.headers.push(HeaderName::Allow, allow_header());
        self.cx.respond(key, response);
    }

    pub(crate) fn refuse(&mut self, key: ServerKey, request: &Request, status: StatusCode) {
        self.cx.counters.requests_refused += 1;
        self.cx.reply(key, request, status);
    }

    /// The leg a request belongs to, by our tag in its To.
    pub(crate) fn dialog_of(&mut self, request: &Request) -> Option<(CallKey, usize)> {
        let to = request.to().ok()?;
        let (key, leg) = *self.cx.dialogs.get(&tag_number(to.tag()?)?)?;
        let call = self.calls.get(key)?;
        let dialog = call.legs.get(leg)?.dialog.as_ref()?;
        let from = request.from().ok()?;
        let same = request.call_id().is_ok_and(|it| it == *dialog.call_id())
            && from.tag().unwrap_or_default() == dialog.remote().tag().unwrap_or_default();
        same.then_some((key, leg))
    }

    /// A request within a dialog: from where its leg is, or proven anew.
    fn in_dialog(&mut self, key: ServerKey, flow: &Flow, mut request: Request) {
        if let Some(name) = self.subscription_of(&request) {
            return self.in_subscription(key, flow, request, name);
        }
        let mut found = self.dialog_of(&request);
        if found.is_none() && self.take_over_for(&request) {
            found = self.dialog_of(&request);
        }
        let Some((call, leg)) = found else {
            self.cx.counters.stray_dialog_requests += 1;
            return self.cx.reply(key, &request, StatusCode::CALL_DOES_NOT_EXIST);
        };
        if !self.comes_from_leg(key, flow, &request, call, leg) {
            return;
        }
        strip_credentials(&mut request);
        let Some(accepted) = self.accept(call, leg, &request) else { return };
        if let Err(status) = accepted {
            let mut response = self.cx.response(&request, status);
            if status == StatusCode::SERVER_INTERNAL_ERROR {
                let seconds = self.cx.entropy.u64() % 11;
                response.headers.push(HeaderName::RetryAfter, seconds.to_string());
            }
            return self.cx.respond(key, response);
        }
        if request.method == Method::Message && self.cx.is_too_large(flow.transport, &request) {
            self.cx.counters.messages_refused += 1;
            return self.refuse(key, &request, StatusCode::REQUEST_ENTITY_TOO_LARGE);
        }
        let has_session = matches!(request.method, Method::Invite | Method::Update);
        let refers = request.method == Method::Refer;
        if (has_session || refers) && !self.understood(key, &request) {
            return;
        }
        if refers {
            return self.refer(key, call, leg, &request);
        }
        self.with(call, |call, cx| match request.method {
            Method::Bye => call.bye(cx, leg, key, &request),
            _ if call.is_ending() => call.gone(cx, key, &request),
            Method::Invite | Method::Update => call.modify(cx, leg, key, request),
            Method::Info | Method::Message => call.pass(cx, leg, key, request),
            Method::Options => call.answer_here(cx, leg, key, &request, StatusCode::OK),
            Method::Prack => call.prack(cx, leg, key, &request),
            _ => {
                cx.counters.unsupported_methods += 1;
                call.answer_here(cx, leg, key, &request, StatusCode::METHOD_NOT_ALLOWED);
            }
        });
    }

    fn accept(
        &mut self,
        call: CallKey,
        leg: usize,
        request: &Request,
    ) -> Option<Result<(), StatusCode>> {
        let dialog = self.calls.get(call)?.legs.get_mut(leg)?.dialog_for(request)?;
        Some(dialog.accept(request).map_err(|error| error.status()))
    }

    /// Whoever knows the dialog's tags is not yet its peer: the request has to
    /// come the way the peer is known to be, or be proven.
    fn comes_from_leg(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        request: &Request,
        call: CallKey,
        leg: usize,
    ) -> bool {
        let Some(it) = self.calls.get(call) else { return false };
        let account = it.account.clone();
        let index = leg;
        let Some(leg) = it.legs.get_mut(index) else { return false };
        if leg.came_by(flow) {
            return true;
        }
        let expected = match &leg.side {
            Side::User(user) => user.sid,
            Side::Trunk(_) | Side::Region(_) => {
                self.refuse(key, request, StatusCode::FORBIDDEN);
                return false;
            }
        };
        let is_proven = self.proves_to_be(key, flow, request, &account, expected);
        if is_proven && let Some(it) = self.calls.get(call) {
            it.legs.get_mut(index).into_iter().for_each(|leg| leg.moved_to(flow));
            it.record_edge(&mut self.cx, index);
            it.keep(&mut self.cx);
        }
        is_proven
    }

    /// Whether who sends this within a dialog proves to be the user whose it is;
    /// answered if not.
    pub(crate) fn proves_to_be(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        request: &Request,
        account: &Arc<Account>,
        expected: UserSid,
    ) -> bool {
        match self.auth.judge(&mut self.cx, account, request, source_of(flow, request)) {
            Verdict::Accepted(user) if user.sid == expected => true,
            Verdict::Accepted(_) | Verdict::ShutOut => {
                self.refuse(key, request, StatusCode::FORBIDDEN);
                false
            }
            Verdict::Challenge { stale } => {
                self.cx.counters.dialog_challenges += 1;
                let response = self.auth.challenge(&mut self.cx, account, request, stale);
                self.cx.respond(key, response);
                false
            }
        }
    }
}

/// Asks the server itself whether it lives, as phones and carriers do to keep
/// their way open: the answer says nothing of any account.
fn is_ping(request: &Request) -> bool {
    request.method == Method::Options && request.uri.user.is_none()
}

/// A user speaks for itself alone: From, and the address that is registered.
fn speaks_for_itself(request: &Request, account: &Account, user: &User) -> bool {
    let is_own = |uri: &landline_sip::Uri| {
        uri.is_sip()
            && uri.user_decoded().is_some_and(|it| it == user.name.expose().as_str())
            && uri.host.to_string().eq_ignore_ascii_case(&account.domain)
    };
    let from = request.from().is_ok_and(|from| is_own(&from.uri));
    match request.method {
        Method::Register => from && request.to().is_ok_and(|to| is_own(&to.uri)),
        _ => from,
    }
}

/// No body, or one session description as it is.
fn is_readable(request: &Request) -> bool {
    let encoded = request
        .headers
        .values(&HeaderName::ContentEncoding)
        .any(|it| !it.eq_ignore_case("identity"));
    if request.method == Method::Message {
        // Its text is for whom it is sent to.
        return true;
    }
    if request.body.is_empty() || request.method == Method::Register {
        return !encoded || request.body.is_empty();
    }
    let kind = request.content_type().ok().flatten();
    !encoded && kind.is_some_and(|kind| kind.is("application", "sdp"))
}
