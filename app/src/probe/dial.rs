//! What the probes below HTTP share: where to connect, phases that add up, and the way to a TCP stream.

use super::{Attempt, Hop, ProbeContext, Resolved};
use crate::config::decode::{Fields, Key, Node, Problems, one_of, parsed};
use crate::net::{Family, Fault};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;
use tokio::net::TcpStream;
use watchkeeper_core::Outcome;

/// `ip_version:`, the same wherever a name is resolved.
pub const IP_VERSION: Key =
    Key { name: "ip_version", form: "any, 4 or 6", default: "any", doc: "Which addresses may be used; any tries IPv4 before IPv6." };

/// Reads `ip_version:`.
pub fn ip_version(fields: &Fields<'_>, problems: &mut Problems) -> Option<Family> {
    const WORDS: &[(&str, Family)] = &[("any", Family::Any), ("4", Family::V4), ("6", Family::V6)];
    fields.get(IP_VERSION.name).map_or(Some(Family::Any), |n| one_of(n, WORDS, problems))
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, or an address without brackets.
    pub host: String,
    /// From 1.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port` or `[address]:port`; where there is a default port, also a host or an address alone.
    pub fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        if let (Ok(address), Some(port)) = (text.parse::<IpAddr>(), default_port) {
            return Some(Self { host: address.to_string(), port });
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => {
                address.parse::<Ipv6Addr>().ok()?;
                (address, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().filter(|p| *p != 0)?,
            Some(_) => return None,
            None => default_port?,
        };
        is_host(host).then(|| Self { host: host.to_owned(), port })
    }

    /// Reads `host:port` from the configuration.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        parsed(node, "host:port, such as db.example.org:5432 or [::1]:5432", problems, |t| Self::parse(t, None))
    }
}

/// Whether a text could be a host: what it is not is part of a URL.
pub fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "/@?#\\".contains(c))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// Cuts the time of an attempt into phases without gaps, so that they add up to the whole.
#[derive(Debug)]
pub struct Laps(Instant);

impl Laps {
    /// The first phase begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Ends a phase and begins the next: the µs of the one that ended.
    pub fn lap(&mut self) -> u64 {
        self.lap_at(Instant::now())
    }

    /// The same for a phase that ended at a known instant.
    pub fn lap_at(&mut self, end: Instant) -> u64 {
        let passed = end.saturating_duration_since(self.0);
        self.0 = self.0.max(end);
        u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
    }
}

/// Resolves and connects; notes both phases and the address.
pub async fn dial(cx: &ProbeContext, endpoint: &Endpoint, family: Family, hop: &mut Hop, laps: &mut Laps) -> Result<TcpStream, Fault> {
    let found = cx.net.resolve(&endpoint.host, family, cx.path, cx.deadline).await;
    hop.dns_us = laps.lap();
    let found = found?;
    hop.resolved = Resolved::of(&found);
    let addresses = found.addresses;
    hop.address = addresses.first().map(|ip| std::net::SocketAddr::new(*ip, endpoint.port).to_string());
    let connected = cx.net.connect(&addresses, endpoint.port, cx.guard, cx.deadline).await;
    hop.connect_us += laps.lap();
    let connected = connected?;
    hop.address = Some(connected.address.to_string());
    Ok(connected.stream)
}

/// An attempt of one hop, ended by `fault` if there is one.
pub fn ended(hop: Hop, fault: Option<Fault>) -> Attempt {
    let (outcome, error) = fault.map_or((Outcome::Up, None), |f| (f.outcome, Some(f.text)));
    let total_us = hop.sum_us();
    Attempt { hops: vec![hop], total_us, ..Attempt::ended(outcome, error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_shown_alike() {
        for text in ["db.example.org:5432", "127.0.0.1:1", "[::1]:53", "a_b:65535"] {
            assert_eq!(Endpoint::parse(text, None).map(|e| e.to_string()).as_deref(), Some(text));
        }
        for text in
            ["", ":1", "host", "host:", "host:0", "host:65536", "host:+1", "[::1]", "::1", "http://a:1", "a b:1", "[a]:1", "[::1]x:1"]
        {
            assert_eq!(Endpoint::parse(text, None), None, "{text}");
        }
    }

    #[test]
    fn a_default_port_fills_in() {
        for (text, shown) in
            [("ns1", "ns1:53"), ("::1", "[::1]:53"), ("[::1]", "[::1]:53"), ("10.0.0.1", "10.0.0.1:53"), ("ns1:5353", "ns1:5353")]
        {
            assert_eq!(Endpoint::parse(text, Some(53)).map(|e| e.to_string()).as_deref(), Some(shown));
        }
    }
}
