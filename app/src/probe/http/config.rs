//! What stands under `http:`, read and checked once: URLs, headers and patterns are parsed here, so that an
//! attempt parses nothing and a bad pattern cannot surface at probe time.

use super::expect::{EXPECT_KEYS, Expect};
use super::place::Place;
use super::secret::{basic, is_secret_name, sensitive, shown_url, take_credentials};
use crate::config::decode::{self, Fields, Key, Node, Problems, entries, integer, one_of, parsed, secret, text, wrong};
use crate::config::tagged::Kind;
use crate::net::Family;
use crate::net::tls::TlsOptions;
use crate::probe::{BODY_HEAD_MAX, ProbeConfig, dial, tls};
use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, USER_AGENT};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::net::IpAddr;
use url::Url;

/// More redirects than anybody means are a loop that never repeats itself.
const REDIRECTS_MAX: i64 = 50;
/// Followed unless the monitor says otherwise, as in browsers' and curl's order of magnitude.
const REDIRECTS_DEFAULT: usize = 10;
/// More headers are surely a mistake; servers refuse heads beyond 8 KiB.
const HEADERS_MAX: usize = 64;
/// A larger request body does not belong into a configuration file.
const REQUEST_BODY_MAX: usize = 256 * 1024;
/// A response may be so large unless the monitor says otherwise: larger than pages are, small enough to be read within
/// an attempt. It is held in memory only when its text is looked at.
const BODY_DEFAULT: usize = 10 << 20;
/// At most this may be configured: a body whose text is looked at is held in memory.
const BODY_MAX: usize = 100 << 20;
/// At most so much of a body may be kept: with its headers it must fit into what is stored of an attempt.
const KEPT_MAX: usize = 32 << 10;
/// More overrides are a zone, and belong into a name server.
const RESOLVE_MAX: usize = 32;
/// Longer URLs are refused by most servers.
const URL_MAX: usize = 8 * 1024;

/// Keys of `http:`.
pub const KEYS: &[Key] = &[
    Key { name: "url", form: "an http:// or https:// URL", default: "", doc: "What is asked for." },
    Key { name: "method", form: "GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS", default: "GET", doc: "The request method." },
    Key {
        name: "headers",
        form: "a mapping of header names to values",
        default: "{}",
        doc: "Sent with the request; `Host` and `User-Agent` may be replaced.",
    },
    Key { name: "body", form: "a text", default: "\"\"", doc: "The request body." },
    Key {
        name: "basic_auth",
        form: "a mapping with username and password",
        default: "",
        doc: "Sent as Authorization (RFC 7617); not to other origins after a redirect.",
    },
    Key {
        name: "bearer_token",
        form: "a text",
        default: "",
        doc: "Sent as Authorization (RFC 6750); not to other origins after a redirect.",
    },
    Key { name: "bearer_token_file", form: "a path", default: "", doc: "A file that holds the token." },
    Key {
        name: "max_redirects",
        form: "a whole number from 0 to 50",
        default: "10",
        doc: "How many redirects are followed; 0 judges the redirect itself.",
    },
    tls::INSECURE_SKIP_VERIFY,
    tls::CA_FILE,
    tls::CERT_FILE,
    tls::KEY_FILE,
    tls::MIN_TLS_VERSION,
    Key {
        name: "http_version",
        form: "auto, 1.1 or 2",
        default: "auto",
        doc: "auto lets a TLS server choose; 2 without TLS begins with HTTP/2 at once.",
    },
    dial::IP_VERSION,
    Key { name: "proxy", form: "an http:// URL", default: "", doc: "A proxy for the request; may hold credentials." },
    Key {
        name: "resolve",
        form: "a mapping of host names to addresses",
        default: "{}",
        doc: "Addresses to use in place of what DNS says.",
    },
    Key { name: "max_body", form: "a size from 0 to 100MiB, such as 10MiB", default: "10MiB", doc: "A longer response body is a fault." },
    Key {
        name: "keep_body",
        form: "a size from 0 to 32KiB",
        default: "2KiB",
        doc: "So much of a response body is kept with the evidence of an attempt.",
    },
    Key { name: "expect", form: "a mapping", default: "{}", doc: "What a response must be like to count as up." },
];

