//! Webhooks: one JSON document by `POST`, signed if a secret is set.
//!
//! The format is ours and versioned (`docs/channels.md`): a field is added without a new version, never changed or
//! removed. Redirects are not followed, because a signed message must not be handed to a host nobody named. Headers
//! often hold credentials and the path of a hook often is one: of the URL only the origin is ever shown, and of the
//! headers only the names.

use super::content::Content;
use super::{ATTEMPT_MAX, Accepted, Channel, ChannelKind, Delivery, MASK, Refused, RefusedClass, Retry, answer, text};
use crate::config::decode::{self, Fields, Key, Node, Problems};
use crate::config::tagged::Kind;
use crate::net::{Net, Request};
use async_trait::async_trait;
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::Sha256;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;
use url::Url;
use watchkeeper_core::{Dur, Micros};

/// The version of the body's format, in its field `version`.
pub const VERSION: u32 = 1;
/// The most headers of its own that a webhook may have. More is surely a mistake; proxies refuse heads beyond 8 KiB.
const HEADERS_MAX: usize = 32;

/// Headers that this channel sets itself.
const OWN_HEADERS: [&str; 8] = [
    "content-type",
    "content-length",
    "host",
    "user-agent",
    "transfer-encoding",
    "idempotency-key",
    "x-watchkeeper-timestamp",
    "x-watchkeeper-signature",
];

/// Keys of `webhook:`.
pub const KEYS: &[Key] = &[
    Key { name: "url", form: "an http:// or https:// URL", default: "", doc: "Where the message is posted." },
    Key { name: "url_file", form: "a path", default: "", doc: "A file that holds the URL, for URLs that are a secret." },
    Key {
        name: "headers",
        form: "a mapping of header names to values",
        default: "{}",
        doc: "Headers sent with every message; their values are kept secret.",
    },
    Key { name: "secret", form: "a text", default: "", doc: "Key of the HMAC-SHA256 signature in X-Watchkeeper-Signature." },
    Key { name: "secret_file", form: "a path", default: "", doc: "A file that holds the secret." },
    Key { name: "timeout", form: "a duration such as 10s", default: "10s", doc: "An attempt is ended after so long." },
];

/// The line of the list of kinds.
pub const KIND: Kind<ChannelKind> = Kind {
    name: "webhook",
    doc: "A JSON document by POST, signed if a secret is set.",
    keys: KEYS,
    sections: &[],
    examples: &[("url", "https://example.org/hook")],
    decode: |node, problems| Config::decode(node, problems).map(ChannelKind::Webhook),
};

/// A webhook as configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to; secret as a whole.
    url: SecretString,
    /// Scheme, host and port of it: all that is ever shown.
    origin: String,
    headers: Vec<(HeaderName, SecretString)>,
    secret: Option<SecretString>,
    timeout: Dur,
}

impl Config {
    /// Decodes the section; `None` after a problem was added.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.0.len();
        let fields = Fields::open(node, KEYS, problems)?;
        let url = decode_url(&fields, problems);
        let headers = fields.get("headers").map_or(Some(Vec::new()), |n| decode_headers(n, problems));
        let secret = decode::secret(&fields, "secret", "secret_file", problems);
        let range = Dur::secs(1)..=ATTEMPT_MAX;
        let timeout = fields.get("timeout").map_or(Some(ATTEMPT_MAX), |n| decode::duration(n, range, problems));
        let ((url, origin), headers, timeout) = (url?, headers?, timeout?);
        (problems.0.len() == before).then_some(Self { url, origin, headers, secret, timeout })
    }

    /// One lease and budget per host.
    pub fn budget_key(&self) -> String {
        format!("webhook/{}", self.origin.split_once("://").map_or(self.origin.as_str(), |(_, host)| host))
    }

    /// With or without secrets, in one fixed order.
    pub fn canonical(&self, secrets: bool) -> Value {
        let show = |s: &SecretString| if secrets { s.expose_secret().to_owned() } else { MASK.to_owned() };
        let headers: serde_json::Map<String, Value> = self.headers.iter().map(|(k, v)| (k.to_string(), Value::from(show(v)))).collect();
        json!({
            "url": if secrets { self.url.expose_secret().to_owned() } else { format!("{}/{MASK}", self.origin) },
            "headers": headers,
            "secret": self.secret.as_ref().map(show),
            "timeout": decode::show_duration(self.timeout),
        })
    }
}

