//! DNS: one question to one name server, over UDP or TCP, and what its answer must be (RFC 1035, RFC 7766).
//!
//! The question goes over a socket of its own and is asked once: a lost datagram is what the thresholds of a monitor are
//! for. Truncated answers are asked for again over TCP, as every resolver does. An answer to somebody else's question is
//! not taken, but neither ends the wait at once: anybody can send one.

use super::dial::{self, Endpoint, IP_VERSION, Laps, is_host};
use super::dns_expect::{EXPECT_KEYS, Expect, answer_text, rcode_word};
use super::{Attempt, DnsFacts, Hop, Probe, ProbeConfig, ProbeContext, Resolved};
use crate::config::decode::{Fields, Key, Node, Problems, one_of, parsed};
use crate::config::tagged::Kind;
use crate::net::{Family, Fault};
use async_trait::async_trait;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use watchkeeper_core::{Blind, Reason};

/// After an answer that is not ours the right one is waited for so long. Longer lets a broken server hold the verdict until
/// the deadline; shorter lets anybody who guesses a port make a target look broken.
const STRAY_WAIT: Duration = Duration::from_millis(500);

/// The most that is read of one datagram: servers keep to 512 bytes without EDNS, and some do not. Less would cut those.
const DATAGRAM_MAX: usize = 4_096;

/// More answers are counted but not kept: they would fill the store.
const ANSWERS_MAX: usize = 64;

/// RFC 1035 section 4.2.
const PORT: u16 = 53;

/// Keys of `dns:`.
pub const KEYS: &[Key] = &[
    Key { name: "name", form: "a domain name; for PTR also an address", default: "", doc: "What is asked for." },
    Key { name: "type", form: "A, AAAA, CNAME, MX, NS, TXT, SOA, SRV, PTR or CAA", default: "A", doc: "Which records are asked for." },
    Key {
        name: "server",
        form: "host or host:port",
        default: "",
        doc: "The name server to ask; the first one of this node's system if absent.",
    },
    Key { name: "transport", form: "udp or tcp", default: "udp", doc: "How to ask; a truncated answer is asked for again over TCP." },
    Key { name: "expect", form: "a mapping", default: "", doc: "What must come back; without it any answer of the type is enough." },
    IP_VERSION,
];

/// The line of the list of kinds.
pub const KIND: Kind<ProbeConfig> = Kind {
    name: "dns",
    doc: "A question to a name server.",
    keys: KEYS,
    sections: &[("expect", EXPECT_KEYS)],
    examples: &[("name", "example.org")],
    address: &["server", "transport"],
    decode: |node, problems| Config::decode(node, problems).map(ProbeConfig::Dns),
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// What `dns:` says.
#[derive(Clone, Debug)]
pub struct Config {
    name: Name,
    kind: RecordType,
    server: Option<Endpoint>,
    transport: Transport,
    expect: Expect,
    family: Family,
}

impl Config {
    /// Reads the section; `None` after a problem was noted.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        const TYPES: &[(&str, RecordType)] = &[
            ("A", RecordType::A),
            ("AAAA", RecordType::AAAA),
            ("CNAME", RecordType::CNAME),
            ("MX", RecordType::MX),
            ("NS", RecordType::NS),
            ("TXT", RecordType::TXT),
            ("SOA", RecordType::SOA),
            ("SRV", RecordType::SRV),
            ("PTR", RecordType::PTR),
            ("CAA", RecordType::CAA),
        ];
        const TRANSPORTS: &[(&str, Transport)] = &[("udp", Transport::Udp), ("tcp", Transport::Tcp)];
        let fields = Fields::open(node, KEYS, problems)?;
        let kind = fields.get("type").map_or(Some(RecordType::A), |n| one_of(n, TYPES, problems));
        let name = fields.require("name", problems).and_then(|n| {
            parsed(n, "a domain name (for PTR also an address)", problems, |t| question_name(t, kind == Some(RecordType::PTR)))
        });
        let server = match fields.get("server") {
            Some(node) => parsed(node, "host or host:port", problems, |t| Endpoint::parse(t, Some(PORT))).map(Some),
            None => Some(None),
        };
        let transport = fields.get("transport").map_or(Some(Transport::Udp), |n| one_of(n, TRANSPORTS, problems));
        let expect = fields.get("expect").map_or_else(|| Some(Expect::default()), |n| Expect::decode(n, problems));
        let family = dial::ip_version(&fields, problems);
        Some(Self { name: name?, kind: kind?, server: server?, transport: transport?, expect: expect?, family: family? })
    }

    /// What is watched (RFC 4501 writes it so).
    pub fn target(&self) -> String {
        let server = self.server.as_ref().map(ToString::to_string).unwrap_or_default();
        let name = self.name.to_string();
        format!("dns://{server}/{}?type={}", name.strip_suffix('.').unwrap_or(&name), self.kind)
    }

    /// Ready to attempt.
    pub fn build(&self) -> Box<dyn Probe> {
        Box::new(DnsProbe { config: self.clone() })
    }
}

