//! Which monitors are ours: what a new configuration and a gained or lost lease change.
//!
//! The state of a monitor is read from the store when its scopes come to us, and forgotten when they go; nothing is decided
//! from memory that another node may have overtaken.

use super::pushes::push_due;
use super::roles::Roles;
use super::step::retire;
use super::watched::{Place, Watched, rebuilt};
use super::{Engine, Fetched, FleetUpdate, Loaded, queue_wakes, shard_of, words};
use crate::schedule::Command;
use crate::spec::MonitorSpec;
use crate::store::{StoreError, StoredState};
use smallvec::smallvec;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;
use watchkeeper_core::MonitorId;
use watchkeeper_core::quorum::Quorum;
use watchkeeper_core::verdict::Policy;

/// States loaded at once.
const LOAD_MAX: usize = 1_000;

impl Engine {
    pub(super) async fn adopt(&mut self, update: FleetUpdate) {
        let now = self.w.clock.now();
        // What is retired is ended with the state that is in memory, as that may be ahead of the store.
        let ending: HashSet<MonitorId> = update.retired.iter().map(|gone| gone.id).collect();
        self.fleet = update.fleet;
        self.watched.retain(|id, _| self.fleet.0.contains_key(id) || ending.contains(id));
        let standing = self.standing();
        let (mut changed, mut moved) = (Vec::new(), Vec::new());
        let roles = |spec: &MonitorSpec| standing.roles(spec, &self.w.joined.datacenter_code, &self.w.joined.agent_name);
        let place = Place { now, codes: &self.codes };
        for (id, watched) in &mut self.watched {
            let Some(spec) = self.fleet.0.get(id) else { continue };
            if Arc::ptr_eq(spec, &watched.spec) {
                continue;
            }
            // A change of where it is seen from may make it another's, or ours in another way.
            if roles(spec).as_ref() != Some(&watched.roles) {
                moved.push(*id);
                continue;
            }
            let decision = watched.reconfigure(spec.clone(), &place, &mut self.ids);
            watched.push_due = push_due(spec, watched.last_at).filter(|_| watched.roles.sees());
            queue_wakes(&mut self.wakes, watched, now);
            if let Some(decision) = decision {
                self.stream.forming.decide(decision);
            }
            if watched.roles.probes() {
                changed.push((spec.clone(), watched.pace(), None));
            }
        }
        if !changed.is_empty() {
            self.tell_schedule(Command::Watch(changed)).await;
        }
        self.drop_watched(&moved).await;
        self.retiring.extend(update.retired);
        self.push_monitors = self.fleet.0.values().filter(|s| s.is_push()).count();
        self.unsettled = true;
        self.load_missing();
    }

    /// Forgets what is no longer ours, or ours in another way: its state is read again.
    pub(super) async fn hold(&mut self) {
        let standing = self.standing();
        let moved = self.watched.iter().filter(|(_, w)| self.roles(&standing, &w.spec).as_ref() != Some(&w.roles));
        let moved: Vec<MonitorId> = moved.map(|(id, _)| *id).collect();
        self.drop_watched(&moved).await;
        self.load_missing();
    }

    /// Forgets the state of these. What goes on being probed here keeps its place in the schedule until the state has been read again; what
    /// does not, whether or not its state was in memory, loses it.
    pub(super) async fn drop_watched(&mut self, ids: &[MonitorId]) {
        for id in ids {
            self.watched.remove(id);
        }
        self.unsettled = true;
        let standing = self.standing();
        let probed =
            |id: &&MonitorId| self.fleet.0.get(id).and_then(|spec| self.roles(&standing, spec)).is_some_and(|roles| roles.probes());
        let mut gone: Vec<MonitorId> = self.probing.iter().filter(|id| !probed(id)).copied().collect();
        if gone.is_empty() {
            return;
        }
        gone.sort_unstable();
        for id in &gone {
            self.probing.remove(id);
        }
        self.w.live.with(|table| table.retain(|id, _| gone.binary_search(id).is_err()));
        tracing::info!(monitors = gone.len(), "this node no longer watches {}", crate::counted(gone.len(), "monitor"));
        self.tell_schedule(Command::Unwatch(gone)).await;
    }

