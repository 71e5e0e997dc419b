//! A zoo of faults on local sockets: each must be named the same way, every time. Beside each stand healthy
//! servers of every unusual but correct kind, which must be up.

use crate::support::probing::ROUNDS;
use crate::support::servers::{Closed, Deaf, Identity, NameServer, Say, Server, drain, free_address, read_head, reset};
use crate::support::zoo::{PLENTY, SCARCE, always, attempt, attempt_guarded, net, net_asking};
use hickory_resolver::proto::op::ResponseCode;
use http_body_util::{BodyExt as _, Full};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use watchkeeper::net::Guard;
use watchkeeper_core::{Blind, Outcome, Reason};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(url: &str) -> String {
    format!("http: {{ url: \"{url}\" }}")
}

async fn named_by_resolver(say: Say, wanted: Reason) {
    let limit = if matches!(say, Say::Nothing) { SCARCE } else { PLENTY };
    let server = NameServer::start(say, Duration::ZERO).await;
    let attempts = always(&get("http://shop.test/"), &net_asking(&[server.address]), limit, Outcome::Down(wanted)).await;
    for attempt in attempts {
        assert_eq!(attempt.hops[0].connect_us + attempt.hops[0].first_byte_us, 0, "{attempt:?}");
    }
    assert!(server.asked() >= ROUNDS, "every attempt asks for itself");
}

#[tokio::test]
async fn nxdomain() {
    named_by_resolver(Say::Code(ResponseCode::NXDomain), Reason::DnsNxdomain).await;
}

#[tokio::test]
async fn servfail() {
    named_by_resolver(Say::Code(ResponseCode::ServFail), Reason::DnsServfail).await;
}

#[tokio::test]
async fn refused_by_the_name_server() {
    named_by_resolver(Say::Code(ResponseCode::Refused), Reason::DnsRefused).await;
}

#[tokio::test]
async fn another_response_code() {
    named_by_resolver(Say::Code(ResponseCode::NotImp), Reason::DnsUnexpectedRcode).await;
}

#[tokio::test]
async fn no_records() {
    named_by_resolver(Say::Addresses(vec![]), Reason::DnsNoAnswer).await;
}

#[tokio::test]
async fn silent_resolver() {
    named_by_resolver(Say::Nothing, Reason::DnsTimeout).await;
}

#[tokio::test]
async fn garbage_from_the_resolver() {
    named_by_resolver(Say::Garbage(vec![0x81, 0x80, 0, 1, 0, 9, 0xff, 0xff]), Reason::DnsMalformed).await;
}

#[tokio::test]
async fn no_resolver_is_our_own_fault() {
    always(&get("http://shop.test/"), &net(), PLENTY, Outcome::Unknown(Blind::NoResolver)).await;
}

#[tokio::test]
async fn a_second_name_server_helps_out() {
    let broken = NameServer::start(Say::Code(ResponseCode::ServFail), Duration::ZERO).await;
    let good = NameServer::start(Say::Addresses(vec![Ipv4Addr::LOCALHOST]), Duration::ZERO).await;
    let server = Server::http(OK).await;
    let url = format!("http://shop.test:{}/", server.address.port());
    always(&get(&url), &net_asking(&[free_address().await, broken.address, good.address]), PLENTY, Outcome::Up).await;
}

#[tokio::test]
async fn refused() {
    let closed = Closed::port();
    always(&get(&format!("http://{}/", closed.address)), &net(), PLENTY, Outcome::Down(Reason::TcpRefused)).await;
}

#[tokio::test]
async fn one_healthy_address_is_enough() {
    let server = Server::http(OK).await;
    let names = NameServer::start(Say::Addresses(vec![Ipv4Addr::new(127, 9, 9, 9), Ipv4Addr::LOCALHOST]), Duration::ZERO).await;
    let url = format!("http://shop.test:{}/", server.address.port());
    for attempt in always(&get(&url), &net_asking(&[names.address]), PLENTY, Outcome::Up).await {
        assert_eq!(attempt.hops[0].address.as_deref(), Some(server.address.to_string().as_str()));
    }
}

