//! One incident as a page: what is wrong and since when, what was seen, what happened, and who was told, who was not, and why.
//!
//! It is read at three in the morning: the first line alone says what is wrong with what, and every question that follows has
//! its place. Pure: what the API said goes in, text comes out. It shows facts and decides nothing.

use super::term::{Ink, Term, View, cut, length, moment, moment_near, pad, safe_line};
use super::waterfall::{self, wrap};
use crate::probe::Attempt;
use crate::short_id::short;
use crate::web::types::{Entry, Incident, Monitor, Notice};
use std::fmt::Write as _;
use watchkeeper_core::Dur;

/// Columns of the labels in the head.
const LABEL: usize = 10;
/// Columns of the kind of an entry of the timeline.
const KIND: usize = 14;
/// Columns of a channel's name at most, on a terminal: longer ones are cut, so that there is room for why.
const CHANNEL_MAX: usize = 20;
/// Columns of the word that was to be told.
const EVENT: usize = 14;

/// The whole page, ending with a newline.
pub fn draw(incident: &Incident, monitor: Option<&Monitor>, view: &View) -> String {
    let mut out = String::new();
    headline(&mut out, incident, view);
    facts(&mut out, incident, monitor, view);
    if let Some(attempt) = evidence(incident) {
        title(&mut out, "What was seen", view.term);
        let what = attempt.hops.first().map_or(incident.monitor.name.as_str(), |hop| hop.url.as_str());
        out.push_str(&waterfall::draw(&attempt, what, view.term));
    }
    title(&mut out, "What happened", view.term);
    for entry in incident.timeline.iter().flatten() {
        happened(&mut out, entry, incident, view);
    }
    title(&mut out, "Who was told, who was not, and why", view.term);
    let notices = incident.notices.as_deref().unwrap_or_default();
    for text in incident.routed_by.iter().map(|chosen| format!("whom to tell: {}", safe_line(chosen))) {
        for part in wrap(&text, view.term.columns - 2) {
            line(&mut out, &format!("  {part}"));
        }
    }
    if notices.is_empty() {
        line(&mut out, "  nobody: that is no channel at all");
    }
    let widest = notices.iter().map(|notice| notice.channel.chars().count()).max().unwrap_or_default();
    let widest = if view.term.table.is_some() { widest.min(CHANNEL_MAX) } else { widest };
    for notice in notices {
        told(&mut out, notice, widest, incident, view);
    }
    hint(&mut out, incident, view.term);
    out
}

/// `✖ shop · down: critical, open for 3m 7s`, and why.
fn headline(out: &mut String, incident: &Incident, view: &View) {
    let (mark, ink) = match incident.status.as_str() {
        "resolved" => ("✔", Ink::Green),
        "acknowledged" => ("◐", Ink::Yellow),
        // Also a word of a newer server: worth a look.
        _ => ("✖", Ink::Red),
    };
    let state = match (incident.resolved_at, &incident.acknowledged_by) {
        (Some(end), _) => format!("over after {}", length(end.0 - incident.opened_at.0)),
        (None, Some(who)) => format!("for {}, acknowledged by {}", lasts(incident, view), safe_line(who)),
        (None, None) => format!("for {}, not acknowledged", lasts(incident, view)),
    };
    let what = format!("{mark} {} · {}", safe_line(&incident.monitor.name), safe_line(&incident.rule));
    line(out, &format!("{}  {}, {state}", view.term.paint(ink, &what), safe_line(&incident.severity)));
    let why = incident.reason.as_deref().map(|reason| format!(" ({})", safe_line(reason))).unwrap_or_default();
    for part in wrap(&format!("{}{why}", safe_line(&incident.summary)), view.term.columns - 2) {
        line(out, &format!("  {part}"));
    }
}

fn lasts(incident: &Incident, view: &View) -> String {
    length(view.now - incident.opened_at.0)
}

