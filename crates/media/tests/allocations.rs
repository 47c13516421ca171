//! Forwarding a packet allocates nothing.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use common::{config, kind, remote, rtcp_packet, rtp_packet, sdes, spec};
use landline_control::{DtlsRole, Protocol, SrtpSuite};
use landline_media::{Component, Leg, PacketBuf, Received};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn forwarding_allocates_nothing_in_any_pairing() {
    let protections = [None, Some(SrtpSuite::AesCm128HmacSha1_80), Some(SrtpSuite::AeadAes128Gcm)];
    for from in protections {
        for to in protections {
            let mut now = Instant::now();
            let (mut phone, mut inward) = pair(from, now);
            let (_, mut outward) = pair(to, now);
            for n in 0..500u16 {
                now += Duration::from_millis(20);
                let rtcp = n % 50 == 49;
                let plain = if rtcp { rtcp_packet() } else { rtp_packet(n, &[1; 160]) };
                let component = if rtcp { Component::Rtcp } else { Component::Rtp };
                let mut packet = PacketBuf::from_slice(&plain).unwrap();
                phone.send(now, component, &mut packet).unwrap();

                let before = ALLOCATIONS.with(Cell::get);
                let source = common::address(1, 4000);
                let received = inward.receive(now, Component::Rtp, source, &mut packet);
                let sent = outward.send(now, component, &mut packet);
                let timeout = outward.poll_timeout();
                let after = ALLOCATIONS.with(Cell::get);

                assert!(matches!(received, Received::Rtp(_) | Received::Rtcp), "{received:?}");
                assert!(sent.is_some() && timeout.is_some());
                // The first packet of a leg reports that media started.
                assert!(n == 0 || after == before, "{from:?} to {to:?}, packet {n}");
            }
        }
    }
}

fn pair(suite: Option<SrtpSuite>, now: Instant) -> (Leg, Leg) {
    let protocol = if suite.is_some() { Protocol::Sdes } else { Protocol::Rtp };
    let mut phone = Leg::new(config(spec(protocol), 1), now);
    let mut relay = Leg::new(config(spec(protocol), 2), now);
    let at = |host| common::address(host, 4000);
    let (of_phone, of_relay) = (phone.local(at(1), at(1)), relay.local(at(2), at(2)));
    for (leg, own, peer) in [(&mut phone, &of_phone, &of_relay), (&mut relay, &of_relay, &of_phone)]
    {
        let mut described = remote(peer, DtlsRole::Server);
        described.payload_types.push(kind(8, "PCMA", 8000));
        described.sdes = suite.map(|suite| sdes(own, peer, suite));
        leg.set_remote(now, &described).unwrap();
    }
    (phone, relay)
}
