//! Which monitors are ours: what a new configuration and a gained or lost lease change.
//!
//! The state of a monitor is read from the store when its scopes come to us, and forgotten when they go; nothing is decided
//! from memory that another node may have overtaken.

use super::pushes::push_due;
use super::watched::{Place, Watched, rebuilt, retire};
use super::{Engine, Fetched, FleetUpdate, Loaded, queue_wakes, shard_of, words};
use crate::lease::Held;
use crate::schedule::Command;
use crate::spec::Source;
use crate::store::StoredState;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use watchkeeper_core::MonitorId;

/// States loaded at once.
const LOAD_MAX: usize = 1_000;

impl Engine {
    pub(super) async fn adopt(&mut self, update: FleetUpdate) {
        let (datacenter, code, now) = self.place();
        let place = Place { datacenter, code: &code, now };
        let mut gone: Vec<MonitorId> = self.watched.keys().filter(|id| !update.fleet.0.contains_key(id)).copied().collect();
        gone.sort_unstable();
        self.fleet = update.fleet;
        if !gone.is_empty() {
            self.tell_schedule(Command::Unwatch(gone)).await;
        }
        let mut changed = Vec::new();
        for (id, watched) in &mut self.watched {
            let Some(spec) = self.fleet.0.get(id) else { continue };
            if Arc::ptr_eq(spec, &watched.spec) {
                continue;
            }
            let decision = watched.reconfigure(spec.clone(), &place, &mut self.ids);
            watched.push_due = push_due(spec, watched.last_at);
            queue_wakes(&mut self.wakes, watched);
            if let Some(decision) = decision {
                self.stream.forming.decide(decision);
            }
            changed.push((spec.clone(), watched.pace()));
        }
        if !changed.is_empty() {
            self.tell_schedule(Command::Watch(changed)).await;
        }
        self.retiring.extend(update.retired);
        self.push_monitors = self.fleet.0.values().filter(|s| matches!(s.source, Source::Push { .. })).count();
        self.load_missing();
    }

    pub(super) async fn hold(&mut self, held: &Held) {
        let lost: Vec<MonitorId> = self
            .watched
            .iter()
            .filter(|(_, w)| !w.fences.iter().all(|f| held.epochs.get(&f.scope) == Some(&f.epoch)))
            .map(|(id, _)| *id)
            .collect();
        self.drop_watched(lost).await;
        self.load_missing();
    }

    pub(super) async fn drop_watched(&mut self, ids: Vec<MonitorId>) {
        if ids.is_empty() {
            return;
        }
        tracing::warn!(monitors = ids.len(), "this node no longer decides for {}", crate::counted(ids.len(), "monitor"));
        for id in &ids {
            self.watched.remove(id);
        }
        self.tell_schedule(Command::Unwatch(ids)).await;
    }

    /// Reads the state of monitors that are ours but not in memory, a bounded number at a time.
    pub(super) fn load_missing(&mut self) {
        let settled = self.watched.len() + self.loading.len() >= self.fleet.0.len() && self.retiring.is_empty();
        if settled || !self.loading.is_empty() || Instant::now() < self.next_load {
            return;
        }
        let mut specs = Vec::new();
        for (id, spec) in self.fleet.0.iter() {
            if specs.len() >= LOAD_MAX {
                break;
            }
            if !self.watched.contains_key(id)
                && let Some(fences) = self.shard_fences(spec.shard)
            {
                specs.push((spec.clone(), fences));
            }
        }
        let retired = std::mem::take(&mut self.retiring);
        let (retired, later): (Vec<_>, Vec<_>) =
            retired.into_iter().partition(|r| self.shard_fences(shard_of(r.id, self.w.joined.shards)).is_some());
        self.retiring = later;
        if specs.is_empty() && retired.is_empty() {
            return;
        }
        let ids: Vec<MonitorId> = specs.iter().map(|(s, _)| s.id).chain(retired.iter().map(|r| r.id)).collect();
        self.loading = ids.iter().copied().collect();
        let (store, out) = (self.w.store.clone(), self.results.0.clone());
        tokio::spawn(async move {
            let fetched = match store.load(&ids).await {
                Ok(states) => Fetched::Loaded(Loaded { specs, retired, states }),
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
        let (datacenter, code, now) = self.place();
        let place = Place { datacenter, code: &code, now };
        let mut states: HashMap<MonitorId, StoredState> = loaded.states.into_iter().map(|s| (s.monitor, s)).collect();
        let mut watch = Vec::new();
        for (spec, fences) in loaded.specs {
            self.loading.remove(&spec.id);
            // The configuration or the lease may have moved on while the state was read.
            let current = self.fleet.0.get(&spec.id).is_some_and(|s| Arc::ptr_eq(s, &spec));
            if !current || self.shard_fences(spec.shard).as_ref() != Some(&fences) {
                continue;
            }
            let mut state = states.remove(&spec.id).unwrap_or_default();
            state.monitor = spec.id;
            let last_push = state.last_push;
            let (mut watched, decision) = Watched::take_up(spec.clone(), fences, state, &place, &mut self.ids);
            watched.push_due = push_due(&spec, last_push.unwrap_or_default());
            queue_wakes(&mut self.wakes, &mut watched);
            watch.push((spec.clone(), watched.pace()));
            self.watched.insert(spec.id, watched);
            if let Some(decision) = decision {
                self.stream.forming.decide(decision);
            }
        }
        for gone in loaded.retired {
            self.loading.remove(&gone.id);
            let Some(fences) = self.shard_fences(shard_of(gone.id, self.w.joined.shards)) else {
                self.retiring.push(gone);
                continue;
            };
            let state = states.remove(&gone.id).unwrap_or_default();
            let (verdict, open) = if let Some(watched) = self.watched.remove(&gone.id) {
                (watched.verdict, watched.open)
            } else {
                let policy = watchkeeper_core::verdict::Policy { quorum: watchkeeper_core::quorum::Quorum::default(), rules: Vec::new() };
                (state.verdict.unwrap_or_else(|| rebuilt(&policy, &state.open)), state.open.into())
            };
            let subject = words::Subject::from(&gone);
            self.stream.forming.decide(retire(gone.id, gone.tenant, fences, &subject, verdict, open, &place));
            self.w.live.with(|table| table.remove(&gone.id));
        }
        self.tell_schedule(Command::Watch(watch)).await;
        self.load_missing();
    }
}
