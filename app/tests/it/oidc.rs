//! Signing in at an OpenID Connect issuer: a stand-in for one, as strict as the standard lets it be, and a browser that keeps its cookies.

use crate::support::web::{Answer, TestWeb};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use url::Url;
use watchkeeper::clock::Clock;
use watchkeeper::web::auth::Role;
use watchkeeper::web::auth::oidc::Oidc;
use watchkeeper::web::auth::proxy::Trust;

/// A secret with letters that must be encoded.
const SECRET: &str = "s e+c:r%t";

/// What the issuer knows and does.
struct Issuer {
    url: String,
    /// What it puts into ID tokens beside what belongs there, or instead of it.
    claims: Mutex<Value>,
    /// What it says of itself beside its addresses, or instead of them.
    says: Mutex<Value>,
    /// Codes it gave out, with what the browser asked with.
    codes: Mutex<HashMap<String, HashMap<String, String>>>,
}

#[expect(clippy::unused_async, reason = "axum takes handlers that are async")]
impl Issuer {
    async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realm", listener.local_addr().unwrap());
        let this = Arc::new(Self { url, claims: Mutex::new(json!({})), says: Mutex::new(json!({})), codes: Mutex::default() });
        let router = Router::new()
            .route("/realm/.well-known/openid-configuration", get(Self::describe))
            .route("/realm/authorize", get(Self::authorize))
            .route("/realm/token", post(Self::token))
            .with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        this
    }

    async fn describe(State(this): State<Arc<Self>>) -> Json<Value> {
        let url = &this.url;
        let mut says = json!({
            "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
            "response_types_supported": ["code"], "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
        });
        merge(&mut says, &this.says.lock().unwrap());
        Json(says)
    }

    /// The person behind the browser has signed in and agrees.
    async fn authorize(
        State(this): State<Arc<Self>>,
        Query(asked): Query<HashMap<String, String>>,
    ) -> (StatusCode, [(&'static str, String); 1]) {
        for (name, value) in [("response_type", "code"), ("client_id", "watch keeper"), ("code_challenge_method", "S256")] {
            assert_eq!(asked[name], value, "{asked:?}");
        }
        assert!(asked["scope"].split(' ').any(|scope| scope == "openid"), "{asked:?}");
        assert!(["state", "nonce", "code_challenge"].iter().all(|name| asked[*name].len() == 43), "{asked:?}");
        let code = format!("code-{}", this.codes.lock().unwrap().len());
        let mut back = Url::parse(&asked["redirect_uri"]).unwrap();
        back.query_pairs_mut().append_pair("code", &code).append_pair("state", &asked["state"]).append_pair("session_state", "x");
        this.codes.lock().unwrap().insert(code, asked);
        (StatusCode::FOUND, [("location", back.to_string())])
    }

    /// A code is good once, for whoever has the verifier and the secret.
    async fn token(State(this): State<Arc<Self>>, headers: HeaderMap, body: String) -> (StatusCode, Json<Value>) {
        let form: HashMap<String, String> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let in_body = this.says.lock().unwrap()["token_endpoint_auth_methods_supported"] == json!(["client_secret_post"]);
        let known = if in_body {
            headers.get("authorization").is_none() && form["client_id"] == "watch keeper" && form["client_secret"] == SECRET
        } else {
            let pair = STANDARD.encode("watch+keeper:s+e%2Bc%3Ar%25t");
            headers["authorization"] == format!("Basic {pair}").as_str() && !form.contains_key("client_secret")
        };
        let asked = this.codes.lock().unwrap().remove(&form["code"]);
        let refused = |why: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": why })));
        let Some(asked) = asked else { return refused("invalid_grant") };
        if !known {
            return refused("invalid_client");
        }
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
        if form["grant_type"] != "authorization_code"
            || challenge != asked["code_challenge"]
            || form["redirect_uri"] != asked["redirect_uri"]
        {
            return refused("invalid_grant");
        }
        let now = Clock::system().now().0 / 1_000_000;
        let mut claims = json!({
            "iss": this.url, "sub": "8f2", "aud": "watch keeper", "exp": now + 300, "iat": now, "nonce": asked["nonce"],
            "preferred_username": "Ann", "email": "ann@example.org", "email_verified": true,
        });
        merge(&mut claims, &this.claims.lock().unwrap());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let token = format!("{}.{}.c2ln", part(&json!({ "alg": "RS256" })), part(&claims));
        (StatusCode::OK, Json(json!({ "access_token": "a", "token_type": "Bearer", "expires_in": 300, "id_token": token })))
    }
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        into[key] = value.clone();
    }
}

