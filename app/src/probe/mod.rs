//! Probes: the code that makes one attempt for one kind of monitor, one file per kind.
//!
//! A probe states facts about one attempt: an outcome with its reason, phases in µs, evidence. It never
//! decides health, never retries, never sleeps, keeps no memory, and reads no store. The executor owns
//! the limits and the span around it; the probe obeys the deadline itself, because only it knows in
//! which phase the time ran out.
//!
//! A new kind is one file with its `Config` (keys, decode), its type and `impl Probe`, and three lines here:
//! the `mod`, the variant of [`ProbeConfig`], and the arms the compiler then asks for.

mod dial;
pub mod dns;
mod dns_expect;
pub(crate) mod echo;
pub mod http;
pub mod icmp;
pub mod push;
pub mod tcp;
pub mod tls;
pub mod worker;

use crate::config::tagged::{Family, Kind};
use crate::net::{By, Found, Guard, Net, Path};
use crate::spec::Source;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Instant;
use watchkeeper_core::{Measure, Outcome};

/// The kinds of probes as the file names them.
pub const FAMILY: Family<ProbeConfig> =
    Family { what: "probe", common: &[], kinds: KINDS, later_kinds: &["docker", "vm"], later_keys: &[] };

/// One line per kind, in the order in which they are shown.
const KINDS: &[Kind<ProbeConfig>] = &[http::KIND, tcp::KIND, icmp::KIND, dns::KIND, tls::KIND, push::KIND, worker::KIND];

/// A probe's configuration: a closed enum, so that the compiler names what a new kind lacks.
#[derive(Clone, Debug)]
pub enum ProbeConfig {
    /// An HTTP request.
    Http(Box<http::Config>),
    /// A TCP connection, and what is said on it.
    Tcp(tcp::Config),
    /// Echo requests.
    Icmp(icmp::Config),
    /// A question to a name server.
    Dns(dns::Config),
    /// A TLS handshake and its certificates.
    Tls(tls::Config),
    /// Facts are pushed to us.
    Push(push::Config),
    /// What a worker's sidecar says.
    Worker(Box<worker::Config>),
}

impl ProbeConfig {
    /// The kind's word: `http`, `push`, …
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Icmp(_) => "icmp",
            Self::Dns(_) => "dns",
            Self::Tls(_) => "tls",
            Self::Push(_) => "push",
            Self::Worker(_) => "worker",
        }
    }

    /// What is watched, for lists and messages; never with credentials. Empty when there is nothing to name.
    pub fn target(&self) -> String {
        match self {
            Self::Http(config) => config.target(),
            Self::Tcp(config) => config.target(),
            Self::Icmp(config) => config.target(),
            Self::Dns(config) => config.target(),
            Self::Tls(config) => config.target(),
            Self::Push(_) => String::new(),
            Self::Worker(config) => config.target(),
        }
    }

    /// What makes the facts, ready to use.
    pub fn build(&self) -> Source {
        match self {
            Self::Http(config) => Source::Probe(config.build()),
            Self::Tcp(config) => Source::Probe(config.build()),
            Self::Icmp(config) => Source::Probe(config.build()),
            Self::Dns(config) => Source::Probe(config.build()),
            Self::Tls(config) => Source::Probe(config.build()),
            Self::Push(config) => Source::Push { expect_every: config.expect_every, grace: config.grace },
            Self::Worker(config) => Source::Probe(config.build()),
        }
    }

    /// What attempts of this kind measure: what rules may name.
    pub const fn measures(&self) -> &'static [Measure] {
        match self {
            Self::Http(_) | Self::Worker(_) => http::MEASURES,
            Self::Tcp(_) => &[
                Measure::Total,
                Measure::Dns,
                Measure::Connect,
                Measure::Tls,
                Measure::FirstByte,
                Measure::Transfer,
                Measure::CertDaysLeft,
            ],
            Self::Icmp(_) => &[Measure::Total, Measure::Dns, Measure::FirstByte, Measure::LossPermille, Measure::Jitter],
            Self::Dns(_) => &[Measure::Total, Measure::Dns, Measure::Connect, Measure::FirstByte, Measure::Transfer],
            Self::Tls(_) => &[Measure::Total, Measure::Dns, Measure::Connect, Measure::Tls, Measure::CertDaysLeft],
            Self::Push(_) => &[],
        }
    }
}

