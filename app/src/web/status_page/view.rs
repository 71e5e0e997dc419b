//! What a page shows: from what the store says to what strangers may know, and in which words that can be said.
//!
//! Pure. Nothing comes through here but names that the page gives, states, times and percentages: no address, no reason, no name of a rule, a
//! window or a person. What forms the answers (`html`, `feed`, `json`, `kuma`, `statuspage`) sees only this.

use super::super::periods::uptime_percent;
pub(super) use super::super::uptime::Day;
use super::super::uptime::{day, first_day};
use crate::channel::Language;
use crate::config::{PAGE_MONITORS_MAX, PageGroup, PageMessage, PageUpdate, StatusPageConfig};
use crate::foreign::on_one_line;
use crate::mutes::{Announced, InForce};
use crate::spec::{Fleet, MonitorSpec, OwnedPage};
use crate::store::{Glance, GlanceSpan, IncidentView, MonitorDays, MonitorView, Mutes};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use watchkeeper_core::matcher::Subject;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::rule::Trigger;
use watchkeeper_core::{Dur, Micros, MonitorId, Outcome};

/// So far back go incidents and messages that are over. Longer makes pages long; shorter hides last week's outage.
pub(super) const PAST_DAYS: i64 = 14;

/// So far ahead goes work that is announced.
pub(super) const AHEAD: Dur = Dur::secs(14 * 86_400);

/// Incidents that are over, and windows of maintenance: more are left out, and the page says how many. One monitor that goes up and down all
/// day must not make the page long.
pub(super) const LISTED_MAX: usize = 20;

const DAY: i64 = 86_400_000_000;

/// How a monitor is, for strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Operational,
    Degraded,
    Outage,
    Unknown,
    Maintenance,
    Paused,
}

/// How everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overall {
    Empty,
    Operational,
    Maintenance,
    Unknown,
    Degraded,
    Partial,
    Major,
}

/// What an incident means for whoever uses the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Impact {
    Outage,
    /// It works at the moment, and whether that lasts is not known yet.
    Unsteady,
    Slow,
}

/// Everything that a page shows.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) slug: String,
    pub(super) title: String,
    pub(super) description: Option<String>,
    pub(super) language: Language,
    pub(super) domain: Option<String>,
    /// Whether it asks for a password.
    pub(super) closed: bool,
    /// Whether people may subscribe; and also by webhook.
    pub(super) subscribers: bool,
    pub(super) webhooks: bool,
    pub(super) now: Micros,
    /// The beginning of the first day beside a monitor.
    pub(super) from: Micros,
    pub(super) days: i64,
    pub(super) overall: Overall,
    pub(super) groups: Vec<Group>,
    /// Monitors that the page's labels find beyond its limit.
    pub(super) left_out: usize,
    /// Incidents that last, newest first.
    pub(super) open: Vec<Trouble>,
    /// Incidents that are over, newest first.
    pub(super) past: Vec<Trouble>,
    /// And so many more.
    pub(super) past_more: usize,
    /// What is to be read now, and what was, newest first.
    pub(super) messages: Vec<PageMessage>,
    pub(super) past_messages: Vec<PageMessage>,
    /// Work that goes on or is announced, soonest first.
    pub(super) work: Vec<Work>,
}

/// Monitors under a heading.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: Option<String>,
    pub(super) monitors: Vec<Line>,
}

/// A monitor.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) id: MonitorId,
    pub(super) uid: String,
    pub(super) title: String,
    pub(super) state: State,
    /// Since when it is in this state, where that is one of the monitor itself.
    pub(super) since: Option<Micros>,
    /// Since when it is on record.
    pub(super) created_at: Micros,
    /// In percent, over the page's days and the last 24 hours.
    pub(super) uptime: Option<f64>,
    pub(super) recent: Option<f64>,
    pub(super) bars: Vec<Day>,
    /// Days on which it was down, by their place, and for how long.
    pub(super) outages: Vec<(i64, Dur)>,
    /// How long the newest attempt took, if it went well.
    pub(super) ping_us: Option<i64>,
    /// Days that are left to its certificate, if it has one.
    pub(super) cert_days: Option<i64>,
}

/// An incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Its id, or that of the first of several that are one to strangers.
    pub(super) uid: String,
    /// The monitor's.
    pub(super) monitor_uid: String,
    /// What the page calls the monitor.
    pub(super) title: String,
    pub(super) impact: Impact,
    pub(super) began: Micros,
    /// Since when somebody is on it.
    pub(super) taken: Option<Micros>,
    pub(super) ended: Option<Micros>,
}

