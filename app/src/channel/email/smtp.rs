//! One conversation with a mail server (RFC 5321), over a connection of ours.
//!
//! The server is told of one message. If it takes some of the recipients, those get it, and the others are named in the log: to try
//! again would tell the first ones twice. What it answered decides about the next attempt: 4xx may pass, 5xx will not.

use super::letter::Letter;
use super::{Config, Encryption};
use crate::channel::{Refused, RefusedClass, Retry, answer};
use crate::net::starttls::{Starttls, talk};
use crate::net::tls::{LazySettings, handshake, server_name};
use crate::net::{Family, Fault, Guard, Net, Path};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD as STANDARD, BASE64_STANDARD_NO_PAD as STANDARD_NO_PAD};
use lettre::message::Mailbox;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use secrecy::ExposeSecret;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use watchkeeper_core::Blind;

/// Offered in this order; both are safe only within TLS, which is why there are no others.
const MECHANISMS: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];
/// A server may say so much in answer to one command, its greeting and every line of a reply counted. RFC 5321 section 4.5.3.1.5 allows a
/// line 512 bytes; less than this would cut long lists of extensions, more would let a server that never ends a line fill the memory.
const REPLY_MAX: usize = 64 * 1024;
/// A server that has taken the message gets so long for a good-bye. Longer would delay the record that it was sent.
const QUIT_MAX: Duration = Duration::from_millis(500);

/// A message that was not taken.
pub(super) struct Failed {
    /// Where the conversation was; nowhere, if there was none.
    pub(super) step: Option<Step>,
    pub(super) refused: Refused,
}

/// Hands the message over to whom of these the server takes it for.
pub(super) async fn send(
    config: &Config,
    tls: &LazySettings,
    net: &Arc<Net>,
    letter: &Letter,
    recipients: &[Mailbox],
    deadline: Instant,
) -> Result<(), Failed> {
    let secrets = secrets(config);
    let unreached = |fault| Failed { step: None, refused: answer::unreached(&fault, &secrets) };
    let wire = open(config, tls, net, deadline).await.map_err(unreached)?;
    let name = match wire.local {
        Some(SocketAddr::V4(local)) => ClientId::Ipv4(*local.ip()),
        Some(SocketAddr::V6(local)) => ClientId::Ipv6(*local.ip()),
        None => ClientId::Domain("watchkeeper.invalid".to_owned()),
    };
    let refused = |step: Step, error: &Error| Failed { step: Some(step), refused: refused(config, step, error, &secrets) };
    let connection = AsyncSmtpConnection::connect_with_transport(wire.stream, &name).await;
    let mut connection = connection.map_err(|error| refused(Step::Greeting, &error))?;
    if let Some((username, password)) = &config.credentials {
        let credentials = Credentials::new(username.clone(), password.expose_secret().to_owned());
        connection.auth(&MECHANISMS, &credentials).await.map_err(|error| refused(Step::Auth, &error))?;
    }
    connection.command(Mail::new(Some(config.from.email.clone()), vec![])).await.map_err(|error| refused(Step::Sender, &error))?;
    let mut left_out: Vec<(String, Failed)> = Vec::new();
    for to in recipients {
        if let Err(error) = connection.command(Rcpt::new(to.email.clone(), vec![])).await {
            left_out.push((to.email.to_string(), refused(Step::Recipient, &error)));
        }
    }
    if left_out.len() == recipients.len() {
        // What may pass decides: another attempt is worth it for one recipient too.
        let worth = left_out.iter().position(|(_, why)| why.refused.retry != Retry::Never).unwrap_or_default();
        return Err(left_out.swap_remove(worth).1);
    }
    connection.command(Data).await.map_err(|error| refused(Step::Message, &error))?;
    connection.message(&letter.bytes).await.map_err(|error| refused(Step::Message, &error))?;
    for (to, Failed { refused: why, .. }) in &left_out {
        tracing::warn!(recipient = %to, error = %why, "{} took a message, but not for {to}: {why}", config.host);
    }
    // It has the message: whatever becomes of the good-bye.
    let _ = tokio::time::timeout(QUIT_MAX, connection.quit()).await;
    Ok(())
}

/// An attempt that was not over in time. The server may have the message; its repetition has the same Message-ID.
pub(super) fn too_late(config: &Config) -> Refused {
    answer::refused(RefusedClass::Timeout, Retry::Soon, format!("{}:{} did not take the message in time", config.host, config.port))
}