/// Keys of `basic_auth:`.
pub const BASIC_KEYS: &[Key] = &[
    Key { name: "username", form: "a text without a colon", default: "", doc: "The user." },
    Key { name: "password", form: "a text", default: "", doc: "The password." },
    Key { name: "password_file", form: "a path", default: "", doc: "A file that holds the password." },
];

/// The line of the list of kinds.
pub const KIND: Kind<ProbeConfig> = Kind {
    name: "http",
    doc: "An HTTP or HTTPS request, its redirects followed, its phases measured.",
    keys: KEYS,
    sections: &[("basic_auth", BASIC_KEYS), ("expect", EXPECT_KEYS)],
    examples: &[("url", "https://example.org/health")],
    address: &["url", "proxy", "resolve", "insecure_skip_verify"],
    decode: |node, problems| Config::decode(node, problems).map(|c| ProbeConfig::Http(Box::new(c))),
};

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// With TLS what the server chooses, HTTP/2 preferred; without it HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Where requests are sent through.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Without credentials.
    pub(super) place: Place,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<HeaderValue>,
}

/// What `http:` says.
#[derive(Clone)]
pub struct Config {
    /// Without credentials and fragment.
    pub url: Url,
    /// The URL taken apart.
    pub(super) place: Place,
    /// Of the first request.
    pub method: Method,
    /// All headers of the first request but those of the connection; secret ones are marked sensitive.
    pub headers: HeaderMap,
    /// Of the first request.
    pub body: Bytes,
    /// How many redirects are followed.
    pub max_redirects: usize,
    /// Of every TLS connection.
    pub tls: TlsOptions,
    /// The protocol.
    pub version: Version,
    /// The addresses.
    pub family: Family,
    /// The proxy.
    pub proxy: Option<Proxy>,
    /// Host names whose address is given.
    pub resolve: Vec<(String, IpAddr)>,
    /// In bytes.
    pub max_body: usize,
    /// So much of a body is kept as evidence, in bytes.
    pub keep_body: usize,
    /// What counts as up.
    pub expect: Expect,
}

impl fmt::Debug for Config {
    /// Only what may be seen: a query, a header or a body may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("method", &self.method).field("target", &self.target()).finish_non_exhaustive()
    }
}

