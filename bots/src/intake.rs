//! Reads topics as a member of a group, and lets a handler work on them: each chat in order, chats beside each other, and every message
//! at least once.
//!
//! A thread of its own owns the consumer, because the group is left when nobody polls; the handlers run on the runtime. What is done is
//! committed soon after, and before a partition goes to another member: that one waits until the work in hand has ended, or for
//! [`GIVE_BACK_WITHIN`]. When told to stop, it begins nothing more, lets the work in hand end, commits and leaves the group. Nothing is
//! ever committed that is not done, and nothing counts as committed before Kafka said so.

use crate::kafka::{Brokers, NotCommitted, Quiet, commit};
use crate::lanes::{Done, Lanes, Part, Ticket};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// So many messages are in hand at once; then the partitions pause. Fewer would let one slow chat hold up the others, more is memory.
const IN_HAND_MAX: usize = 1_000;

/// Paused partitions go on when fewer are in hand. Closer to the limit they would stop and go all the time.
const IN_HAND_RESUME: usize = IN_HAND_MAX / 2;

/// What is done is committed at most so much later. Longer would repeat more after a kill, and show a lag that is none; shorter would
/// ask the broker for every message.
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// Kafka has a commit within this, or it is tried again. Longer would hold up a process that is to end while brokers are away, shorter would
/// fail where they are slow.
const COMMITTED_WITHIN: Duration = Duration::from_secs(5);

/// A group is left within this, or the process ends all the same and is taken for dead by the group later: leaving waits for brokers that are
/// away. Shorter would let the other members wait where brokers are slow.
pub const LEFT_WITHIN: Duration = Duration::from_secs(10);

/// How long one look for messages takes. Longer would commit later.
const LOOK: Duration = Duration::from_millis(50);

/// A partition goes to another member after so long, also if work in hand has not ended: it will be repeated there. Longer would keep
/// the whole group waiting, shorter would repeat calls that only took a moment.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(10);

/// Who was told to stop tries for so long to commit what is done. Shorter would repeat it when other members come or go at that moment,
/// longer would keep a process that cannot reach Kafka any more.
const SETTLE_WITHIN: Duration = Duration::from_secs(15);

/// The same complaint of Kafka's is told so often. More often would fill the log while brokers are away.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// So many different complaints are remembered. More is memory.
const COMPLAINTS_MAX: usize = 64;

/// A message as a handler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it came from.
    pub part: Part,
    /// Its offset there.
    pub offset: i64,
    /// Its key; empty if it has none.
    pub key: Vec<u8>,
    /// Its value; empty if it has none.
    pub value: Vec<u8>,
}

/// What is done with messages.
#[async_trait::async_trait]
pub trait Handler: Send + Sync + 'static {
    /// What must stay in order with others of the same partition: the chat.
    fn lane(&self, message: &Message) -> Vec<u8>;

    /// Works on one. It returns [`Done::Done`] only when the message need not be seen again. It may take as long as it needs, but once
    /// `stop` is cancelled it begins no further wait or attempt and returns [`Done::Abandoned`].
    async fn handle(&self, message: Message, stop: &CancellationToken) -> Done;
}

/// Why reading ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The consumer could not be made, or failed for good.
    #[error("reading from Kafka")]
    Kafka(#[from] KafkaError),
    /// A handler panicked: what it had in hand is not done, and its chat stands still.
    #[error("a handler panicked")]
    Panicked,
    /// The thread could not be started, or panicked.
    #[error("the reading thread has ended")]
    Thread,
}

/// What the thread, the callbacks and the handlers share.
struct Shared {
    state: Mutex<State>,
    /// Told whenever work ends.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    lanes: Lanes<Vec<u8>, Message>,
    stops: HashMap<Part, CancellationToken>,
    paused: bool,
    /// Whether a commit is on its way.
    committing: bool,
    panicked: bool,
    complained: HashMap<String, Instant>,
}

