//! Monitors, and the `defaults` they share.
//!
//! What both may say is read into one shape twice, from `defaults` and from the monitor, and laid over one another. So a
//! fault in `defaults` is told once, at its place, and not once for every monitor that inherits it.

use super::alert::{self, AlertConfig, AlertKind};
use super::decode::{self, Fields, Key, Node, Pos, Problems, Value};
use super::pace::{self, RawPlan};
use super::telling::{self, Telling};
use super::{canonical, parents, sections, tagged};
use crate::probe::{self, ProbeConfig};
use crate::schedule::Cadence;
use std::collections::BTreeMap;
use watchkeeper_core::Dur;
use watchkeeper_core::quorum::Quorum;

/// Keys that `defaults` and monitors share.
pub const SHARED: [Key; 17] = [
    Key {
        name: "every",
        form: "a duration from 1s to 7d, or a mapping of states to durations",
        default: "60s",
        doc: "The pace of attempts; by state with the keys default, up, degraded, down and unknown.",
    },
    Key {
        name: "cron",
        form: "5 fields, or 6 with seconds first",
        default: "",
        doc: "Attempts as a cron pattern says, instead of `every`.",
    },
    Key { name: "zone", form: "an IANA time zone", default: "UTC", doc: "In which zone `cron` is meant." },
    Key {
        name: "recheck",
        form: "a duration from 1s to 1h",
        default: "5s",
        doc: "The pace while failing but not down yet; never above `every`.",
    },
    Key {
        name: "timeout",
        form: "a duration from 10ms to 5m",
        default: "10s",
        doc: "An attempt is ended after so long; an inherited one is shortened to `every`.",
    },
    Key {
        name: "down_after",
        form: "a number from 1 to 100",
        default: "3",
        doc: "So many failures in a row make it down. A push monitor has only its own: 1 if not given, for its grace is its patience.",
    },
    Key {
        name: "confirm",
        form: "true or false",
        default: "true",
        doc: "Before a failure counts: a last attempt over a second path (another address or name server), and a look at this node's own network.",
    },
    Key { name: "up_after", form: "a number from 1 to 100", default: "1", doc: "So many successes in a row make it up again." },
    Key {
        name: "notify",
        form: "a list of channels",
        default: "",
        doc: "Who is told, nobody if empty; if a monitor does not say it, `routes` do, then `defaults`, then it is every channel of the tenant.",
    },
    Key {
        name: "alerts",
        form: "a list of alerts",
        default: "",
        doc: "What is told: `[ { down: {} } ]` if not given (with missed_push for push). Of inherited ones a monitor takes those that fit its kind.",
    },
    Key {
        name: "quorum",
        form: "any, majority, all or a number from 1 to 100",
        default: "majority",
        doc: "How many datacenters must see it down; those that cannot look are not counted.",
    },
    Key {
        name: "datacenters",
        form: "a list of codes",
        default: "[]",
        doc: "Where it is watched from; every datacenter that has a node if empty.",
    },
    Key { name: "agent", form: "a node's name", default: "", doc: "The one node that watches it: for what no other can reach." },
    telling::KEYS[0],
    telling::KEYS[1],
    telling::KEYS[2],
    telling::KEYS[3],
];

pub(super) const OWN: [Key; 7] = [
    Key {
        name: "name",
        form: "a name of 1 to 128 characters",
        default: "",
        doc: "The monitor's identity in its tenant, and what people read.",
    },
    Key { name: "id", form: "a UUID", default: "", doc: "An identity that stays when the name changes." },
    Key { name: "was", form: "a name", default: "", doc: "The name it had before: its history is kept." },
    Key {
        name: "labels",
        form: "a mapping of words to texts",
        default: "{}",
        doc: "At most 32 labels, shown, filtered by, and sent along.",
    },
    Key { name: "probe", form: "a probe", default: "", doc: "What is watched and how." },
    Key { name: "paused", form: "true or false", default: "false", doc: "Do not watch it for now; its history stays." },
    Key {
        name: "depends_on",
        form: "a list of monitors",
        default: "[]",
        doc: "While one of these is down or failing, nobody is told of this one's faults; its checks and its recovery are not held.",
    },
];

/// Keys of a monitor.
pub const MONITOR: &[Key] = &joined(&OWN, &SHARED);

/// Keys of `defaults`.
pub const DEFAULTS: &[Key] = &SHARED;

