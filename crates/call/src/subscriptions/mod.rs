//! Who watches whom (RFC 6665): the subscriptions of a region's users to each
//! other's calls, to their mailboxes and to who is there.
//!
//! Kept in memory alone: a phone whose proxy was replaced hears 481 at its next
//! refresh and subscribes anew (ADR 026). What is told is worked out when
//! something changed and one may be told; nobody is sent more than one
//! notification at a time, nor more than one a second.

mod accept;
mod body;
mod notify;
mod watched;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use landline_region::{AccountSid, UserSid};
use landline_sip::{ClientKey, Dialog, Ended, EventType};
use rustc_hash::FxHashMap;

use crate::calls::CallKey;
use crate::route::Reach;
use crate::tenancy::{Account, User};

use watched::Watched;
pub(crate) use watched::{DialogSeen, Progress};

/// Names a subscription: the number in our tag of its dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubscriptionKey(u64);

/// What may be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    /// A user's calls (RFC 4235).
    Dialog,
    /// One's own mailbox (RFC 3842).
    MessageSummary,
    /// Whether a user is there, and on the phone (RFC 3856).
    Presence,
}

impl Package {
    const ALL: [Self; 3] = [Self::Dialog, Self::MessageSummary, Self::Presence];

    const fn name(self) -> &'static str {
        match self {
            Self::Dialog => "dialog",
            Self::MessageSummary => "message-summary",
            Self::Presence => "presence",
        }
    }

    /// Media type of what is told.
    const fn content_type(self) -> &'static str {
        match self {
            Self::Dialog => "application/dialog-info+xml",
            Self::MessageSummary => "application/simple-message-summary",
            Self::Presence => "application/pidf+xml",
        }
    }
}

/// RFC 6665 §8.2.2.
pub(crate) fn allow_events() -> String {
    Package::ALL.map(Package::name).join(", ")
}

struct Subscription {
    package: Package,
    event: EventType,
    account: Arc<Account>,
    watcher: UserSid,
    user: Arc<User>,
    dialog: Dialog,
    reach: Reach,
    expires_at: Instant,
    /// Of the next document (RFC 4235 §4.1).
    version: u32,
    /// What the watcher knows; `None` where it is to be told all.
    told: Option<Told>,
    /// The NOTIFY that is not answered.
    pending: Option<ClientKey>,
    /// No other NOTIFY before that.
    not_before: Instant,
    /// Something is to be told as soon as that may be.
    is_due: bool,
    /// It asked anew and is answered at once (RFC 6665 §4.2.1.2).
    is_asked: bool,
    /// When a timer looks whether it has expired, and whether something may be
    /// told by then: one of each, for timers are not taken back.
    expiry_at: Option<Instant>,
    wake_at: Option<Instant>,
    /// The next NOTIFY is the last.
    ended: Option<Ended>,
    retries: u8,
}

/// What a watcher was told last.
#[derive(Clone, PartialEq, Eq)]
enum Told {
    Dialogs(Vec<DialogSeen>),
    Mailbox(Mailbox),
    Presence(Presence),
}

/// How many messages wait (RFC 3842 §3.5): new and old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mailbox {
    new: u32,
    old: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Presence {
    is_registered: bool,
    is_on_the_phone: bool,
}

#[derive(Default)]
pub(crate) struct Subscriptions {
    all: FxHashMap<SubscriptionKey, Subscription>,
    users: FxHashMap<UserSid, Watched>,
    /// Watched users who have a part in a call.
    parties: FxHashMap<CallKey, Vec<UserSid>>,
    watchers: FxHashMap<UserSid, usize>,
    accounts: FxHashMap<AccountSid, usize>,
    /// Users of whom something changed.
    touched: BTreeSet<UserSid>,
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_watched(&self, user: UserSid) -> bool {
        self.users.contains_key(&user)
    }

    /// Something changed that this user's watchers may want to know.
    pub(crate) fn touch(&mut self, user: UserSid) {
        if self.is_watched(user) {
            self.touched.insert(user);
        }
    }

    fn add(&mut self, key: SubscriptionKey, it: Subscription) {
        *self.watchers.entry(it.watcher).or_default() += 1;
        *self.accounts.entry(it.account.sid).or_default() += 1;
        self.users.entry(it.user.sid).or_default().watchers.insert(key);
        self.all.insert(key, it);
    }

    fn remove(&mut self, key: SubscriptionKey) {
        let Some(it) = self.all.remove(&key) else { return };
        one_less(&mut self.watchers, it.watcher);
        one_less(&mut self.accounts, it.account.sid);
        if let Some(watched) = self.users.get_mut(&it.user.sid) {
            watched.watchers.remove(&key);
            if watched.watchers.is_empty() {
                self.users.remove(&it.user.sid);
            }
        }
        if self.users.is_empty() {
            self.parties.clear();
        }
    }
}

fn one_less<K: std::hash::Hash + Eq>(table: &mut FxHashMap<K, usize>, key: K) {
    if let Some(count) = table.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            table.remove(&key);
        }
    }
}
