//! Private PostgreSQL clusters that a test may kill, stop, copy and promote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::eventually;

const SOON: Duration = Duration::from_secs(60);

pub struct Cluster {
    pub port: u16,
    bin: PathBuf,
    directory: tempfile::TempDir,
}

/// A session that holds something until it is dropped.
pub struct Session(Child);

impl Cluster {
    /// `None` where PostgreSQL is not installed.
    pub fn start(port: u16) -> Option<Self> {
        let cluster = Self::made(port)?;
        cluster.run(
            cluster.program("initdb").args(["--auth=trust", "--username=postgres"]).args([
                "--encoding=UTF8",
                "--no-sync",
                "-D",
            ]),
            true,
        );
        cluster.resume();
        Some(cluster)
    }

    /// A standby that streams from this one.
    pub fn replica(&self, port: u16) -> Self {
        let replica = Self::made(port).unwrap();
        let source = format!("host=127.0.0.1 port={} user=postgres", self.port);
        replica.run(
            replica.program("pg_basebackup").args([
                "--write-recovery-conf",
                "--checkpoint=fast",
                "-d",
                &source,
                "-D",
            ]),
            true,
        );
        replica.resume();
        replica
    }

    fn made(port: u16) -> Option<Self> {
        let bin = newest_bin()?;
        let directory = tempfile::Builder::new().prefix("landline-pg-kill-").tempdir().unwrap();
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(directory.path()).status();
            assert!(owned.is_ok_and(|status| status.success()));
        }
        Some(Self { port, bin, directory })
    }

    /// Starts it; after a SIGKILL as soon as what it left behind lets it.
    pub fn resume(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='{}' -c fsync=off -c max_connections=100",
            self.port,
            self.directory.path().display()
        );
        let log = self.directory.path().join("log");
        eventually("PostgreSQL starts", SOON, || {
            let mut start = self.program("pg_ctl");
            start.args(["start", "--wait", "--silent", "-o", &options, "-l"]).arg(&log).arg("-D");
            start.arg(self.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            start.status().unwrap().success().then_some(())
        });
    }

    /// SIGKILL to the server; its children end when they see that it is gone.
    pub fn kill(&self) {
        let pid = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        if let Some(pid) = pid.lines().next().filter(|pid| pid.parse::<u32>().is_ok()) {
            let _ = Command::new("kill").args(["-KILL", pid]).status();
        }
    }

    /// A commit waits for a standby from now on, as long as there is one.
    pub fn replicate(&self) {
        eventually("the standby streams", SOON, || {
            let streaming = "SELECT COUNT(*) FROM pg_stat_replication WHERE state = 'streaming'";
            (self.ask("postgres", streaming) == "1").then_some(())
        });
        self.ask("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'");
        self.ask("postgres", "SELECT pg_reload_conf()");
    }

    pub fn promote(&self) {
        self.run(self.program("pg_ctl").args(["promote", "--wait", "--silent", "-D"]), true);
        // It waited for nobody, and has nobody to wait for.
        self.ask("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
        self.ask("postgres", "SELECT pg_reload_conf()");
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// One statement, and the rows it answers.
    #[track_caller]
    pub fn ask(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database).args(["-qAtc", sql]).output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A statement that runs beside the test.
    pub fn hold(&self, database: &str, sql: &str) -> Session {
        let mut psql = self.psql(database);
        psql.args(["-qc", sql]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Session(psql.spawn().unwrap())
    }

    fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.arg("-X").arg(self.url(database));
        psql
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn run(&self, command: &mut Command, must: bool) {
        let output = command.arg(self.data()).stdin(Stdio::null()).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || !must, "{command:?}: {words}");
    }

    /// PostgreSQL refuses to run as root: then its own user runs it.
    fn program(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(path);
                command
            }
            false => Command::new(path),
        };
        command.current_dir("/");
        command
    }
}

impl Session {
    pub fn end(mut self) {
        let _ = self.0.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        stop.args(["stop", "--mode=immediate", "--silent", "-D"]).arg(self.data());
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn newest_bin() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path());
    let mut bins: Vec<PathBuf> =
        versions.map(|path| path.join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    bins.sort();
    bins.pop()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(Path::new("/proc/self")).is_ok_and(|metadata| metadata.uid() == 0)
}
