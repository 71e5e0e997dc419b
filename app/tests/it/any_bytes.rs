//! Whatever a server sends, an attempt ends in an outcome: it does not panic, and does not go on past its deadline.

use crate::support::servers::{NameServer, Say, Server, drain};
use crate::support::zoo::{attempt, net, net_asking};
use proptest::prelude::*;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use watchkeeper_core::Outcome;

/// What a server says: bytes of any kind, or nearly HTTP.
fn speech() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "HTTP/1.1 200 OK\r\n", "HTTP/1.0 302 Found\r\n", "HTTP/1.1 999 \r\n", "Content-Length: 5\r\n", "Content-Length: -1\r\n",
            "Content-Length: 99999999999999999999\r\n", "Transfer-Encoding: chunked\r\n", "Location: /\r\n", "Location: \u{e9}//\r\n",
            "Connection: keep-alive\r\n", "Upgrade: h2c\r\n", "\r\n", "\r\n\r\n", "5\r\nhello\r\n", "0\r\n\r\n", "ffffffffffffffff\r\n",
            "Content-Type: \u{0}\r\n", "HTTP/1.1 101 Switching Protocols\r\n", "HTTP/1.1 100 Continue\r\n\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

const LIMIT: Duration = Duration::from_millis(400);

/// Far beyond the deadline, for a machine that has no time for us.
const NEVER: Duration = Duration::from_secs(20);

fn run<F: Future<Output = ()>>(future: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_answer_ends_in_an_outcome(bytes in speech(), close: bool) {
        run(async move {
            let said = bytes.clone();
            let server = Server::tcp(move |mut stream| {
                let said = said.clone();
                async move {
                    let _ = stream.write_all(&said).await;
                    if close {
                        let _ = stream.shutdown().await;
                    }
                    drain(&mut stream).await;
                }
            })
            .await;
            let began = Instant::now();
            let yaml = format!("http: {{ url: \"{}\", max_body: 1KiB, expect: {{ json: {{ $.a: 1 }}, body_matches: \"^a\" }} }}", server.url("/"));
            let attempt = attempt(&yaml, &net(), LIMIT).await;
            assert!(matches!(attempt.outcome, Outcome::Down(_)), "{attempt:?}");
            assert!(began.elapsed() < NEVER, "{attempt:?}");
        });
    }

    #[test]
    fn any_answer_of_a_name_server_ends_in_an_outcome(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        run(async move {
            let names = NameServer::start(Say::Garbage(bytes), Duration::ZERO).await;
            let attempt = attempt("http: { url: \"http://shop.test/\" }", &net_asking(&[names.address]), LIMIT).await;
            assert!(matches!(attempt.outcome, Outcome::Down(_)), "{attempt:?}");
        });
    }
}
