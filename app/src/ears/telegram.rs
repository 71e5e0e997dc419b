//! The listener of one Telegram bot.
//!
//! Long polling under the lease of the bot's budget: Telegram hands updates to one poller, and of the nodes only the holder asks.
//! An update is confirmed (the offset moves past it) only after its effect is stored; one that comes again has the same effect.
//! Messages and buttons of chats that are not configured are counted and get no answer at all.

use super::EarsContext;
use super::bot::{Bot, CallbackQuery, HELD, Message, Trouble, TroubleKind, Update, User};
use super::deeds::{self, Deeds, Said};
use super::words;
use crate::channel::Language;
use crate::channel::telegram::{Chat, Config, html};
use crate::deliver;
use crate::foreign::steers;
use crate::store::{StoreError, TenantScope};
use crate::telemetry::ResultLabel;
use futures_util::FutureExt as _;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use watchkeeper_core::retry::pause;
use watchkeeper_core::{Dur, Micros};

/// While the lease is another node's, or may have run out, it is looked at so often.
const LEASE_LOOK: Duration = Duration::from_secs(1);
/// A server that does not hold the call must not make us spin: after an empty answer that came at once we wait so long.
const QUICK: Duration = Duration::from_secs(1);
/// While somebody else listens to the bot we ask so rarely: each of our calls breaks off one of theirs.
const AFTER_CONFLICT: Duration = Duration::from_secs(30);
/// A token that is not accepted is tried again after so long: it may have been a fault of the server.
const AFTER_AUTH: Duration = Duration::from_secs(300);
/// No failure makes us deaf for longer, unless the server asks for it.
const PAUSE_MAX: Dur = Dur::secs(60);
/// While the store is out of reach updates wait at Telegram, and we ask again after so long.
const STORE_PAUSE: Duration = Duration::from_secs(2);
/// A chat gets so many answers within [`ANSWERS_WINDOW`]: half of what Telegram allows in a group, so that alerts always have the
/// other half. What is beyond is obeyed without a word.
const ANSWERS_MAX: usize = 10;
const ANSWERS_WINDOW: Duration = Duration::from_secs(60);
/// Chats whose answers are counted. More than a bot has configured chats; it bounds what a flood can fill.
const CHATS_MAX: usize = 1_000;
/// A question that waited at Telegram for longer, because nobody listened, is not answered any more; what it asks to be done is done.
const STALE: Dur = Dur::secs(600);
/// The last confirmation before a stop may take so long; without it the same updates come again, to the same effect.
const CONFIRM_MAX: Duration = Duration::from_secs(2);

/// A bot, and the chats in which it obeys.
#[derive(Clone, Debug, PartialEq)]
pub struct BotSpec {
    budget: String,
    bot: Bot,
    ears: Vec<Ear>,
}

/// A chat, or a topic of one, in which the bot obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ear {
    chat: Chat,
    topic: Option<i64>,
    scope: TenantScope,
    language: Language,
}

impl BotSpec {
    /// The bot of a channel, which listens to nobody yet.
    pub fn new(config: &Config) -> Self {
        Self { budget: config.budget_key(), bot: Bot(config.api().clone()), ears: Vec::new() }
    }

    /// Obeys in the channel's chat, too, on behalf of its tenant.
    pub fn listen(&mut self, config: &Config, scope: TenantScope, language: Language) {
        self.ears.push(Ear { chat: config.chat().clone(), topic: config.topic(), scope, language });
    }

    /// Which lease it is listened to under.
    pub fn budget(&self) -> &str {
        &self.budget
    }

    /// In whose name a message of that chat and topic is obeyed, and in which language it is answered; `None` if nobody's. A
    /// channel without a topic stands for the whole chat, one with a topic for that alone.
    fn heard(&self, message: &Message) -> Option<(Vec<TenantScope>, Language)> {
        let fits = |ear: &&Ear| {
            let chat = match &ear.chat {
                Chat::Id(id) => *id == message.chat.id,
                Chat::Name(name) => {
                    message.chat.username.as_ref().is_some_and(|user| name.strip_prefix('@').is_some_and(|n| n.eq_ignore_ascii_case(user)))
                }
            };
            chat && (ear.topic.is_none() || ear.topic == message.topic())
        };
        let mut fitting: Vec<&Ear> = self.ears.iter().filter(fits).collect();
        // The channel of the very topic speaks before the channel of the whole chat.
        fitting.sort_by_key(|ear| ear.topic.is_none());
        let language = fitting.first()?.language;
        let mut scopes: Vec<TenantScope> = Vec::new();
        for ear in fitting {
            if !scopes.contains(&ear.scope) {
                scopes.push(ear.scope);
            }
        }
        Some((scopes, language))
    }
}

