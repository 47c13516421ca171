//! NOTIFY (RFC 6665 §4.2.2): when watchers are told, and what becomes of those
//! who do not want to hear it.

use std::time::Duration;

use landline_sip::{
    ClientKey, Destination, Ended, FailureCause, HeaderName, Method, Request, Response, StatusCode,
    SubscriptionState,
};

use super::body;
use super::{Mailbox, Package, Presence, Subscription, SubscriptionKey, Told};
use crate::context::{ClientUse, Context};
use crate::core::Core;
use crate::timers::Timer;

/// Between two notifications of one subscription: what happens meanwhile is told
/// together (RFC 4235 §3.10).
const GAP: Duration = Duration::from_secs(1);
/// Longest wait that a watcher may ask for by Retry-After, and how often.
const PATIENCE: Duration = Duration::from_secs(300);
const RETRIES: u8 = 3;
/// Dialogs that one document tells of, the oldest first.
const DIALOGS: usize = 8;

impl Core {
    /// Whatever has changed since is told to whom it concerns.
    pub(crate) fn tell_watchers(&mut self) {
        while let Some(user) = self.cx.subscriptions.touched.pop_first() {
            let Some(watched) = self.cx.subscriptions.users.get(&user) else { continue };
            for name in watched.watchers.iter().copied().collect::<Vec<_>>() {
                let Some(it) = self.cx.subscriptions.all.get(&name) else { continue };
                let is_news = it.told.is_none() || it.told != Some(self.cx.to_tell(it));
                if is_news {
                    self.news(name);
                }
            }
        }
    }

    fn news(&mut self, name: SubscriptionKey) {
        if let Some(it) = self.cx.subscriptions.all.get_mut(&name) {
            it.is_due = true;
            self.notify(name);
        }
    }

    /// Tells how things stand, or sees to it that it is told later.
    pub(super) fn notify(&mut self, name: SubscriptionKey) {
        let now = self.cx.now.instant;
        let Some(it) = self.cx.subscriptions.all.get(&name) else { return };
        if it.pending.is_some() || !it.is_due {
            return;
        }
        if !it.is_asked && it.ended.is_none() && it.not_before > now {
            return self.wake_for(name);
        }
        let told = self.cx.to_tell(it);
        let Some(it) = self.cx.subscriptions.all.get_mut(&name) else { return };
        let left = it.expires_at.saturating_duration_since(now).as_secs();
        let state = match it.ended {
            Some(ended) => SubscriptionState::Terminated(ended),
            None => SubscriptionState::Active(u32::try_from(left).unwrap_or(u32::MAX)),
        };
        let notify = it.notification(state, &told);
        it.told = Some(told);
        (it.is_due, it.is_asked) = (false, false);
        it.not_before = now + GAP;
        let it = self.cx.subscriptions.all.get(&name);
        let Some(destination) = it.and_then(|it| it.destination(&self.cx)) else {
            return self.forget_subscription(name);
        };
        self.cx.counters.notifications += 1;
        let client = self.cx.send(ClientUse::Notify(name), notify, destination);
        if let Some(it) = self.cx.subscriptions.all.get_mut(&name) {
            it.pending = Some(client);
        }
    }

    pub(crate) fn notify_response(
        &mut self,
        name: SubscriptionKey,
        client: ClientKey,
        response: &Response,
    ) {
        let status = response.status;
        if status.is_provisional() {
            return;
        }
        let now = self.cx.now.instant;
        let Some(it) = self.cx.subscriptions.all.get_mut(&name) else { return };
        if it.pending != Some(client) {
            return;
        }
        it.pending = None;
        let again = retry_after(response).filter(|_| it.retries < RETRIES && it.ended.is_none());
        match (status.is_success(), again) {
            (true, _) if it.ended.is_some() && !it.is_due => self.cx.subscriptions.remove(name),
            (true, _) => {
                it.retries = 0;
                self.notify(name);
            }
            // §4.2.2: it wants to hear it, and not now.
            (false, Some(wait)) if status != StatusCode::CALL_DOES_NOT_EXIST => {
                it.retries += 1;
                it.is_due = true;
                // Whether it knows what it refused is not known.
                it.told = None;
                it.not_before = now + wait;
                self.wake_for(name);
            }
            (false, _) => self.forget_subscription(name),
        }
    }

    /// It cannot be told, and so is not subscribed any more.
    pub(crate) fn notify_lost(&mut self, name: SubscriptionKey, _: FailureCause) {
        self.forget_subscription(name);
    }

    fn forget_subscription(&mut self, name: SubscriptionKey) {
        self.cx.counters.subscriptions_lost += 1;
        self.cx.subscriptions.remove(name);
    }

    /// However often it is refreshed, one timer finds out that it is not.
    pub(super) fn watch_expiry(&mut self, name: SubscriptionKey) {
        let Some(it) = self.cx.subscriptions.all.get_mut(&name) else { return };
        let at = it.expires_at;
        if it.ended.is_none() && it.expiry_at.is_none_or(|planned| at < planned) {
            it.expiry_at = Some(at);
            self.cx.timers.set(at, Timer::Subscription(name));
        }
    }

