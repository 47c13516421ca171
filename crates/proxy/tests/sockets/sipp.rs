//! SIPp, a client that knows nothing of us.

use std::path::Path;
use std::time::Duration;

use landline_proxy::Transport;
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
    std::fs::write(&scenario, SCENARIO.replace("PASSWORD", &format!("\"{PASSWORD}\""))).unwrap();
    let server = proxy.address(transport).unwrap();
    let run = Command::new(SIPP)
        .args(["-sf", scenario.to_str().unwrap(), "-t", mode, "-m", "50", "-r", "100"])
        .args(["-i", "127.0.0.1", "-nostdin", "-timeout", "10", "-timeout_error"])
        .arg(server.to_string())
        .current_dir(world.dir.path())
        .kill_on_drop(true)
        .output();
    let output = timeout(Duration::from_secs(15), run).await.expect("sipp hangs").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let tail: Vec<&str> = text.lines().rev().take(40).collect();
    assert!(output.status.success(), "{:?} {}", output.status, tail.join("\n"));
    proxy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sipp_registers_over_udp() {
    sipp_registers(Transport::Udp, "u1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sipp_registers_over_tcp() {
    sipp_registers(Transport::Tcp, "t1").await;
}
