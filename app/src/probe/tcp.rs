//! TCP: connect; optionally shake hands with TLS, send something, and wait for an expected answer.

use super::dial::{self, Endpoint, IP_VERSION, Laps, dial};
use super::tls::{OPTION_KEYS, options, server_name_of};
use super::{Attempt, Hop, Probe, ProbeConfig, ProbeContext};
use crate::config::decode::{Fields, Key, Node, Problems, Value, boolean, parsed, text};
use crate::config::tagged::Kind;
use crate::net::starttls::show;
use crate::net::tls::CertificateFacts;
use crate::net::tls::{LazySettings, TlsOptions, handshake, stream_fault};
use crate::net::{Family, Fault};
use async_trait::async_trait;
use regex::bytes::Regex;
use rustls::pki_types::ServerName;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use watchkeeper_core::Reason;

/// So much of an answer is read in search of what is expected. More lets a chattering server fill the memory until the deadline;
/// less misses what stands behind a long greeting.
const ANSWER_MAX: usize = 64 * 1024;

/// Keys of `tcp:`.
pub const KEYS: &[Key] = &[
    Key { name: "address", form: "host:port", default: "", doc: "Where to connect." },
    Key { name: "tls", form: "true, or a mapping", default: "false", doc: "Shake hands before anything is sent; see tls.*." },
    Key { name: "send", form: "a text", default: "", doc: "Sent once connected; \"PING\\r\\n\" in double quotes has a line end." },
    Key { name: "expect", form: "a mapping", default: "", doc: "What must come back; without it a connection is enough." },
    IP_VERSION,
];

/// Keys of `tcp: { expect: … }`.
pub const EXPECT_KEYS: &[Key] = &[
    Key { name: "contains", form: "a text", default: "", doc: "Must occur in the answer." },
    Key { name: "matches", form: "a regular expression", default: "", doc: "Must match the answer." },
];

/// The line of the list of kinds.
pub const KIND: Kind<ProbeConfig> = Kind {
    name: "tcp",
    doc: "A TCP connection, and what is said on it.",
    keys: KEYS,
    sections: &[("tls", OPTION_KEYS), ("expect", EXPECT_KEYS)],
    examples: &[("address", "127.0.0.1:5432")],
    address: &["address", "tls"],
    decode: |node, problems| Config::decode(node, problems).map(ProbeConfig::Tcp),
};

/// What `tcp:` says.
#[derive(Clone, Debug)]
pub struct Config {
    address: Endpoint,
    tls: Option<(TlsOptions, ServerName<'static>)>,
    send: Option<String>,
    expect: Option<Expect>,
    family: Family,
}

#[derive(Clone, Debug)]
enum Expect {
    Contains(String),
    Matches(Regex),
}

impl Config {
    /// Reads the section; `None` after a problem was noted.
    pub fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, KEYS, problems)?;
        let address = fields.require("address", problems).and_then(|n| Endpoint::decode(n, problems));
        let tls = match (fields.get("tls"), &address) {
            (Some(node), Some(address)) if wants_tls(node) => decode_tls(node, address, problems).map(Some),
            (Some(_) | None, _) => Some(None),
        };
        let send = match fields.get("send") {
            Some(node) => text(node, problems).map(Some),
            None => Some(None),
        };
        let expect = match fields.get("expect") {
            Some(node) => Expect::decode(node, problems).map(Some),
            None => Some(None),
        };
        let family = dial::ip_version(&fields, problems);
        Some(Self { address: address?, tls: tls?, send: send?, expect: expect?, family: family? })
    }

    /// What is watched.
    pub fn target(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Ready to attempt.
    pub fn build(&self) -> Box<dyn Probe> {
        let settings = self.tls.as_ref().map(|(options, _)| LazySettings::new(options.clone()));
        Box::new(TcpProbe { config: self.clone(), settings })
    }
}

/// `tls: false` is as good as no `tls:`.
fn wants_tls(node: &Node) -> bool {
    !matches!(&node.value, Value::Scalar { text, .. } if text == "false")
}

fn decode_tls(node: &Node, address: &Endpoint, problems: &mut Problems) -> Option<(TlsOptions, ServerName<'static>)> {
    let bare = Node { at: node.at.clone(), value: Value::Map(Vec::new()) };
    let section = match &node.value {
        Value::Scalar { .. } => boolean(node, problems).map(|_| &bare)?,
        Value::Map(_) | Value::Seq(_) | Value::Null | Value::Broken => node,
    };
    let fields = Fields::open(section, OPTION_KEYS, problems)?;
    let name = server_name_of(&fields, &address.host, problems);
    let options = options(&fields, &[], problems);
    Some((options?, name?))
}

