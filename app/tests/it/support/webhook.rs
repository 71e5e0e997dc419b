//! A stand-in for somebody's webhook: checks every call against `docs/channels.md`, also its signature.

use super::provider::{Call, Provider};
use axum::http::{Method, StatusCode};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

/// The key that signed messages are signed with.
pub const SECRET: &str = "correct horse battery staple";

/// Starts one that takes `POST /hook`; with `signed`, only messages signed with [`SECRET`], else only unsigned ones.
pub async fn start(signed: bool) -> Provider {
    Provider::start(
        move |call| check(call, signed).map_err(|text| (StatusCode::BAD_REQUEST, text)),
        |_, _| (StatusCode::NO_CONTENT, String::new()),
    )
    .await
}

fn check(call: &Call, signed: bool) -> Result<(), String> {
    let header = |name: &str| call.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let same = |what: &str, found: Option<&str>, wanted: &str| match found {
        Some(found) if found == wanted => Ok(()),
        other => Err(format!("{what} is {other:?} instead of {wanted:?}")),
    };
    same("method", Some(call.method.as_str()), Method::POST.as_str())?;
    same("path", Some(call.path.split('?').next().unwrap_or_default()), "/hook")?;
    same("content-type", header("content-type").as_deref(), "application/json")?;
    same("content-length", header("content-length").as_deref(), &call.body.len().to_string())?;
    if !header("user-agent").is_some_and(|v| v.starts_with("Watchkeeper/")) {
        return Err("user-agent is not Watchkeeper's".to_owned());
    }
    let timestamp = header("x-watchkeeper-timestamp").ok_or("no x-watchkeeper-timestamp")?;
    timestamp.parse::<u64>().map_err(|e| format!("x-watchkeeper-timestamp: {e}"))?;
    let signature = header("x-watchkeeper-signature");
    match (signed, signature) {
        (false, None) => {}
        (true, Some(found)) => verify(&timestamp, &call.body, &found)?,
        (_, found) => return Err(format!("x-watchkeeper-signature is {found:?}")),
    }
    let body: Value = serde_json::from_slice(&call.body).map_err(|e| e.to_string())?;
    same("key", body["key"].as_str(), &header("idempotency-key").ok_or("no idempotency-key")?)?;
    document(&body)
}

/// As a receiver verifies: decode, compute, compare in constant time.
fn verify(timestamp: &str, body: &[u8], found: &str) -> Result<(), String> {
    let hex = found.strip_prefix("v1=").ok_or("the signature's version is not v1")?;
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("the signature is not hex: {e}"))?;
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key");
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(body);
    mac.verify_slice(&bytes).map_err(|_| "the signature is wrong".to_owned())
}

/// Version 1 of the document, field by field.
fn document(body: &Value) -> Result<(), String> {
    same("the document", body, "digest event incident key monitor node report seen_by sent_at tenant text title version")?;
    if body["version"] != 1 || [&body["text"], &body["title"]].iter().any(|t| t.as_str().is_none_or(str::is_empty)) {
        return Err("version, text or title is wrong".to_owned());
    }
    let parts = ["incident", "monitor", "digest", "report", "node"].map(|part| (part, !body[part].is_null()));
    let there: Vec<&str> = parts.into_iter().filter(|(_, there)| *there).map(|(part, _)| part).collect();
    let wanted: &[&str] = match body["event"].as_str() {
        Some("opened" | "reminded" | "escalated" | "acknowledged" | "unacknowledged" | "resolved") => &["incident", "monitor"],
        Some("digest") => &["digest"],
        Some("report") => &["report"],
        Some("node") => &["node"],
        Some("test") => &[],
        other => return Err(format!("event {other:?}")),
    };
    if there != wanted {
        return Err(format!("{} with {there:?}", body["event"]));
    }
    match wanted {
        ["incident", ..] => word(body),
        ["digest"] => {
            same("digest", &body["digest"], "more open resolved words")?;
            body["digest"]["words"].as_array().into_iter().flatten().try_for_each(word)
        }
        ["report"] => same("report", &body["report"], "counts from incidents_open incidents_opened lines more name paused to"),
        ["node"] => same("node", &body["node"], "at datacenter event name severity summary until"),
        _ => Ok(()),
    }
}

/// One word about an incident.
fn word(of: &Value) -> Result<(), String> {
    let incident = &of["incident"];
    same(
        "incident",
        incident,
        "actor comment cut_off detail duration_seconds flapping id opened_at reason resolved_at resolved_why rule severity summary",
    )?;
    same("monitor", &of["monitor"], "id kind labels name target")?;
    let ended = !incident["resolved_at"].is_null();
    match (of["event"].as_str(), ended, incident["duration_seconds"].is_number()) {
        (Some("opened" | "reminded" | "escalated" | "acknowledged" | "unacknowledged"), false, false) | (Some("resolved"), true, true) => {
            Ok(())
        }
        other => Err(format!("event, end and duration do not fit: {other:?}")),
    }
}

/// Whether an object has exactly these fields.
fn same(what: &str, found: &Value, wanted: &str) -> Result<(), String> {
    let found = found.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join(" ")).unwrap_or_default();
    if found == wanted { Ok(()) } else { Err(format!("fields of {what}: {found}")) }
}
