//! Databases as a client reads them: every table dumped by the engine's own
//! tool, octets as hex.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::Search;

/// `sqlite:PATH`, or a PostgreSQL URL.
pub fn scan_database(search: &mut Search<'_>, held_by: &str, url: &str) -> Result<()> {
    let (mut command, name) = match url.strip_prefix("sqlite:") {
        Some(path) => {
            let mut command = Command::new("sqlite3");
            command.args(["-readonly", path, ".dump"]);
            let name = Path::new(path).file_name().unwrap_or_default();
            (command, format!("dump of {}", name.to_string_lossy()))
        }
        None => {
            let mut command = Command::new("pg_dump");
            command.args(["--inserts", "--no-owner"]).arg(url);
            // What follows the question mark may hold a path.
            let name = url.split('?').next().and_then(|url| url.rsplit('/').next());
            (command, format!("dump of {}", name.unwrap_or_default()))
        }
    };
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    if let Some(output) = child.stdout.take() {
        search.dump(held_by, &name, output)?;
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{program} ended with {status}: {name} of {held_by} is not searched");
    }
    Ok(())
}

/// Writes rows into a table of its own, as a leak would lie there. The
/// database must be a copy.
pub fn plant_in_database(url: &str, leaks: &[Vec<u8>]) -> Result<()> {
    let sqlite = url.strip_prefix("sqlite:");
    let (octets, column) = if sqlite.is_some() { ("X'", "blob") } else { ("'\\x", "bytea") };
    let mut text = format!("create table planted (leak {column});\n");
    for leak in leaks {
        text.push_str(&format!("insert into planted values ({octets}{}');\n", hex::encode(leak)));
    }
    let mut command;
    match sqlite {
        Some(path) => {
            command = Command::new("sqlite3");
            command.arg(path);
        }
        None => {
            command = Command::new("psql");
            command.args(["-q", "-v", "ON_ERROR_STOP=1", url]);
        }
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("the database's client cannot be started")?;
    if let Some(mut input) = child.stdin.take() {
        std::io::Write::write_all(&mut input, text.as_bytes())?;
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("planting in a database ended with {status}");
    }
    Ok(())
}