impl Expect {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let fields = Fields::open(node, EXPECT_KEYS, problems)?;
        match (fields.get("contains"), fields.get("matches")) {
            (Some(node), None) => {
                parsed(node, "a text that is not empty", problems, |t| (!t.is_empty()).then(|| Self::Contains(t.to_owned())))
            }
            (None, Some(node)) => parsed(node, "a regular expression", problems, |t| Regex::new(t).ok().map(Self::Matches)),
            (Some(_), Some(_)) | (None, None) => {
                problems.add(fields.at, "`expect` has one condition", "either `contains` or `matches`".to_owned());
                None
            }
        }
    }

    fn met(&self, answer: &[u8]) -> bool {
        match self {
            Self::Contains(text) => answer.windows(text.len()).any(|w| w == text.as_bytes()),
            Self::Matches(regex) => regex.is_match(answer),
        }
    }
}

struct TcpProbe {
    config: Config,
    settings: Option<LazySettings>,
}

#[async_trait]
impl Probe for TcpProbe {
    async fn attempt(&self, cx: &ProbeContext) -> Attempt {
        let mut hop = Hop { url: self.config.target(), ..Hop::default() };
        let mut certificate = None;
        let fault = self.look(cx, &mut hop, &mut certificate).await.err();
        Attempt { certificate, ..dial::ended(hop, fault) }
    }
}

impl TcpProbe {
    async fn look(&self, cx: &ProbeContext, hop: &mut Hop, certificate: &mut Option<CertificateFacts>) -> Result<(), Fault> {
        let config = &self.config;
        let settings = self.settings.as_ref().map(|s| s.get(&cx.net.tls)).transpose()?;
        let mut laps = Laps::start();
        let mut stream = dial(cx, &config.address, config.family, hop, &mut laps).await?;
        let (Some(settings), Some((_, name))) = (settings, &config.tls) else {
            return config.converse(&mut stream, cx.deadline, hop, &mut laps).await;
        };
        let shaken = handshake(stream, name.clone(), &settings, cx.deadline).await;
        hop.tls_us = laps.lap();
        match shaken {
            Ok((mut stream, peer)) => {
                let talked = config.converse(&mut stream, cx.deadline, hop, &mut laps).await;
                *certificate = if cx.want_detail || talked.is_err() { peer.facts() } else { peer.brief() };
                talked
            }
            Err(failed) => {
                *certificate = failed.certificate;
                Err(failed.fault)
            }
        }
    }
}

impl Config {
    /// Sends and waits, if there is something to send or to wait for.
    async fn converse<S>(&self, stream: &mut S, deadline: Instant, hop: &mut Hop, laps: &mut Laps) -> Result<(), Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut conversation = Conversation { deadline, first_byte: None };
        let result = conversation.run(stream, self).await;
        match conversation.first_byte {
            Some(first_byte) => {
                hop.first_byte_us = laps.lap_at(first_byte);
                hop.transfer_us = laps.lap();
            }
            None if self.send.is_some() || self.expect.is_some() => hop.first_byte_us = laps.lap(),
            None => {}
        }
        result
    }
}

struct Conversation {
    deadline: Instant,
    first_byte: Option<Instant>,
}

impl Conversation {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S, config: &Config) -> Result<(), Fault> {
        if let Some(text) = &config.send {
            let write = async {
                stream.write_all(text.as_bytes()).await?;
                stream.flush().await
            };
            match tokio::time::timeout_at(self.deadline.into(), write).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(stream_fault(&error).unwrap_or_else(|| Fault::io(&error, Reason::TcpClosed, "sending"))),
                Err(_elapsed) => return Err(Fault::down(Reason::TcpReadTimeout, "the target did not take what was sent in time")),
            }
        }
        match &config.expect {
            Some(expect) => self.await_answer(stream, expect).await,
            None => Ok(()),
        }
    }

    async fn await_answer<S: AsyncRead + Unpin>(&mut self, stream: &mut S, expect: &Expect) -> Result<(), Fault> {
        let mut answer = Vec::new();
        let mut buffer = vec![0_u8; 4_096];
        loop {
            let error = match tokio::time::timeout_at(self.deadline.into(), stream.read(&mut buffer)).await {
                Ok(Ok(0)) if answer.is_empty() => Fault::down(Reason::TcpClosed, "the target closed the connection without an answer"),
                Ok(Ok(0)) => unexpected(&answer, "then the connection was closed"),
                Ok(Ok(n)) => {
                    self.first_byte.get_or_insert_with(Instant::now);
                    answer.extend_from_slice(&buffer[..n]);
                    if expect.met(&answer) {
                        return Ok(());
                    }
                    if answer.len() < ANSWER_MAX {
                        continue;
                    }
                    unexpected(&answer, "and more, without an end")
                }
                Ok(Err(error)) => {
                    stream_fault(&error).unwrap_or_else(|| Fault::io(&error, Reason::TcpClosed, "waiting for the expected answer"))
                }
                Err(_elapsed) if answer.is_empty() => Fault::down(Reason::TcpReadTimeout, "the target sent nothing in time"),
                Err(_elapsed) => unexpected(&answer, "and no more in time"),
            };
            return Err(error);
        }
    }
}

fn unexpected(answer: &[u8], what: &str) -> Fault {
    Fault::down(Reason::TcpUnexpected, format!("the target answered `{}` {what}", show(answer)))
}
