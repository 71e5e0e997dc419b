//! The settings of each role: environment variables, under the names that the seed's platform already sets.
//!
//! Read once at start; every mistake is named at once, with what would have been accepted. A variable that is empty counts as not set.
//! The value of a secret is never quoted.

use crate::kafka::Brokers;
use crate::manager::bot::Places;
use crate::manager::runtime::docker;
use crate::manager::runtime::kubernetes::objects::Plan;
use crate::names::BotId;
use crate::secret::{BotToken, Key};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use url::Url;

/// The longest time that anything may be set to take: what takes longer is a typing mistake.
const SECONDS_MAX: f64 = 86_400.0;

/// The public Bot API.
pub const PUBLIC_BOT_API: &str = "https://api.telegram.org";

/// What all roles have.
#[derive(Clone, Debug)]
pub struct Common {
    /// `LOG_LEVEL`.
    pub log_level: LevelFilter,
    /// `KAFKA_BROKERS`, `KAFKA_SESSION_TIMEOUT_SECONDS`.
    pub brokers: Brokers,
    /// `GRACE_PERIOD_SECONDS`: how long work in hand may take after SIGTERM.
    pub grace: Duration,
    /// `END_WITH_PARENT`: the process whose child this must be, and which it does not outlive.
    pub parent: Option<u32>,
}

/// Where a role listens.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// `PORT`.
    pub port: u16,
    /// `METRICS_PORT`.
    pub metrics_port: u16,
    /// `LISTEN_ADDRESS`: on which address; all of them if not set.
    pub address: Option<IpAddr>,
}

/// How fast messages may leave. Telegram's own limits, unless set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// `BOT_PER_SECOND`: calls of one bot.
    pub bot_per_second: NonZeroU32,
    /// `CHAT_PER_SECOND`: messages into one private chat.
    pub chat_per_second: NonZeroU32,
    /// `GROUP_PER_MINUTE`: messages into one group or channel.
    pub group_per_minute: NonZeroU32,
}

/// The gateway's.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// What all have.
    pub common: Common,
    /// Where it listens.
    pub listen: Listen,
    /// `BOT_API_PORT`: where bots find a Bot API, if they do.
    pub bots_port: Option<u16>,
    /// `WEBHOOK_KEY`.
    pub key: Key,
    /// `BOT_API_URL`.
    pub bot_api: Url,
    /// How fast messages leave.
    pub rates: Rates,
    /// `GIVE_UP_SECONDS`: a call that fails for so long is parked.
    pub give_up: Duration,
}

/// The echo worker's.
#[derive(Clone, Debug)]
pub struct Echo {
    /// What all have.
    pub common: Common,
    /// `BOT_ID`.
    pub bot: BotId,
    /// `BOT_TOKEN`.
    pub token: BotToken,
    /// `KAFKA_INCOMING_TOPIC`.
    pub incoming: String,
    /// `KAFKA_OUTGOING_TOPIC`.
    pub outgoing: String,
    /// `KAFKA_CONSUMER_GROUP`.
    pub group: String,
    /// `SIDECAR_URL`, if there is one.
    pub sidecar: Option<Url>,
}

/// `RUNTIME`: where workers run.
#[derive(Clone, Debug)]
pub enum Runtime {
    /// As processes of this machine.
    Process {
        /// `STATE_FILE`.
        state: PathBuf,
        /// `WORKERS`: what workers can run, by the name that `worker_image` says.
        workers: BTreeMap<String, Vec<String>>,
    },
    /// As containers of a Docker engine.
    Docker {
        /// `STATE_FILE`.
        state: PathBuf,
        /// `DOCKER_HOST`: the engine's socket.
        socket: PathBuf,
        /// What is the same for all of them.
        plan: docker::Plan,
    },
    /// As pods.
    Kubernetes(Plan),
}

/// The manager's.
#[derive(Clone, Debug)]
pub struct Manager {
    /// What all have.
    pub common: Common,
    /// Where it listens.
    pub listen: Listen,
    /// `WEBHOOK_KEY`.
    pub key: Key,
    /// `BOT_API_URL`.
    pub bot_api: Url,
    /// `GATEWAY_URL`: where Telegram reaches the gateway.
    pub gateway: Url,
    /// `KAFKA_BROKERS`, and `GATEWAY_BOT_API_URL`: where workers reach the gateway's Bot API, if there is one.
    pub places: Places,
    /// `MANAGER_TOKEN`: whoever asks must have it, if it is set.
    pub token: Option<SecretString>,
    /// `RUNTIME`, and what that needs.
    pub runtime: Runtime,
    /// `SCALE_COOLDOWN_SECONDS`.
    pub cooldown: Duration,
    /// `KAFKA_REPLICATION`.
    pub replication: i32,
}

