//! A whole proxy on loopback, spoken to over real sockets.

mod fake_relay;
mod keeper;
mod support;

mod calls;
mod certificates;
mod changes;
mod noise;
mod peers;
mod regions;
mod register;
mod relays;
mod sipp;
mod start;
mod torture;
