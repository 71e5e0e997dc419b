//! TLS handshakes whose faults have names, and the facts of the certificates seen in them.
//!
//! Every handshake is a full one: resumption is off, because a resumed session shows no certificate and
//! measures nothing. The verdict on a chain is webpki's; [`Judge`] stands around it, names what webpki
//! refused, and carries the chain out inside the error, so that a refused certificate can still be shown.
//! Faults are told apart by types and by the first byte on the wire, never by the text of an error.
//!
//! Settings are made once per distinct [`TlsOptions`] and shared: ten thousand monitors with the same
//! options hold one configuration. Files are read when the first attempt needs them; a file that cannot be
//! read is our own fault and is tried again at the next attempt.

use crate::clock::Clock;
use crate::net::Fault;
use crate::net::certificate::{self, Flaw};
use crate::net::sniff::{FirstByte, Sniffed};
use crate::probe::CertificateFacts;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, PeerIncompatible, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use watchkeeper_core::{Blind, Reason};

/// The oldest TLS version that a monitor accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MinVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// What one monitor or channel wants of its TLS connections. Equal options share their settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsOptions {
    /// Whether a chain that is not good for the host ends the attempt.
    pub verify: bool,
    /// PEM file with the only roots to trust, in place of the system's. A certificate that stands in
    /// it is trusted as it is, also when it is a server's own.
    pub ca_file: Option<PathBuf>,
    /// PEM files with the client's certificate chain and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Older versions are a fault.
    pub min_version: MinVersion,
    /// Offered application protocols (RFC 7301), best first.
    pub alpn: &'static [&'static [u8]],
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { verify: true, ca_file: None, client: None, min_version: MinVersion::default(), alpn: &[] }
    }
}

/// Why settings could not be made: our own fault, never the target's.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A PEM file could not be read or parsed.
    #[error("cannot read PEM from {path}")]
    Pem {
        /// As configured.
        path: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A PEM file has no certificate that could be a root.
    #[error("{path} holds no usable certificate")]
    NoRoots {
        /// As configured.
        path: String,
    },
    /// rustls refused the client certificate, its key, or the versions.
    #[error("the client certificate or key is not usable")]
    Client(#[source] Error),
    /// webpki refused the roots.
    #[error("the trusted roots are not usable")]
    Roots(#[source] rustls::client::VerifierBuilderError),
}

/// Makes and shares settings. One per node.
pub struct Tls {
    clock: Clock,
    provider: Arc<CryptoProvider>,
    system_roots: OnceLock<Arc<RootCertStore>>,
    made: Mutex<HashMap<TlsOptions, Weak<TlsSettings>>>,
}

/// What handshakes with the same options share.
pub struct TlsSettings {
    config: Arc<ClientConfig>,
    judge: Arc<Judge>,
    clock: Clock,
    min_version: MinVersion,
}

impl Tls {
    /// Validity is judged at the time of `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock, provider: Arc::new(rustls::crypto::ring::default_provider()), system_roots: OnceLock::new(), made: Mutex::default() }
    }

    /// The settings for these options. Reads files the first time: keep the result.
    pub fn settings(&self, options: &TlsOptions) -> Result<Arc<TlsSettings>, TlsSetupError> {
        let mut made = match self.made.lock() {
            Ok(made) => made,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some(settings) = made.get(options).and_then(Weak::upgrade) {
            return Ok(settings);
        }
        let settings = Arc::new(self.make(options)?);
        made.retain(|_, kept| kept.strong_count() > 0);
        made.insert(options.clone(), Arc::downgrade(&settings));
        Ok(settings)
    }

    fn make(&self, options: &TlsOptions) -> Result<TlsSettings, TlsSetupError> {
        let (roots, pinned) = match &options.ca_file {
            Some(path) => read_roots(path)?,
            None => (Arc::clone(self.system_roots.get_or_init(system_roots)), Vec::new()),
        };
        let webpki =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider)).build().map_err(TlsSetupError::Roots)?;
        let judge = Arc::new(Judge { webpki, pinned, verify: options.verify });
        let versions: &[&SupportedProtocolVersion] = match options.min_version {
            MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            MinVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let time = Arc::new(OurTime(self.clock.clone()));
        let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&judge) as _;
        let builder = ClientConfig::builder_with_details(Arc::clone(&self.provider), time)
            .with_protocol_versions(versions)
            .map_err(TlsSetupError::Client)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &options.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(read_chain(chain)?, read_key(key)?).map_err(TlsSetupError::Client)?,
        };
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = options.alpn.iter().map(|p| p.to_vec()).collect();
        Ok(TlsSettings { config: Arc::new(config), judge, clock: self.clock.clone(), min_version: options.min_version })
    }
}

/// The system's roots, or Mozilla's as compiled in where the system has none (an image made from scratch).
fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(roots)
}

fn pem_error(path: &Path, source: rustls::pki_types::pem::Error) -> TlsSetupError {
    TlsSetupError::Pem { path: path.display().to_string(), source }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| pem_error(path, e))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| pem_error(path, e))
}