/// What every attempt is given.
#[derive(Clone)]
pub struct ProbeContext {
    /// Names, sockets and TLS.
    pub net: Arc<Net>,
    /// The attempt must have returned by then.
    pub deadline: Instant,
    /// Whether to keep what is only stored when asked: response headers and the head of the body.
    pub want_detail: bool,
    /// Which addresses may be reached.
    pub guard: Guard,
    /// Which way to take to the target.
    pub path: Path,
}

/// Makes one attempt.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Makes one attempt and returns before the deadline. A failing target is a value, not an error.
    async fn attempt(&self, cx: &ProbeContext) -> Attempt;
}

/// The facts of one attempt. The same type is printed by `probe --json`, stored as heartbeat detail and returned by the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Attempt {
    /// What was found: `{"up"}`, `{"down": reason}`, `{"unknown": why}`; printed flattened by [`Attempt::to_json`].
    #[cfg_attr(test, schemars(with = "serde_json::Value"))]
    pub outcome: Outcome,
    /// What exactly went wrong, for a person: names the place and the values, never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// One per request of an HTTP redirect chain or to a worker's sidecar; one for tcp, tls, dns and icmp.
    pub hops: Vec<Hop>,
    /// The whole attempt in µs: the sum of all phases of all hops.
    pub total_us: u64,
    /// What only HTTP knows; of the last response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpFacts>,
    /// The certificate chain of the last TLS handshake, also of a failed one if it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "crate::web::types::schemas::CertificateForm"))]
    pub certificate: Option<crate::net::tls::CertificateFacts>,
    /// What only DNS knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsFacts>,
    /// What only ICMP knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpFacts>,
    /// What a worker's sidecar said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Box<worker::WorkerFacts>>,
    /// How the first path to the target failed, when a second one was tried: `first path: …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_path: Option<String>,
}

/// One connection: phases in µs. A phase that did not happen is 0; one that was cut short holds its time until then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hop {
    /// What was asked, without credentials.
    pub url: String,
    /// The address that was connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What the host's name stood for, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Box<Resolved>>,
    /// Name resolution.
    pub dns_us: u64,
    /// TCP connect.
    pub connect_us: u64,
    /// TLS handshake (with STARTTLS, the talk before it too).
    pub tls_us: u64,
    /// From the start of writing the request to the first byte of the response.
    pub first_byte_us: u64,
    /// From the first byte of the response to the last one read.
    pub transfer_us: u64,
    /// HTTP status, DNS response code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// What a name server, or this node's own list, said about a host's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Resolved {
    /// The name server that answered; absent when this node knew by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// In the order in which they are tried; at most as many as are kept of an answer.
    pub addresses: Vec<String>,
}

impl Resolved {
    /// Of a host that was given by name; boxed, for most hops of a large fleet have none.
    pub fn of(found: &Found) -> Option<Box<Self>> {
        let server = match found.by {
            By::Itself => return None,
            By::Node => None,
            By::Server(server) => Some(server.to_string()),
        };
        Some(Box::new(Self { server, addresses: found.addresses.iter().map(ToString::to_string).collect() }))
    }
}

impl Hop {
    /// All phases together.
    pub const fn sum_us(&self) -> u64 {
        self.dns_us + self.connect_us + self.tls_us + self.first_byte_us + self.transfer_us
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "url": self.url,
            "address": self.address,
            "dns_us": self.dns_us,
            "connect_us": self.connect_us,
            "tls_us": self.tls_us,
            "first_byte_us": self.first_byte_us,
            "transfer_us": self.transfer_us,
            "status": self.status,
        })
    }
}

