//! Telegram: one `sendMessage` of the Bot API, to a chat or a topic of it.
//!
//! The text is HTML with everything escaped; if Telegram cannot parse it all the same, the very message is sent once
//! more as plain text, because a refused message told nobody. The token is part of the URL, so no URL is ever shown.
//! A group that became a supergroup has a new id: it is remembered until the process ends, and said.
//! Source: <https://core.telegram.org/bots/api>.

use super::content::Content;
use super::{Accepted, Channel, ChannelKind, Delivery, MASK, Refused, RefusedClass, Retry, answer, text};
use crate::config::decode::{self, Fields, Key, Node, Problems};
use crate::config::tagged::Kind;
use crate::net::{Net, Request};
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use url::Url;
use watchkeeper_core::Dur;

/// The Bot API's own server.
pub const API_URL: &str = "https://api.telegram.org";
/// `sendMessage` takes so many UTF-16 units after its entities were parsed.
pub const TEXT_MAX: usize = 4_096;

/// Keys of `telegram:`.
pub const KEYS: &[Key] = &[
    Key { name: "bot_token", form: "a token from @BotFather, such as 123456:ABC-DEF", default: "", doc: "The bot that writes." },
    Key { name: "bot_token_file", form: "a path", default: "", doc: "A file that holds the token." },
    Key { name: "chat_id", form: "a number such as -1001234567890, or @name", default: "", doc: "The chat it writes to." },
    Key { name: "topic_id", form: "a whole number", default: "", doc: "The topic of the chat (message_thread_id); empty for none." },
    Key { name: "api_url", form: "an http:// or https:// URL", default: API_URL, doc: "The Bot API's server, for one of your own." },
];

/// The line of the list of kinds.
pub const KIND: Kind<ChannelKind> = Kind {
    name: "telegram",
    doc: "A chat or a topic, by a bot of your own.",
    keys: KEYS,
    sections: &[],
    examples: &[("bot_token", "${BOT_TOKEN}"), ("chat_id", "${GROUP_CHAT_ID}"), ("topic_id", "${TOPIC_ID:-}")],
    decode: |node, problems| Config::decode(node, problems).map(ChannelKind::Telegram),
};

/// A chat as the Bot API names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Chat {
    Id(i64),
    Name(String),
}

impl Chat {
    fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix('@') {
            let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            return good.then(|| Self::Name(text.to_owned()));
        }
        text.parse().ok().filter(|id| *id != 0).map(Self::Id)
    }

    fn json(&self) -> Value {
        match self {
            Self::Id(id) => Value::from(*id),
            Self::Name(name) => Value::from(name.as_str()),
        }
    }
}

/// A chat as configured.
#[derive(Clone, Debug)]
pub struct Config {
    token: SecretString,
    chat: Chat,
    topic: Option<i64>,
    /// Without a slash at its end.
    api_url: String,
}

impl Config {
    /// Decodes the section; `None` after a problem was added.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.0.len();
        let fields = Fields::open(node, KEYS, problems)?;
        let token = decode_token(&fields, problems);
        let chat = fields
            .require("chat_id", problems)
            .and_then(|n| decode::parsed(n, "a chat's number such as -1001234567890, or its @name", problems, Chat::parse));
        // `topic_id: "${TOPIC_ID:-}"` is how an optional topic is written.
        let topic = fields.get("topic_id").filter(|n| !matches!(&n.value, decode::Value::Scalar { text, .. } if text.is_empty()));
        let topic = topic.map_or(Some(None), |n| decode::integer(n, 1..=i64::from(i32::MAX), problems).map(Some));
        let api_url = fields
            .get("api_url")
            .map_or(Some(API_URL.to_owned()), |n| decode::parsed(n, "an http:// or https:// URL with a host", problems, parse_api_url));
        let (token, chat, topic, api_url) = (token?, chat?, topic?, api_url?);
        (problems.0.len() == before).then_some(Self { token, chat, topic, api_url })
    }

    /// One lease and budget per bot; its number is no secret.
    pub fn budget_key(&self) -> String {
        format!("telegram/{}", self.token.expose_secret().split(':').next().unwrap_or_default())
    }

    /// With or without secrets, in one fixed order.
    pub fn canonical(&self, secrets: bool) -> Value {
        json!({
            "bot_token": if secrets { self.token.expose_secret() } else { MASK },
            "chat_id": self.chat.json(),
            "topic_id": self.topic,
            "api_url": self.api_url,
        })
    }
}

