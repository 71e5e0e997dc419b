//! Names, sockets and TLS for everything that leaves this node: probes and channels share it.
//!
//! Every step obeys a deadline and returns a [`Fault`] that names what happened; every phase is measured
//! by the caller. There are no pools and no caches: a probe wants a fresh connection, and messages are
//! rare. Nothing here decides health, retries a request, or follows a redirect.
//!
//! A crate of its own because it is most of what a check costs: it is compiled for speed, and what is around it for size.

mod ask;
pub mod clock;
mod connect;
mod exchange;
mod fault;
mod guard;
mod names;
mod path;
mod request;
pub mod starttls;
pub mod tls;

pub use connect::Connected;
pub use exchange::{Exchange, Limits, Protocol, exchange};
pub use fault::Fault;
pub use guard::Guard;
pub use names::Names;
pub use path::{Avoid, By, Found, Path};
pub use request::{Request, Response, host_and_port, host_header, origin_form};

use clock::Clock;
use std::net::SocketAddr;
use std::sync::Arc;

/// Which addresses a name may be resolved to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4 first, then IPv6.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// What all outgoing connections share.
#[derive(Clone)]
pub struct Net {
    names: Arc<Names>,
    /// Makes and shares the settings of TLS connections.
    pub tls: Arc<tls::Tls>,
    /// Holds for every connection, beside what its caller asks for.
    guard: Guard,
}

impl Net {
    /// Asks the name servers of `/etc/resolv.conf`; certificates are judged at the time of `clock`.
    pub fn system(clock: Clock) -> Self {
        Self::of(Names::system(), clock)
    }

    /// Asks only these name servers, without search list and without `/etc/hosts`.
    pub fn with_name_servers(clock: Clock, servers: Vec<SocketAddr>) -> Self {
        Self::of(Names::of_servers(servers), clock)
    }

    fn of(names: Names, clock: Clock) -> Self {
        Self { names: Arc::new(names), tls: Arc::new(tls::Tls::new(clock)), guard: Guard::Open }
    }

    /// The same way out for somebody who may not reach everything.
    #[must_use]
    pub fn under(&self, guard: Guard) -> Self {
        Self { guard, ..self.clone() }
    }

    /// The name servers of this node, best first; empty if it has none.
    pub fn name_servers(&self) -> &[SocketAddr] {
        self.names.servers()
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        text
    })
}