/// What a server must not be quoted with: the password, and the forms in which it was sent (RFC 4616 section 2, and LOGIN).
fn secrets(config: &Config) -> Vec<String> {
    let Some((user, password)) = &config.credentials else { return Vec::new() };
    let password = password.expose_secret();
    let mut all = Vec::new();
    for engine in [&STANDARD, &STANDARD_NO_PAD] {
        all.extend([
            engine.encode(format!("\0{user}\0{password}")),
            engine.encode(format!("{user}\0{user}\0{password}")),
            engine.encode(password),
        ]);
    }
    all.push(password.to_owned());
    all
}

/// A connection that is ready for the server's greeting, or behaves so.
struct Opened {
    stream: Box<dyn AsyncTokioStream>,
    local: Option<SocketAddr>,
}

async fn open(config: &Config, tls: &LazySettings, net: &Arc<Net>, deadline: Instant) -> Result<Opened, Fault> {
    let addresses = net.resolve(&config.host, Family::Any, Path::First, deadline).await?.addresses;
    // The server is the operator's word: no address is refused.
    let connected = net.connect(&addresses, config.port, Guard::Open, deadline).await?;
    let (peer, mut stream) = (connected.address, connected.stream);
    let local = stream.local_addr().ok();
    let greeting: &'static [u8] = match config.encryption {
        Encryption::None => return Ok(Opened { stream: Box::new(Wire::new(stream, peer, b"")), local }),
        Encryption::Implicit => b"",
        Encryption::Starttls => {
            talk(Starttls::Smtp, &mut stream, deadline).await?;
            // Within TLS the server greets nobody again; whoever speaks SMTP over this wire waits for a greeting.
            b"220 within TLS\r\n"
        }
    };
    let name = server_name(&config.host).ok_or_else(|| Fault::unknown(Blind::Setup, "no certificate can be for this host"))?;
    let settings = tls.get(&net.tls)?;
    let (stream, _) = handshake(stream, name, &settings, deadline).await.map_err(|failed| failed.fault)?;
    Ok(Opened { stream: Box::new(Wire::new(stream, peer, greeting)), local })
}

/// Where the conversation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Greeting,
    Auth,
    Sender,
    Recipient,
    Message,
}

impl Step {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Greeting => "the greeting",
            Self::Auth => "the password",
            Self::Sender => "the sender",
            Self::Recipient => "a recipient",
            Self::Message => "the message",
        }
    }
}

/// What a server's refusal means.
fn refused(config: &Config, step: Step, error: &Error, secrets: &[String]) -> Refused {
    let (class, retry) = if error.is_permanent() {
        (if step == Step::Auth { RefusedClass::Auth } else { RefusedClass::Client }, Retry::Never)
    } else if error.is_transient() {
        (RefusedClass::Server, Retry::Soon)
    } else if error.is_timeout() {
        (RefusedClass::Timeout, Retry::Soon)
    } else if error.is_client() {
        // We could not say it: no mechanism in common.
        (if step == Step::Auth { RefusedClass::Auth } else { RefusedClass::Client }, Retry::Never)
    } else if error.is_response() {
        (RefusedClass::Server, Retry::Soon)
    } else {
        (RefusedClass::Network, Retry::Soon)
    };
    let said = answer::excerpt(crate::chain(error).as_bytes(), secrets);
    answer::refused(class, retry, format!("{}:{} refused {}: {said}", config.host, config.port, step.as_str()))
}

/// A connection of ours as the SMTP client wants one; before anything else it reads `greeting`.
struct Wire<S> {
    stream: S,
    peer: SocketAddr,
    greeting: &'static [u8],
    /// How much was read since anything was said.
    heard: usize,
}

impl<S> Wire<S> {
    const fn new(stream: S, peer: SocketAddr, greeting: &'static [u8]) -> Self {
        Self { stream, peer, greeting, heard: 0 }
    }
}

impl<S> std::fmt::Debug for Wire<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Wire<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            let before = buf.filled().len();
            std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            self.heard += buf.filled().len() - before;
            if self.heard > REPLY_MAX {
                return Poll::Ready(Err(io::Error::other(format!("the server's reply is larger than {REPLY_MAX} bytes"))));
            }
            return Poll::Ready(Ok(()));
        }
        let (now, later) = self.greeting.split_at(self.greeting.len().min(buf.remaining()));
        buf.put_slice(now);
        self.greeting = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.heard = 0;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
