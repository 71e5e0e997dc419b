//! The page that people look at: the files of `ui/`, as `build.rs` put them into this program.
//!
//! It is an ordinary client of `/api/v1` and holds nothing secret, so it needs no token. Its places are behind a `#`, so that it works
//! under any path of a proxy, and `/` and its assets are all that is served here.

use super::api::Segment;
use super::embedded::{WITHOUT, find};
use super::error::ApiError;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};

/// Only our own files, no inline scripts or styles, nobody's frame. `data:` is for the icon, which shows whether something is wrong.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`: the page; or, in a program without one, why it has none.
pub(super) fn index(headers: &HeaderMap) -> Response {
    find("index.html").map_or_else(without, |file| guarded(file.send(headers, "no-cache")))
}

/// `GET /assets/{name}`: names hold a hash of the content, so that what was once loaded is never asked for again.
pub(super) async fn asset(Segment(name): Segment, headers: HeaderMap) -> Result<Response, ApiError> {
    let file = find(&format!("assets/{name}")).ok_or_else(|| ApiError::not_found("part of the page; load the page again"))?;
    Ok(guarded(file.send(&headers, "public, max-age=31536000, immutable")))
}

/// A page of this program without scripts, for one that was built without `ui/`.
fn without() -> Response {
    let text = format!(
        "<!doctype html><html lang=en><title>Watchkeeper</title><h1>Watchkeeper works, but without its page</h1>\
         <p>{}.</p><p>Everything else is there: <code>watchkeeper status</code>, the API under <code>/api/v1</code>, <code>/metrics</code>.",
        WITHOUT.replace('&', "&amp;").replace('<', "&lt;")
    );
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    guarded(response)
}

fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    response
}
