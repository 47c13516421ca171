//! More requests than anybody answers, and nonsense between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cast::{Cast, Person};
use crate::net::OUTSIDE;
use crate::region::Region;

/// INVITEs at each region.
const BURST: usize = 400;

/// Answers are counted until then: before timer G (RFC 3261 §17.2.1) sends
/// many of them again.
const LISTENING: Duration = Duration::from_millis(450);

/// More than anybody answers: INVITEs without credentials at home, requests of
/// another region's account and nonsense at its edge. How many were answered.
pub async fn burst(home: &Region<'_>, edge: &Region<'_>) -> Result<String> {
    let socket = UdpSocket::bind((OUTSIDE, 0)).await?;
    let local = socket.local_addr()?;
    let Cast { domain, people: [caller, callee, traveller], .. } = home.cast;
    for n in 0..BURST {
        let invite = request("INVITE", local, (caller, callee.user), domain, n);
        socket.send_to(invite.as_bytes(), home.address).await?;
        if n % 8 == 0 {
            let options = request("OPTIONS", local, (traveller, traveller.user), domain, n);
            socket.send_to(options.as_bytes(), edge.address).await?;
            // Cut short, with a header that cannot be read.
            let nonsense = options.replace("CSeq", "CSeq: x\r\nCSeq");
            let cut = nonsense.len() - n % 60;
            let nonsense = nonsense.as_bytes().get(..cut).unwrap_or_default();
            socket.send_to(nonsense, edge.address).await?;
            sleep(Duration::from_millis(2)).await;
        }
    }
    let mut answers: BTreeMap<String, u32> = BTreeMap::new();
    let mut buffer = vec![0; 8192];
    let deadline = Instant::now() + LISTENING;
    while let Ok(answer) = timeout_at(deadline, socket.recv_from(&mut buffer)).await {
        let octets = buffer.get(..answer?.0).unwrap_or_default();
        let line = String::from_utf8_lossy(octets);
        let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
        *answers.entry(status).or_default() += 1;
    }
    let answers: Vec<String> =
        answers.iter().map(|(status, count)| format!("{count} times {status}")).collect();
    Ok(format!(
        "{BURST} INVITEs without credentials and nonsense between, answered {}",
        answers.join(", ")
    ))
}

fn request(
    method: &str,
    local: SocketAddr,
    (from, to): (Person, &str),
    domain: &str,
    n: usize,
) -> String {
    let Person { user, display, .. } = from;
    format!(
        "{method} sip:{to}@{domain} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {local};branch=z9hG4bKburst{method}{n};rport\r\n\
         Max-Forwards: 70\r\n\
         From: \"{display}\" <sip:{user}@{domain}>;tag=t{n}\r\n\
         To: <sip:{to}@{domain}>\r\n\
         Call-ID: burst-{method}-{n}@{local}\r\n\
         CSeq: 1 {method}\r\n\
         Contact: <sip:{user}@{local}>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}
