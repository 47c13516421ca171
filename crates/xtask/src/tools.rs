//! What the tests need beyond Rust: Debian packages and cargo tools.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::execute;

/// A Debian package, the file that shows it is there, and what for.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("baresip-core", "/usr/bin/baresip", "calls between real softphones"),
    ("sip-tester", "/usr/bin/sipp", "SIPp scenarios"),
    ("kamailio", "/usr/sbin/kamailio", "a carrier for trunk calls"),
    ("linphone-cli", "/usr/bin/linphonec", "calls with linphone"),
    ("postgresql", "/usr/lib/postgresql", "the regions' databases"),
    ("docker-compose", "/usr/bin/docker-compose", "the check of docker-compose.yml"),
    ("openssl", "/usr/bin/openssl", "a DTLS peer with an RSA certificate"),
];

pub fn install() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        for (package, _, purpose) in &missing {
            eprintln!("missing Debian package {package}: {purpose}");
        }
        let names: Vec<_> = missing.iter().map(|(package, ..)| *package).collect();
        eprintln!("install with: sudo apt-get install --no-install-recommends {}", names.join(" "));
        eprintln!("the tests that need them are skipped");
        return Ok(());
    }
    eprintln!("installing {} Debian packages", missing.len());
    execute(apt().arg("update"))?;
    execute(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(missing.iter().map(|(package, ..)| package)),
    )
}

/// Whether every package is there.
pub fn complete() -> bool {
    missing().is_empty()
}

fn missing() -> Vec<(&'static str, &'static str, &'static str)> {
    PACKAGES.iter().copied().filter(|(_, file, _)| !Path::new(file).exists()).collect()
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    // Packages that ship a service must not start it: the tests run their own.
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .args(["--quiet", "--quiet"])
        .stdout(Stdio::null());
    command
}

pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Makes sure that a cargo subcommand is there, building it if it is not.
pub fn cargo_tool(name: &str) -> Result<()> {
    if is_installed(name) {
        return Ok(());
    }
    eprintln!("building {name}, once");
    let built = crate::cargo().args(["install", "--locked", name]).status()?;
    if !built.success() {
        bail!("`cargo install --locked {name}` ended with {built}");
    }
    Ok(())
}

/// Whether a cargo subcommand is there.
pub fn is_installed(name: &str) -> bool {
    Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
