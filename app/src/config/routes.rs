//! Routes: whom a rule tells when neither it nor its monitor says so, and at which hours.
//!
//! The first route that matches decides, and those after it for as long as one says `continue`. Routes are resolved here, for
//! every rule, once per load: what runs later only knows channels, and the hours of each. Hours hold a word back, they never
//! drop it.

use super::alert::{self, AlertConfig, channel_names};
use super::decode::{self, Fields, Key, Node, Pos, Problems, Value};
use super::{named, tagged};
use crate::calendar::{self, Hours};
use crate::probe;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use watchkeeper_core::Severity;
use watchkeeper_core::matcher::{Matcher, Subject};

/// Keys of a route.
pub(super) const ROUTE: &[Key] = &[
    Key {
        name: "match",
        form: "a mapping",
        default: "",
        doc: "What it is about; everything that is given must fit, and without it everything does.",
    },
    Key {
        name: "severity",
        form: "a list of info, warning and critical",
        default: "",
        doc: "Rules of these severities; any if not given.",
    },
    Key {
        name: "hours",
        form: "a mapping",
        default: "",
        doc: "When its channels are told; what comes at other times is held until they begin.",
    },
    Key { name: "notify", form: "a list of channels", default: "", doc: "Who is told; nobody if empty." },
    Key { name: "continue", form: "true or false", default: "false", doc: "Look at the routes after it too." },
];

/// Keys of `match`.
pub(super) const MATCH: &[Key] = &[
    Key { name: "monitors", form: "a list of names", default: "[]", doc: "Monitors by name; `*` stands for any text." },
    Key { name: "labels", form: "a mapping of labels to texts", default: "{}", doc: "Labels, every one of them; `*` stands for any text." },
    Key { name: "kinds", form: "a list of kinds of probes", default: "[]", doc: "Kinds of monitors." },
    Key {
        name: "rules",
        form: "a list of rules",
        default: "[]",
        doc: "Rules by kind (slow_response with its phase: slow_response/total) or name; `*` stands for any text.",
    },
];

/// Keys of `hours`.
pub(super) const HOURS: &[Key] = &[
    Key { name: "days", form: "a list of days and ranges of them", default: "mon-sun", doc: "On which days they begin." },
    Key { name: "from", form: "a time of day", default: "\"00:00\"", doc: "When they begin." },
    Key { name: "to", form: "a time of day", default: "\"24:00\"", doc: "When they end; before `from`, it is the next morning." },
    Key { name: "zone", form: "an IANA time zone", default: "UTC", doc: "In which zone they are meant." },
];

/// More routes are refused: every rule is held against every route.
pub(super) const ROUTES_MAX: usize = 1_000;
/// More patterns in one list are refused: each is held against every monitor, and a label says the same shorter.
const PATTERNS_MAX: usize = 1_000;

/// What chose the channels of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Chosen {
    /// `notify` of the rule.
    Rule,
    /// `notify` of its monitor.
    Monitor,
    /// The routes that are about it, each with what it is about, and its place.
    Routes(Vec<(String, Pos)>),
    /// `notify` of `defaults`.
    Defaults,
    /// Nothing says it: every channel of the tenant.
    #[default]
    All,
}

impl Chosen {
    /// In words, for whoever asks later why they were told: without places, which move with every line that is added to a file.
    pub fn words(&self) -> String {
        match self {
            Self::Rule => "`notify` of the rule".to_owned(),
            Self::Monitor => "`notify` of the monitor".to_owned(),
            Self::Routes(routes) => {
                let about: Vec<&str> = routes.iter().map(|(about, _)| about.as_str()).collect();
                format!("{} about {}", if about.len() == 1 { "the route" } else { "the routes" }, about.join(", and about "))
            }
            Self::Defaults => "`notify` of `defaults`".to_owned(),
            Self::All => "no `notify` or route says it, so every channel".to_owned(),
        }
    }