fn decode_token(fields: &Fields<'_>, problems: &mut Problems) -> Option<SecretString> {
    const FORM: &str = "a token from @BotFather: digits, a colon, then letters, digits, - and _";
    let token = super::required_secret(fields, "bot_token", "bot_token_file", FORM, problems)?;
    let good = token.expose_secret().split_once(':').is_some_and(|(bot, key)| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !bot.is_empty() && bot.chars().all(|c| c.is_ascii_digit()) && !key.is_empty() && key.chars().all(word)
    });
    if !good {
        let at = fields.get("bot_token").or_else(|| fields.get("bot_token_file")).map_or(fields.at, |n| &n.at);
        // What was found may be most of a real token: it is not repeated.
        problems.add(at, "a text that is not a bot token", FORM.to_owned());
    }
    good.then_some(token)
}

fn parse_api_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let good = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|h| !h.is_empty())
        && url.query().is_none()
        && url.username().is_empty();
    good.then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// How a message is marked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Markup {
    Html,
    Plain,
}

/// The parameters of `sendMessage`.
fn payload(chat: &Chat, topic: Option<i64>, message: &Content, markup: Markup) -> Value {
    let mut out = json!({
        "chat_id": chat.json(),
        "text": match markup {
            Markup::Html => html(message),
            Markup::Plain => text::cut_utf16(&text::words(message).plain(), TEXT_MAX),
        },
        // A preview of a page that is down helps nobody.
        "link_preview_options": { "is_disabled": true },
    });
    if markup == Markup::Html {
        out["parse_mode"] = Value::from("HTML");
    }
    if let Some(topic) = topic {
        out["message_thread_id"] = Value::from(topic);
    }
    out
}

/// The title bold and the lines below it. The text is cut before it is escaped and marked up, so that no tag and no
/// entity is ever cut.
fn html(message: &Content) -> String {
    let whole = text::words(message);
    let title = text::cut_utf16(&whole.title, TEXT_MAX);
    let mut left = TEXT_MAX - title.encode_utf16().count();
    let mut out = format!("<b>{}</b>", escape(&title));
    for line in &whole.lines {
        let line = text::cut_utf16(line, left.saturating_sub(1));
        if line.is_empty() {
            break;
        }
        left -= 1 + line.encode_utf16().count();
        out.push('\n');
        out.push_str(&escape(&line));
    }
    out
}

/// The three characters that mean something in Telegram's HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// An answer of the Bot API.
#[derive(Debug, Deserialize)]
struct ApiAnswer {
    ok: bool,
    #[serde(default)]
    description: String,
    result: Option<ApiMessage>,
    #[serde(default)]
    parameters: ApiParameters,
}

#[derive(Debug, Deserialize)]
struct ApiMessage {
    message_id: i64,
}

#[derive(Debug, Default, Deserialize)]
struct ApiParameters {
    retry_after: Option<u32>,
    migrate_to_chat_id: Option<i64>,
}

/// What one answer means.
#[derive(Debug, PartialEq, Eq)]
enum Meant {
    Accepted(Accepted),
    /// The group has this id now.
    Moved(i64),
    /// Telegram could not read our HTML.
    BadEntities,
    Refused(Refused),
}

fn understand(status: StatusCode, body: &[u8], secrets: &[&str]) -> Meant {
    let Ok(answer) = serde_json::from_slice::<ApiAnswer>(body) else {
        if status.is_success() && body.starts_with(br#"{"ok":true"#) {
            // The answer was cut off, but the message is in the chat: another attempt would write it twice.
            return Meant::Accepted(Accepted::default());
        }
        let (class, retry) = answer::classify(status, None);
        let (class, retry) = if status.is_success() { (RefusedClass::Server, Retry::Soon) } else { (class, retry) };
        let text = format!("Telegram answered {status} with something other than the Bot API's JSON: {}", answer::excerpt(body, secrets));
        return Meant::Refused(answer::refused(class, retry, text));
    };
    if answer.ok && status.is_success() {
        return Meant::Accepted(Accepted { provider_id: answer.result.map(|m| m.message_id.to_string()) });
    }
    if let Some(id) = answer.parameters.migrate_to_chat_id {
        return Meant::Moved(id);
    }
    if status == StatusCode::BAD_REQUEST && answer.description.contains("can't parse entities") {
        return Meant::BadEntities;
    }
    let asked = answer.parameters.retry_after.map(|s| Dur::secs(i64::from(s)));
    let (class, retry) = match status {
        // The path holds the token: a token that Telegram does not know is a page that is not found.
        StatusCode::NOT_FOUND => (RefusedClass::Auth, Retry::Never),
        other => answer::classify(other, asked),
    };
    let said = answer::excerpt(answer.description.as_bytes(), secrets);
    Meant::Refused(answer::refused(class, retry, format!("Telegram answered {}: {said}", status.as_u16())))
}

