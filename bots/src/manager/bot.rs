//! A bot as the manager knows it: what was asked for, and how far that is.

use crate::names::BotId;
use crate::secret::{BotToken, Key};
use jiff::Timestamp;
use std::collections::BTreeMap;
use url::Url;

/// A bot has at most so many workers. More would make more partitions than a small Kafka likes.
pub const REPLICAS_MAX: u32 = 100;

/// A bot's topics have at least so many partitions, so that a larger maximum seldom needs more: that moves chats to other partitions,
/// where they can overtake what they wrote before.
const PARTITIONS_MIN: u32 = 6;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not everything is there yet.
    Creating,
    /// Everything is there.
    Running,
    /// It can never be made as it was asked for; what had been made is gone.
    Failed,
    /// What there is of it is being removed.
    Deleting,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Creating, Self::Running, Self::Failed, Self::Deleting];

    /// As it is told and stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }

    /// The one of that name.
    pub fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }
}

/// How many workers there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// So many also when nobody writes.
    pub min: u32,
    /// Never more.
    pub max: u32,
}

impl Bounds {
    /// Bounds that can be kept; or what is wrong with them.
    pub fn new(min: u32, max: u32) -> Result<Self, String> {
        if max == 0 {
            return Err("max_replicas must be at least 1".to_owned());
        }
        if max > REPLICAS_MAX {
            return Err(format!("max_replicas must be at most {REPLICAS_MAX}"));
        }
        if min > max {
            return Err(format!("min_replicas ({min}) must not be more than max_replicas ({max})"));
        }
        Ok(Self { min, max })
    }
}

/// Where workers find what they need, the same for all bots.
#[derive(Clone, Debug)]
pub struct Places {
    /// Kafka: `host:port`, with commas between.
    pub brokers: String,
    /// The gateway's Bot API, if there is one, and what seals the addresses there.
    pub bot_api: Option<(Url, Key)>,
}

/// A bot.
#[derive(Clone, Debug)]
pub struct Bot {
    /// Its id.
    pub id: BotId,
    /// What people call it.
    pub name: String,
    /// Its token at Telegram.
    pub token: BotToken,
    /// What its workers run.
    pub image: String,
    /// How many of them.
    pub bounds: Bounds,
    /// What they are told besides, by name.
    pub env: BTreeMap<String, String>,
    /// When it was asked for.
    pub created: Timestamp,
    /// How far it is.
    pub phase: Phase,
    /// What is in the way, if anything.
    pub problem: Option<String>,
}

impl Bot {
    /// A partition is read by one worker: fewer would leave some of them idle.
    pub fn partitions(&self) -> u32 {
        self.bounds.max.max(PARTITIONS_MIN)
    }

    /// Everything that a worker is told, as the seed's platform names it.
    pub fn environment(&self, places: &Places) -> BTreeMap<String, String> {
        let mut all = self.env.clone();
        if let Some((url, key)) = &places.bot_api {
            let address = format!("{}/{}/{}", url.as_str().trim_end_matches('/'), self.id, key.seal(&self.id, &self.token));
            all.insert("BOT_API_URL".to_owned(), address);
        }
        all.extend([
            ("BOT_ID".to_owned(), self.id.to_string()),
            ("KAFKA_BROKERS".to_owned(), places.brokers.clone()),
            ("KAFKA_INCOMING_TOPIC".to_owned(), self.id.incoming()),
            ("KAFKA_OUTGOING_TOPIC".to_owned(), self.id.outgoing()),
            ("KAFKA_CONSUMER_GROUP".to_owned(), self.id.group()),
        ]);
        all
    }
}

/// Names that the manager sets itself; a bot's own variables have others.
pub const RESERVED: [&str; 9] = [
    "BOT_API_URL",
    "BOT_ID",
    "BOT_TOKEN",
    "KAFKA_BROKERS",
    "KAFKA_INCOMING_TOPIC",
    "KAFKA_OUTGOING_TOPIC",
    "KAFKA_CONSUMER_GROUP",
    "SIDECAR_URL",
    "WATCHKEEPER_OWNER",
];