/// A window of maintenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// What the page calls the monitors that it is about; several windows of one time are one.
    pub(super) titles: Vec<String>,
    /// Their ids.
    pub(super) monitors: Vec<String>,
    /// `None` while it goes on.
    pub(super) from: Option<Micros>,
    pub(super) until: Micros,
}

/// A monitor, and what the page calls it.
type Titled = (Arc<MonitorSpec>, String);

/// The monitors of a page, as the configuration in force has them: by group, each with what the page calls it.
pub(super) struct Members {
    groups: Vec<(Option<String>, Vec<Titled>)>,
    left_out: usize,
}

impl Members {
    /// Of a page.
    pub(super) fn of(page: &OwnedPage, fleet: &Fleet) -> Self {
        let own: Vec<Arc<MonitorSpec>> = fleet.0.values().filter(|spec| spec.tenant == page.tenant).cloned().collect();
        let (mut room, mut left_out) = (PAGE_MONITORS_MAX, 0);
        let mut group = |group: &PageGroup| {
            let mut found = group.members(&own, |spec| (spec.name.as_str(), &spec.labels));
            left_out += found.len().saturating_sub(room);
            found.truncate(room);
            room -= found.len();
            let titled = |spec: &Arc<MonitorSpec>| (spec.clone(), on_one_line(group.titles.get(&spec.name).unwrap_or(&spec.name)));
            (group.name.as_deref().map(on_one_line), found.into_iter().map(titled).collect())
        };
        let groups = page.config.groups.iter().map(&mut group).collect();
        Self { groups, left_out }
    }

    /// By group.
    pub(super) fn into_groups(self) -> impl Iterator<Item = (Option<String>, Vec<(Arc<MonitorSpec>, String)>)> {
        self.groups.into_iter()
    }

