//! All wiring, in one straight function: read this first.
//!
//! `App::build` opens the store, applies the configuration, binds the socket and makes every part, but starts nothing.
//! `App::run` starts the parts as named tasks and, at the end, stops them in the order of the flow: what takes in first,
//! then the engine with its last commit, then deliveries in hand, then the leases, then the store.

use crate::clock::{BootTime, Clock, next_beat};
use crate::config::{ChannelConfig, Config};
use crate::cut_off::{self, CutOff};
use crate::dead_man::Pinger;
use crate::deliver::{self, ChannelSpec, DeliverContext, Deliverers, Stored};
use crate::documents::Made;
use crate::ears::{self, EarsContext};
use crate::engine::{CUT_OFF, Engine, FleetUpdate, Wiring};
use crate::executor::{Executor, OBSERVED_MAX};
use crate::lateness::Lateness;
use crate::lease::{self, Keeper, KeeperContext, Leases, Wanted};
use crate::life::{Announcer, End, Life};
use crate::live::Live;
use crate::net::Net;
use crate::pulse::Pulse;
use crate::reload::{Reloader, Source, TRIES_MAX};
use crate::report::Reporter;
use crate::schedule::{COMMANDS_MAX, Scheduler};
use crate::sealed;
use crate::spec::{self, Channels, Fleet, Pages};
use crate::store::{self, Applied, Beside, Joined, Mandate, Retention, Store, StoreError};
use crate::subscribers::Teller;
use crate::talk;
use crate::telemetry::{Metrics, SharedMetrics};
use crate::uptime_o::Mirror;
use crate::vantage::{Means, Vantage};
use crate::web::{self, Control, Readiness, WebState};
use anyhow::Context as _;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryFutureExt as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchkeeper_core::retry::LAST_RESORT_AFTER;
use watchkeeper_core::vantage::VantageState;
use watchkeeper_core::{ChannelId, Dur, Micros};

/// What each part may take to end: attempts, the last commit, deliveries. Together well under the 30 s of most supervisors.
const GRACE: Duration = Duration::from_secs(5);
/// How often `/ready` is brought up to date.
const READY_EVERY: Duration = Duration::from_secs(1);
/// A channel that has taken nothing for so long is worth a warning. Less would warn of every restart of a provider.
const FAILING_AFTER: Dur = Dur::secs(60);
/// How often the store is kept, and the clock moved towards the wall clock, when nothing is waiting; and the pause between slices when something is.
const HOUSEKEEP_EVERY: Duration = Duration::from_secs(10);
const HOUSEKEEP_PAUSE: Duration = Duration::from_millis(100);

/// What other nodes decided is looked for so often: it should be told within a second.
const LISTEN_EVERY: Duration = Duration::from_millis(250);

/// Changes over the API that wait for their turn. Each takes a look at the whole configuration; more would wait longer than their answer may.
const CHANGES_MAX: usize = 32;

/// Steps of the start are taken again for so long, with such pauses. Shorter would let one of many nodes end that start at once, longer would
/// hide from a supervisor that the store is away.
const START_WITHIN: Duration = Duration::from_secs(60);
const START_PAUSE: Duration = Duration::from_millis(500);

/// The scope of housekeeping: one node of the installation does it.
const HOUSEKEEPING: &str = "housekeeping";