#[tokio::test]
async fn reset_before_the_response() {
    let server = Server::tcp(|mut stream| async move {
        read_head(&mut stream).await;
        reset(stream);
    })
    .await;
    always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::TcpReset)).await;
}

#[tokio::test]
async fn reset_within_the_body() {
    let server = Server::tcp(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin").await;
        // A reset throws away what the other side has not read yet; what is tested is the reset, so the head may be lost.
        tokio::time::sleep(Duration::from_millis(50)).await;
        reset(stream);
    })
    .await;
    always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::TcpReset)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silently_dropped() {
    let deaf = Deaf::start();
    let attempts = always(&get(&format!("http://{}/", deaf.address)), &net(), SCARCE, Outcome::Down(Reason::TcpTimeout)).await;
    for attempt in attempts {
        assert!(u128::from(attempt.hops[0].connect_us) >= SCARCE.as_micros() * 9 / 10, "{attempt:?}");
    }
}

#[tokio::test]
async fn closed_before_the_response() {
    let server = Server::tcp(|mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::HttpClosed)).await;
}

#[tokio::test]
async fn closed_within_the_body() {
    let server = Server::http("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin").await;
    for attempt in always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::HttpClosed)).await {
        let http = attempt.http.unwrap();
        assert_eq!((http.status, http.body_bytes, http.body_head.as_deref()), (200, 5, Some("begin")));
    }
}

#[tokio::test]
async fn closed_within_a_chunk() {
    let server = Server::http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nbegin").await;
    always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::HttpClosed)).await;
}

#[tokio::test]
async fn hangs_before_the_first_byte() {
    let server = Server::tcp(|mut stream| async move { drain(&mut stream).await }).await;
    for attempt in always(&get(&server.url("/")), &net(), SCARCE, Outcome::Down(Reason::HttpFirstByteTimeout)).await {
        assert!(attempt.hops[0].first_byte_us > attempt.total_us / 2, "{attempt:?}");
    }
}

#[tokio::test]
async fn trickling_body() {
    let server = Server::tcp(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await;
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for attempt in always(&get(&server.url("/")), &net(), SCARCE, Outcome::Down(Reason::HttpBodyTimeout)).await {
        assert!(attempt.hops[0].transfer_us > attempt.total_us / 2, "{attempt:?}");
    }
}

#[tokio::test]
async fn trickling_head() {
    let server = Server::tcp(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ").await;
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    always(&get(&server.url("/")), &net(), SCARCE, Outcome::Down(Reason::HttpBodyTimeout)).await;
}

#[tokio::test]
async fn endless_body() {
    let server = Server::tcp(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'.'; 8192]).await.is_ok() {}
    })
    .await;
    let yaml = format!("http: {{ url: \"{}\", max_body: 256KiB }}", server.url("/"));
    for attempt in always(&yaml, &net(), PLENTY, Outcome::Down(Reason::HttpBodyTooLarge)).await {
        assert!(attempt.http.unwrap().body_bytes > 256 * 1024);
    }
}

#[tokio::test]
async fn a_body_announced_as_too_large_is_not_read() {
    let server = Server::http("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n").await;
    let yaml = format!("http: {{ url: \"{}\", max_body: 4KiB }}", server.url("/"));
    always(&yaml, &net(), PLENTY, Outcome::Down(Reason::HttpBodyTooLarge)).await;
}

#[tokio::test]
async fn endless_head() {
    let server = Server::tcp(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ").await;
        while stream.write_all(&[b'.'; 8192]).await.is_ok() {}
    })
    .await;
    always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::HttpMalformed)).await;
}

