//! Workers as pods of Kubernetes, scaled by KEDA. What the manager knows of a bot is kept in the bot's Secret, so that it needs no
//! storage of its own.
//!
//! Everything is applied by the server itself (server-side apply), again and again: what somebody else changed of it is mended, what
//! others own of it (how many pods there are) is left alone.

pub mod objects;
mod secrets;

pub use secrets::Secrets;

use super::{Removed, Runtime, RuntimeError, Scaling};
use crate::manager::bot::Bot;
use crate::names::BotId;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use objects::{Plan, deployment, deployment_name, scaled_object, scaler_name, secret_name};

/// Under this name Kubernetes notes which fields are the manager's.
const MANAGER: &str = "watchkeeper-bots";

/// The number of pods is written once, when there are none, and under another name: so it is nobody's who applies, and KEDA's to change.
const FIRST: &str = "watchkeeper-bots-first";

/// The pods of a cluster.
pub struct Kubernetes {
    plan: Plan,
    secrets: Api<Secret>,
    deployments: Api<Deployment>,
    scalers: Api<DynamicObject>,
}

impl Kubernetes {
    /// In that cluster.
    pub fn new(client: kube::Client, plan: Plan) -> Self {
        let scaled = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject"), "scaledobjects");
        Self {
            secrets: Api::namespaced(client.clone(), &plan.namespace),
            deployments: Api::namespaced(client.clone(), &plan.namespace),
            scalers: Api::namespaced_with(client, &plan.namespace, &scaled),
            plan,
        }
    }

    /// The Secret, as what belongs to it names it.
    async fn owner(&self, bot: &BotId) -> Result<OwnerReference, RuntimeError> {
        let name = secret_name(bot.as_str());
        let secret = self.secrets.get(&name).await.map_err(|error| failed("reading the Secret", &error))?;
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Secret".to_owned(),
            name,
            uid: secret.metadata.uid.unwrap_or_default(),
            ..OwnerReference::default()
        })
    }
}

/// What an answer of the API server means.
fn failed(doing: &str, error: &kube::Error) -> RuntimeError {
    let kube::Error::Api(status) = error else { return RuntimeError::Again(format!("{doing}: {error}")) };
    match status.code {
        // What it understands and finds wrong stays wrong. Rights and quotas (403) can be given.
        400 | 422 => RuntimeError::Never(format!("{doing}: {}", status.message)),
        code => RuntimeError::Again(format!("{doing}: {code} {}", status.message)),
    }
}

/// Whether the answer is that there is no such thing.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the answer is that there is one already.
fn is_there(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists")
}

#[async_trait::async_trait]
impl Runtime for Kubernetes {
    fn scaling(&self) -> Scaling {
        Scaling::Elsewhere
    }

    fn check_image(&self, image: &str) -> Result<(), String> {
        // What else is wrong with it the cluster says.
        if image.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err("worker_image must be the name of an image".to_owned()) }
    }

    async fn apply(&self, bot: &Bot, wanted: u32) -> Result<(), RuntimeError> {
        let id = bot.id.as_str();
        let owner = self.owner(&bot.id).await?;
        let name = deployment_name(id);
        let there = self.deployments.get_opt(&name).await.map_err(|error| failed("reading the Deployment", &error))?;
        if there.is_none() {
            let first = PostParams { field_manager: Some(FIRST.to_owned()), ..PostParams::default() };
            let made = self.deployments.create(&first, &deployment(&self.plan, bot, owner.clone(), Some(wanted))).await;
            if let Err(error) = made.map(drop)
                && !is_there(&error)
            {
                return Err(failed("making the Deployment", &error));
            }
        }
        // What is ours of it is ours, also where somebody else has changed it.
        let ours = PatchParams::apply(MANAGER).force();
        let wanted = Patch::Apply(deployment(&self.plan, bot, owner.clone(), None));
        self.deployments.patch(&name, &ours, &wanted).await.map_err(|error| failed("applying the Deployment", &error))?;
        let wanted = Patch::Apply(scaled_object(&self.plan, bot, owner));
        self.scalers.patch(&scaler_name(id), &ours, &wanted).await.map_err(|error| failed("applying the ScaledObject", &error))?;
        Ok(())
    }

    async fn ready(&self, bot: &BotId) -> Result<u32, RuntimeError> {
        let found =
            self.deployments.get_opt(&deployment_name(bot.as_str())).await.map_err(|error| failed("reading the Deployment", &error))?;
        let ready = found.and_then(|found| found.status?.ready_replicas).unwrap_or(0);
        Ok(u32::try_from(ready).unwrap_or(0))
    }

    async fn remove(&self, bot: &BotId) -> Result<Removed, RuntimeError> {
        // The scaler first, so that it starts nothing while the rest goes.
        match self.scalers.delete(&scaler_name(bot.as_str()), &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(failed("removing the ScaledObject", &error)),
        }
        // In the foreground: it is there until the last of its pods is gone.
        match self.deployments.delete(&deployment_name(bot.as_str()), &DeleteParams::foreground()).await {
            Ok(_) => Ok(Removed::Going),
            Err(error) if is_gone(&error) => Ok(Removed::Gone),
            Err(error) => Err(failed("removing the Deployment", &error)),
        }
    }
}
