//! The gateway: between Telegram and Kafka, in both directions. It keeps nothing: what it needs to know about a bot follows from the
//! bot's id and the key, and what is on its way is in Kafka.

mod metrics;
mod pace;
mod sender;
mod webhook;

use crate::bot_api::BotApi;
use crate::client::Client;
use crate::intake;
use crate::names::ALL_OUTGOING;
use crate::serve::{listen, serve};
use crate::settings;
use anyhow::{Context as _, Result};
use metrics::Metrics;
use sender::Sender;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The consumer group of all gateways, as the seed's platform calls it.
const GROUP: &str = "tg-gateway-outgoing";

/// Runs until `stop`, or until something fails for good.
pub async fn run(settings: settings::Gateway, stop: CancellationToken) -> Result<()> {
    let settings::Gateway { common, listen: at, key, bot_api, rates, give_up } = settings;
    let producer = common.brokers.producer().context("making the producer")?;
    let client = Client::new().context("making the HTTP client")?;
    let metrics = Arc::new(Metrics::default());
    let main = listen(at.address, at.port)?;
    let side = listen(at.address, at.metrics_port)?;
    tracing::info!("gateway: listening on {}, metrics on {}; Kafka at {}", main.local_addr()?, side.local_addr()?, common.brokers.list);

    let webhook = webhook::router(webhook::Webhook::new(producer.clone(), key, metrics.clone()));
    let serving = tokio::spawn(serve(main, webhook, stop.clone(), common.grace));
    let shown = metrics.clone();
    let measuring = tokio::spawn(serve(side, crate::metrics::router(move || shown.registry()), stop.clone(), common.grace));
    let sender = Sender::new(BotApi::new(client, &bot_api), producer, rates, give_up, stop.clone(), metrics);
    let sent = intake::run(&common.brokers, GROUP, ALL_OUTGOING, Arc::new(sender), stop.clone(), common.grace).await;
    stop.cancel();
    for task in [serving, measuring] {
        task.await.context("a listening task has failed")?;
    }
    sent.context("sending to the Bot API")
}
