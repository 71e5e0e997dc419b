//! The configuration: from files to compiled values.
//!
//! A file is parsed once into a tree that knows its places ([`tree`]), every item is decoded alone and reports its own
//! problems ([`decode`]), and cross-checks run on what decoded ([`fleet`]). So all problems come out at once, each with
//! file, line and column, and nothing half-valid ever leaves this module: either a [`Config`] or problems.
//! It reads files and the variables it is given; it starts nothing, asks no network, and never logs a value.

mod addresses;
mod alert;
mod canonical;
mod datacenters;
pub mod decode;
pub mod documents;
pub mod export;
mod fleet;
pub mod limits;
mod maintenance;
mod monitor;
mod named;
mod pace;
mod parents;
mod reference;
mod report;
mod reports;
mod routes;
pub mod rules;
mod sections;
mod status_pages;
pub mod tagged;
mod telling;
pub mod tree;
mod warnings;

pub use alert::{AlertConfig, AlertKind};
pub use decode::Pos;
pub use fleet::{ChannelConfig, DEFAULT_TENANT, TenantConfig};
pub use maintenance::MaintenanceConfig;
pub use monitor::MonitorConfig;
pub use reference::{default_text, reference_text};
pub use report::BadConfig;
pub use reports::ReportConfig;
pub use routes::Chosen;
pub use sections::{Agent, Server, StoreConfig, StoreUrl};
pub use status_pages::{PAGE_MONITORS_MAX, PageGroup, PageMessage, PageSubscribers, PageUpdate, StatusPageConfig};
pub use telling::{StepConfig, Telling};
pub use tree::Env;
pub use warnings::{Warning, warnings};

use crate::config::decode::{Fields, Key, Node, Problems, Value};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything the program was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address of page, API, metrics and health.
    pub server: Server,
    /// Where everything is kept.
    pub store: StoreConfig,
    /// Who this node is.
    pub agent: Agent,
    /// Who owns what. The tenant `default` is always there and comes first.
    pub tenants: Vec<TenantConfig>,
    /// Codes of the datacenters in which one node does everything.
    pub exclusive: BTreeSet<String>,
    /// Files in which there is nothing.
    pub empty: Vec<Pos>,
    /// The first file in which there is something.
    pub first: Option<Pos>,
    /// The texts of the files, for when something beside them changes.
    pub texts: Arc<Vec<(String, Vec<u8>)>>,
    /// SHA-256 over all objects with their secrets and places: equal means that nothing about channels and monitors changed.
    pub hash: [u8; 32],
    /// The same without their places, and of the files alone: what nodes that share the work must have in common.
    pub content: [u8; 32],
}

impl Config {
    /// Whether the sections differ that only a start puts into force.
    pub fn node_differs(&self, other: &Self) -> bool {
        let agent = |c: &Self| {
            let Agent { name, datacenter, check, lease } = &c.agent;
            (name.clone(), datacenter.clone(), check.clone(), lease.beat, lease.valid, lease.take_over)
        };
        self.server.listen != other.server.listen
            || self.server.dead_man != other.server.dead_man
            || self.server.trust != other.server.trust
            || self.server.oidc != other.server.oidc
            || !self.store.url.same(&other.store.url)
            || agent(self) != agent(other)
    }
}

/// More files in a directory are refused. Teams keep one per service; a wrong path may hold millions.
pub const FILES_MAX: usize = 1_000;

/// The variable that names the configuration when no flag does.
pub const PATH_VARIABLE: &str = "WATCHKEEPER_CONFIG";

/// Where the configuration is looked for when neither flag nor variable name it, in this order.
pub const PATHS: &[&str] = &["/etc/watchkeeper/config.yaml", "watchkeeper.yaml"];

/// The path of the configuration: the flag's, else the variable's, else the first known place that exists, else none.
pub fn find(flag: Option<&Path>, env: Env<'_>) -> Option<PathBuf> {
    flag.map(Path::to_owned)
        .or_else(|| env(PATH_VARIABLE).filter(|p| !p.is_empty()).map(PathBuf::from))
        .or_else(|| PATHS.iter().map(PathBuf::from).find(|p| p.exists()))
}

/// Loads a file, or every `*.yaml` and `*.yml` of a directory in the order of their names. Without a path, the defaults: an
/// SQLite file in the working directory and nothing to watch.
pub fn load(path: Option<&Path>, env: Env<'_>) -> Result<Config, BadConfig> {
    let mut problems = Problems::default();
    let texts = path.map_or_else(Vec::new, |path| read(path, &mut problems));
    compile(&texts, env, problems)
}

/// The texts of a path, read and not looked at: for whoever adds some of their own.
pub fn read_texts(path: &Path) -> Result<Vec<(String, Vec<u8>)>, BadConfig> {
    let mut problems = Problems::default();
    let texts = read(path, &mut problems);
    if problems.is_empty() { Ok(texts) } else { Err(BadConfig::new(problems, &texts)) }
}