/// The program, wired but not started.
pub struct App {
    /// This node's name.
    pub name: String,
    /// Where the API is served.
    pub address: SocketAddr,
    /// The newest facts and the live stream.
    pub live: Live,
    /// Metrics about ourselves.
    pub metrics: SharedMetrics,
    /// The store.
    pub store: Arc<dyn Store>,
    /// What is watched.
    pub fleet: watch::Receiver<Fleet>,
    /// Signs of life, for the watchdog.
    pub pulse: Pulse,
    clock: Clock,
    scheduler: Scheduler,
    lateness: Lateness,
    schedule_rx: mpsc::Receiver<crate::schedule::Command>,
    schedule_lag: Arc<AtomicI64>,
    vantage: Arc<Vantage>,
    net: Arc<Net>,
    check: Vec<Means>,
    announcer: Announcer,
    engine: Engine,
    keeper: Keeper,
    leases: Leases,
    deliverers: Arc<Deliverers>,
    channels: Vec<ChannelSpec>,
    reporter: Reporter,
    teller: Teller,
    life: Life,
    ears: EarsContext,
    talk: watch::Receiver<talk::Talk>,
    pinger: Option<Pinger>,
    dead_man_problem: watch::Receiver<Option<String>>,
    reloader: Reloader,
    mirror: Option<Mirror>,
    listener: TcpListener,
    web: WebState,
    ready: watch::Sender<Readiness>,
    store_health: watch::Receiver<Option<String>>,
    cut_off: Option<Arc<CutOff>>,
    retention: Retention,
}

/// What tests and the demonstration give instead of the system's.
#[derive(Default)]
pub struct Given {
    /// A store that is open already.
    pub store: Option<Arc<dyn Store>>,
    /// Another way to names and sockets.
    pub net: Option<Net>,
    /// Another clock.
    pub clock: Option<Clock>,
}

