//! The bots in their Secrets: the token and the bot's variables as data, everything else in one annotation.

use super::objects::{Plan, labels, secret, secret_name};
use super::{MANAGER, is_gone, is_there};
use crate::manager::bot::{Bot, Bounds, Phase};
use crate::manager::registry::{BOTS_MAX, Registry, RegistryError};
use crate::names::BotId;
use crate::secret::BotToken;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// The annotation.
const ABOUT: &str = "watchkeeper.dev/bot";

/// What stands in it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    name: String,
    image: String,
    min_replicas: u32,
    max_replicas: u32,
    created_us: i64,
    phase: String,
    problem: Option<String>,
}

impl About {
    fn of(bot: &Bot) -> Self {
        Self {
            name: bot.name.clone(),
            image: bot.image.clone(),
            min_replicas: bot.bounds.min,
            max_replicas: bot.bounds.max,
            created_us: bot.created.as_microsecond(),
            phase: bot.phase.as_str().to_owned(),
            problem: bot.problem.clone(),
        }
    }

    fn annotation(&self) -> Result<BTreeMap<String, String>, RegistryError> {
        let text = serde_json::to_string(self).map_err(|error| RegistryError::Broken(error.to_string()))?;
        Ok([(ABOUT.to_owned(), text)].into())
    }
}

/// The Secrets of a namespace.
pub struct Secrets {
    api: Api<Secret>,
    plan: Plan,
}

impl Secrets {
    /// In that cluster.
    pub fn new(client: kube::Client, plan: &Plan) -> Self {
        Self { api: Api::namespaced(client, &plan.namespace), plan: plan.clone() }
    }

    /// Writes the annotation anew, if nobody else has meanwhile: `change` is asked again with what was written then.
    async fn change(&self, id: &BotId, change: impl Fn(&mut Bot)) -> Result<(), RegistryError> {
        let name = secret_name(id.as_str());
        for _ in 0..CHANGES_MAX {
            let Some(found) = self.api.get_opt(&name).await? else { return Ok(()) };
            let mut bot = read(&found)?;
            change(&mut bot);
            // With the version that was read: if there is a newer one, this is refused.
            let wanted =
                json!({ "metadata": { "resourceVersion": found.metadata.resource_version, "annotations": About::of(&bot).annotation()? } });
            match self
                .api
                .patch(&name, &PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }, &Patch::Merge(&wanted))
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistryError::Broken(format!("{name} is changed by somebody else all the time")))
    }
}

/// A change is tried so often; a manager is alone as a rule.
const CHANGES_MAX: usize = 5;

#[async_trait::async_trait]
impl Registry for Secrets {
    async fn all(&self) -> Result<Vec<Bot>, RegistryError> {
        let selector = labels("").into_iter().filter(|(name, _)| name != "bot-id").map(|(name, value)| format!("{name}={value}"));
        let found = self.api.list(&ListParams::default().labels(&selector.collect::<Vec<_>>().join(","))).await?;
        // One Secret that somebody has broken is no reason to leave the others alone.
        let mut bots: Vec<Bot> = found
            .items
            .iter()
            .filter_map(|secret| read(secret).inspect_err(|error| tracing::error!("a Secret is passed over: {error}")).ok())
            .collect();
        bots.sort_by_key(|bot| (bot.created, bot.id.clone()));
        Ok(bots)
    }

    async fn get(&self, id: &BotId) -> Result<Option<Bot>, RegistryError> {
        self.api.get_opt(&secret_name(id.as_str())).await?.as_ref().map(read).transpose()
    }

    async fn add(&self, bot: &Bot) -> Result<(), RegistryError> {
        let all = self.all().await?;
        if all.len() >= BOTS_MAX {
            return Err(RegistryError::Full);
        }
        if all.iter().any(|other| other.token.user() == bot.token.user()) {
            return Err(RegistryError::Taken);
        }
        let new = secret(&self.plan, bot, About::of(bot).annotation()?);
        match self.api.create(&PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }, &new).await {
            Ok(_) => Ok(()),
            Err(error) if is_there(&error) => Err(RegistryError::Taken),
            Err(error) => Err(error.into()),
        }
    }

    async fn set_phase(&self, id: &BotId, phase: Phase, problem: Option<&str>) -> Result<(), RegistryError> {
        self.change(id, |bot| {
            if bot.phase != Phase::Deleting || phase == Phase::Deleting {
                bot.phase = phase;
                bot.problem = problem.map(str::to_owned);
            }
        })
        .await
    }

    async fn set_bounds(&self, id: &BotId, bounds: Bounds) -> Result<(), RegistryError> {
        self.change(id, |bot| bot.bounds = bounds).await
    }

    async fn remove(&self, id: &BotId) -> Result<(), RegistryError> {
        match self.api.delete(&secret_name(id.as_str()), &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn close(&self) {}
}

fn read(secret: &Secret) -> Result<Bot, RegistryError> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let broken = |what: &str| RegistryError::Broken(format!("{name}: {what}"));
    let id = secret.metadata.labels.as_ref().and_then(|labels| labels.get("bot-id")).cloned().ok_or_else(|| broken("bot-id"))?;
    let about = secret.metadata.annotations.as_ref().and_then(|all| all.get(ABOUT)).ok_or_else(|| broken(ABOUT))?;
    let about: About = serde_json::from_str(about).map_err(|_| broken(ABOUT))?;
    let mut env = BTreeMap::new();
    for (name, value) in secret.data.iter().flatten() {
        env.insert(name.clone(), String::from_utf8(value.0.clone()).map_err(|_| broken(name))?);
    }
    let token = env.remove("BOT_TOKEN").and_then(|token| BotToken::new(&token).ok()).ok_or_else(|| broken("BOT_TOKEN"))?;
    Ok(Bot {
        id: BotId::try_from(id).map_err(|_| broken("bot-id"))?,
        name: about.name,
        token,
        image: about.image,
        bounds: Bounds::new(about.min_replicas, about.max_replicas).map_err(|why| broken(&why))?,
        env,
        created: Timestamp::from_microsecond(about.created_us).map_err(|_| broken("created_us"))?,
        phase: Phase::read(&about.phase).ok_or_else(|| broken("phase"))?,
        problem: about.problem,
    })
}
