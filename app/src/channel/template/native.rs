//! Our own words.

use super::{Meaning, recovered};
use crate::channel::content::{Content, Digest, Message, NodeEvent, NodeWord, Report, ReportLine, TestWord};
use crate::channel::text::{Line, Text, moment, one_line, rough};
use crate::channel::words::{Words, fill};
use watchkeeper_core::quorum::Health;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{Dur, Micros, Severity};

/// No more labels are shown; the rest is counted.
const LABELS_MAX: usize = 8;
/// A line of a list is cut here, in characters. Longer ones would let one monitor's error text fill a chat's whole message; shorter ones cut names.
const ITEM_MAX: usize = 160;

/// The words of one delivery.
pub(in crate::channel) fn text(content: &Content, words: &Words, now: Micros) -> Text {
    match content {
        Content::Incident(message) => incident(message, words, now),
        Content::Digest(digest) => of_digest(digest, words),
        Content::Report(report) => of_report(report, words),
        Content::Node(node) => of_node(node, words),
        Content::Test(test) => of_test(test, words),
    }
}

fn laid_out(title: String, lines: Vec<String>) -> Text {
    Text::new(Line::bold_of(title), lines.into_iter().map(Line::plain_of).collect())
}

fn incident(message: &Message, words: &Words, now: Micros) -> Text {
    let native = &words.native;
    let (why, when) = (why(message, words), when(message, words, now));
    let mut lines = Vec::new();
    match message.event {
        NoticeEvent::Opened | NoticeEvent::Reminded | NoticeEvent::Escalated | NoticeEvent::Acknowledged | NoticeEvent::Unacknowledged => {
            lines.extend(why.into_iter().chain([when]));
        }
        NoticeEvent::Resolved => lines.extend([when].into_iter().chain(why)),
    }
    lines.extend(person(message, words));
    match (message.flapping, message.event) {
        (true, NoticeEvent::Opened) => lines.push(native.flaps.to_owned()),
        (true, NoticeEvent::Resolved) if recovered(message) => lines.push(native.flapped.to_owned()),
        (true | false, _) => {}
    }
    if !message.target.is_empty() {
        lines.push(message.target.clone());
    }
    lines.extend(seen_by(message, words));
    lines.extend(belonging(message, words));
    lines.push(fill(native.incident, &[("id", &message.incident)]));
    laid_out(title(message, words), lines)
}

/// The first line of a word about an incident.
fn title(message: &Message, words: &Words) -> String {
    let (name, native) = (message.monitor.as_str(), &words.native);
    let meaning = Meaning::of(&message.rule);
    let states = meaning.states(words);
    let who = message.actor.as_deref().unwrap_or(words.somebody);
    let mark = mark(message, meaning);
    match message.event {
        NoticeEvent::Opened => {
            let state = meaning.say(states.is, name);
            let state = if message.flapping { fill(native.again, &[("state", &state)]) } else { state };
            format!("{mark} {state}")
        }
        NoticeEvent::Reminded => format!("{mark} {}", meaning.say(states.still, name)),
        NoticeEvent::Escalated => format!("{mark} {}", fill(native.escalated, &[("state", &meaning.say(states.still, name))])),
        NoticeEvent::Acknowledged => {
            format!("👀 {}", fill(native.acknowledged, &[("state", &meaning.say(states.is, name)), ("who", who)]))
        }
        NoticeEvent::Unacknowledged => {
            format!("{mark} {}", fill(native.unacknowledged, &[("state", &meaning.say(states.still, name))]))
        }
        NoticeEvent::Resolved => match message.resolved_why.as_deref() {
            Some("retired") => format!("⚪ {}", fill(native.retired, &[("name", name)])),
            Some("rule_removed") => format!("⚪ {}", fill(native.rule_removed, &[("name", name), ("rule", &message.rule)])),
            Some("operator") => {
                format!("⚪ {}", fill(native.ended_by, &[("who", who), ("name", name), ("rule", &message.rule)]))
            }
            _ => format!("🟢 {}", meaning.say(states.well, name)),
        },
    }
}

