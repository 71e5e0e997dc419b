//! When a drain is over: the decision, without a clock and without sockets.
//!
//! A drain begins with a signal or with `GET /drain`. It is over when nothing has been in flight for [`QUIET`], or by force when the
//! grace has passed. Readiness follows from it: not ready from its beginning on; a signal's drain ends with the process, while one
//! that was only asked for is forgotten after the grace, because a worker whose container is restarted also runs its `preStop`.

use watchkeeper_core::{Dur, Micros};

/// For so long nothing may be in flight before the drain is over. A start that was on its way when the drain began must be heard, and
/// clients give a call one second: less would cut such a request, more would make every scale-down longer by as much for nothing.
pub const QUIET: Dur = Dur::secs(1);

/// What there is to do about a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again at that instant, or when something starts or ends.
    Look(Micros),
    /// Nothing is in flight any more.
    Drained,
    /// The grace has passed and something is still in flight.
    Forced,
}

/// What to do about a drain that began at `began` when nothing has been in flight since `idle_since`.
pub fn next(began: Micros, grace: Dur, idle_since: Option<Micros>, now: Micros) -> Next {
    let deadline = began + grace;
    match idle_since {
        Some(idle) => {
            let quiet = (idle.max(began) + QUIET).min(deadline);
            if now >= quiet { Next::Drained } else { Next::Look(quiet) }
        }
        None if now >= deadline => Next::Forced,
        None => Next::Look(deadline),
    }
}

/// Who wants the worker to finish, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The first signal.
    signalled: Option<Micros>,
    /// The newest `GET /drain`.
    asked: Option<Micros>,
}

impl Wanted {
    /// A signal came. A further one changes nothing: the grace counts from the first.
    pub fn signal(&mut self, now: Micros) {
        self.signalled.get_or_insert(now);
    }

    /// `GET /drain` came.
    pub const fn ask(&mut self, now: Micros) {
        self.asked = Some(now);
    }

    /// Since when it is draining, if it is. A drain that was asked for lasts for the grace, and then as long again for whoever asked to
    /// end the worker.
    pub fn since(&self, grace: Dur, now: Micros) -> Option<Micros> {
        self.signalled.or(self.asked.filter(|asked| now - *asked < grace.times(2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Dur = Dur::secs(30);

    fn at(seconds: i64) -> Micros {
        Micros(0) + Dur::secs(seconds)
    }

    #[test]
    fn an_idle_worker_is_drained_after_the_quiet_time() {
        assert_eq!(next(at(100), GRACE, Some(at(3)), at(100)), Next::Look(at(100) + QUIET));
        assert_eq!(next(at(100), GRACE, Some(at(3)), at(100) + QUIET), Next::Drained);
    }

    #[test]
    fn what_ends_late_is_waited_for_and_followed_by_the_quiet_time() {
        assert_eq!(next(at(100), GRACE, None, at(110)), Next::Look(at(130)));
        assert_eq!(next(at(100), GRACE, Some(at(110)), at(110)), Next::Look(at(110) + QUIET));
        assert_eq!(next(at(100), GRACE, Some(at(110)), at(110) + QUIET), Next::Drained);
    }

    #[test]
    fn the_grace_ends_it_in_any_case() {
        assert_eq!(next(at(100), GRACE, None, at(130)), Next::Forced);
        // It ended just before the deadline: nothing is forced, and nothing waits for longer than the grace.
        assert_eq!(next(at(100), GRACE, Some(at(130) - Dur(1)), at(130)), Next::Drained);
        assert_eq!(next(at(100), Dur::ZERO, None, at(100)), Next::Forced);
    }

    #[test]
    fn what_was_only_asked_for_is_forgotten_and_a_signal_is_not() {
        let mut wanted = Wanted::default();
        assert_eq!(wanted.since(GRACE, at(0)), None);
        wanted.ask(at(100));
        assert_eq!(wanted.since(GRACE, at(159)), Some(at(100)));
        assert_eq!(wanted.since(GRACE, at(160)), None);
        wanted.signal(at(200));
        wanted.signal(at(210));
        wanted.ask(at(220));
        assert_eq!(wanted.since(GRACE, at(9_999)), Some(at(200)));
    }

    proptest! {
        #[test]
        fn it_is_never_over_early_and_never_late(
            began in 0..1_000_i64, grace in 0..1_000_i64, idle in proptest::option::of(0..3_000_i64), now in 0..3_000_i64,
        ) {
            let time = |n: i64| Micros(n * 10_000);
            let (began, grace, idle, now) = (time(began), Dur(grace * 10_000), idle.map(time), time(now));
            prop_assume!(now >= began && idle.is_none_or(|idle| idle <= now));
            match next(began, grace, idle, now) {
                Next::Look(then) => prop_assert!(now < then && then <= began + grace),
                Next::Drained => prop_assert!(idle.is_some() && (now - began >= QUIET || now - began >= grace)),
                Next::Forced => prop_assert!(idle.is_none() && now - began >= grace),
            }
        }
    }
}