fn question_name(text: &str, reverse: bool) -> Option<Name> {
    if reverse && let Ok(address) = text.parse::<IpAddr>() {
        return Some(Name::from(address));
    }
    if text != "." && !is_host(text) {
        return None;
    }
    let mut name = Name::from_utf8(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

struct DnsProbe {
    config: Config,
}

#[async_trait]
impl Probe for DnsProbe {
    async fn attempt(&self, cx: &ProbeContext) -> Attempt {
        let mut asking = Asking {
            config: &self.config,
            cx,
            laps: Laps::start(),
            hop: Hop { url: self.config.target(), ..Hop::default() },
            transport: self.config.transport,
        };
        let answered = asking.ask().await;
        let Asking { mut hop, transport, .. } = asking;
        match answered {
            Ok(message) => {
                hop.status = Some(u16::from(message.metadata.response_code));
                let facts = facts(&message, self.config.kind, transport);
                let fault = self.config.expect.fault(&message, self.config.kind, &self.config.name).err();
                Attempt { dns: Some(facts), ..dial::ended(hop, fault) }
            }
            Err(fault) => dial::ended(hop, Some(fault)),
        }
    }
}

fn facts(message: &Message, kind: RecordType, transport: Transport) -> DnsFacts {
    let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    DnsFacts {
        rcode: rcode_word(message.metadata.response_code),
        answers: message.answers.iter().take(ANSWERS_MAX).map(|record| answer_text(record, kind)).collect(),
        answer_count: count(message.answers.len()),
        authority_count: count(message.authorities.len()),
        additional_count: count(message.additionals.len()),
        transport: transport.as_str().to_owned(),
    }
}

/// One attempt under way. Phases: `dns` finds the name server, `connect` is TCP's, `first_byte` lasts from the question to the
/// answer, `transfer` is the rest of a long one.
struct Asking<'a> {
    config: &'a Config,
    cx: &'a ProbeContext,
    laps: Laps,
    hop: Hop,
    transport: Transport,
}

/// A question as it goes over the wire.
struct Wire {
    id: u16,
    query: Query,
    bytes: Vec<u8>,
}

impl Asking<'_> {
    async fn ask(&mut self) -> Result<Message, Fault> {
        let wire = Wire::new(self.config)?;
        let server = self.server().await;
        self.hop.dns_us = self.laps.lap();
        let server = server?;
        self.hop.address = Some(server.to_string());
        if self.transport == Transport::Udp {
            self.cx.guard.check(server.ip())?;
            let answer = over_udp(server, &wire, self.cx.deadline).await;
            self.hop.first_byte_us = self.laps.lap();
            let answer = answer?;
            if !answer.metadata.truncation {
                return Ok(answer);
            }
            self.transport = Transport::Tcp;
        }
        self.over_tcp(server, &wire).await
    }

    async fn server(&mut self) -> Result<SocketAddr, Fault> {
        let Some(endpoint) = &self.config.server else {
            return self.cx.net.name_server(self.cx.path);
        };
        let found = self.cx.net.resolve(&endpoint.host, self.config.family, self.cx.path, self.cx.deadline).await?;
        self.hop.resolved = Resolved::of(&found);
        let none = || Fault::down(Reason::DnsNoAnswer, format!("the name server {} has no address", endpoint.host));
        found.addresses.first().map(|ip| SocketAddr::new(*ip, endpoint.port)).ok_or_else(none)
    }

    async fn over_tcp(&mut self, server: SocketAddr, wire: &Wire) -> Result<Message, Fault> {
        let connected = self.cx.net.connect(&[server.ip()], server.port(), self.cx.guard, self.cx.deadline).await;
        self.hop.connect_us += self.laps.lap();
        let mut stream = connected?.stream;
        let mut first_byte = None;
        let exchange = exchange(&mut stream, wire, &mut first_byte);
        let answer = tokio::time::timeout_at(self.cx.deadline.into(), exchange).await;
        if let Some(first_byte) = first_byte {
            self.hop.first_byte_us += self.laps.lap_at(first_byte);
            self.hop.transfer_us = self.laps.lap();
        } else {
            self.hop.first_byte_us += self.laps.lap();
        }
        match answer {
            Ok(Ok(bytes)) => wire.read(&bytes).map_err(|text| malformed(server, &text)),
            Ok(Err(error)) => Err(Fault::io(&error, Reason::TcpClosed, format_args!("asking {server} over TCP"))),
            Err(_elapsed) => Err(silent(server, "TCP")),
        }
    }
}

