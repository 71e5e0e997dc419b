//! Ears: what people tell the node through a chat, by buttons and commands.
//!
//! One task per bot listens, on the node that holds the lease under which the bot's messages are delivered: a provider hands its
//! updates to one listener only. What a person wants done goes where the API's wishes go: acknowledgements are facts that the
//! engine folds, silences are rows of the store. Nobody but the configured chats is obeyed, and nobody else gets an answer.
//! It never changes alert state, never makes a check, and never confirms an update whose effect is not stored.

mod bot;
mod deeds;
mod telegram;
mod words;

pub use telegram::BotSpec;

use crate::clock::Clock;
use crate::deliver::Deliverers;
use crate::lease::Leases;
use crate::net::Net;
use crate::store::Store;
use crate::talk::Talk;
use crate::telemetry::SharedMetrics;
use std::collections::HashMap;
use std::sync::Arc;
use telegram::Poller;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What every listener needs.
pub struct EarsContext {
    /// Where effects go.
    pub store: Arc<dyn Store>,
    /// The way out.
    pub net: Arc<Net>,
    /// UTC.
    pub clock: Clock,
    /// Our own series.
    pub metrics: SharedMetrics,
    /// Which bots are ours to listen to.
    pub leases: Leases,
    /// Woken when a silence begins: what waits may be held back now.
    pub deliverers: Arc<Deliverers>,
    /// Wakes the engine when an action waits to be folded.
    pub actions: Arc<Notify>,
}

struct Listening {
    spec: Arc<BotSpec>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Listens to the configured bots until `stop`. A bot whose configuration changes is listened to anew, after its update in hand.
pub async fn run(cx: EarsContext, mut talk: watch::Receiver<Talk>, stop: CancellationToken) {
    let cx = Arc::new(cx);
    let mut listening: HashMap<String, Listening> = HashMap::new();
    loop {
        let bots = talk.borrow_and_update().bots.clone();
        let gone: Vec<String> =
            listening.iter().filter(|(_, one)| bots.iter().all(|bot| **bot != *one.spec)).map(|(budget, _)| budget.clone()).collect();
        for one in gone.iter().filter_map(|budget| listening.remove(budget)) {
            end(one).await;
        }
        for spec in &*bots {
            if !listening.contains_key(spec.budget()) {
                let own = stop.child_token();
                let task = tokio::spawn(Poller::new(cx.clone(), spec.clone(), own.clone()).run());
                listening.insert(spec.budget().to_owned(), Listening { spec: spec.clone(), stop: own, task });
            }
        }
        // The sender lives as long as the reloader.
        if stop.run_until_cancelled(talk.changed()).await.is_none_or(|changed| changed.is_err()) {
            break;
        }
    }
    stop.cancelled().await;
    for (_, one) in listening {
        end(one).await;
    }
}

async fn end(one: Listening) {
    one.stop.cancel();
    if let Err(error) = one.task.await {
        tracing::error!(bot = %one.spec.budget(), %error, "the listener of a bot failed inside this node");
    }
}
