//! The one task that owns the SIP and call machines: takes what came, lets
//! them decide, carries out what they ask. It has a thread of its own, and
//! nothing else runs there.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use landline_call::{Core, JournalToken, Log, PeerId, Wake};
use landline_control::{RelayId, Request, RequestId};
use landline_region::Now;
use landline_sip::{ClientKey, Endpoint, Flow, Uri};
use landline_store::KeptCall;
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, mpsc};

use crate::inbox::{Incoming, Outbox};
use crate::journal::unix_now;
use crate::metrics::Drop as Cause;
use crate::mirror::Mirror;
use crate::pace::{Alarm, Pace};
use crate::replica::Replication;
use crate::resolve::Dns;
use crate::shared::Shared;
use crate::wire::{Failed, Wire};
use crate::{bindings, journal, mailboxes};

/// Messages taken from one source before the others have their turn.
const BATCH: usize = 64;
const REPORT: Duration = Duration::from_secs(1);
/// Who hands over has answers on their way through disk and database for so long.
const LAST_ANSWERS: Duration = Duration::from_millis(150);
/// How often a full journal queue is tried again.
const JOURNAL_RETRY: Duration = Duration::from_millis(5);

pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Endpoint,
    pub(crate) core: Core,
    pub(crate) wire: Wire,
    pub(crate) inbox: mpsc::Receiver<Incoming>,
    pub(crate) answers: mpsc::Receiver<Incoming>,
    pub(crate) relays: FxHashMap<RelayId, mpsc::Sender<(RequestId, Request)>>,
    pub(crate) journal: mpsc::Sender<journal::Entry>,
    /// What the journal's queue had no room for. Until it is empty again nothing
    /// is taken from the network, so the calls that are open bound it.
    pub(crate) unjournaled: VecDeque<journal::Entry>,
    pub(crate) bindings: mpsc::Sender<bindings::Entry>,
    pub(crate) mailboxes: mpsc::Sender<mailboxes::Entry>,
    pub(crate) push: Option<mpsc::Sender<Wake>>,
    pub(crate) dns: Arc<Dns>,
    pub(crate) resolutions: Arc<Semaphore>,
    pub(crate) mirror: Mirror,
    pub(crate) replication: Replication,
    /// The present link of each peer.
    pub(crate) links: FxHashMap<PeerId, u64>,
    pub(crate) stop: Option<Stop>,
}

/// Once the proxy stops.
pub(crate) struct Stop {
    /// Until then it serves on.
    not_before: Instant,
    /// When it ends whatever is still open.
    by: Instant,
    /// When a call was last open: its BYE may have to be sent again.
    calls_seen: Option<Instant>,
}

impl Stop {
    const LINGER: Duration = Duration::from_millis(600);

    fn at_the_moment(at: Instant) -> Self {
        Self { not_before: at, by: at, calls_seen: None }
    }

    fn at(&self) -> Instant {
        self.calls_seen.map_or(self.by, |seen| self.by.min(seen + Self::LINGER))
    }
}

impl Driver {
    pub(crate) async fn run(mut self) {
        let mut alarm = Alarm::new();
        let mut taken = Vec::with_capacity(BATCH);
        let mut report_at = Instant::now();
        let mut pace = Pace::new();
        self.pump(now());
        while !self.is_done() {
            self.pass_journal();
            pace.wait();
            alarm.set(self.next_timeout(report_at));
            let mut slept = false;
            poll_fn(|context| {
                let woken = self.poll_woken(context, &mut taken, &mut alarm);
                slept |= woken.is_pending();
                woken
            })
            .await;

            let woken = Instant::now();
            if slept && self.unjournaled.is_empty() {
                self.wire.found_empty(woken);
            }
            let mut count = taken.len();
            self.take_incoming(&mut taken);
            if self.unjournaled.is_empty() {
                count += self.take_datagrams();
            }
            self.handle_timeouts();
            pace.took(count, count >= BATCH, woken);
            if count > 0 {
                self.shared.metrics.batch.observe(count as f64);
            }
            if report_at <= woken {
                report_at = woken + REPORT;
                self.report();
            }
            self.shared.metrics.driver_busy_seconds.add(woken.elapsed().as_secs_f64());
        }
        self.report();
        self.wire.close_all();
    }

