//! Reading certificates: what a chain is, and what is wrong with it.
//!
//! Nothing here decides trust; that is webpki's. This names its refusal and tells the dates. Bytes come from
//! the other side: what cannot be parsed is left out, never a panic.

use rustls::CertificateError;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use watchkeeper_core::Reason;
use x509_parser::asn1_rs::{Any, Class};
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Longer chains are cut when they are shown. More fills the store with what no server needs; less hides cross-signed chains.
const CHAIN_MAX: usize = 12;
/// A certificate's names beyond this are not shown. More lets one certificate fill a heartbeat's detail; less hides names people look for.
const NAMES_MAX: usize = 64;
/// A distinguished name is cut after so many characters, for the same reason.
const DN_MAX: usize = 256;

const DAY_S: i64 = 86_400;

/// A certificate chain as the server presented it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// `TLSv1.3`, …; absent when no handshake was completed.
    pub protocol: Option<String>,
    /// The cipher suite's name.
    pub cipher: Option<String>,
    /// Whether the chain was found good for this host now.
    pub valid: bool,
    /// Leaf first; empty on a quiet attempt, which only takes the dates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Certificate>,
    /// When the first of the chain expires, seconds since 1970.
    pub not_after: i64,
    /// Whole days until the first of the chain expires; negative when it has.
    pub days_left: i64,
}

/// One certificate of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Distinguished name of the subject.
    pub subject: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// DNS names and addresses it is for.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Whole days until it expires; negative when it has.
    pub days_left: i64,
    /// SHA-256 over the DER bytes, hex.
    pub sha256: String,
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Its name.
    pub reason: Reason,
    /// Names the certificate and the values.
    pub text: String,
}

