//! What the tests with real clients share: the server under test, softphones
//! and carriers as child processes, tones found in what they heard.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod baresip;
pub mod browser;
pub mod cable;
pub mod calling;
pub mod holding;
pub mod linphone;
pub mod postgres;
pub mod process;
pub mod region;
pub mod server;
pub mod sipp;
pub mod tone;
pub mod webphone;

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
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

/// An address of this machine that is no loopback one. Nothing is sent.
pub fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.250:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
}

/// The first of `count` consecutive loopback ports, free for UDP and TCP.
/// Tests run in parallel, so each process holds a block of ports to itself.
pub fn free_ports(count: u16) -> u16 {
    static BLOCK: OnceLock<(File, u16)> = OnceLock::new();
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let (_, first) = BLOCK.get_or_init(port_block);
    while TAKEN.load(Ordering::Relaxed) + count <= PORTS_A_BLOCK {
        let base = first + TAKEN.fetch_add(count, Ordering::Relaxed);
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

const PORTS_A_BLOCK: u16 = 500;

/// A block below the kernel's ephemeral range (32768 on), where nobody's
/// outgoing socket takes a port meanwhile; held by a lock on a file.
fn port_block() -> (File, u16) {
    let directory = std::env::temp_dir().join("landline-test-ports");
    std::fs::create_dir_all(&directory).unwrap();
    for number in 0..45 {
        let file = File::create(directory.join(number.to_string())).unwrap();
        if file.try_lock().is_ok() {
            return (file, 10_000 + number * PORTS_A_BLOCK);
        }
    }
    panic!("every block of ports is held by some test");
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
