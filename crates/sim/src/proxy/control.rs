//! The control connections to the region's relays, kept up for ever: the real
//! messages in the real frames.

use std::time::Duration;

use landline_call::Input;
use landline_control::{Framer, FromRelay, Hello, RelayId, Request, RequestId, ToRelay, VERSION};

use super::{ProxyHost, Task};
use crate::cx::{Cx, Node};
use crate::relay::say;
use crate::stream::{Kind, What};
use crate::tenants;

const PING: Duration = Duration::from_secs(2);
/// Three pings without a word: the relay or the way to it is gone.
const SILENCE: Duration = Duration::from_secs(6);

/// By its stream.
pub(super) struct Link {
    relay: usize,
    framer: Framer,
    heard: Duration,
    is_greeted: bool,
}

fn id(relay: usize) -> RelayId {
    RelayId(format!("relay-{relay}"))
}

impl ProxyHost {
    pub(super) fn link(&mut self, cx: &mut Cx, relay: usize) {
        let stream = cx.connect(Kind::Control, self.node(), Node::Relay(relay), self.lives);
        let link = Link { relay, framer: Framer::default(), heard: cx.at(), is_greeted: false };
        if let Some(life) = &mut self.life {
            life.links.insert(stream, link);
        }
        self.later(cx, PING, Task::Ping(stream));
    }

    pub(super) fn ping(&mut self, cx: &mut Cx, stream: usize) {
        let Some(link) = self.life.as_ref().and_then(|life| life.links.get(&stream)) else {
            return;
        };
        if cx.at() - link.heard >= SILENCE {
            cx.close(stream, 0);
            return self.unlinked(cx, stream);
        }
        if link.is_greeted {
            say(cx, stream, 0, &ToRelay::Ping(1));
        }
        self.later(cx, PING, Task::Ping(stream));
    }

    pub(super) fn ask_relay(
        &mut self,
        cx: &mut Cx,
        relay: &RelayId,
        request: RequestId,
        what: Request,
    ) {
        let links = self.life.as_ref().map(|life| &life.links);
        let up = links.and_then(|links| {
            links.iter().find(|(_, link)| link.is_greeted && id(link.relay) == *relay)
        });
        if let Some((&stream, _)) = up {
            say(cx, stream, 0, &ToRelay::Request(request, what));
        }
    }

    pub(super) fn control(&mut self, cx: &mut Cx, stream: usize, what: What) {
        match what {
            What::Opened => {
                let hello = Hello {
                    version: VERSION,
                    region: tenants::region(self.region),
                    name: self.name(),
                    // Another one for each link: what the last one carried is gone.
                    incarnation: self.lives << 32 | stream as u64,
                };
                say(cx, stream, 0, &ToRelay::Hello(hello));
            }
            What::Octets(octets) => self.heard(cx, stream, &octets),
            What::Closed | What::Lost => self.unlinked(cx, stream),
        }
    }

    fn heard(&mut self, cx: &mut Cx, stream: usize, octets: &[u8]) {
        let at = cx.at();
        let Some(life) = &mut self.life else { return };
        let Some(it) = life.links.get_mut(&stream) else { return };
        it.heard = at;
        it.framer.push(octets);
        loop {
            let Some(life) = &mut self.life else { return };
            let Some(it) = life.links.get_mut(&stream) else { return };
            let relay = id(it.relay);
            match it.framer.next::<FromRelay>() {
                Ok(None) => return,
                Ok(Some(FromRelay::Hello(hello))) => {
                    it.is_greeted = true;
                    cx.remark(format_args!("proxy {} has {relay}", self.number));
                    self.input(cx, Input::RelayConnected { relay, hello });
                }
                Ok(Some(FromRelay::Pong(_))) => {}
                Ok(Some(message)) => self.input(cx, Input::Relay { relay, message }),
                Err(error) => return cx.fault(format!("a proxy cannot read a relay: {error}")),
            }
        }
    }

    /// The connection is over; there will be another.
    fn unlinked(&mut self, cx: &mut Cx, stream: usize) {
        let Some(life) = &mut self.life else { return };
        let Some(link) = life.links.remove(&stream) else { return };
        if link.is_greeted {
            cx.remark(format_args!("proxy {} lost relay {}", self.number, link.relay));
            self.input(cx, Input::RelayLost { relay: id(link.relay) });
        }
        let pause = cx.chance.millis(100, 3_000);
        self.later(cx, pause, Task::Link(link.relay));
    }
}
