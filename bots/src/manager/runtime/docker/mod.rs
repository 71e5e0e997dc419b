//! Workers as containers of one Docker engine, each with a sidecar.
//!
//! What is running is asked of the engine, never remembered: every container has the installation, its bot and its number in its labels.
//! So a manager that was killed finds its workers again, and none is started twice. A worker that is not needed first has its sidecar told
//! to go, which waits until nothing is in flight, as `preStop` does in a pod; then it is told itself, and killed when the grace and more
//! have passed. Workers outlive the manager.

pub mod containers;
mod engine;

pub use containers::Plan;
pub use engine::{Engine, EngineError};

use super::failures::Failures;
use super::{Removed, Runtime, RuntimeError, Scaling};
use crate::clock;
use crate::manager::bot::Bot;
use crate::names::BotId;
use containers::{PART, Part, WORKER, is_image, name, tagged};
use futures_util::FutureExt as _;
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use url::form_urlencoded;

/// After the grace so much more passes before a worker is killed, as in a pod: sidecar and bot share one countdown. Less would kill a worker
/// that ends in time.
const GRACE_MORE: Duration = Duration::from_secs(15);

/// An image is there within this, or its pull has failed. Longer would keep one that is stuck, shorter would never get a large one.
const PULLED_WITHIN: Duration = Duration::from_mins(15);

/// What the engine tells of a pull is read up to this; more is memory.
const PULL_MAX: usize = 16 * 1024 * 1024;

/// So many images are pulled at once; others wait. More would fill the line.
const PULLS_MAX: usize = 2;

/// How a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
    /// One that was invented later.
    #[serde(other)]
    Unknown,
}

