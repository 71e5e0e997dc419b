//! `POST /webhook/{bot_id}`: an update of Telegram's goes into Kafka, and is acknowledged when Kafka has it. Anything else than 200 makes
//! Telegram send it again, so an update is refused only if it never can be taken.
//!
//! Who calls is known by the header that Telegram was given with the webhook. The token is in no URL.

use super::metrics::{Metrics, Webhook as Counted};
use crate::kafka::{NotWritten, Producer};
use crate::names::BotId;
use crate::secret::Key;
use crate::update::Update;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The largest update. Telegram's have a few kilobytes; more than this Kafka would not take (1 MB, unless set otherwise).
const UPDATE_MAX: usize = 512 * 1024;

/// An update's bytes are there within this. Longer would let a slow stranger keep a place.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// So many updates are taken in at once; further ones wait. More is memory ([`UPDATE_MAX`] each), fewer would make Telegram wait.
const AT_ONCE_MAX: usize = 256;

/// The header that Telegram repeats the webhook's secret in.
const SECRET: &str = "x-telegram-bot-api-secret-token";

/// How long a broker may take to answer whether it is there.
const REACHABLE_WITHIN: Duration = Duration::from_secs(2);

/// What the handlers share.
pub struct Webhook {
    producer: Producer,
    key: Key,
    metrics: Arc<Metrics>,
    places: Semaphore,
    failed: CancellationToken,
}

impl Webhook {
    /// Writes with that producer; `failed` is cancelled when nothing can be written any more.
    pub fn new(producer: Producer, key: Key, metrics: Arc<Metrics>, failed: CancellationToken) -> Self {
        Self { producer, key, metrics, places: Semaphore::new(AT_ONCE_MAX), failed }
    }
}

/// The routes.
pub fn router(webhook: Webhook) -> Router {
    Router::new()
        .route("/webhook/{bot}", post(update))
        .route("/health", get(async || "ok"))
        .route("/ready", get(ready))
        .with_state(Arc::new(webhook))
}

type Answer = (StatusCode, &'static str);

async fn ready(State(webhook): State<Arc<Webhook>>) -> Answer {
    let producer = webhook.producer.clone();
    let reached = tokio::task::spawn_blocking(move || producer.reachable(REACHABLE_WITHIN)).await;
    if matches!(reached, Ok(Ok(()))) { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "kafka does not answer") }
}

async fn update(State(webhook): State<Arc<Webhook>>, Path(bot): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    let (counted, answer) = take(&webhook, bot, &headers, body).await;
    webhook.metrics.webhook(counted);
    answer
}

async fn take(webhook: &Webhook, bot: String, headers: &HeaderMap, body: Body) -> (Counted, Answer) {
    let Ok(bot) = BotId::try_from(bot) else { return (Counted::Refused, (StatusCode::NOT_FOUND, "bot not found")) };
    let given = headers.get(SECRET).map_or(&b""[..], |secret| secret.as_bytes());
    if !webhook.key.is_secret(&bot, given) {
        return (Counted::Refused, (StatusCode::UNAUTHORIZED, "the secret token is missing or wrong"));
    }
    // Never closed, so never an error.
    let _place = webhook.places.acquire().await;
    let bytes = match tokio::time::timeout(BODY_WITHIN, to_bytes(body, UPDATE_MAX)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => return (Counted::Refused, (StatusCode::PAYLOAD_TOO_LARGE, "the update is too large, or was cut off")),
        Err(_) => return (Counted::Refused, (StatusCode::REQUEST_TIMEOUT, "the update did not come")),
    };
    let update = match Update::read(&bytes) {
        Ok(update) => update,
        Err(error) => {
            tracing::warn!("bot {bot}: Telegram's call is no update: {error}");
            return (Counted::Refused, (StatusCode::BAD_REQUEST, "invalid json"));
        }
    };
    match webhook.producer.write(&bot.incoming(), update.key.as_bytes(), update.envelope(&bot).as_bytes(), None).await {
        Ok(()) => (Counted::Taken, (StatusCode::OK, "ok")),
        Err(NotWritten::NoTopic(_)) => (Counted::Refused, (StatusCode::NOT_FOUND, "bot not found")),
        Err(NotWritten::TooLarge(_)) => (Counted::Refused, (StatusCode::PAYLOAD_TOO_LARGE, "the update is too large")),
        Err(error @ (NotWritten::Again(_) | NotWritten::Fatal(_))) => {
            let fatal = matches!(error, NotWritten::Fatal(_));
            let (id, error) = (update.id, anyhow::Error::from(error));
            tracing::warn!("bot {bot}: update {id} is not written, Telegram will send it again: {error:#}");
            if fatal {
                tracing::error!("this process ends, so that another one goes on");
                webhook.failed.cancel();
            }
            (Counted::Failed, (StatusCode::SERVICE_UNAVAILABLE, "kafka did not take the update"))
        }
    }
}
