//! Child processes, ended by their id.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a process may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(8);

pub struct Process {
    child: Child,
}

impl Process {
    /// Starts one whose words are appended to a file, and whose input stays
    /// open: openssl's server hangs up when its own ends.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let words = OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(words.try_clone()?)
            .stderr(words)
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        Ok(Self { child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Sends a signal, as `TERM`, and waits for the end.
    pub fn end(&mut self, signal: &str) -> Result<ExitStatus> {
        let id = self.child.id().to_string();
        crate::net::run(Command::new("kill").args([&format!("-{signal}"), &id]))?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("a process did not end within {PATIENCE:?} of SIG{signal}")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until the answer is there.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("not within {limit:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
