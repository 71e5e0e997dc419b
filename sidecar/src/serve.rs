//! The sockets: what each path answers, and how much of a call is read.
//!
//! Every call to `/start-request` and `/end-request` is answered with 200, at any time and whatever its query says, because clients
//! ignore errors and a refused call would be a lost count. What was not understood of it stands in the header `sidecar-note`. The
//! answer has no body: Go's client keeps a connection occupied whose answer has a body that nobody reads, and the seed's sample reads none.

use crate::counts::{Became, Event, Id};
use crate::duration;
use crate::show;
use crate::sidecar::{Ended, Sidecar, Slip};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections to the main port at once; further ones wait until one closes. Fewer would make a busy worker's calls wait behind each
/// other, more would take memory (16 KiB each).
const CONNECTIONS_MAX: usize = 256;

/// The same for Prometheus. Fewer would make a pair of them wait for each other, more has no use.
const METRICS_CONNECTIONS_MAX: usize = 16;

/// The head of a request is at most so long: an id, a duration and what proxies add. The least that hyper takes.
const HEAD_MAX: usize = 8 * 1024;

/// A request has at most so many header fields. Fewer would refuse what proxies and tracing add.
const HEADERS_MAX: usize = 64;

/// A body is read so far and thrown away, so that the connection can be used again; none of the calls needs one. Less would close the
/// connection of a client that sends its update along, more would read for nothing.
const BODY_MAX: u64 = 64 * 1024;

/// So long a body may take. Longer would keep a connection for a client that is gone.
const BODY_WITHIN: Duration = Duration::from_secs(1);

/// A connection without a request is closed after so long. Less than the 90 s after which Go's client closes an idle one would let the
/// two meet, which loses a call; more would keep the places of clients that are gone.
const IDLE_MAX: Duration = Duration::from_mins(2);

/// After a failure to accept (no file descriptors left) so much passes before the next try. Less would spin, more would keep calls waiting.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const NOTE: http::HeaderName = http::HeaderName::from_static("sidecar-note");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Which of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// `PORT`: the worker and the platform.
    Main,
    /// `METRICS_PORT`: Prometheus.
    Metrics,
}

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Start,
    End,
    Metrics,
    Status,
    Health,
    Ready,
    Drain,
    Prometheus,
}

impl Page {
    fn find(port: Port, path: &str) -> Option<Self> {
        match (port, path) {
            (Port::Main, "/start-request") => Some(Self::Start),
            (Port::Main, "/end-request") => Some(Self::End),
            (Port::Main, "/metrics") => Some(Self::Metrics),
            (Port::Main, "/status") => Some(Self::Status),
            (Port::Main, "/health") => Some(Self::Health),
            (Port::Main, "/ready") => Some(Self::Ready),
            (Port::Main, "/drain") => Some(Self::Drain),
            (Port::Metrics, "/metrics") => Some(Self::Prometheus),
            (Port::Main | Port::Metrics, _) => None,
        }
    }

    /// What is there, for whoever asked for something else.
    const fn all(port: Port) -> &'static str {
        match port {
            Port::Main => "POST /start-request, POST /end-request, GET /metrics, /status, /health, /ready and /drain",
            Port::Metrics => "GET /metrics",
        }
    }

    const fn takes(self) -> &'static str {
        match self {
            Self::Start | Self::End => "POST",
            Self::Metrics | Self::Status | Self::Health | Self::Ready | Self::Drain | Self::Prometheus => "GET, HEAD",
        }
    }
}

/// Answers on a port until it is dropped; its connections are watched by `open`, which closes them in good order.
pub async fn serve(listener: TcpListener, port: Port, sidecar: Arc<Sidecar>, open: Arc<GracefulShutdown>) -> Infallible {
    let places = Arc::new(Semaphore::new(match port {
        Port::Main => CONNECTIONS_MAX,
        Port::Metrics => METRICS_CONNECTIONS_MAX,
    }));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(IDLE_MAX).max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    loop {
        let place = place(&places).await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("accepting a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Answers are one small packet: waiting to fill it would only make the worker wait.
        let _ = stream.set_nodelay(true);
        let sidecar = sidecar.clone();
        let service = hyper::service::service_fn(move |request| {
            let sidecar = sidecar.clone();
            async move { Ok::<_, Infallible>(answer(port, &sidecar, request).await) }
        });
        let connection = open.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(place);
        });
    }
}

async fn place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // Never closed, so never an error.
    places.clone().acquire_owned().await.ok()
}

