//! One round of questions about one name: to the name servers in turn, until they are answered or time is up.

use super::connect::{show, unroutable};
use super::fault::own_fault;
use super::names::SERVERS_MAX;
use super::{By, Fault, Found};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use watchkeeper_core::{Blind, Reason};

/// A question is sent again, to the next server, after so long. Shorter doubles the load of a slow server;
/// longer turns one lost datagram into a slow attempt.
const RESEND_AFTER: Duration = Duration::from_secs(1);

/// Without EDNS a datagram has at most 512 bytes (RFC 1035 section 4.2.1); servers that send more than they may
/// are understood up to here.
const DATAGRAM_MAX: usize = 4_096;

/// So many addresses of one name are kept. More are never tried.
const ANSWERS_MAX: usize = 16;

/// How long an IPv6 answer is waited for once IPv4 addresses are known (RFC 8305 section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// One question and what became of it.
struct Question {
    id: u16,
    kind: RecordType,
    wire: Vec<u8>,
    /// The server that it was sent to last.
    asked: usize,
    /// Addresses, or a fault that ends the question.
    answer: Option<Result<SmallVec<[IpAddr; 4]>, Reason>>,
    /// The server that gave it.
    by: Option<SocketAddr>,
    /// The first server's failure; another server may still know better.
    failed: Option<Reason>,
    /// Which servers have failed it.
    failed_by: SmallVec<[usize; SERVERS_MAX]>,
    /// No server is left to ask.
    exhausted: bool,
}

/// One server and the socket to it.
struct Peer {
    address: SocketAddr,
    /// Kept open while the round lasts, so that a late answer still counts.
    socket: Option<UdpSocket>,
    /// It cannot be asked any more.
    lost: bool,
}

/// All questions about one name, to all servers, until answered.
pub(super) struct Round<'a> {
    host: &'a str,
    name: &'a Name,
    questions: SmallVec<[Question; 2]>,
    peers: SmallVec<[Peer; SERVERS_MAX]>,
    /// The newest error of our own: told if no server could be asked at all.
    own: Option<Blind>,
    sent: bool,
}

enum Event {
    Datagram(usize, usize),
    Broken(usize, io::Error),
}

impl<'a> Round<'a> {
    pub(super) fn new(host: &'a str, name: &'a Name, kinds: &[RecordType], servers: &[SocketAddr]) -> Result<Self, Fault> {
        let mut questions = SmallVec::new();
        for kind in kinds {
            let mut id = [0; 2];
            getrandom::fill(&mut id).map_err(|e| Fault::unknown(Blind::Internal, format!("resolving {host}: no randomness: {e}")))?;
            let id = u16::from_ne_bytes(id);
            let mut message = Message::new(id, MessageType::Query, OpCode::Query);
            message.metadata.recursion_desired = true;
            message.add_query(Query::query(name.clone(), *kind));
            let wire = message.to_vec().map_err(|_| Fault::down(Reason::DnsNxdomain, format!("{host} is not a possible host name")))?;
            questions.push(Question {
                id,
                kind: *kind,
                wire,
                asked: 0,
                answer: None,
                by: None,
                failed: None,
                failed_by: SmallVec::new(),
                exhausted: false,
            });
        }
        let peers = servers.iter().map(|address| Peer { address: *address, socket: None, lost: false }).collect();
        Ok(Self { host, name, questions, peers, own: None, sent: false })
    }

