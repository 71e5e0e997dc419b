//! The one error of the API: a status, a word for programs, a sentence for people.
//!
//! It never carries internals: what went wrong inside is logged here once, with its whole chain, and answered
//! with a sentence that says what the caller can do.

use crate::config::documents::Fault;
use crate::store::StoreError;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// What is answered instead of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// A word that never changes, for programs.
    pub code: &'static str,
    /// For people: what was wrong, where, what is accepted.
    pub message: String,
    /// After how many seconds another attempt can help, where that is known.
    pub retry_after: Option<u64>,
    /// What is wrong with which field, where that is known.
    pub problems: Vec<Fault>,
}

/// The body of every error: `{"status": 404, "code": "not_found", "message": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorBody {
    /// The HTTP status again, for whoever only has the body.
    pub status: u16,
    /// A word that never changes.
    pub code: String,
    /// For people.
    pub message: String,
    /// What is wrong with which field of what was sent, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Fault>,
}

impl ApiError {
    /// Any error.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None, problems: Vec::new() }
    }

    /// 400: something in the request is not accepted.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 401: no token or session, or not one that is known.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "sign in, or send a valid token: `Authorization: Bearer wk_…`, made by `watchkeeper token create`",
        )
    }

    /// 403: known, but the role does not reach.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404: not there, or not the caller's; the two are never told apart.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    /// 413: more than anybody needs to say.
    pub fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body may have {} bytes", super::BODY_MAX))
    }

    /// 409: it cannot be done to what is there now.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 429: too much at once.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message)
    }

    /// 503: not now.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// 500, saying nothing about the inside.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request failed inside the server; its log says why")
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %crate::chain(&error), "a request could not be answered from the store");
        match error {
            StoreError::Unavailable { .. } => Self::unavailable("store_unavailable", "the store cannot be reached now; try again"),
            StoreError::Broken { .. } | StoreError::Refused(_) | StoreError::NotYet | StoreError::NotInForce | StoreError::Outdated => {
                Self::internal()
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { status: self.status.as_u16(), code: self.code.to_owned(), message: self.message, problems: self.problems };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS || self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after.unwrap_or(1)));
        }
        response
    }
}
