//! Schemas of what is a text here and has few values, and of what other crates make: for the OpenAPI document, and so for the page's types,
//! which are made from it. Nothing of this is in the program.

use crate::config::documents::DocumentKind;
use crate::probe::worker::WorkerFacts;
use crate::web::auth::Role;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use watchkeeper_core::Severity;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::verdict::{NoticeEvent, ResolvedWhy};

type Schemas = SchemaGenerator;

fn one_of<const N: usize>(words: [&str; N]) -> Schema {
    json_schema!({ "type": "string", "enum": words.to_vec() })
}

fn one_of_or_null<const N: usize>(words: [&str; N]) -> Schema {
    let with_null: Vec<Option<&str>> = words.into_iter().map(Some).chain([None]).collect();
    json_schema!({ "type": ["string", "null"], "enum": with_null })
}

pub(in crate::web) fn health(_: &mut Schemas) -> Schema {
    one_of([Health::Up, Health::Degraded, Health::Pending, Health::Down, Health::Unknown].map(Health::as_str))
}

pub(in crate::web) fn outcome(_: &mut Schemas) -> Schema {
    one_of(["up", "down", "unknown"])
}

pub(in crate::web) fn severity(_: &mut Schemas) -> Schema {
    one_of([Severity::Info, Severity::Warning, Severity::Critical].map(Severity::as_str))
}

pub(in crate::web) fn severities(_: &mut Schemas) -> Schema {
    let words = [Severity::Info, Severity::Warning, Severity::Critical].map(Severity::as_str);
    json_schema!({ "type": "array", "items": one_of(words) })
}

pub(in crate::web) fn role(_: &mut Schemas) -> Schema {
    one_of(Role::ALL.map(Role::as_str))
}

pub(in crate::web) fn role_or_null(_: &mut Schemas) -> Schema {
    one_of_or_null(Role::ALL.map(Role::as_str))
}

pub(in crate::web) fn severity_or_null(_: &mut Schemas) -> Schema {
    one_of_or_null([Severity::Info, Severity::Warning, Severity::Critical].map(Severity::as_str))
}

pub(in crate::web) fn status(_: &mut Schemas) -> Schema {
    one_of(["open", "acknowledged", "resolved"])
}

pub(in crate::web) fn resolved_why(_: &mut Schemas) -> Schema {
    let all = [ResolvedWhy::Recovered, ResolvedWhy::RuleRemoved, ResolvedWhy::Retired, ResolvedWhy::Operator];
    one_of_or_null(all.map(ResolvedWhy::as_str))
}

pub(in crate::web) fn event(_: &mut Schemas) -> Schema {
    one_of(NoticeEvent::ALL.map(NoticeEvent::as_str))
}

pub(in crate::web) fn notice_state(_: &mut Schemas) -> Schema {
    one_of(["due", "held", "sending", "sent", "dead", "suppressed"])
}

pub(in crate::web) fn mute(_: &mut Schemas) -> Schema {
    one_of(["silence", "maintenance"])
}

pub(in crate::web) fn document_kind(_: &mut Schemas) -> Schema {
    one_of(DocumentKind::ALL.map(DocumentKind::as_str))
}

pub(in crate::web) fn change(_: &mut Schemas) -> Schema {
    one_of(["made", "changed", "unchanged", "from_a_file"])
}

pub(in crate::web) fn language(_: &mut Schemas) -> Schema {
    one_of(["en", "ru"])
}

pub(in crate::web) fn subscriber_kind(_: &mut Schemas) -> Schema {
    one_of(crate::store::SubscriberKind::ALL.map(crate::store::SubscriberKind::as_str))
}

pub(in crate::web) fn store(_: &mut Schemas) -> Schema {
    one_of(["sqlite", "postgresql"])
}

pub(in crate::web) fn api_targets(_: &mut Schemas) -> Schema {
    one_of(["public", "private"])
}

pub(in crate::web) fn trigger(_: &mut Schemas) -> Schema {
    one_of(["down", "missed_push", "slow_response", "ssl_expiry", "blind"])
}

/// An object of the configuration, in whose form only the configuration is at home.
pub(in crate::web) fn object(_: &mut Schemas) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": true })
}