/// What it is about, a line each.
fn facts(out: &mut String, incident: &Incident, monitor: Option<&Monitor>, view: &View) {
    line(out, "");
    let mut fact = |label: &str, text: &str| {
        for (nth, part) in wrap(text, view.term.columns.saturating_sub(LABEL + 4)).into_iter().enumerate() {
            let label = if nth == 0 { label } else { "" };
            line(out, &format!("  {}  {part}", view.term.paint(Ink::Dim, &pad(label, LABEL))));
        }
    };
    fact("incident", &incident.uid);
    match monitor {
        Some(monitor) => {
            fact("monitor", &format!("{} {} {}", safe_line(&monitor.name), safe_line(&monitor.kind), safe_line(&monitor.target)));
            let labels: Vec<String> = monitor.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            if !labels.is_empty() {
                fact("labels", &safe_line(&labels.join(" ")));
            }
            fact("now", &now(monitor, view));
        }
        None => fact("monitor", &format!("{}, which is no longer watched", safe_line(&incident.monitor.name))),
    }
    fact("began", &format!("{}, {} ago", moment(incident.opened_at.0, &view.zone), lasts(incident, view)));
    if let Some(end) = incident.resolved_at {
        let why = incident.resolved_why.as_deref().map(|why| format!(": {}", why_over(why))).unwrap_or_default();
        fact("ended", &format!("{}{why}", moment(end.0, &view.zone)));
    }
    if let (Some(who), Some(at)) = (&incident.acknowledged_by, incident.acknowledged_at) {
        fact("taken on", &format!("by {} at {}", safe_line(who), moment(at.0, &view.zone)));
    }
}

/// What is true of the monitor now, and what keeps it from being told.
fn now(monitor: &Monitor, view: &View) -> String {
    let mut text = monitor.health.clone();
    if monitor.paused {
        text = format!("paused, last {text}");
    }
    if let Some(since) = monitor.since {
        let _ = write!(text, " for {}", length(view.now - since.0));
    }
    if let Some(why) = monitor.why.as_deref().filter(|_| monitor.health != "up") {
        let _ = write!(text, " ({why})");
    }
    if !monitor.flapping.is_empty() {
        let _ = write!(text, ", flapping ({})", monitor.flapping.join(", "));
    }
    for mute in &monitor.mutes {
        let comment = mute.comment.as_deref().map(|comment| format!(" ({comment})")).unwrap_or_default();
        let id = if mute.by == "silence" { short(&mute.id) } else { &mute.id };
        let _ = write!(text, "; {} {id} until {}{comment}", mute.by, moment_near(mute.until.0, view.now, &view.zone));
    }
    safe_line(&text)
}

fn why_over(why: &str) -> &str {
    match why {
        "recovered" => "it recovered",
        "rule_removed" => "its rule was taken out of the configuration",
        "retired" => "the monitor is no longer watched",
        "operator" => "a person ended it",
        // A word of a newer server.
        other => other,
    }
}

/// The attempt that decided, as it was kept with the opening. What this version cannot read is left out.
fn evidence(incident: &Incident) -> Option<Attempt> {
    let kept = incident.timeline.iter().flatten().find_map(|entry| entry.evidence.as_ref())?;
    serde_json::from_value(kept.clone()).ok()
}

/// One entry of the timeline.
fn happened(out: &mut String, entry: &Entry, incident: &Incident, view: &View) {
    let at = moment_near(entry.at.0, incident.opened_at.0, &view.zone);
    let who = entry.actor.as_deref().map(|actor| format!("{}: ", safe_line(actor))).unwrap_or_default();
    let ink = match entry.kind.as_str() {
        "opened" | "not_told" | "channels_failed" => Ink::Red,
        "resolved" => Ink::Green,
        "acknowledged" | "unacknowledged" | "escalated" | "held" => Ink::Yellow,
        // Also a word of a newer server.
        _ => Ink::Dim,
    };
    let kind = view.term.paint(ink, &pad(&cut(&entry.kind.replace('_', " "), KIND), KIND));
    let before = at.chars().count() + KIND + 6;
    // A person's words keep their lines.
    let mut parts = Vec::new();
    for text in format!("{who}{}", super::term::safe(&entry.text)).lines() {
        parts.extend(wrap(text, view.term.columns.saturating_sub(before).max(20)));
    }
    line(out, &format!("  {at}  {kind}  {}", parts.first().map_or("", String::as_str)));
    for part in parts.iter().skip(1) {
        line(out, &format!("{}{part}", " ".repeat(before)));
    }
}

