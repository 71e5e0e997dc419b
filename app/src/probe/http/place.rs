//! A URL taken apart into what an attempt needs of it. Done once for the configured URL, and for each redirect.

use super::secret::shown_url;
use crate::net::{host_and_port, host_header, origin_form, tls};
use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;
use std::net::IpAddr;
use url::{Position, Url};

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// For people.
    pub(super) shown: String,
    /// IPv6 without brackets.
    pub(super) host: String,
    /// From the URL or its scheme.
    pub(super) port: u16,
    /// The host, if it is an address.
    pub(super) ip: Option<IpAddr>,
    /// Whether TLS is spoken.
    pub(super) https: bool,
    /// Path and query.
    pub(super) origin: Uri,
    /// The whole.
    pub(super) absolute: Uri,
    /// Host and port for `Host`.
    pub(super) authority: HeaderValue,
    /// The name that a certificate must be for.
    pub(super) server_name: Option<ServerName<'static>>,
}

impl Place {
    /// `None` if the URL cannot be put into a request.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let (host, port) = host_and_port(url)?;
        let https = url.scheme() == "https";
        let absolute = format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterQuery]);
        Some(Self {
            shown: shown_url(url),
            port,
            ip: host.parse().ok(),
            https,
            origin: origin_form(url)?,
            absolute: absolute.parse().ok()?,
            authority: host_header(url)?,
            server_name: if https { tls::server_name(&host) } else { None },
            host,
        })
    }

    /// The whole with another authority, as HTTP/2 wants a configured `Host` to be sent.
    pub(super) fn absolute_as(&self, host: Option<&HeaderValue>) -> Uri {
        let Some(host) = host.filter(|h| **h != self.authority) else { return self.absolute.clone() };
        let mut parts = self.absolute.clone().into_parts();
        if let Ok(authority) = host.as_bytes().try_into() {
            parts.authority = Some(authority);
        }
        Uri::from_parts(parts).unwrap_or_else(|_| self.absolute.clone())
    }
}
