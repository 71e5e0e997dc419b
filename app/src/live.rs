//! What is newest, in memory: the table behind `/metrics`' probe series, and the stream of live events.
//!
//! Both are published only after the commit that made them true.

use crate::store::{BeatRow, LiveRow};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::{MonitorId, TenantId};

/// The newest facts about one monitor, reduced to what metrics show.
#[derive(Clone, Debug)]
pub struct Latest {
    /// The heartbeat.
    pub beat: BeatRow,
    /// What is true.
    pub health: Health,
    /// Redirects followed.
    pub redirects: u16,
    /// `1.1`, `2`; empty when not HTTP.
    pub http_version: &'static str,
    /// `TLS 1.3`; empty without TLS.
    pub tls_version: &'static str,
    /// `Content-Length`; -1 if unknown.
    pub content_length: i64,
    /// When the first certificate of the chain expires, seconds since 1970; 0 without TLS.
    pub cert_earliest_expiry: i64,
    /// 4 or 6; 0 if no connection was tried.
    pub ip_protocol: u8,
    /// Round trip jitter in µs; -1 if not ICMP.
    pub jitter_us: i64,
}

/// Slow readers of the stream lose the oldest events beyond this and are told so (they replay from the store).
pub const STREAM_BUFFER: usize = 1_024;

/// The shared table and stream.
#[derive(Clone)]
pub struct Live {
    latest: Arc<Mutex<HashMap<MonitorId, Latest>>>,
    events: broadcast::Sender<(TenantId, Arc<LiveRow>)>,
}

impl Default for Live {
    fn default() -> Self {
        Self { latest: Arc::default(), events: broadcast::channel(STREAM_BUFFER).0 }
    }
}

impl Live {
    /// Runs `f` over the table.
    pub fn with<R>(&self, f: impl FnOnce(&mut HashMap<MonitorId, Latest>) -> R) -> R {
        let mut table = match self.latest.lock() {
            Ok(table) => table,
            Err(poisoned) => poisoned.into_inner(),
        };
        f(&mut table)
    }

    /// Sends a committed event to whoever listens.
    pub fn publish(&self, tenant: TenantId, row: LiveRow) {
        // Nobody listening is fine.
        let _ = self.events.send((tenant, Arc::new(row)));
    }

    /// Listens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<(TenantId, Arc<LiveRow>)> {
        self.events.subscribe()
    }
}
