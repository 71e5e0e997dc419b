//! What stands behind the `getUpdates` of a bot: a member of the group of its workers, so that lag, scaling and workers of another kind are
//! what they are without it. It reads ahead a little, and commits what the bot has confirmed, before it gives out more.
//!
//! A bot has one session at a time and one call of it that waits; a later call ends an earlier one, as at Telegram. The session outlasts
//! the calls for a while: what a bot works on between two calls must not be given to somebody else meanwhile.

use super::queue::{Allowed, Queue};
use crate::intake::LEFT_WITHIN;
use crate::kafka::{Brokers, NotCommitted, Quiet, commit};
use crate::lanes::Part;
use crate::names::BotId;
use crate::update::Waiting;
use prometheus_client::metrics::gauge::Gauge;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// So many bots are served at once. Each is a thread and a client of Kafka's; fewer would turn bots away.
const SESSIONS_MAX: usize = 64;

/// A bot that asks for nothing for so long has gone, and its partitions are given back. Shorter would give a bot that works long on what
/// it got the same again, longer would let a dead one hold what another could do. Kafka's own clients are given as long
/// (`max.poll.interval.ms`).
const GONE_AFTER: Duration = Duration::from_mins(5);

/// So much is read ahead; then the partitions pause. An answer has at most a hundred updates, so fewer would let a bot wait; more is memory.
const AHEAD_MAX: usize = 200;
const AHEAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// An answer has at most so many bytes, and always one update. More would be late on slow lines and is memory on both sides.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Kafka answers within this, or the call has failed and the bot asks again. Longer would outlast what bots wait for.
const KAFKA_WITHIN: Duration = Duration::from_secs(10);

/// A commit that failed is tried again after so long. A group that changes its members takes none for a moment.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// How long one look for messages takes. Longer would see later that it is over.
const LOOK: Duration = Duration::from_millis(50);

/// New numbers begin so far behind what a bot asks for, at most: it may have been to another gateway, whose numbers should not be met.
const GAP_MAX: i64 = 1 << 20;

/// Numbers are what a signed 32-bit integer holds, because libraries keep them so.
const NUMBERS_FROM: i64 = 1 << 20;
const NUMBERS_TO: i64 = 1 << 30;

/// What a call of `getUpdates` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The bot has everything before that number.
    pub offset: Option<i64>,
    /// At most so many.
    pub count: usize,
    /// It waits so long for the first.
    pub wait: Duration,
    /// Other kinds than before, if it says so.
    pub allowed: Option<Allowed>,
}

/// Why there are no updates, not even none.
#[derive(Debug, thiserror::Error)]
pub enum NoUpdates {
    /// A later call has taken over.
    #[error("another getUpdates has taken over")]
    Conflict,
    /// Nobody made the bot, or it is gone.
    #[error("the bot has no topic")]
    NoBot,
    /// As many bots as there may be are served.
    #[error("{SESSIONS_MAX} bots are served, which is as many as may be")]
    Full,
    /// It may the next time.
    #[error("Kafka: {0}")]
    Kafka(String),
}

/// How far a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Whether there is such a bot is being asked.
    Opening,
    Open,
    /// Nobody asked for anything, or the gateway ends.
    Over,
    NoBot,
    Failed(String),
}

struct State {
    queue: Queue,
    standing: Standing,
    paused: bool,
    /// The call that counts.
    call: u64,
    /// Calls that wait, and when the last one ended.
    calls: usize,
    last: Instant,
    /// Whether a commit is on its way.
    committing: bool,
    /// When the last one failed, and why.
    failed: Option<(Instant, String)>,
}

struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one call of the fold, or one field.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells the calls that wait.
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }
}

#[derive(Clone)]
struct Session {
    shared: Arc<Shared>,
    /// The thread's: it leaves the group when the thread ends.
    consumer: Weak<BaseConsumer<Context>>,
}

/// A call that is being answered.
struct Call {
    session: Session,
    number: u64,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.session.shared.change(|state| {
            state.calls -= 1;
            state.last = Instant::now();
        });
    }
}

/// All sessions.
pub struct Sessions {
    brokers: Brokers,
    stop: CancellationToken,
    open: Arc<Mutex<HashMap<BotId, Session>>>,
    threads: TaskTracker,
    count: Gauge,
}

impl Sessions {
    /// On these brokers, until `stop`.
    pub fn new(brokers: &Brokers, stop: CancellationToken, count: Gauge) -> Self {
        Self { brokers: brokers.clone(), stop, open: Arc::default(), threads: TaskTracker::new(), count }
    }

    /// Waits until all have left their groups, after `stop`; but not for ever.
    pub async fn ended(&self) {
        self.threads.close();
        if tokio::time::timeout(LEFT_WITHIN, self.threads.wait()).await.is_err() {
            tracing::warn!("getUpdates: {} groups could not be left within {} s", self.threads.len(), LEFT_WITHIN.as_secs());
        }
    }