    /// Ready when anything came, there is room to send, or the alarm went off.
    fn poll_woken(
        &mut self,
        context: &mut Context<'_>,
        taken: &mut Vec<Incoming>,
        alarm: &mut Alarm,
    ) -> Poll<()> {
        let answers = self.answers.poll_recv_many(context, taken, BATCH).is_ready();
        let late = alarm.poll(context).is_ready();
        if !self.unjournaled.is_empty() {
            return if answers || late { Poll::Ready(()) } else { Poll::Pending };
        }
        let incoming = self.inbox.poll_recv_many(context, taken, BATCH).is_ready();
        let datagrams = self.wire.poll_udp(context).is_ready();
        if answers || late || incoming || datagrams { Poll::Ready(()) } else { Poll::Pending }
    }

    fn next_timeout(&self, report_at: Instant) -> Instant {
        let replication = self.replication.poll_timeout();
        let machines = [self.endpoint.poll_timeout(), self.core.poll_timeout(), replication];
        let stop = self.stop.as_ref().map(Stop::at);
        let retry = Instant::now() + JOURNAL_RETRY;
        let retry = (!self.unjournaled.is_empty()).then_some(retry);
        machines.into_iter().flatten().chain(stop).chain(retry).fold(report_at, Instant::min)
    }

    /// Gives how many it took.
    fn take_datagrams(&mut self) -> usize {
        self.wire.flush_udp();
        let mut count = 0;
        for index in 0..self.wire.udp.len() {
            let now = now();
            for _ in 0..BATCH {
                let listener = self.wire.udp.get_mut(index);
                let received = listener.and_then(|udp| {
                    let received = udp.receive(&self.shared.metrics, now.instant)?;
                    Some((received, udp.longest_wait(now.instant)))
                });
                let Some(((flow, bytes), wait)) = received else {
                    break;
                };
                count += 1;
                self.endpoint.message_waited(now.instant, wait);
                self.shared.metrics.received(&bytes);
                self.sip(now, landline_sip::Input::Received { flow, bytes });
                self.pump(now);
            }
        }
        count
    }

    fn take_incoming(&mut self, taken: &mut Vec<Incoming>) {
        if taken.is_empty() {
            return;
        }
        let now = now();
        for incoming in taken.drain(..) {
            self.take(now, incoming);
            self.pump(now);
        }
    }

