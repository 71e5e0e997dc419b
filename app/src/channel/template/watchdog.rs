//! Short words about machines that are watched and started again; the name in bold, the status below.

use super::{Meaning, recovered};
use crate::channel::content::{Content, Message};
use crate::channel::text::{Line, Text, rough};
use crate::channel::words::{Words, fill};
use watchkeeper_core::Micros;
use watchkeeper_core::verdict::NoticeEvent;

/// The words about a machine or service that is down, stays so, or is back; `None` for everything else.
pub(in crate::channel) fn text(content: &Content, words: &Words, now: Micros) -> Option<Text> {
    let message = match content {
        Content::Incident(message) => message,
        Content::Digest(_) | Content::Report(_) | Content::Node(_) | Content::Test(_) => return None,
    };
    match Meaning::of(&message.rule) {
        Meaning::Down | Meaning::MissedPush => {}
        Meaning::Slow(_) | Meaning::SslExpiry | Meaning::Blind | Meaning::Named(_) => return None,
    }
    let own = &words.watchdog;
    let what = if message.kind == "vm" { own.machine } else { own.service };
    let length = rough(now - message.opened_at, words);
    let values = [("what", what), ("name", message.monitor.as_str()), ("status", message.summary.as_str()), ("length", &length)];
    let (mark, pattern, below) = match message.event {
        NoticeEvent::Opened => (mark(message), own.down, Some(fill(own.status, &values))),
        NoticeEvent::Reminded | NoticeEvent::Escalated => ("⚠️", own.stuck, None),
        NoticeEvent::Resolved if recovered(message) => ("✅", own.recovered, Some(looked_at(message, words))),
        NoticeEvent::Resolved | NoticeEvent::Acknowledged | NoticeEvent::Unacknowledged => return None,
    };
    let head = Line::naming(&format!("{mark} {pattern}"), &values);
    Some(Text::new(head, below.into_iter().flat_map(|line| [Line::default(), Line::plain_of(line)]).collect()))
}

/// A machine that crashed or is in error is not merely switched off.
fn mark(message: &Message) -> &'static str {
    match message.summary.split_whitespace().next() {
        Some("Crashed") if message.kind == "vm" => "💥",
        Some("Error") if message.kind == "vm" => "⚠️",
        _ => "🚨",
    }
}

/// How it is known that it is back.
fn looked_at(message: &Message, words: &Words) -> String {
    let check = match message.kind.as_str() {
        "vm" => return words.watchdog.api_status.to_owned(),
        "icmp" => "Ping".to_owned(),
        other => other.to_uppercase(),
    };
    fill(words.watchdog.check, &[("check", &check), ("target", &message.target)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{Language, sample};
    use watchkeeper_core::Dur;

    fn told(message: Message) -> String {
        let words = Language::Ru.words();
        text(&Content::Incident(message), words, sample::OPENED_AT + Dur::secs(303)).map(|t| t.plain()).unwrap_or_default()
    }

    fn machine(summary: &str) -> Message {
        Message { monitor: "web-1".to_owned(), kind: "vm".to_owned(), summary: summary.to_owned(), ..sample::opened() }
    }

    #[test]
    fn machines_are_told_of_word_for_word() {
        assert_eq!(told(machine("Stopped")), "🚨 СБОЙ: ВМ web-1 недоступна.\n\nСтатус: Stopped");
        assert_eq!(told(machine("Crashed")), "💥 СБОЙ: ВМ web-1 недоступна.\n\nСтатус: Crashed");
        assert_eq!(told(machine("Error")), "⚠️ СБОЙ: ВМ web-1 недоступна.\n\nСтатус: Error");
        let back = Message { event: NoticeEvent::Resolved, resolved_why: Some("recovered".to_owned()), ..machine("Stopped") };
        assert_eq!(told(back.clone()), "✅ ВОССТАНОВЛЕНИЕ: ВМ web-1 снова в строю.\n\nСтатус API: Running");
        let ping = Message { kind: "icmp".to_owned(), target: "203.0.113.7".to_owned(), ..back };
        assert_eq!(told(ping), "✅ ВОССТАНОВЛЕНИЕ: служба web-1 снова в строю.\n\nПроверка: Ping OK на 203.0.113.7");
        let stuck = Message { event: NoticeEvent::Reminded, ..machine("Starting") };
        assert_eq!(told(stuck), "⚠️ ВНИМАНИЕ: ВМ web-1 застряла в статусе Starting более 5 мин 3 с");
    }

    #[test]
    fn the_name_is_bold() {
        let told = text(&Content::Incident(machine("Stopped")), Language::Ru.words(), sample::NOW).unwrap();
        let bold: Vec<&str> = told.head.0.iter().filter(|s| s.bold).map(|s| s.text.as_str()).collect();
        assert_eq!(bold, ["web-1"]);
    }
}
