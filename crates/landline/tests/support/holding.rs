//! SIPp, holding many calls at once that nobody speaks in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::calling::{DOMAIN, PASSWORD};
use super::free_ports;
use super::server::admin;
use super::sipp::Sipp;

/// How long a call is held.
const HELD: Duration = Duration::from_secs(8);

pub struct Holding {
    calling: Sipp,
    answering: Sipp,
    log: PathBuf,
}

/// A call that SIPp placed.
#[derive(Debug)]
pub struct Held {
    pub call_id: String,
    pub answered: bool,
}

impl Holding {
    /// Adds both users and holds so many calls until it is told to end.
    pub fn begin(directory: &Path, config: &Path, server: u16, calls: u32) -> Self {
        for user in ["holder", "held"] {
            let add = ["user", "add", DOMAIN, user, "--media", "rtp", "--password", PASSWORD];
            admin(&[&add[..], &["--recording", "off"]].concat(), "--config", config);
        }
        // "Take effect within a second" is the promise.
        std::thread::sleep(Duration::from_millis(1500));
        let (proxy, ports) = (format!("127.0.0.1:{server}"), free_ports(12));
        let keys =
            |user| [("user", user), ("password", PASSWORD), ("domain", DOMAIN), ("target", "held")];
        Sipp::start(directory, "register_long", ports, &proxy, 1, &keys("held")).succeeds();
        let answering = Sipp::endless(directory, "uas_answer", ports, &proxy, &keys("held"), &[]);
        let log = directory.join("held.log");
        let (most, rate) = (calls.to_string(), (calls / HELD.as_secs() as u32).max(1).to_string());
        let held = HELD.as_millis().to_string();
        let more = ["-l", &most, "-r", &rate, "-d", &held, "-trace_logs", "-log_file"];
        let more = [&more[..], &[log.to_str().unwrap()]].concat();
        let calling =
            Sipp::endless(directory, "uac_hold", ports + 6, &proxy, &keys("holder"), &more);
        Self { calling, answering, log }
    }

    /// Lets the last calls end.
    pub fn end(mut self) -> Vec<Held> {
        self.calling.stop_placing();
        self.calling.ends(HELD * 6);
        self.answering.kill();
        let log = std::fs::read_to_string(&self.log).unwrap();
        let of = |word: &'static str| log.lines().filter_map(move |line| line.strip_prefix(word));
        let answered: Vec<&str> = of("answered ").map(str::trim).collect();
        let held = |call_id: &str| Held {
            call_id: call_id.to_owned(),
            answered: answered.contains(&call_id),
        };
        of("placed ").map(str::trim).map(held).collect()
    }
}