    fn take(&mut self, now: Now, incoming: Incoming) {
        use landline_call::Input as Call;
        match incoming {
            Incoming::Opened { flow, domains, outbox } => {
                self.accepted(now, &flow, domains, outbox);
            }
            Incoming::Kept { flow, domains, outbox } => {
                self.accepted(now, &flow, domains, outbox);
                self.core.handle_input(now, Call::FlowKept(flow));
            }
            Incoming::KeeperLost => self.stop = Some(Stop::at_the_moment(now.instant)),
            Incoming::HandOver => {
                self.stop = Some(Stop::at_the_moment(now.instant + LAST_ANSWERS));
            }
            Incoming::Received { flow, bytes, at } => {
                self.shared.metrics.received(&bytes);
                let wait = now.instant.saturating_duration_since(at);
                self.endpoint.message_waited(now.instant, wait);
                self.wire.heard(&flow, &bytes);
                self.sip(now, landline_sip::Input::Received { flow, bytes });
            }
            Incoming::Connected { id } => self.wire.connected(id),
            Incoming::Closed { id } => {
                // A connection that was let go for reading too slowly is told
                // of here as well: its end is the end of its flow.
                for failed in self.wire.closed(id).into_iter().flatten() {
                    self.send_failed(now, failed);
                }
                self.sip(now, landline_sip::Input::FlowClosed(id));
            }
            Incoming::Resolved { key, targets } => {
                self.sip(now, landline_sip::Input::Resolved { key, targets });
            }
            Incoming::RelayConnected { relay, hello, requests } => {
                if let Some(requests) = requests {
                    self.relays.insert(relay.clone(), requests);
                }
                self.core.handle_input(now, Call::RelayConnected { relay, hello });
            }
            Incoming::RelayLost { relay } => {
                self.relays.remove(&relay);
                self.core.handle_input(now, Call::RelayLost { relay });
            }
            Incoming::Relay { relay, message } => {
                self.core.handle_input(now, Call::Relay { relay, message });
            }
            Incoming::Journaled(mut tokens) => {
                tokens.retain(|token| self.replication.on_disk(*token));
                self.journaled(now, tokens);
            }
            Incoming::JournalFailed(tokens) => {
                for token in tokens {
                    self.replication.failed(token);
                    self.core.handle_input(now, Call::JournalFailed(token));
                }
            }
            Incoming::BindingsStored { tokens, ok } => {
                for token in tokens {
                    self.core.handle_input(now, Call::BindingsStored { token, ok });
                }
            }
            Incoming::Tenancy(tenants) => self.core.handle_input(now, Call::Tenancy(tenants)),
            Incoming::Directory(directory) => {
                self.core.handle_input(now, Call::Directory(directory));
            }
            Incoming::HolderUp { .. }
            | Incoming::HolderLost { .. }
            | Incoming::Held { .. }
            | Incoming::PeerUp { .. }
            | Incoming::PeerLost { .. }
            | Incoming::Replica { .. }
            | Incoming::ReplicaGone { .. }
            | Incoming::PeerAsks { .. } => self.peer(now, incoming),
            Incoming::Messages { call, messages } => {
                self.core.handle_input(now, Call::Messages { call, messages });
            }
            Incoming::HangUp(call) => self.core.handle_input(now, Call::HangUp(call)),
            Incoming::StartCall(start) => {
                self.core.handle_input(now, Call::StartCall(*start));
            }
            Incoming::Shutdown => {
                let by = now.instant + self.shared.limits.shutdown;
                self.stop = Some(Stop { not_before: now.instant, by, calls_seen: None });
                self.note_calls();
                self.core.handle_input(now, Call::Shutdown);
            }
        }
    }

    fn accepted(&mut self, now: Now, flow: &Flow, domains: Vec<String>, outbox: Outbox) {
        if !domains.is_empty() {
            self.shared.metrics.certificates_shown.inc();
            let domains = domains.clone();
            let proven = landline_call::Input::FlowProven { flow: flow.id, domains };
            self.core.handle_input(now, proven);
        }
        self.wire.accepted(flow.id, domains, outbox);
    }

    /// What concerns the region's other proxies.
    fn peer(&mut self, now: Now, incoming: Incoming) {
        use landline_call::Input as Call;
        match incoming {
            Incoming::HolderUp { peer, queue } => self.replication.peer_up(peer, queue),
            Incoming::HolderLost { peer } => {
                let tokens = self.replication.peer_lost(&peer);
                self.journaled(now, tokens);
            }
            Incoming::Held { peer, number } => {
                let tokens = self.replication.acknowledged(&peer, number);
                self.journaled(now, tokens);
            }
            Incoming::PeerUp { peer, link } => {
                self.links.insert(peer.clone(), link);
                self.core.handle_input(now, Call::PeerUp(peer));
            }
            // What an earlier link still brings is no longer so.
            Incoming::PeerLost { ref peer, link }
            | Incoming::Replica { ref peer, link, .. }
            | Incoming::ReplicaGone { ref peer, link, .. }
                if self.links.get(peer) != Some(&link) => {}
            Incoming::PeerLost { peer, .. } => {
                self.links.remove(&peer);
                self.core.handle_input(now, Call::PeerLost(peer));
            }
            Incoming::Replica { peer, replica, .. } => {
                self.core.handle_input(now, Call::Replica { peer, replica });
            }
            Incoming::ReplicaGone { peer, call, .. } => {
                self.core.handle_input(now, Call::ReplicaGone { peer, call });
            }
            Incoming::PeerAsks { peer, reply } => {
                self.core.handle_input(now, Call::PeerStarts(peer));
                let _gone = reply.send(self.core.carried().collect());
            }
            _ => {}
        }
    }

