//! Landline itself as a child process, and its admin commands.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::Process;
use super::region::http;
use super::{eventually, free_ports};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_landline");

/// A running demo: three regions in one process.
pub struct Demo {
    pub process: Process,
    pub info: Value,
    pub data: PathBuf,
}

impl Demo {
    #[track_caller]
    pub fn start(parent: &Path) -> Self {
        Self::at(parent, "127.0.0.1")
    }

    /// The same on another address of this machine.
    #[track_caller]
    pub fn at(parent: &Path, address: &str) -> Self {
        let data = parent.join("data");
        let info = parent.join("info.json");
        let mut process = Process::start(
            Command::new(PROGRAM)
                .args(["demo", "--base-port", &free_ports(60).to_string(), "--bind", address])
                .arg("--data")
                .arg(&data)
                .arg("--info")
                .arg(&info),
            &parent.join("landline.log"),
        );
        let info = eventually("the demo's info file", Duration::from_secs(60), || {
            if let Some(code) = process.exit_code() {
                panic!("the demo ended with {code}");
            }
            serde_json::from_slice(&std::fs::read(&info).ok()?).ok()
        });
        Self { process, info, data }
    }

    /// Ends the demo and brings one of its regions up by itself, with a setting
    /// changed: its key, and what is to stand behind it. The others stay down.
    #[track_caller]
    pub fn only(&mut self, region: &str, (key, value): (&str, &str)) {
        self.process.end();
        let directory = self.data.join(region);
        let config = directory.join("config.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let is_set = |line: &&str| line.split(" = ").next() == Some(key);
        let lines = text.lines().map(|line| match is_set(&line) {
            true => format!("{key} = {value}\n"),
            false => format!("{line}\n"),
        });
        assert_eq!(text.lines().filter(is_set).count(), 1, "{key}");
        std::fs::write(&config, lines.collect::<String>()).unwrap();
        self.process = Process::start(
            Command::new(PROGRAM).args(["up", "--config"]).arg(&config),
            &directory.join("up.log"),
        );
        let tcp = self.sip(region, "tcp").to_owned();
        eventually("the region's listeners", Duration::from_secs(15), || {
            if let Some(code) = self.process.exit_code() {
                panic!("the region ended with {code}");
            }
            TcpStream::connect(&tcp).ok()
        });
    }

    /// An address of a region's proxy, as `ip:port`.
    #[track_caller]
    pub fn sip(&self, region: &str, transport: &str) -> &str {
        text(&self.info["regions"][region]["sip"][transport])
    }

    /// A gauge of a region's relay, of the child that has this label.
    #[track_caller]
    pub fn relay_gauge(&self, region: &str, name: &str, label: &str) -> f64 {
        let metrics = text(&self.info["regions"][region]["metrics"]);
        let address = metrics.split('/').nth(2).unwrap();
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        let told = http(port, "/metrics").expect("the metrics");
        let name = format!("landline_relay_{name}{{");
        let found = told.lines().find(|line| line.starts_with(&name) && line.contains(label));
        let line = found.unwrap_or_else(|| panic!("no {name} {label}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub fn ca(&self) -> &Path {
        Path::new(text(&self.info["ca"]))
    }

    /// A user of the account with this domain.
    #[track_caller]
    pub fn user(&self, domain: &str, user: &str) -> User {
        let account = array(&self.info["accounts"])
            .iter()
            .find(|account| account["domain"] == domain)
            .unwrap();
        let found = array(&account["users"]).iter().find(|entry| entry["user"] == user).unwrap();
        User {
            name: user.to_owned(),
            domain: domain.to_owned(),
            password: text(&found["password"]).to_owned(),
            number: text(&found["number"]).to_owned(),
        }
    }

    /// Adds a user beside the running demo, and waits until its proxy knows.
    #[track_caller]
    pub fn add_user(&self, domain: &str, user: &str, options: &[&str]) -> User {
        let added = self.admin(&[&["user", "add", domain, user], options].concat());
        // "Take effect within a second" is the promise.
        std::thread::sleep(Duration::from_secs(1));
        User {
            name: user.to_owned(),
            domain: domain.to_owned(),
            password: text(&added["password"]).to_owned(),
            number: added["number"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Runs an admin command beside the running demo; its JSON.
    #[track_caller]
    pub fn admin(&self, arguments: &[&str]) -> Value {
        admin(arguments, "--data", &self.data)
    }

    /// The records of an account, newest first, once `wanted` of them are closed.
    #[track_caller]
    pub fn closed_calls(&self, domain: &str, wanted: usize) -> Vec<Value> {
        eventually(&format!("{wanted} closed calls of {domain}"), Duration::from_secs(10), || {
            let calls = self.admin(&["calls", "list", domain]);
            let closed: Vec<_> =
                array(&calls).iter().filter(|call| !call["closed_at"].is_null()).cloned().collect();
            (closed.len() >= wanted).then_some(closed)
        })
    }
}

pub struct User {
    pub name: String,
    pub domain: String,
    pub password: String,
    pub number: String,
}

#[track_caller]
pub fn admin(arguments: &[&str], place: &str, path: &Path) -> Value {
    let output =
        Command::new(PROGRAM).args(arguments).arg("--json").arg(place).arg(path).output().unwrap();
    assert!(
        output.status.success(),
        "landline {arguments:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "landline {arguments:?} printed no JSON: {error}\n{}",
            String::from_utf8_lossy(&output.stdout)
        )
    })
}

#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("wanted text, found {value}"))
}

#[track_caller]
pub fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("wanted a list, found {value}"))
}