// The form of `CertificateFacts`, whose crate knows no schemas.
/// What a TLS handshake showed.
#[derive(JsonSchema)]
#[schemars(rename = "CertificateFacts")]
#[expect(dead_code, reason = "it is a form, and never made")]
pub(crate) struct CertificateForm {
    /// `TLSv1.3`, …; null when no handshake was completed.
    protocol: Option<String>,
    /// The cipher suite's name.
    cipher: Option<String>,
    /// Whether the chain was found good for this host then.
    valid: bool,
    /// Leaf first; not there on a quiet attempt, which only takes the dates.
    #[schemars(default, skip_serializing_if = "Vec::is_empty")]
    chain: Vec<OneForm>,
    /// When the first of the chain expires, seconds since 1970.
    not_after: i64,
    /// Whole days until the first of the chain expires; negative when it has.
    days_left: i64,
}

/// One certificate of a chain.
#[derive(JsonSchema)]
#[schemars(rename = "Certificate")]
#[expect(dead_code, reason = "it is a form, and never made")]
struct OneForm {
    /// Distinguished name of the subject.
    subject: String,
    /// Distinguished name of the issuer.
    issuer: String,
    /// DNS names and addresses it is for.
    names: Vec<String>,
    /// Seconds since 1970.
    not_before: i64,
    /// Seconds since 1970.
    not_after: i64,
    /// Whole days until it expires; negative when it has.
    days_left: i64,
    /// SHA-256 over the DER bytes, hex.
    sha256: String,
}

// What `Attempt::to_json` writes.
/// What one attempt "now" found.
#[derive(JsonSchema)]
#[schemars(rename = "Tried")]
#[expect(dead_code, reason = "it is a form, and never made")]
pub(in crate::web) struct TriedForm {
    /// `up`, `down`, `unknown`.
    #[schemars(schema_with = "outcome")]
    outcome: String,
    /// Why it is not up.
    #[schemars(skip_serializing_if = "Option::is_none")]
    error_kind: Option<String>,
    /// What exactly went wrong, for a person.
    #[schemars(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// One per request of an HTTP redirect chain; one for tcp, tls, dns and icmp.
    hops: Vec<TriedHop>,
    /// The whole attempt.
    total_us: u64,
    /// The certificate chain of the last TLS handshake, also of a failed one if it was seen.
    #[schemars(with = "CertificateForm", skip_serializing_if = "Option::is_none")]
    certificate: Option<CertificateForm>,
    /// What a worker's sidecar said.
    #[schemars(with = "WorkerFacts", skip_serializing_if = "Option::is_none")]
    worker: Option<WorkerFacts>,
}

/// One connection of it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is a form, and never made")]
struct TriedHop {
    /// What was asked, without credentials.
    url: String,
    /// The address that was connected to.
    address: Option<String>,
    /// Name resolution.
    dns_us: u64,
    /// TCP connect.
    connect_us: u64,
    /// TLS handshake.
    tls_us: u64,
    /// Request to first byte.
    first_byte_us: u64,
    /// First to last byte.
    transfer_us: u64,
    /// HTTP status, DNS response code.
    status: Option<u16>,
}

mod tests {
    use super::*;
    use crate::net::tls::{Certificate, CertificateFacts};
    use crate::probe::worker::WorkerState;
    use crate::probe::{Attempt, Hop};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use watchkeeper_core::{Outcome, Reason};

    /// The keys of an object, and those of the schema that stands for it.
    fn same_keys<T: JsonSchema>(made: &Value) {
        let schema = schemars::schema_for!(T).to_value();
        let keys = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&schema["properties"]), keys(made), "{}", T::schema_name());
    }

    #[test]
    fn the_forms_written_here_have_the_fields_that_are_answered() {
        let one = Certificate {
            subject: "CN=a".into(),
            issuer: "CN=b".into(),
            names: vec!["a".into()],
            not_before: 0,
            not_after: 1,
            days_left: 0,
            sha256: "00".into(),
        };
        let facts = CertificateFacts { protocol: None, cipher: None, valid: false, chain: vec![one], not_after: 1, days_left: 0 };
        same_keys::<CertificateForm>(&json!(facts));
        same_keys::<OneForm>(&json!(facts)["chain"][0]);
        let ended = Attempt::ended(Outcome::Down(Reason::TcpRefused), Some("refused".into()));
        let worker = WorkerFacts {
            state: WorkerState::Idle,
            active: 0,
            total: 0,
            idle_us: 0,
            oldest_us: None,
            draining_us: None,
            grace_us: None,
            ready: true,
            last_request: None,
            since: String::new(),
            kafka_lag: None,
            stuck: Vec::new(),
        };
        let tried = Attempt { hops: vec![Hop::default()], certificate: Some(facts), worker: Some(Box::new(worker)), ..ended }.to_json();
        same_keys::<TriedForm>(&tried);
        same_keys::<TriedHop>(&tried["hops"][0]);
    }
}
