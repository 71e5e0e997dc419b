//! What both stand-ins for providers share: a server on a free port of loopback, a script of answers, the calls it got.
//!
//! A stand-in is stricter than the provider: what it would merely tolerate is a fault here, answered as the provider
//! answers a fault and remembered, so that [`Provider::finish`] fails the test.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Nothing that a test waits for takes longer, even on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// One call as it came in.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What is wrong with its form; `None` if nothing is.
    pub fault: Option<String>,
    /// The status it was answered with; 0 for a call that was left hanging.
    pub answered: u16,
}

impl Call {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// What to do with a call.
#[derive(Clone, Debug)]
pub enum Act {
    /// As the provider does with a good call.
    Accept,
    /// This answer, whatever came in.
    Answer(StatusCode, Vec<(&'static str, String)>, String),
    /// No answer at all.
    Hang,
    /// An answer that breaks off in the middle of its body: (status, what is sent of it).
    CutOff(StatusCode, &'static str),
}

type Check = dyn Fn(&Call) -> Result<(), (StatusCode, String)> + Send + Sync;
type Good = dyn Fn(&Call, usize) -> (StatusCode, String) + Send + Sync;

struct Shared {
    calls: Mutex<Vec<Call>>,
    script: Mutex<VecDeque<Act>>,
    /// What is done when the script has ended.
    otherwise: Mutex<Act>,
    arrived: Notify,
    check: Box<Check>,
    good: Box<Good>,
}

/// A running stand-in; it ends when dropped.
pub struct Provider {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    /// `check` says what is wrong with a call and how the provider answers that; `good` is its answer to the nth good one.
    pub async fn start(
        check: impl Fn(&Call) -> Result<(), (StatusCode, String)> + Send + Sync + 'static,
        good: impl Fn(&Call, usize) -> (StatusCode, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            script: Mutex::default(),
            otherwise: Mutex::new(Act::Accept),
            arrived: Notify::new(),
            check: Box::new(check),
            good: Box::new(good),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("the stand-in serves") });
        Self { url, shared, task }
    }

    /// Adds to the script: the next call that has no act yet gets this one.
    pub fn then(&self, act: Act) -> &Self {
        self.shared.script.lock().unwrap().push_back(act);
        self
    }

    /// What is done with calls beyond the script.
    pub fn otherwise(&self, act: Act) -> &Self {
        *self.shared.otherwise.lock().unwrap() = act;
        self
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Waits until there have been so many calls.
    pub async fn wait_for(&self, count: usize) -> Vec<Call> {
        let enough = async {
            loop {
                let arrived = self.shared.arrived.notified();
                let calls = self.calls();
                if calls.len() >= count {
                    return calls;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(LIMIT, enough).await.unwrap_or_else(|_| panic!("{} calls instead of {count}", self.calls().len()))
    }

    /// Every call, none of which had a fault in its form.
    pub fn finish(&self) -> Vec<Call> {
        let calls = self.calls();
        let faults: Vec<&String> = calls.iter().filter_map(|c| c.fault.as_ref()).collect();
        assert!(faults.is_empty(), "calls that the provider would refuse: {faults:#?}");
        calls
    }
}

async fn answer(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let mut call = Call { method, path, headers, body, fault: None, answered: 0 };
    let checked = (shared.check)(&call);
    call.fault = checked.as_ref().err().map(|(_, text)| text.clone());
    let act = shared.script.lock().unwrap().pop_front().unwrap_or_else(|| shared.otherwise.lock().unwrap().clone());
    let nth = shared.calls.lock().unwrap().len();
    let answer = match (act, checked) {
        (Act::Hang, _) => None,
        (Act::CutOff(status, part), _) => {
            let first = futures_util::stream::iter([Ok(Bytes::from_static(part.as_bytes()))]);
            // The server writes what it has when the body makes it wait.
            let broken = futures_util::stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut off"))
            });
            let broken = futures_util::StreamExt::chain(first, broken);
            Some((status, axum::body::Body::from_stream(broken)).into_response())
        }
        (Act::Answer(status, headers, body), _) => {
            let mut response = (status, body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().expect("a header value"));
            }
            Some(response)
        }
        (Act::Accept, Ok(())) => Some((shared.good)(&call, nth).into_response()),
        (Act::Accept, Err((status, text))) => Some((status, text).into_response()),
    };
    call.answered = answer.as_ref().map_or(0, |a| a.status().as_u16());
    shared.calls.lock().unwrap().push(call);
    shared.arrived.notify_waiters();
    match answer {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}