impl Shared {
    /// Tells what is wrong, if it was not told lately.
    fn complain(&self, doing: &str, error: &dyn std::fmt::Display) {
        let text = format!("{doing}: {error}");
        let complained = &mut self.state().complained;
        if complained.get(&text).is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            tracing::warn!("{text}; trying on (told at most every {} s)", COMPLAIN_EVERY.as_secs());
            if complained.len() >= COMPLAINTS_MAX {
                complained.clear();
            }
            complained.insert(text, Instant::now());
        }
    }

    /// Kafka has these.
    fn committed(&self, list: &TopicPartitionList) {
        let mut state = self.state();
        for element in list.elements() {
            if let (Offset::Offset(offset), Ok(())) = (element.offset(), element.error()) {
                state.lanes.committed(&Part { topic: element.topic().into(), number: element.partition() }, offset);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Handlers run outside of it, and each change is one call of the fold.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the work in hand of these partitions end, and begins no more of it.
    fn close(&self, parts: &[Part], within: Duration) -> usize {
        let mut state = self.state();
        for part in parts {
            state.lanes.close(part);
            if let Some(stop) = state.stops.remove(part) {
                stop.cancel();
            }
        }
        let until = Instant::now() + within;
        loop {
            let running: usize = parts.iter().map(|part| state.lanes.running(part)).sum();
            let left = until.saturating_duration_since(Instant::now());
            if running == 0 || left.is_zero() || state.panicked {
                return running;
            }
            state = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Reads these topics (or, with a first `^`, those that match) until `stop`; then work in hand may take for `grace`.
pub async fn run(
    brokers: &Brokers,
    group: &str,
    topic: &str,
    handler: Arc<dyn Handler>,
    stop: CancellationToken,
    grace: Duration,
) -> Result<(), IntakeError> {
    let shared = Arc::new(Shared { state: Mutex::default(), ended: Condvar::new() });
    let consumer: BaseConsumer<Context> = brokers.consumer(group).create_with_context(Context(shared.clone()))?;
    consumer.subscribe(&[topic])?;
    let reader = Reader { consumer: Arc::new(consumer), shared, handler, runtime: Handle::current(), stop };
    let (tell, told) = tokio::sync::oneshot::channel();
    let (leave, left) = tokio::sync::oneshot::channel();
    // A thread, not a task: polling blocks, and so does giving partitions back.
    std::thread::Builder::new()
        .name("kafka-intake".to_owned())
        .spawn(move || {
            // Nobody waits any more only if the whole program ends.
            let _ = tell.send(reader.read(grace));
            // That leaves the group.
            drop(reader);
            let _ = leave.send(());
        })
        .map_err(|_| IntakeError::Thread)?;
    let ended = told.await.unwrap_or(Err(IntakeError::Thread));
    // Without one the thread has panicked, and nothing is left to wait for.
    if tokio::time::timeout(LEFT_WITHIN, left).await.is_err() {
        tracing::warn!("{group}: it could not be left within {} s", LEFT_WITHIN.as_secs());
    }
    ended
}

struct Reader {
    consumer: Arc<BaseConsumer<Context>>,
    shared: Arc<Shared>,
    handler: Arc<dyn Handler>,
    runtime: Handle,
    stop: CancellationToken,
}

impl Reader {
    fn read(&self, grace: Duration) -> Result<(), IntakeError> {
        let mut committed = Instant::now();
        while !self.stop.is_cancelled() {
            match self.consumer.poll(LOOK) {
                Some(Ok(message)) => self.take(&message),
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error.into()),
                Some(Err(error)) => self.shared.complain("reading", &error),
                None => {}
            }
            if committed.elapsed() >= COMMIT_EVERY {
                self.commit_soon();
                committed = Instant::now();
            }
            if self.shared.state().panicked {
                return Err(IntakeError::Panicked);
            }
            self.pause_or_resume()?;
        }
        let parts = self.shared.state().lanes.parts();
        let cut = self.shared.close(&parts, grace);
        if cut > 0 {
            tracing::error!("the grace of {} s has passed with {cut} messages in hand: they will be repeated", grace.as_secs_f64());
        }
        self.settle();
        // The group is left with the last who holds the consumer, which shall be this thread.
        let (state, _) = self
            .shared
            .ended
            .wait_timeout_while(self.shared.state(), SETTLE_WITHIN, |state| state.committing)
            .unwrap_or_else(PoisonError::into_inner);
        // Leaving the group gives back what is forgotten here: it was waited for already.
        let mut state = state;
        for part in &parts {
            state.lanes.forget(part);
        }
        drop(state);
        Ok(())
    }

    /// Commits what is done before the group is left. A group that changes its members takes no commits, and changes only while they poll.
    fn settle(&self) {
        let until = Instant::now() + SETTLE_WITHIN;
        while let Err(error) = commit_now(&self.consumer, &self.shared) {
            if self.consumer.assignment_lost() || Instant::now() >= until {
                tracing::warn!("what was done last could not be committed and will be repeated: {error}");
                return;
            }
            // What is read here is not begun: it is left to the next member.
            let _ = self.consumer.poll(LOOK);
        }
    }

    /// Commits what is done, one commit at a time, on a thread of its own.
    fn commit_soon(&self) {
        if self.shared.state().committing {
            return;
        }
        let Some(list) = to_commit(&self.shared) else { return };
        self.shared.state().committing = true;
        let (consumer, shared) = (self.consumer.clone(), self.shared.clone());
        self.runtime.spawn_blocking(move || {
            match commit(&consumer, &list, COMMITTED_WITHIN) {
                Ok(()) => shared.committed(&list),
                // It is offered again.
                Err(error) => shared.complain("committing", &error),
            }
            drop(consumer);
            shared.state().committing = false;
            shared.ended.notify_all();
        });
    }

    fn take(&self, message: &BorrowedMessage<'_>) {
        let part = Part { topic: message.topic().into(), number: message.partition() };
        let message = Message {
            part: part.clone(),
            offset: message.offset(),
            key: message.key().unwrap_or_default().to_owned(),
            value: message.payload().unwrap_or_default().to_owned(),
        };
        let lane = self.handler.lane(&message);
        let mut state = self.shared.state();
        let stop = state.stops.entry(part.clone()).or_default().clone();
        if let Some((ticket, message)) = state.lanes.take(&part, message.offset, lane, message) {
            self.runtime.spawn(work(self.shared.clone(), self.handler.clone(), ticket, message, stop));
        }
    }

    fn pause_or_resume(&self) -> Result<(), KafkaError> {
        let mut state = self.shared.state();
        let open = state.lanes.open();
        if !state.paused && open >= IN_HAND_MAX {
            self.consumer.pause(&self.consumer.assignment()?)?;
            state.paused = true;
        } else if state.paused && open <= IN_HAND_RESUME {
            self.consumer.resume(&self.consumer.assignment()?)?;
            state.paused = false;
        }
        Ok(())
    }
}

/// Works a lane off, until it is empty.
async fn work(shared: Arc<Shared>, handler: Arc<dyn Handler>, ticket: Ticket<Vec<u8>>, message: Message, stop: CancellationToken) {
    // Set unless the handler returned.
    struct Bomb<'a>(Option<&'a Shared>);
    impl Drop for Bomb<'_> {
        fn drop(&mut self) {
            if let Some(shared) = self.0 {
                shared.state().panicked = true;
                shared.ended.notify_all();
            }
        }
    }
    let mut next = Some((ticket, message));
    while let Some((ticket, message)) = next {
        let mut bomb = Bomb(Some(&shared));
        let done = handler.handle(message, &stop).await;
        bomb.0 = None;
        next = shared.state().lanes.ended(ticket, done);
        shared.ended.notify_all();
    }
}

/// What is done and not committed.
fn to_commit(shared: &Shared) -> Option<TopicPartitionList> {
    let moved = shared.state().lanes.to_commit();
    let mut list = TopicPartitionList::with_capacity(moved.len());
    for (part, offset) in &moved {
        if let Err(error) = list.add_partition_offset(&part.topic, part.number, Offset::Offset(*offset)) {
            tracing::warn!("an offset cannot be committed: {error}");
        }
    }
    (list.count() > 0).then_some(list)
}

/// Commits what is done, and returns when Kafka has it.
fn commit_now(consumer: &BaseConsumer<Context>, shared: &Shared) -> Result<(), NotCommitted> {
    let Some(list) = to_commit(shared) else { return Ok(()) };
    commit(consumer, &list, COMMITTED_WITHIN)?;
    shared.committed(&list);
    Ok(())
}

/// Gives partitions back in good order.
struct Context(Arc<Shared>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) => {
                let parts: Vec<Part> = parts(list);
                let cut = self.0.close(&parts, GIVE_BACK_WITHIN);
                if cut > 0 {
                    tracing::warn!("{cut} messages in hand did not end before their partitions went to another: they will be repeated");
                }
                // Without the partitions (they were lost) this fails, and what was done is repeated.
                if !consumer.assignment_lost()
                    && let Err(error) = commit_now(consumer, &self.0)
                {
                    self.0.complain("committing", &error);
                }
                let mut state = self.0.state();
                for part in &parts {
                    state.lanes.forget(part);
                }
            }
            Rebalance::Assign(list) => tracing::debug!("assigned: {:?}", parts(list)),
            Rebalance::Error(error) => self.0.complain("changing the members of the group", error),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            // What is new is not paused yet.
            if self.0.state().paused
                && let Err(error) = consumer.pause(list)
            {
                self.0.complain("pausing", &error);
            }
        }
    }
}

fn parts(list: &TopicPartitionList) -> Vec<Part> {
    list.elements().iter().map(|e| Part { topic: e.topic().into(), number: e.partition() }).collect()
}
