//! TLS handshakes whose faults have names, and the facts of the certificates seen in them.
//!
//! Every handshake is a full one: resumption is off, because a resumed session shows no certificate and
//! measures nothing. The verdict on a chain is webpki's; a judge stands around it, names what webpki
//! refused, and carries the chain out inside the error, so that a refused certificate can still be shown.

mod certificate;
mod fault;
mod judge;
mod settings;
mod sniff;

pub use certificate::{Certificate, CertificateFacts};
pub use fault::{TlsFault, stream_fault};
pub use settings::{LazySettings, MinVersion, Tls, TlsOptions, TlsSettings, TlsSetupError};
pub use sniff::Sniffed;

use crate::Fault;
use rustls::pki_types::{CertificateDer, ServerName};
use settings::OurTime;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use watchkeeper_core::Reason;

/// A stream after its handshake.
pub type TlsStream<S> = tokio_rustls::client::TlsStream<Sniffed<S>>;

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

impl TlsSettings {
    fn would_accept(&self, chain: &[CertificateDer<'static>], name: &ServerName<'_>) -> bool {
        let now = rustls::time_provider::TimeProvider::current_time(&OurTime(self.clock.clone()));
        match (chain.split_first(), now) {
            (Some((leaf, others)), Some(now)) => self.judge.judge(leaf, others, name, now).is_ok(),
            (None, _) | (_, None) => false,
        }
    }
}
