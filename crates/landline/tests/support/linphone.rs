//! `linphonec` as a child process, driven by what a person would type.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::Duration;

use super::process::Process;
use super::{eventually, tone};

pub const PROGRAM: &str = "/usr/bin/linphonec";

pub struct Linphone {
    process: Process,
    keyboard: ChildStdin,
    heard: PathBuf,
    trace: PathBuf,
}

impl Linphone {
    /// Starts with a configuration file, sound cards replaced by files, and
    /// waits until it is registered. It answers by itself.
    #[track_caller]
    pub fn registered(parent: &Path, config: &Path, tone: u32) -> Self {
        let directory = parent.join(config.file_name().unwrap());
        // Its databases go to the home directory, if they can.
        fs::create_dir_all(directory.join(".local/share/linphone")).unwrap();
        let played = directory.join("played.wav");
        PLAYED.write(&played, tone);
        let heard = directory.join("heard.wav");
        let trace = directory.join("trace");
        let (process, keyboard) = Process::at_a_keyboard(
            Command::new(PROGRAM)
                .env("HOME", &directory)
                .args(["-a", "-d", "6", "-l"])
                .arg(&trace)
                .arg("-c")
                .arg(config),
            &directory.join("log"),
        );
        let mut phone = Self { process, keyboard, heard, trace };
        phone.says("linphonec>");
        phone.types("soundcard use files");
        phone.types(&format!("play {}", played.display()));
        phone.types(&format!("record {}", phone.heard.display()));
        eventually("linphone's registration", Duration::from_secs(15), || {
            phone.types("status register");
            std::thread::sleep(Duration::from_millis(250));
            phone.process.log().contains("registered, identity=").then_some(())
        });
        phone
    }

    /// Takes PCMU alone: what it hears by a wider codec is written at a rate of
    /// its own.
    pub fn keep_to_pcmu(&mut self) {
        self.types("codec disable all");
        self.types("codec enable 3");
    }

    pub fn dial(&mut self, target: &str) {
        self.types(&format!("call {target}"));
    }

    pub fn chat(&mut self, target: &str, words: &str) {
        self.types(&format!("chat {target} {words}"));
    }

    pub fn hang_up(&mut self) {
        self.types("terminate");
    }

    pub fn types(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    /// Waits until it has written something, since it started.
    #[track_caller]
    pub fn says(&self, words: &str) {
        eventually(&format!("linphone says {words:?}"), Duration::from_secs(15), || {
            self.process.log().contains(words).then_some(())
        });
    }

    /// The dominant tone of what it heard in its latest call, by G.711, in Hz.
    pub fn heard(&self) -> Option<f64> {
        tone::dominant(&self.samples(), 8000)
    }

    /// What its libraries say of themselves.
    pub fn trace(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.trace).unwrap_or_default()).into_owned()
    }

    /// What it has heard so far.
    pub fn samples(&self) -> Vec<i16> {
        // The header is written when the call ends; the samples come before.
        let bytes = fs::read(&self.heard).unwrap_or_default();
        let samples = bytes.get(44..).unwrap_or_default().chunks_exact(2);
        samples.map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect()
    }

    /// Forgets what it heard: the next call is judged by its own.
    pub fn forget(&self) {
        let _ = fs::remove_file(&self.heard);
    }
}

/// A minute.
const PLAYED: tone::Wav = tone::Wav { rate: 8000, channels: 1, seconds: 60, peak: 12_000.0 };
