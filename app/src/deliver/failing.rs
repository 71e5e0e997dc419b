//! Channels that take nothing at the moment, since when, and why: what `/ready`, the metrics and the last resort need to know.
//!
//! Only this node's own attempts count, and only while it may make them: whoever takes the channel over finds out anew.

use super::lock;
use crate::channel::RefusedClass;
use std::collections::BTreeMap;
use std::sync::Mutex;
use watchkeeper_core::{ChannelId, Micros};

/// A channel that takes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Which one.
    pub channel: ChannelId,
    /// When the first of the attempts in a row that failed had ended.
    pub since: Micros,
    /// What kind of failure the newest was.
    pub class: RefusedClass,
}

/// All of this node's.
#[derive(Debug, Default)]
pub(super) struct AllFailing(Mutex<BTreeMap<i64, Failing>>);

impl AllFailing {
    /// An attempt has failed.
    pub(super) fn failed(&self, channel: ChannelId, class: RefusedClass, now: Micros) {
        let mut all = lock(&self.0);
        let failing = all.entry(channel.0).or_insert_with(|| Failing { channel, since: now, class });
        failing.class = class;
    }

    /// It took something, it is another one now, or it is not ours.
    pub(super) fn over(&self, channel: ChannelId) {
        lock(&self.0).remove(&channel.0);
    }

    /// Since when this one takes nothing.
    pub(super) fn since(&self, channel: ChannelId) -> Option<Micros> {
        lock(&self.0).get(&channel.0).map(|failing| failing.since)
    }

    /// Those that have taken nothing since before that moment.
    pub(super) fn before(&self, moment: Micros) -> Vec<Failing> {
        lock(&self.0).values().filter(|failing| failing.since <= moment).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_fails_since_the_first_attempt_in_a_row_that_failed() {
        let (all, at) = (AllFailing::default(), |seconds: i64| Micros(seconds * 1_000_000));
        all.failed(ChannelId(2), RefusedClass::Timeout, at(10));
        all.failed(ChannelId(2), RefusedClass::Server, at(20));
        all.failed(ChannelId(1), RefusedClass::Network, at(15));
        assert_eq!((all.since(ChannelId(2)), all.since(ChannelId(3))), (Some(at(10)), None));
        assert_eq!(all.before(at(9)), []);
        assert_eq!(all.before(at(12)), [Failing { channel: ChannelId(2), since: at(10), class: RefusedClass::Server }]);
        assert_eq!(all.before(at(15)).into_iter().map(|failing| failing.channel.0).collect::<Vec<_>>(), [1, 2]);
        all.over(ChannelId(2));
        all.failed(ChannelId(2), RefusedClass::Server, at(30));
        assert_eq!(all.since(ChannelId(2)), Some(at(30)), "anew");
    }
}