/// Keys of monitors and `defaults` that are of later work.
pub(super) const LATER: &[&str] = &["remedy"];

const fn joined(own: &[Key; 7], shared: &[Key; 17]) -> [Key; 24] {
    let mut all = [own[0]; 24];
    let mut i = 0;
    while i < 24 {
        all[i] = if i < 7 { own[i] } else { shared[i - 7] };
        i += 1;
    }
    all
}

/// More labels are refused: each goes with every message and metric of the monitor.
pub const LABELS_MAX: usize = 32;
/// Longer label values are refused, as Prometheus servers commonly do.
pub const LABEL_VALUE_MAX: usize = 256;
/// A monitor is watched from at most so many places: each is a vote to count.
pub const DATACENTERS_MAX: usize = 64;
/// Longer names are refused: chats and tables cut them.
pub const NAME_MAX: usize = 128;

/// One monitor as configured, complete with what it inherits.
#[derive(Clone, Debug)]
pub struct MonitorConfig {
    /// Unique in the tenant.
    pub name: String,
    /// Its identity, if the file gives one.
    pub uid: Option<String>,
    /// The name it had before.
    pub was: Option<String>,
    /// Where it begins in the file.
    pub at: Pos,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What is watched and how.
    pub probe: ProbeConfig,
    /// When attempts are due.
    pub cadence: Cadence,
    /// An attempt is ended after so long.
    pub timeout: Dur,
    /// Failures in a row that make it down.
    pub down_after: u16,
    /// Successes in a row that make it up again.
    pub up_after: u16,
    /// Whether a failure is confirmed before it counts.
    pub confirm: bool,
    /// What is told, and to whom.
    pub alerts: Vec<AlertConfig>,
    /// How many datacenters it takes.
    pub quorum: Quorum,
    /// Codes of the datacenters that see it; all if empty.
    pub datacenters: Vec<String>,
    /// The one node that sees it, if only one can.
    pub agent: Option<String>,
    /// Not watched for now.
    pub paused: bool,
    /// What it depends on: monitors of the same tenant.
    pub depends_on: Vec<String>,
    /// Whether the evidence of every attempt is kept, not only of those that tell something new. No file says so.
    pub keep_every_detail: bool,
    /// Canonical configuration as JSON, secrets replaced by `***`.
    pub canonical: String,
    /// SHA-256 of the canonical configuration with secrets: equal means unchanged.
    pub hash: [u8; 32],
    /// What the monitor says about whom to tell; resolved into `alerts` when channels and routes are known.
    pub(super) notify: Option<Vec<(String, Pos)>>,
}

/// A value with the place that gave it.
pub(super) type Placed<T> = (T, Pos);

/// What `defaults` and monitors both may say.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    pub(super) plan: Option<RawPlan>,
    pub(super) zone: Option<String>,
    pub(super) recheck: Option<Placed<Dur>>,
    pub(super) timeout: Option<Placed<Dur>>,
    down_after: Option<u16>,
    up_after: Option<u16>,
    confirm: Option<bool>,
    pub(super) notify: Option<Vec<(String, Pos)>>,
    pub(super) alerts: Option<Vec<AlertConfig>>,
    quorum: Option<Quorum>,
    datacenters: Option<Vec<String>>,
    agent: Option<String>,
    telling: Telling,
}

impl Shared {
    /// Reads the shared keys of an opened mapping; what has a problem is absent, and the problem is noted.
    pub(super) fn decode(fields: &Fields<'_>, problems: &mut Problems) -> Self {
        let mut take = |key: &'static str, range| {
            fields.get(key).and_then(|n| decode::duration(n, range, problems)).map(|d| (d, fields.place(key).clone()))
        };
        let recheck = take("recheck", Dur::secs(1)..=Dur::secs(3_600));
        let timeout = take("timeout", Dur::millis(10)..=Dur::secs(300));
        let mut count = |key| fields.get(key).and_then(|n| decode::integer(n, 1..=100, problems)).map(|n| n as u16);
        let (down_after, up_after) = (count("down_after"), count("up_after"));
        let zone = fields.get("zone").and_then(|n| {
            decode::parsed(n, "an IANA time zone such as Europe/Berlin or UTC", problems, |t| {
                jiff::tz::TimeZone::get(t).ok().map(|_| t.to_owned())
            })
        });
        Self {
            plan: pace::plan(fields, problems),
            zone,
            recheck,
            timeout,
            down_after,
            up_after,
            confirm: fields.get("confirm").and_then(|n| decode::boolean(n, problems)),
            notify: fields.get("notify").and_then(|n| alert::channel_names(n, problems)),
            alerts: fields.get("alerts").and_then(|n| decode::list(n, problems, AlertConfig::decode)),
            quorum: fields.get("quorum").and_then(|n| quorum(n, problems)),
            datacenters: fields.get("datacenters").and_then(|n| datacenters(n, problems)),
            agent: fields.get("agent").and_then(|n| sections::code(n, problems)),
            telling: Telling::decode(fields, problems),
        }
    }
}

