//! Our own broker as a process: one that speaks Kafka's protocol and keeps everything in one SQLite file, so that it may be killed and
//! started again.

use super::role::{Role, Signal};
use crate::kafka::{Brokers, Quiet};
use anyhow::{Context as _, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// It answers within so long of its start.
const START_WITHIN: Duration = Duration::from_secs(30);

/// A broker that is there answers within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How often it is asked while it starts.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// It ends within so long of SIGTERM, or is killed.
const END_WITHIN: Duration = Duration::from_secs(5);

/// It listens on one of these: below those that the system gives to clients (32768 on Linux).
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// It is started so often at most: one that always ends is no broker.
const STARTS_MAX: u32 = 50;

/// A member of a group that is silent for so long is taken for dead, so that a kill shows soon.
pub const SESSION: Duration = Duration::from_secs(6);

/// A broker; it ends when dropped, and when this process ends in any other way.
pub struct Broker {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Where it listens behind that.
    inner: u16,
    starts: u32,
    running: Option<Role>,
}

impl Broker {
    /// Starts the program on a port that is free, with its file and its log in that folder.
    pub async fn start(program: &Path, folder: &Path) -> Result<Self> {
        let (port, inner) = (free_port()?, free_port()?);
        let mut broker = Self { program: program.to_owned(), folder: folder.to_owned(), port, inner, starts: 0, running: None };
        broker.up().await?;
        Ok(broker)
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again where it was, with everything that it had, and waits until it answers.
    pub async fn up(&mut self) -> Result<()> {
        self.starts += 1;
        let mut command = Command::new(&self.program);
        let (front, inner) = (self.address(), format!("127.0.0.1:{}", self.inner));
        let (advertised, listener) = (format!("tcp://{front}"), format!("tcp://{inner}"));
        command.args(["broker", "--silent", "--listener-url", &listener, "--advertised-listener-url", &advertised]);
        // It takes the file's path from where it is. Only with a file does it say how much a topic has.
        command
            .args(["--storage-engine", "sqlite://broker.db"])
            .env_clear()
            .envs([("RUST_BACKTRACE", "1"), ("FRONT", &front), ("INNER", &inner)])
            .current_dir(&self.folder);
        let log = self.folder.join(format!("broker-{}.log", self.starts));
        // It ends when the other end of its input closes.
        let mut role = Role::of(command, "the broker", log, Stdio::piped())?;
        let began = Instant::now();
        while let Err(error) = topics(&self.address(), ASK_EVERY * 10).await {
            role.lives()?;
            if began.elapsed() >= START_WITHIN {
                bail!("the broker does not answer after {} s: {error:#}", START_WITHIN.as_secs());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        self.running = Some(role);
        Ok(())
    }

    /// Ends it, and waits until it has.
    pub async fn down(&mut self, signal: Signal) -> Result<()> {
        let Some(mut role) = self.running.take() else { return Ok(()) };
        role.signal(signal);
        role.end_within(END_WITHIN).await?;
        Ok(())
    }

    /// Starts it again, if it has ended by itself: what ended it then.
    pub async fn mend(&mut self) -> Result<Option<String>> {
        let Some(Err(ended)) = self.running.as_mut().map(Role::lives) else { return Ok(None) };
        if self.starts >= STARTS_MAX {
            return Err(ended);
        }
        self.up().await?;
        Ok(Some(format!("{ended:#}")))
    }
}

/// A port that is free, and not one that the system gives to clients: while the broker is away, one of them could get it.
fn free_port() -> Result<u16> {
    let mut bytes = [0; 2];
    loop {
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("drawing a port: {error}"))?;
        let port = PORTS.start + u16::from_ne_bytes(bytes) % (PORTS.end - PORTS.start);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}

/// The topics of whatever broker is there; fails when none answers in that time.
pub async fn topics(address: &str, within: Duration) -> Result<Vec<String>> {
    let brokers = Brokers { list: address.to_owned(), session: SESSION };
    let asked = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer<Quiet> = brokers.client().create_with_context(Quiet)?;
        let metadata = client.fetch_metadata(None, within)?;
        Ok::<_, rdkafka::error::KafkaError>(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    });
    Ok(asked.await.context("asking the broker")??)
}

/// The same, of a broker that somebody names.
pub async fn topics_of(address: &str) -> Result<Vec<String>> {
    topics(address, ANSWER_WITHIN).await.with_context(|| format!("asking the broker at {address}"))
}

/// How many messages a topic has.
pub async fn count(address: &str, topic: &str) -> Result<u64> {
    let (brokers, topic) = (Brokers { list: address.to_owned(), session: SESSION }, topic.to_owned());
    let counted = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer<Quiet> = brokers.client().create_with_context(Quiet)?;
        let metadata = client.fetch_metadata(Some(&topic), ANSWER_WITHIN)?;
        let mut count = 0;
        for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
            let (low, high) = client.fetch_watermarks(&topic, partition.id(), ANSWER_WITHIN)?;
            count += u64::try_from(high - low).unwrap_or(0);
        }
        Ok::<_, rdkafka::error::KafkaError>(count)
    });
    Ok(counted.await.context("asking the broker")??)
}
