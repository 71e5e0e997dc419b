//! The log of `serve`: lines to standard error, as text or JSON.
//!
//! What others sent (the body of a push, an answer, a host name) stands in log lines, so in a text line every character that could
//! begin another line, move the cursor or turn the reading direction is written as an escape: nobody outside can write a line of
//! his own. A log that cannot be written (a full disk, a reader that went away) is lost, and nothing else: watching goes on.

use crate::foreign::steers;
use std::fmt;
use std::io::{self, IsTerminal as _};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};

/// The variables that say how much is logged (`error`, `warn`, `info`, `debug`, or a filter) and in which form (`text`, `json`).
const LOG_LEVEL: &str = "LOG_LEVEL";
const LOG_FORMAT: &str = "LOG_FORMAT";

/// Logs to standard error from now on.
pub fn begin() {
    let filter = EnvFilter::try_from_env(LOG_LEVEL).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lossy(io::stderr()))
        // What goes wrong with a line would itself be printed, which ends the program when that fails too.
        .log_internal_errors(false)
        .with_target(false);
    let json = std::env::var(LOG_FORMAT).is_ok_and(|f| f == "json");
    // A second subscriber (in tests) is refused, which leaves the first in place.
    let _ = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(io::stderr().is_terminal()).fmt_fields(OneLine).try_init()
    };
}

/// Takes everything; what cannot be written is lost.
struct Lossy<W>(W);

impl<W: io::Write> io::Write for Lossy<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nowhere is left to say it.
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Message and fields of a line or span, on one line whatever they hold.
struct OneLine;

impl<'w> FormatFields<'w> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        for c in text.chars() {
            if steers(c) {
                write!(writer, "{}", c.escape_default())?;
            } else {
                writer.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_that_was_sent_makes_a_line_of_its_own() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).without_time().fmt_fields(OneLine).finish();
        tracing::subscriber::with_default(subscriber, || {
            let body = "late\r\n2026-01-01 ERROR shop is down\u{1b}[2K\u{2028}x\u{202e}y\u{85}z é 日本";
            let span = tracing::info_span!("push", body);
            let _entered = span.enter();
            tracing::info!(field = %body, other = body, debug = ?body, "the job says: {body}");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.trim_end().chars().all(|c| !steers(c)), "{text:?}");
        assert!(text.contains("the job says: late\\r\\n2026-01-01 ERROR shop is down"), "{text}");
        assert!(text.contains("é 日本"), "what is only foreign stays readable: {text}");
    }
}
