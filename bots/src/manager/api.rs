//! What people ask the manager for: bots, as JSON.
//!
//! A request is taken when it is written down; making it true is the reconciler's. No answer holds a token.

use super::bot::{Bot, Bounds, Phase, RESERVED};
use super::reconcile::Parts;
use super::registry::RegistryError;
use crate::clock;
use crate::names::BotId;
use crate::secret::BotToken;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use futures_util::stream::{self, StreamExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// A larger request is refused. More is memory, less would refuse long variables.
const BODY_MAX: usize = 64 * 1024;

/// A request is there within this.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Names and images are at most so long.
const TEXT_MAX: usize = 255;

/// A bot has at most so many variables of its own, of so many bytes together. More would not fit in a worker's environment.
const VARIABLES_MAX: usize = 100;
const VARIABLES_BYTES_MAX: usize = 32 * 1024;

/// So many bots are asked about at once for the list.
const AT_ONCE: usize = 8;

/// What the handlers share.
#[derive(Clone)]
struct Api {
    parts: Arc<Parts>,
    token: Option<SecretString>,
}

/// The routes. With a token, every request about bots must have it.
pub fn router(parts: Arc<Parts>, token: Option<SecretString>) -> Router {
    let api = Api { parts, token };
    Router::new()
        .route("/bots", get(list).post(create))
        .route("/bots/{bot}", get(one).delete(delete))
        .route("/bots/{bot}/replicas", patch(replicas))
        .layer(middleware::from_fn_with_state(api.clone(), authorized))
        .route("/health", get(async || "ok"))
        .route("/ready", get(ready))
        .with_state(api)
}

/// What is answered instead.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Taken | RegistryError::Full => Self(StatusCode::CONFLICT, error.to_string()),
            RegistryError::Database(_) | RegistryError::Cluster(_) | RegistryError::Broken(_) => {
                tracing::error!("{:#}", anyhow::Error::from(error));
                Self(StatusCode::INTERNAL_SERVER_ERROR, "the state could not be read or written".to_owned())
            }
        }
    }
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, text.into())
}

async fn authorized(State(api): State<Api>, request: Request, next: Next) -> Response {
    if let Some(token) = &api.token {
        let given = bearer(request.headers()).unwrap_or_default();
        if !bool::from(token.expose_secret().as_bytes().ct_eq(given.as_bytes())) {
            return Refusal(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong".to_owned()).into_response();
        }
    }
    next.run(request).await
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

async fn ready(State(api): State<Api>) -> Response {
    match api.parts.registry.all().await {
        Ok(_) => "ready".into_response(),
        Err(error) => Refusal::from(error).into_response(),
    }
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    match tokio::time::timeout(BODY_WITHIN, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => serde_json::from_slice(&bytes).map_err(|_| bad("invalid request body")),
        Ok(Err(_)) => Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("the request is larger than {BODY_MAX} bytes, or was cut off"))),
        Err(_) => Err(Refusal(StatusCode::REQUEST_TIMEOUT, "the request did not come".to_owned())),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    bot_token: String,
    bot_name: String,
    worker_image: String,
    min_replicas: u32,
    max_replicas: u32,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replicas {
    min_replicas: Option<u32>,
    max_replicas: Option<u32>,
}

/// A bot as it is told.
#[derive(Serialize)]
struct Shown {
    bot_id: BotId,
    bot_name: String,
    status: &'static str,
    replicas: ShownReplicas,
    /// `null` if Kafka does not say.
    kafka_lag: Option<u64>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Serialize)]
struct ShownReplicas {
    /// `null` if the runtime does not say.
    current: Option<u32>,
    min: u32,
    max: u32,
}

async fn create(State(api): State<Api>, body: Body) -> Result<Response, Refusal> {
    let Create { bot_token, bot_name, worker_image, min_replicas, max_replicas, env_vars } = read(body).await?;
    let token = BotToken::new(&bot_token).map_err(|error| bad(format!("bot_token: {error}")))?;
    for (field, text) in [("bot_name", &bot_name), ("worker_image", &worker_image)] {
        if text.trim().is_empty() || text.len() > TEXT_MAX || text.chars().any(char::is_control) {
            return Err(bad(format!("{field} must be a text of 1 to {TEXT_MAX} bytes in one line")));
        }
    }
    let bounds = Bounds::new(min_replicas, max_replicas).map_err(bad)?;
    check_variables(&env_vars)?;
    api.parts.runtime.check_image(&worker_image).map_err(bad)?;
    let id = BotId::new().map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("no random numbers: {error}")))?;
    let bot = Bot {
        id,
        name: bot_name,
        token,
        image: worker_image,
        bounds,
        env: env_vars,
        created: clock::now(),
        phase: Phase::Creating,
        problem: None,
    };
    api.parts.registry.add(&bot).await?;
    api.parts.wake.notify_one();
    tracing::info!("bot {} ({}) is asked for: {} to {} workers of {}", bot.id, bot.name, bounds.min, bounds.max, bot.image);
    let answer = json!({
        "bot_id": bot.id,
        "status": "created",
        "kafka_topics": { "incoming": bot.id.incoming(), "outgoing": bot.id.outgoing() },
        "webhook_url": api.parts.webhooks.url(&bot.id),
    });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

