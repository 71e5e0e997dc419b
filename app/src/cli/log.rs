//! The log of `serve`: lines to standard error, as text or JSON; or to standard output, in the form that UptimeOAgent's has.
//!
//! What others sent (the body of a push, an answer, a host name) stands in log lines, so in a text line every character that could
//! begin another line, move the cursor or turn the reading direction is written as an escape: nobody outside can write a line of
//! his own. A log that cannot be written (a full disk, a reader that went away) is lost, and nothing else: watching goes on.

use crate::foreign::steers;
use serde_json::{Map, Value as Json};
use std::fmt;
use std::io::{self, IsTerminal as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The variables that say how much is logged (`error`, `warn`, `info`, `debug`, or a filter) and in which form (`text`, `json`).
const LOG_LEVEL: &str = "LOG_LEVEL";
const LOG_FORMAT: &str = "LOG_FORMAT";

/// Logs to standard error from now on.
pub fn begin() {
    let filter = filter(&std::env::var(LOG_LEVEL).unwrap_or_default());
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(|| Lossy(io::stderr()))
        // What goes wrong with a line would itself be printed, which ends the program when that fails too.
        .log_internal_errors(false)
        .with_target(false);
    let json = std::env::var(LOG_FORMAT).is_ok_and(|f| f == "json");
    // A second subscriber (in tests) is refused, which leaves the first in place.
    let _ = if json {
        builder.json().flatten_event(true).finish().with(filter).try_init()
    } else {
        builder.with_ansi(io::stderr().is_terminal()).fmt_fields(OneLine).finish().with(filter).try_init()
    };
}

/// Logs to standard output from now on, one JSON object a line with `level`, `msg` and `time`, and the fields of the line beside
/// them. The levels are called as UptimeOAgent's users know them.
pub fn begin_for_machines() {
    let wanted = std::env::var(LOG_LEVEL).unwrap_or_default();
    let wanted = match wanted.trim().to_ascii_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "fatal" | "panic" => "error".to_owned(),
        other => other.to_owned(),
    };
    let builder =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(|| Lossy(io::stdout())).log_internal_errors(false);
    // A second subscriber (in tests) is refused, which leaves the first in place.
    let _ = builder.event_format(Machines).finish().with(filter(&wanted)).try_init();
}

/// `info`, `warn,watchkeeper::probe=debug`: what is not such a list says `info`.
fn filter(wanted: &str) -> Targets {
    wanted.parse().ok().filter(|_| !wanted.is_empty()).unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
}

/// One JSON object a line. Its strings hold no line end, so that nothing that was sent makes a line of its own.
struct Machines;

impl<S, N> FormatEvent<S, N> for Machines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        fields.0.insert("level".to_owned(), Json::from(level));
        fields.0.insert("time".to_owned(), Json::from(time));
        writeln!(writer, "{}", Json::Object(fields.0))
    }
}

/// The fields of a line, its message as `msg`.
#[derive(Default)]
struct Fields(Map<String, Json>);

impl Fields {
    fn put(&mut self, field: &Field, value: Json) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Json::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Json::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Json::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Json::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Json::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Json::from(value));
    }
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

    #[test]
    fn machines_read_level_msg_and_time() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).event_format(Machines).finish();
        tracing::subscriber::with_default(subscriber, || {
            let name = "shop\n{\"level\":\"fatal\"}";
            tracing::warn!(monitor = 4, why = "x", "Heartbeat inserted for monitor 4 ({name})");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Json = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["monitor"], &line["why"]), (&Json::from("warning"), &Json::from(4), &Json::from("x")));
        assert_eq!(line["msg"], "Heartbeat inserted for monitor 4 (shop\n{\"level\":\"fatal\"})");
        assert!(line["time"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()), "{text}");
    }
}
