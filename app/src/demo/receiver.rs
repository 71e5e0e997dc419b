//! The demo's chat and webhook: a server that takes what the channels send and hands it to the screen.

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What came in and was not shown yet; the demo makes a handful.
const MESSAGES_MAX: usize = 64;

/// What was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A chat message, as plain text.
    Chat(String),
    /// A webhook call of so many bytes.
    Hook(usize),
}

/// The running server; it ends when this is dropped.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    /// What came in.
    pub told: mpsc::Receiver<Told>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Shared {
    told: mpsc::Sender<Told>,
    next_id: Arc<AtomicI64>,
}

impl Receiver {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("opening a port on loopback for the demo's chat")?;
        let address = listener.local_addr()?;
        let (sender, told) = mpsc::channel(MESSAGES_MAX);
        let shared = Shared { told: sender, next_id: Arc::new(AtomicI64::new(1)) };
        let router = Router::new().route("/{bot}/sendMessage", post(chat)).route("/hook", post(hook)).with_state(shared);
        let task = tokio::spawn(async move {
            // Ends only by being aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, told, task })
    }
}

/// Telegram's `sendMessage`: <https://core.telegram.org/bots/api#sendmessage>.
async fn chat(State(shared): State<Shared>, body: Bytes) -> axum::Json<serde_json::Value> {
    let request: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = plain(request["text"].as_str().unwrap_or_default());
    // The screen ends before the last message could wait.
    let _ = shared.told.send(Told::Chat(text)).await;
    let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
    axum::Json(serde_json::json!({ "ok": true, "result": { "message_id": id, "chat": { "id": request["chat_id"] } } }))
}

async fn hook(State(shared): State<Shared>, body: Bytes) {
    let _ = shared.told.send(Told::Hook(body.len())).await;
}

/// Telegram's HTML as the chat shows it: without tags, with its four entities.
fn plain(html: &str) -> String {
    let mut out = String::new();
    let mut in_tag = false;
    for c in html.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => in_tag = false,
            c if !in_tag => out.push(c),
            _ => {}
        }
    }
    out.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_chat_shows_text_without_tags() {
        assert_eq!(super::plain("<b>down</b> a &lt; b &amp;&amp; c"), "down a < b && c");
    }
}
