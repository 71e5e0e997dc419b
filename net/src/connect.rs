//! TCP connections: the addresses of a host in turn, within a deadline.

use super::fault::own_fault;
use super::{Fault, Guard, Net};
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use watchkeeper_core::{Blind, Reason};

/// At most so many addresses of a host are tried. More would leave each too little of the deadline; fewer could
/// miss the healthy ones of a host with several.
const ADDRESSES_MAX: usize = 8;

/// A connection and where it leads.
#[derive(Debug)]
pub struct Connected {
    /// The stream, with `TCP_NODELAY`.
    pub stream: TcpStream,
    /// Its far end.
    pub address: SocketAddr,
}

impl Net {
    /// Connects to the first address that answers. Every address gets an equal share of the time left, so that a
    /// silent first one does not hide a healthy second. When all fail, a fault of the target is preferred to one of
    /// our own: with an IPv4 address that refuses and no IPv6 route, the answer is "refused".
    pub async fn connect(&self, addresses: &[IpAddr], port: u16, guard: Guard, deadline: Instant) -> Result<Connected, Fault> {
        let mut first: Option<Fault> = None;
        let tried = &addresses[..addresses.len().min(ADDRESSES_MAX)];
        for (index, ip) in tried.iter().enumerate() {
            let address = SocketAddr::new(*ip, port);
            let until = share(deadline, tried.len() - index);
            match connect_one(address, [self.guard, guard], until).await {
                Ok(stream) => return Ok(Connected { stream, address }),
                Err(fault) if first.as_ref().is_none_or(|f| !f.is_down() && fault.is_down()) => first = Some(fault),
                Err(_) => {}
            }
        }
        Err(first.unwrap_or_else(|| Fault::unknown(Blind::Internal, "there is no address to connect to")))
    }
}

fn share(deadline: Instant, left: usize) -> Instant {
    if left <= 1 {
        return deadline;
    }
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / u32::try_from(left).unwrap_or(1)
}

async fn connect_one(address: SocketAddr, guards: [Guard; 2], deadline: Instant) -> Result<TcpStream, Fault> {
    for guard in guards {
        guard.check(address.ip())?;
    }
    let started = Instant::now();
    let error = match tokio::time::timeout_at(deadline.into(), TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            // Failing to set it costs time, not truth.
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
        Ok(Err(error)) => error,
        Err(_) => {
            let waited = started.elapsed();
            return Err(Fault::down(Reason::TcpTimeout, format!("connecting to {address}: no answer within {}", show(waited))));
        }
    };
    if matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) && !has_route(address) {
        return Err(Fault::unknown(Blind::NoRoute, format!("connecting to {address}: this node has no route to it")));
    }
    Err(Fault::io(&error, Reason::TcpClosed, format_args!("connecting to {address}")))
}

/// Whether the kernel knows a way to an address. Connecting a datagram socket asks its routing table and sends
/// nothing, which tells a missing route from a router that said "unreachable".
fn has_route(address: SocketAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    match UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)) {
        Ok(()) => true,
        Err(error) => !unroutable(&error),
    }
}

/// Whether an error of a datagram socket's `connect` says that there is no route.
pub(super) fn unroutable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) || own_fault(error) == Some(Blind::NoRoute)
}

/// A time for a message: `1.500 s`.
pub(super) fn show(d: Duration) -> String {
    format!("{:.3} s", d.as_secs_f64())
}
