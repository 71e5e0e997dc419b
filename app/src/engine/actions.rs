//! What people did about incidents: rows that any node may insert, folded by the node that decides for the monitor.

use super::watched::Place;
use super::{Engine, Fetched, queue_wakes};
use crate::store::{ActionRow, StoreError};

/// Actions read at once.
pub(super) const ACTIONS_MAX: i64 = 1_000;

impl Engine {
    pub(super) fn fetch_actions(&mut self) {
        if self.fetching_actions {
            return;
        }
        self.fetching_actions = true;
        let (store, out) = (self.w.store.clone(), self.results.0.clone());
        tokio::spawn(async move {
            let fetched = match store.unfolded_actions(ACTIONS_MAX).await {
                Ok(rows) => Fetched::Actions(rows),
                Err(error) => Fetched::ActionsFailed(error),
            };
            // The engine is gone only at the end of the process.
            let _ = out.send(fetched).await;
        });
    }

    /// Said once per outage.
    pub(super) fn actions_failed(&mut self, error: &StoreError) {
        self.fetching_actions = false;
        if !std::mem::replace(&mut self.actions_were_away, true) {
            tracing::warn!(error = %crate::chain(error), "actions on incidents could not be read; trying again");
        }
    }

    pub(super) fn fold_action(&mut self, row: &ActionRow) {
        let place = Place { now: self.w.clock.now(), codes: &self.codes };
        // An action on another node's monitor is that node's to fold; one on its way to the store is folded already.
        let Some(watched) = self.watched.get_mut(&row.monitor).filter(|watched| watched.roles.judges()) else { return };
        if !self.acting.insert(row.id) {
            return;
        }
        let decision = watched.operate(row, &place, &mut self.ids);
        queue_wakes(&mut self.wakes, watched, place.now);
        match decision {
            Some(decision) => self.stream.forming.decide(decision),
            None => self.stream.forming.action_only(row.id),
        }
    }
}
