//! The gateway: between Telegram and Kafka, in both directions. It keeps nothing: what it needs to know about a bot follows from the
//! bot's id and the key, and what is on its way is in Kafka. Bots that were not written for this find their Bot API here, if it is wanted.

mod front;
mod metrics;
mod pace;
mod sender;
mod webhook;

use crate::bot_api::BotApi;
use crate::client::Client;
use crate::intake;
use crate::names::ALL_OUTGOING;
use crate::serve::{listen, serve, serve_with};
use crate::settings;
use anyhow::{Context as _, Result};
use front::{Front, Through};
use metrics::Metrics;
use pace::Pace;
use sender::Sender;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The consumer group of all gateways, as the seed's platform calls it.
const GROUP: &str = "tg-gateway-outgoing";

/// Runs until `stop`, or until something fails for good.
pub async fn run(settings: settings::Gateway, stop: CancellationToken) -> Result<()> {
    let settings::Gateway { common, listen: at, bots_port, key, bot_api, rates, give_up } = settings;
    let producer = common.brokers.producer().context("making the producer")?;
    let client = Client::new().context("making the HTTP client")?;
    let metrics = Arc::new(Metrics::default());
    let main = listen(at.address, at.port)?;
    let side = listen(at.address, at.metrics_port)?;
    tracing::info!("gateway: listening on {}, metrics on {}; Kafka at {}", main.local_addr()?, side.local_addr()?, common.brokers.list);

    let (bot_api, pace) = (BotApi::new(client, &bot_api), Arc::new(Pace::new(rates)));
    let mut tasks = Vec::new();
    let front = match bots_port {
        None => None,
        Some(port) => {
            let listener = listen(at.address, port)?;
            tracing::info!("gateway: the Bot API for bots is on {}", listener.local_addr()?);
            let through = Through::new(bot_api.clone(), pace.clone());
            let front = Arc::new(Front::new(key.clone(), &common.brokers, through, metrics.clone(), stop.clone()));
            let serving = serve_with(listener, front::router(front.clone()), front::HEADER_MAX, stop.clone(), common.grace);
            tasks.push(tokio::spawn(serving));
            Some(front)
        }
    };
    let webhook = webhook::router(webhook::Webhook::new(producer.clone(), key, metrics.clone(), stop.clone()));
    tasks.push(tokio::spawn(serve(main, webhook, stop.clone(), common.grace)));
    let shown = metrics.clone();
    tasks.push(tokio::spawn(serve(side, crate::metrics::router(move || shown.registry()), stop.clone(), common.grace)));
    let sender = Sender::new(bot_api, producer, pace, give_up, stop.clone(), metrics);
    let sent = intake::run(&common.brokers, GROUP, ALL_OUTGOING, Arc::new(sender), stop.clone(), common.grace).await;
    stop.cancel();
    for task in tasks {
        task.await.context("a listening task has failed")?;
    }
    if let Some(front) = front {
        front.ended().await;
    }
    sent.context("sending to the Bot API")
}
