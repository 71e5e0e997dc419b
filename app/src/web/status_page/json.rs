//! The page for programs, in words of our own.

use super::super::types::Time;
use super::view::{Day, Impact, Line, Overall, State, View};
use super::words::Words;
use serde::Serialize;
use watchkeeper_core::Dur;

/// A public status page.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct StatusPage {
    /// Its place: `/status/{name}`.
    name: String,
    title: String,
    description: Option<String>,
    /// `operational`, `maintenance`, `unknown`, `degraded`, `partial_outage`, `major_outage`, or `empty` if it shows nothing.
    status: &'static str,
    /// The same as a sentence, in the page's language.
    sentence: &'static str,
    as_of: Time,
    groups: Vec<PageGroup>,
    /// Incidents that last, newest first.
    incidents: Vec<PageIncident>,
    /// Those that are over, newest first; of the last 14 days, at most 20.
    past_incidents: Vec<PageIncident>,
    /// Work that goes on or is announced for the next 14 days, soonest first.
    maintenance: Vec<PageMaintenance>,
    /// What the page's owner says now, newest first.
    messages: Vec<PageMessage>,
}

/// Monitors under a heading.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PageGroup {
    name: Option<String>,
    monitors: Vec<PageMonitor>,
}

/// A monitor, as the page shows it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PageMonitor {
    /// Its public id, which also opens its badges.
    uid: String,
    /// What the page calls it.
    title: String,
    /// `operational`, `degraded`, `outage`, `unknown`, `maintenance`, `paused`.
    status: &'static str,
    /// Since when.
    since: Option<Time>,
    /// Over the days below, cut to 4 decimals.
    uptime_percent: Option<f64>,
    /// Over the last 24 hours.
    uptime_24h_percent: Option<f64>,
    /// Oldest first; the last is today, in UTC.
    days: Vec<PageDay>,
}

/// A day of a monitor.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PageDay {
    /// `none` (not known yet), `unknown`, `up`, `short_outage`, `outage`.
    status: &'static str,
    down_seconds: f64,
}

/// An incident, as the page shows it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PageIncident {
    uid: String,
    /// The monitor's public id.
    monitor: String,
    title: String,
    /// `outage`, `unsteady` (it works at the moment) or `slow`.
    impact: &'static str,
    began: Time,
    /// Since when somebody is on it.
    acknowledged: Option<Time>,
    ended: Option<Time>,
}

/// A window of maintenance, as the page shows it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PageMaintenance {
    /// Public ids of the monitors that it is about.
    monitors: Vec<String>,
    /// Null while it goes on.
    from: Option<Time>,
    until: Time,
}

/// What the page's owner says.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PageMessage {
    title: String,
    text: String,
    at: Time,
    until: Option<Time>,
    /// What there was to say later, newest first.
    updates: Vec<PageUpdate>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PageUpdate {
    at: Time,
    text: String,
}

impl StatusPage {
    /// Of what the page shows.
    pub(super) fn of(view: &View) -> Self {
        let incidents = |all: &[super::view::Trouble]| all.iter().map(incident).collect();
        Self {
            name: view.slug.clone(),
            title: view.title.clone(),
            description: view.description.clone(),
            status: overall(view.overall),
            sentence: Words::of(view.language).overall(view.overall),
            as_of: Time(view.now),
            groups: view
                .groups
                .iter()
                .map(|group| PageGroup { name: group.name.clone(), monitors: group.monitors.iter().map(monitor).collect() })
                .collect(),
            incidents: incidents(&view.open),
            past_incidents: incidents(&view.past),
            maintenance: view
                .work
                .iter()
                .map(|work| PageMaintenance { monitors: work.monitors.clone(), from: work.from.map(Time), until: Time(work.until) })
                .collect(),
            messages: view
                .messages
                .iter()
                .map(|one| PageMessage {
                    title: one.title.clone(),
                    text: one.text.clone(),
                    at: Time(one.at),
                    until: one.until.map(Time),
                    updates: one.updates.iter().map(|later| PageUpdate { at: Time(later.at), text: later.text.clone() }).collect(),
                })
                .collect(),
        }
    }
}

fn monitor(line: &Line) -> PageMonitor {
    let days = line.bars.iter().zip(0..).map(|(day, nth)| {
        let down = line.outages.iter().find(|(known, _)| *known == nth).map_or(Dur::ZERO, |(_, down)| *down);
        PageDay { status: day_word(*day), down_seconds: down.0 as f64 / 1e6 }
    });
    PageMonitor {
        uid: line.uid.clone(),
        title: line.title.clone(),
        status: state(line.state),
        since: line.since.map(Time),
        uptime_percent: line.uptime,
        uptime_24h_percent: line.recent,
        days: days.collect(),
    }
}

fn incident(trouble: &super::view::Trouble) -> PageIncident {
    PageIncident {
        uid: trouble.uid.clone(),
        monitor: trouble.monitor_uid.clone(),
        title: trouble.title.clone(),
        impact: match trouble.impact {
            Impact::Outage => "outage",
            Impact::Unsteady => "unsteady",
            Impact::Slow => "slow",
        },
        began: Time(trouble.began),
        acknowledged: trouble.taken.map(Time),
        ended: trouble.ended.map(Time),
    }
}

const fn overall(overall: Overall) -> &'static str {
    match overall {
        Overall::Empty => "empty",
        Overall::Operational => "operational",
        Overall::Maintenance => "maintenance",
        Overall::Unknown => "unknown",
        Overall::Degraded => "degraded",
        Overall::Partial => "partial_outage",
        Overall::Major => "major_outage",
    }
}

const fn state(state: State) -> &'static str {
    match state {
        State::Operational => "operational",
        State::Degraded => "degraded",
        State::Outage => "outage",
        State::Unknown => "unknown",
        State::Maintenance => "maintenance",
        State::Paused => "paused",
    }
}

const fn day_word(day: Day) -> &'static str {
    match day {
        Day::None => "none",
        Day::Unknown => "unknown",
        Day::Up => "up",
        Day::Short => "short_outage",
        Day::Down => "outage",
    }
}
