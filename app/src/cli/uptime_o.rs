//! UptimeOAgent's ways in: `serve` with its variables, and `seed-schema uptime-o`.

use super::commands::{ConfigArgs, env};
use super::{Ended, log, say, serve};
use crate::app::{App, Given};
use crate::config;
use crate::reload;
use crate::store::uptime_o::{SAMPLE, SCHEMA, Tables, UptimeODatabase};
use crate::uptime_o::source::Node;
use crate::uptime_o::{Place, Source, Variables, table_id_of, variables};
use crate::web::health_port;
use anyhow::{Context as _, anyhow};
use futures_util::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where the API is served if no file says otherwise. A second node of the same host takes any free port.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8_470);

#[derive(Debug, clap::Args)]
pub struct SchemaArgs {
    /// Whose tables
    #[arg(value_enum)]
    of: Seed,
    /// Insert the sample rows too, if no table has a row
    #[arg(long)]
    data: bool,
    /// Only print the SQL
    #[arg(long)]
    print: bool,
    /// Where, if DB_CONN_STRING does not say it: the database of this configuration
    #[command(flatten)]
    at: ConfigArgs,
}

/// Whose tables can be made.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Seed {
    /// UptimeOAgent
    UptimeO,
}

/// `watchkeeper seed-schema …`.
pub async fn seed_schema(args: SchemaArgs) -> Result<(), Ended> {
    match args.of {
        Seed::UptimeO => {}
    }
    if args.print {
        let sample = if args.data { format!("\n{SAMPLE}") } else { String::new() };
        return say(&format!("{SCHEMA}{sample}"));
    }
    let database = UptimeODatabase::open(connection(&args.at)?.expose_secret()).await.context("the database was not reached")?;
    let made = database.make(args.data).await;
    database.close().await;
    let made = made.context("nothing was made")?;
    let tables =
        if made.tables.is_empty() { "every table is there already".to_owned() } else { format!("made {}", made.tables.join(", ")) };
    let sample = match made.filled {
        Some(table) => format!("; {table} has rows already, so the sample rows were left out"),
        None if made.sample => "; the sample rows are in".to_owned(),
        None => String::new(),
    };
    say(&format!("{tables}{sample}\n"))
}

/// The database that is meant.
fn connection(at: &ConfigArgs) -> Result<SecretString, Ended> {
    if let Some(text) = env(variables::DB_CONN_STRING).filter(|text| !text.trim().is_empty()) {
        return variables::connection_url(text.trim()).map_err(|why| Ended::Usage(anyhow!(why)));
    }
    match at.load()?.0.store.url {
        config::StoreUrl::Postgres(url) => Ok(url),
        config::StoreUrl::Sqlite(_) => {
            Err(Ended::Usage(anyhow!("these tables need PostgreSQL; set {} or name a configuration with one", variables::DB_CONN_STRING)))
        }
    }
}

/// `watchkeeper serve` where UptimeOAgent's variables are set: as it was started, so it runs.
pub fn run(variables: Variables, files: Option<PathBuf>) -> Result<(), Ended> {
    log::begin_for_machines();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(watch(variables, files));
    runtime.shutdown_background();
    match result {
        Ok(()) => Ok(()),
        Err(error) => {
            // Who reads the log reads nothing else.
            tracing::error!("{error:#}");
            Err(Ended::No)
        }
    }
}

async fn watch(variables: Variables, files: Option<PathBuf>) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    serve::stop_on_signals(stop.clone())?;
    tracing::info!("application started");
    let database = UptimeODatabase::open(variables.url.expose_secret()).await.context("the database was not reached")?;
    tracing::info!("application postgres connection: successful");
    health(&variables, database.clone(), stop.clone()).await?;
    while !stop.is_cancelled() {
        node_of_a_datacenter(&variables, files.clone(), database.clone(), &stop).await?;
    }
    database.close().await;
    tracing::info!("Application shut down");
    Ok(())
}

