//! Outgoing HTTP: one client with kept connections, bounded in time and size. Certificates are verified against the system's roots, or
//! those of Mozilla where the system has none.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::Duration;

/// A connection is there within this. Longer would wait for hosts that are away, shorter would give up on slow lines.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A kept connection is closed after so long without a request, before servers do so themselves.
const IDLE_MAX: Duration = Duration::from_secs(50);

/// Kept connections to one host. Fewer would make new ones all the time, more has no use.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection, or it broke. The request may have been taken all the same.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// It took too long. The request may have been taken all the same.
    #[error("there was no answer within {} s", .0.as_secs_f64())]
    Late(Duration),
    /// The answer was larger than it may be.
    #[error("the answer is larger than {0} bytes, or was cut off")]
    Body(usize),
}

/// An HTTP client.
#[derive(Clone)]
pub struct Client(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// With connections of its own.
    pub fn new() -> Result<Self, rustls::Error> {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT_WITHIN));
        http.set_nodelay(true);
        http.enforce_http(false);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = HttpsConnectorBuilder::new();
        let builder = match builder.with_provider_and_native_roots(provider.clone()) {
            Ok(native) => native,
            Err(_) => HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider)?,
        };
        let connector = builder.https_or_http().enable_http1().wrap_connector(http);
        let mut pool = Pool::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_MAX).pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
        Ok(Self(pool.build(connector)))
    }

    /// Sends a request and reads the answer, both within a time.
    pub async fn send(&self, request: Request<Full<Bytes>>, within: Duration, body_max: usize) -> Result<http::Response<Bytes>, Fault> {
        let talk = async {
            // The error's own text does not name the URL, in which there can be a token.
            let response = self.0.request(request).await.map_err(|error| Fault::Connection(chain(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, body_max).collect().await.map_err(|_| Fault::Body(body_max))?;
            Ok(http::Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(within, talk).await.unwrap_or(Err(Fault::Late(within)))
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
