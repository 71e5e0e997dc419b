//! What a command or a button asks for, and doing it: the same whatever chat it comes from.
//!
//! Reading is bounded, doing is repeatable: the same update again acknowledges what is acknowledged and makes the same silence.

use super::EarsContext;
use crate::channel::telegram::{PRESSED_ACKNOWLEDGE, PRESSED_SILENCE};
use crate::config::decode::{nearest, parse_duration};
use crate::foreign::steers;
use crate::short_id;
use crate::store::{IncidentFilter, IncidentView, MonitorView, PAGE_MAX, Result, Silence, TenantScope};
use sha2::{Digest as _, Sha256};
use watchkeeper_core::matcher::{Matcher, literal};
use watchkeeper_core::quorum::Health;
use watchkeeper_core::verdict::Action;
use watchkeeper_core::{Dur, Micros};

/// How long a silence lasts if nothing is said; the button's length, too.
const SILENCE: Dur = Dur::secs(3_600);
/// The shortest and longest silence. A shorter one is over before it is read; a longer one is a change of the configuration.
pub(super) const SILENCE_LEAST: Dur = Dur::secs(60);
pub(super) const SILENCE_MOST: Dur = Dur::secs(30 * 86_400);
/// A comment is cut after so many characters: it stands in lists.
const COMMENT_MAX: usize = 200;
/// A monitor's name in a command has at most so many words. More would read the store for each.
const NAME_WORDS_MAX: usize = 12;
/// So many open incidents are looked at. More would make one question read a storm; the rest is counted as more.
const OPEN_MAX: usize = PAGE_MAX as usize;
/// So many are named in an answer. More is longer than a message.
pub(super) const NAMED_MAX: usize = 20;

/// A command as understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Status,
    Incidents,
    Acknowledge(String),
    Silence(String),
}

impl Command {
    /// Whether it changes something; what only asks may go unanswered.
    pub(super) const fn changes(&self) -> bool {
        match self {
            Self::Acknowledge(_) | Self::Silence(_) => true,
            Self::Help | Self::Status | Self::Incidents => false,
        }
    }
}

/// Understands a message: `/status`, `/status@bot`, `/ack 019aa2b4`. `None` if it is no command, or one of another bot. One that
/// is not known is answered with help where it can only be meant for us.
pub(super) fn parse(text: &str, bot: Option<&str>, private: bool) -> Option<Command> {
    let line = text.strip_prefix('/')?;
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (word, meant) = match word.split_once('@') {
        Some((word, name)) if bot.is_some_and(|bot| bot.eq_ignore_ascii_case(name)) => (word, true),
        Some(_) => return None,
        None => (word, private),
    };
    let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
    match word.to_ascii_lowercase().as_str() {
        "help" | "start" => Some(Command::Help),
        "status" => Some(Command::Status),
        "incidents" => Some(Command::Incidents),
        "ack" => Some(Command::Acknowledge(rest)),
        "silence" => Some(Command::Silence(rest)),
        _ => meant.then_some(Command::Help),
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Help,
    Status(Status),
    Incidents(Open),
    /// Noted; whoever decides for the monitor folds it.
    Acknowledged {
        monitor: String,
    },
    /// Somebody has taken it on before.
    AcknowledgedBefore {
        monitor: String,
    },
    /// The button's incident has ended.
    Over,
    Silenced {
        monitor: String,
        rule: Option<String>,
        until: Micros,
    },
    /// It would be over already.
    SilenceOver,
    NoIncident(String),
    /// Several incidents fit a part of an id: these, each with its whole id.
    Ambiguous {
        part: String,
        open: Open,
    },
    /// Nothing is called that; perhaps another monitor was meant.
    NoMonitor {
        what: String,
        near: Option<String>,
    },
    AckUsage,
    SilenceUsage,
    BadLength(String),
    /// A button of another version.
    NotUnderstood,
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Status {
    /// Monitors by health.
    pub counts: Vec<(Health, u32)>,
    pub paused: u32,
    pub open: Open,
}

/// Incidents that are open, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Open {
    /// At most [`NAMED_MAX`], each with its id.
    pub named: Vec<(String, IncidentView)>,
    /// How many are not among them.
    pub more: usize,
}

/// Does what one update asks for.
pub(super) struct Deeds<'a> {
    pub cx: &'a EarsContext,
    /// On behalf of these tenants.
    pub scopes: Vec<TenantScope>,
    /// Who asks.
    pub author: String,
    /// When.
    pub at: Micros,
    /// The update's own key: the same again is the same wish.
    pub key: String,
}

