//! Signing in at an OpenID Connect issuer: the authorization code flow (OpenID Connect Core 1.0, 3.1) with PKCE (RFC 7636).
//!
//! The browser goes to the issuer with a state, a nonce and the hash of a verifier, and keeps all three in a cookie for the way back. So
//! nothing is remembered here, any node may finish what another began, and what somebody else began is refused. The ID token comes
//! straight from the issuer over TLS, which shows who made it: its signature need not be looked at (Core 3.1.3.7, 6), and is not;
//! everything that it says is.
//!
//! Whom it names must be a user here already, made by an administrator: nobody is made by signing in. It must never tell the browser more
//! than a word about what went wrong; the log has the rest, without codes and tokens.

use super::super::error::ApiError;
use super::super::sign_in::{self, NAME_MAX, login_of};
use super::super::{Web, audit};
use super::password::Hidden;
use super::{own_or_first, session};
use crate::foreign::on_one_line;
use crate::net::{Request, Response};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;
use url::Url;
use url::form_urlencoded::byte_serialize;
use watchkeeper_core::Micros;

/// Where the issuer sends the browser back to, under the server's own URL.
pub const CALLBACK: &str = "api/v1/auth/oidc/callback";

/// The issuer has so long for all its answers. Longer would outlast the limit of a request, shorter would fail at slow ones.
const ISSUER_WITHIN: Duration = Duration::from_secs(10);

/// A larger answer of the issuer's is refused: none needs so much.
const ANSWER_MAX: usize = 256 * 1024;

/// Whoever stays at the issuer for longer begins anew.
const WAY_BACK_SECONDS: u32 = 900;

/// The issuer's clock may go wrong by so much.
const CLOCKS_DIFFER: i64 = 60;

const SAFE_NAME: &str = "__Host-watchkeeper-oidc";
const PLAIN_NAME: &str = "watchkeeper-oidc";

/// What `server.oidc` says.
#[derive(Clone, Debug)]
pub struct Oidc {
    /// The issuer, letter for letter as it names itself.
    pub issuer: String,
    /// What it calls us.
    pub client_id: String,
    /// What shows it that we are we; public clients have none.
    pub client_secret: Option<SecretString>,
    /// Where browsers reach this server; ends with `/`.
    pub url: Url,
    /// The claim that holds a user's name.
    pub claim: String,
    /// What the page calls it.
    pub label: String,
}

impl PartialEq for Oidc {
    fn eq(&self, other: &Self) -> bool {
        let Self { issuer, client_id, client_secret, url, claim, label } = self;
        let shown = |secret: &Option<SecretString>| secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        (issuer, client_id, url, claim, label) == (&other.issuer, &other.client_id, &other.url, &other.claim, &other.label)
            && shown(client_secret) == shown(&other.client_secret)
    }
}

/// Whether what is sent to this address can be read by nobody on the way: over TLS, or within this machine.
pub fn is_private(url: &Url) -> bool {
    let within = url.host().is_some_and(|host| match host {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    });
    url.scheme() == "https" && url.host().is_some() || url.scheme() == "http" && within
}

/// Why nobody is signed in: the word that the page gets, and what the log says.
struct Failed {
    word: &'static str,
    why: String,
}

impl Failed {
    fn new(word: &'static str, why: impl Into<String>) -> Self {
        Self { word, why: why.into() }
    }

    fn misunderstood(why: impl Into<String>) -> Self {
        Self::new("not_understood", why)
    }
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::new("failed", error.message)
    }
}

/// What the browser keeps while it is at the issuer.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    state: String,
    nonce: String,
    verifier: String,
}

impl Way {
    fn new() -> Result<Self, Failed> {
        let random = || {
            let mut bytes = [0_u8; 32];
            getrandom::fill(&mut bytes).map_err(|error| Failed::new("failed", format!("no random bytes: {error}")))?;
            Ok::<_, Failed>(URL_SAFE_NO_PAD.encode(bytes))
        };
        Ok(Self { state: random()?, nonce: random()?, verifier: random()? })
    }

    /// The cookie. It comes back with the issuer's redirect, so `SameSite` cannot be `Strict`.
    fn cookie(&self, url: &Url) -> String {
        let Self { state, nonce, verifier } = self;
        let (name, secure) = name_at(url);
        format!("{name}={state}.{nonce}.{verifier}; Path=/; HttpOnly; SameSite=Lax; Max-Age={WAY_BACK_SECONDS}{secure}")
    }

