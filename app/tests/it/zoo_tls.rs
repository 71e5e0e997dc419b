//! Every fault that TLS can show, made on local sockets and named rightly 20 times out of 20; and healthy servers, which are Up.

use crate::support::pki::{Authority, FUTURE, GOOD, Identity, PAST, file, self_signed};
use crate::support::probing::{
    LONGER, PATIENT, SHORT, always_down, always_unknown, always_up, attempt, config, nobody, probe, serve, serve_tls, shake,
};
use sqlx::{Connection as _, Executor as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watchkeeper_core::{Blind, Outcome, Reason};

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const ONLY_12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
const HERE: &[&str] = &["127.0.0.1", "localhost"];

fn section(address: std::net::SocketAddr, more: &str) -> String {
    format!("tls: {{ address: \"{address}\"{more} }}")
}

fn trusting(file: &Path) -> String {
    format!(", ca_file: \"{}\"", file.display())
}

/// A server that shows `identity`, looked at by a monitor that trusts `root`.
async fn shown(identity: &Identity, root: &Authority) -> (String, tempfile::NamedTempFile) {
    let root = root.file();
    (section(serve_tls(identity.server(BOTH)).await, &trusting(root.path())), root)
}

/// A server that waits for the first bytes of the client, then does this.
async fn after_hello<F, Fut>(then: F) -> String
where
    F: Fn(TcpStream) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let address = serve(move |mut stream| {
        let then = then.clone();
        async move {
            let _ = stream.read(&mut [0; 4_096]).await;
            then(stream).await;
        }
    })
    .await;
    section(address, "")
}

