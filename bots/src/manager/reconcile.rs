//! Makes what there is of every bot like what was asked for: looks, does the next thing, and looks again.
//!
//! Every step can be repeated, and each pass begins from what is there: so it mends what somebody else changed, and goes on after a crash
//! where it was. What fails is tried again after a pause and told with the bot; what can never be done makes the bot `failed`, and what
//! had been made of it is removed. A bot's row goes last.

use super::bot::{Bot, Phase};
use super::metrics::Metrics;
use super::registry::{Registry, RegistryError};
use super::runtime::{Removed, Runtime, RuntimeError, Scaling};
use super::scale::Scaler;
use super::topics::{Topics, TopicsError};
use super::webhook::{WebhookError, Webhooks};
use crate::names::BotId;
use futures_util::stream::{self, StreamExt as _};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often each bot is looked at where it is scaled from here: the first update of a sleeping bot waits so long at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The same where something else scales, and only drift is mended.
const LOOK_EVERY_ELSEWHERE: Duration = Duration::from_secs(20);

/// Topics are looked at so often, and Telegram is asked about its webhook: nobody else changes them as a rule.
const TOPICS_EVERY: Duration = Duration::from_mins(1);
const WEBHOOK_EVERY: Duration = Duration::from_mins(10);

/// One pass over a bot takes at most so long: clients below repeat what fails for a while by themselves. Longer would let one bot hold up
/// the others.
const PASS_WITHIN: Duration = Duration::from_mins(1);

/// So many bots are looked at at once. More would load Kafka, fewer would let one slow bot hold up the others.
const AT_ONCE: usize = 8;

/// The pauses after a failure: each twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// Why a pass did not get to its end.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    /// It may the next time.
    #[error("{0}")]
    Again(String),
    /// It never will.
    #[error("{0}")]
    Never(String),
}

impl From<TopicsError> for Obstacle {
    fn from(error: TopicsError) -> Self {
        Self::Again(error.to_string())
    }
}

impl From<RegistryError> for Obstacle {
    fn from(error: RegistryError) -> Self {
        Self::Again(error.to_string())
    }
}

impl From<WebhookError> for Obstacle {
    fn from(error: WebhookError) -> Self {
        match error {
            WebhookError::Again(_) => Self::Again(error.to_string()),
            WebhookError::Never(_) => Self::Never(error.to_string()),
        }
    }
}

impl From<RuntimeError> for Obstacle {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Again(words) => Self::Again(words),
            RuntimeError::Never(words) => Self::Never(words),
        }
    }
}