    fn journaled(&mut self, now: Now, tokens: Vec<JournalToken>) {
        for token in tokens {
            self.core.handle_input(now, landline_call::Input::Journaled(token));
        }
    }

    fn handle_timeouts(&mut self) {
        let now = now();
        let overdue = self.replication.overdue(now.instant);
        if !overdue.is_empty() {
            self.journaled(now, overdue);
            self.pump(now);
        }
        let due = |timeout: Option<Instant>| timeout.is_some_and(|at| at <= now.instant);
        if due(self.endpoint.poll_timeout()) {
            self.endpoint.handle_timeout(now.instant);
            self.pump(now);
        }
        if due(self.core.poll_timeout()) {
            self.core.handle_timeout(now);
            self.pump(now);
        }
    }

    fn sip(&mut self, now: Now, input: landline_sip::Input) {
        self.endpoint.handle_input(now.instant, input);
    }

    /// Carries out what both machines ask until neither asks for more.
    fn pump(&mut self, now: Now) {
        loop {
            while let Some(output) = self.endpoint.poll_output() {
                self.carry_out_sip(now, output);
            }
            let Some(output) = self.core.poll_output() else {
                return;
            };
            self.carry_out_call(now, output);
        }
    }

    fn carry_out_sip(&mut self, now: Now, output: landline_sip::Output) {
        match output {
            landline_sip::Output::Send { to, bytes, key } => {
                if let Err(failed) = self.wire.send(to, bytes, key) {
                    self.send_failed(now, failed);
                }
            }
            landline_sip::Output::Resolve { key, uri } => self.resolve(now, key, uri),
            landline_sip::Output::Event(event) => {
                self.core.handle_input(now, landline_call::Input::Sip(event));
            }
        }
    }

    fn carry_out_call(&mut self, now: Now, output: landline_call::Output) {
        match output {
            landline_call::Output::Sip(input) => self.sip(now, input),
            landline_call::Output::Relay { relay, id, request } => {
                self.ask_relay(relay, id, request)
            }
            landline_call::Output::Journal { token, events, state } => {
                self.replication.journaled(now.instant, token, &events, state.as_ref());
                let calls = state.map(KeptCall::State).into_iter().collect();
                self.journal(journal::Entry { token, events, calls });
            }
            landline_call::Output::Messages { call, account, user } => {
                if self.mailboxes.try_send((call, account, user)).is_err() {
                    let none = landline_call::Input::Messages { call, messages: None };
                    self.core.handle_input(now, none);
                }
            }
            landline_call::Output::Wake(wake) => {
                let orders = self.push.as_ref();
                if orders.is_none_or(|orders| orders.try_send(wake).is_err()) {
                    self.shared.metrics.drop(Cause::PushQueueFull);
                }
            }
            landline_call::Output::Forget(call) => {
                self.replication.forget(call);
                let calls = vec![KeptCall::Gone(call)];
                self.journal(journal::Entry { token: None, events: Vec::new(), calls });
            }
            landline_call::Output::StoreBindings { token, changes } => {
                if self.bindings.try_send((token, changes)).is_err() {
                    self.shared.metrics.drop(Cause::BindingQueueFull);
                    let refused = landline_call::Input::BindingsStored { token, ok: false };
                    self.core.handle_input(now, refused);
                }
            }
            landline_call::Output::Log(log) => write_log(&log),
        }
    }

    fn send_failed(&mut self, now: Now, Failed { key, to }: Failed) {
        self.sip(now, landline_sip::Input::SendFailed { key, to });
    }

