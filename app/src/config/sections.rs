//! The sections about this node: `server`, `store`, `agent`. They hold for the whole program and belong to no tenant.

use super::decode::{self, Fields, Key, Node, Pos, Problems, Value};
use super::tagged;
use crate::dead_man::DeadMan;
use crate::lease::Times;
use crate::net::Guard;
use crate::seal::{self, KEY_FORM, Keys};
use crate::store::Retention;
use crate::vantage::Means;
use crate::web::auth::oidc::{self, Oidc};
use crate::web::auth::proxy::Trust;
use http::Method;
use secrecy::{ExposeSecret, SecretString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use watchkeeper_core::Dur;

/// Keys of `server`.
pub const SERVER: &[Key] = &[
    Key {
        name: "listen",
        form: "an address with a port",
        default: "127.0.0.1:8470",
        doc: "Where page, API, metrics and health are served. An address that others can reach needs a token first.",
    },
    Key { name: "metrics_token", form: "a text", default: "", doc: "If given, /metrics asks for it as a bearer token." },
    Key { name: "metrics_token_file", form: "a path", default: "", doc: "A file that holds that token." },
    Key {
        name: "api_targets",
        form: "public or private",
        default: "public",
        doc: "What monitors and channels that were made over the API may reach: public addresses alone, or also private ones and this machine; link-local and metadata addresses never.",
    },
    Key {
        name: "secret_key_file",
        form: "a path",
        default: "",
        doc: "A file with the key that seals the secrets of what was made over the API in the store, the same on all nodes; `watchkeeper key create FILE` makes one. Without it they lie there as they are.",
    },
    Key {
        name: "leave_out_sealed",
        form: "true or false",
        default: "false",
        doc: "When that key is lost for good: what it sealed is left out, and the incidents of those monitors end. If false, a node without the key does not start, and one that runs goes on with what it had.",
    },
    Key {
        name: "proxies",
        form: "a list of addresses and networks",
        default: "",
        doc: "Proxies before this server, such as 10.0.0.0/8: only these are believed when they say where a client is (X-Forwarded-For).",
    },
    Key {
        name: "user_header",
        form: "the name of a header",
        default: "",
        doc: "If those proxies sign people in: the header in which they name the user. They must throw it away when a client sends it.",
    },
    Key {
        name: "oidc",
        form: "a mapping",
        default: "",
        doc: "An OpenID Connect issuer (Keycloak, Google, Entra, …) at which users can sign in.",
    },
    Key {
        name: "dead_man",
        form: "a mapping",
        default: "",
        doc: "A call that is made for as long as this node is well; its absence means something.",
    },
];

/// Keys of `server.dead_man`.
pub const DEAD_MAN: &[Key] = &[
    Key {
        name: "url",
        form: "an http:// or https:// URL",
        default: "",
        doc: "Who is called. It is kept secret: whoever knows it can say that all is well.",
    },
    Key { name: "url_file", form: "a path", default: "", doc: "A file that holds that URL." },
    Key { name: "every", form: "a duration from 1s to 1d", default: "1m", doc: "How often." },
    Key { name: "timeout", form: "a duration from 1s to 1m", default: "10s", doc: "A call is ended after so long; at most `every`." },
    Key { name: "method", form: "GET or POST", default: "GET", doc: "How it is called." },
];

/// Keys of `server.oidc`.
pub const OIDC: &[Key] = &[
    Key {
        name: "issuer",
        form: "an https:// URL",
        default: "",
        doc: "The issuer, as it names itself; what it offers is read from /.well-known/openid-configuration under it. Within this machine http:// will do.",
    },
    Key { name: "client_id", form: "a text", default: "", doc: "What the issuer calls this server." },
    Key { name: "client_secret", form: "a text", default: "", doc: "What the issuer gave for it; public clients have none." },
    Key { name: "client_secret_file", form: "a path", default: "", doc: "A file that holds that secret." },
    Key {
        name: "url",
        form: "an http:// or https:// URL",
        default: "",
        doc: "Where browsers reach this server. The issuer sends them back to api/v1/auth/oidc/callback under it: register that there.",
    },
    Key {
        name: "claim",
        form: "a text",
        default: "preferred_username",
        doc: "The claim that holds the name of a user here; not one that people can change themselves. `email` must be verified there.",
    },
    Key { name: "label", form: "a text", default: "OpenID Connect", doc: "What the page calls it." },
];

/// A name at the issuer, or of it, has at most so many bytes: more is no name, and would not fit on a button.
const OIDC_NAME_MAX: usize = 200;

/// Keys of `server` that are of later work.
pub(super) const SERVER_LATER: &[&str] = &["extra"];

/// Keys of `store`.
pub const STORE: &[Key] = &[
    Key {
        name: "url",
        form: "sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE",
        default: "sqlite://watchkeeper.db",
        doc: "The database: an SQLite file (a relative path starts in the working directory), or PostgreSQL.",
    },
    Key { name: "url_file", form: "a path", default: "", doc: "A file that holds that URL." },
    Key {
        name: "journal",
        form: "a path",
        default: "watchkeeper.journal",
        doc: "The folder in which a node keeps what it finds while PostgreSQL is out of reach (a relative path starts in the working directory).",
    },
    Key { name: "retention", form: "a mapping", default: "", doc: "How long what is kept; daily summaries are kept for ever." },
];

/// Keys of `store.retention`.
pub const RETENTION: &[Key] = &[
    Key { name: "raw", form: "a duration from 1d to 3650d", default: "7d", doc: "Single heartbeats with their evidence." },
    Key { name: "hours", form: "a duration from 1d to 3650d", default: "90d", doc: "Hourly summaries." },
    Key {
        name: "incidents",
        form: "a duration from 1d to 3650d",
        default: "400d",
        doc: "Incidents that are over, with what was said about them, and silences that have ended.",
    },
];

/// Keys of `agent`.
pub const AGENT: &[Key] = &[
    Key { name: "name", form: "a name", default: "", doc: "The node's name, the host's if not given; two nodes on one store need two." },
    Key { name: "datacenter", form: "a code", default: "local", doc: "Code of the datacenter this node probes from." },
    Key {
        name: "check",
        form: "a list of addresses, with or without port",
        default: "",
        doc: "What answers while this node's own network is there: an address is asked for an echo, one with port 53 as a name server, any other is connected to. Its name servers and its gateway if not given; best are some outside.",
    },
    Key { name: "lease", form: "a mapping", default: "", doc: "The times of the lease protocol; the same on all nodes of a store." },
];

/// So many addresses to check are accepted: all are asked at once whenever there is doubt, and one answer is enough.
const CHECKS_MAX: usize = 8;

/// Keys of `agent.lease`.
pub const LEASE: &[Key] = &[
    Key { name: "beat", form: "a duration from 50ms to 1m", default: "2s", doc: "How often a holder shows life." },
    Key { name: "valid", form: "a duration from 100ms to 5m", default: "4s", doc: "How long after a beat the holder may act." },
    Key {
        name: "take_over",
        form: "a duration from 150ms to 10m",
        default: "6s",
        doc: "How long a beat must stand still before another node takes over.",
    },
];

/// What `server` says.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where page, API, metrics and health are served.
    pub listen: SocketAddr,
    /// If given, `/metrics` asks for it.
    pub metrics_token: Option<SecretString>,
    /// What may be reached by what was made over the API.
    pub api_targets: Guard,
    /// What seals secrets in the store, if anything does.
    pub keys: Option<Keys>,
    /// Whether what those do not open is left out.
    pub leave_out_sealed: bool,
    /// Which proxies are believed, and in what.
    pub trust: Trust,
    /// Where people sign in who have accounts elsewhere.
    pub oidc: Option<Oidc>,
    /// If given, it is called for as long as the node is well.
    pub dead_man: Option<DeadMan>,
}