    fn of(headers: &HeaderMap, url: &Url) -> Option<Self> {
        let mut parts = session::named_cookie(headers, name_at(url).0)?.split('.').map(str::to_owned);
        let way = Self { state: parts.next()?, nonce: parts.next()?, verifier: parts.next()? };
        (parts.next().is_none() && [&way.state, &way.nonce, &way.verifier].iter().all(|part| part.len() == 43)).then_some(way)
    }
}

fn name_at(url: &Url) -> (&'static str, &'static str) {
    if url.scheme() == "https" { (SAFE_NAME, "; Secure") } else { (PLAIN_NAME, "") }
}

/// Where and how the issuer is asked.
struct Endpoints {
    authorization: Url,
    token: Url,
    /// It takes the client's secret in the body alone.
    secret_in_body: bool,
}

/// What the browser brings back (RFC 6749, 4.1.2; RFC 9207). Issuers add to it what they like.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct Back {
    /// What the browser left with.
    state: Option<String>,
    /// For what the issuer gives the ID token.
    code: Option<String>,
    /// Why it gives none.
    error: Option<String>,
    /// The same for people.
    error_description: Option<String>,
    /// The issuer.
    iss: Option<String>,
}

/// `GET /api/v1/auth/oidc`: sends the browser to the issuer.
pub(in super::super) async fn begin(State(web): State<Web>, request: axum::extract::Request) -> Result<axum::response::Response, ApiError> {
    let (oidc, _, address) = asked(&web, request)?;
    let begun = async {
        admit(&web, address)?;
        let Endpoints { authorization: mut to, .. } = discover(&web, &oidc, Instant::now() + ISSUER_WITHIN).await?;
        let way = Way::new()?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(way.verifier.as_bytes()));
        to.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &oidc.client_id),
            ("redirect_uri", &callback(&oidc)),
            ("scope", "openid profile email"),
            ("state", &way.state),
            ("nonce", &way.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        Ok((to, way.cookie(&oidc.url)))
    };
    match begun.await {
        Ok((to, cookie)) => Ok(redirect(&to, [cookie])),
        Err(failed) => Ok(told(&oidc, failed)),
    }
}

/// `GET /api/v1/auth/oidc/callback`: the browser comes back. What was begun here is finished: a session begins, and the page is shown.
pub(in super::super) async fn finish(
    State(web): State<Web>,
    back: Result<Query<Back>, QueryRejection>,
    request: axum::extract::Request,
) -> Result<axum::response::Response, ApiError> {
    let (oidc, headers, address) = asked(&web, request)?;
    let finished = async {
        admit(&web, address)?;
        let Query(back) = back.map_err(|error| Failed::misunderstood(error.to_string()))?;
        finished(&web, &oidc, &headers, back, address).await
    };
    match finished.await {
        Ok(secret) => {
            let cookie = session::cookie_of(&secret, oidc.url.scheme() == "https");
            Ok(redirect(&oidc.url, [cookie, forget(&oidc.url)]))
        }
        Err(failed) => Ok(told(&oidc, failed)),
    }
}

/// Each costs the issuer some requests, also when somebody made up what the browser brings back.
fn admit(web: &Web, address: IpAddr) -> Result<(), Failed> {
    web.0.sign_in_limits.admit_address(address).map_err(|refused| Failed::new("too_many", refused.message))
}

/// The configured issuer, and who asks.
fn asked(web: &Web, request: axum::extract::Request) -> Result<(Oidc, HeaderMap, IpAddr), ApiError> {
    let oidc = web.oidc.as_deref().cloned().ok_or_else(|| ApiError::not_found("OpenID Connect issuer: `server.oidc` names one"))?;
    let (parts, _) = request.into_parts();
    let address = audit::address_of(web, &parts).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Ok((oidc, parts.headers, address))
}

