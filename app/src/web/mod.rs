//! The web: the page, the API under `/api/v1`, the live stream, the receivers of pushes, health and metrics.
//!
//! Every route stands in [`routes`], with who may call it; the router is built from that list, so that no route can be
//! without its authorization. Only this module shapes answers: its types ([`types`]) are not the core's nor the store's.
//! It reads the store and the live table, records pushes as facts, and wakes others. It never decides anything.

mod alert_rules;
mod api;
mod audit;
pub mod auth;
mod body;
mod channels;
mod dashboard;
mod dead_letters;
mod documents;
mod embedded;
pub mod error;
mod health;
pub mod health_port;
mod incidents;
mod metrics;
mod nodes;
mod openapi;
mod packed;
mod page;
mod periods;
mod process;
mod push;
mod second_factor;
mod serve;
pub mod sign_in;
mod silences;
mod status_page;
mod stream;
mod tenants;
mod tokens;
mod transfer;
pub mod types;
mod uptime;
pub mod users;

pub use health::Readiness;
pub use push::new_push_token;
pub use serve::{ServeError, serve};
pub(crate) use status_page::{News, Told, document, hash_of, letter, news};

use crate::clock::Clock;
use crate::documents::{Asked, Made};
use crate::live::Live;
use crate::net::Net;
use crate::spec::{Channels, Fleet, Pages};
use crate::store::Store;
use crate::telemetry::SharedMetrics;
use auth::Role;
use auth::oidc::Oidc;
use auth::proxy::Trust;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use error::ApiError;
use futures_util::FutureExt as _;
use secrecy::SecretString;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use watchkeeper_core::ChannelId;

/// A request is answered within this, or with 503: a slow store must not pile requests up for ever. Shorter would cut long
/// histories on slow disks. The live stream and the body of `/metrics` begin within it and go on.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A larger body is refused; the pushes cut for themselves. More would let strangers fill the memory; less would refuse a long
/// comment.
pub const BODY_MAX: u64 = 64 * 1024;

/// Live streams at a time: five hundred open pages and some scripts. Each may cost one small query per event; more would slow the store.
pub const STREAMS_MAX: usize = 600;

/// Asks for a reload of the configuration. The answer says what changed, or every problem.
pub type ReloadRequest = oneshot::Sender<Result<String, Vec<String>>>;

/// What the web tells the rest of the node, and hears from it.
#[derive(Clone)]
pub struct Control {
    /// Told after a push was recorded, so that it is folded at once.
    pub wake_pushes: Arc<Notify>,
    /// Told after a person acted on an incident, so that it is folded at once.
    pub wake_actions: Arc<Notify>,
    /// Makes every channel look at its outbox: a silence began or ended, or something is due again.
    pub wake_channels: Arc<dyn Fn() + Send + Sync>,
    /// A channel took a test message: what waits for it is tried at once.
    pub mended: Arc<dyn Fn(ChannelId) + Send + Sync>,
    /// Where reloads are asked for.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// Where changes of what was made over the API are asked for.
    pub documents: mpsc::Sender<Asked>,
    /// Whether the node does its work.
    pub ready: watch::Receiver<Readiness>,
}

/// Everything the web works on.
#[derive(Clone)]
pub struct WebState {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The newest facts and the stream of events.
    pub live: Live,
    /// What is watched: names and labels for `/metrics`.
    pub fleet: watch::Receiver<Fleet>,
    /// Where messages go, by the configuration in force.
    pub channels: watch::Receiver<Channels>,
    /// What strangers may see, by the configuration in force.
    pub pages: watch::Receiver<Pages>,
    /// What was made over the API.
    pub made: watch::Receiver<Arc<Made>>,
    /// The way out, for test messages and attempts "now".
    pub net: Arc<Net>,
    /// Our own series.
    pub metrics: SharedMetrics,
    /// Time.
    pub clock: Clock,
    /// The rest of the node.
    pub control: Control,
    /// If set, `/metrics` needs it as bearer token.
    pub metrics_token: Option<SecretString>,
    /// Which proxies are believed, and in what.
    pub trust: Arc<Trust>,
    /// Where people sign in who have accounts elsewhere.
    pub oidc: Option<Arc<Oidc>>,
    /// This node's name.
    pub node: String,
    /// Where everything is kept: `sqlite` or `postgresql`.
    pub store_kind: &'static str,
}

