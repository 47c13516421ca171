//! SUBSCRIBE (RFC 6665 §4.2.1): who may watch whom, and for how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use landline_sip::{
    Dialog, DialogId, Ended, EventType, Flow, HeaderName, Method, Request, Response, ServerKey,
    StatusCode,
};

use super::{Package, Subscription, SubscriptionKey, allow_events};
use crate::auth::strip_credentials;
use crate::call::{ContactFor, contact, push_warning, tag_number, tag_text};
use crate::core::Core;
use crate::route::{Reach, dialled};
use crate::tenancy::{Account, User};

/// Why a SUBSCRIBE is refused.
enum Refused {
    Status(StatusCode),
    /// With words for a Warning.
    Because(StatusCode, &'static str),
    /// RFC 6665 §8.3.2.
    BadEvent,
    /// Shorter than so many seconds are (§4.2.1.1).
    TooBrief(u64),
    OverLimit,
}

impl From<StatusCode> for Refused {
    fn from(status: StatusCode) -> Self {
        Self::Status(status)
    }
}

/// What a SUBSCRIBE asks for.
struct Wish {
    package: Package,
    event: EventType,
    lifetime: Duration,
}

impl Core {
    /// A SUBSCRIBE of a user, outside any dialog.
    pub(crate) fn subscribe(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        mut request: Request,
        account: &Arc<Account>,
        watcher: &Arc<User>,
    ) {
        if let Err(status) = self.hop(&mut request) {
            return self.refuse(key, &request, status);
        }
        if !self.understood(key, &request) {
            return;
        }
        match self.subscription(flow, &request, account, watcher) {
            Ok((name, lifetime)) => {
                self.cx.counters.subscriptions += 1;
                if let Some(it) = self.cx.subscriptions.all.get(&name) {
                    let response = agreed(&it.dialog, &request, lifetime);
                    self.cx.respond(key, response);
                }
                self.notify(name);
            }
            Err(refused) => self.refuse_subscription(key, &request, refused),
        }
    }

    fn subscription(
        &mut self,
        flow: &Flow,
        request: &Request,
        account: &Arc<Account>,
        watcher: &Arc<User>,
    ) -> Result<(SubscriptionKey, Duration), Refused> {
        let Wish { package, event, lifetime } = self.wish(request)?;
        let user = self.watched_user(request, account, watcher, package)?;
        let tag = self.cx.entropy.u64();
        let local = contact(&self.cx, &ContactFor::Flow(flow));
        let dialog = Dialog::uas(request, &tag_text(tag), local).map_err(|error| error.status())?;
        self.room_for(account, watcher, &user)?;
        let name = SubscriptionKey(tag);
        let now = self.cx.now.instant;
        let is_watched = self.cx.subscriptions.is_watched(user.sid);
        let sid = user.sid;
        let it = Subscription {
            package,
            event,
            account: account.clone(),
            watcher: watcher.sid,
            user,
            dialog,
            reach: Reach::back(flow, false),
            expires_at: now,
            version: 0,
            told: None,
            pending: None,
            not_before: now,
            is_due: true,
            is_asked: true,
            expiry_at: None,
            wake_at: None,
            ended: None,
            retries: 0,
        };
        self.cx.subscriptions.add(name, it);
        if !is_watched {
            self.look_at(sid);
        }
        self.lasts(name, now, lifetime);
        Ok((name, lifetime))
    }

    /// No time at all asks how things stand, once (§4.4.3).
    fn lasts(&mut self, name: SubscriptionKey, now: Instant, lifetime: Duration) {
        let Some(it) = self.cx.subscriptions.all.get_mut(&name) else { return };
        it.expires_at = now + lifetime;
        it.ended = lifetime.is_zero().then_some(Ended::Timeout);
        it.told = None;
        it.is_due = true;
        it.is_asked = true;
        self.watch_expiry(name);
    }

    fn wish(&self, request: &Request) -> Result<Wish, Refused> {
        let event = EventType::of(&request.headers).map_err(|_| Refused::BadEvent)?;
        let package = Package::ALL.into_iter().find(|it| it.name() == event.package);
        let package = package.ok_or(Refused::BadEvent)?;
        if !request.headers.accepts(package.content_type()) {
            return Err(StatusCode::NOT_ACCEPTABLE.into());
        }
        Ok(Wish { package, event, lifetime: self.lifetime(request)? })
    }

    /// As registrations.
    fn lifetime(&self, request: &Request) -> Result<Duration, Refused> {
        let timers = &self.cx.config.timers;
        let asked = request.expires().map_err(|_| StatusCode::BAD_REQUEST)?;
        match asked.map(|seconds| Duration::from_secs(seconds.into())) {
            None => Ok(timers.default_expiry),
            Some(asked) if !asked.is_zero() && asked < timers.min_expiry => {
                Err(Refused::TooBrief(timers.min_expiry.as_secs()))
            }
            Some(asked) => Ok(asked.min(timers.max_expiry)),
        }
    }

