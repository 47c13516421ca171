//! Against a name server on loopback that knows one domain.

use std::net::SocketAddr;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType, rdata};
use tokio::net::UdpSocket;

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn naptr(order: u16, service: &str, replacement: &str) -> RData {
    let text = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
    RData::NAPTR(NAPTR::new(order, 10, text("s"), text(service), text(""), name(replacement)))
}

fn srv(priority: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, 10, port, name(target)))
}

fn a(last: u8) -> RData {
    RData::A(rdata::A::new(192, 0, 2, last))
}

fn aaaa(last: u16) -> RData {
    RData::AAAA(rdata::AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

fn records(of: &Name, kind: RecordType) -> Vec<RData> {
    let text = of.to_ascii().to_ascii_lowercase();
    match (text.as_str(), kind) {
        ("full.test.", RecordType::NAPTR) => vec![
            naptr(20, "SIP+D2U", "_sip._udp.full.test."),
            naptr(10, "SIPS+D2T", "_sips._tcp.full.test."),
            naptr(5, "SIP+D2S", "_sip._sctp.full.test."),
        ],
        ("_sips._tcp.full.test.", RecordType::SRV) => vec![srv(1, 5071, "one.full.test.")],
        ("_sip._udp.full.test.", RecordType::SRV) => {
            vec![srv(2, 5062, "two.full.test."), srv(1, 5061, "one.full.test.")]
        }
        ("_sip._tcp.plain.test.", RecordType::SRV) => vec![srv(1, 5080, "one.full.test.")],
        ("one.full.test.", RecordType::A) => vec![a(1)],
        ("two.full.test.", RecordType::A) => vec![a(2)],
        ("bare.test.", RecordType::A) => vec![a(3)],
        ("six.test.", RecordType::AAAA) => vec![aaaa(6)],
        ("off.test.", RecordType::A) => vec![a(9)],
        ("_sip._udp.off.test.", RecordType::SRV) => vec![srv(0, 0, ".")],
        _ => Vec::new(),
    }
}

async fn dns() -> Dns {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            let query = asked.queries[0].clone();
            let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
            answer.metadata.recursion_available = true;
            let found = records(query.name(), query.query_type());
            if found.is_empty() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            for data in found {
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
            answer.add_query(query);
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    let transports = [Transport::Udp, Transport::Tcp, Transport::Tls];
    Dns::new(&DnsConfig::Servers(vec![server]), &transports, [7; 32]).unwrap()
}

/// Targets as `transport address name`.
async fn found(dns: &Dns, uri: &str) -> Vec<String> {
    let targets = dns.targets(&Uri::parse(uri).unwrap()).await;
    let show = |target: Target| {
        let name = target.server_name.as_deref().unwrap_or("-").to_owned();
        format!("{} {} {name}", target.transport.uri_param(), target.addr)
    };
    targets.into_iter().map(show).collect()
}

#[tokio::test]
async fn numeric_hosts_and_ports_ask_for_nothing_more() {
    let dns = dns().await;
    assert_eq!(found(&dns, "sip:192.0.2.9").await, ["udp 192.0.2.9:5060 -"]);
    assert_eq!(found(&dns, "sip:[2001:db8::1]:5070").await, ["udp [2001:db8::1]:5070 -"]);
    assert_eq!(found(&dns, "sips:192.0.2.9").await, ["tls 192.0.2.9:5061 -"]);
    assert_eq!(found(&dns, "sip:192.0.2.9;transport=tcp").await, ["tcp 192.0.2.9:5060 -"]);
    assert_eq!(found(&dns, "sip:one.full.test:5099").await, ["udp 192.0.2.1:5099 -"]);
    let over_tls = "sip:one.full.test:5099;transport=tls";
    assert_eq!(found(&dns, over_tls).await, ["tls 192.0.2.1:5099 one.full.test"]);
}

#[tokio::test]
async fn naptr_orders_the_transports_and_srv_the_servers() {
    let dns = dns().await;
    let wanted = ["tls 192.0.2.1:5071 full.test", "udp 192.0.2.1:5061 -", "udp 192.0.2.2:5062 -"];
    assert_eq!(found(&dns, "sip:full.test").await, wanted);
    assert_eq!(found(&dns, "sips:full.test").await, wanted[..1]);
    assert_eq!(found(&dns, "sip:full.test;transport=udp").await, wanted[1..]);
}

#[tokio::test]
async fn without_naptr_srv_is_asked_for_each_transport_and_then_the_host() {
    let dns = dns().await;
    assert_eq!(found(&dns, "sip:plain.test").await, ["tcp 192.0.2.1:5080 -"]);
    assert_eq!(found(&dns, "sip:bare.test").await, ["udp 192.0.2.3:5060 -"]);
    assert_eq!(found(&dns, "sip:six.test").await, ["udp [2001:db8::6]:5060 -"]);
    assert_eq!(found(&dns, "sip:nowhere.test").await, Vec::<String>::new());
}

#[tokio::test]
async fn names_of_this_machine_are_found_without_a_server() {
    // Nobody listens there: any question would wait in vain.
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let dns = Dns::new(&DnsConfig::Servers(vec![nobody]), &[Transport::Udp], [7; 32]).unwrap();
    let targets = found(&dns, "sip:localhost").await;
    assert!(targets.contains(&"udp 127.0.0.1:5060 -".to_owned()), "{targets:?}");
    assert!(dns.addresses("localhost").await.contains(&"127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn what_cannot_be_reached_has_no_targets() {
    let dns = dns().await;
    for uri in ["tel:+353123456", "sip:bare.test;transport=sctp", "sips:bare.test;transport=udp"] {
        assert_eq!(found(&dns, uri).await, Vec::<String>::new(), "{uri}");
    }
}

#[test]
fn lower_priorities_come_first_and_weights_share_the_rest() {
    let record = |priority, weight, port| SRV::new(priority, weight, port, name("a.example."));
    let records = vec![record(20, 0, 3), record(10, 10, 1), record(10, 90, 2)];
    let mut entropy = Entropy::new([3; 32]);
    let mut heavy_first = 0;
    for _ in 0..1000 {
        let ports: Vec<u16> =
            in_order(records.clone(), || entropy.u64()).iter().map(|srv| srv.port).collect();
        assert_eq!(ports[2], 3);
        heavy_first += usize::from(ports[0] == 2);
    }
    assert!((850..950).contains(&heavy_first), "{heavy_first}");
}
