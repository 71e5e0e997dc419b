//! Discord: one embed by a webhook of a channel.
//!
//! Whoever has the webhook's URL may write into the channel, so that it is a secret as a whole; only its number is shown.
//! Nobody is ever mentioned: `@everyone` in a monitor's name stays text.
//! Source: <https://docs.discord.com/developers/resources/webhook#execute-webhook>.

use super::common::{Style, Template};
use super::content::{Content, NodeEvent};
use super::template::v_insight;
use super::text::{Text, cut_utf16, text};
use super::words::fill;
use super::{Accepted, Caps, Channel, ChannelKind, Delivery, MASK, Refused, RefusedClass, Retry, USER_AGENT, answer};
use crate::config::decode::{self, Fields, Key, Node, Problems};
use crate::config::tagged::Kind;
use crate::net::{Net, Request};
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use smallvec::smallvec;
use std::sync::Arc;
use url::Url;
use watchkeeper_core::verdict::NoticeEvent;
use watchkeeper_core::{Dur, Micros, Severity};

/// An embed's title, in UTF-16 units. All limits: <https://docs.discord.com/developers/resources/message#embed-object-embed-limits>.
const TITLE_MAX: usize = 256;
/// Its description.
const DESCRIPTION_MAX: usize = 4_096;
/// A field's value. Five of them, a title and a footer stay below the 6 000 that an embed may have in all.
const VALUE_MAX: usize = 1_024;
/// Its footer; the provider's limit is 2 048, which the whole could not bear.
const FOOTER_MAX: usize = 256;

/// Keys of `discord:`.
pub const KEYS: &[Key] = &[
    Key {
        name: "url",
        form: "a webhook's URL such as https://discord.com/api/webhooks/123/abc",
        default: "",
        doc: "The webhook of the channel; it is a secret.",
    },
    Key { name: "url_file", form: "a path", default: "", doc: "A file that holds the URL." },
    Key { name: "thread_id", form: "a whole number", default: "", doc: "The thread of the channel; empty for none." },
];

/// The line of the list of kinds.
pub const KIND: Kind<ChannelKind> = Kind {
    name: "discord",
    doc: "A channel or thread, by a webhook of it.",
    keys: KEYS,
    sections: &[],
    examples: &[("url", "https://discord.com/api/webhooks/123456/abcdef")],
    address: &["url"],
    decode: |node, problems| Config::decode(node, problems).map(ChannelKind::Discord),
};

/// A webhook of Discord as configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// With everything that is asked for; secret as a whole.
    url: SecretString,
    /// The webhook's number, which is no secret.
    number: String,
    /// The token at the URL's end.
    token: SecretString,
    /// Scheme, host and port.
    origin: String,
    thread: Option<i64>,
}

impl Config {
    /// Decodes the section; `None` after a problem was added.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        const FORM: &str = "a webhook's URL such as https://discord.com/api/webhooks/123/abc";
        let before = problems.told();
        let fields = Fields::open(node, KEYS, problems)?;
        let url = super::required_secret(&fields, "url", "url_file", FORM, problems);
        let thread = fields.get("thread_id").filter(|n| !matches!(&n.value, decode::Value::Scalar { text, .. } if text.is_empty()));
        let thread = thread.map_or(Some(None), |n| decode::integer(n, 1..=i64::MAX, problems).map(Some));
        // The URL is judged beside a thread with a problem too.
        let config = parse(url?.expose_secret(), thread.flatten());
        if config.is_none() {
            let at = fields.get("url").or_else(|| fields.get("url_file")).map_or(fields.at, |n| &n.at);
            // The text itself may be most of a secret: it is not repeated.
            problems.add(at, "a text that is not the URL of a Discord webhook", FORM.to_owned());
        }
        config.filter(|_| problems.told() == before)
    }

    /// One lease and budget per webhook; its number is no secret.
    pub fn budget_key(&self) -> String {
        format!("discord/{}", self.number)
    }

    /// With or without secrets, in one fixed order.
    pub fn canonical(&self, secrets: bool) -> Value {
        let token = if secrets { self.token.expose_secret() } else { MASK };
        json!({ "url": format!("{}/api/webhooks/{}/{token}", self.origin, self.number), "thread_id": self.thread })
    }
}