async fn finished(web: &Web, oidc: &Oidc, headers: &HeaderMap, back: Back, address: IpAddr) -> Result<String, Failed> {
    let Back { state, code, error, error_description, iss } = back;
    let way = Way::of(headers, &oidc.url).ok_or_else(|| Failed::new("expired", "the browser came back without what it left with"))?;
    let same = state.is_some_and(|state| bool::from(state.as_bytes().ct_eq(way.state.as_bytes())));
    if !same {
        return Err(Failed::new("expired", "the state is not what this browser left with"));
    }
    // RFC 9207: another issuer's answer is not this one's.
    if iss.is_some_and(|issuer| issuer != oidc.issuer) {
        return Err(Failed::misunderstood("the answer names another issuer"));
    }
    if let Some(error) = error {
        let more = error_description.unwrap_or_default();
        return Err(Failed::new("refused", format!("the issuer refused: {} {}", on_one_line(&error), on_one_line(&more))));
    }
    let code = code.ok_or_else(|| Failed::misunderstood("the answer has neither a code nor an error"))?;
    let claims = exchange(web, oidc, &code, &way.verifier).await?;
    let name = user_of(&claims, oidc, &way.nonce, web.clock.now()).map_err(Failed::misunderstood)?;
    begin_session(web, &name, address).await
}

/// The session of the user that the issuer named.
async fn begin_session(web: &Web, name: &str, address: IpAddr) -> Result<String, Failed> {
    let unknown = || Failed::new("unknown_user", format!("the issuer names {}, whom nobody has made a user here", on_one_line(name)));
    let login = login_of(name);
    if login.chars().count() > NAME_MAX {
        return Err(unknown());
    }
    let accounts = web.store.accounts();
    let account = accounts.account(&login).await.map_err(ApiError::from)?.ok_or_else(unknown)?;
    let memberships = accounts.memberships(account.id).await.map_err(ApiError::from)?;
    let (tenant, _, _) = own_or_first(memberships, account.tenant).ok_or_else(unknown)?;
    let user = (account.id, account.name.as_str());
    Ok(sign_in::begin_session(web, address, user, tenant, account.password.as_deref(), "signed in by OpenID Connect").await?)
}

/// Gives the code for the ID token, and reads what that says.
async fn exchange(web: &Web, oidc: &Oidc, code: &str, verifier: &str) -> Result<Map<String, Value>, Failed> {
    #[derive(Deserialize)]
    struct Tokens {
        id_token: Hidden,
    }
    let deadline = Instant::now() + ISSUER_WITHIN;
    let Endpoints { token, secret_in_body, .. } = discover(web, oidc, deadline).await?;
    let (headers, body) = token_request(oidc, secret_in_body, code, verifier)?;
    let request = Request { method: Method::POST, url: token, headers, body };
    let Tokens { id_token } = ask(web, &request, deadline).await?;
    claims(&id_token.0).ok_or_else(|| Failed::misunderstood("the ID token is none"))
}

/// Headers and body that ask for the ID token.
fn token_request(oidc: &Oidc, secret_in_body: bool, code: &str, verifier: &str) -> Result<(HeaderMap, Bytes), Failed> {
    let redirect_uri = callback(oidc);
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs([("grant_type", "authorization_code"), ("code", code), ("redirect_uri", &redirect_uri), ("code_verifier", verifier)]);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    // RFC 6749, 2.3.1: in a header, each part encoded as in a form; in the body only where the issuer takes nothing else.
    match &oidc.client_secret {
        Some(secret) if !secret_in_body => {
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encoded(&oidc.client_id), encoded(secret.expose_secret()));
            let value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)));
            headers.insert(header::AUTHORIZATION, value.map_err(|_| Failed::misunderstood("the client's secret cannot be sent"))?);
        }
        Some(secret) => {
            form.extend_pairs([("client_id", oidc.client_id.as_str()), ("client_secret", secret.expose_secret())]);
        }
        None => {
            form.append_pair("client_id", &oidc.client_id);
        }
    }
    Ok((headers, Bytes::from(form.finish())))
}

