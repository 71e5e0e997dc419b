//! Ways to a target: the first, which is the usual one, and a second one that avoids what the first failed at.
//!
//! A second path is another address of the same host, of the other family if there is one, or another name server. Where the
//! configuration leaves only one way (an address instead of a name, `resolve:`, one name server) there is none, and that
//! is said with a fault of our own, before anything is sent.

use super::{Family, Fault, Net};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use watchkeeper_core::Blind;

/// Which way an attempt takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Path {
    /// The usual one.
    #[default]
    First,
    /// One that avoids something.
    Second(Avoid),
}

/// What a second path avoids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Avoid {
    /// The address that the first path failed at; of a name server also its port.
    Address(IpAddr, Option<u16>),
    /// The name server that is asked first.
    NameServer,
}

/// The addresses of a host, and who named them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// In the order in which they should be tried; never empty.
    pub addresses: Vec<IpAddr>,
    /// Where they are from.
    pub by: By,
}

/// Who named the addresses of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Nobody: the host was given as an address.
    Itself,
    /// This node: `localhost`, `/etc/hosts`.
    Node,
    /// A name server.
    Server(SocketAddr),
}

impl Path {
    /// A fault of our own if this, the only address there is, is the one to avoid.
    pub fn only(self, address: IpAddr) -> Result<(), Fault> {
        match self {
            Self::Second(Avoid::Address(avoided, _)) if avoided == address => Err(no_second(&format!("{address} is the only address"))),
            Self::First | Self::Second(Avoid::Address(..) | Avoid::NameServer) => Ok(()),
        }
    }
}

impl Net {
    /// The addresses of a host name on this path. An address literal (IPv6 without brackets) stands for itself.
    pub async fn resolve(&self, host: &str, family: Family, path: Path, deadline: Instant) -> Result<Found, Fault> {
        match path {
            Path::First => self.names.resolve(host, family, self.names.servers(), deadline).await,
            Path::Second(Avoid::NameServer) => match self.names.servers() {
                [] | [_] => Err(no_second("there is no other name server")),
                [_, others @ ..] => self.names.resolve(host, family, others, deadline).await,
            },
            Path::Second(Avoid::Address(avoided, _)) => {
                let mut found = self.names.resolve(host, family, self.names.servers(), deadline).await?;
                if let Some(at) = found.addresses.iter().position(|ip| *ip == avoided) {
                    found.addresses.remove(at);
                    found.addresses.sort_by_key(|ip| ip.is_ipv4() == avoided.is_ipv4());
                }
                if found.addresses.is_empty() { Err(no_second(&format!("{host} has no other address"))) } else { Ok(found) }
            }
        }
    }

    /// The name server to ask on this path.
    pub fn name_server(&self, path: Path) -> Result<SocketAddr, Fault> {
        let servers = self.names.servers();
        let none = || Fault::unknown(Blind::NoResolver, "this node has no name server in /etc/resolv.conf, and the monitor names none");
        let avoided = match path {
            Path::First => return servers.first().copied().ok_or_else(none),
            Path::Second(Avoid::NameServer) => servers.first().map(|s| (s.ip(), Some(s.port()))),
            Path::Second(Avoid::Address(ip, port)) => Some((ip, port)),
        };
        let other = servers.iter().find(|s| avoided.is_none_or(|(ip, port)| s.ip() != ip || port.is_some_and(|port| s.port() != port)));
        other.copied().ok_or_else(|| no_second("there is no other name server"))
    }
}

fn no_second(why: &str) -> Fault {
    Fault::unknown(Blind::Internal, format!("there is no second path: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn net(servers: &[&str]) -> Net {
        Net::with_name_servers(Clock::system(), servers.iter().map(|s| s.parse().unwrap()).collect())
    }

    fn at(address: &str, port: Option<u16>) -> Path {
        Path::Second(Avoid::Address(address.parse().unwrap(), port))
    }

    #[tokio::test]
    async fn a_second_path_is_another_address_of_the_other_family_first() {
        let net = net(&[]);
        let soon = Instant::now() + std::time::Duration::from_secs(10);
        let found = net.resolve("localhost", Family::Any, at("127.0.0.1", Some(80)), soon).await.unwrap();
        assert_eq!((found.addresses, found.by), (vec!["::1".parse().unwrap()], By::Node));
        let found = net.resolve("localhost", Family::Any, at("192.0.2.1", None), soon).await.unwrap();
        assert_eq!(found.addresses.len(), 2, "another host's address is nothing to avoid");
        for (host, family) in [("127.0.0.1", Family::Any), ("localhost", Family::V4)] {
            let fault = net.resolve(host, family, at("127.0.0.1", None), soon).await.unwrap_err();
            assert!(fault.text.contains("no second path") && !fault.is_down(), "{fault:?}");
        }
        assert!(net.resolve("localhost", Family::Any, Path::Second(Avoid::NameServer), soon).await.is_err());
    }

    #[test]
    fn another_name_server_is_one_with_another_address_or_port() {
        let two = net(&["127.0.0.1:53", "127.0.0.1:54"]);
        let port = |path| two.name_server(path).map(|s| s.port()).ok();
        assert_eq!(port(Path::First), Some(53));
        assert_eq!(port(at("127.0.0.1", Some(53))), Some(54));
        assert_eq!(port(Path::Second(Avoid::NameServer)), Some(54));
        assert_eq!(port(at("127.0.0.1", None)), None);
        assert!(net(&["127.0.0.1:53"]).name_server(Path::Second(Avoid::NameServer)).is_err());
        assert!(net(&[]).name_server(Path::First).is_err());
    }
}