fn check_variables(variables: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
    if variables.len() > VARIABLES_MAX || bytes > VARIABLES_BYTES_MAX {
        return Err(bad(format!("env_vars must be at most {VARIABLES_MAX} of {VARIABLES_BYTES_MAX} bytes together")));
    }
    for (name, value) in variables {
        let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !good || value.contains('\0') {
            return Err(bad(format!("env_vars: {} is no variable's name, or its value cannot be one", name.escape_debug())));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(bad(format!("env_vars: {name} is set by the manager")));
        }
    }
    Ok(())
}

async fn find(api: &Api, bot: String) -> Result<Bot, Refusal> {
    let not_found = || Refusal(StatusCode::NOT_FOUND, "bot not found".to_owned());
    let id = BotId::try_from(bot).map_err(|_| not_found())?;
    api.parts.registry.get(&id).await?.ok_or_else(not_found)
}

async fn shown(api: &Api, bot: Bot) -> Shown {
    let (lag, current) = tokio::join!(api.parts.topics.lag(&bot.id), api.parts.runtime.ready(&bot.id));
    if let Err(error) = &lag {
        tracing::warn!("bot {}: {error}", bot.id);
    }
    Shown {
        bot_name: bot.name,
        status: bot.phase.as_str(),
        replicas: ShownReplicas { current: current.ok(), min: bot.bounds.min, max: bot.bounds.max },
        kafka_lag: lag.ok(),
        created_at: clock::rfc3339(bot.created),
        problem: bot.problem,
        bot_id: bot.id,
    }
}

async fn list(State(api): State<Api>) -> Result<Json<Vec<Shown>>, Refusal> {
    let bots = api.parts.registry.all().await?;
    let api = &api;
    Ok(Json(stream::iter(bots).map(|bot| shown(api, bot)).buffered(AT_ONCE).collect().await))
}

async fn one(State(api): State<Api>, Path(bot): Path<String>) -> Result<Json<Shown>, Refusal> {
    let bot = find(&api, bot).await?;
    Ok(Json(shown(&api, bot).await))
}

async fn replicas(State(api): State<Api>, Path(bot): Path<String>, body: Body) -> Result<Json<Value>, Refusal> {
    let Replicas { min_replicas, max_replicas } = read(body).await?;
    let bot = find(&api, bot).await?;
    let bounds = Bounds::new(min_replicas.unwrap_or(bot.bounds.min), max_replicas.unwrap_or(bot.bounds.max)).map_err(bad)?;
    api.parts.registry.set_bounds(&bot.id, bounds).await?;
    api.parts.wake.notify_one();
    tracing::info!("bot {}: {} to {} workers from now on", bot.id, bounds.min, bounds.max);
    Ok(Json(json!({ "message": "replicas updated" })))
}

async fn delete(State(api): State<Api>, Path(bot): Path<String>) -> Result<Json<Value>, Refusal> {
    let bot = find(&api, bot).await?;
    api.parts.registry.set_phase(&bot.id, Phase::Deleting, None).await?;
    api.parts.wake.notify_one();
    tracing::info!("bot {} ({}) is to be removed", bot.id, bot.name);
    Ok(Json(json!({ "message": "bot deleted" })))
}
