//! What the dependencies may be: cargo-deny, as far as it can look here.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, execute, tools};

/// All checks. What needs the advisory database runs where there is one.
pub fn run() -> Result<()> {
    tools::cargo_tool("cargo-deny")?;
    manifest_checks()?;
    let fetched =
        cargo().args(["deny", "fetch", "db"]).output().is_ok_and(|it| it.status.success());
    if !fetched && !has_database() {
        eprintln!("deny: ran bans, licenses and sources");
        eprintln!("deny: did NOT run advisories: no database, and it could not be fetched");
        return Ok(());
    }
    let age = if fetched { "fetched now" } else { "as it was fetched last" };
    execute(cargo().args(["deny", "--offline", "check", "advisories"]))
        .with_context(|| format!("advisories, by the database {age}"))?;
    eprintln!("deny: ran bans, licenses, sources and advisories (database {age})");
    Ok(())
}

/// What depends on the commit alone, where cargo-deny is installed: building
/// it takes minutes, and a test run is not the place to wait for them.
pub fn run_if_installed() -> Result<()> {
    if tools::is_installed("cargo-deny") {
        return manifest_checks();
    }
    eprintln!("cargo-deny is not installed: bans, licenses and sources are not checked");
    eprintln!("`cargo xtask deny` builds it, once, in about four minutes, and checks them");
    Ok(())
}

fn manifest_checks() -> Result<()> {
    execute(cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

/// Whether cargo-deny cloned an advisory database before.
fn has_database() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let Some(entries) = home.and_then(|home| home.join("advisory-dbs").read_dir().ok()) else {
        return false;
    };
    entries.flatten().any(|entry| is_repository(&entry.path()))
}

fn is_repository(path: &std::path::Path) -> bool {
    let mut git = Command::new("git");
    git.arg("-C").arg(path).args(["rev-parse", "--verify", "--quiet", "HEAD"]);
    path.join(".git").exists() && git.output().is_ok_and(|it| it.status.success())
}