/// A server at which the issuer's people can sign in, and a browser.
struct Place {
    web: TestWeb,
    issuer: Arc<Issuer>,
    cookies: HashMap<String, String>,
    asked: u8,
}

impl Place {
    async fn new() -> Self {
        let issuer = Issuer::start().await;
        let url = issuer.url.clone();
        // Where browsers reach it matters to the issuer alone.
        let web = TestWeb::start_with(|state| {
            state.trust = Arc::new(Trust { proxies: vec!["127.0.0.0/8".parse().unwrap()], user_header: None });
            state.oidc = Some(Arc::new(Oidc {
                issuer: url,
                client_id: "watch keeper".to_owned(),
                client_secret: Some(SecretString::from(SECRET)),
                url: Url::parse("http://watch.example.org/wk/").unwrap(),
                claim: "preferred_username".to_owned(),
                label: "Example".to_owned(),
            }));
        })
        .await;
        Self { web, issuer, cookies: HashMap::new(), asked: 0 }
    }

    /// Asks the server as the browser does, and takes the cookies.
    async fn ask(&mut self, path: &str) -> Answer {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        // Many people behind one proxy: nobody of them asks too often.
        self.asked += 1;
        let from = format!("198.51.100.{}", self.asked);
        let answer = self.web.call(Method::GET, path, None, &[("cookie", &cookies), ("x-forwarded-for", &from)], Bytes::new()).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let mut parts = cookie.to_str().unwrap().split("; ");
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            assert!(parts.clone().any(|part| part == "HttpOnly"), "{cookie:?}");
            if parts.any(|part| part == "Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Goes to the issuer, signs in there, and is where the issuer sends it back to.
    async fn leave(&mut self) -> Url {
        let left = self.ask("/api/v1/auth/oidc").await;
        let to = to(&left);
        assert!(to.as_str().starts_with(&format!("{}/authorize?", self.issuer.url)), "{to}");
        let path = format!("{}?{}", to.path(), to.query().unwrap());
        let issuer = to.socket_addrs(|| None).unwrap()[0];
        let back = crate::support::web::call(issuer, Method::GET, &path, None, &[], Bytes::new()).await;
        assert_eq!(back.status, StatusCode::FOUND, "{back:?}");
        let back = Url::parse(back.headers["location"].to_str().unwrap()).unwrap();
        assert_eq!(back.path(), "/wk/api/v1/auth/oidc/callback");
        back
    }

    /// Comes back with that query; where the browser is sent then.
    async fn come_back(&mut self, query: &str) -> Url {
        to(&self.ask(&format!("/api/v1/auth/oidc/callback?{query}")).await)
    }

    /// The whole way. The word that the page is told, or none.
    async fn sign_in(&mut self) -> Option<String> {
        let back = self.leave().await;
        let page = self.come_back(back.query().unwrap()).await;
        assert_eq!((page.host_str(), page.path()), (Some("watch.example.org"), "/wk/"), "{page}");
        page.query_pairs().find(|(name, _)| name == "signin").map(|(_, word)| word.into_owned())
    }

    async fn me(&mut self) -> Answer {
        self.ask("/api/v1/me").await
    }

    async fn user(&self, name: &str) {
        crate::users::made(&self.web, self.web.world.acme(), name, Role::Operator).await;
    }
}

fn to(answer: &Answer) -> Url {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    Url::parse(answer.headers["location"].to_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_user_whom_the_issuer_names_is_signed_in_and_nobody_else() {
    let mut place = Place::new().await;
    assert_eq!(place.ask("/api/v1/auth").await.json()["oidc"], "Example");
    assert_eq!(place.sign_in().await.as_deref(), Some("unknown_user"), "nobody is made by signing in");
    assert_eq!(place.me().await.status, StatusCode::UNAUTHORIZED);

    place.user("ann").await;
    assert_eq!(place.sign_in().await, None);
    let me = place.me().await.json();
    assert_eq!((&me["name"], &me["role"]), (&json!("ann"), &json!("operator")));
    let kept: Vec<&String> = place.cookies.keys().collect();
    assert_eq!(kept, ["watchkeeper"], "nothing else stays in the browser");
    let entries = place.web.get_as("/api/v1/audit", &place.web.admin).await.json();
    assert_eq!(entries["items"][0]["action"], "signed in by OpenID Connect", "{entries}");
    place.web.stop().await;
}

#[tokio::test]
async fn what_the_issuer_or_somebody_between_gets_wrong_signs_nobody_in() {
    let mut place = Place::new().await;
    place.user("ann").await;
    for (claims, word) in [
        (json!({ "aud": "other" }), "not_understood"),
        (json!({ "iss": "https://login.example.org" }), "not_understood"),
        (json!({ "exp": 1_000_000_000 }), "not_understood"),
        (json!({ "nonce": "another" }), "not_understood"),
        (json!({ "preferred_username": null }), "not_understood"),
        (json!({ "preferred_username": "eve" }), "unknown_user"),
        (json!({ "preferred_username": "x".repeat(5_000) }), "unknown_user"),
    ] {
        *place.issuer.claims.lock().unwrap() = claims.clone();
        assert_eq!(place.sign_in().await.as_deref(), Some(word), "{claims}");
    }
    *place.issuer.claims.lock().unwrap() = json!({});
    for says in [
        json!({ "issuer": "http://127.0.0.1:1" }),
        json!({ "token_endpoint": "http://example.org/token" }),
        json!({ "token_endpoint": null }),
    ] {
        *place.issuer.says.lock().unwrap() = says.clone();
        let page = to(&place.ask("/api/v1/auth/oidc").await);
        assert_eq!(page.as_str(), "http://watch.example.org/wk/?signin=not_understood", "{says}");
    }
    *place.issuer.says.lock().unwrap() = json!({});
    assert_eq!(place.me().await.status, StatusCode::UNAUTHORIZED);

    // Not the browser that left, another answer than the one it left for, twice, and without anything.
    let word = |page: &Url| page.query_pairs().find(|(name, _)| name == "signin").map(|(_, word)| word.into_owned()).unwrap_or_default();
    let back = place.leave().await;
    let kept = std::mem::take(&mut place.cookies);
    assert_eq!(word(&place.come_back(back.query().unwrap()).await), "expired");
    place.cookies.clone_from(&kept);
    assert_eq!(word(&place.come_back("code=code-0&state=0123456789012345678901234567890123456789012").await), "expired");
    place.cookies.clone_from(&kept);
    let state = back.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    assert_eq!(word(&place.come_back(&format!("error=access_denied&error_description=no&state={state}")).await), "refused");
    place.cookies.clone_from(&kept);
    assert_eq!(word(&place.come_back(&format!("code=code-0&iss=https://other&state={state}")).await), "not_understood");
    place.cookies.clone_from(&kept);
    assert_eq!(word(&place.come_back(&format!("code=a&code=b&state={state}")).await), "not_understood");
    place.cookies.clone_from(&kept);
    assert_eq!(place.come_back(back.query().unwrap()).await.query(), None, "the browser that left, with its answer");
    place.cookies.clone_from(&kept);
    assert_eq!(word(&place.come_back(back.query().unwrap()).await), "not_understood", "a code is good once");
    place.web.stop().await;
}

#[tokio::test]
async fn an_issuer_that_takes_the_secret_in_the_body_alone_gets_it_there() {
    let mut place = Place::new().await;
    place.user("ann").await;
    *place.issuer.says.lock().unwrap() = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] });
    assert_eq!(place.sign_in().await, None);
    assert_eq!(place.me().await.status, StatusCode::OK);
    place.web.stop().await;
}

#[tokio::test]
async fn an_issuer_that_is_away_is_said_and_where_there_is_none_nobody_is_sent() {
    let issuer = crate::support::servers::Closed::port();
    let url = format!("http://{}", issuer.address);
    let web = TestWeb::start_with(|state| {
        state.oidc = Some(Arc::new(Oidc {
            issuer: url,
            client_id: "watchkeeper".to_owned(),
            client_secret: None,
            url: Url::parse("https://watch.example.org/").unwrap(),
            claim: "email".to_owned(),
            label: "Example".to_owned(),
        }));
    })
    .await;
    let away = web.call(Method::GET, "/api/v1/auth/oidc", None, &[], Bytes::new()).await;
    assert_eq!(to(&away).as_str(), "https://watch.example.org/?signin=unreachable");
    for _ in 0..40 {
        web.call(Method::GET, "/api/v1/auth/oidc", None, &[], Bytes::new()).await;
    }
    let many = web.call(Method::GET, "/api/v1/auth/oidc", None, &[], Bytes::new()).await;
    assert_eq!(to(&many).as_str(), "https://watch.example.org/?signin=too_many");
    web.stop().await;
    let web = TestWeb::start().await;
    for path in ["/api/v1/auth/oidc", "/api/v1/auth/oidc/callback?code=a&state=b"] {
        let answer = web.call(Method::GET, path, None, &[], Bytes::new()).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (StatusCode::NOT_FOUND, "not_found"));
    }
    assert_eq!(web.get("/api/v1/auth").await.json()["oidc"], Value::Null);
    web.stop().await;
}
