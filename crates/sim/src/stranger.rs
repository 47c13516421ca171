//! Who has no business here: garbage, replays, wrong passwords, forged requests.

use std::net::SocketAddr;

use crate::chaos::Strike;
use crate::cx::{Cx, Event, Node, Packet, phone_address, proxy_address, relay_address};
use crate::tenants::{DOMAINS, NAMES};
use crate::world::World;

/// Datagrams remembered for replays.
pub const CAPTURED: usize = 64;

impl World {
    pub fn stranger_acts(&mut self, stranger: usize) {
        if self.cx.is_over {
            return;
        }
        let pause = self.cx.chance.millis(300, 6_000);
        self.cx.after(pause, Event::Chaos(Strike::Stranger(stranger)));
        let proxy = self.cx.chance.below(self.proxies.len());
        let captured = match self.captured.is_empty() {
            true => None,
            false => {
                let at = self.cx.chance.below(self.captured.len());
                Some(self.captured[at].clone())
            }
        };
        // A message that somebody else sends again is not the phone's any more.
        let stolen = captured.clone().map(|(from, to, octets)| (from, to, disguised(octets)));
        let to = proxy_address(proxy);
        match (self.cx.chance.below(7), captured) {
            (0, _) => {
                let octets: Vec<u8> = (0..200).map(|_| self.cx.chance.below(256) as u8).collect();
                say(&mut self.cx, stranger, to, &octets);
            }
            (1, _) => {
                let Some((_, to, mut octets)) = stolen else { return };
                for _ in 0..3 {
                    let at = self.cx.chance.below(octets.len());
                    octets[at] = self.cx.chance.below(256) as u8;
                }
                say(&mut self.cx, stranger, to, &octets);
            }
            (2, Some((from, to, octets))) => {
                // The source of a datagram is easily another's.
                let pause = self.cx.chance.millis(10, 3_000);
                self.cx.after(pause, Event::Packet(Packet { from, to, octets }));
            }
            (3, _) => {
                let Some((_, to, octets)) = stolen else { return };
                say(&mut self.cx, stranger, to, &octets);
            }
            (4, _) => {
                let Some((_, to, octets)) = stolen else { return };
                if let Some(forged) = forged_bye(&octets) {
                    say(&mut self.cx, stranger, to, &forged);
                }
            }
            (5, _) => {
                let number = self.cx.chance.u64();
                let (home, user) = (self.cx.chance.below(2), self.cx.chance.below(4));
                // Whom a stranger names may be known at the border.
                self.cx.model.let_cross((home, user));
                let text = intruding(stranger, home, user, number);
                say(&mut self.cx, stranger, to, text.as_bytes());
            }
            _ => {
                let relay = self.cx.chance.below(self.relays.len());
                let port = 30_000 + 2 * self.cx.chance.below(64) as u16;
                let to = SocketAddr::new(relay_address(relay), port);
                let mut octets = vec![0x80, 0, 0, 1, 0, 0, 0, 9, 7, 7, 7, 7];
                octets.extend_from_slice(&[0xff; 32]);
                say(&mut self.cx, stranger, to, &octets);
            }
        }
    }
}

fn say(cx: &mut Cx, stranger: usize, to: SocketAddr, octets: &[u8]) {
    cx.datagram(Node::Phone(stranger), phone_address(stranger), to, octets);
}

/// With other addresses in place of the phones' own.
fn disguised(mut octets: Vec<u8>) -> Vec<u8> {
    let address = b"192.168.";
    for at in 0..octets.len().saturating_sub(address.len()) {
        if octets[at..].starts_with(address) {
            octets[at + 2] = b'8';
        }
    }
    octets
}

/// What was heard within a call, as its end.
fn forged_bye(octets: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(octets).ok()?;
    let (first, rest) = text.split_once("\r\n")?;
    let (method, _) = first.split_once(' ')?;
    if !["ACK", "INVITE", "UPDATE"].contains(&method) || !text.contains("To: ") {
        return None;
    }
    let in_dialog = rest.lines().any(|line| line.starts_with("To:") && line.contains(";tag="));
    let (head, _) = rest.split_once("\r\n\r\n")?;
    let kept: Vec<String> = head
        .lines()
        .filter(|line| !line.starts_with("Content-") && !line.starts_with("Proxy-Auth"))
        .map(|line| match line.split_once(':') {
            Some(("CSeq", _)) => "CSeq: 9000 BYE".to_owned(),
            Some(("Via", _)) => "Via: SIP/2.0/UDP 203.0.9.9:5060;branch=z9hG4bKforged;rport".into(),
            _ => line.to_owned(),
        })
        .collect();
    let first = first.replacen(method, "BYE", 1);
    let forged = format!("{first}\r\n{}\r\nContent-Length: 0\r\n\r\n", kept.join("\r\n"));
    in_dialog.then(|| forged.into_bytes())
}

/// A call by somebody who does not know the password.
fn intruding(stranger: usize, home: usize, user: usize, number: u64) -> String {
    let (domain, name) = (DOMAINS[home], NAMES[home][user]);
    format!(
        "INVITE sip:{name}@{domain} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {};branch=z9hG4bK{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{name}@{domain}>;tag={number}\r\n\
         To: <sip:{name}@{domain}>\r\nCall-ID: x{number}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:x@{}>\r\n\
         Proxy-Authorization: Digest username=\"{name}\", realm=\"{domain}\", nonce=\"{number}\", \
         uri=\"sip:{name}@{domain}\", response=\"00000000000000000000000000000000\"\r\n\
         Content-Length: 0\r\n\r\n",
        phone_address(stranger),
        phone_address(stranger),
    )
}
