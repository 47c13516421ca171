//! The machine itself: every input to whom it concerns.

use std::time::Instant;

use landline_region::{Entropy, Now, Seed};
use landline_sip::{ClientKey, Event, FailureCause, Method, Request, Response, ServerKey};

use crate::auth::Authenticator;
use crate::call::{Call, Ending};
use crate::calls::{CallKey, Calls};
use crate::config::CoreConfig;
use crate::context::{ClientUse, Context, ServerUse};
use crate::counters::Counters;
use crate::edge::Edge;
use crate::io::{Input, JournalToken, LiveCall, Output, StartCall};
use crate::pager::Pager;
use crate::record::Cause;
use crate::relays::RelayStep;
use crate::restore::Adoptions;
use crate::standby::Standby;
use crate::timers::{CallTimer, Timer};

/// Mutate with [`Core::handle_input`] or [`Core::handle_timeout`], then drain
/// [`Core::poll_output`], then sleep until [`Core::poll_timeout`].
pub struct Core {
    pub(crate) cx: Context,
    pub(crate) calls: Calls,
    pub(crate) auth: Authenticator,
    pub(crate) edge: Edge,
    pub(crate) pager: Pager,
    pub(crate) adoptions: Adoptions,
    pub(crate) standby: Standby,
}

impl Core {
    pub fn new(config: CoreConfig, seed: Seed, now: Now) -> Self {
        let mut entropy = Entropy::new(seed);
        let auth = Authenticator::new(&config, &mut entropy);
        let edge = Edge::new(&config.signing_key);
        let cx = Context::new(config, entropy, now);
        let (adoptions, standby) = (Adoptions::default(), Standby::default());
        let pager = Pager::default();
        Self { cx, calls: Calls::default(), auth, edge, pager, adoptions, standby }
    }

    pub fn handle_input(&mut self, now: Now, input: Input) {
        self.handle_timeout(now);
        match input {
            Input::Sip(event) => self.sip(event),
            Input::RelayConnected { relay, hello } => {
                self.relay_connected(relay.clone(), hello.incarnation);
                self.adopt_from(&relay);
            }
            Input::RelayLost { relay } => self.relay_lost(&relay),
            Input::Relay { relay, message } => self.relay(&relay, message),
            Input::Tenancy(tenants) => {
                self.cx.tenants = tenants;
                self.check_subscriptions();
            }
            Input::Directory(directory) => self.cx.directory = directory,
            Input::Bindings(bindings) => self.cx.restore_bindings(bindings),
            Input::FlowKept(flow) => self.cx.registrar.flow_kept(&flow),
            Input::FlowProven { flow, domains } => drop(self.cx.proven.insert(flow, domains)),
            Input::Journaled(token) => self.journaled(token),
            Input::JournalFailed(token) => self.journal_failed(token),
            Input::BindingsStored { token, ok } => {
                self.cx.bindings_stored(token, ok);
                self.wake_calls();
            }
            Input::Restore { calls, proven_until } => self.restore(calls, proven_until),
            Input::PeerUp(peer) => self.peer_up(peer),
            Input::PeerLost(peer) => self.peer_lost(peer),
            Input::PeerStarts(peer) => self.peer_starts(peer),
            Input::Replica { peer, replica } => self.replica(peer, *replica),
            Input::ReplicaGone { peer, call } => self.replica_gone(peer, call),
            Input::Messages { call, messages } => {
                if let Some(key) = self.calls.by_sid(call) {
                    self.with(key, |call, cx| call.messages_found(cx, messages));
                }
            }
            Input::HangUp(sid) => {
                if let Some(key) = self.calls.by_sid(sid) {
                    self.end_by_admin(key);
                }
            }
            Input::StartCall(start) => self.start_call(start),
            Input::Shutdown => {
                self.cx.closing = true;
                for key in self.calls.keys() {
                    self.end_by_admin(key);
                }
            }
        }
        self.exchange_letters();
        self.begin_moves();
        self.tell_watchers();
    }

