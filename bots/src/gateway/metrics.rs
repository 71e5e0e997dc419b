//! The gateway's series, all of them here.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of a call to a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Webhook {
    /// Kafka has it.
    Taken,
    /// It can never be taken: another secret, no bot, no update.
    Refused,
    /// Kafka did not take it; Telegram sends it again.
    Failed,
}

/// What became of an attempt to make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Attempt {
    /// Telegram has taken it.
    Taken,
    /// Telegram asked to wait.
    TooMany,
    /// Nobody knows: tried again.
    Fault,
    /// It went to the parking topic.
    Parked,
}

/// What became of a bot's call to the gateway's Bot API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum BotCall {
    /// Telegram has answered it, whatever it said; or the gateway with updates.
    Answered,
    /// It was not handed on: not a bot of ours, too much, or another call has taken over.
    Refused,
    /// Kafka or Telegram did not answer.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWebhook {
    result: Webhook,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAttempt {
    result: Attempt,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBotCall {
    result: BotCall,
}

/// All series.
#[derive(Default)]
pub struct Metrics {
    webhooks: Family<OfWebhook, Counter>,
    attempts: Family<OfAttempt, Counter>,
    /// Calls that wait for their turn, their time, or an answer.
    pub in_hand: Gauge,
    bot_calls: Family<OfBotCall, Counter>,
    /// Bots that ask for their updates here.
    pub sessions: Gauge,
}

impl Metrics {
    /// Counts a call to a webhook.
    pub fn webhook(&self, result: Webhook) {
        self.webhooks.get_or_create(&OfWebhook { result }).inc();
    }

    /// Counts an attempt.
    pub fn attempt(&self, result: Attempt) {
        self.attempts.get_or_create(&OfAttempt { result }).inc();
    }

    /// Counts a call of a bot's.
    pub fn bot_call(&self, result: BotCall) {
        self.bot_calls.get_or_create(&OfBotCall { result }).inc();
    }

    /// All of them.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("watchkeeper_gateway");
        registry.register("webhook_calls", "Calls of Telegram's by what became of them", self.webhooks.clone());
        registry.register("bot_api_attempts", "Attempts to call the Bot API by what became of them", self.attempts.clone());
        registry.register("calls_in_hand", "Calls that wait for their turn, their time or an answer", self.in_hand.clone());
        registry.register("bot_calls", "Calls of bots to the gateway's Bot API by what became of them", self.bot_calls.clone());
        registry.register("sessions", "Bots that ask for their updates here", self.sessions.clone());
        registry
    }
}
