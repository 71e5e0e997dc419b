//! Public status pages: what strangers may see of a tenant's monitors, under which address, and who is asked for a password.
//!
//! A page shows nothing that is not named here: monitors by name or label, words of its own. The words for colleagues, such as names of rules,
//! of maintenance windows and what was found, are never on it.

use super::decode::{self, Fields, Key, Node, Pos, Problems, Value};
use super::{monitor, named, routes};
use crate::calendar;
use crate::channel::{ChannelKind, Language};
use jiff::tz::TimeZone;
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::{BTreeMap, HashMap};
use watchkeeper_core::Micros;
use watchkeeper_core::matcher::{Matcher, Subject};

/// Keys of a status page.
pub(super) const STATUS_PAGE: &[Key] = &[
    Key {
        name: "name",
        form: "1 to 63 lower-case letters, digits and dashes",
        default: "",
        doc: "Its place: it is served at /status/NAME. Unique in the whole installation.",
    },
    Key { name: "title", form: "a text", default: "", doc: "Its heading; the name if not given." },
    Key { name: "description", form: "a text", default: "", doc: "One or two sentences below the heading." },
    Key { name: "language", form: "en or ru", default: "en", doc: "In which language it speaks." },
    Key { name: "history_days", form: "a whole number from 1 to 90", default: "90", doc: "So many days stand beside each monitor." },
    Key {
        name: "domain",
        form: "a host name such as status.example.org",
        default: "",
        doc: "A name of its own: whoever asks for it under this name sees this page at /. One page for a name.",
    },
    Key {
        name: "password",
        form: "a text of 8 characters or more",
        default: "",
        doc: "If given, the page asks for it (any user name will do), and its monitors have no badges.",
    },
    Key { name: "password_file", form: "a path", default: "", doc: "A file that holds that password." },
    Key {
        name: "subscribers",
        form: "a mapping",
        default: "",
        doc: "If given, people may subscribe to its messages and maintenance on the page, by e-mail, and by webhook if that is allowed.",
    },
    Key { name: "groups", form: "a list of groups", default: "", doc: "What it shows, in this order." },
    Key { name: "messages", form: "a list of messages", default: "", doc: "What you have to say, newest first on the page." },
];

/// Keys of `subscribers`.
pub(super) const SUBSCRIBERS: &[Key] = &[
    Key {
        name: "channel",
        form: "a channel of the kind email",
        default: "",
        doc: "Whose mail server and sender are used; its recipients are not told.",
    },
    Key {
        name: "url",
        form: "an http:// or https:// URL",
        default: "",
        doc: "Where people reach this server; links in mails begin with it. https:// and the page's `domain` if that is given, else it is needed.",
    },
    Key {
        name: "webhooks",
        form: "true or false",
        default: "false",
        doc: "Whether people may also give a URL that is called. It may lead where `server.api_targets` allows, whoever made the page.",
    },
];

/// Keys of one of `groups`.
pub(super) const GROUP: &[Key] = &[
    Key { name: "name", form: "a name", default: "", doc: "Its heading; none if not given." },
    Key { name: "monitors", form: "a list of monitors", default: "[]", doc: "Monitors of the tenant by name, in this order." },
    Key {
        name: "labels",
        form: "a mapping of labels to texts",
        default: "",
        doc: "And every monitor with all of these labels, by name; `*` stands for any text.",
    },
    Key {
        name: "titles",
        form: "a mapping of monitors to texts",
        default: "{}",
        doc: "What monitors are called on the page; those that are not here go by their own name.",
    },
];

/// Keys of one of `messages`.
pub(super) const MESSAGE: &[Key] = &[
    Key { name: "title", form: "a text", default: "", doc: "Its heading." },
    Key { name: "text", form: "a text", default: "", doc: "What it says; may have several lines." },
    Key { name: "at", form: "a date and time such as 2026-12-01 02:00", default: "", doc: "From when it is on the page." },
    Key {
        name: "until",
        form: "a date and time such as 2026-12-01 04:00",
        default: "",
        doc: "From when it is over and stands among what is past; it stays at the top if not given.",
    },
    Key { name: "zone", form: "an IANA time zone", default: "UTC", doc: "In which zone its times are meant." },
    Key { name: "updates", form: "a list of updates", default: "[]", doc: "What there was to say later, newest first on the page." },
];

