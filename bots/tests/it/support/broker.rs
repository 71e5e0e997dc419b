//! librdkafka's mock broker, in this process and on a port of its own, and a look into its topics.

use super::{LONG, until};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;
use watchkeeper_bots::kafka::Brokers;
use watchkeeper_bots::names::BotId;

/// Outgoing and incoming topics have so many partitions here.
pub const PARTITIONS: i32 = 4;

type Order = Box<dyn FnOnce(&MockCluster<'static, rdkafka::producer::DefaultProducerContext>) + Send>;

/// A running broker; it ends when dropped.
pub struct Broker {
    /// How clients reach it.
    pub brokers: Brokers,
    orders: mpsc::Sender<Order>,
}

/// What stands in a topic.
#[derive(Clone, Debug)]
pub struct Found {
    pub partition: i32,
    pub key: String,
    pub value: String,
    pub headers: BTreeMap<String, String>,
}

impl Broker {
    /// The cluster cannot move between threads: it has one of its own.
    pub fn start() -> Self {
        let (orders, taken) = mpsc::channel::<Order>();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let cluster = MockCluster::new(1).expect("a mock cluster");
            tell.send(cluster.bootstrap_servers()).expect("somebody waits");
            for order in taken {
                order(&cluster);
            }
        });
        let list = told.recv().expect("the mock cluster starts");
        Self { brokers: Brokers { list, session: Duration::from_secs(6) }, orders }
    }

    fn with<T: Send + 'static>(
        &self,
        order: impl FnOnce(&MockCluster<'static, rdkafka::producer::DefaultProducerContext>) -> T + Send + 'static,
    ) -> T {
        let (tell, told) = mpsc::channel();
        self.orders.send(Box::new(move |cluster| tell.send(order(cluster)).expect("somebody waits"))).expect("the thread lives");
        told.recv().expect("the thread answers")
    }

    pub fn create(&self, topic: String, partitions: i32) {
        match self.with(move |cluster| cluster.create_topic(&topic, partitions, 1)) {
            Ok(()) | Err(KafkaError::MockCluster(RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err(error) => panic!("no topic: {error}"),
        }
    }

    /// The three topics of a bot.
    pub fn create_for(&self, bot: &BotId) {
        self.create(bot.incoming(), PARTITIONS);
        self.create(bot.outgoing(), PARTITIONS);
        self.create(bot.parked(), 1);
    }

    /// Takes the broker away, or brings it back.
    pub fn down(&self, down: bool) {
        self.with(move |cluster| if down { cluster.broker_down(1) } else { cluster.broker_up(1) }).expect("a broker");
    }

    /// Everything in a topic, partition by partition, in order.
    pub fn read(&self, topic: &str) -> Vec<Found> {
        let consumer: BaseConsumer = self.brokers.consumer("a-look-from-outside").create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), LONG).expect("metadata");
        let (mut list, mut left) = (TopicPartitionList::new(), 0);
        for partition in metadata.topics()[0].partitions() {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), LONG).expect("watermarks");
            left += high - low;
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("a partition");
        }
        consumer.assign(&list).expect("assigned");
        let mut found = Vec::new();
        while (found.len() as i64) < left {
            let message = consumer.poll(LONG).expect("a message").expect("good");
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).expect("text");
            let headers = message
                .headers()
                .map(|headers| headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect::<BTreeMap<_, _>>());
            found.push(Found {
                partition: message.partition(),
                key: text(message.key()),
                value: text(message.payload()),
                headers: headers.unwrap_or_default(),
            });
        }
        found.sort_by_key(|found| found.partition);
        found
    }

    /// What a group has not committed yet.
    pub fn lag(&self, group: &str, topic: &str) -> i64 {
        let consumer: BaseConsumer = self.brokers.consumer(group).create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), LONG).expect("metadata");
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition(topic, partition.id());
        }
        let committed = consumer.committed_offsets(list, LONG).expect("offsets");
        let lag_of = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let (low, high) = consumer.fetch_watermarks(topic, element.partition(), LONG).expect("watermarks");
            let Offset::Offset(at) = element.offset() else { return high - low };
            high - at
        };
        committed.elements().into_iter().map(lag_of).sum()
    }

    /// Waits until a group has committed everything.
    pub async fn idle(&self, group: &str, topic: &str) {
        until(&format!("{group} is done with {topic}"), async || (self.lag(group, topic) == 0).then_some(())).await;
    }
}