    /// Each of them once, with what the page calls it first.
    pub(super) fn each(&self) -> impl Iterator<Item = &(Arc<MonitorSpec>, String)> {
        let all: Vec<_> = self.groups.iter().flat_map(|(_, monitors)| monitors).collect();
        (0..all.len())
            .filter(|nth| all[..*nth].iter().all(|(known, _)| known.id != all[*nth].0.id))
            .map(|nth| all[nth])
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// How far back the store is asked.
pub(super) fn span(page: &StatusPageConfig, now: Micros) -> GlanceSpan {
    GlanceSpan {
        days_from: first_day(now, page.history_days),
        recent_from: now - Dur(DAY),
        ended_after: now - Dur(DAY * PAST_DAYS),
        to: now,
    }
}

impl View {
    /// Of what the store says.
    pub(super) fn of(page: &StatusPageConfig, members: &Members, glance: &Glance, mutes: &Mutes, now: Micros) -> Self {
        let from = first_day(now, page.history_days);
        let work = work(members, mutes, now);
        let troubles = troubles(members, &glance.incidents);
        let facts = Facts {
            monitors: glance.monitors.iter().map(|view| (view.id, view)).collect(),
            days: glance.days.iter().map(|days| (days.uid.as_str(), days)).collect(),
            recent: glance.recent.iter().map(|days| (days.uid.as_str(), days)).collect(),
            troubles: &troubles,
            work: &work,
        };
        let groups: Vec<Group> = members
            .groups
            .iter()
            .map(|(name, monitors)| Group {
                name: name.clone(),
                monitors: monitors.iter().map(|(spec, title)| facts.line(spec, title, from, now, page.history_days)).collect(),
            })
            .collect();
        let (mut open, mut past): (Vec<Trouble>, Vec<Trouble>) = troubles.into_iter().partition(|trouble| trouble.ended.is_none());
        say_as_shown(&mut open, &groups);
        let past_more = past.len().saturating_sub(LISTED_MAX);
        past.truncate(LISTED_MAX);
        let lasts = |message: &&PageMessage| message.at <= now && message.until.is_none_or(|until| now < until);
        let passed = |message: &&PageMessage| message.until.is_some_and(|until| until <= now && now - Dur(DAY * PAST_DAYS) <= until);
        let cleaned = |message: &PageMessage| {
            let said = message.updates.iter().filter(|update| update.at <= now);
            PageMessage {
                title: on_one_line(&message.title),
                text: in_lines(&message.text),
                updates: said.map(|update| PageUpdate { text: in_lines(&update.text), ..update.clone() }).collect(),
                ..message.clone()
            }
        };
        Self {
            slug: page.slug.clone(),
            title: on_one_line(&page.title),
            description: page.description.as_deref().map(on_one_line),
            language: page.language,
            domain: page.domain.clone(),
            closed: page.password.is_some(),
            subscribers: page.subscribers.is_some(),
            webhooks: page.subscribers.as_ref().is_some_and(|subscribers| subscribers.webhooks),
            now,
            from,
            days: page.history_days,
            overall: overall(&groups),
            groups,
            left_out: members.left_out,
            open,
            past,
            past_more,
            messages: page.messages.iter().filter(lasts).map(cleaned).collect(),
            past_messages: page.messages.iter().filter(passed).map(cleaned).collect(),
            work,
        }
    }

    /// Every monitor once, in the order of the page.
    pub(super) fn lines(&self) -> Vec<&Line> {
        let mut all: Vec<&Line> = Vec::new();
        for line in self.groups.iter().flat_map(|group| &group.monitors) {
            if !all.iter().any(|known| known.id == line.id) {
                all.push(line);
            }
        }
        all
    }

    /// What the first sentence is about: monitors in the worst state that there is, unless all is well.
    pub(super) fn affected(&self) -> Vec<&Line> {
        let state = match self.overall {
            Overall::Empty | Overall::Operational => return Vec::new(),
            Overall::Maintenance => State::Maintenance,
            Overall::Unknown => State::Unknown,
            Overall::Degraded => State::Degraded,
            Overall::Partial | Overall::Major => State::Outage,
        };
        self.lines().into_iter().filter(|line| line.state == state).collect()
    }
}

/// An outage that lasts is said as the line of its monitor shows it: one that works at the moment is not called out of order above it.
fn say_as_shown(open: &mut [Trouble], groups: &[Group]) {
    let works = |uid: &str| groups.iter().flat_map(|group| &group.monitors).any(|line| line.uid == uid && line.state == State::Degraded);
    for trouble in open.iter_mut().filter(|trouble| trouble.impact == Impact::Outage && works(&trouble.monitor_uid)) {
        trouble.impact = Impact::Unsteady;
    }
}

/// Words of several lines, each made harmless.
pub(super) fn in_lines(text: &str) -> String {
    text.lines().map(on_one_line).collect::<Vec<_>>().join("\n")
}

/// What is known of all monitors of a page.
struct Facts<'a> {
    monitors: HashMap<MonitorId, &'a MonitorView>,
    days: HashMap<&'a str, &'a MonitorDays>,
    recent: HashMap<&'a str, &'a MonitorDays>,
    troubles: &'a [Trouble],
    work: &'a [Work],
}

impl Facts<'_> {
    fn line(&self, spec: &MonitorSpec, title: &str, from: Micros, now: Micros, days: i64) -> Line {
        let view = self.monitors.get(&spec.id);
        let health = view.map_or(Health::Unknown, |view| view.health);
        let state = self.state(spec, health);
        let of_health = match state {
            State::Maintenance | State::Paused => false,
            State::Operational | State::Degraded | State::Outage | State::Unknown => true,
        };
        let known = self.days.get(spec.uid.as_str());
        let last = view.and_then(|view| view.last.as_ref());
        Line {
            id: spec.id,
            uid: spec.uid.clone(),
            title: title.to_owned(),
            state,
            since: view.and_then(|view| view.since).filter(|_| of_health),
            created_at: spec.created_at,
            uptime: known.and_then(|days| uptime_percent(&days.times)),
            recent: self.recent.get(spec.uid.as_str()).and_then(|days| uptime_percent(&days.times)),
            bars: (0..days).map(|nth| known.map_or(Day::None, |known| day(known, nth, from, now))).collect(),
            outages: known.map(|known| outages(known)).unwrap_or_default(),
            cert_days: last.filter(|beat| matches!(spec.kind, "http" | "tls") && beat.value != -1).map(|beat| beat.value),
            ping_us: last.filter(|beat| beat.outcome == Outcome::Up).map(|beat| beat.total_us),
        }
    }

    fn state(&self, spec: &MonitorSpec, health: Health) -> State {
        let has = |impact| self.troubles.iter().any(|one| one.monitor_uid == spec.uid && one.impact == impact && one.ended.is_none());
        if spec.paused {
            return State::Paused;
        }
        if self.work.iter().any(|work| work.from.is_none() && work.monitors.contains(&spec.uid)) {
            return State::Maintenance;
        }
        match health {
            Health::Down => State::Outage,
            Health::Unknown => State::Unknown,
            // A failure below the threshold is not proven; one after a proven one is the same outage.
            Health::Pending if has(Impact::Outage) => State::Outage,
            // It is up, and its incident goes on: it comes and goes.
            Health::Up | Health::Degraded if has(Impact::Outage) => State::Degraded,
            Health::Up | Health::Degraded | Health::Pending if has(Impact::Slow) => State::Degraded,
            // Other rules are not for strangers: a certificate that expires in two weeks harms nobody yet.
            Health::Up | Health::Degraded | Health::Pending => State::Operational,
        }
    }
}