/// Watches from the datacenter until `stop`, or until the datacenter is called otherwise.
async fn node_of_a_datacenter(
    variables: &Variables,
    files: Option<PathBuf>,
    database: UptimeODatabase,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let source = Arc::new(Source::open(database, variables, files, node).await.context("the configuration could not be read")?);
    let tables = source.database().read().await?;
    tell_place(&tables, source.place().datacenter);
    let config = source.load().await.map_err(|problems| anyhow!("the configuration was refused: {}", problems.join("; ")))?;
    let token_file = super::commands::token_file_of(&config.store.url);
    let app = App::build(config, reload::Source::UptimeO(source.clone()), Given::default()).await?;
    serve::first_token_silently(&app, &token_file).await?;
    app.pulse.guard().context("the watchdog could not be started")?;
    let monitors = app.fleet.borrow().clone();
    let mut here: Vec<i64> =
        monitors.0.values().filter(|spec| spec.seen_from(&source.place().code)).filter_map(|spec| table_id_of(&spec.uid)).collect();
    here.sort_unstable();
    for id in here {
        tell_monitor(&tables, id);
    }
    tracing::info!(address = %app.address, "watchkeeper {} is up on http://{}", env!("CARGO_PKG_VERSION"), app.address);
    let end = stop.child_token();
    let ends_when_moved = async {
        source.moved().cancelled().await;
        end.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = app.run(end.clone()) => ended,
        () = ends_when_moved => Ok(()),
    }
}

/// What is known of the datacenter when watching begins.
fn tell_place(tables: &Tables, id: i64) {
    let Some(place) = tables.datacenters.iter().find(|row| row.id == id) else { return };
    let Some(agent) = tables.agents.iter().find(|row| row.datacenter == Some(id)) else { return };
    let region = place.region.as_deref().unwrap_or("none");
    tracing::info!(
        datacenter = id,
        "application found the datacenterId: {id} ({}, {}), region {region}, agent {} ({})",
        place.code,
        place.name,
        agent.id,
        agent.name
    );
}

/// What is known of a monitor when watching begins.
fn tell_monitor(tables: &Tables, id: i64) {
    let Some(monitor) = tables.monitors.iter().find(|row| row.id == id) else { return };
    let Some(schedule) = tables.schedules.iter().find(|row| Some(row.id) == monitor.schedule) else { return };
    let limit = |ms: Option<i64>| ms.map_or_else(|| "none".to_owned(), |ms| format!("{ms} ms"));
    tracing::info!(
        monitor = id,
        "monitor {id} ({}): schedule {} ({}), every {} s, warning {}, critical {}",
        monitor.name,
        schedule.id,
        schedule.name,
        schedule.interval,
        limit(schedule.warning),
        limit(schedule.critical)
    );
}

/// This node where no file names it. In a container the name is the host's and stays; several of one host are told apart.
fn node(place: &Place) -> std::io::Result<Node> {
    let name = format!("{}-{}", crate::app::host_name(), place.code);
    if let Ok(listener) = std::net::TcpListener::bind(LISTEN) {
        return Ok(Node { name, listener });
    }
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(Node { name: format!("{name}-{}", std::process::id()), listener })
}

/// Answers on the port for health. One that was not asked for and is taken is only told.
async fn health(variables: &Variables, database: UptimeODatabase, stop: CancellationToken) -> anyhow::Result<()> {
    let port = variables.health_port;
    let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await {
        Ok(listener) => listener,
        Err(error) if variables.health_port_given => {
            return Err(anyhow::Error::new(error).context(format!("cannot listen on {} {port}", variables::HEALTH_PORT)));
        }
        Err(error) => {
            tracing::warn!(%error, "port {port} is taken: no /healthz and /readyz here; {} names another", variables::HEALTH_PORT);
            return Ok(());
        }
    };
    tracing::info!("health on port {}", listener.local_addr()?.port());
    let ping: health_port::Ping = Arc::new(move || {
        let database = database.clone();
        async move { database.ping().await.is_ok() }.boxed()
    });
    tokio::spawn(health_port::serve(listener, ping, stop));
    Ok(())
}
