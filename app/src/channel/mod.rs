//! Channels: where messages go, one file per kind.
//!
//! A channel does one thing once: `render` a message for its provider (pure) and `deliver` it with one call.
//! It never loops, sleeps, retries, de-duplicates or reads the store: `deliver.rs` does all of that for all of them.
//! No secret (token, URL with a token, signature key) ever appears in an error or a log.

pub(crate) mod answer;
pub mod content;
pub mod telegram;
pub mod text;
pub mod webhook;

use self::content::{Content, TestWord};
use crate::clock::Clock;
use crate::config::decode::{self, Fields, Key, Problems, Value};
use crate::config::tagged::{Family, Kind};
use crate::net::Net;
use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{Dur, Micros, Severity};

/// What a notice says, fixed when it was decided: a later change of the configuration does not change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Which word about it.
    pub event: NoticeEvent,
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
    /// Why it ended: `recovered`, `rule_removed`, `retired`, `operator`. Only the first means that things are well again.
    #[serde(default)]
    pub resolved_why: Option<String>,
    /// It began soon after its last end: the rule flaps, and its end will be told once things have stayed well.
    #[serde(default)]
    pub flapping: bool,
    /// Who acknowledged or ended it, if a person did.
    #[serde(default)]
    pub actor: Option<String>,
    /// Who saw it: code of each datacenter with what it sees.
    pub seen_by: BTreeMap<String, String>,
}

/// Sends one test message now, without retry and without the store. What the provider said is for a person.
pub async fn send_test(net: &Arc<Net>, clock: &Clock, name: &str, kind: &ChannelKind) -> Result<Accepted, Refused> {
    let now = clock.now();
    let delivery = Delivery {
        content: Content::Test(TestWord { channel: name.to_owned(), kind: kind.kind().to_owned(), at: now }),
        key: format!("test/{}", now.0),
        deadline: Instant::now() + ATTEMPT_MAX.to_std(),
        now,
        thread: None,
    };
    kind.build().deliver(net, &delivery).await
}

/// One delivery: the message, and the key that makes a repetition recognisable.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What to tell.
    pub content: Content,
    /// The same for every attempt of one notice.
    pub key: String,
    /// When the call must have ended.
    pub deadline: Instant,
    /// UTC now, for timestamps in signatures.
    pub now: Micros,
    /// The provider's id of this channel's first message about the incident, to edit or to answer.
    pub thread: Option<String>,
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

impl RefusedClass {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Auth => "auth",
            Self::RateLimited => "rate_limited",
            Self::Server => "server",
            Self::Network => "network",
            Self::Timeout => "timeout",
        }
    }
}

/// What a provider allows: at most so many messages within so long; all of them hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// To this chat, webhook or mailbox.
    pub own: SmallVec<[(u32, Dur); 3]>,
    /// By everything under the same budget key together.
    pub shared: SmallVec<[(u32, Dur); 1]>,
}

/// Sends one message with one call.
#[async_trait]
pub trait Channel: Send + Sync {
    /// One attempt, ended by the deadline.
    async fn deliver(&self, net: &Arc<Net>, delivery: &Delivery) -> Result<Accepted, Refused>;

    /// What its provider allows; none that we know of unless it says so.
    fn caps(&self) -> Caps {
        Caps::default()
    }
}

/// One attempt is ended after so long. Longer lets a hanging provider hold up the messages behind it; shorter gives
/// up on providers that are slow but work, and then tells twice.
pub const ATTEMPT_MAX: Dur = Dur::secs(10);

/// How we call ourselves.
pub(crate) const USER_AGENT: &str = concat!("Watchkeeper/", env!("CARGO_PKG_VERSION"));

/// What stands in place of a secret wherever a configuration is shown or stored.
pub const MASK: &str = "***";

/// The kinds of channels as the file names them.
pub const FAMILY: Family<ChannelKind> = Family {
    what: "channel",
    common: COMMON,
    kinds: KINDS,
    later_kinds: &["discord", "email"],
    later_keys: &["language", "template", "budget", "last_resort"],
};

/// Keys beside the kind.
const COMMON: &[Key] = &[Key { name: "name", form: "a text", default: "", doc: "What `notify` calls it; unique in the tenant." }];