impl Deeds<'_> {
    pub(super) async fn run(&self, command: Command) -> Result<Said> {
        match command {
            Command::Help => Ok(Said::Help),
            Command::Status => self.status().await.map(Said::Status),
            Command::Incidents => self.open().await.map(|open| Said::Incidents(named(&open, short_id::short))),
            Command::Acknowledge(part) => self.acknowledge(&part).await,
            Command::Silence(rest) => self.silence(&rest).await,
        }
    }

    /// A button: `ack:<incident>` or `silence:<incident>`.
    pub(super) async fn press(&self, data: &str) -> Result<Said> {
        let pressed = |what: &str| data.strip_prefix(what);
        let (acknowledges, uid) = match (pressed(PRESSED_ACKNOWLEDGE), pressed(PRESSED_SILENCE)) {
            (Some(uid), _) => (true, uid),
            (None, Some(uid)) => (false, uid),
            (None, None) => return Ok(Said::NotUnderstood),
        };
        let mut found = None;
        for scope in &self.scopes {
            if let Some(incident) = self.cx.store.incident(*scope, uid).await? {
                found = Some((*scope, incident));
                break;
            }
        }
        let Some((scope, incident)) = found else { return Ok(Said::Over) };
        if acknowledges {
            return self.acknowledge_one(scope, &incident).await;
        }
        self.quiet(scope, &incident.monitor, Some(incident.rule.clone()), self.at + SILENCE, String::new()).await
    }

    async fn status(&self) -> Result<Status> {
        let order = [Health::Down, Health::Unknown, Health::Pending, Health::Degraded, Health::Up];
        let mut status = Status { counts: order.map(|health| (health, 0)).to_vec(), ..Status::default() };
        self.each_monitor(|MonitorView { paused, health, .. }| {
            if *paused {
                status.paused += 1;
            } else if let Some((_, count)) = status.counts.iter_mut().find(|(h, _)| h == health) {
                *count += 1;
            }
        })
        .await?;
        status.open = named(&self.open().await?, short_id::short);
        Ok(status)
    }

    /// Looks at every monitor of our tenants, a page at a time.
    async fn each_monitor(&self, mut look: impl FnMut(&MonitorView)) -> Result<()> {
        for scope in &self.scopes {
            let mut after: Option<String> = None;
            loop {
                let page = self.cx.store.monitors(*scope, after.as_deref(), PAGE_MAX).await?;
                page.iter().for_each(&mut look);
                let Some(last) = page.last().filter(|_| page.len() as i64 == PAGE_MAX) else { break };
                after = Some(last.name.clone());
            }
        }
        Ok(())
    }

    /// Open incidents of all our tenants, newest first.
    async fn open(&self) -> Result<Vec<(TenantScope, IncidentView)>> {
        let mut open = Vec::new();
        for scope in &self.scopes {
            let filter = IncidentFilter { status: Some("unresolved".to_owned()), limit: PAGE_MAX, ..IncidentFilter::default() };
            open.extend(self.cx.store.incidents(*scope, &filter).await?.into_iter().map(|incident| (*scope, incident)));
        }
        open.sort_by_key(|(_, incident)| std::cmp::Reverse((incident.opened_at, incident.id)));
        open.truncate(OPEN_MAX);
        Ok(open)
    }

    async fn acknowledge(&self, part: &str) -> Result<Said> {
        if part.chars().count() < short_id::PART_MIN || part.contains(' ') {
            return Ok(Said::AckUsage);
        }
        let fitting = self.fitting(part).await?;
        match &fitting[..] {
            [] => Ok(Said::NoIncident(part.to_owned())),
            [(scope, incident)] => self.acknowledge_one(*scope, incident).await,
            [..] => Ok(ambiguous(part, &fitting)),
        }
    }

    /// Open incidents whose id begins or ends so.
    async fn fitting(&self, part: &str) -> Result<Vec<(TenantScope, IncidentView)>> {
        let mut open = self.open().await?;
        open.retain(|(_, incident)| short_id::fits(&incident.uid, part));
        Ok(open)
    }

    async fn acknowledge_one(&self, scope: TenantScope, incident: &IncidentView) -> Result<Said> {
        let monitor = incident.monitor.clone();
        if incident.status == "acknowledged" {
            return Ok(Said::AcknowledgedBefore { monitor });
        }
        let now = self.cx.clock.now();
        if !self.cx.store.insert_action(scope, &incident.uid, Action::Acknowledge, &self.author, None, now).await? {
            return Ok(Said::Over);
        }
        self.cx.actions.notify_one();
        tracing::info!(incident = %incident.uid, author = %self.author, "{} acknowledges {} of {monitor}", self.author, incident.rule);
        Ok(Said::Acknowledged { monitor })
    }

    /// `NAME|ID [1h] [comment]`. A name may have spaces: the longest run of words that is one is it.
    async fn silence(&self, rest: &str) -> Result<Said> {
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        let Some(first) = words.first() else { return Ok(Said::SilenceUsage) };
        for count in (1..=words.len().min(NAME_WORDS_MAX)).rev() {
            let name = words[..count].join(" ");
            for scope in &self.scopes {
                if let Some(monitor) = self.cx.store.monitor(*scope, &name).await? {
                    return self.silence_for(*scope, &monitor.name, None, &words[count..]).await;
                }
            }
        }
        let fitting = self.fitting(first).await?;
        match &fitting[..] {
            [] => self.no_monitor(&words).await,
            [(scope, incident)] => self.silence_for(*scope, &incident.monitor, Some(incident.rule.clone()), &words[1..]).await,
            [..] => Ok(ambiguous(first, &fitting)),
        }
    }

    /// Nothing is called that. What was meant may be the first word alone, or several of them.
    async fn no_monitor(&self, words: &[&str]) -> Result<Said> {
        let mut names = Vec::new();
        self.each_monitor(|monitor| names.push(monitor.name.clone())).await?;
        let mut tried = (1..=words.len().min(NAME_WORDS_MAX)).rev().map(|count| words[..count].join(" "));
        let near = tried.find_map(|tried| nearest(&tried, names.iter().map(String::as_str)));
        Ok(Said::NoMonitor { what: words.join(" "), near })
    }

    /// With the words behind the name: a length if the first is one, and a comment.
    async fn silence_for(&self, scope: TenantScope, monitor: &str, rule: Option<String>, words: &[&str]) -> Result<Said> {
        let looks_like_a_length = |word: &&&str| word.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit());
        let (length, comment) = match words.first().filter(looks_like_a_length) {
            None => (SILENCE, words),
            Some(word) => match parse_duration(word).filter(|length| (SILENCE_LEAST..=SILENCE_MOST).contains(length)) {
                Some(length) => (length, &words[1..]),
                None => return Ok(Said::BadLength((*word).to_owned())),
            },
        };
        let comment: String = comment.join(" ").chars().filter(|c| !steers(*c)).take(COMMENT_MAX).collect();
        self.quiet(scope, monitor, rule, self.at + length, comment).await
    }

    /// Makes the silence, unless this very update has made it before.
    async fn quiet(&self, scope: TenantScope, monitor: &str, rule: Option<String>, until: Micros, comment: String) -> Result<Said> {
        let now = self.cx.clock.now();
        if until <= now {
            return Ok(Said::SilenceOver);
        }
        let said = Said::Silenced { monitor: monitor.to_owned(), rule: rule.clone(), until };
        let uid = uid_of(&self.key);
        if self.cx.store.silences(scope, now, PAGE_MAX).await?.iter().any(|silence| silence.uid == uid) {
            return Ok(said);
        }
        let silence = Silence {
            uid,
            matcher: Matcher { monitors: vec![literal(monitor)], rules: rule.into_iter().collect(), ..Matcher::default() },
            starts_at: now,
            ends_at: until,
            author: self.author.clone(),
            comment,
        };
        self.cx.store.create_silence(scope, &silence).await?;
        self.cx.deliverers.wake_all();
        tracing::info!(silence = %silence.uid, author = %self.author, "{} silences {monitor}", self.author);
        Ok(said)
    }
}

