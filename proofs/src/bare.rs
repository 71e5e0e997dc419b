//! The yardstick of `cost`: the least that hyper and tokio need for the same requests. A fresh connection per check,
//! full TLS 1.3 handshake with the chain checked, the body read to its end; no decision, no store, no deadline, no names.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// So many checks may be under way at once; what comes on top is skipped and not counted. Without it an overload would
/// measure the swapping of tasks instead of checks.
const IN_FLIGHT_MAX: u64 = 2_000;

struct Target {
    address: SocketAddr,
    host: String,
    tls: Option<TlsConnector>,
    done: AtomicU64,
    failed: AtomicU64,
    in_flight: AtomicU64,
}

/// Checks `url` at `rate` per second for `seconds`, and prints CPU seconds, checks done and checks failed.
pub fn run(url: &str, rate: f64, seconds: f64, ca_file: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(paced(url, rate, seconds, ca_file))
}

async fn paced(url: &str, rate: f64, seconds: f64, ca_file: &Path) -> Result<()> {
    let uri: http::Uri = url.parse().context("URL")?;
    let host = uri.authority().context("the URL names no host")?.to_string();
    let tls = (uri.scheme_str() == Some("https")).then(|| connector(ca_file)).transpose()?;
    let target = Arc::new(Target { address: host.parse()?, host, tls, done: 0.into(), failed: 0.into(), in_flight: 0.into() });
    // One second to warm up: page faults and lazily built tables belong to no check.
    let pid = std::process::id();
    let mut from = (0.0, 0);
    let began = Instant::now();
    let mut tick = 0_u64;
    loop {
        let due = began + Duration::from_secs_f64(tick as f64 / rate);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let elapsed = began.elapsed().as_secs_f64();
        if elapsed > 1.0 && from == (0.0, 0) {
            from = (crate::stats::cpu_seconds(pid)?, target.done.load(Ordering::Relaxed));
        }
        if elapsed > seconds + 1.0 {
            break;
        }
        tick += 1;
        if target.in_flight.load(Ordering::Relaxed) >= IN_FLIGHT_MAX {
            continue;
        }
        target.in_flight.fetch_add(1, Ordering::Relaxed);
        let target = target.clone();
        tokio::spawn(async move {
            let result = check(&target).await;
            let counter = if result.is_ok() { &target.done } else { &target.failed };
            counter.fetch_add(1, Ordering::Relaxed);
            target.in_flight.fetch_sub(1, Ordering::Relaxed);
        });
    }
    let cpu = crate::stats::cpu_seconds(pid)? - from.0;
    println!("{cpu} {} {}", target.done.load(Ordering::Relaxed) - from.1, target.failed.load(Ordering::Relaxed));
    Ok(())
}

async fn check(target: &Target) -> Result<()> {
    let tcp = TcpStream::connect(target.address).await?;
    tcp.set_nodelay(true)?;
    match &target.tls {
        None => request(target, tcp).await,
        Some(tls) => {
            let name = ServerName::from(target.address.ip());
            request(target, tls.connect(name, tcp).await?).await
        }
    }
}

async fn request(target: &Target, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<()> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let request = http::Request::get("/")
            .header(http::header::HOST, &target.host)
            .header(http::header::USER_AGENT, "bare")
            .header(http::header::ACCEPT, "*/*")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        anyhow::ensure!(response.status().is_success(), "status {}", response.status());
        response.into_body().collect().await?;
        anyhow::Ok(())
    };
    // A complete response wins over an error at close, as it does in the probe.
    tokio::select! {
        biased;
        done = exchange => done,
        closed = connection => { closed?; anyhow::bail!("closed before the response was complete") }
    }
}

/// A plain rustls client: the chain is checked against one root, nothing is resumed.
fn connector(ca_file: &Path) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file).map_err(|error| anyhow::anyhow!("{}: {error}", ca_file.display()))?)?;
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}
