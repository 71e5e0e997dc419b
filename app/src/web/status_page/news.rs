//! What subscribers of a page are told: its messages with their updates and ends, and its maintenance. Pure.
//!
//! Each is a word with a key of its own, made of times, so that a slip of the pen that is mended later is no news. What is found out about
//! monitors is none: a page that changes by itself is looked at, people write when it matters. Nothing is here that is not on the page.

use super::view::{Members, in_lines, work};
use super::words::Words;
use crate::channel::words::fill;
use crate::config::{PageMessage, StatusPageConfig};
use crate::foreign::on_one_line;
use crate::spec::{Fleet, OwnedPage};
use crate::store::Mutes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use watchkeeper_core::{Dur, Micros};

/// Older than this, nothing is news: neither what was written with an old date, nor what happened while nobody was there to tell it.
const NEWS_AGE: Dur = Dur::secs(24 * 3_600);

/// What came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NewsKind {
    /// A message.
    Posted,
    /// An update of one.
    Updated,
    /// The end of one.
    Over,
    /// Maintenance that is to come.
    Planned,
    /// Maintenance that begins.
    Begun,
    /// Maintenance that has ended.
    Ended,
}

/// One word, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct News {
    /// What came about.
    pub(crate) kind: NewsKind,
    /// Its heading.
    pub(crate) title: String,
    /// What it says.
    pub(crate) text: String,
    /// When it came about.
    pub(crate) at: i64,
    /// Of maintenance, the monitors.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) monitors: BTreeSet<String>,
    /// And its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<i64>,
}

/// What is known of a page's words.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What was told, by key.
    pub(crate) words: BTreeMap<String, News>,
    /// Maintenance that was not there at the last look, although it was to last.
    missing: BTreeSet<String>,
}

impl Told {
    /// As it was stored.
    pub(crate) fn of(words: BTreeMap<String, News>) -> Self {
        Self { words, missing: BTreeSet::new() }
    }
}

/// A word to write down.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct New {
    /// Unique on the page.
    pub(crate) key: String,
    /// What it says.
    pub(crate) news: News,
    /// It is written down, but for nobody.
    pub(crate) untold: bool,
}

/// What is new on a page, the oldest first.
pub(crate) fn news(page: &OwnedPage, fleet: &Fleet, mutes: &Mutes, told: &mut Told, now: Micros) -> Vec<New> {
    let mut new = of_messages(&page.config, told, now);
    new.extend(of_work(page, fleet, mutes, told, now));
    new.sort_by(|one, other| (one.news.at, &one.key).cmp(&(other.news.at, &other.key)));
    new
}

fn of_messages(page: &StatusPageConfig, told: &Told, now: Micros) -> Vec<New> {
    let words = Words::of(page.language);
    let fresh = |at: Micros| at <= now && now - at < NEWS_AGE;
    let mut new = Vec::new();
    let mut add = |key: &str, kind, title: &str, text: String, at: Micros| {
        if !told.words.contains_key(key) {
            let news = News { kind, title: title.to_owned(), text, at: at.0, monitors: BTreeSet::new(), until: None };
            new.push(New { key: key.to_owned(), news, untold: false });
        }
    };
    let mut places: BTreeMap<Micros, usize> = BTreeMap::new();
    // What is written last of one time has stood there first: new ones are put before it.
    for message in page.messages.iter().rev() {
        let key = format!("message/{}/{}", message.at.0, next(&mut places, message.at));
        let title = on_one_line(&message.title);
        let over = message.until.filter(|until| *until <= now);
        if fresh(message.at) && over.is_none() {
            add(&key, NewsKind::Posted, &title, in_lines(&message.text), message.at);
        }
        let mut times = BTreeMap::new();
        for update in message.updates.iter().rev() {
            let key = format!("{key}/update/{}/{}", update.at.0, next(&mut times, update.at));
            if fresh(update.at) && message.at <= now {
                add(&key, NewsKind::Updated, &title, in_lines(&update.text), update.at);
            }
        }
        if let Some(until) = over.filter(|until| fresh(*until) && was_told(told, &key, message)) {
            add(&format!("{key}/over"), NewsKind::Over, &fill(words.over, &[("title", &title)]), words.over_text.to_owned(), until);
        }
    }
    new
}

/// How many there were of that time before.
fn next(places: &mut BTreeMap<Micros, usize>, at: Micros) -> usize {
    let place = places.entry(at).or_default();
    *place += 1;
    *place - 1
}

/// Whether anything of a message was told: of what nobody heard nobody needs to know the end.
fn was_told(told: &Told, key: &str, message: &PageMessage) -> bool {
    let updates = format!("{key}/update/");
    told.words.contains_key(key) || (!message.updates.is_empty() && told.words.keys().any(|known| known.starts_with(&updates)))
}

