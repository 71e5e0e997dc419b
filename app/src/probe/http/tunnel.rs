//! A tunnel through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6).

use super::config::Proxy;
use super::place::Place;
use crate::net::Fault;
use std::io;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watchkeeper_core::Reason;

/// A proxy's answer has at most so many bytes of head; a longer one is not a proxy's.
const ANSWER_MAX: usize = 8 * 1024;

/// Asks the proxy for a way to the place. Not one byte behind the proxy's answer is taken from the stream.
pub(super) async fn open(stream: &mut TcpStream, proxy: &Proxy, place: &Place, deadline: Instant) -> Result<(), Fault> {
    let refused = |text: String| Fault::down(Reason::HttpProxy, format!("the proxy {}: {text}", proxy.place.shown));
    match tokio::time::timeout_at(deadline.into(), talk(stream, proxy, place)).await {
        Ok(Ok(Some(200..=299))) => Ok(()),
        Ok(Ok(Some(status))) => Err(refused(format!("answered CONNECT with status {status}"))),
        Ok(Ok(None)) => Err(refused("did not answer CONNECT with HTTP".to_owned())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(refused("closed the connection".to_owned())),
        Ok(Err(error)) => Err(Fault::io(&error, Reason::HttpProxy, format_args!("asking the proxy {}", proxy.place.shown))),
        Err(_) => Err(Fault::down(Reason::TcpTimeout, "the proxy did not answer CONNECT before the attempt's time was up")),
    }
}

async fn talk(stream: &mut TcpStream, proxy: &Proxy, place: &Place) -> io::Result<Option<u16>> {
    let host = if place.host.contains(':') { format!("[{}]", place.host) } else { place.host.clone() };
    let target = format!("{host}:{}", place.port);
    let mut ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(value) = &proxy.authorization {
        ask.extend_from_slice(b"Proxy-Authorization: ");
        ask.extend_from_slice(value.as_bytes());
        ask.extend_from_slice(b"\r\n");
    }
    ask.extend_from_slice(b"\r\n");
    stream.write_all(&ask).await?;
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_MAX {
            return Ok(None);
        }
        // Peeked first: what follows the answer belongs to the TLS handshake.
        let mut peeked = [0; 1024];
        let n = stream.peek(&mut peeked).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let begin = answer.len();
        answer.extend_from_slice(&peeked[..n]);
        let scan = begin.saturating_sub(3);
        if let Some(end) = answer[scan..].windows(4).position(|w| w == b"\r\n\r\n") {
            answer.truncate(scan + end + 4);
        }
        let taken = answer.len() - begin;
        stream.read_exact(&mut peeked[..taken]).await?;
    }
    Ok(status_of(&answer))
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}
