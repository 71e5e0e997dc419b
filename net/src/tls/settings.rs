//! Settings of TLS connections: made once per distinct [`TlsOptions`] and shared, so that ten thousand monitors with the
//! same options hold one configuration.
//!
//! Files are read when the first attempt needs them, and again from time to time: certificates are renewed in place. A file
//! that cannot be read is our own fault; it is tried again at the next attempt, and what was read before stays in use.

use super::judge::Judge;
use crate::Fault;
use crate::clock::Clock;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{ClientConfig, Error, RootCertStore, SupportedProtocolVersion};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};
use watchkeeper_core::Blind;

/// Files are read again after so long. Longer lets a renewed client certificate wait; shorter reads the same bytes at every attempt.
const FILES_FRESH: Duration = Duration::from_mins(1);

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
    pub(super) config: Arc<ClientConfig>,
    pub(super) judge: Arc<Judge>,
    pub(super) clock: Clock,
    pub(super) min_version: MinVersion,
    /// When its files were read; `None` without files.
    files_read: Option<Instant>,
}

impl TlsSettings {
    fn fresh(&self) -> bool {
        self.files_read.is_none_or(|at| at.elapsed() < FILES_FRESH)
    }
}

impl Tls {
    /// Validity is judged at the time of `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock, provider: Arc::new(rustls::crypto::ring::default_provider()), system_roots: OnceLock::new(), made: Mutex::default() }
    }

    /// The settings for these options. May read files: keep the result, best in [`LazySettings`].
    pub fn settings(&self, options: &TlsOptions) -> Result<Arc<TlsSettings>, TlsSetupError> {
        let mut made = lock(&self.made);
        if let Some(settings) = made.get(options).and_then(Weak::upgrade).filter(|s| s.fresh()) {
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
        let judge = Arc::new(Judge::new(webpki, pinned, options.verify));
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
        let files_read = (options.ca_file.is_some() || options.client.is_some()).then(Instant::now);
        Ok(TlsSettings { config: Arc::new(config), judge, clock: self.clock.clone(), min_version: options.min_version, files_read })
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
pub(super) struct OurTime(pub(super) Clock);

impl rustls::time_provider::TimeProvider for OurTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since_1970 = Duration::from_micros(u64::try_from(self.0.now().0).ok()?);
        Some(UnixTime::since_unix_epoch(since_1970))
    }
}

/// The settings of one probe or channel, made when first needed: building one must not read files.
pub struct LazySettings {
    options: TlsOptions,
    made: Mutex<Option<Arc<TlsSettings>>>,
}

impl LazySettings {
    /// Nothing is read yet.
    pub const fn new(options: TlsOptions) -> Self {
        Self { options, made: Mutex::new(None) }
    }

    /// The settings; files that never could be read are [`Blind::Setup`].
    pub fn get(&self, tls: &Tls) -> Result<Arc<TlsSettings>, Fault> {
        let mut made = lock(&self.made);
        if let Some(settings) = made.as_ref().filter(|s| s.fresh()) {
            return Ok(Arc::clone(settings));
        }
        match (tls.settings(&self.options), &*made) {
            (Ok(settings), _) => Ok(Arc::clone(made.insert(settings))),
            (Err(_), Some(before)) => Ok(Arc::clone(before)),
            (Err(error), None) => Err(Fault::unknown(Blind::Setup, chain_text(&error))),
        }
    }
}

/// What is behind these locks is whole at every moment, so a panic of another holder breaks nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// An error with all its causes.
fn chain_text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> (TlsOptions, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, rcgen::generate_simple_self_signed(["root".to_owned()]).unwrap().cert.pem()).unwrap();
        (TlsOptions { ca_file: Some(path), ..TlsOptions::default() }, dir)
    }

    fn aged(tls: &Tls, options: &TlsOptions) -> Arc<TlsSettings> {
        let mut settings = tls.make(options).unwrap();
        settings.files_read = Instant::now().checked_sub(FILES_FRESH);
        Arc::new(settings)
    }

    #[test]
    fn equal_options_share_their_settings() {
        let tls = Tls::new(Clock::system());
        let (options, _dir) = options();
        let (one, two) = (LazySettings::new(options.clone()), LazySettings::new(options.clone()));
        assert!(Arc::ptr_eq(&one.get(&tls).unwrap(), &two.get(&tls).unwrap()));
        let other = LazySettings::new(TlsOptions { verify: false, ..options });
        assert!(!Arc::ptr_eq(&one.get(&tls).unwrap(), &other.get(&tls).unwrap()));
    }

    #[test]
    fn files_are_read_again_and_a_lost_one_changes_nothing() {
        let tls = Tls::new(Clock::system());
        let (options, dir) = options();
        let lazy = LazySettings::new(options.clone());
        let old = aged(&tls, &options);
        *lock(&lazy.made) = Some(Arc::clone(&old));
        let renewed = lazy.get(&tls).unwrap();
        assert!(!Arc::ptr_eq(&old, &renewed));
        assert!(Arc::ptr_eq(&renewed, &lazy.get(&tls).unwrap()), "and then kept");
        let old = aged(&tls, &options);
        drop((dir, renewed));
        *lock(&lazy.made) = Some(Arc::clone(&old));
        assert!(Arc::ptr_eq(&old, &lazy.get(&tls).unwrap()));
    }
}