const fn mark(message: &Message, meaning: Meaning<'_>) -> &'static str {
    match (meaning, message.severity) {
        (Meaning::Blind, _) => "❓",
        (_, Severity::Critical) => "🔴",
        (_, Severity::Warning) => "🟠",
        (_, Severity::Info) => "🔵",
    }
}

/// The summary, and the probe's own words if they add to it. When all is well again the summary only repeats how long
/// it lasted, which has a line of its own.
fn why(message: &Message, words: &Words) -> Vec<String> {
    let mut lines = Vec::new();
    let well = message.event == NoticeEvent::Resolved && recovered(message);
    let repeats = well && message.detail.is_some();
    if !message.summary.is_empty() && !repeats {
        lines.push(message.summary.clone());
    }
    if let Some(detail) = message.detail.as_deref().filter(|d| !d.is_empty() && !message.summary.contains(d)) {
        lines.push(if well { fill(words.native.it_was, &[("detail", detail)]) } else { detail.to_owned() });
    }
    lines
}

/// What the person behind the word said, and who gave the incident back, whom the first line does not name.
fn person(message: &Message, words: &Words) -> Option<String> {
    let who = message.actor.as_deref().unwrap_or(words.somebody);
    match (&message.comment, message.event) {
        (Some(comment), _) => Some(format!("{who}: {comment}")),
        (None, NoticeEvent::Unacknowledged) => Some(fill(words.native.given_back, &[("who", who)])),
        (
            None,
            NoticeEvent::Opened | NoticeEvent::Reminded | NoticeEvent::Escalated | NoticeEvent::Acknowledged | NoticeEvent::Resolved,
        ) => None,
    }
}

fn when(message: &Message, words: &Words, now: Micros) -> String {
    let since = moment(message.opened_at, words);
    let lasted = |pattern: &str, length: Dur| fill(pattern, &[("length", &rough(length, words)), ("since", &since)]);
    match (message.event, message.resolved_at) {
        (NoticeEvent::Resolved, Some(end)) => lasted(Meaning::of(&message.rule).states(words).lasted, end - message.opened_at),
        (NoticeEvent::Reminded | NoticeEvent::Escalated | NoticeEvent::Acknowledged | NoticeEvent::Unacknowledged, _) => {
            lasted(words.native.so_far, now - message.opened_at)
        }
        (NoticeEvent::Opened | NoticeEvent::Resolved, _) => fill(words.native.since, &[("since", &since)]),
    }
}

fn seen_by(message: &Message, words: &Words) -> Option<String> {
    let seen: Vec<String> =
        message.seen_by.iter().map(|(place, seen)| format!("{place} ({})", health_word(seen, words).unwrap_or(seen))).collect();
    (!seen.is_empty()).then(|| fill(words.native.seen_from, &[("places", &seen.join(", "))]))
}

/// Labels, and the tenant if it is not the only one.
fn belonging(message: &Message, words: &Words) -> Option<String> {
    let mut parts: Vec<String> = message.labels.iter().take(LABELS_MAX).map(|(k, v)| format!("{k}={v}")).collect();
    let more = message.labels.len().saturating_sub(LABELS_MAX);
    if more > 0 {
        parts.push(fill(words.native.more_labels, &[("n", &more.to_string())]));
    }
    if !matches!(message.tenant.as_str(), "" | "default") {
        parts.insert(0, format!("tenant={}", message.tenant));
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}

const fn health(of: Health, words: &Words) -> &'static str {
    match of {
        Health::Unknown => words.health[0],
        Health::Up => words.health[1],
        Health::Degraded => words.health[2],
        Health::Pending => words.health[3],
        Health::Down => words.health[4],
    }
}

/// The word for what a datacenter sees, if it is one of ours.
fn health_word(seen: &str, words: &Words) -> Option<&'static str> {
    let all = [Health::Unknown, Health::Up, Health::Degraded, Health::Pending, Health::Down];
    all.into_iter().find(|h| h.as_str() == seen).map(|h| health(h, words))
}

/// `{n}` more of something, if there are.
fn more(n: u32, words: &Words) -> Option<String> {
    (n > 0).then(|| fill(words.native.more, &[("n", &n.to_string())]))
}

fn of_digest(digest: &Digest, words: &Words) -> Text {
    let title = fill(words.native.digest, &[("open", &digest.open.to_string()), ("resolved", &digest.resolved.to_string())]);
    let worst = digest.words.iter().filter(|m| m.event != NoticeEvent::Resolved).map(|m| m.severity).max();
    let mark = match worst {
        _ if digest.open == 0 => "🟢",
        Some(Severity::Critical) | None => "🔴",
        Some(Severity::Warning) => "🟠",
        Some(Severity::Info) => "🔵",
    };
    let mut lines: Vec<String> = digest.words.iter().map(|message| item(message, words)).collect();
    lines.extend(more(digest.more, words));
    laid_out(format!("{mark} {title}"), lines)
}