async fn answering(bytes: &'static [u8]) -> String {
    after_hello(move |mut stream| async move {
        let _ = stream.write_all(bytes).await;
        // Stays open: the answer alone must tell.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

#[tokio::test]
async fn a_healthy_server_is_up_and_its_whole_chain_is_told() {
    let root = Authority::root("root");
    let identity = root.below("middle", (2020, 2050)).issue(HERE, GOOD);
    let (section, _file) = shown(&identity, &root).await;
    let attempt = always_up(&section).await;
    let facts = attempt.certificate.unwrap();
    assert!(facts.valid);
    assert_eq!(facts.protocol.as_deref(), Some("TLSv1.3"));
    assert!(facts.cipher.unwrap().starts_with("TLS13_AES_"));
    assert_eq!(facts.chain.len(), 2);
    assert_eq!(facts.chain[0].names, ["127.0.0.1", "localhost"]);
    assert!(facts.chain[0].subject.contains("CN=leaf"), "{}", facts.chain[0].subject);
    assert!(facts.chain[0].issuer.contains("CN=middle"), "{}", facts.chain[0].issuer);
    assert_eq!(facts.chain[0].sha256.len(), 64);
    assert!(facts.chain[0].days_left > facts.chain[1].days_left);
    assert_eq!(facts.days_left, facts.chain[1].days_left, "the first to expire counts");
    assert_eq!(facts.not_after, facts.chain[1].not_after);
    let hop = &attempt.hops[0];
    assert!(hop.tls_us > 0 && hop.connect_us > 0 && hop.first_byte_us == 0, "{hop:?}");
}

#[tokio::test]
async fn tls_1_2_alone_is_up_unless_1_3_is_asked_for() {
    let root = Authority::root("root");
    let address = serve_tls(root.issue(HERE, GOOD).server(ONLY_12)).await;
    let root = root.file();
    let attempt = always_up(&section(address, &trusting(root.path()))).await;
    assert_eq!(attempt.certificate.unwrap().protocol.as_deref(), Some("TLSv1.2"));
    let strict = section(address, &format!("{}, min_tls_version: \"1.3\"", trusting(root.path())));
    always_down(&strict, PATIENT, Reason::TlsProtocolTooOld).await;
}

#[tokio::test]
async fn an_expired_certificate_is_named_and_its_days_are_negative() {
    let root = Authority::root("root");
    let (section, _file) = shown(&root.issue(HERE, PAST), &root).await;
    let attempt = always_down(&section, PATIENT, Reason::TlsExpired).await;
    let facts = attempt.certificate.unwrap();
    assert!(!facts.valid && facts.days_left < -365, "{facts:?}");
    assert!(attempt.error.unwrap().contains("expired at 2021-01-01"));
}

#[tokio::test]
async fn an_expired_authority_in_the_chain_is_expired_too() {
    let root = Authority::root("root");
    let (section, _file) = shown(&root.below("middle", PAST).issue(HERE, GOOD), &root).await;
    let attempt = always_down(&section, PATIENT, Reason::TlsExpired).await;
    assert!(attempt.error.as_ref().unwrap().contains("CN=middle"), "{attempt:?}");
    assert!(attempt.certificate.unwrap().days_left < 0);
}

#[tokio::test]
async fn a_certificate_of_the_future_is_not_yet_valid() {
    let root = Authority::root("root");
    let (section, _file) = shown(&root.issue(HERE, FUTURE), &root).await;
    let attempt = always_down(&section, PATIENT, Reason::TlsNotYetValid).await;
    assert!(attempt.certificate.unwrap().days_left > 365);
}

#[tokio::test]
async fn self_signed_is_named_in_both_of_its_forms() {
    for as_ca in [false, true] {
        let (identity, _) = self_signed(HERE, GOOD, as_ca);
        let (section, _file) = shown(&identity, &Authority::root("another")).await;
        let attempt = always_down(&section, PATIENT, Reason::TlsSelfSigned).await;
        assert_eq!(attempt.certificate.unwrap().chain.len(), 1);
    }
}

#[tokio::test]
async fn a_self_signed_certificate_that_is_trusted_by_file_is_up() {
    for as_ca in [false, true] {
        let (identity, own) = self_signed(HERE, GOOD, as_ca);
        let address = serve_tls(identity.server(BOTH)).await;
        assert!(always_up(&section(address, &trusting(own.path()))).await.certificate.unwrap().valid);
    }
}

#[tokio::test]
async fn trust_by_file_excuses_neither_dates_nor_names() {
    let (identity, own) = self_signed(HERE, PAST, true);
    let address = serve_tls(identity.server(BOTH)).await;
    always_down(&section(address, &trusting(own.path())), PATIENT, Reason::TlsExpired).await;
    let (identity, own) = self_signed(&["shop.example.org"], GOOD, true);
    let address = serve_tls(identity.server(BOTH)).await;
    always_down(&section(address, &trusting(own.path())), PATIENT, Reason::TlsWrongHost).await;
}

#[tokio::test]
async fn a_certificate_for_another_host_is_named_with_both_names() {
    let root = Authority::root("root");
    let (section, _file) = shown(&root.issue(&["shop.example.org"], GOOD), &root).await;
    let error = always_down(&section, PATIENT, Reason::TlsWrongHost).await.error.unwrap();
    assert!(error.contains("shop.example.org") && error.contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn server_name_overrides_the_host_of_the_address() {
    let root = Authority::root("root");
    let address = serve_tls(root.issue(&["*.example.org"], GOOD).server(BOTH)).await;
    let file = root.file();
    always_up(&section(address, &format!("{}, server_name: shop.example.org", trusting(file.path())))).await;
    let other = section(address, &format!("{}, server_name: shop.example.net", trusting(file.path())));
    always_down(&other, PATIENT, Reason::TlsWrongHost).await;
}

#[tokio::test]
async fn an_unknown_issuer_is_not_called_self_signed() {
    let (section, _file) = shown(&Authority::root("stranger").issue(HERE, GOOD), &Authority::root("root")).await;
    let error = always_down(&section, PATIENT, Reason::TlsUnknownIssuer).await.error.unwrap();
    assert!(error.contains("CN=stranger"), "{error}");
}

#[tokio::test]
async fn a_certificate_for_clients_is_a_bad_one() {
    let root = Authority::root("root");
    let (section, _file) = shown(&root.issue_for_client(HERE), &root).await;
    always_down(&section, PATIENT, Reason::TlsBadCertificate).await;
}

#[tokio::test]
async fn a_refused_handshake_tells_its_alert() {
    let section = answering(&[21, 3, 3, 0, 2, 2, 40]).await;
    let error = always_down(&section, PATIENT, Reason::TlsRefused).await.error.unwrap();
    assert!(error.contains("handshake_failure"), "{error}");
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_refuses_until_it_gets_one() {
    let root = Authority::root("root");
    let address = serve_tls(root.issue(HERE, GOOD).server_wanting(&root)).await;
    let file = root.file();
    always_down(&section(address, &trusting(file.path())), PATIENT, Reason::TlsRefused).await;
    let (_dir, cert, key) = root.issue_for_client(&["probe"]).files();
    let with = format!("{}, cert_file: \"{}\", key_file: \"{}\"", trusting(file.path()), cert.display(), key.display());
    always_up(&section(address, &with)).await;
}

/// A ServerHello of TLS 1.1 that chooses TLS_RSA_WITH_AES_128_CBC_SHA, in its record.
const OLD_HELLO: &[u8] = &[
    22, 3, 2, 0, 42, // record: handshake, TLS 1.1, length
    2, 0, 0, 38, 3, 2, // ServerHello, length, TLS 1.1
    1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, // randomness
    0, 0, 0x2f, 0, // no session id, the cipher suite, no compression
];

#[tokio::test]
async fn a_protocol_that_is_too_old_is_named_however_the_server_says_it() {
    // As OpenSSL: the alert protocol_version.
    always_down(&answering(&[21, 3, 1, 0, 2, 2, 70]).await, PATIENT, Reason::TlsProtocolTooOld).await;
    // As servers that know nothing newer.
    always_down(&answering(OLD_HELLO).await, PATIENT, Reason::TlsProtocolTooOld).await;
}

#[tokio::test]
async fn what_is_not_tls_is_told_from_what_is() {
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"220 mail.example.org ESMTP\r\n", b"\0\0\0\0\0\0\0\0"] {
        always_down(&answering(bytes).await, PATIENT, Reason::TlsNotTls).await;
    }
    // Too short for a record, and then the end.
    let short = after_hello(|mut stream| async move {
        let _ = stream.write_all(b"no\n").await;
    })
    .await;
    always_down(&short, PATIENT, Reason::TlsNotTls).await;
    // A record of TLS with nonsense in it.
    always_down(&answering(&[22, 3, 3, 0, 4, 99, 0, 0, 0]).await, PATIENT, Reason::TlsNotTls).await;
}

#[tokio::test]
async fn a_hang_in_the_handshake_is_a_time_out_of_tls() {
    let silent = answering(b"").await;
    let attempt = always_down(&silent, SHORT, Reason::TlsTimeout).await;
    assert!(u128::from(attempt.hops[0].tls_us) > SHORT.as_micros() / 2, "{attempt:?}");
    // Half of a record.
    always_down(&answering(&[22, 3, 3, 1, 0, 2]).await, SHORT, Reason::TlsTimeout).await;
    // Plain text that never ends is still plain text.
    always_down(&answering(b"SSH").await, LONGER, Reason::TlsNotTls).await;
}

#[tokio::test]
async fn a_connection_that_ends_in_the_handshake_is_closed_or_reset() {
    let closed = after_hello(|_| async {}).await;
    always_down(&closed, PATIENT, Reason::TcpClosed).await;
    let reset = after_hello(|stream| async move {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    always_down(&reset, PATIENT, Reason::TcpReset).await;
    always_down(&section(nobody().await, ""), PATIENT, Reason::TcpRefused).await;
}

#[tokio::test]
async fn without_verification_a_bad_certificate_is_up_but_said_to_be_bad() {
    let (identity, _) = self_signed(&["elsewhere"], PAST, true);
    let address = serve_tls(identity.server(BOTH)).await;
    let facts = always_up(&section(address, ", insecure_skip_verify: true")).await.certificate.unwrap();
    assert!(!facts.valid && facts.days_left < 0, "{facts:?}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_our_own_fault_and_are_tried_again() {
    let root = Authority::root("root");
    let address = serve_tls(root.issue(HERE, GOOD).server(BOTH)).await;
    let missing = section(address, ", ca_file: /nonexistent/ca.pem");
    let error = always_unknown(&missing, PATIENT, Blind::Setup).await.error.unwrap();
    assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    let empty = file("no certificate here");
    always_unknown(&section(address, &trusting(empty.path())), PATIENT, Blind::Setup).await;
    // The file comes later: the same probe then works.
    let dir = tempfile::tempdir().unwrap();
    let late = dir.path().join("ca.pem");
    let probe = probe(&section(address, &trusting(&late)));
    assert_eq!(attempt(probe.as_ref(), PATIENT).await.outcome.why(), Some("setup"));
    std::fs::copy(root.file().path(), &late).unwrap();
    assert_eq!(attempt(probe.as_ref(), PATIENT).await.outcome.word(), "up");
}

#[test]
fn a_wrong_section_names_its_place_and_what_is_accepted() {
    for (section, wanted) in [
        ("tls: { address: mail.example.org }", "test.yaml:1:17: found `mail.example.org`; accepted: host:port"),
        ("tls: { address: 'a:1', starttls: pop3 }", "found `pop3`; accepted: smtp, imap, postgres"),
        ("tls: { address: 'a:1', min_tls_version: '1.1' }", "found `1.1`; accepted: 1.2, 1.3"),
        ("tls: { address: 'a:1', cert_file: c.pem }", "needs both `cert_file` and `key_file`"),
        ("tls: { address: 'a:1', server_name: 'a b' }", "found `a b`; accepted: a host name or an address"),
        ("tls: { adress: 'a:1' }", "did you mean `address`?"),
    ] {
        let problems = config(section).map(|_| ()).unwrap_err();
        assert!(problems.contains(wanted), "{section}\n{problems}");
    }
}

/// A server that follows a script before TLS: what it says, after each line of the client's.
async fn scripted(script: &'static [&'static str], identity: &Identity) -> std::net::SocketAddr {
    let config = identity.server(BOTH);
    serve(move |mut stream| {
        let config = Arc::clone(&config);
        async move {
            for (index, line) in script.iter().enumerate() {
                // The first line is a greeting; PostgreSQL's client begins.
                if (index > 0 || *line == "S") && stream.read(&mut [0; 512]).await.unwrap_or(0) == 0 {
                    return;
                }
                if stream.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
            shake(stream, config).await;
        }
    })
    .await
}

#[tokio::test]
async fn starttls_leads_to_the_certificate() {
    let root = Authority::root("root");
    let (identity, file) = (root.issue(HERE, GOOD), root.file());
    let talks: [(&str, &[&str]); 3] = [
        ("smtp", &["220-mail\r\n220 ready\r\n", "250-mail\r\n250-PIPELINING\r\n250 starttls\r\n", "220 go ahead\r\n"]),
        ("imap", &["* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n", "* CAPABILITY x\r\nwk1 OK begin\r\n"]),
        ("postgres", &["S"]),
    ];
    for (kind, script) in talks {
        let address = scripted(script, &identity).await;
        let attempt = always_up(&section(address, &format!("{}, starttls: {kind}", trusting(file.path())))).await;
        assert_eq!(attempt.certificate.unwrap().chain.len(), 1, "{kind}");
    }
}

#[tokio::test]
async fn starttls_that_is_not_offered_refused_or_unclean_is_named() {
    let identity = Authority::root("root").issue(HERE, GOOD);
    let talks: [(&str, &[&str]); 9] = [
        ("smtp", &["554 go away\r\n"]),
        ("smtp", &["220 ready\r\n", "250-mail\r\n250 PIPELINING\r\n"]),
        ("smtp", &["220 ready\r\n", "250 STARTTLS\r\n", "454 not now\r\n"]),
        ("smtp", &["220 ready\r\n", "250 STARTTLS\r\n", "220 go\r\n250 injected\r\n"]),
        ("smtp", &["HTTP/1.1 400 Bad Request\r\n"]),
        ("imap", &["* BYE\r\n"]),
        ("imap", &["* OK ready\r\n", "wk1 BAD unknown\r\n"]),
        ("postgres", &["", "N"]),
        ("postgres", &["", "E"]),
    ];
    for (kind, script) in talks {
        let address = scripted(script, &identity).await;
        always_down(&section(address, &format!(", starttls: {kind}")), PATIENT, Reason::StarttlsRefused).await;
    }
}

#[tokio::test]
async fn silence_and_hanging_up_before_starttls_have_their_own_names() {
    let silent = serve(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let gone = serve(|_| async {}).await;
    for kind in ["smtp", "imap", "postgres"] {
        let attempt = always_down(&section(silent, &format!(", starttls: {kind}")), SHORT, Reason::TcpReadTimeout).await;
        assert!(attempt.hops[0].tls_us > 0, "the talk belongs to the TLS phase: {attempt:?}");
    }
    for kind in ["smtp", "imap"] {
        always_down(&section(gone, &format!(", starttls: {kind}")), PATIENT, Reason::TcpClosed).await;
    }
}

/// The same server without and with TLS: other tests' connections to it may meet either, and take both.
#[tokio::test]
async fn a_real_postgresql_is_heard_with_tls_and_without() {
    let Some(database) = crate::support::postgres::empty_database().await else { return };
    let url = url::Url::parse(&database.url).unwrap();
    let root = Authority::root("root");
    let (identity, file) = (root.issue(HERE, GOOD), root.file());
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let section = format!("tls: {{ address: \"{address}\", starttls: postgres{} }}", trusting(file.path()));
    let error = always_down(&section, PATIENT, Reason::StarttlsRefused).await.error.unwrap();
    assert!(error.contains("has no TLS"), "{error}");
    let (_dir, cert, key) = identity.files();
    let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
    let mut run = async |sql: String| connection.execute(sqlx::AssertSqlSafe(sql)).await.map(drop).unwrap();
    for (name, from) in [("probe.crt", cert), ("probe.key", key)] {
        // Written by the server itself: the key must be its own and nobody else's to read.
        let pem = std::fs::read_to_string(from).unwrap();
        let lines = pem.lines().map(|line| format!("('{line}')")).collect::<Vec<_>>().join(",");
        run(format!("COPY (SELECT * FROM (VALUES {lines}) AS pem) TO PROGRAM 'umask 077 && cat > {name}'")).await;
    }
    run("ALTER SYSTEM SET ssl_cert_file = 'probe.crt'".to_owned()).await;
    run("ALTER SYSTEM SET ssl_key_file = 'probe.key'".to_owned()).await;
    run("ALTER SYSTEM SET ssl = on".to_owned()).await;
    run("SELECT pg_reload_conf()".to_owned()).await;
    let probe = probe(&section);
    let started = std::time::Instant::now();
    while attempt(probe.as_ref(), PATIENT).await.outcome != Outcome::Up {
        assert!(started.elapsed() < PATIENT, "{:?}", attempt(probe.as_ref(), PATIENT).await);
    }
    let facts = always_up(&section).await.certificate.unwrap();
    run("ALTER SYSTEM RESET ssl".to_owned()).await;
    run("SELECT pg_reload_conf()".to_owned()).await;
    assert!(facts.valid && facts.chain[0].names == HERE, "{facts:?}");
    database.drop_it().await;
}
