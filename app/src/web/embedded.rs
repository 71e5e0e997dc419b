//! What is in this program whole: the files of the page, the OpenAPI document, the style of public pages. `build.rs` put them there in
//! gzip's form, and so they are sent; [`super::packed`] unpacks them for whoever does not take that.

use super::packed::Held;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// One of them.
pub(super) struct File {
    /// Its path below `/`.
    pub(super) name: &'static str,
    /// Its `Content-Type`.
    kind: &'static str,
    /// Its `ETag`.
    pub(super) tag: &'static str,
    /// In gzip's form.
    packed: &'static [u8],
}

mod built {
    use super::File;
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// Why the page is not among them; empty if it is.
pub(super) const WITHOUT: &str = built::WITHOUT;

/// The one of that name.
pub(super) fn find(name: &str) -> Option<&'static File> {
    built::FILES.iter().find(|file| file.name == name)
}

/// One that is there however the program was built.
pub(super) fn always(name: &str) -> &'static File {
    find(name).expect("build.rs puts it there, with the page or without")
}

impl File {
    /// An answer with it, or that it has not changed.
    pub(super) fn send(&self, headers: &HeaderMap, cache: &'static str) -> Response {
        let mut response = if has(headers, self.tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = Body::from(self.packed).into_response();
            response.extensions_mut().insert(Held);
            response
        };
        let answer = response.headers_mut();
        answer.insert(header::ETAG, HeaderValue::from_static(self.tag));
        answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        response
    }
}

/// Whether whoever asks has it already.
pub(super) fn has(headers: &HeaderMap, wanted: &str) -> bool {
    let tags = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    tags.is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == wanted || tag.trim() == "*"))
}
