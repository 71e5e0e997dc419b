//! The web over a real store on a real socket, and a plain HTTP client for it.

use crate::store_contract::world::{self, World};
use crate::support::store::TestStore;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use watchkeeper::clock::Clock;
use watchkeeper::live::Live;
use watchkeeper::net::Net;
use watchkeeper::spec::{Channels, Fleet, Pages};
use watchkeeper::store::{Beside, LiveRow, LiveWrite, Mandate, MonitorObject, TenantObjects, TenantScope};
use watchkeeper::telemetry::Metrics;
use watchkeeper::web::auth::{Role, create_token};
use watchkeeper::web::{self, Control, Readiness, ReloadRequest, WebState, new_push_token};
use watchkeeper_core::{ChannelId, Dur, MonitorId};

/// Nothing on loopback takes this long; a test that waits so long has failed.
pub const LONG: Duration = Duration::from_secs(20);

/// A server with two tenants, and what stands behind it.
pub struct TestWeb {
    pub world: World,
    pub address: SocketAddr,
    pub clock: Clock,
    pub live: Live,
    pub fleet: watch::Sender<Fleet>,
    pub ready: watch::Sender<Readiness>,
    pub reloads: mpsc::Receiver<ReloadRequest>,
    pub wake_pushes: Arc<Notify>,
    pub wake_actions: Arc<Notify>,
    /// How often every channel was woken.
    pub channel_wakes: Arc<AtomicUsize>,
    /// Channels that were seen to work.
    pub mended: Arc<std::sync::Mutex<Vec<ChannelId>>>,
    pub channels: watch::Sender<Channels>,
    pub pages: watch::Sender<Pages>,
    /// Of acme.
    pub viewer: String,
    /// Of acme.
    pub operator: String,
    /// Of acme.
    pub admin: String,
    /// Of zenith, an administrator's.
    pub foreign: String,
    /// Of acme's push monitor `job`.
    pub job: MonitorId,
    pub push_token: String,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.body))
    }

    /// The `code` of an error in the one form that errors have.
    pub fn error_code(&self) -> String {
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16(), "{}", self.body);
        assert!(json["message"].as_str().is_some_and(|m| !m.is_empty()), "{}", self.body);
        json["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl TestWeb {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server whose state is changed before it starts.
    pub async fn start_with(change: impl FnOnce(&mut WebState)) -> Self {
        let world = World::new(TestStore::sqlite().await).await;
        let clock = Clock::system();
        let push_token = new_push_token().unwrap();
        let job = push_monitor(&world, &push_token, &clock).await;
        let token = |scope, role: Role| {
            let (store, now) = (world.t.store.clone(), clock.now());
            async move { create_token(&*store, scope, role.as_str(), role, now).await.unwrap().expose_secret().to_owned() }
        };
        let viewer = token(world.acme(), Role::Viewer).await;
        let operator = token(world.acme(), Role::Operator).await;
        let admin = token(world.acme(), Role::Admin).await;
        let foreign = token(world.zenith(), Role::Admin).await;
        let (live, wake_pushes, metrics) = (Live::default(), Arc::new(Notify::new()), Arc::new(Metrics::new()));
        let (fleet, fleet_rx) = watch::channel(Fleet::default());
        let works = Readiness {
            store: Ok(()),
            leases: Ok(()),
            schedule_lag: Dur::ZERO,
            reload_problem: None,
            left_out: 0,
            in_clear: 0,
            dead_letters: 0,
            failing_channels: Vec::new(),
            dead_man_problem: None,
            cut_off: None,
        };
        let (ready, ready_rx) = watch::channel(works);
        let (reload, reloads) = mpsc::channel(1);
        let (pages, pages_rx) = watch::channel(Pages(Some(Arc::default())));
        let (channels, channels_rx) = watch::channel(Channels::default());
        let (wake_actions, channel_wakes) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let wakes = channel_wakes.clone();
        let mended = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = mended.clone();
        let mut state = WebState {
            store: world.t.store.clone(),
            live: live.clone(),
            fleet: fleet_rx,
            channels: channels_rx,
            pages: pages_rx,
            made: watch::channel(Arc::default()).1,
            net: Arc::new(Net::system(clock.clone())),
            metrics,
            clock: clock.clone(),
            control: Control {
                wake_pushes: wake_pushes.clone(),
                wake_actions: wake_actions.clone(),
                wake_channels: Arc::new(move || {
                    wakes.fetch_add(1, Ordering::SeqCst);
                }),
                mended: Arc::new(move |channel| seen.lock().unwrap().push(channel)),
                reload,
                // Nobody changes what is in force here: whole programs are tested for that.
                documents: mpsc::channel(1).0,
                ready: ready_rx,
            },
            node: "test".to_owned(),
            store_kind: "sqlite",
            metrics_token: None,
            trust: Arc::default(),
            oidc: None,
        };
        change(&mut state);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = web::serve(listener, state, stop.clone());
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            world,
            address,
            clock,
            live,
            fleet,
            ready,
            reloads,
            wake_pushes,
            wake_actions,
            channel_wakes,
            mended,
            channels,
            pages,
            viewer,
            operator,
            admin,
            foreign,
            job,
            push_token,
            stop,
            served,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_as(path, &self.viewer).await
    }

    pub async fn get_as(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, Some(token), &[], Bytes::new()).await
    }

    /// A POST of JSON.
    pub async fn post_as(&self, path: &str, token: &str, body: impl Into<Bytes>) -> Answer {
        self.call(Method::POST, path, Some(token), &[], body.into()).await
    }

    /// One request on a connection of its own, and its whole answer.
    pub async fn call(&self, method: Method, path: &str, token: Option<&str>, headers: &[(&str, &str)], body: Bytes) -> Answer {
        call(self.address, method, path, token, headers, body).await
    }

    /// Commits live events of a monitor, and publishes them as the engine does after a commit. Their ids.
    pub async fn happens(&mut self, monitor: MonitorId, numbers: std::ops::Range<i64>) -> Vec<i64> {
        let rows = self.commit_events(monitor, numbers).await;
        let tenant = if monitor == self.world.other_shop { self.world.zenith } else { self.world.acme };
        rows.into_iter()
            .map(|row| {
                let id = row.id;
                self.live.publish(tenant, row);
                id
            })
            .collect()
    }

    /// Commits live events without telling this node, as another node's would come.
    pub async fn commit_events(&mut self, monitor: MonitorId, numbers: std::ops::Range<i64>) -> Vec<LiveRow> {
        let now = self.clock.now();
        let events: Vec<LiveWrite> =
            numbers.map(|n| LiveWrite { at: now, kind: "monitor_state".into(), data: serde_json::json!({ "n": n }) }).collect();
        let mut decision = self.world.decision(monitor);
        decision.live = events.clone().into();
        let committed = self.world.commit_decisions(vec![decision]).await;
        assert!(committed.stale.is_empty(), "the lease is ours");
        committed.live_ids.into_iter().zip(events).map(|(id, event)| LiveRow { id, event }).collect()
    }

    /// Ends it and waits until it has ended.
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(LONG, self.served).await.expect("the server ends in time").unwrap();
    }
}