/// The URL with its origin.
fn decode_url(fields: &Fields<'_>, problems: &mut Problems) -> Option<(SecretString, String)> {
    const FORM: &str = "an http:// or https:// URL with a host";
    let found = super::required_secret(fields, "url", "url_file", FORM, problems)?;
    let at = fields.get("url").or_else(|| fields.get("url_file")).map_or(fields.at, |n| &n.at);
    let Ok(url) = Url::parse(found.expose_secret()) else {
        // The text itself may be a secret: it is not repeated.
        problems.add(at, "a text that is not a URL", FORM.to_owned());
        return None;
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        problems.add(at, format!("a URL of scheme `{}`", url.scheme()), FORM.to_owned());
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        problems.add(at, "a URL with credentials", "an `Authorization` header under `headers`".to_owned());
        return None;
    }
    Some((SecretString::from(url.as_str()), url.origin().ascii_serialization()))
}

fn decode_headers(node: &Node, problems: &mut Problems) -> Option<Vec<(HeaderName, SecretString)>> {
    let found = decode::entries(node, problems, |value, problems| {
        let value_text = decode::text(value, problems)?;
        if HeaderValue::from_str(&value_text).is_err() {
            problems.add(&value.at, "a header value with control characters", "printable characters".to_owned());
            return None;
        }
        Some(SecretString::from(value_text))
    })?;
    if found.len() > HEADERS_MAX {
        problems.add(&node.at, format!("{} headers", found.len()), format!("at most {HEADERS_MAX}"));
        return None;
    }
    let before = problems.0.len();
    let mut headers = Vec::new();
    for (name, value) in found {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(parsed) if OWN_HEADERS.contains(&parsed.as_str()) => {
                problems.add(&node.at, format!("header `{name}`, which is set by Watchkeeper itself"), "any other header".to_owned());
            }
            Ok(parsed) => headers.push((parsed, value)),
            Err(_) => problems.add(&node.at, format!("`{name}`, which is not a header name"), "letters, digits and dashes".to_owned()),
        }
    }
    (problems.0.len() == before).then_some(headers)
}

/// The body, version 1. `docs/channels.md` describes it field by field.
pub fn body(content: &Content, key: &str, now: Micros) -> Value {
    let Content::Incident(message) = content else {
        return json!({ "version": VERSION, "key": key, "event": "test", "sent_at": text::iso(now), "incident": null, "monitor": null, "tenant": null, "seen_by": {}, "text": text::words(content).plain() });
    };
    let seconds = |from: Micros, to: Micros| (to - from).0.max(0) as f64 / 1e6;
    json!({
        "version": VERSION,
        "key": key,
        "event": message.event.as_str(),
        "sent_at": text::iso(now),
        "incident": {
            "id": message.incident,
            "rule": message.rule,
            "severity": message.severity.as_str(),
            "reason": message.reason,
            "summary": message.summary,
            "detail": message.detail,
            "opened_at": text::iso(message.opened_at),
            "resolved_at": message.resolved_at.map(text::iso),
            "resolved_why": message.resolved_why,
            "duration_seconds": message.resolved_at.map(|end| seconds(message.opened_at, end)),
        },
        "monitor": {
            "id": message.monitor_uid,
            "name": message.monitor,
            "kind": message.kind,
            "target": message.target,
            "labels": message.labels,
        },
        "tenant": message.tenant,
        "seen_by": message.seen_by,
        "text": text::text(message).plain(),
    })
}

