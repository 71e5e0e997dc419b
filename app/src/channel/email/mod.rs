//! E-mail: one message by SMTP to a server that takes mail for its recipients, such as a provider's submission port.
//!
//! The way there is ours, as for everything that leaves this node: our resolver, our sockets, our TLS with the roots of the system
//! or of `ca_file`. Credentials never travel in the clear, except to this very machine. Every message about one incident
//! is in one thread, and a repetition has the same Message-ID, by which mail programs recognise it.

mod letter;
mod post;
mod smtp;

pub use post::{Mailer, Post, Unposted, WhyUnposted, post_address};

use super::common::Style;
use super::{Accepted, Channel, ChannelKind, Delivery, MASK, Refused};
use crate::config::decode::{self, Fields, Key, Node, Problems};
use crate::config::tagged::Kind;
use crate::net::Net;
use crate::net::tls::{LazySettings, TlsOptions};
use async_trait::async_trait;
use lettre::message::Mailbox;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A message has at most so many recipients. More belongs into a mailing list, and servers refuse more than about a hundred.
const RECIPIENTS_MAX: usize = 50;

/// Keys of `email:`.
pub const KEYS: &[Key] = &[
    Key { name: "host", form: "a host name or address", default: "", doc: "The SMTP server." },
    Key {
        name: "port",
        form: "a whole number from 1 to 65535",
        default: "",
        doc: "Its port; 587 with starttls, 465 with implicit, 25 with none.",
    },
    Key {
        name: "tls",
        form: "starttls, implicit or none",
        default: "starttls",
        doc: "How the connection is encrypted; starttls never goes on without it.",
    },
    Key { name: "username", form: "a text", default: "", doc: "Who sends; empty for servers that ask nobody." },
    Key { name: "password", form: "a text", default: "", doc: "The password of that name." },
    Key { name: "password_file", form: "a path", default: "", doc: "A file that holds the password." },
    Key { name: "from", form: "an address such as Watchkeeper <alerts@example.org>", default: "", doc: "The sender." },
    Key { name: "to", form: "an address, or a list of up to 50", default: "", doc: "The recipients." },
    Key { name: "ca_file", form: "a path", default: "", doc: "PEM file with the only roots to trust, in place of the system's." },
];

/// The line of the list of kinds.
pub const KIND: Kind<ChannelKind> = Kind {
    name: "email",
    doc: "E-mail by an SMTP server, with TLS and authentication.",
    keys: KEYS,
    sections: &[],
    examples: &[("host", "smtp.example.org"), ("from", "Watchkeeper <alerts@example.org>"), ("to", "[ops@example.org]")],
    address: &["host", "port", "tls"],
    decode: |node, problems| Config::decode(node, problems).map(ChannelKind::Email),
};

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    /// After a plain greeting (RFC 3207); without it nothing is sent.
    Starttls,
    /// From the first byte (RFC 8314).
    Implicit,
    /// Not at all.
    None,
}

const ENCRYPTIONS: [(&str, Encryption); 3] =
    [("starttls", Encryption::Starttls), ("implicit", Encryption::Implicit), ("none", Encryption::None)];

impl Encryption {
    const fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

/// A mail server, a sender and recipients as configured.
#[derive(Clone, Debug)]
pub struct Config {
    host: String,
    port: u16,
    encryption: Encryption,
    credentials: Option<(String, SecretString)>,
    from: Mailbox,
    to: Vec<Mailbox>,
    ca_file: Option<PathBuf>,
}

impl Config {
    /// Decodes the section; `None` after a problem was added.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        const ADDRESS: &str = "an address such as ops@example.org or Ops <ops@example.org>";
        let before = problems.told();
        let fields = Fields::open(node, KEYS, problems)?;
        let host = fields.require("host", problems).and_then(|n| decode::parsed(n, "a host name or address", problems, parse_host));
        let encryption = fields.get("tls").map_or(Some(Encryption::Starttls), |n| decode::one_of(n, &ENCRYPTIONS, problems));
        let port = fields.get("port").map_or(Some(None), |n| decode::integer(n, 1..=65_535, problems).map(Some));
        let from = fields.require("from", problems).and_then(|n| decode::parsed(n, ADDRESS, problems, parse_mailbox));
        let to = fields.require("to", problems).and_then(|n| {
            let all = decode::list(n, problems, |item, problems| decode::parsed(item, ADDRESS, problems, parse_mailbox))?;
            let some = (1..=RECIPIENTS_MAX).contains(&all.len());
            if !some {
                problems.add(&n.at, format!("{} recipients", all.len()), format!("1 to {RECIPIENTS_MAX}"));
            }
            some.then_some(all)
        });
        let ca_file = fields.get("ca_file").and_then(|n| decode::text(n, problems).map(|path| decode::beside(&n.at, &path)));
        let credentials = decode_credentials(&fields, problems);
        let (host, encryption, port, from, to) = (host?, encryption?, port?, from?, to?);
        let clear = encryption == Encryption::None;
        if clear && credentials.is_some() && !is_here(&host) {
            let accepted = "`tls: starttls` or `tls: implicit`; `none` with a password only to this machine".to_owned();
            problems.add(fields.place("tls"), "a password that would travel in the clear", accepted);
        }
        if clear && ca_file.is_some() {
            problems.add(fields.place("ca_file"), "`ca_file` without TLS", "`tls: starttls` or `tls: implicit` beside it".to_owned());
        }
        let port = port.and_then(|p| u16::try_from(p).ok()).unwrap_or(encryption.port());
        (problems.told() == before).then_some(Self { host, port, encryption, credentials, from, to, ca_file })
    }

