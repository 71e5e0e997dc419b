//! A stand-in for Discord's webhooks: `Execute Webhook`, as strict as the real one and a little stricter.
//! Source: <https://docs.discord.com/developers/resources/webhook#execute-webhook>.

use super::provider::{Act, Call, Provider};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

/// The webhook's number and a token of the right form that belongs to nobody.
pub const NUMBER: &str = "1234567890";
pub const TOKEN: &str = "TEST-abcdefghijklmnop_qrstuvwxyz";

/// Starts one that knows only the webhook [`NUMBER`].
pub async fn start() -> Provider {
    Provider::start(check, |_, nth| {
        let message = json!({ "id": (9_000 + nth).to_string(), "type": 0, "channel_id": "1", "embeds": [] });
        (StatusCode::OK, message.to_string())
    })
    .await
}

/// Too many messages, as Discord says it: seconds with a fraction in the body, headers beside it.
pub fn too_many(body: Option<f64>, headers: &[(&'static str, &str)]) -> Act {
    let mut said = json!({ "message": "You are being rate limited.", "global": false });
    if let Some(seconds) = body {
        said["retry_after"] = Value::from(seconds);
    }
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Act::Answer(StatusCode::TOO_MANY_REQUESTS, headers, said.to_string())
}

fn fault(status: StatusCode, code: u32, message: &str) -> (StatusCode, String) {
    (status, json!({ "message": message, "code": code }).to_string())
}

fn check(call: &Call) -> Result<(), (StatusCode, String)> {
    let bad = |text: String| Err(fault(StatusCode::BAD_REQUEST, 50_035, &format!("Invalid Form Body: {text}")));
    let path = call.path.split('?').next().unwrap_or_default();
    match path.strip_prefix("/api/webhooks/").and_then(|rest| rest.split_once('/')) {
        Some((NUMBER, TOKEN)) => {}
        Some((NUMBER, _)) => return Err(fault(StatusCode::UNAUTHORIZED, 50_027, "Invalid Webhook Token")),
        Some(_) | None => return Err(fault(StatusCode::NOT_FOUND, 10_015, "Unknown Webhook")),
    }
    if !call.path.split('?').nth(1).is_some_and(|query| query.split('&').any(|pair| pair == "wait=true")) {
        return bad("without wait=true nobody learns whether it was taken".to_owned());
    }
    if call.method != Method::POST || call.headers.get("content-type").is_none_or(|v| v != "application/json") {
        return Err(fault(StatusCode::BAD_REQUEST, 50_109, "The request body contains invalid JSON."));
    }
    let Ok(Value::Object(sent)) = serde_json::from_slice::<Value>(&call.body) else {
        return Err(fault(StatusCode::BAD_REQUEST, 50_109, "The request body contains invalid JSON."));
    };
    if let Some(unknown) = sent.keys().find(|k| !["embeds", "allowed_mentions"].contains(&k.as_str())) {
        return bad(format!("unknown {unknown}"));
    }
    if sent.get("allowed_mentions") != Some(&json!({ "parse": [] })) {
        return bad("allowed_mentions lets somebody be mentioned".to_owned());
    }
    match sent.get("embeds").and_then(Value::as_array).map(Vec::as_slice) {
        Some([one]) => embed(one).or_else(bad),
        Some(_) | None => bad("embeds: one is expected".to_owned()),
    }
}

/// An embed with its limits, counted in UTF-16 units.
fn embed(of: &Value) -> Result<(), String> {
    const KEYS: [&str; 6] = ["title", "description", "color", "timestamp", "fields", "footer"];
    let object = of.as_object().ok_or("embeds.0: not an object")?;
    if let Some(unknown) = object.keys().find(|k| !KEYS.contains(&k.as_str())) {
        return Err(format!("embeds.0.{unknown}: unknown"));
    }
    let mut total = 0;
    let mut text = |name: &str, value: &Value, needed: bool, most: usize| match value.as_str().map(|t| t.encode_utf16().count()) {
        None if value.is_null() && !needed => Ok(()),
        Some(units) if (1..=most).contains(&units) => {
            total += units;
            Ok(())
        }
        other => Err(format!("embeds.0.{name}: {other:?} units, must be between 1 and {most} in length")),
    };
    text("title", &of["title"], true, 256)?;
    text("description", &of["description"], false, 4_096)?;
    text("footer", &of["footer"]["text"], false, 2_048)?;
    let fields = of["fields"].as_array().cloned().unwrap_or_default();
    for (nth, field) in fields.iter().enumerate() {
        text(&format!("fields.{nth}.name"), &field["name"], true, 256)?;
        text(&format!("fields.{nth}.value"), &field["value"], true, 1_024)?;
    }
    if fields.len() > 25 || total > 6_000 {
        return Err(format!("embeds: {total} characters and {} fields exceed the maximum", fields.len()));
    }
    if of["color"].as_u64().is_none_or(|color| color > 0xff_ff_ff) {
        return Err("embeds.0.color: not a number".to_owned());
    }
    let at = of["timestamp"].as_str().unwrap_or_default();
    at.parse::<jiff::Timestamp>().map(drop).map_err(|error| format!("embeds.0.timestamp: {error}"))
}