impl State {
    const fn lives(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Restarting | Self::Unknown => true,
            Self::Created | Self::Removing | Self::Exited | Self::Dead => false,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    state: State,
    /// Seconds since 1970.
    created: i64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: Ended,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ended {
    exit_code: i64,
    #[serde(rename = "OOMKilled", default)]
    out_of_memory: bool,
    started_at: String,
    finished_at: String,
}

/// A line of a pull.
#[derive(Deserialize)]
struct Pulled {
    error: Option<String>,
}

/// One container.
#[derive(Clone, Debug)]
struct Found {
    id: String,
    state: State,
    created: i64,
}

/// A worker's containers.
#[derive(Clone, Debug, Default)]
struct Worker {
    number: u32,
    bot: Option<Found>,
    sidecar: Option<Found>,
}

impl Worker {
    fn lives(&self) -> bool {
        self.bot.as_ref().is_some_and(|bot| bot.state.lives())
    }

    fn id(&self) -> &str {
        self.bot.as_ref().map_or("", |bot| bot.id.as_str())
    }
}

/// A worker that was told to go.
struct Going {
    bot: BotId,
    since: Instant,
    told: bool,
}

/// What the engine does not say.
#[derive(Default)]
struct Memory {
    /// By the id of the bot's container.
    going: HashMap<String, Going>,
    failures: Failures,
    pulls: HashMap<String, AbortOnDropHandle<Result<(), EngineError>>>,
}

/// What to do next with a worker that goes.
enum Step {
    Drain,
    Term,
    Kill,
    Wait,
}

/// The containers of an engine.
pub struct Docker {
    installation: String,
    engine: Engine,
    plan: Plan,
    memory: Mutex<Memory>,
    pulling: Arc<Semaphore>,
}

impl From<EngineError> for RuntimeError {
    fn from(error: EngineError) -> Self {
        Self::Again(error.to_string())
    }
}

impl Docker {
    /// On that engine.
    pub fn new(installation: &str, engine: Engine, plan: Plan) -> Self {
        let (memory, pulling) = (Mutex::default(), Arc::new(Semaphore::new(PULLS_MAX)));
        Self { installation: installation.to_owned(), engine, plan, memory, pulling }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All workers of a bot, whatever is left of them, by their numbers.
    async fn found(&self, bot: &BotId) -> Result<Vec<Worker>, EngineError> {
        let mut all: BTreeMap<u32, Worker> = BTreeMap::new();
        for Listed { id, state, created, labels } in self.engine.get::<Vec<Listed>>(&containers::list(&self.installation, bot)).await? {
            let number = labels.get(WORKER).and_then(|number| number.parse().ok());
            let part = labels.get(PART).and_then(|part| Part::read(part));
            let (Some(number), Some(part)) = (number, part) else { continue };
            let worker = all.entry(number).or_insert_with(|| Worker { number, ..Worker::default() });
            let found = Some(Found { id, state, created });
            match part {
                Part::Bot => worker.bot = found,
                Part::Sidecar => worker.sidecar = found,
            }
        }
        Ok(all.into_values().collect())
    }

    /// Removes what is left of workers that have ended, or were never begun; returns those that work and those that go.
    async fn tidy(&self, bot: &BotId) -> Result<(Vec<Worker>, Vec<Worker>), EngineError> {
        let found = self.found(bot).await?;
        let (alive, ended): (Vec<Worker>, Vec<Worker>) = found.into_iter().partition(Worker::lives);
        for worker in ended {
            if let Some(part) = worker.bot.as_ref().filter(|part| matches!(part.state, State::Exited | State::Dead)) {
                let told = self.memory().going.contains_key(&part.id);
                let (lived, how) = self.end_of(&part.id).await?;
                if told {
                    tracing::info!("bot {bot}: worker {} has ended: {how}", worker.number);
                } else {
                    tracing::warn!("bot {bot}: worker {} has ended by itself after {:.1} s: {how}", worker.number, lived.as_secs_f64());
                    self.memory().failures.ended(bot, lived, &how);
                }
            }
            for part in worker.bot.iter().chain(&worker.sidecar) {
                self.remove_container(&part.id).await?;
            }
        }
        let now = clock::now().as_second();
        let mut memory = self.memory();
        memory.going.retain(|id, going| going.bot != *bot || alive.iter().any(|worker| worker.id() == id));
        for worker in &alive {
            if let (Some(part), true) = (&worker.bot, worker.sidecar.as_ref().is_some_and(|sidecar| sidecar.state.lives())) {
                memory.failures.lives(bot, Duration::from_secs(now.saturating_sub(part.created).max(0) as u64));
            }
        }
        Ok(alive.into_iter().partition(|worker| !memory.going.contains_key(worker.id())))
    }

    /// How long a container has lived, and how it ended.
    async fn end_of(&self, id: &str) -> Result<(Duration, String), EngineError> {
        let Inspected { state } = self.engine.get(&format!("/containers/{id}/json")).await?;
        let times = (state.started_at.parse::<Timestamp>(), state.finished_at.parse::<Timestamp>());
        let lived = if let (Ok(from), Ok(to)) = times { to.duration_since(from).try_into().unwrap_or_default() } else { Duration::ZERO };
        let how = if state.out_of_memory { "out of memory".to_owned() } else { format!("exit code {}", state.exit_code) };
        Ok((lived, how))
    }

    async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        match self.engine.ask(Method::DELETE, &format!("/containers/{id}?force=true&v=true"), None).await {
            Ok(_) => Ok(()),
            // Gone, or on its way.
            Err(error) if error.is_gone() || error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn signal(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        match self.engine.ask(Method::POST, &format!("/containers/{id}/kill?signal={signal}"), None).await {
            Ok(_) => Ok(()),
            // It has ended meanwhile.
            Err(error) if error.is_gone() || error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Does the next thing with a worker that is to go.
    async fn stop(&self, bot: &BotId, worker: &Worker) -> Result<(), EngineError> {
        let Some(part) = &worker.bot else { return Ok(()) };
        let sidecar = worker.sidecar.as_ref().filter(|sidecar| sidecar.state.lives());
        let step = {
            let mut memory = self.memory();
            let new = !memory.going.contains_key(&part.id);
            let going =
                memory.going.entry(part.id.clone()).or_insert_with(|| Going { bot: bot.clone(), since: Instant::now(), told: false });
            if new && sidecar.is_some() {
                Step::Drain
            } else if !going.told && (sidecar.is_none() || going.since.elapsed() >= self.plan.grace) {
                going.told = true;
                Step::Term
            } else if going.since.elapsed() >= self.plan.grace + GRACE_MORE {
                Step::Kill
            } else {
                Step::Wait
            }
        };
        let number = worker.number;
        match (step, sidecar) {
            (Step::Drain, Some(sidecar)) => {
                tracing::info!("bot {bot}: worker {number} is told to go when nothing of it is in flight");
                self.signal(&sidecar.id, "SIGTERM").await
            }
            (Step::Term, _) => {
                tracing::info!("bot {bot}: worker {number} is told to go");
                self.signal(&part.id, "SIGTERM").await
            }
            (Step::Kill, _) => {
                tracing::error!("bot {bot}: worker {number} did not end within its grace and is killed");
                self.signal(&part.id, "SIGKILL").await
            }
            (Step::Drain, None) | (Step::Wait, _) => Ok(()),
        }
    }

    /// Whether an image is there; if not, it is fetched.
    async fn image(&self, image: &str) -> Result<(), RuntimeError> {
        let image = tagged(image);
        match self.engine.get::<Value>(&format!("/images/{image}/json")).await {
            Ok(_) => {
                self.memory().pulls.remove(&image);
                return Ok(());
            }
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error.into()),
        }
        let mut memory = self.memory();
        let pull = memory.pulls.entry(image.clone()).or_insert_with(|| {
            tracing::info!("image {image}: it is not here and is pulled");
            let (engine, image, pulling) = (self.engine.clone(), image.clone(), self.pulling.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                // Never closed, so never an error.
                let _place = pulling.acquire().await;
                pull(&engine, &image).await
            }))
        });
        let ended = pull.now_or_never();
        if ended.is_some() {
            memory.pulls.remove(&image);
        }
        match ended {
            None => Err(RuntimeError::Again(format!("image {image} is being pulled"))),
            Some(Ok(Ok(()))) => Err(RuntimeError::Again(format!("image {image} was pulled and is looked for"))),
            // No such image, or not for us.
            Some(Ok(Err(EngineError::Refused { status: 404 | 400, words }))) => Err(RuntimeError::Never(format!("image {image}: {words}"))),
            Some(Ok(Err(error))) => Err(RuntimeError::Again(format!("image {image}: {error}"))),
            Some(Err(_)) => Err(RuntimeError::Again(format!("image {image}: its pull was broken off"))),
        }
    }

    /// Makes a container and says its id.
    async fn create(&self, bot: &BotId, number: u32, part: Part, what: &Value) -> Result<String, RuntimeError> {
        let target = format!("/containers/create?name={}", name(bot, number, part));
        let made = self.engine.ask(Method::POST, &target, Some(what)).await.map_err(|error| match error {
            // What it understands and finds wrong stays wrong.
            EngineError::Refused { status: 400, words } => RuntimeError::Never(format!("making a {}: {words}", part.as_str())),
            error @ (EngineError::Refused { .. } | EngineError::NoAnswer(_)) => {
                RuntimeError::Again(format!("making a {}: {error}", part.as_str()))
            }
        })?;
        let Made { id } =
            serde_json::from_slice(&made).map_err(|_| RuntimeError::Again("Docker made a container without an id".to_owned()))?;
        Ok(id)
    }

    async fn begin(&self, id: &str) -> Result<(), EngineError> {
        self.engine.ask(Method::POST, &format!("/containers/{id}/start"), None).await.map(drop)
    }

    async fn start(&self, bot: &Bot, number: u32) -> Result<(), RuntimeError> {
        let made = async {
            let id = self.create(&bot.id, number, Part::Bot, &containers::bot(&self.plan, &self.installation, bot, number)).await?;
            let sidecar = containers::sidecar(&self.plan, &self.installation, &bot.id, number, &id);
            let sidecar = self.create(&bot.id, number, Part::Sidecar, &sidecar).await?;
            // First the network, then who is in it.
            for id in [&id, &sidecar] {
                if let Err(error) = self.begin(id).await {
                    // A program that is not in the image is found only here.
                    self.memory().failures.ended(&bot.id, Duration::ZERO, &bot.token.redact(&error.to_string()));
                    return Err(error.into());
                }
            }
            Ok(id)
        };
        let id = made.await.map_err(|error| match error {
            RuntimeError::Again(words) => RuntimeError::Again(bot.token.redact(&words)),
            RuntimeError::Never(words) => RuntimeError::Never(bot.token.redact(&words)),
        })?;
        tracing::info!("bot {}: worker {number} is started as container {}", bot.id, id.get(..12).unwrap_or(&id));
        Ok(())
    }

    /// Starts the sidecar of a worker again, where it is not there any more.
    async fn mend(&self, bot: &Bot, worker: &Worker) -> Result<(), RuntimeError> {
        self.memory().failures.check(&bot.id)?;
        let id = match &worker.sidecar {
            Some(sidecar) if sidecar.state.lives() => return Ok(()),
            Some(sidecar) => {
                let (lived, how) = self.end_of(&sidecar.id).await?;
                self.memory().failures.ended(&bot.id, lived, &format!("the sidecar: {how}"));
                sidecar.id.clone()
            }
            None => {
                let sidecar = containers::sidecar(&self.plan, &self.installation, &bot.id, worker.number, worker.id());
                self.create(&bot.id, worker.number, Part::Sidecar, &sidecar).await?
            }
        };
        tracing::warn!("bot {}: the sidecar of worker {} has ended and is started again", bot.id, worker.number);
        Ok(self.begin(&id).await?)
    }
}

/// Fetches an image.
async fn pull(engine: &Engine, image: &str) -> Result<(), EngineError> {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("fromImage", image).finish();
    let told = engine.ask_for(Method::POST, &format!("/images/create?{query}"), None, PULLED_WITHIN, PULL_MAX).await?;
    // The answer has begun before it is known how it ends.
    let lines = told.split(|byte| *byte == b'\n');
    let error = lines.filter_map(|line| serde_json::from_slice::<Pulled>(line).ok()?.error).next_back();
    error.map_or(Ok(()), |words| Err(EngineError::Refused { status: 500, words }))
}

#[async_trait::async_trait]
impl Runtime for Docker {
    fn scaling(&self) -> Scaling {
        Scaling::Here
    }

    fn check_image(&self, image: &str) -> Result<(), String> {
        if is_image(image) { Ok(()) } else { Err("worker_image must be the name of an image".to_owned()) }
    }

    async fn apply(&self, bot: &Bot, wanted: u32) -> Result<(), RuntimeError> {
        let (working, going) = self.tidy(&bot.id).await?;
        for worker in working.iter().skip(wanted as usize).chain(&going) {
            self.stop(&bot.id, worker).await?;
        }
        for worker in working.iter().take(wanted as usize) {
            if worker.sidecar.as_ref().is_none_or(|sidecar| !sidecar.state.lives()) {
                self.mend(bot, worker).await?;
            }
        }
        let missing = (wanted as usize).saturating_sub(working.len());
        if missing == 0 {
            return Ok(());
        }
        self.memory().failures.check(&bot.id)?;
        for image in [&bot.image, &self.plan.sidecar_image] {
            self.image(image).await?;
        }
        let taken: Vec<u32> = working.iter().chain(&going).map(|worker| worker.number).collect();
        for number in (0..).filter(|number| !taken.contains(number)).take(missing) {
            self.start(bot, number).await?;
        }
        Ok(())
    }

    async fn ready(&self, bot: &BotId) -> Result<u32, RuntimeError> {
        // It changes nothing: somebody may be making one meanwhile.
        let found = self.found(bot).await?;
        let memory = self.memory();
        Ok(found.iter().filter(|worker| worker.lives() && !memory.going.contains_key(worker.id())).count() as u32)
    }

    async fn remove(&self, bot: &BotId) -> Result<Removed, RuntimeError> {
        let (working, going) = self.tidy(bot).await?;
        for worker in working.iter().chain(&going) {
            self.stop(bot, worker).await?;
        }
        if working.is_empty() && going.is_empty() {
            self.memory().failures.forget(bot);
            return Ok(Removed::Gone);
        }
        Ok(Removed::Going)
    }
}