fn quorum(node: &Node, problems: &mut Problems) -> Option<Quorum> {
    decode::parsed(node, "any, majority, all or a number from 1 to 100", problems, |t| match t {
        "any" => Some(Quorum::Any),
        "majority" => Some(Quorum::Majority),
        "all" => Some(Quorum::All),
        number => number.parse().ok().filter(|n| (1..=100).contains(n)).map(Quorum::AtLeast),
    })
}

/// A name that people read: no control characters, nothing to trim.
pub(super) fn name(node: &Node, problems: &mut Problems) -> Option<String> {
    decode::parsed(node, "a name of 1 to 128 characters, without control characters or spaces at its ends", problems, |t| {
        let good = !t.is_empty() && t.chars().count() <= NAME_MAX && t.trim() == t && !t.chars().any(char::is_control);
        good.then(|| t.to_owned())
    })
}

impl MonitorConfig {
    /// Reads one monitor with what it inherits. `defaults_node` is the mapping that `defaults` were read from.
    pub(super) fn decode(node: &Node, defaults: &Shared, defaults_node: Option<&Node>, problems: &mut Problems) -> Option<Self> {
        let before = problems.told();
        let fields = Fields::open_beside(node, MONITOR, LATER, problems)?;
        tagged::refuse_later(node, LATER, problems);
        let title = fields.require("name", problems).and_then(|n| name(n, problems));
        let uid = fields.get("id").and_then(|n| {
            decode::parsed(n, "a UUID such as 0190c1d8-6d2f-7c3a-9d3e-0d6f5a1b2c3d", problems, |t| {
                uuid::Uuid::parse_str(t).ok().map(|u| u.to_string())
            })
        });
        let was = fields.get("was").and_then(|n| name(n, problems));
        let labels = fields.get("labels").and_then(|n| labels(n, problems)).unwrap_or_default();
        let paused = fields.get("paused").and_then(|n| decode::boolean(n, problems)).unwrap_or(false);
        let depends_on = fields.get("depends_on").and_then(|n| depends_on(n, problems)).unwrap_or_default();
        let probe = fields.require("probe", problems).and_then(|n| probe::FAMILY.open(n, problems)).and_then(|t| t.kind);
        let own = Shared::decode(&fields, problems);
        let cadence = pace::cadence(&own, defaults, problems);
        let timeout = pace::timeout(&own, defaults, cadence.as_ref(), problems);
        let (probe, name, cadence) = (probe?, title?, cadence?);
        let alerts = alerts(&own, defaults, &probe, &node.at, problems);
        if problems.told() > before {
            return None;
        }
        Some(Self {
            name,
            uid,
            was,
            at: node.at.clone(),
            labels,
            cadence,
            timeout,
            down_after: own.down_after.unwrap_or_else(|| inherited_down_after(defaults, &probe)),
            up_after: own.up_after.or(defaults.up_after).unwrap_or(1),
            confirm: own.confirm.or(defaults.confirm).unwrap_or(true),
            alerts,
            quorum: own.quorum.or(defaults.quorum).unwrap_or_default(),
            datacenters: own.datacenters.or_else(|| defaults.datacenters.clone()).unwrap_or_default(),
            agent: own.agent.or_else(|| defaults.agent.clone()),
            paused,
            depends_on,
            keep_every_detail: false,
            canonical: canonical::shown(node, defaults_node, SHARED.map(|k| k.name).as_slice(), probe.kind()),
            hash: canonical::hash(node, defaults_node, SHARED.map(|k| k.name).as_slice()),
            notify: own.notify,
            probe,
        })
    }
}

