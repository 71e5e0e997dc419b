//! The node's look at its own network: does anything that should answer, answer?
//!
//! By default its name servers are asked who serves the root, and the gateway of its IPv4 default route for an echo;
//! `agent.check` names addresses to look at instead. An answer by a name server counts only if the question was really
//! answered: a forwarder without its upstream fails or refuses. Nothing here knows a target.

use crate::net::Net;
use crate::probe::echo::Echo;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UdpSocket};

/// A look takes at most so long. Longer than an attempt may be held would decide nothing; shorter would take a slow way out,
/// such as a satellite's, for none.
const LOOK_MAX: Duration = Duration::from_millis(1_500);

/// An unanswered question is asked again after so long: a lost packet is no lost network.
const AGAIN: Duration = Duration::from_millis(400);

/// Once the outside has answered, the gateway has so long to do so too: it is nearer.
const GATEWAY_GRACE: Duration = Duration::from_millis(100);

/// Bytes of payload of an echo request: what ping sends.
const ECHO_SIZE: usize = 56;

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;

/// Something that answers while the node's network is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// A name server.
    Dns(SocketAddr),
    /// Anything that takes or refuses connections.
    Tcp(SocketAddr),
    /// A host that echoes.
    Echo(IpAddr),
}

impl Means {
    /// Reads an address (asked for an echo), or one with a port: of port 53 it is asked as a name server, of any other connected to.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Echo(address));
        }
        let address: SocketAddr = text.parse().ok()?;
        match address.port() {
            0 => None,
            DNS_PORT => Some(Self::Dns(address)),
            _ => Some(Self::Tcp(address)),
        }
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(address) | Self::Tcp(address) => address.fmt(f),
            Self::Echo(address) => address.fmt(f),
        }
    }
}

/// What answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// One of the given means, or of the name servers.
    pub outside: bool,
    /// The gateway.
    pub gateway: bool,
}

/// Looks once; returns as soon as enough is known. `given` replaces name servers and gateway.
pub async fn look(net: &Net, given: &[Means]) -> Answered {
    let mut asked = FuturesUnordered::new();
    let name_servers = || net.name_servers().iter().map(|server| Means::Dns(*server));
    let outside: Vec<Means> = if given.is_empty() { name_servers().collect() } else { given.to_vec() };
    let gateway = if given.is_empty() { gateway() } else { None };
    let count = outside.len();
    for (index, means) in outside.into_iter().chain(gateway.map(Means::Echo)).enumerate() {
        asked.push(async move { (index < count, answers(means).await) });
    }
    let mut until = Instant::now() + LOOK_MAX;
    let mut found = Answered::default();
    while let Ok(Some((outside, answered))) = tokio::time::timeout_at(until.into(), asked.next()).await {
        match (outside, answered) {
            (true, true) => {
                found.outside = true;
                until = until.min(Instant::now() + GATEWAY_GRACE);
            }
            (false, true) => found.gateway = true,
            (_, false) => {}
        }
        if found.outside && (found.gateway || gateway.is_none()) {
            break;
        }
    }
    found
}

/// Asks until there is an answer; the caller limits the time.
async fn answers(means: Means) -> bool {
    loop {
        let once = async {
            match means {
                Means::Dns(server) => ask(server).await,
                Means::Tcp(address) => match TcpStream::connect(address).await {
                    Ok(_) => true,
                    Err(error) => error.kind() == ErrorKind::ConnectionRefused,
                },
                Means::Echo(address) => echo(address).await,
            }
        };
        let next = Instant::now() + AGAIN;
        if tokio::time::timeout_at(next.into(), once).await == Ok(true) {
            return true;
        }
        // What failed at once is not asked in a tight loop.
        tokio::time::sleep_until(next.into()).await;
    }
}

