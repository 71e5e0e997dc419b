//! Kafka as the manager sees it: the topics of a bot, and how far its workers are behind.

use super::bot::Bot;
use crate::kafka::{Brokers, Quiet};
use crate::names::BotId;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A question to Kafka is answered within this, or has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// So many clients are kept, each for the group of one bot. More are threads and connections, fewer would connect for every look.
const CLIENTS_MAX: usize = 64;

/// The parking topic is read by people.
const PARKED_PARTITIONS: i32 = 1;

/// Kafka did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// It did not answer, or refused.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// It refused for one topic.
    #[error("Kafka: topic {0}: {1}")]
    Topic(String, RDKafkaErrorCode),
    /// The question could not be asked.
    #[error("asking Kafka was broken off")]
    Broken,
}

/// What there is to do about topics. A trait, because the broker that tests run on makes topics in a way of its own.
#[async_trait::async_trait]
pub trait Topics: Send + Sync + 'static {
    /// Makes the topics of a bot, with as many partitions as it needs; those that are there stay.
    async fn ensure(&self, bot: &Bot) -> Result<(), TopicsError>;
    /// Removes them, and the group of its workers.
    async fn remove(&self, bot: &BotId) -> Result<(), TopicsError>;
    /// How many updates its workers have not done yet.
    async fn lag(&self, bot: &BotId) -> Result<u64, TopicsError>;
}

/// A real Kafka.
pub struct Kafka {
    admin: AdminClient<Quiet>,
    replication: i32,
    lags: Lags,
}

impl Kafka {
    /// Reached there; each partition is on so many brokers, if there are.
    pub fn new(brokers: &Brokers, replication: i32) -> Result<Self, KafkaError> {
        Ok(Self { admin: brokers.client().create_with_context(Quiet)?, replication, lags: Lags::new(brokers) })
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(ANSWER_WITHIN)).operation_timeout(Some(ANSWER_WITHIN))
    }

    /// The number of brokers, and of partitions of these topics.
    async fn known(&self, names: Vec<String>) -> Result<(usize, Vec<Option<usize>>), TopicsError> {
        let lags = self.lags.clone();
        blocking(move || {
            let client = lags.any()?;
            let metadata = client.fetch_metadata(None, ANSWER_WITHIN)?;
            let count = |name: &String| {
                let topic = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none())?;
                Some(topic.partitions().len())
            };
            Ok((metadata.brokers().len(), names.iter().map(count).collect()))
        })
        .await
    }
}

#[async_trait::async_trait]
impl Topics for Kafka {
    async fn ensure(&self, bot: &Bot) -> Result<(), TopicsError> {
        let partitions = bot.partitions() as i32;
        let wanted = [(bot.id.incoming(), partitions), (bot.id.outgoing(), partitions), (bot.id.parked(), PARKED_PARTITIONS)];
        let (brokers, known) = self.known(wanted.iter().map(|(name, _)| name.clone()).collect()).await?;
        let replication = self.replication.min(brokers as i32).max(1);
        let (mut new, mut more) = (Vec::new(), Vec::new());
        for ((name, wanted), known) in wanted.iter().zip(known) {
            match known {
                None => new.push(NewTopic::new(name, *wanted, TopicReplication::Fixed(replication))),
                Some(known) if known < *wanted as usize => more.push(NewPartitions::new(name, *wanted as usize)),
                Some(_) => {}
            }
        }
        if !new.is_empty() {
            for made in self.admin.create_topics(&new, &Self::options()).await? {
                match made {
                    // Made by somebody else meanwhile: its partitions are looked at the next time.
                    Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, code)) => return Err(TopicsError::Topic(topic, code)),
                }
            }
        }
        if !more.is_empty() {
            for made in self.admin.create_partitions(&more, &Self::options()).await? {
                made.map_err(|(topic, code)| TopicsError::Topic(topic, code))?;
            }
        }
        Ok(())
    }

    async fn remove(&self, bot: &BotId) -> Result<(), TopicsError> {
        self.lags.forget(bot);
        let names = [bot.incoming(), bot.outgoing(), bot.parked()];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for gone in self.admin.delete_topics(&names, &Self::options()).await? {
            match gone {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {}
                Err((topic, code)) => return Err(TopicsError::Topic(topic, code)),
            }
        }
        // Only tidiness: the id is never used again, and Kafka forgets a group without members by itself.
        if let Err(error) = self.admin.delete_groups(&[&bot.group()], &Self::options()).await {
            tracing::debug!("bot {bot}: its group is left to Kafka: {error}");
        }
        Ok(())
    }

    async fn lag(&self, bot: &BotId) -> Result<u64, TopicsError> {
        self.lags.of(bot).await
    }
}

/// Measures lag: what is in the topic, without what the group has committed.
#[derive(Clone)]
pub struct Lags {
    brokers: Brokers,
    clients: Arc<Mutex<HashMap<String, Arc<BaseConsumer<Quiet>>>>>,
}

impl Lags {
    /// Asks these brokers.
    pub fn new(brokers: &Brokers) -> Self {
        Self { brokers: brokers.clone(), clients: Arc::default() }
    }

    /// Of one bot.
    pub async fn of(&self, bot: &BotId) -> Result<u64, TopicsError> {
        let (lags, bot) = (self.clone(), bot.clone());
        blocking(move || {
            let (client, topic) = (lags.client(&bot.group())?, bot.incoming());
            let metadata = client.fetch_metadata(Some(&topic), ANSWER_WITHIN)?;
            let mut list = TopicPartitionList::new();
            for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
                list.add_partition(&topic, partition.id());
            }
            let committed = client.committed_offsets(list, ANSWER_WITHIN)?;
            let mut lag = 0;
            for partition in committed.elements() {
                let (low, high) = client.fetch_watermarks(&topic, partition.partition(), ANSWER_WITHIN)?;
                let done = match partition.offset() {
                    Offset::Offset(offset) => offset.max(low),
                    // A group that has committed nothing begins with what is there.
                    Offset::Beginning | Offset::End | Offset::Stored | Offset::Invalid | Offset::OffsetTail(_) => low,
                };
                lag += u64::try_from(high - done).unwrap_or(0);
            }
            Ok(lag)
        })
        .await
    }

    fn any(&self) -> Result<Arc<BaseConsumer<Quiet>>, KafkaError> {
        self.client("watchkeeper-manager")
    }

    /// A client that commits nothing, reads nothing and joins nothing.
    fn client(&self, group: &str) -> Result<Arc<BaseConsumer<Quiet>>, KafkaError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(group) {
            return Ok(client.clone());
        }
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        let client: Arc<BaseConsumer<Quiet>> = Arc::new(self.brokers.consumer(group).create_with_context(Quiet)?);
        clients.insert(group.to_owned(), client.clone());
        Ok(client)
    }

    fn forget(&self, bot: &BotId) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&bot.group());
    }
}

async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> Result<T, KafkaError> + Send + 'static) -> Result<T, TopicsError> {
    Ok(tokio::task::spawn_blocking(ask).await.map_err(|_| TopicsError::Broken)??)
}
