//! HTTP: one request and its redirects, every hop over a fresh connection, every phase measured.
//!
//! The phases of a hop touch: one ends at the instant at which the next begins, so that their sum over all
//! hops is the whole attempt. The phase in which the time runs out names the fault. A complete response is
//! judged by what the monitor expects; how its connection ends afterwards does not matter.
//!
//! What it must never do: keep a connection or an answer for the next attempt, send credentials to an origin
//! that the configuration did not name, or show a secret in what it reports.

mod config;
mod expect;
mod place;
mod secret;
mod tunnel;

pub use config::{Config, KEYS, KIND, Version};
pub use expect::Expect;

use super::{Attempt, Hop, HttpFacts, Probe, ProbeContext, Resolved};
use crate::net::tls::{self, LazySettings, Peer};
use crate::net::{Exchange, Fault, Limits, Protocol, exchange};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, LOCATION,
    PROXY_AUTHORIZATION, SERVER,
};
use http::response::Parts;
use http::{Method, StatusCode};
use http_body_util::Full;
use place::Place;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use tokio::net::TcpStream;
use url::Url;
use watchkeeper_core::{Blind, Measure, Outcome, Reason};

/// What attempts measure: what rules may name.
pub const MEASURES: &[Measure] =
    &[Measure::Total, Measure::Dns, Measure::Connect, Measure::Tls, Measure::FirstByte, Measure::Transfer, Measure::CertDaysLeft];

/// Makes the attempts of one monitor.
pub struct HttpProbe {
    config: Config,
    first_headers: HeaderMap,
    settings: LazySettings,
}

impl Config {
    /// Ready to make attempts.
    pub fn build(&self) -> Box<dyn Probe> {
        Box::new(self.probe())
    }

    /// The same for a probe that reads more out of a response.
    pub(super) fn probe(&self) -> HttpProbe {
        let mut first_headers = self.headers.clone();
        complete(&mut first_headers, &self.place, self);
        HttpProbe { config: self.clone(), first_headers, settings: LazySettings::new(self.tls.clone()) }
    }
}

/// Adds the headers of the connection.
fn complete(headers: &mut HeaderMap, place: &Place, config: &Config) {
    if !headers.contains_key(HOST) {
        headers.insert(HOST, place.authority.clone());
    }
    headers.insert(CONNECTION, http::HeaderValue::from_static("close"));
    if let (Some(proxy), false) = (&config.proxy, place.https)
        && let Some(value) = &proxy.authorization
    {
        headers.insert(PROXY_AUTHORIZATION, value.clone());
    }
}

#[async_trait]
impl Probe for HttpProbe {
    async fn attempt(&self, cx: &ProbeContext) -> Attempt {
        self.read(cx).await.0
    }
}

impl HttpProbe {
    /// One attempt, and the response that it judged, or what came of one.
    pub(super) async fn read(&self, cx: &ProbeContext) -> (Attempt, Option<Exchange>) {
        let mut run = Run {
            probe: self,
            cx,
            ask: Ask { method: self.config.method.clone(), headers: Cow::Borrowed(&self.first_headers), body: self.config.body.clone() },
            watch: Stopwatch { start: Instant::now(), marked_us: 0 },
            hops: Vec::with_capacity(1),
            last: None,
            peer: None,
            certificate: None,
        };
        let result = run.follow().await;
        run.finish(result.err())
    }
}

/// Measures phases that touch.
struct Stopwatch {
    start: Instant,
    marked_us: u64,
}

impl Stopwatch {
    /// µs since the last mark.
    fn lap(&mut self, now: Instant) -> u64 {
        let us = u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX).max(self.marked_us);
        let lap = us - self.marked_us;
        self.marked_us = us;
        lap
    }
}

/// What is asked on the next hop; its headers are complete for HTTP/1.1.
struct Ask<'a> {
    method: Method,
    headers: Cow<'a, HeaderMap>,
    body: Bytes,
}

/// One attempt under way.
struct Run<'a> {
    probe: &'a HttpProbe,
    cx: &'a ProbeContext,
    ask: Ask<'a>,
    watch: Stopwatch,
    hops: Vec<Hop>,
    /// The newest response, also one that is not complete.
    last: Option<Exchange>,
    peer: Option<Peer>,
    /// Of a handshake that failed.
    certificate: Option<crate::net::tls::CertificateFacts>,
}

