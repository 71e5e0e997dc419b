//! What a provider's HTTP status means for the next attempt: one table for all channels over HTTP.

use super::{Refused, RefusedClass, Retry};
use crate::net::Fault;
use http::StatusCode;
use watchkeeper_core::{Blind, Dur, Micros, Outcome, Reason};

/// A provider that asks for a longer pause is asked again after this one. Longer would leave people untold for hours
/// because of one strange header; shorter would break the bans that providers really give.
pub const ASKED_MAX: Dur = Dur::secs(3_600);

/// An answer larger than this is not read to its end. Providers answer with a few hundred bytes; more would only fill
/// the memory, less would cut a long error page before its words.
pub const ANSWER_MAX: usize = 64 * 1024;

/// So much of an answer's body is shown. More fills logs and timelines; less cuts the sentence that says what is wrong.
const EXCERPT_MAX: usize = 200;

/// What a status that is not 2xx means: its class, and whether another attempt can help.
pub fn classify(status: StatusCode, asked: Option<Dur>) -> (RefusedClass, Retry) {
    let again = asked.map_or(Retry::Soon, |pause| Retry::After(Dur(pause.0.clamp(0, ASKED_MAX.0))));
    match status.as_u16() {
        401 | 403 => (RefusedClass::Auth, Retry::Never),
        408 => (RefusedClass::Timeout, again),
        429 => (RefusedClass::RateLimited, again),
        425 | 500..=599 => (RefusedClass::Server, again),
        _ => (RefusedClass::Client, Retry::Never),
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): whole seconds, or a date.
pub fn retry_after(value: Option<&http::HeaderValue>, now: Micros) -> Option<Dur> {
    let value = value?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Dur::secs(i64::from(seconds)));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    Some(Dur((Micros(date.timestamp().as_microsecond()) - now).0.max(0)))
}

/// The head of a body on one line and without secrets, for an error text; empty if there is nothing to read. Secrets
/// are replaced before it is cut: a cut one could not be found any more.
pub fn excerpt(body: &[u8], secrets: &[impl AsRef<str>]) -> String {
    let text = scrub(&String::from_utf8_lossy(body), secrets);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !crate::foreign::steers(*c)).take(EXCERPT_MAX).collect()
}

/// Replaces every secret in a text. A provider may send back what it was given.
pub fn scrub(text: &str, secrets: &[impl AsRef<str>]) -> String {
    // Shorter ones are no secrets, and replacing them would garble every text.
    const SHORTEST: usize = 4;
    secrets
        .iter()
        .map(AsRef::as_ref)
        .filter(|secret: &&str| secret.len() >= SHORTEST)
        .fold(text.to_owned(), |out, secret| out.replace(secret, super::MASK))
}

/// A refusal with its words.
pub fn refused(class: RefusedClass, retry: Retry, text: impl Into<String>) -> Refused {
    Refused { class, retry, text: text.into() }
}

/// The provider gave no answer at all.
pub fn unreached(fault: &Fault, secrets: &[impl AsRef<str>]) -> Refused {
    let silent = matches!(
        fault.outcome,
        Outcome::Down(
            Reason::DnsTimeout
                | Reason::TcpTimeout
                | Reason::TlsTimeout
                | Reason::TcpReadTimeout
                | Reason::HttpFirstByteTimeout
                | Reason::HttpBodyTimeout
        )
    );
    let class = if silent { RefusedClass::Timeout } else { RefusedClass::Network };
    // A forbidden address stays forbidden; everything else may pass.
    let retry = if fault.outcome == Outcome::Unknown(Blind::ForbiddenAddress) { Retry::Never } else { Retry::Soon };
    refused(class, retry, scrub(&fault.text, secrets))
}