/// Days with outages, newest first.
fn outages(known: &MonitorDays) -> Vec<(i64, Dur)> {
    known.troubled.iter().rev().filter(|(_, times)| times.down > Dur::ZERO).map(|(nth, times)| (*nth, times.down)).collect()
}

/// What a rule's incident means for strangers; `None` if it is none of their business.
fn impact(spec: &MonitorSpec, rule: &str) -> Option<Impact> {
    match spec.policy.rules.iter().find(|known| known.key.as_str() == rule).map(|known| &known.trigger) {
        Some(Trigger::Down | Trigger::MissedPush) => Some(Impact::Outage),
        Some(Trigger::Above { .. }) => Some(Impact::Slow),
        // The rule is gone. What it was is known only of those that go by their kind.
        None if matches!(rule, "down" | "missed_push") => Some(Impact::Outage),
        None if rule.starts_with("slow_response/") => Some(Impact::Slow),
        Some(Trigger::AtMost { .. } | Trigger::Blind { .. }) | None => None,
    }
}

/// The incidents that strangers see, newest first. Those of one monitor and one meaning that overlap are one: several rules may see the same.
fn troubles(members: &Members, incidents: &[IncidentView]) -> Vec<Trouble> {
    let known: HashMap<&str, &(Arc<MonitorSpec>, String)> = members.each().map(|one| (one.0.uid.as_str(), one)).collect();
    let mut by_kind: BTreeMap<(&str, Impact), Vec<Trouble>> = BTreeMap::new();
    let mut oldest_first: Vec<&IncidentView> = incidents.iter().collect();
    oldest_first.sort_by_key(|incident| incident.opened_at);
    for incident in oldest_first {
        let Some((spec, title)) = known.get(incident.monitor_uid.as_str()) else { continue };
        let Some(impact) = impact(spec, &incident.rule) else { continue };
        let (began, ended, taken) = (incident.opened_at, incident.resolved_at, incident.acknowledged_at);
        let all = by_kind.entry((spec.uid.as_str(), impact)).or_default();
        match all.last_mut().filter(|last| last.ended.is_none_or(|end| began <= end)) {
            Some(last) => {
                last.ended = last.ended.zip(ended).map(|(one, other)| one.max(other));
                last.taken = last.taken.into_iter().chain(taken).min();
            }
            None => all.push(Trouble {
                uid: incident.uid.clone(),
                monitor_uid: spec.uid.clone(),
                title: title.clone(),
                impact,
                began,
                taken,
                ended,
            }),
        }
    }
    let mut all: Vec<Trouble> = by_kind.into_values().flatten().collect();
    all.sort_by(|one, other| (other.began, &one.title, one.impact).cmp(&(one.began, &other.title, other.impact)));
    all
}

/// Work that is about monitors of the page. Its name is for colleagues, so windows of one time are one to strangers.
pub(super) fn work(members: &Members, mutes: &Mutes, now: Micros) -> Vec<Work> {
    let windows = &mutes.maintenance;
    let announced = Announced::of(windows, now, AHEAD).into_iter().map(|one| (Some(one.from), one.until, one.matcher));
    let open = InForce::of(Mutes { silences: Vec::new(), maintenance: windows.clone() }, now).into_iter().filter_map(|held| match held {
        InForce::Maintenance { matcher, until, .. } => Some((None, until, matcher)),
        InForce::Silence(_) => None,
    });
    let mut all: Vec<Work> = Vec::new();
    for (from, until, matcher) in open.chain(announced) {
        for (spec, title) in members.each() {
            let subject = Subject { monitor: &spec.name, labels: &spec.labels, kind: spec.kind, rule: None, severity: None };
            if !matcher.matches(&subject) {
                continue;
            }
            let place = all.iter().position(|work| (work.from, work.until) == (from, until)).unwrap_or(all.len());
            if place == all.len() {
                all.push(Work { titles: Vec::new(), monitors: Vec::new(), from, until });
            }
            if !all[place].monitors.contains(&spec.uid) {
                all[place].monitors.push(spec.uid.clone());
                all[place].titles.push(title.clone());
            }
        }
    }
    all.sort_by_key(|work| (work.from, work.until));
    all.truncate(LISTED_MAX);
    all
}

