//! The worker of a bot that repeats what it hears: "Echo: …" to a text, and an answer to a button that was pressed.
//!
//! It is also the example of a worker that loses nothing: an update is done when its answer is in Kafka, and only then is its offset
//! committed. The sidecar, if there is one, is told of every update that begins and ends; it never holds anything up.

use crate::client::Client;
use crate::command::Command;
use crate::intake::{self, Handler, Message};
use crate::kafka::{NotWritten, Producer};
use crate::lanes::Done;
use crate::secret::BotToken;
use crate::settings;
use anyhow::{Context as _, Result};
use http::{Method, Request};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use url::Url;

/// A call to the sidecar may take so long; its errors are ignored, as the seed's workers do.
const SIDECAR_WITHIN: Duration = Duration::from_secs(1);

/// The sidecar's answers have no body.
const SIDECAR_ANSWER_MAX: usize = 1_024;

/// After a write that failed so much passes before the next.
const PAUSE: Duration = Duration::from_millis(500);

/// Telegram takes so many UTF-16 units in a text, and in the answer to a button.
const TEXT_MAX: usize = 4_096;
const NOTE_MAX: usize = 200;

/// What of an update is answered. Other kinds are passed over.
#[derive(Deserialize)]
struct Envelope {
    update: Update,
}

#[derive(Deserialize)]
struct Update {
    message: Option<Heard>,
    callback_query: Option<Press>,
}

#[derive(Deserialize)]
struct Heard {
    message_id: i64,
    chat: Chat,
    text: Option<String>,
}

#[derive(Deserialize)]
struct Chat {
    id: i64,
}

#[derive(Deserialize)]
struct Press {
    id: String,
    data: Option<String>,
}

/// Method and parameters of the answer to an update, if it has one.
fn answer(envelope: Envelope) -> Option<(&'static str, Value)> {
    let Envelope { update: Update { message, callback_query } } = envelope;
    if let Some(Heard { message_id, chat, text: Some(text) }) = message {
        let text = cut(&format!("Echo: {text}"), TEXT_MAX);
        return Some(("sendMessage", json!({ "chat_id": chat.id, "text": text, "reply_to_message_id": message_id })));
    }
    let Press { id, data } = callback_query?;
    let text = cut(&format!("Received: {}", data.unwrap_or_default()), NOTE_MAX);
    Some(("answerCallbackQuery", json!({ "callback_query_id": id, "text": text })))
}

/// The beginning of a text that has at most so many UTF-16 units.
fn cut(text: &str, units: usize) -> String {
    let mut left = units;
    text.chars()
        .take_while(|c| {
            let fits = left >= c.len_utf16();
            left = left.saturating_sub(c.len_utf16());
            fits
        })
        .collect()
}

/// Runs until `stop`, or until something fails for good.
pub async fn run(settings: settings::Echo, stop: CancellationToken) -> Result<()> {
    let settings::Echo { common, bot, token, incoming, outgoing, group, sidecar } = settings;
    let producer = common.brokers.producer().context("making the producer")?;
    let sidecar = match sidecar {
        Some(url) => Some(Sidecar { client: Client::new().context("making the HTTP client")?, url }),
        None => None,
    };
    tracing::info!("echo: bot {bot} reads {incoming} as {group}, writes {outgoing}");
    let worker = Worker { producer, token, outgoing, sidecar, failed: stop.clone() };
    intake::run(&common.brokers, &group, &incoming, Arc::new(worker), stop, common.grace).await.context("reading updates")?;
    tracing::info!("echo: bot {bot}: nothing is in hand any more");
    Ok(())
}

struct Worker {
    producer: Producer,
    token: BotToken,
    outgoing: String,
    sidecar: Option<Sidecar>,
    failed: CancellationToken,
}

