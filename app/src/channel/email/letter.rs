//! What a message looks like as an e-mail (RFC 5322), pure.

use super::Config;
use crate::channel::text::text;
use crate::channel::{Delivery, Refused, RefusedClass, Retry, Style, answer};
use lettre::Message;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime};

/// The most characters of a Message-ID that is taken for one. RFC 5322 ends a line at 998; less would refuse what other versions made.
const ID_MAX: usize = 250;

/// A message, ready to be sent.
pub(super) struct Letter {
    /// With its angle brackets.
    pub(super) id: String,
    /// Headers, an empty line, the body.
    pub(super) bytes: Vec<u8>,
}

/// The message. Names and error texts in it come from outside: lines are made without control characters, and headers encoded
/// where they are not plain ASCII, so that nothing in them can become a header of its own.
pub(super) fn letter(config: &Config, style: Style, delivery: &Delivery) -> Result<Letter, Refused> {
    let told = text(&delivery.content, style, delivery.now);
    let id = message_id(&delivery.key, config.from.email.domain());
    let since_1970 = Duration::from_micros(u64::try_from(delivery.now.0).unwrap_or_default());
    // That nobody wrote it keeps holiday notes from answering it (RFC 3834 section 5).
    let automatic = HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned());
    let mut builder = Message::builder()
        .from(config.from.clone())
        .subject(told.title())
        .date(SystemTime::UNIX_EPOCH + since_1970)
        .message_id(Some(id.clone()))
        .raw_header(automatic)
        .header(ContentType::TEXT_PLAIN);
    for to in &config.to {
        builder = builder.to(to.clone());
    }
    if let Some(first) = delivery.thread.as_deref().filter(|first| is_id(first) && **first != *id) {
        builder = builder.in_reply_to(first.to_owned()).references(first.to_owned());
    }
    let message = builder.body(told.plain() + "\n");
    let message =
        message.map_err(|error| answer::refused(RefusedClass::Client, Retry::Never, format!("no e-mail can be made of it: {error}")))?;
    Ok(Letter { id, bytes: message.formatted() })
}

/// The same for every attempt of one notice.
pub(super) fn message_id(key: &str, domain: &str) -> String {
    let hex = crate::hex(&Sha256::digest(key.as_bytes())[..16]);
    format!("<{hex}@{domain}>")
}

/// What was stored may be from another kind of channel that had this one's name.
fn is_id(text: &str) -> bool {
    text.len() <= ID_MAX && text.starts_with('<') && text.ends_with('>') && text.contains('@') && text.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::super::{Encryption, parse_mailbox};
    use super::*;
    use crate::channel::content::{Content, Message as Word};
    use crate::channel::sample;
    use std::time::Instant;

    fn config() -> Config {
        Config {
            host: "smtp.example.org".to_owned(),
            port: 587,
            encryption: Encryption::Starttls,
            credentials: None,
            from: parse_mailbox("Watchkeeper <alerts@example.org>").unwrap(),
            to: vec![parse_mailbox("ops@example.org").unwrap(), parse_mailbox("Ночь <night@example.org>").unwrap()],
            ca_file: None,
        }
    }

    fn made(content: Content, thread: Option<&str>) -> String {
        let thread = thread.map(str::to_owned);
        let delivery = Delivery { content, key: "incident/x/1/1".to_owned(), deadline: Instant::now(), now: sample::NOW, thread };
        String::from_utf8(letter(&config(), Style::default(), &delivery).unwrap().bytes).unwrap()
    }

    #[test]
    fn the_message_stays_as_it_is() {
        insta::assert_snapshot!("opened", made(Content::Incident(sample::opened()), None).replace('\r', ""));
        let answer = made(Content::Incident(sample::resolved()), Some("<0123@example.org>"));
        assert!(answer.contains("In-Reply-To: <0123@example.org>\r\nReferences: <0123@example.org>\r\n"), "{answer}");
        assert!(!made(Content::Incident(sample::resolved()), Some("1000")).contains("References"), "another kind's id");
    }

    #[test]
    fn nothing_from_outside_becomes_a_header() {
        for evil in ["a\r\nBcc: thief@example.org", "a\nBcc: thief@example.org", "a\r\n\r\nbody", "я\r\nBcc: thief@example.org"] {
            let message = Word { monitor: evil.to_owned(), ..sample::opened() };
            let made = made(Content::Incident(message), Some("<a@b>\r\nBcc: thief@example.org"));
            let (head, _) = made.split_once("\r\n\r\n").unwrap();
            assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
            assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
        }
        for bad in ["a@b\r\nBcc: c@d", "nobody", "", "я@example.org", "a@"] {
            assert!(parse_mailbox(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_repetition_has_the_same_id() {
        assert_eq!(message_id("k", "example.org"), message_id("k", "example.org"));
        assert_ne!(message_id("k", "example.org"), message_id("l", "example.org"));
        assert!(is_id(&message_id("k", "example.org")));
    }
}