#[tokio::test]
async fn redirect_loop() {
    let server = Server::tcp(|mut stream| async move {
        let to = if read_head(&mut stream).await.starts_with("GET /a ") { "/b" } else { "/a" };
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
        drain(&mut stream).await;
    })
    .await;
    for attempt in always(&get(&server.url("/a")), &net(), PLENTY, Outcome::Down(Reason::HttpRedirectLoop)).await {
        assert_eq!(attempt.hops.len(), 2, "{attempt:?}");
    }
}

#[tokio::test]
async fn too_many_redirects() {
    let server = Server::tcp(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let n: u32 = head.split(['/', ' ']).nth(2).and_then(|n| n.parse().ok()).unwrap_or_default();
        let answer = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: /{}\r\nContent-Length: 0\r\n\r\n", n + 1);
        let _ = stream.write_all(answer.as_bytes()).await;
        drain(&mut stream).await;
    })
    .await;
    let yaml = format!("http: {{ url: \"{}\", max_redirects: 3 }}", server.url("/0"));
    for attempt in always(&yaml, &net(), PLENTY, Outcome::Down(Reason::HttpTooManyRedirects)).await {
        assert_eq!(attempt.hops.len(), 4, "{attempt:?}");
    }
}

#[tokio::test]
async fn redirects_that_lead_nowhere() {
    for location in ["ftp://host/", "http://", "mailto:nobody@nowhere.test"] {
        let server = Server::http(format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")).await;
        always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::HttpBadRedirect)).await;
    }
}

#[tokio::test]
async fn a_body_is_not_sent_to_another_origin() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counted = reached.clone();
    let other = Server::tcp(move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { drain(&mut stream).await }
    })
    .await;
    for status in [307, 308] {
        let answer = format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", other.url("/"));
        let server = Server::http(answer).await;
        let yaml = format!("http: {{ url: \"{}\", method: POST, body: s3cret }}", server.url("/"));
        always(&yaml, &net(), PLENTY, Outcome::Down(Reason::HttpBadRedirect)).await;
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn wrong_status() {
    for (status, yaml) in [(503, ""), (404, ""), (200, ", expect: { status: 204 }"), (302, ", max_redirects: 0")] {
        let server = Server::http(format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 4\r\nLocation: /\r\n\r\nbody")).await;
        let yaml = format!("http: {{ url: \"{}\"{yaml} }}", server.url("/"));
        for attempt in always(&yaml, &net(), PLENTY, Outcome::Down(Reason::HttpStatus)).await {
            assert_eq!(attempt.hops[0].status, Some(status));
            assert_eq!(attempt.http.unwrap().body_head.as_deref(), Some("body"), "a failure keeps its evidence");
        }
    }
}

#[tokio::test]
async fn what_was_expected_is_missing() {
    let body = r#"{"state":"degraded","queues":[{"name":"in","depth":7}]}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let server = Server::http(head + body).await;
    for (expect, wanted) in [
        ("body_contains: fine", Reason::HttpTextMissing),
        ("body_contains: [degraded, fine]", Reason::HttpTextMissing),
        ("body_not_contains: degraded", Reason::HttpTextPresent),
        (r#"body_matches: "depth.:\\s*\\d{2}""#, Reason::HttpPatternMissing),
        (r#"json: { "$.state": ok }"#, Reason::HttpJson),
        (r#"json: { "$.queues[0].depth": "7" }"#, Reason::HttpJson),
        (r#"json: { "$.queues[1].depth": 7 }"#, Reason::HttpJson),
        ("headers: { Content-Type: text/html }", Reason::HttpHeader),
        ("headers: { X-None: /./ }", Reason::HttpHeader),
    ] {
        let yaml = format!("http: {{ url: \"{}\", expect: {{ {expect} }} }}", server.url("/"));
        always(&yaml, &net(), PLENTY, Outcome::Down(wanted)).await;
    }
    let all = r#"status: [2xx], body_contains: degraded, body_not_contains: fine, body_matches: "depth.:\\s*\\d",
        json: { "$.state": degraded, "$['queues'][0].depth": 7.0, "$.queues[0]": { name: in, depth: 7 } },
        headers: { content-type: application/json, Content-Type: "/^application/" }"#;
    let yaml = format!("http: {{ url: \"{}\", expect: {{ {all} }} }}", server.url("/"));
    always(&yaml, &net(), PLENTY, Outcome::Up).await;
}

#[tokio::test]
async fn many_headers_are_fine_and_too_many_are_named() {
    let head = |count: usize| {
        let headers = (0..count).map(|n| format!("X-{n}: y")).collect::<Vec<_>>().join("\r\n") + "\r\n";
        format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 0\r\n\r\n")
    };
    let server = Server::http(head(1_000)).await;
    always(&get(&server.url("/")), &net(), PLENTY, Outcome::Up).await;
    let server = Server::http(head(1_100)).await;
    for attempt in always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::HttpMalformed)).await {
        let error = attempt.error.unwrap_or_default();
        assert!(error.contains("more than 1024 headers"), "{error}");
    }
}

#[tokio::test]
async fn garbage_instead_of_http() {
    for garbage in
        ["SSH-2.0-OpenSSH_9.2\r\n", "+OK POP3 ready\r\n", "\0\u{1}\u{2}\u{3}\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"]
    {
        let server = Server::http(garbage).await;
        always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::HttpMalformed)).await;
    }
    let server = Server::http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await;
    always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::HttpMalformed)).await;
}

