//! What a message says to a person, pure: the same words go to a chat, into a webhook's `text` and onto the terminal.
//!
//! It is read at 3 in the morning on a telephone. The first line alone must tell what is wrong with what; then why,
//! where, since when, and who saw it. Nothing is told as well again that merely stopped being watched.

use super::Message;
use crate::config::decode::show_duration;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{Dur, Micros, Severity};

/// No line is longer, in characters. Longer ones push the other lines off a telephone's screen; shorter ones cut
/// error texts before the part that matters.
const LINE_MAX: usize = 500;
/// No more labels are shown; the rest is counted.
const LABELS_MAX: usize = 8;

/// A title, which is shown in bold where that exists, and lines below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What is wrong with what.
    pub title: String,
    /// Why, where, since when, who saw it, which incident.
    pub lines: Vec<String>,
}

impl Text {
    /// As plain text, without a newline at the end.
    pub fn plain(&self) -> String {
        let mut out = self.title.clone();
        for line in &self.lines {
            out.push('\n');
            out.push_str(line);
        }
        out
    }
}

/// The words of one message.
pub fn text(message: &Message) -> Text {
    let mut lines = Vec::new();
    match message.event {
        None => {
            lines.push(message.summary.clone());
            lines.push(format!("Sent at {}", moment(message.opened_at)));
        }
        Some(event) => {
            lines.extend(why(message));
            if !message.target.is_empty() {
                lines.push(message.target.clone());
            }
            lines.push(when(message, event));
            lines.extend(seen_by(message));
            lines.extend(belonging(message));
            lines.push(format!("Incident {}", message.incident));
        }
    }
    Text { title: one_line(&title(message)), lines: lines.iter().map(|l| one_line(l)).collect() }
}

/// Rules by what they mean to a reader; a rule with a name of its own is called by it.
enum Meaning<'a> {
    Down,
    Slow(Option<&'a str>),
    SslExpiry,
    MissedPush,
    Blind,
    Named(&'a str),
}

fn meaning(rule: &str) -> Meaning<'_> {
    match rule.split_once('/').map_or((rule, None), |(kind, phase)| (kind, Some(phase))) {
        ("down", None) => Meaning::Down,
        ("slow_response", phase) => Meaning::Slow(phase.filter(|p| *p != "total")),
        ("ssl_expiry", None) => Meaning::SslExpiry,
        ("missed_push", None) => Meaning::MissedPush,
        ("blind", None) => Meaning::Blind,
        _ => Meaning::Named(rule),
    }
}

fn title(message: &Message) -> String {
    let name = &message.monitor;
    let meaning = meaning(&message.rule);
    match message.event {
        None => "🔔 Test message from Watchkeeper".to_owned(),
        Some(NoticeEvent::Opened) => {
            let mark = match (&meaning, message.severity) {
                (Meaning::Blind, _) => "❓",
                (_, Severity::Critical) => "🔴",
                (_, Severity::Warning) => "🟠",
                (_, Severity::Info) => "🔵",
            };
            let what = match meaning {
                Meaning::Down => "is down".to_owned(),
                Meaning::Slow(None) => "is slow".to_owned(),
                Meaning::Slow(Some(phase)) => format!("is slow ({})", phase.replace('_', " ")),
                Meaning::SslExpiry if message.reason.as_deref() == Some("tls_expired") => "has an expired certificate".to_owned(),
                Meaning::SslExpiry => "needs a new certificate".to_owned(),
                Meaning::MissedPush => "did not report in time".to_owned(),
                Meaning::Blind => "cannot be checked".to_owned(),
                Meaning::Named(rule) => format!("breaks the rule {rule}"),
            };
            format!("{mark} {name} {what}")
        }
        Some(NoticeEvent::Resolved) => match message.resolved_why.as_deref() {
            Some("retired") => format!("⚪ {name} is no longer watched"),
            Some("rule_removed") => format!("⚪ {name} is no longer watched for {}", message.rule),
            _ => {
                let what = match meaning {
                    Meaning::Down => "is up again".to_owned(),
                    Meaning::Slow(None) => "is fast again".to_owned(),
                    Meaning::Slow(Some(phase)) => format!("is fast again ({})", phase.replace('_', " ")),
                    Meaning::SslExpiry => "has a good certificate again".to_owned(),
                    Meaning::MissedPush => "reports again".to_owned(),
                    Meaning::Blind => "can be checked again".to_owned(),
                    Meaning::Named(rule) => format!("keeps the rule {rule} again"),
                };
                format!("🟢 {name} {what}")
            }
        },
    }
}