impl Worker {
    async fn answer(&self, message: &Message, stop: &CancellationToken) -> Done {
        let envelope: Envelope = match serde_json::from_slice(&message.value) {
            Ok(envelope) => envelope,
            Err(error) => {
                // Not quoted: people write what they like.
                tracing::warn!("{}: passed over, it is no update: {error}", place(message));
                return Done::Done;
            }
        };
        let Some((method, params)) = answer(envelope) else { return Done::Done };
        let Ok(command) = Command::wire(&self.token, method, &params) else { unreachable!("a JSON value is written as JSON") };
        loop {
            match self.producer.write(&self.outgoing, &message.key, command.as_bytes(), None).await {
                Ok(()) => return Done::Done,
                Err(error @ NotWritten::Fatal(_)) => {
                    tracing::error!("{error}: this process ends, so that another one goes on");
                    self.failed.cancel();
                    return Done::Abandoned;
                }
                Err(error) => tracing::warn!("{}: {:#}; trying again", place(message), anyhow::Error::from(error)),
            }
            if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return Done::Abandoned;
            }
        }
    }
}

#[async_trait::async_trait]
impl Handler for Worker {
    fn lane(&self, message: &Message) -> Vec<u8> {
        message.key.clone()
    }

    async fn handle(&self, message: Message, stop: &CancellationToken) -> Done {
        let (began, id) = (Instant::now(), place(&message));
        if let Some(sidecar) = &self.sidecar {
            sidecar.tell("start-request", &id, None).await;
        }
        let done = self.answer(&message, stop).await;
        if let Some(sidecar) = &self.sidecar {
            sidecar.tell("end-request", &id, Some(began.elapsed())).await;
        }
        done
    }
}

fn place(message: &Message) -> String {
    format!("{}/{}/{}", message.part.topic, message.part.number, message.offset)
}

struct Sidecar {
    client: Client,
    url: Url,
}

impl Sidecar {
    async fn tell(&self, what: &str, id: &str, took: Option<Duration>) {
        let mut url = self.url.clone();
        url.set_path(what);
        url.query_pairs_mut().append_pair("id", id);
        if let Some(took) = took {
            url.query_pairs_mut().append_pair("duration", &format!("{}s", took.as_secs_f64()));
        }
        let Ok(uri) = url.as_str().parse::<http::Uri>() else { return };
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        if let Err(error) = self.client.send(request, SIDECAR_WITHIN, SIDECAR_ANSWER_MAX).await {
            tracing::debug!("telling the sidecar: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(update: &Value) -> Option<(&'static str, Value)> {
        answer(serde_json::from_value(json!({ "bot_id": "a1", "update": update })).expect("an update"))
    }

    #[test]
    fn a_text_is_repeated_and_a_button_is_answered() {
        let text = json!({"update_id":1,"message":{"message_id":5,"date":1,"chat":{"id":-7,"type":"group"},"text":"hé"}});
        let expected = json!({"chat_id":-7,"text":"Echo: hé","reply_to_message_id":5});
        assert_eq!(answered(&text), Some(("sendMessage", expected)));
        let press = json!({"update_id":1,"callback_query":{"id":"9","from":{"id":1},"data":"yes"}});
        assert_eq!(answered(&press), Some(("answerCallbackQuery", json!({"callback_query_id":"9","text":"Received: yes"}))));
        assert_eq!(answered(&json!({"update_id":1,"message":{"message_id":5,"chat":{"id":7},"photo":[]}})), None);
        assert_eq!(answered(&json!({"update_id":1,"poll":{"id":"1"}})), None);
    }

    #[test]
    fn an_answer_is_never_longer_than_telegram_takes() {
        let long = "😀".repeat(3_000);
        let update = json!({"update_id":1,"message":{"message_id":5,"chat":{"id":7},"text":long}});
        let (_, params) = answered(&update).expect("an answer");
        let text = params["text"].as_str().expect("a text");
        assert_eq!(text.encode_utf16().count(), TEXT_MAX);
        assert!(text.starts_with("Echo: 😀"));
    }
}
