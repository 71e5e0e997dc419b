//! What stands in the world of a node in a network namespace: web servers, a name server, and a receiver of messages.

use super::netns::{GATEWAY, NAME_SERVER, Wires, host};
use hickory_resolver::proto::op::{Message, MessageType};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// Where messages are received.
pub const HOOK_PORT: u16 = 9_000;

/// The servers; they stop when dropped.
pub struct World {
    /// Requests that each host has answered.
    pub hits: Vec<Arc<AtomicUsize>>,
    messages: Arc<Mutex<Vec<serde_json::Value>>>,
    _servers: JoinSet<()>,
}

impl World {
    /// `hosts` web servers that answer 200 on port 80; names `t1.test`, … for them; a receiver at the gateway.
    pub fn start(wires: &Wires, hosts: u8) -> Self {
        let mut servers = JoinSet::new();
        let mut hits = Vec::new();
        for n in 1..=hosts {
            let count = Arc::new(AtomicUsize::new(0));
            hits.push(Arc::clone(&count));
            let listener = listener(wires, host(n), 80);
            servers.spawn(serve(listener, move |_, _| {
                count.fetch_add(1, Ordering::Relaxed);
                "200 OK"
            }));
        }
        let messages = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&messages);
        servers.spawn(serve(listener(wires, GATEWAY, HOOK_PORT), move |_, body| {
            taken.lock().unwrap().extend(serde_json::from_slice::<serde_json::Value>(body));
            "204 No Content"
        }));
        let socket = wires.datagrams(NAME_SERVER, 53);
        socket.set_nonblocking(true).unwrap();
        servers.spawn(names(UdpSocket::from_std(socket).unwrap()));
        Self { hits, messages, _servers: servers }
    }

    /// The messages received so far.
    pub fn messages(&self) -> Vec<serde_json::Value> {
        self.messages.lock().unwrap().clone()
    }

    /// How often each host has answered.
    pub fn counts(&self) -> Vec<usize> {
        self.hits.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

fn listener(wires: &Wires, address: Ipv4Addr, port: u16) -> TcpListener {
    let listener = wires.listen(address, port);
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

/// Answers every request, one per connection, with the status that `answer` makes of head and body.
async fn serve(listener: TcpListener, answer: impl Fn(&str, &[u8]) -> &'static str + Send + Sync + 'static) {
    let answer = Arc::new(answer);
    let mut served = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let answer = Arc::clone(&answer);
        served.spawn(async move {
            let _ = serve_one(stream, &*answer).await;
        });
        while served.try_join_next().is_some() {}
    }
}

async fn serve_one(mut stream: TcpStream, answer: &(dyn Fn(&str, &[u8]) -> &'static str + Send + Sync)) -> std::io::Result<()> {
    let head = super::servers::read_head(&mut stream).await;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let status = answer(&head, &body);
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    stream.shutdown().await
}

/// Knows `t1.test`, `t2.test`, …; of everything else it knows nothing, in good order.
async fn names(socket: UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let Ok(mut message) = Message::from_vec(&buffer[..length]) else { continue };
        message.metadata.message_type = MessageType::Response;
        message.metadata.recursion_available = true;
        let asked = message.queries.first().map(|q| (q.name().clone(), q.query_type()));
        if let Some((name, RecordType::A)) = asked
            && let Some(n) = name.to_ascii().strip_prefix('t').and_then(|rest| rest.strip_suffix(".test.")?.parse().ok())
        {
            message.add_answer(Record::from_rdata(name, 60, RData::A(A(host(n)))));
        }
        if let Ok(answer) = message.to_vec() {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}