impl App {
    /// Opens, applies, binds and wires; starts nothing.
    pub async fn build(config: Config, source: Source, given: Given) -> anyhow::Result<Self> {
        let clock = given.clock.unwrap_or_default();
        let metrics: SharedMetrics = Arc::new(Metrics::new());
        let live = Live::default();
        let pulse = Pulse::default();
        let store = match given.store {
            Some(store) => store,
            None => store::open(&config.store.url.text()).await.context("the store could not be opened")?,
        };
        let net = Arc::new(given.net.unwrap_or_else(|| Net::system(clock.clone())));
        let boot = uuid::Uuid::new_v4().simple().to_string();
        let name = config.agent.name.clone().unwrap_or_else(host_name);
        lease::refuse_twin(&*store, &name, config.agent.lease).await?;
        // What an earlier run could not give back is given back before this one is another life of the node.
        let journal = if store.exclusive() { None } else { cut_off::journal(&config.store.journal, &name) };
        let recovered = match &journal {
            Some(journal) => cut_off::recover(&name, journal, &*store, &clock).await.context("the journal could not be given back")?,
            None => true,
        };
        let mut joined = patiently(|| store.join(&name, &config.agent.datacenter, &boot, clock.now()))
            .await
            .context("this node could not join its datacenter")?;
        if let Some(journal) = journal.as_ref().filter(|_| !recovered) {
            cut_off::give_back_as_facts(&mut joined, &name, journal, &*store, &clock)
                .await
                .context("the journal could not be given back")?;
        }

        // What is watched: the objects of the files and of the documents beside them get their ids from the store.
        let files = config;
        let (config, made, applied) = first_applied(&*store, &source, &files, clock.now()).await?;
        let takes_part = applied.is_some();
        let applied = applied.unwrap_or_default();
        made.tell(&Made::default());
        let (made_tx, made) = watch::channel(Arc::new(made));
        let fleet = spec::build(&config, &applied, &Fleet::default(), joined.shards, clock.now());
        let channels = channel_specs(&config, &applied);
        let (channels_tx, channels_rx) = watch::channel(Channels::of(&config, &applied));
        let (pages_tx, pages_rx) = watch::channel(if takes_part { Pages::of(&config, &applied) } else { Pages::default() });
        let (talk_tx, talk) = watch::channel(talk::of(&config, &applied));
        metrics.reload_ok.set(1);
        metrics.reload_at.set(clock.now().0 as f64 / 1e6);

        // Leases: what this node may decide and deliver.
        let mut share = self::wanted(&joined, &config, &channels, takes_part);
        share.of_datacenter.extend(source.scope());
        let (wanted, wanted_rx) = watch::channel(share);
        let keeping = KeeperContext {
            store: store.clone(),
            clock: clock.clone(),
            times: config.agent.lease,
            metrics: metrics.clone(),
            wanted: wanted_rx,
            alive: pulse.leases(),
        };
        let (keeper, leases) = Keeper::new(keeping, &name, &boot);

        // Deliveries: one task per channel, under the lease of its budget.
        let fence = {
            let leases = leases.clone();
            Arc::new(move |scope: &str| leases.fence(scope))
        };
        let cx = DeliverContext {
            outbox: Arc::new(Stored(store.clone())),
            net: net.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            fence,
            patience: LAST_RESORT_AFTER,
        };
        let (cut_off, deliverers) = match journal {
            Some(journal) => {
                let (cut_off, telling) = cut_off::begin(&name, journal, leases.clone(), &cx);
                (Some(cut_off), Deliverers::new(cx).with(telling))
            }
            None => (None, Deliverers::new(cx)),
        };
        let deliverers = Arc::new(deliverers);
        if let Some(cut_off) = &cut_off {
            let deliverers = Arc::downgrade(&deliverers);
            cut_off.wakes(move |channel| {
                if let Some(deliverers) = deliverers.upgrade() {
                    deliverers.wake_cut_off(channel);
                }
            });
        }

        // The flow: schedule → executor → engine.
        let lateness = Lateness::default();
        let (observed_tx, observed) = mpsc::channel(OBSERVED_MAX);
        let vantage = Vantage::new(clock.clone(), metrics.clone());
        let executor =
            Executor::new(net.clone(), vantage.clone(), clock.clone(), metrics.clone(), lateness.clone(), descriptors(), observed_tx);
        let (schedule, schedule_rx) = mpsc::channel(COMMANDS_MAX);
        let schedule_lag = Arc::new(AtomicI64::new(0));
        let scheduler = Scheduler::new(executor, clock.clone(), metrics.clone(), schedule_lag.clone());
        let (fleets_tx, fleets) = mpsc::channel(4);
        let (pushes, actions) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (store_health_tx, store_health) = watch::channel(None);
        let outbox = {
            let deliverers = deliverers.clone();
            Arc::new(move |channels: &[_]| deliverers.wake(channels.iter().copied()))
        };
        let wiring = Wiring {
            store: store.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            live: live.clone(),
            leases: leases.clone(),
            joined: joined.clone(),
            schedule,
            observed,
            fleets,
            pushes: pushes.clone(),
            actions: actions.clone(),
            outbox,
            store_health: store_health_tx,
            cut_off: cut_off.clone(),
            alive: pulse.engine(),
        };
        let engine = Engine::new(wiring);
        let _ = fleets_tx.send(FleetUpdate { fleet: fleet.clone(), retired: applied.retired }).await;

        // The outside: API, health, metrics, pushes; and the way to reload.
        let listener = match source.listener() {
            Some(listener) => listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)),
            None => TcpListener::bind(config.server.listen).await,
        };
        let listener = listener.with_context(|| format!("cannot listen on {}", config.server.listen))?;
        let address = listener.local_addr()?;
        let (fleet_tx, fleet_rx) = watch::channel(fleet);
        let (ready, ready_rx) = watch::channel(Readiness::default());
        let (reload_tx, reload_rx) = mpsc::channel(1);
        let (changes_tx, changes_rx) = mpsc::channel(CHANGES_MAX);
        let wake_channels = {
            let deliverers = deliverers.clone();
            Arc::new(move || deliverers.wake_all())
        };
        let mended = {
            let deliverers = deliverers.clone();
            Arc::new(move |channel| deliverers.mended(channel))
        };
        let web = WebState {
            store: store.clone(),
            live: live.clone(),
            fleet: fleet_rx.clone(),
            channels: channels_rx,
            pages: pages_rx,
            made: made.clone(),
            net: net.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            control: Control {
                wake_pushes: pushes,
                wake_actions: actions.clone(),
                wake_channels,
                mended,
                reload: reload_tx,
                documents: changes_tx,
                ready: ready_rx.clone(),
            },
            metrics_token: config.server.metrics_token.clone(),
            trust: Arc::new(config.server.trust.clone()),
            oidc: config.server.oidc.clone().map(Arc::new),
            node: joined.agent_name.clone(),
            store_kind: config.store.url.kind(),
        };

        // What is said besides incidents, and who is listened to.
        let reporter = Reporter {
            store: store.clone(),
            clock: clock.clone(),
            leases: leases.clone(),
            lease: HOUSEKEEPING,
            talk: talk.clone(),
            deliverers: deliverers.clone(),
        };
        let teller = Teller {
            store: store.clone(),
            net: net.clone(),
            clock: clock.clone(),
            leases: leases.clone(),
            lease: HOUSEKEEPING,
            pages: web.pages.clone(),
            fleet: fleet_rx.clone(),
        };
        let announcer = Announcer {
            store: store.clone(),
            talk: talk.clone(),
            deliverers: deliverers.clone(),
            node: joined.agent_name.clone(),
            datacenter: joined.datacenter_code.clone(),
        };
        let life = Life { announcer: announcer.clone(), clock: clock.clone(), leases: leases.clone(), monitors: fleet_rx.borrow().0.len() };
        let ears = EarsContext {
            store: store.clone(),
            net: net.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            leases: leases.clone(),
            deliverers: deliverers.clone(),
            actions,
        };
        let (dead_man_tx, dead_man_problem) = watch::channel(None);
        let pinger = config.server.dead_man.clone().map(|dead_man| Pinger {
            dead_man,
            net: net.clone(),
            metrics: metrics.clone(),
            ready: ready_rx,
            problem: dead_man_tx,
        });

        // Whoever came with tables of UptimeOAgent finds results in them.
        let mirror = match &source {
            Source::UptimeO(tables) => {
                Some(tables.mirror(leases.clone(), joined.datacenter, clock.clone(), live.clone(), fleet_rx.clone()))
            }
            Source::Path(_) | Source::Fixed => None,
        };

        let (retention, check) = (config.store.retention, config.agent.check.clone());
        let reloader = Reloader {
            source,
            pending: (!takes_part).then(|| files.clone()),
            waits_since: None,
            current: files,
            whole: config.hash,
            made: made_tx,
            store: store.clone(),
            leases: leases.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            joined,
            requests: reload_rx,
            changes: changes_rx,
            fleets: fleets_tx,
            fleet: fleet_tx,
            channels: channels_tx,
            pages: pages_tx,
            talk: talk_tx,
            wanted,
            deliverers: deliverers.clone(),
            problem: watch::channel(None).0,
        };
        Ok(Self {
            name,
            address,
            live,
            metrics,
            store,
            fleet: fleet_rx,
            pulse,
            clock,
            scheduler,
            lateness,
            schedule_rx,
            schedule_lag,
            vantage,
            net,
            check,
            announcer,
            engine,
            keeper,
            leases,
            deliverers,
            channels,
            reporter,
            teller,
            life,
            ears,
            talk,
            pinger,
            dead_man_problem,
            reloader,
            mirror,
            listener,
            web,
            ready,
            store_health,
            cut_off,
            retention,
        })
    }

    /// UTC now, by the clock that everything here goes by.
    pub fn now(&self) -> watchkeeper_core::Micros {
        self.clock.now()
    }

    /// Runs until `stop`, or until a part fails: then everything else stops in good order and the failure is returned.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        // Cancelled when any part ends, also by a panic; none should before it is told to.
        let over = CancellationToken::new();
        let part = |name, work| named(name, over.clone(), work);
        let (taking_in, deciding, holding) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let (problem, made) = (self.reloader.problem.subscribe(), self.reloader.made.subscribe());
        let deliverers = self.deliverers.clone();
        deliverers.apply(self.channels);
        let mut intake = vec![
            part("schedule", self.scheduler.run(self.schedule_rx, taking_in.clone(), GRACE).map(Ok).boxed()),
            part("web", web::serve(self.listener, self.web, taking_in.clone()).map_err(anyhow::Error::from).boxed()),
            part("lateness", self.lateness.run(taking_in.clone()).map(Ok).boxed()),
            part("reload", self.reloader.run(taking_in.clone()).map(Ok).boxed()),
            part("ears", ears::run(self.ears, self.talk, taking_in.clone()).map(Ok).boxed()),
            part("reports", self.reporter.run(taking_in.clone()).map(Ok).boxed()),
            part("subscribers", self.teller.run(taking_in.clone()).map(Ok).boxed()),
        ];
        intake.extend(self.pinger.map(|pinger| part("dead_man", pinger.run(taking_in.clone()).map(Ok).boxed())));
        let (end, ending) = oneshot::channel();
        let life = vec![part("life", self.life.run(ending).map(Ok).boxed())];
        let mirrored = CancellationToken::new();
        let mirror = self.mirror.map(|mirror| part("mirror", mirror.run(mirrored.clone()).map(Ok).boxed()));
        let engine = vec![part("engine", self.engine.run(deciding.clone(), GRACE).boxed())];
        let housekeeping = housekeeping(self.store.clone(), self.leases.clone(), self.retention, self.clock.clone(), holding.clone());
        let (gauges, mutes) = (self.clock.clone(), self.clock.clone());
        let warnings = Warnings {
            reload: problem,
            made,
            dead_man: self.dead_man_problem,
            metrics: self.metrics.clone(),
            deliverers: self.deliverers.clone(),
            clock: self.clock,
        };
        let readiness = readiness(
            self.ready,
            self.store_health,
            self.leases.clone(),
            self.schedule_lag,
            self.vantage.watch(),
            warnings,
            holding.clone(),
        );
        let vantage = self.vantage.run(self.net, self.check, self.announcer, holding.clone());
        let outbox = deliver::show_outbox(self.store.clone(), self.metrics.clone(), gauges, holding.clone());
        let mut rest = vec![
            part("outbox", outbox.map(Ok).boxed()),
            part("leases", self.keeper.run(holding.clone()).boxed()),
            part("housekeeping", housekeeping.map(Ok).boxed()),
            part("readiness", readiness.map(Ok).boxed()),
            part("vantage", vantage.map(Ok).boxed()),
            part("wake", wake_deliverers(deliverers.clone(), self.store.clone(), self.leases, holding.clone()).map(Ok).boxed()),
        ];
        rest.extend(
            self.cut_off.map(|cut_off| part("mutes", cut_off.remember_mutes(self.store.clone(), mutes, holding.clone()).map(Ok).boxed())),
        );

        let by_itself = tokio::select! {
            () = stop.cancelled() => false,
            () = over.cancelled() => true,
        };
        taking_in.cancel();
        let mut result = ended(intake).await;
        deciding.cancel();
        result = result.and(ended(engine).await);
        // The last word about this node leaves while deliveries still do. A life that has ended by itself has no more to say.
        let _ = end.send(if by_itself || result.is_err() { End::Fault } else { End::Asked });
        result = result.and(ended(life).await);
        let late = deliverers.shutdown(GRACE).await;
        if !late.is_empty() {
            tracing::warn!(channels = ?late, "deliveries in hand did not end in time; they are repeated after the next start");
        }
        self.pulse.end();
        // What the last commit held is added while the lease is still ours.
        mirrored.cancel();
        result = result.and(ended(mirror.into_iter().collect()).await);
        holding.cancel();
        result = result.and(ended(rest).await);
        self.store.close().await;
        if by_itself { result.and(Err(anyhow::anyhow!("a part of the program ended by itself"))) } else { result }
    }
}

