//! TLS: connect, talk STARTTLS where asked, shake hands, and look at the whole certificate chain.
//!
//! How many days a certificate has left is a measure; whether that is too few is a rule's business (`ssl_expiry`).

use super::dial::{self, Endpoint, IP_VERSION, Laps, dial};
use super::{Attempt, Hop, Probe, ProbeConfig, ProbeContext};
use crate::config::decode::{Fields, Key, Node, Problems, beside, boolean, one_of, parsed, text};
use crate::config::tagged::Kind;
use crate::net::starttls::{Starttls, talk};
use crate::net::tls::CertificateFacts;
use crate::net::tls::{LazySettings, MinVersion, TlsOptions, handshake, server_name};
use crate::net::{Family, Fault};
use async_trait::async_trait;
use rustls::pki_types::ServerName;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// `insecure_skip_verify:`
pub const INSECURE_SKIP_VERIFY: Key =
    Key { name: "insecure_skip_verify", form: "true or false", default: "false", doc: "Accept any certificate; its dates are still read." };
/// `ca_file:`
pub const CA_FILE: Key = Key {
    name: "ca_file",
    form: "a PEM file",
    default: "",
    doc: "The only roots to trust, in place of the system's; a server's own certificate may stand here.",
};
/// `cert_file:`
pub const CERT_FILE: Key =
    Key { name: "cert_file", form: "a PEM file", default: "", doc: "The client's certificate chain; needs key_file." };
/// `key_file:`
pub const KEY_FILE: Key = Key { name: "key_file", form: "a PEM file", default: "", doc: "The private key of cert_file; needs it." };
/// `min_tls_version:`
pub const MIN_TLS_VERSION: Key = Key {
    name: "min_tls_version",
    form: "\"1.2\" or \"1.3\"",
    default: "\"1.2\"",
    doc: "A server that only speaks older versions is down.",
};

/// The keys of [`options`], for sections that have no others.
pub const OPTION_KEYS: &[Key] = &[SERVER_NAME, INSECURE_SKIP_VERIFY, CA_FILE, CERT_FILE, KEY_FILE, MIN_TLS_VERSION];

/// `server_name:`
pub const SERVER_NAME: Key = Key {
    name: "server_name",
    form: "a host name or an address",
    default: "",
    doc: "The name to ask for and to verify; the address's host if absent.",
};

/// Keys of `tls:`.
pub const KEYS: &[Key] = &[
    Key { name: "address", form: "host:port", default: "", doc: "Where to connect." },
    Key {
        name: "starttls",
        form: "smtp, imap or postgres",
        default: "",
        doc: "The plain protocol that is spoken first; without it TLS begins at once.",
    },
    SERVER_NAME,
    INSECURE_SKIP_VERIFY,
    CA_FILE,
    CERT_FILE,
    KEY_FILE,
    MIN_TLS_VERSION,
    IP_VERSION,
];

/// The line of the list of kinds.
pub const KIND: Kind<ProbeConfig> = Kind {
    name: "tls",
    doc: "A TLS handshake and the whole certificate chain.",
    keys: KEYS,
    sections: &[],
    examples: &[("address", "mail.example.org:465")],
    address: &["address", "starttls"],
    decode: |node, problems| Config::decode(node, problems).map(ProbeConfig::Tls),
};

/// Reads the keys that every TLS connection has. All of [`OPTION_KEYS`] but `server_name` must stand in its section's list.
pub fn options(fields: &Fields<'_>, alpn: &'static [&'static [u8]], problems: &mut Problems) -> Option<TlsOptions> {
    const VERSIONS: &[(&str, MinVersion)] = &[("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
    let mut path = |key: &'static str| fields.get(key).map(|n| text(n, problems).map(|t| beside(&n.at, &t)));
    let (ca, cert, key) = (path(CA_FILE.name), path(CERT_FILE.name), path(KEY_FILE.name));
    if cert.is_some() != key.is_some() {
        let at = fields.place(if cert.is_some() { CERT_FILE.name } else { KEY_FILE.name });
        problems.add(at, "a client certificate needs both `cert_file` and `key_file`", "both, or neither".to_owned());
        return None;
    }
    let skip = fields.get(INSECURE_SKIP_VERIFY.name).map_or(Some(false), |n| boolean(n, problems));
    let min_version = fields.get(MIN_TLS_VERSION.name).map_or(Some(MinVersion::Tls12), |n| one_of(n, VERSIONS, problems));
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert?, key?)),
        (None, _) | (_, None) => None,
    };
    let ca_file = match ca {
        Some(path) => Some(path?),
        None => None,
    };
    Some(TlsOptions { verify: !skip?, ca_file, client, min_version: min_version?, alpn })
}

