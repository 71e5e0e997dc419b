//! The dead-man's ping: a call to a watcher of watchers, for as long as this node does its work.
//!
//! It is made only while the node is well in every way that `/ready` asks for: the store is reached, the lease loop lives, attempts
//! begin in time. So its absence means something, and whoever waits for it can raise the alarm that this node no longer can.
//! The URL is a secret, as whoever knows it can say that all is well: it is in no log, error, metric or answer.

use crate::channel::answer;
use crate::net::{Net, Request};
use crate::telemetry::{ResultLabel, SharedMetrics};
use crate::web::Readiness;
use http::{HeaderMap, HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;
use watchkeeper_core::Dur;

/// What `server.dead_man` says.
#[derive(Clone, Debug)]
pub struct DeadMan {
    /// Who is called.
    pub url: SecretString,
    /// How often.
    pub every: Dur,
    /// A call is ended after so long.
    pub timeout: Dur,
    /// `GET` or `POST`.
    pub method: Method,
}

impl PartialEq for DeadMan {
    fn eq(&self, other: &Self) -> bool {
        let Self { url, every, timeout, method } = self;
        url.expose_secret() == other.url.expose_secret() && (*every, *timeout, method) == (other.every, other.timeout, &other.method)
    }
}

/// The task that calls.
pub struct Pinger {
    /// Whom, and how often.
    pub dead_man: DeadMan,
    /// The way out.
    pub net: Arc<Net>,
    /// Our own series.
    pub metrics: SharedMetrics,
    /// Whether the node is well.
    pub ready: watch::Receiver<Readiness>,
    /// What is wrong with the newest call, for `/ready`.
    pub problem: watch::Sender<Option<String>>,
}

impl Pinger {
    /// Calls until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        // A call that the stop interrupts may have been made: that is true, the node was well.
        let calling = async {
            // A node that has only just begun is not well yet, and has withheld nothing.
            if self.ready.wait_for(Readiness::is_ready).await.is_err() {
                return;
            }
            loop {
                if !self.ready.borrow_and_update().is_ready() {
                    self.count("withheld");
                    // The sender lives as long as the readiness task; without it nobody knows whether the node is well.
                    if self.ready.wait_for(Readiness::is_ready).await.is_err() {
                        return;
                    }
                }
                let result = self.call().await;
                self.note(result);
                tokio::time::sleep(self.dead_man.every.to_std()).await;
            }
        };
        let _ = stop.run_until_cancelled(Box::pin(calling)).await;
    }

    fn count(&self, result: &'static str) {
        self.metrics.dead_man_pings.get_or_create(&ResultLabel { result }).inc();
    }

    /// Logs a failure once, and its end.
    fn note(&self, result: Result<(), String>) {
        self.count(if result.is_ok() { "sent" } else { "failed" });
        let failed = self.problem.borrow().is_some();
        match &result {
            Ok(()) if failed => tracing::info!("the dead-man's ping comes through again"),
            Err(why) if !failed => tracing::warn!("the dead-man's ping does not come through: {why}"),
            Ok(()) | Err(_) => {}
        }
        self.problem.send_replace(result.err().map(|why| format!("the ping does not come through: {why}")));
    }

    /// One call; the error names neither address nor path.
    async fn call(&self) -> Result<(), String> {
        let url = Url::parse(self.dead_man.url.expose_secret()).map_err(|_| "its URL is none".to_owned())?;
        let mut headers = HeaderMap::new();
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(crate::channel::USER_AGENT));
        let request = Request { method: self.dead_man.method.clone(), url, headers, body: bytes::Bytes::new() };
        let deadline = Instant::now() + self.dead_man.timeout.to_std();
        match self.net.send(&request, deadline, answer::ANSWER_MAX).await {
            Ok(response) if response.status.is_success() => Ok(()),
            Ok(response) => Err(format!("HTTP status {}", response.status.as_u16())),
            // The fault's own words may name the address.
            Err(fault) => Err(format!("not reached ({})", fault.outcome.why().unwrap_or("no answer"))),
        }
    }
}