    /// The same with the places of routes, for whoever reads the file.
    pub fn with_places(&self) -> String {
        match self {
            Self::Routes(routes) => {
                let placed: Vec<String> = routes.iter().map(|(about, at)| format!("the route at {at} about {about}")).collect();
                placed.join(", and ")
            }
            Self::Rule | Self::Monitor | Self::Defaults | Self::All => self.words(),
        }
    }
}

/// What a matcher is about, in words.
pub(super) fn about(matcher: &Matcher) -> String {
    let Matcher { monitors, labels, kinds, rules, severities } = matcher;
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let severities: Vec<String> = severities.iter().map(|severity| severity.as_str().to_owned()).collect();
    let parts = [("", monitors), ("label ", &labels), ("kind ", kinds), ("rule ", rules), ("severity ", &severities)];
    let parts: Vec<String> =
        parts.into_iter().filter(|(_, words)| !words.is_empty()).map(|(word, words)| format!("{word}{}", words.join(", "))).collect();
    if parts.is_empty() { "everything".to_owned() } else { parts.join("; ") }
}

/// Whom rules tell that nothing else is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Usual {
    /// Names and places.
    pub(super) notify: Vec<(String, Pos)>,
    /// [`Chosen::Defaults`] or [`Chosen::All`].
    pub(super) chosen: Chosen,
}

/// One route.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Where it stands.
    pub(super) at: Pos,
    /// What it is about.
    pub(super) matcher: Matcher,
    hours: Option<Arc<Hours>>,
    notify: Vec<(String, Pos)>,
    /// Whether those after it are looked at too.
    pub(super) goes_on: bool,
}

impl Route {
    pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, ROUTE, problems)?;
        let mut matcher = fields.get("match").map_or(Some(Matcher::default()), |n| matcher(n, problems));
        let words = [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];
        let severities = fields
            .get("severity")
            .map_or(Some(Vec::new()), |n| decode::list(n, problems, |n, problems| decode::one_of(n, &words, problems)));
        let hours = fields.get("hours").map_or(Some(None), |n| hours(n, problems).map(|h| Some(Arc::new(h))));
        let notify = fields.require("notify", problems).and_then(|n| channel_names(n, problems));
        let goes_on = fields.get("continue").map_or(Some(false), |n| decode::boolean(n, problems));
        if let (Some(matcher), Some(severities)) = (&mut matcher, severities) {
            matcher.severities = severities;
        }
        Some(Self { at: node.at.clone(), matcher: matcher?, hours: hours?, notify: notify?, goes_on: goes_on? })
    }
}

/// What a route or a maintenance window is about.
pub(super) fn matcher(node: &Node, problems: &mut Problems) -> Option<Matcher> {
    let fields = Fields::open(node, MATCH, problems)?;
    let mut patterns = |key| {
        fields.get(key).map_or(Some(Vec::new()), |n| {
            let found = decode::list(n, problems, decode::text)?;
            if found.len() > PATTERNS_MAX {
                problems.add(&n.at, format!("{} patterns", found.len()), format!("at most {PATTERNS_MAX}"));
            }
            Some(found)
        })
    };
    let (monitors, rules) = (patterns("monitors"), patterns("rules"));
    let labels = fields.get("labels").map_or(Some(Vec::new()), |n| decode::entries(n, problems, decode::text));
    let kinds = fields.get("kinds").map_or(Some(Vec::new()), |n| decode::list(n, problems, kind));
    Some(Matcher {
        monitors: monitors?,
        labels: labels?.into_iter().collect::<BTreeMap<_, _>>(),
        kinds: kinds?,
        rules: rules?,
        severities: Vec::new(),
    })
}

fn kind(node: &Node, problems: &mut Problems) -> Option<String> {
    if let Value::Scalar { text, .. } = &node.value
        && probe::FAMILY.later_kinds.contains(&text.as_str())
    {
        tagged::not_built_yet(&node.at, text, "", problems);
        return None;
    }
    let words: Vec<(&str, &str)> = probe::FAMILY.kinds.iter().map(|k| (k.name, k.name)).collect();
    decode::one_of(node, &words, problems).map(str::to_owned)
}

