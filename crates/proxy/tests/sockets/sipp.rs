//! SIPp, a client that knows nothing of us.
//!
//! SIPp before 3.7 answers the first challenge, whether it knows the algorithm
//! or not, against RFC 8760 §2.4. A relay between the two takes the SHA-256
//! challenge out, so that it finds the MD5 one.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use landline_proxy::Transport;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{PASSWORD, World};

const SIPP: &str = "/usr/bin/sipp";

const SCENARIO: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<scenario name="register">
  <send retrans="500"><![CDATA[
REGISTER sip:acme.test SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:alice@acme.test>;tag=[pid]s[call_number]
To: <sip:alice@acme.test>
Call-ID: [call_id]
CSeq: 1 REGISTER
Contact: <sip:alice@[local_ip]:[local_port];transport=[transport]>
Expires: 300
Content-Length: 0

]]></send>
  <recv response="401" auth="true"/>
  <send retrans="500"><![CDATA[
REGISTER sip:acme.test SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:alice@acme.test>;tag=[pid]s[call_number]
To: <sip:alice@acme.test>
Call-ID: [call_id]
CSeq: 2 REGISTER
Contact: <sip:alice@[local_ip]:[local_port];transport=[transport]>
Expires: 300
[authentication username=alice password=PASSWORD]
Content-Length: 0

]]></send>
  <recv response="200"/>
</scenario>
"#;

async fn sipp_registers(transport: Transport, mode: &str) {
    if !Path::new(SIPP).exists() {
        eprintln!("{SIPP} is not installed; nothing was tried");
        return;
    }
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    let proxy = region.start().await;
    let scenario = world.dir.path().join("register.xml");
    std::fs::write(&scenario, SCENARIO.replace("PASSWORD", PASSWORD)).unwrap();
    let server = without_sha256(transport, proxy.address(transport).unwrap()).await;
    let run = Command::new(SIPP)
        .args(["-sf", scenario.to_str().unwrap(), "-t", mode, "-m", "50", "-r", "100"])
        .args(["-i", "127.0.0.1", "-nostdin", "-timeout", "10", "-timeout_error"])
        .args(["-auth_uri", "acme.test"])
        .arg(server.to_string())
        .current_dir(world.dir.path())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(15), run).await.expect("sipp hangs").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let tail: Vec<&str> = text.lines().rev().take(80).collect();
    assert!(output.status.success(), "{:?} {}", output.status, tail.join("\n"));
    proxy.shutdown().await;
}

/// An address that leads to `server`, and back without the SHA-256 challenges.
async fn without_sha256(transport: Transport, server: SocketAddr) -> SocketAddr {
    let any = SocketAddr::new(server.ip(), 0);
    if transport == Transport::Udp {
        let (near, far) =
            (UdpSocket::bind(any).await.unwrap(), UdpSocket::bind(any).await.unwrap());
        let address = near.local_addr().unwrap();
        tokio::spawn(relay_datagrams(near, far, server));
        return address;
    }
    let listener = TcpListener::bind(any).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(server).await.unwrap();
            tokio::spawn(relay_stream(near, far));
        }
    });
    address
}

async fn relay_datagrams(near: UdpSocket, far: UdpSocket, server: SocketAddr) {
    let mut client = server;
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            Ok((length, from)) = near.recv_from(&mut up) => {
                client = from;
                far.send_to(&up[..length], server).await.unwrap();
            }
            Ok((length, _)) = far.recv_from(&mut down) => {
                let text = String::from_utf8_lossy(&down[..length]);
                let kept: String =
                    text.split_inclusive('\n').filter(|line| !is_sha256(line)).collect();
                near.send_to(kept.as_bytes(), client).await.unwrap();
            }
        }
    }
}

async fn relay_stream(near: TcpStream, far: TcpStream) {
    let (mut from_near, mut to_near) = near.into_split();
    let (from_far, mut to_far) = far.into_split();
    let up = tokio::io::copy(&mut from_near, &mut to_far);
    let down = async {
        let mut lines = BufReader::new(from_far);
        let mut line = String::new();
        while lines.read_line(&mut line).await.is_ok_and(|length| length > 0) {
            if !is_sha256(&line) {
                let _left = to_near.write_all(line.as_bytes()).await;
            }
            line.clear();
        }
    };
    let _ended = tokio::join!(up, down);
}

fn is_sha256(line: &str) -> bool {
    line.starts_with("WWW-Authenticate") && line.contains("SHA-256")
}

#[tokio::test(flavor = "multi_thread")]
async fn sipp_registers_over_udp() {
    sipp_registers(Transport::Udp, "u1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sipp_registers_over_tcp() {
    sipp_registers(Transport::Tcp, "t1").await;
}
