//! The page in Statuspage's form, version 2: `summary.json` and `status.json`, for what reads the status of a hundred other services the same way.

use super::super::types::Time;
use super::view::{Impact, Line, Overall, State, Trouble, View, Work};
use super::words::Words;
use serde::Serialize;

/// `status.json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct PageStatus {
    page: About,
    status: Indicator,
}

/// `summary.json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct PageSummary {
    page: About,
    status: Indicator,
    components: Vec<Component>,
    /// Those that last.
    incidents: Vec<SummaryIncident>,
    scheduled_maintenances: Vec<SummaryMaintenance>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct About {
    id: String,
    name: String,
    url: String,
    time_zone: &'static str,
    updated_at: Time,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Indicator {
    /// `none`, `minor`, `major`, `critical`, `maintenance`.
    indicator: &'static str,
    description: &'static str,
}

#[derive(Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename = "PageComponent")]
struct Component {
    id: String,
    name: String,
    /// `operational`, `degraded_performance`, `major_outage`, `under_maintenance`.
    status: &'static str,
    created_at: Time,
    updated_at: Time,
    position: usize,
    description: Option<String>,
    showcase: bool,
    start_date: Option<String>,
    group_id: Option<String>,
    page_id: String,
    group: bool,
    only_show_if_degraded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    components: Option<Vec<String>>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SummaryIncident {
    id: String,
    name: String,
    /// `investigating`, or `identified` since somebody is on it.
    status: &'static str,
    /// `minor` or `major`.
    impact: &'static str,
    created_at: Time,
    started_at: Time,
    updated_at: Time,
    monitoring_at: Option<Time>,
    resolved_at: Option<Time>,
    shortlink: String,
    page_id: String,
    incident_updates: Vec<Update>,
    components: Vec<Component>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename = "IncidentUpdate")]
struct Update {
    id: String,
    status: &'static str,
    body: String,
    incident_id: String,
    created_at: Time,
    updated_at: Time,
    display_at: Time,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SummaryMaintenance {
    id: String,
    name: String,
    /// `scheduled` or `in_progress`.
    status: &'static str,
    impact: &'static str,
    scheduled_for: Time,
    scheduled_until: Time,
    created_at: Time,
    updated_at: Time,
    resolved_at: Option<Time>,
    shortlink: String,
    page_id: String,
    incident_updates: Vec<Update>,
    components: Vec<Component>,
}

impl PageStatus {
    /// Of what the page shows; `url` is where people find it.
    pub(super) fn of(view: &View, url: &str) -> Self {
        Self { page: about(view, url), status: indicator(view) }
    }
}

impl PageSummary {
    /// Of what the page shows; `url` is where people find it.
    pub(super) fn of(view: &View, url: &str) -> Self {
        let components = components(view);
        Self {
            page: about(view, url),
            status: indicator(view),
            incidents: view.open.iter().map(|trouble| incident(view, trouble, &components, url)).collect(),
            scheduled_maintenances: view.work.iter().map(|work| maintenance(view, work, &components, url)).collect(),
            components,
        }
    }
}

fn about(view: &View, url: &str) -> About {
    About { id: view.slug.clone(), name: view.title.clone(), url: url.to_owned(), time_zone: "Etc/UTC", updated_at: Time(view.now) }
}

fn indicator(view: &View) -> Indicator {
    let indicator = match view.overall {
        Overall::Empty | Overall::Operational => "none",
        Overall::Maintenance => "maintenance",
        Overall::Unknown | Overall::Degraded => "minor",
        Overall::Partial => "major",
        Overall::Major => "critical",
    };
    Indicator { indicator, description: Words::of(view.language).overall(view.overall) }
}

/// Groups and what is in them. A monitor in two groups is two components, as Statuspage's are in one group only.
fn components(view: &View) -> Vec<Component> {
    let mut all = Vec::new();
    for (group, nth) in view.groups.iter().zip(1_usize..) {
        let group_id = group.name.as_ref().map(|_| format!("{}-group-{nth}", view.slug));
        let id_of = |line: &Line| if nth == 1 { line.uid.clone() } else { format!("{}-{nth}", line.uid) };
        if let (Some(id), Some(name)) = (&group_id, &group.name) {
            all.push(Component {
                id: id.clone(),
                name: name.clone(),
                status: worst(&group.monitors),
                created_at: group.monitors.iter().map(|line| Time(line.created_at)).min().unwrap_or(Time(view.now)),
                updated_at: Time(view.now),
                position: nth,
                description: None,
                showcase: false,
                start_date: None,
                group_id: None,
                page_id: view.slug.clone(),
                group: true,
                only_show_if_degraded: false,
                components: Some(group.monitors.iter().map(id_of).collect()),
            });
        }
        all.extend(group.monitors.iter().zip(1..).map(|(line, position)| Component {
            id: id_of(line),
            name: line.title.clone(),
            status: status(line.state),
            created_at: Time(line.created_at),
            updated_at: Time(line.since.unwrap_or(view.now)),
            position,
            description: None,
            showcase: true,
            start_date: None,
            group_id: group_id.clone(),
            page_id: view.slug.clone(),
            group: false,
            only_show_if_degraded: false,
            components: None,
        }));
    }
    all
}

/// It has no word for what is not known, nor for what is not checked. Neither is operational.
const fn status(state: State) -> &'static str {
    match state {
        State::Operational => "operational",
        State::Degraded | State::Unknown => "degraded_performance",
        State::Outage => "major_outage",
        State::Maintenance | State::Paused => "under_maintenance",
    }
}

/// Of a group: `partial_outage` if some are out and some are not.
fn worst(lines: &[Line]) -> &'static str {
    let has = |state| lines.iter().any(|line| line.state == state);
    if has(State::Outage) {
        if lines.iter().all(|line| line.state == State::Outage) { "major_outage" } else { "partial_outage" }
    } else if has(State::Degraded) || has(State::Unknown) {
        "degraded_performance"
    } else if has(State::Maintenance) {
        "under_maintenance"
    } else {
        "operational"
    }
}