async fn push_monitor(world: &World, token: &str, clock: &Clock) -> MonitorId {
    let job = MonitorObject { kind: "push".into(), target: String::new(), push_token: Some(token.to_owned()), ..world::monitor("job") };
    let objects = TenantObjects { tenant: "acme".into(), channels: vec![], monitors: vec![job], maintenance: vec![] };
    world.store().apply("more", "hash-more", &[objects], Mandate::Alone, Beside::default(), clock.now()).await.unwrap();
    world.store().monitor(TenantScope(world.acme), "job").await.unwrap().expect("it was applied").id
}

/// One request on a connection of its own; the answer's body is still to be read.
pub async fn open(
    address: SocketAddr,
    method: Method,
    path: &str,
    token: Option<&str>,
    headers: &[(&str, &str)],
    body: Bytes,
) -> http::Response<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "watchkeeper.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let sent = sender.send_request(request.body(Full::new(body)).unwrap());
    tokio::time::timeout(LONG, sent).await.expect("an answer in time").unwrap()
}

pub async fn call(address: SocketAddr, method: Method, path: &str, token: Option<&str>, headers: &[(&str, &str)], body: Bytes) -> Answer {
    let response = open(address, method, path, token, headers, body).await;
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(LONG, body.collect()).await.expect("a whole answer in time").unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

/// A request under a host name; the others go to `watchkeeper.test`.
pub async fn get_at(address: SocketAddr, host: &str, path: &str) -> Answer {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, headers: http::HeaderMap::new(), body: body.to_owned() }
}