    /// Fires what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.cx.now = now;
        while let Some(timer) = self.cx.timers.due(now.instant) {
            match timer {
                Timer::Bindings(user) => self.cx.sweep_bindings(user),
                Timer::BindingsStored(token) => {
                    self.cx.bindings_stored(token, false);
                    self.wake_calls();
                }
                Timer::Journal(token) => self.journal_failed(token),
                Timer::Relay(id) => {
                    if let Some(waiting) = self.cx.relays.timed_out(id) {
                        self.with(waiting.call, |call, cx| call.relay_silent(cx, waiting.purpose));
                        if waiting.purpose == RelayStep::Adopt {
                            self.adoption_over(&waiting.relay);
                        }
                    }
                }
                Timer::Lease(peer, losses) => self.lease_over(&peer, losses),
                Timer::LetGo(call) => self.let_go_for_good(call),
                Timer::Call(key, timer) => self.call_timer(key, timer),
                Timer::Forward(key) => self.forward_expired(key),
                Timer::Page(page) => self.page_overdue(page),
                Timer::Subscription(name) => self.subscription_due(name),
            }
        }
        self.exchange_letters();
        self.begin_moves();
        self.tell_watchers();
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.out.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.cx.timers.next()
    }

    pub fn counters(&self) -> &Counters {
        &self.cx.counters
    }

    /// The calls that are open.
    pub fn live(&self) -> impl Iterator<Item = LiveCall> {
        self.calls.iter().filter(|call| !call.is_closed()).map(Call::live)
    }

    /// Registered contacts.
    pub fn bindings(&self) -> usize {
        self.cx.registrar.len()
    }

    /// Subscriptions of users to what others do.
    pub fn subscriptions(&self) -> usize {
        self.cx.subscriptions.len()
    }

    /// Everything that is kept for the sake of something under way: calls,
    /// dialogs, transactions, forwarded requests. All are 0 in a core at rest.
    pub fn under_way(&self) -> [(&'static str, usize); 7] {
        [
            ("calls", self.calls.iter().count()),
            ("dialogs", self.cx.dialogs.len()),
            ("clients", self.cx.clients.len()),
            ("servers", self.cx.servers.len()),
            ("journal", self.cx.journal.len()),
            ("forwards", self.edge.len()),
            ("messages", self.pager.len()),
        ]
    }

    /// Lets a call do something, and forgets it when it has nothing left to do.
    pub(crate) fn with(&mut self, key: CallKey, act: impl FnOnce(&mut Call, &mut Context)) {
        let Some(call) = self.calls.get(key) else { return };
        act(call, &mut self.cx);
        if call.is_done() {
            call.unlink(&mut self.cx);
            self.calls.remove(key);
        }
        self.see(key);
    }

    /// Who asks has looked whether the user is there; it may be gone since.
    fn start_call(&mut self, start: StartCall) {
        let account = self.cx.tenants.account(start.account).cloned();
        let user = self.cx.tenants.user_by_sid(start.from).cloned();
        let is_fresh = self.calls.by_sid(start.sid).is_none();
        let known = account.zip(user).filter(|(account, user)| user.account == account.sid);
        let Some((account, user)) = known.filter(|_| is_fresh) else {
            self.cx.counters.starts_refused += 1;
            return;
        };
        let key = self.calls.next_key();
        let call = Call::start(key, &mut self.cx, account, &user, start);
        self.calls.insert(call);
        self.with(key, |_, _| {});
    }

    /// Who has registered has its 200 by now, and may be rung.
    fn wake_calls(&mut self) {
        for user in std::mem::take(&mut self.cx.woken) {
            for key in self.cx.sleepers.remove(&user).unwrap_or_default() {
                self.with(key, |call, cx| call.woken(cx, user));
            }
        }
    }

    fn sip(&mut self, event: Event) {
        match event {
            Event::Request { key: Some(key), flow, request } => self.request(key, flow, request),
            Event::Request { key: None, flow, request } => self.ack(&flow, request),
            Event::Response { key, response } => self.response(key, response),
            Event::ClientFailed { key, cause } => self.client_failed(key, cause),
            Event::Cancelled { key } => match self.cx.servers.get(&key).copied() {
                Some(ServerUse::Invite(call)) => self.with(call, |call, cx| call.cancelled(cx)),
                Some(ServerUse::Modify { call, leg }) => {
                    self.with(call, |call, cx| call.modify_cancelled(cx, leg));
                }
                Some(ServerUse::PickUp { call, leg }) => {
                    self.with(call, |call, cx| call.pick_up_cancelled(cx, leg));
                }
                Some(ServerUse::Forward(forward)) => self.forward_cancelled(forward),
                None => self.cx.counters.stray_transactions += 1,
            },
            // The ACK itself follows.
            Event::Acked { .. } => {}
            Event::StrayAnswer { response } => self.stray_answer(&response),
            Event::AckTimeout { key } => self.ack_missed(key),
            Event::FlowClosed(flow) => {
                self.cx.proven.remove(&flow);
                self.cx.registrar.flow_closed(flow);
            }
        }
    }

    fn ack_missed(&mut self, key: ServerKey) {
        match self.cx.servers.get(&key).copied() {
            Some(
                ServerUse::Invite(call)
                | ServerUse::Modify { call, .. }
                | ServerUse::PickUp { call, .. },
            ) => {
                self.with(call, |call, cx| call.ack_missed(cx, key));
            }
            _ => self.cx.counters.stray_transactions += 1,
        }
    }

    fn response(&mut self, key: ClientKey, response: Response) {
        let Some(purpose) = self.cx.clients.get(&key).copied() else {
            self.cx.counters.stray_responses += 1;
            return;
        };
        // An INVITE may bring further 2xx, each of another fork.
        let may_fork = matches!(purpose, ClientUse::Branch { .. }) && response.status.is_success();
        if response.status.is_final() && !may_fork {
            self.cx.clients.remove(&key);
        }
        match purpose {
            ClientUse::Branch { call, leg } => {
                self.with(call, |call, cx| call.branch_response(cx, leg, response));
            }
            ClientUse::Bye { call, leg } => {
                self.with(call, |call, cx| call.bye_refused(cx, leg, &response));
            }
            ClientUse::Modify { call, leg } => {
                self.with(call, |call, cx| call.modify_response(cx, leg, response));
            }
            ClientUse::Move { call, leg } => {
                self.with(call, |call, cx| call.move_response(cx, leg, key, response));
            }
            ClientUse::Guest { call, leg } => {
                self.with(call, |call, cx| call.guest_response(cx, leg, key, response));
            }
            ClientUse::Pass { call, .. } => {
                self.with(call, |call, cx| call.pass_response(cx, key, &response));
            }
            ClientUse::Refresh { call, leg } => {
                self.with(call, |call, cx| call.refresh_response(cx, leg, key, &response));
            }
            ClientUse::Prack => {}
            ClientUse::Forward(forward) => self.forward_response(forward, response),
            ClientUse::Page(page) => self.page_response(page, key, &response),
            ClientUse::Notify(name) => self.notify_response(name, key, &response),
        }
    }

    fn client_failed(&mut self, key: ClientKey, cause: FailureCause) {
        let Some(purpose) = self.cx.clients.remove(&key) else {
            self.cx.counters.stray_responses += 1;
            return;
        };
        match purpose {
            ClientUse::Branch { call, leg } => {
                self.with(call, |call, cx| call.branch_lost(cx, leg, cause));
            }
            ClientUse::Bye { call, leg } => {
                self.with(call, |call, cx| call.bye_failed(cx, leg, cause));
            }
            ClientUse::Modify { call, leg } => {
                self.with(call, |call, cx| call.modify_lost(cx, leg, cause));
            }
            ClientUse::Move { call, leg } => {
                self.with(call, |call, cx| call.move_lost(cx, leg, key, cause));
            }
            ClientUse::Guest { call, leg } => {
                self.with(call, |call, cx| call.guest_lost(cx, leg, key, cause));
            }
            ClientUse::Pass { call, .. } => {
                self.with(call, |call, cx| call.pass_lost(cx, key, cause));
            }
            ClientUse::Refresh { call, leg } => {
                self.with(call, |call, cx| call.refresh_lost(cx, leg, key, cause));
            }
            ClientUse::Prack => {}
            ClientUse::Forward(forward) => self.forward_failed(forward, cause),
            ClientUse::Page(page) => self.page_lost(page, key, cause),
            ClientUse::Notify(name) => self.notify_lost(name, cause),
        }
    }

    fn journaled(&mut self, token: JournalToken) {
        if let Some(call) = self.cx.journal.remove(&token) {
            self.with(call, |call, cx| call.journaled(cx));
        }
    }

    fn journal_failed(&mut self, token: JournalToken) {
        let Some(key) = self.cx.journal.remove(&token) else { return };
        self.cx.counters.journal_failures += 1;
        self.with(key, |call, cx| call.journal_failed(cx));
    }

    fn end_by_admin(&mut self, key: CallKey) {
        self.with(key, |call, cx| {
            let ending = Ending::because(Cause::HungUpByAdmin, 480, 480, "Ended by administrator");
            call.end(cx, ending);
        });
    }

    fn call_timer(&mut self, key: CallKey, timer: CallTimer) {
        self.with(key, |call, cx| match timer {
            CallTimer::NoAnswer(group) => call.no_answer(cx, group),
            CallTimer::MaxDuration => {
                let text = "Maximum call duration";
                call.end(cx, Ending::because(Cause::HungUpByAdmin, 200, 480, text));
            }
            CallTimer::Retry => call.retry(cx),
            CallTimer::Adopt => call.adoption_overdue(cx),
            CallTimer::Forget => call.forget(),
            CallTimer::Adrift(session) => call.adrift_for_long(cx, session),
            CallTimer::MoveAgain => call.want_move(cx),
            CallTimer::MoveAsk => call.ask_sides_again(cx),
            CallTimer::MoveRoom(session) => call.move_is_slow(cx, session),
            CallTimer::MoveOverdue(session) => call.move_is_overdue(cx, session),
            CallTimer::Depart => call.depart_on_time(cx),
            CallTimer::Gather => call.ask_guests_again(cx),
            CallTimer::Farewell => call.say_farewell(cx),
            CallTimer::Session(leg) => call.session_due(cx, leg),
            CallTimer::Mailbox(step) => call.mailbox_overdue(cx, step),
            CallTimer::Provisional(rseq) => call.provisional_overdue(cx, rseq),
        });
    }

    /// An ACK to a 2xx: ours, or one on its way through.
    fn ack(&mut self, flow: &landline_sip::Flow, request: Request) {
        debug_assert_eq!(request.method, Method::Ack);
        let Some(request) = self.routed(None, flow, request) else { return };
        match self.dialog_of(&request) {
            Some((call, leg)) => self.with(call, |call, cx| call.acked(cx, leg, &request)),
            None => self.cx.counters.stray_acks += 1,
        }
    }
}
