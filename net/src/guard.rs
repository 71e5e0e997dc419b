//! Which addresses a monitor may reach.
//!
//! A URL that a tenant typed into the page must not lead into the node's own network: the metadata service
//! of a cloud hands out credentials to whoever asks from the right machine. The guard looks at the address
//! that is about to be connected to, after resolution and on every redirect, so that no name can hide one.
//! Monitors of a configuration file are their operator's word and are not guarded.

use super::Fault;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use watchkeeper_core::Blind;

/// What is let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Guard {
    /// Everything: for what the operator of this node wrote.
    #[default]
    Open,
    /// Everything but link-local and metadata addresses.
    NoLinkLocal,
    /// Only public addresses: also no private, shared and loopback ones.
    PublicOnly,
}

impl Guard {
    /// A fault of our own if this address may not be reached.
    pub fn check(self, address: IpAddr) -> Result<(), Fault> {
        if self.allows(address) {
            return Ok(());
        }
        Err(Fault::unknown(Blind::ForbiddenAddress, format!("{address} may not be reached by a probe")))
    }

    /// Whether this address may be connected to.
    pub fn allows(self, address: IpAddr) -> bool {
        // An IPv4 address in IPv6's clothes is judged as what it is.
        let address = address.to_canonical();
        match self {
            Self::Open => true,
            Self::NoLinkLocal => !link_local(address),
            Self::PublicOnly => !link_local(address) && !private(address),
        }
    }
}

/// RFC 3927, RFC 4291 section 2.5.6, and the metadata services of clouds outside of them.
fn link_local(address: IpAddr) -> bool {
    /// AWS over IPv6, and Alibaba Cloud.
    const METADATA: [IpAddr; 2] =
        [IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200))];
    METADATA.contains(&address)
        || match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.is_multicast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast() || embedded(v6).is_some_and(|v4| v4.is_link_local()),
        }
}

/// Whatever is not globally reachable by the registries of special addresses (RFC 6890). Of IPv4 that is a list; of IPv6, where most of the
/// space is nobody's, a list of what is reachable is the shorter and the safer one.
fn private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => private_v4(v4),
        IpAddr::V6(v6) => embedded(v6).map_or_else(|| !public_v6(v6), private_v4),
    }
}

/// RFC 1918, RFC 6598, RFC 2544, loopback, "this host", IETF protocol assignments, and the relays of 6to4 (RFC 7526).
fn private_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let special =
        matches!((a, b, c), (192, 0, 0) | (192, 88, 99)) || (a == 100 && (64..128).contains(&b)) || (a == 198 && (18..20).contains(&b));
    v4.is_private() || v4.is_loopback() || a == 0 || special || a >= 240
}

/// Global unicast (RFC 4291 section 2.4, RFC 3587) without what in it was set aside: Teredo and other protocols, documentation.
fn public_v6(v6: Ipv6Addr) -> bool {
    match v6.segments() {
        [0x2001, 0..0x200 | 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// The IPv4 address that a translating gateway makes of an IPv6 one: NAT64 (RFC 6052), 6to4 (RFC 3056), SIIT (RFC 2765), and the
/// "IPv4-compatible" form of old (RFC 4291 section 2.5.5.1).
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] | [0, 0, 0, 0, 0xffff | 0, 0, high, low] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(guard: Guard, address: &str) -> bool {
        guard.allows(address.parse().unwrap())
    }

    #[test]
    fn metadata_is_never_reached_by_what_a_tenant_typed() {
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::ffff:0:169.254.169.254",
            "::169.254.169.254",
        ] {
            assert!(allowed(Guard::Open, address), "{address}");
            assert!(!allowed(Guard::NoLinkLocal, address), "{address}");
            assert!(!allowed(Guard::PublicOnly, address), "{address}");
        }
    }

    #[test]
    fn private_addresses_are_refused_only_when_so_configured() {
        let of_v4 =
            ["10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "100.64.0.1", "192.0.0.192", "192.88.99.1", "0.0.0.0", "198.18.0.1"];
        let of_v6 =
            ["::1", "::", "fd12::1", "::ffff:10.0.0.1", "fec0::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "2001:0:7f00:1::", "100::1"];
        let set_aside = ["2001:db8::1", "3fff::1", "5f00::1", "64:ff9b::10.0.0.1", "64:ff9b:1::1"];
        for address in [&of_v4[..], &of_v6, &set_aside].concat() {
            assert!(allowed(Guard::NoLinkLocal, address), "{address}");
            assert!(!allowed(Guard::PublicOnly, address), "{address}");
        }
        for address in
            ["1.1.1.1", "2606:4700::1111", "100.128.0.1", "172.32.0.1", "192.0.1.1", "2001:4860::8888", "64:ff9b::1.1.1.1", "2a00::1"]
        {
            assert!(allowed(Guard::PublicOnly, address), "{address}");
        }
    }
}
