//! What a bot is made of on Kubernetes, as typed values: a Secret, a Deployment, and KEDA's ScaledObject.
//!
//! The Secret is first and holds what the bot is; the others belong to it, so that Kubernetes itself removes them with it. The Deployment
//! says nothing of how many pods there are: that is KEDA's. Its pods have the containers `bot` and `sidecar`; a pod that goes lets its
//! `bot` finish, because its `preStop` waits until the sidecar says that nothing is in flight.

use crate::manager::bot::{Bot, Places};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvFromSource, EnvVar, HTTPGetAction, Lifecycle, LifecycleHandler, PodSecurityContext,
    PodSpec, PodTemplateSpec, Probe, ResourceRequirements, Secret, SecretEnvSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// After the grace of a pod's work so much more passes before Kubernetes kills it: both share one countdown, which has begun before
/// `preStop`. Less would kill a pod that ends in time.
const GRACE_MORE: Duration = Duration::from_secs(15);

/// KEDA asks Kafka so often, in seconds, and takes workers away so long after the last message.
const POLLING_SECONDS: u32 = 10;
const COOLDOWN_SECONDS: u32 = 30;

/// The sidecar's ports.
const SIDECAR_PORT: i32 = 8081;
const SIDECAR_METRICS_PORT: i32 = 9091;

/// The user of images that name none, and of the sidecar's. They share the folder of the counts.
const USER: i64 = 10_001;

/// What is the same for all bots.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where everything is.
    pub namespace: String,
    /// The sidecar's image.
    pub sidecar_image: String,
    /// Where workers find what they need, and KEDA finds Kafka.
    pub places: Places,
    /// How long a worker may take for what it has in hand.
    pub grace: Duration,
}

/// The labels of everything that belongs to a bot.
pub fn labels(bot: &str) -> BTreeMap<String, String> {
    [("app", "telegram-bot"), ("bot-id", bot), ("app.kubernetes.io/managed-by", "watchkeeper-bots")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// The name of a bot's Deployment.
pub fn deployment_name(bot: &str) -> String {
    format!("bot-{bot}")
}

/// The name of its Secret.
pub fn secret_name(bot: &str) -> String {
    format!("bot-{bot}-secrets")
}

/// The name of its ScaledObject.
pub fn scaler_name(bot: &str) -> String {
    format!("bot-{bot}-scaler")
}

fn meta(plan: &Plan, bot: &str, name: String, owner: Option<OwnerReference>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(plan.namespace.clone()),
        labels: Some(labels(bot)),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The token and the bot's own variables. `about` is what the manager keeps of it.
pub fn secret(plan: &Plan, bot: &Bot, about: BTreeMap<String, String>) -> Secret {
    let mut data: BTreeMap<String, ByteString> =
        bot.env.iter().map(|(name, value)| (name.clone(), ByteString(value.clone().into_bytes()))).collect();
    data.insert("BOT_TOKEN".to_owned(), ByteString(bot.token.expose().as_bytes().to_vec()));
    let mut metadata = meta(plan, bot.id.as_str(), secret_name(bot.id.as_str()), None);
    metadata.annotations = Some(about);
    Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() }
}

fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), value_from: None }
}

fn ask(path: &str) -> HTTPGetAction {
    HTTPGetAction { path: Some(path.to_owned()), port: IntOrString::Int(SIDECAR_PORT), ..HTTPGetAction::default() }
}

fn probe(path: &str, delay: i32, period: i32) -> Probe {
    Probe { http_get: Some(ask(path)), initial_delay_seconds: Some(delay), period_seconds: Some(period), ..Probe::default() }
}

fn quantities(cpu: &str, memory: &str) -> BTreeMap<String, Quantity> {
    [("cpu", cpu), ("memory", memory)].map(|(name, value)| (name.to_owned(), Quantity(value.to_owned()))).into()
}