/// What handlers share: what was given, and the limits that hold over all requests.
#[derive(Clone)]
struct Web(Arc<Shared>);

struct Shared {
    given: WebState,
    /// Ends long answers (live streams) at shutdown.
    stop: CancellationToken,
    streams: Arc<Semaphore>,
    packers: Semaphore,
    push_limits: push::PushLimits,
    test_limits: channels::TestLimits,
    attempt_limits: documents::AttemptLimits,
    act_limits: incidents::ActLimits,
    sign_in_limits: auth::limits::SignInLimits,
    hashing: auth::password::Hashing,
    status_pages: status_page::Kept,
}

impl std::ops::Deref for Web {
    type Target = WebState;
    fn deref(&self) -> &WebState {
        &self.0.given
    }
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Anybody who knows the push token in the path.
    PushToken,
    /// Anybody, or, if one is set, who has the metrics token.
    Metrics,
    /// A token or a session of at least that role; sees its own tenant only.
    Known(Role),
}

/// One route: its path, its methods, who may call it.
pub struct Route {
    /// As axum writes it: `/api/v1/monitors/{id}`.
    pub path: &'static str,
    /// `GET` stands for `HEAD` too.
    pub methods: &'static [Method],
    /// Who may call it.
    pub access: Access,
    handler: MethodRouter<Web>,
}

