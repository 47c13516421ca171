//! TLS taken off by tshark, with the session secrets that an endpoint wrote
//! (the NSS key log format).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Streams asked for in one run of tshark: each holds its octets as hex.
const AT_ONCE: usize = 200;

/// One TLS connection.
#[derive(Debug, Clone)]
pub struct Stream {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// What each side said; both empty where no key opened it.
    pub from_client: Vec<u8>,
    pub from_server: Vec<u8>,
}

impl Stream {
    pub fn is_opened(&self) -> bool {
        !(self.from_client.is_empty() && self.from_server.is_empty())
    }
}

/// Every TLS connection of a capture. `ports` are those where TLS is spoken,
/// whatever a port's usual protocol.
pub fn decrypted_streams(capture: &Path, keys: &Path, ports: &[u16]) -> Result<Vec<Stream>> {
    let base = || {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(capture).arg("-o");
        command.arg(format!("tls.keylog_file:{}", keys.display()));
        for port in ports {
            command.arg("-d").arg(format!("tcp.port=={port},tls"));
        }
        command
    };
    let mut list = base();
    list.args(["-Y", "tls.handshake.type == 1", "-T", "fields", "-E", "separator=/s"]);
    for field in
        ["tcp.stream", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport"]
    {
        list.args(["-e", field]);
    }
    let mut streams: BTreeMap<u32, Stream> = run(&mut list)?.lines().filter_map(hello).collect();
    let numbers: Vec<u32> = streams.keys().copied().collect();
    for numbers in numbers.chunks(AT_ONCE) {
        let mut command = base();
        command.arg("-q");
        for number in numbers {
            command.arg("-z").arg(format!("follow,tls,raw,{number}"));
        }
        said(&run(&mut command)?, &mut streams);
    }
    Ok(streams.into_values().collect())
}

/// The number and the ends of a stream, from the line of its ClientHello.
fn hello(line: &str) -> Option<(u32, Stream)> {
    // Of the two kinds of address one is empty.
    let mut fields = line.split_whitespace();
    let number = fields.next()?.parse().ok()?;
    let mut end = || -> Option<SocketAddr> {
        let (address, port) = (fields.next()?, fields.next()?);
        Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?))
    };
    let (client, server) = (end()?, end()?);
    let (from_client, from_server) = (Vec::new(), Vec::new());
    Some((number, Stream { client, server, from_client, from_server }))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("tshark cannot be started")?;
    if !output.status.success() {
        bail!("tshark ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Between rulers: the stream's number, Node 0, then hex, a tab before what
/// Node 1 said.
fn said(text: &str, streams: &mut BTreeMap<u32, Stream>) {
    let mut number = None;
    let mut node_0 = None;
    for line in text.lines() {
        if let Some(filter) = line.strip_prefix("Filter: tcp.stream eq ") {
            number = filter.trim().parse::<u32>().ok();
        } else if let Some(address) = line.strip_prefix("Node 0: ") {
            node_0 = address.trim().parse::<SocketAddr>().ok();
        } else if let Some(stream) = number.and_then(|number| streams.get_mut(&number))
            && let Ok(octets) = hex::decode(line.trim())
        {
            let from_client = line.starts_with('\t') != (node_0 == Some(stream.client));
            let side = if from_client { &mut stream.from_client } else { &mut stream.from_server };
            side.extend(octets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_stream_are_told_apart() {
        let hellos = ["0 10.0.0.1 40000 10.0.0.2 5070", "1 fd00::1 1 fd00::2 2"];
        let mut streams = hellos.into_iter().filter_map(hello).collect();
        let text = "\n====\nFollow: tls,raw\nFilter: tcp.stream eq 0\nNode 0: 10.0.0.1:40000\n\
                    Node 1: 10.0.0.2:5070\n494e5649\n\t5349502f\n5445\n====\n\n====\n\
                    Follow: tls,raw\nFilter: tcp.stream eq 1\nNode 0: :0\nNode 1: :0\n====\n";
        said(text, &mut streams);
        assert_eq!(streams[&0].from_client, b"INVITE");
        assert_eq!(streams[&0].from_server, b"SIP/");
        assert_eq!(streams[&0].server, "10.0.0.2:5070".parse().unwrap());
        assert!(!streams[&1].is_opened());
    }
}
