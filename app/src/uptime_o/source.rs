//! The tables as the source of the configuration: read at the start, and again whenever they changed.

use super::mapping::{self, BadRow};
use super::mirror::{self, Mirror};
use super::variables::{DB_CONN_STRING, Variables};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::lease::Leases;
use crate::store::uptime_o::{Tables, UptimeODatabase};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::hash::{Hash as _, Hasher as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use watchkeeper_core::{DatacenterId, Micros};

/// Where this node stands, by the numbers of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its datacenter.
    pub datacenter: i64,
    /// The agent that its heartbeats are written for: the first one of the datacenter.
    pub agent: i64,
    /// The datacenter's code.
    pub code: String,
}

/// Why the tables are no source.
#[derive(Debug, thiserror::Error)]
pub enum NoSource {
    /// The database did not do it.
    #[error("the tables could not be read")]
    Store(#[from] crate::store::StoreError),
    /// There are none.
    #[error("the database has no table {}; `watchkeeper seed-schema uptime-o` makes what is missing", .0.join(", "))]
    NoTables(Vec<String>),
    /// The number is of no datacenter.
    #[error("datacenters has no row {0}; DATACENTER_ID is the id of one")]
    NoDatacenter(i64),
    /// The API has no place.
    #[error("there is no port for the API")]
    NoListener(#[from] std::io::Error),
    /// Nobody watches there.
    #[error("No agents found for DATACENTER_ID:{0}; agents needs a row with that datacenter_id")]
    NoAgent(i64),
}

/// The tables, and what a configuration file adds to them.
#[derive(Debug)]
pub struct Source {
    database: UptimeODatabase,
    place: Place,
    url: SecretString,
    look_every: Duration,
    files: Option<PathBuf>,
    /// Its name and where its API is served, if no file says it.
    name: Option<String>,
    listen: Option<SocketAddr>,
    /// The socket for that, until it is used.
    listener: Mutex<Option<TcpListener>>,
    /// What was told of bad rows last: the same again is not news.
    told: Mutex<BTreeSet<BadRow>>,
    /// The newest look at the tables.
    seen: Mutex<Look>,
}

/// What the tables looked like, and when that was looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    fingerprint: u64,
    at: Option<Instant>,
}

/// A look that is early by so little is not left out: the clock that calls for it is never exact.
const EARLY: Duration = Duration::from_millis(500);

/// A node that no file describes.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where the API is served.
    pub listener: TcpListener,
}

impl Source {
    /// Connects, and looks where this node stands. Where there are no `files`, `node` describes it.
    pub async fn open(
        variables: &Variables,
        files: Option<PathBuf>,
        node: impl FnOnce(&Place) -> std::io::Result<Node>,
    ) -> Result<Self, NoSource> {
        let database = UptimeODatabase::open(variables.url.expose_secret()).await?;
        let missing = database.missing().await?;
        if !missing.is_empty() {
            return Err(NoSource::NoTables(missing));
        }
        let place = place(&database.read().await?, variables.datacenter)?;
        let node = if files.is_none() { Some(node(&place)?) } else { None };
        let listen = node.as_ref().map(|node| node.listener.local_addr()).transpose()?;
        let (name, listener) = node.map(|node| (node.name, node.listener)).unzip();
        Ok(Self {
            database,
            name,
            listen,
            listener: Mutex::new(listener),
            place,
            url: variables.url.clone(),
            look_every: variables.look_every,
            files,
            told: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// Where this node stands.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The database that holds the tables.
    pub const fn database(&self) -> &UptimeODatabase {
        &self.database
    }

    /// The socket of the API, once, if no file names an address.
    pub fn listener(&self) -> Option<TcpListener> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The lease under which its heartbeats are written.
    pub fn scope(&self) -> String {
        mirror::scope(self.place.datacenter)
    }

    /// The task that writes them.
    pub fn mirror(&self, leases: Leases, datacenter: DatacenterId, clock: Clock) -> Mirror {
        let since = clock.now();
        Mirror { database: self.database.clone(), place: self.place.clone(), datacenter, leases, clock, since: Micros(since.0 - 1) }
    }

    /// Reads the configuration. Bad rows are told once and left out; every other problem is returned.
    pub async fn load(&self) -> Result<Config, Vec<String>> {
        let tables = self.database.read().await.map_err(|error| vec![crate::chain(&error)])?;
        let mut base = match &self.files {
            Some(path) => config::read_texts(path).map_err(|bad| bad.told())?,
            None => Vec::new(),
        };
        base.push(("environment".to_owned(), self.environment()));
        let env = |name: &str| {
            if name == DB_CONN_STRING { Some(self.url.expose_secret().to_owned()) } else { std::env::var(name).ok() }
        };
        let (config, bad) = mapping::configuration(&tables, &base, &env).map_err(|bad| bad.told())?;
        self.tell(bad);
        Ok(config)
    }

    /// Bad rows that were not told yet.
    fn tell(&self, bad: Vec<BadRow>) {
        let bad: BTreeSet<BadRow> = bad.into_iter().collect();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for row in bad.difference(&told) {
            tracing::warn!(table = row.table, id = row.id, column = row.column, "a row is left out: {row}");
        }
        for row in told.iter().filter(|row| !bad.iter().any(|other| (other.table, other.id) == (row.table, row.id))) {
            tracing::info!(table = row.table, id = row.id, "{} {} is good now, or gone", row.table, row.id);
        }
        *told = bad;
    }

    /// What the variables say; the connection stays a variable, so that it is never shown.
    fn environment(&self) -> Vec<u8> {
        let mut agent = json!({ "datacenter": self.place.code });
        let mut top = json!({ "store": { "url": format!("${{{DB_CONN_STRING}}}") } });
        if let Some(name) = &self.name {
            agent["name"] = Json::from(name.as_str());
        }
        if let Some(listen) = self.listen {
            top["server"] = json!({ "listen": listen.to_string() });
        }
        top["agent"] = agent;
        top.to_string().into_bytes()
    }

    /// What tables and files look like; equal means that nothing changed. Tables that cannot be read now, or were read only lately,
    /// are as they were.
    pub async fn fingerprint(&self, files: impl FnOnce(&Path) -> u64) -> u64 {
        let last = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.is_some_and(|at| at.elapsed() < self.look_every.saturating_sub(EARLY)) {
            return last.fingerprint;
        }
        let mut hasher = std::hash::DefaultHasher::new();
        self.files.as_deref().map(files).hash(&mut hasher);
        match self.database.read().await {
            Ok(tables) => {
                tables.hash(&mut hasher);
                let fingerprint = hasher.finish();
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Look { fingerprint, at: Some(Instant::now()) };
                fingerprint
            }
            Err(error) => {
                tracing::debug!(error = %crate::chain(&error), "the tables could not be looked at");
                last.fingerprint
            }
        }
    }
}

/// Where a node of that number stands.
fn place(tables: &Tables, datacenter: i64) -> Result<Place, NoSource> {
    let code = mapping::codes(tables).remove(&datacenter).ok_or(NoSource::NoDatacenter(datacenter))?;
    let agent = tables.agents.iter().find(|agent| agent.datacenter == Some(datacenter)).ok_or(NoSource::NoAgent(datacenter))?;
    Ok(Place { datacenter, agent: agent.id, code })
}
