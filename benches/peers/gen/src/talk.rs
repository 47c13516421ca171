//! Calls whose sides share no codec: speech that was encoded beforehand goes in
//! on each side, and what comes out on the other is counted and looked at.
//!
//! Sessions come from the ng control protocol (--ng) or a file (--json), as for
//! `media`; --speech names what `speech` of Landline's benches prints.
use crate::media::{dict, sdp_read, Pool};
use crate::ng::{self, B};
use crate::util::*;
use base64::Engine;
use std::io::BufRead;

struct Said {
    payload_type: u8,
    step: u32,
    payloads: Vec<Vec<u8>>,
}

impl Said {
    fn read(speech: &serde_json::Value, codec: &str) -> Said {
        let it = &speech[codec];
        let decode = |p: &serde_json::Value| {
            base64::engine::general_purpose::STANDARD.decode(p.as_str().expect("base64")).expect("base64")
        };
        Said {
            payload_type: it["payload_type"].as_u64().unwrap_or_else(|| panic!("no speech in {codec}")) as u8,
            step: (it["clock_rate"].as_u64().expect("clock_rate") / 50) as u32,
            payloads: it["payloads"].as_array().expect("payloads").iter().map(decode).collect(),
        }
    }

    fn rtpmap(&self, codec: &str) -> String {
        let clock = self.step * 50;
        let channels = if codec == "opus" { "/2" } else { "" };
        format!("{pt}\r\na=rtpmap:{pt} {codec}/{clock}{channels}\r\n", pt = self.payload_type)
    }
}

/// One direction of a session.
struct Way {
    sock: usize,
    to: libc::sockaddr_in,
    seq: u16,
    ts: u32,
    at: usize,
    sent: u64,
    got: u64,
}

fn say(s: &str) {
    println!("{s}");
}

/// Set up by rtpengine: (generator's socket, server's address) of both sides.
fn by_ng(ng: &mut ng::Ng, i: usize, pool: &mut Pool, local: &str, said: &[Said; 2], codecs: &[String; 2]) -> [(usize, libc::sockaddr_in); 2] {
    let ports = [61001, 61003];
    let sdp = |side: usize| {
        format!(
            "v=0\r\no=- {i} 1 IN IP4 {local}\r\ns=-\r\nc=IN IP4 {local}\r\nt=0 0\r\nm=audio {} RTP/AVP {}a=sendrecv\r\n",
            ports[side], said[side].rtpmap(&codecs[side])
        )
    };
    let (call, tag) = (format!("talk-{i}"), format!("f{i}"));
    let to = B::D(dict(vec![("mask", ng::l(&["all"])), ("transcode", ng::l(&[&codecs[1]]))]));
    let common = |command: &str, side: usize| {
        vec![
            ("command", ng::s(command)),
            ("call-id", ng::s(&call)),
            ("from-tag", ng::s(&tag)),
            ("sdp", ng::s(&sdp(side))),
            ("replace", ng::l(&["origin", "session-connection"])),
            ("ICE", ng::s("remove")),
        ]
    };
    let mut offer = dict(common("offer", 0));
    offer.insert("codec".into(), to);
    let offered = sdp_read(&ng::text(&ng.ask(offer).unwrap_or_else(|e| panic!("offer {i}: {e}")), "sdp"));
    let mut answer = dict(common("answer", 1));
    answer.insert("to-tag".into(), ng::s(&format!("t{i}")));
    let answered = sdp_read(&ng::text(&ng.ask(answer).unwrap_or_else(|e| panic!("answer {i}: {e}")), "sdp"));
    let at = |ip: &str, port| sin(u32::from(ip.parse::<std::net::Ipv4Addr>().expect("IPv4")), port);
    [
        (pool.get(ports[0]), at(&answered.ip, answered.port)),
        (pool.get(ports[1]), at(&offered.ip, offered.port)),
    ]
}

