//! A stream that remembers the first byte it read: enough to tell TLS from anything else.
//!
//! A TLS library that gets half a line of plain text only says that the connection ended. The byte says more.

use crate::Fault;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use watchkeeper_core::Reason;

/// The first byte the server sent: enough to tell TLS from anything else, also when what followed was too short for a record.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstByte(Arc<AtomicU16>);

impl FirstByte {
    /// Set once a byte was seen, so that a zero byte is one too.
    const SEEN: u16 = 0x100;

    fn get(&self) -> Option<u8> {
        let word = self.0.load(Ordering::Relaxed);
        (word & Self::SEEN != 0).then(|| word.to_be_bytes()[1])
    }

    fn set(&self, byte: u8) {
        self.0.store(Self::SEEN | u16::from(byte), Ordering::Relaxed);
    }

    /// A fault if the server began with something that is no TLS record: RFC 8446 5.1 knows the types 20 to 24.
    pub(super) fn not_tls(&self) -> Option<Fault> {
        let byte = self.get().filter(|b| !(20..=24).contains(b))?;
        let shown = if byte.is_ascii_graphic() { format!("`{}`", char::from(byte)) } else { format!("{byte:#04x}") };
        Some(Fault::down(Reason::TlsNotTls, format!("the server's answer begins with {shown}, which is not TLS")))
    }
}

/// A stream that remembers its first byte.
#[derive(Debug)]
pub struct Sniffed<S> {
    inner: S,
    first: FirstByte,
}

impl<S> Sniffed<S> {
    pub(super) fn new(inner: S) -> (Self, FirstByte) {
        let first = FirstByte::default();
        (Self { inner, first: first.clone() }, first)
    }

    /// The stream below.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sniffed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if self.first.get().is_none()
            && let Some(byte) = buf.filled().get(before)
        {
            self.first.set(*byte);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sniffed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
