//! Proxies before us that are trusted: whose word about a client's address counts, and, where one signs people in itself, whose word about who
//! that is.
//!
//! Only what comes over a connection from a listed address is believed. Such a proxy must set the header itself and throw away what
//! clients send under its name; one that passes it on lets everybody be anybody.

use axum::http::{HeaderMap, HeaderName};
use std::net::IpAddr;
use std::str::FromStr;

/// Proxies of a client that are looked at. No real chain is longer.
const HOPS_MAX: usize = 16;

/// Addresses that begin alike: `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u32,
}

impl FromStr for Network {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse().map_err(|_| ())?)),
            None => (text, None),
        };
        let base = base.parse::<IpAddr>().map_err(|_| ())?;
        let all = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Self { base, bits }).ok_or(())
    }
}

impl Network {
    /// Whether an address is among them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => u128::from(u32::from(base) ^ u32::from(address)) << 96,
            (IpAddr::V6(base), IpAddr::V6(address)) => u128::from(base) ^ u128::from(address),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        differ.leading_zeros() >= self.bits
    }
}

/// Who is trusted with what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Where trusted proxies are.
    pub proxies: Vec<Network>,
    /// The header in which they say who it is, if they do.
    pub user_header: Option<HeaderName>,
}

impl Trust {
    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }

    /// Where a request comes from: the nearest address that is no trusted proxy.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let values: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
        let mut hops = values.iter().rev().flat_map(|value| value.rsplit(',')).map(str::trim).take(HOPS_MAX);
        let mut address = peer.to_canonical();
        while self.trusts(address) {
            let Some(Ok(before)) = hops.next().map(IpAddr::from_str) else { break };
            address = before.to_canonical();
        }
        address
    }

    /// Whom a trusted proxy says it is.
    pub fn user<'h>(&self, peer: IpAddr, headers: &'h HeaderMap) -> Option<&'h str> {
        let name = headers.get(self.user_header.as_ref()?)?;
        let name = std::str::from_utf8(name.as_bytes()).ok()?.trim();
        (!name.is_empty() && self.trusts(peer)).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn trust() -> Trust {
        let networks = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"];
        Trust {
            proxies: networks.iter().map(|text| text.parse().unwrap()).collect(),
            user_header: Some(HeaderName::from_static("x-remote-user")),
        }
    }

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_alike() {
        let of = |text: &str| text.parse::<Network>().unwrap();
        assert!(of("10.0.0.0/8").contains(ip("10.255.0.1")) && of("10.0.0.0/8").contains(ip("::ffff:10.1.1.1")));
        assert!(!of("10.0.0.0/8").contains(ip("11.0.0.1")) && !of("0.0.0.0/0").contains(ip("::1")));
        assert!(of("0.0.0.0/0").contains(ip("203.0.113.9")) && of("::/0").contains(ip("2001:db8::1")));
        assert!(of("192.0.2.7").contains(ip("192.0.2.7")) && !of("192.0.2.7").contains(ip("192.0.2.6")));
        assert!(of("2001:db8::/33").contains(ip("2001:db8:7fff::1")) && !of("2001:db8::/33").contains(ip("2001:db8:8000::1")));
        for bad in ["", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "::1/129", "example.org"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_clients_address_is_what_the_last_trusted_proxy_saw() {
        let of = |peer: &str, values: &[&str]| trust().client(ip(peer), &headers("x-forwarded-for", values));
        assert_eq!(of("203.0.113.9", &["198.51.100.1"]), ip("203.0.113.9"), "a stranger's word counts for nothing");
        assert_eq!(of("10.0.0.1", &[]), ip("10.0.0.1"));
        assert_eq!(of("10.0.0.1", &["198.51.100.1"]), ip("198.51.100.1"));
        assert_eq!(
            of("10.0.0.1", &["1.2.3.4, 198.51.100.1, 192.0.2.7"]),
            ip("198.51.100.1"),
            "what the client itself said is further left"
        );
        assert_eq!(of("10.0.0.1", &["1.2.3.4", "198.51.100.1", "10.0.0.2"]), ip("198.51.100.1"));
        assert_eq!(of("10.0.0.1", &["unknown"]), ip("10.0.0.1"));
        assert_eq!(of("10.0.0.1", &[&["10.0.0.3"; 100].join(",")]), ip("10.0.0.3"), "no chain goes on for ever");
    }

    #[test]
    fn only_a_trusted_proxy_says_who_it_is() {
        let of = |peer: &str, value: &str| trust().user(ip(peer), &headers("x-remote-user", &[value])).map(str::to_owned);
        assert_eq!(of("10.0.0.1", " ann ").as_deref(), Some("ann"));
        assert_eq!(of("203.0.113.9", "ann"), None);
        assert_eq!(of("10.0.0.1", " "), None);
        assert_eq!(Trust { user_header: None, ..trust() }.user(ip("10.0.0.1"), &headers("x-remote-user", &["ann"])), None);
    }
}
