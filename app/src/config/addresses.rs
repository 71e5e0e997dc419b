//! Where a document leads: which of its fields name what is connected to, as each kind says itself (`Kind::address`).
//!
//! Two rules need that. A secret that is stored was given for one address: whoever changes the address has to give the secret again, or
//! `***` would send it to a server of his choice. And an address that a document may not reach is refused when it is written, if it can be
//! told then: one that is written as an address. What a name leads to is only known at the connection, and is judged there.

use super::documents::{Body, DocumentKind, Fault, path_of};
use crate::channel::MASK;
use crate::net::Guard;
use serde_json::Value as Json;
use std::net::{IpAddr, SocketAddr};

/// The part of a document that connects.
struct Leading<'b> {
    /// Where it stands, as a JSON pointer.
    at: String,
    /// Its kind's fields that name an address.
    fields: &'static [&'static str],
    /// It.
    of: &'b Body,
}

impl<'b> Leading<'b> {
    fn of(kind: DocumentKind, body: &'b Body) -> Option<Self> {
        fn found<'b, T>(at: &str, kinds: &'static [super::tagged::Kind<T>], of: &'b Body) -> Option<Leading<'b>> {
            kinds.iter().find_map(|kind| {
                let inner = of.get(kind.name)?.as_object()?;
                Some(Leading { at: format!("{at}/{}", kind.name), fields: kind.address, of: inner })
            })
        }
        match kind {
            DocumentKind::Monitor => found("/probe", crate::probe::FAMILY.kinds, body.get("probe")?.as_object()?),
            DocumentKind::Channel => found("", crate::channel::FAMILY.kinds, body),
            DocumentKind::Maintenance | DocumentKind::StatusPage => None,
        }
    }

    fn reached(&self, field: &str) -> Option<Json> {
        self.of.get(field).and_then(reached)
    }
}