    /// Answers a call.
    pub async fn updates(&self, bot: &BotId, wanted: Wanted) -> Result<Vec<String>, NoUpdates> {
        let began = Instant::now();
        let call = self.begin(bot, wanted.offset, wanted.allowed)?;
        let mut changed = call.session.shared.changed.subscribe();
        let mut committing = true;
        loop {
            let until = {
                let mut state = call.session.shared.state();
                if state.call != call.number {
                    return Err(NoUpdates::Conflict);
                }
                match &state.standing {
                    Standing::Over => return Ok(Vec::new()),
                    Standing::NoBot => return Err(NoUpdates::NoBot),
                    Standing::Failed(words) => return Err(NoUpdates::Kafka(words.clone())),
                    Standing::Opening if began.elapsed() < KAFKA_WITHIN => began + KAFKA_WITHIN,
                    Standing::Opening => return Err(NoUpdates::Kafka("there was no answer".to_owned())),
                    Standing::Open if committing => {
                        let done = state.queue.to_commit();
                        if done.is_empty() {
                            committing = false;
                            continue;
                        }
                        if began.elapsed() >= KAFKA_WITHIN {
                            let failed = state.failed.as_ref().map_or("there was no answer to a commit", |(_, words)| words);
                            return Err(NoUpdates::Kafka(failed.to_owned()));
                        }
                        let again = state.failed.as_ref().map_or(began, |(at, _)| *at + COMMIT_PAUSE);
                        if !state.committing && Instant::now() >= again {
                            state.committing = true;
                            call.session.commit(done);
                        }
                        if state.committing { began + KAFKA_WITHIN } else { again }
                    }
                    Standing::Open => {
                        let given = state.queue.give(wanted.count, ANSWER_BYTES_MAX);
                        if !given.is_empty() || began.elapsed() >= wanted.wait {
                            return Ok(given);
                        }
                        began + wanted.wait
                    }
                }
            };
            tokio::select! {
                // The sender is in what this call holds.
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    /// Finds the bot's session, or opens one, and makes this call the one that counts.
    fn begin(&self, bot: &BotId, offset: Option<i64>, allowed: Option<Allowed>) -> Result<Call, NoUpdates> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = open.get(bot).filter(|session| matches!(session.shared.state().standing, Standing::Opening | Standing::Open)).cloned();
        let session = match usable {
            Some(session) => session,
            None if self.stop.is_cancelled() => return Err(NoUpdates::Kafka("this gateway ends".to_owned())),
            None if open.len() >= SESSIONS_MAX => return Err(NoUpdates::Full),
            None => {
                let session = self.open(bot, offset).map_err(|error| NoUpdates::Kafka(error.to_string()))?;
                open.insert(bot.clone(), session.clone());
                self.count.set(open.len() as i64);
                session
            }
        };
        let mut number = 0;
        // While the map is held, so that it cannot be found to be over in between.
        session.shared.change(|state| {
            state.call += 1;
            state.calls += 1;
            number = state.call;
            if let Some(allowed) = allowed {
                state.queue.allow(allowed);
            }
            if let Some(offset) = offset {
                state.queue.confirm(offset);
            }
        });
        drop(open);
        Ok(Call { session, number })
    }

    fn open(&self, bot: &BotId, offset: Option<i64>) -> Result<Session, KafkaError> {
        let state = State {
            queue: Queue::new(first_number(offset)),
            standing: Standing::Opening,
            paused: false,
            call: 0,
            calls: 0,
            last: Instant::now(),
            committing: false,
            failed: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: watch::Sender::new(()) });
        let consumer: BaseConsumer<Context> = self.brokers.consumer(&bot.group()).create_with_context(Context(shared.clone()))?;
        let consumer = Arc::new(consumer);
        let session = Session { shared: shared.clone(), consumer: Arc::downgrade(&consumer) };
        let (bot, open, count, stop) = (bot.clone(), self.open.clone(), self.count.clone(), self.stop.clone());
        // A thread, not a task: polling blocks, and so does leaving the group.
        self.threads.spawn_blocking(move || {
            let standing = read(&consumer, &shared, &bot, &open, &stop);
            tracing::info!("bot {bot}: its getUpdates session is over: {standing:?}");
            shared.change(|state| state.standing = standing);
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.get(&bot).is_some_and(|session| Arc::ptr_eq(&session.shared, &shared)) {
                open.remove(&bot);
            }
            count.set(open.len() as i64);
        });
        Ok(session)
    }
}

impl Session {
    /// Commits, and tells what came of it. On a thread of its own: librdkafka's events do not tell of a commit that nobody waits for.
    fn commit(&self, done: Vec<(Part, i64)>) {
        // Without one the thread has ended, and says why.
        let Some(consumer) = self.consumer.upgrade() else { return };
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || {
            let mut list = TopicPartitionList::with_capacity(done.len());
            let added =
                done.iter().try_for_each(|(part, offset)| list.add_partition_offset(&part.topic, part.number, Offset::Offset(*offset)));
            let committed = added.map_err(NotCommitted::from).and_then(|()| commit(&consumer, &list, KAFKA_WITHIN));
            // The group is left with the last who holds it, which shall be the thread.
            drop(consumer);
            shared.change(|state| {
                state.committing = false;
                state.failed = committed.as_ref().err().map(|error| (Instant::now(), error.to_string()));
                if committed.is_ok() {
                    for (part, offset) in &done {
                        state.queue.committed(part, *offset);
                    }
                }
            });
        });
    }
}

