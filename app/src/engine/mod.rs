//! The engine: the only owner of alert state.
//!
//! One task folds every attempt, push, wake-up and change of configuration, and hands what follows to the commit stream
//! (`commit.rs`). The folds run ahead of the store by at most the batch on its way and the batch that forms; paces, live events and
//! wake-ups of deliverers are published only after the commit that made them true. It decides only for monitors whose
//! scopes this node holds, and every decision carries their epochs. It never sends, never repairs, never probes.

mod actions;
mod commit;
mod ours;
mod pushes;
mod roles;
mod step;
mod votes;
mod watched;
pub mod words;

use crate::clock::{Clock, next_beat};
use crate::cut_off::CutOff;
use crate::executor::Observed;
use crate::lease::Leases;
use crate::live::{Latest, Live};
use crate::probe::{Attempt, BODY_HEAD_MAX};
use crate::schedule::Command;
use crate::spec::{Fleet, MonitorSpec};
use crate::store::{ActionRow, BeatRow, DETAIL_MAX, DetailRow, HeardVote, Joined, PushRow, RetiredMonitor, Store, StoreError, StoredState};
use crate::telemetry::SharedMetrics;
pub use commit::CUT_OFF;
use commit::Stream;
use roles::{Roles, Standing};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use watched::{Codes, Place, Watched, keep_evidence};
use watchkeeper_core::ids::IdBlock;
use watchkeeper_core::{ChannelId, Measure, Micros, MonitorId};

/// Ids are fetched when fewer than this are left: more than one batch can need.
const IDS_LOW: i64 = 20_000;
/// So many gathered attempts are folded before anything else gets its turn.
const FOLDED_AT_ONCE: usize = 1_024;
/// So many ids are fetched at once.
const IDS_BLOCK: i64 = 50_000;

/// What is looked for by and by is looked for so often.
const TICK: Duration = Duration::from_secs(1);
/// A node that is alone looks for pushes and actions every so many seconds, should a bell have been missed.
const LOOK_ALONE: u32 = 10;

/// A new configuration for the engine.
pub struct FleetUpdate {
    /// Everything that is to be watched.
    pub fleet: Fleet,
    /// Monitors whose open incidents are to be ended.
    pub retired: Vec<RetiredMonitor>,
}

/// Wakes the deliverers of these channels.
pub type WakeChannels = Arc<dyn Fn(&[ChannelId]) + Send + Sync>;

/// How the store is doing, for `/ready`.
pub type StoreHealth = Option<String>;

/// The engine's ends of all its channels.
pub struct Wiring {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Clock,
    /// Metrics about ourselves.
    pub metrics: SharedMetrics,
    /// The newest facts and the live stream.
    pub live: Live,
    /// What we hold.
    pub leases: Leases,
    /// Who we are.
    pub joined: Joined,
    /// To the schedule.
    pub schedule: mpsc::Sender<Command>,
    /// From the executor.
    pub observed: mpsc::Receiver<Observed>,
    /// New configurations.
    pub fleets: mpsc::Receiver<FleetUpdate>,
    /// Rung when a push was recorded.
    pub pushes: Arc<Notify>,
    /// Rung when a person acted on an incident.
    pub actions: Arc<Notify>,
    /// Called with the channels of notices that were committed.
    pub outbox: WakeChannels,
    /// How the store is doing.
    pub store_health: watch::Sender<StoreHealth>,
    /// What is done while a store that others share is out of reach.
    pub cut_off: Option<Arc<CutOff>>,
    /// Called every round, for the watchdog.
    pub alive: Arc<dyn Fn() + Send + Sync>,
}

struct Loaded {
    specs: Vec<(Arc<MonitorSpec>, Roles)>,
    retired: Vec<RetiredMonitor>,
    states: Vec<StoredState>,
    codes: Codes,
}