    fn resolve(&mut self, now: Now, key: ClientKey, uri: Uri) {
        self.shared.metrics.resolutions.inc();
        let Ok(permit) = Arc::clone(&self.resolutions).try_acquire_owned() else {
            self.shared.metrics.drop(Cause::ResolverBusy);
            self.sip(now, landline_sip::Input::Resolved { key, targets: Vec::new() });
            return;
        };
        let (dns, shared) = (Arc::clone(&self.dns), Arc::clone(&self.shared));
        self.shared.tasks.spawn(async move {
            let targets = dns.targets(&uri).await;
            if targets.is_empty() {
                shared.metrics.resolution_failures.inc();
            }
            drop(permit);
            let _gone = shared.answers.send(Incoming::Resolved { key, targets }).await;
        });
    }

    fn ask_relay(&mut self, relay: RelayId, id: RequestId, request: Request) {
        let Some(requests) = self.relays.get(&relay) else {
            // The core is told of the loss, or was: it waits for no outcome.
            return self.shared.metrics.drop(Cause::RelayAway);
        };
        if requests.try_send((id, request)).is_err() {
            self.shared.metrics.drop(Cause::RelayQueueFull);
            // A gap in the requests would leave sessions half made: the link
            // ends, and the relay forgets them all.
            self.relays.remove(&relay);
        }
    }

    fn journal(&mut self, entry: journal::Entry) {
        if !self.unjournaled.is_empty() {
            return self.unjournaled.push_back(entry);
        }
        use mpsc::error::TrySendError::{Closed, Full};
        if let Err(Full(entry) | Closed(entry)) = self.journal.try_send(entry) {
            self.unjournaled.push_back(entry);
        }
    }

    fn pass_journal(&mut self) {
        use mpsc::error::TrySendError::{Closed, Full};
        while let Some(entry) = self.unjournaled.pop_front() {
            match self.journal.try_send(entry) {
                Ok(()) => {}
                Err(Full(entry)) => {
                    self.shared.metrics.journal_waits.inc();
                    return self.unjournaled.push_front(entry);
                }
                Err(Closed(_)) => {
                    tracing::error!("the journal's task is gone");
                    self.unjournaled.clear();
                    self.stop = Some(Stop::at_the_moment(Instant::now()));
                }
            }
        }
    }

    fn note_calls(&mut self) {
        if let Some(stop) = self.stop.as_mut()
            && self.core.live().next().is_some()
        {
            stop.calls_seen = Some(Instant::now());
        }
    }

    /// After a shutdown: the calls are closed and their last messages had time
    /// to be answered, or time is up.
    fn is_done(&mut self) -> bool {
        self.note_calls();
        let Some(stop) = &self.stop else {
            return false;
        };
        let now = Instant::now();
        let settled = match stop.calls_seen {
            None => true,
            Some(seen) => seen + Stop::LINGER <= now,
        };
        let is_settled = stop.not_before <= now && settled && self.unjournaled.is_empty();
        is_settled || stop.by <= now
    }

    fn report(&mut self) {
        let metrics = &self.shared.metrics;
        let waiting = self.inbox.len() + self.answers.len();
        metrics.inbox_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        metrics.refused_part.set(self.endpoint.refused_part(Instant::now()));
        metrics.replicated(&self.replication, self.core.replicas());
        self.mirror.report(metrics, &self.endpoint, &self.core);
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), unix: unix_now() }
}

fn write_log(log: &Log) {
    match log {
        Log::Registered { .. } | Log::Unregistered { .. } => tracing::debug!("{log}"),
        Log::CallOpened { .. }
        | Log::CallAnswered { .. }
        | Log::CallLeaves { .. }
        | Log::CallClosed { .. }
        | Log::CallsRestored { .. }
        | Log::CallTaken { .. }
        | Log::CallTakenOver { .. }
        | Log::PeerUp { .. }
        | Log::RelayConnected { .. }
        | Log::RelayDraining { .. }
        | Log::RelayResumed { .. }
        | Log::CallMoved { .. } => tracing::info!("{log}"),
        _ => tracing::warn!("{log}"),
    }
}
