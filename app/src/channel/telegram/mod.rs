//! Telegram: one `sendMessage` of the Bot API, to a chat or a topic of it.
//!
//! The text is HTML with everything escaped; if Telegram cannot parse it all the same, the very message is sent once
//! more as plain text, because a refused message told nobody. What follows an incident's first message answers it; that somebody
//! is on it is shown in the first message itself, and so is its end, best effort, after the end has been told.
//! A group that became a supergroup has a new id: it is remembered until the process ends, and said.
//! Source: <https://core.telegram.org/bots/api>.

mod api;
mod payload;

pub use api::{Api, Meant};
pub(crate) use payload::html;
pub use payload::{PRESSED_ACKNOWLEDGE, PRESSED_SILENCE};

use super::common::Style;
use super::{Accepted, Caps, Channel, ChannelKind, Delivery, MASK, Refused, RefusedClass, Retry, answer, text};
use crate::config::decode::{self, Fields, Key, Node, Problems};
use crate::config::tagged::Kind;
use crate::net::Net;
use async_trait::async_trait;
use payload::Markup;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use url::Url;
use watchkeeper_core::Dur;
use watchkeeper_core::verdict::NoticeEvent;

/// The Bot API's own server.
pub const API_URL: &str = "https://api.telegram.org";
/// The largest number that a chat can have: the Bot API promises 52 bits.
const CHAT_MAX: i64 = 1 << 52;
/// The longest `@name`.
const CHAT_NAME_MAX: usize = 32;
/// The first message is brought up to date within so long. Longer would delay the record that the end was told, and a crash in
/// between would tell it twice; shorter would leave it as it was whenever the network is slow.
const EDIT_MAX: Duration = Duration::from_secs(2);

/// Keys of `telegram:`.
pub const KEYS: &[Key] = &[
    Key { name: "bot_token", form: "a token from @BotFather, such as 123456:ABC-DEF", default: "", doc: "The bot that writes." },
    Key { name: "bot_token_file", form: "a path", default: "", doc: "A file that holds the token." },
    Key { name: "chat_id", form: "a number such as -1001234567890, or @name", default: "", doc: "The chat it writes to." },
    Key { name: "topic_id", form: "a whole number", default: "", doc: "The topic of the chat (message_thread_id); empty for none." },
    Key {
        name: "commands",
        form: "true or false",
        default: "false",
        doc: "Whether the chat may ask and act: buttons below messages, and the commands /status, /incidents, /ack and /silence.",
    },
    Key { name: "api_url", form: "an http:// or https:// URL", default: API_URL, doc: "The Bot API's server, for one of your own." },
];

/// The line of the list of kinds.
pub const KIND: Kind<ChannelKind> = Kind {
    name: "telegram",
    doc: "A chat or a topic, by a bot of your own.",
    keys: KEYS,
    sections: &[],
    examples: &[("bot_token", "${BOT_TOKEN}"), ("chat_id", "${GROUP_CHAT_ID}"), ("topic_id", "${TOPIC_ID:-}")],
    address: &["api_url"],
    decode: |node, problems| Config::decode(node, problems).map(ChannelKind::Telegram),
};

/// A chat as the Bot API names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chat {
    /// A number: below zero for groups and channels.
    Id(i64),
    /// `@name` of a public one.
    Name(String),
}

impl Chat {
    fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix('@') {
            let good = (1..=CHAT_NAME_MAX).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            return good.then(|| Self::Name(text.to_owned()));
        }
        text.parse().ok().filter(|id: &i64| *id != 0 && id.unsigned_abs() < CHAT_MAX.unsigned_abs()).map(Self::Id)
    }

    fn json(&self) -> Value {
        match self {
            Self::Id(id) => Value::from(*id),
            Self::Name(name) => Value::from(name.as_str()),
        }
    }

    /// Whether several people may be in it; public names are taken for groups.
    const fn is_group(&self) -> bool {
        match self {
            Self::Id(id) => *id < 0,
            Self::Name(_) => true,
        }
    }
}

/// A chat as configured.
#[derive(Clone, Debug)]
pub struct Config {
    api: Api,
    chat: Chat,
    topic: Option<i64>,
    commands: bool,
}