#[tokio::test]
async fn a_server_that_speaks_first_is_not_http() {
    let server = Server::tcp(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.test ESMTP\r\n").await;
        drain(&mut stream).await;
    })
    .await;
    always(&get(&server.url("/")), &net(), PLENTY, Outcome::Down(Reason::HttpMalformed)).await;
}

#[tokio::test]
async fn forbidden_addresses_are_not_connected_to() {
    let server = Server::http(OK).await;
    let names = NameServer::start(Say::Addresses(vec![Ipv4Addr::LOCALHOST]), Duration::ZERO).await;
    let net = net_asking(&[names.address]);
    for url in [server.url("/"), format!("http://shop.test:{}/", server.address.port())] {
        let refused = attempt_guarded(&get(&url), &net, PLENTY, Guard::PublicOnly).await;
        assert_eq!(refused.outcome, Outcome::Unknown(Blind::ForbiddenAddress), "{refused:?}");
        let allowed = attempt_guarded(&get(&url), &net, PLENTY, Guard::NoLinkLocal).await;
        assert_eq!(allowed.outcome, Outcome::Up, "{allowed:?}");
    }
    let metadata = Server::http("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n").await;
    let refused = attempt_guarded(&get(&metadata.url("/")), &net, PLENTY, Guard::NoLinkLocal).await;
    assert_eq!(refused.outcome, Outcome::Unknown(Blind::ForbiddenAddress), "{refused:?}");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn files_that_cannot_be_read_are_our_own_fault() {
    let server = Server::http(OK).await;
    for file in ["ca_file: /nowhere/ca.pem", "cert_file: /nowhere/a.pem, key_file: /nowhere/b.pem"] {
        let yaml = format!("http: {{ url: \"https://{}/\", {file} }}", server.address);
        always(&yaml, &net(), PLENTY, Outcome::Unknown(Blind::Setup)).await;
    }
}

#[tokio::test]
async fn healthy_http1_of_every_kind() {
    for answer in [
        OK,
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nTrailer: 1\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let server = Server::http(answer).await;
        always(&get(&server.url("/")), &net(), PLENTY, Outcome::Up).await;
    }
}

#[tokio::test]
async fn head_has_no_body_however_long_it_says_it_is() {
    let server = Server::http("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    let yaml = format!("http: {{ url: \"{}\", method: HEAD }}", server.url("/"));
    for attempt in always(&yaml, &net(), PLENTY, Outcome::Up).await {
        let http = attempt.http.unwrap();
        assert_eq!((http.content_length, http.body_bytes), (Some(1_000_000_000), 0));
    }
}

#[tokio::test]
async fn a_complete_response_wins_over_a_reset_behind_it() {
    let server = Server::tcp(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(OK.as_bytes()).await;
        // Waits for the reader, because a reset that overtakes the response is a reset.
        tokio::time::sleep(Duration::from_millis(50)).await;
        reset(stream);
    })
    .await;
    always(&get(&server.url("/")), &net(), PLENTY, Outcome::Up).await;
}

/// A server of hyper's that speaks HTTP/2 over TLS.
async fn http2_server(identity: &Identity) -> Server {
    let acceptor = identity.acceptor.clone();
    Server::tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(tls) = acceptor.accept(stream).await else { return };
            let answer = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let version = format!("{:?} {}", request.version(), request.uri());
                let _ = request.into_body().collect().await;
                Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(bytes::Bytes::from(version))))
            });
            let io = hyper_util::rt::TokioIo::new(tls);
            let _ = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new()).serve_connection(io, answer).await;
        }
    })
    .await
}