/// Every route there is; `docs/api.md` and the authorization test go by it. A path stands here once per access.
pub fn routes() -> Vec<Route> {
    const GET: &[Method] = &[Method::GET];
    const POST: &[Method] = &[Method::POST];
    const PUT: &[Method] = &[Method::PUT];
    const PATCH: &[Method] = &[Method::PATCH];
    const DELETE: &[Method] = &[Method::DELETE];
    const BOTH: &[Method] = &[Method::GET, Method::POST];
    let viewer = Access::Known(Role::Viewer);
    let operator = Access::Known(Role::Operator);
    let admin = Access::Known(Role::Admin);
    let route = |path, methods, access, handler| Route { path, methods, access, handler };
    vec![
        route("/", GET, Access::Open, get(status_page::root)),
        route("/assets/{file}", GET, Access::Open, get(page::asset)),
        route("/health", GET, Access::Open, get(health::health)),
        route("/healthz", GET, Access::Open, get(health::health)),
        route("/ready", GET, Access::Open, get(health::ready)),
        route("/readyz", GET, Access::Open, get(health::ready)),
        route("/metrics", GET, Access::Metrics, get(metrics::metrics)),
        route("/api/push/{token}", BOTH, Access::PushToken, get(push::kuma).post(push::kuma)),
        route("/ping/{token}", BOTH, Access::PushToken, get(push::ping).post(push::ping)),
        route("/ping/{token}/{action}", BOTH, Access::PushToken, get(push::ping_action).post(push::ping_action)),
        route("/status.css", GET, Access::Open, get(status_page::stylesheet)),
        route("/status/{page}", GET, Access::Open, get(status_page::page)),
        route("/status/{page}/rss", GET, Access::Open, get(status_page::rss)),
        route("/status/{page}/atom", GET, Access::Open, get(status_page::atom)),
        route("/status/{page}/subscribers", POST, Access::Open, post(status_page::subscribe::ask)),
        route("/status/{page}/subscription/{link}", GET, Access::Open, get(status_page::subscribe::show_link)),
        route("/status/{page}/subscription/{link}", POST, Access::Open, post(status_page::subscribe::follow_link)),
        route("/status/{page}/api/v2/summary.json", GET, Access::Open, get(status_page::summary)),
        route("/status/{page}/api/v2/status.json", GET, Access::Open, get(status_page::status)),
        route("/api/v2/summary.json", GET, Access::Open, get(status_page::root_summary)),
        route("/api/v2/status.json", GET, Access::Open, get(status_page::root_status)),
        route("/api/status-page/{page}", GET, Access::Open, get(status_page::kuma_page)),
        route("/api/status-page/heartbeat/{page}", GET, Access::Open, get(status_page::kuma_heartbeats)),
        route("/api/badge/{id}/{measure}", GET, Access::Open, get(status_page::kuma_badge)),
        route("/api/badge/{id}/{measure}/{window}", GET, Access::Open, get(status_page::kuma_badge_over)),
        route("/api/v1/endpoints/{key}/health/badge.svg", GET, Access::Open, get(status_page::gatus_health)),
        route("/api/v1/endpoints/{key}/health/badge.shields", GET, Access::Open, get(status_page::gatus_shields)),
        route("/api/v1/endpoints/{key}/uptimes/{window}/badge.svg", GET, Access::Open, get(status_page::gatus_uptime)),
        route("/api/v1/endpoints/{key}/response-times/{window}/badge.svg", GET, Access::Open, get(status_page::gatus_response_time)),
        route("/api/v1/openapi.json", GET, Access::Open, get(openapi::serve)),
        route("/api/v1/auth", GET, Access::Open, get(sign_in::about)),
        route("/api/v1/auth/login", POST, Access::Open, post(sign_in::login)),
        route("/api/v1/auth/setup", POST, Access::Open, post(sign_in::set_up)),
        route("/api/v1/auth/oidc", GET, Access::Open, get(auth::oidc::begin)),
        route("/api/v1/auth/oidc/callback", GET, Access::Open, get(auth::oidc::finish)),
        route("/api/v1/auth/logout", POST, viewer, post(sign_in::logout)),
        route("/api/v1/me", GET, viewer, get(auth::me)),
        route("/api/v1/tenants", GET, viewer, get(tenants::tenants)),
        route("/api/v1/tenant/info", GET, viewer, get(tenants::info)),
        route("/api/v1/me/password", PUT, viewer, put(users::own_password)),
        route("/api/v1/me/second-factor", POST, viewer, post(second_factor::begin)),
        route("/api/v1/me/second-factor", PUT, viewer, put(second_factor::confirm)),
        route("/api/v1/me/second-factor/remove", POST, viewer, post(second_factor::remove)),
        route("/api/v1/users", GET, admin, get(users::users)),
        route("/api/v1/users", POST, admin, post(users::create)),
        route("/api/v1/members", POST, admin, post(users::admit)),
        route("/api/v1/users/{id}", PATCH, admin, patch(users::change)),
        route("/api/v1/users/{id}", DELETE, admin, delete(users::remove)),
        route("/api/v1/tokens", GET, admin, get(tokens::tokens)),
        route("/api/v1/tokens", POST, admin, post(tokens::create)),
        route("/api/v1/tokens/{id}", DELETE, admin, delete(tokens::revoke)),
        route("/api/v1/audit", GET, admin, get(audit::audit)),
        route("/api/v1/about", GET, viewer, get(health::about)),
        route("/api/v1/nodes", GET, viewer, get(nodes::nodes)),
        route("/api/v1/uptime", GET, viewer, get(uptime::uptime)),
        route("/api/v1/bars", GET, viewer, get(uptime::bars)),
        route("/api/v1/overview", GET, viewer, get(api::overview)),
        route("/api/v1/monitors", GET, viewer, get(api::monitors)),
        route("/api/v1/export", GET, admin, get(transfer::give)),
        route("/api/v1/import", POST, admin, post(transfer::take)),
        route("/api/v1/documents", GET, viewer, get(documents::documents)),
        route("/api/v1/monitors", POST, admin, post(documents::create_monitor)),
        route("/api/v1/monitors/{id}", GET, viewer, get(api::monitor)),
        route("/api/v1/monitors/{id}", POST, admin, post(documents::test_new)),
        route("/api/v1/monitors/{id}", PUT, admin, put(documents::replace_monitor)),
        route("/api/v1/monitors/{id}", PATCH, admin, patch(documents::patch_monitor)),
        route("/api/v1/monitors/{id}", DELETE, admin, delete(documents::remove_monitor)),
        route("/api/v1/monitors/{id}/test", POST, admin, post(documents::test)),
        route("/api/v1/monitors/{id}/pause", POST, operator, post(documents::pause_monitor)),
        route("/api/v1/monitors/{id}/resume", POST, operator, post(documents::resume_monitor)),
        route("/api/v1/monitors/{id}/heartbeats", GET, viewer, get(api::heartbeats)),
        route("/api/v1/monitors/{id}/metrics", GET, viewer, get(periods::metrics)),
        route("/api/v1/incidents", GET, viewer, get(incidents::incidents)),
        route("/api/v1/incidents/{id}", GET, viewer, get(incidents::incident)),
        route("/api/v1/incidents/{id}/acknowledge", POST, operator, post(incidents::acknowledge)),
        route("/api/v1/incidents/{id}/unacknowledge", POST, operator, post(incidents::unacknowledge)),
        route("/api/v1/incidents/{id}/resolve", POST, operator, post(incidents::resolve)),
        route("/api/v1/incidents/{id}/comments", POST, operator, post(incidents::comment)),
        route("/api/v1/silences", GET, viewer, get(silences::silences)),
        route("/api/v1/silences", POST, operator, post(silences::create)),
        route("/api/v1/silences/{id}", DELETE, operator, delete(silences::end)),
        route("/api/v1/dead-letters", GET, viewer, get(dead_letters::dead_letters)),
        route("/api/v1/dead-letters/{id}/retry", POST, operator, post(dead_letters::retry)),
        route("/api/v1/dashboard/stats", GET, viewer, get(dashboard::stats)),
        route("/api/v1/alert-rules", GET, viewer, get(alert_rules::rules)),
        route("/api/v1/alert-rules", POST, admin, post(alert_rules::create)),
        route("/api/v1/alert-rules/{id}", GET, viewer, get(alert_rules::rule)),
        route("/api/v1/alert-rules/{id}", PUT, admin, put(alert_rules::replace)),
        route("/api/v1/alert-rules/{id}", DELETE, admin, delete(alert_rules::remove)),
        route("/api/v1/alert-rules/{id}/test", POST, operator, post(alert_rules::test)),
        route("/api/v1/alert-channels", GET, viewer, get(channels::channels)),
        route("/api/v1/alert-channels", POST, admin, post(documents::create_channel)),
        route("/api/v1/alert-channels/{name}", PUT, admin, put(documents::replace_channel)),
        route("/api/v1/alert-channels/{name}", DELETE, admin, delete(documents::remove_channel)),
        route("/api/v1/maintenance", GET, viewer, get(documents::maintenance)),
        route("/api/v1/maintenance", POST, operator, post(documents::create_maintenance)),
        route("/api/v1/maintenance/{name}", PUT, operator, put(documents::replace_maintenance)),
        route("/api/v1/maintenance/{name}", DELETE, operator, delete(documents::remove_maintenance)),
        route("/api/v1/status-pages", GET, viewer, get(status_page::manage::pages)),
        route("/api/v1/status-pages", POST, admin, post(status_page::manage::create)),
        route("/api/v1/status-pages/{name}", GET, viewer, get(status_page::manage::public_page)),
        route("/api/v1/status-pages/{name}", PUT, admin, put(status_page::manage::replace)),
        route("/api/v1/status-pages/{name}", DELETE, admin, delete(status_page::manage::remove)),
        route("/api/v1/status-pages/{name}/messages", POST, operator, post(status_page::manage::say)),
        route("/api/v1/status-pages/{name}/messages", PUT, operator, put(status_page::manage::say_all)),
        route("/api/v1/status-pages/{name}/subscribers", GET, admin, get(status_page::manage::subscribers)),
        route("/api/v1/status-pages/{name}/subscribers/{id}", DELETE, admin, delete(status_page::manage::remove_subscriber)),
        route("/api/v1/status-pages/{name}/preview", POST, admin, post(status_page::manage::preview)),
        route("/api/v1/alert-channels/{name}/notices", GET, viewer, get(channels::notices)),
        route("/api/v1/alert-channels/{name}/test", POST, operator, post(channels::test)),
        route("/api/v1/alert-channels/{name}/retry", POST, operator, post(channels::retry)),
        route("/api/v1/stream/events", GET, viewer, get(stream::events)),
        route("/-/reload", POST, Access::Known(Role::Admin), post(health::reload)),
    ]
}

