//! What the mock broker cannot show: topics made and removed over the wire. Runs where `WATCHKEEPER_KAFKA` says where a broker is that may
//! be used for tests; otherwise it says that it was left out.

use crate::support::{bot, token, until};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;
use watchkeeper_bots::kafka::{Brokers, NotWritten};
use watchkeeper_bots::manager::bot::{Bot, Bounds, Phase};
use watchkeeper_bots::manager::topics::{Kafka, Topics as _};
use watchkeeper_bots::names::BotId;

fn partitions(brokers: &Brokers, topic: &str) -> usize {
    let client: BaseConsumer = brokers.consumer("a-look-from-outside").create().expect("a client");
    let metadata = client.fetch_metadata(None, Duration::from_secs(10)).expect("metadata");
    metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none()).map_or(0, |found| found.partitions().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_once_measured_and_removed() {
    let Ok(list) = std::env::var("WATCHKEEPER_KAFKA") else {
        println!("skipped: WATCHKEEPER_KAFKA is not set");
        return;
    };
    let brokers = Brokers { list, session: Duration::from_secs(6) };
    let kafka = Kafka::new(&brokers, 2).expect("a client");
    let asked = Bot {
        id: BotId::new().expect("random"),
        name: "x".to_owned(),
        token: token(),
        image: "echo".to_owned(),
        bounds: Bounds { min: 0, max: 8 },
        env: BTreeMap::new(),
        created: "2025-10-14T12:30:45Z".parse().expect("a time"),
        phase: Phase::Creating,
        problem: None,
    };
    // Nothing is made by writing to it.
    let producer = brokers.producer().expect("a producer");
    let nowhere = producer.write(&bot("ffff").incoming(), b"1", b"x", None).await;
    assert!(matches!(nowhere, Err(NotWritten::NoTopic(_))), "{nowhere:?}");
    assert_eq!(partitions(&brokers, &bot("ffff").incoming()), 0);

    kafka.ensure(&asked).await.expect("made");
    kafka.ensure(&asked).await.expect("made already");
    let sizes = || [asked.id.incoming(), asked.id.outgoing(), asked.id.parked()].map(|topic| partitions(&brokers, &topic));
    until("they are known", async || (sizes() == [8, 8, 1]).then_some(())).await;

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
    until("they are gone", async || (sizes() == [0, 0, 0]).then_some(())).await;
}
