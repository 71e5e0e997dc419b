//! Bodies of requests: JSON of a known form, with a limit. What is not known is refused by its name, so that a misspelt key
//! never silently means less than was asked for.

use super::BODY_MAX;
use super::error::ApiError;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

/// The body of a request. An empty one counts as `{}`, so that an order without details needs no body. Its `Content-Type` is
/// not asked for: there is no other form that it could be taken for.
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        read(&whole(request, BODY_MAX).await?).map(Self)
    }
}

/// The whole body, within its limit.
pub(super) async fn whole(request: Request, most: u64) -> Result<Bytes, ApiError> {
    // A body without an announced length meets the limit here; an announced one was refused before.
    let limited = Limited::new(request.into_body(), usize::try_from(most).unwrap_or(usize::MAX));
    let collected = limited.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { ApiError::too_large() } else { ApiError::bad_request("the body could not be read to its end") }
    })?;
    Ok(collected.to_bytes())
}

/// What a body says.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = bytes.trim_ascii();
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    // A list would be taken for the values of the object, in their order.
    if bytes.first() != Some(&b'{') {
        return Err(ApiError::bad_request("the body is not a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| ApiError::bad_request(format!("the body is not accepted: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[serde(default)]
        comment: Option<String>,
    }

    #[test]
    fn what_is_not_known_is_named_and_nothing_is_an_empty_object() {
        assert_eq!(read::<Asked>(b" \n").unwrap().comment, None);
        assert_eq!(read::<Asked>(br#"{"comment":"x"}"#).unwrap().comment.as_deref(), Some("x"));
        for (bad, named) in [(&br#"{"coment":"x"}"#[..], "`coment`"), (b"[]", "JSON object"), (b"{", "line 1"), (b"\xff", "JSON object")] {
            let error = read::<Asked>(bad).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST);
            assert!(error.message.contains(named), "{}", error.message);
        }
    }
}