    pub(super) async fn run(&mut self, deadline: Instant) -> Result<Found, Fault> {
        let started = Instant::now();
        // On the heap: an attempt that needs no resolver must not carry it.
        let mut buffer = vec![0_u8; DATAGRAM_MAX];
        let mut until = deadline;
        for turn in 0.. {
            for question in 0..self.questions.len() {
                self.ask(question, turn).await;
            }
            let resend = Instant::now() + RESEND_AFTER;
            loop {
                if self.questions.iter().all(Question::is_over) {
                    return self.verdict(started);
                }
                if self.has_v4() {
                    until = until.min(Instant::now() + RESOLUTION_DELAY);
                }
                match tokio::time::timeout_at(resend.min(until).into(), self.receive(&mut buffer)).await {
                    Ok(Event::Datagram(from, length)) => {
                        if let Some(failed) = self.take(from, &buffer[..length], until).await {
                            self.ask(failed, from + 1).await;
                        }
                    }
                    Ok(Event::Broken(from, error)) => {
                        self.lose(from, &error);
                        for question in 0..self.questions.len() {
                            if self.questions[question].asked == from {
                                self.ask(question, from + 1).await;
                            }
                        }
                    }
                    Err(_) if Instant::now() >= until => return self.verdict(started),
                    Err(_) => break,
                }
            }
        }
        self.verdict(started)
    }

    fn has_v4(&self) -> bool {
        self.questions.iter().any(|q| q.kind == RecordType::A && matches!(q.answer, Some(Ok(_))))
    }

    /// Sends an open question to the first server, counted from `turn`, that can be asked and has not failed it.
    async fn ask(&mut self, question: usize, turn: usize) {
        let n = self.peers.len();
        while !self.questions[question].is_over() {
            let candidate = |i: &usize| !self.peers[*i].lost && !self.questions[question].failed_by.contains(i);
            let Some(peer) = (0..n).map(|step| (turn + step) % n).find(candidate) else {
                self.questions[question].exhausted = true;
                return;
            };
            match self.send(peer, question).await {
                Ok(()) => {
                    self.sent = true;
                    self.questions[question].asked = peer;
                    return;
                }
                Err(error) => self.lose(peer, &error),
            }
        }
    }

    async fn send(&mut self, peer: usize, question: usize) -> io::Result<()> {
        let peer = &mut self.peers[peer];
        let socket = match peer.socket.take() {
            Some(socket) => socket,
            None => open(peer.address).await?,
        };
        socket.send(&self.questions[question].wire).await?;
        peer.socket = Some(socket);
        Ok(())
    }

    /// A server that refuses datagrams, or that we have no way to, is not asked again in this round.
    fn lose(&mut self, index: usize, error: &io::Error) {
        self.peers[index].lost = true;
        self.peers[index].socket = None;
        if unroutable(error) {
            self.own = Some(Blind::NoRoute);
        } else if let Some(blind) = own_fault(error) {
            self.own = Some(blind);
        } else {
            self.sent = true;
        }
    }