impl Config {
    /// A plain GET of a URL with every default: what `probe URL` does.
    pub fn of_url(mut url: Url) -> Result<Self, String> {
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(format!("{} is not an http:// or https:// URL", shown_url(&url)));
        }
        let credentials = take_credentials(&mut url);
        let place = Place::of(&url).ok_or_else(|| format!("{} cannot be asked for", shown_url(&url)))?;
        let mut headers = default_headers();
        if let Some(value) = credentials {
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self {
            url,
            place,
            method: Method::GET,
            headers,
            body: Bytes::new(),
            max_redirects: REDIRECTS_DEFAULT,
            tls: TlsOptions { alpn: alpn(Version::Auto), ..TlsOptions::default() },
            version: Version::Auto,
            family: Family::Any,
            proxy: None,
            resolve: Vec::new(),
            max_body: BODY_DEFAULT,
            keep_body: BODY_HEAD_MAX,
            expect: Expect::default(),
        })
    }

    /// The same request with a token; `None` if no header can carry it.
    pub fn with_bearer(mut self, token: &SecretString) -> Option<Self> {
        self.headers.insert(AUTHORIZATION, sensitive(&format!("Bearer {}", token.expose_secret()))?);
        Some(self)
    }

    /// Reads the section; `None` after a problem was noted.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.told();
        let fields = Fields::open(node, KEYS, problems)?;
        let url = fields.require("url", problems).and_then(|n| http_url(n, &["http", "https"], problems));
        let expect = fields.get("expect").map_or(Some(Expect::default()), |n| Expect::decode(n, problems));
        // Without a good URL the rest is still read, for its own problems.
        let url = url.or_else(|| Url::parse("http://localhost/").ok())?;
        let mut config = Self { expect: expect.unwrap_or_default(), ..Self::of_url(url).ok()? };
        config.decode_request(&fields, problems);
        config.decode_connection(&fields, problems);
        config.decode_tls(&fields, problems);
        (problems.told() == before).then_some(config)
    }

    /// The URL for lists and messages: without credentials, secrets in its query masked.
    pub fn target(&self) -> String {
        shown_url(&self.url)
    }

    fn decode_request(&mut self, fields: &Fields<'_>, problems: &mut Problems) {
        if let Some(method) = fields.get("method").and_then(|n| one_of(n, &methods(), problems)) {
            self.method = METHODS[method].clone();
        }
        if let Some(body) = fields.get("body").and_then(|n| text(n, problems).map(|t| (n, t))) {
            if body.1.len() > REQUEST_BODY_MAX {
                problems.add(&body.0.at, format!("a body of {} bytes", body.1.len()), format!("at most {REQUEST_BODY_MAX}"));
            }
            self.body = body.1.into();
        }
        if let Some(node) = fields.get("headers") {
            self.decode_headers(node, problems);
        }
        self.decode_authorization(fields, problems);
        if let Some(n) = fields.get("max_redirects").and_then(|n| integer(n, 0..=REDIRECTS_MAX, problems)) {
            self.max_redirects = usize::try_from(n).unwrap_or(REDIRECTS_DEFAULT);
        }
        if let Some(n) = fields.get("max_body").and_then(|n| parsed(n, "a size from 0 to 100MiB, such as 10MiB", problems, parse_size)) {
            self.max_body = n;
        }
        let kept = |text: &str| parse_size(text).filter(|n| *n <= KEPT_MAX);
        if let Some(n) = fields.get("keep_body").and_then(|n| parsed(n, "a size from 0 to 32KiB", problems, kept)) {
            self.keep_body = n;
        }
    }

    fn decode_headers(&mut self, node: &Node, problems: &mut Problems) {
        let given = entries(node, problems, |n, problems| text(n, problems).map(|t| (n.clone(), t))).unwrap_or_default();
        if given.len() > HEADERS_MAX {
            problems.add(&node.at, format!("{} headers", given.len()), format!("at most {HEADERS_MAX}"));
        }
        let mut named = Vec::new();
        for (name, (at, value)) in given {
            let (Ok(header), Ok(mut value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) else {
                problems.add(
                    &at.at,
                    format!("`{}` and its value cannot be sent as a header", decode::shown(&name)),
                    "RFC 9110 names; printable values".to_owned(),
                );
                continue;
            };
            if matches!(header, CONTENT_LENGTH | TRANSFER_ENCODING | http::header::CONNECTION) {
                problems.add(&at.at, format!("`{header}` is set by the connection"), "any other header".to_owned());
                continue;
            }
            value.set_sensitive(is_secret_name(header.as_str()));
            if named.contains(&header) {
                self.headers.append(header, value);
            } else {
                self.headers.insert(header.clone(), value);
                named.push(header);
            }
        }
    }

    fn decode_authorization(&mut self, fields: &Fields<'_>, problems: &mut Problems) {
        let bearer = secret(fields, "bearer_token", "bearer_token_file", problems).map(|t| format!("Bearer {}", t.expose_secret()));
        let basic = fields.get("basic_auth").and_then(|n| basic_auth(n, problems));
        let given = [self.headers.contains_key(AUTHORIZATION), bearer.is_some(), basic.is_some()];
        if given.into_iter().filter(|g| *g).count() > 1 {
            problems.add(
                fields.at,
                "more than one Authorization",
                "one of basic_auth, bearer_token, credentials in the URL, an Authorization header".to_owned(),
            );
        }
        if let Some(value) = bearer.or(basic) {
            match sensitive(&value) {
                Some(value) => drop(self.headers.insert(AUTHORIZATION, value)),
                None => problems.add(fields.at, "a credential with characters that no header can carry", "printable ASCII".to_owned()),
            }
        }
    }

    fn decode_connection(&mut self, fields: &Fields<'_>, problems: &mut Problems) {
        let versions = [("auto", Version::Auto), ("1.1", Version::Http1), ("2", Version::Http2)];
        if let Some(version) = fields.get("http_version").and_then(|n| one_of(n, &versions, problems)) {
            self.version = version;
        }
        if let Some(family) = dial::ip_version(fields, problems) {
            self.family = family;
        }
        if let Some(ip) = self.place.ip.filter(|ip| !family_has(self.family, *ip)) {
            problems.add(
                fields.place("ip_version"),
                format!("{ip} in `url` is not of this family"),
                "any, or the address's own".to_owned(),
            );
        }
        if let Some(node) = fields.get("proxy")
            && let Some(mut url) = http_url(node, &["http"], problems)
        {
            let authorization = take_credentials(&mut url);
            self.proxy = Place::of(&url).map(|place| Proxy { place, authorization });
        }
        if let Some(node) = fields.get("resolve") {
            let given = entries(node, problems, |n, problems| parsed(n, "an IPv4 or IPv6 address", problems, |t| t.parse().ok()));
            self.resolve = given.unwrap_or_default();
            if self.resolve.len() > RESOLVE_MAX {
                problems.add(&node.at, format!("{} overrides", self.resolve.len()), format!("at most {RESOLVE_MAX}"));
            }
        }
    }

    fn decode_tls(&mut self, fields: &Fields<'_>, problems: &mut Problems) {
        if let Some(options) = tls::options(fields, alpn(self.version), problems) {
            self.tls = options;
        }
    }
}