/// Keys of one of a message's `updates`.
pub(super) const UPDATE: &[Key] = &[
    Key { name: "at", form: "a date and time such as 2026-12-01 02:40", default: "", doc: "When that was; from then it is on the page." },
    Key { name: "text", form: "a text", default: "", doc: "What it says; may have several lines." },
];

/// More pages in a tenant are refused: each is read from the store every few seconds while somebody looks at it.
pub(super) const PAGES_MAX: usize = 100;

/// Monitors of a page. With more, an ordinary page would have more than the 50 kB that a phone on a bad line loads at once; people who want
/// to know what is wrong do not read so many lines either. Fewer would cut ordinary installations in pieces. Labels may find more later on:
/// those are left out, and the page says how many.
pub const PAGE_MONITORS_MAX: usize = 50;

/// Groups and messages of a page. More is a list of headings, or a diary: both make the page long.
const GROUPS_MAX: usize = 30;
const MESSAGES_MAX: usize = 50;

/// Updates of a message. More is a chat; people look for the newest, and the first few.
const UPDATES_MAX: usize = 30;

/// Characters of a description or a message. Longer ones belong on a page of their own.
const TEXT_MAX: usize = 2_000;

/// Characters of a password at least: one guess every few seconds from each address goes through few short ones.
const PASSWORD_MIN: usize = 8;

/// One public status page.
#[derive(Clone, Debug)]
pub struct StatusPageConfig {
    /// Its place, unique in the installation.
    pub slug: String,
    /// Where it begins in the file.
    pub at: Pos,
    /// Its heading.
    pub title: String,
    /// Sentences below it.
    pub description: Option<String>,
    /// In which language.
    pub language: Language,
    /// So many days stand beside each monitor.
    pub history_days: i64,
    /// The host name under which it is the whole site, in lower case.
    pub domain: Option<String>,
    /// What is asked for.
    pub password: Option<SecretString>,
    /// Whether people may subscribe, and how they are told.
    pub subscribers: Option<PageSubscribers>,
    /// What it shows.
    pub groups: Vec<PageGroup>,
    /// What its owner says, newest first.
    pub messages: Vec<PageMessage>,
}

/// How people are told who subscribe to a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSubscribers {
    /// The e-mail channel of the tenant whose server takes their mail, and where that stands.
    pub channel: (String, Pos),
    /// Where people reach this server, without a slash at its end.
    pub url: String,
    /// Whether URLs may be given too.
    pub webhooks: bool,
}

/// Some monitors under a heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageGroup {
    /// The heading.
    pub name: Option<String>,
    /// Names of monitors, in order.
    pub monitors: Vec<String>,
    /// Labels of further ones.
    pub labels: BTreeMap<String, String>,
    /// What monitors are called here.
    pub titles: BTreeMap<String, String>,
}

/// What the page's owner says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageMessage {
    /// Its place among the page's messages as they are written.
    pub nth: usize,
    /// Its heading.
    pub title: String,
    /// What it says.
    pub text: String,
    /// From when it is there.
    pub at: Micros,
    /// From when it is past.
    pub until: Option<Micros>,
    /// What there was to say later, newest first.
    pub updates: Vec<PageUpdate>,
}

/// What there was to say later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageUpdate {
    /// From when it is there.
    pub at: Micros,
    /// What it says.
    pub text: String,
}