async fn ask(server: SocketAddr) -> bool {
    let mut id = [0; 2];
    if getrandom::fill(&mut id).is_err() {
        return false;
    }
    let id = u16::from_ne_bytes(id);
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::root(), RecordType::NS));
    let Ok(wire) = question.to_vec() else { return false };
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let Ok(socket) = UdpSocket::bind((any, 0)).await else { return false };
    if socket.connect(server).await.is_err() || socket.send(&wire).await.is_err() {
        return false;
    }
    // The answer that matters fits; a longer one is cut, and its head is enough.
    let mut buffer = [0; 512];
    while let Ok(length) = socket.recv(&mut buffer).await {
        if let Some(code) = code_of(&buffer[..length], id) {
            return matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        }
    }
    false
}

/// The response code of an answer to this question, read from its head alone (RFC 1035 section 4.1.1).
fn code_of(bytes: &[u8], id: u16) -> Option<ResponseCode> {
    let head = bytes.first_chunk::<12>()?;
    let answer = head[2] & 0x80 != 0 && u16::from_be_bytes([head[0], head[1]]) == id;
    answer.then(|| ResponseCode::from_low(head[3] & 0x0f))
}

async fn echo(address: IpAddr) -> bool {
    let Ok(echo) = Echo::open(address) else { return false };
    let mut buffer = [0; ECHO_SIZE + 8 + 60];
    echo.send(0, ECHO_SIZE).await.is_ok() && echo.receive(&mut buffer).await.is_ok()
}

/// The gateway of the IPv4 default route, if there is one. Those of IPv6 are link-local and known by their interface only.
fn gateway() -> Option<IpAddr> {
    gateway_of(&std::fs::read_to_string("/proc/net/route").ok()?)
}

/// Reads the kernel's table: interface, destination, gateway, flags, … with addresses as hex of the number in memory.
fn gateway_of(table: &str) -> Option<IpAddr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok().filter(|gateway| *gateway != 0)?;
        (destination == "00000000").then(|| IpAddr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_echoed_a_port_connected_to_and_port_53_asked() {
        assert_eq!(Means::parse("192.0.2.1"), Some(Means::Echo("192.0.2.1".parse().unwrap())));
        assert_eq!(Means::parse("[2001:db8::1]:53"), Some(Means::Dns("[2001:db8::1]:53".parse().unwrap())));
        assert_eq!(Means::parse("192.0.2.1:443"), Some(Means::Tcp("192.0.2.1:443".parse().unwrap())));
        for text in ["", "example.org", "example.org:53", "192.0.2.1:0", "[2001:db8::1]", "192.0.2.0/24"] {
            assert_eq!(Means::parse(text), None, "{text}");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_gateway_is_read_from_the_kernel_s_table() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let own = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let way = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        assert_eq!(gateway_of(&format!("{head}{own}{way}")), Some("192.168.1.1".parse().unwrap()));
        assert_eq!(gateway_of(&format!("{head}{own}")), None);
        assert_eq!(gateway_of(""), None);
    }

    #[test]
    fn only_the_answer_s_own_head_counts() {
        let head = |flags: u8, code: u8| [0x12, 0x34, flags, code, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(code_of(&head(0x81, 0x80), 0x1234), Some(ResponseCode::NoError));
        assert_eq!(code_of(&head(0x81, 0x82), 0x1234), Some(ResponseCode::ServFail));
        assert_eq!(code_of(&head(0x01, 0x80), 0x1234), None, "a question");
        assert_eq!(code_of(&head(0x81, 0x80), 0x4321), None, "another's");
        assert_eq!(code_of(&head(0x81, 0x80)[..11], 0x1234), None);
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer_and_nobody_is_none() {
        let net = Net::with_name_servers(crate::clock::Clock::system(), Vec::new());
        assert!(!look(&net, &[]).await.outside);
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(look(&net, &[Means::Tcp(closed)]).await.outside);
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!look(&net, &[Means::Dns(silent.local_addr().unwrap())]).await.outside);
    }
}