fn of_work(page: &OwnedPage, fleet: &Fleet, mutes: &Mutes, told: &mut Told, now: Micros) -> Vec<New> {
    let words = Words::of(page.config.language);
    let all = work(&Members::of(page, fleet), mutes, now);
    let (mut new, mut open) = (Vec::new(), BTreeSet::new());
    for one in &all {
        let (key, kind, text) = if let Some(from) = one.from {
            let key = format!("work/{}/{}", from.0, one.until.0);
            let (from, to) = words.between(from, one.until);
            (key, NewsKind::Planned, fill(words.work_later, &[("from", &from), ("to", &to)]))
        } else {
            open.insert(one.until.0);
            (format!("work/begun/{}", one.until.0), NewsKind::Begun, fill(words.work_now, &[("time", &words.time_utc(one.until))]))
        };
        if !told.words.contains_key(&key) {
            let title = format!("{}: {}", words.work, one.titles.join(", "));
            let (monitors, until) = (one.monitors.iter().cloned().collect(), Some(one.until.0));
            new.push(New { key, news: News { kind, title, text, at: now.0, monitors, until }, untold: false });
        }
    }
    let busy: BTreeSet<&String> = all.iter().filter(|one| one.from.is_none()).flat_map(|one| &one.monitors).collect();
    let mut missing = BTreeSet::new();
    for (begun, news) in told.words.iter().filter(|(_, news)| news.kind == NewsKind::Begun) {
        let Some(until) = news.until.filter(|until| !open.contains(until)) else { continue };
        let key = format!("work/ended/{until}");
        if told.words.contains_key(&key) {
            continue;
        }
        // One that ends early is believed at the second look: pages and monitors of a new configuration do not come at one moment.
        if until > now.0 && !told.missing.contains(begun) {
            missing.insert(begun.clone());
            continue;
        }
        // Work that goes on under another end is not over.
        let untold = news.monitors.iter().any(|monitor| busy.contains(monitor)) || now.0 - until >= NEWS_AGE.0;
        let news = News { kind: NewsKind::Ended, text: words.work_over.to_owned(), at: until.min(now.0), ..news.clone() };
        new.push(New { key, news, untold });
    }
    told.missing = missing;
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Pages;
    use crate::store::{Applied, AppliedTenant};
    use std::sync::Arc;
    use watchkeeper_core::TenantId;

    fn page(messages: &str) -> Arc<OwnedPage> {
        let text = format!("status_pages: [ {{ name: a, messages: [ {messages} ] }} ]");
        let config =
            crate::config::load_texts(&[("wk.yaml".to_owned(), text.into_bytes())], &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
        let tenant = AppliedTenant { tenant: TenantId(1), channels: vec![], monitors: vec![] };
        Pages::of(&config, &Applied { tenants: vec![tenant], ..Applied::default() }).0.expect("they are in force")[0].clone()
    }

    fn at(text: &str) -> Micros {
        Micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    /// What is new at that time, which is told from then on.
    fn told(page: &OwnedPage, known: &mut Told, now: &str) -> Vec<String> {
        let new = news(page, &Fleet::default(), &Mutes::default(), known, at(now));
        let said = new.iter().map(|new| format!("{:?} {} {}", new.news.kind, new.news.title, new.news.text)).collect();
        known.words.extend(new.into_iter().map(|new| (new.key, new.news)));
        said
    }

    #[test]
    fn a_message_its_updates_and_its_end_are_told_once_each_when_they_come() {
        let mut known = Told::default();
        let first = page("{ title: Late, text: Sorry., at: 2026-12-01 10:00 }");
        assert_eq!(told(&first, &mut known, "2026-12-01T09:59:59Z"), [""; 0], "it is not there yet");
        assert_eq!(told(&first, &mut known, "2026-12-01T10:00:00Z"), ["Posted Late Sorry."]);
        assert_eq!(told(&first, &mut known, "2026-12-01T10:00:05Z"), [""; 0]);
        // Words that are mended are no news; another message of that minute is, and so is an update.
        let second = "{ title: Other, text: x, at: 2026-12-01 10:00 }";
        let mended = "{ title: Later, text: Very., at: 2026-12-01 10:00, updates: [ { at: 2026-12-01 11:00, text: Half. } ], until: 2026-12-01 12:00 }";
        let both = page(&format!("{second}, {mended}"));
        assert_eq!(told(&both, &mut known, "2026-12-01T11:00:00Z"), ["Posted Other x", "Updated Later Half."]);
        assert_eq!(told(&both, &mut known, "2026-12-01T12:00:00Z"), ["Over Over: Later This is over."]);
        assert_eq!(told(&both, &mut known, "2026-12-01T12:00:05Z"), [""; 0]);
    }

    #[test]
    fn what_is_old_when_it_comes_is_no_news() {
        let old = page(
            "{ title: Old, text: x, at: 2026-11-20 10:00, until: 2026-12-01 11:30 }, { title: Over, text: x, at: 2026-12-01 10:00, until: 2026-12-01 11:00 }",
        );
        assert_eq!(told(&old, &mut Told::default(), "2026-12-01T12:00:00Z"), [""; 0], "nor is the end of what nobody heard of");
    }
}