impl PageGroup {
    /// The group's monitors among those of the tenant, in its order: named ones first, then those with its labels by name. None twice.
    pub fn members<'m, M>(&self, all: &'m [M], about: impl Fn(&'m M) -> (&'m str, &'m BTreeMap<String, String>)) -> Vec<&'m M> {
        let by_name: HashMap<&str, &M> = all.iter().map(|one| (about(one).0, one)).collect();
        let mut found: Vec<&M> = Vec::new();
        for name in &self.monitors {
            if let Some(one) = by_name.get(name.as_str())
                && !found.iter().any(|known| about(known).0 == name)
            {
                found.push(one);
            }
        }
        if !self.labels.is_empty() {
            let matcher = Matcher { labels: self.labels.clone(), ..Matcher::default() };
            let fits = |one: &'m M| {
                let (monitor, labels) = about(one);
                matcher.matches(&Subject { monitor, labels, kind: "", rule: None, severity: None })
            };
            let mut labelled: Vec<&M> = all.iter().filter(|one| fits(one)).collect();
            labelled.sort_by_key(|one| about(one).0);
            labelled.retain(|one| !self.monitors.iter().any(|name| name == about(one).0));
            found.extend(labelled);
        }
        found
    }

    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, GROUP, problems)?;
        let name = fields.get("name").map_or(Some(None), |n| monitor::name(n, problems).map(Some));
        let monitors = fields.get("monitors").map_or(Some(Vec::new()), |n| decode::list(n, problems, decode::text));
        let labels = fields.get("labels").map_or(Some(Vec::new()), |n| decode::entries(n, problems, decode::text));
        let titles = fields.get("titles").map_or(Some(Vec::new()), |n| decode::entries(n, problems, monitor::name));
        if fields.get("labels").is_some() && labels.as_ref().is_some_and(Vec::is_empty) {
            problems.add(fields.place("labels"), "no label", "at least one; without `labels`, only `monitors` count".to_owned());
        }
        Some(Self { name: name?, monitors: monitors?, labels: labels?.into_iter().collect(), titles: titles?.into_iter().collect() })
    }
}

impl PageSubscribers {
    fn decode(node: &Node, domain: Option<&str>, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, SUBSCRIBERS, problems)?;
        let channel = fields.require("channel", problems).and_then(|n| Some((decode::text(n, problems)?, n.at.clone())));
        let url = match (fields.get("url"), domain) {
            (None, Some(domain)) => Some(format!("https://{domain}")),
            (None, None) => {
                problems.add(fields.at, "no `url`, and the page has no `domain`", URL_FORM.to_owned());
                None
            }
            (Some(node), _) => decode::parsed(node, URL_FORM, problems, base),
        };
        let webhooks = fields.get("webhooks").map_or(Some(false), |n| decode::boolean(n, problems));
        Some(Self { channel: channel?, url: url?, webhooks: webhooks? })
    }
}

/// What links begin with.
const URL_FORM: &str = "an http:// or https:// URL of at most 500 characters, without user, query and fragment";

fn base(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    let good = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.as_str().len() <= 500;
    good.then(|| url.as_str().trim_end_matches('/').to_owned())
}

impl PageMessage {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, MESSAGE, problems)?;
        let title = fields.require("title", problems).and_then(|n| monitor::name(n, problems));
        let text = fields.require("text", problems).and_then(|n| prose(n, problems));
        let zone = routes::zone(&fields, problems);
        let until = fields.get("until").map_or(Some(None), |n| time(n, zone.as_ref(), problems).map(Some));
        let at = fields.require("at", problems).and_then(|n| time(n, zone.as_ref(), problems));
        let update = |n: &Node, problems: &mut Problems| PageUpdate::decode(n, zone.as_ref(), at, problems);
        let updates = fields.get("updates").map_or(Some(Vec::new()), |n| decode::list(n, problems, update));
        at_most(&fields, "updates", UPDATES_MAX, problems);
        let (at, until, mut updates) = (at?, until?, updates?);
        if until.is_some_and(|until| until <= at) {
            problems.add(fields.place("until"), "a message that is over before it begins", "a time after `at`, in that zone".to_owned());
        }
        updates.sort_by_key(|update| std::cmp::Reverse(update.at));
        Some(Self { nth: 0, title: title?, text: text?, at, until, updates })
    }
}

impl PageUpdate {
    /// One of a message that begins at `begins`.
    fn decode(node: &Node, zone: Option<&TimeZone>, begins: Option<Micros>, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, UPDATE, problems)?;
        let at = fields.require("at", problems).and_then(|n| time(n, zone, problems));
        let text = fields.require("text", problems).and_then(|n| prose(n, problems));
        if at.zip(begins).is_some_and(|(at, begins)| at < begins) {
            problems.add(fields.place("at"), "an update before its message", "a time at or after the `at` of the message".to_owned());
        }
        Some(Self { at: at?, text: text? })
    }
}

