//! Host names to addresses: a stub resolver (RFC 1034 section 5.3.1) without a cache.
//!
//! Why not a ready-made one: those share answers between callers, by a cache or by joining a question that
//! is already under way, and then the DNS phase of an attempt measures somebody else's wait. Here every
//! attempt asks, over sockets of its own, and every failure keeps its name: NXDOMAIN, SERVFAIL, REFUSED, no
//! records, no answer. The messages are hickory's.
//!
//! Order as in the C library: address literal, `localhost` (RFC 6761), `/etc/hosts`, then the name servers with the
//! search list of `/etc/resolv.conf`. Both files are read when the node starts.

use super::ask::Round;
use super::{By, Family, Fault, Found};
use hickory_resolver::Hosts;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use smallvec::SmallVec;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;
use watchkeeper_core::{Blind, Outcome, Reason};

/// As in resolv.conf(5): later servers are not asked.
pub(super) const SERVERS_MAX: usize = 3;

/// The name servers of this node and the names that need none.
pub struct Names {
    servers: Vec<SocketAddr>,
    search: Vec<Name>,
    ndots: usize,
    hosts: Hosts,
}

impl Names {
    /// As configured in `/etc/resolv.conf` and `/etc/hosts`; a file that cannot be read is empty.
    pub fn system() -> Self {
        /// RFC 1035 section 4.2.
        const PORT: u16 = 53;
        let hosts = Hosts::from_system().unwrap_or_default();
        let Ok((config, options)) = hickory_resolver::system_conf::read_system_conf() else {
            return Self { servers: Vec::new(), search: Vec::new(), ndots: 1, hosts };
        };
        let servers = config.name_servers().iter().map(|s| SocketAddr::new(s.ip, PORT)).take(SERVERS_MAX).collect();
        Self { servers, search: config.search().to_vec(), ndots: options.ndots, hosts }
    }

    /// Only these servers; no search list, no hosts.
    pub fn of_servers(servers: Vec<SocketAddr>) -> Self {
        Self { servers, search: Vec::new(), ndots: 1, hosts: Hosts::default() }
    }

    /// See [`super::Net::name_servers`].
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// See [`super::Net::resolve`]; asks only these of the servers.
    pub async fn resolve(&self, host: &str, family: Family, servers: &[SocketAddr], deadline: Instant) -> Result<Found, Fault> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return if fits(ip, family) {
                Ok(Found { addresses: vec![ip], by: By::Itself })
            } else {
                Err(Fault::down(Reason::DnsNoAnswer, format!("{host} is not an address of the asked family")))
            };
        }
        let Ok(name) = Name::from_utf8(host) else {
            return Err(Fault::down(Reason::DnsNxdomain, format!("{host} is not a possible host name")));
        };
        if name.is_localhost() {
            let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(Found { addresses: both.into_iter().filter(|ip| fits(*ip, family)).collect(), by: By::Node });
        }
        let local = self.look_in_hosts(&name, family);
        if !local.is_empty() {
            return Ok(Found { addresses: local, by: By::Node });
        }
        if servers.is_empty() {
            return Err(Fault::unknown(Blind::NoResolver, format!("resolving {host}: no name server is configured")));
        }
        // Boxed: most attempts of a node with many monitors by address never come here, and would carry its size.
        Box::pin(self.ask_all(host, name, family, servers, deadline)).await
    }

    fn look_in_hosts(&self, name: &Name, family: Family) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for kind in kinds(family) {
            if let Some(lookup) = self.hosts.lookup_static_host(&Query::query(name.clone(), *kind)) {
                found.extend(lookup.answers().iter().filter_map(|r| r.data.ip_addr()));
            }
        }
        found
    }

    /// Asks for the name with every suffix in turn. As in the C library a name that does not exist leads on to the
    /// next suffix; the fault that is told is that of a failing server, if any, else the mildest one.
    async fn ask_all(&self, host: &str, name: Name, family: Family, servers: &[SocketAddr], deadline: Instant) -> Result<Found, Fault> {
        let mut told: Option<Fault> = None;
        for candidate in self.candidates(&name) {
            let answered = match Round::new(host, &candidate, kinds(family), servers) {
                Ok(mut round) => round.run(deadline).await,
                Err(fault) => Err(fault),
            };
            match answered {
                Ok(found) => return Ok(found),
                Err(fault) => {
                    let ends = !matches!(
                        fault.outcome,
                        Outcome::Down(Reason::DnsNxdomain | Reason::DnsNoAnswer | Reason::DnsServfail | Reason::DnsRefused)
                    );
                    if told.as_ref().is_none_or(|t| rank(&fault) > rank(t)) {
                        told = Some(fault);
                    }
                    if ends {
                        break;
                    }
                }
            }
        }
        Err(told.unwrap_or_else(|| Fault::unknown(Blind::Internal, format!("resolving {host}: nothing to ask for"))))
    }

    fn candidates(&self, name: &Name) -> SmallVec<[Name; 4]> {
        let mut all = SmallVec::new();
        let absolute = name.is_fqdn();
        let mut whole = name.clone();
        whole.set_fqdn(true);
        // The root label is not counted, so `a.b` has two labels and one dot.
        let whole_first = absolute || usize::from(name.num_labels()) > self.ndots;
        if whole_first {
            all.push(whole.clone());
        }
        if !absolute {
            all.extend(self.search.iter().filter_map(|suffix| name.clone().append_domain(suffix).ok()));
        }
        if !whole_first {
            all.push(whole);
        }
        all
    }
}

fn fits(ip: IpAddr, family: Family) -> bool {
    match family {
        Family::Any => true,
        Family::V4 => ip.is_ipv4(),
        Family::V6 => ip.is_ipv6(),
    }
}

const fn kinds(family: Family) -> &'static [RecordType] {
    match family {
        Family::Any => &[RecordType::A, RecordType::AAAA],
        Family::V4 => &[RecordType::A],
        Family::V6 => &[RecordType::AAAA],
    }
}

/// Which of several faults says most: a failing server before a name without records before no name.
fn rank(fault: &Fault) -> u8 {
    match fault.outcome {
        Outcome::Down(Reason::DnsNxdomain) => 0,
        Outcome::Down(Reason::DnsNoAnswer) => 1,
        Outcome::Up | Outcome::Unknown(_) | Outcome::Down(_) => 2,
    }
}
