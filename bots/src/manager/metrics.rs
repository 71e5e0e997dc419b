//! The manager's series, all of them here.

use super::bot::{Bot, Phase};
use crate::names::BotId;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt::Write as _;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    status: Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Status(&'static str);

impl EncodeLabelValue for Status {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBot {
    bot_id: String,
}

/// All series.
#[derive(Default)]
pub struct Metrics {
    bots: Family<OfPhase, Gauge>,
    lag: Family<OfBot, Gauge>,
    wanted: Family<OfBot, Gauge>,
    /// Passes over a bot that did not get to their end.
    pub failures: Counter,
}

impl Metrics {
    /// These are the bots now.
    pub fn bots(&self, bots: &[Bot]) {
        for phase in Phase::ALL {
            let count = bots.iter().filter(|bot| bot.phase == phase).count();
            self.bots.get_or_create(&OfPhase { status: Status(phase.as_str()) }).set(count as i64);
        }
    }

    /// What was measured of a bot that is scaled from here.
    pub fn scaled(&self, bot: &BotId, lag: u64, wanted: u32) {
        let label = OfBot { bot_id: bot.to_string() };
        self.lag.get_or_create(&label).set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.wanted.get_or_create(&label).set(i64::from(wanted));
    }

    /// The bot is gone.
    pub fn gone(&self, bot: &BotId) {
        let label = OfBot { bot_id: bot.to_string() };
        self.lag.remove(&label);
        self.wanted.remove(&label);
    }

    /// All of them.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("watchkeeper_manager");
        registry.register("bots", "Bots by how far they are", self.bots.clone());
        registry.register("bot_lag", "Updates that workers have not done yet", self.lag.clone());
        registry.register("bot_workers_wanted", "Workers that the lag needs", self.wanted.clone());
        registry.register("failed_passes", "Passes over a bot that did not get to their end", self.failures.clone());
        registry
    }
}
