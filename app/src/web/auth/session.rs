//! Sessions: how a browser shows, request by request, who signed in.
//!
//! The secret is 32 random bytes; the store has its SHA-256 only. A browser gets it in a cookie that no script can read (`HttpOnly`),
//! that goes to nobody else's pages (`SameSite=Strict`), and that over TLS never goes out without (`Secure`, and the name's `__Host-`,
//! which also keeps sites next door from planting one).
//!
//! A cookie goes along by itself, so a foreign page could have a browser act in somebody's name. Two things prevent that, each alone
//! enough in a browser of today. `SameSite=Strict`: the cookie does not go along with anything that another site began. And what changes
//! something must carry a header of ours: a form cannot set one at all, and a script of another origin (also of the same site: another
//! port, the host next door) may not before the browser has asked us whether it may, with `OPTIONS`, to which we never say yes. `Sec-Fetch-Site`,
//! where a browser sends it, must say `same-origin` too. `Origin` is not compared with `Host`, because proxies rewrite that.
//!
//! Whoever signs in without that header is no page: the answer then has the secret in its body, to be sent as a bearer token, and sets no cookie.

use super::super::error::ApiError;
use crate::store::accounts::SESSION_LIFE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What a session's secret begins with.
pub const SESSION_PREFIX: &str = "wks_";

/// The header that our page sends with what changes something. Its value does not matter: that it could be set does.
pub const PAGE_HEADER: HeaderName = HeaderName::from_static("x-watchkeeper-page");

/// Random bytes of a session's secret.
const SECRET_BYTES: usize = 32;

const SAFE_NAME: &str = "__Host-watchkeeper";
const PLAIN_NAME: &str = "watchkeeper";

/// A new secret, and what the store keeps of it.
pub(in super::super) fn new_secret() -> Result<(String, [u8; 32]), ApiError> {
    let mut bytes = [0_u8; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the operating system gave no random bytes for a session");
        ApiError::internal()
    })?;
    let secret = format!("{SESSION_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = super::hash_of(&secret);
    Ok((secret, hash))
}

/// The session's secret in a request's cookies; the one that cannot have been planted first.
pub(in super::super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let named = |wanted| named_cookie(headers, wanted);
    named(SAFE_NAME).or_else(|| named(PLAIN_NAME)).filter(|secret| secret.starts_with(SESSION_PREFIX) && secret.len() <= super::HEADER_MAX)
}

/// The first cookie of that name.
pub(super) fn named_cookie<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

/// Whether a request comes from our page; see the text above.
pub(in super::super) fn of_our_page(headers: &HeaderMap) -> bool {
    headers.contains_key(PAGE_HEADER) && headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin")
}

/// Refuses what may have been begun by another page.
pub(in super::super) fn require_our_page(headers: &HeaderMap) -> Result<(), ApiError> {
    if of_our_page(headers) {
        return Ok(());
    }
    let message =
        format!("with a session's cookie, what changes something needs the header `{PAGE_HEADER}`, and must come from the page itself");
    Err(ApiError::new(StatusCode::FORBIDDEN, "not_from_the_page", message))
}

/// Whether the browser speaks TLS, if only to a proxy before us. Whoever says so falsely only loses the own cookie.
fn over_tls(headers: &HeaderMap) -> bool {
    let begins =
        |name: HeaderName, with: &str| headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|v| v.starts_with(with));
    begins(header::ORIGIN, "https://") || begins(HeaderName::from_static("x-forwarded-proto"), "https")
}

/// The cookie that holds a secret. It ends with the session.
pub(in super::super) fn set(secret: &str, headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(&cookie_of(secret, over_tls(headers))).map_err(|_| ApiError::internal())
}

/// The same, where it is known whether the browser speaks TLS.
pub(super) fn cookie_of(secret: &str, over_tls: bool) -> String {
    let (name, secure) = if over_tls { (SAFE_NAME, "; Secure") } else { (PLAIN_NAME, "") };
    format!("{name}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", SESSION_LIFE.0 / 1_000_000)
}

/// The cookies that take it away again, under both names.
pub(in super::super) fn unset() -> [(HeaderName, HeaderValue); 2] {
    let of = |text| (header::SET_COOKIE, HeaderValue::from_static(text));
    [
        of("watchkeeper=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"),
        of("__Host-watchkeeper=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0; Secure"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_cookie_is_ours_alone_and_over_tls_only_goes_over_tls() {
        let plain = set("wks_a", &headers(&[("origin", "http://127.0.0.1:8470")])).unwrap();
        assert_eq!(plain, "watchkeeper=wks_a; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800");
        for tls in [[("origin", "https://wk.example.org")], [("x-forwarded-proto", "https")]] {
            let safe = set("wks_a", &headers(&tls)).unwrap();
            assert_eq!(safe, "__Host-watchkeeper=wks_a; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800; Secure");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others_and_a_planted_one_does_not_win() {
        let of = |pairs| cookie(&headers(pairs)).map(str::to_owned);
        assert_eq!(of(&[("cookie", "a=b; watchkeeper=wks_1;c=d")]).as_deref(), Some("wks_1"));
        assert_eq!(of(&[("cookie", "watchkeeper=wks_1; __Host-watchkeeper=wks_2")]).as_deref(), Some("wks_2"));
        assert_eq!(of(&[("cookie", "a=b"), ("cookie", "watchkeeper=wks_3")]).as_deref(), Some("wks_3"));
        for none in [&[][..], &[("cookie", "watchkeeper=")], &[("cookie", "watchkeeper=wk_token")], &[("cookie", "xwatchkeeper=wks_1")]] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_another_page_began_is_refused() {
        let ours = |pairs| require_our_page(&headers(pairs)).is_ok();
        assert!(ours(&[("x-watchkeeper-page", "1"), ("sec-fetch-site", "same-origin")]));
        assert!(ours(&[("x-watchkeeper-page", "1")]), "an older browser");
        for foreign in [
            &[][..],
            &[("sec-fetch-site", "same-origin")],
            &[("x-watchkeeper-page", "1"), ("sec-fetch-site", "same-site")],
            &[("x-watchkeeper-page", "1"), ("sec-fetch-site", "cross-site")],
            &[("x-watchkeeper-page", "1"), ("sec-fetch-site", "none")],
        ] {
            assert!(!ours(foreign), "{foreign:?}");
        }
    }

    #[test]
    fn a_secret_is_long_and_the_store_has_its_hash() {
        let (secret, hash) = new_secret().unwrap();
        assert_eq!((secret.len(), &secret[..4]), (47, "wks_"));
        assert_eq!(hash, super::super::hash_of(&secret));
        assert_ne!(new_secret().unwrap().0, secret);
    }
}