/// `…/api/webhooks/NUMBER/TOKEN`, with or without a version behind `api`.
fn parse(text: &str, thread: Option<i64>) -> Option<Config> {
    let mut url = Url::parse(text).ok()?;
    let host = url.host_str().filter(|h| !h.is_empty())?;
    let good = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none() && !host.is_empty();
    let parts: Vec<&str> = url.path().trim_end_matches('/').split('/').skip(1).collect();
    let (number, token) = match parts.as_slice() {
        ["api", "webhooks", number, token] => (*number, *token),
        ["api", version, "webhooks", number, token] if version.starts_with('v') => (*number, *token),
        _ => return None,
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_webhook = number.chars().all(|c| c.is_ascii_digit()) && !number.is_empty() && !token.is_empty() && token.chars().all(word);
    let (number, token) = (number.to_owned(), SecretString::from(token));
    let origin = url.origin().ascii_serialization();
    // With `wait` the answer says that the message is there, and under which id.
    let thread_query = thread.map(|id| format!("&thread_id={id}")).unwrap_or_default();
    url.set_query(Some(&format!("wait=true{thread_query}")));
    url.set_fragment(None);
    (good && is_webhook).then(|| Config { url: SecretString::from(url.as_str()), number, token, origin, thread })
}

/// The body: one embed.
fn payload(content: &Content, style: Style, now: Micros) -> Value {
    let parts = if style.template == Template::VInsight { v_insight::parts(content, style.language.words()) } else { None };
    let embed = match parts {
        Some(parts) => v_insight_embed(&parts, style),
        None => embed(&text(content, style, now), color(content), now),
    };
    json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } })
}

fn embed(told: &Text, color: u32, now: Micros) -> Value {
    let rest: Vec<String> = told.lines.iter().map(|line| escape(&line.plain())).collect();
    let mut embed = json!({
        "title": cut(&escape(&told.title()), TITLE_MAX),
        "color": color,
        "timestamp": super::text::iso(now),
    });
    let rest = cut(rest.join("\n").trim(), DESCRIPTION_MAX);
    if !rest.is_empty() {
        embed["description"] = Value::from(rest);
    }
    embed
}

fn v_insight_embed(parts: &v_insight::Parts, style: Style) -> Value {
    let words = &style.language.words().v_insight;
    // The bare minimum of a value is one character.
    let field = |name: &str, value: &str, inline: bool| {
        let value = cut(&escape(value), VALUE_MAX);
        json!({ "name": name, "value": if value.is_empty() { "–".to_owned() } else { value }, "inline": inline })
    };
    let over = parts.status != "open";
    let name = cut(&escape(&parts.monitor), TITLE_MAX);
    json!({
        "title": parts.title,
        "description": format!("**{name}**"),
        "color": if over { 0x00_ff_00 } else { 0xff_00_00 },
        "timestamp": v_insight::timestamp(parts.at),
        "fields": [
            field(words.monitor, &parts.monitor, true),
            field(words.url, &parts.url, true),
            field(words.status, parts.status, true),
            field(words.message, &parts.message, false),
            field(words.alert_rule, &parts.rule, false),
        ],
        "footer": { "text": cut_utf16(&fill(words.incident, &[("id", &parts.incident)]), FOOTER_MAX) },
    })
}

/// The stripe at the embed's side.
fn color(content: &Content) -> u32 {
    const GREEN: u32 = 0x12_b7_6a;
    const GREY: u32 = 0x66_70_85;
    const VIOLET: u32 = 0x69_41_c6;
    let bad = |severity| match severity {
        Severity::Critical => 0xd9_2d_20,
        Severity::Warning => 0xf7_90_09,
        Severity::Info => 0x2e_90_fa,
    };
    match content {
        Content::Incident(message) => match message.event {
            NoticeEvent::Opened | NoticeEvent::Reminded | NoticeEvent::Escalated | NoticeEvent::Unacknowledged => bad(message.severity),
            NoticeEvent::Acknowledged => VIOLET,
            NoticeEvent::Resolved if message.resolved_why.as_deref().is_none_or(|why| why == "recovered") => GREEN,
            NoticeEvent::Resolved => GREY,
        },
        Content::Digest(digest) if digest.open == 0 => GREEN,
        Content::Digest(digest) => digest.words.iter().map(|m| m.severity).max().map_or(GREY, bad),
        Content::Node(word) => match word.event {
            NodeEvent::Failed | NodeEvent::CutOff | NodeEvent::ChannelsFailed => bad(word.severity),
            NodeEvent::Started | NodeEvent::Stopped => GREY,
        },
        Content::Report(_) | Content::Test(_) => GREY,
    }
}