impl Config {
    /// Decodes the section; `None` after a problem was added.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let before = problems.told();
        let fields = Fields::open(node, KEYS, problems)?;
        let token = decode_token(&fields, problems);
        let chat = fields
            .require("chat_id", problems)
            .and_then(|n| decode::parsed(n, "a chat's number such as -1001234567890, or its @name", problems, Chat::parse));
        // `topic_id: "${TOPIC_ID:-}"` is how an optional topic is written.
        let topic = fields.get("topic_id").filter(|n| !matches!(&n.value, decode::Value::Scalar { text, .. } if text.is_empty()));
        let topic = topic.map_or(Some(None), |n| decode::integer(n, 1..=i64::from(i32::MAX), problems).map(Some));
        let commands = fields.get("commands").map_or(Some(false), |n| decode::boolean(n, problems));
        let api_url = fields
            .get("api_url")
            .map_or(Some(API_URL.to_owned()), |n| decode::parsed(n, "an http:// or https:// URL with a host", problems, parse_api_url));
        let (token, chat, topic, commands, api_url) = (token?, chat?, topic?, commands?, api_url?);
        (problems.told() == before).then_some(Self { api: Api::new(token, api_url), chat, topic, commands })
    }

    /// One lease and budget per bot; its number is no secret.
    pub fn budget_key(&self) -> String {
        format!("telegram/{}", self.api.number())
    }

    /// The bot.
    pub const fn api(&self) -> &Api {
        &self.api
    }

    /// The chat it writes to.
    pub const fn chat(&self) -> &Chat {
        &self.chat
    }

    /// The topic it writes to.
    pub const fn topic(&self) -> Option<i64> {
        self.topic
    }

    /// Whether the chat may ask and act.
    pub const fn commands(&self) -> bool {
        self.commands
    }

    /// With or without secrets, in one fixed order.
    pub fn canonical(&self, secrets: bool) -> Value {
        json!({
            "bot_token": if secrets { self.api.token() } else { MASK },
            "chat_id": self.chat.json(),
            "topic_id": self.topic,
            "commands": self.commands,
            "api_url": self.api.url(),
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

/// A chat, ready to be told.
pub struct Telegram {
    config: Config,
    style: Style,
    /// The id of the supergroup that the group has become; 0 if it has not.
    moved_to: AtomicI64,
}

/// One word, worded for the Bot API.
struct Worded {
    text: text::Text,
    buttons: Option<Value>,
}

impl Telegram {
    /// A chat as configured.
    pub fn new(config: Config, style: Style) -> Self {
        Self { config, style, moved_to: AtomicI64::new(0) }
    }

    fn chat(&self) -> Value {
        match self.moved_to.load(Ordering::Relaxed) {
            0 => self.config.chat.json(),
            moved => Value::from(moved),
        }
    }

    fn worded(&self, delivery: &Delivery) -> Worded {
        let buttons = if self.config.commands { payload::buttons(&delivery.content, self.style.language.words()) } else { None };
        Worded { text: text::text(&delivery.content, self.style, delivery.now), buttons }
    }

    /// One call, and a second one as plain text where Telegram cannot read the markup.
    async fn call(
        &self,
        net: &Arc<Net>,
        method: &str,
        deadline: Instant,
        worded: &Worded,
        whole: impl Fn(Value) -> Value,
    ) -> Result<Meant, Refused> {
        let parameters = |markup| whole(payload::worded(&self.chat(), &worded.text, markup, worded.buttons.as_ref()));
        let call = |parameters| async move { self.config.api.call(net, method, &parameters, deadline, answer::ANSWER_MAX).await };
        match call(parameters(Markup::Html)).await? {
            Meant::BadEntities => call(parameters(Markup::Plain)).await,
            meant @ (Meant::Done(_) | Meant::Moved(_) | Meant::NotEditable | Meant::Unchanged | Meant::Conflict(_) | Meant::Refused(_)) => {
                Ok(meant)
            }
        }
    }

    /// A new message, which answers the first one about the incident.
    async fn send(&self, net: &Arc<Net>, delivery: &Delivery, worded: &Worded, first: Option<i64>) -> Result<Accepted, Refused> {
        let whole = |parameters| payload::sent(parameters, self.config.topic, first);
        let refused = |retry, text: String| Err(answer::refused(RefusedClass::Client, retry, text));
        match self.call(net, "sendMessage", delivery.deadline, worded, whole).await? {
            Meant::Done(result) => Ok(Accepted { provider_id: result["message_id"].as_i64().map(|id| id.to_string()) }),
            Meant::Moved(id) => {
                self.moved_to.store(id, Ordering::Relaxed);
                let text = format!("the group has become a supergroup: set chat_id to {id}; until the next start it is used already");
                refused(Retry::Soon, text)
            }
            Meant::BadEntities => refused(Retry::Never, "Telegram cannot parse the text, not even as plain text".to_owned()),
            Meant::NotEditable | Meant::Unchanged => {
                refused(Retry::Never, "Telegram answered a new message as if it were an edit".to_owned())
            }
            Meant::Conflict(refused) | Meant::Refused(refused) => Err(refused),
        }
    }

    /// Another text for a message that is there already. `Ok(false)`: it cannot be edited.
    async fn edit(&self, net: &Arc<Net>, deadline: Instant, worded: &Worded, message: i64) -> Result<bool, Refused> {
        let whole = |parameters| payload::edited(parameters, message);
        match self.call(net, "editMessageText", deadline, worded, whole).await? {
            Meant::Done(_) | Meant::Unchanged => Ok(true),
            Meant::NotEditable | Meant::BadEntities | Meant::Moved(_) => Ok(false),
            // A client's fault in an edit is one of this message: a new one may still pass.
            Meant::Refused(refused) if refused.class == RefusedClass::Client => Ok(false),
            Meant::Conflict(refused) | Meant::Refused(refused) => Err(refused),
        }
    }
}

#[async_trait]
impl Channel for Telegram {
    async fn deliver(&self, net: &Arc<Net>, delivery: &Delivery) -> Result<Accepted, Refused> {
        let worded = self.worded(delivery);
        let first = delivery.thread.as_deref().and_then(|id| id.parse::<i64>().ok());
        let event = delivery.content.incident().map(|message| message.event);
        if let (Some(first), Some(NoticeEvent::Acknowledged)) = (first, event)
            && self.edit(net, delivery.deadline, &worded, first).await?
        {
            return Ok(Accepted { provider_id: delivery.thread.clone() });
        }
        let accepted = self.send(net, delivery, &worded, first).await?;
        // Both are told, and the first message shows it too: how it ended, or that it waits for somebody again.
        if let (Some(first), Some(NoticeEvent::Resolved | NoticeEvent::Unacknowledged)) = (first, event) {
            // The word has been told: that the first message still shows what was before is no reason to tell it again.
            let deadline = delivery.deadline.min(Instant::now() + EDIT_MAX);
            if let Err(refused) = self.edit(net, deadline, &worded, first).await {
                tracing::debug!(error = %refused, "the first message of an incident still shows what was before");
            }
        }
        Ok(accepted)
    }

    /// About one message a second to one chat, 20 a minute to a group, 30 a second by one bot.
    /// Source: <https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this>.
    fn caps(&self) -> Caps {
        let mut own: SmallVec<[(u32, Dur); 3]> = smallvec![(1, Dur::secs(1))];
        if self.config.chat.is_group() {
            own.push((20, Dur::secs(60)));
        }
        Caps { own, shared: smallvec![(30, Dur::secs(1))] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chats_are_numbers_or_names() {
        assert_eq!(Chat::parse("-100123"), Some(Chat::Id(-100_123)));
        assert_eq!(Chat::parse("@ops_room"), Some(Chat::Name("@ops_room".to_owned())));
        let long = format!("@{}", "a".repeat(33));
        for bad in ["", "@", "ops", "12a", "@a b", "0", " 5", "9007199254740993", "-9223372036854775808", &long] {
            assert_eq!(Chat::parse(bad), None, "{bad:?}");
        }
    }
}