/// Where the numbers of a session begin: behind what the bot asks for, so that they go on rising for it.
fn first_number(offset: Option<i64>) -> i64 {
    let mut bytes = [0; 4];
    // Without random numbers there is no gap, which matters only to who asks two gateways at once.
    let _ = getrandom::fill(&mut bytes);
    let random = i64::from(u32::from_le_bytes(bytes));
    match offset {
        Some(offset) if (1..NUMBERS_TO).contains(&offset) => offset + random % GAP_MAX,
        Some(_) | None => NUMBERS_FROM + random % (NUMBERS_TO - NUMBERS_FROM),
    }
}

/// Reads until it is over, and says why.
fn read(
    consumer: &BaseConsumer<Context>,
    shared: &Shared,
    bot: &BotId,
    open: &Mutex<HashMap<BotId, Session>>,
    stop: &CancellationToken,
) -> Standing {
    let topic = bot.incoming();
    let known = consumer.fetch_metadata(Some(&topic), KAFKA_WITHIN).map(|metadata| {
        metadata.topics().iter().any(|found| found.name() == topic && found.error().is_none() && !found.partitions().is_empty())
    });
    match known {
        Err(error) => return Standing::Failed(error.to_string()),
        Ok(false) => return Standing::NoBot,
        Ok(true) => {}
    }
    if let Err(error) = consumer.subscribe(&[&topic]) {
        return Standing::Failed(error.to_string());
    }
    tracing::info!("bot {bot}: its updates are given out by getUpdates");
    shared.change(|state| state.standing = Standing::Open);
    while !stop.is_cancelled() {
        match consumer.poll(LOOK) {
            Some(Ok(message)) => {
                let part = Part { topic: message.topic().into(), number: message.partition() };
                let update = Waiting::read(message.payload().unwrap_or_default());
                if let Err(error) = &update {
                    // Not quoted: people write what they like.
                    tracing::warn!("{topic}/{}/{}: passed over, it is no update: {error}", part.number, message.offset());
                }
                shared.change(|state| state.queue.take(part, message.offset(), update.ok()));
            }
            Some(Err(
                KafkaError::MessageConsumption(code @ RDKafkaErrorCode::UnknownTopicOrPartition)
                | KafkaError::MessageConsumptionFatal(code),
            )) => {
                return if code == RDKafkaErrorCode::UnknownTopicOrPartition {
                    Standing::NoBot
                } else {
                    Standing::Failed(code.to_string())
                };
            }
            Some(Err(error)) => tracing::debug!("bot {bot}: reading: {error}"),
            None => {}
        }
        if let Err(error) = pause_or_resume(consumer, shared) {
            return Standing::Failed(error.to_string());
        }
        // Whoever begins a call holds the map.
        let _open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = shared.state();
        if state.calls == 0 && state.last.elapsed() >= GONE_AFTER {
            state.standing = Standing::Over;
            break;
        }
    }
    Standing::Over
}

fn pause_or_resume(consumer: &BaseConsumer<Context>, shared: &Shared) -> Result<(), KafkaError> {
    let mut state = shared.state();
    let (count, bytes) = state.queue.size();
    let full = count >= AHEAD_MAX || bytes >= AHEAD_BYTES_MAX;
    if full != state.paused {
        let assigned = consumer.assignment()?;
        if full {
            consumer.pause(&assigned)?;
        } else {
            consumer.resume(&assigned)?;
        }
        state.paused = full;
    }
    Ok(())
}

/// Forgets what goes to others.
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
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            // What is confirmed is committed by then, as a rule; what is not will be seen again.
            Rebalance::Revoke(list) => self.0.change(|state| {
                for element in list.elements() {
                    state.queue.forget(&Part { topic: element.topic().into(), number: element.partition() });
                }
            }),
            Rebalance::Assign(list) => tracing::debug!("getUpdates: assigned {} partitions", list.count()),
            Rebalance::Error(error) => tracing::warn!("getUpdates: changing the members of the group: {error}"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance
            // What is new is not paused yet.
            && self.0.state().paused
            && let Err(error) = consumer.pause(list)
        {
            tracing::warn!("getUpdates: pausing: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_behind_what_the_bot_asks_for_and_fit_in_32_bits() {
        for offset in [1, 5_000_000, NUMBERS_TO - 1] {
            let first = first_number(Some(offset));
            assert!((offset..offset + GAP_MAX).contains(&first), "{first}");
        }
        for offset in [None, Some(0), Some(-1), Some(i64::MAX), Some(NUMBERS_TO)] {
            assert!((NUMBERS_FROM..NUMBERS_TO).contains(&first_number(offset)), "{offset:?}");
        }
    }
}
