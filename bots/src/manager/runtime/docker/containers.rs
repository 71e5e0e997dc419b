//! What a worker is made of with Docker: a container of the bot's image, and the sidecar in the same network, so that the bot finds it at
//! `localhost` as in a pod. Everything the manager needs to know of them later is in their labels.

use crate::manager::bot::{Bot, Places};
use crate::names::BotId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use url::form_urlencoded;

/// The sidecar's port, in the network of its worker.
const SIDECAR_PORT: u16 = 8081;

/// The sidecar has at most so many bytes of memory, as on Kubernetes. Its own promise is under 8 MB; less would end it in a burst.
const SIDECAR_MEMORY: u64 = 64 * 1024 * 1024;

/// The longest name of an image; the registries' own bound.
const IMAGE_MAX: usize = 255;

/// The label of whose it is.
const INSTALLATION: &str = "watchkeeper.dev/installation";
/// The label of a worker's number.
pub const WORKER: &str = "watchkeeper.dev/worker";
/// The label of which of its containers it is.
pub const PART: &str = "watchkeeper.dev/part";

/// What is the same for all bots.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The network that workers are in.
    pub network: String,
    /// The sidecar's image.
    pub sidecar_image: String,
    /// Where workers find what they need.
    pub places: Places,
    /// How long a worker may take for what it has in hand.
    pub grace: Duration,
}

/// Which of a worker's two containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The bot's image.
    Bot,
    /// The sidecar.
    Sidecar,
}

impl Part {
    /// As the label says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Sidecar => "sidecar",
        }
    }

    /// The one of that label.
    pub fn read(text: &str) -> Option<Self> {
        [Self::Bot, Self::Sidecar].into_iter().find(|part| part.as_str() == text)
    }
}

/// The name of a worker's container.
pub fn name(bot: &BotId, number: u32, part: Part) -> String {
    match part {
        Part::Bot => format!("bot-{bot}-{number}"),
        Part::Sidecar => format!("bot-{bot}-{number}-sidecar"),
    }
}

fn labels(installation: &str, bot: &BotId, number: u32, part: Part) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("app", "telegram-bot".to_owned()),
        ("bot-id", bot.to_string()),
        (INSTALLATION, installation.to_owned()),
        (WORKER, number.to_string()),
        (PART, part.as_str().to_owned()),
    ])
}

/// The question for all containers of a bot, ended ones too.
pub fn list(installation: &str, bot: &BotId) -> String {
    let filters = json!({ "label": [format!("{INSTALLATION}={installation}"), format!("bot-id={bot}")] }).to_string();
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("all", "true").append_pair("filters", &filters).finish();
    format!("/containers/json?{query}")
}

/// The bot's container.
pub fn bot(plan: &Plan, installation: &str, bot: &Bot, number: u32) -> Value {
    let mut environment: Vec<String> = bot.environment(&plan.places).iter().map(|(name, value)| format!("{name}={value}")).collect();
    environment.push(format!("BOT_TOKEN={}", bot.token.expose()));
    environment.push(format!("SIDECAR_URL=http://localhost:{SIDECAR_PORT}"));
    environment.push(format!("GRACE_PERIOD_SECONDS={}", plan.grace.as_secs_f64()));
    json!({
        "Image": tagged(&bot.image),
        "Env": environment,
        "Labels": labels(installation, &bot.id, number, Part::Bot),
        "HostConfig": { "NetworkMode": plan.network },
    })
}

/// The sidecar of the bot's container with that id.
pub fn sidecar(plan: &Plan, installation: &str, bot: &BotId, number: u32, of: &str) -> Value {
    json!({
        "Image": tagged(&plan.sidecar_image),
        "Env": [format!("GRACE_PERIOD_SECONDS={}", plan.grace.as_secs_f64()), format!("PORT={SIDECAR_PORT}")],
        "Labels": labels(installation, bot, number, Part::Sidecar),
        "HostConfig": { "NetworkMode": format!("container:{of}"), "Memory": SIDECAR_MEMORY },
    })
}

/// Whether that can be the name of an image, and is nothing else in a path.
pub fn is_image(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    (1..=IMAGE_MAX).contains(&text.len())
        && text.bytes().all(good)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// With the tag that is meant if none is said. Without one, Docker would fetch all that there are.
pub fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_tag_and_is_nothing_else_in_a_path() {
        assert_eq!(tagged("echo"), "echo:latest");
        assert_eq!(tagged("registry.example:5000/a/echo"), "registry.example:5000/a/echo:latest");
        for image in ["echo:1", "registry.example:5000/a/echo:1", "echo@sha256:00ff"] {
            assert_eq!((tagged(image).as_str(), is_image(image)), (image, true));
        }
        for bad in ["", "a b", "a?x=1", "../json", "a/../b", "a//b", "/a", "-a", "a#b", "é", &"a".repeat(256)] {
            assert!(!is_image(bad), "{bad}");
        }
    }
}
