//! A channel of the test's own, in this process: it writes down what it is given and answers as it is told.

use super::provider::LIMIT;
use async_trait::async_trait;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use watchkeeper::channel::content::Content;
use watchkeeper::channel::{Accepted, Caps, Channel, Delivery, Refused, RefusedClass, Retry};
use watchkeeper::deliver::ChannelSpec;
use watchkeeper::net::{Guard, Net};
use watchkeeper_core::ChannelId;

/// How a delivery is answered.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Take,
    Refuse(RefusedClass, Retry),
    Hang,
}

/// Not now.
pub const FAILS: Answer = Answer::Refuse(RefusedClass::Server, Retry::Soon);
/// Not ever.
pub const NEVER: Answer = Answer::Refuse(RefusedClass::Client, Retry::Never);

type Answers = dyn Fn(&Delivery, usize) -> Answer + Send + Sync;

/// What a channel was given.
pub struct Recorder {
    caps: Caps,
    answers: Box<Answers>,
    heard: Mutex<Vec<Delivery>>,
    arrived: Notify,
}

#[async_trait]
impl Channel for Recorder {
    async fn deliver(&self, _net: &Arc<Net>, delivery: &Delivery) -> Result<Accepted, Refused> {
        let nth = {
            let mut heard = self.heard.lock().unwrap();
            heard.push(delivery.clone());
            heard.len() - 1
        };
        self.arrived.notify_waiters();
        match (self.answers)(delivery, nth) {
            Answer::Take => Ok(Accepted { provider_id: Some(format!("message-{nth}")) }),
            Answer::Refuse(class, retry) => Err(Refused { class, retry, text: "not to my taste".to_owned() }),
            Answer::Hang => std::future::pending().await,
        }
    }

    fn caps(&self) -> Caps {
        self.caps.clone()
    }
}

impl Recorder {
    /// Takes everything.
    pub fn new() -> Arc<Self> {
        Self::answering(|_, _| Answer::Take)
    }

    /// Answers the nth delivery (from 0) as that says.
    pub fn answering(answers: impl Fn(&Delivery, usize) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Self::capped(Caps::default(), answers)
    }

    /// A provider with limits, which it does not enforce.
    pub fn capped(caps: Caps, answers: impl Fn(&Delivery, usize) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { caps, answers: Box::new(answers), heard: Mutex::default(), arrived: Notify::new() })
    }

    /// The channel under the lease of its name.
    pub fn spec(self: &Arc<Self>, id: ChannelId, name: &str) -> ChannelSpec {
        ChannelSpec {
            id,
            name: name.to_owned(),
            kind: "recorder",
            budget_key: name.to_owned(),
            hash: [3; 32],
            budgets: smallvec::smallvec![],
            channel: self.clone(),
            guard: Guard::Open,
        }
    }

    /// Every delivery so far.
    pub fn heard(&self) -> Vec<Delivery> {
        self.heard.lock().unwrap().clone()
    }

    /// What it was told of incidents, in order: (word, incident); a digest is `("digest", key)`.
    pub fn words(&self) -> Vec<(String, String)> {
        let word = |delivery: &Delivery| match &delivery.content {
            Content::Incident(message) => (message.event.as_str().to_owned(), message.incident.clone()),
            Content::Digest(_) => ("digest".to_owned(), delivery.key.clone()),
            Content::Report(_) | Content::Node(_) | Content::Test(_) => ("other".to_owned(), delivery.key.clone()),
        };
        self.heard().iter().map(word).collect()
    }

    /// Waits until there have been so many deliveries.
    pub async fn wait_for(&self, count: usize) -> Vec<Delivery> {
        let enough = async {
            loop {
                let heard = self.heard();
                if heard.len() >= count {
                    return heard;
                }
                // What came between the look and the wait is seen at the next look.
                let _ = tokio::time::timeout(Duration::from_millis(20), self.arrived.notified()).await;
            }
        };
        tokio::time::timeout(LIMIT, enough).await.unwrap_or_else(|_| panic!("{} deliveries instead of {count}", self.heard().len()))
    }
}