/// The listener of one bot.
pub(super) struct Poller {
    cx: Arc<EarsContext>,
    spec: Arc<BotSpec>,
    stop: CancellationToken,
    scope: String,
    /// The bot's name, once it is known.
    name: Option<String>,
    /// The first update that is not confirmed.
    offset: Option<i64>,
    /// Telegram has not been told of the offset yet.
    unconfirmed: bool,
    /// Calls that failed in a row.
    failures: u32,
    /// The trouble that has been logged and lasts.
    trouble: Option<TroubleKind>,
    /// The store is out of reach, and that has been logged.
    outage: bool,
    /// When each chat was answered of late.
    answers: HashMap<i64, VecDeque<Instant>>,
    /// Until then nothing is written, because Telegram asked for it.
    quiet: Option<Instant>,
}

impl Poller {
    pub(super) fn new(cx: Arc<EarsContext>, spec: Arc<BotSpec>, stop: CancellationToken) -> Self {
        let scope = deliver::scope(spec.budget());
        Self {
            cx,
            spec,
            stop,
            scope,
            name: None,
            offset: None,
            unconfirmed: false,
            failures: 0,
            trouble: None,
            outage: false,
            answers: HashMap::new(),
            quiet: None,
        }
    }

    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        while let Some(wait) = stop.run_until_cancelled(Box::pin(self.round())).await {
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
        }
        if self.ours() {
            self.confirm().await;
        }
    }

    /// Tells Telegram what has been obeyed, only so that nothing is answered twice.
    async fn confirm(&mut self) {
        if std::mem::take(&mut self.unconfirmed) {
            let confirm = self.spec.bot.updates(&self.cx.net, self.offset, Duration::ZERO);
            let _ = tokio::time::timeout(CONFIRM_MAX, confirm).await;
        }
    }

    fn ours(&self) -> bool {
        self.cx.leases.fence(&self.scope).is_some()
    }

    /// Returns when the lease is not ours any more.
    async fn lost(&self) {
        let mut held = self.cx.leases.watch();
        while self.ours() {
            tokio::select! {
                Ok(()) = held.changed() => {}
                () = tokio::time::sleep(LEASE_LOOK) => {}
            }
        }
    }

    /// Asks for updates once and obeys them; how long to wait before the next time.
    async fn round(&mut self) -> Duration {
        if !self.ours() {
            // A lease that is handed over is ours to finish with until the next look; if it has run out, whoever holds it is asked again.
            if self.cx.leases.reached() {
                self.confirm().await;
            }
            (self.offset, self.unconfirmed) = (None, false);
            return LEASE_LOOK;
        }
        let began = Instant::now();
        let asked = async {
            if self.name.is_none() {
                let name = self.spec.bot.name(&self.cx.net).await?;
                return Ok((Some(name), Vec::new()));
            }
            Ok((None, self.spec.bot.updates(&self.cx.net, self.offset, HELD).await?))
        };
        let asked = tokio::select! {
            () = self.lost() => return Duration::ZERO,
            asked = asked => asked,
        };
        let updates = match asked {
            Ok((Some(name), _)) => {
                self.name = Some(name);
                return Duration::ZERO;
            }
            Ok((None, updates)) => updates,
            Err(trouble) => return self.pause_after(&trouble),
        };
        self.unconfirmed = false;
        self.failures = 0;
        if self.trouble.take().is_some() {
            tracing::info!(bot = %self.spec.budget, "commands and buttons of {} are heard again", self.spec.budget);
        }
        if updates.is_empty() && began.elapsed() < QUICK {
            return QUICK;
        }
        for update in updates {
            if !self.ours() {
                return Duration::ZERO;
            }
            if let Err(error) = self.take(update).await {
                if !std::mem::replace(&mut self.outage, true) {
                    let text = crate::chain(&error);
                    tracing::error!(bot = %self.spec.budget, error = %text, "what people ask {} for cannot be stored; trying again", self.spec.budget);
                }
                return STORE_PAUSE;
            }
            self.outage = false;
        }
        Duration::ZERO
    }

    /// Logs a trouble once, and says how long to leave the bot alone.
    fn pause_after(&mut self, trouble: &Trouble) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if self.trouble != Some(trouble.kind) {
            self.trouble = Some(trouble.kind);
            tracing::warn!(bot = %self.spec.budget, "commands and buttons of {} are not heard: {}", self.spec.budget, trouble.text);
        }
        let own = Dur(pause(self.failures, None, getrandom::u64().unwrap_or_default()).0.min(PAUSE_MAX.0));
        match trouble.kind {
            TroubleKind::Conflict => AFTER_CONFLICT,
            TroubleKind::Auth => AFTER_AUTH,
            TroubleKind::Asked(asked) => asked.max(own).to_std(),
            TroubleKind::Call | TroubleKind::Passing => own.to_std(),
        }
    }

    /// Obeys one update and moves past it. Fails only if the store was not reached: then it comes again.
    async fn take(&mut self, update: Value) -> Result<(), StoreError> {
        // Without a number it cannot be confirmed, nor be one of Telegram's.
        let Some(id) = update["update_id"].as_i64() else { return Ok(()) };
        let result = match AssertUnwindSafe(self.obey(id, update)).catch_unwind().await {
            Ok(Ok(true)) => "obeyed",
            Ok(Ok(false)) => "ignored",
            Ok(Err(error)) => return Err(error),
            Err(_panic) => {
                tracing::error!(bot = %self.spec.budget, update = id, "an update failed inside this node; it is passed over");
                "failed"
            }
        };
        self.cx.metrics.chat_updates.get_or_create(&ResultLabel { result }).inc();
        self.offset = Some(id + 1);
        self.unconfirmed = true;
        Ok(())
    }

    /// Whether it was for us.
    async fn obey(&mut self, id: i64, update: Value) -> Result<bool, StoreError> {
        let Ok(update) = serde_json::from_value::<Update>(update) else { return Ok(false) };
        match (update.callback_query, update.message) {
            (Some(query), _) => self.pressed(id, query).await,
            (None, Some(message)) => self.written(id, message).await,
            (None, None) => Ok(false),
        }
    }

    fn deeds<'a>(cx: &'a EarsContext, spec: &BotSpec, id: i64, scopes: Vec<TenantScope>, from: Option<&User>, at: Micros) -> Deeds<'a> {
        Deeds { cx, scopes, author: author(from), at, key: format!("{}/{id}", spec.budget) }
    }

    /// A button.
    async fn pressed(&mut self, id: i64, query: CallbackQuery) -> Result<bool, StoreError> {
        let heard = query.message.as_ref().and_then(|message| self.spec.heard(message));
        let (Some((scopes, language)), Some(data)) = (heard, &query.data) else { return Ok(false) };
        let deeds = Self::deeds(&self.cx, &self.spec, id, scopes, Some(&query.from), self.cx.clock.now());
        let said = deeds.press(data).await?;
        let text = words::brief(&said, language);
        if let Err(trouble) = self.spec.bot.answer(&self.cx.net, &query.id, &text).await {
            // A press that waited for long cannot be answered any more; it has been obeyed all the same.
            tracing::debug!(bot = %self.spec.budget, "a button was not answered: {}", trouble.text);
        }
        Ok(true)
    }

    /// A message: a command, or nothing for us.
    async fn written(&mut self, id: i64, message: Message) -> Result<bool, StoreError> {
        let Some((scopes, language)) = self.spec.heard(&message) else { return Ok(false) };
        let private = message.chat.kind == "private";
        let Some(command) = deeds::parse(message.text.as_deref().unwrap_or_default(), self.name.as_deref(), private) else {
            return Ok(false);
        };
        let now = self.cx.clock.now();
        let at = Micros(message.date.saturating_mul(1_000_000)).min(now);
        let stale = now - at > STALE;
        let may_answer = !stale && self.may_answer(message.chat.id);
        if !command.changes() && !may_answer {
            return Ok(true);
        }
        let said = Self::deeds(&self.cx, &self.spec, id, scopes, message.from.as_ref(), at).run(command).await?;
        if may_answer {
            self.answer(&message, &said, language).await;
        }
        Ok(true)
    }

    /// Whether the chat may get another answer now, which is then counted.
    fn may_answer(&mut self, chat: i64) -> bool {
        let now = Instant::now();
        if self.quiet.is_some_and(|until| now < until) {
            return false;
        }
        let known = self.answers.len() < CHATS_MAX || self.answers.contains_key(&chat);
        if !known {
            return false;
        }
        let times = self.answers.entry(chat).or_default();
        while times.front().is_some_and(|at| now.duration_since(*at) >= ANSWERS_WINDOW) {
            times.pop_front();
        }
        let free = times.len() < ANSWERS_MAX;
        if free {
            times.push_back(now);
        }
        free
    }

    async fn answer(&mut self, message: &Message, said: &Said, language: Language) {
        let html = html(&words::say(said, language, self.cx.clock.now()));
        if let Err(trouble) = self.spec.bot.write(&self.cx.net, message.chat.id, message.topic(), &html).await {
            if let TroubleKind::Asked(asked) = trouble.kind {
                self.quiet = Some(Instant::now() + asked.to_std());
            }
            tracing::warn!(bot = %self.spec.budget, "a command was obeyed but not answered: {}", trouble.text);
        }
    }
}