/// The task's state.
pub struct Engine {
    w: Wiring,
    fleet: Fleet,
    watched: HashMap<MonitorId, Watched>,
    /// How the datacenters are called whose votes were heard.
    codes: Codes,
    loading: HashSet<MonitorId>,
    /// What the schedule was told to watch, whether or not its state is in memory.
    probing: HashSet<MonitorId>,
    /// Something may be ours that is not in memory.
    unsettled: bool,
    retiring: Vec<RetiredMonitor>,
    ids: IdBlock,
    wakes: BinaryHeap<Reverse<(Micros, MonitorId)>>,
    folding: HashSet<i64>,
    acting: HashSet<i64>,
    stream: Stream,
    /// Since when pushes can have been recorded without a break.
    receiving_since: Micros,
    /// When the latest round began.
    round_at: Micros,
    /// The last attempt to read pushes failed.
    store_was_away: bool,
    /// Push monitors whose time was up, and when: waiting for one more look at the recorded pushes.
    overdue: Vec<(Micros, MonitorId)>,
    results: (mpsc::Sender<Fetched>, mpsc::Receiver<Fetched>),
    fetching_pushes: bool,
    fetching_actions: bool,
    /// The last attempt to read actions failed.
    actions_were_away: bool,
    fetching_votes: bool,
    fetching_ids: bool,
    /// Votes of other nodes have been heard up to here; `None` before it is known from where on to listen.
    heard: Option<i64>,
    push_monitors: usize,
    next_load: Instant,
}

/// What a background read brought.
enum Fetched {
    Loaded(Loaded),
    LoadFailed(Vec<MonitorId>, Vec<RetiredMonitor>),
    /// With when the reading began.
    Pushes(Vec<PushRow>, Micros),
    PushesFailed(StoreError),
    Actions(Vec<ActionRow>),
    ActionsFailed(StoreError),
    /// With how far they have been heard now.
    Votes(Vec<HeardVote>, i64),
    VotesFailed,
    Ids(IdBlock),
    IdsFailed,
}

impl Engine {
    /// An engine that watches nothing yet.
    pub fn new(w: Wiring) -> Self {
        let stream = Stream::new(w.store.clone(), w.metrics.clone(), &w.joined, w.store_health.clone(), w.cut_off.clone());
        let receiving_since = w.clock.now();
        let codes = Codes::from([(w.joined.datacenter, w.joined.datacenter_code.clone())]);
        // Nobody else can vote in a store that is ours alone.
        let heard = w.store.exclusive().then_some(0);
        Self {
            w,
            fleet: Fleet::default(),
            watched: HashMap::new(),
            codes,
            loading: HashSet::new(),
            probing: HashSet::new(),
            unsettled: true,
            retiring: Vec::new(),
            ids: IdBlock::default(),
            wakes: BinaryHeap::new(),
            folding: HashSet::new(),
            acting: HashSet::new(),
            stream,
            receiving_since,
            round_at: receiving_since,
            store_was_away: false,
            overdue: Vec::new(),
            results: mpsc::channel(16),
            fetching_pushes: false,
            fetching_actions: false,
            actions_were_away: false,
            fetching_votes: false,
            fetching_ids: false,
            heard,
            push_monitors: 0,
            next_load: Instant::now(),
        }
    }

