//! Gateway and manager as processes of this machine, with Telegram's stand-in around them and a bot between: everything that a play
//! needs but the broker. It all ends with this process, however that ends.

use super::broker::SESSION;
use super::role::{Role, Signal};
use super::telegram::{Hook, Telegram};
use crate::client::Client;
use crate::names::{BotId, hex};
use crate::secret::BotToken;
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A role listens within so long of its start.
const START_WITHIN: Duration = Duration::from_secs(30);

/// The manager answers within this: it asks Kafka about the lag, which may be away.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The manager's answers are small.
const ANSWER_MAX: usize = 1024 * 1024;

/// How often something is asked that is waited for.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How long work in hand may take after SIGTERM.
const GRACE_SECONDS: &str = "10";

/// A gateway is started so often at most: one that always ends is none.
const STARTS_MAX: u32 = 50;

/// A token of the right form that belongs to nobody.
const TOKEN: &str = "123456:DEMO-abcdefghijklmnopqrstuvwxyz_0123";

/// Calls out are not held back: Telegram's own limits (30 a second) would only make a play longer.
const UNFELT: &str = "1000000";

/// Where and how it runs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `watchkeeper-bots`.
    pub program: PathBuf,
    /// For logs and the manager's file.
    pub folder: PathBuf,
    /// Where Kafka is.
    pub brokers: String,
    /// Workers stay for so long after they were needed.
    pub cooldown: Duration,
}

/// What the manager says of a bot.
#[derive(Clone, Debug, Deserialize)]
pub struct Shown {
    /// `creating`, `running`, …
    pub status: String,
    /// Updates that are not done; none when that could not be measured.
    pub kafka_lag: Option<u64>,
    /// Its workers.
    pub replicas: Replicas,
    /// What does not go well.
    pub problem: Option<String>,
}

/// How many workers there are.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Replicas {
    /// None when that could not be told.
    pub current: Option<u32>,
}

impl Shown {
    /// Nothing is left to do, and nobody is there to do it.
    pub fn asleep(&self) -> bool {
        self.status == "running" && self.kafka_lag == Some(0) && self.replicas.current == Some(0)
    }
}

/// What runs.
pub struct Platform {
    setup: Setup,
    key: String,
    token: String,
    client: Client,
    gateway_port: u16,
    manager_port: u16,
    starts: u32,
    /// Its stand-in.
    pub telegram: Arc<Telegram>,
    /// The gateway's process.
    pub gateway: Role,
    /// The manager's process.
    pub manager: Role,
}

fn random() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("drawing a secret: {error}"))?;
    Ok(hex(&bytes))
}

/// A gateway on that port, or on one that is free.
async fn gateway(setup: &Setup, key: &str, telegram: &Telegram, port: u16, nth: u32) -> Result<(Role, u16)> {
    let (session, parent, port) = (SESSION.as_secs().to_string(), std::process::id().to_string(), port.to_string());
    let variables = [
        ("PORT", port.as_str()),
        ("METRICS_PORT", "0"),
        ("KAFKA_BROKERS", &setup.brokers),
        ("KAFKA_SESSION_TIMEOUT_SECONDS", &session),
        ("GRACE_PERIOD_SECONDS", GRACE_SECONDS),
        ("END_WITH_PARENT", &parent),
        ("WEBHOOK_KEY", key),
        ("BOT_API_URL", &telegram.url),
        ("BOT_PER_SECOND", UNFELT),
        ("CHAT_PER_SECOND", UNFELT),
        ("GROUP_PER_MINUTE", UNFELT),
    ];
    let mut role = Role::start(&setup.program, "gateway", setup.folder.join(format!("gateway-{nth}.log")), &variables)?;
    let (port, _) = role.ports(START_WITHIN).await?;
    Ok((role, port))
}

impl Platform {
    /// Starts everything, and returns when the manager answers.
    pub async fn start(setup: Setup) -> Result<Self> {
        let telegram = Arc::new(Telegram::start(&BotToken::new(TOKEN)?).await?);
        let (key, token) = (random()?, random()?);
        let (gateway, gateway_port) = gateway(&setup, &key, &telegram, 0, 1).await?;
        let (session, parent) = (SESSION.as_secs().to_string(), std::process::id().to_string());
        let (state, cooldown) = (setup.folder.join("bots.db").display().to_string(), setup.cooldown.as_secs_f64().to_string());
        let gateway_url = format!("http://127.0.0.1:{gateway_port}");
        let variables = [
            ("PORT", "0"),
            ("METRICS_PORT", "0"),
            ("KAFKA_BROKERS", setup.brokers.as_str()),
            ("KAFKA_SESSION_TIMEOUT_SECONDS", &session),
            ("GRACE_PERIOD_SECONDS", GRACE_SECONDS),
            ("END_WITH_PARENT", &parent),
            ("WEBHOOK_KEY", &key),
            ("BOT_API_URL", &telegram.url),
            ("GATEWAY_URL", &gateway_url),
            ("MANAGER_TOKEN", &token),
            ("RUNTIME", "process"),
            ("STATE_FILE", &state),
            ("SCALE_COOLDOWN_SECONDS", &cooldown),
        ];
        let mut manager = Role::start(&setup.program, "manager", setup.folder.join("manager.log"), &variables)?;
        let (manager_port, _) = manager.ports(START_WITHIN).await?;
        let client = Client::new().context("making the HTTP client")?;
        Ok(Self { setup, key, token, client, gateway_port, manager_port, starts: 1, telegram, gateway, manager })
    }

