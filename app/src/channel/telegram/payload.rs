//! What a message looks like to the Bot API, pure: `sendMessage` and `editMessageText`.

use crate::channel::content::Content;
use crate::channel::text::{Line, Text, cut_utf16};
use crate::channel::words::Words;
use serde_json::{Value, json};
use watchkeeper_core::verdict::NoticeEvent;

/// A text takes so many UTF-16 units after its entities were parsed.
pub const TEXT_MAX: usize = 4_096;
/// What a button carries back takes so many bytes.
const CALLBACK_MAX: usize = 64;

/// What a button says when it is pressed, followed by the incident's public id.
pub const PRESSED_ACKNOWLEDGE: &str = "ack:";
/// The same for an hour of silence about the incident's monitor.
pub const PRESSED_SILENCE: &str = "silence:";

/// How a message is marked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Markup {
    Html,
    Plain,
}

/// The parameters that sending and editing share: the text, its markup, the buttons.
pub(super) fn worded(chat: &Value, text: &Text, markup: Markup, buttons: Option<&Value>) -> Value {
    let mut out = json!({
        "chat_id": chat,
        "text": match markup {
            Markup::Html => html(text),
            Markup::Plain => cut_utf16(&text.plain(), TEXT_MAX),
        },
        // A preview of a page that is down helps nobody.
        "link_preview_options": { "is_disabled": true },
    });
    if markup == Markup::Html {
        out["parse_mode"] = Value::from("HTML");
    }
    if let Some(buttons) = buttons {
        out["reply_markup"] = buttons.clone();
    }
    out
}

/// A new message, in a topic if there is one, as an answer to the incident's first if that is known.
pub(super) fn sent(worded: Value, topic: Option<i64>, answers: Option<i64>) -> Value {
    let mut out = worded;
    if let Some(topic) = topic {
        out["message_thread_id"] = Value::from(topic);
    }
    if let Some(first) = answers {
        // A message that somebody deleted must not keep the answer from being told.
        out["reply_parameters"] = json!({ "message_id": first, "allow_sending_without_reply": true });
    }
    out
}

/// A message that is there already, with another text.
pub(super) fn edited(worded: Value, message: i64) -> Value {
    let mut out = worded;
    out["message_id"] = Value::from(message);
    out
}

/// The buttons below a message about an incident that lasts; `None` where there is nothing to press.
pub(super) fn buttons(content: &Content, words: &Words) -> Option<Value> {
    let message = content.incident()?;
    let button = |text: &str, pressed: &str| {
        let data = format!("{pressed}{}", message.incident);
        (data.len() <= CALLBACK_MAX).then(|| json!({ "text": text, "callback_data": data }))
    };
    let acknowledge = button(words.buttons.acknowledge, PRESSED_ACKNOWLEDGE)?;
    let silence = button(words.buttons.silence, PRESSED_SILENCE)?;
    match message.event {
        NoticeEvent::Opened | NoticeEvent::Reminded | NoticeEvent::Escalated | NoticeEvent::Unacknowledged => {
            Some(json!({ "inline_keyboard": [[acknowledge, silence]] }))
        }
        NoticeEvent::Acknowledged => Some(json!({ "inline_keyboard": [[silence]] })),
        NoticeEvent::Resolved => None,
    }
}

/// The text as HTML. It is cut before it is escaped and marked up, so that no tag and no entity is ever cut.
pub(crate) fn html(text: &Text) -> String {
    let mut left = TEXT_MAX;
    let mut out = String::new();
    push_line(&text.head, &mut out, &mut left);
    for line in &text.lines {
        if left <= 1 {
            break;
        }
        left -= 1;
        out.push('\n');
        push_line(line, &mut out, &mut left);
    }
    out
}

fn push_line(line: &Line, out: &mut String, left: &mut usize) {
    for span in &line.0 {
        let part = cut_utf16(&span.text, *left);
        if part.is_empty() {
            return;
        }
        *left -= part.encode_utf16().count();
        if span.bold {
            out.push_str(&format!("<b>{}</b>", escape(&part)));
        } else {
            out.push_str(&escape(&part));
        }
    }
}

/// The three characters that mean something in Telegram's HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::text::text;
    use crate::channel::{Language, Message, Style, sample};

    fn payload(message: Message, markup: Markup, buttons_too: bool) -> Value {
        let content = Content::Incident(message);
        let told = text(&content, Style::default(), sample::NOW);
        let buttons = buttons(&content, Language::En.words()).filter(|_| buttons_too);
        worded(&Value::from(-1_001_234_567_890_i64), &told, markup, buttons.as_ref())
    }

    #[test]
    fn the_payload_stays_as_it_is() {
        let opened = sent(payload(sample::opened(), Markup::Html, true), Some(42), None);
        insta::assert_snapshot!("opened", format!("{opened:#}"));
        let resolved = sent(payload(sample::resolved(), Markup::Plain, true), None, Some(1_000));
        insta::assert_snapshot!("resolved_plain", format!("{resolved:#}"));
        let acknowledged = edited(payload(sample::acknowledged(), Markup::Html, true), 1_000);
        insta::assert_snapshot!("acknowledged", format!("{acknowledged:#}"));
    }

    #[test]
    fn what_a_button_carries_fits() {
        let message = Message { incident: "x".repeat(CALLBACK_MAX), ..sample::opened() };
        assert!(buttons(&Content::Incident(message), Language::En.words()).is_none(), "no button rather than a refused message");
        assert!(PRESSED_SILENCE.len() + sample::opened().incident.len() <= CALLBACK_MAX);
    }

    #[test]
    fn markup_in_foreign_text_is_text() {
        let message = Message { monitor: "a<b>&\"c".to_owned(), summary: "<script>&lt;".to_owned(), detail: None, ..sample::opened() };
        let html = payload(message, Markup::Html, false)["text"].as_str().unwrap().to_owned();
        assert!(html.starts_with("<b>🔴 a&lt;b&gt;&amp;\"c is down</b>\n&lt;script&gt;&amp;lt;\n"), "{html}");
    }

    #[test]
    fn the_longest_text_fits_and_is_not_cut_within_a_tag() {
        let long = "<&>🔴".repeat(2_000);
        let message = Message {
            monitor: long.clone(),
            target: long.clone(),
            detail: Some(long.clone()),
            summary: long.clone(),
            labels: (0..8).map(|i| (format!("{i}{long}"), long.clone())).collect(),
            incident: long.clone(),
            tenant: long.clone(),
            seen_by: [(long.clone(), long.clone())].into(),
            ..sample::opened()
        };
        let lines = (0..20).map(|_| Line::plain_of(long.clone())).collect();
        let texts = [text(&Content::Incident(message), Style::default(), sample::NOW), Text::new(Line::bold_of(long), lines)];
        for (told, full) in texts.iter().zip([false, true]) {
            let html = html(told);
            let parsed = html.replace("<b>", "").replace("</b>", "").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
            let units = parsed.encode_utf16().count();
            assert!(units <= TEXT_MAX && (!full || units > TEXT_MAX - 3), "{units}");
            assert!(!full || parsed.ends_with('…'));
        }
    }
}
