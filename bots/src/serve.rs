//! Listens, accepts connections and serves a router on them, with the limits of a connection.

use anyhow::{Context as _, Result};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The header of a request must be there within this, also the next one on a kept connection. Shorter would close connections that
/// Telegram keeps, longer would let strangers hold sockets.
const HEADER_WITHIN: Duration = Duration::from_mins(2);

/// A request line with headers may have so many bytes, unless said otherwise: more is memory for strangers.
const HEADER_MAX: usize = 16 * 1024;

/// Connections at a time; further ones wait in the kernel's queue. Telegram opens up to 100 for each bot.
const CONNECTIONS_MAX: usize = 1_024;

/// Connections that wait to be accepted. Fewer would refuse a burst, more has no use.
const BACKLOG: i32 = 1_024;

/// After a failed accept (out of sockets, mostly) the loop waits this long, else it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener on the address; on all addresses of both families where none is given, or of IPv4 where the system has no IPv6.
pub fn listen(address: Option<IpAddr>, port: u16) -> Result<TcpListener> {
    let bound = match address {
        Some(address) => bind(SocketAddr::new(address, port)),
        None => {
            bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).or_else(|_| bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)))
        }
    };
    bound.with_context(|| format!("listening on port {port}"))
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A new process may listen while connections of the former one are still closing.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}

/// Serves until `stop`; then requests under way may take for `grace`.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, grace: Duration) {
    serve_with(listener, router, HEADER_MAX, stop, grace).await;
}

/// The same where a request line with headers may have so many bytes.
pub async fn serve_with(listener: TcpListener, router: Router, header_max: usize, stop: CancellationToken, grace: Duration) {
    let service = TowerToHyperService::new(router);
    let (places, tasks) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
    loop {
        // The semaphore is never closed.
        let Some(Ok(place)) = stop.run_until_cancelled(places.clone().acquire_owned()).await else { break };
        let stream = match stop.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (service, stop) = (service.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            connection(stream, service, header_max, stop).await;
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(grace, tasks.wait()).await.is_err() {
        tracing::warn!("{} requests were still under way at the end of the grace and are cut", tasks.len());
    }
}

async fn connection(stream: TcpStream, service: TowerToHyperService<Router>, header_max: usize, stop: CancellationToken) {
    // Answers are one small packet: waiting to fill it would only make the caller wait.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_WITHIN).max_buf_size(header_max);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended early: {error}");
    }
}
