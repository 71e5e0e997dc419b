//! One HTTP request and its response over one fresh connection, bounded in bytes and by a deadline.
//!
//! hyper's connection is driven inside the caller's own task: a check costs no spawned task, and nothing
//! of it outlives the attempt. (HTTP/2 brings tasks of its own; they end with the exchange.) Once a
//! response is complete it counts, however the connection ends afterwards: a server may close at once, and the
//! connection's last write then ends in a broken pipe.

use super::Fault;
use super::tls::stream_fault;
use bytes::{Bytes, BytesMut};
use http::{Request, response::Parts};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;
use watchkeeper_core::{Blind, Reason};

/// The head of a response has at most so many bytes. Fewer refuse sites with many cookies; more let a broken server
/// fill the memory before a single header is known. (hyper holds the unread part of a body in the same buffer.)
const HEAD_MAX: usize = 64 * 1024;

/// A response has at most so many headers over HTTP/1.1. Fewer refuse sites behind several gateways that each add theirs; more is
/// memory for every response (32 bytes each), and [`HEAD_MAX`] bounds them anyway.
const HEADERS_MAX: usize = 1_024;

/// HTTP/2 header lists are bounded alike.
const HEAD_LIST_MAX: u32 = 64 * 1024;

/// What bounds one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// It is over by then.
    pub deadline: Instant,
    /// A longer body is a fault.
    pub max_body: usize,
    /// So many bytes of the body are kept; the rest is read and counted.
    pub keep: usize,
}

/// What came of one exchange. Also a failed one has what was received until then.
#[derive(Debug)]
pub struct Exchange {
    /// When the first byte of the response arrived (HTTP/2: when its headers were complete, because a server speaks
    /// before it is asked there).
    pub first_byte: Option<Instant>,
    /// When the last byte that was waited for arrived, or the fault.
    pub ended: Instant,
    /// Status and headers.
    pub head: Option<Parts>,
    /// The kept beginning of the body.
    pub body: Bytes,
    /// Body bytes read.
    pub body_bytes: u64,
    /// Why the response is not complete.
    pub fault: Option<Fault>,
}

/// The protocol that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 9112.
    Http1,
    /// RFC 9113.
    Http2,
}

/// Sends a request and reads the response.
pub async fn exchange<S>(io: S, protocol: Protocol, request: Request<Full<Bytes>>, limits: Limits) -> Exchange
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let first = OnceLock::new();
    let mut got = Got::default();
    let result = {
        let talk = async {
            match protocol {
                Protocol::Http1 => talk_http1(io, request, limits, &first, &mut got).await,
                Protocol::Http2 => Box::pin(talk_http2(io, request, limits, &mut got)).await,
            }
        };
        tokio::time::timeout_at(limits.deadline.into(), talk).await
    };
    let ended = Instant::now();
    let first_byte = first.get().copied().or(got.headed);
    let fault = match result {
        Ok(Ok(())) => None,
        Ok(Err(fault)) => Some(fault),
        Err(_) if first_byte.is_none() => {
            Some(Fault::down(Reason::HttpFirstByteTimeout, "the response did not begin before the attempt's time was up"))
        }
        Err(_) if got.head.is_none() => {
            Some(Fault::down(Reason::HttpBodyTimeout, "the response headers did not end before the attempt's time was up"))
        }
        Err(_) => Some(Fault::down(
            Reason::HttpBodyTimeout,
            format!("the response body did not end before the attempt's time was up: {} bytes came", got.body.total),
        )),
    };
    Exchange { first_byte, ended, head: got.head, body_bytes: got.body.total, body: got.body.finish(), fault }
}

/// What has been received so far.
#[derive(Default)]
struct Got {
    headed: Option<Instant>,
    head: Option<Parts>,
    body: Kept,
}

/// The beginning of a body. A body of one piece is never copied.
#[derive(Default)]
struct Kept {
    total: u64,
    first: Bytes,
    more: BytesMut,
}

impl Kept {
    fn take(&mut self, piece: &Bytes, keep: usize) {
        let have = if self.more.is_empty() { self.first.len() } else { self.more.len() };
        let fits = piece.len().min(keep.saturating_sub(have));
        if self.total == 0 {
            self.first = piece.slice(..fits);
        } else if fits > 0 {
            if self.more.is_empty() {
                self.more.reserve(have + fits);
                self.more.extend_from_slice(&self.first);
            }
            self.more.extend_from_slice(&piece[..fits]);
        }
        self.total += piece.len() as u64;
    }

    fn finish(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}

async fn talk_http1<S>(io: S, request: Request<Full<Bytes>>, limits: Limits, first: &OnceLock<Instant>, got: &mut Got) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let io = TokioIo::new(Stamped { inner: io, first });
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(io)
        .await
        .map_err(|e| fault_of(&e, "starting HTTP/1.1"))?;
    let mut driver = Driver { connection: pin!(connection), ended: None };
    let response = driver.respond(sender.send_request(request)).await?;
    receive(&mut driver, response, limits, got).await
}

async fn talk_http2<S>(io: S, request: Request<Full<Bytes>>, limits: Limits, got: &mut Got) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tasks = Arc::new(Mutex::new(JoinSet::new()));
    let (mut sender, connection) = http2::Builder::new(Tasks(Arc::downgrade(&tasks)))
        .max_header_list_size(HEAD_LIST_MAX)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|e| fault_of(&e, "starting HTTP/2"))?;
    let mut driver = Driver { connection: pin!(connection), ended: None };
    let response = driver.respond(sender.send_request(request)).await?;
    receive(&mut driver, response, limits, got).await
}

