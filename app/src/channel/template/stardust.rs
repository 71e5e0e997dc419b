//! Titles with labelled lines below them, about services that run, stop and restart.

use super::{Meaning, native, recovered};
use crate::channel::content::{Content, Message, NodeEvent, NodeWord, Report};
use crate::channel::text::{Line, Text, strftime};
use crate::channel::words::{Stardust, Words, fill};
use watchkeeper_core::Micros;
use watchkeeper_core::quorum::Health;
use watchkeeper_core::verdict::NoticeEvent;

/// The words about services that stop, come back, flap or are unhealthy, the report, and life signs; `None` for everything else.
pub(in crate::channel) fn text(content: &Content, words: &Words, now: Micros) -> Option<Text> {
    match content {
        Content::Incident(message) => incident(message, &words.stardust, now),
        Content::Report(report) => Some(of_report(report, &words.stardust)),
        Content::Node(node) => of_node(node, &words.stardust),
        Content::Digest(_) | Content::Test(_) => None,
    }
}

/// `2026-11-22 03:12:07`, in UTC.
fn time(at: Micros) -> String {
    strftime(at, "%Y-%m-%d %H:%M:%S")
}

fn laid_out(title: &str, lines: Vec<String>) -> Text {
    let below = lines.into_iter().map(Line::plain_of);
    Text::new(Line::bold_of(title), [Line::default()].into_iter().chain(below).collect())
}

fn labelled(pattern: &str, value: &str) -> String {
    fill(pattern, &[("value", value)])
}

fn incident(message: &Message, own: &Stardust, now: Micros) -> Option<Text> {
    let running = format!("🟢 {}", own.running);
    let stopped = format!("🔴 {}", own.is_stopped);
    let stops = match Meaning::of(&message.rule) {
        Meaning::Down | Meaning::MissedPush => true,
        Meaning::Slow(_) | Meaning::SslExpiry | Meaning::Named(_) => false,
        Meaning::Blind => return None,
    };
    let unhealthy = format!("🏥 {}", own.is_unhealthy);
    let moved = |from: &str, to: &str| vec![labelled(own.previous, from), labelled(own.current, to)];
    let (title, states, at, note) = match message.event {
        NoticeEvent::Opened if message.flapping => {
            let status = if stops { &stopped } else { &running };
            let lines = vec![labelled(own.status, status), labelled(own.health, own.unknown)];
            (own.malfunction, lines, message.opened_at, Some(own.malfunction_note))
        }
        NoticeEvent::Opened if stops => (own.stopped, moved(&running, &stopped), message.opened_at, None),
        NoticeEvent::Opened | NoticeEvent::Reminded if !stops => {
            let at = if message.event == NoticeEvent::Opened { message.opened_at } else { now };
            (own.unhealthy, vec![labelled(own.status, &running), labelled(own.health, &unhealthy)], at, None)
        }
        NoticeEvent::Resolved if recovered(message) => {
            let was = if stops { &stopped } else { &unhealthy };
            (own.restored, moved(was, &running), message.resolved_at.unwrap_or(now), None)
        }
        NoticeEvent::Opened
        | NoticeEvent::Reminded
        | NoticeEvent::Escalated
        | NoticeEvent::Acknowledged
        | NoticeEvent::Unacknowledged
        | NoticeEvent::Resolved => return None,
    };
    let mut lines = vec![labelled(own.service, &message.monitor)];
    lines.extend(states);
    if message.event != NoticeEvent::Resolved && !message.summary.is_empty() {
        lines.push(labelled(own.details, &message.summary));
    }
    lines.push(labelled(own.time, &time(at)));
    lines.extend(note.into_iter().flat_map(|note| [String::new(), note.to_owned()]));
    Some(laid_out(title, lines))
}

fn of_report(report: &Report, own: &Stardust) -> Text {
    let mut lines = vec![labelled(own.generated, &time(report.to)), String::new()];
    for line in &report.lines {
        lines.push(format!("{} {}", native::dot(line.health), line.monitor));
        lines.push(format!("   {}", labelled(own.status, state(line.health, own))));
        lines.extend(line.why.iter().map(|why| format!("   {}", labelled(own.details, why))));
        lines.extend(line.uptime_mpct.map(|mpct| format!("   {}", labelled(own.uptime, &format!("{} %", native::percent(mpct))))));
        lines.push(String::new());
    }
    if report.more > 0 {
        lines.push(format!("… +{}", report.more));
        lines.push(String::new());
    }
    let count = |wanted: &[Health]| -> u32 { report.counts.iter().filter(|(h, _)| wanted.contains(h)).map(|(_, n)| n).sum() };
    lines.push(own.summary.to_owned());
    lines.push(format!("🟢 {}: {}", own.running, count(&[Health::Up, Health::Degraded])));
    lines.push(format!("🔴 {}: {}", own.is_stopped, count(&[Health::Down])));
    lines.push(format!("🟡 {}: {}", own.restarting, count(&[Health::Pending])));
    let unknown = count(&[Health::Unknown]);
    if unknown > 0 {
        lines.push(format!("❓ {}: {unknown}", own.unknown));
    }
    laid_out(own.report, lines)
}

/// What is neither running nor stopped is on its way between the two.
const fn state(health: Health, own: &Stardust) -> &'static str {
    match health {
        Health::Up | Health::Degraded => own.running,
        Health::Down => own.is_stopped,
        Health::Pending => own.restarting,
        Health::Unknown => own.unknown,
    }
}

fn of_node(node: &NodeWord, own: &Stardust) -> Option<Text> {
    let (title, line) = match node.event {
        NodeEvent::Started => (own.node_started, own.node_started_line.to_owned()),
        NodeEvent::Stopped => (own.node_stopped, own.node_stopped_line.to_owned()),
        NodeEvent::Failed => (own.node_failed, fill(own.node_failed_line, &[("error", &node.summary)])),
        NodeEvent::CutOff | NodeEvent::ChannelsFailed => return None,
    };
    Some(laid_out(title, vec![line]))
}