/// One line per kind, in the order in which they are shown.
const KINDS: &[Kind<ChannelKind>] = &[telegram::KIND, webhook::KIND];

/// A channel's configuration: a closed enum, so that the compiler names what a new kind lacks.
#[derive(Clone, Debug)]
pub enum ChannelKind {
    /// Telegram's Bot API.
    Telegram(telegram::Config),
    /// Any HTTP server.
    Webhook(webhook::Config),
}

impl ChannelKind {
    /// The kind's word: `telegram`, `webhook`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Telegram(_) => "telegram",
            Self::Webhook(_) => "webhook",
        }
    }

    /// The channel, ready to deliver.
    pub fn build(&self) -> Arc<dyn Channel> {
        match self {
            Self::Telegram(config) => Arc::new(telegram::Telegram::new(config.clone())),
            Self::Webhook(config) => Arc::new(webhook::Webhook::new(config.clone())),
        }
    }

    /// Which lease and budget its deliveries share: one per bot or host. Holds no secret.
    pub fn budget_key(&self) -> String {
        match self {
            Self::Telegram(config) => config.budget_key(),
            Self::Webhook(config) => config.budget_key(),
        }
    }

    /// The canonical configuration with secrets replaced by [`MASK`], as it is stored and shown.
    pub fn canonical(&self) -> serde_json::Value {
        match self {
            Self::Telegram(config) => config.canonical(false),
            Self::Webhook(config) => config.canonical(false),
        }
    }

    /// SHA-256 of the kind and the canonical configuration with secrets: equal means unchanged.
    pub fn hash(&self) -> [u8; 32] {
        let whole = match self {
            Self::Telegram(config) => config.canonical(true),
            Self::Webhook(config) => config.canonical(true),
        };
        let mut hash = Sha256::new();
        hash.update(self.kind());
        hash.update([0]);
        hash.update(whole.to_string());
        hash.finalize().into()
    }
}

/// A secret that must be there, in the file or in the file that its twin names; what is missing or empty is a problem.
fn required_secret(
    fields: &Fields<'_>,
    key: &'static str,
    key_file: &'static str,
    form: &str,
    problems: &mut Problems,
) -> Option<SecretString> {
    let before = problems.0.len();
    let found = decode::secret(fields, key, key_file, problems);
    if found.is_none() && problems.0.len() == before {
        match fields.get(key) {
            None => problems.add(fields.at, format!("`{key}` is missing"), form.to_owned()),
            // What the tree reader could not read has its problem already.
            Some(node) if matches!(node.value, Value::Broken) => {}
            Some(node) => problems.add(&node.at, format!("`{key}` is empty"), form.to_owned()),
        }
    }
    found
}

#[cfg(test)]
pub(crate) mod sample {
    //! Messages for tests.
    use super::*;

    /// The shop went down at 03:12:07.
    pub(crate) fn opened() -> Message {
        Message {
            event: NoticeEvent::Opened,
            incident: "019aa2b4-7e0c-7d3a-9c55-0d1f6c1b2a3e".to_owned(),
            tenant: "default".to_owned(),
            monitor_uid: "019aa2b4-0000-7000-8000-000000000001".to_owned(),
            monitor: "shop".to_owned(),
            kind: "http".to_owned(),
            target: "https://shop.example.org/health".to_owned(),
            labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
            rule: "down".to_owned(),
            severity: Severity::Critical,
            reason: Some("http_status".to_owned()),
            summary: "HTTP status 503 instead of 200-299".to_owned(),
            detail: Some("HTTP status 503 instead of 200-299".to_owned()),
            opened_at: Micros(1_795_317_127_123_456),
            resolved_at: None,
            resolved_why: None,
            flapping: false,
            actor: None,
            seen_by: BTreeMap::from([("local".to_owned(), "down".to_owned())]),
        }
    }

    /// … and came back 3m12s later.
    pub(crate) fn resolved() -> Message {
        Message {
            event: NoticeEvent::Resolved,
            summary: "over after 3m12s".to_owned(),
            resolved_at: Some(Micros(1_795_317_127_123_456 + 192_400_000)),
            resolved_why: Some("recovered".to_owned()),
            seen_by: BTreeMap::from([("local".to_owned(), "up".to_owned())]),
            ..opened()
        }
    }
}
