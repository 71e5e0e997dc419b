//! E-mail: against a real server with TLS and authentication, and against scripted ones for what real ones do rarely.

use crate::support::pki::{Authority, GOOD};
use crate::support::smtp::{MailServer, PASSWORD, Scripted, USER};
use crate::support::telling::{attempt, built, delivery, no_secret, one, problems, tell, tell_of, tell_within, word};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use watchkeeper::channel::content::Content;
use watchkeeper::channel::{self, Common, Message, RefusedClass, Retry, Style};
use watchkeeper::clock::Clock;
use watchkeeper::net::Net;
use watchkeeper_core::verdict::NoticeEvent;

/// A mailbox at a server with TLS.
fn yaml(port: u16, tls: &str, ca: &std::path::Path, password: &str, to: &str) -> String {
    format!(
        r#"{{ name: mail, email: {{ host: 127.0.0.1, port: {port}, tls: {tls}, ca_file: "{}", username: {USER}, password: "{password}", from: "Watchkeeper <alerts@example.org>", to: {to} }} }}"#,
        ca.display()
    )
}

/// A mailbox at a server that asks for nothing.
fn plain(port: u16, to: &str) -> String {
    format!("{{ name: mail, email: {{ host: 127.0.0.1, port: {port}, tls: none, from: alerts@example.org, to: {to} }} }}")
}

/// What a header says, its folded lines joined.
fn header(message: &str, name: &str) -> Option<String> {
    let head = message.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
    head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
}

#[tokio::test]
async fn mail_is_sent_over_starttls_with_a_password_and_stays_in_its_thread() {
    let authority = Authority::root("mail");
    let Some(mut server) = MailServer::start("starttls", &authority.issue(&["127.0.0.1"], GOOD)).await else { return };
    let ca = authority.file();
    let channel = built(&yaml(server.port, "starttls", ca.path(), PASSWORD, "[ops@example.org, Night <night@example.org>]"));
    let first = tell(&*channel).await.expect("taken").provider_id.expect("mail has ids");
    let taken = server.taken().await;
    assert_eq!((&taken["encrypted"], &taken["user"], &taken["from"]), (&true.into(), &USER.into(), &"alerts@example.org".into()));
    assert_eq!(taken["to"], serde_json::json!(["ops@example.org", "night@example.org"]));
    let message = taken["message"].as_str().unwrap();
    assert_eq!(header(message, "Message-ID").as_ref(), Some(&first));
    assert_eq!(header(message, "Auto-Submitted").as_deref(), Some("auto-generated"));
    assert_eq!(header(message, "Date").as_deref(), Some("Sun, 22 Nov 2026 03:12:10 +0000"));
    assert_eq!(header(message, "References"), None);
    // The same again, as after a crash, has the same id; the end answers the beginning.
    assert_eq!(tell(&*channel).await.expect("taken").provider_id.as_ref(), Some(&first));
    assert_eq!(header(server.taken().await["message"].as_str().unwrap(), "Message-ID").as_ref(), Some(&first));
    let mut end = delivery(Content::Incident(word(NoticeEvent::Resolved)), Some(&first), Duration::from_secs(10));
    end.key = "incident/x/resolved/1/1".to_owned();
    attempt(&*channel, end).await.expect("taken");
    let taken = server.taken().await;
    let message = taken["message"].as_str().unwrap();
    assert_eq!(header(message, "In-Reply-To").as_ref(), Some(&first));
    assert_eq!(header(message, "References").as_ref(), Some(&first));
}

#[tokio::test]
async fn mail_is_sent_over_tls_from_the_first_byte() {
    let authority = Authority::root("mail");
    let Some(mut server) = MailServer::start("implicit", &authority.issue(&["127.0.0.1"], GOOD)).await else { return };
    let ca = authority.file();
    tell(&*built(&yaml(server.port, "implicit", ca.path(), PASSWORD, "ops@example.org"))).await.expect("taken");
    assert_eq!(server.taken().await["user"], USER);
}

