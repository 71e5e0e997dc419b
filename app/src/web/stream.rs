//! The live stream: server-sent events, without gaps and without repetitions.
//!
//! The store's log of events is the truth; what is published in memory only says *when* to read it. So a slow reader costs
//! no memory (nothing is read for it until it takes more), loses nothing, and sees events of every node in the order of the
//! log. A reader whose place in the log is gone is told so by a `resync` event: it reads its lists anew and goes on.

use super::Web;
use super::api::Params;
use super::auth::{self, Caller};
use super::error::ApiError;
use super::types::{LiveEvent, StreamPosition};
use crate::store::{LiveRow, StoreError, TenantScope};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::Instant;
use watchkeeper_core::TenantId;

/// A comment goes out after so long without an event, so that proxies (which cut silent connections after 30 to 60 s) keep it.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// Events are read in pages of so many.
const PAGE: i64 = 200;

/// After a wake-up, so much passes before the log is read: a burst is read at once instead of event by event.
const GATHER: Duration = Duration::from_millis(20);

/// The log is also read this often without a wake-up: events of other nodes wake nobody here.
const POLL: Duration = Duration::from_secs(2);

/// Whether the reader may still read is asked this often, also while nothing happens. Longer would let a withdrawn token or a session
/// that has ended read on; shorter is a query for each reader.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// A stream ends after so long; the client comes back by itself with its place, through whatever proxy is there by then.
const LIFE: Duration = Duration::from_hours(1);

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    /// For clients that cannot set the header.
    last_event_id: Option<String>,
}

/// `GET /api/v1/stream/events`: begins with `connected`; its id and all later ones are places in the log.
pub(super) async fn events(
    State(web): State<Web>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Params(query): Params<StreamQuery>,
) -> Result<Response, ApiError> {
    let place = Arc::clone(&web.0.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::unavailable("too_many_streams", format!("{} live streams are open; close one", super::STREAMS_MAX)))?;
    let asked = match headers.get("last-event-id") {
        Some(value) => Some(value.to_str().unwrap_or("(not text)").to_owned()),
        None => query.last_event_id,
    };
    let asked = asked.filter(|text| !text.is_empty()).map(|text| read_place(&text)).transpose()?;
    // Listening begins before the log is read, so that nothing falls between the two.
    let wake = web.live.subscribe();
    let (after, opening) = open_at(&web, caller.scope, asked).await?;
    let now = Instant::now();
    let tail = Tail { web, caller, wake, after, waiting: opening.into(), asked: now, ends: now + LIFE, _place: place };
    let events = stream::unfold(tail, |mut tail| async move { tail.next().await.map(|event| (Ok::<_, Infallible>(event), tail)) });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response();
    // nginx would hold events back in its buffer.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

fn read_place(text: &str) -> Result<i64, ApiError> {
    text.parse().ok().filter(|id| *id >= 0).ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        ApiError::bad_request(format!("the last event id is `{shown}`; accepted is the id of an event of this stream"))
    })
}

/// Where the stream begins, and its first events.
async fn open_at(web: &Web, scope: TenantScope, asked: Option<i64>) -> Result<(i64, Vec<Event>), StoreError> {
    let newest = web.store.live_after(scope, i64::MAX, 1).await?.1;
    let Some(asked) = asked else {
        return Ok((newest, vec![position("connected", newest, "events follow as they happen")]));
    };
    if asked > newest {
        // The log has been emptied or replaced since; what follows begins after what it has now.
        return Ok((newest, vec![resync(newest), position("connected", newest, "events follow as they happen")]));
    }
    let mut opening = vec![];
    // 0 is the place before the first event: whether that is still there cannot be told from those that are.
    let known = asked == newest || is_there(web, scope, asked).await?;
    if !known {
        opening.push(resync(asked));
    }
    opening.push(position("connected", asked, "what happened since that event follows"));
    Ok((asked, opening))
}

/// Whether an event is still in the log: only then it is certain that none after it has been deleted.
async fn is_there(web: &Web, scope: TenantScope, id: i64) -> Result<bool, StoreError> {
    let (rows, _) = web.store.live_after(scope, id - 1, 1).await?;
    Ok(rows.first().is_some_and(|row| row.id == id))
}

fn resync(after: i64) -> Event {
    position("resync", after, "events may be missing before this point: read the lists again")
}

fn position(kind: &str, after: i64, message: &str) -> Event {
    let data = StreamPosition { after, message: message.to_owned() };
    event(kind, after, &data)
}

fn event(kind: &str, id: i64, data: &impl serde::Serialize) -> Event {
    // Plain structs of texts and numbers: serde_json writes them on one line and cannot fail.
    let json = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(kind).id(id.to_string()).data(json)
}

fn live_event(row: &LiveRow) -> Event {
    event(&row.event.kind, row.id, &LiveEvent::of(row))
}

/// One reader of the log.
struct Tail {
    web: Web,
    caller: Caller,
    wake: broadcast::Receiver<(TenantId, Arc<LiveRow>)>,
    /// The last event that was read.
    after: i64,
    waiting: VecDeque<Event>,
    /// When the reader was last found to be allowed.
    asked: Instant,
    ends: Instant,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    /// The next event; `None` ends the stream, and the client comes back with its place.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if Instant::now() >= self.ends || self.web.0.stop.is_cancelled() {
                return None;
            }
            if self.asked.elapsed() >= ASK_AGAIN {
                match auth::still(&self.web, &self.caller).await {
                    Ok(true) => self.asked = Instant::now(),
                    // Without the store nobody knows; then there is nothing to read either, and the client comes back.
                    Ok(false) | Err(_) => return None,
                }
            }
            match self.web.store.live_after(self.caller.scope, self.after, PAGE).await {
                Ok((rows, _)) if rows.is_empty() => self.wait().await,
                Ok((rows, _)) => {
                    self.after = rows.last().map_or(self.after, |row| row.id);
                    self.waiting.extend(rows.iter().map(live_event));
                }
                Err(error) => {
                    tracing::warn!(%error, "a live stream ends, because the log of events could not be read");
                    return None;
                }
            }
        }
    }

    /// Until there may be something to read.
    async fn wait(&mut self) {
        let stop = self.web.0.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(self.ends) => return,
            () = tokio::time::sleep(POLL) => return,
            () = self.published() => {}
        }
        tokio::time::sleep(GATHER).await;
        // What was gathered is read from the log in one go.
        while self.wake.try_recv().is_ok() {}
    }

    /// Until an event of this tenant was published, or so many of any that some were lost.
    async fn published(&mut self) {
        loop {
            match self.wake.recv().await {
                Ok((tenant, _)) if tenant == self.caller.scope.0 => return,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                // The sender lives in the state that this reader holds; without one, polling goes on.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
