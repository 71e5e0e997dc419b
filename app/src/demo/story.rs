//! What happens to the fleet, and when: a list of scenes, each of which lasts until what it is about was seen.
//!
//! It waits for states, never for times: on a slow machine the demo takes longer and tells the same.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use watchkeeper_core::quorum::Health;

/// No scene takes longer; if what it waits for does not come, the demo goes on and the screen shows that it did not.
const SCENE_MAX: Duration = Duration::from_secs(20);
/// After a scene has shown what it is about, so long is left to read it.
const LINGER: Duration = Duration::from_secs(5);

/// What is done to the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing: just watch.
    Watch,
    /// The checkout server stops.
    StopCheckout,
    /// The checkout server starts again.
    StartCheckout,
    /// The search server turns slow.
    SlowSearch,
    /// The search server is fast again.
    FastSearch,
}

/// What a scene waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Every monitor has its first verdict.
    AllSeen,
    /// An incident of that rule is open on that monitor.
    Opened(&'static str, &'static str),
    /// It has ended.
    Resolved(&'static str, &'static str),
}

/// One scene.
struct Scene {
    say: &'static str,
    act: Act,
    until: Until,
}

const SCENES: [Scene; 6] = [
    Scene {
        say: "Every monitor gets its first verdict within one interval, spread out so that a start makes no burst.",
        act: Act::Watch,
        until: Until::AllSeen,
    },
    Scene {
        say: "account works, but its certificate ends soon: a rule about days left opens an incident long before anybody notices.",
        act: Act::Watch,
        until: Until::Opened("account", "ssl_expiry"),
    },
    Scene {
        say: "Now checkout is stopped. One failure is only pending; it is checked again every second, and the third in a row makes it down.",
        act: Act::StopCheckout,
        until: Until::Opened("checkout", "down"),
    },
    Scene { say: "checkout is started again.", act: Act::StartCheckout, until: Until::Resolved("checkout", "down") },
    Scene {
        say: "Now search takes long to its first byte. It answers, so it is not down: a rule about that one phase calls it degraded.",
        act: Act::SlowSearch,
        until: Until::Opened("search", "slow_response/first_byte"),
    },
    Scene { say: "search is fast again.", act: Act::FastSearch, until: Until::Resolved("search", "slow_response/first_byte") },
];

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Facts {
    /// What is true of each monitor.
    pub health: HashMap<String, Health>,
    /// How many monitors there are.
    pub monitors: usize,
    /// Incidents that are open: monitor and rule.
    pub open: HashSet<(String, String)>,
    /// Incidents that have ended.
    pub ended: HashSet<(String, String)>,
}

impl Facts {
    fn hold(&self, until: Until) -> bool {
        let key = |monitor: &str, rule: &str| (monitor.to_owned(), rule.to_owned());
        match until {
            Until::AllSeen => self.health.len() >= self.monitors && self.health.values().all(|h| *h != Health::Unknown),
            Until::Opened(monitor, rule) => self.open.contains(&key(monitor, rule)) || self.ended.contains(&key(monitor, rule)),
            Until::Resolved(monitor, rule) => self.ended.contains(&key(monitor, rule)),
        }
    }
}

/// Where the story stands.
#[derive(Debug)]
pub struct Story {
    nth: usize,
    began: Instant,
    held_since: Option<Instant>,
    missed: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet.
    Wait,
    /// This is said and done.
    Scene(&'static str, Act),
    /// The story is over.
    End,
}

impl Story {
    /// Before the first scene.
    pub fn begin(now: Instant) -> (Self, Next) {
        (Self { nth: 0, began: now, held_since: None, missed: false }, Next::Scene(SCENES[0].say, SCENES[0].act))
    }

    /// Looks whether the scene is over.
    pub fn look(&mut self, facts: &Facts, now: Instant) -> Next {
        if self.held_since.is_none() && facts.hold(SCENES[self.nth].until) {
            self.held_since = Some(now);
        }
        let over = match self.held_since {
            Some(since) => now >= since + LINGER,
            None => now >= self.began + SCENE_MAX,
        };
        if !over {
            return Next::Wait;
        }
        self.missed |= self.held_since.is_none();
        self.nth += 1;
        self.began = now;
        self.held_since = None;
        SCENES.get(self.nth).map_or(Next::End, |scene| Next::Scene(scene.say, scene.act))
    }

    /// Whether some scene never saw what it waited for.
    pub fn missed_something(&self) -> bool {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_lasts_until_it_was_seen_and_read_and_never_for_ever() {
        let start = Instant::now();
        let (mut story, first) = Story::begin(start);
        assert!(matches!(first, Next::Scene(_, Act::Watch)));
        let mut facts = Facts { monitors: 1, ..Facts::default() };
        assert_eq!(story.look(&facts, start + LINGER), Next::Wait);
        facts.health.insert("shop".into(), Health::Up);
        assert_eq!(story.look(&facts, start + LINGER), Next::Wait);
        assert!(matches!(story.look(&facts, start + LINGER * 2), Next::Scene(..)));
        assert!(!story.missed_something());
        let mut now = start + LINGER * 2;
        for _ in 1..SCENES.len() {
            now += SCENE_MAX;
            assert_ne!(story.look(&facts, now), Next::Wait);
        }
        assert!(story.missed_something());
    }
}
