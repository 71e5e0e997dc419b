//! The kinds of channels: a closed enum, so that the compiler names what a new kind lacks.

use super::common::{COMMON, Common, Style};
use super::{Channel, discord, email, telegram, webhook};
use crate::config::tagged::{Family, Kind};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The kinds of channels as the file names them.
pub const FAMILY: Family<ChannelKind> = Family { what: "channel", common: COMMON, kinds: KINDS, later_kinds: &[], later_keys: &[] };

/// One line per kind, in the order in which they are shown.
const KINDS: &[Kind<ChannelKind>] = &[telegram::KIND, webhook::KIND, discord::KIND, email::KIND];

/// A channel's configuration.
#[derive(Clone, Debug)]
pub enum ChannelKind {
    /// Telegram's Bot API.
    Telegram(telegram::Config),
    /// Any HTTP server.
    Webhook(webhook::Config),
    /// A webhook of Discord.
    Discord(discord::Config),
    /// E-mail by SMTP.
    Email(email::Config),
}

impl ChannelKind {
    /// The kind's word: `telegram`, `webhook`, …
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Telegram(_) => "telegram",
            Self::Webhook(_) => "webhook",
            Self::Discord(_) => "discord",
            Self::Email(_) => "email",
        }
    }

    /// The chat of a bot, if it is one.
    pub const fn telegram(&self) -> Option<&telegram::Config> {
        match self {
            Self::Telegram(config) => Some(config),
            Self::Webhook(_) | Self::Discord(_) | Self::Email(_) => None,
        }
    }

    /// The channel of this name, ready to deliver.
    pub fn build(&self, name: &str, style: Style) -> Arc<dyn Channel> {
        match self {
            Self::Telegram(config) => Arc::new(telegram::Telegram::new(config.clone(), style)),
            Self::Webhook(config) => Arc::new(webhook::Webhook::new(config.clone(), name, style)),
            Self::Discord(config) => Arc::new(discord::Discord::new(config.clone(), style)),
            Self::Email(config) => Arc::new(email::Email::new(config.clone(), style)),
        }
    }

    /// Which lease and budget its deliveries share: one per bot or host. Holds no secret.
    pub fn budget_key(&self) -> String {
        match self {
            Self::Telegram(config) => config.budget_key(),
            Self::Webhook(config) => config.budget_key(),
            Self::Discord(config) => config.budget_key(),
            Self::Email(config) => config.budget_key(),
        }
    }

    /// The canonical configuration, common keys and all, with secrets replaced by [`super::MASK`], as it is stored and shown.
    pub fn canonical(&self, common: &Common) -> Value {
        self.whole(common, false)
    }

    /// SHA-256 of the kind and the canonical configuration with secrets: equal means unchanged.
    pub fn hash(&self, common: &Common) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.kind());
        hash.update([0]);
        hash.update(self.whole(common, true).to_string());
        hash.finalize().into()
    }

    fn whole(&self, common: &Common, secrets: bool) -> Value {
        let own = match self {
            Self::Telegram(config) => config.canonical(secrets),
            Self::Webhook(config) => config.canonical(secrets),
            Self::Discord(config) => config.canonical(secrets),
            Self::Email(config) => config.canonical(secrets),
        };
        let mut whole = common.canonical();
        if let (Some(whole), Value::Object(own)) = (whole.as_object_mut(), own) {
            whole.extend(own);
        }
        whole
    }
}
