//! The tcp probe against servers of the test's own.

use crate::support::pki::{Authority, GOOD, PAST};
use crate::support::probing::{
    LONGER, PATIENT, SHORT, always_down, always_unknown, always_up, attempt_guarded, config, nobody, probe, serve,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use watchkeeper::clock::Clock;
use watchkeeper::net::{Guard, Net};
use watchkeeper_core::{Blind, Outcome, Reason};

fn section(address: SocketAddr, more: &str) -> String {
    format!("tcp: {{ address: \"{address}\"{more} }}")
}

/// Greets, then answers each piece it reads with the same in capitals.
async fn echo_in_capitals(greeting: &'static str) -> SocketAddr {
    serve(move |mut stream| async move {
        let _ = stream.write_all(greeting.as_bytes()).await;
        let mut buffer = [0; 1_024];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            if stream.write_all(&buffer[..length].to_ascii_uppercase()).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_alone_is_up() {
    let attempt = always_up(&section(echo_in_capitals("").await, "")).await;
    let hop = &attempt.hops[0];
    assert!(hop.connect_us > 0 && hop.tls_us + hop.first_byte_us + hop.transfer_us == 0, "{hop:?}");
}

#[tokio::test]
async fn what_is_sent_and_expected_is_seen() {
    let server = echo_in_capitals("220 hello\r\n").await;
    for expectation in [
        "expect: { contains: hello }",
        "expect: { matches: '^220 ' }",
        "send: \"ping\\r\\n\", expect: { contains: \"PING\\r\\n\" }",
        "send: ping, expect: { matches: '(?s)^220.*PING$' }",
    ] {
        let attempt = always_up(&section(server, &format!(", {expectation}"))).await;
        assert!(attempt.hops[0].first_byte_us > 0, "{attempt:?}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_in_pieces_is_put_together() {
    let server = serve(|mut stream| async move {
        for byte in b"+OK ready" {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    always_up(&section(server, ", expect: { contains: \"OK ready\" }")).await;
}

#[tokio::test]
async fn another_answer_is_unexpected_and_is_shown() {
    let server = echo_in_capitals("421 busy\r\n").await;
    let error = always_down(&section(server, ", expect: { contains: \"220 \" }"), LONGER, Reason::TcpUnexpected).await.error.unwrap();
    assert!(error.contains("`421 busy\\r\\n`"), "{error}");
    let leaving = serve(|mut stream| async move {
        let _ = stream.write_all(b"421 busy\r\n").await;
    })
    .await;
    always_down(&section(leaving, ", expect: { contains: \"220 \" }"), PATIENT, Reason::TcpUnexpected).await;
}

#[tokio::test]
async fn an_endless_answer_ends() {
    let server = serve(|mut stream| async move { while stream.write_all(&[b'x'; 4_096]).await.is_ok() {} }).await;
    always_down(&section(server, ", expect: { contains: \"220 \" }"), PATIENT, Reason::TcpUnexpected).await;
}

#[tokio::test]
async fn silence_closing_reset_and_refusal_are_told_apart() {
    let expecting = ", send: ping, expect: { contains: pong }";
    let silent = serve(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let attempt = always_down(&section(silent, expecting), SHORT, Reason::TcpReadTimeout).await;
    assert!(u128::from(attempt.hops[0].first_byte_us) > SHORT.as_micros() / 2, "{attempt:?}");
    let closing = serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    always_down(&section(closing, expecting), PATIENT, Reason::TcpClosed).await;
    let resetting = serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 64]).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    always_down(&section(resetting, expecting), PATIENT, Reason::TcpReset).await;
    always_down(&section(nobody().await, ""), PATIENT, Reason::TcpRefused).await;
}

#[tokio::test]
async fn a_dropped_connection_request_is_a_time_out() {
    // A listener whose queue is full drops further requests without a word.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, tokio::net::TcpStream::connect(address)).await {
        held.push(stream);
        assert!(held.len() < 64, "the queue does not fill");
    }
    let attempt = always_down(&section(address, ""), SHORT, Reason::TcpTimeout).await;
    assert!(attempt.hops[0].connect_us > 0, "{attempt:?}");
}

#[tokio::test]
async fn tls_comes_before_the_talk() {
    let root = Authority::root("root");
    let config = root.issue(&["127.0.0.1"], GOOD).server(&[&rustls::version::TLS13]);
    let server = serve(move |stream| {
        let config = Arc::clone(&config);
        async move {
            let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await else { return };
            let _ = stream.write_all(b"* OK secret\r\n").await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    let file = root.file();
    let trusting = format!("tls: {{ ca_file: \"{}\" }}", file.path().display());
    let attempt = always_up(&section(server, &format!(", {trusting}, expect: {{ contains: secret }}"))).await;
    assert!(attempt.hops[0].tls_us > 0 && attempt.certificate.is_some_and(|c| c.valid && c.days_left > 0));
    always_down(&section(server, ", tls: true"), PATIENT, Reason::TlsUnknownIssuer).await;
    always_up(&section(server, ", tls: { insecure_skip_verify: true }")).await;
    always_down(&section(server, ", tls: false, expect: { contains: secret }"), SHORT, Reason::TcpReadTimeout).await;
}

#[tokio::test]
async fn an_expired_certificate_is_down_with_its_facts() {
    let root = Authority::root("root");
    let server = crate::support::probing::serve_tls(root.issue(&["127.0.0.1"], PAST).server(&[&rustls::version::TLS13])).await;
    let file = root.file();
    let section = section(server, &format!(", tls: {{ ca_file: \"{}\" }}", file.path().display()));
    assert!(always_down(&section, PATIENT, Reason::TlsExpired).await.certificate.unwrap().days_left < 0);
}

#[tokio::test]
async fn names_families_and_guards_are_obeyed() {
    let server = echo_in_capitals("").await;
    let by_name = format!("tcp: {{ address: \"localhost:{}\" }}", server.port());
    assert_eq!(always_up(&by_name).await.hops[0].address, Some(server.to_string()));
    always_down(&section(server, ", ip_version: 6"), PATIENT, Reason::DnsNoAnswer).await;
    let net = Arc::new(Net::system(Clock::system()));
    let attempt = attempt_guarded(&net, probe(&by_name).as_ref(), PATIENT, Guard::PublicOnly).await;
    assert_eq!(attempt.outcome, Outcome::Unknown(Blind::ForbiddenAddress));
    always_unknown(&section(server, ", tls: { ca_file: /nonexistent.pem }"), PATIENT, Blind::Setup).await;
}

#[test]
fn a_wrong_section_names_its_place_and_what_is_accepted() {
    for (section, wanted) in [
        ("tcp: {}", "`address` is missing; accepted: host:port"),
        ("tcp: { address: 'a:99999' }", "test.yaml:1:17: found `a:99999`; accepted: host:port"),
        ("tcp: { address: 'a:1', tls: maybe }", "found `maybe`; accepted: true or false"),
        ("tcp: { address: 'a:1', tls: { ca: x } }", "unknown key `ca`"),
        ("tcp: { address: 'a:1', expect: {} }", "either `contains` or `matches`"),
        ("tcp: { address: 'a:1', expect: { matches: '[' } }", "found `[`; accepted: a regular expression"),
        ("tcp: { address: 'a:1', ip_version: 5 }", "found `5`; accepted: any, 4, 6"),
    ] {
        let problems = config(section).map(|_| ()).unwrap_err();
        assert!(problems.contains(wanted), "{section}\n{problems}");
    }
}