/// What a command needs that asks the running server.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// Where it keeps everything, and so where its token file is. A password in it may stand for a variable that is not set
    /// here: it is not for opening the store.
    pub store: StoreUrl,
}

/// How the running server of a configuration is reached. Variables that are not set in this shell, and faults in other
/// sections, do not matter; if what is needed cannot be read, the error is that of [`load`].
pub fn reach(path: Option<&Path>, env: Env<'_>) -> Result<Reach, BadConfig> {
    let mut problems = Problems::default();
    let texts = path.map_or_else(Vec::new, |path| read(path, &mut problems));
    reach_texts(&texts, env, problems)
}

fn reach_texts(texts: &[(String, Vec<u8>)], env: Env<'_>, problems: Problems) -> Result<Reach, BadConfig> {
    let mut found = Problems::default();
    let roots: Vec<Node> = texts.iter().filter_map(|(name, bytes)| tree::parse_leniently(name, bytes, env, &mut found)).collect();
    let tops: Vec<Fields<'_>> = roots.iter().filter_map(|root| Fields::open_beside(root, TOP, TOP_LATER, &mut found)).collect();
    let listen = Server::decode_listen(merged(&tops, "server", &mut found).as_ref(), &mut found);
    let store = StoreConfig::decode_url(merged(&tops, "store", &mut found).as_ref(), &mut found);
    let unset = |store: &StoreUrl| matches!(store, StoreUrl::Sqlite(path) if path.to_string_lossy().contains(tree::UNSET));
    match (listen, store) {
        (Some(listen), Some(store)) if problems.is_empty() && found.is_empty() && !unset(&store) => Ok(Reach { listen, store }),
        _ => compile(texts, env, problems).map(|config| Reach { listen: config.server.listen, store: config.store.url }),
    }
}

/// Loads from texts: (name, content) as if they were files.
pub fn load_texts(texts: &[(String, Vec<u8>)], env: Env<'_>) -> Result<Config, BadConfig> {
    compile(texts, env, Problems::default())
}

fn compile(texts: &[(String, Vec<u8>)], env: Env<'_>, mut problems: Problems) -> Result<Config, BadConfig> {
    let (mut roots, mut empty, mut first) = (Vec::new(), Vec::new(), None);
    for (name, bytes) in texts {
        let before = problems.told();
        match tree::parse(name, bytes, env, &mut problems) {
            Some(root) => {
                first.get_or_insert_with(|| whole_file(Path::new(name)));
                roots.push(root);
            }
            None if problems.told() == before => empty.push(whole_file(Path::new(name))),
            None => {}
        }
    }
    let config = from_roots(&roots, &mut problems);
    match config {
        Some(config) if problems.is_empty() => Ok(Config { empty, first, texts: Arc::new(texts.to_vec()), ..config }),
        Some(_) | None => Err(BadConfig::new(problems, texts)),
    }
}

/// The keys of a file.
pub const TOP: &[Key] = &[
    Key { name: "server", form: "a mapping", default: "", doc: "The address of page, API, metrics and health." },
    Key { name: "store", form: "a mapping", default: "", doc: "Where everything is kept." },
    Key { name: "agent", form: "a mapping", default: "", doc: "Who this node is." },
    Key { name: "channels", form: "a list of channels", default: "", doc: "Where messages go." },
    Key { name: "defaults", form: "a mapping", default: "", doc: "What monitors share." },
    Key { name: "monitors", form: "a list of monitors", default: "", doc: "What is watched." },
    Key { name: "reports", form: "a list of reports", default: "", doc: "The state of everything, at a fixed pace." },
    Key {
        name: "announce",
        form: "a list of channels",
        default: "[]",
        doc: "Who is told that a node started, stopped, failed or was cut off; of the last, the channels of last resort, or else all, if none is named.",
    },
    Key {
        name: "routes",
        form: "a list of routes",
        default: "",
        doc: "Who is told of rules that do not say it themselves, nor their monitors: the first route that matches decides.",
    },
    Key {
        name: "maintenance",
        form: "a list of maintenance windows",
        default: "",
        doc: "Announced work: what it is about goes on being checked, and nobody is told of it before the work is over.",
    },
    Key {
        name: "status_pages",
        form: "a list of status pages",
        default: "",
        doc: "What strangers may see: pages that need no account and show nothing but what they name.",
    },
    Key { name: "limits", form: "a mapping", default: "", doc: "What there may be at most; each of `tenants` has its own." },
    Key {
        name: "datacenters",
        form: "a list of datacenters",
        default: "",
        doc: "What holds for all nodes of a place; a place needs no entry here.",
    },
    Key {
        name: "tenants",
        form: "a list of tenants",
        default: "",
        doc: "Further owners, each with channels, defaults, monitors, routes, maintenance and status pages of its own.",
    },
];

/// Keys of a file that are of later work.
const TOP_LATER: &[&str] = &["discover"];

