//! The verdict on a chain: webpki's, with its refusals named.

use super::certificate::{self, Flaw};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use std::sync::Arc;
use watchkeeper_core::Reason;

/// webpki's verifier, with its refusals named.
#[derive(Debug)]
pub(super) struct Judge {
    webpki: Arc<WebPkiServerVerifier>,
    /// The certificates of `ca_file`: a server that presents one of them is trusted for what it is, which
    /// webpki alone would refuse (a self-signed certificate is usually marked as a CA).
    pinned: Vec<CertificateDer<'static>>,
    pub(super) verify: bool,
}

/// A refused chain on its way out through rustls.
#[derive(Debug, thiserror::Error)]
#[error("{}", flaw.text)]
pub(super) struct Refused {
    pub(super) flaw: Flaw,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Judge {
    pub(super) const fn new(webpki: Arc<WebPkiServerVerifier>, pinned: Vec<CertificateDer<'static>>, verify: bool) -> Self {
        Self { webpki, pinned, verify }
    }

    /// What is wrong with this chain for this host now, whether or not that ends a handshake.
    pub(super) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Flaw> {
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