fn incident(view: &View, trouble: &Trouble, components: &[Component], url: &str) -> SummaryIncident {
    let words = Words::of(view.language);
    let name = format!("{}: {}", trouble.title, words.impact(trouble.impact));
    let update = |status: &'static str, at, body: String| Update {
        id: format!("{}-{status}", trouble.uid),
        status,
        body,
        incident_id: trouble.uid.clone(),
        created_at: Time(at),
        updated_at: Time(at),
        display_at: Time(at),
    };
    let filled = |pattern, at| crate::channel::words::fill(pattern, &[("time", &words.time_utc(at))]);
    let taken = trouble.taken.map(|at| update("identified", at, filled(words.taken, at)));
    let began = update("investigating", trouble.began, filled(words.began, trouble.began));
    SummaryIncident {
        id: trouble.uid.clone(),
        name,
        status: if trouble.taken.is_some() { "identified" } else { "investigating" },
        impact: match trouble.impact {
            Impact::Outage => "major",
            Impact::Unsteady | Impact::Slow => "minor",
        },
        created_at: Time(trouble.began),
        started_at: Time(trouble.began),
        updated_at: Time(trouble.taken.unwrap_or(trouble.began)),
        monitoring_at: None,
        resolved_at: trouble.ended.map(Time),
        shortlink: url.to_owned(),
        page_id: view.slug.clone(),
        incident_updates: taken.into_iter().chain([began]).collect(),
        components: about_of(components, std::slice::from_ref(&trouble.monitor_uid)),
    }
}

fn maintenance(view: &View, work: &Work, components: &[Component], url: &str) -> SummaryMaintenance {
    let from = work.from.unwrap_or(view.now);
    SummaryMaintenance {
        id: format!("{}-work-{}", view.slug, work.until.0),
        name: format!("{}: {}", Words::of(view.language).work, work.titles.join(", ")),
        status: if work.from.is_some() { "scheduled" } else { "in_progress" },
        impact: "maintenance",
        scheduled_for: Time(from),
        scheduled_until: Time(work.until),
        created_at: Time(from),
        updated_at: Time(from),
        resolved_at: None,
        shortlink: url.to_owned(),
        page_id: view.slug.clone(),
        incident_updates: Vec::new(),
        components: about_of(components, &work.monitors),
    }
}

/// The components of these monitors.
fn about_of(components: &[Component], monitors: &[String]) -> Vec<Component> {
    components
        .iter()
        .filter(|one| !one.group)
        .filter(|component| monitors.iter().any(|uid| component.id.starts_with(uid.as_str())))
        .cloned()
        .collect()
}