/// What the issuer says of itself (OpenID Connect Discovery 1.0, 3); asked each time, as people sign in rarely.
async fn discover(web: &Web, oidc: &Oidc, deadline: Instant) -> Result<Endpoints, Failed> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
        authorization_endpoint: String,
        token_endpoint: String,
        #[serde(default)]
        token_endpoint_auth_methods_supported: Vec<String>,
    }
    let url = format!("{}/.well-known/openid-configuration", oidc.issuer.trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|_| Failed::misunderstood("the issuer is no URL"))?;
    let request = Request { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() };
    let says: Discovery = ask(web, &request, deadline).await?;
    if says.issuer != oidc.issuer {
        let why = format!("it calls itself {}, and `server.oidc.issuer` is {}", on_one_line(&says.issuer), oidc.issuer);
        return Err(Failed::misunderstood(why));
    }
    let private = |text: &str| Url::parse(text).ok().filter(is_private);
    let (Some(authorization), Some(token)) = (private(&says.authorization_endpoint), private(&says.token_endpoint)) else {
        return Err(Failed::misunderstood("its endpoints are not reached over TLS"));
    };
    let takes = |wanted: &str| says.token_endpoint_auth_methods_supported.iter().any(|way| way == wanted);
    Ok(Endpoints { authorization, token, secret_in_body: takes("client_secret_post") && !takes("client_secret_basic") })
}

async fn ask<T: DeserializeOwned>(web: &Web, request: &Request, deadline: Instant) -> Result<T, Failed> {
    let path = request.url.path();
    let away = |why: &str| Failed::new("unreachable", format!("{path}: {why}"));
    let Response { status, body, incomplete, .. } =
        web.net.send(request, deadline, ANSWER_MAX).await.map_err(|fault| away(&fault.to_string()))?;
    if let Some(fault) = incomplete {
        return Err(away(&fault.to_string()));
    }
    if status != StatusCode::OK {
        // An error of OAuth's is a word; anything else may be anything.
        let error = serde_json::from_slice::<Map<String, Value>>(&body).ok();
        let word = error.as_ref().and_then(|error| error.get("error")?.as_str()).unwrap_or("no reason given");
        return Err(Failed::misunderstood(format!("{path}: answered {status}: {}", on_one_line(word))));
    }
    // What it says is not repeated: it may hold tokens.
    serde_json::from_slice(&body).map_err(|_| Failed::misunderstood(format!("{path}: the answer is not what the standard says")))
}

/// The claims of an ID token (RFC 7519).
fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(())?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

/// Whom the claims name, if they are for us, for this sign-in, and still good (Core 3.1.3.7).
fn user_of(claims: &Map<String, Value>, oidc: &Oidc, nonce: &str, now: Micros) -> Result<String, String> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(&oidc.issuer) {
        return Err("the ID token is another issuer's".to_owned());
    }
    let ours = |value: &Value| value.as_str() == Some(&oidc.client_id);
    let for_us = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(ours) && (all.len() == 1 || text("azp") == Some(&oidc.client_id)),
        Some(one) => ours(one),
        None => false,
    };
    if !for_us {
        return Err("the ID token is for another client".to_owned());
    }
    let good = claims.get("exp").and_then(Value::as_f64).is_some_and(|end| end as i64 + CLOCKS_DIFFER > now.0 / 1_000_000);
    if !good {
        return Err("the ID token has run out: do the clocks differ?".to_owned());
    }
    if !text("nonce").is_some_and(|said| bool::from(said.as_bytes().ct_eq(nonce.as_bytes()))) {
        return Err("the ID token belongs to another sign-in".to_owned());
    }
    if oidc.claim == "email" && claims.get("email_verified") == Some(&Value::Bool(false)) {
        return Err("the issuer has not verified the e-mail address".to_owned());
    }
    if let Some(name) = text(&oidc.claim).map(str::trim).filter(|name| !name.is_empty()) {
        return Ok(name.to_owned());
    }
    let there = claims.keys().map(|key| on_one_line(key)).collect::<Vec<_>>().join(", ");
    Err(format!("the ID token has no `{}`, which `server.oidc.claim` asks for; it has {there}", oidc.claim))
}

fn callback(oidc: &Oidc) -> String {
    format!("{}{CALLBACK}", oidc.url)
}

/// The cookie that takes the other away.
fn forget(url: &Url) -> String {
    let (name, secure) = name_at(url);
    format!("{name}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0{secure}")
}

/// Back to the page, which says so in words.
fn told(oidc: &Oidc, Failed { word, why }: Failed) -> axum::response::Response {
    tracing::warn!(issuer = %oidc.issuer, word, "somebody was not signed in by OpenID Connect: {why}");
    let mut url = oidc.url.clone();
    url.query_pairs_mut().append_pair("signin", word);
    redirect(&url, [forget(&oidc.url)])
}

