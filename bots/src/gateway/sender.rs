//! What workers wrote goes out to the Bot API: each chat in order, within the budgets, until Telegram has taken it or says that it never
//! will. What it never will take goes to the bot's parking topic with the reason, unchanged, so that it can be put back.
//!
//! A call is done when Telegram has taken it or it is parked, and at no other time. A call whose answer was lost is made again, so a
//! person may read a message twice; it is never left out.

use super::metrics::{Attempt, Metrics};
use super::pace::Pace;
use crate::bot_api::{BotApi, CallError};
use crate::clock;
use crate::command::{Chat, Command, NotACommand};
use crate::intake::{Handler, Message};
use crate::kafka::{NotWritten, Producer};
use crate::lanes::Done;
use crate::names::BotId;
use rdkafka::message::{Header, OwnedHeaders};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Calls under way at once. More would open more connections than Telegram likes, fewer would make bots wait for each other.
const CALLS_MAX: usize = 64;

/// The pauses after a fault: from the first to the longest, each twice as long. Shorter would add to what is broken.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Telegram's wish to wait is granted up to this. Longer would let one broken answer stop a chat for days.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Puts calls out.
pub struct Sender {
    bot_api: BotApi,
    producer: Producer,
    pace: Arc<Pace>,
    give_up: Duration,
    failed: CancellationToken,
    calls: Semaphore,
    metrics: Arc<Metrics>,
}

/// Whether the wait was for its whole time.
enum Waited {
    Whole,
    Stopped,
}

impl Sender {
    /// Calls that Bot API; `failed` is cancelled when nothing can be parked any more.
    pub fn new(
        bot_api: BotApi,
        producer: Producer,
        pace: Arc<Pace>,
        give_up: Duration,
        failed: CancellationToken,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { bot_api, producer, pace, give_up, failed, calls: Semaphore::new(CALLS_MAX), metrics }
    }

    async fn send(&self, message: &Message, mut command: Command, stop: &CancellationToken) -> Done {
        let began = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            if let Waited::Stopped = self.turn(&command, stop).await {
                return Done::Abandoned;
            }
            let answered = {
                // Never closed, so never an error.
                let _place = self.calls.acquire().await;
                self.bot_api.call(&command.token, &command.method, command.params.clone()).await
            };
            let wait = match answered {
                Ok(_) => {
                    self.metrics.attempt(Attempt::Taken);
                    return Done::Done;
                }
                Err(CallError::TooMany(asked)) => {
                    self.metrics.attempt(Attempt::TooMany);
                    tracing::info!("{}: too many calls: again in {} s", place(message), asked.as_secs());
                    asked.clamp(PAUSE_FIRST, RETRY_AFTER_MAX)
                }
                Err(CallError::Refused { migrated_to: Some(chat), status, words }) => match moved(&command, chat) {
                    Some(params) => {
                        tracing::info!("{}: the group has become {chat}", place(message));
                        command.params = params;
                        command.chat = Some(Chat(chat.to_string()));
                        PAUSE_FIRST
                    }
                    None => return self.park(message, &format!("{status}: {words}"), stop).await,
                },
                Err(CallError::Refused { status, words, migrated_to: None }) => {
                    return self.park(message, &format!("{status}: {words}"), stop).await;
                }
                Err(CallError::Fault(words)) => {
                    self.metrics.attempt(Attempt::Fault);
                    if began.elapsed() >= self.give_up {
                        return self.park(message, &format!("given up after {} s: {words}", began.elapsed().as_secs()), stop).await;
                    }
                    tracing::warn!("{}: {words}; again in {} s", place(message), pause.as_secs_f64());
                    let wait = pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                    wait
                }
            };
            if let Waited::Stopped = waited(wait, stop).await {
                return Done::Abandoned;
            }
        }
    }

    /// Waits until chat and bot may be written to.
    async fn turn(&self, command: &Command, stop: &CancellationToken) -> Waited {
        while let Err(wait) = self.pace.chat(&command.token, &command.method, command.chat.as_ref()) {
            if let Waited::Stopped = waited(wait, stop).await {
                return Waited::Stopped;
            }
        }
        while let Err(wait) = self.pace.bot(&command.token) {
            if let Waited::Stopped = waited(wait, stop).await {
                return Waited::Stopped;
            }
        }
        if stop.is_cancelled() { Waited::Stopped } else { Waited::Whole }
    }

    /// Puts it aside for good, with the reason. Until Kafka has it there, it is not done.
    async fn park(&self, message: &Message, reason: &str, stop: &CancellationToken) -> Done {
        let Some(bot) = BotId::of_outgoing(&message.part.topic) else { unreachable!("only outgoing topics are subscribed to") };
        tracing::warn!("{}: parked in {}: {reason}", place(message), bot.parked());
        let headers = OwnedHeaders::new()
            .insert(Header { key: "parked-reason", value: Some(reason) })
            .insert(Header { key: "parked-from", value: Some(&place(message)) })
            .insert(Header { key: "parked-at", value: Some(&clock::rfc3339(clock::now())) });
        let mut pause = PAUSE_FIRST;
        loop {
            match self.producer.write(&bot.parked(), &message.key, &message.value, Some(headers.clone())).await {
                Ok(()) => {
                    self.metrics.attempt(Attempt::Parked);
                    return Done::Done;
                }
                Err(error @ NotWritten::Fatal(_)) => {
                    tracing::error!("{error}: this process ends, so that another one goes on");
                    self.failed.cancel();
                    return Done::Abandoned;
                }
                Err(error) => tracing::warn!("parking: {error}; again in {} s", pause.as_secs_f64()),
            }
            if let Waited::Stopped = waited(pause, stop).await {
                return Done::Abandoned;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

#[async_trait::async_trait]
impl Handler for Sender {
    /// The chat that is written to; what is about none is in order with the rest of its key.
    fn lane(&self, message: &Message) -> Vec<u8> {
        match Command::read(&message.value) {
            Ok(Command { chat: Some(chat), .. }) => chat.0.into_bytes(),
            Ok(Command { chat: None, .. }) | Err(_) => message.key.clone(),
        }
    }

    async fn handle(&self, message: Message, stop: &CancellationToken) -> Done {
        self.metrics.in_hand.inc();
        let done = match Command::read(&message.value) {
            Ok(command) => self.send(&message, command, stop).await,
            Err(error @ (NotACommand::Json | NotACommand::Token | NotACommand::Method | NotACommand::Params)) => {
                self.park(&message, &error.to_string(), stop).await
            }
        };
        self.metrics.in_hand.dec();
        done
    }
}

/// The same parameters for the group's new number.
fn moved(command: &Command, chat: i64) -> Option<String> {
    let mut params: BTreeMap<String, &RawValue> = serde_json::from_str(&command.params).ok()?;
    let (new, old) = (RawValue::from_string(chat.to_string()).ok()?, command.chat.as_ref()?);
    if old.0 == chat.to_string() {
        return None;
    }
    params.insert("chat_id".to_owned(), &new);
    serde_json::to_string(&params).ok()
}

fn place(message: &Message) -> String {
    format!("{}/{}/{}", message.part.topic, message.part.number, message.offset)
}

async fn waited(time: Duration, stop: &CancellationToken) -> Waited {
    match stop.run_until_cancelled(tokio::time::sleep(time)).await {
        Some(()) => Waited::Whole,
        None => Waited::Stopped,
    }
}