fn read_roots(path: &Path) -> Result<(Arc<RootCertStore>, Vec<CertificateDer<'static>>), TlsSetupError> {
    let pinned = read_chain(path)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(pinned.iter().cloned());
    if roots.is_empty() {
        return Err(TlsSetupError::NoRoots { path: path.display().to_string() });
    }
    Ok((Arc::new(roots), pinned))
}

/// rustls asks for the time here, so that a certificate and a heartbeat are judged by the same clock.
#[derive(Debug)]
struct OurTime(Clock);

impl rustls::time_provider::TimeProvider for OurTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since_1970 = Duration::from_micros(u64::try_from(self.0.now().0).ok()?);
        Some(UnixTime::since_unix_epoch(since_1970))
    }
}

/// webpki's verifier, with its refusals named.
#[derive(Debug)]
struct Judge {
    webpki: Arc<WebPkiServerVerifier>,
    /// The certificates of `ca_file`: a server that presents one of them is trusted for what it is, which
    /// webpki alone would refuse (a self-signed certificate is usually marked as a CA).
    pinned: Vec<CertificateDer<'static>>,
    verify: bool,
}

/// A refused chain on its way out through rustls.
#[derive(Debug, thiserror::Error)]
#[error("{}", flaw.text)]
struct Refused {
    flaw: Flaw,
    chain: Vec<CertificateDer<'static>>,
}

impl Judge {
    fn judge(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], name: &ServerName<'_>, now: UnixTime) -> Result<(), Flaw> {
        let Err(error) = self.webpki.verify_server_cert(leaf, others, name, &[], now) else { return Ok(()) };
        let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if self.pinned.iter().any(|p| p == leaf) {
            return certificate::pinned_flaw(leaf, name, now_s).map_or(Ok(()), Err);
        }
        let Error::InvalidCertificate(error) = error else {
            return Err(Flaw { reason: Reason::TlsBadCertificate, text: format!("the certificate cannot be judged: {error}") });
        };
        Err(certificate::flaw(&error, leaf, others, name, now_s))
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.verify {
            return Ok(ServerCertVerified::assertion());
        }
        self.judge(leaf, others, name, now).map(|()| ServerCertVerified::assertion()).map_err(|flaw| {
            let chain = std::iter::once(leaf).chain(others).map(|c| c.clone().into_owned()).collect();
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused { flaw, chain }))))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.verify {
            return Ok(HandshakeSignatureValid::assertion());
        }
        self.webpki.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.verify {
            return Ok(HandshakeSignatureValid::assertion());
        }
        self.webpki.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// A stream after its handshake.
pub type TlsStream<S> = tokio_rustls::client::TlsStream<Sniffed<S>>;

/// A failed handshake.
#[derive(Debug)]
pub struct TlsFault {
    /// What went wrong.
    pub fault: Fault,
    /// The chain, if the server got so far as to show one.
    pub certificate: Option<CertificateFacts>,
}

/// What the server showed in a completed handshake.
#[derive(Debug)]
pub struct Peer {
    chain: Vec<CertificateDer<'static>>,
    protocol: &'static str,
    cipher: &'static str,
    valid: bool,
    now_s: i64,
}

impl Peer {
    /// Without the chain's names and digests: only what rules and metrics need, cheap enough for every attempt.
    pub fn brief(&self) -> Option<CertificateFacts> {
        certificate::brief(&self.chain, self.now_s).map(|facts| self.complete(facts))
    }

    /// Everything.
    pub fn facts(&self) -> Option<CertificateFacts> {
        certificate::facts(&self.chain, self.now_s).map(|facts| self.complete(facts))
    }

    fn complete(&self, facts: CertificateFacts) -> CertificateFacts {
        CertificateFacts { protocol: Some(self.protocol.to_owned()), cipher: Some(self.cipher.to_owned()), valid: self.valid, ..facts }
    }
}

/// The name to verify, from a host as it stands in a URL or address: brackets and the root's dot are dropped.
/// `None` if no certificate could be for it.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.strip_suffix('.').unwrap_or(bare).to_owned()).ok()
}

/// Makes a full handshake.
///
/// # Errors
/// A [`TlsFault`] that names what went wrong; running past `deadline` is [`Reason::TlsTimeout`].
pub async fn handshake<S>(
    stream: S,
    name: ServerName<'static>,
    settings: &TlsSettings,
    deadline: Instant,
) -> Result<(TlsStream<S>, Peer), TlsFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sniffed, first) = Sniffed::new(stream);
    let connecting = tokio_rustls::TlsConnector::from(Arc::clone(&settings.config)).connect(name.clone(), sniffed);
    let stream = match tokio::time::timeout_at(deadline.into(), connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(settings.fault(&error, &first)),
        Err(_elapsed) => {
            let late = || Fault::down(Reason::TlsTimeout, "the TLS handshake did not finish in time");
            return Err(TlsFault::from(first.not_tls().unwrap_or_else(late)));
        }
    };
    let (_, session) = stream.get_ref();
    let chain: Vec<CertificateDer<'static>> = session.peer_certificates().unwrap_or_default().to_vec();
    let now = settings.clock.now();
    let valid = settings.judge.verify || settings.would_accept(&chain, &name);
    let peer = Peer {
        protocol: session.protocol_version().and_then(|v| v.as_str()).map_or("unknown", version_word),
        cipher: session.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or("unknown"),
        chain,
        valid,
        now_s: now.0.div_euclid(1_000_000),
    };
    Ok((stream, peer))
}

