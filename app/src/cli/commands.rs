//! The small commands: each loads the configuration, calls one function of the library, and says what it answered.

use super::client::Client;
use super::term::Term;
use super::{Ended, dead_letters, say, status};
use crate::channel;
use crate::clock::Clock;
use crate::config::decode::nearest;
use crate::config::{self, BadConfig, ChannelConfig, Config, DEFAULT_TENANT, Reach, StoreUrl};
use crate::counted;
use crate::net::Net;
use crate::store::{self, TOKENS_MAX};
use crate::uptime_o::Variables;
use crate::web::auth::token_file;
use anyhow::{Context, anyhow};
use secrecy::ExposeSecret;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the configuration is.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration: a file, or a folder of files
    #[arg(long, value_name = "FILE|DIR")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    at: ConfigArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Print every option with its default and what it does
    Default,
    /// Show everything that is wrong with a configuration, with its place
    Check {
        /// A file, or a folder of files
        #[arg(value_name = "FILE|DIR")]
        path: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show who would be told of a monitor, when, and what says so; from the configuration alone
    Routes(super::routes::Args),
}

#[derive(Debug, clap::Subcommand)]
pub enum ChannelCommand {
    /// Send one test message, without retry
    Test(ChannelTestArgs),
}

#[derive(Debug, clap::Args)]
pub struct ChannelTestArgs {
    /// The channel's name
    name: String,
    /// Whose, when several tenants have a channel of that name
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    at: ConfigArgs,
}

#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once
    Create(TokenArgs),
}

#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// What it is for
    name: String,
    /// What it may do: viewer, operator or admin
    #[arg(long, default_value = "viewer")]
    role: String,
    /// Whose
    #[arg(long, default_value = DEFAULT_TENANT)]
    tenant: String,
    #[command(flatten)]
    at: ConfigArgs,
}

/// The value of a variable of the environment.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl ConfigArgs {
    /// The configuration and where it was found; all its problems are said at once.
    pub fn load(&self) -> Result<(Config, Option<PathBuf>), Ended> {
        let path = config::find(self.config.as_deref(), &env);
        let mut config = config::load(path.as_deref(), &env).map_err(|bad| Ended::Usage(anyhow!("{}", shown(&bad))))?;
        config.store.url = store_of_variables()?.unwrap_or(config.store.url);
        Ok((config, path))
    }

    /// Where the running server listens, and where it keeps everything; the rest of the configuration does not matter.
    fn reach(&self) -> Result<(Reach, Option<PathBuf>), Ended> {
        let path = config::find(self.config.as_deref(), &env);
        let mut reach = config::reach(path.as_deref(), &env).map_err(|bad| Ended::Usage(anyhow!("{}", shown(&bad))))?;
        reach.store = store_of_variables()?.unwrap_or(reach.store);
        Ok((reach, path))
    }

    /// The running server, asked with the token that the first start left.
    pub fn client(&self, clock: &Clock) -> Result<Client, Ended> {
        let (found, path) = self.reach()?;
        let files = token_files(&token_file_of(&found.store), path.as_deref(), env("STATE_DIRECTORY").as_deref());
        Ok(Client::with_token(found.listen, &files, clock.clone())?)
    }
}

/// The folder of the service as docs/operations.md sets it up.
const SERVICE_FOLDER: &str = "/var/lib/watchkeeper";

/// Where the token may be whose file is called that, the likeliest first. A relative path begins where the server was started: here,
/// beside its configuration, or in the folder of a service.
fn token_files(file: &Path, config: Option<&Path>, state: Option<&str>) -> Vec<PathBuf> {
    let beside = config.map(|path| if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) });
    let folders = [Some(Path::new("")), beside, state.map(Path::new), Some(Path::new(SERVICE_FOLDER))];
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in folders.into_iter().flatten() {
        let place = folder.join(file);
        // Without a working directory the relative name says more than nothing.
        let place = std::path::absolute(&place).unwrap_or(place);
        if !files.contains(&place) {
            files.push(place);
        }
    }
    files
}

/// The store of a server that is run by variables: whatever a file says, it is that one.
fn store_of_variables() -> Result<Option<StoreUrl>, Ended> {
    let variables = Variables::read(&env, true).map_err(|why| Ended::Usage(anyhow!(why)))?;
    Ok(variables.map(|variables| StoreUrl::Postgres(variables.url)))
}