#[tokio::test]
async fn healthy_http2_over_tls() {
    let identity = Identity::new(&["shop.test"], &[b"h2"]);
    let server = http2_server(&identity).await;
    let port = server.address.port();
    for version in ["auto", "2"] {
        let yaml = format!(
            "http: {{ url: \"https://shop.test:{port}/x?y\", ca_file: {}, http_version: {version}, resolve: {{ shop.test: 127.0.0.1 }}, \
             expect: {{ body_contains: \"HTTP/2.0 https://shop.test:{port}/x?y\" }} }}",
            identity.ca_path()
        );
        for attempt in always(&yaml, &net(), PLENTY, Outcome::Up).await {
            assert_eq!(attempt.http.unwrap().version, "HTTP/2");
            assert!(attempt.certificate.unwrap().valid);
            assert!(attempt.hops[0].tls_us > 0);
        }
    }
}

#[tokio::test]
async fn a_server_without_http2_is_named_when_http2_is_wanted() {
    let identity = Identity::new(&["127.0.0.1"], &[]);
    let acceptor = identity.acceptor.clone();
    let server = Server::tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut tls) = acceptor.accept(stream).await else { return };
            read_head(&mut tls).await;
            let _ = tls.write_all(OK.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    })
    .await;
    let url = format!("https://{}/", server.address);
    let yaml = |version| format!("http: {{ url: \"{url}\", ca_file: {}, http_version: {version} }}", identity.ca_path());
    always(&yaml("2"), &net(), PLENTY, Outcome::Down(Reason::TlsRefused)).await;
    always(&yaml("auto"), &net(), PLENTY, Outcome::Up).await;
}

