//! ICMP echo on the wire (RFC 792, RFC 4443): the socket, the request, and what counts as its reply.
//!
//! Every attempt has a socket of its own, connected to its target: then the kernel sorts the replies, and reports
//! "unreachable" as an error of that socket, which a socket shared by all attempts cannot tell apart.

use crate::net::Fault;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use tokio::net::UdpSocket;
use watchkeeper_core::{Blind, Reason};

/// Type, code, checksum, identifier, sequence.
const HEADER: usize = 8;
/// In front of the payload: tells our replies from those to somebody else's request with the same numbers.
pub const NONCE: usize = 8;

/// Which socket the node may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// `SOCK_DGRAM`: no privilege, but the group must be within `net.ipv4.ping_group_range`. The kernel sets identifier and checksum.
    Datagram,
    /// `SOCK_RAW`: needs `CAP_NET_RAW`. Everything is ours, and over IPv4 the IP header comes along.
    Raw,
}

impl SocketKind {
    /// As in the facts of an attempt.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Datagram => "datagram",
            Self::Raw => "raw",
        }
    }
}

/// A connected socket and what is needed to know its replies.
pub struct Echo {
    socket: UdpSocket,
    /// What kind it is.
    pub kind: SocketKind,
    v6: bool,
    id: u16,
    nonce: [u8; NONCE],
}

impl Echo {
    /// Opens a socket to this address: the unprivileged kind if the system allows it, else the raw one.
    pub fn open(address: IpAddr) -> Result<Self, Fault> {
        let (domain, protocol) = if address.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let (socket, kind) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Ok(socket) => (socket, SocketKind::Datagram),
            Err(first) => match Socket::new(domain, Type::RAW, Some(protocol)) {
                Ok(socket) => (socket, SocketKind::Raw),
                Err(second) => return Err(not_opened(&first, &second)),
            },
        };
        let connected = socket.set_nonblocking(true).and_then(|()| socket.connect(&SocketAddr::new(address, 0).into()));
        connected.map_err(|error| {
            if matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) {
                return Fault::unknown(Blind::NoRoute, format!("this node has no route to {address}"));
            }
            Fault::io(&error, Reason::IcmpUnreachable, format_args!("preparing echo requests to {address}"))
        })?;
        let socket = UdpSocket::from_std(socket.into()).map_err(|e| Fault::unknown(Blind::NoResource, format!("no socket: {e}")))?;
        let mut random = [0; 2 + NONCE];
        getrandom::fill(&mut random).map_err(|e| Fault::unknown(Blind::Internal, format!("no randomness for an echo request: {e}")))?;
        let [a, b, nonce @ ..] = random;
        Ok(Self { socket, kind, v6: address.is_ipv6(), id: u16::from_be_bytes([a, b]), nonce })
    }

    /// Sends the request with this sequence number and a payload of `size` bytes, but never less than [`NONCE`].
    pub async fn send(&self, sequence: u16, size: usize) -> std::io::Result<()> {
        let packet = request(self.v6, self.id, sequence, self.nonce, size);
        self.socket.send(&packet).await.map(drop)
    }

    /// Waits for the next reply to one of our requests: its sequence number.
    pub async fn receive(&self, buffer: &mut [u8]) -> std::io::Result<u16> {
        loop {
            let length = self.socket.recv(buffer).await?;
            if let Some(sequence) = self.sequence_of(&buffer[..length]) {
                return Ok(sequence);
            }
        }
    }

    fn sequence_of(&self, bytes: &[u8]) -> Option<u16> {
        let with_ip_header = self.kind == SocketKind::Raw && !self.v6;
        let icmp = if with_ip_header { without_ip_header(bytes)? } else { bytes };
        // A datagram socket has an identifier of the kernel's choice.
        let id = (self.kind == SocketKind::Raw).then_some(self.id);
        reply(self.v6, icmp, id, self.nonce)
    }
}

fn not_opened(datagram: &Error, raw: &Error) -> Fault {
    let denied = |e: &Error| matches!(e.kind(), ErrorKind::PermissionDenied);
    if denied(datagram) || denied(raw) {
        let text = "this node may open no ICMP socket: its group is outside net.ipv4.ping_group_range, and it has no CAP_NET_RAW";
        return Fault::unknown(Blind::Permission, text);
    }
    // Without IPv6 in the kernel there is no way to an IPv6 address.
    Fault::io(raw, Reason::IcmpUnreachable, "opening an ICMP socket")
}

fn request(v6: bool, id: u16, sequence: u16, nonce: [u8; NONCE], size: usize) -> Vec<u8> {
    let kind: u8 = if v6 { 128 } else { 8 };
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&nonce);
    packet.resize(HEADER + size.max(NONCE), 0x57);
    if !v6 {
        // ICMPv6's covers the addresses too; the kernel computes it.
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn without_ip_header(bytes: &[u8]) -> Option<&[u8]> {
    let first = *bytes.first()?;
    (first >> 4 == 4).then(|| bytes.get(usize::from(first & 0x0f) * 4..)).flatten()
}

fn reply(v6: bool, icmp: &[u8], id: Option<u16>, nonce: [u8; NONCE]) -> Option<u16> {
    let (header, payload) = icmp.split_first_chunk::<HEADER>()?;
    let [kind, code, _, _, id_high, id_low, sequence_high, sequence_low] = *header;
    let expected = if v6 { 129 } else { 0 };
    let ours =
        kind == expected && code == 0 && id.is_none_or(|id| id == u16::from_be_bytes([id_high, id_low])) && payload.starts_with(&nonce);
    ours.then(|| u16::from_be_bytes([sequence_high, sequence_low]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE_A: [u8; NONCE] = *b"nonce--A";

    #[test]
    fn the_checksum_over_a_whole_request_is_zero() {
        for size in [8, 9, 56] {
            assert_eq!(checksum(&request(false, 0x1234, 7, NONCE_A, size)), 0);
        }
    }

    #[test]
    fn only_the_reply_to_our_request_counts() {
        let mut packet = request(false, 0x1234, 7, NONCE_A, 56);
        assert_eq!(reply(false, &packet, Some(0x1234), NONCE_A), None, "a request is no reply");
        packet[0] = 0;
        assert_eq!(reply(false, &packet, Some(0x1234), NONCE_A), Some(7));
        assert_eq!(reply(false, &packet, None, NONCE_A), Some(7));
        assert_eq!(reply(false, &packet, Some(0x1235), NONCE_A), None);
        assert_eq!(reply(false, &packet, Some(0x1234), *b"nonce--B"), None);
        assert_eq!(reply(true, &packet, Some(0x1234), NONCE_A), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), v6: bool) {
            let icmp = without_ip_header(&bytes).unwrap_or(&bytes);
            let _ = reply(v6, icmp, Some(1), NONCE_A);
        }
    }
}