/// Where everything is kept.
#[derive(Clone, Debug)]
pub enum StoreUrl {
    /// The file.
    Sqlite(PathBuf),
    /// The whole URL; it may hold a password.
    Postgres(SecretString),
}

impl StoreUrl {
    /// As a URL, with the password: for the store alone.
    pub fn text(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::Postgres(url) => url.expose_secret().to_owned(),
        }
    }

    /// Its kind in a word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgresql",
        }
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// What `store` says.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Where.
    pub url: StoreUrl,
    /// Where a node that is cut off from a store that others share keeps its journal.
    pub journal: PathBuf,
    /// For how long.
    pub retention: Retention,
}

/// What `agent` says.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The node's name; the host's if `None`.
    pub name: Option<String>,
    /// Code of the datacenter it probes from.
    pub datacenter: String,
    /// What answers while its own network is there; its name servers and gateway if empty.
    pub check: Vec<Means>,
    /// The times of the lease protocol.
    pub lease: Times,
}

/// Stands in for a section that no file has.
fn absent() -> Node {
    Node { at: Pos { file: Arc::from(""), line: 0, column: 0 }, value: Value::Map(Vec::new()) }
}

impl Server {
    pub(super) fn decode(node: Option<&Node>, problems: &mut Problems) -> Option<Self> {
        let none = absent();
        let node = node.unwrap_or(&none);
        let fields = Fields::open_beside(node, SERVER, SERVER_LATER, problems)?;
        tagged::refuse_later(node, SERVER_LATER, problems);
        let listen = Self::listen(&fields, problems);
        let metrics_token = decode::secret(&fields, "metrics_token", "metrics_token_file", problems);
        let words = [("public", Guard::PublicOnly), ("private", Guard::NoLinkLocal)];
        let api_targets = fields.get("api_targets").map_or(Some(Guard::PublicOnly), |n| decode::one_of(n, &words, problems));
        let keys = fields.get("secret_key_file").map_or(Some(None), |n| key_file(n, problems));
        let leave_out_sealed = fields.get("leave_out_sealed").map_or(Some(false), |n| decode::boolean(n, problems));
        let trust = Self::trust(&fields, problems);
        let oidc = fields.get("oidc").map_or(Some(None), |n| oidc(n, problems).map(Some));
        let dead_man = fields.get("dead_man").map_or(Some(None), |n| dead_man(n, problems));
        let (listen, api_targets, keys, leave_out_sealed) = (listen?, api_targets?, keys?, leave_out_sealed?);
        Some(Self { listen, metrics_token, api_targets, keys, leave_out_sealed, trust: trust?, oidc: oidc?, dead_man: dead_man? })
    }

