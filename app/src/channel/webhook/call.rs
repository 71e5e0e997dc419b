//! One call to somebody's webhook that no operator configured: a subscriber's of a public status page.
//!
//! Redirects are not followed, and of the URL nothing but its origin is ever shown: its path may be a credential.

use crate::channel::{Refused, RefusedClass, Retry, USER_AGENT, answer};
use crate::net::{Net, Request};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Url;

/// A call is ended after so long. Strangers' servers hold up one another; one that needs longer can answer before it works.
const CALL_MAX: Duration = Duration::from_secs(5);

/// Characters of a URL. Longer ones are made of something that belongs into a body.
const URL_MAX: usize = 500;

/// A URL that may be called, if that is one: http or https, with a host, without user, password and fragment.
pub fn call_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    let good = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && url.as_str().len() <= URL_MAX;
    good.then_some(url)
}

/// Posts a document. `key` is the same for every attempt.
pub async fn call(net: &Arc<Net>, url: &Url, key: &str, document: &Value) -> Result<(), Refused> {
    let bad = || answer::refused(RefusedClass::Client, Retry::Never, "the call cannot be made");
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert("idempotency-key", HeaderValue::from_str(key).map_err(|_| bad())?);
    let request = Request { method: Method::POST, url: url.clone(), headers, body: document.to_string().into_bytes().into() };
    let secrets = [url.as_str().to_owned(), url.path().to_owned(), url.query().unwrap_or_default().to_owned()];
    let answered = net.send(&request, Instant::now() + CALL_MAX, answer::ANSWER_MAX).await;
    let answered = answered.map_err(|fault| answer::unreached(&fault, &secrets))?;
    if answered.status.is_success() {
        return Ok(());
    }
    // What is gone says so; everything else may be a mistake that somebody mends.
    let retry = if answered.status == StatusCode::GONE { Retry::Never } else { Retry::Soon };
    let text = format!("{} answered {}", url.origin().ascii_serialization(), answered.status.as_u16());
    Err(answer::refused(answer::classify(answered.status, None).0, retry, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_called_that_leads_somewhere_and_holds_nothing_else() {
        assert_eq!(call_url(" HTTPS://Hooks.example.org/a?b=c ").unwrap().as_str(), "https://hooks.example.org/a?b=c");
        let long = format!("https://example.org/{}", "x".repeat(500));
        for bad in ["", "ftp://example.org/", "https://", "file:///etc/passwd", "https://u:p@example.org/", "https://example.org/#x", &long]
        {
            assert!(call_url(bad).is_none(), "{bad:?}");
        }
    }
}
