//! Channels: where messages go, one file or folder per kind.
//!
//! A channel does one thing once: `render` a message for its provider (pure) and `deliver` it with one call (a second one only
//! where the provider asks for it: text without markup, a first message that shows how things stand).
//! It never loops, sleeps, retries, de-duplicates or reads the store: `deliver.rs` does all of that for all of them.
//! No secret (token, URL with a token, signature key, password) ever appears in an error or a log.

pub(crate) mod answer;
mod common;
pub mod content;
pub mod discord;
pub mod email;
mod kinds;
mod sample;
pub mod telegram;
mod template;
pub mod text;
pub mod webhook;
pub(crate) mod words;

pub use common::{Common, Language, Style, Template};
pub use content::Message;
pub use kinds::{ChannelKind, FAMILY};

use self::content::{Content, TestWord};
use crate::clock::Clock;
use crate::config::decode::{self, Fields, Problems, Value};
use crate::net::Net;
use async_trait::async_trait;
use secrecy::SecretString;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;
use watchkeeper_core::{Dur, Micros};

/// Sends one test message now, without retry and without the store. What the provider said is for a person.
pub async fn send_test(net: &Arc<Net>, clock: &Clock, name: &str, kind: &ChannelKind, style: Style) -> Result<Accepted, Refused> {
    let now = clock.now();
    let delivery = Delivery {
        content: Content::Test(TestWord { channel: name.to_owned(), kind: kind.kind().to_owned(), at: now }),
        key: format!("test/{}", now.0),
        deadline: Instant::now() + ATTEMPT_MAX.to_std(),
        now,
        thread: None,
    };
    kind.build(name, style).deliver(net, &delivery).await
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

/// A secret that must be there, in the file or in the file that its twin names; what is missing or empty is a problem.
fn required_secret(
    fields: &Fields<'_>,
    key: &'static str,
    key_file: &'static str,
    form: &str,
    problems: &mut Problems,
) -> Option<SecretString> {
    let before = problems.told();
    let found = decode::secret(fields, key, key_file, problems);
    if found.is_none() && problems.told() == before {
        match fields.get(key) {
            None => problems.add(fields.at, format!("`{key}` is missing"), form.to_owned()),
            // What the tree reader could not read has its problem already.
            Some(node) if matches!(node.value, Value::Broken) => {}
            Some(node) => problems.add(&node.at, format!("`{key}` is empty"), form.to_owned()),
        }
    }
    found
}