    /// Reads the state of monitors that are ours but not in memory, a bounded number at a time.
    pub(super) fn load_missing(&mut self) {
        let settled = !self.unsettled && self.retiring.is_empty();
        if settled || self.heard.is_none() || !self.loading.is_empty() || Instant::now() < self.next_load {
            return;
        }
        let standing = self.standing();
        let missing = self.fleet.0.iter().filter(|(id, _)| !self.watched.contains_key(id));
        let specs: Vec<(Arc<MonitorSpec>, Roles)> =
            missing.filter_map(|(_, spec)| self.roles(&standing, spec).map(|roles| (spec.clone(), roles))).take(LOAD_MAX).collect();
        self.unsettled = !specs.is_empty();
        let retired = std::mem::take(&mut self.retiring);
        let shards = self.w.joined.shards;
        let (retired, later): (Vec<_>, Vec<_>) = retired.into_iter().partition(|r| standing.verdict(shard_of(r.id, shards)).is_some());
        self.retiring = later;
        if specs.is_empty() && retired.is_empty() {
            return;
        }
        let ids: Vec<MonitorId> = specs.iter().map(|(s, _)| s.id).chain(retired.iter().map(|r| r.id)).collect();
        self.loading = ids.iter().copied().collect();
        let (store, out) = (self.w.store.clone(), self.results.0.clone());
        tokio::spawn(async move {
            let read = async { Ok::<_, StoreError>((store.load(&ids).await?, store.datacenters().await?)) };
            let fetched = match read.await {
                Ok((states, datacenters)) => Fetched::Loaded(Loaded { specs, retired, states, codes: datacenters.into_iter().collect() }),
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "the state of {} could not be loaded; trying again", crate::counted(ids.len(), "monitor"));
                    Fetched::LoadFailed(ids, retired)
                }
            };
            // The engine is gone only at the end of the process.
            let _ = out.send(fetched).await;
        });
    }

    pub(super) async fn take_up(&mut self, loaded: Loaded) {
        // What was recorded of them before was nobody's to fold.
        self.w.pushes.notify_one();
        self.w.actions.notify_one();
        let now = self.w.clock.now();
        self.codes.extend(loaded.codes);
        let place = Place { now, codes: &self.codes };
        let standing = self.standing();
        let mut states: HashMap<MonitorId, StoredState> = loaded.states.into_iter().map(|s| (s.monitor, s)).collect();
        let mut watch = Vec::new();
        for (spec, roles) in loaded.specs {
            self.loading.remove(&spec.id);
            // The configuration or the lease may have moved on while the state was read.
            let current = self.fleet.0.get(&spec.id).is_some_and(|s| Arc::ptr_eq(s, &spec));
            if !current || self.roles(&standing, &spec).as_ref() != Some(&roles) {
                continue;
            }
            let mut state = states.remove(&spec.id).unwrap_or_default();
            state.monitor = spec.id;
            let last_push = state.last_push;
            let (mut watched, decision) = Watched::take_up(spec.clone(), roles, state, self.w.joined.datacenter, &place, &mut self.ids);
            watched.push_due = push_due(&spec, last_push.unwrap_or_default()).filter(|_| watched.roles.sees());
            queue_wakes(&mut self.wakes, &mut watched, now);
            if watched.roles.probes() {
                watch.push((spec.clone(), watched.pace(), Some(watched.last_at).filter(|at| at.0 > 0)));
            }
            self.watched.insert(spec.id, watched);
            if let Some(decision) = decision {
                self.stream.forming.decide(decision);
            }
        }
        for gone in loaded.retired {
            self.loading.remove(&gone.id);
            let Some(fence) = standing.verdict(shard_of(gone.id, self.w.joined.shards)) else {
                self.retiring.push(gone);
                continue;
            };
            let state = states.remove(&gone.id).unwrap_or_default();
            let (verdict, open) = match self.watched.remove(&gone.id) {
                Some(watched) if watched.roles.judges() => (watched.verdict, watched.open),
                Some(_) | None => {
                    let policy = Policy { quorum: Quorum::default(), rules: Vec::new() };
                    (state.verdict.unwrap_or_else(|| rebuilt(&policy, &state.open)), state.open.into())
                }
            };
            let subject = words::Subject::from(&gone);
            self.stream.forming.decide(retire(gone.id, gone.tenant, smallvec![fence], &subject, verdict, open, &place));
            self.w.live.with(|table| table.remove(&gone.id));
        }
        if !watch.is_empty() {
            self.probing.extend(watch.iter().map(|(spec, ..)| spec.id));
            self.tell_schedule(Command::Watch(watch)).await;
        }
        self.load_missing();
    }
}
