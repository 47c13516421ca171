//! Private PostgreSQL clusters: one a region, in a directory of their own, on
//! ports of their own, gone when the tests are.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::tools::is_root;

pub struct Cluster {
    pub port: u16,
    bin: PathBuf,
    directory: TempDir,
}

impl Cluster {
    /// `None` where PostgreSQL is not installed.
    pub fn start(name: &str) -> Result<Option<Self>> {
        let Some(bin) = newest_bin() else { return Ok(None) };
        let directory =
            tempfile::Builder::new().prefix(&format!("landline-pg-{name}-")).tempdir()?;
        if is_root() {
            quiet(Command::new("chown").arg("postgres").arg(directory.path()))?;
        }
        let cluster = Self { port: free_port()?, bin, directory };
        quiet(
            cluster
                .program("initdb")
                .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"])
                .arg("-D")
                .arg(cluster.data()),
        )
        .context("initdb failed")?;
        // Durability is tested with the embedded database; here speed counts.
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='{}' -c fsync=off -c max_connections=200",
            cluster.port,
            cluster.directory.path().display()
        );
        quiet(
            cluster
                .program("pg_ctl")
                .args(["start", "--wait", "--silent"])
                .arg("-D")
                .arg(cluster.data())
                .arg("-o")
                .arg(options)
                .arg("-l")
                .arg(cluster.directory.path().join("log")),
        )
        .context("pg_ctl start failed")?;
        Ok(Some(cluster))
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }

    /// A database's URL from another network namespace, where only files are
    /// the same.
    pub fn by_socket(&self, database: &str) -> String {
        let socket = self.directory.path().display();
        let port = self.port;
        format!("postgres://postgres@localhost:{port}/{database}?host={socket}&sslmode=disable")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// PostgreSQL refuses to run as root: then its own user runs it.
    fn program(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut command;
        if is_root() {
            command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
        } else {
            command = Command::new(path);
        }
        command.current_dir("/");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = quiet(
            self.program("pg_ctl")
                .args(["stop", "--mode=immediate", "--silent"])
                .arg("-D")
                .arg(self.data()),
        );
        if let Err(error) = stopped {
            eprintln!("xtask: {error:#}");
        }
    }
}

fn newest_bin() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin): &(u32, PathBuf)| bin.join("initdb").exists())
        .collect();
    versions.sort();
    versions.pop().map(|(_, bin)| bin)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs a program that has nothing to say unless it fails.
fn quiet(command: &mut Command) -> Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    // pg_ctl's server would keep a pipe open for ever: a file takes its words.
    let words = tempfile::tempfile()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(words.try_clone()?)
        .stderr(words.try_clone()?)
        .status()?;
    if !status.success() {
        bail!("{program} ended with {status}: {}", read_back(words)?.trim());
    }
    Ok(())
}

fn read_back(mut file: fs::File) -> Result<String> {
    use std::io::{Read, Seek};
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}
