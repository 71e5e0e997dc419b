//! The one place that reads the clock.
//!
//! `now()` is the wall clock at start plus the monotonic time since, so that a step of the wall clock
//! causes no burst of checks and no gap; the difference is slewed away slowly.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use watchkeeper_core::Micros;

/// The time since the machine started, suspended time included (`CLOCK_BOOTTIME`, clock_gettime(2)): what leases go by. The
/// monotonic clock stands still while a machine sleeps, and a node that wakes up would think that it holds what others took long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// Now.
    pub fn now() -> Self {
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(Duration::new(since.tv_sec.unsigned_abs(), since.tv_nsec.unsigned_abs() as u32))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0 + later)
    }
}

/// When the next beat of a rhythm falls that all tasks of this process share, so that an idle node wakes once for all of them.
pub fn next_beat(every: Duration) -> Instant {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let every_us = every.as_micros().max(1);
    let beats = FIRST.elapsed().as_micros() / every_us + 1;
    *FIRST + Duration::from_micros(u64::try_from(beats * every_us).unwrap_or(u64::MAX))
}

/// The fastest correction towards the wall clock, in µs per second: 500 ppm, as NTP daemons do.
const SLEW_US_PER_S: i64 = 500;

/// A clock that never steps. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    /// What the wall clock says.
    read: Box<dyn Fn() -> Micros + Send + Sync>,
    wall: Micros,
    mono: Instant,
    offset_us: AtomicI64,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// Anchored to the system's wall clock now.
    pub fn system() -> Self {
        Self::reading(wall_now)
    }

    /// Anchored to another wall clock.
    pub fn reading(read: impl Fn() -> Micros + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { wall: read(), read: Box::new(read), mono: Instant::now(), offset_us: AtomicI64::new(0) }))
    }

    /// UTC now.
    pub fn now(&self) -> Micros {
        self.at(Instant::now())
    }

    /// UTC at a monotonic instant.
    pub fn at(&self, instant: Instant) -> Micros {
        let elapsed = match instant.checked_duration_since(self.0.mono) {
            Some(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            None => -i64::try_from(self.0.mono.duration_since(instant).as_micros()).unwrap_or(i64::MAX),
        };
        Micros(self.0.wall.0 + elapsed + self.0.offset_us.load(Ordering::Relaxed))
    }

    /// The monotonic instant of a UTC time; now, if it has passed.
    pub fn instant_of(&self, at: Micros) -> Instant {
        let ahead = (at - self.now()).0.max(0);
        Instant::now() + Duration::from_micros(ahead as u64)
    }

    /// Moves towards the wall clock by at most what `since_last` allows. Called every few seconds.
    pub fn slew(&self, since_last: Duration) {
        let most = i64::try_from(since_last.as_secs()).unwrap_or(1).max(1) * SLEW_US_PER_S;
        let error = ((self.0.read)() - self.now()).0;
        self.0.offset_us.fetch_add(error.clamp(-most, most), Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "the one reading of the wall clock")]
fn wall_now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