/// What Discord would take for markup is text. Links stay as they are, as it shows an escape within one; what could end a link and begin
/// another thing is part of none.
fn escape(line: &str) -> String {
    const MARKUP: &str = "\\*_~`|[]()<>#";
    const ENDS_LINK: &str = "[]()<>|*`\\";
    let word = |word: &str| -> String {
        let link = word.starts_with("https://") || word.starts_with("http://");
        let marks = if link { ENDS_LINK } else { MARKUP };
        word.chars().flat_map(|c| marks.contains(c).then_some('\\').into_iter().chain([c])).collect()
    };
    let escaped = line.split_inclusive(char::is_whitespace).map(word).collect::<String>();
    // At a line's beginning these would make a list.
    if escaped.starts_with("- ") || escaped.starts_with("+ ") { format!("\\{escaped}") } else { escaped }
}

/// Cuts what is escaped, never between a backslash and what it escapes.
fn cut(escaped: &str, max: usize) -> String {
    let mut out = cut_utf16(escaped, max);
    if out != escaped && out.pop() == Some('…') {
        if out.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            out.pop();
        }
        out.push('…');
    }
    out
}

/// An answer of the API, good or bad.
#[derive(Debug, Default, Deserialize)]
struct ApiAnswer {
    id: Option<String>,
    #[serde(default)]
    message: String,
    /// Seconds.
    retry_after: Option<f64>,
}

/// A webhook of Discord, ready to be told.
pub struct Discord {
    config: Config,
    style: Style,
}

impl Discord {
    /// A webhook as configured.
    pub const fn new(config: Config, style: Style) -> Self {
        Self { config, style }
    }
}

/// Seconds as the API writes them.
fn seconds(value: f64) -> Option<Dur> {
    (value.is_finite() && value >= 0.0).then(|| Dur((value * 1e6).ceil().min(answer::ASKED_MAX.0 as f64) as i64))
}

/// How long to wait: the body's word, else the bucket's header, else the general one.
fn asked(answer: &ApiAnswer, headers: &HeaderMap, now: Micros) -> Option<Dur> {
    let bucket = || headers.get("x-ratelimit-reset-after")?.to_str().ok()?.parse().ok();
    let general = || answer::retry_after(headers.get(http::header::RETRY_AFTER), now);
    answer.retry_after.or_else(bucket).and_then(seconds).or_else(general)
}

#[async_trait]
impl Channel for Discord {
    async fn deliver(&self, net: &Arc<Net>, delivery: &Delivery) -> Result<Accepted, Refused> {
        let body = payload(&delivery.content, self.style, delivery.now);
        let url = Url::parse(self.config.url.expose_secret())
            .map_err(|_| answer::refused(RefusedClass::Client, Retry::Never, "the webhook's URL cannot be sent"))?;
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let request = Request { method: Method::POST, url, headers, body: body.to_string().into() };
        let secrets = [self.config.url.expose_secret(), self.config.token.expose_secret()];
        let sent = net.send(&request, delivery.deadline, answer::ANSWER_MAX).await;
        let sent = sent.map_err(|fault| answer::unreached(&fault, &secrets))?;
        let said: ApiAnswer = serde_json::from_slice(&sent.body).unwrap_or_default();
        if sent.status.is_success() {
            // An answer that breaks off behind its status is a yes all the same.
            return Ok(Accepted { provider_id: said.id });
        }
        let (class, retry) = match sent.status {
            // The path holds the token: a webhook that was deleted is a page that is not found.
            StatusCode::NOT_FOUND => (RefusedClass::Auth, Retry::Never),
            other => answer::classify(other, asked(&said, &sent.headers, delivery.now)),
        };
        let words = if said.message.is_empty() { sent.body.as_ref() } else { said.message.as_bytes() };
        let words = answer::excerpt(words, &secrets);
        let colon = if words.is_empty() { "" } else { ": " };
        Err(answer::refused(class, retry, format!("Discord answered {}{colon}{words}", sent.status.as_u16())))
    }

