//! Small real servers on 127.0.0.1, each on a port of its own, each with one defined behaviour. They stop when dropped.

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::future::Future;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A server; stops when dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Gives every connection to `serve`.
    pub async fn tcp<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                served.spawn(serve(stream));
            }
        });
        Self { address, accepted, task }
    }

    /// Answers every request with these bytes and closes.
    pub async fn http(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::tcp(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
                drain(&mut stream).await;
            }
        })
        .await
    }

    /// How many connections were accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// `http://127.0.0.1:PORT` with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Reads a request's head; what it was.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads until the other side has closed, so that closing does not reset the connection.
pub async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut waste = [0; 1024];
    while matches!(stream.read(&mut waste).await, Ok(n) if n > 0) {}
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    // Zero seconds to linger: what is unsent is thrown away and the peer is told so (tcp(7)).
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// A port that refuses every connection, and that nobody else gets meanwhile.
pub struct Closed {
    /// Where nothing listens.
    pub address: SocketAddr,
    _bound: socket2::Socket,
}

impl Closed {
    /// A free port, bound and not listened at.
    pub fn port() -> Self {
        let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self { address: bound.local_addr().unwrap().as_socket().unwrap(), _bound: bound }
    }
}

/// Where somebody may listen: free a moment ago.
pub async fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

/// A listening socket whose queue is full: Linux drops every further SYN without a word.
pub struct Deaf {
    /// Where it listens.
    pub address: SocketAddr,
    listener: socket2::Socket,
    fillers: Vec<socket2::Socket>,
}

impl Deaf {
    /// Fills its own queue.
    pub fn start() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut fillers = Vec::new();
        // The first to be left without an answer shows that the queue is full.
        for _ in 0..16 {
            let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let answered = filler.connect_timeout(&address.into(), Duration::from_millis(100)).is_ok();
            fillers.push(filler);
            if !answered {
                return Self { address, listener, fillers };
            }
        }
        panic!("the queue of a listener with backlog 0 does not fill");
    }

    /// Empties the queue and serves like any other; a SYN that is sent again is answered.
    pub fn hear(self) -> TcpListener {
        drop(self.fillers);
        self.listener.set_nonblocking(true).unwrap();
        TcpListener::from_std(self.listener.into()).unwrap()
    }
}

/// What a name server says about every name.
#[derive(Clone, Debug)]
pub enum Say {
    /// These addresses (for A; for AAAA none).
    Addresses(Vec<Ipv4Addr>),
    /// An empty answer with this code.
    Code(ResponseCode),
    /// Nothing.
    Nothing,
    /// These bytes, after the question's id.
    Garbage(Vec<u8>),
}

/// A name server with one answer, after a delay.
pub struct NameServer {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    /// Answers over UDP.
    pub async fn start(say: Say, delay: Duration) -> Self {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut answers = tokio::task::JoinSet::new();
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                count.fetch_add(1, Ordering::Relaxed);
                let Some(answer) = answer(&buffer[..length], &say) else { continue };
                let socket = Arc::clone(&socket);
                answers.spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = socket.send_to(&answer, from).await;
                });
            }
        });
        Self { address, asked, task }
    }

    /// How many questions came.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn answer(question: &[u8], say: &Say) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let asked = question.queries.first()?.clone();
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_available = true;
    match say {
        Say::Addresses(addresses) if asked.query_type() == RecordType::A => {
            for ip in addresses {
                answer.add_answer(Record::from_rdata(asked.name().clone(), 60, RData::A(A(*ip))));
            }
        }
        Say::Addresses(_) => {}
        Say::Code(code) => answer.metadata.response_code = *code,
        Say::Nothing => return None,
        Say::Garbage(bytes) => {
            let mut raw = question.metadata.id.to_be_bytes().to_vec();
            raw.extend_from_slice(bytes);
            return Some(raw);
        }
    }
    answer.add_query(asked);
    answer.to_vec().ok()
}

/// A certificate for the names that its issuer signed itself, as a file and as a server's settings.
pub struct Identity {
    /// PEM, for `ca_file`.
    pub ca_file: NamedTempFile,
    /// Offers these protocols.
    pub acceptor: TlsAcceptor,
}

impl Identity {
    /// For the names; `alpn` is what the server is willing to speak.
    pub fn new(names: &[&str], alpn: &[&[u8]]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let mut ca_file = NamedTempFile::new().unwrap();
        ca_file.write_all(cert.pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Self { ca_file, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// The path of the CA file, as YAML.
    pub fn ca_path(&self) -> String {
        format!("\"{}\"", self.ca_file.path().display())
    }
}