/// `v1=` and the hex HMAC-SHA256 over `timestamp.body`: a receiver that also checks the time cannot be fooled by a
/// recording. Stripe and Slack sign this way.
pub fn signature(secret: &SecretString, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().iter().fold(String::from("v1="), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A webhook, ready to be told.
pub struct Webhook {
    config: Config,
}

impl Webhook {
    /// A webhook as configured.
    pub const fn new(config: Config) -> Self {
        Self { config }
    }

    fn request(&self, delivery: &Delivery) -> Result<Request, Refused> {
        let bad = |what: &str| answer::refused(RefusedClass::Client, Retry::Never, format!("the webhook's {what} cannot be sent"));
        let config = &self.config;
        let body = body(&delivery.content, &delivery.key, delivery.now).to_string();
        let timestamp = delivery.now.0.div_euclid(1_000_000).to_string();
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| bad("headers"))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
        headers.insert("idempotency-key", HeaderValue::from_str(&delivery.key).map_err(|_| bad("key"))?);
        headers.insert("x-watchkeeper-timestamp", HeaderValue::from_str(&timestamp).map_err(|_| bad("timestamp"))?);
        if let Some(secret) = &config.secret {
            let signed = signature(secret, &timestamp, body.as_bytes());
            headers.insert("x-watchkeeper-signature", HeaderValue::from_str(&signed).map_err(|_| bad("signature"))?);
        }
        let url = Url::parse(config.url.expose_secret()).map_err(|_| bad("URL"))?;
        Ok(Request { method: Method::POST, url, headers, body: body.into() })
    }

    /// Everything that must not be shown: a server may send back what it was given.
    fn secrets(&self) -> Vec<&str> {
        let config = &self.config;
        let url = config.url.expose_secret();
        let rest = url.strip_prefix(config.origin.as_str()).unwrap_or(url);
        let parts = rest.split(['/', '?', '&', '=', '#']);
        let values = config.headers.iter().map(|(_, value)| value.expose_secret());
        let words = values.clone().flat_map(str::split_whitespace);
        let mut all: Vec<&str> = [url, rest]
            .into_iter()
            .chain(values)
            .chain(words)
            .chain(config.secret.iter().map(ExposeSecret::expose_secret))
            .chain(parts)
            .collect();
        // Whole ones before their parts.
        all.sort_by_key(|s| std::cmp::Reverse(s.len()));
        all
    }
}

#[async_trait]
impl Channel for Webhook {
    async fn deliver(&self, net: &Arc<Net>, delivery: &Delivery) -> Result<Accepted, Refused> {
        let request = self.request(delivery)?;
        let deadline = delivery.deadline.min(Instant::now() + self.config.timeout.to_std());
        let answer = net.send(&request, deadline, answer::ANSWER_MAX).await.map_err(|fault| answer::unreached(&fault, &self.secrets()))?;
        if answer.status.is_success() {
            return Ok(Accepted::default());
        }
        let asked = answer::retry_after(answer.headers.get(http::header::RETRY_AFTER), delivery.now);
        let (class, retry) = answer::classify(answer.status, asked);
        let said = answer::excerpt(&answer.body, &self.secrets());
        let what = if answer.status.is_redirection() { ", a redirect, which is not followed" } else { "" };
        let colon = if said.is_empty() { "" } else { ": " };
        Err(answer::refused(class, retry, format!("{} answered {}{what}{colon}{said}", self.config.origin, answer.status.as_u16())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::sample;

    #[test]
    fn the_body_of_version_1_stays_as_it_is() {
        let now = Micros(1_795_317_130_000_000);
        insta::assert_snapshot!("opened", format!("{:#}", body(&Content::Incident(sample::opened()), "incident/x/opened/0/1", now)));
        insta::assert_snapshot!("resolved", format!("{:#}", body(&Content::Incident(sample::resolved()), "incident/x/resolved/1/1", now)));
        insta::assert_snapshot!("test", format!("{:#}", body(&Content::Test(crate::channel::content::TestWord { channel: "hook".into(), kind: "webhook".into(), at: now }), "test/hook/1", now)));
    }

    #[test]
    fn signs_as_another_implementation_does() {
        // printf '1795317130.{"a":1}' | openssl dgst -sha256 -hmac 'correct horse'
        let signed = signature(&SecretString::from("correct horse"), "1795317130", br#"{"a":1}"#);
        assert_eq!(signed, "v1=4afce75dc0ae9d24acd2e8f083e11371510b5081f916f1a53184d6732eee476f");
    }
}
