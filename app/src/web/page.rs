//! The page that people look at: the files of `ui/`, as `build.rs` put them into this program.
//!
//! It is an ordinary client of `/api/v1` and holds nothing secret, so it needs no token. Its places are behind a `#`, so that it works
//! under any path of a proxy, and `/` and its assets are all that is served here.

use super::api::Segment;
use super::error::ApiError;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// One file of the page.
struct File {
    /// Its path below `/`.
    name: &'static str,
    /// Its `Content-Type`.
    kind: &'static str,
    /// Whether it is held, and sent, in gzip's form.
    packed: bool,
    /// Its `ETag`.
    tag: &'static str,
    body: &'static [u8],
}

mod built {
    use super::File;
    include!(concat!(env!("OUT_DIR"), "/page.rs"));
}

/// Only our own files, no inline scripts or styles, nobody's frame. `data:` is for the icon, which shows whether something is wrong.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`: the page; or, in a program without one, why it has none.
pub(super) fn index(headers: &HeaderMap) -> Response {
    match built::FILES.iter().find(|file| file.name == "index.html") {
        Some(file) => send(file, headers, "no-cache"),
        None => without(),
    }
}

/// `GET /assets/{name}`: names hold a hash of the content, so that what was once loaded is never asked for again.
pub(super) async fn asset(Segment(name): Segment, headers: HeaderMap) -> Result<Response, ApiError> {
    let found = built::FILES.iter().find(|file| file.name.strip_prefix("assets/") == Some(&name));
    let file = found.ok_or_else(|| ApiError::not_found("part of the page; load the page again"))?;
    if file.packed && !takes_gzip(&headers) {
        return Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", "this file is sent in gzip's form only"));
    }
    Ok(send(file, &headers, "public, max-age=31536000, immutable"))
}

fn send(file: &File, headers: &HeaderMap, cache: &'static str) -> Response {
    let mut response =
        if has(headers, file.tag) { StatusCode::NOT_MODIFIED.into_response() } else { Body::from(file.body).into_response() };
    let answer = response.headers_mut();
    answer.insert(header::ETAG, HeaderValue::from_static(file.tag));
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    if file.packed {
        answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    guarded(response)
}

/// Whether whoever asks has it already.
pub(super) fn has(headers: &HeaderMap, wanted: &str) -> bool {
    let tags = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    tags.is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == wanted || tag.trim() == "*"))
}

/// A page of this program without scripts, for one that was built without `ui/`.
fn without() -> Response {
    let text = format!(
        "<!doctype html><html lang=en><title>Watchkeeper</title><h1>Watchkeeper works, but without its page</h1>\
         <p>{}.</p><p>Everything else is there: <code>watchkeeper status</code>, the API under <code>/api/v1</code>, <code>/metrics</code>.",
        built::WITHOUT.replace('&', "&amp;").replace('<', "&lt;")
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

/// Whether an answer in gzip's form may be sent: who says nothing takes any, as RFC 9110 (12.5.3) has it.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let Some(accepted) = headers.get(header::ACCEPT_ENCODING).map(|value| value.to_str().unwrap_or_default()) else { return true };
    let weight = |coding: &str| {
        accepted.split(',').find_map(|part| {
            let (name, rest) = part.split_once(';').unwrap_or((part, ""));
            let refused = rest.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok()).is_some_and(|q| q <= 0.0);
            name.trim().eq_ignore_ascii_case(coding).then_some(!refused)
        })
    };
    weight("gzip").or_else(|| weight("*")).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_whoever_does_not_refuse_it() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            takes_gzip(&headers)
        };
        assert!(takes_gzip(&HeaderMap::new()));
        for good in ["gzip", "gzip, deflate, br", "br;q=1.0, GZIP;q=0.5", "*", "identity;q=0, *;q=0.1"] {
            assert!(of(good), "{good}");
        }
        for bad in ["", "identity", "br", "gzip;q=0", "*;q=0", "gzip; q=0.0, *"] {
            assert!(!of(bad), "{bad}");
        }
    }
}