const METHODS: [Method; 7] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

fn methods() -> [(&'static str, usize); 7] {
    const WORDS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    std::array::from_fn(|i| (WORDS[i], i))
}

/// The application protocols that are offered in the TLS handshake.
fn alpn(version: Version) -> &'static [&'static [u8]] {
    match version {
        Version::Auto => &[b"h2", b"http/1.1"],
        Version::Http1 => &[b"http/1.1"],
        Version::Http2 => &[b"h2"],
    }
}

fn family_has(family: Family, ip: IpAddr) -> bool {
    match family {
        Family::Any => true,
        Family::V4 => ip.is_ipv4(),
        Family::V6 => ip.is_ipv6(),
    }
}

fn default_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Watchkeeper/", env!("CARGO_PKG_VERSION"))));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers
}

fn http_url(node: &Node, schemes: &[&str], problems: &mut Problems) -> Option<Url> {
    let form = format!("an {} URL", schemes.iter().map(|s| format!("{s}://")).collect::<Vec<_>>().join(" or "));
    let good = |url: &Url| schemes.contains(&url.scheme()) && url.host().is_some() && Place::of(url).is_some();
    let mut url = parsed(node, &form, problems, |t| if t.len() > URL_MAX { None } else { Url::parse(t).ok().filter(good) })?;
    url.set_fragment(None);
    Some(url)
}

fn basic_auth(node: &Node, problems: &mut Problems) -> Option<String> {
    let fields = Fields::open(node, BASIC_KEYS, problems)?;
    let user = fields.require("username", problems).and_then(|n| text(n, problems).map(|t| (n, t)));
    let password = secret(&fields, "password", "password_file", problems).unwrap_or_else(|| SecretString::from(""));
    let (at, user) = user?;
    if user.contains(':') {
        wrong(at, "a text without a colon (RFC 7617)", problems);
        return None;
    }
    Some(basic(&user, password.expose_secret()))
}

/// `1024`, `64KiB`, `10MiB`.
fn parse_size(text: &str) -> Option<usize> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "B"),
    };
    let unit = match unit.trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit).filter(|n| *n <= BODY_MAX)
}