/// What `--help` prints.
pub const HELP: &str = "\
Serverless Telegram bots on Kafka.

  watchkeeper-bots gateway        webhooks into Kafka, and the workers' calls out to the Bot API
  watchkeeper-bots manager        which bots there are, their topics, their webhooks and as many workers as they need
  watchkeeper-bots echo           the worker of a bot that repeats what it hears
  watchkeeper-bots demo           all of them on this machine, for about a minute: see docs/bots.md
  watchkeeper-bots --version

  demo --broker HOST:PORT         on a broker that is there; without it, demo builds one of its own the first time, which takes minutes
  demo --quick                    with fewer messages

Everything else is set by variables. All roles:

  KAFKA_BROKERS=localhost:9092         host:port, with commas between; without TLS
  KAFKA_SESSION_TIMEOUT_SECONDS=10     a member of a group that is silent for so long is taken for dead
  GRACE_PERIOD_SECONDS=30              how long work in hand may take after SIGTERM
  LOG_LEVEL=info                       error, warn, info or debug
  END_WITH_PARENT=                     the number of the process that starts this one: it ends at once when that one has ended

gateway:

  PORT=8080                            where Telegram calls
  METRICS_PORT=9090                    where Prometheus reads /metrics
  LISTEN_ADDRESS=                      on which address; all, if not set
  WEBHOOK_KEY                          at least 32 characters, the same for the manager: what webhooks are known by
  BOT_API_URL=https://api.telegram.org
  BOT_API_PORT=                        where bots that were not written for this find a Bot API; nowhere, if not set
  BOT_PER_SECOND=30                    calls of one bot
  CHAT_PER_SECOND=1                    messages into one private chat
  GROUP_PER_MINUTE=20                  messages into one group or channel
  GIVE_UP_SECONDS=21600                a call that fails for so long is parked

manager:

  PORT=8080, METRICS_PORT=9090, LISTEN_ADDRESS, WEBHOOK_KEY, BOT_API_URL
                                       as for the gateway
  GATEWAY_URL=http://tg-gateway:8080   where Telegram reaches the gateway; Telegram itself calls https only
  GATEWAY_BOT_API_URL=                 where workers reach the gateway's BOT_API_PORT; they are told their address there, if it is set
  MANAGER_TOKEN=                       at least 16 characters; whoever asks must send it as bearer token; anybody may ask, if not set
  RUNTIME=                             process, docker or kubernetes; if not set, kubernetes in a pod and process elsewhere
  KAFKA_REPLICATION=2                  brokers that have each partition, if there are so many

  with processes and with Docker:
  STATE_FILE=watchkeeper-bots.db       where the bots are kept, with their tokens
  SCALE_COOLDOWN_SECONDS=30            workers stay for so long after they were needed

  with processes:
  WORKERS=                             what workers can run, by the name that worker_image says: NAME=PROGRAM ARGUMENTS; with semicolons
                                       between. There is always echo

  with Docker:
  DOCKER_HOST=unix:///var/run/docker.sock
                                       the engine's socket
  DOCKER_NETWORK=bridge                the network of the workers, in which they reach Kafka; not host and not none
  SIDECAR_IMAGE=watchkeeper-sidecar:latest

  with Kubernetes:
  WORKER_NAMESPACE=default             where everything of the bots is
  SIDECAR_IMAGE=watchkeeper-sidecar:latest

echo (the manager sets these):

  BOT_ID, BOT_TOKEN
  KAFKA_INCOMING_TOPIC, KAFKA_OUTGOING_TOPIC, KAFKA_CONSUMER_GROUP
                                       made from BOT_ID, if not set
  SIDECAR_URL=                         told of every update that begins and ends; nobody, if not set
";

/// Reads a role's variables.
pub struct Reader<G> {
    get: G,
    problems: Vec<String>,
}

