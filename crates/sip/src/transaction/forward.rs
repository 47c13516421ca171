//! Requests sent without a transaction: the ACK to a 2xx, which is end to end
//! (RFC 3261 §13.2.2.4, §17).

use std::time::Instant;

use rustc_hash::FxHashMap;

use super::candidates::{self, Located};
use super::client::{Clients, branch};
use super::timer::TimerId;
use crate::endpoint::context::{Context, Timer};
use crate::endpoint::{ClientKey, Output};
use crate::flow::{Destination, SendTo, Target};
use crate::{HeaderName, Method, Request};

/// Look-ups for stateless sends under way at once.
const MAX_PENDING: usize = 10_000;

/// Sends waiting for their look-up. All others leave at once.
#[derive(Default)]
pub(crate) struct Forwards {
    pending: FxHashMap<usize, Pending>,
    last: usize,
}

struct Pending {
    request: Request,
    timer: Option<TimerId>,
}

impl Forwards {
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    pub fn start(
        &mut self,
        cx: &mut Context,
        clients: &mut Clients,
        now: Instant,
        request: Request,
        destination: Destination,
    ) {
        match candidates::locate(destination) {
            Located::At(mut candidates) => {
                if let Some(candidate) = candidates.pop_front() {
                    send(cx, clients, request, candidate.to);
                }
            }
            Located::LookUp(_) if self.pending.len() >= MAX_PENDING => {
                cx.counters.forwards_dropped += 1;
            }
            Located::LookUp(uri) => {
                self.last = (self.last + 1) & (usize::MAX >> 1);
                let timer = cx.timers.arm(now + cx.config.lifetime(), Timer::Forward(self.last));
                self.pending.insert(self.last, Pending { request, timer: Some(timer) });
                cx.output(Output::Resolve { key: key_of(self.last), uri });
            }
        }
    }

    pub fn resolved(
        &mut self,
        cx: &mut Context,
        clients: &mut Clients,
        key: ClientKey,
        targets: Vec<Target>,
    ) {
        let number = (key.0 & !ClientKey::RESERVED) as usize;
        let Some(mut pending) = self.pending.remove(&number) else {
            cx.counters.late_inputs += 1;
            return;
        };
        cx.timers.cancel(&mut pending.timer);
        match targets.into_iter().next() {
            Some(target) => send(cx, clients, pending.request, target.into()),
            None => cx.counters.forwards_dropped += 1,
        }
    }

    pub fn expired(&mut self, cx: &mut Context, number: usize) {
        if self.pending.remove(&number).is_some() {
            cx.counters.forwards_dropped += 1;
        }
    }
}

fn key_of(number: usize) -> ClientKey {
    ClientKey(ClientKey::RESERVED | number as u64)
}

/// A large one stays on UDP: nothing would tell us that TCP was refused.
fn send(cx: &mut Context, clients: &mut Clients, mut request: Request, to: SendTo) {
    let branch = branch(usize::MAX >> 1, cx.random());
    request.headers.push_front(HeaderName::Via, cx.via(&to, &branch));
    if !request.headers.contains(&HeaderName::MaxForwards) {
        request.headers.push(HeaderName::MaxForwards, "70");
    }
    let bytes = request.to_bytes();
    if request.method == Method::Ack
        && let Some(key) = super::key::ack_key(&cx.hash, &request)
    {
        clients.remember_ack(key, &to, &bytes);
    }
    cx.send(to, bytes, None);
}