/// Puts the configuration into force together with the documents, if that is ours to say; `None` if another is in force: this node stands
/// by until it is ours, or the other is gone.
async fn first_applied(store: &dyn Store, source: &Source, files: &Config, now: Micros) -> anyhow::Result<(Config, Made, Option<Applied>)> {
    let mandate = if store.exclusive() { Mandate::Alone } else { Mandate::None };
    let hash = crate::hex(&files.content);
    for _ in 0..TRIES_MAX {
        let documents = patiently(|| store.documents()).await?;
        let keys = files.server.keys.as_ref();
        let anew = sealed::anew(&documents.rows, keys)?;
        let (config, made) = source.with(files, documents)?;
        let objects = spec::objects(&config).map_err(|error| anyhow::anyhow!("no randomness for push tokens: {error}"))?;
        let beside = Beside { seen: made.documents.version, writes: &anew };
        match patiently(|| store.apply(source.name(), &hash, &objects, mandate, beside, now)).await {
            Ok(applied) => {
                patiently(|| sealed::told(store, keys, anew.len())).await?;
                return Ok((config, made.written(applied.documents), Some(applied)));
            }
            Err(StoreError::NotInForce) => return Ok((config, made, None)),
            Err(StoreError::Outdated) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::Outdated.into())
}

/// A step of the start for which the store is too busy is taken again: nodes that start together wait for one another. A store that is away
/// for longer than [`START_WITHIN`] ends the start.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(mut step: impl FnMut() -> F) -> Result<T, StoreError> {
    let until = Instant::now() + START_WITHIN;
    loop {
        match step().await {
            Err(error @ StoreError::Unavailable { .. }) if Instant::now() < until => {
                tracing::warn!("{}; trying again", crate::chain(&error));
                tokio::time::sleep(START_PAUSE).await;
            }
            done => return done,
        }
    }
}

