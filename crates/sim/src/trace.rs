//! What happened, in order: as a digest always, in words when asked for.

use std::fmt::{self, Write};
use std::hash::Hasher;
use std::time::Duration;

use rustc_hash::FxHasher;

#[derive(Default)]
pub struct Trace {
    hasher: FxHasher,
    pub steps: u64,
    /// Prints each line.
    pub aloud: bool,
    /// The last lines, for who asks what led to a failure.
    recent: std::collections::VecDeque<String>,
}

const RECENT: usize = 40;

struct Sink<'a>(&'a mut FxHasher);

impl Write for Sink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    /// A step of the run.
    pub fn note(&mut self, at: Duration, what: fmt::Arguments<'_>) {
        self.steps += 1;
        self.hasher.write_u128(at.as_nanos());
        // Hashing text cannot fail.
        let _ = Sink(&mut self.hasher).write_fmt(what);
        if self.aloud {
            println!("{:>8} {:>11.6} {what}", self.steps, at.as_secs_f64());
        }
    }

    /// A step worth showing beside a failure.
    pub fn remark(&mut self, at: Duration, what: fmt::Arguments<'_>) {
        self.note(at, what);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(format!("{:>8} {:>11.6} {what}", self.steps, at.as_secs_f64()));
    }

    /// Octets that went somewhere; a SIP message is printed whole, since what
    /// failed is often told by one header field.
    pub fn octets(&mut self, octets: &[u8]) {
        self.hasher.write(octets);
        let is_text = || octets.first().is_some_and(u8::is_ascii_uppercase);
        if self.aloud && is_text() {
            let text = String::from_utf8_lossy(octets);
            text.lines().for_each(|line| println!("                     | {line}"));
        }
    }

    pub fn digest(&self) -> u64 {
        self.hasher.finish()
    }

    pub fn recent(&self) -> impl Iterator<Item = &String> {
        self.recent.iter()
    }
}