/// The dates alone; `None` if no certificate can be read.
pub fn brief(chain: &[CertificateDer<'_>], now_s: i64) -> Option<CertificateFacts> {
    let not_after = chain.iter().filter_map(|der| end(der)).min()?;
    let days_left = days_left(not_after, now_s);
    Some(CertificateFacts { protocol: None, cipher: None, valid: false, chain: Vec::new(), not_after, days_left })
}

/// When a certificate expires. Every quiet attempt asks that, so the names, keys and extensions around it are passed over unread:
/// validity is the fifth field of what is signed, or the fourth of a certificate of version 1 (RFC 5280, section 4.1).
fn end(der: &[u8]) -> Option<i64> {
    let inside = |der| Any::from_der(der).ok().map(|(_, whole)| whole.data);
    let signed = inside(inside(der)?)?;
    let (after, first) = Any::from_der(signed).ok()?;
    let mut rest = if first.class() == Class::ContextSpecific { after } else { signed };
    for _serial_signature_issuer in 0..3 {
        rest = Any::from_der(rest).ok()?.0;
    }
    let (_, validity) = Validity::from_der(rest).ok()?;
    Some(validity.not_after.timestamp())
}

/// The whole chain, leaf first; `None` if no certificate can be read.
pub fn facts(chain: &[CertificateDer<'_>], now_s: i64) -> Option<CertificateFacts> {
    let shown = chain.iter().take(CHAIN_MAX).filter_map(|der| one(der, now_s)).collect();
    brief(chain, now_s).map(|brief| CertificateFacts { chain: shown, ..brief })
}

/// Whole days, rounded down: an hour after the end is -1.
fn days_left(not_after: i64, now_s: i64) -> i64 {
    not_after.saturating_sub(now_s).div_euclid(DAY_S)
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    x509_parser::parse_x509_certificate(der).ok().map(|(_, cert)| cert)
}

fn one(der: &CertificateDer<'_>, now_s: i64) -> Option<Certificate> {
    let cert = parse(der)?;
    let not_after = cert.validity.not_after.timestamp();
    Some(Certificate {
        subject: name_text(&cert.subject),
        issuer: name_text(&cert.issuer),
        names: names(&cert),
        not_before: cert.validity.not_before.timestamp(),
        not_after,
        days_left: days_left(not_after, now_s),
        sha256: crate::hex(&Sha256::digest(der)),
    })
}

fn name_text(name: &x509_parser::x509::X509Name<'_>) -> String {
    name.to_string().chars().take(DN_MAX).collect()
}

fn names(cert: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(san)) = cert.subject_alternative_name() else { return Vec::new() };
    san.value
        .general_names
        .iter()
        .filter_map(|name| {
            if let GeneralName::IPAddress(bytes) = name {
                return ip_text(bytes);
            }
            if let GeneralName::DNSName(dns) = name { Some((*dns).to_owned()) } else { None }
        })
        .take(NAMES_MAX)
        .collect()
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

/// Whether a certificate names itself as its issuer.
fn self_issued(cert: &X509Certificate<'_>) -> bool {
    cert.subject.as_raw() == cert.issuer.as_raw()
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s since 1970"), |t| t.to_string())
}

fn host(name: &ServerName<'_>) -> String {
    name.to_str().into_owned()
}

/// What is wrong with the dates of one certificate.
fn date_flaw(cert: &X509Certificate<'_>, now_s: i64) -> Option<Flaw> {
    let (from, until) = (cert.validity.not_before.timestamp(), cert.validity.not_after.timestamp());
    if now_s > until {
        let text = format!("the certificate of `{}` expired at {}", name_text(&cert.subject), date(until));
        return Some(Flaw { reason: Reason::TlsExpired, text });
    }
    if now_s < from {
        let text = format!("the certificate of `{}` is valid only from {}", name_text(&cert.subject), date(from));
        return Some(Flaw { reason: Reason::TlsNotYetValid, text });
    }
    None
}

/// Names webpki's refusal of a chain.
pub fn flaw(error: &CertificateError, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], name: &ServerName<'_>, now_s: i64) -> Flaw {
    let parsed = parse(leaf);
    if is_about_dates(error) {
        let dated = std::iter::once(leaf).chain(others).filter_map(parse).find_map(|cert| date_flaw(&cert, now_s));
        let early = matches!(error, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. });
        let reason = if early { Reason::TlsNotYetValid } else { Reason::TlsExpired };
        return dated.filter(|d| d.reason == reason).unwrap_or_else(|| Flaw { reason, text: reason.sentence().to_owned() });
    }
    if matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) {
        return wrong_host(parsed.as_ref(), name);
    }
    // webpki has no word for a certificate that signed itself: it either knows no issuer, or (when it is marked
    // as a CA, as most tools do) finds it unfit as a server's, which arrives as `Other`.
    let no_issuer = matches!(error, CertificateError::UnknownIssuer);
    if let Some(cert) = parsed.as_ref().filter(|c| self_issued(c))
        && (no_issuer || matches!(error, CertificateError::Other(_)))
    {
        let text = format!("the certificate of `{}` is signed by itself and not trusted", name_text(&cert.subject));
        return Flaw { reason: Reason::TlsSelfSigned, text };
    }
    if no_issuer {
        let issuer = parsed.as_ref().map_or_else(|| "unknown".to_owned(), |c| name_text(&c.issuer));
        return Flaw { reason: Reason::TlsUnknownIssuer, text: format!("the certificate's issuer `{issuer}` leads to no trusted root") };
    }
    Flaw { reason: Reason::TlsBadCertificate, text: format!("the certificate is not acceptable: {error}") }
}

fn is_about_dates(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

fn wrong_host(cert: Option<&X509Certificate<'_>>, name: &ServerName<'_>) -> Flaw {
    let names = cert.map(names).unwrap_or_default();
    let shown = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
    Flaw { reason: Reason::TlsWrongHost, text: format!("the certificate is for {shown}, not for {}", host(name)) }
}

/// What is wrong with a certificate that is trusted as it is: only its dates and its names matter.
pub fn pinned_flaw(leaf: &CertificateDer<'_>, name: &ServerName<'_>, now_s: i64) -> Option<Flaw> {
    let Some(cert) = parse(leaf) else {
        return Some(Flaw { reason: Reason::TlsBadCertificate, text: "the certificate cannot be read".to_owned() });
    };
    if let Some(flaw) = date_flaw(&cert, now_s) {
        return Some(flaw);
    }
    let named = ParsedCertificate::try_from(leaf).is_ok_and(|c| verify_server_name(&c, name).is_ok());
    (!named).then(|| wrong_host(Some(&cert), name))
}
