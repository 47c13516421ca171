//! What the tests need beyond Rust: Debian packages, npm and Python packages,
//! cargo tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{execute, root};

/// A Debian package, the file that shows it is there, and what for.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("baresip-core", "/usr/bin/baresip", "calls between real softphones"),
    ("sip-tester", "/usr/bin/sipp", "SIPp scenarios"),
    ("kamailio", "/usr/sbin/kamailio", "a carrier for trunk calls"),
    ("linphone-cli", "/usr/bin/linphonec", "calls with linphone"),
    ("postgresql", "/usr/lib/postgresql", "the regions' databases"),
    ("docker-compose", "/usr/bin/docker-compose", "the check of docker-compose.yml"),
    ("chromium", "/usr/bin/chromium", "calls with a browser"),
    ("libnss3-tools", "/usr/bin/certutil", "a certificate that the browser trusts"),
    ("npm", "/usr/bin/npm", "the browser's SIP client"),
    ("python3-venv", "/usr/bin/python3", "fuzzing of the HTTPS API"),
    ("openssl", "/usr/bin/openssl", "a DTLS peer with an RSA certificate"),
    ("tshark", "/usr/bin/tshark", "captures of the conformance run"),
    ("sqlite3", "/usr/bin/sqlite3", "dumps of the regions' databases"),
    ("curl", "/usr/bin/curl", "customers of the HTTPS API"),
    ("iproute2", "/usr/sbin/ip", "the conformance run's network"),
];

pub fn install() -> Result<()> {
    debian_packages()?;
    npm_packages()?;
    python_packages()
}

fn debian_packages() -> Result<()> {
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
    let npm = npm_directory().is_ok_and(|it| it.join("node_modules").exists());
    let python = python_directory().is_ok_and(|it| it.join("bin/schemathesis").exists());
    missing().is_empty() && npm && python
}

/// Installs the browser tests' SIP client, as locked, where the tests look for
/// it: below the target directory, away from the sources.
fn npm_packages() -> Result<()> {
    if !Path::new("/usr/bin/npm").exists() {
        return Ok(());
    }
    let directory = npm_directory()?;
    fs::create_dir_all(&directory)?;
    let (lock, copy) = (root().join(NPM_MANIFESTS).join(LOCK), directory.join(LOCK));
    let is_current = directory.join("node_modules").exists()
        && fs::read(&copy).is_ok_and(|it| fs::read(&lock).is_ok_and(|lock| it == lock));
    if is_current {
        return Ok(());
    }
    for name in ["package.json", LOCK] {
        fs::copy(root().join(NPM_MANIFESTS).join(name), directory.join(name))?;
    }
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    let installed = Command::new("npm").args(npm).current_dir(&directory).status()?;
    if !installed.success() {
        // The next run is to try again, not to take half for the whole.
        let _ = fs::remove_file(&copy);
        eprintln!("`npm ci` ended with {installed}: the browser tests are skipped");
    }
    Ok(())
}

const NPM_MANIFESTS: &str = "testdata/browser";
const LOCK: &str = "package-lock.json";

/// Installs the API's fuzzer, as locked, in an environment of its own.
fn python_packages() -> Result<()> {
    let (lock, directory) = (root().join(REQUIREMENTS), python_directory()?);
    let copy = directory.join("requirements.txt");
    if fs::read(&copy).is_ok_and(|it| fs::read(&lock).is_ok_and(|lock| it == lock)) {
        return Ok(());
    }
    fs::create_dir_all(&directory)?;
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory).status();
    let pip = ["install", "--quiet", "--no-deps", "--disable-pip-version-check", "--requirement"];
    let installed = made.ok().filter(|status| status.success()).is_some_and(|_| {
        let mut pip_install = Command::new(directory.join("bin/pip"));
        pip_install.args(pip).arg(&lock).status().is_ok_and(|status| status.success())
    });
    match installed {
        true => fs::copy(&lock, &copy).map(drop).context("the lock is not written down"),
        false => {
            let _ = fs::remove_file(directory.join("bin/schemathesis"));
            eprintln!("no Python environment with {REQUIREMENTS}: the API is not fuzzed");
            Ok(())
        }
    }
}

const REQUIREMENTS: &str = "testdata/schemathesis/requirements.txt";

fn npm_directory() -> Result<PathBuf> {
    Ok(temporary()?.join("browser"))
}

fn python_directory() -> Result<PathBuf> {
    Ok(temporary()?.join("schemathesis"))
}

/// `target/tmp`: cargo tells the tests of it by name, and this program lies in
/// `target/debug`.
fn temporary() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("no target directory")?;
    Ok(target.join("tmp"))
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
