//! A stand-in for Telegram's Bot API: `sendMessage` and `editMessageText`, as strict as the real one and a little stricter.
//! Source: <https://core.telegram.org/bots/api#sendmessage>.

use super::provider::{Act, Call, Provider};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

/// A token of the right form that belongs to nobody.
pub const TOKEN: &str = "123456:TEST-abcdefghijklmnopqrstuvwxyz_0123";

/// The parameters of both methods that Watchkeeper has a use for.
const SHARED: [&str; 5] = ["chat_id", "text", "parse_mode", "link_preview_options", "reply_markup"];
/// Those of one of them.
const SENDING: [&str; 2] = ["message_thread_id", "reply_parameters"];
const EDITING: [&str; 1] = ["message_id"];
/// The tags of Telegram's HTML without attributes.
const TAGS: [&str; 12] = ["b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "blockquote"];
const ENTITIES: [&str; 4] = ["&lt;", "&gt;", "&amp;", "&quot;"];

/// Starts one that knows only the bot [`TOKEN`].
pub async fn start() -> Provider {
    Provider::start(check, |call, nth| {
        let sent = call.json();
        let result = json!({
            "message_id": sent["message_id"].as_i64().unwrap_or(1_000 + nth as i64),
            "date": 1_795_317_127,
            "chat": { "id": sent["chat_id"], "type": "supergroup" },
            "text": sent["text"],
        });
        (StatusCode::OK, json!({ "ok": true, "result": result }).to_string())
    })
    .await
}

/// The Bot API's answer to a fault.
fn fault(status: StatusCode, description: &str) -> (StatusCode, String) {
    (status, json!({ "ok": false, "error_code": status.as_u16(), "description": description }).to_string())
}

fn refused(status: StatusCode, description: &str, parameters: &Value) -> Act {
    let body = json!({ "ok": false, "error_code": status.as_u16(), "description": description, "parameters": parameters });
    Act::Answer(status, vec![("content-type", "application/json".to_owned())], body.to_string())
}

/// An error that Telegram answers.
pub fn error(status: u16, description: &str) -> Act {
    refused(StatusCode::from_u16(status).expect("a status"), description, &json!({}))
}

/// Too many messages.
pub fn too_many(retry_after: u32) -> Act {
    let description = format!("Too Many Requests: retry after {retry_after}");
    refused(StatusCode::TOO_MANY_REQUESTS, &description, &json!({ "retry_after": retry_after }))
}

/// The group has become a supergroup.
pub fn migrated(to: i64) -> Act {
    let description = "Bad Request: group chat was upgraded to a supergroup chat";
    refused(StatusCode::BAD_REQUEST, description, &json!({ "migrate_to_chat_id": to }))
}

/// Telegram cannot read the text's markup.
pub fn bad_entities() -> Act {
    error(400, "Bad Request: can't parse entities: Unsupported start tag \"x\" at byte offset 7")
}

/// What the Bot API would refuse about a call of `sendMessage` or `editMessageText`.
pub fn check(call: &Call) -> Result<(), (StatusCode, String)> {
    let bad = |text: &str| Err(fault(StatusCode::BAD_REQUEST, &format!("Bad Request: {text}")));
    let own: &[&str] = match call.path.strip_prefix(&format!("/bot{TOKEN}/")) {
        Some("sendMessage") => &SENDING,
        Some("editMessageText") => &EDITING,
        _ => &[],
    };
    if own.is_empty() {
        let status = if call.path.starts_with("/bot123456:") { StatusCode::UNAUTHORIZED } else { StatusCode::NOT_FOUND };
        return Err(fault(status, status.canonical_reason().unwrap_or_default()));
    }
    if call.method != Method::POST {
        return bad("only POST is used");
    }
    if call.headers.get("content-type").is_none_or(|v| v != "application/json") {
        return bad("content-type is not application/json");
    }
    let Ok(Value::Object(sent)) = serde_json::from_slice::<Value>(&call.body) else { return bad("body is not a JSON object") };
    if let Some(unknown) = sent.keys().find(|k| !SHARED.contains(&k.as_str()) && !own.contains(&k.as_str())) {
        return bad(&format!("unknown parameter {unknown}"));
    }
    match sent.get("chat_id") {
        Some(Value::Number(id)) if id.as_i64().is_some_and(|id| id != 0) => {}
        Some(Value::String(name)) if name.len() > 1 && name.starts_with('@') => {}
        _ => return bad("chat_id is empty"),
    }
    if sent.get("message_thread_id").is_some_and(|id| id.as_i64().is_none_or(|id| id <= 0)) {
        return bad("message_thread_id is invalid");
    }
    if sent.get("link_preview_options").is_some_and(|o| *o != json!({ "is_disabled": true })) {
        return bad("can't parse link preview options JSON object");
    }
    if own == EDITING && sent.get("message_id").and_then(Value::as_i64).is_none_or(|id| id <= 0) {
        return bad("message identifier is not specified");
    }
    if let Some(reply) = sent.get("reply_parameters") {
        let wanted = json!({ "message_id": reply["message_id"].as_i64().unwrap_or(0), "allow_sending_without_reply": true });
        if *reply != wanted || reply["message_id"] == 0 {
            return bad("can't parse reply parameters JSON object");
        }
    }
    if let Some(Err(why)) = sent.get("reply_markup").map(keyboard) {
        return bad(&why);
    }
    let Some(text) = sent.get("text").and_then(Value::as_str) else { return bad("message text is empty") };
    let parsed = match sent.get("parse_mode").map(|m| m.as_str()) {
        None => text.to_owned(),
        Some(Some("HTML")) => match parse_html(text) {
            Ok(parsed) => parsed,
            Err(why) => return bad(&format!("can't parse entities: {why}")),
        },
        Some(_) => return bad("unsupported parse_mode"),
    };
    match parsed.encode_utf16().count() {
        0 => bad("message text is empty"),
        1..=4_096 => Ok(()),
        _ => bad("message is too long"),
    }
}

/// Rows of buttons, each with a text and what it carries back: 1 to 64 bytes.
fn keyboard(markup: &Value) -> Result<(), String> {
    let rows = markup["inline_keyboard"].as_array().filter(|rows| !rows.is_empty());
    let only = markup.as_object().is_some_and(|m| m.len() == 1);
    let rows = rows.filter(|_| only).ok_or("can't parse reply keyboard markup JSON object")?;
    for button in rows.iter().flat_map(|row| row.as_array().cloned().unwrap_or_default()) {
        let text = button["text"].as_str().unwrap_or_default();
        let data = button["callback_data"].as_str().unwrap_or_default();
        if text.is_empty() || button.as_object().is_none_or(|b| b.len() != 2) {
            return Err("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard".to_owned());
        }
        if !(1..=64).contains(&data.len()) {
            return Err("BUTTON_DATA_INVALID".to_owned());
        }
    }
    Ok(())
}

/// The text without markup. Telegram lets a lone `&` or `>` pass; here it must be escaped.
pub fn parse_html(html: &str) -> Result<String, String> {
    let (mut out, mut open, mut rest) = (String::new(), Vec::new(), html);
    while let Some(c) = rest.chars().next() {
        let at = html.len() - rest.len();
        let taken = match c {
            '<' => {
                let end = rest.find('>').ok_or(format!("Unclosed start tag at byte offset {at}"))?;
                let tag = &rest[1..end];
                match tag.strip_prefix('/') {
                    Some(name) if open.pop() == Some(name) => {}
                    Some(name) => return Err(format!("Unmatched end tag {name:?} at byte offset {at}")),
                    None if TAGS.contains(&tag) => open.push(tag),
                    None => return Err(format!("Unsupported start tag {tag:?} at byte offset {at}")),
                }
                end + 1
            }
            '&' => {
                let entity = ENTITIES.iter().find(|e| rest.starts_with(**e)).ok_or(format!("Unescaped & at byte offset {at}"))?;
                out.push(match *entity {
                    "&lt;" => '<',
                    "&gt;" => '>',
                    "&amp;" => '&',
                    _ => '"',
                });
                entity.len()
            }
            '>' => return Err(format!("Unescaped > at byte offset {at}")),
            other => {
                out.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    if let Some(tag) = open.pop() {
        return Err(format!("Can't find end tag corresponding to start tag {tag:?}"));
    }
    Ok(out)
}
