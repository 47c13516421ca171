//! What the tests with real clients share: the server under test, softphones
//! and carriers as child processes, tones found in what they heard.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod baresip;
pub mod process;
pub mod server;
pub mod sipp;
pub mod tone;

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

/// Whether the test can run: every program is there. Skipping is loud, and
/// with `LANDLINE_REQUIRE_TOOLS` it is a failure.
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !Path::new(program).exists()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(
        std::env::var_os("LANDLINE_REQUIRE_TOOLS").is_none(),
        "missing {missing:?}: run `cargo xtask tools`"
    );
    eprintln!("SKIPPED: missing {missing:?}; `cargo xtask tools` installs them");
    false
}

/// The first of `count` consecutive loopback ports that are free now, for UDP
/// and TCP. Tests run in parallel: each process looks in another place first.
pub fn free_ports(count: u16) -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the kernel's ephemeral range (32768 on), so that nobody's outgoing
    // socket takes one of them meanwhile.
    const FIRST: u16 = 10_000;
    const SPAN: u16 = 22_000;
    let start = (std::process::id() as u16).wrapping_mul(131);
    for _ in 0..2000 {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let base = FIRST + start.wrapping_add(step) % (SPAN - count);
        let free = (base..base + count).all(|port| {
            UdpSocket::bind(("127.0.0.1", port)).is_ok()
                && TcpListener::bind(("127.0.0.1", port)).is_ok()
        });
        if free {
            return base;
        }
    }
    panic!("no {count} consecutive free ports");
}

/// Asks until the answer is there.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
