//! The page in Uptime Kuma's form, for the widgets and apps that read it: `/api/status-page/{slug}` and `/api/status-page/heartbeat/{slug}`.
//!
//! Its ids are numbers. A heartbeat is a day, as in a Kuma that shows days, and the last one is how it is now. What it has no word for is
//! said in its nearest: a monitor that is not known or not checked is pending, one that is degraded is up.

use super::view::{Day, Impact, Line, State, View, Work};
use super::words::Words;
use crate::config::PageMessage;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use watchkeeper_core::{Dur, Micros};

/// What Kuma calls down, up, pending and maintenance.
const DOWN: u8 = 0;
const UP: u8 = 1;
const PENDING: u8 = 2;
const MAINTENANCE: u8 = 3;

/// A status page, as Uptime Kuma has it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct KumaPage {
    config: KumaConfig,
    /// The newest message, else the newest incident that lasts.
    incident: Option<KumaIncident>,
    public_group_list: Vec<KumaGroup>,
    maintenance_list: Vec<KumaMaintenance>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct KumaConfig {
    slug: String,
    title: String,
    description: Option<String>,
    icon: &'static str,
    theme: &'static str,
    published: bool,
    show_tags: bool,
    #[serde(rename = "customCSS")]
    custom_css: &'static str,
    footer_text: Option<String>,
    show_powered_by: bool,
    show_certificate_expiry: bool,
    auto_refresh_interval: u32,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct KumaIncident {
    id: i64,
    style: &'static str,
    title: String,
    content: String,
    pin: bool,
    created_date: String,
    last_updated_date: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct KumaGroup {
    id: i64,
    name: String,
    weight: i64,
    monitor_list: Vec<KumaMonitor>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct KumaMonitor {
    id: i64,
    name: String,
    send_url: u8,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct KumaMaintenance {
    id: i64,
    title: String,
    description: String,
    strategy: &'static str,
    active: bool,
    timeslot_list: Vec<KumaSlot>,
    timezone: &'static str,
    timezone_offset: &'static str,
    /// `under-maintenance` or `scheduled`.
    status: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct KumaSlot {
    start_date: String,
    end_date: String,
}

/// Heartbeats of a status page, as Uptime Kuma has them.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct KumaBeats {
    /// By the monitor's number, oldest first: 0 is down, 1 up, 2 pending, 3 maintenance.
    heartbeat_list: BTreeMap<String, Vec<KumaBeat>>,
    /// The part of the last 24 hours that a monitor was up, from 0 to 1, by its number with `_24` behind it.
    uptime_list: BTreeMap<String, f64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct KumaBeat {
    status: u8,
    time: String,
    msg: &'static str,
    /// Milliseconds.
    ping: Option<i64>,
}

impl KumaPage {
    /// Of what the page shows.
    pub(super) fn of(view: &View) -> Self {
        let words = Words::of(view.language);
        let groups = view.groups.iter().zip(1..).map(|(group, nth)| KumaGroup {
            id: nth,
            name: group.name.clone().unwrap_or_else(|| words.monitors.to_owned()),
            weight: nth,
            monitor_list: group
                .monitors
                .iter()
                .map(|line| KumaMonitor { id: line.id.0, name: line.title.clone(), send_url: 0, kind: "http" })
                .collect(),
        });
        Self {
            config: KumaConfig {
                slug: view.slug.clone(),
                title: view.title.clone(),
                description: view.description.clone(),
                icon: "",
                theme: "auto",
                published: true,
                show_tags: false,
                custom_css: "",
                footer_text: None,
                show_powered_by: false,
                show_certificate_expiry: false,
                auto_refresh_interval: 300,
            },
            incident: view.messages.first().map(said).or_else(|| view.open.first().map(|trouble| seen(trouble, words))),
            public_group_list: groups.collect(),
            maintenance_list: view.work.iter().zip(1..).map(|(work, nth)| maintenance(work, nth, view.now, words)).collect(),
        }
    }
}

fn said(message: &PageMessage) -> KumaIncident {
    KumaIncident {
        id: 1,
        style: "info",
        title: message.title.clone(),
        // It has one text: the newest stands first in it.
        content: message.updates.iter().map(|later| &later.text).chain([&message.text]).cloned().collect::<Vec<_>>().join("\n\n"),
        pin: true,
        created_date: time(message.at),
        last_updated_date: message.updates.first().map(|later| time(later.at)),
    }
}

fn seen(trouble: &super::view::Trouble, words: &Words) -> KumaIncident {
    KumaIncident {
        id: 1,
        style: match trouble.impact {
            Impact::Outage => "danger",
            Impact::Unsteady | Impact::Slow => "warning",
        },
        title: format!("{}: {}", trouble.title, words.impact(trouble.impact)),
        content: crate::channel::words::fill(words.began, &[("time", &words.time_utc(trouble.began))]),
        pin: true,
        created_date: time(trouble.began),
        last_updated_date: trouble.taken.map(time),
    }
}

fn maintenance(work: &Work, id: i64, now: Micros, words: &Words) -> KumaMaintenance {
    let slot = KumaSlot { start_date: time(work.from.unwrap_or(now)), end_date: time(work.until) };
    KumaMaintenance {
        id,
        title: format!("{}: {}", words.work, work.titles.join(", ")),
        description: String::new(),
        strategy: "single",
        active: true,
        timeslot_list: vec![slot],
        timezone: "UTC",
        timezone_offset: "+00:00",
        status: if work.from.is_some() { "scheduled" } else { "under-maintenance" },
    }
}

impl KumaBeats {
    /// Of what the page shows.
    pub(super) fn of(view: &View) -> Self {
        let lines = view.lines();
        let uptime = |line: &&Line| line.recent.map(|percent| (format!("{}_24", line.id.0), percent / 100.0));
        Self {
            heartbeat_list: lines.iter().map(|line| (line.id.0.to_string(), beats(line, view))).collect(),
            uptime_list: lines.iter().filter_map(uptime).collect(),
        }
    }
}

fn beats(line: &Line, view: &View) -> Vec<KumaBeat> {
    let past = line.bars.iter().zip(1..).filter_map(|(day, nth)| {
        let end = view.from + Dur(nth * 86_400_000_000);
        let status = match day {
            Day::None => return None,
            Day::Unknown => PENDING,
            Day::Up => UP,
            Day::Short | Day::Down => DOWN,
        };
        (end <= view.now).then(|| KumaBeat { status, time: time(end), msg: "", ping: None })
    });
    let now = match line.state {
        State::Operational | State::Degraded => UP,
        State::Outage => DOWN,
        State::Unknown | State::Paused => PENDING,
        State::Maintenance => MAINTENANCE,
    };
    let now = KumaBeat { status: now, time: time(view.now), msg: "", ping: line.ping_us.map(|us| (us + 500) / 1_000) };
    past.chain([now]).collect()
}

/// `2026-11-30 12:00:00.000`, in UTC.
fn time(at: Micros) -> String {
    Timestamp::from_millisecond(at.0.div_euclid(1_000)).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_kuma_writes_them() {
        assert_eq!(time(Micros(1_796_053_508_012_999)), "2026-11-30 15:45:08.012");
    }
}