/// What is remembered of a bot between passes; all of it can be found out anew.
#[derive(Default)]
struct Memory {
    scaler: Option<Scaler>,
    /// The bounds that the topics were made for, and when.
    topics: Option<(u32, Instant)>,
    webhook: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

/// Everything that a pass works on.
pub struct Parts {
    /// Which bots there are.
    pub registry: Arc<dyn Registry>,
    /// Kafka.
    pub topics: Arc<dyn Topics>,
    /// Telegram.
    pub webhooks: Webhooks,
    /// Where workers run.
    pub runtime: Arc<dyn Runtime>,
    /// Workers stay for so long after they were needed.
    pub cooldown: Duration,
    /// Told when somebody asked for something.
    pub wake: Notify,
    /// What is shown of it all.
    pub metrics: Metrics,
}

/// Runs until `stop`.
pub async fn run(parts: &Parts, stop: &CancellationToken) -> Result<(), RegistryError> {
    let began = Instant::now();
    let mut memories: HashMap<BotId, Memory> = HashMap::new();
    let every = match parts.runtime.scaling() {
        Scaling::Here => LOOK_EVERY,
        Scaling::Elsewhere => LOOK_EVERY_ELSEWHERE,
    };
    while !stop.is_cancelled() {
        let bots = parts.registry.all().await?;
        parts.metrics.bots(&bots);
        let mut due: Vec<(Bot, Memory)> = Vec::new();
        let mut kept = HashMap::new();
        for bot in bots {
            let memory = memories.remove(&bot.id).unwrap_or_default();
            if memory.not_before.is_some_and(|then| Instant::now() < then) {
                kept.insert(bot.id, memory);
            } else {
                due.push((bot, memory));
            }
        }
        // Those that are gone are forgotten.
        memories = kept;
        let looked = stream::iter(due).map(|(bot, memory)| async move {
            let memory = look(parts, &bot, memory, began).await;
            (bot.id, memory)
        });
        memories.extend(looked.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
        tokio::select! {
            () = stop.cancelled() => {}
            () = parts.wake.notified() => {
                // Somebody waits: whatever paused is tried again at once.
                for memory in memories.values_mut() {
                    memory.not_before = None;
                }
            }
            () = tokio::time::sleep(every) => {}
        }
    }
    Ok(())
}

/// One pass over one bot.
async fn look(parts: &Parts, bot: &Bot, mut memory: Memory, began: Instant) -> Memory {
    let pass = async {
        match bot.phase {
            Phase::Creating | Phase::Running => make(parts, bot, &mut memory, began).await,
            Phase::Failed => Ok(()),
            Phase::Deleting => remove(parts, bot).await,
        }
    };
    let late = || Err(Obstacle::Again(format!("looking after it took longer than {} s", PASS_WITHIN.as_secs())));
    let done = tokio::time::timeout(PASS_WITHIN, pass).await.unwrap_or_else(|_| late());
    let told = match done {
        Ok(()) => {
            memory.failures = 0;
            memory.not_before = None;
            Ok(())
        }
        Err(Obstacle::Again(words)) => {
            let pause = PAUSE_FIRST.saturating_mul(1 << memory.failures.min(16)).min(PAUSE_MAX);
            memory.failures += 1;
            parts.metrics.failures.inc();
            memory.not_before = Some(Instant::now() + pause);
            if bot.problem.as_ref() != Some(&words) {
                tracing::warn!("bot {}: {words}; trying again", bot.id);
            }
            parts.registry.set_phase(&bot.id, bot.phase, Some(&words)).await
        }
        Err(Obstacle::Never(words)) => fail(parts, bot, &mut memory, &words).await,
    };
    if let Err(error) = told {
        tracing::error!("bot {}: {error}", bot.id);
    }
    memory
}

async fn make(parts: &Parts, bot: &Bot, memory: &mut Memory, began: Instant) -> Result<(), Obstacle> {
    let wanted_topics = bot.partitions();
    if memory.topics.is_none_or(|(made, at)| made != wanted_topics || at.elapsed() >= TOPICS_EVERY) {
        parts.topics.ensure(bot).await?;
        memory.topics = Some((wanted_topics, Instant::now()));
    }
    // Before any worker: what comes waits in Kafka, and a token that is none is found before anything was started for it.
    match memory.webhook {
        Some(at) if at.elapsed() < WEBHOOK_EVERY => {}
        Some(_) if parts.webhooks.is_set(&bot.id, &bot.token).await? => memory.webhook = Some(Instant::now()),
        // Also at every start: whether the secret is still the same cannot be asked.
        Some(_) | None => {
            parts.webhooks.set(&bot.id, &bot.token).await?;
            memory.webhook = Some(Instant::now());
        }
    }
    let replicas = match parts.runtime.scaling() {
        Scaling::Elsewhere => bot.bounds.min,
        Scaling::Here => {
            let lag = parts.topics.lag(&bot.id).await?;
            let now = began.elapsed();
            let scaler = match &mut memory.scaler {
                Some(scaler) => scaler,
                none @ None => none.insert(Scaler::new(parts.cooldown, parts.runtime.ready(&bot.id).await?, now)),
            };
            let wanted = scaler.wanted(lag, bot.bounds, now);
            parts.metrics.scaled(&bot.id, lag, wanted);
            wanted
        }
    };
    parts.runtime.apply(bot, replicas).await?;
    if bot.phase != Phase::Running || bot.problem.is_some() {
        parts.registry.set_phase(&bot.id, Phase::Running, None).await?;
        tracing::info!("bot {} ({}) is running", bot.id, bot.name);
    }
    Ok(())
}

/// It can never be as it was asked for: what had been made goes, what was asked for stays to be read.
async fn fail(parts: &Parts, bot: &Bot, memory: &mut Memory, words: &str) -> Result<(), RegistryError> {
    tracing::error!("bot {} has failed: {words}", bot.id);
    match clear(parts, bot).await {
        Ok(Removed::Gone) => parts.registry.set_phase(&bot.id, Phase::Failed, Some(words)).await,
        // Tried again, and then found to be as impossible as now.
        Ok(Removed::Going) => Ok(()),
        Err(error) => {
            memory.not_before = Some(Instant::now() + PAUSE_FIRST);
            parts.registry.set_phase(&bot.id, bot.phase, Some(&format!("{words}; and what had been made is still there: {error}"))).await
        }
    }
}

async fn remove(parts: &Parts, bot: &Bot) -> Result<(), Obstacle> {
    match parts.webhooks.remove(&bot.id, &bot.token).await {
        // A token that was revoked has no webhook any more.
        Ok(()) | Err(WebhookError::Never(_)) => {}
        Err(error @ WebhookError::Again(_)) => return Err(error.into()),
    }
    match clear(parts, bot).await? {
        Removed::Going => Ok(()),
        Removed::Gone => {
            parts.registry.remove(&bot.id).await?;
            parts.metrics.gone(&bot.id);
            tracing::info!("bot {} ({}) is gone", bot.id, bot.name);
            Ok(())
        }
    }
}

async fn clear(parts: &Parts, bot: &Bot) -> Result<Removed, Obstacle> {
    let removed = parts.runtime.remove(&bot.id).await?;
    if removed == Removed::Gone {
        parts.topics.remove(&bot.id).await?;
    }
    Ok(removed)
}