/// A chat, ready to be told.
pub struct Telegram {
    config: Config,
    /// The id of the supergroup that the group has become; 0 if it has not.
    moved_to: AtomicI64,
}

impl Telegram {
    /// A chat as configured.
    pub fn new(config: Config) -> Self {
        Self { config, moved_to: AtomicI64::new(0) }
    }

    /// One call.
    async fn call(&self, net: &Arc<Net>, delivery: &Delivery, markup: Markup) -> Result<Meant, Refused> {
        let moved = self.moved_to.load(Ordering::Relaxed);
        let chat = if moved == 0 { self.config.chat.clone() } else { Chat::Id(moved) };
        let body = payload(&chat, self.config.topic, &delivery.content, markup);
        let token = self.config.token.expose_secret();
        let url = Url::parse(&format!("{}/bot{token}/sendMessage", self.config.api_url))
            .map_err(|_| answer::refused(RefusedClass::Client, Retry::Never, "api_url and bot_token make no URL"))?;
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
        let request = Request { method: Method::POST, url, headers, body: body.to_string().into() };
        let secrets = self.secrets();
        let answer =
            net.send(&request, delivery.deadline, answer::ANSWER_MAX).await.map_err(|fault| answer::unreached(&fault, &secrets))?;
        Ok(understand(answer.status, &answer.body, &secrets))
    }

    /// Whole and without the bot's number, which alone is no secret.
    fn secrets(&self) -> [&str; 2] {
        let token = self.config.token.expose_secret();
        [token, token.split_once(':').map_or(token, |(_, key)| key)]
    }
}

#[async_trait]
impl Channel for Telegram {
    async fn deliver(&self, net: &Arc<Net>, delivery: &Delivery) -> Result<Accepted, Refused> {
        let mut meant = self.call(net, delivery, Markup::Html).await?;
        if meant == Meant::BadEntities {
            meant = self.call(net, delivery, Markup::Plain).await?;
        }
        match meant {
            Meant::Accepted(accepted) => Ok(accepted),
            Meant::Moved(id) => {
                self.moved_to.store(id, Ordering::Relaxed);
                let text = format!("the group has become a supergroup: set chat_id to {id}; until the next start it is used already");
                Err(answer::refused(RefusedClass::Client, Retry::Soon, text))
            }
            Meant::BadEntities => {
                Err(answer::refused(RefusedClass::Client, Retry::Never, "Telegram cannot parse the text, not even as plain text"))
            }
            Meant::Refused(refused) => Err(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::sample;

    #[test]
    fn the_payload_stays_as_it_is() {
        let chat = Chat::Id(-1_001_234_567_890);
        insta::assert_snapshot!("opened", format!("{:#}", payload(&chat, Some(42), &sample::opened(), Markup::Html)));
        insta::assert_snapshot!(
            "resolved_plain",
            format!("{:#}", payload(&Chat::Name("@ops".to_owned()), None, &sample::resolved(), Markup::Plain))
        );
    }

    #[test]
    fn markup_in_foreign_text_is_text() {
        let message = Message { monitor: "a<b>&\"c".to_owned(), summary: "<script>&lt;".to_owned(), detail: None, ..sample::opened() };
        let html = html(&message);
        assert!(html.starts_with("<b>🔴 a&lt;b&gt;&amp;\"c is down</b>\n&lt;script&gt;&amp;lt;\n"), "{html}");
    }

    #[test]
    fn the_longest_text_fits_after_its_entities_are_parsed() {
        // Nine lines of 500 characters that take two UTF-16 units each: twice what fits.
        let long = "🔴<&".repeat(500);
        let message = Message {
            monitor: long.clone(),
            summary: long.clone(),
            detail: Some(format!("x{long}")),
            target: long.clone(),
            tenant: long.clone(),
            incident: long.clone(),
            seen_by: [(long.clone(), long)].into(),
            ..sample::opened()
        };
        let html = html(&message);
        let parsed = html.replace("<b>", "").replace("</b>", "").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let units = parsed.encode_utf16().count();
        assert!(units <= TEXT_MAX && units > TEXT_MAX - 3, "{units}");
        assert!(parsed.ends_with('…'));
    }

    #[test]
    fn chats_are_numbers_or_names() {
        assert_eq!(Chat::parse("-100123"), Some(Chat::Id(-100_123)));
        assert_eq!(Chat::parse("@ops_room"), Some(Chat::Name("@ops_room".to_owned())));
        for bad in ["", "@", "ops", "12a", "@a b", "0", " 5"] {
            assert_eq!(Chat::parse(bad), None, "{bad:?}");
        }
    }
}
