//! Where Telegram is told to call: the gateway's address for the bot, with the secret that it repeats in every call.

use crate::bot_api::{BotApi, CallError};
use crate::names::BotId;
use crate::secret::{BotToken, Key};
use crate::settings::PUBLIC_BOT_API;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use url::Url;

/// Telegram did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It may the next time.
    #[error("Telegram: {0}")]
    Again(String),
    /// The token is no bot's, or the URL is one that Telegram never calls.
    #[error("Telegram refuses: {0}")]
    Never(String),
}

impl From<CallError> for WebhookError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::TooMany(after) => Self::Again(format!("too many calls, again in {} s", after.as_secs())),
            CallError::Fault(words) => Self::Again(words),
            CallError::Refused { status, words, migrated_to: _ } => Self::Never(format!("{status}: {words}")),
        }
    }
}

/// The webhooks of all bots.
pub struct Webhooks {
    bot_api: BotApi,
    gateway: Url,
    key: Key,
    skipped: bool,
}

impl Webhooks {
    /// Calls `bot_api`, which is at that URL; Telegram shall call `gateway`.
    pub fn new(bot_api: BotApi, bot_api_url: &Url, gateway: &Url, key: Key) -> Self {
        // Telegram itself calls https only; a Bot API of one's own calls everything.
        let public = Url::parse(PUBLIC_BOT_API).is_ok_and(|public| public.host() == bot_api_url.host());
        let skipped = public && gateway.scheme() != "https";
        if skipped {
            tracing::warn!("GATEWAY_URL is not https, which Telegram does not call: no webhook is set");
        }
        Self { bot_api, gateway: gateway.clone(), key, skipped }
    }

    /// The address of a bot.
    pub fn url(&self, bot: &BotId) -> String {
        format!("{}/webhook/{bot}", self.gateway.as_str().trim_end_matches('/'))
    }

    /// Sets it.
    pub async fn set(&self, bot: &BotId, token: &BotToken) -> Result<(), WebhookError> {
        if self.skipped {
            return Ok(());
        }
        let secret = self.key.secret(bot);
        let params = json!({ "url": self.url(bot), "secret_token": secret.expose_secret() });
        self.bot_api.call(token, "setWebhook", params.to_string()).await?;
        Ok(())
    }

    /// Whether Telegram calls there.
    pub async fn is_set(&self, bot: &BotId, token: &BotToken) -> Result<bool, WebhookError> {
        if self.skipped {
            return Ok(true);
        }
        let info = self.bot_api.call(token, "getWebhookInfo", "{}".to_owned()).await?;
        Ok(info.get("url").and_then(Value::as_str) == Some(&self.url(bot)))
    }

    /// Takes it away, if it is ours.
    pub async fn remove(&self, bot: &BotId, token: &BotToken) -> Result<(), WebhookError> {
        if self.skipped || !self.is_set(bot, token).await? {
            return Ok(());
        }
        self.bot_api.call(token, "deleteWebhook", "{}".to_owned()).await?;
        Ok(())
    }
}