/// One incident in a list: what, and why while it lasts.
fn item(message: &Message, words: &Words) -> String {
    let title = title(message, words);
    let lasts = message.event != NoticeEvent::Resolved && !message.summary.is_empty();
    one_line(&if lasts { format!("{title}: {}", message.summary) } else { title }, ITEM_MAX)
}

fn of_report(report: &Report, words: &Words) -> Text {
    let native = &words.native;
    let all: u32 = report.counts.iter().map(|(_, n)| n).sum();
    let bad: u32 = report.counts.iter().filter(|(health, _)| *health != Health::Up).map(|(_, n)| n).sum();
    let numbers = [("report", report.name.as_str()), ("all", &all.to_string()), ("bad", &bad.to_string())];
    let title = fill(if bad == 0 { native.report_well } else { native.report_bad }, &numbers);
    let mut lines = vec![fill(native.period, &[("from", &moment(report.from, words)), ("to", &moment(report.to, words))])];
    let mut counts: Vec<String> =
        report.counts.iter().filter(|(_, n)| *n > 0).map(|(h, n)| format!("{} {}: {n}", dot(*h), health(*h, words))).collect();
    if report.paused > 0 {
        counts.push(format!("⏸️ {}: {}", words.health[5], report.paused));
    }
    lines.push(counts.join(", "));
    lines.push(fill(native.report_incidents, &[("opened", &report.opened.to_string()), ("open", &report.open.to_string())]));
    lines.push(String::new());
    lines.extend(report.lines.iter().map(|line| report_line(line, words)));
    lines.extend(more(report.more, words));
    laid_out(format!("📊 {title}"), lines)
}

fn report_line(line: &ReportLine, words: &Words) -> String {
    let uptime = line.uptime_mpct.map(|mpct| fill(words.native.uptime, &[("percent", &percent(mpct))]));
    let known = [line.why.clone(), uptime].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let state = if line.health == Health::Up { String::new() } else { format!(" – {}", health(line.health, words)) };
    let colon = if known.is_empty() { "" } else { ": " };
    one_line(&format!("{} {}{state}{colon}{known}", dot(line.health), line.monitor), ITEM_MAX)
}

/// The mark of a health in lists.
pub(super) const fn dot(health: Health) -> &'static str {
    match health {
        Health::Up => "🟢",
        Health::Degraded => "🟠",
        Health::Pending => "🟡",
        Health::Down => "🔴",
        Health::Unknown => "❓",
    }
}

/// Thousandths of a percent with as many digits as say something; never rounded up to 100.
pub(super) fn percent(mpct: u32) -> String {
    if mpct >= 100_000 { "100".to_owned() } else { format!("{}.{:02}", mpct / 1_000, mpct % 1_000 / 10) }
}

fn of_node(node: &NodeWord, words: &Words) -> Text {
    let native = &words.native;
    let (mark, pattern) = match node.event {
        NodeEvent::Started => ("🚀", native.node_started),
        NodeEvent::Stopped => ("🛑", native.node_stopped),
        NodeEvent::Failed => ("❌", native.node_failed),
        NodeEvent::CutOff => ("🔌", native.node_cut_off),
        NodeEvent::ChannelsFailed => ("📵", native.channels_failed),
    };
    let place = if node.datacenter.is_empty() { node.node.clone() } else { format!("{} ({})", node.node, node.datacenter) };
    let mut lines: Vec<String> = Some(node.summary.clone()).filter(|s| !s.is_empty()).into_iter().collect();
    let at = moment(node.at, words);
    lines.push(match node.until {
        None => fill(native.at, &[("at", &at)]),
        Some(end) => fill(native.from_to, &[("from", &at), ("to", &moment(end, words)), ("length", &rough(end - node.at, words))]),
    });
    laid_out(format!("{mark} {}", fill(pattern, &[("node", &place)])), lines)
}

fn of_test(test: &TestWord, words: &Words) -> Text {
    let native = &words.native;
    let works = fill(native.test_works, &[("channel", &test.channel)]);
    laid_out(format!("🔔 {}", native.test), vec![works, fill(native.sent_at, &[("at", &moment(test.at, words))])])
}
