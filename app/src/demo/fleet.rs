//! The demo's fleet: a handful of real servers on loopback, on ports that the system picks.
//!
//! They are as small as servers can be and know nothing of Watchkeeper: what it finds out, it finds out over sockets.

use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Requests of more bytes are not answered: a probe's request has some hundred.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// A DNS question over UDP is never longer.
const QUESTION_BYTES_MAX: usize = 512;
/// Days the TLS server's certificate has left: little enough for the demo's rule to speak.
pub const CERT_DAYS_LEFT: i64 = 9;
/// How long the slow server takes while it is slow, in milliseconds: far above the demo's rule, far below the time-out.
pub const SLOW_MS: u64 = 700;

/// All servers; they end when this is dropped.
pub struct Fleet {
    /// Always fine.
    pub shop: SocketAddr,
    /// HTTPS with a certificate that ends soon.
    pub account: SocketAddr,
    /// Greets with a line.
    pub queue: SocketAddr,
    /// Answers every A question with 127.0.0.1.
    pub names: SocketAddr,
    /// Turns slow and fast again.
    pub search: Slow,
    /// Goes down and comes back.
    pub checkout: Switch,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Fleet {
    /// Starts every server. The authority that issued the TLS server's certificate is written to `ca_file`.
    pub async fn start(ca_file: &Path, now_s: i64) -> Result<Self> {
        let mut tasks = Vec::new();
        let acceptor = acceptor(ca_file, now_s)?;
        let (shop, listener) = listen().await?;
        tasks.push(tokio::spawn(serve(listener, move |stream| http(stream, 0))));
        let (account, listener) = listen().await?;
        tasks.push(tokio::spawn(serve(listener, move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let tls = acceptor.accept(stream).await?;
                http(tls, 0).await
            }
        })));
        let (queue, listener) = listen().await?;
        tasks.push(tokio::spawn(serve(listener, |mut stream: TcpStream| async move { stream.write_all(b"220 queue ready\r\n").await })));
        let (search, listener) = listen().await?;
        let delay_ms = Arc::new(AtomicU64::new(0));
        let shared = delay_ms.clone();
        tasks.push(tokio::spawn(serve(listener, move |stream| http(stream, shared.load(Ordering::Relaxed)))));
        let socket = UdpSocket::bind("127.0.0.1:0").await.context("opening a port for the demo's name server")?;
        let names = socket.local_addr()?;
        tasks.push(tokio::spawn(answer_questions(socket)));
        let checkout = Switch::start().await?;
        Ok(Self { shop, account, queue, names, search: Slow { address: search, delay_ms }, checkout, tasks })
    }
}

/// A server whose delay can be set.
pub struct Slow {
    /// Where it listens.
    pub address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
}

impl Slow {
    /// Sets how long it takes from the request to the first byte.
    pub fn set_delay_ms(&self, ms: u64) {
        self.delay_ms.store(ms, Ordering::Relaxed);
    }
}

/// A server that can be stopped, so that its port refuses connections, and started again on the same port.
pub struct Switch {
    /// Where it listens while it runs.
    pub address: SocketAddr,
    running: Option<JoinHandle<()>>,
}

impl Switch {
    async fn start() -> Result<Self> {
        let (address, listener) = listen().await?;
        Ok(Self { address, running: Some(tokio::spawn(serve(listener, |stream| http(stream, 0)))) })
    }

    /// Stops it: from now on connections are refused.
    pub async fn go_down(&mut self) {
        if let Some(task) = self.running.take() {
            task.abort();
            // The port is closed once the task is gone; that it was cancelled is what was asked for.
            let _ = task.await;
        }
    }

    /// Starts it again.
    pub async fn come_back(&mut self) -> Result<()> {
        let listener = TcpListener::bind(self.address).await.context("opening the demo's port again")?;
        self.running = Some(tokio::spawn(serve(listener, |stream| http(stream, 0))));
        Ok(())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if let Some(task) = &self.running {
            task.abort();
        }
    }
}

async fn listen() -> Result<(SocketAddr, TcpListener)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("opening a port on loopback for the demo")?;
    Ok((listener.local_addr()?, listener))
}

/// Accepts for ever, a task per connection.
async fn serve<F>(listener: TcpListener, talk: impl Fn(TcpStream) -> F)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    // A failing accept (out of descriptors) ends this server: the demo then shows it as down, which it is.
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(talk(stream));
    }
}

/// Answers one request, whatever it asks, after a delay.
async fn http(mut stream: impl AsyncRead + AsyncWrite + Unpin, delay_ms: u64) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let read = stream.read(&mut chunk).await?;
        if read == 0 || request.len() > REQUEST_BYTES_MAX {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..read]);
    }
    if delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
    }
    let body = r#"{"status":"ok"}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// A certificate from an authority of the demo's own.
fn acceptor(ca_file: &Path, now_s: i64) -> Result<TlsAcceptor> {
    let day = |days: i64| -> Result<(i32, u8, u8)> {
        let at = jiff::Timestamp::from_second(now_s + days * 86_400)?.to_zoned(jiff::tz::TimeZone::UTC);
        Ok((i32::from(at.year()), u8::try_from(at.month())?, u8::try_from(at.day())?))
    };
    let date = |(year, month, day)| rcgen::date_time_ymd(year, month, day);
    let authority = rcgen::KeyPair::generate().context("making the demo's keys")?;
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "Watchkeeper demo authority");
    std::fs::write(ca_file, params.self_signed(&authority)?.pem()).with_context(|| format!("writing {}", ca_file.display()))?;
    let issuer = rcgen::Issuer::new(params, authority);
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "account.demo");
    params.not_before = date(day(-81)?);
    // The date begins at midnight: one more day, so that at least the promised whole days are left.
    params.not_after = date(day(CERT_DAYS_LEFT + 1)?);
    let certificate = params.signed_by(&key, &issuer)?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| anyhow::anyhow!("the demo's key: {e}"))?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A name server of one answer.
async fn answer_questions(socket: UdpSocket) {
    let mut question = [0; QUESTION_BYTES_MAX];
    while let Ok((len, from)) = socket.recv_from(&mut question).await {
        if let Some(answer) = answer(&question[..len]) {
            // Who asked may have gone.
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

/// The question's header and name again, and one A record: RFC 1035, 4.1.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let name_end = 12 + question.get(12..)?.iter().position(|b| *b == 0)?;
    let asked = question.get(12..name_end + 5)?;
    let mut out = question[..2].to_vec();
    out.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    out.extend(asked);
    // Pointer to the name, type A, class IN, 60 s, four bytes.
    out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    Some(out)
}