    /// Ends the gateway by a signal, and starts another one in its place.
    pub async fn change_gateway(&mut self, signal: Signal) -> Result<()> {
        self.gateway.signal(signal);
        if self.gateway.end_within(START_WITHIN).await?.is_none() {
            bail!("the gateway did not end");
        }
        self.start_gateway().await
    }

    /// Starts another gateway, if the last one has ended by itself, as whoever runs one does: what ended it then.
    pub async fn mend(&mut self) -> Result<Option<String>> {
        self.manager.lives()?;
        let Err(ended) = self.gateway.lives() else { return Ok(None) };
        if self.starts >= STARTS_MAX {
            return Err(ended);
        }
        self.start_gateway().await?;
        Ok(Some(format!("{ended:#}")))
    }

    async fn start_gateway(&mut self) -> Result<()> {
        self.starts += 1;
        (self.gateway, self.gateway_port) = gateway(&self.setup, &self.key, &self.telegram, self.gateway_port, self.starts).await?;
        Ok(())
    }

    /// Asks the manager.
    async fn ask(&self, method: &str, path: &str, body: String) -> Result<(u16, Value)> {
        let request = http::Request::builder().method(method).uri(format!("http://127.0.0.1:{}{path}", self.manager_port));
        let request = request.header("authorization", format!("Bearer {}", self.token)).body(Full::new(Bytes::from(body)))?;
        let answered = self.client.send(request, ANSWER_WITHIN, ANSWER_MAX).await.context("asking the manager")?;
        let value = serde_json::from_slice(answered.body()).context("reading what the manager says")?;
        Ok((answered.status().as_u16(), value))
    }

    /// Asks for an echo bot with none to so many workers.
    pub async fn add_bot(&self, max: u32) -> Result<BotId> {
        // Workers outlive their manager, but not this play.
        let env = json!({ "END_WITH_PARENT": self.manager.pid().to_string() });
        let asked = json!({
            "bot_token": TOKEN, "bot_name": "echo_bot", "worker_image": "echo", "min_replicas": 0, "max_replicas": max, "env_vars": env,
        });
        let (status, answer) = self.ask("POST", "/bots", asked.to_string()).await?;
        let id = answer["bot_id"].as_str().map(str::to_owned);
        match (status, id) {
            (201, Some(id)) => Ok(BotId::try_from(id)?),
            _ => bail!("the manager did not make the bot: {status} {answer}"),
        }
    }

    /// What the manager says of it; nothing when it is gone.
    pub async fn look(&self, bot: &BotId) -> Result<Option<Shown>> {
        let (status, answer) = self.ask("GET", &format!("/bots/{bot}"), String::new()).await?;
        match status {
            200 => Ok(Some(serde_json::from_value(answer).context("reading what the manager says")?)),
            404 => Ok(None),
            _ => bail!("the manager answers {status}: {answer}"),
        }
    }

    /// Waits until the bot is so.
    pub async fn wait(&self, bot: &BotId, what: &str, within: Duration, so: impl Fn(&Shown) -> bool) -> Result<Shown> {
        let began = Instant::now();
        loop {
            let shown = self.look(bot).await?.context("the bot is gone")?;
            if so(&shown) {
                return Ok(shown);
            }
            if began.elapsed() >= within {
                bail!("the bot was not {what} within {} s: {shown:?}", within.as_secs());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Where Telegram was told to deliver the bot's updates.
    pub fn hook(&self) -> Result<Hook> {
        self.telegram.hook().context("no webhook was set")
    }

    /// Removes the bot with everything of it; says what was left behind.
    pub async fn remove_bot(&self, bot: &BotId, within: Duration) -> Result<Option<String>> {
        let (status, answer) = self.ask("DELETE", &format!("/bots/{bot}"), String::new()).await?;
        if status != 200 {
            bail!("the manager does not remove the bot: {status} {answer}");
        }
        let began = Instant::now();
        while let Some(shown) = self.look(bot).await? {
            // Its workers are gone, and the rest is refused.
            if shown.replicas.current == Some(0) && shown.problem.is_some() {
                return Ok(shown.problem);
            }
            if began.elapsed() >= within {
                return Ok(Some(format!("it was not removed within {} s", within.as_secs())));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Ok(None)
    }
}