/// The summary, and the probe's own words if they add to it.
fn why(message: &Message) -> Vec<String> {
    let mut lines = Vec::new();
    if !message.summary.is_empty() {
        lines.push(message.summary.clone());
    }
    if let Some(detail) = message.detail.as_deref().filter(|d| !d.is_empty() && !message.summary.contains(d)) {
        lines.push(detail.to_owned());
    }
    lines
}

fn when(message: &Message, event: NoticeEvent) -> String {
    match (event, message.resolved_at) {
        (NoticeEvent::Resolved, Some(end)) => {
            let was = match meaning(&message.rule) {
                Meaning::Down => "Was down",
                Meaning::Slow(_) => "Was slow",
                Meaning::SslExpiry | Meaning::MissedPush | Meaning::Blind | Meaning::Named(_) => "Lasted",
            };
            format!("{was} {}, since {}", rough(end - message.opened_at), moment(message.opened_at))
        }
        (NoticeEvent::Opened | NoticeEvent::Resolved, _) => format!("Since {}", moment(message.opened_at)),
    }
}

fn seen_by(message: &Message) -> Option<String> {
    let seen: Vec<String> = message.seen_by.iter().map(|(place, health)| format!("{place} ({health})")).collect();
    (!seen.is_empty()).then(|| format!("Seen from {}", seen.join(", ")))
}

/// Labels, and the tenant if it is not the only one.
fn belonging(message: &Message) -> Option<String> {
    let mut parts: Vec<String> = message.labels.iter().take(LABELS_MAX).map(|(k, v)| format!("{k}={v}")).collect();
    let more = message.labels.len().saturating_sub(LABELS_MAX);
    if more > 0 {
        parts.push(format!("and {more} more labels"));
    }
    if !matches!(message.tenant.as_str(), "" | "default") {
        parts.insert(0, format!("tenant={}", message.tenant));
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// Names and error texts come from outside: control characters become spaces, and what is too long is cut.
fn one_line(line: &str) -> String {
    let mut out: String = line.chars().take(LINE_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().nth(LINE_MAX).is_some() {
        out.pop();
        out.push('…');
    }
    out
}

/// `03:12:07 UTC, 22 Nov 2026`.
fn moment(at: Micros) -> String {
    utc(at).map_or_else(String::new, |t| t.strftime("%H:%M:%S UTC, %-d %b %Y").to_string())
}

/// `2026-11-22T03:12:07.123456Z`, as documents for machines have it.
pub fn iso(at: Micros) -> String {
    utc(at).map_or_else(String::new, |t| t.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

/// `None` outside of the years that a calendar has.
fn utc(at: Micros) -> Option<jiff::Zoned> {
    Timestamp::from_microsecond(at.0).ok().map(|t| t.to_zoned(TimeZone::UTC))
}

/// A length of time in its two largest units: `3m12s`, `2d4h`, `850ms`.
fn rough(length: Dur) -> String {
    let exact = length.0.max(0);
    let step = match exact {
        0..1_000_000 => 1_000,
        1_000_000..3_600_000_000 => 1_000_000,
        3_600_000_000..86_400_000_000 => 60_000_000,
        _ => 3_600_000_000,
    };
    show_duration(Dur(exact / step * step))
}

/// Cuts a text to `max` UTF-16 units, the way chat services count, with `…` in place of the rest.
pub fn cut_utf16(line: &str, max: usize) -> String {
    if line.encode_utf16().count() <= max {
        return line.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in line.chars() {
        used += c.len_utf16();
        if used > max {
            break;
        }
        let _ = out.write_char(c);
    }
    if max > 0 {
        out.push('…');
    }
    out
}
