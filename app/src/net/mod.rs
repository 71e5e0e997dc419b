//! Names, sockets and TLS for everything that leaves this node: probes and channels share it.
//!
//! Every step obeys a deadline and names its fault; every phase is measured by the caller. There are no
//! pools: a probe wants a fresh connection, and messages are rare.

mod certificate;
pub mod tls;

/// What all outgoing connections share: the resolver and the TLS settings.
pub struct Net {}