/// What only HTTP knows, of the last response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HttpFacts {
    /// `HTTP/1.1`, `HTTP/2`.
    pub version: String,
    /// Status of the last response.
    pub status: u16,
    /// Body bytes read.
    pub body_bytes: u64,
    /// `Content-Length`, if sent.
    pub content_length: Option<u64>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Server`.
    pub server: Option<String>,
    /// `CF-Cache-Status`, else `X-Cache`.
    pub cache_status: Option<String>,
    /// Request headers as sent, secrets replaced by `***`; on failure, change or when asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<(String, String)>,
    /// Response headers, `Set-Cookie` values replaced by `***`; on failure, change or when asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<(String, String)>,
    /// The head of the body, at most `keep_body` bytes, lossy UTF-8; on failure or when asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_head: Option<String>,
}

/// So much of a body is kept as evidence unless the monitor says otherwise. More fills the store; less hides the error text of most pages.
pub const BODY_HEAD_MAX: usize = 2_048;

/// What only DNS knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DnsFacts {
    /// `NOERROR`, `NXDOMAIN`, …
    pub rcode: String,
    /// Answers as text, at most 64.
    pub answers: Vec<String>,
    /// Records in the sections of the answer.
    pub answer_count: u16,
    /// Records in the authority section.
    pub authority_count: u16,
    /// Records in the additional section.
    pub additional_count: u16,
    /// `udp` or `tcp`.
    pub transport: String,
}

/// What only ICMP knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IcmpFacts {
    /// Echo requests sent.
    pub sent: u16,
    /// Replies received.
    pub received: u16,
    /// Mean round trip in µs.
    pub rtt_us: u64,
    /// Mean deviation of the round trip in µs.
    pub jitter_us: u64,
    /// Lost packets in thousandths.
    pub loss_permille: u16,
    /// `datagram` or `raw`.
    pub socket: String,
}

impl Attempt {
    /// An attempt that ended before anything was measured.
    pub fn ended(outcome: Outcome, error: Option<String>) -> Self {
        Self {
            outcome,
            error,
            hops: Vec::new(),
            total_us: 0,
            http: None,
            certificate: None,
            dns: None,
            icmp: None,
            worker: None,
            first_path: None,
        }
    }

    /// The one object of `probe --json`: `{outcome, error_kind?, error?, hops, total_us, certificate?, worker?}`, with plain words
    /// for the outcome and its reason, and `null` in a hop for what is not known.
    pub fn to_json(&self) -> serde_json::Value {
        let hops: Vec<serde_json::Value> = self.hops.iter().map(Hop::to_json).collect();
        let mut object = serde_json::json!({ "outcome": self.outcome.word(), "hops": hops, "total_us": self.total_us });
        if let Some(kind) = self.outcome.why() {
            object["error_kind"] = kind.into();
        }
        if let Some(error) = &self.error {
            object["error"] = error.as_str().into();
        }
        if let Some(certificate) = &self.certificate {
            object["certificate"] = serde_json::json!(certificate);
        }
        if let Some(worker) = &self.worker {
            object["worker"] = serde_json::json!(worker);
        }
        object
    }

    /// The sum of one phase over all hops, in µs.
    pub fn phase(&self, phase: Measure) -> u64 {
        let of = |f: fn(&Hop) -> u64| self.hops.iter().map(f).sum();
        match phase {
            Measure::Total => self.total_us,
            Measure::Dns => of(|h| h.dns_us),
            Measure::Connect => of(|h| h.connect_us),
            Measure::Tls => of(|h| h.tls_us),
            Measure::FirstByte => of(|h| h.first_byte_us),
            Measure::Transfer => of(|h| h.transfer_us),
            Measure::CertDaysLeft | Measure::LossPermille | Measure::Jitter => 0,
        }
    }
}
