//! SIPp, holding many calls at once that nobody speaks in.
//! `LANDLINE_HOLD_SECONDS` says how long each (5).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::calling::{DOMAIN, setting};
use super::free_ports;
use super::server::admin;
use super::sipp::Sipp;

/// How long a call is held, where nobody says otherwise.
const HELD: u64 = 5;
/// By then a call that something died under has failed.
const FAILED: Duration = Duration::from_secs(60);
/// Of one user at once; the proxy's limit is 16.
const A_USER: u32 = 12;
/// Without spaces, as SIPp's files take it.
const SECRET: &str = "sipp-holds-calls";

pub struct Holding {
    calling: Sipp,
    answering: Sipp,
    log: PathBuf,
    held: Duration,
}

fn keys(user: &str) -> [(&str, &str); 3] {
    [("user", user), ("password", SECRET), ("domain", DOMAIN)]
}

/// A call that SIPp placed.
#[derive(Debug)]
pub struct Held {
    pub call_id: String,
    pub rang: bool,
    pub answered: bool,
}

impl Holding {
    /// Adds users and holds so many calls until it is told to end.
    pub fn begin(directory: &Path, config: &Path, server: u16, calls: u32) -> Self {
        let pairs = calls.div_ceil(A_USER);
        let mut who = "SEQUENTIAL\n".to_owned();
        for pair in 0..pairs {
            for side in ["holder", "held"] {
                let user = format!("{side}{pair}");
                let add = ["user", "add", DOMAIN, &user, "--media", "rtp", "--password", SECRET];
                admin(&[&add[..], &["--recording", "off"]].concat(), "--config", config);
            }
            let proof = format!("[authentication username=holder{pair} password={SECRET}]");
            who += &format!("holder{pair};held{pair};{proof}\n");
        }
        let file = directory.join("holders.csv");
        std::fs::write(&file, who).unwrap();
        // "Take effect within a second" is the promise.
        std::thread::sleep(Duration::from_millis(1500));
        let (proxy, ports) = (format!("127.0.0.1:{server}"), free_ports(12));
        for pair in 0..pairs {
            let user = format!("held{pair}");
            Sipp::start(directory, "register_long", ports, &proxy, 1, &keys(&user)).succeeds();
        }
        let answering = Sipp::endless(directory, "uas_answer", ports, &proxy, &keys("held0"), &[]);
        let log = directory.join("held.log");
        let held = setting("LANDLINE_HOLD_SECONDS").unwrap_or(HELD).max(1);
        let (most, rate) = (calls.to_string(), u64::from(calls).div_ceil(held).to_string());
        let milliseconds = (held * 1000).to_string();
        let more = ["-l", &most, "-r", &rate, "-d", &milliseconds, "-trace_logs", "-log_file"];
        let more = [&more[..], &[log.to_str().unwrap(), "-inf", file.to_str().unwrap()]].concat();
        let calling =
            Sipp::endless(directory, "uac_hold", ports + 6, &proxy, &keys("holder0"), &more);
        Self { calling, answering, log, held: Duration::from_secs(held) }
    }

    /// Lets the last calls end.
    pub fn end(mut self) -> Vec<Held> {
        self.calling.stop_placing();
        self.calling.ends(self.held + FAILED);
        self.answering.kill();
        let log = std::fs::read_to_string(&self.log).unwrap();
        let of = |word: &'static str| log.lines().filter_map(move |line| line.strip_prefix(word));
        let rang: BTreeSet<&str> = of("rang ").map(str::trim).collect();
        let answered: BTreeSet<&str> = of("answered ").map(str::trim).collect();
        let held = |call_id: &str| Held {
            call_id: call_id.to_owned(),
            rang: rang.contains(call_id),
            answered: answered.contains(call_id),
        };
        of("placed ").map(str::trim).map(held).collect()
    }
}