    fn trust(fields: &Fields<'_>, problems: &mut Problems) -> Option<Trust> {
        let network = |n: &Node, problems: &mut Problems| {
            decode::parsed(n, "an address or a network, such as 192.0.2.7 or 10.0.0.0/8", problems, |t| t.parse().ok())
        };
        let proxies = fields.get("proxies").map_or(Some(Vec::new()), |n| decode::list(n, problems, network));
        let form = "the name of a header, such as X-Remote-User";
        let user_header = fields.get("user_header").map_or(Some(None), |n| decode::parsed(n, form, problems, |t| t.parse().ok()).map(Some));
        let trust = Trust { proxies: proxies?, user_header: user_header? };
        if trust.user_header.is_some() && trust.proxies.is_empty() {
            let needed = "`proxies` beside it: without them nobody is believed".to_owned();
            problems.add(fields.place("user_header"), "`user_header` without `proxies`", needed);
            return None;
        }
        Some(trust)
    }

    /// Where it listens, whatever else the section says.
    pub(super) fn decode_listen(node: Option<&Node>, problems: &mut Problems) -> Option<SocketAddr> {
        let none = absent();
        Self::listen(&Fields::open_beside(node.unwrap_or(&none), SERVER, SERVER_LATER, problems)?, problems)
    }

    fn listen(fields: &Fields<'_>, problems: &mut Problems) -> Option<SocketAddr> {
        let form = "an address with a port, such as 127.0.0.1:8470 or [::]:8470";
        let usual = SocketAddr::from(([127, 0, 0, 1], 8470));
        fields.get("listen").map_or(Some(usual), |n| decode::parsed(n, form, problems, |t| t.parse().ok()))
    }
}

/// A path that a variable left empty means that nothing is sealed.
#[expect(clippy::option_option, reason = "a problem, no keys, or keys")]
fn key_file(node: &Node, problems: &mut Problems) -> Option<Option<Keys>> {
    let name = decode::text(node, problems)?;
    if name.is_empty() {
        return Some(None);
    }
    let path = decode::beside(&node.at, &name);
    let fault = match seal::read_file(&path) {
        Ok(keys) => return Some(Some(keys)),
        Err(why) => why,
    };
    problems.add(&node.at, format!("{} {fault}", path.display()), format!("a file of mode 0600 or stricter with {KEY_FORM}"));
    None
}