/// As openssl and blackbox_exporter write it.
fn version_word(name: &'static str) -> &'static str {
    match name {
        "TLSv1_3" => "TLSv1.3",
        "TLSv1_2" => "TLSv1.2",
        other => other,
    }
}

impl From<Fault> for TlsFault {
    fn from(fault: Fault) -> Self {
        Self { fault, certificate: None }
    }
}

impl TlsSettings {
    fn would_accept(&self, chain: &[CertificateDer<'static>], name: &ServerName<'_>) -> bool {
        let now = rustls::time_provider::TimeProvider::current_time(&OurTime(self.clock.clone()));
        match (chain.split_first(), now) {
            (Some((leaf, others)), Some(now)) => self.judge.judge(leaf, others, name, now).is_ok(),
            (None, _) | (_, None) => false,
        }
    }

    fn fault(&self, error: &std::io::Error, first: &FirstByte) -> TlsFault {
        if let Some(fault) = first.not_tls() {
            return fault.into();
        }
        let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<Error>()) else {
            return Fault::io(error, Reason::TcpClosed, "during the TLS handshake").into();
        };
        if let Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = tls
            && let Some(refused) = inner.downcast_ref::<Refused>()
        {
            let facts = certificate::facts(&refused.chain, self.clock.now().0.div_euclid(1_000_000));
            return TlsFault { certificate: facts, fault: Fault::down(refused.flaw.reason, refused.flaw.text.clone()) };
        }
        self.protocol_fault(tls).into()
    }

    fn protocol_fault(&self, error: &Error) -> Fault {
        let oldest = match self.min_version {
            MinVersion::Tls12 => "1.2",
            MinVersion::Tls13 => "1.3",
        };
        if is_too_old(error) {
            return Fault::down(Reason::TlsProtocolTooOld, format!("the server does not speak TLS {oldest} or newer: {error}"));
        }
        error_fault(error).unwrap_or_else(|| Fault::unknown(Blind::Internal, format!("the TLS handshake failed inside: {error}")))
    }
}

fn is_too_old(error: &Error) -> bool {
    matches!(
        error,
        Error::AlertReceived(AlertDescription::ProtocolVersion)
            | Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            )
    )
}

/// What a TLS error of the peer means; `None` for those that are ours. Reads after the handshake can meet them too:
/// under TLS 1.3 a server that wants a client certificate says so only then.
fn error_fault(error: &Error) -> Option<Fault> {
    if let Error::AlertReceived(alert) = error {
        return Some(Fault::down(Reason::TlsRefused, format!("the server sent the TLS alert {}", alert_word(*alert))));
    }
    if matches!(error, Error::PeerIncompatible(_) | Error::NoApplicationProtocol) {
        return Some(Fault::down(Reason::TlsRefused, format!("no common ground for TLS: {error}")));
    }
    if matches!(error, Error::NoCertificatesPresented | Error::InvalidCertificate(_) | Error::UnsupportedNameType) {
        return Some(Fault::down(Reason::TlsBadCertificate, format!("the certificate is not acceptable: {error}")));
    }
    let broken = matches!(
        error,
        Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord
    );
    broken.then(|| Fault::down(Reason::TlsNotTls, format!("the server broke the TLS protocol: {error}")))
}

/// `handshake_failure`, as RFC 8446 writes it.
fn alert_word(alert: AlertDescription) -> String {
    let Some(name) = alert.as_str() else { return format!("{}", u8::from(alert)) };
    let mut word = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

/// The fault inside an I/O error of a [`TlsStream`], if TLS is what went wrong.
pub fn stream_fault(error: &std::io::Error) -> Option<Fault> {
    error.get_ref().and_then(|e| e.downcast_ref::<Error>()).and_then(error_fault)
}

/// The settings of one probe or channel, made when first needed: building one must not read files.
pub struct LazySettings {
    options: TlsOptions,
    made: OnceLock<Arc<TlsSettings>>,
}

impl LazySettings {
    /// Nothing is read yet.
    pub const fn new(options: TlsOptions) -> Self {
        Self { options, made: OnceLock::new() }
    }

    /// The settings; a file that cannot be read is [`Blind::Setup`] and is tried again at the next call.
    pub fn get(&self, tls: &Tls) -> Result<&Arc<TlsSettings>, Fault> {
        if let Some(settings) = self.made.get() {
            return Ok(settings);
        }
        let made = tls.settings(&self.options).map_err(|error| Fault::unknown(Blind::Setup, chain_text(&error)))?;
        Ok(self.made.get_or_init(|| made))
    }
}

/// An error with all its causes.
fn chain_text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
