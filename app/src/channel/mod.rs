//! Channels: where messages go, one file per kind.
//!
//! A channel does one thing once: `render` a message for its provider (pure) and `deliver` it with one call.
//! It never loops, sleeps, retries, de-duplicates or reads the store: `deliver.rs` does all of that for all of them.
//! No secret (token, URL with a token, signature key) ever appears in an error or a log.

use crate::net::Net;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{Dur, Micros, Severity};

/// What a notice says, fixed when it was decided: a later change of the configuration does not change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Whether it began or ended; `None` for a test message.
    pub event: Option<NoticeEvent>,
    /// The incident's public id (UUID text).
    pub incident: String,
    /// The tenant's slug.
    pub tenant: String,
    /// The monitor's public id (UUID text).
    pub monitor_uid: String,
    /// The monitor's name.
    pub monitor: String,
    /// `http`, `tcp`, …
    pub kind: String,
    /// What is watched, without credentials.
    pub target: String,
    /// Labels of the monitor.
    pub labels: BTreeMap<String, String>,
    /// The rule's key: `down`, `slow_response/first_byte`, …
    pub rule: String,
    /// How bad.
    pub severity: Severity,
    /// `dns_nxdomain`, `no_route`, …, for rules on health.
    pub reason: Option<String>,
    /// One sentence for a person: what is wrong, or what was.
    pub summary: String,
    /// The probe's own words about the deciding attempt, if it had any.
    pub detail: Option<String>,
    /// When the incident began.
    pub opened_at: Micros,
    /// When it ended.
    pub resolved_at: Option<Micros>,
    /// Who saw it: code of each datacenter with what it sees.
    pub seen_by: BTreeMap<String, String>,
}

/// One delivery: the message, and the key that makes a repetition recognisable.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What to tell.
    pub message: Message,
    /// The same for every attempt of one notice.
    pub key: String,
    /// When the call must have ended.
    pub deadline: Instant,
    /// UTC now, for timestamps in signatures.
    pub now: Micros,
}

/// The provider took it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The provider's id of the message, if it gives one.
    pub provider_id: Option<String>,
}

/// The provider did not take it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// A closed set for metrics.
    pub class: RefusedClass,
    /// Whether another attempt can help.
    pub retry: Retry,
    /// For the operator; holds no secret.
    pub text: String,
}

/// Whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It would fail again: dead letter at once.
    Never,
    /// After the usual pause.
    Soon,
    /// Not before the time the provider asked for.
    After(Dur),
}

/// Why a delivery failed, as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedClass {
    /// The provider rejected the request.
    Client,
    /// The credentials are wrong.
    Auth,
    /// Too many messages.
    RateLimited,
    /// The provider failed.
    Server,
    /// The provider was not reached.
    Network,
    /// The provider did not answer in time.
    Timeout,
}

/// Sends one message with one call.
#[async_trait]
pub trait Channel: Send + Sync {
    /// One attempt, ended by the deadline.
    async fn deliver(&self, net: &Arc<Net>, delivery: &Delivery) -> Result<Accepted, Refused>;
}