#[tokio::test]
async fn nothing_from_outside_becomes_a_header_or_ends_the_message() {
    let authority = Authority::root("mail");
    let Some(mut server) = MailServer::start("none", &authority.issue(&["127.0.0.1"], GOOD)).await else { return };
    let channel = built(&plain(server.port, "ops@example.org"));
    for evil in ["a\r\nBcc: thief@example.org\r\n\r\nx", "я\r\nBcc: thief@example.org", &"long ".repeat(200)] {
        let message =
            Message { monitor: evil.to_owned(), target: ".\r\n.\r\nRCPT TO:<thief@example.org>".to_owned(), ..word(NoticeEvent::Opened) };
        attempt(&*channel, delivery(Content::Incident(message), None, Duration::from_secs(10))).await.expect("taken");
        let taken = server.taken().await;
        assert_eq!(taken["to"], serde_json::json!(["ops@example.org"]));
        let message = taken["message"].as_str().unwrap();
        assert_eq!(header(message, "Bcc"), None, "{message}");
        assert!(message.lines().all(|line| line.len() <= 998), "RFC 5322 ends a line there");
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() {
    let authority = Authority::root("mail");
    let Some(server) = MailServer::start("starttls", &authority.issue(&["127.0.0.1"], GOOD)).await else { return };
    let ca = authority.file();
    let refused = tell(&*built(&yaml(server.port, "starttls", ca.path(), "hunter2-but-wrong", "ops@example.org"))).await;
    let refused = refused.expect_err("535");
    assert_eq!((refused.class, refused.retry), (RefusedClass::Auth, Retry::Never), "{}", refused.text);
    assert!(refused.text.contains("the password") && refused.text.contains("***"), "{}", refused.text);
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_cannot_prove_itself() {
    let (authority, other) = (Authority::root("mail"), Authority::root("other"));
    let Some(server) = MailServer::start("starttls", &authority.issue(&["127.0.0.1"], GOOD)).await else { return };
    let ca = other.file();
    let refused = tell(&*built(&yaml(server.port, "starttls", ca.path(), PASSWORD, "ops@example.org"))).await.expect_err("a stranger");
    assert_eq!((refused.class, refused.retry), (RefusedClass::Network, Retry::Soon), "{}", refused.text);
    // Nor to one that offers no TLS at all: it is never gone on without.
    let scripted = Scripted::start(vec![Some("220 mail.test".to_owned()), Some("250 mail.test".to_owned())]).await;
    let refused = tell(&*built(&yaml(scripted.port, "starttls", ca.path(), PASSWORD, "ops@example.org"))).await.expect_err("no TLS");
    assert!(refused.text.contains("STARTTLS"), "{}", refused.text);
    let heard = scripted.heard().await;
    assert!(heard.iter().all(|line| !line.starts_with("AUTH") && !line.starts_with("MAIL")), "{heard:?}");
}

#[tokio::test]
async fn whoever_can_be_told_is_told() {
    let authority = Authority::root("mail");
    let Some(mut server) = MailServer::start("none", &authority.issue(&["127.0.0.1"], GOOD)).await else { return };
    let port = server.port;
    let to = |to: &'static str| async move { tell(&*built(&plain(port, to))).await };
    to("[refuse-550@example.org, ops@example.org, refuse-451@example.org]").await.expect("one of them took it");
    assert_eq!(server.taken().await["to"], serde_json::json!(["ops@example.org"]));
    for (recipients, class, retry) in [
        ("refuse-550@example.org", RefusedClass::Client, Retry::Never),
        ("refuse-451@example.org", RefusedClass::Server, Retry::Soon),
        ("[refuse-550@example.org, refuse-451@example.org]", RefusedClass::Server, Retry::Soon),
        ("[refuse-550@example.org, refuse-553@example.org]", RefusedClass::Client, Retry::Never),
    ] {
        let refused = to(recipients).await.expect_err(recipients);
        assert_eq!((refused.class, refused.retry), (class, retry), "{recipients}: {}", refused.text);
    }
}

#[tokio::test]
async fn every_answer_means_what_it_should() {
    /// How far the conversation goes well: greeting, EHLO, MAIL, RCPT, DATA, the message.
    const GOOD: [&str; 6] = ["220 mail.test", "250 mail.test", "250 ok", "250 ok", "354 go on", "250 queued"];
    for step in 0..GOOD.len() {
        for (status, class, retry) in [
            ("421 4.3.2 later", RefusedClass::Server, Retry::Soon),
            ("450 4.2.1 busy", RefusedClass::Server, Retry::Soon),
            ("500 5.5.1 what", RefusedClass::Client, Retry::Never),
            ("554 5.7.1 no", RefusedClass::Client, Retry::Never),
            ("nonsense", RefusedClass::Server, Retry::Soon),
        ] {
            let mut replies: Vec<Option<String>> = GOOD[..step].iter().map(|reply| Some((*reply).to_owned())).collect();
            replies.push(Some(status.to_owned()));
            let server = Scripted::start(replies).await;
            let refused = tell(&*built(&plain(server.port, "ops@example.org"))).await.expect_err(status);
            assert_eq!((refused.class, refused.retry), (class, retry), "{status} at step {step}: {}", refused.text);
            assert!(refused.text.starts_with("127.0.0.1:"), "{}", refused.text);
        }
    }
    // Taken is taken, whatever becomes of the good-bye.
    let server = Scripted::start(GOOD.iter().map(|reply| Some((*reply).to_owned())).collect()).await;
    assert!(tell(&*built(&plain(server.port, "ops@example.org"))).await.is_ok());
    assert_eq!(server.heard().await.last().map(String::as_str), Some("QUIT"));
}

#[tokio::test]
async fn silence_and_closed_doors_are_tried_again() {
    for so_far in [vec![], vec!["220 mail.test"], vec!["220 mail.test", "250 mail.test", "250 ok", "250 ok", "354 go on"]] {
        let mut replies: Vec<Option<String>> = so_far.iter().map(|reply| Some((*reply).to_owned())).collect();
        replies.push(None);
        let server = Scripted::start(replies).await;
        let refused = tell_within(&*built(&plain(server.port, "ops@example.org")), Duration::from_millis(300)).await.expect_err("silence");
        assert_eq!((refused.class, refused.retry), (RefusedClass::Timeout, Retry::Soon), "{}", refused.text);
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = tell(&*built(&plain(closed, "ops@example.org"))).await.expect_err("nobody listens");
    assert_eq!((refused.class, refused.retry), (RefusedClass::Network, Retry::Soon), "{}", refused.text);
    // A server that hangs up has said nothing.
    let server = Scripted::start(vec![]).await;
    let refused = tell(&*built(&plain(server.port, "ops@example.org"))).await.expect_err("it hung up");
    assert_eq!(refused.retry, Retry::Soon, "{}", refused.text);
}

#[tokio::test]
async fn a_test_message_and_every_word_are_taken() {
    let authority = Authority::root("mail");
    let Some(mut server) = MailServer::start("none", &authority.issue(&["127.0.0.1"], GOOD)).await else { return };
    let clock = Clock::system();
    let net = Arc::new(Net::system(clock.clone()));
    let kind = one(&plain(server.port, "ops@example.org"));
    channel::send_test(&net, &clock, "mail", &kind, Style::default()).await.expect("it works");
    assert!(header(server.taken().await["message"].as_str().unwrap(), "Subject").is_some());
    let channel = kind.build("mail", Style::default());
    for event in NoticeEvent::ALL {
        tell_of(&*channel, event, Some("<1@example.org>")).await.expect("taken");
        server.taken().await;
    }
}

#[test]
fn nothing_shown_or_stored_holds_the_password_but_the_hash_sees_it() {
    let with = |password: &str| one(&yaml(587, "starttls", "ca.pem".as_ref(), password, "ops@example.org"));
    let (kind, common) = (with(PASSWORD), Common::default());
    no_secret(&format!("{kind:?} {} {}", kind.canonical(&common), kind.budget_key()));
    assert_ne!(kind.hash(&common), with("another").hash(&common));
    assert_eq!(kind.budget_key(), "email/127.0.0.1");
}

#[test]
fn bad_mailboxes_are_told() {
    for (keys, told) in [
        ("host: mail.example.org, to: ops@example.org", "`from` is missing"),
        ("host: mail.example.org, from: a@example.org", "`to` is missing"),
        ("host: mail.example.org, from: nobody, to: ops@example.org", "an address such as"),
        ("host: mail.example.org, from: a@example.org, to: []", "0 recipients"),
        (r#"host: mail.example.org, from: "a@example.org\nBcc: b@example.org", to: ops@example.org"#, "an address such as"),
        ("host: 'mail example', from: a@example.org, to: ops@example.org", "a host name or address"),
        ("host: mail.example.org, tls: ssl, from: a@example.org, to: ops@example.org", "starttls, implicit, none"),
        ("host: mail.example.org, username: a, from: a@example.org, to: ops@example.org", "`username` without `password`"),
        ("host: mail.example.org, password: hunter2, from: a@example.org, to: ops@example.org", "`password` without `username`"),
        (
            "host: mail.example.org, tls: none, username: a, password: hunter2, from: a@example.org, to: ops@example.org",
            "a password that would travel in the clear",
        ),
        ("host: mail.example.org, tls: none, ca_file: a.pem, from: a@example.org, to: ops@example.org", "`ca_file` without TLS"),
    ] {
        let found = problems(&format!("{{ name: a, email: {{ {keys} }} }}"));
        assert!(found.contains(told), "{keys}: {found}");
        no_secret(&found);
    }
    let here = "host: localhost, tls: none, username: a, password: x, from: a@example.org, to: ops@example.org";
    assert_eq!(problems(&format!("{{ name: a, email: {{ {here} }} }}")), "");
}

#[tokio::test]
async fn a_server_that_never_ends_a_line_is_given_up_before_it_fills_the_memory() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = built(&plain(listener.local_addr().unwrap().port(), "ops@example.org"));
    let flood = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"220-").await;
        let mut said = 0;
        // Far more than any buffer on the way holds.
        while said < 64 << 20 && stream.write_all(&[b'a'; 4_096]).await.is_ok() {
            said += 4_096;
        }
        said
    });
    let refused = tell(&*channel).await.expect_err("no server speaks so");
    assert!(refused.text.contains("larger than 65536 bytes"), "{}", refused.text);
    assert_eq!(refused.retry, Retry::Soon);
    assert!(flood.await.unwrap() < 64 << 20, "it was cut off");
}

#[tokio::test]
async fn a_server_that_quotes_what_it_was_given_shows_no_password() {
    use base64::Engine as _;
    let encode = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
    for quoted in [encode(&format!("\0{USER}\0{PASSWORD}")), encode(PASSWORD), PASSWORD.to_owned()] {
        let replies = ["220 mail.test", "250-mail.test\r\n250 AUTH PLAIN", &format!("535 5.7.8 bad AUTH {quoted}")];
        let server = Scripted::start(replies.map(|reply| Some(reply.to_owned())).into()).await;
        let yaml = format!(
            "{{ name: mail, email: {{ host: 127.0.0.1, port: {}, tls: none, username: {USER}, password: \"{PASSWORD}\", \
             from: alerts@example.org, to: ops@example.org }} }}",
            server.port
        );
        let refused = tell(&*built(&yaml)).await.expect_err("refused");
        assert!(refused.text.contains("bad AUTH") && !refused.text.contains(&quoted), "{}", refused.text);
    }
}