/// The problems, with the lines they point at only on a terminal: a line may hold a secret, and logs are kept.
pub fn shown(bad: &BadConfig) -> String {
    if std::io::stderr().is_terminal() { bad.pretty().trim_end().to_owned() } else { bad.to_string() }
}

/// How many, in words.
fn problems(bad: &BadConfig) -> String {
    if bad.count() == 1 { "1 problem".to_owned() } else { format!("{} problems", bad.count()) }
}

/// Where the first start leaves its token.
pub fn token_file_of(store: &StoreUrl) -> PathBuf {
    token_file(store, env("STATE_DIRECTORY").as_deref().map(Path::new))
}

/// `watchkeeper status`.
pub async fn status(args: StatusArgs) -> Result<(), Ended> {
    let clock = Clock::system();
    say(&status::status(&args.at.client(&clock)?, args.json, Term::of_stdout(), &clock).await?)
}

/// `watchkeeper healthcheck`.
pub async fn healthcheck(args: ConfigArgs) -> Result<(), Ended> {
    let (server, _) = args.reach()?;
    say(&status::healthcheck(server.listen, &Clock::system()).await?)
}

/// `watchkeeper token create NAME`.
pub async fn token_create(args: TokenArgs) -> Result<(), Ended> {
    let (config, _) = args.at.load()?;
    let store = store::open(&config.store.url.text()).await.context("the store could not be opened")?;
    let most = config.tenants.iter().find(|tenant| tenant.slug == args.tenant).map_or(TOKENS_MAX, |tenant| tenant.limits.tokens);
    let made = status::token_create(&*store, &args.tenant, &args.name, &args.role, most, Clock::system().now()).await;
    store.close().await;
    say(&format!("{}\n", made?.expose_secret()))
}

/// `watchkeeper config …`.
pub fn config(command: ConfigCommand) -> Result<(), Ended> {
    match command {
        ConfigCommand::Default => say(&config::default_text()),
        ConfigCommand::Check { path, json } => check(path.as_deref(), json),
        ConfigCommand::Routes(args) => super::routes::run(&args),
    }
}

fn check(path: Option<&Path>, json: bool) -> Result<(), Ended> {
    let Some(path) = config::find(path, &env) else {
        return Err(Ended::Usage(anyhow!("there is no configuration; name a file or a folder, or make {}", config::PATHS.join(" or "))));
    };
    match config::load(Some(&path), &env) {
        Ok(config) => {
            let warnings = config::warnings(&config, Clock::system().now());
            let monitors: usize = config.tenants.iter().map(|t| t.monitors.len()).sum();
            let channels: usize = config.tenants.iter().map(|t| t.channels.len()).sum();
            let sealed = config.server.keys.is_some();
            if json {
                let one = |of: &config::Warning| serde_json::json!({ "file": &*of.at.file, "line": of.at.line, "column": of.at.column, "text": of.text });
                let warnings: Vec<_> = warnings.iter().map(one).collect();
                let whole = serde_json::json!({ "problems": [], "warnings": warnings, "monitors": monitors, "channels": channels, "secrets_sealed": sealed });
                return say(&format!("{whole}\n"));
            }
            for warning in &warnings {
                say(&format!("warning: {warning}\n"))?;
            }
            if !sealed {
                say("note: without server.secret_key_file, secrets of what is made over the API lie in the store as they are\n")?;
            }
            say(&format!("{} is good: {}, {}\n", path.display(), counted(monitors, "monitor"), counted(channels, "channel")))
        }
        Err(bad) if json => {
            say(&format!("{}\n", bad.to_json()))?;
            Err(Ended::Usage(anyhow!("{} in {}", problems(&bad), path.display())))
        }
        Err(bad) => Err(Ended::Usage(anyhow!("{} in {}\n{}", problems(&bad), path.display(), shown(&bad)))),
    }
}