/// So much of a person's name is kept.
const AUTHOR_MAX: usize = 64;

/// Who asked, as timelines show it. Anybody can be called anything: what could break a line is left out.
fn author(from: Option<&User>) -> String {
    let none = User::default();
    let from = from.unwrap_or(&none);
    let clean = |text: &str| -> String { text.chars().filter(|c| !steers(*c)).take(AUTHOR_MAX).collect::<String>().trim().to_owned() };
    let (first, user) = (clean(&from.first_name), from.username.as_deref().map(clean).filter(|u| !u.is_empty()));
    match (first.is_empty(), user) {
        (false, Some(user)) => format!("Telegram: {first} (@{user})"),
        (false, None) => format!("Telegram: {first}"),
        (true, Some(user)) => format!("Telegram: @{user}"),
        (true, None) => "Telegram".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::telegram::Api;
    use watchkeeper_core::TenantId;

    fn ear(chat: Chat, topic: Option<i64>, tenant: i64, language: Language) -> Ear {
        Ear { chat, topic, scope: TenantScope(TenantId(tenant)), language }
    }

    fn message(json: &str) -> Message {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn only_configured_chats_and_topics_are_heard() {
        let spec = BotSpec {
            budget: "telegram/1".to_owned(),
            bot: Bot(Api::new("1:x".into(), String::new())),
            ears: vec![
                ear(Chat::Id(-100), None, 1, Language::En),
                ear(Chat::Id(-100), Some(7), 2, Language::Ru),
                ear(Chat::Id(-200), Some(9), 1, Language::En),
                ear(Chat::Name("@Ops".to_owned()), None, 3, Language::Ru),
            ],
        };
        let heard =
            |json: &str| spec.heard(&message(json)).map(|(scopes, language)| (scopes.iter().map(|s| s.0.0).collect::<Vec<_>>(), language));
        assert_eq!(heard(r#"{"chat":{"id":-100}}"#), Some((vec![1], Language::En)));
        let in_topic = r#"{"chat":{"id":-100},"message_thread_id":7,"is_topic_message":true}"#;
        assert_eq!(heard(in_topic), Some((vec![2, 1], Language::Ru)));
        assert_eq!(heard(r#"{"chat":{"id":-200},"message_thread_id":9,"is_topic_message":true}"#), Some((vec![1], Language::En)));
        assert_eq!(heard(r#"{"chat":{"id":-200},"message_thread_id":8,"is_topic_message":true}"#), None);
        assert_eq!(heard(r#"{"chat":{"id":-200}}"#), None);
        assert_eq!(heard(r#"{"chat":{"id":-300}}"#), None);
        assert_eq!(heard(r#"{"chat":{"id":-300,"username":"ops"}}"#), Some((vec![3], Language::Ru)));
        assert_eq!(heard(r#"{"chat":{"id":-300,"username":"opsy"}}"#), None);
    }

    #[test]
    fn names_of_people_break_nothing() {
        let of = |first: &str, user: Option<&str>| author(Some(&User { first_name: first.to_owned(), username: user.map(str::to_owned) }));
        assert_eq!(of("Ann", Some("ann_b")), "Telegram: Ann (@ann_b)");
        assert_eq!(of("A\nnn\u{202e}", None), "Telegram: Ann");
        assert_eq!(of("", None), "Telegram");
        assert_eq!(author(None), "Telegram");
        assert!(of(&"x".repeat(500), Some(&"y".repeat(500))).chars().count() < 150);
    }
}