    /// One lease and budget per server.
    pub fn budget_key(&self) -> String {
        format!("email/{}", self.host)
    }

    /// With or without secrets, in one fixed order.
    pub fn canonical(&self, secrets: bool) -> Value {
        let tls = ENCRYPTIONS.iter().find(|(_, e)| *e == self.encryption).map(|(word, _)| *word);
        json!({
            "host": self.host,
            "port": self.port,
            "tls": tls,
            "username": self.credentials.as_ref().map(|(name, _)| name.as_str()),
            "password": self.credentials.as_ref().map(|(_, password)| if secrets { password.expose_secret() } else { MASK }),
            "from": self.from.to_string(),
            "to": self.to.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ca_file": self.ca_file.as_ref().map(|path| path.display().to_string()),
        })
    }
}

/// Both or neither.
fn decode_credentials(fields: &Fields<'_>, problems: &mut Problems) -> Option<(String, SecretString)> {
    let username = fields.get("username").and_then(|n| decode::text(n, problems)).filter(|name| !name.is_empty());
    let before = problems.told();
    let password = decode::secret(fields, "password", "password_file", problems);
    match (username, password) {
        (Some(username), Some(password)) => Some((username, password)),
        (None, None) => None,
        (Some(_), None) => {
            if problems.told() == before {
                problems.add(fields.place("username"), "`username` without `password`", "both or neither".to_owned());
            }
            None
        }
        (None, Some(_)) => {
            problems.add(fields.at, "`password` without `username`", "both or neither".to_owned());
            None
        }
    }
}

fn parse_host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    let good = bare.parse::<IpAddr>().is_ok() || (!bare.is_empty() && bare.len() <= 253 && bare.chars().all(name));
    good.then(|| bare.to_owned())
}

/// Control characters would end the header that they stand in.
fn parse_mailbox(text: &str) -> Option<Mailbox> {
    if text.chars().any(char::is_control) {
        return None;
    }
    // Servers without SMTPUTF8 (RFC 6531) refuse other addresses, and most are without.
    text.parse::<Mailbox>().ok().filter(|mailbox| mailbox.email.to_string().is_ascii())
}

/// Whether a host is this very machine.
fn is_here(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A mail server, ready to be told.
pub struct Email {
    config: Config,
    style: Style,
    tls: LazySettings,
}

impl Email {
    /// A server, a sender and recipients as configured.
    pub fn new(config: Config, style: Style) -> Self {
        let tls = LazySettings::new(TlsOptions { ca_file: config.ca_file.clone(), ..TlsOptions::default() });
        Self { config, style, tls }
    }
}

#[async_trait]
impl Channel for Email {
    async fn deliver(&self, net: &Arc<Net>, delivery: &Delivery) -> Result<Accepted, Refused> {
        let letter = letter::letter(&self.config, self.style, delivery)?;
        let deadline = delivery.deadline;
        match tokio::time::timeout_at(deadline.into(), smtp::send(&self.config, &self.tls, net, &letter, &self.config.to, deadline)).await {
            Ok(sent) => sent.map(|()| Accepted { provider_id: Some(letter.id) }).map_err(|failed| failed.refused),
            Err(_elapsed) => Err(smtp::too_late(&self.config)),
        }
    }
}
