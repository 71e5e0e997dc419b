//! Accepts connections and serves the router on them, with the limits of a connection.
//!
//! hyper is driven directly, because the time for a request's header and the number of connections must be limited;
//! both keep a few slow strangers from taking all sockets of the node.

use super::{WebState, router};
use crate::store::StoreError;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The header of a request must be there within this, also the next one on a kept connection. Longer lets slow strangers
/// hold sockets; shorter cuts off slow links.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// A request line with headers may have so many bytes. Real ones have under 8 KiB; more is memory for strangers.
pub const HEADER_MAX: usize = 32 * 1024;

/// Connections at a time; further ones wait in the kernel's queue. More could take the sockets that probes need.
pub const CONNECTIONS_MAX: usize = 1_024;

/// Sent data that nobody acknowledges for so long ends the connection: a client that went away without a word must not
/// hold its place. Shorter would cut off links with long gaps.
pub const SILENT_PEER: Duration = Duration::from_mins(1);

/// At shutdown, requests under way may take so long; then they are cut.
pub const DRAIN: Duration = Duration::from_secs(5);

/// After a failed accept (out of sockets, mostly) the loop waits this long, else it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why serving did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Others can reach the address, but there is neither a user nor a token.
    #[error(
        "{0} can be reached from other machines, but there is neither a user nor a token yet: make one with `watchkeeper user create` or \
         `watchkeeper token create`, or listen on 127.0.0.1"
    )]
    Unprotected(SocketAddr),
    /// It could not be found out whether there is one.
    #[error("users and tokens could not be read")]
    Store(#[from] StoreError),
    /// The socket is not usable.
    #[error("the listening socket is not usable")]
    Listener(#[from] std::io::Error),
}

/// Serves until `stop`, then lets requests under way end for [`DRAIN`].
///
/// Refuses an address that other machines can reach while neither a user nor a token exists. The first start makes a token before it listens
/// ([`super::auth::first_token`]), so this only stops a node whose store did not take it.
pub async fn serve(listener: TcpListener, state: WebState, stop: CancellationToken) -> Result<(), ServeError> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() && !protected(&state).await? {
        return Err(ServeError::Unprotected(address));
    }
    tracing::info!(%address, "serving the API");
    accept(listener, router(state, stop.clone()), stop).await;
    Ok(())
}

async fn protected(state: &WebState) -> Result<bool, StoreError> {
    Ok(state.store.accounts().has_tokens().await? || state.store.accounts().has_users().await?)
}

/// Who is at the other end of a request's connection: a client, or the last proxy before us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub IpAddr);

/// Serves any router, with the limits of a connection, until `stop`.
pub(super) async fn accept(listener: TcpListener, router: axum::Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let (places, tasks) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), TaskTracker::new());
    loop {
        // The semaphore is never closed, so a permit is only missing after `stop`.
        let Some(Ok(place)) = stop.run_until_cancelled(places.clone().acquire_owned()).await else { break };
        let (stream, peer) = match stop.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (service, stop) = (service.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            connection(stream, Peer(peer.ip()), service, stop).await;
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "requests were still under way at the end of the grace time and are cut");
    }
}

async fn connection(stream: TcpStream, peer: Peer, service: TowerToHyperService<axum::Router>, stop: CancellationToken) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, "a connection's options could not be set");
    }
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_MAX);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        service.call(request)
    });
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            // A connection that outlives the grace is dropped with its task by the end of the runtime; here it is cut in time.
            tokio::time::timeout(DRAIN, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(SILENT_PEER))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENT_PEER).with_interval(Duration::from_secs(10)))
}
