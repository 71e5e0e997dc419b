//! A bot's call goes to Telegram as it is, and Telegram's answer comes back: the bot needs what is in it, so it cannot wait in Kafka.
//!
//! What makes messages keeps the budgets that all calls of the gateway have, and the order of each chat: the next call of a chat begins when
//! the one before it was answered. Who would have to wait long is told so in Telegram's own words, and asks again. Nothing is tried again
//! here: only the bot knows whether its call may be made twice.

use super::request::{Address, Params};
use crate::bot_api::BotApi;
use crate::command::Chat;
use crate::gateway::pace::{Pace, makes_a_message};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use serde::de::IgnoredAny;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedMutexGuard, Semaphore};

/// A call waits so long for its turn. Longer would outlast what bots wait for an answer (python-telegram-bot: 5 s), shorter would refuse
/// what only had to wait for the second that a chat has between two messages.
const TURN_WITHIN: Duration = Duration::from_secs(4);

/// What is said to a call that waited for others of its chat: nobody knows how long they take.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Telegram answers within this, also where a large file goes with the call; or nobody knows whether it was taken.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The longest answer: the list of a large group's administrators, or a large set of stickers. More is memory.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Calls under way at once, beside those that come out of Kafka. More would open more connections than Telegram likes.
const CALLS_MAX: usize = 64;

/// Chats that nobody writes into are forgotten when there are more than so many. More is memory, fewer would look all the time.
const CHATS_MAX: usize = 10_000;

/// Why there is no answer of Telegram's.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Its turn does not come soon.
    #[error("too many calls: again in {} s", .0.as_secs())]
    TooMany(Duration),
    /// Nobody knows whether it was taken.
    #[error("{0}")]
    Fault(String),
}

/// Whose turn it is in a chat: the bot's number and the chat.
type Turns = HashMap<(String, Chat), Arc<tokio::sync::Mutex<()>>>;

/// Hands calls on.
pub struct Through {
    bot_api: BotApi,
    pace: Arc<Pace>,
    turns: Mutex<Turns>,
    calls: Semaphore,
}

/// What a bot sent.
pub struct Sent {
    /// GET or POST.
    pub method: Method,
    /// Behind the question mark.
    pub query: Option<String>,
    /// What the body is.
    pub content_type: Option<HeaderValue>,
    /// The body.
    pub body: Bytes,
}

impl Through {
    /// To that Bot API, within these budgets.
    pub fn new(bot_api: BotApi, pace: Arc<Pace>) -> Self {
        Self { bot_api, pace, turns: Mutex::default(), calls: Semaphore::new(CALLS_MAX) }
    }

    /// Makes the call when its turn comes, and returns what Telegram says, whatever that is.
    pub async fn pass(&self, to: &Address, params: &Params, sent: Sent) -> Result<Response<Bytes>, NoAnswer> {
        let until = Instant::now() + TURN_WITHIN;
        let chat = params.chat().filter(|_| makes_a_message(&to.method));
        let late = |_| NoAnswer::TooMany(AGAIN_AFTER);
        // Held until the answer is there.
        let _turn = match &chat {
            Some(chat) => Some(tokio::time::timeout_at(until.into(), self.turn(to, chat)).await.map_err(late)?),
            None => None,
        };
        while let Err(wait) = self.pace.chat(&to.token, &to.method, chat.as_ref()) {
            waited(wait, until).await?;
        }
        while let Err(wait) = self.pace.bot(&to.token) {
            waited(wait, until).await?;
        }
        // Never closed, so never an error.
        let _place = tokio::time::timeout_at(until.into(), self.calls.acquire()).await.map_err(late)?;
        let Sent { method, query, content_type, body } = sent;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        if let Some(content_type) = content_type {
            request.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        let target = query.map_or_else(|| to.method.clone(), |query| format!("{}?{query}", to.method));
        let answered = self.bot_api.hand_on(&to.token, &target, request, ANSWER_WITHIN, ANSWER_MAX).await;
        let answered = answered.map_err(|fault| NoAnswer::Fault(to.token.redact(&fault.to_string())))?;
        // A proxy's page is no answer of Telegram's.
        match serde_json::from_slice::<IgnoredAny>(answered.body()) {
            Ok(_) => Ok(answered),
            Err(_) => Err(NoAnswer::Fault(format!("{} with something that is no answer of the Bot API", answered.status().as_u16()))),
        }
    }

    /// Waits until the calls before it that write into the same chat are answered, in the order in which they came.
    async fn turn(&self, to: &Address, chat: &Chat) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.len() >= CHATS_MAX {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry((to.token.user().to_owned(), chat.clone())).or_default().clone()
        };
        turn.lock_owned().await
    }
}

/// Waits for a place, if that is not too long.
async fn waited(wait: Duration, until: Instant) -> Result<(), NoAnswer> {
    if Instant::now() + wait > until {
        return Err(NoAnswer::TooMany(Duration::from_secs(wait.as_secs() + 1)));
    }
    tokio::time::sleep(wait).await;
    Ok(())
}
