//! Webhooks: one document by `POST`, signed if a secret is set.
//!
//! In our own form, in Alertmanager's, in V-Insight's, or as a template of the operator's own makes it. Redirects are not
//! followed, because a signed message must not be handed to a host nobody named. Headers often hold credentials and the path
//! of a hook often is one: of the URL only the origin is ever shown, and of the headers only the names.

mod alertmanager;
mod call;
mod config;
mod document;
mod template;

pub use call::{call, call_url};
pub use config::{Config, KEYS, KIND};
pub use document::VERSION;

use super::common::Style;
use super::template::v_insight;
use super::{Accepted, Channel, Delivery, Refused, RefusedClass, Retry, answer, text};
use crate::net::{Net, Request};
use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use config::Format;
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use std::sync::Arc;
use std::time::Instant;
use url::Url;

/// A word of a template so long may be a credential. Shorter ones are words of the body's own.
const OWN_SECRET_MIN: usize = 16;

/// `v1=` and the hex HMAC-SHA256 over `timestamp.body`: a receiver that also checks the time cannot be fooled by a
/// recording. Stripe and Slack sign this way.
pub fn signature(secret: &SecretString, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).expect("HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("v1={}", crate::hex(&mac.finalize().into_bytes()))
}

/// A webhook, ready to be told.
pub struct Webhook {
    config: Config,
    /// What `receiver` says in Alertmanager's form.
    name: String,
    style: Style,
}

impl Webhook {
    /// A webhook as configured, under its name.
    pub fn new(config: Config, name: &str, style: Style) -> Self {
        Self { config, name: name.to_owned(), style }
    }

    /// The body and what it is.
    fn body(&self, delivery: &Delivery) -> Result<(Vec<u8>, &str), Refused> {
        const JSON: &str = "application/json";
        let (content, now) = (&delivery.content, delivery.now);
        let told = text::text(content, self.style, now);
        let document = || document::document(content, &told, &delivery.key, now);
        let json = match &self.config.format {
            Format::Native => document(),
            Format::Alertmanager => alertmanager::body(content, &told, &self.name, now),
            Format::VInsight => v_insight::document(content, self.style.language.words(), &told, &delivery.key),
            Format::Own(template) => {
                let fault = |fault: String| {
                    answer::refused(RefusedClass::Client, Retry::Never, format!("the webhook's template has a fault: {fault}"))
                };
                return template.render(&document()).map(|body| (body, template.content_type.as_str())).map_err(fault);
            }
        };
        Ok((json.to_string().into_bytes(), JSON))
    }

    fn request(&self, delivery: &Delivery) -> Result<Request, Refused> {
        let bad = |what: &str| answer::refused(RefusedClass::Client, Retry::Never, format!("the webhook's {what} cannot be sent"));
        let config = &self.config;
        let (body, content_type) = self.body(delivery)?;
        let timestamp = delivery.now.0.div_euclid(1_000_000).to_string();
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| bad("headers"))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_str(content_type).map_err(|_| bad("content type"))?);
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
        headers.insert("idempotency-key", HeaderValue::from_str(&delivery.key).map_err(|_| bad("key"))?);
        headers.insert("x-watchkeeper-timestamp", HeaderValue::from_str(&timestamp).map_err(|_| bad("timestamp"))?);
        if let Some(secret) = &config.secret {
            let signed = signature(secret, &timestamp, &body);
            headers.insert("x-watchkeeper-signature", HeaderValue::from_str(&signed).map_err(|_| bad("signature"))?);
        }
        let url = Url::parse(config.url.expose_secret()).map_err(|_| bad("URL"))?;
        Ok(Request { method: Method::POST, url, headers, body: body.into() })
    }

    /// Everything that must not be shown: a server may send back what it was given, and in the form in which it read it.
    fn secrets(&self) -> Vec<String> {
        let config = &self.config;
        let url = config.url.expose_secret();
        let rest = url.strip_prefix(config.origin.as_str()).unwrap_or(url);
        let parts = rest.split(['/', '?', '&', '=', '#']);
        let values = config.headers.iter().map(|(_, value)| value.expose_secret());
        let words = values.clone().flat_map(str::split_whitespace);
        // A template may hold a credential: its longer words are treated as one.
        let source = match &config.format {
            Format::Own(template) => template.source.as_str(),
            Format::Native | Format::Alertmanager | Format::VInsight => "",
        };
        let own = source.split(|c: char| c.is_whitespace() || "\"'{}<>".contains(c)).filter(|word| word.len() >= OWN_SECRET_MIN);
        let decoded = parts.clone().flat_map(|part| url::form_urlencoded::parse(part.as_bytes()).map(|(word, _)| word.into_owned()));
        // The user and password of basic authentication (RFC 7617 section 2).
        let pairs = words.clone().filter_map(|word| BASE64_STANDARD.decode(word).ok()).filter_map(|bytes| String::from_utf8(bytes).ok());
        let pairs = pairs.flat_map(|pair| {
            pair.split_once(':').map(|(_, password)| password.to_owned()).into_iter().chain([pair.clone()]).collect::<Vec<_>>()
        });
        let mut all: Vec<String> = [url, rest]
            .into_iter()
            .chain(values)
            .chain(words.clone())
            .chain(config.secret.iter().map(ExposeSecret::expose_secret))
            .chain(parts.clone())
            .chain(own)
            .map(str::to_owned)
            .chain(decoded)
            .chain(pairs)
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
    use crate::channel::{ATTEMPT_MAX, sample};
    use std::fmt::Write as _;

    fn all(format: Format) -> String {
        let url = SecretString::from("https://hooks.example.org/a");
        let config = Config { url, origin: String::new(), headers: vec![], secret: None, format, timeout: ATTEMPT_MAX };
        let hook = Webhook::new(config, "ops", Style::default());
        let mut all = String::new();
        for (what, content) in sample::all() {
            let delivery = Delivery { content, key: "incident/x/1/1".to_owned(), deadline: Instant::now(), now: sample::NOW, thread: None };
            let (body, _) = hook.body(&delivery).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let _ = writeln!(all, "── {what}\n{body:#}");
        }
        all
    }

    #[test]
    fn bodies_stay_as_they_are() {
        insta::assert_snapshot!("native", all(Format::Native));
        insta::assert_snapshot!("v_insight", all(Format::VInsight));
    }

    #[test]
    fn signs_as_another_implementation_does() {
        // printf '1795317130.{"a":1}' | openssl dgst -sha256 -hmac 'correct horse'
        let signed = signature(&SecretString::from("correct horse"), "1795317130", br#"{"a":1}"#);
        assert_eq!(signed, "v1=4afce75dc0ae9d24acd2e8f083e11371510b5081f916f1a53184d6732eee476f");
    }
}
