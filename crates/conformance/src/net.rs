//! The namespaces: one for each region, a router between them, and the one
//! that this process itself is in, where the clients are.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub struct Network {
    router: Namespace,
    pub regions: Vec<Site>,
}

/// A region's place in the network.
pub struct Site {
    pub region: &'static str,
    pub address: IpAddr,
    pub namespace: Namespace,
}

/// Held open by a process that ends when this is dropped.
pub struct Namespace {
    holder: Child,
}

/// Where clients are.
pub const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 71, 0, 2));

pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|it| it.stdout.trim_ascii() == b"0")
}

impl Network {
    pub fn build(regions: &[&'static str]) -> Result<Self> {
        let router = Namespace::create()?;
        router.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        router.connect("outside", 0, None)?;
        let mut sites = Vec::new();
        for (region, number) in regions.iter().zip(1..) {
            let namespace = Namespace::create()?;
            namespace.run("ip", &["link", "set", "lo", "up"])?;
            router.connect(region, number, Some(&namespace))?;
            sites.push(Site {
                region,
                address: Ipv4Addr::new(10, 71, number, 2).into(),
                namespace,
            });
        }
        Ok(Self { router, regions: sites })
    }

    /// The region whose network an address is in; `None` for clients.
    pub fn region_of(&self, address: IpAddr) -> Option<&'static str> {
        let IpAddr::V4(address) = address else { return None };
        let [_, _, number, _] = address.octets();
        let site = usize::from(number).checked_sub(1)?;
        self.regions.get(site).map(|site| site.region)
    }

    /// A program that runs where every packet passes.
    pub fn in_router(&self, program: &str) -> Command {
        self.router.command(program)
    }

    pub fn site(&self, region: &str) -> Result<&Site> {
        self.regions.iter().find(|site| site.region == region).context("no such region")
    }
}

impl Namespace {
    fn create() -> Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a network namespace")?;
        // Once it answers, it is there.
        let (Some(input), Some(output)) = (&mut holder.stdin, &mut holder.stdout) else {
            bail!("a namespace's holder has no pipes");
        };
        input.write_all(b"?")?;
        output.read_exact(&mut [0]).context("a network namespace could not be made")?;
        Ok(Self { holder })
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let net = format!("--net=/proc/{}/ns/net", self.holder.id());
        command.args([&net, "--", program]);
        command
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        run(self.command(program).args(arguments))
    }

    /// A cable from here, the router, to another namespace.
    fn connect(&self, name: &str, number: u8, other: Option<&Self>) -> Result<()> {
        let router = self.holder.id().to_string();
        let other_end = other.map_or(std::process::id(), |other| other.holder.id()).to_string();
        run(Command::new("ip").args([
            "link", "add", "name", name, "netns", &router, "type", "veth", "peer", "name", "up0",
            "netns", &other_end,
        ]))?;
        let gateway = format!("10.71.{number}.1");
        self.run("ip", &["address", "add", &format!("{gateway}/24"), "dev", name])?;
        self.run("ip", &["link", "set", name, "up"])?;
        let there = |arguments: &[&str]| match other {
            Some(other) => other.run("ip", arguments),
            None => run(Command::new("ip").args(arguments)),
        };
        there(&["address", "add", &format!("10.71.{number}.2/24"), "dev", "up0"])?;
        there(&["link", "set", "up0", "up"])?;
        there(&["route", "add", "default", "via", &gateway])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}", output.status, words.trim());
    }
    Ok(())
}

/// Prints what `ADDRESS/path` serves over HTTP.
pub fn fetch(address: &str) -> Result<()> {
    let (host, path) = address.split_once('/').context("wanted IP:PORT/PATH")?;
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    std::io::stdout().write_all(&answer)?;
    Ok(())
}
