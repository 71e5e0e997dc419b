//! The whole program inside a test, and waiting for what it does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchkeeper::app::{App, Given};
use watchkeeper::clock::Clock;
use watchkeeper::config;
use watchkeeper::net::Net;
use watchkeeper::reload::Source;
use watchkeeper::store::{Store, TenantScope};
use watchkeeper_core::TenantId;

/// Beyond this a state that a test waits for is not coming.
const LIMIT: Duration = Duration::from_mins(2);

/// A running program.
pub struct TestApp {
    pub address: SocketAddr,
    pub store: Arc<dyn Store>,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl TestApp {
    /// Starts it on a configuration given as text. `server.listen` and the node's name are set here.
    pub async fn start(yaml: &str, store: Arc<dyn Store>) -> Self {
        Self::build(load(yaml), Source::Fixed, Given { store: Some(store), ..Given::default() }).await
    }

    /// Starts it on a whole configuration, with its `server` and `agent`.
    pub async fn start_whole(yaml: &str, store: Arc<dyn Store>) -> Self {
        let yaml = yaml.to_owned();
        let config = config::load_texts(&[("test.yaml".to_owned(), yaml.into_bytes())], &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
        Self::build(config, Source::Fixed, Given { store: Some(store), ..Given::default() }).await
    }

    /// The same by another clock.
    pub async fn start_by(yaml: &str, store: Arc<dyn Store>, clock: Clock) -> Self {
        let texts = [("test.yaml".to_owned(), yaml.as_bytes().to_vec())];
        let config = config::load_texts(&texts, &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
        Self::build(config, Source::Fixed, Given { store: Some(store), clock: Some(clock), ..Given::default() }).await
    }

    /// The same with another way to names and sockets.
    pub async fn start_in(yaml: &str, store: Arc<dyn Store>, net: Net) -> Self {
        let texts = [("test.yaml".to_owned(), yaml.as_bytes().to_vec())];
        let config = config::load_texts(&texts, &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
        Self::build(config, Source::Fixed, Given { store: Some(store), net: Some(net), ..Given::default() }).await
    }

    /// The same on a node with these name servers alone.
    pub async fn start_asking(yaml: &str, store: Arc<dyn Store>, servers: &[SocketAddr]) -> Self {
        let net = Net::with_name_servers(Clock::system(), servers.to_vec());
        Self::build(load(yaml), Source::Fixed, Given { store: Some(store), net: Some(net), ..Given::default() }).await
    }

    /// Starts it on a file, which may change.
    pub async fn start_on(path: &std::path::Path, store: Arc<dyn Store>) -> Self {
        let config = config::load(Some(path), &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
        Self::build(config, Source::Path(path.to_owned()), Given { store: Some(store), ..Given::default() }).await
    }

    /// Why one that is given all of its configuration does not start.
    pub async fn not_started(yaml: &str, store: Arc<dyn Store>) -> String {
        let texts = [("test.yaml".to_owned(), yaml.as_bytes().to_vec())];
        let config = config::load_texts(&texts, &|_| None).unwrap_or_else(|bad| panic!("{bad}"));
        let started = Self::try_build(config, Source::Fixed, Given { store: Some(store), ..Given::default() }).await;
        format!("{:#}", started.err().expect("it does not start"))
    }

    async fn build(config: config::Config, source: Source, given: Given) -> Self {
        Self::try_build(config, source, given).await.unwrap()
    }

    async fn try_build(mut config: config::Config, source: Source, given: Given) -> anyhow::Result<Self> {
        if config.store.journal == Path::new("watchkeeper.journal") {
            // Not in the folder that all tests run in.
            config.store.journal = std::env::temp_dir().join(format!("watchkeeper-{}", uuid::Uuid::new_v4()));
        }
        let app = App::build(config, source, given).await?;
        let (address, store, stop) = (app.address, app.store.clone(), CancellationToken::new());
        let running = tokio::spawn(app.run(stop.clone()));
        Ok(Self { address, store, stop, running })
    }

    /// The tenant that everything outside `tenants:` belongs to.
    pub async fn scope(&self) -> TenantScope {
        let tenants = self.store.tenants().await.unwrap();
        TenantScope(tenants.iter().find(|(_, slug)| slug == "default").map_or(TenantId(0), |(id, _)| *id))
    }

    /// Waits until a monitor has this health.
    pub async fn until_health(&self, monitor: &str, health: &str) {
        let scope = self.scope().await;
        until(&format!("{monitor} is {health}"), async || {
            let view = self.store.monitor(scope, monitor).await.unwrap()?;
            (view.health.as_str() == health).then_some(())
        })
        .await;
    }

    /// Stops it in good order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn load(yaml: &str) -> config::Config {
    let yaml = format!("server: {{ listen: 127.0.0.1:0 }}\nagent: {{ name: test }}\n{yaml}");
    config::load_texts(&[("test.yaml".to_owned(), yaml.into_bytes())], &|_| None).unwrap_or_else(|bad| panic!("{bad}"))
}

/// Waits until `look` finds something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One request without a token, and the whole answer with its head.
pub async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
