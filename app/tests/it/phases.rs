//! Phases against a server that delays each of them by a known amount: each phase is at least what was injected into it,
//! nothing of it appears in another, and all of them together are the whole. How exact they are is measured on an idle
//! machine by `./prove phases`; here only one-sided bounds hold on any machine.

use crate::support::servers::{Deaf, Identity, NameServer, Say, Server, drain, read_head};
use crate::support::zoo::{PLENTY, SCARCE, attempt, net, net_asking};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use watchkeeper::probe::{Attempt, Hop};
use watchkeeper_core::{Outcome, Reason};

const DNS: Duration = Duration::from_millis(60);
const ACCEPT: Duration = Duration::from_millis(120);
const HELLO: Duration = Duration::from_millis(70);
const FIRST_BYTE: Duration = Duration::from_millis(80);
const BODY: Duration = Duration::from_millis(90);

/// A pause that begins when the attempt, which runs in the same thread, has taken what was sent to it: otherwise a busy machine would
/// count some of the pause to the phase before it.
async fn pause(pause: Duration) {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(pause).await;
}

/// Answers after a pause, and ends its body after another one. Paths count down to `/0`; the others redirect.
async fn slowly(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let head = read_head(&mut stream).await;
    let left: u32 = head.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).unwrap_or(0);
    pause(FIRST_BYTE).await;
    let status = if left == 0 { "200 OK".to_owned() } else { format!("302 Found\r\nLocation: /{}", left - 1) };
    let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nbe").as_bytes()).await;
    let _ = stream.flush().await;
    pause(BODY).await;
    let _ = stream.write_all(b"en").await;
    let _ = stream.flush().await;
    drain(&mut stream).await;
}

async fn slow_tls_server(identity: &Identity) -> Server {
    let acceptor = identity.acceptor.clone();
    Server::tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            pause(HELLO).await;
            if let Ok(stream) = acceptor.accept(stream).await {
                slowly(stream).await;
            }
        }
    })
    .await
}

fn at_least(us: u64, injected: Duration, hop: &Hop) {
    assert!(u128::from(us) >= injected.as_micros(), "{us} µs, but {injected:?} were injected: {hop:?}");
}

#[tokio::test]
async fn every_phase_holds_what_was_injected_over_redirects() {
    let identity = Identity::new(&["shop.test"], &[]);
    let server = slow_tls_server(&identity).await;
    let names = NameServer::start(Say::Addresses(vec![Ipv4Addr::LOCALHOST]), DNS).await;
    let url = format!("https://shop.test:{}/2", server.address.port());
    let yaml = format!("http: {{ url: \"{url}\", ca_file: {} }}", identity.ca_path());
    let Attempt { outcome, hops, http, .. } = attempt(&yaml, &net_asking(&[names.address]), PLENTY).await;
    assert_eq!(outcome, Outcome::Up);
    assert_eq!(hops.iter().map(|h| h.status).collect::<Vec<_>>(), [Some(302), Some(302), Some(200)]);
    assert_eq!(http.unwrap().body_bytes, 4);
    for hop in &hops {
        at_least(hop.dns_us, DNS, hop);
        at_least(hop.tls_us, HELLO, hop);
        at_least(hop.first_byte_us, FIRST_BYTE, hop);
        at_least(hop.transfer_us, BODY, hop);
    }
}

/// The queue of the listener is full until the accept: the kernel drops the SYN and the client's own kernel sends it again.
#[tokio::test]
async fn a_late_accept_is_the_connect_phase() {
    let deaf = Deaf::start();
    let url = format!("http://{}/0", deaf.address);
    let server = tokio::spawn(async move {
        tokio::time::sleep(ACCEPT).await;
        let listener = deaf.hear();
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(slowly(stream));
        }
    });
    let attempt = attempt(&format!("http: {{ url: \"{url}\" }}"), &net(), PLENTY).await;
    server.abort();
    assert_eq!(attempt.outcome, Outcome::Up, "{attempt:?}");
    let hop = &attempt.hops[0];
    at_least(hop.connect_us, ACCEPT, hop);
    at_least(hop.first_byte_us, FIRST_BYTE, hop);
    at_least(hop.transfer_us, BODY, hop);
    assert_eq!((hop.dns_us, hop.tls_us), (0, 0), "phases that did not happen: {hop:?}");
}

/// An attempt that ends in a phase has that phase's time until then, and those of all phases before it.
#[tokio::test]
async fn an_attempt_that_fails_half_way_keeps_what_was_measured() {
    let identity = Identity::new(&["shop.test"], &[]);
    let acceptor = identity.acceptor.clone();
    let names = NameServer::start(Say::Addresses(vec![Ipv4Addr::LOCALHOST]), DNS).await;
    let net = net_asking(&[names.address]);
    // By the path: hangs before the hello is impossible to ask for, so that a server of its own does that.
    let mute = Server::tcp(|mut stream| async move { drain(&mut stream).await }).await;
    let broken = Server::tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            pause(HELLO).await;
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let head = read_head(&mut stream).await;
            if head.starts_with("GET /hang ") {
                drain(&mut stream).await;
            }
            pause(FIRST_BYTE).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbe").await;
            let _ = stream.flush().await;
            if head.starts_with("GET /stall ") {
                drain(&mut stream).await;
            }
            pause(BODY).await;
        }
    })
    .await;
    let at = |server: &Server, path: &str| {
        let port = server.address.port();
        format!("http: {{ url: \"https://shop.test:{port}{path}\", ca_file: {} }}", identity.ca_path())
    };

    let hello = attempt(&at(&mute, "/"), &net, SCARCE).await;
    assert_eq!(hello.outcome, Outcome::Down(Reason::TlsTimeout), "{hello:?}");
    let hop = &hello.hops[0];
    at_least(hop.dns_us, DNS, hop);
    assert!(hop.tls_us > hello.total_us / 2, "{hello:?}");
    assert_eq!((hop.first_byte_us, hop.transfer_us), (0, 0), "{hop:?}");

    let hang = attempt(&at(&broken, "/hang"), &net, SCARCE).await;
    assert_eq!(hang.outcome, Outcome::Down(Reason::HttpFirstByteTimeout), "{hang:?}");
    let hop = &hang.hops[0];
    at_least(hop.dns_us, DNS, hop);
    at_least(hop.tls_us, HELLO, hop);
    assert!(hop.first_byte_us > FIRST_BYTE.as_micros() as u64 && hop.transfer_us == 0, "{hop:?}");

    let stall = attempt(&at(&broken, "/stall"), &net, SCARCE).await;
    assert_eq!(stall.outcome, Outcome::Down(Reason::HttpBodyTimeout), "{stall:?}");
    let hop = &stall.hops[0];
    at_least(hop.tls_us, HELLO, hop);
    at_least(hop.first_byte_us, FIRST_BYTE, hop);
    assert!(hop.transfer_us > 0, "{hop:?}");

    let closed = attempt(&at(&broken, "/close"), &net, PLENTY).await;
    assert_eq!(closed.outcome, Outcome::Down(Reason::HttpClosed), "{closed:?}");
    let hop = &closed.hops[0];
    at_least(hop.first_byte_us, FIRST_BYTE, hop);
    at_least(hop.transfer_us, BODY, hop);
}
