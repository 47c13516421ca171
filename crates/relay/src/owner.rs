use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use landline_control::{FromRelay, Hello, Outcome, RequestId, SessionId};
use tokio::sync::{Notify, mpsc};

/// One incarnation of one proxy: whose sessions they are. It outlives its
/// connection by the grace time.
#[derive(Debug)]
pub(crate) struct Owner {
    pub key: OwnerKey,
    pub name: String,
    incarnation: u64,
    gone: AtomicBool,
    link: Mutex<Link>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OwnerKey(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionId(pub u64);

#[derive(Debug)]
struct Link {
    /// The present connection, or the last one.
    connection: ConnectionId,
    outgoing: Option<Outgoing>,
}

impl Owner {
    /// Tells the proxy of an event, if it is connected.
    pub fn tell(&self, session: SessionId, event: landline_control::Event) {
        if let Some(outgoing) = &self.link().outgoing {
            outgoing.send(FromRelay::Event(session, event));
        }
    }

    /// Tells the proxy that a session is another's now, if it is connected.
    pub fn lost(&self, session: SessionId) {
        if let Some(outgoing) = &self.link().outgoing {
            outgoing.send(FromRelay::Taken(session));
        }
    }

    /// As [`Self::tell`], of what is told again when there is no room for it now
    /// or nobody listens: then false.
    pub fn tell_if_room(&self, session: SessionId, event: landline_control::Event) -> bool {
        let link = self.link();
        let message = FromRelay::Event(session, event);
        link.outgoing.as_ref().is_some_and(|it| it.queue.try_send(message).is_ok())
    }

    /// Figures that the proxy has no room for come again.
    pub fn tell_figures(&self, figures: FromRelay) {
        if let Some(outgoing) = &self.link().outgoing {
            let _full = outgoing.queue.try_send(figures);
        }
    }

    /// Whether its sessions were or are being closed: it opens no more.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The bounded queue of one control connection. What does not fit would be an
/// answer or event lost, so it ends the connection instead.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    queue: mpsc::Sender<FromRelay>,
    ended: Arc<Notify>,
}

impl Outgoing {
    pub fn new(queue: mpsc::Sender<FromRelay>, ended: Arc<Notify>) -> Self {
        Self { queue, ended }
    }

    pub fn send(&self, message: FromRelay) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(message) {
            self.end();
        }
    }

    pub fn end(&self) {
        self.ended.notify_one();
    }
}

/// The way back to whoever made a request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub request: RequestId,
    pub outgoing: Outgoing,
}

impl Reply {
    pub fn send(&self, outcome: Outcome) {
        self.outgoing.send(FromRelay::Outcome(self.request, outcome));
    }
}

/// The proxies of the region that are connected or within their grace time.
#[derive(Debug)]
pub(crate) struct Owners {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_key: u64,
    by_name: BTreeMap<String, Arc<Owner>>,
}

pub(crate) struct Attached {
    pub owner: Arc<Owner>,
    /// The incarnation that this one replaces: what this one does not adopt of
    /// its sessions is to be closed.
    pub former: Option<Arc<Owner>>,
}

impl Owners {
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// Gives a new connection to its proxy's incarnation. `None` when there
    /// are too many proxies.
    pub fn attach(
        &self,
        hello: &Hello,
        connection: ConnectionId,
        outgoing: Outgoing,
    ) -> Option<Attached> {
        let mut state = self.lock();
        let known = state.by_name.get(&hello.name).cloned();
        if let Some(owner) = known.as_ref().filter(|owner| owner.incarnation == hello.incarnation) {
            let mut link = owner.link();
            link.connection = connection;
            if let Some(former) = link.outgoing.replace(outgoing) {
                former.end();
            }
            return Some(Attached { owner: Arc::clone(owner), former: None });
        }
        if known.is_none() && state.by_name.len() >= self.limit {
            return None;
        }
        if let Some(former) = &known {
            former.retire();
        }
        state.next_key += 1;
        let owner = Arc::new(Owner {
            key: OwnerKey(state.next_key),
            name: hello.name.clone(),
            incarnation: hello.incarnation,
            gone: AtomicBool::new(false),
            link: Mutex::new(Link { connection, outgoing: Some(outgoing) }),
        });
        state.by_name.insert(hello.name.clone(), Arc::clone(&owner));
        Some(Attached { owner, former: known })
    }