/// A time as it is written, in that zone.
fn time(node: &Node, zone: Option<&TimeZone>, problems: &mut Problems) -> Option<Micros> {
    let civil = decode::parsed(node, "a date and time such as 2026-12-01 02:00", problems, calendar::civil)?;
    let at = zone.and_then(|zone| calendar::begins(zone, civil));
    if at.is_none() && zone.is_some() {
        problems.add(&node.at, "a time beyond the years that are known", None);
    }
    at
}

/// Notes a list with more than so many items.
fn at_most(fields: &Fields<'_>, key: &'static str, most: usize, problems: &mut Problems) {
    let count = fields.get(key).map_or(0, |n| named::listed(n).len());
    if count > most {
        problems.add(fields.place(key), format!("{count} {key}"), format!("at most {most}"));
    }
}

impl StatusPageConfig {
    pub(super) fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, STATUS_PAGE, problems)?;
        let slug = fields.require("name", problems).and_then(|n| slug(n, problems));
        let title = fields.get("title").map_or(Some(None), |n| monitor::name(n, problems).map(Some));
        let description = fields.get("description").map_or(Some(None), |n| prose(n, problems).map(Some));
        let language = fields.get("language").map_or(Some(Language::default()), |n| decode::one_of(n, Language::WORDS, problems));
        let history_days = fields.get("history_days").map_or(Some(90), |n| decode::integer(n, 1..=90, problems));
        let domain = fields.get("domain").map_or(Some(None), |n| domain(n, problems).map(Some));
        let password = decode::secret(&fields, "password", "password_file", problems);
        if password.as_ref().is_some_and(|password| password.expose_secret().chars().count() < PASSWORD_MIN) {
            let place = if fields.get("password").is_some() { "password" } else { "password_file" };
            problems.add(fields.place(place), "a password that is too short", format!("{PASSWORD_MIN} characters or more"));
        }
        let subscribers = fields
            .get("subscribers")
            .map_or(Some(None), |n| PageSubscribers::decode(n, domain.as_ref().and_then(|d| d.as_deref()), problems).map(Some));
        let groups = fields.get("groups").map_or(Some(Vec::new()), |n| decode::list(n, problems, PageGroup::decode));
        let messages = fields.get("messages").map_or(Some(Vec::new()), |n| decode::list(n, problems, PageMessage::decode));
        at_most(&fields, "groups", GROUPS_MAX, problems);
        at_most(&fields, "messages", MESSAGES_MAX, problems);
        let (slug, mut messages) = (slug?, messages?);
        for (nth, message) in messages.iter_mut().enumerate() {
            message.nth = nth;
        }
        messages.sort_by_key(|message| std::cmp::Reverse(message.at));
        Some(Self {
            title: title?.unwrap_or_else(|| slug.clone()),
            slug,
            at: node.at.clone(),
            description: description?,
            language: language?,
            history_days: history_days?,
            domain: domain?,
            password,
            subscribers: subscribers?,
            groups: groups?,
            messages,
        })
    }

    /// All of it, for a hash: the same pieces mean the same page.
    pub(super) fn pieces(&self) -> Vec<String> {
        let Self { slug, at: _, title, description, language, history_days, domain, password, subscribers, groups, messages } = self;
        let secret = password.as_ref().map(|password| password.expose_secret().to_owned());
        let mut pieces = vec![slug.clone(), title.clone(), format!("{language:?} {history_days}")];
        pieces.extend([description, domain, &secret].into_iter().map(|text| text.clone().unwrap_or_default()));
        pieces.extend(
            subscribers.iter().map(|subscribers| format!("{} {} {}", subscribers.channel.0, subscribers.url, subscribers.webhooks)),
        );
        pieces.extend(groups.iter().map(|group| format!("{group:?}")));
        pieces.extend(messages.iter().map(|message| format!("{message:?}")));
        pieces
    }
}

fn slug(node: &Node, problems: &mut Problems) -> Option<String> {
    decode::parsed(node, "1 to 63 lower-case letters, digits and dashes, with no dash at its ends", problems, |text| {
        let good = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        good.then(|| text.to_owned())
    })
}

