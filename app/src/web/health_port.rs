//! A port of its own for whether the process lives and reaches its database, in the words that UptimeOAgent has for it.
//!
//! It is meant for whoever runs containers, and so answers everybody; it says nothing else.

use super::serve::accept;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A database that has not answered after so long is not there. Probes of containers usually wait longer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Asks the database for a sign of life.
pub type Ping = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// Serves `/healthz` (`ok`) and `/readyz` (`ready`, or 503 `database unavailable`) until `stop`.
pub async fn serve(listener: TcpListener, ping: Ping, stop: CancellationToken) {
    let ready = move || {
        let ping = ping.clone();
        async move {
            match tokio::time::timeout(ANSWERS_WITHIN, ping()).await {
                Ok(true) => (StatusCode::OK, "ready"),
                Ok(false) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "database unavailable"),
            }
        }
    };
    let router = Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready));
    accept(listener, router, stop).await;
}