    /// Runs until `stop`, then commits what is left within `grace`. An error means that the store refused a batch for good:
    /// the process must end and start again from what is stored.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration) -> anyhow::Result<()> {
        let mut held = self.w.leases.watch();
        let mut tick = tokio::time::interval_at(next_beat(TICK).into(), TICK);
        let mut listen = tokio::time::interval_at(next_beat(votes::LISTEN_EVERY).into(), votes::LISTEN_EVERY);
        listen.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looked = 0;
        loop {
            (self.w.alive)();
            self.note_round();
            self.fetch_ids();
            self.stream.launch_if_due();
            self.stream.give_back();
            let wake = self.next_wake();
            let close = self.stream.close_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                landed = self.stream.landed() => self.publish(landed?).await,
                Some(fetched) = self.results.1.recv() => self.fetched(fetched).await,
                Some(update) = self.w.fleets.recv() => self.adopt(update).await,
                Ok(()) = held.changed() => self.hold().await,
                Some(observed) = self.w.observed.recv(), if self.stream.has_room() => {
                    self.observe(observed);
                    // What has gathered meanwhile is folded in one go.
                    for _ in 0..FOLDED_AT_ONCE {
                        let Some(more) = self.w.observed.try_recv().ok() else { break };
                        self.observe(more);
                        if !self.stream.has_room() {
                            break;
                        }
                    }
                }
                () = self.w.pushes.notified() => self.fetch_pushes(),
                () = self.w.actions.notified() => self.fetch_actions(),
                () = tokio::time::sleep_until(wake.into()) => self.wake_due(),
                () = tokio::time::sleep_until(close.into()), if self.stream.waits_to_close() => {}
                // While nobody else is there, nobody else votes; but from where on to listen must be known before the first state is loaded.
                _ = listen.tick(), if self.heard.is_none() || self.w.leases.shared() => self.fetch_votes(),
                _ = tick.tick() => {
                    // What is recorded through this node rings; what another one recorded must be looked for.
                    looked += 1;
                    if self.w.leases.shared() || looked % LOOK_ALONE == 0 {
                        self.fetch_pushes();
                        self.fetch_actions();
                    }
                    self.load_missing();
                    self.w.metrics.incidents_open.set(self.watched.values().map(|w| w.open.len() as i64).sum());
                }
            }
        }
        while let Ok(observed) = self.w.observed.try_recv() {
            self.observe(observed);
        }
        self.stream.flush(grace).await
    }

    /// What is ours by shard, as the leases say now.
    fn standing(&self) -> Standing {
        let Joined { datacenter_code, agent_name, shards, .. } = &self.w.joined;
        Standing::of(&self.w.leases, datacenter_code, agent_name, *shards)
    }

    /// What is ours of one monitor.
    fn roles(&self, standing: &Standing, spec: &MonitorSpec) -> Option<Roles> {
        standing.roles(spec, &self.w.joined.datacenter_code, &self.w.joined.agent_name)
    }

    async fn fetched(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Loaded(loaded) => self.take_up(loaded).await,
            Fetched::LoadFailed(ids, retired) => {
                for id in ids {
                    self.loading.remove(&id);
                }
                self.retiring.extend(retired);
                self.unsettled = true;
                self.next_load = Instant::now() + Duration::from_secs(1);
            }
            Fetched::Pushes(rows, began) => {
                self.fetching_pushes = false;
                let full = rows.len() as i64 == pushes::PUSHES_MAX;
                for row in rows {
                    self.fold_push(&row);
                }
                self.pushes_folded(began);
                if full {
                    self.w.pushes.notify_one();
                }
            }
            Fetched::PushesFailed(error) => self.pushes_failed(&error),
            Fetched::Actions(rows) => {
                (self.fetching_actions, self.actions_were_away) = (false, false);
                let full = rows.len() as i64 == actions::ACTIONS_MAX;
                for row in rows {
                    self.fold_action(&row);
                }
                if full {
                    self.w.actions.notify_one();
                }
            }
            Fetched::ActionsFailed(error) => self.actions_failed(&error),
            Fetched::Votes(votes, heard) => self.hear(votes, heard),
            Fetched::VotesFailed => self.fetching_votes = false,
            Fetched::Ids(block) => {
                self.fetching_ids = false;
                self.ids = block;
                self.load_missing();
            }
            Fetched::IdsFailed => self.fetching_ids = false,
        }
    }

    async fn tell_schedule(&self, command: Command) {
        // The schedule ends only with the process.
        let _ = self.w.schedule.send(command).await;
    }

    // --- facts

    fn observe(&mut self, observed: Observed) {
        let Observed { spec, scheduled, at, attempt } = observed;
        let row = self.beat_row(&spec, scheduled, at, &attempt);
        self.fold(spec.id, row, &attempt, None);
    }

    fn beat_row(&self, spec: &MonitorSpec, scheduled: Micros, at: Micros, attempt: &Attempt) -> BeatRow {
        let code = attempt.hops.last().and_then(|h| h.status).map_or(-1, i32::from);
        let value = match (&attempt.worker, &attempt.certificate, &attempt.icmp) {
            (Some(worker), ..) => i64::try_from(worker.active).unwrap_or(i64::MAX),
            (None, Some(certificate), _) if !certificate.chain.is_empty() => certificate.days_left,
            (None, _, Some(icmp)) => i64::from(icmp.loss_permille),
            (None, _, None) => -1,
        };
        BeatRow {
            monitor: spec.id,
            datacenter: self
                .watched
                .get(&spec.id)
                .filter(|watched| watched.roles.sees())
                .map_or(self.w.joined.datacenter, |watched| watched.home),
            at,
            agent: self.w.joined.agent,
            outcome: attempt.outcome,
            lag_us: (at - scheduled).0.max(0),
            dns_us: attempt.phase(Measure::Dns) as i64,
            connect_us: attempt.phase(Measure::Connect) as i64,
            tls_us: attempt.phase(Measure::Tls) as i64,
            first_byte_us: attempt.phase(Measure::FirstByte) as i64,
            transfer_us: attempt.phase(Measure::Transfer) as i64,
            total_us: attempt.total_us as i64,
            code,
            size: attempt.http.as_ref().map_or(-1, |h| h.body_bytes as i64),
            value,
            flags: 0,
        }
    }

    /// Folds one fact. A fact about a monitor that is not ours is still recorded: facts are unfenced.
    fn fold(&mut self, id: MonitorId, row: BeatRow, attempt: &Attempt, push: Option<i64>) {
        let place = Place { now: self.w.clock.now(), codes: &self.codes };
        let forming = &mut self.stream.forming;
        if let Some(push) = push {
            forming.batch.folded_pushes.push(push);
        }
        if let Some(watched) = self.watched.get_mut(&id).filter(|watched| watched.roles.sees()) {
            // Asked in any case: it remembers what it was asked about.
            let tells_news = keep_evidence(watched, row.at, row.outcome, row.code);
            if (tells_news || watched.spec.keep_every_detail)
                && let Some(json) = evidence_json(attempt)
            {
                forming.batch.details.push(DetailRow { monitor: id, datacenter: row.datacenter, at: row.at, json });
            }
            let before = watched.health();
            let (decision, pace) = watched.observe(row.at, attempt, &place, &mut self.ids);
            queue_wakes(&mut self.wakes, watched, place.now);
            if watched.health() != before {
                log_health(watched, attempt.error.as_deref().or(attempt.outcome.why()));
            }
            forming.latest.push(Latest::of(&row, attempt, watched.health()));
            if let Some(pace) = pace {
                forming.paces.push((id, pace));
            }
            if let Some(decision) = decision {
                forming.decide(decision);
            }
        }
        forming.beat(row);
    }

    // --- time

    fn next_wake(&self) -> Instant {
        self.wakes.peek().map_or_else(|| Instant::now() + Duration::from_mins(1), |Reverse((at, _))| self.w.clock.instant_of(*at))
    }

    fn wake_due(&mut self) {
        let now = self.w.clock.now();
        while let Some(Reverse((at, id))) = self.wakes.peek().copied() {
            if at > now {
                break;
            }
            self.wakes.pop();
            let Some(watched) = self.watched.get_mut(&id) else { continue };
            watched.queued = watched.queued.filter(|queued| *queued != at);
            if watched.push_due.is_some_and(|due| due <= now) {
                self.push_overdue(id);
            }
            self.wake(id, now);
        }
    }

    /// Wakes the verdict of one monitor if its time has come, or if a vote of another place has run out.
    fn wake(&mut self, id: MonitorId, now: Micros) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        let place = Place { now, codes: &self.codes };
        let (wake, lapse) = (watched.wake.is_some_and(|at| at <= now), watched.lapses.take(now));
        if lapse {
            votes::renew(watched, &self.codes, &self.w.leases, now);
        }
        // A vote that was renewed changes nothing.
        if wake || (lapse && watched.has_lapsed(now)) {
            let before = watched.health();
            if let Some(decision) = watched.wake(&place, &mut self.ids) {
                self.stream.forming.decide(decision);
            }
            if watched.health() != before {
                log_health(watched, watched.verdict.blind.map(watchkeeper_core::Blind::as_str));
            }
        }
        queue_wakes(&mut self.wakes, watched, now);
    }

    // --- ids

    fn fetch_ids(&mut self) {
        if self.fetching_ids || self.ids.left() >= IDS_LOW {
            return;
        }
        self.fetching_ids = true;
        let (store, out) = (self.w.store.clone(), self.results.0.clone());
        tokio::spawn(async move {
            let fetched = match store.reserve_ids(IDS_BLOCK).await {
                Ok(block) => Fetched::Ids(block),
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "no ids could be reserved; trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Fetched::IdsFailed
                }
            };
            let _ = out.send(fetched).await;
        });
    }

    // --- after a commit

    async fn publish(&mut self, landed: commit::Landed) {
        for id in landed.pushes {
            self.folding.remove(&id);
        }
        for id in landed.actions {
            self.acting.remove(&id);
        }
        self.w.live.with(|table| table.extend(landed.latest.into_iter().map(|l| (l.beat.monitor, l))));
        for (tenant, row) in landed.live {
            self.w.live.publish(tenant, row);
        }
        if !landed.paces.is_empty() {
            self.tell_schedule(Command::Pace(landed.paces)).await;
        }
        if !landed.told.is_empty() {
            (self.w.outbox)(&landed.told);
        }
        if !landed.stale.is_empty() {
            let lost: Vec<MonitorId> = self
                .watched
                .iter()
                .filter(|(_, w)| w.roles.fences().iter().any(|f| landed.stale.contains(&f.scope)))
                .map(|(id, _)| *id)
                .collect();
            self.drop_watched(&lost).await;
        }
    }
}

