//! `watchkeeper incident …`: what is wrong now, everything about one incident, and what a person does about it.

use super::client::Client;
use super::ids::pick;
use super::page;
use super::term::{Ink, View, cut, length, pad, safe_line};
use crate::short_id::short;
use crate::web::types::{Done, Incident, Monitor, Order, Page};
use anyhow::Context as _;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use watchkeeper_core::verdict::Action;

/// A page of the API, as large as it gives.
const PAGE: &str = "500";

/// So many incidents are looked through for a part of an id. Older ones are found by their whole id; looking further would
/// keep a person waiting.
const LOOKED_THROUGH: usize = 5_000;

/// An action is folded within a moment by the node that decides for the monitor. So long is waited for it; then the person
/// is told that it is recorded and not yet done.
const DONE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is open or acknowledged; with `all` also what is over, up to one page.
pub async fn list(client: &Client, all: bool, json: bool, view: &View) -> anyhow::Result<String> {
    let listed =
        if all { client.page("/api/v1/incidents", &[("limit", PAGE)]).await? } else { Page { items: lasting(client).await?, next: None } };
    if json { as_json(&listed) } else { Ok(table(&listed, all, view)) }
}

/// One incident: a page for a person, or what the API says.
pub async fn show(client: &Client, part: &str, json: bool, view: &View) -> anyhow::Result<String> {
    let incident = find(client, part).await?;
    if json {
        return as_json(&incident);
    }
    // The monitor may be gone by now; the page then does without it.
    let monitor: Option<Monitor> = client.find(&format!("/api/v1/monitors/{}", incident.monitor.uid)).await?;
    Ok(page::draw(&incident, monitor.as_ref(), view))
}

/// Does something about an open incident, and waits a little until it is done.
pub async fn act(client: &Client, part: &str, action: Action, comment: Option<String>) -> anyhow::Result<String> {
    let open = lasting(client).await?;
    let incident = pick(&open, part, "open incident", named)?;
    let path = format!("/api/v1/incidents/{}", incident.uid);
    let _: Done = client.post(&format!("{path}/{}", action.as_str()), &Order { comment }).await?;
    let what = format!("{} · {}", safe_line(&incident.monitor.name), safe_line(&incident.rule));
    let began = Instant::now();
    while began.elapsed() < DONE_WITHIN {
        let now: Incident = client.get(&path, &[]).await?;
        let done = match action {
            Action::Acknowledge => now.status != "open",
            Action::Unacknowledge => now.status != "acknowledged",
            Action::Resolve => now.status == "resolved",
        };
        if done {
            return Ok(format!("{what} is {}\n", now.status));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(format!("recorded, but {what} is not changed yet: no node has decided about it within {} s\n", DONE_WITHIN.as_secs()))
}

/// Open and acknowledged incidents, newest first.
pub async fn lasting(client: &Client) -> anyhow::Result<Vec<Incident>> {
    let mut incidents: Vec<Incident> = Vec::new();
    for status in ["open", "acknowledged"] {
        incidents.extend(client.all::<Incident>("/api/v1/incidents", &[("limit", PAGE), ("status", status)], "before").await?);
    }
    incidents.sort_by_key(|incident| std::cmp::Reverse(incident.opened_at));
    // One that was acknowledged between the two questions is in both answers.
    let mut seen = std::collections::HashSet::new();
    incidents.retain(|incident| seen.insert(incident.uid.clone()));
    Ok(incidents)
}

/// One incident by its id or a part of it.
async fn find(client: &Client, part: &str) -> anyhow::Result<Incident> {
    let uid = if let Ok(whole) = uuid::Uuid::try_parse(part.trim()) {
        whole.to_string()
    } else {
        let newest = newest(client).await?;
        pick(&newest, part, "incident", named)?.uid.clone()
    };
    let found = client.find(&format!("/api/v1/incidents/{uid}")).await?;
    found.with_context(|| format!("there is no incident {uid}"))
}

/// The newest incidents, so many as are looked through.
async fn newest(client: &Client) -> anyhow::Result<Vec<Incident>> {
    let (mut incidents, mut next) = (Vec::new(), None::<String>);
    while incidents.len() < LOOKED_THROUGH {
        let mut query = vec![("limit", PAGE)];
        query.extend(next.as_deref().map(|place| ("before", place)));
        let page = client.page::<Incident>("/api/v1/incidents", &query).await?;
        incidents.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    Ok(incidents)
}

fn named(incident: &Incident) -> (&str, String) {
    (&incident.uid, format!("{} · {} ({})", safe_line(&incident.monitor.name), safe_line(&incident.rule), incident.status))
}

/// A value as one JSON document.
pub fn as_json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value).context("the answer makes no JSON")? + "\n")
}

fn table(listed: &Page<Incident>, all: bool, view: &View) -> String {
    if listed.items.is_empty() {
        return if all { "There has been no incident.\n" } else { "No incident is open.\n" }.to_owned();
    }
    let term = view.term;
    let titles = format!("{:<8}  {:<8}  {:<12}  {:>8}  {}", "id", "severity", "status", "age", "what");
    let mut out = format!("{}\n", term.paint(Ink::Bold, &titles));
    for incident in &listed.items {
        let ink = match incident.status.as_str() {
            "resolved" => Ink::Green,
            "acknowledged" => Ink::Yellow,
            // Also a word of a newer server.
            _ => Ink::Red,
        };
        let ago = length(view.now - incident.opened_at.0);
        let room = term.beside(8 + 2 + 8 + 2 + 12 + 2 + 8 + 2);
        let what = format!("{} · {}: {}", incident.monitor.name, incident.rule, incident.summary);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}  {}  {}  {ago:>8}  {}",
            pad(short(&incident.uid), 8),
            pad(&cut(&incident.severity, 8), 8),
            term.paint(ink, &pad(&cut(&incident.status, 12), 12)),
            cut(&safe_line(&what), room)
        );
    }
    if listed.next.is_some() {
        out.push_str("Older ones are not shown.\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::page::tests::{NOW, incident, plain};
    use crate::web::types::Time;
    use watchkeeper_core::Dur;

    #[test]
    fn the_list_shows_short_ids_and_what_is_wrong() {
        let over = Incident {
            uid: "019aa2b4-7e0c-7d3a-8888-000000000001".into(),
            status: "resolved".into(),
            severity: "warning".into(),
            opened_at: Time(NOW - Dur::secs(190_000)),
            ..incident()
        };
        let text = table(&Page { items: vec![incident(), over], next: Some("older".into()) }, true, &plain());
        insta::assert_snapshot!(text, @"
        id        severity  status             age  what
        6c1b2a3e  critical  open            7m 53s  shop · down: HTTP status 503 instead of 200-299
        00000001  warning   resolved         2d 4h  shop · down: HTTP status 503 instead of 200-299
        Older ones are not shown.
        ");
        assert_eq!(table(&Page { items: vec![], next: None }, false, &plain()), "No incident is open.\n");
    }
}