/// The pods. `replicas` only where they are made for the first time.
pub fn deployment(plan: &Plan, bot: &Bot, owner: OwnerReference, replicas: Option<u32>) -> Deployment {
    let id = bot.id.as_str();
    let mut environment: Vec<EnvVar> = bot
        .environment(&plan.places)
        .into_iter()
        .filter(|(name, _)| !bot.env.contains_key(name))
        .map(|(name, value)| variable(&name, value))
        .collect();
    environment.push(variable("SIDECAR_URL", format!("http://localhost:{SIDECAR_PORT}")));
    environment.push(variable("GRACE_PERIOD_SECONDS", plan.grace.as_secs().to_string()));
    let worker = Container {
        name: "bot".to_owned(),
        image: Some(bot.image.clone()),
        env: Some(environment),
        env_from: Some(vec![EnvFromSource {
            secret_ref: Some(SecretEnvSource { name: secret_name(id), optional: None }),
            ..EnvFromSource::default()
        }]),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler { http_get: Some(ask("/drain")), ..LifecycleHandler::default() }),
            ..Lifecycle::default()
        }),
        ..Container::default()
    };
    let port = |name: &str, port: i32| ContainerPort { name: Some(name.to_owned()), container_port: port, ..ContainerPort::default() };
    let sidecar = Container {
        name: "sidecar".to_owned(),
        image: Some(plan.sidecar_image.clone()),
        env: Some(vec![variable("GRACE_PERIOD_SECONDS", plan.grace.as_secs().to_string()), variable("STATE_FILE", "/state/counts")]),
        ports: Some(vec![port("http", SIDECAR_PORT), port("metrics", SIDECAR_METRICS_PORT)]),
        liveness_probe: Some(probe("/health", 5, 10)),
        readiness_probe: Some(probe("/ready", 3, 5)),
        resources: Some(ResourceRequirements {
            requests: Some(quantities("10m", "32Mi")),
            limits: Some(quantities("50m", "64Mi")),
            ..ResourceRequirements::default()
        }),
        volume_mounts: Some(vec![VolumeMount { name: "sidecar".to_owned(), mount_path: "/state".to_owned(), ..VolumeMount::default() }]),
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![worker, sidecar],
        termination_grace_period_seconds: Some((plan.grace + GRACE_MORE).as_secs() as i64),
        security_context: Some(PodSecurityContext { fs_group: Some(USER), ..PodSecurityContext::default() }),
        volumes: Some(vec![Volume { name: "sidecar".to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }]),
        ..PodSpec::default()
    };
    Deployment {
        metadata: meta(plan, id, deployment_name(id), Some(owner)),
        spec: Some(DeploymentSpec {
            replicas: replicas.map(|replicas| replicas as i32),
            selector: LabelSelector {
                match_labels: Some([("app".to_owned(), "telegram-bot".to_owned()), ("bot-id".to_owned(), id.to_owned())].into()),
                ..LabelSelector::default()
            },
            template: PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(labels(id)), ..ObjectMeta::default() }), spec: Some(pod) },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// KEDA's object, as far as it is used here. Source: <https://keda.sh/docs/latest/reference/scaledobject-spec/>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaledObjectSpec {
    scale_target_ref: ScaleTarget,
    polling_interval: u32,
    cooldown_period: u32,
    min_replica_count: u32,
    max_replica_count: u32,
    triggers: Vec<Trigger>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaleTarget {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trigger {
    #[serde(rename = "type")]
    kind: String,
    /// All of them are text, also the numbers. Source: <https://keda.sh/docs/latest/scalers/apache-kafka/>.
    metadata: BTreeMap<String, String>,
}

/// The ScaledObject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaledObject {
    api_version: String,
    kind: String,
    /// As of every object.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: ScaledObjectSpec,
}

/// Who scales the pods: KEDA, by the lag.
pub fn scaled_object(plan: &Plan, bot: &Bot, owner: OwnerReference) -> ScaledObject {
    let id = bot.id.as_str();
    let metadata = [
        ("bootstrapServers", plan.places.brokers.clone()),
        ("consumerGroup", bot.id.group()),
        ("topic", bot.id.incoming()),
        ("lagThreshold", crate::manager::scale::LAG_PER_REPLICA.to_string()),
        // What makes a group wake up that has never committed.
        ("offsetResetPolicy", "earliest".to_owned()),
    ];
    ScaledObject {
        api_version: "keda.sh/v1alpha1".to_owned(),
        kind: "ScaledObject".to_owned(),
        metadata: meta(plan, id, scaler_name(id), Some(owner)),
        spec: ScaledObjectSpec {
            scale_target_ref: ScaleTarget { name: deployment_name(id) },
            polling_interval: POLLING_SECONDS,
            cooldown_period: COOLDOWN_SECONDS,
            min_replica_count: bot.bounds.min,
            max_replica_count: bot.bounds.max,
            triggers: vec![Trigger { kind: "kafka".to_owned(), metadata: metadata.map(|(name, value)| (name.to_owned(), value)).into() }],
        },
    }
}
