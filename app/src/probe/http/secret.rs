//! What must not be shown: values of headers and query parameters whose names say that they are secret.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
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