/// The whole web as one service. `stop` ends the live streams.
pub fn router(given: WebState, stop: CancellationToken) -> Router {
    let web = Web(Arc::new(Shared {
        given,
        stop,
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        packers: Semaphore::new(packed::PACKERS),
        push_limits: push::PushLimits::default(),
        test_limits: channels::TestLimits::default(),
        attempt_limits: documents::AttemptLimits::default(),
        act_limits: incidents::ActLimits::default(),
        sign_in_limits: auth::limits::SignInLimits::default(),
        hashing: auth::password::Hashing::default(),
        status_pages: status_page::Kept::default(),
    }));
    let mut router = Router::new();
    for route in routes() {
        let handler = match route.access {
            Access::Open | Access::PushToken => route.handler,
            Access::Metrics => route.handler.route_layer(middleware::from_fn_with_state(web.clone(), metrics::require_metrics_token)),
            Access::Known(role) => route.handler.route_layer(middleware::from_fn_with_state((web.clone(), role), auth::require)),
        };
        router = router.route(route.path, handler);
    }
    router
        .fallback(|| async {
            ApiError::new(StatusCode::NOT_FOUND, "no_route", "there is nothing at this path; docs/api.md lists the paths")
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the path does not take this method; see the Allow header")
        })
        .layer(middleware::from_fn_with_state(web.clone(), packed::pack))
        .layer(middleware::from_fn(guard))
        .with_state(web)
}

