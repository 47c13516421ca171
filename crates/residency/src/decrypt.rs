//! TLS taken off by tshark, with the session secrets that an endpoint wrote
//! (the NSS key log format).

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
    let listed = run(base().args(["-Y", "tls", "-T", "fields"]).args(["-e", "tcp.stream"]))?;
    let mut numbers: Vec<u32> =
        listed.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut streams = Vec::new();
    for numbers in numbers.chunks(AT_ONCE) {
        let mut command = base();
        command.arg("-q");
        for number in numbers {
            command.arg("-z").arg(format!("follow,tls,raw,{number}"));
        }
        streams.extend(parse(&run(&mut command)?)?);
    }
    Ok(streams)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("tshark cannot be started")?;
    if !output.status.success() {
        bail!("tshark ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Between rulers: the addresses as Node 0 and Node 1, then hex, a tab before
/// what Node 1 said.
fn parse(text: &str) -> Result<Vec<Stream>> {
    let mut streams: Vec<Stream> = Vec::new();
    let mut client = None;
    for line in text.lines() {
        if let Some(address) = line.strip_prefix("Node 0: ") {
            client = address.trim().parse().ok();
        } else if let Some(address) = line.strip_prefix("Node 1: ") {
            let (Some(client), Ok(server)) = (client.take(), address.trim().parse()) else {
                bail!("tshark wrote addresses that cannot be read: {line}");
            };
            let (from_client, from_server) = (Vec::new(), Vec::new());
            streams.push(Stream { client, server, from_client, from_server });
        } else if let Some(stream) = streams.last_mut()
            && let Ok(octets) = hex::decode(line.trim())
        {
            let server = line.starts_with('\t');
            let side = if server { &mut stream.from_server } else { &mut stream.from_client };
            side.extend(octets);
        }
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_stream_are_told_apart() {
        let text = "\n====\nFollow: tls,raw\nFilter: tcp.stream eq 0\nNode 0: 10.0.0.1:40000\n\
                    Node 1: 10.0.0.2:5070\n494e5649\n\t5349502f\n5445\n====\n\n====\n\
                    Follow: tls,raw\nNode 0: [fd00::1]:1\nNode 1: [fd00::2]:2\n====\n";
        let streams = parse(text).unwrap();
        assert_eq!(streams[0].from_client, b"INVITE");
        assert_eq!(streams[0].from_server, b"SIP/");
        assert!(!streams[1].is_opened());
    }
}