impl Run<'_> {
    /// Follows the redirects to the response that counts, and judges it.
    async fn follow(&mut self) -> Result<(), Fault> {
        let probe = self.probe;
        self.hop(&probe.config.place).await?;
        if let Some(next) = self.redirect(&probe.config.url)? {
            Box::pin(self.follow_from(next)).await?;
        }
        match self.last.as_ref().map(|e| (&e.head, &e.body)) {
            Some((Some(head), body)) => probe.config.expect.judge(head, body),
            Some((None, _)) | None => Err(Fault::unknown(Blind::Internal, "there is no response to judge")),
        }
    }

    /// Follows redirects from the second hop on.
    async fn follow_from(&mut self, mut next: Url) -> Result<(), Fault> {
        let config = &self.probe.config;
        let mut seen = vec![(config.method.clone(), config.url.clone())];
        loop {
            if seen.len() > config.max_redirects {
                let text = format!("more than {} redirects; the next would be {}", config.max_redirects, secret::shown_url(&next));
                return Err(Fault::down(Reason::HttpTooManyRedirects, text));
            }
            if seen.iter().any(|(method, url)| *method == self.ask.method && *url == next) {
                return Err(Fault::down(Reason::HttpRedirectLoop, format!("the redirects lead back to {}", secret::shown_url(&next))));
            }
            let place = Place::of(&next).ok_or_else(|| bad_redirect(&next))?;
            self.turn_to(&place, seen.last().map(|(_, url)| url), &next)?;
            self.hop(&place).await?;
            let after = self.redirect(&next)?;
            seen.push((self.ask.method.clone(), next));
            match after {
                Some(url) => next = url,
                None => return Ok(()),
            }
        }
    }

    /// Where the newest response leads, if redirects are followed; the method that it then asks for is set.
    fn redirect(&mut self, from: &Url) -> Result<Option<Url>, Fault> {
        let Some(head) = self.last.as_ref().and_then(|e| e.head.as_ref()) else { return Ok(None) };
        if self.probe.config.max_redirects == 0 || !leads_on(head) {
            return Ok(None);
        }
        let Some(location) = head.headers.get(LOCATION) else { return Ok(None) };
        let bad = || Fault::down(Reason::HttpBadRedirect, "the redirect's Location is not a URL that could be asked for");
        let text = std::str::from_utf8(location.as_bytes()).map_err(|_| bad())?;
        let mut url = from.join(text).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(bad_redirect(&url));
        }
        url.set_fragment(None);
        // Credentials of somebody else's choosing are not ours to send; such URLs always have a host.
        let _ = (url.set_username(""), url.set_password(None));
        // RFC 9110 section 15.4: 303 always, and by custom 301 and 302 after POST.
        let get = match head.status {
            StatusCode::SEE_OTHER => self.ask.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.ask.method == Method::POST,
            _ => false,
        };
        if get {
            self.ask.method = Method::GET;
            self.ask.body = Bytes::new();
            let headers = self.ask.headers.to_mut();
            for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_LANGUAGE] {
                headers.remove(name);
            }
        }
        Ok(Some(url))
    }

    /// Fits the headers to the next place. Another origin gets no secrets, no body, and not the Host that was configured.
    fn turn_to(&mut self, place: &Place, from: Option<&Url>, to: &Url) -> Result<(), Fault> {
        if !self.ask.body.is_empty() && !from.is_some_and(|from| from.origin() == to.origin() || is_upgrade(from, to)) {
            let text = format!("the redirect leads to another origin, which is not sent the body: {}", secret::shown_url(to));
            return Err(Fault::down(Reason::HttpBadRedirect, text));
        }
        let config = &self.probe.config;
        let headers = self.ask.headers.to_mut();
        if from.is_none_or(|from| from.origin() != to.origin()) {
            secret::drop_secrets(headers);
            headers.remove(HOST);
        }
        headers.remove(PROXY_AUTHORIZATION);
        complete(headers, place, config);
        Ok(())
    }

    async fn hop(&mut self, place: &Place) -> Result<(), Fault> {
        let mut hop = Hop { url: place.shown.clone(), ..Hop::default() };
        let result = self.ask(&mut hop, place).await;
        self.hops.push(hop);
        result
    }

    /// One hop: the phases are written where they end, also when they end badly.
    async fn ask(&mut self, hop: &mut Hop, place: &Place) -> Result<(), Fault> {
        if place.https {
            // Reading roots and files is our own work, and belongs to no phase of the target.
            self.probe.settings.get(&self.cx.net.tls)?;
            self.watch.lap(Instant::now());
        }
        let stream = self.connect(hop, place).await?;
        if place.https {
            // Boxed like everything that a plain attempt does without: its size is moved and kept for each of them.
            return Box::pin(self.ask_securely(hop, place, stream)).await;
        }
        let protocol = if self.probe.config.version == Version::Http2 { Protocol::Http2 } else { Protocol::Http1 };
        self.exchange(hop, place, stream, protocol).await
    }

    async fn ask_securely(&mut self, hop: &mut Hop, place: &Place, stream: TcpStream) -> Result<(), Fault> {
        let settings = self.probe.settings.get(&self.cx.net.tls)?;
        let name = place.server_name.clone().ok_or_else(|| Fault::down(Reason::TlsWrongHost, "no certificate can be for this host"))?;
        let shaken = tls::handshake(stream, name, &settings, self.cx.deadline).await;
        hop.tls_us = self.watch.lap(Instant::now());
        let (stream, peer) = match shaken {
            Ok(done) => done,
            Err(fault) => {
                self.peer = None;
                self.certificate = fault.certificate;
                return Err(fault.fault);
            }
        };
        self.peer = Some(peer);
        let protocol = match (self.probe.config.version, stream.get_ref().1.alpn_protocol()) {
            (Version::Auto | Version::Http2, Some(b"h2")) => Protocol::Http2,
            (Version::Http2, _) => return Err(Fault::down(Reason::TlsRefused, "the server did not agree to speak HTTP/2")),
            (Version::Auto | Version::Http1, _) => Protocol::Http1,
        };
        self.exchange(hop, place, Box::new(stream), protocol).await
    }

    /// A TCP connection to the place, or through the proxy to it.
    async fn connect(&mut self, hop: &mut Hop, place: &Place) -> Result<TcpStream, Fault> {
        let deadline = self.cx.deadline;
        let near = self.probe.config.proxy.as_ref().map_or(place, |p| &p.place);
        let through = |fault: Fault| match (&self.probe.config.proxy, fault.outcome) {
            (Some(proxy), Outcome::Down(_)) => {
                Fault::down(Reason::HttpProxy, format!("the proxy {} is not reached: {}", proxy.place.shown, fault.text))
            }
            (Some(_) | None, _) => fault,
        };
        let addresses = if let Some(ip) = self.known_address(near) {
            self.cx.path.only(ip)?;
            vec![ip]
        } else {
            let found = self.cx.net.resolve(&near.host, self.probe.config.family, self.cx.path, deadline).await;
            hop.dns_us = self.watch.lap(Instant::now());
            let found = found.map_err(through)?;
            hop.resolved = Resolved::of(&found);
            found.addresses
        };
        hop.address = addresses.first().map(|ip| SocketAddr::new(*ip, near.port).to_string());
        let connected = self.cx.net.connect(&addresses, near.port, self.cx.guard, deadline).await;
        hop.connect_us = self.watch.lap(Instant::now());
        let mut connected = connected.map_err(through)?;
        if addresses.len() > 1 {
            hop.address = Some(connected.address.to_string());
        }
        if let (Some(proxy), true) = (&self.probe.config.proxy, place.https) {
            let opened = Box::pin(tunnel::open(&mut connected.stream, proxy, place, deadline)).await;
            hop.connect_us += self.watch.lap(Instant::now());
            opened?;
        }
        Ok(connected.stream)
    }

    /// The address of a host that needs no name server.
    fn known_address(&self, place: &Place) -> Option<IpAddr> {
        let given = self.probe.config.resolve.iter().find(|(host, _)| host.eq_ignore_ascii_case(&place.host));
        given.map(|(_, ip)| *ip).or(place.ip)
    }

    async fn exchange<S>(&mut self, hop: &mut Hop, place: &Place, stream: S, protocol: Protocol) -> Result<(), Fault>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let config = &self.probe.config;
        let mut request = http::Request::new(Full::new(self.ask.body.clone()));
        *request.method_mut() = self.ask.method.clone();
        *request.headers_mut() = self.ask.headers.as_ref().clone();
        match protocol {
            Protocol::Http1 if config.proxy.is_some() && !place.https => *request.uri_mut() = place.absolute.clone(),
            Protocol::Http1 => *request.uri_mut() = place.origin.clone(),
            Protocol::Http2 => {
                *request.uri_mut() = place.absolute_as(request.headers_mut().remove(HOST).as_ref());
                request.headers_mut().remove(CONNECTION);
            }
        }
        let keep = if config.expect.needs_body() { config.max_body } else { config.keep_body };
        let mut done = exchange(stream, protocol, request, Limits { deadline: self.cx.deadline, max_body: config.max_body, keep }).await;
        if let Some(first_byte) = done.first_byte {
            hop.first_byte_us = self.watch.lap(first_byte);
            hop.transfer_us = self.watch.lap(done.ended);
        } else {
            hop.first_byte_us = self.watch.lap(done.ended);
        }
        let asked_to_log_in = done.head.as_ref().is_some_and(|h| h.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        hop.status = done.head.as_ref().map(|h| h.status.as_u16());
        let fault = done.fault.take();
        let leads_on = config.max_redirects > 0 && done.head.as_ref().is_some_and(leads_on);
        self.last = Some(done);
        match fault {
            // Nobody reads the page of a redirect.
            Some(fault) if leads_on && fault.outcome == Outcome::Down(Reason::HttpBodyTooLarge) => Ok(()),
            Some(fault) => Err(fault),
            None if asked_to_log_in && config.proxy.is_some() => {
                Err(Fault::down(Reason::HttpProxy, "the proxy asks for other credentials: status 407"))
            }
            None => Ok(()),
        }
    }

    fn finish(self, fault: Option<Fault>) -> (Attempt, Option<Exchange>) {
        let detailed = fault.is_some() || self.cx.want_detail;
        let (outcome, error) = match fault {
            None => (Outcome::Up, None),
            Some(fault) => (fault.outcome, Some(fault.text)),
        };
        let certificate =
            self.certificate.or_else(|| self.peer.as_ref().and_then(|peer| if detailed { peer.facts() } else { peer.brief() }));
        // Sums to the microsecond: a lap never counts one twice, and nothing lies between two laps.
        let total_us = self.hops.iter().map(Hop::sum_us).sum();
        let http = self
            .last
            .as_ref()
            .and_then(|e| e.head.as_ref().map(|head| facts(head, e, &self.ask, detailed.then_some(self.probe.config.keep_body))));
        let attempt = Attempt { hops: self.hops, total_us, http, certificate, ..Attempt::ended(outcome, error) };
        (attempt, self.last)
    }
}