impl Wire {
    fn new(config: &Config) -> Result<Self, Fault> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|e| Fault::unknown(Blind::Internal, format!("no randomness for the question: {e}")))?;
        let id = u16::from_ne_bytes(id);
        let query = Query::query(config.name.clone(), config.kind);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(query.clone());
        let bytes = message.to_vec().map_err(|e| Fault::unknown(Blind::Internal, format!("the question cannot be written: {e}")))?;
        Ok(Self { id, query, bytes })
    }

    /// The answer in these bytes, or why they are none to this question.
    fn read(&self, bytes: &[u8]) -> Result<Message, String> {
        let message = Message::from_vec(bytes).map_err(|e| format!("{} bytes that are no DNS message ({e})", bytes.len()))?;
        if message.metadata.message_type != MessageType::Response {
            return Err("a question instead of an answer".to_owned());
        }
        if message.metadata.id != self.id {
            return Err(format!("the answer to question {}, not to {}", message.metadata.id, self.id));
        }
        // A server that did not even understand the question may leave it out.
        let left_out = message.queries.is_empty() && message.metadata.response_code != ResponseCode::NoError;
        if !left_out && message.queries.as_slice() != std::slice::from_ref(&self.query) {
            let asked = message.queries.first().map_or_else(|| "nothing".to_owned(), |q| format!("{} {}", q.name(), q.query_type()));
            return Err(format!("an answer to the question {asked}"));
        }
        Ok(message)
    }
}

async fn over_udp(server: SocketAddr, wire: &Wire, deadline: Instant) -> Result<Message, Fault> {
    let asking = |error: &std::io::Error| udp_fault(error, server);
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(|e| asking(&e))?;
    // Connected, the kernel drops what others send, and reports a closed port.
    socket.connect(server).await.map_err(|e| asking(&e))?;
    socket.send(&wire.bytes).await.map_err(|e| asking(&e))?;
    let mut buffer = vec![0_u8; DATAGRAM_MAX];
    let mut until = deadline;
    let mut stray = None;
    loop {
        match tokio::time::timeout_at(until.into(), socket.recv(&mut buffer)).await {
            Ok(Ok(length)) => match wire.read(&buffer[..length]) {
                Ok(message) => return Ok(message),
                Err(text) => {
                    until = until.min(Instant::now() + STRAY_WAIT);
                    stray.get_or_insert(text);
                }
            },
            Ok(Err(error)) => return Err(asking(&error)),
            Err(_elapsed) => return Err(stray.map_or_else(|| silent(server, "UDP"), |text| malformed(server, &text))),
        }
    }
}