fn oidc(node: &Node, problems: &mut Problems) -> Option<Oidc> {
    let fields = Fields::open(node, OIDC, problems)?;
    let client_secret = decode::secret(&fields, "client_secret", "client_secret_file", problems);
    let plain = |url: &url::Url| url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let form = "an https:// URL (or http:// within this machine) without a query";
    let private = |t: &str| url::Url::parse(t).ok().filter(|url| oidc::is_private(url) && plain(url)).map(|_| t.to_owned());
    let issuer = fields.require("issuer", problems).and_then(|n| decode::parsed(n, form, problems, private));
    // A folder: what is joined to it goes under it.
    let folder = |t: &str| {
        let url = url::Url::parse(&format!("{}/", t.trim_end_matches('/'))).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.has_host() && plain(&url)).then_some(url)
    };
    let form = "an http:// or https:// URL without a query";
    let url = fields.require("url", problems).and_then(|n| decode::parsed(n, form, problems, folder));
    let text = |t: &str| (!t.trim().is_empty() && t.len() <= OIDC_NAME_MAX && !t.contains(char::is_control)).then(|| t.trim().to_owned());
    let form = format!("1 to {OIDC_NAME_MAX} bytes on one line");
    let client_id = fields.require("client_id", problems).and_then(|n| decode::parsed(n, &form, problems, text));
    let mut or = |key, default: &str| fields.get(key).map_or(Some(default.to_owned()), |n| decode::parsed(n, &form, problems, text));
    let (claim, label) = (or("claim", "preferred_username"), or("label", "OpenID Connect"));
    Some(Oidc { issuer: issuer?, client_id: client_id?, client_secret, url: url?, claim: claim?, label: label? })
}

/// A URL that a variable left empty means that nobody is called.
#[expect(clippy::option_option, reason = "a problem, nobody, or somebody")]
fn dead_man(node: &Node, problems: &mut Problems) -> Option<Option<DeadMan>> {
    const FORM: &str = "an http:// or https:// URL with a host";
    let fields = Fields::open(node, DEAD_MAN, problems)?;
    let before = problems.told();
    let url = decode::secret(&fields, "url", "url_file", problems);
    if !fields.has("url") && !fields.has("url_file") {
        fields.require("url", problems);
    }
    let good = |url: &SecretString| {
        url::Url::parse(url.expose_secret())
            .is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.host_str().is_some_and(|h| !h.is_empty()))
    };
    if url.as_ref().is_some_and(|url| !good(url)) {
        let at = fields.get("url").or_else(|| fields.get("url_file")).map_or(fields.at, |n| &n.at);
        // What was found may be most of the secret: it is not repeated.
        problems.add(at, "a text that is no such URL", FORM.to_owned());
    }
    let mut time = |key, from, to, default| {
        fields.get(key).map_or(Some(Dur::secs(default)), |n| decode::duration(n, Dur::secs(from)..=Dur::secs(to), problems))
    };
    let (every, timeout) = (time("every", 1, 86_400, 60), time("timeout", 1, 60, 10));
    let known = |text: &str| [Method::GET, Method::POST].into_iter().find(|method| method.as_str() == text);
    let method = fields.get("method").map_or(Some(Method::GET), |n| decode::parsed(n, "GET or POST", problems, known));
    let (every, timeout, method) = (every?, timeout?, method?);
    if let Some(written) = fields.get("timeout").filter(|_| timeout > every) {
        let accepted = format!("at most `every`, which is {}", decode::show_duration(every));
        problems.add(&written.at, format!("`timeout` of {}", decode::show_duration(timeout)), accepted);
    }
    (problems.told() == before).then(|| url.map(|url| DeadMan { url, every, timeout: timeout.min(every), method }))
}

impl StoreConfig {
    pub(super) fn decode(node: Option<&Node>, problems: &mut Problems) -> Option<Self> {
        let none = absent();
        let fields = Fields::open(node.unwrap_or(&none), STORE, problems)?;
        let url = Self::url(&fields, problems);
        let none = absent();
        let kept = Fields::open(fields.get("retention").unwrap_or(&none), RETENTION, problems)?;
        let range = Dur::secs(86_400)..=Dur::secs(3_650 * 86_400);
        let mut days =
            |key, default: i64| kept.get(key).map_or(Some(Dur::secs(default * 86_400)), |n| decode::duration(n, range.clone(), problems));
        let (raw, hours, incidents) = (days("raw", 7), days("hours", 90), days("incidents", 400));
        let journal = fields.get("journal").map_or(Some("watchkeeper.journal".to_owned()), |n| decode::text(n, problems));
        Some(Self { url: url?, journal: journal?.into(), retention: Retention { raw: raw?, hours: hours?, incidents: incidents? } })
    }

    /// Where everything is kept, whatever else the section says.
    pub(super) fn decode_url(node: Option<&Node>, problems: &mut Problems) -> Option<StoreUrl> {
        let none = absent();
        Self::url(&Fields::open(node.unwrap_or(&none), STORE, problems)?, problems)
    }

