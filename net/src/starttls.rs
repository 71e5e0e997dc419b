//! The plain talk before TLS on ports that begin without it: SMTP (RFC 3207), IMAP (RFC 3501 section 6.2.1), PostgreSQL's SSLRequest.
//!
//! Only what is needed to be let into TLS is said. What the server says is read line by line within limits; bytes that
//! arrive before TLS but after its go-ahead are refused, because a man in the middle could have put them there.

use super::Fault;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use watchkeeper_core::Reason;

/// RFC 5321 allows lines of 512 bytes, IMAP servers list capabilities in longer ones. More would let a server that never ends
/// a line fill the memory; less would refuse real greetings.
const LINE_MAX: usize = 4_096;
/// So many lines of one reply are read. More would let a server talk until the deadline; less would miss an offer late in a long list.
const LINES_MAX: usize = 128;
/// How much of a line is told in an error.
const SHOWN_MAX: usize = 120;

/// Which protocol is spoken before TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starttls {
    /// `EHLO`, `STARTTLS`.
    Smtp,
    /// `STARTTLS`.
    Imap,
    /// `SSLRequest`.
    Postgres,
}

/// Talks until the server is ready for the handshake.
///
/// # Errors
/// [`Reason::StarttlsRefused`] for whatever the server said instead, [`Reason::TcpReadTimeout`] when it said nothing,
/// [`Reason::TcpClosed`] and [`Reason::TcpReset`] when it hung up.
pub async fn talk<S: AsyncRead + AsyncWrite + Unpin>(kind: Starttls, stream: &mut S, deadline: Instant) -> Result<(), Fault> {
    let mut talk = Talk { stream, unread: Vec::new(), deadline };
    match kind {
        Starttls::Smtp => talk.smtp().await?,
        Starttls::Imap => talk.imap().await?,
        Starttls::Postgres => talk.postgres().await?,
    }
    if talk.unread.is_empty() { Ok(()) } else { Err(refused("the server sent more before TLS began: ", &talk.unread)) }
}

struct Talk<'a, S> {
    stream: &'a mut S,
    unread: Vec<u8>,
    deadline: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    async fn smtp(&mut self) -> Result<(), Fault> {
        self.smtp_reply(b"220", "the greeting").await?;
        self.say(b"EHLO watchkeeper.invalid\r\n").await?;
        let offers = self.smtp_reply(b"250", "the answer to EHLO").await?;
        let offered = offers.iter().any(|line| line.get(4..).is_some_and(|word| word.eq_ignore_ascii_case(b"STARTTLS")));
        if !offered {
            return Err(Fault::down(Reason::StarttlsRefused, "the server's answer to EHLO does not offer STARTTLS"));
        }
        self.say(b"STARTTLS\r\n").await?;
        self.smtp_reply(b"220", "the answer to STARTTLS").await.map(drop)
    }

    /// All lines of one reply, which must have this code.
    async fn smtp_reply(&mut self, code: &[u8], what: &str) -> Result<Vec<Vec<u8>>, Fault> {
        let mut lines = Vec::new();
        loop {
            let line = self.line(what).await?;
            let more = line.get(3) == Some(&b'-');
            if !line.starts_with(code) || line.len() > 3 && !more && line[3] != b' ' {
                return Err(refused(&format!("{what} is "), &line));
            }
            lines.push(line);
            if !more {
                return Ok(lines);
            }
            if lines.len() >= LINES_MAX {
                return Err(Fault::down(Reason::StarttlsRefused, format!("{what} has more than {LINES_MAX} lines")));
            }
        }
    }

    async fn imap(&mut self) -> Result<(), Fault> {
        let greeting = self.line("the greeting").await?;
        if !starts_with(&greeting, b"* OK") {
            return Err(refused("the greeting is ", &greeting));
        }
        self.say(b"wk1 STARTTLS\r\n").await?;
        for _ in 0..LINES_MAX {
            let line = self.line("the answer to STARTTLS").await?;
            if starts_with(&line, b"wk1 OK") {
                return Ok(());
            }
            if !line.starts_with(b"* ") {
                return Err(refused("the answer to STARTTLS is ", &line));
            }
        }
        Err(Fault::down(Reason::StarttlsRefused, format!("the answer to STARTTLS has more than {LINES_MAX} lines")))
    }

    async fn postgres(&mut self) -> Result<(), Fault> {
        /// Its length, and the number that stands where a protocol version would: 1234.5679.
        const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
        self.say(&SSL_REQUEST).await?;
        while self.unread.is_empty() {
            self.more("the answer to SSLRequest").await?;
        }
        let answer = self.unread.remove(0);
        match answer {
            b'S' => Ok(()),
            b'N' => Err(Fault::down(Reason::StarttlsRefused, "the server answered SSLRequest with N: it has no TLS")),
            other => Err(refused("the answer to SSLRequest begins with ", &[other])),
        }
    }

    /// The next line without its end.
    async fn line(&mut self, what: &str) -> Result<Vec<u8>, Fault> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.unread[searched..].iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.unread.drain(..=searched + end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            searched = self.unread.len();
            if searched > LINE_MAX {
                return Err(refused(&format!("{what} is longer than {LINE_MAX} bytes: "), &self.unread));
            }
            self.more(what).await?;
        }
    }

    async fn more(&mut self, what: &str) -> Result<(), Fault> {
        let mut buffer = [0_u8; 1_024];
        match tokio::time::timeout_at(self.deadline.into(), self.stream.read(&mut buffer)).await {
            Ok(Ok(0)) => Err(Fault::down(Reason::TcpClosed, format!("the server closed the connection instead of {what}"))),
            Ok(Ok(n)) => {
                self.unread.extend_from_slice(&buffer[..n]);
                Ok(())
            }
            Ok(Err(error)) => Err(Fault::io(&error, Reason::TcpClosed, format_args!("waiting for {what}"))),
            Err(_elapsed) => Err(Fault::down(Reason::TcpReadTimeout, format!("{what} did not come in time"))),
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout_at(self.deadline.into(), write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::io(&error, Reason::TcpClosed, "asking for TLS")),
            Err(_elapsed) => Err(Fault::down(Reason::TcpReadTimeout, "the server did not take the request for TLS in time")),
        }
    }
}

