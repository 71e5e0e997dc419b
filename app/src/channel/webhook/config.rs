//! A webhook's configuration.

use super::template::{SOURCE_MAX, Template};
use crate::channel::{ATTEMPT_MAX, ChannelKind, MASK, required_secret};
use crate::config::decode::{self, Fields, Key, Node, Problems};
use crate::config::tagged::Kind;
use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;
use watchkeeper_core::Dur;

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
    Key {
        name: "format",
        form: "native, alertmanager or v-insight",
        default: "native",
        doc: "The form of the body: our own document, Alertmanager's version 4, or V-Insight's.",
    },
    Key {
        name: "body",
        form: "a template (minijinja) over the fields of our own document",
        default: "",
        doc: "A body of your own in place of `format`, such as '{\"text\": {{ text|tojson }}}'; it is tried when the file is read.",
    },
    Key { name: "content_type", form: "a media type", default: "", doc: "What a `body` of your own is; application/json if not given." },
    Key { name: "timeout", form: "a duration such as 10s", default: "10s", doc: "An attempt is ended after so long." },
];

/// The line of the list of kinds.
pub const KIND: Kind<ChannelKind> = Kind {
    name: "webhook",
    doc: "A JSON document by POST, signed if a secret is set.",
    keys: KEYS,
    sections: &[],
    examples: &[("url", "https://example.org/hook")],
    address: &["url"],
    decode: |node, problems| Config::decode(node, problems).map(ChannelKind::Webhook),
};

/// A webhook as configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to; secret as a whole.
    pub(super) url: SecretString,
    /// Scheme, host and port of it: all that is ever shown.
    pub(super) origin: String,
    pub(super) headers: Vec<(HeaderName, SecretString)>,
    pub(super) secret: Option<SecretString>,
    pub(super) format: Format,
    pub(super) timeout: Dur,
}

/// The form of the body.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Native,
    Alertmanager,
    VInsight,
    Own(Template),
}

impl Config {
    /// Decodes the section; `None` after a problem was added.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.told();
        let fields = Fields::open(node, KEYS, problems)?;
        let url = decode_url(&fields, problems);
        let headers = fields.get("headers").map_or(Some(Vec::new()), |n| decode_headers(n, problems));
        let secret = decode::secret(&fields, "secret", "secret_file", problems);
        let range = Dur::secs(1)..=ATTEMPT_MAX;
        let timeout = fields.get("timeout").map_or(Some(ATTEMPT_MAX), |n| decode::duration(n, range, problems));
        let format = decode_format(&fields, problems);
        let ((url, origin), headers, format, timeout) = (url?, headers?, format?, timeout?);
        (problems.told() == before).then_some(Self { url, origin, headers, secret, format, timeout })
    }

    /// One lease and budget per host.
    pub fn budget_key(&self) -> String {
        format!("webhook/{}", self.origin.split_once("://").map_or(self.origin.as_str(), |(_, host)| host))
    }

    /// With or without secrets, in one fixed order.
    pub fn canonical(&self, secrets: bool) -> Value {
        let show = |s: &SecretString| if secrets { s.expose_secret().to_owned() } else { MASK.to_owned() };
        let (format, own) = match &self.format {
            Format::Native => (Some("native"), None),
            Format::Alertmanager => (Some("alertmanager"), None),
            Format::VInsight => (Some("v-insight"), None),
            Format::Own(template) => (None, Some(template)),
        };
        let headers: serde_json::Map<String, Value> = self.headers.iter().map(|(k, v)| (k.to_string(), Value::from(show(v)))).collect();
        json!({
            "url": if secrets { self.url.expose_secret().to_owned() } else { format!("{}/{MASK}", self.origin) },
            "headers": headers,
            "secret": self.secret.as_ref().map(show),
            "format": format,
            // A template may hold a credential as any text may.
            "body": own.map(|own| if secrets { own.source.as_str() } else { MASK }),
            "content_type": own.map(|own| own.content_type.as_str()),
            "timeout": decode::show_duration(self.timeout),
        })
    }
}

/// The URL with its origin.
fn decode_url(fields: &Fields<'_>, problems: &mut Problems) -> Option<(SecretString, String)> {
    const FORM: &str = "an http:// or https:// URL with a host";
    let found = required_secret(fields, "url", "url_file", FORM, problems)?;
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
    let before = problems.told();
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
    (problems.told() == before).then_some(headers)
}

fn decode_format(fields: &Fields<'_>, problems: &mut Problems) -> Option<Format> {
    type Make = fn() -> Format;
    const FORMATS: [(&str, Make); 3] =
        [("native", || Format::Native), ("alertmanager", || Format::Alertmanager), ("v-insight", || Format::VInsight)];
    let format = fields.get("format").map(|n| decode::one_of(n, &FORMATS, problems));
    let content_type = fields.get("content_type");
    let Some(node) = fields.get("body") else {
        if let Some(lost) = content_type {
            problems.add(&lost.at, "`content_type` without `body`", "a `body` of your own beside it".to_owned());
        }
        return format.map_or(Some(Format::Native), |found| found.map(|make| make()));
    };
    if let Some(second) = fields.get("format") {
        problems.add(&second.at, "both `format` and `body`", "one of them".to_owned());
        return None;
    }
    let source = decode::text(node, problems)?;
    let content_type = content_type.map_or(Some("application/json".to_owned()), |n| {
        decode::parsed(n, "a media type such as application/json", problems, |t| {
            (t.contains('/') && HeaderValue::from_str(t).is_ok()).then(|| t.to_owned())
        })
    })?;
    if source.len() > SOURCE_MAX {
        problems.add(&node.at, format!("a template of {} bytes", source.len()), format!("at most {SOURCE_MAX}"));
        return None;
    }
    let own = Template { source, content_type };
    if let Err(fault) = own.try_all() {
        problems.add(&node.at, format!("a template with a fault: {fault}"), "a template that makes a body of every message".to_owned());
        return None;
    }
    Some(Format::Own(own))
}
