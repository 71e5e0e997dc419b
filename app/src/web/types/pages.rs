//! What the API answers about status pages to those whose pages they are.

use super::{MadeObject, Time};
use crate::config::{PageMessage, StatusPageConfig};
use crate::spec::origin;
use crate::store::SubscriberView;
use serde::{Deserialize, Serialize};

/// A public status page, for its owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PublicPage {
    /// Unique in the whole installation: it is served at `/status/NAME`.
    pub name: String,
    /// Its heading.
    pub title: String,
    /// Sentences below it.
    pub description: Option<String>,
    /// `en` or `ru`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::language"))]
    pub language: String,
    /// So many days stand beside each monitor.
    pub history_days: i64,
    /// The host name under which it is the whole site.
    pub domain: Option<String>,
    /// Whether it asks for a password.
    pub closed: bool,
    /// Whether people may subscribe to it.
    pub subscribers: bool,
    /// What it shows now, in its order.
    pub monitors: Vec<PublicMonitor>,
    /// What its owner says, newest first; also what is over, and what is to be said later.
    pub messages: Vec<PublicMessage>,
    /// Where it was defined: `file:line`, or `api`.
    pub origin: String,
    /// What is known of it beside that, if it was made over the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeObject>,
}

/// A monitor on a status page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PublicMonitor {
    /// Public id.
    pub uid: String,
    /// What the page calls it.
    pub title: String,
}

/// What a page's owner says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PublicMessage {
    /// Its place in `made.body.messages`, as they are written.
    pub nth: usize,
    /// Its heading.
    pub title: String,
    /// What it says.
    pub text: String,
    /// From when it is on the page.
    pub at: Time,
    /// From when it is over.
    pub until: Option<Time>,
    /// What there was to say later, newest first.
    pub updates: Vec<PublicUpdate>,
}

/// What there was to say later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PublicUpdate {
    /// From when it is on the page.
    pub at: Time,
    /// What it says.
    pub text: String,
}

impl PublicPage {
    /// Of the configuration, with what it shows now.
    pub fn of(page: &StatusPageConfig, monitors: Vec<PublicMonitor>, made: Option<MadeObject>) -> Self {
        let StatusPageConfig { slug, at, title, description, language, history_days, domain, password, subscribers, groups: _, messages } =
            page;
        Self {
            name: slug.clone(),
            title: title.clone(),
            description: description.clone(),
            language: language.as_str().to_owned(),
            history_days: *history_days,
            domain: domain.clone(),
            closed: password.is_some(),
            subscribers: subscribers.is_some(),
            monitors,
            messages: messages.iter().map(PublicMessage::of).collect(),
            origin: origin(at),
            made,
        }
    }
}

impl PublicMessage {
    fn of(message: &PageMessage) -> Self {
        let PageMessage { nth, title, text, at, until, updates } = message;
        Self {
            nth: *nth,
            title: title.clone(),
            text: text.clone(),
            at: Time(*at),
            until: until.map(Time),
            updates: updates.iter().map(|later| PublicUpdate { at: Time(later.at), text: later.text.clone() }).collect(),
        }
    }
}

/// Somebody who is told what a status page says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Subscriber {
    /// Public id.
    pub id: String,
    /// `email`, or `webhook`.
    #[cfg_attr(test, schemars(schema_with = "super::schemas::subscriber_kind"))]
    pub kind: String,
    /// Where it is told.
    pub address: String,
    /// When it asked for that.
    pub asked_at: Time,
    /// When it was confirmed; before that nothing is told.
    pub confirmed_at: Option<Time>,
}

impl Subscriber {
    /// Of what the store says.
    pub fn of(subscriber: &SubscriberView) -> Self {
        let SubscriberView { id: _, uid, kind, address, created_at, confirmed_at } = subscriber;
        Self {
            id: uid.clone(),
            kind: kind.as_str().to_owned(),
            address: address.clone(),
            asked_at: Time(*created_at),
            confirmed_at: confirmed_at.map(Time),
        }
    }
}