fn starts_with(line: &[u8], word: &[u8]) -> bool {
    line.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
}

fn refused(what: &str, bytes: &[u8]) -> Fault {
    Fault::down(Reason::StarttlsRefused, format!("{what}`{}`", show(bytes)))
}

/// Bytes of the other side on one line of a message.
pub fn show(bytes: &[u8]) -> String {
    let cut = if bytes.len() > SHOWN_MAX { "…" } else { "" };
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_MAX)]);
    format!("{}{cut}", head.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;
    use watchkeeper_core::Outcome;

    const KINDS: [Starttls; 3] = [Starttls::Smtp, Starttls::Imap, Starttls::Postgres];

    /// Talks to a server that says these bytes, whatever it hears, and then hangs up.
    fn told(kind: Starttls, bytes: &[u8]) -> Result<(), Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
            theirs.write_all(bytes).await.unwrap();
            theirs.shutdown().await.unwrap();
            talk(kind, &mut ours, Instant::now() + Duration::from_secs(30)).await
        })
    }

    fn reason(result: Result<(), Fault>) -> Option<Reason> {
        match result.err()?.outcome {
            Outcome::Down(reason) => Some(reason),
            other @ (Outcome::Up | Outcome::Unknown(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn talkers_without_end_are_cut_off() {
        let line = vec![b'x'; 2 * LINE_MAX];
        let lines = b"220-x\r\n".repeat(2 * LINES_MAX);
        let untagged = [b"* OK\r\n".to_vec(), b"* x\r\n".repeat(2 * LINES_MAX)].concat();
        for (kind, bytes) in [(Starttls::Smtp, line.clone()), (Starttls::Imap, line), (Starttls::Smtp, lines), (Starttls::Imap, untagged)] {
            assert_eq!(reason(told(kind, &bytes)), Some(Reason::StarttlsRefused));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_bytes_make_the_talk_panic_or_hang(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for kind in KINDS {
                let _ = told(kind, &bytes);
            }
        }

        #[test]
        fn no_lines_make_the_talk_panic_or_hang(text in "((220|250|\\* OK|wk1 OK|554)[ -](STARTTLS|x)?\r?\n|.{0,9}\n){0,6}.{0,5}") {
            for kind in KINDS {
                let _ = told(kind, text.as_bytes());
            }
        }
    }
}