/// Codes of datacenters, each once.
fn datacenters(node: &Node, problems: &mut Problems) -> Option<Vec<String>> {
    let mut codes: Vec<String> = decode::list(node, problems, sections::code)?;
    if codes.len() > DATACENTERS_MAX {
        problems.add(&node.at, format!("{} datacenters", codes.len()), format!("at most {DATACENTERS_MAX}"));
    }
    codes.sort_unstable();
    codes.dedup();
    Some(codes)
}

/// Names of parents, each once; whether they exist is checked when all are known.
fn depends_on(node: &Node, problems: &mut Problems) -> Option<Vec<String>> {
    let mut names: Vec<String> = decode::list(node, problems, decode::text)?;
    if names.len() > parents::PARENTS_MAX {
        problems.add(&node.at, format!("{} monitors", names.len()), format!("at most {}", parents::PARENTS_MAX));
    }
    names.sort_unstable();
    names.dedup();
    Some(names)
}

fn labels(node: &Node, problems: &mut Problems) -> Option<BTreeMap<String, String>> {
    let Value::Map(found) = &node.value else {
        decode::wrong(node, "a mapping of words to texts", problems);
        return None;
    };
    if found.len() > LABELS_MAX {
        problems.add(&node.at, format!("{} labels", found.len()), format!("at most {LABELS_MAX}"));
    }
    let mut labels = BTreeMap::new();
    for (key, at, value) in found {
        let good = key.len() <= 63
            && !key.starts_with("__")
            && key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !good {
            let form = "1 to 63 letters, digits and underscores, not beginning with a digit or `__`";
            problems.add(at, format!("the label name `{}`", decode::shown(key)), form.to_owned());
            continue;
        }
        let form = format!("a text of at most {LABEL_VALUE_MAX} characters");
        let text = decode::parsed(value, &form, problems, |t| (t.chars().count() <= LABEL_VALUE_MAX).then(|| t.to_owned()));
        labels.extend(text.map(|t| (key.clone(), t)));
    }
    Some(labels)
}

/// The monitor's rules: its own, which must fit its kind, or those inherited that do.
/// A push that did not come, or that reports a failure, is not looked at again sooner: one is enough.
fn inherited_down_after(defaults: &Shared, probe: &ProbeConfig) -> u16 {
    match probe {
        ProbeConfig::Push(_) => 1,
        ProbeConfig::Http(_)
        | ProbeConfig::Tcp(_)
        | ProbeConfig::Tls(_)
        | ProbeConfig::Dns(_)
        | ProbeConfig::Icmp(_)
        | ProbeConfig::Worker(_) => defaults.down_after.unwrap_or(3),
    }
}

fn alerts(own: &Shared, defaults: &Shared, probe: &ProbeConfig, at: &Pos, problems: &mut Problems) -> Vec<AlertConfig> {
    let mut rules = rules(own, defaults, probe, at, problems);
    for rule in &mut rules {
        rule.telling = std::mem::take(&mut rule.telling).or(&own.telling).or(&defaults.telling);
    }
    rules
}

fn rules(own: &Shared, defaults: &Shared, probe: &ProbeConfig, at: &Pos, problems: &mut Problems) -> Vec<AlertConfig> {
    let Some(written) = &own.alerts else {
        let mut rules = defaults.alerts.clone().unwrap_or_else(|| vec![AlertConfig::plain(AlertKind::Down, at)]);
        let down = rules.iter().find(|r| r.kind == AlertKind::Down).cloned();
        if let (ProbeConfig::Push(_), Some(down), false) = (probe, down, rules.iter().any(|r| r.kind == AlertKind::MissedPush)) {
            // Silence is how a push monitor goes down; `down` alone would only tell of reported failures.
            rules.push(AlertConfig { kind: AlertKind::MissedPush, name: None, ..down });
        }
        rules.retain(|r| r.kind.misfit(probe).is_none());
        return rules;
    };
    let mut seen: BTreeMap<String, &Pos> = BTreeMap::new();
    for rule in written {
        if let Some((found, accepted)) = rule.kind.misfit(probe) {
            problems.add(&rule.at, found, accepted);
        }
        if let Some(first) = seen.insert(rule.key(), &rule.at) {
            problems.add(&rule.at, format!("the alert `{}` again; it is already at {first}", rule.key()), "a `name` of its own".to_owned());
        }
    }
    written.clone()
}
