//! Topics made, measured and removed over the wire, on a broker that may be used for that. Used by the tests, where one is named, and by
//! `./prove bots`, which includes this file.

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use watchkeeper_bots::kafka::{Brokers, NotWritten};
use watchkeeper_bots::manager::bot::{Bot, Bounds, Phase};
use watchkeeper_bots::manager::topics::{Kafka, Topics as _};
use watchkeeper_bots::names::BotId;
use watchkeeper_bots::secret::BotToken;

/// What was asked for is seen within this.
const SEEN_WITHIN: Duration = Duration::from_secs(90);

fn partitions(brokers: &Brokers, topic: &str) -> usize {
    let client: BaseConsumer = brokers.consumer("a-look-from-outside").create().expect("a client");
    let metadata = client.fetch_metadata(None, Duration::from_secs(10)).expect("metadata");
    metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none()).map_or(0, |found| found.partitions().len())
}

/// Waits until the topics have so many partitions.
async fn until(sizes: impl Fn() -> [usize; 3], wanted: [usize; 3]) {
    let began = Instant::now();
    while sizes() != wanted {
        assert!(began.elapsed() < SEEN_WITHIN, "never {wanted:?} partitions, but {:?}", sizes());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Goes through it all; panics where something is not as it should be.
pub async fn check(brokers: Brokers) {
    let kafka = Kafka::new(&brokers, 2).expect("a client");
    let asked = Bot {
        id: BotId::new().expect("random"),
        name: "x".to_owned(),
        token: BotToken::new("1:x").expect("a token"),
        image: "echo".to_owned(),
        bounds: Bounds { min: 0, max: 8 },
        env: BTreeMap::new(),
        created: "2025-10-14T12:30:45Z".parse().expect("a time"),
        phase: Phase::Creating,
        problem: None,
    };
    // Nothing is made by writing to it.
    let nobody = BotId::new().expect("random");
    let producer = brokers.producer().expect("a producer");
    let nowhere = producer.write(&nobody.incoming(), b"1", b"x", None).await;
    assert!(matches!(nowhere, Err(NotWritten::NoTopic(_))), "{nowhere:?}");
    assert_eq!(partitions(&brokers, &nobody.incoming()), 0);

    kafka.ensure(&asked).await.expect("made");
    kafka.ensure(&asked).await.expect("made already");
    let sizes = || [asked.id.incoming(), asked.id.outgoing(), asked.id.parked()].map(|topic| partitions(&brokers, &topic));
    until(sizes, [8, 8, 1]).await;

    for nth in 0..20 {
        producer.write(&asked.id.incoming(), nth.to_string().as_bytes(), b"{}", None).await.expect("written");
    }
    assert_eq!(kafka.lag(&asked.id).await.expect("measured"), 20);
    // A worker that has done a part of it.
    let worker: BaseConsumer = brokers.consumer(&asked.id.group()).create().expect("a consumer");
    worker.subscribe(&[&asked.id.incoming()]).expect("subscribed");
    let (mut done, mut ends) = (0, BTreeMap::new());
    while done < 7 {
        if let Some(message) = worker.poll(Duration::from_secs(60)) {
            let message = message.expect("good");
            ends.insert(message.partition(), message.offset() + 1);
            done += 1;
        }
    }
    let mut list = TopicPartitionList::new();
    for (partition, offset) in ends {
        list.add_partition_offset(&asked.id.incoming(), partition, Offset::Offset(offset)).expect("a partition");
    }
    worker.commit(&list, CommitMode::Sync).expect("committed");
    assert_eq!(kafka.lag(&asked.id).await.expect("measured"), 13);
    drop(worker);

    kafka.remove(&asked.id).await.expect("removed");
    kafka.remove(&asked.id).await.expect("removed already");
    until(sizes, [0, 0, 0]).await;
}
