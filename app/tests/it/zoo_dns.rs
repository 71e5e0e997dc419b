//! Every fault that a name server can show, made on local sockets and named rightly 20 times out of 20; and a real zone of
//! every record type, which is Up.

use crate::support::probing::{PATIENT, SHORT, always_down, always_up, attempt_guarded, attempt_with, config, probe, serve};
use hickory_server::Server;
use hickory_server::proto::op::{Message, MessageType, ResponseCode};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use watchkeeper::clock::Clock;
use watchkeeper::net::{Guard, Net};
use watchkeeper_core::{Blind, Outcome, Reason};

/// A name server whose datagrams are what `answer` makes of each question.
async fn udp(answer: impl Fn(Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            for datagram in answer(buffer[..length].to_vec()) {
                let _ = socket.send_to(&datagram, from).await;
            }
        }
    });
    address
}

/// The answer to a question, changed as the test likes.
fn reply(question: &[u8], change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::from_vec(question).unwrap();
    message.metadata.message_type = MessageType::Response;
    change(&mut message);
    message.to_vec().unwrap()
}

fn with_address(message: &mut Message, address: &str) {
    let name = message.queries[0].name().clone();
    message.add_answer(Record::from_rdata(name, 60, RData::A(address.parse().unwrap())));
}

/// A question to this server.
fn section(server: SocketAddr, more: &str) -> String {
    format!("dns: {{ name: shop.example.org, server: \"{server}\"{more} }}")
}

async fn answering(change: impl Fn(&mut Message) + Send + 'static) -> SocketAddr {
    udp(move |question| vec![reply(&question, &change)]).await
}

#[tokio::test]
async fn response_codes_are_told_apart() {
    for (code, reason, word) in [
        (ResponseCode::NXDomain, Reason::DnsNxdomain, "NXDOMAIN"),
        (ResponseCode::ServFail, Reason::DnsServfail, "SERVFAIL"),
        (ResponseCode::Refused, Reason::DnsRefused, "REFUSED"),
        (ResponseCode::NotImp, Reason::DnsUnexpectedRcode, "NOTIMP"),
    ] {
        let server = answering(move |m| m.metadata.response_code = code).await;
        let attempt = always_down(&section(server, ""), PATIENT, reason).await;
        assert_eq!(attempt.dns.unwrap().rcode, word);
        assert_eq!(attempt.hops[0].status, Some(u16::from(code)));
        // What is expected is good, whatever it is.
        always_up(&section(server, &format!(", expect: {{ rcode: [{word}, NOERROR] }}"))).await;
    }
}

#[tokio::test]
async fn an_unexpected_success_is_down_too() {
    let server = answering(|m| with_address(m, "192.0.2.1")).await;
    always_down(&section(server, ", expect: { rcode: NXDOMAIN }"), PATIENT, Reason::DnsUnexpectedRcode).await;
}

#[tokio::test]
async fn a_code_without_the_question_is_still_an_answer() {
    let server = answering(|m| {
        m.queries.clear();
        m.metadata.response_code = ResponseCode::ServFail;
    })
    .await;
    always_down(&section(server, ""), PATIENT, Reason::DnsServfail).await;
}

#[tokio::test]
async fn no_record_of_the_type_is_no_answer() {
    let server = answering(|_| {}).await;
    always_down(&section(server, ""), PATIENT, Reason::DnsNoAnswer).await;
    let other = answering(|m| {
        let name = m.queries[0].name().clone();
        m.add_answer(Record::from_rdata(name, 60, RData::try_from_str(RecordType::TXT, "\"x\"").unwrap()));
    })
    .await;
    let attempt = always_down(&section(other, ""), PATIENT, Reason::DnsNoAnswer).await;
    assert_eq!(attempt.dns.unwrap().answers, ["TXT x"]);
}

#[tokio::test]
async fn a_silent_server_is_a_time_out() {
    let server = udp(|_| Vec::new()).await;
    let attempt = always_down(&section(server, ""), SHORT, Reason::DnsTimeout).await;
    assert!(attempt.hops[0].first_byte_us > 0 && attempt.dns.is_none(), "{attempt:?}");
    let silent = serve(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    always_down(&section(silent, ", transport: tcp"), SHORT, Reason::DnsTimeout).await;
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let address = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    always_down(&section(address, ""), PATIENT, Reason::DnsNotListening).await;
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    always_down(&section(address, ", transport: tcp"), PATIENT, Reason::TcpRefused).await;
}

#[tokio::test]
async fn answers_that_make_no_sense_are_malformed() {
    type Answer = fn(Vec<u8>) -> Vec<Vec<u8>>;
    let answers: [(&str, Answer); 6] = [
        ("garbage", |_| vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]),
        ("nothing", |_| vec![Vec::new()]),
        ("cut short", |q| vec![reply(&q, |m| with_address(m, "192.0.2.1"))[..40].to_vec()]),
        ("another id", |q| vec![reply(&q, |m| m.metadata.id = m.metadata.id.wrapping_add(1))]),
        ("another question", |q| {
            let other = Name::from_ascii("other.example.org.").unwrap();
            vec![reply(&q, |m| {
                m.queries[0].set_name(other);
            })]
        }),
        ("the question itself", |q| vec![q]),
    ];
    for (what, answer) in answers {
        let server = udp(answer).await;
        let attempt = always_down(&section(server, ""), PATIENT, Reason::DnsMalformed).await;
        assert!(attempt.error.unwrap().starts_with(&server.to_string()), "{what}");
    }
}