    /// Colleagues watch each other; a mailbox is its owner's.
    fn watched_user(
        &self,
        request: &Request,
        account: &Arc<Account>,
        watcher: &Arc<User>,
        package: Package,
    ) -> Result<Arc<User>, Refused> {
        if !self.cx.is_own_address(account, &request.uri) {
            let text = "users of other accounts are not watched";
            return Err(Refused::Because(StatusCode::FORBIDDEN, text));
        }
        let named = dialled(&request.uri).ok_or(StatusCode::ADDRESS_INCOMPLETE)?;
        let user = self.cx.tenants.user_dialled(account.sid, &named);
        let user = user.ok_or(StatusCode::NOT_FOUND)?;
        if package == Package::MessageSummary && user.sid != watcher.sid {
            let text = "a mailbox is its owner's to watch";
            return Err(Refused::Because(StatusCode::FORBIDDEN, text));
        }
        Ok(user.clone())
    }

    fn room_for(&self, account: &Account, watcher: &User, user: &User) -> Result<(), Refused> {
        let limits = &self.cx.config.limits;
        let all = &self.cx.subscriptions;
        let of = |count: Option<&usize>| count.copied().unwrap_or(0);
        let watchers = all.users.get(&user.sid).map_or(0, |it| it.watchers.len());
        let is_full = self.cx.closing
            || all.len() >= limits.subscriptions
            || of(all.accounts.get(&account.sid)) >= limits.subscriptions_per_account
            || of(all.watchers.get(&watcher.sid)) >= limits.subscriptions_per_user
            || watchers >= limits.watchers_per_user;
        if is_full { Err(Refused::OverLimit) } else { Ok(()) }
    }

    /// The subscription whose dialog a request is of.
    pub(crate) fn subscription_of(&self, request: &Request) -> Option<SubscriptionKey> {
        let name = SubscriptionKey(tag_number(request.to().ok()?.tag()?)?);
        let it = self.cx.subscriptions.all.get(&name)?;
        (DialogId::of_request(request).ok()? == it.dialog.id()).then_some(name)
    }

    /// Refreshes a subscription, or ends it (§4.2.1.2).
    pub(crate) fn in_subscription(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        mut request: Request,
        name: SubscriptionKey,
    ) {
        if !self.comes_from_watcher(key, flow, &request, name) {
            return;
        }
        strip_credentials(&mut request);
        match self.refreshed(&request, name) {
            Ok(response) => {
                self.cx.respond(key, response);
                self.notify(name);
            }
            Err(refused) => self.refuse_subscription(key, &request, refused),
        }
    }

    fn refreshed(&mut self, request: &Request, name: SubscriptionKey) -> Result<Response, Refused> {
        let gone = StatusCode::CALL_DOES_NOT_EXIST;
        let now = self.cx.now.instant;
        let known = self.cx.subscriptions.all.get_mut(&name).ok_or(gone)?;
        known.dialog.accept(request).map_err(|error| error.status())?;
        if request.method != Method::Subscribe {
            return Err(StatusCode::METHOD_NOT_ALLOWED.into());
        }
        if known.ended.is_some() {
            return Err(gone.into());
        }
        if EventType::of(&request.headers).as_ref() != Ok(&known.event) {
            return Err(Refused::BadEvent);
        }
        let lifetime = self.lifetime(request)?;
        let it = self.cx.subscriptions.all.get_mut(&name).ok_or(gone)?;
        it.dialog.refresh_target(request.contacts().map_err(|_| StatusCode::BAD_REQUEST)?);
        let response = agreed(&it.dialog, request, lifetime);
        self.lasts(name, now, lifetime);
        Ok(response)
    }

    /// As of calls: who knows a dialog's tags is not yet its peer.
    fn comes_from_watcher(
        &mut self,
        key: ServerKey,
        flow: &Flow,
        request: &Request,
        name: SubscriptionKey,
    ) -> bool {
        let Some(it) = self.cx.subscriptions.all.get(&name) else { return false };
        if it.reach.is_way_of(flow) {
            return true;
        }
        let (account, watcher) = (it.account.clone(), it.watcher);
        let is_proven = self.proves_to_be(key, flow, request, &account, watcher);
        if is_proven && let Some(it) = self.cx.subscriptions.all.get_mut(&name) {
            it.reach = Reach::back(flow, false);
        }
        is_proven
    }

    fn refuse_subscription(&mut self, key: ServerKey, request: &Request, refused: Refused) {
        self.cx.counters.subscriptions_refused += 1;
        let status = match &refused {
            Refused::Status(status) | Refused::Because(status, _) => *status,
            Refused::BadEvent => StatusCode::BAD_EVENT,
            Refused::TooBrief(_) => StatusCode::INTERVAL_TOO_BRIEF,
            Refused::OverLimit => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = self.cx.response(request, status);
        match refused {
            Refused::Status(_) => {}
            Refused::Because(_, text) => push_warning(&self.cx, &mut response, 399, text),
            Refused::BadEvent => response.headers.push(HeaderName::AllowEvents, allow_events()),
            Refused::TooBrief(seconds) => {
                response.headers.push(HeaderName::MinExpires, seconds.to_string());
            }
            Refused::OverLimit => {
                let seconds = 30 + self.cx.entropy.u64() % 60;
                response.headers.push(HeaderName::RetryAfter, seconds.to_string());
            }
        }
        self.cx.respond(key, response);
    }
}

fn agreed(dialog: &Dialog, request: &Request, lifetime: Duration) -> Response {
    let response = dialog.respond(request, StatusCode::OK);
    response.with_header(HeaderName::Expires, lifetime.as_secs().to_string())
}
