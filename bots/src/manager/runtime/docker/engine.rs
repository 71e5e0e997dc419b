//! A question to Docker's Engine API over its socket, and its answer, bounded in time and size. It knows nothing of bots.
//!
//! A connection for each question: they are few, and a socket of this machine costs nothing. Paths without a version, because what is
//! asked here is the same in all versions that engines answer to. Source: <https://docs.docker.com/reference/api/engine/>.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

/// An answer is there within this, or the question has failed. The engine takes its time for a container that has just ended; longer would
/// hold up the other bots.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// The longest answer: the list of a bot's containers has about 2 KB for each. More is memory.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// So much of a refusal's words is kept.
const WORDS_MAX: usize = 300;

/// The engine did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Nobody knows whether it did.
    #[error("Docker does not answer: {0}")]
    NoAnswer(String),
    /// It says why.
    #[error("Docker refuses: {status}: {words}")]
    Refused {
        /// 400, 404, 409, 500.
        status: u16,
        /// In its words.
        words: String,
    },
}

impl EngineError {
    /// Whether it says that there is no such thing.
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether it says that this is so already, or cannot be now.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

/// The engine behind a socket.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// The one that listens there.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for something that is answered with JSON.
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, EngineError> {
        let answered = self.ask(Method::GET, target, None).await?;
        serde_json::from_slice(&answered)
            .map_err(|error| EngineError::NoAnswer(format!("{target}: its answer is not what it was: {error}")))
    }

    /// Tells it to do something.
    pub async fn ask(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Bytes, EngineError> {
        self.ask_for(method, target, body, ANSWER_WITHIN, ANSWER_MAX).await
    }

    /// The same for what may take longer.
    pub async fn ask_for(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
        within: Duration,
        most: usize,
    ) -> Result<Bytes, EngineError> {
        let late = |_| Err(EngineError::NoAnswer(format!("nothing within {} s", within.as_secs())));
        tokio::time::timeout(within, self.talk(method, target, body, most)).await.unwrap_or_else(late)
    }

    async fn talk(&self, method: Method, target: &str, body: Option<&Value>, most: usize) -> Result<Bytes, EngineError> {
        let failed = |error: &dyn std::fmt::Display| EngineError::NoAnswer(error.to_string());
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|error| EngineError::NoAnswer(format!("{}: {error}", self.socket.display())))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        // It moves while it is looked after, and ends with the question.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request = Request::new(Full::new(body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()))));
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().map_err(|error: http::uri::InvalidUri| failed(&error))?;
        request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
        if body.is_some() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let answered = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let (head, body) = answered.into_parts();
        let body = Limited::new(body, most).collect().await.map_err(|error| failed(&error))?.to_bytes();
        // What is so already is as good as what was done.
        if head.status.is_success() || head.status == StatusCode::NOT_MODIFIED {
            return Ok(body);
        }
        let words = serde_json::from_slice(&body).map_or_else(|_| "no words".to_owned(), |Message { message }| message);
        Err(EngineError::Refused { status: head.status.as_u16(), words: words.chars().take(WORDS_MAX).collect() })
    }
}
