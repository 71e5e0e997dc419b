//! All wiring, in one straight function: read this first.
//!
//! One thread, because one counter is all there is to share: sockets, timers and the file take turns on it. It listens before it says
//! that it does, counts until a signal comes, goes on counting while it drains, answers who waits at `/drain`, and ends.

use crate::clock::{Clock, rfc3339};
use crate::counts::Counts;
use crate::journal::{self, Journal};
use crate::serve::{self, Port};
use crate::settings::Settings;
use crate::sidecar::{Ended, Sidecar};
use anyhow::{Context as _, Result};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// So long the last answers may take. Longer would move a forced end away from the grace; shorter would cut the answer to who waits at
/// `/drain`.
const CLOSING: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted. Fewer would refuse a burst of a worker's; more has no use.
const BACKLOG: i32 = 256;

/// Runs until a signal has come and the drain is over.
pub async fn run(settings: &Settings) -> Result<Ended> {
    let clock = Clock::system();
    let mut term = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let (journal, counts) = match &settings.state_file {
        None => (None, Counts::new(clock.now())),
        Some(path) => {
            let (journal, found) = Journal::open(path, &journal::boot_id(), clock.now())?;
            if let Some(broken) = found.broken {
                tracing::warn!("STATE_FILE {} could not be read: {broken}", path.display());
            }
            if found.ended_with_machine > 0 {
                tracing::warn!("the machine was restarted: {} requests that were in flight are lost", found.ended_with_machine);
            }
            if found.restarted {
                let (active, total) = (found.counts.active(), found.counts.total);
                tracing::info!(
                    "counting goes on from {}: {total} requests since {}, {active} in flight",
                    path.display(),
                    rfc3339(found.counts.since)
                );
            }
            (Some(journal), found.counts)
        }
    };
    let kept = journal.is_some();
    let main = listen(settings.address, settings.port).with_context(|| format!("listening on PORT {}", settings.port))?;
    let metrics =
        listen(settings.address, settings.metrics_port).with_context(|| format!("listening on METRICS_PORT {}", settings.metrics_port))?;
    let (main_address, metrics_address) = (main.local_addr()?, metrics.local_addr()?);
    let sidecar = Arc::new(Sidecar::new(clock, settings.grace, settings.lost_after, counts, journal));
    let open = Arc::new(GracefulShutdown::new());
    let serving = [
        tokio::spawn(serve::serve(main, Port::Main, sidecar.clone(), open.clone())),
        tokio::spawn(serve::serve(metrics, Port::Metrics, sidecar.clone(), open.clone())),
    ];
    tracing::info!(
        "listening on {main_address}, metrics on {metrics_address}; grace {} s; counts are {}",
        settings.grace.0 as f64 / 1e6,
        if kept { "kept over a restart" } else { "not kept over a restart (STATE_FILE is not set)" }
    );
    let name = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    };
    let ended = sidecar.drain_signalled(name).await;
    for task in serving {
        task.abort();
        // Ended by us: it has nothing else to tell.
        let _ = task.await;
    }
    if let Some(open) = Arc::into_inner(open) {
        let _ = tokio::time::timeout(CLOSING, open.shutdown()).await;
    }
    Ok(ended)
}

/// A listener on the address; on all addresses of both families where none is given, or of IPv4 where the system has no IPv6.
fn listen(address: Option<IpAddr>, port: u16) -> Result<TcpListener> {
    let Some(address) = address else {
        return bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))
            .or_else(|_| bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)));
    };
    bind(SocketAddr::new(address, port))
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `localhost` may be either; one socket hears both.
        socket.set_only_v6(false)?;
    }
    // A new process may listen while connections of the former one are still closing.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}