    /// The next datagram from any of the servers.
    async fn receive(&self, buffer: &mut [u8]) -> Event {
        poll_fn(|cx| {
            for (index, peer) in self.peers.iter().enumerate() {
                let Some(socket) = &peer.socket else { continue };
                let mut into = ReadBuf::new(buffer);
                match socket.poll_recv(cx, &mut into) {
                    Poll::Ready(Ok(())) => return Poll::Ready(Event::Datagram(index, into.filled().len())),
                    Poll::Ready(Err(error)) => return Poll::Ready(Event::Broken(index, error)),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Takes an answer in; says which question another server should be asked at once. What does not belong to an
    /// open question is ignored, as a forgery or a late copy.
    async fn take(&mut self, from: usize, bytes: &[u8], deadline: Instant) -> Option<usize> {
        let index = self.open_question(bytes).filter(|i| !self.questions[*i].failed_by.contains(&from))?;
        let server = self.peers[from].address;
        let question = &mut self.questions[index];
        let read = match Message::from_vec(bytes) {
            Ok(message) if message.metadata.truncation => {
                match tokio::time::timeout_at(deadline.into(), over_tcp(server, &question.wire)).await {
                    Ok(Ok(message)) => read_answer(&message, question.kind),
                    Ok(Err(_)) | Err(_) => Err(Reason::DnsTimeout),
                }
            }
            Ok(message) => {
                if message.queries.first().is_some_and(|q| q.query_type() != question.kind || q.name() != self.name) {
                    return None;
                }
                read_answer(&message, question.kind)
            }
            Err(_) => Err(Reason::DnsMalformed),
        };
        match read {
            Err(
                reason
                @ (Reason::DnsServfail | Reason::DnsRefused | Reason::DnsUnexpectedRcode | Reason::DnsMalformed | Reason::DnsTimeout),
            ) => {
                question.failed.get_or_insert(reason);
                question.failed_by.push(from);
                Some(index)
            }
            settled => {
                question.answer = Some(settled);
                question.by = Some(server);
                None
            }
        }
    }

    fn open_question(&self, bytes: &[u8]) -> Option<usize> {
        let id = u16::from_be_bytes(*bytes.first_chunk::<2>()?);
        self.questions.iter().position(|q| q.id == id && q.answer.is_none())
    }

    /// What the answers amount to, now that no more will come.
    fn verdict(&self, started: Instant) -> Result<Found, Fault> {
        let (mut addresses, mut by) = (Vec::new(), By::Node);
        for question in &self.questions {
            if let Some(Ok(found)) = &question.answer {
                addresses.extend(found.iter().copied());
                by = question.by.map_or(by, By::Server);
            }
        }
        if !addresses.is_empty() {
            addresses.truncate(ANSWERS_MAX);
            return Ok(Found { addresses, by });
        }
        let host = self.host;
        if let (Some(blind), false) = (self.own, self.sent) {
            return Err(Fault::unknown(blind, format!("resolving {host}: no name server can be reached from this node")));
        }
        let reasons: SmallVec<[Reason; 2]> = self.questions.iter().map(Question::reason).collect();
        // A name that does not exist has no records of any type; otherwise the worse of the two answers is the news.
        let reason = [
            Reason::DnsNxdomain,
            Reason::DnsTimeout,
            Reason::DnsServfail,
            Reason::DnsRefused,
            Reason::DnsMalformed,
            Reason::DnsUnexpectedRcode,
        ]
        .into_iter()
        .find(|r| reasons.contains(r))
        .unwrap_or(Reason::DnsNoAnswer);
        let within = if reason == Reason::DnsTimeout { format!(" within {}", show(started.elapsed())) } else { String::new() };
        let said: SmallVec<[SocketAddr; 2]> = self.questions.iter().filter_map(|q| q.by).collect();
        let asked: Vec<String> = match said.first() {
            Some(server) => vec![server.to_string()],
            None => self.peers.iter().map(|peer| peer.address.to_string()).collect(),
        };
        Err(Fault::down(reason, format!("resolving {host}: {}{within} ({})", reason.sentence(), asked.join(", "))))
    }
}

impl Question {
    fn is_over(&self) -> bool {
        self.answer.is_some() || self.exhausted
    }

    fn reason(&self) -> Reason {
        match &self.answer {
            Some(Err(reason)) => *reason,
            Some(Ok(_)) | None => self.failed.unwrap_or(Reason::DnsTimeout),
        }
    }
}

/// The addresses in an answer, or why there are none.
#[expect(clippy::wildcard_enum_match_arm, reason = "response codes and record types are open lists (RFC 6895)")]
fn read_answer(message: &Message, kind: RecordType) -> Result<SmallVec<[IpAddr; 4]>, Reason> {
    match message.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Err(Reason::DnsNxdomain),
        ResponseCode::ServFail => return Err(Reason::DnsServfail),
        ResponseCode::Refused => return Err(Reason::DnsRefused),
        _ => return Err(Reason::DnsUnexpectedRcode),
    }
    let found: SmallVec<[IpAddr; 4]> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) if kind == RecordType::A => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) if kind == RecordType::AAAA => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        })
        .collect();
    if found.is_empty() { Err(Reason::DnsNoAnswer) } else { Ok(found) }
}

async fn open(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected, the kernel drops what others send, and reports a closed port.
    socket.connect(server).await?;
    Ok(socket)
}

/// Asks again over TCP, when the answer was too long for a datagram (RFC 7766).
async fn over_tcp(server: SocketAddr, wire: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(wire.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(wire.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(wire);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Message::from_vec(&answer).map_err(io::Error::other)
}