#[tokio::test]
async fn a_forged_answer_does_not_hide_the_right_one() {
    let server = udp(|q| {
        vec![reply(&q, |m| m.metadata.id = m.metadata.id.wrapping_add(1)), b"\0".to_vec(), reply(&q, |m| with_address(m, "192.0.2.1"))]
    })
    .await;
    always_up(&section(server, ", expect: { answers: [192.0.2.1] }")).await;
}

#[tokio::test]
async fn expected_answers_are_looked_for_among_all() {
    let server = answering(|m| {
        with_address(m, "192.0.2.1");
        with_address(m, "192.0.2.2");
    })
    .await;
    for good in [
        "answers: 192.0.2.2",
        "answers: [192.0.2.2, 192.0.2.1]",
        "answers_any: [192.0.2.9, 192.0.2.1]",
        "answer_matches: '^192\\.0\\.2\\.'",
        "rcode: NOERROR",
    ] {
        let attempt = always_up(&section(server, &format!(", expect: {{ {good} }}"))).await;
        let facts = attempt.dns.unwrap();
        assert_eq!((facts.answers.len(), facts.answer_count, facts.transport.as_str()), (2, 2, "udp"));
    }
    for bad in ["answers: [192.0.2.1, 192.0.2.9]", "answers_any: [192.0.2.8, 192.0.2.9]", "answer_matches: '^198'"] {
        let error = always_down(&section(server, &format!(", expect: {{ {bad} }}")), PATIENT, Reason::DnsUnexpectedAnswer).await.error;
        assert!(error.unwrap().contains("192.0.2.1, 192.0.2.2"));
    }
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = UdpSocket::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&reply(&buffer[..length], |m| m.metadata.truncation = true), from).await;
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            let answer = reply(&question, |m| (1..=60).for_each(|n| with_address(m, &format!("192.0.2.{n}"))));
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            // In two pieces: the rest is transfer.
            stream.write_all(&answer[..100]).await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(&answer[100..]).await.unwrap();
        }
    });
    let attempt = always_up(&section(address, ", expect: { answers: 192.0.2.60 }")).await;
    let facts = attempt.dns.unwrap();
    assert_eq!((facts.transport.as_str(), facts.answer_count), ("tcp", 60));
    assert!(attempt.hops[0].connect_us > 0, "{:?}", attempt.hops);
}

#[tokio::test]
async fn tcp_that_ends_early_or_lies_about_its_length_is_named() {
    let closing = serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
    })
    .await;
    always_down(&section(closing, ", transport: tcp"), PATIENT, Reason::TcpClosed).await;
    let cut = serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
        let _ = stream.write_all(&[0x10, 0, 1, 2, 3]).await;
    })
    .await;
    always_down(&section(cut, ", transport: tcp"), PATIENT, Reason::TcpClosed).await;
    let garbage = serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
        let _ = stream.write_all(&[0, 3, 1, 2, 3]).await;
    })
    .await;
    always_down(&section(garbage, ", transport: tcp"), PATIENT, Reason::DnsMalformed).await;
}

#[tokio::test]
async fn a_real_zone_answers_every_type() {
    let origin = Name::from_ascii("example.org.").unwrap();
    let mut zone: InMemoryZoneHandler = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let records = [
        ("example.org.", RecordType::SOA, "ns1.example.org. admin.example.org. 7 3600 600 86400 60"),
        ("example.org.", RecordType::NS, "ns1.example.org."),
        ("example.org.", RecordType::MX, "10 mail.example.org."),
        ("example.org.", RecordType::TXT, "\"v=spf1 -all.\""),
        ("example.org.", RecordType::CAA, "0 issue \"ca.example.net\""),
        ("example.org.", RecordType::A, "192.0.2.1"),
        ("example.org.", RecordType::AAAA, "2001:db8::1"),
        ("www.example.org.", RecordType::CNAME, "example.org."),
        ("_imap._tcp.example.org.", RecordType::SRV, "0 1 143 mail.example.org."),
        ("1.2.0.192.in-addr.arpa.example.org.", RecordType::PTR, "shop.example.org."),
    ];
    for (name, kind, text) in records {
        let record = Record::from_rdata(Name::from_ascii(name).unwrap(), 60, RData::try_from_str(kind, text).unwrap());
        assert!(zone.upsert_mut(record, 7), "{name} {kind}");
    }
    let mut catalog = Catalog::new();
    catalog.upsert(LowerName::from(&origin), vec![Arc::new(zone)]);
    let mut server = Server::new(catalog);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    server.register_socket(UdpSocket::bind(address).await.unwrap());
    server.register_listener(listener, Duration::from_secs(30), 4_096);
    let questions = [
        ("EXAMPLE.org", "SOA", "NS1.example.org admin.example.org. 7 3600 600 86400 60"),
        ("example.org.", "NS", "ns1.example.org"),
        ("example.org", "MX", "10 MAIL.example.org."),
        ("example.org", "TXT", "v=spf1 -all."),
        ("example.org", "CAA", "0 issue \\\"ca.example.net\\\""),
        ("example.org", "A", "192.0.2.1"),
        ("example.org", "AAAA", "2001:0db8:0::1"),
        ("www.example.org", "CNAME", "example.org"),
        ("www.example.org", "A", "192.0.2.1"),
        ("_imap._tcp.example.org", "SRV", "0 1 143 mail.example.org"),
        ("1.2.0.192.in-addr.arpa.example.org", "PTR", "shop.example.org"),
    ];
    for transport in ["udp", "tcp"] {
        for (name, kind, answer) in questions {
            let section = format!(
                "dns: {{ name: {name}, type: {kind}, server: \"{address}\", transport: {transport}, expect: {{ answers: [\"{answer}\"] }} }}"
            );
            let attempt = always_up(&section).await;
            assert_eq!(attempt.dns.unwrap().transport, transport, "{section}");
        }
    }
    always_down(&format!("dns: {{ name: no.example.org, server: \"{address}\" }}"), PATIENT, Reason::DnsNxdomain).await;
    always_down(&format!("dns: {{ name: example.net, server: \"{address}\" }}"), PATIENT, Reason::DnsRefused).await;
}