#[tokio::test]
async fn the_request_is_what_was_configured() {
    let (heard, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::tcp(move |mut stream| {
        let heard = heard.clone();
        async move {
            let _ = heard.send(read_head(&mut stream).await);
            let _ = stream.write_all(OK.as_bytes()).await;
            drain(&mut stream).await;
        }
    })
    .await;
    let yaml = format!(
        "http: {{ url: \"{}\", method: POST, body: hello, headers: {{ X-Team: sre, Host: other.test, User-Agent: me }}, \
         basic_auth: {{ username: u, password: \"p:q\" }} }}",
        server.url("/a%20b?c=d#e")
    );
    assert_eq!(attempt(&yaml, &net(), PLENTY).await.outcome, Outcome::Up);
    let head = requests.recv().await.unwrap().to_ascii_lowercase();
    for line in [
        "post /a%20b?c=d http/1.1\r\n",
        "\r\nx-team: sre\r\n",
        "\r\nhost: other.test\r\n",
        "\r\nuser-agent: me\r\n",
        "\r\nauthorization: basic dtpwonE=\r\n",
        "\r\ncontent-length: 5\r\n",
        "\r\nconnection: close\r\n",
    ] {
        assert!(head.contains(&line.to_ascii_lowercase()), "{line:?} in {head}");
    }
    assert_eq!(attempt(&get(&server.url("/")), &net(), PLENTY).await.outcome, Outcome::Up);
    let head = requests.recv().await.unwrap();
    assert!(head.contains(&format!("user-agent: Watchkeeper/{}\r\n", env!("CARGO_PKG_VERSION"))), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", server.address)), "{head}");
}

#[tokio::test]
async fn another_origin_gets_no_secrets_and_evidence_shows_none() {
    let (heard, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let other = Server::tcp(move |mut stream| {
        let heard = heard.clone();
        async move {
            let _ = heard.send(read_head(&mut stream).await);
            let _ = stream.write_all(b"HTTP/1.1 500 No\r\nSet-Cookie: s=hidden-cookie\r\nContent-Length: 0\r\n\r\n").await;
            drain(&mut stream).await;
        }
    })
    .await;
    let first =
        Server::http(format!("HTTP/1.1 303 See Other\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", other.url("/?token=hidden-query")))
            .await;
    let yaml = format!(
        "http: {{ url: \"{}\", method: POST, body: x, bearer_token: hidden-token, headers: {{ X-Api-Key: hidden-key, X-Team: sre }} }}",
        first.url("/")
    );
    let failed = attempt(&yaml, &net(), PLENTY).await;
    assert_eq!(failed.outcome, Outcome::Down(Reason::HttpStatus), "{failed:?}");
    let head = requests.recv().await.unwrap();
    assert!(head.starts_with("GET /?token=hidden-query ") && head.contains("x-team: sre"), "{head}");
    assert!(!head.contains("hidden-token") && !head.contains("hidden-key"), "{head}");
    let shown = format!("{failed:?}");
    assert!(!shown.contains("hidden"), "{shown}");
}

#[tokio::test]
async fn a_proxy_carries_both_schemes_and_its_refusal_is_named() {
    let identity = Identity::new(&["shop.test"], &[]);
    let acceptor = identity.acceptor.clone();
    let target = Server::tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut tls) = acceptor.accept(stream).await else { return };
            read_head(&mut tls).await;
            let _ = tls.write_all(OK.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    })
    .await;
    let there = target.address;
    let proxy = Server::tcp(move |mut stream| async move {
        let head = read_head(&mut stream).await;
        if !head.contains("roxy-authorization: Basic dTpw\r\n") && !head.contains("roxy-Authorization: Basic dTpw\r\n") {
            let _ = stream.write_all(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n").await;
        } else if head.starts_with("CONNECT shop.test:443 ") {
            let _ = stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await;
            let mut far = tokio::net::TcpStream::connect(there).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
        } else if head.starts_with("GET http://shop.test/x ") {
            let _ = stream.write_all(OK.as_bytes()).await;
        }
        drain(&mut stream).await;
    })
    .await;
    let through = |credentials: &str, url: &str| {
        format!("http: {{ url: \"{url}\", proxy: \"http://{credentials}{}\", ca_file: {} }}", proxy.address, identity.ca_path())
    };
    always(&through("u:p@", "https://shop.test/x"), &net(), PLENTY, Outcome::Up).await;
    always(&through("u:p@", "http://shop.test/x"), &net(), PLENTY, Outcome::Up).await;
    always(&through("", "https://shop.test/x"), &net(), PLENTY, Outcome::Down(Reason::HttpProxy)).await;
    always(&through("", "http://shop.test/x"), &net(), PLENTY, Outcome::Down(Reason::HttpProxy)).await;
    let closed = Closed::port();
    let nobody = format!("http: {{ url: \"http://shop.test/\", proxy: \"http://{}\" }}", closed.address);
    always(&nobody, &net(), PLENTY, Outcome::Down(Reason::HttpProxy)).await;
}
