//! What there is to see of a watched user's calls.

use std::collections::{BTreeMap, BTreeSet};

use landline_region::UserSid;

use super::{SubscriptionKey, Subscriptions};
use crate::calls::CallKey;
use crate::core::Core;

/// How far a call is, for one of its parties (RFC 4235 §3.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    Trying,
    Early,
    Confirmed,
}

/// One call of a watched user's, as one of its phones knows the dialog.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DialogSeen {
    pub call: CallKey,
    pub call_id: String,
    /// `None` until the phone rings.
    pub phones_tag: Option<String>,
    pub our_tag: String,
    /// The user called, and was not called.
    pub is_initiator: bool,
    pub progress: Progress,
}

#[derive(Default)]
pub(super) struct Watched {
    pub watchers: BTreeSet<SubscriptionKey>,
    /// In the order that the calls began.
    pub dialogs: BTreeMap<CallKey, DialogSeen>,
}

impl Subscriptions {
    /// How a call stands now, for those of its users who are watched: who is not
    /// among them has no part in it any more.
    fn call_changed(&mut self, call: CallKey, seen: Vec<(UserSid, DialogSeen)>) {
        let before = self.parties.remove(&call).unwrap_or_default();
        let now: Vec<UserSid> = seen.iter().map(|(user, _)| *user).collect();
        for user in before.into_iter().filter(|user| !now.contains(user)) {
            if let Some(watched) = self.users.get_mut(&user) {
                watched.dialogs.remove(&call);
                self.touched.insert(user);
            }
        }
        for (user, dialog) in seen {
            let Some(watched) = self.users.get_mut(&user) else { continue };
            if watched.dialogs.get(&call) != Some(&dialog) {
                watched.dialogs.insert(call, dialog);
                self.touched.insert(user);
            }
        }
        if !now.is_empty() {
            self.parties.insert(call, now);
        }
    }
}

impl Core {
    /// A call did something.
    pub(crate) fn see(&mut self, key: CallKey) {
        let subscriptions = &mut self.cx.subscriptions;
        if subscriptions.users.is_empty() {
            return;
        }
        let call = self.calls.get(key);
        let seen = call.map_or(Vec::new(), |call| call.seen(|user| subscriptions.is_watched(user)));
        subscriptions.call_changed(key, seen);
    }

    /// A user is watched from now on: what calls it has.
    pub(super) fn look_at(&mut self, user: UserSid) {
        let seen: Vec<_> = self
            .calls
            .iter()
            .filter_map(|call| Some((call.key, call.seen(|it| it == user).pop()?.1)))
            .collect();
        let subscriptions = &mut self.cx.subscriptions;
        for (call, dialog) in seen {
            let parties = subscriptions.parties.entry(call).or_default();
            if !parties.contains(&user) {
                parties.push(user);
            }
            if let Some(watched) = subscriptions.users.get_mut(&user) {
                watched.dialogs.insert(call, dialog);
            }
        }
    }
}