fn overall(groups: &[Group]) -> Overall {
    let states: Vec<State> = groups.iter().flat_map(|group| &group.monitors).map(|line| line.state).collect();
    let count = |state| states.iter().filter(|known| **known == state).count();
    let watched = states.len() - count(State::Paused);
    if states.is_empty() {
        Overall::Empty
    } else if watched > 0 && count(State::Outage) == watched {
        Overall::Major
    } else if count(State::Outage) > 0 {
        Overall::Partial
    } else if count(State::Degraded) > 0 {
        Overall::Degraded
    } else if count(State::Unknown) > 0 || watched == 0 {
        Overall::Unknown
    } else if count(State::Maintenance) > 0 {
        Overall::Maintenance
    } else {
        Overall::Operational
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StateTimes;

    fn trouble(known_since: i64, troubled: &[(i64, i64, i64)]) -> MonitorDays {
        let times = |down, unknown| StateTimes { up: Dur::ZERO, down: Dur(down), unknown: Dur(unknown) };
        MonitorDays {
            uid: "m".to_owned(),
            name: "m".to_owned(),
            known_since: Some(Micros(known_since)),
            times: StateTimes::default(),
            troubled: troubled.iter().map(|(nth, down, unknown)| (*nth, times(*down, *unknown))).collect(),
        }
    }

    #[test]
    fn a_day_is_judged_by_the_part_of_it_that_was_watched() {
        let now = Micros(DAY * 6 + DAY / 2);
        let known = trouble(DAY + DAY / 2, &[(1, DAY / 90, 0), (2, DAY / 60, 0), (3, DAY / 40, 0), (4, 0, DAY / 4), (5, 0, DAY / 4 * 3)]);
        let days: Vec<Day> = (0..8).map(|nth| day(&known, nth, Micros(0), now)).collect();
        // Day 1 was watched for half a day: a ninetieth of a day is more than 2 % of that.
        assert_eq!(days, [Day::None, Day::Down, Day::Short, Day::Down, Day::Up, Day::Unknown, Day::Up, Day::None]);
        assert_eq!(outages(&known).iter().map(|(nth, _)| *nth).collect::<Vec<_>>(), [3, 2, 1]);
    }

    fn line(uid: &str, state: State) -> Line {
        Line {
            id: MonitorId(1),
            uid: uid.to_owned(),
            title: String::new(),
            state,
            since: None,
            created_at: Micros(0),
            uptime: None,
            recent: None,
            bars: Vec::new(),
            outages: Vec::new(),
            ping_us: None,
            cert_days: None,
        }
    }

    #[test]
    fn an_outage_whose_monitor_works_at_the_moment_is_called_unsteady() {
        let open = |monitor: &str, impact| Trouble {
            uid: "i".to_owned(),
            monitor_uid: monitor.to_owned(),
            title: monitor.to_owned(),
            impact,
            began: Micros(0),
            taken: None,
            ended: None,
        };
        let monitors = vec![line("down", State::Outage), line("flaps", State::Degraded), line("slow", State::Degraded)];
        let mut all = [open("down", Impact::Outage), open("flaps", Impact::Outage), open("slow", Impact::Slow)];
        say_as_shown(&mut all, &[Group { name: None, monitors }]);
        assert_eq!(all.map(|trouble| trouble.impact), [Impact::Outage, Impact::Unsteady, Impact::Slow]);
    }

    #[test]
    fn the_first_sentence_is_about_the_worst() {
        use State::{Degraded, Maintenance, Operational, Outage, Paused, Unknown};
        let of = |states: &[State]| overall(&[Group { name: None, monitors: states.iter().map(|state| line("", *state)).collect() }]);
        let cases: [(&[State], Overall); 9] = [
            (&[], Overall::Empty),
            (&[Operational, Paused], Overall::Operational),
            (&[Paused], Overall::Unknown),
            (&[Operational, Maintenance], Overall::Maintenance),
            (&[Maintenance, Unknown], Overall::Unknown),
            (&[Unknown, Degraded], Overall::Degraded),
            (&[Outage, Degraded], Overall::Partial),
            (&[Outage, Operational, Paused], Overall::Partial),
            (&[Outage, Paused], Overall::Major),
        ];
        for (states, want) in cases {
            assert_eq!(of(states), want, "{states:?}");
        }
    }
}
