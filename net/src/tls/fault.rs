//! What went wrong in a handshake: told apart by types and by the first byte on the wire, never by the text of an error.

use super::certificate;
use super::judge::Refused;
use super::settings::{MinVersion, TlsSettings};
use super::sniff::FirstByte;
use crate::Fault;
use crate::tls::CertificateFacts;
use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};
use watchkeeper_core::{Blind, Reason};

/// A failed handshake.
#[derive(Debug)]
pub struct TlsFault {
    /// What went wrong.
    pub fault: Fault,
    /// The chain, if the server got so far as to show one.
    pub certificate: Option<CertificateFacts>,
}

impl From<Fault> for TlsFault {
    fn from(fault: Fault) -> Self {
        Self { fault, certificate: None }
    }
}

impl TlsSettings {
    /// What a failed handshake means.
    pub(super) fn fault(&self, error: &std::io::Error, first: &FirstByte) -> TlsFault {
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

/// The fault inside an I/O error of a TLS stream, if TLS is what went wrong.
pub fn stream_fault(error: &std::io::Error) -> Option<Fault> {
    error.get_ref().and_then(|e| e.downcast_ref::<Error>()).and_then(error_fault)
}