async fn answer(port: Port, sidecar: &Sidecar, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let Some(page) = Page::find(port, path) else {
        let known = Page::all(port);
        return text(StatusCode::NOT_FOUND, format!("there is no {path} here; there is: {known}\n"));
    };
    if !page.takes().split(", ").any(|method| head.method == method) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {}, not {}\n", page.takes(), head.method));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(page.takes()));
        return response;
    }
    let query = head.uri.query().unwrap_or_default();
    let response = match page {
        Page::Start => start(sidecar, query),
        Page::End => end(sidecar, query),
        Page::Metrics => {
            let (now, state) = sidecar.now();
            with_type(JSON, show::metrics(&state, now))
        }
        Page::Status => {
            let draining = sidecar.draining_since();
            let (now, state) = sidecar.now();
            with_type(JSON, show::status(&state, draining, sidecar.grace, now))
        }
        Page::Health => text(StatusCode::OK, "ok"),
        Page::Ready if sidecar.draining_since().is_some() => text(StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Page::Ready => text(StatusCode::OK, "ready"),
        // A HEAD asks what a GET would say, and is not meant to begin anything.
        Page::Drain if head.method == Method::HEAD => text(StatusCode::OK, ""),
        Page::Drain => drain(sidecar).await,
        Page::Prometheus => {
            let draining = sidecar.draining_since().is_some();
            let (now, state) = sidecar.now();
            with_type(PROMETHEUS, show::prometheus(&state, draining, now))
        }
    };
    // After counting: a slow body keeps nobody waiting but its sender.
    discard(body).await;
    response
}

fn start(sidecar: &Sidecar, query: &str) -> Response<Full<Bytes>> {
    let (id, bad_id) = id_of(sidecar, query);
    let again = match sidecar.take(Event::Start(id)) {
        Became::StartedAgain => Some("this id was in flight already: it is counted once".to_owned()),
        Became::Counted | Became::Unmatched | Became::Lost(_) => None,
    };
    counted(&[bad_id, again])
}

fn end(sidecar: &Sidecar, query: &str) -> Response<Full<Bytes>> {
    let (id, bad_id) = id_of(sidecar, query);
    let text = value(query, "duration");
    let took = text.as_deref().and_then(duration::parse);
    let bad_duration = text.filter(|text| took.is_none() && !text.is_empty()).map(|text| {
        let shown: String = text.chars().take(duration::TEXT_MAX).collect();
        let what = format!("its duration {} is none, such as 1.2s or 350ms", shown.escape_debug());
        sidecar.slipped(Slip::Duration, &what);
        what
    });
    let unmatched = match sidecar.take(Event::End(id, took)) {
        Became::Unmatched => Some("nothing like it was in flight: no request was taken away".to_owned()),
        Became::Counted | Became::StartedAgain | Became::Lost(_) => None,
    };
    counted(&[bad_id, bad_duration, unmatched])
}

/// The id of the call, and what is wrong with it.
fn id_of(sidecar: &Sidecar, query: &str) -> (Option<Id>, Option<String>) {
    let Some(text) = value(query, "id") else { return (None, None) };
    match Id::new(&text) {
        Ok(id) => (Some(id), None),
        Err(error) => {
            let what = format!("{error}: the request goes without one");
            sidecar.slipped(Slip::Id, &what);
            (None, Some(what))
        }
    }
}

/// The first value of that name in a query. A `+` stays one: clients write `1e+06s` as it is.
fn value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| percent_decode_str(value).decode_utf8_lossy())
}

fn counted(notes: &[Option<String>]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let notes: Vec<&str> = notes.iter().flatten().map(String::as_str).collect();
    if !notes.is_empty() {
        // What a header cannot hold stands in the log.
        let note = HeaderValue::from_str(&notes.join("; ")).unwrap_or(HeaderValue::from_static("a value was not understood"));
        response.headers_mut().insert(NOTE, note);
    }
    response
}

async fn drain(sidecar: &Sidecar) -> Response<Full<Bytes>> {
    let ended = sidecar.drain_asked().await;
    let draining = sidecar.draining_since();
    let (now, state) = sidecar.now();
    let mut response = with_type(JSON, show::status(&state, draining, sidecar.grace, now));
    *response.status_mut() = match ended {
        Ended::Drained => StatusCode::OK,
        Ended::Forced => StatusCode::SERVICE_UNAVAILABLE,
    };
    response
}

async fn discard(mut body: Incoming) {
    if body.is_end_stream() || body.size_hint().lower() > BODY_MAX {
        return;
    }
    let read = async {
        let mut left = BODY_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, |data| data.len() as u64)) else { return };
            left = rest;
        }
    };
    // What was not read closes the connection after the answer.
    let _ = tokio::time::timeout(BODY_WITHIN, read).await;
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = with_type(TEXT, text);
    *response.status_mut() = status;
    response
}

fn with_type(kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