    /// The connection is over. True when the proxy has no other by now.
    pub fn detach(&self, owner: &Owner, connection: ConnectionId) -> bool {
        let _table = self.lock();
        let mut link = owner.link();
        let present = link.connection == connection && !owner.is_gone();
        if present {
            link.outgoing = None;
        }
        present
    }

    /// The grace time after `connection` is over. True when the proxy did not
    /// come back: its sessions are to be closed.
    pub fn expire(&self, owner: &Owner, connection: ConnectionId) -> bool {
        let mut state = self.lock();
        let link = owner.link();
        let away = link.connection == connection && link.outgoing.is_none() && !owner.is_gone();
        if away {
            owner.gone.store(true, Ordering::Release);
            state.by_name.remove(&owner.name);
        }
        away
    }

    /// Says the same to every connected proxy.
    pub fn tell_all(&self, message: &FromRelay) {
        for owner in self.lock().by_name.values() {
            if let Some(outgoing) = &owner.link().outgoing {
                outgoing.send(message.clone());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Owner {
    fn retire(&self) {
        self.gone.store(true, Ordering::Release);
        if let Some(outgoing) = self.link().outgoing.take() {
            outgoing.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landline_control::VERSION;

    fn hello(name: &str, incarnation: u64) -> Hello {
        let region = "ie1".parse().unwrap();
        Hello { version: VERSION, region, name: name.into(), incarnation }
    }

    fn outgoing() -> (Outgoing, mpsc::Receiver<FromRelay>) {
        let (queue, receiver) = mpsc::channel(2);
        (Outgoing::new(queue, Arc::default()), receiver)
    }

    #[test]
    fn a_reconnection_keeps_its_sessions_and_a_new_incarnation_does_not() {
        let owners = Owners::new(2);
        let first = owners.attach(&hello("a", 1), ConnectionId(1), outgoing().0).unwrap();
        assert!(owners.detach(&first.owner, ConnectionId(1)));
        let again = owners.attach(&hello("a", 1), ConnectionId(2), outgoing().0).unwrap();
        assert_eq!(again.owner.key, first.owner.key);
        assert!(again.former.is_none());
        assert!(!owners.expire(&first.owner, ConnectionId(1)), "it came back in time");

        let restarted = owners.attach(&hello("a", 2), ConnectionId(3), outgoing().0).unwrap();
        assert_ne!(restarted.owner.key, first.owner.key);
        assert_eq!(restarted.former.unwrap().key, first.owner.key);
        assert!(first.owner.is_gone());
        assert!(!owners.detach(&first.owner, ConnectionId(2)), "it was replaced already");
    }

    #[test]
    fn a_proxy_that_stays_away_is_forgotten_and_makes_room() {
        let owners = Owners::new(1);
        let first = owners.attach(&hello("a", 1), ConnectionId(1), outgoing().0).unwrap();
        assert!(owners.attach(&hello("b", 1), ConnectionId(2), outgoing().0).is_none());
        assert!(owners.detach(&first.owner, ConnectionId(1)));
        assert!(owners.expire(&first.owner, ConnectionId(1)));
        assert!(owners.attach(&hello("b", 1), ConnectionId(3), outgoing().0).is_some());
    }

    #[test]
    fn events_go_to_the_present_connection() {
        let owners = Owners::new(1);
        let event = landline_control::Event::MediaStarted(landline_control::LegId(0));
        let (old, mut old_queue) = outgoing();
        let (new, mut new_queue) = outgoing();
        let owner = owners.attach(&hello("a", 1), ConnectionId(1), old).unwrap().owner;
        owners.attach(&hello("a", 1), ConnectionId(2), new).unwrap();
        owner.tell(SessionId(1), event);
        assert!(old_queue.try_recv().is_err());
        assert!(new_queue.try_recv().is_ok());
    }
}