/// Reads `server_name:`; what is not given is the host.
pub fn server_name_of(fields: &Fields<'_>, host: &str, problems: &mut Problems) -> Option<ServerName<'static>> {
    if let Some(node) = fields.get(SERVER_NAME.name) {
        return parsed(node, SERVER_NAME.form, problems, server_name);
    }
    let name = server_name(host);
    if name.is_none() {
        problems.add(fields.at, format!("`{host}` is no name that a certificate could have"), "a `server_name`".to_owned());
    }
    name
}

/// What `tls:` says.
#[derive(Clone, Debug)]
pub struct Config {
    address: Endpoint,
    server_name: ServerName<'static>,
    starttls: Option<Starttls>,
    tls: TlsOptions,
    family: Family,
}

impl Config {
    /// Reads the section; `None` after a problem was noted.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        const KINDS: &[(&str, Starttls)] = &[("smtp", Starttls::Smtp), ("imap", Starttls::Imap), ("postgres", Starttls::Postgres)];
        let fields = Fields::open(node, KEYS, problems)?;
        let address = fields.require("address", problems).and_then(|n| Endpoint::decode(n, problems));
        let server_name = address.as_ref().and_then(|a| server_name_of(&fields, &a.host, problems));
        let starttls = match fields.get("starttls") {
            Some(node) => one_of(node, KINDS, problems).map(Some),
            None => Some(None),
        };
        let tls = options(&fields, &[], problems);
        let family = dial::ip_version(&fields, problems);
        Some(Self { address: address?, server_name: server_name?, starttls: starttls?, tls: tls?, family: family? })
    }

    /// What is watched.
    pub fn target(&self) -> String {
        format!("tls://{}", self.address)
    }

    /// Ready to attempt.
    pub fn build(&self) -> Box<dyn Probe> {
        Box::new(TlsProbe { config: self.clone(), settings: LazySettings::new(self.tls.clone()) })
    }
}

/// Saying goodbye takes at most so long. Longer delays the verdict for a courtesy; none at all fills servers' logs with errors.
const FAREWELL_MAX: Duration = Duration::from_millis(100);

struct TlsProbe {
    config: Config,
    settings: LazySettings,
}

#[async_trait]
impl Probe for TlsProbe {
    async fn attempt(&self, cx: &ProbeContext) -> Attempt {
        let mut hop = Hop { url: self.config.target(), ..Hop::default() };
        let mut certificate = None;
        let fault = self.look(cx, &mut hop, &mut certificate).await.err();
        Attempt { certificate, ..dial::ended(hop, fault) }
    }
}

impl TlsProbe {
    async fn look(&self, cx: &ProbeContext, hop: &mut Hop, certificate: &mut Option<CertificateFacts>) -> Result<(), Fault> {
        let config = &self.config;
        let settings = self.settings.get(&cx.net.tls)?;
        let mut laps = Laps::start();
        let mut stream = dial(cx, &config.address, config.family, hop, &mut laps).await?;
        if let Some(kind) = config.starttls {
            let talked = talk(kind, &mut stream, cx.deadline).await;
            hop.tls_us = laps.lap();
            talked?;
        }
        let shaken = handshake(stream, config.server_name.clone(), &settings, cx.deadline).await;
        hop.tls_us += laps.lap();
        match shaken {
            Ok((mut stream, peer)) => {
                *certificate = peer.facts();
                let until = cx.deadline.min(Instant::now() + FAREWELL_MAX);
                // The facts are there; how the server takes its leave changes nothing.
                let _ = tokio::time::timeout_at(until.into(), stream.shutdown()).await;
                Ok(())
            }
            Err(failed) => {
                *certificate = failed.certificate;
                Err(failed.fault)
            }
        }
    }
}