fn domain(node: &Node, problems: &mut Problems) -> Option<String> {
    decode::parsed(node, "a host name such as status.example.org, without port", problems, |text| {
        let part = |part: &str| {
            (1..=63).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !part.starts_with('-')
        };
        (text.len() <= 253 && text.split('.').all(part)).then(|| text.to_ascii_lowercase())
    })
}

/// Words for strangers; may have several lines.
fn prose(node: &Node, problems: &mut Problems) -> Option<String> {
    let form = format!("a text of 1 to {TEXT_MAX} characters, without control characters");
    decode::parsed(node, &form, problems, |text| {
        let text = text.trim();
        let good = (1..=TEXT_MAX).contains(&text.chars().count()) && !text.chars().any(|c| c.is_control() && c != '\n');
        good.then(|| text.to_owned())
    })
}

/// Notes every monitor that a page names and the tenant has not. It looks at the tree, so that all problems come out at once.
pub(super) fn known_monitors(pages: &[&Node], monitors: &[&str], problems: &mut Problems) {
    let groups = pages.iter().filter_map(|page| named::child(page, "groups")).flat_map(named::listed);
    for group in groups {
        for node in named::child(group, "monitors").map(named::listed).unwrap_or_default() {
            named::known(node, "monitor", monitors, |_| false, problems);
        }
        let Some(Value::Map(titles)) = named::child(group, "titles").map(|titles| &titles.value) else { continue };
        for (name, at, _) in titles {
            let node = Node { at: at.clone(), value: Value::Scalar { text: name.clone(), quoted: true, written: None } };
            named::known(&node, "monitor", monitors, |_| false, problems);
        }
    }
}

/// Notes a page whose subscribers would be told by a channel that is none of the tenant's, or sends no mail.
pub(super) fn check_channels(pages: &[StatusPageConfig], channels: &[super::ChannelConfig], names: &[&str], problems: &mut Problems) {
    for (name, at) in pages.iter().filter_map(|page| page.subscribers.as_ref()).map(|subscribers| &subscribers.channel) {
        let node = Node { at: at.clone(), value: Value::Scalar { text: name.clone(), quoted: true, written: None } };
        named::known(&node, "channel", names, |_| false, problems);
        // One with problems of its own is not here.
        if let Some(channel) = channels.iter().find(|channel| channel.name == *name)
            && !matches!(channel.kind, ChannelKind::Email(_))
        {
            problems.add(at, format!("`{name}`, a channel of the kind {}", channel.kind.kind()), "a channel of the kind email".to_owned());
        }
    }
}

/// A page's place and its domain are its own in the whole installation; and it shows no more than one page can.
///
/// Files come first, whichever tenant they are about: what was made over the API never hinders them, and is told nothing of whose the other is.
pub(super) fn check<'p>(pages: impl Iterator<Item = (&'p StatusPageConfig, &'p [super::MonitorConfig])>, problems: &mut Problems) {
    let (mut slugs, mut domains): (HashMap<&str, &Pos>, HashMap<&str, &Pos>) = (HashMap::new(), HashMap::new());
    let (files, documents): (Vec<_>, Vec<_>) = pages.partition(|(page, _)| !page.at.in_document());
    for (page, monitors) in files.into_iter().chain(documents) {
        let mut once = |known: &mut HashMap<&'p str, &'p Pos>, what: &str, name: &'p str| {
            if let Some(first) = known.get(name) {
                let whose = if page.at.in_document() { String::new() } else { format!("; the first is at {first}") };
                let found = format!("a second status page {what} `{name}`{whose}");
                problems.add(&page.at, found, "one page in the whole installation".to_owned());
            } else {
                known.insert(name, &page.at);
            }
        };
        once(&mut slugs, "named", &page.slug);
        if let Some(domain) = &page.domain {
            once(&mut domains, "for the domain", domain);
        }
        let shown: usize = page.groups.iter().map(|group| group.members(monitors, |m| (&*m.name, &m.labels)).len()).sum();
        if shown > PAGE_MONITORS_MAX {
            problems.add(
                &page.at,
                format!("a status page with {shown} monitors"),
                format!("at most {PAGE_MONITORS_MAX}; make several pages"),
            );
        }
    }
}
