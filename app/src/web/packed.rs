//! Answers in gzip's form, for whoever asks for it: lists are texts that say the same over and over, about a tenth remains of them.
//!
//! gzip, and nothing beside it: everything that speaks HTTP takes it, and its encoder is small. brotli would bring a dictionary of 120 kB and
//! an encoder of its own into a program that must stay small. What is small stays as it is, for it needs one packet either way; what has no known length is a stream
//! (live events, `/metrics`) and goes out as it comes; what is packed already is not packed again. A large answer is packed beside the
//! runtime's own threads, a few at a time, so that no check waits for it.
//!
//! A packed answer is another representation than the plain one, so its strong `ETag` is another too (RFC 9110, 8.8.3): `"17"` becomes
//! `"17-gzip"`. Handlers know nothing of that: where a request names such a tag, it is put back before they see it, so that `If-Match` and
//! `If-None-Match` mean the same version whichever form somebody has read.
//!
//! How small a packed answer is tells something of what is in it, to somebody who cannot read it but can put words of their own beside a
//! secret, again and again (BREACH). So no answer that shows a secret is packed: answers to changes never are, among which are those that
//! show a new token, a session or a second factor this once; and a handler that shows one in answer to a `GET` marks it
//! ([`ShowsASecret`]). What else identifies somebody goes in headers, which are not packed, and the page's cookie does not go along with
//! what another site begins.

use super::Web;
use super::error::ApiError;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use std::io::{Read as _, Write as _};

/// Shorter answers stay as they are: with their header they fit into one packet anyway.
pub const PACKED_FROM: u64 = 1_024;

/// Up to so much is packed where it is, in about a millisecond; more is given to another thread. More here would hold up other requests on
/// the same thread, less would cost a change of threads for next to nothing.
const AT_ONCE: usize = 16 * 1_024;

/// So many large answers are packed at a time; others wait. More would take the cores from the checks.
pub(super) const PACKERS: usize = 2;

/// A higher level takes longer and saves some per cent of the bytes; a lower one is faster and sends more.
const LEVEL: u32 = 4;

/// What the tag of a packed representation ends with, before its closing quote.
const MARK: &str = "-gzip\"";

/// Of an answer to a `GET` that shows a secret: it is sent as it is.
#[derive(Clone, Copy)]
pub(super) struct ShowsASecret;

/// Of an answer whose body is held in gzip's form: it is sent so, or unpacked for whoever does not take that.
#[derive(Clone, Copy)]
pub(super) struct Held;

/// Around every request.
pub(super) async fn pack(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let (wanted, head) = (reads && wants_gzip(request.headers()), *request.method() == Method::HEAD);
    let known = put_back(request.headers_mut(), header::IF_NONE_MATCH);
    put_back(request.headers_mut(), header::IF_MATCH);
    let mut response = next.run(request).await;
    if !reads || !is_text(response.headers()) || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if response.status() == StatusCode::NOT_MODIFIED {
        // Whoever has the packed one is told that this is the one that has not changed.
        let marked = tag(response.headers()).and_then(marked);
        if let Some(marked) = marked.filter(|marked| known.is_some_and(|known| known.contains(marked.as_str()))) {
            set_tag(response.headers_mut(), &marked);
        }
        return response;
    }
    let held = response.extensions().get::<Held>().is_some();
    let worth = length(&response).is_some_and(|length| length >= PACKED_FROM) && response.extensions().get::<ShowsASecret>().is_none();
    let turn: Option<fn(&[u8]) -> Bytes> = match (held, wanted) {
        (false, false) => return response,
        (false, true) if !worth => return response,
        (false, true) => Some(gzip),
        (true, true) => None,
        (true, false) => Some(gunzip),
    };
    let (mut parts, mut body) = response.into_parts();
    if let Some(turn) = turn.filter(|_| !head) {
        let Ok(whole) = body.collect().await else { return ApiError::internal().into_response() };
        body = Body::from(turned(&web, whole.to_bytes(), turn).await);
    }
    if turn.is_some() {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    if wanted {
        parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        if let Some(marked) = tag(&parts.headers).and_then(marked) {
            set_tag(&mut parts.headers, &marked);
        }
    }
    Response::from_parts(parts, body)
}

/// In its other form; what is large, on another thread.
async fn turned(web: &Web, whole: Bytes, turn: fn(&[u8]) -> Bytes) -> Bytes {
    if whole.len() <= AT_ONCE {
        return turn(&whole);
    }
    let _place = web.0.packers.acquire().await.expect("the semaphore is never closed");
    tokio::task::spawn_blocking(move || turn(&whole)).await.expect("it does not panic, and the runtime outlives its requests")
}

fn gunzip(packed: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut plain).expect("build.rs has packed it");
    plain.into()
}

fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 6), Compression::new(LEVEL));
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.expect("a Vec takes every byte").into()
}

/// Whether it is a text of a kind that is answered whole.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    matches!(
        kind,
        "application/json"
            | "application/yaml"
            | "application/rss+xml"
            | "application/atom+xml"
            | "image/svg+xml"
            | "text/html"
            | "text/css"
            | "text/javascript"
    )
}

/// How long the answer is, or would be to a `GET`, if that is known before it is sent.
fn length(response: &Response) -> Option<u64> {
    let announced = response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    announced.or_else(|| response.body().size_hint().exact())
}

fn tag(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ETAG)?.to_str().ok()
}

fn set_tag(headers: &mut HeaderMap, tag: &str) {
    headers.insert(header::ETAG, HeaderValue::from_str(tag).expect("a tag with letters behind it is a value"));
}

/// The tag of the packed form. A weak one names all forms at once, and stays.
fn marked(tag: &str) -> Option<String> {
    let strong = tag.strip_suffix('"').filter(|rest| rest.starts_with('"'))?;
    Some(format!("{strong}{MARK}"))
}

/// Takes our mark from the tags that a request names; what it named, if there was one.
fn put_back(headers: &mut HeaderMap, name: HeaderName) -> Option<String> {
    let named = headers.get(&name)?.to_str().ok().filter(|named| named.contains(MARK))?.to_owned();
    let plain = HeaderValue::from_str(&named.replace(MARK, "\"")).expect("a value with letters taken out of it is a value");
    headers.insert(name, plain);
    Some(named)
}

/// Whether an answer in gzip's form is wanted: by name, or by `*`, and not less than a plain one. Who says nothing may not be able to read it.
fn wants_gzip(headers: &HeaderMap) -> bool {
    let accepted: Vec<&str> = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).collect();
    let weight = |coding: &str| {
        accepted.iter().flat_map(|value| value.split(',')).find_map(|part| {
            let (name, rest) = part.split_once(';').unwrap_or((part, ""));
            let q = rest.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.trim().parse::<f32>().ok());
            name.trim().eq_ignore_ascii_case(coding).then(|| q.unwrap_or(0.0))
        })
    };
    let gzip = weight("gzip").or_else(|| weight("*")).unwrap_or(0.0);
    gzip > 0.0 && gzip >= weight("identity").unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_whoever_wants_it_and_to_nobody_else() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            wants_gzip(&headers)
        };
        for good in ["gzip", "gzip, deflate, br", "br;q=1.0, GZIP;q=0.5", "*", "identity;q=0, *;q=0.1", "gzip;q=1,identity;q=0.5"] {
            assert!(of(&[good]), "{good}");
        }
        assert!(of(&["br", "gzip"]));
        for bad in ["", "identity", "br", "gzip;q=0", "*;q=0", "gzip; q=0.0, *", "gzip;q=x", "gzip;q=0.5, identity"] {
            assert!(!of(&[bad]), "{bad}");
        }
        assert!(!of(&[]));
    }

    #[test]
    fn a_tag_gets_its_mark_and_loses_it_again() {
        assert_eq!(marked("\"17\"").as_deref(), Some("\"17-gzip\""));
        assert_eq!(marked("W/\"17\""), None);
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"a-gzip\", W/\"b\", \"c\""));
        headers.insert(header::IF_MATCH, HeaderValue::from_static("\"17\""));
        assert_eq!(put_back(&mut headers, header::IF_NONE_MATCH).as_deref(), Some("\"a-gzip\", W/\"b\", \"c\""));
        assert_eq!(headers[header::IF_NONE_MATCH], "\"a\", W/\"b\", \"c\"");
        assert_eq!(put_back(&mut headers, header::IF_MATCH), None);
        assert_eq!(headers[header::IF_MATCH], "\"17\"");
    }
}
