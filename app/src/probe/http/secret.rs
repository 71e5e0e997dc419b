//! What must not be shown: values of headers and query parameters whose names say that they are secret.

use base64::Engine;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use url::Url;

/// What stands in place of a secret.
const MASK: &str = "***";

/// Whether a header or parameter of this name (in lower case) carries a secret: by the names that APIs use.
pub(super) fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 9] = ["auth", "token", "secret", "key", "password", "passwd", "cookie", "session", "signature"];
    WORDS.iter().any(|word| name.contains(word))
}

/// A URL for people: without credentials and fragment, secret values of its query masked.
pub(super) fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Only URLs without a host refuse this, and they have no credentials.
    let _ = (shown.set_username(""), shown.set_password(None));
    shown.set_fragment(None);
    if let Some(query) = url.query() {
        let secret = |part: &str| is_secret_name(&part.split('=').next().unwrap_or_default().to_ascii_lowercase());
        if query.split('&').any(|part| part.contains('=') && secret(part)) {
            let mask = |part: &str| match part.split_once('=') {
                Some((name, _)) if secret(part) => format!("{name}={MASK}"),
                Some(_) | None => part.to_owned(),
            };
            shown.set_query(Some(&query.split('&').map(mask).collect::<Vec<_>>().join("&")));
        }
    }
    shown.into()
}

/// Headers as evidence: names and values as text, secret values masked.
pub(super) fn shown_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let shown = |name: &http::HeaderName, value: &http::HeaderValue| {
        let hidden = value.is_sensitive()
            || [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE].contains(name)
            || is_secret_name(name.as_str());
        let value = if hidden { MASK.to_owned() } else { String::from_utf8_lossy(value.as_bytes()).into_owned() };
        (name.as_str().to_owned(), value)
    };
    headers.iter().map(|(name, value)| shown(name, value)).collect()
}

/// Takes out what was meant for the origin that was configured, before another origin is asked.
pub(super) fn drop_secrets(headers: &mut HeaderMap) {
    let secret: Vec<http::HeaderName> = headers.keys().filter(|name| is_secret_name(name.as_str())).cloned().collect();
    for name in secret {
        headers.remove(name);
    }
}

/// Takes user and password out of a URL, as the value of a header that carries them.
pub(super) fn take_credentials(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let value = basic(&percent_decoded(url.username()), &percent_decoded(url.password().unwrap_or_default()));
    // Only URLs without a host refuse this, and they have no credentials.
    let _ = (url.set_username(""), url.set_password(None));
    sensitive(&value)
}

/// RFC 3986 section 2.1; a `%` that begins no escape stands for itself.
fn percent_decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Credentials as RFC 7617 writes them.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A header's value that is never shown; `None` if no header can carry it.
pub(super) fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        shown_url(&url.parse().unwrap())
    }

    #[test]
    fn urls_show_no_credentials() {
        assert_eq!(shown("https://u:p@h.example/a?b=c#d"), "https://h.example/a?b=c");
        assert_eq!(shown("https://h.example/a?api_key=12&b=c&Token=x&flag"), "https://h.example/a?api_key=***&b=c&Token=***&flag");
    }

    #[test]
    fn credentials_leave_the_url_decoded() {
        let mut url: Url = "http://a&b%3D:p%40+%25%zz@h.example/".parse().unwrap();
        let value = take_credentials(&mut url).unwrap();
        assert_eq!(url.as_str(), "http://h.example/");
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        let plain = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
        assert_eq!(String::from_utf8(plain).unwrap(), "a&b=:p@+%%zz");
    }

    #[test]
    fn headers_show_no_secrets() {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", "1".parse().unwrap());
        headers.insert("authorization", "Basic 1".parse().unwrap());
        headers.insert("set-cookie", "a=1".parse().unwrap());
        headers.insert("x-team", "sre".parse().unwrap());
        let text = format!("{:?}", shown_headers(&headers));
        assert!(!text.contains('1') && text.contains("sre"), "{text}");
        drop_secrets(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-team"]);
    }
}
