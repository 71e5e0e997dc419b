//! The tables as the source of the configuration: read at the start, and again whenever they changed.

use super::mapping::{self, BadRow};
use super::mirror::{self, Mirror};
use super::variables::{DB_CONN_STRING, LOOK_MOST, Variables};
use crate::clock::Clock;
use crate::config::documents::{Document, LeftOut};
use crate::config::{self, BadConfig, Config};
use crate::lease::Leases;
use crate::live::Live;
use crate::spec::Fleet;
use crate::store::uptime_o::{Tables, UptimeODatabase};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use watchkeeper_core::{DatacenterId, Micros};

/// Where this node stands, by the numbers of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its datacenter.
    pub datacenter: i64,
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
    /// What was told last: the same again is not news.
    told: Mutex<Told>,
    /// The newest look at the tables.
    seen: Mutex<Look>,
    /// The datacenter is called otherwise now.
    moved: CancellationToken,
}

/// What the log has said already.
#[derive(Debug, Default)]
struct Told {
    /// Rows that are left out.
    rows: BTreeSet<BadRow>,
    /// Why the tables could not be read.
    unread: Option<String>,
    /// Why nothing is watched from here.
    nowhere: Option<String>,
}

/// What the tables looked like, and when that was looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    tables: u64,
    at: Option<Instant>,
}

/// A node that has read what is not in force goes on with what was, for so long: the tables are the same for all, so it may only have
/// looked before the node that says what is in force, or after it. Then it is no matter of when: a file beside the tables is another.
pub const PATIENCE: Duration = LOOK_MOST.times(2).to_std();

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
    /// Looks where this node stands. Where there are no `files`, `node` describes it.
    pub async fn open(
        database: UptimeODatabase,
        variables: &Variables,
        files: Option<PathBuf>,
        node: impl FnOnce(&Place) -> std::io::Result<Node>,
    ) -> Result<Self, NoSource> {
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
            moved: CancellationToken::new(),
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

    /// Cancelled when the datacenter is called otherwise than when this node started: everything that it holds is held under the old
    /// code, so it must start anew.
    pub const fn moved(&self) -> &CancellationToken {
        &self.moved
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
    pub fn mirror(&self, leases: Leases, datacenter: DatacenterId, clock: Clock, live: Live, fleet: watch::Receiver<Fleet>) -> Mirror {
        let (database, place, since) = (self.database.clone(), self.place.clone(), Micros(clock.now().0 - 1));
        Mirror { database, place, datacenter, leases, clock, since, live, fleet }
    }

    /// Reads the configuration. Bad rows are told once and left out; every other problem is returned.
    pub async fn load(&self) -> Result<Config, Vec<String>> {
        let tables = self.database.read().await.map_err(|error| vec![crate::chain(&error)])?;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).tables = hash(&tables);
        self.find(&tables);
        let mut base = match &self.files {
            Some(path) => config::read_texts(path).map_err(|bad| bad.told())?,
            None => Vec::new(),
        };
        base.push(("environment".to_owned(), self.environment()));
        let (config, bad) = mapping::configuration(&tables, &base, &|name| self.variable(name)).map_err(|bad| bad.told())?;
        self.tell(bad);
        Ok(config)
    }

    /// A configuration of these tables with the documents beside it.
    pub fn with(&self, config: &Config, documents: &[Document]) -> Result<(Config, LeftOut), BadConfig> {
        let (mut whole, left_out) = config.with(documents, &|name| self.variable(name))?;
        mapping::keep_every_detail(&mut whole);
        Ok((whole, left_out))
    }

    fn variable(&self, name: &str) -> Option<String> {
        if name == DB_CONN_STRING { Some(self.url.expose_secret().to_owned()) } else { std::env::var(name).ok() }
    }

    /// Looks whether this node still stands where it stood.
    fn find(&self, tables: &Tables) {
        let nowhere = match place(tables, self.place.datacenter) {
            Ok(place) if place == self.place => None,
            Ok(place) => {
                let (old, new) = (&self.place.code, &place.code);
                tracing::warn!("datacenters {} (code): it is {new} now and was {old}; starting anew", place.datacenter);
                self.moved.cancel();
                None
            }
            Err(error) => Some(crate::chain(&error)),
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.nowhere != nowhere {
            if let Some(why) = &nowhere {
                tracing::error!("{why}; nothing is saved from here until it is back");
            } else {
                tracing::info!("datacenter {} has its rows again", self.place.datacenter);
            }
            told.nowhere = nowhere;
        }
    }

    /// Bad rows that were not told yet.
    fn tell(&self, bad: Vec<BadRow>) {
        let bad: BTreeSet<BadRow> = bad.into_iter().collect();
        let told = &mut self.told.lock().unwrap_or_else(PoisonError::into_inner).rows;
        for row in bad.difference(told) {
            tracing::warn!(table = row.table, id = row.id, column = row.column, "a row is left out: {row}");
        }
        let still: BTreeSet<(&str, i64)> = bad.iter().map(|row| (row.table, row.id)).collect();
        for row in told.iter().filter(|row| !still.contains(&(row.table, row.id))) {
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
        let looked = self.seen.lock().unwrap_or_else(PoisonError::into_inner).at;
        if looked.is_none_or(|at| at.elapsed() >= self.look_every.saturating_sub(EARLY)) {
            let read = self.database.read().await;
            self.tell_unread(read.as_ref().err().map(|error| crate::chain(error)));
            if let Ok(tables) = read {
                let now = Look { tables: hash(&tables), at: Some(Instant::now()) };
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
            }
        }
        self.last_fingerprint(files)
    }

    /// The same of the tables as they were read last.
    pub fn last_fingerprint(&self, files: impl FnOnce(&Path) -> u64) -> u64 {
        let tables = self.seen.lock().unwrap_or_else(PoisonError::into_inner).tables;
        hash(&(self.files.as_deref().map(files), tables))
    }

    /// That the tables cannot be read, once; and that they can be again.
    fn tell_unread(&self, unread: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match (&told.unread, &unread) {
            (None, Some(why)) => tracing::warn!("the tables cannot be read, so what was read before stays in force: {why}"),
            (Some(_), None) => tracing::info!("the tables can be read again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        told.unread = unread;
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Where a node of that number stands.
fn place(tables: &Tables, datacenter: i64) -> Result<Place, NoSource> {
    let code = mapping::codes(tables).remove(&datacenter).ok_or(NoSource::NoDatacenter(datacenter))?;
    if tables.agents.iter().any(|agent| agent.datacenter == Some(datacenter)) {
        Ok(Place { datacenter, code })
    } else {
        Err(NoSource::NoAgent(datacenter))
    }
}