fn from_roots(roots: &[Node], problems: &mut Problems) -> Option<Config> {
    let mut tops = Vec::new();
    for root in roots {
        if let Some(top) = Fields::open_beside(root, TOP, TOP_LATER, problems) {
            tagged::refuse_later(root, TOP_LATER, problems);
            tops.push(top);
        }
    }
    let server = Server::decode(merged(&tops, "server", problems).as_ref(), problems);
    let store = StoreConfig::decode(merged(&tops, "store", problems).as_ref(), problems);
    let agent = Agent::decode(merged(&tops, "agent", problems).as_ref(), problems);
    let tenants = fleet::decode(&tops, problems);
    let exclusive = datacenters::exclusive(&tops, problems);
    let keys = server.as_ref().and_then(|server| server.keys.as_ref());
    let hash = canonical::fleet_hash(&tenants, &exclusive, keys, true);
    let content = canonical::fleet_hash(&tenants, &exclusive, keys, false);
    Some(Config {
        server: server?,
        store: store?,
        agent: agent?,
        tenants,
        exclusive,
        empty: Vec::new(),
        first: None,
        texts: Arc::default(),
        hash,
        content,
    })
}

/// One mapping of what several files say under a key; a key that two of them give is a problem naming both places.
fn merged(tops: &[Fields<'_>], key: &'static str, problems: &mut Problems) -> Option<Node> {
    let mut whole: Option<Node> = None;
    for node in tops.iter().filter_map(|top| top.get(key)) {
        let Some(whole) = &mut whole else {
            whole = Some(node.clone());
            continue;
        };
        match (&mut whole.value, &node.value) {
            (Value::Map(all), Value::Map(more)) => {
                for (name, at, value) in more {
                    if let Some((_, first, _)) = all.iter().find(|(known, _, _)| known == name) {
                        problems.add(
                            at,
                            format!("`{key}.{name}` again; it is already at {first}"),
                            "every key in one file only".to_owned(),
                        );
                    } else {
                        all.push((name.clone(), at.clone(), value.clone()));
                    }
                }
            }
            _ => decode::wrong(node, "a mapping", problems),
        }
    }
    whole
}

/// Reads the files of a path; what cannot be read is a problem.
fn read(path: &Path, problems: &mut Problems) -> Vec<(String, Vec<u8>)> {
    let mut unreadable = |path: &Path, error: &std::io::Error| {
        problems.add(&whole_file(path), format!("it cannot be read: {error}"), "a readable YAML file, or a directory of them".to_owned());
    };
    let files = match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => match files_of(path) {
            Ok(files) => files,
            Err(error) => {
                unreadable(path, &error);
                return Vec::new();
            }
        },
        Ok(_) => vec![path.to_owned()],
        Err(error) => {
            unreadable(path, &error);
            return Vec::new();
        }
    };
    let mut texts = Vec::new();
    for file in &files {
        match read_bounded(file) {
            Ok(bytes) => texts.push((file.display().to_string(), bytes)),
            Err(error) => unreadable(file, &error),
        }
    }
    if files.is_empty() {
        problems.add(&whole_file(path), "a directory without configuration", "`*.yaml` or `*.yml` files".to_owned());
    }
    texts
}

fn files_of(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file() {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(std::io::Error::other(format!("it holds more than {FILES_MAX} configuration files")));
        }
    }
    files.sort();
    Ok(files)
}

/// At most one byte more than a file may have, so that the parser can say that it is too large.
fn read_bounded(file: &Path) -> std::io::Result<Vec<u8>> {
    decode::read_regular(file, tree::FILE_MAX as u64 + 1)
}

/// The place of a problem with a file as a whole.
fn whole_file(path: &Path) -> Pos {
    Pos { file: Arc::from(path.display().to_string()), line: 0, column: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_the_server_needs_no_variable_of_a_channel() {
        let env = |name: &str| (name == "PORT").then(|| "9000".to_owned());
        let of = |text: &str| reach_texts(&[("wk.yaml".to_owned(), text.as_bytes().to_vec())], &env, Problems::default());
        let channels = "channels: [ { name: ops, telegram: { bot_token: \"${BOT_TOKEN}\", chat_id: \"${CHAT}\" } } ]\n";
        let found = of(&format!("server: {{ listen: \"127.0.0.1:${{PORT}}\", metrics_token: \"${{METRICS}}\" }}\n{channels}")).unwrap();
        assert_eq!(found.listen.port(), 9_000);
        assert!(matches!(found.store, StoreUrl::Sqlite(path) if path == Path::new("watchkeeper.db")));
        let found = of(&format!("store: {{ url: \"postgres://wk:${{PASSWORD}}@db/wk\" }}\n{channels}")).unwrap();
        assert!(matches!(found.store, StoreUrl::Postgres(_)));
        // What is needed is still asked for, by its name.
        for needed in
            ["server: { listen: \"127.0.0.1:${HERE}\" }", "store: { url: \"sqlite://${HERE}/wk.db\" }", "store: { url: \"${HERE}\" }"]
        {
            let said = of(needed).unwrap_err().to_string();
            assert!(said.contains("the variable `HERE` is not set"), "{needed}: {said}");
        }
    }
}