#[tokio::test]
async fn an_address_is_asked_for_in_reverse() {
    let server = answering(|m| {
        let name = m.queries[0].name().clone();
        let target = RData::try_from_str(RecordType::PTR, &format!("{}.test.", name.to_ascii().trim_end_matches('.'))).unwrap();
        m.add_answer(Record::from_rdata(name, 60, target));
    })
    .await;
    let section = format!("dns: {{ name: 192.0.2.7, type: PTR, server: \"{server}\" }}");
    assert_eq!(always_up(&section).await.dns.unwrap().answers, ["7.2.0.192.in-addr.arpa.test"]);
}

#[tokio::test]
async fn without_a_server_the_node_s_own_is_asked_and_none_is_our_own_fault() {
    let server = answering(|m| with_address(m, "192.0.2.1")).await;
    let net = Arc::new(Net::with_name_servers(Clock::system(), vec![server]));
    let asking = probe("dns: { name: shop.example.org }");
    assert_eq!(attempt_with(&net, asking.as_ref(), PATIENT).await.outcome, Outcome::Up);
    let none = Arc::new(Net::with_name_servers(Clock::system(), Vec::new()));
    assert_eq!(attempt_with(&none, asking.as_ref(), PATIENT).await.outcome, Outcome::Unknown(Blind::NoResolver));
}

#[tokio::test]
async fn the_name_of_the_server_is_resolved_and_its_faults_are_told() {
    let zone = answering(|m| m.metadata.response_code = ResponseCode::NXDomain).await;
    let net = Arc::new(Net::with_name_servers(Clock::system(), vec![zone]));
    let attempt = attempt_with(&net, probe("dns: { name: a.test, server: ns1.test }").as_ref(), PATIENT).await;
    assert_eq!(attempt.outcome, Outcome::Down(Reason::DnsNxdomain));
    assert!(attempt.error.unwrap().contains("ns1.test"));
}

#[tokio::test]
async fn a_guarded_monitor_asks_no_forbidden_server() {
    let server = answering(|m| with_address(m, "192.0.2.1")).await;
    let net = Arc::new(Net::system(Clock::system()));
    for transport in ["udp", "tcp"] {
        let asking = probe(&section(server, &format!(", transport: {transport}")));
        let attempt = attempt_guarded(&net, asking.as_ref(), PATIENT, Guard::PublicOnly).await;
        assert_eq!(attempt.outcome, Outcome::Unknown(Blind::ForbiddenAddress), "{attempt:?}");
    }
}

#[test]
fn a_wrong_section_names_its_place_and_what_is_accepted() {
    for (section, wanted) in [
        ("dns: {}", "`name` is missing"),
        ("dns: { name: 'a b' }", "test.yaml:1:14: found `a b`; accepted: a domain name"),
        ("dns: { name: a, type: AAA }", "found `AAA`; accepted: A, AAAA, CNAME, MX, NS, TXT, SOA, SRV, PTR, CAA"),
        ("dns: { name: a, server: 'x:y' }", "found `x:y`; accepted: host or host:port"),
        ("dns: { name: a, expect: { rcode: NXDOMIAN } }", "did you mean `NXDOMAIN`?"),
        ("dns: { name: a, expect: { answer_matches: '(' } }", "found `(`; accepted: a regular expression"),
        ("dns: { name: a, transport: tls }", "found `tls`; accepted: udp, tcp"),
    ] {
        let problems = config(section).map(|_| ()).unwrap_err();
        assert!(problems.contains(wanted), "{section}\n{problems}");
    }
}
