//! A letter to one person who asked for it, by the server and sender of an e-mail channel.
//!
//! Apart from the channel itself, because it is told to no operator: its words come whole, and it says how not to get another (RFC 2369,
//! RFC 8058). The address is never in an error or a log.

use super::Config;
use super::letter::{Letter, message_id};
use super::smtp::{self, Step};
use crate::channel::{ATTEMPT_MAX, Refused, RefusedClass, Retry, answer};
use crate::net::Net;
use crate::net::tls::{LazySettings, TlsOptions};
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::{Address, Message};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use watchkeeper_core::Micros;

/// One letter.
#[derive(Clone, Debug)]
pub struct Post {
    /// To whom.
    pub to: Address,
    /// On one line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same for every attempt.
    pub key: String,
    /// Where a `POST` ends what it is sent for, if it does.
    pub leave: Option<String>,
    /// UTC now.
    pub at: Micros,
}

/// Why a letter was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unposted {
    /// What the server said, without the address.
    pub refused: Refused,
    /// What that means.
    pub why: WhyUnposted,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyUnposted {
    /// The server, or the way to it: no other letter would fare better now.
    Server,
    /// The address, which is no good, says the server.
    NoSuchAddress,
    /// The address, for now.
    NotNow,
    /// This letter.
    Letter,
}

/// An address as letters are sent to it, if that is one: without a name, plain ASCII, at most 254 characters (RFC 5321 section 4.5.3.1.3 leaves
/// so many within its brackets). The domain is in lower case, so that one mailbox is one address.
pub fn post_address(text: &str) -> Option<Address> {
    let text = text.trim();
    if text.len() > ADDRESS_MAX || !text.is_ascii() || text.chars().any(|c| c.is_ascii_control() || c.is_ascii_whitespace()) {
        return None;
    }
    let address: Address = text.parse().ok()?;
    // A name without a dot is a host of somebody's own network; quoted names and literal addresses are nobody's mailbox today.
    let named = address.domain().contains('.') && !address.domain().starts_with('[') && !address.user().starts_with('"');
    named.then(|| Address::new(address.user(), address.domain().to_ascii_lowercase()).ok()).flatten()
}

/// See [`post_address`].
const ADDRESS_MAX: usize = 254;

/// The server and the sender of an e-mail channel.
pub struct Mailer {
    config: Config,
    tls: LazySettings,
}

impl Mailer {
    /// Of a channel as configured; its recipients are not written to.
    pub fn new(config: Config) -> Self {
        let tls = LazySettings::new(TlsOptions { ca_file: config.ca_file.clone(), ..TlsOptions::default() });
        Self { config, tls }
    }

    /// One attempt to hand a letter over.
    pub async fn post(&self, net: &Arc<Net>, post: &Post) -> Result<(), Unposted> {
        let letter = self.envelope(post).map_err(|refused| Unposted { refused, why: WhyUnposted::Letter })?;
        let to = [Mailbox::new(None, post.to.clone())];
        let deadline = Instant::now() + ATTEMPT_MAX.to_std();
        let failed = match tokio::time::timeout_at(deadline.into(), smtp::send(&self.config, &self.tls, net, &letter, &to, deadline)).await
        {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failed)) => failed,
            Err(_elapsed) => smtp::Failed { step: None, refused: smtp::too_late(&self.config) },
        };
        let for_good = failed.refused.retry == Retry::Never;
        let why = match failed.step {
            Some(Step::Recipient) if for_good => WhyUnposted::NoSuchAddress,
            Some(Step::Recipient) => WhyUnposted::NotNow,
            Some(Step::Message) if for_good => WhyUnposted::Letter,
            Some(Step::Greeting | Step::Auth | Step::Sender | Step::Message) | None => WhyUnposted::Server,
        };
        // Servers quote the address that they refuse.
        let mut refused = failed.refused;
        refused.text = without(&refused.text, &post.to);
        Err(Unposted { refused, why })
    }

    fn envelope(&self, post: &Post) -> Result<Letter, Refused> {
        let id = message_id(&post.key, self.config.from.email.domain());
        let since_1970 = Duration::from_micros(u64::try_from(post.at.0).unwrap_or_default());
        let raw = |name: &'static str, value: String| HeaderValue::new(HeaderName::new_from_ascii_str(name), value);
        let mut builder = Message::builder()
            .from(self.config.from.clone())
            .to(Mailbox::new(None, post.to.clone()))
            .subject(post.subject.clone())
            .date(SystemTime::UNIX_EPOCH + since_1970)
            .message_id(Some(id.clone()))
            .raw_header(raw("Auto-Submitted", "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN);
        if let Some(leave) = &post.leave {
            builder = builder
                .raw_header(raw("List-Unsubscribe", format!("<{leave}>")))
                .raw_header(raw("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".to_owned()));
        }
        let message = builder.body(post.text.clone() + "\n");
        let message = message
            .map_err(|error| answer::refused(RefusedClass::Client, Retry::Never, format!("no letter can be made of it: {error}")))?;
        Ok(Letter { id, bytes: message.formatted() })
    }
}

/// What a server said, without whom it was about; in any case of letters.
fn without(text: &str, address: &Address) -> String {
    let mut text = text.to_owned();
    for part in [address.to_string(), address.user().to_owned()] {
        // One letter stands in many words.
        if part.len() < 3 {
            continue;
        }
        let part = part.to_ascii_lowercase();
        while let Some(at) = text.to_ascii_lowercase().find(&part) {
            text.replace_range(at..at + part.len(), "…");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_mailbox_and_nothing_else() {
        assert_eq!(post_address(" Ann@Example.ORG ").unwrap().to_string(), "Ann@example.org");
        let long = format!("{}@example.org", "x".repeat(250));
        for bad in [
            "",
            "ann",
            "ann@",
            "@example.org",
            "ann@localhost",
            "Ann <ann@example.org>",
            "ann@example.org\r\nBcc: x@example.org",
            "a b@example.org",
            "ann@example.org,bob@example.org",
            "\"a b\"@example.org",
            "ann@[127.0.0.1]",
            "я@example.org",
            "ann@пример.рф",
            long.as_str(),
        ] {
            assert!(post_address(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn whom_a_server_refused_is_not_repeated() {
        let address = post_address("ann.lee@example.org").unwrap();
        assert_eq!(without("550 <Ann.Lee@Example.org>: ann.lee unknown", &address), "550 <…>: … unknown");
        let short = post_address("a@example.org").unwrap();
        assert_eq!(without("550 a@example.org: no such mailbox", &short), "550 …: no such mailbox");
    }
}