/// Writes the question and reads one framed answer (RFC 1035 section 4.2.2).
async fn exchange(stream: &mut TcpStream, wire: &Wire, first_byte: &mut Option<Instant>) -> std::io::Result<Vec<u8>> {
    let length = u16::try_from(wire.bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), wire.bytes.as_slice()].concat()).await?;
    let high = stream.read_u8().await?;
    *first_byte = Some(Instant::now());
    let low = stream.read_u8().await?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes([high, low]))];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn udp_fault(error: &std::io::Error, server: SocketAddr) -> Fault {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    // The host says that nothing listens there (ICMP port unreachable): no connection is refused where there is none.
    if error.kind() == ConnectionRefused {
        return Fault::down(Reason::DnsNotListening, format!("{server} answered that nothing listens there over UDP"));
    }
    // A datagram socket learns of a missing route before anything is sent.
    if matches!(error.kind(), NetworkUnreachable | HostUnreachable) {
        return Fault::unknown(Blind::NoRoute, format!("asking {server}: this node has no route to it"));
    }
    Fault::io(error, Reason::DnsTimeout, format_args!("asking {server} over UDP"))
}

fn silent(server: SocketAddr, transport: &str) -> Fault {
    Fault::down(Reason::DnsTimeout, format!("{server} did not answer over {transport} in time"))
}

fn malformed(server: SocketAddr, text: &str) -> Fault {
    Fault::down(Reason::DnsMalformed, format!("{server} sent {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(name: &str) -> Config {
        Config {
            name: question_name(name, false).unwrap(),
            kind: RecordType::A,
            server: None,
            transport: Transport::Udp,
            expect: Expect::default(),
            family: Family::Any,
        }
    }

    #[test]
    fn only_the_answer_to_the_question_is_taken() {
        let wire = Wire::new(&config("shop.example.org")).unwrap();
        let mut answer = Message::from_vec(&wire.bytes).unwrap();
        assert!(wire.read(&wire.bytes).is_err(), "a question is no answer");
        answer.metadata.message_type = MessageType::Response;
        assert!(wire.read(&answer.to_vec().unwrap()).is_ok());
        let mut other = answer.clone();
        other.metadata.id = other.metadata.id.wrapping_add(1);
        assert!(wire.read(&other.to_vec().unwrap()).is_err(), "another id");
        let mut other = answer.clone();
        other.queries[0].set_name(Name::from_ascii("shop.example.net.").unwrap());
        assert!(wire.read(&other.to_vec().unwrap()).is_err(), "another name");
        let mut other = answer.clone();
        other.queries[0].set_query_type(RecordType::AAAA);
        assert!(wire.read(&other.to_vec().unwrap()).is_err(), "another type");
        answer.queries[0].set_name(Name::from_ascii("SHOP.example.ORG.").unwrap());
        assert!(wire.read(&answer.to_vec().unwrap()).is_ok(), "names have no case");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let wire = Wire::new(&config("shop.example.org")).unwrap();
            let _ = wire.read(&bytes);
        }

        #[test]
        fn no_damage_to_an_answer_makes_the_reader_panic(at in 0_usize..200, byte: u8, cut in 0_usize..200) {
            let config = config("shop.example.org");
            let wire = Wire::new(&config).unwrap();
            let mut answer = Message::from_vec(&wire.bytes).unwrap();
            answer.metadata.message_type = MessageType::Response;
            for text in ["192.0.2.1", "192.0.2.2"] {
                let data = hickory_resolver::proto::rr::RData::A(text.parse().unwrap());
                answer.add_answer(hickory_resolver::proto::rr::Record::from_rdata(config.name.clone(), 60, data));
            }
            let mut bytes = answer.to_vec().unwrap();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            if let Ok(message) = wire.read(&bytes) {
                let _ = facts(&message, config.kind, Transport::Udp);
                let _ = config.expect.fault(&message, config.kind, &config.name);
            }
        }
    }
}