pub fn main(a: &Args) {
    tight_timers();
    raise_nofile();
    let n: usize = a.num("sessions", 50);
    let secs: f64 = a.num("secs", 10.0);
    let warm: f64 = a.num("warm-secs", 2.0);
    let local = a.str("local", "127.0.11.1");
    let codecs = a.str("codecs", "PCMU:opus");
    let (one, other) = codecs.split_once(':').expect("--codecs ONE:OTHER");
    let codecs = [one.to_string(), other.to_string()];
    let speech: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(a.str("speech", "speech.json")).expect("--speech FILE")).expect("JSON");
    let said = [0, 1].map(|side: usize| Said::read(&speech, &codecs[side].to_ascii_lowercase()));
    let mut pool = Pool::new(u32::from(local.parse::<std::net::Ipv4Addr>().expect("--local")), 67_108_864);
    let mut ngc = a.opt("ng").map(|x| ng::Ng::new(&x));
    let given: Option<serde_json::Value> = a
        .opt("json")
        .map(|f| serde_json::from_str(&std::fs::read_to_string(f).expect("json file")).expect("json"));
    let mut ways: Vec<Way> = Vec::new();
    let mut rng = Rng(0x9e3779b97f4a7c15);
    // who receives what a server's port sends on a socket: the way it came in by
    let mut due = std::collections::HashMap::new();
    for i in 0..n {
        let sides = match (&mut ngc, &given) {
            (Some(ng), _) => by_ng(ng, i, &mut pool, &local, &said, &codecs),
            (None, Some(v)) => ["a", "b"].map(|side| {
                let leg = &v["sessions"][i][side];
                let (ip, port) = parse_addr(leg["remote"].as_str().expect("remote"));
                (pool.get(leg["local"].as_u64().expect("local") as u16), sin(ip, port))
            }),
            _ => panic!("--ng or --json"),
        };
        for (side, (sock, to)) in sides.into_iter().enumerate() {
            let other = sides[1 - side];
            due.insert((other.0, u16::from_be(other.1.sin_port)), ways.len());
            ways.push(Way {
                sock,
                to,
                seq: rng.next() as u16 & 0x7fff,
                ts: rng.next() as u32,
                at: (rng.next() % said[side].payloads.len() as u64) as usize,
                sent: 0,
                got: 0,
            });
        }
    }
    let mut line = String::new();
    let mut step = |word: &str| {
        say(word);
        line.clear();
        let _ = std::io::stdin().lock().read_line(&mut line);
    };
    step(&format!("READY {n}"));
    let (mut wrong, mut silent, mut stray) = (0u64, 0u64, 0u64);
    let interval = 1e9 / 50.0 / ways.len() as f64;
    let t0 = now_mono() + 1_000_000;
    let (start, stop) = (t0 + (warm * 1e9) as u64, t0 + ((warm + secs) * 1e9) as u64);
    let (mut k, mut started, mut stopped) = (0u64, false, false);
    let mut batch = Batch::new(128, 2048);
    let fds: Vec<i32> = pool.socks.iter().map(|x| x.fd).collect();
    let mut cpu = [(0, 0); 2];
    let mut packet = Vec::with_capacity(1500);
    loop {
        let now = now_mono();
        if !started && now >= start {
            started = true;
            (wrong, silent, stray) = (0, 0, 0);
            ways.iter_mut().for_each(|way| (way.sent, way.got) = (0, 0));
            cpu[0] = self_cpu();
            say("START");
        }
        if !stopped && now >= stop {
            stopped = true;
            cpu[1] = self_cpu();
            say("STOP");
        }
        if stopped && now >= stop + 600_000_000 {
            break;
        }
        let mut burst = 0;
        while !stopped && burst < 32 && t0 + (k as f64 * interval) as u64 <= now {
            let nth = k as usize % ways.len();
            k += 1;
            burst += 1;
            let (way, said) = (&mut ways[nth], &said[nth % 2]);
            packet.clear();
            packet.extend_from_slice(&[0x80, said.payload_type]);
            packet.extend_from_slice(&way.seq.to_be_bytes());
            packet.extend_from_slice(&way.ts.to_be_bytes());
            packet.extend_from_slice(&(0x6000_0000 | nth as u32).to_be_bytes());
            packet.extend_from_slice(&said.payloads[way.at]);
            pool.socks[way.sock].send(&packet, &way.to);
            way.sent += 1;
            way.seq = way.seq.wrapping_add(1);
            way.ts = way.ts.wrapping_add(said.step);
            way.at = (way.at + 1) % said.payloads.len();
        }
        let mut any = 0;
        for (sock, &fd) in fds.iter().enumerate() {
            let count = batch.recv(fd);
            any += count;
            for i in 0..count {
                let from = batch.from_port(i);
                let d = batch.data(i);
                let Some(&nth) = due.get(&(sock, from)) else {
                    stray += 1;
                    continue;
                };
                // what side 0 says comes out as side 1 takes it
                let takes = &said[1 - nth % 2];
                if d.len() < 13 || d[0] & 0xc0 != 0x80 || (200..=207).contains(&d[1]) {
                    continue;
                }
                if d[1] & 0x7f != takes.payload_type {
                    wrong += 1;
                    continue;
                }
                // comfort or nothing instead of speech
                let first = d[12];
                if d.len() < 16 || d[12..].iter().all(|octet| *octet == first) {
                    silent += 1;
                }
                ways[nth].got += 1;
            }
        }
        if any == 0 && burst == 0 {
            sleep_ns(200_000);
        }
    }
    let (sent, got): (u64, u64) = (ways.iter().map(|w| w.sent).sum(), ways.iter().map(|w| w.got).sum());
    let worst = ways.iter().map(|w| w.got as f64 / w.sent.max(1) as f64).fold(f64::MAX, f64::min);
    say(&serde_json::json!({
        "gen": "peergen-talk", "sessions": n, "codecs": format!("{}:{}", codecs[0], codecs[1]), "secs": secs,
        "sent": sent, "received": got, "worst_way": worst, "wrong_codec": wrong, "silent": silent, "stray": stray,
        "gen_cpu_user_ns": cpu[1].0 - cpu[0].0, "gen_cpu_sys_ns": cpu[1].1 - cpu[0].1,
    })
    .to_string());
}
