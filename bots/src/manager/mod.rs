//! The manager: which bots there are, and that everything they need is there.
//!
//! What people ask for is written down and answered at once (`api`, `registry`); the reconciler makes it true, again and again
//! (`reconcile`): topics in Kafka (`topics`), workers in a runtime (`runtime`), as many as the lag needs (`scale`), and the webhook at
//! Telegram (`webhook`).

mod api;
pub mod bot;
pub mod metrics;
pub mod reconcile;
pub mod registry;
pub mod runtime;
pub mod scale;
pub mod topics;
pub mod webhook;

use crate::bot_api::BotApi;
use crate::client::Client;
use crate::serve::{listen, serve};
use crate::settings;
use anyhow::{Context as _, Result};
use metrics::Metrics;
use reconcile::Parts;
use registry::Registry;
use registry::sqlite::Sqlite;
use runtime::Runtime;
use runtime::docker::{Docker, Engine};
use runtime::kubernetes::{Kubernetes, Secrets};
use runtime::process::Processes;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use topics::{Kafka, Topics};
use webhook::Webhooks;

/// Runs until `stop`, or until something fails for good.
pub async fn run(settings: settings::Manager, stop: CancellationToken) -> Result<()> {
    let kafka = Kafka::new(&settings.common.brokers, settings.replication).context("making the Kafka client")?;
    run_with(settings, Arc::new(kafka), stop).await
}

/// The same with another way to make topics.
pub async fn run_with(settings: settings::Manager, topics: Arc<dyn Topics>, stop: CancellationToken) -> Result<()> {
    let settings::Manager { common, listen: at, key, bot_api, gateway, places, token, runtime, cooldown, replication: _ } = settings;
    let (registry, runtime): (Arc<dyn Registry>, Arc<dyn Runtime>) = match runtime {
        settings::Runtime::Process { state, workers } => {
            let registry = Sqlite::open(&state).await.with_context(|| format!("opening STATE_FILE {}", state.display()))?;
            let runtime = Processes::new(registry.installation(), workers, places, common.grace);
            (Arc::new(registry), Arc::new(runtime))
        }
        settings::Runtime::Docker { state, socket, plan } => {
            let registry = Sqlite::open(&state).await.with_context(|| format!("opening STATE_FILE {}", state.display()))?;
            let runtime = Docker::new(registry.installation(), Engine::new(&socket), plan);
            (Arc::new(registry), Arc::new(runtime))
        }
        settings::Runtime::Kubernetes(plan) => {
            let client = kube::Client::try_default().await.context("finding the cluster")?;
            (Arc::new(Secrets::new(client.clone(), &plan)), Arc::new(Kubernetes::new(client, plan)))
        }
    };
    let client = Client::new().context("making the HTTP client")?;
    let webhooks = Webhooks::new(BotApi::new(client, &bot_api), &bot_api, &gateway, key);
    let parts = Arc::new(Parts { registry, topics, webhooks, runtime, cooldown, wake: Notify::new(), metrics: Metrics::default() });
    let main = listen(at.address, at.port)?;
    let side = listen(at.address, at.metrics_port)?;
    tracing::info!("manager: listening on {}, metrics on {}; Kafka at {}", main.local_addr()?, side.local_addr()?, common.brokers.list);
    if token.is_none() {
        tracing::warn!("MANAGER_TOKEN is not set: whoever reaches this port can start workers");
    }
    let serving = tokio::spawn(serve(main, api::router(parts.clone(), token), stop.clone(), common.grace));
    let shown = parts.clone();
    let measuring = tokio::spawn(serve(side, crate::metrics::router(move || shown.metrics.registry()), stop.clone(), common.grace));
    let reconciled = reconcile::run(&parts, &stop).await;
    stop.cancel();
    for task in [serving, measuring] {
        task.await.context("a listening task has failed")?;
    }
    parts.registry.close().await;
    reconciled.context("reading the bots")
}
