//! SIPp as a child process: one scenario, a number of calls, its verdict.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::server::User;

pub const PROGRAM: &str = "/usr/bin/sipp";

pub struct Sipp {
    process: Process,
}

/// A user and a password are options of SIPp's own.
fn give(command: &mut Command, keys: &[(&str, &str)]) {
    for (name, value) in keys {
        match *name {
            "user" => command.args(["-au", value, "-s", value, "-key", "user", value]),
            // It says what it hears, at this port.
            "echo" => command.args(["-rtp_echo", "-mp", value]),
            "password" => command.args(["-ap", value]),
            _ => command.args(["-key", name, value]),
        };
    }
}

impl Sipp {
    /// Starts `testdata/sipp/SCENARIO.xml` from `local` towards `remote`
    /// (both `ip:port`), for `calls` calls, with `-key NAME VALUE` pairs.
    pub fn start(
        directory: &Path,
        scenario: &str,
        local: u16,
        remote: &str,
        calls: u32,
        keys: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(PROGRAM);
        command
            .current_dir(directory)
            .arg(remote)
            .arg("-sf")
            .arg(scenario_file(scenario))
            .args(["-i", "127.0.0.1", "-p", &local.to_string(), "-m", &calls.to_string()])
            .args(["-nostdin", "-trace_err", "-timeout", "90s", "-timeout_error"])
            .args(["-error_file", &format!("{scenario}-{local}.errors")]);
        give(&mut command, keys);
        Self {
            process: Process::start(
                &mut command,
                &directory.join(format!("{scenario}-{local}.log")),
            ),
        }
    }

    /// [`Self::start`] of one call for a user, with a target of the scenario's.
    pub fn of(
        directory: &Path,
        scenario: &str,
        local: u16,
        remote: &str,
        user: &User,
        target: &str,
    ) -> Self {
        let keys = [
            ("user", user.name.as_str()),
            ("password", &user.password),
            ("domain", &user.domain),
            ("target", target),
        ];
        Self::start(directory, scenario, local, remote, 1, &keys)
    }

    /// [`Self::start`] of calls without end, with arguments of SIPp's own. What fails
    /// is counted by SIPp and no matter.
    pub fn endless(
        directory: &Path,
        scenario: &str,
        local: u16,
        remote: &str,
        keys: &[(&str, &str)],
        more: &[&str],
    ) -> Self {
        let mut command = Command::new(PROGRAM);
        command
            .current_dir(directory)
            .arg(remote)
            .arg("-sf")
            .arg(scenario_file(scenario))
            .args(["-i", "127.0.0.1", "-p", &local.to_string(), "-nostdin"])
            .args(["-recv_timeout", "10000"])
            .args(more);
        give(&mut command, keys);
        let log = directory.join(format!("{scenario}-{local}.log"));
        Self { process: Process::start(&mut command, &log) }
    }

    /// No more calls; those that are placed go on. SIGUSR1 is the key `q`.
    pub fn stop_placing(&self) {
        let id = self.process.id().to_string();
        let _ = Command::new("kill").args(["-USR1", &id]).status();
    }

    /// Waits for the end, whatever it is.
    pub fn ends(&mut self, limit: Duration) {
        let _ = self.process.wait(limit);
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits for the end; every call must have gone by the scenario.
    #[track_caller]
    pub fn succeeds(&mut self) {
        let code = self.process.wait(Duration::from_secs(100));
        assert_eq!(code, 0, "SIPp's calls did not go by their scenario");
    }
}

fn scenario_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/sipp").join(format!("{name}.xml"))
}
