//! What a message says to a person, pure: the same words go to a chat, into a webhook's `text` and onto the terminal.
//!
//! It is read at 3 in the morning on a telephone. The first line alone must tell what is wrong with what; then why,
//! where, since when, and who saw it. Nothing is told as well again that merely stopped being watched.

use super::Message;
use super::content::Content;
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

/// The words of one delivery.
pub fn words(content: &Content) -> Text {
    let (title, lines) = match content {
        Content::Incident(message) => return text(message),
        Content::Digest(digest) => {
            (format!("{} incidents at once", digest.open + digest.resolved), digest.words.iter().map(title).collect())
        }
        Content::Report(report) => (format!("Status report {}", report.name), Vec::new()),
        Content::Node(word) => (format!("Node {} {}", word.node, word.event.as_str()), vec![word.summary.clone()]),
        Content::Test(test) => (
            "🔔 Test message from Watchkeeper".to_owned(),
            vec![format!("The channel {} works", test.channel), format!("Sent at {}", moment(test.at))],
        ),
    };
    Text { title: one_line(&title), lines: lines.iter().map(|l| one_line(l)).collect() }
}

/// The words of one message.
pub fn text(message: &Message) -> Text {
    let mut lines = Vec::new();
    let (why, when) = (why(message), when(message, message.event));
    match message.event {
        NoticeEvent::Opened | NoticeEvent::Reminded | NoticeEvent::Escalated | NoticeEvent::Acknowledged => {
            lines.extend(why.into_iter().chain([when]));
        }
        NoticeEvent::Resolved => lines.extend([when].into_iter().chain(why)),
    }
    if !message.target.is_empty() {
        lines.push(message.target.clone());
    }
    lines.extend(seen_by(message));
    lines.extend(belonging(message));
    lines.push(format!("Incident {}", message.incident));
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
        NoticeEvent::Acknowledged => format!("👀 {name}: {}", message.summary),
        NoticeEvent::Opened | NoticeEvent::Reminded | NoticeEvent::Escalated => {
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
                Meaning::SslExpiry => "needs a new certificate".to_owned(),
                Meaning::MissedPush => "did not report in time".to_owned(),
                Meaning::Blind => "cannot be checked".to_owned(),
                Meaning::Named(rule) => format!("breaks the rule {rule}"),
            };
            format!("{mark} {name} {what}")
        }
        NoticeEvent::Resolved => match message.resolved_why.as_deref() {
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

/// The summary, and the probe's own words if they add to it. When all is well again the summary only repeats how long
/// it lasted, which has a line of its own.
fn why(message: &Message) -> Vec<String> {
    let mut lines = Vec::new();
    let well = message.event == NoticeEvent::Resolved && !over_without_recovery(message);
    let repeats = well && message.detail.is_some();
    if !message.summary.is_empty() && !repeats {
        lines.push(message.summary.clone());
    }
    if let Some(detail) = message.detail.as_deref().filter(|d| !d.is_empty() && !message.summary.contains(d)) {
        lines.push(if well { format!("It was: {detail}") } else { detail.to_owned() });
    }
    lines
}

/// Whether it ended only because nobody looks any more.
fn over_without_recovery(message: &Message) -> bool {
    matches!(message.resolved_why.as_deref(), Some("retired" | "rule_removed"))
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
        (_, _) => format!("Since {}", moment(message.opened_at)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::sample;

    #[test]
    fn every_rule_has_its_words() {
        let mut all = String::new();
        for rule in ["down", "slow_response", "slow_response/first_byte", "ssl_expiry", "missed_push", "blind", "checkout-slow"] {
            for message in [sample::opened(), sample::resolved()] {
                let message = Message { rule: rule.to_owned(), ..message };
                all.push_str(&text(&message).title);
                all.push('\n');
            }
        }
        insta::assert_snapshot!("titles", all);
    }

    #[test]
    fn a_message_says_what_why_where_and_since_when() {
        insta::assert_snapshot!("opened", text(&sample::opened()).plain());
        insta::assert_snapshot!("resolved", text(&sample::resolved()).plain());
        insta::assert_snapshot!("test", words(&Content::Test(crate::channel::content::TestWord { channel: "ops".into(), kind: "telegram".into(), at: Micros(1_795_317_127_000_000) })).plain());
    }

    #[test]
    fn what_is_no_longer_watched_is_never_called_well() {
        for (why, title) in [("retired", "⚪ shop is no longer watched"), ("rule_removed", "⚪ shop is no longer watched for down")] {
            let message = Message { resolved_why: Some(why.to_owned()), ..sample::resolved() };
            assert_eq!(text(&message).title, title);
            assert!(!text(&message).plain().contains("🟢"), "{why}");
        }
    }

    #[test]
    fn foreign_text_stays_on_its_line_and_within_its_length() {
        let message = Message { summary: format!("a\nb\u{7}c{}", "x".repeat(9_000)), ..sample::opened() };
        let text = text(&message);
        assert!(text.lines[0].starts_with("a b c"), "{}", text.lines[0]);
        assert!(text.lines.iter().all(|l| l.chars().count() <= LINE_MAX));
        assert!(text.lines[0].ends_with('…'));
    }

    #[test]
    fn cuts_count_utf16_and_never_split_a_character() {
        assert_eq!(cut_utf16("🔴🔴", 4), "🔴🔴");
        assert_eq!(cut_utf16("🔴🔴", 3), "🔴…");
        assert_eq!(cut_utf16("🔴🔴", 2), "…");
        assert_eq!(cut_utf16("abc", 2), "a…");
        assert_eq!(cut_utf16("abc", 0), "");
    }

    #[test]
    fn lengths_are_told_in_what_matters() {
        let of = |us| rough(Dur(us));
        assert_eq!(of(192_400_000), "3m12s");
        assert_eq!(of(850_500), "850ms");
        assert_eq!(of(5_400_000_000), "1h30m");
        assert_eq!(of(190_000_000_000), "2d4h");
        assert_eq!(of(-5), "0s");
    }
}
