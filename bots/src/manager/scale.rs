//! How many workers a bot needs: a fold over the lag, without a clock and without Kafka.
//!
//! Up at once, down late. As many as the lag needs, within the bounds; and as long as more were needed a moment ago, those stay. A message
//! is lag until its worker has committed it, so a lag of zero also says that nobody is working.

use super::bot::Bounds;
use std::collections::VecDeque;
use std::time::Duration;

/// One worker for so many messages, as KEDA's `lagThreshold` is set by default. Fewer would start workers for a moment's burst.
pub const LAG_PER_REPLICA: u64 = 5;

/// What was needed lately.
#[derive(Clone, Debug)]
pub struct Scaler {
    cooldown: Duration,
    /// When, and how many: each fewer than the one before it.
    needs: VecDeque<(Duration, u32)>,
}

impl Scaler {
    /// Begins with those that there are.
    pub fn new(cooldown: Duration, current: u32, now: Duration) -> Self {
        Self { cooldown, needs: VecDeque::from([(now, current)]) }
    }

    /// So many are needed for that lag.
    pub fn wanted(&mut self, lag: u64, bounds: Bounds, now: Duration) -> u32 {
        let need = u32::try_from(lag.div_ceil(LAG_PER_REPLICA)).unwrap_or(u32::MAX).clamp(bounds.min, bounds.max);
        // An earlier need that is not more than this one says nothing any more.
        while self.needs.back().is_some_and(|(_, earlier)| *earlier <= need) {
            self.needs.pop_back();
        }
        self.needs.push_back((now, need));
        while self.needs.len() > 1 && self.needs.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= self.cooldown) {
            self.needs.pop_front();
        }
        self.needs.front().map_or(need, |(_, most)| *most).clamp(bounds.min, bounds.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { min: 0, max: 5 };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn from_none_to_the_most_and_back() {
        let mut scaler = Scaler::new(s(30), 0, s(0));
        assert_eq!(scaler.wanted(0, BOUNDS, s(1)), 0);
        assert_eq!(scaler.wanted(1, BOUNDS, s(2)), 1);
        assert_eq!(scaler.wanted(11, BOUNDS, s(3)), 3);
        assert_eq!(scaler.wanted(10_000, BOUNDS, s(4)), 5);
        assert_eq!(scaler.wanted(0, BOUNDS, s(5)), 5);
        assert_eq!(scaler.wanted(8, BOUNDS, s(20)), 5);
        assert_eq!(scaler.wanted(0, BOUNDS, s(33)), 5);
        // Nothing needed five for 30 s; two were needed 14 s ago.
        assert_eq!(scaler.wanted(0, BOUNDS, s(34)), 2);
        assert_eq!(scaler.wanted(0, BOUNDS, s(49)), 2);
        assert_eq!(scaler.wanted(0, BOUNDS, s(50)), 0);
    }

    #[test]
    fn bounds_hold_also_when_they_change() {
        let mut scaler = Scaler::new(s(30), 4, s(0));
        assert_eq!(scaler.wanted(0, BOUNDS, s(1)), 4, "those that are there stay for a while");
        assert_eq!(scaler.wanted(0, Bounds { min: 0, max: 2 }, s(2)), 2);
        assert_eq!(scaler.wanted(0, Bounds { min: 3, max: 8 }, s(100)), 3);
    }

    proptest! {
        #[test]
        fn enough_at_once_never_beyond_the_bounds_and_down_only_after_the_cooldown(
            steps in prop::collection::vec((0..20_u64, 0..60_u64), 1..60),
        ) {
            let (mut scaler, mut now) = (Scaler::new(s(30), 0, s(0)), s(0));
            let mut needs: Vec<(Duration, u32)> = Vec::new();
            for (pause, lag) in steps {
                now += s(pause);
                let need = (lag.div_ceil(LAG_PER_REPLICA) as u32).min(BOUNDS.max);
                needs.push((now, need));
                let wanted = scaler.wanted(lag, BOUNDS, now);
                let lately = needs.iter().filter(|(at, _)| now.saturating_sub(*at) < s(30)).map(|(_, need)| *need).max();
                prop_assert_eq!(Some(wanted), lately);
            }
        }
    }
}