/// Which of them is meant cannot be said: all of them, with their whole ids.
fn ambiguous(part: &str, fitting: &[(TenantScope, IncidentView)]) -> Said {
    Said::Ambiguous { part: part.to_owned(), open: named(fitting, |uid| uid) }
}

/// A UUID (version 8: made of anything) that the same key makes again.
fn uid_of(key: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(key).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// The newest incidents, each under that form of its id.
fn named(open: &[(TenantScope, IncidentView)], form: impl Fn(&str) -> &str) -> Open {
    let more = open.len().saturating_sub(NAMED_MAX);
    let named = open.iter().take(NAMED_MAX).map(|(_, incident)| (form(&incident.uid).to_owned(), incident.clone())).collect();
    Open { named, more }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn commands_are_understood_and_those_of_others_are_not_ours() {
        let of = |text: &str| parse(text, Some("watch_bot"), false);
        assert_eq!(of("/status"), Some(Command::Status));
        assert_eq!(of("/Status@Watch_Bot"), Some(Command::Status));
        assert_eq!(of("/status@other_bot"), None);
        assert_eq!(of("status"), None);
        assert_eq!(of("look at /status"), None);
        assert_eq!(of("/ack  019aa2b4 "), Some(Command::Acknowledge("019aa2b4".to_owned())));
        assert_eq!(of("/silence my shop\n2h moving it"), Some(Command::Silence("my shop 2h moving it".to_owned())));
        assert_eq!(of("/weather"), None, "in a group it may be meant for anybody");
        assert_eq!(of("/weather@watch_bot"), Some(Command::Help));
        assert_eq!(parse("/weather", Some("watch_bot"), true), Some(Command::Help));
        assert_eq!(parse("/status@watch_bot", None, false), None);
        assert_eq!(of("/"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn the_same_update_makes_the_same_silence() {
        assert_eq!(uid_of("telegram/1/5"), uid_of("telegram/1/5"));
        assert_ne!(uid_of("telegram/1/5"), uid_of("telegram/1/6"));
        assert_eq!(uuid::Uuid::parse_str(&uid_of("x")).unwrap().get_version_num(), 8);
    }
}
