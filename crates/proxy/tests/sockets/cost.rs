//! What a registration costs; run by hand, with `--ignored --nocapture`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use landline_proxy::Transport;
use landline_sip::Method;
use landline_sip::digest::{self, Algorithm};

use crate::support::{PASSWORD, World};

const USERS: usize = 256;
const WINDOW: usize = 64;
const ROUNDS: usize = 20_000;

/// CPU time of every thread of this process, by name.
fn cpu_by_thread() -> BTreeMap<String, Duration> {
    let mut threads = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let nanos = read("schedstat").split(' ').next().and_then(|text| text.parse().ok());
        let name: String = read("comm").trim().chars().take(11).collect();
        *threads.entry(name).or_default() += Duration::from_nanos(nanos.unwrap_or(0));
    }
    threads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn the_cost_of_an_authenticated_registration() {
    let world = World::new();
    let region = world.region("ie1", "acme.test").await;
    for user in 0..USERS {
        region.add_user("acme.test", &format!("user{user}")).await;
    }
    let proxy = region.start().await;
    let server = proxy.address(Transport::Udp).unwrap();
    let before = cpu_by_thread();
    let started = Instant::now();
    let client = std::thread::Builder::new().name("client".to_owned());
    let (client_cpu, retries) =
        client.spawn(move || register_many(server)).unwrap().join().unwrap();
    let elapsed = started.elapsed();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / ROUNDS as f64;
    let mut total = Duration::ZERO;
    for (name, time) in cpu_by_thread() {
        let used = time - before.get(&name).copied().unwrap_or_default();
        total += used;
        println!("{name:>12} {:6.1} µs", each(used));
    }
    println!("      client {:6.1} µs", each(client_cpu));
    println!(
        "{ROUNDS} registrations, {:.0}/s, {:.1} µs of the proxy's CPU each, {retries} sent again",
        ROUNDS as f64 / elapsed.as_secs_f64(),
        each(total),
    );
    proxy.shutdown().await;
}

/// Keeps a window of registrations under way; gives its own CPU time and how
/// many had to be repeated.
fn register_many(server: SocketAddr) -> (Duration, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let local = socket.local_addr().unwrap();
    let request = |number: usize, cseq: u32, authorization: &str| {
        let user = number % USERS;
        format!(
            "REGISTER sip:acme.test SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{number}-{cseq};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:user{user}@acme.test>;tag=t{number}\r\n\
             To: <sip:user{user}@acme.test>\r\n\
             Call-ID: {number}@load\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sip:user{user}@{local}>\r\n\
             Expires: 300\r\n\
             User-Agent: load\r\n\
             {authorization}Content-Length: 0\r\n\r\n"
        )
    };
    let send = |text: String| socket.send(text.as_bytes()).unwrap();
    let (mut next, mut done, mut retries) = (0, 0, 0);
    let mut waiting: BTreeMap<usize, String> = BTreeMap::new();
    let mut buffer = [0; 4096];
    while done < ROUNDS {
        while waiting.len() < WINDOW && next < ROUNDS {
            waiting.insert(next, request(next, 1, ""));
            send(waiting[&next].clone());
            next += 1;
        }
        let Ok(length) = socket.recv(&mut buffer) else {
            retries += waiting.len();
            waiting.values().for_each(|text| {
                send(text.clone());
            });
            continue;
        };
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let call_id = text.split("Call-ID: ").nth(1).unwrap();
        let number: usize = call_id.split('@').next().unwrap().parse().unwrap();
        if text.starts_with("SIP/2.0 200") {
            done += usize::from(waiting.remove(&number).is_some());
        } else if text.starts_with("SIP/2.0 401") && text.contains("CSeq: 1 ") {
            let again = request(number, 2, &answer(text, number % USERS));
            waiting.insert(number, again.clone());
            send(again);
        } else if waiting.contains_key(&number) {
            panic!("{text}");
        }
    }
    let own = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = own.split(' ').next().unwrap().parse().unwrap();
    (Duration::from_nanos(nanos), retries)
}

fn answer(response: &str, user: usize) -> String {
    let challenge = response.lines().find(|line| line.contains("algorithm=MD5")).unwrap();
    let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let user = format!("user{user}");
    let ha1 = digest::ha1(Algorithm::Md5, &user, "acme.test", PASSWORD);
    let uri = "sip:acme.test";
    let qop = Some(("00000001", "c0ffee"));
    let answer = digest::response(Algorithm::Md5, &ha1, &Method::Register, uri, nonce, qop);
    format!(
        "Authorization: Digest username=\"{user}\", realm=\"acme.test\", nonce=\"{nonce}\", \
         uri=\"{uri}\", response=\"{answer}\", algorithm=MD5, qop=auth, nc=00000001, \
         cnonce=\"c0ffee\"\r\n"
    )
}