/// What became of one notice.
fn told(out: &mut String, notice: &Notice, widest: usize, incident: &Incident, view: &View) {
    let near = |at: crate::web::types::Time| moment_near(at.0, incident.opened_at.0, &view.zone);
    let error = |lead: &str| notice.last_error.as_deref().map(|error| format!("{lead}{}", safe_line(error))).unwrap_or_default();
    let why = |lead: &str| notice.why.as_deref().map(|why| format!("{lead}{}", safe_line(why))).unwrap_or_default();
    let next = |lead: &str| notice.next_at.map(|at| format!("{lead}{}", near(at))).unwrap_or_default();
    let attempts = if notice.attempts == 1 { "1 attempt".to_owned() } else { format!("{} attempts", notice.attempts) };
    let (mark, ink, text) = match notice.state.as_str() {
        "sent" => {
            let at = notice.sent_at.unwrap_or(notice.created_at);
            let after = soon(at.0 - notice.created_at.0);
            ("✔", Ink::Green, format!("told at {}, {after} after it was decided{}", near(at), why("; held before: ")))
        }
        "held" => ("‖", Ink::Yellow, format!("held{}{}", why(": "), next("; looked at again at "))),
        "suppressed" => ("–", Ink::Dim, format!("not told{}", why(": "))),
        "dead" => ("✖", Ink::Red, format!("given up after {attempts}{}; see watchkeeper dead-letters", error(": "))),
        "sending" => ("…", Ink::Yellow, format!("is being sent, {attempts} begun{}", error(", the last failed: "))),
        "due" if notice.attempts > 0 => ("…", Ink::Yellow, format!("waits after {attempts}{}{}", next(", next at "), error(": "))),
        "due" => ("…", Ink::Yellow, format!("waits for its turn{}{}", next(" since "), why(": "))),
        // A word of a newer server.
        other => ("?", Ink::Dim, format!("{}{}{}", safe_line(other), why(": "), error(": "))),
    };
    let head = format!("{mark} {}  {}", pad(&cut(&safe_line(&notice.channel), widest), widest), pad(&cut(&notice.event, EVENT), EVENT));
    let before = head.chars().count() + 4;
    let parts = wrap(&text, view.term.columns.saturating_sub(before).max(20));
    line(out, &format!("  {}  {}", view.term.paint(ink, &head), parts.first().map_or("", String::as_str)));
    for part in parts.iter().skip(1) {
        line(out, &format!("{}{part}", " ".repeat(before)));
    }
}

/// A short time with its parts of a second, a longer one without.
fn soon(after: Dur) -> String {
    let us = u64::try_from(after.0).unwrap_or_default();
    if us < 60_000_000 { super::term::time(us) } else { length(after) }
}

/// What can be done about it.
fn hint(out: &mut String, incident: &Incident, term: Term) {
    let id = short(&incident.uid);
    let text = match incident.status.as_str() {
        "resolved" => return,
        "acknowledged" => format!("  watchkeeper incident resolve {id}    or give it back: watchkeeper incident unack {id}"),
        // Also a word of a newer server.
        _ => format!("  watchkeeper incident ack {id}    to take it on: reminders and escalation stop"),
    };
    line(out, "");
    line(out, &term.paint(Ink::Dim, &text));
}

fn title(out: &mut String, text: &str, term: Term) {
    line(out, "");
    line(out, &term.paint(Ink::Bold, text));
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", text.trim_end());
}

#[cfg(test)]
pub(crate) mod tests;
