//! What went wrong in one step towards a target, and the one place that sorts errors of the system.
//!
//! Errors are told apart by their kind or number, never by their text. What is the fault of this node is
//! `Unknown`; everything else is the target's.

use std::fmt;
use std::io::{Error, ErrorKind};
use watchkeeper_core::{Blind, Outcome, Reason};

/// Why a step failed. `text` names the place and the values for a person, and never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `Down` or `Unknown`, never `Up`.
    pub outcome: Outcome,
    /// For a person, without a full stop.
    pub text: String,
}

impl Fault {
    /// The target is at fault.
    pub fn down(reason: Reason, text: impl Into<String>) -> Self {
        Self { outcome: Outcome::Down(reason), text: text.into() }
    }

    /// We could not look.
    pub fn unknown(blind: Blind, text: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unknown(blind), text: text.into() }
    }

    /// An error of a socket, seen while doing `what`. `closed` is the reason when the peer ended the connection in
    /// an orderly way but too early.
    pub fn io(error: &Error, closed: Reason, what: impl fmt::Display) -> Self {
        let outcome = match own_fault(error) {
            Some(blind) => Outcome::Unknown(blind),
            None => Outcome::Down(peer_fault(error.kind(), closed)),
        };
        Self { outcome, text: format!("{what}: {error}") }
    }

    /// Whether the target is at fault.
    pub const fn is_down(&self) -> bool {
        matches!(self.outcome, Outcome::Down(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

/// Why an error is this node's own, if it is. `ENETUNREACH` is not among them: only [`super::Net::connect`] can
/// tell a missing route from a router's answer.
pub(super) fn own_fault(error: &Error) -> Option<Blind> {
    let number = error.raw_os_error().unwrap_or(0);
    match number {
        libc::EACCES | libc::EPERM => Some(Blind::Permission),
        libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::ENOMEM | libc::ENOBUFS | libc::EAGAIN => {
            Some(Blind::NoResource)
        }
        libc::ENETDOWN => Some(Blind::NoNetwork),
        libc::EAFNOSUPPORT => Some(Blind::NoRoute),
        libc::EINVAL | libc::EBADF => Some(Blind::Internal),
        _ if error.kind() == ErrorKind::OutOfMemory => Some(Blind::NoResource),
        _ => None,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the list of kinds is open")]
fn peer_fault(kind: ErrorKind, closed: Reason) -> Reason {
    match kind {
        ErrorKind::ConnectionRefused => Reason::TcpRefused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Reason::TcpReset,
        ErrorKind::TimedOut => Reason::TcpTimeout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Reason::TcpUnreachable,
        // BrokenPipe, UnexpectedEof, NotConnected: the peer is gone.
        _ => closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_unknown_and_what_is_theirs_is_down() {
        let of = |number| Fault::io(&Error::from_raw_os_error(number), Reason::TcpClosed, "test").outcome;
        assert_eq!(of(libc::EMFILE), Outcome::Unknown(Blind::NoResource));
        assert_eq!(of(libc::EADDRNOTAVAIL), Outcome::Unknown(Blind::NoResource));
        assert_eq!(of(libc::ENOBUFS), Outcome::Unknown(Blind::NoResource));
        assert_eq!(of(libc::EPERM), Outcome::Unknown(Blind::Permission));
        assert_eq!(of(libc::ENETDOWN), Outcome::Unknown(Blind::NoNetwork));
        assert_eq!(of(libc::ECONNREFUSED), Outcome::Down(Reason::TcpRefused));
        assert_eq!(of(libc::ECONNRESET), Outcome::Down(Reason::TcpReset));
        assert_eq!(of(libc::ETIMEDOUT), Outcome::Down(Reason::TcpTimeout));
        assert_eq!(of(libc::EHOSTUNREACH), Outcome::Down(Reason::TcpUnreachable));
        assert_eq!(of(libc::EPIPE), Outcome::Down(Reason::TcpClosed));
    }
}