impl Gateway {
    /// Reads them; or says everything that is wrong, a line each.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, Vec<String>> {
        let mut read = Reader { get, problems: Vec::new() };
        let (common, listen) = (read.common(), read.listen());
        let bots_port = read.bots_port(listen);
        let key = read.key();
        let bot_api = read.bot_api();
        let rates = Rates {
            bot_per_second: read.rate("BOT_PER_SECOND", 30),
            chat_per_second: read.rate("CHAT_PER_SECOND", 1),
            group_per_minute: read.rate("GROUP_PER_MINUTE", 20),
        };
        let give_up = read.seconds("GIVE_UP_SECONDS", 21_600.0);
        match key {
            Some(key) if read.problems.is_empty() => Ok(Self { common, listen, bots_port, key, bot_api, rates, give_up }),
            _ => Err(read.problems),
        }
    }
}

impl Echo {
    /// Reads them; or says everything that is wrong, a line each.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, Vec<String>> {
        let mut read = Reader { get, problems: Vec::new() };
        let common = read.common();
        let bot = read.required("BOT_ID", "lower-case hexadecimal digits", |text| BotId::try_from(text.to_owned()).ok());
        let token = read.secret("BOT_TOKEN", "a bot's token, such as 123456:AA…", |text| BotToken::new(text).ok());
        let topic = |text: &str| is_topic(text).then(|| text.to_owned());
        let incoming = read.value("KAFKA_INCOMING_TOPIC", "the name of a topic", topic);
        let outgoing = read.value("KAFKA_OUTGOING_TOPIC", "the name of a topic", topic);
        let group = read.value("KAFKA_CONSUMER_GROUP", "the name of a group", topic);
        let sidecar = read.value("SIDECAR_URL", "an http URL", http_url);
        match (bot, token) {
            (Some(bot), Some(token)) if read.problems.is_empty() => Ok(Self {
                incoming: incoming.unwrap_or_else(|| bot.incoming()),
                outgoing: outgoing.unwrap_or_else(|| bot.outgoing()),
                group: group.unwrap_or_else(|| bot.group()),
                common,
                bot,
                token,
                sidecar,
            }),
            _ => Err(read.problems),
        }
    }
}

impl Manager {
    /// Reads them; or says everything that is wrong, a line each. `own` is this program, which can be the echo worker.
    pub fn read(get: impl Fn(&str) -> Option<OsString>, own: &Path) -> Result<Self, Vec<String>> {
        let mut read = Reader { get, problems: Vec::new() };
        let (common, listen) = (read.common(), read.listen());
        let (key, bot_api) = (read.key(), read.bot_api());
        let gateway = read.value("GATEWAY_URL", "an http or https URL", http_url).or_else(|| http_url("http://tg-gateway:8080"));
        let bot_api_of_ours = read.value("GATEWAY_BOT_API_URL", "an http or https URL", http_url);
        let places = Places { brokers: common.brokers.list.clone(), bot_api: bot_api_of_ours.zip(key.clone()) };
        let token = match read.raw("MANAGER_TOKEN") {
            None => None,
            Some(_) => read.secret("MANAGER_TOKEN", "at least 16 characters", |text| (text.len() >= 16).then(|| text.into())),
        };
        let runtime = read.runtime(own, &common, &places);
        let cooldown = read.seconds("SCALE_COOLDOWN_SECONDS", 30.0);
        let replication = read
            .value("KAFKA_REPLICATION", "a whole number from 1 to 15", |text| text.parse().ok().filter(|number| (1..=15).contains(number)));
        match (key, gateway) {
            (Some(key), Some(gateway)) if read.problems.is_empty() => {
                let replication = replication.unwrap_or(2);
                Ok(Self { common, listen, key, bot_api, gateway, places, token, runtime, cooldown, replication })
            }
            _ => Err(read.problems),
        }
    }
}

/// Which runtime, before what it needs is read.
#[derive(Clone, Copy)]
enum Kind {
    Process,
    Docker,
    Kubernetes,
}

fn programs(text: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let one = |text: &str| {
        let (name, command) = text.split_once('=')?;
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        (!name.trim().is_empty() && !words.is_empty()).then(|| (name.trim().to_owned(), words))
    };
    text.split(';').map(str::trim).filter(|text| !text.is_empty()).map(one).collect()
}