    fn url(fields: &Fields<'_>, problems: &mut Problems) -> Option<StoreUrl> {
        match decode::secret(fields, "url", "url_file", problems) {
            Some(url) => {
                let at = fields.get("url").or_else(|| fields.get("url_file")).map_or(fields.at, |n| &n.at);
                store_url(&url, at, problems)
            }
            None => Some(StoreUrl::Sqlite("watchkeeper.db".into())),
        }
    }
}

/// The text is never repeated in a problem: it may hold a password.
fn store_url(url: &SecretString, at: &Pos, problems: &mut Problems) -> Option<StoreUrl> {
    let text = url.expose_secret();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        let good = url::Url::parse(text).is_ok_and(|u| u.host_str().is_some_and(|h| !h.is_empty()) && u.path().len() > 1);
        if good {
            return Some(StoreUrl::Postgres(url.clone()));
        }
        problems.add(at, "a PostgreSQL URL without host or database", "postgres://USER:PASSWORD@HOST/DATABASE".to_owned());
        return None;
    }
    if let Some(path) = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:")) {
        if !path.is_empty() && path != ":memory:" && !path.contains('?') {
            return Some(StoreUrl::Sqlite(path.into()));
        }
        problems.add(at, "an SQLite URL that names no file", "sqlite://PATH, without options".to_owned());
        return None;
    }
    let scheme = text.split_once("://").map_or("none", |(scheme, _)| scheme);
    problems.add(
        at,
        format!("a URL of scheme `{}`", decode::shown(scheme)),
        "sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE".to_owned(),
    );
    None
}

impl Agent {
    pub(super) fn decode(node: Option<&Node>, problems: &mut Problems) -> Option<Self> {
        let none = absent();
        let fields = Fields::open(node.unwrap_or(&none), AGENT, problems)?;
        let name = fields.get("name").map_or(Some(None), |n| code(n, problems).map(Some));
        let datacenter = fields.get("datacenter").map_or(Some("local".to_owned()), |n| code(n, problems));
        let lease = fields.get("lease").map_or(Some(Times::default()), |n| lease(n, problems));
        let check = fields.get("check").map_or(Some(Vec::new()), |n| checks(n, problems));
        Some(Self { name: name?, datacenter: datacenter?, check: check?, lease: lease? })
    }
}

fn checks(node: &Node, problems: &mut Problems) -> Option<Vec<Means>> {
    let form = "an address such as 192.0.2.1, or one with a port such as 192.0.2.1:53 or [2001:db8::1]:443";
    let all = decode::list(node, problems, |n, problems| decode::parsed(n, form, problems, Means::parse))?;
    if all.len() > CHECKS_MAX {
        problems.add(&node.at, format!("{} addresses to check", all.len()), format!("at most {CHECKS_MAX}"));
        return None;
    }
    Some(all)
}

/// A word that becomes part of lease scopes and metric labels.
pub(super) fn code(node: &Node, problems: &mut Problems) -> Option<String> {
    let form = "1 to 63 letters, digits, dots, dashes and underscores";
    decode::parsed(node, form, problems, |t| {
        let good = (1..=63).contains(&t.len()) && t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        good.then(|| t.to_owned())
    })
}

fn lease(node: &Node, problems: &mut Problems) -> Option<Times> {
    let fields = Fields::open(node, LEASE, problems)?;
    let mut time = |key, from, to, default: std::time::Duration| {
        fields.get(key).map_or(Some(Dur::from_std(default)), |n| decode::duration(n, Dur::millis(from)..=Dur::secs(to), problems))
    };
    let usual = Times::default();
    let beat = time("beat", 50, 60, usual.beat);
    let valid = time("valid", 100, 300, usual.valid);
    let take_over = time("take_over", 150, 600, usual.take_over);
    let (beat, valid, take_over) = (beat?, valid?, take_over?);
    if beat >= valid || valid >= take_over {
        let found = format!(
            "beat {}, valid {}, take_over {}",
            decode::show_duration(beat),
            decode::show_duration(valid),
            decode::show_duration(take_over)
        );
        problems.add(
            fields.at,
            found,
            "beat shorter than valid, valid shorter than take_over: else two nodes could act at once".to_owned(),
        );
        return None;
    }
    Some(Times { beat: beat.to_std(), valid: valid.to_std(), take_over: take_over.to_std() })
}
