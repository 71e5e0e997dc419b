//! Kafka, as every part of it is used here: a producer that is sure, and the settings of a consumer.
//!
//! A message counts as written when all replicas in sync have it. The producer is idempotent: its own retries neither double nor
//! reorder. Topics are never made by writing to them.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use std::time::Duration;

/// A message is written within this, or the attempt has failed. Shorter would fail whenever a broker changes its leader; longer would
/// keep Telegram's call open until Telegram gives it up (60 s), which it counts as a failure of ours.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// A producer that has no room takes it for so long before it refuses.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// A message waits so long for others to travel with. Longer would make answers late, shorter would make a request for each.
const LINGER: Duration = Duration::from_millis(2);

/// Messages that wait to be written at once, and their kilobytes. More is memory, fewer would refuse a burst.
const WAITING_MAX: u32 = 20_000;
const WAITING_KBYTES_MAX: u32 = 65_536;

/// A topic that brokers do not know after so long is none. Shorter could miss one that was just made, longer would let Telegram wait.
const TOPIC_KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// What of a partition is fetched ahead, in kilobytes. More is memory for each partition, less would wait for the broker.
const AHEAD_KBYTES_MAX: u32 = 4_096;

/// How often a consumer looks for new topics and partitions. More often would load the brokers, less often would let the first answer
/// of a new bot wait.
const TOPICS_EVERY: Duration = Duration::from_secs(2);

/// What parts of this program need to reach Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brokers {
    /// `host:port`, with commas between.
    pub list: String,
    /// A member of a group that is silent for so long is taken for dead. Shorter would take a slow one for it.
    pub session: Duration,
}

impl Brokers {
    /// What every client is set to.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.list);
        config.set("client.id", "watchkeeper-bots");
        // librdkafka tries for ever; what it says about that is shown when it is asked for.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "2000");
        config.set("allow.auto.create.topics", "false");
        config.set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// A consumer of a group that commits only what it is told to.
    pub fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        let session = self.session.as_millis();
        config.set("group.id", group);
        // A new group begins with what is there: that is what wakes a bot that has never run.
        config.set("auto.offset.reset", "earliest");
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "false");
        config.set("session.timeout.ms", session.to_string()).set("heartbeat.interval.ms", (session / 4).to_string());
        // A change of members leaves the others' partitions alone.
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config.set("topic.metadata.refresh.interval.ms", TOPICS_EVERY.as_millis().to_string());
        config.set("queued.max.messages.kbytes", AHEAD_KBYTES_MAX.to_string());
        config.set("fetch.wait.max.ms", "100").set("fetch.error.backoff.ms", "100");
        config
    }

    /// A producer.
    pub fn producer(&self) -> Result<Producer, KafkaError> {
        let mut config = self.client();
        config.set("enable.idempotence", "true").set("acks", "all");
        config.set("message.timeout.ms", WRITE_WITHIN.as_millis().to_string());
        config.set("linger.ms", LINGER.as_millis().to_string());
        config.set("queue.buffering.max.messages", WAITING_MAX.to_string());
        config.set("queue.buffering.max.kbytes", WAITING_KBYTES_MAX.to_string());
        config.set("topic.metadata.propagation.max.ms", TOPIC_KNOWN_WITHIN.as_millis().to_string());
        Ok(Producer(config.create_with_context(Quiet)?))
    }
}

/// Why offsets are not committed.
#[derive(Debug, thiserror::Error)]
pub enum NotCommitted {
    /// Kafka did not answer, or refused.
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    /// It has others: the members of the group are changing.
    #[error("Kafka did not take the offsets")]
    Refused,
}

/// Commits these offsets, and returns when Kafka has them, or after that time. librdkafka's own commit waits for as long as brokers are away,
/// and its events tell nothing of one that nobody waits for; so Kafka is asked what it has.
pub fn commit<C: ConsumerContext>(consumer: &BaseConsumer<C>, offsets: &TopicPartitionList, within: Duration) -> Result<(), NotCommitted> {
    consumer.commit(offsets, CommitMode::Async)?;
    let kept = consumer.committed_offsets(offsets.clone(), within)?;
    let has = |wanted: &TopicPartitionListElem<'_>| {
        let found = kept.find_partition(wanted.topic(), wanted.partition()).map(|found| found.offset());
        matches!((found, wanted.offset()), (Some(Offset::Offset(found)), Offset::Offset(wanted)) if found >= wanted)
    };
    if offsets.elements().iter().all(has) { Ok(()) } else { Err(NotCommitted::Refused) }
}

/// What librdkafka says by itself is for who looks closely: while brokers are away it repeats it every second, and who wants something
/// of Kafka is told in any case.
pub struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!("librdkafka: {facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

impl ConsumerContext for Quiet {}

/// Why a message was not written.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// There is no such topic.
    #[error("the topic does not exist")]
    NoTopic(#[source] KafkaError),
    /// It will never be: it is larger than the broker takes.
    #[error("the message is larger than Kafka takes")]
    TooLarge(#[source] KafkaError),
    /// It may be the next time. It may also have been written all the same.
    #[error("Kafka did not take the message")]
    Again(#[source] KafkaError),
    /// This producer writes nothing any more; a new process does.
    #[error("the producer has failed for good")]
    Fatal(#[source] KafkaError),
}

/// Writes messages.
#[derive(Clone)]
pub struct Producer(FutureProducer<Quiet>);

impl Producer {
    /// Writes one, and returns when all replicas in sync have it.
    pub async fn write(&self, topic: &str, key: &[u8], value: &[u8], headers: Option<OwnedHeaders>) -> Result<(), NotWritten> {
        let mut record = FutureRecord::to(topic).payload(value).key(key);
        record.headers = headers;
        let Err((error, _)) = self.0.send(record, ROOM_WITHIN).await else { return Ok(()) };
        if self.0.client().fatal_error().is_some() {
            return Err(NotWritten::Fatal(error));
        }
        Err(match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition) => {
                NotWritten::NoTopic(error)
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => NotWritten::TooLarge(error),
            Some(RDKafkaErrorCode::Fatal) => NotWritten::Fatal(error),
            _ => NotWritten::Again(error),
        })
    }

    /// Whether Kafka answers.
    pub fn reachable(&self, within: Duration) -> Result<(), KafkaError> {
        // A topic that is asked for is the smallest question that a broker answers; all of them could be thousands.
        self.0.client().fetch_metadata(Some("__consumer_offsets"), within).map(drop)
    }
}
