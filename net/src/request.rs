//! One HTTP request over a fresh connection, for whoever wants an answer rather than a measurement.

use super::exchange::{Limits, Protocol, exchange};
use super::tls::{TlsOptions, handshake, server_name};
use super::{Family, Fault, Guard, Net, Path};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::Full;
use std::time::Instant;
use url::{Position, Url};
use watchkeeper_core::{Blind, Reason};

/// A request. Headers that belong to the connection (`Host`, `Content-Length`, `Connection`) are set by [`Net::send`].
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: Method,
    /// `http` or `https`; credentials in it are not sent.
    pub url: Url,
    /// As sent.
    pub headers: HeaderMap,
    /// May be empty.
    pub body: Bytes,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Any status is a response: redirects are not followed, errors are not faults.
    pub status: StatusCode,
    /// As received.
    pub headers: HeaderMap,
    /// At most `max_body` bytes.
    pub body: Bytes,
    /// Why the body is not whole: larger than `max_body`, cut off, or too late. The status was said all the same: a
    /// provider that answered 200 has taken the message, and sending it again would tell it twice.
    pub incomplete: Option<Fault>,
}

impl Net {
    /// Sends one HTTP/1.1 request and reads the response, both before the deadline. `https` is verified against
    /// the system's roots. No address is refused beside those that are for everybody who has this way out.
    pub async fn send(&self, request: &Request, deadline: Instant, max_body: usize) -> Result<Response, Fault> {
        let (host, port) = host_and_port(&request.url).ok_or_else(|| setup("the URL has no host"))?;
        let addresses = self.resolve(&host, Family::Any, Path::First, deadline).await?.addresses;
        let connected = self.connect(&addresses, port, Guard::Open, deadline).await?;
        let mut sent = http::Request::new(Full::new(request.body.clone()));
        *sent.method_mut() = request.method.clone();
        *sent.uri_mut() = origin_form(&request.url).ok_or_else(|| setup("the URL's path cannot be sent"))?;
        *sent.headers_mut() = request.headers.clone();
        let authority = host_header(&request.url).ok_or_else(|| setup("the URL's host cannot be sent"))?;
        sent.headers_mut().insert(HOST, authority);
        sent.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let limits = Limits { deadline, max_body, keep: max_body };
        let done = if request.url.scheme() == "https" {
            let options = TlsOptions { alpn: &[b"http/1.1"], ..TlsOptions::default() };
            let settings = self.tls.settings(&options).map_err(|e| setup(&e.to_string()))?;
            let name = server_name(&host).ok_or_else(|| setup("no certificate can be for the URL's host"))?;
            let (stream, _) = handshake(connected.stream, name, &settings, deadline).await.map_err(|failed| failed.fault)?;
            exchange(stream, Protocol::Http1, sent, limits).await
        } else {
            exchange(connected.stream, Protocol::Http1, sent, limits).await
        };
        match (done.fault, done.head) {
            (incomplete, Some(head)) => Ok(Response { status: head.status, headers: head.headers, body: done.body, incomplete }),
            (Some(fault), None) => Err(fault),
            (None, None) => Err(Fault::down(Reason::HttpClosed, "the response has no head")),
        }
    }
}

fn setup(text: &str) -> Fault {
    Fault::unknown(Blind::Setup, text)
}

/// The host (IPv6 without brackets) and port of a URL.
pub fn host_and_port(url: &Url) -> Option<(String, u16)> {
    let host = match url.host()? {
        url::Host::Domain(name) => name.to_owned(),
        url::Host::Ipv4(ip) => ip.to_string(),
        url::Host::Ipv6(ip) => ip.to_string(),
    };
    Some((host, url.port_or_known_default()?))
}

/// Path and query, as an HTTP/1.1 server is asked (RFC 9112 section 3.2.1).
pub fn origin_form(url: &Url) -> Option<Uri> {
    url[Position::BeforePath..Position::AfterQuery].parse().ok()
}

/// Host, and port unless it is the scheme's own: the value of `Host`.
pub fn host_header(url: &Url) -> Option<HeaderValue> {
    HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]).ok()
}