    /// Five requests in two seconds and thirty in a minute to one webhook, as its answers' `X-RateLimit` headers say.
    fn caps(&self) -> Caps {
        Caps { own: smallvec![(5, Dur::secs(2)), (30, Dur::secs(60))], shared: smallvec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::content::Message;
    use crate::channel::{Language, sample};

    #[test]
    fn the_payload_stays_as_it_is() {
        for (template, name) in [(Template::Native, "native"), (Template::VInsight, "v_insight")] {
            let style = Style { language: Language::En, template };
            let mut all = String::new();
            for (what, content) in sample::all() {
                all.push_str(&format!("── {what}\n{:#}\n", payload(&content, style, sample::NOW)));
            }
            insta::assert_snapshot!(name, all);
        }
    }

    #[test]
    fn the_longest_message_is_within_the_limits() {
        let long = "*_🔴`".repeat(4_000);
        let message = Message {
            monitor: long.clone(),
            target: long.clone(),
            rule: long.clone(),
            summary: long.clone(),
            detail: Some(long.clone()),
            incident: long.clone(),
            labels: (0..8).map(|i| (format!("{i}{long}"), long.clone())).collect(),
            ..sample::opened()
        };
        for template in [Template::Native, Template::VInsight] {
            let body = payload(&Content::Incident(message.clone()), Style { template, ..Style::default() }, sample::NOW);
            let embed = &body["embeds"][0];
            let units = |v: &Value| v.as_str().unwrap_or_default().encode_utf16().count();
            let fields = embed["fields"].as_array().cloned().unwrap_or_default();
            let in_fields: usize = fields.iter().map(|f| units(&f["name"]) + units(&f["value"])).sum();
            assert!(units(&embed["title"]) <= TITLE_MAX && units(&embed["description"]) <= DESCRIPTION_MAX);
            assert!(fields.iter().all(|f| units(&f["value"]) <= VALUE_MAX));
            assert!(units(&embed["title"]) + units(&embed["description"]) + units(&embed["footer"]["text"]) + in_fields <= 6_000);
        }
    }

    #[test]
    fn markup_in_foreign_text_is_text_and_links_are_links() {
        assert_eq!(escape("a*b_c @everyone <@1> https://x.org/a_b"), r"a\*b\_c @everyone \<@1\> https://x.org/a_b");
        assert_eq!(escape("- list"), r"\- list");
        assert_eq!(cut(r"aaa\*b", 5), "aaa…");
        assert_eq!(cut(r"aa\\bc", 5), r"aa\\…");
    }

    #[test]
    fn only_webhooks_of_discord_are_taken() {
        let parsed = |text: &str| parse(text, None).map(|c| c.number);
        assert_eq!(parsed("https://discord.com/api/webhooks/12/ab-C_d").as_deref(), Some("12"));
        assert_eq!(parsed("https://canary.discord.com/api/v10/webhooks/12/abcd").as_deref(), Some("12"));
        for bad in [
            "",
            "https://discord.com/api/webhooks/12",
            "https://discord.com/api/webhooks/x/abc",
            "ftp://a/api/webhooks/1/a",
            "/api/webhooks/1/a",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        let config = parse("https://discord.com/api/webhooks/12/abcd", Some(7)).unwrap();
        assert!(config.url.expose_secret().ends_with("?wait=true&thread_id=7"));
        assert!(!format!("{config:?} {} {}", config.canonical(false), config.budget_key()).contains("abcd"));
    }

    #[test]
    fn pauses_are_read_from_wherever_they_stand() {
        let mut headers = HeaderMap::new();
        assert_eq!(asked(&ApiAnswer::default(), &headers, sample::NOW), None);
        headers.insert("retry-after", HeaderValue::from_static("3"));
        assert_eq!(asked(&ApiAnswer::default(), &headers, sample::NOW), Some(Dur::secs(3)));
        headers.insert("x-ratelimit-reset-after", HeaderValue::from_static("1.25"));
        assert_eq!(asked(&ApiAnswer::default(), &headers, sample::NOW), Some(Dur::millis(1_250)));
        let body = ApiAnswer { retry_after: Some(0.75), ..ApiAnswer::default() };
        assert_eq!(asked(&body, &headers, sample::NOW), Some(Dur::millis(750)));
    }
}
