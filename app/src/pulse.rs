//! The watchdog: a process whose engine or lease loop stands still must end, so that its supervisor starts it again.
//!
//! It runs on a thread of its own and takes no lock, so that nothing that blocks the runtime can block it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A loop that has not shown life for so long is stalled. Shorter would end a node whose disk pauses; longer leaves it deaf for longer.
pub const STALL_MAX: Duration = Duration::from_secs(10);
/// How often the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When the watchdog itself was kept from looking for so long, the whole process was frozen, or its machine: no loop has stalled, and each
/// gets its time anew. Shorter would take a busy machine for a frozen one.
const FROZEN: Duration = Duration::from_secs(4);
/// The exit status of a stalled process (`EX_SOFTWARE` of sysexits).
pub const STALL_EXIT: i32 = 70;

/// The signs of life of the two loops.
#[derive(Clone)]
pub struct Pulse(Arc<Beats>);

struct Beats {
    origin: Instant,
    engine: AtomicU64,
    leases: AtomicU64,
    done: AtomicBool,
}

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new(Beats { origin: Instant::now(), engine: AtomicU64::new(0), leases: AtomicU64::new(0), done: AtomicBool::new(false) }))
    }
}

impl Pulse {
    /// What the engine calls every round.
    pub fn engine(&self) -> Arc<dyn Fn() + Send + Sync> {
        let beats = self.0.clone();
        Arc::new(move || beats.engine.store(beats.now(), Ordering::Relaxed))
    }

    /// What the lease loop calls every round.
    pub fn leases(&self) -> Arc<dyn Fn() + Send + Sync> {
        let beats = self.0.clone();
        Arc::new(move || beats.leases.store(beats.now(), Ordering::Relaxed))
    }

    /// The loops are ending in good order.
    pub fn end(&self) {
        self.0.done.store(true, Ordering::Relaxed);
    }

    /// Every loop gets its time anew.
    fn thaw(&self) {
        for beat in [&self.0.engine, &self.0.leases] {
            beat.store(self.0.now(), Ordering::Relaxed);
        }
    }

    /// The loop that has stood still for longer than [`STALL_MAX`], if one has.
    pub fn stalled(&self) -> Option<&'static str> {
        if self.0.done.load(Ordering::Relaxed) {
            return None;
        }
        let oldest = self.0.now().saturating_sub(STALL_MAX.as_millis() as u64);
        [("the engine", &self.0.engine), ("the lease loop", &self.0.leases)]
            .into_iter()
            .find(|(_, at)| at.load(Ordering::Relaxed) < oldest)
            .map(|(name, _)| name)
    }

    /// Ends the process when a loop stands still, until they end in good order. Returns when the thread is started.
    pub fn guard(&self) -> std::io::Result<()> {
        let pulse = self.clone();
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut looked = Instant::now();
            while !pulse.0.done.load(Ordering::Relaxed) {
                std::thread::park_timeout(LOOK_EVERY);
                if looked.elapsed() >= FROZEN {
                    tracing::warn!("the process was frozen for {:?}; it goes on", looked.elapsed());
                    pulse.thaw();
                }
                looked = Instant::now();
                if let Some(who) = pulse.stalled() {
                    tracing::error!("{who} has stood still for {STALL_MAX:?}; ending the process so that it is started again");
                    std::process::exit(STALL_EXIT);
                }
            }
        })?;
        Ok(())
    }
}

impl Beats {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
