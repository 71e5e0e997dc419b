//! Certificates made for one test: authorities, leaves with a flaw, and servers that show them.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::NamedTempFile;

/// Validity from and until the first of January of these years.
pub type Years = (i32, i32);
/// Valid for as long as these tests live.
pub const GOOD: Years = (2020, 2090);
/// Not valid any more.
pub const PAST: Years = (2020, 2021);
/// Not valid yet.
pub const FUTURE: Years = (2089, 2090);

/// Who signs.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The authorities between the root and this one, this one first; empty for a root.
    above: Vec<CertificateDer<'static>>,
}

/// A chain and its key, as a server needs them.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

fn params(common_name: &str, names: &[&str], years: Years) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params
}

impl Authority {
    /// A root.
    pub fn root(common_name: &str) -> Self {
        let mut params = params(common_name, &[], GOOD);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(), above: Vec::new() }
    }

    /// An authority below this one.
    pub fn below(&self, common_name: &str, years: Years) -> Self {
        let mut params = params(common_name, &[], years);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.issuer).unwrap();
        let above = std::iter::once(issuer.der().clone()).chain(self.above.iter().cloned()).collect();
        Self { issuer, above }
    }

    /// A certificate for these names.
    pub fn issue(&self, names: &[&str], years: Years) -> Identity {
        self.issue_with(names, years, |_| {})
    }

    /// The same for a client, which no server may use.
    pub fn issue_for_client(&self, names: &[&str]) -> Identity {
        self.issue_with(names, GOOD, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn issue_with(&self, names: &[&str], years: Years, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = params("leaf", names, years);
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let chain = std::iter::once(leaf.der().clone()).chain(self.above.iter().cloned()).collect();
        Identity { chain, key: key.serialize_der() }
    }

    /// Its certificate as a file.
    pub fn file(&self) -> NamedTempFile {
        file(&self.issuer.pem())
    }
}

/// A certificate that signed itself; `as_ca` as most tools make it.
pub fn self_signed(names: &[&str], years: Years, as_ca: bool) -> (Identity, NamedTempFile) {
    let key = KeyPair::generate().unwrap();
    let mut params = params("alone", names, years);
    if as_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let leaf = params.self_signed(&key).unwrap();
    (Identity { chain: vec![leaf.der().clone()], key: key.serialize_der() }, file(&leaf.pem()))
}

/// A file with this content.
pub fn file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

impl Identity {
    /// What a TLS server with this identity needs.
    pub fn server(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(self.chain.clone(), key).unwrap())
    }

    /// The same for a server that wants a client certificate of this authority.
    pub fn server_wanting(&self, clients: &Authority) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(clients.issuer.der().clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
        Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(self.chain.clone(), key).unwrap())
    }

    /// Chain and key as PEM files in one directory.
    pub fn files(&self) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let pem = |label: &str, der: &[u8]| {
            use base64::Engine as _;
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
        };
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, self.chain.iter().map(|c| pem("CERTIFICATE", c)).collect::<String>()).unwrap();
        std::fs::write(&key, pem("PRIVATE KEY", &self.key)).unwrap();
        (dir, cert, key)
    }
}