/// What a value means as an address: scheme, host and port of a URL; of anything else itself. Nothing given is nothing.
fn reached(value: &Json) -> Option<Json> {
    match value {
        Json::Null | Json::Bool(false) => None,
        Json::String(text) => {
            let text = text.trim();
            let origin = url::Url::parse(text).ok().filter(url::Url::has_host).map(|url| {
                format!("{}://{}:{}", url.scheme(), url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
            });
            Some(Json::from(origin.unwrap_or_else(|| text.to_ascii_lowercase())))
        }
        other @ (Json::Bool(true) | Json::Number(_) | Json::Array(_) | Json::Object(_)) => Some(other.clone()),
    }
}

/// Secrets that would go on from `stored` to another address, because whoever sent this did not give them; by `secrets`, which are the places
/// of all secrets in what would be.
pub fn kept_for_another(
    kind: DocumentKind,
    stored: &Body,
    whole: &Body,
    secrets: &[(String, Json)],
    is_given: impl Fn(&str, &Json) -> bool,
) -> Vec<Fault> {
    let (Some(before), Some(after)) = (Leading::of(kind, stored), Leading::of(kind, whole)) else { return Vec::new() };
    if before.at != after.at {
        return Vec::new();
    }
    let moved: Vec<String> = after
        .fields
        .iter()
        .filter(|field| before.reached(field) != after.reached(field))
        .map(|field| format!("`{}`", path_of(&format!("{}/{field}", after.at))))
        .collect();
    if moved.is_empty() {
        return Vec::new();
    }
    let stored = Json::Object(stored.clone());
    let kept = |(pointer, secret): &&(String, Json)| {
        pointer.starts_with(&format!("{}/", after.at)) && stored.pointer(pointer) == Some(secret) && !is_given(pointer, secret)
    };
    let fault = |(pointer, _): &(String, Json)| {
        let found = format!("`{MASK}`, a secret that was given for another address than {} names now", moved.join(" and "));
        Fault::new(path_of(pointer), found, "the secret itself, given again".to_owned())
    };
    secrets.iter().filter(kept).map(fault).collect()
}

/// Addresses that this document would newly name and may not reach.
pub fn forbidden(kind: DocumentKind, whole: &Body, before: Option<&Body>, reach: Guard) -> Vec<Fault> {
    let Some(after) = Leading::of(kind, whole) else { return Vec::new() };
    let before = before.and_then(|body| Leading::of(kind, body)).filter(|before| before.at == after.at);
    let mut faults = Vec::new();
    for field in after.fields {
        // What it named already is refused where it connects, and must not hinder that it is paused, say.
        if before.as_ref().is_some_and(|before| before.reached(field) == after.reached(field)) {
            continue;
        }
        if let Some(value) = after.of.get(*field) {
            judge(&format!("{}/{field}", after.at), value, reach, &mut faults);
        }
    }
    faults
}

fn judge(pointer: &str, value: &Json, reach: Guard, faults: &mut Vec<Fault>) {
    match value {
        Json::String(text) => {
            if let Some(address) = literal(text).filter(|address| !reach.allows(*address)) {
                let accepted = match reach {
                    Guard::PublicOnly => {
                        "a public address; `server.api_targets: private` in the configuration file allows private ones too, and never link-local ones"
                    }
                    Guard::NoLinkLocal | Guard::Open => "any address that is not link-local",
                };
                faults.push(Fault::new(path_of(pointer), format!("the address {address}, which may not be reached"), accepted.to_owned()));
            }
        }
        Json::Array(items) => items.iter().enumerate().for_each(|(nth, item)| judge(&format!("{pointer}/{nth}"), item, reach, faults)),
        Json::Object(map) => {
            map.iter().for_each(|(key, value)| judge(&format!("{pointer}/{}", super::documents::escaped(key)), value, reach, faults));
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// The address that a text is written with: alone, with a port, or in a URL.
fn literal(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let in_brackets = |text: &str| text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let of_url = || match url::Url::parse(text).ok()?.host()? {
        url::Host::Ipv4(address) => Some(IpAddr::V4(address)),
        url::Host::Ipv6(address) => Some(IpAddr::V6(address)),
        // Only of http and its like an address is read as one, by the crate.
        url::Host::Domain(name) => name.parse().ok().or_else(|| in_brackets(name)),
    };
    let alone = text.parse().ok().or_else(|| in_brackets(text));
    alone.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip())).or_else(of_url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(value: Json) -> Body {
        let Json::Object(body) = value else { panic!("{value} is no mapping") };
        body
    }

    #[test]
    fn an_address_is_found_however_it_is_written() {
        for (text, want) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("http://u:p@169.254.169.254/latest", "169.254.169.254"),
            ("http://2852039166/", "169.254.169.254"),
            ("https://0x7f.1/", "127.0.0.1"),
            ("http://[::ffff:127.0.0.1]:8080/", "::ffff:127.0.0.1"),
        ] {
            assert_eq!(literal(text), Some(want.parse().unwrap()), "{text}");
        }
        for name in ["example.org", "example.org:80", "http://localhost/", "", "8.8", "http://"] {
            assert_eq!(literal(name), None, "{name}");
        }
    }

    #[test]
    fn what_may_not_be_reached_is_refused_once_it_is_newly_named() {
        let paths = |kind, whole: &Json, before: Option<&Json>, reach| {
            let faults = forbidden(kind, &body(whole.clone()), before.cloned().map(body).as_ref(), reach);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        let http = json!({ "probe": { "http": { "url": "http://10.0.0.1/", "proxy": "http://[::1]:3128", "resolve": { "a": "169.254.169.254" } } } });
        let (monitor, channel) = (DocumentKind::Monitor, DocumentKind::Channel);
        assert_eq!(paths(monitor, &http, None, Guard::PublicOnly), ["probe.http.url", "probe.http.proxy", "probe.http.resolve.a"]);
        assert_eq!(paths(monitor, &http, None, Guard::NoLinkLocal), ["probe.http.resolve.a"]);
        assert_eq!(paths(monitor, &http, Some(&http), Guard::PublicOnly), [""; 0], "it was there already");
        for (kind, whole, path) in [
            (monitor, json!({ "probe": { "tcp": { "address": "127.0.0.1:22" } } }), "probe.tcp.address"),
            (monitor, json!({ "probe": { "tls": { "address": "[::1]:443" } } }), "probe.tls.address"),
            (monitor, json!({ "probe": { "icmp": { "host": "192.168.1.1" } } }), "probe.icmp.host"),
            (monitor, json!({ "probe": { "dns": { "name": "x", "server": "127.0.0.53:53" } } }), "probe.dns.server"),
            (channel, json!({ "webhook": { "url": "http://127.0.0.1/" } }), "webhook.url"),
            (channel, json!({ "discord": { "url": "http://127.0.0.1/" } }), "discord.url"),
            (channel, json!({ "email": { "host": "127.0.0.1" } }), "email.host"),
        ] {
            assert_eq!(paths(kind, &whole, None, Guard::PublicOnly), [path]);
        }
        // What is no address of the kind is none.
        assert_eq!(paths(monitor, &json!({ "probe": { "http": { "url": "http://x/?to=127.0.0.1" } } }), None, Guard::PublicOnly), [""; 0]);
    }

    /// A kind whose address were forgotten would be guarded by neither rule.
    #[test]
    fn every_kind_says_which_of_its_own_fields_lead_somewhere() {
        let all = crate::probe::FAMILY.kinds.iter().map(|kind| (kind.name, kind.keys, kind.address));
        for (name, keys, address) in all.chain(crate::channel::FAMILY.kinds.iter().map(|kind| (kind.name, kind.keys, kind.address))) {
            assert!(!address.is_empty() || name == "push", "{name}");
            for field in address {
                assert!(keys.iter().any(|key| key.name == *field), "{name}.{field}");
            }
        }
    }
}