/// Reads the body to its end.
async fn receive<C>(driver: &mut Driver<'_, C>, response: http::Response<Incoming>, limits: Limits, got: &mut Got) -> Result<(), Fault>
where
    C: Future<Output = hyper::Result<()>>,
{
    let (head, mut body) = response.into_parts();
    got.headed = Some(Instant::now());
    got.head = Some(head);
    let too_large = || Fault::down(Reason::HttpBodyTooLarge, format!("the response body is larger than {} bytes", limits.max_body));
    if body.size_hint().lower() > limits.max_body as u64 {
        return Err(too_large());
    }
    while !body.is_end_stream() {
        let Some(frame) = driver.frame(&mut body).await else { break };
        let frame = frame.map_err(|e| fault_of(&e, "reading the response body"))?;
        let Ok(piece) = frame.into_data() else { continue };
        got.body.take(&piece, limits.keep);
        if got.body.total > limits.max_body as u64 {
            return Err(too_large());
        }
    }
    Ok(())
}

/// A connection that makes progress only while its one request is waited for.
struct Driver<'a, C> {
    connection: Pin<&'a mut C>,
    ended: Option<hyper::Result<()>>,
}

impl<C: Future<Output = hyper::Result<()>>> Driver<'_, C> {
    fn drive(&mut self, cx: &mut Context<'_>) {
        if self.ended.is_none()
            && let Poll::Ready(result) = self.connection.as_mut().poll(cx)
        {
            self.ended = Some(result);
        }
    }

    async fn respond(
        &mut self,
        response: impl Future<Output = hyper::Result<http::Response<Incoming>>>,
    ) -> Result<http::Response<Incoming>, Fault> {
        const WHAT: &str = "waiting for the response";
        let mut response = pin!(response);
        let result = poll_fn(|cx| {
            self.drive(cx);
            response.as_mut().poll(cx)
        })
        .await;
        result.map_err(|error| match &self.ended {
            // A request that was never sent only says so; the connection knows why.
            Some(Err(why)) if error.is_canceled() => fault_of(why, WHAT),
            Some(_) | None => fault_of(&error, WHAT),
        })
    }

    async fn frame(&mut self, body: &mut Incoming) -> Option<hyper::Result<hyper::body::Frame<Bytes>>> {
        poll_fn(|cx| {
            if let ready @ Poll::Ready(_) = Pin::new(&mut *body).poll_frame(cx) {
                return ready;
            }
            self.drive(cx);
            Pin::new(&mut *body).poll_frame(cx)
        })
        .await
    }
}

/// Notes when the first byte is read.
struct Stamped<'a, S> {
    inner: S,
    first: &'a OnceLock<Instant>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Stamped<'_, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut this.inner).poll_read(cx, buffer));
        if buffer.filled().len() > before {
            this.first.get_or_init(Instant::now);
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stamped<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    /// Nothing: the connection is dropped as soon as the response is complete, and a farewell before that costs a
    /// system call per check.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Where hyper's HTTP/2 puts its tasks. The set belongs to the exchange and ends them when it is dropped; they
/// themselves only know it weakly, or they would keep each other alive.
#[derive(Clone)]
struct Tasks(Weak<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, future: F) {
        let Some(tasks) = self.0.upgrade() else { return };
        let mut tasks = match tasks.lock() {
            Ok(tasks) => tasks,
            Err(poisoned) => poisoned.into_inner(),
        };
        tasks.spawn(async move {
            future.await;
        });
    }
}

/// Names an error of hyper by what lies beneath it.
fn fault_of(error: &hyper::Error, what: &str) -> Fault {
    let mut beneath = error.source();
    while let Some(cause) = beneath {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io_fault(io, what);
        }
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return h2_fault(h2, what);
        }
        beneath = cause.source();
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return closed(what);
    }
    if error.is_user() {
        return Fault::unknown(Blind::Internal, format!("{what}: {error}"));
    }
    if error.is_parse_too_large() {
        return Fault::down(Reason::HttpMalformed, format!("{what}: the head has more than {HEADERS_MAX} headers or {HEAD_MAX} bytes"));
    }
    Fault::down(Reason::HttpMalformed, format!("{what}: the answer is not HTTP: {error}"))
}

fn closed(what: &str) -> Fault {
    Fault::down(Reason::HttpClosed, format!("{what}: the connection was closed before the response was complete"))
}

fn io_fault(error: &io::Error, what: &str) -> Fault {
    // TLS 1.3 tells only after the handshake that it wanted a client certificate.
    if let Some(fault) = stream_fault(error) {
        return fault;
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return closed(what);
    }
    let hypers_own = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other);
    if hypers_own && error.raw_os_error().is_none() {
        // Its decoder of chunks speaks so.
        return Fault::down(Reason::HttpMalformed, format!("{what}: {error}"));
    }
    Fault::io(error, Reason::HttpClosed, what)
}

fn h2_fault(error: &h2::Error, what: &str) -> Fault {
    if let Some(io) = error.get_io() {
        return io_fault(io, what);
    }
    if error.is_remote() {
        return Fault::down(Reason::HttpClosed, format!("{what}: the server ended the stream: {error}"));
    }
    Fault::down(Reason::HttpMalformed, format!("{what}: {error}"))
}
