//! One HTTP request over a fresh connection, for whoever wants an answer rather than a measurement.

use super::{Fault, Net};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use std::time::Instant;
use url::Url;
use watchkeeper_core::Blind;

/// A request. Headers that belong to the connection (`Host`, `Content-Length`, `Connection`) are set by [`Net::send`].
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: Method,
    /// `http` or `https`; credentials in it are not sent.
    pub url: Url,
    /// As sent.
    pub headers: HeaderMap,
    /// May be empty.
    pub body: Bytes,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Any status is a response: redirects are not followed, errors are not faults.
    pub status: StatusCode,
    /// As received.
    pub headers: HeaderMap,
    /// Whole, but never more than `max_body` bytes: more is a fault.
    pub body: Bytes,
}

impl Net {
    /// Sends one HTTP/1.1 request and reads the whole response, both before the deadline.
    pub async fn send(&self, request: &Request, deadline: Instant, max_body: usize) -> Result<Response, Fault> {
        let _ = (request, deadline, max_body);
        Err(Fault::unknown(Blind::Internal, "requests are not built yet"))
    }
}