/// What this node would hold under a configuration.
pub(crate) fn wanted(joined: &Joined, config: &Config, channels: &[ChannelSpec], takes_part: bool) -> Wanted {
    let budgets = channels.iter().map(|channel| deliver::scope(&channel.budget_key));
    Wanted {
        name: joined.agent_name.clone(),
        datacenter: joined.datacenter_code.clone(),
        shards: joined.shards.max(1),
        exclusive: config.exclusive.clone(),
        singles: budgets.chain([HOUSEKEEPING.to_owned()]).collect(),
        of_datacenter: std::collections::BTreeSet::new(),
        takes_part,
    }
}

/// The configured channels, ready to deliver.
pub(crate) fn channel_specs(config: &Config, applied: &Applied) -> Vec<ChannelSpec> {
    let of = |(id, channel): (ChannelId, &ChannelConfig)| {
        ChannelSpec::new(id, &channel.name, &channel.kind, &channel.common).under(spec::guard_of(config, &channel.at))
    };
    spec::channels(config, applied).map(of).collect()
}

struct Task {
    name: &'static str,
    handle: JoinHandle<anyhow::Result<()>>,
}

fn named(name: &'static str, over: CancellationToken, work: BoxFuture<'static, anyhow::Result<()>>) -> Task {
    let over = over.drop_guard();
    let watched = async move {
        let _over = over;
        work.await
    };
    Task { name, handle: tokio::spawn(watched) }
}