/// Around every request: the limits of body and time, and a wall against panics.
async fn guard(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), shown_path(request.uri().path()).to_owned());
    let response = match announced(&request) {
        Some(length) if length > most_of(request.uri().path()) => ApiError::too_large().into_response(),
        Some(_) | None => {
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, AssertUnwindSafe(next.run(request)).catch_unwind()).await;
            match answer {
                Ok(Ok(response)) => response,
                // The panic's own text went to the log through the panic hook.
                Ok(Err(_panic)) => {
                    tracing::error!(%method, path, "a request ended in a panic");
                    ApiError::internal().into_response()
                }
                Err(_elapsed) => {
                    tracing::warn!(%method, path, "a request took too long and was ended");
                    ApiError::unavailable("timeout", "the answer took too long; try again").into_response()
                }
            }
        }
    };
    tracing::debug!(%method, path, status = response.status().as_u16(), "request");
    with_common_headers(response)
}

/// Nothing here is for caches or for guessing its type.
fn with_common_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn announced(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How large a body may be announced to be; pushes are cut instead.
fn most_of(path: &str) -> u64 {
    match path {
        "/api/v1/import" => transfer::IMPORT_MAX,
        path if is_push(path) => u64::MAX,
        _ => BODY_MAX,
    }
}

fn is_push(path: &str) -> bool {
    path.starts_with("/api/push/") || path.starts_with("/ping/")
}

/// A path for the log: without the token of a push, and without a subscriber's link.
fn shown_path(path: &str) -> &str {
    const LINK: &str = "/subscription/";
    match path.find(LINK) {
        Some(at) if path.starts_with("/status/") => &path[..at + LINK.len()],
        Some(_) | None => ["/api/push/", "/ping/"].into_iter().find(|p| path.starts_with(p)).unwrap_or(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_panic_is_answered_without_its_words_and_the_server_lives_on() {
        async fn panics() {
            panic!("the password is hunter2")
        }
        let router: Router =
            Router::new().route("/panics", get(panics)).route("/works", get(|| async { "works" })).layer(middleware::from_fn(guard));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = ask("/panics").await;
        assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("\"code\":\"internal\""), "{answer}");
        assert!(!answer.contains("hunter2"), "{answer}");
        assert!(ask("/works").await.ends_with("works"));
        server.abort();
    }

    #[test]
    fn the_log_shows_no_push_token() {
        assert_eq!(shown_path("/api/push/secret"), "/api/push/");
        assert_eq!(shown_path("/ping/secret/fail"), "/ping/");
        assert_eq!(shown_path("/status/public/subscription/secret"), "/status/public/subscription/");
        assert_eq!(shown_path("/api/v1/monitors"), "/api/v1/monitors");
    }
}
