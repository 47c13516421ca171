//! Responses of the transaction user.

use std::time::Instant;

use super::{MAX_PENDING_SUCCESSES, Servers, State, Success, send};
use crate::endpoint::ServerKey;
use crate::endpoint::context::{Context, Timer};
use crate::transaction::key;
use crate::{NameAddr, Response, StatusCode};

impl Servers {
    pub fn respond(&mut self, cx: &mut Context, now: Instant, key: ServerKey, response: Response) {
        let slot = (key.0 & u64::from(u32::MAX)) as usize;
        let Some(server) = self.slab.get(slot).filter(|s| s.server_key(slot) == key) else {
            cx.counters.late_inputs += 1;
            return;
        };
        match (server.is_invite, server.state) {
            (true, State::Proceeding) => self.respond_to_invite(cx, now, slot, response),
            (true, State::Accepted) if response.status.is_success() => {
                self.send_success(cx, now, slot, response);
            }
            (false, State::Trying | State::Proceeding) => {
                self.respond_to_other(cx, now, slot, response);
            }
            _ => cx.counters.late_inputs += 1,
        }
    }

    fn respond_to_invite(
        &mut self,
        cx: &mut Context,
        now: Instant,
        slot: usize,
        response: Response,
    ) {
        let Some(server) = self.slab.get_mut(slot) else { return };
        if let Some(invite) = server.invite.as_deref_mut() {
            cx.timers.cancel(&mut invite.trying_timer);
            if let Some(tag) = response.to().ok().as_ref().and_then(NameAddr::tag) {
                invite.to_tag = Some(tag.into());
            }
        }
        if response.status.is_success() {
            server.state = State::Accepted;
            server.last = None;
            self.expire_after(cx, now, slot, cx.config.lifetime());
            return self.send_success(cx, now, slot, response);
        }
        let bytes = response.to_bytes();
        server.last = Some(bytes.clone());
        send(cx, server, &bytes);
        if response.status.is_provisional() {
            return;
        }
        server.state = State::Completed;
        if !server.is_reliable {
            server.interval = cx.config.t1;
            server.retransmit =
                Some(cx.timers.arm(now + server.interval, Timer::ServerRetransmit(slot)));
        }
        self.forget_challenged(slot, response.status);
        self.expire_after(cx, now, slot, cx.config.lifetime());
    }

    /// Sent until its ACK comes, over every transport: it is acknowledged end
    /// to end, RFC 3261 §13.3.1.4.
    fn send_success(&mut self, cx: &mut Context, now: Instant, slot: usize, response: Response) {
        let Some(server) = self.slab.get_mut(slot) else { return };
        let bytes = response.to_bytes();
        send(cx, server, &bytes);
        let Some(key) = key::success_key(&cx.hash, &response) else { return };
        let Some(invite) = server.invite.as_deref_mut() else { return };
        let is_known = invite.successes.iter().any(|success| success.key == key);
        if is_known || invite.successes.len() >= MAX_PENDING_SUCCESSES {
            return;
        }
        invite.successes.push(Success { key, bytes });
        cx.timers.cancel(&mut server.retransmit);
        server.interval = cx.config.t1;
        server.retransmit =
            Some(cx.timers.arm(now + server.interval, Timer::ServerRetransmit(slot)));
        self.acks.insert(key, slot);
    }

    fn respond_to_other(
        &mut self,
        cx: &mut Context,
        now: Instant,
        slot: usize,
        response: Response,
    ) {
        let Some(server) = self.slab.get_mut(slot) else { return };
        let bytes = response.to_bytes();
        send(cx, server, &bytes);
        server.last = Some(bytes);
        if response.status.is_provisional() {
            server.state = State::Proceeding;
            return;
        }
        server.state = State::Completed;
        if server.is_reliable {
            return self.remove(cx, slot);
        }
        self.forget_challenged(slot, response.status);
        self.expire_after(cx, now, slot, cx.config.lifetime());
    }

    /// Some phones answer a challenge without counting up the CSeq (RFC 3261
    /// §22.2 wants it); a request answered so has gone no further, so a second
    /// one is no merged one.
    fn forget_challenged(&mut self, slot: usize, status: StatusCode) {
        let challenged =
            [StatusCode::UNAUTHORIZED, StatusCode::PROXY_AUTHENTICATION_REQUIRED].contains(&status);
        if challenged
            && let Some(merge) = self.slab.get_mut(slot).and_then(|server| server.merge.take())
        {
            self.merge.remove(&merge);
        }
    }
}