/// What another node decided must be told by us where the channel is ours: a lease that comes to us may bring notices, and so may any
/// event of another node.
async fn wake_deliverers(deliverers: Arc<Deliverers>, store: Arc<dyn Store>, leases: Leases, stop: CancellationToken) {
    let mut held = leases.watch();
    let (mut before, mut known) = (0, 0);
    loop {
        let shared = leases.shared();
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = held.changed() => {}
            () = tokio::time::sleep(LISTEN_EVERY), if shared => {}
        }
        let now_held = held.borrow_and_update().epochs.len();
        // An outage is told by those who need the store.
        let newest = if shared { store.newest_event().await.unwrap_or(known) } else { known };
        if newest != known || now_held > before {
            deliverers.wake_all();
        }
        (before, known) = (now_held, newest);
    }
}

/// Waits for the tasks, and returns the first failure or panic with its name.
async fn ended(tasks: Vec<Task>) -> anyhow::Result<()> {
    let mut result = Ok(());
    for task in tasks {
        let end = match task.handle.await {
            Ok(end) => end.with_context(|| format!("{} failed", task.name)),
            Err(panic) => Err(anyhow::Error::new(panic).context(format!("{} panicked", task.name))),
        };
        result = result.and(end);
    }
    result
}

async fn housekeeping(store: Arc<dyn Store>, leases: Leases, retention: Retention, clock: Clock, stop: CancellationToken) {
    let (mut pause, mut slewed) = (HOUSEKEEP_EVERY, Instant::now());
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        if slewed.elapsed() >= HOUSEKEEP_EVERY {
            clock.slew(slewed.elapsed());
            slewed = Instant::now();
        }
        pause = HOUSEKEEP_EVERY;
        if leases.fence(HOUSEKEEPING).is_none() {
            continue;
        }
        match store.housekeep(retention, clock.now()).await {
            Ok(done) if done.more => pause = HOUSEKEEP_PAUSE,
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %crate::chain(&error), "housekeeping did not come through; trying again later"),
        }
    }
}

