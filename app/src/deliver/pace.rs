//! How much was sent lately: by one channel, and by all channels of this node that share a provider's limit.
//!
//! Attempts are counted, not acceptances: a provider counts what it is asked, not what it takes.

use super::{Outbox, lock};
use crate::store::{Fence, StoreError};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use watchkeeper_core::plan::{DIGEST_EVERY, Pace, STORM_WINDOW};
use watchkeeper_core::{ChannelId, Dur, Micros};

/// At most so many messages within so long.
pub type Cap = (u32, Dur);

/// What one channel has sent lately.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Oldest first. As many as its caps let through within their windows.
    sent: VecDeque<Micros>,
    digest_at: Option<Micros>,
    /// Under which lease it was read from the store, and how far back.
    known: Option<(Fence, Dur)>,
}

impl Past {
    /// Reads what the channel sent before: once, and anew whenever another node may have sent meanwhile or a cap looks further back.
    /// True if it was read.
    pub(super) async fn learn(
        &mut self,
        outbox: &dyn Outbox,
        channel: ChannelId,
        fence: &Fence,
        caps: &[Cap],
        now: Micros,
    ) -> Result<bool, StoreError> {
        let window = looks_back(caps);
        if self.known.as_ref().is_some_and(|(lease, known)| lease == fence && *known >= window) {
            return Ok(false);
        }
        let messages = outbox.recent_messages(channel, now - window).await?;
        self.digest_at = messages.iter().filter(|message| message.digest).map(|message| message.at).max();
        self.sent = messages.into_iter().map(|message| message.at).collect();
        self.known = Some((fence.clone(), window));
        Ok(true)
    }

    /// An attempt is made now.
    pub(super) fn attempted(&mut self, at: Micros) {
        self.sent.push_back(at);
    }

    /// A digest was taken.
    pub(super) const fn digested(&mut self, at: Micros) {
        self.digest_at = Some(at);
    }

    /// As the plan wants it.
    pub(super) fn pace(&mut self, caps: &[Cap], now: Micros) -> Pace {
        let window = self.known.as_ref().map_or_else(|| looks_back(caps), |(_, window)| *window);
        while self.sent.front().is_some_and(|at| *at + window <= now) {
            self.sent.pop_front();
        }
        Pace { sent: self.sent.iter().copied().collect(), digest_at: self.digest_at, caps: caps.iter().copied().collect() }
    }
}

/// How far back the plan looks.
fn looks_back(caps: &[Cap]) -> Dur {
    caps.iter().map(|(_, window)| *window).fold(STORM_WINDOW.max(DIGEST_EVERY), Dur::max)
}

/// What all channels of this node have sent under each budget key: one bot may send so much, to all its chats together.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<HashMap<String, VecDeque<Micros>>>);

impl Shared {
    /// Takes a place for one attempt now, or says when there will be one.
    pub(super) fn take(&self, budget: &str, caps: &[Cap], now: Micros) -> Result<(), Micros> {
        let Some(longest) = caps.iter().map(|(_, window)| *window).max() else { return Ok(()) };
        let mut all = lock(&self.0);
        let sent = all.entry(budget.to_owned()).or_default();
        while sent.front().is_some_and(|at| *at + longest <= now) {
            sent.pop_front();
        }
        let mut until = None;
        for (most, window) in caps {
            // The place that must have left the window before there is room again.
            let nth = sent.len().checked_sub((*most).max(1) as usize);
            let leaves = nth.and_then(|nth| sent.get(nth)).map(|at| *at + *window).filter(|leaves| *leaves > now);
            until = until.max(leaves);
        }
        if let Some(until) = until {
            return Err(until);
        }
        sent.push_back(now);
        Ok(())
    }

    /// Forgets budgets that no channel has any more.
    pub(super) fn keep(&self, budgets: &HashSet<&str>) {
        lock(&self.0).retain(|budget, _| budgets.contains(budget.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: i64) -> Micros {
        Micros(1_000_000_000 + millis * 1_000)
    }

    #[test]
    fn a_shared_cap_holds_over_all_who_share_it_and_over_nobody_else() {
        let (shared, caps) = (Shared::default(), [(2, Dur::secs(1)), (3, Dur::secs(10))]);
        assert_eq!(shared.take("bot", &caps, at(0)), Ok(()));
        assert_eq!(shared.take("bot", &caps, at(100)), Ok(()));
        assert_eq!(shared.take("bot", &caps, at(200)), Err(at(1_000)), "when the oldest has left the window");
        assert_eq!(shared.take("other", &caps, at(200)), Ok(()));
        assert_eq!(shared.take("bot", &[], at(200)), Ok(()), "no cap");
        assert_eq!(shared.take("bot", &caps, at(1_000)), Ok(()));
        assert_eq!(shared.take("bot", &caps, at(1_200)), Err(at(10_000)), "every cap holds");
        assert_eq!(shared.take("bot", &caps, at(10_000)), Ok(()));
        shared.keep(&HashSet::from(["other"]));
        assert_eq!(lock(&shared.0).len(), 1);
    }

    #[test]
    fn what_left_the_longest_window_is_forgotten() {
        let mut past = Past::default();
        past.attempted(at(0));
        past.attempted(at(1_000));
        let caps = [(5, Dur::secs(60))];
        assert_eq!(past.pace(&caps, at(59_999)).sent.len(), 2);
        assert_eq!(past.pace(&caps, at(60_000)).sent, [at(1_000)]);
        assert_eq!(past.pace(&[], at(60_000)).sent.len(), 0, "a storm is seen within seconds");
    }
}