/// The scope of what one datacenter sees.
pub fn site_scope(datacenter: &str, shard: u16) -> String {
    format!("site/{datacenter}/{shard}")
}

/// The scope of what is true.
pub fn verdict_scope(shard: u16) -> String {
    format!("verdict/{shard}")
}

/// The scope of what only one node can see.
pub fn agent_scope(agent: &str) -> String {
    format!("agent/{agent}")
}

/// Which shard decides for a monitor.
pub const fn shard_of(id: MonitorId, shards: u16) -> u16 {
    (id.0.unsigned_abs() % if shards == 0 { 1 } else { shards as u64 }) as u16
}

/// An attempt as stored evidence; what is too long loses most of its body first, then all of it and the headers.
fn evidence_json(attempt: &Attempt) -> Option<String> {
    let json = serde_json::to_string(attempt).ok()?;
    if json.len() <= DETAIL_MAX {
        return Some(json);
    }
    let mut smaller = attempt.clone();
    if let Some(body) = smaller.http.as_mut().and_then(|http| http.body_head.as_mut()) {
        body.truncate(body.floor_char_boundary(BODY_HEAD_MAX));
        if let Some(json) = serde_json::to_string(&smaller).ok().filter(|json| json.len() <= DETAIL_MAX) {
            return Some(json);
        }
    }
    if let Some(http) = &mut smaller.http {
        http.body_head = None;
        http.response_headers.clear();
        http.request_headers.clear();
    }
    serde_json::to_string(&smaller).ok().filter(|json| json.len() <= DETAIL_MAX)
}

/// Queues the monitor's next wake-up, unless it is queued for then or earlier already.
fn queue_wakes(wakes: &mut BinaryHeap<Reverse<(Micros, MonitorId)>>, watched: &mut Watched, now: Micros) {
    let lapse = watched.lapse(now);
    watched.lapses.note(lapse, now);
    let Some(next) = watched.wake.into_iter().chain(watched.push_due).chain(watched.lapses.at()).min() else { return };
    if watched.queued.is_none_or(|queued| next < queued) {
        watched.queued = Some(next);
        wakes.push(Reverse((next, watched.spec.id)));
    }
}

/// Says in the log that a monitor is something else now.
fn log_health(watched: &Watched, why: Option<&str>) {
    let (name, health, why) = (&watched.spec.name, watched.health().as_str(), why.unwrap_or_default());
    tracing::info!(monitor.name = %name, health, "{name} is {health}{}{why}", if why.is_empty() { "" } else { ": " });
}