fn hours(node: &Node, problems: &mut Problems) -> Option<Hours> {
    let fields = Fields::open(node, HOURS, problems)?;
    let days = fields.get("days").map_or(Some([true; 7]), |n| {
        let form = "days such as mon-fri, sat, or a list of them";
        let ranges = decode::list(n, problems, |n, problems| decode::parsed(n, form, problems, calendar::days))?;
        Some(ranges.iter().fold([false; 7], |all, range| std::array::from_fn(|day| all[day] || range[day])))
    });
    let mut minute = |key, usual| {
        fields.get(key).map_or(Some(usual), |n| decode::parsed(n, "a time of day from 00:00 to 24:00", problems, calendar::minute))
    };
    let (from, to) = (minute("from", 0), minute("to", 24 * 60));
    let zone = zone(&fields, problems);
    let (days, from, to, zone) = (days?, from?, to?, zone?);
    let hours = Hours::new(days, from, to, zone);
    if hours.is_none() {
        problems.add(fields.at, "hours without a length", "a day, `from` before 24:00, and another time as `to`".to_owned());
    }
    hours
}

/// The `zone` of an opened mapping that has the key; UTC if it is not given.
pub(super) fn zone(fields: &Fields<'_>, problems: &mut Problems) -> Option<jiff::tz::TimeZone> {
    let form = "an IANA time zone such as Europe/Berlin or UTC";
    fields.get("zone").map_or(Some(jiff::tz::TimeZone::UTC), |n| decode::parsed(n, form, problems, calendar::zone))
}

/// Gives a rule without channels of its own those of the routes that are about it, or the usual ones, each with its hours.
pub(super) fn resolve(routes: &[Route], usual: &Usual, subject: &Subject<'_>, rule: &mut AlertConfig) {
    let mut notify: Vec<(String, Pos)> = Vec::new();
    let mut hours: BTreeMap<String, Vec<Arc<Hours>>> = BTreeMap::new();
    let mut always = BTreeSet::new();
    let mut matched = Vec::new();
    for route in routes.iter().filter(|route| route.matcher.matches(subject)) {
        matched.push((about(&route.matcher), route.at.clone()));
        for (name, at) in &route.notify {
            match &route.hours {
                Some(found) => hours.entry(name.clone()).or_default().push(found.clone()),
                None => _ = always.insert(name.clone()),
            }
            notify.push((name.clone(), at.clone()));
        }
        if !route.goes_on {
            break;
        }
    }
    if matched.is_empty() {
        (notify, rule.chosen) = (usual.notify.clone(), usual.chosen.clone());
    } else {
        rule.chosen = Chosen::Routes(matched);
    }
    // A channel that one of the routes tells at any time is told at any time.
    hours.retain(|name, _| !always.contains(name));
    rule.hours = hours;
    rule.notify = Some(notify);
}

/// Every monitor and rule that a `match` names without `*` exists. It looks at the tree, so that all problems come out at once.
pub(super) fn known_names<'n>(
    matches: impl Iterator<Item = &'n Node>,
    monitors: &BTreeSet<&str>,
    rules: &BTreeSet<String>,
    problems: &mut Problems,
) {
    for node in matches {
        let known: [(&str, &str, Vec<&str>); 2] =
            [("monitors", "monitor", monitors.iter().copied().collect()), ("rules", "rule", rules.iter().map(String::as_str).collect())];
        for (key, what, known) in known {
            for named in named::child(node, key).map(named::listed).unwrap_or_default() {
                named::known(named, what, &known, |text| text.contains('*'), problems);
            }
        }
    }
}

/// The identities of rules that need no name.
pub(super) fn usual_rules() -> BTreeSet<String> {
    alert::usual_keys().collect()
}