    /// As soon as it may be told.
    fn wake_for(&mut self, name: SubscriptionKey) {
        let Some(it) = self.cx.subscriptions.all.get_mut(&name) else { return };
        if it.wake_at.is_none() {
            it.wake_at = Some(it.not_before);
            self.cx.timers.set(it.not_before, Timer::Subscription(name));
        }
    }

    /// Something of this subscription is due: its end, or what waited.
    pub(crate) fn subscription_due(&mut self, name: SubscriptionKey) {
        let now = self.cx.now.instant;
        let Some(it) = self.cx.subscriptions.all.get_mut(&name) else { return };
        it.expiry_at = it.expiry_at.filter(|at| *at > now);
        it.wake_at = it.wake_at.filter(|at| *at > now);
        if it.expires_at <= now && it.ended.is_none() {
            self.cx.counters.subscriptions_expired += 1;
            return self.end_subscription(name, Ended::Timeout);
        }
        self.watch_expiry(name);
        self.notify(name);
    }

    fn end_subscription(&mut self, name: SubscriptionKey, ended: Ended) {
        if let Some(it) = self.cx.subscriptions.all.get_mut(&name) {
            it.ended = Some(ended);
            self.news(name);
        }
    }

    /// The accounts changed: nobody watches, or is watched, who is no more.
    pub(crate) fn check_subscriptions(&mut self) {
        let tenants = self.cx.tenants.clone();
        // Messages came or went.
        let subscriptions = &mut self.cx.subscriptions;
        let summaries = subscriptions.all.values();
        let summaries = summaries.filter(|it| it.package == Package::MessageSummary);
        subscriptions.touched.extend(summaries.map(|it| it.user.sid));
        let is_there = |it: &Subscription, user| {
            tenants.user_by_sid(user).is_some_and(|user| user.account == it.account.sid)
        };
        let mut over: Vec<_> = self
            .cx
            .subscriptions
            .all
            .iter()
            .filter(|(_, it)| it.ended.is_none())
            .filter_map(|(name, it)| match () {
                () if !is_there(it, it.watcher) => Some((*name, Ended::Rejected)),
                () if !is_there(it, it.user.sid) => Some((*name, Ended::NoResource)),
                () => None,
            })
            .collect();
        over.sort_unstable_by_key(|(name, _)| *name);
        for (name, ended) in over {
            self.end_subscription(name, ended);
        }
    }
}

impl Context {
    /// How things stand.
    fn to_tell(&self, it: &Subscription) -> Told {
        let watched = self.subscriptions.users.get(&it.user.sid);
        // Nothing of it is theirs to see any more.
        let is_over = matches!(it.ended, Some(Ended::Rejected | Ended::NoResource));
        let watched = watched.filter(|_| !is_over);
        match it.package {
            Package::Dialog => {
                let dialogs = watched.map(|it| it.dialogs.values().take(DIALOGS).cloned());
                Told::Dialogs(dialogs.into_iter().flatten().collect())
            }
            Package::MessageSummary => {
                let user = self.tenants.user_by_sid(it.user.sid).filter(|_| !is_over);
                let mailbox = user.map(|user| user.mailbox).unwrap_or_default();
                Told::Mailbox(Mailbox { new: mailbox.new, old: mailbox.old })
            }
            Package::Presence => {
                let now = self.now.unix;
                Told::Presence(Presence {
                    is_registered: !is_over
                        && self.registrar.contacts(it.user.sid, now).next().is_some(),
                    is_on_the_phone: watched.is_some_and(|it| !it.dialogs.is_empty()),
                })
            }
        }
    }
}

impl Subscription {
    fn notification(&mut self, state: SubscriptionState, tell: &Told) -> Request {
        let entity = format!("sip:{}@{}", self.user.name.expose(), self.account.domain);
        let version = self.version;
        self.version = self.version.wrapping_add(1);
        let text = match (tell, &self.told) {
            (Told::Dialogs(now), Some(Told::Dialogs(known))) => {
                body::dialogs_changed(&entity, version, known, now)
            }
            (Told::Dialogs(now), _) => body::dialogs(&entity, version, now),
            (Told::Mailbox(mailbox), _) => body::mailbox(&entity, *mailbox),
            (Told::Presence(presence), _) => body::presence(&entity, *presence),
        };
        let mut notify = self.dialog.request(Method::Notify);
        notify.headers.push(HeaderName::Event, self.event.to_string());
        notify.headers.push(HeaderName::SubscriptionState, state.to_string());
        notify.set_body(self.package.content_type(), text);
        notify
    }

    fn destination(&self, cx: &Context) -> Option<Destination> {
        self.reach.destination(cx, Some(&self.dialog), None)
    }
}

/// RFC 3261 §20.33.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers.get(&HeaderName::RetryAfter)?;
    let text = value.to_str_lossy();
    let digits: String = text.chars().take_while(char::is_ascii_digit).take(6).collect();
    Some(Duration::from_secs(digits.parse().ok()?).clamp(GAP, PATIENCE))
}
