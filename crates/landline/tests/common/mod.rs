//! The binary, and regions in a directory of their own for it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.err))
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub fn landline(arguments: &[&str]) -> Answer {
    command().args(arguments).output().unwrap().into()
}

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landline"));
    command.stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// The whole answer to a GET, or `None` while nobody listens.
pub fn get(port: u16, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A process that stays up; killed when dropped.
pub struct Running(pub std::process::Child);

impl Running {
    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A base port whose whole demo is free, below those that the system hands out.
pub fn base_port() -> u16 {
    use std::net::{TcpListener, UdpSocket};
    let free = |base: u16| {
        (base..base + 60).all(|port| {
            TcpListener::bind(("127.0.0.1", port)).is_ok()
                && UdpSocket::bind(("127.0.0.1", port)).is_ok()
        })
    };
    // Tests run as processes side by side: each begins to look elsewhere.
    let start = std::process::id() as u16 % 40 * 400;
    (0..40u16)
        .map(|step| 12_000 + (start + step * 400) % 16_000)
        .find(|&base| free(base))
        .expect("no free ports")
}

/// us1 and ie1 in one directory, laid out as a demo's.
pub struct Regions {
    dir: TempDir,
    base: u16,
}

impl Regions {
    pub fn new() -> Self {
        let base = base_port();
        let regions = Self { dir: tempfile::tempdir().unwrap(), base };
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sipconf");
        std::fs::copy(format!("{shipped}/regions.toml"), regions.dir.path().join("regions.toml"))
            .unwrap();
        for (code, jurisdiction, entity, port) in [
            ("us1", "US", "Landline US Inc", base),
            ("ie1", "IE", "Landline Ireland Ltd", base + 20),
        ] {
            std::fs::create_dir(regions.dir(code)).unwrap();
            let config = std::fs::read_to_string(format!("{shipped}/minimal.toml"))
                .unwrap()
                .replace("ie1", code)
                .replace("IE", jurisdiction)
                .replace("Landline Ireland Ltd", entity)
                .replace("trial/ca.pem", "../ca.pem")
                .replace("trial/directory.json", "../directory.json")
                .replace(&format!("trial/{code}/"), "")
                .replace("trial/", "")
                .replace("\"regions.toml\"", "\"../regions.toml\"")
                .replace(
                    "30000-30999",
                    &format!("{}-{}", port + 100 + port % 40, port + 199 + port % 40),
                )
                .replace(":5060", &format!(":{port}"))
                .replace(":5062", &format!(":{}", port + 4))
                .replace(":5065", &format!(":{}", port + 5));
            let telemetry = format!(
                "\n[telemetry]\naddress = \"127.0.0.1:{}\"\nrelay_address = \"127.0.0.1:{}\"\n",
                port + 6,
                port + 7
            );
            std::fs::write(regions.dir(code).join("config.toml"), config + &telemetry).unwrap();
        }
        regions
    }

    pub fn dir(&self, code: &str) -> PathBuf {
        self.dir.path().join(code)
    }

    pub fn config(&self, code: &str) -> String {
        self.dir(code).join("config.toml").display().to_string()
    }

    /// Where us1's proxy serves its health; its relay does so one port up.
    pub fn health_port(&self) -> u16 {
        self.base + 6
    }

    pub fn make_certificates(&self) {
        let dir = self.dir.path().display().to_string();
        for code in ["us1", "ie1"] {
            let made = landline(&["pki", "init", &dir, "--region", code, "--name", "127.0.0.1"]);
            assert_eq!(made.code, 0, "{}", made.err);
        }
    }

    /// A command on all regions, by `--data`.
    pub fn run(&self, arguments: &[&str]) -> Answer {
        command().args(arguments).arg("--data").arg(self.dir.path()).output().unwrap().into()
    }

    /// A command on one region, by `--config`, answered in JSON.
    pub fn in_region(&self, code: &str, arguments: &[&str]) -> Answer {
        command()
            .args(arguments)
            .args(["--json", "--config", &self.config(code)])
            .output()
            .unwrap()
            .into()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let answer: Answer = command()
            .args(arguments)
            .arg("--json")
            .arg("--data")
            .arg(self.dir.path())
            .output()
            .unwrap()
            .into();
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.err);
        answer.json()
    }
}
