//! What is newest, in memory: the table behind `/metrics`' probe series, and the stream of live events.
//!
//! Both are published only after the commit that made them true.

use crate::probe::Attempt;
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

impl Latest {
    /// What metrics show of an attempt.
    pub fn of(row: &BeatRow, attempt: &Attempt, health: Health) -> Self {
        let http_version = match attempt.http.as_ref().map(|h| h.version.as_str()) {
            Some("HTTP/1.0") => "1.0",
            Some("HTTP/1.1") => "1.1",
            Some("HTTP/2" | "HTTP/2.0") => "2",
            Some(_) | None => "",
        };
        let tls_version = match attempt.certificate.as_ref().and_then(|c| c.protocol.as_deref()) {
            Some("TLSv1.3" | "TLS 1.3") => "TLS 1.3",
            Some("TLSv1.2" | "TLS 1.2") => "TLS 1.2",
            Some(_) | None => "",
        };
        let address = attempt.hops.last().and_then(|h| h.address.as_deref());
        Self {
            beat: row.clone(),
            health,
            redirects: attempt.hops.len().saturating_sub(1) as u16,
            http_version,
            tls_version,
            content_length: attempt.http.as_ref().and_then(|h| h.content_length).map_or(-1, |n| n as i64),
            cert_earliest_expiry: attempt.certificate.as_ref().map_or(0, |c| c.not_after),
            ip_protocol: address.map_or(0, |a| if a.matches(':').count() > 1 { 6 } else { 4 }),
            jitter_us: attempt.icmp.as_ref().map_or(-1, |i| i.jitter_us as i64),
        }
    }
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