fn redirect<const N: usize>(to: &Url, cookies: [String; N]) -> axum::response::Response {
    let set = |text: String| HeaderValue::from_str(&text).ok().map(|value| (header::SET_COOKIE, value));
    let cookies: Vec<(HeaderName, HeaderValue)> = cookies.into_iter().filter_map(set).collect();
    (StatusCode::SEE_OTHER, [(header::LOCATION, to.as_str().to_owned())], AppendHeaders(cookies)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn oidc() -> Oidc {
        Oidc {
            issuer: "https://login.example.org/realm".to_owned(),
            client_id: "watchkeeper".to_owned(),
            client_secret: None,
            url: Url::parse("https://watch.example.org/").unwrap(),
            claim: "email".to_owned(),
            label: "Example".to_owned(),
        }
    }

    fn named(change: &Value) -> Result<String, String> {
        let mut claims = json!({
            "iss": "https://login.example.org/realm", "aud": "watchkeeper", "exp": 1_000, "nonce": "n", "email": " ann@example.org ",
            "email_verified": true,
        });
        for (key, value) in change.as_object().unwrap() {
            claims[key] = value.clone();
        }
        user_of(claims.as_object().unwrap(), &oidc(), "n", Micros(999_000_000))
    }

    #[test]
    fn claims_count_for_us_for_this_sign_in_and_for_a_time() {
        for good in
            [json!({}), json!({"aud": ["watchkeeper"]}), json!({"aud": ["a", "watchkeeper"], "azp": "watchkeeper"}), json!({"exp": 940.5})]
        {
            assert_eq!(named(&good).as_deref(), Ok("ann@example.org"), "{good}");
        }
        for (bad, why) in [
            (json!({"iss": "https://login.example.org/"}), "another issuer"),
            (json!({"iss": null}), "another issuer"),
            (json!({"aud": "other"}), "another client"),
            (json!({"aud": ["other", "watchkeeper"]}), "another client"),
            (json!({"aud": ["other", "watchkeeper"], "azp": "other"}), "another client"),
            (json!({"aud": null}), "another client"),
            (json!({"exp": 938}), "run out"),
            (json!({"exp": "soon"}), "run out"),
            (json!({"nonce": "m"}), "another sign-in"),
            (json!({"nonce": null}), "another sign-in"),
            (json!({"email_verified": false}), "not verified"),
            (json!({"email": ""}), "has no `email`"),
        ] {
            let said = named(&bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn what_a_browser_keeps_comes_back_and_nothing_else_is_taken_for_it() {
        let url = oidc().url;
        let way = Way::new().unwrap_or_else(|failed| panic!("{}", failed.why));
        let cookie = way.cookie(&url);
        assert!(cookie.starts_with("__Host-watchkeeper-oidc=") && cookie.ends_with("SameSite=Lax; Max-Age=900; Secure"), "{cookie}");
        let headers = |text: &str| HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(text).unwrap())]);
        let kept = cookie.split(';').next().unwrap();
        assert_eq!(Way::of(&headers(&format!("a=b; {kept}")), &url), Some(way));
        for bad in
            ["", "a=b", "__Host-watchkeeper-oidc=..", "__Host-watchkeeper-oidc=a.b.c", &format!("{kept}.x"), &kept.replace("__Host-", "")]
        {
            assert_eq!(Way::of(&headers(bad), &url), None, "{bad}");
        }
    }

    #[test]
    fn nothing_is_sent_where_others_can_read_it() {
        for (url, good) in [
            ("https://login.example.org/token", true),
            ("http://login.example.org/token", false),
            ("http://127.0.0.1:8080/token", true),
            ("http://[::1]/token", true),
            ("http://localhost/token", true),
            ("http://127.0.0.1.example.org/token", false),
            ("ftp://localhost/token", false),
        ] {
            assert_eq!(is_private(&Url::parse(url).unwrap()), good, "{url}");
        }
    }

    #[test]
    fn what_is_no_token_has_no_claims() {
        let token = |payload: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        assert_eq!(claims(&token("{\"a\":1}")).map(|claims| claims.len()), Some(1));
        for bad in ["", "a.b", "a.b.c", &token("[]"), &token("{"), &format!("{}.d", token("{}"))] {
            assert_eq!(claims(bad), None, "{bad}");
        }
    }
}