/// What is worth a warning, but takes nothing out of service.
struct Warnings {
    reload: watch::Receiver<Option<String>>,
    made: watch::Receiver<Arc<Made>>,
    dead_man: watch::Receiver<Option<String>>,
    metrics: SharedMetrics,
    deliverers: Arc<Deliverers>,
    clock: Clock,
}

async fn readiness(
    ready: watch::Sender<Readiness>,
    store: watch::Receiver<Option<String>>,
    leases: Leases,
    lag: Arc<AtomicI64>,
    seen: watch::Receiver<VantageState>,
    warnings: Warnings,
    stop: CancellationToken,
) {
    loop {
        let held = leases.watch();
        let leases_now = {
            let held = held.borrow();
            if BootTime::now() >= held.good_until { Err("the leases ran out".to_owned()) } else { Ok(()) }
        };
        let store_now = match store.borrow().as_deref() {
            Some(CUT_OFF) => Err(CUT_OFF.to_owned()),
            Some(_) => Err("a batch could not be committed".to_owned()),
            None => match held.borrow().error.as_ref() {
                Some(_) => Err("the store was not reached".to_owned()),
                None => Ok(()),
            },
        };
        let now = Readiness {
            store: store_now,
            leases: leases_now,
            schedule_lag: Dur(lag.load(Ordering::Relaxed)),
            reload_problem: warnings.reload.borrow().clone(),
            left_out: warnings.made.borrow().left_out.len(),
            in_clear: warnings.made.borrow().in_clear,
            dead_letters: warnings.metrics.outbox_dead.get(),
            failing_channels: warnings.deliverers.failing(warnings.clock.now() - FAILING_AFTER),
            dead_man_problem: warnings.dead_man.borrow().clone(),
            cut_off: match *seen.borrow() {
                VantageState::Lost { since } => Some(since),
                VantageState::Fine | VantageState::Suspect { .. } => None,
            },
        };
        ready.send_if_modified(|old| {
            if *old == now {
                false
            } else {
                *old = now;
                true
            }
        });
        if stop.run_until_cancelled(tokio::time::sleep_until(next_beat(READY_EVERY).into())).await.is_none() {
            return;
        }
    }
}

/// How many descriptors the process may open, after asking for as many as it may have.
fn descriptors() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1_024)
}

/// The host's name, or `node`.
pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|n| n.trim().to_owned())
        .ok()
        .filter(|n| !n.is_empty())
        .unwrap_or_else(|| "node".to_owned())
}