/// What Kafka takes as a name. A first `^` would be a pattern.
fn is_topic(text: &str) -> bool {
    (1..=249).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// What Kubernetes takes as a name (RFC 1123).
fn label(text: &str) -> Option<String> {
    let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (letters && (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')).then(|| text.to_owned())
}

/// What Docker takes as a network's name. Every worker has a sidecar at the same port, so they cannot all be in the machine's own network.
fn network(text: &str) -> Option<String> {
    let good = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    (good && (1..=255).contains(&text.len()) && !["host", "none"].contains(&text)).then(|| text.to_owned())
}

fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn level(text: &str) -> Option<LevelFilter> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Some(LevelFilter::ERROR),
        "warn" | "warning" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        _ => None,
    }
}

impl<G: Fn(&str) -> Option<OsString>> Reader<G> {
    fn raw(&self, name: &str) -> Option<OsString> {
        (self.get)(name).filter(|raw| !raw.is_empty())
    }

    fn value<T>(&mut self, name: &str, form: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let raw = self.raw(name)?;
        let value = raw.to_str().and_then(|text| parse(text.trim()));
        if value.is_none() {
            self.problems.push(format!("{name} is \"{}\": it must be {form}", raw.to_string_lossy().escape_debug()));
        }
        value
    }

    fn required<T>(&mut self, name: &str, form: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        if self.raw(name).is_none() {
            self.problems.push(format!("{name} is not set: it must be {form}"));
        }
        self.value(name, form, parse)
    }

    fn secret<T>(&mut self, name: &str, form: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let raw = self.raw(name);
        let value = raw.as_ref().and_then(|raw| raw.to_str()).and_then(|text| parse(text.trim()));
        if value.is_none() {
            let what = if raw.is_some() { "is something else" } else { "is not set" };
            self.problems.push(format!("{name} {what}: it must be {form}"));
        }
        value
    }

    fn seconds(&mut self, name: &str, default: f64) -> Duration {
        let parse = |text: &str| {
            let seconds: f64 = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
            (0.0..=SECONDS_MAX).contains(&seconds).then_some(seconds)
        };
        Duration::from_secs_f64(self.value(name, "seconds from 0 to 86400, such as 30 or 2.5", parse).unwrap_or(default))
    }

    fn rate(&mut self, name: &str, default: u32) -> NonZeroU32 {
        self.value(name, "a whole number of at least 1", |text| text.parse().ok()).or(NonZeroU32::new(default)).unwrap_or(NonZeroU32::MIN)
    }

    fn port(&mut self, name: &str, default: u16) -> u16 {
        self.value(name, "a port from 1 to 65535, or 0 for any that is free", |text| text.parse().ok()).unwrap_or(default)
    }

    fn common(&mut self) -> Common {
        let list = self.value("KAFKA_BROKERS", "host:port, with commas between", |text| {
            let good =
                text.split(',').all(|one| one.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()));
            good.then(|| text.to_owned())
        });
        let session = self.seconds("KAFKA_SESSION_TIMEOUT_SECONDS", 10.0);
        if session.is_zero() {
            self.problems.push("KAFKA_SESSION_TIMEOUT_SECONDS is 0: it must be more".to_owned());
        }
        Common {
            log_level: self.value("LOG_LEVEL", "error, warn, info or debug", level).unwrap_or(LevelFilter::INFO),
            brokers: Brokers { list: list.unwrap_or_else(|| "localhost:9092".to_owned()), session },
            grace: self.seconds("GRACE_PERIOD_SECONDS", 30.0),
            parent: self.value("END_WITH_PARENT", "the number of a process", |text| text.parse().ok()),
        }
    }

    fn listen(&mut self) -> Listen {
        let listen = Listen {
            port: self.port("PORT", 8080),
            metrics_port: self.port("METRICS_PORT", 9090),
            address: self.value("LISTEN_ADDRESS", "an IP address, such as 127.0.0.1 or ::", |text| text.parse().ok()),
        };
        if listen.port != 0 && listen.port == listen.metrics_port {
            self.problems.push(format!("PORT and METRICS_PORT are both {}: they must differ", listen.port));
        }
        listen
    }

    fn bots_port(&mut self, Listen { port, metrics_port, address: _ }: Listen) -> Option<u16> {
        self.raw("BOT_API_PORT")?;
        let own = self.port("BOT_API_PORT", 0);
        if own != 0 && (own == port || own == metrics_port) {
            self.problems.push(format!("BOT_API_PORT is {own}, as PORT or METRICS_PORT: it must be another"));
        }
        Some(own)
    }

    fn runtime(&mut self, own: &Path, common: &Common, places: &Places) -> Runtime {
        let kind = self.value("RUNTIME", "process, docker or kubernetes", |text| match text {
            "process" => Some(Kind::Process),
            "docker" => Some(Kind::Docker),
            "kubernetes" => Some(Kind::Kubernetes),
            _ => None,
        });
        // Kubernetes tells every pod where it is.
        let here = if self.raw("KUBERNETES_SERVICE_HOST").is_some() { Kind::Kubernetes } else { Kind::Process };
        match kind.unwrap_or(here) {
            Kind::Process => {
                let state = self.state();
                let workers = self.value("WORKERS", "NAME=PROGRAM ARGUMENTS, with semicolons between", programs);
                let mut workers = workers.unwrap_or_default();
                workers.entry("echo".to_owned()).or_insert_with(|| vec![own.to_string_lossy().into_owned(), "echo".to_owned()]);
                Runtime::Process { state, workers }
            }
            Kind::Docker => {
                let socket = self.value("DOCKER_HOST", "unix:// and the path of a socket", |text| {
                    text.strip_prefix("unix://").filter(|path| path.starts_with('/')).map(PathBuf::from)
                });
                let network = self.value("DOCKER_NETWORK", "the name of a network, not host and not none", network);
                Runtime::Docker {
                    state: self.state(),
                    socket: socket.unwrap_or_else(|| PathBuf::from("/var/run/docker.sock")),
                    plan: docker::Plan {
                        network: network.unwrap_or_else(|| "bridge".to_owned()),
                        sidecar_image: self.sidecar_image(),
                        places: places.clone(),
                        grace: common.grace,
                    },
                }
            }
            Kind::Kubernetes => Runtime::Kubernetes(Plan {
                namespace: self.value("WORKER_NAMESPACE", "the name of a namespace", label).unwrap_or_else(|| "default".to_owned()),
                sidecar_image: self.sidecar_image(),
                places: places.clone(),
                grace: common.grace,
            }),
        }
    }

    fn state(&mut self) -> PathBuf {
        let state = self.value("STATE_FILE", "the path of a file", |text| Some(PathBuf::from(text)));
        state.unwrap_or_else(|| PathBuf::from("watchkeeper-bots.db"))
    }

    fn sidecar_image(&mut self) -> String {
        let image = self.value("SIDECAR_IMAGE", "the name of an image", |text| docker::containers::is_image(text).then(|| text.to_owned()));
        image.unwrap_or_else(|| "watchkeeper-sidecar:latest".to_owned())
    }

    fn key(&mut self) -> Option<Key> {
        self.secret("WEBHOOK_KEY", "at least 32 characters that nobody can guess", Key::new)
    }

    fn bot_api(&mut self) -> Url {
        let url = self.value("BOT_API_URL", "an http or https URL", http_url).or_else(|| http_url(PUBLIC_BOT_API));
        let Some(url) = url else { unreachable!("the public one is a URL") };
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Set<'a> = &'a [(&'a str, &'a str)];

    fn of(set: Set<'_>) -> impl Fn(&str) -> Option<OsString> {
        move |name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
    }

    const KEY: (&str, &str) = ("WEBHOOK_KEY", "0123456789abcdef0123456789abcdef");

    #[test]
    fn what_is_not_set_has_the_contract_s_value() {
        let gateway = Gateway::read(of(&[KEY, ("PORT", "")])).expect("good");
        assert_eq!((gateway.listen.port, gateway.listen.metrics_port, gateway.listen.address), (8080, 9090, None));
        assert_eq!((gateway.common.brokers.list.as_str(), gateway.common.grace), ("localhost:9092", Duration::from_secs(30)));
        assert_eq!(gateway.bot_api.as_str(), "https://api.telegram.org/");
        assert_eq!((gateway.rates.bot_per_second.get(), gateway.bots_port), (30, None));
        let echo = Echo::read(of(&[("BOT_ID", "a1"), ("BOT_TOKEN", "1:x")])).expect("good");
        assert_eq!(
            (echo.incoming.as_str(), echo.outgoing.as_str(), echo.group.as_str()),
            ("bot_a1_incoming", "bot_a1_outgoing", "bot_a1_workers")
        );
        assert!(echo.sidecar.is_none());
    }

    #[test]
    fn the_manager_always_knows_echo_and_what_else_it_is_told() {
        let own = Path::new("/bin/watchkeeper-bots");
        let manager = Manager::read(of(&[KEY]), own).expect("good");
        let workers = |manager: &Manager| match &manager.runtime {
            Runtime::Process { workers, state: _ } => workers.clone(),
            other @ (Runtime::Docker { .. } | Runtime::Kubernetes(_)) => panic!("not asked for: {other:?}"),
        };
        assert_eq!(workers(&manager), BTreeMap::from([("echo".to_owned(), vec!["/bin/watchkeeper-bots".to_owned(), "echo".to_owned()])]));
        assert_eq!((manager.gateway.as_str(), manager.replication, manager.token.is_none()), ("http://tg-gateway:8080/", 2, true));
        let manager = Manager::read(of(&[KEY, ("WORKERS", "py = python3 /srv/bot.py; echo=/bin/true;")]), own).expect("good");
        assert_eq!(workers(&manager)["py"], ["python3", "/srv/bot.py"]);
        assert_eq!(workers(&manager)["echo"], ["/bin/true"]);
        let pod =
            [KEY, ("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("WORKER_NAMESPACE", "telegram-serverless"), ("GRACE_PERIOD_SECONDS", "60")];
        let Runtime::Kubernetes(plan) = Manager::read(of(&pod), own).expect("good").runtime else { panic!("it is in a pod") };
        assert_eq!((plan.namespace.as_str(), plan.grace), ("telegram-serverless", Duration::from_secs(60)));
        let docker = [KEY, ("RUNTIME", "docker"), ("DOCKER_HOST", "unix:///run/d.sock"), ("DOCKER_NETWORK", "bots")];
        let Runtime::Docker { socket, plan, state: _ } = Manager::read(of(&docker), own).expect("good").runtime else {
            panic!("it is set")
        };
        assert_eq!((socket.as_path(), plan.network.as_str()), (Path::new("/run/d.sock"), "bots"));
        let docker =
            [KEY, ("RUNTIME", "docker"), ("DOCKER_HOST", "tcp://10.0.0.1:2375"), ("DOCKER_NETWORK", "host"), ("SIDECAR_IMAGE", "a b")];
        assert_eq!(
            Manager::read(of(&docker), own).expect_err("bad"),
            [
                "DOCKER_HOST is \"tcp://10.0.0.1:2375\": it must be unix:// and the path of a socket",
                "DOCKER_NETWORK is \"host\": it must be the name of a network, not host and not none",
                "SIDECAR_IMAGE is \"a b\": it must be the name of an image",
            ]
        );
        let set = [KEY, ("GATEWAY_BOT_API_URL", "http://tg-gateway:8082/")];
        assert_eq!(Manager::read(of(&set), own).expect("good").places.bot_api.map(|(url, _)| url.to_string()), Some(set[1].1.to_owned()));
        let problems = Manager::read(of(&[KEY, ("WORKERS", "py"), ("MANAGER_TOKEN", "short"), ("KAFKA_REPLICATION", "0")]), own);
        let problems = problems.expect_err("bad");
        assert_eq!(
            problems,
            [
                "MANAGER_TOKEN is something else: it must be at least 16 characters",
                "WORKERS is \"py\": it must be NAME=PROGRAM ARGUMENTS, with semicolons between",
                "KAFKA_REPLICATION is \"0\": it must be a whole number from 1 to 15",
            ]
        );
    }

    #[test]
    fn every_mistake_is_named_at_once_and_no_secret_is_quoted() {
        let problems = Gateway::read(of(&[
            ("WEBHOOK_KEY", "short-secret"),
            ("PORT", "9090"),
            ("KAFKA_BROKERS", "kafka"),
            ("BOT_API_URL", "ftp://x"),
            ("GROUP_PER_MINUTE", "0"),
            ("GRACE_PERIOD_SECONDS", "-1"),
            ("BOT_API_PORT", "9090"),
        ]))
        .expect_err("bad");
        assert_eq!(
            problems,
            [
                "KAFKA_BROKERS is \"kafka\": it must be host:port, with commas between",
                "GRACE_PERIOD_SECONDS is \"-1\": it must be seconds from 0 to 86400, such as 30 or 2.5",
                "PORT and METRICS_PORT are both 9090: they must differ",
                "BOT_API_PORT is 9090, as PORT or METRICS_PORT: it must be another",
                "WEBHOOK_KEY is something else: it must be at least 32 characters that nobody can guess",
                "BOT_API_URL is \"ftp://x\": it must be an http or https URL",
                "GROUP_PER_MINUTE is \"0\": it must be a whole number of at least 1",
            ]
        );
        let problems = Echo::read(of(&[("BOT_TOKEN", "1:x y"), ("KAFKA_INCOMING_TOPIC", "^bot.*")])).expect_err("bad");
        assert_eq!(
            problems,
            [
                "BOT_ID is not set: it must be lower-case hexadecimal digits",
                "BOT_TOKEN is something else: it must be a bot's token, such as 123456:AA…",
                "KAFKA_INCOMING_TOPIC is \"^bot.*\": it must be the name of a topic",
            ]
        );
    }
}