/// Whether a response sends its reader elsewhere (RFC 9110 section 15.4).
fn leads_on(head: &Parts) -> bool {
    matches!(head.status.as_u16(), 301 | 302 | 303 | 307 | 308) && head.headers.contains_key(LOCATION)
}

/// Whether the same host is asked over TLS now, each by its scheme's own port.
fn is_upgrade(from: &Url, to: &Url) -> bool {
    from.host() == to.host() && (from.scheme(), to.scheme()) == ("http", "https") && (from.port(), to.port()) == (None, None)
}

fn bad_redirect(url: &Url) -> Fault {
    Fault::down(Reason::HttpBadRedirect, format!("the redirect leads to {}", secret::shown_url(url)))
}

fn version_word(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        // No other is spoken.
        _ => "HTTP/1.1",
    }
}

const CF_CACHE_STATUS: HeaderName = HeaderName::from_static("cf-cache-status");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// What is stated of a response; with its headers and so much of its body, if details are wanted.
fn facts(head: &Parts, done: &Exchange, ask: &Ask<'_>, detail: Option<usize>) -> HttpFacts {
    let header = |name: &HeaderName| head.headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let content_length = head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let mut facts = HttpFacts {
        version: version_word(head.version).to_owned(),
        status: head.status.as_u16(),
        body_bytes: done.body_bytes,
        content_length,
        content_type: header(&CONTENT_TYPE),
        server: header(&SERVER),
        cache_status: header(&CF_CACHE_STATUS).or_else(|| header(&X_CACHE)),
        ..HttpFacts::default()
    };
    if let Some(kept) = detail {
        facts.request_headers = secret::shown_headers(&ask.headers);
        facts.response_headers = secret::shown_headers(&head.headers);
        let kept = &done.body[..done.body.len().min(kept)];
        facts.body_head = Some(String::from_utf8_lossy(kept).into_owned());
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::net::{Guard, Net, Path};
    use std::sync::Arc;

    /// It is made, moved and dropped for every attempt; at 13 KiB that was 5 % of a whole check.
    #[test]
    fn an_attempt_without_tls_redirects_and_names_is_small() {
        let config = Config::of_url("http://127.0.0.1/".parse().unwrap()).unwrap();
        let probe = config.build();
        let cx = ProbeContext {
            net: Arc::new(Net::with_name_servers(Clock::system(), Vec::new())),
            deadline: Instant::now(),
            want_detail: false,
            guard: Guard::Open,
            path: Path::First,
        };
        let size = size_of_val(&*probe.attempt(&cx));
        assert!(size <= 4_096, "{size} bytes");
    }
}