/// `watchkeeper channel test NAME`.
pub async fn channel_test(args: ChannelTestArgs) -> Result<(), Ended> {
    let (config, _) = args.at.load()?;
    let found = find_channel(&config, &args.name, args.tenant.as_deref())?;
    let clock = Clock::system();
    let net = Arc::new(Net::system(clock.clone()));
    match channel::send_test(&net, &clock, &found.name, &found.kind, found.common.style).await {
        Ok(accepted) => {
            let id = accepted.provider_id.map(|id| format!(" as {id}")).unwrap_or_default();
            say(&format!("{} took the test message{id}\n", found.name))?;
            // Where no server runs, or none that we may ask, what waits is tried in its time.
            let Ok(client) = args.at.client(&clock) else { return Ok(()) };
            dead_letters::retry_channel(&client, &found.name).await.map_or(Ok(()), |said| say(&said))
        }
        Err(refused) => Err(Ended::Failed(anyhow::Error::new(refused).context(format!("{} did not take the test message", found.name)))),
    }
}

/// The channel of that name; of that tenant, if several have one.
fn find_channel<'c>(config: &'c Config, name: &str, tenant: Option<&str>) -> Result<&'c ChannelConfig, Ended> {
    let tenants = || config.tenants.iter().filter(|t| tenant.is_none_or(|slug| t.slug == slug));
    if let Some(slug) = tenant.filter(|_| tenants().next().is_none()) {
        let known: Vec<&str> = config.tenants.iter().map(|t| t.slug.as_str()).collect();
        return Err(Ended::Usage(anyhow!("there is no tenant {slug}; there are {}", known.join(", "))));
    }
    let found: Vec<_> = tenants().flat_map(|t| t.channels.iter().map(move |c| (t, c))).filter(|(_, c)| c.name == name).collect();
    match found[..] {
        [(_, channel)] => Ok(channel),
        [] => {
            let names: Vec<&str> = tenants().flat_map(|t| &t.channels).map(|c| c.name.as_str()).collect();
            let near = nearest(name, names.iter().copied()).map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            let known = if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) };
            Err(Ended::Usage(anyhow!("there is no channel named {name}; {known}{near}")))
        }
        [..] => {
            let owners: Vec<&str> = found.iter().map(|(t, _)| t.slug.as_str()).collect();
            Err(Ended::Usage(anyhow!("several tenants have a channel named {name}: add --tenant with one of {}", owners.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_looked_for_wherever_the_server_may_have_been_started() {
        let here = std::env::current_dir().unwrap();
        let of = |file: &str, config: Option<&str>, state| token_files(Path::new(file), config.map(Path::new), state);
        let file = "wk.db.token";
        let service = Path::new(SERVICE_FOLDER).join(file);
        assert_eq!(of(file, None, None), [here.join(file), service.clone()]);
        assert_eq!(
            of(file, Some("/srv/wk/wk.yaml"), Some("/run/wk")),
            [here.join(file), "/srv/wk/wk.db.token".into(), "/run/wk/wk.db.token".into(), service.clone()]
        );
        assert_eq!(of(file, Some("/etc"), None), [here.join(file), "/etc/wk.db.token".into(), service.clone()], "a folder of files");
        assert_eq!(of(file, Some("wk.yaml"), None), [here.join(file), service], "no place twice");
        assert_eq!(of("/data/wk.db.token", Some("/srv/wk/wk.yaml"), None), [Path::new("/data/wk.db.token")]);
    }

    #[test]
    fn a_channel_of_several_tenants_needs_the_tenant() {
        let hook = |name: &str| format!("{{ name: {name}, webhook: {{ url: \"http://127.0.0.1:9/{name}\" }} }}");
        let yaml =
            format!("channels: [ {}, {} ]\ntenants: [ {{ name: acme, channels: [ {} ] }} ]\n", hook("ops"), hook("own"), hook("ops"));
        let config = config::load_texts(&[("wk.yaml".to_owned(), yaml.into_bytes())], &|_| None).unwrap();
        let find = |name, tenant| find_channel(&config, name, tenant).map(|c| c.at.line).map_err(|ended| format!("{ended:?}"));
        assert_eq!(find("own", None), Ok(1));
        assert_eq!((find("ops", Some("default")), find("ops", Some("acme"))), (Ok(1), Ok(2)));
        for (name, tenant, named) in [
            ("ops", None, "--tenant with one of default, acme"),
            ("ops", Some("nobody"), "there are default, acme"),
            ("own", Some("acme"), "there is no channel named own"),
            ("oqs", None, "did you mean ops?"),
        ] {
            let error = find(name, tenant).unwrap_err();
            assert!(error.contains(named), "{name} {tenant:?}: {error}");
        }
    }
}
